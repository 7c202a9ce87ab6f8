package inmem

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipeBytes is how much one side of a pipe can write before the other reads. As on TCP, and not as in net.Pipe, who writes little
// does not wait for the reader.
const pipeBytes = 64 << 10

// newPipe gives both ends of an in-memory connection. Whoever waits on one waits on a channel.
func newPipe(name address) (client, server net.Conn) {
	up, down := newHalf(), newHalf()
	return &pipe{read: down, write: up, name: name}, &pipe{read: up, write: down, name: name}
}

// pipe is one end of a connection.
type pipe struct {
	read, write *half
	name        address
}

// Read waits for data, the end of the other side or the deadline.
func (p *pipe) Read(b []byte) (int, error) { return p.read.readInto(b) }

// Write waits for space for all of b, the end of the other side or the deadline.
func (p *pipe) Write(b []byte) (int, error) { return p.write.writeFrom(b) }

// LocalAddr names the listener.
func (p *pipe) LocalAddr() net.Addr { return p.name }

// RemoteAddr names the listener.
func (p *pipe) RemoteAddr() net.Addr { return p.name }

// Close ends both directions. What has been written can still be read at the other end.
func (p *pipe) Close() error {
	p.read.change(func(h *half) { h.refused = true })
	p.write.change(func(h *half) { h.ended = true })
	return nil
}

// SetDeadline ends reads and writes at t.
func (p *pipe) SetDeadline(t time.Time) error {
	_ = p.SetReadDeadline(t)
	return p.SetWriteDeadline(t)
}

// SetReadDeadline ends reads at t, also one that waits now.
func (p *pipe) SetReadDeadline(t time.Time) error {
	p.read.setDeadline(&p.read.readBy, t)
	return nil
}

// SetWriteDeadline ends writes at t, also one that waits now.
func (p *pipe) SetWriteDeadline(t time.Time) error {
	p.write.setDeadline(&p.write.writeBy, t)
	return nil
}

// half is one direction of a connection.
type half struct {
	mu              sync.Mutex // never held while waiting
	changed         chan struct{}
	data            bytes.Buffer
	ended, refused  bool // closed by the writer, by the reader
	readBy, writeBy deadline
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newHalf() *half { return &half{changed: make(chan struct{})} }

// change changes the state and wakes whoever waits for it.
func (h *half) change(to func(*half)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	to(h)
	h.wake()
}

func (h *half) wake() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait gives up the lock until something changes.
func (h *half) wait() {
	changed := h.changed
	h.mu.Unlock()
	<-changed
	h.mu.Lock()
}

func (h *half) setDeadline(d *deadline, t time.Time) {
	h.change(func(h *half) {
		if d.timer != nil {
			d.timer.Stop()
		}
		*d = deadline{at: t}
		if !t.IsZero() && !d.passed() {
			d.timer = time.AfterFunc(time.Until(t), func() { h.change(func(*half) {}) })
		}
	})
}

func (h *half) readInto(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.refused:
			return 0, net.ErrClosed
		case h.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case h.data.Len() > 0 || len(b) == 0:
			n, _ := h.data.Read(b) // fails on an empty buffer only
			h.wake()
			return n, nil
		case h.ended:
			return 0, io.EOF
		}
		h.wait()
	}
}

func (h *half) writeFrom(b []byte) (written int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.ended:
			return written, net.ErrClosed
		case h.refused:
			return written, io.ErrClosedPipe
		case h.writeBy.passed():
			return written, os.ErrDeadlineExceeded
		}
		if n := min(pipeBytes-h.data.Len(), len(b)); n > 0 {
			h.data.Write(b[:n]) // never fails
			written, b = written+n, b[n:]
			h.wake()
		}
		if len(b) == 0 {
			return written, nil // whatever the clock says: all is written
		}
		h.wait()
	}
}
