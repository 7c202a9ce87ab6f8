package router_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/functions/router"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/telemetry"
)

var (
	errDown     = errors.New("the key is disabled")
	errContents = errors.New("invalid message contents")
)

// strict is a queue that refuses a call of ten as a whole for one bad message in it.
type strict struct {
	outbox
	bad    func(delivery.Message) bool
	always bool // every call is refused so
}

func (q *strict) Send(ctx context.Context, messages []queue.Message) []error {
	var errs []error
	for call := range slices.Chunk(messages, queue.MaxBatchEntries) {
		bad := q.always || slices.ContainsFunc(call, func(m queue.Message) bool {
			d, err := delivery.Decode(m.Body)
			return err == nil && q.bad(d)
		})
		if bad {
			errs = append(errs, slices.Repeat([]error{errContents}, len(call))...)
			q.calls++
			continue
		}
		errs = append(errs, q.outbox.Send(ctx, call)...)
	}
	return errs
}

func refusing(t *testing.T, to queue.Sender, destinations int) *router.Router {
	t.Helper()
	r, err := router.New(router.Config{
		Destinations: registry.Fixed(wanting(t, numbered(destinations)...)), Deliveries: to, Logger: slog.New(slog.DiscardHandler), Random: func() float64 { return 0 },
		Refused: func(err error) bool { return errors.Is(err, errContents) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What the queue never takes is rejected, and its neighbours in the call are not.
func TestRefusedForGoodIsRejectedAlone(t *testing.T) {
	to := &strict{outbox: outbox{keep: true}, bad: func(m delivery.Message) bool { return m.Event.ID == "bad" }}
	errs := refusing(t, to, 2).Route(t.Context(), []batch.Record{record("a", event("1", "t", "1")), record("b", event("bad", "t", "1")), record("c", event("3", "t", "1"))})
	if got := kinds(errs); !slices.Equal(got, []outcome.Kind{outcome.Acknowledged, outcome.Rejected, outcome.Acknowledged}) || outcome.Of(errs[1]).Reason != "refused" {
		t.Errorf("outcomes %v", errs)
	}
	if to.count != 4 {
		t.Errorf("%d deliveries", to.count)
	}
}

// fading is a queue that refuses its first call and is down then.
type fading struct{ calls int }

func (q *fading) Send(_ context.Context, messages []queue.Message) []error {
	q.calls++
	if q.calls == 1 {
		return slices.Repeat([]error{errContents}, len(messages))
	}
	return slices.Repeat([]error{errDown}, len(messages))
}

// What failed alone for another reason was not refused for good.
func TestFailureAloneIsNoRefusal(t *testing.T) {
	errs := refusing(t, &fading{}, 1).Route(t.Context(), []batch.Record{record("a", event("1", "t", "1")), record("b", event("2", "t", "1"))})
	if got := kinds(errs); !slices.Equal(got, []outcome.Kind{outcome.Deferred, outcome.Deferred}) {
		t.Errorf("outcomes %v", errs)
	}
}

// When a queue refuses everything so, few calls are spent on finding it out, and what was not tried alone is not rejected.
func TestRefusalOfEverythingIsBounded(t *testing.T) {
	to := &strict{always: true}
	var records []batch.Record
	for i := range 100 {
		records = append(records, record(fmt.Sprint(i), event(fmt.Sprint(i), "t", "1")))
	}
	errs := refusing(t, to, 1).Route(t.Context(), records)
	rejected := 0
	for _, err := range errs {
		if outcome.Of(err).Kind == outcome.Rejected {
			rejected++
		} else if outcome.Of(err).Kind != outcome.Deferred {
			t.Errorf("outcome %v", err)
		}
	}
	if rejected != 20 || to.calls != 30 {
		t.Errorf("%d rejected by %d calls", rejected, to.calls)
	}
}

// What failed for a reason that may pass waits the longer the older it is, and never for ever.
func TestWaitsGrowWithAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := &outbox{keep: true, refuse: func(delivery.Message) error { return errDown }}
		sources := map[string]registry.Source{"queue down": registry.Fixed(wanting(t, "d")), "destinations unknown": unknown{}}
		for name, source := range sources {
			for random, factor := range map[float64]float64{0: 1, 0.5: 0.9} {
				r, err := router.New(router.Config{Destinations: source, Deliveries: down, Logger: slog.New(slog.DiscardHandler), Random: func() float64 { return random }})
				if err != nil {
					t.Fatal(err)
				}
				for age, want := range map[time.Duration]time.Duration{
					-time.Hour: 5 * time.Second, 0: 5 * time.Second, 20 * time.Second: 5 * time.Second, time.Minute: 15 * time.Second,
					30 * time.Minute: 450 * time.Second, time.Hour: 15 * time.Minute, 90 * 24 * time.Hour: 15 * time.Minute,
				} {
					copied := record("a", event("1", "t", "1"))
					copied.SentAt, copied.Note.AcceptedAt = time.Now(), time.Now().Add(-age)
					o := outcome.Of(r.Route(t.Context(), []batch.Record{copied})[0])
					if want = time.Duration(float64(want) * factor); o.Kind != outcome.Deferred || o.Delay != want {
						t.Errorf("%s, age %v: %v, want %v", name, age, o.Delay, want)
					}
				}
			}
		}
	})
}

// A queue's tenant wins over everything that a message says.
func TestPinnedTenants(t *testing.T) {
	const arn = "arn:aws:sqs:eu-central-1:123456789012:"
	to := &outbox{keep: true}
	r, err := router.New(router.Config{
		Destinations: registry.Fixed(wanting(t, "d")), Deliveries: to, Logger: slog.New(slog.DiscardHandler),
		Tenants: map[string]string{arn + "first": "acme", "second": "globex", router.EveryQueue: "rest"},
	})
	if err != nil {
		t.Fatal(err)
	}
	trusting, err := router.New(router.Config{Destinations: registry.Fixed(wanting(t, "d")), Deliveries: to, Logger: slog.New(slog.DiscardHandler), Tenants: map[string]string{"other": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	claims := `{"specversion":"1.0","id":"1","source":"/test","type":"t","tenant":"initech"}`
	for _, c := range []struct {
		router *router.Router
		queue  string
		body   string
		want   string
	}{
		{r, arn + "first", claims, "acme"}, {r, arn + "second", claims, "globex"}, {r, arn + "third", claims, "rest"}, {r, "", claims, "rest"},
		{r, arn + "first", "plain", "acme"}, {trusting, arn + "first", claims, "initech"}, {trusting, arn + "first", "plain", "group"},
	} {
		to.sent = nil
		rec := record("m", c.body)
		rec.QueueARN, rec.Group = c.queue, "group"
		if err := c.router.Route(t.Context(), []batch.Record{rec})[0]; err != nil {
			t.Fatal(err)
		}
		if got := to.sent[0].Event.Tenant(); got != c.want {
			t.Errorf("%s, %s: tenant %q, want %q", c.queue, c.body, got, c.want)
		}
	}
	for _, bad := range []string{"", "*", strings.Repeat("x", 129), "a\nb"} {
		_, err := router.New(router.Config{Destinations: unknown{}, Deliveries: to, Tenants: map[string]string{"orders": bad}})
		if err == nil || !strings.Contains(err.Error(), `Config.Tenants["orders"]`) {
			t.Errorf("tenant %.20q: %v", bad, err)
		}
	}
}

// Accepted = routed + unmatched + dropped + rejected, and nothing is counted before its end.
func TestCounts(t *testing.T) {
	down := true
	to := &outbox{keep: true, refuse: func(m delivery.Message) error {
		if down && m.Event.ID == "later" && m.Destination == "d-1" {
			return errDown
		}
		return nil
	}}
	r := open(t, 2, to)
	route := func(records ...batch.Record) map[string]float64 {
		b := telemetry.NewBatch()
		r.Route(telemetry.With(t.Context(), b), records)
		var out bytes.Buffer
		e, err := telemetry.New(telemetry.Config{Function: "router", Writer: &out})
		if err != nil {
			t.Fatal(err)
		}
		e.Emit(b)
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		counts := map[string]float64{}
		for name, v := range line {
			if n, ok := v.(float64); ok {
				counts[name] = n
			}
		}
		return counts
	}
	later := record("later", event("later", "t", "1"))
	got := route(
		record("two", "["+event("a", "t", "1")+","+event("b", "only", "1")+","+event("c", "nobody", "1")+"]"),
		record("bad", `{"specversion":"9"}`), later,
		record("test", `{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-01-01T00:00:00.000Z","Bucket":"b","RequestId":"r","HostId":"h"}`),
	)
	if want := map[string]float64{"Accepted": 5, "Routed": 2, "Unmatched": 1, "Dropped": 1, "Matches": 4, "Unsent": 1, "Faults": 1}; !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	down = false
	if got, want := route(later), (map[string]float64{"Accepted": 1, "Routed": 1, "Matches": 2}); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
