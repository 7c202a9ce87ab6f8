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
	texts   = rapid.SampledFrom([]string{"", "x", "xy", "yx", "1", "true"})
	numbers = rapid.SampledFrom([]any{json.Number("1"), json.Number("1.0"), json.Number("1e0"), json.Number("-2")})
	scalar  = rapid.OneOf(rapid.Map(texts, func(s string) any { return s }), numbers, rapid.SampledFrom([]any{true, false, nil}))
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
	switch rapid.IntRange(0, 6).Draw(t, "alternative") {
	case 0:
		return map[string]any{"exists": true}
	case 1:
		return map[string]any{"exists": false}
	case 2:
		return map[string]any{"prefix": texts.Draw(t, "prefix")}
	case 3:
		return map[string]any{"suffix": texts.Draw(t, "suffix")}
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
	}
	if attribute {
		return texts.Draw(t, "exact")
	}
	return scalar.Draw(t, "exact")
}

func drawField(t *rapid.T, depth int, attribute bool) any {
	if depth == 0 || attribute || rapid.Bool().Draw(t, "leaf") {
		list := make([]any, rapid.IntRange(1, 2).Draw(t, "alternatives"))
		for i := range list {
			list[i] = drawAlternative(t, attribute)
		}
		return list
	}
	object := map[string]any{}
	for range rapid.IntRange(1, 3).Draw(t, "fields") {
		object[names.Draw(t, "name")] = drawField(t, depth-1, false)
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
	if rapid.IntRange(0, 3).Draw(t, "payload condition") > 0 {
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

func TestMatchesWhatTheRouterMatches(t *testing.T) {
	wanted, unwanted := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var all []any
		for i := range rapid.IntRange(1, 3).Draw(t, "destinations") {
			all = append(all, drawDestination(t, fmt.Sprintf("d%d", i)))
		}
		file := marshal(map[string]any{"destinations": all})
		data := marshal(drawValue(t, 4))
		if rapid.IntRange(0, 9).Draw(t, "spoil the payload") == 0 {
			data = append(data, rapid.SampledFrom([]string{" ", "x", "1", "}"}).Draw(t, "more")...)
		}
		body := marshal(map[string]any{"specversion": "1.0", "id": "1", "source": "/s", "type": "x", "datacontenttype": "text/plain", "data": string(data)})
		if rapid.Bool().Draw(t, "more attributes") {
			body = marshal(map[string]any{
				"specversion": "1.0", "id": "1", "source": "/s", "type": "xy", "subject": "yx", "a": "x", "tenant": "acme",
				"datacontenttype": "text/plain", "data": string(data),
			})
		}
		decoded, err := events.Decode(events.Input{Body: string(body)})
		if err != nil {
			t.Fatal(err)
		}
		e := &decoded.Events[0]

		set, err := registry.Parse(file, registry.Options{})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var want []string
		for _, d := range set.Match(e.Tenant(), pattern.NewEvent(e.Attributes(), e.Data)) {
			want = append(want, d.ID)
		}
		destinations, err := readDestinations(file)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if got := wanting(destinations, e); !slices.Equal(got, want) {
			t.Fatalf("destinations %s\npayload %s\nthe auditor says %v, the router %v", file, data, got, want)
		}
		wanted += len(want)
		unwanted += len(all) - len(want)
	})
	if wanted == 0 || unwanted == 0 {
		t.Errorf("the generator proves nothing: %d wanted, %d not", wanted, unwanted)
	}
}

func TestRefusesPatternsItDoesNotUnderstand(t *testing.T) {
	for text, complaint := range map[string]string{
		`{"type": [{"numeric": [">", 1]}]}`:                "numeric",
		`{"type": [{"wildcard": "a*"}]}`:                   "wildcard",
		`{"type": [{"prefix": {"equals-ignore-case":1}}]}`: "prefix",
		`{"type": [{"anything-but": {"prefix": "a"}}]}`:    "anything-but",
		`{"data": {"a": {"b": [{"cidr": "10.0.0.0/8"}]}}}`: "cidr",
		`{"$or": [{"type": ["a"]}]}`:                       "$or",
		`{"type": "a"}`:                                    "array",
		`{"type": [["a"]]}`:                                "array",
		`{"type": [{}]}`:                                   "empty",
		`{"type": [{"prefix": "a", "suffix": "b"}]}`:       "not known",
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
