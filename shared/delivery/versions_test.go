package delivery_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/delivery/samples"
)

// sampleMessages are what the samples of the current version hold. Together they set every field, so that one that is added is added here, and to a sample, too.
func sampleMessages() map[string]delivery.Message {
	at := func(seconds int) time.Time {
		return time.UnixMilli(1795341598123).Add(time.Duration(seconds) * time.Second)
	}
	event := events.Event{
		ID: "A-1001", Source: "/shop/orders", Type: "order.created", Subject: "order/1001", DataContentType: "application/json",
		DataSchema: "https://shop.example/order.json", Time: "2026-11-22T09:59:58.123Z", Extensions: map[string]string{"tenant": "acme", "region": "eu"},
		Data: []byte(`{"b": 1.0, "a": [9007199254740993, "<é>"]}`),
	}
	full := delivery.Message{
		Delivery: delivery.NewID("acme", "/shop/orders", "A-1001", "crm"), Destination: "crm", Epoch: 3, Attempt: 4, Replay: true, NewID: true, IDEpoch: 2,
		Event: event, AcceptedAt: at(0), DueAt: at(7200), Waited: 95 * time.Second, HeldSince: at(60), Probes: 2,
	}
	text, binary, outcome, turn := full, full, full, full
	turn.Turn = at(7201)
	text.Event.Data = []byte("plain, <text> \ufffe\uffff")
	binary.Event.Data = []byte{0, 0xff, 1}
	first := delivery.Message{
		Delivery: delivery.NewID("default", "/shop/orders", "A-1001", "crm"), Destination: "crm", Attempt: 1, AcceptedAt: at(0),
		Event: events.Event{ID: "A-1001", Source: "/shop/orders", Type: "order.created", Data: []byte(`{"total":19.90}`)},
	}
	outcome.Outcome = &delivery.Outcome{Owner: "9f2c", Unclaimed: true, State: "dead", Code: 410, Reason: "http-410"}
	return map[string]delivery.Message{"v1": full, "v1-text": text, "v1-binary": binary, "v1-first": first, "v1-outcome": outcome, "v1-zip": full, "v1-turn": turn}
}

// What lies on a queue when a release begins was written by the one before it. Its messages read as what they meant then, and whatever this release
// writes is what this version says: to write anything else, raise delivery.Version, and keep these files.
func TestMessagesOfEveryVersionAreRead(t *testing.T) {
	want, names := sampleMessages(), map[string]bool{}
	for _, s := range samples.All() {
		names[s.Name] = true
		got, err := delivery.Decode(s.Body)
		switch {
		case s.Version > delivery.Version:
			if !errors.Is(err, delivery.ErrNewer) {
				t.Errorf("%s: %v, want that it is newer", s.Name, err)
			}
			continue
		case err != nil:
			t.Errorf("%s: %v", s.Name, err)
			continue
		case s.Version < delivery.Version:
			continue // what became of it is for the test of its own version's release
		}
		if !reflect.DeepEqual(got, want[s.Name]) {
			t.Errorf("%s reads as\n%+v, want\n%+v", s.Name, got, want[s.Name])
		}
		if strings.HasSuffix(s.Name, "-first") || strings.HasSuffix(s.Name, "-zip") {
			continue // written by older code, and by a compressor that may change its mind
		}
		if text, err := got.Encode(delivery.MaxBytes); err != nil || text != s.Body {
			t.Errorf("%s is written differently now; a change of format needs a new delivery.Version and new samples beside the old ones:\n%s\n%s", s.Name, text, s.Body)
		}
	}
	for v := 1; v <= delivery.Version; v++ {
		if name := fmt.Sprintf("v%d-first", v); !names[name] {
			t.Errorf("there is no sample %s: add what the first release of this version writes", name)
		}
	}
	if name := fmt.Sprintf("v%d", delivery.Version+1); !names[name] {
		t.Errorf("there is no sample %s: add what a later release might write", name)
	}
}

// A field that no sample sets could be renamed or dropped unnoticed.
func TestSamplesSetEveryField(t *testing.T) {
	unset := map[string]bool{}
	var look func(at string, values []reflect.Value)
	look = func(at string, values []reflect.Value) {
		var set []reflect.Value
		for _, v := range values {
			if v.Kind() == reflect.Pointer && !v.IsNil() {
				v = v.Elem()
			}
			if !v.IsZero() {
				set = append(set, v)
			}
		}
		if len(set) == 0 {
			unset[at] = true
			return
		}
		if set[0].Kind() != reflect.Struct || set[0].Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range set[0].NumField() {
			var fields []reflect.Value
			for _, v := range set {
				fields = append(fields, v.Field(i))
			}
			look(at+"."+set[0].Type().Field(i).Name, fields)
		}
	}
	var all []reflect.Value
	for _, m := range sampleMessages() {
		all = append(all, reflect.ValueOf(m))
	}
	look("Message", all)
	for field := range unset {
		t.Errorf("no sample sets %s", field)
	}
	names := map[string]bool{}
	for _, s := range samples.All() {
		names[s.Name] = true
	}
	for name := range sampleMessages() {
		if !names[name] {
			t.Errorf("there is no file %s.json", name)
		}
	}
}

// A sample for another event differs in nothing but its ids.
func TestSamplesForOtherEvents(t *testing.T) {
	for _, s := range samples.All() {
		body, err := s.For("acme", "B-1", "shop")
		if err != nil {
			t.Errorf("%s: %v", s.Name, err)
			continue
		}
		m, err := delivery.Decode(body)
		if s.Version > delivery.Version || strings.HasSuffix(s.Name, "-zip") {
			if (s.Version > delivery.Version) != errors.Is(err, delivery.ErrNewer) {
				t.Errorf("%s: %v", s.Name, err)
			}
			continue
		}
		was := sampleMessages()[s.Name]
		if err != nil || m.Delivery != delivery.NewID("acme", was.Event.Source, "B-1", "shop") || m.Event.ID != "B-1" || m.Destination != "shop" || m.Event.Tenant() != "acme" {
			t.Errorf("%s became %+v: %v", s.Name, m, err)
		}
		if m.Attempt != was.Attempt || m.Waited != was.Waited || (m.Outcome == nil) != (was.Outcome == nil) {
			t.Errorf("%s changed more than its ids: %+v", s.Name, m)
		}
	}
}
