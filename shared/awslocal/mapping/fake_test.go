package mapping_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
)

// fakeQueue keeps SQS's rules on visibility and FIFO groups, and nothing else.
type fakeQueue struct {
	fifo       bool
	visibility time.Duration

	mu         sync.Mutex
	messages   []*fakeMessage
	changed    chan struct{}
	receives   int
	receiveErr error
	deleteErr  error
	deletes    int
}

type fakeMessage struct {
	mapping.Message
	group    string
	visible  time.Time
	receives int
}

func newFakeQueue(fifo bool, visibility time.Duration) *fakeQueue {
	return &fakeQueue{fifo: fifo, visibility: visibility, changed: make(chan struct{})}
}

func (q *fakeQueue) ARN() string {
	if q.fifo {
		return "arn:aws:sqs:eu-central-1:000000000000:orders.fifo"
	}
	return "arn:aws:sqs:eu-central-1:000000000000:orders"
}
func (q *fakeQueue) FIFO() bool                       { return q.fifo }
func (q *fakeQueue) VisibilityTimeout() time.Duration { return q.visibility }

func (q *fakeQueue) send(bodies ...string) { q.sendGroup("", bodies...) }

func (q *fakeQueue) sendGroup(group string, bodies ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, body := range bodies {
		sum := md5.Sum([]byte(body))
		q.messages = append(q.messages, &fakeMessage{group: group, visible: time.Now(), Message: mapping.Message{
			ID: "id-" + body[:min(len(body), 20)], Body: body, MD5OfBody: hex.EncodeToString(sum[:]),
		}})
	}
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *fakeQueue) Receive(ctx context.Context, maxMessages int, wait time.Duration) ([]mapping.Message, error) {
	if maxMessages < 1 || maxMessages > 10 {
		return nil, fmt.Errorf("receive of %d messages", maxMessages)
	}
	over := time.Now().Add(wait)
	q.mu.Lock()
	q.receives++
	err := q.receiveErr
	q.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for {
		q.mu.Lock()
		got, next, changed := q.take(maxMessages), q.nextVisible(over), q.changed
		q.mu.Unlock()
		if len(got) > 0 || !time.Now().Before(over) {
			return got, nil
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

func (q *fakeQueue) take(n int) []mapping.Message {
	now := time.Now()
	blocked := map[string]bool{}
	if q.fifo {
		for _, m := range q.messages {
			if m.visible.After(now) {
				blocked[m.group] = true
			}
		}
	}
	var got []mapping.Message
	for _, m := range q.messages {
		if len(got) == n {
			break
		}
		if m.visible.After(now) || blocked[m.group] {
			continue
		}
		m.receives++
		m.visible = now.Add(q.visibility)
		m.ReceiptHandle = m.ID + "#" + strconv.Itoa(m.receives)
		m.Attributes = map[string]string{"ApproximateReceiveCount": strconv.Itoa(m.receives)}
		if m.group != "" {
			m.Attributes["MessageGroupId"] = m.group
		}
		got = append(got, m.Message)
	}
	return got
}

func (q *fakeQueue) nextVisible(over time.Time) time.Time {
	next := over
	for _, m := range q.messages {
		if m.visible.After(time.Now()) && m.visible.Before(next) {
			next = m.visible
		}
	}
	return next
}

func (q *fakeQueue) Delete(_ context.Context, receipts []string) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deletes++
	if len(receipts) < 1 || len(receipts) > 10 {
		return 0, fmt.Errorf("delete of %d messages", len(receipts))
	}
	if q.deleteErr != nil {
		return 0, q.deleteErr
	}
	before := len(q.messages)
	q.messages = slices.DeleteFunc(q.messages, func(m *fakeMessage) bool { return slices.Contains(receipts, m.ReceiptHandle) })
	return before - len(q.messages), nil
}

// left gives the bodies still in the queue, in order.
func (q *fakeQueue) left() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	bodies := []string{}
	for _, m := range q.messages {
		bodies = append(bodies, m.Body)
	}
	return bodies
}

// handler is code in a function.
type handler func(ctx context.Context, e events.SQSEvent) (any, error)

func (h handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	var e events.SQSEvent
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, err
	}
	out, err := h(ctx, e)
	if err != nil {
		return nil, err
	}
	if raw, ok := out.(json.RawMessage); ok {
		return raw, nil
	}
	return json.Marshal(out)
}

func bodies(e events.SQSEvent) []string {
	var out []string
	for _, r := range e.Records {
		out = append(out, r.Body)
	}
	return out
}

func failures(ids ...string) events.SQSEventResponse {
	r := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	for _, id := range ids {
		r.BatchItemFailures = append(r.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: id})
	}
	return r
}

// journal notes what handlers saw, in order.
type journal struct {
	mu    sync.Mutex
	begin time.Time
	lines []string
}

func newJournal() *journal { return &journal{begin: time.Now()} }

// note writes a line with the seconds since the beginning.
func (j *journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf("%gs ", time.Since(j.begin).Seconds())+fmt.Sprintf(format, args...))
}

func (j *journal) read() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

func mustFunction(t testing.TB, cfg mapping.FunctionConfig) *mapping.Function {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "deliverer"
	}
	f, err := mapping.NewFunction(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// run starts a mapping that is stopped when the test ends.
func run(t testing.TB, cfg mapping.Config) *mapping.Mapping {
	t.Helper()
	m, err := mapping.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.Start(t.Context())
	t.Cleanup(func() {
		if err := m.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func equalList(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\ngot  %q\nwant %q", what, got, want)
	}
}
