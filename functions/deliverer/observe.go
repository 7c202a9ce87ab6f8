package deliverer

import (
	"context"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/telemetry"
)

// subject is what log lines about the job say first.
func (j *job) subject() telemetry.Subject {
	m := &j.message
	return telemetry.Subject{
		Event: m.Event.ID, Delivery: string(m.Delivery), Destination: m.Destination, Tenant: m.Event.Tenant(), Trace: j.trace,
		Epoch: m.Epoch, Attempt: m.Attempt,
	}
}

// count publishes what has become of a failed attempt, once it is durable.
func (d *Deliverer) count(ctx context.Context, j *job) {
	b := telemetry.From(ctx)
	switch {
	case j.plan.Future == ledger.DeadLetter:
		b.Count(telemetry.Dead, 1)
		if j.result.Verdict != downstream.Reject {
			b.Count(telemetry.GivenUp, 1)
		}
	case j.result.Verdict == downstream.Gone:
		d.countParked(ctx, j)
	default:
		b.Count(telemetry.Retried, 1)
		d.observeAge(ctx, telemetry.OldestRetrying, j)
	}
}

// countHeld publishes what has become, without an attempt, of a delivery that is durable elsewhere now.
func (d *Deliverer) countHeld(ctx context.Context, j *job) {
	if j.buried == "" {
		d.countParked(ctx, j)
		return
	}
	telemetry.From(ctx).Count(telemetry.Dead, 1)
	if j.buried == reasonHeldTooLong {
		telemetry.From(ctx).Count(telemetry.GivenUp, 1)
	}
}

func (d *Deliverer) countParked(ctx context.Context, j *job) {
	telemetry.From(ctx).Count(telemetry.Parked, 1)
	d.observeAge(ctx, telemetry.OldestParked, j)
}

func (d *Deliverer) observeAge(ctx context.Context, m telemetry.Metric, j *job) {
	if accepted := j.message.AcceptedAt; !accepted.IsZero() {
		telemetry.From(ctx).Duration(m, d.age(accepted))
	}
}

// settled publishes that the ledger has learnt of a result. A replay has been delivered before.
func (d *Deliverer) settled(ctx context.Context, m *delivery.Message, state ledger.State) {
	if state == ledger.Delivered && !m.Replay && !m.AcceptedAt.IsZero() {
		telemetry.From(ctx).Settled(d.age(m.AcceptedAt), d.cfg.Objective)
	}
}

func (d *Deliverer) age(since time.Time) time.Duration { return max(d.cfg.Now().Sub(since), 0) }
