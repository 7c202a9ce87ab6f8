package wire

import (
	"context"
	"net/http"
	"strings"
)

// Access is what a call needs its caller to be allowed: an IAM action on a resource.
type Access struct {
	Action   string // such as "sqs:SendMessage"; operations on batches need the action of their single form, statements of PartiQL one each of their own
	Resource string // its ARN; "*" for operations that concern no one resource
}

// Policy says what a caller may do. It is safe for concurrent use.
type Policy interface {
	// Principal is the ARN by which refusals name the caller.
	Principal() string
	// Allows tells whether the caller may; it is asked once for each thing that a call is about to do.
	Allows(Access) bool
}

type policyKey struct{}

// WithPolicy gives a context for the calls of a caller who may do what the policy allows. Without one, callers may do everything.
func WithPolicy(ctx context.Context, p Policy) context.Context {
	return context.WithValue(ctx, policyKey{}, p)
}

// Authorize gives the refusal of a call whose caller may not do that; nil if he may. Like AWS, a service asks before it tells whether the resource exists.
func Authorize(ctx context.Context, action, resource string) *Error {
	p, ok := ctx.Value(policyKey{}).(Policy)
	if !ok || p.Allows(Access{action, resource}) {
		return nil
	}
	told := action
	refusal := &Error{Code: "AccessDeniedException", Status: http.StatusBadRequest}
	if strings.HasPrefix(action, "sqs:") { // the one that speaks as services of its age did
		told, refusal.QueryCode, refusal.Status = strings.ToLower(action), "AccessDenied", http.StatusForbidden
	}
	refusal.Message = "User: " + p.Principal() + " is not authorized to perform: " + told + " on resource: " + resource +
		" because no identity-based policy allows the " + told + " action"
	return refusal
}

// Restricted tells whether the caller may do some things only.
func Restricted(ctx context.Context) bool { return ctx.Value(policyKey{}) != nil }

// SessionToken is the session token with which the code of a function signs its calls here. In Lambda, too, it has credentials of a session of the function's role.
func SessionToken(function string) string { return "session-of-" + function }
