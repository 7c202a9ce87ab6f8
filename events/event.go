package events

import (
	"iter"
	"slices"
	"strings"
)

const (
	// SpecVersion is the CloudEvents version of every Event.
	SpecVersion = "1.0"
	// TenantExtension is the CloudEvents extension that names an event's tenant.
	TenantExtension = "tenant"
	// DefaultTenant owns the events of producers that name no tenant and send no MessageGroupId.
	DefaultTenant = "default"
	// RawType is the type of events whose producer gives none.
	RawType = "waybill.raw"
)

// Event is one CloudEvents 1.0 event, whatever envelope it arrived in.
//
// Data holds the producer's bytes exactly: key order, number text, white space, unicode. Inside a
// structured CloudEvent and an EventBridge event that is the text of the member, from its first to its last byte.
//
// An Event is a plain value: reading it concurrently is safe, changing it is not. Copies share Extensions and Data.
type Event struct {
	ID     string // with Source the identity of the event; required
	Source string // URI-reference; required
	Type   string // required

	Subject         string // empty: absent
	DataContentType string // media type; empty: absent, which means JSON in structured mode
	DataSchema      string // absolute URI; empty: absent
	Time            string // RFC 3339 as the producer wrote it; empty: absent

	// Extensions holds the canonical text of each value: "true", "42", a string as it is.
	// After Decode it is never nil and holds "tenant".
	Extensions map[string]string

	Data []byte // nil: no data, which differs from empty data
}

// Tenant is the extension "tenant", or "" where the event has none. After Decode it is never empty.
func (e *Event) Tenant() string { return e.Extensions[TenantExtension] }

// ContentType is the media type of Data for a protocol that must name one: DataContentType, else
// what the bytes show: application/json or application/octet-stream. It is empty when there is no data.
func (e *Event) ContentType() string {
	switch {
	case e.Data == nil || e.DataContentType != "":
		return e.DataContentType
	case jsonDepth(e.Data) >= 0:
		return contentTypeJSON
	default:
		return contentTypeBinary
	}
}

// Attributes yields the context attributes that are present, by name, in this order: specversion,
// id, source, type, subject, time, datacontenttype, dataschema, then the extensions by name.
// Values are unescaped text: a protocol that cannot carry unicode or quotes must encode them.
func (e *Event) Attributes() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		core := [...]struct{ name, value string }{
			{"specversion", SpecVersion},
			{"id", e.ID},
			{"source", e.Source},
			{"type", e.Type},
			{"subject", e.Subject},
			{"time", e.Time},
			{"datacontenttype", e.DataContentType},
			{"dataschema", e.DataSchema},
		}
		for _, a := range core {
			if a.value != "" && !yield(a.name, a.value) {
				return
			}
		}
		var room [8]string // most events have few extensions: no allocation for their order
		names := room[:0]
		for name := range e.Extensions {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			if !yield(name, e.Extensions[name]) {
				return
			}
		}
	}
}

const (
	contentTypeJSON   = "application/json"
	contentTypeText   = "text/plain; charset=utf-8"
	contentTypeBinary = "application/octet-stream"
)

// isJSONType reports whether a datacontenttype declares JSON, as the CloudEvents JSON format
// defines it: none, */json or *+json, parameters aside.
func isJSONType(contentType string) bool {
	if contentType == "" || contentType == contentTypeJSON {
		return true
	}
	media := mediaType(contentType)
	return strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}

// mediaType is a content type in lower case without its parameters.
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}
