// Package signing makes and checks the signatures of Standard Webhooks 1.0.0.
//
// What is signed is `{webhook-id}.{webhook-timestamp}.{body}`. A shared secret
// (`whsec_`) signs it with HMAC-SHA256 and gives `v1,<base64>`; an ed25519 key
// pair (`whsk_`) gives `v1a,<base64>`. While a key is being rotated all live
// keys sign and the header carries all signatures, so that a receiver that
// knows any one of them accepts the message.
//
// Everything here is safe for concurrent use. No key is ever printed: the
// formatting methods of Key show its kind and nothing else.
package signing

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The names of the three headers, as they are written on the wire.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// The bounds that Standard Webhooks sets for shared secrets, in bytes after
// base64 decoding.
const (
	MinSecretBytes = 24
	MaxSecretBytes = 64
)

const (
	secretPrefix  = "whsec_"
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"

	symmetricVersion  = "v1,"
	asymmetricVersion = "v1a,"
)

// ErrKey is what every error of ParseKey wraps. The messages never repeat the key.
var ErrKey = errors.New("signing key refused")

// encoding refuses non-zero padding bits, so that one key or signature has one text.
var encoding = base64.StdEncoding.Strict()

// Key is one key of an endpoint: a shared secret or an ed25519 private key,
// with which one can sign and verify, or an ed25519 public key, with which one
// can only verify. The zero value signs nothing and verifies nothing.
type Key struct {
	shared  *sharedSecret
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

// sharedSecret keeps keyed hash states for reuse: keying HMAC costs two blocks
// of SHA-256 and half a kilobyte of garbage each time.
type sharedSecret struct {
	states sync.Pool // of *hmacState
}

type hmacState struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

// ParseKey reads a key as Standard Webhooks serialises it: `whsec_` and 24 to
// 64 bytes, `whsk_` and the 64 bytes of an ed25519 private key (seed and public
// key), `whpk_` and the 32 bytes of a public key, all in padded standard base64.
// The error says what is wrong and what would be right, without the key.
func ParseKey(text string) (Key, error) {
	switch {
	case strings.HasPrefix(text, secretPrefix):
		raw, err := decodeKey(text[len(secretPrefix):])
		if err != nil {
			return Key{}, err
		}
		return SharedKey(raw)
	case strings.HasPrefix(text, privatePrefix):
		raw, err := decodeKey(text[len(privatePrefix):])
		if err != nil {
			return Key{}, err
		}
		return privateKey(raw)
	case strings.HasPrefix(text, publicPrefix):
		raw, err := decodeKey(text[len(publicPrefix):])
		if err != nil {
			return Key{}, err
		}
		if len(raw) != ed25519.PublicKeySize {
			return Key{}, fmt.Errorf("%w: a %s key has %d bytes, this one has %d", ErrKey, publicPrefix, ed25519.PublicKeySize, len(raw))
		}
		return Key{public: raw}, nil
	default:
		return Key{}, fmt.Errorf("%w: it must start with %s (shared secret), %s (ed25519 private key) or %s (ed25519 public key)",
			ErrKey, secretPrefix, privatePrefix, publicPrefix)
	}
}

// ParseSigningKey is ParseKey for senders: it refuses public keys.
func ParseSigningKey(text string) (Key, error) {
	key, err := ParseKey(text)
	if err != nil {
		return Key{}, err
	}
	if !key.CanSign() {
		return Key{}, fmt.Errorf("%w: a %s public key cannot sign; give the %s key of the pair", ErrKey, publicPrefix, privatePrefix)
	}
	return key, nil
}

// SharedKey makes a key of the bytes of a shared secret: what follows `whsec_`,
// decoded. The bytes must not be changed afterwards.
func SharedKey(raw []byte) (Key, error) {
	if len(raw) < MinSecretBytes || len(raw) > MaxSecretBytes {
		return Key{}, fmt.Errorf("%w: a %s secret has %d to %d bytes, this one has %d; make one with: openssl rand -base64 32",
			ErrKey, secretPrefix, MinSecretBytes, MaxSecretBytes, len(raw))
	}
	return Key{shared: newSharedSecret(raw)}, nil
}

// CanSign reports whether Sign gets a signature out of the key.
func (k Key) CanSign() bool { return k.shared != nil || k.private != nil }

// Public returns the `whpk_` text to hand to receivers, and false for a shared secret.
func (k Key) Public() (string, bool) {
	if k.public == nil {
		return "", false
	}
	return publicPrefix + encoding.EncodeToString(k.public), true
}

// String names the kind of key, never the key.
func (k Key) String() string {
	switch {
	case k.shared != nil:
		return secretPrefix + "[redacted]"
	case k.private != nil:
		return privatePrefix + "[redacted]"
	case k.public != nil:
		return publicPrefix + encoding.EncodeToString(k.public)
	default:
		return "no key"
	}
}

// Format keeps every verb of fmt, %#v and %x among them, from printing the key.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// MarshalText keeps the key out of JSON. A marshalled key cannot be parsed again.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LogValue keeps the key out of structured logs.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// ValidID reports whether id may be signed: not empty, at most 256 printable
// ASCII characters, and no dot. A dot would let two different (id, timestamp,
// body) have the same signed text.
func ValidID(id string) bool {
	if id == "" || len(id) > 256 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c > '~' || c == '.' {
			return false
		}
	}
	return true
}

// Sign returns the value of the webhook-signature header: one signature per
// key, in the order of the keys, separated by single spaces. Keys that cannot
// sign add nothing; without any the value is empty. The body is read, neither
// copied nor kept. Time counts in whole seconds, as in the webhook-timestamp
// header, which must be Timestamp(at).
//
// Sign does not check id; use ValidID where ids can come from outside.
func Sign(keys []Key, id string, at time.Time, body []byte) string {
	size := 0
	for _, key := range keys {
		size += key.signatureBytes() + 1
	}
	header := make([]byte, 0, size)
	head := appendHead(make([]byte, 0, 128), id, at.Unix())
	for _, key := range keys {
		if !key.CanSign() {
			continue
		}
		if len(header) > 0 {
			header = append(header, ' ')
		}
		header = key.appendSignature(header, head, body)
	}
	return string(header)
}

// Timestamp returns the value of the webhook-timestamp header: seconds since 1970.
func Timestamp(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

func newSharedSecret(raw []byte) *sharedSecret {
	return &sharedSecret{states: sync.Pool{New: func() any {
		return &hmacState{mac: hmac.New(sha256.New, raw)}
	}}}
}

// sum returns HMAC-SHA256(head + body).
func (s *sharedSecret) sum(head, body []byte) [sha256.Size]byte {
	state := s.states.Get().(*hmacState)
	defer s.states.Put(state)
	state.mac.Reset()
	state.mac.Write(head)
	state.mac.Write(body)
	state.mac.Sum(state.sum[:0])
	return state.sum
}

func (k Key) signatureBytes() int {
	switch {
	case k.shared != nil:
		return len(symmetricVersion) + encoding.EncodedLen(sha256.Size)
	case k.private != nil:
		return len(asymmetricVersion) + encoding.EncodedLen(ed25519.SignatureSize)
	default:
		return 0
	}
}

func (k Key) appendSignature(header, head, body []byte) []byte {
	if k.shared != nil {
		sum := k.shared.sum(head, body)
		return encoding.AppendEncode(append(header, symmetricVersion...), sum[:])
	}
	// Ed25519 reads its message twice, so it needs the text in one piece.
	signature := ed25519.Sign(k.private, slices.Concat(head, body))
	return encoding.AppendEncode(append(header, asymmetricVersion...), signature)
}

// appendHead appends what is signed before the body.
func appendHead(b []byte, id string, unix int64) []byte {
	b = append(b, id...)
	b = append(b, '.')
	b = strconv.AppendInt(b, unix, 10)
	return append(b, '.')
}

func decodeKey(text string) ([]byte, error) {
	// encoding/base64 skips line breaks inside its input; a key that a form or
	// a here-document wrapped is more likely damaged than meant.
	if strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("%w: it contains a line break", ErrKey)
	}
	raw, err := encoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: what follows the prefix is not padded standard base64 (A–Z a–z 0–9 + / =)", ErrKey)
	}
	return raw, nil
}

func privateKey(raw []byte) (Key, error) {
	if len(raw) != ed25519.PrivateKeySize {
		return Key{}, fmt.Errorf("%w: a %s key has %d bytes (seed and public key), this one has %d",
			ErrKey, privatePrefix, ed25519.PrivateKeySize, len(raw))
	}
	private := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	// A signature made with a public half that does not belong to the seed
	// verifies nowhere and can leak the private half.
	if !bytes.Equal(private, raw) {
		return Key{}, fmt.Errorf("%w: the two halves of the %s key do not belong together", ErrKey, privatePrefix)
	}
	return Key{private: private, public: private.Public().(ed25519.PublicKey)}, nil
}
