package deliverer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/functions/deliverer"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/ledgertest"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/waiting"
	"github.com/waybillhq/waybill/shared/waybill"
)

// held is a message on the simulated queue.
type held struct {
	message  queue.Message
	visible  time.Time
	receives int
}

// chaos is a deliveries queue, its dead-letter queue, a ledger and receivers that misbehave at random for a while, and remembers what
// must never happen.
type chaos struct {
	mu      sync.Mutex
	random  *rand.Rand
	faults  bool
	queue   map[int]*held
	next    int
	letters map[delivery.ID]int
	rows    *ledgertest.Memory
	t       *testing.T

	busy     map[string]bool // deliveries with a call under way
	calls    map[delivery.ID]int
	effects  map[delivery.ID]int
	relaxed  map[delivery.ID]bool
	disabled map[string]time.Time // until when, by destination
	wrong    []string
}

type deadKey struct{}

// environment is one invocation of a function; killed, nothing that it does has an effect any more.
type environment struct {
	mu     sync.Mutex
	killed bool
}

func (e *environment) dead() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.killed
}

var errDead = errors.New("the environment is dead")

// strikes tells whether a fault of the given probability happens now, and whether the environment that asks is dead.
func (c *chaos) strikes(ctx context.Context, p float64) (bool, error) {
	if e, ok := ctx.Value(deadKey{}).(*environment); ok && e.dead() {
		return false, errDead
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faults && c.random.Float64() < p, nil
}

func (c *chaos) pause(ctx context.Context, most time.Duration) {
	c.mu.Lock()
	wait := time.Duration(c.random.Float64() * c.random.Float64() * float64(most))
	c.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

// end is one end of a queue.
type end struct {
	*chaos
	letters bool
}

func (q end) Send(ctx context.Context, messages []queue.Message) []error {
	q.pause(ctx, 3*time.Second)
	errs := make([]error, len(messages))
	for i, m := range messages {
		refused, err := q.strikes(ctx, 0.1)
		if errs[i] = err; err != nil {
			continue
		}
		if refused {
			errs[i] = errDown
			continue
		}
		q.put(m, q.letters)
		if lost, _ := q.strikes(ctx, 0.05); lost {
			errs[i] = errors.New("the answer is lost")
		}
	}
	return errs
}

// Hold is the waiting room with its waker, and with a person who enables destinations within the hour. It wakes late.
func (c *chaos) Hold(ctx context.Context, held []waiting.Held) []error {
	c.pause(ctx, time.Second)
	errs := make([]error, len(held))
	for i, h := range held {
		refused, err := c.strikes(ctx, 0.1)
		if errs[i] = err; err != nil {
			continue
		}
		if refused {
			errs[i] = errDown
			continue
		}
		m, due := h.Message, h.DueAt
		if m.DueAt = due; h.Parked {
			m.DueAt, due = time.Time{}, time.Now().Add(time.Hour)
		}
		body, err := m.Encode(delivery.MaxBytes)
		if err != nil {
			errs[i] = err
			continue
		}
		c.put(queue.Message{Body: body, Group: m.Destination, Delay: time.Until(due) + time.Minute}, false)
		if lost, _ := c.strikes(ctx, 0.05); lost {
			errs[i] = errors.New("the answer is lost")
		}
	}
	return errs
}

// destinationsOf is the registry as one worker sees it.
type destinationsOf struct {
	*chaos
	set *registry.Set
}

func (d destinationsOf) Set(context.Context) (*registry.Set, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	states := map[string]registry.State{}
	for id, until := range d.disabled {
		if time.Now().Before(until) {
			states[id] = registry.State{Disabled: until.Add(-time.Hour)}
		}
	}
	return d.set.WithStates(states), nil
}

func (d destinationsOf) Disable(ctx context.Context, id, _ string) (bool, error) {
	if refused, err := d.strikes(ctx, 0.1); refused || err != nil {
		return false, errors.Join(err, errDown)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, already := d.disabled[id]
	d.disabled[id] = time.Now().Add(time.Hour)
	return !already, nil
}

func (c *chaos) put(m queue.Message, letter bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if letter {
		body, _, _, _ := waybill.Detach(m.Body, m.Attributes)
		d, err := delivery.Decode(body)
		if err != nil {
			c.wrong = append(c.wrong, err.Error())
		}
		c.letters[d.Delivery]++
		return
	}
	c.next++
	c.queue[c.next] = &held{message: m, visible: time.Now().Add(m.Delay.Round(time.Second))}
}

func (q end) ChangeVisibility(ctx context.Context, changes []queue.Visibility) []error {
	errs := make([]error, len(changes))
	for i, change := range changes {
		refused, err := q.strikes(ctx, 0.1)
		if errs[i] = err; err == nil && !refused {
			q.mu.Lock()
			n, _ := strconv.Atoi(change.Receipt)
			if h := q.queue[n]; h != nil {
				h.visible = time.Now().Add(change.After)
			}
			q.mu.Unlock()
		}
	}
	return errs
}

// receive gives up to five messages that are visible, and hides most of them.
func (c *chaos) receive() (e lambda.SQSEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := 1; n <= c.next && len(e.Records) < 5; n++ {
		h := c.queue[n]
		if h == nil || h.visible.After(time.Now()) {
			continue
		}
		if h.receives++; h.receives > 10 {
			c.wrong = append(c.wrong, "a message was counted out")
		}
		if !c.faults || c.random.Float64() > 0.05 { // else it is delivered twice
			h.visible = time.Now().Add(360 * time.Second)
		}
		r := lambda.SQSMessage{MessageId: fmt.Sprint("m", n), ReceiptHandle: strconv.Itoa(n), Body: h.message.Body, EventSourceARN: "arn:aws:sqs:x:1:deliveries",
			Attributes: map[string]string{"ApproximateReceiveCount": strconv.Itoa(h.receives), "SentTimestamp": "1", "MessageGroupId": h.message.Group}, MessageAttributes: map[string]lambda.SQSMessageAttribute{}}
		for name, a := range h.message.Attributes {
			r.MessageAttributes[name] = lambda.SQSMessageAttribute{DataType: a.DataType, StringValue: &a.String, BinaryValue: a.Binary}
		}
		e.Records = append(e.Records, r)
	}
	return e
}

// faulty is the ledger behind a network that loses requests and answers.
type faulty struct{ *chaos }

func through[In, Out any](c *chaos, ctx context.Context, in []In, do func(context.Context, []In) []Out, fail func(error) Out) []Out {
	c.pause(ctx, time.Second)
	out := make([]Out, len(in))
	for i := range in {
		lost, err := c.strikes(ctx, 0.15)
		if err == nil && lost {
			err = ledger.ErrThrottled
		}
		if err != nil {
			out[i] = fail(fmt.Errorf("%w: %w", ledger.ErrUnknown, err))
			continue
		}
		out[i] = do(context.WithoutCancel(ctx), in[i:i+1])[0]
		if lost, _ := c.strikes(ctx, 0.1); lost {
			out[i] = fail(ledger.ErrUnknown)
		}
	}
	return out
}

func sameError(err error) error { return err }

func (f faulty) Claim(ctx context.Context, in []ledger.Claim) []ledger.Answer {
	return through(f.chaos, ctx, in, f.rows.Claim, func(err error) ledger.Answer { return ledger.Answer{Err: err} })
}
func (f faulty) Settle(ctx context.Context, in []ledger.Settlement) []error {
	return through(f.chaos, ctx, in, f.rows.Settle, sameError)
}
func (f faulty) Release(ctx context.Context, in []ledger.Release) []error {
	return through(f.chaos, ctx, in, f.rows.Release, sameError)
}
func (f faulty) Record(ctx context.Context, in []ledger.Settlement) []error {
	return through(f.chaos, ctx, in, f.rows.Record, sameError)
}
func (f faulty) Read(ctx context.Context, in []delivery.ID) []ledger.Reading {
	return through(f.chaos, ctx, in, f.rows.Read, func(err error) ledger.Reading { return ledger.Reading{Err: err} })
}

func (c *chaos) row(id delivery.ID) ledger.Item { return c.rows.Harness().Rows(c.t)[id] }

// call is the receivers' side: it holds every call against what must never happen.
func (c *chaos) call(ctx context.Context, a downstream.Attempt) downstream.Result {
	if _, err := c.strikes(ctx, 0); err != nil {
		return downstream.Result{Verdict: downstream.NotStarted}
	}
	id := delivery.ID(a.PublicID)
	row := c.row(id)
	c.mu.Lock()
	c.calls[id]++
	if strict := !c.relaxed[id]; strict && row.State == ledger.Delivered {
		c.wrong = append(c.wrong, fmt.Sprintf("%s was called after it was settled as delivered", id))
	} else if strict && c.busy[a.PublicID] {
		c.wrong = append(c.wrong, fmt.Sprintf("%s was called twice at once", id))
	} else if strict && row.State != ledger.Claimed {
		c.wrong = append(c.wrong, fmt.Sprintf("%s was called without a claim: %+v", id, row))
	}
	c.busy[a.PublicID] = true
	dice := c.random.Float64()
	c.mu.Unlock()
	c.pause(ctx, 20*time.Second)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, a.PublicID)
	switch {
	case ctx.Err() != nil:
		return downstream.Result{Verdict: downstream.Retry, Reason: downstream.ReasonTimeout}
	case dice < 0.5:
		c.effects[id]++
		return downstream.Result{Verdict: downstream.Delivered, Code: 200}
	case dice < 0.8:
		return downstream.Result{Verdict: downstream.Retry, Code: 500, Reason: "http-500", RetryAfter: time.Duration(dice*30) * time.Minute}
	case dice < 0.85 && c.faults:
		panic("receiver")
	case dice < 0.9 && c.faults:
		return downstream.Result{Verdict: downstream.Gone, Code: 410, Reason: "http-410"}
	case dice < 0.97:
		return downstream.Result{Verdict: downstream.Retry, Code: 503, Reason: "http-503"}
	}
	return downstream.Result{Verdict: downstream.Reject, Code: 400, Reason: "http-400"}
}

// worker polls and invokes until stop is closed.
func (c *chaos) worker(set *registry.Set, skew time.Duration, stop <-chan struct{}) {
	now := func() time.Time { return time.Now().Add(skew) }
	books, err := ledger.New(ledger.Config{Store: faulty{c}, LeaseGrace: 12 * time.Second, LongestLease: 70 * time.Second, TTL: time.Hour, Now: now})
	if err != nil {
		panic(err)
	}
	deliveries, letters := end{chaos: c}, end{chaos: c, letters: true}
	quiet := slog.New(slog.DiscardHandler)
	d, err := deliverer.New(deliverer.Config{
		Destinations: destinationsOf{c, set}, Disabler: destinationsOf{c, set}, Room: c, Ledger: books, Adapter: downstream.Mux{registry.TypeWebhook: downstream.Each(10, c.call)},
		Deliveries: deliveries, DeadLetters: letters, Headroom: headroom, LongestPark: longestPark, Now: now, Logger: quiet,
	})
	if err != nil {
		panic(err)
	}
	h := batch.New(batch.Config{Source: deliveries, DeadLetter: letters, MaxReceiveCount: 10, Headroom: 2 * time.Second, Logger: quiet}, d.Deliver)
	for {
		select {
		case <-stop:
			return
		case <-time.After(5 * time.Second):
		}
		if e := c.receive(); len(e.Records) > 0 {
			c.invoke(h, e)
		}
	}
}

// invoke runs one invocation, kills some of them, and deletes what the answer allows.
func (c *chaos) invoke(h *batch.Handler, e lambda.SQSEvent) {
	env := &environment{}
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), deadKey{}, env), 60*time.Second)
	defer cancel()
	if dies, _ := c.strikes(ctx, 0.1); dies {
		c.mu.Lock()
		after := time.Duration(c.random.Float64() * float64(25*time.Second))
		c.mu.Unlock()
		defer time.AfterFunc(after, func() {
			env.mu.Lock()
			env.killed = true
			env.mu.Unlock()
			cancel()
		}).Stop()
	}
	answer, err := h.Handle(ctx, e)
	if lost, _ := c.strikes(ctx, 0.05); err != nil || lost || env.dead() {
		return
	}
	failed := map[string]bool{}
	for _, f := range answer.BatchItemFailures {
		failed[f.ItemIdentifier] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range e.Records {
		if !failed[r.MessageId] {
			n, _ := strconv.Atoi(r.ReceiptHandle)
			delete(c.queue, n)
		}
	}
}

// TestRandomFaults lets three environments with clocks 8 s apart work on 30 deliveries, each of which is on the queue twice, while queues, ledger,
// receivers and environments fail at random for two hours, and then no more. Nothing is lost or stuck; at strict
// destinations no call is made without a claim, beside another one, or after delivered was settled; without faults every call is an attempt.
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(4) {
		for _, faults := range []bool{true, false} {
			t.Run(fmt.Sprintf("seed %d, faults %t", seed, faults), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { play(t, seed, faults) })
			})
		}
	}
}

func play(t *testing.T, seed uint64, faults bool) {
	c := &chaos{
		random: rand.New(rand.NewPCG(seed, 1)), faults: faults, queue: map[int]*held{}, letters: map[delivery.ID]int{}, rows: ledgertest.NewMemory(), t: t,
		busy: map[string]bool{}, calls: map[delivery.ID]int{}, effects: map[delivery.ID]int{}, relaxed: map[delivery.ID]bool{}, disabled: map[string]time.Time{},
	}
	set := destinations(t)
	var ids []delivery.ID
	for n := range 30 {
		m := message(fmt.Sprint(n), []string{"crm", "slow", "easy"}[n%3])
		c.relaxed[m.Delivery] = m.Destination == "easy"
		ids = append(ids, m.Delivery)
		body, err := m.Encode(delivery.MaxBytes)
		if err != nil {
			t.Fatal(err)
		}
		c.put(queue.Message{Body: body, Group: m.Destination}, false)
		c.put(queue.Message{Body: body, Group: m.Destination}, false)
	}
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for _, skew := range []time.Duration{-4 * time.Second, 0, 4 * time.Second} {
		workers.Go(func() { c.worker(set, skew, stop) })
	}
	time.Sleep(2 * time.Hour)
	c.mu.Lock()
	c.faults = false
	c.mu.Unlock()
	for began := time.Now(); time.Since(began) < 200*time.Hour; time.Sleep(10 * time.Minute) {
		c.mu.Lock()
		left := len(c.queue)
		c.mu.Unlock()
		if left == 0 {
			break
		}
	}
	close(stop)
	workers.Wait()
	for _, wrong := range c.wrong {
		t.Error(wrong)
	}
	for n, h := range c.queue {
		t.Errorf("stuck: message %d, received %d times: %.300s", n, h.receives, h.message.Body)
	}
	for _, id := range ids {
		row := c.row(id)
		switch {
		case row.State == ledger.Delivered && c.effects[id] == 0:
			t.Errorf("%s is settled as delivered without an effect", id)
		case row.State != ledger.Delivered && c.letters[id] == 0:
			t.Errorf("%s is lost: %+v after %d calls", id, row, c.calls[id])
		case !faults && !c.relaxed[id] && c.calls[id] != row.Attempt:
			t.Errorf("%s: %d calls for %d attempts without any fault", id, c.calls[id], row.Attempt)
		}
	}
}
