package redrive_test

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/shared/redrive"
	"github.com/waybillhq/waybill/shared/topology"
)

// backward is a queue that puts a message behind all others after its third receive, as SQS says that it does; awslocal keeps
// strictly to the age. It knows the operations of a dry run, and of a run whose target is somewhere else.
type backward struct {
	redrive.API // of the target

	mu      sync.Mutex
	visible line
	held    map[int]*queued
	last    int // place in the line
	limit   int // in flight at a time
	most    int
}

type queued struct {
	body                string
	id, place, receives int
}

// line is a heap of messages by the order in which they are served.
type line []*queued

func (l line) Len() int           { return len(l) }
func (l line) Less(i, j int) bool { return l[i].place < l[j].place }
func (l line) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }

// Push adds a message.
func (l *line) Push(m any) { *l = append(*l, m.(*queued)) }

// Pop takes the last message of the slice.
func (l *line) Pop() any {
	m := (*l)[len(*l)-1]
	*l = (*l)[:len(*l)-1]
	return m
}

func (b *backward) put(m *queued) {
	b.last++
	m.place = b.last
	heap.Push(&b.visible, m)
}

func (b *backward) ReceiveMessage(_ context.Context, in *awssqs.ReceiveMessageInput, _ ...func(*awssqs.Options)) (*awssqs.ReceiveMessageOutput, error) {
	b.mu.Lock()
	out := &awssqs.ReceiveMessageOutput{}
	if b.held == nil {
		b.held = map[int]*queued{}
	}
	for len(b.visible) > 0 && len(out.Messages) < int(in.MaxNumberOfMessages) && len(b.held) < b.limit {
		m := heap.Pop(&b.visible).(*queued)
		b.held[m.id] = m
		m.receives++
		out.Messages = append(out.Messages, types.Message{MessageId: aws.String(fmt.Sprint("id-", m.id)), ReceiptHandle: aws.String(strconv.Itoa(m.id)), Body: &m.body})
	}
	b.most = max(b.most, len(b.held))
	b.mu.Unlock()
	if len(out.Messages) == 0 {
		time.Sleep(time.Duration(in.WaitTimeSeconds) * time.Second)
	}
	return out, nil
}

func (b *backward) done(id int, deleted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok := b.held[id]
	if !ok {
		return
	}
	delete(b.held, id)
	switch {
	case deleted:
	case m.receives >= 3:
		b.put(m)
	default:
		heap.Push(&b.visible, m)
	}
}

func (b *backward) ChangeMessageVisibilityBatch(_ context.Context, in *awssqs.ChangeMessageVisibilityBatchInput, _ ...func(*awssqs.Options)) (*awssqs.ChangeMessageVisibilityBatchOutput, error) {
	out := &awssqs.ChangeMessageVisibilityBatchOutput{}
	for _, e := range in.Entries {
		id, _ := strconv.Atoi(*e.ReceiptHandle)
		b.done(id, false)
		out.Successful = append(out.Successful, types.ChangeMessageVisibilityBatchResultEntry{Id: e.Id})
	}
	return out, nil
}

func (b *backward) DeleteMessageBatch(_ context.Context, in *awssqs.DeleteMessageBatchInput, _ ...func(*awssqs.Options)) (*awssqs.DeleteMessageBatchOutput, error) {
	out := &awssqs.DeleteMessageBatchOutput{}
	for _, e := range in.Entries {
		id, _ := strconv.Atoi(*e.ReceiptHandle)
		b.done(id, true)
		out.Successful = append(out.Successful, types.DeleteMessageBatchResultEntry{Id: e.Id})
	}
	return out, nil
}

func (b *backward) SendMessageBatch(_ context.Context, in *awssqs.SendMessageBatchInput, _ ...func(*awssqs.Options)) (*awssqs.SendMessageBatchOutput, error) {
	if !strings.HasSuffix(*in.QueueUrl, "/target") {
		return nil, errors.New("sent to the dead-letter queue")
	}
	out := &awssqs.SendMessageBatchOutput{}
	for _, e := range in.Entries {
		out.Successful = append(out.Successful, types.SendMessageBatchResultEntry{Id: e.Id})
	}
	return out, nil
}

func (b *backward) GetQueueAttributes(context.Context, *awssqs.GetQueueAttributesInput, ...func(*awssqs.Options)) (*awssqs.GetQueueAttributesOutput, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &awssqs.GetQueueAttributesOutput{Attributes: map[string]string{
		"ApproximateNumberOfMessages": strconv.Itoa(len(b.visible)), "ApproximateNumberOfMessagesNotVisible": strconv.Itoa(len(b.held)),
	}}, nil
}

// TestThirdReceiveGoesLast: on a queue that behaves as SQS says, every message is got to without changing any, far beyond the
// window and the limit in flight, and the dry run agrees with the move.
func TestThirdReceiveGoesLast(t *testing.T) {
	for name, tt := range map[string]struct{ letters, limit, window int }{
		"the limit in flight is in the way": {letters: 700, limit: 150, window: 0},
		"the window is in the way":          {letters: 700, limit: 150, window: 100},
		"at the size of SQS":                {letters: 150_000 / shrink, limit: 120_000 / shrink, window: redrive.DefaultWindow / shrink},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.letters > 1000 && testing.Short() {
				t.Skip("takes seconds")
			}
			synctest.Test(t, func(t *testing.T) {
				b, crm := &backward{limit: tt.limit}, 0
				var bodies [2]string
				for i, destination := range []string{"erp", "crm"} {
					bodies[i] = dead{event: "1", destination: destination, reason: "-"}.build(t).Body
				}
				for i := range tt.letters {
					which := 0
					if i%7 == 6 || i == tt.letters-2 {
						which = 1
					}
					crm += which
					b.put(&queued{id: i, body: bodies[which]})
				}
				cfg := redrive.Config{
					SQS: b, From: topology.DeliveriesDeadLetter, FromURL: "http://x/source", ToURL: "http://x/target", Rate: redrive.MaxRate,
					Window: tt.window, DryRun: true, Filter: redrive.Filter{Destinations: []string{"crm"}},
				}
				dry, err := run(t.Context(), t, cfg)
				if err != nil || dry.Matched != crm || dry.Looked != tt.letters || !dry.Complete || len(b.held) != 0 || len(b.visible) != tt.letters {
					t.Errorf("%v, %+v, %d in flight", err, dry, len(b.held))
				}
				cfg.DryRun = false
				report, err := run(t.Context(), t, cfg)
				if err != nil || report.Moved != crm || !report.Complete || report.Looked != tt.letters || len(b.held) != 0 || len(b.visible) != tt.letters-crm {
					t.Errorf("%v, %+v, %d in flight", err, report, len(b.held))
				}
				if tt.window > 0 && b.most > tt.window+10 {
					t.Errorf("%d in flight at a time, the window is %d", b.most, tt.window)
				}
			})
		})
	}
}
