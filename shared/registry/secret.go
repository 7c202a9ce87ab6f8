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
	arnPrefix    = "arn:"
	redacted     = "[redacted]"

	// minDistinctBytes tells typed or repeated text from random bytes: of 24 random ones, fewer than 8 different ones are
	// as likely as guessing the key.
	minDistinctBytes = 8
)

// howToGenerate is the remedy for every secret that must be made anew.
const howToGenerate = `generate one: echo "whsec_$(openssl rand -base64 32)"`

// Secret is a signing key, or the ARN under which one is stored. However it is printed, logged or marshalled, a key shows as "[redacted]"; an
// ARN is no secret and shows as it is.
type Secret struct {
	// reveal is a function because fmt cannot look into one: where a Secret lies in an unexported field, its methods are
	// not called and a slice, even behind a pointer, would be printed.
	reveal func() []byte
	arn    string
}

func newSecret(key []byte) Secret { return Secret{reveal: func() []byte { return key }} }

// NewSecret makes a secret of the key's bytes, of which it keeps a copy. It refuses keys that ParseSecret would.
func NewSecret(key []byte) (Secret, error) {
	if message, fix := checkKey(key); message != "" {
		return Secret{}, refusedSecret(message, fix)
	}
	return newSecret(slices.Clone(key)), nil
}

// ParseSecret reads "whsec_" followed by the standard base64 of 24 to 64 bytes. The error says what is wrong and what to
// do, without any part of the text.
func ParseSecret(text string) (Secret, error) {
	key, message, fix := decodeSecret(text)
	if message != "" {
		return Secret{}, refusedSecret(message, fix)
	}
	return newSecret(key), nil
}

func refusedSecret(message, fix string) error {
	return errors.New("the secret " + message + "; " + fix)
}

// ParseSecrets reads what a stored secret holds: one secret as ParseSecret reads it, or several separated by white space, the one that signs
// first in front, while they are rotated. A repeated one counts once; there may be MaxSecrets. The error names the place of the faulty one,
// without any part of the text.
func ParseSecrets(text string) ([]Secret, error) {
	var secrets []Secret
	seen := map[string]bool{}
	place := 0
	for field := range strings.FieldsSeq(text) {
		place++
		key, message, fix := decodeSecret(field)
		if message != "" {
			return nil, fmt.Errorf("secret %d of the stored text %s; %s", place, message, fix)
		}
		if seen[string(key)] {
			continue
		}
		if len(secrets) == MaxSecrets {
			return nil, fmt.Errorf("the stored text holds more than %d secrets; remove those that no receiver checks any more", MaxSecrets)
		}
		seen[string(key)] = true
		secrets = append(secrets, newSecret(key))
	}
	if len(secrets) == 0 {
		return nil, errors.New("the stored text is empty; write one or several secrets, whsec_…, separated by white space")
	}
	return secrets, nil
}

// decodeSecret gives the key, or what is wrong with the text.
func decodeSecret(text string) (key []byte, message, fix string) {
	if strings.HasPrefix(text, arnPrefix) {
		return nil, "is an ARN, where the secret itself is needed", "write whsec_ and then the key in base64"
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
	message, fix = checkKey(key)
	return key, message, fix
}

func checkKey(key []byte) (message, fix string) {
	if len(key) < MinKeyBytes || len(key) > MaxKeyBytes {
		return fmt.Sprintf("holds %d bytes", len(key)), fmt.Sprintf("use %d to %d; %s", MinKeyBytes, MaxKeyBytes, howToGenerate)
	}
	if distinct(key) < minDistinctBytes {
		return "is weak: it repeats a few bytes", howToGenerate
	}
	return "", ""
}

func distinct(key []byte) int {
	sorted := slices.Sorted(slices.Values(key))
	return len(slices.Compact(sorted))
}

// ARN gives the ARN in Secrets Manager or SSM under which the key is stored, "" where the Secret holds the key itself.
func (s Secret) ARN() string { return s.arn }

// Key gives a copy of the key's bytes, for signing. The zero Secret and one that is an ARN have none.
func (s Secret) Key() []byte {
	if s.reveal == nil {
		return nil
	}
	return slices.Clone(s.reveal())
}

// String gives the ARN, or "[redacted]" for a key.
func (s Secret) String() string {
	if s.arn != "" {
		return s.arn
	}
	return redacted
}

// GoString gives what String gives.
func (s Secret) GoString() string { return s.String() }

// Format writes what String gives, for every verb.
func (s Secret) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte(s.String())) }

// LogValue gives what String gives.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText gives what String gives, in JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
