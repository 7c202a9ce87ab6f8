package batch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/waybill"
)

// The answers as Lambda gets them, byte for byte.
func TestAnswerOnTheWire(t *testing.T) {
	failBad := func(_ context.Context, records []batch.Record) []error {
		errs := make([]error, len(records))
		for i, r := range records {
			if strings.HasPrefix(r.Body, "bad") {
				errs[i] = errCause
			}
		}
		return errs
	}
	tests := map[string]struct{ event, want string }{
		"no member Records":    {`{}`, `{"batchItemFailures":[]}`},
		"null":                 {`{"Records":null}`, `{"batchItemFailures":[]}`},
		"empty event":          {`{"Records":[]}`, `{"batchItemFailures":[]}`},
		"all succeed":          {`{"Records":[{"messageId":"1","body":"ok"},{"messageId":"2","body":"ok"}]}`, `{"batchItemFailures":[]}`},
		"one of one fails":     {`{"Records":[{"messageId":"1","body":"bad"}]}`, `{"batchItemFailures":[{"itemIdentifier":"1"}]}`},
		"in input order":       {`{"Records":[{"messageId":"3","body":"bad"},{"messageId":"1","body":"ok"},{"messageId":"2","body":"bad"}]}`, `{"batchItemFailures":[{"itemIdentifier":"3"},{"itemIdentifier":"2"}]}`},
		"twice, both fail":     {`{"Records":[{"messageId":"1","body":"bad"},{"messageId":"1","body":"bad"}]}`, `{"batchItemFailures":[{"itemIdentifier":"1"}]}`},
		"one id, two messages": {`{"Records":[{"messageId":"1","body":"ok"},{"messageId":"1","body":"bad"}]}`, `{"batchItemFailures":[{"itemIdentifier":"1"}]}`},
		"one id, both fail":    {`{"Records":[{"messageId":"1","body":"bad"},{"messageId":"1","body":"bad too"}]}`, `{"batchItemFailures":[{"itemIdentifier":"1"}]}`},
		"twice, both succeed":  {`{"Records":[{"messageId":"1","body":"ok"},{"messageId":"1","body":"ok"}]}`, `{"batchItemFailures":[]}`},
		"attributes are null":  {`{"Records":[{"messageId":"1","body":"bad","attributes":null,"messageAttributes":null}]}`, `{"batchItemFailures":[{"itemIdentifier":"1"}]}`},
		"odd attribute values": {`{"Records":[{"messageId":"1","body":"bad","attributes":{"ApproximateReceiveCount":"x","SentTimestamp":"-1"},"messageAttributes":{"a":{"dataType":"String"},"b":{}}}]}`, `{"batchItemFailures":[{"itemIdentifier":"1"}]}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var e events.SQSEvent
			if err := json.Unmarshal([]byte(tt.event), &e); err != nil {
				t.Fatal(err)
			}
			response, err := batch.New(newBench().cfg, failBad).Handle(t.Context(), e)
			if err != nil {
				t.Fatalf("function error: %v", err)
			}
			if got, _ := json.Marshal(response); string(got) != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// An id that is missing cannot be returned, and an empty one is refused by Lambda: only a function error keeps the message.
func TestRecordWithoutIDReturnsTheBatchUnhandled(t *testing.T) {
	b := newBench()
	called := false
	counts := telemetry.NewBatch()
	_, err := batch.New(b.cfg, func(_ context.Context, records []batch.Record) []error {
		called = true
		return make([]error, len(records))
	}).Handle(telemetry.With(t.Context(), counts), event(message("1", 1), message("", 1)))
	if !errors.Is(err, batch.ErrNoMessageID) {
		t.Errorf("error = %v", err)
	}
	if called || b.source.sends+b.deadLetter.sends != 0 {
		t.Error("the batch comes back whole: nothing of it may be handled")
	}
	if line := b.lines(t); len(line) != 1 || line[0]["level"] != "ERROR" || line[0]["records"] != 2.0 {
		t.Errorf("log: %s", b.log.String())
	}
	if got, want := emitted(t, counts), map[string]float64{"Records": 2, "Returned": 2}; !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

// SQS may deliver a message twice at once: it is handled once, and both receipts share what becomes of it.
func TestMessageThatIsThereTwice(t *testing.T) {
	b := newBench()
	m, n := message("m", 1), message("m", 9)
	n.ReceiptHandle = "r-m2"
	handled := 0
	fn := func(result error) batch.Func {
		return func(_ context.Context, records []batch.Record) []error {
			handled += len(records)
			return slices.Repeat([]error{result}, len(records))
		}
	}
	wantIDs(t, b.handle(t, fn(nil), m, n))
	wantIDs(t, b.handle(t, fn(outcome.Reject("bad", nil)), m, n))
	wantIDs(t, b.handle(t, fn(errCause), m, n)) // the larger receive count counts
	if handled != 3 || len(b.deadLetter.sent) != 1 || len(b.source.sent) != 1 {
		t.Errorf("handled %d times, %d dead letters, %d copies", handled, len(b.deadLetter.sent), len(b.source.sent))
	}
	wantIDs(t, b.handle(t, fn(errCause), n, m)) // in whichever order
	if len(b.source.sent) != 2 {
		t.Errorf("%d copies", len(b.source.sent))
	}
	n.Attributes["ApproximateReceiveCount"] = "2"
	wantIDs(t, b.handle(t, fn(errCause), m, n), "m")
	if want := map[string]time.Duration{"r-m": time.Minute, "r-m2": time.Minute}; !maps.Equal(b.source.changed, want) {
		t.Errorf("visibility = %v", b.source.changed)
	}
}

func TestEmptyEventCallsNobody(t *testing.T) {
	b := newBench()
	called := false
	wantIDs(t, b.handle(t, func(context.Context, []batch.Record) []error { called = true; return nil }))
	if called || b.source.sends+b.deadLetter.sends+b.source.changes != 0 {
		t.Error("called the handler or a queue for nothing")
	}
}

func TestMisbehavingHandlerLosesNothing(t *testing.T) {
	tests := map[string]batch.Func{
		"nil":              func(context.Context, []batch.Record) []error { return nil },
		"one too few":      func(_ context.Context, r []batch.Record) []error { return make([]error, len(r)-1) },
		"one too many":     func(_ context.Context, r []batch.Record) []error { return make([]error, len(r)+1) },
		"panic":            func(context.Context, []batch.Record) []error { panic("poison") },
		"index":            func(_ context.Context, r []batch.Record) []error { return make([]error, 3)[len(r)+1:] },
		"ends goroutine":   func(context.Context, []batch.Record) []error { runtime.Goexit(); return nil },
		"horrible errors":  func(context.Context, []batch.Record) []error { return []error{horror{}, horror{}, horror{}} },
		"typed nil":        func(context.Context, []batch.Record) []error { var e *outcome.Error; return []error{e, e, e} },
		"forgotten kind":   func(context.Context, []batch.Record) []error { e := &outcome.Error{}; return []error{e, e, e} },
		"kind of tomorrow": func(context.Context, []batch.Record) []error { e := &outcome.Error{Kind: 9}; return []error{e, e, e} },
	}
	for name, fn := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			wantIDs(t, b.handle(t, fn, message("1", 1), message("2", 1), message("3", 1)), "1", "2", "3")
			want := map[string]time.Duration{"r-1": time.Minute, "r-2": time.Minute, "r-3": time.Minute}
			if !maps.Equal(b.source.changed, want) {
				t.Errorf("visibility = %v", b.source.changed)
			}
			if len(b.lines(t)) != 3 {
				t.Errorf("log: %s", b.log.String())
			}
		})
	}
}

// Where SQS would count it out next, a record whose error panics is sent again like any other, and a handler that panics as a whole is poison.
func TestMisbehavingHandlerOnTheSecondLastReceive(t *testing.T) {
	b := newBench()
	wantIDs(t, b.handle(t, returning(map[string]error{"horror": horror{}, "fine": nil}), message("horror", 9), message("fine", 9)))
	if !slices.Equal(b.source.bodies(), []string{"horror"}) || len(b.deadLetter.sent) != 0 {
		t.Errorf("sent again %q, dead letters %+v", b.source.bodies(), b.deadLetter.sent)
	}
	if line := b.lines(t); len(line) != 1 || line[0]["error"] != "(an error that cannot be rendered)" {
		t.Errorf("log: %s", b.log.String())
	}

	b = newBench()
	wantIDs(t, b.handle(t, func(context.Context, []batch.Record) []error { panic("poison") }, message("early", 1), message("late", 9)), "early")
	if len(b.deadLetter.sent) != 1 || len(b.source.sent) != 0 {
		t.Fatalf("dead letters %+v, sent again %+v", b.deadLetter.sent, b.source.sent)
	}
	if _, _, n, err := waybill.Detach(b.deadLetter.sent[0].Body, b.deadLetter.sent[0].Attributes); err != nil || n.EventID != "late" || n.Reason != "panic" {
		t.Errorf("note %+v, %v", n, err)
	}
}

// horror is an error that panics whatever it is asked.
type horror struct{}

func (horror) Error() string { panic("Error") }
func (horror) Is(error) bool { panic("Is") }
func (horror) As(any) bool   { panic("As") }
func (horror) Unwrap() error { panic("Unwrap") }

func TestOutcomes(t *testing.T) {
	const none = time.Duration(-1)
	reject := outcome.Reject("bad", errCause)
	panics := batch.Protect(func() error { panic("poison") })
	tests := map[string]struct {
		outcome      error
		receiveCount int
		sourceDown   bool
		dlqDown      bool
		showDown     bool
		fifo         bool

		returned   bool
		visible    time.Duration // of the original
		sentAgain  time.Duration // delay of the copy
		deadLetter bool
	}{
		"success":               {outcome: nil, visible: none, sentAgain: none},
		"success, last receive": {outcome: nil, receiveCount: 10, visible: none, sentAgain: none},

		"unknown error":            {outcome: errCause, returned: true, visible: time.Minute, sentAgain: none},
		"retry":                    {outcome: outcome.Retry(errCause), returned: true, visible: time.Minute, sentAgain: none},
		"retry after":              {outcome: outcome.RetryAfter(90*time.Second, errCause), returned: true, visible: 90 * time.Second, sentAgain: none},
		"retry after a day":        {outcome: outcome.RetryAfter(24*time.Hour, errCause), returned: true, visible: 11*time.Hour + 40*time.Minute, sentAgain: none},
		"retry, 8th receive":       {outcome: errCause, receiveCount: 8, returned: true, visible: time.Minute, sentAgain: none},
		"retry, second-last":       {outcome: errCause, receiveCount: 9, visible: none, sentAgain: time.Minute},
		"retry, last":              {outcome: errCause, receiveCount: 10, visible: none, sentAgain: time.Minute},
		"retry, beyond":            {outcome: errCause, receiveCount: 99, visible: none, sentAgain: time.Minute},
		"long retry, second-last":  {outcome: outcome.RetryAfter(time.Hour, errCause), receiveCount: 9, visible: none, sentAgain: 15 * time.Minute},
		"second-last, send fails":  {outcome: errCause, receiveCount: 9, sourceDown: true, returned: true, visible: 30 * time.Minute, sentAgain: none},
		"visibility fails":         {outcome: errCause, showDown: true, returned: true, visible: time.Minute, sentAgain: none},
		"not started":              {outcome: batch.ErrNotStarted, returned: true, visible: 0, sentAgain: none},
		"not started, second-last": {outcome: fmt.Errorf("x: %w", batch.ErrNotStarted), receiveCount: 9, visible: none, sentAgain: 0},

		"defer":              {outcome: outcome.Defer(time.Second, errCause), visible: none, sentAgain: time.Second},
		"defer for an hour":  {outcome: outcome.Defer(time.Hour, errCause), visible: none, sentAgain: 15 * time.Minute},
		"defer, negative":    {outcome: outcome.Defer(-time.Hour, errCause), visible: none, sentAgain: 0},
		"defer, send fails":  {outcome: outcome.Defer(time.Second, errCause), sourceDown: true, returned: true, visible: time.Minute, sentAgain: none},
		"defer, fails, long": {outcome: outcome.Defer(time.Hour, errCause), receiveCount: 10, sourceDown: true, returned: true, visible: time.Hour, sentAgain: none},

		"reject":                         {outcome: reject, visible: none, sentAgain: none, deadLetter: true},
		"reject, wrapped":                {outcome: fmt.Errorf("x: %w", reject), visible: none, sentAgain: none, deadLetter: true},
		"reject, send fails":             {outcome: reject, dlqDown: true, returned: true, visible: time.Minute, sentAgain: none},
		"reject, fails, second-last":     {outcome: reject, receiveCount: 9, dlqDown: true, visible: none, sentAgain: time.Minute},
		"reject, all fails, second-last": {outcome: reject, receiveCount: 9, dlqDown: true, sourceDown: true, showDown: true, returned: true, visible: 30 * time.Minute, sentAgain: none},

		"panic":                   {outcome: panics, returned: true, visible: time.Minute, sentAgain: none},
		"panic, second-last":      {outcome: panics, receiveCount: 9, visible: none, sentAgain: none, deadLetter: true},
		"panic, all fails":        {outcome: panics, receiveCount: 9, dlqDown: true, sourceDown: true, returned: true, visible: 30 * time.Minute, sentAgain: none},
		"panic, deferred by hand": {outcome: outcome.Defer(time.Second, panics), receiveCount: 9, visible: none, sentAgain: time.Second},

		"FIFO, success":            {fifo: true, visible: none, sentAgain: none},
		"FIFO, retry":              {fifo: true, outcome: errCause, returned: true, visible: time.Minute, sentAgain: none},
		"FIFO, retry, second-last": {fifo: true, outcome: errCause, receiveCount: 9, returned: true, visible: time.Minute, sentAgain: none},
		"FIFO, defer":              {fifo: true, outcome: outcome.Defer(time.Hour, errCause), returned: true, visible: time.Hour, sentAgain: none},
		"FIFO, reject":             {fifo: true, outcome: reject, visible: none, sentAgain: none, deadLetter: true},
		"FIFO, reject fails":       {fifo: true, outcome: reject, receiveCount: 9, dlqDown: true, returned: true, visible: time.Minute, sentAgain: none},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			if tt.sourceDown {
				b.source.refuse = all
			}
			if tt.dlqDown {
				b.deadLetter.refuse = all
			}
			if tt.showDown {
				b.source.refuseShow = func(string) bool { return true }
			}
			m := message("m", max(tt.receiveCount, 1))
			if tt.fifo {
				m = inGroup(m, "g")
			}
			got := b.handle(t, returning(map[string]error{"m": tt.outcome}), m)
			if tt.returned {
				wantIDs(t, got, "m")
			} else {
				wantIDs(t, got)
			}
			if visible, ok := b.source.changed["r-m"]; ok != (tt.visible != none) || ok && visible != tt.visible {
				t.Errorf("visibility = %v, %t; want %v", visible, ok, tt.visible)
			}
			if sent := len(b.source.sent) > 0; sent != (tt.sentAgain != none) || sent && b.source.sent[0].Delay != tt.sentAgain {
				t.Errorf("sent again: %+v, want delay %v", b.source.sent, tt.sentAgain)
			}
			if sent := len(b.deadLetter.sent) > 0; sent != tt.deadLetter {
				t.Errorf("dead letters: %+v", b.deadLetter.sent)
			}
			if logged := len(b.lines(t)) > 0; logged != (tt.outcome != nil) {
				t.Errorf("log: %s", b.log.String())
			}
		})
	}
}

func TestFIFOGroups(t *testing.T) {
	reject := outcome.Reject("bad", nil)
	group := map[string]string{"a1": "a", "b1": "b", "a2": "a", "b2": "b", "a3": "a", "b3": "b"}
	order := []string{"a1", "b1", "a2", "b2", "a3", "b3"}
	tests := map[string]struct {
		outcomes map[string]error
		dlqDown  bool
		returned []string
		visible  map[string]time.Duration
		buried   []string
	}{
		"nothing fails": {},
		"later records of the group go back, even successful ones": {
			outcomes: map[string]error{"a2": errCause}, returned: []string{"a2", "a3"},
			visible: map[string]time.Duration{"r-a2": time.Minute, "r-a3": time.Minute},
		},
		"all of a group become visible together": {
			outcomes: map[string]error{"a1": outcome.RetryAfter(time.Hour, nil), "a2": errCause, "a3": batch.ErrNotStarted, "b3": outcome.Defer(time.Second, nil)},
			returned: []string{"a1", "a2", "a3", "b3"},
			visible:  map[string]time.Duration{"r-a1": time.Hour, "r-a2": time.Hour, "r-a3": time.Hour, "r-b3": time.Second},
		},
		"a rejected record leaves its group": {outcomes: map[string]error{"a1": reject, "b2": reject}, buried: []string{"a1", "b2"}},
		"a rejected record behind one that goes back waits": {
			outcomes: map[string]error{"a1": errCause, "a2": reject}, returned: []string{"a1", "a2", "a3"},
			visible: map[string]time.Duration{"r-a1": time.Minute, "r-a2": time.Minute, "r-a3": time.Minute},
		},
		"a dead letter that is not accepted holds its group": {
			outcomes: map[string]error{"b1": reject}, dlqDown: true, returned: []string{"b1", "b2", "b3"},
			visible: map[string]time.Duration{"r-b1": time.Minute, "r-b2": time.Minute, "r-b3": time.Minute},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			if tt.dlqDown {
				b.deadLetter.refuse = all
			}
			var messages []events.SQSMessage
			for _, id := range order {
				messages = append(messages, inGroup(message(id, 9), group[id]))
			}
			wantIDs(t, b.handle(t, returning(tt.outcomes), messages...), tt.returned...)
			if !maps.Equal(b.source.changed, tt.visible) {
				t.Errorf("visibility = %v, want %v", b.source.changed, tt.visible)
			}
			if !slices.Equal(b.deadLetter.bodies(), tt.buried) {
				t.Errorf("dead letters %v, want %v", b.deadLetter.bodies(), tt.buried)
			}
			for _, m := range b.deadLetter.sent {
				body, _, _, _ := waybill.Detach(m.Body, m.Attributes)
				if m.Group != group[body] || m.Deduplication != body || m.Delay != 0 {
					t.Errorf("dead letter %+v", m)
				}
			}
			if b.source.sends != 0 {
				t.Error("sent again on a FIFO queue")
			}
		})
	}
}

func TestCopiesAreExact(t *testing.T) {
	binary, number := []byte{0, 0xff, 1}, "9007199254740993"
	attributes := map[string]events.SQSMessageAttribute{
		"s": {DataType: "String.custom", StringValue: new("text")},
		"n": {DataType: "Number.int", StringValue: &number},
		"b": {DataType: "Binary.png", BinaryValue: binary},
	}
	want := map[string]queue.Attribute{
		"s": {DataType: "String.custom", String: "text"},
		"n": {DataType: "Number.int", String: number},
		"b": {DataType: "Binary.png", Binary: []byte{0, 0xff, 1}},
	}
	ten := maps.Clone(attributes)
	wantTen := maps.Clone(want)
	for i := range 7 {
		name := fmt.Sprint("x", i)
		ten[name] = events.SQSMessageAttribute{DataType: "String", StringValue: new("v")}
		wantTen[name] = queue.Attribute{DataType: "String", String: "v"}
	}
	tests := map[string]struct {
		give map[string]events.SQSMessageAttribute
		want map[string]queue.Attribute
	}{"three attributes": {attributes, want}, "ten": {ten, wantTen}, "none": {nil, nil}}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			var messages []events.SQSMessage
			for _, id := range []string{"defer", "retry", "reject"} {
				m := message(id, 9)
				m.Attributes["MessageGroupId"], m.Attributes["AWSTraceHeader"] = "tenant", "Root=1-2-3"
				m.MessageAttributes = tt.give
				messages = append(messages, m)
			}
			fn := func(_ context.Context, records []batch.Record) []error {
				for _, r := range records {
					if r.Group != "tenant" || r.Trace != "Root=1-2-3" || !reflect.DeepEqual(r.Attributes, tt.want) {
						t.Errorf("record %+v", r)
					}
					// A handler that spoils what it was given must not spoil the copy.
					if b := r.Attributes["b"].Binary; b != nil {
						b[0] = 'X'
					}
					clear(r.Attributes)
				}
				return []error{outcome.Defer(time.Second, nil), errCause, outcome.Reject("bad", errCause)}
			}
			wantIDs(t, b.handle(t, fn, messages...))
			sent := append(slices.Clone(b.source.sent), b.deadLetter.sent...)
			if len(sent) != 3 {
				t.Fatalf("sent %+v", sent)
			}
			for i, id := range []string{"defer", "retry", "reject"} {
				m := sent[i]
				body, attributes, n, err := waybill.Detach(m.Body, m.Attributes)
				if err != nil || body != id || !reflect.DeepEqual(attributes, tt.want) {
					t.Errorf("%s: body %q, attributes %v, %v", id, body, attributes, err)
				}
				if m.Group != "tenant" || m.Trace != "Root=1-2-3" || m.Deduplication != "" {
					t.Errorf("%s: %+v", id, m)
				}
				if n.EventID != id || !n.AcceptedAt.Equal(acceptedAt) {
					t.Errorf("%s: note %+v", id, n)
				}
				if id == "reject" && (n.Reason != "bad" || n.Detail != "cause" || n.Attempts != 9 || n.Trace != "Root=1-2-3" || time.Since(n.FailedAt) > time.Minute) {
					t.Errorf("%s: note %+v", id, n)
				}
			}
			if b.source.sends != 1 || b.deadLetter.sends != 1 || b.source.changes != 0 {
				t.Errorf("%d re-sends, %d dead-letter calls, %d changes: one batch needs one of each", b.source.sends, b.deadLetter.sends, b.source.changes)
			}
		})
	}
}

// However often a message is sent again, it stays the event that it was.
func TestEventIDSurvivesEveryHop(t *testing.T) {
	m := message("first", 1)
	for _, id := range []string{"second", "third"} {
		b := newBench()
		wantIDs(t, b.handle(t, returning(map[string]error{m.MessageId: outcome.Defer(time.Second, nil)}), m))
		m = received(b.source.sent[0], id)
		m.Attributes["SentTimestamp"] = fmt.Sprint(time.Now().UnixMilli())
	}
	b := newBench()
	b.handle(t, func(_ context.Context, records []batch.Record) []error {
		r := records[0]
		if r.MessageID != "third" || r.Body != "first" || r.Attributes != nil || r.Note.EventID != "first" || !r.Note.AcceptedAt.Equal(acceptedAt) {
			t.Errorf("record %+v", r)
		}
		return []error{nil}
	}, m)
}

// received is m as Lambda delivers it.
func received(m queue.Message, id string) events.SQSMessage {
	r := message(id, 1)
	r.Body, r.MessageAttributes = m.Body, map[string]events.SQSMessageAttribute{}
	for name, a := range m.Attributes {
		r.MessageAttributes[name] = events.SQSMessageAttribute{DataType: a.DataType, StringValue: &a.String, BinaryValue: a.Binary}
	}
	return r
}

func TestRecordTellsWhatSQSKnows(t *testing.T) {
	m := inGroup(message("m", 3), "g")
	m.Attributes["ApproximateFirstReceiveTimestamp"] = fmt.Sprint(acceptedAt.UnixMilli() + 5)
	newBench().handle(t, func(_ context.Context, records []batch.Record) []error {
		want := batch.Record{
			MessageID: "m", ReceiptHandle: "r-m", Body: "m", Group: "g", Deduplication: "d-m", ReceiveCount: 3,
			SentAt: acceptedAt.Local(), FirstReceivedAt: acceptedAt.Add(5 * time.Millisecond).Local(), QueueARN: fifoARN, FIFO: true,
		}
		if !reflect.DeepEqual(records, []batch.Record{want}) {
			t.Errorf("got %+v", records[0])
		}
		return make([]error, 1)
	}, m)
}

// A message that this release cannot read waits for the release that can.
func TestNewerNoteIsDeferredUnhandled(t *testing.T) {
	b := newBench()
	m := message("m", 1)
	m.MessageAttributes = map[string]events.SQSMessageAttribute{"waybill": {DataType: "String", StringValue: new(`{"v":99}`)}}
	fn := func(_ context.Context, records []batch.Record) []error {
		if len(records) != 1 || records[0].MessageID != "n" {
			t.Errorf("handled %+v", records)
		}
		return []error{errCause}
	}
	wantIDs(t, b.handle(t, fn, m, message("n", 1)), "n")
	if len(b.source.sent) != 1 || b.source.sent[0].Delay != 15*time.Minute || b.source.sent[0].Attributes["waybill"].String != `{"v":99}` {
		t.Errorf("sent %+v", b.source.sent)
	}
	wantIDs(t, b.handle(t, func(context.Context, []batch.Record) []error { panic("nothing to handle") }, m))
}

// A producer's own attribute of the name of ours is the producer's.
func TestForeignWaybillAttributeIsKept(t *testing.T) {
	b := newBench()
	m := message("m", 1)
	m.MessageAttributes = map[string]events.SQSMessageAttribute{"waybill": {DataType: "String", StringValue: new("CMR 4711")}}
	want := map[string]queue.Attribute{"waybill": {DataType: "String", String: "CMR 4711"}}
	b.handle(t, func(_ context.Context, records []batch.Record) []error {
		if !reflect.DeepEqual(records[0].Attributes, want) {
			t.Errorf("record %+v", records[0])
		}
		return []error{outcome.Reject("bad", nil)}
	}, m)
	body, attributes, n, err := waybill.Detach(b.deadLetter.sent[0].Body, b.deadLetter.sent[0].Attributes)
	if body != "m" || !reflect.DeepEqual(attributes, want) || n.Reason != "bad" || err != nil {
		t.Errorf("dead letter %q %v %+v %v", body, attributes, n, err)
	}
}

// A full message says why it is dead, and what is sent again of it keeps the identity of its event, however little its text compresses.
func TestFullMessageKeepsItsNote(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var body strings.Builder
	for body.Len() < queue.MaxBytes {
		body.WriteByte(byte(' ' + r.IntN(95)))
	}
	b := newBench()
	dead, later := message("dead", 1), message("later", 1)
	dead.Body, later.Body = body.String(), body.String()
	wantIDs(t, b.handle(t, returning(map[string]error{"dead": outcome.Reject("bad", errCause), "later": outcome.Defer(time.Second, errCause)}), dead, later))
	for _, m := range []queue.Message{b.deadLetter.sent[0], b.source.sent[0]} {
		got, _, n, err := waybill.Detach(m.Body, m.Attributes)
		if err != nil || got != body.String() || n.EventID == "" || !n.AcceptedAt.Equal(acceptedAt) || m.Size() > queue.MaxBytes {
			t.Errorf("%d bytes, note %+v, %v", m.Size(), n, err)
		}
	}
}

// A message full of binary attributes that do not compress has no room for a reason: it must be dead-lettered all the same.
func TestFullMessageIsNeverLost(t *testing.T) {
	noise := make([]byte, queue.MaxBytes-8)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	b := newBench()
	m := message("m", 1)
	m.MessageAttributes = map[string]events.SQSMessageAttribute{"b": {DataType: "Binary", BinaryValue: noise}}
	wantIDs(t, b.handle(t, returning(map[string]error{"m": outcome.Reject("bad", errCause)}), m))
	if len(b.deadLetter.sent) != 1 || !bytes.Equal(b.deadLetter.sent[0].Attributes["b"].Binary, noise) || b.deadLetter.sent[0].Size() > queue.MaxBytes {
		t.Fatal("lost or changed")
	}
	line := b.lines(t)[0]
	if line["level"] != "ERROR" || line["messageId"] != "m" || line["reason"] != "bad" || line["detail"] != "cause" {
		t.Errorf("what the note would have said must be in the log: %v", line)
	}
	if b.log.Len() > 4000 {
		t.Error("the body is in the log")
	}
}

func TestJitterAndBackoff(t *testing.T) {
	b := newBench()
	b.cfg.Backoff = nil
	b.cfg.MaxReceiveCount = 0
	b.cfg.Random = func() float64 { return 0.5 }
	outcomes := map[string]error{"after": outcome.RetryAfter(time.Hour, nil)}
	messages := []events.SQSMessage{message("after", 1)}
	want := map[string]time.Duration{"r-after": 66 * time.Minute}
	for n, base := range map[int]time.Duration{
		0: 5 * time.Second, 1: 5 * time.Second, 2: 10 * time.Second, 3: 20 * time.Second, 8: 640 * time.Second, 9: 15 * time.Minute, 1000: 15 * time.Minute,
	} {
		id := fmt.Sprint(n)
		outcomes[id] = errCause
		messages = append(messages, message(id, n))
		want["r-"+id] = base * 11 / 10
	}
	b.handle(t, returning(outcomes), messages...)
	if !maps.Equal(b.source.changed, want) {
		t.Errorf("visibility = %v, want %v", b.source.changed, want)
	}
}

// What a receiver or a configuration asks for beyond reason cannot make a delay negative, even with all the jitter there is.
func TestDelaysStayWithinSQSsBounds(t *testing.T) {
	b := newBench()
	b.cfg.Random = func() float64 { return 0.999 }
	b.cfg.Backoff = func(receiveCount int) time.Duration {
		if receiveCount < 1 {
			t.Errorf("back-off of receive %d", receiveCount)
		}
		return -time.Hour
	}
	unknown := message("negative", 1)
	unknown.Attributes["ApproximateReceiveCount"] = "-7"
	b.handle(t, returning(map[string]error{"long": outcome.RetryAfter(math.MaxInt64, nil), "negative": errCause}), message("long", 1), unknown)
	want := map[string]time.Duration{"r-long": 11*time.Hour + 40*time.Minute, "r-negative": 0}
	if !maps.Equal(b.source.changed, want) {
		t.Errorf("visibility = %v, want %v", b.source.changed, want)
	}
}

// What SQS says in a form nobody knows counts as not said; a copy then carries the time at which it was made.
func TestRecordOfWhichSQSSaysLittle(t *testing.T) {
	for _, said := range []string{"", "-1", "0", "x", "99999999999999999999"} {
		b := newBench()
		m := message("m", 1)
		m.Attributes = map[string]string{"ApproximateReceiveCount": said, "SentTimestamp": said, "ApproximateFirstReceiveTimestamp": said}
		m.ReceiptHandle = ""
		wantIDs(t, b.handle(t, func(_ context.Context, records []batch.Record) []error {
			if r := records[0]; r.ReceiveCount != 0 || !r.SentAt.IsZero() || !r.FirstReceivedAt.IsZero() {
				t.Errorf("%q: record %+v", said, r)
			}
			return []error{errCause}
		}, m), "m")
		if b.source.changes != 0 {
			t.Errorf("%q: visibility of a message without a receipt handle changed", said)
		}
		b.handle(t, returning(map[string]error{"m": outcome.Reject("", nil)}), m)
		_, _, n, err := waybill.Detach(b.deadLetter.sent[0].Body, b.deadLetter.sent[0].Attributes)
		if err != nil || n.EventID != "m" || time.Since(n.AcceptedAt).Abs() > time.Hour || n.Reason != "rejected" {
			t.Errorf("%q: note %+v, %v", said, n, err)
		}
	}
}

func TestWithoutQueues(t *testing.T) {
	outcomes := map[string]error{"retry": errCause, "defer": outcome.Defer(0, nil), "reject": outcome.Reject("bad", nil)}
	messages := []events.SQSMessage{message("ok", 9), message("retry", 9), message("defer", 9), message("reject", 9)}
	h := batch.New(batch.Config{MaxReceiveCount: 10, Logger: newBench().cfg.Logger}, returning(outcomes))
	response, err := h.Handle(t.Context(), event(messages...))
	if err != nil {
		t.Fatal(err)
	}
	wantIDs(t, ids(t, response), "retry", "defer", "reject")

	// Without a dead-letter queue of ours SQS has to count the rejected out: sent again they would circle for ever.
	b := newBench()
	b.cfg.DeadLetter = nil
	wantIDs(t, b.handle(t, returning(outcomes), messages...), "reject")
}

func TestQueueThatMiscountsIsNotBelieved(t *testing.T) {
	for _, miscount := range []int{-2, -1, 1} {
		b := newBench()
		b.source.miscount, b.deadLetter.miscount = miscount, miscount
		outcomes := map[string]error{
			"defer": outcome.Defer(0, nil), "later": outcome.Defer(0, nil), "reject": outcome.Reject("bad", nil), "rejected": outcome.Reject("bad", nil),
		}
		wantIDs(t, b.handle(t, returning(outcomes), message("defer", 1), message("later", 1), message("reject", 1), message("rejected", 1)),
			"defer", "later", "reject", "rejected")
	}
}

func TestLogNamesWhatHappenedAndNeverTheBody(t *testing.T) {
	b := newBench()
	b.source.refuseShow = func(receipt string) bool { return receipt == "r-hidden" }
	long := errors.New(strings.Repeat("e", 10000))
	outcomes := map[string]error{
		"retry": long, "defer": outcome.Defer(time.Second, errCause), "reject": outcome.Reject("bad", errCause),
		"hidden": outcome.RetryAfter(time.Hour, errCause), "panic": batch.Protect(func() error { panic("poison") }),
	}
	var messages []events.SQSMessage
	for _, id := range []string{"ok", "retry", "defer", "reject", "hidden", "panic"} {
		m := message(id, 2)
		m.Body = "secret payload"
		messages = append(messages, m)
	}
	b.handle(t, returning(outcomes), messages...)
	var got []string
	for _, line := range b.lines(t) {
		for key := range line {
			if !slices.Contains(append(telemetry.Fields(), "time", "level", "msg"), key) {
				t.Errorf("the field %q is not one of telemetry's", key)
			}
		}
		if line["receiveCount"] != 2.0 {
			t.Errorf("line %v", line)
		}
		if text := line["error"].(string); len(text) > 600 {
			t.Errorf("error of %d bytes", len(text))
		} else if len(text) > 40 {
			line["error"] = "long"
		}
		if line["messageId"] == "panic" && !strings.Contains(fmt.Sprint(line["stack"]), "batch_test.go") {
			t.Errorf("stack %v", line["stack"])
		}
		got = append(got, fmt.Sprint(line["level"], " ", line["msg"], ": ", line["messageId"], " ", line["outcome"], " ", line["reason"], " ", line["error"], " ", line["mishap"]))
	}
	want := []string{
		"WARN record returned: retry retry <nil> long <nil>",
		"INFO record sent again: defer defer <nil> defer after 1s: cause <nil>",
		"ERROR record dead-lettered: reject reject bad reject (bad): cause <nil>",
		"ERROR record returned: hidden retry <nil> retry after 1h0m0s: cause visibility not changed: queue is down",
		"ERROR record returned: panic retry <nil> panic: poison <nil>",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if strings.Contains(b.log.String(), "secret") {
		t.Error("a body is in the log")
	}
}

// A line leads to what it is about: the event that a copy stands for, the record that took a group back, how long the wait is.
func TestLogLeadsFurther(t *testing.T) {
	b := newBench()
	b.handle(t, returning(map[string]error{"1": outcome.Defer(time.Second, nil)}), message("1", 1))
	again := received(b.source.sent[0], "copy")
	b.log.Reset()
	outcomes := map[string]error{
		"copy": outcome.Defer(time.Second, nil), "head": errCause, "dead": outcome.Reject("bad", nil), "panic": batch.Protect(func() error { deep(1000); return nil }),
	}
	b.handle(t, returning(outcomes), again, inGroup(message("head", 1), "g"), inGroup(message("behind", 1), "g"), message("dead", 1), message("panic", 1))
	var got []string
	for _, line := range b.lines(t) {
		if stack, ok := line["stack"].(string); ok && len(stack) != 4096 {
			t.Errorf("stack of %d bytes", len(stack))
		}
		got = append(got, fmt.Sprint(line["messageId"], " ", line["originalMessageId"], " ", line["waitSeconds"], " ", line["behind"], " ", line["error"]))
	}
	want := []string{
		"copy 1 1 <nil> defer after 1s", "head <nil> 60 <nil> cause", "behind <nil> 60 head <nil>", "dead <nil> <nil> <nil> reject (bad)",
		"panic <nil> 60 <nil> panic: deep",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// deep panics with a long stack.
func deep(n int) int {
	if n == 0 {
		panic("deep")
	}
	return deep(n-1) + 1
}

func TestHandlerIsSafeForConcurrentUse(t *testing.T) {
	b := newBench()
	h := batch.New(b.cfg, batch.Each(3, func(_ context.Context, r batch.Record) error {
		if strings.HasPrefix(r.MessageID, "bad") {
			return errCause
		}
		return nil
	}))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			bad := fmt.Sprint("bad", i)
			response, err := h.Handle(t.Context(), event(message("ok", 1), message(bad, 1)))
			if err != nil || len(response.BatchItemFailures) != 1 || response.BatchItemFailures[0].ItemIdentifier != bad {
				t.Errorf("%v %v", response, err)
			}
		})
	}
	wg.Wait()
}
