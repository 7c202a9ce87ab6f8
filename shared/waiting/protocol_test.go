package waiting

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// However late a put comes and whatever the clocks say, its bucket is open; and what a mark is relied on for comes while the mark stands.
func TestCloseAndClearAfterTheLastMoment(t *testing.T) {
	for _, l := range []Limits{
		{FunctionTimeout: time.Second, ClockSkew: time.Second, MarkCache: time.Second},
		{FunctionTimeout: time.Minute, ClockSkew: 5 * time.Second, MarkCache: 5 * time.Minute},
		{FunctionTimeout: 15 * time.Minute, ClockSkew: 5 * time.Minute, MarkCache: time.Hour},
	} {
		start := time.Unix(1_700_000_000, 0)
		for seconds := range 120 {
			decided := start.Add(time.Duration(seconds) * time.Second) // by true time
			due := decided.Add(-l.ClockSkew).Add(MinDistance)          // the earliest, by a clock that is behind
			arrives := decided.Add(l.FunctionTimeout)
			if l.MayClose(MinuteOf(due), arrives.Add(l.ClockSkew), 0) {
				t.Errorf("%+v: the bucket of a row due %v is closed when the row arrives at %v", l, due, arrives)
			}
		}
		// One holder marks at start, its mark arrives an invocation later and hides that of another, who relies on it for as long as it may.
		later := start.Add(l.FunctionTimeout)
		arrives := later.Add(l.MarkCache).Add(l.FunctionTimeout)
		if l.MayClear(start.Add(-l.ClockSkew), arrives.Add(l.ClockSkew), 0) {
			t.Errorf("%+v: the mark is cleared before the last row that relies on it", l)
		}
		if !l.MayClear(start, start.Add(l.ClearAfter()+1), 0) || l.MayClear(start, start.Add(l.ClearAfter()+1), 1) || l.MayClear(start, start.Add(l.ClearAfter()), 0) {
			t.Errorf("%+v: a mark is cleared at another time than it says", l)
		}
	}
}

func TestDistances(t *testing.T) {
	// What the waker reaches for must not be what is still being put, and must be within what a queue can delay.
	if LookAhead >= MinDistance {
		t.Errorf("look-ahead %v, least distance %v", LookAhead, MinDistance)
	}
	now := time.Unix(1_700_000_059, 999)
	last := LastMinute(now).End().Add(-1)
	if Delay(last, now) != last.Sub(now) {
		t.Errorf("the last row within reach, in %v, is delayed by %v", last.Sub(now), Delay(last, now))
	}
	if Delay(now.Add(-time.Hour), now) != 0 || Delay(now.Add(time.Hour), now) != 15*time.Minute {
		t.Error("a delay is not within what a queue can do")
	}
}

func TestMinutes(t *testing.T) {
	for _, test := range []struct {
		at   time.Time
		want Minute
	}{
		{time.Unix(0, 0), 0}, {time.Unix(59, 999_999_999), 0}, {time.Unix(60, 0), 1}, {time.Unix(-1, 0), -1}, {time.Unix(-60, 0), -1}, {time.Unix(-61, 0), -2},
		{time.Date(1970, 1, 2, 3, 34, 5, 0, time.FixedZone("", 3*3600+1800)), 24*60 + 4},
	} {
		if m := MinuteOf(test.at); m != test.want || test.at.Before(m.Start()) || !test.at.Before(m.End()) {
			t.Errorf("%v is in minute %d, want %d", test.at, m, test.want)
		}
	}
}

func TestBucketNames(t *testing.T) {
	for name, b := range map[string]Bucket{
		"2026-11-03T04:05#3":  {Kind: Due, Minute: MinuteOf(time.Date(2026, 11, 3, 4, 5, 0, 0, time.UTC)), Shard: 3},
		"1969-12-31T23:59#0":  {Kind: Due, Minute: -1},
		"parked#orders-crm#7": {Kind: Parked, Destination: "orders-crm", Shard: 7},
		"parked#a#b#12":       {Kind: Parked, Destination: "a#b", Shard: 12},
		"marks#0":             {Kind: Marks},
		"progress":            {Kind: Progress},
	} {
		if got := b.Name(); got != name {
			t.Errorf("%+v is called %q, want %q", b, got, name)
		}
		if got := ParseBucket(name); got != b {
			t.Errorf("%q is %+v, want %+v", name, got, b)
		}
	}
	for _, name := range []string{"", "#", "3", "2026-11-03T04:05", "2026-11-03T04:05#", "2026-11-03T04:05#x", "2026-11-03T04:05#-1", "2026-13-03T04:05#1", "marks", "marks#", "parked#1", "later#1", "2026-11-03T04:05:06#3"} {
		if got := ParseBucket(name); got.Kind != Foreign {
			t.Errorf("%q is taken for %+v", name, got)
		}
	}
}

func TestOrderOfAcceptance(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	key := acceptedBefore(at) + "#delivery#0#1"
	for _, test := range []struct {
		t    time.Time
		want bool
	}{{at, false}, {at.Add(time.Millisecond), true}, {at.Add(-time.Millisecond), false}, {at.Add(10 * time.Hour), true}, {time.UnixMilli(0), false}} {
		if got := AcceptedBefore(key, test.t); got != test.want {
			t.Errorf("accepted before %v: %v", test.t, got)
		}
	}
	if !AcceptedBefore("odd", at) {
		t.Error("an odd key is not looked at")
	}
}

func TestShardsAreEven(t *testing.T) {
	counts := [Shards]int{}
	for i := range 8000 {
		counts[ShardOf(strings.Repeat("x", i%7)+time.Duration(i).String())]++
	}
	for shard, n := range counts {
		if n < 800 || n > 1200 {
			t.Errorf("shard %d has %d of 8000", shard, n)
		}
	}
}

// An environment may be frozen between two invocations, and its monotonic clock with it.
func TestRoomGoesByTheWallClock(t *testing.T) {
	r := &Room{cfg: Config{Now: time.Now}}
	if now := r.now(); strings.Contains(now.String(), "m=") || !strings.Contains(time.Now().String(), "m=") {
		t.Errorf("the clock reads %s", now)
	}
}

func TestMarkedByAClockThatWasTurnedBack(t *testing.T) {
	l := Limits{MarkCache: time.Minute}
	now := time.Unix(1000, 0)
	if l.Marked(now.Add(time.Second), now) || !l.Marked(now, now) || !l.Marked(now.Add(-59*time.Second), now) || l.Marked(now.Add(-time.Minute), now) {
		t.Error("a mark is relied on at the wrong times")
	}
}

func TestLimitsAreValidated(t *testing.T) {
	if err := (Limits{time.Second, time.Second, time.Second, time.Second, time.Second}).Validate(); err != nil {
		t.Error(err)
	}
	var joined interface{ Unwrap() []error }
	if err := (Limits{}).Validate(); !errors.As(err, &joined) || len(joined.Unwrap()) != 4 {
		t.Error(err)
	}
}
