package deliverer_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
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
		known.OnAdd = func() { told = time.Since(began) }
		for _, err := range w.deliver(message("1", "crm"), message("2", "crm"), message("3", "crm"), message("4", "easy")) {
			want(t, err, outcome.Acknowledged)
		}
		if told != 2*time.Second || known.Adds != 1 { // and not again in the same ten seconds
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

// silent is a store that takes what it is told and never answers.
type silent struct {
	pacetest.Memory
	over atomic.Int64 // calls that have ended
}

func (s *silent) Add(ctx context.Context, destination string, slot pace.Slot, n int, remove []pace.Slot) (pace.Row, error) {
	_, _ = s.Memory.Add(ctx, destination, slot, n, remove)
	<-ctx.Done()
	s.over.Add(1)
	return nil, ctx.Err()
}

// Telling others of what is late keeps no result waiting: a neighbour that answers meanwhile is settled as ever. And nothing is told any more when the batch
// is over.
func TestTellingHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var problems int
		known := &silent{}
		p, err := pace.New(pace.Config{Store: known, OnProblem: func(error) { problems++ }})
		if err != nil {
			t.Fatal(err)
		}
		w.cfg.Pace, w.cfg.SlowLane = p, &outbox{}
		w.restart()
		w.answer = func(_ context.Context, a downstream.Attempt) downstream.Result {
			takes := 2050 * time.Millisecond // 50 ms after others are told
			if a.Destination.ID == "crm" {
				takes = 8500 * time.Millisecond // half a second after others are told for the last time
			}
			time.Sleep(takes)
			return downstream.Result{Verdict: downstream.Delivered, Code: 200}
		}
		began, neighbour := time.Now(), message("2", "slow")
		var settled time.Duration
		w.store.settle = func(ctx context.Context, s []ledger.Settlement) []error {
			if settled == 0 {
				settled = time.Since(began)
			}
			return w.store.Memory.Settle(ctx, s)
		}
		for _, err := range w.deliver(message("1", "crm"), neighbour) {
			want(t, err, outcome.Acknowledged)
		}
		if settled > 2600*time.Millisecond {
			t.Errorf("the neighbour was settled after %v, 500 ms after its answer came at 2.05 s", settled)
		}
		told := known.Adds
		if over := known.over.Load(); over != int64(told) {
			t.Errorf("%d of %d tellings have ended with the batch: an environment may be frozen now", over, told)
		}
		time.Sleep(time.Minute)
		if known.Adds != told || told == 0 || problems == 0 {
			t.Errorf("told %d times, %d of them after the batch; %d problems", told, known.Adds-told, problems)
		}
	})
}

// stuck is an adapter that never gives a result, nor returns while the test runs.
type stuck struct{ until chan struct{} }

func (s stuck) Deliver(context.Context, []downstream.Attempt, func(int, downstream.Result)) {
	<-s.until
}

// When its time is over, a batch tells nobody anything more, even if an adapter keeps it from ending.
func TestNothingIsToldWhenTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var problems int
		known := &pacetest.Memory{}
		p, err := pace.New(pace.Config{Store: known, OnProblem: func(error) { problems++ }})
		if err != nil {
			t.Fatal(err)
		}
		adapter := stuck{make(chan struct{})}
		w.cfg.Pace, w.cfg.SlowLane, w.cfg.Adapter = p, &outbox{}, adapter
		w.restart()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.deliver(message("1", "crm"))
		}()
		time.Sleep(59 * time.Second)
		synctest.Wait()
		told, said := known.Adds, problems
		time.Sleep(time.Hour)
		synctest.Wait()
		if known.Adds != told || problems != said {
			t.Errorf("told %d times and failed %d times after the end", known.Adds-told, problems-said)
		}
		close(adapter.until)
		<-ended
	})
}

// An attempt that was never made is no quick answer: it forgives no late one.
func TestWhatDidNotStartForgivesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		known, _ := w.withPace()
		for range 12 {
			w.answer = answering(downstream.Result{Verdict: downstream.NotStarted, Reason: downstream.ReasonNotStarted})
			var unstarted []delivery.Message
			for i := range 10 {
				unstarted = append(unstarted, message(fmt.Sprint("unstarted", i), "crm"))
			}
			w.deliver(unstarted...)
		}
		w.hanging(3 * time.Second)
		w.deliver(message("1", "crm"))
		if known.Adds != 1 {
			t.Errorf("told %d times", known.Adds)
		}
	})
}
