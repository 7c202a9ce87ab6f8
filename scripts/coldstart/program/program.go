// Package program measures cold starts: the time and the processor time from the start of a process to its first request for an invocation, its memory then, and
// the time to its first answer. Lambda's Runtime API and AWS are emulated in this process (shared/awslocal); what Lambda does before it starts a process, such as
// fetching the code, is not part of it.
//
// All candidates are measured in every round, in another order each time, and a ratio is the median of the ratios within rounds: on a machine that has other
// work to do, only what was measured side by side can be compared.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/waybillhq/waybill/scripts/artifacts/archive"
	"github.com/waybillhq/waybill/shared/topology"
)

// options are what the command line says.
type options struct {
	rounds   int
	binaries string
	beside   string
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("coldstart", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.IntVar(&o.rounds, "rounds", 40, "how often each function is started; one more round, the first, is not counted")
	flags.StringVar(&o.binaries, "binaries", "", "`folder` with the functions, NAME/bootstrap, built for this machine; without it they are built from the sources")
	flags.StringVar(&o.beside, "beside", "", "`folder` with other builds of the functions, which are measured beside those, as \"NAME, beside\"")
	flags.Usage = func() {
		fmt.Fprint(out, "usage: go run ./scripts/coldstart [flags]\n\nMeasures how long the functions take to start, beside one that does nothing and one with AWS clients.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("%q: only flags are understood", flags.Args())
	case o.rounds < 1:
		return o, fmt.Errorf("-rounds %d: use 1 or more", o.rounds)
	}
	return o, nil
}

// Run measures what the command line says and gives the exit status: 0, 1 if it could not be measured, 2 for a wrong command line.
func Run(ctx context.Context, args []string, out, errs io.Writer) int {
	o, err := parse(args, errs)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(errs, "coldstart:", err)
		return 2
	}
	if err := run(ctx, o, out); err != nil {
		fmt.Fprintln(errs, "coldstart:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	folder, err := os.MkdirTemp("", "waybill-coldstart-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := build(ctx, folder, o); err != nil {
		return err
	}
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	candidates, err := w.candidates(folder, o)
	if err != nil {
		return err
	}
	before := loadAverage()
	for round := range o.rounds + 1 {
		rand.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
		for _, c := range candidates {
			s, err := c.start(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 { // in the first one, the file system has yet to read the programs
				c.samples = append(c.samples, s)
			}
		}
	}
	return report(out, o.rounds, before, candidates)
}

// names are the functions of the topology.
func names() []string {
	var all []string
	for _, f := range topology.New(topology.LowLatency).Functions {
		all = append(all, string(f.Name))
	}
	return all
}

// at gives the path of a function's program.
func at(folder, name string) string { return filepath.Join(folder, name, archive.Bootstrap) }
