// Command coldstart measures how long the built functions take to start, beside one that does nothing and one with AWS clients; -help lists its flags,
// README.md has results.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/waybillhq/waybill/scripts/coldstart/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second interrupt ends the program at once
	os.Exit(program.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
