package dynamo

import (
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/dynamocode"
	"github.com/waybillhq/waybill/shared/registry"
)

// Error is why the registry was not read or written. errors.Is finds the sentinel of package registry in it.
type Error struct {
	Operation string // "current", "document", "versions", "apply", "prune", "pause", "resume", "disable", "enable", "record", "releases"
	Table     string
	Part, Row string
	Code      string // DynamoDB's error code; empty when there was no answer
	Kind      error  // registry.ErrChanged, ErrGone, ErrDamaged, ErrThrottled or ErrUnknown
	Cause     error  // nil where Kind says it all
}

// Error names operation, row and cause, and what can be done about it where that is known.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s %.80q in %.80q: %v", e.Operation, e.Row, e.Part, e.Kind)
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

// kindOf maps a code of DynamoDB to the sentinel that says what the caller may do. A refused condition is dealt with where it is made.
func kindOf(code string) error {
	if dynamocode.Throttled(code) {
		return registry.ErrThrottled
	}
	return registry.ErrUnknown
}

// failed is the error of a call. Whatever carries no code of DynamoDB got no answer.
func (s *Store) failed(operation, part, row string, err error) *Error {
	e := &Error{Operation: operation, Table: s.table, Part: part, Row: row, Kind: registry.ErrUnknown, Cause: err}
	if e.Code = dynamocode.Of(err); e.Code != "" {
		e.Kind = kindOf(e.Code)
	}
	return e
}

// refused finds the item that made a condition fail.
func refused(err error) (item attributes, is bool) {
	var failed *types.ConditionalCheckFailedException
	if !errors.As(err, &failed) {
		return nil, false
	}
	return failed.Item, true
}
