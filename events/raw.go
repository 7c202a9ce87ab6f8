package events

import (
	"time"
	"unicode/utf8"
)

func isAnything(*message) bool { return true }

// openRaw makes an event of a body that is no envelope: the body is the payload, byte for byte.
func openRaw(m *message) (Decoded, error) {
	f := m.findings(FormRaw)
	e := Event{
		ID:              m.fallbackID(&f),
		Source:          m.in.QueueARN,
		Type:            m.attribute(&f, attrEventType),
		DataContentType: m.attribute(&f, attrContentType),
		Subject:         m.subject,
		Time:            timestamp(m.in.SentAt),
	}
	if e.Type == "" {
		e.Type = RawType
	}
	if m.in.Body != "" {
		e.Data = []byte(m.in.Body)
	}
	if e.DataContentType == "" && e.Data != nil {
		e.DataContentType = m.body.contentType()
	}
	m.finish(&e, &f)
	return one(e, &f)
}

// contentType is the media type that the bytes of a body show.
func (b *body) contentType() string {
	switch {
	case b.json:
		return contentTypeJSON
	case utf8.ValidString(b.text):
		return contentTypeText
	default:
		return contentTypeBinary
	}
}

// timestamp writes a time as RFC 3339 in UTC, and the zero time and years that RFC 3339 cannot write as absent.
func timestamp(t time.Time) string {
	if year := t.UTC().Year(); t.IsZero() || year < 0 || year > 9999 {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
