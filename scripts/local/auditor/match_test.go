package auditor

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/pattern"
	"github.com/waybillhq/waybill/shared/registry"
)

// A small vocabulary makes hits likely.
var (
	names   = rapid.SampledFrom([]string{"a", "b", "c"})
	texts   = rapid.SampledFrom([]string{"", "x", "xy", "yx", "XY", "xyxy", "é", "É", "1", "true", "*", `x\*`, "10.0.0.7", "::ffff:10.0.0.9", "2001:db8::1"})
	numbers = rapid.SampledFrom([]any{json.Number("1"), json.Number("1.0"), json.Number("1e0"), json.Number("-2"), json.Number("1.0000009"), json.Number("6e9"), json.Number("1e-999")})
	globs   = rapid.SampledFrom([]string{"*", "x*", "*y", "x*x*y", "*x*", `\**`, `x\\\*`, "", "xy", "é*"})
	blocks  = rapid.SampledFrom([]string{"10.0.0.0/8", "10.0.0.9/32", "0.0.0.0/0", "2001:db8::/32", "::/0", "::ffff:10.0.0.0/104"})
	limits  = rapid.SampledFrom([][]any{
		{"=", 1}, {"<", 1}, {"<=", 1.0}, {">", json.Number("1e0")}, {">=", -2}, {">", -2, "<", 1.000001}, {">=", -2, "<=", 1}, {"<=", json.Number("5e9")},
	})
	scalar = rapid.OneOf(rapid.Map(texts, func(s string) any { return s }), numbers, rapid.SampledFrom([]any{true, false, nil}))
)

func drawValue(t *rapid.T, depth int) any {
	switch kind := rapid.IntRange(0, 3).Draw(t, "kind"); {
	case depth == 0 || kind == 0:
		return scalar.Draw(t, "scalar")
	case kind == 1:
		list := make([]any, rapid.IntRange(0, 3).Draw(t, "length"))
		for i := range list {
			list[i] = drawValue(t, depth-1)
		}
		return list
	}
	object := map[string]any{}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		object[names.Draw(t, "name")] = drawValue(t, depth-1)
	}
	return object
}

func drawAlternative(t *rapid.T, attribute bool) any {
	butNumbers := !attribute && rapid.Bool().Draw(t, "numbers")
	switch rapid.IntRange(0, 12).Draw(t, "alternative") {
	case 0:
		return map[string]any{"exists": true}
	case 1:
		return map[string]any{"exists": false}
	case 2, 3:
		affix := rapid.SampledFrom([]string{"prefix", "suffix"}).Draw(t, "affix")
		if rapid.Bool().Draw(t, "ignoring case") {
			return map[string]any{affix: map[string]any{"equals-ignore-case": texts.Draw(t, "text")}}
		}
		return map[string]any{affix: texts.Draw(t, "text")}
	case 4:
		if butNumbers {
			return map[string]any{"anything-but": rapid.SliceOfN(numbers, 1, 2).Draw(t, "but")}
		}
		return map[string]any{"anything-but": rapid.SliceOfN(texts, 1, 2).Draw(t, "but")}
	case 5:
		if butNumbers {
			return map[string]any{"anything-but": numbers.Draw(t, "but")}
		}
		return map[string]any{"anything-but": texts.Draw(t, "but")}
	case 6:
		return map[string]any{"anything-but": drawBesides(t)}
	case 7:
		return map[string]any{"equals-ignore-case": texts.Draw(t, "text")}
	case 8:
		return map[string]any{"wildcard": globs.Draw(t, "wildcard")}
	case 9:
		return map[string]any{"cidr": blocks.Draw(t, "block")}
	case 10:
		if !attribute {
			return map[string]any{"numeric": limits.Draw(t, "limits")}
		}
	}
	if attribute {
		return texts.Draw(t, "exact")
	}
	return scalar.Draw(t, "exact")
}

func drawBesides(t *rapid.T) any {
	name := rapid.SampledFrom([]string{"prefix", "suffix", "equals-ignore-case", "wildcard"}).Draw(t, "besides")
	from := globs
	if name != "wildcard" {
		from = texts.Filter(func(text string) bool { return text != "" })
	}
	if rapid.Bool().Draw(t, "one") {
		return map[string]any{name: from.Draw(t, "text")}
	}
	return map[string]any{name: rapid.SliceOfN(from, 1, 3).Draw(t, "texts")}
}

func drawField(t *rapid.T, depth int, attribute bool) any {
	if depth == 0 || attribute || rapid.Bool().Draw(t, "leaf") {
		list := make([]any, rapid.IntRange(1, 2).Draw(t, "alternatives"))
		for i := range list {
			list[i] = drawAlternative(t, attribute)
		}
		return list
	}
	return drawFields(t, depth-1, names)
}

// drawFields may draw $or, over fields that are not beside it: two conditions on one field are refused.
func drawFields(t *rapid.T, depth int, from *rapid.Generator[string]) map[string]any {
	object := map[string]any{}
	if depth > 0 && rapid.IntRange(0, 2).Draw(t, "or") == 0 {
		inOr := rapid.SampledFrom([]string{"a", "x"})
		nested := map[string]any{"$or": []any{drawFields(t, 0, inOr), map[string]any{"a": drawField(t, depth-1, false)}}}
		object["$or"] = []any{drawFields(t, 0, inOr), drawFields(t, 0, inOr), nested}
		from = rapid.SampledFrom([]string{"b", "c"})
	}
	for range rapid.IntRange(1, 3).Draw(t, "fields") {
		object[from.Draw(t, "name")] = drawField(t, depth, false)
	}
	return object
}

func drawDestination(t *rapid.T, id string) map[string]any {
	d := map[string]any{
		"id": id, "tenant": rapid.SampledFrom([]string{"*", "acme", "default"}).Draw(t, "tenant"), "type": "webhook",
		"webhook": map[string]any{"url": "http://127.0.0.1/", "secrets": []string{secret}},
	}
	wanted := map[string]any{}
	for range rapid.IntRange(0, 2).Draw(t, "attribute conditions") {
		wanted[rapid.SampledFrom([]string{"a", "type", "subject", "tenant"}).Draw(t, "attribute")] = drawField(t, 0, true)
	}
	switch rapid.IntRange(0, 5).Draw(t, "payload condition") {
	case 0:
	case 1:
		wanted["data"] = map[string]any{"c": drawField(t, 1, false)}
		fallthrough
	case 2:
		wanted["$or"] = []any{
			map[string]any{"source": []any{"/s", drawAlternative(t, true)}, "data": map[string]any{"a": drawField(t, 2, false)}},
			map[string]any{"source": drawField(t, 0, true)},
		}
	default:
		wanted["data"] = drawField(t, 3, false)
	}
	if len(wanted) > 0 || rapid.Bool().Draw(t, "empty pattern") {
		d["pattern"] = wanted
	}
	return d
}

const secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"

func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

func drawEvent(t *rapid.T) *events.Event {
	data := marshal(drawValue(t, 4))
	if rapid.IntRange(0, 9).Draw(t, "spoil the payload") == 0 {
		data = append(data, rapid.SampledFrom([]string{" ", "x", "1", "}"}).Draw(t, "more")...)
	}
	e := &events.Event{ID: "1", Source: "/s", Type: "x", Data: data, Extensions: map[string]string{"tenant": "default"}}
	if rapid.Bool().Draw(t, "more attributes") {
		e.Type, e.Subject, e.Extensions = "xy", "yx", map[string]string{"tenant": "acme", "a": "x"}
	}
	return e
}

func TestMatchesWhatTheRouterMatches(t *testing.T) {
	wanted, unwanted := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var all []any
		for i := range rapid.IntRange(1, 8).Draw(t, "destinations") {
			all = append(all, drawDestination(t, fmt.Sprintf("d%d", i)))
		}
		file := marshal(map[string]any{"destinations": all})
		set, err := registry.Parse(file, registry.Options{})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		destinations, err := readDestinations(file)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for range 8 {
			e := drawEvent(t)
			var want []string
			for _, d := range set.Match(e.Tenant(), pattern.NewEvent(e.Attributes(), e.Data)) {
				want = append(want, d.ID)
			}
			if got := wanting(destinations, e); !slices.Equal(got, want) {
				t.Fatalf("destinations %s\npayload %s\nthe auditor says %v, the router %v", file, e.Data, got, want)
			}
			wanted += len(want)
			unwanted += len(all) - len(want)
		}
	})
	if wanted == 0 || unwanted == 0 {
		t.Errorf("the generator proves nothing: %d wanted, %d not", wanted, unwanted)
	}
}

func TestRefusesPatternsItDoesNotUnderstand(t *testing.T) {
	for text, complaint := range map[string]string{
		`{"type": [{"regex": "a*"}]}`:                                        "regex",
		`{"type": [{"wildcard": ["a*"]}]}`:                                   "wildcard",
		`{"type": [{"equals-ignore-case": 1}]}`:                              "equals-ignore-case",
		`{"type": [{"prefix": {"equals-ignore-case":1}}]}`:                   "prefix",
		`{"type": [{"suffix": {"prefix": "a"}}]}`:                            "suffix",
		`{"type": [{"suffix": {"equals-ignore-case": "a", "prefix": "a"}}]}`: "suffix",
		`{"type": [{"anything-but": {"exists": true}}]}`:                     "anything-but",
		`{"type": [{"anything-but": {"prefix": ["a", 1]}}]}`:                 "anything-but",
		`{"type": [{"anything-but": {}}]}`:                                   "anything-but",
		`{"type": [{"exists": "true"}]}`:                                     "exists",
		`{"data": {"a": {"b": [{"cidr": "10.0.0.0"}]}}}`:                     "cidr",
		`{"data": {"a": [{"numeric": 1}]}}`:                                  "numeric",
		`{"data": {"a": [{"numeric": [">"]}]}}`:                              "numeric",
		`{"data": {"a": [{"numeric": ["!", 1]}]}}`:                           "numeric",
		`{"data": {"a": [{"numeric": [">", 6e9]}]}}`:                         "numeric",
		`{"data": {"a": [{"numeric": [">", 1, "<"]}]}}`:                      "numeric",
		`{"$or": [{"type": ["a"]}]}`:                                         "$or",
		`{"$or": {"type": ["a"]}}`:                                           "$or",
		`{"$or": [{"type": ["a"]}, ["b"]]}`:                                  "$or",
		`{"$or": [{"type": [{"regex": "a"}]}, {"id": ["b"]}]}`:               "regex",
		`{"type": ["a"], "$or": [{"type": ["b"]}, {"id": ["c"]}]}`:           `"type" has two conditions`,
		`{"data": {"a": [1], "$or": [{"a": {"b": [1]}}, {"c": ["c"]}]}}`:     `"a" has two conditions`,
		`{"data": {"a": ` + wide(40) + `, "b": ` + wide(40) + `}}`:           "too many combinations",
		`{"type": "a"}`:     "array",
		`{"type": [["a"]]}`: "array",
		`{"type": [{}]}`:    "empty",
		`{"type": [{"prefix": "a", "suffix": "b"}]}`: "not known",
	} {
		_, err := New(Config{Destinations: fmt.Appendf(nil, `{"destinations": [{"id": "crm", "tenant": "*", "pattern": %s}]}`, text)})
		if err == nil || !strings.Contains(err.Error(), complaint) || !strings.Contains(err.Error(), `"crm"`) {
			t.Errorf("%s: got %v, want an error that names crm and %q", text, err, complaint)
		}
	}
	if _, err := New(Config{Destinations: []byte(`{`)}); err == nil {
		t.Error("broken JSON was accepted")
	}
}

// wide gives an object with a $or of n objects.
func wide(n int) string {
	return `{"$or": [` + strings.Repeat(`{"x": [1]}, `, n-1) + `{"y": [1]}]}`
}
