package receiver_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/shared/signing"
)

const address = "http://receiver"

// bubble runs f in virtual time with a receiver that is reached in memory.
func bubble(t *testing.T, opts receiver.Options, f func(t *testing.T, r *receiver.Receiver, c *http.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := receiver.New(opts)
		transport := &http.Transport{DialContext: r.Dial}
		f(t, r, &http.Client{Transport: transport})
		transport.CloseIdleConnections()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}

// post sends a request and gives its status; 0 if there was no answer.
func post(ctx context.Context, t *testing.T, c *http.Client, path, id, body string) (int, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(signing.HeaderID, id)
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header
}

func TestEveryBehaviour(t *testing.T) {
	for _, row := range []struct {
		path string
		want [4]int // statuses of four requests with one webhook-id
		took time.Duration
	}{
		{"/fine", [4]int{200, 200, 200, 200}, 0},
		{"/", [4]int{200, 200, 200, 200}, 0},
		{"/fine/flaky", [4]int{200, 200, 200, 200}, 0}, // the first element counts
		{"/slow/x", [4]int{200, 200, 200, 200}, 12 * time.Second},
		{"/flaky", [4]int{500, 500, 500, 200}, 0},
		{"/failing", [4]int{500, 500, 500, 500}, 0},
		{"/resetting", [4]int{0, 0, 0, 0}, 0},
		{"/throttled", [4]int{429, 200, 200, 200}, 0},
		{"/rejecting", [4]int{400, 400, 400, 400}, 0},
		{"/gone", [4]int{410, 410, 410, 410}, 0},
	} {
		t.Run(row.path, func(t *testing.T) {
			bubble(t, receiver.Options{SlowFor: 3 * time.Second, FlakyTries: 3, RetryAfter: 7 * time.Second}, func(t *testing.T, r *receiver.Receiver, c *http.Client) {
				began := time.Now()
				effects := 0
				for i, want := range row.want {
					got, header := post(t.Context(), t, c, row.path, "id", "body")
					if got != want {
						t.Errorf("request %d: status %d, want %d", i+1, got, want)
					}
					if after := header.Get("Retry-After"); (got == 429) != (after == "7") {
						t.Errorf("request %d: status %d with Retry-After %q", i+1, got, after)
					}
				}
				sum := sha256.Sum256([]byte("body"))
				for i, req := range r.Log() {
					if req.Try != i+1 || req.Status != row.want[i] || req.Path != row.path || req.Bytes != 4 || req.Digest != hex.EncodeToString(sum[:]) || !req.Verified {
						t.Errorf("request %d in the log: %+v", i+1, req)
					}
					if req.Effect {
						effects++
					}
				}
				want := 0
				if row.want[3] == 200 {
					want = 1
				}
				if effects != want || len(r.Log()) != 4 || r.Active() != 0 {
					t.Errorf("%d effects, want %d; %d requests, %d active", effects, want, len(r.Log()), r.Active())
				}
				if took := time.Since(began); took != row.took {
					t.Errorf("took %s, want %s", took, row.took)
				}
			})
		})
	}
}

func TestHangingEndsWithTheCaller(t *testing.T) {
	bubble(t, receiver.Options{}, func(t *testing.T, r *receiver.Receiver, c *http.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if got, _ := post(ctx, t, c, "/hanging", "id", "body"); got != 0 {
			t.Errorf("status %d", got)
		}
		synctest.Wait()
		if log := r.Log(); len(log) != 1 || log[0].Status != 0 || log[0].Effect {
			t.Errorf("log %+v", log)
		}
	})
}

// TestEffectWithoutWitness: a receiver that is slower than its caller's patience acts all the same, once.
func TestEffectWithoutWitness(t *testing.T) {
	bubble(t, receiver.Options{SlowFor: 10 * time.Second}, func(t *testing.T, r *receiver.Receiver, c *http.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got, _ := post(ctx, t, c, "/slow", "id", "body"); got != 0 {
			t.Errorf("the impatient caller got status %d", got)
		}
		if got, _ := post(t.Context(), t, c, "/slow", "id", "body"); got != 200 {
			t.Errorf("the patient caller got status %d", got)
		}
		if log := r.Log(); len(log) != 2 || !log[0].Effect || log[1].Effect || log[1].Try != 2 {
			t.Errorf("log %+v", log)
		}
	})
}

func TestAnswerComesFirst(t *testing.T) {
	var heard []receiver.Request
	opts := receiver.Options{
		Answer: func(r receiver.Request, h http.Header) int {
			h.Set("X-Try", "seen")
			switch r.ID {
			case "teapot":
				return http.StatusTeapot
			case "none":
				return receiver.NoAnswer
			}
			return 0
		},
		OnReceived: func(r receiver.Request) { heard = append(heard, r) },
	}
	bubble(t, opts, func(t *testing.T, _ *receiver.Receiver, c *http.Client) {
		for id, want := range map[string]int{"teapot": 418, "none": 0, "other": 400} {
			heard = nil
			got, header := post(t.Context(), t, c, "/rejecting", id, "body")
			if got != want || (got != 0 && header.Get("X-Try") != "seen") {
				t.Errorf("%s: status %d, header %v", id, got, header)
			}
			if len(heard) != 1 || heard[0].ID != id || heard[0].Status != want {
				t.Errorf("%s: heard %+v", id, heard)
			}
		}
	})
}

func TestSignatures(t *testing.T) {
	key, err := signing.ParseKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	opts := receiver.Options{Keys: []signing.Key{key}, Answer: func(receiver.Request, http.Header) int { asked++; return 0 }}
	bubble(t, opts, func(t *testing.T, r *receiver.Receiver, c *http.Client) {
		if got, _ := post(t.Context(), t, c, "/fine", "unsigned", "body"); got != http.StatusUnauthorized || asked != 0 {
			t.Errorf("unsigned: status %d, Answer asked %d times", got, asked)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/fine", bytes.NewReader([]byte("body")))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		req.Header.Set(signing.HeaderID, "signed")
		req.Header.Set(signing.HeaderTimestamp, signing.Timestamp(now))
		req.Header.Set(signing.HeaderSignature, signing.Sign([]signing.Key{key}, "signed", now, []byte("body")))
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		log := r.Log()
		if resp.StatusCode != http.StatusOK || len(log) != 2 || log[0].Verified || log[0].Effect || !log[1].Verified || !log[1].Effect {
			t.Errorf("signed: status %d, log %+v", resp.StatusCode, log)
		}
	})
}

func TestOverTCP(t *testing.T) {
	r := receiver.New(receiver.Options{})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve(l) }()
	resp, err := http.Post("http://"+l.Addr().String()+"/rejecting", "text/plain", bytes.NewReader([]byte("body"))) //nolint:noctx // a local socket
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest || len(r.Log()) != 1 {
		t.Errorf("status %d, %d requests", resp.StatusCode, len(r.Log()))
	}
	if err := errors.Join(r.Close(), <-served); err != nil {
		t.Error(err)
	}
}

func TestMended(t *testing.T) {
	bubble(t, receiver.Options{}, func(t *testing.T, r *receiver.Receiver, c *http.Client) {
		r.Mend(receiver.Rejecting)
		for path, want := range map[string]int{"/rejecting/orders": 200, "/gone": 410} {
			if got, _ := post(t.Context(), t, c, path, "id", "body"); got != want {
				t.Errorf("%s answers %d, want %d", path, got, want)
			}
		}
	})
}
