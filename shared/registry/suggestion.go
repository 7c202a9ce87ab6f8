package registry

import (
	"fmt"
	"strings"

	"github.com/waybillhq/waybill/shared/terminal"
)

// suggest gives the remedy for an unknown field: the known one it resembles, or all of them.
func suggest(name string, known []member) string {
	best, distance := "", 3 // two slips at most
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = k.name
		if d := terminal.Edits(strings.ToLower(name), strings.ToLower(k.name)); d < distance && d < len(k.name) {
			best, distance = k.name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known here: " + strings.Join(names, ", ")
}
