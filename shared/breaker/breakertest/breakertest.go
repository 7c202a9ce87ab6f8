// Package breakertest is the conformance suite of breaker.Store, and a store in memory that passes it, for the tests of those who use breakers.
package breakertest

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/breaker"
)

// Harness is an empty store and ways to make it fail.
type Harness struct {
	Store breaker.Store
	// Inject makes the store's calls go wrong until heal is called.
	Inject func(FaultKind) (heal func())
}

// FaultKind says how calls go wrong.
type FaultKind string

// The kinds of faults.
const (
	Throttled  FaultKind = "throttled"   // not done, and the answer says so
	Broken     FaultKind = "broken"      // not done, and the answer is an internal error
	AnswerLost FaultKind = "answer lost" // done, without an answer
)

// Run puts the store that open gives through the suite. open is called once for every test and must give an empty store each time.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"an empty store", testEmpty},
		{"counts are added", testAdd},
		{"counts of another turn are refused", testAddRefused},
		{"since when a row is suspect", testSuspect},
		{"of two throttles the later one stays", testThrottle},
		{"a move replaces the row", testMove},
		{"a move on another turn is refused", testMoveRefused},
		{"what is added before a move stays visible", testAddBesideMove},
		{"one of many moves", testMoveConcurrently},
		{"nothing is lost of many additions", testAddConcurrently},
		{"many rows", testMany},
		{"faults", testFaults},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// at is in the middle of a second, to catch rounding.
var at = time.UnixMilli(time.Date(2026, time.November, 3, 4, 5, 6, 789_000_000, time.UTC).UnixMilli())

// slot is of the present, as production numbers slots of 5 seconds.
const slot breaker.Slot = 358_000_000

func full() breaker.Row {
	return breaker.Row{Turn: 1, Phase: breaker.Probing, Until: at.Add(time.Second), Probe: "delivery-1", Trips: 3, RecoveringSince: at.Add(-time.Hour),
		Slots: map[breaker.Slot]breaker.Count{slot: {Successes: 1, Failures: 2}, slot + 1: {Failures: 4}}, Streak: 5, SuspectSince: at.Add(-time.Minute), SucceededAt: at.Add(-2 * time.Minute),
		ThrottledAt: at.Add(time.Minute), ThrottledUntil: at.Add(2 * time.Minute), At: at}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holds checks what all ways of reading give.
func holds(t *testing.T, h Harness, destination string, want breaker.Row) {
	t.Helper()
	got, err := h.Store.Get(t.Context(), destination)
	ok(t, err)
	all, err := h.Store.All(t.Context())
	ok(t, err)
	if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(all[destination], want) {
		t.Fatalf("row of %s:\n get %+v\n all %+v\nwant %+v", destination, got, all[destination], want)
	}
}

func testEmpty(t *testing.T, h Harness) {
	holds(t, h, "crm", breaker.Row{})
	if all, err := h.Store.All(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("all: %v, %v", all, err)
	}
}

func testAdd(t *testing.T, h Harness) {
	add := func(d breaker.Delta, want breaker.Row) {
		t.Helper()
		got, err := h.Store.Add(t.Context(), "crm", d)
		ok(t, err)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("added %+v:\n got %+v\nwant %+v", d, got, want)
		}
		holds(t, h, "crm", want)
	}
	slots := map[breaker.Slot]breaker.Count{slot: {Failures: 2}}
	add(breaker.Delta{Slots: slots, Streak: 2, At: at}, breaker.Row{Slots: slots, Streak: 2, At: at})
	later := at.Add(time.Millisecond)
	add(breaker.Delta{Slots: map[breaker.Slot]breaker.Count{slot: {Successes: 1, Failures: 1}, slot + 3: {Failures: 1}}, Streak: 3, At: later},
		breaker.Row{Slots: map[breaker.Slot]breaker.Count{slot: {Successes: 1, Failures: 3}, slot + 3: {Failures: 1}}, Streak: 5, At: later})
	add(breaker.Delta{Slots: map[breaker.Slot]breaker.Count{slot + 3: {Successes: 9}}, Succeeded: true, Remove: []breaker.Slot{slot, slot + 99}, At: at},
		breaker.Row{Slots: map[breaker.Slot]breaker.Count{slot + 3: {Successes: 9, Failures: 1}}, At: at})
	add(breaker.Delta{Remove: []breaker.Slot{slot + 3}, Streak: 4, Succeeded: true, Young: true, At: at}, breaker.Row{Streak: 4, SucceededAt: at, At: at})
	add(breaker.Delta{Streak: 1, Succeeded: true, At: later}, breaker.Row{Streak: 1, SucceededAt: at, At: later})
	add(breaker.Delta{Succeeded: true, Young: true, At: later}, breaker.Row{SucceededAt: later, At: later})
}

func testAddRefused(t *testing.T, h Harness) {
	for _, turn := range []int64{1, 7} {
		got, err := h.Store.Add(t.Context(), "crm", breaker.Delta{Turn: turn, Streak: 1, At: at})
		if !errors.Is(err, breaker.ErrRefused) || !reflect.DeepEqual(got, breaker.Row{}) {
			t.Errorf("turn %d of none: %+v, %v", turn, got, err)
		}
	}
	holds(t, h, "crm", breaker.Row{})
	_, err := h.Store.Move(t.Context(), "crm", breaker.Row{}, full())
	ok(t, err)
	for _, turn := range []int64{0, 2} {
		got, err := h.Store.Add(t.Context(), "crm", breaker.Delta{Turn: turn, Streak: 1, At: at})
		if !errors.Is(err, breaker.ErrRefused) || !reflect.DeepEqual(got, full()) {
			t.Errorf("turn %d of 1: %+v, %v", turn, got, err)
		}
	}
	holds(t, h, "crm", full())
}

func testSuspect(t *testing.T, h Harness) {
	for i, step := range []struct {
		since  time.Time
		afresh bool
		want   time.Time
	}{
		{},
		{since: at, want: at},
		{since: at.Add(time.Second), want: at},
		{since: at.Add(time.Second), afresh: true, want: at.Add(time.Second)},
		{},
		{since: at, afresh: true, want: at},
	} {
		got, err := h.Store.Add(t.Context(), "crm", breaker.Delta{SuspectSince: step.since, Afresh: step.afresh, At: at})
		ok(t, err)
		if !reflect.DeepEqual(got, breaker.Row{SuspectSince: step.want, At: at}) {
			t.Fatalf("step %d: %+v", i, got)
		}
		holds(t, h, "crm", got)
	}
}

func testThrottle(t *testing.T, h Harness) {
	throttle := func(until time.Time) error {
		_, err := h.Store.Add(t.Context(), "crm", breaker.Delta{Streak: 1, ThrottledAt: until.Add(-time.Minute), ThrottledUntil: until, At: at})
		return err
	}
	ok(t, throttle(at))
	ok(t, throttle(at.Add(time.Millisecond)))
	for _, until := range []time.Time{at, at.Add(time.Millisecond)} {
		if err := throttle(until); !errors.Is(err, breaker.ErrRefused) {
			t.Errorf("until %v: %v, want ErrRefused", until, err)
		}
	}
	holds(t, h, "crm", breaker.Row{Streak: 2, ThrottledAt: at.Add(time.Millisecond - time.Minute), ThrottledUntil: at.Add(time.Millisecond), At: at})
}

func testMove(t *testing.T, h Harness) {
	was := breaker.Row{}
	open := breaker.Row{Turn: 2, Phase: breaker.Open, Until: at.Add(time.Hour), At: at.Add(time.Second)}
	bare := breaker.Row{Turn: 3, At: at}
	for _, next := range []breaker.Row{full(), open, bare} {
		got, err := h.Store.Move(t.Context(), "crm", was, next)
		ok(t, err)
		if !reflect.DeepEqual(got, next) {
			t.Fatalf("moved:\n got %+v\nwant %+v", got, next)
		}
		holds(t, h, "crm", next)
		was = next
	}
}

func testMoveRefused(t *testing.T, h Harness) {
	_, err := h.Store.Move(t.Context(), "crm", breaker.Row{}, full())
	ok(t, err)
	for _, was := range []breaker.Row{{}, {Turn: 2}} {
		got, err := h.Store.Move(t.Context(), "crm", was, breaker.Row{Turn: 9, At: at})
		if !errors.Is(err, breaker.ErrRefused) || !reflect.DeepEqual(got, full()) {
			t.Errorf("on turn %d: %+v, %v", was.Turn, got, err)
		}
	}
	if got, err := h.Store.Move(t.Context(), "erp", breaker.Row{Turn: 1}, breaker.Row{Turn: 2, At: at}); !errors.Is(err, breaker.ErrRefused) || !reflect.DeepEqual(got, breaker.Row{}) {
		t.Errorf("on none: %+v, %v", got, err)
	}
	holds(t, h, "crm", full())
	holds(t, h, "erp", breaker.Row{})
}

// testAddBesideMove adds between somebody's reading and moving: the move must give the row with what it did not know of, so that nobody is misled.
func testAddBesideMove(t *testing.T, h Harness) {
	late := map[breaker.Slot]breaker.Count{slot: {Failures: 1}}
	_, err := h.Store.Add(t.Context(), "crm", breaker.Delta{Slots: late, Streak: 1, At: at})
	ok(t, err)
	next := breaker.Row{Turn: 1, Phase: breaker.Open, Until: at, At: at}
	got, err := h.Store.Move(t.Context(), "crm", breaker.Row{}, next)
	ok(t, err)
	next.Slots = late
	if !reflect.DeepEqual(got, next) {
		t.Errorf("got %+v", got)
	}
	holds(t, h, "crm", next)
}

func testMoveConcurrently(t *testing.T, h Harness) {
	var wg sync.WaitGroup
	won := make([]bool, 12)
	for i := range won {
		wg.Go(func() {
			next := breaker.Row{Turn: 1, Phase: breaker.Probing, Probe: "p", Trips: i, Until: at, At: at}
			got, err := h.Store.Move(t.Context(), "crm", breaker.Row{}, next)
			won[i] = err == nil && got.Same(next)
			if err != nil && !errors.Is(err, breaker.ErrRefused) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	row, err := h.Store.Get(t.Context(), "crm")
	ok(t, err)
	for i, w := range won {
		if w != (row.Trips == i) {
			t.Errorf("%d was told %v, the row is %+v", i, w, row)
		}
	}
}

func testAddConcurrently(t *testing.T, h Harness) {
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			_, err := h.Store.Add(t.Context(), "crm", breaker.Delta{Slots: map[breaker.Slot]breaker.Count{slot: {Successes: 1, Failures: 2}}, Streak: 1, At: at})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	holds(t, h, "crm", breaker.Row{Slots: map[breaker.Slot]breaker.Count{slot: {Successes: 12, Failures: 24}}, Streak: 12, At: at})
}

func testMany(t *testing.T, h Harness) {
	const n = 100
	for i := range n {
		_, err := h.Store.Move(t.Context(), fmt.Sprintf("d-%d", i), breaker.Row{}, breaker.Row{Turn: int64(i + 1), At: at})
		ok(t, err)
	}
	all, err := h.Store.All(t.Context())
	ok(t, err)
	for i := range n {
		if all[fmt.Sprintf("d-%d", i)].Turn != int64(i+1) || len(all) != n {
			t.Fatalf("%d rows; d-%d: %+v", len(all), i, all[fmt.Sprintf("d-%d", i)])
		}
	}
}

// testFaults makes every call go wrong in every way: nothing may be reported that is not so.
func testFaults(t *testing.T, h Harness) {
	row := full()
	_, err := h.Store.Move(t.Context(), "crm", breaker.Row{}, row)
	ok(t, err)
	for _, kind := range []FaultKind{Throttled, Broken, AnswerLost} {
		want := map[FaultKind]error{Throttled: breaker.ErrThrottled, Broken: breaker.ErrUnknown, AnswerLost: breaker.ErrUnknown}[kind]
		next := row
		next.Turn++
		for name, call := range map[string]func() error{
			"all": func() error { _, err := h.Store.All(t.Context()); return err },
			"get": func() error { _, err := h.Store.Get(t.Context(), "crm"); return err },
			"add": func() error {
				_, err := h.Store.Add(t.Context(), "erp", breaker.Delta{Slots: map[breaker.Slot]breaker.Count{slot: {Failures: 1}}, Streak: 1, At: at})
				return err
			},
			"move": func() error { _, err := h.Store.Move(t.Context(), "crm", row, next); return err },
		} {
			heal := h.Inject(kind)
			err := call()
			heal()
			if !errors.Is(err, want) {
				t.Errorf("%s %s: %v, want %v", kind, name, err, want)
			}
		}
		if kind == AnswerLost {
			// Done once, not as often as a driver may have tried.
			holds(t, h, "crm", next)
			holds(t, h, "erp", breaker.Row{Slots: map[breaker.Slot]breaker.Count{slot: {Failures: 1}}, Streak: 1, At: at})
			if got, err := h.Store.Move(t.Context(), "crm", row, next); !errors.Is(err, breaker.ErrRefused) || !got.Same(next) {
				t.Errorf("move again: %+v, %v", got, err)
			}
			continue
		}
		holds(t, h, "crm", row)
		holds(t, h, "erp", breaker.Row{})
	}
}
