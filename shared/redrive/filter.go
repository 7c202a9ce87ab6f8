package redrive

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ReasonReceiveCount is the reason of messages that carry none: SQS itself moved them, by receive count.
const ReasonReceiveCount = "receive-count"

// Filter selects dead letters. All fields that are set must agree; within a field one value must. Texts are globs, in which
// * stands for any characters. What a message does not tell agrees with no value: something unreadable has no type.
type Filter struct {
	Destinations []string
	Tenants      []string
	Types        []string // of the event
	Reasons      []string // ReasonReceiveCount for those that SQS moved
	Codes        []Codes
	Since, Until time.Time // of the failure, Until excluded; zero: open. Of what SQS moved only the time of its sending is known, and counts
	// Unreadable admits messages that cannot be read, such as those of a newer release. They are left otherwise.
	Unreadable bool
}

// Empty tells that the filter selects everything that can be read.
func (f *Filter) Empty() bool {
	return len(f.Destinations)+len(f.Tenants)+len(f.Types)+len(f.Reasons)+len(f.Codes) == 0 && f.Since.IsZero() && f.Until.IsZero()
}

func (f *Filter) problems() (problems []error) {
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		problems = append(problems, fmt.Errorf("nothing can have failed since %s and until %s: exchange them",
			f.Since.Format(time.RFC3339), f.Until.Format(time.RFC3339)))
	}
	return problems
}

// matches tells whether the filter selects a letter.
func (f *Filter) matches(l *letter) bool {
	switch {
	case l.unreadable != nil && !f.Unreadable,
		!f.Since.IsZero() && l.failedAt.Before(f.Since),
		!f.Until.IsZero() && !l.failedAt.Before(f.Until),
		len(f.Codes) > 0 && !slices.ContainsFunc(f.Codes, func(c Codes) bool { return c.First <= l.code && l.code <= c.Last }):
		return false
	}
	return agree(f.Destinations, l.destination) && agree(f.Tenants, l.tenants...) && agree(f.Types, l.types...) && agree(f.Reasons, l.reason)
}

// agree tells whether a value fits one of the globs. No glob agrees with everything.
func agree(globs []string, values ...string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(g string) bool {
		return slices.ContainsFunc(values, func(v string) bool { return v != "" && glob(g, v) })
	})
}

// glob tells whether text fits a pattern in which * stands for any characters. Its time grows with the product of their lengths.
func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return true
}

// Codes is a range of status codes, both ends included. Code 0 means that the receiver did not answer.
type Codes struct{ First, Last int }

// ParseCodes reads a code (503), a class (5xx) or a range (500-503).
func ParseCodes(text string) (Codes, error) {
	refused := fmt.Errorf("code %q: write a status (503), a class (5xx), a range (500-503), or 0 for no answer", text)
	if class, ok := strings.CutSuffix(strings.ToLower(text), "xx"); ok {
		n, err := strconv.Atoi(class)
		if err != nil || n < 1 || n > 9 {
			return Codes{}, refused
		}
		return Codes{100 * n, 100*n + 99}, nil
	}
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, err := strconv.Atoi(from)
	last, errLast := strconv.Atoi(to)
	if err != nil || errLast != nil || first < 0 || last > 999 || first > last {
		return Codes{}, refused
	}
	return Codes{first, last}, nil
}
