// Command dashboard draws the dashboard of the stack with the metrics of a run of the local system; -help lists its flags.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/waybillhq/waybill/scripts/dashboard/picture"
)

const goldenTemplate = "infra/stack/testdata/prod-everything.template.json"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run gives the exit status: 0, 1 if something failed, 2 if the flags are wrong.
func run(args []string, stdout, stderr io.Writer) int {
	const statusDone, statusFailed, statusRefused = 0, 1, 2
	flags := flag.NewFlagSet("dashboard", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	recorded := flags.String("run", "", "`file` that make run ARGS=\"-record FILE\" wrote; without it there is no data")
	out := flags.String("o", "infra/dashboard.svg", "`file` to write the picture to")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, "usage: go run ./scripts/dashboard [flags] [TEMPLATE]\n\nDraws the dashboard of a synthesised template, cdk.out/NAME.template.json.\nDefault: %s\n\n", goldenTemplate)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return statusDone
	case err != nil || flags.NArg() > 1:
		fmt.Fprintf(stderr, "cannot start: %v; want flags first and then at most one template, see -help\n", err)
		return statusRefused
	}
	template := goldenTemplate
	if flags.NArg() == 1 {
		template = flags.Arg(0)
	}
	if err := draw(template, *recorded, *out); err != nil {
		fmt.Fprintln(stderr, err)
		return statusFailed
	}
	fmt.Fprintln(stdout, "written:", *out)
	return statusDone
}

func draw(template, recorded, out string) error {
	text, err := os.ReadFile(template) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	parsed, err := picture.ParseTemplate(text)
	if err != nil {
		return fmt.Errorf("%s: %w", template, err)
	}
	board, err := picture.ParseBoard(parsed)
	if err != nil {
		return fmt.Errorf("%s: %w", template, err)
	}
	lines := []byte(nil)
	if recorded != "" {
		if lines, err = os.ReadFile(recorded); err != nil { //nolint:gosec // the operator names it
			return err
		}
	}
	r, err := picture.ReadRun(bytes.NewReader(lines))
	if err != nil {
		return fmt.Errorf("%s: %w", recorded, err)
	}
	return os.WriteFile(out, picture.Draw(board, r), 0o644) //nolint:gosec // a picture for everybody
}
