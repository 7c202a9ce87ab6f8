package pattern

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"sync"
)

// Event is what patterns see of one CloudEvent: its attributes and its payload. It is safe for concurrent use. Ask all
// patterns with the same Event: it parses the payload once, for the first pattern that needs it.
type Event struct {
	attributes map[string]string
	data       []byte
	decode     func([]byte) any
	once       sync.Once
	parsed     any
}

// NewEvent describes an event by its attributes, extensions included, and its payload. A nil sequence has none. The
// payload is not copied and must not be changed while the Event is in use.
func NewEvent(attributes iter.Seq2[string, string], data []byte) *Event {
	e := &Event{attributes: make(map[string]string), data: data, decode: decodePayload}
	if attributes != nil {
		for name, value := range attributes {
			e.attributes[name] = value
		}
	}
	return e
}

// missing stands where a document has no value, because nil is JSON's null.
type missing struct{}

func (e *Event) attribute(name string) any {
	if value, ok := e.attributes[name]; ok {
		return value
	}
	return missing{}
}

func (e *Event) payload() any {
	e.once.Do(func() { e.parsed = e.decode(e.data) })
	return e.parsed
}

// decodePayload gives the payload as encoding/json does, with numbers as their text, and missing if it is not exactly
// one JSON value.
func decodePayload(data []byte) any {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return missing{}
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return missing{}
	}
	return value
}
