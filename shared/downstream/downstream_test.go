package downstream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/downstream/downstreamtest"
	"github.com/waybillhq/waybill/shared/registry"
)

// tableOfVerdicts repeats the table in words of its own: status, verdict.
func tableOfVerdicts(status int) downstream.Verdict {
	switch {
	case status >= 200 && status < 300:
		return downstream.Delivered
	case slices.Contains([]int{400, 405, 411, 413, 414, 415, 422, 431, 501, 505}, status):
		return downstream.Reject
	case status == 410:
		return downstream.Gone
	case slices.Contains([]int{429, 502, 503, 504}, status):
		return downstream.Throttle
	default:
		return downstream.Retry
	}
}

func TestClassifyEveryStatus(t *testing.T) {
	for status := 100; status <= 599; status++ {
		want := tableOfVerdicts(status)
		if got := downstream.Classify(status, nil); got != want {
			t.Errorf("Classify(%d, nil) = %s, want %s", status, got, want)
		}
		if got := downstream.Classify(status, registry.DefaultReject()); got != want {
			t.Errorf("Classify(%d, the default) = %s, want %s", status, got, want)
		}
		if want == downstream.Reject {
			want = downstream.Retry
		}
		if got := downstream.Classify(status, []int{}); got != want {
			t.Errorf("Classify(%d, none) = %s, want %s", status, got, want)
		}
		if want != downstream.Delivered {
			want = downstream.Reject
		}
		if got := downstream.Classify(status, []int{999, status}); got != want {
			t.Errorf("Classify(%d, itself) = %s, want %s", status, got, want)
		}
	}
	for _, status := range []int{-1, 0, 99, 600, 999} {
		if got := downstream.Classify(status, nil); got != downstream.Retry {
			t.Errorf("Classify(%d) = %s", status, got)
		}
	}
}

func TestHTTPReason(t *testing.T) {
	for status, want := range map[int]string{100: "http-100", 299: "http-299", 300: "redirect", 304: "redirect", 399: "redirect", 404: "http-404", 500: "http-500"} {
		if got := downstream.HTTPReason(status); got != want {
			t.Errorf("HTTPReason(%d) = %q", status, got)
		}
	}
}

func TestVerdictZeroValueIsRetry(t *testing.T) {
	var r downstream.Result
	if r.Verdict != downstream.Retry {
		t.Errorf("a result that decides nothing is %s", r.Verdict)
	}
}

func TestVerdictNames(t *testing.T) {
	seen := map[string]bool{}
	for v := downstream.Retry; v <= downstream.NotStarted; v++ {
		seen[v.String()] = true
	}
	if len(seen) != 6 || seen["verdict(0)"] || !strings.HasPrefix((downstream.NotStarted+1).String(), "verdict(") {
		t.Errorf("names %v", seen)
	}
}

func deliverNothing(context.Context, downstream.Attempt) downstream.Result {
	return downstream.Result{Verdict: downstream.Delivered}
}

func waitForContext(ctx context.Context, _ downstream.Attempt) downstream.Result {
	<-ctx.Done()
	return downstream.Result{Verdict: downstream.Retry, Reason: downstream.ReasonCanceled}
}

func TestEachKeepsTheContract(t *testing.T) {
	for name, deliver := range map[string]func(context.Context, downstream.Attempt) downstream.Result{
		"delivers": deliverNothing,
		"panics":   func(context.Context, downstream.Attempt) downstream.Result { panic("x") },
		"waits":    waitForContext,
	} {
		t.Run(name, func(t *testing.T) {
			downstreamtest.Contract(t, downstream.Each(3, deliver), func(i int) downstream.Attempt {
				return downstream.Attempt{Number: i + 1}
			})
		})
	}
}

func TestMuxKeepsTheContract(t *testing.T) {
	mux := downstream.Mux{"a": downstream.Each(1, deliverNothing), "b": downstream.Each(8, waitForContext)}
	types := []string{"a", "b", "unknown"}
	downstreamtest.Contract(t, mux, func(i int) downstream.Attempt {
		return downstream.Attempt{Destination: &registry.Destination{Type: types[i%len(types)]}}
	})
}

// careless reports its first attempt three times, attempts it never got, and the rest never.
type careless struct{}

func (careless) Deliver(_ context.Context, attempts []downstream.Attempt, done func(int, downstream.Result)) {
	done(-1, downstream.Result{})
	done(len(attempts), downstream.Result{})
	for range 3 {
		done(0, downstream.Result{Verdict: downstream.Delivered})
	}
}

// panicking reports its first attempt and panics.
type panicking struct{}

func (panicking) Deliver(_ context.Context, _ []downstream.Attempt, done func(int, downstream.Result)) {
	done(0, downstream.Result{Verdict: downstream.Delivered})
	panic(errors.New("secret payload"))
}

func collect(t *testing.T, adapter downstream.Adapter, attempts []downstream.Attempt) []downstream.Result {
	t.Helper()
	var mu sync.Mutex
	results := make([]downstream.Result, len(attempts))
	reported := make([]int, len(attempts))
	adapter.Deliver(t.Context(), attempts, func(i int, r downstream.Result) {
		mu.Lock()
		defer mu.Unlock()
		results[i] = r
		reported[i]++
	})
	for i, n := range reported {
		if n != 1 {
			t.Errorf("attempt %d reported %d times", i, n)
		}
	}
	return results
}

func to(types ...string) []downstream.Attempt {
	var attempts []downstream.Attempt
	for i, name := range types {
		attempts = append(attempts, downstream.Attempt{Number: i, Destination: &registry.Destination{Type: name}})
	}
	return attempts
}

func TestMuxRoutesByTypeAndGivesResultsToTheirAttempts(t *testing.T) {
	echo := func(name string) downstream.Adapter {
		return downstream.Each(4, func(_ context.Context, a downstream.Attempt) downstream.Result {
			return downstream.Result{Verdict: downstream.Delivered, Code: a.Number, Detail: name}
		})
	}
	mux := downstream.Mux{"a": echo("a"), "b": echo("b"), "": echo("untyped")}
	for i, r := range collect(t, mux, to("b", "a", "a", "b", "a", "")) {
		want := []string{"b", "a", "a", "b", "a", "untyped"}[i]
		if r.Code != i || r.Detail != want {
			t.Errorf("attempt %d got the result of %d by %q", i, r.Code, r.Detail)
		}
	}
}

func TestMuxRejectsUnknownTypes(t *testing.T) {
	mux := downstream.Mux{"a": downstream.Each(1, deliverNothing), "nil": nil}
	attempts := append(to("a", "carrier-pigeon", "nil"), downstream.Attempt{})
	results := collect(t, mux, attempts)
	if results[0].Verdict != downstream.Delivered {
		t.Errorf("neighbour: %+v", results[0])
	}
	for _, r := range results[1:] {
		if r.Verdict != downstream.Reject || r.Reason != "unsupported-destination-type" {
			t.Errorf("unknown type: %+v", r)
		}
	}
	if !strings.Contains(results[1].Detail, "carrier-pigeon") {
		t.Errorf("detail %q does not name the type", results[1].Detail)
	}
}

func TestMuxHoldsAdaptersToTheirContract(t *testing.T) {
	mux := downstream.Mux{"careless": careless{}, "panicking": panicking{}, "fine": downstream.Each(1, deliverNothing)}
	results := collect(t, mux, to("careless", "panicking", "fine", "careless", "panicking", "fine"))
	for i, want := range []string{"", "", "", downstream.ReasonNoResult, downstream.ReasonPanic, ""} {
		if results[i].Reason != want {
			t.Errorf("attempt %d: %+v, want reason %q", i, results[i], want)
		}
		if want != "" && results[i].Verdict != downstream.Retry {
			t.Errorf("attempt %d: verdict %s", i, results[i].Verdict)
		}
	}
	if strings.Contains(results[4].Detail, "payload") {
		t.Errorf("the text of a panic is in the detail: %q", results[4].Detail)
	}
}

func TestEachBoundsConcurrencyOverAllBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most, calls atomic.Int64
		adapter := downstream.Each(3, func(context.Context, downstream.Attempt) downstream.Result {
			now := running.Add(1)
			defer running.Add(-1)
			for {
				seen := most.Load()
				if now <= seen || most.CompareAndSwap(seen, now) {
					break
				}
			}
			calls.Add(1)
			time.Sleep(time.Second)
			return downstream.Result{}
		})
		began := time.Now()
		var batches sync.WaitGroup
		for range 2 {
			batches.Go(func() {
				adapter.Deliver(t.Context(), make([]downstream.Attempt, 6), func(int, downstream.Result) {})
			})
		}
		batches.Wait()
		if calls.Load() != 12 || most.Load() != 3 || time.Since(began) != 4*time.Second {
			t.Errorf("%d calls, at most %d at once, in %s", calls.Load(), most.Load(), time.Since(began))
		}
	})
}

func TestEachReportsAsSoonAsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		adapter := downstream.Each(4, func(_ context.Context, a downstream.Attempt) downstream.Result {
			time.Sleep(time.Duration(a.Number) * time.Second)
			return downstream.Result{}
		})
		began := time.Now()
		var mu sync.Mutex
		var order []string
		adapter.Deliver(t.Context(), []downstream.Attempt{{Number: 3}, {Number: 1}, {Number: 2}}, func(i int, _ downstream.Result) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, fmt.Sprintf("%d@%s", i, time.Since(began)))
		})
		if want := []string{"1@1s", "2@2s", "0@3s"}; !slices.Equal(order, want) {
			t.Errorf("reported %v, want %v", order, want)
		}
	})
}

func TestEachDoesNotStartWhatIsTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started atomic.Int64
		adapter := downstream.Each(2, func(ctx context.Context, a downstream.Attempt) downstream.Result {
			started.Add(1)
			return waitForContext(ctx, a)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		verdicts := map[downstream.Verdict]int{}
		var mu sync.Mutex
		adapter.Deliver(ctx, make([]downstream.Attempt, 5), func(_ int, r downstream.Result) {
			mu.Lock()
			defer mu.Unlock()
			verdicts[r.Verdict]++
		})
		if started.Load() != 2 || verdicts[downstream.NotStarted] != 3 || verdicts[downstream.Retry] != 2 || time.Since(began) != time.Second {
			t.Errorf("%d started, verdicts %v, after %s", started.Load(), verdicts, time.Since(began))
		}
	})
}

func TestPanicIsThatAttemptsFailureAlone(t *testing.T) {
	adapter := downstream.Each(0, func(_ context.Context, a downstream.Attempt) downstream.Result {
		switch a.Number {
		case 1:
			panic("the payload")
		case 2:
			return downstream.Result{Code: []int{}[a.Number]}
		}
		return downstream.Result{Verdict: downstream.Delivered}
	})
	results := collect(t, adapter, []downstream.Attempt{{Number: 0}, {Number: 1}, {Number: 2}, {Number: 3}})
	for i, want := range []string{"", "panic", "panic", ""} {
		if results[i].Reason != want {
			t.Errorf("attempt %d: %+v", i, results[i])
		}
	}
	if strings.Contains(results[1].Detail, "payload") || !strings.Contains(results[2].Detail, "index out of range") {
		t.Errorf("details %q, %q", results[1].Detail, results[2].Detail)
	}
}
