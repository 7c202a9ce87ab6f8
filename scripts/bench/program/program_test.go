package program

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/scripts/bench/load"
)

// The program measures, tells and ends well: every scenario that takes seconds, with next to no load.
func TestRun(t *testing.T) {
	var out, errs bytes.Buffer
	small := []string{"-rounds", "1", "-events", "200", "-seconds", "500ms", "-rate", "50", "-backlog", "200", "-memory-events", "1000"}
	status := Run(t.Context(), append(small, "-json", "-only", "closed,fan-out,64KB,900KB,backlog,memory"), &out, &errs)
	if status != statusDone {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	var r Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Measured) != 5 || len(r.Memory) != 1 || r.Machine.CPUs == 0 || r.Machine.LoadAfter == "" {
		t.Errorf("%s", out.String())
	}
	for _, m := range r.Measured {
		if m.Waybill.PerSecond <= 0 || m.Waybill.CPUPerOne <= 0 || m.Waybill.Repeats != 0 || (m.Bare == nil) != (m.Name == "backlog") {
			t.Errorf("%+v", m)
		}
	}
}

func TestFlagsListEveryProblem(t *testing.T) {
	_, err := parse([]string{"-rounds", "0", "-only", "closed,nonsense", "-rate", "0", "more"})
	for _, part := range []string{"-rounds", "nonsense", "-rate", "more"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
	var out, errs bytes.Buffer
	if status := Run(t.Context(), []string{"-nonsense"}, &out, &errs); status != statusRefused || !strings.Contains(errs.String(), "nonsense") {
		t.Errorf("status %d: %s", status, errs.String())
	}
	if status := Run(t.Context(), []string{"-help"}, &out, &errs); status != statusDone || !strings.Contains(out.String(), "-memory-events") {
		t.Errorf("status %d: %s", status, out.String())
	}
}

func TestMedianIsFieldByField(t *testing.T) {
	rounds := []load.Result{
		{PerSecond: 3, P50: 1, P99: 30, CPUPerOne: 9}, {PerSecond: 1, P50: 3, P99: 10, CPUPerOne: 7, CPU: load.CPU{Functions: 0.5}},
		{PerSecond: 2, P50: 2, P99: 20, CPUPerOne: 5, Repeats: 4},
	}
	m := median(slices.Clone(rounds))
	if m.PerSecond != 2 || m.P50 != 2 || m.P99 != 20 || m.CPUPerOne != 7 || m.CPU.Functions != 0.5 || m.Repeats != 4 {
		t.Errorf("%+v", m)
	}
}

func TestTables(t *testing.T) {
	var out strings.Builder
	r := Report{Measured: []Measurement{
		{What: "a loop", Waybill: load.Result{PerSecond: 1234, CPUPerOne: 300 * time.Microsecond, CPU: load.CPU{Functions: 0.25}}, Bare: &load.Result{PerSecond: 9999}},
		{What: "a rate", Waybill: load.Result{P50: time.Millisecond, P99: 9 * time.Millisecond}},
	}, Memory: []load.Memory{{Events: 1000, HeapBytes: 5 << 20, PeakBytes: 9 << 20, Goroutines: 7}}}
	r.print(&out)
	for _, want := range []string{"| a loop | 1234 | 300 | 25 % |", "| 9999 |", "| a rate | 1.0 | 0.0 | 9.0 |", "| 1000 | 5.0 | 9.0 | 7 |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
