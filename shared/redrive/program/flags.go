package program

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/redrive"
	"github.com/waybillhq/waybill/shared/terminal"
	"github.com/waybillhq/waybill/shared/topology"
)

// options are what the command line and the environment say.
type options struct {
	redrive.Config
	to       topology.QueueName
	endpoint string
	all      bool
}

const usage = `usage: go run ./scripts/redrive [flags]

Moves dead letters back to the queue that they came from, where they are tried again.

  go run ./scripts/redrive -destination crm -reason 'http-5*' -since 6h -dry-run     count first
  go run ./scripts/redrive -destination crm -reason 'http-5*' -since 6h              then move
  go run ./scripts/redrive -queue ingress -tenant acme                               malformed events, after the router was mended

Nothing is lost: a message is deleted only after its copy was accepted. Ctrl-C stops in order, and running the same
command again goes on. Deliveries that were delivered meanwhile are skipped by the ledger, unless -replay.

Lists are comma-separated, and flags of lists can be repeated. * stands for any characters. All filters must agree.

`

// parse reads the command line and checks all of it; the error lists every problem at once. help reports that the
// user asked for help and got it.
func parse(args []string, lookup config.Lookup, now time.Time, stderr io.Writer) (o options, help bool, err error) {
	flags := flag.NewFlagSet("redrive", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	f := &o.Filter
	var name, since, until string
	var codes []string
	flags.StringVar(&name, "queue", "deliveries", "`which` dead letters: deliveries (of the deliveries queue) or ingress (of the ingress queue)")
	flags.StringVar(&o.FromURL, "from", "", "`URL` of the dead-letter queue (default $"+topology.DeliveriesDeadLetter.URLVariable()+" or $"+topology.IngressDeadLetter.URLVariable()+")")
	flags.StringVar(&o.ToURL, "to", "", "`URL` of the queue to move to (default $"+topology.Deliveries.URLVariable()+" or $"+topology.Ingress.URLVariable()+")")
	flags.StringVar(&o.endpoint, "endpoint-url", "", "`URL` of another AWS endpoint, such as http://127.0.0.1:4566 for the local system; the queues are then found by name")
	flags.Var((*terminal.List)(&f.Destinations), "destination", "only deliveries to these `destinations`")
	flags.Var((*terminal.List)(&f.Tenants), "tenant", "only events of these `tenants`")
	flags.Var((*terminal.List)(&f.Types), "type", "only events of these `types`")
	flags.Var((*terminal.List)(&f.Reasons), "reason", "only these `reasons`; "+redrive.ReasonReceiveCount+" for what SQS itself moved")
	flags.Var((*terminal.List)(&codes), "code", "only these last status `codes`: 503, 5xx, 500-503, 0 for no answer")
	flags.StringVar(&since, "since", "", "only what failed at this `time` or later: RFC 3339, or a duration ago (2h)")
	flags.StringVar(&until, "until", "", "only what failed before this `time`; of what SQS itself moved, the time of its sending counts")
	flags.BoolVar(&o.all, "all", false, "move everything; needed where no filter is given, except for a dry run")
	flags.BoolVar(&f.Unreadable, "unreadable", false, "also move what cannot be read, such as messages of a newer release; without it they are counted and left")
	flags.IntVar(&o.Limit, "limit", 0, "move at most `n` messages (0: no limit)")
	flags.IntVar(&o.Rate, "rate", redrive.DefaultRate, fmt.Sprintf("`messages` a second, at most %d", redrive.MaxRate))
	flags.BoolVar(&o.DryRun, "dry-run", false, "count by destination, reason and code; move nothing and leave everything visible (SQS counts the looks as receives)")
	flags.BoolVar(&o.Replay, "replay", false, "deliver again even what was delivered meanwhile, under the same webhook-id")
	flags.BoolVar(&o.NewID, "new-id", false, "with -replay: under a new webhook-id, for receivers that drop the old one")
	flags.BoolVar(&o.Rotate, "rotate", false, "where messages cannot be reached otherwise, send those that do not match to the end of their queue, with new message ids")
	flags.IntVar(&o.Window, "window", redrive.DefaultWindow, "`messages` kept in flight at most while looking for others")
	if err := flags.Parse(args); err != nil {
		return o, errors.Is(err, flag.ErrHelp), err
	}
	var problems []error
	add := func(err error) { problems = append(problems, err) }
	if flags.NArg() > 0 {
		add(fmt.Errorf("arguments %q are not understood: everything is a flag, see -help", flags.Args()))
	}
	if o.Rate == 0 {
		add(errors.New("-rate 0: nothing would ever be moved"))
	}
	if o.Window == 0 {
		add(errors.New("-window 0: nothing could be looked at"))
	}
	for _, text := range codes {
		c, err := redrive.ParseCodes(text)
		add(err)
		f.Codes = append(f.Codes, c)
	}
	for _, t := range []struct {
		flag, text string
		to         *time.Time
	}{{"-since", since, &f.Since}, {"-until", until, &f.Until}} {
		var err error
		*t.to, err = terminal.Instant(t.flag, t.text, now)
		add(err)
	}
	add(o.queues(name, lookup))
	switch empty := f.Empty(); {
	case empty && !o.all && !o.DryRun:
		add(errors.New("no filter: this would move everything; say -all if that is meant"))
	case !empty && o.all:
		add(errors.New("-all contradicts the filters: leave one of them out"))
	}
	add(o.check())
	return o, false, errors.Join(problems...)
}

// queues finds out which queues are meant, as far as that can be told without a call.
func (o *options) queues(name string, lookup config.Lookup) error {
	switch topology.QueueName(name) {
	case topology.Deliveries, topology.DeliveriesDeadLetter:
		o.From, o.to = topology.DeliveriesDeadLetter, topology.Deliveries
	case topology.Ingress, topology.IngressDeadLetter:
		o.From, o.to = topology.IngressDeadLetter, topology.Ingress
	default:
		return fmt.Errorf("-queue %q: deliveries or ingress", name)
	}
	var problems []error
	for _, q := range []struct {
		flag string
		url  *string
		name topology.QueueName
	}{{"-from", &o.FromURL, o.From}, {"-to", &o.ToURL, o.to}} {
		// With an endpoint of its own the queues are looked up there: what the environment says is about AWS.
		if *q.url == "" && o.endpoint == "" {
			value, _ := lookup(q.name.URLVariable())
			if *q.url = value; value == "" {
				problems = append(problems, fmt.Errorf("where is the queue %s? Give %s or set %s to its URL", q.name, q.flag, q.name.URLVariable()))
				continue
			}
		}
		problems = append(problems, checkURL(q.flag, *q.url))
	}
	return errors.Join(append(problems, checkURL("-endpoint-url", o.endpoint))...)
}

func checkURL(flag, text string) error {
	if text == "" {
		return nil
	}
	if u, err := url.Parse(text); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s %q is no http or https URL", flag, text)
	}
	return nil
}

// check has the configuration checked before there is a client.
func (o *options) check() error {
	if o.From == "" {
		return nil // told already
	}
	c := o.Config
	c.SQS = unconnected{}
	if c.FromURL == "" {
		c.FromURL = string(o.From)
	}
	if c.ToURL == "" {
		c.ToURL = string(o.to)
	}
	_, err := redrive.New(c)
	return err
}

// unconnected stands for a client before there is one. It is never called.
type unconnected struct{ redrive.API }
