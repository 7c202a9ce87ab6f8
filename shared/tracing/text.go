package tracing

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of what a span says about itself. Together they keep its document below the 64 KB that X-Ray takes, however it is escaped.
const (
	MaxNameBytes   = 200 // X-Ray's own limit, counted in characters there
	MaxKeyBytes    = 64
	MaxTextBytes   = 256 // of an annotation's text or a URL
	MaxErrorBytes  = 512 // of an error's text
	MaxAnnotations = 20
	MaxErrors      = 4
	maxMethodBytes = 16
)

// clean gives valid UTF-8 of at most so many bytes, cut at a character, with control characters replaced.
func clean(text string, maxBytes int) string {
	if len(text) > maxBytes {
		for maxBytes > 0 && !utf8.RuneStart(text[maxBytes]) {
			maxBytes--
		}
		text = text[:maxBytes]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// cleanName gives a name of the characters that X-Ray allows.
func cleanName(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || r == ' ' || strings.ContainsRune(`_.:/%&#=+\-@`, r) {
			return r
		}
		return '_'
	}, clean(name, MaxNameBytes))
	if name == "" {
		return "unnamed"
	}
	return name
}

// cleanKey gives an annotation key of the characters that X-Ray allows.
func cleanKey(key string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, clean(key, MaxKeyBytes))
}

// value gives what is annotated for v, in a type that the SDK and X-Ray take.
func value(v slog.Value) (any, bool) {
	v = v.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return clean(v.String(), MaxTextBytes), true
	case slog.KindBool:
		return v.Bool(), true
	case slog.KindInt64:
		return int(v.Int64()), true
	case slog.KindUint64:
		return uint(v.Uint64()), true
	case slog.KindFloat64:
		f := v.Float64()
		return f, !math.IsNaN(f) && !math.IsInf(f, 0) // JSON knows neither
	case slog.KindDuration:
		return v.Duration().Seconds(), true
	case slog.KindTime:
		return v.Time().UTC().Format(time.RFC3339Nano), true
	}
	if s, ok := v.Any().(fmt.Stringer); ok {
		return clean(fmt.Sprint(s), MaxTextBytes), true // Sprint survives a nil receiver
	}
	return nil, false
}

// origin gives scheme and host of a URL, or "" for what is none. Path and query of a webhook are often all the secret that it has.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	return clean((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}).String(), MaxTextBytes)
}

// address finds URLs inside a text.
var address = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`)

// errorText gives an error's text without what follows the host in URLs, as net/http puts them into its errors.
func errorText(err error) string {
	text := fmt.Sprint(err)
	if len(text) > 16*MaxErrorBytes {
		text = text[:16*MaxErrorBytes] // enough to find a URL that begins within the bound
	}
	return clean(address.ReplaceAllStringFunc(text, func(found string) string {
		if short := origin(found); short != "" {
			return short
		}
		scheme, _, _ := strings.Cut(found, "://")
		return scheme + "://"
	}), MaxErrorBytes)
}

// errorType names the innermost error: the outer ones are wrapping.
func errorType(err error) string {
	for range 100 { // a chain that bites its own tail ends too
		inner := errors.Unwrap(err)
		if inner == nil {
			break
		}
		err = inner
	}
	return clean(strings.TrimPrefix(fmt.Sprintf("%T", err), "*"), MaxTextBytes)
}
