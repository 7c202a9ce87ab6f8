package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// Patience is how long nothing may arrive before a run is given up. It is longer than what faults of our own put deliveries off by.
const Patience = 5 * time.Minute

// warmUp is the share of a closed loop that is not measured: pollers start, connections open.
const warmUp = 0.2

// Result is what a run measured. Durations are from the moment at which an event should have been sent to its arrival; zero where they were
// not measured.
type Result struct {
	Deliveries    int
	PerSecond     float64
	P50, P95, P99 time.Duration
	CPU           CPU
	CPUPerOne     time.Duration // processor time per delivery, of everybody together
	Repeats       int           // deliveries that arrived more than once
	Profile       []byte        `json:"-"` // for go tool pprof
}

// Target takes events and delivers them to a sink: Waybill, or the bare HTTP loop.
type Target interface {
	Send(n int) error
	FanOut() int
	sink() *Sink
}

func (r *Rig) sink() *Sink { return r.Sink }

// ClosedLoop sends events as fast as they are delivered, with at most ahead deliveries under way. It measures from the end of warming up until the last event is
// sent: then the loop is no longer closed, and where batches have a window, pollers would wait for the last few messages as they do on a quiet queue.
func ClosedLoop(t Target, events, ahead int) (Result, error) {
	total := events * t.FanOut()
	ahead = min(ahead, total/2)
	skipped := int(warmUp * float64(total))
	var failure atomic.Pointer[error]
	go as(partProducer, func(context.Context) {
		for n := range events {
			for n*t.FanOut()-t.sink().Count() > ahead {
				if failure.Load() != nil {
					return
				}
				rest(500 * time.Microsecond)
			}
			if err := t.Send(n); err != nil {
				failure.Store(&err)
				return
			}
		}
	})
	err := t.sink().Wait(skipped, Patience)
	if err != nil {
		return Result{}, give(&failure, err)
	}
	m, err := startMeter()
	if err != nil {
		return Result{}, give(&failure, err)
	}
	began, from := time.Now(), t.sink().Count()
	err = t.sink().Wait(max(total-ahead, from+1), Patience)
	took, to := time.Since(began), t.sink().Count()
	cpu, profile, meterErr := m.stop()
	if err = errors.Join(err, meterErr); err == nil {
		err = t.sink().Wait(total, Patience) // whoever is quick and leaves some behind is not quick
	}
	if err != nil {
		return Result{}, give(&failure, err)
	}
	r := Result{Deliveries: to - from, CPU: cpu, Profile: profile}
	r.PerSecond = float64(r.Deliveries) / took.Seconds()
	r.CPUPerOne = cpu.Total / time.Duration(max(r.Deliveries, 1))
	r.Repeats, _ = t.sink().Surprises()
	return r, nil
}

// give ends a run that failed: its producer stops, and what it met is told too.
func give(failure *atomic.Pointer[error], err error) error {
	if earlier := failure.Swap(&err); earlier != nil {
		return errors.Join(*earlier, err)
	}
	return err
}

// rest waits without a clock that others may have changed.
func rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// OpenLoop sends events at a rate, whatever becomes of them, and beside each nth one for the hanging destination if beside is above 0. The first
// warm-up seconds are not measured. A producer that falls behind does not hide it: times count from when an event was due.
func OpenLoop(t Target, rate float64, warmUp, measured time.Duration, hanging func(n int) error, every int) (Result, error) {
	first := int(rate * warmUp.Seconds())
	events := first + int(rate*measured.Seconds())
	due := make([]time.Time, events)
	interval := time.Duration(float64(time.Second) / rate)
	start := time.Now().Add(10 * time.Millisecond)
	for n := range due {
		// Spread, as independent producers are: a strict beat would meet the pollers always in the same state.
		due[n] = start.Add(time.Duration(n)*interval + time.Duration(rand.Int64N(int64(interval))))
	}
	failed := make(chan error, 1)
	began := make(chan *meter, 1)
	go as(partProducer, func(context.Context) { failed <- produce(t, due, first, began, hanging, every) })
	m := <-began
	err := t.sink().Wait(events*t.FanOut(), Patience)
	cpu, profile, meterErr := CPU{}, []byte(nil), error(nil)
	if m != nil {
		cpu, profile, meterErr = m.stop()
	}
	if err = errors.Join(<-failed, err, meterErr); err != nil {
		return Result{}, err
	}
	var took []time.Duration
	for i, at := range t.sink().arrivals() {
		if n := i / t.FanOut(); n >= first && n < events {
			took = append(took, at.Sub(due[n]))
		}
	}
	slices.Sort(took)
	r := Result{Deliveries: len(took), CPU: cpu, Profile: profile}
	r.P50, r.P95, r.P99 = percentile(took, 0.50), percentile(took, 0.95), percentile(took, 0.99)
	r.PerSecond = float64(len(took)) / measured.Seconds()
	r.CPUPerOne = cpu.Total / time.Duration(max(len(took), 1))
	r.Repeats, _ = t.sink().Surprises()
	return r, nil
}

func produce(t Target, due []time.Time, first int, began chan<- *meter, hanging func(n int) error, every int) error {
	defer close(began)
	for n, at := range due {
		rest(time.Until(at))
		if n == first {
			m, err := startMeter()
			if err != nil {
				return err
			}
			began <- m
		}
		if err := t.Send(n); err != nil {
			return err
		}
		if hanging != nil && n%every == 0 {
			if err := hanging(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// percentile gives the smallest value that the given share of all does not exceed; sorted is in order.
func percentile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

// Backlog sends all events first and measures how long the mappings, started then, take to deliver them.
func Backlog(r *Rig, events int) (Result, error) {
	for n := range events {
		if err := r.Send(n); err != nil {
			return Result{}, err
		}
	}
	m, err := startMeter()
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	r.Resume()
	err = r.Sink.Wait(events*r.FanOut(), Patience)
	took := time.Since(began)
	cpu, profile, meterErr := m.stop()
	if err = errors.Join(err, meterErr); err != nil {
		return Result{}, err
	}
	result := Result{Deliveries: events * r.FanOut(), CPU: cpu, Profile: profile}
	result.PerSecond = float64(result.Deliveries) / took.Seconds()
	result.CPUPerOne = cpu.Total / time.Duration(result.Deliveries)
	result.Repeats, _ = r.Sink.Surprises()
	return result, nil
}

// Memory is what is in use at a moment with nothing under way.
type Memory struct {
	Events     int   // so far
	HeapBytes  int64 // in use after a collection
	PeakBytes  int64 // largest heap seen until then, garbage included
	Goroutines int
}

// MemoryStep is how many events are sent between two looks at memory.
const MemoryStep = 1000

// Footprint sends events in steps of a thousand and looks at memory at every power of ten. Between steps what the emulated tables hold is
// deleted as expired: on AWS it is not in the memory of a function.
func Footprint(r *Rig, events int, look func(Memory)) error {
	r.Resume()
	var peak uint64
	next := MemoryStep
	for sent := MemoryStep; sent <= events; sent += MemoryStep {
		for n := range MemoryStep {
			// Ids go on, places in the sink begin again.
			if err := r.send(r.event(strconv.Itoa(n)+"-"+strconv.Itoa(sent), eventType(n%r.shape.Destinations))); err != nil {
				return err
			}
		}
		if err := r.Sink.Wait(MemoryStep, Patience); err != nil {
			return err
		}
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		peak = max(peak, now.HeapAlloc)
		if err := r.Settled(); err != nil {
			return err
		}
		// Much later, and DynamoDB would leave them alone as too old.
		r.System.Tables.Sweep(time.Now().Add(r.Topology.Limits.LedgerTTL() + time.Hour))
		r.Sink.Reset()
		if sent < next {
			continue
		}
		next *= 10
		runtime.GC()
		runtime.ReadMemStats(&now)
		look(Memory{sent, int64(now.HeapAlloc), int64(peak), runtime.NumGoroutine()})
	}
	return nil
}

// Settled waits until the functions have nothing left to do.
func (r *Rig) Settled() error {
	for end := time.Now().Add(Patience); r.System.Busy() > 0; rest(2 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("after %v there is still work for the functions", Patience)
		}
	}
	return nil
}
