// Command bench measures Waybill end to end and counts what deliveries cost; -help lists its flags, README.md has results.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/waybillhq/waybill/scripts/bench/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second interrupt ends the program at once
	os.Exit(program.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
