package waker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/waybillhq/waybill/functions/waker"
	localsqs "github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/waiting"
)

func parked(n int, destination string, accepted time.Time) waiting.Held {
	return waiting.Held{Message: message(n, destination, accepted), Parked: true}
}

// marks counts the destinations that are marked.
func (r *region) marks() (n int) {
	r.t.Helper()
	for shard := range waiting.Shards {
		page, err := r.store.Read(r.t.Context(), waiting.Bucket{Kind: waiting.Marks, Shard: shard}.Name(), "", "", 1000)
		r.check(err)
		n += len(page.Rows)
	}
	return n
}

func TestParkedDrainInOrderOfAcceptance(t *testing.T) {
	t.Parallel()
	inRegion(t, handler, func(t *testing.T, r *region) {
		r.closed["orders-crm"] = true
		const n = 1000
		began := time.Now()
		var held []waiting.Held
		for i := range n {
			held = append(held, parked(i, "orders-crm", began.Add(-time.Duration((i*7919)%n)*time.Second))) // in no order
		}
		r.hold(held...)
		r.until(began.Add(2 * time.Minute))
		if got := r.arrivals(); len(got) != 0 || r.rows() != n || r.total.Drained != 0 {
			t.Fatalf("%d deliveries went to a destination that may not receive; %+v", len(got), r.total)
		}
		delete(r.closed, "orders-crm")
		stop := r.wakes()
		var order []time.Time
		perMinute := map[int]int{}
		for range 4 * 60 {
			<-time.After(time.Second)
			got := r.arrivals()
			slices.SortFunc(got, func(a, b delivery.Message) int { return a.AcceptedAt.Compare(b.AcceptedAt) }) // within a second in any order
			if len(got) > 12 {
				t.Errorf("%d deliveries in a second", len(got))
			}
			for _, m := range got {
				order = append(order, m.AcceptedAt)
				perMinute[int(time.Since(began).Minutes())]++
				if m.HeldSince.Sub(began).Abs() > time.Second || !m.DueAt.IsZero() {
					t.Fatalf("message %+v", m)
				}
			}
		}
		stop()
		if len(order) != n || !slices.IsSortedFunc(order, time.Time.Compare) {
			t.Errorf("%d deliveries arrived, in order: %v", len(order), slices.IsSortedFunc(order, time.Time.Compare))
		}
		for minute, n := range perMinute {
			if n > 620 {
				t.Errorf("%d deliveries in minute %d", n, minute)
			}
		}
		if r.rows() != 0 || r.total.Drained != n {
			t.Errorf("%d rows are left, %+v", r.rows(), r.total)
		}
	})
}

// A mark stays while a holder may rely on it, or rows are there, and goes then.
func TestMarks(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		began := time.Now()
		r.hold(parked(1, "orders-crm", began))
		r.until(began.Add(limits.MarkCache - time.Second)) // drained by now
		if r.rows() != 0 || r.marks() != 1 {
			t.Fatalf("%d rows, %d marks", r.rows(), r.marks())
		}
		before := r.puts
		r.hold(parked(2, "orders-crm", began)) // relies on the first mark
		if n := r.puts - before; n != 1 {
			t.Errorf("%d writes for a delivery whose destination is marked", n)
		}
		r.closed["orders-crm"] = true
		r.until(began.Add(time.Hour))
		if r.rows() != 1 || r.marks() != 1 {
			t.Fatalf("%d rows, %d marks", r.rows(), r.marks())
		}
		before = r.puts
		marked := time.Now()
		r.hold(parked(3, "orders-crm", began)) // marks again
		if n := r.puts - before; n != 2 {
			t.Errorf("%d writes for a delivery whose destination was marked an hour ago", n)
		}
		delete(r.closed, "orders-crm")
		r.until(marked.Add(limits.ClearAfter()))
		if r.rows() != 0 || r.marks() != 1 {
			t.Fatalf("%d rows, %d marks", r.rows(), r.marks())
		}
		r.until(marked.Add(limits.ClearAfter() + time.Minute))
		if r.marks() != 0 || r.total.Stray != 0 {
			t.Errorf("%d marks, %d strays", r.marks(), r.total.Stray)
		}
	})
}

func TestParkedAgainWhileTheWakerIsAtIt(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		h := parked(1, "orders-crm", time.Now())
		r.hold(h)
		// The deliverer is so quick that the delivery is parked again before its row is deleted.
		again := 0
		w := r.another(hook{r.sender, func() {
			again++
			r.hold(h)
		}})
		report, err := w.Run(t.Context())
		if err != nil || report.Drained != 1 || again != 1 || r.rows() != 1 {
			t.Fatalf("%+v, %v, %d rows", report, err, r.rows())
		}
		<-time.After(time.Minute)
		if r.run(); r.rows() != 0 {
			t.Errorf("%d rows", r.rows())
		}
		<-time.After(time.Minute)
		if n := len(r.arrivals()); n != 2 {
			t.Errorf("%d messages", n)
		}
	})
}

func TestHeldDestinationsAreVisitedToo(t *testing.T) {
	inRegion(t, connections, func(t *testing.T, r *region) {
		r.closed["gone"] = true
		began := time.Now()
		for i := range 30 {
			r.hold(parked(i, "gone", time.Now()))
			<-time.After(time.Hour)
		}
		// An old delivery that was parked late, and is first in order.
		r.hold(parked(1000, "gone", began.Add(-30*24*time.Hour)))
		<-time.After(time.Until(began.Add(limits.LongestPark + 10*time.Hour + time.Minute)))
		report := r.run()
		if report.Expired != 11 || report.Held != 1 || report.Destinations != 1 || r.rows() != 20 {
			t.Fatalf("%+v, %d rows", report, r.rows())
		}
		<-time.After(2 * time.Minute)
		for _, m := range r.arrivals() {
			if held := time.Since(m.HeldSince); held < limits.LongestPark {
				t.Errorf("delivery %s was parked for %v only", m.Event.ID, held)
			}
		}
	})
}

func TestUnknownStateDrainsNothing(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		r.hold(parked(1, "orders-crm", time.Now()))
		broken := r.destinations(func(string) (waker.Permit, error) { return waker.Permit{May: true}, errors.New("registry down") })
		report, err := broken.Run(t.Context())
		if err == nil || report.Drained != 0 || r.rows() != 1 {
			t.Errorf("%+v, %v, %d rows", report, err, r.rows())
		}
		if r.run(); r.rows() != 0 {
			t.Errorf("%d rows", r.rows())
		}
	})
}

func TestRamp(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		for i := range 100 {
			r.hold(parked(i, "orders-crm", time.Now()))
		}
		most := 1
		ramp := r.destinations(func(string) (waker.Permit, error) { return waker.Permit{May: true, Most: most}, nil })
		for _, want := range []int{1, 2, 4, 8, 16, 32, 37} {
			report, err := ramp.Run(t.Context())
			if err != nil || report.Drained != want {
				t.Fatalf("%+v, %v, want %d drained", report, err, want)
			}
			most *= 2
			<-time.After(time.Minute)
		}
	})
}

// Many destinations are parked at once: all are visited, and a marked one without rows costs nothing but reads.
func TestManyDestinations(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		var held []waiting.Held
		for i := range 300 {
			name := fmt.Sprintf("destination-%d", i)
			r.closed[name] = i%2 == 0
			held = append(held, parked(i, name, time.Now()), parked(i+1000, name, time.Now()))
		}
		r.hold(held...)
		report := r.run()
		if report.Destinations != 300 || report.Held != 150 || report.Drained != 300 || r.rows() != 300 {
			t.Errorf("%+v, %d rows", report, r.rows())
		}
		var got []localsqs.Held
		if got = r.queue.Snapshot(); len(got) != 300 {
			t.Errorf("%d messages", len(got))
		}
	})
}

func TestRunsThatEndEarlyAreGoneOnWith(t *testing.T) {
	t.Parallel()
	inRegion(t, memory, func(t *testing.T, r *region) {
		began := time.Now().Truncate(time.Minute)
		r.run()
		for i := range 500 {
			r.hold(due(i, began.Add(20*time.Minute)), parked(i, "orders-crm", began))
		}
		<-time.After(time.Hour) // so that buckets are closed as soon as they seem to be empty
		r.memory.PageRows = 20
		slow := r.another(slowly{r.sender, 2 * time.Second})
		runs, sent, strays := 0, 0, 0
		for complete := false; !complete; runs++ {
			if runs > 20 {
				t.Fatal("the waker does not come to an end")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			began := time.Now()
			report, err := slow.Run(ctx)
			if cancel(); err != nil || time.Since(began) > 8*time.Second {
				t.Fatalf("%+v, %v after %v", report, err, time.Since(began))
			}
			sent, strays = sent+report.Moved+report.Drained, strays+report.Stray
			complete = report.Complete
			<-time.After(time.Minute)
		}
		if runs < 3 || sent != 1000 || strays != 0 || r.rows() != 0 {
			t.Errorf("%d runs sent %d, %d of them strays, %d rows are left", runs, sent, strays, r.rows())
		}
	})
}

// Parked deliveries that nobody touches are not forgotten: each run tells the age of the oldest, whatever their destination may do, and nothing once they are gone.
func TestOldestParkedIsTold(t *testing.T) {
	t.Parallel()
	inRegion(t, handler, func(t *testing.T, r *region) {
		if got := r.run().OldestParked; got != 0 {
			t.Errorf("%v with nothing parked", got)
		}
		began := time.Now()
		r.hold(parked(4, "billing", began.Add(-time.Hour)), parked(5, "billing", began.Add(-5*time.Hour)))
		if got := r.run().OldestParked; got < 5*time.Hour || got > 5*time.Hour+time.Minute {
			t.Errorf("%v, want 5 h", got)
		}
		r.closed["orders-crm"] = true
		r.hold(parked(1, "orders-crm", began.Add(-time.Hour)), parked(2, "orders-crm", began.Add(-3*time.Hour)), parked(3, "billing", began.Add(-2*time.Hour)))
		if got := r.run().OldestParked; got < 3*time.Hour || got > 3*time.Hour+time.Minute {
			t.Errorf("%v, want 3 h", got)
		}
		delete(r.closed, "orders-crm")
		r.run()
		if got := r.run().OldestParked; got != 0 {
			t.Errorf("%v after all have gone", got)
		}
	})
}
