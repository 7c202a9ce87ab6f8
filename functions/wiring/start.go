package wiring

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/middleware"

	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/requestbody"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/tracing"
)

// Start runs a function under Lambda's runtime. It returns only when the function cannot start, with every reason at once; a
// function that cannot start deletes no message.
func Start(name topology.FunctionName, assemble Assembly) error {
	err := start(name, assemble)
	if err != nil { // in the form that queries of logs can read; the caller says it in full
		slog.New(lambdacontext.NewLogHandler()).Error("the function cannot start", telemetry.Error(err))
	}
	return err
}

func start(name topology.FunctionName, assemble Assembly) error {
	cfg, err := config.Load(name, os.LookupEnv)
	if err != nil {
		return err
	}
	LimitMemory(cfg.Function.MemoryMB)
	destinations, err := fixed(cfg)
	if err != nil {
		return err
	}
	aws, err := awsconfig.LoadDefaultConfig(context.Background(), awsconfig.WithHTTPClient(client(answerTime)),
		awsconfig.WithAPIOptions([]func(*middleware.Stack) error{requestbody.ReadOnly}))
	if err != nil {
		return fmt.Errorf("AWS configuration: %w", err)
	}
	logger := slog.New(atLeast{lambdacontext.NewLogHandler(), cfg.LogLevel})
	tracer := tracer(cfg, logger)
	h, err := assemble(cfg, Parts{AWS: aws, Destinations: destinations, Logger: logger, Metrics: os.Stdout, Tracer: tracer})
	if err != nil {
		return err
	}
	// Lambda gives half a second between SIGTERM and the end: enough to send the spans that are open, not to finish work. What is unfinished
	// is safe without it.
	lambda.StartWithOptions(h, lambda.WithEnableSIGTERM(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		if err := tracer.Flush(ctx); err != nil {
			logger.Warn("open spans could not be sent", telemetry.Error(err))
		}
	}))
	return nil
}

// LimitMemory lets this process use the memory that is paid for before it collects garbage. By default Go would collect whenever a few
// megabytes have come together, after every handful of batches, at a fifth of the processor time. Three quarters are the limit; the rest is
// for stacks and for what is not Go's. A function that comes near it collects more often instead of dying.
func LimitMemory(megabytes int) {
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(int64(megabytes) << 20 / 4 * 3)
}

// tracer sends spans to the daemon that Lambda names. Without one, or if it cannot be reached, functions work without traces.
func tracer(cfg config.Function, logger *slog.Logger) *tracing.Tracer {
	if cfg.TraceDaemon == "" {
		return nil
	}
	t, err := tracing.New(tracing.Config{DaemonAddress: cfg.TraceDaemon, Logger: logger})
	if err != nil {
		logger.Error("there will be no traces", telemetry.Error(err))
		return nil
	}
	return t
}

// fixed reads the destinations that are deployed with the function, if there are any.
func fixed(cfg config.Function) (*registry.Set, error) {
	if cfg.DestinationsFile == "" {
		return nil, nil //nolint:nilnil // nil means those in the registry
	}
	file, err := os.ReadFile(cfg.DestinationsFile)
	if err != nil {
		return nil, fmt.Errorf("destinations file (%s): %w", topology.DestinationsVariable, err)
	}
	set, err := registry.Parse(file, registry.Options{})
	if err != nil {
		return nil, fmt.Errorf("destinations file %s: %w", cfg.DestinationsFile, err)
	}
	return set, nil
}
