// Package router turns the messages of the ingress queue into delivery messages: one for each destination that wants
// the event.
//
// It keeps no state. Delivery ids are derived from event and destination, so that routing a message twice, in full or in
// part, gives the same deliveries, and the ledger makes them one. A message is acknowledged only when every delivery of
// every event in it lies on the deliveries queue. What is no valid event, or can never be forwarded, is rejected to the
// ingress dead-letter queue with a reason; what only failed to be sent is deferred, the longer the older it is.
//
// An event may have more deliveries than one invocation can send. They are sent in the order of the destinations' ids, and the copy
// of the message that comes back carries how far routing has come, so that every invocation goes on where the last one ended. A destination that is
// added meanwhile before that place does not get the event, as if it had been added after it; ids, unlike places in a file, stay what they are whatever is
// added or removed.
//
// What a batch did is counted in the telemetry.Batch of the context; without one it is logged.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/telemetry"
)

// EveryQueue as a key of Config.Tenants pins all queues that have no entry of their own.
const EveryQueue = "*"

// Config configures a Router; the first two fields are required.
type Config struct {
	Destinations registry.Source
	Deliveries   queue.Sender
	// Tenants pins queues to tenants, by the queue's ARN, its name or EveryQueue: whatever a message there says, its events are that tenant's.
	// Default: producers are trusted with the name of their tenant.
	Tenants map[string]string
	// Refused tells whether an error of Deliveries is about what the message holds, so that no repetition can help. Missing permissions, keys or
	// queues are no such errors: they end without the message being changed. Default: queue.ErrTooLarge alone, which always is one.
	Refused func(error) bool
	Random  func() float64 // [0, 1), for jitter; default math/rand/v2
	Logger  *slog.Logger   // default slog.Default()
}

// Router routes batches of ingress messages. It is safe for concurrent use.
type Router struct{ cfg Config }

// New makes a Router. The error lists every missing or impossible setting.
func New(cfg Config) (*Router, error) {
	var problems []error
	if cfg.Destinations == nil {
		problems = append(problems, errors.New("router: Config.Destinations is missing"))
	}
	if cfg.Deliveries == nil {
		problems = append(problems, errors.New("router: Config.Deliveries is missing"))
	}
	for name, tenant := range cfg.Tenants {
		if err := checkTenant(tenant); err != nil {
			problems = append(problems, fmt.Errorf("router: Config.Tenants[%q] %w", name, err))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if cfg.Refused == nil {
		cfg.Refused = func(error) bool { return false }
	}
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Router{cfg}, nil
}

// checkTenant refuses a tenant under which every event would be invalid, or that reads as if it were several.
func checkTenant(tenant string) error {
	if tenant == "" || tenant == registry.EveryTenant || tenant == registry.CanaryTenant {
		return fmt.Errorf("is %q: name the tenant, or leave the queue out if producers may name theirs", tenant)
	}
	e := events.Event{ID: "1", Source: "/", Type: "t", Extensions: map[string]string{events.TenantExtension: tenant}}
	if err := e.Validate(); err != nil {
		return fmt.Errorf("cannot be a tenant: %w", err)
	}
	return nil
}

// tenant is the tenant to which a queue is pinned, or "".
func (r *Router) tenant(queueARN string) string {
	name := queueARN[strings.LastIndexByte(queueARN, ':')+1:]
	for _, key := range [...]string{queueARN, name, EveryQueue} {
		if tenant := r.cfg.Tenants[key]; tenant != "" {
			return tenant
		}
	}
	return ""
}

// Route is a batch.Func: it gives one outcome for each record, in order.
func (r *Router) Route(ctx context.Context, records []batch.Record) []error {
	set, err := r.cfg.Destinations.Set(ctx)
	if err != nil {
		telemetry.From(ctx).Count(telemetry.Faults, len(records))
		outcomes := make([]error, len(records))
		for i, rec := range records {
			outcomes[i] = outcome.Defer(r.later(acceptedAt(rec)), fmt.Errorf("destinations are unknown: %w", err))
		}
		return outcomes
	}
	w := &routing{Router: r, set: set, records: make([]state, len(records)), index: map[delivery.ID]int{}}
	for i, rec := range records {
		w.fail(i, batch.Protect(func() error { return w.route(ctx, i, rec) }))
	}
	w.flush(ctx)
	outcomes := make([]error, len(records))
	for i, rec := range records {
		outcomes[i] = w.outcome(i, rec)
	}
	w.report(ctx)
	return outcomes
}

// What a message waits that could not be routed.
const (
	shortestWait = 5 * time.Second
	longestWait  = queue.MaxDelay
	continueWait = time.Second // one that goes on where it ended
)

// later is how long a message waits for what is not its fault: a quarter of its age, so that a hiccup costs little time and an outage few tries, less up
// to 20 %, so that what failed together does not come back together.
func (r *Router) later(acceptedAt time.Time) time.Duration {
	wait := min(max(time.Since(acceptedAt)/4, shortestWait), longestWait)
	return wait - time.Duration(r.cfg.Random()*0.2*float64(wait))
}

// acceptedAt is when the message that a record is, or is a copy of, was accepted.
func acceptedAt(rec batch.Record) time.Time {
	if rec.Note.AcceptedAt.IsZero() {
		return rec.SentAt
	}
	return rec.Note.AcceptedAt
}

// outcome is what becomes of a record, when all is sent that could be.
func (w *routing) outcome(i int, rec batch.Record) error {
	s := &w.records[i]
	o := outcome.Of(s.err)
	switch {
	case o.Kind == outcome.Acknowledged, o.Kind == outcome.Rejected:
		w.count(s, o.Kind == outcome.Rejected)
	case o.Kind == outcome.Deferred && s.moved && errors.Is(s.err, errTimeUp):
		w.total.continued++
		s.err = outcome.Defer(continueWait, o.Err)
	case o.Kind == outcome.Deferred:
		if !errors.Is(s.err, errTimeUp) {
			w.total.faults++
		}
		s.err = outcome.Defer(w.later(acceptedAt(rec)), o.Err)
	}
	if s.moved {
		return batch.Noted(s.err, note(s.routed))
	}
	return s.err
}

// invalid is the outcome of what is no event.
func invalid(err error) error {
	reason := "invalid-event"
	var e *events.InvalidError
	if errors.As(err, &e) {
		reason = e.Code
	}
	return outcome.Reject(reason, err)
}

// input is the record as package events reads it. Its time is that of its first acceptance: a copy that was sent again is the same event.
func (r *Router) input(rec batch.Record) events.Input {
	attributes := make(map[string]events.Attribute, len(rec.Attributes))
	for name, a := range rec.Attributes {
		attributes[name] = events.Attribute{DataType: a.DataType, StringValue: a.String, BinaryValue: a.Binary}
	}
	return events.Input{
		MessageID: rec.MessageID, QueueARN: rec.QueueARN, GroupID: rec.Group, EventID: rec.Note.EventID,
		SentAt: acceptedAt(rec), Body: rec.Body, Attributes: attributes, Tenant: r.tenant(rec.QueueARN),
	}
}

// tally counts what became of a batch.
type tally struct {
	accepted, routed, unmatched, dropped, matches, unsent, continued, faults int
}

// count adds a record that came to its end.
func (w *routing) count(s *state, rejected bool) {
	if rejected {
		w.total.accepted++
		return
	}
	w.total.accepted += s.events + s.dropped
	w.total.routed += s.events - s.unmatched
	w.total.unmatched += s.unmatched
	w.total.dropped += s.dropped
}

// report tells the batch's metrics, or the log, what was done.
func (w *routing) report(ctx context.Context) {
	b := telemetry.From(ctx)
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.Int(telemetry.KeyRecords, len(w.records)))
	for _, c := range [...]struct {
		metric telemetry.Metric
		n      int
	}{
		{telemetry.Accepted, w.total.accepted}, {telemetry.Routed, w.total.routed}, {telemetry.Unmatched, w.total.unmatched},
		{telemetry.Dropped, w.total.dropped}, {telemetry.Matches, w.total.matches}, {telemetry.Unsent, w.total.unsent}, {telemetry.Continued, w.total.continued},
		{telemetry.Faults, w.total.faults},
	} {
		b.Count(c.metric, c.n)
		attrs = append(attrs, slog.Int(c.metric.String(), c.n))
	}
	if b == nil {
		w.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "batch", slices.Clip(attrs)...)
	}
}
