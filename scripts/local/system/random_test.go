package system_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

var (
	seeds = flag.Int("seeds", defaultSeeds, "how many seeds TestRandomFaults plays")
	seed  = flag.Uint64("seed", 0, "the only seed that TestRandomFaults plays; 0: all")
)

// TestRandomFaults plays ten seconds of events to three destinations while everything goes wrong that the other tests know of, each seed its own
// mixture. Afterwards every delivery is delivered or dead-lettered by the rules, nothing is lost, a receiver that honours webhook-id saw
// no effect twice, and every HTTP call beyond the schedule is explained by an incident. A seed fixes what is done to the system and when;
// the order of goroutines, owners and jitter it does not, so a seed that fails is best played several times (-seed 17 -count 20).
func TestRandomFaults(t *testing.T) {
	all := *seeds
	if testing.Short() {
		all = min(all, 20)
	}
	for n := uint64(1); n <= uint64(all); n++ {
		if *seed != 0 {
			n = *seed
		}
		t.Run(fmt.Sprintf("seed %d", n), func(t *testing.T) {
			t.Parallel()
			random(t, n)
		})
		if *seed != 0 {
			return
		}
	}
}

// chaos is what a seed does to the system. It is asked from many goroutines.
type chaos struct {
	mu    sync.Mutex
	rand  *rand.Rand
	quiet bool // the time of faults is over
	// incidents are the times of what explains an HTTP call beyond the schedule: a worker that was killed, an answer that was
	// lost, a message that came twice, a future or a claim that could not be written. One can touch a whole batch.
	incidents []time.Time
}

// strikes is true with probability p while the time of faults lasts, and then counts an incident.
func (c *chaos) strikes(p float64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quiet || c.rand.Float64() >= p {
		return false
	}
	c.incidents = append(c.incidents, time.Now())
	return true
}

func (c *chaos) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet = true
}

func (c *chaos) upTo(d time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.rand.Int64N(int64(d)))
}

func random(t *testing.T, n uint64) {
	c := &chaos{rand: rand.New(rand.NewPCG(n, 0))}
	const events = 8
	p := plan{
		destinations: []destination{
			to("strict", "any", "1s", "2s", "4s", "8s", "1m", "1m"),
			relaxed(to("relaxed", "any", "1s", "2s", "4s", "8s", "1m", "1m")),
			to("picky", "any", "1s"), // two attempts: dead letters
		},
		disorder: sqs.Disorder{Reorder: 0.2, Duplicate: 0.05 * float64(n%2)}, seed: n, stopped: true, quiet: true, random: true,
		incidents: 1 << 20, // counted below, over all deliveries
		answer: func(w *world, r receiver.Request, h http.Header) int {
			switch {
			case c.strikes(0.02):
				w.crash("request received")
				return receiver.NoAnswer
			case c.strikes(0.05):
				time.Sleep(c.upTo(20 * time.Second)) // beyond the timeout, now and then
			}
			switch x := c.upTo(100); {
			case strings.HasSuffix(r.Path, "/picky") && x < 30:
				return http.StatusBadRequest
			case x < 40:
				return http.StatusOK
			case x < 60:
				return http.StatusInternalServerError
			case x < 65:
				h.Set("Retry-After", "3")
				return http.StatusTooManyRequests
			case x < 70:
				return receiver.NoAnswer
			}
			return 0
		},
		received: func(w *world, _ receiver.Request) {
			if c.strikes(0.02) {
				w.crash("receiver has acted")
			}
		},
		fault: func(_ *world, _ topology.FunctionName, _ mapping.Batch) mapping.Fault {
			var f mapping.Fault
			f.Duplicate = c.strikes(0.05)
			f.LoseAnswer = c.strikes(0.05)
			if c.strikes(0.05) {
				f.CrashAfter = 1 + c.upTo(5*time.Second)
			}
			return f
		},
	}
	run(t, p, func(w *world) {
		w.plant(c)
		w.Resume(context.Background())
		ids := names("event", events)
		for _, id := range ids {
			w.send(id)
			if c.upTo(4) == 0 {
				w.send(id)
			}
			time.Sleep(c.upTo(2500 * time.Millisecond))
		}
		c.end()
		w.Endpoint.Faults().Clear()
		w.rest(6*time.Hour, 5*time.Second)
		w.account(c, ids)
	})
}

// plant makes named calls of the functions fail in every way.
func (w *world) plant(c *chaos) {
	strike := func(p float64, operations ...string) func([]byte) bool {
		return func(document []byte) bool {
			return slices.ContainsFunc(operations, func(part string) bool { return about(part)(document) }) && c.strikes(p)
		}
	}
	faults := w.Endpoint.Faults()
	down := &wire.Error{Code: "InternalServerError", Message: "Internal server error", Status: http.StatusInternalServerError}
	ledgerCalls := []string{claiming, reclaiming, settling, recording, `"Keys"`}
	functionSends := []string{`/deliveries"`, burying}
	faults.Add(awslocal.Fault{Service: "dynamodb", Match: strike(0.1, ledgerCalls...), Throttle: true})
	faults.Add(awslocal.Fault{Service: "dynamodb", Match: strike(0.1, ledgerCalls...), Error: down})
	faults.Add(awslocal.Fault{Service: "dynamodb", Match: strike(0.1, ledgerCalls...), WithholdAnswer: true})
	faults.Add(awslocal.Fault{Service: "dynamodb", Match: strike(0.05, ledgerCalls...), Duplicate: true})
	faults.Add(awslocal.Fault{Service: "dynamodb", Match: strike(0.05, ledgerCalls...), Delay: 1 + c.upTo(90*time.Second)})
	faults.Add(awslocal.Fault{Service: "dynamodb", Match: func(document []byte) bool {
		hit := strike(0.03, ledgerCalls...)(document)
		if hit {
			w.crash("calling DynamoDB")
		}
		return hit
	}, WithholdAnswer: c.upTo(2) == 0, Error: map[bool]*wire.Error{true: lost}[c.upTo(2) == 0]})
	faults.Add(awslocal.Fault{Operation: "SendMessageBatch", Match: strike(0.1, functionSends...), Error: lost})
	faults.Add(awslocal.Fault{Operation: "SendMessageBatch", Match: strike(0.1, functionSends...), WithholdAnswer: true})
	faults.Add(awslocal.Fault{Operation: "SendMessageBatch", Match: strike(0.05, functionSends...), Duplicate: true})
	faults.Add(awslocal.Fault{Operation: "ChangeMessageVisibilityBatch", Match: strike(0.2, `"Entries"`), Error: lost})
}

// until counts the incidents up to a time.
func (c *chaos) until(end time.Time) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.incidents {
		if !at.After(end) {
			n++
		}
	}
	return n
}

// account checks what the laws of every world leave open: states by the rules, and that each call of a delivery beyond its attempts has an
// incident of its own before it.
func (w *world) account(c *chaos, ids []string) {
	w.t.Helper()
	for _, id := range ids {
		for d := range w.set.All() {
			found, _ := w.waybill(id, d.ID)
			requests := w.requests(id, d.ID)
			// SQS's own duplicates are no incidents of ours; only relaxed deliveries may show them.
			if duplicated := d.Ledger == registry.Relaxed && w.plan.disorder.Duplicate > 0; !duplicated {
				for i := max(found.Attempt, 0); i < len(requests); i++ {
					if extra, incidents := i+1-found.Attempt, c.until(requests[i].At); extra > incidents {
						w.t.Errorf("%s at %s: %d HTTP calls beyond its %d attempts after %d incidents", id, d.ID, extra, found.Attempt, incidents)
					}
				}
			}
			if found.State == ledger.Dead {
				last := requests[len(requests)-1]
				if attempts := len(d.Retry.Waits()) + 1; found.Attempt != attempts && found.Code != http.StatusBadRequest {
					w.t.Errorf("%s at %s was given up after attempt %d of %d: %+v, last answer %d", id, d.ID, found.Attempt, attempts, found, last.Status)
				}
			}
			for _, l := range w.lettersOf(id, d.ID) {
				if l.Reason == "" && l.Receives == "" || l.Delivery.Epoch > 1 {
					w.t.Errorf("%s at %s: dead letter %+v", id, d.ID, l)
				}
			}
		}
	}
}
