package events

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxMessageBytes bounds body and message attributes together. It is the limit of SQS: 1 MiB.
const MaxMessageBytes = 1 << 20

// Input is one message as it lies on a queue. Decode only reads it. What is inside an SNS notification sees SNS's own
// id, topic, time and attributes in place of MessageID, EventID, QueueARN, SentAt and Attributes.
type Input struct {
	MessageID  string               // SQS message id: the event's id where nothing else gives one
	QueueARN   string               // the source of events that name none
	GroupID    string               // MessageGroupId: the tenant of events without the extension "tenant"
	EventID    string               // id kept by an earlier hop, for messages that were sent again: used before MessageID where the producer gave no id
	SentAt     time.Time            // the time of raw events; zero: they have none
	Body       string               // as the queue returned it
	Attributes map[string]Attribute // message attributes by name
	Tenant     string               // pinned tenant: overrides whatever the message says; empty: not pinned
}

// Attribute is one SQS message attribute.
type Attribute struct {
	DataType    string // String, Number or Binary, with or without a suffix (".int")
	StringValue string
	BinaryValue []byte // only for Binary
}

func (a Attribute) isBinary() bool { return strings.HasPrefix(a.DataType, "Binary") }

// Decoded is what one message held.
type Decoded struct {
	Form    Form    // the envelope of the message itself
	Inner   Form    // what the innermost SNS notification carried; empty unless Form is FormSNS
	Events  []Event // in the order of the message; each is valid and has a tenant
	Dropped int     // notices in the message that are no events and were left out on purpose
}

// Form is the envelope a message arrived in.
type Form string

// The forms, in the order in which they are tried.
const (
	FormCloudEvent  Form = "cloudevents"        // structured CloudEvents JSON, one event
	FormBatch       Form = "cloudevents-batch"  // structured CloudEvents JSON, an array of events
	FormBinary      Form = "cloudevents-binary" // CloudEvents binary mode: message attributes and body
	FormEventBridge Form = "eventbridge"        // an event from an EventBridge bus
	FormSNS         Form = "sns"                // an SNS notification with its envelope; what it carries has a form of its own
	FormS3          Form = "s3"                 // a notification of an S3 bucket
	FormRaw         Form = "raw"                // any other JSON or text
)

// fieldOf is the name under which a producer of this form knows a context attribute, for error messages.
func (f Form) fieldOf(attribute string) string {
	switch {
	case attribute == "datacontenttype" && (f == FormBinary || f == FormRaw):
		return attrContentType
	case f == FormBinary && attribute != TenantExtension:
		return "ce-" + plainName(attribute)
	case f == FormRaw && attribute == "id":
		return attrEventID
	case f == FormRaw && attribute == "type":
		return attrEventType
	case f == FormEventBridge && attribute == "type":
		return "detail-type"
	case f == FormS3:
		return s3FieldOf(attribute)
	}
	return plainName(attribute)
}

// recogniser is one row of the table in the package documentation.
type recogniser struct {
	fits func(*message) bool
	open func(*message) (Decoded, error)
}

// recognisers is the table, in order: the first row that fits decides, and a message that fits
// a row but breaks its rules is invalid; it never falls through to a later row.
// It is a function because a row may unwrap its message and consult the table again, as SNS does.
func recognisers() [6]recogniser {
	return [...]recogniser{
		{isStructured, openStructured},
		{isBinary, openBinary},
		{isEventBridge, openEventBridge},
		{isSNS, openSNS},
		{isS3, openS3},
		{isAnything, openRaw},
	}
}

// Decode turns one message into the CloudEvents it holds, as the table in the package documentation says.
//
// A nil error means that every event passes Validate and has the extension "tenant"; there are none only
// where all that the message held was Dropped. Otherwise the error is an *InvalidError and no event of the
// message is returned: a batch is valid as a whole or not at all. Decode is deterministic, keeps no reference to Attributes and is safe for concurrent
// use; strings of the events may share memory with Body.
func Decode(in Input) (Decoded, error) {
	if size := in.sizeBytes(); size > MaxMessageBytes {
		return Decoded{}, invalid("", CodeTooLarge, fmt.Sprintf("has %d bytes with its attributes", size),
			fmt.Sprintf("send at most %d; store what is larger and send its address", MaxMessageBytes))
	}
	m := message{in: &in, body: readBody(in.Body)}
	return m.open()
}

// open consults the table.
func (m *message) open() (Decoded, error) {
	for _, r := range recognisers() {
		if r.fits(m) {
			return r.open(m)
		}
	}
	return openRaw(m) // not reached: the last row fits anything
}

func (in *Input) sizeBytes() int {
	size := len(in.Body)
	for name, a := range in.Attributes {
		size += len(name) + len(a.DataType) + len(a.StringValue) + len(a.BinaryValue)
	}
	return size
}

// message is an Input with its body scanned once, for all recognisers.
type message struct {
	in      *Input
	body    body
	depth   int    // how many SNS notifications are around it
	at      string // what stands before its fields in error messages: "Message." inside a notification
	subject string // the subject of a raw event
}

func (m *message) findings(form Form) findings { return findings{form: form, at: m.at} }

// refuse is a refusal of the message as a whole.
func (m *message) refuse(form Form, code, problem, fix string) (Decoded, error) {
	f := m.findings(form)
	f.add(code, "", problem, fix)
	return Decoded{}, f.err()
}

// body is what the scanner found.
type body struct {
	text    string
	json    bool     // it is one JSON value
	err     error    // why it is not
	kind    byte     // its first byte that is no white space, '{' and '[' among them; 0: none
	members []member // of an object
}

func readBody(text string) body {
	b := body{text: text}
	start := skipSpace(text, 0)
	if start == len(text) {
		b.err = &syntaxError{start, "a value"}
		return b
	}
	b.kind = text[start]
	if !utf8.ValidString(text) {
		b.err = &syntaxError{0, "UTF-8 text"}
		return b
	}
	var end int
	if b.kind == '{' {
		b.members, end, b.err = scanObject(text, start)
	} else {
		end, _, b.err = skipValue(text, start)
	}
	if b.err == nil {
		b.err = atEnd(text, end)
	}
	b.json = b.err == nil
	return b
}

// has reports whether the body is an object with a member of exactly that name.
func (b *body) has(name string) bool { return b.json && named(b.members, name) }

func named(members []member, name string) bool {
	return slices.ContainsFunc(members, func(m member) bool { return m.name == name })
}

// The message attributes, besides ce-*, that say something about the event. Case does not matter in their names.
const (
	attrContentType = "content-type"
	attrEventID     = "event-id"
	attrEventType   = "event-type"
)

// attribute reads a message attribute by name; it is "" where there is none. What would make two readers disagree is reported.
func (m *message) attribute(f *findings, name string) string {
	value, seen := "", false
	for have, a := range m.in.Attributes {
		if !strings.EqualFold(have, name) {
			continue
		}
		if seen {
			f.add(CodeBadMessageAttribute, name, "is there twice, in different case", "send it once")
			return ""
		}
		value, seen = m.attributeText(f, name, a), true
	}
	return value
}

func (m *message) attributeText(f *findings, name string, a Attribute) string {
	if a.isBinary() {
		f.add(CodeBadMessageAttribute, plainName(name), "is of data type Binary", "send it as String")
		return ""
	}
	return a.StringValue
}

// fallbackID is the id of an event that brings none in its envelope.
func (m *message) fallbackID(f *findings) string {
	if id := m.attribute(f, attrEventID); id != "" {
		return id
	}
	if m.in.EventID != "" {
		return m.in.EventID
	}
	return m.in.MessageID
}

// finish gives an event its tenant and validates it. Each form calls it once for each event.
func (m *message) finish(e *Event, f *findings) {
	tenant := e.Tenant()
	for _, t := range [...]string{m.in.Tenant, tenant, m.in.GroupID, DefaultTenant} {
		if t != "" {
			tenant = t
			break
		}
	}
	if e.Extensions == nil {
		e.Extensions = make(map[string]string, 1)
	}
	e.Extensions[TenantExtension] = tenant
	e.validate(f)
}

// one is the answer of the forms that hold a single event.
func one(e Event, f *findings) (Decoded, error) {
	if err := f.err(); err != nil {
		return Decoded{}, err
	}
	return Decoded{Form: f.form, Events: []Event{e}}, nil
}
