package program

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/waybillhq/waybill/scripts/bench/load"
	"github.com/waybillhq/waybill/shared/topology"
)

// scenario is one load.
type scenario struct {
	name  string
	what  string
	shape load.Shape
	// run measures the load once. bare is the same load without Waybill; there is none where it would mean nothing.
	run, bare func(o options, s scenario) (load.Result, error)
}

// What a closed loop keeps under way, and the workers of the bare loop.
const (
	ahead    = 1000
	workers  = 64
	warmUp   = 4 * time.Second
	slow     = 100 * time.Millisecond
	fanOut   = 20
	batches  = 10 // of a hundred at a time: hundreds of environments on this machine's few processors would only make each other time out
	healthy  = 9  // destinations beside the hanging one
	everyNth = 9  // event for a healthy destination is followed by one for the hanging one
)

func scenarios() []scenario {
	return []scenario{
		{"closed", "closed loop, 1 KB", load.Shape{}, closed, bareClosed},
		{"closed-high-volume", "closed loop, 1 KB, high-volume profile", load.Shape{Profile: topology.HighVolume, Concurrency: batches}, closed, bareClosed},
		{"closed-relaxed", "closed loop, 1 KB, relaxed ledger", load.Shape{Relaxed: true}, closed, bareClosed},
		{"fan-out", "closed loop, each event to 20 destinations", load.Shape{Destinations: fanOut, FanOut: true}, closed, bareClosed},
		{"64KB", "closed loop, 64 KB", load.Shape{PayloadBytes: 64 << 10}, closed, bareClosed},
		{"900KB", "closed loop, 900 KB", load.Shape{PayloadBytes: 900 << 10}, closed, bareClosed},
		{"backlog", "a backlog, all there before it begins", load.Shape{}, backlog, nil},
		{"open", "open loop, 1 KB", load.Shape{}, open, bareOpen},
		{"open-slow", "open loop, receiver takes 100 ms", load.Shape{AnswerAfter: slow}, open, bareOpen},
		{"open-many", "open loop, 9 destinations in turn", load.Shape{Destinations: healthy}, open, bareOpen},
		{"hanging", "the same beside one that hangs", load.Shape{Destinations: healthy, Hanging: true}, open, nil},
	}
}

const (
	memoryName = "memory"
	costName   = "cost"
)

func names() []string {
	var all []string
	for _, s := range scenarios() {
		all = append(all, s.name)
	}
	return append(all, memoryName, costName)
}

func (o options) wants(name string) bool { return len(o.only) == 0 || slices.Contains(o.only, name) }

// volume is how many events a closed loop sends: fewer where each costs more.
func volume(o options, shape load.Shape) (events, under int) {
	events, under = o.events, ahead
	if shape.FanOut {
		events /= fanOut / 2
	}
	if shape.Profile == topology.HighVolume {
		under *= 10 // its batches have ten times the size
	}
	switch size := shape.PayloadBytes; {
	case size > 512<<10:
		events, under = o.events/50, 50
	case size > 32<<10:
		events, under = o.events/10, 200
	}
	return max(events, 50), under
}

// through runs fn on a system that is closed afterwards.
func through(shape load.Shape, expected int, fn func(*load.Rig) (load.Result, error)) (load.Result, error) {
	r, err := load.Start(shape, expected)
	if err != nil {
		return load.Result{}, err
	}
	result, err := fn(r)
	return result, errors.Join(err, r.Close())
}

func without(shape load.Shape, expected int, fn func(*load.Bare) (load.Result, error)) (load.Result, error) {
	b, err := load.StartBare(shape, expected, workers)
	if err != nil {
		return load.Result{}, err
	}
	result, err := fn(b)
	return result, errors.Join(err, b.Close())
}

func closed(o options, s scenario) (load.Result, error) {
	events, under := volume(o, s.shape)
	return through(s.shape, events, func(r *load.Rig) (load.Result, error) {
		r.Resume()
		return load.ClosedLoop(r, events, under)
	})
}

func bareClosed(o options, s scenario) (load.Result, error) {
	events, under := volume(o, s.shape)
	return without(s.shape, events, func(b *load.Bare) (load.Result, error) { return load.ClosedLoop(b, events, under) })
}

func backlog(o options, s scenario) (load.Result, error) {
	return through(s.shape, o.backlog, func(r *load.Rig) (load.Result, error) { return load.Backlog(r, o.backlog) })
}

func open(o options, s scenario) (load.Result, error) {
	return through(s.shape, due(o), func(r *load.Rig) (load.Result, error) {
		r.Resume()
		if !s.shape.Hanging {
			return load.OpenLoop(r, o.rate, warmUp, o.seconds, nil, 0)
		}
		return load.OpenLoop(r, o.rate, warmUp, o.seconds, r.SendHanging, everyNth)
	})
}

func bareOpen(o options, s scenario) (load.Result, error) {
	return without(s.shape, due(o), func(b *load.Bare) (load.Result, error) {
		return load.OpenLoop(b, o.rate, warmUp, o.seconds, nil, 0)
	})
}

func due(o options) int { return int(o.rate*warmUp.Seconds()) + int(o.rate*o.seconds.Seconds()) }

// median gives, field by field, the median of several rounds; shares of the processor come from the round in the middle by time per delivery.
func median(rounds []load.Result) load.Result {
	if len(rounds) == 0 {
		return load.Result{}
	}
	byCPU := slices.SortedFunc(slices.Values(rounds), func(a, b load.Result) int { return cmp.Compare(a.CPUPerOne, b.CPUPerOne) })
	m := byCPU[len(byCPU)/2]
	m.PerSecond = middle(rounds, func(r load.Result) float64 { return r.PerSecond })
	m.P50 = middle(rounds, func(r load.Result) time.Duration { return r.P50 })
	m.P95 = middle(rounds, func(r load.Result) time.Duration { return r.P95 })
	m.P99 = middle(rounds, func(r load.Result) time.Duration { return r.P99 })
	for _, r := range rounds {
		m.Repeats = max(m.Repeats, r.Repeats)
	}
	return m
}

func middle[T cmp.Ordered](rounds []load.Result, of func(load.Result) T) T {
	values := make([]T, len(rounds))
	for i, r := range rounds {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
