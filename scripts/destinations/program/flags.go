package program

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/egress"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

// options are what the flags say; each command has some of them.
type options struct {
	table    string
	endpoint string

	schema       bool
	yes          bool
	checkSecrets bool
	force        bool
	json         bool
	note         string
	file         string
	egressAllow  string
	body         bool

	allow   []netip.Prefix // egressAllow, read
	version int64          // the argument of rollback
}

const prelude = `usage: go run ./scripts/destinations COMMAND [flags]

Manages where events go. Destinations stand in a JSON file, which is checked and applied as a whole; whether one is paused or disabled is kept
apart and never touched by applying.

`

// overview tells which commands there are.
func overview(out io.Writer) {
	fmt.Fprint(out, prelude)
	for _, c := range commands() {
		fmt.Fprintf(out, "  %-16s %s\n", c.synopsis(), c.about)
	}
	fmt.Fprintf(out, `
COMMAND -help lists its flags. Region, credentials and profile are those of the AWS SDK. The table is named by $%s or -table.
FILE is - for standard input.

Exit status: %d if all is well, %d if the answer is no (the file has problems, the destination is unknown, the ping was not delivered, the change
was not or not certainly made), %d if the command line, the environment or AWS did not permit it, %d from diff if there are differences. "go run"
makes 1 of them all: go build -o destinations ./scripts/destinations keeps them apart.
`, topology.Registry.NameVariable(), statusDone, statusNo, statusRefused, statusDiffers)
}

// usage tells what a command does and which flags it has.
func (c command) usage(out io.Writer, lookup config.Lookup) {
	fmt.Fprintf(out, "usage: go run ./scripts/destinations %s [flags]\n\n%s\n\n", c.synopsis(), strings.TrimSpace(c.help))
	var o options
	flags := c.flagSet(&o, lookup)
	flags.SetOutput(out)
	flags.PrintDefaults()
}

func (c command) synopsis() string {
	if c.argument == "" {
		return c.name
	}
	return c.name + " " + c.argument
}

func (c command) flagSet(o *options, lookup config.Lookup) *flag.FlagSet {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // problems are told all at once, by parse
	if c.aws {
		flags.StringVar(&o.table, "table", "", "`name` of the registry's table (default $"+topology.Registry.NameVariable()+")")
		flags.StringVar(&o.endpoint, "endpoint-url", "", "`URL` of another AWS endpoint, such as http://127.0.0.1:4566 for the local system, whose table is called "+
			string(topology.Registry))
	}
	if c.flags != nil {
		c.flags(o, flags, lookup)
	}
	return flags
}

// parse reads the command line and checks all of it; the error lists every problem at once. help, if not nil, is what the user asked for.
func parse(args []string, env Environment) (c *call, help func(io.Writer), err error) {
	if len(args) == 0 {
		return nil, nil, errors.New("say which command: validate, diff, apply, list, pause …; -help tells what they do")
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		if len(args) > 1 {
			if chosen, ok := find(args[1]); ok {
				return nil, func(out io.Writer) { chosen.usage(out, env.Lookup) }, nil
			}
		}
		return nil, overview, nil
	}
	chosen, ok := find(args[0])
	if !ok {
		return nil, nil, unknownCommand(args[0])
	}
	c = &call{env: env, command: chosen}
	problems, asked := c.read(args[1:])
	if asked {
		return nil, func(out io.Writer) { chosen.usage(out, env.Lookup) }, nil
	}
	problems = append(problems, c.checkArguments(), c.checkTable(), c.checkFlags())
	return c, nil, errors.Join(problems...)
}

func unknownCommand(text string) error {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	if best := similar(text, names); len(best) > 0 && text[0] != '-' {
		return fmt.Errorf("%q is no command: did you mean %s?", text, best[0])
	}
	return fmt.Errorf("%q is no command: there are %s; the command comes first, flags after it", text, strings.Join(names, ", "))
}

// read sets the options and goes on after each problem, unlike package flag. Flags and arguments may stand in any order.
func (c *call) read(args []string) (problems []error, help bool) {
	flags := c.command.flagSet(&c.options, c.env.Lookup)
	for len(args) > 0 {
		err := flags.Parse(args)
		rest := flags.Args()
		switch {
		case errors.Is(err, flag.ErrHelp):
			return nil, true
		case err != nil:
			problems = append(problems, fmt.Errorf("%w; see %s -help", err, c.command.name))
			if strings.HasPrefix(err.Error(), "bad flag syntax") {
				rest = rest[1:] // the only thing that package flag does not get past by itself
			}
		case len(rest) > 0:
			c.args, rest = append(c.args, rest[0]), rest[1:]
		}
		args = rest
	}
	return problems, false
}

func (c *call) checkArguments() error {
	wanted := c.command.argument
	switch {
	case c.schema && len(c.args) == 0:
		return nil
	case wanted == "" && len(c.args) > 0:
		return fmt.Errorf("arguments %q are not understood: %s has flags only, and yes or no goes with =, as in -yes=false", c.args, c.command.name)
	case wanted != "" && len(c.args) == 0:
		return fmt.Errorf("%s what? Write %s", c.command.name, c.command.synopsis())
	case wanted != "" && len(c.args) > 1:
		return fmt.Errorf("arguments %q are too many: %s takes one %s", c.args, c.command.name, wanted)
	}
	switch wanted {
	case "ID":
		if !registry.ValidID(c.args[0]) {
			return fmt.Errorf("%q cannot be the id of a destination: those are of a-z, 0-9 and hyphens, at most %d", c.args[0], registry.MaxID)
		}
	case "N":
		var err error
		if c.version, err = strconv.ParseInt(c.args[0], 10, 64); err != nil || c.version < 1 {
			return fmt.Errorf("%q is no number of a version: history lists those that are kept", c.args[0])
		}
	}
	return nil
}

// checkTable finds out which table is meant.
func (c *call) checkTable() error {
	if !c.command.aws {
		return nil
	}
	if c.endpoint != "" {
		if u, err := url.Parse(c.endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("-endpoint-url %q is no http or https URL", c.endpoint)
		}
	}
	if c.table != "" || c.file != "" {
		return nil
	}
	if c.endpoint != "" { // what the environment says is about AWS
		c.table = string(topology.Registry)
		return nil
	}
	variable := topology.Registry.NameVariable()
	if c.table, _ = c.env.Lookup(variable); c.table == "" {
		return fmt.Errorf("where is the registry? Give -table or set %s to the name of its table", variable)
	}
	return nil
}

func (c *call) checkFlags() error {
	var problems []error
	if len(c.note) > registry.MaxNote {
		problems = append(problems, fmt.Errorf("-note has %d bytes, at most %d are kept: shorten it", len(c.note), registry.MaxNote))
	}
	var err error
	if c.allow, err = egress.ParseAllow(c.egressAllow); err != nil {
		problems = append(problems, fmt.Errorf("-egress-allow: %w", err))
	}
	return errors.Join(problems...)
}
