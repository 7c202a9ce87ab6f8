package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	lambdaevents "github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/scripts/artifacts/archive"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	runtimeapi "github.com/waybillhq/waybill/shared/awslocal/runtime"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/topology"
)

// world is AWS for the functions, and a receiver. Nothing in it runs but what they call.
type world struct {
	system   *system.System
	receiver *httptest.Server
	endpoint string
	events   int
}

// destination is the one that all events go to.
const destination = "shop"

func newWorld(ctx context.Context) (*world, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &world{endpoint: "http://" + l.Addr().String()}
	w.receiver = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	document, err := json.Marshal(map[string]any{"destinations": []any{map[string]any{
		"id": destination, "tenant": "*", "type": "webhook",
		"webhook": map[string]any{"url": w.receiver.URL, "secrets": []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}},
	}}})
	if err != nil {
		return nil, err
	}
	w.system, err = system.Start(ctx, system.Config{
		Destinations: document, Listener: l, Stopped: true, Queues: sqs.Options{BaseURL: w.endpoint}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		w.receiver.Close()
		return nil, err
	}
	return w, nil
}

func (w *world) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	w.receiver.Close()
	return w.system.Stop(ctx)
}

// candidate is a program that is measured.
type candidate struct {
	name     string
	artifact archive.Artifact
	program  *runtimeapi.Program
	payload  func() ([]byte, error)
	samples  []sample
}

func (w *world) candidates(folder string, o options) ([]*candidate, error) {
	var all []*candidate
	for name, in := range programs(folder, o) {
		c := &candidate{name: name}
		var err error
		if c.artifact, err = archive.Describe(in); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		function := strings.TrimSuffix(name, beside)
		c.program, err = runtimeapi.New(runtimeapi.Options{
			Function: function, Bootstrap: filepath.Join(in, archive.Bootstrap), Variables: w.variables(function), MemoryMB: 512, EndpointURL: w.endpoint,
		})
		if err != nil {
			return nil, err
		}
		c.payload = func() ([]byte, error) { return w.payload(topology.FunctionName(function)) }
		all = append(all, c)
	}
	return all, nil
}

// variables are those that the stack gives a function, and those of the baseline with clients.
func (w *world) variables(function string) map[string]string {
	t := topology.New(topology.LowLatency)
	url := func(name topology.QueueName) string {
		q, _ := w.system.Queues.Queue(string(name)) // the system has made all of the topology
		return q.URL()
	}
	f, ok := t.Function(topology.FunctionName(function))
	if !ok {
		return map[string]string{"QUEUE_URL": url(topology.IngressDeadLetter), "TABLE": string(topology.Ledger)}
	}
	values := map[string]string{topology.ProfileVariable: string(t.Profile), topology.EgressAllowVariable: "loopback"}
	for _, access := range f.Queues {
		values[access.Queue.URLVariable()] = url(access.Queue)
	}
	for _, access := range f.Tables {
		values[access.Table.NameVariable()] = string(access.Table)
	}
	return values
}

// payload is one message for the functions that a queue feeds, and nothing in particular for others.
func (w *world) payload(name topology.FunctionName) ([]byte, error) {
	w.events++
	e := events.Event{
		ID: strconv.Itoa(w.events), Source: "/coldstart", Type: "order.created", DataContentType: "application/json", Data: []byte(`{"total":19.90}`),
		Extensions: map[string]string{events.TenantExtension: events.DefaultTenant},
	}
	f, _ := topology.New(topology.LowLatency).Function(name)
	var body string
	switch f.Source.Queue {
	case "": // run by the clock, or a baseline
		return []byte(`{}`), nil
	case topology.Ingress:
		body = fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":%q,"data":%s}`, e.ID, e.Source, e.Type, e.Data)
	default: // a queue of deliveries
		m := delivery.Message{Delivery: delivery.NewID(e.Tenant(), e.Source, e.ID, destination), Destination: destination, Attempt: 1, Event: e, AcceptedAt: time.Now()}
		var err error
		if body, err = m.Encode(delivery.MaxBytes); err != nil {
			return nil, err
		}
	}
	return json.Marshal(lambdaevents.SQSEvent{Records: []lambdaevents.SQSMessage{{
		MessageId: "9b2f7c1e-0c55-4a11-8f3e-3f0d8d1c7a01", ReceiptHandle: "handle", Body: body, EventSource: "aws:sqs", AWSRegion: awslocal.Region,
		EventSourceARN: "arn:aws:sqs:us-east-1:000000000000:" + string(f.Source.Queue),
		Attributes:     map[string]string{"ApproximateReceiveCount": "1", "SentTimestamp": strconv.FormatInt(time.Now().UnixMilli(), 10)},
	}}})
}

// sample is one cold start. What the operating system does not tell is zero.
type sample struct {
	poll      time.Duration // from the start of the process to its first request for an invocation
	processor time.Duration // that all its threads had used by then
	peakBytes int64         // of memory that it had used by then
	answer    time.Duration // from the start of the process to the end of its first invocation, without the time for looking at the process between
}

// start starts a process, lets it answer one invocation and ends it.
func (c *candidate) start(ctx context.Context) (sample, error) {
	payload, err := c.payload()
	if err != nil {
		return sample{}, err
	}
	watched := &watched{}
	function, err := mapping.NewFunction(mapping.FunctionConfig{
		Name: c.artifact.Name, Timeout: time.Minute, MemoryMB: 512,
		Environment: func(id string) mapping.Environment {
			watched.Environment, watched.program = c.program.Environment(id), c.program
			return watched
		},
	})
	if err != nil {
		return sample{}, err
	}
	answer, err := function.Invoke(ctx, payload)
	if err == nil && strings.Contains(string(answer), "itemIdentifier") {
		err = fmt.Errorf("the first invocation failed: %s", answer)
	}
	return watched.sample, errors.Join(err, function.Close(ctx))
}

// watched is an environment that is timed.
type watched struct {
	mapping.Environment
	program *runtimeapi.Program
	sample  sample
}

// Init implements mapping.Environment.
func (w *watched) Init(ctx context.Context) error {
	began := time.Now()
	err := w.Environment.Init(ctx)
	w.sample.poll = time.Since(began)
	for _, p := range w.program.Processes() {
		w.sample.processor, w.sample.peakBytes = used(p.PID)
	}
	return err
}

// Invoke implements mapping.Environment.
func (w *watched) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	began := time.Now()
	answer, err := w.Environment.Invoke(ctx, payload)
	w.sample.answer = w.sample.poll + time.Since(began)
	return answer, err
}
