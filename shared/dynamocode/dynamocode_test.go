package dynamocode_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/shared/dynamocode"
)

func TestOf(t *testing.T) {
	answer := &smithy.GenericAPIError{Code: "ThrottlingException"}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"an answer":                   {fmt.Errorf("call: %w", answer), "ThrottlingException"},
		"no answer":                   {errors.New("connection reset"), ""},
		"nobody waited":               {errors.Join(answer, context.Canceled), ""},
		"nobody waited for that long": {errors.Join(answer, context.DeadlineExceeded), ""},
		"no error":                    {nil, ""},
	} {
		if got := dynamocode.Of(c.err); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A code is in one class at most, as a call's and as a statement's, and what is not known is in none: its outcome is unknown.
func TestClasses(t *testing.T) {
	for code, want := range map[string]string{
		"Throttling": "throttled", "ProvisionedThroughputExceeded": "throttled", "RequestLimitExceeded": "throttled", "TransactionConflict": "throttled",
		"TransactionInProgress": "throttled", "ReplicatedWriteConflict": "throttled", "ThrottlingError": "throttled",
		"AccessDenied": "unsupported", "Validation": "unsupported", "ValidationError": "unsupported", "UnknownOperation": "unsupported", "NotImplemented": "unsupported",
		"InternalServerError": "", "ConditionalCheckFailed": "", "DuplicateItem": "", "": "",
	} {
		for _, form := range []string{code, code + "Exception"} {
			got := ""
			if dynamocode.Throttled(form) {
				got += "throttled"
			}
			if dynamocode.Unsupported(form) {
				got += "unsupported"
			}
			if got != want {
				t.Errorf("%q is %q, want %q", form, got, want)
			}
		}
	}
}

func TestHint(t *testing.T) {
	for code, want := range map[string]string{
		"ResourceNotFoundException": ` (table "t" does not exist`, "AccessDenied": `(the role may not do this to table "t": grant it)`, "Throttling": "",
	} {
		if got := dynamocode.Hint(code, "t", "grant it"); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", code, got, want)
		}
	}
}
