// What happens when something fails. The failure table of the design names these tests, row by row:
//
//	deliverer dies before, during or after the HTTP call,
//	  before or after step 1, 2, 3                            TestDelivererDiesAtAnyStep, TestCrashedEnvironmentStopsActing
//	SQS delivers twice, at once or later                      TestSQSDeliversTwice
//	producer sends the same event twice                       TestSameEventFiftyTimes
//	ledger throttled or down, for an hour                     TestLedgerDownForAnHour, TestLostAnswers
//	SQS send fails when scheduling a retry                    TestRetryCannotBeScheduled
//	destination hangs, resets, answers 500 for a day          TestDestinationFailsForADay, TestScheduleRunsOut
//	poison message                                            TestPoisonMessage, TestPanicHarmsNoNeighbour
//	function times out                                        TestFunctionTimesOut, TestHandlerHangs
//	a destination is deleted while deliveries for it exist    TestDestinationIsDeleted
//	DLQ redriven natively                                     TestNativeRedrive, TestNativeRedriveOfDelivered
//	a new release is rolled back                              TestNewerVersionIsDeferred
//	destination answers 410                                   TestGoneDestinationIsParked, TestHeldTooLongIsGivenUp in functions/deliverer
//	settle cannot be written                                  TestSettleCannotBeWritten
//	what deliveries cost                                      TestCostOfTenDeliveries
//	everything at once                                        TestRandomFaults
package system_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/delivery/samples"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

// TestSQSDeliversTwice: a message that is received twice, at once or later, is one delivery.
func TestSQSDeliversTwice(t *testing.T) {
	everyBatch := func(f mapping.Fault) func(*world, topology.FunctionName, mapping.Batch) mapping.Fault {
		return func(_ *world, _ topology.FunctionName, b mapping.Batch) mapping.Fault {
			if b.Number > 20 {
				return mapping.Fault{}
			}
			return f
		}
	}
	for name, p := range map[string]plan{
		"at once, the same batch in two environments": {fault: everyBatch(mapping.Fault{Duplicate: true})},
		"later, because the answer was lost":          {fault: everyBatch(mapping.Fault{LoseAnswer: true})},
		"at any time, as SQS sees fit":                {disorder: sqs.Disorder{Duplicate: 0.2, Reorder: 0.5}, seed: 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p.destinations = []destination{to("fast", receiver.Fine), to("slow", receiver.Slow), to("flaky", receiver.Flaky, "1s", "1s", "1s")}
			run(t, p, func(w *world) {
				ids := names("order", 12)
				w.send(ids...)
				w.rest(24*time.Hour, time.Second)
				for _, id := range ids {
					w.want(id, "fast", ledger.Delivered, 1)
					w.want(id, "slow", ledger.Delivered, 1)
					w.want(id, "flaky", ledger.Delivered, 3)
				}
				w.noLetters()
			})
		})
	}
}

func (w *world) noLetters() {
	w.t.Helper()
	for _, name := range []topology.QueueName{topology.IngressDeadLetter, topology.DeliveriesDeadLetter} {
		if letters := w.letters(name); len(letters) > 0 {
			w.t.Errorf("%d messages in %s, the first: %+v", len(letters), name, letters[0])
		}
	}
}

// TestSameEventFiftyTimes: a producer that sends an event again and again makes one delivery of it, and one HTTP call.
func TestSameEventFiftyTimes(t *testing.T) {
	for name, d := range map[string]destination{"fast": to("shop", receiver.Fine), "slow": to("shop", receiver.Slow)} {
		t.Run(name, func(t *testing.T) {
			run(t, plan{destinations: []destination{d}, stopped: true}, func(w *world) {
				w.send(slices.Repeat([]string{"order"}, 50)...)
				w.Resume(context.Background())
				w.rest(time.Hour, time.Second)
				w.send("order") // and much later once more
				w.rest(time.Hour, time.Second)
				w.want("order", "shop", ledger.Delivered, 1)
				w.noLetters()
			})
		})
	}
}

// TestLedgerDownForAnHour: without a claim no call is made. Deliveries are deferred, without spending attempts or receive counts, and
// flow again afterwards.
func TestLedgerDownForAnHour(t *testing.T) {
	for name, fault := range map[string]awslocal.Fault{
		"throttled":     {Throttle: true},
		"down":          {Error: &wire.Error{Code: "InternalServerError", Message: "Internal server error", Status: http.StatusInternalServerError}},
		"access denied": {Error: &wire.Error{Code: "AccessDeniedException", Message: "User is not authorized"}},
		"hangs":         {Delay: 2 * time.Hour, Error: lost},
		"statements throttled": {RewriteResponse: func(answer []byte) []byte {
			return []byte(`{"Responses":[` + strings.TrimSuffix(strings.Repeat(`{"Error":{"Code":"ThrottlingError","Message":"slow down"}},`, bytes.Count(answer, []byte(`"TableName"`))), ",") + `]}`)
		}, RewriteRequest: nothingOf},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, plan{destinations: []destination{to("shop", receiver.Fine), relaxed(to("crm", receiver.Fine))}, quiet: true}, func(w *world) {
				fault.Service, fault.Match = "dynamodb", onTable(topology.Ledger)
				down := w.Endpoint.Faults().Add(fault)
				ids := []string{"order"}
				w.send(ids...)
				outage := time.Hour
				if name != "hangs" && name != "access denied" {
					outage = 15 * time.Minute // every minute is like the one before, and these take thousands of calls an hour
				}
				for range outage / time.Minute {
					time.Sleep(time.Minute)
					w.receivedOnce()
				}
				if log := w.receiver.Log(); len(log) > 0 {
					t.Errorf("%d HTTP calls without a claim, the first: %+v", len(log), log[0])
				}
				w.noLetters()
				down.Remove()
				ended := time.Now()
				w.rest(30*time.Minute, time.Second)
				if took := time.Since(ended); took > 8*time.Minute {
					t.Errorf("deliveries flowed again only %s after the ledger came back", took)
				}
				for _, id := range ids {
					for _, d := range []string{"shop", "crm"} {
						w.want(id, d, ledger.Delivered, 1)
						if found, _ := w.waybill(id, d); found.Attempt != 1 {
							t.Errorf("%s was delivered to %s with attempt %d", id, d, found.Attempt)
						}
					}
				}
				w.noLetters()
			})
		})
	}
}

// nothingOf makes a request for a batch of statements harmless: none of them will be carried out.
func nothingOf(document []byte) []byte {
	document = bytes.ReplaceAll(document, []byte("INSERT INTO"), []byte("REFUSED INTO"))
	return bytes.ReplaceAll(document, []byte(`"Statement":"UPDATE`), []byte(`"Statement":"REFUSED`))
}

// receivedOnce checks that no message that waits now has spent receives while nothing could be done for it.
func (w *world) receivedOnce() {
	w.t.Helper()
	for _, m := range w.queue(topology.Deliveries).Snapshot() {
		if n := m.Attributes["ApproximateReceiveCount"]; n != "0" && n != "1" {
			w.t.Errorf("a delivery message was received %s times", n)
			return
		}
	}
}

// TestLostAnswers: a call that took effect although its answer was lost is repeated or found out, and costs no second HTTP call.
func TestLostAnswers(t *testing.T) {
	for name, fault := range map[string]awslocal.Fault{
		"of claims":          {Operation: "BatchExecuteStatement", Match: about(claiming)},
		"of further claims":  {Operation: "UpdateItem"},
		"of settles":         {Operation: "BatchExecuteStatement", Match: about(settling)},
		"of records":         {Operation: "BatchExecuteStatement", Match: about(recording)},
		"of reads":           {Operation: "BatchGetItem"},
		"of sends":           {Operation: "SendMessageBatch"},
		"of visibilities":    {Operation: "ChangeMessageVisibilityBatch"},
		"of everything once": {},
	} {
		for _, times := range []int{1, 2, 9} {
			t.Run(fmt.Sprintf("%s, %d", name, times), func(t *testing.T) {
				t.Parallel()
				fault := fault
				fault.WithholdAnswer, fault.Times = true, times
				p := plan{destinations: []destination{to("shop", receiver.Flaky, "1s", "1s", "1s"), relaxed(to("crm", receiver.Fine))}, stopped: true}
				if fault.Operation == "SendMessageBatch" {
					// Messages are there twice: relaxed, both may be delivered at once. And a successor that was sent and is not
					// known to be is followed by the same attempt again.
					p.incidents = 1
				}
				run(t, p, func(w *world) {
					w.send("order")
					w.Endpoint.Faults().Add(fault)
					w.Resume(context.Background())
					w.rest(4*time.Hour, time.Second)
					for d, calls := range map[string]int{"shop": 3, "crm": 1} {
						found, _ := w.waybill("order", d)
						if got := w.calls("order", d); found.State != ledger.Delivered || got < calls || got > calls+p.incidents {
							t.Errorf("%s: %+v after %d calls, want %d", d, found, got, calls)
						}
					}
					w.noLetters()
				})
			})
		}
	}
}

// TestRetryCannotBeScheduled: as long as the future of a delivery is not durable its message is not acknowledged; when the lease is over,
// redelivery decides again.
func TestRetryCannotBeScheduled(t *testing.T) {
	for name, row := range map[string]struct {
		path  string
		match string
		state ledger.State
	}{
		"successor":   {receiver.Flaky, succeeding, ledger.Delivered},
		"dead letter": {receiver.Rejecting, burying, ledger.Dead},
	} {
		t.Run(name, func(t *testing.T) {
			const outage = 4 // failed sends, each after an HTTP call of its own
			p := plan{destinations: []destination{to("shop", row.path, "1s", "1s", "1s", "1s", "1s"), to("neighbour", receiver.Fine)}, incidents: outage}
			run(t, p, func(w *world) {
				// The SDK makes three calls of one.
				planted := w.Endpoint.Faults().Add(awslocal.Fault{Operation: "SendMessageBatch", Match: about(row.match), Error: lost, Times: 3 * outage})
				w.send("order")
				time.Sleep(30 * time.Second)
				if n := w.queue(topology.Deliveries).Depth().InFlight; n != 1 {
					t.Errorf("%d messages in flight while the future is not durable, want 1: %v", n, w.backlog())
				}
				if found, _ := w.waybill("order", "shop"); found.State != ledger.Claimed {
					t.Errorf("settled although the future is not durable: %+v", found)
				}
				w.rest(2*time.Hour, time.Second)
				if found, _ := w.waybill("order", "shop"); found.State != row.state {
					t.Errorf("%+v, want %s", found, row.state)
				}
				w.want("order", "neighbour", ledger.Delivered, 1)
				if planted.Hits() == 0 {
					t.Error("no send failed")
				}
				requests := w.requests("order", "shop")
				for i := 1; i < len(requests) && i <= outage && row.state == ledger.Dead; i++ {
					if gap := requests[i].At.Sub(requests[i-1].At); gap < time.Minute {
						t.Errorf("call %d came %s after the one before, within its lease", i+1, gap)
					}
				}
				if letters := w.lettersOf("order", "shop"); (row.state == ledger.Dead) != (len(letters) == 1) {
					t.Errorf("%d dead letters", len(letters))
				}
			})
		})
	}
}

// TestDestinationFailsForADay: attempts follow the schedule, nothing is lost, and a neighbour notices nothing.
func TestDestinationFailsForADay(t *testing.T) {
	const day = 24 * time.Hour
	for name, during := range map[string]func(r receiver.Request, h http.Header) int{
		"answers 500": func(receiver.Request, http.Header) int { return http.StatusInternalServerError },
		"resets":      func(receiver.Request, http.Header) int { return receiver.NoAnswer },
		"hangs":       nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := receiver.Fine
			if during == nil {
				path = receiver.Hanging
			}
			p := plan{
				quiet:        during != nil, // hanging attempts occupy pollers
				destinations: []destination{to("ill", path), to("healthy", "ok")},
				answer: func(w *world, r receiver.Request, h http.Header) int {
					switch {
					case strings.HasSuffix(r.Path, "/healthy") || time.Since(w.began) > day:
						return http.StatusOK
					case during != nil:
						return during(r, h)
					}
					return 0
				},
			}
			run(t, p, func(w *world) {
				ids := names("order", 6)
				sent := map[string]time.Time{}
				for _, id := range ids {
					sent[id] = time.Now()
					w.send(id)
					time.Sleep(10 * time.Second)
					if n := w.calls(id, "healthy"); n != 1 {
						t.Errorf("%s reached the healthy destination %d times within 10 s", id, n)
					}
					time.Sleep(4*time.Hour - 10*time.Second)
				}
				w.rest(4*day, time.Minute)
				for _, id := range ids {
					if took := w.requests(id, "healthy")[0].At.Sub(sent[id]); took > time.Second {
						t.Errorf("%s took %s to the healthy destination", id, took)
					}
					if found, _ := w.waybill(id, "ill"); found.State != ledger.Delivered || found.Attempt != w.calls(id, "ill") {
						t.Errorf("%s at the ill destination: %+v after %d calls", id, found, w.calls(id, "ill"))
					}
				}
				w.noLetters()
			})
		})
	}
}

// TestBreakerOpens: a destination that fails for hours is left alone but for probes. Its deliveries are parked without spending attempts, others keep their
// latency, and when it is back the backlog drains at a ramp.
func TestBreakerOpens(t *testing.T) {
	const outage = 2 * time.Hour
	p := plan{
		quiet: true, destinations: []destination{to("ill", receiver.Fine, "5s", "5m", "30m", "2h", "5h"), to("healthy", receiver.Fine)},
		answer: func(w *world, r receiver.Request, _ http.Header) int {
			if strings.HasSuffix(r.Path, "/ill") && time.Since(w.began) < outage {
				return http.StatusInternalServerError
			}
			return 0
		},
	}
	run(t, p, func(w *world) {
		ids := names("order", 300)
		for _, id := range ids {
			w.send(id)
			time.Sleep(2 * time.Second)
		}
		time.Sleep(outage - time.Since(w.began))
		calls, parked := 0, 0
		for _, r := range w.receiver.Log() {
			if strings.HasSuffix(r.Path, "/ill") {
				calls++
			}
		}
		items, err := w.Tables.Items(string(topology.Waiting))
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			if bucket, _ := item["bucket"].(dynamodb.String); strings.HasPrefix(string(bucket), "parked#ill#") {
				parked++
			}
		}
		// The schedule would have made three or four attempts at each by now.
		if calls > 150 || parked < 200 {
			t.Errorf("%d calls to the ill destination, %d deliveries parked", calls, parked)
		}
		for _, id := range ids {
			w.want(id, "healthy", ledger.Delivered, 1)
		}
		w.rest(6*time.Hour, time.Minute)
		perMinute := map[int]int{}
		for _, r := range w.receiver.Log() {
			if strings.HasSuffix(r.Path, "/ill") && r.Effect {
				perMinute[int(r.At.Sub(w.began)/time.Minute)]++
			}
		}
		for minute, n := range perMinute {
			if since := time.Duration(minute)*time.Minute - outage; since < 5*time.Minute && n > 160 {
				t.Errorf("%d deliveries in the minute %s after the outage", n, since)
			}
		}
		for _, id := range ids {
			if found, _ := w.waybill(id, "ill"); found.State != ledger.Delivered {
				t.Errorf("%s: %+v", id, found)
			}
		}
		w.noLetters()
		t.Logf("%d calls during the outage, %d parked", calls, parked)
	})
}

// TestHangingDestinationSlowsNobody: a destination that hangs holds invocations only until it is known, and then those of the slow lane. From the beginning to the
// end of it others are delivered at once, but for the first seconds.
func TestHangingDestinationSlowsNobody(t *testing.T) {
	const known = 20 * time.Second // the only two invocations that may run at a time have both met it, and their calls have timed out
	p := plan{
		quiet: true, destinations: []destination{to("ill", receiver.Hanging, "5s", "30m"), to("healthy", receiver.Fine)},
		answer: func(w *world, r receiver.Request, _ http.Header) int {
			if strings.HasSuffix(r.Path, "/ill") && time.Since(w.began) > time.Minute {
				return http.StatusOK
			}
			return 0
		},
	}
	run(t, p, func(w *world) {
		ids, sent := names("order", 300), map[string]time.Time{}
		for _, id := range ids {
			sent[id] = time.Now()
			w.send(id)
			time.Sleep(200 * time.Millisecond)
		}
		w.rest(24*time.Hour, time.Minute)
		slowest := time.Duration(0)
		for _, id := range ids {
			w.want(id, "healthy", ledger.Delivered, 1)
			took := w.requests(id, "healthy")[0].At.Sub(sent[id])
			if sent[id].Sub(w.began) > known {
				slowest = max(slowest, took)
			}
			if found, _ := w.waybill(id, "ill"); found.State != ledger.Delivered {
				t.Errorf("%s at the destination that hung: %+v", id, found)
			}
		}
		if slowest > time.Second {
			t.Errorf("beside a destination that hangs a delivery took %v", slowest)
		}
		w.noLetters()
		t.Logf("after the first %v the slowest delivery beside it took %v; %d invocations of the slow lane", known, slowest, w.Functions[topology.SlowLane].Stats().Invocations)
	})
}

// onSchedule checks the times of a delivery's calls against its destination's schedule.
func (w *world) onSchedule(event, destination string, began time.Time) {
	w.t.Helper()
	d, _ := w.set.Lookup(destination)
	waits := append([]time.Duration{0}, d.Retry.Waits()...)
	at := began
	for i, r := range w.requests(event, destination) {
		// After the call itself (15 s at most) the wait passes, spread by 20 %; chains of delayed messages round up to seconds.
		gap, wait := r.At.Sub(at), waits[i]
		if least, most := wait*8/10, wait*12/10+20*time.Second; gap < least || gap > most {
			w.t.Errorf("%s at %s: call %d came %s after the one before, want %s to %s", event, destination, i+1, gap, least, most)
		}
		at = r.At
	}
}

// TestScheduleRunsOut: a destination that fails for good gets exactly the attempts of the default schedule, over 75.6 h; then there is a dead
// letter that says why.
func TestScheduleRunsOut(t *testing.T) {
	run(t, plan{destinations: []destination{to("ill", receiver.Failing), to("busy", "busy")}, quiet: true, answer: func(_ *world, r receiver.Request, h http.Header) int {
		if !strings.HasSuffix(r.Path, "/busy") {
			return 0
		}
		// Asks for more than the schedule gives at first.
		h.Set("Retry-After", "3600")
		return http.StatusServiceUnavailable
	}}, func(w *world) {
		began := time.Now()
		w.send("order")
		w.rest(110*time.Hour, time.Minute)
		w.want("order", "ill", ledger.Dead, 10)
		w.want("order", "busy", ledger.Dead, 10)
		w.onSchedule("order", "ill", began)
		for i, r := range w.requests("order", "busy")[1:] {
			if gap := r.At.Sub(w.requests("order", "busy")[i].At); gap < time.Hour {
				t.Errorf("call %d came %s after the one before, the receiver had asked for an hour", i+2, gap)
			}
		}
		letters := w.lettersOf("order", "ill")
		if len(letters) != 1 || letters[0].Reason != "http-500" || letters[0].Code != 500 || letters[0].Attempts != 10 || !letters[0].AcceptedAt.Equal(began) ||
			letters[0].FailedAt.Sub(began) < 60*time.Hour || letters[0].Delivery.Epoch != 1 || letters[0].Delivery.Attempt != 1 {
			t.Errorf("dead letters %+v", letters)
		}
		if n := len(w.letters(topology.DeliveriesDeadLetter)); n != 2 {
			t.Errorf("%d dead letters in all", n)
		}
	})
}

// TestPoisonMessage: what cannot be understood lies in the dead-letter queue with a reason, and its neighbours are delivered.
func TestPoisonMessage(t *testing.T) {
	run(t, plan{destinations: []destination{to("shop", receiver.Fine)}, stopped: true}, func(w *world) {
		poison := map[topology.QueueName]map[string]string{ // body → reason
			topology.Deliveries: {
				"no JSON": "malformed-delivery", "{}": "malformed-delivery", `{"v":1}`: "malformed-delivery", `{"v":0}`: "malformed-delivery",
				`{"v":1,"zip":"AAAA"}`: "malformed-delivery",
				`{"v":1,"delivery":"x","destination":"shop","epoch":0,"attempt":0,"event":{}}`: "malformed-delivery",
			},
			topology.Ingress: {
				`{"specversion":"1.0","id":"x","type":"t"}`:                                 "", // no source
				`{"specversion":"9.0","id":"x","type":"t","source":"/s"}`:                   "", // of another time
				`{"specversion":"1.0","id":"x","type":"t","source":"/s","data_base64":"%"}`: "",
			},
		}
		for to, bodies := range poison {
			for b := range bodies {
				w.post(to, b)
			}
		}
		w.send(names("order", 12)...)
		w.Resume(context.Background())
		w.rest(time.Hour, time.Second)
		for _, id := range names("order", 12) {
			w.want(id, "shop", ledger.Delivered, 1)
		}
		for to, bodies := range poison {
			q, _ := topology.New(topology.LowLatency).Queue(to)
			letters := w.letters(q.DeadLetter)
			for _, l := range letters {
				want, ok := bodies[l.Body]
				if !ok || l.Reason == "" || want != "" && l.Reason != want || l.Attempts != 1 || l.FailedAt.IsZero() {
					t.Errorf("%s: dead letter %+v", q.DeadLetter, l)
				}
			}
			if len(letters) != len(bodies) {
				t.Errorf("%s: %d dead letters, want %d", q.DeadLetter, len(letters), len(bodies))
			}
		}
	})
}

// TestPanicHarmsNoNeighbour: a bug of ours that one delivery provokes ends in the dead-letter queue, by that delivery alone.
func TestPanicHarmsNoNeighbour(t *testing.T) {
	p := plan{
		destinations: []destination{to("shop", receiver.Rejecting)}, stopped: true, incidents: 8,
		answer: func(_ *world, r receiver.Request, _ http.Header) int {
			if r.Header.Get("Ce-Id") != "poison" {
				return http.StatusOK
			}
			return 0
		},
		log: func(_ *world, _ topology.FunctionName, r slog.Record) {
			r.Attrs(func(a slog.Attr) bool {
				if a.Key == "event" && a.Value.String() == "poison" {
					panic("a bug")
				}
				return true
			})
		},
	}
	run(t, p, func(w *world) {
		w.batch(append(names("order", 9), "poison"))
		w.rest(24*time.Hour, time.Second)
		for _, id := range names("order", 9) {
			w.want(id, "shop", ledger.Delivered, 1)
		}
		letters := w.lettersOf("poison", "shop")
		if len(letters) != 1 || letters[0].Reason != "panic" || len(w.letters(topology.DeliveriesDeadLetter)) != 1 {
			t.Errorf("dead letters %+v", letters)
		}
	})
}

// batch sends events so that the deliverer gets their deliveries in one batch, and starts all mappings. The world must be stopped.
func (w *world) batch(ids []string) {
	w.t.Helper()
	w.send(ids...)
	w.Mappings[topology.Router].Start(context.Background())
	if !w.until(time.Minute, time.Second, func() bool { return w.queue(topology.Ingress).Depth().Total() == 0 }) {
		w.t.Fatal("the router is stuck")
	}
	w.Mappings[topology.Deliverer].Start(context.Background())
}

// TestFunctionTimesOut: a batch whose function does not answer returns as a whole. What was settled is recognised, nothing is done twice.
func TestFunctionTimesOut(t *testing.T) {
	p := plan{
		destinations: []destination{to("shop", receiver.Fine)}, stopped: true,
		answer: func(_ *world, r receiver.Request, _ http.Header) int {
			if r.Header.Get("Ce-Id") == "order" {
				time.Sleep(10 * time.Second)
			}
			return 0
		},
		log: func(w *world, f topology.FunctionName, r slog.Record) {
			// Package batch logs what goes back after everything is done, with its watchdog off: here, a busy delivery.
			if f == topology.Deliverer && r.Message == "record returned" && w.first() {
				time.Sleep(2 * time.Minute)
			}
		},
	}
	run(t, p, func(w *world) {
		w.batch([]string{"order"})
		time.Sleep(100 * time.Millisecond)
		// While that call is under way, a second copy and a neighbour make one batch.
		soon, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		_ = w.Mappings[topology.Deliverer].Stop(soon)
		w.send("order", "other")
		w.until(time.Minute, 100*time.Millisecond, func() bool { return w.queue(topology.Deliveries).Depth().Visible == 2 })
		w.Resume(context.Background())
		w.rest(time.Hour, time.Second)
		w.want("order", "shop", ledger.Delivered, 1)
		w.want("other", "shop", ledger.Delivered, 1)
		w.noLetters()
		if n := w.Functions[topology.Deliverer].Stats().Timeouts; n != 1 {
			t.Errorf("%d invocations timed out", n)
		}
	})
}

// TestHandlerHangs: a delivery whose worker hangs between the HTTP call and step 1 is taken over when its lease is over, and what the worker
// does when it wakes is refused.
func TestHandlerHangs(t *testing.T) {
	p := plan{
		destinations: []destination{to("shop", receiver.Flaky, "1s", "1s", "1s"), to("neighbour", receiver.Fine)}, incidents: 1,
		log: func(w *world, _ topology.FunctionName, r slog.Record) {
			if r.Message == "attempt failed" {
				if w.first() {
					time.Sleep(10 * time.Minute)
				}
			}
		},
	}
	run(t, p, func(w *world) {
		w.send("order")
		w.rest(time.Hour, time.Second)
		time.Sleep(20 * time.Minute)
		w.want("order", "shop", ledger.Delivered, 3)
		w.noLetters()
		requests := w.requests("order", "shop")
		if gap := requests[1].At.Sub(requests[0].At); gap < time.Minute {
			t.Errorf("taken over after %s, within the lease", gap)
		}
	})
}

// TestDestinationIsDeleted: deliveries to a destination that exists no more become dead letters that say so.
func TestDestinationIsDeleted(t *testing.T) {
	run(t, plan{destinations: []destination{to("shop", receiver.Fine), to("old", receiver.Failing, "5m", "2h")}}, func(w *world) {
		w.send("waits")
		time.Sleep(time.Minute)
		if err := w.Pause(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.send("queued")
		w.Mappings[topology.Router].Start(context.Background())
		w.until(time.Minute, time.Second, func() bool { return w.queue(topology.Ingress).Depth().Total() == 0 })
		if err := w.Pause(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.apply(to("shop", receiver.Fine))
		w.Resume(context.Background())
		w.rest(time.Hour, time.Second)
		for id, attempts := range map[string]int{"waits": 1, "queued": 0} {
			w.want(id, "shop", ledger.Delivered, 1)
			letters := w.lettersOf(id, "old")
			if len(letters) != 1 || letters[0].Reason != "unknown-destination" || letters[0].Attempts != attempts || letters[0].Delivery.Epoch != 1 || w.calls(id, "old") != attempts {
				t.Errorf("%s: %d calls, dead letters %+v", id, w.calls(id, "old"), letters)
			}
		}
	})
}

// TestNativeRedrive: dead letters that SQS moves back by itself are tried again, as attempt 1 of the next epoch.
func TestNativeRedrive(t *testing.T) {
	var recovered atomic.Bool
	p := plan{destinations: []destination{to("shop", receiver.Rejecting)}, redriven: true, answer: func(*world, receiver.Request, http.Header) int {
		if recovered.Load() {
			return http.StatusOK
		}
		return 0
	}}
	run(t, p, func(w *world) {
		ids := names("order", 5)
		w.send(ids...)
		w.rest(time.Hour, time.Second)
		for epoch := range 2 { // in vain, and then with success
			for _, id := range ids {
				if found, _ := w.waybill(id, "shop"); found.State != ledger.Dead || found.Epoch != epoch || len(w.lettersOf(id, "shop")) != 1 {
					t.Errorf("%s before the redrive: %+v, dead letters %+v", id, found, w.lettersOf(id, "shop"))
				}
			}
			if status, failure := w.move(""); status != "FAILED" || failure != "CouldNotDetermineMessageSource" {
				t.Errorf("a move without destination: %s, %q", status, failure)
			}
			recovered.Store(epoch == 1)
			if status, failure := w.move(w.queue(topology.Deliveries).ARN()); status != "COMPLETED" {
				t.Errorf("the move: %s, %q", status, failure)
			}
			w.rest(time.Hour, time.Second)
		}
		for _, id := range ids {
			w.want(id, "shop", ledger.Delivered, 3)
			if found, _ := w.waybill(id, "shop"); found.Epoch != 2 || found.Attempt != 1 {
				t.Errorf("%s: %+v", id, found)
			}
		}
		w.noLetters()
	})
}

// move has SQS move the dead letters and gives what became of the task.
func (w *world) move(destinationARN string) (status, failure string) {
	w.t.Helper()
	sourceARN := w.queue(topology.DeliveriesDeadLetter).ARN()
	in := &awssqs.StartMessageMoveTaskInput{SourceArn: &sourceARN}
	if destinationARN != "" {
		in.DestinationArn = &destinationARN
	}
	if _, err := w.producer.StartMessageMoveTask(context.Background(), in); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(time.Second)
	out, err := w.producer.ListMessageMoveTasks(context.Background(), &awssqs.ListMessageMoveTasksInput{SourceArn: &sourceARN})
	if err != nil || len(out.Results) == 0 {
		w.t.Fatalf("%v, %d tasks", err, len(out.Results))
	}
	task := out.Results[0]
	if task.FailureReason != nil {
		failure = *task.FailureReason
	}
	return *task.Status, failure
}

// TestNativeRedriveOfDelivered: a dead letter of a delivery that was delivered after all is recognised when it is moved back.
func TestNativeRedriveOfDelivered(t *testing.T) {
	// The deliverer dies after step 1; the take-over finds the destination recovered.
	p := plan{destinations: []destination{to("shop", receiver.Fine)}, incidents: 1, answer: func(_ *world, r receiver.Request, _ http.Header) int {
		if r.Try == 1 {
			return http.StatusBadRequest
		}
		return 0
	}}
	run(t, p, func(w *world) {
		crashOn("SendMessageBatch", burying, true)(w)
		w.send("order")
		w.rest(time.Hour, time.Second)
		w.want("order", "shop", ledger.Delivered, 2)
		if n := len(w.lettersOf("order", "shop")); n != 1 {
			t.Fatalf("%d dead letters", n)
		}
		if status, failure := w.move(w.queue(topology.Deliveries).ARN()); status != "COMPLETED" {
			t.Errorf("the move: %s, %q", status, failure)
		}
		w.rest(time.Hour, time.Second)
		w.want("order", "shop", ledger.Delivered, 2)
		w.noLetters()
	})
}

// TestNewerVersionIsDeferred: messages of a newer release wait until it is back, however long.
func TestNewerVersionIsDeferred(t *testing.T) {
	run(t, plan{destinations: []destination{to("shop", receiver.Fine)}, quiet: true}, func(w *world) {
		if err := w.StopSchedules(context.Background()); err != nil { // a waker has nothing to do here for days
			t.Fatal(err)
		}
		newer := newerSample(t)
		w.post(topology.Deliveries, newer)
		for range 9 { // longer than the queue's retention of 4 days, and more receives than its policy allows
			time.Sleep(12 * time.Hour)
			w.receivedOnce()
			held := w.queue(topology.Deliveries).Snapshot()
			if len(held) != 1 || held[0].Body != newer {
				t.Fatalf("after %s: %d messages: %v", time.Since(w.began), len(held), w.backlog())
			}
		}
		w.noLetters()
		w.send("order")
		time.Sleep(time.Second)
		w.want("order", "shop", ledger.Delivered, 1)
	})
}

// newerSample is a delivery message of the version after this one.
func newerSample(t *testing.T) string {
	t.Helper()
	for _, s := range samples.All() {
		if s.Version == delivery.Version+1 {
			return s.Body
		}
	}
	t.Fatal("shared/delivery/samples has none")
	return ""
}

// TestGoneDestinationIsParked: 410 disables a destination. Its deliveries wait in the waiting room without being tried or spent, and drain when a
// person has enabled it.
func TestGoneDestinationIsParked(t *testing.T) {
	const away = 8 * time.Hour
	p := plan{
		quiet:        true,
		destinations: []destination{to("shop", receiver.Gone, "1s"), to("neighbour", receiver.Fine)},
		answer: func(w *world, r receiver.Request, _ http.Header) int {
			if strings.HasSuffix(r.Path, "/shop") && time.Since(w.began) > away {
				return http.StatusOK
			}
			return 0
		},
	}
	run(t, p, func(w *world) {
		w.send("first")
		time.Sleep(time.Minute)
		later := names("later", 5)
		for _, id := range later {
			w.send(id)
			time.Sleep(time.Second)
		}
		time.Sleep(away)
		for _, id := range later {
			if _, claimed := w.waybill(id, "shop"); claimed || w.calls(id, "shop") != 0 {
				t.Errorf("%s was tried at a disabled destination", id)
			}
			w.want(id, "neighbour", ledger.Delivered, 1)
		}
		if n := w.calls("first", "shop"); n != 1 {
			t.Errorf("the delivery that met the 410 was tried %d times", n)
		}
		if told := w.tolds("neighbour"); told != 1 {
			t.Errorf("it was told of by %d events", told)
		}
		if was, err := w.registry().Enable(context.Background(), "shop"); !was || err != nil {
			t.Fatal(was, err)
		}
		w.rest(3*time.Hour, time.Minute)
		w.want("first", "shop", ledger.Delivered, 2)
		for _, id := range later {
			w.want(id, "shop", ledger.Delivered, 1)
		}
		w.noLetters()
	})
}

// TestPausedDestinationIsParked: a person pauses a destination and resumes it; meanwhile nothing is tried, and nothing is spent.
func TestPausedDestinationIsParked(t *testing.T) {
	run(t, plan{quiet: true, destinations: []destination{to("shop", receiver.Fine), to("neighbour", receiver.Fine)}}, func(w *world) {
		mark := registry.Mark{Since: time.Now(), Note: "maintenance", By: "test"}
		if first, err := w.registry().Pause(context.Background(), "shop", mark); !first || err != nil {
			t.Fatal(first, err)
		}
		time.Sleep(time.Minute) // for every environment to hear of it
		ids := names("order", 20)
		for _, id := range ids {
			w.send(id)
		}
		time.Sleep(5 * time.Hour)
		for _, id := range ids {
			w.want(id, "neighbour", ledger.Delivered, 1)
			if _, claimed := w.waybill(id, "shop"); claimed || w.calls(id, "shop") != 0 {
				t.Errorf("%s was tried", id)
			}
		}
		if was, err := w.registry().Resume(context.Background(), "shop"); !was || err != nil {
			t.Fatal(was, err)
		}
		w.rest(time.Hour, time.Minute)
		for _, id := range ids {
			w.want(id, "shop", ledger.Delivered, 1)
		}
		w.noLetters()
	})
}

// TestWakerIsDownForAnHour: deliveries that wait in the waiting room are late by the outage, and the next run catches up.
func TestWakerIsDownForAnHour(t *testing.T) {
	p := plan{quiet: true, destinations: []destination{to("shop", receiver.Throttled, "30m")}}
	run(t, p, func(w *world) {
		ids := names("order", 5) // fewer failures than open a breaker
		for _, id := range ids {
			w.send(id)
		}
		time.Sleep(time.Minute)
		if err := w.StopSchedules(context.Background()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		for _, id := range ids {
			if found, _ := w.waybill(id, "shop"); found.State != ledger.Waiting || w.calls(id, "shop") != 1 {
				t.Errorf("%s without a waker: %+v", id, found)
			}
		}
		w.StartSchedules(context.Background())
		w.rest(10*time.Minute, time.Minute)
		for _, id := range ids {
			w.want(id, "shop", ledger.Delivered, 2)
		}
		w.noLetters()
	})
}

// TestRegistryIsUnreachable: the destinations that are known serve for a while; then deliveries are put off like for any fault of ours, and nothing is lost.
func TestRegistryIsUnreachable(t *testing.T) {
	run(t, plan{quiet: true, destinations: []destination{to("shop", receiver.Fine)}}, func(w *world) {
		w.send("before")
		w.rest(time.Minute, time.Second)
		w.want("before", "shop", ledger.Delivered, 1)
		end := w.unreachable(topology.Registry)
		w.send("bridged")
		w.rest(10*time.Minute, time.Second)
		w.want("bridged", "shop", ledger.Delivered, 1)
		time.Sleep(15 * time.Minute) // now what is known is too old
		w.send("deferred")
		time.Sleep(20 * time.Minute)
		if n := w.calls("deferred", "shop"); n != 0 {
			t.Errorf("%d calls to destinations that nobody knows", n)
		}
		end()
		w.rest(time.Hour, time.Second)
		w.want("deferred", "shop", ledger.Delivered, 1)
		w.noLetters()
	})
}

// TestSettleCannotBeWritten: the result travels as a message until the ledger takes it; the effect is not repeated for the books' sake.
func TestSettleCannotBeWritten(t *testing.T) {
	for name, row := range map[string]struct {
		destination destination
		match       string
		state       ledger.State
		calls       int
	}{
		"success":          {to("shop", receiver.Fine), settling, ledger.Delivered, 1},
		"retry":            {to("shop", receiver.Flaky, "1s", "2s", "4s"), settling, ledger.Delivered, 3},
		"reject":           {to("shop", receiver.Rejecting), settling, ledger.Dead, 1},
		"relaxed, success": {relaxed(to("shop", receiver.Fine)), recording, ledger.Delivered, 1},
		"relaxed, retry":   {relaxed(to("shop", receiver.Flaky, "1s", "2s", "4s")), recording, ledger.Delivered, 3},
		"relaxed, reject":  {relaxed(to("shop", receiver.Rejecting)), recording, ledger.Dead, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, plan{destinations: []destination{row.destination}}, func(w *world) {
				down := w.Endpoint.Faults().Add(awslocal.Fault{Operation: "BatchExecuteStatement", Match: about(row.match), Error: lost})
				w.send("order")
				for range 10 {
					time.Sleep(time.Minute)
					w.receivedFewTimes(3)
				}
				if w.Busy() == 0 || down.Hits() == 0 {
					t.Errorf("the result is kept nowhere")
				}
				down.Remove()
				w.rest(30*time.Minute, time.Second)
				w.want("order", "shop", row.state, row.calls)
				if n := len(w.lettersOf("order", "shop")); (n == 1) != (row.state == ledger.Dead) || n > 1 {
					t.Errorf("%d dead letters", n)
				}
			})
		})
	}
}

// receivedFewTimes checks that no message comes near to being counted out.
func (w *world) receivedFewTimes(most int) {
	w.t.Helper()
	for _, m := range w.queue(topology.Deliveries).Snapshot() {
		if n := m.Attributes["ApproximateReceiveCount"]; n > fmt.Sprint(most) || len(n) > 1 {
			w.t.Errorf("a message was received %s times: %.300s", n, m.Body)
			return
		}
	}
}

// TestCostOfTenDeliveries: ten strict first attempts in one batch cost two DynamoDB calls and 20 write units, ten relaxed ones half the
// write units.
func TestCostOfTenDeliveries(t *testing.T) {
	for name, row := range map[string]struct {
		destination destination
		operations  map[string]int
		write, read float64
	}{
		"strict":  {to("shop", receiver.Fine), map[string]int{"BatchExecuteStatement": 2}, 20, 0},
		"relaxed": {relaxed(to("shop", receiver.Fine)), map[string]int{"BatchGetItem": 1, "BatchExecuteStatement": 1}, 10, 10},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, plan{destinations: []destination{row.destination}, stopped: true}, func(w *world) {
				w.batch(names("warm", 1)) // reads the registry
				w.rest(time.Minute, time.Second)
				if err := w.Pause(context.Background()); err != nil {
					t.Fatal(err)
				}
				before := w.Endpoint.Counts()
				ids := names("order", 10)
				w.batch(ids)
				w.rest(time.Minute, time.Second)
				got := w.Endpoint.Counts().Since(before)
				total := got.Total("dynamodb")
				if total.Units.Write != row.write || total.Units.Read != row.read {
					t.Errorf("%v write units and %v read units, want %v and %v", total.Units.Write, total.Units.Read, row.write, row.read)
				}
				for operation, n := range row.operations {
					if calls := got[awslocal.Op{Service: "dynamodb", Name: operation}].Attempted; calls != n {
						t.Errorf("%d calls of %s, want %d", calls, operation, n)
					}
					total.Attempted -= n
				}
				if total.Attempted != 0 {
					t.Errorf("%d other calls to DynamoDB: %v", total.Attempted, got)
				}
				for _, id := range ids {
					w.want(id, "shop", ledger.Delivered, 1)
				}
			})
		})
	}
}
