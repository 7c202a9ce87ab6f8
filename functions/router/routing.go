package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/pattern"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/tracing"
	"github.com/waybillhq/waybill/shared/waybill"
)

// What is put together before it is sent.
const (
	// maxLoadBytes bounds memory: an event of 1 MiB that a thousand destinations want would otherwise need a gigabyte.
	maxLoadBytes = 16 << 20
	// maxLoadMessages bounds what an invocation may lose that ends while a load is under way: of a load that was sent in part, only what comes
	// before the first gap is remembered. It is 64 calls, a matter of seconds however slow the queue is.
	maxLoadMessages = 640
	// maxAlone bounds how many refused messages of a load are tried once more, each in a call of its own.
	maxAlone = 20
)

var (
	errUnanswered = errors.New("the queue did not answer for each message")
	errTimeUp     = errors.New("time was up before all deliveries were sent")
	errRefused    = errors.New("the queue refuses the delivery for what it holds")
)

// routing is the work of one batch.
type routing struct {
	*Router
	set     *registry.Set
	records []state
	total   tally

	// The load: messages to be sent next, what of which record needs them, and where each delivery stands in it.
	messages []queue.Message
	needs    []need
	index    map[delivery.ID]int
	bytes    int
}

// state is how far a record has come.
type state struct {
	err                        error // the first thing that went wrong
	events, unmatched, dropped int
	routed                     waybill.Progress
	moved                      bool // routed is further than the record's note says
	gap                        bool // something before the end of what was sent was not accepted
}

// need says that a record needs a message to be sent, and how far it has come then.
type need struct {
	record, message int
	reached         waybill.Progress
}

func note(p waybill.Progress) waybill.Note { return waybill.Note{Routed: p} }

// fail remembers what went wrong with record i, unless something did before.
func (w *routing) fail(i int, err error) {
	if w.records[i].err == nil {
		w.records[i].err = err
	}
}

// route decodes record i and adds its deliveries to the load. Nothing of a record is added unless all of its events can be forwarded.
func (w *routing) route(ctx context.Context, i int, rec batch.Record) error {
	if ctx.Err() != nil {
		return outcome.Defer(0, errTimeUp)
	}
	decoded, err := events.Decode(w.input(rec))
	if err != nil {
		return invalid(err)
	}
	wanted := make([][]*registry.Destination, len(decoded.Events))
	unmatched := 0
	for n := range decoded.Events {
		e := &decoded.Events[n]
		if registry.IsCanary(e.Source, e.Type) { // whatever tenant it names, or its queue is pinned to: it is none of theirs
			e.Extensions[events.TenantExtension] = registry.CanaryTenant
		}
		wanted[n] = w.set.Match(e.Tenant(), pattern.NewEvent(e.Attributes(), e.Data))
		slices.SortFunc(wanted[n], func(a, b *registry.Destination) int { return strings.Compare(a.ID, b.ID) })
		if len(wanted[n]) == 0 {
			unmatched++
		}
		if err := fits(e, wanted[n]); err != nil {
			return err
		}
	}
	trace, end := traced(ctx, rec, decoded.Events)
	defer end()
	s := &w.records[i]
	s.events, s.unmatched, s.dropped = len(decoded.Events), unmatched, decoded.Dropped
	begin := rec.Note.Routed
	if begin.Events >= len(decoded.Events) {
		begin = waybill.Progress{} // no place that this message has
	}
	for n := begin.Events; n < len(decoded.Events); n++ {
		for _, d := range wanted[n] {
			if n == begin.Events && d.ID <= begin.After {
				continue
			}
			m := message(decoded.Events[n], d.ID, acceptedAt(rec))
			if err := w.add(ctx, i, m, trace, waybill.Progress{Events: n, After: d.ID}); err != nil {
				return err
			}
		}
	}
	return nil
}

// traced begins the span of a message and gives the trace that its events are known by: their producer's, or this one.
func traced(ctx context.Context, rec batch.Record, found []events.Event) (trace string, end func()) {
	ctx, span := tracing.Start(ctx, "route")
	if trace = rec.Trace; tracing.TraceID(trace) == "" {
		trace = tracing.Header(ctx)
	}
	if span != nil && len(found) > 0 {
		span.Annotate(slog.String("event", found[0].ID), slog.Int("events", len(found)), slog.String("event_trace", tracing.TraceID(trace)))
	}
	return trace, span.End
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
func (w *routing) add(ctx context.Context, i int, m delivery.Message, trace string, reached waybill.Progress) error {
	if ctx.Err() != nil {
		return outcome.Defer(0, errTimeUp)
	}
	at, there := w.index[m.Delivery]
	if !there {
		body, err := m.Encode(delivery.MaxBytes)
		if err != nil {
			return outcome.Reject("unencodable", err)
		}
		at = len(w.messages)
		w.index[m.Delivery] = at
		w.messages = append(w.messages, queue.Message{Body: body, Group: m.Destination, Trace: trace})
		w.bytes += len(body)
	}
	w.needs = append(w.needs, need{i, at, reached})
	if w.bytes >= maxLoadBytes || len(w.needs) >= maxLoadMessages {
		w.flush(ctx)
	}
	return w.records[i].err // if it cannot be routed whole, the rest can wait
}

// flush sends the load. What was not accepted brings back every record that needs it.
func (w *routing) flush(ctx context.Context) {
	if len(w.messages) == 0 {
		return
	}
	errs := w.send(ctx, w.messages)
	w.alone(ctx, errs)
	for _, err := range errs {
		if err == nil {
			w.total.matches++
		} else {
			w.total.unsent++
		}
	}
	for _, n := range w.needs {
		s := &w.records[n.record]
		if err := errs[n.message]; err != nil {
			s.gap = true
			w.fail(n.record, unsent(ctx, err))
		} else if !s.gap {
			s.routed, s.moved = n.reached, true
		}
	}
	clear(w.messages) // lets go of the bodies
	w.messages, w.needs, w.bytes = w.messages[:0], w.needs[:0], 0
	clear(w.index)
}

func (w *routing) send(ctx context.Context, messages []queue.Message) []error {
	errs := w.cfg.Deliveries.Send(ctx, messages)
	if len(errs) != len(messages) {
		return slices.Repeat([]error{errUnanswered}, len(messages))
	}
	return errs
}

// alone tries refused messages once more, each in a call of its own: SQS may refuse a whole call for one message in it. What is refused alone is
// refused for good.
func (w *routing) alone(ctx context.Context, errs []error) {
	tries := 0
	for at, err := range errs {
		if err == nil || errors.Is(err, queue.ErrTooLarge) || !w.cfg.Refused(err) {
			continue
		}
		if tries++; tries > maxAlone {
			return // the others in another invocation
		}
		if errs[at] = w.send(ctx, w.messages[at:at+1])[0]; errs[at] != nil && w.cfg.Refused(errs[at]) {
			errs[at] = fmt.Errorf("%w: %w", errRefused, errs[at])
		}
	}
}

// unsent is the outcome of a record of which a delivery was not accepted.
func unsent(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, queue.ErrTooLarge):
		return outcome.Reject("too-large", err)
	case errors.Is(err, errRefused):
		return outcome.Reject("refused", err)
	case ctx.Err() != nil:
		return outcome.Defer(0, fmt.Errorf("%w: %w", errTimeUp, err))
	}
	return outcome.Defer(0, fmt.Errorf("deliveries could not be sent: %w", err))
}
