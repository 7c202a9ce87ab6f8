package events

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// This file holds the JSON scanner. It exists beside encoding/json because the envelope rules need
// what encoding/json hides: the verbatim text of each member, member names compared by case,
// and members that occur twice. It never builds values, it is iterative, so nesting costs one
// byte a level and no stack, and it runs once over a body whatever the envelope is.

// text is what the scanner reads: bodies are strings, payloads are bytes.
type text interface{ string | []byte }

// syntaxError says where a text stops being JSON.
type syntaxError struct {
	offset int
	want   string
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("not JSON at byte %d: expected %s", e.offset, e.want)
}

// member is one member of a JSON object: its name without escapes, its value verbatim.
type member struct{ name, value string }

func skipSpace[T text](s T, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}

// skipValue checks the JSON value that begins at s[i], white space before it included, and returns
// the index behind it and how deep arrays and objects nest in it (0 for a scalar).
// It checks the grammar only: bytes inside strings are not checked to be UTF-8.
func skipValue[T text](s T, i int) (end, depth int, err error) {
	var room [64]byte
	open := room[:0] // the brackets that are open at i
	for {
		i = skipSpace(s, i)
		if i == len(s) {
			return i, depth, &syntaxError{i, "a value"}
		}
		switch c := s[i]; c {
		case '{', '[':
			i = skipSpace(s, i+1)
			open = append(open, c)
			depth = max(depth, len(open))
			if i < len(s) && s[i] == c+2 { // '{'+2 is '}', '['+2 is ']'
				break // empty: closed below
			}
			if c == '{' {
				if i, err = skipName(s, i); err != nil {
					return i, depth, err
				}
			}
			continue
		default:
			if i, err = skipScalar(s, i); err != nil {
				return i, depth, err
			}
		}
		// A value has ended, or an empty array or object is about to.
		for {
			if len(open) == 0 {
				return i, depth, nil
			}
			c := open[len(open)-1]
			i = skipSpace(s, i)
			if i < len(s) && s[i] == c+2 {
				open = open[:len(open)-1]
				i++
				continue
			}
			if i == len(s) || s[i] != ',' {
				return i, depth, &syntaxError{i, fmt.Sprintf("',' or '%c'", c+2)}
			}
			i++
			if c == '{' {
				if i, err = skipName(s, skipSpace(s, i)); err != nil {
					return i, depth, err
				}
			}
			break
		}
	}
}

// skipName skips a member's name and the colon behind it.
func skipName[T text](s T, i int) (int, error) {
	if i == len(s) || s[i] != '"' {
		return i, &syntaxError{i, "a member name in double quotes"}
	}
	i, err := skipString(s, i)
	if err != nil {
		return i, err
	}
	i = skipSpace(s, i)
	if i == len(s) || s[i] != ':' {
		return i, &syntaxError{i, "':'"}
	}
	return i + 1, nil
}

func skipScalar[T text](s T, i int) (int, error) {
	switch s[i] {
	case '"':
		return skipString(s, i)
	case 't':
		return skipWord(s, i, "true")
	case 'f':
		return skipWord(s, i, "false")
	case 'n':
		return skipWord(s, i, "null")
	default:
		return skipNumber(s, i)
	}
}

func skipWord[T text](s T, i int, word string) (int, error) {
	if len(s)-i < len(word) || string(s[i:i+len(word)]) != word {
		return i, &syntaxError{i, word}
	}
	return i + len(word), nil
}

// skipString skips the string whose opening quote is s[i].
func skipString[T text](s T, i int) (int, error) {
	for i++; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return i + 1, nil
		case c < ' ':
			return i, &syntaxError{i, "control characters in strings as \\u escapes"}
		case c == '\\':
			i++
			if i == len(s) {
				return i, &syntaxError{i, "the rest of an escape"}
			}
			switch s[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if _, ok := hex4(s, i+1); !ok {
					return i, &syntaxError{i, "four hexadecimal digits after \\u"}
				}
				i += 4
			default:
				return i, &syntaxError{i, "an escape that JSON knows"}
			}
		}
	}
	return i, &syntaxError{i, "a closing quote"}
}

// hex4 reads the four hexadecimal digits at s[i].
func hex4[T text](s T, i int) (r rune, ok bool) {
	if len(s)-i < 4 {
		return 0, false
	}
	for k := i; k < i+4; k++ {
		d, ok := hexDigit(s[k])
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func skipDigits[T text](s T, i int) (int, error) {
	if i == len(s) || s[i] < '0' || s[i] > '9' {
		return i, &syntaxError{i, "a digit"}
	}
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	return i, nil
}

func skipNumber[T text](s T, i int) (int, error) {
	start := i
	if s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++ // no digit may follow a leading zero: the caller finds it where ',' should be
	} else {
		end, err := skipDigits(s, i)
		if err != nil {
			if i == start {
				return i, &syntaxError{i, "a value"}
			}
			return end, err
		}
		i = end
	}
	var err error
	if i < len(s) && s[i] == '.' {
		if i, err = skipDigits(s, i+1); err != nil {
			return i, err
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if i, err = skipDigits(s, i); err != nil {
			return i, err
		}
	}
	return i, nil
}

// atEnd is the error for anything but white space from s[i] on.
func atEnd[T text](s T, i int) error {
	if i = skipSpace(s, i); i != len(s) {
		return &syntaxError{i, "nothing after the JSON value"}
	}
	return nil
}

// scanObject cuts the object whose brace is s[i] into its members and returns the index behind it.
func scanObject(s string, i int) (members []member, end int, err error) {
	members = make([]member, 0, 12)
	i = skipSpace(s, i+1)
	if i < len(s) && s[i] == '}' {
		return members, i + 1, nil
	}
	for {
		nameAt := skipSpace(s, i)
		if i, err = skipName(s, nameAt); err != nil {
			return nil, i, err
		}
		name := memberName(strings.TrimRight(s[nameAt:i-1], " \n\t\r"))
		valueAt := skipSpace(s, i)
		if i, _, err = skipValue(s, valueAt); err != nil {
			return nil, i, err
		}
		members = append(members, member{name, s[valueAt:i]})
		if i = skipSpace(s, i); i < len(s) && s[i] == '}' {
			return members, i + 1, nil
		}
		if i == len(s) || s[i] != ',' {
			return nil, i, &syntaxError{i, "',' or '}'"}
		}
		i++
	}
}

// memberName is a quoted name without quotes and escapes. A name that no UTF-8 text can spell
// (half a surrogate pair) stays in its escaped form, which equals no name that is looked for.
func memberName(quoted string) string {
	if name, ok := unquote(quoted); ok {
		return name
	}
	return quoted
}

// scanArray cuts the array whose bracket is s[i], already known to be JSON, into its elements,
// at most limit of them; more reports whether there are others.
func scanArray(s string, i, limit int) (elements []string, more bool) {
	i = skipSpace(s, i+1)
	for i < len(s) && s[i] != ']' {
		if len(elements) == limit {
			return elements, true
		}
		end, _, err := skipValue(s, i)
		if err != nil {
			return elements, false
		}
		elements = append(elements, s[i:end])
		i = skipSpace(s, end)
		if i < len(s) && s[i] == ',' {
			i = skipSpace(s, i+1)
		}
	}
	return elements, false
}

// unquote gives the content of a valid JSON string. It is false for half a surrogate pair, which no
// UTF-8 text can hold; encoding/json would silently put U+FFFD in its place.
func unquote(quoted string) (string, bool) {
	s := quoted[1 : len(quoted)-1]
	escape := strings.IndexByte(s, '\\')
	if escape < 0 {
		return s, true
	}
	out := make([]byte, 0, len(s))
	for escape >= 0 {
		out = append(out, s[:escape]...)
		c := s[escape+1]
		s = s[escape+2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(s, 0)
			s = s[4:]
			if utf16.IsSurrogate(r) {
				if !strings.HasPrefix(s, `\u`) {
					return "", false
				}
				low, _ := hex4(s, 2)
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return "", false
				}
				s = s[6:]
			}
			out = utf8.AppendRune(out, r)
			escape = strings.IndexByte(s, '\\')
			continue
		}
		out = append(out, c) // '"', '\\' and '/' stand for themselves
		escape = strings.IndexByte(s, '\\')
	}
	return string(append(out, s...)), true
}
