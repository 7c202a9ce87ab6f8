package dynamodb

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// invalid is the refusal for everything that DynamoDB calls a ValidationException.
func invalid(format string, args ...any) *wire.Error {
	return wire.Errorf("ValidationException", format, args...)
}

func malformed(format string, args ...any) *wire.Error {
	return wire.Errorf("SerializationException", format, args...)
}

// document reads a JSON request. encoding/json costs ten times as much, and matches member names whatever their
// case, which AWS does not. The first failure is kept in err; reading after it does nothing.
type document struct {
	data []byte
	pos  int
	err  error
}

func (d *document) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *document) unexpected(want string) {
	d.fail(malformed("expected %s at byte %d of the request", want, d.pos))
}

// next skips white space and gives the byte there, 0 at the end.
func (d *document) next() byte {
	for d.pos < len(d.data) {
		switch c := d.data[d.pos]; c {
		case ' ', '\t', '\r', '\n':
			d.pos++
		default:
			return c
		}
	}
	return 0
}

func (d *document) take(c byte) bool {
	if d.err == nil && d.next() == c {
		d.pos++
		return true
	}
	return false
}

func (d *document) end() {
	if d.err == nil && d.next() != 0 {
		d.unexpected("the end")
	}
}

func (d *document) word(w string) bool {
	if d.err == nil && d.next() == w[0] && d.pos+len(w) <= len(d.data) && string(d.data[d.pos:d.pos+len(w)]) == w {
		d.pos += len(w)
		return true
	}
	return false
}

// object calls member for every member that is not null; member reads its value.
func (d *document) object(member func(name string)) {
	if !d.take('{') {
		d.unexpected("an object")
		return
	}
	if d.take('}') {
		return
	}
	for d.err == nil {
		name := d.text()
		if !d.take(':') {
			d.unexpected("':'")
			return
		}
		if !d.word("null") {
			member(name)
		}
		if d.take('}') {
			return
		}
		if !d.take(',') {
			d.unexpected("',' or '}'")
		}
	}
}

func (d *document) array(element func()) {
	if !d.take('[') {
		d.unexpected("a list")
		return
	}
	if d.take(']') {
		return
	}
	for d.err == nil {
		element()
		if d.take(']') {
			return
		}
		if !d.take(',') {
			d.unexpected("',' or ']'")
		}
	}
}

func (d *document) boolean() bool {
	switch {
	case d.word("true"):
		return true
	case d.word("false"):
		return false
	}
	d.unexpected("true or false")
	return false
}

func (d *document) integer() int {
	d.next()
	start := d.pos
	for d.pos < len(d.data) && (d.data[d.pos] == '-' || d.data[d.pos] >= '0' && d.data[d.pos] <= '9') {
		d.pos++
	}
	n, err := strconv.Atoi(string(d.data[start:d.pos]))
	if err != nil {
		d.unexpected("an integer")
	}
	return n
}

func (d *document) text() string {
	if !d.take('"') {
		d.unexpected("a string")
		return ""
	}
	for i := d.pos; i < len(d.data); i++ {
		switch c := d.data[i]; {
		case c == '"':
			s := string(d.data[d.pos:i])
			d.pos = i + 1
			if !utf8.ValidString(s) {
				d.fail(malformed("a string of the request is not valid UTF-8"))
			}
			return s
		case c == '\\':
			return d.escapedText(i)
		case c < ' ':
			d.unexpected("a string without control characters")
			return ""
		}
	}
	d.unexpected("the end of a string")
	return ""
}

// escapedText reads a string whose first backslash is at i.
func (d *document) escapedText(i int) string {
	b := append([]byte(nil), d.data[d.pos:i]...)
	for d.pos = i; d.pos < len(d.data); {
		c := d.data[d.pos]
		d.pos++
		switch {
		case c == '"':
			if !utf8.Valid(b) {
				d.fail(malformed("a string of the request is not valid UTF-8"))
			}
			return string(b)
		case c < ' ':
			d.unexpected("a string without control characters")
			return ""
		case c != '\\':
			b = append(b, c)
		default:
			r, ok := d.escape()
			if !ok {
				d.unexpected("an escape sequence")
				return ""
			}
			b = utf8.AppendRune(b, r)
		}
	}
	d.unexpected("the end of a string")
	return ""
}

func (d *document) escape() (rune, bool) {
	if d.pos >= len(d.data) {
		return 0, false
	}
	c := d.data[d.pos]
	d.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		r, ok := d.hex()
		if ok && utf16.IsSurrogate(r) {
			if d.pos+2 > len(d.data) || d.data[d.pos] != '\\' || d.data[d.pos+1] != 'u' {
				return 0, false
			}
			d.pos += 2
			low, lowOK := d.hex()
			r = utf16.DecodeRune(r, low)
			ok = lowOK && r != utf8.RuneError
		}
		return r, ok
	}
	return 0, false
}

func (d *document) hex() (rune, bool) {
	if d.pos+4 > len(d.data) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(d.data[d.pos:d.pos+4]), 16, 16)
	d.pos += 4
	return rune(n), err == nil
}

// item reads a map of attribute names to values.
func (d *document) item() Item {
	item := Item{}
	d.object(func(name string) {
		if name == "" || len(name) > maxNameBytes {
			d.fail(invalid("One or more parameter values were invalid: attribute names must have 1 to %d bytes", maxNameBytes))
		}
		item[name] = d.value(1)
	})
	return item
}

// value reads one AttributeValue. depth counts the documents that it is nested in, itself included.
func (d *document) value(depth int) Value {
	var v Value
	kinds := 0
	d.object(func(kind string) {
		kinds++
		v = d.typed(kind, depth)
	})
	if d.err == nil && v == nil {
		d.fail(invalid("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"))
	}
	if kinds > 1 {
		d.fail(invalid("Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes"))
	}
	return v
}

func (d *document) typed(kind string, depth int) Value {
	if depth > maxDepth && (kind == "L" || kind == "M") {
		d.fail(invalid(tooDeep))
		return nil
	}
	switch kind {
	case "S":
		return String(d.text())
	case "N":
		return d.number()
	case "B":
		return d.binary()
	case "BOOL":
		return Bool(d.boolean())
	case "NULL":
		if !d.boolean() {
			d.fail(invalid("One or more parameter values were invalid: Null attribute value types must have the value of true"))
		}
		return Null{}
	case "L":
		list := List{}
		d.array(func() { list = append(list, d.value(depth+1)) })
		return list
	case "M":
		m := Map{}
		d.object(func(name string) { m[name] = d.value(depth + 1) })
		return m
	case "SS":
		return d.set("An string set  may not be empty", func() Value { return String(d.text()) })
	case "NS":
		return d.set("An number set  may not be empty", func() Value { return d.number() })
	case "BS":
		return d.set("Binary sets should not be empty", func() Value { return d.binary() })
	}
	d.fail(invalid("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"))
	return nil
}

func (d *document) set(empty string, element func() Value) Value {
	var elements []Value
	d.array(func() { elements = append(elements, element()) })
	if d.err == nil && elements == nil {
		d.fail(invalid("One or more parameter values were invalid: %s", empty))
	}
	if d.err != nil {
		return nil
	}
	set, err := newSet(elements)
	d.fail(err)
	return set
}

func (d *document) number() Number {
	text := d.text()
	if d.err != nil {
		return Number{}
	}
	n, err := parseNumber(text)
	d.fail(err)
	return n
}

func (d *document) binary() Binary {
	raw, err := base64.StdEncoding.Strict().DecodeString(d.text())
	if err != nil {
		d.fail(malformed("a binary value of the request is not valid base64"))
	}
	return Binary(raw)
}

// appendText appends s as a JSON string. s is valid UTF-8.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' {
			b = append(b, s[start:i]...)
			if c < ' ' {
				b = fmt.Appendf(b, `\u%04x`, c)
			} else {
				b = append(b, '\\', c)
			}
			start = i + 1
		}
	}
	return append(append(b, s[start:]...), '"')
}

// answer builds a JSON object member by member.
type answer []byte

func (a *answer) member(name string) *answer {
	if len(*a) == 0 {
		*a = append(*a, '{')
	} else {
		*a = append(*a, ',')
	}
	*a = append(append(append(*a, '"'), name...), '"', ':')
	return a
}

func (a *answer) raw(b []byte)   { *a = append(*a, b...) }
func (a *answer) text(s string)  { *a = appendText(*a, s) }
func (a *answer) integer(n int)  { *a = strconv.AppendInt(*a, int64(n), 10) }
func (a *answer) item(item Item) { *a = appendItem(*a, item) }

func (a *answer) items(items []Item) {
	*a = append(*a, '[')
	for i, item := range items {
		if i > 0 {
			*a = append(*a, ',')
		}
		*a = appendItem(*a, item)
	}
	*a = append(*a, ']')
}

func (a answer) bytes() []byte {
	if len(a) == 0 {
		return []byte("{}")
	}
	return append(a, '}')
}
