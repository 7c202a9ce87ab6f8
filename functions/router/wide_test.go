package router_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/functions/router"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/waybill"
)

// slow is a queue that takes ten messages a call, sixteen calls at a time, each for a second or more, and not in the order in which they were given.
type slow struct {
	mu       sync.Mutex
	call     time.Duration
	accepted map[string]int // by event and destination
	total    int
}

func (q *slow) Send(ctx context.Context, messages []queue.Message) []error {
	errs := make([]error, len(messages))
	next := make(chan []int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for entries := range next {
				timer := time.NewTimer(q.call)
				select {
				case <-timer.C:
				case <-ctx.Done():
					timer.Stop()
				}
				for _, i := range entries {
					if errs[i] = ctx.Err(); errs[i] == nil {
						q.accept(messages[i])
					}
				}
			}
		})
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(len(messages)) // the driver sends the largest first
	for entries := range slices.Chunk(order, queue.MaxBatchEntries) {
		next <- entries
	}
	close(next)
	wg.Wait()
	return errs
}

func (q *slow) accept(m queue.Message) {
	_, rest, _ := strings.Cut(m.Body, `"event":{"id":"`) // thousands of messages are not decoded for their ids
	id, _, found := strings.Cut(rest, `"`)
	if !found {
		panic("no event id in " + m.Body)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.accepted[id+" "+m.Group]++
	q.total++
}

// ingress is the queue that the router's messages come from; it remembers copies.
type ingress struct{ sent []queue.Message }

func (q *ingress) Send(_ context.Context, messages []queue.Message) []error {
	q.sent = append(q.sent, messages...)
	return make([]error, len(messages))
}

func (q *ingress) ChangeVisibility(_ context.Context, changes []queue.Visibility) []error {
	return make([]error, len(changes))
}

// changing gives another set of destinations each time.
type changing struct {
	sets []*registry.Set
	next int
}

func (c *changing) Set(context.Context) (*registry.Set, error) {
	set := c.sets[min(c.next, len(c.sets)-1)]
	c.next++
	return set, nil
}

// wanting makes a set of destinations that want everything.
func wanting(t testing.TB, ids ...string) *registry.Set {
	t.Helper()
	var all strings.Builder
	for i, id := range ids {
		if i > 0 {
			all.WriteByte(',')
		}
		fmt.Fprintf(&all, `{"id":%q,"tenant":"*","type":"webhook","webhook":{"url":"https://example.com","secrets":["arn:aws:secretsmanager:eu-central-1:123456789012:secret:waybill/crm-AbCdEf"]}}`, id)
	}
	set, err := registry.Parse([]byte(`{"destinations":[`+all.String()+`]}`), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func numbered(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint("d-", i))
	}
	return ids
}

// follow routes a message and every copy of it, in invocations of 30 s, until none is left. It gives their number.
func follow(t *testing.T, from registry.Source, to queue.Sender, body string) (invocations int) {
	t.Helper()
	r, err := router.New(router.Config{Destinations: from, Deliveries: to, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var source, letters ingress
	h := batch.New(batch.Config{Source: &source, DeadLetter: &letters, MaxReceiveCount: 10, Logger: slog.New(slog.DiscardHandler)}, r.Route)
	m := queue.Message{Body: body}
	for {
		invocations++
		if invocations > 100 {
			t.Fatal("it goes on for ever")
		}
		received := lambda.SQSMessage{MessageId: fmt.Sprint("m", invocations), ReceiptHandle: "r", Body: m.Body, EventSourceARN: "arn:aws:sqs:eu-central-1:123456789012:ingress",
			Attributes:        map[string]string{"ApproximateReceiveCount": "1", "SentTimestamp": fmt.Sprint(time.Now().UnixMilli())},
			MessageAttributes: map[string]lambda.SQSMessageAttribute{}}
		for name, a := range m.Attributes {
			received.MessageAttributes[name] = lambda.SQSMessageAttribute{DataType: a.DataType, StringValue: &a.String, BinaryValue: a.Binary}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		answer, err := h.Handle(ctx, lambda.SQSEvent{Records: []lambda.SQSMessage{received}})
		cancel()
		if err != nil || len(answer.BatchItemFailures) > 0 || len(letters.sent) > 0 {
			t.Fatalf("answer %v, dead letters %v, %v", answer, letters.sent, err)
		}
		if len(source.sent) == 0 {
			return invocations
		}
		m = source.sent[0]
		source.sent = nil
		time.Sleep(m.Delay)
	}
}

// A message with 20,000 deliveries is routed over as many invocations as it takes: each goes on where the last one ended.
func TestWideMessageMakesProgress(t *testing.T) {
	const n, perLoad = 20_000, 640
	set := wanting(t, numbered(n/2)...)
	synctest.Test(t, func(t *testing.T) {
		to := &slow{call: 1500 * time.Millisecond, accepted: map[string]int{}}
		invocations := follow(t, registry.Fixed(set), to, "["+event("1", "t", `1`)+","+event("2", "t", `1`)+"]")
		if len(to.accepted) != n {
			t.Errorf("%d of %d deliveries were sent", len(to.accepted), n)
		}
		// 16 calls of ten in 1.5 s for 28 s make 2,880; at most one load of each invocation is for nothing.
		if invocations < 7 || invocations > 10 {
			t.Errorf("%d invocations", invocations)
		}
		if again := to.total - n; again > perLoad*invocations {
			t.Errorf("%d deliveries were sent again in %d invocations", again, invocations)
		}
	})
}

// A slower queue, and a message of many events.
func TestWideBatchMakesProgress(t *testing.T) {
	set := wanting(t, numbered(300)...)
	var many []string
	for i := range 10 {
		many = append(many, event(fmt.Sprint("e", i), "t", `1`))
	}
	synctest.Test(t, func(t *testing.T) {
		to := &slow{call: 4 * time.Second, accepted: map[string]int{}}
		invocations := follow(t, registry.Fixed(set), to, "["+strings.Join(many, ",")+"]")
		if len(to.accepted) != 3000 || invocations < 3 || invocations > 6 {
			t.Errorf("%d of 3000 deliveries in %d invocations", len(to.accepted), invocations)
		}
	})
}

// Destinations that come and go meanwhile take the event from none that stays.
func TestWideEventWhileDestinationsChange(t *testing.T) {
	ids := numbered(4000)
	var sets []*registry.Set
	for round := range 4 {
		var here []string
		for i, id := range ids {
			switch i % 10 {
			case round: // away in this round
			case 9:
				here = append(here, fmt.Sprint(id, "-new", round), id)
			default:
				here = append(here, id)
			}
		}
		if round%2 == 1 {
			slices.Reverse(here) // order in the file does not matter
		}
		sets = append(sets, wanting(t, here...))
	}
	synctest.Test(t, func(t *testing.T) {
		to := &slow{call: 2500 * time.Millisecond, accepted: map[string]int{}}
		source := &changing{sets: sets}
		follow(t, source, to, event("1", "t", `1`))
		missing := 0
		for i, id := range ids {
			if i%10 >= 4 && to.accepted["1 "+id] == 0 {
				missing++
			}
		}
		if missing > 0 || source.next < 3 {
			t.Errorf("%d destinations were there all the time and have not got the event, after %d invocations", missing, source.next)
		}
	})
}

// Progress is what lies on the queue without a gap, and a place that the message does not have is none.
func TestProgress(t *testing.T) {
	two := "[" + event("a", "t", "1") + "," + event("b", "t", "1") + "]"
	for name, c := range map[string]struct {
		begin  waybill.Progress
		refuse string // event and destination
		sent   []string
		want   waybill.Progress
	}{
		"from the beginning":               {sent: []string{"a d-0", "a d-1", "a d-2", "b d-0", "b d-1", "b d-2"}},
		"in the middle of an event":        {begin: waybill.Progress{After: "d-1"}, sent: []string{"a d-2", "b d-0", "b d-1", "b d-2"}},
		"between events":                   {begin: waybill.Progress{Events: 1}, sent: []string{"b d-0", "b d-1", "b d-2"}},
		"after a destination that is gone": {begin: waybill.Progress{Events: 1, After: "d-05"}, sent: []string{"b d-1", "b d-2"}},
		"at the end":                       {begin: waybill.Progress{Events: 1, After: "d-2"}},
		"past the end":                     {begin: waybill.Progress{Events: 2}, sent: []string{"a d-0", "a d-1", "a d-2", "b d-0", "b d-1", "b d-2"}},
		"a gap":                            {refuse: "a d-1", sent: []string{"a d-0", "a d-2", "b d-0", "b d-1", "b d-2"}, want: waybill.Progress{After: "d-0"}},
		"a gap in the second":              {refuse: "b d-1", begin: waybill.Progress{After: "d-0"}, sent: []string{"a d-1", "a d-2", "b d-0", "b d-2"}, want: waybill.Progress{Events: 1, After: "d-0"}},
		"a gap at once":                    {refuse: "a d-1", begin: waybill.Progress{After: "d-0"}, sent: []string{"a d-2", "b d-0", "b d-1", "b d-2"}, want: waybill.Progress{After: "d-0"}},
	} {
		t.Run(name, func(t *testing.T) {
			to := &outbox{keep: true, refuse: func(m delivery.Message) error {
				if m.Event.ID+" "+m.Destination == c.refuse {
					return errDown
				}
				return nil
			}}
			r, err := router.New(router.Config{Destinations: registry.Fixed(wanting(t, "d-2", "d-0", "d-1")), Deliveries: to, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			var source ingress
			h := batch.New(batch.Config{Source: &source, Logger: slog.New(slog.DiscardHandler)}, r.Route)
			m, _ := waybill.Attach(queue.Message{Body: two}, waybill.Note{Routed: c.begin, EventID: "m"})
			text := m.Attributes[waybill.Attribute].String
			if _, err := h.Handle(t.Context(), lambda.SQSEvent{Records: []lambda.SQSMessage{{MessageId: "m", ReceiptHandle: "r", Body: m.Body,
				MessageAttributes: map[string]lambda.SQSMessageAttribute{waybill.Attribute: {DataType: "String", StringValue: &text}}}}}); err != nil {
				t.Fatal(err)
			}
			var sent []string
			for _, m := range to.sent {
				sent = append(sent, m.Event.ID+" "+m.Destination)
			}
			if !slices.Equal(sent, c.sent) {
				t.Errorf("sent %q, want %q", sent, c.sent)
			}
			if again := len(source.sent) > 0; again != (c.refuse != "") {
				t.Fatalf("sent again: %v", source.sent)
			} else if again {
				_, _, n, err := waybill.Detach(source.sent[0].Body, source.sent[0].Attributes)
				if err != nil || n.Routed != c.want || n.EventID != "m" {
					t.Errorf("note %+v, want progress %+v, %v", n, c.want, err)
				}
			}
		})
	}
}

// A message in whose invocation no time was left waits; one that has come further goes on soon.
func TestContinuesSoonAndWaitsLong(t *testing.T) {
	set := wanting(t, numbered(5000)...)
	synctest.Test(t, func(t *testing.T) {
		to := &slow{call: 2 * time.Second, accepted: map[string]int{}}
		r, err := router.New(router.Config{Destinations: registry.Fixed(set), Deliveries: to, Random: func() float64 { return 0 }, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		wide, behind := record("a", event("1", "t", "1")), record("b", event("2", "t", "1"))
		wide.SentAt, behind.SentAt = time.Now(), time.Now()
		errs := r.Route(ctx, []batch.Record{wide, behind})
		if a, b := outcome.Of(errs[0]), outcome.Of(errs[1]); a.Kind != outcome.Deferred || a.Delay != time.Second || b.Kind != outcome.Deferred || b.Delay != 5*time.Second {
			t.Errorf("%v, %v", errs[0], errs[1])
		}
	})
}
