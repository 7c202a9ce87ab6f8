package chaos

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"
)

// share is a choice and its weight among others.
type share struct {
	name   string
	weight int
}

func (d dice) pick(shares []share, name ...any) string {
	total := 0
	for _, s := range shares {
		total += s.weight
	}
	n := d.of(name...).IntN(total)
	for _, s := range shares {
		if n -= s.weight; n < 0 {
			return s.name
		}
	}
	return ""
}

// What can become of a request to AWS besides its answer.
const (
	crashBefore  = "crash before"      // the environment dies, the request has no effect
	crashAfter   = "crash after"       // the request takes effect, then the environment dies
	lostRequest  = "request lost"      // no effect, no answer
	lostAnswer   = "answer lost"       // effect, no answer
	broken       = "error 500"         // no effect
	throttled    = "throttled"         // no effect
	partial      = "part refused"      // statements or entries fail one by one
	twice        = "performed twice"   // effect, and once more
	slowAnswer   = "answer late"       // effect at once, answer after up to a minute
	outageBegins = "outage begins"     // no effect, and of none of its kind for up to a minute
	lateEffect   = "takes effect late" // no answer, effect within half a minute
)

// requestDisasters are what requests to AWS suffer.
var requestDisasters = []share{
	{crashBefore, 4}, {crashAfter, 5}, {lostRequest, 2}, {lostAnswer, 4}, {broken, 2}, {throttled, 2}, {partial, 3}, {twice, 1}, {slowAnswer, 2}, {lateEffect, 2}, {outageBegins, 3},
}

// chances is how likely a request for a step suffers something: rare steps suffer more often, so that all are met.
var chances = map[string]float64{
	stepClaim: 0.10, stepReclaim: 0.08, stepRead: 0.08, stepSettle: 0.12, stepRecord: 0.12, stepRelease: 0.8, stepSuccessor: 0.12, stepOutcome: 0.5,
	stepBury: 0.2, stepResend: 0.06, stepHide: 0.15, stepRoute: 0.12, stepRefuse: 0.3, stepNotice: 0.3, stepMark: 0.25, stepPut: 0.25,
	stepState: 0.02, stepMarks: 0.004, stepDue: 0.004, stepParked: 0.01, stepWake: 0.25, stepDelete: 0.25, stepAdvance: 0.05, stepSaveScan: 0.05, stepScan: 0.03,
	stepRegistry: 0.02, stepDisable: 0.2, stepHealth: 0.01, stepProbe: 0.25, stepCount: 0.1, stepMove: 0.2, stepPace: 0.01, stepLate: 0.1, stepPassOn: 0.4, stepLimit: 0.2,
}

// What a receiver can do.
const (
	fine        = "200"
	failing     = "500"
	throttling  = "429"
	rejecting   = "400"
	gone        = "410"
	resetting   = "reset"
	hanging     = "hangs"
	slow        = "slow"
	crawling    = "200, but late"
	crashAtCall = "crash during the call"
	crashActed  = "crash after the call"
)

// answers are what receivers do while disasters last.
var answers = []share{
	{fine, 130}, {failing, 26}, {throttling, 8}, {rejecting, 3}, {gone, 2}, {resetting, 6}, {hanging, 4}, {slow, 8}, {crashAtCall, 6}, {crashActed, 8},
}

// What can happen when a mapping receives or deletes.
const (
	duplicated = "SQS delivers twice"
	ackLost    = "acknowledgement lost"
	reordered  = "SQS reorders"
)

const (
	duplicateChance = 0.06
	ackLostChance   = 0.05
)

// What lasts.
const (
	ledgerDown       = "ledger down"
	roomDown         = "waiting room down"
	registryDown     = "registry unreachable"
	sendsDown        = "SQS refuses sends"
	hidesDown        = "SQS refuses changes of visibility"
	wakerDown        = "waker outage"
	destinationDown  = "destination outage"
	destinationGone  = "destination gone, enabled later"
	destinationSlow  = "destination answers slowly"
	paused           = "destination paused, resumed later"
	pausedAtWake     = "destination paused while the waker sends"
	refusing         = "PartiQL refused"
	breakerOpened    = "breaker opened"
	burst            = "burst of events into an outage"
	passedOn         = "deliveries passed on to the slow lane"
	rolledBack       = "release rolled back"
	nativeRedrive    = "native redrive"
	toolRedrive      = "redrive by the program"
	clockSkewed      = "clock off by more than 1 s"
	clockJumped      = "clock jumps"
	producerRepeated = "producer sends twice"
	largeEvent       = "event of 600 KB"
	poison           = "malformed message"
	replayed         = "replay under the same id"
	replayedAnew     = "replay under a new id"
	removed          = "destination removed, added later"
	refiledSchedule  = "destination gets another schedule"
	refiledMode      = "destination changes its ledger mode"
	refiledPattern   = "destination wants other events"
	frozenLong       = "environment frozen for more than a minute"
	frozenAtWork     = "environment frozen while it waits for AWS"
	reclaimed        = "environment taken away while frozen"
	brokenIdle       = "connection dead after a freeze"
)

// windows are what lasts, or happens once, at times that the seed draws.
var windows = []share{
	{ledgerDown, 3}, {roomDown, 3}, {registryDown, 3}, {sendsDown, 2}, {wakerDown, 5}, {destinationDown, 6}, {destinationGone, 4}, {paused, 5}, {rolledBack, 4},
	{nativeRedrive, 5}, {toolRedrive, 2}, {destinationSlow, 4}, {refusing, 3},
}

// durations are between which bounds a window lasts; long ones now and then.
var durations = map[string]struct{ least, most, long time.Duration }{
	ledgerDown: {time.Minute, 8 * time.Minute, 20 * time.Minute}, roomDown: {time.Minute, 20 * time.Minute, 2 * time.Hour},
	registryDown: {time.Minute, 10 * time.Minute, 25 * time.Minute}, sendsDown: {time.Minute, 5 * time.Minute, 10 * time.Minute},
	wakerDown: {10 * time.Minute, 3 * time.Hour, 12 * time.Hour}, destinationDown: {time.Minute, 3 * time.Hour, 7 * 24 * time.Hour},
	destinationGone: {time.Minute, 4 * time.Hour, 7 * 24 * time.Hour}, paused: {time.Minute, 3 * time.Hour, 7 * 24 * time.Hour},
	rolledBack: {5 * time.Minute, time.Hour, 3 * time.Hour}, destinationSlow: {time.Minute, time.Hour, 24 * time.Hour},
	refusing: {time.Minute, 30 * time.Minute, 6 * time.Hour},
}

// window is something that lasts.
type window struct {
	what, target string
	from, to     time.Time
	how          string // of a destination outage: what the receiver does
	struck       bool
}

func (w *window) covers(now time.Time) bool { return !now.Before(w.from) && now.Before(w.to) }

// keyOf is a short name of a disaster that stays the same when others are left out.
func keyOf(parts ...any) string {
	h := fnv.New32a()
	_, _ = fmt.Fprintln(h, parts...)
	return fmt.Sprintf("%08x", h.Sum32())
}

// mask says which disasters may strike: all, or none but these.
type mask struct {
	only []string
	on   bool
}

func (m mask) lets(key string) bool { return !m.on || slices.Contains(m.only, key) }
