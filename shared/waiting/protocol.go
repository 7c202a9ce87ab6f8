package waiting

import (
	"errors"
	"fmt"
	"time"

	"github.com/waybillhq/waybill/shared/queue"
)

// Shards is the number of buckets that share an hour or a parked destination, so that neither is bound by what one partition of
// DynamoDB can write in a second, and the number of those that share the marks. A smaller number in a later release makes strays of the rows in shards that are no longer visited.
const Shards = 8

// Limits are the times that everybody who touches the waiting room must agree on. All are required.
type Limits struct {
	// FunctionTimeout is the longest invocation of any function that holds deliveries: a row that it decided to put may arrive that late.
	FunctionTimeout time.Duration
	// ClockSkew is the largest difference between any two clocks.
	ClockSkew time.Duration
	// MarkCache is how long a holder may rely on having marked a destination. Longer costs fewer writes while much is parked, and
	// leaves marks of destinations that have recovered standing for longer.
	MarkCache time.Duration
	// LongestPark is how long a delivery may be parked. Then it goes to the deliverer, whatever the state of its destination, to be given up.
	LongestPark time.Duration
	// LongestDelay is what a queue can delay a message: 15 min on SQS. All distances in time between those who put rows and those who take them
	// derive from it; a demonstration in compressed time makes it shorter.
	LongestDelay time.Duration
}

func (l Limits) problems() []error {
	var problems []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"FunctionTimeout", l.FunctionTimeout}, {"ClockSkew", l.ClockSkew}, {"MarkCache", l.MarkCache}, {"LongestPark", l.LongestPark},
		{"LongestDelay", l.LongestDelay},
	} {
		if d.value <= 0 {
			problems = append(problems, fmt.Errorf("waiting: Limits.%s is %v, must be above 0: take it from the topology", d.name, d.value))
		}
	}
	if l.LongestDelay > queue.MaxDelay {
		problems = append(problems, fmt.Errorf("waiting: Limits.LongestDelay is %v, a queue can delay a message by %v at most", l.LongestDelay, queue.MaxDelay))
	}
	return problems
}

// Validate reports every limit that is missing or out of range, or nil.
func (l Limits) Validate() error { return errors.Join(l.problems()...) }

// The distances in time that keep those who put rows and those who take them apart. README.md tells why they hang together.

// MinDistance is how far ahead a due row must lie when it is put: 15 minutes on SQS. What is due earlier is delayed by the queue itself. It is more
// than LookAhead, so that no row is put where a waker has already looked for rows to send ahead of time.
func (l Limits) MinDistance() time.Duration { return l.LongestDelay }

// LookAhead is how far ahead of its clock the waker moves rows: 10 minutes on SQS. Less than what a queue can delay, so that nothing comes back
// before it is due; as long as possible, so that a waker that fails for minutes makes nothing late.
func (l Limits) LookAhead() time.Duration { return l.LongestDelay * 2 / 3 }

// Slack is added to every time after which nothing can come any more: 5 minutes on SQS.
func (l Limits) Slack() time.Duration { return l.LongestDelay / 3 }

// ScanEvery is the time between two scans for strays: an hour on SQS.
func (l Limits) ScanEvery() time.Duration { return l.LongestDelay * 4 }

// Hour is an hour of UTC, counted from 1970: the time of a due bucket.
type Hour int64

// HourOf is the hour in which t lies.
func HourOf(t time.Time) Hour {
	s := t.Unix()
	if s < 0 {
		s -= 3599 // towards the past, not towards zero
	}
	return Hour(s / 3600)
}

// Start is the hour's first instant.
func (h Hour) Start() time.Time { return time.Unix(int64(h)*3600, 0) }

// End is the first instant after the hour.
func (h Hour) End() time.Time { return (h + 1).Start() }

// TooSoon says that a delivery due at due must not be put into a bucket any more, but be delayed by the queue.
func (l Limits) TooSoon(due, now time.Time) bool { return due.Sub(now) < l.MinDistance() }

// LastHour is the last bucket that a waker visits.
func (l Limits) LastHour(now time.Time) Hour { return HourOf(now.Add(l.LookAhead())) }

// Reach says which rows of an hour a visit at now takes: those due before until, or the whole hour, whatever lies in it.
func (l Limits) Reach(h Hour, now time.Time) (until time.Time, whole bool) {
	until = now.Add(l.LookAhead())
	return until, !until.Before(h.End())
}

// Delay is how long the queue shall delay a delivery that is sent at now and due at due.
func (l Limits) Delay(due, now time.Time) time.Duration {
	return min(max(due.Sub(now), 0), l.LongestDelay)
}

// CloseAfter is how long ago a bucket must have ended before it may be closed: the longest that a put can be under way, seen by clocks that
// differ, and some more.
func (l Limits) CloseAfter() time.Duration { return l.FunctionTimeout + 2*l.ClockSkew + l.Slack() }

// MayClose says whether a bucket needs no more visits, now being the clock before the visit and left the number of rows that were
// there after it. Nothing can be put into it any more, and the visit had the whole of it within reach.
func (l Limits) MayClose(h Hour, now time.Time, left int) bool {
	return left == 0 && now.Sub(h.End()) > l.CloseAfter()
}

// Advance gives the watermark after a visit to the bucket h: buckets are closed one after the other, from the oldest on, so that
// everything before the watermark is closed and nothing else.
func Advance(watermark, h Hour, mayClose bool) Hour {
	if h == watermark && mayClose {
		return h + 1
	}
	return watermark
}

// MayAdvance says whether a store may write the watermark to over the one it holds, if any: only forward. A slow run would
// otherwise undo what a faster one has closed.
func MayAdvance(current Hour, exists bool, to Hour) bool { return !exists || to > current }

// FirstHour is the watermark of a shard that has none: the oldest bucket that a scan begun at began has found, or where rows can
// still arrive that the scan has missed.
func (l Limits) FirstHour(oldest Hour, found bool, began time.Time) Hour {
	first := HourOf(began.Add(-l.CloseAfter()))
	if found {
		first = min(first, oldest)
	}
	return first
}

// MayDelete says whether a row with the given token may be deleted by someone who has read it with the token read. A row that was put again
// since then has another one and must stay: it may be the only trace of its delivery.
func MayDelete(token, read string) bool { return token == read }

// Marked says whether a holder that has marked a destination at written needs no new mark at now before it parks a delivery. A clock that was
// turned back proves nothing.
func (l Limits) Marked(written, now time.Time) bool {
	age := now.Sub(written)
	return age >= 0 && age < l.MarkCache
}

// ClearAfter is how old a mark must be before it may be cleared. A holder may rely on a mark for MarkCache and be under way with a
// row for one invocation more; and an earlier mark may arrive an invocation late and hide the later one that it relies on.
func (l Limits) ClearAfter() time.Duration {
	return l.MarkCache + 2*l.FunctionTimeout + 2*l.ClockSkew + l.Slack()
}

// MayClear says whether the mark of a destination may be deleted, now being the clock before the visit that found that many parked
// rows of it.
func (l Limits) MayClear(written, now time.Time, rows int) bool {
	return rows == 0 && now.Sub(written) > l.ClearAfter()
}

// MayGo says whether a parked delivery goes to the deliverer: when its destination may receive, and when it has been parked
// for too long, so that it is given up instead of forgotten.
func (l Limits) MayGo(mayReceive bool, heldSince, now time.Time) bool {
	return mayReceive || now.Sub(heldSince) >= l.LongestPark
}
