package webhook_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/downstream/webhook"
	"github.com/waybillhq/waybill/shared/registry"
)

// pipes is a network in memory, on which time is virtual: serve answers each
// connection, wrap, if set, changes the client's end of it.
type pipes struct {
	serve func(net.Conn)
	wrap  func(net.Conn) net.Conn
	dials atomic.Int64
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	p.dials.Add(1)
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		p.serve(server)
	}()
	if p.wrap != nil {
		return p.wrap(client), nil
	}
	return client, nil
}

// answering reads a request and sends each text after its pause, for ever.
func answering(requests *atomic.Int64, pause time.Duration, texts ...string) func(net.Conn) {
	return func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		for {
			request, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, request.Body)
			requests.Add(1)
			for _, text := range texts {
				time.Sleep(pause)
				if _, err := io.WriteString(conn, text); err != nil {
					return
				}
			}
		}
	}
}

func hanging(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

const noContent = "HTTP/1.1 204 No Content\r\n\r\n"

func TestOneTimeoutOverTheWholeAttempt(t *testing.T) {
	drip := append([]string{"HTTP/1.1 200 OK\r\n\r\n"}, strings.Split(strings.Repeat("x", 1000), "")...)
	headerDrip := append([]string{"HTTP/1.1 200 OK\r\n"}, strings.Split(strings.Repeat("x-a: b\r\n", 500), "")...)
	var requests atomic.Int64
	stuck := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	tests := []struct {
		name    string
		scheme  string
		serve   func(net.Conn)
		dial    func(context.Context, string, string) (net.Conn, error)
		timeout time.Duration
		after   time.Duration
		verdict downstream.Verdict
		reason  string
		code    int
	}{
		{name: "connecting", dial: stuck, timeout: 3 * time.Second, after: 3 * time.Second, reason: "timeout"},
		{name: "TLS", scheme: "https", serve: hanging, timeout: 3 * time.Second, after: 3 * time.Second, reason: "timeout"},
		{name: "receiver never reads", serve: func(conn net.Conn) { time.Sleep(time.Hour); conn.Close() }, timeout: 3 * time.Second, after: 3 * time.Second, reason: "timeout"},
		{name: "before the headers", serve: hanging, timeout: 3 * time.Second, after: 3 * time.Second, reason: "timeout"},
		{name: "slow headers", serve: answering(&requests, time.Second, headerDrip...), timeout: 3 * time.Second, after: 3 * time.Second, reason: "timeout"},
		{name: "in the body", serve: answering(&requests, 0, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), timeout: 3 * time.Second, after: 3 * time.Second, reason: "timeout", code: 200},
		{name: "slow body", serve: answering(&requests, time.Second, drip...), timeout: 3 * time.Second, after: 3 * time.Second, reason: "timeout", code: 200},
		{name: "in the body of a rejection", serve: answering(&requests, 0, "HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nab"), timeout: 3 * time.Second, after: 3 * time.Second, verdict: downstream.Reject, reason: "http-400", code: 400},
		{name: "after switching protocols", serve: answering(&requests, 0, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), timeout: 3 * time.Second, reason: "http-101", code: 101},
		{name: "default", serve: hanging, after: registry.DefaultTimeout, reason: "timeout"},
		{name: "more than allowed", serve: hanging, timeout: time.Hour, after: webhook.MaxTimeout, reason: "timeout"},
		{name: "just in time", serve: answering(&requests, 2*time.Second, noContent), timeout: 3 * time.Second, after: 2 * time.Second, verdict: downstream.Delivered, code: 204},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			attempt := attemptTo(t, "http://receiver.example/")
			if tt.scheme != "" {
				attempt.Destination.Webhook.URL = tt.scheme + "://receiver.example/"
			}
			attempt.Destination.Webhook.Timeout = tt.timeout
			synctest.Test(t, func(t *testing.T) {
				network := &pipes{serve: tt.serve}
				dial := network.dial
				if tt.dial != nil {
					dial = tt.dial
				}
				a := webhook.New(webhook.Config{Dial: dial})
				result := deliver(t, a, attempt)
				if result.Verdict != tt.verdict || result.Reason != tt.reason || result.Code != tt.code {
					t.Errorf("%s, reason %q, code %d, detail %q", result.Verdict, result.Reason, result.Code, result.Detail)
				}
				if result.Duration != tt.after {
					t.Errorf("took %s, want %s", result.Duration, tt.after)
				}
				a.CloseIdleConnections()
				time.Sleep(2 * time.Hour) // until the receiver is done, too
			})
		})
	}
}

func TestContextBoundsTheAttempt(t *testing.T) {
	attempt := attemptTo(t, "http://receiver.example/")
	synctest.Test(t, func(t *testing.T) {
		network := &pipes{serve: hanging}
		a := webhook.New(webhook.Config{Dial: network.dial})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a.Deliver(ctx, []downstream.Attempt{attempt}, func(_ int, result downstream.Result) {
			if result.Reason != "timeout" || result.Verdict != downstream.Retry || result.Duration != time.Second {
				t.Errorf("%+v", result)
			}
		})
		synctest.Wait()
	})
}

// A dial that outlives its attempt ends by itself.
func TestDialsAreBoundedWithoutTheirAttempt(t *testing.T) {
	attempt := attemptTo(t, "http://receiver.example/")
	attempt.Destination.Webhook.Timeout = time.Second
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var took time.Duration
		var mu sync.Mutex
		a := webhook.New(webhook.Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			took = time.Since(began)
			return nil, ctx.Err()
		}})
		deliver(t, a, attempt)
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if took == 0 || took > webhook.MaxTimeout {
			t.Errorf("the dial ended after %s", took)
		}
	})
}

func TestIdleConnectionsAreKeptForAWhileOnly(t *testing.T) {
	attempt := attemptTo(t, "http://receiver.example/")
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		network := &pipes{serve: answering(&requests, 0, noContent)}
		a := webhook.New(webhook.Config{Dial: network.dial})
		for i, step := range []struct {
			pause time.Duration
			dials int64
		}{{0, 1}, {webhook.IdleTimeout - time.Second, 1}, {webhook.IdleTimeout + time.Second, 2}} {
			time.Sleep(step.pause)
			if result := deliver(t, a, attempt); result.Verdict != downstream.Delivered {
				t.Fatalf("%d: %+v", i, result)
			}
			synctest.Wait()
			if got := network.dials.Load(); got != step.dials {
				t.Errorf("%d: %d connections, want %d", i, got, step.dials)
			}
		}
		a.CloseIdleConnections()
	})
}

// The ordinary case: the receiver closes the kept-alive connection while nobody uses it.
func TestConnectionClosedWhileIdleCostsNoAttempt(t *testing.T) {
	attempt := attemptTo(t, "http://receiver.example/")
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		network := &pipes{serve: func(conn net.Conn) {
			// Node.js closes after five seconds.
			timer := time.AfterFunc(5*time.Second, func() { conn.Close() })
			defer timer.Stop()
			answering(&requests, 0, noContent)(conn)
		}}
		a := webhook.New(webhook.Config{Dial: network.dial})
		for range 3 {
			if result := deliver(t, a, attempt); result.Verdict != downstream.Delivered {
				t.Errorf("%+v", result)
			}
			time.Sleep(10 * time.Second)
		}
		if requests.Load() != 3 || network.dials.Load() != 3 {
			t.Errorf("%d requests over %d connections", requests.Load(), network.dials.Load())
		}
		a.CloseIdleConnections()
	})
}

// brittle is a client connection that fails when the second request is written,
// after it has let through so many bytes of it.
type brittle struct {
	net.Conn
	through int
	answers atomic.Int64
	used    *atomic.Bool // the first connection only
}

func (b *brittle) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if n > 0 {
		b.answers.Add(1)
	}
	return n, err
}

func (b *brittle) Write(p []byte) (int, error) {
	if b.answers.Load() == 0 || b.used.Swap(true) {
		return b.Conn.Write(p)
	}
	n := 0
	if b.through > 0 {
		n, _ = b.Conn.Write(p[:min(b.through, len(p))])
	}
	return n, &net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET}
}

// The unlucky case: the connection turns out to be dead when the next request is
// written to it. The request goes out again if and only if none of it went out before.
func TestDeadConnectionIsReplacedOnlyIfNothingWasWritten(t *testing.T) {
	for _, tt := range []struct {
		name    string
		through int
		header  []registry.Header
		data    string
		verdict downstream.Verdict
		reason  string
		dials   int64
	}{
		{name: "nothing written", data: "{}", verdict: downstream.Delivered, dials: 2},
		{name: "nothing written, no data", verdict: downstream.Delivered, dials: 2},
		{name: "a byte written", through: 1, data: "{}", reason: "connection-reset", dials: 1},
		{name: "all of it written", through: 1 << 20, data: "{}", reason: "connection-reset", dials: 1},
		{name: "all of it written, no data", through: 1 << 20, reason: "connection-reset", dials: 1},
		{name: "with an idempotency key", through: 1 << 20, data: "{}", header: []registry.Header{{Name: "Idempotency-Key", Value: "k"}}, reason: "connection-reset", dials: 1},
		{name: "with an idempotency key, no data", through: 1 << 20, header: []registry.Header{{Name: "Idempotency-Key", Value: "k"}, {Name: "X-Idempotency-Key", Value: "k"}}, reason: "connection-reset", dials: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			attempt := attemptTo(t, "http://receiver.example/")
			attempt.Event.Data = []byte(tt.data)
			attempt.Destination.Webhook.Headers = tt.header
			synctest.Test(t, func(t *testing.T) {
				var requests atomic.Int64
				var used atomic.Bool
				network := &pipes{
					serve: answering(&requests, 0, noContent),
					wrap:  func(conn net.Conn) net.Conn { return &brittle{Conn: conn, through: tt.through, used: &used} },
				}
				a := webhook.New(webhook.Config{Dial: network.dial})
				if result := deliver(t, a, attempt); result.Verdict != downstream.Delivered {
					t.Fatalf("first: %+v", result)
				}
				synctest.Wait()
				result := deliver(t, a, attempt)
				if result.Verdict != tt.verdict || result.Reason != tt.reason {
					t.Errorf("second: %+v", result)
				}
				a.CloseIdleConnections()
				synctest.Wait()
				if network.dials.Load() != tt.dials {
					t.Errorf("%d connections, want %d", network.dials.Load(), tt.dials)
				}
				if requests.Load() > 2 {
					t.Errorf("%d requests for 2 attempts", requests.Load())
				}
			})
		})
	}
}

// The ambiguous case: the receiver read the second request and closed the
// connection. It may have acted, so the attempt is over.
func TestRequestThatWasReadIsNeverSentAgain(t *testing.T) {
	for _, header := range [][]registry.Header{nil, {{Name: "idempotency-key", Value: "k"}}} {
		for _, data := range []string{"{}", ""} {
			attempt := attemptTo(t, "http://receiver.example/")
			attempt.Destination.Webhook.Headers = header
			attempt.Event.Data = []byte(data)
			synctest.Test(t, func(t *testing.T) {
				var requests atomic.Int64
				network := &pipes{serve: func(conn net.Conn) {
					reader := bufio.NewReader(conn)
					for {
						request, err := http.ReadRequest(reader)
						if err != nil {
							return
						}
						_, _ = io.Copy(io.Discard, request.Body)
						if requests.Add(1) == 2 {
							return
						}
						_, _ = io.WriteString(conn, noContent)
					}
				}}
				a := webhook.New(webhook.Config{Dial: network.dial})
				for i, want := range []struct {
					verdict downstream.Verdict
					reason  string
				}{{downstream.Delivered, ""}, {downstream.Retry, "connection-closed"}, {downstream.Delivered, ""}} {
					result := deliver(t, a, attempt)
					if result.Verdict != want.verdict || result.Reason != want.reason || requests.Load() != int64(i+1) {
						t.Errorf("attempt %d: %+v after %d requests", i+1, result, requests.Load())
					}
					synctest.Wait()
				}
				a.CloseIdleConnections()
			})
		}
	}
}

func TestAdapterStaysUsableAfterEveryFailure(t *testing.T) {
	attempt := attemptTo(t, "http://receiver.example/")
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		fail := true
		a := webhook.New(webhook.Config{Concurrency: 1, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if fail = !fail; !fail {
				return nil, errors.New("no")
			}
			return (&pipes{serve: answering(&requests, 0, "HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")}).dial(ctx, network, address)
		}})
		for range 20 {
			deliver(t, a, attempt)
			synctest.Wait()
		}
		if requests.Load() != 10 {
			t.Errorf("%d requests", requests.Load())
		}
		a.CloseIdleConnections()
	})
}
