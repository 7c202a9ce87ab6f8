package auditor

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waybill"
)

// row is a waybill as it stands in the ledger. A nil row is none.
type row struct{ ledger.Item }

// reading is the ledger at one time.
type reading struct {
	rows       map[delivery.ID]*row
	unreadable list
}

func readLedger(tables *dynamodb.Service) reading {
	read := reading{rows: map[delivery.ID]*row{}}
	items, err := tables.Items(string(topology.Ledger))
	if err != nil {
		read.unreadable.addf("the ledger: %v", err)
	}
	for _, item := range items {
		r, err := readRow(item)
		if err != nil {
			read.unreadable.addf("row of the ledger: %v", err)
			continue
		}
		read.rows[r.Delivery] = r
	}
	return read
}

// readRow reads a waybill from storage, with no code of the ledger's.
func readRow(item dynamodb.Item) (*row, error) {
	var errs []error
	text := func(name string) string {
		s, ok := item[name].(dynamodb.String)
		if !ok {
			errs = append(errs, fmt.Errorf("%s is no string", name))
		}
		return string(s)
	}
	number := func(name string) int64 {
		n, ok := item[name].(dynamodb.Number)
		if !ok {
			errs = append(errs, fmt.Errorf("%s is no number", name))
			return 0
		}
		i, err := strconv.ParseInt(n.String(), 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return i
	}
	r := &row{ledger.Item{
		Delivery: delivery.ID(text("delivery")), State: ledger.State(text("state")), Owner: text("owner"),
		Epoch: int(number("epoch")), Attempt: int(number("attempt")), UpdatedAt: time.UnixMilli(number("updatedAt")),
	}}
	if reason, ok := item["reason"].(dynamodb.String); ok {
		r.Reason = string(reason)
	}
	switch r.State {
	case ledger.Claimed, ledger.Waiting, ledger.Delivered, ledger.Dead:
	default:
		errs = append(errs, fmt.Errorf("state %q is not known", bounded(string(r.State))))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("delivery %q: %w", bounded(string(r.Delivery)), err)
	}
	return r, nil
}

// readRows looks for waybills that nobody should have written.
func (s *audit) readRows() {
	for id := range s.after {
		if s.byID[id] == nil {
			s.books.unexpected.addf("row of the ledger: delivery %s", id)
		}
	}
}

// findings is what the queues hold of one delivery. A nil findings is nothing.
type findings struct {
	messages []delivery.Message // on the deliveries queue, in whatever state; without their events
	letters  []*letter
}

// letter is a message in the deliveries' dead-letter queue.
type letter struct {
	delivery.Message
	note waybill.Note
}

// readDeliveries finds out what lies on the deliveries queue or in its dead-letter queue.
func (s *audit) readDeliveries(held map[string][]sqs.Held, queue topology.QueueName) {
	for _, h := range held[string(queue)] {
		m, note, err := openDelivery(h.Message)
		if err != nil {
			s.unreadable.addf("message %s in %s: %v", h.MessageID, queue, err)
			continue
		}
		e := s.byID[m.Delivery]
		if e == nil || e.destination != m.Destination {
			s.books.unexpected.addf("message in %s: delivery %s to %s", queue, m.Delivery, m.Destination)
			continue
		}
		f := s.findings[m.Delivery]
		if f == nil {
			f = &findings{}
			s.findings[m.Delivery] = f
		}
		size := len(h.Body)
		m.Event = events.Event{}
		if queue.Delivers() {
			f.messages = append(f.messages, m)
			continue
		}
		f.letters = append(f.letters, &letter{m, note})
		moved := h.Attributes["DeadLetterQueueSourceArn"] != "" // by SQS, which gives no reasons
		if note.Reason == "" && !moved && size < roomForReason {
			s.books.unexplained.addf("message %s in %s: delivery %s", h.MessageID, queue, m.Delivery)
		}
	}
}

// roomForReason is the size of a delivery message that leaves room for any note: delivery messages carry no other attribute.
const roomForReason = 1<<20 - 4<<10

// next gives the message on the deliveries queue by which the delivery goes on, the latest if there are several; nil if there is none.
func (f *findings) next(r *row) *delivery.Message {
	if f == nil {
		return nil
	}
	var best *delivery.Message
	for i := range f.messages {
		m := &f.messages[i]
		if r.lets(m) && (best == nil || later(m.Epoch, m.Attempt, best.Epoch, best.Attempt) > 0) {
			best = m
		}
	}
	return best
}

// deadLetter gives a dead letter that, moved back, would have an effect; nil if there is none.
func (f *findings) deadLetter(r *row) *letter {
	if f == nil {
		return nil
	}
	for _, l := range f.letters {
		if r.lets(&l.Message) {
			return l
		}
	}
	return nil
}

// lets tells whether the delivery can go on by a message if r, which does not say delivered, is its waybill: now, or when a lease is
// over. It is the claim table in other words. A message with an outcome makes no attempt: it keeps a success that has yet to be written down, and stands for nothing
// else, because the future of a failure lies on a queue by itself.
func (r *row) lets(m *delivery.Message) bool {
	if m.Outcome != nil && m.Outcome.State != string(ledger.Delivered) {
		return false
	}
	if r == nil {
		return true
	}
	order := later(m.Epoch, m.Attempt, r.Epoch, r.Attempt)
	switch {
	case m.Outcome != nil && !m.Outcome.Unclaimed:
		return order == 0 && m.Outcome.Owner == r.Owner
	case r.State == ledger.Dead:
		return m.Epoch > r.Epoch
	case r.State == ledger.Waiting:
		return order > 0
	}
	return order >= 0
}

// later compares two attempts.
func later(epoch, attempt, otherEpoch, otherAttempt int) int {
	return cmp.Or(cmp.Compare(epoch, otherEpoch), cmp.Compare(attempt, otherAttempt))
}

// missing says what would have to be there.
func (r *row) missing(e *entry) string {
	switch {
	case r == nil && !e.sent:
		return "it was never put on the deliveries queue"
	case r == nil:
		return "its message is gone and the ledger knows nothing of it"
	case r.State == ledger.Waiting:
		return fmt.Sprintf("the ledger says that attempt %d is over, there is no message for the next", r.Attempt)
	case r.State == ledger.Dead:
		return "the ledger says dead, there is no dead letter"
	}
	return fmt.Sprintf("the ledger says that attempt %d is under way, its message is gone", r.Attempt)
}
