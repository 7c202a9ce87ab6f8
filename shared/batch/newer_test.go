package batch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/waybill"
)

const newerNote = `{"v":99,"eventId":"e"}`

// newer is a received message with a note of a later release, and further attributes.
func newer(name string, receiveCount int, more map[string]string) events.SQSMessage {
	m := message(name, receiveCount)
	m.Attributes["ApproximateFirstReceiveTimestamp"] = fmt.Sprint(time.Now().UnixMilli())
	m.MessageAttributes = map[string]events.SQSMessageAttribute{"waybill": {DataType: "String", StringValue: new(newerNote)}}
	for name, value := range more {
		m.MessageAttributes[name] = events.SQSMessageAttribute{DataType: "String", StringValue: &value}
	}
	return m
}

func texts(attributes map[string]queue.Attribute) map[string]string {
	all := map[string]string{}
	for name, a := range attributes {
		all[name] = a.String
	}
	return all
}

func unhandled(context.Context, []batch.Record) []error { panic("nothing to handle") }

// follow hands a message and its copies to a handler, as SQS would, until it leaves the source queue. It gives its rounds and how
// long it took.
func (b *bench) follow(t *testing.T, m events.SQSMessage) (rounds int, took time.Duration) {
	t.Helper()
	began := time.Now()
	h := batch.New(b.cfg, unhandled)
	for receives := 1; ; rounds++ {
		if rounds > 1000 {
			t.Fatal("it goes on for ever")
		}
		m.Attributes["ApproximateReceiveCount"] = fmt.Sprint(receives)
		b.source.sent, b.source.changed = nil, nil
		answer, err := h.Handle(t.Context(), event(m))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case len(b.source.sent) == 1:
			copied := b.source.sent[0]
			if mark := copied.Attributes[batch.HeldAttribute]; mark.DataType != "String" {
				t.Fatalf("SQS refuses the mark %+v", mark)
			}
			time.Sleep(copied.Delay)
			m, receives = received(copied, fmt.Sprint("copy", rounds)), 1
			m.Attributes["ApproximateFirstReceiveTimestamp"] = fmt.Sprint(time.Now().UnixMilli())
			m.Attributes["SentTimestamp"] = m.Attributes["ApproximateFirstReceiveTimestamp"]
		case len(answer.BatchItemFailures) == 1:
			time.Sleep(b.source.changed[m.ReceiptHandle])
			receives++
		default:
			return rounds, time.Since(began)
		}
		if receives > b.cfg.MaxReceiveCount {
			t.Fatal("counted out by SQS, without a reason")
		}
	}
}

// A note of a newer version waits a day for the release that reads it, whoever wrote it; then a human sees it, unchanged, with a reason.
func TestNewerNoteIsHeldForABoundedTime(t *testing.T) {
	nine, ten := map[string]string{}, map[string]string{} // the note is one of them
	for i := range 9 {
		ten[fmt.Sprint("x", i)] = "v"
	}
	for i := range 8 {
		nine[fmt.Sprint("x", i)] = "v"
	}
	full := strings.Repeat("v", queue.MaxBytes-len("m")-len("xString")-len("waybillString")-len(newerNote))
	mark := len(batch.HeldAttribute) + len("String") + len("946684800000") // the fake clock's first milliseconds
	for name, c := range map[string]struct {
		more     map[string]string
		hold     time.Duration
		least    time.Duration
		rounds   int
		noReason bool
	}{
		"for a day":             {more: map[string]string{"own": "kept"}, least: 24 * time.Hour, rounds: 96},
		"as long as configured": {hold: time.Hour, least: time.Hour, rounds: 4},
		// Without room for the mark it waits in its visibility timeout, in receives that SQS grants.
		"nine attributes": {more: nine, least: 24 * time.Hour, rounds: 96},
		"ten attributes":  {more: ten, least: 24 * time.Hour, rounds: 8, noReason: true},
		"full":            {more: map[string]string{"x": full}, least: 24 * time.Hour, rounds: 8, noReason: true},
		"room for a mark": {more: map[string]string{"x": full[mark:]}, least: 24 * time.Hour, rounds: 96},
		// A producer cannot make it wait longer, only shorter.
		"held since a time to come": {more: map[string]string{batch.HeldAttribute: strconv.FormatInt(1<<50, 10)}, least: 24 * time.Hour, rounds: 96},
		"held since long ago":       {more: map[string]string{batch.HeldAttribute: "1"}, rounds: 0},
		"held since nonsense":       {more: map[string]string{batch.HeldAttribute: "yesterday"}, least: 24 * time.Hour, rounds: 96},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.cfg.HoldNewer = c.hold
				rounds, took := b.follow(t, newer("m", 1, c.more))
				if took < c.least || took > c.least+c.least/4 || rounds != c.rounds {
					t.Errorf("held for %v in %d rounds", took, rounds)
				}
				want := maps.Clone(c.more)
				if want == nil {
					want = map[string]string{}
				}
				want["waybill"] = newerNote
				want[batch.ReasonAttribute] = "newer-note"
				delete(want, batch.HeldAttribute)
				if c.noReason {
					delete(want, batch.ReasonAttribute)
				}
				if letters := b.deadLetter.sent; len(letters) != 1 || letters[0].Body != "m" || !maps.Equal(texts(letters[0].Attributes), want) {
					t.Errorf("dead letters %+v, want %v", letters, want)
				}
				if !bytes.Contains(b.log.Bytes(), []byte("newer-note")) {
					t.Error("the log does not say why")
				}
			})
		})
	}
}

// Where receives come sooner than planned, the last one decides: SQS would give no reason.
func TestNewerNoteIsNotCountedOut(t *testing.T) {
	ten := map[string]string{}
	for i := range 9 {
		ten[fmt.Sprint("x", i)] = "v"
	}
	b := newBench()
	wantIDs(t, b.handle(t, unhandled, newer("m", 9, ten)))
	if len(b.deadLetter.sent) != 1 || len(b.source.sent) != 0 {
		t.Errorf("dead letters %+v, sent again %+v", b.deadLetter.sent, b.source.sent)
	}
}

// Where no copy can be made, SQS's own memory of the first receive bounds the wait, however many receives it grants.
func TestNewerNoteWithoutCopies(t *testing.T) {
	for name, c := range map[string]struct {
		most, receives int
		age            time.Duration
		noSource       bool
		returned       bool
		visible        time.Duration
	}{
		"FIFO, first receive":       {most: 10, receives: 1, returned: true, visible: 3 * time.Hour},
		"FIFO, second-last":         {most: 10, receives: 9},
		"FIFO, after a day":         {most: 10, receives: 2, age: 24 * time.Hour},
		"FIFO, just before a day":   {most: 10, receives: 2, age: 24*time.Hour - time.Second, returned: true, visible: 3 * time.Hour},
		"FIFO, never counted out":   {receives: 50, returned: true, visible: 11*time.Hour + 40*time.Minute},
		"FIFO, counted out at once": {most: 2, receives: 0, returned: true, visible: 11*time.Hour + 40*time.Minute},
		"no source":                 {most: 10, receives: 1, noSource: true, returned: true},
		"no source, after a day":    {receives: 50, age: 25 * time.Hour, noSource: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.cfg.MaxReceiveCount = c.most
				if c.noSource {
					b.cfg.Source = nil
				}
				m := inGroup(newer("m", c.receives, nil), "g")
				m.Attributes["ApproximateFirstReceiveTimestamp"] = fmt.Sprint(time.Now().Add(-c.age).UnixMilli())
				got := b.handle(t, unhandled, m)
				if c.returned {
					wantIDs(t, got, "m")
				} else {
					wantIDs(t, got)
				}
				if b.source.changed["r-m"] != c.visible || len(b.source.sent) != 0 || (len(b.deadLetter.sent) == 1) == c.returned {
					t.Errorf("visibility %v, sent again %+v, dead letters %+v", b.source.changed, b.source.sent, b.deadLetter.sent)
				}
			})
		})
	}
}

// Moved back from the dead-letter queue, a message waits another day: its dead letter does not say how long it had waited.
func TestNewerNoteMovedBackIsHeldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.follow(t, newer("m", 1, nil))
		letter := received(b.deadLetter.sent[0], "again")
		b.deadLetter.sent = nil
		if rounds, took := b.follow(t, letter); took < 24*time.Hour || rounds != 96 {
			t.Errorf("held for %v in %d rounds", took, rounds)
		}
		if len(b.deadLetter.sent) != 1 {
			t.Errorf("dead letters %+v", b.deadLetter.sent)
		}
	})
}

// The release that can read the note sees neither of the marks, nor do copies that it makes; without a note they are the producer's.
func TestMarksAreTakenOff(t *testing.T) {
	marks := map[string]string{batch.HeldAttribute: "1780000000123", batch.ReasonAttribute: "newer-note", "own": "kept"}
	for note, want := range map[string]map[string]string{
		`{"v":1,"eventId":"e"}`: {"own": "kept"},
		"":                      {"own": "kept", batch.HeldAttribute: "1780000000123", batch.ReasonAttribute: "newer-note"},
		"CMR 4711":              {"own": "kept", "waybill": "CMR 4711", batch.HeldAttribute: "1780000000123", batch.ReasonAttribute: "newer-note"},
	} {
		m := newer("m", 1, marks)
		m.MessageAttributes["waybill"] = events.SQSMessageAttribute{DataType: "String", StringValue: &note}
		if note == "" {
			delete(m.MessageAttributes, "waybill")
		}
		b := newBench()
		b.handle(t, func(_ context.Context, records []batch.Record) []error {
			if got := texts(records[0].Attributes); !maps.Equal(got, want) {
				t.Errorf("%s: record has %v", note, got)
			}
			return []error{outcome.Defer(time.Second, errCause)}
		}, m)
		_, attributes, _, err := waybill.Detach(b.source.sent[0].Body, b.source.sent[0].Attributes)
		if err != nil || !maps.Equal(texts(attributes), want) {
			t.Errorf("%s: copy has %v, %v", note, attributes, err)
		}
	}
	only := newer("m", 1, map[string]string{batch.ReasonAttribute: "newer-note"})
	only.MessageAttributes["waybill"] = events.SQSMessageAttribute{DataType: "String", StringValue: new(`{"v":1,"eventId":"e"}`)}
	newBench().handle(t, func(_ context.Context, records []batch.Record) []error {
		if records[0].Attributes != nil {
			t.Errorf("attributes %v", records[0].Attributes)
		}
		return make([]error, 1)
	}, only)
}

// What a handler wants to be remembered travels with the copy and the dead letter, beside what every copy carries.
func TestNoted(t *testing.T) {
	progress := waybill.Progress{Events: 1, After: "d-7"}
	for name, err := range map[string]error{
		"deferred": outcome.Defer(time.Second, errCause), "rejected": outcome.Reject("bad", errCause), "wrapped": fmt.Errorf("x: %w", outcome.Defer(0, errCause)),
	} {
		b := newBench()
		noted := batch.Noted(err, waybill.Note{Routed: progress, EventID: "forged", Reason: "forged", AcceptedAt: acceptedAt.Add(time.Hour)})
		if !errors.Is(noted, errCause) {
			t.Errorf("%s: %v lost its cause", name, noted)
		}
		b.handle(t, returning(map[string]error{"m": noted}), message("m", 1))
		for _, m := range append(slices.Clone(b.source.sent), b.deadLetter.sent...) {
			_, _, n, err := waybill.Detach(m.Body, m.Attributes)
			if err != nil || n.Routed != progress || n.EventID != "m" || !n.AcceptedAt.Equal(acceptedAt) {
				t.Errorf("%s: note %+v, %v", name, n, err)
			}
			if dead := len(b.deadLetter.sent) == 1; dead && n.Reason != "bad" {
				t.Errorf("%s: reason %q", name, n.Reason)
			}
		}
		if len(b.source.sent)+len(b.deadLetter.sent) != 1 {
			t.Errorf("%s: sent %v %v", name, b.source.sent, b.deadLetter.sent)
		}
	}
	if batch.Noted(nil, waybill.Note{}) != nil {
		t.Error("success became an error")
	}
}

// While nothing can be sent, the waits between the receives that SQS grants make an outage of more than an hour survivable.
func TestOutageOfSendingCountsNothingOutForAnHour(t *testing.T) {
	b := newBench()
	b.cfg.Backoff = nil
	b.source.refuse = all
	var outage time.Duration
	for receives := 1; receives <= b.cfg.MaxReceiveCount; receives++ {
		wantIDs(t, b.handle(t, returning(map[string]error{"m": outcome.Defer(time.Second, errCause)}), message("m", receives)), "m")
		outage += b.source.changed["r-m"]
	}
	if outage < time.Hour {
		t.Errorf("after %v SQS would dead-letter it without a reason", outage)
	}
}

// The metrics say what became of every message.
func TestCounts(t *testing.T) {
	b := newBench()
	b.source.refuseShow = func(receipt string) bool { return receipt == "r-retry" }
	outcomes := map[string]error{
		"retry": errCause, "defer": outcome.Defer(time.Second, errCause), "reject": outcome.Reject("bad", errCause),
		"panic": batch.Protect(func() error { panic("poison") }), "poison": batch.Protect(func() error { panic("poison") }),
	}
	counts := telemetry.NewBatch()
	var messages []events.SQSMessage
	for _, name := range []string{"ok", "ok", "fine", "retry", "defer", "reject", "panic"} {
		messages = append(messages, message(name, 1))
	}
	messages = append(messages, message("poison", 9), newer("newer", 1, nil))
	b.handleWith(telemetry.With(t.Context(), counts), t, returning(outcomes), messages...)
	want := map[string]float64{"Records": 8, "Returned": 2, "SentAgain": 2, "Deferred": 2, "Rejected": 2, "Panics": 2, "SendFailures": 1}
	got := emitted(t, counts)
	if !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

// emitted gives what was counted, by name.
func emitted(t testing.TB, counts *telemetry.Batch) map[string]float64 {
	t.Helper()
	var out bytes.Buffer
	emitter, err := telemetry.New(telemetry.Config{Function: "f", Writer: &out})
	if err != nil {
		t.Fatal(err)
	}
	emitter.Emit(counts)
	got := map[string]float64{}
	for name, v := range decode(t, out.Bytes()) {
		if n, ok := v.(float64); ok {
			got[name] = n
		}
	}
	return got
}
