package secrets

import (
	"errors"
	"fmt"
)

// What can be wrong. All of it is our own side's fault, to be mended or waited for.
var (
	ErrUnavailable = errors.New("the service that keeps the secret gives no answer now; deliveries follow when it does")
	ErrNotFound    = errors.New("the secret does not exist; create it, restore it, or correct the ARN of the destination")
	ErrDenied      = errors.New("the secret may not be read; allow the function secretsmanager:GetSecretValue or ssm:GetParameter on it, and kms:Decrypt on its key")
	ErrContent     = errors.New("what is stored is no signing secret; store whsec_…, or several separated by white space")
	ErrTooMany     = errors.New("the destination has more keys than can sign; remove those that no receiver checks any more")
)

// Error says which secret could not be had and why. It never holds any part of what is stored.
type Error struct {
	ARN         string // "" if it is not about one
	Destination string // its id, for ErrTooMany
	Kind        error  // one of the sentinels, for errors.Is
	Detail      string // what happened, in words; bounded
	cause       error  // of the caller's context
}

// Error gives ARN or destination, kind and detail.
func (e *Error) Error() string {
	about := e.ARN
	if about == "" {
		about = "destination " + e.Destination
	}
	return fmt.Sprintf("secrets: %s: %v (%s)", about, e.Kind, e.Detail)
}

// Unwrap gives Kind and, if the caller's context ended, its error.
func (e *Error) Unwrap() []error {
	if e.cause != nil {
		return []error{e.Kind, e.cause}
	}
	return []error{e.Kind}
}
