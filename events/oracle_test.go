package events_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/events/samples"
)

// disagreement compares an event with what the CloudEvents Go SDK read from the same text.
func disagreement(e events.Event, sdk cloudevents.Event) error {
	if err := sdk.Validate(); err != nil {
		return fmt.Errorf("the SDK finds it invalid: %w", err)
	}
	leading := "" // the SDK keeps the white space between the colon and a JSON value
	if !sdk.DataBase64 && len(e.Data) > 0 && json.Valid(e.Data) && e.Data[0] > ' ' {
		leading = " \n\t\r"
	}
	for _, f := range []struct{ name, ours, theirs string }{
		{"specversion", events.SpecVersion, sdk.SpecVersion()},
		{"id", e.ID, sdk.ID()},
		{"source", normalURI(e.Source), sdk.Source()},
		{"type", e.Type, sdk.Type()},
		{"subject", e.Subject, sdk.Subject()},
		{"datacontenttype", e.DataContentType, sdk.DataContentType()},
		{"dataschema", normalURI(e.DataSchema), sdk.DataSchema()},
		{"data", string(e.Data), strings.TrimLeft(string(sdk.Data()), leading)},
	} {
		if f.ours != f.theirs {
			return fmt.Errorf("%s is %q, for the SDK %q", f.name, f.ours, f.theirs)
		}
	}
	ours := time.Time{}
	if e.Time != "" {
		var err error
		if ours, err = time.Parse(time.RFC3339Nano, e.Time); err != nil {
			return err
		}
	}
	if !ours.Equal(sdk.Time()) {
		return fmt.Errorf("time is %s, for the SDK %s", ours, sdk.Time())
	}
	theirs := sdk.Extensions()
	if len(theirs) != len(e.Extensions) {
		return fmt.Errorf("extensions are %v, for the SDK %v", e.Extensions, theirs)
	}
	for name, value := range e.Extensions {
		text, err := types.Format(theirs[name])
		if err != nil || text != value {
			return fmt.Errorf("extension %s is %q, for the SDK %q (%w)", name, value, text, err)
		}
	}
	return nil
}

// normalURI writes a URI as the SDK does, which parses and prints it.
func normalURI(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return err.Error()
	}
	return u.String()
}

// TestSDKReadsWhatAppendJSONPrints proves that other CloudEvents software understands our output.
func TestSDKReadsWhatAppendJSONPrints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent().Draw(t, "event")
		if strings.Contains(string(e.Data), "E+400") {
			t.Skip("the SDK's parser knows no numbers beyond float64")
		}
		printed, err := e.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		var sdk cloudevents.Event
		if err := json.Unmarshal(printed, &sdk); err != nil {
			t.Fatalf("the SDK refuses it: %v\n%s", err, printed)
		}
		if err := disagreement(e, sdk); err != nil {
			t.Fatalf("%v\n%s", err, printed)
		}
	})
}

// TestDecodeAgreesWithSDK has the SDK print events, singly and as a batch, and both sides read them.
func TestDecodeAgreesWithSDK(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := make([]cloudevents.Event, rapid.IntRange(1, 4).Draw(t, "count"))
		for i := range all {
			all[i] = sdkEvent(t)
		}
		body, err := json.Marshal(all)
		if err != nil {
			t.Skip("the SDK cannot print it")
		}
		checkAgreement(t, body, true)
		if body, err = json.Marshal(all[0]); err != nil {
			t.Fatal(err)
		}
		checkAgreement(t, body, false)
	})
}

type fataler interface{ Fatalf(string, ...any) }

func checkAgreement(t fataler, body []byte, batch bool) {
	var read []cloudevents.Event
	var err error
	if batch {
		err = json.Unmarshal(body, &read)
	} else {
		read = make([]cloudevents.Event, 1)
		err = json.Unmarshal(body, &read[0])
	}
	if err != nil {
		t.Fatalf("the SDK refuses: %v\n%s", err, body)
	}
	got, err := events.Decode(events.Input{Body: string(body)})
	if err != nil || len(got.Events) != len(read) {
		t.Fatalf("%d events, %v\n%s", len(got.Events), err, body)
	}
	for i, e := range got.Events {
		if _, named := read[i].Extensions()[events.TenantExtension]; !named {
			delete(e.Extensions, events.TenantExtension) // Decode added it
		}
		if err := disagreement(e, read[i]); err != nil {
			t.Fatalf("event %d: %v\n%s", i, err, body)
		}
	}
}

// sdkEvent draws an event that the SDK builds and prints by itself.
func sdkEvent(t *rapid.T) cloudevents.Event {
	e := cloudevents.New()
	e.SetID(anyText().Draw(t, "id"))
	e.SetSource(rapid.SampledFrom([]string{"/orders", "urn:example:a", "https://h.example/p?q=1#f"}).Draw(t, "source"))
	e.SetType(anyText().Draw(t, "type"))
	if rapid.Bool().Draw(t, "optional") {
		e.SetSubject(anyText().Draw(t, "subject"))
		e.SetTime(time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")))
		e.SetDataSchema("https://example.com/schema")
	}
	e.SetExtension("xstring", anyText().Draw(t, "string"))
	e.SetExtension("xint", rapid.Int32().Draw(t, "int"))
	e.SetExtension("xbool", rapid.Bool().Draw(t, "bool"))
	if rapid.Bool().Draw(t, "tenant") {
		e.SetExtension("tenant", "acme")
	}
	var err error
	switch rapid.SampledFrom([]string{"none", "json", "text", "bytes"}).Draw(t, "data") {
	case "json":
		err = e.SetData("application/json", rapid.MapOf(rapid.String(), rapid.Float64()).Draw(t, "json"))
	case "text":
		err = e.SetData("text/plain", anyText().Draw(t, "text"))
	case "bytes":
		err = e.SetData("application/octet-stream", rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "bytes"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSDKAgreesOnStructuredSamples(t *testing.T) {
	compared := 0
	for _, s := range samples.Valid() {
		if s.Want.Form == events.FormCloudEvent && s.Tenant == "" || s.Want.Form == events.FormBatch {
			checkAgreement(t, []byte(s.Body), s.Want.Form == events.FormBatch)
			compared++
		}
	}
	if compared < 5 {
		t.Errorf("only %d samples were compared", compared)
	}
}
