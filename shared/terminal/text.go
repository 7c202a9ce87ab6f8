// Package terminal is what the programs that a person runs have in common: they show texts that somebody else wrote, count things, and read times,
// lists and misspelt words from a command line. Its functions keep no state and may be called at the same time.
package terminal

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable makes a text from outside harmless: the result is one line of valid UTF-8 that cannot steer a terminal and has at most so many characters,
// the last of them "…" where the text was cut. Whatever strconv.IsPrint refuses becomes a question mark: line ends and other control characters, and
// with them escape sequences, characters that turn the direction of writing or are not seen, and blanks other than the space. A byte that is not UTF-8
// becomes U+FFFD. No more of the text is looked at than is shown.
func Printable(text string, most int) string {
	return shown(text, most, func(rune) string { return "?" })
}

// Escaped is Printable for those who want to know what was there: in place of a question mark stands the character's escape sequence in Go, such as
// \n or \u202e, which is never cut in two. A backslash of the text's own stays as it is.
func Escaped(text string, most int) string {
	return shown(text, most, func(c rune) string { return strings.Trim(strconv.QuoteRune(c), "'") })
}

// shown writes a text with substitutes for what is not printable.
func shown(text string, most int, substitute func(rune) string) string {
	if most <= 0 {
		return ""
	}
	var b strings.Builder
	length, room := 0, 0 // in characters; in bytes, what may stay before an ellipsis
	for _, c := range text {
		part := string(c) // U+FFFD for a byte that is not UTF-8
		if !strconv.IsPrint(c) {
			part = substitute(c)
		}
		if length += utf8.RuneCountInString(part); length > most {
			return b.String()[:room] + "…"
		}
		b.WriteString(part)
		if length < most {
			room = b.Len()
		}
	}
	return b.String()
}

// Plural counts things: "1 event", "2 events", "0 deliveries". A noun that ends in y is taken to end in a consonant and y.
func Plural(n int, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "y"):
		noun = strings.TrimSuffix(noun, "y") + "ies"
	default:
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
