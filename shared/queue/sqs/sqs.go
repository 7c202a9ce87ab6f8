// Package sqs is the driver of package queue for Amazon SQS.
//
// A Queue is safe for concurrent use. It packs messages into as few batch calls as SQS allows, makes several calls
// at a time, and tells for every message whether SQS has accepted it. Repeating calls that failed as a whole is the
// client's business: whoever makes it configures the SDK's retries. What one entry of an otherwise successful call
// suffers by a fault of SQS is repeated here, once, because the SDK cannot see it.
package sqs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/shared/queue"
)

// API is what the driver needs of the SDK's client.
type API interface {
	SendMessageBatch(ctx context.Context, in *awssqs.SendMessageBatchInput, options ...func(*awssqs.Options)) (*awssqs.SendMessageBatchOutput, error)
	ChangeMessageVisibilityBatch(ctx context.Context, in *awssqs.ChangeMessageVisibilityBatchInput, options ...func(*awssqs.Options)) (*awssqs.ChangeMessageVisibilityBatchOutput, error)
}

// Errors of single messages, besides queue.ErrTooLarge.
var (
	// ErrInvalid says that SQS would refuse the message or the change, and with it perhaps the whole call: it was
	// not sent. The text around it names the field.
	ErrInvalid = errors.New("SQS does not accept this")
	// ErrBlocked says that an earlier message of the same group was not accepted by a FIFO queue: this one was not sent.
	ErrBlocked = errors.New("an earlier message of its group was not accepted")
	// ErrUnanswered says that SQS answered the call but not for this entry: it may or may not have been accepted.
	ErrUnanswered = errors.New("SQS did not say what became of this entry")
)

// EntryError is SQS's refusal of one entry of a batch call.
type EntryError struct {
	Code        string // such as "InternalError"
	Message     string
	SenderFault bool // repeating it will not help
}

// Error gives code and message.
func (e *EntryError) Error() string { return "SQS refused the entry: " + e.Code + ": " + e.Message }

// Options configures a Queue. The zero value is usable.
type Options struct {
	// Concurrency is how many calls one Send or ChangeVisibility makes at a time. More is faster for large batches and
	// costs connections. Default 4. Sends to a FIFO queue always go one by one, for order's sake.
	Concurrency int
	// RetryWait is the pause before entries that SQS failed to accept are sent once more. Default 100 ms.
	RetryWait time.Duration
}

// Queue is one SQS queue.
type Queue struct {
	client API
	url    string
	fifo   bool
	opts   Options
}

var _ queue.Queue = (*Queue)(nil)

// New makes the driver of the queue at queueURL. It makes no call.
func New(client API, queueURL string, opts Options) *Queue {
	if opts.Concurrency <= 0 {
		opts.Concurrency = 4
	}
	if opts.RetryWait <= 0 {
		opts.RetryWait = 100 * time.Millisecond
	}
	return &Queue{client: client, url: queueURL, fifo: strings.HasSuffix(queueURL, ".fifo"), opts: opts}
}

// Send sends messages as queue.Sender says. A message that SQS would refuse is not sent: its error is
// queue.ErrTooLarge or ErrInvalid, and its neighbours are unharmed. A call that fails as a whole fails for all its
// messages with the SDK's error. A Deduplication is left out on a standard queue.
//
// On a FIFO queue calls follow each other in the order of messages, and nothing is repeated here. Once a message has
// failed, later calls leave out the rest of its group, so that a group is never sent past a gap
// between calls; within one call SQS may accept later entries of a group and refuse an earlier one.
func (q *Queue) Send(ctx context.Context, messages []queue.Message) []error {
	errs := make([]error, len(messages))
	var sizes, positions []int
	for i, m := range messages {
		if errs[i] = q.check(m); errs[i] == nil {
			positions = append(positions, i)
			sizes = append(sizes, m.Size())
		}
	}
	c := caller{opts: q.opts, errs: errs, repeat: !q.fifo, call: func(ctx context.Context, entries []int) (answer, error) {
		return q.send(ctx, messages, entries)
	}}
	if q.fifo {
		c.inOrder(ctx, packInOrder(positions, sizes, queue.MaxBatchEntries, queue.MaxBytes), func(i int) string { return messages[i].Group })
	} else {
		c.all(ctx, pack(positions, sizes, queue.MaxBatchEntries, queue.MaxBytes))
	}
	return errs
}

func (q *Queue) send(ctx context.Context, messages []queue.Message, entries []int) (answer, error) {
	in := &awssqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: make([]types.SendMessageBatchRequestEntry, len(entries))}
	for n, i := range entries {
		in.Entries[n] = q.entry(n, messages[i])
	}
	out, err := q.client.SendMessageBatch(ctx, in)
	if err != nil {
		return answer{}, fmt.Errorf("send %d messages to %s: %w", len(entries), q.url, err)
	}
	a := answer{failed: out.Failed}
	for _, ok := range out.Successful {
		a.done = append(a.done, aws.ToString(ok.Id))
	}
	return a, nil
}

func (q *Queue) entry(n int, m queue.Message) types.SendMessageBatchRequestEntry {
	e := types.SendMessageBatchRequestEntry{
		Id: aws.String(strconv.Itoa(n)), MessageBody: &m.Body, DelaySeconds: seconds(m.Delay),
	}
	if m.Group != "" {
		e.MessageGroupId = &m.Group
	}
	if m.Deduplication != "" && q.fifo {
		e.MessageDeduplicationId = &m.Deduplication
	}
	if m.Trace != "" {
		e.MessageSystemAttributes = map[string]types.MessageSystemAttributeValue{
			string(types.MessageSystemAttributeNameForSendsAWSTraceHeader): {DataType: aws.String("String"), StringValue: &m.Trace},
		}
	}
	if len(m.Attributes) > 0 {
		e.MessageAttributes = make(map[string]types.MessageAttributeValue, len(m.Attributes))
		for name, a := range m.Attributes {
			v := types.MessageAttributeValue{DataType: &a.DataType}
			if isBinary(a) {
				v.BinaryValue = a.Binary
			} else {
				v.StringValue = &a.String
			}
			e.MessageAttributes[name] = v
		}
	}
	return e
}

// ChangeVisibility changes visibilities as queue.Receiver says. A change that SQS would refuse is not asked for: its
// error is ErrInvalid.
func (q *Queue) ChangeVisibility(ctx context.Context, changes []queue.Visibility) []error {
	errs := make([]error, len(changes))
	var positions []int
	for i, c := range changes {
		switch {
		case c.Receipt == "":
			errs[i] = fmt.Errorf("%w: empty receipt handle", ErrInvalid)
		case c.After < 0 || c.After > queue.MaxVisibility:
			errs[i] = fmt.Errorf("%w: visibility %v is not between 0 and %v", ErrInvalid, c.After, queue.MaxVisibility)
		default:
			positions = append(positions, i)
		}
	}
	c := caller{opts: q.opts, errs: errs, repeat: true, call: func(ctx context.Context, entries []int) (answer, error) {
		return q.change(ctx, changes, entries)
	}}
	c.all(ctx, pack(positions, make([]int, len(positions)), queue.MaxBatchEntries, queue.MaxBytes))
	return errs
}

func (q *Queue) change(ctx context.Context, changes []queue.Visibility, entries []int) (answer, error) {
	in := &awssqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url, Entries: make([]types.ChangeMessageVisibilityBatchRequestEntry, len(entries))}
	for n, i := range entries {
		in.Entries[n] = types.ChangeMessageVisibilityBatchRequestEntry{
			Id: aws.String(strconv.Itoa(n)), ReceiptHandle: &changes[i].Receipt, VisibilityTimeout: seconds(changes[i].After),
		}
	}
	out, err := q.client.ChangeMessageVisibilityBatch(ctx, in)
	if err != nil {
		return answer{}, fmt.Errorf("change visibility of %d messages of %s: %w", len(entries), q.url, err)
	}
	a := answer{failed: out.Failed}
	for _, ok := range out.Successful {
		a.done = append(a.done, aws.ToString(ok.Id))
	}
	return a, nil
}

// seconds rounds up: nothing comes back earlier than asked for.
func seconds(d time.Duration) int32 {
	return int32((d + time.Second - 1) / time.Second)
}

func isBinary(a queue.Attribute) bool {
	return a.DataType == "Binary" || strings.HasPrefix(a.DataType, "Binary.")
}
