package mapping_test

import (
	"context"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

// newQueue makes a queue of the local SQS with a dead-letter queue.
func newQueue(t testing.TB, fifo bool, visibility time.Duration, maxReceives int) (q, dead *sqs.Queue) {
	t.Helper()
	service := sqs.New(sqs.Options{Seed: 1})
	suffix, attributes := "", map[string]string{}
	if fifo {
		suffix = ".fifo"
		attributes["FifoQueue"], attributes["ContentBasedDeduplication"] = "true", "true"
	}
	dead, err := service.CreateQueue("deliveries-dlq"+suffix, maps.Clone(attributes))
	if err != nil {
		t.Fatal(err)
	}
	attributes["VisibilityTimeout"] = strconv.Itoa(int(visibility.Seconds()))
	attributes["RedrivePolicy"] = fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":"%d"}`, dead.ARN(), maxReceives)
	if q, err = service.CreateQueue("deliveries"+suffix, attributes); err != nil {
		t.Fatal(err)
	}
	return q, dead
}

func sendAll(t testing.TB, q *sqs.Queue, group string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if _, err := q.Send(sqs.Outgoing{Body: body, GroupID: group}); err != nil {
			t.Fatal(err)
		}
	}
}

func held(q *sqs.Queue) []string {
	out := []string{}
	for _, h := range q.Snapshot() {
		out = append(out, h.Body)
	}
	return out
}

// failBodies answers with the messages that have one of the bodies.
func failBodies(e events.SQSEvent, bodies ...string) events.SQSEventResponse {
	var ids []string
	for _, r := range e.Records {
		if slices.Contains(bodies, r.Body) {
			ids = append(ids, r.MessageId)
		}
	}
	return failures(ids...)
}

func receiveCount(r events.SQSMessage) string { return r.Attributes["ApproximateReceiveCount"] }

// TestSQSPoison: a message that fails every time moves to the dead-letter queue by receive count; its neighbours are done
// with at the first.
func TestSQSPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, dead := newQueue(t, false, 30*time.Second, 3)
		sendAll(t, q, "tenant", "a", "poison", "b")
		j := newJournal()
		m := run(t, mapping.Config{Queue: mapping.SQS(q), ReportBatchItemFailures: true, Function: mustFunction(t, mapping.FunctionConfig{
			Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) {
				j.note("%v receive %s", bodies(e), receiveCount(e.Records[0]))
				return failBodies(e, "poison"), nil
			})})})
		time.Sleep(5 * time.Minute)
		equalList(t, "invocations", j.read(), []string{"0s [a poison b] receive 1", "30s [poison] receive 2", "60s [poison] receive 3"})
		equalList(t, "dead", held(dead), []string{"poison"})
		equal(t, "left", q.Depth().Total(), 0)
		s := m.Stats()
		equal(t, "received", s.Received, 5)
		equal(t, "deleted", s.Deleted, 2)
		equal(t, "returned", s.Returned, 3)
		equal(t, "calls to delete", s.Deletes, 1)
	})
}

// TestSQSWholeBatchReturns: an error, a panic, a timeout and an invalid response burn receive counts of good messages too.
func TestSQSWholeBatchReturns(t *testing.T) {
	rows := map[string]func() (any, error){
		"error":      func() (any, error) { return nil, errors.New("no") },
		"panic":      func() (any, error) { panic("no") },
		"timeout":    func() (any, error) { time.Sleep(10 * time.Second); return failures(), nil },
		"unknown id": func() (any, error) { return failures("nobody"), nil },
		"no JSON":    func() (any, error) { return json.RawMessage("{"), nil },
	}
	for name, answer := range rows {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, dead := newQueue(t, false, 30*time.Second, 2)
				sendAll(t, q, "", "a", "b")
				run(t, mapping.Config{Queue: mapping.SQS(q), ReportBatchItemFailures: true, Function: mustFunction(t, mapping.FunctionConfig{
					Handler: handler(func(context.Context, events.SQSEvent) (any, error) { return answer() })})})
				time.Sleep(59 * time.Second)
				equal(t, "left before the second visibility timeout ends", q.Depth(), sqs.Depth{InFlight: 2})
				time.Sleep(30 * time.Second)
				equalList(t, "dead", held(dead), []string{"a", "b"})
			})
		})
	}
}

// TestSQSFunctionChangesVisibility: the function's own ChangeMessageVisibility decides when a failed message returns.
func TestSQSFunctionChangesVisibility(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, false, 30*time.Second, 10)
		sendAll(t, q, "", "soon", "late")
		waits := map[string]time.Duration{"soon": 5 * time.Second, "late": 10 * time.Minute}
		j := newJournal()
		run(t, mapping.Config{Queue: mapping.SQS(q), ReportBatchItemFailures: true, Function: mustFunction(t, mapping.FunctionConfig{
			Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) {
				j.note("%v receive %s", bodies(e), receiveCount(e.Records[0]))
				if receiveCount(e.Records[0]) != "1" {
					return nil, nil
				}
				for _, r := range e.Records {
					if err := q.ChangeVisibility(r.ReceiptHandle, waits[r.Body]); err != nil {
						t.Error(err)
					}
				}
				return failBodies(e, "soon", "late"), nil
			})})})
		time.Sleep(time.Hour)
		equalList(t, "invocations", j.read(), []string{"0s [soon late] receive 1", "5s [soon] receive 2", "600s [late] receive 2"})
	})
}

// TestSQSThrottlingBurnsReceives: a function without a free slot sends messages to the dead-letter queue unseen.
func TestSQSThrottlingBurnsReceives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, dead := newQueue(t, false, 30*time.Second, 3)
		f := mustFunction(t, mapping.FunctionConfig{ReservedConcurrency: 1, Timeout: 30 * time.Second,
			Handler: rawHandler(func(context.Context, []byte) ([]byte, error) { time.Sleep(29 * time.Second); return nil, nil })})
		go func() {
			for range 4 {
				if _, err := f.Invoke(t.Context(), nil); err != nil {
					t.Error(err)
				}
			}
		}()
		synctest.Wait()
		sendAll(t, q, "", "a")
		m := run(t, mapping.Config{Queue: mapping.SQS(q), Function: f})
		// The slot is given back and taken again at 29, 58 and 87 s; the tries come at other times.
		time.Sleep(95 * time.Second)
		equalList(t, "dead", held(dead), []string{"a"})
		equal(t, "batches with code run", m.Stats().Batches, 0)
		equal(t, "dropped", m.Stats().Dropped, 3)
		time.Sleep(time.Minute)
	})
}

// TestSQSFIFO: a failing group blocks itself and keeps its order; others pass.
func TestSQSFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, dead := newQueue(t, true, 30*time.Second, 3)
		for i := range 4 {
			sendAll(t, q, "A", fmt.Sprintf("A%d", i))
			sendAll(t, q, "B", fmt.Sprintf("B%d", i))
		}
		var mu sync.Mutex
		order := map[byte][]string{}
		inProgress := map[string]bool{}
		run(t, mapping.Config{Queue: mapping.SQS(q), BatchSize: 2, ReportBatchItemFailures: true, Function: mustFunction(t, mapping.FunctionConfig{
			Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) {
				groups := map[string]bool{}
				var failed []string
				mu.Lock()
				for _, r := range e.Records {
					g := r.Attributes["MessageGroupId"]
					groups[g] = true
					if inProgress[g] {
						t.Errorf("group %s is in progress twice", g)
					}
					// A1 fails on its first two receives, and with it what follows in its group.
					if r.Body == "A1" && receiveCount(r) != "3" || g == "A" && len(failed) > 0 {
						failed = append(failed, r.Body)
						continue
					}
					order[r.Body[0]] = append(order[r.Body[0]], r.Body)
				}
				maps.Copy(inProgress, groups)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				for g := range groups {
					delete(inProgress, g)
				}
				return failBodies(e, failed...), nil
			})})})
		time.Sleep(25 * time.Second)
		mu.Lock()
		equalList(t, "B while A waits", order['B'], []string{"B0", "B1", "B2", "B3"})
		mu.Unlock()
		time.Sleep(5 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		equalList(t, "A", order['A'], []string{"A0", "A1", "A2", "A3"})
		equal(t, "left", q.Depth().Total()+dead.Depth().Total(), 0)
	})
}

// TestSQSEvent: everything that a producer set reaches the function.
func TestSQSEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, false, 30*time.Second, 10)
		sent, err := q.Send(sqs.Outgoing{
			Body: `{"id":1}`, GroupID: "acme", TraceHeader: "Root=1-5759e988-bd862e3fe1be46a994272793",
			MessageAttributes: map[string]sqs.AttributeValue{
				"ce-id": {DataType: "String", StringValue: "7"},
				"n":     {DataType: "Number", StringValue: "9007199254740993"},
				"raw":   {DataType: "Binary.gzip", BinaryValue: []byte{31, 139}},
			}})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan events.SQSMessage, 1)
		run(t, mapping.Config{Queue: mapping.SQS(q), Function: mustFunction(t, mapping.FunctionConfig{
			Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) { got <- e.Records[0]; return nil, nil })})})
		r := <-got
		equal(t, "id", r.MessageId, sent.MessageID)
		equal(t, "body", r.Body, `{"id":1}`)
		equal(t, "md5", r.Md5OfBody, fmt.Sprintf("%x", md5.Sum([]byte(r.Body))))
		equal(t, "md5 of attributes", r.Md5OfMessageAttributes, sent.MD5OfMessageAttributes)
		equal(t, "arn", r.EventSourceARN, q.ARN())
		equal(t, "region", r.AWSRegion, "us-east-1")
		equal(t, "group", r.Attributes["MessageGroupId"], "acme")
		equal(t, "trace", r.Attributes["AWSTraceHeader"], "Root=1-5759e988-bd862e3fe1be46a994272793")
		equal(t, "receives", receiveCount(r), "1")
		for _, name := range []string{"SentTimestamp", "ApproximateFirstReceiveTimestamp", "SenderId"} {
			if r.Attributes[name] == "" {
				t.Errorf("no %s", name)
			}
		}
		equal(t, "string", *r.MessageAttributes["ce-id"].StringValue, "7")
		equal(t, "number", *r.MessageAttributes["n"].StringValue, "9007199254740993")
		equal(t, "binary", string(r.MessageAttributes["raw"].BinaryValue), "\x1f\x8b")
		equal(t, "label", r.MessageAttributes["raw"].DataType, "Binary.gzip")
	})
}

// TestSQSVolume: large batches by window; every message is handled once and none is left.
func TestSQSVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, dead := newQueue(t, false, 120*time.Second, 10)
		var mu sync.Mutex
		handled, largest := map[string]int{}, 0
		m := run(t, mapping.Config{Queue: mapping.SQS(q), BatchSize: 100, Window: time.Second, ReportBatchItemFailures: true,
			Function: mustFunction(t, mapping.FunctionConfig{Timeout: 10 * time.Second,
				Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) {
					time.Sleep(100 * time.Millisecond)
					mu.Lock()
					defer mu.Unlock()
					for _, r := range e.Records {
						handled[r.Body]++
					}
					largest = max(largest, len(e.Records))
					return failures(), nil
				})})})
		for i := range 2000 {
			sendAll(t, q, strconv.Itoa(i%7), strconv.Itoa(i))
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		equal(t, "handled", len(handled), 2000)
		for body, n := range handled {
			if n != 1 {
				t.Errorf("message %s was handled %d times", body, n)
			}
		}
		equal(t, "largest batch", largest, 100)
		equal(t, "left", q.Depth().Total()+dead.Depth().Total(), 0)
		equal(t, "idle", m.Idle(), true)
		equal(t, "deleted", m.Stats().Deleted, 2000)
	})
}

// TestSQSCrash: a killed environment answers nothing; the message comes back when its visibility timeout is over.
func TestSQSCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, false, 30*time.Second, 10)
		sendAll(t, q, "", "a")
		j := newJournal()
		f := mustFunction(t, mapping.FunctionConfig{Handler: handler(func(ctx context.Context, e events.SQSEvent) (any, error) {
			j.note("receive %s", receiveCount(e.Records[0]))
			if receiveCount(e.Records[0]) == "1" {
				mapping.InvocationFrom(ctx).Crash()
			}
			return failures(), nil
		})})
		run(t, mapping.Config{Queue: mapping.SQS(q), Function: f, ReportBatchItemFailures: true})
		time.Sleep(time.Minute)
		equalList(t, "invocations", j.read(), []string{"0s receive 1", "30s receive 2"})
		equal(t, "crashes", f.Stats().Crashes, 1)
		equal(t, "environments", f.Stats().ColdStarts, 2)
		equal(t, "left", q.Depth().Total(), 0)
	})
}

// TestSQSLateDeletion: a batch that ends after its messages became visible again cannot delete them from a FIFO queue.
func TestSQSLateDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newQueue(t, true, 30*time.Second, 10)
		sendAll(t, q, "g", "a")
		m := run(t, mapping.Config{Queue: mapping.SQS(q), ReportBatchItemFailures: true, Function: mustFunction(t, mapping.FunctionConfig{
			Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) {
				if receiveCount(e.Records[0]) == "1" {
					if err := q.ChangeVisibility(e.Records[0].ReceiptHandle, time.Second); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(2 * time.Second)
				return failures(), nil
			})})})
		time.Sleep(10 * time.Second)
		s := m.Stats()
		equal(t, "received", s.Received, 2)
		equal(t, "deleted", s.Deleted, 1)
		equal(t, "returned", s.Returned, 1)
		equal(t, "left", q.Depth().Total(), 0)
	})
}
