// Package pattern decides which events a destination wants. Patterns are written in the language of EventBridge event
// patterns, over CloudEvents: attributes stand at the top level, the payload under "data".
//
//	{"type": [{"prefix": "order."}], "data": {"state": ["paid", "shipped"], "test": [{"exists": false}]}}
//
// A field names an array of alternatives and fits if one of them does; a pattern fits if every field does. Known
// alternatives: exact strings, numbers, booleans and null, {"prefix": …}, {"suffix": …}, {"anything-but": value or
// list} and {"exists": true or false}. An operator that is not known is refused, never ignored.
//
// The rules that surprise, all as EventBridge has them:
//
//   - Numbers compare by their text: 300 is neither 300.0 nor 3e2, and never the string "300".
//   - A field that holds an array fits if any element does, {"anything-but": …} included. Fields of objects inside an
//     array must be found in the same element.
//   - {"exists": …} looks at strings, numbers, booleans and null; a field that holds an object or an empty array does
//     not exist. {"anything-but": …} needs the field to exist.
//
// Attributes are strings in CloudEvents, so a pattern that compares one with a number can never fit and is refused.
// A payload that is not one JSON value has no fields. Of members that a payload repeats, the last one counts.
package pattern

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Bounds of one pattern. EventBridge allows 2,048 characters.
const (
	MaxBytes = 16 << 10
	MaxDepth = 32 // objects and arrays inside each other
)

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
	attributes []*field // all of them leaves
	data       *field   // nil if the pattern does not look into the payload
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
// attributes holds, and at most once per Event.
func (p *Pattern) Match(e *Event) bool {
	if p == nil {
		return true
	}
	for _, f := range p.attributes {
		if !f.fits(e.attribute(f.name)) {
			return false
		}
	}
	return p.data == nil || p.data.fits(e.payload())
}
