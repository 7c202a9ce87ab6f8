package waybill_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/waybill"
)

var (
	accepted = time.Date(2026, 11, 2, 10, 0, 0, 123e6, time.UTC)
	fullNote = waybill.Note{
		Reason: "bad-cloudevent", Code: 422, Detail: "attribute \"source\" is missing", Attempts: 3,
		AcceptedAt: accepted, FirstAttemptAt: accepted.Add(time.Second), FailedAt: accepted.Add(time.Hour),
		Trace: "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1", EventID: "order-1", Destination: "orders-crm",
		Routed: waybill.Progress{Events: 2, After: "orders-bi"},
	}
)

func TestAttachKeepsTheProducersMessage(t *testing.T) {
	full := queue.MaxBytes
	tests := map[string]struct {
		body       string
		attributes map[string]queue.Attribute
		wrapped    bool
		leftOut    bool
	}{
		"no attribute":                      {body: "hello"},
		"three kinds of attributes":         {body: "hello", attributes: some(3)},
		"nine attributes":                   {body: "hello", attributes: some(9)},
		"ten attributes":                    {body: "hello", attributes: some(10), wrapped: true},
		"attribute of the same name":        {body: "hello", attributes: map[string]queue.Attribute{"waybill": text("CMR 4711")}, wrapped: true},
		"same name, a number":               {body: "hello", attributes: map[string]queue.Attribute{"waybill": {DataType: "Number", String: "4711"}}, wrapped: true},
		"same name, JSON of theirs":         {body: "hello", attributes: map[string]queue.Attribute{"waybill": text(`{"v":0,"carrier":"x"}`)}, wrapped: true},
		"same name, bad wrapping":           {body: "hello", attributes: map[string]queue.Attribute{"waybill": text(`{"v":1,"wrapped":"gzip"}`)}, wrapped: true},
		"ten, one of the same name":         {body: "hello", attributes: with(some(9), "waybill", text("theirs")), wrapped: true},
		"1 MiB, compressible":               {body: strings.Repeat("a", full), wrapped: true},
		"1 MiB, compressible, ten":          {body: strings.Repeat("a", full-size(some(10))), attributes: some(10), wrapped: true},
		"1 MiB, all of it one attribute":    {body: "x", attributes: map[string]queue.Attribute{"a": text(strings.Repeat("é", (full-8)/2))}, wrapped: true},
		"room for all but the note":         {body: strings.Repeat("a", full-100), wrapped: true},
		"1 MiB, random letters":             {body: noise(full), wrapped: true},
		"1 MiB, random letters, ten":        {body: noise(full - size(some(10))), attributes: some(10), wrapped: true},
		"1 MiB, random printable ASCII":     {body: printable(full), wrapped: true},
		"1 MiB, ASCII, ten":                 {body: printable(full - size(some(10))), attributes: some(10), wrapped: true},
		"1 MiB, base64":                     {body: base64.StdEncoding.EncodeToString(random(full * 3 / 4)), wrapped: true},
		"1 MiB, half of it random bytes":    {body: noise(full/2 - 8), attributes: map[string]queue.Attribute{"b": {DataType: "Binary", Binary: random(full / 2)}}, wrapped: true},
		"1 MiB, all of it random bytes":     {body: "x", attributes: map[string]queue.Attribute{"b": {DataType: "Binary", Binary: random(full - 8)}}, leftOut: true},
		"incompressible, room for the note": {body: noise(full - 1000)},
		"body attribute of the same name":   {body: "hello", attributes: with(some(9), "waybill-body", text("theirs")), wrapped: true},
		"the same, and room":                {body: "hello", attributes: with(some(2), "waybill-body", text("theirs"))},
		"markup and non-ASCII":              {body: "<a href=\"x\">1 & 2</a>\u2028\U0001F600\t\r\n", attributes: with(some(9), "m", text("<&>\u2028\n\"\\")), wrapped: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := queue.Message{Body: tt.body, Attributes: tt.attributes, Group: "g", Deduplication: "d", Delay: time.Second, Trace: "t"}
			before := maps.Clone(tt.attributes)
			got, ok := waybill.Attach(m, fullNote)
			if !reflect.DeepEqual(before, tt.attributes) {
				t.Error("Attach changed its argument")
			}
			if ok == tt.leftOut {
				t.Fatalf("attached = %t", ok)
			}
			checkSendable(t, got)
			if got.Group != "g" || got.Deduplication != "d" || got.Delay != time.Second || got.Trace != "t" {
				t.Errorf("lost more than body and attributes: %+v", got)
			}
			if tt.leftOut {
				if !reflect.DeepEqual(got, m) {
					t.Error("a message without room must be left as it is")
				}
				return
			}
			if wrapped := got.Body != m.Body; wrapped != tt.wrapped {
				t.Errorf("wrapped = %t, want %t", wrapped, tt.wrapped)
			}
			body, attributes, n, err := waybill.Detach(got.Body, got.Attributes)
			if err != nil {
				t.Fatal(err)
			}
			if body != m.Body || !reflect.DeepEqual(attributes, m.Attributes) {
				t.Error("body or attributes changed on the way")
			}
			if n != fullNote {
				t.Errorf("note = %+v", n)
			}
		})
	}
}

// The note must be readable without this package: people look at dead letters in the console.
func TestNoteIsReadable(t *testing.T) {
	for name, m := range map[string]queue.Message{"plain": {Body: "x"}, "wrapped": {Body: "x", Attributes: some(10)}} {
		t.Run(name, func(t *testing.T) {
			got, _ := waybill.Attach(m, fullNote)
			var note map[string]any
			if err := json.Unmarshal([]byte(got.Attributes["waybill"].String), &note); err != nil {
				t.Fatal(err)
			}
			want := map[string]any{
				"v": 1.0, "reason": "bad-cloudevent", "code": 422.0, "detail": "attribute \"source\" is missing", "attempts": 3.0,
				"acceptedAt": "2026-11-02T10:00:00.123Z", "firstAttemptAt": "2026-11-02T10:00:01.123Z", "failedAt": "2026-11-02T11:00:00.123Z",
				"trace": fullNote.Trace, "eventId": "order-1", "destination": "orders-crm",
				"routed": map[string]any{"events": 2.0, "after": "orders-bi"},
			}
			delete(note, "wrapped")
			if !reflect.DeepEqual(note, want) {
				t.Errorf("note = %v", note)
			}
		})
	}
}

func TestSecondNoteKeepsIdentity(t *testing.T) {
	second := waybill.Note{Reason: "gone", Attempts: 9, EventID: "new-sqs-id", AcceptedAt: accepted.Add(time.Hour), FirstAttemptAt: accepted.Add(2 * time.Hour)}
	want := fullNote
	want.Reason, want.Attempts = "gone", 9
	for name, m := range map[string]queue.Message{"plain": {Body: "x", Attributes: some(2)}, "wrapped": {Body: "x", Attributes: some(10)}} {
		t.Run(name, func(t *testing.T) {
			once, _ := waybill.Attach(m, fullNote)
			twice, ok := waybill.Attach(once, second)
			if !ok {
				t.Fatal("note left out")
			}
			body, attributes, n, err := waybill.Detach(twice.Body, twice.Attributes)
			if err != nil || body != m.Body || !reflect.DeepEqual(attributes, m.Attributes) {
				t.Errorf("message changed: %q %v %v", body, attributes, err)
			}
			if n != want {
				t.Errorf("note = %+v", n)
			}
		})
	}
}

func TestNoteIsBounded(t *testing.T) {
	tests := map[string]struct{ give, want waybill.Note }{
		"long detail":          {waybill.Note{Detail: strings.Repeat("d", 300)}, waybill.Note{Detail: strings.Repeat("d", 256)}},
		"cut between runes":    {waybill.Note{Detail: strings.Repeat("d", 255) + "é"}, waybill.Note{Detail: strings.Repeat("d", 255)}},
		"broken text":          {waybill.Note{Detail: "a\xffb"}, waybill.Note{Detail: "a?b"}},
		"long reason":          {waybill.Note{Reason: strings.Repeat("r", 200)}, waybill.Note{Reason: strings.Repeat("r", 128)}},
		"half a trace is none": {waybill.Note{Trace: strings.Repeat("t", 513)}, waybill.Note{}},
		"ids are never cut":    {waybill.Note{EventID: strings.Repeat("i", 5000)}, waybill.Note{EventID: strings.Repeat("i", 5000)}},
		"milliseconds":         {waybill.Note{FailedAt: accepted.Add(999)}, waybill.Note{FailedAt: accepted}},
		"other zone":           {waybill.Note{FailedAt: accepted.In(time.FixedZone("x", 3600))}, waybill.Note{FailedAt: accepted}},
		"year 12000":           {waybill.Note{FailedAt: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)}, waybill.Note{}},
		"not for SQS":          {waybill.Note{EventID: "a\uFFFE\uFFFF\x01"}, waybill.Note{EventID: "a\uFFFE\uFFFF\x01"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m, ok := waybill.Attach(queue.Message{Body: "x"}, tt.give)
			if !ok {
				t.Fatal("note left out")
			}
			checkSendable(t, m)
			if _, _, n, err := waybill.Detach(m.Body, m.Attributes); err != nil || n != tt.want {
				t.Errorf("note = %+v, %v", n, err)
			}
		})
	}
}

// A place that routing cannot have come to counts as none: routing begins again, and nothing is left out.
// A time that JSON cannot carry costs itself and nothing else of the note.
func TestImpossibleTimeIsNone(t *testing.T) {
	for _, year := range []int{-5, 0, 10_000, 300_000} {
		at := time.Date(year, time.March, 1, 0, 0, 0, 0, time.UTC)
		m, ok := waybill.Attach(queue.Message{Body: "x"}, waybill.Note{EventID: "e", AcceptedAt: at, FirstAttemptAt: at, FailedAt: at})
		_, _, n, err := waybill.Detach(m.Body, m.Attributes)
		if !ok || err != nil || n != (waybill.Note{EventID: "e"}) {
			t.Errorf("year %d: %+v, %t, %v", year, n, ok, err)
		}
	}
	for _, year := range []int{1, 9999} {
		at := time.Date(year, time.March, 1, 0, 0, 0, 0, time.UTC)
		m, _ := waybill.Attach(queue.Message{Body: "x"}, waybill.Note{AcceptedAt: at})
		if _, _, n, err := waybill.Detach(m.Body, m.Attributes); err != nil || !n.AcceptedAt.Equal(at) {
			t.Errorf("year %d: %+v, %v", year, n, err)
		}
	}
}

func TestImpossibleProgressIsNone(t *testing.T) {
	for name, p := range map[string]waybill.Progress{"negative": {Events: -1, After: "a"}, "long": {After: strings.Repeat("a", waybill.MaxAfterBytes+1)}} {
		_, _, n, err := waybill.Detach("x", map[string]queue.Attribute{"waybill": text(fmt.Sprintf(`{"v":1,"eventId":"e","routed":{"events":%d,"after":%q}}`, p.Events, p.After))})
		if err != nil || n.Routed != (waybill.Progress{}) || n.EventID != "e" {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
		m, _ := waybill.Attach(queue.Message{Body: "x"}, waybill.Note{EventID: "e", Routed: p})
		if strings.Contains(m.Attributes["waybill"].String, "routed") {
			t.Errorf("%s: written %s", name, m.Attributes["waybill"].String)
		}
	}
}

// Further progress counts, and a copy made without any keeps what there was.
func TestProgressIsKept(t *testing.T) {
	m, _ := waybill.Attach(queue.Message{Body: "x"}, waybill.Note{Routed: waybill.Progress{After: "d-1"}})
	for _, step := range []struct{ second, want waybill.Progress }{
		{waybill.Progress{}, waybill.Progress{After: "d-1"}},
		{waybill.Progress{Events: 1}, waybill.Progress{Events: 1}},
		{waybill.Progress{Events: 1, After: "d-0"}, waybill.Progress{Events: 1, After: "d-0"}},
	} {
		m, _ = waybill.Attach(m, waybill.Note{Routed: step.second})
		if _, _, n, err := waybill.Detach(m.Body, m.Attributes); err != nil || n.Routed != step.want {
			t.Errorf("%+v after %+v: %v", n.Routed, step.second, err)
		}
	}
}

func TestDetachRefuses(t *testing.T) {
	note := `{"v":1,"wrapped":"gzip"}`
	tests := map[string]struct {
		packed []byte
		attr   queue.Attribute
		want   error
	}{
		"not JSON":               {nil, text("CMR"), waybill.ErrMalformed},
		"no version":             {nil, text(`{"reason":"x"}`), waybill.ErrMalformed},
		"bad member":             {nil, text(`{"v":1,"attempts":"three"}`), waybill.ErrMalformed},
		"not a string":           {nil, queue.Attribute{DataType: "Binary", Binary: []byte(`{"v":1}`)}, waybill.ErrMalformed},
		"custom type":            {nil, queue.Attribute{DataType: "String.x", String: `{"v":1}`}, waybill.ErrMalformed},
		"unknown wrapping":       {nil, text(`{"v":1,"wrapped":"zstd"}`), waybill.ErrMalformed},
		"newer":                  {nil, text(`{"v":2,"reason":["other","form"]}`), waybill.ErrNewer},
		"wrapped, nothing":       {nil, text(note), waybill.ErrMalformed},
		"wrapped, not gzip":      {[]byte("hello"), text(note), waybill.ErrMalformed},
		"wrapped, cut off":       {packed("{}\nhello")[:20], text(note), waybill.ErrMalformed},
		"wrapped, no attributes": {packed("hello"), text(note), waybill.ErrMalformed},
		"wrapped, bad JSON":      {packed("{\nhello"), text(note), waybill.ErrMalformed},
		"wrapped, too large":     {packed("{}\n" + strings.Repeat("a", queue.MaxBytes+1)), text(note), waybill.ErrMalformed},
		"wrapped, bomb":          {packed(strings.Repeat("a", 5<<20)), text(note), waybill.ErrMalformed},
		"wrapped, eleven":        {packed(eleven() + "\nhello"), text(note), waybill.ErrMalformed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			attributes := with(some(2), "waybill", tt.attr)
			if tt.packed != nil {
				attributes = with(attributes, "waybill-body", binary(tt.packed))
			}
			body, rest, n, err := waybill.Detach("x", attributes)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error = %v, want %v", err, tt.want)
			}
			if body != "x" || !reflect.DeepEqual(rest, attributes) || n != (waybill.Note{}) {
				t.Error("a message that cannot be read must come back as it is")
			}
		})
	}
}

func TestDecompressionIsBounded(t *testing.T) {
	bomb := packed(strings.Repeat("a", 24<<20))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, _, err := waybill.Detach("x", map[string]queue.Attribute{"waybill": text(`{"v":1,"wrapped":"gzip"}`), "waybill-body": binary(bomb)})
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; err == nil || used > 48<<20 {
		t.Errorf("%d bytes for a body of %d: %v", used, len(bomb), err)
	}
}

// A producer's message that looks like a wrapped one, without the attribute, is just a message.
func TestBodyAloneIsNeverTaken(t *testing.T) {
	wrapped, _ := waybill.Attach(queue.Message{Body: "x", Attributes: some(10)}, fullNote)
	delete(wrapped.Attributes, "waybill")
	body, attributes, n, err := waybill.Detach(wrapped.Body, wrapped.Attributes)
	if body != wrapped.Body || !reflect.DeepEqual(attributes, wrapped.Attributes) || n != (waybill.Note{}) || err != nil {
		t.Errorf("got %q %v %+v %v", body, attributes, n, err)
	}
	again, ok := waybill.Attach(wrapped, fullNote)
	if body, _, _, err := waybill.Detach(again.Body, again.Attributes); !ok || body != wrapped.Body || err != nil {
		t.Errorf("got %t %q %v", ok, body, err)
	}
}

// A rollback must not destroy the notes of the release that was rolled back.
func TestAttachLeavesNewerNoteAlone(t *testing.T) {
	m := queue.Message{Body: "x", Attributes: map[string]queue.Attribute{"waybill": text(`{"v":2}`)}}
	if got, ok := waybill.Attach(m, fullNote); ok || !reflect.DeepEqual(got, m) {
		t.Errorf("got %t %+v", ok, got)
	}
}

func TestDetachUndoesAttach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
		first, second := drawNote(t), drawNote(t)
		once, ok := waybill.Attach(m, first)
		if once.Size() > max(queue.MaxBytes, m.Size()) || len(once.Attributes) > max(queue.MaxAttributes, len(m.Attributes)) {
			t.Fatal("Attach made a message that cannot be sent")
		}
		if !ok {
			if !reflect.DeepEqual(once, m) {
				t.Fatal("not attached, and yet changed")
			}
			return
		}
		body, attributes, n, err := waybill.Detach(once.Body, once.Attributes)
		if err != nil {
			t.Fatal(err)
		}
		if body != m.Body || !same(attributes, m.Attributes) {
			t.Fatalf("message changed: %q %v", body, attributes)
		}
		if n != first {
			t.Fatalf("note = %+v, want %+v", n, first)
		}
		twice, ok := waybill.Attach(once, second)
		if !ok {
			return
		}
		body, attributes, n, err = waybill.Detach(twice.Body, twice.Attributes)
		if err != nil || body != m.Body || !same(attributes, m.Attributes) {
			t.Fatalf("message changed by a second note: %q %v %v", body, attributes, err)
		}
		if first.EventID != "" && n.EventID != first.EventID {
			t.Fatal("a second note changed the event id")
		}
	})
}

func FuzzDetach(f *testing.F) {
	for _, m := range []queue.Message{{Body: "x"}, {Body: "x", Attributes: some(10)}} {
		m, _ = waybill.Attach(m, fullNote)
		f.Add(m.Body, "String", m.Attributes["waybill"].String, m.Attributes["waybill-body"].Binary)
	}
	f.Add("hello", "String", "theirs", []byte(nil))
	f.Add("hello", "Binary", `{"v":1}`, []byte("b"))
	f.Add("x", "String", `{"v":1,"wrapped":"gzip"}`, packed("{}\nhello"))
	f.Add("x", "String", `{"v":1,"wrapped":"gzip"}`, packed(`{"waybill":{"type":"String","string":"{\"v\":1}"}}`+"\nhello"))
	f.Fuzz(func(t *testing.T, body, dataType, value string, packed []byte) {
		attributes := map[string]queue.Attribute{"waybill": {DataType: dataType, String: value}, "a": text("b"), "waybill-body": binary(packed)}
		gotBody, rest, n, err := waybill.Detach(body, attributes)
		if err != nil {
			if gotBody != body || !reflect.DeepEqual(rest, attributes) || n != (waybill.Note{}) {
				t.Fatal("refused, and yet changed")
			}
			return
		}
		if len(n.Detail) > waybill.MaxDetailBytes || len(n.Reason) > waybill.MaxReasonBytes {
			t.Fatal("note exceeds its limits")
		}
		m := queue.Message{Body: gotBody, Attributes: rest}
		if _, nested := rest["waybill"]; nested {
			return // a forgery inside a forgery: attaching merges the two
		}
		again, ok := waybill.Attach(m, n)
		if !ok {
			return
		}
		body2, rest2, n2, err := waybill.Detach(again.Body, again.Attributes)
		if err != nil || body2 != gotBody || !same(rest2, rest) || n2 != n {
			t.Fatalf("attaching what was detached changes it: %v", err)
		}
	})
}

var letters, static = strings.Repeat("ab", queue.MaxBytes/2), noise(queue.MaxBytes)

func drawMessage(t *rapid.T) queue.Message {
	m := queue.Message{Body: rapid.String().Draw(t, "body")}
	switch rapid.IntRange(0, 39).Draw(t, "size") { // full messages are slow to wrap: a few do
	case 38:
		m.Body = letters[rapid.IntRange(0, 600).Draw(t, "room"):]
	case 39:
		m.Body = letters[:rapid.IntRange(0, 20).Draw(t, "letters")] + static[rapid.IntRange(0, 300).Draw(t, "room")*2:]
	}
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,8}|waybill`), 0, 10, rapid.ID).Draw(t, "names")
	for _, name := range names {
		if m.Attributes == nil {
			m.Attributes = map[string]queue.Attribute{}
		}
		if rapid.Bool().Draw(t, "binary") {
			m.Attributes[name] = queue.Attribute{DataType: "Binary.x", Binary: rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "bytes")}
		} else {
			m.Attributes[name] = queue.Attribute{DataType: "Number.y", String: rapid.String().Draw(t, "text")}
		}
	}
	return m
}

func drawNote(t *rapid.T) waybill.Note {
	var at time.Time
	if ms := rapid.Int64Range(0, 4e12).Draw(t, "ms"); ms > 0 {
		at = time.UnixMilli(ms).UTC()
	}
	return waybill.Note{
		Reason: rapid.StringMatching(`[a-z-]{0,20}`).Draw(t, "reason"), Code: rapid.Int().Draw(t, "code"),
		Detail: rapid.StringN(0, 60, 256).Draw(t, "detail"), Attempts: rapid.Int().Draw(t, "attempts"),
		AcceptedAt: at, EventID: rapid.String().Draw(t, "event"), Destination: rapid.String().Draw(t, "destination"),
		Routed: waybill.Progress{Events: rapid.IntRange(0, 1000).Draw(t, "events"), After: rapid.StringN(0, 20, 60).Draw(t, "after")},
	}
}

// checkSendable holds m against the limits of SQS.
func checkSendable(t *testing.T, m queue.Message) {
	t.Helper()
	if m.Size() > queue.MaxBytes {
		t.Errorf("size = %d", m.Size())
	}
	if len(m.Attributes) > queue.MaxAttributes {
		t.Errorf("%d attributes", len(m.Attributes))
	}
	for name, a := range m.Attributes {
		if a.DataType == "" || a.String == "" && len(a.Binary) == 0 {
			t.Errorf("attribute %s is empty", name)
		}
		for _, r := range a.String {
			if r < 0x20 && !strings.ContainsRune("\t\r\n", r) || r == 0xFFFE || r == 0xFFFF || r == utf8.RuneError {
				t.Errorf("attribute %s holds %U, which SQS refuses", name, r)
			}
		}
	}
}

func same(a, b map[string]queue.Attribute) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

func text(s string) queue.Attribute { return queue.Attribute{DataType: "String", String: s} }

// some gives n attributes of every kind.
func some(n int) map[string]queue.Attribute {
	kinds := []queue.Attribute{text("v"), {DataType: "Number.int", String: "9007199254740993"}, {DataType: "Binary.png", Binary: []byte{0, 0xff, '\n'}}}
	m := map[string]queue.Attribute{}
	for i := range n {
		m[fmt.Sprintf("a%d", i)] = kinds[i%len(kinds)]
	}
	return m
}

func with(m map[string]queue.Attribute, name string, a queue.Attribute) map[string]queue.Attribute {
	m[name] = a
	return m
}

func size(attributes map[string]queue.Attribute) int {
	return queue.Message{Attributes: attributes}.Size()
}

// noise is text of random letters of two bytes.
func noise(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for b.Len()+2 <= n {
		b.WriteRune(rune(0x80 + r.IntN(0x780)))
	}
	if b.Len() < n {
		b.WriteByte('x')
	}
	return b.String()
}

func binary(b []byte) queue.Attribute { return queue.Attribute{DataType: "Binary", Binary: b} }

// printable is text of random printable ASCII, which has more bits a byte than any other text.
func printable(n int) string {
	b := random(n)
	for i := range b {
		b[i] = ' ' + b[i]%95
	}
	return string(b)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func packed(plain string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(plain))
	_ = z.Close()
	return b.Bytes()
}

func eleven() string {
	all := map[string]any{}
	for i := range 11 {
		all[fmt.Sprint(i)] = map[string]string{"type": "String", "string": "x"}
	}
	b, _ := json.Marshal(all)
	return string(b)
}
