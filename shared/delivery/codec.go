package delivery

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/waybillhq/waybill/events"
)

// Version is the newest message version that this code writes and understands.
const Version = 1

// ErrNewer says that a message was written by a newer release. It must be kept until that release is back,
// never dead-lettered: a rollback must not eat messages.
var ErrNewer = errors.New("message was written by a newer version")

// ErrMalformed says that a message is no delivery message.
var ErrMalformed = errors.New("malformed delivery message")

// MaxBytes is the largest body of a delivery message when it is first written: what SQS carries less a reserve, so that
// its successors, which count attempts and times, and its dead letter, which tells a reason, always fit.
const MaxBytes = 1<<20 - 4<<10

// maxPlainBytes bounds a decompressed message: ten times what a queue can carry, against decompression bombs.
const maxPlainBytes = 10 << 20

// wire is the JSON form. The payload stands in exactly one of Data, Text, Base64, so that its bytes survive: as a
// JSON value verbatim, as text, or as base64 where neither can hold it.
type wire struct {
	V           int             `json:"v"`
	Zip         string          `json:"zip,omitempty"` // the whole plain form, gzip, base64
	Delivery    ID              `json:"delivery,omitempty"`
	Destination string          `json:"destination,omitempty"`
	Epoch       int             `json:"epoch"`
	Attempt     int             `json:"attempt"`
	Replay      bool            `json:"replay,omitempty"`
	NewID       bool            `json:"newId,omitempty"`
	IDEpoch     int             `json:"idEpoch,omitempty"`
	AcceptedAt  int64           `json:"acceptedAt"` // ms since 1970
	DueAt       int64           `json:"dueAt,omitempty"`
	Waited      int64           `json:"waited,omitempty"` // ms
	HeldSince   int64           `json:"heldSince,omitempty"`
	Turn        int64           `json:"turn,omitempty"`
	Probes      int             `json:"probes,omitempty"`
	Outcome     *Outcome        `json:"outcome,omitempty"`
	Event       *wireEvent      `json:"event,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`
	Text        *string         `json:"text,omitempty"`
	Base64      *string         `json:"base64,omitempty"`
}

type wireEvent struct {
	ID              string            `json:"id"`
	Source          string            `json:"source"`
	Type            string            `json:"type"`
	Subject         string            `json:"subject,omitempty"`
	DataContentType string            `json:"datacontenttype,omitempty"`
	DataSchema      string            `json:"dataschema,omitempty"`
	Time            string            `json:"time,omitempty"`
	Extensions      map[string]string `json:"extensions,omitempty"`
}

// Encode writes the message as text that SQS accepts, compressed if the plain form exceeds maxBytes and compression helps. The
// result may still exceed maxBytes where the payload does not compress: the caller compares.
func (m *Message) Encode(maxBytes int) (string, error) {
	plain, err := m.plain()
	if err != nil {
		return "", err
	}
	if len(plain) <= maxBytes {
		return string(plain), nil
	}
	var zipped bytes.Buffer
	b64 := base64.NewEncoder(base64.StdEncoding, &zipped)
	gz := gzip.NewWriter(b64)
	fmt.Fprintf(&zipped, `{"v":%d,"zip":"`, Version)
	if _, err := gz.Write(plain); err != nil {
		return "", fmt.Errorf("compress delivery message: %w", err)
	}
	if err := errors.Join(gz.Close(), b64.Close()); err != nil {
		return "", fmt.Errorf("compress delivery message: %w", err)
	}
	zipped.WriteString(`"}`)
	if zipped.Len() > len(plain) {
		return string(plain), nil
	}
	return zipped.String(), nil
}

func (m *Message) plain() ([]byte, error) {
	e := &m.Event
	w := wire{
		V: Version, Delivery: m.Delivery, Destination: m.Destination, Epoch: m.Epoch, Attempt: m.Attempt,
		Replay: m.Replay, NewID: m.NewID, IDEpoch: m.IDEpoch, AcceptedAt: milliseconds(m.AcceptedAt), DueAt: milliseconds(m.DueAt), HeldSince: milliseconds(m.HeldSince),
		Turn:   milliseconds(m.Turn),
		Waited: m.Waited.Milliseconds(), Probes: m.Probes, Outcome: m.Outcome,
		Event: &wireEvent{ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, DataContentType: e.DataContentType,
			DataSchema: e.DataSchema, Time: e.Time, Extensions: e.Extensions},
	}
	verbatim := false
	switch {
	case e.Data == nil:
	case embeddable(e.Data):
		verbatim = true
	case utf8.Valid(e.Data):
		s := string(e.Data)
		w.Text = &s
	default:
		s := base64.StdEncoding.EncodeToString(e.Data)
		w.Base64 = &s
	}
	head, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode delivery message: %w", err)
	}
	head = escapeNonCharacters(head)
	if !verbatim {
		return head, nil
	}
	// json.Marshal would rewrite a RawMessage (white space, <, >, &); appending keeps the producer's bytes.
	out := make([]byte, 0, len(head)+len(`,"data":`)+len(e.Data))
	out = append(out, head[:len(head)-1]...)
	out = append(out, `,"data":`...)
	out = append(out, e.Data...)
	return append(out, '}'), nil
}

// embeddable tells whether b can stand in the message as it is and come back byte for byte: one JSON value without
// white space around it, in characters that SQS takes, not nested so deeply that one level more would be refused.
func embeddable(b []byte) bool {
	const white, maxDepth = " \t\r\n", 9000
	if len(b) == 0 || strings.IndexByte(white, b[0]) >= 0 || strings.IndexByte(white, b[len(b)-1]) >= 0 {
		return false
	}
	if bytes.Count(b, []byte("["))+bytes.Count(b, []byte("{")) > maxDepth && !shallow(b, maxDepth) {
		return false
	}
	return utf8.Valid(b) && !bytes.Contains(b, []byte("\uFFFE")) && !bytes.Contains(b, []byte("\uFFFF")) && json.Valid(b)
}

// shallow tells whether brackets in b nest at most limit deep. Brackets inside strings count too, which errs on the safe side.
func shallow(b []byte, limit int) bool {
	depth := 0
	for _, c := range b {
		switch c {
		case '[', '{':
			if depth++; depth > limit {
				return false
			}
		case ']', '}':
			depth--
		}
	}
	return true
}

// escapeNonCharacters escapes the two code points that encoding/json writes as they are and SQS refuses.
// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func escapeNonCharacters(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("\uFFFE"), []byte(`\ufffe`))
	return bytes.ReplaceAll(b, []byte("\uFFFF"), []byte(`\uffff`))
}

// Decode reads a message. The error is ErrNewer or ErrMalformed, with detail.
func Decode(body string) (Message, error) {
	w, err := decodeWire([]byte(body))
	if err != nil {
		return Message{}, err
	}
	if w.Zip != "" {
		plain, err := unzip(w.Zip)
		if err != nil {
			return Message{}, fmt.Errorf("%w: compressed form: %w", ErrMalformed, err)
		}
		if w, err = decodeWire(plain); err != nil {
			return Message{}, err
		}
		if w.Zip != "" {
			return Message{}, fmt.Errorf("%w: compressed twice", ErrMalformed)
		}
	}
	return w.message()
}

func decodeWire(b []byte) (wire, error) {
	var w wire
	err := json.Unmarshal(b, &w)
	version := w.V
	if err != nil {
		// Nothing but the version is certain of a newer message.
		if version, err = versionAlone(b, err); err != nil {
			return wire{}, err
		}
	}
	if version < 1 {
		return wire{}, fmt.Errorf("%w: no version in member \"v\"", ErrMalformed)
	}
	if version > Version {
		return wire{}, fmt.Errorf("%w: version %d, this release reads up to %d", ErrNewer, version, Version)
	}
	return w, nil
}

// versionAlone reads the version of a message of which the rest could not be read, for the given reason. The error is that reason unless the
// message is newer.
func versionAlone(b []byte, reason error) (int, error) {
	var only struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(b, &only); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if only.V >= 1 && only.V <= Version {
		return 0, fmt.Errorf("%w: %w", ErrMalformed, reason)
	}
	return only.V, nil
}

func unzip(s string) ([]byte, error) {
	gz, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(s)))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(gz, maxPlainBytes+1))
	if err != nil {
		return nil, err
	}
	if len(plain) > maxPlainBytes {
		return nil, fmt.Errorf("more than %d bytes when decompressed", maxPlainBytes)
	}
	return plain, nil
}

func (w *wire) message() (Message, error) {
	if w.Event == nil || w.Delivery == "" || w.Destination == "" || w.Epoch < 0 || w.Attempt < 1 || w.Waited < 0 || w.Probes < 0 || w.Probes >= w.Attempt {
		return Message{}, fmt.Errorf("%w: needs delivery, destination, event, epoch ≥ 0, attempt ≥ 1, waited ≥ 0, probes ≥ 0 and below attempt", ErrMalformed)
	}
	if w.IDEpoch < 0 || w.IDEpoch > w.Epoch {
		return Message{}, fmt.Errorf("%w: the epoch of the public id is %d, after epoch %d of the message", ErrMalformed, w.IDEpoch, w.Epoch)
	}
	if o := w.Outcome; o != nil && (o.Owner == "" || !slices.Contains([]string{"waiting", "delivered", "dead"}, o.State)) {
		return Message{}, fmt.Errorf("%w: an outcome needs an owner and one of the states waiting, delivered and dead, not %.20q", ErrMalformed, o.State)
	}
	m := Message{
		Delivery: w.Delivery, Destination: w.Destination, Epoch: w.Epoch, Attempt: w.Attempt, Replay: w.Replay, NewID: w.NewID, IDEpoch: w.IDEpoch,
		AcceptedAt: instant(w.AcceptedAt), DueAt: instant(w.DueAt), HeldSince: instant(w.HeldSince), Turn: instant(w.Turn), Waited: time.Duration(w.Waited) * time.Millisecond,
		Probes: w.Probes, Outcome: w.Outcome,
		Event: events.Event{ID: w.Event.ID, Source: w.Event.Source, Type: w.Event.Type, Subject: w.Event.Subject,
			DataContentType: w.Event.DataContentType, DataSchema: w.Event.DataSchema, Time: w.Event.Time, Extensions: w.Event.Extensions},
	}
	switch {
	case w.Data != nil:
		m.Event.Data = w.Data
	case w.Text != nil:
		m.Event.Data = []byte(*w.Text)
	case w.Base64 != nil:
		data, err := base64.StdEncoding.DecodeString(*w.Base64)
		if err != nil {
			return Message{}, fmt.Errorf("%w: base64 payload: %w", ErrMalformed, err)
		}
		m.Event.Data = data
	}
	return m, nil
}

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func instant(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
