// Package program is the command line that manages destinations: it checks files, shows what they would change, applies them under the condition
// that nobody else has meanwhile, and pauses, resumes, enables and tries single destinations.
//
// Whatever comes from outside, be it a note in the registry or what a receiver answered, is escaped and cut before it reaches the terminal. Secrets,
// values of headers, and the paths and queries of URLs are never shown.
package program

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/waybillhq/waybill/shared/config"
	redrive "github.com/waybillhq/waybill/shared/redrive/program"
)

// Exit statuses of Run.
const (
	statusDone    = 0
	statusNo      = 1 // the file has problems, the destination is unknown, the ping was not delivered, the change was not or not certainly made
	statusRefused = 2 // nothing was changed: the command line, the environment or AWS does not permit it
	statusDiffers = 3 // diff: applying the file would change something
)

// Environment is what the program needs of its surroundings.
type Environment struct {
	Lookup   config.Lookup // environment variables
	User     string        // who applies and pauses; "" where that is not known
	Stdin    io.Reader     // answers to questions, and the file named "-"
	Terminal bool          // a person answers at Stdin
	// AWS gives the configuration of the SDK, for endpoint where that is not empty. Nil: LoadAWS.
	AWS func(ctx context.Context, endpoint string) (aws.Config, error)
	// Dial connects a ping; nil: through the egress guard, which is what anything but a test wants.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is the base of a ping's TLS settings, for tests with certificates of their own.
	TLS *tls.Config
}

// Run is the whole program: it returns its exit status. When ctx ends, what is under way is given up, except that a change whose answer was
// lost is looked up before anything is said about it.
func Run(ctx context.Context, args []string, env Environment, stdout, stderr io.Writer) int {
	if env.AWS == nil {
		env.AWS = LoadAWS
	}
	c, help, err := parse(args, env)
	switch {
	case help != nil:
		help(stdout)
		return statusDone
	case err != nil:
		fmt.Fprintln(stderr, lines(err.Error()))
		return statusRefused
	}
	c.out, c.errs = stdout, stderr
	err = c.command.run(c, ctx)
	if err == nil {
		return statusDone
	}
	if ctx.Err() != nil {
		err = interrupted(err)
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(stderr, lines(text))
	}
	var e *exit
	if errors.As(err, &e) {
		return e.status
	}
	return statusNo
}

// exit is an error with an exit status of its own. One without a cause says nothing.
type exit struct {
	status int
	cause  error
}

// Error gives the cause.
func (e *exit) Error() string {
	if e.cause == nil {
		return ""
	}
	return e.cause.Error()
}

// Unwrap gives the cause.
func (e *exit) Unwrap() error { return e.cause }

// cannot is for errors before which nothing was changed, and which are about the surroundings.
func cannot(format string, args ...any) error {
	return &exit{statusRefused, fmt.Errorf(format, args...)}
}

// interrupted keeps the status and says why, in place of all that an interrupt makes the SDK say.
func interrupted(err error) error {
	var e *exit
	if errors.As(err, &e) && e.status == statusRefused {
		return &exit{statusRefused, errors.New("interrupted: nothing was changed")}
	}
	return err
}

// call is one run of a command.
type call struct {
	options
	env     Environment
	command command
	args    []string // what is no flag
	cfg     aws.Config
	out     io.Writer
	errs    io.Writer
}

// say writes a line for people. What it is given must have been made printable.
func (c *call) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

// warn writes a line about something that is not as it should be and does not stop the command.
func (c *call) warn(format string, args ...any) {
	fmt.Fprintf(c.errs, "warning: "+format+"\n", args...)
}

// by is who makes a change.
func (c *call) by() string {
	if c.env.User == "" {
		return "unknown"
	}
	return c.env.User
}

// LoadAWS loads the SDK's configuration from where the SDK looks for it. An endpoint on this machine needs neither region nor credentials.
func LoadAWS(ctx context.Context, endpoint string) (aws.Config, error) {
	cfg, err := redrive.LoadAWS(ctx, "", endpoint)
	if err != nil {
		return aws.Config{}, err
	}
	cfg.RetryMaxAttempts = 5 // fewer than there: somebody waits for an answer
	return cfg, nil
}

// find gives the command of that name.
func find(name string) (command, bool) {
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if i < 0 {
		return command{}, false
	}
	return all[i], true
}
