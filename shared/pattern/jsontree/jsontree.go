// Package jsontree reads a JSON document that a person wrote into a tree whose every value remembers where it stood, so
// that whoever checks the document can name line and column of each problem instead of stopping at the first.
//
// encoding/json loses exactly what such a check needs: the order of members, members that appear twice, the text of
// numbers and all positions. A tree is immutable after Parse and safe for concurrent reading.
package jsontree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind says what a value is.
type Kind int

// The kinds of JSON values.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

// String gives the kind with its article, ready for a sentence: "an object".
func (k Kind) String() string {
	switch k {
	case Null:
		return "null"
	case Bool:
		return "a boolean"
	case Number:
		return "a number"
	case String:
		return "a string"
	case Array:
		return "an array"
	case Object:
		return "an object"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Node is one value of the document.
type Node struct {
	Kind    Kind
	Text    string   // the decoded string, the number as it was written, "true" or "false"; empty otherwise
	Members []Member // of an object, in order, repeated names included
	Items   []*Node  // of an array
	Offset  int      // of the value's first byte in the document
	End     int      // of the byte after its last
}

// Member is one name and value of an object.
type Member struct {
	Name   string
	Offset int // of the name's opening quote
	Value  *Node
}

// Get finds the first member with that name.
func (n *Node) Get(name string) (*Node, bool) {
	for _, m := range n.Members {
		if m.Name == name {
			return m.Value, true
		}
	}
	return nil, false
}

// Repeated gives every member whose name has already appeared in the same object. JSON parsers differ in which one
// counts, so a document with such a member has no certain meaning.
func (n *Node) Repeated() iter.Seq[Member] {
	return func(yield func(Member) bool) {
		seen := make(map[string]struct{}, len(n.Members))
		for _, m := range n.Members {
			if _, again := seen[m.Name]; again && !yield(m) {
				return
			}
			seen[m.Name] = struct{}{}
		}
	}
}

// SyntaxError says why a document is not one JSON value.
type SyntaxError struct {
	Offset  int // where reading stopped, at most the document's length
	Message string
	Fix     string // what the author can do; may be empty
}

// Error gives the message and the offset.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.Message, e.Offset) }

// Parse reads a document that holds one JSON value, nested at most maxDepth objects and arrays deep. The error is
// always a *SyntaxError. The document must be UTF-8; its size is the caller's to bound.
func Parse(document []byte, maxDepth int) (*Node, error) {
	if err := check(document); err != nil {
		return nil, err
	}
	r := &reader{document: document, maxDepth: maxDepth}
	return r.value(0)
}

// check validates the whole text before the tree is built, so that encoding/json decides what is JSON and the reader
// below only has to find the parts.
func check(document []byte) error {
	if at := invalidUTF8(document); at >= 0 {
		return &SyntaxError{Offset: at, Message: "the text is not valid UTF-8", Fix: "save the file as UTF-8"}
	}
	var whole json.RawMessage
	err := json.Unmarshal(document, &whole)
	if err == nil {
		return nil
	}
	refusal := &SyntaxError{Message: err.Error()}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		refusal.Offset = min(int(syntax.Offset), len(document))
		if refusal.Offset > 0 && !strings.Contains(refusal.Message, "unexpected end") {
			refusal.Offset-- // encoding/json counts the offending byte as read
		}
	}
	refusal.Fix = syntaxFix(document, refusal.Offset)
	return refusal
}

// syntaxFix recognises the mistakes that people make by hand.
func syntaxFix(document []byte, at int) string {
	if at >= len(document) {
		return "the text ends too early; close every quote, bracket and brace"
	}
	before := bytes.TrimRight(document[:at], " \t\r\n")
	switch next := document[at]; {
	case bytes.HasPrefix(document, []byte("\xef\xbb\xbf")):
		return "save the file without a byte order mark"
	case next == '/' || next == '#':
		return "JSON has no comments; remove it"
	case (next == '}' || next == ']') && bytes.HasSuffix(before, []byte(",")):
		return "remove the comma before it"
	case next == '\'':
		return `quote with "`
	case next == '"' && len(before) > 0:
		return "a comma or colon is missing before it"
	}
	return ""
}

func invalidUTF8(document []byte) int {
	if utf8.Valid(document) {
		return -1
	}
	for i := 0; i < len(document); {
		r, size := utf8.DecodeRune(document[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// reader builds the tree of a text that is known to be valid JSON.
type reader struct {
	document []byte
	at       int // next byte
	maxDepth int
}

// next skips blanks and separators and gives the first byte of what follows.
func (r *reader) next() byte {
	for {
		switch c := r.document[r.at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			r.at++
		default:
			return c
		}
	}
}

func (r *reader) value(depth int) (*Node, error) {
	first := r.next()
	node := &Node{Offset: r.at}
	var err error
	switch first {
	case '{':
		node.Kind = Object
		err = r.members(node, depth)
	case '[':
		node.Kind = Array
		err = r.items(node, depth)
	case '"':
		node.Kind = String
		node.Text, err = r.text()
	default:
		node.Text = r.literal()
		node.Kind = literalKind(first)
		if node.Kind == Null {
			node.Text = ""
		}
	}
	node.End = r.at
	return node, err
}

func (r *reader) members(node *Node, depth int) error {
	if err := r.enter(depth); err != nil {
		return err
	}
	for r.next() != '}' {
		start := r.at
		name, err := r.text()
		if err != nil {
			return err
		}
		value, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		node.Members = append(node.Members, Member{Name: name, Offset: start, Value: value})
	}
	r.at++
	return nil
}

func (r *reader) items(node *Node, depth int) error {
	if err := r.enter(depth); err != nil {
		return err
	}
	for r.next() != ']' {
		value, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		node.Items = append(node.Items, value)
	}
	r.at++
	return nil
}

// enter passes the opening bracket or brace.
func (r *reader) enter(depth int) error {
	if depth >= r.maxDepth {
		return &SyntaxError{
			Offset:  r.at,
			Message: fmt.Sprintf("nested more than %d levels deep", r.maxDepth),
			Fix:     "nest less deeply",
		}
	}
	r.at++
	return nil
}

// text reads a string.
func (r *reader) text() (string, error) {
	start, escaped := r.at, false
	for r.at++; r.document[r.at] != '"'; r.at++ {
		if r.document[r.at] == '\\' {
			escaped = true
			r.at++
		}
	}
	r.at++
	if !escaped {
		return string(r.document[start+1 : r.at-1]), nil
	}
	var text string
	if err := json.Unmarshal(r.document[start:r.at], &text); err != nil {
		return "", &SyntaxError{Offset: start, Message: err.Error()}
	}
	return text, nil
}

// literal reads a number, true, false or null.
func (r *reader) literal() string {
	start := r.at
	for r.at < len(r.document) && bytes.IndexByte([]byte(" \t\r\n,:]}"), r.document[r.at]) < 0 {
		r.at++
	}
	return string(r.document[start:r.at])
}

func literalKind(first byte) Kind {
	switch first {
	case 'n':
		return Null
	case 't', 'f':
		return Bool
	}
	return Number
}

// Field gives the path of an object's member: `data.state`, or `data["odd name"]` where the name is no plain word.
func Field(path, name string) string {
	switch {
	case !plain(name):
		return path + "[" + strconv.Quote(name) + "]"
	case path == "":
		return name
	}
	return path + "." + name
}

// Index gives the path of an array's item: `data.state[2]`.
func Index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func plain(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '$':
		default:
			return false
		}
	}
	return name != ""
}
