package signing

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Tolerance is how far webhook-timestamp may lie from the receiver's clock, in
// either direction. Wider lets a recorded request be replayed for longer;
// narrower refuses senders whose clock is a little off.
const Tolerance = 5 * time.Minute

// maxSignatures bounds the work that one request can cause. Senders rotate
// between two keys, rarely three; what comes after the bound is not looked at.
const maxSignatures = 16

// Why Verify refuses a request.
var (
	ErrHeaders   = errors.New("webhook headers missing or malformed")
	ErrTimestamp = errors.New("webhook timestamp outside the tolerance")
	ErrSignature = errors.New("no webhook signature matches")
)

// Verify checks a received request: exactly one each of webhook-id,
// webhook-timestamp and webhook-signature, a timestamp within Tolerance of now
// (both ends included), and at least one signature by one of the keys. It needs
// the body as received, byte for byte. Signatures are compared in constant
// time. Versions it does not know are skipped, so that senders can add new ones.
//
// The error is ErrHeaders, ErrTimestamp or ErrSignature and repeats nothing of
// the body. A verified request can still be a repeat: deduplicate on webhook-id.
func Verify(keys []Key, header http.Header, body []byte, now time.Time) error {
	id, err := single(header, HeaderID)
	if err != nil {
		return err
	}
	// See ValidID: with a dot in it, a recorded body could be cut elsewhere.
	if !ValidID(id) {
		return fmt.Errorf("%w: %s is not a printable word without dots", ErrHeaders, HeaderID)
	}
	timestamp, err := single(header, HeaderTimestamp)
	if err != nil {
		return err
	}
	signatures, err := single(header, HeaderSignature)
	if err != nil {
		return err
	}
	unix, err := parseTimestamp(timestamp)
	if err != nil {
		return err
	}
	if off := now.Sub(time.Unix(unix, 0)); off > Tolerance || off < -Tolerance {
		return fmt.Errorf("%w: it is %s from this clock, %s are allowed; check both clocks", ErrTimestamp, off.Round(time.Second), Tolerance)
	}
	head := appendHead(make([]byte, 0, 128), id, unix)
	if !anyMatches(keys, signatures, head, body) {
		return fmt.Errorf("%w: check that the secret is this endpoint's and that the body was not parsed and written again", ErrSignature)
	}
	return nil
}

// anyMatches tries every signature against every key. It does not stop at the
// first match of a symmetric key, so that time tells nothing about which fits.
func anyMatches(keys []Key, signatures string, head, body []byte) bool {
	var symmetric [][sha256.Size]byte
	for _, key := range keys {
		if key.shared != nil {
			symmetric = append(symmetric, key.shared.sum(head, body))
		}
	}
	matches, seen := false, 0
	for signature := range strings.SplitSeq(signatures, " ") {
		if seen++; seen > maxSignatures {
			break
		}
		if text, ok := strings.CutPrefix(signature, symmetricVersion); ok {
			given := decodeSignature(text, sha256.Size)
			for _, want := range symmetric {
				matches = hmac.Equal(given, want[:]) || matches
			}
		} else if text, ok := strings.CutPrefix(signature, asymmetricVersion); ok {
			matches = matchesPublic(keys, decodeSignature(text, ed25519.SignatureSize), head, body) || matches
		}
	}
	return matches
}

func matchesPublic(keys []Key, signature, head, body []byte) bool {
	if signature == nil {
		return false
	}
	var text []byte
	for _, key := range keys {
		if key.public == nil {
			continue
		}
		if text == nil {
			text = slices.Concat(head, body)
		}
		if ed25519.Verify(key.public, text, signature) {
			return true
		}
	}
	return false
}

// decodeSignature returns nil for what is not exactly size bytes in base64.
func decodeSignature(text string, size int) []byte {
	if len(text) != encoding.EncodedLen(size) || strings.ContainsAny(text, "\r\n") {
		return nil
	}
	raw, err := encoding.DecodeString(text)
	if err != nil || len(raw) != size {
		return nil
	}
	return raw
}

func single(header http.Header, name string) (string, error) {
	values := header.Values(name)
	if len(values) != 1 || values[0] == "" {
		return "", fmt.Errorf("%w: want exactly one %s", ErrHeaders, name)
	}
	return values[0], nil
}

// parseTimestamp accepts what senders write: decimal digits and nothing else.
// strconv alone would let "+1" stand for "1", two texts for one signature.
func parseTimestamp(text string) (int64, error) {
	unix, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(unix, 10) != text || unix < 0 {
		return 0, fmt.Errorf("%w: %s is not a whole number of seconds since 1970", ErrHeaders, HeaderTimestamp)
	}
	return unix, nil
}
