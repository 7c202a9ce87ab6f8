package deliverer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/pace"
	"github.com/waybillhq/waybill/shared/pace/pacetest"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/waybill"
)

// Only a replay delivers again what was delivered; a redrive of it is acknowledged.
func TestReplayIsDeliveredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := message("1", "crm")
		want(t, w.deliver(m)[0], outcome.Acknowledged)
		want(t, w.deliver(m.Restart())[0], outcome.Acknowledged)
		if len(w.calls) != 1 {
			t.Fatalf("%d calls after a redrive", len(w.calls))
		}
		replay := m.Again(false)
		want(t, w.deliver(replay)[0], outcome.Acknowledged)
		if row := w.row(m); len(w.calls) != 2 || row.State != ledger.Delivered || row.Epoch != 1 {
			t.Errorf("%d calls, %+v", len(w.calls), row)
		}
	})
}

// An adapter has until the headroom, however long its destination would take; what comes later is not waited for.
func TestAttemptsEndBeforeTheHeadroom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		began := time.Now()
		w.answer = func(ctx context.Context, _ downstream.Attempt) downstream.Result {
			<-ctx.Done()
			if took := time.Since(began); took != 58*time.Second-headroom {
				t.Errorf("the attempt had %v", took)
			}
			return downstream.Result{Verdict: downstream.Retry, Reason: "timeout"}
		}
		m := message("1", "crm")
		want(t, w.deliver(m)[0], outcome.Acknowledged)
		if next := w.next(); len(next) != 1 || next[0].Attempt != 2 {
			t.Errorf("next %+v", next)
		}
	})
}

// A ledger that hangs while results are written leaves time to send them on.
func TestHangingLedgerLeavesTimeForTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.settle = func(ctx context.Context, s []ledger.Settlement) []error {
			<-ctx.Done()
			return []error{ctx.Err()}
		}
		w.answer = rejected
		m := message("1", "crm")
		began := time.Now()
		want(t, w.deliver(m)[0], outcome.Acknowledged)
		if took := time.Since(began); took != 58*time.Second-headroom/2 {
			t.Errorf("gave up after %v", took)
		}
		next := w.next()
		if len(next) != 1 || next[0].Outcome == nil {
			t.Fatalf("next %+v", next)
		}
		if o := next[0].Outcome; o.State != "dead" || o.Code != 400 || o.Reason != "http-400" || o.Owner == "" {
			t.Errorf("outcome %+v", o)
		}
		// Two copies of it in one batch: one writes, the other comes back.
		w.store.settle = nil
		w.store.settles = nil
		outcomes := w.deliver(next[0], next[0])
		want(t, outcomes[0], outcome.Acknowledged)
		want(t, outcomes[1], outcome.Deferred)
		if len(w.store.settles) != 1 || len(w.store.settles[0]) != 1 {
			t.Errorf("settled %+v", w.store.settles)
		}
		if row := w.row(m); row.State != ledger.Dead || row.Code != 400 || row.Reason != "http-400" {
			t.Errorf("waybill %+v", row)
		}
		want(t, w.deliver(next[0])[0], outcome.Acknowledged)
	})
}

// The waybill of a failed delivery says why.
func TestWaybillSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = rejected
		m := message("1", "crm")
		want(t, w.deliver(m)[0], outcome.Acknowledged)
		if row := w.row(m); row.State != ledger.Dead || row.Code != 400 || row.Reason != "http-400" {
			t.Errorf("waybill %+v", row)
		}
	})
}

// aging is a set whose only destination is given up after ten minutes.
func aging(t *testing.T) *registry.Set {
	t.Helper()
	set, err := registry.Parse([]byte(`{"destinations": [{"id": "aging", "tenant": "*", "type": "webhook",
		"webhook": {"url": "https://crm.example", "secrets": ["`+secret+`"]},
		"retry": {"exponential": {"initial": "1m", "factor": 2, "cap": "1h", "attempts": 50, "maxAge": "10m"}}}]}`), registry.Options{InlineSecrets: true})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// A schedule with an age ends when the next attempt would be older, and no time is counted twice.
func TestAgeEndsTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Random = func() float64 { return 0.5 } // no jitter
		w.restart()
		w.directory.set = aging(t)
		w.answer = failing
		m := message("1", "aging")
		for _, waited := range []time.Duration{time.Minute, 3 * time.Minute, 7 * time.Minute} { // the next would be 15
			want(t, w.deliver(m)[0], outcome.Acknowledged)
			next := w.next()
			if len(next) != 1 || next[0].Waited != waited {
				t.Fatalf("next %+v, want one that has waited for %v", next, waited)
			}
			m = next[0]
		}
		want(t, w.deliver(m)[0], outcome.Acknowledged)
		if letters, _ := w.deadLetters.take(t); len(letters) != 1 || len(w.next()) != 0 {
			t.Errorf("%d dead letters", len(letters))
		}
	})
}

// What a destination asks to wait counts towards the age, too.
func TestWaitsThatADestinationAsksForCountTowardsTheAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.directory.set = aging(t)
		w.answer = answering(downstream.Result{Verdict: downstream.Retry, Code: 503, Reason: "http-503", RetryAfter: 6 * time.Minute})
		m := message("1", "aging")
		want(t, w.deliver(m)[0], outcome.Acknowledged)
		next := w.next()
		if len(next) != 1 || next[0].Waited < 6*time.Minute {
			t.Fatalf("next %+v", next)
		}
		want(t, w.deliver(next[0])[0], outcome.Acknowledged)
		if letters, _ := w.deadLetters.take(t); len(letters) != 1 || len(w.next()) != 0 {
			t.Errorf("%d dead letters", len(letters))
		}
	})
}

// While nobody knows the destinations, deliveries are put off, not given up.
func TestUnknownDestinationsPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Destinations = unreachable{}
		w.restart()
		for _, err := range w.deliver(message("1", "crm"), message("2", "nobody")) {
			if o := want(t, err, outcome.Deferred); o.Delay < 15*time.Second {
				t.Errorf("put off for %v", o.Delay)
			}
		}
		if len(w.calls)+len(w.deadLetters.sent) != 0 {
			t.Errorf("%d calls, dead letters %+v", len(w.calls), w.deadLetters.sent)
		}
	})
}

type unreachable struct{}

func (unreachable) Set(context.Context) (*registry.Set, error) { return nil, errDown }

// looking is a directory that can be asked for what its set has not.
type looking struct {
	*directory
	found map[string]*registry.Destination
	err   error
}

func (l *looking) Look(_ context.Context, id string) (*registry.Destination, bool, error) {
	return l.found[id], l.found[id] != nil, l.err
}

// A destination that the router knew first is asked for again before its deliveries are given up, and they are not given up while nobody can tell.
func TestUnknownDestinationIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		crm, _ := w.directory.set.Lookup("crm")
		looker := &looking{directory: &w.directory, found: map[string]*registry.Destination{"new": crm}}
		w.cfg.Destinations = looker
		w.restart()
		want(t, w.deliver(message("1", "new"))[0], outcome.Acknowledged)
		if len(w.calls) != 1 || len(w.deadLetters.sent) != 0 {
			t.Errorf("%d calls, dead letters %+v", len(w.calls), w.deadLetters.sent)
		}
		looker.err = errDown
		want(t, w.deliver(message("1", "other"))[0], outcome.Deferred)
		if len(w.deadLetters.sent) != 0 {
			t.Errorf("given up while nobody could tell: %+v", w.deadLetters.sent)
		}
		looker.err = nil
		want(t, w.deliver(message("1", "other"))[0], outcome.Acknowledged)
		if letters, _ := w.deadLetters.take(t); len(letters) != 1 {
			t.Errorf("%d dead letters", len(letters))
		}
	})
}

// Whatever follows from a delivery goes on in the event's trace.
func TestTraceGoesOn(t *testing.T) {
	const trace = "Root=1-5759e988-bd862e3fe1be46a994272793"
	for name, prepare := range map[string]func(*world, *delivery.Message){
		"successor":      func(w *world, _ *delivery.Message) { w.answer = failing },
		"late successor": func(w *world, m *delivery.Message) { w.answer = failing; m.Attempt = 2 },
		"dead letter":    func(w *world, _ *delivery.Message) { w.answer = rejected },
		"disabled":       func(w *world, _ *delivery.Message) { w.answer = gone },
		"parked":         func(w *world, _ *delivery.Message) { w.directory.pause("crm") },
		"unknown":        func(_ *world, m *delivery.Message) { m.Destination = "nobody" },
		"unwritten state": func(w *world, _ *delivery.Message) {
			w.store.settle = func(context.Context, []ledger.Settlement) []error { return []error{errDown} }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				m := message("1", "crm")
				prepare(w, &m)
				body, err := m.Encode(delivery.MaxBytes)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 58*time.Second)
				defer cancel()
				want(t, w.d.Deliver(ctx, []batch.Record{{MessageID: "a", Body: body, ReceiveCount: 1, Trace: trace}})[0], outcome.Acknowledged)
				var traces []string
				for _, sent := range append(w.deliveries.sent, w.deadLetters.sent...) {
					traces = append(traces, sent.Trace)
				}
				for _, held := range w.room.held {
					traces = append(traces, held.Trace)
				}
				if len(traces) != 1 || traces[0] != trace {
					t.Errorf("traces %q", traces)
				}
			})
		})
	}
}

// Runbooks query the line that tells of a failed attempt.
func TestFailedAttemptIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = rejected
		want(t, w.deliver(message("1", "crm"), message("2", "slow"))[0], outcome.Acknowledged)
		lines := 0
		for line := range strings.Lines(w.logged(t)) {
			var got map[string]any
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatal(err)
			}
			if got["msg"] != "attempt failed" {
				continue
			}
			lines++
			for key, value := range map[string]any{"level": "WARN", "code": 400.0, "reason": "http-400", "detail": "no", "then": "dead letter", "tenant": "default", "attempt": 1.0} {
				if got[key] != value {
					t.Errorf("%s = %v, want %v", key, got[key], value)
				}
			}
		}
		if lines != 2 {
			t.Errorf("%d lines", lines)
		}
	})
}

// What panics while the future of one delivery is planned leaves that one to SQS and its neighbours alone.
func TestPanicOfOnePlanHarmsNoNeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Disabler = panickingDisabler{}
		w.restart()
		w.answer = func(_ context.Context, a downstream.Attempt) downstream.Result {
			if a.Event.ID == "gone" {
				return downstream.Result{Verdict: downstream.Gone, Code: 410}
			}
			return downstream.Result{Verdict: downstream.Delivered, Code: 200}
		}
		bad, good := message("gone", "crm"), message("good", "crm")
		outcomes := w.deliver(bad, good)
		if o := want(t, outcomes[0], outcome.Retried); time.Now().Add(o.Delay).Before(w.row(bad).LeaseUntil) {
			t.Errorf("comes back after %v, before its lease ends", o.Delay)
		}
		want(t, outcomes[1], outcome.Acknowledged)
		if w.row(bad).State != ledger.Claimed || w.row(good).State != ledger.Delivered {
			t.Errorf("%+v, %+v", w.row(bad), w.row(good))
		}
	})
}

type panickingDisabler struct{}

func (panickingDisabler) Disable(context.Context, string, string) (bool, error) { panic("bug") }

// A probe that another worker makes just now is not given up because this one found it claimed: nobody else becomes the probe meanwhile.
func TestProbeOfAnotherWorkerIsLeftToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.withBreaker()
		held := w.trip()
		w.deliveries.take(t)
		time.Sleep(6 * time.Minute)
		var calls atomic.Int32
		w.answer = func(context.Context, downstream.Attempt) downstream.Result {
			calls.Add(1)
			time.Sleep(10 * time.Second)
			return downstream.Result{Verdict: downstream.Delivered, Code: 200}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			want(t, w.deliver(held)[0], outcome.Acknowledged)
		}()
		time.Sleep(time.Second)
		want(t, w.deliver(held)[0], outcome.Retried) // a second copy
		want(t, w.deliver(message("other", "crm"))[0], outcome.Acknowledged)
		if _, parked := w.room.take(); parked != 1 || calls.Load() != 1 {
			t.Errorf("%d parked, %d calls", parked, calls.Load())
		}
		<-done
	})
}

// A call that was told of as late is no quick answer when it comes after all.
func TestLateAnswerForgivesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		known := &pacetest.Memory{}
		p, err := pace.New(pace.Config{Store: known, Forgiven: 1, Enough: 100})
		if err != nil {
			t.Fatal(err)
		}
		w.cfg.Pace = p
		w.restart()
		w.hanging(3 * time.Second)
		for i := range 5 {
			want(t, w.deliver(message(fmt.Sprint(i), "crm"))[0], outcome.Acknowledged)
		}
		if known.Adds != 5 {
			t.Errorf("%d of 5 late answers told", known.Adds)
		}
	})
}

// A delivery that is the probe each time, because no other waits for its destination, is given up all the same when it has been held too long.
func TestProbeHeldTooLongIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.withBreaker()
		m := w.trip()
		w.deliveries.take(t)
		began := time.Now()
		for time.Since(began) < longestPark+48*time.Hour {
			time.Sleep(6 * time.Hour)
			want(t, w.deliver(m)[0], outcome.Acknowledged)
			next := w.next()
			if len(next) == 0 {
				break
			}
			m = next[0]
		}
		letters, raw := w.deadLetters.take(t)
		if held := time.Since(began); len(letters) != 1 || held < longestPark || held > longestPark+6*time.Hour {
			t.Fatalf("after %v there are %d dead letters; the message is at attempt %d, held since %v", held, len(letters), m.Attempt, m.HeldSince)
		}
		if _, _, note, err := waybill.Detach(raw[0].Body, raw[0].Attributes); err != nil || note.Reason != "held-too-long" || note.Code != 500 {
			t.Errorf("note %+v, %v", note, err)
		}
		if row := w.row(m); row.State != ledger.Dead {
			t.Errorf("waybill %+v", row)
		}
	})
}
