package pattern

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

// text is a condition on strings.
type text struct {
	accepts func(string) bool
	keys    []key // what an index may file it under, any of which will do
}

// textCompiler compiles an operator's argument, which must be a string, or reports a problem.
type textCompiler func(c *compiler, at place, value *jsontree.Node) (text, bool)

func (c *compiler) string(at place, value *jsontree.Node) bool {
	if value.Kind != jsontree.String {
		c.fail(at.path, value.Offset, "needs a string, is "+value.Kind.String(), "")
		return false
	}
	return true
}

func prefixed(c *compiler, at place, value *jsontree.Node) (text, bool) {
	return text{
		accepts: func(s string) bool { return strings.HasPrefix(s, value.Text) },
		keys:    []key{{kind: startsWith, scalar: scalar{text: value.Text}}},
	}, c.string(at, value)
}

func suffixed(c *compiler, at place, value *jsontree.Node) (text, bool) {
	return text{
		accepts: func(s string) bool { return strings.HasSuffix(s, value.Text) },
		keys:    []key{{kind: endsWith, scalar: scalar{text: value.Text}}},
	}, c.string(at, value)
}

func folded(c *compiler, at place, value *jsontree.Node) (text, bool) {
	return text{
		accepts: func(s string) bool { return strings.EqualFold(s, value.Text) },
		keys:    []key{{kind: equalToFolded, scalar: scalar{text: fold(value.Text)}}},
	}, c.string(at, value)
}

func prefixedFolded(c *compiler, at place, value *jsontree.Node) (text, bool) {
	length := utf8.RuneCountInString(value.Text)
	return text{
		accepts: func(s string) bool {
			end := 0
			for range length {
				if end == len(s) {
					return false
				}
				_, size := utf8.DecodeRuneInString(s[end:])
				end += size
			}
			return strings.EqualFold(s[:end], value.Text)
		},
		keys: []key{{kind: startsWithFolded, scalar: scalar{text: fold(value.Text)}}},
	}, c.string(at, value)
}

func suffixedFolded(c *compiler, at place, value *jsontree.Node) (text, bool) {
	length := utf8.RuneCountInString(value.Text)
	return text{
		accepts: func(s string) bool {
			start := len(s)
			for range length {
				if start == 0 {
					return false
				}
				_, size := utf8.DecodeLastRuneInString(s[:start])
				start -= size
			}
			return strings.EqualFold(s[start:], value.Text)
		},
		keys: []key{{kind: endsWithFolded, scalar: scalar{text: fold(value.Text)}}},
	}, c.string(at, value)
}

// fold maps strings that differ in case only, as strings.EqualFold sees it, to the same one.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf {
			if 'a' <= r && r <= 'z' {
				r -= 'a' - 'A'
			}
			return r
		}
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, s)
}

// nonEmpty refuses the empty string, which every string begins and ends with.
func nonEmpty(compile textCompiler) textCompiler {
	return func(c *compiler, at place, value *jsontree.Node) (text, bool) {
		if value.Kind == jsontree.String && value.Text == "" {
			c.fail(at.path, value.Offset, "is empty, so it would exclude every string", "name what to exclude")
			return text{}, false
		}
		return compile(c, at, value)
	}
}

func wildcard(c *compiler, at place, value *jsontree.Node) (text, bool) {
	if !c.string(at, value) {
		return text{}, false
	}
	parts, ok := c.wildcardParts(at, value)
	if !ok {
		return text{}, false
	}
	return text{accepts: func(s string) bool { return glob(parts, s) }, keys: wildcardKeys(parts)}, true
}

// wildcardParts gives the literal texts between the asterisks: one more than there are asterisks.
func (c *compiler) wildcardParts(at place, value *jsontree.Node) ([]string, bool) {
	var parts []string
	var part strings.Builder
	for i := 0; i < len(value.Text); i++ {
		switch b := value.Text[i]; {
		case b == '*' && strings.HasPrefix(value.Text[i+1:], "*"):
			c.fail(at.path, value.Offset, fmt.Sprintf("has two asterisks in a row at byte %d", i), `write one; an asterisk itself is "\\*"`)
			return nil, false
		case b == '*':
			parts = append(parts, part.String())
			part.Reset()
		case b == '\\':
			i++
			if i == len(value.Text) || value.Text[i] != '*' && value.Text[i] != '\\' {
				c.fail(at.path, value.Offset, fmt.Sprintf("has a backslash at byte %d that escapes neither * nor \\", i-1), `a backslash itself is "\\\\" in JSON`)
				return nil, false
			}
			part.WriteByte(value.Text[i])
		default:
			part.WriteByte(b)
		}
	}
	return append(parts, part.String()), true
}

// glob reports whether s consists of the parts with anything between them. Taking each part where it first appears is
// enough, so s is read once.
func glob(parts []string, s string) bool {
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return s == first
	}
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(s, part)
		if at < 0 {
			return false
		}
		s = s[at+len(part):]
	}
	return true
}

// wildcardKeys gives each of the parts, since only an index of many can tell which one sets a wildcard apart.
func wildcardKeys(parts []string) []key {
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return []key{{kind: equalTo, scalar: scalar{jsontree.String, first}}}
	}
	keys := []key{{kind: startsWith, scalar: scalar{text: first}}, {kind: endsWith, scalar: scalar{text: last}}}
	for _, part := range parts[1 : len(parts)-1] {
		keys = append(keys, key{kind: contains, scalar: scalar{text: part}})
	}
	return keys
}
