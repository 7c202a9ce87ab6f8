package program

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// options are what the command line says.
type options struct {
	rounds       int
	events       int
	seconds      time.Duration
	rate         float64
	backlog      int
	memoryEvents int
	only         []string // names of scenarios; empty: all
	json         bool
	profile      string // file for the CPU profile of the last run of Waybill
	quick        bool
}

func (o *options) flags(only *string) *flag.FlagSet {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&o.rounds, "rounds", 3, "how often everything is measured; medians are told")
	flags.IntVar(&o.events, "events", 20_000, "events of a closed loop with 1 KB; larger ones and wider fan-outs get fewer")
	flags.DurationVar(&o.seconds, "seconds", 10*time.Second, "how `long` an open loop is measured, after 4 s of warming up")
	flags.Float64Var(&o.rate, "rate", 200, "deliveries a `second` of the open loops")
	flags.IntVar(&o.backlog, "backlog", 100_000, "`events` of the backlog")
	flags.IntVar(&o.memoryEvents, "memory-events", 100_000, "`events` after which memory is looked at for the last time; 1000000 takes some minutes")
	flags.StringVar(only, "only", "", "measure these `scenarios` only, by name, separated by commas: "+strings.Join(names(), ", "))
	flags.BoolVar(&o.json, "json", false, "the results as JSON instead of tables")
	flags.StringVar(&o.profile, "profile", "", "write the CPU profile of the last measurement of Waybill to this `file`, for go tool pprof")
	flags.BoolVar(&o.quick, "quick", false, "one round with a tenth of everything: does it run at all?")
	return flags
}

func usage(out io.Writer) {
	fmt.Fprint(out, `usage: go run ./scripts/bench [flags]

Measures Waybill end to end in one process, beside the same load posted to the same
receiver without Waybill, and counts what a million deliveries would cost on AWS.

`)
	var o options
	var only string
	flags := o.flags(&only)
	flags.SetOutput(out)
	flags.PrintDefaults()
}

// parse reads the command line. The error lists every problem at once; it is flag.ErrHelp if somebody asked for help.
func parse(args []string) (options, error) {
	var o options
	var only string
	flags := o.flags(&only)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, flag.ErrHelp
		}
		return o, fmt.Errorf("%w; see -help", err)
	}
	var problems []error
	if rest := flags.Args(); len(rest) > 0 {
		problems = append(problems, fmt.Errorf("arguments %q are not understood: there are flags only; see -help", rest))
	}
	if only != "" {
		o.only = strings.Split(only, ",")
		for _, name := range o.only {
			if !slices.Contains(names(), name) {
				problems = append(problems, fmt.Errorf("-only %s: there is no such scenario: use %s", name, strings.Join(names(), ", ")))
			}
		}
	}
	if o.quick {
		o.rounds, o.events, o.seconds, o.backlog, o.memoryEvents = 1, o.events/10, o.seconds/10, o.backlog/10, o.memoryEvents/10
	}
	for _, least := range []struct {
		flag       string
		have, want float64
	}{
		{"rounds", float64(o.rounds), 1}, {"events", float64(o.events), 200}, {"seconds", o.seconds.Seconds(), 0.5},
		{"rate", o.rate, 1}, {"backlog", float64(o.backlog), 100}, {"memory-events", float64(o.memoryEvents), 1000},
	} {
		if least.have < least.want {
			problems = append(problems, fmt.Errorf("-%s: use at least %v", least.flag, least.want))
		}
	}
	return o, errors.Join(problems...)
}
