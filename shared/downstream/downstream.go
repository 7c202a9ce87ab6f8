// Package downstream says what an attempt at a delivery is, what can come of
// it, and how adapters for kinds of destinations are called.
//
// An adapter makes attempts and reports; it decides nothing about schedules,
// the ledger or queues. Its whole vocabulary is the Verdict. What an HTTP status
// means is written down once, in Classify.
package downstream

import (
	"context"
	"fmt"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/registry"
)

// Attempt is one try of one delivery. Adapters read it and keep nothing of it
// after they have reported.
type Attempt struct {
	PublicID    string                // constant over attempts; webhook-id
	Number      int                   // from 1
	Event       *events.Event         // never changed by an adapter
	Destination *registry.Destination // never changed by an adapter
	Trace       string                // X-Ray trace header of the running function, "" if none
}

// Verdict says what is to become of the delivery after an attempt. The zero
// value is Retry: whatever forgets to decide loses nothing.
type Verdict int

// The verdicts and their consequences.
const (
	Retry      Verdict = iota // try again as the destination's schedule says
	Throttle                  // try again, and slow the destination down
	Reject                    // dead letter at once: trying again cannot help
	Gone                      // the destination wants no more: disable it and park its deliveries
	Delivered                 // done
	NotStarted                // no attempt was made, nothing was sent: the attempt is not spent, its claim can be released
)

// String returns the verdict as it is written in logs.
func (v Verdict) String() string {
	switch v {
	case Retry:
		return "retry"
	case Throttle:
		return "throttle"
	case Reject:
		return "reject"
	case Gone:
		return "gone"
	case Delivered:
		return "delivered"
	case NotStarted:
		return "not-started"
	default:
		return fmt.Sprintf("verdict(%d)", int(v))
	}
}

// Result is what came of an attempt. Detail, Excerpt and Reason are bounded;
// Excerpt is the receiver's text and is not for logs.
type Result struct {
	Verdict    Verdict
	Code       int           // HTTP status or 0
	Reason     string        // one of the Reason constants or HTTPReason; "" when delivered
	Detail     string        // bounded, for logs; never payload or secrets
	RetryAfter time.Duration // as the receiver asked, 0 if it did not; at most 24 h
	Digest     string        // sha256 of the response body read, in hexadecimal; "" if there was no response
	Excerpt    []byte        // first 1 KiB of the (decompressed) response body
	Duration   time.Duration
}

// Why an attempt did not deliver. These words are stored, counted and searched
// for: they are never renamed.
const (
	ReasonTimeout            = "timeout"             // the time for the attempt ran out
	ReasonCanceled           = "canceled"            // the caller gave up in the middle of the attempt
	ReasonNotStarted         = "not-started"         // the caller's time was over before the attempt began
	ReasonDNS                = "dns"                 // the name does not resolve
	ReasonTLS                = "tls"                 // no secure connection: certificate, version, or no TLS at all
	ReasonRefused            = "connection-refused"  // nobody listens
	ReasonReset              = "connection-reset"    // the receiver broke the connection off
	ReasonClosed             = "connection-closed"   // the receiver closed the connection without an answer
	ReasonUnreachable        = "unreachable"         // no route to the receiver
	ReasonProtocol           = "protocol"            // the answer is not one that the protocol allows
	ReasonIncompleteResponse = "incomplete-response" // a success was announced, but its response broke off
	ReasonRedirect           = "redirect"            // 3xx; never followed
	ReasonBlockedAddress     = "blocked-address"     // the egress guard forbids the address
	ReasonBadConfiguration   = "bad-configuration"   // the destination cannot be called as it is configured
	ReasonBadEvent           = "bad-event"           // the event cannot be expressed in the destination's protocol
	ReasonUnsupportedType    = "unsupported-destination-type"
	ReasonPanic              = "panic"     // a bug in the adapter; its neighbours are unharmed
	ReasonNoResult           = "no-result" // a bug in the adapter: it returned without a result
)

// Adapter delivers attempts to destinations of one type. Deliver calls done
// exactly once for each attempt, with its index, from any goroutine, as soon as
// its result is known, and returns when all are done. When ctx ends it reports
// what is left without delay: as NotStarted what it has not begun. It is
// safe for concurrent use; done must be safe for concurrent use too, and quick.
//
// A batch goes in so that adapters for batch APIs (SQS, SNS, EventBridge,
// Kinesis) can put several in one call.
type Adapter interface {
	Deliver(ctx context.Context, attempts []Attempt, done func(i int, r Result))
}
