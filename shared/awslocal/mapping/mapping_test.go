package mapping_test

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
)

func TestNewRefuses(t *testing.T) {
	rows := []struct {
		name       string
		fifo       bool
		visibility time.Duration
		reserved   int
		cfg        mapping.Config
		says       string // "" for accepted
	}{
		{name: "defaults"},
		{name: "ten without a window", cfg: mapping.Config{BatchSize: 10}},
		{name: "largest", cfg: mapping.Config{BatchSize: 10_000, Window: 300 * time.Second}},
		{name: "eleven with 1 s", cfg: mapping.Config{BatchSize: 11, Window: time.Second}},
		{name: "eleven without a window", cfg: mapping.Config{BatchSize: 11}, says: "must be greater than 0 if maximum batch size"},
		{name: "negative size", cfg: mapping.Config{BatchSize: -1}, says: "use 1 to 10000"},
		{name: "too large", cfg: mapping.Config{BatchSize: 10_001, Window: time.Second}, says: "use 1 to 10000"},
		{name: "window too long", cfg: mapping.Config{Window: 301 * time.Second}, says: "0 to 300 whole seconds"},
		{name: "window in parts", cfg: mapping.Config{Window: 1500 * time.Millisecond}, says: "0 to 300 whole seconds"},
		{name: "window negative", cfg: mapping.Config{Window: -time.Second}, says: "0 to 300 whole seconds"},
		{name: "FIFO ten", fifo: true, cfg: mapping.Config{BatchSize: 10}},
		{name: "FIFO eleven", fifo: true, cfg: mapping.Config{BatchSize: 11}, says: "a FIFO queue allows 10"},
		{name: "FIFO window", fifo: true, cfg: mapping.Config{Window: time.Second}, says: "not supported for FIFO"},
		{name: "concurrency 2", cfg: mapping.Config{MaximumConcurrency: 2}},
		{name: "concurrency 1000", cfg: mapping.Config{MaximumConcurrency: 1000}},
		{name: "concurrency 1", cfg: mapping.Config{MaximumConcurrency: 1}, says: "use 2 to 1000"},
		{name: "concurrency 1001", cfg: mapping.Config{MaximumConcurrency: 1001}, says: "use 2 to 1000"},
		{name: "concurrency as reserved", reserved: 3, cfg: mapping.Config{MaximumConcurrency: 3}},
		{name: "concurrency above reserved", reserved: 3, cfg: mapping.Config{MaximumConcurrency: 4}, says: "above the function's reserved concurrency 3"},
		{name: "visibility as timeout", visibility: 30 * time.Second},
		{name: "visibility below timeout", visibility: 29 * time.Second, says: "queue visibility timeout: 29 seconds is less than function timeout: 30 seconds"},
		{name: "all at once", fifo: true, visibility: time.Second,
			cfg:  mapping.Config{BatchSize: 11, Window: time.Second, MaximumConcurrency: 1},
			says: "a FIFO queue allows 10\nbatching window is not supported for FIFO queues\nmaximum concurrency 1: use 2 to 1000, or 0 for none\nqueue visibility"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if row.visibility == 0 {
				row.visibility = 180 * time.Second
			}
			row.cfg.Queue = newFakeQueue(row.fifo, row.visibility)
			row.cfg.Function = mustFunction(t, mapping.FunctionConfig{Timeout: 30 * time.Second, ReservedConcurrency: row.reserved, Handler: rawHandler(nil)})
			_, err := mapping.New(row.cfg)
			if row.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, mapping.ErrInvalid) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("got %v, want %q", err, row.says)
			}
		})
	}
	if _, err := mapping.New(mapping.Config{}); !errors.Is(err, mapping.ErrInvalid) {
		t.Errorf("no queue and no function: got %v", err)
	}
}

// TestEventRoundTrip: what the function gets, read by aws-lambda-go.
func TestEventRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text, empty := `héllo <&> "q" `+"\n\u2028", ""
		q := newFakeQueue(true, 30*time.Second)
		q.sendGroup("g", text, "plain")
		q.messages[0].MessageAttributes = map[string]mapping.MessageAttribute{
			"s": {DataType: "String.custom", StringValue: &text},
			"e": {DataType: "String", StringValue: &empty},
			"b": {DataType: "Binary", BinaryValue: []byte{0, 255, 1}},
		}
		q.messages[0].MD5OfMessageAttributes = "0123456789abcdef"
		raw := make(chan []byte, 1)
		run(t, mapping.Config{Queue: q, Function: mustFunction(t, mapping.FunctionConfig{
			Handler: rawHandler(func(_ context.Context, p []byte) ([]byte, error) { raw <- p; return nil, nil })})})
		payload := <-raw

		var got events.SQSEvent
		if err := json.Unmarshal(payload, &got); err != nil || len(got.Records) != 2 {
			t.Fatalf("%v in %s", err, payload)
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		r := got.Records[0]
		equal(t, "body", r.Body, text)
		equal(t, "md5", r.Md5OfBody, fmt.Sprintf("%x", md5.Sum([]byte(text))))
		equal(t, "md5 of attributes", r.Md5OfMessageAttributes, "0123456789abcdef")
		equal(t, "receipt", r.ReceiptHandle, r.MessageId+"#1")
		equal(t, "group", r.Attributes["MessageGroupId"], "g")
		equal(t, "source", r.EventSource, "aws:sqs")
		equal(t, "arn", r.EventSourceARN, q.ARN())
		equal(t, "region", r.AWSRegion, "eu-central-1")
		equal(t, "string", *r.MessageAttributes["s"].StringValue, text)
		equal(t, "empty string", *r.MessageAttributes["e"].StringValue, "")
		equal(t, "type", r.MessageAttributes["s"].DataType, "String.custom")
		equal(t, "binary", string(r.MessageAttributes["b"].BinaryValue), "\x00\xff\x01")
		if r.MessageAttributes["b"].StringValue != nil || r.MessageAttributes["s"].BinaryValue != nil {
			t.Error("an attribute has two values")
		}

		// The wire form itself: nothing unknown to aws-lambda-go, nothing that it would add but what is absent on purpose.
		var sent, known map[string][]map[string]any
		if json.Unmarshal(payload, &sent) != nil || json.Unmarshal(again, &known) != nil {
			t.Fatal("not JSON")
		}
		for i := range known["Records"] {
			if sent["Records"][i]["md5OfMessageAttributes"] == nil {
				delete(known["Records"][i], "md5OfMessageAttributes")
			}
		}
		a, b := fmt.Sprint(sent), fmt.Sprint(known)
		equal(t, "wire form", a, b)
		if !strings.Contains(string(payload), base64.StdEncoding.EncodeToString([]byte{0, 255, 1})) || !strings.Contains(string(payload), "<&>") ||
			!strings.Contains(string(payload), `"messageAttributes":{}`) || !strings.Contains(string(payload), `"stringListValues":[],"binaryListValues":[]`) {
			t.Errorf("wire form: %s", payload)
		}
	})
}

// TestResponses: which messages of a, b, c stay in the queue, by the function's answer.
func TestResponses(t *testing.T) {
	all, none := []string{"a", "b", "c"}, []string{}
	raw := func(s string) func() (any, error) { return func() (any, error) { return json.RawMessage(s), nil } }
	rows := []struct {
		name           string
		answer         func() (any, error)
		partial, plain []string // left in the queue with and without ReportBatchItemFailures
	}{
		{"nothing", raw(""), none, none},
		{"null", raw(" null\n"), none, none},
		{"empty object", raw("{}"), none, none},
		{"null list", raw(`{"batchItemFailures":null}`), none, none},
		{"empty list", raw(`{"batchItemFailures":[]}`), none, none},
		{"aws-lambda-go's empty response", func() (any, error) { return events.SQSEventResponse{}, nil }, none, none},
		{"misspelt list", raw(`{"BatchItemFailures":[{"itemIdentifier":"id-a"}]}`), none, none},
		{"one", raw(`{"batchItemFailures":[{"itemIdentifier":"id-b"}]}`), []string{"b"}, none},
		{"one twice, with more keys", raw(`{"x":1,"batchItemFailures":[{"itemIdentifier":"id-b"},{"itemIdentifier":"id-b","y":2}]}`), []string{"b"}, none},
		{"two", func() (any, error) { return failures("id-a", "id-c"), nil }, []string{"a", "c"}, none},
		{"all", func() (any, error) { return failures("id-a", "id-b", "id-c"), nil }, all, none},
		{"no JSON", raw(`{"batchItemFailures":[`), all, none},
		{"more after JSON", raw(`{"batchItemFailures":[]} {}`), all, none},
		{"text", raw(`"ok"`), all, none},
		{"list", raw(`[]`), all, none},
		{"list is no list", raw(`{"batchItemFailures":{"itemIdentifier":"id-a"}}`), all, none},
		{"items are texts", raw(`{"batchItemFailures":["id-a"]}`), all, none},
		{"empty id", raw(`{"batchItemFailures":[{"itemIdentifier":"id-a"},{"itemIdentifier":""}]}`), all, none},
		{"null id", raw(`{"batchItemFailures":[{"itemIdentifier":null}]}`), all, none},
		{"null item", raw(`{"batchItemFailures":[null]}`), all, none},
		{"misspelt id", raw(`{"batchItemFailures":[{"itemidentifier":"id-a"}]}`), all, none},
		{"unknown id", raw(`{"batchItemFailures":[{"itemIdentifier":"id-a"},{"itemIdentifier":"id-x"}]}`), all, none},
		{"numeric id", raw(`{"batchItemFailures":[{"itemIdentifier":7}]}`), all, none},
		{"error", func() (any, error) { return failures(), errors.New("no") }, all, all},
		{"panic", func() (any, error) { panic("no") }, all, all},
		{"timeout", func() (any, error) { time.Sleep(11 * time.Second); return failures(), nil }, all, all},
		{"response too large", raw(`"` + strings.Repeat("x", mapping.MaxPayloadBytes) + `"`), all, all},
	}
	for _, row := range rows {
		for _, partial := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, partial %t", row.name, partial), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					q := newFakeQueue(false, 30*time.Second)
					q.send("a", "b", "c")
					m := run(t, mapping.Config{Queue: q, ReportBatchItemFailures: partial, Function: mustFunction(t, mapping.FunctionConfig{
						Timeout: 10 * time.Second,
						Handler: handler(func(context.Context, events.SQSEvent) (any, error) { return row.answer() })})})
					time.Sleep(29 * time.Second)
					want := row.plain
					if partial {
						want = row.partial
					}
					equalList(t, "left", q.left(), want)
					s := m.Stats()
					equal(t, "deleted", s.Deleted, int64(3-len(want)))
					equal(t, "returned", s.Returned, int64(len(want)))
					equal(t, "idle", m.Idle(), true)
				})
			})
		}
	}
}

// TestVisibility: a failed message comes back when its visibility timeout is over, not earlier, with its receive counted;
// what succeeded beside it does not.
func TestVisibility(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue(false, 30*time.Second)
		q.send("good", "bad")
		j := newJournal()
		run(t, mapping.Config{Queue: q, ReportBatchItemFailures: true, Function: mustFunction(t, mapping.FunctionConfig{
			Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) {
				j.note("%v receive %s", bodies(e), e.Records[0].Attributes["ApproximateReceiveCount"])
				if len(j.read()) == 3 {
					return nil, nil
				}
				return failures("id-bad"), nil
			})})})
		time.Sleep(5 * time.Minute)
		equalList(t, "invocations", j.read(), []string{"0s [good bad] receive 1", "30s [bad] receive 2", "60s [bad] receive 3"})
		equalList(t, "left", q.left(), []string{})
	})
}

// TestWindow: when a batch is sent.
func TestWindow(t *testing.T) {
	rows := []struct {
		name   string
		size   int
		window time.Duration
		sends  []int // messages sent at second 0, 1, 2 …
		want   []string
	}{
		{"no window: what the first receive brought", 10, 0, []int{3, 2}, []string{"0s 3", "1s 2"}},
		{"no window: never above the size", 4, 0, []int{10}, []string{"0s 4", "0s 4", "0s 2"}},
		{"full before the window is over", 25, 10 * time.Second, []int{20, 0, 5}, []string{"2s 25"}},
		{"window over, receives see messages until then", 100, 2 * time.Second, []int{5, 5, 5, 5}, []string{"2s 15", "23s 5"}},
		{"quiet queue: the long poll is not cut short", 100, 2 * time.Second, []int{5}, []string{"20s 5"}},
		{"a late message joins the batch that still polls", 100, 2 * time.Second, []int{5, 0, 0, 0, 0, 0, 0, 1}, []string{"7s 6"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newFakeQueue(false, 600*time.Second)
				j := newJournal()
				cfg := mapping.Config{Queue: q, BatchSize: row.size, Window: row.window, Function: mustFunction(t, mapping.FunctionConfig{
					Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) { j.note("%d", len(e.Records)); return nil, nil })})}
				cfg.Queue = &onePoller{fakeQueue: q}
				n := 0
				send := func(count int) {
					var bodies []string
					for range count {
						n++
						bodies = append(bodies, strconv.Itoa(n))
					}
					q.send(bodies...)
				}
				run(t, cfg)
				synctest.Wait()
				send(row.sends[0])
				for _, count := range row.sends[1:] {
					time.Sleep(time.Second)
					send(count)
				}
				time.Sleep(2 * time.Minute)
				equalList(t, "batches", j.read(), row.want)
				equal(t, "left", len(q.left()), 0)
			})
		})
	}
}

// onePoller lets only the first of several pollers receive, so that batches are predictable. The mapping must be started on
// an empty queue.
type onePoller struct {
	*fakeQueue
	receiving atomic.Bool
}

func (q *onePoller) Receive(ctx context.Context, n int, wait time.Duration) ([]mapping.Message, error) {
	if !q.receiving.CompareAndSwap(false, true) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	defer q.receiving.Store(false)
	return q.fakeQueue.Receive(ctx, n, wait)
}

// TestPayloadLimit: a batch that would exceed 6 MB is cut, counted with its escapes, and nothing is lost.
func TestPayloadLimit(t *testing.T) {
	rows := []struct {
		name  string
		count int
		body  string
		want  []string
	}{
		{"six of 1 MiB exceed 6 MB with their frames", 6, strings.Repeat("x", 1<<20), []string{"0s 5", "0s 1"}},
		{"escapes count", 3, strings.Repeat("\n", 1<<20), []string{"0s 2", "0s 1"}},
		{"markup is not escaped", 3, strings.Repeat("<", 600_000), []string{"0s 3"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newFakeQueue(false, 30*time.Second)
				for i := range row.count {
					q.send(fmt.Sprint(i) + row.body[1:])
				}
				j := newJournal()
				run(t, mapping.Config{Queue: q, Function: mustFunction(t, mapping.FunctionConfig{
					Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) { j.note("%d", len(e.Records)); return nil, nil })})})
				time.Sleep(time.Second)
				equalList(t, "batches", j.read(), row.want)
				equal(t, "left", len(q.left()), 0)
			})
		})
	}
}

// TestPayloadLimitWhileGathering: gathering ends when the payload is full, however large the batch may be.
func TestPayloadLimitWhileGathering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue(false, 900*time.Second)
		j := newJournal()
		m := run(t, mapping.Config{Queue: &onePoller{fakeQueue: q}, BatchSize: 10_000, Window: 300 * time.Second, Function: mustFunction(t, mapping.FunctionConfig{
			Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) { j.note("%d", len(e.Records)); return nil, nil })})})
		synctest.Wait()
		var bodies []string
		for i := range 22 {
			bodies = append(bodies, fmt.Sprintf("%020d", i)+strings.Repeat("x", 400_000))
		}
		q.send(bodies...)
		time.Sleep(time.Second)
		// 20 are more than 6 MB; the 2 that are left begin the next batch.
		equalList(t, "batches", j.read(), []string{"0s 15", "0s 5"})
		equal(t, "in progress", m.Stats().InProgress, 1)
	})
}

// TestScaling: concurrency minute by minute with a backlog that never ends.
func TestScaling(t *testing.T) {
	rows := []struct {
		name    string
		maximum int
		want    []int // after half a second, then each minute
	}{
		{"5, then 300 a minute, 1,250 at most", 0, []int{5, 305, 605, 905, 1205, 1250, 1250}},
		{"MaximumConcurrency", 400, []int{5, 305, 400, 400}},
		{"MaximumConcurrency below 5", 2, []int{2, 2}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newFakeQueue(false, 900*time.Second)
				for i := range 1300 {
					q.send(strconv.Itoa(i))
				}
				f := mustFunction(t, mapping.FunctionConfig{Timeout: 900 * time.Second,
					Handler: rawHandler(func(context.Context, []byte) ([]byte, error) { time.Sleep(890 * time.Second); return nil, nil })})
				m := run(t, mapping.Config{Queue: q, Function: f, BatchSize: 1, MaximumConcurrency: row.maximum})
				time.Sleep(500 * time.Millisecond)
				for minute, want := range row.want {
					equal(t, fmt.Sprintf("running at minute %d", minute), f.Stats().Running, want)
					time.Sleep(time.Minute)
				}
				equal(t, "idle", m.Idle(), false)
			})
		})
	}
}

// TestScalingKeepsToWork: growth needs a backlog, survives short batches, and goes again when the queue is empty.
func TestScalingKeepsToWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue(false, 30*time.Second)
		f := mustFunction(t, mapping.FunctionConfig{
			Handler: rawHandler(func(context.Context, []byte) ([]byte, error) { time.Sleep(900 * time.Millisecond); return nil, nil })})
		m := run(t, mapping.Config{Queue: q, Function: f, BatchSize: 1})
		for range 60 {
			q.send("a", "b", "c", "d")
			time.Sleep(time.Second)
		}
		equal(t, "pollers with less work than pollers", m.Stats().Pollers, 5)
		for i := range 1000 {
			q.send(strconv.Itoa(i))
		}
		time.Sleep(10500 * time.Millisecond)
		equal(t, "pollers after 10 s of backlog", m.Stats().Pollers, 55)
		time.Sleep(5 * time.Minute)
		equal(t, "pollers on an empty queue", m.Stats().Pollers, 5)
		equal(t, "left", len(q.left()), 0)
	})
}

// TestBackOffOnErrors: errors slow polling, unless partial responses are on; success ends it.
func TestBackOffOnErrors(t *testing.T) {
	for partial, want := range map[bool]int{false: 2, true: 50} {
		t.Run(fmt.Sprintf("partial %t", partial), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newFakeQueue(false, 30*time.Second)
				for i := range 1200 {
					q.send(strconv.Itoa(i))
				}
				var fails atomic.Bool
				fails.Store(true)
				f := mustFunction(t, mapping.FunctionConfig{
					Handler: rawHandler(func(context.Context, []byte) ([]byte, error) {
						time.Sleep(700 * time.Millisecond)
						if fails.Load() {
							return nil, errors.New("no")
						}
						return nil, nil
					})})
				m := run(t, mapping.Config{Queue: q, Function: f, BatchSize: 1, ReportBatchItemFailures: partial})
				time.Sleep(10500 * time.Millisecond)
				if n := m.Stats().Pollers; partial && n < want || !partial && n != want {
					t.Errorf("pollers while all fails: %d", n)
				}
				fails.Store(false)
				time.Sleep(10 * time.Second)
				if n := m.Stats().Pollers; n < 45 {
					t.Errorf("pollers when all is well again: %d", n)
				}
			})
		})
	}
}

// TestBackOffEnds: a success brings the pollers back without a backlog.
func TestBackOffEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue(false, 30*time.Second)
		var fails atomic.Bool
		fails.Store(true)
		m := run(t, mapping.Config{Queue: q, Function: mustFunction(t, mapping.FunctionConfig{
			Handler: rawHandler(func(context.Context, []byte) ([]byte, error) {
				if fails.Load() {
					return nil, errors.New("no")
				}
				return nil, nil
			})})})
		q.send("a")
		time.Sleep(time.Second)
		equal(t, "pollers after one failure", m.Stats().Pollers, 4)
		time.Sleep(10 * time.Minute)
		equal(t, "pollers after many failures", m.Stats().Pollers, 2)
		fails.Store(false)
		time.Sleep(time.Minute)
		equal(t, "pollers after a success", m.Stats().Pollers, 5)
	})
}

// TestThrottled: a throttled batch is tried again while it is invisible, then dropped with its receive count spent.
func TestThrottled(t *testing.T) {
	rows := []struct {
		name        string
		busy        []string // how long the function's only slot is taken by others, one after the other
		want        []string
		dropped     int64
		throttles   int64
		pollersLeft int
	}{
		// Tried at 0, 1, 3, 7, 15 and 31 s.
		{"slot free in time", []string{"20s"}, []string{"31s a receive 1"}, 0, 5, 4},
		// Tried at 0, 1, 3, 7, 15, 31 s; a try at 61 s would come too late. Visible again at 60 s.
		{"slot free too late", []string{"59s", "6s"}, []string{"67s a receive 2"}, 1, 9, 3},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newFakeQueue(false, 60*time.Second)
				j := newJournal()
				f := mustFunction(t, mapping.FunctionConfig{ReservedConcurrency: 1, Timeout: 60 * time.Second,
					Handler: rawHandler(func(_ context.Context, p []byte) ([]byte, error) {
						if d, err := time.ParseDuration(string(p)); err == nil {
							time.Sleep(d)
							return nil, nil
						}
						var e events.SQSEvent
						if err := json.Unmarshal(p, &e); err != nil {
							return nil, err
						}
						j.note("%s receive %s", e.Records[0].Body, e.Records[0].Attributes["ApproximateReceiveCount"])
						return nil, nil
					})})
				go func() {
					for _, d := range row.busy {
						if _, err := f.Invoke(t.Context(), []byte(d)); err != nil {
							t.Error(err)
						}
					}
				}()
				synctest.Wait()
				q.send("a")
				m := run(t, mapping.Config{Queue: q, Function: f})
				time.Sleep(40 * time.Second)
				equal(t, "given up or done once no try is left", m.Idle(), true)
				time.Sleep(time.Minute)
				equalList(t, "invocations", j.read(), row.want)
				equal(t, "dropped", m.Stats().Dropped, row.dropped)
				equal(t, "throttles", f.Stats().Throttles, row.throttles)
				equal(t, "pollers", m.Stats().Pollers, row.pollersLeft)
				equal(t, "left", len(q.left()), 0)
			})
		})
	}
}

// TestFIFO: one batch in progress per group, order kept, groups in parallel, a failing group blocks itself only.
func TestFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue(true, 30*time.Second)
		q.sendGroup("A", "A1", "A2")
		q.sendGroup("B", "B1")
		j := newJournal()
		failing := true
		run(t, mapping.Config{Queue: &onePoller{fakeQueue: q}, ReportBatchItemFailures: true, Function: mustFunction(t, mapping.FunctionConfig{
			Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) {
				j.note("%v", bodies(e))
				if failing && e.Records[0].Body == "A1" {
					failing = false
					return failures("id-A1", "id-A2"), nil
				}
				return failures(), nil
			})})})
		time.Sleep(time.Second)
		q.sendGroup("A", "A3")
		q.sendGroup("B", "B2")
		time.Sleep(time.Minute)
		equalList(t, "batches", j.read(), []string{"0s [A1 A2 B1]", "1s [B2]", "30s [A1 A2 A3]"})
		equalList(t, "left", q.left(), []string{})
	})
}

// TestFIFOGroupsAtOnce: concurrency is what the groups allow.
func TestFIFOGroupsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue(true, 300*time.Second)
		for i := range 12 {
			q.sendGroup(strconv.Itoa(i%3), strconv.Itoa(i))
		}
		running := map[string]bool{}
		var most atomic.Int64
		j := newJournal()
		f := mustFunction(t, mapping.FunctionConfig{Timeout: 30 * time.Second,
			Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) {
				j.mu.Lock()
				for _, r := range e.Records {
					if g := r.Attributes["MessageGroupId"]; running[g] {
						t.Errorf("group %s is in progress twice", g)
					}
				}
				for _, r := range e.Records {
					running[r.Attributes["MessageGroupId"]] = true
				}
				most.Store(max(most.Load(), int64(len(running))))
				j.mu.Unlock()
				time.Sleep(10 * time.Second)
				j.note("%s", e.Records[0].Body)
				j.mu.Lock()
				for _, r := range e.Records {
					delete(running, r.Attributes["MessageGroupId"])
				}
				j.mu.Unlock()
				return nil, nil
			})})
		run(t, mapping.Config{Queue: q, Function: f, BatchSize: 1})
		time.Sleep(time.Minute)
		equal(t, "groups at once", most.Load(), 3)
		for _, g := range []string{"0", "1", "2"} {
			var order []int
			for _, line := range j.read() {
				n, _ := strconv.Atoi(strings.Fields(line)[1])
				if strconv.Itoa(n%3) == g {
					order = append(order, n)
				}
			}
			if len(order) != 4 || !slices.IsSorted(order) {
				t.Errorf("group %s came as %v", g, order)
			}
		}
	})
}

// TestFIFOSplitBatchKeepsOrder: when a batch is cut by payload, a group that fails in the first part is not overtaken in the
// second.
func TestFIFOSplitBatchKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue(true, 30*time.Second)
		body := func(name string) string { return name + strings.Repeat("x", 1<<20-20) + "#" }
		for i := range 4 {
			q.sendGroup("A", body(fmt.Sprintf("A%d%018d", i, 0)))
			q.sendGroup("B", body(fmt.Sprintf("B%d%018d", i, 0)))
		}
		j := newJournal()
		run(t, mapping.Config{Queue: q, ReportBatchItemFailures: true, Function: mustFunction(t, mapping.FunctionConfig{
			Handler: handler(func(_ context.Context, e events.SQSEvent) (any, error) {
				var seen, failed []string
				for _, r := range e.Records {
					seen = append(seen, r.Body[:2])
					if r.Body[0] == 'A' && len(j.read()) == 0 {
						failed = append(failed, r.MessageId)
					}
				}
				j.note("%v", seen)
				return failures(failed...), nil
			})})})
		time.Sleep(time.Minute)
		equalList(t, "batches", j.read(), []string{"0s [A0 B0 A1 B1 A2]", "0s [B2 B3]", "30s [A0 A1 A2 A3]"})
		equalList(t, "left", q.left(), []string{})
	})
}

// TestFaults: faults on demand, and what the queue sees of them.
func TestFaults(t *testing.T) {
	rows := []struct {
		name  string
		fault mapping.Fault
		fifo  bool
		want  []string
	}{
		{"none", mapping.Fault{}, false, []string{"0s begin", "2s end"}},
		{"duplicate", mapping.Fault{Duplicate: true}, false, []string{"0s begin", "0s begin", "2s end", "2s end"}},
		{"no duplicate on FIFO", mapping.Fault{Duplicate: true}, true, []string{"0s begin", "2s end"}},
		{"crash", mapping.Fault{CrashAfter: time.Second}, false, []string{"0s begin", "1s cancelled", "30s begin", "32s end"}},
		{"answer lost", mapping.Fault{LoseAnswer: true}, false, []string{"0s begin", "2s end", "30s begin", "32s end"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newFakeQueue(row.fifo, 30*time.Second)
				q.sendGroup("g", "a")
				j := newJournal()
				run(t, mapping.Config{Queue: q,
					Fault: func(b mapping.Batch) mapping.Fault {
						equalList(t, "ids", b.MessageIDs, []string{"id-a"})
						if b.Number > 1 {
							return mapping.Fault{}
						}
						return row.fault
					},
					Function: mustFunction(t, mapping.FunctionConfig{
						Handler: rawHandler(func(ctx context.Context, _ []byte) ([]byte, error) {
							j.note("begin")
							select {
							case <-ctx.Done():
								j.note("cancelled")
							case <-time.After(2 * time.Second):
								j.note("end")
							}
							return nil, nil
						})})})
				time.Sleep(2 * time.Minute)
				equalList(t, "journal", j.read(), row.want)
				equal(t, "left", len(q.left()), 0)
			})
		})
	}
}

// TestStop: polling ends at once, batches in progress are settled; started again, it goes on.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue(false, 30*time.Second)
		q.send("a")
		f := mustFunction(t, mapping.FunctionConfig{
			Handler: rawHandler(func(context.Context, []byte) ([]byte, error) { time.Sleep(2 * time.Second); return nil, nil })})
		m := run(t, mapping.Config{Queue: q, Function: f})
		time.Sleep(time.Second)
		equal(t, "idle with a batch", m.Idle(), false)

		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := m.Stop(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop that did not wait: %v", err)
		}
		m.Start(t.Context())
		if err := m.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		q.send("b")
		time.Sleep(time.Minute)
		equalList(t, "left", q.left(), []string{"b"})
		equal(t, "idle", m.Idle(), true)
		equal(t, "pollers", m.Stats().Pollers, 0)
		if err := m.Stop(t.Context()); err != nil {
			t.Errorf("stopped twice: %v", err)
		}

		m.Start(t.Context())
		m.Start(t.Context())
		time.Sleep(time.Second)
		equal(t, "pollers", m.Stats().Pollers, 5)
		if err := m.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		equalList(t, "left after a second run", q.left(), []string{})
		equal(t, "running", f.Stats().Running, 0)
	})
}

// TestStopFlushes: what was gathered is not left to its visibility timeout, what is throttled is.
func TestStopFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue(false, 600*time.Second)
		f := mustFunction(t, mapping.FunctionConfig{Handler: rawHandler(func(context.Context, []byte) ([]byte, error) { return nil, nil })})
		m := run(t, mapping.Config{Queue: q, Function: f, BatchSize: 100, Window: 300 * time.Second})
		q.send("a")
		time.Sleep(time.Second)
		equal(t, "gathering is in progress", m.Idle(), false)
		if err := m.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		equalList(t, "left", q.left(), []string{})

		f = mustFunction(t, mapping.FunctionConfig{Timeout: 60 * time.Second, ReservedConcurrency: 1,
			Handler: rawHandler(func(context.Context, []byte) ([]byte, error) { time.Sleep(time.Minute); return nil, nil })})
		go occupy(t, f)
		synctest.Wait()
		m = run(t, mapping.Config{Queue: q, Function: f})
		q.send("b")
		time.Sleep(8 * time.Second)
		begin := time.Now()
		if err := m.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		equal(t, "stopped after", time.Since(begin), 0)
		equalList(t, "left", q.left(), []string{"b"})
		equal(t, "dropped", m.Stats().Dropped, 1)
		time.Sleep(time.Minute)
	})
}

func TestDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue(false, 30*time.Second)
		q.send("a")
		m := run(t, mapping.Config{Queue: q, Disabled: true, Function: mustFunction(t, mapping.FunctionConfig{Handler: rawHandler(nil)})})
		time.Sleep(time.Minute)
		equal(t, "receives", q.receives, 0)
		equal(t, "idle", m.Idle(), true)
	})
}

// TestQueueTrouble: a queue that refuses is asked again at a modest pace, a failed delete is tried again and then left to
// redelivery.
func TestQueueTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue(false, 30*time.Second)
		q.send("a")
		q.receiveErr = errors.New("ServiceUnavailable")
		m := run(t, mapping.Config{Queue: q, Function: mustFunction(t, mapping.FunctionConfig{
			Handler: rawHandler(func(context.Context, []byte) ([]byte, error) { return nil, nil })})})
		time.Sleep(9500 * time.Millisecond)
		q.mu.Lock()
		equal(t, "receives", q.receives, 50)
		q.receiveErr, q.deleteErr = nil, errors.New("ServiceUnavailable")
		q.mu.Unlock()
		equal(t, "receive errors", m.Stats().ReceiveErrors, 50)
		time.Sleep(10 * time.Second)
		q.mu.Lock()
		equal(t, "deletes", q.deletes, 3)
		q.deleteErr = nil
		q.mu.Unlock()
		equal(t, "delete errors", m.Stats().DeleteErrors, 3)
		equal(t, "returned", m.Stats().Returned, 1)
		time.Sleep(time.Minute)
		equalList(t, "left", q.left(), []string{})
		equal(t, "batches", m.Stats().Batches, 2)
	})
}
