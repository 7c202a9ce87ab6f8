package wire

import "context"

type traceKey struct{}

// WithTraceHeader gives a context that carries the X-Amzn-Trace-Id header of the HTTP request behind a call.
func WithTraceHeader(ctx context.Context, header string) context.Context {
	return context.WithValue(ctx, traceKey{}, header)
}

// TraceHeader gives the X-Amzn-Trace-Id header of the HTTP request behind a call, or "".
func TraceHeader(ctx context.Context) string {
	header, _ := ctx.Value(traceKey{}).(string)
	return header
}
