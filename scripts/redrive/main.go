// Command redrive moves dead letters back to the queue that they came from, by filter, at a rate, with a dry run;
// -help lists its flags.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/waybillhq/waybill/shared/redrive/program"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)                     // a second interrupt ends it at once
	env := program.Environment{Lookup: os.LookupEnv} //nolint:forbidigo // a main: nothing below looks at the environment
	return program.Run(ctx, os.Args[1:], env, os.Stdout, os.Stderr)
}
