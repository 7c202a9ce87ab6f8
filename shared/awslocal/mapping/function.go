package mapping

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// MaxPayloadBytes is Lambda's limit for the payload of a synchronous invocation and for its response.
const MaxPayloadBytes = 6 << 20

// DefaultTimeout is the timeout of a function that names none.
const DefaultTimeout = 3 * time.Second

var (
	// ErrThrottled refuses an invocation above the reserved concurrency. No code ran.
	ErrThrottled = errors.New("TooManyRequestsException: all of the function's reserved concurrency is in use; raise it or invoke later")
	// ErrPayloadTooLarge refuses a payload above [MaxPayloadBytes]. No code ran.
	ErrPayloadTooLarge = errors.New("RequestTooLargeException: an invocation's payload may have 6 MB; send less")
	// ErrClosed refuses an invocation of a function that was closed. No code ran.
	ErrClosed = errors.New("the function is closed; make another one")
	// ErrTimeout is the cause of a [FunctionError] when the handler had not answered at its deadline.
	ErrTimeout = errors.New("the function timed out")
	// ErrCrashed is the cause of a [FunctionError] when the environment went away before the handler answered.
	ErrCrashed = errors.New("the function's environment exited without an answer")
	// ErrResponseTooLarge is the cause of a [FunctionError] when the response exceeded [MaxPayloadBytes].
	ErrResponseTooLarge = errors.New("the function's response is larger than 6 MB")
)

// FunctionError says that code ran and failed. Cause is the handler's error, a [*PanicError], or one of the
// sentinels above.
type FunctionError struct {
	RequestID string
	Cause     error
}

// Error names the request and the cause.
func (e *FunctionError) Error() string { return fmt.Sprintf("request %s: %v", e.RequestID, e.Cause) }

// Unwrap gives the cause.
func (e *FunctionError) Unwrap() error { return e.Cause }

// PanicError is a panic of the handler or of the factory that made it.
type PanicError struct {
	Value any
	Stack []byte
}

// Error names the panic's value without its stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Handler is a function's code. It is aws-lambda-go's lambda.Handler, spelt out.
type Handler interface {
	Invoke(ctx context.Context, payload []byte) ([]byte, error)
}

// Environment is an execution environment whose code runs outside of this program, such as a process of its own. A
// function calls Init once and Invoke once at a time; Close may come at any time but during them, and more than once.
type Environment interface {
	// Init gets the environment ready before its first invocation. It bounds its time itself, and that time does not
	// count towards the invocation's timeout, as Lambda's Init phase does not. Its error is ignored: Invoke has to try
	// again, within the invocation's timeout, as Lambda has it.
	Init(ctx context.Context) error
	// Invoke ends what it runs and returns soon after ctx ends; nothing of the environment's code runs once it has
	// returned. [InvocationFrom] tells it the request. Its error should wrap the cause of ctx's end, or [ErrCrashed] if
	// the environment went away without an answer.
	Handler
	// Alive tells whether the environment can serve another invocation. It returns at once.
	Alive() bool
	// Close ends the environment and returns when it is gone.
	Close()
}

// FunctionConfig describes a function. Name and one of New, Handler and Environment must be set.
type FunctionConfig struct {
	Name string
	// ARN defaults to one in us-east-1 and account 000000000000.
	ARN string
	// New makes the handler of one environment; it runs inside the environment's first invocation and counts
	// towards its timeout. The handlers of two environments run at the same time, one handler never does.
	New func() Handler
	// Handler serves all environments at once, for code that keeps nothing per environment.
	Handler Handler
	// Environment makes an execution environment outside of this program under the given id. It returns at once.
	Environment func(id string) Environment
	// IdleLimit is how long an Environment is kept without work; 0 keeps it until Close. Lambda says only that
	// it is some minutes.
	IdleLimit time.Duration
	// Timeout is 1 to 900 whole seconds; 0 means DefaultTimeout.
	Timeout time.Duration
	// ReservedConcurrency is the number of invocations that may run at once; one more is throttled. 0 reserves
	// nothing and limits nothing.
	ReservedConcurrency int
	// MemoryMB is 128 to 10,240; 0 means 128. It is used for GB-seconds only.
	MemoryMB int
	// Context, if set, derives the handler's context, for example by adding lambdacontext's values.
	Context func(ctx context.Context, requestID, functionARN string) context.Context
	// OnEnd, if set, hears of every invocation that is over, before whoever invoked does. It may be called from several
	// goroutines at once.
	OnEnd func(took time.Duration, err error)
}

// Function is a Lambda function. It is safe for concurrent use.
type Function struct {
	cfg FunctionConfig

	mu      sync.Mutex
	idle    []*environment
	running map[*Invocation]struct{}
	stats   FunctionStats
	closed  bool
	ending  sync.WaitGroup // environments that are being closed
}

// FunctionStats counts what a function did since it was made, under CloudWatch's definitions.
type FunctionStats struct {
	Invocations int64         // code ran, whatever came of it
	Errors      int64         // of these, ended in a FunctionError; includes Timeouts and Crashes
	Timeouts    int64         //
	Crashes     int64         //
	Throttles   int64         // refused; not among Invocations
	ColdStarts  int64         // environments made
	Running     int           // invocations running now
	Lingering   int           // handler goroutines that still run though their invocation is over
	Billed      time.Duration // sum of durations, each rounded up to a millisecond
	GBSeconds   float64       // Billed by memory
}

// environment is one sandbox; only the invocation that holds it touches it.
type environment struct {
	id      string
	handler Handler
	outside Environment // nil if the code runs in this program; then also the handler
	fresh   bool        // outside was not initialised
	expiry  *time.Timer // runs while outside is idle; nil without IdleLimit
}

// NewFunction checks cfg as Lambda would and reports everything that is wrong with it, wrapping [ErrInvalid].
func NewFunction(cfg FunctionConfig) (*Function, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.MemoryMB == 0 {
		cfg.MemoryMB = 128
	}
	var wrong []error
	refuseIf := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	refuseIf(cfg.Name == "", "name the function")
	code := 0
	for _, set := range []bool{cfg.New != nil, cfg.Handler != nil, cfg.Environment != nil} {
		if set {
			code++
		}
	}
	refuseIf(code != 1, "set exactly one of New, Handler and Environment")
	refuseIf(cfg.IdleLimit < 0, "idle limit %v: use 0 for none or a positive time", cfg.IdleLimit)
	refuseIf(cfg.Timeout < time.Second || cfg.Timeout > 900*time.Second || cfg.Timeout%time.Second != 0,
		"timeout %v: use 1 to 900 whole seconds", cfg.Timeout)
	refuseIf(cfg.ReservedConcurrency < 0, "reserved concurrency %d: use 0 for none or a positive number", cfg.ReservedConcurrency)
	refuseIf(cfg.MemoryMB < 128 || cfg.MemoryMB > 10240, "memory %d MB: use 128 to 10240", cfg.MemoryMB)
	if len(wrong) > 0 {
		return nil, fmt.Errorf("%w: function %q: %w", ErrInvalid, cfg.Name, errors.Join(wrong...))
	}
	if cfg.ARN == "" {
		cfg.ARN = "arn:aws:lambda:us-east-1:000000000000:function:" + cfg.Name
	}
	return &Function{cfg: cfg, running: map[*Invocation]struct{}{}}, nil
}

// Name gives the function's name.
func (f *Function) Name() string { return f.cfg.Name }

// ARN gives the function's ARN.
func (f *Function) ARN() string { return f.cfg.ARN }

// Timeout gives the time that an invocation may take.
func (f *Function) Timeout() time.Duration { return f.cfg.Timeout }

// Stats gives a consistent copy of the counters.
func (f *Function) Stats() FunctionStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stats
	s.Running = len(f.running)
	s.GBSeconds = s.Billed.Seconds() * float64(f.cfg.MemoryMB) / 1024
	return s
}

// Invoke runs the function once and waits for its answer. The error is [ErrThrottled], [ErrPayloadTooLarge] or [ErrClosed] if no
// code ran, a [*FunctionError] if it failed, or ctx's if the caller stopped waiting; the function then goes on, as
// Lambda's do. Nothing of ctx but its end reaches the handler.
func (f *Function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	inv, err := f.start(payload) //nolint:contextcheck // an invocation outlives its caller and sees none of its values
	if err != nil {
		return nil, err
	}
	select {
	case <-inv.done:
		return inv.response, inv.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// CrashAll kills every environment that runs an invocation now and says how many that were.
func (f *Function) CrashAll() int {
	f.mu.Lock()
	running := make([]*Invocation, 0, len(f.running))
	for inv := range f.running {
		running = append(running, inv)
	}
	f.mu.Unlock()
	for _, inv := range running {
		inv.Crash()
	}
	return len(running)
}

// Close refuses further invocations, waits for those that run, kills them when ctx ends, and closes every Environment.
// When it returns, no environment outside of this program is left. The error is ctx's if invocations were killed.
func (f *Function) Close(ctx context.Context) error {
	f.mu.Lock()
	f.closed = true
	idle := f.idle
	f.idle = nil
	for _, env := range idle {
		f.end(env)
	}
	running := make([]*Invocation, 0, len(f.running))
	for inv := range f.running {
		running = append(running, inv)
	}
	f.mu.Unlock()
	var err error
	for _, inv := range running {
		select {
		case <-inv.done:
		case <-ctx.Done():
			err = ctx.Err()
			inv.Crash()
			<-inv.done
		}
	}
	f.ending.Wait()
	return err
}

// Invocation is one run of a function, found by the handler's code with [InvocationFrom].
type Invocation struct {
	RequestID     string
	EnvironmentID string
	FunctionARN   string
	Deadline      time.Time

	cancel context.CancelCauseFunc
	ended  atomic.Bool
	done   chan struct{} // closed once response and err are final

	response []byte
	err      error
}

type invocationKey struct{}

// InvocationFrom gives the invocation that ctx belongs to, or nil. It also works on a context that was detached with
// context.WithoutCancel.
func InvocationFrom(ctx context.Context) *Invocation {
	inv, _ := ctx.Value(invocationKey{}).(*Invocation)
	return inv
}

// Crash makes the invocation vanish: its context is cancelled, its answer is ignored, its environment is thrown away.
// When Crash returns, Ended is true. After the invocation's end it does nothing.
func (inv *Invocation) Crash() {
	inv.ended.Store(true)
	inv.cancel(ErrCrashed)
}

// Ended reports whether the invocation is over: answered, timed out or crashed. In Lambda no code runs after that, so
// a test's transport should refuse calls whose context belongs to an ended invocation.
func (inv *Invocation) Ended() bool { return inv.ended.Load() || !time.Now().Before(inv.Deadline) }

// start takes an environment and lets it handle payload. The invocation's done channel closes when it is over.
func (f *Function) start(payload []byte) (*Invocation, error) {
	if len(payload) > MaxPayloadBytes {
		return nil, ErrPayloadTooLarge
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	if f.cfg.ReservedConcurrency > 0 && len(f.running) >= f.cfg.ReservedConcurrency {
		f.stats.Throttles++
		return nil, ErrThrottled
	}
	f.stats.Invocations++
	env := f.environment()
	begin := time.Now()
	inv := &Invocation{
		RequestID: requestID(), EnvironmentID: env.id, FunctionARN: f.cfg.ARN,
		Deadline: begin.Add(f.cfg.Timeout), done: make(chan struct{}),
	}
	f.running[inv] = struct{}{}
	// The caller's values stay outside: another process runs the function.
	base, cancel := context.WithCancelCause(context.WithValue(context.Background(), invocationKey{}, inv))
	inv.cancel = cancel
	go func() {
		if env.fresh {
			env.fresh = false
			// Invoke meets whatever the error was again, or mends it.
			_ = env.outside.Init(base)
			inv.Deadline = time.Now().Add(f.cfg.Timeout)
		}
		ctx, stop := context.WithDeadlineCause(base, inv.Deadline, ErrTimeout)
		defer stop()
		f.supervise(ctx, env, inv, begin, payload)
	}()
	return inv, nil
}

// environment gives the environment used last, or a new one. f.mu is held.
func (f *Function) environment() *environment {
	for n := len(f.idle); n > 0; n = len(f.idle) {
		env := f.idle[n-1]
		f.idle = f.idle[:n-1]
		if env.outside == nil {
			return env
		}
		if env.expiry != nil {
			env.expiry.Stop()
		}
		if env.outside.Alive() {
			return env
		}
		f.end(env) // it was lost while idle, which fails no invocation
	}
	f.stats.ColdStarts++
	id := make([]byte, 16)
	rand.Read(id) // never fails
	env := &environment{id: hex.EncodeToString(id), handler: f.cfg.Handler}
	if f.cfg.Environment != nil {
		env.outside = f.cfg.Environment(env.id)
		env.handler, env.fresh = env.outside, true
	}
	return env
}

// release keeps env for another invocation, if it can have one. f.mu is held.
func (f *Function) release(env *environment, exited bool) {
	switch {
	case env.outside != nil && (exited || f.closed):
		f.end(env)
	case exited:
	default:
		f.idle = append(f.idle, env)
		if env.outside != nil && f.cfg.IdleLimit > 0 {
			env.expiry = time.AfterFunc(f.cfg.IdleLimit, func() { f.expire(env) })
		}
	}
}

// expire ends env if it is still idle.
func (f *Function) expire(env *environment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.idle, env); i >= 0 {
		f.idle = slices.Delete(f.idle, i, i+1)
		f.end(env)
	}
}

// end closes what env has outside of this program, without waiting for it. f.mu is held.
func (f *Function) end(env *environment) {
	if env.outside == nil {
		return
	}
	if env.expiry != nil {
		env.expiry.Stop()
	}
	f.ending.Go(env.outside.Close)
}

type answer struct {
	response []byte
	err      error
	exited   bool // the environment cannot be used again
}

// supervise runs the handler, waits for its answer or for what comes before it, and books the outcome.
func (f *Function) supervise(ctx context.Context, env *environment, inv *Invocation, begin time.Time, payload []byte) {
	answers := make(chan answer, 1)
	var over, returned bool // guarded by f.mu
	go func() {
		a := answer{err: ErrCrashed, exited: true} // stands if the handler leaves by runtime.Goexit
		defer func() {
			if v := recover(); v != nil {
				a = answer{err: &PanicError{Value: v, Stack: debug.Stack()}, exited: true}
			}
			f.mu.Lock()
			if returned = true; over {
				f.stats.Lingering--
			}
			f.mu.Unlock()
			answers <- a
		}()
		a = f.call(ctx, env, inv, payload)
	}()
	var a answer
	select {
	case a = <-answers:
	case <-ctx.Done():
		if env.outside != nil {
			a = <-answers // soon, and then nothing runs any more
		}
	}
	// An answer that comes together with the end is too late.
	if inv.Ended() {
		end := ErrTimeout
		if cause := context.Cause(ctx); cause != nil {
			end = cause
		}
		if env.outside == nil || !errors.Is(a.err, end) {
			a.err = end
		}
		a = answer{err: a.err, exited: true}
	}

	f.mu.Lock()
	if over = true; !returned {
		f.stats.Lingering++
	}
	took := time.Since(begin)
	f.book(a, took)
	delete(f.running, inv)
	f.release(env, a.exited)
	f.mu.Unlock()

	inv.response = a.response
	if a.err != nil {
		inv.response, inv.err = nil, &FunctionError{RequestID: inv.RequestID, Cause: a.err}
	}
	if f.cfg.OnEnd != nil {
		f.cfg.OnEnd(took, inv.err)
	}
	inv.ended.Store(true)
	inv.cancel(context.Canceled)
	close(inv.done)
}

// call initialises the environment if it is new and runs its handler.
func (f *Function) call(ctx context.Context, env *environment, inv *Invocation, payload []byte) answer {
	if f.cfg.Context != nil {
		ctx = f.cfg.Context(ctx, inv.RequestID, inv.FunctionARN)
	}
	if env.handler == nil {
		env.handler = f.cfg.New()
	}
	response, err := env.handler.Invoke(ctx, payload)
	if err == nil && len(response) > MaxPayloadBytes {
		err = ErrResponseTooLarge
	}
	// A copy: aws-lambda-go's handlers answer from a buffer that the environment's next invocation writes over.
	return answer{response: bytes.Clone(response), err: err, exited: env.outside != nil && !env.outside.Alive()}
}

// book counts one ended invocation. f.mu is held.
func (f *Function) book(a answer, took time.Duration) {
	f.stats.Billed += (took + time.Millisecond - 1).Truncate(time.Millisecond)
	if a.err == nil {
		return
	}
	f.stats.Errors++
	switch {
	case a.exited && errors.Is(a.err, ErrTimeout):
		f.stats.Timeouts++
	case a.exited && errors.Is(a.err, ErrCrashed):
		f.stats.Crashes++
	}
}

// requestID gives a random UUID, which is what Lambda uses.
func requestID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
