package telemetry

import (
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"
)

// The keys of log fields. Queries in runbooks use these and no others; Fields lists them.
const (
	KeyFunction     = "function"          // name of the function
	KeyRequestID    = "requestId"         // of the invocation
	KeyEvent        = "event"             // id of the event, as its producer gave it
	KeyDelivery     = "delivery"          // id of the delivery
	KeyDestination  = "destination"       // id of the destination
	KeyTenant       = "tenant"            // whose event it is
	KeyEpoch        = "epoch"             // deliberate restarts of the delivery so far
	KeyAttempt      = "attempt"           // number of the attempt
	KeyTrace        = "trace"             // X-Ray trace header
	KeyCode         = "code"              // the receiver's last status
	KeyReason       = "reason"            // short stable word that says why
	KeyDetail       = "detail"            // for people; never payload
	KeyThen         = "then"              // what follows a failed attempt
	KeyMessageID    = "messageId"         // SQS's id of the message
	KeyOriginalID   = "originalMessageId" // SQS's id of the message that this one is a copy of
	KeyReceiveCount = "receiveCount"      // SQS's count of receives
	KeyOutcome      = "outcome"           // what a handler wants to become of a message
	KeyWait         = "waitSeconds"       // until something is tried again
	KeyBehind       = "behind"            // id of the message whose FIFO group this one waits in
	KeyError        = "error"             // an error of ours or of AWS
	KeyMishap       = "mishap"            // what went wrong while a message was settled
	KeyStack        = "stack"             // of a panic
	KeyRecords      = "records"           // number of messages
)

// Fields lists the keys of all log fields.
func Fields() []string {
	return []string{
		KeyFunction, KeyRequestID, KeyEvent, KeyDelivery, KeyDestination, KeyTenant, KeyEpoch, KeyAttempt, KeyTrace, KeyCode, KeyReason, KeyDetail,
		KeyThen, KeyMessageID, KeyOriginalID, KeyReceiveCount, KeyOutcome, KeyWait, KeyBehind, KeyError, KeyMishap, KeyStack, KeyRecords,
	}
}

// Text gives a field whose text is valid UTF-8 of at most MaxValueBytes, an ellipsis included: ids and names from outside can be of any length.
func Text[T ~string](key string, value T) slog.Attr { return slog.String(key, bounded(string(value))) }

// Wait gives the field KeyWait in seconds.
func Wait(d time.Duration) slog.Attr {
	return slog.Float64(KeyWait, d.Round(time.Millisecond).Seconds())
}

// Error gives the field KeyError, bounded like Text. A nil error is an empty text.
func Error(err error) slog.Attr {
	if err == nil {
		return slog.String(KeyError, "")
	}
	return Text(KeyError, err.Error())
}

// Subject says which attempt of which delivery a line is about. Fields that are zero are left out of it.
type Subject struct {
	Event, Delivery, Destination, Tenant, Trace string
	Epoch, Attempt                              int
}

// Attrs gives the subject under the fixed keys, and room for a few more.
func (s Subject) Attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 12)
	for _, f := range [...]struct{ key, value string }{
		{KeyEvent, s.Event}, {KeyDelivery, s.Delivery}, {KeyDestination, s.Destination}, {KeyTenant, s.Tenant}, {KeyTrace, s.Trace},
	} {
		if f.value != "" {
			attrs = append(attrs, Text(f.key, f.value))
		}
	}
	if s.Attempt > 0 { // an epoch counts from 0 and means nothing without an attempt
		attrs = append(attrs, slog.Int(KeyEpoch, s.Epoch), slog.Int(KeyAttempt, s.Attempt))
	}
	return attrs
}

// bounded gives s as valid UTF-8 of at most MaxValueBytes.
func bounded(s string) string {
	const ellipsis = "…"
	if len(s) > MaxValueBytes {
		end := MaxValueBytes - len(ellipsis)
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end] + ellipsis
	}
	return strings.ToValidUTF8(s, "?") // no longer than the byte it replaces
}
