package deliverer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/waybill"
)

// gate decides before the claim whether an attempt may be made now. It passes the job with its destination, or gives
// an outcome, or adds a message to held whose durability decides the outcome. None of it costs an attempt or a ledger write.
func (d *Deliverer) gate(ctx context.Context, set *registry.Set, j *job, held *sendings) (pass bool, err error) {
	m, now := &j.message, d.cfg.Now()
	if wait := m.DueAt.Sub(now); wait > 0 {
		return false, outcome.Defer(min(wait, queue.MaxDelay), errors.New("not due yet"))
	}
	destination, ok := set.Lookup(m.Destination)
	if !ok {
		return false, d.bury(j, "unknown-destination", held)
	}
	if until, is := d.disabled.until(m.Destination, now); is {
		return false, d.park(j, until, held)
	}
	if err := d.tooLate(ctx, destination); err != nil {
		return false, outcome.Defer(noTimeWait, err)
	}
	j.destination = destination
	return true, nil
}

// tooLate says that the invocation has less time left than an attempt at the destination may take.
func (d *Deliverer) tooLate(ctx context.Context, destination *registry.Destination) error {
	deadline, is := ctx.Deadline()
	if left := deadline.Sub(d.cfg.Now()); is && left < attemptTimeout(destination)+d.cfg.Headroom {
		return fmt.Errorf("%v left in this invocation is too little for an attempt of up to %v", left.Round(time.Millisecond), attemptTimeout(destination))
	}
	return nil
}

func attemptTimeout(d *registry.Destination) time.Duration {
	if d.Webhook != nil {
		return d.Webhook.Timeout
	}
	return registry.DefaultTimeout
}

// park holds a delivery for a destination that is disabled until the destination is probed again, or gives it
// up when it has been held too long. The attempt stays unspent.
func (d *Deliverer) park(j *job, until time.Time, held *sendings) error {
	m, now := j.message, d.cfg.Now()
	if m.HeldSince.IsZero() {
		m.HeldSince = now
	}
	if d.heldTooLong(&m) {
		return d.bury(j, reasonHeldTooLong, held)
	}
	sending, err := d.sending(m, until.Sub(now))
	if err != nil {
		return outcome.Retry(err)
	}
	held.deliveries.add(j, sending)
	return nil
}

// heldTooLong tells whether a delivery has waited for its destination for as long as it may.
func (d *Deliverer) heldTooLong(m *delivery.Message) bool {
	return !m.HeldSince.IsZero() && d.cfg.Now().Sub(m.HeldSince) >= d.cfg.LongestPark
}

// bury makes a dead letter of a delivery without an attempt.
func (d *Deliverer) bury(j *job, reason string, held *sendings) error {
	letter, err := d.deadLetter(j, j.message.Attempt-1, reason, "", 0)
	if err != nil {
		return outcome.Retry(err)
	}
	held.deadLetters.add(j, letter)
	return nil
}

// disabled remembers which destinations have answered 410, and until when they are left alone. It is the knowledge of one environment:
// another learns it by its own 410, at the cost of one call.
type disabled struct {
	mu    sync.Mutex
	since map[string]time.Time // end of the rest, by destination
}

func newDisabled() *disabled { return &disabled{since: map[string]time.Time{}} }

func (d *disabled) set(destination string, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since[destination] = until
}

func (d *disabled) until(destination string, now time.Time) (time.Time, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	until, ok := d.since[destination]
	if ok && !until.After(now) {
		delete(d.since, destination)
		ok = false
	}
	return until, ok
}

// sendings collects messages that must be durable before their jobs are acknowledged.
type sendings struct{ deliveries, deadLetters sendList }

// sendList is the part of sendings for one queue.
type sendList struct {
	jobs     []*job
	messages []queue.Message
}

func (s *sendList) add(j *job, m queue.Message) {
	s.jobs, s.messages = append(s.jobs, j), append(s.messages, m)
}

// send sends everything, one series of calls per queue, and tells each job how it went.
func (d *Deliverer) send(ctx context.Context, s *sendings, sent func(j *job, err error)) {
	for _, part := range []struct {
		to   queue.Sender
		list *sendList
	}{{d.cfg.Deliveries, &s.deliveries}, {d.cfg.DeadLetters, &s.deadLetters}} {
		if len(part.list.messages) == 0 {
			continue
		}
		errs := part.to.Send(ctx, part.list.messages)
		for i, j := range part.list.jobs {
			err := errUnanswered
			if len(errs) == len(part.list.messages) {
				err = errs[i]
			}
			sent(j, err)
		}
	}
}

var errUnanswered = errors.New("the queue did not answer for each message")

// sending makes the queue message of m, due after wait. Waits beyond what a queue can delay are told by DueAt: the message comes back
// and is delayed again.
func (d *Deliverer) sending(m delivery.Message, wait time.Duration) (queue.Message, error) {
	if wait > queue.MaxDelay {
		m.DueAt = d.cfg.Now().Add(wait)
	}
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		return queue.Message{}, err
	}
	return queue.Message{Body: body, Group: m.Destination, Delay: min(max(wait, 0), queue.MaxDelay)}, nil
}

// deadLetter makes the dead letter of a job, in the form in which moving it back is its redrive, with what a human needs to decide.
func (d *Deliverer) deadLetter(j *job, attempts int, reason, detail string, code int) (queue.Message, error) {
	m, err := d.sending(j.message.Restart(), 0)
	if err != nil {
		return m, err
	}
	note := waybill.Note{
		Reason: reason, Code: code, Detail: detail, Attempts: attempts, AcceptedAt: j.message.AcceptedAt, FailedAt: d.cfg.Now(),
		EventID: j.message.Event.ID, Destination: j.message.Destination,
	}
	m, complete := waybill.Attach(m, note)
	if !complete { // an id can be 64 KiB long, and it stands in the message too
		note.EventID = ""
		m, complete = waybill.Attach(m, note)
	}
	if !complete {
		d.cfg.Logger.Error("dead letter carries no reason, it did not fit", "delivery", j.message.Delivery, "reason", reason, "code", code)
	}
	return m, nil
}

func (d *Deliverer) sendHeld(ctx context.Context, held *sendings, outcomes []error) {
	d.send(ctx, held, func(j *job, err error) {
		if err != nil {
			outcomes[j.record] = outcome.Retry(fmt.Errorf("held delivery could not be sent: %w", err))
		}
	})
}
