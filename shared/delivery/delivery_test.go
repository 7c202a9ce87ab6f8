package delivery_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/queue"
)

func message(data []byte) delivery.Message {
	return delivery.Message{
		Delivery: delivery.NewID("acme", "/shop", "1", "crm"), Destination: "crm", Epoch: 2, Attempt: 3, Replay: true, NewID: true, IDEpoch: 1,
		Event: events.Event{ID: "1", Source: "/shop", Type: "order.created", Subject: "s", DataContentType: "application/json", DataSchema: "urn:x",
			Time: "2026-01-02T03:04:05Z", Extensions: map[string]string{"tenant": "acme"}, Data: data},
		AcceptedAt: time.UnixMilli(1_700_000_000_123), DueAt: time.UnixMilli(1_700_000_900_000), HeldSince: time.UnixMilli(1_700_000_000_500),
		Waited: 90 * time.Second, Probes: 1,
		Outcome: &delivery.Outcome{Owner: "o", Unclaimed: true, State: "waiting", Code: 503, Reason: "http-503"},
	}
}

func roundTrip(t interface{ Fatalf(string, ...any) }, m delivery.Message) {
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	got, err := delivery.Decode(body)
	if err != nil {
		t.Fatalf("decode %.200q: %v", body, err)
	}
	if !reflect.DeepEqual(got, m) {
		t.Fatalf("got %+v, want %+v", got, m)
	}
	for _, r := range body {
		if (r < 0x20 && r != '\t' && r != '\n' && r != '\r') || r == 0xFFFD || r == 0xFFFE || r == 0xFFFF {
			t.Fatalf("SQS refuses %U in a body, or bytes were replaced", r)
		}
	}
}

func TestPayloadBytesSurvive(t *testing.T) {
	for name, data := range map[string][]byte{
		"absent":                    nil,
		"empty":                     {},
		"object, order and spaces":  []byte("{ \"b\" : 1.0,\n\t\"a\": 9007199254740993 }"),
		"what json.Marshal escapes": []byte(`{"html":"<b>&amp;</b>","sep":"` + "\u2028" + `"}`),
		"duplicate keys":            []byte(`{"a":1,"a":2}`),
		"null":                      []byte("null"),
		"number":                    []byte("1e400"),
		"string":                    []byte(`"text"`),
		"white space around":        []byte(" {\"a\":1}\n"),
		"space before":              []byte(" 1"),
		"space after":               []byte("1 "),
		"new line after":            []byte("1\n"),
		"text":                      []byte("total: 3 €\n"),
		"text with control":         []byte("a\x00b\x7f"),
		"non-characters":            []byte("\uFFFE\uFFFF"),
		"non-characters in JSON":    []byte("{\"a\":\"\uFFFE\"}"),
		"last one in JSON":          []byte("{\"a\":\"\uFFFF\"}"),
		"JSON that is not UTF-8":    []byte("{\"a\":\"\xff\"}"),
		"injection":                 []byte(`1,"delivery":"other"`),
		"closing":                   []byte(`{}},"v":9,"x":{`),
		"binary":                    {0xff, 0xfe, 0x00},
		"deep":                      []byte(strings.Repeat("[", 9500) + strings.Repeat("]", 9500)),
		"as deep as JSON goes":      []byte(strings.Repeat("[", 10000) + strings.Repeat("]", 10000)), // one level more would be refused
		"deeper than JSON":          []byte(strings.Repeat("[", 20000) + strings.Repeat("]", 20000)),
		"wide":                      []byte("[" + strings.Repeat("[],", 20000) + "[]]"),
	} {
		t.Run(name, func(t *testing.T) { roundTrip(t, message(data)) })
	}
}

func TestReplacementCharacterSurvives(t *testing.T) {
	m := message([]byte("{\"a\":\"\uFFFD\"}"))
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := delivery.Decode(body); err != nil || !bytes.Equal(got.Event.Data, m.Event.Data) {
		t.Fatalf("got %q, %v", got.Event.Data, err)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// The replacement character is left out only because roundTrip takes it for damage.
		text := rapid.StringOf(rapid.Rune().Filter(func(r rune) bool { return r != 0xFFFD }))
		m := message(rapid.OneOf(
			rapid.Map(text, func(s string) []byte { return []byte(s) }),
			rapid.SliceOf(rapid.Byte()),
			rapid.Map(text, func(s string) []byte { b, _ := json.Marshal(map[string]string{s: s}); return b }),
		).Draw(t, "data"))
		m.Event.ID, m.Event.Subject = text.Draw(t, "id"), text.Draw(t, "subject")
		m.Event.Extensions = rapid.MapOfN(rapid.StringMatching(`[a-z0-9]{1,5}`), text, 1, 4).Draw(t, "extensions")
		m.Epoch, m.Attempt = rapid.IntRange(0, 1000).Draw(t, "epoch"), rapid.IntRange(1, 1000).Draw(t, "attempt")
		m.Probes, m.IDEpoch = rapid.IntRange(0, m.Attempt-1).Draw(t, "probes"), rapid.IntRange(0, m.Epoch).Draw(t, "idEpoch")
		roundTrip(t, m)
	})
}

func TestLargeMessages(t *testing.T) {
	compressible := []byte(`{"lines":[` + strings.Repeat(`{"sku":"A-1","count":12,"note":"<none>"},`, 25_500) + `{}]}`)
	if len(compressible) < 1_040_000 {
		t.Fatalf("the sample has only %d bytes", len(compressible))
	}
	m := message(compressible)
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil || len(body) > delivery.MaxBytes {
		t.Fatalf("%d bytes, %v", len(body), err)
	}
	roundTrip(t, m)
	random := make([]byte, 786_000) // base64 of it fills 1 MiB
	_, _ = rand.Read(random)
	m = message([]byte(base64.StdEncoding.EncodeToString(random)))
	if body, err = m.Encode(delivery.MaxBytes); err != nil || len(body) <= delivery.MaxBytes {
		t.Fatalf("what does not compress cannot fit: %d bytes, %v", len(body), err)
	}
}

// What fits when it is first written must fit in every later form.
func TestReserveHoldsWhatIsAddedLater(t *testing.T) {
	m := delivery.Message{Delivery: delivery.NewID("t", "s", "i", "d"), Destination: "d", Attempt: 1, Event: events.Event{ID: "i", Source: "s", Type: "t"}}
	random := make([]byte, 1<<20)
	_, _ = rand.Read(random)
	text := base64.StdEncoding.EncodeToString(random)
	low, high := delivery.MaxBytes-4<<10, delivery.MaxBytes
	for low+1 < high { // the largest payload that fits
		mid := (low + high) / 2
		m.Event.Data = []byte(text[:mid])
		if body, err := m.Encode(delivery.MaxBytes); err == nil && len(body) <= delivery.MaxBytes {
			low = mid
		} else {
			high = mid
		}
	}
	m.Event.Data = []byte(text[:low])
	later := m.Restart()
	later.Epoch, later.Attempt, later.AcceptedAt, later.DueAt, later.HeldSince = 1e9, 1e9, time.Now(), time.Now(), time.Now()
	later.Waited, later.Probes, later.Replay, later.NewID, later.IDEpoch = 1e6*time.Hour, 1e9-1, true, true, 1e9
	later.Outcome = &delivery.Outcome{Owner: strings.Repeat("o", 64), Unclaimed: true, State: "delivered", Code: 599, Reason: strings.Repeat("r", 128)}
	body, err := later.Encode(delivery.MaxBytes)
	if err != nil || len(body) > queue.MaxBytes-1024 {
		t.Fatalf("%d bytes, %v: a note would not fit any more", len(body), err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	const event = `"event":{"id":"1","source":"s","type":"t"}`
	const whole = `{"v":1,"delivery":"x","destination":"d","attempt":1,` + event + `}`
	packed, err := base64.StdEncoding.DecodeString(zipped(t, whole))
	if err != nil {
		t.Fatal(err)
	}
	cutOff := base64.StdEncoding.EncodeToString(packed[:len(packed)-1]) // all of the text, without the last byte of its length
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"no JSON":            {"hello", delivery.ErrMalformed},
		"no version":         {`{"delivery":"x"}`, delivery.ErrMalformed},
		"version 0":          {`{"v":0}`, delivery.ErrMalformed},
		"version 0, whole":   {`{"v":0,"delivery":"x","destination":"d","attempt":1,` + event + `}`, delivery.ErrMalformed},
		"ours, ill-typed":    {`{"v":1,"delivery":"x","destination":"d","attempt":1,"dueAt":"soon",` + event + `}`, delivery.ErrMalformed},
		"version of text":    {`{"v":"2"}`, delivery.ErrMalformed},
		"newer":              {`{"v":2,"delivery":{"changed":true}}`, delivery.ErrNewer},
		"no delivery":        {`{"v":1,"destination":"d","attempt":1,` + event + `}`, delivery.ErrMalformed},
		"no destination":     {`{"v":1,"delivery":"x","attempt":1,` + event + `}`, delivery.ErrMalformed},
		"attempt 0":          {`{"v":1,"delivery":"x","destination":"d",` + event + `}`, delivery.ErrMalformed},
		"negative epoch":     {`{"v":1,"delivery":"x","destination":"d","attempt":1,"epoch":-1,` + event + `}`, delivery.ErrMalformed},
		"negative wait":      {`{"v":1,"delivery":"x","destination":"d","attempt":1,"waited":-1,` + event + `}`, delivery.ErrMalformed},
		"more probes":        {`{"v":1,"delivery":"x","destination":"d","attempt":2,"probes":2,` + event + `}`, delivery.ErrMalformed},
		"negative probes":    {`{"v":1,"delivery":"x","destination":"d","attempt":2,"probes":-1,` + event + `}`, delivery.ErrMalformed},
		"id of the future":   {`{"v":1,"delivery":"x","destination":"d","attempt":1,"epoch":1,"newId":true,"idEpoch":2,` + event + `}`, delivery.ErrMalformed},
		"id before all":      {`{"v":1,"delivery":"x","destination":"d","attempt":1,"epoch":1,"newId":true,"idEpoch":-1,` + event + `}`, delivery.ErrMalformed},
		"no event":           {`{"v":1,"delivery":"x","destination":"d","attempt":1}`, delivery.ErrMalformed},
		"strange outcome":    {`{"v":1,"delivery":"x","destination":"d","attempt":1,"outcome":{"owner":"o","state":"claimed"},` + event + `}`, delivery.ErrMalformed},
		"nobody's outcome":   {`{"v":1,"delivery":"x","destination":"d","attempt":1,"outcome":{"state":"dead"},` + event + `}`, delivery.ErrMalformed},
		"bad base64":         {`{"v":1,"delivery":"x","destination":"d","attempt":1,"base64":"%",` + event + `}`, delivery.ErrMalformed},
		"bad zip":            {`{"v":1,"zip":"AAAA"}`, delivery.ErrMalformed},
		"zip of another zip": {`{"v":1,"zip":"` + zipped(t, `{"v":1,"zip":"AAAA"}`) + `"}`, delivery.ErrMalformed},
		"zip of nonsense":    {`{"v":1,"zip":"` + zipped(t, `hello`) + `"}`, delivery.ErrMalformed},
		"zip of a newer":     {`{"v":1,"zip":"` + zipped(t, `{"v":2,"delivery":{"changed":true}}`) + `"}`, delivery.ErrNewer},
		"zip cut off":        {`{"v":1,"zip":"` + cutOff + `"}`, delivery.ErrMalformed},
		"bomb of nothing":    {`{"v":1,"zip":"` + zipped(t, whole+strings.Repeat(" ", 11<<20)) + `"}`, delivery.ErrMalformed},
		"bomb":               {`{"v":1,"zip":"` + zipped(t, `{"v":1,"text":"`+strings.Repeat("a", 11<<20)+`"}`) + `"}`, delivery.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := delivery.Decode(c.body); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestIDsDoNotCollide(t *testing.T) {
	seen := map[delivery.ID][4]string{}
	parts := []string{"", "a", "b", "ab", "a\x01b", "\x01a"}
	for _, tenant := range parts {
		for _, source := range parts {
			for _, id := range parts {
				for _, destination := range parts {
					key := [4]string{tenant, source, id, destination}
					got := delivery.NewID(tenant, source, id, destination)
					if other, ok := seen[got]; ok {
						t.Fatalf("%q and %q", other, key)
					}
					seen[got] = key
				}
			}
		}
	}
}

func TestIDIsStable(t *testing.T) {
	// Ids are keys of rows that outlive releases: they never change.
	if got := delivery.NewID("acme", "/shop", "1", "crm"); got != "672ccn6ugu0o57n0ot3nuv4f3676knkj" {
		t.Errorf("got %q", got)
	}
}

// TestPublicID: only a replay that asks for one gets a new id, and everything that follows from it keeps that.
func TestPublicID(t *testing.T) {
	first := message([]byte("{}"))
	first.Replay, first.NewID, first.IDEpoch = false, false, 0
	ids := map[string]bool{}
	m, previous := first, first.PublicID()
	if previous != string(first.Delivery) {
		t.Errorf("got %q", previous)
	}
	ids[previous] = true
	for i, step := range []struct {
		name string
		next func(delivery.Message) delivery.Message
		same bool
	}{
		{"attempt", func(m delivery.Message) delivery.Message { return m.Successor(time.Second) }, true},
		{"redrive", func(m delivery.Message) delivery.Message { return m.Restart() }, true},
		{"replay", func(m delivery.Message) delivery.Message { return m.Again(false) }, true},
		{"replay under a new id", func(m delivery.Message) delivery.Message { return m.Again(true) }, false},
		{"attempt of it", func(m delivery.Message) delivery.Message { return m.Successor(time.Second) }, true},
		{"redrive of it", func(m delivery.Message) delivery.Message { return m.Restart() }, true},
		{"replay of it", func(m delivery.Message) delivery.Message { return m.Again(false) }, true},
		{"replay under another", func(m delivery.Message) delivery.Message { return m.Again(true) }, false},
		{"redrive of that", func(m delivery.Message) delivery.Message { return m.Restart() }, true},
	} {
		m = step.next(m)
		body, err := m.Encode(delivery.MaxBytes) // every step is a message in a queue
		if err != nil {
			t.Fatal(err)
		}
		if m, err = delivery.Decode(body); err != nil {
			t.Fatal(err)
		}
		got := m.PublicID()
		if (got == previous) != step.same || !step.same && ids[got] || strings.Contains(got, ".") {
			t.Errorf("%d, %s: public id %q after %q", i, step.name, got, previous)
		}
		ids[got], previous = true, got
	}
}

// TestPublicIDOfOlderMessages: a message that tells only that it has a new id has that of its epoch, and its redrive keeps it.
func TestPublicIDOfOlderMessages(t *testing.T) {
	m, err := delivery.Decode(`{"v":1,"delivery":"d","destination":"crm","epoch":3,"attempt":1,"replay":true,"newId":true,"event":{"id":"1","source":"s","type":"t"}}`)
	if err != nil {
		t.Fatal(err)
	}
	const want = "c2r8n2g39922rmsd2pfsnkk0p15bkn37"
	next := m.Restart()
	if m.PublicID() != want || next.PublicID() != want {
		t.Errorf("public id %q, then %q", m.PublicID(), next.PublicID())
	}
}

func TestSuccessorAndRestart(t *testing.T) {
	m := message([]byte("{}"))
	next := m.Successor(time.Minute)
	if next.Epoch != 2 || next.Attempt != 4 || next.Waited != 150*time.Second || next.Probes != 1 || !next.DueAt.IsZero() || !next.HeldSince.IsZero() || next.Outcome != nil {
		t.Errorf("%+v", next)
	}
	again := m.Restart()
	if again.Epoch != 3 || again.Attempt != 1 || again.Waited != 0 || again.Probes != 0 || !again.DueAt.IsZero() || !again.HeldSince.IsZero() || again.Outcome != nil || !again.Replay {
		t.Errorf("%+v", again)
	}
	never := m
	never.Replay = false
	if redriven, replayed := never.Restart(), never.Again(false); redriven.Replay || !replayed.Replay {
		t.Errorf("only a replay delivers again what was delivered: redrive %t, replay %t", redriven.Replay, replayed.Replay)
	}
	if m.Epoch != 2 || m.Attempt != 3 || m.Outcome == nil {
		t.Errorf("the original has changed: %+v", m)
	}
}

func FuzzDecode(f *testing.F) {
	for _, data := range []string{`{"a":1}`, "text", "\xff"} {
		m := message([]byte(data))
		body, err := m.Encode(delivery.MaxBytes)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
		if body, err = m.Encode(0); err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add(`{"v":2}`)
	f.Fuzz(func(t *testing.T, body string) {
		m, err := delivery.Decode(body)
		if err != nil {
			if !errors.Is(err, delivery.ErrMalformed) && !errors.Is(err, delivery.ErrNewer) {
				t.Fatalf("unclassified: %v", err)
			}
			return
		}
		again, err := m.Encode(delivery.MaxBytes)
		if err != nil {
			t.Fatal(err)
		}
		back, err := delivery.Decode(again)
		if err != nil {
			t.Fatalf("own message refused: %v", err)
		}
		if !bytes.Equal(back.Event.Data, m.Event.Data) || back.Delivery != m.Delivery || back.Attempt != m.Attempt {
			t.Fatalf("changed: %+v, %+v", m, back)
		}
	})
}
