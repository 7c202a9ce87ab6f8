package registry

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

// Bounds of the headers of one destination.
const (
	MaxHeaders      = 32
	MaxHeaderName   = 128
	MaxHeaderValue  = 4 << 10
	MaxHeadersBytes = 8 << 10 // names and values together
)

// Header is a header that a destination adds to every request. Its value may be a credential, so it prints without.
type Header struct {
	Name  string // lower case
	Value string
}

// String gives the name only.
func (h Header) String() string { return h.Name + ": " + redacted }

// GoString gives the name only.
func (h Header) GoString() string { return h.String() }

// Format writes the name only, for every verb.
func (h Header) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte(h.String())) }

// LogValue gives the name only.
func (h Header) LogValue() slog.Value { return slog.StringValue(h.String()) }

// MarshalText gives the name only, in JSON too.
func (h Header) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// reserved says why a header cannot be set, or "". The name is in lower case.
func reserved(name string) string {
	switch name {
	case "content-type", "user-agent", "traceparent", "tracestate", "x-amzn-trace-id":
		return "is set by Waybill on every request"
	case "host":
		return "follows from the URL"
	case "content-length", "content-encoding", "transfer-encoding", "te", "trailer", "expect", "accept-encoding":
		return "describes the body, which Waybill writes and reads"
	case "connection", "keep-alive", "upgrade", "http2-settings":
		return "belongs to the connection"
	}
	switch {
	case strings.HasPrefix(name, "webhook-"):
		return "belongs to the signature"
	case strings.HasPrefix(name, "ce-"):
		return "belongs to the event"
	case strings.HasPrefix(name, "proxy-"):
		return "belongs to the connection"
	}
	return ""
}

// headers reads {"name": "value", …}.
func (r *reader) headers(path string, n *jsontree.Node) []Header {
	if n.Kind != jsontree.Object {
		r.fail(n.Offset, path, "must be an object, is "+n.Kind.String(), `write {"name": "value"}`)
		return nil
	}
	if len(n.Members) > MaxHeaders {
		r.fail(n.Offset, path, fmt.Sprintf("has %d headers", len(n.Members)), fmt.Sprintf("use at most %d", MaxHeaders))
		return nil
	}
	var headers []Header
	total := 0
	seen := make(map[string]bool, len(n.Members))
	for i, m := range n.Members {
		name := strings.ToLower(m.Name)
		at, ok := r.headerName(path, i, m, name)
		if !ok {
			continue
		}
		if seen[name] {
			r.fail(m.Offset, at, "appears twice, upper and lower case being the same", "merge the two")
		}
		seen[name] = true
		if value, ok := r.headerValue(at, m.Value); ok {
			headers = append(headers, Header{Name: name, Value: value})
			total += len(name) + len(value)
		}
	}
	if total > MaxHeadersBytes {
		r.fail(n.Offset, path, fmt.Sprintf("has %d bytes in all", total), fmt.Sprintf("use at most %d", MaxHeadersBytes))
	}
	return headers
}

// headerName checks a name and gives the header's path. A name that is none is not repeated in the path: people paste
// whole header lines, credentials included.
func (r *reader) headerName(path string, i int, m jsontree.Member, name string) (at string, ok bool) {
	if !isToken(name) || len(name) > MaxHeaderName {
		at = jsontree.Index(path, i)
		r.fail(m.Offset, at, "the name is not a header name",
			fmt.Sprintf("use letters, digits and hyphens, at most %d, without the colon", MaxHeaderName))
		return at, false
	}
	at = jsontree.Field(path, name)
	if why := reserved(name); why != "" {
		r.fail(m.Offset, at, "is reserved: it "+why, "remove it, or use a name of your own such as x-"+name)
		return at, false
	}
	return at, true
}

func (r *reader) headerValue(at string, n *jsontree.Node) (string, bool) {
	value, ok := r.text(at, n)
	if !ok {
		return "", false
	}
	before := len(r.problems)
	if len(value) > MaxHeaderValue {
		r.fail(n.Offset, at, fmt.Sprintf("the value has %d bytes", len(value)), fmt.Sprintf("use at most %d", MaxHeaderValue))
	}
	if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
		r.fail(n.Offset, at, "the value holds a line end or another control character", "remove it; a header is one line")
	}
	if strings.ContainsFunc(value, func(c rune) bool { return c > 0x7f }) {
		r.fail(n.Offset, at, "the value holds a character outside ASCII", "encode it, for example in percent encoding")
	}
	if strings.Trim(value, " \t") != value {
		r.fail(n.Offset, at, "the value begins or ends with a blank, which HTTP does not keep", "remove the blank")
	}
	return value, len(r.problems) == before
}

// isToken reports whether the name consists of the characters that RFC 9110 allows in header names.
func isToken(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return name != ""
}
