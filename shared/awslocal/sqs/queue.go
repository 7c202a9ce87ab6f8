package sqs

import (
	"cmp"
	"container/list"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// senderID stands for the one user of this endpoint.
const senderID = "AIDALOCALENDPOINT000"

// State says where a message is in its life.
type State int

// The states of a message.
const (
	Visible State = iota
	Delayed
	InFlight
)

// String gives "visible", "delayed" or "in flight".
func (s State) String() string { return [...]string{"visible", "delayed", "in flight"}[s] }

// Queue is one queue.
type Queue struct {
	service        *Service
	name, url, arn string
	fifo           bool
	created        time.Time

	// All below is guarded by service.mu.
	settings settings
	modified time.Time
	purged   time.Time
	gone     bool

	messages map[string]*item
	groups   map[string]*group
	ready    queueHeap[*group] // groups that have something to give, the first to be served in front
	due      queueHeap[*item]  // delayed and in flight, by when that ends
	age      queueHeap[*item]  // everything, oldest first
	count    [3]int            // messages by state
	waiters  *list.List        // of chan struct{}: receives that found nothing, longest waiting first
	alarm    *time.Timer       // wakes them when the first of due is due
	alarmAt  time.Time
	recent   dedup
}

// item is a message in a queue.
type item struct {
	id, body, bodyMD5            string
	attributes                   map[string]AttributeValue
	attributesMD5                string
	groupID, dedupID, trace      string
	sequence                     string // FIFO queues only
	source                       string // the queue whose redrive policy moved it here
	sent, enqueued, firstReceive time.Time
	receives, receivesHere       int // over its life; in this queue

	order                 uint64
	state                 State
	due, received         time.Time
	receipt               uint64 // of the latest receive
	home                  *group
	inGroup, inDue, inAge int
}

func (s *Service) newQueue(name string, fifo bool, now time.Time) *Queue {
	q := &Queue{
		service: s, name: name, arn: s.arn(name), fifo: fifo, created: now,
		url:      s.opts.BaseURL + "/" + s.opts.AccountID + "/" + name,
		settings: defaults(fifo),
		waiters:  list.New(),
	}
	q.clear()
	return q
}

// clear forgets all messages.
func (q *Queue) clear() {
	q.messages, q.groups, q.count = map[string]*item{}, map[string]*group{}, [3]int{}
	q.ready = queueHeap[*group]{less: q.before, place: func(g *group) *int { return &g.inReady }}
	q.due = queueHeap[*item]{
		less:  func(a, b *item) bool { return a.due.Before(b.due) },
		place: func(m *item) *int { return &m.inDue },
	}
	q.age = queueHeap[*item]{
		less:  func(a, b *item) bool { return a.enqueued.Before(b.enqueued) },
		place: func(m *item) *int { return &m.inAge },
	}
}

// Name gives the queue's name.
func (q *Queue) Name() string { return q.name }

// URL gives the queue's URL.
func (q *Queue) URL() string { return q.url }

// ARN gives the queue's ARN.
func (q *Queue) ARN() string { return q.arn }

// FIFO reports whether it is a FIFO queue.
func (q *Queue) FIFO() bool { return q.fifo }

// VisibilityTimeout gives how long a received message stays hidden unless the receive says otherwise.
func (q *Queue) VisibilityTimeout() time.Duration {
	q.service.mu.Lock()
	defer q.service.mu.Unlock()
	return q.settings.visibility
}

// Depth counts messages by state.
type Depth struct{ Visible, Delayed, InFlight int }

// Total gives the number of messages.
func (d Depth) Total() int { return d.Visible + d.Delayed + d.InFlight }

// Depth gives how many messages are in the queue now.
func (q *Queue) Depth() Depth {
	q.service.mu.Lock()
	defer q.service.mu.Unlock()
	q.advance(time.Now())
	return Depth{q.count[Visible], q.count[Delayed], q.count[InFlight]}
}

// Held is a message in a queue.
type Held struct {
	Message
	State State
	Due   time.Time // when the delay or the visibility timeout ends; zero for a visible message
}

// Snapshot gives every message in the queue, oldest place first. It receives nothing: counts stay.
func (q *Queue) Snapshot() []Held {
	q.service.mu.Lock()
	defer q.service.mu.Unlock()
	return q.snapshot(time.Now())
}

func (q *Queue) snapshot(now time.Time) []Held {
	q.advance(now)
	items := slices.SortedFunc(func(yield func(*item) bool) {
		for _, m := range q.messages {
			if !yield(m) {
				return
			}
		}
	}, func(a, b *item) int { return cmp.Compare(a.order, b.order) })
	held := make([]Held, 0, len(items))
	for _, m := range items {
		held = append(held, Held{Message: m.message(""), State: m.state, Due: m.due})
	}
	return held
}

// Drop removes a message behind everybody's back, as a fault would: nobody is told.
func (q *Queue) Drop(messageID string) bool {
	q.service.mu.Lock()
	defer q.service.mu.Unlock()
	m, ok := q.messages[messageID]
	if ok {
		q.remove(m)
	}
	return ok
}

// Send puts a message on the queue. A FIFO queue that has seen its deduplication id within five
// minutes adds nothing and answers with the earlier message's id.
func (q *Queue) Send(o Outgoing) (Message, error) {
	m, err := q.send(o)
	if err != nil {
		return Message{}, err
	}
	return m, nil
}

func (q *Queue) send(o Outgoing) (Message, *wire.Error) {
	sizeBytes, err := o.check()
	if err != nil {
		return Message{}, err
	}
	m := &item{
		body: o.Body, bodyMD5: md5Hex(o.Body), attributes: o.MessageAttributes, attributesMD5: md5OfAttributes(o.MessageAttributes),
		groupID: o.GroupID, dedupID: o.DeduplicationID, trace: o.TraceHeader,
	}
	s := q.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.gone {
		return Message{}, noQueue()
	}
	if limit := q.settings.maxMessageBytes; sizeBytes > limit {
		return Message{}, invalidParameter("One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", limit)
	}
	now := time.Now()
	q.advance(now)
	if earlier, err := q.admit(m, o.Delay, now); err != nil || earlier != nil {
		if err != nil {
			return Message{}, err
		}
		m.id, m.sequence = earlier.id, earlier.sequence
		return m.message(""), nil
	}
	delay := q.settings.delay
	if o.Delay != nil && !q.fifo {
		delay = *o.Delay
	}
	m.id, m.sent, m.enqueued = s.newID(), now, now
	if s.opts.OnSend != nil {
		s.opts.OnSend(q.name, m.message(""))
	}
	q.insert(m, now.Add(delay), now)
	if q.fifo {
		q.recent.remember(q.dedupKey(m), m, now)
	}
	return m.message(""), nil
}

// insert adds a message that becomes visible at the given time.
func (q *Queue) insert(m *item, visibleAt, now time.Time) {
	s := q.service
	m.order, m.inGroup, m.inDue, m.inAge = s.next(), -1, -1, -1
	if q.fifo {
		m.sequence = sequenceNumber(m.order)
	} else if s.opts.Disorder.Reorder > s.rand.Float64() {
		m.order += s.rand.Uint64N(32)
	}
	q.messages[m.id] = m
	q.age.put(m)
	m.home = q.group(m.groupID)
	m.home.members++
	m.state = -1
	if visibleAt.After(now) {
		q.enter(m, Delayed, visibleAt)
	} else {
		q.enter(m, Visible, time.Time{})
	}
	q.wake()
}

// enter puts the message into a state that ends at due and keeps every index right.
func (q *Queue) enter(m *item, state State, due time.Time) {
	q.leave(m)
	m.state, m.due = state, due
	q.count[state]++
	switch state {
	case Visible:
		m.due = time.Time{}
		m.home.waiting.put(m)
	case InFlight:
		m.home.inFlight++
		q.due.put(m)
	case Delayed:
		q.due.put(m)
		if q.fifo { // holds up its group
			m.home.waiting.put(m)
		}
	}
	q.settle(m.home)
	q.arm()
}

// leave takes the message out of its state.
func (q *Queue) leave(m *item) {
	if m.state < 0 {
		return
	}
	q.count[m.state]--
	if m.state == InFlight {
		m.home.inFlight--
	}
	q.due.take(m)
	m.home.waiting.take(m)
	m.state = -1
}

// remove takes the message out of the queue.
func (q *Queue) remove(m *item) {
	q.leave(m)
	q.age.take(m)
	delete(q.messages, m.id)
	m.home.members--
	q.settle(m.home)
	q.wake()
}

// advance does what time has brought: delays and visibility timeouts that ended, messages beyond retention.
func (q *Queue) advance(now time.Time) {
	for m, ok := q.age.first(); ok && now.Sub(m.enqueued) >= q.settings.retention; m, ok = q.age.first() {
		q.remove(m)
	}
	for m, ok := q.due.first(); ok && !m.due.After(now); m, ok = q.due.first() {
		q.enter(m, Visible, time.Time{})
	}
}

// ReceiveOptions say what to receive.
type ReceiveOptions struct {
	Max        int            // 0 is 1; there is no upper limit, unlike over the wire (10)
	Wait       time.Duration  // how long to wait for the first message
	Visibility *time.Duration // nil takes the queue's
}

// Receive takes messages off the queue until their visibility timeout ends. It waits, for at most o.Wait, until
// there is at least one, and takes what is there. On a timeout it gives none; when ctx ends, its error.
func (q *Queue) Receive(ctx context.Context, o ReceiveOptions) ([]Message, error) {
	s := q.service
	deadline := time.Now().Add(o.Wait)
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			q.wake() // what woke this call may be for another
			return nil, err
		}
		if q.gone {
			return nil, noQueue()
		}
		now := time.Now()
		q.advance(now)
		if got := q.take(max(o.Max, 1), o.Visibility, now); len(got) > 0 {
			q.wake()
			return got, nil
		}
		if !now.Before(deadline) {
			if o.Wait == 0 && !q.fifo && q.count[InFlight] >= s.opts.MaxInFlight {
				return nil, wire.Errorf("OverLimit", "The maximum number of in flight messages is reached: %d.", s.opts.MaxInFlight)
			}
			return nil, nil
		}
		q.wait(ctx, deadline.Sub(now))
	}
}

// wait gives up the lock until the queue has something, for at most d.
func (q *Queue) wait(ctx context.Context, d time.Duration) {
	woken := make(chan struct{})
	place := q.waiters.PushBack(woken)
	q.arm()
	q.service.mu.Unlock()
	timer := time.NewTimer(d)
	select {
	case <-woken:
	case <-timer.C:
	case <-ctx.Done():
	}
	timer.Stop()
	q.service.mu.Lock()
	q.waiters.Remove(place)
}

// wake lets one waiting receive look again if there is something for it. That one wakes the next.
func (q *Queue) wake() {
	if _, ok := q.ready.first(); ok && q.count[InFlight] < q.service.opts.MaxInFlight {
		q.signal()
	}
}

func (q *Queue) signal() {
	if front := q.waiters.Front(); front != nil {
		close(q.waiters.Remove(front).(chan struct{}))
	}
}

// arm sets the alarm to when the next delay or visibility timeout ends, if somebody waits for that.
func (q *Queue) arm() {
	first, ok := q.due.first()
	if !ok || q.waiters.Len() == 0 || first.due.Equal(q.alarmAt) {
		return
	}
	if q.alarm != nil {
		q.alarm.Stop()
	}
	q.alarmAt = first.due
	q.alarm = time.AfterFunc(time.Until(first.due), func() {
		q.service.mu.Lock()
		defer q.service.mu.Unlock()
		q.alarmAt = time.Time{}
		q.advance(time.Now())
		q.wake()
		q.arm()
	})
}

// take gives out up to n messages, and moves to the dead-letter queue those that were given out too often.
func (q *Queue) take(n int, visibility *time.Duration, now time.Time) []Message {
	hidden := q.settings.visibility
	if visibility != nil {
		hidden = *visibility
	}
	var got []Message
	for len(got) < n && q.count[InFlight] < q.service.opts.MaxInFlight {
		g, ok := q.ready.first()
		if !ok {
			break
		}
		// A FIFO group gives in one receive all it may; after that its messages in flight close it.
		for len(got) < n && q.count[InFlight] < q.service.opts.MaxInFlight {
			m, ok := g.waiting.first()
			if !ok || m.state != Visible {
				break
			}
			if q.exhausted(m, now) {
				continue
			}
			got = append(got, q.give(m, hidden, now))
			if !q.fifo {
				break
			}
		}
	}
	return got
}

// give hands the message out.
func (q *Queue) give(m *item, hidden time.Duration, now time.Time) Message {
	m.receives++
	m.receivesHere++
	m.received, m.receipt = now, q.service.next()
	if m.firstReceive.IsZero() {
		m.firstReceive = now
	}
	if s := q.service; !q.fifo && s.opts.Disorder.Duplicate > s.rand.Float64() {
		hidden = 0
	}
	q.enter(m, InFlight, now.Add(hidden))
	return m.message(q.handle(m))
}

// Delete deletes a received message. On a standard queue a handle that is no longer the latest, or whose message is gone, is
// no error and does nothing; a FIFO queue refuses a handle whose visibility timeout is over.
func (q *Queue) Delete(receiptHandle string) error {
	if err := q.delete(receiptHandle); err != nil {
		return err
	}
	return nil
}

func (q *Queue) delete(receiptHandle string) *wire.Error {
	id, receipt, err := q.parse(receiptHandle)
	if err != nil {
		return err
	}
	q.service.mu.Lock()
	defer q.service.mu.Unlock()
	if q.gone {
		return noQueue()
	}
	q.advance(time.Now())
	m, ok := q.messages[id]
	switch {
	case !ok:
		return nil
	case q.fifo && (m.state != InFlight || m.receipt != receipt):
		return staleHandle(receiptHandle, "The receipt handle has expired.")
	case m.receipt == receipt:
		q.remove(m)
	}
	return nil
}

// ChangeVisibility hides a message in flight for d from now, or shows it at once if d is 0. Counted from
// its receive, no message is hidden for more than 12 hours.
func (q *Queue) ChangeVisibility(receiptHandle string, d time.Duration) error {
	if err := q.changeVisibility(receiptHandle, d); err != nil {
		return err
	}
	return nil
}

func (q *Queue) changeVisibility(receiptHandle string, d time.Duration) *wire.Error {
	seconds := int(d / time.Second)
	if d < 0 || d > MaxVisibility {
		return outOfRange(seconds, "VisibilityTimeout", "Must be between 0 and 43200.")
	}
	id, receipt, err := q.parse(receiptHandle)
	if err != nil {
		return err
	}
	q.service.mu.Lock()
	defer q.service.mu.Unlock()
	if q.gone {
		return noQueue()
	}
	now := time.Now()
	q.advance(now)
	m, ok := q.messages[id]
	switch {
	case !ok || m.receipt != receipt:
		return staleHandle(receiptHandle, "Message does not exist or is not available for visibility timeout change.")
	case m.state != InFlight:
		return simple("MessageNotInflight", "The message referred to isn't in flight.")
	case now.Sub(m.received).Truncate(time.Second)+d > MaxVisibility:
		return outOfRange(seconds, "VisibilityTimeout", "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]")
	}
	q.enter(m, InFlight, now.Add(d))
	q.advance(now)
	q.wake()
	return nil
}

// Purge deletes all messages, in flight ones too. It is refused within 60 seconds of the last time.
func (q *Queue) Purge() error {
	q.service.mu.Lock()
	defer q.service.mu.Unlock()
	now := time.Now()
	if !q.purged.IsZero() && now.Sub(q.purged) < time.Minute {
		return simple("PurgeQueueInProgress", "Only one PurgeQueue operation on %s is allowed every 60 seconds.", q.name)
	}
	q.purged = now
	q.clear()
	return nil
}

// handle gives the receipt handle of the message's latest receive.
func (q *Queue) handle(m *item) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s %s %d", q.name, m.id, m.receipt))
}

func (q *Queue) parse(handle string) (id string, receipt uint64, err *wire.Error) {
	text, decodeErr := base64.StdEncoding.DecodeString(handle)
	parts := strings.Split(string(text), " ")
	if decodeErr != nil || len(parts) != 3 || parts[0] != q.name {
		return "", 0, invalidHandle(handle)
	}
	receipt, parseErr := strconv.ParseUint(parts[2], 10, 64)
	if parseErr != nil {
		return "", 0, invalidHandle(handle)
	}
	return parts[1], receipt, nil
}

// message gives what a receiver sees.
func (m *item) message(handle string) Message {
	system := make(map[string]string, 8)
	set := func(name, value string) {
		if value != "" {
			system[name] = value
		}
	}
	set("SenderId", senderID)
	set("SentTimestamp", milliseconds(m.sent))
	set("ApproximateReceiveCount", strconv.Itoa(m.receives))
	set("MessageGroupId", m.groupID)
	set("MessageDeduplicationId", m.dedupID)
	set("SequenceNumber", m.sequence)
	set("AWSTraceHeader", m.trace)
	set("DeadLetterQueueSourceArn", m.source)
	if !m.firstReceive.IsZero() {
		set("ApproximateFirstReceiveTimestamp", milliseconds(m.firstReceive))
	}
	return Message{
		MessageID: m.id, ReceiptHandle: handle, Body: m.body, MD5OfBody: m.bodyMD5, Attributes: system,
		MessageAttributes: m.attributes, MD5OfMessageAttributes: m.attributesMD5,
	}
}

func milliseconds(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
