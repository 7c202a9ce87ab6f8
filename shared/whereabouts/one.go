package whereabouts

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/retry"
	"github.com/waybillhq/waybill/shared/waiting"
)

// one looks for the deliveries of an event, or for a delivery.
func (r *run) one(ctx context.Context) {
	findings := r.candidates()
	n := r.readLedger(ctx, findings)
	if n < len(findings) {
		r.note("the ledger was asked for %d of %d possible deliveries: name the tenant or the destination, or allow more read units", n, len(findings))
	}
	r.findParked(ctx, findings[:n])
	r.findDue(ctx, findings[:n])
	if r.q.Event != "" && len(r.q.Sources) == 0 && !slices.ContainsFunc(findings, (*finding).found) {
		r.note("no source was given: in the ledger, only events that have none of their own can be found without it")
		findings = append(findings, r.findInRoom(ctx)...)
	}
	var lost []*letter
	if r.q.DeadLetters {
		findings, lost = r.addLetters(ctx, findings)
	}
	for _, f := range findings {
		if !f.found() {
			// Without a source nearly nothing was asked, and nothing can be said.
			if f.destination != "" && len(r.q.Sources) > 0 && !slices.Contains(r.report.Without, f.destination) {
				r.report.Without = append(r.report.Without, f.destination)
			}
			continue
		}
		if !r.emit(r.answer(f)) {
			r.note("there may be more than the limit of %d", r.q.Limit)
			return
		}
	}
	r.emitLost(lost)
	r.report.Without = slices.DeleteFunc(r.report.Without, func(destination string) bool {
		return slices.ContainsFunc(findings, func(f *finding) bool { return f.found() && f.destination == destination })
	})
}

// candidates are the deliveries that there can be.
func (r *run) candidates() []*finding {
	if r.q.Delivery != "" {
		f := &finding{id: r.q.Delivery}
		if len(r.q.Destinations) == 1 {
			f.destination = r.q.Destinations[0]
		}
		return []*finding{f}
	}
	set := r.set
	if set == nil {
		set = &registry.Set{}
	}
	sources, tenants := r.q.Sources, r.q.Tenants
	if len(sources) == 0 && r.cfg.IngressARN != "" {
		sources = []string{r.cfg.IngressARN}
	}
	all := r.canary()
	switch {
	case len(tenants) > 0:
	case len(all) > 0 && len(r.q.Sources) == 1: // nobody else has events of that source
		return all
	default:
		tenants = defaultTenants(set)
	}
	most := int(r.q.MaxUnits) + 1 // more than can be asked for
	add := func(tenant, destination string) {
		for _, source := range sources {
			if len(all) < most {
				all = append(all, &finding{id: delivery.NewID(tenant, source, r.q.Event, destination), event: r.q.Event, source: source,
					tenant: tenant, destination: destination})
			}
		}
	}
	for _, tenant := range tenants {
		if tenant == registry.CanaryTenant {
			continue // it has no other destination
		}
		for _, id := range r.q.Destinations {
			add(tenant, id)
		}
		if len(r.q.Destinations) > 0 {
			continue
		}
		for d := range set.All() {
			if d.Tenant == tenant || d.Tenant == registry.EveryTenant {
				add(tenant, d.ID)
			}
		}
	}
	return all
}

// canary is the delivery that there is if the event is one that Waybill sends itself. Its destination is in no registry, and its tenant nobody else's.
func (r *run) canary() []*finding {
	of := func(asked []string, one string) bool { return len(asked) == 0 || slices.Contains(asked, one) }
	if !of(r.q.Sources, registry.CanarySource) || !of(r.q.Tenants, registry.CanaryTenant) || !of(r.q.Destinations, registry.CanaryID) {
		return nil
	}
	return []*finding{{
		id:    delivery.NewID(registry.CanaryTenant, registry.CanarySource, r.q.Event, registry.CanaryID),
		event: r.q.Event, source: registry.CanarySource, tenant: registry.CanaryTenant, destination: registry.CanaryID,
	}}
}

// findParked looks for findings in the parked rows of their destinations. What is delivered is not looked for.
func (r *run) findParked(ctx context.Context, findings []*finding) {
	wanted := map[string][]*finding{} // by bucket
	for _, f := range findings {
		if f.item != nil && f.item.State == ledger.Delivered {
			continue
		}
		for _, destination := range r.mayHaveParked(ctx, f.destination) {
			name := waiting.Bucket{Kind: waiting.Parked, Destination: destination, Shard: waiting.ShardOf(string(f.id))}.Name()
			wanted[name] = append(wanted[name], f)
		}
	}
	for _, bucket := range slices.Sorted(maps.Keys(wanted)) {
		before := ""
		if f := wanted[bucket][0]; len(wanted[bucket]) == 1 && f.item != nil {
			before = waiting.DueBefore(f.item.UpdatedAt.Add(time.Minute)) // an event is accepted before its waybill is written, by clocks that differ
		}
		r.findInBucket(ctx, bucket, "", before, wanted[bucket])
	}
}

// mayHaveParked gives the destination if it is marked, or all that are marked where the destination is not known.
func (r *run) mayHaveParked(ctx context.Context, destination string) []string {
	if destination != "" {
		if r.marked(ctx, waiting.ShardOf(destination))[destination] {
			return []string{destination}
		}
		return nil
	}
	var all []string
	for shard := range waiting.Shards {
		all = slices.AppendSeq(all, maps.Keys(r.marked(ctx, shard)))
	}
	slices.Sort(all)
	return all
}

// marked gives the marks of a shard, read once.
func (r *run) marked(ctx context.Context, shard int) map[string]bool {
	if known, ok := r.marks[shard]; ok {
		return known
	}
	r.marks[shard] = map[string]bool{}
	r.readBucket(ctx, waiting.Bucket{Kind: waiting.Marks, Shard: shard}.Name(), "", "", func(row waiting.Row) bool {
		r.marks[shard][row.Key] = true
		return true
	})
	return r.marks[shard]
}

// readBucket gives the rows of a bucket until do says that it has enough. It tells whether it got to the end, in one way or the other.
func (r *run) readBucket(ctx context.Context, bucket, from, before string, do func(waiting.Row) bool) bool {
	for {
		limit := r.meter.rows()
		if limit == 0 {
			r.note("the budget of %v read units was spent before everything in the waiting room was looked at: allow more", r.q.MaxUnits)
			r.unsure = true
			return false
		}
		page, err := r.room.Read(ctx, bucket, from, before, limit)
		if err != nil {
			r.fail(err)
			r.unsure = true
			return false
		}
		for _, row := range page.Rows {
			if !do(row) {
				return true
			}
		}
		if from = page.Next; from == "" {
			return true
		}
	}
}

// findInBucket adds the rows of findings in a part of a bucket. Of each delivery there is one row as a rule, so it ends when all are found.
func (r *run) findInBucket(ctx context.Context, bucket, from, before string, wanted []*finding) (found int) {
	byID := map[delivery.ID]*finding{}
	for _, f := range wanted {
		byID[f.id] = f
	}
	r.readBucket(ctx, bucket, from, before, func(row waiting.Row) bool {
		if f := byID[rowDelivery(row.Key)]; f != nil {
			f.add(readHeld(row))
			found++
		}
		return found < len(wanted)
	})
	return found
}

func (f *finding) add(h held) {
	f.held = append(f.held, h)
	if f.destination == "" {
		f.destination = h.row.Destination
	}
	if h.message != nil {
		f.event, f.source, f.tenant = h.message.Event.ID, h.message.Event.Source, h.message.Event.Tenant()
	}
}

// span is a time in which something may be due.
type span struct{ from, to time.Time }

// Slack around what a schedule says: a result can be written later than its successor was held, at most by what the ledger was out of reach.
const (
	slackBefore = 2 * time.Hour
	slackAfter  = time.Minute
)

// findDue looks for what waits and is not parked among the rows that are due when it can be.
func (r *run) findDue(ctx context.Context, findings []*finding) {
	for _, f := range findings {
		if f.item == nil || f.item.State != ledger.Waiting || len(f.held) > 0 {
			continue
		}
		for _, s := range r.spans(f) {
			if r.findDueIn(ctx, f, s) {
				break
			}
		}
	}
}

// spans tells when the next attempt may be due: first by the schedule of the destination, then at all.
func (r *run) spans(f *finding) (spans []span) {
	ended := f.item.UpdatedAt
	if r.set != nil {
		if d, ok := r.set.Lookup(f.destination); ok {
			if waits := d.Retry.Waits(); f.item.Attempt <= len(waits) {
				wait := float64(waits[f.item.Attempt-1])
				early, late := time.Duration(wait*(1-retry.Jitter)), time.Duration(wait*(1+retry.Jitter))
				if late > r.cfg.Limits.LongestDelay {
					spans = append(spans, span{ended.Add(early - slackAfter), ended.Add(late + slackAfter)})
				}
			}
		}
	}
	const longest = time.Duration(float64(retry.MaxWait) * (1 + retry.Jitter)) // and longer than retry.MaxRetryAfter
	return append(spans, span{ended.Add(-slackBefore), ended.Add(longest + slackAfter)})
}

// findDueIn reads the rows that are due in the span, hour by hour.
func (r *run) findDueIn(ctx context.Context, f *finding, s span) bool {
	for hour := waiting.HourOf(s.from); hour <= waiting.HourOf(s.to) && !r.unsure; hour++ {
		bucket := waiting.Bucket{Kind: waiting.Due, Hour: hour, Shard: waiting.ShardOf(string(f.id))}
		from, before := "", ""
		if hour.Start().Before(s.from) {
			from = waiting.DueBefore(s.from)
		}
		if hour.End().After(s.to) {
			before = waiting.DueBefore(s.to)
		}
		if r.findInBucket(ctx, bucket.Name(), from, before, []*finding{f}) > 0 {
			return true
		}
	}
	return false
}

// findInRoom scans the waiting room for the event.
func (r *run) findInRoom(ctx context.Context) []*finding {
	found := map[delivery.ID]*finding{}
	var order []*finding
	_, complete := r.scanRoom(ctx, waiting.Cursor{}, func(row waiting.Row) bool {
		h := readHeld(row)
		if h.message == nil || h.message.Event.ID != r.q.Event || !r.ofTenant(h.message.Event.Tenant()) || !r.forDestination(row.Destination) {
			return true
		}
		f := found[h.message.Delivery]
		if f == nil {
			f = &finding{id: h.message.Delivery}
			found[f.id] = f
			order = append(order, f)
		}
		f.add(h)
		return len(order) < r.q.Limit
	})
	if !complete {
		r.note("the waiting room was not looked at to its end: give the event's source, or allow more than %v read units", r.q.MaxUnits)
	}
	if n := r.readLedger(ctx, order); n < len(order) {
		r.note("the budget of %v read units did not do for all waybills", r.q.MaxUnits)
	}
	return order
}

func (r *run) ofTenant(tenant string) bool {
	return len(r.q.Tenants) == 0 || slices.Contains(r.q.Tenants, tenant)
}

func (r *run) forDestination(id string) bool {
	return len(r.q.Destinations) == 0 || slices.Contains(r.q.Destinations, id)
}

// scanRoom gives row after row of the waiting room, beginning after a place. It tells where it stopped, and whether it got to the end.
func (r *run) scanRoom(ctx context.Context, at waiting.Cursor, do func(waiting.Row) bool) (waiting.Cursor, bool) {
	const bytesPerUnit = 4 << 10
	r.estimate(ctx, "waiting", bytesPerUnit)
	for r.meter.rows() > 0 {
		rows, next, err := r.room.Rows(ctx, at)
		if err != nil {
			r.fail(fmt.Errorf("the waiting room: %w", err))
			return at, false
		}
		for _, row := range rows {
			if !do(row) {
				return waiting.Cursor{Bucket: row.Bucket, Key: row.Key}, false
			}
		}
		if at = next; next == (waiting.Cursor{}) {
			return at, true
		}
	}
	return at, false
}
