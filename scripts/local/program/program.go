// Package program is local mode: it starts the system, the demo receiver and the auditor, sends the samples, shows what happens and
// tells in the end what became of every delivery.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/xray"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

// Exit statuses of Run.
const (
	statusDone    = 0
	statusBroken  = 1 // an event is not accounted for, or something failed while running
	statusRefused = 2 // the flags or the environment do not permit a start
)

// Run is the whole program: it returns its exit status when ctx ends or, with -exit, when nothing is left to do. Either way it lets
// attempts that are under way come to their end first, which may take as long as the longest timeout of a function.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return launch(ctx, args, stdout, stderr, nil)
}

// launch is Run. started, if not nil, gets the system before anything is sent to it.
func launch(ctx context.Context, args []string, stdout, stderr io.Writer, started func(*run)) int {
	o, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		usage(stdout)
		return statusDone
	case err != nil:
		fmt.Fprintf(stderr, "cannot start:\n%v\n", err)
		return statusRefused
	}
	r, err := start(ctx, o, stdout, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "cannot start:\n%v\n", err)
		return statusRefused
	}
	if started != nil {
		started(r)
	}
	if err := errors.Join(r.work(ctx), r.end()); err != nil {
		fmt.Fprintln(stderr, err)
		return statusBroken
	}
	return statusDone
}

// run is local mode while it runs.
type run struct {
	options
	demo     *demo // nil with -destinations
	system   *system.System
	auditor  *auditor.Auditor
	topology topology.Topology
	logger   *slog.Logger
	progress *progress
	out      io.Writer
	traces   *xray.Daemon   // nil without -trace
	spans    net.PacketConn // where it hears of them
	passages *passages
	patience time.Duration      // how long a stop is waited for before it is explained
	recorder *recorder          // nil without -record
	told     map[string]bool    // messages whose refusal was shown
	cancel   context.CancelFunc // of everything that runs
}

// start starts everything but the samples. An error is complete: nothing runs then, and the port is free.
func start(ctx context.Context, o options, stdout, stderr io.Writer) (_ *run, err error) {
	// An interrupt must stop things in order, not at once.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &run{
		options: o, topology: topology.New(topology.Profile(o.profile)), logger: logger(o, stderr), out: stdout,
		patience: 500 * time.Millisecond, passages: newPassages(), told: map[string]bool{}, cancel: cancel,
	}
	r.progress = newProgress(o, stdout)
	defer func() {
		if err != nil {
			cancel()
			err = errors.Join(err, o.listener.Close(), r.closeDemo(), r.recorder.Close())
		}
	}()
	if r.set == nil {
		if err := r.prepareDemo(); err != nil {
			return nil, err
		}
	}
	if r.auditor, err = auditor.New(auditor.Config{Destinations: r.file, ReceiverLog: r.demo != nil, Unheard: o.binaries != "", Canary: o.canary}); err != nil {
		return nil, err
	}
	if o.trace != "" {
		address, err := r.receiveTraces()
		if err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, r.spans.Close())
			}
		}()
		o.traceAddress = address
	}
	var sink net.Listener
	if o.canary {
		if sink, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("-canary: no port for its sink: %w", err)
		}
		defer func() {
			if err != nil {
				_ = sink.Close()
			}
		}()
	}
	cfg := system.Config{
		Topology: r.topology, Destinations: r.file, EgressAllow: o.egressAllow, Logger: r.logger,
		Queues:    sqs.Options{BaseURL: r.baseURL(), OnSend: r.auditor.OnSend},
		OnAttempt: r.auditor.OnAttempt, Metrics: r.metrics(stderr),
		Speed: o.speed, Listener: o.listener, Binaries: o.binaries, Traces: r.traces, TraceAddress: o.traceAddress,
		Canary: sink, OnCanary: r.knocked,
	}
	if o.record != "" {
		if r.recorder, err = newRecorder(o.record, r.topology); err != nil {
			return nil, err
		}
		r.recorder.attach(&cfg)
	}
	if r.system, err = system.Start(running, cfg); err != nil {
		return nil, err
	}
	if r.recorder != nil {
		r.recorder.start(running, r.system)
	}
	if r.demo != nil {
		r.demo.start()
	}
	return r, nil
}

// knocked hears of requests at the canary's sink, of which those count that it believes: anybody can knock there too.
func (r *run) knocked(publicID string, status int, digest string) {
	if status == http.StatusNoContent {
		r.auditor.OnReceived(publicID, status, digest)
	}
}

// logger is for the functions' logs: standard error with -json, nowhere otherwise, where progress and table tell the story.
func logger(o options, stderr io.Writer) *slog.Logger {
	if !o.json {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewJSONHandler(stderr, nil))
}

// metrics is for the functions' lines of metrics: with -json they go where the logs go.
func (r *run) metrics(stderr io.Writer) io.Writer {
	if !r.json {
		return nil
	}
	return stderr
}

// receiveTraces starts the X-Ray daemon and gives its address.
func (r *run) receiveTraces() (address string, err error) {
	if r.spans, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		return "", fmt.Errorf("-trace: no port for the traces: %w", err)
	}
	r.traces = xray.New(xray.Options{})
	go func() { _ = r.traces.Serve(r.spans) }()
	return r.spans.LocalAddr().String(), nil
}

// prepareDemo takes the demo's receiver and destinations for this run.
func (r *run) prepareDemo() (err error) {
	r.demo, err = newDemo(r.speed, func(req receiver.Request) {
		if req.Verified { // anybody can knock at the door
			r.auditor.OnReceived(req.ID, req.Status, req.Digest)
		}
	})
	if err != nil {
		return err
	}
	r.file = r.demo.file
	r.set, err = registry.Parse(r.file, registry.Options{Name: "demo"})
	return err
}

func (r *run) closeDemo() error {
	if r.demo == nil {
		return nil
	}
	return r.demo.Close()
}

// work sends the samples, waits for the end and reports. The error tells what failed and what is not accounted for.
func (r *run) work(ctx context.Context) error {
	r.opening()
	failure := r.watch(ctx)
	r.progress.end()
	failure = errors.Join(failure, r.pause())
	books := r.audit()
	if err := r.report(books); err != nil {
		failure = errors.Join(failure, fmt.Errorf("the report cannot be written: %w", err))
	}
	if r.exit && r.demo != nil && r.samples && r.speed > 1 && ctx.Err() == nil && r.passages.waited() == 0 {
		failure = errors.Join(failure, errors.New("no delivery went through the waiting room, although one should have"))
	}
	if denied := r.system.Denied(); len(denied) > 0 {
		failure = errors.Join(failure, fmt.Errorf("functions were refused what the topology does not grant them: %q", denied))
	}
	if err := books.Check(); err != nil {
		failure = errors.Join(failure, fmt.Errorf("THE BOOKS DO NOT BALANCE: %w", err))
	}
	return failure
}

// watch shows progress until ctx ends, something fails or, with -exit, nothing is left to do.
func (r *run) watch(ctx context.Context) error {
	sent := make(chan error, 1)
	go func() { sent <- r.produce(ctx) }()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	sending, refused := true, 0
	audit := func() auditor.Books {
		b := r.audit()
		refused = b.IngressDead
		return b
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-r.system.Served():
			return fmt.Errorf("the AWS endpoint has stopped: %w", err)
		case err := <-sent:
			if err != nil {
				return err
			}
			sending = false
		case <-ticker.C:
			r.passages.look(r.system)
			before := refused
			if r.progress.show(audit); refused > before && !r.exit { // with -exit the end is near, and tells
				r.tellRefused()
			}
			if r.exit && !sending && r.system.Busy() == 0 {
				return nil
			}
		}
	}
}

// produce sends the samples if they are wanted, and plays the demo's operator. That ctx ends meanwhile is no error.
func (r *run) produce(ctx context.Context) error {
	if !r.samples {
		return nil
	}
	streamed := make(chan error, 1)
	go func() { streamed <- r.stream(ctx) }()
	if err := errors.Join(r.operate(ctx, func() error { return r.sendSamples(ctx) }), <-streamed); ctx.Err() == nil {
		return err
	}
	return nil
}

// sendSamples sends the samples. That ctx ends meanwhile is no error.
func (r *run) sendSamples(ctx context.Context) error {
	ingress, ok := r.system.Queues.Queue(string(topology.Ingress))
	if !ok {
		return errors.New("the ingress queue does not exist")
	}
	if err := sendSamples(ctx, r.system.AWS(), ingress.URL()); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the samples cannot be sent: %w", err)
	}
	return nil
}

func (r *run) audit() auditor.Books {
	return r.auditor.Audit(r.system.Queues, r.system.Tables, r.system.Endpoint.Counts())
}

// pause stops the functions and waits for what they are doing, whatever has become of the caller's context.
func (r *run) pause() error {
	var longest time.Duration
	for _, f := range r.topology.Functions {
		longest = max(longest, f.Timeout)
	}
	longest += 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	paused := make(chan error, 1)
	go func() { paused <- r.system.Pause(ctx) }()
	var err error
	select {
	case err = <-paused:
	case <-time.After(r.patience):
		r.tellOf(fmt.Sprintf("Stopping when the attempts under way are over, within %s. Ctrl-C stops at once.", longest))
		err = <-paused
	}
	if err != nil {
		return fmt.Errorf("the functions have not stopped within %s: %w", longest, err)
	}
	return nil
}

// end stops everything.
func (r *run) end() error {
	defer r.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := errors.Join(r.recorder.Close(), r.system.Stop(ctx), r.closeDemo())
	if r.spans != nil {
		err = errors.Join(err, r.spans.Close())
	}
	if err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	return nil
}
