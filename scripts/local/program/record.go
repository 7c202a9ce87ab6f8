package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/waybillhq/waybill/scripts/local/recording"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/topology"
)

// sampleEvery is how often a recorder looks at queues and functions.
const sampleEvery = 250 * time.Millisecond

// recorder writes the file of -record.
type recorder struct {
	*recording.Recording

	file *os.File
	stop context.CancelFunc
	done chan struct{} // closed after the last sample; nil before start
}

func newRecorder(path string, t topology.Topology) (*recorder, error) {
	file, err := os.Create(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("-record: %w; name a file in a folder that exists", err)
	}
	return &recorder{Recording: recording.New(file, t), file: file}, nil
}

// attach lets the recorder hear of what happens, besides those who do already.
func (r *recorder) attach(cfg *system.Config) {
	cfg.OnInvocation, cfg.Observe = r.OnInvocation, r.OnCall
	heard := cfg.Queues.OnSend
	cfg.Queues.OnSend = func(queue string, m sqs.Message) {
		heard(queue, m)
		r.OnSend(queue, m)
	}
	cfg.Logger = slog.New(slog.NewMultiHandler(cfg.Logger.Handler(), r.Logger().Handler()))
	if cfg.Metrics == nil {
		cfg.Metrics = r
	} else {
		cfg.Metrics = io.MultiWriter(cfg.Metrics, r)
	}
}

func (r *recorder) start(ctx context.Context, s *system.System) {
	ctx, r.stop = context.WithCancel(ctx)
	r.done = make(chan struct{})
	go func() {
		defer close(r.done)
		r.Run(ctx, s, sampleEvery)
	}()
}

// Close takes the last sample and closes the file. The error tells what could not be written. A nil recorder has nothing to do.
func (r *recorder) Close() error {
	if r == nil {
		return nil
	}
	if r.done != nil {
		r.stop()
		<-r.done
	}
	if err := errors.Join(r.Err(), r.file.Close()); err != nil {
		return fmt.Errorf("-record: %w", err)
	}
	return nil
}
