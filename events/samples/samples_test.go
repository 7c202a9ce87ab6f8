package samples_test

import (
	"strings"
	"testing"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/events/samples"
)

// TestSamplesAreComplete loads every file, which panics on a broken one, and checks that each says why it exists and what it expects.
func TestSamplesAreComplete(t *testing.T) {
	valid, invalid := samples.Valid(), samples.Invalid()
	for _, s := range append(valid, invalid...) {
		if s.Name == "" || strings.Contains(s.Name, ".") || s.About == "" || s.Body == "" {
			t.Errorf("%+.200v: needs a name, a reason and a body", s)
		}
		if s.Valid != (len(s.Want.Events)+s.Want.Dropped > 0) || s.Valid != (s.Want.Code == "") {
			t.Errorf("%s: expects %+v", s.Name, s.Want)
		}
	}
	if len(valid) < 30 || len(invalid) < 60 {
		t.Errorf("%d valid, %d invalid samples", len(valid), len(invalid))
	}
}

// TestSendable names the few samples that only exist inside Waybill.
func TestSendable(t *testing.T) {
	var kept []string
	for _, s := range append(samples.Valid(), samples.Invalid()...) {
		if !s.Sendable() {
			kept = append(kept, s.Name)
		}
	}
	if got := strings.Join(kept, " "); got != "cloudevent-pinned-tenant json-resent sns-pinned-tenant sns-resent too-large" {
		t.Errorf("not sendable: %s", got)
	}
}

func TestSamplesAreTheCallersOwn(t *testing.T) {
	first := samples.Valid()
	for i := range first {
		first[i].Body = ""
		if first[i].Attributes != nil {
			first[i].Attributes["ce-id"] = events.Attribute{}
		}
	}
	for _, s := range samples.Valid() {
		if a, ok := s.Attributes["ce-id"]; s.Body == "" || ok && a.StringValue == "" {
			t.Errorf("%s follows an earlier copy", s.Name)
		}
	}
}
