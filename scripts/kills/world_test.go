package kills

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waiting"
	waitingdynamo "github.com/waybillhq/waybill/shared/waiting/dynamo"
)

const (
	source = "/kills"
	tenant = "default"
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

	// What a killed process had comes back after the visibility timeout, which is as short as the longest lease allows: an invocation and ten seconds.
	functionTime = 15 * time.Second
	visibility   = 30 * time.Second
)

// world is the system with its processes, a receiver, the books, and a memory of who did what.
type world struct {
	*system.System
	t        *testing.T
	points   []*point
	document []byte // with the destinations of all points
	receiver *receiver.Receiver
	auditor  *auditor.Auditor
	producer *awssqs.Client
	registry registry.Store
	rows     *waitingdynamo.Store
	began    time.Time

	mu       sync.Mutex
	mended   bool
	hands    map[string]*hands      // by access key
	claimant map[delivery.ID]string // access key of who claimed it last
	excused  map[delivery.ID]int    // calls that kills explain
	under    map[delivery.ID]int    // calls under way
	breaches []string               // of the law that a delivered delivery is left alone
	killed   int                    // processes
}

// hands is what a process has to do with in one invocation.
type hands struct {
	requestID  string
	points     map[*point]bool
	deliveries map[delivery.ID]bool
}

// point is one kill at one stage.
type point struct {
	kill
	stage        stage
	id           string // in the ids of all that belongs to it
	destinations []string
	events       []string
	deliveries   []delivery.ID
	primers      []primer      // that make the destination slow, as often as it may have to be
	known        []delivery.ID // all of them
	done         chan struct{} // closed after the last kill

	// Guarded by world.mu.
	armed       bool
	primed      int // how many primers were sent
	kills       int
	redelivered int
	calls       int
	effects     map[delivery.ID]int
	tries       map[delivery.ID]int
	story       []string
}

// newPoints makes the points of the table: two deliveries each, so that a process holds more than the one it dies about, or one where the trouble that a
// point needs would miss the other.
func newPoints() []*point {
	var points []*point
	for _, k := range table() {
		stages := []stage{seen, performed}
		if k.request.operation == "" {
			stages = []stage{arrived, acted}
			k.request.by = cmp.Or(k.request.by, topology.Deliverer)
		}
		if k.only != "" {
			stages = []stage{k.only}
		}
		for _, s := range stages {
			p := &point{kill: k, stage: s, done: make(chan struct{}), effects: map[delivery.ID]int{}, tries: map[delivery.ID]int{}}
			p.id = fmt.Sprintf("p%02d-%s", len(points), s)
			p.destinations = []string{p.id}
			for n := 2; n <= k.scene.wide; n++ {
				p.destinations = append(p.destinations, fmt.Sprintf("%s-%d", p.id, n))
			}
			events := 2
			if len(k.scene.troubles) > 0 || len(k.first) > 0 || k.scene.again {
				events = 1
			}
			if k.request.by == topology.Waker && !k.scene.ahead {
				events = 0
			}
			for n := range events {
				p.events = append(p.events, fmt.Sprintf("%s-e%d", p.id, n+1))
				for _, d := range p.destinations {
					if !k.scene.bad {
						p.deliveries = append(p.deliveries, delivery.NewID(tenant, source, p.events[n], d))
					}
				}
			}
			p.prime()
			points = append(points, p)
		}
	}
	return points
}

// mentions tells whether a document is about the point. p.id is in the ids of its destinations and events.
func (p *point) mentions(document []byte) bool {
	return bytes.Contains(document, []byte(p.id)) ||
		slices.ContainsFunc(p.known, func(id delivery.ID) bool { return bytes.Contains(document, []byte(id)) })
}

// start starts everything but the mappings.
func start(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, points: newPoints(), began: time.Now(), hands: map[string]*hands{}, claimant: map[delivery.ID]string{}, excused: map[delivery.ID]int{}, under: map[delivery.ID]int{},
	}
	folder := programs(t)
	door, listener := listen(t), listen(t)
	w.receiver = receiver.New(receiver.Options{Answer: w.arrived, OnReceived: w.acted})
	go func() { _ = w.receiver.Serve(door) }()
	limits := topology.New(topology.LowLatency)
	limits.Limits.AttemptTimeout = 7 * time.Second
	for i := range limits.Functions {
		if f := &limits.Functions[i]; f.Source.Queue != "" {
			f.Timeout, f.Source.MaximumConcurrency = functionTime, 5
		}
	}
	var err error
	w.System, err = system.Start(t.Context(), system.Config{
		Topology: limits, Destinations: []byte(`{"destinations":[]}`), EgressAllow: "127.0.0.0/8", Logger: slog.New(slog.NewTextHandler(storyteller{w}, nil)),
		Queues:   sqs.Options{BaseURL: "http://" + listener.Addr().String(), OnSend: func(queue string, m sqs.Message) { w.auditor.OnSend(queue, m) }},
		Listener: listener, Binaries: folder, Source: w.source, Stopped: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// t.Context is over.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := w.Stop(ctx); err != nil {
			t.Error(err)
		}
		_ = w.receiver.Close()
	})
	w.producer = awssqs.NewFromConfig(w.AWS())
	w.registry, err = w.Registry()
	w.must(err)
	w.rows, err = waitingdynamo.New(awsdynamodb.NewFromConfig(w.AWS()), string(topology.Waiting), waitingdynamo.Options{})
	w.must(err)
	for _, name := range []topology.QueueName{topology.Ingress, topology.Deliveries, topology.DeliveriesSlow} {
		_, err := w.producer.SetQueueAttributes(t.Context(), &awssqs.SetQueueAttributesInput{
			QueueUrl: w.url(name), Attributes: map[string]string{"VisibilityTimeout": fmt.Sprint(int(visibility / time.Second))},
		})
		w.must(err)
	}
	w.document = w.destinations("http://" + door.Addr().String())
	w.apply(w.document)
	w.pause()
	w.auditor, err = auditor.New(auditor.Config{Destinations: w.document, ReceiverLog: true, Unheard: true})
	w.must(err)
	// Asked before every call of a process, the ones that are hit included.
	w.Endpoint.Faults().Add(awslocal.Fault{Before: w.called})
	for _, m := range w.Mappings {
		m.Start(context.WithoutCancel(t.Context())) // Stop ends it
	}
	return w
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := awslocal.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) url(name topology.QueueName) *string {
	q, ok := w.Queues.Queue(string(name))
	if !ok {
		w.t.Fatalf("queue %s does not exist", name)
	}
	return aws.String(q.URL())
}

// destinations makes the document with those of all points, at the receiver.
func (w *world) destinations(receiver string) []byte {
	var destinations []map[string]any
	for _, p := range w.points {
		for _, id := range p.destinations {
			d := map[string]any{
				"id": id, "tenant": "*", "type": "webhook", "pattern": map[string]any{"type": []string{p.id}},
				"webhook": map[string]any{"url": receiver + "/fine/" + p.id + "/" + id, "secrets": []string{w.secret(p)}, "timeout": orElse(p.scene.timeout, "3s")},
				"retry":   map[string]any{"schedule": slices.Repeat([]string{"1s"}, manyWaits)},
			}
			if p.scene.long {
				d["retry"] = map[string]any{"schedule": slices.Repeat([]string{"20m"}, manyWaits)}
			}
			if p.scene.relaxed {
				d["ledger"] = "relaxed"
			}
			destinations = append(destinations, d)
		}
	}
	document, err := json.Marshal(map[string]any{"destinations": destinations})
	w.must(err)
	return document
}

// apply replaces the destinations.
func (w *world) apply(document []byte) {
	w.t.Helper()
	now, err := w.registry.Current(w.t.Context())
	w.must(err)
	_, err = w.registry.Apply(w.t.Context(), now.Version.Number, registry.Draft{Document: document, By: "kills", At: time.Now()})
	w.must(err)
}

// remove takes destinations away whose deliveries are parked by now.
func (w *world) remove(document []byte) {
	var all map[string][]map[string]any
	w.must(json.Unmarshal(document, &all))
	gone := map[any]bool{}
	for _, p := range w.points {
		gone[p.id] = p.scene.removed
	}
	all["destinations"] = slices.DeleteFunc(all["destinations"], func(d map[string]any) bool { return gone[d["id"]] })
	rest, err := json.Marshal(all)
	w.must(err)
	w.apply(rest)
}

// pause pauses the destinations that are to be.
func (w *world) pause() {
	for _, p := range w.points {
		if p.scene.paused {
			_, err := w.registry.Pause(w.t.Context(), p.id, registry.Mark{Since: time.Now(), By: "kills"})
			w.must(err)
		}
	}
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// secret stores the secret of a point where it belongs and gives what the destination names.
func (w *world) secret(p *point) string {
	name := "waybill/" + p.id
	switch p.scene.secret {
	case "secretsmanager":
		out, err := secretsmanager.NewFromConfig(w.AWS()).CreateSecret(w.t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(secret)})
		w.must(err)
		return *out.ARN
	case "ssm":
		_, err := ssm.NewFromConfig(w.AWS()).PutParameter(w.t.Context(), &ssm.PutParameterInput{
			Name: aws.String("/" + name), Value: aws.String(secret), Type: ssmtypes.ParameterTypeSecureString,
		})
		w.must(err)
		return "arn:aws:ssm:" + awslocal.Region + ":" + awslocal.AccountID + ":parameter/" + name
	}
	return secret
}

// send sends the events of a point.
func (w *world) send(p *point) { w.sendEvents(p, p.events) }

func (w *world) sendEvents(p *point, events []string) {
	in := &awssqs.SendMessageBatchInput{QueueUrl: w.url(topology.Ingress)}
	for _, id := range events {
		event := map[string]any{"specversion": "1.0", "id": id, "source": source, "type": p.id, "data": map[string]string{"event": id}}
		if p.scene.bad {
			delete(event, "source")
		}
		body, err := json.Marshal(event)
		w.must(err)
		in.Entries = append(in.Entries, awssqsEntry(id, string(body)))
	}
	out, err := w.producer.SendMessageBatch(w.t.Context(), in)
	w.must(err)
	if len(out.Failed) > 0 {
		w.t.Fatalf("%s: events were not accepted", p)
	}
}

// held gives the rows of the waiting room that hold deliveries of a point.
func (w *world) held(p *point) []waiting.Row {
	rows := w.allHeld()
	return slices.DeleteFunc(rows, func(r waiting.Row) bool { return r.Destination != p.id })
}

func (w *world) allHeld() (rows []waiting.Row) {
	for after := (waiting.Cursor{}); ; {
		page, next, err := w.rows.Rows(w.t.Context(), after)
		w.must(err)
		if rows = append(rows, page...); next == (waiting.Cursor{}) {
			return rows
		}
		after = next
	}
}

// hasten makes deliveries that wait long due since a time that is past, as if they had been put into the waiting room long ago: first the new row, then the old one goes.
func (w *world) hasten(rows []waiting.Row, due time.Time) {
	limits := topology.New(topology.LowLatency).Limits
	earlier := func() time.Time { return due.Add(-20 * time.Minute) }
	room, err := waiting.New(waiting.Config{Store: w.rows, Now: earlier, Limits: waiting.Limits{
		FunctionTimeout: time.Minute, ClockSkew: limits.ClockSkew, MarkCache: limits.MarkCache, LongestPark: limits.LongestPark, LongestDelay: limits.LongestDelay,
	}})
	w.must(err)
	for _, row := range rows {
		if waiting.ParseBucket(row.Bucket).Kind != waiting.Due || time.Until(row.At) < time.Minute {
			continue
		}
		body, err := row.Message()
		w.must(err)
		message, err := delivery.Decode(body)
		w.must(err)
		w.must(room.Hold(w.t.Context(), []waiting.Held{{Message: message, DueAt: due, Trace: row.Trace}})[0])
		w.must(w.rows.Delete(w.t.Context(), []waiting.Ref{row.Ref()})[0])
	}
}

// wake makes a run of the waker, for a point if it is not nil.
func (w *world) wake(p *point) {
	answer, err := w.Functions[topology.Waker].Invoke(w.t.Context(), []byte(`{}`))
	if p != nil {
		w.note(p, "the waker's run ended with %s, %v", answer, err)
	}
}

// source counts what is received again.
func (w *world) source(name topology.FunctionName, q mapping.Queue) mapping.Queue {
	return counted{q, w, name}
}

type counted struct {
	mapping.Queue
	w    *world
	name topology.FunctionName
}

// Receive implements mapping.Queue.
func (c counted) Receive(ctx context.Context, most int, wait time.Duration) ([]mapping.Message, error) {
	messages, err := c.Queue.Receive(ctx, most, wait)
	for _, m := range messages {
		for _, p := range c.w.points {
			if p.mentions([]byte(m.Body)) {
				times := m.Attributes["ApproximateReceiveCount"]
				c.w.note(p, "%s gets message %s, received %s times", c.name, m.ID, times)
				if times != "1" {
					c.w.mu.Lock()
					p.redelivered++
					c.w.mu.Unlock()
				}
			}
		}
	}
	return messages, err
}

// note adds a line to the story of a point.
func (w *world) note(p *point, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell(p, format, args...)
}

// tell is note with w.mu held.
func (w *world) tell(p *point, format string, args ...any) {
	const most = 400
	if len(p.story) < most {
		p.story = append(p.story, fmt.Sprintf("%8.3fs  ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
	}
}

// storyteller takes the lines that functions write.
type storyteller struct{ w *world }

// Write implements io.Writer.
func (s storyteller) Write(line []byte) (int, error) {
	for _, p := range s.w.points {
		if p.mentions(line) {
			s.w.note(p, "log  %s", bytes.TrimSpace(line))
		}
	}
	return len(line), nil
}

// arrived hears of a request at the receiver that is not answered yet, and decides the answer.
func (w *world) arrived(r receiver.Request, _ http.Header) int {
	p, id := w.find(r)
	if p == nil {
		return http.StatusNotFound
	}
	w.mu.Lock()
	p.calls++
	p.tries[id]++
	try, mended, dies := p.tries[id], w.mended, p.dies(arrived, p.tries[id])
	w.tell(p, "HTTP %s, try %d", r.Header.Get("Ce-Id"), try)
	key := w.claimant[id]
	p.armed = p.armed && !dies // once
	if w.under[id]++; w.under[id] > 1 {
		w.breaches = append(w.breaches, fmt.Sprintf("%s: %s was called while another call was under way", p, r.Header.Get("Ce-Id")))
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.under[id]--
	}()
	if w.rowOf(id).State == ledger.Delivered {
		w.mu.Lock()
		w.breaches = append(w.breaches, fmt.Sprintf("%s: %s was called after it was settled as delivered", p, r.Header.Get("Ce-Id")))
		w.mu.Unlock()
	}
	if primes(r.Header.Get("Ce-Id")) {
		<-time.After(crawl)
		return http.StatusOK
	}
	switch {
	case dies:
		w.strike(p, key)
		return receiver.NoAnswer
	case p.scene.again && try == 1:
		w.send(p)
		select {
		case <-p.done:
		case <-time.After(6 * time.Second):
		}
	case try <= p.scene.failing && !(mended && p.scene.status == http.StatusGone):
		if p.scene.status != 0 {
			return p.scene.status
		}
		return http.StatusInternalServerError
	case p.scene.crawling && !mended:
		<-time.After(crawl)
	}
	return http.StatusOK
}

// acted hears of a request that the receiver has acted on and not answered.
func (w *world) acted(r receiver.Request) {
	w.auditor.OnReceived(r.ID, r.Status, r.Digest)
	p, id := w.find(r)
	if p == nil {
		return
	}
	w.mu.Lock()
	if r.Effect {
		p.effects[id]++
	}
	dies := r.Effect && p.dies(acted, p.tries[id])
	key := w.claimant[id]
	p.armed = p.armed && !dies // once
	w.mu.Unlock()
	if dies {
		w.strike(p, key)
	}
}

// dies tells whether a try is the one at which a process dies. world.mu is held.
func (p *point) dies(at stage, try int) bool {
	return p.armed && p.request.operation == "" && p.stage == at && try == max(p.scene.at, 1)
}

// find gives the point and the delivery that a request belongs to, by its path and its event: not by its webhook-id, which may be wrong.
func (w *world) find(r receiver.Request) (*point, delivery.ID) {
	parts := strings.Split(strings.TrimPrefix(r.Path, "/"), "/")
	for _, p := range w.points {
		if len(parts) == 3 && parts[1] == p.id {
			return p, delivery.NewID(tenant, source, r.Header.Get("Ce-Id"), parts[2])
		}
	}
	return nil, ""
}
