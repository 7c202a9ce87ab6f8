package wiring

import (
	"context"
	"errors"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/waybillhq/waybill/functions/waker"
	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/telemetry"
)

// metrics gives the emitter of a function; nil if nobody takes its lines.
func metrics(cfg config.Function, p Parts) (*telemetry.Emitter, error) {
	if p.Metrics == nil {
		return nil, nil
	}
	version := cfg.Version
	if cfg.Function.As != "" {
		version = "" // under another one's name, whose versions have the same numbers
	}
	return telemetry.New(telemetry.Config{
		Service: cfg.Service, Function: string(cfg.Function.Publishes()), Version: version, Writer: p.Metrics, RequestID: requestID,
	})
}

func requestID(ctx context.Context) string {
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		return lc.AwsRequestID
	}
	return ""
}

// measured is handle, with a line of metrics for each invocation.
func measured[E, R any](e *telemetry.Emitter, handle func(context.Context, E) (R, error)) func(context.Context, E) (R, error) {
	if e == nil {
		return handle
	}
	return telemetry.Measure(e, handle)
}

// traced is handle, with a trace of each invocation.
func traced[E, R any](cfg config.Function, p Parts, handle func(context.Context, E) (R, error)) func(context.Context, E) (R, error) {
	return func(ctx context.Context, event E) (R, error) {
		ctx, end := p.Tracer.Invocation(ctx, string(cfg.Function.Name))
		result, err := handle(ctx, event)
		end(err)
		return result, err
	}
}

// publish counts what a run of the waker has done. That nothing lags is published too: it is the waker's sign of life. A run that could not even see what there is to do
// is none.
func publish(b *telemetry.Batch, r waker.Report) {
	b.Count(telemetry.WakerMoved, r.Moved)
	b.Count(telemetry.WakerDrained, r.Drained+r.Expired)
	b.Count(telemetry.WakerFailed, r.Failed)
	if !r.Blind {
		b.Duration(telemetry.WakerLag, r.Lag)
	}
	if r.OldestParked > 0 {
		b.Duration(telemetry.WakerOldestParked, r.OldestParked)
	}
	b.Count(telemetry.WaitingStray, r.Stray)
}

// throttles counts the statements of the ledger that DynamoDB throttled within successful calls: it has no metric of its own for them.
type throttles struct{ ledger.Store }

// Claim implements ledger.Store.
func (t throttles) Claim(ctx context.Context, claims []ledger.Claim) []ledger.Answer {
	answers := t.Store.Claim(ctx, claims)
	for _, a := range answers {
		countThrottle(ctx, a.Err)
	}
	return answers
}

// Settle implements ledger.Store.
func (t throttles) Settle(ctx context.Context, settlements []ledger.Settlement) []error {
	errs := t.Store.Settle(ctx, settlements)
	for _, err := range errs {
		countThrottle(ctx, err)
	}
	return errs
}

func countThrottle(ctx context.Context, err error) {
	if errors.Is(err, ledger.ErrThrottled) {
		telemetry.From(ctx).Count(telemetry.StatementThrottles, 1)
	}
}
