package pace_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/pace"
)

// scripted is a store that answers as a test says.
type scripted struct {
	all   func(context.Context) (map[string]pace.Row, error)
	add   func(ctx context.Context, destination string, slot pace.Slot, n int, remove []pace.Slot) (pace.Row, error)
	reads atomic.Int32
}

func (s *scripted) All(ctx context.Context) (map[string]pace.Row, error) {
	s.reads.Add(1)
	if s.all == nil {
		return nil, nil
	}
	return s.all(ctx)
}

func (s *scripted) Add(ctx context.Context, destination string, slot pace.Slot, n int, remove []pace.Slot) (pace.Row, error) {
	if s.add == nil {
		return pace.Row{slot: n}, nil
	}
	return s.add(ctx, destination, slot, n, remove)
}

func open(t *testing.T, cfg pace.Config) *pace.Pace {
	t.Helper()
	p, err := pace.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A store that hangs costs a second of one invocation, and then nobody waits for it until the pause is over. Nobody need listen.
func TestStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{
			all: func(ctx context.Context) (map[string]pace.Row, error) { <-ctx.Done(); return nil, ctx.Err() },
			add: func(ctx context.Context, _ string, _ pace.Slot, _ int, _ []pace.Slot) (pace.Row, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		}
		p := open(t, pace.Config{Store: store, Pause: 20 * time.Second})
		took := func(do func()) time.Duration {
			began := time.Now()
			do()
			return time.Since(began)
		}
		if d := took(func() { p.Slow(t.Context(), "crm") }); d != time.Second {
			t.Errorf("waited %v for a reading", d)
		}
		time.Sleep(19999 * time.Millisecond)
		if d := took(func() { p.Slow(t.Context(), "crm") }); d != 0 || store.reads.Load() != 1 {
			t.Errorf("waited %v within the pause, %d readings", d, store.reads.Load())
		}
		time.Sleep(time.Millisecond)
		p.Slow(t.Context(), "crm")
		if store.reads.Load() != 2 {
			t.Errorf("%d readings after the pause", store.reads.Load())
		}
		if d := took(func() { p.Late(t.Context(), map[string]int{"crm": 1, "erp": 1}) }); d != time.Second {
			t.Errorf("waited %v to tell", d)
		}
	})
}

// While one reads, those who ask first wait for it, as long as they may; later, what is known will do.
func TestOneReadsWhileOthersAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{all: func(context.Context) (map[string]pace.Row, error) {
			time.Sleep(500 * time.Millisecond)
			return map[string]pace.Row{"crm": {pace.SlotOf(time.Now()): 3}}, nil
		}}
		p := open(t, pace.Config{Store: store})
		ask := func(ctx context.Context, want bool, after time.Duration) {
			began := time.Now()
			if slow := p.Slow(ctx, "crm"); slow != want || time.Since(began) != after {
				t.Errorf("slow: %t after %v, want %t after %v", slow, time.Since(began), want, after)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { ask(t.Context(), true, 500*time.Millisecond) })
		synctest.Wait()
		for range 9 {
			wg.Go(func() { ask(t.Context(), true, 500*time.Millisecond) })
		}
		hasty, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		wg.Go(func() { ask(hasty, false, 100*time.Millisecond) })
		wg.Wait()

		time.Sleep(5 * time.Second)
		wg.Go(func() { ask(t.Context(), true, 500*time.Millisecond) })
		synctest.Wait()
		for range 9 {
			wg.Go(func() { ask(t.Context(), true, 0) })
		}
		wg.Wait()
		if n := store.reads.Load(); n != 2 {
			t.Errorf("%d readings", n)
		}
	})
}

// A clock that is set back does not stop the reading until it has caught up.
func TestClockSetBack(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	store := &scripted{}
	p := open(t, pace.Config{Store: store, Now: func() time.Time { return now }})
	for i, step := range []struct {
		by    time.Duration
		reads int32
	}{{0, 1}, {4 * time.Second, 1}, {-4 * time.Second, 1}, {-time.Second, 2}, {0, 2}, {-time.Hour, 3}, {4999 * time.Millisecond, 3}, {time.Millisecond, 4}} {
		now = now.Add(step.by)
		p.Slow(t.Context(), "crm")
		if got := store.reads.Load(); got != step.reads {
			t.Errorf("step %d: %d readings, want %d", i, got, step.reads)
		}
	}
}

// What a write has shown is not forgotten because a reading, or the answer of an earlier write, is behind it; and it counts no longer than it would.
func TestWhatIsBehindTakesNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []int{3, 1}
		store := &scripted{
			all: func(context.Context) (map[string]pace.Row, error) {
				if pace.SlotOf(time.Now())%2 == 0 {
					return nil, nil // no destination has a row
				}
				return map[string]pace.Row{"erp": {pace.SlotOf(time.Now()): 1}}, nil
			},
			add: func(_ context.Context, _ string, slot pace.Slot, _ int, _ []pace.Slot) (pace.Row, error) {
				n := answers[0]
				answers = answers[1:]
				return pace.Row{slot: n}, nil
			},
		}
		p := open(t, pace.Config{Store: store, Enough: 3})
		late(t, p, 2)
		for _, wait := range []time.Duration{0, 5 * time.Second, 10 * time.Second} {
			time.Sleep(wait)
			if !p.Slow(t.Context(), "crm") || p.Slow(t.Context(), "erp") {
				t.Error("a reading that is behind took back what a write had shown")
			}
		}
		late(t, p, 1)
		if !p.Slow(t.Context(), "crm") {
			t.Error("an answer that is behind took back what another had shown")
		}
		time.Sleep(40 * time.Second)
		if p.Slow(t.Context(), "crm") {
			t.Error("slow for ever")
		}
	})
}

// A clock that is ahead by a slot counts, one that is wrong does not; and only what nobody counts any more is removed.
func TestSlotsThatCountAndSlotsThatAreRemoved(t *testing.T) {
	now := time.Unix(1_800_000_005, 0)
	at := pace.SlotOf(now)
	var removed []pace.Slot
	var rows map[string]pace.Row
	store := &scripted{
		all: func(context.Context) (map[string]pace.Row, error) { return rows, nil },
		add: func(_ context.Context, _ string, _ pace.Slot, _ int, remove []pace.Slot) (pace.Row, error) {
			removed = slices.Sorted(slices.Values(remove))
			return pace.Row{}, nil
		},
	}
	for offset, counts := range map[pace.Slot]bool{-4: false, -3: true, -1: true, 0: true, 1: true, 2: false, 1000: false} {
		p := open(t, pace.Config{Store: store, Now: func() time.Time { return now }})
		rows = map[string]pace.Row{"crm": {at + offset: 3}}
		if p.Slow(t.Context(), "crm") != counts {
			t.Errorf("slot %d counts: %t", offset, !counts)
		}
	}
	p := open(t, pace.Config{Store: store, Now: func() time.Time { return now }})
	row := pace.Row{}
	for offset := range pace.Slot(12) {
		row[at+offset-7] = 1
	}
	rows = map[string]pace.Row{"crm": maps.Clone(row)}
	p.Slow(t.Context(), "crm")
	late(t, p, 3)
	if want := []pace.Slot{at - 7, at - 6, at - 5, at - 4}; !slices.Equal(removed, want) {
		t.Errorf("removed %v, want %v", removed, want)
	}
}

// Only those that could not be told are counted as such.
func TestProblemNamesOnlyWhatFailed(t *testing.T) {
	var problems []error
	store := &scripted{add: func(_ context.Context, destination string, _ pace.Slot, _ int, _ []pace.Slot) (pace.Row, error) {
		if destination == "crm" {
			return nil, errors.New("down")
		}
		return pace.Row{}, nil
	}}
	p := open(t, pace.Config{Store: store, OnProblem: func(err error) { problems = append(problems, err) }})
	p.Late(t.Context(), map[string]int{"crm": 1, "erp": 1, "pos": 1})
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), `1 destinations are slow, such as "crm"`) {
		t.Errorf("%v", problems)
	}
}
