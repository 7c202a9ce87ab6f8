package downstream

import (
	"context"
	"fmt"
	"sync"
)

// Mux routes attempts to the adapter of their destination's Type. Each adapter
// gets its attempts as one batch, in their order; adapters run side by side. An
// unknown type is rejected with ReasonUnsupportedType.
//
// Mux holds adapters to their contract: a panic of Deliver, or a return without
// a result, becomes a Retry of what has none, and a second result for the same
// attempt is dropped. It is safe for concurrent use as long as nobody changes
// the map.
type Mux map[string]Adapter

var _ Adapter = Mux(nil)

// Deliver implements Adapter.
func (m Mux) Deliver(ctx context.Context, attempts []Attempt, done func(i int, r Result)) {
	var types []string
	indexes := map[string][]int{}
	for i, attempt := range attempts {
		name := ""
		if attempt.Destination != nil {
			name = attempt.Destination.Type
		}
		if m[name] == nil {
			done(i, Result{
				Verdict: Reject, Reason: ReasonUnsupportedType,
				Detail: fmt.Sprintf("no adapter for destinations of type %.40q", name),
			})
			continue
		}
		if indexes[name] == nil {
			types = append(types, name)
		}
		indexes[name] = append(indexes[name], i)
	}
	var running sync.WaitGroup
	defer running.Wait()
	for _, name := range types {
		running.Go(func() { deliverTo(ctx, m[name], attempts, indexes[name], done) })
	}
}

// deliverTo gives one adapter its share of the batch.
func deliverTo(ctx context.Context, adapter Adapter, attempts []Attempt, indexes []int, done func(i int, r Result)) {
	share := make([]Attempt, len(indexes))
	for i, index := range indexes {
		share[i] = attempts[index]
	}
	var mu sync.Mutex
	reported := make([]bool, len(share))
	report := func(i int, r Result) {
		mu.Lock()
		first := i >= 0 && i < len(reported) && !reported[i]
		if first {
			reported[i] = true
		}
		mu.Unlock()
		if first {
			done(indexes[i], r)
		}
	}
	missing := Result{Verdict: Retry, Reason: ReasonNoResult, Detail: "the adapter returned without a result"}
	defer func() {
		if cause := recover(); cause != nil {
			missing = panicked(cause)
		}
		for i := range share {
			report(i, missing)
		}
	}()
	adapter.Deliver(ctx, share, report)
}
