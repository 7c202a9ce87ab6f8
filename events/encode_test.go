package events_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/events/samples"
)

// equal compares events to the last byte; nil and empty data differ, nil and empty extensions do not.
func equal(a, b events.Event) bool {
	return a.ID == b.ID && a.Source == b.Source && a.Type == b.Type && a.Subject == b.Subject &&
		a.DataContentType == b.DataContentType && a.DataSchema == b.DataSchema && a.Time == b.Time &&
		maps.Equal(a.Extensions, b.Extensions) && bytes.Equal(a.Data, b.Data) && (a.Data == nil) == (b.Data == nil)
}

// anyText draws what a CloudEvents String may hold.
func anyText() *rapid.Generator[string] {
	runes := rapid.Custom(func(t *rapid.T) rune {
		r := rapid.OneOf(
			rapid.RuneFrom([]rune("aZ09 \"\\/<>&'%:,{}[]é🚚\u2028\u2029\u00a0\ufffd\U0010fffd")),
			rapid.Rune(),
		).Draw(t, "rune")
		if r < ' ' || 0x7f <= r && r <= 0x9f || r&0xfffe == 0xfffe || 0xfdd0 <= r && r <= 0xfdef || 0xd800 <= r && r <= 0xdfff {
			return 'x'
		}
		return r
	})
	return rapid.StringOfN(runes, 1, 20, -1).Filter(func(s string) bool { return strings.TrimSpace(s) != "" })
}

func anyJSON() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{
			`9007199254740993`, `1.0`, `-0.0`, `1E+400`, `null`, `true`, `""`, `{}`, `[ ]`, `{"b":1,"a":2,"b":3}`,
			`{"a" : [1,  2.50, {"x":"<&>"}]}`, `"\u2028\/\ud83d\ude9a\ud800"`, "\"\u2028\uffff\"", ` {"a":1}`, "[1]\n", `"é"`,
			strings.Repeat("[", 600) + strings.Repeat("]", 600), `{"html":"<b>"}`,
		}),
		rapid.Custom(func(t *rapid.T) string {
			b, err := json.Marshal(rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.Float64())).Draw(t, "value"))
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}),
	)
}

func anyData() *rapid.Generator[[]byte] {
	return rapid.OneOf(
		rapid.Just([]byte(nil)),
		rapid.Map(anyJSON(), func(s string) []byte { return []byte(s) }),
		rapid.Map(anyText(), func(s string) []byte { return []byte(s) }),
		rapid.SampledFrom([][]byte{{}, {0}, {0xff, 0xfe}, []byte("\x00\ufffe\r\n\t\x7f"), []byte("\"\xff\"")}),
		rapid.SliceOf(rapid.Byte()),
	)
}

// anyEvent draws valid events.
func anyEvent() *rapid.Generator[events.Event] {
	uris := []string{"/orders", "urn:example:a:b", "https://u@h.example:8443/p;x/%C3%A9?q=1#f", "../a", "arn:aws:sqs:eu-west-1:1:q", "//h/p", "?q", "a%2Fb"}
	return rapid.Custom(func(t *rapid.T) events.Event {
		optional := func(name string, values ...string) string {
			return rapid.SampledFrom(append(values, "")).Draw(t, name)
		}
		e := events.Event{
			ID:              anyText().Draw(t, "id"),
			Source:          rapid.SampledFrom(uris).Draw(t, "source"),
			Type:            anyText().Draw(t, "type"),
			DataContentType: optional("datacontenttype", "application/json", "text/plain; charset=utf-8", "application/vnd.x+json", "image/png", "Text/JSON"),
			DataSchema:      optional("dataschema", "https://example.com/s.json", "urn:s"),
			Time:            optional("time", "2026-11-22T10:00:00Z", "2026-11-22T10:00:00.123456789+01:30"),
			Extensions:      map[string]string{events.TenantExtension: "acme"},
			Data:            anyData().Draw(t, "data"),
		}
		if rapid.Bool().Draw(t, "has subject") {
			e.Subject = anyText().Draw(t, "subject")
		}
		names := rapid.StringMatching(`x[a-z0-9]{0,18}`)
		maps.Copy(e.Extensions, rapid.MapOfN(names, rapid.OneOf(anyText(), rapid.Just(""), rapid.Just("42"), rapid.Just("true")), 0, 10).Draw(t, "extensions"))
		return e
	})
}

// TestRoundTrip sends events through every way out and back in: nothing may change.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent().Draw(t, "event")
		printed, err := e.AppendJSON([]byte("kept"))
		if err != nil {
			t.Fatal(err)
		}
		body, ok := strings.CutPrefix(string(printed), "kept")
		if !ok || !json.Valid([]byte(body)) {
			t.Fatalf("not JSON behind what was there: %q", printed)
		}
		if i := strings.IndexFunc(body, refusedBySQS); i >= 0 {
			t.Fatalf("SQS refuses the character at %d of %q", i, body)
		}
		got, err := events.Decode(events.Input{Body: body})
		if err != nil {
			t.Fatal(err)
		}
		if got.Form != events.FormCloudEvent || !equal(got.Events[0], e) {
			t.Fatalf("Decode made\n%#v of\n%#v by\n%s", got.Events[0], e, body)
		}
		var single events.Event
		if err := single.UnmarshalJSON([]byte(body)); err != nil || !equal(single, e) {
			t.Fatalf("UnmarshalJSON made\n%#v of\n%#v (%v)", single, e, err)
		}

		// encoding/json rewrites what it embeds: the payload must survive that too.
		type envelope struct{ Event events.Event }
		embedded, err := json.Marshal(envelope{e})
		if err != nil {
			t.Fatal(err)
		}
		var back envelope
		if err := json.Unmarshal(embedded, &back); err != nil || !equal(back.Event, e) {
			t.Fatalf("json.Marshal and back made\n%#v of\n%#v (%v)", back.Event, e, err)
		}
		again, err := e.AppendJSON(nil)
		if err != nil || string(again) != body {
			t.Fatalf("printed differently the second time: %s", again)
		}
	})
}

func refusedBySQS(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\ufffe' || r == '\uffff'
}

// TestBatchRoundTrip joins printed events to a batch.
func TestBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(anyEvent(), 1, 5).Draw(t, "events")
		body := []byte("[")
		for i := range all {
			var err error
			if i > 0 {
				body = append(body, ", "...)
			}
			if body, err = all[i].AppendJSON(body); err != nil {
				t.Fatal(err)
			}
		}
		got, err := events.Decode(events.Input{Body: string(append(body, ']'))})
		if err != nil || got.Form != events.FormBatch || !slices.EqualFunc(got.Events, all, equal) {
			t.Fatalf("%v: %s %#v", err, got.Form, got.Events)
		}
	})
}

// TestBinaryRoundTrip carries an event in message attributes, as a binary-mode producer would.
func TestBinaryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent().Draw(t, "event")
		in := events.Input{Body: string(e.Data), Attributes: map[string]events.Attribute{}}
		if len(e.Data) == 0 {
			e.Data = nil // a message cannot tell no body from an empty one
		}
		for name, value := range e.Attributes() {
			name = "ce-" + name
			if name == "ce-datacontenttype" && rapid.Bool().Draw(t, "content-type") {
				name = "content-type"
			}
			in.Attributes[name] = events.Attribute{DataType: "String", StringValue: value}
		}
		got, err := events.Decode(in)
		if err != nil || got.Form != events.FormBinary || !equal(got.Events[0], e) {
			t.Fatalf("%v: %s %#v", err, got.Form, got.Events)
		}
	})
}

func TestAppendJSONForms(t *testing.T) {
	nested := func(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }
	for _, tt := range []struct{ contentType, data, want string }{
		{"application/json", `{"b": 1.0, "a":9007199254740993}`, `"data":{"b": 1.0, "a":9007199254740993}`},
		{"", `null`, `"data":null`},
		{"application/json; charset=utf-8", `"<\u2028>"`, `"data":"<\u2028>"`},
		{"application/json", ` {}`, `"data_base64":"IHt9"`},
		{"application/json", `{}]`, `"data_base64":"e31d"`},
		{"application/json", ``, `"data_base64":""`},
		{"application/json", "\"\uffff\"", `"data_base64":"Iu+/vyI="`},
		{"application/json", nested(512), `"data":` + nested(512)},
		{"application/json", nested(513), `"data_base64":"` + base64.StdEncoding.EncodeToString([]byte(nested(513))) + `"`},
		{"application/vnd.x+json", `{}`, `"data_base64":"e30="`},
		{"text/plain", "a\"\\\u2028\uffff\n\x00\x7fé", `"data":"a\"\\\u2028\uffff\n\u0000\u007fé"`},
		{"text/plain", `{}`, `"data":"{}"`},
		{"text/plain", "\xff", `"data_base64":"/w=="`},
	} {
		e := events.Event{ID: "1", Source: "/s", Type: "t", DataContentType: tt.contentType, Data: []byte(tt.data)}
		got, err := e.AppendJSON(nil)
		if err != nil || !strings.HasSuffix(string(got), ","+tt.want+"}") {
			t.Errorf("%s %q: %s, %v, want …%s}", tt.contentType, tt.data, got, err, tt.want)
		}
	}
}

// TestMarshalKeepsPayloadBytes embeds events by json.Marshal, which rewrites what it is given.
func TestMarshalKeepsPayloadBytes(t *testing.T) {
	for _, data := range []string{`{"a": 1.0}`, `"<&>"`, "\"\u2028\"", "[1,\n2]", `{"a":"b c"}`} {
		e := events.Event{ID: "1", Source: "/s", Type: "t", Data: []byte(data)}
		printed, err := json.Marshal(map[string]any{"event": e, "pointer": &e})
		if err != nil {
			t.Fatal(err)
		}
		var back map[string]*events.Event
		if err := json.Unmarshal(printed, &back); err != nil || string(back["event"].Data) != data || string(back["pointer"].Data) != data {
			t.Errorf("%q: %v\n%s", data, err, printed)
		}
	}
}

func TestAppendJSONRefusesInvalidEvents(t *testing.T) {
	e := events.Event{ID: "1", Source: "/s", Type: "t", Extensions: map[string]string{"b ad": "1", "id": "2", "nl": "\n"}}
	got, err := e.AppendJSON([]byte("kept"))
	var invalid *events.InvalidError
	if string(got) != "kept" || !errors.As(err, &invalid) || len(invalid.Others) != 2 {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := json.Marshal(e); !errors.Is(err, events.ErrInvalid) {
		t.Errorf("json.Marshal: %v", err)
	}
}

func TestUnmarshalJSON(t *testing.T) {
	before := events.Event{ID: "before"}
	for _, body := range []string{`[]`, `null`, `"x"`, `{}`, `{`, `[{` + head + `}]`, `{` + head + `,"id":"2"}`} {
		e := before
		if err := e.UnmarshalJSON([]byte(body)); !errors.Is(err, events.ErrInvalid) || !equal(e, before) {
			t.Errorf("%s: %v, %+v", body, err, e)
		}
	}
	body := []byte(`{` + head + `,"data":"abc"}`)
	var e events.Event
	if err := e.UnmarshalJSON(body); err != nil || e.Tenant() != "" {
		t.Fatalf("%v, tenant %q", err, e.Tenant())
	}
	for i := range body {
		body[i] = 'X'
	}
	if e.ID != "1" || string(e.Data) != `"abc"` {
		t.Errorf("the event follows its source: %+v", e)
	}
}

func TestAttributesOrder(t *testing.T) {
	e := events.Event{
		ID: "1", Source: "/s", Type: "t", Subject: "u", Time: "2026-11-22T10:00:00Z", DataContentType: "text/plain", DataSchema: "urn:x",
		Extensions: map[string]string{"b": "", "a": "1", "tenant": "acme"},
	}
	var got []string
	for name, value := range e.Attributes() {
		got = append(got, name+"="+value)
	}
	want := "specversion=1.0 id=1 source=/s type=t subject=u time=2026-11-22T10:00:00Z datacontenttype=text/plain dataschema=urn:x a=1 b= tenant=acme"
	if strings.Join(got, " ") != want {
		t.Errorf("%v", got)
	}
	for range e.Attributes() {
		break // stopping early must be possible
	}
}

func TestContentType(t *testing.T) {
	for _, tt := range []struct {
		contentType string
		data        []byte
		want        string
	}{
		{"", nil, ""},
		{"text/csv", nil, "text/csv"},
		{"text/csv", []byte("{}"), "text/csv"},
		{"", []byte("{}"), "application/json"},
		{"", []byte("{"), "application/octet-stream"},
		{"", []byte{}, "application/octet-stream"},
	} {
		e := events.Event{DataContentType: tt.contentType, Data: tt.data}
		if got := e.ContentType(); got != tt.want {
			t.Errorf("%q %q: %q, want %q", tt.contentType, tt.data, got, tt.want)
		}
	}
}

func TestValidSamplesSurvivePrinting(t *testing.T) {
	for _, s := range samples.Valid() {
		decoded, err := events.Decode(s.Input())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range decoded.Events {
			printed, err := e.AppendJSON(nil)
			if err != nil {
				t.Fatal(err)
			}
			again, err := events.Decode(events.Input{Body: string(printed)})
			if err != nil || !equal(again.Events[0], e) {
				t.Errorf("%s: %v\n%s", s.Name, err, printed)
			}
		}
	}
}
