package events

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// maxInlineDepth is how deep JSON may nest to be printed as "data". Parsers stop between 64 levels and 10,000,
// and what contains the event adds its own; deeper payloads travel as data_base64, which nests nothing.
const maxInlineDepth = 512

// AppendJSON appends the event as one structured CloudEvent (JSON) to dst. The text is valid for
// other CloudEvents SDKs, is accepted by SQS as a message body, and decodes to an equal event:
//
//   - JSON under no datacontenttype, application/json or text/json stands in "data" verbatim;
//   - unicode text under a type that is not JSON stands in "data" as a string;
//   - everything else is in "data_base64": other bytes, JSON under any other spelling of a JSON type
//     (application/x+json, Text/JSON: SDKs do not agree that it is JSON, but all read base64 alike), JSON with white space around it, nested deeper than 512, or with U+FFFE or U+FFFF, which SQS refuses.
//
// The attributes come in the order of Attributes, extensions as strings, data last.
// An event that Validate refuses is not printed: dst is returned as it was, with the *InvalidError.
func (e *Event) AppendJSON(dst []byte) ([]byte, error) {
	return e.appendJSON(dst, false)
}

// MarshalJSON is AppendJSON for encoding/json. Because json.Marshal rewrites what a marshaler returns (white
// space goes, <, > and & become escapes), data that would not survive that unchanged is printed as
// data_base64: an event inside a larger value keeps its payload bytes as well. Output of
// AppendJSON passed to json.Marshal as a json.RawMessage does not, and json.MarshalIndent keeps no one's.
func (e Event) MarshalJSON() ([]byte, error) {
	return e.appendJSON(nil, true)
}

func (e *Event) appendJSON(dst []byte, rewritten bool) ([]byte, error) {
	if err := e.Validate(); err != nil {
		return dst, err
	}
	comma := byte('{')
	for name, value := range e.Attributes() {
		dst = append(dst, comma, '"')
		dst = append(dst, name...) // valid names need no escapes
		dst = append(dst, '"', ':')
		dst = appendString(dst, value)
		comma = ','
	}
	switch {
	case e.Data == nil:
	case e.isInlineJSON(rewritten):
		dst = append(dst, `,"data":`...)
		dst = append(dst, e.Data...)
	case !isJSONType(e.DataContentType) && utf8.Valid(e.Data):
		dst = append(dst, `,"data":`...)
		dst = appendString(dst, e.Data)
	default:
		dst = append(dst, `,"data_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, e.Data)
		dst = append(dst, '"')
	}
	return append(dst, '}'), nil
}

// isInlineJSON reports whether the payload may stand in "data" as it is.
func (e *Event) isInlineJSON(rewritten bool) bool {
	media, _, _ := strings.Cut(e.DataContentType, ";")
	switch strings.TrimSpace(media) {
	case "", contentTypeJSON, "text/json": // in lower case only: SDKs compare the text
	default:
		return false
	}
	if len(e.Data) == 0 || skipSpace(e.Data, 0) > 0 || !utf8.Valid(e.Data) {
		return false
	}
	depth := jsonDepth(e.Data)
	if depth < 0 || depth > maxInlineDepth {
		return false
	}
	end := e.Data[len(e.Data)-1]
	return skipSpace([]byte{end}, 0) == 0 && isPortable(e.Data) && (!rewritten || survivesMarshal(e.Data))
}

// jsonDepth is how deep a JSON text nests, or -1 if it is not JSON.
func jsonDepth(data []byte) int {
	end, depth, err := skipValue(data, 0)
	if err != nil || atEnd(data, end) != nil {
		return -1
	}
	return depth
}

// isPortable reports whether valid UTF-8 text has only characters that SQS takes in a body.
// JSON holds no other control characters than white space, so U+FFFE and U+FFFF remain.
func isPortable(data []byte) bool {
	for i, c := range data {
		if c == 0xef && data[i+1] == 0xbf && data[i+2] >= 0xbe {
			return false
		}
	}
	return true
}

// survivesMarshal reports whether json.Marshal, in its default setting, leaves a valid JSON text as it is.
func survivesMarshal(data []byte) bool {
	quoted := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case '"':
			quoted = !quoted
		case '\\':
			i++
		case '<', '>', '&':
			return false
		case ' ', '\n', '\t', '\r':
			if !quoted {
				return false
			}
		case 0xe2: // U+2028 and U+2029
			if data[i+1] == 0x80 && data[i+2]&^1 == 0xa8 {
				return false
			}
		}
	}
	return true
}

// appendString appends valid UTF-8 text as a JSON string. Besides what JSON demands it escapes what
// SQS refuses in a body (U+FFFE, U+FFFF) and what JavaScript once took for line ends (U+2028, U+2029).
func appendString[T text](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < 0x7f {
			continue
		}
		if c >= utf8.RuneSelf {
			if escape := escapeOf(s, i); escape != "" {
				dst = append(dst, s[done:i]...)
				dst = append(dst, escape...)
				i += 2
				done = i + 1
			}
			continue
		}
		dst = append(dst, s[done:i]...)
		done = i + 1
		if at := strings.IndexByte("\"\\\b\f\n\r\t", c); at >= 0 {
			dst = append(dst, '\\', `"\bfnrt`[at])
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
	}
	dst = append(dst, s[done:]...)
	return append(dst, '"')
}

// escapeOf is the escape for the three-byte character that begins at s[i], where it needs one.
func escapeOf[T text](s T, i int) string {
	if s[i] != 0xe2 && s[i] != 0xef {
		return ""
	}
	switch string(s[i : i+3]) {
	case "\u2028":
		return `\u2028`
	case "\u2029":
		return `\u2029`
	case "\ufffe":
		return `\ufffe`
	case "\uffff":
		return `\uffff`
	}
	return ""
}
