// Package tracing records where time goes, and where an event has been, as X-Ray segments. It is the only package that knows the X-Ray SDK;
// none of the SDK's types appear in its API, so that another tracer can take its place.
//
// # How a trace is made
//
// Lambda decides whether an invocation is sampled, makes the function's own segment and puts its header into the context. [Tracer.Invocation]
// reads that header; [Start] begins spans below it, each of which is sent to the X-Ray daemon by itself as soon as it ends: a function that
// is killed loses only what was still open, and [Tracer.Flush] sends even that. No document exceeds 64 KB, whatever is said about a span.
//
// Where no header is in the context, outside Lambda, Invocation begins a trace and sends the function's segment itself.
//
// Without a tracer, without an invocation, or in a trace that is not sampled, Start gives a nil [*Span], whose methods do nothing and allocate
// nothing. Nothing here fails or panics for want of a trace, and nothing waits for an answer: what the socket does not take within 100 ms is lost.
//
// # What is recorded
//
// Names, annotations, errors and the origin of a URL; all bounded. Never a payload, and of a URL neither user, path nor query: a webhook's
// path is often its secret. From the texts of errors the same parts of URLs are removed; what else an error says is its author's care.
//
// # The SDK's own ways
//
// The SDK reads the environment when a program starts, even before main: a malformed AWS_XRAY_DAEMON_ADDRESS ends the program. In Lambda it
// writes a file below /tmp that tells Lambda so. With AWS_XRAY_SDK_DISABLED=true it makes no segments, and so does this package;
// AWS_XRAY_CONTEXT_MISSING has no effect here. The SDK's tree of open segments, its emitter and its global configuration and logger are
// not used: the first races when parent and child end at the same time and sends nothing until all have ended, the second loses what exceeds a
// datagram, and the others would be shared by all tracers of a process.
package tracing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-xray-sdk-go/v2/header"
	"github.com/aws/aws-xray-sdk-go/v2/xray"
)

// PacketHeader begins every packet to the daemon; the JSON document follows.
const PacketHeader = `{"format":"json","version":1}` + "\n"

// complainEvery is the least time between two complaints about packets that could not be sent.
const complainEvery = time.Minute

// Config says where traces go. Exactly one of DaemonAddress and Emit must be set.
type Config struct {
	// DaemonAddress is the daemon's, as Lambda gives it in AWS_XRAY_DAEMON_ADDRESS: "host:port", or "tcp:host:port udp:host:port". Packets go
	// there by UDP.
	DaemonAddress string
	// Emit takes the packets instead: PacketHeader and a document, at most 64 KB. It may keep the packet. It is called from any goroutine, one
	// span at a time for each invocation, while that span is locked: it must be quick and must not touch spans.
	Emit func(packet []byte) error
	// Sampled decides about invocations that come without a header. Default: all are sampled. It must be safe for concurrent use.
	Sampled func(name string) bool
	// Logger hears of packets that could not be sent, once a minute at most. Default slog.Default().
	Logger *slog.Logger
}

// Tracer sends spans. It is safe for concurrent use, also by several invocations in one process. A nil Tracer traces nothing.
type Tracer struct {
	cfg      Config
	conn     net.Conn // nil with Emit
	recorder *xray.Config
	mute     atomic.Int64 // no complaint before this time, in Unix nanoseconds

	mu   sync.Mutex
	open map[*Span]struct{}
}

// New makes a Tracer. It sends nothing and does not notice whether a daemon listens. After an error a function should go on with a nil Tracer:
// no trace is worth an event.
func New(cfg Config) (*Tracer, error) {
	if (cfg.DaemonAddress == "") == (cfg.Emit == nil) {
		return nil, errors.New("tracing: set exactly one of DaemonAddress and Emit")
	}
	if cfg.Sampled == nil {
		cfg.Sampled = func(string) bool { return true }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	t := &Tracer{cfg: cfg, open: map[*Span]struct{}{}}
	t.recorder = &xray.Config{Emitter: emitter{t}}
	if cfg.DaemonAddress != "" {
		var err error
		if t.conn, err = dial(cfg.DaemonAddress); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Close gives the socket back. Spans that end later are lost.
func (t *Tracer) Close() error {
	if t == nil || t.conn == nil {
		return nil
	}
	return t.conn.Close()
}

// Invocation begins the invocation of a function, which is what spans are begun in. The caller must call end once, with the invocation's error
// or nil; spans that are still open then are sent as in progress, and again if they end.
//
// If the context carries a trace header, as in Lambda or from [WithHeader], whoever made the header also makes the function's segment, and its
// decision about sampling stands. Otherwise a new trace begins, Config.Sampled decides, and end sends the segment, with the error.
func (t *Tracer) Invocation(ctx context.Context, name string) (_ context.Context, end func(err error)) {
	if t == nil {
		return ctx, func(error) {}
	}
	given, ok := incoming(ctx)
	f, own := parse(given), !ok
	if own {
		f = fields{root: xray.NewTraceID(), parent: xray.NewSegmentID(), sampled: !xray.SdkDisabled() && t.cfg.Sampled(name)}
	}
	s := &Span{invocation: &invocation{tracer: t, root: f.root}, header: f.String()}
	ctx = context.WithValue(ctx, spanKey{}, s)
	if !f.sampled || f.root == "" || f.parent == "" {
		return ctx, func(error) {}
	}
	s.begin(name, f)
	if own {
		s.segment.Origin = "AWS::Lambda::Function"
		t.opened(s)
	}
	return ctx, func(err error) {
		if own {
			s.Fail(err)
			s.End()
		}
		t.abandon(s.invocation)
	}
}

// begin makes s the function's own segment, which the SDK calls its facade.
func (s *Span) begin(name string, f fields) {
	ctx := context.WithValue(context.Background(), xray.RecorderContextKey{}, s.invocation.tracer.recorder)
	_, s.segment = xray.BeginFacadeSegment(ctx, cleanName(name), &header.Header{
		TraceID: f.root, ParentID: f.parent, SamplingDecision: header.Sampled,
	})
}

// Flush sends all spans that are still open as they are, marked as in progress, and returns when they are sent or ctx is over. It is for SIGTERM:
// what has ended has been sent already. A span that ends after all replaces what Flush has said of it.
func (t *Tracer) Flush(ctx context.Context) error {
	if t == nil {
		return nil
	}
	var errs []error
	open := t.unfinished(nil)
	for i, s := range open {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, fmt.Errorf("tracing: %d of %d open spans not sent: %w", len(open)-i, len(open), err))...)
		}
		errs = append(errs, s.progress())
	}
	return errors.Join(errs...)
}

// abandon sends the spans that an invocation leaves open, and forgets them: the environment may be frozen before they end, and some never do.
func (t *Tracer) abandon(in *invocation) {
	for _, s := range t.unfinished(in) {
		_ = s.progress() // logged there
		t.closed(s)
	}
}

// unfinished gives the open spans of an invocation, or of all.
func (t *Tracer) unfinished(in *invocation) []*Span {
	t.mu.Lock()
	defer t.mu.Unlock()
	var open []*Span
	for s := range t.open {
		if in == nil || s.invocation == in {
			open = append(open, s)
		}
	}
	return open
}

func (t *Tracer) opened(s *Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[s] = struct{}{}
}

func (t *Tracer) closed(s *Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, s)
}

// send sends the document of a segment. The segment is locked by the caller.
func (t *Tracer) send(segment *xray.Segment) error {
	document, err := json.Marshal(segment)
	if err == nil {
		packet := append([]byte(PacketHeader), document...)
		if t.conn != nil {
			err = write(t.conn, packet)
		} else {
			err = t.cfg.Emit(packet)
		}
	}
	if err == nil {
		return nil
	}
	if now, quiet := time.Now(), t.mute.Load(); now.UnixNano() >= quiet && t.mute.CompareAndSwap(quiet, now.Add(complainEvery).UnixNano()) {
		t.cfg.Logger.Warn("a trace segment could not be sent", "error", errorText(err))
	}
	return fmt.Errorf("tracing: send a segment: %w", err)
}

// emitter is where the SDK hands in segments that have ended.
type emitter struct{ tracer *Tracer }

// Emit implements xray.Emitter.
func (e emitter) Emit(segment *xray.Segment) { _ = e.tracer.send(segment) } // logged there

// RefreshEmitterWithAddress implements xray.Emitter.
func (emitter) RefreshEmitterWithAddress(*net.UDPAddr) {}
