package events

import (
	"fmt"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MaxExtensions is how many extensions one event may carry; "tenant" counts.
	MaxExtensions = 64
	// MaxExtensionNameBytes bounds the name of an extension. CloudEvents advises 20.
	MaxExtensionNameBytes = 64
	// MaxContextBytes bounds the names and values of all context attributes of an event together.
	MaxContextBytes = 64 << 10
	// MaxTenantBytes bounds the tenant, which becomes part of keys and log lines; it is the length of a MessageGroupId.
	MaxTenantBytes = 128
)

// Validate checks the rules of CloudEvents 1.0 and the bounds of this package and reports every
// problem (up to 16) in one *InvalidError:
//
//   - id, source and type are present; no attribute is blank;
//   - source is a URI-reference, dataschema an absolute URI (RFC 3986), datacontenttype a media type, time RFC 3339;
//   - extension names are lower-case letters and digits and none is an attribute of CloudEvents itself;
//   - no context attribute has a control character, a noncharacter or invalid UTF-8;
//   - MaxExtensions, MaxExtensionNameBytes, MaxContextBytes and MaxTenantBytes hold.
//
// Two things are stricter than the letter of CloudEvents because the SDKs in use are: white space
// alone is not a value, and time has the upper-case T and Z and no leap second.
// Data may be anything. An event without tenant is valid.
func (e *Event) Validate() error {
	f := findings{form: FormCloudEvent}
	e.validate(&f)
	return f.err()
}

func (e *Event) validate(f *findings) {
	checkRequired(f, "id", e.ID, "add a text that is unique for the source")
	checkRequired(f, "source", e.Source, `add a URI-reference that names the producer, such as "/orders"`)
	checkRequired(f, "type", e.Type, `add the kind of event, such as "com.example.order.created"`)
	checkText(f, "subject", e.Subject)
	checkText(f, "time", e.Time)
	checkText(f, "datacontenttype", e.DataContentType)
	checkText(f, "dataschema", e.DataSchema)

	if problem := uriProblem(e.Source); problem != "" {
		f.addAttribute(CodeBadCloudEvent, "source", problem, "percent-encode what RFC 3986 does not allow in a URI-reference")
	}
	if e.DataSchema != "" {
		problem := uriProblem(e.DataSchema)
		if problem == "" && !isAbsoluteURI(e.DataSchema) {
			problem = "is not an absolute URI"
		}
		if problem != "" {
			f.addAttribute(CodeBadCloudEvent, "dataschema", problem, `write an absolute URI such as "https://example.com/schema.json"`)
		}
	}
	if e.Time != "" && !isTimestamp(e.Time) {
		f.addAttribute(CodeBadCloudEvent, "time", "is not an RFC 3339 timestamp", `write it like "2026-11-22T10:00:00Z"`)
	}
	if e.DataContentType != "" && !isMediaType(e.DataContentType) {
		f.addAttribute(CodeBadCloudEvent, "datacontenttype", "is not a media type", `write it like "application/json"`)
	}
	e.validateExtensions(f)
}

func (e *Event) validateExtensions(f *findings) {
	contextBytes := len(e.ID) + len(e.Source) + len(e.Type) + len(e.Subject) + len(e.Time) + len(e.DataContentType) + len(e.DataSchema)
	bad := false
	for name, value := range e.Extensions {
		contextBytes += len(name) + len(value)
		bad = bad || nameProblem(name) != "" || textProblem(value) != ""
	}
	if bad { // sorted, because the order of a map must not show in a report
		for _, name := range slices.Sorted(maps.Keys(e.Extensions)) {
			if problem := nameProblem(name); problem != "" {
				f.addAttribute(CodeBadCloudEvent, name, problem, "name extensions with lower-case letters and digits only, at most 20 of them")
			}
			checkText(f, name, e.Extensions[name])
		}
	}
	if len(e.Extensions) > MaxExtensions {
		f.add(CodeTooManyExtensions, "extensions", fmt.Sprintf("are %d", len(e.Extensions)),
			fmt.Sprintf("send at most %d, tenant included; put the rest into data", MaxExtensions))
	}
	if tenant := e.Tenant(); len(tenant) > MaxTenantBytes {
		f.addAttribute(CodeTooLarge, TenantExtension, fmt.Sprintf("has %d bytes", len(tenant)), fmt.Sprintf("use at most %d", MaxTenantBytes))
	}
	if contextBytes > MaxContextBytes {
		f.add(CodeTooLarge, "context attributes", fmt.Sprintf("have %d bytes together", contextBytes),
			fmt.Sprintf("use at most %d; put the rest into data", MaxContextBytes))
	}
}

func checkRequired(f *findings, name, value, fix string) {
	if value == "" {
		f.addAttribute(CodeBadCloudEvent, name, "is missing", fix)
		return
	}
	checkText(f, name, value)
}

// checkText checks an attribute that is present for what CloudEvents forbids in every string.
func checkText(f *findings, name, value string) {
	if value == "" {
		return
	}
	if problem := textProblem(value); problem != "" {
		f.addAttribute(CodeBadCloudEvent, name, problem, "use printable unicode text")
	} else if strings.TrimSpace(value) == "" && isCoreAttribute(name) {
		f.addAttribute(CodeBadCloudEvent, name, "is blank", "give it a value")
	}
}

// textProblem finds what a CloudEvents String must not hold: control characters, noncharacters
// and what is not unicode. Surrogates cannot occur in valid UTF-8.
func textProblem(s string) string {
	for i := 0; i < len(s); {
		c := s[i]
		if ' ' <= c && c < 0x7f {
			i++
			continue
		}
		r, width := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && width == 1:
			return fmt.Sprintf("has invalid UTF-8 at byte %d", i)
		case r < ' ' || 0x7f <= r && r <= 0x9f:
			return fmt.Sprintf("has the control character U+%04X at byte %d", r, i)
		case r&0xfffe == 0xfffe || 0xfdd0 <= r && r <= 0xfdef:
			return fmt.Sprintf("has the noncharacter U+%04X at byte %d", r, i)
		}
		i += width
	}
	return ""
}

func nameProblem(name string) string {
	if name == "" {
		return "has no name"
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "is not a legal attribute name"
		}
	}
	switch {
	case len(name) > MaxExtensionNameBytes:
		return fmt.Sprintf("is a name of %d characters", len(name))
	case isCoreAttribute(name) || name == "data":
		return "is a name of CloudEvents itself and cannot be an extension"
	}
	return ""
}

// isCoreAttribute reports whether CloudEvents itself defines the attribute.
func isCoreAttribute(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema":
		return true
	}
	return false
}

// uriProblem says why a non-empty text is no URI-reference, in the strict reading of RFC 3986: other SDKs refuse
// more than net/url does, and an event that is accepted here must be legible to them.
func uriProblem(s string) string {
	simple, fragments := true, 0
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~':
		case c == '/':
			simple = simple && (i == 0 || s[i-1] != '/')
		case c == '%':
			simple = false
			if !isEscape(s[i:]) {
				return fmt.Sprintf("has a broken percent escape at byte %d", i)
			}
		case strings.IndexByte(":?#[]@!$&'()*+,;=", c) >= 0:
			simple = false
			if c == '#' {
				fragments++
			}
		default:
			return fmt.Sprintf("is not a URI-reference: byte %d may not stand in one", i)
		}
	}
	if fragments > 1 {
		return "is not a URI-reference: it has more than one '#'"
	}
	if simple {
		return "" // nothing that net/url could object to
	}
	if _, err := url.Parse(s); err != nil {
		return "is not a URI-reference"
	}
	return ""
}

func isEscape(s string) bool {
	if len(s) < 3 {
		return false
	}
	_, high := hexDigit(s[1])
	_, low := hexDigit(s[2])
	return high && low
}

func isAbsoluteURI(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs()
}

// isTimestamp checks the shape first because package time lets pass what RFC 3339 forbids, such as "T1:00:00,5Z".
func isTimestamp(s string) bool {
	const shape = "0000-00-00T00:00:00"
	if len(s) <= len(shape) || !hasShape(s[:len(shape)], shape) {
		return false
	}
	zone := s[len(shape):]
	if zone[0] == '.' {
		digits, err := skipDigits(zone, 1)
		if err != nil {
			return false
		}
		zone = zone[digits:]
	}
	if zone != "Z" && !isZoneOffset(zone) {
		return false
	}
	_, err := time.Parse(time.RFC3339, s) // the ranges
	return err == nil
}

// isZoneOffset takes ±00:00 to ±23:59; package time would let ±24:60 pass.
func isZoneOffset(s string) bool {
	return (hasShape(s, "+00:00") || hasShape(s, "-00:00")) && s[1:3] < "24" && s[4:6] < "60"
}

// hasShape compares with a shape in which '0' stands for any digit.
func hasShape(s, shape string) bool {
	if len(s) != len(shape) {
		return false
	}
	for i := range len(s) {
		digit := '0' <= s[i] && s[i] <= '9'
		if shape[i] == '0' && !digit || shape[i] != '0' && s[i] != shape[i] {
			return false
		}
	}
	return true
}

func isMediaType(s string) bool {
	switch s {
	case contentTypeJSON, contentTypeText, contentTypeBinary:
		return true
	}
	media, _, err := mime.ParseMediaType(s)
	kind, subtype, slash := strings.Cut(media, "/")
	return err == nil && slash && kind != "" && subtype != ""
}
