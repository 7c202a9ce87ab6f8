package terminal

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// List is a flag.Value for a flag that can be repeated and whose value is a comma-separated list: flags.Var((*terminal.List)(&names), "name", …).
type List []string

// String gives what was collected, comma-separated.
func (l *List) String() string { return strings.Join(*l, ",") }

// Set adds values, without the blanks around them. An empty one is refused, because it is a slip: in "-name a, b" a shell makes b an argument.
func (l *List) Set(text string) error {
	for value := range strings.SplitSeq(text, ",") {
		value = strings.TrimSpace(value)
		if value == "" {
			return errors.New("empty value: quote what has a blank or a * in it, and leave no comma without a value")
		}
		*l = append(*l, value)
	}
	return nil
}

// Instant reads a time in RFC 3339, or a duration before now, such as 2h. An empty text is the zero time. The error names the flag and tells both forms.
func Instant(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s %q: write a duration ago, such as 2h, or a time, such as 2026-11-22T06:30:00Z", flag, text)
	}
	return t, nil
}

// Edits counts the insertions, deletions and replacements of bytes that make one word of another, to tell what somebody may have meant. Words of more
// than 256 bytes, which nobody means, are not compared: they count as wholly different.
func Edits(a, b string) int {
	const long = 256
	if len(a) > long || len(b) > long {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
