package batch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/waybill"
)

// Whatever handlers do and queues suffer: a message is acknowledged only if it succeeded or its copy is durable, and the
// answer holds ids of the event only, each once, in order.
func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench()
		b.cfg.Logger = slog.New(slog.NewJSONHandler(io.Discard, nil))
		if rapid.Bool().Draw(t, "no dead-letter queue") {
			b.cfg.DeadLetter = nil
		}
		n := rapid.IntRange(0, 12).Draw(t, "records")
		fifo := rapid.Bool().Draw(t, "fifo")
		outcomes := map[string]error{}
		lost := map[string]bool{}    // what a queue does not take
		owner := map[string]string{} // message id by receipt handle
		var messages []events.SQSMessage
		for i := range n {
			id := fmt.Sprint("m", i)
			m := message(id, rapid.IntRange(0, 11).Draw(t, "receives"))
			if fifo {
				m = inGroup(m, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "group"))
			}
			if i > 0 && rapid.IntRange(0, 9).Draw(t, "duplicate") == 0 {
				m = messages[rapid.IntRange(0, i-1).Draw(t, "of")]
				m.ReceiptHandle = fmt.Sprint("r-", id, "-again")
			}
			messages = append(messages, m)
			owner[m.ReceiptHandle] = m.MessageId
			outcomes[id] = drawOutcome(t)
			for _, what := range []string{"dlq ", "source ", "visible "} {
				lost[what+id] = rapid.Bool().Draw(t, what+"fails")
			}
		}
		b.deadLetter.refuse = func(m queue.Message) bool { return lost["dlq "+original(m)] }
		b.source.refuse = func(m queue.Message) bool { return lost["source "+original(m)] }
		b.source.refuseShow = func(receipt string) bool { return lost["visible "+strings.TrimPrefix(receipt, "r-")] }

		fn := returning(outcomes)
		each := rapid.Bool().Draw(t, "each")
		if each {
			fn = batch.Each(3, func(_ context.Context, r batch.Record) error { return outcomes[r.MessageID] })
		}
		response, err := batch.New(b.cfg, fn).Handle(context.Background(), event(messages...))
		if err != nil {
			t.Fatal(err)
		}

		returned := map[string]bool{}
		at := 0
		for _, f := range response.BatchItemFailures {
			for at < n && messages[at].MessageId != f.ItemIdentifier {
				at++
			}
			if at == n || returned[f.ItemIdentifier] {
				t.Fatalf("%q is unknown, twice, or out of order in %v", f.ItemIdentifier, response)
			}
			returned[f.ItemIdentifier] = true
		}
		durable := map[string]bool{}
		for _, q := range []*recorder{&b.source, &b.deadLetter} {
			for _, m := range q.sent {
				durable[original(m)] = true
			}
		}
		blocked, seen := map[string]bool{}, map[string]bool{}
		for _, m := range messages {
			id := m.MessageId
			if seen[id] {
				continue // its place is that of the first
			}
			seen[id] = true
			if !returned[id] && outcomes[id] != nil && !durable[id] {
				t.Fatalf("%s had outcome %v, was acknowledged, and is nowhere", id, outcomes[id])
			}
			if !returned[id] {
				if fifo && blocked[m.Attributes["MessageGroupId"]] {
					t.Fatalf("%s was acknowledged behind an earlier record of its group", id)
				}
				continue
			}
			blocked[m.Attributes["MessageGroupId"]] = true
		}
		// Whatever is returned has been made visible, and nothing else has.
		for receipt := range maps.Keys(b.source.changed) {
			if !returned[owner[receipt]] {
				t.Fatalf("%s was made visible and acknowledged", receipt)
			}
		}
		for receipt, id := range owner {
			if _, ok := b.source.changed[receipt]; returned[id] && !ok {
				t.Fatalf("%s was returned and not made visible", receipt)
			}
		}
		if fifo && b.source.sends > 0 {
			t.Fatal("sent again on a FIFO queue")
		}
		if b.source.sends > 1 || b.deadLetter.sends > 1 || b.source.changes > 1 {
			t.Fatal("more calls than needed")
		}
	})
}

func drawOutcome(t *rapid.T) error {
	switch rapid.IntRange(0, 7).Draw(t, "outcome") {
	case 0:
		return errCause
	case 1:
		return outcome.RetryAfter(time.Duration(rapid.Int64().Draw(t, "delay")), errCause)
	case 2:
		return outcome.Defer(time.Duration(rapid.Int64().Draw(t, "delay")), errCause)
	case 3:
		return outcome.Reject("bad", errCause)
	case 4:
		return batch.Protect(func() error { panic("poison") })
	case 5:
		return batch.ErrNotStarted
	}
	return nil
}

// original tells which message m is a copy of.
func original(m queue.Message) string {
	_, _, n, err := waybill.Detach(m.Body, m.Attributes)
	if err != nil || m.Delay < 0 || m.Delay > queue.MaxDelay {
		return "unreadable"
	}
	return n.EventID
}

func FuzzHandle(f *testing.F) {
	f.Add([]byte(`{"Records":[]}`), uint8(0))
	f.Add([]byte(`{"Records":null}`), uint8(1))
	f.Add([]byte(`{"Records":[{"messageId":"1","receiptHandle":"r","body":"b","attributes":{"ApproximateReceiveCount":"9","SentTimestamp":"1545082649183"},"messageAttributes":{"n":{"stringValue":"1","binaryListValues":[],"stringListValues":[],"dataType":"Number"},"b":{"binaryValue":"AA==","dataType":"Binary"}},"eventSourceARN":"arn:aws:sqs:us-east-2:123456789012:q"},{"messageId":"1"}]}`), uint8(2))
	f.Add([]byte(`{"Records":[{"messageId":"1","attributes":{"MessageGroupId":"g"},"eventSourceARN":"x.fifo"},{"messageId":"2","attributes":{"MessageGroupId":"g"},"eventSourceARN":"x.fifo"}]}`), uint8(3))
	f.Add([]byte(`{"Records":[{"messageId":"1","messageAttributes":{"waybill":{"stringValue":"{\"v\":1,\"eventId\":\"e\"}","dataType":"String"}}},{"messageId":""}]}`), uint8(4))
	f.Fuzz(func(t *testing.T, data []byte, seed uint8) {
		var e events.SQSEvent
		if json.Unmarshal(data, &e) != nil || len(e.Records) > 100 {
			t.Skip()
		}
		b := newBench()
		b.cfg.Logger = slog.New(slog.NewJSONHandler(io.Discard, nil))
		if seed%5 == 4 {
			b.source.refuse, b.deadLetter.refuse = all, all
		}
		succeeded, total := 0, 0
		response, err := batch.New(b.cfg, func(_ context.Context, records []batch.Record) []error {
			errs := make([]error, len(records))
			for i := range records {
				switch (i + int(seed)) % 4 {
				case 0:
					errs[i] = outcome.Reject("bad", errCause)
				case 1:
					errs[i] = outcome.Defer(time.Second, errCause)
				case 2:
					errs[i] = errCause
				case 3:
					succeeded++
				}
				total++
			}
			return errs
		}).Handle(t.Context(), e)
		if response.BatchItemFailures == nil {
			t.Fatal("null deletes the whole batch")
		}
		known, empty := map[string]bool{}, false
		for _, m := range e.Records {
			known[m.MessageId] = true
			empty = empty || m.MessageId == ""
		}
		if empty != (err != nil) {
			t.Fatalf("function error %v", err)
		}
		for _, failure := range response.BatchItemFailures {
			if !known[failure.ItemIdentifier] || failure.ItemIdentifier == "" {
				t.Fatalf("id %q is not of the event, or twice", failure.ItemIdentifier)
			}
			delete(known, failure.ItemIdentifier)
		}
		if err == nil && len(known) > succeeded+len(b.source.sent)+len(b.deadLetter.sent) {
			t.Fatalf("%d ids acknowledged, %d succeeded, %d sent", len(known), succeeded, len(b.source.sent)+len(b.deadLetter.sent))
		}
	})
}

func BenchmarkHandle(b *testing.B) {
	for name, fail := range map[string]bool{"all succeed": false, "three sorts of failures": true} {
		b.Run(name, func(b *testing.B) {
			var messages []events.SQSMessage
			for i := range 10 {
				m := message(fmt.Sprint(i), 1)
				m.Body = strings.Repeat("x", 1024)
				m.MessageAttributes = map[string]events.SQSMessageAttribute{"event-type": {DataType: "String", StringValue: new("order.placed")}}
				messages = append(messages, m)
			}
			cfg := newBench().cfg
			cfg.Source, cfg.DeadLetter = &sink{}, &sink{}
			cfg.Logger = slog.New(slog.DiscardHandler)
			h := batch.New(cfg, func(_ context.Context, records []batch.Record) []error {
				errs := make([]error, len(records))
				if fail {
					errs[0], errs[1], errs[2] = errCause, outcome.Defer(time.Second, errCause), outcome.Reject("bad", errCause)
				}
				return errs
			})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.Handle(b.Context(), event(messages...)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// sink takes everything and remembers nothing.
type sink struct{}

func (*sink) Send(_ context.Context, messages []queue.Message) []error {
	return make([]error, len(messages))
}

func (*sink) ChangeVisibility(_ context.Context, changes []queue.Visibility) []error {
	return make([]error, len(changes))
}
