package deliverer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/functions/deliverer"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/ledgertest"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/waiting"
	"github.com/waybillhq/waybill/shared/waybill"
)

const (
	headroom    = 5 * time.Second
	longestPark = 14 * 24 * time.Hour
)

var errDown = errors.New("down")

// outbox is a queue's sending end that remembers what it accepted.
type outbox struct {
	mu     sync.Mutex
	sent   []queue.Message
	refuse error
	hang   bool // until the context ends
	silent bool // gives no answers at all
}

func (o *outbox) Send(ctx context.Context, messages []queue.Message) []error {
	if o.hang {
		<-ctx.Done()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.silent {
		return nil
	}
	errs := make([]error, len(messages))
	for i, m := range messages {
		if errs[i] = errors.Join(o.refuse, ctx.Err()); errs[i] == nil {
			o.sent = append(o.sent, m)
		}
	}
	return errs
}

// take gives what was sent since the last take, decoded.
func (o *outbox) take(t *testing.T) (messages []delivery.Message, raw []queue.Message) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	raw, o.sent = o.sent, nil
	for _, r := range raw {
		body, _, _, err := waybill.Detach(r.Body, r.Attributes)
		if err != nil {
			t.Fatal(err)
		}
		m, err := delivery.Decode(body)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, m)
	}
	return messages, raw
}

// room is a waiting room that remembers what it holds.
type room struct {
	mu     sync.Mutex
	held   []waiting.Held
	refuse error
}

func (r *room) Hold(_ context.Context, held []waiting.Held) []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse == nil {
		r.held = append(r.held, held...)
	}
	return slices.Repeat([]error{r.refuse}, len(held))
}

// take gives what was held since the last take, as the waker would send it.
func (r *room) take() (messages []delivery.Message, parked int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.held {
		m := h.Message
		if m.DueAt = h.DueAt; h.Parked {
			m.DueAt = time.Time{}
			parked++
		}
		messages = append(messages, m)
	}
	r.held = nil
	return messages, parked
}

// directory knows destinations and which of them may not receive.
type directory struct {
	set    *registry.Set
	mu     sync.Mutex
	states map[string]registry.State
	refuse error
}

func (d *directory) Set(context.Context) (*registry.Set, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.set.WithStates(maps.Clone(d.states)), nil
}

func (d *directory) Disable(_ context.Context, id, note string) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return false, d.refuse
	}
	state := d.states[id]
	first := state.Disabled.IsZero()
	if first {
		state.Disabled, state.Note = time.Now(), note
		d.states[id] = state
	}
	return first, nil
}

func (d *directory) pause(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.states[id] = registry.State{Paused: time.Now()}
}

// enable lets a destination receive again, as a person does.
func (d *directory) enable(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.states, id)
}

// store is a ledger in memory whose answers a test may replace.
type store struct {
	*ledgertest.Memory
	claim   func([]ledger.Claim) []ledger.Answer // nil: as it is
	settles [][]ledger.Settlement
	settle  func(context.Context, []ledger.Settlement) []error
	record  func(context.Context, []ledger.Settlement) []error
}

func (s *store) Claim(ctx context.Context, claims []ledger.Claim) []ledger.Answer {
	if s.claim != nil {
		return s.claim(claims)
	}
	return s.Memory.Claim(ctx, claims)
}

func (s *store) Settle(ctx context.Context, settlements []ledger.Settlement) []error {
	s.settles = append(s.settles, settlements)
	if s.settle != nil {
		return s.settle(ctx, settlements)
	}
	return s.Memory.Settle(ctx, settlements)
}

func (s *store) Record(ctx context.Context, settlements []ledger.Settlement) []error {
	if s.record != nil {
		return s.record(ctx, settlements)
	}
	return s.Memory.Record(ctx, settlements)
}

// world is a deliverer with everything around it. Use it inside a synctest bubble.
type world struct {
	t           *testing.T
	store       *store
	deliveries  outbox
	deadLetters outbox
	notices     outbox
	room        room
	directory   directory
	log         bytes.Buffer
	answer      func(ctx context.Context, a downstream.Attempt) downstream.Result

	mu    sync.Mutex
	calls []downstream.Attempt
	cfg   deliverer.Config
	d     *deliverer.Deliverer
}

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// destinations are "crm" (three attempts, timeout 15 s), "slow" (timeout 30 s) and "easy" (relaxed).
func destinations(t *testing.T) *registry.Set {
	t.Helper()
	set, err := registry.Parse([]byte(`{"destinations": [
		{"id": "crm", "tenant": "*", "type": "webhook", "webhook": {"url": "https://crm.example", "secrets": ["`+secret+`"]}, "retry": {"schedule": ["1s", "1h"]}},
		{"id": "slow", "tenant": "*", "type": "webhook", "webhook": {"url": "https://slow.example", "secrets": ["`+secret+`"], "timeout": "30s"}},
		{"id": "easy", "tenant": "*", "type": "webhook", "webhook": {"url": "https://easy.example", "secrets": ["`+secret+`"]}, "ledger": "relaxed"}]}`), registry.Options{InlineSecrets: true})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// newWorld makes a deliverer for destinations.
func newWorld(t *testing.T) *world {
	t.Helper()
	set := destinations(t)
	w := &world{t: t, store: &store{Memory: ledgertest.NewMemory()}, directory: directory{set: set, states: map[string]registry.State{}}}
	w.answer = func(context.Context, downstream.Attempt) downstream.Result {
		return downstream.Result{Verdict: downstream.Delivered, Code: 200}
	}
	books, err := ledger.New(ledger.Config{Store: w.store, LeaseGrace: 12 * time.Second, LongestLease: 70 * time.Second, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	adapter := downstream.Each(100, func(ctx context.Context, a downstream.Attempt) downstream.Result {
		w.mu.Lock()
		w.calls = append(w.calls, a)
		w.mu.Unlock()
		return w.answer(ctx, a)
	})
	w.cfg = deliverer.Config{
		Destinations: &w.directory, Ledger: books, Adapter: adapter, Deliveries: &w.deliveries, DeadLetters: &w.deadLetters,
		Room: &w.room, Disabler: &w.directory, Notices: &w.notices,
		Headroom: headroom, LongestPark: longestPark, Logger: slog.New(slog.NewJSONHandler(&w.log, nil)), Random: func() float64 { return 0 },
	}
	w.restart()
	return w
}

// restart begins a new environment, with w.cfg as it stands.
func (w *world) restart() {
	w.t.Helper()
	var err error
	if w.d, err = deliverer.New(w.cfg); err != nil {
		w.t.Fatal(err)
	}
}

type panicking struct{}

func (panicking) Deliver(_ context.Context, attempts []downstream.Attempt, _ func(int, downstream.Result)) {
	panic("cannot encode " + string(attempts[0].Event.Data))
}

func (w *world) panicky() {
	w.cfg.Adapter = panicking{}
	w.restart()
}

// message is a first attempt of the event at the destination.
func message(event, destination string) delivery.Message {
	return delivery.Message{
		Delivery: delivery.NewID("default", "/test", event, destination), Destination: destination, Attempt: 1,
		Event: events.Event{ID: event, Source: "/test", Type: "t", Extensions: map[string]string{"tenant": "default"}, Data: []byte(`{"secret":"payload"}`)},
	}
}

// deliver hands messages to the deliverer as one batch of an invocation that has 58 s left.
func (w *world) deliver(messages ...delivery.Message) []error {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 58*time.Second)
	defer cancel()
	return w.deliverIn(ctx, messages...)
}

func (w *world) deliverIn(ctx context.Context, messages ...delivery.Message) []error {
	w.t.Helper()
	records := make([]batch.Record, len(messages))
	for i, m := range messages {
		body, err := m.Encode(delivery.MaxBytes)
		if err != nil {
			w.t.Fatal(err)
		}
		records[i] = batch.Record{MessageID: string(rune('a' + i)), Body: body, ReceiveCount: 1}
	}
	outcomes := w.d.Deliver(ctx, records)
	if len(outcomes) != len(records) {
		w.t.Fatalf("%d outcomes for %d records", len(outcomes), len(records))
	}
	return outcomes
}

// row gives the waybill of a message's delivery; the zero Item if there is none.
func (w *world) row(m delivery.Message) ledger.Item {
	return w.store.Harness().Rows(w.t)[m.Delivery]
}

// next gives what was made durable since the last call, from the queue and from the waiting room.
func (w *world) next() []delivery.Message {
	w.t.Helper()
	sent, _ := w.deliveries.take(w.t)
	held, _ := w.room.take()
	return append(sent, held...)
}

func (w *world) logged(t *testing.T) string {
	t.Helper()
	for line := range bytes.Lines(w.log.Bytes()) {
		if !json.Valid(line) {
			t.Fatalf("no JSON: %s", line)
		}
	}
	return w.log.String()
}

func want(t *testing.T, err error, kind outcome.Kind) outcome.Error {
	t.Helper()
	o := outcome.Of(err)
	if o.Kind != kind {
		t.Errorf("outcome %v (%v), want %v", o.Kind, err, kind)
	}
	return o
}
