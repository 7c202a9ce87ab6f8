// Package router turns the messages of the ingress queue into delivery messages: one for each destination that wants
// the event.
//
// It keeps no state. Delivery ids are derived from event and destination, so that routing a message twice, in full or in
// part, gives the same deliveries, and the ledger makes them one. A message is acknowledged only when every delivery of
// every event in it lies on the deliveries queue. What is no valid event, or too large to forward, is rejected to the
// ingress dead-letter queue with a reason; what only failed to be sent is deferred.
package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/pattern"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
)

// deferral is how long a message waits when our own side could not route it.
const deferral = 10 * time.Second

// Config configures a Router; the first two fields are required.
type Config struct {
	Destinations registry.Source
	Deliveries   queue.Sender
	Logger       *slog.Logger // default slog.Default()
}

// Router routes batches of ingress messages. It is safe for concurrent use.
type Router struct{ cfg Config }

// New makes a Router. The error lists every missing setting.
func New(cfg Config) (*Router, error) {
	var problems []error
	if cfg.Destinations == nil {
		problems = append(problems, errors.New("router: Config.Destinations is missing"))
	}
	if cfg.Deliveries == nil {
		problems = append(problems, errors.New("router: Config.Deliveries is missing"))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Router{cfg}, nil
}

// Route is a batch.Func: it gives one outcome for each record, in order.
func (r *Router) Route(ctx context.Context, records []batch.Record) []error {
	set, err := r.cfg.Destinations.Set(ctx)
	if err != nil {
		return slices.Repeat([]error{outcome.Defer(deferral, fmt.Errorf("destinations are unknown: %w", err))}, len(records))
	}
	w := &routing{set: set, to: r.cfg.Deliveries, outcomes: make([]error, len(records)), index: map[delivery.ID]int{}}
	for i, rec := range records {
		if err := batch.Protect(func() error { return w.route(ctx, i, rec) }); err != nil {
			w.outcomes[i] = err
		}
	}
	w.flush(ctx)
	r.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "routed",
		slog.Int("records", len(records)), slog.Int("events", w.events), slog.Int("deliveries", w.sent),
		slog.Int("unmatched", w.unmatched), slog.Int("dropped", w.dropped), slog.Int("unsent", w.unsent))
	return w.outcomes
}

// What is put together before it is sent. Memory is bounded by it: an event of 1 MiB that a thousand destinations want would
// otherwise need a gigabyte.
const (
	maxLoadBytes    = 16 << 20
	maxLoadMessages = 10_000
)

// routing is the work of one batch.
type routing struct {
	set      *registry.Set
	to       queue.Sender
	outcomes []error // by record

	// The load: messages to be sent next, for each the records that need it, and where each delivery stands in it.
	messages []queue.Message
	neededBy [][]int
	index    map[delivery.ID]int
	bytes    int

	events, unmatched, dropped, sent, unsent int
}

// route decodes record i and adds its deliveries to the load. Nothing of a record is added unless all of its events can be forwarded.
func (w *routing) route(ctx context.Context, i int, rec batch.Record) error {
	if ctx.Err() != nil {
		return outcome.Defer(deferral, errTimeUp)
	}
	acceptedAt := rec.Note.AcceptedAt
	if acceptedAt.IsZero() {
		acceptedAt = rec.SentAt
	}
	decoded, err := events.Decode(input(rec, acceptedAt))
	if err != nil {
		return invalid(err)
	}
	wanted := make([][]*registry.Destination, len(decoded.Events))
	unmatched := 0
	for n := range decoded.Events {
		e := &decoded.Events[n]
		wanted[n] = w.set.Match(e.Tenant(), pattern.NewEvent(e.Attributes(), e.Data))
		if len(wanted[n]) == 0 {
			unmatched++
		}
		if err := fits(e, wanted[n]); err != nil {
			return err
		}
	}
	for n, e := range decoded.Events {
		for _, d := range wanted[n] {
			if err := w.add(ctx, i, message(e, d.ID, acceptedAt), rec.Trace); err != nil {
				return err
			}
		}
	}
	w.events += len(decoded.Events)
	w.unmatched += unmatched
	w.dropped += decoded.Dropped
	return nil
}

func message(e events.Event, destination string, acceptedAt time.Time) delivery.Message {
	return delivery.Message{
		Delivery: delivery.NewID(e.Tenant(), e.Source, e.ID, destination), Destination: destination, Attempt: 1,
		Event: e, AcceptedAt: acceptedAt,
	}
}

// fits refuses an event that is too large for a delivery message to any of its destinations. Large events are put together once more
// for it; where nothing can exceed the limit, nothing is.
func fits(e *events.Event, destinations []*registry.Destination) error {
	const growth = 6 // of a byte that JSON escapes
	bytes := len(e.Data)
	for name, value := range e.Attributes() {
		bytes += len(name) + len(value)
	}
	if len(destinations) == 0 || growth*bytes < delivery.MaxBytes/2 {
		return nil
	}
	longest := slices.MaxFunc(destinations, func(a, b *registry.Destination) int { return cmp.Compare(len(a.ID), len(b.ID)) })
	m := message(*e, longest.ID, time.Now())
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		return outcome.Reject("unencodable", err)
	}
	if len(body) > delivery.MaxBytes {
		return outcome.Reject("too-large", fmt.Errorf("event %.64q does not fit into a delivery message of %d bytes, compressed %d: send less, or a reference",
			e.ID, delivery.MaxBytes, len(body)))
	}
	return nil
}

// add adds a delivery that record i needs, unless the load has it already, and sends the load when it is full.
func (w *routing) add(ctx context.Context, i int, m delivery.Message, trace string) error {
	if ctx.Err() != nil {
		return outcome.Defer(deferral, errTimeUp)
	}
	if at, ok := w.index[m.Delivery]; ok {
		w.neededBy[at] = append(w.neededBy[at], i)
		return nil
	}
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		return outcome.Reject("unencodable", err)
	}
	w.index[m.Delivery] = len(w.messages)
	w.messages = append(w.messages, queue.Message{Body: body, Group: m.Destination, Trace: trace})
	w.neededBy = append(w.neededBy, []int{i})
	if w.bytes += len(body); w.bytes >= maxLoadBytes || len(w.messages) >= maxLoadMessages {
		w.flush(ctx)
	}
	return w.outcomes[i] // if it cannot be routed whole, the rest can wait
}

// flush sends the load. What was not accepted brings back every record that needs it.
func (w *routing) flush(ctx context.Context) {
	if len(w.messages) == 0 {
		return
	}
	errs := w.to.Send(ctx, w.messages)
	for at, records := range w.neededBy {
		err := errUnanswered
		if len(errs) == len(w.messages) {
			err = errs[at]
		}
		if err == nil {
			w.sent++
			continue
		}
		for _, i := range records {
			if w.outcomes[i] == nil {
				w.unsent++
				w.outcomes[i] = unsent(err)
			}
		}
	}
	clear(w.messages) // lets go of the bodies
	w.messages, w.neededBy, w.bytes = w.messages[:0], w.neededBy[:0], 0
	clear(w.index)
}

var (
	errUnanswered = errors.New("the queue did not answer for each message")
	errTimeUp     = errors.New("time was up before all deliveries were sent")
)

func unsent(err error) error {
	if errors.Is(err, queue.ErrTooLarge) {
		return outcome.Reject("too-large", err)
	}
	return outcome.Defer(deferral, fmt.Errorf("deliveries could not be sent: %w", err))
}

func invalid(err error) error {
	reason := "invalid-event"
	var e *events.InvalidError
	if errors.As(err, &e) {
		reason = e.Code
	}
	return outcome.Reject(reason, err)
}

// input is the record as package events reads it. Its time is that of its first acceptance: a copy that was sent again is the same event.
func input(rec batch.Record, acceptedAt time.Time) events.Input {
	attributes := make(map[string]events.Attribute, len(rec.Attributes))
	for name, a := range rec.Attributes {
		attributes[name] = events.Attribute{DataType: a.DataType, StringValue: a.String, BinaryValue: a.Binary}
	}
	return events.Input{
		MessageID: rec.MessageID, QueueARN: rec.QueueARN, GroupID: rec.Group, EventID: rec.Note.EventID,
		SentAt: acceptedAt, Body: rec.Body, Attributes: attributes,
	}
}
