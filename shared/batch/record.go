package batch

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/waybill"
)

// Record is one received message as its producer sent it: what Waybill added is in Note.
type Record struct {
	MessageID       string // SQS's id; a copy has another one
	ReceiptHandle   string
	Body            string
	Attributes      map[string]queue.Attribute // the producer's; nil for none
	Note            waybill.Note               // zero: none
	Group           string                     // message group, on standard queues too
	Deduplication   string                     // FIFO only
	Trace           string                     // X-Ray trace header, "" for none
	ReceiveCount    int                        // this receive included; 0 where SQS did not say
	SentAt          time.Time                  // zero where SQS did not say; a copy has its own
	FirstReceivedAt time.Time                  // zero where SQS did not say
	QueueARN        string
	FIFO            bool
}

// fate is what becomes of an item.
type fate int

const (
	acknowledged fate = iota // handled
	again                    // to be sent again, then acknowledged
	dead                     // to be dead-lettered, then acknowledged
	back                     // to SQS
)

func (f fate) String() string {
	return [...]string{"acknowledged", "sent again", "dead-lettered", "returned"}[f]
}

// item is a record on its way through Handle.
type item struct {
	record   Record
	receipts []string      // of every time that the message is in the event
	message  queue.Message // as received, the note still attached: the handler cannot have changed it
	noteErr  error         // why the note could not be read
	held     time.Time     // with a note that could not be read yet: since when it waits

	err     error         // what the handler returned
	verdict outcome.Error // how it is understood
	fate    fate
	after   time.Duration // when the message shall be visible again
	behind  string        // id of the earlier record of its FIFO group that took it back
	mishap  error         // what went wrong while settling
}

// openAll reads the messages of an event. SQS may deliver a message twice at once: that is one item.
func openAll(messages []events.SQSMessage) []*item {
	items := make([]*item, 0, len(messages))
	seen := make(map[string]*item, len(messages))
	for i := range messages {
		it := open(&messages[i])
		// The id alone would do if nobody but SQS made events.
		if first, ok := seen[it.record.MessageID]; ok && first.message.Body == it.message.Body {
			first.receipts = append(first.receipts, it.receipts...)
			first.record.ReceiveCount = max(first.record.ReceiveCount, it.record.ReceiveCount)
			continue
		}
		seen[it.record.MessageID] = it
		items = append(items, it)
	}
	return items
}

// open reads a message of the event.
func open(m *events.SQSMessage) *item {
	it := &item{message: queue.Message{
		Body: m.Body, Attributes: attributes(m.MessageAttributes),
		Group: m.Attributes["MessageGroupId"], Trace: m.Attributes["AWSTraceHeader"],
	}}
	it.record = Record{
		MessageID: m.MessageId, ReceiptHandle: m.ReceiptHandle,
		Group: it.message.Group, Deduplication: m.Attributes["MessageDeduplicationId"], Trace: it.message.Trace,
		SentAt:          instant(m.Attributes["SentTimestamp"]),
		FirstReceivedAt: instant(m.Attributes["ApproximateFirstReceiveTimestamp"]),
		QueueARN:        m.EventSourceARN, FIFO: strings.HasSuffix(m.EventSourceARN, ".fifo"),
	}
	if m.ReceiptHandle != "" {
		it.receipts = []string{m.ReceiptHandle}
	}
	if n, err := strconv.Atoi(m.Attributes["ApproximateReceiveCount"]); err == nil {
		it.record.ReceiveCount = max(n, 0)
	}
	// A conversion of its own: whatever a handler does to its record, message stays as received.
	it.readNote(attributes(m.MessageAttributes))
	return it
}

// readNote parts what the producer sent from what Waybill added.
func (it *item) readNote(received map[string]queue.Attribute) {
	r := &it.record
	detach := func() { r.Body, r.Attributes, r.Note, it.noteErr = waybill.Detach(it.message.Body, received) }
	detach()
	if _, noted := received[waybill.Attribute]; !noted || errors.Is(it.noteErr, waybill.ErrMalformed) {
		return // all of it is the producer's
	}
	if errors.Is(it.noteErr, waybill.ErrNewer) {
		it.held = heldSince(received, r.FirstReceivedAt)
	}
	delete(it.message.Attributes, HeldAttribute)
	delete(it.message.Attributes, ReasonAttribute)
	if len(received) > len(it.message.Attributes) {
		delete(received, HeldAttribute)
		delete(received, ReasonAttribute)
		detach()
	}
}

func attributes(from map[string]events.SQSMessageAttribute) map[string]queue.Attribute {
	if len(from) == 0 {
		return nil
	}
	to := make(map[string]queue.Attribute, len(from))
	for name, a := range from {
		v := queue.Attribute{DataType: a.DataType, Binary: bytes.Clone(a.BinaryValue)}
		if a.StringValue != nil {
			v.String = *a.StringValue
		}
		to[name] = v
	}
	return to
}

// instant reads SQS's milliseconds since 1970.
func instant(ms string) time.Time {
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(n)
}
