package limiter_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/limiter"
	"github.com/waybillhq/waybill/shared/limiter/limitertest"
)

func open(t *testing.T, store limiter.Store, more ...func(*limiter.Config)) *limiter.Limiter {
	t.Helper()
	cfg := limiter.Config{Store: store, Random: func() float64 { return 0 }}
	for _, change := range more {
		change(&cfg)
	}
	l, err := limiter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func ask(t *testing.T, l *limiter.Limiter, rate limiter.Rate, waiting ...limiter.Waiting) (places []limiter.Place, calls int) {
	t.Helper()
	places, err := l.Places(t.Context(), "crm", rate, waiting)
	if err != nil || len(places) != len(waiting) {
		t.Fatalf("%d places for %d: %v", len(places), len(waiting), err)
	}
	for _, p := range places {
		if p.Call {
			calls++
		}
	}
	return places, calls
}

func fresh(n int) []limiter.Waiting { return make([]limiter.Waiting, n) }

// A steady flow well below the limit asks far less often than it makes calls, where the burst is long enough to take some in advance; and never more often.
func TestWritesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct{ burst, most int }{{50, 60}, {1, 200}} {
			store := &limitertest.Memory{}
			l, rate := open(t, store), limiter.Rate{Interval: 20 * time.Millisecond, Burst: test.burst}
			for range 200 { // twenty a second, for ten seconds
				if _, calls := ask(t, l, rate, fresh(1)...); calls != 1 {
					t.Fatal("no call below the limit")
				}
				time.Sleep(50 * time.Millisecond)
			}
			if store.Steps > test.most {
				t.Errorf("burst %d: %d writes for 200 calls", test.burst, store.Steps)
			}
		}
	})
}

// When a queue has come to its end, deliveries are made at once again.
func TestQueueEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &limitertest.Memory{}
		l, other, rate := open(t, store), open(t, store), limiter.Rate{Interval: 100 * time.Millisecond, Burst: 1}
		places, calls := ask(t, l, rate, fresh(100)...)
		if calls < 5 || calls > 11 {
			t.Fatalf("%d calls at once", calls)
		}
		if behind, calls := ask(t, other, rate, fresh(1)...); calls != 0 || !behind[0].Turn.After(places[99].Turn) {
			t.Errorf("one that came later: %+v", behind)
		}
		end := places[99].Turn
		if took := time.Until(end); took < 9*time.Second || took > 12*time.Second {
			t.Errorf("a queue of %d at ten a second takes %v", 100-calls, took)
		}
		steps := store.Steps
		ask(t, other, rate, fresh(1)...)
		if store.Steps != steps+1 {
			t.Errorf("%d writes for one that must queue", store.Steps-steps)
		}
		time.Sleep(5 * time.Second)
		if _, calls := ask(t, open(t, store), rate, fresh(1)...); calls != 0 {
			t.Error("an environment that knows of no queue goes before all who wait")
		}
		time.Sleep(time.Until(end) + 2*time.Second)
		for _, l := range []*limiter.Limiter{l, other} {
			if _, calls := ask(t, l, rate, fresh(1)...); calls != 1 {
				t.Error("it still queues")
			}
		}
	})
}

// Who has a turn goes first, the earlier one before the later one, then whoever was put aside, then the others, whatever their order in the batch.
func TestWhoHasWaitedGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &limitertest.Memory{}
		l, rate := open(t, store, func(c *limiter.Config) { c.Rules.LongestWait = 100 * time.Millisecond }), limiter.Rate{Interval: time.Minute, Burst: 2}
		now := time.Now()
		waiting := []limiter.Waiting{{}, {Held: true}, {Held: true, Turn: now.Add(-time.Second)}, {Held: true, Turn: now.Add(-2 * time.Second)}}
		places, _ := ask(t, l, rate, waiting...)
		if !places[3].Call || !places[2].Call || places[1].Call || places[0].Call {
			t.Errorf("%+v", places)
		}
		if !places[1].Turn.Before(places[0].Turn) {
			t.Errorf("who was put aside queues behind who was not: %+v", places)
		}
		// One that finds no call at its turn keeps it and asks again soon; one that is overdue queues.
		again, _ := ask(t, l, rate, limiter.Waiting{Held: true, Turn: now}, limiter.Waiting{Held: true, Turn: now.Add(-time.Hour)})
		if !again[0].Turn.Equal(now) || again[0].Back.Sub(now) > 2*time.Minute || !again[1].Turn.After(places[0].Turn) {
			t.Errorf("%+v", again)
		}
	})
}

// A new rate holds at once: neither its calls nor its turns wait for those of the old one.
func TestRateChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, &limitertest.Memory{})
		ask(t, l, limiter.Rate{Interval: time.Hour, Burst: 1}, fresh(20)...)
		rate := limiter.Rate{Interval: 20 * time.Millisecond, Burst: 5}
		places, calls := ask(t, l, rate, fresh(200)...)
		if calls < 50 || time.Until(places[199].Turn) > 10*time.Second {
			t.Errorf("%d calls, the last waits %v", calls, time.Until(places[199].Turn))
		}
		places, calls = ask(t, l, limiter.Rate{Interval: time.Hour, Burst: 1}, fresh(2)...)
		if calls > 1 || time.Until(places[1].Turn) > 3*time.Hour {
			t.Errorf("back again: %d calls, the last waits %v", calls, time.Until(places[1].Turn))
		}
	})
}

// Calls that were taken in advance are not made at a rate that came later.
func TestSpareCallsEndWithTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for n := range 15 { // at one of these moments some are left
			l := open(t, &limitertest.Memory{})
			for range 60 + n {
				ask(t, l, limiter.Rate{Interval: 20 * time.Millisecond, Burst: 50}, fresh(1)...)
				time.Sleep(40 * time.Millisecond)
			}
			if _, calls := ask(t, l, limiter.Rate{Interval: time.Hour, Burst: 1}, fresh(20)...); calls > 1 {
				t.Errorf("%d calls at one an hour", calls)
			}
		}
	})
}

// A clock that is far ahead makes nobody wait for as long as that.
func TestClockFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &limitertest.Memory{}
		rate := limiter.Rate{Interval: time.Second, Burst: 1}
		ask(t, open(t, store, func(c *limiter.Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } }), rate, fresh(1)...)
		if _, calls := ask(t, open(t, store), rate, fresh(1)...); calls != 1 {
			t.Error("it waits for the clock that is ahead")
		}
	})
}

// A queue that is too long gives no turns: who comes then waits and asks again.
func TestQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, &limitertest.Memory{}, func(c *limiter.Config) { c.Rules.Horizon = time.Hour })
		rate := limiter.Rate{Interval: time.Minute, Burst: 1}
		ask(t, l, rate, fresh(100)...)
		places, _ := ask(t, l, rate, fresh(2)...)
		if !places[0].Turn.IsZero() || time.Until(places[0].Back) != time.Hour {
			t.Errorf("%+v", places)
		}
	})
}

// A table that does not answer is not asked again at once, and gives no calls.
func TestStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		store := &limitertest.Memory{Before: func() error { return down }}
		l, rate := open(t, store), limiter.Rate{Interval: time.Second, Burst: 1}
		for range 10 {
			if places, err := l.Places(t.Context(), "crm", rate, fresh(1)); err == nil || places != nil {
				t.Errorf("%+v", places)
			}
		}
		if store.Steps != 1 {
			t.Errorf("asked %d times", store.Steps)
		}
		store.Before = nil
		time.Sleep(2 * time.Second)
		if _, calls := ask(t, l, rate, fresh(1)...); calls != 1 {
			t.Error("it does not recover")
		}
	})
}

func TestNew(t *testing.T) {
	for name, cfg := range map[string]limiter.Config{
		"no store": {}, "negative": {Store: &limitertest.Memory{}, Pause: -1}, "waits for long": {Store: &limitertest.Memory{}, Rules: limiter.Rules{LongestWait: time.Minute}},
		"not ready": {Store: &limitertest.Memory{}, Rules: limiter.Rules{LongestWait: time.Millisecond}},
	} {
		if _, err := limiter.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
