// Package waybill holds the note that Waybill ties to a message: why it failed, when it was accepted, which event it
// carries. A message that is sent again or dead-lettered keeps its note, so that a new SQS message id never makes
// a new event and a dead letter says why it lies there.
//
// The note travels in one message attribute, Attribute, as JSON that a person can read in the SQS console. The
// producer's own attributes and body stay as they are. Where SQS leaves no room for one more attribute (ten are
// there already, the message is full, or the producer uses an attribute of the same name), the message is wrapped:
// the producer's attributes and body are compressed into a binary attribute, BodyAttribute, the body tells people so, and Attribute
// carries the note and says how. Detach undoes both forms. Text always shrinks enough, because a binary attribute holds
// eight bits a byte and no text needs as many. Only a message that is nearly full of binary attributes which do not compress is
// left as it is, and Attach says that the note was left out.
//
// A message counts as carrying a note by its attribute alone, never by its body: a producer's body that happens to
// look like a wrapped one is just a body. An attribute of that name that holds no note of ours is the producer's and
// is preserved like any other. A producer that forges a complete note speaks for its own messages only: it can claim an
// event id, as it can by other means, and nothing more.
//
// All functions are safe for concurrent use and never change their arguments.
package waybill

import (
	"errors"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/queue"
)

// Names of message attributes.
const (
	Attribute     = "waybill"      // carries the note
	BodyAttribute = "waybill-body" // carries the message where that is wrapped
)

// Version is the newest form of notes that this code writes and understands.
const Version = 1

// Limits of what a note holds. Longer reasons and details are cut at a character boundary; a longer trace is left
// out. Ids are never cut: half an id is another id.
const (
	MaxReasonBytes = 128
	MaxDetailBytes = 256
	MaxTraceBytes  = 512
	MaxAfterBytes  = 128 // of Progress.After; longer, or of negative events, progress counts as none
)

// ErrMalformed says that the attribute is there but holds no note of ours: it is the producer's.
var ErrMalformed = errors.New("message attribute \"waybill\" holds no note of Waybill")

// ErrNewer says that the note was written by a newer release. The message must be kept as it is until that release is back.
var ErrNewer = errors.New("note was written by a newer version of Waybill")

// Note is what Waybill adds to a message. The zero Note means that there is none.
type Note struct {
	Reason         string    `json:"reason,omitempty"`        // short stable word, such as "bad-cloudevent"
	Code           int       `json:"code,omitempty"`          // the receiver's last status; 0 where there was none
	Detail         string    `json:"detail,omitempty"`        // for people; at most MaxDetailBytes, never payload
	Attempts       int       `json:"attempts,omitempty"`      // made so far
	AcceptedAt     time.Time `json:"acceptedAt,omitzero"`     // when the event first entered a queue of ours
	FirstAttemptAt time.Time `json:"firstAttemptAt,omitzero"` // zero: none was made
	FailedAt       time.Time `json:"failedAt,omitzero"`       // when it was given up
	Trace          string    `json:"trace,omitempty"`         // X-Ray trace header
	EventID        string    `json:"eventId,omitempty"`       // stands for the SQS message id of the first hop
	Destination    string    `json:"destination,omitempty"`   // id of the destination, for deliveries
	Routed         Progress  `json:"routed,omitzero"`         // how far routing has come; zero: not begun
}

// Progress says how far the routing of a message has come that has too many deliveries for one invocation. Every delivery before this
// place lies on the deliveries queue. A release that does not know of it routes from the beginning, which repeats deliveries and loses none.
type Progress struct {
	Events int    `json:"events,omitempty"` // so many events, from the first, are routed to all their destinations
	After  string `json:"after,omitempty"`  // the next one to all whose ids do not come after this, in order of bytes
}

// Attach ties n to m and tells whether it could. False means that m is returned unchanged, for want of room; it can be
// sent all the same, and the caller should log what the note would have said.
//
// Where m carries a note already the two are merged: event id, time of acceptance and time of the first
// attempt stay those of the first note, of everything else the newer value counts unless it is zero.
// Times are kept to the millisecond.
func Attach(m queue.Message, n Note) (queue.Message, bool) {
	body, attributes, first, err := Detach(m.Body, m.Attributes)
	if errors.Is(err, ErrNewer) {
		return m, false // cannot be merged without understanding it, and must not be overwritten
	}
	bare := m
	bare.Body, bare.Attributes = body, attributes
	if _, foreign := attributes[Attribute]; !foreign && len(attributes) < queue.MaxAttributes {
		noted := bare
		noted.Attributes = with(attributes, encode(header{Note: merge(first, n)}))
		if noted.Size() <= queue.MaxBytes {
			return noted, true
		}
	}
	packed, ok := wrap(bare)
	if !ok {
		return m, false
	}
	wrapped := bare
	wrapped.Body = wrappedBody
	wrapped.Attributes = with(map[string]queue.Attribute{BodyAttribute: {DataType: "Binary", Binary: packed}},
		encode(header{Wrapped: wrapping, Note: merge(first, n)}))
	if wrapped.Size() > queue.MaxBytes {
		return m, false
	}
	return wrapped, true
}

// Detach is the inverse of Attach: it gives the message as the producer sent it, and the note. A message without
// a note comes back as it is, with a zero Note. So does one whose attribute cannot be read, with an error that is
// ErrMalformed (the attribute is the producer's; go on without a note) or ErrNewer (leave the message alone).
// An empty set of attributes is nil. Memory is bounded whatever the body decompresses to.
func Detach(body string, attributes map[string]queue.Attribute) (string, map[string]queue.Attribute, Note, error) {
	a, ok := attributes[Attribute]
	if !ok {
		return body, attributes, Note{}, nil
	}
	h, err := decode(a)
	if err != nil {
		return body, attributes, Note{}, err
	}
	if h.Wrapped != "" {
		bare, err := unwrap(attributes[BodyAttribute])
		if err != nil {
			return body, attributes, Note{}, err
		}
		return bare.Body, bare.Attributes, h.Note, nil
	}
	if len(attributes) == 1 {
		return body, nil, h.Note, nil
	}
	rest := maps.Clone(attributes)
	delete(rest, Attribute)
	return body, rest, h.Note, nil
}

func with(attributes map[string]queue.Attribute, note queue.Attribute) map[string]queue.Attribute {
	all := make(map[string]queue.Attribute, len(attributes)+1)
	maps.Copy(all, attributes)
	all[Attribute] = note
	return all
}

// merge brings a second note to the first one of the same message.
func merge(first, second Note) Note {
	return Note{
		EventID:        keep(first.EventID, second.EventID),
		AcceptedAt:     keep(first.AcceptedAt, second.AcceptedAt),
		FirstAttemptAt: keep(first.FirstAttemptAt, second.FirstAttemptAt),
		Reason:         keep(second.Reason, first.Reason),
		Code:           keep(second.Code, first.Code),
		Detail:         keep(second.Detail, first.Detail),
		Attempts:       keep(second.Attempts, first.Attempts),
		FailedAt:       keep(second.FailedAt, first.FailedAt),
		Trace:          keep(second.Trace, first.Trace),
		Destination:    keep(second.Destination, first.Destination),
		Routed:         keep(second.Routed, first.Routed),
	}
}

func keep[T comparable](preferred, other T) T {
	var zero T
	if preferred == zero {
		return other
	}
	return preferred
}

// bounded gives n as a message can carry it.
func (n Note) bounded() Note {
	n.Reason = cut(n.Reason, MaxReasonBytes)
	n.Detail = cut(n.Detail, MaxDetailBytes)
	if len(n.Trace) > MaxTraceBytes {
		n.Trace = ""
	}
	if n.Routed.Events < 0 || len(n.Routed.After) > MaxAfterBytes {
		n.Routed = Progress{}
	}
	n.AcceptedAt, n.FirstAttemptAt, n.FailedAt = instant(n.AcceptedAt), instant(n.FirstAttemptAt), instant(n.FailedAt)
	return n
}

// cut shortens s to at most limit bytes of valid UTF-8.
func cut(s string, limit int) string {
	if len(s) > limit {
		for limit > 0 && !utf8.RuneStart(s[limit]) {
			limit--
		}
		s = s[:limit]
	}
	// A replacement character is longer than the byte it replaces; "?" cannot break the limit.
	return strings.ToValidUTF8(s, "?")
}

// instant gives t to the millisecond in UTC; a time that JSON cannot carry becomes the zero time rather than an error.
func instant(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	t = time.UnixMilli(t.UnixMilli()).UTC()
	if y := t.Year(); y < 1 || y > 9999 {
		return time.Time{}
	}
	return t
}
