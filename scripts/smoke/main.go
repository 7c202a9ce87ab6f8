// Command smoke proves a deployed stack: it sends events through it, looks at what became of them, asks AWS what only AWS can answer, and cleans
// up after itself; -help lists its flags.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/waybillhq/waybill/scripts/smoke/program"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)                     // a second interrupt ends it at once, without cleaning up
	env := program.Environment{Lookup: os.LookupEnv} //nolint:forbidigo // a main: nothing below looks at the environment
	return program.Run(ctx, os.Args[1:], env, os.Stdout, os.Stderr)
}
