package sqs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// noisyFrom is how many messages in flight make a group of a standard queue noisy.
const noisyFrom = 30

// dedupInterval is how long a FIFO queue remembers a deduplication id.
const dedupInterval = 5 * time.Minute

// group holds the messages of one MessageGroupId that wait to be received: the visible ones and, on a FIFO
// queue, the delayed ones too. All messages without a group share one that is never noisy.
type group struct {
	id       string
	waiting  queueHeap[*item] // in the order of their places in the queue
	members  int              // messages in any state
	inFlight int
	inReady  int
}

func (q *Queue) group(id string) *group {
	g, ok := q.groups[id]
	if !ok {
		g = &group{id: id, inReady: -1, waiting: queueHeap[*item]{
			less:  func(a, b *item) bool { return a.order < b.order },
			place: func(m *item) *int { return &m.inGroup },
		}}
		q.groups[id] = g
	}
	return g
}

// noise ranks a group of a standard queue: quiet ones are 0.
func (g *group) noise() int {
	if g.id == "" || g.inFlight < noisyFrom {
		return 0
	}
	return g.inFlight
}

// before orders the groups that have something to give.
func (q *Queue) before(a, b *group) bool {
	if !q.fifo && a.noise() != b.noise() {
		return a.noise() < b.noise()
	}
	return a.waiting.items[0].order < b.waiting.items[0].order
}

// settle puts the group where it belongs after any change to it: among the ready ones if it has something to give. A FIFO group
// has not while one of its messages is in flight, or its first one is delayed.
func (q *Queue) settle(g *group) {
	first, some := g.waiting.first()
	switch {
	case g.members == 0:
		q.ready.take(g)
		delete(q.groups, g.id)
	case !some, q.fifo && (g.inFlight > 0 || first.state != Visible):
		q.ready.take(g)
	default:
		q.ready.put(g)
	}
}

// dedup is what a FIFO queue remembers of the last five minutes.
type dedup struct {
	seen  map[string]remembered
	order []string // keys, oldest first
}

type remembered struct {
	id, sequence string
	until        time.Time
}

func (d *dedup) remember(key string, m *item, now time.Time) {
	d.forget(now)
	if d.seen == nil {
		d.seen = map[string]remembered{}
	}
	d.seen[key] = remembered{m.id, m.sequence, now.Add(dedupInterval)}
	d.order = append(d.order, key)
}

func (d *dedup) forget(now time.Time) {
	for len(d.order) > 0 && !d.seen[d.order[0]].until.After(now) {
		delete(d.seen, d.order[0])
		d.order = d.order[1:]
	}
}

// admit applies the rules that depend on the queue's type. It gives the earlier message that m repeats, if any.
func (q *Queue) admit(m *item, delay *time.Duration, now time.Time) (*remembered, *wire.Error) {
	if !q.fifo {
		if m.dedupID != "" {
			return nil, invalidParameter("The request include parameter MessageDeduplicationId which is not valid for this queue type")
		}
		return nil, nil
	}
	if delay != nil && *delay != 0 {
		return nil, outOfRange(int(delay.Seconds()), "DelaySeconds", "The request include parameter that is not valid for this queue type.")
	}
	if m.groupID == "" {
		return nil, missingParameter("MessageGroupId")
	}
	if m.dedupID == "" {
		if !q.settings.contentDedup {
			return nil, invalidParameter("The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")
		}
		sum := sha256.Sum256([]byte(m.body))
		m.dedupID = hex.EncodeToString(sum[:])
	}
	q.recent.forget(now)
	if earlier, ok := q.recent.seen[q.dedupKey(m)]; ok {
		return &earlier, nil
	}
	return nil, nil
}

func (q *Queue) dedupKey(m *item) string {
	if q.settings.dedupPerGroup {
		return m.groupID + "\x00" + m.dedupID
	}
	return m.dedupID
}

// sequenceNumber gives the 20 digits that SQS shows for a place in a FIFO queue.
func sequenceNumber(order uint64) string { return fmt.Sprintf("188%017d", order) }
