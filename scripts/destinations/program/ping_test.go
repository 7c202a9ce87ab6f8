package program_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/scripts/destinations/program"
	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/inmem"
	"github.com/waybillhq/waybill/shared/signing"
)

// pingable describes a destination at the receiver's path, whose first element says how it behaves.
func pingable(behaviour string) object {
	return to(behaviour, object{"webhook.url": "http://127.0.0.1/" + behaviour + "/" + hiddenPath, "retry": object{"schedule": []string{"5s", "1m"}}})
}

// listen connects pings to a receiver that verifies signatures.
func (a *account) listen(opts receiver.Options) *receiver.Receiver {
	a.t.Helper()
	key, err := signing.ParseKey(secret)
	if err != nil {
		a.t.Fatal(err)
	}
	opts.Keys = []signing.Key{key}
	r := receiver.New(opts)
	a.env.Dial = r.Dial
	return r
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

var pingID = regexp.MustCompile(`ping-[a-z2-7]{26}`)

// TestPing: every behaviour of a receiver becomes a verdict and what that means, and nothing else happens.
func TestPing(t *testing.T) {
	for behaviour, want := range map[string]struct {
		status int
		says   string
	}{
		receiver.Fine:      {0, "answer   200 OK after less than 1ms\nverdict  delivered: a delivery would be done\n"},
		receiver.Slow:      {0, "answer   200 OK after 1s\nverdict  delivered: a delivery would be done\n"},
		receiver.Gone:      {1, "answer   410 Gone after less than 1ms\nverdict  gone: the destination would be disabled, and its deliveries held until it is enabled\n"},
		receiver.Rejecting: {1, "answer   400 Bad Request after less than 1ms\nverdict  reject: a delivery would be a dead letter at once, with the reason http-400\n"},
		receiver.Failing: {
			1, "answer   500 Internal Server Error after less than 1ms\nverdict  retry: a delivery would be tried again after about 5s, and be a dead letter after 3 tries in 1m5s\n",
		},
		receiver.Throttled: {
			1, "answer   429 Too Many Requests after less than 1ms, Retry-After 1h30m\n" +
				"verdict  throttle: a delivery would be tried again after about 1h30m, and others to this destination slowed down, and be a dead letter after 3 tries in 1m5s\n",
		},
		receiver.Hanging: {
			1, "answer   none after 15s: timeout (the time for the attempt ran out)\n" +
				"verdict  retry: a delivery would be tried again after about 5s, and be a dead letter after 3 tries in 1m5s\n",
		},
		receiver.Resetting: {
			1, "answer   none after less than 1ms: connection-closed (the receiver closed the connection)\n" +
				"verdict  retry: a delivery would be tried again after about 5s, and be a dead letter after 3 tries in 1m5s\n",
		},
	} {
		t.Run(behaviour, func(t *testing.T) {
			inAccount(t, func(a *account) {
				r := a.listen(receiver.Options{RetryAfter: 90 * time.Minute})
				defer func() { _ = r.Close() }()
				a.applied(pingable(behaviour))
				before := a.endpoint.Counts()
				got := a.do("ping", behaviour)
				id := pingID.FindString(got.stdout)
				if wanted := "ping     " + behaviour + ", http://127.0.0.1, webhook-id " + id + "\n" + want.says; got.status != want.status || got.stdout != wanted || got.stderr != "" {
					t.Errorf("status %d\n%s%swant\n%s", got.status, got.stdout, got.stderr, wanted)
				}
				for op := range a.endpoint.Counts().Since(before) {
					if op.Name != "Query" {
						t.Errorf("the ping has called %s", op.Name)
					}
				}
				if s := a.current().States; len(s) != 0 {
					t.Errorf("%+v", s)
				}
				requests := r.Log()
				if behaviour == receiver.Hanging {
					return // it writes down what it has answered
				}
				if len(requests) != 1 {
					t.Fatalf("%d requests", len(requests))
				}
				if r, header := requests[0], requests[0].Header; !r.Verified || r.ID != id || r.Bytes == 0 || header.Get("ce-type") != program.TypePing ||
					header.Get("ce-tenant") != "acme" || header.Get("ce-subject") != behaviour || header.Get("authorization") != headerValue {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// TestPingOfADestinationOfOneTry: where there is no second try, the first failure is the end.
func TestPingOfADestinationOfOneTry(t *testing.T) {
	inAccount(t, func(a *account) {
		r := a.listen(receiver.Options{})
		defer func() { _ = r.Close() }()
		d := pingable(receiver.Failing)
		d["retry"], d["tenant"] = object{"schedule": []string{}}, "*"
		a.applied(d)
		a.says(1, []string{"verdict  retry: a delivery would be a dead letter now, because its schedule has no second try, with the reason http-500"}, "ping", receiver.Failing)
		if tenant := r.Log()[0].Header.Get("ce-tenant"); tenant != "waybill" {
			t.Errorf("tenant %q", tenant)
		}
	})
}

// TestPingsDiffer: a receiver that remembers webhook-ids takes no ping for a repeat.
func TestPingsDiffer(t *testing.T) {
	inAccount(t, func(a *account) {
		r := a.listen(receiver.Options{})
		defer func() { _ = r.Close() }()
		a.applied(pingable(receiver.Fine))
		for range 3 {
			a.says(0, nil, "ping", receiver.Fine)
		}
		for _, request := range r.Log() {
			if !request.Effect || request.Try != 1 {
				t.Errorf("%+v", request)
			}
		}
	})
}

// TestPingWithStoredSecrets: keys are found under their ARNs, and without them nothing is sent.
func TestPingWithStoredSecrets(t *testing.T) {
	inAccount(t, func(a *account) {
		r := a.listen(receiver.Options{})
		defer func() { _ = r.Close() }()
		d := pingable(receiver.Fine)
		d["webhook"].(object)["secrets"] = []string{a.arn("/hook", secret)}
		a.applied(d)
		a.says(0, []string{"delivered"}, "ping", receiver.Fine)
		if requests := r.Log(); len(requests) != 1 || !requests[0].Verified {
			t.Errorf("%+v", requests)
		}
		a.endpoint.Faults().Add(awslocal.Fault{Service: "ssm", Error: denied})
		a.says(2, []string{"nothing was sent", "may not be read"}, "ping", receiver.Fine)
		if n := len(r.Log()); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestPingOfAFile: a destination can be tried before it is applied, without a registry.
func TestPingOfAFile(t *testing.T) {
	inAccount(t, func(a *account) {
		r := a.listen(receiver.Options{})
		defer func() { _ = r.Close() }()
		a.env.Lookup = func(string) (string, bool) { return "", false }
		before := a.endpoint.Counts()
		file := a.file(pingable(receiver.Fine))
		a.says(0, []string{"delivered"}, "ping", "fine", "-file", file)
		a.says(1, []string{"no destination fin is in", "did you mean fine?"}, "ping", "fin", "-file", file)
		a.says(1, []string{"1 problem"}, "ping", "fine", "-file", a.file(to("fine", object{"tenant": ""})))
		if n := len(a.endpoint.Counts().Since(before)); n != 0 {
			t.Errorf("%d operations of AWS were called", n)
		}
	})
}

// TestPingOfAPausedDestination goes there and says so.
func TestPingOfAPausedDestination(t *testing.T) {
	inAccount(t, func(a *account) {
		r := a.listen(receiver.Options{})
		defer func() { _ = r.Close() }()
		a.applied(pingable(receiver.Fine))
		a.do("pause", "fine", "-note", "moving")
		a.says(0, []string{"fine is paused since 2026-11-22T09:00:00Z by anna (moving); a ping goes there all the same.", "delivered"}, "ping", "fine")
	})
}

func TestInterruptedPing(t *testing.T) {
	inAccount(t, func(a *account) {
		r := a.listen(receiver.Options{})
		defer func() { _ = r.Close() }()
		a.applied(pingable(receiver.Hanging))
		ctx, cancel := context.WithCancel(a.t.Context())
		time.AfterFunc(time.Second, cancel)
		expect(t, a.doUnder(ctx, "ping", receiver.Hanging), 1, "answer   none after 1s: canceled", "interrupted, so nothing can be said")
	})
}

// TestPingShowsTheBodyOnRequest: what a receiver answers is shown only then, and cannot steer the terminal.
func TestPingShowsTheBodyOnRequest(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = fmt.Fprint(w, "\x1b[2Jshort\nand stout", strings.Repeat("!", 5000))
	}))
	defer server.Close()
	a := &account{t: t, env: unconnected(t, nil)}
	file := write(t, document(to("crm", object{"webhook.url": server.URL + "/" + hiddenPath})))
	if r := a.says(1, []string{"418 I'm a teapot"}, "ping", "crm", "-file", file, "-egress-allow", "loopback"); strings.Contains(r.stdout, "stout") {
		t.Errorf("%s", r.stdout)
	}
	if r := a.says(1, []string{`body     \x1b[2Jshort\nand stout!!!`}, "ping", "crm", "-file", file, "-egress-allow", "loopback", "-body"); len(r.stdout) > 2000 {
		t.Errorf("%d bytes are shown", len(r.stdout))
	}
}

// TestPingOverTheNetwork: what is known of name, connection and certificate is told, on real sockets.
func TestPingOverTheNetwork(t *testing.T) {
	fine := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	plain, secure := httptest.NewServer(fine), httptest.NewUnstartedServer(fine)
	secure.EnableHTTP2 = true
	secure.Config.ErrorLog = quiet()
	secure.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	closed := httptest.NewServer(fine)
	closed.Close()
	trusted := &tls.Config{RootCAs: x509.NewCertPool()}
	trusted.RootCAs.AddCert(secure.Certificate())
	_, port, _ := net.SplitHostPort(plain.Listener.Addr().String())
	for name, tt := range map[string]struct {
		url, allow string
		tls        *tls.Config
		status     int
		says       []string
	}{
		"an address": {plain.URL, "loopback", nil, 0, []string{"connect  127.0.0.1:" + port + ", ", "delivered"}},
		"a name":     {"http://localhost:" + port, "loopback", nil, 0, []string{"dns      ", "127.0.0.1", "connect  127.0.0.1:" + port, "delivered"}},
		"an allowed range": {
			secure.URL, "127.0.0.1", trusted, 0, []string{"tls      TLS 1.3, HTTP/2, certificate by O=Acme Co until 2084-01-29T16:00:00Z, ", "delivered"},
		},
		"nobody can vouch for it": {secure.URL, "loopback", nil, 1, []string{"none after", "tls (tls: failed to verify certificate: x509: ", "verdict  retry"}},
		"no TLS at all":           {"https://127.0.0.1:" + port, "loopback", nil, 1, []string{": tls (", "verdict  retry"}},
		"blocked":                 {plain.URL, "", nil, 1, []string{"blocked-address", "verdict  reject: a delivery would be a dead letter at once", "-egress-allow allows it for this ping"}},
		"nobody listens":          {closed.URL, "loopback", nil, 1, []string{"connection-refused", "verdict  retry"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &account{t: t, env: unconnected(t, nil)}
			a.env.TLS = tt.tls
			file := write(t, document(to("crm", object{"webhook.url": tt.url + "/" + hiddenPath})))
			a.says(tt.status, tt.says, "ping", "crm", "-file", file, "-egress-allow", tt.allow)
		})
	}
}

// secureReceiver answers in memory as a host with a certificate of its own, for which the given settings vouch.
func secureReceiver(t *testing.T, host string, handler http.Handler) (dial func(context.Context, string, string) (net.Conn, error), trusted *tls.Config, closeIt func()) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Example Trust"}}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Date(2027, time.February, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trusted = &tls.Config{RootCAs: x509.NewCertPool()}
	trusted.RootCAs.AddCert(leaf)
	memory := inmem.Listen(host)
	server := &http.Server{Handler: handler, ErrorLog: quiet(), ReadHeaderTimeout: time.Minute}
	server.TLSConfig = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		time.Sleep(20 * time.Millisecond) // of virtual time
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
	}}
	go func() { _ = server.ServeTLS(memory, "", "") }()
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return memory.Dial(ctx) }, trusted, func() { _ = server.Close() }
}
