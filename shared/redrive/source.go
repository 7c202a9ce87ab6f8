package redrive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/queue/sqs"
)

const (
	pollWait    = time.Second     // a long poll, however short, asks all of SQS's servers
	callTimeout = time.Minute     // of one call with the SDK's repetitions
	lastTimeout = 5 * time.Minute // of showing everything again
)

// source is the dead-letter queue. Its calls are not cut short: a receive that is would leave messages in flight that nobody knows of.
type source struct {
	api    API
	url    string
	driver *sqs.Queue
	hidden time.Duration
}

// begun is a context for a call that is to be finished once it has begun.
func begun(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
}

// receive makes a number of calls at once. What was received counts even if other calls failed.
func (s *source) receive(ctx context.Context, calls int) ([]received, error) {
	ctx, cancel := begun(ctx)
	defer cancel()
	got, errs := make([][]received, calls), make([]error, calls)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() { got[i], errs[i] = s.receiveOnce(ctx) })
	}
	wg.Wait()
	return slices.Concat(got...), errors.Join(errs...)
}

func (s *source) receiveOnce(ctx context.Context) ([]received, error) {
	out, err := s.api.ReceiveMessage(ctx, &awssqs.ReceiveMessageInput{
		QueueUrl: &s.url, MaxNumberOfMessages: queue.MaxBatchEntries, WaitTimeSeconds: int32(pollWait / time.Second),
		VisibilityTimeout: int32(s.hidden / time.Second), MessageAttributeNames: []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	})
	var full *types.OverLimit
	if errors.As(err, &full) {
		return nil, nil // as under a long poll, where SQS says nothing
	}
	if err != nil {
		return nil, fmt.Errorf("receive from %s: %w", s.url, err)
	}
	got := make([]received, 0, len(out.Messages))
	for i := range out.Messages {
		got = append(got, read(&out.Messages[i]))
	}
	return got, nil
}

func read(m *types.Message) received {
	system := func(name types.MessageSystemAttributeName) string { return m.Attributes[string(name)] }
	r := received{
		id: aws.ToString(m.MessageId), receipt: aws.ToString(m.ReceiptHandle), arn: system(types.MessageSystemAttributeNameDeadLetterQueueSourceArn),
		message: queue.Message{
			Body: aws.ToString(m.Body), Group: system(types.MessageSystemAttributeNameMessageGroupId),
			Trace: system(types.MessageSystemAttributeNameAWSTraceHeader),
		},
	}
	if ms, err := strconv.ParseInt(system(types.MessageSystemAttributeNameSentTimestamp), 10, 64); err == nil {
		r.sentAt = time.UnixMilli(ms)
	}
	if len(m.MessageAttributes) > 0 {
		r.message.Attributes = make(map[string]queue.Attribute, len(m.MessageAttributes))
		for name, a := range m.MessageAttributes {
			r.message.Attributes[name] = queue.Attribute{DataType: aws.ToString(a.DataType), String: aws.ToString(a.StringValue), Binary: a.BinaryValue}
		}
	}
	return r
}

// remove deletes messages and reports one error for each.
func (s *source) remove(ctx context.Context, messages []receipts) []error {
	ctx, cancel := begun(ctx)
	defer cancel()
	flat, errs := slices.Concat(messages...), []error(nil)
	for part := range slices.Chunk(flat, queue.MaxBatchEntries) {
		results := make([]error, len(part))
		for range 2 { // what fails by a fault of SQS inside a call that succeeds is repeated once: the SDK cannot see it
			if again := s.removeOnce(ctx, part, results); !again {
				break
			}
		}
		errs = append(errs, results...)
	}
	all := make([]error, len(messages))
	for i, m := range messages {
		all[i] = errors.Join(errs[:len(m)]...)
		errs = errs[len(m):]
	}
	return all
}

func (s *source) removeOnce(ctx context.Context, receipts []string, errs []error) (again bool) {
	in := &awssqs.DeleteMessageBatchInput{QueueUrl: &s.url}
	for i := range errs {
		errs[i] = sqs.ErrUnanswered
		in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &receipts[i]})
	}
	out, err := s.api.DeleteMessageBatch(ctx, in)
	if err != nil {
		for i := range errs {
			errs[i] = fmt.Errorf("delete from %s: %w", s.url, err)
		}
		return false
	}
	position := func(id *string) (int, bool) {
		i, err := strconv.Atoi(aws.ToString(id))
		return i, err == nil && i >= 0 && i < len(errs)
	}
	for _, ok := range out.Successful {
		if i, known := position(ok.Id); known {
			errs[i] = nil
		}
	}
	for _, f := range out.Failed {
		if i, known := position(f.Id); known {
			errs[i] = &sqs.EntryError{Code: aws.ToString(f.Code), Message: aws.ToString(f.Message), SenderFault: f.SenderFault}
			again = again || !f.SenderFault
		}
	}
	return again
}

// show makes messages visible again and gives how many it could not.
func (s *source) show(ctx context.Context, messages []receipts) (failed int) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTimeout)
	defer cancel()
	var changes []queue.Visibility
	for _, receipt := range slices.Concat(messages...) {
		changes = append(changes, queue.Visibility{Receipt: receipt})
	}
	errs := s.driver.ChangeVisibility(ctx, changes)
	for _, m := range messages {
		for _, err := range errs[:len(m)] {
			// A message that is visible already, or gone, needs nothing.
			var refused *sqs.EntryError
			if err != nil && (!errors.As(err, &refused) || !refused.SenderFault) {
				failed++
				break
			}
		}
		errs = errs[len(m):]
	}
	return failed
}

// depth is what the queue says of itself, approximately.
type depth struct {
	visible, inFlight, delayed int
	now                        time.Time // SQS's clock
	redriven                   bool      // has a redrive policy of its own
}

func (d depth) total() int { return d.visible + d.inFlight + d.delayed }

func (s *source) depth(ctx context.Context) (depth, error) {
	ctx, cancel := begun(ctx)
	defer cancel()
	out, err := s.api.GetQueueAttributes(ctx, &awssqs.GetQueueAttributesInput{QueueUrl: &s.url, AttributeNames: []types.QueueAttributeName{
		types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
		types.QueueAttributeNameApproximateNumberOfMessagesDelayed, types.QueueAttributeNameRedrivePolicy,
	}})
	if err != nil {
		return depth{}, fmt.Errorf("look at %s: %w", s.url, err)
	}
	number := func(name types.QueueAttributeName) int {
		n, _ := strconv.Atoi(out.Attributes[string(name)])
		return n
	}
	d := depth{
		visible:  number(types.QueueAttributeNameApproximateNumberOfMessages),
		inFlight: number(types.QueueAttributeNameApproximateNumberOfMessagesNotVisible),
		delayed:  number(types.QueueAttributeNameApproximateNumberOfMessagesDelayed),
		redriven: out.Attributes[string(types.QueueAttributeNameRedrivePolicy)] != "",
		now:      time.Now(),
	}
	// The header tells no fractions of a second: it is good for a clock that is wrong, not for one that is right.
	if server, ok := middleware.GetServerTime(out.ResultMetadata); ok && d.now.Sub(server).Abs() > 3*time.Second {
		d.now = server
	}
	return d, nil
}
