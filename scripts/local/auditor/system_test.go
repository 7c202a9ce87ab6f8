package auditor_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/events/samples"
	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/topology"
)

// destinations are one of each kind, for events of the type of the same name.
var destinations = destinationsFile(receiver.Fine, receiver.Slow, receiver.Flaky, receiver.Rejecting, receiver.Gone, receiver.Throttled)

func destinationsFile(paths ...string) []byte {
	var all []any
	for _, path := range paths {
		all = append(all, map[string]any{
			"id": path, "tenant": "*", "type": "webhook", "retry": map[string]any{"schedule": []string{"60s", "120s", "240s"}},
			"pattern": map[string]any{"type": []any{path, "all"}},
			"webhook": map[string]any{"url": "http://127.0.0.1/" + path, "secrets": []string{"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"}},
		})
	}
	file, err := json.Marshal(map[string]any{"destinations": all})
	if err != nil {
		panic(err)
	}
	return file
}

// world is a whole system with its auditor, in virtual time.
type world struct {
	*system.System
	t        *testing.T
	auditor  *auditor.Auditor
	receiver *receiver.Receiver
}

// run runs a test against a system in a bubble.
func run(t *testing.T, receiverLog bool, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, receiverLog)
		defer w.stop()
		test(t, w)
	})
}

// start makes a system whose functions stand still until Resume.
func start(t *testing.T, receiverLog bool, others ...[]byte) *world {
	t.Helper()
	books, err := auditor.New(auditor.Config{Destinations: destinations, Others: others, ReceiverLog: receiverLog})
	if err != nil {
		t.Fatal(err)
	}
	far := receiver.New(receiver.Options{OnReceived: func(r receiver.Request) { books.OnReceived(r.ID, r.Status, r.Digest) }})
	seldom := topology.New(topology.LowLatency) // most of these tests need no waker, and all pay for its runs
	for i := range seldom.Functions {
		seldom.Functions[i].Every *= 10
	}
	s, err := system.Start(t.Context(), system.Config{
		Topology: seldom, Destinations: destinations, Logger: slog.New(slog.DiscardHandler),
		Queues: sqs.Options{OnSend: books.OnSend, Seed: 1}, OnAttempt: books.OnAttempt, Dial: far.Dial, Stopped: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &world{System: s, t: t, auditor: books, receiver: far}
}

func (w *world) stop() {
	if err := errors.Join(w.Stop(w.t.Context()), w.receiver.Close()); err != nil {
		w.t.Error(err)
	}
}

func (w *world) send(m sqs.Outgoing) {
	w.t.Helper()
	if _, err := w.queue(topology.Ingress).Send(m); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) queue(name topology.QueueName) *sqs.Queue {
	q, ok := w.Queues.Queue(string(name))
	if !ok {
		w.t.Fatalf("no queue %s", name)
	}
	return q
}

func cloudEvent(id, kind string) sqs.Outgoing {
	return sqs.Outgoing{Body: fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/shop","type":%q,"data":{"id":%q}}`, id, kind, id)}
}

func (w *world) audit() auditor.Books {
	return w.auditor.Audit(w.Queues, w.Tables, w.Endpoint.Counts())
}

// work lets the functions work for a while of virtual time.
func (w *world) work(d time.Duration) {
	w.t.Helper()
	w.Resume(w.t.Context())
	time.Sleep(d)
	if err := w.Pause(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// routeOnly lets the router work until it has nothing left to do.
func (w *world) routeOnly() {
	w.t.Helper()
	w.Mappings[topology.Router].Start(w.t.Context())
	time.Sleep(5 * time.Second)
	if err := w.Mappings[topology.Router].Stop(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// figures are what a test expects of books; everything else must be 0.
type figures struct {
	accepted, routed, unmatched, ingressDead, inIngress, duplicates         int
	deliveries, delivered, waiting, parked, dead, queued, retried, attempts int
}

func (w *world) expect(want figures) auditor.Books {
	w.t.Helper()
	b := w.audit()
	got := figures{
		b.Accepted, b.Routed, b.Unmatched, b.IngressDead, b.InIngress, b.Duplicates,
		b.Deliveries, b.Delivered, b.Waiting, b.Parked, b.Dead, b.Queued, b.Retried, b.HTTPAttempts,
	}
	if got != want {
		w.t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err := b.Check(); err != nil || b.Lost != 0 || b.Missing != 0 {
		w.t.Errorf("lost %d, missing %d: %v", b.Lost, b.Missing, err)
	}
	if len(b.Unreadable)+len(b.Foreign) > 0 {
		w.t.Errorf("unreadable %v, foreign %v", b.Unreadable, b.Foreign)
	}
	return b
}

// sendMixture sends something for every state there is.
func (w *world) sendMixture() {
	for range 50 {
		w.send(cloudEvent("again", receiver.Fine))
	}
	for _, kind := range []string{receiver.Slow, receiver.Flaky, receiver.Rejecting, receiver.Gone, receiver.Throttled} {
		w.send(cloudEvent(kind, kind))
	}
	w.send(cloudEvent("of nobody", "unwanted"))
	w.send(sqs.Outgoing{Body: `[{"specversion":"1.0","id":"b1","source":"/b","type":"fine"},{"specversion":"1.0","id":"b2","source":"/b","type":"unwanted"},` +
		`{"specversion":"1.0","id":"b1","source":"/b","type":"fine"}]`})
	w.send(sqs.Outgoing{Body: `{"specversion":"1.0","type":"fine"}`})
	w.send(sqs.Outgoing{Body: "raw text", GroupID: "acme", MessageAttributes: map[string]sqs.AttributeValue{"event-type": {DataType: "String", StringValue: "fine"}}})
}

func TestCleanRunBalances(t *testing.T) {
	for name, receiverLog := range map[string]bool{"by the receiver's log": true, "by attempts": false} {
		t.Run(name, func(t *testing.T) {
			run(t, receiverLog, func(t *testing.T, w *world) {
				w.sendMixture()
				w.work(10 * time.Second)
				// Delivered: again, slow, b1, the raw one.
				early := w.expect(figures{
					accepted: 62, routed: 58, unmatched: 3, ingressDead: 1, duplicates: 50, // nobody wants to hear of the destination that was disabled
					deliveries: 8, delivered: 4, waiting: 2, parked: 1, dead: 1, attempts: 8,
				})
				if calls := early.AWSCalls["dynamodb"]["BatchExecuteStatement"]; calls == 0 || early.WriteUnits < 8 {
					t.Errorf("%d calls of BatchExecuteStatement, %v write units", calls, early.WriteUnits)
				}
				w.work(10 * time.Minute)
				late := w.expect(figures{
					accepted: 62, routed: 58, unmatched: 3, ingressDead: 1, duplicates: 50,
					deliveries: 8, delivered: 6, parked: 1, dead: 1, retried: 3, attempts: 11,
				})
				checkRows(t, late.Rows)
			})
		})
	}
}

func checkRows(t *testing.T, rows []auditor.Row) {
	t.Helper()
	want := map[string]auditor.Row{
		"again":     {State: auditor.Delivered, Attempts: 1, Code: 200, Tenant: "default", Type: "fine"},
		"flaky":     {State: auditor.Delivered, Attempts: 3, Code: 200, Tenant: "default", Type: "flaky"},
		"rejecting": {State: auditor.Dead, Attempts: 1, Code: 400, Reason: "http-400", Tenant: "default", Type: "rejecting"},
		"gone":      {State: auditor.Parked, Attempts: 1, Code: 410, Reason: "http-410", Tenant: "default", Type: "gone"},
	}
	for _, r := range rows {
		if r.Event == "flaky" && (r.Took < 2*time.Minute || r.Took > 4*time.Minute) || r.Event == "gone" && r.Took != 0 {
			t.Errorf("%+v: took %v", r, r.Took)
		}
		expected, ok := want[r.Event]
		if !ok {
			continue
		}
		delete(want, r.Event)
		expected.Delivery, expected.Destination, expected.Source, expected.Event, expected.Took = r.Delivery, r.Type, "/shop", r.Event, r.Took
		if r != expected {
			t.Errorf("got  %+v\nwant %+v", r, expected)
		}
	}
	if len(want) > 0 {
		t.Errorf("no rows for %v", want)
	}
}

func TestCountsWhatIsUnderWay(t *testing.T) {
	run(t, true, func(t *testing.T, w *world) {
		w.sendMixture()
		w.expect(figures{accepted: 61, inIngress: 61, duplicates: 50, deliveries: 8, queued: 8})
		w.routeOnly()
		w.expect(figures{accepted: 61, routed: 58, unmatched: 2, ingressDead: 1, duplicates: 50, deliveries: 8, queued: 8})
		w.Resume(t.Context())
		time.Sleep(800 * time.Millisecond) // the slow one is still being attempted
		b := w.audit()
		if err := b.Check(); err != nil || b.Queued != 1 {
			t.Errorf("queued %d, want the slow one: %v", b.Queued, err)
		}
	})
}

// While everything moves, nothing may seem lost at any instant. This runs in real time: in virtual time nothing happens at once.
func TestBalancesAtEveryInstant(t *testing.T) {
	const events = 100
	w := start(t, true)
	defer w.stop()
	w.Resume(t.Context())
	go func() {
		kinds := []string{receiver.Fine, receiver.Flaky, receiver.Rejecting, receiver.Gone, "unwanted"}
		for i := range events {
			m := cloudEvent(strconv.Itoa(i), kinds[i%len(kinds)])
			if i%7 == 0 {
				m.Body = `{"specversion":"1.0"}`
			}
			w.send(m)
		}
	}()
	audits := 0
	for b := (auditor.Books{}); b.Accepted < events || b.InIngress+b.Queued > 0; audits++ {
		b = w.audit()
		if err := b.Check(); err != nil {
			t.Fatalf("audit %d: %v", audits, err)
		}
	}
	if audits < 20 {
		t.Errorf("only %d audits", audits)
	}
}

func TestSamplesBalance(t *testing.T) {
	run(t, true, func(t *testing.T, w *world) {
		valid, invalid := 0, 0
		for _, s := range append(samples.Valid(), samples.Invalid()...) {
			if !s.Sendable() {
				continue
			}
			m := sqs.Outgoing{Body: s.Body, GroupID: s.GroupID, MessageAttributes: map[string]sqs.AttributeValue{}}
			for name, a := range s.Attributes {
				m.MessageAttributes[name] = sqs.AttributeValue{DataType: a.DataType, StringValue: a.StringValue, BinaryValue: a.BinaryValue}
			}
			if _, err := w.queue(topology.Ingress).Send(m); err != nil {
				t.Logf("%s: %v", s.Name, err)
				continue
			}
			if s.Valid {
				valid += len(s.Want.Events)
			} else {
				invalid++
			}
		}
		w.work(time.Minute)
		b := w.audit()
		if err := b.Check(); err != nil || b.IngressDead != invalid || b.Unmatched+b.Routed != valid || invalid < 20 || valid < 10 {
			t.Errorf("%d valid, %d invalid: %+v: %v", valid, invalid, b, err)
		}
	})
}

// thing is one message or row that can be deleted.
type thing struct {
	queue topology.QueueName // "" for a row of the ledger, room for one of the waiting room
	key   string
	about string
}

const room topology.QueueName = "waiting room"

func (w *world) things() []thing {
	var all []thing
	for name, held := range w.Queues.Snapshot() {
		for _, h := range held {
			all = append(all, thing{topology.QueueName(name), h.MessageID, h.Body})
		}
	}
	items, err := w.Tables.Items(string(topology.Ledger))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, item := range items {
		all = append(all, thing{"", fmt.Sprint(item["delivery"]), fmt.Sprint(item["state"])})
	}
	waiting, err := w.Tables.Items(string(topology.Waiting))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, item := range waiting {
		if _, held := item["body"]; held {
			all = append(all, thing{room, fmt.Sprint(item["bucket"], "/", item["row"]), fmt.Sprint(item["row"])})
		}
	}
	// How many copies of one event are left is chance. They go last, so that all other things have the same place in every run.
	place := func(x thing) string {
		return fmt.Sprintf("%t %s %s %s", strings.Contains(x.about, `"id":"again"`), x.queue, x.about, x.key)
	}
	slices.SortFunc(all, func(a, b thing) int { return strings.Compare(place(a), place(b)) })
	return all
}

func (w *world) destroy(x thing) {
	w.t.Helper()
	var done bool
	var err error
	if x.queue == "" {
		done, err = w.Tables.Drop(string(topology.Ledger), dynamodb.Item{"delivery": dynamodb.String(x.key)})
	} else if bucket, row, ok := strings.Cut(x.key, "/"); ok && x.queue == room {
		done, err = w.Tables.Drop(string(topology.Waiting), dynamodb.Item{"bucket": dynamodb.String(bucket), "row": dynamodb.String(row)})
	} else {
		done = w.queue(x.queue).Drop(x.key)
	}
	if err != nil || !done {
		w.t.Fatalf("could not delete %+v: %v", x, err)
	}
}

// harmless says why nothing is lost with a thing, "" if something is.
func (x thing) harmless(others []thing) string {
	switch {
	case x.queue == "" && slices.ContainsFunc(others, func(o thing) bool { return o.queue == topology.Deliveries && strings.Contains(o.about, x.key) }):
		return "a message for the same delivery, which was a duplicate, is now there to make it again"
	case x.queue == "" && x.about != "delivered":
		return "the message that the delivery goes on by is still there"
	case x.queue == topology.Ingress && strings.Contains(x.about, "unwanted") && !strings.Contains(x.about, "fine"):
		return "nobody wants the event"
	case x.queue == topology.Deliveries && strings.Contains(x.about, `"id":"again"`):
		return "there are other messages for the same delivery, or it is delivered"
	}
	return ""
}

func TestNoticesEveryDeletion(t *testing.T) {
	for name, prepare := range map[string]func(w *world){
		"before routing":           func(*world) {},
		"routed":                   func(w *world) { w.routeOnly() },
		"after the first attempts": func(w *world) { w.work(5 * time.Second) },
		"in the end":               func(w *world) { w.work(20 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			noticed := 0
			for i, n := 0, 1; i < n; i++ {
				run(t, true, func(t *testing.T, w *world) {
					w.sendMixture()
					prepare(w)
					if err := w.audit().Check(); err != nil {
						t.Fatalf("before the deletion: %v", err)
					}
					things := w.things()
					n = len(things)
					if i >= n {
						return
					}
					w.destroy(things[i])
					b := w.audit()
					err := b.Check()
					if why := things[i].harmless(things); why != "" {
						if err != nil {
							t.Errorf("%+v deleted: %s, but: %v", things[i], why, err)
						}
						return
					}
					noticed++
					if err == nil || b.Lost == 0 && b.Missing == 0 {
						t.Errorf("%+v deleted: lost %d, missing %d, %v", things[i], b.Lost, b.Missing, err)
					}
				})
			}
			if noticed < 8 {
				t.Errorf("only %d deletions were put to the test", noticed)
			}
		})
	}
}
