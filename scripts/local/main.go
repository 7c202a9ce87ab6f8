// Command local runs the whole of Waybill on this machine; `make run` starts it, -help lists its flags.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/waybillhq/waybill/scripts/local/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second interrupt ends the program at once
	os.Exit(program.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
