package batch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/waybill"
)

const (
	// longestBack is below SQS's 12 h, which count from the receive: a batch window of 5 min and a function of 15 min may
	// have passed since, and SQS refuses what ends later.
	longestBack = queue.MaxVisibility - 20*time.Minute
	// lastBack is how long a message waits that could not be sent again before what may be its last receive. Longer would outlast longer
	// outages, but what is in flight counts against SQS's limit, and a queue at its limit stands still.
	lastBack = 30 * time.Minute
	// settleTime bounds settling where the context has no deadline.
	settleTime = 30 * time.Second
)

// settle decides what becomes of every item and makes it so: first the copies, then the visibility of what goes back.
func (h *Handler) settle(ctx context.Context, items []*item) {
	ctx, cancel := h.settling(ctx)
	defer cancel()
	for _, it := range items {
		h.decide(it)
	}
	keepOrder(items)
	h.bury(ctx, items)
	keepOrder(items)
	h.resend(ctx, items)
	h.reveal(ctx, items)
}

// settling is a context that outlives a cancelled invocation but not its deadline.
func (h *Handler) settling(ctx context.Context) (context.Context, context.CancelFunc) {
	end := time.Now().Add(settleTime)
	if deadline, ok := ctx.Deadline(); ok {
		end = deadline.Add(-h.cfg.Headroom / 10) // for the answer itself
	}
	return context.WithDeadline(context.WithoutCancel(ctx), end)
}

// decide is the one switch from outcomes to fates.
func (h *Handler) decide(it *item) {
	it.verdict = judge(it.err)
	switch it.verdict.Kind {
	case outcome.Acknowledged:
		it.fate = acknowledged
	case outcome.Deferred:
		it.after = max(it.verdict.Delay, 0)
		it.fate = back
		if h.resends(it) {
			it.fate = again
		}
	case outcome.Rejected:
		it.fate = dead
	default:
		h.decideRetry(it)
	}
	if it.fate == dead && h.cfg.DeadLetter == nil {
		it.fate, it.after = back, h.backoff(it) // sent again it would never be counted out
	}
}

func (h *Handler) decideRetry(it *item) {
	switch {
	case it.verdict.Delay > 0:
		it.after = h.jitter(it.verdict.Delay)
	case is(it.err, ErrNotStarted):
		it.after = 0
	default:
		it.after = h.backoff(it)
	}
	if reason, is := poison(it.err); is && h.last(it) {
		it.verdict.Reason, it.fate = reason, dead
		return
	}
	h.giveBack(it)
}

// giveBack returns an item, or sends it again where another receive could count it out.
func (h *Handler) giveBack(it *item) {
	it.fate = back
	if h.last(it) && h.resends(it) {
		it.fate = again
	}
}

// last tells whether the next receive may be the last one.
func (h *Handler) last(it *item) bool {
	return h.cfg.MaxReceiveCount > 0 && it.record.ReceiveCount >= h.cfg.MaxReceiveCount-1
}

func (h *Handler) resends(it *item) bool { return h.cfg.Source != nil && !it.record.FIFO }

// poison names what makes a record fail by itself: sent again, it would fail for ever.
func poison(err error) (reason string, yes bool) {
	if _, ok := asPanic(err); ok {
		return "panic", true
	}
	return "unfinished", is(err, errUnfinished)
}

func (h *Handler) backoff(it *item) time.Duration {
	return h.jitter(h.cfg.Backoff(max(it.record.ReceiveCount, 1)))
}

// jitter adds up to 20 %: never earlier than a receiver asked for.
func (h *Handler) jitter(d time.Duration) time.Duration {
	d = min(max(d, 0), queue.MaxVisibility) // beyond it, adding could overflow
	return d + time.Duration(h.cfg.Random()*0.2*float64(d))
}

// keepOrder returns what follows a returned record of the same FIFO group, to be visible together with it.
func keepOrder(items []*item) {
	first := map[string]*item{}
	for _, it := range items {
		if !it.record.FIFO {
			continue
		}
		head, blocked := first[it.record.Group]
		switch {
		case blocked:
			it.fate, it.after, it.behind = back, head.after, head.record.MessageID
		case it.fate == back:
			first[it.record.Group] = it
		}
	}
}

// bury sends the dead letters. One that was not accepted goes back like a retry.
func (h *Handler) bury(ctx context.Context, items []*item) {
	h.send(ctx, items, dead, h.cfg.DeadLetter, h.deadLetter, func(it *item) {
		it.after = h.backoff(it)
		h.giveBack(it)
	})
}

// resend sends what is to be sent again. What was not accepted goes back, and spends a receive: the fewer are left, the longer it waits.
func (h *Handler) resend(ctx context.Context, items []*item) {
	h.send(ctx, items, again, h.cfg.Source, h.copy, func(it *item) {
		it.fate, it.after = back, max(it.after, h.backoff(it))
		if h.last(it) {
			it.after = max(it.after, h.jitter(lastBack))
		}
	})
}

// send sends the messages of all items with a fate at once.
func (h *Handler) send(ctx context.Context, items []*item, f fate, to queue.Sender, message func(context.Context, *item) queue.Message, failed func(*item)) {
	var chosen []*item
	var messages []queue.Message
	for _, it := range items {
		if it.fate == f {
			chosen = append(chosen, it)
			messages = append(messages, message(ctx, it))
		}
	}
	if len(chosen) == 0 {
		return
	}
	// Half of what is left: a queue that hangs must leave time to return what it did not take.
	if deadline, ok := ctx.Deadline(); ok {
		half, cancel := context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
		ctx = half
	}
	errs := to.Send(ctx, messages)
	for i, it := range chosen {
		err := errUnsettled
		if len(errs) == len(messages) {
			err = errs[i]
		}
		if err != nil {
			it.mishap = errors.Join(it.mishap, fmt.Errorf("could not be %v: %w", f, err))
			failed(it)
		}
	}
}

// copy is the message sent again.
func (h *Handler) copy(ctx context.Context, it *item) queue.Message {
	m := h.note(ctx, it, addition(it.err))
	m.Delay = min(it.after, queue.MaxDelay)
	return m
}

// deadLetter is the message with the reason why it was given up.
func (h *Handler) deadLetter(ctx context.Context, it *item) queue.Message {
	reason := it.verdict.Reason
	if reason == "" {
		reason = "rejected"
	}
	n := addition(it.err)
	n.Reason, n.Detail, n.Attempts, n.FailedAt, n.Trace = reason, text(it.verdict.Err), it.record.ReceiveCount, time.Now(), it.record.Trace
	m := h.note(ctx, it, n)
	if it.record.FIFO {
		// The same message rejected again is the same dead letter; the producer's own id could make two messages one.
		m.Deduplication = it.record.MessageID
	}
	return m
}

// note attaches n to the message as received, with the identity of its event.
func (h *Handler) note(ctx context.Context, it *item, n waybill.Note) queue.Message {
	if errors.Is(it.noteErr, waybill.ErrNewer) {
		return it.marked(n.Reason)
	}
	n.EventID, n.AcceptedAt = it.record.MessageID, it.record.SentAt
	if n.AcceptedAt.IsZero() {
		n.AcceptedAt = time.Now()
	}
	m, complete := waybill.Attach(it.message, n)
	if !complete {
		h.cfg.Logger.LogAttrs(ctx, slog.LevelError, "message carries no note, it did not fit",
			telemetry.Text(telemetry.KeyMessageID, it.record.MessageID), telemetry.Text(telemetry.KeyReason, n.Reason), slog.String(telemetry.KeyDetail, n.Detail))
	}
	return m
}

// reveal sets when what goes back is visible again. Failing to is no more than a wrong delay.
func (h *Handler) reveal(ctx context.Context, items []*item) {
	if h.cfg.Source == nil {
		return
	}
	var chosen []*item
	var changes []queue.Visibility
	for _, it := range items {
		if it.fate == back {
			it.after = min(it.after, longestBack)
			for _, receipt := range it.receipts {
				chosen = append(chosen, it)
				changes = append(changes, queue.Visibility{Receipt: receipt, After: it.after})
			}
		}
	}
	if len(chosen) == 0 {
		return
	}
	errs := h.cfg.Source.ChangeVisibility(ctx, changes)
	for i, it := range chosen {
		err := errUnsettled
		if len(errs) == len(changes) {
			err = errs[i]
		}
		if err != nil {
			it.mishap = errors.Join(it.mishap, fmt.Errorf("visibility not changed: %w", err))
		}
	}
}
