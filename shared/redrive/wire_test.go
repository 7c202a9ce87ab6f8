package redrive_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/awslocal"
	local "github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/redrive"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waybill"
)

// region has Waybill's queues over the real protocol and the real SDK, in virtual time.
type region struct {
	t        *testing.T
	endpoint *awslocal.Endpoint
	service  *local.Service
	client   *awssqs.Client
	began    time.Time
}

// onWire runs a test in a bubble with a region of its own.
func onWire(t *testing.T, o local.Options, test func(r *region)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Seed = 1
		r := &region{t: t, service: local.New(o), began: time.Now()}
		r.endpoint = awslocal.New(awslocal.Options{}, r.service)
		defer func() {
			if err := r.endpoint.Close(); err != nil {
				t.Error(err)
			}
		}()
		r.client = awssqs.New(awssqs.Options{
			BaseEndpoint: aws.String("http://awslocal"), HTTPClient: r.endpoint.Client(), Region: awslocal.Region,
			Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""),
		})
		for _, names := range [][2]topology.QueueName{{topology.DeliveriesDeadLetter, topology.Deliveries}, {topology.IngressDeadLetter, topology.Ingress}} {
			dead, err := r.service.CreateQueue(string(names[0]), map[string]string{"MessageRetentionPeriod": "1209600"})
			if err != nil {
				t.Fatal(err)
			}
			policy := fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":3}`, dead.ARN())
			if _, err := r.service.CreateQueue(string(names[1]), map[string]string{"RedrivePolicy": policy}); err != nil {
				t.Fatal(err)
			}
		}
		test(r)
	})
}

func (r *region) queue(name topology.QueueName) *local.Queue {
	r.t.Helper()
	q, ok := r.service.Queue(string(name))
	if !ok {
		r.t.Fatalf("no queue %s", name)
	}
	return q
}

// deliveries configures a redrive of deliveries.
func (r *region) deliveries(change ...func(*redrive.Config)) redrive.Config {
	cfg := redrive.Config{
		SQS: r.client, From: topology.DeliveriesDeadLetter, Rate: redrive.MaxRate,
		FromURL: r.queue(topology.DeliveriesDeadLetter).URL(), ToURL: r.queue(topology.Deliveries).URL(),
	}
	for _, c := range change {
		c(&cfg)
	}
	return cfg
}

// events configures a redrive of events.
func (r *region) events(change ...func(*redrive.Config)) redrive.Config {
	cfg := r.deliveries()
	cfg.From, cfg.FromURL, cfg.ToURL = topology.IngressDeadLetter, r.queue(topology.IngressDeadLetter).URL(), r.queue(topology.Ingress).URL()
	for _, c := range change {
		c(&cfg)
	}
	return cfg
}

func run(ctx context.Context, t *testing.T, cfg redrive.Config) (redrive.Report, error) {
	t.Helper()
	rd, err := redrive.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return rd.Run(ctx)
}

// mustRun runs a redrive that has no reason to fail.
func (r *region) mustRun(cfg redrive.Config) redrive.Report {
	r.t.Helper()
	report, err := run(r.t.Context(), r.t, cfg)
	if err != nil || report.Failed+report.Undeleted+report.Stuck > 0 {
		r.t.Fatalf("%v, report %+v", err, report)
	}
	return report
}

// dead describes a dead letter of a delivery.
type dead struct {
	event       string
	destination string // default "crm"
	tenant      string // default "acme"
	kind        string // event type, default "order.created"
	reason      string // default "http-500"; "-": no note, as SQS moves messages
	code        int
	ago         time.Duration // since the failure
	message     func(*delivery.Message)
	body        string // instead of a delivery
}

func (d dead) build(t *testing.T) queue.Message {
	t.Helper()
	or := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	or(&d.destination, "crm")
	or(&d.tenant, "acme")
	or(&d.kind, "order.created")
	or(&d.reason, "http-500")
	m := delivery.Message{
		Delivery: delivery.NewID(d.tenant, "/shop", d.event, d.destination), Destination: d.destination, Epoch: 1, Attempt: 1,
		Event: events.Event{ID: d.event, Source: "/shop", Type: d.kind, Extensions: map[string]string{"tenant": d.tenant}, Data: []byte(`{"total": 9.50}`)},
	}
	if d.message != nil {
		d.message(&m)
	}
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		t.Fatal(err)
	}
	if d.body != "" {
		body = d.body
	}
	out := queue.Message{Body: body, Group: d.destination}
	if d.reason == "-" {
		return out
	}
	out, ok := waybill.Attach(out, waybill.Note{Reason: d.reason, Code: d.code, Attempts: 3, FailedAt: time.Now().Add(-d.ago), EventID: d.event, Destination: d.destination})
	if !ok {
		t.Fatal("the note does not fit")
	}
	return out
}

// put sends messages to a queue behind the wire's back.
func (r *region) put(to topology.QueueName, messages ...queue.Message) {
	r.t.Helper()
	for _, m := range messages {
		if _, err := r.queue(to).Send(outgoing(m)); err != nil {
			r.t.Fatal(err)
		}
	}
}

func outgoing(m queue.Message) local.Outgoing {
	out := local.Outgoing{Body: m.Body, GroupID: m.Group, TraceHeader: m.Trace, MessageAttributes: map[string]local.AttributeValue{}}
	for name, a := range m.Attributes {
		out.MessageAttributes[name] = local.AttributeValue{DataType: a.DataType, StringValue: a.String, BinaryValue: a.Binary}
	}
	return out
}

func (r *region) letters(letters ...dead) {
	r.t.Helper()
	for _, l := range letters {
		r.put(topology.DeliveriesDeadLetter, l.build(r.t))
	}
}

// many puts n letters named prefix0 and so on.
func (r *region) many(n int, prefix string, like dead) {
	for i := range n {
		like.event = prefix + strconv.Itoa(i)
		r.letters(like)
	}
}

// natively has SQS move a message to the dead-letter queue of to, by receive count.
func (r *region) natively(to topology.QueueName, m queue.Message) {
	r.t.Helper()
	r.put(to, m)
	for range 4 {
		got, err := r.queue(to).Receive(r.t.Context(), local.ReceiveOptions{Max: 100})
		if err != nil {
			r.t.Fatal(err)
		}
		for _, m := range got {
			if err := r.queue(to).ChangeVisibility(m.ReceiptHandle, 0); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	if n := r.queue(to).Depth().Total(); n > 0 {
		r.t.Fatalf("%d messages were not moved", n)
	}
}

// held is a message as it lies in a queue.
type held struct {
	queue.Message
	id, receives string
	state        local.State
}

func (r *region) held(name topology.QueueName) (all []held) {
	for _, h := range r.queue(name).Snapshot() {
		m := held{id: h.MessageID, receives: h.Attributes["ApproximateReceiveCount"], state: h.State, Message: queue.Message{
			Body: h.Body, Group: h.Attributes["MessageGroupId"], Trace: h.Attributes["AWSTraceHeader"],
		}}
		for n, a := range h.MessageAttributes {
			if m.Attributes == nil {
				m.Attributes = map[string]queue.Attribute{}
			}
			m.Attributes[n] = queue.Attribute{DataType: a.DataType, String: a.StringValue, Binary: a.BinaryValue}
		}
		all = append(all, m)
	}
	return all
}

func (h held) note(t *testing.T) waybill.Note {
	t.Helper()
	_, _, n, err := waybill.Detach(h.Body, h.Attributes)
	if err != nil {
		t.Error(err)
	}
	return n
}

func (h held) delivery(t *testing.T) delivery.Message {
	t.Helper()
	body, _, _, err := waybill.Detach(h.Body, h.Attributes)
	if err != nil {
		t.Error(err)
	}
	m, err := delivery.Decode(body)
	if err != nil {
		t.Error(err)
	}
	return m
}

// copies counts the messages of a queue by event.
func (r *region) copies(name topology.QueueName) map[string]int {
	n := map[string]int{}
	for _, h := range r.held(name) {
		n[h.delivery(r.t).Event.ID]++
	}
	return n
}

func ids(copies map[string]int) []string { return slices.Sorted(maps.Keys(copies)) }

// atRest fails the test unless every dead letter is visible.
func (r *region) atRest() {
	r.t.Helper()
	for _, name := range []topology.QueueName{topology.DeliveriesDeadLetter, topology.IngressDeadLetter} {
		if d := r.queue(name).Depth(); d.Visible != d.Total() {
			r.t.Errorf("%s: %+v, want everything visible", name, d)
		}
	}
}
