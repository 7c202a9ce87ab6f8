package mapping_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
)

type rawHandler func(ctx context.Context, payload []byte) ([]byte, error)

func (h rawHandler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	return h(ctx, payload)
}

func TestNewFunctionRefuses(t *testing.T) {
	fine := func() mapping.FunctionConfig {
		return mapping.FunctionConfig{Name: "f", Handler: rawHandler(nil)}
	}
	rows := map[string]func(*mapping.FunctionConfig){
		"no name":    func(c *mapping.FunctionConfig) { c.Name = "" },
		"no code":    func(c *mapping.FunctionConfig) { c.Handler = nil },
		"code twice": func(c *mapping.FunctionConfig) { c.New = func() mapping.Handler { return nil } },
		"code elsewhere too": func(c *mapping.FunctionConfig) {
			c.Environment = func(string) mapping.Environment { return nil }
		},
		"negative idle limit":  func(c *mapping.FunctionConfig) { c.IdleLimit = -1 },
		"timeout above 15 min": func(c *mapping.FunctionConfig) { c.Timeout = 901 * time.Second },
		"timeout in parts":     func(c *mapping.FunctionConfig) { c.Timeout = 1500 * time.Millisecond },
		"timeout below zero":   func(c *mapping.FunctionConfig) { c.Timeout = -time.Second },
		"negative reservation": func(c *mapping.FunctionConfig) { c.ReservedConcurrency = -1 },
		"memory":               func(c *mapping.FunctionConfig) { c.MemoryMB = 64 },
	}
	if _, err := mapping.NewFunction(fine()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range rows {
		cfg := fine()
		spoil(&cfg)
		if _, err := mapping.NewFunction(cfg); !errors.Is(err, mapping.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestInvokeOutcomes: what the caller learns, what is counted, and whether the environment lives on.
func TestInvokeOutcomes(t *testing.T) {
	custom := errors.New("custom")
	rows := []struct {
		name    string
		code    rawHandler
		cause   error // nil: success
		isPanic bool
		keeps   bool
		want    mapping.FunctionStats
	}{
		{name: "answer", keeps: true,
			code: func(context.Context, []byte) ([]byte, error) {
				time.Sleep(1500 * time.Microsecond)
				return []byte("ok"), nil
			},
			want: mapping.FunctionStats{Invocations: 1, ColdStarts: 1, Billed: 2 * time.Millisecond, GBSeconds: 0.002 * 2}},
		{name: "error", keeps: true, cause: custom,
			code: func(context.Context, []byte) ([]byte, error) { return []byte("ignored"), custom },
			want: mapping.FunctionStats{Invocations: 1, ColdStarts: 1, Errors: 1}},
		{name: "error that quotes a timeout elsewhere", keeps: true, cause: mapping.ErrTimeout,
			code: func(context.Context, []byte) ([]byte, error) { return nil, mapping.ErrTimeout },
			want: mapping.FunctionStats{Invocations: 1, ColdStarts: 1, Errors: 1}},
		{name: "panic", isPanic: true,
			code: func(context.Context, []byte) ([]byte, error) { panic("boom") },
			want: mapping.FunctionStats{Invocations: 1, ColdStarts: 1, Errors: 1}},
		{name: "exit", cause: mapping.ErrCrashed,
			code: func(context.Context, []byte) ([]byte, error) { runtime.Goexit(); return nil, nil },
			want: mapping.FunctionStats{Invocations: 1, ColdStarts: 1, Errors: 1, Crashes: 1}},
		{name: "crash from inside", cause: mapping.ErrCrashed,
			code: func(ctx context.Context, _ []byte) ([]byte, error) {
				mapping.InvocationFrom(ctx).Crash()
				return []byte("ok"), nil
			},
			want: mapping.FunctionStats{Invocations: 1, ColdStarts: 1, Errors: 1, Crashes: 1}},
		{name: "timeout, context ignored", cause: mapping.ErrTimeout,
			code: func(context.Context, []byte) ([]byte, error) { time.Sleep(time.Minute); return []byte("late"), nil },
			want: mapping.FunctionStats{Invocations: 1, ColdStarts: 1, Errors: 1, Timeouts: 1, Lingering: 1, Billed: 5 * time.Second, GBSeconds: 10}},
		{name: "answer at the very deadline", cause: mapping.ErrTimeout,
			code: func(ctx context.Context, _ []byte) ([]byte, error) { <-ctx.Done(); return []byte("late"), nil },
			want: mapping.FunctionStats{Invocations: 1, ColdStarts: 1, Errors: 1, Timeouts: 1, Billed: 5 * time.Second, GBSeconds: 10}},
		{name: "response too large", keeps: true, cause: mapping.ErrResponseTooLarge,
			code: func(context.Context, []byte) ([]byte, error) { return make([]byte, mapping.MaxPayloadBytes+1), nil },
			want: mapping.FunctionStats{Invocations: 1, ColdStarts: 1, Errors: 1}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				code := row.code
				f := mustFunction(t, mapping.FunctionConfig{Timeout: 5 * time.Second, MemoryMB: 2048,
					New: func() mapping.Handler {
						return rawHandler(func(ctx context.Context, p []byte) ([]byte, error) { return code(ctx, p) })
					}})
				out, err := f.Invoke(t.Context(), []byte("{}"))
				synctest.Wait()
				got := f.Stats()
				equal(t, "stats", got, row.want)
				var failed *mapping.FunctionError
				switch {
				case row.cause == nil && !row.isPanic:
					if err != nil || string(out) != "ok" {
						t.Errorf("got %q, %v", out, err)
					}
				case !errors.As(err, &failed) || out != nil || failed.RequestID == "":
					t.Errorf("got %q, %v", out, err)
				case row.isPanic:
					var p *mapping.PanicError
					if !errors.As(err, &p) || p.Value != "boom" || !bytes.Contains(p.Stack, []byte("function_test.go")) {
						t.Errorf("got %v", err)
					}
				case !errors.Is(err, row.cause):
					t.Errorf("got %v, want %v", err, row.cause)
				}
				code = func(context.Context, []byte) ([]byte, error) { return nil, nil }
				if _, err := f.Invoke(t.Context(), nil); err != nil {
					t.Error(err)
				}
				equal(t, "environment kept", f.Stats().ColdStarts == 1, row.keeps)
				time.Sleep(time.Hour)
				equal(t, "lingering at last", f.Stats().Lingering, 0)
			})
		})
	}
}

func TestFactoryPanicIsAFunctionError(t *testing.T) {
	f := mustFunction(t, mapping.FunctionConfig{New: func() mapping.Handler { panic("no settings") }})
	_, err := f.Invoke(t.Context(), nil)
	var p *mapping.PanicError
	if !errors.As(err, &p) {
		t.Errorf("got %v", err)
	}
}

// TestEnvironments: one invocation at a time each, used again, made only when none is free.
func TestEnvironments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		f := mustFunction(t, mapping.FunctionConfig{
			Context: func(ctx context.Context, requestID, arn string) context.Context {
				inv := mapping.InvocationFrom(ctx)
				if inv.RequestID != requestID || inv.FunctionARN != arn || requestID == "" {
					t.Errorf("hook got %q %q, invocation is %+v", requestID, arn, inv)
				}
				return context.WithValue(ctx, hookKey{}, requestID)
			},
			New: func() mapping.Handler {
				inUse, uses := false, 0
				return rawHandler(func(ctx context.Context, _ []byte) ([]byte, error) {
					if inUse {
						t.Error("environment used twice at once")
					}
					inUse = true
					uses++
					j.note("use %d", uses)
					time.Sleep(time.Second)
					inUse = false
					if ctx.Value(hookKey{}) == nil || ctx.Value(callerKey{}) != nil {
						t.Error("the handler's context should have the hook's value and none of the caller's")
					}
					return []byte(mapping.InvocationFrom(ctx).EnvironmentID), nil
				})
			}})
		invoke := func(n int) []string {
			ids := make(chan string, n)
			for range n {
				go func() {
					out, err := f.Invoke(context.WithValue(t.Context(), callerKey{}, 1), nil)
					if err != nil {
						t.Error(err)
					}
					ids <- string(out)
				}()
			}
			var used []string
			for range n {
				used = append(used, <-ids)
			}
			slices.Sort(used)
			return used
		}
		first := invoke(2)
		if first[0] == first[1] || first[0] == "" {
			t.Errorf("environments %q", first)
		}
		if third := invoke(1); !slices.Contains(first, third[0]) {
			t.Errorf("third invocation in %q", third)
		}
		equalList(t, "two at once again", invoke(2), first)
		equal(t, "cold starts", f.Stats().ColdStarts, 2)
		equalList(t, "first uses", j.read()[:3], []string{"0s use 1", "0s use 1", "1s use 2"})
	})
}

type (
	hookKey   struct{}
	callerKey struct{}
)

func TestReservedConcurrencyThrottles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := mustFunction(t, mapping.FunctionConfig{ReservedConcurrency: 1,
			Handler: rawHandler(func(context.Context, []byte) ([]byte, error) { time.Sleep(time.Second); return nil, nil })})
		go occupy(t, f)
		synctest.Wait()
		if _, err := f.Invoke(t.Context(), nil); !errors.Is(err, mapping.ErrThrottled) {
			t.Errorf("got %v", err)
		}
		time.Sleep(2 * time.Second)
		if _, err := f.Invoke(t.Context(), nil); err != nil {
			t.Error(err)
		}
		s := f.Stats()
		equal(t, "throttles", s.Throttles, 1)
		equal(t, "invocations", s.Invocations, 2)
	})
}

// occupy runs one invocation, whatever becomes of it.
func occupy(t *testing.T, f *mapping.Function) {
	if _, err := f.Invoke(t.Context(), nil); err != nil {
		t.Log(err)
	}
}

func TestInvokeRefusesLargePayload(t *testing.T) {
	f := mustFunction(t, mapping.FunctionConfig{Handler: rawHandler(nil)})
	if _, err := f.Invoke(t.Context(), make([]byte, mapping.MaxPayloadBytes+1)); !errors.Is(err, mapping.ErrPayloadTooLarge) {
		t.Errorf("got %v", err)
	}
	equal(t, "invocations", f.Stats().Invocations, 0)
}

// TestCallerLeaves: an invocation goes on without its caller and keeps its slot until it is over.
func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var finished atomic.Bool
		f := mustFunction(t, mapping.FunctionConfig{
			Handler: rawHandler(func(ctx context.Context, _ []byte) ([]byte, error) {
				time.Sleep(2 * time.Second)
				finished.Store(ctx.Err() == nil)
				return nil, nil
			})})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Invoke(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		equal(t, "running", f.Stats().Running, 1)
		time.Sleep(2 * time.Second)
		equal(t, "finished undisturbed", finished.Load(), true)
		equal(t, "running", f.Stats().Running, 0)
	})
}

// TestEnded: code that outlives its invocation can be told apart, even through a detached context.
func TestEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		contexts := make(chan context.Context, 3)
		f := mustFunction(t, mapping.FunctionConfig{Timeout: 3 * time.Second,
			Handler: rawHandler(func(ctx context.Context, _ []byte) ([]byte, error) {
				contexts <- ctx
				select {
				case <-ctx.Done():
				case <-time.After(2 * time.Second):
				}
				return nil, nil
			})})
		ended := func(ctx context.Context) bool { return mapping.InvocationFrom(context.WithoutCancel(ctx)).Ended() }

		go occupy(t, f)
		answered := <-contexts
		equal(t, "while it runs", ended(answered), false)
		time.Sleep(2500 * time.Millisecond)
		equal(t, "after the answer", ended(answered), true)

		go occupy(t, f)
		crashed := <-contexts
		equal(t, "killed", f.CrashAll(), 1)
		equal(t, "at once after a crash", ended(crashed), true)
		if !errors.Is(context.Cause(crashed), mapping.ErrCrashed) {
			t.Errorf("cause %v", context.Cause(crashed))
		}
		if mapping.InvocationFrom(t.Context()) != nil {
			t.Error("an invocation where there is none")
		}
	})
}
