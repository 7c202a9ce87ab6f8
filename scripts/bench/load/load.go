// Package load puts load on the whole of Waybill in one process and measures what a receiver sees of it, beside the same load sent to the
// same receiver without Waybill.
//
// Everything that a delivery needs runs in this process: the emulated AWS endpoint behind in-memory connections, the functions with the real AWS
// SDK, and the receiver behind TCP on the loopback interface. So wall times include the emulator's work, which no customer pays for; CPU
// tells how the processor time divides.
package load

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/topology"
)

// Shape says what a system under load looks like.
type Shape struct {
	Profile      topology.Profile // default low latency
	Destinations int              // default 1
	FanOut       bool             // every event goes to all destinations, not to one of them in turn
	Relaxed      bool             // the ledger mode of all destinations
	PayloadBytes int              // of an event's data; default 1 KiB
	AnswerAfter  time.Duration    // what the receiver takes for an answer
	Hanging      bool             // one more destination that never answers, with a timeout of HangingTimeout
	Concurrency  int              // most invocations of a function at a time; default as the topology has it
	InMemory     bool             // the receiver behind in-memory connections, for virtual time
}

// HangingTimeout is how long an attempt at a hanging destination takes.
const HangingTimeout = 5 * time.Second

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // it guards nothing: the receiver is this program

// Rig is a system under load. Close it in the end.
type Rig struct {
	System   *system.System
	Topology topology.Topology
	Sink     *Sink
	Written  *Counter // bytes of logs and metrics that the functions wrote

	tables  tables
	shape   Shape
	ingress *sqs.Queue
	padding string
	cancel  context.CancelFunc
	ctx     context.Context //nolint:containedctx // the life of mappings and schedules
}

// The parts that processor time is divided among; see CPU.
const (
	label         = "part"
	partEmulator  = "emulator"
	partFunctions = "functions"
	partReceiver  = "receiver"
	partProducer  = "producer"
)

// as runs fn so that the processor time of it and of everything it starts is a part's.
func as(part string, fn func(context.Context)) {
	pprof.Do(context.Background(), pprof.Labels(label, part), fn)
}

// Start starts everything but the mappings, which Resume starts.
func Start(shape Shape, expected int) (*Rig, error) {
	shape.Profile = cmp.Or(shape.Profile, topology.LowLatency)
	shape.Destinations = max(shape.Destinations, 1)
	shape.PayloadBytes = cmp.Or(shape.PayloadBytes, 1<<10)
	r := &Rig{shape: shape, Topology: topology.New(shape.Profile), Written: &Counter{}, padding: strings.Repeat("x", max(shape.PayloadBytes-8, 0))}
	if shape.Concurrency > 0 {
		for i := range r.Topology.Functions {
			r.Topology.Functions[i].Source.MaximumConcurrency = shape.Concurrency
		}
	}
	var err error
	as(partReceiver, func(context.Context) { r.Sink, err = newSink(expected, r.FanOut(), shape.AnswerAfter, shape.InMemory) })
	if err != nil {
		return nil, err
	}
	document, err := r.destinations()
	if err != nil {
		return nil, errors.Join(err, r.Sink.Close())
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	cfg := system.Config{
		Topology: r.Topology, Destinations: document, EgressAllow: "loopback", Stopped: true,
		Logger: slog.New(slog.NewJSONHandler(r.Written, nil)), Metrics: r.Written, Observe: r.tables.observe,
	}
	if shape.InMemory {
		cfg.Dial = r.Sink.Dial
	}
	as(partEmulator, func(context.Context) { r.System, err = system.Start(r.ctx, cfg) })
	if err != nil {
		r.cancel()
		return nil, errors.Join(err, r.Sink.Close())
	}
	r.ingress, _ = r.System.Queues.Queue(string(topology.Ingress))
	return r, nil
}

// FanOut is how many deliveries an event makes.
func (r *Rig) FanOut() int {
	if r.shape.FanOut {
		return r.shape.Destinations
	}
	return 1
}

// Resume starts the mappings.
func (r *Rig) Resume() { as(partFunctions, func(context.Context) { r.System.Resume(r.ctx) }) }

// Close stops everything.
func (r *Rig) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	defer r.cancel()
	_ = r.Sink.Close() // first, so that nobody waits for what hangs
	return r.System.Stop(ctx)
}

// hanging is the event type that the hanging destination wants.
const hanging = "bench.hanging"

func eventType(destination int) string { return "bench.d" + strconv.Itoa(destination) }

func (r *Rig) destinations() ([]byte, error) {
	type object = map[string]any
	var all []object
	add := func(id, path, wants, timeout string) {
		d := object{
			"id": id, "tenant": "*", "type": "webhook",
			"webhook": object{"url": r.Sink.URL() + path, "secrets": []string{secret}, "timeout": timeout},
		}
		if wants != "" {
			d["pattern"] = object{"type": []string{wants}}
		}
		if r.shape.Relaxed {
			d["ledger"] = "relaxed"
		}
		all = append(all, d)
	}
	for n := range r.shape.Destinations {
		wants := eventType(n)
		if r.shape.FanOut {
			wants = ""
		}
		add("d"+strconv.Itoa(n), pathFine+strconv.Itoa(n), wants, "15s")
	}
	if r.shape.Hanging {
		add("hanging", pathHanging, hanging, HangingTimeout.String())
	}
	return json.Marshal(object{"destinations": all})
}

// Event is the message of event n, as its producer sends it.
func (r *Rig) Event(n int) string {
	return r.event(strconv.Itoa(n), eventType(n%r.shape.Destinations))
}

func (r *Rig) event(id, kind string) string {
	return `{"specversion":"1.0","id":"` + id + `","source":"/bench","type":"` + kind + `","datacontenttype":"application/json","data":{"p":"` + r.padding + `"}}`
}

// Send sends event n now. It costs the producer next to nothing, because it does not go through the SDK.
func (r *Rig) Send(n int) error { return r.send(r.Event(n)) }

// SendHanging sends an event that only the hanging destination wants.
func (r *Rig) SendHanging(n int) error { return r.send(r.event("h"+strconv.Itoa(n), hanging)) }

func (r *Rig) send(body string) error {
	if _, err := r.ingress.Send(sqs.Outgoing{Body: body}); err != nil {
		return fmt.Errorf("an event cannot be sent: %w", err)
	}
	return nil
}

// Counter counts the bytes that are written to it. It is safe for concurrent use.
type Counter struct{ n counter }

var _ io.Writer = (*Counter)(nil)

// Write implements io.Writer.
func (c *Counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// Bytes gives the number so far.
func (c *Counter) Bytes() int64 { return c.n.Load() }
