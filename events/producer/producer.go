// Package producer helps Go programs send events to Waybill: New builds and checks one, NewMessage prints it as an SQS message,
// Batches splits many into what SendMessageBatch takes. It needs the standard library only and sends nothing itself, so that it works with
// any SDK, and a producer learns before sending what Waybill would refuse.
//
// All functions are safe for concurrent use, never change their arguments and keep no reference to them.
package producer

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/waybillhq/waybill/events"
)

// Option sets one thing of an event that New builds. Where two set the same, the later counts.
type Option func(*events.Event) error

// New builds a valid event. Source is a URI-reference that names the producer, such as "/shop/orders"; eventType is the kind of
// event, such as "order.created". What no option says:
//
//   - the id is random. Build the event once and send it as often as it takes: events built twice are two events.
//     With an ID taken from what happened ("order-77-paid") even a producer that was restarted in between repeats itself harmlessly.
//   - the time is now;
//   - the tenant is left to the queue: the one pinned to it, or "default" where none is;
//   - there is no subject, no schema, no data.
//
// The error is an *Error that holds the *events.InvalidError, with every problem found and its fix, or what an option failed with.
func New(source, eventType string, options ...Option) (events.Event, error) {
	e := events.Event{
		ID: rand.Text(), Source: source, Type: eventType,
		Time:       time.Now().UTC().Format(time.RFC3339Nano),
		Extensions: map[string]string{},
	}
	var errs []error
	for _, option := range options {
		if err := option(&e); err != nil {
			errs = append(errs, err)
		}
	}
	if err := e.Validate(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return events.Event{}, &Error{Index: -1, ID: e.ID, Err: err}
	}
	return e, nil
}

// ID gives the event its id. With the source it is what tells events apart: Waybill delivers events with the same
// two once. An empty one is refused, not replaced.
func ID(id string) Option {
	return func(e *events.Event) error { e.ID = id; return nil }
}

// Tenant says whom the event belongs to. It must not be empty.
func Tenant(name string) Option {
	return func(e *events.Event) error {
		if name == "" {
			return errors.New("the tenant is empty: leave Tenant out to have none")
		}
		e.Extensions[events.TenantExtension] = name
		return nil
	}
}

// Subject says what in the source the event is about.
func Subject(subject string) Option {
	return func(e *events.Event) error { e.Subject = subject; return nil }
}

// At says when it happened; the zero time means that this is unknown.
func At(t time.Time) Option {
	return func(e *events.Event) error {
		e.Time = ""
		if !t.IsZero() {
			e.Time = t.Format(time.RFC3339Nano)
		}
		return nil
	}
}

// Schema names the schema of the data by an absolute URI.
func Schema(uri string) Option {
	return func(e *events.Event) error { e.DataSchema = uri; return nil }
}

// Extension adds a CloudEvents extension. Names are lower-case letters and digits.
func Extension(name, value string) Option {
	return func(e *events.Event) error { e.Extensions[name] = value; return nil }
}

// JSON makes value, as encoding/json writes it but with <, > and & as they are, the data. For a text that is
// JSON already use Data, which leaves its bytes alone.
func JSON(value any) Option {
	return func(e *events.Event) error {
		var b bytes.Buffer
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(value); err != nil {
			return fmt.Errorf("the data cannot be written as JSON: %w", err)
		}
		e.Data, e.DataContentType = bytes.TrimSuffix(b.Bytes(), []byte("\n")), "application/json"
		return nil
	}
}

// Data makes a copy of these bytes the data. They reach every receiver unchanged, whatever they are.
func Data(contentType string, data []byte) Option {
	return func(e *events.Event) error {
		e.Data, e.DataContentType = slices.Clone(data), contentType
		return nil
	}
}

// Error says which event cannot be sent and why. Its text names the event and holds no data of it.
type Error struct {
	Index int    // position in the list given to Batches; -1 where there is no list
	ID    string // id of the event, which may be empty
	Err   error  // an *events.InvalidError, or what an option failed with
}

// Error gives the event and the reason.
func (e *Error) Error() string {
	id := e.ID
	if len(id) > maxExcerptBytes {
		id = id[:maxExcerptBytes]
	}
	name := "event " + strconv.QuoteToASCII(id)
	if e.Index >= 0 {
		name = fmt.Sprintf("event %d (id %s)", e.Index, strconv.QuoteToASCII(id))
	}
	return name + ": " + e.Err.Error()
}

// Unwrap gives the reason.
func (e *Error) Unwrap() error { return e.Err }

// maxExcerptBytes is how much of an id an error shows.
const maxExcerptBytes = 64
