package deliverer_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/breaker/breakertest"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/limiter"
	"github.com/waybillhq/waybill/shared/limiter/limitertest"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/waybill"
)

// What was finished while slow neighbours were under way is not finished again with them: a second successor would be a second attempt.
func TestFinishedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = func(ctx context.Context, a downstream.Attempt) downstream.Result {
			switch a.Event.ID {
			case "slow":
				time.Sleep(2 * time.Second)
			case "slower":
				time.Sleep(4 * time.Second)
			}
			return failing(ctx, a)
		}
		for _, err := range w.deliver(message("fast", "crm"), message("slow", "crm"), message("slower", "crm")) {
			want(t, err, outcome.Acknowledged)
		}
		if next := w.next(); len(next) != 3 {
			t.Errorf("%d successors of three attempts: %+v", len(next), next)
		}
	})
}

// A result that could not be written is put off, as often as it takes, and settles exactly the attempt that was made: of a later epoch, of a replay, and of
// one made without a claim.
func TestOutcomesSettleWhatWasMade(t *testing.T) {
	for name, c := range map[string]struct {
		destination string
		change      func(m *delivery.Message)
	}{
		"later epoch":       {"crm", func(m *delivery.Message) { m.Epoch = 2 }},
		"replay":            {"crm", func(m *delivery.Message) { m.Epoch, m.Replay = 1, true }},
		"unclaimed":         {"easy", func(*delivery.Message) {}},
		"unclaimed, replay": {"easy", func(m *delivery.Message) { m.Epoch, m.Replay = 1, true }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				m := message("1", c.destination)
				if c.change(&m); m.Replay {
					want(t, w.deliver(message("1", c.destination))[0], outcome.Acknowledged)
				}
				w.store.settle = func(context.Context, []ledger.Settlement) []error { return []error{errDown} }
				w.store.record = w.store.settle
				want(t, w.deliver(m)[0], outcome.Acknowledged)
				sent, _ := w.deliveries.take(t)
				if len(sent) != 1 || sent[0].Outcome == nil {
					t.Fatalf("sent %+v", sent)
				}
				for range 2 {
					if o := want(t, w.deliver(sent[0])[0], outcome.Deferred); o.Delay < 30*time.Second {
						t.Errorf("put off by %v", o.Delay)
					}
				}
				w.store.settle, w.store.record = nil, nil
				calls := len(w.calls)
				want(t, w.deliver(sent[0])[0], outcome.Acknowledged)
				if row := w.row(m); row.State != ledger.Delivered || row.Epoch != m.Epoch || len(w.calls) != calls {
					t.Errorf("%d calls more, %+v", len(w.calls)-calls, row)
				}
			})
		})
	}
}

// patient is newWorld with a limiter that waits in the invocation for as long as it may.
func patient(t *testing.T, fields string) *world {
	w := newWorld(t)
	w.withRate(fields)
	l, err := limiter.New(limiter.Config{Store: &limitertest.Memory{}})
	if err != nil {
		t.Fatal(err)
	}
	w.cfg.Limiter = l
	w.restart()
	return w
}

// Calls whose time is yet to come are waited for, each.
func TestCallsBeginAtTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := patient(t, `"rate": {"limit": 5, "burst": 1}`)
		var mu sync.Mutex
		var begun []time.Time
		w.answer = func(context.Context, downstream.Attempt) downstream.Result {
			mu.Lock()
			defer mu.Unlock()
			begun = append(begun, time.Now())
			return downstream.Result{Verdict: downstream.Delivered, Code: 200}
		}
		for _, err := range w.deliver(many(5, "crm")...) {
			want(t, err, outcome.Acknowledged)
		}
		if len(begun) != 5 {
			t.Fatalf("%d calls", len(begun))
		}
		for i := 1; i < len(begun); i++ {
			if apart := begun[i].Sub(begun[i-1]); apart < 200*time.Millisecond {
				t.Errorf("calls %v apart at five a second", apart)
			}
		}
	})
}

// A call that waited for its time and then hangs is late from when it began, and is told of.
func TestCallsThatWaitedAreLateToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := patient(t, `"rate": {"limit": 2, "burst": 1}`)
		known, _ := w.withPace()
		w.hanging(9 * time.Second)
		want(t, w.deliver(message("1", "crm"))[0], outcome.Acknowledged)
		if known.Adds == 0 {
			t.Error("nobody was told")
		}
	})
}

// A delivery keeps the turn at which it found no call, and goes before others that were put aside by something else, which go before new ones. Who names no
// queue for turns has them on that of the deliveries.
func TestTurnsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := patient(t, `"rate": {"limit": 1, "per": "1m", "burst": 1}`)
		w.cfg.Turns = nil
		w.restart()
		aside := message("aside", "crm")
		aside.HeldSince = time.Now()
		w.deliver(message("new", "crm"), aside)
		if w.row(aside).State != ledger.Delivered {
			t.Error("a new delivery goes before one that was put aside")
		}
		if first, _ := w.deliveries.take(t); len(first) != 1 {
			t.Fatalf("%+v", first)
		}
		turn := message("turn", "crm")
		turn.Turn, turn.HeldSince = time.Now(), time.Now()
		w.deliver(turn)
		if again, _ := w.deliveries.take(t); len(again) != 1 || !again[0].Turn.Equal(turn.Turn) {
			t.Errorf("asks again as %+v", again)
		}
	})
}

// What one of a batch learns of its destination, other environments know while a neighbour still hangs.
func TestHealthIsWrittenBeforeTheSlowestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		store := breakertest.NewMemory()
		breakers := func() *breaker.Breaker {
			b, err := breaker.New(breaker.Config{Store: store, Random: func() float64 { return 0 }})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		w.cfg.Breaker = breakers()
		w.restart()
		w.answer = func(ctx context.Context, a downstream.Attempt) downstream.Result {
			if a.Destination.ID == "slow" {
				time.Sleep(25 * time.Second)
				return downstream.Result{Verdict: downstream.Delivered, Code: 200}
			}
			return downstream.Result{Verdict: downstream.Throttle, Code: 429, Reason: "http-429", RetryAfter: 5 * time.Minute}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.deliver(message("1", "crm"), message("1", "slow"))
		}()
		time.Sleep(10 * time.Second)
		other := breakers().Begin()
		if other.Gate(t.Context(), "crm", "2").Pass {
			t.Error("another environment does not know that the destination wants to be left alone")
		}
		if _, err := other.End(t.Context()); err != nil {
			t.Error(err)
		}
		<-done
	})
}

// The time for which a throttled destination is left alone is held, from when the delivery was first put aside, and ends as whatever is held for too long.
func TestThrottledTimeIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.withBreaker()
		w.answer = answering(downstream.Result{Verdict: downstream.Throttle, Code: 429, Reason: "http-429", RetryAfter: 5 * time.Minute})
		w.deliver(message("1", "crm"))
		w.deliveries.take(t)
		began := time.Now().Round(0)
		w.deliver(message("2", "crm"))
		next, _ := w.deliveries.take(t)
		if len(next) != 1 || !next[0].HeldSince.Equal(began) {
			t.Fatalf("since %v: %+v", began, next)
		}
		time.Sleep(time.Second)
		w.deliver(next[0])
		if again, _ := w.deliveries.take(t); len(again) != 1 || !again[0].HeldSince.Equal(began) {
			t.Errorf("since %v: %+v", began, again)
		}
		forgotten := message("3", "crm")
		forgotten.HeldSince = time.Now().Add(-longestPark)
		want(t, w.deliver(forgotten)[0], outcome.Acknowledged)
		if letters, _ := w.deadLetters.take(t); len(letters) != 1 || len(w.calls) != 1 {
			t.Errorf("%d calls, dead letters %+v", len(w.calls), letters)
		}
	})
}

// A dead letter says which event it was, when that was accepted and given up, and how many attempts were made: none was for what could not be tried.
func TestNotesOfDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = answering(downstream.Result{Verdict: downstream.Reject, Code: 400, Reason: "http-400"})
		rejected, unknown := message("1", "crm"), message("2", "nobody")
		rejected.Attempt, unknown.Attempt = 2, 3
		rejected.AcceptedAt = time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
		unknown.AcceptedAt = rejected.AcceptedAt
		w.deliver(rejected)
		w.deliver(unknown)
		_, raw := w.deadLetters.take(t)
		if len(raw) != 2 {
			t.Fatalf("%d dead letters", len(raw))
		}
		for i, id := range []string{"1", "2"} {
			_, _, n, err := waybill.Detach(raw[i].Body, raw[i].Attributes)
			if err != nil || n.EventID != id || n.Attempts != 2 || !n.AcceptedAt.Equal(rejected.AcceptedAt) || time.Since(n.FailedAt).Abs() > time.Second {
				t.Errorf("event %s: %+v, %v", id, n, err)
			}
		}
	})
}

// In relaxed mode a replay is recorded over what was delivered before.
func TestRelaxedReplayIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := message("1", "easy")
		want(t, w.deliver(m)[0], outcome.Acknowledged)
		m.Epoch, m.Replay = 1, true
		want(t, w.deliver(m)[0], outcome.Acknowledged)
		if row := w.row(m); row.Epoch != 1 || row.State != ledger.Delivered || len(w.calls) != 2 {
			t.Errorf("%d calls, %+v", len(w.calls), row)
		}
	})
}
