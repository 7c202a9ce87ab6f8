package dynamodb

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"
)

const (
	maxItemBytes     = 400 << 10
	maxNameBytes     = 65535
	maxDepth         = 32
	maxPartitionKey  = 2048
	maxSortKey       = 1024
	containerBytes   = 3 // what a list or a map costs beside its content
	bytesPerElement  = 1 // what each element of a list or a map costs beside its content
	itemTooLarge     = "Item size has exceeded the maximum allowed size"
	updateTooLarge   = "Item size to update has exceeded the maximum allowed size"
	tooDeep          = "Nesting Levels have exceeded supported limits"
	keySchemaMissing = "The provided key element does not match the schema"
)

// Item is a row: attribute names and values. Items that the Service hands out are shared with its storage and must
// not be modified.
type Item map[string]Value

// Value is one attribute value: String, Number, Binary, Bool, Null, List, Map, StringSet, NumberSet or BinarySet.
// Values are never modified once built.
type Value interface {
	kind() string                    // DynamoDB's name of the type: "S", "NS", …
	size() int                       // bytes as DynamoDB charges them
	appendJSON(b []byte) []byte      // the content alone, without its type
	equal(other Value) bool          // same type and same value; sets whatever their order
	compare(other Value) (int, bool) // order; false where the two have none
}

// The types of values.
type (
	String    string
	Binary    string // raw bytes
	Bool      bool
	Null      struct{}
	List      []Value
	Map       map[string]Value
	StringSet []String
	NumberSet []Number
	BinarySet []Binary
)

func (String) kind() string    { return "S" }
func (Number) kind() string    { return "N" }
func (Binary) kind() string    { return "B" }
func (Bool) kind() string      { return "BOOL" }
func (Null) kind() string      { return "NULL" }
func (List) kind() string      { return "L" }
func (Map) kind() string       { return "M" }
func (StringSet) kind() string { return "SS" }
func (NumberSet) kind() string { return "NS" }
func (BinarySet) kind() string { return "BS" }

func (v String) size() int    { return len(v) }
func (v Binary) size() int    { return len(v) }
func (Bool) size() int        { return 1 }
func (Null) size() int        { return 1 }
func (v StringSet) size() int { return sumOfSizes(v) }
func (v NumberSet) size() int { return sumOfSizes(v) }
func (v BinarySet) size() int { return sumOfSizes(v) }
func (v List) size() int      { return containerBytes + len(v)*bytesPerElement + sumOfSizes(v) }
func (v Map) size() int       { return containerBytes + len(v)*bytesPerElement + Item(v).size() }

func sumOfSizes[V Value](values []V) int {
	sum := 0
	for _, v := range values {
		sum += v.size()
	}
	return sum
}

// size counts names and values in bytes as DynamoDB does for its limit and its charges.
func (item Item) size() int {
	sum := 0
	for name, v := range item {
		sum += len(name) + v.size()
	}
	return sum
}

func (v String) equal(o Value) bool    { w, ok := o.(String); return ok && v == w }
func (n Number) equal(o Value) bool    { w, ok := o.(Number); return ok && n == w }
func (v Binary) equal(o Value) bool    { w, ok := o.(Binary); return ok && v == w }
func (v Bool) equal(o Value) bool      { w, ok := o.(Bool); return ok && v == w }
func (Null) equal(o Value) bool        { _, ok := o.(Null); return ok }
func (v StringSet) equal(o Value) bool { w, ok := o.(StringSet); return ok && equalSets(v, w) }
func (v NumberSet) equal(o Value) bool { w, ok := o.(NumberSet); return ok && equalSets(v, w) }
func (v BinarySet) equal(o Value) bool { w, ok := o.(BinarySet); return ok && equalSets(v, w) }

func (v List) equal(o Value) bool {
	w, ok := o.(List)
	return ok && slices.EqualFunc(v, w, Value.equal)
}

func (v Map) equal(o Value) bool {
	w, ok := o.(Map)
	return ok && maps.EqualFunc(v, w, Value.equal)
}

func equalSets[V comparable](a, b []V) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(v V) bool { return !slices.Contains(b, v) })
}

func (v String) compare(o Value) (int, bool) {
	w, ok := o.(String)
	return strings.Compare(string(v), string(w)), ok
}

func (v Binary) compare(o Value) (int, bool) {
	w, ok := o.(Binary)
	return strings.Compare(string(v), string(w)), ok
}

func (n Number) compare(o Value) (int, bool) {
	w, ok := o.(Number)
	return n.Compare(w), ok
}

func (Bool) compare(Value) (int, bool)      { return 0, false }
func (Null) compare(Value) (int, bool)      { return 0, false }
func (List) compare(Value) (int, bool)      { return 0, false }
func (Map) compare(Value) (int, bool)       { return 0, false }
func (StringSet) compare(Value) (int, bool) { return 0, false }
func (NumberSet) compare(Value) (int, bool) { return 0, false }
func (BinarySet) compare(Value) (int, bool) { return 0, false }

func (v String) appendJSON(b []byte) []byte { return appendText(b, string(v)) }
func (n Number) appendJSON(b []byte) []byte {
	return append(append(append(b, '"'), n.String()...), '"')
}
func (v StringSet) appendJSON(b []byte) []byte { return appendSet(b, v) }
func (v NumberSet) appendJSON(b []byte) []byte { return appendSet(b, v) }
func (v BinarySet) appendJSON(b []byte) []byte { return appendSet(b, v) }
func (v Map) appendJSON(b []byte) []byte       { return appendItem(b, Item(v)) }
func (Null) appendJSON(b []byte) []byte        { return append(b, "true"...) }

func (v Binary) appendJSON(b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(b, '"'), []byte(v)), '"')
}

func (v Bool) appendJSON(b []byte) []byte {
	if v {
		return append(b, "true"...)
	}
	return append(b, "false"...)
}

func (v List) appendJSON(b []byte) []byte {
	b = append(b, '[')
	for i, element := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendValue(b, element)
	}
	return append(b, ']')
}

func appendSet[V Value](b []byte, set []V) []byte {
	b = append(b, '[')
	for i, element := range set {
		if i > 0 {
			b = append(b, ',')
		}
		b = element.appendJSON(b)
	}
	return append(b, ']')
}

func appendValue(b []byte, v Value) []byte {
	b = append(append(append(b, `{"`...), v.kind()...), `":`...)
	return append(v.appendJSON(b), '}')
}

// appendItem writes attributes in the order of their names, so that equal items give equal answers.
func appendItem(b []byte, item Item) []byte {
	names := make([]string, 0, 16)
	for name := range item {
		names = append(names, name)
	}
	slices.Sort(names)
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, name), ':')
		b = appendValue(b, item[name])
	}
	return append(b, '}')
}

// checkSet refuses empty sets and duplicates.
func checkSet[V interface {
	comparable
	Value
}](set []V, empty string) error {
	if len(set) == 0 {
		return invalid("One or more parameter values were invalid: %s", empty)
	}
	seen := make(map[V]bool, len(set))
	for _, v := range set {
		if !seen[v] {
			seen[v] = true
			continue
		}
		switch any(v).(type) {
		case Number:
			return invalid("Input collection contains duplicates")
		case Binary:
			return invalid("One or more parameter values were invalid: Input collection %sof type BS contains duplicates.", listed(set))
		default:
			return invalid("One or more parameter values were invalid: Input collection %s contains duplicates.", listed(set))
		}
	}
	return nil
}

func listed[V Value](set []V) string {
	texts := make([]string, len(set))
	for i, v := range set {
		texts[i] = strings.Trim(string(v.appendJSON(nil)), `"`)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// depthOf counts the levels of lists and maps in v.
func depthOf(v Value) int {
	deepest := 0
	switch v := v.(type) {
	case List:
		for _, element := range v {
			deepest = max(deepest, depthOf(element))
		}
	case Map:
		for _, element := range v {
			deepest = max(deepest, depthOf(element))
		}
	default:
		return 0
	}
	return deepest + 1
}
