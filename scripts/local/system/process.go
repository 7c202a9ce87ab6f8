package system

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	runtimeapi "github.com/waybillhq/waybill/shared/awslocal/runtime"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/topology"
)

// idleLimit is how long a process without work is kept.
const idleLimit = 5 * time.Minute

// process makes a function of a built program.
func (s *System) process(cfg Config, f topology.Function) (*mapping.Function, error) {
	logger := cfg.Logger.With(slog.String(telemetry.KeyFunction, string(f.Name)))
	program, err := runtimeapi.New(runtimeapi.Options{
		Function: string(f.Name), Bootstrap: filepath.Join(cfg.Binaries, string(f.Name), "bootstrap"), Variables: s.variables(cfg), MemoryMB: f.MemoryMB,
		EndpointURL: "http://" + cfg.Listener.Addr().String(), XRayDaemon: cfg.TraceAddress,
		Log: func(l runtimeapi.Line) { logger.Info(l.Text, slog.Int("pid", l.PID)) },
	})
	if err != nil {
		return nil, err
	}
	// A program for another machine, or one that does not start, should be seen now and not at the first message.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := program.Probe(ctx); err != nil {
		return nil, err
	}
	s.programs[f.Name] = program
	config := mapping.FunctionConfig{
		Name: string(f.Name), Timeout: f.Timeout, MemoryMB: f.MemoryMB, Environment: program.Environment, IdleLimit: idleLimit,
		OnEnd: onEnd(cfg, f),
	}
	return mapping.NewFunction(config)
}
