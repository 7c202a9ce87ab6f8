package system

import (
	"context"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// lifeKey is where a handler's context keeps the context that ends with the invocation, so that context.WithoutCancel does not
// hide it.
type lifeKey struct{}

// alive marks ctx, which ends with an invocation, as the life of everything that is done under it.
func alive(ctx context.Context) context.Context { return context.WithValue(ctx, lifeKey{}, ctx) }

// living is the HTTP client of the functions. Lambda's sandboxes are killed or frozen when an invocation ends; our goroutines go on.
// So no call is begun for an invocation that is over (answered, timed out or crashed), and one under way is cut off.
// What the endpoint had received by then may still take effect at that moment, as on AWS, and not later.
type living struct{ client aws.HTTPClient }

// Do makes a call.
func (l living) Do(r *http.Request) (*http.Response, error) {
	life, ok := r.Context().Value(lifeKey{}).(context.Context)
	if !ok {
		return l.client.Do(r)
	}
	if life.Err() != nil {
		return nil, fmt.Errorf("the invocation is over: %w", context.Cause(life))
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	// Not stopped when Do returns: the answer's body is read later. The invocation's end releases it in any case.
	context.AfterFunc(life, func() { cancel(context.Cause(life)) })
	return l.client.Do(r.WithContext(ctx))
}
