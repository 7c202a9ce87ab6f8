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

// notification is what SNS writes, around the members given; id and time are left to them.
func notification(members string) string {
	return `{"Type":"Notification","TopicArn":"arn:aws:sns:eu-west-1:123456789012:parcels",` + members + `}`
}

// s3Record is a record of S3, as short as one may be; without a sequencer where that is empty.
func s3Record(key, sequencer string) string {
	if sequencer != "" {
		sequencer = `,"sequencer":"` + sequencer + `"`
	}
	return `{"eventSource":"aws:s3","awsRegion":"us-west-2","eventTime":"2026-11-22T09:58:00.123Z","eventName":"ObjectCreated:Put",` +
		`"responseElements":{"x-amz-request-id":"R1"},"s3":{"bucket":{"name":"b"},"object":{"key":"` + key + `"` + sequencer + `}}}`
}

func s3Notification(records int) string {
	return `{"Records":[` + strings.Repeat(s3Record("k", "1")+",", records-1) + s3Record("k", "1") + `]}`
}

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
		{"sns: type of a member", events.Input{Body: notification(`"Message":"x","MessageId":7`)}, events.FormSNS, "bad-sns", "MessageId"},
		{"sns: half a surrogate pair", events.Input{Body: notification(`"Message":"\ud800"`)}, events.FormSNS, "bad-sns", "Message"},
		{"sns: null message", events.Input{Body: notification(`"Message":null`)}, events.FormSNS, "bad-sns", "Message"},
		{"sns: empty message", events.Input{Body: notification(`"Message":""`)}, events.FormSNS, "bad-sns", "Message"},
		{"sns: topic is no URI", events.Input{Body: `{"Type":"Notification","TopicArn":"arn:aws:sns:r:1:a b","Message":"x"}`}, events.FormSNS, "bad-sns", "TopicArn"},
		{"sns: topic is null", events.Input{Body: `{"Type":"Notification","TopicArn":null,"Message":"x"}`}, events.FormSNS, "bad-sns", "TopicArn"},
		{"sns: two types", events.Input{Body: notification(`"Message":"x","Type":"Other"`)}, events.FormSNS, "duplicate-member", "Type"},
		{"sns: end of a subscription", events.Input{Body: `{"Type":"UnsubscribeConfirmation","TopicArn":"arn:aws:sns:r:1:t","Message":"x"}`}, events.FormSNS, "sns-confirmation", "Type"},
		{"sns: confirmation inside", events.Input{Body: notification(`"Message":"{\"Type\":\"SubscriptionConfirmation\",\"TopicArn\":\"arn:aws:sns:r:1:t\"}"`)}, events.FormSNS, "sns-confirmation", "Message.Type"},
		{"sns: attributes are a list", events.Input{Body: notification(`"Message":"x","MessageAttributes":[]`)}, events.FormSNS, "bad-sns", "MessageAttributes"},
		{"sns: attribute without type", events.Input{Body: notification(`"Message":"x","MessageAttributes":{"a":{"Value":"1"}}`)}, events.FormSNS, "bad-sns", "MessageAttributes.a.Type"},
		{"sns: attribute without value", events.Input{Body: notification(`"Message":"x","MessageAttributes":{"a":{"Type":"String"}}`)}, events.FormSNS, "bad-sns", "MessageAttributes.a.Value"},
		{"sns: binary attribute without value", events.Input{Body: notification(`"Message":"x","MessageAttributes":{"a":{"Type":"Binary"}}`)}, events.FormSNS, "bad-sns", "MessageAttributes.a.Value"},
		{"sns: value is a number", events.Input{Body: notification(`"Message":"x","MessageAttributes":{"a":{"Type":"Number","Value":7}}`)}, events.FormSNS, "bad-sns", "MessageAttributes.a.Value"},
		{"sns: value there twice", events.Input{Body: notification(`"Message":"x","MessageAttributes":{"a":{"Type":"String","Value":"1","Value":"2"}}`)}, events.FormSNS, "duplicate-member", "MessageAttributes.a.Value"},
		{"sns: ce-id is Binary", events.Input{Body: notification(`"Message":"x","MessageAttributes":{"ce-id":{"Type":"Binary","Value":"AA=="}}`)}, binary, "bad-message-attribute", "Message.ce-id"},
		{"sns: attributes differ in case", events.Input{Body: notification(`"Message":"x","MessageAttributes":{"event-id":{"Type":"String","Value":"1"},"Event-ID":{"Type":"String","Value":"2"}}`)}, events.FormRaw, "bad-message-attribute", "Message.event-id"},
		{"sns: ids of the queue refused", events.Input{Body: notification(`"Message":"x"`), Attributes: attributes("event-id", "1", "Event-Id", "2")}, events.FormSNS, "bad-message-attribute", "event-id"},
		{"sns: nothing gives an id", events.Input{Body: notification(`"Message":"x"`)}, events.FormRaw, "bad-cloudevent", "Message.event-id"},
		{"sns: subject of a raw event", events.Input{MessageID: "1", Body: notification(`"Message":"x","Subject":"a\u0000b"`)}, events.FormRaw, "bad-cloudevent", "Message.subject"},
		{"sns: empty batch inside", events.Input{Body: notification(`"Message":"[]"`)}, batch, "bad-json-batch", "Message"},
		{"sns: list that says CloudEvent", events.Input{Body: notification(`"Message":"7","MessageAttributes":{"content-type":{"Type":"String","Value":"application/cloudevents+json"}}`)}, ce, "bad-cloudevent", "Message"},
		{"sns: EventBridge inside", events.Input{Body: notification(`"Message":"{\"detail-type\":\"t\",\"source\":7,\"detail\":{}}"`)}, events.FormEventBridge, "bad-eventbridge", "Message.source"},
		{"s3: source escaped", events.Input{Body: `{"Records":[{"eventSource":"\u0061ws:s3"}]}`}, events.FormS3, "bad-s3", "Records[0].s3.bucket.name"},
		{"s3: lists of records", events.Input{Body: `{"Records":[[` + s3Record("k", "1") + `]]}`}, events.FormS3, "bad-s3", "Records[0]"},
		{"s3: Records is an object too", events.Input{Body: `{"Records":{},"Records":[` + s3Record("k", "1") + `]}`}, events.FormS3, "duplicate-member", "Records"},
		{"s3: two sources", events.Input{Body: `{"Records":[` + strings.Replace(s3Record("k", "1"), `{`, `{"eventSource":"aws:ses",`, 1) + `]}`}, events.FormS3, "duplicate-member", "Records[0].eventSource"},
		{"s3: second without a source", events.Input{Body: `{"Records":[` + s3Record("k", "1") + `,{}]}`}, events.FormS3, "bad-s3", "Records[1].s3.bucket.name"},
		{"s3: object is a list", events.Input{Body: `{"Records":[` + strings.Replace(s3Record("k", "1"), `"object":{`, `"object":[],"was":{`, 1) + `]}`}, events.FormS3, "bad-s3", "Records[0].s3.object"},
		{"s3: empty key", events.Input{Body: `{"Records":[` + s3Record("", "1") + `]}`}, events.FormS3, "bad-s3", "Records[0].s3.object.key"},
		{"s3: key is blank", events.Input{Body: `{"Records":[` + s3Record("  ", "1") + `]}`}, events.FormS3, "bad-cloudevent", "Records[0].s3.object.key"},
		{"s3: key with a control character", events.Input{Body: `{"Records":[` + s3Record(`a\u0000`, "1") + `]}`}, events.FormS3, "bad-cloudevent", "Records[0].s3.object.key"},
		{"s3: sequencer is a number", events.Input{Body: `{"Records":[` + strings.Replace(s3Record("k", "1"), `"sequencer":"1"`, `"sequencer":1`, 1) + `]}`}, events.FormS3, "bad-s3", "Records[0].s3.object.sequencer"},
		{"s3: no time either", events.Input{Body: `{"Records":[` + strings.Replace(s3Record("k", ""), `"eventTime"`, `"was"`, 1) + `]}`}, events.FormS3, "bad-s3", "Records[0].s3.object.sequencer"},
		{"s3: region with a control character", events.Input{Body: `{"Records":[` + strings.Replace(s3Record("k", "1"), `"us-west-2"`, `"us\t"`, 1) + `]}`}, events.FormS3, "bad-cloudevent", "Records[0].awsRegion"},
		{"s3: too many records", events.Input{Body: s3Notification(events.MaxBatchEvents + 1)}, events.FormS3, "bad-s3", "Records"},
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

// TestProblemsNameTheMistake holds what is told of mistakes that are made often, each of which its place alone would not explain.
func TestProblemsNameTheMistake(t *testing.T) {
	for body, want := range map[string]string{
		`{` + head + `,"data_base64":"YQ"}`:        "lacks its '=' padding",
		`{` + head + `,"data_base64":"-_8="}`:      "URL-safe",
		`{` + head + `,"data_base64":"-_8"}`:       "URL-safe",
		`{` + head + `,"data_base64":"aGk= "}`:     "at byte 4 of 5",
		`{` + head + `,"data_base64":"\ud800aGk"}`: "is not base64",
		"\ufeff{" + head + "}":                     "byte order mark",
	} {
		var invalid *events.InvalidError
		if _, err := events.Decode(events.Input{Body: body}); !errors.As(err, &invalid) || !strings.Contains(invalid.Problem, want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
	// What has the wrong data type is not missing besides.
	binary := map[string]events.Attribute{"ce-id": {DataType: "Binary", BinaryValue: []byte("1")}, "ce-specversion": {DataType: "Binary.x", BinaryValue: []byte("1.0")}}
	for name, value := range map[string]string{"ce-source": "/s", "ce-type": "t"} {
		binary[name] = events.Attribute{DataType: "String", StringValue: value}
	}
	if _, err := events.Decode(events.Input{Attributes: binary}); err == nil || strings.Contains(err.Error(), "missing") || strings.Count(err.Error(), "data type Binary") != 2 {
		t.Error(err)
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
		{"SNS in the wrong case", `{"type":"Notification","TopicArn":"arn:aws:sns:r:1:t","Message":"x"}`, events.FormRaw, `{"type":"Notification","TopicArn":"arn:aws:sns:r:1:t","Message":"x"}`, "application/json"},
		{"SNS without a topic", `{"Type":"Notification","Message":"x"}`, events.FormRaw, `{"Type":"Notification","Message":"x"}`, "application/json"},
		{"SNS of another type", `{"Type":"notification","TopicArn":"arn:aws:sns:r:1:t","Message":"x"}`, events.FormRaw, `{"Type":"notification","TopicArn":"arn:aws:sns:r:1:t","Message":"x"}`, "application/json"},
		{"SNS as Lambda gets it", `{"Records":[{"EventSource":"aws:sns","Sns":{"Type":"Notification","TopicArn":"arn:aws:sns:r:1:t","Message":"x"}}]}`, events.FormRaw, `{"Records":[{"EventSource":"aws:sns","Sns":{"Type":"Notification","TopicArn":"arn:aws:sns:r:1:t","Message":"x"}}]}`, "application/json"},
		{"SNS with an escaped type", `{"Type":"\u004eotification","TopicArn":"arn:aws:sns:r:1:t","Message":" 1.0 "}`, events.FormSNS, ` 1.0 `, "application/json"},
		{"SNS before S3", `{"Type":"Notification","TopicArn":"arn:aws:sns:r:1:t","Message":"x","Records":[{"eventSource":"aws:s3"}]}`, events.FormSNS, "x", "text/plain; charset=utf-8"},
		{"specversion before SNS", `{` + head + `,"data":1,"topic":"x"}`, events.FormCloudEvent, "1", ""},
		{"EventBridge before SNS", `{"detail-type":"t","source":"s","detail":1,"Type":"Notification","TopicArn":"arn:aws:sns:r:1:t","Message":"x"}`, events.FormEventBridge, "1", "application/json"},
		{"EventBridge before S3", `{"detail-type":"t","source":"s","detail":1,"Records":[{"eventSource":"aws:s3"}]}`, events.FormEventBridge, "1", "application/json"},
		{"S3 with unknown members", `{"Records":[` + s3Record("k", "1") + `],"new":1,"new":2}`, events.FormS3, s3Record("k", "1"), "application/json"},
		{"S3 in the wrong case", `{"records":[{"eventSource":"aws:s3"}]}`, events.FormRaw, `{"records":[{"eventSource":"aws:s3"}]}`, "application/json"},
		{"S3 deeper down", `{"Records":[{"a":{"eventSource":"aws:s3"}}]}`, events.FormRaw, `{"Records":[{"a":{"eventSource":"aws:s3"}}]}`, "application/json"},
		{"S3 record alone", s3Record("k", "1"), events.FormRaw, s3Record("k", "1"), "application/json"},
		{"no records", `{"Records":[]}`, events.FormRaw, `{"Records":[]}`, "application/json"},
		{"Records that are no list", `{"Records":{"eventSource":"aws:s3"}}`, events.FormRaw, `{"Records":{"eventSource":"aws:s3"}}`, "application/json"},
		{"test event beside records", `{"Event":"s3:TestEvent","Records":[]}`, events.FormRaw, `{"Event":"s3:TestEvent","Records":[]}`, "application/json"},
		{"test event of another name", `{"Event":"s3:testEvent"}`, events.FormRaw, `{"Event":"s3:testEvent"}`, "application/json"},
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
		notification(`"Message":"hunter2","Message":"hunter2"`),
		notification(`"Message":{"hunter2":1}`),
		notification(`"Message":"hunter2","MessageAttributes":{"a":{"Type":"Binary","Value":"hunter2"}}`),
		notification(`"Message":"{\"specversion\":\"1.0\",\"data\":\"hunter2\"}"`),
		`{"Type":"SubscriptionConfirmation","TopicArn":"arn:aws:sns:r:1:t","Token":"hunter2","SubscribeURL":"https://hunter2/"}`,
		`{"Records":[` + s3Record("k", "1") + `,"hunter2"]}`,
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
