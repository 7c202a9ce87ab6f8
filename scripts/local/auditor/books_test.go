package auditor_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waybill"
)

// one is the delivery of the event "1" to the destination fine.
var one = delivery.NewID("default", "/shop", "1", receiver.Fine)

// oneBody is the digest of that event's payload.
func oneBody() string {
	sum := sha256.Sum256([]byte(`{"id":"1"}`))
	return hex.EncodeToString(sum[:])
}

func message(epoch, attempt int) delivery.Message {
	return delivery.Message{
		Delivery: one, Destination: receiver.Fine, Epoch: epoch, Attempt: attempt,
		Event: events.Event{ID: "1", Source: "/shop", Type: receiver.Fine, Data: []byte(`{"id":"1"}`)},
	}
}

func with(m delivery.Message, change func(*delivery.Message)) delivery.Message {
	change(&m)
	return m
}

// put puts a message of Waybill on a queue.
func (w *world) put(name topology.QueueName, m delivery.Message, note waybill.Note) {
	w.t.Helper()
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		w.t.Fatal(err)
	}
	out := queue.Message{Body: body}
	if note != (waybill.Note{}) {
		out, _ = waybill.Attach(out, note)
	}
	w.transmit(name, out)
}

func (w *world) transmit(name topology.QueueName, m queue.Message) {
	w.t.Helper()
	out := sqs.Outgoing{Body: m.Body, GroupID: m.Group, MessageAttributes: map[string]sqs.AttributeValue{}}
	for name, a := range m.Attributes {
		out.MessageAttributes[name] = sqs.AttributeValue{DataType: a.DataType, StringValue: a.String, BinaryValue: a.Binary}
	}
	if _, err := w.queue(name).Send(out); err != nil {
		w.t.Fatal(err)
	}
}

// empty deletes everything in a queue.
func (w *world) empty(name topology.QueueName) {
	for _, h := range w.queue(name).Snapshot() {
		w.queue(name).Drop(h.MessageID)
	}
}

// write writes a waybill.
func (w *world) write(id delivery.ID, state string, epoch, attempt int) {
	w.t.Helper()
	item := fmt.Sprintf(`{"TableName":"ledger","Item":{"delivery":{"S":%q},"state":{"S":%q},"epoch":{"N":"%d"},"attempt":{"N":"%d"},
		"owner":{"S":"o"},"leaseUntil":{"N":"0"},"updatedAt":{"N":"%d"},"code":{"N":"500"},"reason":{"S":"http-500"}}}`,
		id, state, epoch, attempt, time.Now().UnixMilli())
	if _, err := w.Tables.Do(w.t.Context(), "PutItem", []byte(item)); err != nil {
		w.t.Fatal(err)
	}
}

func TestEveryDeliveryHasOneState(t *testing.T) {
	type row struct {
		state          string
		epoch, attempt int
	}
	held := with(message(0, 2), func(m *delivery.Message) { m.HeldSince = time.Now() })
	replay := with(message(1, 1), func(m *delivery.Message) { m.Replay = true })
	outcome := func(state ledger.State, owner string, epoch, attempt int) delivery.Message {
		return with(message(epoch, attempt), func(m *delivery.Message) { m.Outcome = &delivery.Outcome{State: string(state), Owner: owner} })
	}
	relaxed := outcome(ledger.Delivered, "r", 0, 1)
	relaxed.Outcome.Unclaimed = true
	type messages = []delivery.Message
	for name, c := range map[string]struct {
		row      *row
		on       messages // the deliveries queue
		letters  messages
		received bool
		ingress  bool
		unsent   bool
		want     auditor.State
		reason   string
	}{
		"not routed yet":                      {ingress: true, unsent: true, want: auditor.Queued},
		"routed, not yet acknowledged":        {ingress: true, on: messages{message(0, 1)}, want: auditor.Queued},
		"routed":                              {on: messages{message(0, 1)}, want: auditor.Queued},
		"never routed":                        {unsent: true, want: auditor.Lost, reason: "never put on"},
		"message gone":                        {want: auditor.Lost, reason: "knows nothing of it"},
		"claimed":                             {row: &row{"claimed", 0, 1}, on: messages{message(0, 1)}, want: auditor.Queued},
		"claimed, message gone":               {row: &row{"claimed", 0, 1}, want: auditor.Lost, reason: "under way, its message is gone"},
		"claimed, message gone, event again":  {row: &row{"claimed", 0, 1}, ingress: true, want: auditor.Queued},
		"claimed later, message gone, again":  {row: &row{"claimed", 0, 2}, ingress: true, want: auditor.Lost, reason: "attempt 2"},
		"claimed later, only an old message":  {row: &row{"claimed", 0, 2}, on: messages{message(0, 1)}, want: auditor.Lost},
		"claimed, successor sent":             {row: &row{"claimed", 0, 1}, on: messages{message(0, 1), message(0, 2)}, want: auditor.Queued},
		"waiting":                             {row: &row{"waiting", 0, 1}, on: messages{message(0, 2)}, want: auditor.Waiting},
		"waiting, old message there too":      {row: &row{"waiting", 0, 1}, on: messages{message(0, 2), message(0, 1)}, want: auditor.Waiting},
		"waiting, only the old message":       {row: &row{"waiting", 0, 1}, on: messages{message(0, 1)}, want: auditor.Lost, reason: "no message for the next"},
		"waiting, event again":                {row: &row{"waiting", 0, 1}, ingress: true, want: auditor.Lost},
		"waiting, successor dead by receives": {row: &row{"waiting", 0, 1}, letters: messages{message(0, 2)}, want: auditor.Dead},
		"waiting, useless letter":             {row: &row{"waiting", 0, 1}, letters: messages{message(0, 1)}, want: auditor.Lost},
		"waiting, row deleted":                {on: messages{message(0, 2)}, want: auditor.Queued},
		"parked":                              {row: &row{"waiting", 0, 1}, on: messages{held}, want: auditor.Parked},
		"parked and stale":                    {row: &row{"waiting", 0, 2}, on: messages{held}, want: auditor.Lost},
		"dead":                                {row: &row{"dead", 0, 3}, letters: messages{message(1, 1)}, want: auditor.Dead},
		"dead without an attempt":             {letters: messages{message(1, 1)}, want: auditor.Dead},
		"dead, letter gone":                   {row: &row{"dead", 0, 3}, want: auditor.Lost, reason: "no dead letter"},
		"dead, letter that would be stale":    {row: &row{"dead", 0, 3}, letters: messages{message(0, 3)}, want: auditor.Lost},
		"dead, letter of an earlier epoch":    {row: &row{"dead", 1, 3}, letters: messages{message(1, 1)}, want: auditor.Lost},
		"dead, letter not settled":            {row: &row{"claimed", 0, 3}, on: messages{message(0, 3)}, letters: messages{message(1, 1)}, want: auditor.Queued},
		"dead, letter moved back":             {row: &row{"dead", 0, 3}, on: messages{message(1, 1)}, want: auditor.Queued},
		"dead, event again":                   {row: &row{"dead", 0, 3}, ingress: true, want: auditor.Lost},
		"delivered":                           {row: &row{"delivered", 0, 1}, received: true, want: auditor.Delivered},
		"delivered, forged":                   {row: &row{"delivered", 0, 1}, want: auditor.Lost, reason: "receiver has not said so"},
		"delivered, forged, message there":    {row: &row{"delivered", 0, 1}, on: messages{message(0, 1)}, want: auditor.Lost},
		"delivered, replay":                   {row: &row{"delivered", 0, 1}, received: true, on: messages{replay}, want: auditor.Delivered},
		"delivered, event again":              {row: &row{"delivered", 0, 1}, received: true, ingress: true, want: auditor.Delivered},
		"delivered, old letter":               {row: &row{"delivered", 1, 1}, received: true, letters: messages{message(1, 1)}, want: auditor.Delivered},
		"received, row deleted":               {received: true, want: auditor.Lost, reason: "knows nothing of it"},
		"success to be written":               {row: &row{"claimed", 0, 1}, received: true, on: messages{outcome(ledger.Delivered, "o", 0, 1)}, want: auditor.Queued},
		"success of another owner":            {row: &row{"claimed", 0, 1}, received: true, on: messages{outcome(ledger.Delivered, "p", 0, 1)}, want: auditor.Lost},
		"success of another attempt":          {row: &row{"claimed", 0, 2}, received: true, on: messages{outcome(ledger.Delivered, "o", 0, 1)}, want: auditor.Lost},
		"relaxed success to be written":       {received: true, on: messages{relaxed}, want: auditor.Queued},
		"failure to be written":               {row: &row{"claimed", 0, 1}, on: messages{outcome(ledger.Waiting, "o", 0, 1), message(0, 2)}, want: auditor.Queued},
		"failure to be written, no successor": {row: &row{"claimed", 0, 1}, on: messages{outcome(ledger.Waiting, "o", 0, 1)}, want: auditor.Lost},
		"death to be written, no letter":      {row: &row{"claimed", 0, 1}, on: messages{outcome(ledger.Dead, "o", 0, 1)}, want: auditor.Lost},
		"death to be written":                 {row: &row{"claimed", 0, 1}, on: messages{outcome(ledger.Dead, "o", 0, 1)}, letters: messages{message(1, 1)}, want: auditor.Dead},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, true, func(t *testing.T, w *world) {
				w.send(cloudEvent("1", receiver.Fine))
				if !c.ingress {
					w.empty(topology.Ingress)
				}
				if !c.unsent {
					w.put(topology.Deliveries, message(0, 1), waybill.Note{})
					w.empty(topology.Deliveries)
				}
				for _, m := range c.on {
					w.put(topology.Deliveries, m, waybill.Note{})
				}
				for _, m := range c.letters {
					w.put(topology.DeliveriesDeadLetter, m, waybill.Note{Reason: "http-500", Code: 500})
				}
				if c.row != nil {
					w.write(one, c.row.state, c.row.epoch, c.row.attempt)
				}
				if c.received {
					w.auditor.OnReceived(string(one), 200, oneBody())
				}
				b := w.audit()
				if len(b.Rows) != 1 || b.Rows[0].State != c.want || !strings.Contains(b.Rows[0].Reason, c.reason) {
					t.Fatalf("got %+v, want %s (%s)", b.Rows, c.want, c.reason)
				}
				if err := b.Check(); (c.want == auditor.Lost) != errors.Is(err, auditor.ErrDeliveries) || c.want == auditor.Lost && b.Lost != 1 {
					t.Errorf("lost %d: %v", b.Lost, err)
				}
				sum := b.Delivered + b.Waiting + b.Parked + b.Dead + b.Queued + b.Lost
				if sum != 1 || b.Deliveries != 1 {
					t.Errorf("%+v: not exactly one state", b)
				}
			})
		})
	}
}

func TestDeliveredTakesEvidence(t *testing.T) {
	attempt := func(w *world, id, destination string, v downstream.Verdict) {
		w.auditor.OnAttempt(downstream.Attempt{PublicID: id, Number: 1, Destination: &registry.Destination{ID: destination}}, downstream.Result{Verdict: v})
	}
	replay := with(message(1, 1), func(m *delivery.Message) { m.Replay, m.NewID = true, true })
	for name, c := range map[string]struct {
		receiverLog bool
		evidence    func(w *world)
		lost        string // part of the reason; "" for delivered
	}{
		"log":               {true, func(w *world) { w.auditor.OnReceived(string(one), 204, oneBody()) }, ""},
		"log in upper case": {true, func(w *world) { w.auditor.OnReceived(string(one), 200, strings.ToUpper(oneBody())) }, ""},
		"log of a replay": {true, func(w *world) {
			w.put(topology.Deliveries, replay, waybill.Note{})
			w.empty(topology.Deliveries)
			w.auditor.OnReceived(replay.PublicID(), 200, oneBody())
		}, ""},
		"log, no attempt reported": {true, func(w *world) { attempt(w, string(one), receiver.Fine, downstream.Delivered) }, "has not said so"},
		"log, refused":             {true, func(w *world) { w.auditor.OnReceived(string(one), 500, oneBody()) }, "has not said so"},
		"log, no answer":           {true, func(w *world) { w.auditor.OnReceived(string(one), 0, oneBody()) }, "has not said so"},
		"log, other bytes":         {true, func(w *world) { w.auditor.OnReceived(string(one), 200, "00") }, "other bytes"},
		"log, right bytes later": {true, func(w *world) {
			w.auditor.OnReceived(string(one), 200, "00")
			w.auditor.OnReceived(string(one), 200, oneBody())
		}, ""},
		"attempt":                  {false, func(w *world) { attempt(w, string(one), receiver.Fine, downstream.Delivered) }, ""},
		"attempt, failed":          {false, func(w *world) { attempt(w, string(one), receiver.Fine, downstream.Retry) }, "no attempt has succeeded"},
		"attempt, not started":     {false, func(w *world) { attempt(w, string(one), receiver.Fine, downstream.NotStarted) }, "no attempt has succeeded"},
		"attempt, none":            {false, func(*world) {}, "no attempt has succeeded"},
		"attempt of somebody else": {false, func(w *world) { attempt(w, "else", receiver.Fine, downstream.Delivered) }, "no attempt has succeeded"},
		"attempt somewhere else":   {false, func(w *world) { attempt(w, string(one), "else", downstream.Delivered) }, "no attempt has succeeded"},
		"attempts, success at last": {false, func(w *world) {
			attempt(w, string(one), receiver.Fine, downstream.Delivered)
			attempt(w, string(one), receiver.Fine, downstream.Retry)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, c.receiverLog, func(t *testing.T, w *world) {
				w.send(cloudEvent("1", receiver.Fine))
				w.empty(topology.Ingress)
				w.put(topology.Deliveries, message(0, 1), waybill.Note{})
				w.empty(topology.Deliveries)
				c.evidence(w)
				w.write(one, "delivered", 0, 1)
				b := w.audit()
				if name == "attempt, not started" && b.HTTPAttempts != 0 {
					t.Errorf("%d HTTP attempts", b.HTTPAttempts)
				}
				if (b.Lost == 0) != (c.lost == "") || (b.Lost == 0) != (b.Check() == nil) || c.lost != "" && !strings.Contains(b.Rows[0].Reason, c.lost) {
					t.Errorf("lost %d, %+v: %v", b.Lost, b.Rows, b.Check())
				}
			})
		})
	}
}

// An event id that is used for different payloads may arrive with any of them.
func TestAnyAcceptedPayloadIsRight(t *testing.T) {
	run(t, true, func(t *testing.T, w *world) {
		for i := range 3 {
			w.send(sqs.Outgoing{Body: fmt.Sprintf(`{"specversion":"1.0","id":"1","source":"/shop","type":"fine","data":%d}`, i)})
		}
		w.empty(topology.Ingress)
		w.put(topology.Deliveries, message(0, 1), waybill.Note{})
		w.empty(topology.Deliveries)
		w.write(one, "delivered", 0, 1)
		w.auditor.OnReceived(string(one), 200, fmt.Sprintf("%x", sha256.Sum256([]byte("3"))))
		if b := w.audit(); b.Lost != 1 {
			t.Errorf("a payload that was never accepted: lost %d", b.Lost)
		}
		w.auditor.OnReceived(string(one), 200, fmt.Sprintf("%x", sha256.Sum256([]byte("2"))))
		if b := w.audit(); b.Lost != 0 || b.Accepted != 3 || b.Duplicates != 2 || b.Deliveries != 1 {
			t.Errorf("%+v", b)
		}
	})
}

// TestFilesThatDiffer: by which file an event was routed nobody outside knows, so what not all of them ask for may be missing. Once a message for it was seen, it
// must be found like any other.
func TestFilesThatDiffer(t *testing.T) {
	without := []byte(`{"destinations":[]}`)
	for name, c := range map[string]struct {
		others    [][]byte
		sent      bool
		want      error
		unmatched int
		lost      int
	}{
		"one file, not routed":   {want: auditor.ErrEvents, lost: 1},
		"one file, lost":         {sent: true, want: auditor.ErrDeliveries, lost: 1},
		"another, not routed":    {others: [][]byte{without}, unmatched: 1},
		"another, lost":          {others: [][]byte{without}, sent: true, want: auditor.ErrDeliveries, lost: 1},
		"the same, not routed":   {others: [][]byte{destinations}, want: auditor.ErrEvents, lost: 1},
		"two others, not routed": {others: [][]byte{destinations, without}, unmatched: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, true, c.others...)
				defer w.stop()
				w.send(cloudEvent("1", receiver.Fine))
				w.empty(topology.Ingress)
				if c.sent {
					w.put(topology.Deliveries, message(0, 1), waybill.Note{})
					w.empty(topology.Deliveries)
				}
				b := w.audit()
				if err := b.Check(); !errors.Is(err, c.want) || b.Unmatched != c.unmatched || b.Lost != c.lost {
					t.Errorf("%d unmatched, %d lost: %v", b.Unmatched, b.Lost, err)
				}
			})
		})
	}
}

func TestUnexpectedDeliveriesAreReported(t *testing.T) {
	other := with(message(0, 1), func(m *delivery.Message) { m.Delivery = "nobody" })
	misled := with(message(0, 1), func(m *delivery.Message) { m.Destination = "elsewhere" })
	for name, act := range map[string]func(w *world){
		"message":                func(w *world) { w.put(topology.Deliveries, other, waybill.Note{}); w.empty(topology.Deliveries) },
		"message to another":     func(w *world) { w.put(topology.Deliveries, misled, waybill.Note{}); w.empty(topology.Deliveries) },
		"dead letter":            func(w *world) { w.put(topology.DeliveriesDeadLetter, other, waybill.Note{Reason: "x"}) },
		"dead letter to another": func(w *world) { w.put(topology.DeliveriesDeadLetter, misled, waybill.Note{Reason: "x"}) },
		"row":                    func(w *world) { w.write("nobody", "claimed", 0, 1) },
		"request at a receiver":  func(w *world) { w.auditor.OnReceived("nobody", 500, "") },
		"attempt":                func(w *world) { w.auditor.OnAttempt(downstream.Attempt{PublicID: "nobody"}, downstream.Result{}) },
		"attempt without target": func(w *world) { w.auditor.OnAttempt(downstream.Attempt{PublicID: string(one)}, downstream.Result{}) },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, true, func(t *testing.T, w *world) {
				w.send(cloudEvent("1", receiver.Fine))
				if err := w.audit().Check(); err != nil {
					t.Fatal(err)
				}
				act(w)
				if err := w.audit().Check(); !errors.Is(err, auditor.ErrUnexpected) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestUnreadableThingsAreReported(t *testing.T) {
	run(t, true, func(t *testing.T, w *world) {
		for _, name := range []topology.QueueName{topology.Deliveries, topology.DeliveriesDeadLetter} {
			w.transmit(name, queue.Message{Body: "nonsense"})
			w.transmit(name, queue.Message{Body: `{"v":2}`})
			w.transmit(name, queue.Message{Body: `{"v":1}`, Attributes: map[string]queue.Attribute{"waybill": {DataType: "String", String: `{"v":9}`}}})
			w.transmit(name, queue.Message{Body: `x`, Attributes: map[string]queue.Attribute{"waybill": {DataType: "String", String: `{"v":1,"wrapped":"gzip+base64"}`}}})
		}
		for _, item := range []string{`"delivery":{"S":"a"}`, `"delivery":{"S":"b"},"state":{"S":"odd"},"epoch":{"N":"1.5"}`} {
			if _, err := w.Tables.Do(t.Context(), "PutItem", []byte(`{"TableName":"ledger","Item":{`+item+`}}`)); err != nil {
				t.Fatal(err)
			}
		}
		b := w.audit()
		if len(b.Unreadable) != 10 || b.Check() != nil {
			t.Errorf("%d: %q: %v", len(b.Unreadable), b.Unreadable, b.Check())
		}
		w.transmit(topology.IngressDeadLetter, queue.Message{Body: "put here by a person"})
		if b := w.audit(); len(b.Foreign) != 1 || b.Check() != nil {
			t.Errorf("%q: %v", b.Foreign, b.Check())
		}
	})
	t.Run("no ledger", func(t *testing.T) {
		run(t, true, func(t *testing.T, w *world) {
			if _, err := w.Tables.Do(t.Context(), "DeleteTable", []byte(`{"TableName":"ledger"}`)); err != nil {
				t.Fatal(err)
			}
			if b := w.audit(); len(b.Unreadable) != 1 {
				t.Errorf("%q", b.Unreadable)
			}
		})
	})
}

func TestDeadLettersTellWhy(t *testing.T) {
	bad := queue.Message{Body: `{"specversion":"1.0"}`}
	newer := queue.Message{Body: "raw", Attributes: map[string]queue.Attribute{"waybill": {DataType: "String", String: `{"v":99}`}}}
	for name, c := range map[string]struct {
		act  func(w *world)
		want error
	}{
		"ingress":            {func(w *world) { w.bury(bad, "bad-cloudevent") }, nil},
		"ingress, no reason": {func(w *world) { w.bury(bad, "") }, auditor.ErrUnexplained},
		"ingress, a note of a newer release": {func(w *world) {
			w.transmit(topology.Ingress, newer)
			w.empty(topology.Ingress)
			w.transmit(topology.IngressDeadLetter, newer)
		}, nil},
		"ingress, a note of a newer release, given up": {func(w *world) {
			w.transmit(topology.Ingress, newer)
			w.empty(topology.Ingress)
			given := newer
			given.Attributes = maps.Clone(newer.Attributes)
			given.Attributes[batch.ReasonAttribute] = queue.Attribute{DataType: "String", String: "newer-version"}
			w.transmit(topology.IngressDeadLetter, given)
		}, nil},
		"delivery, moved by SQS": {func(w *world) {
			w.send(cloudEvent("1", receiver.Fine))
			w.empty(topology.Ingress)
			w.put(topology.Deliveries, message(0, 1), waybill.Note{})
			w.receiveTooOften(topology.Deliveries)
		}, nil},
		"ingress, lost": {func(w *world) { w.transmit(topology.Ingress, bad); w.empty(topology.Ingress) }, auditor.ErrEvents},
		"ingress, other bytes": {func(w *world) {
			w.bury(bad, "bad-cloudevent")
			w.transmit(topology.Ingress, bad)
			w.empty(topology.Ingress)
		}, auditor.ErrEvents},
		"delivery, no reason": {func(w *world) {
			w.send(cloudEvent("1", receiver.Fine))
			w.put(topology.DeliveriesDeadLetter, message(1, 1), waybill.Note{})
		}, auditor.ErrUnexplained},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, true, func(t *testing.T, w *world) {
				c.act(w)
				if err := w.audit().Check(); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			})
		})
	}
}

// bury accepts a message and moves it to the ingress dead-letter queue like the router.
func (w *world) bury(m queue.Message, reason string) {
	w.transmit(topology.Ingress, m)
	for _, h := range w.queue(topology.Ingress).Snapshot() {
		letter, ok := waybill.Attach(m, waybill.Note{EventID: h.MessageID, Reason: reason, AcceptedAt: time.Now()})
		if !ok {
			letter = m
		}
		w.transmit(topology.IngressDeadLetter, letter)
	}
	w.empty(topology.Ingress)
}

// full gives m a blob that fills it up and does not compress, so that no note fits in any form.
func full(m queue.Message) queue.Message {
	random := rand.New(rand.NewPCG(1, 2))
	blob := queue.Attribute{DataType: "Binary", Binary: make([]byte, queue.MaxBytes-m.Size()-len("blob")-len("Binary"))}
	for i := range blob.Binary {
		blob.Binary[i] = byte(random.Uint32())
	}
	attributes := map[string]queue.Attribute{"blob": blob}
	maps.Copy(attributes, m.Attributes)
	m.Attributes = attributes
	return m
}

// Where there is no room for a note, content is all that is left to find a dead letter by.
func TestFindsDeadLettersWithoutRoomForANote(t *testing.T) {
	run(t, true, func(t *testing.T, w *world) {
		full := full(queue.Message{Body: `{"specversion":"1.0"}`})
		w.transmit(topology.Ingress, full)
		w.bury(full, "bad-cloudevent")
		if b := w.audit(); b.IngressDead != 2 || b.Missing != 0 || b.Check() != nil {
			t.Fatalf("%+v: %v", b, b.Check())
		}
		w.queue(topology.IngressDeadLetter).Drop(w.queue(topology.IngressDeadLetter).Snapshot()[0].MessageID)
		if b := w.audit(); b.IngressDead != 1 || b.Missing != 1 || !errors.Is(b.Check(), auditor.ErrEvents) {
			t.Errorf("%+v: %v", b, b.Check())
		}
	})
}

func TestCopiesAreNotAcceptedAgain(t *testing.T) {
	plain := queue.Message{Body: "raw", Group: "acme"}
	ten := queue.Message{Body: "raw", Attributes: map[string]queue.Attribute{}}
	for i := range queue.MaxAttributes {
		ten.Attributes["a"+strconv.Itoa(i)] = queue.Attribute{DataType: "Binary", Binary: []byte{byte(i)}}
	}
	typed := queue.Message{Body: "raw", Attributes: map[string]queue.Attribute{"a0": {DataType: "String", String: "x"}}}
	foreign := queue.Message{Body: "raw", Attributes: map[string]queue.Attribute{"waybill": {DataType: "String", String: "mine"}}}
	forged, _ := waybill.Attach(plain, waybill.Note{EventID: "made-up", AcceptedAt: time.Unix(1, 0)})
	newer := queue.Message{Body: "raw", Attributes: map[string]queue.Attribute{"waybill": {DataType: "String", String: `{"v":99}`}}}
	other := func(change func(m *queue.Message)) func(w *world, m queue.Message, id string) {
		return func(w *world, m queue.Message, id string) {
			change(&m)
			copied, _ := waybill.Attach(m, waybill.Note{EventID: id})
			w.transmit(topology.Ingress, copied)
		}
	}
	resent := other(func(*queue.Message) {})
	held := func(w *world, m queue.Message, _ string) {
		m.Attributes = maps.Clone(m.Attributes)
		m.Attributes[batch.HeldAttribute] = queue.Attribute{DataType: "String", String: "1795350896000"}
		w.transmit(topology.Ingress, m)
	}
	change := func(to queue.Attribute) func(w *world, m queue.Message, id string) {
		return other(func(m *queue.Message) {
			m.Attributes = maps.Clone(m.Attributes)
			m.Attributes["a0"] = to
		})
	}
	for name, c := range map[string]struct {
		first  queue.Message
		again  func(w *world, m queue.Message, id string)
		copied bool
	}{
		"sent again by Waybill":            {plain, resent, true},
		"ten attributes, wrapped":          {ten, resent, true},
		"an attribute of the same name":    {foreign, resent, true},
		"a note of the producer":           {forged, resent, true},
		"a note of a newer release":        {newer, func(w *world, m queue.Message, _ string) { w.transmit(topology.Ingress, m) }, true},
		"a note of a newer release, held":  {newer, held, true},
		"sent again by the producer":       {plain, func(w *world, m queue.Message, _ string) { w.transmit(topology.Ingress, m) }, false},
		"a note that names another event":  {plain, func(w *world, m queue.Message, _ string) { resent(w, m, "another") }, false},
		"a note that hides another body":   {plain, other(func(m *queue.Message) { m.Body = "other" }), false},
		"a note that hides another tenant": {plain, other(func(m *queue.Message) { m.Group = "other" }), false},
		"a note that hides other attributes": {plain, other(func(m *queue.Message) {
			m.Attributes = map[string]queue.Attribute{"event-type": {DataType: "String", String: "x"}}
		}), false},
		"a note that hides another value":       {ten, change(queue.Attribute{DataType: "Binary", Binary: []byte{9}}), false},
		"a note that hides another text":        {typed, change(queue.Attribute{DataType: "String", String: "y"}), false},
		"a note that hides another type":        {typed, change(queue.Attribute{DataType: "String.label", String: "x"}), false},
		"a note of the producer, twice, forged": {forged, func(w *world, m queue.Message, _ string) { w.transmit(topology.Ingress, m) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, true, func(t *testing.T, w *world) {
				w.transmit(topology.Ingress, c.first)
				first := w.queue(topology.Ingress).Snapshot()[0].MessageID
				c.again(w, c.first, first)
				want := 2
				if c.copied {
					want = 1
				}
				// Until both are gone, whatever is accepted is found. Messages with a newer note count as no event, so they cannot go.
				for _, id := range []string{"", first} {
					w.queue(topology.Ingress).Drop(id)
					b := w.audit()
					if b.Accepted != want || id == "" && b.InIngress != want || b.Check() != nil || len(b.Foreign) > 0 {
						t.Errorf("accepted %d, want %d: %+v: %v", b.Accepted, want, b, b.Check())
					}
				}
			})
		})
	}
}

// The router and the deliverer send messages again when they are held up. That must show nowhere in the books.
func TestFaultsDoNotCookTheBooks(t *testing.T) {
	run(t, true, func(t *testing.T, w *world) {
		throttled := w.Endpoint.Faults().Add(awslocal.Fault{Service: "sqs", Operation: "SendMessageBatch", Throttle: true, Match: func(body []byte) bool {
			return strings.Contains(string(body), "/deliveries\"")
		}})
		down := w.Endpoint.Faults().Add(awslocal.Fault{Service: "dynamodb", Error: wire.Errorf("InternalServerError", "down"), Match: func(body []byte) bool {
			return strings.Contains(string(body), "ledger")
		}})
		w.sendMixture()
		w.work(2 * time.Minute)
		b := w.audit()
		if b.Accepted != 61 || b.InIngress != 59 || b.Check() != nil || throttled.Hits() == 0 {
			t.Errorf("after %d faults: %+v: %v", throttled.Hits(), b, b.Check())
		}
		throttled.Remove()
		w.work(2 * time.Minute)
		if b = w.audit(); b.Accepted != 61 || b.InIngress != 0 || b.Queued != 8 || b.Check() != nil || down.Hits() == 0 {
			t.Errorf("after %d faults: %+v: %v", down.Hits(), b, b.Check())
		}
		down.Remove()
		w.Endpoint.Faults().Add(awslocal.Fault{WithholdAnswer: true, Skip: 3, Times: 5})
		w.Endpoint.Faults().Add(awslocal.Fault{Duplicate: true, Skip: 10, Times: 5})
		w.work(30 * time.Minute)
		if b = w.audit(); b.Accepted != 62 || b.Delivered != 6 || b.Check() != nil {
			t.Errorf("%+v: %v", b, b.Check())
		}
	})
}

// A person moves dead letters back natively: they are new messages for SQS, and the same for the books.
func TestDeadLettersMovedBackNatively(t *testing.T) {
	run(t, true, func(t *testing.T, w *world) {
		w.send(cloudEvent("rejected", receiver.Rejecting))
		w.send(sqs.Outgoing{Body: `{"specversion":"1.0"}`})
		w.work(5 * time.Second)
		want := figures{accepted: 2, routed: 1, ingressDead: 1, deliveries: 1, dead: 1, attempts: 1}
		w.expect(want)
		w.redrive(topology.DeliveriesDeadLetter, topology.Deliveries)
		w.redrive(topology.IngressDeadLetter, topology.Ingress)
		w.expect(figures{accepted: 2, routed: 1, inIngress: 1, deliveries: 1, queued: 1, attempts: 1})
		w.work(5 * time.Second)
		want.attempts, want.retried = 2, 1
		w.expect(want)
	})
}

// receiveTooOften makes SQS move everything to the dead-letter queue.
func (w *world) receiveTooOften(name topology.QueueName) {
	w.t.Helper()
	now := time.Duration(0)
	for range 11 {
		if _, err := w.queue(name).Receive(w.t.Context(), sqs.ReceiveOptions{Max: 10, Visibility: &now}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// Poison is moved by SQS itself, without a reason.
func TestPoisonIsFoundByItsMessageID(t *testing.T) {
	run(t, true, func(t *testing.T, w *world) {
		w.send(cloudEvent("1", receiver.Fine))
		w.send(sqs.Outgoing{Body: "raw"})
		w.receiveTooOften(topology.Ingress)
		b := w.expect(figures{accepted: 2, ingressDead: 2})
		if b.Deliveries != 0 {
			t.Errorf("an event that was never routed has %d deliveries", b.Deliveries)
		}
		// Rejected in the middle: one of its deliveries is on its way already.
		w.put(topology.Deliveries, message(0, 1), waybill.Note{})
		w.expect(figures{accepted: 2, ingressDead: 2, deliveries: 1, queued: 1})
		w.empty(topology.Deliveries)
		if b := w.audit(); b.Lost != 1 {
			t.Errorf("its message was deleted: %+v", b)
		}
	})
}

// Moved back natively, a message without a note has nothing left but its content.
func TestPoisonMovedBackNativelyIsFoundByItsContent(t *testing.T) {
	run(t, true, func(t *testing.T, w *world) {
		w.send(cloudEvent("1", receiver.Fine))
		w.empty(topology.Ingress)
		w.send(cloudEvent("2", receiver.Fine))
		w.moveIngress(cloudEvent("1", receiver.Fine))
		w.expect(figures{accepted: 2, inIngress: 2, deliveries: 2, queued: 2})
		w.work(5 * time.Second)
		w.expect(figures{accepted: 2, routed: 2, deliveries: 2, delivered: 2, attempts: 2})
	})
}

// moveIngress puts a message on the ingress queue by a native move, of which OnSend does not hear.
func (w *world) moveIngress(m sqs.Outgoing) {
	w.t.Helper()
	if _, err := w.queue(topology.IngressDeadLetter).Send(m); err != nil {
		w.t.Fatal(err)
	}
	w.redrive(topology.IngressDeadLetter, topology.Ingress)
}

// redrive starts a native move task and lets it run.
func (w *world) redrive(from, to topology.QueueName) {
	w.t.Helper()
	request, err := json.Marshal(map[string]string{"SourceArn": w.queue(from).ARN(), "DestinationArn": w.queue(to).ARN()})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.Queues.Do(w.t.Context(), "StartMessageMoveTask", request); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(time.Second)
}

// Of two messages with the same content, the dead letter without an identity belongs to the one that was not routed.
func TestNamelessDeadLetterBelongsToWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		message func(queue.Message) queue.Message
		want    error
	}{
		"no room":        {full, nil},
		"room, not used": {func(m queue.Message) queue.Message { return m }, auditor.ErrUnexplained},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, true, func(t *testing.T, w *world) {
				m := c.message(queue.Message{Body: "raw", Attributes: map[string]queue.Attribute{"event-type": {DataType: "String", String: receiver.Fine}}})
				w.transmit(topology.Ingress, m)
				routed := w.queue(topology.Ingress).Snapshot()[0].MessageID
				w.transmit(topology.Ingress, m)
				w.empty(topology.Ingress)
				w.transmit(topology.IngressDeadLetter, m)
				w.put(topology.Deliveries, delivery.Message{
					Delivery:    delivery.NewID("default", w.queue(topology.Ingress).ARN(), routed, receiver.Fine),
					Destination: receiver.Fine, Attempt: 1, Event: events.Event{ID: routed, Source: "s", Type: receiver.Fine},
				}, waybill.Note{})
				b := w.audit()
				if err := b.Check(); b.Routed != 1 || b.IngressDead != 1 || b.Queued != 1 || b.Deliveries != 1 || !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("%+v: %v", b, err)
				}
			})
		})
	}
}

// A message keeps a whole payload in memory if a string of the event is part of its body.
func TestKeepsNoPayloads(t *testing.T) {
	const messages, payloadBytes = 64, 256 << 10
	books, err := auditor.New(auditor.Config{Destinations: destinations})
	if err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range messages {
		books.OnSend(string(topology.Ingress), sqs.Message{
			MessageID: strconv.Itoa(i),
			Body: fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/%d","type":"fine","tenant":"t%d","data":"%s"}`,
				i, i, i, strings.Repeat("x", payloadBytes)),
		})
	}
	if kept := int64(heap()) - int64(before); kept > messages*payloadBytes/8 {
		t.Errorf("%d bytes are kept of %d messages of %d bytes", kept, messages, payloadBytes)
	}
	runtime.KeepAlive(books)
}

func TestRowsOfDeadLettersTellWhatTheyTell(t *testing.T) {
	run(t, true, func(t *testing.T, w *world) {
		w.send(cloudEvent("1", receiver.Fine))
		w.empty(topology.Ingress)
		w.put(topology.DeliveriesDeadLetter, message(1, 1), waybill.Note{Reason: "unknown-destination", Code: 7, FailedAt: time.Now().Add(5 * time.Second)})
		want := auditor.Row{
			Delivery: string(one), Destination: receiver.Fine, Tenant: "default", Source: "/shop", Event: "1", Type: "fine",
			State: auditor.Dead, Code: 7, Reason: "unknown-destination", Took: 5 * time.Second,
		}
		if b := w.audit(); len(b.Rows) != 1 || b.Rows[0] != want {
			t.Errorf("got %+v, want %+v", b.Rows, want)
		}
	})
}

func TestSummaryHasTheseKeys(t *testing.T) {
	run(t, true, func(t *testing.T, w *world) {
		w.send(cloudEvent("1", receiver.Fine))
		books := w.auditor.Audit(w.Queues, w.Tables, awslocal.Counts{
			{Service: "sqs", Name: "SendMessage"}:    {Attempted: 3},
			{Service: "dynamodb", Name: "PutItem"}:   {Attempted: 2, Refused: 1, Units: wire.Units{Write: 2}},
			{Service: "dynamodb", Name: "GetItem"}:   {Attempted: 1, Units: wire.Units{Read: 0.5}},
			{Service: "dynamodb", Name: "(unknown)"}: {Attempted: 1, Refused: 1},
		})
		text, err := json.Marshal(books)
		if err != nil {
			t.Fatal(err)
		}
		const want = `{"accepted":1,"unmatched":0,"dropped":0,"ingress_dead":0,"deliveries":1,"delivered":0,"duplicates":0,"retried":0,` +
			`"waiting":0,"parked":0,"dead":0,"queued":1,"lost":0,"http_attempts":0,` +
			`"aws_calls":{"dynamodb":{"(unknown)":1,"GetItem":1,"PutItem":2},"sqs":{"SendMessage":3}},"write_units":2,"read_units":0.5}`
		if string(text) != want {
			t.Errorf("got  %s\nwant %s", text, want)
		}
	})
}

func TestErrorsNameAFewIDs(t *testing.T) {
	run(t, true, func(t *testing.T, w *world) {
		for i := range 100 {
			w.send(cloudEvent(strings.Repeat("long", 200)+strconv.Itoa(i), receiver.Fine))
		}
		w.empty(topology.Ingress)
		b := w.audit()
		err := b.Check()
		if b.Lost != 100 || b.Missing != 100 || !errors.Is(err, auditor.ErrEvents) || !errors.Is(err, auditor.ErrDeliveries) {
			t.Fatalf("lost %d, missing %d: %v", b.Lost, b.Missing, err)
		}
		text := err.Error()
		if len(text) > 8000 || !strings.Contains(text, b.Rows[0].Delivery) || !strings.Contains(text, "and more") || strings.Contains(text, b.Rows[50].Delivery) {
			t.Errorf("%d bytes: %s", len(text), text)
		}
		if !slices.IsSortedFunc(b.Rows, func(x, y auditor.Row) int { return len(x.Event) - len(y.Event) }) {
			t.Error("rows are not in the order of acceptance")
		}
	})
}
