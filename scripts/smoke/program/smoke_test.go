package program_test

import (
	"strings"
	"testing"
)

// TestAllIsWell: a healthy stack passes every check, and nothing is left behind.
func TestAllIsWell(t *testing.T) {
	inWorld(t, deployed{}, func(w *world) {
		v := w.smoke(w.t.Context(), "-stage", "dev")
		if v.status != 0 || len(v.failures()) > 0 || v.sum.Skipped > 0 {
			t.Errorf("status %d\n%s", v.status, v.errs)
		}
		for _, one := range v.all {
			t.Logf("%-8s %-30s %s", one.Verdict, one.Check, strings.Join([]string{one.Holds, one.Expected, one.Seen, one.Do, one.Why}, " "))
		}
		w.untouched()
	})
}
