package load_test

import (
	"testing"

	"github.com/waybillhq/waybill/scripts/bench/load"
)

func open(t *testing.T, shape load.Shape, expected int) *load.Rig {
	t.Helper()
	r, err := load.Start(shape, expected)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// Between its looks at memory nothing is left that grows with the number of events.
func TestFootprintLeavesNothingBehind(t *testing.T) {
	r := open(t, load.Shape{Concurrency: 2}, load.MemoryStep)
	looks := 0
	if err := load.Footprint(r, 2*load.MemoryStep, func(m load.Memory) {
		looks++
		if m.Events != load.MemoryStep || m.HeapBytes <= 0 || m.PeakBytes < 0 || m.Goroutines <= 0 {
			t.Errorf("%+v", m)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if rows, err := r.System.Tables.Len("ledger"); err != nil || rows != 0 || looks != 1 {
		t.Errorf("%d rows are left in the ledger after %d looks: %v", rows, looks, err)
	}
}

func TestClosedLoopDeliversEverythingOnce(t *testing.T) {
	for name, shape := range map[string]load.Shape{
		"one destination": {}, "fan-out": {Destinations: 5, FanOut: true}, "turns, relaxed": {Destinations: 3, Relaxed: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, shape, 200)
			r.Resume()
			result, err := load.ClosedLoop(r, 200, 100)
			if err != nil {
				t.Fatal(err)
			}
			if repeats, stray := r.Sink.Surprises(); r.Sink.Count() != 200*r.FanOut() || repeats != 0 || stray != 0 {
				t.Errorf("%d arrived, %d again, %d unexpected", r.Sink.Count(), repeats, stray)
			}
			if result.PerSecond <= 0 || result.CPUPerOne <= 0 {
				t.Errorf("%+v", result)
			}
		})
	}
}
