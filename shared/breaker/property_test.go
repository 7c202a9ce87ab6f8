package breaker_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
)

var seedsFlag = flag.Uint64("seeds", 32, "how many storms to go through; a quarter of it with the race detector")

func seeds() uint64 {
	if raceDetector {
		return *seedsFlag / 4
	}
	return *seedsFlag
}

// A storm runs real Breakers of several environments, whose clocks differ by up to ten seconds, over one store. Destinations fail and recover,
// workers die in the middle of a batch, deliveries of dead workers turn up elsewhere, copies too; reads of all rows are a second behind; answers are lost.
//
// Whatever happens:
//
//   - no delivery is named the probe while a worker is alive that may be making the attempt of another one;
//   - a breaker opens only if within a minute at least nearly 70 % have failed, or nothing has succeeded just now;
//   - what is held is told as an attempt saved;
//   - once the destination lives, its breaker is closed within the bound.
type storm struct {
	*world
	random    *rand.Rand
	rough     bool // calls fail and answers are lost
	workers   []*worker
	up        bool
	throttles bool          // now and then the destination asks to be left alone
	broken    int           // this worker's network fails; -1: none
	log       []outcome     // of all attempts
	waiting   []delivery.ID // deliveries of workers that died
	past      []snapshot
	held      int
	told      int
	opened    int
}

// shared is a source of randomness for several goroutines.
type shared struct {
	mu     sync.Mutex
	source rand.Source
}

func (s *shared) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.source.Uint64()
}

type outcome struct {
	at time.Time
	ok bool
}

type snapshot struct {
	at   time.Time
	rows map[string]breaker.Row
}

// worker is an environment, and its invocation if it has one.
type worker struct {
	number   int
	skew     time.Duration
	breaker  *breaker.Breaker
	batch    *breaker.Batch
	passed   []passed
	held     int
	answers  time.Time // when its attempts are answered
	deadline time.Time
}

type passed struct {
	id delivery.ID
	breaker.Decision
}

// until is a context with a deadline by the worker's clock. Nothing happens when it has come.
type until struct {
	context.Context
	deadline time.Time
}

func (u until) Deadline() (time.Time, bool) { return u.deadline, true }

const (
	invocation      = time.Minute
	longestThrottle = 20 * time.Second
)

// rough is the store as a worker sees it.
type rough struct {
	*storm
}

func (r rough) fault() (before, after error) {
	if !r.rough {
		return nil, nil
	}
	switch n := r.random.IntN(100); {
	case n < 3:
		return breaker.ErrThrottled, nil
	case n < 6:
		return breaker.ErrUnknown, nil
	case n < 12:
		return nil, breaker.ErrUnknown
	}
	return nil, nil
}

func (r rough) All(ctx context.Context) (map[string]breaker.Row, error) {
	if before, after := r.fault(); before != nil || after != nil {
		return nil, breaker.ErrUnknown
	}
	if n := len(r.past); n > 0 && r.random.IntN(2) == 0 {
		return r.past[r.random.IntN(n)].rows, nil
	}
	return r.store.All(ctx)
}

func (r rough) Get(ctx context.Context, destination string) (breaker.Row, error) {
	if before, after := r.fault(); before != nil || after != nil {
		return breaker.Row{}, breaker.ErrUnknown
	}
	return r.store.Get(ctx, destination)
}

func (r rough) Add(ctx context.Context, destination string, d breaker.Delta) (breaker.Row, error) {
	before, after := r.fault()
	if before != nil {
		return breaker.Row{}, before
	}
	row, err := r.store.Add(ctx, destination, d)
	if after != nil {
		return breaker.Row{}, after
	}
	return row, err
}

func (r rough) Move(ctx context.Context, destination string, was, next breaker.Row) (breaker.Row, error) {
	before, after := r.fault()
	if before != nil {
		return breaker.Row{}, before
	}
	row, err := r.store.Move(ctx, destination, was, next)
	if after != nil {
		return breaker.Row{}, after
	}
	return row, err
}

func newStorm(t *testing.T, seed uint64, isRough bool, environments int) *storm {
	s := &storm{world: newWorld(t), random: rand.New(&shared{source: rand.NewPCG(seed, 1)}), rough: isRough, up: true, broken: -1}
	s.store.OnMove = func(_ string, was, next breaker.Row) { s.check(was, next) }
	for i := range environments {
		w := &worker{number: i, skew: time.Duration(s.random.IntN(10_001)-5000) * time.Millisecond}
		s.renew(w)
		s.workers = append(s.workers, w)
	}
	return s
}

// renew gives a worker an environment that knows nothing.
func (s *storm) renew(w *worker) {
	w.breaker, w.batch, w.passed = s.over(rough{s}, w.skew, s.random.Float64), nil, nil
}

// check looks at every move as it is made.
func (s *storm) check(was, next breaker.Row) {
	switch {
	case next.Phase == breaker.Probing:
		for _, w := range s.workers {
			for _, p := range w.passed {
				if p.Probe && p.id != next.Probe && s.now.Before(w.deadline) {
					s.t.Fatalf("%v: %s is named while worker %d is trying %s: %+v, %+v", s.now.Sub(noon), next.Probe, w.number, p.id, was, next)
				}
			}
		}
	case was.Phase == breaker.Closed && next.Phase == breaker.Open:
		s.opened++
		if !s.rough && !s.justified() {
			s.t.Fatalf("%v: opens without a reason: %+v", s.now.Sub(noon), was)
		}
	}
}

// justified says whether the attempts that were really made give a reason to open, give or take what the clocks differ by.
func (s *storm) justified() bool {
	row, quiet := 0, true
	for _, o := range slices.Backward(s.log) {
		if o.ok {
			quiet = s.now.Sub(o.at) >= 3*time.Second
			break
		}
		row++
	}
	if row >= 10 && quiet {
		return true
	}
	for end := time.Duration(0); end <= 12*time.Second; end += time.Second {
		failed, all := 0, 0
		for _, o := range slices.Backward(s.log) {
			if ago := s.now.Sub(o.at) - end; ago < 0 {
				continue
			} else if ago > 75*time.Second {
				break
			}
			if all++; !o.ok {
				failed++
			}
			if all >= 10 && failed*100 >= 65*all {
				return true
			}
		}
	}
	return false
}

// step lets a quarter of a second pass.
func (s *storm) step(begins, dies float64) {
	s.pass(250 * time.Millisecond)
	s.past = append(slices.DeleteFunc(s.past, func(p snapshot) bool { return s.now.Sub(p.at) > time.Second }), s.snapshot())
	for _, w := range s.workers {
		switch {
		case w.batch == nil:
			if s.random.Float64() < begins {
				s.begin(w)
			}
		case s.random.Float64() < dies || !s.now.Before(w.deadline):
			for _, p := range w.passed {
				s.waiting = append(s.waiting, p.id)
			}
			s.renew(w)
		case !s.now.Before(w.answers):
			s.end(w)
		}
	}
}

func (s *storm) snapshot() snapshot {
	rows, err := s.store.All(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	return snapshot{s.now, rows}
}

func (s *storm) begin(w *worker) {
	w.batch, w.deadline, w.held = w.breaker.Begin(), s.now.Add(invocation), 0
	w.answers = s.now.Add(time.Duration(s.random.IntN(2000)) * time.Millisecond)
	if !s.up && s.random.IntN(3) == 0 {
		w.answers = s.now.Add(time.Duration(s.random.IntN(55)) * time.Second) // it hangs
	}
	for range 1 + s.random.IntN(10) {
		id := s.id()
		if n := len(s.waiting); n > 0 && s.random.IntN(3) > 0 {
			id = s.waiting[n-1]
			if s.random.IntN(5) > 0 { // else a copy stays
				s.waiting = s.waiting[:n-1]
			}
		}
		d := w.batch.Gate(until{context.Background(), w.deadline.Add(w.skew)}, "crm", id)
		if d.Pass {
			w.passed = append(w.passed, passed{id, d})
			continue
		}
		w.held++
	}
}

func (s *storm) end(w *worker) {
	for _, p := range w.passed {
		switch {
		case p.Probe && s.elsewhere(w, p.id): // its claim is busy
			w.batch.Leave("crm", p.Decision)
			continue
		case s.random.IntN(50) == 0:
			w.batch.Record("crm", p.Decision, downstream.NotStarted, 0)
			continue
		}
		verdict, after := s.answer(s.up && w.number != s.broken)
		w.batch.Record("crm", p.Decision, verdict, after)
	}
	w.passed = nil // the attempts are over
	r, _ := w.batch.End(context.Background())
	s.told, s.held = s.told+r.Held+r.Throttled, s.held+w.held
	w.batch = nil
}

// answer is that of a destination, which is noted.
func (s *storm) answer(ok bool) (downstream.Verdict, time.Duration) {
	s.log = append(s.log, outcome{s.now, ok})
	if ok {
		return downstream.Delivered, 0
	}
	if s.throttles && s.random.IntN(50) == 0 {
		return downstream.Throttle, longestThrottle
	}
	return downstream.Retry, 0
}

func (s *storm) elsewhere(me *worker, id delivery.ID) bool {
	return slices.ContainsFunc(s.workers, func(w *worker) bool {
		return w != me && slices.ContainsFunc(w.passed, func(p passed) bool { return p.id == id })
	})
}

// calm lets everything heal and says how long the breaker takes to close.
func (s *storm) calm() time.Duration {
	s.rough, s.up, s.broken = false, true, -1
	from := s.now
	for s.store.Row("crm").Phase != breaker.Closed && s.now.Sub(from) < time.Hour {
		s.step(0.2, 0)
	}
	return s.now.Sub(from)
}

func TestStorms(t *testing.T) {
	worst, opened, held := time.Duration(0), 0, 0
	for seed := range seeds() {
		s := newStorm(t, seed, seed%2 == 1, 2+int(seed%5))
		s.throttles = true
		for range 6 {
			s.up, s.broken = s.random.IntN(2) == 0, s.random.IntN(2*len(s.workers))
			begins, dies := s.random.Float64(), s.random.Float64()*0.02
			for range s.random.IntN(1200) {
				s.step(begins, dies)
			}
			if t.Failed() {
				return
			}
		}
		took := s.calm()
		// A delivery is there within a few seconds, and is answered within two; the one under way when it calms down may hang for nearly a minute.
		if bound := breaker.DefaultRules().BoundedBy() + invocation + longestThrottle + 10*time.Second; took > bound {
			t.Fatalf("seed %d: closed %v after recovery, at most %v: %+v", seed, took, bound, s.store.Row("crm"))
		}
		worst, opened, held = max(worst, took), opened+s.opened, held+s.held
		if s.told != s.held {
			t.Fatalf("seed %d: %d held, %d told", seed, s.held, s.told)
		}
	}
	t.Logf("%d openings, %d attempts saved, closed at most %v after recovery", opened, held, worst)
	if opened < int(seeds())/2 || held == 0 {
		t.Errorf("%d openings and %d held deliveries in %d storms: they show too little", opened, held, seeds())
	}
}

// TestBelowTheThreshold mixes environments whose attempts fail with different odds: less than 70 % of all, although some see nothing but failures.
func TestBelowTheThreshold(t *testing.T) {
	for seed := range seeds() / 4 {
		s := newStorm(t, seed, false, 8)
		odds := make([]float64, 8)
		for i := range odds {
			odds[i] = []float64{1, 0.9, 0.5, 0.3, 0, 0.6, 0.2, 0.5}[(i+int(seed))%8] // half of all
		}
		for range 4 * 300 {
			s.step(0, 0)
			for i, w := range s.workers {
				if s.random.IntN(4) > 0 {
					continue
				}
				s.world.batch(w.breaker, 5, func() (downstream.Verdict, time.Duration) {
					return s.answer(s.random.Float64() >= odds[i])
				})
			}
		}
		if row := s.store.Row("crm"); row.Turn > 0 {
			t.Fatalf("seed %d: opened: %+v", seed, row)
		}
	}
}

// TestAboveTheThreshold is the other side: 85 % fail everywhere.
func TestAboveTheThreshold(t *testing.T) {
	for seed := range seeds() / 4 {
		s := newStorm(t, seed, false, 1+int(seed%8))
		begin := s.now
		for s.store.Row("crm").Phase == breaker.Closed && s.now.Sub(begin) < 5*time.Minute {
			s.step(0, 0)
			for _, w := range s.workers {
				s.world.batch(w.breaker, 5, func() (downstream.Verdict, time.Duration) {
					return s.answer(s.random.IntN(100) >= 85)
				})
			}
		}
		if took := s.now.Sub(begin); took > 20*time.Second {
			t.Fatalf("seed %d: open after %v", seed, took)
		}
	}
}
