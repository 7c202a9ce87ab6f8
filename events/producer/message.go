package producer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/waybillhq/waybill/events"
)

// The limits of SQS on SendMessageBatch.
const (
	MaxBatchEntries = 10                     // messages in one request
	MaxBatchBytes   = events.MaxMessageBytes // bodies of one request together: 1 MiB, as much as one message may have alone
)

// Message is one event as SendMessage takes it. It needs no message attributes.
type Message struct {
	// Body is the event as structured CloudEvents JSON.
	Body string
	// GroupID is the MessageGroupId, never empty: the tenant, so that one tenant's crowd of messages does not delay another's
	// (SQS calls it a fair queue). A tenant that SQS takes for no group id, because it has spaces or letters other than ASCII, is
	// hashed. Waybill reads the tenant from the event where it names one.
	GroupID string
}

// Entry is one event as SendMessageBatch takes it.
type Entry struct {
	ID    string // entry id, unique in the batch and in all batches made together
	Index int    // position of the event in the list given to Batches
	Message
}

// NewMessage prints an event. The error is an *Error; errors.Is(err, events.ErrInvalid) holds where the event
// itself is wrong, and it is as well where the event is larger than SQS takes.
func NewMessage(e events.Event) (Message, error) {
	m, err := newMessage(&e)
	if err != nil {
		return Message{}, &Error{Index: -1, ID: e.ID, Err: err}
	}
	return m, nil
}

func newMessage(e *events.Event) (Message, error) {
	body, err := e.AppendJSON(nil)
	if err != nil {
		return Message{}, err
	}
	if len(body) > events.MaxMessageBytes {
		return Message{}, &events.InvalidError{
			Form: events.FormCloudEvent, Code: events.CodeTooLarge,
			Problem: fmt.Sprintf("has %d bytes as CloudEvents JSON", len(body)),
			Fix:     fmt.Sprintf("send at most %d; store what is larger and send its address", events.MaxMessageBytes),
		}
	}
	return Message{Body: string(body), GroupID: groupID(e.Tenant())}, nil
}

// groupID is a group id that SQS takes for a valid event's tenant: visible ASCII characters, and no more of them than a tenant may have.
func groupID(tenant string) string {
	if tenant == "" {
		return events.DefaultTenant // what Waybill would take the event for anyway
	}
	for i := range len(tenant) {
		if tenant[i] < '!' || tenant[i] > '~' {
			sum := sha256.Sum256([]byte(tenant))
			return hex.EncodeToString(sum[:])
		}
	}
	return tenant
}

// Batches prints events and splits them, in their order, into as few requests to SendMessageBatch as that order allows:
// at most MaxBatchEntries and MaxBatchBytes each.
//
// If any event cannot be sent there are no batches, and the error joins one *Error for each such event: leave
// those out, by their Index, and call it again. No events make no batches.
//
// SendMessageBatch can succeed in part: look at Failed in its answer and send the entries with those ids again. Sending
// more than those again is harmless as long as the events are the same.
func Batches(list []events.Event) ([][]Entry, error) {
	var batches [][]Entry
	var errs []error
	bytes := 0 // of the last batch
	for i := range list {
		m, err := newMessage(&list[i])
		if err != nil {
			errs = append(errs, &Error{Index: i, ID: list[i].ID, Err: err})
			continue
		}
		last := len(batches) - 1
		if last < 0 || len(batches[last]) == MaxBatchEntries || bytes+len(m.Body) > MaxBatchBytes {
			batches, bytes = append(batches, nil), 0
			last++
		}
		batches[last] = append(batches[last], Entry{ID: strconv.Itoa(i), Index: i, Message: m})
		bytes += len(m.Body)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return batches, nil
}
