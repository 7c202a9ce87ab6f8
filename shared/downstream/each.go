package downstream

import (
	"context"
	"fmt"
	"sync"
)

// Each makes an Adapter of a function for one attempt. At most limit calls (at
// least one) run at once, over all calls of Deliver together; attempts start in
// the order of the batch. A panic becomes a Retry with ReasonPanic, and what has
// not started when ctx ends is NotStarted.
func Each(limit int, deliver func(ctx context.Context, a Attempt) Result) Adapter {
	return &each{slots: make(chan struct{}, max(limit, 1)), deliver: deliver}
}

type each struct {
	slots   chan struct{}
	deliver func(ctx context.Context, a Attempt) Result
}

// Deliver implements Adapter.
func (e *each) Deliver(ctx context.Context, attempts []Attempt, done func(i int, r Result)) {
	var running sync.WaitGroup
	defer running.Wait()
	for i, attempt := range attempts {
		if !e.acquire(ctx) {
			for left := i; left < len(attempts); left++ {
				done(left, notStarted())
			}
			return
		}
		running.Go(func() {
			var result Result
			func() {
				defer func() { <-e.slots }()
				result = e.run(ctx, attempt)
			}()
			done(i, result)
		})
	}
}

// acquire takes a slot; false means that ctx has ended.
func (e *each) acquire(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case e.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// run keeps the panic of one attempt away from its neighbours.
func (e *each) run(ctx context.Context, attempt Attempt) (result Result) {
	defer func() {
		if cause := recover(); cause != nil {
			result = panicked(cause)
		}
	}()
	return e.deliver(ctx, attempt)
}

func notStarted() Result {
	return Result{Verdict: NotStarted, Reason: ReasonNotStarted, Detail: "the time of the invocation was over"}
}

// panicked names the type of the panic only where its text could hold payload.
func panicked(cause any) Result {
	detail := fmt.Sprintf("panic of type %T", cause)
	if err, ok := cause.(interface{ RuntimeError() }); ok {
		detail = fmt.Sprint(err)
	}
	return Result{Verdict: Retry, Reason: ReasonPanic, Detail: detail}
}
