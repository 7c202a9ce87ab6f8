package runtimeapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
)

const (
	// termGrace is what Lambda leaves an internal extension between SIGTERM and SIGKILL.
	termGrace = 500 * time.Millisecond
	// pipeGrace is how long a descendant may hold the output open after the process is gone.
	pipeGrace = 250 * time.Millisecond
)

// process is a process and the Runtime API that it alone can reach.
type process struct {
	environmentID string
	pid           int
	command       *exec.Cmd
	api           *api
	server        *http.Server

	gone  chan struct{}    // closed when nothing of it runs any more
	state *os.ProcessState // set before gone closes
}

// launch starts a process of the program. It leads a process group, so that what it starts ends with it.
func (p *Program) launch(environmentID string) (*process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the runtime API has no port: %w", err)
	}
	a := newAPI(p.opts.Function, filepath.Base(p.opts.Bootstrap))
	started := &process{
		environmentID: environmentID, api: a, gone: make(chan struct{}),
		server: &http.Server{Handler: a.handler(), ReadHeaderTimeout: time.Minute},
	}
	started.command = exec.Command(p.opts.Bootstrap) //nolint:gosec // the program is what the caller wants to run
	started.command.Dir = filepath.Dir(p.opts.Bootstrap)
	started.command.Env = p.variables(l.Addr().String(), environmentID)
	started.command.SysProcAttr = attributes()
	started.command.WaitDelay = pipeGrace
	out := &lines{program: p, process: started}
	errs := &lines{program: p, process: started, stderr: true}
	started.command.Stdout, started.command.Stderr = out, errs
	if err := started.command.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w (it must be built for %s/%s)", err, runtime.GOOS, runtime.GOARCH), l.Close())
	}
	started.pid = started.command.Process.Pid
	p.add(started)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = started.server.Serve(l) // ends by Close
	}()
	go func() {
		_ = started.command.Wait() // the state says it all; a descendant that holds the output is killed next
		started.kill()
		out.flush()
		errs.flush()
		started.state = started.command.ProcessState
		_ = started.server.Close()
		<-served
		p.remove(started)
		close(started.gone)
	}()
	return started, nil
}

// end kills the process and waits until it is gone.
func (p *process) end() {
	p.kill()
	<-p.gone
}

// shutdown ends the process, with time to clean up if it asked for that.
func (p *process) shutdown() {
	if p.api.extended() {
		p.terminate()
		p.thaw()
		t := time.NewTimer(termGrace)
		defer t.Stop()
		select {
		case <-p.gone:
			return
		case <-t.C:
		}
	}
	p.end()
}

// ended words why ctx ended a process that is gone.
func (p *process) ended(ctx context.Context, requestID string, limit time.Duration) *Failure {
	if errors.Is(context.Cause(ctx), mapping.ErrTimeout) {
		return timedOut(requestID, limit)
	}
	return exited(requestID, p.state)
}
