package pattern_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

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

// conditions multiplies a pattern out: one list of conditions for every way through its $or.
func conditions(path string, p any) [][]flatCondition {
	if list, ok := p.([]any); ok {
		return [][]flatCondition{{{path, list}}}
	}
	all := [][]flatCondition{nil}
	for name, inner := range p.(map[string]any) {
		var ways [][]flatCondition
		if name == "$or" {
			for _, object := range inner.([]any) {
				ways = append(ways, conditions(path, object)...)
			}
		} else {
			ways = conditions(path+"\x00"+name, inner)
		}
		var product [][]flatCondition
		for _, a := range all {
			for _, b := range ways {
				product = append(product, slices.Concat(a, b))
			}
		}
		all = product
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
	return slices.ContainsFunc(conditions("", p), func(all []flatCondition) bool {
		return assign(all, nil, f.fields, map[int]int{})
	})
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
			return operatorHolds(name, argument, f)
		}
		return false
	})
}

func operatorHolds(name string, argument any, f flatField) bool {
	nested, isObject := argument.(map[string]any)
	switch {
	case name == "exists":
		return argument == true
	case name == "anything-but" && isObject:
		for inner, values := range nested {
			for _, v := range asList(values) {
				if operatorHolds(inner, v, f) {
					return false
				}
			}
		}
		return true
	case name == "anything-but":
		return !satisfies(asList(argument), f)
	case name == "numeric":
		return f.kind == "number" && numericHolds(argument.([]any), f.text)
	case f.kind != "string":
		return false
	case name == "cidr":
		return cidrHolds(argument.(string), f.text)
	case isObject:
		return regexp.MustCompile("(?i)" + expression(name, nested["equals-ignore-case"].(string))).MatchString(f.text)
	}
	return regexp.MustCompile(expression(name, argument.(string))).MatchString(f.text)
}

func asList(v any) []any {
	if list, ok := v.([]any); ok {
		return list
	}
	return []any{v}
}

// expression writes an operator on strings as a regular expression.
func expression(name, argument string) string {
	quoted := regexp.QuoteMeta(argument)
	switch name {
	case "prefix":
		return `\A` + quoted
	case "suffix":
		return quoted + `\z`
	case "equals-ignore-case":
		return `(?i)\A` + quoted + `\z`
	case "wildcard":
		return `(?s)\A` + strings.NewReplacer(`\\\\`, `\\`, `\\\*`, `\*`, `\*`, `.*`).Replace(quoted) + `\z`
	}
	panic(name)
}

func numericHolds(comparisons []any, text string) bool {
	value, ok := millionths(text)
	if !ok {
		return false
	}
	for i := 0; i < len(comparisons); i += 2 {
		bound, _ := millionths(comparisons[i+1].(json.Number).String())
		order := value.Cmp(bound)
		if !map[string]bool{"=": order == 0, "<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[comparisons[i].(string)] {
			return false
		}
	}
	return true
}

// millionths cuts a number after its sixth decimal; ok is false beyond five billion.
func millionths(text string) (*big.Int, bool) {
	if estimate, err := strconv.ParseFloat(text, 64); err != nil || math.Abs(estimate) > 6e9 {
		return nil, false
	} else if math.Abs(estimate) < 1e-7 {
		return new(big.Int), true
	}
	exact, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(text)
	}
	exact.Mul(exact, big.NewRat(1_000_000, 1))
	cut := new(big.Int).Quo(exact.Num(), exact.Denom())
	return cut, cut.CmpAbs(big.NewInt(5_000_000_000_000_000)) <= 0
}

func cidrHolds(block, text string) bool {
	_, network, err := net.ParseCIDR(block)
	if err != nil {
		panic(err)
	}
	ip := net.ParseIP(text)
	if ip == nil {
		return false
	}
	if len(network.IP) == net.IPv4len {
		return network.Contains(ip)
	}
	return strings.Contains(text, ":") && ip.Mask(network.Mask).Equal(network.IP)
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
	names     = rapid.SampledFrom([]string{"a", "b", "c"})
	strs      = rapid.SampledFrom([]string{"", "x", "xy", "yx", "XY", "é", "É", "K", "k", "\u212a", "*", `\`, "xyx", "xyyx", "10.0.0.7", "::ffff:10.0.0.9", "2001:db8::1"})
	numbers   = rapid.Map(rapid.SampledFrom([]string{"1", "1.0", "2", "10e-1", "1.0000009", "-3.5", "5e9", "5000000001", "0.0000001", "1e400", "300"}), func(text string) any { return json.Number(text) })
	bounds    = rapid.Map(rapid.SampledFrom([]string{"-5e9", "-3.5", "0", "1", "1.000001", "2.50", "3e2", "5e9"}), func(text string) any { return json.Number(text) })
	wildcards = rapid.SampledFrom([]string{"*", "x*", "*x", "x*x", "*y*", "x*y*x", "xy*yx", `\**`, `\*`, `\\`, "", "xy", "*x*y*", "é*"})
	blocks    = rapid.SampledFrom([]string{"10.0.0.0/8", "10.0.0.0/29", "10.0.0.9/32", "0.0.0.0/0", "2001:db8::/32", "::/0", "::ffff:10.0.0.0/104", "2001:db8::1/128"})
	scalars   = rapid.OneOf(rapid.Map(strs, func(s string) any { return s }), numbers, rapid.Map(rapid.Bool(), func(b bool) any { return b }), rapid.Just[any](nil))
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

func one(name string, argument any) map[string]any { return map[string]any{name: argument} }

func alternative(t *rapid.T, attribute bool) any {
	switch rapid.IntRange(0, 12).Draw(t, "alternative") {
	case 0:
		return one("exists", rapid.Bool().Draw(t, "exists"))
	case 1:
		return one("exists", false)
	case 2, 3:
		name := rapid.SampledFrom([]string{"prefix", "suffix"}).Draw(t, "affix")
		if rapid.Bool().Draw(t, "ignoring case") {
			return one(name, one("equals-ignore-case", strs.Draw(t, "text")))
		}
		return one(name, strs.Draw(t, "text"))
	case 4:
		if !attribute && rapid.Bool().Draw(t, "numbers") {
			return one("anything-but", rapid.SliceOfN(numbers, 1, 2).Draw(t, "but"))
		}
		return one("anything-but", strs.Draw(t, "but"))
	case 5:
		return one("anything-but", besides(t))
	case 6:
		return one("equals-ignore-case", strs.Draw(t, "text"))
	case 7:
		return one("wildcard", wildcards.Draw(t, "wildcard"))
	case 8:
		return one("cidr", blocks.Draw(t, "block"))
	case 9, 10:
		if !attribute {
			return one("numeric", comparisons(t))
		}
	}
	if attribute {
		return strs.Draw(t, "exact")
	}
	return scalars.Draw(t, "exact")
}

func besides(t *rapid.T) any {
	name := rapid.SampledFrom([]string{"prefix", "suffix", "equals-ignore-case", "wildcard"}).Draw(t, "besides")
	from := strs
	switch name {
	case "prefix", "suffix":
		from = strs.Filter(func(s string) bool { return s != "" })
	case "wildcard":
		from = wildcards
	}
	if rapid.Bool().Draw(t, "list") {
		return one(name, rapid.SliceOfN(from, 1, 3).Draw(t, "texts"))
	}
	return one(name, from.Draw(t, "text"))
}

func comparisons(t *rapid.T) []any {
	low, high := bounds.Draw(t, "bound"), bounds.Draw(t, "bound")
	a, _ := millionths(low.(json.Number).String())
	b, _ := millionths(high.(json.Number).String())
	if a.Cmp(b) >= 0 || new(big.Int).Sub(b, a).Cmp(big.NewInt(1)) <= 0 {
		return []any{rapid.SampledFrom([]string{"=", "<", "<=", ">", ">="}).Draw(t, "sign"), low}
	}
	return []any{
		rapid.SampledFrom([]string{">", ">="}).Draw(t, "above"), low,
		rapid.SampledFrom([]string{"<", "<="}).Draw(t, "below"), high,
	}
}

func alternativesOf(t *rapid.T, attribute bool) []any {
	list := make([]any, rapid.IntRange(1, 2).Draw(t, "alternatives"))
	for i := range list {
		list[i] = alternative(t, attribute)
	}
	return list
}

// fieldOf draws what stands under a field. The names that $or uses differ from those beside it, as they must.
func fieldOf(t *rapid.T, depth int, from []string) any {
	if depth == 0 || rapid.Bool().Draw(t, "leaf") {
		return alternativesOf(t, false)
	}
	return fieldsOf(t, depth, from)
}

func fieldsOf(t *rapid.T, depth int, from []string) map[string]any {
	object := map[string]any{}
	if depth > 1 && len(from) > 1 && rapid.IntRange(0, 2).Draw(t, "or") == 0 {
		var ways []any
		for range 2 {
			ways = append(ways, fieldsOf(t, depth-1, from[:len(from)-1]))
		}
		object["$or"] = ways
		from = from[len(from)-1:]
		if rapid.Bool().Draw(t, "nothing beside $or") {
			return object
		}
	}
	for range rapid.IntRange(1, 3).Draw(t, "fields") {
		object[rapid.SampledFrom(from).Draw(t, "name")] = fieldOf(t, depth-1, []string{"a", "b", "c"})
	}
	return object
}

// patternOf draws a pattern over the attributes a, b and c and the payload, with $or at the top in one of four.
func patternOf(t *rapid.T) map[string]any {
	wanted := map[string]any{}
	from := []string{"a", "b", "c"}
	if rapid.IntRange(0, 3).Draw(t, "or") == 0 {
		inData := rapid.Bool().Draw(t, "payload in or")
		var ways []any
		for range rapid.IntRange(2, 3).Draw(t, "ways") {
			way := map[string]any{"b": alternativesOf(t, true)}
			if inData {
				way["data"] = fieldsOf(t, 2, from[:2])
			}
			ways = append(ways, way)
		}
		wanted["$or"] = ways
		if inData && rapid.Bool().Draw(t, "payload beside or") {
			wanted["data"] = map[string]any{"c": fieldOf(t, 1, from)}
		}
		from = []string{"a", "c"}
	}
	for range rapid.IntRange(0, 1).Draw(t, "attribute conditions") {
		wanted[rapid.SampledFrom(from).Draw(t, "attribute")] = alternativesOf(t, true)
	}
	if wanted["$or"] == nil && rapid.IntRange(0, 5).Draw(t, "payload condition") > 0 {
		wanted["data"] = fieldOf(t, 3, from)
	}
	return wanted
}

func TestMatchAgreesWithNaiveImplementation(t *testing.T) {
	verdicts := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		wanted := patternOf(t)
		attributes := rapid.MapOfN(names, strs, 0, 2).Draw(t, "attributes")
		data := marshal(value(t, 4))

		compiled, err := pattern.Parse(marshal(wanted))
		if err != nil {
			t.Fatalf("%s: %v", marshal(wanted), err)
		}
		got := compiled.Match(pattern.NewEvent(maps.All(attributes), data))
		parsed, err := decodeAny(marshal(wanted))
		if err != nil {
			t.Fatal(err)
		}
		if want := naiveMatch(parsed.(map[string]any), attributes, data); got != want {
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
	f.Add(`{"$or": [{"type": ["x"]}, {"data": {"a": [{"numeric": [">", 1e0, "<", 2.5]}]}}]}`, "x", `[[[1]], {"a": 2.4999999}]`)
	f.Add(`{"data": {"$or": [{"a": [{"wildcard": "*b\\*"}]}, {"c": [{"cidr": "10.0.0.0/8"}]}], "d": [{"exists": false}]}}`, "x", `{"c": "::ffff:10.1.2.3"}`)
	f.Add(`{"type": [{"anything-but": {"wildcard": ["*a*", "b*"]}}, {"prefix": {"equals-ignore-case": "\u212a"}}]}`, "kb", `1`)
	f.Add(`{"type": [{"anything-but": {"suffix": "x"}}, {"suffix": {"equals-ignore-case": "SS"}}, {"equals-ignore-case": ""}]}`, "\xff", `1`)
	f.Fuzz(func(t *testing.T, text, eventType, data string) {
		compiled, err := pattern.Parse(json.RawMessage(text))
		if err != nil || text == "" {
			return
		}
		if !utf8.ValidString(eventType) {
			return // no event has such attributes, and regular expressions see one character for each bad byte
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
		ways := conditions("", wanted)
		if len(ways) > 16 || len(all.fields) > 16 || slices.ContainsFunc(ways, func(all []flatCondition) bool { return len(all) > 4 }) {
			return // the naive search is exponential
		}
		if want := naiveMatch(wanted, attributes, []byte(data)); got != want {
			t.Fatalf("pattern %s on type %q, data %s: got %v, naive says %v", text, eventType, data, got, want)
		}
		index := pattern.NewIndexFew([]*pattern.Pattern{compiled, nil, compiled}, 0)
		if found := index.Match(pattern.NewEvent(maps.All(attributes), []byte(data))); len(found) == 3 != got {
			t.Fatalf("pattern %s on type %q, data %s: got %v, the index gives %v", text, eventType, data, got, found)
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
