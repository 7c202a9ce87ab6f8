package deliverer

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/tracing"
)

// subject is what log lines about the job say first.
func (j *job) subject() telemetry.Subject {
	m := &j.message
	return telemetry.Subject{
		Event: m.Event.ID, Delivery: string(m.Delivery), Destination: m.Destination, Tenant: m.Event.Tenant(), Trace: j.trace,
		Epoch: m.Epoch, Attempt: m.Attempt,
	}
}

// facts are what a trace can be searched by. The event's own trace is one of them: the function's cannot be continued from it.
func (j *job) facts() []slog.Attr {
	m := &j.message
	return []slog.Attr{
		slog.String("delivery", string(m.Delivery)), slog.String("event", m.Event.ID), slog.String("destination", m.Destination),
		slog.Int("epoch", m.Epoch), slog.Int("attempt", m.Attempt), slog.String("event_trace", tracing.TraceID(j.trace)),
	}
}

// endSpan ends the span of an attempt that has its result.
func (j *job) endSpan() {
	j.span.Annotate(slog.String("verdict", j.result.Verdict.String()))
	if j.destination.Webhook != nil && j.result.Verdict != downstream.NotStarted {
		j.span.HTTP(http.MethodPost, j.destination.Webhook.URL, j.result.Code, -1)
	}
	if j.result.Code == 0 && j.result.Reason != "" {
		j.span.Fail(errors.New(j.result.Reason))
	}
	j.span.End()
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
	case j.unspent():
		d.countParked(ctx, j)
	default:
		b.Count(telemetry.Retried, 1)
		d.observeAge(ctx, telemetry.OldestRetrying, j)
	}
}

// countHeld publishes what has become, without an attempt, of a delivery that is durable elsewhere now.
func (d *Deliverer) countHeld(ctx context.Context, j *job) {
	switch {
	case j.passedOn:
		telemetry.From(ctx).Count(telemetry.PassedOn, 1)
		return
	case j.limited:
		telemetry.From(ctx).Count(telemetry.Limited, 1)
		d.observeAge(ctx, telemetry.OldestThrottled, j)
		return
	case j.buried == "":
		d.countParked(ctx, j)
		return
	}
	d.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "given up without an attempt", append(j.subject().Attrs(), slog.String(telemetry.KeyReason, j.buried))...)
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

// settled publishes that the ledger has learnt of a result. A replay has been delivered before; the canary's deliveries are nobody's, and where little else is
// sent they would make late ones look few.
func (d *Deliverer) settled(ctx context.Context, m *delivery.Message, state ledger.State) {
	if state == ledger.Delivered && !m.Replay && m.Destination != registry.CanaryID && !m.AcceptedAt.IsZero() {
		telemetry.From(ctx).Settled(d.age(m.AcceptedAt), d.cfg.Objective)
	}
}

func (d *Deliverer) age(since time.Time) time.Duration { return max(d.cfg.Now().Sub(since), 0) }
