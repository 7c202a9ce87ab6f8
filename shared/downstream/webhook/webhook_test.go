package webhook_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/protocol/http"
	official "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/downstream/downstreamtest"
	"github.com/waybillhq/waybill/shared/downstream/webhook"
	"github.com/waybillhq/waybill/shared/egress"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/signing"
)

const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

func secrets(t testing.TB, texts ...string) []registry.Secret {
	t.Helper()
	var list []registry.Secret
	for _, text := range texts {
		secret, err := registry.ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, secret)
	}
	return list
}

// attemptTo is a plain attempt at a URL.
func attemptTo(t testing.TB, target string) downstream.Attempt {
	t.Helper()
	return downstream.Attempt{
		PublicID: "wb_2KWPBgLlAfxdpx2AI54pPJ85f4W", Number: 1,
		Event: &events.Event{
			ID: "e-1", Source: "urn:orders", Type: "order.paid", DataContentType: "application/json",
			Extensions: map[string]string{"tenant": "acme"}, Data: []byte(`{"b":1.0,"a":9007199254740993}`),
		},
		Destination: &registry.Destination{
			ID: "orders-crm", Tenant: "acme", Type: registry.TypeWebhook, Reject: registry.DefaultReject(),
			Webhook: &registry.Webhook{URL: target, Secrets: secrets(t, newSecret), Timeout: 10 * time.Second},
		},
	}
}

// local is an adapter that may reach this machine.
func local(t testing.TB, config webhook.Config) *webhook.Adapter {
	t.Helper()
	if config.Dial == nil {
		config.Dial = egress.NewGuard(egress.Loopback()).DialContext
	}
	a := webhook.New(config)
	t.Cleanup(a.CloseIdleConnections)
	return a
}

func deliver(t testing.TB, a downstream.Adapter, attempt downstream.Attempt) downstream.Result {
	t.Helper()
	var results []downstream.Result
	a.Deliver(t.Context(), []downstream.Attempt{attempt}, func(_ int, r downstream.Result) { results = append(results, r) })
	if len(results) != 1 {
		t.Fatalf("%d results", len(results))
	}
	return results[0]
}

// received is a request as a receiver saw it.
type received struct {
	*http.Request
	body []byte
}

// receiver answers by handle and remembers every request.
type receiver struct {
	*httptest.Server
	mu          sync.Mutex
	requests    []received
	connections atomic.Int64
}

func newReceiver(t testing.TB, start func(*httptest.Server), handle http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		r.requests = append(r.requests, received{request.Clone(context.Background()), body})
		r.mu.Unlock()
		if handle != nil {
			handle(w, request)
		}
	}))
	r.Config.ErrorLog = discard
	r.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			r.connections.Add(1)
		}
	}
	start(r.Server)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

func plain(s *httptest.Server)  { s.Start() }
func secure(s *httptest.Server) { s.StartTLS() }
func http2(s *httptest.Server)  { s.EnableHTTP2 = true; s.StartTLS() }

// trusting gives client settings that trust the receiver's certificate.
func (r *receiver) trusting() *tls.Config {
	pool := x509.NewCertPool()
	if r.Certificate() != nil {
		pool.AddCert(r.Certificate())
	}
	return &tls.Config{RootCAs: pool}
}

func TestWhatArrives(t *testing.T) {
	for name, start := range map[string]func(*httptest.Server){"HTTP/1.1": plain, "HTTP/1.1 over TLS": secure, "HTTP/2": http2} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, start, nil)
			now := time.Now()
			attempt := attemptTo(t, r.URL+"/hooks?team=crm")
			attempt.Trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
			attempt.Destination.Webhook.Secrets = secrets(t, newSecret, oldSecret)
			attempt.Destination.Webhook.Headers = []registry.Header{
				{Name: "x-team", Value: "crm"}, {Name: "authorization", Value: "Bearer abc"}, {Name: "idempotency-key", Value: "k"},
				{Name: "webhook-id", Value: "forged"}, {Name: "Webhook-Signature", Value: "v1,forged"}, {Name: "CE-Id", Value: "forged"},
				{Name: "content-type", Value: "text/forged"}, {Name: "user-agent", Value: "forged"}, {Name: "traceparent", Value: "forged"},
				{Name: "content-length", Value: "1"}, {Name: "Transfer-Encoding", Value: "chunked"}, {Name: "host", Value: "forged.example"},
				{Name: "expect", Value: "100-continue"}, {Name: "connection", Value: "close"},
			}
			e := attempt.Event
			e.Subject, e.Time, e.DataSchema = "Euro € 😀", "2026-11-22T10:00:00.1+01:00", "https://schemas.example/order?v=1"
			e.Extensions["quoted"] = `say "50%"`

			result := deliver(t, local(t, webhook.Config{TLS: r.trusting(), Now: func() time.Time { return now }}), attempt)
			if result.Verdict != downstream.Delivered || result.Code != 200 || result.Reason != "" {
				t.Fatalf("result %+v", result)
			}
			requests := r.all()
			if len(requests) != 1 {
				t.Fatalf("%d requests", len(requests))
			}
			got := requests[0]
			if got.Method != http.MethodPost || got.RequestURI != "/hooks?team=crm" || got.Host != strings.TrimPrefix(strings.TrimPrefix(r.URL, "https://"), "http://") {
				t.Errorf("%s %s to %s", got.Method, got.RequestURI, got.Host)
			}
			if !bytes.Equal(got.body, e.Data) || got.ContentLength != int64(len(e.Data)) {
				t.Errorf("body %q of %d bytes", got.body, got.ContentLength)
			}
			if (name == "HTTP/2") != (got.ProtoMajor == 2) {
				t.Errorf("protocol %s", got.Proto)
			}
			want := http.Header{
				"Content-Type":      {"application/json"},
				"Content-Length":    {fmt.Sprint(len(e.Data))},
				"User-Agent":        {"Waybill/1 (+https://github.com/waybillhq/waybill)"},
				"Webhook-Id":        {attempt.PublicID},
				"Webhook-Timestamp": {fmt.Sprint(now.Unix())},
				"Webhook-Signature": got.Header["Webhook-Signature"], // checked below
				"Traceparent":       {"00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"},
				"Ce-Specversion":    {"1.0"},
				"Ce-Id":             {"e-1"},
				"Ce-Source":         {"urn:orders"},
				"Ce-Type":           {"order.paid"},
				"Ce-Subject":        {"Euro%20%E2%82%AC%20%F0%9F%98%80"},
				"Ce-Time":           {"2026-11-22T10:00:00.1+01:00"},
				"Ce-Dataschema":     {"https://schemas.example/order?v=1"},
				"Ce-Tenant":         {"acme"},
				"Ce-Quoted":         {"say%20%2250%25%22"},
				"X-Team":            {"crm"},
				"Authorization":     {"Bearer abc"},
				"Idempotency-Key":   {"k"},
			}
			for name := range got.Header {
				if want[name] == nil {
					t.Errorf("unexpected header %s: %q", name, got.Header[name])
				}
			}
			for name, values := range want {
				if !slices.Equal(got.Header[name], values) {
					t.Errorf("%s: %q, want %q", name, got.Header[name], values)
				}
			}
			for _, secret := range []string{newSecret, oldSecret} {
				receiverLibrary, err := official.NewWebhook(secret)
				if err != nil {
					t.Fatal(err)
				}
				if err := receiverLibrary.Verify(got.body, got.Header); err != nil {
					t.Errorf("official library: %v", err)
				}
				key, err := signing.ParseKey(secret)
				if err != nil {
					t.Fatal(err)
				}
				if err := signing.Verify([]signing.Key{key}, got.Header, got.body, now); err != nil {
					t.Errorf("own verification: %v", err)
				}
			}
			got.Body = io.NopCloser(bytes.NewReader(got.body))
			event, err := cloudevents.NewEventFromHTTPRequest(got.Request)
			if err != nil {
				t.Fatalf("CloudEvents SDK: %v", err)
			}
			if event.ID() != e.ID || event.Source() != e.Source || event.Type() != e.Type || event.DataContentType() != e.DataContentType || !bytes.Equal(event.Data(), e.Data) {
				t.Errorf("CloudEvents SDK reads %v", event)
			}
		})
	}
}

func TestTraceparent(t *testing.T) {
	const root, parent = "1-5759e988-bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
	const want = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-"
	r := newReceiver(t, plain, nil)
	a := local(t, webhook.Config{})
	for trace, want := range map[string]string{
		"Root=" + root + ";Parent=" + parent + ";Sampled=1":                             want + "01",
		"Root=" + root + ";Parent=" + parent + ";Sampled=0":                             want + "00",
		"Root=" + root + ";Parent=" + parent + ";Sampled=?":                             want + "00",
		"Root=" + root + ";Parent=" + parent:                                            want + "00",
		"Self=1-x; sampled=1; parent=" + parent + "; root=" + root + ";Lineage=a:b|c:0": want + "01",
		strings.ToUpper("Root="+root+";Parent="+parent) + ";Sampled=1":                  want + "01",
		"":                            "",
		"Root=" + root:                "",
		"Root=" + root + ";Parent=":   "",
		"Root=" + root + ";Sampled=1": "",
		"Parent=" + parent:            "",
		"Root=2-5759e988-bd862e3fe1be46a994272793;Parent=" + parent: "",
		"Root=1-5759e98-8bd862e3fe1be46a994272793;Parent=" + parent: "",
		"Root=1-5759e988-bd862e3fe1be46a99427279;Parent=" + parent:  "",
		"Root=1-5759e988-bd862e3fe1be46a99427279g;Parent=" + parent: "",
		"Root=1-00000000-000000000000000000000000;Parent=" + parent: "",
		"Root=" + root + ";Parent=0000000000000000":                 "",
		"Root=" + root + ";Parent=53995c3f42cd8a\r\n":               "",
	} {
		attempt := attemptTo(t, r.URL)
		attempt.Trace = trace
		if result := deliver(t, a, attempt); result.Verdict != downstream.Delivered {
			t.Fatalf("%q: %+v", trace, result)
		}
		requests := r.all()
		if got := requests[len(requests)-1].Header.Get("Traceparent"); got != want {
			t.Errorf("%q gives %q, want %q", trace, got, want)
		}
	}
}

func TestContentType(t *testing.T) {
	r := newReceiver(t, plain, nil)
	a := local(t, webhook.Config{})
	for _, tt := range []struct {
		declared string
		data     []byte
		want     []string
	}{
		{"application/json; charset=utf-8", []byte("{}"), []string{"application/json; charset=utf-8"}},
		{"", []byte(`{"a":1}`), []string{"application/json"}},
		{"", []byte("\x00\x01"), []string{"application/octet-stream"}},
		{"text/xml", []byte("<a/>"), []string{"text/xml"}},
		{"", nil, nil},
	} {
		attempt := attemptTo(t, r.URL)
		attempt.Event.DataContentType, attempt.Event.Data = tt.declared, tt.data
		if result := deliver(t, a, attempt); result.Verdict != downstream.Delivered {
			t.Fatalf("%+v", result)
		}
		requests := r.all()
		got := requests[len(requests)-1]
		if !slices.Equal(got.Header["Content-Type"], tt.want) || !bytes.Equal(got.body, tt.data) {
			t.Errorf("%q: content-type %q, body %q", tt.declared, got.Header["Content-Type"], got.body)
		}
		if len(got.TransferEncoding) != 0 || got.ContentLength != int64(len(tt.data)) {
			t.Errorf("%q: transfer encoding %v, length %d", tt.declared, got.TransferEncoding, got.ContentLength)
		}
	}
}

func TestEveryStatusGetsItsVerdictWithOneRequest(t *testing.T) {
	r := newReceiver(t, plain, func(w http.ResponseWriter, request *http.Request) {
		var status int
		_, _ = fmt.Sscanf(request.URL.Path, "/%d", &status)
		w.Header().Set("Location", request.URL.Path) // a redirect loop, where it is one
		w.WriteHeader(status)
	})
	a := local(t, webhook.Config{})
	for status := 200; status <= 599; status++ {
		before := len(r.all())
		result := deliver(t, a, attemptTo(t, fmt.Sprintf("%s/%d", r.URL, status)))
		want, reason := downstream.Classify(status, nil), downstream.HTTPReason(status)
		if want == downstream.Delivered {
			reason = ""
		}
		if result.Verdict != want || result.Code != status || result.Reason != reason {
			t.Errorf("%d: %s, code %d, reason %q", status, result.Verdict, result.Code, result.Reason)
		}
		if n := len(r.all()) - before; n != 1 {
			t.Errorf("%d: %d requests", status, n)
		}
	}
}

func TestRejectListOfTheDestination(t *testing.T) {
	r := newReceiver(t, plain, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	attempt := attemptTo(t, r.URL)
	attempt.Destination.Reject = []int{404}
	if result := deliver(t, local(t, webhook.Config{}), attempt); result.Verdict != downstream.Reject {
		t.Errorf("%+v", result)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	tests := []struct {
		status int
		header string
		want   time.Duration
	}{
		{429, "120", 2 * time.Minute},
		{503, "Sun, 22 Nov 2026 10:01:00 GMT", time.Minute},
		{503, "Sunday, 22-Nov-26 10:01:00 GMT", time.Minute},
		{500, "7", 7 * time.Second},
		{302, "7", 7 * time.Second},
		{429, "864000", 24 * time.Hour},
		{429, "99999999999999999999", 24 * time.Hour},
		{429, "Sat, 22 Nov 2036 10:00:00 GMT", 24 * time.Hour},
		{429, "Sat, 21 Nov 2026 10:00:00 GMT", 0},
		{429, "-5", 0},
		{429, "soon", 0},
		{429, "", 0},
		{400, "7", 0},
		{410, "7", 0},
		{200, "7", 0},
	}
	var status atomic.Int64
	var header atomic.Value
	r := newReceiver(t, plain, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", header.Load().(string))
		w.WriteHeader(int(status.Load()))
	})
	a := local(t, webhook.Config{Now: func() time.Time { return now }})
	for _, tt := range tests {
		status.Store(int64(tt.status))
		header.Store(tt.header)
		if got := deliver(t, a, attemptTo(t, r.URL)).RetryAfter; got != tt.want {
			t.Errorf("%d with %q: %s, want %s", tt.status, tt.header, got, tt.want)
		}
	}
}

func TestNoCookiesAreKept(t *testing.T) {
	r := newReceiver(t, plain, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Set-Cookie", "a=b") })
	a := local(t, webhook.Config{})
	for range 2 {
		deliver(t, a, attemptTo(t, r.URL))
	}
	if got := r.all()[1].Header["Cookie"]; got != nil {
		t.Errorf("cookie %q", got)
	}
}

func TestDigestAndExcerpt(t *testing.T) {
	zip := func(data []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, _ = w.Write(data)
		_ = w.Close()
		return out.Bytes()
	}
	text := []byte(strings.Repeat("0123456789abcdef", 200)) // 3200 bytes
	large := bytes.Repeat([]byte("x"), 1<<20)
	tests := []struct {
		name, encoding string
		body           []byte
		digestOf       []byte
		excerpt        []byte
	}{
		{"empty", "", nil, nil, nil},
		{"short", "", []byte("ok"), []byte("ok"), []byte("ok")},
		{"longer than the excerpt", "", text, text, text[:1024]},
		{"longer than is read", "", large, large[:webhook.MaxBodyBytes], large[:1024]},
		{"gzip", "gzip", zip(text), zip(text), text[:1024]},
		{"gzip in capitals", "X-GZIP", zip([]byte("ok")), zip([]byte("ok")), []byte("ok")},
		{"damaged gzip", "gzip", []byte("not gzip at all"), []byte("not gzip at all"), nil},
		{"cut gzip", "gzip", zip(text)[:12], zip(text)[:12], nil},
		{"unknown encoding", "br", []byte("brotli"), []byte("brotli"), []byte("brotli")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newReceiver(t, plain, func(w http.ResponseWriter, _ *http.Request) {
				if tt.encoding != "" {
					w.Header().Set("Content-Encoding", tt.encoding)
				}
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = w.Write(tt.body)
			})
			result := deliver(t, local(t, webhook.Config{}), attemptTo(t, r.URL))
			sum := sha256.Sum256(tt.digestOf)
			if result.Digest != hex.EncodeToString(sum[:]) {
				t.Errorf("digest %s", result.Digest)
			}
			if !bytes.Equal(result.Excerpt, tt.excerpt) {
				t.Errorf("excerpt %q", result.Excerpt)
			}
			if result.Verdict != downstream.Retry || result.Code != 500 {
				t.Errorf("%+v", result)
			}
		})
	}
}

func TestEndlessBodyIsCutAndChangesNoVerdict(t *testing.T) {
	for name, start := range map[string]func(*httptest.Server){"HTTP/1.1": plain, "HTTP/2": http2} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			r := newReceiver(t, start, func(w http.ResponseWriter, _ *http.Request) {
				chunk := make([]byte, 32<<10)
				for sent.Load() < 1<<30 {
					n, err := w.Write(chunk)
					if sent.Add(int64(n)); err != nil {
						return
					}
				}
			})
			result := deliver(t, local(t, webhook.Config{TLS: r.trusting()}), attemptTo(t, r.URL))
			if result.Verdict != downstream.Delivered || len(result.Excerpt) != webhook.MaxExcerptBytes {
				t.Errorf("%s, %d bytes of excerpt", result.Verdict, len(result.Excerpt))
			}
			r.Close() // waits for the handler
			if sent.Load() >= 1<<28 {
				t.Errorf("the receiver could send %d bytes", sent.Load())
			}
		})
	}
}

func TestGzipBombIsNotInflated(t *testing.T) {
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 8 {
		_, _ = w.Write(zeros) // 8 MiB in about 8 KiB
	}
	_ = w.Close()
	r := newReceiver(t, plain, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	a := local(t, webhook.Config{})
	attempt := attemptTo(t, r.URL)
	deliver(t, a, attempt)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	result := deliver(t, a, attempt)
	runtime.ReadMemStats(&after)
	if result.Verdict != downstream.Delivered || !bytes.Equal(result.Excerpt, zeros[:1024]) {
		t.Errorf("%s, excerpt of %d bytes", result.Verdict, len(result.Excerpt))
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("allocated %d bytes", used)
	}
}

func TestConnectionsAreReused(t *testing.T) {
	for name, start := range map[string]func(*httptest.Server){"HTTP/1.1": plain, "HTTP/1.1 over TLS": secure, "HTTP/2": http2} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, start, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "thanks") })
			a := local(t, webhook.Config{TLS: r.trusting()})
			for range 20 { // 20 invocations
				deliver(t, a, attemptTo(t, r.URL))
			}
			if n := r.connections.Load(); n != 1 || len(r.all()) != 20 {
				t.Errorf("%d connections for %d requests", n, len(r.all()))
			}
		})
	}
}

func TestConcurrentAttemptsShareOneHTTP2Connection(t *testing.T) {
	r := newReceiver(t, http2, nil)
	a := local(t, webhook.Config{TLS: r.trusting(), Concurrency: 8})
	deliver(t, a, attemptTo(t, r.URL))
	attempts := slices.Repeat([]downstream.Attempt{attemptTo(t, r.URL)}, 50)
	a.Deliver(t.Context(), attempts, func(i int, result downstream.Result) {
		if result.Verdict != downstream.Delivered {
			t.Errorf("attempt %d: %+v", i, result)
		}
	})
	if n := r.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestAdapterKeepsTheContract(t *testing.T) {
	r := newReceiver(t, plain, func(w http.ResponseWriter, request *http.Request) {
		switch request.URL.Path {
		case "/hang":
			<-request.Context().Done()
		case "/panic":
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	paths := []string{"/fine", "/hang", "/panic", "/fine"}
	a := local(t, webhook.Config{Concurrency: 16})
	downstreamtest.Contract(t, a, func(i int) downstream.Attempt { return attemptTo(t, r.URL+paths[i%len(paths)]) })
}

// rawServer answers each accepted connection by serve.
func rawServer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

// readRequest reads a request up to the end of its body.
func readRequest(conn net.Conn) string {
	var text []byte
	buffer := make([]byte, 4096)
	for !bytes.HasSuffix(text, []byte("}")) {
		n, err := conn.Read(buffer)
		text = append(text, buffer[:n]...)
		if err != nil {
			break
		}
	}
	return string(text)
}

func TestFailuresOfTheConnection(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	answer := func(text string) string {
		return "http://" + rawServer(t, func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, text)
		})
	}
	untrusted := newReceiver(t, secure, nil)
	old := newReceiver(t, func(s *httptest.Server) {
		s.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
		s.StartTLS()
	}, nil)
	unencrypted := newReceiver(t, plain, nil)
	guard := egress.NewGuard(egress.Loopback())
	guard.Resolver = resolver{}
	dialError := func(err error) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}
	}

	tests := []struct {
		name    string
		url     string
		config  webhook.Config
		verdict downstream.Verdict
		reason  string
	}{
		{name: "nobody listens", url: "http://" + closed.Addr().String(), reason: "connection-refused"},
		{name: "reset", url: "http://" + rawServer(t, func(conn net.Conn) {
			readRequest(conn)
			_ = conn.(*net.TCPConn).SetLinger(0)
		}), reason: "connection-reset"},
		{name: "closed without an answer", url: answer(""), reason: "connection-closed"},
		{name: "closed inside the headers", url: answer("HTTP/1.1 200 OK\r\nX: y\r\n"), reason: "connection-closed"},
		{name: "closed inside a body of known length", url: answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), reason: "incomplete-response"},
		{name: "closed inside a chunked body", url: answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"), reason: "incomplete-response"},
		{name: "closed inside the body of a failure", url: answer("HTTP/1.1 400 Bad\r\nContent-Length: 10\r\n\r\nabc"), verdict: downstream.Reject, reason: "http-400"},
		{name: "body until the end of the connection", url: answer("HTTP/1.1 200 OK\r\n\r\nabc"), verdict: downstream.Delivered},
		{name: "not HTTP", url: answer("SSH-2.0-OpenSSH_9.6\r\n"), reason: "protocol"},
		{name: "echo of the request", url: "http://" + rawServer(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, strings.ReplaceAll(readRequest(conn), "POST", "EVIL"))
		}), reason: "protocol"},
		{name: "endless headers", url: answer("HTTP/1.1 200 OK\r\n" + strings.Repeat("x: "+strings.Repeat("y", 1000)+"\r\n", 200)), reason: "protocol"},
		{name: "one endless header", url: answer("HTTP/1.1 200 OK\r\nx: " + strings.Repeat("y", 200_000)), reason: "protocol"},
		{name: "switches protocols", url: answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), reason: "http-101"},
		{name: "many interim answers", url: answer(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 3) + "HTTP/1.1 204 No Content\r\n\r\n"), verdict: downstream.Delivered},
		{name: "unknown certificate", url: untrusted.URL, reason: "tls"},
		{name: "certificate of another host", url: strings.Replace(untrusted.URL, "127.0.0.1", "other.local", 1), config: webhook.Config{TLS: untrusted.trusting(), Dial: guard.DialContext}, reason: "tls"},
		{name: "TLS 1.1", url: old.URL, config: webhook.Config{TLS: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}}, reason: "tls"},
		{name: "no TLS on a TLS port", url: strings.Replace(unencrypted.URL, "http:", "https:", 1), reason: "tls"},
		{name: "no such host", url: "http://missing.local", config: webhook.Config{Dial: guard.DialContext}, reason: "dns"},
		{name: "no route", url: "http://a.local", config: webhook.Config{Dial: dialError(syscall.ENETUNREACH)}, reason: "unreachable"},
		{name: "dial times out by itself", url: "http://a.local", config: webhook.Config{Dial: dialError(syscall.ETIMEDOUT)}, reason: "timeout"},
		{name: "forbidden literal", url: "http://169.254.169.254/latest/meta-data", verdict: downstream.Reject, reason: "blocked-address"},
		{name: "forbidden answer", url: "http://intranet.local", config: webhook.Config{Dial: guard.DialContext}, verdict: downstream.Reject, reason: "blocked-address"},
		{name: "loopback by default", url: unencrypted.URL, config: webhook.Config{Dial: egress.NewGuard(nil).DialContext}, verdict: downstream.Reject, reason: "blocked-address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			attempt := attemptTo(t, tt.url+"/path-token?query=token")
			result := deliver(t, local(t, tt.config), attempt)
			if result.Verdict != tt.verdict || result.Reason != tt.reason {
				t.Errorf("%s, reason %q, detail %q", result.Verdict, result.Reason, result.Detail)
			}
			for _, leak := range []string{"token", "9007199254740993", "whsec", "webhook-signature"} {
				if strings.Contains(result.Detail, leak) {
					t.Errorf("detail %q contains %q", result.Detail, leak)
				}
			}
			if len(result.Detail) > 256 || strings.ContainsAny(result.Detail, "\r\n") {
				t.Errorf("detail %q", result.Detail)
			}
			if result.Verdict != downstream.Delivered && result.Code == 0 && result.Detail == "" {
				t.Error("a failure without status and without detail")
			}
		})
	}
}

// resolver knows three hosts.
type resolver struct{}

func (resolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	switch host {
	case "other.local":
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	case "intranet.local":
		return []netip.Addr{netip.MustParseAddr("10.0.0.5")}, nil
	default:
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
}

func TestWhatCannotBeSentIsRejectedWithoutARequest(t *testing.T) {
	r := newReceiver(t, plain, nil)
	a := local(t, webhook.Config{})
	tests := []struct {
		name   string
		change func(*downstream.Attempt)
		reason string
	}{
		{"no webhook", func(x *downstream.Attempt) { x.Destination.Webhook = nil }, "bad-configuration"},
		{"no URL", func(x *downstream.Attempt) { x.Destination.Webhook.URL = "" }, "bad-configuration"},
		{"relative URL", func(x *downstream.Attempt) { x.Destination.Webhook.URL = "/hooks" }, "bad-configuration"},
		{"URL of another scheme", func(x *downstream.Attempt) { x.Destination.Webhook.URL = "file:///etc/passwd" }, "bad-configuration"},
		{"URL of a scheme nobody speaks", func(x *downstream.Attempt) { x.Destination.Webhook.URL = "ftp://example.com/hooks" }, "bad-configuration"},
		{"URL without host", func(x *downstream.Attempt) { x.Destination.Webhook.URL = "http://:80/" }, "bad-configuration"},
		{"URL with credentials", func(x *downstream.Attempt) {
			x.Destination.Webhook.URL = strings.Replace(r.URL, "//", "//user:pass@", 1)
		}, "bad-configuration"},
		{"URL with line breaks", func(x *downstream.Attempt) { x.Destination.Webhook.URL = r.URL + "/\r\nx: y" }, "bad-configuration"},
		{"no secret", func(x *downstream.Attempt) { x.Destination.Webhook.Secrets = nil }, "bad-configuration"},
		{"zero secret", func(x *downstream.Attempt) { x.Destination.Webhook.Secrets = make([]registry.Secret, 1) }, "bad-configuration"},
		{"id with a dot", func(x *downstream.Attempt) { x.PublicID = "a.b" }, "bad-configuration"},
		{"no id", func(x *downstream.Attempt) { x.PublicID = "" }, "bad-configuration"},
		{"header value with line break", func(x *downstream.Attempt) {
			x.Destination.Webhook.Headers = []registry.Header{{Name: "x-a", Value: "b\r\nwebhook-id: forged"}}
		}, "bad-configuration"},
		{"header name with line break", func(x *downstream.Attempt) {
			x.Destination.Webhook.Headers = []registry.Header{{Name: "x-a: b\r\nx-c", Value: "d"}}
		}, "bad-configuration"},
		{"header without name", func(x *downstream.Attempt) { x.Destination.Webhook.Headers = []registry.Header{{Value: "d"}} }, "bad-configuration"},
		{"attribute name with line break", func(x *downstream.Attempt) { x.Event.Extensions["a: b\r\nc"] = "d" }, "bad-event"},
		{"attribute name in capitals", func(x *downstream.Attempt) { x.Event.Extensions["ID"] = "forged" }, "bad-event"},
		{"attribute without name", func(x *downstream.Attempt) { x.Event.Extensions[""] = "d" }, "bad-event"},
		{"content type with line break", func(x *downstream.Attempt) { x.Event.DataContentType = "a/b\r\nx: y" }, "bad-event"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			attempt := attemptTo(t, r.URL)
			tt.change(&attempt)
			result := deliver(t, a, attempt)
			if result.Verdict != downstream.Reject || result.Reason != tt.reason || result.Detail == "" {
				t.Errorf("%+v", result)
			}
			if strings.Contains(result.Detail, "pass") || strings.Contains(result.Detail, "forged") {
				t.Errorf("detail %q", result.Detail)
			}
		})
	}
	if n := len(r.all()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// Whatever an event's attributes contain, on the wire they stay inside their header.
func TestAttributesCannotInjectHeaders(t *testing.T) {
	const evil = "x\r\nwebhook-id: forged\r\n\r\nGET / HTTP/1.1\x00\x7f\u0085\u2028 \xff%0d%0a\""
	seen := make(chan string, 1)
	address := rawServer(t, func(conn net.Conn) {
		seen <- readRequest(conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	attempt := attemptTo(t, "http://"+address)
	e := attempt.Event
	e.ID, e.Source, e.Type, e.Subject, e.Time, e.DataSchema = evil, evil, evil, evil, evil, evil
	e.Extensions["tenant"] = evil
	if result := deliver(t, local(t, webhook.Config{}), attempt); result.Verdict != downstream.Delivered {
		t.Fatalf("%+v", result)
	}
	head, _, _ := strings.Cut(<-seen, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	if len(lines) != 1+1+1+1+4+8 { // request line, host, length, user agent, type and signature, attributes
		t.Errorf("%d lines:\n%s", len(lines), head)
	}
	const encoded = "x%0D%0Awebhook-id:%20forged%0D%0A%0D%0AGET%20/%20HTTP/1.1%00%7F%C2%85%E2%80%A8%20%FF%250d%250a%22"
	if n := strings.Count(head, ": "+encoded); n != 7 {
		t.Errorf("%d of 7 attributes encoded as %s:\n%s", n, encoded, head)
	}
}

func TestCallerGivesUp(t *testing.T) {
	arrived := make(chan struct{})
	r := newReceiver(t, plain, func(_ http.ResponseWriter, request *http.Request) {
		close(arrived)
		<-request.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	attempts := []downstream.Attempt{attemptTo(t, r.URL), attemptTo(t, r.URL)}
	results := make([]downstream.Result, 2)
	local(t, webhook.Config{Concurrency: 1}).Deliver(ctx, attempts, func(i int, result downstream.Result) { results[i] = result })
	if results[0].Verdict != downstream.Retry || results[0].Reason != "canceled" {
		t.Errorf("in the middle: %+v", results[0])
	}
	if results[1].Verdict != downstream.NotStarted {
		t.Errorf("not begun: %+v", results[1])
	}
}

func FuzzAttributes(f *testing.F) {
	f.Add("subject", "value")
	f.Add("Euro € 😀", "a\r\nb: c")
	f.Add("%zz%00", "\xff\xfe\"")
	r := newReceiver(f, plain, nil)
	a := local(f, webhook.Config{})
	f.Fuzz(func(t *testing.T, subject, extension string) {
		if len(subject)+len(extension) > 10_000 {
			return
		}
		attempt := attemptTo(t, r.URL)
		attempt.Event.Subject = subject
		attempt.Event.Extensions["ext"] = extension
		if result := deliver(t, a, attempt); result.Verdict != downstream.Delivered {
			t.Fatalf("%+v", result)
		}
		r.mu.Lock()
		got := r.requests[len(r.requests)-1]
		r.requests = nil
		r.mu.Unlock()
		for name, want := range map[string]string{"Ce-Subject": subject, "Ce-Ext": extension} {
			decoded, err := url.PathUnescape(got.Header.Get(name))
			if err != nil || decoded != want {
				t.Errorf("%s: %q decodes to %q, want %q (%v)", name, got.Header.Get(name), decoded, want, err)
			}
		}
		if len(got.Header) > 14 {
			t.Errorf("headers %v", got.Header)
		}
	})
}

func BenchmarkDeliver(b *testing.B) {
	for name, start := range map[string]func(*httptest.Server){"HTTP1": plain, "HTTP2": http2} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
				_, _ = io.Copy(io.Discard, request.Body)
				w.WriteHeader(http.StatusNoContent)
			}))
			start(r)
			defer r.Close()
			config := webhook.Config{TLS: &tls.Config{InsecureSkipVerify: true}}
			a := local(b, config)
			batch := slices.Repeat([]downstream.Attempt{attemptTo(b, r.URL)}, 10)
			b.ReportAllocs()
			for b.Loop() {
				a.Deliver(b.Context(), batch, func(_ int, result downstream.Result) {
					if result.Verdict != downstream.Delivered {
						b.Error(errors.New(result.Detail))
					}
				})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(10*b.N), "ns/attempt")
		})
	}
}
