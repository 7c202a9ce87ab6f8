// Package program is the bench program: it runs the scenarios, round by round, and tells medians beside what the machine can do without Waybill.
package program

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/waybillhq/waybill/functions/wiring"
	"github.com/waybillhq/waybill/scripts/bench/cost"
	"github.com/waybillhq/waybill/scripts/bench/load"
	"github.com/waybillhq/waybill/shared/topology"
)

// Exit statuses of Run.
const (
	statusDone    = 0
	statusBroken  = 1 // something failed while measuring
	statusRefused = 2 // the flags do not permit a start
)

// memoryMB is what this process may use for all of its parts, as the functions may use theirs.
const memoryMB = 4096

// Run is the whole program. It returns its exit status.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		usage(stdout)
		return statusDone
	case err != nil:
		fmt.Fprintf(stderr, "cannot start:\n%v\n", err)
		return statusRefused
	}
	wiring.LimitMemory(memoryMB)
	report, err := measure(ctx, o, stderr)
	if err == nil && o.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else if err == nil {
		report.print(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return statusBroken
	}
	return statusDone
}

// Report is what -json prints.
type Report struct {
	Machine  Machine
	Rounds   int
	Rate     float64 // of the open loops
	Measured []Measurement
	Memory   []load.Memory
	Costs    []Cost
	Standing *cost.Standing
	Prices   cost.Prices
}

// Measurement is one scenario.
type Measurement struct {
	Name, What string
	Waybill    load.Result
	Bare       *load.Result
}

// Cost is what a million deliveries cost in one profile and mode.
type Cost struct {
	Profile string
	Ledger  string
	Arrival string // how events came
	Usage   cost.Usage
	Bill    cost.Bill
}

// Machine is where this ran.
type Machine struct {
	Date       time.Time
	CPU        string
	CPUs       int
	Go         string
	OS         string
	LoadBefore string // load averages over 1, 5 and 15 minutes
	LoadAfter  string
}

func machine() Machine {
	m := Machine{Date: time.Now().UTC(), CPU: "unknown", CPUs: runtime.NumCPU(), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH, LoadBefore: loadAverage()}
	info, _ := os.ReadFile("/proc/cpuinfo") // elsewhere the model stays unknown
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 3 {
		return "unknown"
	}
	return strings.Join(fields[:3], " ")
}

func measure(ctx context.Context, o options, progress io.Writer) (*Report, error) {
	report := &Report{Machine: machine(), Rounds: o.rounds, Rate: o.rate}
	var err error
	if report.Prices, err = cost.List(); err != nil {
		return nil, err
	}
	if err := report.scenarios(ctx, o, progress); err != nil {
		return nil, err
	}
	if o.wants(memoryName) {
		fmt.Fprintln(progress, memoryName)
		if err := report.memory(o, progress); err != nil {
			return nil, err
		}
	}
	if o.wants(costName) {
		fmt.Fprintln(progress, costName)
		if err := report.costs(ctx); err != nil {
			return nil, err
		}
	}
	report.Machine.LoadAfter = loadAverage()
	return report, nil
}

// scenarios measures round by round, each scenario right beside its bare loop, so that a change of the machine's mood meets both.
func (r *Report) scenarios(ctx context.Context, o options, progress io.Writer) error {
	var chosen []scenario
	for _, s := range scenarios() {
		if o.wants(s.name) {
			chosen = append(chosen, s)
		}
	}
	waybill, bare := make([][]load.Result, len(chosen)), make([][]load.Result, len(chosen))
	for round := range o.rounds {
		for i, s := range chosen {
			if err := ctx.Err(); err != nil {
				return err
			}
			fmt.Fprintf(progress, "round %d of %d: %s\n", round+1, o.rounds, s.name)
			result, err := s.run(o, s)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if o.profile != "" {
				if err := os.WriteFile(o.profile, result.Profile, 0o600); err != nil {
					return err
				}
			}
			waybill[i] = append(waybill[i], result)
			if s.bare == nil {
				continue
			}
			if result, err = s.bare(o, s); err != nil {
				return fmt.Errorf("%s without Waybill: %w", s.name, err)
			}
			bare[i] = append(bare[i], result)
		}
	}
	for i, s := range chosen {
		m := Measurement{Name: s.name, What: s.what, Waybill: median(waybill[i])}
		if s.bare != nil {
			b := median(bare[i])
			m.Bare = &b
		}
		r.Measured = append(r.Measured, m)
	}
	return nil
}

// memoryConcurrency bounds the environments while memory is looked at: how much one keeps is of interest, not how many there are.
const memoryConcurrency = 10

func (r *Report) memory(o options, progress io.Writer) error {
	_, err := through(load.Shape{Concurrency: memoryConcurrency}, load.MemoryStep, func(rig *load.Rig) (load.Result, error) {
		return load.Result{}, load.Footprint(rig, o.memoryEvents, func(m load.Memory) {
			r.Memory = append(r.Memory, m)
			fmt.Fprintf(progress, "%s: %d events, %d bytes in use, at most %d, %d goroutines\n", memoryName, m.Events, m.HeapBytes, m.PeakBytes, m.Goroutines)
		})
	})
	return err
}

// How many deliveries costs are counted over, with events that are all there, and with events that come at the open loop's rate.
const (
	costEvents = 4000
	costSlow   = 2000
)

func (r *Report) costs(ctx context.Context) error {
	for _, rate := range []float64{0, r.Rate} {
		for _, profile := range []topology.Profile{topology.LowLatency, topology.HighVolume} {
			for _, relaxed := range []bool{false, true} {
				n, arrival := costEvents, "backlog"
				if rate > 0 {
					n, arrival = costSlow, fmt.Sprintf("%.0f/s", rate)
				}
				usage, err := cost.Measure(cost.Load{Shape: load.Shape{Profile: profile, Relaxed: relaxed, AnswerAfter: slow}, Deliveries: n, PerSecond: rate})
				if err != nil {
					return err
				}
				mode := "strict"
				if relaxed {
					mode = "relaxed"
				}
				r.Costs = append(r.Costs, Cost{string(profile), mode, arrival, usage, r.Prices.PerMillion(usage)})
			}
		}
	}
	standing, err := cost.Idle(ctx, r.Prices, 3)
	r.Standing = &standing
	return err
}
