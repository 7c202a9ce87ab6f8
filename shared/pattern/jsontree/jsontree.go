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
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	r := &reader{document: document, decoder: decoder, maxDepth: maxDepth}
	return r.value(0)
}

// check validates the whole text before the tree is built: the scanner of encoding/json reports an exact offset only
// when it sees the document as a whole.
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

type reader struct {
	document []byte
	decoder  *json.Decoder
	maxDepth int
}

// token reads the next token and the offset of its first byte.
func (r *reader) token() (json.Token, int, error) {
	start := int(r.decoder.InputOffset())
	for start < len(r.document) && strings.IndexByte(" \t\r\n,:", r.document[start]) >= 0 {
		start++
	}
	token, err := r.decoder.Token()
	if err != nil {
		return nil, start, &SyntaxError{Offset: start, Message: err.Error()}
	}
	return token, start, nil
}

func (r *reader) value(depth int) (*Node, error) {
	token, start, err := r.token()
	if err != nil {
		return nil, err
	}
	node := &Node{Offset: start}
	switch token := token.(type) {
	case string:
		node.Kind, node.Text = String, token
	case json.Number:
		node.Kind, node.Text = Number, token.String()
	case bool:
		node.Kind, node.Text = Bool, strconv.FormatBool(token)
	case json.Delim:
		if depth >= r.maxDepth {
			return nil, &SyntaxError{
				Offset:  start,
				Message: fmt.Sprintf("nested more than %d levels deep", r.maxDepth),
				Fix:     "nest less deeply",
			}
		}
		if token == '{' {
			node.Kind = Object
			err = r.members(node, depth+1)
		} else {
			node.Kind = Array
			err = r.items(node, depth+1)
		}
		if err != nil {
			return nil, err
		}
	}
	node.End = int(r.decoder.InputOffset())
	return node, nil
}

func (r *reader) members(node *Node, depth int) error {
	for r.decoder.More() {
		token, start, err := r.token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // the text was validated: a member begins with a string
		value, err := r.value(depth)
		if err != nil {
			return err
		}
		node.Members = append(node.Members, Member{Name: name, Offset: start, Value: value})
	}
	_, _, err := r.token()
	return err
}

func (r *reader) items(node *Node, depth int) error {
	for r.decoder.More() {
		value, err := r.value(depth)
		if err != nil {
			return err
		}
		node.Items = append(node.Items, value)
	}
	_, _, err := r.token()
	return err
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
