package sqsevent_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/events/samples"
	"github.com/waybillhq/waybill/shared/sqsevent"
)

// lambdaEvent is an event as Lambda writes it, in its order of members.
func lambdaEvent(bodies ...string) string {
	var records []string
	for i, body := range bodies {
		text, _ := json.Marshal(body)
		records = append(records, fmt.Sprintf(`{"messageId":"9b2f7c1e-0c55-4a11-8f3e-3f0d8d1c7a%02d","receiptHandle":"AQEB%s","body":%s,`+
			`"attributes":{"ApproximateReceiveCount":"1","AWSTraceHeader":"Root=1-5759e988-bd862e3fe1be46a994272793","SentTimestamp":"1795341598123",`+
			`"SenderId":"AIDAIENQZJOLO23YVJ4VO","MessageGroupId":"shop","ApproximateFirstReceiveTimestamp":"1795341598125"},`+
			`"messageAttributes":{"event-type":{"stringValue":"order.created","stringListValues":[],"binaryListValues":[],"dataType":"String"},`+
			`"blob":{"binaryValue":"AAEC","stringListValues":[],"binaryListValues":[],"dataType":"Binary"}},`+
			`"md5OfMessageAttributes":"00484c68","md5OfBody":"e4e68fb7bd0e697a0ae8f1bb342846b3","eventSource":"aws:sqs",`+
			`"eventSourceARN":"arn:aws:sqs:us-east-1:000000000000:deliveries","awsRegion":"us-east-1"}`, i, strings.Repeat("x", 200), text))
	}
	return `{"Records":[` + strings.Join(records, ",") + `]}`
}

// oddities are inputs on which two readers could differ.
var oddities = []string{
	``, `null`, `{}`, `[]`, `{"Records":null}`, `{"Records":[]}`, `{"records":[{"messageid":"1"}]}`, ` { "Records" : [ { } , { } ] } `,
	`{"Records":[null]}`, `{"Records":[{"messageId":null}]}`, `{"Records":[{"messageId":1}]}`, `{"Records":[{"body":"a","body":"b"}]}`,
	`{"Records":[{"BODY":"a"}]}`, `{"Records":[{"body":"a","Body":"b"}]}`, `{"Records":[{"body":"a"}],"Records":[{"messageId":"b"}]}`,
	`{"Records":[{"body":"\u00e9\ud83d\ude00\b\f\n\r\t\/\\\""}]}`, `{"Records":[{"body":"\ud83d"}]}`, `{"Records":[{"body":"\ud83dx"}]}`,
	`{"Records":[{"body":"\ud83d\u0041"}]}`, `{"Records":[{"body":"\ude00\ud83d"}]}`, `{"Records":[{"body":"\uD83D\uDE00"}]}`, `{"Records":[{"body":"\uFFFD"}]}`,
	"{\"Records\":[{\"body\":\"\xff\"}]}", "{\"Records\":[{\"body\":\"a\nb\"}]}", `{"Records":[{"body":"\x"}]}`, `{"Records":[{"body":"\u12"}]}`,
	`{"Records":[{"body":"\`, `{"Records":[{"body":"\"`, `{"Records":[{"body":"a"}]}x`, `{"Records":[{"body":"a"},]}`, `{"Records":[{"body":"a",}]}`,
	`{"Records":[{"new":{"a":[1,2.5e3,"}]",null]},"body":"a"}],"more":true}`, `{"Records":[{"new":01,"body":"a"}]}`, `{"Records":[{"new":}]}`,
	`{"Records":[{"attributes":null}]}`, `{"Records":[{"attributes":{}}]}`, `{"Records":[{"attributes":{"a":"1","a":"2"}}]}`,
	`{"Records":[{"attributes":{"a":"1"},"attributes":{"b":"2"}}]}`, `{"Records":[{"attributes":{"a":null}}]}`, `{"Records":[{"attributes":{"\u0061":"1"}}]}`,
	`{"Records":[{"messageAttributes":{"a":{"stringValue":null,"dataType":"String"}}}]}`, `{"Records":[{"messageAttributes":{"a":null}}]}`,
	`{"Records":[{"messageAttributes":{"a":{"binaryValue":"AA=="}}}]}`, `{"Records":[{"messageAttributes":{"a":{"binaryValue":"A\nA=="}}}]}`,
	`{"Records":[{"messageAttributes":{"a":{"binaryValue":"!"}}}]}`, `{"Records":[{"messageAttributes":{"a":{"binaryValue":""}}}]}`,
	`{"Records":[{"messageAttributes":{"a":{"stringListValues":["x"],"binaryListValues":["AA=="]}}}]}`, `{"Records":[{"messageAttributes":{"a":{"stringListValues":null}}}]}`,
	`{"Records":[{"messageAttributes":{"a":{"DataType":"x"}}}]}`, `{"Records":[{"messageId":"ſ"}],"recordſ":1}`, `{"Recordſ":[{"body":"a"}]}`,
}

// same checks that both readers give the same, errors included.
func same(t *testing.T, payload string) {
	t.Helper()
	var want events.SQSEvent
	wantErr := json.Unmarshal([]byte(payload), &want)
	got, err := sqsevent.Decode([]byte(payload))
	if fmt.Sprint(err) != fmt.Sprint(wantErr) {
		t.Errorf("%q: error %v, encoding/json has %v", payload, err, wantErr)
	}
	if wantErr == nil && !reflect.DeepEqual(got, want) {
		t.Errorf("%q:\n%+v, encoding/json has\n%+v", payload, got, want)
	}
}

func TestReadsWhatEncodingJSONReads(t *testing.T) {
	for _, o := range oddities {
		same(t, o)
	}
	for _, s := range samples.Valid() {
		same(t, lambdaEvent(s.Body, s.Body))
	}
}

// Of an event that ends too early nothing is given: what was read of it so far is no event.
func TestDamagedEventsAreEmpty(t *testing.T) {
	for _, payload := range []string{`{"Records":[{"messageId":"a","body":"b"}`, `{"Records":[{"messageId":"a"}]`, `{"Records":[{"messageId":"a"}]} x`} {
		if e, err := sqsevent.Decode([]byte(payload)); err == nil || len(e.Records) != 0 {
			t.Errorf("%s: %+v, %v", payload, e, err)
		}
	}
}

func TestKeepsNothingOfThePayload(t *testing.T) {
	payload := []byte(lambdaEvent("plain", `{"a":"b"}`))
	e, err := sqsevent.Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	clear(payload)
	if e.Records[0].Body != "plain" || e.Records[1].Body != `{"a":"b"}` || e.Records[1].Attributes["SenderId"] != "AIDAIENQZJOLO23YVJ4VO" {
		t.Errorf("%+v", e)
	}
}

func FuzzDecode(f *testing.F) {
	for _, o := range oddities {
		f.Add(o)
	}
	f.Add(lambdaEvent(`{"specversion":"1.0"}`, "é\u2028<>&"))
	f.Fuzz(func(t *testing.T, payload string) { same(t, payload) })
}

// TestTakesTheShortWay fails when what Lambda sends is left to encoding/json.
func TestTakesTheShortWay(t *testing.T) {
	payload := []byte(lambdaEvent(strings.Repeat(`{"a":"b"}`, 100)))
	var slow events.SQSEvent
	short := testing.AllocsPerRun(20, func() { _, _ = sqsevent.Decode(payload) })
	long := testing.AllocsPerRun(20, func() { _ = json.Unmarshal(payload, &slow) })
	if short > long/2 {
		t.Errorf("%v allocations, encoding/json has %v", short, long)
	}
}

// BenchmarkDecode reads an event of ten records of 1 KiB; beside it is what aws-lambda-go does.
func BenchmarkDecode(b *testing.B) {
	body := `{"specversion":"1.0","id":"1","source":"/shop","type":"order.created","data":{"items":[` +
		strings.TrimSuffix(strings.Repeat(`{"sku":"kettle-001","quantity":1,"price":19.90,"note":"gift"},`, 15), ",") + `]}}`
	var bodies []string
	for range 10 {
		bodies = append(bodies, body)
	}
	payload := []byte(lambdaEvent(bodies...))
	for name, decode := range map[string]func() error{
		"waybill":       func() error { _, err := sqsevent.Decode(payload); return err },
		"encoding-json": func() error { var e events.SQSEvent; return json.Unmarshal(payload, &e) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				if err := decode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
