package redrive_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal"
	local "github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/redrive"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waybill"
)

func TestFilters(t *testing.T) {
	letters := []dead{
		{event: "plain"},
		{event: "erp", destination: "erp"},
		{event: "erp-eu", destination: "erp-eu", code: 503, reason: "http-503"},
		{event: "other-tenant", tenant: "globex"},
		{event: "other-type", kind: "stock/moved"},
		{event: "timeout", reason: "timeout", code: 0},
		{event: "gone", reason: "http-410", code: 410, ago: 3 * time.Hour},
		{event: "rejected", reason: "http-400", code: 400, ago: time.Hour},
		{event: "moved-by-sqs", reason: "-"},
		{event: "broken", body: "no JSON", reason: "malformed-delivery"},
	}
	for i := range letters {
		if letters[i].reason == "" {
			letters[i].code = 500
		}
	}
	all := strings.Fields("erp erp-eu gone moved-by-sqs other-tenant other-type plain rejected timeout")
	tests := map[string]struct {
		filter redrive.Filter
		want   []string // events moved; "broken" for the message that cannot be read
	}{
		"everything":              {redrive.Filter{}, all},
		"destination":             {redrive.Filter{Destinations: []string{"erp"}}, []string{"erp"}},
		"destinations":            {redrive.Filter{Destinations: []string{"erp", "erp-eu"}}, []string{"erp", "erp-eu"}},
		"glob":                    {redrive.Filter{Destinations: []string{"*eu"}}, []string{"erp-eu"}},
		"no such destination":     {redrive.Filter{Destinations: []string{"er"}}, nil},
		"tenant":                  {redrive.Filter{Tenants: []string{"glob*"}}, []string{"other-tenant"}},
		"type":                    {redrive.Filter{Types: []string{"st*/*ed"}}, []string{"other-type"}},
		"reason":                  {redrive.Filter{Reasons: []string{"timeout", "http-4*"}}, []string{"gone", "rejected", "timeout"}},
		"moved by SQS":            {redrive.Filter{Reasons: []string{redrive.ReasonReceiveCount}}, []string{"moved-by-sqs"}},
		"code":                    {redrive.Filter{Codes: []redrive.Codes{{First: 410, Last: 410}}}, []string{"gone"}},
		"no code":                 {redrive.Filter{Codes: []redrive.Codes{{}}}, []string{"moved-by-sqs", "timeout"}},
		"codes":                   {redrive.Filter{Codes: []redrive.Codes{{First: 400, Last: 499}, {First: 503, Last: 503}}}, []string{"erp-eu", "gone", "rejected"}},
		"since":                   {redrive.Filter{Since: ago(time.Hour)}, remove(all, "gone")},
		"until":                   {redrive.Filter{Until: ago(time.Hour)}, []string{"gone"}},
		"between":                 {redrive.Filter{Since: ago(2 * time.Hour), Until: ago(time.Minute)}, []string{"rejected"}},
		"all must agree":          {redrive.Filter{Destinations: []string{"crm"}, Reasons: []string{"http-*"}, Codes: []redrive.Codes{{First: 400, Last: 499}}}, []string{"gone", "rejected"}},
		"unreadable too":          {redrive.Filter{Unreadable: true}, append([]string{"broken"}, all...)},
		"unreadable, its reason":  {redrive.Filter{Unreadable: true, Reasons: []string{"malformed-*"}}, []string{"broken"}},
		"unreadable has no type":  {redrive.Filter{Unreadable: true, Types: []string{"*"}}, all},
		"reason of an unreadable": {redrive.Filter{Reasons: []string{"malformed-*"}}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			onWire(t, local.Options{}, func(r *region) {
				r.letters(letters...)
				before := r.held(topology.DeliveriesDeadLetter)
				selection := relative(tt.filter)
				filter := func(c *redrive.Config) { c.Filter = selection }

				dry := r.mustRun(r.deliveries(filter, func(c *redrive.Config) { c.DryRun = true }))
				r.atRest()
				if n := r.queue(topology.Deliveries).Depth().Total(); n != 0 || dry.Moved != 0 || len(r.held(topology.DeliveriesDeadLetter)) != len(letters) {
					t.Errorf("the dry run moved %d messages, report %+v", n, dry)
				}
				report := r.mustRun(r.deliveries(filter))
				r.atRest()
				if dry.Matched != report.Moved || report.Moved != len(tt.want) || !reflect.DeepEqual(dry.Groups, report.Groups) {
					t.Errorf("dry run %+v\nmove    %+v\nwant %d moved", dry, report, len(tt.want))
				}
				if !report.Complete || !dry.Complete || report.Looked != len(letters) || report.Unreadable != 1 || dry.Unreadable != 1 {
					t.Errorf("dry run %+v\nmove    %+v", dry, report)
				}
				var moved []string
				for _, h := range r.held(topology.Deliveries) {
					if h.Body == "no JSON" {
						moved = append(moved, "broken")
					} else {
						moved = append(moved, h.delivery(t).Event.ID)
					}
					if !slices.ContainsFunc(before, func(b held) bool { return reflect.DeepEqual(b.Message, h.Message) }) {
						t.Errorf("moved as %+v", h)
					}
				}
				slices.Sort(moved)
				if !slices.Equal(moved, tt.want) {
					t.Errorf("moved %v, want %v", moved, tt.want)
				}
				for _, h := range r.held(topology.DeliveriesDeadLetter) {
					if !slices.ContainsFunc(before, func(b held) bool { return reflect.DeepEqual(b.Message, h.Message) && b.id == h.id }) {
						t.Errorf("left as %+v", h)
					}
				}
			})
		})
	}
}

// ago marks a time that is relative to the test's clock, which starts in its bubble.
func ago(d time.Duration) time.Time { return time.Unix(0, 0).Add(-d) }

func relative(f redrive.Filter) redrive.Filter {
	for _, at := range []*time.Time{&f.Since, &f.Until} {
		if !at.IsZero() {
			*at = time.Now().Add(at.Sub(time.Unix(0, 0)))
		}
	}
	return f
}

func remove(all []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == one })
}

// TestMovedAsItLies: body, attributes, group and trace survive, whoever moved the message to the dead-letter queue.
func TestMovedAsItLies(t *testing.T) {
	onWire(t, local.Options{}, func(r *region) {
		noted := dead{event: "noted"}.build(t)
		noted.Trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
		noted.Attributes["binary"] = queue.Attribute{DataType: "Binary.png", Binary: []byte{0, 0xff}}
		noted.Attributes["number"] = queue.Attribute{DataType: "Number", String: "9007199254740993"}
		native := dead{event: "native", reason: "-", message: func(m *delivery.Message) { m.Epoch, m.Attempt, m.Waited = 0, 7, time.Hour }}.build(t)
		native.Trace = noted.Trace
		r.put(topology.DeliveriesDeadLetter, noted)
		r.natively(topology.Deliveries, native)
		if report := r.mustRun(r.deliveries()); report.Moved != 2 {
			t.Errorf("%+v", report)
		}
		got := r.held(topology.Deliveries)
		for i, want := range []queue.Message{noted, native} {
			if !reflect.DeepEqual(got[i].Message, want) {
				t.Errorf("got  %+v\nwant %+v", got[i].Message, want)
			}
		}
		if m := got[1].delivery(t); m.Epoch != 0 || m.Attempt != 7 {
			t.Errorf("the message that SQS moved became %+v", m)
		}
	})
}

// TestEventsKeepTheirIdentity: an event without an id of its own stays the event that its first message made it.
func TestEventsKeepTheirIdentity(t *testing.T) {
	onWire(t, local.Options{}, func(r *region) {
		full := queue.Message{Body: "full", Attributes: map[string]queue.Attribute{}}
		for i := range queue.MaxAttributes {
			full.Attributes["a"+strconv.Itoa(i)] = queue.Attribute{DataType: "String", String: "x"}
		}
		refused, _ := waybill.Attach(queue.Message{Body: `{"specversion":"1.0"}`, Group: "acme"}, waybill.Note{Reason: "missing-id", EventID: "first-message", AcceptedAt: time.Now()})
		r.natively(topology.Ingress, queue.Message{Body: "raw", Group: "globex"})
		r.natively(topology.Ingress, full)
		r.put(topology.IngressDeadLetter, refused)
		was := map[string]string{}
		for _, h := range r.held(topology.IngressDeadLetter) {
			was[h.Body] = h.id
		}
		accepted := time.Now()
		time.Sleep(time.Hour)
		if report := r.mustRun(r.events()); report.Moved != 3 || report.Unreadable != 0 {
			t.Errorf("%+v", report)
		}
		for _, h := range r.held(topology.Ingress) {
			body, attributes, note, err := waybill.Detach(h.Body, h.Attributes)
			if err != nil {
				t.Fatal(err)
			}
			if h.id == was[body] {
				t.Fatal("a message keeps its id: the test proves nothing")
			}
			switch body {
			case refused.Body:
				if !reflect.DeepEqual(h.Message, refused) {
					t.Errorf("got %+v, want %+v", h.Message, refused)
				}
			case "full":
				if !reflect.DeepEqual(attributes, full.Attributes) {
					t.Errorf("attributes %v", attributes)
				}
				fallthrough
			default:
				if note.EventID != was[body] || !note.AcceptedAt.Equal(accepted) || note.Reason != "" {
					t.Errorf("%s: note %+v, message id was %s", body, note, was[body])
				}
			}
		}
	})
}

func TestEventFilters(t *testing.T) {
	note := func(m queue.Message, reason string, failed time.Duration) queue.Message {
		m, _ = waybill.Attach(m, waybill.Note{Reason: reason, EventID: m.Body, FailedAt: time.Now().Add(-failed)})
		return m
	}
	for name, tt := range map[string]struct {
		filter redrive.Filter
		want   string
	}{
		"all":               {redrive.Filter{}, "bad good grouped raw"},
		"reason":            {redrive.Filter{Reasons: []string{"missing-*"}}, "bad"},
		"tenant of event":   {redrive.Filter{Tenants: []string{"acme"}}, "good"},
		"tenant of group":   {redrive.Filter{Tenants: []string{"globex"}}, "grouped"},
		"tenant by default": {redrive.Filter{Tenants: []string{"default"}}, "bad raw"},
		"type":              {redrive.Filter{Types: []string{"order.*"}}, "good"},
		"time":              {redrive.Filter{Since: ago(time.Hour)}, "bad good grouped"},
	} {
		t.Run(name, func(t *testing.T) {
			onWire(t, local.Options{}, func(r *region) {
				bodies := map[string]string{
					`{"specversion":"1.0","type":"t","source":"/s"}`:                                      "bad",
					`{"specversion":"1.0","id":"1","type":"order.created","source":"/s","tenant":"acme"}`: "good",
					`{"specversion":"1.0","id":"1"}`:                                                      "grouped",
					"text":                                                                                "raw",
				}
				for _, b := range slices.Sorted(maps.Keys(bodies)) {
					m := queue.Message{Body: b}
					switch bodies[b] {
					case "bad":
						m = note(m, "missing-id", 0)
					case "good":
						m = note(m, "panic", 0)
					case "grouped":
						m.Group = "globex"
						m = note(m, "other", 0)
					case "raw":
						m = note(m, "old", 3*time.Hour)
					}
					r.put(topology.IngressDeadLetter, m)
				}
				selection := relative(tt.filter)
				filter := func(c *redrive.Config) { c.Filter = selection }
				dry := r.mustRun(r.events(filter, func(c *redrive.Config) { c.DryRun = true }))
				report := r.mustRun(r.events(filter))
				var got []string
				for _, h := range r.held(topology.Ingress) {
					got = append(got, bodies[h.Body])
				}
				slices.Sort(got)
				if strings.Join(got, " ") != tt.want || dry.Matched != report.Moved {
					t.Errorf("moved %v, dry run %d", got, dry.Matched)
				}
				r.atRest()
			})
		})
	}
}

func TestReplay(t *testing.T) {
	tests := map[string]struct {
		newID  bool
		letter func(*delivery.Message)
		epoch  int
		id     int // epoch of the public id; 0: that of the first attempt
	}{
		"given up":                      {false, func(m *delivery.Message) { m.Epoch, m.Attempt = 1, 1 }, 2, 0},
		"moved by SQS":                  {false, func(m *delivery.Message) { m.Epoch, m.Attempt = 0, 4 }, 1, 0},
		"under a new id":                {true, func(m *delivery.Message) { m.Epoch, m.Attempt = 1, 1 }, 2, 2},
		"a replay that failed":          {false, func(m *delivery.Message) { m.Epoch, m.Attempt, m.Replay, m.NewID, m.IDEpoch = 3, 1, true, true, 2 }, 4, 2},
		"a replay of an older release":  {false, func(m *delivery.Message) { m.Epoch, m.Attempt, m.Replay, m.NewID = 3, 1, true, true }, 4, 3},
		"a replay, under yet a new one": {true, func(m *delivery.Message) { m.Epoch, m.Attempt, m.Replay, m.NewID, m.IDEpoch = 3, 1, true, true, 2 }, 4, 4},
		"an unwritten outcome":          {false, func(m *delivery.Message) { m.Attempt, m.Outcome = 2, &delivery.Outcome{Owner: "o", State: "delivered"} }, 2, 0},
		"due later, long waited":        {false, func(m *delivery.Message) { m.DueAt, m.Waited = time.UnixMilli(1e14), time.Hour }, 2, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			onWire(t, local.Options{}, func(r *region) {
				sent := dead{event: "1", message: tt.letter, code: 500}.build(t)
				r.put(topology.DeliveriesDeadLetter, sent)
				old := r.held(topology.DeliveriesDeadLetter)[0]
				r.mustRun(r.deliveries(func(c *redrive.Config) { c.Replay, c.NewID = true, tt.newID }))
				h := r.held(topology.Deliveries)[0]
				got, was := h.delivery(t), old.delivery(t)
				want := was.Restart()
				want.Replay, want.NewID, want.IDEpoch = true, tt.id > 0, tt.id
				if !reflect.DeepEqual(got, want) || got.Epoch != tt.epoch || got.Attempt != 1 || got.Outcome != nil || !got.DueAt.IsZero() {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
				if (got.PublicID() == was.PublicID()) == tt.newID {
					t.Errorf("public id %s, was %s", got.PublicID(), was.PublicID())
				}
				if h.note(t) != old.note(t) || h.Group != sent.Group {
					t.Errorf("note %+v, group %q", h.note(t), h.Group)
				}
			})
		})
	}
}

// TestRedriveKeepsThePublicID: the dead letter of a replay under a new id is moved under that id: the receiver may have seen it, and
// would take another one for another event.
func TestRedriveKeepsThePublicID(t *testing.T) {
	onWire(t, local.Options{}, func(r *region) {
		r.letters(dead{event: "1"})
		// attempt takes what was moved, and gives it up again as the deliverer does.
		attempt := func() string {
			got, err := r.queue(topology.Deliveries).Receive(r.t.Context(), local.ReceiveOptions{})
			if err != nil || len(got) != 1 {
				t.Fatalf("%d messages, %v", len(got), err)
			}
			m, err := delivery.Decode(got[0].Body)
			if err != nil {
				t.Fatal(err)
			}
			r.letters(dead{event: "1", message: func(l *delivery.Message) { *l = m.Restart() }})
			if err := r.queue(topology.Deliveries).Delete(got[0].ReceiptHandle); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			return m.PublicID()
		}
		first := string(r.held(topology.DeliveriesDeadLetter)[0].delivery(t).Delivery)
		var seen []string
		for _, change := range []func(*redrive.Config){
			func(*redrive.Config) {},
			func(c *redrive.Config) { c.Replay, c.NewID = true, true },
			func(*redrive.Config) {},
			func(c *redrive.Config) { c.Replay = true },
			func(*redrive.Config) {},
		} {
			time.Sleep(time.Second)
			r.mustRun(r.deliveries(change))
			seen = append(seen, attempt())
		}
		second := seen[1]
		if second == first || !slices.Equal(seen, []string{first, second, second, second, second}) {
			t.Errorf("%s was seen as %v", first, seen)
		}
	})
}

// TestNewerRelease: what a newer release wrote is left, or moved untouched.
func TestNewerRelease(t *testing.T) {
	for _, unreadable := range []bool{false, true} {
		onWire(t, local.Options{}, func(r *region) {
			newer := []queue.Message{
				{Body: `{"v":2}`, Group: "g"},
				{Body: dead{event: "1"}.build(t).Body, Attributes: map[string]queue.Attribute{waybill.Attribute: {DataType: "String", String: `{"v":2,"reason":"x"}`}}},
			}
			r.put(topology.DeliveriesDeadLetter, newer...)
			r.put(topology.IngressDeadLetter, newer[1])
			set := func(c *redrive.Config) { c.Filter.Unreadable = unreadable }
			report, ingress := r.mustRun(r.deliveries(set)), r.mustRun(r.events(set))
			if report.Unreadable != 2 || ingress.Unreadable != 1 {
				t.Errorf("%+v, %+v", report, ingress)
			}
			from, to := r.held(topology.DeliveriesDeadLetter), r.held(topology.Deliveries)
			if unreadable {
				from, to = to, from
			}
			if len(to) != 0 || len(from) != 2 || !reflect.DeepEqual(from[0].Message, newer[0]) || !reflect.DeepEqual(from[1].Message, newer[1]) {
				t.Errorf("unreadable = %t: %+v, %+v", unreadable, from, to)
			}
			r.atRest()
		})
	}
}

// TestNothingIsLost: whatever call goes wrong, every letter lies on one of the queues, the next run moves what is left, and where a
// message is there twice a send had been accepted.
func TestNothingIsLost(t *testing.T) {
	const n = 23
	internal := wire.Errorf("InternalFailure", "a fault")
	internal.Status = 500
	ways := map[string]awslocal.Fault{
		"refused once":            {Error: internal, Times: 1},
		"refused for ever":        {Error: internal},
		"refused from the fourth": {Error: internal, Skip: 3},
		"denied":                  {Error: &wire.Error{Code: "AccessDeniedException", Message: "no", Status: 403}},
		"throttled":               {Throttle: true, Times: 2},
		"answer lost once":        {WithholdAnswer: true, Times: 1},
		"answer lost for ever":    {WithholdAnswer: true},
		"performed twice":         {Duplicate: true},
		"slow":                    {Delay: 20 * time.Second, Times: 3},
	}
	for _, operation := range []string{"SendMessageBatch", "DeleteMessageBatch", "ReceiveMessage", "ChangeMessageVisibilityBatch", "GetQueueAttributes"} {
		for name, fault := range ways {
			t.Run(operation+" "+name, func(t *testing.T) {
				t.Parallel()
				onWire(t, local.Options{}, func(r *region) {
					r.many(n, "e", dead{})
					r.letters(dead{event: "stays", destination: "erp"})
					fault.Operation = operation
					r.endpoint.Faults().Add(fault)
					cfg := r.deliveries(func(c *redrive.Config) { c.Filter.Destinations = []string{"crm"} })
					report, err := run(r.t.Context(), t, cfg)
					r.check(n)
					if got := len(ids(r.copies(topology.Deliveries))); got < report.Moved {
						t.Errorf("%d arrived, report %+v", got, report)
					}
					hidden := operation == "ReceiveMessage" && fault.WithholdAnswer // nobody knows their receipts
					if hidden && (err == nil) != (report.Elsewhere > 0) {
						t.Errorf("messages that nobody has are not told of: %v, %+v", err, report)
					}
					if fault.Times > 0 && !hidden && (err != nil || report.Moved != n || report.Failed+report.Undeleted > 0) {
						t.Errorf("a passing fault was not survived: %v, %+v", err, report)
					}
					if operation == "DeleteMessageBatch" && strings.HasPrefix(name, "refused for ever") && (report.Undeleted != n || err != nil) {
						t.Errorf("%v, %+v", err, report)
					}
					if operation == "SendMessageBatch" && name == "denied" && (err == nil || report.Moved != 0) {
						t.Errorf("%v, %+v", err, report)
					}
					r.endpoint.Faults().Clear()
					if strings.Contains(operation, "Visibility") || operation == "ReceiveMessage" {
						time.Sleep(redrive.DefaultHidden)
					}
					r.atRest()
					r.mustRun(cfg)
					r.check(n)
					if left := ids(r.copies(topology.DeliveriesDeadLetter)); !slices.Equal(left, []string{"stays"}) {
						t.Errorf("left after the second run: %v", left)
					}
				})
			})
		}
	}
}

// check finds every letter on one of the queues.
func (r *region) check(n int) {
	r.t.Helper()
	there := r.copies(topology.DeliveriesDeadLetter)
	maps.Copy(there, r.copies(topology.Deliveries))
	for i := range n {
		if there["e"+strconv.Itoa(i)] == 0 {
			r.t.Errorf("letter %d is lost", i)
		}
	}
	if there["stays"] == 0 || len(there) != n+1 {
		r.t.Errorf("%d letters of %d", len(there), n+1)
	}
}

// TestKilledBetweenSendAndDelete: the copy is there and so is the original; the next run sends it once more.
func TestKilledBetweenSendAndDelete(t *testing.T) {
	onWire(t, local.Options{}, func(r *region) {
		r.many(3, "e", dead{})
		ctx, kill := context.WithCancel(r.t.Context())
		r.endpoint.Faults().Add(awslocal.Fault{Operation: "DeleteMessageBatch", Error: wire.Errorf("AccessDeniedException", "as if dead"), Match: func([]byte) bool { kill(); return true }})
		if report, err := run(ctx, t, r.deliveries()); !errors.Is(err, context.Canceled) || report.Moved != 3 || report.Undeleted != 3 {
			t.Errorf("%v, %+v", err, report)
		}
		r.endpoint.Faults().Clear()
		r.mustRun(r.deliveries())
		if got := r.copies(topology.Deliveries); !maps.Equal(got, map[string]int{"e0": 2, "e1": 2, "e2": 2}) || len(r.held(topology.DeliveriesDeadLetter)) != 0 {
			t.Errorf("%v", got)
		}
		a, b := r.held(topology.Deliveries)[0], r.held(topology.Deliveries)[3]
		if !reflect.DeepEqual(a.Message, b.Message) {
			t.Errorf("two different copies: %+v, %+v", a, b)
		}
	})
}

// TestRate: the target gets messages evenly, never faster than asked for.
func TestRate(t *testing.T) {
	for _, rate := range []int{1, 7, 50, redrive.MaxRate} {
		t.Run(strconv.Itoa(rate), func(t *testing.T) {
			n := rate*2 + 3
			var sent []time.Time
			o := local.Options{OnSend: func(queue string, _ local.Message) {
				if queue == string(topology.Deliveries) {
					sent = append(sent, time.Now())
				}
			}}
			onWire(t, o, func(r *region) {
				r.many(n, "e", dead{})
				sent = nil
				// Latency of the calls does not add up: the rate is kept, not only capped.
				r.endpoint.Faults().Add(awslocal.Fault{Operation: "SendMessageBatch", Delay: 5 * time.Millisecond})
				began := time.Now()
				r.mustRun(r.deliveries(func(c *redrive.Config) { c.Rate = rate }))
				slices.SortFunc(sent, time.Time.Compare)
				burst := max(min(rate/5, 10), 1)
				for i := range sent {
					allowed := int(sent[i].Sub(began).Seconds()*float64(rate)) + 1
					if i >= allowed {
						t.Fatalf("message %d after %s", i, sent[i].Sub(began))
					}
					within := 0
					for _, other := range sent[i:] {
						if other.Sub(sent[i]) < time.Second {
							within++
						}
					}
					if within > rate+burst {
						t.Fatalf("%d messages within a second, rate %d", within, rate)
					}
				}
				took, ideal := sent[n-1].Sub(began), time.Duration(n)*time.Second/time.Duration(rate)
				// The last round may contain a poll that waits for a second in vain.
				if took < ideal || took > ideal*11/10+1100*time.Millisecond {
					t.Errorf("%d messages took %s, want about %s", n, took, ideal)
				}
			})
		})
	}
}

// TestPauseIsNoReasonForABurst: time that passed in waiting is not made up for.
func TestPauseIsNoReasonForABurst(t *testing.T) {
	var sent []time.Time
	o := local.Options{OnSend: func(queue string, _ local.Message) {
		if queue == string(topology.Deliveries) {
			sent = append(sent, time.Now())
		}
	}}
	onWire(t, o, func(r *region) {
		r.many(200, "e", dead{})
		r.endpoint.Faults().Add(awslocal.Fault{Operation: "ReceiveMessage", Skip: 3, Times: 1, Delay: 20 * time.Second})
		r.mustRun(r.deliveries(func(c *redrive.Config) { c.Rate = 50 }))
		for i := range sent[60:] {
			if gap := sent[i+60].Sub(sent[i]); gap < time.Second {
				t.Fatalf("61 messages within %s", gap)
			}
		}
		if len(sent) != 200 || sent[199].Sub(sent[0]) < 20*time.Second {
			t.Errorf("%d sent: there was no pause", len(sent))
		}
	})
}

// TestEchoes: what was moved and could not be deleted shows again in a long run, and is deleted then, not moved again.
func TestEchoes(t *testing.T) {
	onWire(t, local.Options{}, func(r *region) {
		const n = 640 // takes longer than redrive.DefaultHidden
		r.many(n, "e", dead{})
		planted := r.endpoint.Faults().Add(awslocal.Fault{Operation: "DeleteMessageBatch", Times: 5, Error: wire.Errorf("AccessDeniedException", "no")})
		report := r.mustRun(r.deliveries(func(c *redrive.Config) { c.Rate = 1 }))
		if len(r.held(topology.Deliveries)) != n || report.Moved != n || report.Undeleted > 0 || len(r.held(topology.DeliveriesDeadLetter)) > 0 || planted.Hits() != 5 {
			t.Errorf("%d moved, %+v", len(r.held(topology.Deliveries)), report)
		}
	})
}

// TestInterrupted: an interrupt leaves the rest visible at once and nothing twice; running again finishes.
func TestInterrupted(t *testing.T) {
	const n = 100
	for _, after := range []time.Duration{0, time.Millisecond, 333 * time.Millisecond, time.Second, 1900 * time.Millisecond, 2500 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			onWire(t, local.Options{}, func(r *region) {
				r.many(n, "e", dead{})
				for _, operation := range []string{"SendMessageBatch", "DeleteMessageBatch", "ReceiveMessage"} {
					r.endpoint.Faults().Add(awslocal.Fault{Operation: operation, Delay: 30 * time.Millisecond})
				}
				ctx, cancel := context.WithTimeout(r.t.Context(), after)
				defer cancel()
				began := time.Now()
				report, err := run(ctx, t, r.deliveries(func(c *redrive.Config) { c.Rate = 50 }))
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("%v, %+v", err, report)
				}
				if took := time.Since(began) - after; took > 2*time.Second {
					t.Errorf("took %s to stop", took)
				}
				r.atRest()
				arrived, left := r.copies(topology.Deliveries), r.copies(topology.DeliveriesDeadLetter)
				if len(arrived) != report.Moved || len(arrived)+len(left) != n || report.Matched != report.Moved || report.Undeleted > 0 {
					t.Errorf("%d arrived, %d left, report %+v", len(arrived), len(left), report)
				}
				r.mustRun(r.deliveries())
				for e, copies := range r.copies(topology.Deliveries) {
					if copies != 1 {
						t.Errorf("%s arrived %d times", e, copies)
					}
				}
				if got := len(r.copies(topology.Deliveries)); got != n {
					t.Errorf("%d arrived in the end", got)
				}
			})
		})
	}
}

func TestLimit(t *testing.T) {
	onWire(t, local.Options{}, func(r *region) {
		r.many(75, "e", dead{})
		limit := func(c *redrive.Config) { c.Limit = 30 }
		dry := r.mustRun(r.deliveries(limit, func(c *redrive.Config) { c.DryRun = true }))
		for want := range 3 {
			report := r.mustRun(r.deliveries(limit))
			n := []int{30, 30, 15}[want]
			if report.Moved != n || report.LimitReached != (n == 30) || want == 0 && dry.Matched != n {
				t.Errorf("run %d: %+v", want, report)
			}
			r.atRest()
		}
	})
}

// TestDryRunLeavesTheQueueAsItWas: messages, their order, age and visibility; only SQS's own count of receives goes up.
func TestDryRunLeavesTheQueueAsItWas(t *testing.T) {
	onWire(t, local.Options{}, func(r *region) {
		r.many(130, "e", dead{})
		r.many(20, "other", dead{destination: "erp"})
		r.put(topology.DeliveriesDeadLetter, queue.Message{Body: "not ours"})
		r.natively(topology.Deliveries, dead{event: "native", reason: "-"}.build(t))
		time.Sleep(time.Hour)
		snapshot := func() []local.Held { return r.queue(topology.DeliveriesDeadLetter).Snapshot() }
		before := snapshot()
		report := r.mustRun(r.deliveries(func(c *redrive.Config) { c.DryRun, c.Filter.Destinations = true, []string{"crm"} }))
		if report.Matched != 131 || report.Looked != len(before) || report.Moved != 0 || !report.Complete {
			t.Errorf("%+v", report)
		}
		r.atRest()
		after := snapshot()
		receives := func(m local.Held) int {
			n, err := strconv.Atoi(m.Attributes["ApproximateReceiveCount"])
			if err != nil {
				t.Fatal(err)
			}
			delete(m.Attributes, "ApproximateReceiveCount")
			delete(m.Attributes, "ApproximateFirstReceiveTimestamp")
			return n
		}
		for i := range min(len(before), len(after)) {
			if was, is := receives(before[i]), receives(after[i]); is != was+1 {
				t.Errorf("message %d: received %d times, then %d", i, was, is)
			}
		}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("before %+v\nafter  %+v", before, after)
		}
		if n := r.queue(topology.Deliveries).Depth().Total(); n != 0 {
			t.Errorf("%d messages were sent", n)
		}
	})
}

// TestLongRun: what is kept in flight shows again while a slow run is on; it is looked at once, stays, and hides nothing.
func TestLongRun(t *testing.T) {
	onWire(t, local.Options{}, func(r *region) {
		const n = 1500 // seconds: more than twice redrive.DefaultHidden
		r.many(90, "first", dead{destination: "erp"})
		r.many(n, "e", dead{})
		r.many(60, "last", dead{destination: "erp"})
		report := r.mustRun(r.deliveries(func(c *redrive.Config) { c.Filter.Destinations, c.Rate, c.Window = []string{"crm"}, 1, 200 }))
		moved, left := r.copies(topology.Deliveries), r.copies(topology.DeliveriesDeadLetter)
		if report.Looked != n+150 || report.Moved != n || !report.Complete || len(moved) != n || len(left) != 150 || report.Newer != 0 {
			t.Errorf("%d moved, %d left, %+v", len(moved), len(left), report)
		}
		for e, copies := range moved {
			if copies != 1 {
				t.Errorf("%s was sent %d times", e, copies)
			}
		}
		if h := r.held(topology.DeliveriesDeadLetter)[0]; h.receives == "1" {
			t.Error("nothing showed again: the test proves nothing")
		}
		r.atRest()
	})
}

// TestRunsAtTheSameTime: two runs share the work, each message is moved by one of them.
func TestRunsAtTheSameTime(t *testing.T) {
	onWire(t, local.Options{}, func(r *region) {
		const n = 300
		r.many(n, "e", dead{})
		r.many(50, "other", dead{destination: "erp"})
		var wg sync.WaitGroup
		var reports [2]redrive.Report
		for i := range reports {
			cfg := r.deliveries(func(c *redrive.Config) { c.Filter.Destinations, c.Rate = []string{"crm"}, 40 })
			wg.Go(func() {
				var err error
				if reports[i], err = run(r.t.Context(), t, cfg); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		moved := r.copies(topology.Deliveries)
		for e, copies := range moved {
			if copies != 1 {
				t.Errorf("%s was sent %d times", e, copies)
			}
		}
		a, b := reports[0], reports[1]
		if a.Moved == 0 || b.Moved == 0 || a.Moved+b.Moved != n || len(moved) != n || a.Stuck+b.Stuck+a.Undeleted+b.Undeleted > 0 {
			t.Errorf("%d moved\n%+v\n%+v", len(moved), a, b)
		}
		r.atRest()
	})
}

// TestWhatReturnsIsLeft: a destination that is still ill sends its letters back at once; the run ends all the same.
func TestWhatReturnsIsLeft(t *testing.T) {
	onWire(t, local.Options{}, func(r *region) {
		const n = 100
		r.many(n, "e", dead{})
		ctx, stop := context.WithCancel(r.t.Context())
		ill := make(chan struct{})
		go func() {
			defer close(ill)
			for {
				got, err := r.queue(topology.Deliveries).Receive(ctx, local.ReceiveOptions{Max: 10, Wait: time.Hour})
				if err != nil {
					return
				}
				for _, m := range got {
					d, _ := delivery.Decode(m.Body)
					r.letters(dead{event: d.Event.ID, message: func(m *delivery.Message) { *m = d.Restart() }})
					_ = r.queue(topology.Deliveries).Delete(m.ReceiptHandle)
				}
			}
		}()
		report := r.mustRun(r.deliveries(func(c *redrive.Config) { c.Rate = 20 }))
		stop()
		<-ill
		if report.Moved != n || !report.Complete || report.Newer == 0 {
			t.Errorf("%+v", report)
		}
		for _, h := range r.held(topology.DeliveriesDeadLetter) {
			if m := h.delivery(t); m.Epoch != 2 {
				t.Errorf("%s is in epoch %d", m.Event.ID, m.Epoch)
			}
		}
		r.atRest()
	})
}

// TestSQSMisbehaves: messages come in any order and more than once, and still each is moved once and none is left.
func TestSQSMisbehaves(t *testing.T) {
	onWire(t, local.Options{Disorder: local.Disorder{Reorder: 0.5, Duplicate: 0.2}}, func(r *region) {
		r.many(400, "e", dead{})
		r.many(100, "other", dead{destination: "erp"})
		report := r.mustRun(r.deliveries(func(c *redrive.Config) { c.Filter.Destinations = []string{"crm"} }))
		for e, copies := range r.copies(topology.Deliveries) {
			if copies != 1 {
				t.Errorf("%s was sent %d times", e, copies)
			}
		}
		if left := r.copies(topology.DeliveriesDeadLetter); report.Moved != 400 || len(r.copies(topology.Deliveries)) != 400 || len(left) != 100 {
			t.Errorf("%d left, %+v", len(left), report)
		}
		r.atRest()
	})
}

// TestMoreThanMayBeInFlight: queues larger than what SQS lets anybody hold.
func TestMoreThanMayBeInFlight(t *testing.T) {
	const limit = 240
	crm := func(c *redrive.Config) { c.Filter.Destinations = []string{"crm"} }
	rotate := func(c *redrive.Config) { c.Rotate = true }
	small := func(c *redrive.Config) { c.Window = 100 }
	dry := func(c *redrive.Config) { c.DryRun = true }
	tests := map[string]struct {
		match, other int // letters, mixed
		options      []func(*redrive.Config)
		complete     bool
		rotated      bool
	}{
		"all match":                {300, 0, []func(*redrive.Config){crm}, true, false},
		"most match":               {300, 60, []func(*redrive.Config){crm}, true, false},
		"the rest fits":            {60, 230, []func(*redrive.Config){crm}, true, false},
		"rotated":                  {60, 500, []func(*redrive.Config){crm, rotate}, true, true},
		"rotated, small window":    {40, 230, []func(*redrive.Config){crm, rotate, small}, true, true},
		"nothing to rotate":        {60, 200, []func(*redrive.Config){crm, rotate}, true, false},
		"not permitted":            {60, 500, []func(*redrive.Config){crm}, false, false},
		"dry run below the limit":  {120, 110, []func(*redrive.Config){crm, dry}, true, false},
		"dry run above the limit":  {180, 110, []func(*redrive.Config){crm, dry}, false, false},
		"dry run above the window": {80, 80, []func(*redrive.Config){crm, dry, small}, false, false},
		"exactly the limit":        {0, limit, []func(*redrive.Config){crm}, true, false},
		"exactly the window":       {0, 100, []func(*redrive.Config){crm, small}, true, false},
		"as many as the window":    {1, 100, []func(*redrive.Config){crm, small}, true, false},
		"nothing matches, rotated": {0, 300, []func(*redrive.Config){crm, rotate}, true, true},
		"nothing there at all":     {0, 0, []func(*redrive.Config){crm}, true, false},
		"much of both, rotated":    {260, 260, []func(*redrive.Config){crm, rotate}, true, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onWire(t, local.Options{MaxInFlight: limit}, func(r *region) {
				random := rand.New(rand.NewPCG(1, 2))
				for m, o := 0, 0; m+o < tt.match+tt.other; {
					if random.IntN(tt.match+tt.other-m-o) < tt.match-m {
						r.letters(dead{event: "e" + strconv.Itoa(m)})
						m++
					} else {
						r.letters(dead{event: "other" + strconv.Itoa(o), destination: "erp", ago: time.Hour})
						o++
					}
				}
				cfg := r.deliveries(tt.options...)
				report := r.mustRun(cfg)
				r.atRest()
				moved, left := r.copies(topology.Deliveries), r.copies(topology.DeliveriesDeadLetter)
				for name, copies := range map[string]map[string]int{"target": moved, "source": left} {
					for e, n := range copies {
						if n != 1 {
							t.Errorf("%s is in the %s %d times", e, name, n)
						}
					}
				}
				if report.Complete != tt.complete || (report.Unseen > 0) == tt.complete || (report.Rotated > 0) != tt.rotated || report.Rotated > tt.other || report.Newer > 0 {
					t.Errorf("%+v", report)
				}
				if len(moved)+len(left) != tt.match+tt.other || report.Moved != len(moved) {
					t.Errorf("%d moved, %d left", len(moved), len(left))
				}
				if tt.complete && (report.Matched != tt.match || report.Looked != tt.match+tt.other || len(moved) != tt.match && !cfg.DryRun) {
					t.Errorf("%d moved of %d, %+v", len(moved), tt.match, report)
				}
				if !tt.complete && report.Looked+report.Unseen != tt.match+tt.other {
					t.Errorf("looked at %d and not at %d of %d", report.Looked, report.Unseen, tt.match+tt.other)
				}
				for _, h := range r.held(topology.DeliveriesDeadLetter) {
					if n := h.note(t); n.Reason != "http-500" || n.FailedAt.IsZero() || !cfg.DryRun && !n.FailedAt.Equal(r.began.Add(-time.Hour)) {
						t.Fatalf("left with the note %+v", n)
					}
				}
			})
		})
	}
}

// TestRotationKeepsIdentity: events that are only sent to the end of their queue stay the same events, also where SQS moved them.
func TestRotationKeepsIdentity(t *testing.T) {
	onWire(t, local.Options{MaxInFlight: 100}, func(r *region) {
		for i := range 150 {
			r.put(topology.Ingress, queue.Message{Body: fmt.Sprint("raw ", i)})
		}
		for range 8 {
			got, err := r.queue(topology.Ingress).Receive(r.t.Context(), local.ReceiveOptions{Max: 100})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range got {
				_ = r.queue(topology.Ingress).ChangeVisibility(m.ReceiptHandle, 0)
			}
		}
		was := map[string]string{}
		for _, h := range r.held(topology.IngressDeadLetter) {
			was[h.Body] = h.id
		}
		if len(was) != 150 {
			t.Fatalf("%d moved by SQS", len(was))
		}
		sent := time.Now()
		time.Sleep(time.Hour)
		report := r.mustRun(r.events(func(c *redrive.Config) { c.Filter.Tenants, c.Rotate = []string{"nobody"}, true }))
		if !report.Complete || report.Rotated == 0 || report.Looked != 150 {
			t.Errorf("%+v", report)
		}
		time.Sleep(time.Hour)
		r.mustRun(r.events(func(c *redrive.Config) {
			c.Filter.Reasons, c.Filter.Until = []string{redrive.ReasonReceiveCount}, sent.Add(time.Minute)
		}))
		for _, h := range r.held(topology.Ingress) {
			if n := h.note(t); n.EventID != was[h.Body] || !n.AcceptedAt.Equal(sent) {
				t.Errorf("%s: note %+v, was %s", h.Body, n, was[h.Body])
			}
		}
		if n := len(r.held(topology.Ingress)); n != 150 {
			t.Errorf("%d moved in the end", n)
		}
	})
}

func TestNotADeadLetterQueue(t *testing.T) {
	onWire(t, local.Options{}, func(r *region) {
		r.put(topology.Deliveries, dead{event: "1"}.build(t))
		cfg := r.deliveries(func(c *redrive.Config) { c.FromURL, c.ToURL = c.ToURL, c.FromURL })
		if _, err := run(r.t.Context(), t, cfg); err == nil || !strings.Contains(err.Error(), "no dead-letter queue") {
			t.Error(err)
		}
		if h := r.held(topology.Deliveries); len(h) != 1 || h[0].receives != "0" {
			t.Errorf("%+v", h)
		}
	})
}

// TestHiddenElsewhere: what another reader holds is not looked at, and the report says that it is there.
func TestHiddenElsewhere(t *testing.T) {
	onWire(t, local.Options{}, func(r *region) {
		r.many(20, "e", dead{})
		if _, err := r.queue(topology.DeliveriesDeadLetter).Receive(r.t.Context(), local.ReceiveOptions{Max: 7}); err != nil {
			t.Fatal(err)
		}
		if report := r.mustRun(r.deliveries()); report.Moved != 13 || report.Elsewhere != 7 || !report.Complete {
			t.Errorf("%+v", report)
		}
	})
}
