package program

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"github.com/waybillhq/waybill/shared/egress"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

// options are what the command line says.
type options struct {
	listen       string
	destinations string // path; "" for the demo
	samples      bool
	exit         bool
	json         bool
	egressAllow  string
	profile      string

	file []byte        // the destinations file
	set  *registry.Set // nil for the demo
}

// loopback is what destinations may reach by default besides public addresses: on this machine that is where receivers under
// development live.
const loopback = "127.0.0.0/8,::1/128"

// parse reads the command line and checks all of it; the error lists every problem at once. help reports that the
// user asked for help and got it.
func parse(args []string, stderr io.Writer) (o options, help bool, err error) {
	flags := flag.NewFlagSet("local", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: go run ./scripts/local [flags]   (make run ARGS='…')\n\n"+
			"Runs the whole of Waybill on this machine: an endpoint that speaks SQS and DynamoDB, the functions, and a\n"+
			"receiver that misbehaves on purpose. Any AWS SDK or the AWS CLI can send to it with any credentials.\n\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.listen, "listen", "127.0.0.1:4566", "`address` of the AWS endpoint; port 0 takes any that is free")
	flags.StringVar(&o.destinations, "destinations", "", "destinations `file` (default: a demo receiver)")
	flags.BoolVar(&o.samples, "samples", true, "send the sample events")
	flags.BoolVar(&o.exit, "exit", false, "stop when nothing is left to do; exit status 0 only if every event is accounted for")
	flags.BoolVar(&o.json, "json", false, "print the summary as JSON on standard output, logs on standard error")
	flags.StringVar(&o.egressAllow, "egress-allow", loopback, "`CIDRs`, comma-separated, that destinations may have besides public addresses")
	flags.StringVar(&o.profile, "profile", string(topology.LowLatency), "`profile`: low-latency or high-volume")
	if err := flags.Parse(args); err != nil {
		return o, errors.Is(err, flag.ErrHelp), err
	}
	return o, false, errors.Join(o.check(flags.Args())...)
}

func (o *options) check(rest []string) (problems []error) {
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(rest) > 0 {
		add("arguments %q are not understood: everything is a flag, see -help", rest)
	}
	if _, port, err := net.SplitHostPort(o.listen); err != nil {
		add("-listen %q: write host:port, such as 127.0.0.1:4566", o.listen)
	} else if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		add("-listen %q: the port must be between 0 and 65535", o.listen)
	}
	if _, err := egress.ParseAllow(o.egressAllow); err != nil {
		add("-egress-allow: %w", err)
	}
	if err := topology.New(topology.Profile(o.profile)).Validate(); err != nil {
		add("-profile: %w", err)
	}
	if o.destinations == "" {
		return problems
	}
	file, err := os.ReadFile(o.destinations)
	if err != nil {
		add("-destinations: %w", err)
		return problems
	}
	o.file = file
	if o.set, err = registry.Parse(file, registry.Options{Name: o.destinations}); err != nil {
		add("-destinations: %w", err)
	}
	return problems
}
