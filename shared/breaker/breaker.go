// Package breaker keeps deliveries from destinations that fail, or that have asked to be left alone, so that neither attempts nor time are spent on them,
// and lets them through again at a rate that a destination that has just recovered can bear.
//
// The rules are in protocol.go as pure functions and data; README.md in this folder tells them in prose. All environments share a row per destination. A
// Breaker counts in memory what becomes of attempts, and writes it once a batch, for destinations in trouble only. It is an optimisation: what it cannot read
// or write never keeps a delivery from being made.
package breaker

import (
	"cmp"
	"context"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
)

// Config configures a Breaker. Store is required.
type Config struct {
	Store Store
	Rules Rules

	// MaxAge is how old the rows in memory may be before all are read again, with one query: how long it takes until an opening is known
	// everywhere. Longer costs fewer reads. Default 5 s.
	MaxAge time.Duration
	// Recheck is how old a row may be by which a delivery is held for an open breaker: then it is read again, consistently, so that a probe is
	// known wherever it turns up. Longer costs fewer reads. Default 1 s.
	Recheck time.Duration
	// WriteEvery is the time between two writes of counts for one destination. What is counted between them is written with the next. Default 1 s.
	WriteEvery time.Duration
	// Timeout bounds each reading, each write of Gate, and all writes of one Flush together. Longer survives slower answers and takes more of an
	// invocation. Default 2 s.
	Timeout time.Duration
	// Pause is how long nothing is read after a reading that failed, and nothing written for a destination after a write that did. Default 5 s.
	Pause time.Duration

	// Now and Random may be called from any goroutine.
	Now    func() time.Time // default time.Now. Ages are taken by the wall clock: environments are frozen between invocations
	Random func() float64   // [0, 1), for jitter; default math/rand
	// OnChange hears of every move of a breaker that this environment has made, from any goroutine. It must be quick. Default: nobody does.
	OnChange func(Change)
	// OnProblem hears of everything that could not be read or written, from any goroutine. It must be quick. Default: nobody does.
	OnProblem func(error)
}

// Change is a move of one destination's breaker.
type Change struct {
	Destination string
	From, To    Phase
	Trips       int         // failed probes in a row
	Until       time.Time   // of an open breaker: no probe before
	Probe       delivery.ID // of a breaker that is probing
}

// Breaker knows which destinations to leave alone. It is safe for concurrent use.
type Breaker struct {
	cfg Config

	mu      sync.Mutex
	entries map[string]*entry
	dirty   map[string]struct{} // destinations with counts that may have to be written
	began   time.Time           // when the last reading of all rows that succeeded began; zero: nothing was read yet
	pause   time.Time           // nothing is read before
	flight  chan struct{}       // the reading of all rows that is under way; nil: none
}

// New makes a Breaker. The error lists every setting that is missing or out of range. Nothing is read until it is asked.
func New(cfg Config) (*Breaker, error) {
	cfg.Rules = cfg.Rules.withDefaults()
	problems := cfg.Rules.problems()
	if cfg.Store == nil {
		problems = append(problems, errors.New("breaker: Config.Store is missing: give the driver in shared/breaker/dynamo"))
	}
	cfg.MaxAge = cmp.Or(cfg.MaxAge, 5*time.Second)
	if cfg.Rules.Notice <= cfg.MaxAge {
		problems = append(problems, errors.New("breaker: Rules.Notice is not longer than Config.MaxAge: others would not be heard before a breaker opens"))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	cfg.Recheck = cmp.Or(cfg.Recheck, time.Second)
	cfg.WriteEvery = cmp.Or(cfg.WriteEvery, time.Second)
	cfg.Timeout = cmp.Or(cfg.Timeout, 2*time.Second)
	cfg.Pause = cmp.Or(cfg.Pause, 5*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = mathrand.Float64
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func(Change) {}
	}
	if cfg.OnProblem == nil {
		cfg.OnProblem = func(error) {}
	}
	return &Breaker{cfg: cfg, entries: map[string]*entry{}, dirty: map[string]struct{}{}}, nil
}

// now is the wall clock.
func (b *Breaker) now() time.Time { return b.cfg.Now().Round(0) }

// Decision says whether an attempt may be made. Give it back with what came of the attempt, to Batch.Record.
type Decision struct {
	Pass bool
	// Probe says that the attempt finds out whether the destination has recovered. If it fails, park the delivery without counting the attempt.
	Probe bool

	// Kind, Until and Delay are of a delivery that is held: why, until when nothing changes by itself, and for how long the queue shall delay it. Delay 0: park it.
	Kind  Kind
	Until time.Time
	Delay time.Duration

	turn  int64 // of the row by which it passes
	blind bool  // it passes because nothing could be read or written: what comes of it is not counted
}

// Report says what has happened in a batch.
type Report struct {
	Held      int // deliveries held for an open breaker: attempts saved
	Throttled int // deliveries held because the destination has asked for it
	Probes    int // attempts made to find out whether a destination has recovered
	Blind     int // deliveries that passed because the store did not answer
	Opened    int // breakers opened by this environment, after failures or a failed probe
	Recovered int // breakers closed by this environment
	Failed    int // readings and writes that failed
}

// Batch is the breaker for one batch of deliveries. It is safe for concurrent use.
type Batch struct {
	*Breaker
	report Report
	probes []*probe
}

// probe is one that passes in this batch.
type probe struct {
	destination string
	row         Row  // that names it
	owned       bool // it was named here: what comes of it is known here, or nowhere
	result      result
	retryAfter  time.Duration
	told        bool // the result is written or being written, or somebody else has moved the row
}

// Begin begins a batch. End must be called at its end, whatever happens.
func (b *Breaker) Begin() *Batch { return &Batch{Breaker: b} }

// Gate decides whether an attempt at a delivery may be made. Call it last of all gates, right before the claim: it may make this delivery the probe. While
// the destination is healthy it answers from memory.
func (b *Batch) Gate(ctx context.Context, destination string, id delivery.ID) Decision {
	now := b.now()
	b.mu.Lock()
	b.renew(ctx, now, &b.report)
	e := b.entries[destination]
	if e == nil {
		b.mu.Unlock()
		return Decision{Pass: true}
	}
	if e.row.Phase == Closed && !e.row.ThrottledUntil.After(now) && !e.throttledUntil.After(now) {
		turn := e.row.Turn
		b.mu.Unlock()
		return Decision{Pass: true, turn: turn}
	}
	v := view{destination: destination, row: e.effective(), read: e.read, mute: e.pausing(now, b.cfg.Pause)}
	b.mu.Unlock()
	return b.decide(ctx, v, id)
}

// view is what a decision is made by.
type view struct {
	destination string
	row         Row
	read        time.Time
	mute        bool // the store does not answer
}

// decide is Gate for a destination that is in trouble.
func (b *Batch) decide(ctx context.Context, v view, id delivery.ID) Decision {
	const tries = 3 // each finds that others have moved the row since the one before
	var named Row   // as it was written here, as far as is known
	for range tries {
		now := b.now()
		if age := now.Sub(v.read); v.row.Phase != Closed && !v.mute && (age < 0 || age >= b.cfg.Recheck) {
			b.recheck(ctx, &v, now)
		}
		ruling := b.cfg.Rules.Rule(v.row, id, now)
		if ruling.Action == Hold {
			return b.hold(v.row, ruling, now)
		}
		if ruling.Action == Pass {
			return Decision{Pass: true, turn: v.row.Turn}
		}
		deadline, _ := ctx.Deadline()
		next := b.cfg.Rules.Named(v.row, id, now, deadline)
		switch {
		case ruling.Action == PassAsProbe && (v.mute || !next.Until.After(v.row.Until.Add(time.Millisecond))):
			return b.passAsProbe(v, named.Turn > 0 && v.row.Same(named))
		case ruling.Action == PassAsProbe: // it was named in another invocation, which ends earlier: this one names it again
		case v.mute:
			return b.passBlindly()
		}
		named = next
		if b.name(ctx, &v, named, now) {
			return b.passAsProbe(v, true)
		}
	}
	return b.hold(v.row, Ruling{Hold, KindOpen, b.now()}, b.now())
}

// recheck reads the row again, consistently.
func (b *Batch) recheck(ctx context.Context, v *view, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	fresh, err := b.cfg.Store.Get(ctx, v.destination)
	if err != nil {
		v.mute = true
		b.failed(v.destination, now, err)
		return
	}
	v.row, v.read = b.install(v.destination, fresh, now), now
}

// name makes a delivery the probe, or learns what the row has become meanwhile. Where the answer was lost, the row must be read again.
func (b *Batch) name(ctx context.Context, v *view, next Row, now time.Time) bool {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	was := v.row
	there, err := b.cfg.Store.Move(ctx, v.destination, was, next)
	if err != nil && !errors.Is(err, ErrRefused) {
		v.read, v.mute = time.Time{}, errors.Is(err, ErrThrottled)
		b.failed(v.destination, now, err)
		return false
	}
	v.row, v.read = b.install(v.destination, there, now), now
	if err != nil && !there.Same(next) {
		return false
	}
	b.changed(v.destination, was, next)
	return true
}

func (b *Batch) passBlindly() Decision {
	b.note(func(r *Report) { r.Blind++ })
	return Decision{Pass: true, blind: true}
}

func (b *Batch) passAsProbe(v view, owned bool) Decision {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.report.Probes++
	for _, p := range b.probes {
		if p.destination == v.destination && p.row.Turn == v.row.Turn {
			return Decision{Pass: true, Probe: true, turn: v.row.Turn} // a copy in the same batch
		}
	}
	b.probes = append(b.probes, &probe{destination: v.destination, row: v.row, owned: owned})
	return Decision{Pass: true, Probe: true, turn: v.row.Turn}
}

func (b *Batch) hold(row Row, ruling Ruling, now time.Time) Decision {
	d := Decision{Kind: ruling.Kind, Until: ruling.Until}
	if ruling.Kind == KindThrottled {
		d.Delay = b.cfg.Rules.Delay(row, now, b.cfg.Random())
		b.note(func(r *Report) { r.Throttled++ })
		return d
	}
	b.note(func(r *Report) { r.Held++ })
	return d
}

// note changes the report.
func (b *Batch) note(change func(*Report)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.report)
}

// failed notes that the store did not do what it was asked for.
func (b *Batch) failed(destination string, now time.Time, err error) {
	b.mu.Lock()
	b.report.Failed++
	if e := b.entries[destination]; e != nil {
		e.failed = now
	}
	b.mu.Unlock()
	b.cfg.OnProblem(err)
}

func (b *Batch) changed(destination string, from, to Row) {
	switch {
	case to.Phase == Open && to.Until.After(to.At):
		b.note(func(r *Report) { r.Opened++ })
	case from.Phase == Probing && to.Phase == Closed:
		b.note(func(r *Report) { r.Recovered++ })
	}
	b.cfg.OnChange(Change{Destination: destination, From: from.Phase, To: to.Phase, Trips: to.Trips, Until: to.Until, Probe: to.Probe})
}

// Permit says whether parked deliveries of a destination may be sent, and how many in this run; 0: no bound of ours. While nothing can be read, as few go as
// after a recovery: what must be held is held again.
func (b *Breaker) Permit(ctx context.Context, destination string) (may bool, most int) {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.renew(ctx, now, nil)
	if b.began.IsZero() {
		return true, b.cfg.Rules.RampFirst
	}
	e := b.entries[destination]
	if e == nil {
		return true, 0
	}
	return b.cfg.Rules.Permit(e.effective(), now)
}
