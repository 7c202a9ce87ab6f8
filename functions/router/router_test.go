package router_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/functions/router"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/waybill"
)

// sender accepts messages but those that refuse names.
type sender struct {
	sent   []queue.Message
	refuse func(queue.Message) error
}

func (s *sender) Send(_ context.Context, messages []queue.Message) []error {
	errs := make([]error, len(messages))
	for i, m := range messages {
		if s.refuse != nil {
			errs[i] = s.refuse(m)
		}
		if errs[i] == nil {
			s.sent = append(s.sent, m)
		}
	}
	return errs
}

// unknown is a source whose destinations are not known now.
type unknown struct{}

func (unknown) Set(context.Context) (*registry.Set, error) { return nil, errors.New("unreachable") }

func destinations(t *testing.T) registry.Source {
	t.Helper()
	webhook := `"type":"webhook","webhook":{"url":"http://127.0.0.1/","secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}`
	set, err := registry.Parse([]byte(`{"destinations":[
		{"id":"all","tenant":"*",`+webhook+`},
		{"id":"orders","tenant":"*","pattern":{"type":["order"]},`+webhook+`},
		{"id":"acme","tenant":"acme",`+webhook+`}]}`), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return registry.Fixed(set)
}

func newRouter(t *testing.T, s *sender) *router.Router {
	t.Helper()
	r, err := router.New(router.Config{Destinations: destinations(t), Deliveries: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func record(id, body string) batch.Record {
	return batch.Record{MessageID: id, Body: body, QueueARN: "arn:aws:sqs:us-east-1:000000000000:ingress", SentAt: time.UnixMilli(1_700_000_000_000), Trace: "Root=1-" + id}
}

func event(id, kind, data string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/s","type":%q,"data":%s}`, id, kind, data)
}

// route gives what a router does with records: outcomes, and delivery messages by destination and event.
func route(t *testing.T, s *sender, records ...batch.Record) ([]outcome.Error, map[string]delivery.Message) {
	t.Helper()
	var outcomes []outcome.Error
	for _, err := range newRouter(t, s).Route(t.Context(), records) {
		outcomes = append(outcomes, outcome.Of(err))
	}
	if len(outcomes) != len(records) {
		t.Fatalf("%d outcomes for %d records", len(outcomes), len(records))
	}
	routed := map[string]delivery.Message{}
	for _, sent := range s.sent {
		m, err := delivery.Decode(sent.Body)
		if err != nil {
			t.Fatal(err)
		}
		if sent.Group != m.Destination || sent.Delay != 0 || !strings.HasPrefix(sent.Trace, "Root=1-") {
			t.Errorf("message to %s: group %q, delay %s, trace %q", m.Destination, sent.Group, sent.Delay, sent.Trace)
		}
		routed[m.Destination+" "+m.Event.ID] = m
	}
	if len(routed) != len(s.sent) {
		t.Errorf("%d messages for %d deliveries", len(s.sent), len(routed))
	}
	return outcomes, routed
}

func TestMissingConfigListsEveryProblem(t *testing.T) {
	_, err := router.New(router.Config{})
	for _, name := range []string{"Config.Destinations", "Config.Deliveries"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
}

func TestOneMessagePerMatch(t *testing.T) {
	accepted := time.UnixMilli(1_600_000_000_000)
	resent := record("m2", event("b", "order", `{"n": 1.0}`))
	resent.Note = waybill.Note{AcceptedAt: accepted}
	outcomes, routed := route(t, &sender{}, record("m1", event("a", "parcel", `1`)), resent, record("m3", event("b", "order", `{"n": 1.0}`)))
	for i, o := range outcomes {
		if o.Kind != outcome.Acknowledged {
			t.Errorf("record %d: %v", i, o.Err)
		}
	}
	if len(routed) != 3 {
		t.Errorf("routed %v", routed)
	}
	m := routed["orders b"]
	if m.Epoch != 0 || m.Attempt != 1 || !m.AcceptedAt.Equal(accepted) || string(m.Event.Data) != `{"n": 1.0}` || m.Delivery != delivery.NewID("default", "/s", "b", "orders") {
		t.Errorf("message %+v", m)
	}
	if at := routed["all a"].AcceptedAt; !at.Equal(time.UnixMilli(1_700_000_000_000)) {
		t.Errorf("accepted at %s", at)
	}
}

func TestInvalidEventsAreRejectedAlone(t *testing.T) {
	outcomes, routed := route(t, &sender{},
		record("m1", event("a", "order", `1`)),
		record("m2", `{"specversion":"1.0","id":"x","type":"t"}`),
		record("m3", `[`+event("c", "order", `1`)+`,{"specversion":"1.0"}]`))
	kinds := []outcome.Kind{outcome.Acknowledged, outcome.Rejected, outcome.Rejected}
	for i, o := range outcomes {
		if o.Kind != kinds[i] || o.Kind == outcome.Rejected && (o.Reason == "" || o.Err == nil) {
			t.Errorf("record %d: %+v", i, o)
		}
	}
	if _, half := routed["all c"]; half {
		t.Error("half of an invalid batch was routed")
	}
	if _, ok := routed["all a"]; !ok {
		t.Errorf("the neighbour is missing: %v", routed)
	}
}

// TestTooLargeEvents: what compresses is forwarded, what does not is rejected with a reason, and neither harms its neighbours.
func TestTooLargeEvents(t *testing.T) {
	// Six and a half bits of information in each byte: compressed and in base64 it is longer than before.
	noise := make([]byte, 1<<20-512)
	random := rand.New(rand.NewPCG(1, 1))
	for i := range noise {
		noise[i] = byte('#' + random.IntN('['-'#'+1))
		if random.IntN(2) == 0 {
			noise[i] = byte(']' + random.IntN('~'-']'+1))
		}
	}
	outcomes, routed := route(t, &sender{},
		record("m1", event("small", "order", `1`)),
		record("m2", event("noise", "order", `"`+string(noise)+`"`)),
		record("m3", event("zeros", "order", `"`+strings.Repeat("0", 1<<20-512)+`"`)))
	if o := outcomes[1]; o.Kind != outcome.Rejected || o.Reason != "too-large" || !strings.Contains(o.Err.Error(), "reference") {
		t.Errorf("noise: %+v", o)
	}
	for key, m := range routed {
		if body, err := m.Encode(delivery.MaxBytes); err != nil || len(body) > delivery.MaxBytes {
			t.Errorf("%s: %d bytes, %v", key, len(body), err)
		}
	}
	for _, i := range []int{0, 2} {
		if outcomes[i].Kind != outcome.Acknowledged {
			t.Errorf("record %d: %+v", i, outcomes[i])
		}
	}
	if m := routed["orders zeros"]; len(m.Event.Data) != 1<<20-512+2 {
		t.Errorf("the compressed event has %d bytes", len(m.Event.Data))
	}
}

// TestQueueRefusesSize: what the queue itself finds too large is rejected, not tried for ever.
func TestQueueRefusesSize(t *testing.T) {
	s := &sender{refuse: func(m queue.Message) error {
		if strings.Contains(m.Body, "large") {
			return fmt.Errorf("sending: %w", queue.ErrTooLarge)
		}
		return nil
	}}
	outcomes, _ := route(t, s, record("m1", event("large", "order", `1`)), record("m2", event("b", "order", `1`)))
	if o := outcomes[0]; o.Kind != outcome.Rejected || o.Reason != "too-large" || outcomes[1].Kind != outcome.Acknowledged {
		t.Errorf("outcomes %+v", outcomes)
	}
}

// TestPartialSendFailures: a record is acknowledged only if every delivery of every event in it was sent.
func TestPartialSendFailures(t *testing.T) {
	s := &sender{refuse: func(m queue.Message) error {
		if m.Group == "orders" && strings.Contains(m.Body, `"id":"b"`) {
			return errors.New("throttled")
		}
		return nil
	}}
	outcomes, routed := route(t, s,
		record("m1", event("a", "order", `1`)),
		record("m2", event("b", "order", `1`)),
		record("m3", `[`+event("c", "order", `1`)+`,`+event("b", "order", `1`)+`]`), // shares the delivery that failed
		record("m4", event("d", "parcel", `1`)))
	want := []outcome.Kind{outcome.Acknowledged, outcome.Deferred, outcome.Deferred, outcome.Acknowledged}
	for i, o := range outcomes {
		if o.Kind != want[i] || o.Kind == outcome.Deferred && o.Delay <= 0 {
			t.Errorf("record %d: %+v, want %v", i, o, want[i])
		}
	}
	if len(routed) != 6 { // all four events to all, a and c to orders
		t.Errorf("%d deliveries: %v", len(routed), routed)
	}
}

func TestUnknownDestinationsDeferEverything(t *testing.T) {
	s := &sender{}
	r, err := router.New(router.Config{Destinations: unknown{}, Deliveries: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range r.Route(t.Context(), []batch.Record{record("m1", event("a", "order", `1`)), record("m2", `not an event`)}) {
		if o := outcome.Of(err); o.Kind != outcome.Deferred || o.Delay <= 0 {
			t.Errorf("outcome %+v", o)
		}
	}
	if len(s.sent) > 0 {
		t.Errorf("%d messages were sent", len(s.sent))
	}
}

func TestSummaryHoldsNoPayload(t *testing.T) {
	var log bytes.Buffer
	r, err := router.New(router.Config{Destinations: destinations(t), Deliveries: &sender{}, Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	r.Route(t.Context(), []batch.Record{record("m1", event("a", "order", `"sesame"`)), record("m2", `{"specversion":"1.0","data":"sesame"}`)})
	if !strings.Contains(log.String(), `"records":2`) || !strings.Contains(log.String(), `"deliveries":2`) || strings.Contains(log.String(), "sesame") {
		t.Errorf("log %s", log.String())
	}
}
