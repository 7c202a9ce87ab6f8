package deliverer_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/pace"
	"github.com/waybillhq/waybill/shared/pace/pacetest"
)

// withPace gives the world's deliverer a slow lane.
func (w *world) withPace() (known *pacetest.Memory, slowLane *outbox) {
	w.t.Helper()
	known, slowLane = &pacetest.Memory{}, &outbox{}
	p, err := pace.New(pace.Config{Store: known})
	if err != nil {
		w.t.Fatal(err)
	}
	w.cfg.Pace, w.cfg.SlowLane = p, slowLane
	w.restart()
	return known, slowLane
}

// hanging makes crm answer after a time, everybody else at once.
func (w *world) hanging(takes time.Duration) {
	w.answer = func(ctx context.Context, a downstream.Attempt) downstream.Result {
		if a.Destination.ID != "crm" {
			return downstream.Result{Verdict: downstream.Delivered, Code: 200}
		}
		select {
		case <-time.After(takes):
			return downstream.Result{Verdict: downstream.Delivered, Code: 200}
		case <-ctx.Done():
			return downstream.Result{Verdict: downstream.Retry, Reason: "timeout"}
		}
	}
}

// Calls that take long are told of while they are under way, and from then on deliveries to that destination are passed on as they are, unclaimed and
// untried; those to others are made. The function of the slow lane makes them all.
func TestSlowDestinationGetsItsLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		known, slowLane := w.withPace()
		w.hanging(9 * time.Second)
		began := time.Now()
		var told time.Duration
		go func() {
			for known.Adds == 0 {
				time.Sleep(100 * time.Millisecond)
			}
			told = time.Since(began)
		}()
		for _, err := range w.deliver(message("1", "crm"), message("2", "crm"), message("3", "crm"), message("4", "easy")) {
			want(t, err, outcome.Acknowledged)
		}
		if told < 2*time.Second || told > 3*time.Second || known.Adds != 4 { // after 2, 4, 6 and 8 s
			t.Errorf("told after %v, %d times", told, known.Adds)
		}
		calls, late := len(w.calls), message("5", "crm")
		late.Attempt, late.Waited = 2, time.Minute
		for _, err := range w.deliver(late, message("6", "easy")) {
			want(t, err, outcome.Acknowledged)
		}
		passed, raw := slowLane.take(t)
		if len(w.calls) != calls+1 || len(passed) != 1 || raw[0].Delay != 0 || raw[0].Group != "crm" {
			t.Fatalf("%d calls, passed on: %+v", len(w.calls)-calls, raw)
		}
		if got, is := fmt.Sprintf("%+v", passed[0]), fmt.Sprintf("%+v", late); got != is {
			t.Errorf("passed on as %s, was %s", got, is)
		}
		if row := w.row(late); row.State != "" {
			t.Errorf("claimed: %+v", row)
		}
		w.cfg.SlowLane = nil
		w.restart()
		want(t, w.deliver(passed[0])[0], outcome.Acknowledged)
		if row := w.row(late); row.State != ledger.Delivered {
			t.Errorf("in the slow lane: %+v", row)
		}
		time.Sleep(time.Minute)
		w.cfg.SlowLane = slowLane
		w.restart()
		w.hanging(time.Second)
		want(t, w.deliver(message("7", "crm"))[0], outcome.Acknowledged)
		if row := w.row(message("7", "crm")); row.State != ledger.Delivered {
			t.Errorf("after a minute without late answers: %+v", row)
		}
	})
}

// What the slow lane does not take is neither acknowledged nor tried.
func TestSlowLaneRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, slowLane := w.withPace()
		w.cfg.Pace.Late(t.Context(), map[string]int{"crm": 3})
		slowLane.refuse = errDown
		want(t, w.deliver(message("1", "crm"))[0], outcome.Retried)
		if len(w.calls) != 0 {
			t.Error("tried")
		}
	})
}

// The probe of a breaker is made where it was named: who named it waits for what comes of it.
func TestProbeIsNotPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.withBreaker()
		_, slowLane := w.withPace()
		held := w.trip()
		time.Sleep(6 * time.Minute)
		w.cfg.Pace.Late(t.Context(), map[string]int{"crm": 3})
		w.answer = answering(downstream.Result{Verdict: downstream.Delivered, Code: 200})
		want(t, w.deliver(held)[0], outcome.Acknowledged)
		if row := w.row(held); row.State != ledger.Delivered {
			t.Errorf("%+v", row)
		}
		want(t, w.deliver(message("after", "crm"))[0], outcome.Acknowledged)
		if passed, _ := slowLane.take(t); len(passed) != 1 || passed[0].Delivery != message("after", "crm").Delivery {
			t.Errorf("passed on: %+v", passed)
		}
	})
}
