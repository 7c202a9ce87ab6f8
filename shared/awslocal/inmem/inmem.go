// Package inmem carries connections that never leave the process. Waiting on one is waiting on a channel, so that in a
// testing/synctest bubble the waiter is durably blocked and virtual time passes.
package inmem

import (
	"context"
	"net"
	"sync"
)

// Listener is a net.Listener whose connections come from Dial. It is safe for concurrent use. In a testing/synctest bubble it
// must have been made in the same bubble, and be closed before it ends.
type Listener struct {
	name        address
	connections chan net.Conn
	closed      chan struct{}
	close       sync.Once
}

// Listen makes a listener; name stands for its address in logs.
func Listen(name string) *Listener {
	return &Listener{name: address(name), connections: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial opens a connection to whoever accepts on l.
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	client, server := newPipe(l.name)
	select {
	case l.connections <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept waits for the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.connections:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial.
func (l *Listener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

// Addr names the listener.
func (l *Listener) Addr() net.Addr { return l.name }

type address string

// Network names what carries the connections.
func (address) Network() string { return "memory" }

// String gives the listener's name.
func (a address) String() string { return string(a) }
