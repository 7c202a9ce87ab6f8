package events

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzScanner holds the scanner to encoding/json: same texts, same members, same strings.
func FuzzScanner(f *testing.F) {
	for _, seed := range []string{
		``, ` `, `{}`, `[]`, `{"a":1}`, `[1,2]`, `{"a":{"b":[1,{"c":null}]},"d":"e"}`, ` [ 1 , "x" ] `, `[1,]`, `[,]`, `{"a"}`, `{"a":}`, `{"a":1,}`,
		`{a:1}`, `[1 2]`, `{"a":1 "b":2}`, `]`, `}`, `[}`, `{]`, `[[]`, `[]]`, `{"a":1}}`, `0`, `-`, `-0`, `01`, `1.`, `1.5e`, `1e+`, `1E-7`, `.5`, `+1`,
		`true`, `tru`, `truex`, `nul`, `"`, `"\`, `"\x"`, `"\u12"`, `"\u00e9"`, `"\ud83d\ude9a"`, `"\ud83d"`, `"\ude9a\ud83d"`, `"\ud83d\u0041"`, "\"\t\"", "\"\u2028\"",
		"{\"a\":1,\n\"a\" : 2 }", `{"\u0061":1}`, `{"\ud800":1}`, "[1]\x00", `"a""b"`, `{"":0}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		end, depth, err := skipValue(s, 0)
		valid := err == nil && atEnd(s, end) == nil
		if depth < 5000 && valid != json.Valid([]byte(s)) {
			t.Fatalf("valid is %v (%v), for encoding/json it is not: %q", valid, err, s)
		}
		bytesEnd, bytesDepth, bytesErr := skipValue([]byte(s), 0)
		if bytesEnd != end || bytesDepth != depth || (bytesErr == nil) != (err == nil) {
			t.Fatalf("bytes and strings differ on %q", s)
		}
		b := readBody(s)
		if b.json != (valid && utf8.ValidString(s)) {
			t.Fatalf("readBody says %v (%v) of %q", b.json, b.err, s)
		}
		if !b.json || depth >= 5000 {
			return
		}
		switch b.kind {
		case '{':
			checkMembers(t, s, b.members)
		case '[':
			var want []json.RawMessage
			if err := json.Unmarshal([]byte(s), &want); err != nil {
				t.Fatal(err)
			}
			got, more := scanArray(s, skipSpace(s, 0), len(want))
			if more || len(got) != len(want) {
				t.Fatalf("%d elements, more %v, want %d: %q", len(got), more, len(want), s)
			}
			for i := range got {
				if got[i] != string(want[i]) {
					t.Fatalf("element %d is %q, want %q", i, got[i], want[i])
				}
			}
			if len(want) > 0 {
				if _, more := scanArray(s, skipSpace(s, 0), len(want)-1); !more {
					t.Fatal("no more elements beyond the limit")
				}
			}
			holdsEvent(s) // must not panic
		case '"':
			checkString(t, strings.TrimSpace(s))
		}
	})
}

func checkMembers(t *testing.T, s string, got []member) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(s))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for i := 0; d.More(); i++ {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatal(err)
		}
		if i >= len(got) || got[i].value != string(value) {
			t.Fatalf("member %d of %q differs from %q", i, s, value)
		}
		if got[i].name != name && !strings.Contains(name.(string), "\ufffd") { // half a surrogate pair
			t.Fatalf("member %d of %q is named %q, want %q", i, s, got[i].name, name)
		}
		got[i].name = "" // counted
	}
	for _, m := range got {
		if m.name != "" {
			t.Fatalf("an invented member in %q", s)
		}
	}
}

func checkString(t *testing.T, quoted string) {
	t.Helper()
	var want string
	if err := json.Unmarshal([]byte(quoted), &want); err != nil {
		t.Fatal(err)
	}
	got, ok := unquote(quoted)
	if ok && got != want || !ok && !strings.Contains(want, "\ufffd") {
		t.Fatalf("%q is %q, %v, want %q", quoted, got, ok, want)
	}
	again := appendString(nil, want)
	if back, ok := unquote(string(again)); !ok || back != want || !json.Valid(again) {
		t.Fatalf("%q was printed as %s", want, again)
	}
}

// TestSurvivesMarshal holds the prediction to what json.Marshal does.
func TestSurvivesMarshal(t *testing.T) {
	for _, s := range []string{
		`{}`, `{"a":1}`, `{"a": 1}`, `["a b"]`, `["a\" b"]`, `["a\\" ]`, `"<"`, `">"`, `"&"`, "\"\u2028\"", "\"\u2029\"", "\"\u202a\"", "\"\u20ac\"",
		"\"\u2068\"", `"\u2028"`, "[1\t]", "[1\n]", "[1\r]", `1`, `"é"`, `"\\"`,
	} {
		printed, err := json.Marshal(json.RawMessage(s))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := survivesMarshal([]byte(s)), bytes.Equal(printed, []byte(s)); got != want {
			t.Errorf("%s: %v, want %v", s, got, want)
		}
	}
}

func TestScannerIsLinearInDepth(t *testing.T) {
	deep := strings.Repeat(`[{"a":`, 100_000) + "1" + strings.Repeat("}]", 100_000)
	end, depth, err := skipValue(deep, 0)
	if err != nil || end != len(deep) || depth != 200_000 {
		t.Errorf("end %d of %d, depth %d, %v", end, len(deep), depth, err)
	}
	if arrays := strings.Repeat("[", 100_000) + `{"specversion":1}` + strings.Repeat("]", 100_000); !holdsEvent(arrays) {
		t.Error("an event deep in arrays was not found")
	}
}
