package deliverer_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/breaker/breakertest"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/outcome"
)

// withBreaker gives the world's deliverer a breaker of its own.
func (w *world) withBreaker() {
	w.t.Helper()
	b, err := breaker.New(breaker.Config{Store: breakertest.NewMemory(), Random: func() float64 { return 0 }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.cfg.Breaker = b
	w.restart()
}

// trip lets deliveries fail until one is held, and gives that one as it is parked.
func (w *world) trip() delivery.Message {
	w.t.Helper()
	w.answer = failing
	for n := range 60 {
		want(w.t, w.deliver(message(fmt.Sprint("trip-", n), "crm"))[0], outcome.Acknowledged)
		if held, parked := w.room.take(); parked == 1 {
			return held[0]
		}
		time.Sleep(time.Second)
	}
	w.t.Fatal("the breaker does not open")
	return delivery.Message{}
}

// What a breaker holds costs no attempt, no call and no ledger write; a probe that fails is not one of the schedule's attempts; one that is delivered lets
// everything through again.
func TestBreakerHoldsAndProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.withBreaker()
		held := w.trip()
		if held.Attempt != 1 || held.HeldSince.IsZero() || w.row(held).State != "" {
			t.Fatalf("held as %+v, waybill %+v", held, w.row(held))
		}
		w.deliveries.take(t)
		for probe := range 3 {
			time.Sleep(6 * time.Minute)
			before := len(w.calls)
			want(t, w.deliver(held)[0], outcome.Acknowledged)
			next, parked := w.room.take()
			if len(w.calls) != before+1 || parked != 1 {
				t.Fatalf("probe %d: %d calls, %d parked", probe, len(w.calls)-before, parked)
			}
			if held = next[0]; held.Attempt != probe+2 || held.Probes != probe+1 || held.Waited != 0 {
				t.Errorf("after probe %d: %+v", probe, held)
			}
		}
		time.Sleep(6 * time.Minute)
		w.answer = answering(downstream.Result{Verdict: downstream.Delivered, Code: 200})
		want(t, w.deliver(held)[0], outcome.Acknowledged)
		other := message("after", "crm")
		want(t, w.deliver(other)[0], outcome.Acknowledged)
		for _, m := range []delivery.Message{held, other} {
			if row := w.row(m); row.State != ledger.Delivered {
				t.Errorf("%+v", row)
			}
		}
	})
}

// A destination that asks to be left alone is not asked by others meanwhile.
func TestThrottledDestinationIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.withBreaker()
		w.answer = answering(downstream.Result{Verdict: downstream.Throttle, Code: 429, Reason: "http-429", RetryAfter: 5 * time.Minute})
		want(t, w.deliver(message("1", "crm"))[0], outcome.Acknowledged)
		w.deliveries.take(t)
		want(t, w.deliver(message("2", "crm"))[0], outcome.Acknowledged)
		next, raw := w.deliveries.take(t)
		if len(w.calls) != 1 || len(next) != 1 || next[0].Attempt != 1 || raw[0].Delay < 5*time.Minute-time.Second || raw[0].Delay > 15*time.Minute {
			t.Fatalf("%d calls, delayed: %+v by %v", len(w.calls), next, raw)
		}
		if row := w.row(next[0]); row.State != "" {
			t.Errorf("it cost a ledger write: %+v", row)
		}
	})
}
