package events

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxBatchEvents is how many events one JSON array may hold. It bounds the work that one message can cause.
const MaxBatchEvents = 1000

// isStructured fits an object with a member "specversion", an array that holds one such object at any
// depth of arrays, and whatever declares itself to be CloudEvents by its content type. In a message without ce-*
// attributes, which make any body a payload, it also fits the empty array (an empty batch) and broken
// JSON that mentions "specversion": a torn CloudEvent must not pass for text.
func isStructured(m *message) bool {
	b := &m.body
	switch {
	case !b.json:
		return declaresCloudEvents(m) || looksTorn(b.text) && !isBinary(m)
	case b.kind == '{':
		if b.has("specversion") {
			return true
		}
	case b.kind == '[':
		if holdsEvent(b.text) || isEmptyArray(b.text) && !isBinary(m) {
			return true
		}
	}
	return declaresCloudEvents(m)
}

func declaresCloudEvents(m *message) bool {
	var ignored findings // openStructured does not read the attribute, so its problems are nobody's
	declared := mediaType(m.attribute(&ignored, attrContentType))
	return strings.HasPrefix(declared, "application/cloudevents+") || strings.HasPrefix(declared, "application/cloudevents-batch+")
}

// byteOrderMark is what some programs write before UTF-8 text. JSON does not allow it.
const byteOrderMark = "\ufeff"

func looksTorn(text string) bool {
	start := strings.TrimLeft(strings.TrimPrefix(text, byteOrderMark), " \n\t\r")
	return start != "" && (start[0] == '{' || start[0] == '[') && strings.Contains(start, `"specversion"`)
}

func isEmptyArray(array string) bool {
	return array[skipSpace(array, skipSpace(array, 0)+1)] == ']'
}

// holdsEvent looks for an object with "specversion" in an array and the arrays directly inside it.
func holdsEvent(array string) bool {
	return mentions(array, "specversion") && holdsObject(array, func(members []member) bool { return named(members, "specversion") })
}

// mentions is false only where no name and no string of a JSON text can be word, which holds no '/'.
func mentions(text, word string) bool {
	return strings.Contains(text, word) || strings.Contains(text, `\u`)
}

// holdsObject looks in an array, and the arrays directly inside it, for an object that fits, in one pass.
func holdsObject(array string, fits func([]member) bool) bool {
	for i := 0; i < len(array); {
		switch array[i] {
		case '{':
			members, end, err := scanObject(array, i)
			if err != nil {
				return false
			}
			if fits(members) {
				return true
			}
			i = end
		case '"':
			end, err := skipString(array, i)
			if err != nil {
				return false
			}
			i = end
		default:
			i++
		}
	}
	return false
}

func openStructured(m *message) (Decoded, error) {
	b := &m.body
	switch {
	case strings.HasPrefix(b.text, byteOrderMark):
		return m.refuse(FormCloudEvent, CodeBadJSON, "begins with a byte order mark", "send UTF-8 text without one")
	case !b.json:
		return m.refuse(FormCloudEvent, CodeBadJSON, "is meant to be CloudEvents JSON but is "+errText(b.err), "send one complete JSON object or array")
	case b.kind == '[':
		return openBatch(m)
	case b.kind != '{':
		return m.refuse(FormCloudEvent, CodeBadCloudEvent, "is not an object although its content-type says CloudEvents", "send a JSON object with specversion, id, source and type")
	}
	f := m.findings(FormCloudEvent)
	e := fromMembers(b.members, &f)
	m.finish(&e, &f)
	return one(e, &f)
}

func errText(err error) string {
	var s *syntaxError
	if errors.As(err, &s) {
		return s.Error()
	}
	return "not JSON"
}

func openBatch(m *message) (Decoded, error) {
	elements, more := scanArray(m.body.text, skipSpace(m.body.text, 0), MaxBatchEvents)
	f := m.findings(FormBatch)
	switch {
	case len(elements) == 0:
		f.add(CodeBadBatch, "", "is an empty batch", "send at least one event")
	case more:
		f.add(CodeBadBatch, "", fmt.Sprintf("holds more than %d events", MaxBatchEvents), "split it into several messages")
	}
	if err := f.err(); err != nil {
		return Decoded{}, err
	}
	events := make([]Event, 0, len(elements))
	for i, element := range elements {
		if f.full() {
			break
		}
		f.at = strings.TrimSuffix(m.at, ".") + "[" + strconv.Itoa(i) + "]"
		switch element[0] {
		case '{':
		case '[':
			f.add(CodeBadBatch, "", "is an array", "put the events of all batches into one flat array")
			continue
		default:
			f.add(CodeBadBatch, "", "is not an object", "put nothing but CloudEvents into the array")
			continue
		}
		members, _, _ := scanObject(element, 0)
		f.at += "."
		e := fromMembers(members, &f)
		m.finish(&e, &f)
		events = append(events, e)
	}
	if err := f.err(); err != nil {
		return Decoded{}, err
	}
	return Decoded{Form: FormBatch, Events: events}, nil
}

// UnmarshalJSON reads one structured CloudEvent with the strictness of Decode, whose *InvalidError it
// returns. It sets no tenant, keeps no reference to b and leaves e alone when it fails.
func (e *Event) UnmarshalJSON(b []byte) error {
	doc := readBody(string(b))
	f := findings{form: FormCloudEvent}
	if !doc.json || doc.kind != '{' {
		why := "not an object"
		if doc.err != nil {
			why = errText(doc.err)
		}
		return invalid(FormCloudEvent, CodeBadJSON, "is "+why, "send one complete JSON object")
	}
	read := fromMembers(doc.members, &f)
	read.validate(&f)
	if err := f.err(); err != nil {
		return err
	}
	*e = read
	return nil
}

// fromMembers reads an event from the members of a structured CloudEvent.
// It reports what the envelope breaks; rules on values are left to validate.
func fromMembers(members []member, f *findings) Event {
	var e Event
	var data, data64 *member
	seen := make(map[string]struct{}, len(members))
	versioned := false
	for i := range members {
		m := &members[i]
		if _, twice := seen[m.name]; twice {
			f.add(CodeDuplicateMember, plainName(m.name), "is there twice", "send each member once: two readers could take different ones")
			continue
		}
		seen[m.name] = struct{}{}
		switch m.name {
		case "specversion":
			versioned = true
			checkSpecVersion(f, memberText(f, m))
		case "id":
			e.ID = memberText(f, m)
		case "source":
			e.Source = memberText(f, m)
		case "type":
			e.Type = memberText(f, m)
		case "subject":
			e.Subject = memberText(f, m)
		case "time":
			e.Time = memberText(f, m)
		case "datacontenttype":
			e.DataContentType = memberText(f, m)
		case "dataschema":
			e.DataSchema = memberText(f, m)
		case "data":
			data = m
		case "data_base64":
			data64 = m
		default:
			e.setExtension(f, m)
		}
		if f.full() {
			return e
		}
	}
	if !versioned {
		checkSpecVersion(f, "")
	}
	e.Data = structuredData(f, e.DataContentType, data, data64)
	return e
}

func checkSpecVersion(f *findings, version string) {
	const fix = `write "1.0": Waybill takes no other version of CloudEvents`
	switch version {
	case SpecVersion:
	case "":
		f.addAttribute(CodeBadSpecVersion, "specversion", "is missing", fix)
	default:
		f.addAttribute(CodeBadSpecVersion, "specversion", "is "+excerpt(version), fix)
	}
}

// memberText reads an attribute of CloudEvents itself, all of which are strings. null is absent.
// An empty string is no value: CloudEvents forbids it in each of them.
func memberText(f *findings, m *member) string {
	if m.value == "null" {
		return ""
	}
	if m.value[0] != '"' {
		f.add(CodeBadCloudEvent, m.name, "is not a string", "write its value in double quotes")
		return placeholder(m.name)
	}
	s, ok := unquote(m.value)
	switch {
	case !ok:
		f.add(CodeBadCloudEvent, m.name, "has half a surrogate pair", "use printable unicode text")
		return placeholder(m.name)
	case s == "" && !isRequired(m.name):
		f.add(CodeBadCloudEvent, m.name, "is empty", "give it a value or leave it out")
	}
	return s
}

func isRequired(name string) bool {
	return name == "specversion" || name == "id" || name == "source" || name == "type"
}

// placeholder stands for a value that was refused, so that it is not reported as missing too.
func placeholder(name string) string {
	switch name {
	case "specversion":
		return SpecVersion
	case "id", "source", "type":
		return "refused"
	}
	return ""
}

// setExtension reads an extension: string, boolean or integer, in the canonical text of CloudEvents. null is absent.
func (e *Event) setExtension(f *findings, m *member) {
	if m.value == "null" {
		if problem := nameProblem(m.name); problem != "" {
			f.add(CodeBadCloudEvent, plainName(m.name), problem, "name extensions with lower-case letters and digits only")
		}
		return
	}
	value, ok := "", false
	switch c := m.value[0]; {
	case c == '"':
		value, ok = unquote(m.value)
	case c == 't' || c == 'f':
		value, ok = m.value, true
	case c == '-' || '0' <= c && c <= '9':
		n, err := strconv.ParseInt(m.value, 10, 32)
		value, ok = strconv.FormatInt(n, 10), err == nil
	}
	if !ok {
		f.add(CodeBadCloudEvent, plainName(m.name), "is not a string, a boolean or a 32-bit integer", "write extensions as strings, and put structures into data")
		return
	}
	if e.Extensions == nil {
		e.Extensions = make(map[string]string, 4) // a few, and the tenant
	}
	e.Extensions[m.name] = value
}

// structuredData gives the payload of a structured event: for JSON content the verbatim text of
// "data", for other content the string that it holds, or the bytes of "data_base64".
func structuredData(f *findings, contentType string, data, data64 *member) []byte {
	if data64 != nil && data64.value == "null" {
		data64 = nil
	}
	switch {
	case data != nil && data64 != nil:
		f.add(CodeBadCloudEvent, data64.name, `is there beside "data"`, "send only one of them")
	case data64 != nil:
		return base64Data(f, data64)
	case data == nil:
	case isJSONType(contentType):
		return []byte(data.value) // null too: an explicit null is a payload
	case data.value == "null":
		return nil
	case data.value[0] != '"':
		return []byte(data.value)
	default:
		s, ok := unquote(data.value)
		if !ok {
			f.add(CodeBadCloudEvent, data.name, "has half a surrogate pair", "send what is not unicode text as data_base64")
		}
		return []byte(s)
	}
	return nil
}

func base64Data(f *findings, m *member) []byte {
	if m.value[0] != '"' {
		f.add(CodeBadBase64, m.name, "is not a string", "write standard base64 in double quotes")
		return nil
	}
	encoded, ok := unquote(m.value)
	if at := strings.IndexAny(encoded, "\r\n"); ok && at >= 0 { // the decoder would skip them
		f.add(CodeBadBase64, m.name, fmt.Sprintf("has a line break at byte %d", at), "write standard base64 on one line")
		return nil
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil {
		f.add(CodeBadBase64, m.name, base64Problem(encoded, err), "write standard base64 (A-Z a-z 0-9 + /) with '=' padding")
		return nil
	}
	return decoded
}

// base64Problem says what keeps a text from being standard base64. The two other ways to write it are told by name.
func base64Problem(encoded string, err error) string {
	if err == nil { // the text itself could not be read
		return "is not base64"
	}
	if _, unpadded := base64.RawStdEncoding.Strict().DecodeString(encoded); unpadded == nil {
		return "lacks its '=' padding"
	}
	if plain := strings.TrimRight(encoded, "="); strings.ContainsAny(plain, "-_") {
		if _, safe := base64.RawURLEncoding.Strict().DecodeString(plain); safe == nil {
			return "is URL-safe base64, with - and _"
		}
	}
	var at base64.CorruptInputError
	if errors.As(err, &at) {
		return fmt.Sprintf("is not base64 at byte %d of %d", int64(at), utf8.RuneCountInString(encoded))
	}
	return "is not base64"
}
