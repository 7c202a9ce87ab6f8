package tracing

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-xray-sdk-go/v2/strategy/exception"
	"github.com/aws/aws-xray-sdk-go/v2/xray"
)

// lambdaKey is where aws-lambda-go keeps the invocation's trace header in the context: a plain string, by contract with the X-Ray SDK.
const lambdaKey = xray.LambdaTraceHeaderKey

type spanKey struct{}

// invocation is what the spans of one invocation share.
type invocation struct {
	tracer *Tracer
	root   string // trace id

	// mu is held while a span begins, ends or is sent. The SDK changes fields of a parent that ends and reads them for a child that ends at the
	// same time, each under its own lock.
	mu sync.Mutex
}

// Span is a piece of work with a beginning and an end. It is safe for concurrent use. A nil Span does nothing: a span that is not sampled is nil.
type Span struct {
	invocation *invocation
	parent     *Span
	header     string        // X-Ray trace header that makes this span the parent
	segment    *xray.Segment // nil: not sampled
	over       bool          // guarded by invocation.mu
}

// Start begins a span inside the one that ctx carries, and gives a context in which it is the running one. Without a sampled invocation it gives
// ctx as it is and nil.
func Start(ctx context.Context, name string) (context.Context, *Span) {
	parent, _ := ctx.Value(spanKey{}).(*Span)
	if parent == nil || parent.segment == nil {
		return ctx, nil
	}
	s := parent.start(name)
	if s == nil {
		return ctx, nil
	}
	return context.WithValue(ctx, spanKey{}, s), s
}

func (s *Span) start(name string) *Span {
	in := s.invocation
	in.mu.Lock()
	defer in.mu.Unlock()
	_, segment := xray.BeginSubsegment(context.WithValue(context.Background(), xray.ContextKey, s.segment), cleanName(name))
	if segment == nil || segment.ID == "" { // the SDK is switched off
		return nil
	}
	child := &Span{
		invocation: in, parent: s, segment: segment,
		header: fields{root: in.root, parent: segment.ID, sampled: true}.String(),
	}
	in.tracer.opened(child)
	return child
}

// WithHeader gives a context that carries an X-Ray trace header as one from Lambda does. It is for whoever plays Lambda's part. With an empty
// header, which is what the context holds when Lambda sent none, nothing is traced.
func WithHeader(ctx context.Context, header string) context.Context {
	return context.WithValue(ctx, lambdaKey, header) //nolint:staticcheck // aws-lambda-go and the SDK agreed on a plain string
}

func incoming(ctx context.Context) (header string, ok bool) {
	header, ok = ctx.Value(lambdaKey).(string)
	return header, ok
}

// Header gives the X-Ray trace header of the running span, or that which Lambda gave the invocation; "" if there is none. It is for downstream
// calls, and for messages that begin a trace; it also says when a trace is not sampled.
func Header(ctx context.Context) string {
	if s, _ := ctx.Value(spanKey{}).(*Span); s != nil {
		return s.header
	}
	header, _ := incoming(ctx)
	return parse(header).String()
}

// ID gives the running trace's id, such as "1-6743a1b2-0123456789abcdef01234567", or "". It is for logs.
func ID(ctx context.Context) string { return TraceID(Header(ctx)) }

// Annotate puts searchable facts on the span: text, numbers, truth values, durations (as seconds) and times; anything else by its String method, or
// not at all. They are the same attributes that logs take. Keys consist of [A-Za-z0-9_]; other characters become "_". A key that is given again
// replaces its value. X-Ray indexes 50 annotations of a trace, and a span takes MaxAnnotations.
func (s *Span) Annotate(attrs ...slog.Attr) {
	if s == nil || s.segment == nil {
		return
	}
	for i := range attrs {
		s.annotate(attrs[i].Key, attrs[i].Value)
	}
}

func (s *Span) annotate(key string, v slog.Value) {
	key = cleanKey(key)
	fact, ok := value(v)
	if !ok || key == "" {
		return
	}
	s.change(func(segment *xray.Segment) {
		if _, replace := segment.Annotations[key]; !replace && len(segment.Annotations) >= MaxAnnotations {
			return
		}
		if segment.Annotations == nil {
			segment.Annotations = map[string]any{}
		}
		segment.Annotations[key] = fact
	})
}

// Fail marks the span as failed by a fault of ours or of the receiver's, with the error's innermost type and its text, cleared of URLs. A nil error does nothing.
// What a receiver answered is said by HTTP.
func (s *Span) Fail(err error) {
	if s == nil || s.segment == nil || err == nil {
		return
	}
	kind, text := errorType(err), errorText(err)
	s.change(func(segment *xray.Segment) {
		segment.Fault = true
		if cause := segment.GetCause(); len(cause.Exceptions) < MaxErrors {
			cause.Exceptions = append(cause.Exceptions, exception.Exception{ID: xray.NewSegmentID(), Type: kind, Message: text})
		}
	})
}

// Throttled marks the span as one that was asked to come back later.
func (s *Span) Throttled() {
	if s == nil || s.segment == nil {
		return
	}
	s.change(throttled)
}

func throttled(segment *xray.Segment) { segment.Error, segment.Throttle = true, true }

// HTTP says that the span was a call to another system, and what came of it. Only scheme and host of the address are kept. Status 0 is a call without an
// answer. 4xx marks the span as an error, 429 as throttled too, 5xx as a fault. A negative length is unknown.
func (s *Span) HTTP(method, address string, status int, responseBytes int64) {
	if s == nil || s.segment == nil {
		return
	}
	method, address = clean(method, maxMethodBytes), origin(address)
	s.change(func(segment *xray.Segment) {
		segment.Namespace = "remote"
		segment.HTTP = &xray.HTTPData{Request: &xray.RequestData{Method: method, URL: address}}
		if status == 0 {
			return
		}
		segment.HTTP.Response = &xray.ResponseData{Status: status, ContentLength: int(max(responseBytes, 0))}
		switch {
		case status == 429:
			throttled(segment)
		case status >= 400 && status < 500:
			segment.Error = true
		case status >= 500 && status < 600:
			segment.Fault = true
		}
	})
}

// change changes a segment that has not ended.
func (s *Span) change(with func(*xray.Segment)) {
	s.invocation.mu.Lock()
	defer s.invocation.mu.Unlock()
	if s.over {
		return
	}
	s.segment.Lock()
	defer s.segment.Unlock()
	with(s.segment)
}

// End ends the span and sends it. What is said about it afterwards is ignored. Spans inside it may end later.
func (s *Span) End() {
	if s == nil || s.segment == nil {
		return
	}
	s.invocation.mu.Lock()
	defer s.invocation.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	s.invocation.tracer.closed(s)
	if s.parent != nil {
		s.segment.CloseAndStream(nil)
		return
	}
	s.segment.Lock()
	defer s.segment.Unlock()
	s.segment.EndTime = float64(time.Now().UnixNano()) / float64(time.Second)
	s.segment.InProgress = false
	_ = s.invocation.tracer.send(s.segment) // logged there
}

// progress sends the span as it is.
func (s *Span) progress() error {
	s.invocation.mu.Lock()
	defer s.invocation.mu.Unlock()
	if s.over {
		return nil
	}
	s.segment.Lock()
	defer s.segment.Unlock()
	if s.parent != nil {
		s.segment.Type, s.segment.TraceID, s.segment.ParentID = "subsegment", s.invocation.root, s.parent.segment.ID
	}
	return s.invocation.tracer.send(s.segment)
}
