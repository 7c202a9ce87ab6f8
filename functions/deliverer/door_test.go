package deliverer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/functions/deliverer"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
)

func TestMissingConfigListsEveryProblem(t *testing.T) {
	_, err := deliverer.New(deliverer.Config{})
	for _, name := range []string{"Destinations", "Ledger", "Adapter", "Deliveries", "DeadLetters", "Room", "Disabler", "Headroom", "LongestPark"} {
		if err == nil || !strings.Contains(err.Error(), "Config."+name) {
			t.Errorf("%v does not name Config.%s", err, name)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.SlowLane = &outbox{}
		if _, err := deliverer.New(w.cfg); err == nil || !strings.Contains(err.Error(), "Config.Pace") {
			t.Errorf("a slow lane without a pace: %v", err)
		}
	})
}

// What was held before counts no more once the destination has answered something else than 410.
func TestAnotherAnswerEndsTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = failing
		m := message("1", "crm")
		m.HeldSince = time.Now().Add(-20 * 24 * time.Hour)
		want(t, w.deliver(m)[0], outcome.Acknowledged)
		if next, raw := w.deliveries.take(t); len(next) != 1 || !next[0].HeldSince.IsZero() || next[0].Waited != raw[0].Delay || next[0].Attempt != 2 {
			t.Errorf("successor %+v", next)
		}
	})
}

// picky is an outbox that refuses some messages of a call.
type picky struct {
	*outbox
	refuses func(queue.Message) bool
}

func (p picky) Send(ctx context.Context, messages []queue.Message) []error {
	errs := p.outbox.Send(ctx, messages)
	for i, m := range messages {
		if p.refuses(m) {
			errs[i] = errors.New("entry refused")
		}
	}
	return errs
}

// Only what has a durable future is settled and acknowledged.
func TestPartialSendFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = func(ctx context.Context, a downstream.Attempt) downstream.Result {
			switch {
			case strings.HasPrefix(a.Event.ID, "retry"):
				return failing(ctx, a)
			case strings.HasPrefix(a.Event.ID, "reject"):
				return rejected(ctx, a)
			}
			return downstream.Result{Verdict: downstream.Delivered, Code: 200}
		}
		unlucky := func(m queue.Message) bool { return strings.Contains(m.Body, "unlucky") }
		w.cfg.Deliveries, w.cfg.DeadLetters = picky{&w.deliveries, unlucky}, picky{&w.deadLetters, unlucky}
		w.restart()
		rows := []struct {
			id    string
			kind  outcome.Kind
			state ledger.State
		}{
			{"retry", outcome.Acknowledged, ledger.Waiting},
			{"retry-unlucky", outcome.Retried, ledger.Claimed},
			{"reject", outcome.Acknowledged, ledger.Dead},
			{"reject-unlucky", outcome.Retried, ledger.Claimed},
			{"unlucky", outcome.Acknowledged, ledger.Delivered}, // needs no future
		}
		var messages []delivery.Message
		for _, row := range rows {
			messages = append(messages, message(row.id, "crm"))
		}
		for i, err := range w.deliver(messages...) {
			want(t, err, rows[i].kind)
			if got := w.row(messages[i]).State; got != rows[i].state {
				t.Errorf("%s stands as %s, want %s", rows[i].id, got, rows[i].state)
			}
		}
	})
}

// Results are settled as they come in: a crash while a slow attempt is under way repeats no fast one.
func TestSlowAttemptsDoNotHoldUpFastOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = func(_ context.Context, a downstream.Attempt) downstream.Result {
			if a.Event.ID == "slow" {
				time.Sleep(9 * time.Second)
			}
			return downstream.Result{Verdict: downstream.Delivered, Code: 200}
		}
		fast, slow := message("fast", "crm"), message("slow", "crm")
		done := make(chan []error, 1)
		go func() { done <- w.deliver(fast, slow) }()
		time.Sleep(time.Second)
		synctest.Wait()
		if w.row(fast).State != ledger.Delivered || w.row(slow).State != ledger.Claimed {
			t.Errorf("after a second: fast %+v, slow %+v", w.row(fast), w.row(slow))
		}
		for _, err := range <-done {
			want(t, err, outcome.Acknowledged)
		}
		if len(w.store.settles) != 2 {
			t.Errorf("%d calls to settle", len(w.store.settles))
		}
	})
}

// What may not be tried now costs no claim and no call.
func TestGates(t *testing.T) {
	const enough = 15*time.Second + headroom // for an attempt at crm
	for name, row := range map[string]struct {
		change func(*delivery.Message)
		left   time.Duration // of the invocation
		kind   outcome.Kind
		delay  time.Duration
		tried  bool
	}{
		"due in an hour":      {func(m *delivery.Message) { m.DueAt = time.Now().Add(time.Hour) }, enough, outcome.Deferred, queue.MaxDelay, false},
		"due in a minute":     {func(m *delivery.Message) { m.DueAt = time.Now().Add(time.Minute) }, enough, outcome.Deferred, time.Minute, false},
		"due now":             {func(m *delivery.Message) { m.DueAt = time.Now() }, enough, outcome.Acknowledged, 0, true},
		"too little time":     {func(*delivery.Message) {}, enough - time.Millisecond, outcome.Deferred, time.Second, false},
		"enough time":         {func(*delivery.Message) {}, enough, outcome.Acknowledged, 0, true},
		"unknown destination": {func(m *delivery.Message) { m.Destination = "nobody" }, enough, outcome.Acknowledged, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				m := message("1", "crm")
				row.change(&m)
				ctx, cancel := context.WithTimeout(t.Context(), row.left)
				defer cancel()
				if o := want(t, w.deliverIn(ctx, m)[0], row.kind); o.Delay != row.delay {
					t.Errorf("delay %s, want %s", o.Delay, row.delay)
				}
				if tried := len(w.calls) == 1 && w.row(m).State == ledger.Delivered; tried != row.tried || !row.tried && w.row(m).State != "" {
					t.Errorf("%d calls, row %+v", len(w.calls), w.row(m))
				}
				if letters, _ := w.deadLetters.take(t); (len(letters) == 1) != (m.Destination == "nobody") {
					t.Errorf("%d dead letters", len(letters))
				}
			})
		})
	}
}

// A claim whose attempt the adapter did not start can be taken at once, by the same attempt.
func TestNotStartedIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = answering(downstream.Result{Verdict: downstream.NotStarted})
		m := message("1", "crm")
		want(t, w.deliver(m)[0], outcome.Deferred)
		if row := w.row(m); row.State != ledger.Claimed || row.Attempt != 1 || row.LeaseUntil.After(time.Now()) {
			t.Errorf("not released: %+v", row)
		}
		if sent, _ := w.deliveries.take(t); len(sent) > 0 {
			t.Errorf("sent %+v", sent)
		}
	})
}

// Copies of a delivery in one batch are one attempt, and share its fate.
func TestEqualDeliveriesShareAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = failing
		w.deliveries.refuse = errDown
		for _, err := range w.deliver(message("1", "crm"), message("1", "crm"), message("1", "crm")) {
			want(t, err, outcome.Retried)
		}
		if len(w.calls) != 1 {
			t.Errorf("%d calls", len(w.calls))
		}
	})
}
