// Package batch answers SQS for a Lambda function: it turns one outcome per record into deletions, delays, re-sends, dead
// letters and a partial batch response, and is the only place in Waybill that decides about acknowledging.
//
// What a record's outcome (package outcome) does to its message:
//
//	nil        acknowledged: deleted by Lambda, because its id is not in the response
//	Deferred   sent again with the delay, then acknowledged
//	Retried    back to SQS, visible again after the delay; on its second-last receive sent again instead, then acknowledged
//	Rejected   sent to the dead-letter queue with its reason, then acknowledged
//	any other  as Retried
//	panic      as Retried; on its second-last receive as Rejected, reason "panic"
//
// A message is acknowledged only after it succeeded or its copy lies durably on a queue. When a send fails, the message goes
// back to SQS. When a change of visibility fails, it goes back all the same, after the queue's own timeout.
// Copies keep body, attributes, group and trace of the producer, and carry a note (package waybill) with the
// event id and the time of acceptance, so that a new SQS message id never makes a new event.
//
// Because records are sent again before SQS counts them out, only crashes and poison reach the dead-letter
// queue by receive count. Poison is a record that panics, or that Each had to leave running when time was up. While nothing can be sent,
// receives are all there is: a record then waits longer with each of them, so that an outage of more than an hour counts nothing out.
//
// A message whose note was written by a newer release is not handled but put off, unchanged, until that release is back: a rollback must not eat messages. Anyone who
// may send to the queue can make such a message, though, so after Config.HoldNewer it is dead-lettered, note and all, for a human
// to decide. HeldAttribute tells since when it waits, ReasonAttribute on the dead letter why it lies there; both are taken off
// by a release that can read the note. Without room for HeldAttribute a message waits in its visibility timeout instead.
//
// FIFO queues know no delay per message, and a copy would lose its place: nothing is sent again there. A record that goes
// back takes all later records of its group in the batch with it, even such as succeeded, and all become visible together.
//
// The response is never null, holds ids of this event only, each once, in the order of the event, and comes before
// the deadline whatever the handler does. A message that is in the event twice is handled once, and both share its fate. A record without a message id cannot be named in it: the whole batch is returned
// by a function error before anything is handled.
package batch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/waybill"
)

// Func handles records and gives one outcome for each, in their order. Its context ends Headroom before the function's
// deadline; what it has not begun by then should have the outcome ErrNotStarted. It must return soon after its context
// ends: records without an outcome go back to SQS and the late result is ignored. With too few or too many
// outcomes, or a panic, all its records are retried. It must not use records after it has returned.
type Func func(ctx context.Context, records []Record) []error

// ErrNotStarted is the outcome of a record that was not begun for lack of time: it goes back to SQS, visible at once.
var ErrNotStarted = errors.New("not started: too little time left")

// ErrNoMessageID is the function error for an event with a record that cannot be named in a partial batch response.
var ErrNoMessageID = errors.New("record without a message id: the whole batch goes back")

var (
	errOverdue   = errors.New("the handler did not return in time")
	errMiscount  = errors.New("the handler did not return one outcome for each record")
	errUnsettled = errors.New("the queue did not answer for each message")
)

// Config says which queues a Handler works on. Every field has a usable zero value.
type Config struct {
	// Source is the queue that the batch came from. Nil: nothing is sent again and no visibility is changed, so what is
	// not acknowledged returns after the queue's visibility timeout and is counted out after MaxReceiveCount.
	Source queue.Queue
	// DeadLetter takes what is rejected. Nil: rejected records go back until SQS itself moves them, without a reason.
	DeadLetter queue.Sender
	// MaxReceiveCount is that of Source's redrive policy. From one receive before it on, a record is sent again rather than
	// returned. 0: never.
	MaxReceiveCount int
	// Headroom is kept of every invocation for sends, changes of visibility and the answer. A quarter of it is also how long a
	// handler may take to return after its context has ended. Default 2 s. A function whose timeout is not longer
	// returns every batch unhandled, and logs it.
	Headroom time.Duration
	// HoldNewer is how long a message waits for the release that can read its note before it is dead-lettered. Longer leaves more time for
	// a rollback to be mended, shorter shows sooner what a producer has forged. Default 24 h.
	HoldNewer time.Duration
	// Backoff is how long a retried record without a delay of its own stays invisible after its nth receive.
	// Default: 5 s, doubled with every receive, at most 15 min.
	Backoff func(receiveCount int) time.Duration
	// Logger gets one line for each record that was not simply acknowledged; never its body. Default slog.Default().
	Logger *slog.Logger
	// Random gives numbers in [0, 1) for the jitter of up to 20 % on retries. It must be safe for concurrent
	// use. Default math/rand/v2.
	Random func() float64
}

// Handler answers SQS events. It is safe for concurrent use and keeps nothing between invocations.
type Handler struct {
	cfg Config
	fn  Func
}

// New makes a Handler that has records handled by fn.
func New(cfg Config, fn Func) *Handler {
	if cfg.Headroom <= 0 {
		cfg.Headroom = 2 * time.Second
	}
	if cfg.HoldNewer <= 0 {
		cfg.HoldNewer = 24 * time.Hour
	}
	if cfg.Backoff == nil {
		cfg.Backoff = backoff
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	return &Handler{cfg: cfg, fn: fn}
}

// backoff doubles from 5 s to 15 min.
func backoff(receiveCount int) time.Duration {
	const first, most = 5 * time.Second, 15 * time.Minute
	return min(first<<min(max(receiveCount-1, 0), 10), most)
}

// Handle handles one event, as the package documentation says. Pass it to lambda.Start.
func (h *Handler) Handle(ctx context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
	for i := range e.Records {
		if e.Records[i].MessageId == "" {
			h.cfg.Logger.LogAttrs(ctx, slog.LevelError, "batch returned", slog.Int(telemetry.KeyRecords, len(e.Records)), telemetry.Error(ErrNoMessageID))
			telemetry.From(ctx).Count(telemetry.Records, len(e.Records))
			telemetry.From(ctx).Count(telemetry.Returned, len(e.Records))
			return answer(nil), fmt.Errorf("record %d of %d: %w", i, len(e.Records), ErrNoMessageID)
		}
	}
	items := openAll(e.Records)
	if len(items) == 0 {
		return answer(nil), nil
	}
	h.run(ctx, items)
	h.settle(ctx, items)
	h.log(ctx, items)
	count(telemetry.From(ctx), items)
	return answer(items), nil
}

// answer names what goes back, each id once.
func answer(items []*item) events.SQSEventResponse {
	failures := []events.SQSBatchItemFailure{} // Lambda takes null for "all succeeded"
	named := map[string]bool{}
	for _, it := range items {
		if id := it.record.MessageID; it.fate == back && !named[id] {
			named[id] = true
			failures = append(failures, events.SQSBatchItemFailure{ItemIdentifier: id})
		}
	}
	return events.SQSEventResponse{BatchItemFailures: failures}
}

// run gives every item its outcome, from the handler where the item can be read.
func (h *Handler) run(ctx context.Context, items []*item) {
	records, handled := make([]Record, 0, len(items)), make([]*item, 0, len(items))
	for _, it := range items {
		if errors.Is(it.noteErr, waybill.ErrNewer) {
			it.err = h.newer(it)
			continue
		}
		handled = append(handled, it)
		records = append(records, it.record)
	}
	if len(handled) == 0 {
		return
	}
	for i, err := range h.call(ctx, records) {
		handled[i].err = err
	}
}

// call calls the handler and returns one outcome for each record before the headroom is used up.
func (h *Handler) call(ctx context.Context, records []Record) []error {
	work, cancel := ctx, context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); ok {
		work, cancel = context.WithDeadline(ctx, deadline.Add(-h.cfg.Headroom))
	}
	defer cancel()
	if work.Err() != nil {
		h.cfg.Logger.LogAttrs(ctx, slog.LevelError, "no time to handle the batch: is the function's timeout longer than the headroom?",
			telemetry.Wait(h.cfg.Headroom))
		return slices.Repeat([]error{ErrNotStarted}, len(records))
	}
	result := make(chan []error, 1) // a late result finds room and is forgotten
	go func() {
		errs := slices.Repeat([]error{errMiscount}, len(records)) // stays if the goroutine is ended from within
		defer func() { result <- errs }()
		if err := Protect(func() error {
			got := h.fn(work, records)
			if len(got) == len(records) {
				errs = slices.Clone(got)
			}
			return nil
		}); err != nil {
			errs = slices.Repeat([]error{err}, len(records))
		}
	}()
	select {
	case errs := <-result:
		return errs
	case <-work.Done():
	}
	grace := time.NewTimer(h.cfg.Headroom / 4)
	defer grace.Stop()
	select {
	case errs := <-result:
		return errs
	case <-grace.C:
		return slices.Repeat([]error{errOverdue}, len(records))
	}
}
