// Command destinations manages where events go: it checks a destinations file, applies it to the registry, and pauses, resumes, enables and tries
// single destinations; -help lists its commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"os/user"
	"syscall"

	"github.com/waybillhq/waybill/scripts/destinations/program"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)                                      // a second interrupt ends it at once
	env := program.Environment{Lookup: os.LookupEnv, Stdin: os.Stdin} //nolint:forbidigo // a main: nothing below looks at the environment
	if u, err := user.Current(); err == nil {
		env.User = u.Username
	}
	if stdin, err := os.Stdin.Stat(); err == nil {
		env.Terminal = stdin.Mode()&os.ModeCharDevice != 0
	}
	return program.Run(ctx, os.Args[1:], env, os.Stdout, os.Stderr)
}
