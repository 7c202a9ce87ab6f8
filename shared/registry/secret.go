package registry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Bounds of a signing key in bytes, from Standard Webhooks 1.0.0.
const (
	MinKeyBytes = 24
	MaxKeyBytes = 64
)

const (
	secretPrefix = "whsec_"
	redacted     = "[redacted]"

	// minDistinctBytes tells typed or repeated text from random bytes: of 24 random ones, fewer than 8 different ones are
	// as likely as guessing the key.
	minDistinctBytes = 8
)

// howToGenerate is the remedy for every secret that must be made anew.
const howToGenerate = `generate one: echo "whsec_$(openssl rand -base64 32)"`

// Secret is a signing key. However it is printed, logged or marshalled, it shows "[redacted]".
type Secret struct {
	// reveal is a function because fmt cannot look into one: where a Secret lies in an unexported field, its methods are
	// not called and a slice, even behind a pointer, would be printed.
	reveal func() []byte
}

func newSecret(key []byte) Secret { return Secret{func() []byte { return key }} }

// ParseSecret reads "whsec_" followed by the standard base64 of 24 to 64 bytes. The error says what is wrong and what to
// do, without any part of the text.
func ParseSecret(text string) (Secret, error) {
	key, message, fix := decodeSecret(text)
	if message != "" {
		return Secret{}, errors.New("the secret " + message + "; " + fix)
	}
	return newSecret(key), nil
}

// decodeSecret gives the key, or what is wrong with the text.
func decodeSecret(text string) (key []byte, message, fix string) {
	if strings.HasPrefix(text, "arn:aws") {
		return nil, "is a reference to a stored secret, which this version cannot resolve", "write the secret itself: whsec_…"
	}
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return nil, "does not begin with whsec_", "write whsec_ and then the key in base64"
	}
	if strings.ContainsAny(encoded, "-_") {
		return nil, "is in URL-safe base64", "use standard base64, with + and / instead of - and _"
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") { // the decoder skips line ends
		return nil, "is not standard base64 with padding", "check that it was copied whole, or " + howToGenerate
	}
	if len(key) < MinKeyBytes || len(key) > MaxKeyBytes {
		return nil, fmt.Sprintf("holds %d bytes", len(key)), fmt.Sprintf("use %d to %d; %s", MinKeyBytes, MaxKeyBytes, howToGenerate)
	}
	if distinct(key) < minDistinctBytes {
		return nil, "is weak: it repeats a few bytes", howToGenerate
	}
	return key, "", ""
}

func distinct(key []byte) int {
	sorted := slices.Sorted(slices.Values(key))
	return len(slices.Compact(sorted))
}

// Key gives a copy of the key's bytes, for signing. The zero Secret has none.
func (s Secret) Key() []byte {
	if s.reveal == nil {
		return nil
	}
	return slices.Clone(s.reveal())
}

// String gives "[redacted]".
func (s Secret) String() string { return redacted }

// GoString gives "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (s Secret) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte(redacted)) }

// LogValue gives "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText gives "[redacted]", in JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
