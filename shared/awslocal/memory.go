package awslocal

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// Dial opens an in-memory connection to the endpoint. In a testing/synctest bubble the endpoint must have
// been made in the same bubble, and be closed before it ends.
func (e *Endpoint) Dial(ctx context.Context) (net.Conn, error) {
	e.start.Do(func() { go func() { _ = e.Serve(e.memory) }() })
	return e.memory.Dial(ctx)
}

// Client gives an HTTP client that reaches the endpoint in memory, whatever host a URL names. It is
// meant as the HTTPClient of an AWS SDK configuration.
func (e *Endpoint) Client() *http.Client {
	const connections = 256 // every waiting receive has one of its own
	return &http.Client{Transport: readOnly{&http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return e.Dial(ctx) },
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
	}}}
}

// readOnly sends bodies that can do nothing but be read and closed.
//
// The AWS SDK closes a request's body as soon as the answer begins. net/http may at that moment not yet have asked the body whether
// there is more of it than was announced. A closed body of the SDK says io.EOF: as the result of Read that is the end, as the result
// of WriteTo, which net/http prefers, it is a failure of the request, for which net/http closes the connection while the answer is read.
// Source: https://github.com/aws/aws-sdk-go-v2/issues/2737
type readOnly struct{ *http.Transport }

// RoundTrip sends a request and gives its answer.
func (t readOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r = r.WithContext(r.Context()) // a copy: a round tripper must not change what it is given
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return t.Transport.RoundTrip(r)
}
