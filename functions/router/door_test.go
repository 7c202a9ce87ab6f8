package router_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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

func TestMissingConfigListsEveryProblem(t *testing.T) {
	_, err := router.New(router.Config{})
	for _, name := range []string{"Config.Destinations", "Config.Deliveries"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
}

// One message per match, with everything that the deliverer will need.
func TestOneMessagePerMatch(t *testing.T) {
	first := time.UnixMilli(1_600_000_000_000)
	resent := record("m2", event("b", "only", `{"n": 1.0}`))
	resent.Note = waybill.Note{AcceptedAt: first}
	to := &outbox{keep: true}
	outcomes := open(t, 2, to).Route(t.Context(), []batch.Record{
		record("m1", event("a", "parcel", `1`)), resent, record("m3", event("b", "only", `{"n": 1.0}`)), record("m4", event("c", "nobody", `1`)),
	})
	if got := kinds(outcomes); !slices.Equal(got, slices.Repeat([]outcome.Kind{outcome.Acknowledged}, 4)) {
		t.Errorf("outcomes %v", got)
	}
	var routed []string
	for _, m := range to.sent {
		routed = append(routed, m.Destination+" "+m.Event.ID)
		if m.Epoch != 0 || m.Attempt != 1 || m.Delivery != delivery.NewID("default", "/test", m.Event.ID, m.Destination) {
			t.Errorf("message %+v", m)
		}
		if at := m.AcceptedAt; m.Event.ID == "b" && (!at.Equal(first) || string(m.Event.Data) != `{"n": 1.0}`) || m.Event.ID == "a" && !at.Equal(accepted) {
			t.Errorf("%s was accepted at %s, data %s", m.Event.ID, at, m.Event.Data)
		}
	}
	slices.Sort(routed)
	if want := []string{"d-0 a", "d-1 a", "only b"}; !slices.Equal(routed, want) {
		t.Errorf("routed %v, want %v", routed, want)
	}
}

// What is no event is rejected with a reason, as a whole, and alone.
func TestInvalidEventsAreRejectedAlone(t *testing.T) {
	to := &outbox{keep: true}
	outcomes := open(t, 1, to).Route(t.Context(), []batch.Record{
		record("m1", event("a", "order", `1`)),
		record("m2", `{"specversion":"1.0","id":"x","type":"t"}`),
		record("m3", `[`+event("c", "order", `1`)+`,{"specversion":"1.0"}]`),
	})
	if got := kinds(outcomes); !slices.Equal(got, []outcome.Kind{outcome.Acknowledged, outcome.Rejected, outcome.Rejected}) {
		t.Errorf("outcomes %v", got)
	}
	for _, err := range outcomes[1:] {
		if o := outcome.Of(err); o.Reason == "" || o.Err == nil {
			t.Errorf("outcome %+v", o)
		}
	}
	if len(to.sent) != 1 || to.sent[0].Event.ID != "a" {
		t.Errorf("routed %+v", to.sent)
	}
}

// What the queue itself finds too large is rejected, not tried for ever.
func TestQueueRefusesSize(t *testing.T) {
	to := &outbox{keep: true, refuse: func(m delivery.Message) error {
		if m.Event.ID == "large" {
			return fmt.Errorf("sending: %w", queue.ErrTooLarge)
		}
		return nil
	}}
	outcomes := open(t, 1, to).Route(t.Context(), []batch.Record{record("m1", event("large", "order", `1`)), record("m2", event("b", "order", `1`))})
	if o := outcome.Of(outcomes[0]); o.Kind != outcome.Rejected || o.Reason != "too-large" || outcomes[1] != nil {
		t.Errorf("outcomes %v", outcomes)
	}
}

// A record is acknowledged only if every delivery of every event in it was sent, by whichever record's message.
func TestPartialSendFailures(t *testing.T) {
	to := &outbox{keep: true, refuse: func(m delivery.Message) error {
		if m.Destination == "d-1" && m.Event.ID == "b" {
			return errors.New("entry refused")
		}
		return nil
	}}
	outcomes := open(t, 2, to).Route(t.Context(), []batch.Record{
		record("m1", event("a", "order", `1`)),
		record("m2", event("b", "order", `1`)),
		record("m3", `[`+event("c", "order", `1`)+`,`+event("b", "order", `1`)+`]`),
		record("m4", event("d", "only", `1`)),
	})
	if got := kinds(outcomes); !slices.Equal(got, []outcome.Kind{outcome.Acknowledged, outcome.Deferred, outcome.Deferred, outcome.Acknowledged}) {
		t.Errorf("outcomes %v", outcomes)
	}
	for _, i := range []int{1, 2} {
		if o := outcome.Of(outcomes[i]); o.Delay <= 0 {
			t.Errorf("record %d comes back at once", i)
		}
	}
}

// The summary of a batch counts, and quotes nothing.
func TestSummaryHoldsNoPayload(t *testing.T) {
	set, err := registry.Parse([]byte(`{"destinations":[{"id":"crm","tenant":"*","type":"webhook",
		"webhook":{"url":"https://crm.example","secrets":["arn:aws:secretsmanager:eu-central-1:123456789012:secret:waybill/crm-AbCdEf"]}}]}`), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	r, err := router.New(router.Config{Destinations: registry.Fixed(set), Deliveries: &outbox{}, Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	r.Route(t.Context(), []batch.Record{record("m1", event("a", "order", `"sesame"`)), record("m2", `{"specversion":"1.0","data":"sesame"}`)})
	if text := log.String(); !strings.Contains(text, `"records":2`) || !strings.Contains(text, `"Matches":1`) || strings.Contains(text, "sesame") {
		t.Errorf("log %s", text)
	}
}
