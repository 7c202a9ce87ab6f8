// Package receiver is a webhook receiver that keeps a log and misbehaves on purpose: the other end of local mode's
// demo and of the end-to-end tests.
//
// How it behaves depends on the first element of the path; see Behaviours. It honours webhook-id as Standard Webhooks asks: a
// repeated id is answered again, and has no second effect.
package receiver

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/inmem"
	"github.com/waybillhq/waybill/shared/signing"
)

// Behaviours are the paths that the receiver knows; any other path is Fine.
const (
	Fine      = "fine"      // 200
	Slow      = "slow"      // 200 after Options.SlowFor
	Flaky     = "flaky"     // 500 for the first Options.FlakyTries of every webhook-id, then 200
	Failing   = "failing"   // 500
	Resetting = "resetting" // closes the connection without an answer
	Hanging   = "hanging"   // never answers
	Throttled = "throttled" // 429 with Retry-After for the first try of every webhook-id, then 200
	Rejecting = "rejecting" // 400
	Gone      = "gone"      // 410
)

// NoAnswer as the status that Options.Answer gives closes the connection without an answer.
const NoAnswer = -1

// maxBodyBytes bounds what is read of a request.
const maxBodyBytes = 16 << 20

// Options configure a Receiver. The zero value is usable.
type Options struct {
	Keys       []signing.Key // verify signatures with these; none: signatures are not looked at
	SlowFor    time.Duration // default 1 s
	FlakyTries int           // default 2
	RetryAfter time.Duration // told by Throttled; default 2 s
	// Answer, if set, decides before the path does: status 0 leaves it to the path, NoAnswer closes the connection. It sees every
	// verified request as soon as its body is read, may set headers of the answer, and may block.
	Answer func(r Request, header http.Header) (status int)
	// OnReceived hears of every request once its answer is known, before it is sent. It must be quick.
	OnReceived func(Request)
}

// Request is one request as it was received and answered.
type Request struct {
	ID       string // webhook-id
	Path     string
	Try      int    // of this webhook-id, from 1
	Status   int    // 0: no answer was given
	Effect   bool   // the first success of this webhook-id: this is where a receiver acts
	Digest   string // SHA-256 of the body, hexadecimal
	Bytes    int
	Verified bool // the signature is right, or no key was given
	At       time.Time
	Header   http.Header
}

// Receiver is an http.Handler. It is safe for concurrent use.
type Receiver struct {
	opts   Options
	server *http.Server
	memory *inmem.Listener
	serve  sync.Once

	mu     sync.Mutex
	tries  map[string]int
	acted  map[string]bool
	mended map[string]bool
	log    []Request
	active int
}

// New makes a receiver. Close it to end what it serves.
func New(opts Options) *Receiver {
	opts.SlowFor = cmp.Or(opts.SlowFor, time.Second)
	opts.FlakyTries = cmp.Or(opts.FlakyTries, 2)
	opts.RetryAfter = cmp.Or(opts.RetryAfter, 2*time.Second)
	r := &Receiver{opts: opts, memory: inmem.Listen("receiver"), tries: map[string]int{}, acted: map[string]bool{}, mended: map[string]bool{}}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	return r
}

// Serve answers requests on l until Close; then it gives nil.
func (r *Receiver) Serve(l net.Listener) error {
	if err := r.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Dial opens an in-memory connection to the receiver, whatever the address; it fits wiring.Parts.Dial and virtual time.
func (r *Receiver) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	r.serve.Do(func() { go func() { _ = r.Serve(r.memory) }() })
	return r.memory.Dial(ctx)
}

// Close stops listening and cuts all connections.
func (r *Receiver) Close() error {
	_ = r.memory.Close()
	return r.server.Close()
}

// Mend makes everything under a behaviour's path Fine from now on, as somebody does who repairs a receiver.
func (r *Receiver) Mend(behaviour string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mended[behaviour] = true
}

// Log gives all requests so far, in the order of their answers.
func (r *Receiver) Log() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.log...)
}

// Active gives the number of requests that have arrived and are not answered yet.
func (r *Receiver) Active() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.active
}

// ServeHTTP answers one request as its path says.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, in.Body, maxBodyBytes))
	if err != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	sum := sha256.Sum256(body)
	req := Request{
		ID: in.Header.Get(signing.HeaderID), Path: in.URL.Path, Digest: hex.EncodeToString(sum[:]), Bytes: len(body),
		Verified: len(r.opts.Keys) == 0 || signing.Verify(r.opts.Keys, in.Header, body, time.Now()) == nil,
		At:       time.Now(), Header: in.Header.Clone(),
	}
	req.Try = r.arrive(req.ID)
	req.Status = r.answer(w, in, req)
	r.book(&req)
	if r.opts.OnReceived != nil {
		r.opts.OnReceived(req)
	}
	if req.Status == 0 {
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
	w.WriteHeader(req.Status)
}

// arrive counts a request and gives its number among those with its webhook-id.
func (r *Receiver) arrive(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active++
	r.tries[id]++
	return r.tries[id]
}

// book writes an answered request down and acts on it if it is the first success of its webhook-id.
func (r *Receiver) book(req *Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active--
	if req.Status >= 200 && req.Status < 300 && !r.acted[req.ID] {
		req.Effect, r.acted[req.ID] = true, true
	}
	r.log = append(r.log, *req)
}

// answer decides the status; it sets headers but does not send them.
func (r *Receiver) answer(w http.ResponseWriter, in *http.Request, req Request) int {
	if !req.Verified {
		return http.StatusUnauthorized
	}
	if r.opts.Answer != nil {
		switch status := r.opts.Answer(req, w.Header()); {
		case status == NoAnswer:
			return 0
		case status != 0:
			return status
		}
	}
	behaviour, _, _ := strings.Cut(strings.TrimPrefix(in.URL.Path, "/"), "/")
	if r.isMended(behaviour) {
		return http.StatusOK
	}
	switch behaviour {
	case Slow:
		wait(in.Context(), r.opts.SlowFor)
	case Flaky:
		if req.Try <= r.opts.FlakyTries {
			return http.StatusInternalServerError
		}
	case Failing:
		return http.StatusInternalServerError
	case Resetting:
		return 0
	case Hanging:
		<-in.Context().Done()
		return 0
	case Throttled:
		if req.Try == 1 {
			w.Header().Set("Retry-After", strconv.Itoa(int(r.opts.RetryAfter/time.Second)))
			return http.StatusTooManyRequests
		}
	case Rejecting:
		return http.StatusBadRequest
	case Gone:
		return http.StatusGone
	}
	return http.StatusOK
}

func (r *Receiver) isMended(behaviour string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mended[behaviour]
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
