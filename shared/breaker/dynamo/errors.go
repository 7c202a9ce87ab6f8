package dynamo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/shared/breaker"
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
	switch plainCode(e.Code) {
	case "ResourceNotFound":
		s += fmt.Sprintf(" (table %q does not exist in this account and region: deploy it, or correct the setting that names it)", e.Table)
	case "AccessDenied":
		s += fmt.Sprintf(" (the role may not do this to table %q: see the permissions in the documentation of package dynamo)", e.Table)
	}
	return s
}

// Unwrap gives kind and cause.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Cause} }

func plainCode(code string) string { return strings.TrimSuffix(code, "Exception") }

// kindOf maps a code of DynamoDB to the sentinel that says what the caller may do.
func kindOf(code string) error {
	switch plainCode(code) {
	case "ConditionalCheckFailed":
		return breaker.ErrRefused
	case "Throttling", "ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded",
		"TransactionConflict", "TransactionInProgress", "ReplicatedWriteConflict":
		return breaker.ErrThrottled
	}
	return breaker.ErrUnknown
}

// failed is the error of a call, and the row that made its condition fail. Whatever carries no code of DynamoDB got no answer.
func (s *Store) failed(operation, destination string, err error) (breaker.Row, *Error) {
	e := &Error{Operation: operation, Table: s.table, Destination: destination, Kind: breaker.ErrUnknown, Cause: err}
	var api smithy.APIError
	if errors.As(err, &api) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		e.Code = api.ErrorCode()
		e.Kind = kindOf(e.Code)
	}
	var refused *types.ConditionalCheckFailedException
	if errors.As(err, &refused) {
		return decode(refused.Item), e
	}
	return breaker.Row{}, e
}
