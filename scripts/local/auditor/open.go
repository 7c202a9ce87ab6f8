package auditor

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/waybill"
)

// opened is a message of the ingress queue or its dead-letter queue as its producer sent it, with Waybill's note set apart.
type opened struct {
	identity   identity
	input      events.Input
	note       waybill.Note
	newer      bool // the note cannot be read, a newer release wrote it
	acceptedAt time.Time
}

// open undoes what Waybill adds to a message.
func (a *Auditor) open(m sqs.Message) opened {
	body, attributes, note, err := waybill.Detach(m.Body, attributesOf(m))
	o := opened{note: note, newer: errors.Is(err, waybill.ErrNewer), acceptedAt: note.AcceptedAt}
	if o.acceptedAt.IsZero() {
		o.acceptedAt = instant(m.Attributes["SentTimestamp"])
	}
	o.input = events.Input{
		MessageID: m.MessageID, QueueARN: a.cfg.IngressARN, GroupID: m.Attributes["MessageGroupId"], EventID: note.EventID,
		SentAt: o.acceptedAt, Body: body, Attributes: map[string]events.Attribute{},
	}
	if o.newer { // the note stays as it is, so what has to be remembered stands beside it
		delete(attributes, batch.HeldAttribute)
		delete(attributes, batch.ReasonAttribute)
	}
	for name, v := range attributes {
		o.input.Attributes[name] = events.Attribute{DataType: v.DataType, StringValue: v.String, BinaryValue: v.Binary}
	}
	o.identity = identity{content: contentOf(o.input)}
	switch {
	case o.newer:
	case note.EventID != "":
		o.identity.name = note.EventID
	default:
		o.identity.name = m.MessageID
	}
	return o
}

// decode applies the producer contract.
func (o *opened) decode() (events.Decoded, error) {
	if o.newer {
		return events.Decoded{}, waybill.ErrNewer
	}
	return events.Decode(o.input)
}

// couldTellWhy tells whether any note with a reason fits into the message. The longest one is made of what JSON writes longest.
func (o *opened) couldTellWhy() bool {
	m := queue.Message{Body: o.input.Body, Attributes: map[string]queue.Attribute{}, Group: o.input.GroupID}
	for name, v := range o.input.Attributes {
		m.Attributes[name] = queue.Attribute{DataType: v.DataType, String: v.StringValue, Binary: v.BinaryValue}
	}
	note := o.note
	note.Reason = string(make([]byte, waybill.MaxReasonBytes))
	note.Detail = string(make([]byte, waybill.MaxDetailBytes))
	_, ok := waybill.Attach(m, note)
	return ok
}

// contentOf hashes what a producer sent, each part with its length in front.
func contentOf(in events.Input) [contentBytes]byte {
	h := sha256.New()
	part := func(s string) {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(s))))
		_, _ = h.Write([]byte(s))
	}
	part(in.Body)
	part(in.GroupID)
	for _, name := range slices.Sorted(maps.Keys(in.Attributes)) {
		v := in.Attributes[name]
		part(name)
		part(v.DataType)
		part(v.StringValue)
		part(string(v.BinaryValue))
	}
	return [contentBytes]byte(h.Sum(nil))
}

// openDelivery reads a message of the deliveries queue or its dead-letter queue.
func openDelivery(m sqs.Message) (delivery.Message, waybill.Note, error) {
	body, _, note, err := waybill.Detach(m.Body, attributesOf(m))
	if errors.Is(err, waybill.ErrNewer) {
		return delivery.Message{}, note, err
	}
	message, err := delivery.Decode(body)
	return message, note, err
}

func attributesOf(m sqs.Message) map[string]queue.Attribute {
	attributes := make(map[string]queue.Attribute, len(m.MessageAttributes))
	for name, v := range m.MessageAttributes {
		attributes[name] = queue.Attribute{DataType: v.DataType, String: v.StringValue, Binary: v.BinaryValue}
	}
	return attributes
}

// instant reads SQS's milliseconds since 1970.
func instant(ms string) time.Time {
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(n)
}
