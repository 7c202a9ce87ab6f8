package deliverer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/tracing"
	"github.com/waybillhq/waybill/shared/waiting"
)

// attempt claims the jobs and makes the attempts that are granted.
func (d *work) attempt(ctx context.Context, jobs []*job, outcomes []error) {
	if len(jobs) == 0 {
		return
	}
	requests := make([]ledger.Request, len(jobs))
	for i, j := range jobs {
		requests[i] = j.request()
	}
	var granted, late []*job
	claimCtx, span := tracing.Start(ctx, "claim")
	grants := d.cfg.Ledger.Claim(claimCtx, requests)
	span.End()
	for i, g := range grants {
		j := jobs[i]
		j.grant = g
		d.tellOfClaim(j)
		switch {
		case g.Leader != i:
		case g.Err != nil:
			outcomes[j.record] = d.fault(ctx, fmt.Errorf("no claim could be made: %w", g.Err))
		case g.Verdict == ledger.Granted && d.tooLate(ctx, j.destination) != nil: // claiming took long
			late = append(late, j)
		case g.Verdict == ledger.Granted:
			d.faults.Store(0)
			granted = append(granted, j)
		case g.Verdict == ledger.Busy:
			telemetry.From(ctx).Count(telemetry.ClaimConflicts, 1)
			outcomes[j.record] = d.busy(g.LeaseUntil, errors.New("another worker holds this delivery"))
		case g.Verdict == ledger.Duplicate, g.Verdict == ledger.Stale:
			telemetry.From(ctx).Count(telemetry.ClaimConflicts, 1)
			outcomes[j.record] = nil
		default: // what is not understood is never dropped
			outcomes[j.record] = d.fault(ctx, fmt.Errorf("the ledger's verdict %q is unknown", g.Verdict))
		}
	}
	for _, j := range late {
		j.result.Verdict = downstream.NotStarted
		d.tellOfResult(j)
	}
	d.release(ctx, late, outcomes)
	d.deliver(ctx, granted, outcomes)
	for i, g := range grants {
		if g.Leader != i {
			outcomes[jobs[i].record] = outcomes[jobs[g.Leader].record]
		}
	}
}

func (j *job) request() ledger.Request {
	m := &j.message
	return ledger.Request{Delivery: m.Delivery, Epoch: m.Epoch, Attempt: m.Attempt, Replay: m.Replay, Relaxed: j.destination.Ledger == registry.Relaxed}
}

// busy leaves a message to SQS until the lease that stands in its way is over, spread so that copies do not come back together.
func (d *Deliverer) busy(until time.Time, err error) error {
	wait := max(until.Sub(d.cfg.Now()), 0) + minBusyWait
	return outcome.RetryAfter(wait+time.Duration(d.cfg.Random()*float64(2*time.Second)), err)
}

// deliver makes the attempts at once and finishes them as their results come in: all together where they are equally fast, without
// waiting for the slow ones otherwise.
func (d *work) deliver(ctx context.Context, jobs []*job, outcomes []error) {
	if len(jobs) == 0 {
		return
	}
	attempts := make([]downstream.Attempt, len(jobs))
	for i, j := range jobs {
		// Until its result is finished, a record is left to SQS: an adapter that never answers loses nothing.
		outcomes[j.record] = d.busy(j.grant.LeaseUntil, errors.New("the attempt gave no result"))
		j.start.waits = !j.start.from.IsZero() || j.destination.Concurrency > 0
		var spanCtx context.Context
		spanCtx, j.span = tracing.Start(ctx, "attempt")
		j.span.Annotate(j.facts()...)
		attempts[i] = downstream.Attempt{
			PublicID: j.message.PublicID(), Number: j.message.Attempt, Event: &j.message.Event, Destination: j.destination, Trace: tracing.Header(spanCtx),
		}
	}
	attemptCtx, cancel := d.before(ctx, d.cfg.Headroom)
	defer cancel()
	type result struct {
		job *job
		downstream.Result
	}
	results := make(chan result, len(jobs))
	go func() {
		defer close(results)
		d.begin(attemptCtx, jobs, attempts, func(i int, r downstream.Result) { results <- result{jobs[i], r} })
	}()
	var ready []*job
	flush := time.NewTimer(d.cfg.FlushAfter)
	defer flush.Stop()
	late := d.watch(jobs)
	defer late.stop()
	for {
		r, what := soonest(results, flush.C, late.due())
		switch what {
		case allCame:
			d.finish(ctx, ready, outcomes)
			return
		case came:
			r.job.result = r.Result
			r.job.endSpan()
			late.answered(r.job)
			d.tellOfResult(r.job)
			if ready = append(ready, r.job); len(ready) == 1 {
				flush.Reset(d.cfg.FlushAfter)
			}
		case flushDue:
			d.finish(ctx, ready, outcomes)
			ready = nil
		case lateDue:
			late.tell(ctx)
		}
	}
}

// happening is what deliver has to do next.
type happening int

const (
	came happening = iota // a result
	allCame
	flushDue
	lateDue
)

// soonest waits for what is next. Of what is there already, results go first and the flush second: nobody should be told that an answer is late which has come
// while something was being written, and what is ready should not wait until others are told. And what a batch does is the same each time.
func soonest[R any](results <-chan R, flush, late <-chan time.Time) (R, happening) {
	of := func(r R, open bool) (R, happening) {
		if !open {
			return r, allCame
		}
		return r, came
	}
	var none R
	select {
	case r, open := <-results:
		return of(r, open)
	default:
	}
	select {
	case <-flush:
		return none, flushDue
	default:
	}
	select {
	case r, open := <-results:
		return of(r, open)
	case <-flush:
		return none, flushDue
	case <-late:
		return none, lateDue
	}
}

// before gives a context that ends the given time before ctx does.
func (d *Deliverer) before(ctx context.Context, reserve time.Duration) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(ctx, deadline.Add(-reserve))
	}
	return context.WithCancel(ctx)
}

// finish carries out what the ledger protocol plans for each result: first the future is made durable, then the ledger is settled,
// then the record is acknowledged. A job that fails at one step does not reach the next.
func (d *work) finish(ctx context.Context, jobs []*job, outcomes []error) {
	futures := &sendings{}
	var unstarted, delivered, dropped, durable []*job
	for _, j := range jobs {
		if j.result.Verdict == downstream.NotStarted {
			unstarted = append(unstarted, j)
			continue
		}
		telemetry.From(ctx).Count(telemetry.Attempts, 1)
		if err := batch.Protect(func() error { return d.plan(ctx, j, futures) }); err != nil {
			outcomes[j.record] = d.busy(j.grant.LeaseUntil, err)
			continue
		}
		switch {
		case j.plan.Future == ledger.Nothing:
			delivered = append(delivered, j)
		case j.dropped():
			dropped = append(dropped, j)
		}
	}
	// Successes wait for no other's future: a queue that hangs would leave them unsettled, and their effects would be repeated.
	telemetry.From(ctx).Count(telemetry.Delivered, len(delivered))
	d.settle(ctx, append(delivered, dropped...), outcomes)
	d.send(ctx, futures, func(j *job, err error) {
		if err != nil {
			telemetry.From(ctx).Count(telemetry.Faults, 1)
			// The attempt is not settled: when the lease is over, the redelivered message decides again.
			outcomes[j.record] = d.busy(j.grant.LeaseUntil, fmt.Errorf("the %s could not be sent: %w", j.plan.Future, err))
			return
		}
		d.count(ctx, j)
		durable = append(durable, j)
	})
	d.settle(ctx, durable, outcomes)
	d.release(ctx, unstarted, outcomes)
	d.flushHealth(ctx)
}

// plan asks the protocol what follows the attempt and, as the last thing that can fail, adds what must be made durable, if there is anything, to
// futures.
func (d *work) plan(ctx context.Context, j *job, futures *sendings) error {
	result, wait := d.judge(ctx, j)
	m := &j.message
	j.plan = ledger.After(result, m.Epoch, m.Attempt)
	d.logAttempt(ctx, j)
	switch {
	case j.dropped():
	case j.plan.Future == ledger.Successor && j.unspent():
		futures.room.add(j, waiting.Held{Message: d.parked(m), Parked: true, Trace: j.trace})
	case j.plan.Future == ledger.Successor:
		return d.later(j, m.Successor(wait), wait, futures)
	case j.plan.Future == ledger.DeadLetter:
		letter, err := d.deadLetter(j, m.Attempt, j.result.Reason, j.result.Detail, j.result.Code)
		if err != nil {
			return err
		}
		futures.deadLetters.add(j, letter)
	}
	return nil
}

// dropped tells of a failed attempt that nothing follows, not even a dead letter: the delivery is one of those that nobody wants later.
func (j *job) dropped() bool { return j.plan.Future == ledger.DeadLetter && j.destination.Life > 0 }

// unspent tells of a failed attempt that it found out something about the destination and nothing about the delivery: that it is disabled, or that it has
// not recovered.
func (j *job) unspent() bool { return j.result.Verdict == downstream.Gone || j.breaker.Probe }

// parked is the successor of an attempt that was not spent. Time in which a destination cannot receive is held, not waited: it
// does not age the delivery. It is counted from the first such attempt in a row, and none of them counts as one of the schedule.
func (d *Deliverer) parked(m *delivery.Message) delivery.Message {
	successor := m.Successor(0)
	successor.Probes, successor.HeldSince = m.Probes+1, m.HeldSince
	if successor.HeldSince.IsZero() {
		successor.HeldSince = d.cfg.Now()
	}
	return successor
}

// judge turns what the destination said into what the protocol cares about, and gives the wait before the next attempt.
func (d *work) judge(ctx context.Context, j *job) (ledger.Result, time.Duration) {
	switch j.result.Verdict {
	case downstream.Delivered:
		return ledger.Succeeded, 0
	case downstream.Reject:
		return ledger.Exhausted, 0
	case downstream.Gone:
		d.disable(ctx, j)
	}
	if j.unspent() {
		if d.heldTooLong(&j.message) { // a delivery that is the probe each time passes no gate that would say so
			j.result.Reason = reasonHeldTooLong
			return ledger.Exhausted, 0
		}
		return ledger.Failed, 0
	}
	schedule := j.destination.Retry
	wait, ok := schedule.After(j.message.Attempt-j.message.Probes, j.result.RetryAfter, d.cfg.Random)
	if tooOld := schedule.MaxAge() > 0 && j.message.Waited+wait > schedule.MaxAge(); !ok || tooOld {
		return ledger.Exhausted, 0
	}
	return ledger.Failed, wait
}

// settle writes the results of jobs whose future is durable.
func (d *Deliverer) settle(ctx context.Context, jobs []*job, outcomes []error) {
	if len(jobs) == 0 {
		return
	}
	closes := make([]ledger.Close, len(jobs))
	for i, j := range jobs {
		closes[i] = j.close()
	}
	// Some of the headroom is kept for sending what could not be settled.
	settleCtx, cancel := d.before(ctx, d.cfg.Headroom/2)
	defer cancel()
	unwritten := &sendings{}
	settleCtx, span := tracing.Start(settleCtx, "settle")
	errs := d.cfg.Ledger.Settle(settleCtx, closes)
	span.End()
	for i, err := range errs {
		j := jobs[i]
		switch ledger.AfterSettle(err, false) {
		case ledger.Acknowledge:
			outcomes[j.record] = nil
			d.settled(ctx, &j.message, j.plan.State)
		case ledger.Leave:
			telemetry.From(ctx).Count(telemetry.StaleOwners, 1)
			d.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "stale owner", j.subject().Attrs()...)
			outcomes[j.record] = outcome.Retry(fmt.Errorf("stale owner: %w", err))
		case ledger.SendOutcome:
			telemetry.From(ctx).Count(telemetry.Faults, 1)
			outcomes[j.record] = d.busy(j.grant.LeaseUntil, fmt.Errorf("the result could not be written: %w", err))
			message, encodeErr := d.sending(j, j.withOutcome(), d.spread(outcomeWait))
			if encodeErr == nil {
				unwritten.deliveries.add(j, message)
			}
		}
	}
	d.send(ctx, unwritten, func(j *job, err error) {
		if err == nil {
			outcomes[j.record] = nil
		}
	})
}

func (j *job) close() ledger.Close {
	m := &j.message
	return ledger.Close{
		Delivery: m.Delivery, Epoch: m.Epoch, Attempt: m.Attempt, Replay: m.Replay, Owner: j.grant.Owner, Unclaimed: j.grant.Unclaimed,
		State: j.plan.State, Code: j.result.Code, Reason: j.result.Reason,
	}
}

func (j *job) withOutcome() delivery.Message {
	m, c := j.message, j.close()
	m.Outcome = &delivery.Outcome{Owner: c.Owner, Unclaimed: c.Unclaimed, State: string(c.State), Code: c.Code, Reason: c.Reason}
	return m
}

// release gives back claims whose attempts could not start; their messages are sent again.
func (d *work) release(ctx context.Context, jobs []*job, outcomes []error) {
	if len(jobs) == 0 {
		return
	}
	var claims []ledger.Request
	var owners []string
	for _, j := range jobs {
		outcomes[j.record] = outcome.Defer(noTimeWait, errors.New("the attempt could not start in this invocation"))
		if !j.grant.Unclaimed {
			claims, owners = append(claims, j.request()), append(owners, j.grant.Owner)
		}
	}
	for i, err := range d.cfg.Ledger.Release(ctx, claims, owners) {
		if err != nil {
			d.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "release failed; the lease ends by itself",
				telemetry.Text(telemetry.KeyDelivery, claims[i].Delivery), telemetry.Error(err))
		}
	}
}

// logAttempt tells in full of an attempt that failed.
func (d *Deliverer) logAttempt(ctx context.Context, j *job) {
	if j.result.Verdict == downstream.Delivered {
		return
	}
	d.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "attempt failed", append(j.subject().Attrs(), slog.Int(telemetry.KeyCode, j.result.Code),
		telemetry.Text(telemetry.KeyReason, j.result.Reason), telemetry.Text(telemetry.KeyDetail, j.result.Detail), telemetry.Text(telemetry.KeyThen, j.plan.Future))...)
}
