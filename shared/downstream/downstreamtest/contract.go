// Package downstreamtest holds adapters to the contract of downstream.Adapter.
package downstreamtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/downstream"
)

// prompt is the real time that an adapter may take to give up. Only a broken
// adapter waits for it.
const prompt = 10 * time.Second

// Contract checks what every adapter promises, whatever its destinations do:
// each attempt is reported exactly once and nothing else is, nothing is reported
// after Deliver has returned, batches may run at the same time, and when the
// context ends Deliver returns soon, with attempts that had not begun as
// NotStarted, or Reject where that needed no beginning. attempt makes the attempts; it is called with 0, 1, 2, ….
func Contract(t *testing.T, adapter downstream.Adapter, attempt func(i int) downstream.Attempt) {
	t.Helper()
	for _, size := range []int{0, 1, 2, 10, 100} {
		t.Run(fmt.Sprintf("batch of %d", size), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			deliver(ctx, t, adapter, size, attempt)
		})
	}
	t.Run("batches at the same time", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		var running sync.WaitGroup
		for range 4 {
			running.Go(func() { deliver(ctx, t, adapter, 10, attempt) })
		}
		running.Wait()
	})
	t.Run("context over before it begins", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for i, r := range deliver(ctx, t, adapter, 10, attempt) {
			if r.Verdict != downstream.NotStarted && r.Verdict != downstream.Reject {
				t.Errorf("attempt %d is %s although the time was over", i, r.Verdict)
			}
		}
	})
}

// deliver makes one batch and checks the reports.
func deliver(ctx context.Context, t *testing.T, adapter downstream.Adapter, size int, attempt func(i int) downstream.Attempt) []downstream.Result {
	t.Helper()
	attempts := make([]downstream.Attempt, size)
	for i := range attempts {
		attempts[i] = attempt(i)
	}
	var mu sync.Mutex
	over := false
	results, reports := make([]downstream.Result, size), make([]int, size)
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		adapter.Deliver(ctx, attempts, func(i int, r downstream.Result) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case over:
				t.Errorf("attempt %d reported after Deliver returned", i)
			case i < 0 || i >= size:
				t.Errorf("report for attempt %d of %d", i, size)
			default:
				results[i] = r
				reports[i]++
			}
		})
	}()
	select {
	case <-returned:
	case <-time.After(prompt):
		t.Errorf("Deliver did not return within %s", prompt)
	}
	mu.Lock()
	defer mu.Unlock()
	over = true
	for i, n := range reports {
		if n != 1 {
			t.Errorf("attempt %d reported %d times", i, n)
		}
	}
	return results
}
