// Package router turns the messages of the ingress queue into delivery messages: one for each destination that wants
// the event.
//
// It keeps no state. Delivery ids are derived from event and destination, so that routing a message twice, in full or in
// part, gives the same deliveries, and the ledger makes them one. A message is acknowledged only when every delivery of
// every event in it lies on the deliveries queue. What is no valid event, or too large to forward, is rejected to the
// ingress dead-letter queue with a reason; what only failed to be sent is deferred.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// routing is the work of one batch: the messages to be sent, and which record needs which of them.
type routing struct {
	set      *registry.Set
	messages []queue.Message
	index    map[delivery.ID]int // position in messages
	needs    [][]int             // for each record, positions in messages

	events, unmatched, dropped int
}

// Route is a batch.Func: it gives one outcome for each record, in order.
func (r *Router) Route(ctx context.Context, records []batch.Record) []error {
	outcomes := make([]error, len(records))
	set, err := r.cfg.Destinations.Set(ctx)
	if err != nil {
		for i := range outcomes {
			outcomes[i] = outcome.Defer(deferral, fmt.Errorf("destinations are unknown: %w", err))
		}
		return outcomes
	}
	w := &routing{set: set, index: map[delivery.ID]int{}, needs: make([][]int, len(records))}
	for i, rec := range records {
		outcomes[i] = batch.Protect(func() error { return w.add(i, rec) })
	}
	sent := r.cfg.Deliveries.Send(ctx, w.messages)
	failed := 0
	for i := range records {
		for _, m := range w.needs[i] {
			if sent[m] != nil && outcomes[i] == nil {
				failed++
				outcomes[i] = unsent(sent[m])
			}
		}
	}
	r.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "routed",
		slog.Int("records", len(records)), slog.Int("events", w.events), slog.Int("deliveries", len(w.messages)),
		slog.Int("unmatched", w.unmatched), slog.Int("dropped", w.dropped), slog.Int("unsent", failed))
	return outcomes
}

func unsent(err error) error {
	if errors.Is(err, queue.ErrTooLarge) {
		return outcome.Reject("too-large", err)
	}
	return outcome.Defer(deferral, fmt.Errorf("deliveries could not be sent: %w", err))
}

// add decodes record i and adds its deliveries. On error nothing of the record is added.
func (w *routing) add(i int, rec batch.Record) error {
	decoded, err := events.Decode(input(rec))
	if err != nil {
		return invalid(err)
	}
	acceptedAt := rec.Note.AcceptedAt
	if acceptedAt.IsZero() {
		acceptedAt = rec.SentAt
	}
	var added []queue.Message
	var ids []delivery.ID
	unmatched := 0
	for _, e := range decoded.Events {
		destinations := w.set.Match(e.Tenant(), pattern.NewEvent(e.Attributes(), e.Data))
		if len(destinations) == 0 {
			unmatched++
		}
		for _, d := range destinations {
			m := delivery.Message{
				Delivery: delivery.NewID(e.Tenant(), e.Source, e.ID, d.ID), Destination: d.ID, Attempt: 1,
				Event: e, AcceptedAt: acceptedAt,
			}
			body, err := m.Encode(delivery.MaxBytes)
			if err != nil {
				return outcome.Reject("unencodable", err)
			}
			if len(body) > delivery.MaxBytes {
				return outcome.Reject("too-large", fmt.Errorf("event %q does not fit into a delivery message of %d bytes, compressed %d: send less, or a reference",
					e.ID, delivery.MaxBytes, len(body)))
			}
			ids = append(ids, m.Delivery)
			added = append(added, queue.Message{Body: body, Group: d.ID, Trace: rec.Trace})
		}
	}
	for n, m := range added {
		at, ok := w.index[ids[n]]
		if !ok {
			at = len(w.messages)
			w.index[ids[n]] = at
			w.messages = append(w.messages, m)
		}
		w.needs[i] = append(w.needs[i], at)
	}
	w.events += len(decoded.Events)
	w.unmatched += unmatched
	w.dropped += decoded.Dropped
	return nil
}

func invalid(err error) error {
	reason := "invalid-event"
	var e *events.InvalidError
	if errors.As(err, &e) {
		reason = e.Code
	}
	return outcome.Reject(reason, err)
}

func input(rec batch.Record) events.Input {
	attributes := make(map[string]events.Attribute, len(rec.Attributes))
	for name, a := range rec.Attributes {
		attributes[name] = events.Attribute{DataType: a.DataType, StringValue: a.String, BinaryValue: a.Binary}
	}
	return events.Input{
		MessageID: rec.MessageID, QueueARN: rec.QueueARN, GroupID: rec.Group, EventID: rec.Note.EventID,
		SentAt: rec.SentAt, Body: rec.Body, Attributes: attributes,
	}
}
