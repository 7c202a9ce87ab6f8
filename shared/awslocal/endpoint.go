// Package awslocal is an AWS endpoint in one process: it takes the calls of AWS SDKs and of the AWS CLI over
// HTTP, on TCP or in memory, and hands them to services such as shared/awslocal/sqs.
//
// It speaks AWS JSON, 1.0 or 1.1 as the service does, and for SQS the older Query protocol too, which
// AWS CLI before 2.13 and old SDKs use. Any credentials are accepted and no signature is checked.
// Callers who sign with a session of a [Role] may do what that grants, all others may do everything.
// What no service implements is refused by name.
//
// The endpoint counts calls and capacity units ([Endpoint.Counts]) and can be told to make
// calls go wrong ([Endpoint.Faults]).
package awslocal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/inmem"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// The account and region that everything here belongs to.
const (
	AccountID = wire.AccountID
	Region    = wire.Region
)

// DefaultMaxBodyBytes is enough for the largest request that AWS takes: a DynamoDB batch write of 16 MB.
const DefaultMaxBodyBytes = 20 << 20

// Options configure an Endpoint. The zero value is usable.
type Options struct {
	// MaxBodyBytes bounds request bodies. Default DefaultMaxBodyBytes. A longer one is refused with status 413.
	MaxBodyBytes int64
	// Observe is called after every call that named an operation, before its answer is sent, in the
	// goroutine of the call. It must not keep or change the bodies.
	Observe func(Call)
	// Roles are what callers may do who sign with these session tokens. All else is refused to them as AWS refuses it.
	Roles map[string]*Role
}

// Call is one call as an observer sees it.
type Call struct {
	Service, Operation string
	Caller             string // the access key that the call is signed with, "" for none. Nobody has checked the signature
	Request            []byte // JSON document, after any rewriting by a fault
	Response           []byte // JSON document, nil if the call was refused
	Err                *wire.Error
	Units              wire.Units
	Started            time.Time
	Duration           time.Duration
	Withheld           bool // the caller gets no answer
}

// Endpoint is an http.Handler that is safe for concurrent use. Close it to end what it serves.
type Endpoint struct {
	opts     Options
	services map[string]service // by the prefix of X-Amz-Target
	faults   Faults
	counts   tallies
	server   *http.Server
	memory   *inmem.Listener
	start    sync.Once // serves memory
}

// service is a service with its place in the protocols.
type service struct {
	wire.Service
	namespace string // of error types
	mediaType string // of its JSON; "" is that of AWS JSON 1.0
	throttled wire.Error
}

// The media types of AWS JSON.
const (
	json10 = "application/x-amz-json-1.0"
	json11 = "application/x-amz-json-1.1"
)

// protocols says how services are addressed: by target prefix.
var protocols = map[string]struct {
	target, namespace, mediaType string
	throttled                    wire.Error
}{
	"sqs": {"AmazonSQS", "com.amazonaws.sqs", json10, wire.Error{
		Code: "RequestThrottled", Message: "The request was denied due to request throttling.",
	}},
	"dynamodb": {"DynamoDB_20120810", "com.amazonaws.dynamodb.v20120810", json10, wire.Error{
		Code: "ProvisionedThroughputExceededException", Message: "The level of configured provisioned throughput for the table was exceeded.",
	}},
	"secretsmanager": {"secretsmanager", "com.amazonaws.secretsmanager", json11, wire.Error{Code: "ThrottlingException", Message: "Rate exceeded"}},
	"ssm":            {"AmazonSSM", "com.amazonaws.ssm", json11, wire.Error{Code: "ThrottlingException", Message: "Rate exceeded"}},
}

// New gives an endpoint for the services. It panics on a service that it has no protocol for.
func New(opts Options, services ...wire.Service) *Endpoint {
	if opts.MaxBodyBytes <= 0 {
		opts.MaxBodyBytes = DefaultMaxBodyBytes
	}
	e := &Endpoint{opts: opts, services: map[string]service{}, memory: inmem.Listen("awslocal")}
	for _, s := range services {
		p, ok := protocols[s.Name()]
		if !ok {
			panic(fmt.Sprintf("awslocal: no protocol is known for service %q", s.Name()))
		}
		e.services[p.target] = service{s, p.namespace, p.mediaType, p.throttled}
	}
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: time.Minute}
	return e
}

// Faults gives the faults that are planted at this endpoint.
func (e *Endpoint) Faults() *Faults { return &e.faults }

// Listen listens on a TCP address such as "127.0.0.1:4566"; port 0 takes any that is free.
func Listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("cannot listen on %s, another program does: stop it, or choose another port (0 takes any that is free): %w", address, err)
	}
	return l, err
}

// Serve answers calls on l until Close; then it gives nil. It may run for several listeners at a time.
func (e *Endpoint) Serve(l net.Listener) error {
	if err := e.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ListenAndServe is Listen and Serve.
func (e *Endpoint) ListenAndServe(address string) error {
	l, err := Listen(address)
	if err != nil {
		return err
	}
	return e.Serve(l)
}

// Close stops listening and cuts all connections; calls in progress see their context end.
func (e *Endpoint) Close() error {
	err := e.memory.Close()
	return errors.Join(err, e.server.Close())
}

// ServeHTTP answers one call. To withhold an answer it panics with http.ErrAbortHandler, as net/http wants it.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("x-amzn-RequestId", requestID())
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, e.opts.MaxBodyBytes))
	if err != nil {
		refused := wire.Errorf("RequestEntityTooLarge", "cannot read the request body: %s", err)
		refused.Status = http.StatusRequestEntityTooLarge
		writeError(w, service{}, refused)
		return
	}
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	target := r.Header.Get("X-Amz-Target")
	switch {
	case r.Header.Get("Smithy-Protocol") != "" || mediaType == "application/cbor" || mediaType == "application/x-amz-cbor-1.1":
		writeError(w, service{}, wire.Errorf("UnsupportedProtocol",
			"the local endpoint does not speak CBOR (smithy rpc-v2-cbor): configure the client for AWS JSON, application/x-amz-json-1.0"))
	case target != "":
		e.serveJSON(w, r, target, body)
	case mediaType == "application/x-www-form-urlencoded" || r.URL.Query().Has("Action"):
		e.serveQuery(w, r, body)
	default:
		writeError(w, service{}, wire.Errorf("MissingAction",
			"the request names no operation: this endpoint takes AWS JSON requests with the header X-Amz-Target, and SQS Query requests with the parameter Action"))
	}
}

// serveJSON answers a call in AWS JSON.
func (e *Endpoint) serveJSON(w http.ResponseWriter, r *http.Request, target string, body []byte) {
	prefix, op, _ := strings.Cut(target, ".")
	s, ok := e.services[prefix]
	if !ok || r.Method != http.MethodPost {
		writeError(w, service{}, wire.Errorf("UnknownOperationException", "the local endpoint does not implement %.100s %.200s", r.Method, target))
		return
	}
	out, refused := e.call(r, s, op, body)
	if refused != nil {
		writeError(w, s, refused)
		return
	}
	writeJSON(w, s, http.StatusOK, out)
}

// call performs one operation, with whatever the faults make of it.
func (e *Endpoint) call(r *http.Request, s service, op string, body []byte) ([]byte, *wire.Error) {
	ctx := wire.WithTraceHeader(r.Context(), r.Header.Get("X-Amzn-Trace-Id"))
	if role := e.opts.Roles[r.Header.Get("X-Amz-Security-Token")]; role != nil {
		ctx = wire.WithPolicy(ctx, role)
	}
	c := Call{Service: s.Name(), Operation: op, Caller: caller(r), Request: body, Started: time.Now()}
	effects := e.faults.hit(c)
	effects.wait(ctx)
	for _, f := range effects {
		if f.RewriteRequest != nil {
			c.Request = f.RewriteRequest(c.Request)
		}
	}
	effects.tell(c, func(f Fault) func(Call) { return f.Before })
	if refusal := effects.refusal(s); refusal != nil {
		c.Err = refusal
	} else {
		c.Response, c.Units, c.Err = perform(ctx, s, op, c.Request)
		if effects.any(func(f Fault) bool { return f.Duplicate }) {
			_, units, _ := perform(ctx, s, op, c.Request)
			c.Units = c.Units.Add(units)
		}
	}
	for _, f := range effects {
		if f.RewriteResponse != nil && c.Err == nil {
			c.Response = f.RewriteResponse(c.Response)
		}
	}
	c.Withheld = effects.any(func(f Fault) bool { return f.WithholdAnswer })
	c.Duration = time.Since(c.Started)
	effects.tell(c, func(f Fault) func(Call) { return f.After })
	e.counts.add(c)
	if e.opts.Observe != nil {
		e.opts.Observe(c)
	}
	if c.Withheld {
		panic(http.ErrAbortHandler)
	}
	return c.Response, c.Err
}

// caller reads the access key from a signature in the header, version 4.
func caller(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(credential, "/")
	return key
}

// perform runs the operation once. A failure that is not a refusal becomes an internal one.
func perform(ctx context.Context, s service, op string, body []byte) ([]byte, wire.Units, *wire.Error) {
	out, err := s.Do(ctx, op, body)
	if err == nil {
		if out.Body == nil {
			out.Body = []byte("{}")
		}
		return out.Body, out.Units, nil
	}
	var refused *wire.Error
	if !errors.As(err, &refused) {
		refused = wire.Errorf("InternalFailure", "%s", err)
		if s.Name() == "dynamodb" {
			refused.Code = "InternalServerError"
		}
		refused.Status = http.StatusInternalServerError
	}
	return nil, refused.Units, refused
}

func requestID() string {
	return fmt.Sprintf("%016x-%016x", rand.Uint64(), rand.Uint64())
}

// writeJSON sends an answer in AWS JSON.
func writeJSON(w http.ResponseWriter, s service, status int, document []byte) {
	h := w.Header()
	h.Set("Content-Type", cmp.Or(s.mediaType, json10))
	h.Set("Content-Length", strconv.Itoa(len(document)))
	if s.Service != nil && s.Name() == "dynamodb" {
		h.Set("x-amz-crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(document)), 10))
	}
	w.WriteHeader(status)
	_, _ = w.Write(document) //nolint:gosec // typed as JSON; a client that has left is not our trouble
}
