package mapping

import (
	"context"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

// SQS makes a queue of the local SQS a mapping's source. The calls bypass the local endpoint, so its counters and faults do
// not see them; [Stats] has their number.
func SQS(q *sqs.Queue) Queue { return sqsQueue{q} }

type sqsQueue struct{ *sqs.Queue }

// Receive implements [Queue].
func (q sqsQueue) Receive(ctx context.Context, maxMessages int, wait time.Duration) ([]Message, error) {
	received, err := q.Queue.Receive(ctx, sqs.ReceiveOptions{Max: maxMessages, Wait: wait})
	if err != nil {
		return nil, err
	}
	messages := make([]Message, len(received))
	for i, r := range received {
		messages[i] = Message{
			ID: r.MessageID, ReceiptHandle: r.ReceiptHandle, Body: r.Body, MD5OfBody: r.MD5OfBody,
			Attributes: r.Attributes, MD5OfMessageAttributes: r.MD5OfMessageAttributes,
			MessageAttributes: make(map[string]MessageAttribute, len(r.MessageAttributes)),
		}
		for name, a := range r.MessageAttributes {
			out := MessageAttribute{DataType: a.DataType, BinaryValue: a.BinaryValue}
			if a.BinaryValue == nil {
				out.StringValue = &a.StringValue
			}
			messages[i].MessageAttributes[name] = out
		}
	}
	return messages, nil
}

// Delete implements [Queue]. A refused handle is one whose message has become visible again; no second try would help.
func (q sqsQueue) Delete(_ context.Context, receiptHandles []string) (deleted int, err error) {
	for _, handle := range receiptHandles {
		if q.Queue.Delete(handle) == nil {
			deleted++
		}
	}
	return deleted, nil
}
