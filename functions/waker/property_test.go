package waker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/functions/waker"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/waiting"
	"github.com/waybillhq/waybill/shared/waiting/waitingtest"
)

// The property test runs real Rooms and Wakers with clocks that jump, over a store and a queue that throttle, lose answers and take their time,
// while holders and wakers die at any call and runs overlap. Time is virtual; what happens at one instant may happen in any order.

const (
	holdersAtWork = 3
	stormy        = 50 * time.Minute // then all faults are over
	calm          = 12 * time.Hour   // and everything must come to its end
	visibility    = 2 * time.Minute
)

// house is the simulated system.
type house struct {
	store  *waitingtest.Memory
	began  time.Time
	faults float64 // probability that a call goes wrong, in stormy times
	deaths float64 // probability that who makes a call dies at it
	plans  map[delivery.ID][]time.Duration

	mu        sync.Mutex
	random    *rand.Rand
	queue     []*note
	closed    map[string]bool
	delivered map[delivery.ID]int
	watermark map[int]waiting.Hour
	strays    int
	problems  []string
}

// note is a message on the simulated queue.
type note struct {
	message   queue.Message
	visibleAt time.Time
	gone      bool
}

func (h *house) calm() bool { return time.Since(h.began) > stormy }

func (h *house) chance(p float64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.random.Float64() < p
}

func (h *house) upTo(d time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Duration(h.random.Int64N(int64(d)))
}

func (h *house) problem(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.problems = append(h.problems, time.Since(h.began).String()+": "+fmt.Sprintf(format, args...))
}

// actor is a function invocation: its clock, and whether it lives.
type actor struct {
	*house
	mu    sync.Mutex
	dead  bool
	ahead time.Duration
}

var errDead = fmt.Errorf("%w: the caller is dead", waiting.ErrUnknown)

// now is a clock that differs from any other by the tolerated skew at most, and jumps.
func (a *actor) now() time.Time {
	if a.chance(0.01) {
		ahead := a.upTo(limits.ClockSkew) - limits.ClockSkew/2
		a.mu.Lock()
		a.ahead = ahead
		a.mu.Unlock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Add(a.ahead)
}

// call makes one call as it may go. It tells what became of it: the call is made not at all, once or twice, and answered or not.
func (a *actor) call(do func()) error {
	if a.calm() {
		do()
		return nil
	}
	if a.chance(0.05) {
		<-time.After(a.upTo(3 * time.Second))
	}
	before, after := a.chance(a.deaths), a.chance(a.deaths)
	a.mu.Lock()
	dead := a.dead || before
	a.dead = dead || after
	a.mu.Unlock()
	switch {
	case dead:
		return errDead
	case a.chance(a.faults):
		return waiting.ErrThrottled
	}
	do()
	if a.chance(0.05) {
		<-time.After(a.upTo(3 * time.Second))
	}
	switch {
	case after:
		return errDead
	case a.chance(a.faults):
		return waiting.ErrUnknown
	}
	return nil
}

// The store as an actor sees it.

func each[T any](a *actor, all []T, do func(T) error) []error {
	errs := make([]error, len(all))
	for i, one := range all {
		var err error
		if failed := a.call(func() { err = do(one) }); failed != nil {
			err = failed
		}
		errs[i] = err
	}
	return errs
}

func (a *actor) Put(ctx context.Context, rows []waiting.Row) []error {
	return each(a, rows, func(r waiting.Row) error {
		b := waiting.ParseBucket(r.Bucket)
		a.house.mu.Lock()
		watermark, ok := a.house.watermark[b.Shard]
		a.house.mu.Unlock()
		if b.Kind == waiting.Due && ok && b.Hour < watermark {
			a.problem("a row is put into %s, which is closed", r.Bucket)
		}
		return a.store.Put(ctx, []waiting.Row{r})[0]
	})
}

func (a *actor) Delete(ctx context.Context, refs []waiting.Ref) []error {
	return each(a, refs, func(r waiting.Ref) error { return a.store.Delete(ctx, []waiting.Ref{r})[0] })
}

func (a *actor) Read(ctx context.Context, bucket, after, before string, limit int) (page waiting.Page, err error) {
	if failed := a.call(func() { page, err = a.store.Read(ctx, bucket, after, before, min(limit, 2)) }); failed != nil {
		return waiting.Page{}, failed
	}
	return page, err
}

func (a *actor) State(ctx context.Context) (state waiting.State, err error) {
	if failed := a.call(func() { state, err = a.store.State(ctx) }); failed != nil {
		return state, failed
	}
	return state, err
}

func (a *actor) Advance(ctx context.Context, shard int, to waiting.Hour) (err error) {
	failed := a.call(func() {
		a.house.mu.Lock()
		defer a.house.mu.Unlock()
		if err = a.store.Advance(ctx, shard, to); err == nil {
			if was, ok := a.watermark[shard]; ok && to <= was {
				a.problems = append(a.problems, "the watermark moved backward")
			}
			a.watermark[shard] = to
		}
	})
	return errors.Join(failed, err)
}

func (a *actor) SaveScan(ctx context.Context, was string, scan waiting.Scan) (err error) {
	failed := a.call(func() { err = a.store.SaveScan(ctx, was, scan) })
	return errors.Join(failed, err)
}

func (a *actor) Buckets(ctx context.Context, after waiting.Cursor) (names []string, next waiting.Cursor, err error) {
	if failed := a.call(func() { names, next, err = a.store.Buckets(ctx, after) }); failed != nil {
		return nil, after, failed
	}
	return names, next, err
}

// Send implements queue.Sender.
func (a *actor) Send(_ context.Context, messages []queue.Message) []error {
	return each(a, messages, func(m queue.Message) error {
		if m.Delay < 0 || m.Delay > queue.MaxDelay {
			a.problem("a delay of %v", m.Delay)
		}
		h := a.house
		h.mu.Lock()
		defer h.mu.Unlock()
		h.queue = append(h.queue, &note{message: m, visibleAt: time.Now().Add((m.Delay + time.Second - 1).Truncate(time.Second))})
		return nil
	})
}

// Drain implements waker.Destinations.
func (a *actor) Drain(_ context.Context, destination string) (waker.Permit, error) {
	a.house.mu.Lock()
	defer a.house.mu.Unlock()
	return waker.Permit{May: !a.closed[destination]}, nil
}

// receive takes a message that is visible.
func (h *house) receive() *note {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ready []*note
	for _, n := range h.queue {
		if !n.gone && !n.visibleAt.After(time.Now()) {
			ready = append(ready, n)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	n := ready[h.random.IntN(len(ready))]
	n.visibleAt = time.Now().Add(visibility)
	return n
}

// hold is an environment of the deliverer: one invocation after the other, until it dies and another takes its place.
func (h *house) hold(ctx context.Context) {
	for ctx.Err() == nil {
		a := &actor{house: h}
		room, err := waiting.New(waiting.Config{Store: a, Limits: limits, Now: a.now})
		if err != nil {
			h.problem("%v", err)
			return
		}
		for ctx.Err() == nil && !a.dead {
			<-time.After(2*time.Second + h.upTo(6*time.Second))
			if n := h.receive(); n != nil && h.work(a, room, n) {
				h.mu.Lock()
				n.gone = true
				h.mu.Unlock()
			}
		}
	}
}

// work is what a deliverer does with a message; true: it is acknowledged.
func (h *house) work(a *actor, room *waiting.Room, n *note) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limits.FunctionTimeout)
	defer cancel()
	m, err := delivery.Decode(n.message.Body)
	if err != nil {
		h.problem("%v", err)
		return true
	}
	now := a.now()
	if wait := m.DueAt.Sub(now); wait > 0 {
		if wait > 2*limits.ClockSkew {
			h.problem("delivery %s comes %v before it is due", m.Event.ID, wait)
		}
		return a.Send(ctx, []queue.Message{{Body: n.message.Body, Delay: min(wait, queue.MaxDelay)}})[0] == nil
	}
	h.mu.Lock()
	closed, plan := h.closed[m.Destination], h.plans[m.Delivery]
	h.mu.Unlock()
	held := waiting.Held{Message: m}
	switch {
	case closed:
		held.Parked = true
	case m.Attempt <= len(plan):
		held.Message, held.DueAt = m.Successor(plan[m.Attempt-1]), now.Add(plan[m.Attempt-1])
	default:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.delivered[m.Delivery]++
		return true
	}
	err = room.Hold(ctx, []waiting.Held{held})[0]
	if errors.Is(err, waiting.ErrTooSoon) || errors.Is(err, waiting.ErrTooLarge) {
		h.problem("%v", err)
	}
	return err == nil && !a.dead
}

// wake runs a waker every minute, each run with the time of an invocation, in its own time: runs overlap.
func (h *house) wake(ctx context.Context) {
	var runs sync.WaitGroup
	for ctx.Err() == nil {
		runs.Go(func() {
			a := &actor{house: h}
			w, err := waker.New(waker.Config{Store: a, Limits: limits, Deliveries: a, Destinations: a, Now: a.now, Logger: slog.New(slog.DiscardHandler), DrainPerRun: 3})
			if err != nil {
				h.problem("%v", err)
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute+15*time.Second)
			defer cancel()
			report, _ := w.Run(ctx)
			h.mu.Lock()
			defer h.mu.Unlock()
			h.strays += report.Stray
		})
		<-time.After(time.Minute)
		if !h.calm() && h.chance(0.1) {
			<-time.After(h.upTo(20 * time.Minute)) // nobody wakes anything
		}
	}
	runs.Wait()
}

func TestNothingIsLostInAnyWeather(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		h := &house{
			store: waitingtest.NewMemory(), plans: map[delivery.ID][]time.Duration{}, closed: map[string]bool{},
			delivered: map[delivery.ID]int{}, watermark: map[int]waiting.Hour{},
			random: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)),
			faults: rapid.SampledFrom([]float64{0, 0.02, 0.1}).Draw(rt, "faults"), deaths: rapid.SampledFrom([]float64{0, 0.003, 0.02}).Draw(rt, "deaths"),
		}
		var plans [][]time.Duration
		for range rapid.IntRange(1, 8).Draw(rt, "deliveries") {
			var plan []time.Duration
			for range rapid.IntRange(0, 2).Draw(rt, "waits") {
				plan = append(plan, limits.MinDistance()+2*limits.ClockSkew+time.Duration(rapid.IntRange(0, 120).Draw(rt, "wait"))*10*time.Second)
			}
			plans = append(plans, plan)
		}
		var wrong error
		synctest.Test(t, func(*testing.T) { wrong = h.weather(plans) })
		if wrong != nil {
			rt.Fatal(wrong)
		}
	})
}

// weather lets deliveries with the given waits go through a stormy time and a calm one.
func (h *house) weather(plans [][]time.Duration) error {
	<-time.After(h.upTo(time.Hour)) // hours end at any time of the storm
	h.began = time.Now()
	for i, plan := range plans {
		m := message(i, fmt.Sprintf("destination-%d", i%2), h.began)
		m.Attempt = 1
		h.plans[m.Delivery] = plan
		body, err := m.Encode(delivery.MaxBytes)
		if err != nil {
			return err
		}
		h.queue = append(h.queue, &note{message: queue.Message{Body: body}, visibleAt: h.began.Add(h.upTo(10 * time.Minute))})
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { h.wake(ctx) })
	for range holdersAtWork {
		all.Go(func() { h.hold(ctx) })
	}
	for !h.calm() {
		<-time.After(h.upTo(10 * time.Minute))
		h.mu.Lock()
		h.closed[fmt.Sprintf("destination-%d", h.random.IntN(2))] = h.random.IntN(2) == 0
		h.mu.Unlock()
	}
	h.mu.Lock()
	h.closed = map[string]bool{}
	h.mu.Unlock()
	for time.Since(h.began) < stormy+calm && !h.settled(len(plans)) {
		<-time.After(time.Minute)
	}
	cancel()
	all.Wait()
	switch {
	case !h.settled(len(plans)):
		return fmt.Errorf("%d of %d deliveries came to their end; rows: %+v", len(h.delivered), len(plans), h.store.All())
	case len(h.problems) > 0 || h.strays > 0:
		return fmt.Errorf("%d strays, problems: %v", h.strays, h.problems)
	}
	return nil
}

// settled tells that all is delivered and nothing waits any more but marks.
func (h *house) settled(n int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.delivered) < n {
		return false
	}
	for _, r := range h.store.All() {
		if waiting.ParseBucket(r.Bucket).Kind != waiting.Marks {
			return false
		}
	}
	return true
}
