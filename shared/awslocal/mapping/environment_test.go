package mapping_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
)

// outside is an Environment that the test directs.
type outside struct {
	journal *journal
	init    time.Duration
	invoke  func(ctx context.Context) ([]byte, error)
	dead    atomic.Bool
	closing time.Duration
}

func (o *outside) Init(ctx context.Context) error {
	o.journal.note("init")
	select {
	case <-time.After(o.init):
		return errors.New("init errors are ignored")
	case <-ctx.Done():
		o.dead.Store(true)
		return ctx.Err()
	}
}

func (o *outside) Invoke(ctx context.Context, _ []byte) ([]byte, error) {
	o.journal.note("invoke, %v left", time.Until(mapping.InvocationFrom(ctx).Deadline))
	if o.invoke == nil {
		return []byte("ok"), nil
	}
	return o.invoke(ctx)
}

func (o *outside) Alive() bool { return !o.dead.Load() }

func (o *outside) Close() {
	time.Sleep(o.closing)
	o.dead.Store(true)
	o.journal.note("close")
}

// outsideFunction gives a function with a timeout of 3 s whose environments are copies of what is given.
func outsideFunction(t *testing.T, cfg mapping.FunctionConfig, o *outside) (f *mapping.Function, j *journal, made *[]*outside) {
	j, made = newJournal(), new([]*outside)
	cfg.Timeout = 3 * time.Second
	cfg.Environment = func(id string) mapping.Environment {
		if len(id) != 32 {
			t.Errorf("environment id %q", id)
		}
		e := &outside{journal: j, init: o.init, invoke: o.invoke, closing: o.closing}
		*made = append(*made, e)
		return e
	}
	return mustFunction(t, cfg), j, made
}

// TestInitIsNotTheInvocation: it happens once, before the deadline is set, though it takes longer than the timeout.
func TestInitIsNotTheInvocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, j, _ := outsideFunction(t, mapping.FunctionConfig{}, &outside{init: 5 * time.Second})
		for range 2 {
			if out, err := f.Invoke(t.Context(), nil); err != nil || string(out) != "ok" {
				t.Errorf("got %q, %v", out, err)
			}
		}
		equalList(t, "calls", j.read(), []string{"0s init", "5s invoke, 3s left", "5s invoke, 3s left"})
		equal(t, "billed", f.Stats().Billed, 5*time.Second)
	})
}

// exitError is an environment's own word for its end.
type exitError struct{ error }

func (e exitError) Unwrap() error { return e.error }

// TestEnvironmentOutcomes: what an environment outside makes of an invocation, and whether it is kept.
func TestEnvironmentOutcomes(t *testing.T) {
	rows := []struct {
		name   string
		invoke func(o *outside) func(ctx context.Context) ([]byte, error)
		cause  error
		own    bool // the environment's own error is kept
		keeps  bool
		want   mapping.FunctionStats
		took   time.Duration
	}{
		{name: "error", keeps: true, cause: errThere, want: mapping.FunctionStats{Errors: 1},
			invoke: func(*outside) func(context.Context) ([]byte, error) {
				return func(context.Context) ([]byte, error) { return nil, errThere }
			}},
		{name: "error that quotes a crash elsewhere", keeps: true, cause: mapping.ErrCrashed, want: mapping.FunctionStats{Errors: 1},
			invoke: func(*outside) func(context.Context) ([]byte, error) {
				return func(context.Context) ([]byte, error) { return nil, mapping.ErrCrashed }
			}},
		{name: "exit", own: true, cause: mapping.ErrCrashed, want: mapping.FunctionStats{Errors: 1, Crashes: 1},
			invoke: func(o *outside) func(context.Context) ([]byte, error) {
				return func(context.Context) ([]byte, error) {
					o.dead.Store(true)
					return nil, exitError{mapping.ErrCrashed}
				}
			}},
		{name: "exit after an answer", want: mapping.FunctionStats{},
			invoke: func(o *outside) func(context.Context) ([]byte, error) {
				return func(context.Context) ([]byte, error) { o.dead.Store(true); return []byte("ok"), nil }
			}},
		{name: "panic", cause: &mapping.PanicError{}, want: mapping.FunctionStats{Errors: 1},
			invoke: func(*outside) func(context.Context) ([]byte, error) {
				return func(context.Context) ([]byte, error) { panic("boom") }
			}},
		{name: "timeout, told", own: true, cause: mapping.ErrTimeout, took: 4 * time.Second, want: mapping.FunctionStats{Errors: 1, Timeouts: 1},
			invoke: func(*outside) func(context.Context) ([]byte, error) {
				return func(ctx context.Context) ([]byte, error) {
					<-ctx.Done()
					time.Sleep(time.Second) // while it is killed
					return nil, exitError{context.Cause(ctx)}
				}
			}},
		{name: "timeout, told wrongly", cause: mapping.ErrTimeout, took: 3 * time.Second, want: mapping.FunctionStats{Errors: 1, Timeouts: 1},
			invoke: func(*outside) func(context.Context) ([]byte, error) {
				return func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, errThere }
			}},
		{name: "answer at the very deadline", cause: mapping.ErrTimeout, took: 3 * time.Second, want: mapping.FunctionStats{Errors: 1, Timeouts: 1},
			invoke: func(*outside) func(context.Context) ([]byte, error) {
				return func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return []byte("late"), nil }
			}},
		{name: "crash from outside", own: true, cause: mapping.ErrCrashed, want: mapping.FunctionStats{Errors: 1, Crashes: 1},
			invoke: func(*outside) func(context.Context) ([]byte, error) {
				return func(ctx context.Context) ([]byte, error) {
					mapping.InvocationFrom(ctx).Crash()
					return nil, exitError{context.Cause(ctx)}
				}
			}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var code func(ctx context.Context) ([]byte, error)
				f, j, made := outsideFunction(t, mapping.FunctionConfig{}, &outside{
					invoke: func(ctx context.Context) ([]byte, error) { return code(ctx) },
				})
				code = func(ctx context.Context) ([]byte, error) { return row.invoke((*made)[0])(ctx) }
				begin := time.Now()
				out, err := f.Invoke(t.Context(), nil)
				equal(t, "took", time.Since(begin), row.took)
				row.want.Invocations, row.want.ColdStarts = 1, 1
				got := f.Stats()
				got.Billed, got.GBSeconds = 0, 0
				equal(t, "stats", got, row.want)
				var own exitError
				var panicked *mapping.PanicError
				switch {
				case row.cause == nil:
					if err != nil || string(out) != "ok" {
						t.Errorf("got %q, %v", out, err)
					}
				case errors.As(row.cause, &panicked):
					if !errors.As(err, &panicked) {
						t.Errorf("got %q, %v", out, err)
					}
				case !errors.Is(err, row.cause) || errors.As(err, &own) != row.own || out != nil:
					t.Errorf("got %q, %v", out, err)
				}
				code = func(context.Context) ([]byte, error) { return nil, nil }
				if _, err := f.Invoke(t.Context(), nil); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				equal(t, "environment kept", f.Stats().ColdStarts == 1, row.keeps)
				closed := 0
				for _, line := range j.read() {
					if line == fmt.Sprintf("%gs close", row.took.Seconds()) {
						closed++
					}
				}
				equal(t, "closed", closed == 1, !row.keeps)
			})
		})
	}
}

var errThere = errors.New("there")

// TestIdleEnvironments outside go after their time, or when they are lost, and fail no invocation by that.
func TestIdleEnvironments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, j, made := outsideFunction(t, mapping.FunctionConfig{IdleLimit: time.Minute}, &outside{})
		invoke := func() {
			t.Helper()
			if _, err := f.Invoke(t.Context(), nil); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		invoke()
		time.Sleep(50 * time.Second)
		invoke() // the minute begins again
		time.Sleep(59 * time.Second)
		equal(t, "environments", len(*made), 1)
		equal(t, "alive", (*made)[0].Alive(), true)
		time.Sleep(time.Second)
		synctest.Wait()
		equal(t, "alive after a minute", (*made)[0].Alive(), false)
		invoke()
		(*made)[1].dead.Store(true)
		invoke()
		equal(t, "environments", len(*made), 3)
		equal(t, "errors", f.Stats().Errors, 0)
		time.Sleep(time.Hour)
		equal(t, "closed", countSuffix(j, "close"), 3)
	})
}

func countSuffix(j *journal, word string) (n int) {
	for _, line := range j.read() {
		if len(line) >= len(word) && line[len(line)-len(word):] == word {
			n++
		}
	}
	return n
}

// TestClose: nothing begins after it, what runs may end until the caller's time is over, and no environment is left.
func TestClose(t *testing.T) {
	rows := map[string]struct {
		patience, takes time.Duration
		err             error
	}{
		"in time":  {patience: time.Hour, takes: 4 * time.Second},
		"too late": {patience: time.Second, takes: 2 * time.Second, err: context.DeadlineExceeded},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, j, made := outsideFunction(t, mapping.FunctionConfig{IdleLimit: time.Minute}, &outside{
					init: time.Second, closing: time.Second,
					invoke: func(ctx context.Context) ([]byte, error) {
						select {
						case <-time.After(2 * time.Second):
							return nil, nil
						case <-ctx.Done():
							return nil, context.Cause(ctx)
						}
					},
				})
				go occupy(t, f)
				go occupy(t, f)
				time.Sleep(3500 * time.Millisecond) // both are idle
				go occupy(t, f)
				synctest.Wait()
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), row.patience)
				defer cancel()
				err := f.Close(ctx)
				if !errors.Is(err, row.err) {
					t.Errorf("got %v", err)
				}
				// What ran, and then a second for its environment to go.
				equal(t, "took", time.Since(begin), min(row.patience, 2*time.Second)+time.Second)
				for i, e := range *made {
					equal(t, fmt.Sprintf("environment %d alive", i), e.Alive(), false)
				}
				equal(t, "environments", len(*made), 2)
				equal(t, "closed", countSuffix(j, "close"), 2)
				if _, err := f.Invoke(t.Context(), nil); !errors.Is(err, mapping.ErrClosed) {
					t.Errorf("after Close: %v", err)
				}
				if err := f.Close(t.Context()); err != nil {
					t.Errorf("second Close: %v", err)
				}
			})
		})
	}
}

// TestMappingOfAClosedFunction leaves its messages in the queue.
func TestMappingOfAClosedFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue(false, time.Minute)
		q.send("a")
		f := mustFunction(t, mapping.FunctionConfig{Handler: rawHandler(nil)})
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		m := run(t, mapping.Config{Queue: q, Function: f})
		time.Sleep(time.Second)
		equal(t, "dropped", m.Stats().Dropped, 1)
		equal(t, "invocations", f.Stats().Invocations, 0)
		equalList(t, "left", q.left(), []string{"a"})
	})
}
