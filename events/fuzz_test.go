package events_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/events/samples"
)

// FuzzDecode throws anything at Decode. It must not panic, must say the same twice, must give valid
// events with a tenant whose payload is part of the message, and must refuse with a bounded *InvalidError.
func FuzzDecode(f *testing.F) {
	for _, s := range append(samples.Valid(), samples.Invalid()...) {
		if len(s.Body) > 10_000 {
			continue
		}
		name, value, rest := "", "", ""
		for n, a := range s.Attributes {
			name, value, rest = n, a.StringValue, rest+n+"="+a.StringValue+"\n"
		}
		f.Add(s.Body, name, value, rest, s.GroupID, s.Tenant)
	}
	f.Fuzz(func(t *testing.T, body, name, value, rest, group, pinned string) {
		in := events.Input{MessageID: samples.MessageID, QueueARN: samples.QueueARN, Body: body, GroupID: group, Tenant: pinned, Attributes: map[string]events.Attribute{}}
		for line := range strings.Lines(rest) {
			n, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			in.Attributes[n] = events.Attribute{DataType: "String", StringValue: v}
		}
		if name != "" {
			in.Attributes[name] = events.Attribute{DataType: "String", StringValue: value}
		}
		got, err := events.Decode(in)
		again, errAgain := events.Decode(in)
		if !reflect.DeepEqual(got, again) || !reflect.DeepEqual(err, errAgain) {
			t.Fatalf("not the same twice: %+v, %v and %+v, %v", got, err, again, errAgain)
		}
		if err != nil {
			checkRefusal(t, got, err)
			return
		}
		if len(got.Events)+got.Dropped == 0 || got.Form == "" || (got.Form == events.FormSNS) != (got.Inner != "") {
			t.Fatalf("neither events nor error, or no form: %+v", got)
		}
		for i := range got.Events {
			checkDecoded(t, in, got.Form, &got.Events[i])
		}
	})
}

func checkRefusal(t *testing.T, got events.Decoded, err error) {
	t.Helper()
	var invalid *events.InvalidError
	if !errors.As(err, &invalid) || !errors.Is(err, events.ErrInvalid) || invalid.Code == "" || invalid.Problem == "" || invalid.Fix == "" {
		t.Fatalf("refused with %#v", err)
	}
	if len(err.Error()) > 8192 || len(got.Events) != 0 {
		t.Fatalf("%d bytes of message, %d events", len(err.Error()), len(got.Events))
	}
}

func checkDecoded(t *testing.T, in events.Input, form events.Form, e *events.Event) {
	t.Helper()
	if err := e.Validate(); err != nil || e.Tenant() == "" {
		t.Fatalf("decoded, but tenant %q and %v", e.Tenant(), err)
	}
	if in.Tenant != "" && e.Tenant() != in.Tenant {
		t.Fatalf("tenant %q, although %q is pinned", e.Tenant(), in.Tenant)
	}
	switch {
	case form == events.FormRaw || form == events.FormBinary:
		if string(e.Data) != in.Body {
			t.Fatalf("payload %q is not the body %q", e.Data, in.Body)
		}
	case form == events.FormSNS: // the payload is in the body, but behind escapes
		if !strings.Contains(in.Body, `\`) && !strings.Contains(in.Body, string(e.Data)) {
			t.Fatalf("payload %q is not in the body %q", e.Data, in.Body)
		}
	case form == events.FormEventBridge || form == events.FormS3 || e.DataContentType == "application/json":
		if !strings.Contains(in.Body, `"data_base64"`) && !strings.Contains(in.Body, string(e.Data)) && !strings.Contains(in.Body, `\u`) {
			t.Fatalf("payload %q is not in the body %q", e.Data, in.Body)
		}
	}
	printed, err := e.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := events.Decode(events.Input{Body: string(printed)})
	if err != nil || !equal(again.Events[0], *e) {
		if len(printed) <= events.MaxMessageBytes {
			t.Fatalf("%v: printed as %s, read as %+v, was %+v", err, printed, again, e)
		}
	}
}
