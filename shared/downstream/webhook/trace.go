package webhook

import "strings"

// traceparent writes an X-Ray trace header (`Root=1-<8 hex>-<24 hex>;
// Parent=<16 hex>;Sampled=0|1`) as a W3C traceparent, with which OpenTelemetry
// receivers and X-Ray itself continue the trace. It returns false unless trace
// and parent are there and well formed: a made-up parent would point nowhere.
func traceparent(header string) (string, bool) {
	var root, parent, sampled string
	for field := range strings.SplitSeq(header, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch strings.ToLower(name) {
		case "root":
			root = value
		case "parent":
			parent = value
		case "sampled":
			sampled = value
		}
	}
	rest, ok := strings.CutPrefix(root, "1-")
	seconds, unique, _ := strings.Cut(rest, "-")
	trace := strings.ToLower(seconds + unique)
	parent = strings.ToLower(parent)
	if !ok || len(seconds) != 8 || !isID(trace, 32) || !isID(parent, 16) {
		return "", false
	}
	flags := "00"
	if sampled == "1" {
		flags = "01"
	}
	return "00-" + trace + "-" + parent + "-" + flags, true
}

// isID reports whether text is digits of lower-case hexadecimal, not all zero.
func isID(text string, digits int) bool {
	return len(text) == digits && strings.Trim(text, "0123456789abcdef") == "" && strings.Trim(text, "0") != ""
}
