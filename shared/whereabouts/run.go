package whereabouts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	ledgerdynamo "github.com/waybillhq/waybill/shared/ledger/dynamo"
	"github.com/waybillhq/waybill/shared/registry"
	registrydynamo "github.com/waybillhq/waybill/shared/registry/dynamo"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waiting"
	waitingdynamo "github.com/waybillhq/waybill/shared/waiting/dynamo"
)

// run is the answer to one question.
type run struct {
	cfg      Config
	q        Question
	each     func(Answer)
	report   Report
	meter    *meter
	ledger   *ledgerdynamo.ItemStore
	room     *waitingdynamo.Store
	registry registry.Store

	set    *registry.Set // nil: it could not be read
	states map[string]registry.State
	marks  map[int]map[string]bool // destinations that may have parked rows, by shard, as far as they were read
	seen   map[delivery.ID]bool    // what was met, whether or not it was asked for
	told   map[delivery.ID]bool    // what has been answered
	unsure bool                    // not everything in the waiting room that was to be looked at could be
}

func newRun(cfg Config, q Question, each func(Answer)) (*run, error) {
	r := &run{cfg: cfg, q: q, each: each, marks: map[int]map[string]bool{}, seen: map[delivery.ID]bool{},
		told: map[delivery.ID]bool{}, meter: &meter{tables: cfg.Tables, most: q.MaxUnits, page: pageRows}}
	var failed [3]error
	r.ledger, failed[0] = ledgerdynamo.NewItem(r.meter, cfg.Names[topology.Ledger], ledgerdynamo.Options{Concurrency: 4})
	r.room, failed[1] = waitingdynamo.New(r.meter, cfg.Names[topology.Waiting], waitingdynamo.Options{})
	r.registry, failed[2] = registrydynamo.New(r.meter, cfg.Names[topology.Registry], registrydynamo.Options{})
	return r, errors.Join(failed[:]...)
}

// fail remembers what could not be read. There can be many of a kind, so only some are kept.
func (r *run) fail(err error) {
	const most = 2000
	if err != nil && (r.report.Failed == nil || len(r.report.Failed.Error()) < most) {
		r.report.Failed = errors.Join(r.report.Failed, err)
	}
}

func (r *run) note(text string, args ...any) {
	if n := fmt.Sprintf(text, args...); !slices.Contains(r.report.Notes, n) {
		r.report.Notes = append(r.report.Notes, n)
	}
}

// readRegistry reads destinations and states. Without them the search goes on with what the question names.
func (r *run) readRegistry(ctx context.Context) {
	now, err := r.registry.Current(ctx)
	if err != nil {
		r.fail(fmt.Errorf("the registry: %w", err))
		return
	}
	r.states = now.States
	if now.Version.Number == 0 {
		r.set = &registry.Set{}
		r.note("no destinations have been applied to the registry")
		return
	}
	document, err := r.registry.Document(ctx, now.Version)
	if err == nil {
		// It was checked when it was applied, perhaps with these options.
		r.set, err = registry.Parse(document, registry.Options{PlainHTTP: true, InlineSecrets: true})
	}
	if err != nil {
		r.fail(fmt.Errorf("the destinations in the registry: %w", err))
	}
}

// finding is what is known of one delivery.
type finding struct {
	id                                 delivery.ID
	event, source, tenant, destination string
	item                               *ledger.Item
	held                               []held
	letters                            []*letter
}

func (f *finding) found() bool { return f.item != nil || len(f.held)+len(f.letters) > 0 }

// held is a row of the waiting room, with its message, which is nil where this release cannot read it.
type held struct {
	row     waiting.Row
	message *delivery.Message
}

func readHeld(row waiting.Row) held {
	h := held{row: row}
	if m, err := waiting.Unpack(row); err == nil {
		h.message = &m
	}
	return h
}

// rowDelivery is the delivery of a row, by its key.
func rowDelivery(key string) delivery.ID {
	_, rest, _ := strings.Cut(key, "#")
	id, _, _ := strings.Cut(rest, "#")
	return delivery.ID(id)
}

// readLedger reads the waybills of the findings, a unit for each. It reads as many as the budget allows and gives how many those were.
func (r *run) readLedger(ctx context.Context, findings []*finding) int {
	n := min(len(findings), int(r.meter.left()))
	if n <= 0 {
		return 0
	}
	ids := make([]delivery.ID, n)
	for i, f := range findings[:n] {
		ids[i] = f.id
	}
	r.report.Asked += n
	for i, reading := range r.ledger.Read(ctx, ids) {
		findings[i].item = reading.Item
		r.fail(reading.Err)
	}
	return n
}

// emit gives an answer, and tells whether more are wanted.
func (r *run) emit(a Answer) bool {
	r.report.Found++
	r.told[a.Delivery] = true
	r.each(a)
	return r.report.Found < r.q.Limit
}

// answer puts together what is known of a delivery.
func (r *run) answer(f *finding) Answer {
	a := Answer{Delivery: f.id, Event: f.event, Source: f.source, Tenant: f.tenant, Destination: f.destination, Place: InLedger}
	if f.item != nil {
		a.ofLedger(f.item)
	}
	now := r.cfg.Now()
	best := goesOnWith(f, now)
	for _, l := range f.letters {
		if verdict := letterStanding(f.item, l, now); best != nil || verdict != ledger.Granted {
			a.Leftover = a.Leftover || best != nil || verdict != ledger.Busy
			a.ofMessage(l.message)
		} else {
			a.ofLetter(l, f.item)
		}
		a.payload(r.q, l.message)
	}
	switch {
	case best != nil:
		a.ofRoom(best, f.item)
		a.payload(r.q, best.message)
	case len(f.held) > 0: // it is about to be moved, and will be found settled
		a.ofMessage(f.held[0].message)
		a.payload(r.q, f.held[0].message)
	case a.State == Waiting && a.Place == InLedger && !r.unsure:
		a.Place = OnQueue
	}
	if r.set != nil && a.Destination != "" {
		_, a.Known = r.set.Lookup(a.Destination)
		a.Known = a.Known || a.Destination == registry.CanaryID
		a.Registry, a.DestinationState = true, r.states[a.Destination]
	}
	return a
}

// goesOnWith gives the row of the waiting room that the delivery goes on with, nil for none. What this release cannot read is believed.
func goesOnWith(f *finding, now time.Time) (best *held) {
	for i := range f.held {
		h := &f.held[i]
		switch {
		case h.message != nil && standing(f.item, h.message, now) != ledger.Granted:
		case best == nil || best.message == nil || h.message != nil && after(h.message, best.message):
			best = h
		}
	}
	return best
}

func letterStanding(item *ledger.Item, l *letter, now time.Time) ledger.Verdict {
	if l.message == nil {
		return ledger.Granted
	}
	return standing(item, l.message, now)
}

func after(m, other *delivery.Message) bool {
	return m.Epoch > other.Epoch || m.Epoch == other.Epoch && m.Attempt > other.Attempt
}

func (a *Answer) ofLedger(i *ledger.Item) {
	a.Epoch, a.Attempt, a.Code, a.Reason, a.ChangedAt = i.Epoch, i.Attempt, i.Code, i.Reason, i.UpdatedAt
	switch i.State {
	case ledger.Delivered:
		a.State = Delivered
	case ledger.Dead:
		a.State = Dead
	case ledger.Waiting:
		a.State, a.NextAttempt = Waiting, i.Attempt+1
	case ledger.Claimed:
		a.State, a.NextAttempt, a.LeaseUntil = Claimed, i.Attempt, i.LeaseUntil
	}
}

func (a *Answer) ofMessage(m *delivery.Message) {
	if m == nil {
		return
	}
	a.Delivery, a.Event, a.Source, a.Type, a.Tenant, a.Destination = m.Delivery, m.Event.ID, m.Event.Source, m.Event.Type, m.Event.Tenant(), m.Destination
	a.AcceptedAt = m.AcceptedAt
}

func (a *Answer) ofRoom(h *held, item *ledger.Item) {
	bucket, due := waiting.Locate(h.row.Bucket, h.row.Key)
	a.Place, a.State, a.DueAt, a.LeaseUntil = InRoom, Waiting, due, time.Time{}
	if bucket.Kind == waiting.Parked {
		a.State, a.HeldSince = Parked, h.row.At
	}
	if a.Destination == "" {
		a.Destination = h.row.Destination
	}
	if a.Delivery == "" {
		a.Delivery = rowDelivery(h.row.Key)
	}
	a.ofMessage(h.message)
	if h.message != nil {
		a.NextAttempt = h.message.Attempt
		if item == nil {
			a.Epoch = h.message.Epoch
		}
	}
	if item == nil || a.State == Parked && h.row.At.After(a.ChangedAt) {
		a.ChangedAt = h.row.At
		if a.State == Waiting {
			a.ChangedAt = a.AcceptedAt
		}
	}
}

func (a *Answer) ofLetter(l *letter, item *ledger.Item) {
	a.State, a.Place, a.NextAttempt, a.LeaseUntil = Dead, l.place, 0, time.Time{}
	a.ofMessage(l.message)
	if a.Destination == "" {
		a.Destination = l.note.Destination
	}
	if a.AcceptedAt.IsZero() {
		a.AcceptedAt = l.note.AcceptedAt
	}
	a.Detail = l.note.Detail
	if item == nil || item.State != ledger.Dead {
		a.ChangedAt, a.Reason, a.Code, a.Attempt = l.failedAt, l.reason, l.note.Code, l.note.Attempts
		if item == nil && l.message != nil {
			a.Epoch = max(l.message.Epoch-1, 0) // given up in the epoch before, unless SQS moved it as it was
		}
	}
}

func (a *Answer) payload(q Question, m *delivery.Message) {
	if q.Payload && m != nil {
		a.Payload, a.HasPayload = m.Event.Data, true
	}
}

// estimate says how many units a scan of the whole table needs about. DynamoDB counts every six hours.
func (r *run) estimate(ctx context.Context, table topology.TableName, bytesPerUnit float64) {
	name := r.cfg.Names[table]
	out, err := r.cfg.Tables.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &name})
	if err != nil || out.Table == nil {
		return // it is a courtesy; whoever may scan need not be allowed to describe
	}
	r.cfg.OnScan(table, float64(aws.ToInt64(out.Table.TableSizeBytes))/bytesPerUnit)
}
