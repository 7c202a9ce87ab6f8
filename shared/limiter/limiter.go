// Package limiter keeps the calls to a destination within a rate, over all environments.
//
// A limit is kept as a clock that all environments share: each call is a point in time, and whoever wants to make calls takes the next points, by one write to a
// row of the destination for all its deliveries in a batch. A call is begun at its time or within the burst after it, or not at all. What gets no time soon
// gets a turn in the queue of the destination instead, comes back when it is there, and takes precedence then. README.md in this folder tells it in prose;
// protocol.go has it as pure functions and data.
package limiter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Rules are the times by which a Limiter decides. All environments must have the same, but for LongestWait.
type Rules struct {
	// LongestWait is how far ahead a time for a call may lie for which an invocation waits, at most 1 s. Longer sends fewer deliveries around and keeps invocations
	// open for longer, and with them the deliveries to others that they hold. Default 1 s.
	LongestWait time.Duration
	// Ready is the time from being given a call to being able to make it: the claim lies between. Calls that are not begun in time are lost. Default 100 ms.
	Ready time.Duration
	// ClockSkew is by how much the clocks of environments may differ. A row that is further ahead than that is taken for wrong. Default 10 s.
	ClockSkew time.Duration
	// Overdue is how long after its turn a delivery still asks again at short intervals; after that it queues anew. Default 1 min.
	Overdue time.Duration
	// Horizon is how long the queue may become. What does not fit waits for as long without a turn. Default 7 days.
	Horizon time.Duration
}

func (r Rules) withDefaults() Rules {
	r.LongestWait = cmp.Or(r.LongestWait, backlog)
	r.Ready = cmp.Or(r.Ready, 100*time.Millisecond)
	r.ClockSkew = cmp.Or(r.ClockSkew, 10*time.Second)
	r.Overdue = cmp.Or(r.Overdue, time.Minute)
	r.Horizon = cmp.Or(r.Horizon, 7*24*time.Hour)
	return r
}

// Config configures a Limiter. Store is required.
type Config struct {
	Store Store
	Rules Rules
	// Timeout bounds each write. Default 1 s.
	Timeout time.Duration
	// Pause is how long nothing is asked after a write without an answer; callers get an error at once. It keeps a table that hangs from holding up
	// deliveries to others. Default 2 s.
	Pause time.Duration

	Now    func() time.Time // default time.Now
	Random func() float64   // [0, 1), spreads what asks again; default math/rand
}

// Limiter gives away calls. It is safe for concurrent use.
type Limiter struct {
	cfg Config

	mu      sync.Mutex
	entries map[string]*entry
	failed  time.Time // when a write got no answer
}

// entry is what this environment knows of a destination.
type entry struct {
	row   Row
	rate  Rate        // as it was last asked for
	spare []time.Time // calls of that rate that it has and has not needed yet, ascending

	second time.Time // the second under way
	used   int       // calls needed in it
	before int       // calls needed in the second before
}

// New makes a Limiter. Nothing is written until it is asked.
func New(cfg Config) (*Limiter, error) {
	if cfg.Store == nil {
		return nil, errors.New("limiter: Config.Store is missing: give the driver in shared/limiter/dynamo")
	}
	cfg.Rules = cfg.Rules.withDefaults()
	cfg.Timeout = cmp.Or(cfg.Timeout, time.Second)
	cfg.Pause = cmp.Or(cfg.Pause, 2*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = mathrand.Float64
	}
	if r := cfg.Rules; min(r.LongestWait, r.Ready, r.ClockSkew, r.Overdue, r.Horizon, cfg.Timeout, cfg.Pause) < 0 || r.Ready > r.LongestWait || r.LongestWait > backlog {
		return nil, fmt.Errorf("limiter: a setting is negative, or Rules.Ready longer than LongestWait, or that longer than a second: %+v", cfg)
	}
	return &Limiter{cfg: cfg, entries: map[string]*entry{}}, nil
}

// now is the wall clock: the monotonic one stands still while an environment is frozen.
func (l *Limiter) now() time.Time { return l.cfg.Now().Round(0) }

// Waiting is a delivery that wants to be made.
type Waiting struct {
	// Turn is the one that it was given; zero: none.
	Turn time.Time
	// Held says that it was put aside before, for whatever reason: it goes before those that were not. With a Turn it is taken for granted.
	Held bool
}

func (w Waiting) before(other Waiting) int {
	rank := func(w Waiting) int {
		switch {
		case !w.Turn.IsZero():
			return 0
		case w.Held:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(w), rank(other)), w.Turn.Compare(other.Turn))
}

// Place is what a delivery gets: a call, or a wait.
type Place struct {
	// Call says that it may be made: begun at From, within LongestWait from now, or later, but before Until.
	Call        bool
	From, Until time.Time

	// Back is, without a Call, when to ask again, with Turn.
	Back, Turn time.Time
}

// Places gives each of several deliveries to one destination its place. Those that have waited go first. It costs one write for all that get a call and one for
// all that get a turn, more where environments get in each other's way, and none for calls that were taken in advance. After an error nobody may be
// called: whether the limit would be kept is not known.
func (l *Limiter) Places(ctx context.Context, destination string, rate Rate, waiting []Waiting) ([]Place, error) {
	places, order := make([]Place, len(waiting)), make([]int, len(waiting))
	held := 0
	for i, w := range waiting {
		order[i] = i
		if w.Held || !w.Turn.IsZero() {
			held++
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return waiting[a].before(waiting[b]) })
	calls, err := l.calls(ctx, destination, rate, held, len(waiting)-held)
	if err != nil {
		return nil, err
	}
	for n, at := range calls {
		places[order[n]] = Place{Call: true, From: at, Until: at.Add(rate.window())}
	}
	var queue []int
	now, next := l.now(), l.known(destination).Next
	for _, i := range order[len(calls):] {
		turn := waiting[i].Turn
		if late := now.Sub(turn); !turn.IsZero() && late < l.cfg.Rules.Overdue {
			places[i] = Place{Turn: turn, Back: l.again(now, next, late)}
			continue
		}
		queue = append(queue, i)
	}
	turns, err := l.turns(ctx, destination, rate, len(queue))
	if err != nil {
		return nil, err
	}
	for n, i := range queue {
		places[i] = Place{Turn: turns[n], Back: turns[n]}
		if end := now.Add(l.cfg.Rules.Horizon); turns[n].IsZero() {
			places[i].Back = end
		}
	}
	return places, nil
}

// again is when a delivery asks again that has found no call at its turn: when there is one again, and later each time.
func (l *Limiter) again(now, next time.Time, late time.Duration) time.Time {
	at := now.Add(max(late, time.Second) + time.Duration(l.cfg.Random()*float64(2*time.Second)))
	if next.After(at) && !next.After(now.Add(l.cfg.Rules.Horizon)) {
		return next
	}
	return at
}

// known is the row as it was last seen.
func (l *Limiter) known(destination string) Row {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entry(destination).row
}

// entry gives what is known of a destination. The lock is held.
func (l *Limiter) entry(destination string) *entry {
	e := l.entries[destination]
	if e == nil {
		e = &entry{}
		l.entries[destination] = e
	}
	return e
}

const tries = 8 // each finds that others have moved the row since the one before

// calls takes times for calls, for deliveries that have waited and, where nobody waits, for others. It gives as many as there are.
func (l *Limiter) calls(ctx context.Context, destination string, rate Rate, held, fresh int) (calls []time.Time, err error) {
	calls = l.spare(destination, rate, held, fresh)
	for range tries {
		now, row := l.now(), l.known(destination)
		wanted := held
		if !row.queued(rate, now) {
			wanted += fresh
		}
		if wanted <= len(calls) {
			return calls, nil
		}
		ahead := l.ahead(destination, rate, wanted)
		step, n := rate.callStep(row, wanted-len(calls)+ahead, now, l.cfg.Rules)
		if n == 0 {
			return calls, nil
		}
		if wanted > held || ahead > 0 {
			step.Unqueued, step.QueueEnds = true, now.Add(backlog)
		}
		there, err := l.step(ctx, destination, step)
		if errors.Is(err, ErrRefused) {
			continue
		}
		if err != nil {
			return nil, err
		}
		first := there.Next.Add(-step.By)
		for i := range n {
			calls = append(calls, first.Add(time.Duration(i)*rate.Interval))
		}
		return l.keep(destination, calls, wanted), nil
	}
	return calls, nil
}

// turns takes turns in the queue. Those that do not fit into it are zero.
func (l *Limiter) turns(ctx context.Context, destination string, rate Rate, n int) ([]time.Time, error) {
	turns := make([]time.Time, n)
	if n == 0 {
		return turns, nil
	}
	for range tries {
		now, row := l.now(), l.known(destination)
		step := rate.turnStep(row, n, now, l.cfg.Rules)
		if !step.Afresh && row.Queue.After(step.Until) {
			return turns, nil
		}
		there, err := l.step(ctx, destination, step)
		if errors.Is(err, ErrRefused) {
			continue
		}
		if err != nil {
			return nil, err
		}
		first := there.Queue.Add(-step.By)
		for i := range turns {
			turns[i] = first.Add(time.Duration(i) * rate.spacing())
		}
		return turns, nil
	}
	return nil, fmt.Errorf("no turn in the queue of %.80q: others were faster %d times", destination, tries)
}

// ErrPaused says that nothing was asked, because a call just before got no answer.
var ErrPaused = errors.New("limiter: the table did not answer just now")

// step makes a step, and remembers the row.
func (l *Limiter) step(ctx context.Context, destination string, step Step) (Row, error) {
	l.mu.Lock()
	since := l.now().Sub(l.failed)
	l.mu.Unlock()
	if since >= 0 && since < l.cfg.Pause {
		return Row{}, ErrPaused
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	row, err := l.cfg.Store.Step(ctx, destination, step)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && !errors.Is(err, ErrRefused) {
		l.failed = l.now()
		return Row{}, fmt.Errorf("no call to %.80q could be reserved: %w", destination, err)
	}
	l.entry(destination).row = row
	return row, err
}

// spare gives calls that were taken in advance, and counts what is needed. While others wait in the queue, they are not for deliveries that have not.
func (l *Limiter) spare(destination string, rate Rate, held, fresh int) (calls []time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, now := l.entry(destination), l.now()
	if e.rate != rate {
		e.rate, e.spare = rate, nil
	}
	if second := now.Truncate(time.Second); !second.Equal(e.second) {
		e.before = 0
		if second.Sub(e.second) == time.Second {
			e.before = e.used
		}
		e.second, e.used = second, 0
	}
	e.used += held + fresh
	n := held
	if !e.row.queued(rate, now) {
		n += fresh
	}
	usable := slices.DeleteFunc(e.spare, func(at time.Time) bool { return at.Add(rate.window()).Before(now.Add(l.cfg.Rules.Ready)) })
	n = min(n, len(usable))
	calls, e.spare = usable[:n:n], usable[n:]
	return calls
}

// ahead is how many calls to take beyond those wanted now: what this environment has lately needed within half of the burst's time, so that it need not ask for
// each batch. Those that it does not need in time are lost, which costs the destination less than a burst now and then.
func (l *Limiter) ahead(destination string, rate Rate, wanted int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(destination)
	lately := int(time.Duration(e.before) * min(rate.window()/2, time.Second) / time.Second)
	if !e.row.Queue.Before(l.now()) { // what is scarce is not taken in advance
		return 0
	}
	return min(max(lately-wanted, 0), rate.Burst/2)
}

// keep keeps what was taken in advance.
func (l *Limiter) keep(destination string, calls []time.Time, wanted int) []time.Time {
	if len(calls) <= wanted {
		return calls
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(destination)
	e.spare = append(e.spare, calls[wanted:]...)
	return calls[:wanted:wanted]
}
