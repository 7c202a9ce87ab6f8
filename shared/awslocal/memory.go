package awslocal

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// memoryListener accepts connections that never leave the process. Waiting on one is waiting on a channel, so that in a
// testing/synctest bubble the waiter is durably blocked and virtual time passes.
type memoryListener struct {
	connections chan net.Conn
	closed      chan struct{}
	close       sync.Once
}

func newMemoryListener() *memoryListener {
	return &memoryListener{connections: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept waits for the next connection.
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.connections:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and dial.
func (l *memoryListener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

// Addr names the listener in logs.
func (l *memoryListener) Addr() net.Addr { return memoryAddress{} }

type memoryAddress struct{}

// Network names the kind of address.
func (memoryAddress) Network() string { return "memory" }

// String names the address.
func (memoryAddress) String() string { return "awslocal" }

func (l *memoryListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := newPipe()
	select {
	case l.connections <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Dial opens an in-memory connection to the endpoint. In a testing/synctest bubble the endpoint must have
// been made in the same bubble, and be closed before it ends.
func (e *Endpoint) Dial(ctx context.Context) (net.Conn, error) {
	e.start.Do(func() { go func() { _ = e.Serve(e.memory) }() })
	return e.memory.dial(ctx)
}

// Client gives an HTTP client that reaches the endpoint in memory, whatever host a URL names. It is
// meant as the HTTPClient of an AWS SDK configuration.
func (e *Endpoint) Client() *http.Client {
	const connections = 256 // every waiting receive has one of its own
	return &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return e.Dial(ctx) },
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
	}}
}
