package waker_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/functions/waker"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	localsqs "github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/queue/sqs"
	"github.com/waybillhq/waybill/shared/waiting"
	"github.com/waybillhq/waybill/shared/waiting/dynamo"
	"github.com/waybillhq/waybill/shared/waiting/waitingtest"
)

// limits are those of a topology, as an example.
var limits = waiting.Limits{FunctionTimeout: time.Minute, ClockSkew: 5 * time.Second, MarkCache: 5 * time.Minute, LongestPark: 14 * 24 * time.Hour, LongestDelay: 15 * time.Minute}

// region is DynamoDB and SQS over the real protocols and the real SDK, in virtual time, with a room and a waker in front.
type region struct {
	t        *testing.T
	limits   waiting.Limits
	every    time.Duration // from one run to the next
	endpoint *awslocal.Endpoint
	engine   *dynamodb.Service
	queue    *localsqs.Queue
	memory   *waitingtest.Memory
	store    waiting.Store
	sender   queue.Sender
	room     *waiting.Room
	waker    *waker.Waker
	puts     int                                     // calls of Put, through the door memory
	slow     struct{ read, put, scan time.Duration } // what calls take there
	down     error                                   // what they fail with
	closed   map[string]bool                         // destinations that may not receive
	ahead    time.Duration                           // by which the waker's clock is ahead
	total    waker.Report                            // of all runs
}

func (r *region) Drain(_ context.Context, destination string) (waker.Permit, error) {
	return waker.Permit{May: !r.closed[destination]}, nil
}

// door says how the functions reach DynamoDB and SQS.
type door string

const (
	connections door = "connections" // the SDK over HTTP connections in memory
	handler     door = "handler"     // the SDK against the endpoint's handler, without connections: for many calls
	memory      door = "memory"      // a store in memory, and the queue itself: for very many
)

// doer lets the SDK call the endpoint's handler without a connection between them.
type doer struct{ handler http.Handler }

func (d doer) Do(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	d.handler.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}

// direct sends to a queue without the SDK.
type direct struct{ queue *localsqs.Queue }

func (d direct) Send(_ context.Context, messages []queue.Message) []error {
	errs := make([]error, len(messages))
	for i, m := range messages {
		delay := (m.Delay + time.Second - 1).Truncate(time.Second)
		_, errs[i] = d.queue.Send(localsqs.Outgoing{Body: m.Body, GroupID: m.Group, Delay: &delay})
	}
	return errs
}

// inRegion runs a test in a bubble with a region of its own.
func inRegion(t *testing.T, through door, test func(t *testing.T, r *region)) {
	t.Helper()
	inRegionWith(t, limits, time.Minute, through, test)
}

func inRegionWith(t *testing.T, limits waiting.Limits, every time.Duration, through door, test func(t *testing.T, r *region)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &region{t: t, limits: limits, every: every, engine: dynamodb.New(dynamodb.Options{}), closed: map[string]bool{}, memory: waitingtest.NewMemory()}
		queues := localsqs.New(localsqs.Options{Seed: 1})
		r.endpoint = awslocal.New(awslocal.Options{}, r.engine, queues)
		defer func() {
			if err := r.endpoint.Close(); err != nil {
				t.Error(err)
			}
		}()
		var err error
		r.queue, err = queues.CreateQueue("deliveries", map[string]string{"VisibilityTimeout": "360"})
		r.check(err)
		cfg := aws.Config{BaseEndpoint: aws.String("http://awslocal"), HTTPClient: r.endpoint.Client(), Region: awslocal.Region,
			Credentials: credentials.NewStaticCredentialsProvider("any", "thing", "")}
		if through == handler {
			cfg.HTTPClient, cfg.Credentials = doer{r.endpoint}, aws.AnonymousCredentials{}
		}
		r.sender, r.store = direct{r.queue}, &slowStore{Store: r.memory, region: r}
		if through != memory {
			r.sender, r.store = sqs.New(awssqs.NewFromConfig(cfg), r.queue.URL(), sqs.Options{}), r.table(awsdynamodb.NewFromConfig(cfg))
		}
		r.room, err = waiting.New(waiting.Config{Store: r.store, Limits: limits})
		r.check(err)
		r.waker, err = waker.New(waker.Config{
			Store: r.store, Limits: limits, Every: every, Deliveries: r.sender, Destinations: r,
			Now: func() time.Time { return time.Now().Add(r.ahead) }, Logger: slog.New(slog.DiscardHandler),
		})
		r.check(err)
		test(t, r)
	})
}

// table makes the table as the topology declares it.
func (r *region) table(client *awsdynamodb.Client) *dynamo.Store {
	r.t.Helper()
	text := func(name string) types.AttributeDefinition {
		return types.AttributeDefinition{AttributeName: &name, AttributeType: types.ScalarAttributeTypeS}
	}
	_, err := client.CreateTable(r.t.Context(), &awsdynamodb.CreateTableInput{
		TableName: aws.String("waiting"), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{text("bucket"), text("row")},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("bucket"), KeyType: types.KeyTypeHash}, {AttributeName: aws.String("row"), KeyType: types.KeyTypeRange}},
	})
	r.check(err)
	store, err := dynamo.New(client, "waiting", dynamo.Options{})
	r.check(err)
	return store
}

func (r *region) check(errs ...error) {
	r.t.Helper()
	for _, err := range errs {
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// run is one invocation of a minute.
func (r *region) run() waker.Report {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	report, err := r.waker.Run(ctx)
	r.check(err)
	t := &r.total
	t.Moved, t.Late, t.Drained, t.Expired, t.Stray = t.Moved+report.Moved, t.Late+report.Late, t.Drained+report.Drained, t.Expired+report.Expired, t.Stray+report.Stray
	t.LateBy, t.Lag = max(t.LateBy, report.LateBy), max(t.Lag, report.Lag)
	return report
}

// until runs the waker at every full minute until a time.
func (r *region) until(end time.Time) {
	r.t.Helper()
	stop := r.wakes()
	<-time.After(time.Until(end))
	stop()
}

// wakes runs the waker at every full minute, or what is one, until stop is called.
func (r *region) wakes() (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(time.Now().Truncate(r.every).Add(r.every))):
				r.run()
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// arrivals takes what is visible on the queue, and acknowledges it.
func (r *region) arrivals() []delivery.Message {
	r.t.Helper()
	received, err := r.queue.Receive(r.t.Context(), localsqs.ReceiveOptions{Max: 100_000})
	r.check(err)
	var messages []delivery.Message
	for _, got := range received {
		m, err := delivery.Decode(got.Body)
		r.check(err, r.queue.Delete(got.ReceiptHandle))
		messages = append(messages, m)
	}
	return messages
}

// rows counts the rows that wait, without marks and progress.
func (r *region) rows() int {
	r.t.Helper()
	n := 0
	for after, more := (waiting.Cursor{}), true; more; more = after != (waiting.Cursor{}) {
		var names []string
		var err error
		names, after, err = r.store.Buckets(r.t.Context(), after)
		r.check(err)
		for _, name := range names {
			if kind := waiting.ParseBucket(name).Kind; kind != waiting.Due && kind != waiting.Parked {
				continue
			}
			for key, more := "", true; more; more = key != "" {
				page, err := r.store.Read(r.t.Context(), name, key, "", 1000)
				r.check(err)
				n, key = n+len(page.Rows), page.Next
			}
		}
	}
	return n
}

func message(n int, destination string, accepted time.Time) delivery.Message {
	e := events.Event{ID: fmt.Sprint(n), Source: "/waker", Type: "test", Data: []byte(fmt.Sprintf(`{"n":%d}`, n))}
	return delivery.Message{Delivery: delivery.NewID("acme", e.Source, e.ID, destination), Destination: destination, Attempt: 2, Event: e, AcceptedAt: accepted}
}

func (r *region) hold(held ...waiting.Held) {
	r.t.Helper()
	r.check(r.room.Hold(r.t.Context(), held)...)
}

// schedule is the default one of Standard Webhooks.
var schedule = []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour}

// worker is a deliverer whose destination never answers well: it makes an attempt of what arrives and schedules the next.
type worker struct {
	*region
	began    time.Time
	schedule []time.Duration
	attempts []time.Duration
	due      atomic.Int64 // ms, of what is held; 0: nothing is
}

func (w *worker) attempt(m delivery.Message) {
	w.t.Helper()
	if m.Attempt != len(w.attempts)+1 {
		w.t.Fatalf("attempt %d arrives after %d attempts", m.Attempt, len(w.attempts))
	}
	w.attempts = append(w.attempts, time.Since(w.began))
	w.due.Store(0)
	if m.Attempt > len(w.schedule) {
		return
	}
	wait := w.schedule[m.Attempt-1]
	next := m.Successor(wait)
	if wait < w.limits.MinDistance() {
		body, err := next.Encode(delivery.MaxBytes)
		w.check(err)
		w.check(w.sender.Send(w.t.Context(), []queue.Message{{Body: body, Delay: wait}})...)
		return
	}
	due := time.Now().Add(wait)
	w.hold(waiting.Held{Message: next, DueAt: due})
	w.due.Store(due.UnixMilli())
}

// works receives every second until stop is called.
func (w *worker) works() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			received, err := w.queue.Receive(ctx, localsqs.ReceiveOptions{Max: 10, Wait: 20 * time.Second})
			if err != nil {
				return
			}
			for _, got := range received {
				m, err := delivery.Decode(got.Body)
				w.check(err, w.queue.Delete(got.ReceiptHandle))
				w.attempt(m)
			}
		}
	}()
	return func() { cancel(); <-ended }
}

func (w *worker) checkSchedule(late time.Duration) {
	w.t.Helper()
	at := time.Duration(0)
	for i, wait := range append([]time.Duration{0}, w.schedule...) {
		if at += wait; i >= len(w.attempts) {
			w.t.Fatalf("%d attempts, want %d", len(w.attempts), len(w.schedule)+1)
		}
		if off := w.attempts[i] - at; off < 0 || off > late {
			w.t.Errorf("attempt %d at %v, want %v", i+1, w.attempts[i], at)
		}
		at = w.attempts[i]
	}
}

// The retries of three days, every one at its second, with the waker running every minute.
func TestScheduleOfThreeDays(t *testing.T) {
	t.Parallel()
	inRegion(t, memory, func(t *testing.T, r *region) {
		w := &worker{region: r, began: time.Now(), schedule: schedule}
		w.attempt(firstAttempt())
		stop := w.works()
		r.until(w.began.Add(76 * time.Hour))
		stop()
		w.checkSchedule(2 * time.Second)
		if r.total.Moved != 7 || r.total.Late != 0 || r.total.Stray != 0 || r.rows() != 0 {
			t.Errorf("%+v, %d rows are left", r.total, r.rows())
		}
	})
}

// The same through DynamoDB and SQS as the SDK speaks to them. Here the waker is only called when something comes within reach, and now and
// then: every minute would be 80,000 calls.
func TestScheduleOfThreeDaysThroughTheSDK(t *testing.T) {
	t.Parallel()
	inRegion(t, handler, func(t *testing.T, r *region) {
		w := &worker{region: r, began: time.Now(), schedule: schedule}
		w.attempt(firstAttempt())
		stop := w.works()
		for last := w.began; time.Since(w.began) < 76*time.Hour; <-time.After(time.Minute) {
			due := w.due.Load()
			if within := due > 0 && time.Until(time.UnixMilli(due)) < limits.LookAhead()-2*time.Minute; within || time.Since(last) > 5*time.Hour {
				r.run()
				if last = time.Now(); within {
					w.due.CompareAndSwap(due, 0)
				}
			}
		}
		stop()
		w.checkSchedule(2 * time.Second)
		if r.total.Moved != 7 || r.total.Late != 0 || r.total.Stray != 0 || r.rows() != 0 {
			t.Errorf("%+v, %d rows are left", r.total, r.rows())
		}
	})
}

// compressed are the limits of time that runs sixty times as fast.
var compressed = waiting.Limits{FunctionTimeout: time.Second, ClockSkew: 50 * time.Millisecond, MarkCache: 5 * time.Second, LongestPark: 336 * time.Minute, LongestDelay: 15 * time.Second}

// The three days in an hour and a quarter: all distances are sixty times shorter, and the waker runs every second.
func TestScheduleInCompressedTime(t *testing.T) {
	t.Parallel()
	inRegionWith(t, compressed, time.Second, memory, func(t *testing.T, r *region) {
		w := &worker{region: r, began: time.Now()}
		for _, wait := range schedule {
			w.schedule = append(w.schedule, wait/60)
		}
		w.attempt(firstAttempt())
		stop := w.works()
		r.until(w.began.Add(76 * time.Minute))
		stop()
		w.checkSchedule(1100 * time.Millisecond) // a queue delays by whole seconds
		if r.total.Moved != 7 || r.total.Late != 0 || r.total.Stray != 0 || r.total.Lag != 0 || r.rows() != 0 {
			t.Errorf("%+v, %d rows are left", r.total, r.rows())
		}
		for i := range 25 {
			r.hold(parked(i, "orders-crm", time.Now()))
		}
		r.until(time.Now().Add(time.Minute))
		if len(r.arrivals()) != 25 || r.marks() != 0 {
			t.Errorf("%+v, %d marks are left", r.total, r.marks())
		}
	})
}

func firstAttempt() delivery.Message {
	m := message(1, "orders-crm", time.Now())
	m.Attempt = 1
	return m
}

// another is a waker of the same room with another way to the queue.
func (r *region) another(to queue.Sender) *waker.Waker {
	r.t.Helper()
	w, err := waker.New(waker.Config{Store: r.store, Limits: limits, Deliveries: to, Destinations: r, Logger: slog.New(slog.DiscardHandler)})
	r.check(err)
	return w
}

type permits func(destination string) (waker.Permit, error)

func (p permits) Drain(_ context.Context, destination string) (waker.Permit, error) {
	return p(destination)
}

// destinations is a waker of the same room that asks somebody else about destinations.
func (r *region) destinations(p permits) *waker.Waker {
	r.t.Helper()
	w, err := waker.New(waker.Config{Store: r.store, Limits: limits, Deliveries: r.sender, Destinations: p, Logger: slog.New(slog.DiscardHandler)})
	r.check(err)
	return w
}

// hook does something after every send.
type hook struct {
	queue.Sender
	then func()
}

func (h hook) Send(ctx context.Context, messages []queue.Message) []error {
	errs := h.Sender.Send(ctx, messages)
	h.then()
	return errs
}

// slowly takes its time over every send.
type slowly struct {
	queue.Sender
	takes time.Duration
}

func (s slowly) Send(ctx context.Context, messages []queue.Message) []error {
	<-time.After(s.takes)
	return s.Sender.Send(ctx, messages)
}

// slowStore takes its time over every call, and counts.
type slowStore struct {
	waiting.Store
	region *region
	mu     sync.Mutex
}

func (s *slowStore) Put(ctx context.Context, rows []waiting.Row) []error {
	s.mu.Lock()
	s.region.puts++
	s.mu.Unlock()
	if s.region.slow.put > 0 {
		<-time.After(s.region.slow.put)
	}
	return s.Store.Put(ctx, rows)
}

func (s *slowStore) Read(ctx context.Context, bucket, after, before string, limit int) (waiting.Page, error) {
	if s.region.slow.read > 0 {
		<-time.After(s.region.slow.read)
	}
	if s.region.down != nil {
		return waiting.Page{}, s.region.down
	}
	return s.Store.Read(ctx, bucket, after, before, limit)
}

func (s *slowStore) Buckets(ctx context.Context, after waiting.Cursor) ([]string, waiting.Cursor, error) {
	if s.region.slow.scan > 0 {
		<-time.After(s.region.slow.scan)
	}
	return s.Store.Buckets(ctx, after)
}

// TestBlindRunSaysSo: a run that cannot read the watermarks knows nothing of how far behind it is, and its line is the only place where its error can be read.
func TestBlindRunSaysSo(t *testing.T) {
	inRegion(t, handler, func(t *testing.T, r *region) {
		var log bytes.Buffer
		w, err := waker.New(waker.Config{Store: r.store, Limits: limits, Deliveries: r.sender, Destinations: r, Logger: slog.New(slog.NewJSONHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		denied := &wire.Error{Code: "AccessDeniedException", Message: "not today", Status: http.StatusBadRequest}
		fault := r.endpoint.Faults().Add(awslocal.Fault{Service: "dynamodb", Error: denied})
		report, err := w.Run(t.Context())
		if err == nil || !report.Blind || report.Complete {
			t.Errorf("without a table: %+v, %v", report, err)
		}
		if line := log.String(); !strings.Contains(line, `"level":"ERROR"`) || !strings.Contains(line, "read the watermarks") || !strings.Contains(line, "woke deliveries") {
			t.Errorf("the log says %s", line)
		}
		fault.Remove()
		if report, err = w.Run(t.Context()); err != nil || report.Blind {
			t.Errorf("with a table: %+v, %v", report, err)
		}
	})
}
