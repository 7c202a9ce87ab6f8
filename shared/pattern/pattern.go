// Package pattern decides which events a destination wants. Patterns are written in the language of EventBridge event
// patterns, over CloudEvents: attributes stand at the top level, the payload under "data".
//
//	{"type": [{"prefix": "order."}], "data": {"state": ["paid", "shipped"], "test": [{"exists": false}]}}
//
// A field names an array of alternatives and fits if one of them does; a pattern fits if every field does. The
// alternatives:
//
//	"paid", 300, true, null             the value itself; "" is the empty string
//	{"prefix": "order."}                strings that begin so; {"prefix": {"equals-ignore-case": "order."}}
//	{"suffix": ".png"}                  strings that end so; {"suffix": {"equals-ignore-case": ".png"}}
//	{"equals-ignore-case": "alice"}     strings, whatever the case
//	{"wildcard": "dir/*.png"}           strings; * is any run of characters, \* an asterisk and \\ a backslash
//	{"numeric": [">", 0, "<=", 5]}      numbers; one of = < <= > >=, or a lower and an upper bound
//	{"cidr": "10.0.0.0/24"}             strings that are addresses of the block, IPv4 or IPv6
//	{"exists": true}, {"exists": false} the field is there, or is not
//	{"anything-but": "paid"}            any value but this string or number, or but those of a list
//	{"anything-but": {"prefix": "x"}}   any value but those; also suffix, equals-ignore-case, wildcard; a value or a list
//
// "$or": [{…}, {…}] stands where a field would and fits if the fields of one of its objects do. An operator that is not
// known is refused, never ignored.
//
// The rules that surprise, all as EventBridge has them:
//
//   - Exact numbers compare by their text: 300 is neither 300.0 nor 3e2, and never the string "300". So do those of
//     {"anything-but": …}.
//   - {"numeric": …} compares by value, between -5e9 and 5e9 inclusive, and to six decimals: digits after the sixth are
//     ignored in events and refused in patterns. Numbers beyond the limits fit no comparison.
//   - A field that holds an array fits if any element does, {"anything-but": …} included. Fields of objects inside an
//     array must be found in the same element.
//   - {"exists": …} looks at strings, numbers, booleans and null; a field that holds an object or an empty array does
//     not exist. {"anything-but": …} needs the field to exist, and fits every value of another kind.
//   - A pattern with $or is multiplied out, into at most MaxCombinations patterns without one. Where EventBridge would
//     let the last of two conditions on the same field win, or take a malformed $or for a field, the pattern is refused.
//
// Attributes are strings in CloudEvents, so a pattern that compares one with a number can never fit and is refused; that
// is true of {"numeric": …} too. Case is ignored as strings.EqualFold does. A string is an address if it is written
// without a zone and without leading zeros; an IPv4 address in IPv6 form lies in the blocks of both. A wildcard costs no
// more than reading the value, so EventBridge's refusal of wildcards that are too complex has no counterpart. A payload
// that is not one JSON value has no fields. Of members that a payload repeats, the last one counts.
package pattern

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Bounds of one pattern. EventBridge allows 2,048 characters.
const (
	MaxBytes        = 16 << 10
	MaxDepth        = 32   // objects and arrays inside each other
	MaxCombinations = 1000 // the product of the lengths of every $or, as for EventBridge
)

// maxConditions bounds the memory of a pattern whose $or is multiplied out.
const maxConditions = 1 << 16

// ErrInvalid is matched by every error of Parse.
var ErrInvalid = errors.New("invalid event pattern")

// Problem is one fault of a pattern.
type Problem struct {
	Path    string // where, from the word "pattern" on: pattern.data.state[1].prefix
	Offset  int    // of the value at fault in the text given to Parse, in bytes
	Message string
	Fix     string // what to write instead; may be empty
}

// String gives the problem on one line.
func (p Problem) String() string {
	if p.Fix == "" {
		return p.Path + ": " + p.Message
	}
	return p.Path + ": " + p.Message + "; " + p.Fix
}

// Error lists every problem of a pattern, in the order of the text.
type Error struct {
	Problems []Problem
}

// Error gives one line per problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Is matches ErrInvalid.
func (e *Error) Is(target error) bool { return target == ErrInvalid }

// Pattern is a compiled pattern, immutable and safe for concurrent use. A nil Pattern and the zero Pattern fit every
// event.
type Pattern struct {
	branches []*branch // the ways to fit; none for a pattern that asks for nothing
}

// Parse compiles a pattern. No text and the empty object give a pattern that fits every event; JSON null is refused, so
// that a template without a value does not subscribe to everything. The error is an *Error that lists every problem.
func Parse(text json.RawMessage) (*Pattern, error) {
	if len(text) == 0 {
		return &Pattern{}, nil
	}
	if len(text) > MaxBytes {
		return nil, &Error{Problems: []Problem{{
			Path:    "pattern",
			Message: fmt.Sprintf("has %d bytes", len(text)),
			Fix:     fmt.Sprintf("use at most %d bytes, or split it over several destinations", MaxBytes),
		}}}
	}
	return compile(text)
}

// Match reports whether the event fits. It parses the payload only if the pattern looks into it and every condition on
// attributes holds, and at most once per Event. Ask an Index where there are many patterns.
func (p *Pattern) Match(e *Event) bool {
	if p == nil || len(p.branches) == 0 {
		return true
	}
	for _, b := range p.branches {
		if b.fits(e) {
			return true
		}
	}
	return false
}
