// Package program is local mode: it starts the system, the demo receiver and the auditor, sends the samples, shows what happens and
// tells in the end what became of every delivery.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

// Exit statuses of Run.
const (
	statusDone    = 0
	statusBroken  = 1 // an event is not accounted for, or something failed while running
	statusRefused = 2 // the command line or the environment does not permit a start
)

// Run is the whole program: it returns its exit status when ctx ends or, with -exit, when nothing is left to do.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, help, err := parse(args, stderr)
	switch {
	case help:
		return statusDone
	case err != nil:
		fmt.Fprintln(stderr, err)
		return statusRefused
	}
	r, err := start(ctx, o, stderr)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return statusRefused
	}
	status := r.watch(ctx, stdout, stderr)
	if err := r.stop(); err != nil {
		fmt.Fprintln(stderr, "stopping:", err)
		return statusBroken
	}
	return status
}

// run is local mode while it runs.
type run struct {
	options
	demo    *demo // nil with -destinations
	system  *system.System
	auditor *auditor.Auditor
	baseURL string
	started time.Time
	sent    chan error // the result of sending the samples
	served  chan error
	cancel  context.CancelFunc
}

func start(ctx context.Context, o options, stderr io.Writer) (_ *run, err error) {
	l, err := awslocal.Listen(o.listen)
	if err != nil {
		return nil, err
	}
	r := &run{options: o, baseURL: "http://" + l.Addr().String(), started: time.Now(), sent: make(chan error, 1), served: make(chan error, 1)}
	defer func() {
		if err != nil {
			_ = l.Close()
			if r.demo != nil {
				_ = r.demo.Close()
			}
		}
	}()
	if o.set == nil {
		// The auditor is made after the destinations are known; the receiver is not called before.
		if r.demo, err = startDemo(func(req receiver.Request) { r.auditor.OnReceived(req.ID, req.Status, req.Digest) }); err != nil {
			return nil, err
		}
		r.file = r.demo.file
		if r.set, err = registry.Parse(r.file, registry.Options{Name: "demo"}); err != nil {
			return nil, err
		}
	}
	if r.auditor, err = auditor.New(auditor.Config{Destinations: r.file, ReceiverLog: r.demo != nil}); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx)) // an interrupt stops us in order, not at once
	r.cancel = cancel
	r.system, err = system.Start(running, system.Config{
		Topology: topology.New(topology.Profile(o.profile)), Destinations: r.set, EgressAllow: o.egressAllow, Logger: logger(o, stderr),
		Queues:    sqs.Options{BaseURL: r.baseURL, OnSend: r.auditor.OnSend},
		OnAttempt: r.auditor.OnAttempt,
	})
	if err != nil {
		cancel()
		return nil, err
	}
	go func() { r.served <- r.system.Serve(l) }()
	go func() { r.sent <- r.sendSamples(ctx) }()
	return r, nil
}

// logger is for the functions' logs: standard error with -json, nowhere otherwise, where progress and table tell the story.
func logger(o options, stderr io.Writer) *slog.Logger {
	if !o.json {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewJSONHandler(stderr, nil))
}

func (r *run) sendSamples(ctx context.Context) error {
	if !r.samples {
		return nil
	}
	ingress, ok := r.system.Queues.Queue(string(topology.Ingress))
	if !ok {
		return errors.New("the ingress queue does not exist")
	}
	return sendSamples(ctx, r.system.AWS(), ingress.URL())
}

// watch shows progress until the end and gives the exit status.
func (r *run) watch(ctx context.Context, stdout, stderr io.Writer) int {
	progress := newProgress(r, stdout)
	progress.opening()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	sending, idle := true, 0
	for {
		select {
		case <-ctx.Done():
			return r.finish(progress, stdout, stderr)
		case err := <-r.served:
			fmt.Fprintln(stderr, "the AWS endpoint stopped:", err)
			return statusBroken
		case err := <-r.sent:
			if err != nil {
				fmt.Fprintln(stderr, err)
				return statusBroken
			}
			sending = false
		case <-ticker.C:
			progress.show(r.audit())
			// Twice in a row, because a message can be between two queues at the moment of looking.
			if idle++; sending || r.system.Busy() > 0 {
				idle = 0
			}
			if r.exit && idle >= 2 {
				return r.finish(progress, stdout, stderr)
			}
		}
	}
}

func (r *run) audit() auditor.Books {
	return r.auditor.Audit(r.system.Queues, r.system.Tables, r.system.Endpoint.Counts())
}

// finish stops the functions, audits the books once more and prints them.
func (r *run) finish(p *progress, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := r.system.Pause(ctx); err != nil {
		fmt.Fprintln(stderr, "the functions did not stop:", err)
	}
	books := r.audit()
	if err := p.closing(books); err != nil {
		fmt.Fprintln(stderr, err)
		return statusBroken
	}
	if err := books.Check(); err != nil {
		fmt.Fprintln(stderr, "THE BOOKS DO NOT BALANCE:", err)
		return statusBroken
	}
	return statusDone
}

func (r *run) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	defer r.cancel()
	err := r.system.Stop(ctx)
	if r.demo != nil {
		err = errors.Join(err, r.demo.Close())
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
