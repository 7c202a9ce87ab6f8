package dynamo

import (
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/dynamocode"
)

// Error is why a row was not read or written. errors.Is finds the sentinel of package breaker in it.
type Error struct {
	Operation   string // "all", "get", "add", "move"
	Table       string
	Destination string // empty for all of them
	Code        string // DynamoDB's error code; empty when there was no answer
	Kind        error  // breaker.ErrRefused, ErrThrottled or ErrUnknown
	Cause       error
}

// Error names operation, destination and cause, and what can be done about it where that is known.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s %.80q: %v: %v", e.Operation, e.Destination, e.Kind, e.Cause)
	return s + dynamocode.Hint(e.Code, e.Table, "see the permissions in the documentation of package dynamo")
}

// Unwrap gives kind and cause.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Cause} }

// kindOf maps a code of DynamoDB to the sentinel that says what the caller may do.
func kindOf(code string) error {
	switch {
	case dynamocode.Plain(code) == "ConditionalCheckFailed":
		return breaker.ErrRefused
	case dynamocode.Throttled(code):
		return breaker.ErrThrottled
	}
	return breaker.ErrUnknown
}

// failed is the error of a call, and the row that made its condition fail. Whatever carries no code of DynamoDB got no answer.
func (s *Store) failed(operation, destination string, err error) (breaker.Row, *Error) {
	e := &Error{Operation: operation, Table: s.table, Destination: destination, Kind: breaker.ErrUnknown, Cause: err}
	if e.Code = dynamocode.Of(err); e.Code != "" {
		e.Kind = kindOf(e.Code)
	}
	var refused *types.ConditionalCheckFailedException
	if errors.As(err, &refused) {
		return decode(refused.Item), e
	}
	return breaker.Row{}, e
}
