package dynamo

import (
	"errors"
	"fmt"

	"github.com/waybillhq/waybill/shared/dynamocode"
	"github.com/waybillhq/waybill/shared/waiting"
)

// Error is why a row was not written or read. errors.Is finds the sentinel of package waiting in it.
type Error struct {
	Operation   string // "put", "delete", "read", "scan", "advance", "save scan"
	Table       string
	Bucket, Row string
	Code        string // DynamoDB's error code, of the statement or of the call; empty when there was no answer
	Kind        error  // waiting.ErrRefused, ErrThrottled or ErrUnknown
	Cause       error  // nil where Kind says it all
}

// Error names operation, row and cause, and what can be done about it where that is known.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s %.80q in %.80q: %v", e.Operation, e.Row, e.Bucket, e.Kind)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s + dynamocode.Hint(e.Code, e.Table, "see the permissions in the documentation of package dynamo")
}

// Unwrap gives kind and cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// errUnsupported marks what the account refuses in this form. To callers of the package it is an unknown outcome.
var errUnsupported = fmt.Errorf("%w: this form of writing is refused", waiting.ErrUnknown)

// kindOf maps a code of DynamoDB to the sentinel that says what the caller may do. An unknown code means an unknown outcome.
func kindOf(code string) error {
	switch {
	case dynamocode.Plain(code) == "ConditionalCheckFailed":
		return waiting.ErrRefused
	case dynamocode.Throttled(code):
		return waiting.ErrThrottled
	case dynamocode.Unsupported(code):
		return errUnsupported
	}
	return waiting.ErrUnknown
}

// refused is the error of one statement of a batch.
func (s *Store) refused(operation, bucket, row, code, message string) *Error {
	e := &Error{Operation: operation, Table: s.table, Bucket: bucket, Row: row, Code: code, Kind: kindOf(code)}
	if !errors.Is(e.Kind, waiting.ErrRefused) {
		e.Cause = fmt.Errorf("%s: %s", code, message)
	}
	return e
}

// failed is the error of a whole call. Whatever carries no code of DynamoDB got no answer.
func (s *Store) failed(operation, bucket, row string, err error) *Error {
	e := &Error{Operation: operation, Table: s.table, Bucket: bucket, Row: row, Kind: waiting.ErrUnknown, Cause: err}
	if e.Code = dynamocode.Of(err); e.Code != "" {
		e.Kind = kindOf(e.Code)
	}
	return e
}
