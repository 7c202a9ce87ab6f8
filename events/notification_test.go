package events_test

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/events/samples"
)

const topic = "arn:aws:sns:eu-west-1:123456789012:parcels"

// throughSNS writes what SNS does around a message when raw delivery is off.
func throughSNS(t interface{ Fatal(...any) }, id, message string, attributes map[string]events.Attribute) string {
	type attribute struct{ Type, Value string }
	entity := struct {
		Type, MessageId, TopicArn, Subject, Message, Timestamp string
		MessageAttributes                                      map[string]any
	}{"Notification", id, topic, "about it", message, "2026-11-22T09:58:01.234Z", map[string]any{}}
	for name, a := range attributes {
		if strings.HasPrefix(a.DataType, "Binary") {
			entity.MessageAttributes[name] = struct {
				Type  string
				Value []byte // base64 in JSON
			}{a.DataType, a.BinaryValue}
			continue
		}
		entity.MessageAttributes[name] = attribute{a.DataType, a.StringValue}
	}
	body, err := json.Marshal(entity)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestEveryFormComesThroughSNS publishes the samples to a topic, once and again up to the limit: what they
// mean must not change. What is particular to SNS, the stand-ins for what the queue says, is tested below.
func TestEveryFormComesThroughSNS(t *testing.T) {
	for _, s := range append(samples.Valid(), samples.Invalid()...) {
		if !s.Sendable() || strings.Contains(s.Name, "too-deep") || strings.HasPrefix(s.Name, "sns-in-sns") {
			continue
		}
		in := s.Input()
		in.QueueARN, in.SentAt = topic, time.Date(2026, time.November, 22, 9, 58, 1, 234e6, time.UTC)
		direct, directErr := events.Decode(in)
		nested := in
		nested.MessageID, nested.EventID, nested.QueueARN = "of the queue", "of an earlier hop", samples.QueueARN
		for range events.MaxDepth - 1 {
			nested.Body, nested.Attributes = throughSNS(t, in.MessageID, nested.Body, nested.Attributes), nil
			got, err := events.Decode(nested)
			if directErr != nil {
				var want *events.InvalidError
				if !errors.As(directErr, &want) {
					t.Fatal(directErr)
				}
				var have *events.InvalidError
				if !errors.As(err, &have) || have.Code != want.Code || have.Form != want.Form || !strings.HasPrefix(have.Field, "Message") || !strings.HasSuffix(have.Field, want.Field) {
					t.Errorf("%s: %v, without SNS %v", s.Name, err, directErr)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", s.Name, err)
				continue
			}
			if got.Form != events.FormSNS || got.Inner != direct.Form && got.Inner != direct.Inner || got.Dropped != direct.Dropped || len(got.Events) != len(direct.Events) {
				t.Errorf("%s: %+v, without SNS %+v", s.Name, got, direct)
				continue
			}
			for i := range got.Events {
				if direct.Form == events.FormRaw {
					direct.Events[i].Subject = "about it"
				}
				if !equal(got.Events[i], direct.Events[i]) {
					t.Errorf("%s: %+v, without SNS %+v", s.Name, got.Events[i], direct.Events[i])
				}
			}
		}
	}
}

// TestPayloadsSurviveSNS sends any payload through SNS as text, as binary mode and as a CloudEvent.
func TestPayloadsSurviveSNS(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent().Draw(t, "event")
		printed, err := e.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := events.Decode(events.Input{Body: throughSNS(t, "1", string(printed), nil)})
		if err != nil || got.Inner != events.FormCloudEvent || !equal(got.Events[0], e) {
			t.Fatalf("%+v, %v, want %+v", got, err, e)
		}
		text := rapid.String().Filter(func(s string) bool { return s != "" && strings.ToValidUTF8(s, "") == s }).Draw(t, "text")
		attributes := map[string]events.Attribute{"other": {DataType: "Binary", BinaryValue: []byte{0xff, 0}}}
		for name, value := range e.Attributes() {
			if name != "datacontenttype" && value != "" {
				attributes["ce-"+name] = events.Attribute{DataType: "String", StringValue: value}
			}
		}
		in := events.Input{Body: text, Attributes: attributes}
		direct, err := events.Decode(in)
		if err != nil {
			t.Skip(err) // a text that is taken for something else
		}
		got, err = events.Decode(events.Input{Body: throughSNS(t, "1", text, attributes)})
		if err != nil || !equal(got.Events[0], direct.Events[0]) || string(got.Events[0].Data) != text {
			t.Fatalf("%+v, %v, want %+v", got, err, direct)
		}
	})
}

func TestStandInsOfSNS(t *testing.T) {
	sentAt := time.Date(2026, time.November, 22, 10, 0, 0, 0, time.UTC)
	onQueue := events.Input{MessageID: "m", EventID: "kept", QueueARN: samples.QueueARN, SentAt: sentAt, GroupID: "acme",
		Attributes: map[string]events.Attribute{"event-type": {DataType: "String", StringValue: "of the queue"}}}
	own := maps.Clone(onQueue.Attributes)
	own["event-id"] = events.Attribute{DataType: "String", StringValue: "own"}
	for _, tt := range []struct {
		name, body             string
		attributes             map[string]events.Attribute
		id, time, subject, typ string
	}{
		{"all of SNS", notification(`"Message":"x","MessageId":"s","Timestamp":"2026-11-22T10:58:01.5+01:00","Subject":"about"`), nil, "s", "2026-11-22T09:58:01.5Z", "about", "waybill.raw"},
		{"no id: the kept one", notification(`"Message":"x","Subject":null`), nil, "kept", "2026-11-22T10:00:00Z", "", "waybill.raw"},
		{"no id: that of the queue's attributes", notification(`"Message":"x"`), own, "own", "2026-11-22T10:00:00Z", "", "waybill.raw"},
		{"the publisher's id", notification(`"Message":"x","MessageId":"s","MessageAttributes":{"event-id":{"Type":"Number","Value":"7"},"event-type":{"Type":"String","Value":"t"}}`), own, "7", "2026-11-22T10:00:00Z", "", "t"},
		{"id of an EventBridge event without one", notification(`"MessageId":"s","Message":"{\"detail-type\":\"t\",\"source\":\"s\",\"detail\":{}}"`), nil, "s", "", "", "t"},
	} {
		in := onQueue
		in.Body = tt.body
		if tt.attributes != nil {
			in.Attributes = tt.attributes
		}
		got, err := events.Decode(in)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		e := got.Events[0]
		if e.ID != tt.id || e.Time != tt.time || e.Subject != tt.subject || e.Type != tt.typ || e.Tenant() != "acme" {
			t.Errorf("%s: %+v", tt.name, e)
		}
		if got.Inner == events.FormRaw && e.Source != topic {
			t.Errorf("%s: source %s", tt.name, e.Source)
		}
	}
}

// TestDepth goes to the last notification that is opened and one further.
func TestDepth(t *testing.T) {
	body := "x"
	for depth := 1; depth <= events.MaxDepth+1; depth++ {
		body = throughSNS(t, "1", body, nil)
		got, err := events.Decode(events.Input{Body: body})
		if depth <= events.MaxDepth {
			if err != nil || string(got.Events[0].Data) != "x" || got.Inner != events.FormRaw {
				t.Errorf("depth %d: %+v, %v", depth, got, err)
			}
			continue
		}
		checkInvalid(t, err, events.FormSNS, events.CodeTooDeep, strings.TrimSuffix(strings.Repeat("Message.", events.MaxDepth), "."))
	}
}

func TestPinnedTenantHoldsInEveryEnvelope(t *testing.T) {
	for _, s := range samples.Valid() {
		in := s.Input()
		in.Tenant = "pinned"
		got, err := events.Decode(in)
		if err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
		for i := range got.Events {
			if tenant := got.Events[i].Tenant(); tenant != "pinned" {
				t.Errorf("%s: tenant %q", s.Name, tenant)
			}
		}
	}
}

// TestS3Identity changes one thing of a record at a time: what S3 sends twice is one event, what differs is another.
func TestS3Identity(t *testing.T) {
	identity := func(record string) string {
		t.Helper()
		got, err := events.Decode(events.Input{Body: `{"Records":[` + record + `]}`})
		if err != nil {
			t.Fatalf("%s: %v", record, err)
		}
		return got.Events[0].Source + " " + got.Events[0].ID
	}
	put, tags := s3Record("k", "1"), s3Record("k", "")
	version := func(record, v string) string {
		return strings.Replace(record, `"key":"k"`, `"key":"k","versionId":`+v, 1)
	}
	seen := map[string]string{}
	for _, record := range []string{
		put, tags, s3Record("kk", "1"), s3Record("k", "2"), s3Record("k1", ""),
		strings.Replace(put, `"name":"b"`, `"name":"b2"`, 1),
		strings.Replace(put, "us-west-2", "us-west-1", 1),
		strings.Replace(put, ":Put", ":Post", 1),
		version(put, `"v1"`), version(put, `"v2"`), version(tags, `"v1"`),
		strings.Replace(tags, "00.123Z", "00.124Z", 1),
		strings.Replace(tags, `"R1"`, `"R2"`, 1),
	} {
		id := identity(record)
		if was, ok := seen[id]; ok {
			t.Errorf("one identity %s for %s and %s", id, was, record)
		}
		seen[id] = record
	}
	for name, same := range map[string][2]string{
		"the same again":                  {put, put},
		"time and request do not matter":  {put, strings.NewReplacer("00.123Z", "09.999Z", "R1", "R2").Replace(put)},
		"null is no version":              {put, version(put, "null")},
		"empty is no version":             {put, version(put, `""`)},
		"white space and further members": {put, " " + strings.Replace(put, `{`, `{ "eventVersion" : "2.5",`, 1)},
		"escapes are spelling":            {put, strings.Replace(put, `"sequencer":"1"`, `"sequencer":"\u0031"`, 1)},
	} {
		if a, b := identity(same[0]), identity(same[1]); a != b {
			t.Errorf("%s: %s and %s", name, a, b)
		}
	}
}

func TestS3PartsDoNotRunIntoEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.StringMatching(`[ab]{0,3}`)
		draw := func(which string) (key, version, sequencer string) {
			return "k" + part.Draw(t, which+" key"), part.Draw(t, which+" version"), "s" + part.Draw(t, which+" sequencer")
		}
		id := func(key, version, sequencer string) string {
			record := strings.Replace(s3Record(key, sequencer), `"key":`, `"versionId":"`+version+`","key":`, 1)
			got, err := events.Decode(events.Input{Body: `{"Records":[` + record + `]}`})
			if err != nil {
				t.Fatal(err)
			}
			return got.Events[0].ID
		}
		k1, v1, s1 := draw("first")
		k2, v2, s2 := draw("second")
		if same := k1 == k2 && v1 == v2 && s1 == s2; same != (id(k1, v1, s1) == id(k2, v2, s2)) {
			t.Fatalf("(%s %s %s) and (%s %s %s)", k1, v1, s1, k2, v2, s2)
		}
	})
}

func TestS3AtTheLimit(t *testing.T) {
	got, err := events.Decode(events.Input{Body: s3Notification(events.MaxBatchEvents)})
	if err != nil || len(got.Events) != events.MaxBatchEvents {
		t.Errorf("%d events, %v", len(got.Events), err)
	}
}

// TestS3OddBucket holds a name of the days before buckets were part of host names, which is no part of a URI.
func TestS3OddBucket(t *testing.T) {
	got, err := events.Decode(events.Input{Body: `{"Records":[` + strings.Replace(s3Record("k", "1"), `"name":"b"`, `"name":"My Bücket"`, 1) + `]}`})
	if err != nil || got.Events[0].Source != "aws%3As3.us-west-2.My%20B%C3%BCcket" {
		t.Errorf("%+v, %v", got.Events, err)
	}
}

// TestS3EveryBadRecordIsReported has two broken records and a good one between them.
func TestS3EveryBadRecordIsReported(t *testing.T) {
	bad := strings.Replace(s3Record("k", "1"), `"eventName":"ObjectCreated:Put"`, `"eventName":7`, 1)
	_, err := events.Decode(events.Input{Body: `{"Records":[` + bad + `,` + s3Record("k", "1") + `,` + strings.Replace(s3Record("k", "1"), "00.123Z", "x", 1) + `]}`})
	var invalid *events.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Others) != 1 || invalid.Field != "Records[0].eventName" || invalid.Others[0].Field != "Records[2].eventTime" {
		t.Errorf("%v", err)
	}
}

// TestLambdaTypesAgree reads the samples of SNS and S3 with the types of aws-lambda-go.
func TestLambdaTypesAgree(t *testing.T) {
	compared := 0
	for _, s := range samples.Valid() {
		body := s.Body
		switch {
		case s.Want.Form == events.FormSNS && s.Want.Inner == events.FormS3:
			var entity lambda.SNSEntity
			if err := json.Unmarshal([]byte(body), &entity); err != nil {
				t.Fatal(err)
			}
			body = entity.Message
		case s.Want.Form != events.FormS3:
			continue
		}
		var theirs lambda.S3Event
		if err := json.Unmarshal([]byte(body), &theirs); err != nil {
			t.Fatal(err)
		}
		ours, err := events.Decode(s.Input())
		if err != nil || len(ours.Events) != len(theirs.Records) {
			t.Fatalf("%s: %d events for %d records, %v", s.Name, len(ours.Events), len(theirs.Records), err)
		}
		for i, r := range theirs.Records {
			e := ours.Events[i]
			at, err := time.Parse(time.RFC3339, e.Time)
			if err != nil || !at.Equal(r.EventTime) || e.Subject != r.S3.Object.Key || e.Type != "com.amazonaws.s3."+r.EventName ||
				e.Source != r.EventSource+"."+r.AWSRegion+"."+r.S3.Bucket.Name || e.Extensions["region"] != r.AWSRegion {
				t.Errorf("%s: %+v for %+v", s.Name, e, r)
			}
			var record lambda.S3EventRecord
			if err := json.Unmarshal(e.Data, &record); err != nil || record.S3.Object.Sequencer != r.S3.Object.Sequencer {
				t.Errorf("%s: data is not the record: %v", s.Name, err)
			}
			compared++
		}
	}
	if compared < 5 {
		t.Errorf("only %d records were compared", compared)
	}
}

// TestEnvelopesAreLinear gives bodies of 1 MiB with as many members, records and attributes as fit. Work that grew with
// their square would not end before the test times out.
func TestEnvelopesAreLinear(t *testing.T) {
	fill := func(head, unit, tail string) string {
		return head + strings.Repeat(unit, (events.MaxMessageBytes-len(head)-len(tail))/len(unit)) + tail
	}
	for _, body := range []string{
		fill(`{"Records":[`, `[`, ``),
		fill(`{"Records":[{"eventSource":"aws:s3"}`, `,{}`, `]}`),
		fill(`{"Records":[1`, `,1`, `,{"eventSource":"aws:s3"}]}`),
		fill(`{"Records":[{"eventSource":"aws:s3","s3":{"a":1`, `,"a":1`, `}}]}`),
		fill(`{"Event":"s3:TestEvent"`, `,"Event":1`, `}`),
		fill(`{"Type":"Notification","TopicArn":"arn:aws:sns:r:1:t","Message":"x","MessageAttributes":{"a":1`, `,"b":{"Type":"String","Value":"1"}`, `}}`),
		fill(`{"Type":"Notification","TopicArn":"arn:aws:sns:r:1:t","Message":"`, `\"`, `"}`),
	} {
		if len(body) < events.MaxMessageBytes-100 {
			t.Errorf("only %d bytes", len(body))
		}
		_, err := events.Decode(events.Input{MessageID: "1", QueueARN: samples.QueueARN, Body: body})
		if err != nil && len(err.Error()) > 4096 {
			t.Errorf("%d bytes of error", len(err.Error()))
		}
	}
}
