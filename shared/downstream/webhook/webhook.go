// Package webhook delivers events over HTTP as Standard Webhooks 1.0.0: a POST
// whose body is the event's data, byte for byte, signed with every live secret
// of the destination, with the CloudEvents attributes in ce- headers (binary
// mode).
//
// # One attempt is one request
//
// Redirects are not followed, cookies are not kept, no proxy is taken from the
// environment, and the transport's own repeats are ruled out as soon as a byte
// of the request may have reached the receiver:
//
//   - A kept-alive connection that the receiver has closed is noticed before or
//     while the request is written. If not one byte was written, the request goes
//     out on a new connection; the receiver sees it once.
//   - Once bytes were written, a connection that breaks ends the attempt
//     (connection-closed, connection-reset). The receiver may or may not have
//     acted; the next attempt carries the same webhook-id.
//   - Over HTTP/2, a stream that the receiver refuses after the headers were sent
//     ends the attempt too, although the protocol would allow to repeat it.
//   - Connections idle for IdleTimeout are not used again. That is measured by
//     the clock on the wall, so connections that died while the environment was
//     frozen are not tried first after it thaws.
//
// # What a response is worth
//
// The status decides (downstream.Classify). For a success the response must also
// arrive whole, or as far as it is read: a receiver that announces 200 and then
// hangs or breaks off has not said that it is done, and one that honours
// webhook-id loses nothing by a repeat. A body longer than MaxBodyBytes is cut
// and changes nothing. No other verdict depends on the body.
//
// Nothing of a payload, a secret, a URL's path or query gets into Result.Detail.
package webhook

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/egress"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/retry"
)

// The bounds on what an attempt may take and a receiver may send.
const (
	MaxTimeout = registry.MaxTimeout // of an attempt; longer ones are cut to it

	MaxBodyBytes    = 64 << 10 // of a response body, as sent; what follows is not read
	MaxHeaderBytes  = 64 << 10 // of a response's status line and headers
	MaxExcerptBytes = 1 << 10  // of a response body, decompressed

	// IdleTimeout is how long an unused connection is kept. Longer meets more
	// connections that the receiver has closed meanwhile (load balancers close
	// after 60 s, many servers earlier), shorter pays more TLS handshakes.
	IdleTimeout = 30 * time.Second

	// DefaultConcurrency is how many attempts run at once by default.
	DefaultConcurrency = 64
)

// Config is what an Adapter needs. The zero value is ready for production.
type Config struct {
	// Dial connects to host:port; it decides which addresses may be reached.
	// Default: egress.NewGuard(nil), the public internet only.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Concurrency is how many attempts run at once, over all batches.
	// Default: DefaultConcurrency. It also bounds the idle connections per host.
	Concurrency int
	// Now is the clock of timestamps, signatures and durations. Default: time.Now.
	// Timeouts run on the real clock.
	Now func() time.Time
	// TLS is the base of the client's TLS settings, for tests with their own
	// certificates. Versions below 1.2 are refused whatever it says.
	TLS *tls.Config
}

// Adapter delivers attempts to webhooks. Make one with New and keep it: its
// connections are reused by all attempts, across invocations. It is safe for
// concurrent use.
type Adapter struct {
	attempts  downstream.Adapter
	transport *http.Transport
	targets   targets
	now       func() time.Time
}

var _ downstream.Adapter = (*Adapter)(nil)

// New returns an adapter. Nothing is connected yet.
func New(config Config) *Adapter {
	if config.Dial == nil {
		config.Dial = egress.NewGuard(nil).DialContext
	}
	if config.Concurrency <= 0 {
		config.Concurrency = DefaultConcurrency
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	a := &Adapter{transport: newTransport(config), now: config.Now}
	a.attempts = downstream.Each(config.Concurrency, a.attempt)
	return a
}

// Deliver implements downstream.Adapter: one request per attempt, at most
// Config.Concurrency at once.
func (a *Adapter) Deliver(ctx context.Context, attempts []downstream.Attempt, done func(i int, r downstream.Result)) {
	a.attempts.Deliver(ctx, attempts, done)
}

// CloseIdleConnections closes what is open and unused. The adapter stays usable.
func (a *Adapter) CloseIdleConnections() { a.transport.CloseIdleConnections() }

func newTransport(config Config) *http.Transport {
	settings := &tls.Config{}
	if config.TLS != nil {
		settings = config.TLS.Clone()
	}
	settings.MinVersion = max(settings.MinVersion, tls.VersionTLS12)
	return &http.Transport{
		// The transport goes on dialling when the attempt that asked has ended,
		// and without its deadline, so dials need a bound of their own.
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, MaxTimeout)
			defer cancel()
			return config.Dial(ctx, network, address)
		},
		TLSHandshakeTimeout: MaxTimeout,
		TLSClientConfig:     settings,
		ForceAttemptHTTP2:   true,
		HTTP2: &http.HTTP2Config{
			// A connection that died silently would otherwise time out one
			// attempt after the other.
			SendPingTimeout: 10 * time.Second,
			PingTimeout:     5 * time.Second,
		},
		IdleConnTimeout:     IdleTimeout,
		MaxIdleConns:        4 * config.Concurrency,
		MaxIdleConnsPerHost: config.Concurrency,
		// Nothing is inflated behind our back; see readBody.
		DisableCompression:     true,
		MaxResponseHeaderBytes: MaxHeaderBytes,
	}
}

// attempt makes one request and reports what came of it.
func (a *Adapter) attempt(ctx context.Context, attempt downstream.Attempt) downstream.Result {
	growStack(attempt.Number)
	began := a.now()
	result := a.exchange(ctx, attempt, began)
	result.Duration = a.now().Sub(began)
	return result
}

func (a *Adapter) exchange(ctx context.Context, attempt downstream.Attempt, at time.Time) downstream.Result {
	request, err := a.targets.newRequest(attempt, at)
	if err != nil {
		return refused(err)
	}
	// One clock for everything: connecting, TLS, sending, headers, body.
	ctx, cancel := context.WithTimeout(ctx, timeout(attempt.Destination.Webhook.Timeout))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	// RoundTrip instead of a Client: no redirects, no cookies, no credentials
	// out of URLs, and errors that do not repeat the URL.
	response, err := send(ctx, a.transport, request, stop)
	if err != nil {
		return failed(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	result := downstream.Result{
		Verdict: downstream.Classify(response.StatusCode, attempt.Destination.Reject),
		Code:    response.StatusCode,
	}
	if result.Verdict != downstream.Delivered {
		result.Reason = downstream.HTTPReason(response.StatusCode)
	}
	if result.Verdict == downstream.Retry || result.Verdict == downstream.Throttle {
		result.RetryAfter, _ = retry.ParseAfter(response.Header.Get("Retry-After"), a.now())
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return result // what follows is no body
	}
	body, err := readBody(response)
	result.Digest, result.Excerpt = body.digest, body.excerpt
	if err != nil {
		return brokenOff(ctx, result, err)
	}
	return result
}

func timeout(configured time.Duration) time.Duration {
	if configured <= 0 {
		return registry.DefaultTimeout
	}
	return min(configured, MaxTimeout)
}

// growStack makes the stack of an attempt's goroutine as large as net/http will
// need, while it is shallow. Growing it step by step in the depths of a request
// costs a tenth of the attempt's processor time.
//
//go:noinline
func growStack(n int) byte {
	var room [12 << 10]byte
	room[n%len(room)]++
	return room[(n+1)%len(room)]
}
