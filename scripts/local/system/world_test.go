package system_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/functions/deliverer"
	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/inmem"
	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waybill"
)

// The events of these tests differ in nothing but their ids.
const (
	source = "/test"
	tenant = "default"
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// destination describes one in the words of a destinations file.
type destination = map[string]any

// to describes a destination at the receiver's path, whose first element says how it behaves.
func to(id, behaviour string, waits ...string) destination {
	d := destination{
		"id": id, "tenant": "*", "type": "webhook",
		"webhook": map[string]any{"url": "http://127.0.0.1/" + behaviour + "/" + id, "secrets": []string{secret}},
	}
	if len(waits) > 0 {
		d["retry"] = map[string]any{"schedule": waits}
	}
	return d
}

func relaxed(d destination) destination {
	d["ledger"] = "relaxed"
	return d
}

func document(t *testing.T, destinations []destination) []byte {
	t.Helper()
	document, err := json.Marshal(map[string]any{"destinations": destinations})
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func parse(t *testing.T, document []byte) *registry.Set {
	t.Helper()
	set, err := registry.Parse(document, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// plan is what a test wants of its world. Hooks are called from any goroutine and may be nil.
type plan struct {
	destinations []destination
	answer       func(w *world, r receiver.Request, h http.Header) int // a request has arrived
	received     func(w *world, r receiver.Request)                    // its answer is decided, its effect done
	dial         func(w *world) error
	fault        func(w *world, f topology.FunctionName, b mapping.Batch) mapping.Fault
	observe      func(w *world, c awslocal.Call)
	log          func(w *world, f topology.FunctionName, r slog.Record)
	disorder     sqs.Disorder
	seed         uint64
	topology     func(*topology.Topology) // nil: as it is
	denied       bool                     // a function attempts what it is not granted
	stopped      bool
	canary       bool
	quiet        bool // two pollers per function: long tests cost a third
	random       bool // a relaxed delivery may be under way twice, and one of the two arrive late
	redriven     bool // deliveries of this test are restarted: a delivered one may be called again
	incidents    int  // how often at most something was done to a delivery that explains one more HTTP call
}

// world is a whole system in virtual time, with a receiver and a memory of what happened.
type world struct {
	*system.System
	t        *testing.T
	plan     plan
	set      *registry.Set
	receiver *receiver.Receiver
	producer *awssqs.Client
	sink     *inmem.Listener // where the canary listens; nil without one
	metrics  bytes.Buffer    // lines; with the canary only
	began    time.Time
	acted    atomic.Bool

	mu       sync.Mutex
	events   []string // ids of what was sent
	breaches []string // of the law that a delivered delivery is left alone
	story    []string
}

// run starts a world, plays the test in it, and holds it to the laws that no fault suspends.
func run(t *testing.T, p plan, play func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, p)
		play(w)
		w.laws()
		w.stop()
		if t.Failed() {
			w.tell()
		}
	})
}

func start(t *testing.T, p plan) *world {
	file := document(t, p.destinations)
	w := &world{t: t, plan: p, set: parse(t, file), began: time.Now()}
	w.receiver = receiver.New(receiver.Options{Answer: w.arrived, OnReceived: w.received, FlakyTries: 2})
	cfg := system.Config{
		Destinations: file, Logger: slog.New(chronicle{world: w}), Stopped: p.stopped, Dial: w.dial, Observe: w.observed,
		Queues: sqs.Options{Seed: p.seed, Disorder: p.disorder},
	}
	cfg.Topology = topology.New(topology.LowLatency)
	for i := range cfg.Topology.Functions {
		f := &cfg.Topology.Functions[i]
		if f.Every > 0 { // the waker looks ten minutes ahead; here it need not wake more often than every five
			f.Every = 5 * time.Minute
		} else if p.quiet {
			f.Source.MaximumConcurrency = 2
		}
	}
	if p.topology != nil {
		p.topology(&cfg.Topology)
	}
	if p.canary {
		w.sink = inmem.Listen("127.0.0.1:9")
		cfg.Canary, cfg.Metrics = w.sink, w
	}
	if p.fault != nil {
		cfg.Fault = func(f topology.FunctionName, b mapping.Batch) mapping.Fault { return p.fault(w, f, b) }
	}
	s, err := system.Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.System = s
	w.producer = awssqs.NewFromConfig(s.AWS())
	return w
}

func (w *world) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := errors.Join(w.Stop(ctx), w.receiver.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
		w.t.Error(err)
	}
}

// arrived hears of a request before it is answered.
func (w *world) arrived(r receiver.Request, h http.Header) int {
	w.note("HTTP    %s %s try %d", r.Path, r.Header.Get("Ce-Id"), r.Try)
	exempt := w.plan.redriven || w.plan.random && strings.HasSuffix(r.Path, "/relaxed")
	if row, ok := w.rowOf(r.ID); ok && row.State == ledger.Delivered && !exempt {
		w.mu.Lock()
		w.breaches = append(w.breaches, fmt.Sprintf("%s was called for %s, try %d, although it was settled as delivered", r.Path, r.Header.Get("Ce-Id"), r.Try))
		w.mu.Unlock()
	}
	if w.plan.answer != nil {
		return w.plan.answer(w, r, h)
	}
	return 0
}

func (w *world) received(r receiver.Request) {
	if w.plan.received != nil {
		w.plan.received(w, r)
	}
}

// Write takes lines of metrics.
func (w *world) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.metrics.Write(line)
}

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if w.sink != nil && address == w.sink.Addr().String() {
		return w.sink.Dial(ctx)
	}
	if w.plan.dial != nil {
		if err := w.plan.dial(w); err != nil {
			return nil, err
		}
	}
	return w.receiver.Dial(ctx, network, address)
}

func (w *world) observed(c awslocal.Call) {
	what := ""
	if c.Err != nil {
		what = " refused: " + c.Err.Code
	}
	if c.Withheld {
		what += " (answer withheld)"
	}
	w.note("AWS     %s%s", c.Operation, what)
	if w.plan.observe != nil {
		w.plan.observe(w, c)
	}
}

// note adds a line to the story that a failed test tells.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.story) < 2000 {
		w.story = append(w.story, fmt.Sprintf("%10s  ", time.Since(w.began).Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
}

func (w *world) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Log("what happened:\n" + strings.Join(w.story, "\n"))
}

// chronicle is a slog.Handler that writes into the story.
type chronicle struct {
	world    *world
	function topology.FunctionName
}

func (c chronicle) Enabled(context.Context, slog.Level) bool { return true }

func (c chronicle) Handle(_ context.Context, r slog.Record) error {
	var line bytes.Buffer
	fmt.Fprintf(&line, "%-10s%s", c.function, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&line, " %s=%.200s", a.Key, a.Value)
		return true
	})
	c.world.note("%s", line.String())
	if c.world.plan.log != nil {
		c.world.plan.log(c.world, c.function, r)
	}
	return nil
}

func (c chronicle) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "function" {
			c.function = topology.FunctionName(a.Value.String())
		}
	}
	return c
}

func (c chronicle) WithGroup(string) slog.Handler { return c }

// send sends events to the ingress queue as a producer would.
func (w *world) send(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		w.post(topology.Ingress, body(id))
		w.mu.Lock()
		if !slices.Contains(w.events, id) {
			w.events = append(w.events, id)
		}
		w.mu.Unlock()
	}
}

func body(id string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":"test.sent","data":{"event":%q}}`, id, source, id)
}

// post sends a message to a queue.
func (w *world) post(to topology.QueueName, body string) {
	w.t.Helper()
	if _, err := w.producer.SendMessage(context.Background(), &awssqs.SendMessageInput{QueueUrl: aws.String(w.queue(to).URL()), MessageBody: &body}); err != nil {
		w.t.Fatal(err)
	}
}

// registry is the store of destinations and states.
func (w *world) registry() registry.Store {
	w.t.Helper()
	store, err := w.Registry()
	if err != nil {
		w.t.Fatal(err)
	}
	return store
}

// apply replaces the destinations.
func (w *world) apply(destinations ...destination) {
	w.t.Helper()
	store, file := w.registry(), document(w.t, destinations)
	now, err := store.Current(context.Background())
	if err == nil {
		_, err = store.Apply(context.Background(), now.Version.Number, registry.Draft{Document: file, By: "test", At: time.Now()})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.set = parse(w.t, file)
}

// tolds counts the events about disabled destinations that a destination has received.
func (w *world) tolds(destination string) (n int) {
	for _, r := range w.receiver.Log() {
		if strings.HasSuffix(r.Path, "/"+destination) && r.Header.Get("Ce-Type") == deliverer.TypeDisabled {
			n++
		}
	}
	return n
}

// unreachable refuses every call to a table until it is ended.
func (w *world) unreachable(table topology.TableName) (end func()) {
	planted := w.Endpoint.Faults().Add(awslocal.Fault{
		Service: "dynamodb", Match: onTable(table), Error: &wire.Error{Code: "InternalServerError", Message: "Internal server error", Status: http.StatusInternalServerError},
	})
	return planted.Remove
}

// onTable picks the calls to a table. Names of tables occur nowhere else in requests.
func onTable(table topology.TableName) func([]byte) bool {
	return func(request []byte) bool { return bytes.Contains(request, []byte(table)) }
}

func (w *world) queue(name topology.QueueName) *sqs.Queue {
	w.t.Helper()
	q, ok := w.Queues.Queue(string(name))
	if !ok {
		w.t.Fatalf("queue %s does not exist", name)
	}
	return q
}

// rest lets time pass until nothing is left to do, looking at most every step; it fails the test when that takes longer than limit.
func (w *world) rest(limit, step time.Duration) {
	w.t.Helper()
	if !w.until(limit, step, func() bool { return w.Busy() == 0 }) {
		w.t.Fatalf("not at rest after %s: %+v", limit, w.backlog())
	}
}

// until lets time pass until cond holds, looking at every step, and gives up after limit.
func (w *world) until(limit, step time.Duration, cond func() bool) bool {
	for end := time.Now().Add(limit); ; {
		synctest.Wait()
		if cond() {
			return true
		}
		if !time.Now().Before(end) {
			return false
		}
		time.Sleep(step)
	}
}

func (w *world) backlog() (lines []string) {
	for _, name := range []topology.QueueName{topology.Ingress, topology.Deliveries, topology.DeliveriesSlow} {
		for _, m := range w.queue(name).Snapshot() {
			lines = append(lines, fmt.Sprintf("%s: state %v until %s, received %s times: %.200s", name, m.State, m.Due.Sub(w.began), m.Attributes["ApproximateReceiveCount"], m.Body))
		}
	}
	return lines
}

// row is a waybill as it lies in the table.
type row struct {
	State          ledger.State
	Epoch, Attempt int
	Code           int
	Reason         string
}

// waybill gives the row of a delivery.
func (w *world) waybill(event, destination string) (row, bool) {
	return w.rowOf(string(delivery.NewID(tenant, source, event, destination)))
}

// rowOf reads the ledger behind the endpoint's back: nothing is counted, no fault is met.
func (w *world) rowOf(id string) (row, bool) {
	request := fmt.Sprintf(`{"TableName":%q,"Key":{"delivery":{"S":%q}},"ConsistentRead":true}`, topology.Ledger, id)
	answer, err := w.Tables.Do(context.Background(), "GetItem", []byte(request))
	if err != nil {
		w.t.Error(err)
		return row{}, false
	}
	var found struct {
		Item map[string]struct{ S, N string }
	}
	if err := json.Unmarshal(answer.Body, &found); err != nil || found.Item == nil {
		return row{}, false
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(found.Item[name].N)
		return n
	}
	return row{
		State: ledger.State(found.Item["state"].S), Epoch: number("epoch"), Attempt: number("attempt"),
		Code: number("code"), Reason: found.Item["reason"].S,
	}, true
}

// requests gives what the receiver got for a delivery.
func (w *world) requests(event, destination string) []receiver.Request {
	return slices.DeleteFunc(w.receiver.Log(), func(r receiver.Request) bool {
		return r.Header.Get("Ce-Id") != event || !strings.HasSuffix(r.Path, "/"+destination)
	})
}

// calls gives how often the receiver was called for a delivery.
func (w *world) calls(event, destination string) int { return len(w.requests(event, destination)) }

// letter is a dead letter.
type letter struct {
	waybill.Note
	Body     string
	Delivery delivery.Message // zero for what is no delivery message
	Receives string
}

// letters gives what lies in a dead-letter queue.
func (w *world) letters(name topology.QueueName) []letter {
	w.t.Helper()
	var all []letter
	for _, held := range w.queue(name).Snapshot() {
		attributes := map[string]queue.Attribute{}
		for k, a := range held.MessageAttributes {
			attributes[k] = queue.Attribute{DataType: a.DataType, String: a.StringValue, Binary: a.BinaryValue}
		}
		bare, _, note, err := waybill.Detach(held.Body, attributes)
		if err != nil {
			w.t.Errorf("%s: %v", name, err)
		}
		l := letter{Note: note, Body: bare, Receives: held.Attributes["ApproximateReceiveCount"]}
		l.Delivery, _ = delivery.Decode(bare)
		all = append(all, l)
	}
	return all
}

// lettersOf gives the dead letters of a delivery.
func (w *world) lettersOf(event, destination string) []letter {
	return slices.DeleteFunc(w.letters(topology.DeliveriesDeadLetter), func(l letter) bool {
		return l.Delivery.Event.ID != event || l.Delivery.Destination != destination
	})
}

// laws checks what must hold in the end whatever happened: each event has come to an end at each destination, with one effect or with a
// dead letter; nobody is called again after the delivery was settled; every HTTP call is an attempt of the schedule or is explained by
// an incident.
func (w *world) laws() {
	w.t.Helper()
	w.mu.Lock()
	breaches, sent := slices.Clone(w.breaches), slices.Clone(w.events)
	w.mu.Unlock()
	for _, b := range breaches {
		w.t.Error(b)
	}
	if denied := w.Denied(); (len(denied) > 0) != w.plan.denied {
		w.t.Errorf("the topology does not grant %q", denied)
	}
	for _, event := range sent {
		for d := range w.set.All() {
			w.law(event, d)
		}
	}
}

func (w *world) law(event string, d *registry.Destination) {
	w.t.Helper()
	found, ok := w.waybill(event, d.ID)
	requests := w.requests(event, d.ID)
	effects, digests := 0, map[string]bool{}
	for _, r := range requests {
		digests[r.ID+r.Digest] = true
		if r.Effect {
			effects++
		}
	}
	if len(digests) > 1 {
		w.t.Errorf("%s at %s: its attempts differ in webhook-id or body", event, d.ID)
	}
	if effects > 1 {
		w.t.Errorf("%s had %d effects at %s", event, effects, d.ID)
	}
	letters := len(w.lettersOf(event, d.ID))
	switch {
	case !ok && letters == 0:
		w.t.Errorf("%s at %s is lost: no waybill, no dead letter", event, d.ID)
	case ok && found.State == ledger.Delivered && effects != 1:
		w.t.Errorf("%s at %s is settled as delivered and had %d effects", event, d.ID, effects)
	case ok && found.State == ledger.Dead && letters == 0:
		w.t.Errorf("%s at %s is settled as dead and has no dead letter", event, d.ID)
	case ok && found.State != ledger.Delivered && found.State != ledger.Dead && letters == 0:
		w.t.Errorf("%s at %s is lost: %+v", event, d.ID, found)
	}
	if allowed := found.Attempt + w.plan.incidents; len(requests) > allowed && !w.plan.redriven {
		w.t.Errorf("%s at %s: %d HTTP calls for %d attempts, which at most %d incidents explain", event, d.ID, len(requests), found.Attempt, w.plan.incidents)
	}
}

// want checks what became of a delivery and how many HTTP calls it took.
func (w *world) want(event, destination string, state ledger.State, calls int) {
	w.t.Helper()
	found, _ := w.waybill(event, destination)
	if got := w.calls(event, destination); found.State != state || got != calls {
		w.t.Errorf("%s at %s: %+v after %d calls, want %s after %d", event, destination, found, got, state, calls)
	}
}

// names gives n event ids.
func names(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%02d", prefix, i)
	}
	return ids
}

// first is true the first time that it is asked. It is for hooks that act once.
func (w *world) first() bool { return w.acted.CompareAndSwap(false, true) }

// crash kills the deliverer's environments that run now.
func (w *world) crash(why string) {
	w.note("CRASH   %s: %d environments", why, w.Functions[topology.Deliverer].CrashAll())
}

// Parts of request documents by which a test knows what a call is for.
const (
	claiming   = `{"S":"claimed"}`        // a first attempt, at a strict destination
	reclaiming = "leaseUntil = :lease"    // a later attempt, or one that met a row
	settling   = `SET \"state\"`          // a claimed attempt
	recording  = `'reason': ?`            // a first attempt at a relaxed destination
	succeeding = `\"attempt\":2`          // the delivery message of the second attempt
	reporting  = `\"outcome\":{\"owner\"` // a delivery message that carries an outcome
	burying    = `/deliveries-dlq"`       // the URL of the dead-letter queue
)

// about makes a Fault's Match of a part of the document.
func about(part string) func([]byte) bool {
	return func(document []byte) bool { return bytes.Contains(document, []byte(part)) }
}
