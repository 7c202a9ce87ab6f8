package program

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/terminal"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/whereabouts"
)

// options are what the command line and the environment say.
type options struct {
	whereabouts.Question
	tables   map[topology.TableName]string
	queues   map[topology.QueueName]string // URLs, as far as they are known
	endpoint string
	json     bool
	again    []string // the flags, for a command that asks for more of the same
}

const usage = `usage: go run ./scripts/deliveries [flags]

Answers "where is event X?" and says which command comes next. Changes nothing.

  go run ./scripts/deliveries -event 4711 -source /shop            every delivery of an event
  go run ./scripts/deliveries -event 4711 -source /shop -queues    … its dead letters too
  go run ./scripts/deliveries -delivery 2v0c…                      one delivery, by the id that logs and receivers (webhook-id) have
  go run ./scripts/deliveries -destination crm -state parked       what is held for a destination
  go run ./scripts/deliveries -state dead -since 6h                what was given up

An event or a delivery costs a few read units; a state or a time scans tables, up to -max-units, and tells how to go on. By destination
only what is held can be found, and what is dead with -queues: the ledger does not say for whom a delivery is.

-queues looks into the dead-letter queues. SQS has no search: messages are received, hidden for two minutes at most, and shown again; SQS counts that as a
receive, which means nothing there. The queues that functions read are never looked at: there each look counts, and SQS moves a message to the
dead-letter queue after the tenth.

Lists are comma-separated, and flags of lists can be repeated. Exit status: 0 found, 1 not found (or not within the budget), 2 refused, or
not found and something could not be read. "go run" makes 1 of them all: go build -o deliveries ./scripts/deliveries keeps them apart.

`

// parse reads the command line and checks all of it; the error lists every problem at once. help reports that the user asked for help and got it.
func parse(args []string, lookup config.Lookup, now time.Time, stderr io.Writer) (o options, help bool, err error) {
	flags := flag.NewFlagSet("deliveries", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	q := &o.Question
	var id, since, until string
	var states []string
	tables := map[topology.TableName]*string{}
	flags.StringVar(&q.Event, "event", "", "`id` of an event, as its producer gave it")
	flags.Var((*terminal.List)(&q.Sources), "source", "`sources` that the event may have; without one the waiting room is searched, and the ledger for events that have no source of their own")
	flags.Var((*terminal.List)(&q.Tenants), "tenant", "`tenants` that the event may be of (default: all that the registry names, and default)")
	flags.StringVar(&id, "delivery", "", "`id` of a delivery")
	flags.Var((*terminal.List)(&q.Destinations), "destination", "only these `destinations`, also such as are no longer in the registry")
	flags.Var((*terminal.List)(&states), "state", "only these `states`: delivered, waiting, parked, claimed, dead")
	flags.StringVar(&since, "since", "", "only what last changed at this `time` or later: RFC 3339, or a duration ago (2h)")
	flags.StringVar(&until, "until", "", "only what last changed before this `time`")
	flags.BoolVar(&q.DeadLetters, "queues", false, "look into the dead-letter queues too (SQS counts the looks as receives, which matters to nobody there)")
	flags.BoolVar(&q.Payload, "payload", false, "show the payload of the one delivery that is asked for, if it is held or dead: the ledger keeps none")
	flags.BoolVar(&o.json, "json", false, "one JSON object a line: deliveries, then a summary")
	flags.Float64Var(&q.MaxUnits, "max-units", whereabouts.DefaultMaxUnits, fmt.Sprintf("`read units` to use at most, at least %d", whereabouts.MinUnits))
	flags.IntVar(&q.Limit, "limit", whereabouts.DefaultLimit, fmt.Sprintf("`deliveries` to show at most, up to %d", whereabouts.MaxLimit))
	flags.StringVar(&q.After, "after", "", "go on at this `place`, as it was printed")
	for _, t := range []topology.TableName{topology.Ledger, topology.Waiting, topology.Registry} {
		tables[t] = flags.String(string(t), "", "`name` of the table (default $"+t.NameVariable()+")")
	}
	flags.StringVar(&o.endpoint, "endpoint-url", "",
		"`URL` of another AWS endpoint, such as http://127.0.0.1:4566 for the local system; tables and queues are then found by name")
	if err := flags.Parse(args); err != nil {
		return o, errors.Is(err, flag.ErrHelp), err
	}
	var problems []error
	add := func(err error) { problems = append(problems, err) }
	if flags.NArg() > 0 {
		add(fmt.Errorf("arguments %q are not understood: everything is a flag, see -help", flags.Args()))
	}
	q.Delivery = delivery.ID(id)
	for _, s := range states {
		q.States = append(q.States, whereabouts.State(s))
	}
	if q.MaxUnits == 0 {
		add(errors.New("-max-units 0: nothing could be read"))
	}
	if q.Limit == 0 {
		add(errors.New("-limit 0: nothing would be shown"))
	}
	for _, t := range []struct {
		flag, text string
		to         *time.Time
	}{{"-since", since, &q.Since}, {"-until", until, &q.Until}} {
		var err error
		*t.to, err = terminal.Instant(t.flag, t.text, now)
		add(err)
	}
	add(q.Check())
	add(o.places(tables, lookup))
	flags.Visit(func(f *flag.Flag) {
		value := f.Value.String()
		switch f.Name {
		case "after":
			return
		case "since": // the same times, not the same distances
			value = q.Since.UTC().Format(time.RFC3339Nano)
		case "until":
			value = q.Until.UTC().Format(time.RFC3339Nano)
		}
		o.again = append(o.again, "-"+f.Name+"="+value)
	})
	return o, false, errors.Join(problems...)
}

// places finds out which tables and queues are meant, as far as that can be told without a call. With an endpoint of its own everything is called
// there as in the topology: what the environment says is about AWS.
func (o *options) places(tables map[topology.TableName]*string, lookup config.Lookup) error {
	var problems []error
	if o.endpoint != "" {
		if u, err := url.Parse(o.endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			problems = append(problems, fmt.Errorf("-endpoint-url %q is no http or https URL", o.endpoint))
		}
	}
	o.tables, o.queues = map[topology.TableName]string{}, map[topology.QueueName]string{}
	for _, name := range []topology.TableName{topology.Ledger, topology.Waiting, topology.Registry} {
		o.tables[name] = *tables[name]
		switch variable, _ := lookup(name.NameVariable()); {
		case o.tables[name] != "":
		case o.endpoint != "":
			o.tables[name] = string(name)
		case variable != "":
			o.tables[name] = variable
		default:
			problems = append(problems, fmt.Errorf("where is the table %s? Give -%s or set %s to its name", name, name, name.NameVariable()))
		}
	}
	for _, name := range queueNames() {
		if o.endpoint != "" {
			continue // looked up there
		}
		o.queues[name], _ = lookup(name.URLVariable())
		if o.queues[name] == "" && o.DeadLetters && (name == topology.DeliveriesDeadLetter || name == topology.IngressDeadLetter) {
			problems = append(problems, fmt.Errorf("-queues: where is the queue %s? Set %s to its URL", name, name.URLVariable()))
		}
	}
	return errors.Join(problems...)
}

func queueNames() []topology.QueueName {
	return []topology.QueueName{topology.Ingress, topology.IngressDeadLetter, topology.Deliveries, topology.DeliveriesSlow, topology.DeliveriesDeadLetter}
}
