package waker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/functions/waker"
	"github.com/waybillhq/waybill/shared/awslocal"
	localsqs "github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/waiting"
)

// arrivalTimes receives at every second until end and gives when each delivery arrived, by event id.
func (r *region) arrivalTimes(end time.Time) map[string][]time.Time {
	r.t.Helper()
	at := map[string][]time.Time{}
	for ; !time.Now().After(end); <-time.After(time.Second) {
		for _, m := range r.arrivals() {
			at[m.Event.ID] = append(at[m.Event.ID], time.Now())
		}
	}
	return at
}

func due(n int, at time.Time) waiting.Held {
	return waiting.Held{Message: message(n, "orders-crm", time.Now()), DueAt: at}
}

func TestEveryDeliveryArrivesAtItsSecond(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		began := time.Now()
		want := map[string]time.Time{}
		for n := range 40 {
			at := began.Add(16*time.Minute + time.Duration(rand.Int64N(int64(20*time.Minute)))).Truncate(time.Millisecond)
			want[fmt.Sprint(n)] = at
			r.hold(due(n, at))
		}
		stop := r.wakes()
		got := r.arrivalTimes(began.Add(45 * time.Minute))
		stop()
		for id, at := range want {
			if len(got[id]) != 1 || got[id][0].Before(at) || got[id][0].Sub(at) > 2*time.Second {
				t.Errorf("delivery %s arrived at %v, due at %v", id, got[id], at)
			}
		}
		if n := r.rows(); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

func TestMessageSaysWhenItWasDue(t *testing.T) {
	inRegion(t, connections, func(t *testing.T, r *region) {
		at := time.Now().Add(time.Hour)
		h := due(1, at)
		h.Trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
		r.hold(h)
		<-time.After(51 * time.Minute)
		r.run()
		<-time.After(time.Until(at) + time.Second)
		got, err := r.queue.Receive(t.Context(), localsqs.ReceiveOptions{})
		if err != nil || len(got) != 1 {
			t.Fatalf("%d messages, %v", len(got), err)
		}
		m, err := delivery.Decode(got[0].Body)
		if err != nil || !m.DueAt.Equal(at.Truncate(time.Millisecond)) || m.Attempt != 2 || string(m.Event.Data) != `{"n":1}` {
			t.Errorf("message %+v, %v", m, err)
		}
		if group, trace := got[0].Attributes["MessageGroupId"], got[0].Attributes["AWSTraceHeader"]; group != "orders-crm" || trace != h.Trace {
			t.Errorf("group %q, trace %q", group, trace)
		}
	})
}

func TestThousandsInOneMinute(t *testing.T) {
	t.Parallel()
	inRegion(t, handler, func(t *testing.T, r *region) {
		const n = 1500
		minute := time.Now().Truncate(time.Minute).Add(30 * time.Minute)
		var held []waiting.Held
		for i := range n {
			held = append(held, due(i, minute.Add(time.Duration(i)*time.Minute/n)))
		}
		before := r.endpoint.Counts()
		r.hold(held...)
		<-time.After(time.Until(minute.Add(-7 * time.Minute)))
		r.run()
		counts := r.endpoint.Counts().Since(before)
		for op, most := range map[awslocal.Op]int{
			{Service: "dynamodb", Name: "BatchWriteItem"}: n / 25, {Service: "dynamodb", Name: "BatchExecuteStatement"}: n/25 + 8, {Service: "dynamodb", Name: "DeleteItem"}: 0,
			{Service: "sqs", Name: "SendMessageBatch"}: n/10 + waiting.Shards,
		} {
			if got := counts[op].Attempted; got > most {
				t.Errorf("%s: %d calls, at most %d", op, got, most)
			}
		}
		if r.total.Moved != n || r.rows() != 0 {
			t.Fatalf("%+v, %d rows are left", r.total, r.rows())
		}
		seen := map[delivery.ID]bool{}
		for now := time.Now(); now.Before(minute.Add(2 * time.Minute)); now = time.Now() {
			for _, m := range r.arrivals() {
				if off := now.Sub(m.DueAt); seen[m.Delivery] || off < 0 || off > 2*time.Second {
					t.Fatalf("delivery %s: seen before is %v, %v after it was due", m.Delivery, seen[m.Delivery], off)
				}
				seen[m.Delivery] = true
			}
			<-time.After(time.Second)
		}
		if len(seen) != n {
			t.Errorf("%d deliveries arrived", len(seen))
		}
	})
}

func TestPartitionIsNotWrittenFasterThanItCan(t *testing.T) {
	inRegion(t, handler, func(t *testing.T, r *region) {
		at := time.Now().Truncate(time.Minute).Add(16 * time.Minute)
		var held []waiting.Held
		for i := 0; len(held) < 500; i++ {
			if h := due(i, at); waiting.ShardOf(string(h.Message.Delivery)) == 3 { // all in one partition
				held = append(held, h)
			}
		}
		r.hold(held...)
		<-time.After(7 * time.Minute)
		began := time.Now()
		r.run()
		// Five hundred units of a partition, at 800 a second, but for the last hundred.
		if took := time.Since(began); took < 500*time.Millisecond || r.total.Moved != 500 {
			t.Errorf("%d rows moved in %v", r.total.Moved, took)
		}
	})
}

func TestLargeRowsComeInPages(t *testing.T) {
	t.Parallel()
	inRegion(t, handler, func(t *testing.T, r *region) {
		at := time.Now().Truncate(time.Minute).Add(16 * time.Minute)
		random := rand.NewChaCha8([32]byte{1})
		want := map[string]string{}
		for i := 0; len(want) < 4; i++ {
			h := due(i, at)
			if waiting.ShardOf(string(h.Message.Delivery)) != 5 {
				continue // one bucket, of more than a megabyte
			}
			raw := make([]byte, 280_000)
			_, _ = random.Read(raw)
			h.Message.Event.Data = raw
			want[h.Message.Event.ID] = string(raw)
			r.hold(h)
		}
		<-time.After(7 * time.Minute)
		r.run()
		<-time.After(10 * time.Minute)
		for _, m := range r.arrivals() {
			if want[m.Event.ID] != string(m.Event.Data) {
				t.Errorf("delivery %s: other bytes", m.Event.ID)
			}
			delete(want, m.Event.ID)
		}
		if len(want) != 0 || r.rows() != 0 {
			t.Errorf("%d deliveries are missing, %d rows are left", len(want), r.rows())
		}
	})
}

func TestOutageOfAnHour(t *testing.T) {
	inRegion(t, connections, func(t *testing.T, r *region) {
		r.run()
		began := time.Now()
		for n := range 120 {
			r.hold(due(n, began.Add(15*time.Minute+time.Duration(n)*30*time.Second)))
		}
		// Nobody wakes anything for an hour and five minutes.
		got := r.arrivalTimes(began.Add(65 * time.Minute))
		if len(got) != 0 {
			t.Fatalf("%d deliveries arrived without a waker", len(got))
		}
		report := r.run()
		if report.Moved != 120 || report.Late < 98 || report.LateBy < 49*time.Minute || report.LateBy > 51*time.Minute || !report.Complete {
			t.Errorf("first run after the outage: %+v", report)
		}
		got = r.arrivalTimes(time.Now().Add(12 * time.Minute))
		if len(got) != 120 {
			t.Errorf("%d deliveries arrived", len(got))
		}
		if report := r.run(); report.Moved != 0 || report.Lag > 0 || report.Open > 2*waiting.Shards {
			t.Errorf("second run: %+v", report)
		}
	})
}

// After two days, and with reads that are slow, the time of one run is not enough for all the hours: later runs go on where it ended.
func TestOutageOfTwoDays(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		began := time.Now()
		r.run()
		for n := range 96 {
			r.hold(due(n, began.Add(20*time.Minute+time.Duration(n)*29*time.Minute)))
		}
		<-time.After(48 * time.Hour)
		r.slow.read = 2500 * time.Millisecond
		first := r.run()
		if first.Complete || first.Lag < 10*time.Hour || first.Moved == 0 {
			t.Errorf("first run: %+v", first)
		}
		runs := 1
		for report := first; !report.Complete; report = r.run() {
			if runs++; runs > 5 {
				t.Fatalf("the waker does not catch up: %+v", report)
			}
			if report.Lag > first.Lag {
				t.Errorf("the watermark fell behind: %+v", report)
			}
			<-time.After(time.Minute)
		}
		if runs < 3 || r.rows() != 0 || r.total.Moved != 96 || r.total.Stray != 0 {
			t.Errorf("%d runs, %d rows are left, %+v", runs, r.rows(), r.total)
		}
		<-time.After(15 * time.Minute)
		if n := len(r.arrivals()); n != 96 {
			t.Errorf("%d deliveries arrived", n)
		}
	})
}

// A put may be under way for as long as an invocation may last, and arrive when its bucket has long been read for the first time.
func TestLateInserts(t *testing.T) {
	for _, late := range []time.Duration{time.Minute, 6 * time.Minute, 16 * time.Minute, 20 * time.Minute} {
		t.Run(late.String(), func(t *testing.T) {
			inRegion(t, memory, func(t *testing.T, r *region) {
				stop := r.wakes()
				<-time.After(3*time.Minute + 20*time.Second)
				r.slow.put = late
				at := time.Now().Add(limits.MinDistance())
				r.hold(due(1, at))
				if arrived := at.Add(late - limits.MinDistance()); time.Now().Before(arrived) {
					t.Fatalf("the put took until %v only", time.Now())
				}
				got := r.arrivalTimes(time.Now().Add(20 * time.Minute))["1"]
				stop()
				latest := max(late-limits.MinDistance(), 0) + 62*time.Second // and at most one run later
				if late < limits.MinDistance() {
					latest = 2 * time.Second
				}
				if len(got) != 1 || got[0].Before(at) || got[0].Sub(at) > latest {
					t.Errorf("arrived at %v, due at %v", got, at)
				}
				if r.total.Stray != 0 {
					t.Errorf("%d strays", r.total.Stray)
				}
			})
		})
	}
}

// The waker's clock jumps as far as is tolerated from one run to the next.
func TestClockJumps(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		began := time.Now()
		var both sync.WaitGroup
		both.Go(func() {
			for n := range 200 {
				r.hold(due(n, time.Now().Add(limits.MinDistance())))
				<-time.After(31 * time.Second)
			}
		})
		both.Go(func() {
			for n := 0; time.Since(began) < 3*time.Hour; n++ {
				<-time.After(time.Minute)
				r.ahead = limits.ClockSkew * time.Duration(n%3-1)
				r.run()
			}
		})
		got := r.arrivalTimes(began.Add(3*time.Hour + time.Minute))
		both.Wait()
		for n := range 200 {
			at := began.Add(limits.MinDistance() + time.Duration(n)*31*time.Second)
			if a := got[fmt.Sprint(n)]; len(a) != 1 || a[0].Before(at.Add(-limits.ClockSkew)) || a[0].Sub(at) > limits.ClockSkew+2*time.Second {
				t.Errorf("delivery %d arrived at %v, due at %v", n, a, at)
			}
		}
		if r.total.Stray != 0 || r.rows() != 0 {
			t.Errorf("%+v, %d rows", r.total, r.rows())
		}
	})
}

// A clock that is wrong by hours closes buckets that are still to be used. No protocol helps against it; the scan does, and tells.
func TestClockThatIsWrongByHours(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		r.until(time.Now().Add(10 * time.Minute))
		r.ahead = 3 * time.Hour
		r.run()
		r.ahead = 0
		at := time.Now().Add(20 * time.Minute)
		r.hold(due(1, at))
		stop := r.wakes()
		got := r.arrivalTimes(at.Add(2*time.Hour - 20*time.Minute))["1"]
		stop()
		// It may come early: the message says when it is due, and the deliverer delays it again.
		if len(got) != 1 || got[0].After(at.Add(limits.ScanEvery())) {
			t.Errorf("arrived at %v, due at %v", got, at)
		}
		if r.total.Stray != 1 {
			t.Errorf("%d strays were told of, want 1", r.total.Stray)
		}
	})
}

// Two runs at once send everything twice at most, and lose nothing.
func TestOverlappingRuns(t *testing.T) {
	inRegion(t, connections, func(t *testing.T, r *region) {
		at := time.Now().Truncate(time.Minute).Add(20 * time.Minute)
		for n := range 50 {
			r.hold(due(n, at))
		}
		<-time.After(15 * time.Minute)
		r.endpoint.Faults().Add(awslocal.Fault{Delay: 30 * time.Millisecond})
		ended := make(chan error)
		for range 3 {
			go func() { _, err := r.waker.Run(t.Context()); ended <- err }()
			<-time.After(50 * time.Millisecond)
		}
		r.check(<-ended, <-ended, <-ended)
		if n := r.rows(); n != 0 {
			t.Errorf("%d rows are left", n)
		}
		got := r.arrivalTimes(at.Add(10 * time.Second))
		for n := range 50 {
			if c := len(got[fmt.Sprint(n)]); c < 1 || c > 3 {
				t.Errorf("delivery %d arrived %d times", n, c)
			}
		}
	})
}

// failing is a queue that refuses some messages.
type failing struct {
	queue.Sender
	refuse func(queue.Message) bool
}

func (f *failing) Send(ctx context.Context, messages []queue.Message) []error {
	errs := make([]error, len(messages))
	for i, m := range messages {
		if errs[i] = errors.New("refused"); !f.refuse(m) {
			errs[i] = f.Sender.Send(ctx, []queue.Message{m})[0]
		}
	}
	return errs
}

func TestWhatCannotBeSentStays(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		at := time.Now().Truncate(time.Minute).Add(20 * time.Minute)
		for n := range 250 {
			r.hold(due(n, at))
		}
		queueDown := &failing{Sender: r.sender, refuse: func(m queue.Message) bool { return strings.Contains(m.Body, `"n":7`) }} // 7, 7x
		w := r.another(queueDown)
		<-time.After(15 * time.Minute)
		report, err := w.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "send deliveries") || report.Failed != 11 || report.Moved != 239 || r.rows() != 11 {
			t.Fatalf("%+v, %v, %d rows", report, err, r.rows())
		}
		// For as long as they cannot be sent, their buckets stay open.
		<-time.After(time.Hour)
		if report, _ := w.Run(t.Context()); report.Failed != 11 || r.rows() != 11 || report.Lag < 30*time.Minute {
			t.Fatalf("an hour later: %+v, %d rows", report, r.rows())
		}
		queueDown.refuse = func(queue.Message) bool { return false }
		if report, err := w.Run(t.Context()); err != nil || report.Moved != 11 || r.rows() != 0 {
			t.Fatalf("healed: %+v, %v, %d rows", report, err, r.rows())
		}
	})
}

// What cannot be deleted is sent again: a duplicate, which the ledger takes care of.
func TestWhatCannotBeDeletedIsSentAgain(t *testing.T) {
	inRegion(t, connections, func(t *testing.T, r *region) {
		at := time.Now().Truncate(time.Minute).Add(20 * time.Minute)
		r.hold(due(1, at))
		<-time.After(15 * time.Minute)
		down := []*awslocal.Planted{
			r.endpoint.Faults().Add(awslocal.Fault{Operation: "BatchExecuteStatement", Throttle: true}),
			r.endpoint.Faults().Add(awslocal.Fault{Operation: "DeleteItem", Throttle: true}),
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if report, err := r.waker.Run(ctx); err == nil || report.Failed != 1 {
			t.Errorf("%+v, %v", report, err)
		}
		for _, p := range down {
			p.Remove()
		}
		r.run()
		if got := r.arrivalTimes(at.Add(10 * time.Second))["1"]; len(got) != 2 || r.rows() != 0 {
			t.Errorf("arrived at %v, %d rows are left", got, r.rows())
		}
	})
}

// keeping is a store that deletes nothing.
type keeping struct{ waiting.Store }

func (keeping) Delete(_ context.Context, refs []waiting.Ref) []error {
	return slices.Repeat([]error{waiting.ErrThrottled}, len(refs))
}

// A bucket that is old enough to be closed stays open as long as something in it was sent and could not be deleted: no later run would look there.
func TestWhatCannotBeDeletedKeepsItsBucketOpen(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		r.hold(due(1, time.Now().Truncate(time.Minute).Add(20*time.Minute)))
		<-time.After(3 * time.Hour)
		w, err := waker.New(waker.Config{Store: keeping{r.store}, Limits: limits, Deliveries: r.sender, Destinations: r, Logger: slog.New(slog.DiscardHandler)})
		r.check(err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if report, err := w.Run(ctx); err == nil || report.Failed != 1 || report.Complete && report.Moved != 1 {
			t.Fatalf("%+v, %v", report, err)
		}
		if report := r.run(); report.Moved != 1 || report.Stray != 0 || r.rows() != 0 {
			t.Errorf("%+v, %d rows are left", report, r.rows())
		}
	})
}

// silent is a queue that answers for fewer or more messages than it got.
type silent int

func (n silent) Send(_ context.Context, messages []queue.Message) []error {
	return make([]error, max(len(messages)+int(n), 0))
}

// A queue that does not answer for each message is believed for none: what it left out would be neither sent nor there.
func TestQueueThatMiscountsIsNotBelieved(t *testing.T) {
	for _, miscount := range []int{-1, 1} {
		inRegion(t, memory, func(t *testing.T, r *region) {
			at := time.Now().Truncate(time.Minute).Add(20 * time.Minute)
			r.hold(due(1, at), due(2, at), due(3, at))
			<-time.After(3 * time.Hour)
			if report, err := r.another(silent(miscount)).Run(t.Context()); err == nil || report.Moved != 0 || report.Failed != 3 || r.rows() != 3 {
				t.Errorf("%d: %+v, %v, %d rows are left", miscount, report, err, r.rows())
			}
			if report := r.run(); report.Moved != 3 || report.Stray != 0 || r.rows() != 0 {
				t.Errorf("%d: then %+v, %d rows are left", miscount, report, r.rows())
			}
		})
	}
}

// A row of a newer release stays until that release is back, and its neighbours are unharmed.
func TestUnreadableRowsStay(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		at := time.Now().Truncate(time.Minute).Add(20 * time.Minute)
		for n := range 20 {
			r.hold(due(n, at))
		}
		rows := r.memory.All()
		newer := rows[len(rows)/2]
		newer.Form, newer.Token = 2, "newer"
		broken := rows[len(rows)/3]
		broken.Body, broken.Token = bytes.Repeat([]byte{0}, 10), "broken"
		r.check(r.store.Put(t.Context(), []waiting.Row{newer, broken})...)
		<-time.After(15 * time.Minute)
		if report := r.run(); report.Unreadable != 2 || report.Moved != 18 || r.rows() != 2 {
			t.Fatalf("%+v, %d rows", report, r.rows())
		}
		<-time.After(time.Hour)
		if report := r.run(); report.Unreadable != 2 || report.Lag <= 0 || r.rows() != 2 {
			t.Fatalf("%+v, %d rows", report, r.rows())
		}
	})
}

// What is read in a run is what is within reach, though the hour holds more.
func TestOnlyWhatIsWithinReachIsTaken(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		hour := time.Now().Truncate(time.Hour).Add(time.Hour)
		for n := range 59 {
			r.hold(due(n, hour.Add(time.Duration(n)*time.Minute+time.Millisecond)))
		}
		for minute := range 59 {
			<-time.After(time.Until(hour.Add(time.Duration(minute)*time.Minute - limits.LookAhead())))
			if report := r.run(); report.Moved != 0 || report.Lag != 0 {
				t.Fatalf("minute %d: %+v before anything is within reach", minute, report)
			}
			<-time.After(2 * time.Millisecond)
			if report := r.run(); report.Moved != 1 || report.Late != 0 || report.Lag != 0 {
				t.Fatalf("minute %d: %+v", minute, report)
			}
		}
	})
}

// callsOf counts what a run asks of DynamoDB and SQS.
func (r *region) callsOf(run func()) map[string]int {
	before := r.endpoint.Counts()
	run()
	calls := map[string]int{}
	for op, c := range r.endpoint.Counts().Since(before) {
		if c.Attempted > 0 {
			calls[op.Name] = c.Attempted
		}
	}
	return calls
}

// The figures in shared/waiting/README.md.
func TestFewCalls(t *testing.T) {
	t.Parallel()
	inRegion(t, handler, func(t *testing.T, r *region) {
		hour := time.Now().Truncate(time.Hour).Add(time.Hour)
		shards := map[int]bool{}
		for n := 0; len(shards) < 3; n++ {
			h := due(n, hour.Add(30*time.Minute))
			shards[waiting.ShardOf(string(h.Message.Delivery))] = true
			r.hold(h)
		}
		r.until(hour.Add(2 * time.Minute)) // with a scan
		for _, test := range []struct {
			name string
			at   time.Duration // after the hour
			want map[string]int
		}{
			{"just after the hour, the last one is open still", 3 * time.Minute, map[string]int{"Query": 1 + 8 + 2*8}},
			{"in the run that closes the last hour", limits.CloseAfter() + 1, map[string]int{"Query": 1 + 8 + 2*8, "UpdateItem": 8}},
			{"idle", 15 * time.Minute, map[string]int{"Query": 1 + 8 + 8}},
			{"rows in three shards", 25 * time.Minute, map[string]int{"Query": 1 + 8 + 8, "BatchExecuteStatement": 3, "SendMessageBatch": 3}},
			{"idle again", 26 * time.Minute, map[string]int{"Query": 1 + 8 + 8}},
			{"the next hour is within reach", 50 * time.Minute, map[string]int{"Query": 1 + 8 + 2*8}},
		} {
			<-time.After(time.Until(hour.Add(test.at)))
			if got := r.callsOf(func() { r.run() }); !maps.Equal(got, test.want) {
				t.Errorf("%s: calls %v, want %v", test.name, got, test.want)
			}
		}
		<-time.After(time.Until(hour.Add(85 * time.Minute)))
		if got := r.callsOf(func() { r.run() }); got["Scan"] != 1 || got["UpdateItem"] != 8+1 {
			t.Errorf("with the scan of every hour: calls %v", got)
		}
	})
}

// Lag is how long ago the oldest delivery was due that is still to be sent, and nothing while none is overdue.
func TestLag(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		r.run()
		at := time.Now().Truncate(time.Hour).Add(90 * time.Minute)
		for n := range 3 {
			r.hold(due(n, at.Add(time.Duration(n)*time.Minute)))
		}
		stuck := r.another(&failing{Sender: r.sender, refuse: func(m queue.Message) bool { return strings.Contains(m.Body, `"n":1`) }})
		for _, step := range []struct{ after, lag time.Duration }{
			{-9 * time.Minute, 0}, {30 * time.Second, 0}, {61 * time.Second, time.Second}, {20 * time.Minute, 19 * time.Minute}, {3 * time.Hour, 3*time.Hour - time.Minute},
		} {
			<-time.After(time.Until(at.Add(step.after)))
			if report, _ := stuck.Run(t.Context()); report.Lag != step.lag {
				t.Errorf("%v after the first was due: %+v, want a lag of %v", step.after, report, step.lag)
			}
		}
		if report := r.run(); report.Lag != 0 || r.rows() != 0 {
			t.Errorf("after all was sent: %+v", report)
		}
	})
}

// An hour that should be closed and is not makes a lag as well, and so does one of which nobody knows what it holds.
func TestLagOfHours(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		hour := time.Now().Truncate(time.Hour).Add(time.Hour)
		r.until(hour.Add(-30 * time.Minute))
		stays := stays{r.store}
		w, err := waker.New(waker.Config{Store: stays, Limits: limits, Deliveries: r.sender, Destinations: r, Logger: slog.New(slog.DiscardHandler)})
		r.check(err)
		r.hold(due(1, hour.Add(-time.Minute)))
		for _, step := range []struct{ after, lag time.Duration }{
			{-2 * time.Minute, 0}, {limits.CloseAfter(), 0}, {limits.CloseAfter() + time.Minute, 0}, {limits.CloseAfter() + 3*time.Minute, 2 * time.Minute},
		} {
			<-time.After(time.Until(hour.Add(step.after)))
			if report, err := w.Run(t.Context()); report.Lag != step.lag || report.Failed != 0 {
				t.Errorf("%v after the hour: %+v, %v, want a lag of %v", step.after, report, err, step.lag)
			}
		}
		r.run()
		r.down = fmt.Errorf("%w: down", waiting.ErrUnknown)
		<-time.After(time.Until(hour.Add(20 * time.Minute)))
		if report, err := r.waker.Run(t.Context()); report.Lag != 20*time.Minute || err == nil {
			t.Errorf("nothing can be read: %+v, %v", report, err)
		}
	})
}

// stays is a store whose watermarks cannot be written.
type stays struct{ waiting.Store }

func (s stays) Advance(context.Context, int, waiting.Hour) error {
	return fmt.Errorf("%w: the watermark stays", waiting.ErrThrottled)
}
