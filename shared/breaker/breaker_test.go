package breaker_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/breaker/breakertest"
	"github.com/waybillhq/waybill/shared/downstream"
)

func TestHealthyDestinationsWriteNothing(t *testing.T) {
	w := newWorld(t)
	b := w.environment(0)
	for range 600 {
		w.batch(b, 10, always(downstream.Delivered))
		w.pass(time.Second)
	}
	if reads, writes := w.store.Calls(); writes != 0 || reads != 120 {
		t.Errorf("%d reads and %d writes in ten minutes", reads, writes)
	}
}

// TestVerdicts lets a destination answer the same for two minutes.
func TestVerdicts(t *testing.T) {
	for verdict, opens := range map[downstream.Verdict]bool{
		downstream.Retry: true, downstream.Throttle: true,
		downstream.Delivered: false, downstream.Reject: false, downstream.Gone: false, downstream.NotStarted: false,
	} {
		w := newWorld(t)
		b := w.environment(0)
		for range 60 {
			w.batch(b, 1, always(verdict))
			w.pass(2 * time.Second)
		}
		if got := w.store.Row("crm").Turn > 0; got != opens {
			t.Errorf("%v: opened is %v", verdict, got)
		}
		if _, writes := w.store.Calls(); !opens && writes > 0 {
			t.Errorf("%v: %d writes", verdict, writes)
		}
	}
}

// TestFewFailuresAreEnough counts the attempts that a destination costs which is down, as a single environment sees it.
func TestFewFailuresAreEnough(t *testing.T) {
	w := newWorld(t)
	b := w.environment(0)
	attempts := 0
	for w.store.Row("crm").Phase == breaker.Closed && attempts < 1000 {
		w.batch(b, 1, func() (downstream.Verdict, time.Duration) { attempts++; return downstream.Retry, 0 })
		w.pass(time.Second)
	}
	if attempts > 13 {
		t.Errorf("%d attempts at one a second, want 5 to know of trouble and 7 seconds of notice", attempts)
	}
	if r := w.batch(b, 10, always(downstream.Retry)); r.Held != 10 {
		t.Errorf("%+v", r)
	}
}

func TestFailuresAcrossEnvironments(t *testing.T) {
	w := newWorld(t)
	var all []*breaker.Breaker
	for range 10 {
		all = append(all, w.environment(0))
	}
	attempts := 0
	for i := 0; attempts < 40; i++ { // none of them sees ten failures before the breaker opens
		r := w.batch(all[i%10], 1, func() (downstream.Verdict, time.Duration) { attempts++; return downstream.Retry, 0 })
		if r.Opened > 0 {
			break
		}
		w.pass(time.Second)
	}
	w.phase(breaker.Open)
	if attempts > 25 {
		t.Errorf("%d attempts", attempts)
	}
	w.pass(5 * time.Second)
	for i, b := range all {
		if d := w.gate(b, w.id()); d.Pass || d.Kind != breaker.KindOpen || d.Delay != 0 {
			t.Errorf("environment %d: %+v", i, d)
		}
	}
}

// A destination with an attempt a minute opens too, also when every attempt is made where nothing is remembered.
func TestRareAttempts(t *testing.T) {
	for name, next := range map[string]func(w *world, b *breaker.Breaker) *breaker.Breaker{
		"one environment":    func(_ *world, b *breaker.Breaker) *breaker.Breaker { return b },
		"always another one": func(w *world, _ *breaker.Breaker) *breaker.Breaker { return w.environment(0) },
	} {
		w := newWorld(t)
		b := w.environment(0)
		for range 10 {
			w.phase(breaker.Closed)
			w.pass(time.Minute)
			b = next(w, b)
			w.batch(b, 1, always(downstream.Retry))
		}
		if row := w.store.Row("crm"); row.Phase != breaker.Open {
			t.Errorf("%s: %+v", name, row)
		}
	}
}

// One environment with a broken network must not close a destination that lives for all others, whoever writes when.
func TestOneBrokenEnvironmentClosesNothing(t *testing.T) {
	for _, healthy := range []int{1, 3, 20} {
		w := newWorld(t)
		broken := w.environment(0)
		var all []*breaker.Breaker
		for range healthy {
			all = append(all, w.environment(0))
		}
		for range 60 { // nothing is written so far
			for _, b := range all {
				w.batch(b, 10, always(downstream.Delivered))
			}
			w.pass(time.Second)
		}
		for i := range 600 {
			w.batch(broken, 10, always(downstream.Retry))
			for _, b := range all {
				w.batch(b, 10, always(downstream.Delivered))
			}
			w.pass(time.Second)
			if row := w.store.Row("crm"); row.Turn > 0 {
				t.Fatalf("%d healthy: opened after %d seconds: %+v", healthy, i, row)
			}
		}
	}
}

func TestProbe(t *testing.T) {
	w := newWorld(t)
	b, other := w.environment(0), w.environment(0)
	w.breakDown(b)
	w.pass(29 * time.Second)
	if d := w.gate(other, "early"); d.Pass || !d.Until.Equal(w.now.Add(time.Second)) {
		t.Fatalf("before its time: %+v", d)
	}
	w.pass(time.Second)
	batch := b.Begin()
	first, second := batch.Gate(t.Context(), "crm", "first"), batch.Gate(t.Context(), "crm", "second")
	if !first.Pass || !first.Probe || second.Pass || second.Kind != breaker.KindOpen {
		t.Fatalf("first %+v, second %+v", first, second)
	}
	if d := w.gate(other, "third"); d.Pass {
		t.Fatalf("elsewhere: %+v", d)
	}
	batch.Record("crm", first, downstream.Retry, 0)
	r, err := batch.End(t.Context())
	if err != nil || r.Probes != 1 || r.Held != 1 || r.Opened != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	w.phase(breaker.Open)
	w.pass(59 * time.Second)
	if d := w.gate(b, "fourth"); d.Pass {
		t.Errorf("before the doubled time: %+v", d)
	}
	w.pass(time.Second)
	if r := w.batch(other, 5, always(downstream.Delivered)); r.Probes != 1 || r.Held != 4 || r.Recovered != 1 {
		t.Errorf("%+v", r)
	}
	w.phase(breaker.Closed)
	w.pass(5 * time.Second)
	if r := w.batch(b, 5, always(downstream.Delivered)); r != (breaker.Report{}) {
		t.Errorf("recovered: %+v", r)
	}
	if may, most := b.Permit(t.Context(), "crm"); !may || most != 10 {
		t.Errorf("permit %v, %d", may, most)
	}
}

// A probe that is sent on before its attempt passes wherever it turns up, whatever is remembered there.
func TestProbePassesEverywhere(t *testing.T) {
	for name, remember := range map[string]func(w *world, b *breaker.Breaker){
		"nothing":                 func(*world, *breaker.Breaker) {},
		"open, its time not come": func(w *world, b *breaker.Breaker) { w.gate(b, w.id()) },
		"open, as its clock says": func(w *world, b *breaker.Breaker) {
			w.pass(29 * time.Second)
			w.gate(b, w.id())
			w.pass(-29 * time.Second)
		},
	} {
		for _, skew := range []time.Duration{-5 * time.Second, 0, 5 * time.Second} {
			w := newWorld(t)
			b, other := w.environment(5*time.Second), w.environment(skew)
			w.breakDown(b)
			remember(w, other)
			w.pass(30 * time.Second)
			if d := w.gate(b, "p"); !d.Probe {
				t.Fatalf("%s: %+v", name, d)
			}
			w.pass(time.Second)
			if d := w.gate(other, "p"); !d.Pass || !d.Probe {
				t.Errorf("%s, skew %v: %+v", name, skew, d)
			}
			if d := w.gate(other, "q"); d.Pass {
				t.Errorf("%s, skew %v: another passes: %+v", name, skew, d)
			}
		}
	}
	// Released by one, named by another, while a third remembers the first.
	w := newWorld(t)
	one, two, three := w.environment(0), w.environment(0), w.environment(0)
	w.breakDown(one)
	w.pass(30 * time.Second)
	batch := one.Begin()
	batch.Gate(t.Context(), "crm", "p")
	w.gate(three, w.id())
	if _, err := batch.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	if d := w.gate(two, "q"); !d.Probe {
		t.Fatalf("%+v", d)
	}
	if d := w.gate(three, "q"); !d.Probe {
		t.Errorf("remembers another probe: %+v", d)
	}
}

func TestProbeThatDied(t *testing.T) {
	w := newWorld(t)
	b := w.environment(0)
	w.breakDown(b)
	w.pass(30 * time.Second)
	if d := w.gate(b, "dies"); !d.Probe {
		t.Fatalf("%+v", d)
	}
	w.pass(69 * time.Second)
	if d := w.gate(b, "next"); d.Pass {
		t.Fatalf("too early: %+v", d)
	}
	w.pass(time.Second)
	if d := w.gate(b, "next"); !d.Probe {
		t.Errorf("%+v", d)
	}
}

// A probe that turns up again shortly before its time is over gets the time of the invocation in which it is tried.
func TestProbeThatTurnsUpLate(t *testing.T) {
	w := newWorld(t)
	b, other := w.environment(0), w.environment(0)
	w.breakDown(b)
	w.pass(30 * time.Second)
	invoked := func() context.Context { return until{t.Context(), w.now.Add(time.Minute)} }
	b.Begin().Gate(invoked(), "crm", "p") // and dies
	w.pass(69 * time.Second)
	batch := other.Begin()
	d := batch.Gate(invoked(), "crm", "p")
	if !d.Probe {
		t.Fatalf("%+v", d)
	}
	w.pass(59 * time.Second)
	if d := b.Begin().Gate(invoked(), "crm", "q"); d.Pass {
		t.Fatalf("another passes while it is tried: %+v", d)
	}
	batch.Record("crm", d, downstream.Delivered, 0)
	if r, err := batch.End(t.Context()); err != nil || r.Recovered != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// The result of a probe counts also when a copy of it was named meanwhile.
func TestProbeThatWasNamedAgain(t *testing.T) {
	for verdict, want := range map[downstream.Verdict]breaker.Phase{
		downstream.Delivered: breaker.Closed, downstream.Retry: breaker.Open, downstream.NotStarted: breaker.Probing,
	} {
		w := newWorld(t)
		b, other := w.environment(0), w.environment(0)
		w.breakDown(b)
		w.pass(30 * time.Second)
		batch, copied := b.Begin(), other.Begin()
		d := batch.Gate(t.Context(), "crm", "p")
		w.pass(2 * time.Second)
		copied.Leave("crm", copied.Gate(t.Context(), "crm", "p"))
		batch.Record("crm", d, verdict, 0)
		for _, in := range []*breaker.Batch{batch, copied} {
			if _, err := in.End(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if row := w.store.Row("crm"); row.Phase != want {
			t.Errorf("%v: %+v", verdict, row)
		}
	}
}

// An environment says what it has seen also when it makes no attempts at the destination any more, as long as it works at all.
func TestWitnessesThatAreHeld(t *testing.T) {
	w := newWorld(t)
	broken, witness := w.environment(0), w.environment(0)
	w.batch(witness, 100, always(downstream.Delivered))
	for range 9 {
		w.pass(time.Second)
		w.batch(broken, 2, func() (downstream.Verdict, time.Duration) {
			if w.ids%20 == 0 { // now and then it gets through
				return downstream.Delivered, 0
			}
			return downstream.Retry, 0
		})
		if _, err := witness.Begin().End(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if c := breaker.DefaultRules().Counted(w.store.Row("crm"), w.now); c.Successes < 100 || c.Failures < 10 {
		t.Errorf("%+v", c)
	}
}

// Trouble that was over for a moment, while an environment was not looking, must be known for its time again: others have stopped writing successes.
func TestInterruptedTrouble(t *testing.T) {
	w := newWorld(t)
	broken, healthy := w.environment(0), w.environment(0)
	w.batch(broken, 6, always(downstream.Retry))
	w.pass(4900 * time.Millisecond)
	w.batch(broken, 0, nil)
	w.pass(100 * time.Millisecond)
	w.batch(broken, 0, nil)
	w.batch(healthy, 20, always(downstream.Delivered))
	for range 25 {
		w.pass(100 * time.Millisecond)
		w.batch(healthy, 2, always(downstream.Delivered))
	}
	w.batch(broken, 60, always(downstream.Retry))
	w.phase(breaker.Closed)
	if row := w.store.Row("crm"); row.Streak != 60 {
		t.Errorf("it shows nothing: %+v", row)
	}
}

// TestOutageAfterTrouble: who has waited for successes itself opens at once, whatever clocks may differ by.
func TestOutageAfterTrouble(t *testing.T) {
	w := newWorld(t)
	b, n := w.environment(0), 0
	for range 30 {
		w.batch(b, 10, func() (downstream.Verdict, time.Duration) {
			if n++; n%2 == 0 {
				return downstream.Delivered, 0
			}
			return downstream.Retry, 0
		})
		w.pass(time.Second)
	}
	w.phase(breaker.Closed)
	for range 6 {
		w.batch(b, 10, always(downstream.Retry))
		w.pass(time.Second)
	}
	w.phase(breaker.Open)
}

// What an environment knew before it slept is no reason to open.
func TestSleepForgetsWhatWasKnown(t *testing.T) {
	w := newWorld(t)
	sleeper, healthy, other := w.environment(0), w.environment(0), w.environment(0)
	w.batch(sleeper, 5, always(downstream.Retry))
	for range 300 {
		w.batch(healthy, 20, always(downstream.Delivered))
		w.pass(time.Second)
	}
	w.batch(other, 5, always(downstream.Retry))
	w.batch(sleeper, 10, always(downstream.Retry))
	w.phase(breaker.Closed)
	for range 20 {
		w.pass(time.Second)
		w.batch(healthy, 20, always(downstream.Delivered))
		w.batch(sleeper, 10, always(downstream.Retry))
	}
	w.phase(breaker.Closed)
}

// A reading that is behind does not undo what this environment has seen.
func TestReadingBehind(t *testing.T) {
	w := newWorld(t)
	store := &behind{Store: w.store}
	b := w.over(store, 0, func() float64 { return 0.5 })
	w.breakDown(b)
	store.rows = map[string]breaker.Row{"crm": {Streak: 10, At: w.now}}
	for range 2 {
		w.pass(6 * time.Second)
		if may, _ := b.Permit(t.Context(), "crm"); may {
			t.Error("parked deliveries may go")
		}
		if d := w.gate(b, w.id()); d.Pass {
			t.Errorf("%+v", d)
		}
		store.rows = map[string]breaker.Row{}
	}
}

// behind reads all rows as they were.
type behind struct {
	breaker.Store
	rows map[string]breaker.Row
}

func (b *behind) All(ctx context.Context) (map[string]breaker.Row, error) {
	if b.rows != nil {
		return b.rows, nil
	}
	return b.Store.All(ctx)
}

func TestProbeThatWasNotTried(t *testing.T) {
	for name, end := range map[string]func(*breaker.Batch, breaker.Decision){
		"nothing is said": func(*breaker.Batch, breaker.Decision) {},
		"not started":     func(b *breaker.Batch, d breaker.Decision) { b.Record("crm", d, downstream.NotStarted, 0) },
		"gone":            func(b *breaker.Batch, d breaker.Decision) { b.Record("crm", d, downstream.Gone, 0) },
	} {
		w := newWorld(t)
		b := w.environment(0)
		w.breakDown(b)
		w.pass(30 * time.Second)
		batch := b.Begin()
		end(batch, batch.Gate(t.Context(), "crm", w.id()))
		if r, err := batch.End(t.Context()); err != nil || r.Opened != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if r := w.batch(b, 1, always(downstream.Delivered)); r.Recovered != 1 {
			t.Errorf("%s: the next one is not the probe at once: %+v", name, r)
		}
	}
}

// A copy of the probe finds its claim busy: whoever holds it is still trying.
func TestProbeThatIsLeftToOthers(t *testing.T) {
	w := newWorld(t)
	b, other := w.environment(0), w.environment(0)
	w.breakDown(b)
	w.pass(30 * time.Second)
	mine, theirs := b.Begin(), other.Begin()
	d := mine.Gate(t.Context(), "crm", "p")
	copied := theirs.Gate(t.Context(), "crm", "p")
	mine.Leave("crm", d)
	if _, err := mine.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.phase(breaker.Probing)
	theirs.Record("crm", copied, downstream.Delivered, 0)
	if r, err := theirs.End(t.Context()); err != nil || r.Recovered != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAnswerToProbeLost(t *testing.T) {
	w := newWorld(t)
	b := w.environment(0)
	w.breakDown(b)
	w.pass(30 * time.Second)
	losing := &losing{Store: w.store, lose: 1}
	b = w.over(losing, 0, func() float64 { return 0.5 })
	batch := b.Begin()
	d := batch.Gate(t.Context(), "crm", "p")
	if !d.Probe || w.store.Row("crm").Probe != "p" {
		t.Fatalf("%+v", d)
	}
	if _, err := batch.End(t.Context()); err != nil { // it is known to be its own, and given up
		t.Fatal(err)
	}
	w.phase(breaker.Open)
	batch = b.Begin()
	batch.Record("crm", batch.Gate(t.Context(), "crm", "q"), downstream.Delivered, 0)
	losing.lose = 1
	if err := batch.Flush(t.Context()); !errors.Is(err, breaker.ErrUnknown) {
		t.Errorf("flush: %v", err)
	}
	if _, err := batch.End(t.Context()); err != nil {
		t.Errorf("end: %v", err)
	}
	w.phase(breaker.Closed)
}

// losing loses the answers of the next moves.
type losing struct {
	breaker.Store
	lose int
}

func (l *losing) Move(ctx context.Context, destination string, was, next breaker.Row) (breaker.Row, error) {
	row, err := l.Store.Move(ctx, destination, was, next)
	if l.lose > 0 {
		l.lose--
		return breaker.Row{}, breaker.ErrUnknown
	}
	return row, err
}

// The breaker is never a reason not to deliver.
func TestUnreachableStorePasses(t *testing.T) {
	for _, kind := range []breakertest.FaultKind{breakertest.Throttled, breakertest.Broken, breakertest.AnswerLost} {
		w := newWorld(t)
		b, fresh := w.environment(0), w.environment(0)
		w.breakDown(b)
		heal := w.store.Inject(kind)
		if d := w.gate(fresh, w.id()); !d.Pass || d.Probe {
			t.Errorf("%s, nothing known: %+v", kind, d)
		}
		if may, most := fresh.Permit(t.Context(), "crm"); !may || most != 10 {
			t.Errorf("%s, nothing known: permit %v, %d", kind, may, most)
		}
		if r, err := w.try(b, 3, always(downstream.Retry)); r.Held != 3 || err != nil {
			t.Errorf("%s, known to be open: %+v, %v", kind, r, err)
		}
		w.pass(30 * time.Second)
		r, _ := w.try(b, 3, always(downstream.Retry))
		if r.Blind != 3 && kind != breakertest.AnswerLost || r.Blind+r.Held != 3 || r.Failed == 0 {
			t.Errorf("%s, a probe is due: %+v", kind, r)
		}
		reads, writes := w.store.Calls()
		_, _ = w.try(b, 100, always(downstream.Retry))
		if r, n := w.store.Calls(); r+n-reads-writes > 0 {
			t.Errorf("%s: %d calls of a store that has just failed", kind, r+n-reads-writes)
		}
		heal()
		w.pass(75 * time.Second)
		if r := w.batch(b, 3, always(downstream.Delivered)); r.Recovered != 1 {
			t.Errorf("%s: afterwards %+v: %+v", kind, r, w.store.Row("crm"))
		}
	}
}

func TestThrottle(t *testing.T) {
	w := newWorld(t)
	b, other := w.environment(0), w.environment(0)
	w.batch(other, 1, always(downstream.Delivered))
	asked := func() (downstream.Verdict, time.Duration) { return downstream.Throttle, time.Minute }
	w.batch(b, 1, asked)
	until := w.now.Add(time.Minute)
	if d := w.gate(b, w.id()); d.Pass || d.Kind != breaker.KindThrottled || !d.Until.Equal(until) || d.Delay != 90*time.Second {
		t.Errorf("where it was heard: %+v", d)
	}
	w.pass(5 * time.Second)
	if d := w.gate(other, w.id()); d.Pass || !d.Until.Equal(until) || d.Delay != 85*time.Second {
		t.Errorf("elsewhere: %+v", d)
	}
	if may, _ := other.Permit(t.Context(), "crm"); may {
		t.Error("parked deliveries may go")
	}
	if r := w.batch(other, 4, asked); r.Throttled != 4 || r.Held != 0 {
		t.Errorf("%+v", r)
	}
	w.pass(55 * time.Second)
	for _, e := range []*breaker.Breaker{b, other} {
		if d := w.gate(e, w.id()); !d.Pass || d.Probe {
			t.Errorf("afterwards: %+v", d)
		}
	}
	w.batch(b, 1, func() (downstream.Verdict, time.Duration) { return downstream.Throttle, 5 * time.Hour })
	if d := w.gate(b, w.id()); d.Pass || d.Delay != 0 || !d.Until.Equal(w.now.Add(5*time.Hour)) {
		t.Errorf("a long one: %+v", d)
	}
	if row := w.store.Row("crm"); !row.ThrottledUntil.Equal(w.now.Add(5*time.Hour)) || row.Streak != 2 {
		t.Errorf("row %+v", row)
	}
}

// Of two throttles that are heard at once the longer one stays, and the failures of both are counted.
func TestLongerThrottleStays(t *testing.T) {
	w := newWorld(t)
	b, other := w.environment(0), w.environment(0)
	long, short := b.Begin(), other.Begin()
	d, e := long.Gate(t.Context(), "crm", "a"), short.Gate(t.Context(), "crm", "b")
	long.Record("crm", d, downstream.Throttle, time.Hour)
	short.Record("crm", e, downstream.Throttle, time.Minute)
	for _, batch := range []*breaker.Batch{long, short} {
		if _, err := batch.End(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if row := w.store.Row("crm"); !row.ThrottledUntil.Equal(w.now.Add(time.Hour)) || row.Streak != 2 {
		t.Errorf("%+v", row)
	}
	if d := w.gate(other, "c"); !d.Until.Equal(w.now.Add(time.Hour)) {
		t.Errorf("%+v", d)
	}
}

// TestTroubleCosts holds the figures in README.md.
func TestTroubleCosts(t *testing.T) {
	for name, test := range map[string]struct {
		failsEvery int
		writes     int
	}{
		"1 of 2 fails":    {2, 600},
		"1 of 100 fails":  {100, 60},
		"1 of 1000 fails": {1000, 6},
	} {
		w := newWorld(t)
		b, n := w.environment(0), 0
		for range 600 {
			w.batch(b, 10, func() (downstream.Verdict, time.Duration) {
				if n++; n%test.failsEvery == 0 {
					return downstream.Retry, 0
				}
				return downstream.Delivered, 0
			})
			w.pass(time.Second)
		}
		if _, writes := w.store.Calls(); writes != test.writes || w.store.Row("crm").Turn != 0 {
			t.Errorf("%s: %d writes in 600 batches", name, writes)
		}
	}
}

// However many batches a second an environment works on, it writes once.
func TestWritesAreCollected(t *testing.T) {
	w := newWorld(t)
	b := w.environment(0)
	answers := 0
	for range 100 {
		w.batch(b, 2, func() (downstream.Verdict, time.Duration) {
			if answers++; answers%2 == 0 {
				return downstream.Delivered, 0
			}
			return downstream.Retry, 0
		})
		w.pass(100 * time.Millisecond)
	}
	w.pass(time.Second)
	w.batch(b, 1, always(downstream.Retry))
	sum := breaker.Count{}
	for _, c := range w.store.Row("crm").Slots {
		sum.Successes += c.Successes
		sum.Failures += c.Failures
	}
	if _, writes := w.store.Calls(); writes != 11 || sum.Successes+sum.Failures != 201 {
		t.Errorf("%d writes in ten seconds, %+v counted in %+v", writes, sum, w.store.Row("crm"))
	}
}

// What DynamoDB has not taken is written later; what it may have taken is not written again.
func TestCountsThatFail(t *testing.T) {
	for kind, want := range map[breakertest.FaultKind]int{breakertest.Throttled: 5, breakertest.Broken: 2, breakertest.AnswerLost: 5} {
		w := newWorld(t)
		b := w.environment(0)
		w.batch(b, 1, always(downstream.Delivered)) // reads
		heal := w.store.Inject(kind)
		if r, err := w.try(b, 3, always(downstream.Retry)); err == nil || r.Failed != 1 {
			t.Errorf("%s: %+v, %v", kind, r, err)
		}
		heal()
		w.pass(5 * time.Second)
		w.batch(b, 2, always(downstream.Retry))
		row := w.store.Row("crm")
		failures := 0
		for _, c := range row.Slots {
			failures += c.Failures
		}
		if row.Streak != want || failures != want {
			t.Errorf("%s: %d in a row, %d failures, want %d", kind, row.Streak, failures, want)
		}
	}
}

// Attempts that began before the breaker opened say nothing about a destination that has recovered since.
func TestStragglersDoNotCount(t *testing.T) {
	w := newWorld(t)
	b := w.environment(0)
	slow := b.Begin()
	var begun []breaker.Decision
	for range 50 {
		begun = append(begun, slow.Gate(t.Context(), "crm", w.id()))
	}
	w.breakDown(b)
	w.pass(30 * time.Second)
	w.batch(b, 1, always(downstream.Delivered))
	w.phase(breaker.Closed)
	w.pass(10 * time.Second)
	w.batch(b, 1, always(downstream.Delivered))
	for _, d := range begun {
		slow.Record("crm", d, downstream.Retry, 0)
	}
	if _, err := slow.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	w.batch(b, 1, always(downstream.Delivered))
	if row := w.store.Row("crm"); row.Phase != breaker.Closed || breaker.DefaultRules().Counted(row, w.now).Failures > 0 {
		t.Errorf("%+v", row)
	}
}

func TestQuietRowsAreReset(t *testing.T) {
	w := newWorld(t)
	b := w.environment(0)
	w.breakDown(b)
	w.pass(30 * time.Second)
	w.batch(b, 1, always(downstream.Delivered))
	for range 30 {
		w.pass(time.Minute)
		w.batch(b, 10, always(downstream.Delivered))
	}
	row := w.store.Row("crm")
	if row.Turn != 4 || !row.Same(breaker.Row{Turn: 4}) || row.Slots != nil || row.Streak != 0 {
		t.Errorf("%+v", row)
	}
	_, before := w.store.Calls()
	for range 60 {
		w.pass(time.Minute)
		w.batch(b, 10, always(downstream.Delivered))
	}
	if _, writes := w.store.Calls(); writes != before {
		t.Errorf("%d writes for a healthy destination", writes-before)
	}
	w.breakDown(b) // what was reset opens as before
}

// TestManyAtOnce is for the race detector: batches of one environment side by side.
func TestManyAtOnce(t *testing.T) {
	b, err := breaker.New(breaker.Config{
		Store: breakertest.NewMemory(), MaxAge: time.Millisecond, Recheck: time.Microsecond, WriteEvery: time.Microsecond,
		Rules: breaker.Rules{Notice: 2 * time.Millisecond, OpenFor: time.Millisecond, Window: 120 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var sum breaker.Report
	for worker := range 8 {
		wg.Go(func() {
			for i := range 300 {
				batch := b.Begin()
				for _, id := range []string{"crm", "erp"} {
					d := batch.Gate(context.Background(), id, "x")
					verdict := downstream.Retry
					if i%10 > worker {
						verdict = downstream.Delivered
					}
					batch.Record(id, d, verdict, 0)
				}
				r, err := batch.End(context.Background())
				if err != nil {
					t.Error(err)
				}
				b.Permit(context.Background(), "crm")
				mu.Lock()
				sum.Held += r.Held
				sum.Opened += r.Opened
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestSettingsThatAreMissing(t *testing.T) {
	_, err := breaker.New(breaker.Config{Rules: breaker.Rules{Streak: -1, Notice: time.Second}})
	for _, want := range []string{"Store is missing", "Streak is -1", "Notice is not longer"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestChangesAreTold(t *testing.T) {
	w := newWorld(t)
	var changes []breaker.Change
	b, err := breaker.New(breaker.Config{Store: w.store, Now: func() time.Time { return w.now }, OnChange: func(c breaker.Change) { changes = append(changes, c) }})
	if err != nil {
		t.Fatal(err)
	}
	w.breakDown(b)
	w.pass(36 * time.Second)
	w.batch(b, 1, always(downstream.Delivered))
	if len(changes) != 3 || changes[0].To != breaker.Open || changes[1].To != breaker.Probing || changes[1].Probe == "" ||
		changes[2].From != breaker.Probing || changes[2].To != breaker.Closed {
		t.Errorf("%+v", changes)
	}
}
