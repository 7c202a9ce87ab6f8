package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// Errors of a Cache.
var (
	// ErrStale: the destinations were known, and could not be read for longer than CacheConfig.MaxStale.
	ErrStale = errors.New("registry: the destinations that are known are too old")
	// ErrNothingApplied: no version was ever applied, which is not the same as a version without destinations.
	ErrNothingApplied = errors.New("registry: no destinations have been applied yet; apply a file first")
	// ErrUndecided: whether a destination exists is not known now. Ask again later; never take it for unknown.
	ErrUndecided = errors.New("registry: whether the destination exists is not known now")
)

// CacheConfig tunes a Cache. The zero value is fit for use.
type CacheConfig struct {
	// Options read the documents of the store.
	Options Options
	// Fixed are destinations from a file that is deployed with the function. The Cache gives these with the states of the store, and never
	// reads a document. Nil: the destinations are those that were applied.
	Fixed *Set
	// Canary is a destination that the Cache adds to whatever the destinations are: it is known where they are, and not where they are not. Nil: none.
	Canary *Destination
	// MaxAge is how old destinations and states may be before they are read again: how long it takes until a change is known everywhere.
	// Longer costs fewer reads. Default 15 seconds.
	MaxAge time.Duration
	// MaxStale is how old they may become while they cannot be read. Longer bridges longer outages and delivers longer to who has been taken
	// out meanwhile. Default 15 minutes.
	MaxStale time.Duration
	// Timeout bounds one refresh, and one Disable. Longer survives slower answers and takes more of an invocation. Default 2 seconds.
	Timeout time.Duration
	// Pause is how long nothing is tried after a refresh that failed, as long as there is something to serve. Shorter finds the registry back
	// sooner and spends Timeout more often. Default 5 seconds.
	Pause time.Duration
	// Looks is how many refreshes Look may force within a second. More of them are ErrUndecided. Default 10.
	Looks int
	// By is who disables, for people. Default "waybill".
	By string
	// Now is the clock. Ages are taken by its wall clock, because the monotonic one stands still while an environment is frozen. Default time.Now.
	Now func() time.Time
	// OnProblem hears why a refresh failed or a document could not be used, from any goroutine; each kind of problem at most once a minute. It must
	// be quick. Default: nobody does.
	OnProblem func(error)
}

// problemEvery is how often a kind of problem is told.
const problemEvery = time.Minute

func (c CacheConfig) withDefaults() CacheConfig {
	c.MaxAge = cmp.Or(c.MaxAge, 15*time.Second)
	c.MaxStale = cmp.Or(c.MaxStale, 15*time.Minute)
	c.Timeout = cmp.Or(c.Timeout, 2*time.Second)
	c.Pause = cmp.Or(c.Pause, 5*time.Second)
	c.Looks = cmp.Or(c.Looks, 10)
	c.By = cmp.Or(c.By, "waybill")
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.OnProblem == nil {
		c.OnProblem = func(error) {}
	}
	return c
}

// Cache gives the destinations and states of a Store, at most CacheConfig.MaxAge old while the store answers, and at most MaxStale old while it
// does not; after that Set is ErrStale. It implements Source, Disabler and Looker and is safe for concurrent use.
//
// # Costs
//
// While what is known is fresh, nothing is read. Then the next caller pays for one Store.Current, and for a Store.Document where the version has
// changed; all others go on with what they have, as long as there is anything. An environment that is always busy so reads four times a minute:
// with shared/registry/dynamo 5,760 read units a day, less than a tenth of a cent.
//
// # Versions that cannot be used
//
// A document that this release cannot read, because a newer one has applied it and was rolled back, leaves the destinations before it in
// force for as long as the environment lives, with the states of today; a new environment has none and Set fails. So does Look for every
// destination that is not known, because it may be in the newer document. A document that is damaged or cannot be reached is treated as a
// store that does not answer.
type Cache struct {
	store Store
	cfg   CacheConfig

	mu     sync.Mutex
	set    *Set // as it is given out, with states; nil: nothing is known yet
	number int64
	token  string    // with number: the version of set
	read   time.Time // when the refresh that set is based on began
	pause  time.Time // nothing is tried before, after a failure
	failed error     // why the last refresh failed
	unused *unusable // the current version, if it cannot be used
	flight *flight   // the refresh that is under way
	begun  int       // how many refreshes have begun

	disabled map[string]note      // what this Cache has disabled, until a refresh that began later has seen it
	missed   map[string]time.Time // when the refresh began that did not find a destination
	looks    []time.Time          // when the last forced refreshes began
	told     map[string]time.Time // kinds of problems, and when OnProblem heard of them
}

var (
	_ Source   = (*Cache)(nil)
	_ Disabler = (*Cache)(nil)
	_ Looker   = (*Cache)(nil)
)

// flight is a refresh that is under way.
type flight struct {
	order int // 1 for the first one
	began time.Time
	done  chan struct{}
	err   error // why it failed, once done is closed
}

// note is a mark that refreshes up to that order may not have seen.
type note struct {
	Mark
	after int
}

// unusable is a version that this release cannot read.
type unusable struct {
	token string
	err   error
}

// NewCache makes a Cache. Nothing is read until it is asked.
func NewCache(store Store, cfg CacheConfig) *Cache {
	if cfg.Fixed != nil {
		cfg.Fixed = cfg.Fixed.WithCanary(cfg.Canary)
	}
	return &Cache{
		store: store, cfg: cfg.withDefaults(),
		disabled: map[string]note{}, missed: map[string]time.Time{}, told: map[string]time.Time{},
	}
}

// now is the wall clock.
func (c *Cache) now() time.Time { return c.cfg.Now().Round(0) }

// age is how old what is known is. A clock that was set back makes it old, not young.
func (c *Cache) age() time.Duration {
	age := c.now().Sub(c.read)
	if age < 0 {
		return c.cfg.MaxAge
	}
	return age
}

// usable says that the set can be given out, if need be.
func (c *Cache) usable() bool { return c.set != nil && c.age() <= c.cfg.MaxStale }

// pausing says that a refresh has failed just now.
func (c *Cache) pausing() bool {
	left := c.pause.Sub(c.now())
	return left > 0 && left <= c.cfg.Pause // more is a clock that was set back
}

// Set implements Source.
func (c *Cache) Set(ctx context.Context) (*Set, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.usable() && (c.age() < c.cfg.MaxAge || c.flight != nil || c.pausing()) {
		return c.set, nil
	}
	var err error
	for range 2 { // the refresh that is joined may have begun long ago, in an environment that was frozen
		f := c.join(ctx)
		c.mu.Unlock()
		err = f.wait(ctx)
		c.mu.Lock()
		if c.usable() {
			return c.set, nil
		}
		if err != nil {
			break
		}
	}
	if c.set == nil {
		return nil, err
	}
	stale := fmt.Errorf("%w: read %v ago, at most %v are allowed", ErrStale, c.age().Round(time.Second), c.cfg.MaxStale)
	if err == nil {
		return nil, stale
	}
	return nil, fmt.Errorf("%w: %w", stale, err)
}

// wait waits for the end of the refresh.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
}

// join gives the refresh under way, or begins one. The lock is held.
func (c *Cache) join(ctx context.Context) *flight {
	if c.flight != nil {
		return c.flight
	}
	c.begun++
	f := &flight{order: c.begun, began: c.now(), done: make(chan struct{})}
	c.flight = f
	// The refresh serves everybody, so it outlives the caller who began it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timeout)
	go func() {
		defer close(f.done)
		defer cancel()
		f.err = c.refresh(ctx, f)
	}()
	return f
}

// refresh reads what is current.
func (c *Cache) refresh(ctx context.Context, f *flight) error {
	fresh, err := c.load(ctx)

	c.mu.Lock()
	c.flight = nil
	if fresh.set != nil {
		c.install(fresh, f)
	}
	c.failed, c.pause = err, time.Time{}
	if err != nil {
		c.pause = c.now().Add(c.cfg.Pause)
	}
	if err == nil || fresh.unused != nil {
		c.unused = fresh.unused
	}
	told, tell := c.problem(err, fresh.unused)
	c.mu.Unlock()

	if tell {
		c.cfg.OnProblem(told)
	}
	return err
}

// install takes over what was read. A refresh that failed half-way brings states for the old version, and does not make it younger.
func (c *Cache) install(fresh loaded, f *flight) {
	c.set, c.number, c.token = fresh.set, fresh.number, fresh.token
	if fresh.whole {
		c.read = f.began
	}
	for id, n := range c.disabled {
		if n.after < f.order {
			delete(c.disabled, id)
		} else {
			c.mark(id, n.Mark)
		}
	}
}

// problem gives what OnProblem must hear of a refresh: every kind of problem once a minute, and again after all was well.
func (c *Cache) problem(err error, unused *unusable) (problem error, tell bool) {
	problem, kind := err, "store"
	if unused != nil {
		problem, kind = unused.err, unused.token
	}
	if problem == nil {
		clear(c.told)
		return nil, false
	}
	now := c.now()
	if since := now.Sub(c.told[kind]); since >= 0 && since < problemEvery {
		return nil, false
	}
	c.told[kind] = now
	return problem, true
}

// loaded is what a refresh brings.
type loaded struct {
	set    *Set // nil: nothing that could be given out
	number int64
	token  string
	whole  bool      // set is as new as can be
	unused *unusable // the current version, if set is an older one
}

// maxGone is how often a refresh meets a version that is deleted before it is read.
const maxGone = 3

// load reads the current version and the states. With an error there may be a set nevertheless, the old one with new states.
func (c *Cache) load(ctx context.Context) (loaded, error) {
	c.mu.Lock()
	old := loaded{set: c.set, number: c.number, token: c.token}
	unused := c.unused
	c.mu.Unlock()

	for gone := 1; ; gone++ {
		now, err := c.store.Current(ctx)
		if err != nil {
			return loaded{}, fmt.Errorf("registry: the destinations cannot be read: %w", err)
		}
		if c.cfg.Fixed != nil {
			return loaded{set: c.cfg.Fixed.WithStates(now.States), whole: true}, nil
		}
		if old.set != nil {
			old.set = old.set.WithStates(now.States)
		}
		switch {
		case now.Version.Number == 0:
			return old, ErrNothingApplied
		case old.set != nil && old.token == now.Version.Token:
			old.whole = true
			return old, nil
		case unused != nil && unused.token == now.Version.Token:
			return old.without(unused)
		}
		document, err := c.store.Document(ctx, now.Version)
		if errors.Is(err, ErrGone) && gone < maxGone {
			continue // a newer version has pushed it out
		}
		if err != nil {
			return old, fmt.Errorf("registry: version %d of the destinations cannot be read: %w", now.Version.Number, err)
		}
		set, err := Parse(document, c.cfg.Options)
		if err != nil {
			err = fmt.Errorf("registry: version %d of the destinations, applied by %q, is not one for this release: %w", now.Version.Number, now.Version.By, err)
			return old.without(&unusable{now.Version.Token, err})
		}
		return loaded{set: set.WithCanary(c.cfg.Canary).WithStates(now.States), number: now.Version.Number, token: now.Version.Token, whole: true}, nil
	}
}

// without goes on with the version before one that cannot be used, which is an error only if there is none.
func (l loaded) without(unused *unusable) (loaded, error) {
	l.unused = unused
	if l.set == nil {
		return l, unused.err
	}
	l.whole = true
	return l, nil
}

// Disable implements Disabler: it writes to the store, and from then on every Set of this Cache says so.
func (c *Cache) Disable(ctx context.Context, destination, text string) (first bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	mark, err := Mark{Since: c.now(), Note: text, By: c.cfg.By}.Normal(destination)
	if err != nil {
		return false, err
	}
	if first, err = c.store.Disable(ctx, destination, mark); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disabled[destination] = note{mark, c.begun}
	if c.set != nil {
		c.mark(destination, mark)
	}
	return first, nil
}

// mark adds that a destination is disabled to the set that is given out.
func (c *Cache) mark(destination string, mark Mark) {
	state := c.set.State(destination)
	if !state.Disabled.IsZero() {
		return
	}
	disabled := NewState(Mark{Since: state.Paused, Note: state.Note, By: state.By}, mark)
	states := maps.Clone(c.set.states)
	if states == nil {
		states = map[string]State{}
	}
	states[destination] = disabled
	c.set = c.set.WithStates(states)
}

// Version gives the number of the version that is in use, for people; 0 while there is none, and for fixed destinations.
func (c *Cache) Version() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.number
}
