// Package deliverer makes the attempts that are due: it claims a batch of deliveries in the ledger, calls their
// destinations, makes durable what follows, settles the ledger and acknowledges, in this order and no other.
//
// The rules are those of package ledger (Decide, After, AfterSettle); this package carries them out. A crash between any
// two steps may repeat work, under the same public id, but loses nothing.
package deliverer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/limiter"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/pace"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/tracing"
	"github.com/waybillhq/waybill/shared/waiting"
)

// Waits that are not part of any retry schedule.
const (
	newerWait    = queue.MaxDelay   // for a newer release to come back
	faultWait    = 15 * time.Second // after a fault of our own; doubled with every further one in a row, and spread by jitter
	maxFaultWait = 4 * time.Minute
	noTimeWait   = time.Second      // for an invocation with more time
	outcomeWait  = 30 * time.Second // for a ledger that could not be written to recover
	minBusyWait  = time.Second
)

const reasonHeldTooLong = "held-too-long" // of a dead letter whose destination could not receive for as long as a delivery may be held

// Room is the waiting room: *waiting.Room.
type Room interface {
	Hold(ctx context.Context, held []waiting.Held) []error
}

// Secrets puts the keys that a destination names into their places: *secrets.Resolver. An error is a fault of ours.
type Secrets interface {
	Resolve(ctx context.Context, d *registry.Destination) (*registry.Destination, error)
}

// Config configures a Deliverer; the fields up to LongestPark are required.
//
// Destinations may be a registry.Looker too; then a destination that is not in the set is asked for once more before its deliveries are given up.
type Config struct {
	Destinations registry.Source
	Ledger       *ledger.Ledger
	Adapter      downstream.Adapter
	Deliveries   queue.Sender // successors, outcomes
	DeadLetters  queue.Sender
	Room         Room              // what waits longer than a queue can delay, and what is parked
	Disabler     registry.Disabler // learns which destinations answered 410
	Headroom     time.Duration     // kept of every invocation for settling and answering
	LongestPark  time.Duration     // then a held delivery becomes a dead letter

	// Secrets resolves the secrets of destinations; nil: they hold their keys themselves.
	Secrets Secrets
	// Breaker keeps deliveries from destinations that fail; nil: every delivery is tried when it is due.
	Breaker *breaker.Breaker
	// Limiter keeps destinations with a rate within it; nil: nobody does.
	Limiter *limiter.Limiter
	// Turns takes the deliveries that wait for their turn at a destination with a rate. Who works on that queue waits for calls in its invocations, which
	// nobody else should have to. Default Deliveries.
	Turns queue.Sender
	// Pace learns which destinations answer slowly. nil: nobody does.
	Pace *pace.Pace
	// SlowLane takes deliveries to these before they are claimed, so that others do not wait behind them; it needs Pace. nil, as in the function that works
	// on the slow lane: all deliveries are made here.
	SlowLane queue.Sender
	// Notices takes events of our own, for the ingress queue: that a destination was disabled. nil: none.
	Notices queue.Sender
	// Objective is the time from acceptance to delivery that counts as good. Default one minute.
	Objective time.Duration
	// LongestDelay is what the queue can delay. Default queue.MaxDelay.
	LongestDelay time.Duration
	// FlushAfter is how long the result of a fast attempt may wait for slow ones of the same batch before it is settled in a call of its
	// own. Shorter: fewer repeated effects after a crash; longer: fewer ledger calls. Default 500 ms.
	FlushAfter time.Duration
	Now        func() time.Time // default time.Now
	Random     func() float64   // [0, 1), for jitter; default math/rand
	Logger     *slog.Logger     // default slog.Default()
}

// Deliverer works on batches of delivery messages. It is safe for concurrent use.
type Deliverer struct {
	cfg    Config
	faults atomic.Int32 // batches in a row that met a fault of our own
}

// New makes a Deliverer. The error lists every missing setting.
func New(cfg Config) (*Deliverer, error) {
	var problems []error
	missing := func(name string, is bool) {
		if is {
			problems = append(problems, fmt.Errorf("deliverer: Config.%s is missing", name))
		}
	}
	missing("Destinations", cfg.Destinations == nil)
	missing("Ledger", cfg.Ledger == nil)
	missing("Adapter", cfg.Adapter == nil)
	missing("Deliveries", cfg.Deliveries == nil)
	missing("DeadLetters", cfg.DeadLetters == nil)
	missing("Room", cfg.Room == nil)
	missing("Disabler", cfg.Disabler == nil)
	missing("Headroom", cfg.Headroom <= 0)
	missing("LongestPark", cfg.LongestPark <= 0)
	missing("Pace", cfg.Pace == nil && cfg.SlowLane != nil)
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if cfg.Turns == nil {
		cfg.Turns = cfg.Deliveries
	}
	cfg.FlushAfter = cmp.Or(cfg.FlushAfter, 500*time.Millisecond)
	cfg.Objective = cmp.Or(cfg.Objective, time.Minute)
	cfg.LongestDelay = cmp.Or(cfg.LongestDelay, queue.MaxDelay)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = mathrand.Float64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Deliverer{cfg: cfg}, nil
}

// job is one record on its way through the batch.
type job struct {
	record      int // index in the batch
	message     delivery.Message
	trace       string // the event's own, on which whatever follows is sent too
	destination *registry.Destination
	grant       ledger.Grant
	result      downstream.Result
	plan        ledger.Plan
	span        *tracing.Span // of the attempt
	breaker     breaker.Decision
	buried      string // why it was given up without an attempt
	passedOn    bool   // to the slow lane
	limited     bool   // delayed, because its destination has had as many calls as it may
	start       start  // when the attempt may begin
}

// Deliver is a batch.Func: it gives one outcome for each record, in order.
func (d *Deliverer) Deliver(ctx context.Context, records []batch.Record) []error {
	w := &work{Deliverer: d}
	if d.cfg.Breaker != nil {
		w.health = d.cfg.Breaker.Begin()
		defer w.endHealth(ctx)
	}
	return w.deliverAll(ctx, records)
}

// work is the work on one batch.
type work struct {
	*Deliverer
	health  *breaker.Batch // nil without a breaker
	faulted bool           // a fault of our own was met
}

func (d *work) deliverAll(ctx context.Context, records []batch.Record) []error {
	outcomes := make([]error, len(records))
	var outstanding []*job // outcome messages: the attempt was made, the ledger has to learn of it
	var due []*job
	set, setErr := d.cfg.Destinations.Set(ctx)
	held := &sendings{}
	for i, rec := range records {
		j := &job{record: i, trace: rec.Trace}
		// A bug that one record provokes is that record's failure, not its neighbours'.
		outcomes[i] = batch.Protect(func() (err error) {
			if j.message, err = delivery.Decode(rec.Body); err != nil {
				return undecodable(err)
			}
			if j.message.Outcome != nil {
				outstanding = append(outstanding, j)
				return nil
			}
			if setErr != nil {
				return d.fault(ctx, fmt.Errorf("destinations are unknown: %w", setErr))
			}
			pass, err := d.gate(ctx, set, j, held)
			if pass {
				due = append(due, j)
			}
			return err
		})
	}
	due = d.limit(ctx, due, held, outcomes)
	d.settleOutstanding(ctx, outstanding, outcomes)
	d.sendHeld(ctx, held, outcomes)
	d.attempt(ctx, due, outcomes)
	d.log(ctx, records, outcomes)
	return outcomes
}

func undecodable(err error) error {
	if errors.Is(err, delivery.ErrNewer) {
		return outcome.Defer(newerWait, err)
	}
	return outcome.Reject("malformed-delivery", err)
}

// fault puts a delivery off because of a fault of our own, longer with every batch in a row that met one: during an outage of the ledger messages
// should not be sent around all the time.
func (d *work) fault(ctx context.Context, err error) error {
	telemetry.From(ctx).Count(telemetry.Faults, 1)
	if !d.faulted {
		d.faulted = true
		d.faults.Add(1)
	}
	n := min(max(d.faults.Load(), 1), 16)
	return outcome.Defer(d.spread(min(faultWait<<(n-1), maxFaultWait)), err)
}

// spread is d ± 20 %, at least d for waits that must not end early.
func (d *Deliverer) spread(wait time.Duration) time.Duration {
	return wait + time.Duration(d.cfg.Random()*0.2*float64(wait))
}

// settleOutstanding writes outcomes that an earlier invocation could not write.
func (d *Deliverer) settleOutstanding(ctx context.Context, jobs []*job, outcomes []error) {
	if len(jobs) == 0 {
		return
	}
	// One settle per delivery and call: a second copy of an outcome message waits for the next round.
	seen := map[delivery.ID]bool{}
	var now []*job
	for _, j := range jobs {
		if seen[j.message.Delivery] {
			outcomes[j.record] = outcome.Defer(noTimeWait, errors.New("another outcome of this delivery is being written"))
			continue
		}
		seen[j.message.Delivery] = true
		now = append(now, j)
	}
	closes := make([]ledger.Close, len(now))
	for i, j := range now {
		m := &j.message
		closes[i] = ledger.Close{
			Delivery: m.Delivery, Epoch: m.Epoch, Attempt: m.Attempt, Replay: m.Replay, Owner: m.Outcome.Owner, Unclaimed: m.Outcome.Unclaimed,
			State: ledger.State(m.Outcome.State), Code: m.Outcome.Code, Reason: m.Outcome.Reason,
		}
	}
	for i, err := range d.cfg.Ledger.Settle(ctx, closes) {
		switch ledger.AfterSettle(err, true) {
		case ledger.Acknowledge:
			if err == nil {
				d.settled(ctx, &now[i].message, closes[i].State)
			}
		case ledger.Leave:
			telemetry.From(ctx).Count(telemetry.StaleOwners, 1)
			outcomes[now[i].record] = outcome.Retry(err)
		case ledger.SendOutcome:
			telemetry.From(ctx).Count(telemetry.Faults, 1)
			outcomes[now[i].record] = outcome.Defer(d.spread(outcomeWait), fmt.Errorf("outcome could not be written: %w", err))
		}
	}
}

func (d *Deliverer) log(ctx context.Context, records []batch.Record, outcomes []error) {
	acknowledged := 0
	for _, err := range outcomes {
		if err == nil {
			acknowledged++
		}
	}
	d.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "delivered batch",
		slog.Int(telemetry.KeyRecords, len(records)), slog.Int("acknowledged", acknowledged))
}
