package chaos

import (
	"fmt"
	"testing"
)

// TestSeedsReplay: the same seed plays the same story, line by line. Without it no failure could be looked at twice.
func TestSeedsReplay(t *testing.T) {
	for n := range uint64(*replays) {
		n += *first
		t.Run(fmt.Sprint("seed ", n), func(t *testing.T) {
			t.Parallel()
			a, b := play(t, n, mask{}, nil, true), play(t, n, mask{}, nil, true)
			for i := range max(len(a.story), len(b.story)) {
				if i >= len(a.story) || i >= len(b.story) || a.story[i] != b.story[i] {
					t.Fatalf("line %d differs:\n%s\nand again:\n%s", i+1, around(a.story, i), around(b.story, i))
				}
			}
		})
	}
}

func around(story []string, i int) (text string) {
	for n := max(0, i-6); n < min(len(story), i+3); n++ {
		text += story[n] + "\n"
	}
	return text
}
