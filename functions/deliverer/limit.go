package deliverer

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/limiter"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/retry"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/waiting"
)

// limit keeps destinations with a rate within it: it gives those of due that may be called now, and adds to held those that must wait for their turn. It comes
// after all other gates, because a call that is given away and not made is lost, and before the claim. It asks once for all deliveries of a destination.
func (d *work) limit(ctx context.Context, due []*job, held *sendings, outcomes []error) []*job {
	if d.cfg.Limiter == nil {
		return due
	}
	limited := map[string][]*job{}
	for _, j := range due {
		if j.destination.Rate != nil {
			limited[j.destination.ID] = append(limited[j.destination.ID], j)
		}
	}
	if len(limited) == 0 {
		return due
	}
	places, errs := d.places(ctx, limited)
	var now []*job
	for _, j := range due {
		place, is := places[j]
		switch err := errs[j.destination.ID]; {
		case j.destination.Rate == nil:
			now = append(now, j)
		case err != nil:
			d.untried(j)
			outcomes[j.record] = d.fault(ctx, err)
		case !is || !place.Call:
			d.untried(j)
			outcomes[j.record] = d.delay(j, place, held)
		default:
			j.start.from, j.start.until = place.From, place.Until
			now = append(now, j)
		}
	}
	return now
}

// places asks for all destinations at once: none waits for another.
func (d *work) places(ctx context.Context, limited map[string][]*job) (map[*job]limiter.Place, map[string]error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	given, errs := map[*job]limiter.Place{}, map[string]error{}
	for id, jobs := range limited {
		wg.Go(func() {
			rate, waiting := jobs[0].destination.Rate, make([]limiter.Waiting, len(jobs))
			for i, j := range jobs {
				waiting[i] = limiter.Waiting{Turn: j.message.Turn, Held: !j.message.HeldSince.IsZero()}
			}
			places, err := d.cfg.Limiter.Places(ctx, id, limiter.Rate{Interval: rate.Interval(), Burst: rate.Burst}, waiting)
			mu.Lock()
			defer mu.Unlock()
			if errs[id] = err; err != nil {
				d.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the rate of a destination could not be kept to; its deliveries wait",
					telemetry.Text(telemetry.KeyDestination, id), telemetry.Error(err))
				return
			}
			for i, place := range places {
				given[jobs[i]] = place
			}
		})
	}
	wg.Wait()
	return given, errs
}

// untried tells the breaker that nothing comes of letting a delivery pass.
func (d *work) untried(j *job) {
	j.result.Verdict = downstream.NotStarted
	d.tellOfResult(j)
}

// delay puts a delivery off until its turn. It keeps the turn, so that it need not queue again; the time counts as held, like any other for which it may not go.
func (d *work) delay(j *job, place limiter.Place, held *sendings) error {
	m := j.message
	if d.heldTooLong(&m) {
		return d.bury(j, reasonHeldTooLong, held)
	}
	if m.HeldSince.IsZero() {
		m.HeldSince = d.cfg.Now()
	}
	m.Turn, m.DueAt, j.limited = place.Turn, time.Time{}, true
	wait := place.Back.Sub(d.cfg.Now())
	if wait > d.cfg.LongestDelay {
		held.room.add(j, waiting.Held{Message: m, DueAt: place.Back, Trace: j.trace})
		return nil
	}
	message, err := d.sending(j, m, wait)
	if err != nil {
		return outcome.Retry(err)
	}
	held.turns.add(j, message)
	return nil
}

// start says when an attempt may begin. The zero start is one that may at once.
type start struct {
	from, until time.Time    // of a limited destination
	waits       bool         // for its time, or until others have ended
	begun       atomic.Int64 // when one that waits has begun, in nanoseconds since 1970; 0: it has not
}

// longerThan tells whether the attempt has been under way for so long.
func (s *start) longerThan(patience time.Duration, now time.Time) bool {
	if !s.waits {
		return true
	}
	begun := s.begun.Load()
	return begun != 0 && now.Sub(time.Unix(0, begun)) >= patience
}

// begin makes the attempts, each at its time, and of those to one destination no more at once than it may have. It returns when all are done.
func (d *work) begin(ctx context.Context, jobs []*job, attempts []downstream.Attempt, done func(i int, r downstream.Result)) {
	var wg sync.WaitGroup
	var atOnce []int
	places := map[string]chan struct{}{} // as many as may be under way
	for i, j := range jobs {
		if !j.start.waits {
			atOnce = append(atOnce, i)
			continue
		}
		place, most := places[j.destination.ID], j.destination.Concurrency
		if place == nil && most > 0 {
			place = make(chan struct{}, most)
			places[j.destination.ID] = place
		}
		wg.Go(func() {
			if place != nil {
				select {
				case place <- struct{}{}:
					defer func() { <-place }()
				case <-ctx.Done():
				}
			}
			if !d.mayBegin(ctx, j) {
				done(i, downstream.Result{Verdict: downstream.NotStarted, Reason: downstream.ReasonNotStarted})
				return
			}
			j.start.begun.Store(d.cfg.Now().UnixNano())
			d.call(ctx, attempts[i:i+1], func(_ int, r downstream.Result) { done(i, r) })
		})
	}
	if len(atOnce) > 0 {
		now := make([]downstream.Attempt, len(atOnce))
		for n, i := range atOnce {
			now[n] = attempts[i]
		}
		d.call(ctx, now, func(n int, r downstream.Result) { done(atOnce[n], r) })
	}
	wg.Wait()
}

// mayBegin waits for the time of an attempt. It is false when that has passed, or when too little time is left in the invocation.
func (d *work) mayBegin(ctx context.Context, j *job) bool {
	for ctx.Err() == nil && d.cfg.Now().Before(j.start.from) { // timers do not know the clock on the wall
		retry.Sleep(ctx, j.start.from.Sub(d.cfg.Now()))
	}
	deadline, is := ctx.Deadline()
	return ctx.Err() == nil && (j.start.until.IsZero() || d.cfg.Now().Before(j.start.until)) &&
		(!is || deadline.Sub(d.cfg.Now()) >= attemptTimeout(j.destination))
}

// call gives attempts to the adapter. A panic leaves those to SQS that have no result.
func (d *work) call(ctx context.Context, attempts []downstream.Attempt, done func(i int, r downstream.Result)) {
	defer func() {
		if p := recover(); p != nil {
			// The type alone: the text could hold payload.
			d.cfg.Logger.Error("adapter panicked; its unanswered attempts are left to SQS", "panic", fmt.Sprintf("%T", p))
		}
	}()
	d.cfg.Adapter.Deliver(ctx, attempts, done)
}
