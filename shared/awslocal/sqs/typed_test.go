package sqs_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

func newQueue(t testing.TB, opts sqs.Options, name string, attributes map[string]string) (*sqs.Service, *sqs.Queue) {
	t.Helper()
	opts.Seed = cmp.Or(opts.Seed, 1)
	s := sqs.New(opts)
	q, err := s.CreateQueue(name, attributes)
	if err != nil {
		t.Fatal(err)
	}
	return s, q
}

func send(t testing.TB, q *sqs.Queue, o sqs.Outgoing) sqs.Message {
	t.Helper()
	m, err := q.Send(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func receive(t testing.TB, q *sqs.Queue, o sqs.ReceiveOptions) []sqs.Message {
	t.Helper()
	got, err := q.Receive(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func code(err error) string {
	var refused *wire.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	return fmt.Sprint(err)
}

func TestReceiveWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, q := newQueue(t, sqs.Options{}, "orders", nil)
		start := time.Now()
		if got := receive(t, q, sqs.ReceiveOptions{Wait: 20 * time.Second}); len(got) != 0 || time.Since(start) != 20*time.Second {
			t.Fatalf("empty queue: %v after %v; want nothing after 20s", got, time.Since(start))
		}
		start = time.Now()
		go func() {
			time.Sleep(time.Second)
			delay := 4 * time.Second
			send(t, q, sqs.Outgoing{Body: "x", Delay: &delay})
		}()
		if got := receive(t, q, sqs.ReceiveOptions{Wait: 20 * time.Second}); len(got) != 1 || time.Since(start) != 5*time.Second {
			t.Fatalf("delayed message: %v after %v; want one after 5s", got, time.Since(start))
		}
		start = time.Now()
		again := receive(t, q, sqs.ReceiveOptions{Wait: 31 * time.Second})
		if len(again) != 1 || time.Since(start) != 30*time.Second || again[0].Attributes["ApproximateReceiveCount"] != "2" {
			t.Fatalf("visibility timeout: %v after %v; want the second receive after 30s", again, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.Receive(ctx, sqs.ReceiveOptions{Wait: 20 * time.Second}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("cancelled receive: %v; want the context's error", err)
		}
	})
}

func TestEveryWaitingReceiveGetsItsMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, q := newQueue(t, sqs.Options{}, "orders", nil)
		const receivers = 50
		var done sync.WaitGroup
		for range receivers {
			done.Go(func() {
				if got := receive(t, q, sqs.ReceiveOptions{Wait: time.Minute}); len(got) != 1 {
					t.Errorf("received %d", len(got))
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		for range receivers {
			send(t, q, sqs.Outgoing{Body: "x"})
		}
		done.Wait()
		if took := time.Since(start); took > 0 {
			t.Errorf("the last waited %v beside messages that nobody took", took)
		}
	})
}

// TestReceiveThatGivesUpWakesAnother lets the longest waiting receive give up just before a message is given to it.
func TestReceiveThatGivesUpWakesAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		impatient, giveUp := context.WithCancel(t.Context())
		_, q := newQueue(t, sqs.Options{OnSend: func(string, sqs.Message) { giveUp() }}, "orders", nil)
		var done sync.WaitGroup
		done.Go(func() {
			if _, err := q.Receive(impatient, sqs.ReceiveOptions{Wait: time.Minute}); !errors.Is(err, context.Canceled) {
				t.Errorf("the impatient one: %v", err)
			}
		})
		synctest.Wait()
		start := time.Now()
		done.Go(func() {
			if got := receive(t, q, sqs.ReceiveOptions{Wait: time.Minute}); len(got) != 1 || time.Since(start) > 0 {
				t.Errorf("the patient one: %d messages after %v", len(got), time.Since(start))
			}
		})
		synctest.Wait()
		send(t, q, sqs.Outgoing{Body: "x"})
		done.Wait()
	})
}

func TestDeletedQueueEndsReceives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := newQueue(t, sqs.Options{}, "orders", nil)
		var done sync.WaitGroup
		for range 3 {
			done.Go(func() {
				if _, err := q.Receive(t.Context(), sqs.ReceiveOptions{Wait: time.Minute}); code(err) != "QueueDoesNotExist" {
					t.Errorf("got %v, want QueueDoesNotExist", err)
				}
			})
		}
		synctest.Wait()
		if err := s.DeleteQueue("orders"); err != nil {
			t.Fatal(err)
		}
		done.Wait()
		time.Sleep(time.Minute)
		if _, err := s.CreateQueue("orders", nil); err != nil {
			t.Errorf("a minute later: %v", err)
		}
	})
}

func TestVisibilityEndsTwelveHoursAfterReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, q := newQueue(t, sqs.Options{}, "orders", nil)
		send(t, q, sqs.Outgoing{Body: "x"})
		hidden := sqs.MaxVisibility
		m := receive(t, q, sqs.ReceiveOptions{Visibility: &hidden})[0]
		time.Sleep(2 * time.Hour)
		if err := q.ChangeVisibility(m.ReceiptHandle, 10*time.Hour+time.Second); code(err) != "InvalidParameterValueException" {
			t.Errorf("beyond 12 hours: %v", err)
		}
		if err := q.ChangeVisibility(m.ReceiptHandle, 10*time.Hour); err != nil {
			t.Errorf("up to 12 hours: %v", err)
		}
	})
}

func TestSupersededHandleDeletesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, q := newQueue(t, sqs.Options{}, "orders", nil)
		send(t, q, sqs.Outgoing{Body: "x"})
		first := receive(t, q, sqs.ReceiveOptions{})[0]
		second := receive(t, q, sqs.ReceiveOptions{Wait: time.Minute})[0]
		if err := q.Delete(first.ReceiptHandle); err != nil || q.Depth().Total() != 1 {
			t.Errorf("old handle: %v, %+v left", err, q.Depth())
		}
		if err := q.Delete(second.ReceiptHandle); err != nil || q.Depth().Total() != 0 {
			t.Errorf("new handle: %v, %+v left", err, q.Depth())
		}
	})
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := newQueue(t, sqs.Options{}, "orders", map[string]string{"MessageRetentionPeriod": "60"})
		dlq, err := s.CreateQueue("dead", map[string]string{"MessageRetentionPeriod": "120"})
		if err != nil {
			t.Fatal(err)
		}
		policy := fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":"1"}`, dlq.ARN())
		if err := q.SetAttributes(map[string]string{"RedrivePolicy": policy}); err != nil {
			t.Fatal(err)
		}
		send(t, q, sqs.Outgoing{Body: "poison"})
		receive(t, q, sqs.ReceiveOptions{})
		time.Sleep(40 * time.Second)
		receive(t, q, sqs.ReceiveOptions{}) // moves it
		send(t, q, sqs.Outgoing{Body: "plain"})
		if q.Depth() != (sqs.Depth{Visible: 1}) || dlq.Depth() != (sqs.Depth{Visible: 1}) {
			t.Fatalf("%+v and %+v", q.Depth(), dlq.Depth())
		}
		time.Sleep(60 * time.Second)
		if q.Depth().Total() != 0 {
			t.Error("the source kept a message beyond its retention")
		}
		time.Sleep(19 * time.Second)
		if dlq.Depth().Total() != 1 {
			t.Error("the dead-letter queue dropped a message 119s old")
		}
		time.Sleep(time.Second)
		if dlq.Depth().Total() != 0 {
			t.Error("the dead-letter queue does not count age from the first send")
		}
	})
}

func TestDeduplicationLastsFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, q := newQueue(t, sqs.Options{}, "orders.fifo", map[string]string{"FifoQueue": "true"})
		o := sqs.Outgoing{Body: "x", GroupID: "g", DeduplicationID: "d"}
		first := send(t, q, o)
		if err := q.Delete(receive(t, q, sqs.ReceiveOptions{})[0].ReceiptHandle); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*time.Minute - time.Second)
		if again := send(t, q, o); again.MessageID != first.MessageID || q.Depth().Total() != 0 {
			t.Error("a repetition within 5 minutes was accepted, although the first is deleted")
		}
		time.Sleep(time.Second)
		if later := send(t, q, o); later.MessageID == first.MessageID || q.Depth().Total() != 1 {
			t.Error("a repetition after 5 minutes was dropped")
		}
	})
}

func TestFIFODelayHoldsUpTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, q := newQueue(t, sqs.Options{}, "orders.fifo", map[string]string{"FifoQueue": "true", "DelaySeconds": "10"})
		send(t, q, sqs.Outgoing{Body: "1", GroupID: "g", DeduplicationID: "1"})
		if err := q.SetAttributes(map[string]string{"DelaySeconds": "0"}); err != nil {
			t.Fatal(err)
		}
		send(t, q, sqs.Outgoing{Body: "2", GroupID: "g", DeduplicationID: "2"})
		if got := receive(t, q, sqs.ReceiveOptions{Max: 10}); len(got) != 0 {
			t.Fatalf("received %q before its predecessor", got[0].Body)
		}
		if got := receive(t, q, sqs.ReceiveOptions{Max: 10, Wait: time.Minute}); len(got) != 2 || got[0].Body != "1" {
			t.Fatalf("received %v", got)
		}
	})
}

func TestMoveTaskKeepsToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := newQueue(t, sqs.Options{}, "orders", nil)
		dlq, err := s.CreateQueue("dead", nil)
		if err != nil {
			t.Fatal(err)
		}
		policy := fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":1}`, dlq.ARN())
		if err := q.SetAttributes(map[string]string{"RedrivePolicy": policy}); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			send(t, dlq, sqs.Outgoing{Body: "x"})
		}
		body := fmt.Sprintf(`{"SourceArn":%q,"DestinationArn":%q,"MaxNumberOfMessagesPerSecond":20}`, dlq.ARN(), q.ARN())
		if _, err := s.Do(t.Context(), "StartMessageMoveTask", []byte(body)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*time.Second + time.Millisecond)
		if moved := q.Depth().Visible; moved < 38 || moved > 42 {
			t.Errorf("%d moved after 2s at 20 a second", moved)
		}
		time.Sleep(4 * time.Second)
		if q.Depth().Visible != 100 || dlq.Depth().Total() != 0 {
			t.Errorf("%+v and %+v at the end", q.Depth(), dlq.Depth())
		}
	})
}

func TestSnapshotAndDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accepted []string
		s, q := newQueue(t, sqs.Options{OnSend: func(queue string, m sqs.Message) { accepted = append(accepted, queue+" "+m.MessageID+" "+m.Body) }}, "orders", nil)
		delay := time.Minute
		visible := send(t, q, sqs.Outgoing{Body: "in flight", MessageAttributes: map[string]sqs.AttributeValue{"a": {DataType: "String", StringValue: "v"}}})
		receive(t, q, sqs.ReceiveOptions{})
		send(t, q, sqs.Outgoing{Body: "delayed", Delay: &delay})
		last := send(t, q, sqs.Outgoing{Body: "visible"})
		var got []string
		for _, m := range s.Snapshot()["orders"] {
			got = append(got, fmt.Sprintf("%s: %s, %s receives, due %v, %d attributes, handle %q", m.Body, m.State, m.Attributes["ApproximateReceiveCount"],
				time.Until(m.Due).Truncate(time.Hour*1000), len(m.MessageAttributes), m.ReceiptHandle))
		}
		for i, want := range []string{"in flight: in flight, 1 receives, due 0s, 1 attributes", "delayed: delayed, 0 receives, due 0s, 0", "visible: visible, 0 receives, due -"} {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("%s; want %s…", got[i], want)
			}
		}
		if len(accepted) != 3 || accepted[0] != "orders "+visible.MessageID+" in flight" {
			t.Errorf("accepted %q", accepted)
		}
		if !q.Drop(last.MessageID) || q.Drop(last.MessageID) || q.Depth() != (sqs.Depth{Delayed: 1, InFlight: 1}) {
			t.Errorf("after the drop %+v", q.Depth())
		}
	})
}

func TestSendIsReportedBeforeAnybodyCanReceive(t *testing.T) {
	var reported sync.Map
	_, q := newQueue(t, sqs.Options{OnSend: func(_ string, m sqs.Message) { reported.Store(m.MessageID, true) }}, "orders", nil)
	var done sync.WaitGroup
	done.Go(func() {
		for range 1000 {
			send(t, q, sqs.Outgoing{Body: "x"})
		}
	})
	for n := 0; n < 1000; {
		for _, m := range receive(t, q, sqs.ReceiveOptions{Max: 10, Wait: 10 * time.Second}) {
			n++
			if _, ok := reported.Load(m.MessageID); !ok {
				t.Error("received before OnSend")
			}
		}
	}
	done.Wait()
}

func TestDisorderIsDeterministic(t *testing.T) {
	run := func(seed uint64) []string {
		var got []string
		synctest.Test(t, func(t *testing.T) {
			_, q := newQueue(t, sqs.Options{Seed: seed, Disorder: sqs.Disorder{Reorder: 0.5, Duplicate: 0.2}}, "orders", nil)
			for i := range 100 {
				send(t, q, sqs.Outgoing{Body: fmt.Sprint(i)})
			}
			for {
				some := receive(t, q, sqs.ReceiveOptions{Max: 10})
				if len(some) == 0 {
					return
				}
				for _, m := range some {
					got = append(got, m.Body)
				}
			}
		})
		return got
	}
	first, second, other := run(7), run(7), run(8)
	if !slices.Equal(first, second) {
		t.Error("the same seed gave two orders")
	}
	if slices.Equal(first, other) || len(first) == 100 {
		t.Errorf("no disorder: %v", first)
	}
	seen := map[string]int{}
	for _, body := range first {
		seen[body]++
	}
	if len(seen) != 100 {
		t.Errorf("%d of 100 messages arrived", len(seen))
	}
}

func TestInFlightLimit(t *testing.T) {
	for _, kind := range []struct {
		name       string
		attributes map[string]string
		overLimit  string
	}{{"orders", nil, "OverLimit"}, {"orders.fifo", map[string]string{"FifoQueue": "true"}, "<nil>"}} {
		t.Run(kind.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const limit = 100
				_, q := newQueue(t, sqs.Options{MaxInFlight: limit}, kind.name, kind.attributes)
				for i := range limit + 1 {
					o := sqs.Outgoing{Body: "x"}
					if q.FIFO() {
						o.GroupID, o.DeduplicationID = fmt.Sprint(i%10), fmt.Sprint(i)
					}
					send(t, q, o)
				}
				hidden := time.Hour
				got := receive(t, q, sqs.ReceiveOptions{Max: limit + 1, Visibility: &hidden})
				if len(got) != limit {
					t.Fatalf("%d in flight", len(got))
				}
				if _, err := q.Receive(t.Context(), sqs.ReceiveOptions{}); code(err) != kind.overLimit {
					t.Errorf("without a wait: %v, want %s", err, kind.overLimit)
				}
				if some := receive(t, q, sqs.ReceiveOptions{Wait: time.Second}); len(some) != 0 {
					t.Errorf("with a wait: %d messages", len(some))
				}
				for _, m := range got { // of a FIFO queue the one that is left waits for all of its group
					if err := q.Delete(m.ReceiptHandle); err != nil {
						t.Fatal(err)
					}
				}
				if some := receive(t, q, sqs.ReceiveOptions{}); len(some) != 1 {
					t.Errorf("after the deletions: %d messages", len(some))
				}
			})
		})
	}
}

// TestFairOrder draws the model of the package documentation: quiet groups by age, then noisy ones by how much they have in flight.
func TestFairOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, q := newQueue(t, sqs.Options{}, "orders", nil)
		for _, noisy := range []struct {
			group    string
			inFlight int
		}{{"loud", 50}, {"louder", 80}} {
			for range noisy.inFlight {
				send(t, q, sqs.Outgoing{Body: noisy.group, GroupID: noisy.group})
			}
			if got := receive(t, q, sqs.ReceiveOptions{Max: noisy.inFlight}); len(got) != noisy.inFlight {
				t.Fatal(len(got))
			}
		}
		for _, group := range []string{"louder", "loud", "quiet 1", "", "quiet 2", "quiet 1"} {
			send(t, q, sqs.Outgoing{Body: "to " + group, GroupID: strings.ReplaceAll(group, " ", "-")})
		}
		var got []string
		for _, m := range receive(t, q, sqs.ReceiveOptions{Max: 10}) {
			got = append(got, m.Body)
		}
		want := []string{"to quiet 1", "to ", "to quiet 2", "to quiet 1", "to loud", "to louder"}
		if !slices.Equal(got, want) {
			t.Errorf("order %q, want %q", got, want)
		}
	})
}

// BenchmarkEngine sends, receives and deletes one message at a time on a queue that holds 100,000 others.
func BenchmarkEngine(b *testing.B) {
	_, q := newQueue(b, sqs.Options{}, "orders", nil)
	delay := 15 * time.Minute
	for i := range 100_000 {
		send(b, q, sqs.Outgoing{Body: "backlog", Delay: &delay, GroupID: fmt.Sprint(i % 1000)})
	}
	for b.Loop() {
		send(b, q, sqs.Outgoing{Body: "x", GroupID: "g"})
		if err := q.Delete(receive(b, q, sqs.ReceiveOptions{})[0].ReceiptHandle); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
