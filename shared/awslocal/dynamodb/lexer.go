package dynamodb

import (
	"strings"
)

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenQuotedName  // "name", PartiQL only
	tokenAlias       // #name, expressions only
	tokenPlaceholder // :name, expressions only
	tokenNumber
	tokenString // 'text', PartiQL only
	tokenSymbol
	tokenBad
)

type token struct {
	kind tokenKind
	text string // the content, without quotes; symbols and names as written
	from int    // where it starts
	to   int    // where it ends
}

// lex cuts an expression or a PartiQL statement into tokens; a tokenEnd closes the list. What fits nowhere becomes a
// tokenBad, which no parser accepts.
func lex(text string, statement bool) []token {
	tokens := make([]token, 0, len(text)/4+2)
	for at := 0; ; {
		for at < len(text) && strings.IndexByte(" \t\r\n", text[at]) >= 0 {
			at++
		}
		if at == len(text) {
			return append(tokens, token{kind: tokenEnd, text: "<EOF>", from: at, to: at})
		}
		t := lexOne(text, at, statement)
		tokens = append(tokens, t)
		at = t.to
	}
}

func lexOne(text string, at int, statement bool) token {
	c := text[at]
	t := token{kind: tokenBad, from: at, to: at + 1}
	switch {
	case isLetter(c):
		t.kind, t.to = tokenName, at+wordLength(text[at:])
	case c >= '0' && c <= '9':
		t.kind, t.to = tokenNumber, at+1+numberLength(text[at+1:], statement)
	case !statement && (c == '#' || c == ':'):
		if n := wordLength(text[at+1:]); n > 0 {
			t.kind, t.to = tokenPlaceholder, at+1+n
			if c == '#' {
				t.kind = tokenAlias
			}
		}
	case statement && (c == '\'' || c == '"'):
		return lexQuoted(text, at)
	default:
		t.kind, t.to = tokenSymbol, at+symbolLength(text[at:], statement)
		if t.to == at {
			t.kind, t.to = tokenBad, at+1
		}
	}
	t.text = text[t.from:t.to]
	return t
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }

func wordLength(s string) int {
	n := 0
	for n < len(s) && (isLetter(s[n]) || s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return n
}

// numberLength counts what follows a number's first character: digits, and in a statement fraction and exponent.
func numberLength(s string, statement bool) int {
	n := 0
	for n < len(s) {
		switch c := s[n]; {
		case c >= '0' && c <= '9':
		case statement && (c == '.' || c == 'e' || c == 'E'):
		case statement && (c == '-' || c == '+') && n > 0 && (s[n-1] == 'e' || s[n-1] == 'E'):
		default:
			return n
		}
		n++
	}
	return n
}

// lexQuoted reads 'text' or "name"; a doubled quote stands for one.
func lexQuoted(text string, at int) token {
	quote := text[at]
	kind := tokenString
	if quote == '"' {
		kind = tokenQuotedName
	}
	var content strings.Builder
	for i := at + 1; i < len(text); i++ {
		if text[i] != quote {
			content.WriteByte(text[i])
			continue
		}
		if i+1 < len(text) && text[i+1] == quote {
			content.WriteByte(quote)
			i++
			continue
		}
		return token{kind: kind, text: content.String(), from: at, to: i + 1}
	}
	return token{kind: tokenBad, text: text[at:], from: at, to: len(text)}
}

func symbolLength(s string, statement bool) int {
	if len(s) > 1 {
		switch s[:2] {
		case "<>", "<=", ">=":
			return 2
		case "!=", "<<", ">>":
			if statement {
				return 2
			}
		}
	}
	if strings.IndexByte("()[],.=<>+-", s[0]) >= 0 || statement && strings.IndexByte("{}:?*", s[0]) >= 0 {
		return 1
	}
	return 0
}
