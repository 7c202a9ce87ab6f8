package whereabouts

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waiting"
)

// place is where a sweep goes on: in the parked rows of the destinations that are asked for, in the waiting room as a whole, or in the ledger. It
// begins with the waiting room, because rows there say more.
type place struct {
	phase    string // "" for the beginning
	room     waiting.Cursor
	delivery delivery.ID
}

const (
	inParked = "parked"
	inRoom   = "waiting"
	inLedger = "ledger"
)

var placeEncoding = base64.RawURLEncoding

// String is the form in which a person gives it back.
func (p place) String() string {
	key := string(p.delivery)
	if p.phase != inLedger && p.room != (waiting.Cursor{}) {
		key = p.room.Bucket + "\x00" + p.room.Key
	}
	return p.phase + "." + placeEncoding.EncodeToString([]byte(key))
}

func parsePlace(text string) (place, error) {
	if text == "" {
		return place{}, nil
	}
	phase, encoded, _ := strings.Cut(text, ".")
	key, err := placeEncoding.DecodeString(encoded)
	bucket, row, both := strings.Cut(string(key), "\x00")
	switch {
	case err != nil:
	case phase == inLedger:
		return place{phase: phase, delivery: delivery.ID(key)}, nil
	case (phase == inParked || phase == inRoom) && (both || len(key) == 0):
		return place{phase: phase, room: waiting.Cursor{Bucket: bucket, Key: row}}, nil
	}
	return place{}, fmt.Errorf("%.40q is no place to go on at: copy it as it was printed", text)
}

// sweep looks for all that fits. It ends early when the budget is spent or the limit reached, and then says where to go on.
func (r *run) sweep(ctx context.Context) {
	at, err := parsePlace(r.q.After)
	if err != nil {
		r.fail(err) // checked already
		return
	}
	if r.q.DeadLetters && r.q.wants(Dead) && r.q.After == "" && !r.sweepLetters(ctx) {
		r.goOn(place{phase: inParked})
		return
	}
	room := r.q.heldStates() && at.phase != inLedger
	if room {
		if next, done := r.sweepRoom(ctx, at); !done {
			r.goOn(next)
			return
		}
		at = place{}
	}
	states := r.ledgerStates()
	if len(states) == 0 {
		return
	}
	if len(r.q.Destinations) > 0 {
		r.note("by destination only what is held is found, and with the queues what is dead: a row of the ledger does not say for whom it is. " +
			"Not told here: what was delivered, is claimed, or lies on the deliveries queue. Ask for the event")
		return
	}
	if next, done := r.sweepLedger(ctx, at.delivery, states); !done {
		r.goOn(place{phase: inLedger, delivery: next})
	}
}

// goOn notes where a sweep stopped. After a fault that is where it should be asked again.
func (r *run) goOn(at place) {
	r.report.Next = at.String()
	if r.report.Next == r.q.After && r.report.Failed == nil && r.report.Found == 0 {
		r.note("%v read units were spent before anything new was read: allow more", r.q.MaxUnits)
	}
}

// ledgerStates are the states of waybills that are asked for. A parked delivery has, if any, the waybill of what it was before.
func (r *run) ledgerStates() (states []ledger.State) {
	for state, waybill := range map[State]ledger.State{
		Delivered: ledger.Delivered, Waiting: ledger.Waiting, Claimed: ledger.Claimed, Dead: ledger.Dead,
	} {
		if r.q.wants(state) {
			states = append(states, waybill)
		}
	}
	slices.Sort(states)
	return states
}

// sweepRoom looks through the waiting room, or only where the destinations' parked rows lie if nothing else is asked for.
func (r *run) sweepRoom(ctx context.Context, at place) (next place, done bool) {
	b := &batch{run: r, last: at.room}
	parked := at.phase != inRoom && len(r.q.Destinations) > 0 && !r.q.wants(Waiting)
	if parked || len(r.q.Destinations) == 0 { // most rows are answers, so it is a waste to read many more than are wanted
		r.meter.page = max(r.q.Limit-r.report.Found, 100)
	}
	if parked {
		return r.sweepParked(ctx, at.room, b)
	}
	reached, complete := r.scanRoom(ctx, at.room, func(row waiting.Row) bool { return b.take(ctx, row) })
	switch {
	case b.stopped || !b.flush(ctx):
		return place{inRoom, b.last, ""}, false
	case complete:
		return place{}, true
	}
	return place{inRoom, reached, ""}, false
}

// sweepParked reads the parked rows of the destinations, bucket by bucket.
func (r *run) sweepParked(ctx context.Context, at waiting.Cursor, b *batch) (next place, done bool) {
	skipping := at.Bucket != ""
	for _, destination := range slices.Compact(slices.Sorted(slices.Values(r.q.Destinations))) {
		if !skipping && len(r.mayHaveParked(ctx, destination)) == 0 {
			continue
		}
		for shard := range waiting.Shards {
			bucket, from := waiting.Bucket{Kind: waiting.Parked, Destination: destination, Shard: shard}.Name(), ""
			if skipping {
				if bucket != at.Bucket {
					continue
				}
				skipping, from = false, at.Key
			}
			b.last = waiting.Cursor{Bucket: bucket, Key: from}
			whole := r.readBucket(ctx, bucket, from, "", func(row waiting.Row) bool { return b.take(ctx, row) })
			if b.stopped || !b.flush(ctx) || !whole {
				return place{inParked, b.last, ""}, false
			}
		}
	}
	return place{}, true
}

// batch gathers rows until their waybills can be read in one call.
type batch struct {
	run     *run
	rows    []waiting.Row
	last    waiting.Cursor // of the last row that has been dealt with
	stopped bool
}

// take adds a row that was read, and says whether to read on.
func (b *batch) take(ctx context.Context, row waiting.Row) bool {
	const most = 100 // what one call reads
	b.run.seen[rowDelivery(row.Key)] = true
	b.rows = append(b.rows, row)
	if len(b.rows) < most {
		return true
	}
	return b.flush(ctx)
}

// flush answers for the rows that were taken. False means that no more are wanted, or that the budget is spent.
func (b *batch) flush(ctx context.Context) bool {
	rows := b.rows
	b.rows = nil
	var findings []*finding
	at := map[*finding]waiting.Cursor{}
	for _, row := range rows {
		kind := waiting.ParseBucket(row.Bucket).Kind
		asked := kind == waiting.Parked && b.run.q.wants(Parked) || kind == waiting.Due && b.run.q.wants(Waiting)
		if !asked || !b.run.forDestination(row.Destination) || b.run.told[rowDelivery(row.Key)] {
			continue
		}
		f := &finding{id: rowDelivery(row.Key)}
		f.add(readHeld(row))
		findings, at[f] = append(findings, f), waiting.Cursor{Bucket: row.Bucket, Key: row.Key}
	}
	unique := byDelivery(findings)
	read := b.run.readLedger(ctx, unique)
	for _, f := range unique[:read] {
		if a := b.run.answer(f); b.run.q.inTime(a.ChangedAt) && b.run.q.wants(a.State) && !b.run.emit(a) {
			b.last, b.stopped = at[f], true
			return false
		}
		b.last = at[f]
	}
	if read < len(unique) {
		b.stopped = true
		return false
	}
	if len(rows) > 0 {
		last := rows[len(rows)-1]
		b.last = waiting.Cursor{Bucket: last.Bucket, Key: last.Key}
	}
	return true
}

// byDelivery keeps one finding for each delivery, and all of what has no id: keys can be asked for only once.
func byDelivery(findings []*finding) (unique []*finding) {
	first := map[delivery.ID]*finding{}
	for _, f := range findings {
		if known := first[f.id]; known != nil {
			known.held, known.letters = append(known.held, f.held...), append(known.letters, f.letters...)
			continue
		}
		if f.id != "" {
			first[f.id] = f
		}
		unique = append(unique, f)
	}
	return unique
}

// sweepLedger scans the ledger from after a delivery on.
func (r *run) sweepLedger(ctx context.Context, from delivery.ID, states []ledger.State) (next delivery.ID, done bool) {
	r.meter.page = pageRows
	r.unsure = true   // nobody looks whether what waits is parked
	const perUnit = 8 // rows of a kilobyte at the price of eventual consistency
	r.estimate(ctx, topology.Ledger, perUnit<<10)
	for {
		room := r.meter.left()
		if room < 1 {
			return from, false
		}
		in := r.ledgerScan(from, states)
		if room < pageUnits/2 {
			in.Limit = aws.Int32(int32(room * perUnit))
		}
		out, err := r.meter.Scan(ctx, in)
		if err != nil {
			r.fail(fmt.Errorf("the ledger: %w", err))
			return from, false
		}
		for _, item := range out.Items {
			found, err := readWaybill(item)
			if err != nil {
				r.note("at least one waybill cannot be read: %v", err)
				continue
			}
			from = found.Delivery
			if r.told[found.Delivery] || r.seen[found.Delivery] && found.State != ledger.Delivered { // what was delivered can leave something behind
				continue
			}
			if !r.emit(r.answer(&finding{id: found.Delivery, item: found})) {
				return from, false
			}
		}
		last, ok := out.LastEvaluatedKey["delivery"].(*types.AttributeValueMemberS)
		if !ok {
			return "", true
		}
		from = delivery.ID(last.Value)
	}
}

func (r *run) ledgerScan(from delivery.ID, states []ledger.State) *dynamodb.ScanInput {
	table := r.cfg.Names[topology.Ledger]
	in := &dynamodb.ScanInput{TableName: &table, ExpressionAttributeNames: map[string]string{"#state": "state"}, ExpressionAttributeValues: map[string]types.AttributeValue{}}
	placeholders := make([]string, len(states))
	for i, state := range states {
		placeholders[i] = ":s" + strconv.Itoa(i)
		in.ExpressionAttributeValues[placeholders[i]] = &types.AttributeValueMemberS{Value: string(state)}
	}
	conditions := []string{"#state IN (" + strings.Join(placeholders, ", ") + ")"}
	for _, bound := range []struct {
		at          time.Time
		name, means string
	}{{r.q.Since, ":since", "#at >= :since"}, {r.q.Until, ":until", "#at < :until"}} {
		if !bound.at.IsZero() {
			conditions = append(conditions, bound.means)
			in.ExpressionAttributeNames["#at"] = "updatedAt"
			in.ExpressionAttributeValues[bound.name] = &types.AttributeValueMemberN{Value: strconv.FormatInt(bound.at.UnixMilli(), 10)}
		}
	}
	in.FilterExpression = aws.String(strings.Join(conditions, " AND "))
	if from != "" {
		in.ExclusiveStartKey = map[string]types.AttributeValue{"delivery": &types.AttributeValueMemberS{Value: string(from)}}
	}
	return in
}

// readWaybill reads a row of the ledger, whose attributes are described in shared/ledger/dynamo.
func readWaybill(row map[string]types.AttributeValue) (*ledger.Item, error) {
	var bad []string
	text := func(name string) string {
		v, ok := row[name].(*types.AttributeValueMemberS)
		if !ok {
			return ""
		}
		return v.Value
	}
	number := func(name string) int64 {
		v, ok := row[name].(*types.AttributeValueMemberN)
		if !ok {
			return 0
		}
		n, err := strconv.ParseInt(v.Value, 10, 64)
		if err != nil {
			bad = append(bad, name)
		}
		return n
	}
	instant := func(name string) time.Time {
		if ms := number(name); ms != 0 {
			return time.UnixMilli(ms)
		}
		return time.Time{}
	}
	i := &ledger.Item{
		Delivery: delivery.ID(text("delivery")), State: ledger.State(text("state")), Epoch: int(number("epoch")), Attempt: int(number("attempt")),
		LeaseUntil: instant("leaseUntil"), Code: int(number("code")), Reason: text("reason"), UpdatedAt: instant("updatedAt"),
	}
	if i.Delivery == "" || len(bad) > 0 {
		return nil, errors.New("its attributes are not those of this release")
	}
	return i, nil
}
