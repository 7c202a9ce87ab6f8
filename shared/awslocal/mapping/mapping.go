package mapping

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Queue is what a mapping needs from SQS. It is safe for concurrent use.
type Queue interface {
	ARN() string
	FIFO() bool
	// VisibilityTimeout is the queue's own; Lambda names none when it receives.
	VisibilityTimeout() time.Duration
	// Receive gives up to maxMessages (1 to 10) with all their attributes. It waits up to wait for the first one and
	// returns nothing and no error when there was none. It returns early when ctx ends.
	Receive(ctx context.Context, maxMessages int, wait time.Duration) ([]Message, error)
	// Delete deletes up to 10 messages by receipt handle and says how many it deleted; the others will be received
	// again. An error means that the call as a whole failed and may be tried again.
	Delete(ctx context.Context, receiptHandles []string) (deleted int, err error)
}

// The limits of Lambda's API for SQS mappings.
const (
	DefaultBatchSize     = 10
	maxBatchSize         = 10_000
	maxBatchUnwindowed   = 10 // FIFO queues, and standard queues without a window
	maxWindow            = 300 * time.Second
	minConfigConcurrency = 2
	maxConfigConcurrency = 1_000
)

// How a mapping scales: 5 pollers at first, 5 more a second (300 a minute) while all have work, 1,250 at most, and never
// fewer than 2 under back-off.
const (
	basePollers = 5
	rampPollers = 5
	rampEvery   = time.Second
	maxPollers  = 1_250
	minPollers  = 2
)

const (
	receiveMax  = 10 // messages per ReceiveMessage and DeleteMessageBatch
	longPoll    = 20 * time.Second
	retryFirst  = time.Second // after a throttled invocation or a refused call to SQS
	retryMax    = 30 * time.Second
	deleteTries = 3
)

// ErrInvalid is what [New] and [NewFunction] wrap when Lambda would refuse to create such a thing.
var ErrInvalid = errors.New("InvalidParameterValueException")

// Config describes an event source mapping. Queue and Function must be set.
type Config struct {
	Queue    Queue
	Function *Function
	// BatchSize is the number of messages at most in one invocation; 0 means 10.
	BatchSize int
	// Window is how long a poller gathers messages for one batch, in whole seconds; 0 sends what the first receive
	// brought.
	Window time.Duration
	// MaximumConcurrency limits the batches in progress; 0 leaves it to scaling.
	MaximumConcurrency int
	// ReportBatchItemFailures lets the function's answer name the messages to keep. Without it the answer is ignored.
	ReportBatchItemFailures bool
	// Disabled makes Start do nothing.
	Disabled bool
	// Fault, if set, is asked once before each batch is given to the function, and may be called concurrently.
	Fault func(Batch) Fault
}

// Batch describes a batch to Config.Fault.
type Batch struct {
	Number     int64 // from 1, per mapping
	MessageIDs []string
}

// Fault is something that goes wrong with one batch. The zero value is nothing.
type Fault struct {
	// Duplicate gives the batch to a second invocation at the same time, whose answer is ignored. FIFO queues never
	// do that, so it has no effect there.
	Duplicate bool
	// CrashAfter, if positive, kills the invocation's environment that long after its start.
	CrashAfter time.Duration
	// LoseAnswer lets the function finish but forgets its answer, so nothing is deleted.
	LoseAnswer bool
}

// Stats counts what a mapping did since it was made.
type Stats struct {
	Batches       int64 // batches that were invoked; a throttled one counts when code ran at last
	Received      int64 // messages
	Deleted       int64 // messages
	Returned      int64 // messages left to their visibility timeout, whatever the reason
	FailedBatches int64 // whole batches that failed, by error or by invalid response
	Dropped       int64 // batches given up before any code ran: throttled until too late, or the mapping stopped
	Receives      int64 // calls of ReceiveMessage
	EmptyReceives int64 // of these, brought nothing
	ReceiveErrors int64 // of these, failed
	Deletes       int64 // calls of DeleteMessageBatch
	DeleteErrors  int64 // of these, failed
	InProgress    int   // batches received and not settled
	Pollers       int
}

// Mapping moves messages from a queue to a function. It is safe for concurrent use.
type Mapping struct {
	cfg     Config
	numbers atomic.Int64

	mu     sync.Mutex
	stats  Stats  // guarded by mu
	active *fleet // nil unless started; guarded by mu
}

// New checks cfg as CreateEventSourceMapping does and reports everything that is wrong with it, wrapping [ErrInvalid].
func New(cfg Config) (*Mapping, error) {
	if cfg.Queue == nil || cfg.Function == nil {
		return nil, fmt.Errorf("%w: set Queue and Function", ErrInvalid)
	}
	if cfg.BatchSize == 0 {
		cfg.BatchSize = DefaultBatchSize
	}
	var wrong []error
	refuseIf := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	size, window, limit, fifo := cfg.BatchSize, cfg.Window, cfg.MaximumConcurrency, cfg.Queue.FIFO()
	refuseIf(size < 1 || size > maxBatchSize, "batch size %d: use 1 to %d", size, maxBatchSize)
	refuseIf(window < 0 || window > maxWindow || window%time.Second != 0, "batching window %v: use 0 to 300 whole seconds", window)
	refuseIf(fifo && size > maxBatchUnwindowed, "batch size %d: a FIFO queue allows 10", size)
	refuseIf(fifo && window != 0, "batching window is not supported for FIFO queues")
	refuseIf(!fifo && size > maxBatchUnwindowed && window < time.Second,
		"batch size %d: maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10", size)
	refuseIf(limit != 0 && (limit < minConfigConcurrency || limit > maxConfigConcurrency),
		"maximum concurrency %d: use 2 to 1000, or 0 for none", limit)
	reserved := cfg.Function.cfg.ReservedConcurrency
	refuseIf(reserved > 0 && limit > reserved,
		"maximum concurrency %d is above the function's reserved concurrency %d: throttled batches would burn receive counts", limit, reserved)
	visible, timeout := cfg.Queue.VisibilityTimeout(), cfg.Function.Timeout()
	refuseIf(visible < timeout, "queue visibility timeout: %d seconds is less than function timeout: %d seconds",
		int64(visible.Seconds()), int64(timeout.Seconds()))
	if len(wrong) > 0 {
		return nil, fmt.Errorf("%w: mapping of %s to %s: %w", ErrInvalid, cfg.Queue.ARN(), cfg.Function.Name(), errors.Join(wrong...))
	}
	return &Mapping{cfg: cfg}, nil
}

// Start begins polling until ctx ends or Stop is called. Disabled, or not stopped since the last Start, it does nothing. A
// stopped mapping can be started again, as a mapping that is enabled again.
func (m *Mapping) Start(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cfg.Disabled || m.active != nil {
		return
	}
	m.active = newFleet(ctx, m)
}

// Stop ends polling and waits until every batch in progress is settled, or for ctx. Batches that wait for a throttled
// invocation are given up at once. It returns ctx's error if it did not wait to the end; invocations then go on and
// their batches are settled later.
func (m *Mapping) Stop(ctx context.Context) error {
	m.mu.Lock()
	f := m.active
	m.active = nil
	m.mu.Unlock()
	if f == nil {
		return nil
	}
	f.stop()
	done := make(chan struct{})
	go func() {
		f.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Idle reports that no batch is in progress. Together with an empty queue (nothing visible, delayed or in flight, looked
// at first) it means that there is nothing left to do: a message stays in flight until its batch is settled.
// Handlers that run on after a timeout are not counted; see FunctionStats.Lingering.
func (m *Mapping) Idle() bool { return m.Stats().InProgress == 0 }

// Stats gives a consistent copy of the counters.
func (m *Mapping) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	if m.active != nil {
		s.Pollers = m.active.size()
	}
	return s
}

// count changes the counters.
func (m *Mapping) count(change func(*Stats)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.stats)
}
