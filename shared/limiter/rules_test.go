package limiter_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/limiter"
	"github.com/waybillhq/waybill/shared/limiter/limitertest"
)

// Clocks that differ by as much as they may: who is behind takes the row of who is ahead for right, and makes no calls of its own meanwhile.
func TestClocksThatDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const skew = 9 * time.Second
		store := &limitertest.Memory{}
		rate := limiter.Rate{Interval: time.Second, Burst: 1}
		ahead := open(t, store, func(c *limiter.Config) { c.Now = func() time.Time { return time.Now().Add(skew) } })
		behind := open(t, store)
		made := 0
		for range 5 {
			for _, l := range []*limiter.Limiter{ahead, behind} {
				places, calls := ask(t, l, rate, limiter.Waiting{Held: true})
				made += calls
				if next := store.Rows["crm"].Next; l == behind && (calls > 0 || places[0].Turn.Before(next.Add(-time.Second))) {
					t.Errorf("behind: %+v, while calls up to %v are given away", places, next)
				}
			}
		}
		if most := rate.Burst + 1; made > most {
			t.Errorf("%d calls at once, at most %d may be", made, most)
		}
	})
}

// Turns begin when calls are free again, each a little later than the rate says; all that is asked for at once gets what calls there are.
func TestTurnsFollowCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &limitertest.Memory{}
		rate := limiter.Rate{Interval: time.Minute, Burst: 1}
		places, calls := ask(t, open(t, store), rate, fresh(5)...)
		if next := store.Rows["crm"].Next; calls != 1 || !places[1].Turn.Equal(next) || !places[1].Back.Equal(next) {
			t.Errorf("%d calls; the first turn is at %v, the next call at %v", calls, places[1].Turn, next)
		}
		if p := places[0]; p.Until.Sub(p.From) != time.Minute {
			t.Errorf("a call may be begun within the burst after its time, not within %v", p.Until.Sub(p.From))
		}
		for i := 2; i < len(places); i++ {
			if apart := places[i].Turn.Sub(places[i-1].Turn); apart < rate.Interval*21/20 || apart > rate.Interval*5/4 {
				t.Errorf("turns %v apart", apart)
			}
		}

		l, quick := open(t, &limitertest.Memory{}), limiter.Rate{Interval: 100 * time.Millisecond, Burst: 1}
		for _, want := range []int{6, 4} { // ten within the second for which an invocation waits
			if _, calls := ask(t, l, quick, fresh(6)...); calls != want {
				t.Errorf("%d calls of 6, want %d", calls, want)
			}
		}
	})
}

// While others queue, calls are for those who were put aside: because they have a turn, or for another reason.
func TestCallsAreForThoseWhoWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, w := range map[string]limiter.Waiting{"a turn": {Turn: time.Now()}, "put aside": {Held: true}} {
			store := &limitertest.Memory{}
			l, rate := open(t, store), limiter.Rate{Interval: 100 * time.Millisecond, Burst: 1}
			ask(t, l, rate, fresh(100)...)
			time.Sleep(2 * time.Second)
			if places, calls := ask(t, l, rate, limiter.Waiting{}, w); calls != 1 || !places[1].Call {
				t.Errorf("%s: %+v", name, places)
			}
		}
		// Nobody queues and there is room: all are made, and those that waited are not counted twice.
		if _, calls := ask(t, open(t, &limitertest.Memory{}), limiter.Rate{Interval: 20 * time.Millisecond, Burst: 50}, limiter.Waiting{Held: true}, limiter.Waiting{},
			limiter.Waiting{Turn: time.Now()}); calls != 3 {
			t.Errorf("%d calls of 3", calls)
		}
	})
}

// Who finds no call at its turn asks again when there is one, and otherwise later each time, which costs no write.
func TestAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, test := range []struct {
			name     string
			next     time.Duration // when there is a call again
			late     time.Duration
			random   float64 // below 0: as it comes
			min, max time.Duration
		}{
			{"at once", 1500 * time.Millisecond, 0, 0, 1500 * time.Millisecond, 1500 * time.Millisecond},
			{"soon", 1100 * time.Millisecond, 0, 0.25, 1500 * time.Millisecond, 1500 * time.Millisecond},
			{"no second yet", 1100 * time.Millisecond, 500 * time.Millisecond, 0.5, 2 * time.Second, 2 * time.Second},
			{"late", 1500 * time.Millisecond, 20 * time.Second, 0.5, 21 * time.Second, 21 * time.Second},
			{"late, and a call is far", 50 * time.Second, 20 * time.Second, 0, 50 * time.Second, 50 * time.Second},
			{"random", 1001 * time.Millisecond, 0, -1, time.Second, 3 * time.Second},
		} {
			store := &limitertest.Memory{Rows: map[string]limiter.Row{"crm": {Next: now.Add(test.next), Interval: time.Minute}}}
			l := open(t, store, func(c *limiter.Config) {
				if c.Random = nil; test.random >= 0 {
					c.Random = func() float64 { return test.random }
				}
			})
			rate := limiter.Rate{Interval: time.Minute, Burst: 1}
			w := limiter.Waiting{Turn: now.Add(-test.late)}
			ask(t, l, rate, w) // finds out
			steps := store.Steps
			places, calls := ask(t, l, rate, w)
			if back := places[0].Back.Sub(now); calls != 0 || !places[0].Turn.Equal(w.Turn) || back < test.min || back > test.max {
				t.Errorf("%s: %+v, back after %v", test.name, places[0], back)
			}
			if store.Steps != steps {
				t.Errorf("%s: %d writes to find nothing", test.name, store.Steps-steps)
			}
		}
		// A row that is further ahead than any queue may be says nothing about when there is a call.
		store := &limitertest.Memory{}
		l := open(t, store, func(c *limiter.Config) { c.Rules.Horizon = time.Minute })
		rate := limiter.Rate{Interval: time.Hour, Burst: 1}
		ask(t, l, rate, fresh(1)...)
		if places, _ := ask(t, l, rate, limiter.Waiting{Turn: now}); places[0].Back.Sub(now) != time.Second {
			t.Errorf("back after %v", places[0].Back.Sub(now))
		}
	})
}

// Turns are found where other environments have moved the queue, where the last one has ended, where one of another rate is too long, and where a clock was
// wrong; each once.
func TestTurnsAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, rate := &limitertest.Memory{}, limiter.Rate{Interval: time.Hour, Burst: 1}
		l, other := open(t, store), open(t, store)
		ask(t, l, rate, fresh(1)...)
		ask(t, other, rate, limiter.Waiting{Turn: time.Now()}) // knows the row as it is without a queue
		first, _ := ask(t, l, rate, fresh(2)...)
		second, _ := ask(t, other, rate, fresh(1)...)
		if !second[0].Turn.After(first[1].Turn) {
			t.Errorf("%v after %v", second[0].Turn, first[1].Turn)
		}
		time.Sleep(24 * time.Hour)
		now := time.Now()
		if again, calls := ask(t, l, rate, fresh(3)...); calls != 1 || !again[1].Turn.After(now) || again[2].Turn.Sub(now) > 3*time.Hour {
			t.Errorf("after the end of a queue: %+v", again)
		}

		short := func(c *limiter.Config) { c.Rules.Horizon = time.Hour }
		l = open(t, store, short)
		ask(t, l, rate, fresh(20)...)
		if places, _ := ask(t, l, limiter.Rate{Interval: time.Minute, Burst: 1}, fresh(10)...); places[9].Turn.IsZero() {
			t.Error("no turn, because the queue of another rate was long")
		}

		now = time.Now()
		store.Rows["crm"] = limiter.Row{Next: now.Add(2 * time.Hour), Queue: now.Add(10 * time.Second), Interval: time.Second}
		if places, _ := ask(t, open(t, store), limiter.Rate{Interval: time.Second, Burst: 1}, fresh(1)...); places[0].Turn.Sub(now) > 20*time.Second {
			t.Errorf("queues behind a clock that was wrong: %+v", places)
		}
	})
}

// contested refuses every step, as if others had been faster each time.
type contested struct{ steps int }

func (c *contested) Step(context.Context, string, limiter.Step) (limiter.Row, error) {
	c.steps++
	return limiter.Row{}, limiter.ErrRefused
}

// Who never gets to move the row gives up, and calls nobody.
func TestOthersAreFaster(t *testing.T) {
	store := &contested{}
	if places, err := open(t, store).Places(t.Context(), "crm", limiter.Rate{Interval: time.Second, Burst: 1}, fresh(1)); err == nil || places != nil || store.steps > 20 {
		t.Errorf("%+v, %v after %d writes", places, err, store.steps)
	}
}

// watching tells of steps and waits until their time is over, if it hangs.
type watching struct {
	limitertest.Memory
	hangs bool
	step  func(limiter.Step, limiter.Row)
}

func (w *watching) Step(ctx context.Context, destination string, step limiter.Step) (limiter.Row, error) {
	if w.hangs {
		<-ctx.Done()
		return limiter.Row{}, ctx.Err()
	}
	row, err := w.Memory.Step(ctx, destination, step)
	if w.step != nil {
		w.step(step, row)
	}
	return row, err
}

// A table that hangs holds nobody up for longer than a second, and is left alone for two; a clock that is set back does not make that longer. Not even who
// keeps its turn, or finds no call to ask for, hears anything but the error.
func TestStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back time.Duration
		store, rate := &watching{hangs: true}, limiter.Rate{Interval: time.Minute, Burst: 1}
		l := open(t, store, func(c *limiter.Config) { c.Now = func() time.Time { return time.Now().Add(-back) } })
		began := time.Now()
		if places, err := l.Places(t.Context(), "crm", rate, []limiter.Waiting{{Turn: began}}); !errors.Is(err, context.DeadlineExceeded) || places != nil {
			t.Errorf("%+v, %v", places, err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
		store.hangs = false
		time.Sleep(1900 * time.Millisecond)
		if _, err := l.Places(t.Context(), "crm", rate, []limiter.Waiting{{Turn: began}}); !errors.Is(err, limiter.ErrPaused) {
			t.Errorf("%v", err)
		}
		back = time.Hour
		if _, calls := ask(t, l, rate, fresh(1)...); calls != 1 {
			t.Error("it pauses for as long as the clock was set back")
		}
		store.hangs = true
		if places, err := l.Places(t.Context(), "crm", rate, fresh(1)); err == nil || places != nil {
			t.Errorf("no call is free, and no turn could be had: %+v", places)
		}
	})
}

// A row stays for longer than what it says holds: one that ended earlier would give the same time away again.
func TestRowsOutliveWhatTheySay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kinds := map[limiter.Kind]int{}
		store := &watching{step: func(s limiter.Step, row limiter.Row) {
			kinds[s.Kind]++
			for _, at := range []time.Time{row.Next, row.Queue} {
				if s.Expires.Before(at.Add(12 * time.Hour)) {
					t.Errorf("%+v leaves %+v", s, row)
				}
			}
		}}
		l := open(t, store, func(c *limiter.Config) { c.Rules.Horizon = 12 * time.Hour })
		for range 3 {
			ask(t, l, limiter.Rate{Interval: time.Hour, Burst: 1}, fresh(12)...)
			time.Sleep(10 * time.Hour)
		}
		if kinds[limiter.Calls] == 0 || kinds[limiter.Turns] == 0 {
			t.Errorf("%v", kinds)
		}
	})
}

// What is taken in advance is what was needed lately: who has needed one call takes one, and who was busy long ago too.
func TestLittleIsTakenInAdvance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, rate := &limitertest.Memory{}, limiter.Rate{Interval: 20 * time.Millisecond, Burst: 50}
		l := open(t, store)
		one := func() time.Duration {
			floor := time.Now().Add(100*time.Millisecond - 49*rate.Interval) // the first time for a call, after a time without any
			if _, calls := ask(t, l, rate, fresh(1)...); calls != 1 {
				t.Error("no call")
			}
			return store.Rows["crm"].Next.Sub(floor)
		}
		if took := one(); took != rate.Interval {
			t.Errorf("one call took %v", took)
		}
		for range 60 {
			ask(t, l, rate, fresh(1)...)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if took := one(); took != rate.Interval {
			t.Errorf("one call after a minute without took %v", took)
		}
	})
}
