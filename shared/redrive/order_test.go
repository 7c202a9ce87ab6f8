package redrive_test

import (
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

	mu       sync.Mutex
	messages []*queued // in the order in which they are served
	inFlight int
	limit    int
	most     int // in flight at a time
}

type queued struct {
	body     string
	id       int
	receives int
	held     bool
	deleted  bool
}

func (b *backward) ReceiveMessage(_ context.Context, in *awssqs.ReceiveMessageInput, _ ...func(*awssqs.Options)) (*awssqs.ReceiveMessageOutput, error) {
	b.mu.Lock()
	out := &awssqs.ReceiveMessageOutput{}
	for _, m := range b.messages {
		if len(out.Messages) == int(in.MaxNumberOfMessages) || b.inFlight == b.limit {
			break
		}
		if m.held || m.deleted {
			continue
		}
		m.held = true
		m.receives++
		b.inFlight++
		out.Messages = append(out.Messages, types.Message{MessageId: aws.String(fmt.Sprint("id-", m.id)), ReceiptHandle: aws.String(strconv.Itoa(m.id)), Body: &m.body})
	}
	b.most = max(b.most, b.inFlight)
	b.mu.Unlock()
	if len(out.Messages) == 0 {
		time.Sleep(time.Duration(in.WaitTimeSeconds) * time.Second)
	}
	return out, nil
}

func (b *backward) done(id int, deleted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, m := range b.messages {
		if m.id != id || !m.held {
			continue
		}
		m.held, m.deleted = false, deleted
		b.inFlight--
		if m.receives >= 3 {
			b.messages = append(append(b.messages[:i:i], b.messages[i+1:]...), m)
		}
		return
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
	total := 0
	for _, m := range b.messages {
		if !m.deleted {
			total++
		}
	}
	return &awssqs.GetQueueAttributesOutput{Attributes: map[string]string{
		"ApproximateNumberOfMessages": strconv.Itoa(total - b.inFlight), "ApproximateNumberOfMessagesNotVisible": strconv.Itoa(b.inFlight),
	}}, nil
}

// TestThirdReceiveGoesLast: on a queue that behaves as SQS says, every message is got to without changing any, far beyond the
// window and the limit in flight, and the dry run agrees with the move.
func TestThirdReceiveGoesLast(t *testing.T) {
	for name, tt := range map[string]struct{ limit, window int }{
		"the limit in flight is in the way": {limit: 150, window: 0},
		"the window is in the way":          {limit: 150, window: 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 700
				b := &backward{limit: tt.limit}
				for i := range n {
					like := dead{event: strconv.Itoa(i), destination: "erp", reason: "-"}
					if i%7 == 6 || i == n-2 {
						like.destination = "crm"
					}
					b.messages = append(b.messages, &queued{id: i, body: like.build(t).Body})
				}
				cfg := redrive.Config{
					SQS: b, From: topology.DeliveriesDeadLetter, FromURL: "http://x/source", ToURL: "http://x/target", Rate: redrive.MaxRate,
					Window: tt.window, DryRun: true, Filter: redrive.Filter{Destinations: []string{"crm"}},
				}
				dry, err := run(t.Context(), t, cfg)
				if err != nil || dry.Matched != n/7+1 || dry.Looked != n || !dry.Complete || b.inFlight != 0 {
					t.Errorf("%v, %+v, %d in flight", err, dry, b.inFlight)
				}
				cfg.DryRun = false
				report, err := run(t.Context(), t, cfg)
				if err != nil || report.Moved != dry.Matched || !report.Complete || report.Looked != n || b.inFlight != 0 {
					t.Errorf("%v, %+v, %d in flight", err, report, b.inFlight)
				}
				if tt.window > 0 && b.most > tt.window+10 {
					t.Errorf("%d in flight at a time, the window is %d", b.most, tt.window)
				}
			})
		})
	}
}
