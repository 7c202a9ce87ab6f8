// Command deliveries answers "where is event X?" from the ledger, the waiting room, the dead-letter queues and the registry; -help lists its flags.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/waybillhq/waybill/scripts/deliveries/program"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)                     // a second interrupt ends it at once
	env := program.Environment{Lookup: os.LookupEnv} //nolint:forbidigo // a main: nothing below looks at the environment
	return program.Run(ctx, os.Args[1:], env, os.Stdout, os.Stderr)
}
