package program

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/topology"
)

// options are what the command line and the environment say.
type options struct {
	at             place // as far as it can be told without a call
	endpoint       string
	prodToo        bool
	othersToo      bool
	receiver       string
	receiverSecret string
	only           []string
	patience       time.Duration // for what becomes of an event
	metrics        time.Duration // for CloudWatch
	timeout        time.Duration
	json           bool
}

// longestTimeout leaves time to clean up before another run may take what this one has made for abandoned.
const longestTimeout = 45 * time.Minute

const usage = `usage: go run ./scripts/smoke [flags]

Proves a deployed stack, in some minutes, and tells a verdict for each check. It sends events of its own tenant, to destinations of its own that
it adds to the registry and removes in the end, and deletes what it has made, also when it is interrupted. An interrupted cleaning (two
interrupts) is made up for by a run that begins an hour later or more.

  go run ./scripts/smoke -stage dev                        the stack waybill-dev
  go run ./scripts/smoke -stack orders -prod-too           another one, whatever its stage
  go run ./scripts/smoke -receiver https://… -receiver-secret arn:aws:…   delivers to an endpoint of yours, too
  go run ./scripts/smoke -only settings,patterns           sends nothing

Resources are found by the outputs of the stack; without -stack and -stage by $` + "%s" + ` and its like if they are set; with -endpoint-url
by their names in the topology. Exit status: 0 no check failed, 1 one failed or it was interrupted, 2 nothing was done. "go run" makes 1 of them
all: go build -o smoke ./scripts/smoke keeps them apart.

`

// parse reads the command line and checks all of it; the error lists every problem at once. help reports that the user asked for help and got it.
func parse(args []string, lookup config.Lookup, stderr io.Writer) (o options, help bool, err error) {
	flags := flag.NewFlagSet("smoke", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, usage, topology.Ingress.URLVariable())
		flags.PrintDefaults()
	}
	var stage, stack, only string
	flags.StringVar(&stage, "stage", "", "`dev or prod`: the stack is waybill-dev or waybill-prod (default dev)")
	flags.StringVar(&stack, "stack", "", "`name` of the stack, where it has another one")
	flags.StringVar(&o.endpoint, "endpoint-url", "", "`URL` of another AWS endpoint, such as http://127.0.0.1:4566 for the local system, which has queues and tables and nothing else")
	flags.BoolVar(&o.prodToo, "prod-too", false, "run even where the stage is not dev")
	flags.BoolVar(&o.othersToo, "others-too", false, "send events even if destinations of others, for every tenant, will receive them")
	flags.StringVar(&o.receiver, "receiver", "", "`URL` of a public HTTPS endpoint of yours that answers 200: every event is delivered there, too")
	flags.StringVar(&o.receiverSecret, "receiver-secret", "", "`ARN` of the secret or parameter that deliveries to -receiver are signed with; the deliverer must be permitted to read it")
	flags.StringVar(&only, "only", "", "only these `parts`: "+strings.Join(partNames(), ", "))
	flags.DurationVar(&o.patience, "wait", 3*time.Minute, "how `long` an event may take through the stack")
	flags.DurationVar(&o.metrics, "metrics-wait", 5*time.Minute, "how `long` CloudWatch may take to show what has run")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Minute, "how `long` all checks may take together; cleaning up comes after it")
	flags.BoolVar(&o.json, "json", false, "one JSON object a line: checks, then a summary")
	if err := flags.Parse(args); err != nil {
		return o, errors.Is(err, flag.ErrHelp), err
	}
	var problems []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	need(flags.NArg() == 0, "arguments %q are not understood: everything is a flag, see -help", flags.Args())
	need(stage == "" || stage == stageDev || stage == stageProd, "-stage %q: dev or prod", stage)
	need(stage == "" || stack == "", "-stage and -stack both name the stack: leave one of them out")
	need(o.endpoint == "" || stage == "" && stack == "", "-endpoint-url names queues and tables as the topology does: leave -stage and -stack out")
	need(o.endpoint == "" || isURL(o.endpoint, "http", "https"), "-endpoint-url %q is no http or https URL", o.endpoint)
	need(o.receiver == "" || isURL(o.receiver, "https") || o.endpoint != "" && isURL(o.receiver, "http"), "-receiver %q is no https URL", o.receiver)
	need((o.receiver == "") == (o.receiverSecret == ""), "-receiver and -receiver-secret belong together: deliveries are signed")
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{{"-wait", o.patience}, {"-metrics-wait", o.metrics}, {"-timeout", o.timeout}} {
		need(d.value > 0 && d.value <= longestTimeout, "%s %v: more than nothing, and at most %v", d.flag, d.value, longestTimeout)
	}
	if only != "" {
		for name := range strings.SplitSeq(only, ",") {
			o.only = append(o.only, name)
			need(slices.Contains(partNames(), name), "-only %q: there are %s", name, strings.Join(partNames(), ", "))
		}
	}
	o.at = placeOf(stage, stack, o.endpoint, lookup)
	return o, false, errors.Join(problems...)
}

func isURL(text string, schemes ...string) bool {
	u, err := url.Parse(text)
	return err == nil && slices.Contains(schemes, u.Scheme) && u.Host != ""
}

// placeOf finds out where the stack is, as far as that can be told without a call.
func placeOf(stage, stack, endpoint string, lookup config.Lookup) place {
	p := place{
		local: endpoint != "", queues: map[topology.QueueName]string{}, tables: map[topology.TableName]string{}, functions: map[topology.FunctionName]string{},
	}
	if p.local {
		p.stage = stageDev
		return p
	}
	if value, _ := lookup(topology.Ingress.URLVariable()); stage != "" || stack != "" || value == "" {
		p.stack = cmp.Or(stack, "waybill-"+cmp.Or(stage, stageDev))
		return p
	}
	t := topology.New(topology.LowLatency)
	for _, q := range t.Queues {
		p.queues[q.Name], _ = lookup(q.Name.URLVariable())
	}
	for _, table := range t.Tables {
		p.tables[table.Name], _ = lookup(table.Name.NameVariable())
	}
	for _, f := range t.Functions {
		p.functions[f.Name], _ = lookup(f.Name.AliasVariable())
	}
	p.stage, _ = lookup(topology.StageVariable)
	return p
}
