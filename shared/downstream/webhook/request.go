package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/signing"
)

// UserAgent is sent with every request.
const UserAgent = "Waybill/1 (+https://github.com/waybillhq/waybill)"

// errRepeat ends an attempt whose request the transport wants to send again
// although it may have reached the receiver.
var errRepeat = errors.New("the receiver refused the request after it was sent")

// watch follows a request through the transport and stops it before it is sent
// a second time. Its methods are called by different goroutines, one after the
// other or not.
type watch struct {
	stop context.CancelCauseFunc

	http2       atomic.Bool // the connection in use speaks HTTP/2
	headersSent atomic.Bool // on that connection
}

// gotConn is called before each sending. Over HTTP/1.1 the transport sends again
// only if no byte was written, and only because there is a GetBody; over HTTP/2
// also after the receiver refused the stream or broke it off in certain ways.
// The transport looks at the context once more before it writes headers.
func (w *watch) gotConn(info httptrace.GotConnInfo) {
	if w.headersSent.Load() && w.http2.Load() {
		w.stop(errRepeat)
		return
	}
	conn, secure := info.Conn.(*tls.Conn)
	w.http2.Store(secure && conn.ConnectionState().NegotiatedProtocol == "h2")
	w.headersSent.Store(false)
}

// send makes one request with the transport.
func send(ctx context.Context, transport *http.Transport, request *http.Request, stop context.CancelCauseFunc) (*http.Response, error) {
	w := &watch{stop: stop}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:      w.gotConn,
		WroteHeaders: func() { w.headersSent.Store(true) },
	})
	return transport.RoundTrip(request.WithContext(ctx))
}

// newRequest builds the request of an attempt at the given time. The error is a *refusal.
func (t *targets) newRequest(attempt downstream.Attempt, at time.Time) (*http.Request, error) {
	hook := attempt.Destination.Webhook
	if hook == nil {
		return nil, refuse(downstream.ReasonBadConfiguration, "the destination has no webhook settings")
	}
	known, err := t.of(hook)
	if err != nil {
		return nil, err
	}
	header, err := newHeader(attempt, known.keys, at)
	if err != nil {
		return nil, err
	}
	request := &http.Request{
		Method:     http.MethodPost,
		URL:        known.url,
		Host:       known.url.Host,
		Header:     header,
		Body:       http.NoBody,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
	}
	if data := attempt.Event.Data; len(data) > 0 {
		request.ContentLength = int64(len(data))
		request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
		request.Body, _ = request.GetBody()
	}
	return request, nil
}

// newHeader puts together all headers. Names are written in lower case, as
// Standard Webhooks and CloudEvents write them. That also keeps the transport
// from recognising a custom Idempotency-Key, which it would take as leave to
// repeat requests whose fate it does not know.
func newHeader(attempt downstream.Attempt, keys []signing.Key, at time.Time) (http.Header, error) {
	event, hook := attempt.Event, attempt.Destination.Webhook
	if !signing.ValidID(attempt.PublicID) {
		return nil, refuse(downstream.ReasonBadConfiguration, "the public id of the delivery is not a printable word without dots")
	}
	const others = 12 // headers and attributes that most requests have
	size := others + len(event.Extensions) + len(hook.Headers)
	header := make(http.Header, size)
	values := make([]string, 0, size) // one piece of memory for all
	set := func(name, value string) {
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set("User-Agent", UserAgent) // the one name that the transport looks up
	set(signing.HeaderID, attempt.PublicID)
	set(signing.HeaderTimestamp, signing.Timestamp(at))
	set(signing.HeaderSignature, signing.Sign(keys, attempt.PublicID, at, event.Data))
	if parent, ok := traceparent(attempt.Trace); ok {
		set("traceparent", parent)
	}
	if contentType := event.ContentType(); contentType != "" {
		if !validValue(contentType) {
			return nil, refuse(downstream.ReasonBadEvent, "datacontenttype cannot be an HTTP header")
		}
		set("content-type", contentType)
	}
	for name, value := range event.Attributes() {
		// The content-type header stands for it: CloudEvents HTTP binding, 3.1.1.
		if name == "datacontenttype" {
			continue
		}
		if !validAttribute(name) {
			return nil, refuse(downstream.ReasonBadEvent, "an attribute's name is not lower-case letters and digits")
		}
		set("ce-"+name, percentEncode(value))
	}
	for i, custom := range hook.Headers {
		name := strings.ToLower(custom.Name)
		if reserved(name) {
			continue
		}
		if !validName(name) || !validValue(custom.Value) {
			return nil, refuse(downstream.ReasonBadConfiguration, fmt.Sprintf("custom header number %d has a name or value that HTTP does not allow", i+1))
		}
		set(name, custom.Value)
	}
	return header, nil
}

// reserved reports whether a header, named in lower case, is the adapter's or
// the connection's own. Custom headers of such a name are left out.
func reserved(name string) bool {
	if strings.HasPrefix(name, "webhook-") || strings.HasPrefix(name, "ce-") || strings.HasPrefix(name, "proxy-") || strings.HasPrefix(name, ":") {
		return true
	}
	switch name {
	case "user-agent", "content-type", "content-length", "content-encoding", "accept-encoding",
		"traceparent", "tracestate", "x-amzn-trace-id",
		"host", "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "expect", "http2-settings":
		return true
	default:
		return false
	}
}

// percentEncode encodes an attribute's value as the CloudEvents HTTP binding,
// 3.1.3.2, wants it: space, double quote, percent and everything that is not
// printable ASCII, by the bytes of its UTF-8 form. No value can end a header.
func percentEncode(value string) string {
	plain := 0
	for plain < len(value) && !mustEncode(value[plain]) {
		plain++
	}
	if plain == len(value) {
		return value
	}
	const digits = "0123456789ABCDEF"
	encoded := append(make([]byte, 0, len(value)+16), value[:plain]...)
	for i := plain; i < len(value); i++ {
		if c := value[i]; mustEncode(c) {
			encoded = append(encoded, '%', digits[c>>4], digits[c&0xf])
		} else {
			encoded = append(encoded, c)
		}
	}
	return string(encoded)
}

func mustEncode(c byte) bool { return c <= ' ' || c > '~' || c == '"' || c == '%' }

func validAttribute(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// validName reports whether name is a token of RFC 9110.
func validName(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return name != ""
}

// validValue reports whether value is printable ASCII, spaces and tabs.
func validValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; (c < ' ' && c != '\t') || c > '~' {
			return false
		}
	}
	return true
}
