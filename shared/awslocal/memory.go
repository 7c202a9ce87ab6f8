package awslocal

import (
	"context"
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
	return &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return e.Dial(ctx) },
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
	}}
}
