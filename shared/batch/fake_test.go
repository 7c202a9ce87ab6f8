package batch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/waybill"
)

const (
	arn     = "arn:aws:sqs:eu-central-1:123456789012:ingress"
	fifoARN = arn + ".fifo"
)

var (
	errQueue   = errors.New("queue is down")
	errCause   = errors.New("cause")
	acceptedAt = time.UnixMilli(1780000000123).UTC()
)

// recorder is a queue that remembers what was durably accepted, and fails on command.
type recorder struct {
	mu      sync.Mutex
	sent    []queue.Message
	changed map[string]time.Duration // by receipt handle, asked for, whether it succeeded or not
	sends   int
	changes int

	refuse     func(queue.Message) bool
	refuseShow func(receipt string) bool
	hang       bool // until the context ends
	miscount   int  // answers too many
}

func (q *recorder) Send(ctx context.Context, messages []queue.Message) []error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sends++
	if q.miscount != 0 {
		return make([]error, len(messages)+q.miscount)
	}
	errs := make([]error, len(messages))
	if q.hang {
		<-ctx.Done()
	}
	for i, m := range messages {
		switch {
		case ctx.Err() != nil:
			errs[i] = ctx.Err()
		case q.refuse != nil && q.refuse(m):
			errs[i] = errQueue
		default:
			q.sent = append(q.sent, m)
		}
	}
	return errs
}

func (q *recorder) ChangeVisibility(ctx context.Context, changes []queue.Visibility) []error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.changes++
	if q.changed == nil {
		q.changed = map[string]time.Duration{}
	}
	errs := make([]error, len(changes))
	for i, c := range changes {
		q.changed[c.Receipt] = c.After
		switch {
		case ctx.Err() != nil:
			errs[i] = ctx.Err()
		case q.refuseShow != nil && q.refuseShow(c.Receipt):
			errs[i] = errQueue
		}
	}
	if q.miscount != 0 {
		return make([]error, len(changes)+q.miscount)
	}
	return errs
}

// bodies lists what was sent, in order.
func (q *recorder) bodies() []string {
	var all []string
	for _, m := range q.sent {
		body, _, _, _ := waybill.Detach(m.Body, m.Attributes)
		all = append(all, body)
	}
	return all
}

func all(queue.Message) bool { return true }

// message is a received message; id, body and receipt handle tell the same name.
func message(name string, receiveCount int) events.SQSMessage {
	return events.SQSMessage{
		MessageId: name, ReceiptHandle: "r-" + name, Body: name, EventSourceARN: arn,
		Attributes: map[string]string{
			"ApproximateReceiveCount": fmt.Sprint(receiveCount),
			"SentTimestamp":           fmt.Sprint(acceptedAt.UnixMilli()),
		},
	}
}

func inGroup(m events.SQSMessage, group string) events.SQSMessage {
	m.EventSourceARN = fifoARN
	m.Attributes["MessageGroupId"] = group
	m.Attributes["MessageDeduplicationId"] = "d-" + m.MessageId
	return m
}

func event(messages ...events.SQSMessage) events.SQSEvent { return events.SQSEvent{Records: messages} }

// bench holds a Handler with everything around it that a test looks at.
type bench struct {
	source, deadLetter recorder
	log                bytes.Buffer
	cfg                batch.Config
}

// newBench makes a bench whose jitter is none and whose back-off is a minute.
func newBench() *bench {
	b := &bench{}
	b.cfg = batch.Config{
		Source: &b.source, DeadLetter: &b.deadLetter, MaxReceiveCount: 10,
		Backoff: func(int) time.Duration { return time.Minute },
		Random:  func() float64 { return 0 },
		Logger:  slog.New(slog.NewJSONHandler(&b.log, nil)),
	}
	return b
}

// handle handles an event and gives the ids in the answer, as Lambda reads it.
func (b *bench) handle(t testing.TB, fn batch.Func, messages ...events.SQSMessage) []string {
	t.Helper()
	return b.handleWith(t.Context(), t, fn, messages...)
}

func (b *bench) handleWith(ctx context.Context, t testing.TB, fn batch.Func, messages ...events.SQSMessage) []string {
	t.Helper()
	response, err := batch.New(b.cfg, fn).Handle(ctx, event(messages...))
	if err != nil {
		t.Fatalf("function error: %v", err)
	}
	return ids(t, response)
}

func ids(t testing.TB, response events.SQSEventResponse) []string {
	t.Helper()
	wire, err := json.Marshal(response)
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		BatchItemFailures []struct{ ItemIdentifier string }
	}
	if err := json.Unmarshal(wire, &read); err != nil {
		t.Fatal(err)
	}
	if read.BatchItemFailures == nil {
		t.Fatalf("Lambda takes %s for success of all", wire)
	}
	all := []string{}
	for _, f := range read.BatchItemFailures {
		all = append(all, f.ItemIdentifier)
	}
	return all
}

// lines gives the log as maps.
func (b *bench) lines(t testing.TB) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(b.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// returning gives a Func whose outcomes are looked up by message id.
func returning(outcomes map[string]error) batch.Func {
	return func(_ context.Context, records []batch.Record) []error {
		var errs []error
		for _, r := range records {
			errs = append(errs, outcomes[r.MessageID])
		}
		return errs
	}
}

func wantIDs(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("returned %q, want %q", got, want)
	}
}

func decode(t testing.TB, line []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(line, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
