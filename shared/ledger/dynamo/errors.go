package dynamo

import (
	"errors"
	"fmt"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/dynamocode"
	"github.com/waybillhq/waybill/shared/ledger"
)

// Error is why one entry was not written or read. errors.Is finds the sentinel of package ledger in it.
type Error struct {
	Operation string // "claim", "settle", "release", "record", "read"
	Table     string
	Delivery  delivery.ID
	Code      string // DynamoDB's error code, of the statement or of the call; empty when there was no answer
	Kind      error  // ledger.ErrRefused, ErrThrottled, ErrUnknown or ErrUnsupported
	Cause     error  // nil where Kind says it all
}

// Error names operation, delivery and cause, and what can be done about it where that is known.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s delivery %.64q: %v", e.Operation, string(e.Delivery), e.Kind)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s + dynamocode.Hint(e.Code, e.Table,
		"grant dynamodb:UpdateItem, dynamodb:BatchGetItem and, for the batch form, dynamodb:PartiQLInsert and dynamodb:PartiQLUpdate")
}

// Unwrap gives kind and cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// errDuplicateItem is what an INSERT meets where a row exists. It never leaves the package.
var errDuplicateItem = errors.New("a row exists already")

// kindOf maps a code of DynamoDB to the sentinel that says what the caller may do. An unknown code means an unknown outcome.
func kindOf(code string) error {
	switch {
	case dynamocode.Plain(code) == "ConditionalCheckFailed":
		return ledger.ErrRefused
	case dynamocode.Plain(code) == "DuplicateItem":
		return errDuplicateItem
	case dynamocode.Throttled(code):
		return ledger.ErrThrottled
	case dynamocode.Unsupported(code):
		return ledger.ErrUnsupported
	}
	return ledger.ErrUnknown
}

// source is where errors come from: the operation and the table.
type source struct{ operation, table string }

func (s source) fault(id delivery.ID, kind, cause error) *Error {
	return &Error{Operation: s.operation, Table: s.table, Delivery: id, Kind: kind, Cause: cause}
}

// statement is the error of one statement of a batch.
func (s source) statement(id delivery.ID, code, message string) *Error {
	e := s.fault(id, kindOf(code), nil)
	e.Code = code
	if !errors.Is(e.Kind, ledger.ErrRefused) {
		e.Cause = fmt.Errorf("%s: %s", code, message)
	}
	return e
}

// call is the error of a whole call. Whatever carries no code of DynamoDB got no answer.
func (s source) call(id delivery.ID, err error) *Error {
	e := s.fault(id, ledger.ErrUnknown, err)
	if e.Code = dynamocode.Of(err); e.Code != "" {
		e.Kind = kindOf(e.Code)
	}
	return e
}
