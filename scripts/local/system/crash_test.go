package system_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/topology"
)

var lost = &wire.Error{Code: "ServiceUnavailable", Message: "This call never arrived.", Status: http.StatusServiceUnavailable}

// crashOn crashes the deliverer when the call that match describes arrives, before it has any effect or right after.
func crashOn(operation, match string, after bool) func(w *world) {
	return func(w *world) {
		f := awslocal.Fault{Operation: operation, Times: 1, Match: about(match)}
		if after {
			f.RewriteResponse = func(answer []byte) []byte { w.crash("after " + operation); return answer }
		} else {
			f.Match = func(document []byte) bool {
				hit := about(match)(document)
				if hit {
					w.crash("before " + operation)
				}
				return hit
			}
			f.Error = lost
		}
		w.Endpoint.Faults().Add(f)
	}
}

// TestDelivererDiesAtAnyStep: whatever the attempt comes to and wherever the deliverer dies, the message is redelivered after the lease,
// nothing is lost, and a receiver that honours webhook-id sees one effect.
func TestDelivererDiesAtAnyStep(t *testing.T) {
	results := []struct {
		name  string
		path  string
		state ledger.State
		calls int // HTTP calls without a crash
	}{
		{"success", receiver.Fine, ledger.Delivered, 1},
		{"retry", receiver.Flaky, ledger.Delivered, 3},
		{"reject", receiver.Rejecting, ledger.Dead, 1},
	}
	points := []struct {
		name   string
		only   string // result, "" for all
		plant  func(w *world)
		plan   plan
		called bool // the crash costs an HTTP call
		lives  bool // it is the answer that is lost, not the environment
	}{
		{name: "before the claim", plant: crashOn("BatchExecuteStatement", claiming, false)},
		{name: "after the claim", plant: crashOn("BatchExecuteStatement", claiming, true)},
		{name: "before the HTTP call", plan: plan{dial: func(w *world) (err error) {
			if w.first() {
				w.crash("dialling")
				err = errors.New("crashed")
			}
			return err
		}}},
		{name: "during the HTTP call", called: true, plan: plan{answer: func(w *world, r receiver.Request, _ http.Header) int {
			if r.Try == 1 {
				w.crash("request received")
				return receiver.NoAnswer
			}
			return 0
		}}},
		{name: "after the HTTP call", called: true, plan: plan{received: func(w *world, r receiver.Request) {
			if r.Try == 1 {
				w.crash("receiver has acted")
			}
		}}},
		{name: "before step 1, successor", only: "retry", called: true, plant: crashOn("SendMessageBatch", succeeding, false)},
		{name: "after step 1, successor", only: "retry", plant: crashOn("SendMessageBatch", succeeding, true)},
		{name: "before step 1, dead letter", only: "reject", called: true, plant: crashOn("SendMessageBatch", burying, false)},
		{name: "after step 1, dead letter", only: "reject", called: true, plant: crashOn("SendMessageBatch", burying, true)},
		{name: "before step 2", called: true, plant: crashOn("BatchExecuteStatement", settling, false)},
		{name: "after step 2", plant: crashOn("BatchExecuteStatement", settling, true)},
		{name: "before step 3", lives: true, plan: plan{fault: func(_ *world, f topology.FunctionName, b mapping.Batch) mapping.Fault {
			return mapping.Fault{LoseAnswer: f == topology.Deliverer && b.Number == 1}
		}}},
	}
	for _, result := range results {
		for _, point := range points {
			if point.only != "" && point.only != result.name {
				continue
			}
			t.Run(result.name+"/"+point.name, func(t *testing.T) {
				t.Parallel()
				p := point.plan
				p.destinations = []destination{to("shop", result.path, "1s", "2s", "4s")}
				p.stopped = true
				if point.called {
					p.incidents = 1
				}
				run(t, p, func(w *world) {
					if point.plant != nil {
						point.plant(w)
					}
					w.Resume(context.Background())
					w.send("order")
					w.rest(2*time.Hour, time.Second)
					w.check(result.state, result.calls, point.called)
					if n := w.Functions[topology.Deliverer].Stats().Crashes; (n == 1) == point.lives {
						t.Errorf("%d environments crashed", n)
					}
				})
			})
		}
	}
}

// check compares the one delivery of a crash test with what it must have come to.
func (w *world) check(state ledger.State, calls int, called bool) {
	w.t.Helper()
	found, _ := w.waybill("order", "shop")
	most := calls
	if called {
		most++
	}
	if got := w.calls("order", "shop"); found.State != state || got < calls || got > most {
		w.t.Errorf("%+v after %d HTTP calls, want %s after %d to %d", found, got, state, calls, most)
	}
	letters := w.lettersOf("order", "shop")
	if (state == ledger.Dead) != (len(letters) > 0) || len(letters) > w.calls("order", "shop") {
		w.t.Errorf("%d dead letters: %+v", len(letters), letters)
	}
	for _, l := range letters {
		if l.Reason != "http-400" || l.Delivery.Epoch != 1 || l.Delivery.Attempt != 1 || l.Destination != "shop" || l.EventID != "order" {
			w.t.Errorf("dead letter %+v", l)
		}
	}
	if n := len(w.letters(topology.IngressDeadLetter)); n > 0 {
		w.t.Errorf("%d ingress dead letters", n)
	}
	// The second HTTP call of one attempt is made by a take-over, which must wait for the lease.
	seen := map[string]time.Time{}
	for _, r := range w.requests("order", "shop") {
		if before, again := seen[r.ID]; called && again && r.Try == 2 && r.At.Sub(before) < 60*time.Second {
			w.t.Errorf("the attempt was repeated %s after the first call, within its lease", r.At.Sub(before))
		}
		seen[r.ID] = r.At
	}
}

// TestCrashedEnvironmentStopsActing: what a crashed environment still tries has no effect. Its goroutines go on here, unlike in Lambda: the
// watchdog of package batch answers for a handler that does not return, with a context that no crash cancels.
func TestCrashedEnvironmentStopsActing(t *testing.T) {
	for name, plant := range map[string]func(w *world){
		"during the HTTP call": nil,
		"while a claim hangs": func(w *world) {
			w.Endpoint.Faults().Add(awslocal.Fault{Operation: "BatchExecuteStatement", Match: about(claiming), Delay: 30 * time.Second, Times: 1})
		},
		"while a settle hangs": func(w *world) {
			w.Endpoint.Faults().Add(awslocal.Fault{Operation: "BatchExecuteStatement", Match: about(settling), Delay: 30 * time.Second, Times: 1})
		},
		"while a dead letter hangs": func(w *world) {
			w.Endpoint.Faults().Add(awslocal.Fault{Operation: "SendMessageBatch", Match: about(burying), Delay: 30 * time.Second, Times: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var crashed atomic.Bool
			var late atomic.Int64
			var crashedAt atomic.Pointer[time.Time]
			p := plan{
				destinations: []destination{to("shop", receiver.Slow), to("refuser", receiver.Rejecting)},
				incidents:    1,
				observe: func(w *world, c awslocal.Call) {
					if at := crashedAt.Load(); at != nil && crashed.Load() && (c.Started.After(*at) || c.Started.Add(c.Duration).After(*at)) {
						late.Add(1)
					}
				},
			}
			run(t, p, func(w *world) {
				if err := w.StopSchedules(context.Background()); err != nil { // the waker's calls are not meant
					t.Fatal(err)
				}
				if plant != nil {
					plant(w)
				}
				w.send("order")
				time.Sleep(500 * time.Millisecond)
				if name == "while a settle hangs" {
					time.Sleep(time.Second)
				}
				now := time.Now()
				crashedAt.Store(&now)
				crashed.Store(true)
				w.crash(name)
				time.Sleep(5 * time.Minute) // nobody else acts before the visibility timeout is over
				crashed.Store(false)
				if n := late.Load(); n > 0 {
					t.Errorf("%d calls of the crashed environment reached the endpoint", n)
				}
				w.rest(time.Hour, time.Second)
				if got, _ := w.waybill("order", "shop"); got.State != ledger.Delivered {
					t.Errorf("in the end: %+v", got)
				}
			})
		})
	}
}
