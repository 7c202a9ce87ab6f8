package breaker_test

import (
	"container/heap"
	"context"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
)

// day is a destination with all its deliveries, several environments, and a waker. Held deliveries are parked in order of acceptance.
type day struct {
	*world
	environments []*breaker.Breaker
	waker        *breaker.Breaker
	up           bool
	parked       numbers
	calls        int // that reached the destination
	delivered    int
	failed       int // attempts that count against a schedule
	reports      breaker.Report
	queue        []int
	next         int // environment
}

// numbers are deliveries by their order of acceptance, the oldest first.
type numbers []int

func (n numbers) Len() int           { return len(n) }
func (n numbers) Less(i, j int) bool { return n[i] < n[j] }
func (n numbers) Swap(i, j int)      { n[i], n[j] = n[j], n[i] }
func (n *numbers) Push(x any)        { *n = append(*n, x.(int)) }
func (n *numbers) Pop() any {
	last := len(*n) - 1
	x := (*n)[last]
	*n = (*n)[:last]
	return x
}

const eventsPerSecond = 50

func newDay(t *testing.T) *day {
	d := &day{world: newWorld(t), up: true}
	for i := range 5 {
		d.environments = append(d.environments, d.environment(time.Duration(i-2)*2*time.Second))
	}
	d.waker = d.environment(-3 * time.Second)
	return d
}

// second lets a second pass: events arrive, batches of ten are worked on. What fails is tried again after it was parked.
func (d *day) second(arrive int) {
	d.pass(time.Second)
	for range arrive {
		d.ids++
		d.queue = append(d.queue, d.ids)
	}
	for len(d.queue) > 0 {
		n := min(10, len(d.queue))
		d.work(d.queue[:n])
		d.queue = d.queue[n:]
	}
	d.queue = nil
}

func (d *day) work(deliveries []int) {
	b := d.environments[d.next%len(d.environments)].Begin()
	d.next++
	for _, n := range deliveries {
		decision := b.Gate(context.Background(), "crm", delivery.ID(rune('a'+n%26)))
		if !decision.Pass {
			heap.Push(&d.parked, n)
			continue
		}
		d.calls++
		if d.up {
			d.delivered++
			b.Record("crm", decision, downstream.Delivered, 0)
			continue
		}
		if !decision.Probe {
			d.failed++
		}
		heap.Push(&d.parked, n)
		b.Record("crm", decision, downstream.Retry, 0)
	}
	r, err := b.End(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	d.reports.Held += r.Held
	d.reports.Probes += r.Probes
	d.reports.Opened += r.Opened
	d.reports.Recovered += r.Recovered
}

// wake is a run of the waker: what may go is on the queue for the next second. It gives how many went.
func (d *day) wake(drainPerRun int) int {
	may, most := d.waker.Permit(context.Background(), "crm")
	if !may {
		return 0
	}
	if most == 0 {
		most = drainPerRun
	}
	n := min(most, d.parked.Len())
	for range n {
		d.queue = append(d.queue, heap.Pop(&d.parked).(int))
	}
	return n
}

// TestDownForADay: a destination with 50 events a second is down for a day, and recovers. With the race detector, which is slow, it is an hour.
func TestDownForADay(t *testing.T) {
	d := newDay(t)
	const drainPerRun = 12_000
	length := 24 * time.Hour
	if raceDetector {
		length = time.Hour
	}
	run := func(length time.Duration) {
		for s := range int(length / time.Second) {
			if s%60 == 0 {
				d.wake(drainPerRun)
			}
			d.second(eventsPerSecond)
		}
	}
	run(10 * time.Minute)
	if _, writes := d.store.Calls(); writes != 0 || d.calls != 10*60*eventsPerSecond {
		t.Fatalf("healthy: %d writes, %d calls", writes, d.calls)
	}

	d.up, d.calls = false, 0
	_, before := d.store.Calls()
	run(length)
	events := int(length/time.Second) * eventsPerSecond
	reads, writes := d.store.Calls()
	t.Logf("down for %v: %d events, %d calls, %d of them probes, %d attempts spent, %d saved; %d writes, %d reads", length, events, d.calls, d.reports.Probes,
		d.failed, d.reports.Held, writes-before, reads)
	if d.parked.Len() != events {
		t.Errorf("%d parked of %d", d.parked.Len(), events)
	}
	// 30 s, 1, 2 and 4 minutes, then 5 minutes each; a waker may bring a probe a little later than it is due.
	if d.reports.Probes > 7+int(length/(5*time.Minute)) || d.reports.Probes < 3+int(length/(6*time.Minute)) {
		t.Errorf("%d probes", d.reports.Probes)
	}
	if most := 20 * eventsPerSecond; d.failed > most {
		t.Errorf("%d attempts spent before the breaker was open everywhere, at most %d", d.failed, most)
	}
	if writes-before > 2000 {
		t.Errorf("%d writes", writes-before)
	}

	d.up, d.calls = true, 0
	recovered := d.now
	for d.reports.Recovered == 0 {
		if d.now.Sub(recovered) > breaker.DefaultRules().BoundedBy() {
			t.Fatal("the breaker does not close")
		}
		d.second(eventsPerSecond)
	}
	t.Logf("closed %v after recovery", d.now.Sub(recovered))
	oldest := d.parked[0]
	for minute, want := range []int{10, 20, 40, 80, 160, 320, drainPerRun, drainPerRun} {
		backlog := d.parked.Len()
		// A waker whose clock is behind is a minute late on the ramp.
		if got := d.wake(drainPerRun); got > want || minute < 6 && got < want/2 || minute == 7 && got != want {
			t.Errorf("minute %d: %d drained, want %d", minute, got, want)
		}
		if minute == 0 && d.queue[0] != oldest {
			t.Errorf("delivery %d goes first, want %d", d.queue[0], oldest)
		}
		for range 60 {
			d.second(eventsPerSecond)
		}
		// What the waker's clock and the cache of others differ by is held for some seconds more at the beginning.
		if d.parked.Len() > backlog+10*eventsPerSecond {
			t.Errorf("minute %d: the backlog grows from %d to %d", minute, backlog, d.parked.Len())
		}
	}
	for d.parked.Len() > 0 {
		d.wake(drainPerRun)
		for range 60 {
			d.second(eventsPerSecond)
		}
	}
	t.Logf("drained %v after recovery, at %d a minute", d.now.Sub(recovered), drainPerRun)
	if d.delivered != d.ids {
		t.Errorf("%d delivered of %d", d.delivered, d.ids)
	}
	if d.reports.Opened > d.reports.Probes+1 {
		t.Errorf("%d openings, %d probes: it has opened again after recovery", d.reports.Opened, d.reports.Probes)
	}
}
