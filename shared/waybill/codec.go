package waybill

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/queue"
)

// wrapping is the only way of wrapping that this version knows.
const wrapping = "gzip"

// wrappedBody is the body of a wrapped message; SQS takes no empty one.
const wrappedBody = "The message is in the attribute " + BodyAttribute + ", compressed by gzip: its attributes as one line of JSON, then its body."

// maxPlainBytes bounds what a wrapped body decompresses to. JSON at most doubles what SQS accepts in attributes, so
// everything that fits a queue stays well below.
const maxPlainBytes = 4 * queue.MaxBytes

// header is the JSON in the attribute.
type header struct {
	V       int    `json:"v"`
	Wrapped string `json:"wrapped,omitempty"` // how the body is wrapped, "" for not at all
	Note
}

// packed is one attribute of the producer inside a wrapped body.
type packed struct {
	DataType string `json:"type"`
	String   string `json:"string,omitempty"`
	Binary   []byte `json:"binary"`
}

func encode(h header) queue.Attribute {
	h.V, h.Note = Version, h.bounded()
	b, err := json.Marshal(h)
	if err != nil { // cannot be: every field is a number, a string or a time within JSON's years
		b = fmt.Appendf(nil, `{"v":%d,"wrapped":%q}`, Version, h.Wrapped)
	}
	// encoding/json writes these two code points as they are, and SQS refuses them.
	b = bytes.ReplaceAll(b, []byte("\uFFFE"), []byte(`\ufffe`))
	b = bytes.ReplaceAll(b, []byte("\uFFFF"), []byte(`\uffff`))
	return queue.Attribute{DataType: "String", String: string(b)}
}

func decode(a queue.Attribute) (header, error) {
	if a.DataType != "String" {
		return header{}, fmt.Errorf("%w: data type is not String", ErrMalformed)
	}
	// The version is read alone first: nothing else is certain of a newer note.
	var version struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal([]byte(a.String), &version); err != nil {
		return header{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if version.V < 1 {
		return header{}, fmt.Errorf("%w: no version in member \"v\"", ErrMalformed)
	}
	if version.V > Version {
		return header{}, fmt.Errorf("%w: version %d, this release reads up to %d", ErrNewer, version.V, Version)
	}
	var h header
	if err := json.Unmarshal([]byte(a.String), &h); err != nil {
		return header{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if h.Wrapped != "" && h.Wrapped != wrapping {
		return header{}, fmt.Errorf("%w: unknown wrapping", ErrMalformed)
	}
	h.Note = h.bounded()
	return h, nil
}

// wrap packs the producer's attributes and body together: the attributes as one line of JSON, then the body byte
// for byte. It refuses what unwrap would refuse.
func wrap(m queue.Message) ([]byte, bool) {
	if len(m.Attributes) > queue.MaxAttributes || m.Size() > queue.MaxBytes {
		return nil, false
	}
	line, ok := packAttributes(m.Attributes)
	if !ok || len(line)+len(m.Body) > maxPlainBytes {
		return nil, false
	}
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	// A bytes.Buffer never fails, nor does anything that only writes to one.
	_, _ = zip.Write(line)
	_, _ = io.WriteString(zip, m.Body)
	_ = zip.Close()
	return out.Bytes(), true
}

func packAttributes(attributes map[string]queue.Attribute) ([]byte, bool) {
	all := make(map[string]packed, len(attributes))
	for name, a := range attributes {
		// JSON would replace broken text, and the producer's bytes would be lost. SQS delivers none.
		if !utf8.ValidString(name) || !utf8.ValidString(a.DataType) || !utf8.ValidString(a.String) {
			return nil, false
		}
		all[name] = packed{DataType: a.DataType, String: a.String, Binary: a.Binary}
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false) // markup would grow sixfold
	if err := enc.Encode(all); err != nil {
		return nil, false
	}
	return line.Bytes(), true // Encode ends the line
}

func unwrap(a queue.Attribute) (queue.Message, error) {
	fail := func(err error) (queue.Message, error) {
		return queue.Message{}, fmt.Errorf("%w: wrapped message: %w", ErrMalformed, err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(a.Binary))
	if err != nil {
		return fail(err)
	}
	plain, err := io.ReadAll(io.LimitReader(zip, maxPlainBytes+1))
	if err != nil {
		return fail(err)
	}
	if len(plain) > maxPlainBytes {
		return fail(fmt.Errorf("more than %d bytes when decompressed", maxPlainBytes))
	}
	line, rest, found := bytes.Cut(plain, []byte{'\n'})
	if !found {
		return fail(io.ErrUnexpectedEOF)
	}
	var all map[string]packed
	if err := json.Unmarshal(line, &all); err != nil {
		return fail(err)
	}
	m := queue.Message{Body: string(rest)}
	if len(all) > 0 {
		m.Attributes = make(map[string]queue.Attribute, len(all))
		for name, a := range all {
			m.Attributes[name] = queue.Attribute{DataType: a.DataType, String: a.String, Binary: a.Binary}
		}
	}
	if len(m.Attributes) > queue.MaxAttributes || m.Size() > queue.MaxBytes {
		return fail(fmt.Errorf("holds more than a message may: %w", queue.ErrTooLarge))
	}
	return m, nil
}
