package limiter_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/shared/limiter"
	"github.com/waybillhq/waybill/shared/limiter/limitertest"
)

var errLost = errors.New("no answer")

// host is an environment, whose clock is off by skew.
type host struct {
	*limiter.Limiter
	skew time.Duration
}

// Whatever environments ask for, in whatever order, with clocks that differ, calls that are begun at any moment at which they may be and writes that fail or
// whose answers are lost: in no time are more calls begun than Rate says.
func TestLimitIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := limiter.Rate{
			Interval: time.Duration(rapid.Int64Range(1, 2_000).Draw(t, "interval, ms")) * time.Millisecond,
			Burst:    rapid.IntRange(1, 20).Draw(t, "burst"),
		}
		skew := time.Duration(rapid.SampledFrom([]int{0, 0, 1, 100, 5000}).Draw(t, "skew, ms")) * time.Millisecond
		faults := rapid.IntRange(0, 30).Draw(t, "faults, %")
		broken := func() error {
			if rapid.IntRange(0, 99).Draw(t, "fault") < faults {
				return errLost
			}
			return nil
		}
		store := &limitertest.Memory{Before: broken, After: broken}
		now := time.Unix(1_795_000_000, 0)
		hosts := make([]host, rapid.IntRange(1, 4).Draw(t, "environments"))
		for i := range hosts {
			h := &hosts[i]
			if i > 0 {
				h.skew = time.Duration(rapid.Int64Range(0, int64(skew)).Draw(t, "skew"))
			}
			var err error
			if h.Limiter, err = limiter.New(limiter.Config{Store: store, Now: func() time.Time { return now.Add(h.skew) }, Pause: 1, Random: func() float64 { return 0.5 }}); err != nil {
				t.Fatal(err)
			}
		}
		var begun, back []time.Time // back: turns of those that wait
		for range rapid.IntRange(1, 60).Draw(t, "batches") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(max(rate.Interval*3, 300*time.Millisecond))).Draw(t, "later")))
			late := rapid.Bool().Draw(t, "late") // a burst at the end of its time, and another at once after it
			h := hosts[rapid.IntRange(0, len(hosts)-1).Draw(t, "environment")]
			waiting := make([]limiter.Waiting, rapid.IntRange(1, 12).Draw(t, "deliveries"))
			for i := range waiting {
				if n := len(back); n > 0 && rapid.Bool().Draw(t, "comes back") {
					waiting[i], back = limiter.Waiting{Held: true, Turn: back[0]}, back[1:]
				}
			}
			places, err := h.Places(t.Context(), "crm", rate, waiting)
			if err != nil {
				continue
			}
			for _, p := range places {
				if !p.Call {
					back = append(back, p.Turn)
					continue
				}
				first := p.From.Add(-h.skew)
				if first.Before(now) {
					first = now
				}
				last := p.Until.Add(-h.skew - 1)
				if last.Before(first) || rapid.IntRange(0, 9).Draw(t, "dies") == 0 {
					continue
				}
				at := first
				if late {
					at = last
				}
				if rapid.IntRange(0, 4).Draw(t, "begins") == 0 {
					at = first.Add(time.Duration(rapid.Int64Range(0, int64(last.Sub(first))).Draw(t, "after")))
				}
				begun = append(begun, at)
			}
		}
		slices.SortFunc(begun, time.Time.Compare)
		for i := range begun {
			for j := i; j < len(begun); j++ {
				w := begun[j].Sub(begun[i]) + skew
				if most := rate.Burst + int((w+rate.Interval-1)/rate.Interval); j-i+1 > most {
					t.Fatalf("%+v, clocks %v apart: %d calls within %v, at most %d may be", rate, skew, j-i+1, w-skew, most)
				}
			}
		}
	})
}
