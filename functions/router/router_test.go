package router_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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

var accepted = time.UnixMilli(1_780_000_000_123).UTC()

// outbox is a queue's sending end that remembers what it accepted, and the most that it held at once.
type outbox struct {
	sent      []delivery.Message
	keep      bool // false: only count
	count     int
	mostBytes int
	calls     int
	refuse    func(delivery.Message) error
	silent    bool
}

func (o *outbox) Send(_ context.Context, messages []queue.Message) []error {
	o.calls++
	errs := make([]error, len(messages))
	bytes := 0
	for i, m := range messages {
		bytes += m.Size()
		if !o.keep {
			o.count++
			continue
		}
		d, err := delivery.Decode(m.Body)
		if err == nil && o.refuse != nil {
			err = o.refuse(d)
		}
		if errs[i] = err; err == nil {
			o.sent = append(o.sent, d)
			o.count++
		}
	}
	o.mostBytes = max(o.mostBytes, bytes)
	if o.silent {
		return nil
	}
	return errs
}

// open makes a router to the numbered destinations d-0 … d-n, which want everything, and only, which wants events of type "only".
func open(t *testing.T, n int, to queue.Sender) *router.Router {
	t.Helper()
	var all []string
	one := func(id, pattern string) {
		all = append(all, fmt.Sprintf(`{"id":%q,"tenant":"*","type":"webhook","webhook":{"url":"https://%s.example","secrets":["arn:aws:secretsmanager:eu-central-1:123456789012:secret:waybill/crm-AbCdEf"]},"pattern":%s}`, id, id, pattern))
	}
	for i := range n {
		one(fmt.Sprintf("d-%d", i), `{"type":[{"anything-but":["only","nobody"]}]}`)
	}
	one("only", `{"type":["only"]}`)
	set, err := registry.Parse([]byte(`{"destinations":[`+strings.Join(all, ",")+`]}`), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := router.New(router.Config{Destinations: registry.Fixed(set), Deliveries: to, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func record(id, body string) batch.Record {
	return batch.Record{MessageID: id, Body: body, SentAt: accepted, QueueARN: "arn:aws:sqs:eu-central-1:123456789012:ingress", ReceiveCount: 1}
}

func event(id, kind, data string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":%q,"data":%s}`, id, kind, data)
}

func kinds(errs []error) (all []outcome.Kind) {
	for _, err := range errs {
		all = append(all, outcome.Of(err).Kind)
	}
	return all
}

// What the router holds in memory is bounded, however many destinations want however large an event.
func TestFanOutIsBounded(t *testing.T) {
	large := `"` + strings.Repeat("x", 900<<10) + `"`
	var many []string
	for i := range 1000 {
		many = append(many, event(fmt.Sprint(i), "t", `1`))
	}
	for name, c := range map[string]struct {
		destinations int
		records      []batch.Record
		deliveries   int
	}{
		"one large event":      {40, []batch.Record{record("a", event("1", "t", large))}, 40},
		"six large events":     {8, []batch.Record{record("a", event("1", "t", large)), record("b", event("2", "t", large)), record("c", event("3", "t", large)), record("d", event("4", "t", large)), record("e", event("5", "t", large)), record("f", event("6", "t", large))}, 48},
		"batch of many events": {20, []batch.Record{record("a", "["+strings.Join(many, ",")+"]")}, 20_000},
	} {
		t.Run(name, func(t *testing.T) {
			to := &outbox{}
			errs := open(t, c.destinations, to).Route(t.Context(), c.records)
			for i, err := range errs {
				if err != nil {
					t.Errorf("record %d: %.200v", i, err)
				}
			}
			if to.count != c.deliveries {
				t.Errorf("%d deliveries, want %d", to.count, c.deliveries)
			}
			if to.mostBytes > 20<<20 {
				t.Errorf("%d MiB held at once", to.mostBytes>>20)
			}
		})
	}
}

// A message whose deliveries were sent in part only comes back, and its neighbours do not.
func TestOnlyWhatWasNotSentComesBack(t *testing.T) {
	to := &outbox{keep: true, refuse: func(m delivery.Message) error {
		if m.Event.ID == "2" && m.Destination == "d-1" {
			return errors.New("down")
		}
		return nil
	}}
	errs := open(t, 3, to).Route(t.Context(), []batch.Record{
		record("a", event("1", "t", "1")), record("b", event("2", "t", "1")), record("c", event("3", "nobody", "1")), record("d", `{"specversion":"9"}`),
		record("e", event("2", "t", "1")),
	})
	if got := kinds(errs); !slices.Equal(got, []outcome.Kind{outcome.Acknowledged, outcome.Deferred, outcome.Acknowledged, outcome.Rejected, outcome.Deferred}) {
		t.Errorf("outcomes %v", got)
	}
	if to.count != 5 {
		t.Errorf("%d deliveries", to.count)
	}
	silent := &outbox{silent: true}
	if got := kinds(open(t, 1, silent).Route(t.Context(), []batch.Record{record("a", event("1", "t", "1"))})); !slices.Equal(got, []outcome.Kind{outcome.Deferred}) {
		t.Errorf("a queue that does not answer: %v", got)
	}
}

// A message with one event too large to forward is refused whole, before any of its deliveries is sent.
func TestTooLargeIsRefusedWhole(t *testing.T) {
	to := &outbox{keep: true}
	random := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	noise := base64.StdEncoding.EncodeToString(random) // compressed, and in base64 again, it is as long as before
	body := "[" + event("1", "t", `1`) + "," + event("2", "t", `"`+noise[:1_046_900]+`"`) + "]"
	if len(body) > 1<<20 {
		t.Fatalf("%d bytes: the test's message cannot be sent", len(body))
	}
	errs := open(t, 3, to).Route(t.Context(), []batch.Record{record("a", body)})
	if o := outcome.Of(errs[0]); o.Kind != outcome.Rejected || o.Reason != "too-large" {
		t.Errorf("%.200v", errs[0])
	}
	if to.count != 0 {
		t.Errorf("%d deliveries sent", to.count)
	}
}

// An event is the same whichever copy of its message is routed: the id, and the time, which is when it was accepted.
func TestCopyOfAMessageIsTheSameEvent(t *testing.T) {
	to := &outbox{keep: true}
	first := record("original", "plain text")
	again := record("copy", "plain text")
	again.SentAt = accepted.Add(time.Hour)
	again.Note = waybill.Note{EventID: "original", AcceptedAt: accepted}
	r := open(t, 1, to)
	for _, rec := range []batch.Record{first, again} {
		if err := r.Route(t.Context(), []batch.Record{rec})[0]; err != nil {
			t.Fatal(err)
		}
	}
	a, b := to.sent[0], to.sent[1]
	if a.Delivery != b.Delivery || a.Event.ID != b.Event.ID || a.Event.Time != b.Event.Time || !a.AcceptedAt.Equal(b.AcceptedAt) {
		t.Errorf("first %+v\nagain %+v", a, b)
	}
}

// When time is up, nothing more is put together and what is left comes back.
func TestTimeIsUp(t *testing.T) {
	to := &outbox{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	errs := open(t, 3, to).Route(ctx, []batch.Record{record("a", event("1", "t", "1")), record("b", event("2", "nobody", "1"))})
	if got := kinds(errs); !slices.Equal(got, []outcome.Kind{outcome.Deferred, outcome.Deferred}) || to.count != 0 {
		t.Errorf("%v, %d sent", got, to.count)
	}
}

// ending is a queue during whose first call the invocation's time is up.
type ending struct {
	outbox
	end context.CancelFunc
}

func (q *ending) Send(ctx context.Context, messages []queue.Message) []error {
	defer q.end()
	return q.outbox.Send(ctx, messages)
}

// When time is up in the middle of a message, what was not sent of it is not acknowledged.
func TestTimeIsUpInTheMiddle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	to := &ending{end: cancel}
	errs := open(t, 1000, to).Route(ctx, []batch.Record{record("a", event("1", "t", "1")), record("b", event("2", "t", "1"))})
	if got := kinds(errs); !slices.Equal(got, []outcome.Kind{outcome.Deferred, outcome.Deferred}) || to.count == 0 || to.count >= 1000 {
		t.Errorf("%v, %d of 2000 sent", got, to.count)
	}
}

// What a producer says in message attributes reaches the event.
func TestAttributesTellTheEvent(t *testing.T) {
	to := &outbox{keep: true}
	r := record("m", "any text")
	r.Attributes = map[string]queue.Attribute{"event-id": {DataType: "String", String: "order-7"}, "event-type": {DataType: "String", String: "order.paid"}}
	if got := kinds(open(t, 1, to).Route(t.Context(), []batch.Record{r})); !slices.Equal(got, []outcome.Kind{outcome.Acknowledged}) {
		t.Errorf("%v", got)
	}
	if e := to.sent[0].Event; e.ID != "order-7" || e.Type != "order.paid" || string(e.Data) != "any text" {
		t.Errorf("event %+v", e)
	}
}

type unknown struct{}

func (unknown) Set(context.Context) (*registry.Set, error) { return nil, errors.New("down") }

func TestUnknownDestinationsDefer(t *testing.T) {
	r, err := router.New(router.Config{Destinations: unknown{}, Deliveries: &outbox{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(r.Route(t.Context(), []batch.Record{record("a", "x"), record("b", "y")})); !slices.Equal(got, []outcome.Kind{outcome.Deferred, outcome.Deferred}) {
		t.Errorf("%v", got)
	}
	if _, err := router.New(router.Config{}); err == nil || !strings.Contains(err.Error(), "Destinations") || !strings.Contains(err.Error(), "Deliveries") {
		t.Errorf("missing settings: %v", err)
	}
}
