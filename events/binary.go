package events

import (
	"maps"
	"slices"
	"strings"
)

// isBinary fits a message with any attribute ce-* or ce_*: one whose ce-specversion was forgotten is broken, not raw.
func isBinary(m *message) bool {
	for name := range m.in.Attributes {
		if _, ok := contextName(name); ok {
			return true
		}
	}
	return false
}

// contextName is the context attribute that a message attribute stands for. As with HTTP headers case does not matter.
func contextName(attribute string) (name string, ok bool) {
	if len(attribute) < 3 || !strings.EqualFold(attribute[:2], "ce") || attribute[2] != '-' && attribute[2] != '_' {
		return "", false
	}
	return strings.ToLower(attribute[3:]), true
}

func openBinary(m *message) (Decoded, error) {
	f := m.findings(FormBinary)
	e := Event{Extensions: make(map[string]string, 4)}
	version, contentType := "", ""
	seen := make(map[string]bool, len(m.in.Attributes))
	for _, attribute := range slices.Sorted(maps.Keys(m.in.Attributes)) {
		name, ok := contextName(attribute)
		if !ok {
			continue
		}
		if seen[name] {
			f.add(CodeDuplicateMember, plainName(attribute), "names a context attribute that is there twice", "send each once, with one prefix and in lower case")
			continue
		}
		seen[name] = true
		value := m.attributeText(&f, attribute, m.in.Attributes[attribute])
		if value == "" && m.in.Attributes[attribute].isBinary() {
			value = placeholder(name)
		}
		switch name {
		case "specversion":
			version = value
		case "id":
			e.ID = value
		case "source":
			e.Source = value
		case "type":
			e.Type = value
		case "subject":
			e.Subject = value
		case "time":
			e.Time = value
		case "dataschema":
			e.DataSchema = value
		case "datacontenttype":
			contentType = value
		default:
			e.Extensions[name] = value
		}
	}
	checkSpecVersion(&f, version)
	e.DataContentType = m.attribute(&f, attrContentType)
	switch {
	case e.DataContentType == "":
		e.DataContentType = contentType
	case contentType != "" && contentType != e.DataContentType:
		f.add(CodeBadMessageAttribute, attrContentType, "differs from ce-datacontenttype", "send one of them")
	}
	if m.in.Body != "" {
		e.Data = []byte(m.in.Body)
	}
	m.finish(&e, &f)
	return one(e, &f)
}
