// Package wire holds what the services of shared/awslocal have in common: how a call
// reaches a service, how a service refuses one, and what a call cost.
package wire

import (
	"context"
	"fmt"
)

// Service is one emulated AWS service. Do is safe for concurrent use.
type Service interface {
	// Name is the service's short name as the AWS CLI spells it: "sqs", "dynamodb".
	Name() string
	// Do runs one operation. body is the JSON request document of the service's AWS JSON protocol; the
	// result is the JSON response document. An error that is not an *Error is reported as an internal failure.
	// An operation that the service does not know gives UnknownOperation(op).
	Do(ctx context.Context, op string, body []byte) (Response, error)
}

// Response is what a successful call gives back.
type Response struct {
	Body  []byte // JSON document; nil means {}
	Units Units  // capacity that the call consumed
}

// Units are DynamoDB capacity units.
type Units struct {
	Read  float64
	Write float64
}

// Add gives the sum of both.
func (u Units) Add(v Units) Units { return Units{Read: u.Read + v.Read, Write: u.Write + v.Write} }

// Error is a refusal in AWS's own words.
type Error struct {
	Code      string         // shape name without namespace: "ConditionalCheckFailedException"
	QueryCode string         // the legacy code that SQS's query protocol uses, where it differs: "AWS.SimpleQueueService.NonExistentQueue"
	Message   string         //
	Status    int            // HTTP status; 0 means 400
	Fields    map[string]any // further members of the error document, such as "Item"
	Units     Units          // capacity that the refused call consumed all the same
}

// Error gives code and message.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Message) }

// Errorf builds a refusal with status 400.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Status: 400}
}

// UnknownOperation refuses an operation that this endpoint does not implement.
func UnknownOperation(service, op string) *Error {
	return Errorf("UnknownOperationException", "the local endpoint does not implement %s %s", service, op)
}
