package redrive

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waybill"
)

// received is a message as SQS gave it.
type received struct {
	id, receipt string
	message     queue.Message
	sentAt      time.Time
	arn         string // of the queue that SQS moved it from, "" for what was sent here
}

// letter is a dead letter, read as far as it can be.
type letter struct {
	received
	note       waybill.Note
	bare       queue.Message     // without the note
	delivery   *delivery.Message // nil for what is none
	unreadable error

	destination    string
	tenants, types []string
	reason         string
	code           int
	failedAt       time.Time
}

// open reads a message of the given dead-letter queue.
func open(from topology.QueueName, m received) *letter {
	l := &letter{received: m, bare: m.message}
	var err error
	l.bare.Body, l.bare.Attributes, l.note, err = waybill.Detach(m.message.Body, m.message.Attributes)
	if errors.Is(err, waybill.ErrNewer) {
		l.unreadable = err
	}
	l.reason, l.code, l.failedAt, l.destination = l.note.Reason, l.note.Code, l.note.FailedAt, l.note.Destination
	if l.reason == "" {
		l.reason = ReasonReceiveCount
	}
	if l.failedAt.IsZero() {
		l.failedAt = m.sentAt
	}
	if from == topology.IngressDeadLetter {
		l.readEvents()
	} else {
		l.readDelivery()
	}
	return l
}

func (l *letter) readDelivery() {
	m, err := delivery.Decode(l.bare.Body)
	if err != nil {
		l.unreadable = errors.Join(l.unreadable, err)
		return
	}
	l.delivery = &m
	l.destination, l.tenants, l.types = m.Destination, []string{m.Event.Tenant()}, []string{m.Event.Type}
}

// readEvents finds out whose events these are. Most messages in the ingress dead-letter queue are no valid event: then the message's
// group is the best that is known of the tenant.
func (l *letter) readEvents() {
	in := events.Input{
		MessageID: l.id, QueueARN: l.arn, GroupID: l.message.Group, EventID: l.note.EventID, SentAt: l.sentAt,
		Body: l.bare.Body, Attributes: make(map[string]events.Attribute, len(l.bare.Attributes)),
	}
	for name, a := range l.bare.Attributes {
		in.Attributes[name] = events.Attribute{DataType: a.DataType, StringValue: a.String, BinaryValue: a.Binary}
	}
	decoded, err := events.Decode(in)
	if err != nil || len(decoded.Events) == 0 {
		l.tenants = []string{events.DefaultTenant}
		if l.message.Group != "" {
			l.tenants[0] = l.message.Group
		}
		return
	}
	for i := range decoded.Events {
		e := &decoded.Events[i]
		if !slices.Contains(l.tenants, e.Tenant()) {
			l.tenants = append(l.tenants, e.Tenant())
		}
		if !slices.Contains(l.types, e.Type) {
			l.types = append(l.types, e.Type)
		}
	}
}

// errNoRoom says that an event would lose its identity.
var errNoRoom = errors.New("the message is full: its event id does not fit, and without it its event would become another one. SQS's own redrive moves it all the same")

// outgoing is the message that is sent in place of the letter.
func (l *letter) outgoing(cfg *Config) (queue.Message, error) {
	switch {
	case cfg.Replay:
		return l.replay(cfg.NewID)
	case cfg.From == topology.IngressDeadLetter && l.unreadable == nil && l.note.EventID == "":
		return l.identified(waybill.Note{})
	}
	return l.message, nil
}

// identified is the message with the identity that its message id gave it.
func (l *letter) identified(n waybill.Note) (queue.Message, error) {
	n.EventID, n.AcceptedAt = l.id, l.sentAt
	m, ok := waybill.Attach(l.message, n)
	if !ok {
		return queue.Message{}, errNoRoom
	}
	return m, nil
}

// replay is the delivery again, one epoch later, whatever the ledger says of this one.
func (l *letter) replay(newID bool) (queue.Message, error) {
	next := l.delivery.Again(newID)
	body, err := next.Encode(delivery.MaxBytes)
	if err != nil {
		return queue.Message{}, err
	}
	m := l.bare
	m.Body = body
	if l.note != (waybill.Note{}) {
		m, _ = waybill.Attach(m, l.note) // what does not fit was for people, and they have seen it
	}
	return m, nil
}

// copy is the message for the end of the dead-letter queue, told apart from others of this content by nothing but its id. What only
// SQS knew of it, and forgets, is noted.
func (l *letter) copy(from topology.QueueName) (queue.Message, error) {
	if l.unreadable != nil && errors.Is(l.unreadable, waybill.ErrNewer) {
		return l.message, nil
	}
	n := waybill.Note{FailedAt: l.failedAt}
	if from == topology.IngressDeadLetter {
		return l.identified(n)
	}
	m, _ := waybill.Attach(l.message, n) // without room the time of failure is that of the copy
	return m, nil
}

// key identifies a message by 128 bits of a hash: a collision would delete a message unsent.
type key [16]byte

func keyOf(id string) key {
	sum := sha256.Sum256([]byte(id))
	return key(sum[:16])
}

// digest identifies what a message says, for copies whose id nobody has seen.
func digest(m queue.Message) key {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q\n", m.Group, m.Trace, m.Body)
	for _, name := range slices.Sorted(maps.Keys(m.Attributes)) {
		a := m.Attributes[name]
		fmt.Fprintf(h, "%q %q %q %q\n", name, a.DataType, a.String, a.Binary)
	}
	return key(h.Sum(nil)[:16])
}
