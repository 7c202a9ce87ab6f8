package limiter

import (
	"time"
)

// Rate is a limit on the calls to one destination: one each Interval on average, and Burst at once after a time without any. Both are above 0.
//
// In any time w by one clock, fewer than Burst + w/Interval + 1 calls are begun, which is Burst + ⌈w/Interval⌉ at most; where the clocks of environments differ
// by s, as many as in w + s by one clock.
type Rate struct {
	Interval time.Duration
	Burst    int
}

// window is how long after its time a call may still be begun.
func (r Rate) window() time.Duration { return time.Duration(r.Burst) * r.Interval }

// floor is the earliest time for a call that may be given away at now: early enough that a whole burst can be begun at once, and late enough that there is time
// left to claim what is called for.
func (r Rate) floor(now time.Time, ready time.Duration) time.Time {
	return now.Add(ready - time.Duration(r.Burst-1)*r.Interval)
}

// spacing is the time between two turns of the queue: a little more than between two calls. What comes back at its turn must find room also when others have
// come late, or when calls were given away that nobody made.
func (r Rate) spacing() time.Duration { return r.Interval + r.Interval/9 + 1 }

// Row is what all environments share of a destination. A limit has the form of a clock, as in GCRA: each call is a point in time, Interval after the one before.
type Row struct {
	Next  time.Time // the first time for a call that was not given away
	Queue time.Time // the first turn in the queue that was not given away
	// Interval is the Rate's for which turns were given away. Those of another rate say nothing.
	Interval time.Duration
}

// queued tells whether so many wait that others must queue behind them.
func (row Row) queued(rate Rate, now time.Time) bool {
	return row.Interval == rate.Interval && row.Queue.After(now.Add(backlog))
}

// backlog is how long a queue may be behind which nobody has to queue: its end must be found again.
const backlog = time.Second

// Kind says what a Step takes.
type Kind int

// The kinds.
const (
	Calls Kind = iota // times for calls: moves Next
	Turns             // turns in the queue: moves Queue
)

// Step is one change of a row, made at once or not at all: it gives By of time away, from where the row stands on or, Afresh, from From on.
type Step struct {
	Kind   Kind
	Afresh bool
	From   time.Time // afresh: where to begin. The row must stand before it or be of no use; else it must not stand before it
	Until  time.Time // not afresh: the row must not stand after it
	Beyond time.Time // of calls, afresh: a row that stands after it is of no use, such as one of a slower rate
	By     time.Duration

	Interval  time.Duration // of the rate. Turns of another one are of no use
	Unqueued  bool          // of calls: refused where the queue ends after QueueEnds
	QueueEnds time.Time
	Expires   time.Time // when the row may be removed if nothing more is written
}

// Apply makes the step, if the row permits it. It is what a Store does atomically.
func (s Step) Apply(row Row) (Row, bool) {
	if s.Kind == Turns {
		useless := row.Queue.IsZero() || row.Queue.Before(s.From) || row.Interval != s.Interval
		if useless != s.Afresh || !s.Afresh && row.Queue.After(s.Until) {
			return row, false
		}
		if s.Afresh {
			row.Queue, row.Interval = s.From, s.Interval
		}
		row.Queue = row.Queue.Add(s.By)
		return row, true
	}
	if s.Unqueued && row.Interval == s.Interval && row.Queue.After(s.QueueEnds) {
		return row, false
	}
	useless := row.Next.IsZero() || row.Next.Before(s.From) || row.Next.After(s.Beyond)
	if useless != s.Afresh || !s.Afresh && row.Next.After(s.Until) {
		return row, false
	}
	if s.Afresh {
		row.Next = s.From
	}
	row.Next = row.Next.Add(s.By)
	return row, true
}

// callStep takes times for up to n calls none of which is later than latest. It gives how many they are; 0: there are none now.
func (r Rate) callStep(row Row, n int, now time.Time, rules Rules) (Step, int) {
	latest := now.Add(rules.LongestWait)
	s := Step{
		Kind: Calls, From: r.floor(now, rules.Ready), Beyond: now.Add(backlog + r.Interval + rules.ClockSkew), Interval: r.Interval, Expires: now.Add(rules.Horizon + keep),
	}
	s.Afresh = row.Next.IsZero() || row.Next.Before(s.From) || row.Next.After(s.Beyond)
	first := row.Next
	if s.Afresh {
		first = s.From
	}
	if first.After(latest) {
		return s, 0
	}
	n = min(n, int(latest.Sub(first)/r.Interval)+1)
	s.By = time.Duration(n) * r.Interval
	s.Until = latest.Add(-time.Duration(n-1) * r.Interval)
	return s, n
}

// turnStep takes n turns in the queue.
func (r Rate) turnStep(row Row, n int, now time.Time, rules Rules) Step {
	s := Step{
		Kind: Turns, From: now, Until: now.Add(rules.Horizon), By: time.Duration(n) * r.spacing(), Interval: r.Interval, Expires: now.Add(rules.Horizon + keep),
	}
	if row.Next.After(now) && !row.Next.After(now.Add(backlog+r.Interval+rules.ClockSkew)) {
		s.From = row.Next // all calls before it are given away
	}
	s.Afresh = row.Queue.IsZero() || row.Queue.Before(s.From) || row.Interval != r.Interval
	return s
}

// keep is for how long a row stays after all that it says has passed.
const keep = 24 * time.Hour
