package batch

import (
	"errors"
	"maps"
	"strconv"
	"time"

	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/waybill"
)

// Message attributes on messages whose note this release cannot read, and therefore cannot extend.
const (
	HeldAttribute   = "waybill-held"   // since when the message waits, in milliseconds since 1970
	ReasonAttribute = "waybill-reason" // why it is a dead letter
)

// reasonNewer is the reason of a dead letter whose note no release came for in time.
const reasonNewer = "newer-note"

// newer is the outcome of a message whose note this release cannot read.
func (h *Handler) newer(it *item) error {
	switch {
	case time.Since(it.held) >= h.cfg.HoldNewer:
		return outcome.Reject(reasonNewer, it.noteErr)
	case h.resends(it) && it.remembersHeld():
		return outcome.Defer(queue.MaxDelay, it.noteErr)
	case h.last(it):
		return outcome.Reject(reasonNewer, it.noteErr) // a copy would not know how long it has waited
	}
	// SQS remembers when this message was first received. Its receives are spread over the time that it may wait.
	return outcome.RetryAfter(h.cfg.HoldNewer/time.Duration(max(h.cfg.MaxReceiveCount-2, 1)), it.noteErr)
}

// heldSince reads since when a message waits: as a copy says, else since it was first received. A time to come, which only a producer can have
// written, counts as now: it must not make a message wait for ever.
func heldSince(attributes map[string]queue.Attribute, firstReceived time.Time) time.Time {
	now := time.Now()
	since := instant(attributes[HeldAttribute].String)
	if since.IsZero() {
		since = firstReceived
	}
	if since.IsZero() || since.After(now) {
		return now
	}
	return since
}

// marked is the message as received, its note untouched, with a mark: the reason of a dead letter, or since when a copy waits. It has none
// where there is no room.
func (it *item) marked(reason string) queue.Message {
	name, value := ReasonAttribute, reason
	if reason == "" {
		name, value = HeldAttribute, strconv.FormatInt(it.held.UnixMilli(), 10)
	}
	m := it.message
	m.Attributes = maps.Clone(m.Attributes)
	m.Attributes[name] = queue.Attribute{DataType: "String", String: value}
	if len(m.Attributes) > queue.MaxAttributes || m.Size() > queue.MaxBytes {
		return it.message
	}
	return m
}

// remembersHeld tells whether a copy has room to say since when it waits.
func (it *item) remembersHeld() bool {
	_, ok := it.marked("").Attributes[HeldAttribute]
	return ok
}

// notedError is an outcome with something to be remembered.
type notedError struct {
	error
	note waybill.Note
}

func (e *notedError) Unwrap() error { return e.error }

// Noted gives err as an outcome whose record, if it is sent again or dead-lettered, carries n besides what every copy carries. The event's id, its
// time of acceptance and the reason of a dead letter stay this package's. A record that goes back to SQS is the same message as before, and n is
// forgotten. Noted(nil, n) is nil.
func Noted(err error, n waybill.Note) error {
	if err == nil {
		return nil
	}
	return &notedError{err, n}
}

// addition is what an outcome wants to be remembered.
func addition(err error) (n waybill.Note) {
	defer func() {
		if recover() != nil { // an error may panic when asked
			n = waybill.Note{}
		}
	}()
	var noted *notedError
	if errors.As(err, &noted) {
		return noted.note
	}
	return waybill.Note{}
}
