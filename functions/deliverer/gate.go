package deliverer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/waiting"
	"github.com/waybillhq/waybill/shared/waybill"
)

// gate decides before the claim whether an attempt may be made now. It passes the job with its destination, or gives
// an outcome, or adds a message to held whose durability decides the outcome. None of it costs an attempt or a ledger write.
func (d *work) gate(ctx context.Context, set *registry.Set, j *job, held *sendings) (pass bool, err error) {
	m, now := &j.message, d.cfg.Now()
	if wait := m.DueAt.Sub(now); wait > 0 {
		return false, outcome.Defer(min(wait, d.cfg.LongestDelay), errors.New("not due yet"))
	}
	destination, ok := set.Lookup(m.Destination)
	if !ok {
		if destination, ok, err = d.lookAgain(ctx, m.Destination); err != nil {
			return false, d.fault(ctx, err)
		}
	}
	// What the canary misses is its own alarm's to tell; nobody wants the delivery itself. It is off as long as a release that switches it on or off is under way.
	if !ok && m.Destination == registry.CanaryID || ok && d.outlived(m, destination) {
		return false, nil
	}
	if !ok {
		return false, d.bury(j, "unknown-destination", held)
	}
	if !set.State(m.Destination).MayReceive() {
		return false, d.park(j, held)
	}
	if err := d.tooLate(ctx, destination); err != nil {
		return false, outcome.Defer(noTimeWait, err)
	}
	if d.cfg.Secrets != nil {
		if destination, err = d.cfg.Secrets.Resolve(ctx, destination); err != nil {
			return false, d.fault(ctx, fmt.Errorf("secrets of destination %s: %w", m.Destination, err))
		}
	}
	j.destination = destination
	if pass, err := d.healthy(ctx, j, held); !pass || err != nil {
		return false, err
	}
	if d.slow(ctx, j) {
		return false, d.passOn(j, held)
	}
	return true, nil
}

// outlived tells whether a delivery is of no use any more.
func (d *Deliverer) outlived(m *delivery.Message, destination *registry.Destination) bool {
	return destination.Life > 0 && !m.AcceptedAt.IsZero() && d.age(m.AcceptedAt) > destination.Life
}

// lookAgain asks for a destination that is not in the set at hand: the router may have read newer destinations than this environment.
func (d *Deliverer) lookAgain(ctx context.Context, id string) (*registry.Destination, bool, error) {
	looker, is := d.cfg.Destinations.(registry.Looker)
	if !is {
		return nil, false, nil
	}
	return looker.Look(ctx, id)
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

// park holds a delivery for a destination that may not receive, or gives it up when it has been held too long. The attempt stays unspent.
func (d *Deliverer) park(j *job, held *sendings) error {
	m := j.message
	if d.heldTooLong(&m) {
		return d.bury(j, reasonHeldTooLong, held)
	}
	if m.HeldSince.IsZero() {
		m.HeldSince = d.cfg.Now()
	}
	held.room.add(j, waiting.Held{Message: m, Parked: true, Trace: j.trace})
	return nil
}

// heldTooLong tells whether a delivery has waited for its destination for as long as it may.
func (d *Deliverer) heldTooLong(m *delivery.Message) bool {
	return !m.HeldSince.IsZero() && d.cfg.Now().Sub(m.HeldSince) >= d.cfg.LongestPark
}

// bury makes a dead letter of a delivery without an attempt.
func (d *Deliverer) bury(j *job, reason string, held *sendings) error {
	j.buried = reason
	letter, err := d.deadLetter(j, j.message.Attempt-1, reason, "", 0)
	if err != nil {
		return outcome.Retry(err)
	}
	held.deadLetters.add(j, letter)
	return nil
}

// sendings collects messages that must be durable before their jobs are acknowledged.
type sendings struct {
	deliveries, turns, slowLane, deadLetters sendList
	room                                     roomList
}

// roomList is the part of sendings for the waiting room.
type roomList struct {
	jobs []*job
	held []waiting.Held
}

func (r *roomList) add(j *job, h waiting.Held) {
	r.jobs, r.held = append(r.jobs, j), append(r.held, h)
}

// sendList is the part of sendings for one queue.
type sendList struct {
	jobs     []*job
	messages []queue.Message
}

func (s *sendList) add(j *job, m queue.Message) {
	s.jobs, s.messages = append(s.jobs, j), append(s.messages, m)
}

// send puts what waits long into the waiting room and sends everything else, one series of calls per queue, and tells each job how it went.
func (d *Deliverer) send(ctx context.Context, s *sendings, sent func(j *job, err error)) {
	d.hold(ctx, s, sent)
	for _, part := range []struct {
		to   queue.Sender
		list *sendList
	}{{d.cfg.Deliveries, &s.deliveries}, {d.cfg.Turns, &s.turns}, {d.cfg.SlowLane, &s.slowLane}, {d.cfg.DeadLetters, &s.deadLetters}} {
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

// hold puts deliveries into the waiting room. What does not fit there is delayed by the queue instead, again and again until it may go.
func (d *Deliverer) hold(ctx context.Context, s *sendings, sent func(j *job, err error)) {
	if len(s.room.held) == 0 {
		return
	}
	errs := d.cfg.Room.Hold(ctx, s.room.held)
	for i, j := range s.room.jobs {
		err := errors.New("the waiting room did not answer for each delivery")
		if len(errs) == len(s.room.held) {
			err = errs[i]
		}
		if errors.Is(err, waiting.ErrTooLarge) || errors.Is(err, waiting.ErrTooSoon) {
			h := s.room.held[i]
			wait := d.cfg.LongestDelay
			if !h.Parked {
				wait = h.DueAt.Sub(d.cfg.Now())
			}
			var message queue.Message
			if message, err = d.sending(j, h.Message, wait); err == nil {
				s.deliveries.add(j, message)
				continue
			}
		}
		sent(j, err)
	}
}

// later adds m, due after wait, to what must be made durable: up to what a queue can delay as a message, beyond that in the waiting room.
func (d *Deliverer) later(j *job, m delivery.Message, wait time.Duration, to *sendings) error {
	if wait > d.cfg.LongestDelay {
		to.room.add(j, waiting.Held{Message: m, DueAt: d.cfg.Now().Add(wait), Trace: j.trace})
		return nil
	}
	message, err := d.sending(j, m, wait)
	if err != nil {
		return err
	}
	to.deliveries.add(j, message)
	return nil
}

// sending makes the queue message of m, due after wait. Waits beyond what a queue can delay are told by DueAt: the message comes back
// and is delayed again.
func (d *Deliverer) sending(j *job, m delivery.Message, wait time.Duration) (queue.Message, error) {
	if wait > d.cfg.LongestDelay {
		m.DueAt = d.cfg.Now().Add(wait)
	}
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		return queue.Message{}, err
	}
	return queue.Message{Body: body, Group: m.Destination, Delay: min(max(wait, 0), d.cfg.LongestDelay), Trace: j.trace}, nil
}

// deadLetter makes the dead letter of a job, in the form in which moving it back is its redrive, with what a human needs to decide.
func (d *Deliverer) deadLetter(j *job, attempts int, reason, detail string, code int) (queue.Message, error) {
	next := j.message.Restart()
	if j.grant.Verdict == ledger.Granted && !j.grant.Unclaimed {
		// The claim has brought a replay's epoch into the ledger. If that is delivered after all, by whoever takes the claim over, moving this letter back must not deliver
		// it once more; if it is not, no replay is needed.
		next.Replay = false
	}
	m, err := d.sending(j, next, 0)
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
			telemetry.From(ctx).Count(telemetry.Faults, 1)
			outcomes[j.record] = outcome.Retry(fmt.Errorf("held delivery could not be sent: %w", err))
			return
		}
		d.countHeld(ctx, j)
	})
}
