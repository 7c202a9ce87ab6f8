package pattern_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/shared/pattern"
)

// The second implementation: it flattens event and pattern into paths, as the EventBridge documentation describes the
// language, and tries every assignment of fields to conditions. It shares no code and no idea with the first one.

type flatField struct {
	path    string
	kind    string
	text    string
	element map[int]int // array → element
}

type flatCondition struct {
	path         string
	alternatives []any
}

type flattener struct {
	fields []flatField
	arrays int
}

func (f *flattener) walk(path string, value any, element map[int]int) {
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			f.walk(path+"\x00"+name, inner, element)
		}
	case []any:
		id := f.arrays
		f.arrays++
		for i, inner := range value {
			membership := maps.Clone(element)
			switch inner.(type) {
			case map[string]any, []any:
				membership[id] = i
			}
			f.walk(path, inner, membership)
		}
	default:
		kind, text := describe(value)
		f.fields = append(f.fields, flatField{path, kind, text, element})
	}
}

func describe(value any) (kind, text string) {
	if number, ok := value.(json.Number); ok {
		return "number", number.String()
	}
	return fmt.Sprintf("%T", value), fmt.Sprint(value)
}

func conditions(path string, p any) []flatCondition {
	if list, ok := p.([]any); ok {
		return []flatCondition{{path, list}}
	}
	var all []flatCondition
	for name, inner := range p.(map[string]any) {
		all = append(all, conditions(path+"\x00"+name, inner)...)
	}
	return all
}

func merge(a, b map[int]int) (map[int]int, bool) {
	merged := maps.Clone(a)
	for id, element := range b {
		if other, ok := merged[id]; ok && other != element {
			return nil, false
		}
		merged[id] = element
	}
	return merged, true
}

func naiveMatch(p map[string]any, attributes map[string]string, data []byte) bool {
	var f flattener
	for name, value := range attributes {
		f.walk("\x00"+name, value, map[int]int{})
	}
	if payload, err := decodeAny(data); err == nil {
		f.walk("\x00data", payload, map[int]int{})
	}
	return assign(conditions("", p), nil, f.fields, map[int]int{})
}

// assign tries, for the first condition, every consistent field that satisfies it, and then absence.
func assign(open, absent []flatCondition, fields []flatField, chosen map[int]int) bool {
	if len(open) == 0 {
		return !slices.ContainsFunc(absent, func(c flatCondition) bool {
			return slices.ContainsFunc(fields, func(f flatField) bool {
				_, consistent := merge(chosen, f.element)
				return f.path == c.path && consistent
			})
		})
	}
	condition := open[0]
	for _, f := range fields {
		if f.path != condition.path || !satisfies(condition.alternatives, f) {
			continue
		}
		if merged, ok := merge(chosen, f.element); ok && assign(open[1:], absent, fields, merged) {
			return true
		}
	}
	allowed := slices.ContainsFunc(condition.alternatives, func(a any) bool {
		object, ok := a.(map[string]any)
		return ok && object["exists"] == false
	})
	return allowed && assign(open[1:], append(slices.Clone(absent), condition), fields, chosen)
}

func satisfies(alternatives []any, f flatField) bool {
	return slices.ContainsFunc(alternatives, func(a any) bool {
		object, ok := a.(map[string]any)
		if !ok {
			kind, text := describe(a)
			return kind == f.kind && text == f.text
		}
		for name, argument := range object {
			switch name {
			case "exists":
				return argument == true
			case "prefix":
				return f.kind == "string" && strings.HasPrefix(f.text, argument.(string))
			case "suffix":
				return f.kind == "string" && strings.HasSuffix(f.text, argument.(string))
			case "anything-but":
				list, ok := argument.([]any)
				if !ok {
					list = []any{argument}
				}
				return !satisfies(list, f)
			}
		}
		return false
	})
}

func decodeAny(text []byte) (any, error) {
	if !json.Valid(text) {
		return nil, fmt.Errorf("not one JSON value")
	}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	var value any
	err := decoder.Decode(&value)
	return value, err
}

func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// A small vocabulary makes hits likely.
var (
	names   = rapid.SampledFrom([]string{"a", "b", "c"})
	strs    = rapid.SampledFrom([]string{"", "x", "xy", "yx"})
	numbers = rapid.Map(rapid.SampledFrom([]string{"1", "1.0", "2"}), func(text string) any { return json.Number(text) })
	scalars = rapid.OneOf(rapid.Map(strs, func(s string) any { return s }), numbers, rapid.Map(rapid.Bool(), func(b bool) any { return b }), rapid.Just[any](nil))
)

func value(t *rapid.T, depth int) any {
	kind := rapid.IntRange(0, 3).Draw(t, "kind")
	switch {
	case depth == 0 || kind == 0:
		return scalars.Draw(t, "scalar")
	case kind == 1:
		list := make([]any, rapid.IntRange(0, 3).Draw(t, "length"))
		for i := range list {
			list[i] = value(t, depth-1)
		}
		return list
	}
	object := map[string]any{}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		object[names.Draw(t, "name")] = value(t, depth-1)
	}
	return object
}

func alternative(t *rapid.T, attribute bool) any {
	switch rapid.IntRange(0, 6).Draw(t, "alternative") {
	case 0, 1:
		return map[string]any{"exists": rapid.Bool().Draw(t, "exists")}
	case 2:
		return map[string]any{"prefix": strs.Draw(t, "prefix")}
	case 3:
		return map[string]any{"suffix": strs.Draw(t, "suffix")}
	case 4:
		if !attribute && rapid.Bool().Draw(t, "numbers") {
			return map[string]any{"anything-but": rapid.SliceOfN(numbers, 1, 2).Draw(t, "but")}
		}
		return map[string]any{"anything-but": strs.Draw(t, "but")}
	}
	if attribute {
		return strs.Draw(t, "exact")
	}
	return scalars.Draw(t, "exact")
}

func fieldOf(t *rapid.T, depth int, attribute bool) any {
	if depth == 0 || attribute || rapid.Bool().Draw(t, "leaf") {
		list := make([]any, rapid.IntRange(1, 2).Draw(t, "alternatives"))
		for i := range list {
			list[i] = alternative(t, attribute)
		}
		return list
	}
	object := map[string]any{}
	for range rapid.IntRange(1, 3).Draw(t, "fields") {
		object[names.Draw(t, "name")] = fieldOf(t, depth-1, false)
	}
	return object
}

func TestMatchAgreesWithNaiveImplementation(t *testing.T) {
	verdicts := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		wanted := map[string]any{}
		for range rapid.IntRange(0, 1).Draw(t, "attribute conditions") {
			wanted[names.Draw(t, "attribute")] = fieldOf(t, 0, true)
		}
		if rapid.IntRange(0, 5).Draw(t, "payload condition") > 0 {
			wanted["data"] = fieldOf(t, 3, false)
		}
		attributes := rapid.MapOfN(names, strs, 0, 2).Draw(t, "attributes")
		data := marshal(value(t, 4))

		compiled, err := pattern.Parse(marshal(wanted))
		if err != nil {
			t.Fatalf("%s: %v", marshal(wanted), err)
		}
		got := compiled.Match(pattern.NewEvent(maps.All(attributes), data))
		if want := naiveMatch(wanted, attributes, data); got != want {
			t.Fatalf("pattern %s on %v %s: got %v, naive says %v", marshal(wanted), attributes, data, got, want)
		}
		verdicts[got]++
	})
	if verdicts[true] == 0 || verdicts[false] == 0 {
		t.Errorf("the generator proves nothing: verdicts %v", verdicts)
	}
}

func FuzzMatch(f *testing.F) {
	f.Add(`{"type": [{"prefix": "order."}], "data": {"state": ["paid"]}}`, "order.paid", `{"state": "paid"}`)
	f.Add(`{"data": {"a": {"b": [1, null, {"anything-but": ["x"]}], "c": [{"exists": false}]}}}`, "", `{"a": [{"b": 1.0}, {"c": 2, "b": 1}]}`)
	f.Add(`{"type": [{"suffix": ""}, {"exists": false}]}`, "x", `not JSON`)
	f.Add(`{"$or": [{"a": [1]}]}`, "x", `[[[1]]]`)
	f.Fuzz(func(t *testing.T, text, eventType, data string) {
		compiled, err := pattern.Parse(json.RawMessage(text))
		if err != nil || text == "" {
			return
		}
		attributes := map[string]string{"type": eventType}
		got := compiled.Match(pattern.NewEvent(maps.All(attributes), []byte(data)))
		parsed, err := decodeAny([]byte(text))
		if err != nil {
			t.Fatalf("accepted a pattern that is not JSON: %q", text)
		}
		wanted := parsed.(map[string]any)
		var all flattener
		if payload, err := decodeAny([]byte(data)); err == nil {
			all.walk("", payload, map[int]int{})
		}
		if len(conditions("", wanted)) > 4 || len(all.fields) > 16 {
			return // the naive search is exponential
		}
		if want := naiveMatch(wanted, attributes, []byte(data)); got != want {
			t.Fatalf("pattern %s on type %q, data %s: got %v, naive says %v", text, eventType, data, got, want)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	texts := map[string]string{
		"attributes": `{"type": [{"prefix": "EC2 "}], "source": ["aws.ec2"]}`,
		"payload":    `{"source": ["aws.ec2"], "data": {"state": ["running"], "employees": {"firstName": ["Peter"], "lastName": ["Jones"]}}}`,
	}
	for name, text := range texts {
		compiled, err := pattern.Parse(json.RawMessage(text))
		if err != nil {
			b.Fatal(err)
		}
		for _, destinations := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/destinations=%d", name, destinations), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					event := pattern.NewEvent(maps.All(instanceAttributes), []byte(instanceData))
					for range destinations {
						if !compiled.Match(event) {
							b.Fatal("does not fit")
						}
					}
				}
			})
		}
	}
}
