// Package outcome lets a handler say what should become of a message by the error it returns.
//
// A handler returns nil to acknowledge a message, or one of the errors made here. Any other error means
// a retry: what is not understood is never dropped. One switch, in package shared/batch, turns an outcome
// into SQS behaviour; nothing else in Waybill decides about acknowledging.
//
// Values are immutable and safe for concurrent use.
package outcome

import (
	"errors"
	"fmt"
	"time"
)

// Kind is what should become of a message.
type Kind int

// The kinds, from best to worst for the message.
const (
	// Acknowledged deletes the message: it was handled, or a durable successor exists.
	Acknowledged Kind = iota
	// Deferred sends the message again with a delay and deletes the old one: nothing was tried, no attempt and no
	// receive count is spent. For faults of our own and for messages that are not due yet.
	Deferred
	// Retried leaves the message to SQS, visible again after Delay. It spends a receive.
	Retried
	// Rejected sends the message to the dead-letter queue with its reason and deletes it: no retry can mend it.
	Rejected
)

// String gives the kind in the words used in logs.
func (k Kind) String() string {
	switch k {
	case Acknowledged:
		return "acknowledge"
	case Deferred:
		return "defer"
	case Retried:
		return "retry"
	case Rejected:
		return "reject"
	}
	return fmt.Sprintf("kind %d", int(k))
}

// Error carries an outcome. Make one with Retry, RetryAfter, Defer or Reject. Delay is meaningful for Deferred and Retried (0 for Retried: the batch package's own
// back-off); Reason, a short stable word such as "bad-cloudevent", for Rejected.
type Error struct {
	Kind   Kind
	Delay  time.Duration
	Reason string
	Err    error
}

// Error gives the outcome and its cause.
func (e *Error) Error() string {
	if e == nil {
		return "no outcome"
	}
	s := e.Kind.String()
	if e.Reason != "" {
		s += " (" + e.Reason + ")"
	}
	if e.Delay > 0 {
		s += " after " + e.Delay.String()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Err
}

// Retry leaves the message to SQS with the default back-off.
func Retry(err error) error { return &Error{Kind: Retried, Err: err} }

// RetryAfter leaves the message to SQS, visible again after d.
func RetryAfter(d time.Duration, err error) error { return &Error{Kind: Retried, Delay: d, Err: err} }

// Defer sends the message again with delay d and acknowledges the old one; no attempt is spent.
func Defer(d time.Duration, err error) error { return &Error{Kind: Deferred, Delay: d, Err: err} }

// Reject sends the message to the dead-letter queue with a short stable reason.
func Reject(reason string, err error) error { return &Error{Kind: Rejected, Reason: reason, Err: err} }

// Of reads the outcome of what a handler returned. Nil, and nothing else, is Acknowledged: an error without an outcome, or
// with one that is none of Deferred, Retried and Rejected, is Retried. Of joined errors the first outcome found counts.
func Of(err error) Error {
	if err == nil {
		return Error{Kind: Acknowledged}
	}
	var e *Error
	if errors.As(err, &e) && e != nil {
		switch e.Kind {
		case Deferred, Retried, Rejected:
			return *e
		}
	}
	// The zero Kind is Acknowledged: an Error whose maker forgot the kind must not delete the message.
	return Error{Kind: Retried, Err: err}
}
