// Package dynamocode knows DynamoDB's error codes: which one an error carries, and what it says about what was asked for. Drivers turn them
// into their own sentinels.
package dynamocode

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"
)

// Of gives the code of a whole call that failed. It is empty where DynamoDB has not answered or nobody has waited for the answer: then
// the outcome is unknown.
func Of(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return ""
	}
	return api.ErrorCode()
}

// Plain takes the suffix off: whole calls are refused with it ("AccessDeniedException"), statements without ("AccessDenied").
func Plain(code string) string { return strings.TrimSuffix(code, "Exception") }

// Throttled tells that nothing was written, and later it will be.
func Throttled(code string) bool {
	switch Plain(code) {
	case "Throttling", "ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded",
		// Lost against a transaction or another region's write.
		"TransactionConflict", "TransactionInProgress", "ReplicatedWriteConflict":
		return true
	}
	return false
}

// Unsupported tells that the account or the endpoint refuses this form of writing, so that nothing was written and another form may do.
func Unsupported(code string) bool {
	switch Plain(code) {
	case "AccessDenied", "Validation", "ValidationError",
		// Emulators that do not know PartiQL say so in these words.
		"UnknownOperation", "NotImplemented":
		return true
	}
	return false
}

// Hint says in brackets, after a space, what can be done about a code; it is empty where that is not known. permissions are those that the
// driver needs, or where they stand.
func Hint(code, table, permissions string) string {
	switch Plain(code) {
	case "ResourceNotFound":
		return fmt.Sprintf(" (table %q does not exist in this account and region: deploy it, or correct the setting that names it)", table)
	case "AccessDenied":
		return fmt.Sprintf(" (the role may not do this to table %q: %s)", table, permissions)
	}
	return ""
}
