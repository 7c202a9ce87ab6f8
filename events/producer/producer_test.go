package producer_test

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/events/producer"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

func TestNewDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, errA := producer.New("/s", "t")
		b, errB := producer.New("/s", "t")
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a.ID == b.ID || len(a.ID) < 20 {
			t.Errorf("ids %q and %q", a.ID, b.ID)
		}
		if want := time.Now().UTC().Format(time.RFC3339Nano); a.Time != want {
			t.Errorf("time %s, want %s", a.Time, want)
		}
		if a.Source != "/s" || a.Type != "t" || a.Tenant() != "" || a.Data != nil || a.DataContentType != "" || a.Subject != "" || a.DataSchema != "" {
			t.Errorf("%+v", a)
		}
	})
}

func TestOptions(t *testing.T) {
	data := []byte(` {"total": 1.0} `)
	e, err := producer.New("/s", "t", producer.ID("i"), producer.Tenant("acme"), producer.Subject("order/1"), producer.Schema("https://example.com/s.json"),
		producer.At(time.Date(2026, 11, 22, 11, 0, 0, 5e8, time.FixedZone("", 3600))), producer.Extension("region", "eu"), producer.JSON(1), producer.Data("application/json", data))
	if err != nil {
		t.Fatal(err)
	}
	data[0] = 'X'
	if e.ID != "i" || e.Tenant() != "acme" || e.Subject != "order/1" || e.DataSchema != "https://example.com/s.json" || e.Time != "2026-11-22T11:00:00.5+01:00" ||
		e.Extensions["region"] != "eu" || string(e.Data) != ` {"total": 1.0} ` || e.DataContentType != "application/json" {
		t.Errorf("%+v", e)
	}
	if e, err = producer.New("/s", "t", producer.At(time.Time{}), producer.JSON("<&>")); err != nil || e.Time != "" || string(e.Data) != `"<&>"` || e.DataContentType != "application/json" {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, source, typ string
		options           []producer.Option
		says              []string
		invalid           bool
	}{
		{"everything that is wrong", "a b", "", []producer.Option{producer.ID("A-1")}, []string{`event "A-1"`, "source", "type is missing"}, true},
		{"an empty id", "/s", "t", []producer.Option{producer.ID("")}, []string{`event ""`, "id is missing"}, true},
		{"an empty tenant", "/s", "t", []producer.Option{producer.ID("A-1"), producer.Tenant("")}, []string{`event "A-1"`, "tenant is empty", "leave Tenant out"}, false},
		{"a long tenant", "/s", "t", []producer.Option{producer.Tenant(strings.Repeat("t", 129))}, []string{"tenant has 129 bytes", "at most 128"}, true},
		{"an extension's name", "/s", "t", []producer.Option{producer.Extension("Region", "eu")}, []string{"Region", "lower-case"}, true},
		{"a relative schema", "/s", "t", []producer.Option{producer.Schema("s.json")}, []string{"dataschema", "absolute"}, true},
		{"a year that RFC 3339 does not have", "/s", "t", []producer.Option{producer.At(time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC))}, []string{"time"}, true},
		{"a content type", "/s", "t", []producer.Option{producer.Data("json", nil)}, []string{"datacontenttype"}, true},
		{"what JSON cannot say", "/s", "", []producer.Option{producer.ID("A-1"), producer.JSON(math.NaN())}, []string{`event "A-1"`, "cannot be written as JSON", "type is missing"}, true},
		{"an id without end", "/s", "", []producer.Option{producer.ID(strings.Repeat("\n", 1000))}, []string{`event "\n\n`, "control character"}, true},
	} {
		e, err := producer.New(tt.source, tt.typ, tt.options...)
		var named *producer.Error
		if !errors.As(err, &named) || named.Index != -1 || errors.Is(err, events.ErrInvalid) != tt.invalid {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		for _, s := range tt.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not say %q", tt.name, err, s)
			}
		}
		if len(err.Error()) > 1000 || e.ID != "" {
			t.Errorf("%s: %d bytes, event %+v", tt.name, len(err.Error()), e)
		}
	}
}

// sized is an event whose message has exactly that many bytes.
func sized(t interface{ Fatal(...any) }, id string, bytes int) events.Event {
	e := events.Event{ID: id, Source: "/s", Type: "t", DataContentType: "text/plain", Data: []byte{}}
	m, err := producer.NewMessage(e)
	if err != nil {
		t.Fatal(err)
	}
	e.Data = []byte(strings.Repeat("x", bytes-len(m.Body)))
	return e
}

func TestMessageAtTheLimit(t *testing.T) {
	m, err := producer.NewMessage(sized(t, "A-1", events.MaxMessageBytes))
	if err != nil || len(m.Body) != 1<<20 {
		t.Fatalf("%d bytes, %v", len(m.Body), err)
	}
	if _, err := events.Decode(events.Input{Body: m.Body}); err != nil {
		t.Error(err)
	}
	m, err = producer.NewMessage(sized(t, "A-1", events.MaxMessageBytes+1))
	var invalid *events.InvalidError
	if !errors.As(err, &invalid) || invalid.Code != events.CodeTooLarge || m != (producer.Message{}) {
		t.Fatalf("%d bytes, %v", len(m.Body), err)
	}
	for _, s := range []string{`event "A-1"`, "1048577", "1048576"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %s", err, s)
		}
	}
}

func TestGroupID(t *testing.T) {
	long := strings.Repeat("t", events.MaxTenantBytes)
	for _, tt := range []struct{ tenant, group, arrives string }{
		{"", "default", "default"},
		{"acme", "acme", "acme"},
		{"!~", "!~", "!~"},
		{long, long, long},
		{"acme inc", "346296589bef024731215d629d8fb29fc53fb421489e81224d21e62a905543f2", "acme inc"},
		{"Bücher", "a74462dfa46630c61e668daa16e10424544370b39403a3e61a670559a1fa4b61", "Bücher"},
	} {
		e := events.Event{ID: "1", Source: "/s", Type: "t"}
		if tt.tenant != "" {
			e.Extensions = map[string]string{"tenant": tt.tenant}
		}
		m, err := producer.NewMessage(e)
		if err != nil || m.GroupID != tt.group {
			t.Errorf("tenant %q: group %q, want %q (%v)", tt.tenant, m.GroupID, tt.group, err)
		}
		got, err := events.Decode(events.Input{Body: m.Body, GroupID: m.GroupID})
		if err != nil || got.Events[0].Tenant() != tt.arrives {
			t.Errorf("tenant %q arrives as %q, %v", tt.tenant, got.Events[0].Tenant(), err)
		}
	}
}

func TestBatchesAtTheLimits(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name  string
		bytes []int
		want  []int // entries of each batch
	}{
		{"none", nil, nil},
		{"one", []int{200}, []int{1}},
		{"ten", slices.Repeat([]int{200}, 10), []int{10}},
		{"eleven", slices.Repeat([]int{200}, 11), []int{10, 1}},
		{"one of 1 MiB", []int{mib}, []int{1}},
		{"two of 1 MiB", []int{mib, mib}, []int{1, 1}},
		{"1 MiB together", []int{mib - 500, 300, 200}, []int{3}},
		{"a byte more", []int{mib - 500, 300, 201}, []int{2, 1}},
		{"the large one in the middle", []int{200, mib, 200, 200}, []int{1, 1, 2}},
		{"the large one last", []int{200, 200, mib}, []int{2, 1}},
		{"ten that fill it", append(slices.Repeat([]int{mib / 10}, 9), mib-mib/10*9), []int{10}},
		{"ten that do not fit", append(slices.Repeat([]int{mib / 10}, 9), mib-mib/10*9+1), []int{9, 1}},
	} {
		var list []events.Event
		for _, n := range tt.bytes {
			list = append(list, sized(t, "i", n))
		}
		batches, err := producer.Batches(list)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, b := range batches {
			got = append(got, len(b))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestBatchesKeepEverything draws lists: all events, in order, in as few batches as the order allows.
func TestBatchesKeepEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(150, 1000), rapid.IntRange(100_000, 1<<20)), 0, 25).Draw(t, "sizes")
		list := make([]events.Event, len(sizes))
		for i, n := range sizes {
			list[i] = sized(t, "i", n)
		}
		batches, err := producer.Batches(list)
		if err != nil {
			t.Fatal(err)
		}
		next, room := 0, -1
		for _, batch := range batches {
			if len(batch) == 0 || len(batch) > 10 {
				t.Fatalf("%d entries", len(batch))
			}
			if room >= 0 && len(batch[0].Body) <= room {
				t.Fatalf("entry %s would have fitted into the batch before", batch[0].ID)
			}
			room = 1 << 20
			for _, entry := range batch {
				if entry.Index != next || len(entry.Body) != sizes[next] {
					t.Fatalf("entry %+.100v, want event %d", entry, next)
				}
				next++
				room -= len(entry.Body)
			}
			if room < 0 {
				t.Fatalf("%d bytes too many", -room)
			}
			if len(batch) == 10 {
				room = -1
			}
		}
		if next != len(list) {
			t.Fatalf("%d of %d events", next, len(list))
		}
	})
}

func TestBatchesNameWhatTheyRefuse(t *testing.T) {
	list := []events.Event{
		{ID: "good", Source: "/s", Type: "t"},
		{ID: "no-type", Source: "/s"},
		{Source: "/s", Type: "t"},
		sized(t, "huge", 1<<20+1),
	}
	batches, err := producer.Batches(list)
	if batches != nil {
		t.Errorf("%d batches beside an error", len(batches))
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%v", err)
	}
	var indices []int
	for _, one := range joined.Unwrap() {
		var named *producer.Error
		if !errors.As(one, &named) || !errors.Is(one, events.ErrInvalid) {
			t.Fatalf("%v", one)
		}
		indices = append(indices, named.Index)
	}
	if !slices.Equal(indices, []int{1, 2, 3}) {
		t.Errorf("refused %v", indices)
	}
	for _, s := range []string{`event 1 (id "no-type")`, `event 2 (id "")`, `event 3 (id "huge")`, "type is missing", "too-large"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

// TestSQSTakesEveryBatch sends batches, at the limits of SQS, to the local SQS, which has them too, and decodes what arrives.
func TestSQSTakesEveryBatch(t *testing.T) {
	var arrived []sqs.Message
	service := sqs.New(sqs.Options{OnSend: func(_ string, m sqs.Message) { arrived = append(arrived, m) }})
	do := func(op string, in any) []byte {
		t.Helper()
		document, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		out, err := service.Do(t.Context(), op, document)
		if err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		return out.Body
	}
	do("CreateQueue", map[string]any{"QueueName": "ingress"})

	list := []events.Event{sized(t, "0", 1<<20), sized(t, "1", 1<<19), sized(t, "2", 1<<19)}
	for _, option := range []producer.Option{
		producer.Tenant("Bücher & Söhne"), producer.Tenant(strings.Repeat("t", events.MaxTenantBytes)), producer.Subject("\u2028é"), producer.Data("", []byte("\ufffe\x00")),
		producer.Data("text/plain", []byte("\uffff\x1b")), producer.JSON("\uffff"), producer.Data("application/json", []byte(" {\"n\" : 1.0}\n")),
		producer.Data("image/png", []byte{0xff, 0}), producer.JSON(nil), producer.Extension("lane", ""), producer.At(time.Time{}), producer.Schema("urn:s"),
	} {
		e, err := producer.New("/s", "t", option)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	batches, err := producer.Batches(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range batches {
		var entries []map[string]string
		for _, e := range batch {
			entries = append(entries, map[string]string{"Id": e.ID, "MessageBody": e.Body, "MessageGroupId": e.GroupID})
		}
		var answer struct {
			Successful, Failed []json.RawMessage
		}
		out := do("SendMessageBatch", map[string]any{"QueueUrl": "http://127.0.0.1:4566/000000000000/ingress", "Entries": entries})
		if err := json.Unmarshal(out, &answer); err != nil || len(answer.Failed) > 0 || len(answer.Successful) != len(batch) {
			t.Fatalf("%s, %v", out, err)
		}
	}
	if len(arrived) != len(list) {
		t.Fatalf("%d of %d arrived", len(arrived), len(list))
	}
	for i, m := range arrived {
		got, err := events.Decode(events.Input{Body: m.Body, GroupID: m.Attributes["MessageGroupId"]})
		if err != nil || got.Form != events.FormCloudEvent {
			t.Fatalf("event %d: %v", i, err)
		}
		e, want := got.Events[0], list[i]
		if e.ID != want.ID || string(e.Data) != string(want.Data) || (e.Data == nil) != (want.Data == nil) || e.Time != want.Time || want.Tenant() != "" && e.Tenant() != want.Tenant() || want.Tenant() == "" && e.Tenant() != "default" {
			t.Errorf("event %d: %+.200v, want %+.200v", i, e, want)
		}
	}
}
