package registry

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrInvalid is matched by every error of Parse.
var ErrInvalid = errors.New("invalid destinations")

// Problem is one fault of a file. Its texts never repeat a secret or a header's value.
type Problem struct {
	Line    int // from 1
	Column  int // in characters, from 1
	Field   string
	Message string
	Fix     string // what to write instead; may be empty where Message says it
}

// String gives the problem on one line: 4:13: destinations[0].id: message; fix.
func (p Problem) String() string {
	text := fmt.Sprintf("%d:%d: ", p.Line, p.Column)
	if p.Field != "" {
		text += p.Field + ": "
	}
	text += p.Message
	if p.Fix != "" {
		text += "; " + p.Fix
	}
	return text
}

// ProblemsError lists every problem of a file, in the order of the file.
type ProblemsError struct {
	Name     string // of the file, if it was given
	Problems []Problem
	Omitted  int // further problems, beyond MaxProblems
}

// MaxProblems bounds how many problems of one file are kept: a file that has more is not one that was written for us.
const MaxProblems = 10_000

// maxProblemsShown bounds the text of an error; Problems has the others.
const maxProblemsShown = 100

// Error gives one line per problem, as compilers do: FILE:LINE:COLUMN: FIELD: MESSAGE; FIX.
func (e *ProblemsError) Error() string {
	var text strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			text.WriteByte('\n')
		}
		if i == maxProblemsShown {
			fmt.Fprintf(&text, "and %d more", len(e.Problems)-i+e.Omitted)
			break
		}
		if e.Name != "" {
			text.WriteString(e.Name + ":")
		}
		text.WriteString(p.String())
	}
	return text.String()
}

// Is matches ErrInvalid.
func (e *ProblemsError) Is(target error) bool { return target == ErrInvalid }

// located is a problem whose line is not known yet.
type located struct {
	offset int
	Problem
}

// secretText finds secrets that were written where a name or another value belongs.
var secretText = regexp.MustCompile(`whsec_[^\s"';,\]]+`)

// fail records a problem at a byte of the document.
func (r *reader) fail(offset int, field, message, fix string) {
	if len(r.problems) == MaxProblems {
		r.omitted++
		return
	}
	scrub := func(text string) string { return secretText.ReplaceAllString(text, redacted) }
	r.problems = append(r.problems, located{offset, Problem{Field: scrub(field), Message: scrub(message), Fix: fix}})
}

// err gives all problems in the order of the document, or nil.
func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b located) int { return a.offset - b.offset })
	refusal := &ProblemsError{Name: r.options.Name, Problems: make([]Problem, len(r.problems)), Omitted: r.omitted}
	line, column, at := 1, 1, 0
	for i, p := range r.problems {
		for at < min(p.offset, len(r.document)) {
			c, size := utf8.DecodeRune(r.document[at:])
			at += size
			column++
			if c == '\n' {
				line, column = line+1, 1
			}
		}
		p.Line, p.Column = line, column
		refusal.Problems[i] = p.Problem
	}
	return refusal
}
