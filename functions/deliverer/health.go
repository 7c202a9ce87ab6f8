package deliverer

import (
	"context"
	"errors"
	"log/slog"

	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/telemetry"
)

// healthy asks the breaker, last of all gates: it may make this delivery the probe. What it holds is delayed or parked, without an attempt.
func (d *work) healthy(ctx context.Context, j *job, held *sendings) (pass bool, err error) {
	if d.health == nil {
		return true, nil
	}
	j.breaker = d.health.Gate(ctx, j.message.Destination, j.message.Delivery)
	switch {
	case j.breaker.Pass:
		return true, nil
	case j.breaker.Delay == 0:
		return false, d.park(j, held)
	}
	m := j.message
	if d.heldTooLong(&m) {
		return false, d.bury(j, reasonHeldTooLong, held)
	}
	if m.HeldSince.IsZero() {
		m.HeldSince = d.cfg.Now()
	}
	d.observeAge(ctx, telemetry.OldestThrottled, j)
	if err := d.later(j, m, j.breaker.Delay, held); err != nil {
		return false, outcome.Retry(err)
	}
	return false, nil
}

// tellOfClaim tells the breaker of a delivery that it has let pass and that will not be tried here: somebody else has it, or nobody could get it.
func (d *work) tellOfClaim(j *job) {
	switch {
	case d.health == nil || j.grant.Err == nil && j.grant.Verdict == ledger.Granted:
	case j.grant.Err == nil && j.grant.Verdict == ledger.Busy:
		d.health.Leave(j.message.Destination, j.breaker)
	default:
		d.health.Record(j.message.Destination, j.breaker, downstream.NotStarted, 0)
	}
}

// tellOfResult tells the breaker what came of an attempt.
func (d *work) tellOfResult(j *job) {
	if d.health != nil {
		d.health.Record(j.message.Destination, j.breaker, j.result.Verdict, j.result.RetryAfter)
	}
}

// flushHealth writes it in the middle of a batch: a neighbour that hangs should not keep others from learning it. What fails is told at the end.
func (d *work) flushHealth(ctx context.Context) {
	if d.health != nil {
		_ = d.health.Flush(ctx)
	}
}

// endHealth writes what others must know of destinations. Deliveries depend on none of it.
func (d *work) endHealth(ctx context.Context) {
	report, err := d.health.End(ctx)
	b := telemetry.From(ctx)
	b.Count(telemetry.BreakerHeld, report.Held+report.Throttled)
	b.Count(telemetry.BreakerOpened, report.Opened)
	b.Count(telemetry.BreakerBlind, report.Blind)
	if err != nil && !errors.Is(err, context.Canceled) {
		d.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the health of destinations could not be written; others learn of it later", telemetry.Error(err))
	}
}
