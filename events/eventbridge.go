package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

func isEventBridge(m *message) bool {
	return m.body.has("detail-type") && m.body.has("source") && m.body.has("detail")
}

// openEventBridge reads the envelope that EventBridge puts around events. Members that it does not know are left out.
func openEventBridge(m *message) (Decoded, error) {
	f := m.findings(FormEventBridge)
	e := Event{DataContentType: contentTypeJSON, Extensions: make(map[string]string, 4)}
	seen := make(map[string]bool, 12)
	for i := range m.body.members {
		field := &m.body.members[i]
		switch field.name {
		case "id", "source", "detail-type", "time", "region", "account", "replay-name", "resources", "detail":
		default:
			continue
		}
		if seen[field.name] {
			f.add(CodeDuplicateMember, field.name, "is there twice", "send each member once: two readers could take different ones")
			continue
		}
		seen[field.name] = true
		switch field.name {
		case "id":
			e.ID = bridgeText(&f, field)
		case "source":
			e.Source = uriReference(bridgeText(&f, field))
		case "detail-type":
			e.Type = bridgeText(&f, field)
		case "time":
			e.Time = bridgeText(&f, field)
		case "region", "account", "replay-name":
			if value := bridgeText(&f, field); value != "" {
				e.Extensions[strings.ReplaceAll(field.name, "-", "")] = value
			}
		case "resources":
			if value := bridgeResources(&f, field); value != "" {
				e.Extensions[field.name] = value
			}
		case "detail":
			e.Data = []byte(field.value)
		}
	}
	if e.ID == "" {
		e.ID = m.fallbackID(&f)
	}
	m.finish(&e, &f)
	return one(e, &f)
}

func bridgeText(f *findings, m *member) string {
	if m.value == "null" {
		return ""
	}
	if m.value[0] == '"' {
		if s, ok := unquote(m.value); ok {
			return s
		}
	}
	f.add(CodeBadEventBridge, m.name, "is not a string of unicode text", "send the envelope as EventBridge writes it")
	return placeholder(bridgeAttribute(m.name))
}

func bridgeAttribute(field string) string {
	if field == "detail-type" {
		return "type"
	}
	return field
}

// bridgeResources is the list as compact JSON text, since an extension holds no lists; an empty list is absent.
func bridgeResources(f *findings, m *member) string {
	var resources []string
	if err := json.Unmarshal([]byte(m.value), &resources); err != nil {
		f.add(CodeBadEventBridge, m.name, "is not a list of strings", "send the envelope as EventBridge writes it")
		return ""
	}
	if len(resources) == 0 {
		return ""
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(m.value)); err != nil {
		return m.value // not reached: it was just decoded
	}
	return compact.String()
}

// uriReference makes any text a URI-reference, because EventBridge takes any text as source and CloudEvents does not.
// A text that is one stays as it is; in others every character but letters, digits and -._~ is percent-encoded.
func uriReference(s string) string {
	if uriProblem(s) == "" {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
