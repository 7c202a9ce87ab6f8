// Package waker takes deliveries out of the waiting room: every minute it moves what is due within the look-ahead, ten minutes on SQS, to the
// deliveries queue, with the delay that is left, and drains parked deliveries of destinations that may receive again, in order of acceptance.
//
// A row is sent first and deleted then, on condition that it is still the row that was read. A run that ends early, dies or fails in
// part leaves nothing undone that the next one does not do; two runs at once repeat each other's work and lose nothing. The rules are those of
// package waiting; this package carries them out.
package waker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/waiting"
)

// Permit says what may be drained of a destination's parked deliveries.
type Permit struct {
	May bool // send them to the deliverer
	// Most is how many in this run, for a recovery that shall ramp up. 0: Config.DrainPerRun.
	Most int
}

// Destinations knows which destinations may receive. Implementations are safe for concurrent use.
type Destinations interface {
	// Drain is asked once in a run for every destination that may have parked deliveries. A destination that does not exist any more may
	// drain: the deliverer makes dead letters of what it has left. After an error nothing of the destination is drained in this run, but what has been
	// parked for too long.
	Drain(ctx context.Context, destination string) (Permit, error)
}

// Config configures a Waker; the fields up to Destinations are required.
type Config struct {
	Store        waiting.Store
	Limits       waiting.Limits
	Deliveries   queue.Sender
	Destinations Destinations

	// Every is the time from one run to the next, as the schedule has it. Longer than Limits.LookAhead is refused: deliveries would come late. Default
	// a fifteenth of Limits.LongestDelay, which is a minute on SQS.
	Every time.Duration
	// DrainPerRun bounds how many parked deliveries of one destination a run sends, spread over the time until the next. More empties a
	// backlog sooner and hits a destination that has just recovered harder. Default 600, ten a second at a run every minute.
	DrainPerRun int
	// Headroom is kept of the context's time: no new work begins in it. It must be enough for the calls under way to end and for the
	// watermarks to be written. Default 5 s.
	Headroom time.Duration
	// WriteUnitsPerSecond bounds the deletes in one bucket. DynamoDB takes 1,000 a second in a partition, and holders need some of them.
	// Default 800.
	WriteUnitsPerSecond int
	// Patience bounds the time spent on repeating deletes that were throttled or got no answer. What is not deleted in the end is sent again by
	// the next run, which costs a duplicate. Default 2 s.
	Patience time.Duration

	Now      func() time.Time // default time.Now
	NewToken func() string    // default: 128 random bits; must never repeat
	Random   func() float64   // [0, 1), for orders and pauses; default math/rand/v2
	Logger   *slog.Logger     // default slog.Default()
}

// Report says what a run has done and found.
type Report struct {
	Moved  int           // due deliveries sent to the queue
	Late   int           // those of them that were due already
	LateBy time.Duration // by how much the latest of them

	Destinations int // that may have parked deliveries
	Held         int // those of them that may not receive
	Drained      int // parked deliveries sent because their destination may receive
	Expired      int // parked deliveries sent to be given up, after waiting.Limits.LongestPark
	// OldestParked is how long ago the event of the oldest parked delivery was accepted that the run has met, whether it goes now or stays; 0: there is none.
	OldestParked time.Duration

	Open int // hours that are not closed, of all shards, those that the look-ahead reaches included
	// Lag is by how much the waker is behind after the run: how long ago the oldest delivery was due that it should have sent and has not, or the
	// oldest hour should have been closed that is still open, whichever is more; 0 if it is not behind. What could not be read counts from the
	// beginning of its hour, because nobody knows what lies there.
	Lag time.Duration
	// Blind says that the watermarks could not be read: nothing was done, and how far behind the waker is nobody knows.
	Blind bool

	Stray      int  // deliveries that a scan found where no run looks. Each means that a rule was broken: alarm above 0
	Scanned    bool // a scan of the whole room has come to its end
	Unreadable int  // rows in a form that this release does not read. They stay
	Failed     int  // rows that stay because sending or deleting them failed; the next run sends them again
	Complete   bool // all was visited before the time was up
}

// Waker empties a waiting room. It is safe for concurrent use.
type Waker struct{ cfg Config }

// New makes a Waker. The error lists every setting that is missing or out of range.
func New(cfg Config) (*Waker, error) {
	problems := []error{cfg.Limits.Validate()}
	missing := func(name string, is bool) {
		if is {
			problems = append(problems, fmt.Errorf("waker: Config.%s is missing", name))
		}
	}
	missing("Store", cfg.Store == nil)
	missing("Deliveries", cfg.Deliveries == nil)
	missing("Destinations", cfg.Destinations == nil)
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	cfg.Every = cmp.Or(cfg.Every, max(cfg.Limits.LongestDelay/15, 1))
	if most := cfg.Limits.LookAhead(); cfg.Every < 0 || cfg.Every > most {
		return nil, fmt.Errorf("waker: Config.Every is %v, must be above 0 and within Limits.LookAhead, %v: give the time between two runs", cfg.Every, most)
	}
	cfg.DrainPerRun = cmp.Or(cfg.DrainPerRun, 600)
	cfg.Headroom = cmp.Or(cfg.Headroom, 5*time.Second)
	cfg.WriteUnitsPerSecond = cmp.Or(cfg.WriteUnitsPerSecond, 800)
	cfg.Patience = cmp.Or(cfg.Patience, 2*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewToken == nil {
		cfg.NewToken = rand.Text
	}
	if cfg.Random == nil {
		cfg.Random = mathrand.Float64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Waker{cfg}, nil
}

// run is one invocation.
type run struct {
	Config
	state waiting.State
	marks map[string]waiting.Row // by destination

	mu       sync.Mutex
	report   Report
	failures map[string]*failure // by what was tried
}

// failure is what went wrong when something was tried, perhaps several times.
type failure struct {
	first error
	times int
}

// Run makes one run, in the time that ctx has. The report is right also when there is an error: the error says what the
// next run has to try again.
func (w *Waker) Run(ctx context.Context) (Report, error) {
	r := &run{Config: w.cfg, marks: map[string]waiting.Row{}, failures: map[string]*failure{}, report: Report{Complete: true}}
	var err error
	if r.state, err = r.Store.State(ctx); err != nil {
		r.fail("read the watermarks", err)
		r.report.Complete, r.report.Blind = false, true
		return r.end(ctx)
	}
	r.readMarks(ctx)
	if r.starting() {
		// Before a shard has a watermark, nobody knows where to begin.
		r.scan(ctx, r.now().Add(24*time.Hour))
	}
	var wg sync.WaitGroup
	for shard := range waiting.Shards {
		if watermark, ok := r.state.Watermarks[shard]; ok {
			wg.Go(func() { r.due(ctx, shard, watermark) })
		}
	}
	wg.Go(func() { r.parked(ctx) })
	wg.Wait()
	if !r.report.Scanned && !r.starting() {
		r.scan(ctx, r.now().Add(scanShare))
	}
	return r.end(ctx)
}

// now is the wall clock.
func (r *run) now() time.Time { return r.Now().Round(0) }

// over tells that it is too late to begin anything.
func (r *run) over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	if ctx.Err() != nil || ok && time.Until(deadline) < r.Headroom {
		r.note(func(report *Report) { report.Complete = false })
		return true
	}
	return false
}

// note changes the report.
func (r *run) note(change func(*Report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.report)
}

func (r *run) fail(what string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failures[what] == nil {
		r.failures[what] = &failure{first: err}
	}
	r.failures[what].times++
}

func (r *run) end(ctx context.Context) (Report, error) {
	var errs []error
	for _, what := range slices.Sorted(maps.Keys(r.failures)) { // the same each time, for who compares two runs
		f := r.failures[what]
		errs = append(errs, fmt.Errorf("waker: could not %s, %d times: %w", what, f.times, f.first))
	}
	level := slog.LevelInfo
	if r.report.Stray > 0 || r.report.Unreadable > 0 {
		level = slog.LevelWarn
	}
	if len(errs) > 0 { // the run ends with it, and Lambda tells nobody what a run ends with
		level = slog.LevelError
	}
	err, p := errors.Join(errs...), r.report
	attrs := []slog.Attr{
		slog.Int("moved", p.Moved), slog.Int("late", p.Late), slog.Duration("lateBy", p.LateBy), slog.Int("drained", p.Drained), slog.Int("expired", p.Expired),
		slog.Int("destinations", p.Destinations), slog.Int("held", p.Held), slog.Duration("oldestParked", p.OldestParked), slog.Int("open", p.Open), slog.Duration("lag", p.Lag), slog.Int("stray", p.Stray),
		slog.Int("unreadable", p.Unreadable), slog.Int("failed", p.Failed), slog.Bool("complete", p.Complete),
	}
	if err != nil {
		attrs = append(attrs, telemetry.Error(err))
	}
	r.Logger.LogAttrs(ctx, level, "woke deliveries", attrs...)
	return p, err
}

// each calls do for 0 … n-1 in random order, at most limit at once, so that what comes too late in one run does not in every run.
func (r *run) each(limit, n int, do func(int)) {
	order := make([]int, n)
	for i := range order {
		at := min(int(r.Random()*float64(i+1)), i)
		order[i], order[at] = order[at], i
	}
	var next sync.Mutex
	var wg sync.WaitGroup
	for range min(limit, n) {
		wg.Go(func() {
			for {
				next.Lock()
				if len(order) == 0 {
					next.Unlock()
					return
				}
				i := order[0]
				order = order[1:]
				next.Unlock()
				do(i)
			}
		})
	}
	wg.Wait()
}
