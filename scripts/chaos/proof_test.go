package chaos

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seeds   = flag.Int("seeds", defaultSeeds, "how many seeds TestProof plays")
	first   = flag.Uint64("first", 1, "the first of the seeds")
	seed    = flag.Uint64("seed", 0, "the only seed that TestProof plays, with its story; 0: all")
	only    = flag.String("only", "", "the disasters of the seed that strike, by their keys; empty: all; none: none")
	replays = flag.Int("replays", defaultReplays, "how many seeds TestSeedsReplay plays twice")
)

// TestMain lets garbage lie for longer: worlds are small, and there are many of them.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

// mostFailures is how many seeds may fail before the others are left out: one is enough to look at.
const mostFailures = 5

// TestProof plays seeds and holds each to the laws.
func TestProof(t *testing.T) {
	if *seed != 0 {
		replay(t)
		return
	}
	began := time.Now()
	all := &table{struck: map[string]int{}, crashes: map[string]int{}}
	var next, failures atomic.Uint64
	t.Run("seeds", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for n := next.Add(1); n <= uint64(*seeds) && failures.Load() < mostFailures; n = next.Add(1) {
					r := play(t, *first+n-1, mask{}, nil, false)
					all.add(r)
					if len(r.breaches) > 0 {
						report(t, r, failures.Add(1) == 1)
					}
				}
			})
		}
	})
	if testing.Verbose() {
		fmt.Print(all.text(time.Since(began)))
	}
	if missed := all.uncrashed(); all.seeds >= enoughForAll && len(missed) > 0 {
		t.Errorf("%d seeds have had no %s: make those steps suffer more often, or find out why nobody takes them any more", all.seeds, strings.Join(missed, ", no "))
	}
}

// enoughForAll is how many seeds crash every function before and after each of its steps.
const enoughForAll = 5000

// report tells of a seed that breaks a law, with the command that replays it. Of the first one the disasters that it does not need are left out.
func report(t *testing.T, r result, least bool) {
	t.Helper()
	command := fmt.Sprintf("go test ./scripts/chaos -run TestProof -v -seed %d", r.seed)
	if least {
		if keys := shrink(t, r, nil); len(keys) < len(r.keys) {
			command += " -only " + cmp.Or(strings.Join(keys, ","), "none")
		}
	}
	t.Errorf("seed %d breaks a law: %s\nreplay it, with its story: %s", r.seed, strings.Join(r.breaches, "; "), command)
}

// shrink gives disasters of a failing seed without which it does not fail: it leaves out halves, quarters and at last single ones for as long as a law
// is still broken.
func shrink(t *testing.T, r result, b *bug) []string {
	keys := slices.Clone(r.keys)
	fails := func(keys []string) bool {
		return len(play(t, r.seed, mask{only: keys, on: true}, b, false).breaches) > 0
	}
	if !fails(keys) {
		return keys // some disaster strikes only because another has filled the measure
	}
	for size := max(len(keys)/2, 1); len(keys) > 0; size /= 2 {
		for from := 0; from < len(keys); {
			fewer := slices.Delete(slices.Clone(keys), from, min(from+size, len(keys)))
			if fails(fewer) {
				keys = fewer
				continue
			}
			from += size
		}
		if size <= 1 {
			break
		}
	}
	return keys
}

// replay plays one seed and tells its story.
func replay(t *testing.T) {
	m := mask{on: *only != ""}
	if *only != "none" {
		m.only = strings.Split(*only, ",")
	}
	var planted *bug
	for i := range bugs {
		if *bugName != "" && strings.Contains(bugs[i].name, *bugName) {
			planted = &bugs[i]
		}
	}
	r := play(t, *seed, m, planted, true)
	t.Logf("the story of seed %d:\n%s", *seed, strings.Join(r.story, "\n"))
	t.Logf("disasters: %s", strings.Join(r.keys, ","))
	if len(r.breaches) > 0 && !m.on {
		t.Logf("with fewer disasters: -only %s", strings.Join(shrink(t, r, planted), ","))
	}
	for _, b := range r.breaches {
		t.Error(b)
	}
}

// table adds up what seeds came to.
type table struct {
	mu              sync.Mutex
	seeds, failed   int
	asks, letters   int
	effects         int
	lasted, longest time.Duration
	struck, crashes map[string]int
}

func (a *table) add(r result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seeds++
	if len(r.breaches) > 0 {
		a.failed++
	}
	a.asks += r.asks
	a.effects += r.effects
	a.letters += r.letters
	a.lasted += r.lasted
	a.longest = max(a.longest, r.lasted)
	for what, n := range r.struck {
		a.struck[what] += n
	}
	for step, n := range r.steps {
		a.crashes[step] += n
	}
}

// uncrashed names the crashes that have not happened.
func (a *table) uncrashed() (missed []string) {
	for _, step := range slices.Sorted(maps.Keys(chances)) {
		for _, what := range []string{crashBefore, crashAfter} {
			if a.crashes[what+" "+step] == 0 {
				missed = append(missed, what+" "+step)
			}
		}
	}
	return missed
}

func (a *table) text(took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-44s %10d\n%-44s %10d\n", "seeds played", a.seeds, "seeds that broke a law", a.failed)
	fmt.Fprintf(&b, "%-44s %10d\n%-44s %10d\n%-44s %10d\n", "requests and calls, each when it was its turn", a.asks, "effects at receivers", a.effects, "dead letters at the end", a.letters)
	fmt.Fprintf(&b, "%-44s %10.1f\n%-44s %10.1f\n%-44s %10s\n", "virtual time, days", a.lasted.Hours()/24, "longest seed, days", a.longest.Hours()/24, "took", took.Round(time.Second))
	rows := func(title string, counts map[string]int) {
		fmt.Fprintf(&b, "\n%s\n", title)
		total := 0
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(&b, "  %-42s %10d\n", name, counts[name])
			total += counts[name]
		}
		fmt.Fprintf(&b, "  %-42s %10d\n", "all", total)
	}
	rows("disasters that happened", a.struck)
	rows("of these, crashes by step", a.crashes)
	fmt.Fprintf(&b, "\n%-44s %s\n", "crashes that have not happened", cmp.Or(strings.Join(a.uncrashed(), ", "), "none"))
	return b.String()
}
