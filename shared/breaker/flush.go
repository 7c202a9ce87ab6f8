package breaker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/downstream"
)

// result is what an attempt says about its destination.
type result int

const (
	nothing   result = iota // no attempt was made, or it says nothing about the destination
	succeeded               // the destination lives
	failed
)

// resultOf maps verdicts. Who rejects an event lives; who wants no more is disabled, which is not for the breaker.
func resultOf(v downstream.Verdict) result {
	switch v {
	case downstream.Delivered, downstream.Reject:
		return succeeded
	case downstream.Gone, downstream.NotStarted:
		return nothing
	case downstream.Retry, downstream.Throttle:
	}
	return failed
}

// tally is what an environment has counted and not written yet.
type tally struct {
	turn      int64
	slots     []slotCount // in order of time; none older than the window when it is written
	streak    int         // failures since the last success
	failed    bool        // there was a failure
	succeeded bool        // there was a success
	success   time.Time   // when the last one was
}

type slotCount struct {
	slot Slot
	Count
}

// add counts one attempt.
func (t *tally) add(s Slot, ok bool, now time.Time) {
	if n := len(t.slots); n == 0 || t.slots[n-1].slot != s {
		if n > slotsPerWindow { // the oldest has left the window, or the clock jumps
			t.slots = append(t.slots[:0], t.slots[n-slotsPerWindow:]...)
		}
		t.slots = append(t.slots, slotCount{slot: s})
	}
	last := &t.slots[len(t.slots)-1]
	if ok {
		last.Successes++
		t.streak, t.succeeded, t.success = 0, true, now
		return
	}
	last.Failures++
	t.streak++
	t.failed = true
}

// over says that nothing in it is young enough to be written.
func (t *tally) over(r Rules, now time.Time) bool {
	for _, s := range t.slots {
		if r.Kept(s.slot, now) {
			return false
		}
	}
	return true
}

// merge puts back what could not be written, and was counted before t.
func (t *tally) merge(before tally) {
	if t.turn != before.turn && len(t.slots) > 0 {
		return
	}
	if len(t.slots) == 0 {
		*t = before
		return
	}
	slots := before.slots
	for _, s := range t.slots {
		if n := len(slots); n > 0 && slots[n-1].slot == s.slot {
			slots[n-1].Successes += s.Successes
			slots[n-1].Failures += s.Failures
		} else {
			slots = append(slots, s)
		}
	}
	t.slots = slots
	if !t.succeeded {
		t.streak, t.success = t.streak+before.streak, before.success
	}
	t.succeeded, t.failed = t.succeeded || before.succeeded, t.failed || before.failed
}

// Record notes what came of an attempt that Gate has let pass, in memory. Say downstream.NotStarted of one that was not made: the next delivery
// may then be the probe at once. What is never recorded counts as that.
func (b *Batch) Record(destination string, d Decision, v downstream.Verdict, retryAfter time.Duration) {
	if !d.Pass {
		return
	}
	now, res := b.now(), resultOf(v)
	b.mu.Lock()
	defer b.mu.Unlock()
	if v == downstream.Throttle && retryAfter > 0 {
		e := b.entry(destination)
		if until := now.Add(min(retryAfter, LongestThrottle)); until.After(e.effective().ThrottledUntil) {
			e.throttledAt, e.throttledUntil = now, until
		}
	}
	if d.Probe {
		for _, p := range b.probes {
			if p.destination == destination && p.row.Turn == d.turn && p.result == nothing {
				p.result = res
				if v == downstream.Throttle {
					p.retryAfter = retryAfter
				}
			}
		}
		return
	}
	if d.blind || res == nothing {
		return
	}
	b.dirty[destination] = struct{}{}
	t := &b.entry(destination).tally
	if t.turn > d.turn {
		return // it tells of what is over
	}
	if t.turn < d.turn {
		*t = tally{turn: d.turn, slots: t.slots[:0]}
	}
	t.add(b.cfg.Rules.SlotOf(now), res == succeeded, now)
}

// Leave is for a probe whose delivery somebody else is trying just now, as its claim has shown: it is not given up at the end of this batch.
func (b *Batch) Leave(destination string, d Decision) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.probes {
		if d.Probe && p.destination == destination && p.row.Turn == d.turn {
			p.owned = false
		}
	}
}

// writesAtOnce bounds the writes of one Flush that are under way at once.
const writesAtOnce = 8

// Flush writes what must be written: results of probes, and for each destination in trouble what was counted since the last time. Nothing else waits for it: an
// error means that others learn of it later, or not. It may be called several times in a batch.
func (b *Batch) Flush(ctx context.Context) error {
	now := b.now()
	b.mu.Lock()
	b.renew(ctx, now, &b.report) // a long batch may have missed that others need what is counted here
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	writes := b.telling(ctx, now, func(p *probe) bool { return p.result != nothing })
	for destination := range b.dirty {
		if write := b.due(ctx, destination, b.entry(destination), now); write != nil {
			writes = append(writes, write)
		}
	}
	b.mu.Unlock()
	return inParallel(writes)
}

func inParallel(writes []func() error) error {
	errs := make([]error, len(writes))
	var wg sync.WaitGroup
	slots := make(chan struct{}, writesAtOnce)
	for i, write := range writes {
		slots <- struct{}{}
		wg.Go(func() {
			errs[i] = write()
			<-slots
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// End ends the batch: it flushes, and gives up probes named here of which nothing was recorded.
func (b *Batch) End(ctx context.Context) (Report, error) {
	err := b.Flush(ctx)
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	now := b.now()
	b.mu.Lock()
	writes := b.telling(ctx, now, func(p *probe) bool { return p.owned && p.result == nothing })
	b.mu.Unlock()
	err = errors.Join(err, inParallel(writes))
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.report, err
}

// tell moves the row as the probe's result says. It counts also where another invocation has named the same delivery again.
func (b *Batch) tell(ctx context.Context, p probe, now time.Time) error {
	next := b.after(p, now)
	there, err := b.cfg.Store.Move(ctx, p.destination, p.row, next)
	if again := there.Phase == Probing && there.Probe == p.row.Probe; errors.Is(err, ErrRefused) && again && p.result != nothing {
		p.row = there
		next = b.after(p, now)
		there, err = b.cfg.Store.Move(ctx, p.destination, p.row, next)
	}
	if err != nil && !errors.Is(err, ErrRefused) {
		b.failed(p.destination, now, err)
		return err
	}
	b.install(p.destination, there, now)
	if err == nil || there.Same(next) {
		b.changed(p.destination, p.row, next)
	}
	return nil
}

// telling gives the writes of probes that the caller selects, each once, or until it does not fail. The lock is held.
func (b *Batch) telling(ctx context.Context, now time.Time, selects func(*probe) bool) []func() error {
	var writes []func() error
	for _, p := range b.probes {
		if p.told || !selects(p) {
			continue
		}
		p.told = true
		copied := *p
		writes = append(writes, func() error {
			err := b.tell(ctx, copied, now)
			if err != nil {
				b.note(func(*Report) { p.told = false })
			}
			return err
		})
	}
	return writes
}

// after is the row as the probe's result makes it.
func (b *Batch) after(p probe, now time.Time) Row {
	switch p.result {
	case succeeded:
		return b.cfg.Rules.Recovered(p.row, now)
	case failed:
		return b.cfg.Rules.Opened(p.row, now, p.retryAfter, b.cfg.Random())
	case nothing:
	}
	return b.cfg.Rules.Released(p.row, now)
}

// due gives the write that a destination needs now; nil: none. What others need stays dirty until it is written, or tells of what is over. The lock is held.
func (b *Batch) due(ctx context.Context, destination string, e *entry, now time.Time) func() error {
	r, t := b.cfg.Rules, &e.tally
	needed := t.failed || !t.over(r, now) && r.Everybody(e.row, now)
	if t.turn != e.row.Turn || t.over(r, now) || !needed {
		delete(b.dirty, destination)
	}
	since := now.Sub(e.written)
	switch {
	case t.turn != e.row.Turn, e.pausing(now, b.cfg.Pause), since >= 0 && since < b.cfg.WriteEvery:
		return nil
	case !t.failed && r.MayReset(e.row, now):
		was := e.row
		e.written = now
		return func() error { return b.move(ctx, destination, was, r.Reset(was, now), now) }
	case !needed:
		return nil
	}
	delete(b.dirty, destination)
	counted, delta := *t, b.delta(e, now)
	*t, e.written = tally{turn: t.turn}, now
	return func() error { return b.add(ctx, destination, counted, delta) }
}

// delta is what was counted of a destination, as it is written. The lock is held.
func (b *Batch) delta(e *entry, now time.Time) Delta {
	r, t := b.cfg.Rules, &e.tally
	delta := Delta{Turn: t.turn, Slots: map[Slot]Count{}, Streak: t.streak, Succeeded: t.succeeded, Young: r.Young(t.success, now), At: now}
	for _, s := range t.slots {
		if r.Kept(s.slot, now) {
			c := delta.Slots[s.slot] // a clock that was set back comes to a slot twice
			delta.Slots[s.slot] = Count{c.Successes + s.Successes, c.Failures + s.Failures}
		}
	}
	for s := range e.row.Slots {
		if _, is := delta.Slots[s]; !is && !r.Kept(s, now) {
			delta.Remove = append(delta.Remove, s)
		}
	}
	if e.throttledUntil.After(e.row.ThrottledUntil) && e.throttledUntil.After(now) {
		delta.ThrottledAt, delta.ThrottledUntil = e.throttledAt, e.throttledUntil
	}
	return r.Suspect(e.row, delta, now)
}

// add writes counts, and opens the breaker if they are excessive and everybody was heard.
func (b *Batch) add(ctx context.Context, destination string, counted tally, delta Delta) error {
	there, err := b.cfg.Store.Add(ctx, destination, delta)
	if errors.Is(err, ErrRefused) && there.Turn == delta.Turn && there.Phase == Closed && !delta.ThrottledUntil.IsZero() {
		delta.ThrottledAt, delta.ThrottledUntil = time.Time{}, time.Time{} // somebody has written a later one
		there, err = b.cfg.Store.Add(ctx, destination, delta)
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrRefused):
		b.install(destination, there, delta.At)
		return nil // what was counted tells of what is over
	default:
		if errors.Is(err, ErrThrottled) {
			b.mu.Lock()
			b.entry(destination).tally.merge(counted)
			b.dirty[destination] = struct{}{}
			b.mu.Unlock()
		}
		b.failed(destination, delta.At, err)
		return err
	}
	b.install(destination, there, delta.At)
	b.mu.Lock()
	opens := b.cfg.Rules.MayOpen(there, b.entry(destination).known, delta.At)
	b.mu.Unlock()
	if !opens {
		return nil
	}
	return b.move(ctx, destination, there, b.cfg.Rules.Opened(there, delta.At, 0, b.cfg.Random()), delta.At)
}

// move moves a row. Somebody else's move is as good.
func (b *Batch) move(ctx context.Context, destination string, was, next Row, now time.Time) error {
	there, err := b.cfg.Store.Move(ctx, destination, was, next)
	if err != nil && !errors.Is(err, ErrRefused) {
		b.failed(destination, now, err)
		return err
	}
	b.install(destination, there, now)
	if (err == nil || there.Same(next)) && was.Phase != next.Phase {
		b.changed(destination, was, next)
	}
	return nil
}
