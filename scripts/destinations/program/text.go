package program

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/terminal"
)

// Bounds of what is shown, in characters.
const (
	mostName = 64   // names, hosts
	mostNote = 160  // notes, what receivers answered
	mostLine = 1000 // a line of an error
)

// name is printable for names, which are never nothing.
func name(text string) string { return cmp.Or(terminal.Escaped(text, mostName), "-") }

// lines makes each line of an error printable.
func lines(text string) string {
	all := strings.Split(text, "\n")
	for i, line := range all {
		all[i] = terminal.Escaped(line, mostLine)
	}
	return strings.Join(all, "\n")
}

// document writes a value as JSON in which nothing steers a terminal: what is not printable is written as \u and digits.
func document(value any) (string, error) {
	plain, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, c := range string(plain) {
		switch {
		case c == '\n' || strconv.IsPrint(c): // within a string a line's end is escaped already
			b.WriteRune(c)
		case c > 0xffff:
			c -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+c>>10, 0xdc00+c&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String(), nil
}

// instant writes a time for people and programs.
func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// stateText says whether a destination receives, and if not, since when, by whose doing and why.
func stateText(s registry.State) string {
	if s.MayReceive() {
		return "receiving"
	}
	var parts []string
	if !s.Paused.IsZero() {
		parts = append(parts, "paused since "+instant(s.Paused))
	}
	if !s.Disabled.IsZero() {
		parts = append(parts, "disabled since "+instant(s.Disabled))
	}
	text := strings.Join(parts, " and ")
	if s.By != "" {
		text += " by " + terminal.Escaped(s.By, mostName)
	}
	if s.Note != "" {
		text += " (" + terminal.Escaped(s.Note, mostNote) + ")"
	}
	return text
}

// versionText names a version with who applied it and when.
func versionText(v registry.Version) string {
	return fmt.Sprintf("version %d, applied %s by %s", v.Number, instant(v.AppliedAt), name(v.By))
}

// similar gives up to three of the ids that somebody may have meant who wrote this one, the likeliest first.
func similar(id string, ids []string) []string {
	type candidate struct {
		id       string
		distance int
	}
	var found []candidate
	for _, other := range ids {
		d := terminal.Edits(id, other)
		part := len(id) >= 3 && strings.Contains(other, id) || len(other) >= 3 && strings.Contains(id, other)
		if other != id && (part || d <= max(1, min(len(id), len(other))/3)) {
			found = append(found, candidate{other, d})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Or(a.distance-b.distance, cmp.Compare(a.id, b.id)) })
	var best []string
	for _, c := range found[:min(len(found), 3)] {
		best = append(best, c.id)
	}
	return best
}
