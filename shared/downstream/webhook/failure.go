package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/egress"
)

// maxDetailBytes bounds Result.Detail.
const maxDetailBytes = 256

// refusal says why no request can be made of an attempt.
type refusal struct{ reason, detail string }

func (r *refusal) Error() string { return r.detail }

func refuse(reason, detail string) error { return &refusal{reason, detail} }

// refused is the result of an attempt of which no request can be made: no
// repeat will change that.
func refused(err error) downstream.Result {
	result := downstream.Result{Verdict: downstream.Reject, Reason: downstream.ReasonBadConfiguration}
	if r, ok := errors.AsType[*refusal](err); ok {
		result.Reason, result.Detail = r.reason, bounded(r.detail)
	}
	return result
}

// failed is the result of an attempt that got no response.
func failed(ctx context.Context, err error) downstream.Result {
	result := downstream.Result{Verdict: downstream.Retry, Reason: reason(ctx, err), Detail: detail(ctx, err)}
	if result.Reason == downstream.ReasonBlockedAddress {
		result.Verdict = downstream.Reject
	}
	return result
}

// brokenOff completes the result of an attempt whose response did not arrive
// whole. Only a success needs all of it: see the package documentation.
func brokenOff(ctx context.Context, result downstream.Result, err error) downstream.Result {
	result.Detail = bounded("the response broke off: " + detail(ctx, err))
	if result.Verdict != downstream.Delivered {
		return result
	}
	result.Verdict = downstream.Retry
	result.Reason = downstream.ReasonIncompleteResponse
	if ctx.Err() != nil {
		result.Reason = ended(ctx)
	}
	return result
}

// reason names a failure of the connection.
func reason(ctx context.Context, err error) string {
	switch {
	case errors.Is(err, egress.ErrBlocked):
		return downstream.ReasonBlockedAddress
	case errors.Is(context.Cause(ctx), errRepeat):
		return downstream.ReasonReset
	case ctx.Err() != nil:
		return ended(ctx)
	case isA[*net.DNSError](err):
		return downstream.ReasonDNS
	case isTLS(err):
		return downstream.ReasonTLS
	case errors.Is(err, syscall.ECONNREFUSED):
		return downstream.ReasonRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), isStreamReset(err):
		return downstream.ReasonReset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return downstream.ReasonUnreachable
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isServerClosedIdle(err):
		return downstream.ReasonClosed
	case isTimeout(err):
		return downstream.ReasonTimeout
	default:
		return downstream.ReasonProtocol
	}
}

// ended tells the attempt's own end from the caller's change of mind.
func ended(ctx context.Context) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return downstream.ReasonTimeout
	}
	return downstream.ReasonCanceled
}

// isA reports whether err is or wraps an error of type E.
func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// isTLS includes a receiver that answers plain HTTP to a TLS client.
func isTLS(err error) bool {
	return errors.Is(err, http.ErrSchemeMismatch) ||
		isA[*tls.CertificateVerificationError](err) ||
		isA[tls.RecordHeaderError](err) ||
		isA[tls.AlertError](err) ||
		isA[x509.UnknownAuthorityError](err) ||
		isA[x509.HostnameError](err) ||
		isA[x509.CertificateInvalidError](err) ||
		strings.HasPrefix(err.Error(), "tls: ") || strings.HasPrefix(err.Error(), "remote error: tls: ")
}

// isStreamReset recognises RST_STREAM of HTTP/2, whose error type net/http does not export.
func isStreamReset(err error) bool { return strings.HasPrefix(err.Error(), "stream error: ") }

// isServerClosedIdle recognises a kept-alive connection that the receiver
// closed just as the request was written, an error that net/http does not export.
func isServerClosedIdle(err error) bool {
	return strings.Contains(err.Error(), "server closed idle connection")
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// detail repeats the text of errors that package net, crypto/tls and the guard
// make, which name hosts and addresses at most. Others can quote what the
// receiver sent, which can quote our payload, and are not repeated.
func detail(ctx context.Context, err error) string {
	switch {
	case errors.Is(context.Cause(ctx), errRepeat):
		return errRepeat.Error()
	case errors.Is(err, egress.ErrBlocked), isTLS(err),
		isA[*net.OpError](err), isA[*net.DNSError](err), isA[syscall.Errno](err):
		return bounded(err.Error())
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "the time for the attempt ran out"
	case errors.Is(err, context.Canceled):
		return "the caller gave up"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isServerClosedIdle(err):
		return "the receiver closed the connection"
	case isStreamReset(err):
		return "the receiver reset the HTTP/2 stream"
	default:
		return "the answer is not valid HTTP, or its headers are too large"
	}
}

// bounded keeps a text to one printable line of at most maxDetailBytes.
func bounded(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxDetailBytes {
		text = text[:maxDetailBytes]
	}
	return strings.ToValidUTF8(text, "?")
}
