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

// Value is one attribute value: String, Number, Binary, Bool, Null, List, Map or Set.
// Values are never modified once built.
type Value interface {
	kind() string                    // DynamoDB's name of the type: "S", "NS", …
	size() int                       // bytes as DynamoDB charges them
	appendJSON(b []byte) []byte      // the content alone, without its type
	equal(other Value) bool          // same type and same value; sets whatever their order
	compare(other Value) (int, bool) // order; false where the two have none
}

// The types of values; Number has a file of its own.
type (
	// String is UTF-8 text.
	String string
	// Binary holds raw bytes.
	Binary string
	// Bool is a truth value.
	Bool bool
	// Null is DynamoDB's NULL, which is not the same as no attribute.
	Null struct{}
	// List holds values of any types.
	List []Value
	// Map holds named values of any types.
	Map map[string]Value
	// Set is never empty and holds all Strings, all Numbers or all Binaries, without duplicates.
	Set []Value
)

func (String) kind() string { return "S" }
func (Number) kind() string { return "N" }
func (Binary) kind() string { return "B" }
func (Bool) kind() string   { return "BOOL" }
func (Null) kind() string   { return "NULL" }
func (List) kind() string   { return "L" }
func (Map) kind() string    { return "M" }
func (v Set) kind() string  { return v[0].kind() + "S" }

func (v String) size() int { return len(v) }
func (v Binary) size() int { return len(v) }
func (Bool) size() int     { return 1 }
func (Null) size() int     { return 1 }
func (v Set) size() int    { return sumOfSizes(v) }
func (v List) size() int   { return containerBytes + len(v)*bytesPerElement + sumOfSizes(v) }
func (v Map) size() int    { return containerBytes + len(v)*bytesPerElement + Item(v).size() }

func sumOfSizes(values []Value) int {
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

func (v String) equal(o Value) bool { w, ok := o.(String); return ok && v == w }
func (n Number) equal(o Value) bool { w, ok := o.(Number); return ok && n == w }
func (v Binary) equal(o Value) bool { w, ok := o.(Binary); return ok && v == w }
func (v Bool) equal(o Value) bool   { w, ok := o.(Bool); return ok && v == w }
func (Null) equal(o Value) bool     { _, ok := o.(Null); return ok }

func (v List) equal(o Value) bool {
	w, ok := o.(List)
	return ok && slices.EqualFunc(v, w, Value.equal)
}

func (v Map) equal(o Value) bool {
	w, ok := o.(Map)
	return ok && maps.EqualFunc(v, w, Value.equal)
}

func (v Set) equal(o Value) bool {
	w, ok := o.(Set)
	return ok && len(v) == len(w) && !slices.ContainsFunc(v, func(e Value) bool { return !slices.Contains(w, e) })
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

func (Bool) compare(Value) (int, bool) { return 0, false }
func (Null) compare(Value) (int, bool) { return 0, false }
func (List) compare(Value) (int, bool) { return 0, false }
func (Map) compare(Value) (int, bool)  { return 0, false }
func (Set) compare(Value) (int, bool)  { return 0, false }

func (v String) appendJSON(b []byte) []byte { return appendText(b, string(v)) }
func (n Number) appendJSON(b []byte) []byte {
	return append(append(append(b, '"'), n.String()...), '"')
}
func (v Map) appendJSON(b []byte) []byte { return appendItem(b, Item(v)) }
func (Null) appendJSON(b []byte) []byte  { return append(b, "true"...) }

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

func (v Set) appendJSON(b []byte) []byte {
	b = append(b, '[')
	for i, element := range v {
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

// newSet makes a set of values. It refuses what is no set.
func newSet(values []Value) (Set, error) {
	seen := make(map[Value]bool, len(values))
	for _, v := range values {
		switch {
		case !isScalar(v) || v.kind() != values[0].kind():
			return nil, invalid("One or more parameter values were invalid: the elements of a set must be all strings, all numbers or all binary values")
		case !seen[v]:
			seen[v] = true
		case v.kind() == "N":
			return nil, invalid("Input collection contains duplicates")
		case v.kind() == "B":
			return nil, invalid("One or more parameter values were invalid: Input collection %sof type BS contains duplicates.", listed(values))
		default:
			return nil, invalid("One or more parameter values were invalid: Input collection %s contains duplicates.", listed(values))
		}
	}
	if len(values) == 0 {
		return nil, invalid("One or more parameter values were invalid: An string set  may not be empty")
	}
	return values, nil
}

// isScalar tells whether v has one of the types of keys and of the elements of sets.
func isScalar(v Value) bool {
	switch v.(type) {
	case String, Number, Binary:
		return true
	}
	return false
}

func listed(set []Value) string {
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
