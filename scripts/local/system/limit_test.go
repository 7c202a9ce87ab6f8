package system_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/topology"
)

// limited gives a destination a rate.
func limited(d destination, limit int, per time.Duration, burst int) destination {
	d["rate"] = map[string]any{"limit": limit, "per": per.String(), "burst": burst}
	return d
}

// received counts the messages that a function gets.
type received struct {
	mu sync.Mutex
	of map[topology.FunctionName]int
}

func (r *received) count(_ *world, f topology.FunctionName, b mapping.Batch) mapping.Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[topology.FunctionName]int{}
	}
	r.of[f] += len(b.MessageIDs)
	return mapping.Fault{}
}

// within checks that a destination has got no more calls in any time than its rate allows, and gives from the first to the last of them.
func (w *world) within(destination string, limit int, per time.Duration, burst int) time.Duration {
	w.t.Helper()
	var at []time.Time
	for _, r := range w.receiver.Log() {
		if strings.HasSuffix(r.Path, "/"+destination) {
			at = append(at, r.At)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	interval := per / time.Duration(limit)
	for i := range at {
		for j := i; j < len(at); j++ {
			if took := at[j].Sub(at[i]); j-i+1 > burst+int((took+interval-1)/interval) {
				w.t.Errorf("%s had %d calls within %v", destination, j-i+1, took)
				return 0
			}
		}
	}
	return at[len(at)-1].Sub(at[0])
}

// TestRateIsKept: a thousand deliveries at once to a destination that gets fifty a second, made by four environments. It gets no more than that in any time,
// nothing is lost, no attempt is spent on waiting, each delivery is sent around once or twice, and who has no limit waits for nobody.
func TestRateIsKept(t *testing.T) {
	const most = 50
	var got received
	p := plan{
		destinations: []destination{limited(to("limited", receiver.Fine), most, time.Second, 10), to("healthy", receiver.Fine)}, fault: got.count,
		topology: func(t *topology.Topology) {
			for i := range t.Functions {
				if f := &t.Functions[i]; f.Name == topology.Deliverer {
					f.Source.MaximumConcurrency = 4
				}
			}
		},
	}
	run(t, p, func(w *world) {
		ids := names("order", 1000)
		w.send(ids...)
		sent := time.Now()
		w.rest(time.Hour, time.Second)
		took := w.within("limited", most, time.Second, 10)
		latest, calls := time.Duration(0), map[string]int{}
		for _, r := range w.receiver.Log() {
			if calls[r.Path+r.Header.Get("Ce-Id")]++; strings.HasSuffix(r.Path, "/healthy") {
				latest = max(latest, r.At.Sub(sent))
			}
		}
		for _, id := range ids {
			for _, destination := range []string{"limited", "healthy"} {
				found, _ := w.waybill(id, destination)
				if n := calls["/"+receiver.Fine+"/"+destination+id]; n != 1 || found.State != ledger.Delivered || found.Attempt != 1 {
					t.Fatalf("%s was called %d times for %s: %+v", destination, n, id, found)
				}
			}
		}
		if latest > 5*time.Second {
			t.Errorf("beside a limited destination a delivery took %v", latest)
		}
		if took > 30*time.Second {
			t.Errorf("a thousand calls at 50 a second took %v", took)
		}
		again := got.of[topology.Deliverer] + got.of[topology.SlowLane] - 2*len(ids)
		if again > 2*len(ids) {
			t.Errorf("%d messages were sent again for a thousand deliveries", again)
		}
		w.noLetters()
		t.Logf("a thousand calls took %v, %d messages were sent again, the latest delivery without a limit came after %v", took, again, latest)
	})
}

// TestLongQueueWaitsInTheRoom: what gets its turn in more than 15 minutes waits in the waiting room and comes at its turn, without being looked at meanwhile; a
// deliverer that dies in between wastes calls at most.
func TestLongQueueWaitsInTheRoom(t *testing.T) {
	var got received
	p := plan{
		quiet: true, destinations: []destination{limited(to("limited", receiver.Fine), 1, time.Minute, 2)}, incidents: 1,
		fault: func(w *world, f topology.FunctionName, b mapping.Batch) mapping.Fault {
			fault := got.count(w, f, b)
			if b.Number%7 == 3 && f != topology.Router {
				fault.CrashAfter = 10 * time.Millisecond
			}
			return fault
		},
	}
	run(t, p, func(w *world) {
		ids := names("order", 40)
		w.send(ids...)
		w.rest(3*time.Hour, time.Minute)
		took := w.within("limited", 1, time.Minute, 2)
		for _, id := range ids {
			w.want(id, "limited", ledger.Delivered, w.calls(id, "limited"))
		}
		if took > time.Hour {
			t.Errorf("40 calls at one a minute took %v", took)
		}
		times := float64(got.of[topology.Deliverer]+got.of[topology.SlowLane]) / float64(len(ids))
		if times > 5 {
			t.Errorf("each delivery was received %.1f times", times)
		}
		w.noLetters()
		t.Logf("40 calls at one a minute took %v, each delivery was received %.1f times", took, times)
	})
}
