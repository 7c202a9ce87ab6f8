package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/registry/registrytest"
)

// world is a store with some destinations applied, in a bubble whose clock is virtual.
type world struct {
	*testing.T
	*registrytest.Memory
	hang     atomic.Bool // Current does not answer
	number   int64
	problems []error
	mu       sync.Mutex
}

func bubble(t *testing.T, run func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, Memory: registrytest.NewMemory()}
		run(w)
		synctest.Wait()
	})
}

// Current implements registry.Store.
func (w *world) Current(ctx context.Context) (registry.Snapshot, error) {
	if w.hang.Load() {
		<-ctx.Done()
		return registry.Snapshot{}, fmt.Errorf("%w: %w", registry.ErrUnknown, ctx.Err())
	}
	return w.Memory.Current(ctx)
}

func (w *world) cache(cfg registry.CacheConfig) *registry.Cache {
	cfg.OnProblem = func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.problems = append(w.problems, err)
	}
	return registry.NewCache(w, cfg)
}

// told counts the problems since it was last asked.
func (w *world) told() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.problems)
	w.problems = nil
	return n
}

func (w *world) applyText(document string) {
	w.Helper()
	if _, err := w.Apply(w.Context(), w.number, registry.Draft{Document: []byte(document), By: "anna", At: time.Now()}); err != nil {
		w.Fatal(err)
	}
	w.number++
}

func (w *world) apply(ids ...string) {
	w.Helper()
	var all []string
	for _, id := range ids {
		all = append(all, destination(map[string]string{"id": `"` + id + `"`}))
	}
	w.applyText(file(all...))
}

// want checks what the cache gives, and how many reads of Current and Document that took.
func (w *world) want(c *registry.Cache, all string, current, document int) {
	w.Helper()
	beforeCurrent, beforeDocument := w.Reads()
	set, err := c.Set(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	var got []string
	for d := range set.All() {
		text := d.ID
		if !set.State(d.ID).MayReceive() {
			text += "!"
		}
		got = append(got, text)
	}
	nowCurrent, nowDocument := w.Reads()
	if s := strings.Join(got, " "); s != all || nowCurrent-beforeCurrent != current || nowDocument-beforeDocument != document {
		w.Fatalf("got %q with %d and %d reads, want %q with %d and %d", s, nowCurrent-beforeCurrent, nowDocument-beforeDocument, all, current, document)
	}
}

func (w *world) fails(c *registry.Cache, want error) {
	w.Helper()
	_ = w.failure(c, want)
}

// failure checks that the cache has nothing to give, and gives the reason.
func (w *world) failure(c *registry.Cache, want error) error {
	w.Helper()
	set, err := c.Set(w.Context())
	if !errors.Is(err, want) || set != nil {
		w.Fatalf("%v, %v; want %v", set, err, want)
	}
	return err
}

func (w *world) must(did bool, err error) {
	w.Helper()
	if err != nil || !did {
		w.Fatal(did, err)
	}
}

func (w *world) mark() registry.Mark {
	return registry.Mark{Since: time.Now(), Note: "maintenance", By: "anna"}
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestCacheReadsWhatHasChanged(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a", "b")
		c := w.cache(registry.CacheConfig{})
		w.want(c, "a b", 1, 1)
		w.want(c, "a b", 0, 0)
		w.must(w.Pause(w.Context(), "a", w.mark()))
		pass(15*time.Second - 1)
		w.want(c, "a b", 0, 0)
		pass(1)
		w.want(c, "a! b", 1, 0)
		w.want(c, "a! b", 0, 0)
		w.apply("a", "c")
		pass(15 * time.Second)
		w.want(c, "a! c", 1, 1)
		w.must(w.Resume(w.Context(), "a"))
		pass(15 * time.Second)
		w.want(c, "a c", 1, 0)
		if c.Version() != 2 || w.told() != 0 {
			w.Errorf("version %d, problems %v", c.Version(), w.problems)
		}
	})
}

func TestCacheOutlivesAnOutage(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a")
		c := w.cache(registry.CacheConfig{})
		w.want(c, "a", 1, 1)
		for _, kind := range []registrytest.FaultKind{registrytest.Throttled, registrytest.Broken} {
			heal := w.Inject(kind)
			for range 14 {
				pass(time.Minute)
				w.want(c, "a", 0, 0)
			}
			pass(time.Minute + 1)
			if err := w.failure(c, registry.ErrStale); !strings.Contains(err.Error(), "15m0s") || !strings.Contains(err.Error(), "throttled") && !strings.Contains(err.Error(), "broken") {
				w.Errorf("the error does not say why: %v", err)
			}
			if n := w.told(); n < 10 || n > 15 {
				w.Errorf("%d problems in 15 minutes", n)
			}
			heal()
			w.want(c, "a", 1, 0)
			w.want(c, "a", 0, 0)
		}
	})
}

func TestCacheDoesNotWaitLongForAStoreThatHangs(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a")
		c := w.cache(registry.CacheConfig{})
		w.want(c, "a", 1, 1)
		pass(time.Minute)
		w.hang.Store(true)
		took := func() time.Duration {
			began := time.Now()
			w.want(c, "a", 0, 0)
			return time.Since(began)
		}
		if d := took(); d != 2*time.Second {
			w.Errorf("the first waited %v", d)
		}
		for range 4 {
			pass(time.Second)
			if d := took(); d != 0 {
				w.Errorf("within the pause: waited %v", d)
			}
		}
		pass(time.Second)
		if d := took(); d != 2*time.Second {
			w.Errorf("after the pause: waited %v", d)
		}
		fresh := w.cache(registry.CacheConfig{Timeout: time.Second})
		began := time.Now()
		w.fails(fresh, registry.ErrUnknown)
		if d := time.Since(began); d != time.Second {
			w.Errorf("a cold one waited %v", d)
		}
	})
}

func TestCacheReadsOnceForMany(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a")
		c := w.cache(registry.CacheConfig{})
		w.OnRead(func() { time.Sleep(100 * time.Millisecond) })
		ask := func() (longest time.Duration, waited int) {
			var wg sync.WaitGroup
			var mu sync.Mutex
			for range 50 {
				wg.Go(func() {
					began := time.Now()
					if _, err := c.Set(w.Context()); err != nil {
						w.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					if d := time.Since(began); d > 0 {
						waited++
						longest = max(longest, d)
					}
				})
			}
			wg.Wait()
			return longest, waited
		}
		if d, waited := ask(); waited != 50 || d != 100*time.Millisecond {
			w.Errorf("cold: %d waited, up to %v", waited, d)
		}
		pass(15 * time.Second)
		if d, waited := ask(); waited != 1 || d != 100*time.Millisecond {
			w.Errorf("expired: %d waited, up to %v", waited, d)
		}
		if current, document := w.Reads(); current != 2 || document != 1 {
			w.Errorf("%d and %d reads", current, document)
		}
	})
}

// A caller who gives up does not take the refresh along that others wait for.
func TestCacheRefreshOutlivesItsCaller(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a")
		c := w.cache(registry.CacheConfig{})
		w.OnRead(func() { time.Sleep(time.Second) })
		hasty, cancel := context.WithTimeout(w.Context(), 100*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Set(hasty); !errors.Is(err, context.DeadlineExceeded) {
				w.Errorf("the hasty one: %v", err)
			}
		})
		pass(time.Millisecond)
		w.want(c, "a", 0, 1) // Current has been read before it was asked
		wg.Wait()
	})
}

// A problem that lasts is told once a minute however often it is met, and one that comes back after all was well is told at once.
func TestCacheTellsOfProblemsOnceAMinute(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a")
		c := w.cache(registry.CacheConfig{})
		w.want(c, "a", 1, 1)
		for range 3 {
			heal := w.Inject(registrytest.Broken)
			for range 2 {
				pass(19 * time.Second)
				w.want(c, "a", 0, 0)
			}
			if n := w.told(); n != 1 {
				w.Errorf("told %d times within a minute", n)
			}
			heal()
			pass(19 * time.Second)
			w.want(c, "a", 1, 0)
		}
	})
}

func TestCacheKeepsItsVersionWhenANewerReleaseWasRolledBack(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a", "b")
		c := w.cache(registry.CacheConfig{})
		w.want(c, "a b", 1, 1)
		w.applyText(`{"destinations": [], "regions": {}}`)
		pass(15 * time.Second)
		w.want(c, "a b", 1, 1)
		if w.told() != 1 {
			w.Errorf("nobody was told")
		}
		w.must(w.Pause(w.Context(), "a", w.mark()))
		for range 3600 / 15 {
			pass(15 * time.Second)
			w.want(c, "a! b", 1, 0) // states go on, and the document is not read again
		}
		if n := w.told(); n < 59 || n > 61 {
			w.Errorf("%d problems in an hour", n)
		}
		cold := w.cache(registry.CacheConfig{})
		if err := w.failure(cold, registry.ErrInvalid); !strings.Contains(err.Error(), `version 2 of the destinations, applied by "anna", is not one for this release`) || !strings.Contains(err.Error(), "regions") {
			w.Errorf("the error does not say what is wrong: %v", err)
		}
		w.fails(cold, registry.ErrInvalid)
		w.apply("c")
		pass(15 * time.Second)
		w.want(c, "c", 1, 1)
		w.want(cold, "c", 1, 1)
	})
}

func TestCacheTreatsADamagedVersionAsAnOutage(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a")
		c := w.cache(registry.CacheConfig{})
		w.want(c, "a", 1, 1)
		w.apply("b")
		w.Damage()
		w.must(w.Pause(w.Context(), "a", w.mark()))
		pass(15 * time.Second)
		w.want(c, "a!", 1, 1) // with the states of now
		pass(15 * time.Minute)
		w.fails(c, registry.ErrStale)
		w.fails(w.cache(registry.CacheConfig{}), registry.ErrDamaged)
		w.apply("c")
		w.want(c, "c", 1, 1)
	})
}

func TestCacheReadsAgainWhenItsVersionIsGone(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a")
		c := w.cache(registry.CacheConfig{})
		rounds := 1
		w.OnRead(func() {
			if rounds--; rounds < 0 {
				return
			}
			for range registry.KeptVersions {
				w.apply("b")
			}
		})
		w.want(c, "b", 2, 2)
		rounds = 100
		w.fails(w.cache(registry.CacheConfig{}), registry.ErrGone)
	})
}

func TestCacheOfAnEmptyStore(t *testing.T) {
	bubble(t, func(w *world) {
		c := w.cache(registry.CacheConfig{})
		w.fails(c, registry.ErrNothingApplied)
		w.apply()
		w.want(c, "", 1, 1)
	})
}

func TestCacheWithFixedDestinations(t *testing.T) {
	bubble(t, func(w *world) {
		set := parse(w.T, file(destination(map[string]string{"id": `"a"`}), destination(map[string]string{"id": `"b"`})))
		c := w.cache(registry.CacheConfig{Fixed: set})
		w.want(c, "a b", 1, 0)
		w.must(w.Disable(w.Context(), "a", w.mark()))
		w.apply("c")
		pass(15 * time.Second)
		w.want(c, "a! b", 1, 0)
		before, _ := w.Reads()
		for id, want := range map[string]bool{"a": true, "c": false} {
			if d, found, err := c.Look(w.Context(), id); found != want || err != nil || found && d.ID != id {
				w.Errorf("%s: %v, %v", id, found, err)
			}
		}
		if after, _ := w.Reads(); after != before {
			w.Error("the store was asked for what is fixed")
		}
		w.Inject(registrytest.Broken)
		w.fails(w.cache(registry.CacheConfig{Fixed: set}), registry.ErrUnknown)
	})
}

func TestCacheKnowsAtOnceWhatItHasDisabled(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a", "b")
		w.must(w.Pause(w.Context(), "a", w.mark()))
		c, other := w.cache(registry.CacheConfig{By: "deliverer"}), w.cache(registry.CacheConfig{})
		w.must(c.Disable(w.Context(), "b", "answered 410")) // before it has read anything
		w.want(c, "a! b!", 1, 1)
		w.want(other, "a! b!", 1, 1)
		began := time.Now()
		pass(time.Second)
		w.must(c.Disable(w.Context(), "a", strings.Repeat("x", registry.MaxNote+1)))
		set, err := c.Set(w.Context())
		if s := set.State("a"); err != nil || !s.Paused.Equal(began) || !s.Disabled.Equal(began.Add(time.Second)) ||
			s.Note != "maintenance; "+strings.Repeat("x", registry.MaxNote) || s.By != "anna; deliverer" {
			w.Errorf("%+v, %v", s, err)
		}
		if first, err := other.Disable(w.Context(), "a", "again"); first || err != nil {
			w.Errorf("the second is the first: %v, %v", first, err)
		}
		w.must(w.Enable(w.Context(), "b"))
		pass(14 * time.Second)
		w.want(c, "a! b", 1, 0)
		if s := set.State("a"); s.Disabled.IsZero() {
			w.Error("a set that was given out has changed")
		}
	})
}

// A refresh that read before the mark was written and answers after it must not undo it; the next one may.
func TestCacheDoesNotForgetWhatItHasDisabled(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a")
		c := w.cache(registry.CacheConfig{})
		w.want(c, "a", 1, 1)
		pass(time.Minute)
		w.OnRead(func() { time.Sleep(time.Second) })
		var wg sync.WaitGroup
		wg.Go(func() { w.want(c, "a!", 1, 0) })
		pass(time.Millisecond)
		w.must(c.Disable(w.Context(), "a", "answered 410"))
		wg.Wait()
		w.want(c, "a!", 0, 0)
		w.must(w.Enable(w.Context(), "a"))
		pass(time.Minute)
		w.want(c, "a", 1, 0)
	})
}

func TestCacheReportsWhatCouldNotBeDisabled(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a")
		c := w.cache(registry.CacheConfig{})
		w.want(c, "a", 1, 1)
		w.Inject(registrytest.Throttled)
		if first, err := c.Disable(w.Context(), "a", "answered 410"); first || !errors.Is(err, registry.ErrThrottled) {
			w.Errorf("%v, %v", first, err)
		}
		w.want(c, "a", 0, 0)
	})
}

// look checks an answer, and how many reads of Current it took.
func (w *world) look(c *registry.Cache, id string, want bool, reads int) {
	w.Helper()
	before, _ := w.Reads()
	d, found, err := c.Look(w.Context(), id)
	after, _ := w.Reads()
	if err != nil || found != want || found && d.ID != id || after-before != reads {
		w.Fatalf("%s: %v, %v with %d reads; want %v with %d", id, found, err, after-before, want, reads)
	}
}

func (w *world) undecided(c *registry.Cache, id string, why error) {
	w.Helper()
	if d, found, err := c.Look(w.Context(), id); !errors.Is(err, registry.ErrUndecided) || !errors.Is(err, why) || found || d != nil {
		w.Fatalf("%s: %v, %v; want it undecided because of %v", id, found, err, why)
	}
}

func TestLook(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a", "gone")
		c := w.cache(registry.CacheConfig{})
		w.look(c, "a", true, 1) // cold
		w.look(c, "a", true, 0)
		w.apply("a", "new")
		w.look(c, "new", true, 1) // what the router has read, and this cache not yet
		w.want(c, "a new", 0, 0)
		w.look(c, "gone", false, 1)
		w.look(c, "gone", false, 0) // holds for a second
		pass(time.Second - 1)
		w.look(c, "gone", false, 0)
		pass(1)
		w.look(c, "gone", false, 1)
		w.apply("a", "gone")
		w.want(c, "a new", 0, 0)
		w.look(c, "gone", false, 0) // still
		pass(time.Second)
		w.look(c, "gone", true, 1)
	})
}

func TestLookIsUndecidedWhereItCannotKnow(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a")
		c := w.cache(registry.CacheConfig{})
		w.want(c, "a", 1, 1)

		heal := w.Inject(registrytest.Broken)
		w.undecided(c, "b", registry.ErrUnknown)
		before := time.Now()
		w.hang.Store(true)
		w.undecided(c, "b", registry.ErrUnknown) // within the pause nothing is tried
		if time.Since(before) != 0 {
			w.Errorf("waited %v", time.Since(before))
		}
		w.look(c, "a", true, 0)
		heal()
		w.hang.Store(false)
		pass(5 * time.Second)
		w.look(c, "b", false, 1)

		w.applyText(`{"destinations": [], "regions": {}}`)
		pass(time.Second)
		w.undecided(c, "b", registry.ErrInvalid) // it may be in the version that this release cannot read
		pass(time.Minute)
		w.undecided(c, "b", registry.ErrInvalid)
		w.want(c, "a", 0, 0)
		w.apply("a", "b")
		w.look(c, "b", true, 1)
	})
}

func TestLookIsLimited(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a")
		c := w.cache(registry.CacheConfig{Looks: 3})
		w.want(c, "a", 1, 1)
		for i := range 3 {
			w.look(c, fmt.Sprint("x", i), false, 1)
		}
		w.undecided(c, "y", registry.ErrUndecided)
		w.look(c, "x1", false, 0)
		pass(time.Second)
		w.look(c, "y", false, 1)
	})
}

// A refresh that was under way when the question came has perhaps read before the destination was applied.
func TestLookDoesNotBelieveAnEarlierRefresh(t *testing.T) {
	bubble(t, func(w *world) {
		w.apply("a")
		c := w.cache(registry.CacheConfig{})
		w.want(c, "a", 1, 1)
		pass(time.Minute)
		w.OnRead(func() { time.Sleep(time.Second) })
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Set(w.Context()) })
		pass(time.Millisecond)
		w.apply("a", "b")
		w.look(c, "b", true, 1)
		wg.Wait()
	})
}

// The wall clock decides: it goes on while an environment is frozen, and it can be set back.
func TestCacheGoesByTheWallClock(t *testing.T) {
	bubble(t, func(w *world) {
		now := time.Now()
		c := w.cache(registry.CacheConfig{Now: func() time.Time { return now }})
		w.apply("a")
		w.want(c, "a", 1, 1)
		now = now.Add(16 * time.Second)
		w.want(c, "a", 1, 0)
		now = now.Add(-time.Hour)
		w.want(c, "a", 1, 0)
		w.want(c, "a", 0, 0)
		heal := w.Inject(registrytest.Broken)
		now = now.Add(time.Minute)
		w.want(c, "a", 0, 0)
		heal()
		now = now.Add(-time.Hour) // the pause does not last an hour
		w.want(c, "a", 1, 0)
		w.Inject(registrytest.Broken)
		now = now.Add(24 * time.Hour)
		w.fails(c, registry.ErrStale)
	})
}
