// Package queue is what Waybill's functions know of a queue: sending, and changing when a received message
// becomes visible again. The driver for Amazon SQS is shared/queue/sqs.
package queue

import (
	"context"
	"errors"
	"time"
)

// Limits of Amazon SQS.
// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
const (
	MaxBytes        = 1 << 20          // of one message, body and attributes together, and of one batch
	MaxBatchEntries = 10               // entries in one batch call
	MaxAttributes   = 10               // message attributes
	MaxGroupLength  = 128              // characters of a message group id
	MaxDelay        = 15 * time.Minute // DelaySeconds
	MaxVisibility   = 12 * time.Hour   // visibility timeout
)

// ErrTooLarge says that a message cannot be sent because it exceeds MaxBytes.
var ErrTooLarge = errors.New("message exceeds the queue's limit of 1 MiB, attributes included")

// Attribute is one message attribute: String for the data types String and Number, Binary for Binary.
type Attribute struct {
	DataType string
	String   string
	Binary   []byte
}

// Message is a message to be sent.
type Message struct {
	Body          string
	Attributes    map[string]Attribute
	Group         string        // message group: fair queueing on a standard queue, order on a FIFO queue
	Deduplication string        // FIFO only
	Delay         time.Duration // ≤ MaxDelay, rounded up to whole seconds; standard queues only
	Trace         string        // X-Ray trace header, "" for none; free of size quotas
}

// Size is the number of bytes of m that count against MaxBytes: body, and name, data type and value of every attribute.
func (m Message) Size() int {
	n := len(m.Body)
	for name, a := range m.Attributes {
		n += len(name) + len(a.DataType) + len(a.String) + len(a.Binary)
	}
	return n
}

// Sender sends messages. Implementations are safe for concurrent use.
type Sender interface {
	// Send sends any number of messages, in as few calls as the queue's limits on entries and bytes allow. The
	// result has one error per message, in order; nil means that the queue has accepted it durably. A message whose
	// answer was lost is reported as an error although it may lie on the queue: senders send again, receivers
	// tolerate duplicates.
	Send(ctx context.Context, messages []Message) []error
}

// Visibility says when a received message shall be visible again.
type Visibility struct {
	Receipt string
	After   time.Duration // 0: at once; ≤ MaxVisibility, rounded up to whole seconds
}

// Receiver changes what SQS knows of received messages. Implementations are safe for concurrent use.
type Receiver interface {
	// ChangeVisibility changes the visibility of any number of received messages, in as few calls as possible,
	// and reports one error per message, in order.
	ChangeVisibility(ctx context.Context, changes []Visibility) []error
}

// Queue is both ends as a function needs them.
type Queue interface {
	Sender
	Receiver
}
