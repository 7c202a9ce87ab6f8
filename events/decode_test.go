package events_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/events/samples"
)

func TestValidSamples(t *testing.T) {
	all := samples.Valid()
	if len(all) < 10 {
		t.Fatalf("only %d valid samples", len(all))
	}
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			got, err := events.Decode(s.Input())
			if err != nil {
				t.Fatal(err)
			}
			if got.Form != s.Want.Form || got.Inner != s.Want.Inner || got.Dropped != s.Want.Dropped {
				t.Errorf("form %q with %q, %d dropped, want %q with %q, %d", got.Form, got.Inner, got.Dropped, s.Want.Form, s.Want.Inner, s.Want.Dropped)
			}
			if len(got.Events) != len(s.Want.Events) {
				t.Fatalf("%d events, want %d", len(got.Events), len(s.Want.Events))
			}
			for i, want := range s.Want.Events {
				checkSampleEvent(t, &got.Events[i], want)
			}
		})
	}
}

func checkSampleEvent(t *testing.T, got *events.Event, want samples.Event) {
	t.Helper()
	for _, f := range []struct{ name, got, want string }{
		{"id", got.ID, want.ID},
		{"source", got.Source, want.Source},
		{"type", got.Type, want.Type},
		{"tenant", got.Tenant(), want.Tenant},
		{"subject", got.Subject, want.Subject},
		{"datacontenttype", got.DataContentType, want.ContentType},
	} {
		if f.got != f.want {
			t.Errorf("%s is %q, want %q", f.name, f.got, f.want)
		}
	}
	if want.Time != "" && got.Time != want.Time {
		t.Errorf("time is %s, want %s", got.Time, want.Time)
	}
	extensions := maps.Clone(got.Extensions)
	delete(extensions, events.TenantExtension)
	if !maps.Equal(extensions, want.Extensions) {
		t.Errorf("extensions are %v, want %v", extensions, want.Extensions)
	}
	switch {
	case want.Data != nil:
		if got.Data == nil || string(got.Data) != *want.Data {
			t.Errorf("data is %q, want %q", got.Data, *want.Data)
		}
	case want.DataSHA256 != "":
		if sum := sha256.Sum256(got.Data); hex.EncodeToString(sum[:]) != want.DataSHA256 {
			t.Errorf("data %q has SHA-256 %x, want %s", got.Data, sum, want.DataSHA256)
		}
	case got.Data != nil:
		t.Errorf("data is %q, want none", got.Data)
	}
}

func TestInvalidSamples(t *testing.T) {
	all := samples.Invalid()
	if len(all) < 18 {
		t.Fatalf("only %d invalid samples", len(all))
	}
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			got, err := events.Decode(s.Input())
			checkInvalid(t, err, s.Want.Form, s.Want.Code, s.Want.Field)
			if len(got.Events) != 0 {
				t.Errorf("returned %d events beside an error", len(got.Events))
			}
		})
	}
}

func checkInvalid(t *testing.T, err error, form events.Form, code, field string) {
	t.Helper()
	var invalid *events.InvalidError
	if !errors.As(err, &invalid) || !errors.Is(err, events.ErrInvalid) {
		t.Fatalf("error is %v, want an *InvalidError with code %s", err, code)
	}
	if invalid.Form != form || invalid.Code != code || invalid.Field != field {
		t.Errorf("got form %q code %q field %q (%v), want %q %q %q", invalid.Form, invalid.Code, invalid.Field, err, form, code, field)
	}
	if invalid.Problem == "" || invalid.Fix == "" {
		t.Errorf("%v names no problem or no fix", err)
	}
	if text := err.Error(); !strings.Contains(text, code) || !strings.Contains(text, field) || !strings.Contains(text, invalid.Fix) {
		t.Errorf("message %q does not name code, field and fix", text)
	}
}

const head = `"specversion":"1.0","id":"1","source":"/s","type":"t"`

// TestInvalid holds the refusals that would crowd the samples.
func TestInvalid(t *testing.T) {
	ce, batch, binary := events.FormCloudEvent, events.FormBatch, events.FormBinary
	attributes := func(pairs ...string) map[string]events.Attribute {
		m := map[string]events.Attribute{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = events.Attribute{DataType: "String", StringValue: pairs[i+1]}
		}
		return m
	}
	long := strings.Repeat("x", 70)
	tests := []struct {
		name        string
		in          events.Input
		form        events.Form
		code, field string
	}{
		{"specversion not a string", events.Input{Body: `{"specversion":1.0,"id":"1","source":"/s","type":"t"}`}, ce, "bad-cloudevent", "specversion"},
		{"specversion 1.0.2", events.Input{Body: `{"specversion":"1.0.2","id":"1","source":"/s","type":"t"}`}, ce, "bad-specversion", "specversion"},
		{"escaped name still counts", events.Input{Body: `{"\u0073pecversion":"2.0"}`}, ce, "bad-specversion", "specversion"},
		{"type null", events.Input{Body: `{"specversion":"1.0","id":"1","source":"/s","type":null}`}, ce, "bad-cloudevent", "type"},
		{"id blank", events.Input{Body: `{"specversion":"1.0","id":"  ","source":"/s","type":"t"}`}, ce, "bad-cloudevent", "id"},
		{"id with half a surrogate pair", events.Input{Body: `{"specversion":"1.0","id":"\ud800","source":"/s","type":"t"}`}, ce, "bad-cloudevent", "id"},
		{"id with a noncharacter", events.Input{Body: `{"specversion":"1.0","id":"\uffff","source":"/s","type":"t"}`}, ce, "bad-cloudevent", "id"},
		{"id with a C1 control", events.Input{Body: `{"specversion":"1.0","id":"a\u0085b","source":"/s","type":"t"}`}, ce, "bad-cloudevent", "id"},
		{"id with a delete", events.Input{Body: `{"specversion":"1.0","id":"a\u007fb","source":"/s","type":"t"}`}, ce, "bad-cloudevent", "id"},
		{"invalid UTF-8", events.Input{Body: `{` + head + `,"subject":"` + "\xff" + `"}`}, ce, "bad-json", ""},
		{"byte order mark", events.Input{Body: "\ufeff{" + head + "}"}, ce, "bad-json", ""},
		{"source with a broken escape", events.Input{Body: `{"specversion":"1.0","id":"1","source":"/%zz","type":"t"}`}, ce, "bad-cloudevent", "source"},
		{"source with two fragments", events.Input{Body: `{"specversion":"1.0","id":"1","source":"/a#b#c","type":"t"}`}, ce, "bad-cloudevent", "source"},
		{"source with a bad port", events.Input{Body: `{"specversion":"1.0","id":"1","source":"http://h:x/","type":"t"}`}, ce, "bad-cloudevent", "source"},
		{"source not ASCII", events.Input{Body: `{"specversion":"1.0","id":"1","source":"/café","type":"t"}`}, ce, "bad-cloudevent", "source"},
		{"time that only time.Parse takes", events.Input{Body: `{` + head + `,"time":"2026-11-22T9:00:00,5Z"}`}, ce, "bad-cloudevent", "time"},
		{"time without zone", events.Input{Body: `{` + head + `,"time":"2026-11-22T09:00:00"}`}, ce, "bad-cloudevent", "time"},
		{"time as a number", events.Input{Body: `{` + head + `,"time":1}`}, ce, "bad-cloudevent", "time"},
		{"extension out of range", events.Input{Body: `{` + head + `,"n":2147483648}`}, ce, "bad-cloudevent", "n"},
		{"extension with exponent", events.Input{Body: `{` + head + `,"n":1e2}`}, ce, "bad-cloudevent", "n"},
		{"extension array", events.Input{Body: `{` + head + `,"n":[]}`}, ce, "bad-cloudevent", "n"},
		{"extension with a long name", events.Input{Body: `{` + head + `,"` + long + `":""}`}, ce, "bad-cloudevent", `"` + long[:48] + `"…`},
		{"extension without a name", events.Input{Body: `{` + head + `,"":1}`}, ce, "bad-cloudevent", `""`},
		{"illegal name of a null", events.Input{Body: `{` + head + `,"Nope":null}`}, ce, "bad-cloudevent", "Nope"},
		{"null and value of one name", events.Input{Body: `{` + head + `,"a":null,"a":"x"}`}, ce, "duplicate-member", "a"},
		{"data twice", events.Input{Body: `{` + head + `,"data":1,"data":2}`}, ce, "duplicate-member", "data"},
		{"data text with half a surrogate pair", events.Input{Body: `{` + head + `,"datacontenttype":"text/plain","data":"\udc00"}`}, ce, "bad-cloudevent", "data"},
		{"base64 with a line break", events.Input{Body: `{` + head + `,"data_base64":"AA\nAA"}`}, ce, "bad-base64", "data_base64"},
		{"base64 with stray bits", events.Input{Body: `{` + head + `,"data_base64":"AB=="}`}, ce, "bad-base64", "data_base64"},
		{"base64 not a string", events.Input{Body: `{` + head + `,"data_base64":[65]}`}, ce, "bad-base64", "data_base64"},
		{"context too large", events.Input{Body: `{` + head + `,"subject":"` + strings.Repeat("s", 64<<10) + `"}`}, ce, "too-large", "context attributes"},
		{"trailing text", events.Input{Body: `{` + head + `} x`}, ce, "bad-json", ""},
		{"declared, but text", events.Input{Body: "hello", Attributes: attributes("Content-Type", "application/cloudevents+json")}, ce, "bad-json", ""},
		{"declared, but a number", events.Input{Body: "7", Attributes: attributes("content-type", "application/cloudevents+json")}, ce, "bad-cloudevent", ""},
		{"declared batch of others", events.Input{Body: `[{"a":1}]`, Attributes: attributes("content-type", "application/cloudevents-batch+json")}, batch, "bad-specversion", "[0].specversion"},
		{"batch in a batch only", events.Input{Body: `[[{` + head + `}]]`}, batch, "bad-json-batch", "[0]"},
		{"batch after others", events.Input{Body: `["x", null, {` + head + `}]`}, batch, "bad-json-batch", "[0]"},
		{"torn batch", events.Input{Body: `[{` + head + `},`}, ce, "bad-json", ""},
		{"batch too long", events.Input{Body: `[` + strings.Repeat(`{`+head+`},`, events.MaxBatchEvents) + `{` + head + `}]`}, batch, "bad-json-batch", ""},
		{"pinned tenant too long", events.Input{Body: `{` + head + `}`, Tenant: strings.Repeat("t", 129)}, ce, "too-large", "tenant"},
		{"binary: only an extension", events.Input{Body: "x", Attributes: attributes("ce-foo", "1")}, binary, "bad-specversion", "ce-specversion"},
		{"binary: data as extension", events.Input{Body: "x", Attributes: attributes("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "ce-data", "x")}, binary, "bad-cloudevent", "ce-data"},
		{"binary: name", events.Input{Body: "x", Attributes: attributes("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "ce-a_b", "x")}, binary, "bad-cloudevent", "ce-a_b"},
		{"binary: time", events.Input{Body: "x", Attributes: attributes("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "ce-time", "now")}, binary, "bad-cloudevent", "ce-time"},
		{"binary: content type", events.Input{Body: "x", Attributes: attributes("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "content-type", "x")}, binary, "bad-cloudevent", "content-type"},
		{"eventbridge: empty type", events.Input{Body: `{"id":"1","source":"s","detail-type":"","detail":{}}`}, events.FormEventBridge, "bad-cloudevent", "detail-type"},
		{"eventbridge: resources", events.Input{Body: `{"id":"1","source":"s","detail-type":"t","detail":{},"resources":{}}`}, events.FormEventBridge, "bad-eventbridge", "resources"},
		{"raw: content type twice", events.Input{MessageID: "1", QueueARN: "arn:aws:sqs:r:1:q", Body: "x", Attributes: attributes("content-type", "text/plain", "Content-Type", "text/csv")}, events.FormRaw, "bad-message-attribute", "content-type"},
		{"raw: no message id", events.Input{QueueARN: "arn:aws:sqs:r:1:q", Body: "x"}, events.FormRaw, "bad-cloudevent", "event-id"},
		{"raw: no queue", events.Input{MessageID: "1", Body: "x"}, events.FormRaw, "bad-cloudevent", "source"},
		{"attributes count", events.Input{Body: strings.Repeat("x", events.MaxMessageBytes-5), Attributes: attributes("a", "b")}, "", "too-large", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := events.Decode(tt.in)
			checkInvalid(t, err, tt.form, tt.code, tt.field)
			if len(got.Events) != 0 {
				t.Errorf("returned %d events beside an error", len(got.Events))
			}
		})
	}
}

// TestForms holds the edges between the rows of the table.
func TestForms(t *testing.T) {
	deep := strings.Repeat("[", 200_000)
	tests := []struct {
		name, body  string
		form        events.Form
		data        string // expected payload of the first event
		contentType string
	}{
		{"wrong case is no specversion", `{"SpecVersion":"1.0","ID":"1"}`, events.FormRaw, `{"SpecVersion":"1.0","ID":"1"}`, "application/json"},
		{"specversion deeper down", `{"event":{` + head + `}}`, events.FormRaw, `{"event":{` + head + `}}`, "application/json"},
		{"specversion deeper down an array", `[{"event":{` + head + `}}]`, events.FormRaw, `[{"event":{` + head + `}}]`, "application/json"},
		{"specversion before detail", `{` + head + `,"data":1}`, events.FormCloudEvent, "1", ""},
		{"EventBridge entry as PutEvents takes it", `{"DetailType":"t","Source":"s","Detail":"{}"}`, events.FormRaw, `{"DetailType":"t","Source":"s","Detail":"{}"}`, "application/json"},
		{"EventBridge without detail", `{"detail-type":"t","source":"s"}`, events.FormRaw, `{"detail-type":"t","source":"s"}`, "application/json"},
		{"EventBridge with unknown members", `{"detail-type":"t","source":"s","detail":[1.0],"new":1,"new":2}`, events.FormEventBridge, `[1.0]`, "application/json"},
		{"duplicate members of plain JSON", `{"a":1,"a":2}`, events.FormRaw, `{"a":1,"a":2}`, "application/json"},
		{"scalar", " 12.0\n", events.FormRaw, " 12.0\n", "application/json"},
		{"number that JSON does not have", "01", events.FormRaw, "01", "text/plain; charset=utf-8"},
		{"brace that closes nothing", "{", events.FormRaw, "{", "text/plain; charset=utf-8"},
		{"bytes that are no text", "\xff\xfe", events.FormRaw, "\xff\xfe", "application/octet-stream"},
		{"white space", " \n", events.FormRaw, " \n", "text/plain; charset=utf-8"},
		{"empty object", "{}", events.FormRaw, "{}", "application/json"},
		{"depth bomb", deep, events.FormRaw, deep, "text/plain; charset=utf-8"},
		{"deep JSON", deep + strings.Repeat("]", 200_000), events.FormRaw, deep + strings.Repeat("]", 200_000), "application/json"},
		{"deep data", `{` + head + `,"data":` + deep + strings.Repeat("]", 200_000) + `}`, events.FormCloudEvent, deep + strings.Repeat("]", 200_000), ""},
		{"explicit null is a payload", `{` + head + `,"data":null}`, events.FormCloudEvent, "null", ""},
		{"object under a type that is not JSON", `{` + head + `,"datacontenttype":"text/x","data":{"a": 1}}`, events.FormCloudEvent, `{"a": 1}`, "text/x"},
		{"string under a JSON type with parameters", `{` + head + `,"datacontenttype":"Application/VND.x+JSON; charset=utf-8","data":"a"}`, events.FormCloudEvent, `"a"`, "Application/VND.x+JSON; charset=utf-8"},
		{"empty text", `{` + head + `,"datacontenttype":"text/x","data":""}`, events.FormCloudEvent, "", "text/x"},
		{"null base64 is absent", `{` + head + `,"data":1,"data_base64":null}`, events.FormCloudEvent, "1", ""},
		{"escapes in text", `{` + head + `,"datacontenttype":"text/x","data":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude9a\u0000x"}`, events.FormCloudEvent, "\"\\/\b\f\n\r\té🚚\x00x", "text/x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := events.Decode(events.Input{MessageID: "m", QueueARN: samples.QueueARN, Body: tt.body})
			if err != nil {
				t.Fatal(err)
			}
			e := got.Events[0]
			if got.Form != tt.form || string(e.Data) != tt.data || e.Data == nil || e.DataContentType != tt.contentType {
				t.Errorf("got %s, %.80q of %q, want %s, %.80q of %q", got.Form, e.Data, e.DataContentType, tt.form, tt.data, tt.contentType)
			}
		})
	}
}

func TestTimestamps(t *testing.T) {
	for s, want := range map[string]bool{
		"2026-11-22T10:00:00Z": true, "2024-02-29T23:59:59.000000000001+23:59": true, "0001-01-01T00:00:00-00:00": true,
		"2026-11-22t10:00:00z": false, "2026-11-22 10:00:00Z": false, "2026-11-22T10:00:60Z": false, "2026-02-29T10:00:00Z": false,
		"2026-11-22T24:00:00Z": false, "2026-11-22T10:00:00": false, "2026-11-22T10:00:00.Z": false, "2026-11-22T10:00:00,5Z": false,
		"2026-11-22T9:00:00Z": false, "2026-11-22T10:00:00+24:00": false, "2026-11-22T10:00:00+10:60": false, "2026-11-22T10:00:00+1000": false,
		"2026-11-22": false, "2026-11-22T10:00:00ZZ": false, "+026-11-22T10:00:00Z": false,
	} {
		e := events.Event{ID: "1", Source: "/s", Type: "t", Time: s}
		if err := e.Validate(); (err == nil) != want {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// TestBinaryBodiesAreNotGuessedAt holds bodies that would be refused without the ce-* attributes.
func TestBinaryBodiesAreNotGuessedAt(t *testing.T) {
	attributes := map[string]events.Attribute{}
	for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"} {
		attributes[name] = events.Attribute{DataType: "String", StringValue: value}
	}
	for _, body := range []string{"[]", ` [ ] `, `{"specversion":`, `{"detail-type":"t","source":"s","detail":{}}`} {
		got, err := events.Decode(events.Input{Body: body, Attributes: attributes})
		if err != nil || got.Form != events.FormBinary || string(got.Events[0].Data) != body {
			t.Errorf("%q: %v, %+v", body, err, got)
		}
	}
	got, err := events.Decode(events.Input{Body: `{"specversion":"1.0","id":"2","source":"/s","type":"t"}`, Attributes: attributes})
	if err != nil || got.Form != events.FormCloudEvent || got.Events[0].ID != "2" {
		t.Errorf("a body that is a CloudEvent comes first in the table: %v, %+v", err, got)
	}
}

func TestDataNullUnderTextIsNoPayload(t *testing.T) {
	got, err := events.Decode(events.Input{Body: `{` + head + `,"datacontenttype":"text/plain","data":null}`})
	if err != nil || got.Events[0].Data != nil {
		t.Errorf("got %q, %v", got.Events[0].Data, err)
	}
}

func TestTenant(t *testing.T) {
	for _, tt := range []struct{ pinned, extension, group, want string }{
		{"", "", "", "default"},
		{"", "", "group", "group"},
		{"", "event", "group", "event"},
		{"pinned", "event", "group", "pinned"},
		{"pinned", "", "", "pinned"},
	} {
		body := `{` + head + `}`
		if tt.extension != "" {
			body = `{` + head + `,"tenant":"` + tt.extension + `"}`
		}
		binary := map[string]events.Attribute{}
		for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-tenant": tt.extension} {
			binary[name] = events.Attribute{DataType: "String", StringValue: value}
		}
		for _, in := range []events.Input{{Body: body}, {Body: "[" + body + "]"}, {Body: "x", Attributes: binary}} {
			in.Tenant, in.GroupID = tt.pinned, tt.group
			got, err := events.Decode(in)
			if err != nil || got.Events[0].Tenant() != tt.want {
				t.Errorf("%+v in %s: tenant %q, %v", tt, got.Form, got.Events[0].Tenant(), err)
			}
		}
	}
}

func TestRawIDAndTime(t *testing.T) {
	own := map[string]events.Attribute{"event-id": {DataType: "Number", StringValue: "7"}}
	zone := time.FixedZone("east", 3600)
	for _, tt := range []struct {
		in       events.Input
		id, time string
	}{
		{events.Input{MessageID: "m"}, "m", ""},
		{events.Input{MessageID: "m", EventID: "kept", SentAt: time.Date(2026, 11, 22, 1, 2, 3, 4e6, zone)}, "kept", "2026-11-22T00:02:03.004Z"},
		{events.Input{MessageID: "m", EventID: "kept", Attributes: own, SentAt: time.Date(12026, 1, 1, 0, 0, 0, 0, zone)}, "7", ""},
	} {
		for _, body := range []string{"x", `{"detail-type":"t","source":"s","detail":{}}`} {
			tt.in.Body, tt.in.QueueARN = body, samples.QueueARN
			got, err := events.Decode(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			e := got.Events[0]
			if e.ID != tt.id || got.Form == events.FormRaw && e.Time != tt.time {
				t.Errorf("%s: id %q, time %q, want %q, %q", got.Form, e.ID, e.Time, tt.id, tt.time)
			}
		}
	}
}

func TestEveryProblemIsReported(t *testing.T) {
	_, err := events.Decode(events.Input{Body: `{"specversion":"2","id":7,"time":"x","a-b":1,"data":1,"data_base64":"!"}`})
	var invalid *events.InvalidError
	if !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	got := []string{invalid.Field}
	for _, o := range invalid.Others {
		got = append(got, o.Field)
		if !strings.Contains(err.Error(), o.Problem) {
			t.Errorf("%q does not tell that %s %s", err, o.Field, o.Problem)
		}
	}
	want := "specversion id data_base64 source type time a-b"
	if strings.Join(got, " ") != want {
		t.Errorf("reported %v, want %s", got, want)
	}
}

// TestErrorsAreBounded sends as many and as large problems as fit: neither count nor text may follow the input.
func TestErrorsAreBounded(t *testing.T) {
	element := `{"specversion":"` + strings.Repeat("9", 1000) + `","` + strings.Repeat("n", 500) + `\n":{}}`
	_, err := events.Decode(events.Input{Body: `[` + strings.Repeat(element+",", 500) + element + `]`})
	var invalid *events.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Others) != 15 || len(err.Error()) > 4096 {
		t.Errorf("%d others, %d bytes: %.300v", len(invalid.Others), len(err.Error()), err)
	}
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Error("a line break from outside is in the message")
	}
}

func TestErrorsNeverShowThePayload(t *testing.T) {
	for _, body := range []string{
		`{` + head + `,"data":"hunter2","data":"hunter2"}`,
		`{` + head + `,"data_base64":"hunter2"}`,
		`{` + head + `,"data":"hunter2","id":"2"}`,
		`{` + head + `,"data":"hunter2"`,
		`[{` + head + `},"hunter2"]`,
		`{"detail-type":"t","source":"s","detail":"hunter2","detail":"hunter2"}`,
	} {
		if _, err := events.Decode(events.Input{Body: body}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestDecodeLeavesInputAlone(t *testing.T) {
	for _, s := range append(samples.Valid(), samples.Invalid()...) {
		in := s.Input()
		before := fmt.Sprintf("%+v", in)
		decoded, _ := events.Decode(in)
		for i := range decoded.Events {
			for k := range decoded.Events[i].Data {
				decoded.Events[i].Data[k] = 'X'
			}
			decoded.Events[i].Extensions["x"] = "y"
		}
		if fmt.Sprintf("%+v", in) != before {
			t.Errorf("%s: the input has changed", s.Name)
		}
	}
}

func TestBatchAtTheLimit(t *testing.T) {
	body := `[` + strings.Repeat(`{`+head+`},`, events.MaxBatchEvents-1) + `{` + head + `}]`
	got, err := events.Decode(events.Input{Body: body})
	if err != nil || len(got.Events) != events.MaxBatchEvents {
		t.Errorf("%d events, %v", len(got.Events), err)
	}
}
