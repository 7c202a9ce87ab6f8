package program

import (
	"strings"
	"testing"

	"github.com/waybillhq/waybill/scripts/local/auditor"
)

// TestCanary: with the flag the system sends itself an event over real connections, and the auditor, who knows what the sink believed, finds it delivered. Destinations for
// everything get none.
func TestCanary(t *testing.T) {
	t.Parallel()
	h := newHook(t, nil)
	s := begin(t, nil, "-samples=false", "-canary", "-destinations", h.file("15s", "1s"))
	s.until("the canary's event is delivered", func(b auditor.Books) bool { return b.Delivered > 0 })
	s.stop()
	got := s.stdout.String()
	if !strings.Contains(got, "waybill.canary") || !strings.Contains(got, "The books balance") || s.stderr.String() != "" {
		t.Errorf("%s%s", got, s.stderr)
	}
	if len(h.log()) != 0 {
		t.Errorf("a destination for everything got %v", h.log())
	}
}

// TestCanaryDemo: beside the demo, whose delays are compressed, its books balance too.
func TestCanaryDemo(t *testing.T) {
	t.Parallel()
	s := begin(t, nil, "-samples=false", "-canary", "-json")
	s.until("the canary's event is delivered", func(b auditor.Books) bool { return b.Delivered > 0 })
	s.interrupt()
	if status := s.end(); status != statusDone || s.summary()["lost"] != 0.0 {
		t.Errorf("exit status %d, %v", status, s.summary())
	}
}
