package runtimeapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
)

// environment is one execution environment: a process, or another one after the first could not initialise. It implements
// mapping.Environment under that interface's rules of concurrency.
type environment struct {
	program *Program
	id      string

	mu      sync.Mutex
	process *process // the one that is ready; nil: none yet
}

// Init starts the process and waits until it is ready.
func (e *environment) Init(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, e.program.opts.InitLimit, mapping.ErrTimeout)
	defer cancel()
	return e.start(ctx, "", e.program.opts.InitLimit)
}

// start starts a process and waits until it is ready, or until it failed and is gone.
func (e *environment) start(ctx context.Context, requestID string, limit time.Duration) error {
	p, err := e.program.launch(e.id)
	if err != nil {
		return unstartable(requestID, err)
	}
	select {
	case <-p.api.ready:
		e.mu.Lock()
		defer e.mu.Unlock()
		e.process = p
		return nil
	case <-p.gone:
	case <-p.api.initFailed:
		p.end()
	case <-ctx.Done():
		p.end()
		return p.ended(ctx, requestID, limit)
	}
	if f := p.api.initFailure(); f != nil {
		return f
	}
	return exited(requestID, p.state)
}

// Alive tells whether there is a process that waits for an invocation.
func (e *environment) Alive() bool {
	p := e.current()
	if p == nil {
		return false
	}
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

func (e *environment) current() *process {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.process
}

// Invoke hands the invocation to the process and waits until it is over. It needs the context of a mapping.Function.
func (e *environment) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	inv := mapping.InvocationFrom(ctx)
	if inv == nil {
		return nil, errors.New("an environment is invoked by a mapping.Function only: there is no request in the context")
	}
	limit := (time.Until(inv.Deadline) + time.Second - 1).Truncate(time.Second) // the function's timeout, told at its beginning
	if err := context.Cause(ctx); err != nil {
		if p := e.current(); p != nil {
			p.end()
		}
		return nil, &Failure{TypeExit, prefix(inv.RequestID) + "the invocation ended before the process was asked", err}
	}
	if !e.Alive() {
		if err := e.start(ctx, inv.RequestID, limit); err != nil {
			return nil, err
		}
	}
	p := e.current()
	t := &task{
		requestID: inv.RequestID, functionARN: inv.FunctionARN, deadline: inv.Deadline, traceID: e.trace(ctx),
		payload: payload, over: make(chan struct{}),
	}
	p.thaw()
	p.api.give(t)
	select {
	case <-t.over:
		if !e.program.opts.Thawed {
			p.freeze()
		}
	case <-p.gone:
	case <-ctx.Done():
		p.end()
		return nil, p.ended(ctx, inv.RequestID, limit)
	}
	response, failure, answered := p.api.answer(t)
	switch {
	case !answered:
		return nil, exited(inv.RequestID, p.state)
	case failure != nil:
		return nil, failure
	}
	return response, nil
}

// Close ends the process as Lambda does at the end of an environment.
func (e *environment) Close() {
	if p := e.current(); p != nil {
		p.shutdown()
	}
}

// trace gives the trace id of an invocation: the one that the function's Context hook put where aws-lambda-go would, or a new one.
func (e *environment) trace(ctx context.Context) string {
	if id, ok := ctx.Value("x-amzn-trace-id").(string); ok && id != "" {
		return id
	}
	var random [20]byte
	rand.Read(random[:]) // never fails
	sampled := 0
	if e.program.opts.XRayDaemon != "" {
		sampled = 1
	}
	return fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=%d",
		time.Now().Unix(), hex.EncodeToString(random[:12]), hex.EncodeToString(random[12:]), sampled)
}
