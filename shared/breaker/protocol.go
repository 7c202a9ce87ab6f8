package breaker

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/queue"
)

// Phase is what a destination's row says about it.
type Phase string

// The phases. A destination that is recovering is closed; Row.RecoveringSince tells.
const (
	Closed  Phase = ""        // deliveries pass
	Open    Phase = "open"    // deliveries are held; from Row.Until on, one may become the probe
	Probing Phase = "probing" // the delivery Row.Probe passes until Row.Until, all others are held
)

// Count is what attempts within one slot of time have come to.
type Count struct{ Successes, Failures int }

// Slot is a part of the window in which attempts are counted, numbered from 1970.
type Slot int64

// Row is what all environments know together of one destination. The zero Row is that of a destination that has never failed.
type Row struct {
	Turn  int64 // one more with every move to another phase; counts of an earlier turn are refused
	Phase Phase
	Until time.Time   // open: no probe before; probing: then another may take over
	Probe delivery.ID // probing: the delivery that passes
	Trips int         // failed probes in a row, relapses during recovery included
	// RecoveringSince is when a probe has closed the breaker; zero: never, or long ago.
	RecoveringSince time.Time

	Slots  map[Slot]Count // attempts by time, as far as they were written
	Streak int            // failures since the last success, as far as they were written
	// SucceededAt is when a success was last written that was young then, by the clock of who wrote it; zero: not in this turn.
	SucceededAt time.Time
	// SuspectSince is when what was written became half-way excessive, by the clock of who wrote it; zero: it is not.
	SuspectSince time.Time

	ThrottledAt    time.Time // when the destination asked to be left alone
	ThrottledUntil time.Time // until when

	At time.Time // of the last write
}

// Rules are the numbers that everybody who shares a destination must agree on. Fields that are zero take their default.
type Rules struct {
	// Streak is how many failures in a row open the breaker, whatever time they take. Default 10.
	Streak int
	// Attempts is how many attempts within Window say something about their share of failures. Default 10.
	Attempts int
	// Percent of failures among them opens the breaker. Default 70.
	Percent int
	// Window is the time in which they are counted. Default 60 s.
	Window time.Duration
	// Notice is how long it must have been known that a destination is in trouble before anybody may open the breaker: the time that others need to
	// learn of it and to say what they have seen. Must be more than Config.MaxAge and the second that a read may be behind. Longer costs attempts at the beginning
	// of an outage; shorter lets one broken environment close a destination to all. Default 7 s.
	Notice time.Duration
	// OpenFor is the time from opening to the first probe, ± 20 %. It doubles with every failed probe. Default 30 s.
	OpenFor time.Duration
	// OpenMost bounds that, before jitter. Default 5 min.
	OpenMost time.Duration
	// ProbeFor is the time that a probe has where its context has no deadline, and at most: it must cover the longest invocation and twice ClockSkew.
	// Default 70 s.
	ProbeFor time.Duration
	// ClockSkew is by how much any clock may be wrong. Default 5 s.
	ClockSkew time.Duration
	// RampEvery is the time after which the permit of a recovering destination doubles: that from one run of the waker to the next. Default 1 min.
	RampEvery time.Duration
	// RampFirst is the permit of the first run after recovery. Default 10.
	RampFirst int
	// RampMost ends the ramp: a permit that would not be smaller has no bound. Default 600.
	RampMost int
	// Quiet is how long nothing must have been written of a closed destination before its row is reset. Default 10 min.
	Quiet time.Duration
	// LongestDelay is what the queue can delay. Shorter throttles are waited for there, longer ones parked. Default queue.MaxDelay.
	LongestDelay time.Duration
}

// LongestThrottle bounds for how long a destination can ask to be left alone.
const LongestThrottle = 24 * time.Hour

const (
	slotsPerWindow = 12  // of the last slot only a part has passed, so counts cover 11 to 12 of them
	jitter         = 0.2 // of the time that a breaker is open, up and down
)

// DefaultRules are those for SQS and functions of a minute.
func DefaultRules() Rules { return Rules{}.withDefaults() }

func (r Rules) withDefaults() Rules {
	r.Streak = cmp.Or(r.Streak, 10)
	r.Attempts = cmp.Or(r.Attempts, 10)
	r.Percent = cmp.Or(r.Percent, 70)
	r.Window = cmp.Or(r.Window, time.Minute)
	r.Notice = cmp.Or(r.Notice, 7*time.Second)
	r.OpenFor = cmp.Or(r.OpenFor, 30*time.Second)
	r.OpenMost = cmp.Or(r.OpenMost, 5*time.Minute)
	r.ProbeFor = cmp.Or(r.ProbeFor, 70*time.Second)
	r.ClockSkew = cmp.Or(r.ClockSkew, 5*time.Second)
	r.RampEvery = cmp.Or(r.RampEvery, time.Minute)
	r.RampFirst = cmp.Or(r.RampFirst, 10)
	r.RampMost = cmp.Or(r.RampMost, 600)
	r.Quiet = cmp.Or(r.Quiet, 10*time.Minute)
	r.LongestDelay = cmp.Or(r.LongestDelay, queue.MaxDelay)
	return r
}

// problems reports every rule that is out of range, and every relation that does not hold.
func (r Rules) problems() []error {
	var problems []error
	must := func(holds bool, format string, args ...any) {
		if !holds {
			problems = append(problems, fmt.Errorf("breaker: Rules."+format, args...))
		}
	}
	must(r.Streak > 0, "Streak is %d, must be above 0", r.Streak)
	must(r.Attempts > 0, "Attempts is %d, must be above 0", r.Attempts)
	must(r.Percent > 0 && r.Percent <= 100, "Percent is %d, must be from 1 to 100", r.Percent)
	must(r.Window >= slotsPerWindow*time.Millisecond, "Window is %v, must be at least %v", r.Window, slotsPerWindow*time.Millisecond)
	must(r.Notice > 0, "Notice is %v, must be above 0", r.Notice)
	must(r.OpenFor > 0 && r.OpenFor <= r.OpenMost, "OpenFor is %v, must be above 0 and at most OpenMost, %v", r.OpenFor, r.OpenMost)
	must(r.ClockSkew >= 0, "ClockSkew is %v, must not be negative", r.ClockSkew)
	must(r.ProbeFor > 2*r.ClockSkew, "ProbeFor is %v, must be more than twice ClockSkew, %v", r.ProbeFor, r.ClockSkew)
	must(r.RampEvery > 0, "RampEvery is %v, must be above 0", r.RampEvery)
	must(r.RampFirst > 0, "RampFirst is %d, must be above 0", r.RampFirst)
	must(r.Quiet > r.Window, "Quiet is %v, must be more than Window, %v", r.Quiet, r.Window)
	must(r.LongestDelay > 0 && r.LongestDelay <= queue.MaxDelay, "LongestDelay is %v, must be above 0 and at most %v", r.LongestDelay, queue.MaxDelay)
	return problems
}

// Validate reports every rule that is out of range, or nil. Fields that are zero are not.
func (r Rules) Validate() error { return errors.Join(r.withDefaults().problems()...) }

func (r Rules) slotLength() time.Duration { return r.Window / slotsPerWindow }

// SlotOf is the slot in which t lies.
func (r Rules) SlotOf(t time.Time) Slot { return Slot(t.UnixMilli() / r.slotLength().Milliseconds()) }

func (r Rules) start(s Slot) time.Time {
	return time.UnixMilli(int64(s) * r.slotLength().Milliseconds())
}

// Kept says whether a slot may still matter to anybody's clock. Others are removed when the row is written.
func (r Rules) Kept(s Slot, now time.Time) bool {
	start := r.start(s)
	return !start.Before(now.Add(-r.Window-2*r.ClockSkew)) && !start.After(now.Add(2*r.ClockSkew))
}

// Counted adds up what was written of the last Window. Slots from before a recovery do not count: they tell of the outage that is over.
func (r Rules) Counted(row Row, now time.Time) Count {
	var sum Count
	from := now.Add(-r.Window)
	if row.RecoveringSince.After(from) {
		from = row.RecoveringSince
	}
	for s, c := range row.Slots {
		if start := r.start(s); !start.Before(from) && !start.After(now.Add(2*r.ClockSkew)) {
			sum.Successes += c.Successes
			sum.Failures += c.Failures
		}
	}
	return sum
}

// Known is since when an environment knows what a row says, by its own clock: what it has waited for itself is free of what clocks differ by.
type Known struct {
	Trouble time.Time // that everybody writes successes, by one Row.SuspectSince; zero: it was not so when the row was last seen
	Success time.Time // that Row.SucceededAt is what it is
}

// calm is for how long no success may have been written when failures in a row count: batches of several environments overlap.
func (r Rules) calm() time.Duration { return r.slotLength() }

// Young says whether a success is worth telling apart when it is written.
func (r Rules) Young(success, now time.Time) bool {
	age := now.Sub(success)
	return age >= 0 && age <= r.slotLength()/2
}

// Excessive says whether a closed destination fails so often that it should be left alone: in a row, or by their share.
func (r Rules) Excessive(row Row, known Known, now time.Time) bool {
	calm := row.SucceededAt.IsZero() || now.Sub(row.SucceededAt)-2*r.ClockSkew >= r.calm() || !known.Success.IsZero() && now.Sub(known.Success) >= r.calm()
	c := r.Counted(row, now)
	return row.Streak >= r.Streak && calm || c.share(r.Attempts, r.Percent)
}

func (c Count) share(attempts, percent int) bool {
	n := c.Successes + c.Failures
	return n >= attempts && c.Failures*100 >= n*percent
}

// suspect says whether a closed destination is half-way to being left alone.
func (r Rules) suspect(row Row, now time.Time) bool {
	c := r.Counted(row, now)
	return row.Phase == Closed && (row.Streak*2 >= r.Streak || c.Failures*2 >= r.Attempts && c.Failures*200 >= (c.Successes+c.Failures)*r.Percent)
}

// Everybody says whether environments must write successes too, so that the counts are those of all: half-way to being excessive, and during
// recovery. At other times a batch without a failure writes nothing.
func (r Rules) Everybody(row Row, now time.Time) bool {
	return r.suspect(row, now) || r.recovering(row, now)
}

// Suspect completes what is to be added to a row, as it was last seen, by since when the row is suspect then. Where it is not, the time goes; where a time was left
// over from a suspicion that has ended by itself, a new one begins. So the time changes whenever there may have been an interruption.
func (r Rules) Suspect(seen Row, d Delta, now time.Time) Delta {
	if r.suspect(seen.plus(d), now) {
		d.SuspectSince, d.Afresh = now, !seen.SuspectSince.IsZero() && !r.suspect(seen, now)
	}
	return d
}

// plus is the row with the counts of a delta.
func (row Row) plus(d Delta) Row {
	sum := map[Slot]Count{}
	maps.Copy(sum, row.Slots)
	for s, c := range d.Slots {
		sum[s] = Count{sum[s].Successes + c.Successes, sum[s].Failures + c.Failures}
	}
	if d.Succeeded {
		row.Streak = 0
	}
	row.Slots, row.Streak = sum, row.Streak+d.Streak
	return row
}

// MayOpen says whether an environment may open the breaker: it is excessive, and that it may become so has been known for as long as others need to be heard.
// What the row says of that time counts too, less what clocks may differ by.
func (r Rules) MayOpen(row Row, known Known, now time.Time) bool {
	notice := time.Duration(0)
	if !known.Trouble.IsZero() {
		notice = now.Sub(known.Trouble)
	}
	if !row.SuspectSince.IsZero() {
		notice = max(notice, now.Sub(row.SuspectSince)-2*r.ClockSkew)
	}
	if r.recovering(row, now) {
		notice = max(notice, now.Sub(row.RecoveringSince)-2*r.ClockSkew)
	}
	return row.Phase == Closed && notice >= r.Notice && r.Excessive(row, known, now)
}

// Kind says why a delivery is held.
type Kind string

// The kinds.
const (
	KindOpen      Kind = "breaker-open" // the destination has failed too often
	KindThrottled Kind = "throttled"    // the destination has asked to be left alone for a time
)

// Ruling is what a row says about a delivery.
type Ruling struct {
	Action Action
	Kind   Kind      // of Hold
	Until  time.Time // of Hold: nothing changes by itself before
}

// Action is what is to be done with a delivery.
type Action int

// The actions.
const (
	Pass        Action = iota // make the attempt
	PassAsProbe               // make it: this is the probe
	Hold                      // do not
	Name                      // the delivery may become the probe, if the row can be moved to say so
)

// Rule decides about a delivery by its destination's row. Times that no clock within ClockSkew can have written hold nobody.
func (r Rules) Rule(row Row, id delivery.ID, now time.Time) Ruling {
	lasts := func(until time.Time, most time.Duration) bool {
		left := until.Sub(now)
		return left > 0 && left <= most+2*r.ClockSkew
	}
	named := row.Phase == Probing && lasts(row.Until, r.ProbeFor)
	switch {
	case named && row.Probe == id:
		return Ruling{Action: PassAsProbe}
	case lasts(row.ThrottledUntil, LongestThrottle):
		return Ruling{Hold, KindThrottled, row.ThrottledUntil}
	case row.Phase == Closed:
		return Ruling{Action: Pass}
	case named, row.Phase == Open && lasts(row.Until, r.OpenMost+r.OpenMost/5):
		return Ruling{Hold, KindOpen, row.Until}
	default:
		return Ruling{Action: Name}
	}
}

// Opened is the row after too many failures, or after a failed probe, with random from [0, 1). retryAfter is how long the destination asked to be left
// alone at the same time.
func (r Rules) Opened(row Row, now time.Time, retryAfter time.Duration, random float64) Row {
	next := Row{Turn: row.Turn + 1, Phase: Open, ThrottledAt: row.ThrottledAt, ThrottledUntil: row.ThrottledUntil, At: now}
	if row.Phase == Probing || r.recovering(row, now) {
		next.Trips = row.Trips + 1
	}
	wait := r.OpenMost
	if next.Trips < 32 && r.OpenFor<<next.Trips>>next.Trips == r.OpenFor {
		wait = min(r.OpenFor<<next.Trips, r.OpenMost)
	}
	next.Until = now.Add(time.Duration(float64(wait) * (1 - jitter + 2*jitter*random)))
	return next.throttled(now, retryAfter)
}

func (row Row) throttled(now time.Time, retryAfter time.Duration) Row {
	if until := now.Add(min(retryAfter, LongestThrottle)); retryAfter > 0 && until.After(row.ThrottledUntil) {
		row.ThrottledAt, row.ThrottledUntil = now, until
	}
	return row
}

// Named is the row after a delivery has become the probe, in an invocation that ends at deadline; zero: nobody knows when.
func (r Rules) Named(row Row, id delivery.ID, now, deadline time.Time) Row {
	until := now.Add(r.ProbeFor)
	if end := deadline.Add(2 * r.ClockSkew); !deadline.IsZero() && end.Before(until) {
		until = end
	}
	return Row{Turn: row.Turn + 1, Phase: Probing, Probe: id, Until: until, Trips: row.Trips,
		ThrottledAt: row.ThrottledAt, ThrottledUntil: row.ThrottledUntil, At: now}
}

// Recovered is the row after the probe was delivered.
func (r Rules) Recovered(row Row, now time.Time) Row {
	return Row{Turn: row.Turn + 1, Phase: Closed, Trips: row.Trips, RecoveringSince: now,
		ThrottledAt: row.ThrottledAt, ThrottledUntil: row.ThrottledUntil, At: now}
}

// Released is the row after the probe could not be tried: the next delivery may be it, at once.
func (r Rules) Released(row Row, now time.Time) Row {
	return Row{Turn: row.Turn + 1, Phase: Open, Until: now, Trips: row.Trips,
		ThrottledAt: row.ThrottledAt, ThrottledUntil: row.ThrottledUntil, At: now}
}

// MayReset says whether a closed row holds nothing that matters any more.
func (r Rules) MayReset(row Row, now time.Time) bool {
	blank := len(row.Slots) == 0 && row.SucceededAt.IsZero() && row.Streak == 0 && row.Trips == 0 && row.RecoveringSince.IsZero() && row.ThrottledUntil.IsZero()
	return row.Phase == Closed && !blank && now.Sub(row.At) > r.Quiet+2*r.ClockSkew && !row.ThrottledUntil.After(now) && !r.recovering(row, now)
}

// Reset is the row of a destination that has been healthy for long.
func (r Rules) Reset(row Row, now time.Time) Row { return Row{Turn: row.Turn + 1, At: now} }

// recovering says that the ramp has not come to its end.
func (r Rules) recovering(row Row, now time.Time) bool {
	return row.Phase == Closed && !row.RecoveringSince.IsZero() && r.ramp(row.RecoveringSince, now) > 0
}

// ramp is how many parked deliveries may go in one run, so long after a recovery; 0: no bound.
func (r Rules) ramp(since, now time.Time) int {
	most := r.RampFirst
	for age := now.Sub(since); age >= r.RampEvery && most < r.RampMost; age -= r.RampEvery {
		most *= 2
	}
	if most >= r.RampMost {
		return 0
	}
	return most
}

// Permit says whether parked deliveries may go, and how many in one run of the waker; 0: no bound of ours. Where a probe is due, one may: it will be the probe.
// The end of a throttle that was so long that deliveries were parked is a recovery too.
func (r Rules) Permit(row Row, now time.Time) (may bool, most int) {
	switch r.Rule(row, "", now).Action {
	case Hold, PassAsProbe:
		return false, 0
	case Name:
		return true, 1
	case Pass:
	}
	since := row.RecoveringSince
	if row.ThrottledUntil.Sub(row.ThrottledAt) > r.LongestDelay && row.ThrottledUntil.After(since) {
		since = row.ThrottledUntil
	}
	if since.IsZero() {
		return true, 0
	}
	return true, r.ramp(since, now)
}

// Delay is how long the queue shall delay a delivery that a throttle holds, with random from [0, 1); 0: park it, the throttle is too long. What was held comes
// back spread over as long as the throttle took, so that no more than twice the usual rate arrives.
func (r Rules) Delay(row Row, now time.Time, random float64) time.Duration {
	wait := row.ThrottledUntil.Sub(now)
	if wait <= 0 || wait > r.LongestDelay {
		return 0
	}
	spread := max(row.ThrottledUntil.Sub(row.ThrottledAt), time.Second)
	return min(wait+time.Duration(random*float64(spread)), r.LongestDelay)
}

// BoundedBy is the longest that a destination which has recovered, and wants nothing longer to be left alone, waits for its breaker to close: from
// its recovery until a delivery that is there at any time has been made, if no probe dies. Each that dies adds ProbeFor and twice ClockSkew.
func (r Rules) BoundedBy() time.Duration {
	r = r.withDefaults()
	return r.OpenMost + r.OpenMost/5 + r.ProbeFor + 2*r.ClockSkew
}
