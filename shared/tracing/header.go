package tracing

import "strings"

// maxHeaderBytes bounds the trace headers that are read. Lambda's have some 120.
const maxHeaderBytes = 512

// fields is what an X-Ray trace header says: Root=1-<8 hex>-<24 hex>;Parent=<16 hex>;Sampled=0|1, in any order, with others between.
type fields struct {
	root, parent string // lower case; "" if missing or malformed
	sampled      bool
}

func parse(header string) fields {
	var f fields
	if len(header) > maxHeaderBytes {
		return f
	}
	for field := range strings.SplitSeq(header, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch {
		case strings.EqualFold(name, "Root"):
			f.root = traceID(value)
		case strings.EqualFold(name, "Parent"):
			f.parent = hexID(strings.ToLower(value), 16)
		case strings.EqualFold(name, "Sampled"):
			f.sampled = value == "1"
		}
	}
	return f
}

// String writes the header, or "" without a trace.
func (f fields) String() string {
	parent, sampled := "", ";Sampled=0"
	if f.parent != "" {
		parent = ";Parent=" + f.parent
	}
	if f.sampled {
		sampled = ";Sampled=1"
	}
	if f.root == "" {
		return ""
	}
	return "Root=" + f.root + parent + sampled
}

// traceID gives an X-Ray trace id in lower case, or "" if value is none.
func traceID(value string) string {
	value = strings.ToLower(value)
	rest, ok := strings.CutPrefix(value, "1-")
	seconds, unique, _ := strings.Cut(rest, "-")
	if !ok || len(seconds) != 8 || hexID(seconds+unique, 32) == "" {
		return ""
	}
	return value
}

// hexID gives text if it is that many digits of lower-case hexadecimal and not all zero, or "".
func hexID(text string, digits int) string {
	if len(text) != digits || strings.Trim(text, "0123456789abcdef") != "" || strings.Trim(text, "0") == "" {
		return ""
	}
	return text
}

// TraceID gives the trace id of an X-Ray trace header, such as "1-6743a1b2-0123456789abcdef01234567", or "" if it has none.
func TraceID(header string) string { return parse(header).root }

// Traceparent writes an X-Ray trace header as a W3C traceparent, with which OpenTelemetry receivers, and X-Ray itself, continue the trace. It
// gives "" unless trace and parent are there and well formed: a made-up parent would point nowhere.
func Traceparent(header string) string {
	f := parse(header)
	if f.root == "" || f.parent == "" {
		return ""
	}
	flags := "-00"
	if f.sampled {
		flags = "-01"
	}
	return "00-" + strings.ReplaceAll(f.root[len("1-"):], "-", "") + "-" + f.parent + flags
}

// FromTraceparent writes a W3C traceparent as an X-Ray trace header, or gives "" if it is not valid. Of versions above 00 it reads what they
// have in common with 00, as the W3C asks.
func FromTraceparent(traceparent string) string {
	const length = len("00-") + 32 + len("-") + 16 + len("-01")
	if len(traceparent) < length || len(traceparent) > maxHeaderBytes {
		return ""
	}
	head, tail := traceparent[:length], traceparent[length:]
	part := strings.Split(head, "-")
	if len(part) != 4 || len(part[3]) != 2 || strings.Trim(part[0]+part[3], "0123456789abcdef") != "" {
		return ""
	}
	version, trace, parent, flags := part[0], part[1], part[2], part[3]
	switch {
	case len(version) != 2 || version == "ff", version == "00" && tail != "", tail != "" && tail[0] != '-':
		return ""
	case hexID(trace, 32) == "" || hexID(parent, 16) == "":
		return ""
	}
	return fields{
		root: "1-" + trace[:8] + "-" + trace[8:], parent: parent,
		sampled: strings.ContainsAny(flags[1:], "13579bdf"), // the lowest bit
	}.String()
}
