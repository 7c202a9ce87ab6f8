// Package xray is a small X-Ray for local use: it takes what the X-Ray SDKs send to the daemon, refuses what X-Ray would refuse, and shows the
// journey of one delivery through all traces that it left.
//
// Packets come by UDP ([Daemon.Serve]) or from the same process ([Daemon.Receive]), in any order: children before their parents, what is in
// progress after what is done. [Daemon.Invocation] does what Lambda does for each invocation of a traced function.
//
// # What belongs to a delivery
//
// A delivery passes through several traces: that of its event's producer, the router's, and one for every invocation of the deliverer. The
// annotations of spans tie them together:
//
//	delivery     the delivery's id
//	event_trace  the id of the event's own trace
//	event        the event's id, where several events share a trace
//
// To a delivery belong the traces with a span of that delivery, the event's own trace, and the traces with a span of that event that is of no other
// delivery. Of these, spans of other deliveries and events are left out; what is annotated with none, such as a claim for a whole batch, stays.
//
// Unlike X-Ray, it forgets the oldest traces when it is full, samples nothing, indexes every annotation, and does not ask whether times are recent.
package xray

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"
)

// DefaultMaxBytes keeps some hundred thousand segments.
const DefaultMaxBytes = 128 << 20

// overheadBytes is what keeping a segment costs besides its text, roughly.
const overheadBytes = 512

// Options configure a Daemon. The zero value is usable.
type Options struct {
	// MaxBytes bounds what is kept. The oldest traces, by their first packet, go first. Default DefaultMaxBytes.
	MaxBytes int
}

// Stats count what a daemon did since it was made.
type Stats struct {
	Packets   int64  // received
	Refused   int64  // of these
	Forgotten int64  // segments that had to go
	Segments  int    // kept now
	Traces    int    // kept now
	Refusal   string // the last one, in words; "" if there was none
}

// Daemon collects segments. It is safe for concurrent use.
type Daemon struct {
	maxBytes int

	mu     sync.Mutex
	traces map[string]*trace
	order  []string // ids of traces, oldest first
	bytes  int
	stats  Stats
}

type trace struct {
	segments map[string]kept
	bytes    int
}

type kept struct {
	Segment
	bytes int
}

// New makes a Daemon.
func New(o Options) *Daemon {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	return &Daemon{maxBytes: o.MaxBytes, traces: map[string]*trace{}}
}

// Receive takes one packet: the line {"format":"json","version":1} and a segment document. The error is ErrRefused with the reason. It
// keeps nothing of packet itself.
func (d *Daemon) Receive(packet []byte) error {
	segments, err := readPacket(packet)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Packets++
	if err != nil {
		d.stats.Refused++
		d.stats.Refusal = err.Error()
		return err
	}
	for _, s := range segments {
		d.keep(s, overheadBytes+len(packet)/len(segments))
	}
	return nil
}

// keep keeps a segment, replacing what was known of it unless that is more. d.mu is held.
func (d *Daemon) keep(s Segment, size int) {
	t := d.traces[s.TraceID]
	if t == nil {
		t = &trace{segments: map[string]kept{}}
		d.traces[s.TraceID] = t
		d.order = append(d.order, s.TraceID)
	}
	before := t.segments[s.ID]
	if !before.End.IsZero() && s.End.IsZero() {
		return // packets overtake each other: it has ended
	}
	t.segments[s.ID] = kept{s, size}
	t.bytes += size - before.bytes
	d.bytes += size - before.bytes
	for d.bytes > d.maxBytes {
		oldest := d.traces[d.order[0]]
		delete(d.traces, d.order[0])
		d.order = d.order[1:]
		d.bytes -= oldest.bytes
		d.stats.Forgotten += int64(len(oldest.segments))
	}
}

// Stats gives a consistent copy of the counters.
func (d *Daemon) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Traces = len(d.traces)
	for t := range maps.Values(d.traces) {
		s.Segments += len(t.segments)
	}
	return s
}

// Serve receives packets from a UDP socket until it is closed, and then returns nil. What is refused is counted. Datagrams that come faster than they
// are read are lost, as with any daemon; the socket is asked for a large buffer.
func (d *Daemon) Serve(conn net.PacketConn) error {
	if c, ok := conn.(interface{ SetReadBuffer(bytes int) error }); ok {
		_ = c.SetReadBuffer(8 << 20) // as much as the system allows; less is no reason to stop
	}
	packet := make([]byte, MaxPacketBytes+1)
	for {
		n, _, err := conn.ReadFrom(packet)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("xray: receive packets: %w", err)
		}
		_ = d.Receive(packet[:n]) // counted there
	}
}

// Invocation does Lambda's part for one invocation of a function with active tracing: it begins a trace with the function's segment, and gives the trace
// header that the function finds in its context, sampled. end ends the segment, as a fault if failed; later calls do nothing.
func (d *Daemon) Invocation(name string) (header string, end func(failed bool)) {
	random := make([]byte, 20)
	rand.Read(random) // never fails
	text := hex.EncodeToString(random)
	begin := now()
	s := Segment{TraceID: fmt.Sprintf("1-%08x-%s", uint32(begin.Unix()), text[:24]), ID: text[24:], Name: name, Start: begin}
	put := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.keep(s, overheadBytes)
	}
	put()
	var once sync.Once
	return "Root=" + s.TraceID + ";Parent=" + s.ID + ";Sampled=1", func(failed bool) {
		once.Do(func() {
			s.End, s.Fault = now(), failed
			put()
		})
	}
}

// now is as exact as the times in documents are.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
