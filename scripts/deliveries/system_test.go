package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/scripts/deliveries/program"
	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/inmem"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

// world is the whole system in virtual time. Each destination wants events of its own name as type, and behaves as the first element of its path says.
type world struct {
	*system.System
	t        *testing.T
	receiver *receiver.Receiver
	writes   atomic.Int64 // calls that could write, while the program runs
	asking   atomic.Bool
	calls    atomic.Int64
	mended   atomic.Bool // strict accepts everything
	patience atomic.Bool // shop asks for six hours
}

type destination struct {
	id, behaviour string
	waits         []string
}

// everyState are destinations whose deliveries end in all states there are.
var everyState = []destination{
	{"crm", receiver.Fine, nil},
	{"erp", receiver.Failing, []string{"2h", "2h"}},    // waits in the waiting room
	{"shop", receiver.Failing, []string{"10m", "10m"}}, // waits on the queue
	{"held", receiver.Fine, nil},                       // is paused
	{"gone", receiver.Gone, nil},
	{"strict", receiver.Rejecting, nil},
	{"weak", receiver.Failing, []string{"1s"}},
	{"hung", receiver.Hanging, nil},
}

func document(destinations []destination) []byte {
	var all []map[string]any
	for _, d := range destinations {
		one := map[string]any{
			"id": d.id, "tenant": "*", "type": "webhook", "pattern": map[string]any{"type": []string{d.id, "every"}},
			"webhook": map[string]any{"url": "http://127.0.0.1/" + d.behaviour + "/" + d.id, "timeout": "30s", "secrets": []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}},
		}
		if d.waits != nil {
			one["retry"] = map[string]any{"schedule": d.waits}
		}
		all = append(all, one)
	}
	out, err := json.Marshal(map[string]any{"destinations": all})
	if err != nil {
		panic(err)
	}
	return out
}

func inWorld(t *testing.T, destinations []destination, play func(w *world)) {
	t.Helper()
	inWorldWith(t, destinations, func(*system.Config) {}, play)
}

// inWorldWith is inWorld, for a system that is started otherwise.
func inWorldWith(t *testing.T, destinations []destination, change func(*system.Config), play func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t}
		w.receiver = receiver.New(receiver.Options{Answer: w.answer})
		cfg := system.Config{
			Destinations: document(destinations), Dial: w.receiver.Dial, Logger: slog.New(slog.DiscardHandler), Queues: sqs.Options{Seed: 1},
			Observe: w.observed,
		}
		change(&cfg)
		var err error
		w.System, err = system.Start(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		play(w)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		if err := errors.Join(w.Stop(ctx), w.receiver.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

func (w *world) answer(r receiver.Request, header http.Header) int {
	switch {
	case strings.HasSuffix(r.Path, "/strict") && w.mended.Load():
		return http.StatusOK
	case strings.HasSuffix(r.Path, "/shop") && w.patience.Load():
		header.Set("Retry-After", "21600")
		return http.StatusServiceUnavailable
	}
	return 0
}

// observed counts what the program calls, when nothing else runs.
func (w *world) observed(c awslocal.Call) {
	if !w.asking.Load() {
		return
	}
	w.calls.Add(1)
	if !slices.Contains([]string{
		"Query", "Scan", "BatchGetItem", "DescribeTable", "ReceiveMessage", "ChangeMessageVisibilityBatch", "GetQueueAttributes", "GetQueueUrl",
	}, c.Operation) {
		w.writes.Add(1)
	}
}

// send sends an event of that type.
func (w *world) send(id, kind string) {
	w.t.Helper()
	w.post(fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/shop","type":%q,"data":{"secret":"payload of %s"}}`, id, kind, id))
}

func (w *world) post(body string) {
	w.t.Helper()
	q, _ := w.Queues.Queue(string(topology.Ingress))
	if _, err := awssqs.NewFromConfig(w.AWS()).SendMessage(w.t.Context(), &awssqs.SendMessageInput{QueueUrl: aws.String(q.URL()), MessageBody: &body}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) registry() registry.Store {
	store, err := w.Registry()
	if err != nil {
		w.t.Fatal(err)
	}
	return store
}

func (w *world) pauseDestination(id string) {
	w.t.Helper()
	if _, err := w.registry().Pause(context.Background(), id, registry.Mark{Since: time.Now(), Note: "its database moves", By: "ann"}); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(time.Minute) // until all functions know
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// ask runs the program.
func (w *world) ask(want int, args ...string) (stdout, stderr string) {
	w.t.Helper()
	var out, errs bytes.Buffer
	env := program.Environment{
		Lookup: func(string) (string, bool) { return "", false },
		AWS:    func(context.Context, string, string) (aws.Config, error) { return w.AWS(), nil },
	}
	if got := program.Run(w.t.Context(), append([]string{"-endpoint-url", "http://awslocal"}, args...), env, &out, &errs); got != want {
		w.t.Errorf("deliveries %v: status %d, want %d\n%s%s", args, got, want, &out, &errs)
	}
	return out.String(), errs.String()
}

// line is what the tests read of a JSON line.
type line struct {
	Kind, Delivery, State, Place, Event, Source, Type, Tenant, Destination, Reason, Next, After, Payload, Failed string
	Epoch, Attempt, NextAttempt, Code, Found                                                                     int
	ReadUnits                                                                                                    float64
	Complete, Leftover, DestinationDeleted                                                                       bool
	WithoutTrace, Notes                                                                                          []string
	AcceptedAt, ChangedAt, DueAt, HeldSince, LeaseUntil, PausedSince, DisabledSince                              time.Time
}

// askJSON runs the program and decodes what it says: deliveries, and the summary.
func (w *world) askJSON(want int, args ...string) (found []line, summary line) {
	w.t.Helper()
	stdout, _ := w.ask(want, append([]string{"-json"}, args...)...)
	for text := range strings.Lines(stdout) {
		var l line
		d := json.NewDecoder(strings.NewReader(text))
		if err := d.Decode(&l); err != nil {
			w.t.Fatalf("%v in %s", err, text)
		}
		switch l.Kind {
		case "delivery":
			found = append(found, l)
		case "summary":
			summary = l
		default:
			w.t.Errorf("kind %q", l.Kind)
		}
	}
	if summary.Kind == "" || summary.Found != len(found) {
		w.t.Errorf("the summary is %+v after %d deliveries", summary, len(found))
	}
	return found, summary
}

var times = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \([^)]*\)`)

func masked(s string) string { return times.ReplaceAllString(s, "TIME") }

func id(event, destination string) string {
	return string(delivery.NewID("default", "/shop", event, destination))
}

// makeEveryState brings a delivery into each state. It is then a quarter of an hour later, and everything stands still.
func (w *world) makeEveryState() {
	w.t.Helper()
	w.pauseDestination("held")
	for _, d := range everyState[:len(everyState)-1] {
		w.send("e-"+d.id, d.id)
	}
	w.post(`{"specversion":"1.0","id":"e-broken"}`)
	w.send("e-unmatched", "nobody's")
	wait(4 * time.Minute)
	w.send("e-hung", "hung")
	wait(2 * time.Second)
}

// still keeps the system as it is while the program is asked: what is hanging hangs, but nothing new begins.
func (w *world) still(do func()) {
	w.asking.Store(true)
	do()
	w.asking.Store(false)
}

// TestEveryState asks for deliveries in every state that there is, each brought about by the system itself.
func TestEveryState(t *testing.T) {
	cases := map[string]struct {
		args   []string
		status int
		want   string
	}{
		"delivered": {[]string{"-event", "e-crm", "-source", "/shop", "-destination", "crm"}, 0, `
DELIVERED: event e-crm to crm
  state       delivered TIME by attempt 1
  last answer status 200 OK
  event       source /shop, tenant default
  destination may receive
  delivery    ` + id("e-crm", "crm") + `
  next        nothing: it has arrived

1 found, UNITS read units
`},
		"in the waiting room": {[]string{"-event", "e-erp", "-source", "/shop", "-destination", "erp"}, 0, `
WAITING: event e-erp to erp
  state       attempt 2 is due TIME, from the waiting room; attempt 1 failed TIME
  last answer status 500 Internal Server Error, reason http-500
  event       source /shop, type erp, tenant default
  accepted    TIME
  destination may receive
  delivery    ` + id("e-erp", "erp") + `
  next        nothing: it is tried again by itself

1 found, UNITS read units
`},
		"on the queue": {[]string{"-event", "e-shop", "-source", "/shop", "-destination", "shop"}, 0, `
WAITING: event e-shop to shop
  state       attempt 2 is on the deliveries queue, due within 15m; attempt 1 failed TIME
  last answer status 500 Internal Server Error, reason http-500
  event       source /shop, tenant default
  destination may receive
  delivery    ` + id("e-shop", "shop") + `
  next        nothing: it is tried again by itself

1 found, UNITS read units
`},
		"parked by a pause": {[]string{"-event", "e-held", "-source", "/shop", "-destination", "held"}, 0, `
PARKED: event e-held to held
  state       held since TIME, before attempt 1, because its destination may not receive; it spends no attempts meanwhile
  event       source /shop, type held, tenant default
  accepted    TIME
  destination paused since TIME; note: its database moves; by ann
  delivery    ` + id("e-held", "held") + `
  next        go run ./scripts/destinations resume -endpoint-url http://awslocal held

1 found, UNITS read units
`},
		"parked by a 410": {[]string{"-delivery", id("e-gone", "gone")}, 0, `
PARKED: event e-gone to gone
  state       held since TIME, before attempt 2, because its destination may not receive; it spends no attempts meanwhile
  last answer status 410 Gone, reason http-410
  event       source /shop, type gone, tenant default
  accepted    TIME
  destination disabled since TIME, because it answered 410; note: answered 410 to delivery ` + id("e-gone", "gone") + `; by deliverer
  delivery    ` + id("e-gone", "gone") + `
  next        go run ./scripts/destinations enable -endpoint-url http://awslocal gone

1 found, UNITS read units
`},
		"rejected": {[]string{"-event", "e-strict", "-source", "/shop", "-destination", "strict"}, 0, `
DEAD: event e-strict to strict
  state       given up TIME after attempt 1; its letter should lie in deliveries-dlq
  last answer status 400 Bad Request, reason http-400
  event       source /shop, tenant default
  destination may receive
  delivery    ` + id("e-strict", "strict") + `
  next        go run ./scripts/redrive -endpoint-url http://awslocal -destination strict -reason http-400 -dry-run

1 found, UNITS read units
`},
		"at the end of its schedule, with its letter and payload": {[]string{"-event", "e-weak", "-source", "/shop", "-destination", "weak", "-queues", "-payload"}, 0, `
DEAD: event e-weak to weak
  state       given up TIME after attempt 2; its letter lies in deliveries-dlq
  last answer status 500 Internal Server Error, reason http-500
  event       source /shop, type weak, tenant default
  accepted    TIME
  destination may receive
  delivery    ` + id("e-weak", "weak") + `
  payload     30 bytes
    {"secret":"payload of e-weak"}
  next        go run ./scripts/redrive -endpoint-url http://awslocal -destination weak -reason http-500 -dry-run

1 found, looked at 3 dead-lettered, UNITS read units
`},
		"claimed": {[]string{"-event", "e-hung", "-source", "/shop", "-destination", "hung"}, 0, `
CLAIMED: event e-hung to hung
  state       a worker is making attempt 1, begun TIME; nobody else may until TIME
  event       source /shop, tenant default
  destination may receive
  delivery    ` + id("e-hung", "hung") + `
  next        ask again when the claim has ended

1 found, UNITS read units
`},
		"no event": {[]string{"-event", "e-broken", "-queues"}, 0, `
DEAD: event e-broken, never routed to any destination
  state       refused or given up TIME; it lies in ingress-dlq
  why         reason bad-cloudevent, DETAIL
  accepted    TIME
  next        mend what is said above, then: go run ./scripts/redrive -endpoint-url http://awslocal -queue ingress -reason bad-cloudevent -dry-run

note: no source was given: in the ledger, only events that have none of their own can be found without it
1 found, looked at 3 dead-lettered, UNITS read units
`},
		"unmatched": {[]string{"-event", "e-unmatched", "-source", "/shop"}, 1, `
NOT FOUND: event e-unmatched
  - Another source or tenant? Both are part of a delivery's id, to the letter
  - Not routed yet? It is on ingress then (now about 0 waiting, 0 in work, 0 delayed)
  - No event, by our rules? add -queues to look into ingress-dlq (now about 1 waiting, 0 in work, 0 delayed)
  - Wanted by no destination? The router counted it as unmatched; go run ./scripts/destinations list -endpoint-url http://awslocal
  - Routed, and its first attempt has not begun? It is on deliveries then (now about 0 waiting, 1 in work, 1 delayed), or on deliveries-slow (now about 0 waiting, 0 in work, 0 delayed) if its destination answers slowly
  - Given up before its first attempt, such as for a deleted destination? add -queues to look into deliveries-dlq (now about 2 waiting, 0 in work, 0 delayed)
  - Never sent, or longer ago than waybills are kept?
0 found, UNITS read units
`},
	}
	inWorld(t, everyState, func(w *world) {
		w.makeEveryState()
		for name, tt := range cases {
			stdout, _ := w.ask(tt.status, tt.args...)
			got := regexp.MustCompile(`, [\d.]+ read units`).ReplaceAllString(masked(stdout), ", UNITS read units")
			got = regexp.MustCompile(`(bad-cloudevent), [^\n]*`).ReplaceAllString(got, "$1, DETAIL")
			if got != tt.want[1:] {
				t.Errorf("%s: it says\n%s\nwant\n%s", name, got, tt.want[1:])
			}
		}
	})
}

// TestSearchChangesNothing: whatever is asked, nothing is written, every dead letter is visible afterwards, and no queue that a function reads is
// received from.
func TestSearchChangesNothing(t *testing.T) {
	inWorld(t, everyState, func(w *world) {
		w.makeEveryState()
		wait(time.Minute)
		if err := w.Pause(w.t.Context()); err != nil {
			t.Fatal(err)
		}
		receives := func() (counts string) {
			for _, name := range []topology.QueueName{topology.Ingress, topology.Deliveries, topology.DeliveriesSlow} {
				q, _ := w.Queues.Queue(string(name))
				for _, m := range q.Snapshot() {
					counts += m.MessageID + m.Attributes["ApproximateReceiveCount"] + " "
				}
			}
			return counts
		}
		before := receives()
		w.still(func() {
			w.ask(0, "-event", "e-weak", "-queues")
			w.ask(0, "-state", "dead,parked,waiting,delivered,claimed", "-queues")
			w.ask(1, "-event", "e-none", "-queues")
		})
		if n := w.writes.Load(); n > 0 || w.calls.Load() == 0 {
			t.Errorf("%d of %d calls can write", n, w.calls.Load())
		}
		if after := receives(); after != before || before == "" {
			t.Errorf("the queues that functions read were %q before and are %q", before, after)
		}
		for name, want := range map[topology.QueueName]int{topology.DeliveriesDeadLetter: 2, topology.IngressDeadLetter: 1} {
			q, _ := w.Queues.Queue(string(name))
			if got := q.Depth().Visible; got != want {
				t.Errorf("%d messages of %s are visible, want %d", got, name, want)
			}
		}
	})
}

// TestByStateAndTime: a sweep finds what fits and nothing else, each once, from wherever it lies.
func TestByStateAndTime(t *testing.T) {
	inWorld(t, everyState, func(w *world) {
		w.makeEveryState()
		w.still(func() {
			for _, tt := range []struct {
				args string
				want string // destinations of what is found
			}{
				{"-state delivered", "crm"},
				{"-state waiting", "erp shop"},
				{"-state parked", "gone held"},
				{"-state claimed", "hung"},
				{"-state dead", "strict weak"},
				{"-state dead -queues", "strict weak"},
				{"-state delivered,waiting,parked,claimed,dead", "crm erp gone held hung shop strict weak"},
				{"-since 1h", "crm erp gone held hung shop strict weak"},
				{"-since 3m", "hung"},
				{"-until 3m", "crm erp gone held shop strict weak"},
				{"-since 1h -until 3m -state parked", "gone held"},
				{"-destination held", "held"},
				{"-destination held,gone -state parked", "gone held"},
				{"-destination held,erp -state waiting", "erp"},
				{"-destination strict,weak -state dead -queues", "strict weak"},
				{"-destination crm", ""},
				{"-destination erp -state parked", ""},
			} {
				status := 0
				if tt.want == "" {
					status = 1
				}
				found, summary := w.askJSON(status, strings.Fields(tt.args)...)
				var got []string
				for _, l := range found {
					for _, d := range everyState {
						if l.Delivery == id("e-"+d.id, d.id) {
							got = append(got, d.id)
						}
					}
				}
				slices.Sort(got)
				if strings.Join(got, " ") != tt.want || len(got) != len(found) || !summary.Complete {
					t.Errorf("%s: found %v, want %s: %+v", tt.args, got, tt.want, summary)
				}
			}
		})
	})
}

// TestJSON decodes what a machine sees of every state.
func TestJSON(t *testing.T) {
	inWorld(t, everyState, func(w *world) {
		w.makeEveryState()
		w.still(func() {
			for destination, want := range map[string]line{
				"crm":    {State: "delivered", Place: "ledger", Attempt: 1, Code: 200},
				"erp":    {State: "waiting", Place: "waiting room", Attempt: 1, NextAttempt: 2, Code: 500, Reason: "http-500", Type: "erp"},
				"shop":   {State: "waiting", Place: "deliveries", Attempt: 1, NextAttempt: 2, Code: 500, Reason: "http-500"},
				"held":   {State: "parked", Place: "waiting room", NextAttempt: 1, Type: "held", Next: "go run ./scripts/destinations resume -endpoint-url http://awslocal held"},
				"gone":   {State: "parked", Place: "waiting room", Attempt: 1, NextAttempt: 2, Code: 410, Reason: "http-410", Type: "gone", Next: "go run ./scripts/destinations enable -endpoint-url http://awslocal gone"},
				"strict": {State: "dead", Place: "ledger", Attempt: 1, Code: 400, Reason: "http-400", Next: "go run ./scripts/redrive -endpoint-url http://awslocal -destination strict -reason http-400 -dry-run"},
				"weak":   {State: "dead", Place: "ledger", Attempt: 2, Code: 500, Reason: "http-500", Next: "go run ./scripts/redrive -endpoint-url http://awslocal -destination weak -reason http-500 -dry-run"},
				"hung":   {State: "claimed", Place: "ledger", Attempt: 1, NextAttempt: 1},
			} {
				found, summary := w.askJSON(0, "-event", "e-"+destination, "-source", "/shop")
				if len(found) != 1 || summary.ReadUnits <= 0 || summary.ReadUnits > 60 || len(summary.WithoutTrace) != len(everyState)-1 {
					t.Errorf("%s: found %+v, %+v", destination, found, summary)
					continue
				}
				got := found[0]
				if d := time.Since(got.ChangedAt); d < 0 || d > 6*time.Minute {
					t.Errorf("%s: changed at %v", destination, got.ChangedAt)
				}
				if left := time.Until(got.DueAt); destination == "erp" && (left < 90*time.Minute || left > 145*time.Minute) {
					t.Errorf("%s: due in %v", destination, left)
				}
				if (got.State == "parked") != !got.HeldSince.IsZero() || (got.State == "claimed") != got.LeaseUntil.After(time.Now()) ||
					(destination == "held") != !got.PausedSince.IsZero() || (destination == "gone") != !got.DisabledSince.IsZero() {
					t.Errorf("%s: times are %+v", destination, got)
				}
				want.Kind, want.Delivery, want.Event, want.Source, want.Tenant, want.Destination = "delivery", id("e-"+destination, destination), "e-"+destination, "/shop", "default", destination
				got.AcceptedAt, got.ChangedAt, got.DueAt, got.HeldSince = want.AcceptedAt, want.ChangedAt, want.DueAt, want.HeldSince
				got.LeaseUntil, got.PausedSince, got.DisabledSince = want.LeaseUntil, want.PausedSince, want.DisabledSince
				if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
					t.Errorf("%s:\n got %+v\nwant %+v", destination, got, want)
				}
			}
		})
	})
}

// TestWithoutSource: the ledger has no answer then, but what is held is found all the same, and events without a source of their own are found anyway.
func TestWithoutSource(t *testing.T) {
	inWorld(t, everyState, func(w *world) {
		w.makeEveryState()
		q, _ := w.Queues.Queue(string(topology.Ingress))
		sent, err := awssqs.NewFromConfig(w.AWS()).SendMessage(w.t.Context(), &awssqs.SendMessageInput{QueueUrl: aws.String(q.URL()), MessageBody: aws.String("plain text"),
			MessageAttributes: map[string]types.MessageAttributeValue{"event-type": {DataType: aws.String("String"), StringValue: aws.String("crm")}}})
		if err != nil {
			t.Fatal(err)
		}
		wait(2 * time.Second)
		w.still(func() {
			if found, _ := w.askJSON(0, "-event", "e-erp"); len(found) != 1 || found[0].Destination != "erp" || found[0].NextAttempt != 2 || found[0].Code != 500 {
				t.Errorf("%+v", found)
			}
			if found, _ := w.askJSON(0, "-event", aws.ToString(sent.MessageId)); len(found) != 1 || found[0].State != "delivered" || found[0].Destination != "crm" {
				t.Errorf("%+v", found)
			}
			if _, stderr := w.ask(1, "-event", "e-crm"); !strings.Contains(stderr, "scanning the table waiting: about") {
				t.Error(stderr)
			}
		})
	})
}

// TestDeletedDestination: an event for a destination that was deleted is found by its name; what was given up for it lies in the dead-letter queue alone.
func TestDeletedDestination(t *testing.T) {
	inWorld(t, everyState, func(w *world) {
		w.makeEveryState()
		store := w.registry()
		now, err := store.Current(w.t.Context())
		if err == nil {
			_, err = store.Apply(w.t.Context(), now.Version.Number, registry.Draft{Document: document(everyState[1:2]), By: "ann", At: time.Now()})
		}
		if err != nil {
			t.Fatal(err)
		}
		w.ask(1, "-event", "e-crm", "-source", "/shop")
		if found, _ := w.askJSON(0, "-event", "e-crm", "-source", "/shop", "-destination", "crm"); len(found) != 1 || found[0].State != "delivered" || !found[0].DestinationDeleted {
			t.Errorf("%+v", found)
		}
		wait(15 * time.Minute) // attempt 2 for shop, which is not there any more
		stdout, _ := w.ask(0, "-event", "e-shop", "-source", "/shop", "-queues")
		if !strings.Contains(stdout, "DEAD: event e-shop to shop") || !strings.Contains(stdout, "reason unknown-destination") ||
			!strings.Contains(stdout, "apply the destination again if it is still wanted, then: go run ./scripts/redrive") {
			t.Error(stdout)
		}
	})
}

// TestBudget: a sweep over much keeps to its read units, says where to go on, and finds each delivery once over all its parts.
func TestBudget(t *testing.T) {
	const n = 160
	inWorld(t, []destination{{"crm", receiver.Fine, nil}, {"held", receiver.Fine, nil}}, func(w *world) {
		w.pauseDestination("held")
		for i := range n {
			w.post(fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/shop","type":"every","data":%q}`, i, noise(i, 15_000)))
		}
		wait(2 * time.Minute)
		for _, tt := range []struct {
			args  []string
			want  int
			parts int // at least
		}{
			{[]string{"-state", "delivered,parked", "-max-units", "300"}, 2 * n, 2},
			{[]string{"-state", "delivered", "-limit", "40"}, n, 4},
			{[]string{"-state", "parked", "-limit", "40"}, n, 4},
			{[]string{"-state", "parked", "-destination", "held", "-max-units", "300"}, n, 2},
			{[]string{"-state", "waiting", "-destination", "crm", "-max-units", "300"}, 0, 2},
			{[]string{"-state", "parked", "-destination", "held", "-limit", "40"}, n, 4},
		} {
			seen, parts, most := map[string]int{}, 0, 300.0
			if !slices.Contains(tt.args, "-limit") {
				tt.args = append(tt.args, "-limit", "10000")
			}
			if !slices.Contains(tt.args, "-max-units") {
				most = 5000
			}
			for after := ""; ; {
				args := tt.args
				if after != "" {
					args = append(slices.Clone(tt.args), "-after", after)
				}
				var out, errs bytes.Buffer
				env := program.Environment{Lookup: func(string) (string, bool) { return "", false },
					AWS: func(context.Context, string, string) (aws.Config, error) { return w.AWS(), nil }}
				program.Run(w.t.Context(), append([]string{"-json", "-endpoint-url", "http://awslocal"}, args...), env, &out, &errs)
				var summary line
				for text := range strings.Lines(out.String()) {
					var l line
					if err := json.Unmarshal([]byte(text), &l); err != nil {
						t.Fatal(err)
					}
					if l.Kind == "summary" {
						summary = l
					} else {
						seen[l.Delivery+l.State]++
					}
				}
				if parts++; summary.ReadUnits > most || summary.ReadUnits == 0 || summary.Failed != "" || parts > 100 {
					t.Fatalf("%v: part %d: %+v\n%s", args, parts, summary, &errs)
				}
				if after = summary.After; after == "" {
					break
				}
			}
			twice := 0
			for _, times := range seen {
				if times > 1 {
					twice++
				}
			}
			if len(seen) != tt.want || twice > 0 || parts < tt.parts {
				t.Errorf("%v: %d deliveries in %d parts, %d more than once; want %d", tt.args, len(seen), parts, twice, tt.want)
			}
		}
		stdout, _ := w.ask(0, "-since", "1h", "-state", "delivered", "-limit", "1")
		more := "there is more: go run ./scripts/deliveries -endpoint-url=http://awslocal -limit=1 -since=1999-12-31T23:03:00Z -state=delivered -after ledger."
		if !strings.Contains(stdout, more) {
			t.Error(stdout)
		}
		// One delivery among many costs little, and is not said to lie on a queue when the search was cut short.
		if _, summary := w.askJSON(0, "-event", "17", "-source", "/shop", "-destination", "crm"); summary.ReadUnits > 10 {
			t.Errorf("%v units", summary.ReadUnits)
		}
		if found, summary := w.askJSON(0, "-event", "17", "-source", "/shop", "-destination", "held"); summary.ReadUnits > 200 || found[0].State != "parked" {
			t.Errorf("%v units, %+v", summary.ReadUnits, found)
		}
	})
}

// noise does not compress.
func noise(seed, n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	b, x := make([]byte, n), uint32(seed)*2654435761+1
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = letters[x%uint32(len(letters))]
	}
	return string(b)
}

// TestCanary: an event that the system sends itself goes to a destination that is in no registry, for a tenant that nobody else has. It is found as any other one is.
func TestCanary(t *testing.T) {
	change := func(cfg *system.Config) { // what listens there refuses: the receiver, to which all is dialled, knows nothing of canaries
		cfg.Canary = inmem.Listen("127.0.0.1:9")
	}
	inWorldWith(t, []destination{{"crm", receiver.Fine, nil}}, change, func(w *world) {
		wait(90 * time.Second)
		minute := time.Now().UTC().Add(-time.Minute).Format("2006-01-02T15:04Z")
		want := string(delivery.NewID(registry.CanaryTenant, registry.CanarySource, minute, registry.CanaryID))
		for _, args := range [][]string{
			{"-event", minute}, {"-event", minute, "-source", registry.CanarySource},
			{"-event", minute, "-source", registry.CanarySource, "-tenant", registry.CanaryTenant},
			{"-event", minute, "-source", registry.CanarySource, "-destination", registry.CanaryID},
			{"-event", minute, "-tenant", registry.CanaryTenant, "-destination", registry.CanaryID},
		} {
			found, summary := w.askJSON(0, args...)
			if len(found) != 1 || found[0].Delivery != want || found[0].Destination != registry.CanaryID || found[0].DestinationDeleted || len(summary.WithoutTrace) > 0 {
				t.Errorf("deliveries %v: %+v, %+v; want delivery %s, of no destination that was deleted", args, found, summary, want)
			}
		}
		for _, args := range [][]string{{"-event", minute, "-source", "/shop"}, {"-event", minute, "-source", registry.CanarySource, "-destination", "crm"}} {
			if found, _ := w.askJSON(1, args...); len(found) > 0 {
				t.Errorf("deliveries %v: found %+v, which it is not", args, found)
			}
		}
	})
}

// TestWorkerThatDied: a claim whose lease is over is told as what it is.
func TestWorkerThatDied(t *testing.T) {
	inWorld(t, []destination{{"hung", receiver.Hanging, nil}}, func(w *world) {
		w.send("1", "hung")
		wait(2 * time.Second)
		if err := w.StopSchedules(w.t.Context()); err != nil {
			t.Fatal(err)
		}
		fault := w.Endpoint.Faults().Add(awslocal.Fault{Operation: "BatchExecuteStatement", Error: internal()})
		other := w.Endpoint.Faults().Add(awslocal.Fault{Operation: "UpdateItem", Error: internal()})
		queue := w.Endpoint.Faults().Add(awslocal.Fault{Operation: "SendMessageBatch", Error: internal()})
		wait(2 * time.Minute)
		fault.Remove()
		other.Remove()
		queue.Remove()
		stdout, _ := w.ask(0, "-event", "1", "-source", "/shop")
		if !strings.Contains(stdout, "CLAIMED: event 1 to hung") || !strings.Contains(stdout, "has died, or could not write its result") ||
			!strings.Contains(stdout, "SQS shows its message again within 6m") {
			t.Error(stdout)
		}
	})
}

// TestWhatCannotBeRead: one place that cannot be read does not keep the others from answering, and "not found" is not said of what was not looked at.
func TestWhatCannotBeRead(t *testing.T) {
	cases := map[string]struct {
		table  topology.TableName
		args   string
		status int
		stdout string
	}{
		"no registry":                    {topology.Registry, "-event e-crm -source /shop -destination crm", 0, "DELIVERED: event e-crm to crm"},
		"no registry, no destination":    {topology.Registry, "-event e-crm -source /shop", 2, "0 found"},
		"no ledger":                      {topology.Ledger, "-event e-crm -source /shop", 2, "0 found"},
		"no ledger, but it is parked":    {topology.Ledger, "-event e-held -source /shop", 0, "PARKED: event e-held to held"},
		"no waiting room":                {topology.Waiting, "-event e-erp -source /shop", 0, "attempt 2 is to come, from the waiting room or the deliveries queue"},
		"no waiting room, not delivered": {topology.Waiting, "-event e-held -source /shop", 2, "0 found"},
	}
	inWorld(t, everyState, func(w *world) {
		w.makeEveryState()
		for name, tt := range cases {
			fault := w.Endpoint.Faults().Add(awslocal.Fault{Service: "dynamodb", Error: denied(), Match: func(request []byte) bool {
				return bytes.Contains(request, []byte(`"`+string(tt.table)+`"`))
			}})
			stdout, stderr := w.ask(tt.status, strings.Fields(tt.args)...)
			fault.Remove()
			if !strings.Contains(stdout, tt.stdout) || strings.Contains(stdout, "NOT FOUND") || !strings.Contains(stderr, "the answer may be incomplete: ") {
				t.Errorf("%s: %s%s", name, stdout, stderr)
			}
		}
	})
}

// TestHostileText: what producers write cannot steer a terminal or fill it, nor become a command.
func TestHostileText(t *testing.T) {
	inWorld(t, []destination{{"held", receiver.Fine, nil}}, func(w *world) {
		if _, err := w.registry().Pause(w.t.Context(), "held", registry.Mark{Since: time.Now(), Note: "\x1b]0;note\a", By: "\u202eann"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		event := "x\u202e; rm -rf '$(x)' " + strings.Repeat("long ", 2000)
		data := "\x1b[2J\r\n" + strings.Repeat("wide ", 5000)
		b, err := json.Marshal(map[string]any{"specversion": "1.0", "id": event, "source": "/shop", "type": "held", "data_base64": []byte(data)})
		if err != nil {
			t.Fatal(err)
		}
		w.post(string(b))
		w.post(`{"specversion":"1.0","id":"\u001b[2Jbroken"}`)
		wait(2 * time.Second)
		stdout, _ := w.ask(0, "-state", "parked")
		if strings.ContainsAny(stdout, "\x1b\u202e\a") || len(stdout) > 1500 || !strings.Contains(stdout, "PARKED: event x?; rm") || !strings.Contains(stdout, "?]0;note?") {
			t.Errorf("%q", stdout)
		}
		found, _ := w.askJSON(0, "-event", event, "-destination", "held", "-payload")
		if len(found) != 1 || found[0].Event != event || found[0].Payload != data {
			t.Errorf("%.2000q", fmt.Sprint(found))
		}
		stdout, _ = w.ask(0, "-event", event, "-source", "/shop", "-destination", "held", "-payload")
		if strings.ContainsAny(stdout, "\x1b\u202e") || len(stdout) > 10_000 || !strings.Contains(stdout, "payload     25006 bytes") {
			t.Errorf("%d bytes: %.2000q", len(stdout), stdout)
		}
		stdout, _ = w.ask(0, "-event", "\x1b[2Jbroken", "-queues")
		if strings.Contains(stdout, "\x1b") || !strings.Contains(stdout, "DEAD: event ?[2Jbroken, never routed") {
			t.Errorf("%q", stdout)
		}
	})
}

// copyLetters sends what lies in the dead-letter queue again, and leaves it there, as a redrive does that dies in the middle.
func (w *world) copyLetters() {
	w.t.Helper()
	from, _ := w.Queues.Queue(string(topology.DeliveriesDeadLetter))
	to, _ := w.Queues.Queue(string(topology.Deliveries))
	for _, m := range from.Snapshot() {
		if _, err := awssqs.NewFromConfig(w.AWS()).SendMessage(w.t.Context(), &awssqs.SendMessageInput{QueueUrl: aws.String(to.URL()), MessageBody: &m.Body}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestLetterLeftOver: what was delivered after all is told as delivered, although a dead letter of it still lies there.
func TestLetterLeftOver(t *testing.T) {
	inWorld(t, everyState, func(w *world) {
		w.send("1", "strict")
		wait(2 * time.Second)
		w.mended.Store(true)
		w.copyLetters()
		wait(2 * time.Second)
		stdout, _ := w.ask(0, "-event", "1", "-source", "/shop", "-queues")
		if !strings.Contains(stdout, "DELIVERED: event 1 to strict") || !strings.Contains(stdout, "by attempt 1 (restart 1)") ||
			!strings.Contains(stdout, "an old dead letter of it lies in deliveries-dlq: moving it back does nothing") {
			t.Error(stdout)
		}
		if found, _ := w.askJSON(1, "-state", "dead", "-queues"); len(found) != 0 {
			t.Errorf("%+v", found)
		}
	})
}

// TestRedrivenAndParked: what was dead, moved back and then parked is told as parked.
func TestRedrivenAndParked(t *testing.T) {
	inWorld(t, everyState, func(w *world) {
		w.send("1", "strict")
		wait(2 * time.Second)
		w.pauseDestination("strict")
		w.copyLetters()
		wait(2 * time.Second)
		for _, args := range [][]string{{"-event", "1", "-source", "/shop"}, {"-delivery", id("1", "strict")}, {"-state", "parked"}, {"-since", "1h", "-queues"}} {
			found, _ := w.askJSON(0, args...)
			if len(found) != 1 || found[0].State != "parked" || found[0].Destination != "strict" || !strings.Contains(found[0].Next, "resume") {
				t.Errorf("%v: %+v", args, found)
			}
		}
	})
}

// TestRowLeftBehind: a parked row whose delivery was made after all, because whoever moved it died before deleting it, hides nothing.
func TestRowLeftBehind(t *testing.T) {
	inWorld(t, everyState, func(w *world) {
		w.pauseDestination("held")
		w.send("1", "held")
		wait(2 * time.Second)
		for _, operation := range []string{"BatchExecuteStatement", "DeleteItem"} {
			w.Endpoint.Faults().Add(awslocal.Fault{Operation: operation, Error: denied(), Match: func(request []byte) bool {
				return bytes.Contains(request, []byte("DELETE")) || operation == "DeleteItem" && bytes.Contains(request, []byte("parked#"))
			}})
		}
		if _, err := w.registry().Resume(w.t.Context(), "held"); err != nil {
			t.Fatal(err)
		}
		wait(3 * time.Minute)
		if w.Busy() == 0 {
			t.Fatal("the row is gone")
		}
		for args, want := range map[string]int{
			"-event 1 -source /shop": 1, "-delivery " + id("1", "held"): 1, "-state delivered": 1, "-state delivered,waiting": 1, "-since 1h": 1, "-state parked": 0,
		} {
			found, _ := w.askJSON(1-want, strings.Fields(args)...)
			if len(found) != want || want == 1 && found[0].State != "delivered" {
				t.Errorf("%s: %+v", args, found)
			}
		}
		w.Endpoint.Faults().Clear()
	})
}

// TestReceiverAsksForTime: what waits for longer than its schedule says, because the receiver asked for it, is found.
func TestReceiverAsksForTime(t *testing.T) {
	inWorld(t, everyState, func(w *world) {
		w.patience.Store(true)
		w.send("1", "shop")
		wait(2 * time.Second)
		found, summary := w.askJSON(0, "-event", "1", "-source", "/shop", "-destination", "shop")
		if len(found) != 1 || found[0].Place != "waiting room" || time.Until(found[0].DueAt).Round(time.Hour) != 6*time.Hour || summary.ReadUnits > 50 {
			t.Errorf("%+v %+v", found, summary)
		}
	})
}

// TestMovedBySQS: a message that SQS itself gave up is dead, whatever the ledger does not know of it.
func TestMovedBySQS(t *testing.T) {
	inWorld(t, everyState, func(w *world) {
		if err := w.Mappings[topology.Deliverer].Stop(w.t.Context()); err != nil {
			t.Fatal(err)
		}
		w.send("1", "crm")
		wait(2 * time.Second)
		w.ask(1, "-event", "1", "-source", "/shop")
		q, _ := w.Queues.Queue(string(topology.Deliveries))
		for range 11 {
			got, err := q.Receive(w.t.Context(), sqs.ReceiveOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range got {
				if err := q.ChangeVisibility(m.ReceiptHandle, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		stdout, _ := w.ask(0, "-event", "1", "-source", "/shop", "-queues")
		if !strings.Contains(stdout, "DEAD: event 1 to crm") || !strings.Contains(stdout, "reason receive-count") ||
			!strings.Contains(stdout, "after no attempt; its letter lies in deliveries-dlq") ||
			!strings.Contains(stdout, "-destination crm -reason receive-count -dry-run") {
			t.Error(stdout)
		}
	})
}

// TestTenants: an event is looked for in all tenants that destinations name, or in the one that is given.
func TestTenants(t *testing.T) {
	inWorld(t, everyState, func(w *world) {
		file := strings.Replace(string(document(everyState[:2])), `"tenant":"*"`, `"tenant":"acme"`, 1)
		if _, err := w.registry().Apply(w.t.Context(), 1, registry.Draft{Document: []byte(file), By: "ann", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.post(`{"specversion":"1.0","id":"1","source":"/shop","type":"every","tenant":"acme"}`)
		wait(2 * time.Second)
		for args, want := range map[string]int{"": 2, "-tenant acme": 2, "-tenant default": 0, "-tenant default,acme -destination crm": 1} {
			status := 0
			if want == 0 {
				status = 1
			}
			if found, _ := w.askJSON(status, append([]string{"-event", "1", "-source", "/shop"}, strings.Fields(args)...)...); len(found) != want {
				t.Errorf("%s: %+v", args, found)
			}
		}
	})
}

// TestReadme: what the README shows is what the program prints.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)```\n\\$ go run ./scripts/deliveries ([^\n]*)\n(.*?)```").FindAllStringSubmatch(string(b), -1)
	if len(shown) != 2 {
		t.Fatalf("%d examples", len(shown))
	}
	inWorld(t, everyState, func(w *world) {
		w.pauseDestination("held")
		w.send("4711", "held")
		w.post(`{"specversion":"1.0","id":"4712","source":"/shop","type":"strict","data":{}}`)
		wait(5 * time.Minute)
		for _, example := range shown {
			stdout, _ := w.ask(0, strings.Fields(example[1])...)
			if got := strings.ReplaceAll(stdout, " -endpoint-url http://awslocal", ""); got != example[2] {
				t.Errorf("%s prints\n%s\nthe README shows\n%s", example[1], got, example[2])
			}
		}
		stdout, _ := w.askRaw("-json", "-state", "parked,dead", "-queues", "-payload=false")
		var members map[string]any
		for text := range strings.Lines(stdout) {
			if err := json.Unmarshal([]byte(text), &members); err != nil {
				t.Fatal(err)
			}
			for name := range members {
				if !strings.Contains(string(b), "`"+name+"`") {
					t.Errorf("the README does not say what %q is", name)
				}
			}
		}
	})
}

func (w *world) askRaw(args ...string) (stdout, stderr string) { return w.ask(0, args...) }

func internal() *wire.Error {
	return &wire.Error{Code: "InternalServerError", Message: "Internal server error", Status: 500}
}

func denied() *wire.Error { return wire.Errorf("AccessDeniedException", "no") }
