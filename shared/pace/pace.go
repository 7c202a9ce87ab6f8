// Package pace knows which destinations take long to answer, so that their deliveries can be made where nobody waits behind them.
//
// An invocation ends with its slowest call. A destination that hangs therefore holds, for the whole of its timeout, every invocation that has one of its
// deliveries, and soon all of them. Its breaker cannot help in time: it learns of failures when the timeouts are over. Pace counts calls that have no answer
// yet. All environments add to a row per destination, one for every two seconds that a call waits, by slots of ten seconds; a destination is slow while the last
// slots hold enough, and fast again by itself half a minute after the last one.
//
// One call that takes long among many quick ones is forgiven, by the environment that has seen both. Being slow costs a destination a way through one
// queue more, and nothing else: a wrong verdict does little harm. What cannot be read or written makes no destination slow.
package pace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Slot is a part of time in which late answers are counted, numbered from 1970.
type Slot int64

const (
	slotLength = 10 * time.Second
	slots      = 3 // that count, besides the one under way
)

// SlotOf is the slot in which t lies.
func SlotOf(t time.Time) Slot { return Slot(t.Unix() / int64(slotLength/time.Second)) }

// Begin is when the slot begins.
func (s Slot) Begin() time.Time { return time.Unix(int64(s)*int64(slotLength/time.Second), 0) }

// Row is what all environments have counted together of a destination.
type Row map[Slot]int

// late is how many late answers count at a time. Clocks differ by seconds: what a clock ahead has counted is taken too.
func (r Row) late(now time.Time) int {
	sum := 0
	for s, n := range r {
		if counts(s, now) {
			sum += n
		}
	}
	return sum
}

// with is the row with what another reading of it has shown. Counts only grow.
func (r Row) with(other Row, now time.Time) Row {
	both := Row{}
	for s, n := range r {
		both[s] = max(n, other[s])
	}
	for s, n := range other {
		if counts(s, now) {
			both[s] = max(n, r[s])
		}
	}
	return both
}

func counts(s Slot, now time.Time) bool { return s >= SlotOf(now)-slots && s <= SlotOf(now)+1 }

// Store keeps the rows. The driver is shared/pace/dynamo. Safe for concurrent use.
type Store interface {
	// All reads the rows of all destinations that have one. It may be a second behind.
	All(ctx context.Context) (map[string]Row, error)
	// Add adds n to a slot of a row, which is made if there is none, removes slots that nobody counts any more, and gives the row as it is then.
	// Where the answer is lost it may have counted twice.
	Add(ctx context.Context, destination string, slot Slot, n int, remove []Slot) (Row, error)
}

// Config configures a Pace. Store is required.
type Config struct {
	Store Store
	// Patience is after how long an answer is late. Shorter finds slow destinations sooner; longer leaves more of them where they are cheapest. Default 2 s.
	Patience time.Duration
	// Enough times of Patience without an answer, within half a minute, make a destination slow. Default 3.
	Enough int
	// Forgiven is how many quick answers outweigh a late one of the same environment. Default 100.
	Forgiven int
	// MaxAge is how old the rows in memory may be before all are read again, with one query. Longer costs fewer reads and leaves deliveries to a slow
	// destination where they hold up others for longer. Default 5 s.
	MaxAge time.Duration
	// Timeout bounds each call. Default 1 s.
	Timeout time.Duration
	// Pause is how long nothing is read after a reading that failed. Default 5 s.
	Pause time.Duration

	Now       func() time.Time // default time.Now
	OnProblem func(error)      // hears of what could not be read or written, from any goroutine; it must be quick. Default: nobody does
}

// Pace knows which destinations are slow. It is safe for concurrent use.
type Pace struct {
	cfg Config

	mu     sync.Mutex
	rows   map[string]Row
	credit map[string]int // quick answers that no late one has used up
	next   time.Time      // when to read again
	read   bool           // something was read once
	flight chan struct{}  // a reading under way
}

// New makes a Pace. Nothing is read until it is asked.
func New(cfg Config) (*Pace, error) {
	if cfg.Store == nil {
		return nil, errors.New("pace: Config.Store is missing: give the driver in shared/pace/dynamo")
	}
	cfg.Patience = cmp.Or(cfg.Patience, 2*time.Second)
	cfg.Enough = cmp.Or(cfg.Enough, 3)
	cfg.Forgiven = cmp.Or(cfg.Forgiven, 100)
	cfg.MaxAge = cmp.Or(cfg.MaxAge, 5*time.Second)
	cfg.Timeout = cmp.Or(cfg.Timeout, time.Second)
	cfg.Pause = cmp.Or(cfg.Pause, 5*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.OnProblem == nil {
		cfg.OnProblem = func(error) {}
	}
	if cfg.Patience < 0 || cfg.Enough < 0 || cfg.Forgiven < 0 || cfg.MaxAge < 0 || cfg.Timeout < 0 || cfg.Pause < 0 {
		return nil, fmt.Errorf("pace: a setting is negative: %+v", cfg)
	}
	return &Pace{cfg: cfg, rows: map[string]Row{}, credit: map[string]int{}}, nil
}

// Patience is after how long an answer is late.
func (p *Pace) Patience() time.Duration { return p.cfg.Patience }

// Slow says whether a destination answers slowly. It answers from memory but for one reading each MaxAge, for which the first to ask waits.
func (p *Pace) Slow(ctx context.Context, destination string) bool {
	now := p.cfg.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renew(ctx, now)
	return p.rows[destination].late(now) >= p.cfg.Enough
}

// renew reads all rows when it is time. The lock is held, and given up meanwhile.
func (p *Pace) renew(ctx context.Context, now time.Time) {
	if left := p.next.Sub(now); left > 0 && left <= max(p.cfg.MaxAge, p.cfg.Pause) { // more is a clock that was set back
		return
	}
	if flight := p.flight; flight != nil {
		if p.read { // what is known will do
			return
		}
		p.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
		}
		p.mu.Lock()
		return
	}
	flight := make(chan struct{})
	p.flight = flight
	p.mu.Unlock()
	rows, err := p.all(ctx)
	p.mu.Lock()
	p.flight = nil
	close(flight)
	if err != nil {
		p.next = p.cfg.Now().Add(p.cfg.Pause)
		p.cfg.OnProblem(fmt.Errorf("which destinations are slow cannot be read: %w", err))
		return
	}
	for destination, row := range p.rows {
		if both := rows[destination].with(row, now); len(both) > 0 { // what a write has shown may be newer than what was read
			rows[destination] = both
		}
	}
	p.rows, p.read, p.next = rows, true, now.Add(p.cfg.MaxAge)
}

func (p *Pace) all(ctx context.Context) (map[string]Row, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	rows, err := p.cfg.Store.All(ctx)
	if rows == nil {
		rows = map[string]Row{}
	}
	return rows, err
}

// Quick notes an answer that came in time, whatever it said.
func (p *Pace) Quick(destination string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.credit[destination] = min(p.credit[destination]+1, 2*p.cfg.Forgiven)
}

// Late notes calls that have had no answer for Patience, by destination, and tells all environments. It returns when they are told. Call it again for the same
// calls after each further Patience: one that hangs weighs more than one that is a little late. It writes at most once for a destination and a slot once the
// slot says enough, so that what a destination costs does not grow with the time for which it hangs.
func (p *Pace) Late(ctx context.Context, calls map[string]int) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	var wg sync.WaitGroup
	var untold problem
	for destination, n := range calls {
		if n = p.untold(destination, n); n > 0 {
			wg.Go(func() { untold.note(destination, p.add(ctx, destination, n)) })
		}
	}
	wg.Wait()
	untold.tell(p.cfg.OnProblem)
}

// untold is how many of n late answers others should hear of: those that no quick ones outweigh, unless the slot says enough without them.
func (p *Pace) untold(destination string, n int) int {
	slot := SlotOf(p.cfg.Now())
	p.mu.Lock()
	defer p.mu.Unlock()
	forgiven := min(n, p.credit[destination]/p.cfg.Forgiven)
	delete(p.credit, destination) // of a destination that turns slow, what was before says nothing
	if p.rows[destination][slot] >= p.cfg.Enough {
		return 0
	}
	return n - forgiven
}

func (p *Pace) add(ctx context.Context, destination string, n int) error {
	now := p.cfg.Now()
	p.mu.Lock()
	var remove []Slot
	for s := range p.rows[destination] {
		if !counts(s, now) && s < SlotOf(now) {
			remove = append(remove, s)
		}
	}
	p.mu.Unlock()
	row, err := p.cfg.Store.Add(ctx, destination, SlotOf(now), n, remove)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows[destination] = row.with(p.rows[destination], now) // of two writes at a time, the answer of the first may come last
	return nil
}

// problem is what a call of Late could not tell. A table that is down is one problem, however many destinations are late.
type problem struct {
	mu           sync.Mutex
	destinations int
	such         string // one of them
	err          error
}

func (p *problem) note(destination string, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.destinations++
	p.such, p.err = destination, err
}

func (p *problem) tell(hear func(error)) {
	if p.err != nil {
		hear(fmt.Errorf("that %d destinations are slow, such as %.80q, cannot be told: %w", p.destinations, p.such, p.err))
	}
}
