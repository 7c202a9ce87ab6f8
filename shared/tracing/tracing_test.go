package tracing_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/xray"
	"github.com/waybillhq/waybill/shared/tracing"
)

// document is what the tests look at in a segment.
type document struct {
	Name        string         `json:"name"`
	ID          string         `json:"id"`
	TraceID     string         `json:"trace_id"`
	ParentID    string         `json:"parent_id"`
	Type        string         `json:"type"`
	Namespace   string         `json:"namespace"`
	Origin      string         `json:"origin"`
	Start       float64        `json:"start_time"`
	End         float64        `json:"end_time"`
	InProgress  bool           `json:"in_progress"`
	Fault       bool           `json:"fault"`
	Error       bool           `json:"error"`
	Throttle    bool           `json:"throttle"`
	Annotations map[string]any `json:"annotations"`
	HTTP        struct {
		Request struct {
			Method string `json:"method"`
			URL    string `json:"url"`
		} `json:"request"`
		Response struct {
			Status int `json:"status"`
			Length int `json:"content_length"`
		} `json:"response"`
	} `json:"http"`
	Cause struct {
		Exceptions []struct{ ID, Type, Message string } `json:"exceptions"`
	} `json:"cause"`
}

// sink collects packets.
type sink struct {
	mu      sync.Mutex
	packets [][]byte
	refuse  error
}

func (s *sink) emit(packet []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packets = append(s.packets, packet)
	return s.refuse
}

func (s *sink) documents(t testing.TB) []document {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	documents := make([]document, len(s.packets))
	for i, p := range s.packets {
		documents[i] = read(t, p)
	}
	return documents
}

func read(t testing.TB, packet []byte) (d document) {
	t.Helper()
	if err := xray.New(xray.Options{}).Receive(packet); err != nil { // as X-Ray checks them
		t.Fatal(err)
	}
	body, ok := bytes.CutPrefix(packet, []byte(tracing.PacketHeader))
	if !ok {
		t.Fatalf("%.50q", packet)
	}
	if err := json.Unmarshal(body, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func tracer(t testing.TB, cfg tracing.Config) (*tracing.Tracer, *sink) {
	t.Helper()
	s := &sink{}
	cfg.Emit = s.emit
	tr, err := tracing.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tr, s
}

// inLambda is the context that aws-lambda-go gives to a handler.
func inLambda(t testing.TB, header string) context.Context {
	return tracing.WithHeader(t.Context(), header)
}

func TestSpansInLambdaHangBelowTheFunctionsSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, s := tracer(t, tracing.Config{})
		ctx, end := tr.Invocation(inLambda(t, given+";Lineage=a87bd80c:1"), "deliverer")
		if got := tracing.Header(ctx); got != given {
			t.Errorf("the invocation's header is %q", got)
		}
		begin := time.Now()
		ctx, attempt := tracing.Start(ctx, "attempt")
		attempt.Annotate(slog.String("delivery", "3v0"), slog.Int("attempt", 2), slog.Bool("replay", true), slog.Duration("wait", 90*time.Second),
			slog.Any("verdict", verdict(3)), slog.Float64("share", 0.5), slog.Uint64("size", 7), slog.Time("due", begin))
		time.Sleep(250 * time.Millisecond)
		inner, dial := tracing.Start(ctx, "dial")
		if tracing.ID(inner) != root {
			t.Errorf("trace id %q", tracing.ID(inner))
		}
		headers := map[string]string{"attempt": tracing.Header(ctx), "dial": tracing.Header(inner)}
		dial.End()
		attempt.HTTP("POST", "https://hooks.example.com/services/T0/B0/secret?token=x", 200, 12)
		attempt.End()
		end(errors.New("the function's segment is Lambda's"))

		got := s.documents(t)
		if len(got) != 2 {
			t.Fatalf("%d documents", len(got))
		}
		d, a := got[0], got[1]
		if d.Name != "dial" || d.ParentID != a.ID || a.Name != "attempt" || a.ParentID != parent {
			t.Errorf("%+v below %+v", d, a)
		}
		for _, x := range got {
			if x.TraceID != root || x.Type != "subsegment" || x.InProgress || x.Fault {
				t.Errorf("%+v", x)
			}
			if want := "Root=" + root + ";Parent=" + x.ID + ";Sampled=1"; headers[x.Name] != want {
				t.Errorf("%s: header %q, want %q", x.Name, headers[x.Name], want)
			}
		}
		if seconds := float64(begin.UnixNano()) / 1e9; a.Start != seconds || math.Abs(a.End-a.Start-0.25) > 1e-6 {
			t.Errorf("attempt from %f to %f", a.Start, a.End)
		}
		want := map[string]any{"delivery": "3v0", "attempt": 2.0, "replay": true, "wait": 90.0, "verdict": "three", "share": 0.5, "size": 7.0,
			"due": begin.UTC().Format(time.RFC3339Nano)}
		if fmt.Sprint(a.Annotations) != fmt.Sprint(want) {
			t.Errorf("annotations %v", a.Annotations)
		}
		if a.Namespace != "remote" || a.HTTP.Request.URL != "https://hooks.example.com/" || a.HTTP.Request.Method != http.MethodPost ||
			a.HTTP.Response.Status != 200 || a.HTTP.Response.Length != 12 {
			t.Errorf("%+v", a.HTTP)
		}
	})
}

type verdict int

func (v verdict) String() string { return map[verdict]string{3: "three"}[v] }

func TestOutsideLambdaTheInvocationSendsItsSegment(t *testing.T) {
	for _, failure := range []error{nil, fmt.Errorf("batch: %w", context.DeadlineExceeded)} {
		tr, s := tracer(t, tracing.Config{})
		ctx, end := tr.Invocation(t.Context(), "router")
		_, span := tracing.Start(ctx, "route")
		span.End()
		end(failure)
		end(nil)
		got := s.documents(t)
		if len(got) != 2 {
			t.Fatalf("%d documents", len(got))
		}
		route, router := got[0], got[1]
		if route.ParentID != router.ID || route.TraceID != router.TraceID || router.ParentID != "" || router.Type != "" ||
			router.Name != "router" || router.Origin != "AWS::Lambda::Function" || router.End < router.Start || router.Start == 0 || router.InProgress {
			t.Errorf("%+v below %+v", route, router)
		}
		if header := "Root=" + router.TraceID + ";Parent=" + router.ID + ";Sampled=1"; tracing.Header(ctx) != header || tracing.TraceID(header) == "" {
			t.Errorf("header %q", tracing.Header(ctx))
		}
		if router.Fault != (failure != nil) {
			t.Errorf("error %v: %+v", failure, router)
		}
		if e := router.Cause.Exceptions; failure != nil && (len(e) != 1 || e[0].Type != "context.deadlineExceededError" || e[0].Message != failure.Error()) {
			t.Errorf("%+v", e)
		}
	}
}

// What is not sampled sends nothing, but still says so downstream.
func TestUnsampledSendsNothing(t *testing.T) {
	for _, c := range []struct{ name, given, header string }{
		{"no header sent", "", ""},
		{"refused", "Root=" + root + ";Parent=" + parent + ";Sampled=0", "Root=" + root + ";Parent=" + parent + ";Sampled=0"},
		{"undecided", "Root=" + root + ";Parent=" + parent + ";Sampled=?", "Root=" + root + ";Parent=" + parent + ";Sampled=0"},
		{"without a decision", "Root=" + root + ";Parent=" + parent, "Root=" + root + ";Parent=" + parent + ";Sampled=0"},
		{"nothing to hang below", "Root=" + root + ";Sampled=1", "Root=" + root + ";Sampled=1"},
		{"nonsense", "Root=1-2-3;Parent=x;Sampled=1", ""},
	} {
		tr, s := tracer(t, tracing.Config{})
		ctx, end := tr.Invocation(inLambda(t, c.given), "deliverer")
		if got := tracing.Header(ctx); got != c.header {
			t.Errorf("%s: header %q", c.name, got)
		}
		useAll(ctx)
		end(errors.New("failed"))
		if got := s.documents(t); len(got) != 0 || tr.Flush(ctx) != nil {
			t.Errorf("%s: %d documents", c.name, len(got))
		}
	}
	tr, s := tracer(t, tracing.Config{Sampled: func(name string) bool { return name != "deliverer" }})
	ctx, end := tr.Invocation(t.Context(), "deliverer")
	useAll(ctx)
	end(nil)
	if got := tracing.Header(ctx); len(s.packets) != 0 || !strings.HasSuffix(got, ";Sampled=0") || tracing.Traceparent(got) == "" {
		t.Errorf("%d documents under header %q", len(s.packets), got)
	}
}

// useAll calls everything that a span has.
func useAll(ctx context.Context) {
	ctx, span := tracing.Start(ctx, "span")
	span.Annotate(slog.String("delivery", "3v0"))
	span.Fail(errors.New("failed"))
	span.Throttled()
	span.HTTP("POST", "https://example.com/", 500, 1)
	_, inner := tracing.Start(ctx, "inner")
	inner.End()
	span.End()
}

func TestWithoutATracerOrAnInvocationNothingHappens(t *testing.T) {
	var none *tracing.Tracer
	ctx, end := none.Invocation(inLambda(t, given+";Lineage=a:1"), "router")
	useAll(ctx)
	end(errors.New("failed"))
	if tracing.Header(ctx) != given || tracing.ID(ctx) != root || none.Flush(ctx) != nil || none.Close() != nil {
		t.Errorf("header %q", tracing.Header(ctx))
	}
	useAll(t.Context())
	if tracing.Header(t.Context()) != "" || tracing.ID(t.Context()) != "" {
		t.Errorf("header %q", tracing.Header(t.Context()))
	}
}

// The SDK panics without a segment if it is told to by the environment, and makes segments without an id if it is switched off.
func TestEnvironmentOfTheSDK(t *testing.T) {
	t.Setenv("AWS_XRAY_CONTEXT_MISSING", "RUNTIME_ERROR")
	useAll(t.Context())
	t.Setenv("AWS_XRAY_SDK_DISABLED", "TRUE")
	tr, s := tracer(t, tracing.Config{})
	for _, ctx := range []context.Context{t.Context(), inLambda(t, given)} {
		ctx, end := tr.Invocation(ctx, "router")
		useAll(ctx)
		if err := tr.Flush(ctx); err != nil {
			t.Error(err)
		}
		end(nil)
	}
	if len(s.packets) != 0 {
		t.Errorf("%d documents though the SDK is off", len(s.packets))
	}
}

func TestStatusOfCalls(t *testing.T) {
	tr, s := tracer(t, tracing.Config{})
	ctx, end := tr.Invocation(inLambda(t, given), "deliverer")
	cases := []struct {
		status                  int
		failed, throttle, fault bool
	}{{200, false, false, false}, {302, false, false, false}, {404, true, false, false}, {429, true, true, false}, {503, false, false, true}, {0, false, false, false}}
	for _, c := range cases {
		_, span := tracing.Start(ctx, "attempt")
		span.HTTP("POST", "http://user:password@example.com:8080/path", c.status, -1)
		span.End()
	}
	_, span := tracing.Start(ctx, "settle")
	span.Throttled()
	span.End()
	end(nil)
	got := s.documents(t)
	for i, c := range cases {
		d := got[i]
		if d.Error != c.failed || d.Throttle != c.throttle || d.Fault != c.fault || d.HTTP.Response.Status != c.status ||
			d.HTTP.Request.URL != "http://example.com:8080/" || d.HTTP.Response.Length != 0 {
			t.Errorf("%d: %+v", c.status, d)
		}
	}
	if last := got[len(cases)]; !last.Throttle || !last.Error || last.Fault {
		t.Errorf("%+v", last)
	}
}

func TestErrorsLoseWhatURLsHide(t *testing.T) {
	tr, s := tracer(t, tracing.Config{})
	ctx, end := tr.Invocation(inLambda(t, given), "deliverer")
	_, span := tracing.Start(ctx, "attempt")
	span.Fail(nil)
	span.Fail(fmt.Errorf("attempt: %w", &url.Error{Op: "Post", URL: "https://u:p4ss@hooks.example.com/s3cret?token=t0ken#f", Err: &net.DNSError{Err: "no such host"}}))
	span.Fail(errors.New("see http://[broken/s3cret and ftp:// and <https://a.example/s3cret>"))
	span.Fail(fmt.Errorf("%s https://example.com/%s", strings.Repeat("x", tracing.MaxErrorBytes-25), "s3cret"))
	for range 10 {
		span.Fail(errors.Join(errors.New("one"), errors.New("two")))
	}
	span.End()
	end(nil)
	d := s.documents(t)[0]
	if e := d.Cause.Exceptions; !d.Fault || len(e) != tracing.MaxErrors || e[0].Type != "net.DNSError" || len(e[0].ID) != 16 ||
		e[0].Message != `attempt: Post "https://hooks.example.com/": lookup : no such host` ||
		e[1].Message != "see http:// and ftp:// and <https://a.example/>" || e[3].Message != "one two" || e[3].Type != "errors.joinError" {
		t.Errorf("%+v", e)
	}
	for _, secret := range []string{"s3cret", "t0ken", "p4ss"} {
		if bytes.Contains(s.packets[0], []byte(secret)) {
			t.Errorf("%s leaks: %s", secret, s.packets[0])
		}
	}
}

// The worst that can be said about a span fits into one packet, in characters that X-Ray takes.
func TestEverythingIsBounded(t *testing.T) {
	worst := strings.Repeat("&", 1<<16)
	tr, s := tracer(t, tracing.Config{})
	ctx, end := tr.Invocation(inLambda(t, given), worst)
	_, span := tracing.Start(ctx, worst)
	for i := range 100 {
		span.Annotate(slog.String(fmt.Sprintf("%03d%s", i, worst), worst))
		span.Fail(errors.New(worst))
	}
	span.HTTP(worst, "https://"+strings.Repeat("a", 1<<16)+"/", 500, math.MaxInt64)
	span.End()
	_, odd := tracing.Start(ctx, "a\nb\"<\xff>é{}")
	odd.Annotate(slog.String("a.b-c\xffé", "\x00\x1b[31m\xff"), slog.Float64("nan", math.NaN()), slog.Float64("infinite", math.Inf(1)),
		slog.Any("struct", struct{ Payload string }{"secret"}), slog.Any("nil", nil), slog.Any("gone", (*net.IPNet)(nil)),
		slog.Group("group", slog.Int("x", 1)), slog.String("", "no key"), slog.String("cut", strings.Repeat("é", tracing.MaxTextBytes)))
	odd.Annotate(slog.String("cut", strings.Repeat("x", tracing.MaxTextBytes-1)+"é"))
	odd.End()
	_, unnamed := tracing.Start(ctx, "")
	unnamed.End()
	end(nil)
	got := s.documents(t) // checks sizes
	if d := got[0]; len(d.Annotations) != tracing.MaxAnnotations || len(d.Name) != tracing.MaxNameBytes || len(s.packets[0]) < 40<<10 {
		t.Errorf("%d annotations, %d bytes: the test no longer goes to the limits", len(d.Annotations), len(s.packets[0]))
	}
	d := got[1]
	if d.Name != "a b____é__" || got[2].Name != "unnamed" {
		t.Errorf("names %q, %q", d.Name, got[2].Name)
	}
	delete(d.Annotations, "gone")
	if want := map[string]any{"a_b_c__": "  [31m?", "cut": strings.Repeat("x", tracing.MaxTextBytes-1)}; fmt.Sprint(d.Annotations) != fmt.Sprint(want) {
		t.Errorf("annotations %q", d.Annotations)
	}
}

func TestFlushSendsWhatIsOpen(t *testing.T) {
	tr, s := tracer(t, tracing.Config{})
	lambda, endLambda := tr.Invocation(inLambda(t, given), "deliverer")
	_, attempt := tracing.Start(lambda, "attempt")
	attempt.Annotate(slog.String("delivery", "3v0"))
	_, done := tracing.Start(lambda, "claim")
	done.End()
	_, endLocal := tr.Invocation(t.Context(), "router")
	if err := tr.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]document{}
	for _, d := range s.documents(t)[1:] {
		got[d.Name] = d
	}
	if len(got) != 2 {
		t.Fatalf("%v", got)
	}
	if a := got["attempt"]; !a.InProgress || a.End != 0 || a.ParentID != parent || a.TraceID != root || a.Type != "subsegment" || a.Annotations["delivery"] != "3v0" {
		t.Errorf("%+v", a)
	}
	if r := got["router"]; !r.InProgress || r.End != 0 || r.Type != "" {
		t.Errorf("%+v", r)
	}
	id := got["attempt"].ID
	attempt.End()
	attempt.End()
	attempt.Annotate(slog.String("late", "ignored"))
	endLambda(nil)
	endLocal(nil)
	if err := tr.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := s.documents(t)[3:]
	if len(all) != 2 || all[0].ID != id || all[0].InProgress || all[0].End == 0 || all[1].Name != "router" || all[1].InProgress {
		t.Errorf("after the end: %+v", all)
	}
}

func TestFlushEndsWithItsContext(t *testing.T) {
	tr, s := tracer(t, tracing.Config{})
	ctx, end := tr.Invocation(inLambda(t, given), "deliverer")
	defer end(nil)
	_, span := tracing.Start(ctx, "attempt")
	defer span.End()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tr.Flush(over); !errors.Is(err, context.Canceled) || len(s.packets) != 0 {
		t.Errorf("%v, %d documents", err, len(s.packets))
	}
}

// An invocation that leaves spans open is frozen: they are sent as they are, and again if they end in a later invocation.
func TestSpansLeftOpenAreSentAtTheEndOfTheInvocation(t *testing.T) {
	tr, s := tracer(t, tracing.Config{})
	ctx, end := tr.Invocation(inLambda(t, given), "deliverer")
	_, other := tracing.Start(must(tr.Invocation(inLambda(t, given), "deliverer")), "other invocation's")
	_, span := tracing.Start(ctx, "attempt")
	end(nil)
	if got := s.documents(t); len(got) != 1 || !got[0].InProgress || got[0].Name != "attempt" {
		t.Fatalf("%+v", got)
	}
	if err := tr.Flush(t.Context()); err != nil || len(s.packets) != 2 {
		t.Errorf("%v: %d documents, want one more, the other invocation's", err, len(s.packets))
	}
	other.End()
	span.End()
	if got := s.documents(t); len(got) != 4 || got[3].InProgress || got[3].ID != got[0].ID {
		t.Errorf("%+v", got)
	}
}

func must(ctx context.Context, _ func(error)) context.Context { return ctx }

// Attempts of a batch run in parallel; parents may end while children do.
func TestManyGoroutinesShareASpan(t *testing.T) {
	const workers, each = 16, 25
	tr, s := tracer(t, tracing.Config{})
	ctx, end := tr.Invocation(t.Context(), "deliverer")
	var running sync.WaitGroup
	for w := range workers {
		batchCtx, batch := tracing.Start(ctx, "batch")
		running.Go(func() {
			var inner sync.WaitGroup
			for i := range each {
				inner.Go(func() {
					attemptCtx, span := tracing.Start(batchCtx, "attempt")
					span.Annotate(slog.Int("worker", w), slog.Int("attempt", i))
					batch.Annotate(slog.Int("seen", i))
					span.HTTP("POST", "https://example.com", 503, 0)
					span.Fail(errors.New(tracing.Header(attemptCtx)))
					span.End()
					batch.End() // the first ends it, while others run
				})
			}
			_ = tr.Flush(ctx)
			inner.Wait()
		})
	}
	running.Wait()
	end(nil)
	byID := map[string]document{}
	for _, d := range s.documents(t) {
		if before, ok := byID[d.ID]; ok && !before.InProgress {
			t.Fatalf("sent again after its end: %+v", d)
		}
		byID[d.ID] = d
	}
	attempts := 0
	for _, d := range byID {
		if d.Name != "attempt" {
			continue
		}
		attempts++
		if p, ok := byID[d.ParentID]; !ok || p.Name != "batch" || p.TraceID != d.TraceID || d.InProgress || !d.Fault || len(d.Annotations) != 2 {
			t.Errorf("%+v below %+v", d, p)
		}
	}
	if attempts != workers*each || len(byID) != workers*each+workers+1 {
		t.Errorf("%d attempts in %d spans", attempts, len(byID))
	}
}

// A parent and its child that end at the same moment: the SDK alone has a data race there, which the race detector finds.
func TestParentAndChildEndTogether(t *testing.T) {
	tr, s := tracer(t, tracing.Config{})
	ctx, end := tr.Invocation(inLambda(t, given), "deliverer")
	const times = 300
	for range times {
		parentCtx, outer := tracing.Start(ctx, "outer")
		_, inner := tracing.Start(parentCtx, "inner")
		together := make(chan struct{})
		var running sync.WaitGroup
		for _, span := range []*tracing.Span{outer, inner} {
			running.Go(func() { <-together; span.End() })
		}
		close(together)
		running.Wait()
	}
	end(nil)
	if got := s.documents(t); len(got) != 2*times {
		t.Errorf("%d documents", len(got))
	}
}

func TestPacketsReachADaemon(t *testing.T) {
	daemon, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	address := daemon.LocalAddr().String()
	for _, spelling := range []string{address, "tcp:127.0.0.1:1 udp:" + address, "udp:" + address + " tcp:127.0.0.1:1"} {
		tr, err := tracing.New(tracing.Config{DaemonAddress: spelling})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := tr.Invocation(inLambda(t, given), "deliverer")
		_, span := tracing.Start(ctx, "claim")
		span.Annotate(slog.String("delivery", "3v0"))
		span.End()
		end(nil)
		buffer := make([]byte, 64<<10)
		_ = daemon.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, _, err := daemon.ReadFrom(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if d := read(t, buffer[:n]); d.Name != "claim" || d.ParentID != parent || d.TraceID != root || d.Annotations["delivery"] != "3v0" {
			t.Errorf("%+v", d)
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A daemon that is away makes no difference to the work, and comes back unnoticed.
func TestDaemonThatIsAway(t *testing.T) {
	daemon, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := daemon.LocalAddr().String()
	_ = daemon.Close()
	var log bytes.Buffer
	tr, err := tracing.New(tracing.Config{DaemonAddress: address, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := tr.Invocation(inLambda(t, given), "deliverer")
	for range 100 {
		_, span := tracing.Start(ctx, "away")
		span.End()
	}
	if daemon, err = net.ListenPacket("udp", address); err != nil {
		t.Skip("somebody else took the port")
	}
	defer daemon.Close()
	_, span := tracing.Start(ctx, "back")
	span.End()
	end(nil)
	buffer := make([]byte, 64<<10)
	_ = daemon.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, _, err := daemon.ReadFrom(buffer)
	if err != nil {
		t.Fatal(err)
	}
	if d := read(t, buffer[:n]); d.Name != "back" {
		t.Errorf("%+v", d)
	}
	_ = tr.Close()
	if _, span := tracing.Start(ctx, "closed"); span == nil {
		t.Error("no span")
	} else {
		span.End()
	}
	if lines := strings.Count(log.String(), "\n"); lines > 1 {
		t.Errorf("%d lines of complaint in a second", lines)
	}
}

func TestComplaintsAreRareAndClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &sink{refuse: errors.New("no way to https://example.com/s3cret")}
		tr, err := tracing.New(tracing.Config{Emit: s.emit, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := tr.Invocation(inLambda(t, given), "deliverer")
		for range 100 {
			_, span := tracing.Start(ctx, "claim")
			span.End()
			time.Sleep(time.Second)
		}
		_, open := tracing.Start(ctx, "open")
		if err := tr.Flush(ctx); !errors.Is(err, s.refuse) {
			t.Errorf("flush: %v", err)
		}
		open.End()
		end(nil)
		if lines := strings.Count(log.String(), "\n"); lines != 2 || strings.Contains(log.String(), "s3cret") {
			t.Errorf("want one line a minute: %s", log.String())
		}
	})
}

func TestConfigurationIsChecked(t *testing.T) {
	discard := func([]byte) error { return nil }
	for _, c := range []tracing.Config{
		{}, {DaemonAddress: "127.0.0.1:2000", Emit: discard}, {DaemonAddress: "127.0.0.1"}, {DaemonAddress: "tcp:127.0.0.1:1 tcp:127.0.0.1:2"},
		{DaemonAddress: "a b c"}, {DaemonAddress: "127.0.0.1:port"},
	} {
		if _, err := tracing.New(c); err == nil || !strings.HasPrefix(err.Error(), "tracing: ") {
			t.Errorf("%q: %v", c.DaemonAddress, err)
		}
	}
}

// The SDK logs to standard output by itself, which would be the function's log.
func TestNothingIsPrinted(t *testing.T) {
	if os.Getenv("TRACING_PRINT_TEST") != "" {
		tr, err := tracing.New(tracing.Config{DaemonAddress: "127.0.0.1:9", Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for _, ctx := range []context.Context{t.Context(), inLambda(t, given), inLambda(t, "nonsense")} {
			ctx, end := tr.Invocation(ctx, "router")
			useAll(ctx)
			end(errors.New("failed"))
		}
		useAll(t.Context())
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNothingIsPrinted$")
	cmd.Env = append(os.Environ(), "TRACING_PRINT_TEST=1", "LAMBDA_TASK_ROOT=", "AWS_XRAY_DAEMON_ADDRESS=127.0.0.1:9", "AWS_XRAY_CONTEXT_MISSING=LOG_ERROR")
	out, err := cmd.CombinedOutput()
	if text := strings.TrimPrefix(string(out), "PASS\n"); err != nil || (text != "" && !strings.HasPrefix(text, "coverage:")) {
		t.Errorf("%v: %s", err, out)
	}
}
