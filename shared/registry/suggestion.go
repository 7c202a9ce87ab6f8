package registry

import (
	"fmt"
	"strings"
)

// suggest gives the remedy for an unknown field: the known one it resembles, or all of them.
func suggest(name string, known []member) string {
	best, distance := "", 3 // two slips at most
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = k.name
		if d := edits(strings.ToLower(name), strings.ToLower(k.name)); d < distance && d < len(k.name) {
			best, distance = k.name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known here: " + strings.Join(names, ", ")
}

// edits counts the insertions, deletions and replacements between two words. Long words are not compared.
func edits(a, b string) int {
	const long = 40
	if len(a) > long || len(b) > long {
		return long
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
