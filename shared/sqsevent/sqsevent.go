// Package sqsevent reads the events that Lambda makes of SQS messages. What it reads equals what encoding/json reads, for every input, and
// takes a fraction of its time and memory: an event is the first thing that every invocation pays for.
//
// The shape that Lambda sends is read in one pass. Whatever is not exactly of this shape (a name in another case, a member that is there
// twice, null for a text, damaged text) is left to encoding/json as a whole, its errors too.
package sqsevent

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// Decode reads an event. The result does not share memory with payload; its texts may share memory with each other.
func Decode(payload []byte) (events.SQSEvent, error) {
	r := reader{raw: payload, text: string(payload)}
	e, ok := r.event()
	if ok {
		return e, nil
	}
	e = events.SQSEvent{}
	err := json.Unmarshal(payload, &e)
	return e, err
}

// reader reads raw, of which text is a copy, from at on. Its methods give false at the first thing that encoding/json should look at.
type reader struct {
	raw     []byte
	text    string
	at      int
	scratch []byte // for texts with escapes
}

func (r *reader) event() (e events.SQSEvent, ok bool) {
	ok = r.object(func(name string) bool {
		if name != "Records" {
			return r.unknown(name, "records")
		}
		const usual = 10
		e.Records = make([]events.SQSMessage, 0, usual)
		return r.list(func() bool {
			e.Records = append(e.Records, events.SQSMessage{})
			return r.message(&e.Records[len(e.Records)-1])
		})
	})
	r.space()
	return e, ok && r.at == len(r.text)
}

func (r *reader) message(m *events.SQSMessage) bool {
	return r.object(func(name string) bool {
		switch name {
		case "messageId":
			return r.string(&m.MessageId)
		case "receiptHandle":
			return r.string(&m.ReceiptHandle)
		case "body":
			return r.string(&m.Body)
		case "md5OfBody":
			return r.string(&m.Md5OfBody)
		case "md5OfMessageAttributes":
			return r.string(&m.Md5OfMessageAttributes)
		case "eventSourceARN":
			return r.string(&m.EventSourceARN)
		case "eventSource":
			return r.string(&m.EventSource)
		case "awsRegion":
			return r.string(&m.AWSRegion)
		case "attributes":
			const usual = 8
			m.Attributes = make(map[string]string, usual)
			return r.object(func(name string) bool {
				var value string
				ok := r.string(&value)
				m.Attributes[name] = value
				return ok
			})
		case "messageAttributes":
			m.MessageAttributes = map[string]events.SQSMessageAttribute{}
			return r.object(func(name string) bool {
				a, ok := r.attribute()
				m.MessageAttributes[name] = a
				return ok
			})
		}
		return r.unknown(name, "messageid", "receipthandle", "body", "md5ofbody", "md5ofmessageattributes", "eventsourcearn",
			"eventsource", "awsregion", "attributes", "messageattributes")
	})
}

func (r *reader) attribute() (a events.SQSMessageAttribute, ok bool) {
	ok = r.object(func(name string) bool {
		switch name {
		case "stringValue":
			a.StringValue = new(string)
			return r.string(a.StringValue)
		case "dataType":
			return r.string(&a.DataType)
		case "binaryValue":
			var text string
			if !r.string(&text) {
				return false
			}
			var err error
			a.BinaryValue, err = base64.StdEncoding.DecodeString(text)
			return err == nil
		case "stringListValues":
			a.StringListValues = []string{}
			return r.empty()
		case "binaryListValues":
			a.BinaryListValues = [][]byte{}
			return r.empty()
		}
		return r.unknown(name, "stringvalue", "datatype", "binaryvalue", "stringlistvalues", "binarylistvalues")
	})
	return a, ok
}

// object reads an object whose names are all different and calls member at the value of each.
func (r *reader) object(member func(name string) bool) bool {
	if !r.take('{') {
		return false
	}
	if r.take('}') {
		return true
	}
	var room [16]string
	names := room[:0]
	for {
		var name string
		if !r.string(&name) || !r.take(':') {
			return false
		}
		for _, have := range names {
			if have == name {
				return false
			}
		}
		names = append(names, name)
		if !member(name) {
			return false
		}
		if r.take('}') {
			return true
		}
		if !r.take(',') {
			return false
		}
	}
}

func (r *reader) list(element func() bool) bool {
	if !r.take('[') {
		return false
	}
	if r.take(']') {
		return true
	}
	for element() {
		if r.take(']') {
			return true
		}
		if !r.take(',') {
			return false
		}
	}
	return false
}

// empty reads a list that has nothing in it, which is all that SQS ever sends there.
func (r *reader) empty() bool { return r.take('[') && r.take(']') }

// unknown passes over the value of a member that nobody asks for, unless its name is one of known in another case, which encoding/json
// would take for it.
func (r *reader) unknown(name string, known ...string) bool {
	for _, k := range known {
		if strings.EqualFold(k, name) {
			return false
		}
	}
	d := json.NewDecoder(strings.NewReader(r.text[r.at:]))
	var skipped json.RawMessage
	if d.Decode(&skipped) != nil {
		return false
	}
	r.at += int(d.InputOffset())
	return true
}

// take takes the byte c, with white space before it, if it is next.
func (r *reader) take(c byte) bool {
	r.space()
	if r.at < len(r.text) && r.text[r.at] == c {
		r.at++
		return true
	}
	return false
}

func (r *reader) space() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return
		}
	}
}

// string reads a text.
func (r *reader) string(to *string) bool {
	if !r.take('"') {
		return false
	}
	i := r.at
	for i+word <= len(r.raw) {
		n := ordinary(binary.LittleEndian.Uint64(r.raw[i:]))
		if i += n; n < word {
			break
		}
	}
	for i < len(r.raw) && plain(r.raw[i]) {
		i++
	}
	if i < len(r.raw) && r.raw[i] == '"' {
		*to, r.at = r.text[r.at:i], i+1
	} else if !r.escaped(to, i) {
		return false
	}
	return utf8.ValidString(*to)
}

// plain tells whether a byte stands for itself in a text.
func plain(c byte) bool { return c >= ' ' && c != '"' && c != '\\' }

// word is how many bytes are looked at together.
const word = 8

// ordinary is how many bytes of w, the first in its lowest byte, stand for themselves before one that does not. The bytes that do not are found by the carries
// of subtractions: only above a byte that was found can one be found wrongly.
// Source: https://graphics.stanford.edu/~seander/bithacks.html#ValueInWord
func ordinary(w uint64) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote, backslash := w^ones*'"', w^ones*'\\'
	found := ((w-ones*' ')&^w | (quote-ones)&^quote | (backslash-ones)&^backslash) & tops
	return bits.TrailingZeros64(found) / word // 64 trailing zeros where there is none
}

// escaped reads the rest of a text whose bytes up to i stand for themselves. The events' bodies are JSON as a rule, with an escape every few bytes: they are put
// together, a word at a time, in memory that is used again. No text is longer without its escapes.
func (r *reader) escaped(to *string, i int) bool {
	raw := r.raw
	if len(r.scratch) < len(raw)+word {
		r.scratch = make([]byte, len(raw)+word)
	}
	b := r.scratch
	at := copy(b, raw[r.at:i])
	for i < len(raw) {
		if i+word <= len(raw) {
			w := binary.LittleEndian.Uint64(raw[i:])
			binary.LittleEndian.PutUint64(b[at:], w)
			n := ordinary(w)
			i, at = i+n, at+n
			if n == word {
				continue
			}
		}
		c := raw[i]
		i++
		if plain(c) {
			b[at] = c
			at++
			continue
		}
		if c == '"' {
			*to, r.at = string(b[:at]), i
			return true
		}
		if c != '\\' || i == len(raw) {
			return false
		}
		c = raw[i]
		i++
		switch c {
		case '"', '\\', '/':
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'u':
			char, n := unicode(r.text[i:])
			if n == 0 {
				return false
			}
			at += utf8.EncodeRune(b[at:], char)
			i += n
			continue
		default:
			return false
		}
		b[at] = c
		at++
	}
	return false
}

// unicode reads what follows \u: one character, and of how many bytes; none where that is no whole character.
func unicode(raw string) (rune, int) {
	first, ok := hex(raw)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(first) {
		return first, 4
	}
	if len(raw) < 6 || raw[4:6] != `\u` {
		return 0, 0
	}
	second, ok := hex(raw[6:])
	char := utf16.DecodeRune(first, second)
	if !ok || char == utf8.RuneError {
		return 0, 0
	}
	return char, 10
}

func hex(raw string) (rune, bool) {
	if len(raw) < 4 {
		return 0, false
	}
	var n rune
	for i := range 4 {
		c := raw[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | rune(c)
	}
	return n, true
}
