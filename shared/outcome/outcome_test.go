package outcome_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/outcome"
)

var errCause = errors.New("cause")

func TestOf(t *testing.T) {
	var none *outcome.Error
	tests := map[string]struct {
		give error
		want outcome.Error
	}{
		"nil":             {nil, outcome.Error{Kind: outcome.Acknowledged}},
		"unknown":         {errCause, outcome.Error{Kind: outcome.Retried, Err: errCause}},
		"retry":           {outcome.Retry(errCause), outcome.Error{Kind: outcome.Retried, Err: errCause}},
		"retry after":     {outcome.RetryAfter(time.Minute, errCause), outcome.Error{Kind: outcome.Retried, Delay: time.Minute, Err: errCause}},
		"defer":           {outcome.Defer(time.Second, errCause), outcome.Error{Kind: outcome.Deferred, Delay: time.Second, Err: errCause}},
		"reject":          {outcome.Reject("bad", errCause), outcome.Error{Kind: outcome.Rejected, Reason: "bad", Err: errCause}},
		"reject, no more": {outcome.Reject("bad", nil), outcome.Error{Kind: outcome.Rejected, Reason: "bad"}},
		"wrapped":         {fmt.Errorf("route: %w", outcome.Reject("bad", errCause)), outcome.Error{Kind: outcome.Rejected, Reason: "bad", Err: errCause}},
		"first of joined": {errors.Join(errCause, outcome.Defer(time.Second, nil), outcome.Reject("bad", nil)), outcome.Error{Kind: outcome.Deferred, Delay: time.Second}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := outcome.Of(tt.give); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	// What is not understood is never dropped: only a plain nil acknowledges.
	for name, err := range map[string]error{
		"nil pointer":       none,
		"forgotten kind":    &outcome.Error{Err: errCause},
		"explicit":          &outcome.Error{Kind: outcome.Acknowledged},
		"joined, forgotten": errors.Join(&outcome.Error{}, errCause),
		"kind of tomorrow":  &outcome.Error{Kind: 42},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcome.Of(err); got.Kind != outcome.Retried || !errors.Is(got.Err, err) {
				t.Errorf("got %+v", got)
			}
			_ = err.Error() // must not panic
		})
	}
}

func TestErrorText(t *testing.T) {
	tests := []struct {
		give error
		want string
	}{
		{outcome.Retry(errCause), "retry: cause"},
		{outcome.RetryAfter(time.Minute, errCause), "retry after 1m0s: cause"},
		{outcome.Defer(time.Second, nil), "defer after 1s"},
		{outcome.Reject("bad-cloudevent", errCause), "reject (bad-cloudevent): cause"},
		{&outcome.Error{}, "acknowledge"},
		{&outcome.Error{Kind: 42}, "kind 42"},
	}
	for _, tt := range tests {
		if got := tt.give.Error(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestCauseIsFound(t *testing.T) {
	for _, err := range []error{outcome.Retry(errCause), outcome.RetryAfter(1, errCause), outcome.Defer(1, errCause), outcome.Reject("x", errCause)} {
		if !errors.Is(err, errCause) {
			t.Errorf("%v hides its cause", err)
		}
	}
}

func ExampleReject() {
	handle := func(body string) error {
		if body == "" {
			return outcome.Reject("empty-body", errors.New("an event needs a body"))
		}
		return nil
	}
	fmt.Println(handle(""))
	// Output: reject (empty-body): an event needs a body
}
