package program

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/scripts/artifacts/archive"
)

// TestRun: every function starts, answers an invocation and is told of, beside the baselines.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds five programs")
	}
	var out, errs bytes.Buffer
	if status := Run(t.Context(), []string{"-rounds", "1"}, &out, &errs); status != 0 {
		t.Fatalf("status %d: %s", status, &errs)
	}
	for _, name := range append(names(), hello, sdkOnly) {
		if !regexp.MustCompile(`(?m)^ *` + name + ` +\d+\.\d ms .*\d MB$`).MatchString(strings.ReplaceAll(out.String(), "MB  \n", "MB\n")) {
			t.Errorf("nothing is told of %s:\n%s", name, &out)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"extra"}, {"-unknown"}} {
		var out, errs bytes.Buffer
		if status := Run(t.Context(), args, &out, &errs); status != 2 || errs.Len() == 0 {
			t.Errorf("%q: status %d, %q", args, status, &errs)
		}
	}
}

// TestFlagsAreThoseOfMake: what is measured is what is deployed.
func TestFlagsAreThoseOfMake(t *testing.T) {
	makefile, err := os.ReadFile("../../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	tags := "TAGS := " + flags()[1] + "\n"
	rest := strings.Join(flags()[2:len(flags())-1], " ") + ` "` + flags()[len(flags())-1] + `"`
	if !strings.Contains(string(makefile), tags) || !strings.Contains(string(makefile), "go build -tags $(TAGS) "+rest+" ") {
		t.Errorf("make build does not use %q", flags())
	}
}

// TestRatiosAreWithinRounds: a machine that slows down for a round changes no ratio.
func TestRatiosAreWithinRounds(t *testing.T) {
	poll := func(s sample) time.Duration { return s.poll }
	at := func(name string, milliseconds ...int) *candidate {
		c := &candidate{name: name, artifact: archive.Artifact{ProgramBytes: 2e6}}
		for _, n := range milliseconds {
			c.samples = append(c.samples, sample{poll: time.Duration(n) * time.Millisecond, peakBytes: 3e6})
		}
		return c
	}
	baseline, c := at(sdkOnly, 10, 100, 10), at("router", 15, 150, 15)
	if got := times(c, baseline, poll); got != 1.5 {
		t.Errorf("%v times", got)
	}
	var out bytes.Buffer
	if err := report(&out, 3, "1 2 3", []*candidate{c, baseline}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 6 || !strings.Contains(lines[3], sdkOnly) || !strings.Contains(lines[4], "15.0 ms") || !strings.Contains(lines[4], "1.50") || !strings.Contains(lines[4], "3.0 MB") {
		t.Errorf("%s", &out)
	}
}

func TestWhatLinuxTells(t *testing.T) {
	if got := onProcessor("4500000 100 7\n"); got != 4500*time.Microsecond {
		t.Errorf("processor time %v", got)
	}
	if got := peak("Name:\tx\nVmHWM:\t   11716 kB\nVmRSS:\t 3 kB\n"); got != 11716<<10 {
		t.Errorf("peak %d", got)
	}
	if onProcessor("") != 0 || peak("") != 0 {
		t.Error("something is told of nothing")
	}
}
