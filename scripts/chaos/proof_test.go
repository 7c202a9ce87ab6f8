package chaos

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"
)

var (
	seeds   = flag.Int("seeds", 150, "how many seeds TestProof plays")
	replays = flag.Int("replays", 25, "how many seeds TestSeedsReplay plays twice")
	first   = flag.Uint64("first", 1, "the first of them")
	seed    = flag.Uint64("seed", 0, "the only seed that TestProof plays, with its story; 0: all")
	only    = flag.String("only", "", "the disasters of the seed that strike, by their keys; empty: all")
)

func TestProof(t *testing.T) {
	if *seed != 0 {
		m := mask{on: *only != "", only: strings.Split(*only, ",")}
		r := play(t, *seed, m, nil, true)
		t.Logf("the story of seed %d:\n%s", *seed, strings.Join(r.story, "\n"))
		for _, b := range r.breaches {
			t.Error(b)
		}
		return
	}
	began := time.Now()
	asks := 0
	for n := range uint64(*seeds) {
		r := play(t, *first+n, mask{}, nil, false)
		asks += r.asks
		for _, b := range r.breaches {
			t.Errorf("seed %d: %s", r.seed, b)
		}
	}
	fmt.Println(time.Since(began), asks)
}
