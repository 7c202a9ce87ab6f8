package canary_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/functions/canary"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/signing"
	"github.com/waybillhq/waybill/shared/telemetry"
)

const (
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	other  = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

var minute = time.Date(2026, 11, 22, 11, 25, 17, 123_000_000, time.UTC)

// world is a canary with a clock, a queue and a memory.
type world struct {
	testing.TB
	*canary.Canary
	now     time.Time
	keys    []signing.Key
	keyless error
	full    error
	sent    []queue.Message
	log     bytes.Buffer
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, now: minute, keys: keys(t, secret)}
	c, err := canary.New(canary.Config{
		Ingress: w, Keys: func(context.Context) ([]signing.Key, error) { return w.keys, w.keyless },
		Now: func() time.Time { return w.now }, Logger: slog.New(slog.NewJSONHandler(&w.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Canary = c
	return w
}

func keys(t testing.TB, texts ...string) (all []signing.Key) {
	t.Helper()
	for _, text := range texts {
		key, err := signing.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, key)
	}
	return all
}

// Send implements queue.Sender.
func (w *world) Send(_ context.Context, messages []queue.Message) []error {
	if w.full == nil {
		w.sent = append(w.sent, messages...)
	}
	return []error{w.full}
}

// run is what EventBridge Scheduler invokes the function with.
const run = `{"version":"0","id":"1","detail-type":"Scheduled Event","source":"aws.scheduler","time":"2026-11-22T11:25:00Z","resources":[],"detail":"{}"}`

// event runs the canary and gives the event that it sends.
func (w *world) event() events.Event {
	w.Helper()
	before := len(w.sent)
	if _, err := w.Handle(w.Context(), json.RawMessage(run)); err != nil || len(w.sent) != before+1 {
		w.Fatalf("%d messages, %v", len(w.sent)-before, err)
	}
	m := w.sent[before]
	decoded, err := events.Decode(events.Input{MessageID: "m", QueueARN: "arn:aws:sqs:eu-central-1:123456789012:ingress", GroupID: m.Group, Body: m.Body, SentAt: w.now})
	if err != nil || len(decoded.Events) != 1 {
		w.Fatalf("%d events, %v", len(decoded.Events), err)
	}
	return decoded.Events[0]
}

// delivery is the request that the deliverer would make of the event, as Lambda hands it over.
type delivery struct {
	method  string
	headers map[string]string
	body    string
	encoded bool
}

func (w *world) delivery(e events.Event, by ...signing.Key) delivery {
	const id = "msg_1"
	return delivery{"POST", map[string]string{
		"webhook-id": id, "webhook-timestamp": signing.Timestamp(w.now), "webhook-signature": signing.Sign(by, id, w.now, e.Data),
		"ce-id": e.ID, "ce-source": e.Source, "ce-type": e.Type, "content-type": e.DataContentType,
	}, string(e.Data), false}
}

// receive gives the answer and the metrics of a request.
func (w *world) receive(d delivery) (status int, metrics map[string]float64) {
	w.Helper()
	payload, err := json.Marshal(map[string]any{
		"version": "2.0", "rawPath": "/", "headers": d.headers, "body": d.body, "isBase64Encoded": d.encoded,
		"requestContext": map[string]any{"http": map[string]any{"method": d.method, "path": "/"}},
	})
	if err != nil {
		w.Fatal(err)
	}
	var line bytes.Buffer
	emitter, err := telemetry.New(telemetry.Config{Function: "canary", Writer: &line})
	if err != nil {
		w.Fatal(err)
	}
	answer, err := telemetry.Measure(emitter, w.Handle)(w.Context(), payload)
	if err != nil {
		w.Fatal(err)
	}
	metrics = map[string]float64{}
	var all map[string]any
	if err := json.Unmarshal(line.Bytes(), &all); err != nil {
		w.Fatal(err)
	}
	for name, value := range all {
		switch value := value.(type) {
		case float64:
			metrics[name] = value
		case []any:
			metrics[name], _ = value[0].(float64)
		}
	}
	return answer.(canary.Response).Status, metrics
}

func TestMissingConfigListsEveryProblem(t *testing.T) {
	_, err := canary.New(canary.Config{})
	if err == nil || !strings.Contains(err.Error(), "Config.Ingress") || !strings.Contains(err.Error(), "Config.Keys") {
		t.Errorf("%v", err)
	}
}

func TestEventArrives(t *testing.T) {
	w := newWorld(t)
	e := w.event()
	if e.ID != "2026-11-22T11:25Z" || !registry.IsCanary(e.Source, e.Type) || e.Tenant() != registry.CanaryTenant || w.sent[0].Group != registry.CanaryTenant {
		t.Errorf("event %s of %s, type %s, tenant %s, group %s", e.ID, e.Source, e.Type, e.Tenant(), w.sent[0].Group)
	}
	w.now = w.now.Add(1877 * time.Millisecond)
	status, metrics := w.receive(w.delivery(e, w.keys...))
	if status != 204 || metrics["CanaryReceived"] != 1 || metrics["CanaryLatency"] != 1877 || metrics["CanaryRefused"] != 0 {
		t.Errorf("answered %d, metrics %v", status, metrics)
	}
	// Lambda hands bodies over as text or in base64, as it likes.
	d := w.delivery(e, w.keys...)
	d.body, d.encoded = base64.StdEncoding.EncodeToString(e.Data), true
	if status, _ := w.receive(d); status != 204 {
		t.Errorf("in base64: answered %d", status)
	}
}

// Two runs in one minute are one event: the router derives the same delivery from both.
func TestSecondRunOfAMinuteIsTheSameEvent(t *testing.T) {
	w := newWorld(t)
	first := w.event()
	w.now = w.now.Add(42 * time.Second)
	second := w.event()
	w.now = w.now.Add(time.Second)
	third := w.event()
	if first.ID != second.ID || second.ID == third.ID {
		t.Errorf("ids %s, %s, and in the next minute %s", first.ID, second.ID, third.ID)
	}
}

func TestRefusals(t *testing.T) {
	strange := func(w *world) []signing.Key { return keys(w.TB, other) }
	for name, c := range map[string]struct {
		change func(w *world, e events.Event) delivery
		want   int
	}{
		"GET": {func(w *world, e events.Event) delivery {
			d := w.delivery(e, w.keys...)
			d.method = "GET"
			return d
		}, 405},
		"another key": {func(w *world, e events.Event) delivery { return w.delivery(e, strange(w)...) }, 401},
		"no signature": {func(w *world, e events.Event) delivery {
			d := w.delivery(e, w.keys...)
			delete(d.headers, "webhook-signature")
			return d
		}, 401},
		"nothing at all": {func(*world, events.Event) delivery { return delivery{method: "POST"} }, 401},
		"a signature of another time": {func(w *world, e events.Event) delivery {
			d := w.delivery(e, w.keys...)
			d.headers["webhook-timestamp"] = signing.Timestamp(w.now.Add(time.Second))
			return d
		}, 401},
		"a recorded request": {func(w *world, e events.Event) delivery {
			d := w.delivery(e, w.keys...)
			w.now = w.now.Add(6 * time.Minute)
			return d
		}, 401},
		"changed on the way": {func(w *world, e events.Event) delivery {
			d := w.delivery(e, w.keys...)
			d.body = strings.Replace(d.body, "1.0", "1", 1)
			return d
		}, 401},
		"too large": {func(w *world, e events.Event) delivery {
			e.Data = append(e.Data, bytes.Repeat([]byte(" "), 4<<10)...)
			return w.delivery(e, w.keys...)
		}, 413},
		"no base64": {func(w *world, e events.Event) delivery {
			d := w.delivery(e, w.keys...)
			d.encoded = true
			return d
		}, 400},
		// From here on the deliverer has signed, as it signs whatever the ingress queue brings.
		"a number written anew":   {forged(func(data string) string { return strings.Replace(data, `"z": 1.0`, `"z": 1`, 1) }), 400},
		"a large number rounded":  {forged(func(data string) string { return strings.Replace(data, "9007199254740993", "9007199254740992", 1) }), 400},
		"white space gone":        {forged(func(data string) string { return strings.Replace(data, "\t", "", 1) }), 400},
		"an escape resolved":      {forged(func(data string) string { return strings.Replace(data, `\u00e9`, "é", 1) }), 400},
		"another time":            {forged(func(data string) string { return strings.Replace(data, `"sent":`, `"sent":1`, 1) }), 400},
		"without the seal":        {forged(func(data string) string { before, _, _ := strings.Cut(data, `"seal":"`); return before + `"seal":""}` }), 400},
		"no JSON":                 {forged(func(string) string { return "hello" }), 400},
		"JSON of somebody":        {forged(func(string) string { return `{"sent":1,"odd":{},"seal":"v1,AAAA"}` }), 400},
		"sealed by somebody else": {sealedBy(other), 400},
		"an event from yesterday": {func(w *world, e events.Event) delivery {
			w.now = w.now.Add(24 * time.Hour)
			return w.delivery(e, w.keys...)
		}, 400},
		"five minutes and more": {func(w *world, e events.Event) delivery {
			w.now = w.now.Add(5*time.Minute + time.Second)
			return w.delivery(e, w.keys...)
		}, 400},
		"under another id":    {renamed(func(e *events.Event) { e.ID = "2026-11-22T11:26Z" }), 400},
		"from another source": {renamed(func(e *events.Event) { e.Source = "/shop" }), 400},
		"of another type":     {renamed(func(e *events.Event) { e.Type = "order.paid" }), 400},
		"five minutes and no more": {func(w *world, e events.Event) delivery {
			w.now = minute.Add(5 * time.Minute).Truncate(time.Second)
			return w.delivery(e, w.keys...)
		}, 204},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := c.change(w, w.event())
			status, metrics := w.receive(d)
			counted := metrics["CanaryRefused"]
			if c.want == 204 {
				counted = metrics["CanaryReceived"]
			}
			if status != c.want || counted != 1 || metrics["CanaryReceived"]+metrics["CanaryRefused"] != 1 {
				t.Errorf("answered %d, want %d; metrics %v", status, c.want, metrics)
			}
			for _, part := range []string{secret, "9007199254740", "v1,"} {
				if strings.Contains(w.log.String(), part) {
					t.Errorf("the log shows %q: %s", part, w.log.String())
				}
			}
		})
	}
}

// forged is an event of the right source and type with other data.
func forged(change func(data string) string) func(*world, events.Event) delivery {
	return func(w *world, e events.Event) delivery {
		data := change(string(e.Data))
		if data == string(e.Data) {
			w.Fatal("nothing is changed")
		}
		e.Data = []byte(data)
		return w.delivery(e, w.keys...)
	}
}

// sealedBy is the event of a canary with another key, signed by the deliverer with the right one.
func sealedBy(text string) func(*world, events.Event) delivery {
	return func(w *world, _ events.Event) delivery {
		own := w.keys
		w.keys = keys(w.TB, text)
		e := w.event()
		w.keys = own
		return w.delivery(e, own...)
	}
}

func renamed(change func(*events.Event)) func(*world, events.Event) delivery {
	return func(w *world, e events.Event) delivery {
		e.Extensions = maps.Clone(e.Extensions)
		change(&e)
		return w.delivery(e, w.keys...)
	}
}

// During a rotation each side may have the new keys first.
func TestRotation(t *testing.T) {
	w := newWorld(t)
	w.keys = keys(t, other, secret)
	both := w.event()
	for name, c := range map[string]struct{ signs, knows []string }{
		"the deliverer has the old one yet": {[]string{secret}, []string{other, secret}},
		"the canary has the old one yet":    {[]string{other, secret}, []string{secret}},
	} {
		w.keys = keys(t, c.knows...)
		if status, _ := w.receive(w.delivery(both, keys(t, c.signs...)...)); status != 204 {
			t.Errorf("%s: answered %d", name, status)
		}
	}
}

// What is a fault of ours is an error, so that the run counts as failed and the deliverer tries again.
func TestFaultsOfOurs(t *testing.T) {
	w := newWorld(t)
	e := w.event()
	request, _ := json.Marshal(map[string]any{
		"headers": w.delivery(e, w.keys...).headers, "body": string(e.Data), "requestContext": map[string]any{"http": map[string]any{"method": "POST"}},
	})
	for name, c := range map[string]struct {
		spoil   func()
		payload string
		says    string
	}{
		"no key to send":   {func() { w.keyless = errors.New("vault is closed") }, run, "vault is closed"},
		"no key to verify": {func() { w.keyless = errors.New("vault is closed") }, string(request), "vault is closed"},
		"queue is down":    {func() { w.full = errors.New("queue is down") }, run, "queue is down"},
		"no JSON":          {func() {}, "x", "neither a run nor a request"},
	} {
		w.keyless, w.full = nil, nil
		c.spoil()
		if answer, err := w.Handle(t.Context(), json.RawMessage(c.payload)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v", name, answer, err)
		}
		if line := w.log.String(); !strings.Contains(line, "canary failed") || !strings.Contains(line, c.says) {
			t.Errorf("%s: nobody reads why it failed, the log says %s", name, line)
		}
		w.log.Reset()
	}
}

// A stranger's request costs no call for the key.
func TestUnsignedRequestNeedsNoKey(t *testing.T) {
	w := newWorld(t)
	d := w.delivery(w.event(), w.keys...)
	delete(d.headers, "webhook-signature")
	w.keyless = errors.New("asked for")
	if status, _ := w.receive(d); status != 401 {
		t.Errorf("answered %d", status)
	}
}

// What was sent is counted, and a clock that is set back makes no negative latency.
func TestCanaryMetrics(t *testing.T) {
	w := newWorld(t)
	counts := telemetry.NewBatch()
	if _, err := w.Handle(telemetry.With(t.Context(), counts), json.RawMessage(run)); err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	emitter, err := telemetry.New(telemetry.Config{Function: "canary", Writer: &line})
	if err != nil {
		t.Fatal(err)
	}
	emitter.Emit(counts)
	if !strings.Contains(line.String(), `"CanarySent":1`) {
		t.Errorf("metrics %s", line.String())
	}
	e := w.event()
	if e.Time != "2026-11-22T11:25:17.123Z" || e.DataContentType != "application/json" {
		t.Errorf("event of %s, %s", e.Time, e.DataContentType)
	}
	w.now = w.now.Add(-2 * time.Second)
	if status, metrics := w.receive(w.delivery(e, w.keys...)); status != 204 || metrics["CanaryLatency"] != 0 || metrics["CanaryReceived"] != 1 {
		t.Errorf("answered %d, metrics %v", status, metrics)
	}
}

// Whatever a stranger sends is refused.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "v1,AAAA", "msg_1", `{"sent":1,"odd":{},"seal":""}`, false)
	f.Add("GET", "", "", "", true)
	f.Fuzz(func(t *testing.T, method, signature, id, body string, encoded bool) {
		w := newWorld(t)
		d := delivery{method, map[string]string{
			"webhook-id": id, "webhook-timestamp": signing.Timestamp(w.now), "webhook-signature": signature,
		}, body, encoded}
		if method == "" {
			return // a run by the clock, which no request can be: Lambda writes the method
		}
		if status, _ := w.receive(d); status < 400 || status > 499 {
			t.Errorf("answered %d", status)
		}
	})
}
