package program

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal"
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
	speed        int    // 0: demoSpeed in the demo, 1 otherwise
	binaries     string // folder of built functions; "" for those in this program
	canary       bool
	trace        string // id of the event whose traces are printed in the end; "" for none
	stream       time.Duration
	record       string // path; "" for none

	listener net.Listener
	file     []byte        // the destinations file; nil for the demo
	set      *registry.Set // nil for the demo

	traceAddress string // of the X-Ray daemon; "" without -trace
}

func (o *options) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("local", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // problems are told all at once, by parse
	flags.StringVar(&o.listen, "listen", "127.0.0.1:4566", "`address` of the AWS endpoint; port 0 takes any that is free")
	flags.StringVar(&o.destinations, "destinations", "", "destinations `file`; without it a demo receiver that misbehaves on purpose")
	flags.BoolVar(&o.samples, "samples", true, "send the sample events")
	flags.BoolVar(&o.exit, "exit", false, "stop when nothing is left to do, which with -samples=false is at once;\nthe exit status is 0 only if every event is accounted for")
	flags.BoolVar(&o.json, "json", false, "no table: the summary as JSON on standard output, logs on standard error")
	flags.StringVar(&o.egressAllow, "egress-allow", "loopback", "what destinations may reach besides public addresses: `CIDRs`,\naddresses or the word loopback, separated by commas; \"\" for nothing")
	flags.StringVar(&o.profile, "profile", string(topology.LowLatency), fmt.Sprintf("`profile` of the topology: %s or %s", topology.LowLatency, topology.HighVolume))
	flags.IntVar(&o.speed, "speed", 0, fmt.Sprintf("`times` faster for the demo's long delays: 15 minutes in a queue become 5 s with %d,\nwhich is the demo's default; 1 is real time", demoSpeed))
	flags.StringVar(&o.binaries, "binaries", "", "`folder` of built functions (make build ARCH=…), which then run as processes behind\nLambda's Runtime API")
	flags.BoolVar(&o.canary, "canary", false, "also send an event a minute through everything, to a sink on loopback that verifies it\nand that -egress-allow must let deliveries reach")
	flags.StringVar(&o.trace, "trace", "", "in the end print where the event with this `id` has been, from its traces")
	flags.DurationVar(&o.stream, "stream", 0, "besides the samples send new events, ten a second, for this `time`")
	flags.StringVar(&o.record, "record", "", "write what CloudWatch would know of the run to this `file`, for scripts/dashboard")
	return flags
}

// usage tells what the program does and which flags it has.
func usage(out io.Writer) {
	fmt.Fprint(out, `usage: go run ./scripts/local [flags]      (or: make run ARGS='[flags]')

Runs the whole of Waybill on this machine: an endpoint that speaks SQS, DynamoDB,
Secrets Manager and SSM, the functions, and a receiver that misbehaves on purpose. Any AWS SDK or the AWS CLI
can send events to it, with any credentials. Ctrl-C ends it.

`)
	var o options
	flags := o.flags()
	flags.SetOutput(out)
	flags.PrintDefaults()
	fmt.Fprintf(out, `
Exit status: %d if all went well, %d if an event is not accounted for or something
failed on the way, %d if the flags do not permit a start.
`, statusDone, statusBroken, statusRefused)
}

// parse reads the command line and checks all of it, up to taking the port. The error lists every problem at once; with one, nothing is
// left open. It is flag.ErrHelp if somebody asked for help.
func parse(args []string) (options, error) {
	var o options
	problems, err := o.read(args)
	if err != nil {
		return o, err
	}
	for _, check := range []func() error{o.takePort, o.readDestinations, o.checkEgress, o.checkProfile, o.checkSpeed, o.checkStream, o.checkRecord} {
		problems = append(problems, check())
	}
	err = errors.Join(problems...)
	if err != nil && o.listener != nil {
		_ = o.listener.Close()
	}
	return o, err
}

// read sets the options and goes on after each problem, unlike package flag.
func (o *options) read(args []string) (problems []error, help error) {
	flags := o.flags()
	var strays []string
	for len(args) > 0 {
		err := flags.Parse(args)
		rest := flags.Args()
		switch {
		case errors.Is(err, flag.ErrHelp):
			return nil, flag.ErrHelp
		case err != nil:
			problems = append(problems, fmt.Errorf("%w; see -help", err))
			if strings.HasPrefix(err.Error(), "bad flag syntax") {
				rest = rest[1:] // the only thing that package flag does not get past by itself
			}
		case len(rest) > 0:
			strays, rest = append(strays, rest[0]), rest[1:]
		}
		args = rest
	}
	if len(strays) > 0 {
		problems = append(problems, fmt.Errorf("arguments %q are not understood: there are flags only, and yes or no goes with =, as in -samples=false; see -help", strays))
	}
	return problems, nil
}

func (o *options) takePort() (err error) {
	if _, port, err := net.SplitHostPort(o.listen); err != nil {
		return fmt.Errorf("-listen %q: write host:port, as in 127.0.0.1:4566", o.listen)
	} else if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("-listen %q: the port must be a number from 0 to 65535", o.listen)
	}
	if o.listener, err = awslocal.Listen(o.listen); err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	return nil
}

// baseURL is what producers on this machine reach the endpoint under.
func (o *options) baseURL() string {
	_, port, _ := net.SplitHostPort(o.listener.Addr().String())
	host, _, _ := net.SplitHostPort(o.listen)
	if address, err := netip.ParseAddr(host); host == "" || err == nil && address.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// exposed tells whether others than this machine may reach the endpoint.
func (o *options) exposed() bool {
	address, ok := o.listener.Addr().(*net.TCPAddr)
	return !ok || !address.IP.IsLoopback()
}

func (o *options) readDestinations() error {
	if o.destinations == "" {
		return nil
	}
	file, err := os.Open(o.destinations)
	if err != nil {
		return fmt.Errorf("-destinations: %w; name a destinations file, or leave the flag out for the demo", err)
	}
	defer file.Close()
	// One byte more than is allowed tells that there is more.
	if o.file, err = io.ReadAll(io.LimitReader(file, registry.MaxFileBytes+1)); err != nil {
		return fmt.Errorf("-destinations: %w; name a destinations file, or leave the flag out for the demo", err)
	}
	o.set, err = registry.Parse(o.file, registry.Options{Name: o.destinations})
	return eachLine("-destinations: ", err)
}

func (o *options) checkEgress() error {
	_, err := egress.ParseAllow(o.egressAllow)
	return eachLine("-egress-allow: ", err)
}

// checkSpeed settles how much faster the demo's delays are.
func (o *options) checkSpeed() error {
	const most = 900 // then a queue's longest delay is a second
	fixed := ""
	switch {
	case o.destinations != "":
		fixed = "-destinations: write short waits into the file instead"
	case o.binaries != "":
		fixed = "-binaries: the built functions know real time only"
	}
	switch {
	case fixed != "" && o.speed > 1:
		return fmt.Errorf("-speed %d cannot be combined with %s", o.speed, fixed)
	case o.speed < 0 || o.speed > most:
		return fmt.Errorf("-speed %d: use 1 to %d", o.speed, most)
	case o.speed == 0 && fixed == "":
		o.speed = demoSpeed
	}
	o.speed = max(o.speed, 1)
	return nil
}

func (o *options) checkStream() error {
	if o.stream < 0 || o.stream > 0 && !o.samples {
		return fmt.Errorf("-stream %v: use a time above 0, and not with -samples=false", o.stream)
	}
	return nil
}

func (o *options) checkRecord() error {
	if o.record != "" && o.binaries != "" {
		return errors.New("-record cannot be combined with -binaries: the metrics of processes are lines of their logs")
	}
	return nil
}

func (o *options) checkProfile() error {
	return eachLine("-profile: ", topology.New(topology.Profile(o.profile)).Validate())
}

// eachLine puts the flag's name before every line of an error that lists several problems.
func eachLine(prefix string, err error) error {
	if err == nil {
		return nil
	}
	return errors.New(prefix + strings.ReplaceAll(err.Error(), "\n", "\n"+prefix))
}
