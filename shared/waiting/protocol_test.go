package waiting

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
)

// lengths are limits of systems that are slow, quick, and of compressed time.
func lengths() []Limits {
	return []Limits{
		{FunctionTimeout: time.Second, ClockSkew: time.Second, MarkCache: time.Second, LongestDelay: 15 * time.Minute},
		{FunctionTimeout: time.Minute, ClockSkew: 5 * time.Second, MarkCache: 5 * time.Minute, LongestDelay: 15 * time.Minute},
		{FunctionTimeout: 15 * time.Minute, ClockSkew: 5 * time.Minute, MarkCache: time.Hour, LongestDelay: 15 * time.Minute},
		{FunctionTimeout: time.Minute, ClockSkew: 100 * time.Millisecond, MarkCache: 5 * time.Second, LongestDelay: 15 * time.Second},
		{FunctionTimeout: time.Millisecond, ClockSkew: time.Millisecond, MarkCache: 1, LongestDelay: 1},
	}
}

// However late a put comes and whatever the clocks say, its bucket is open; and what a mark is relied on for comes while the mark stands.
func TestCloseAndClearAfterTheLastMoment(t *testing.T) {
	for _, l := range lengths() {
		start := time.Unix(1_700_000_000, 0)
		for seconds := range 3700 { // through every second of an hour
			decided := start.Add(time.Duration(seconds) * time.Second) // by true time
			due := decided.Add(-l.ClockSkew).Add(l.MinDistance())      // the earliest, by a clock that is behind
			arrives := decided.Add(l.FunctionTimeout)
			if l.MayClose(HourOf(due), arrives.Add(l.ClockSkew), 0) {
				t.Fatalf("%+v: the bucket of a row due %v is closed when the row arrives at %v", l, due, arrives)
			}
			if first := l.FirstHour(0, false, arrives.Add(l.ClockSkew)); first > HourOf(due) {
				t.Fatalf("%+v: the first watermark is %v when a row due %v arrives", l, first, due)
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

// A run takes what is due within the look-ahead and nothing else, and closes no hour that it has not looked at whole.
func TestReach(t *testing.T) {
	h := HourOf(time.Unix(1_700_000_000, 0))
	for _, l := range lengths() {
		for offset := -3 * time.Hour; offset < 3*time.Hour; offset += 7001 * time.Millisecond {
			now := h.Start().Add(offset)
			until, whole := l.Reach(h, now)
			switch {
			case !until.Equal(now.Add(l.LookAhead())):
				t.Fatalf("%+v: at %v rows due before %v are taken", l, now, until)
			case whole != !h.End().After(until):
				t.Fatalf("%+v: at %v, looking until %v, the whole hour is in reach: %v", l, now, until, whole)
			case l.MayClose(h, now, 0) && (!whole || now.Before(h.End())):
				t.Fatalf("%+v: an hour is closed that was not seen whole, at %v", l, now)
			case l.LastHour(now) < HourOf(until.Add(-1)):
				t.Fatalf("%+v: at %v the last hour %v is within reach and not visited", l, now, HourOf(until))
			case whole && l.LastHour(now) < h:
				t.Fatalf("%+v: at %v hour %v is within reach and not visited", l, now, h)
			}
		}
	}
}

func TestDistances(t *testing.T) {
	for _, l := range lengths() {
		// What the waker reaches for must not be what is still being put, and must be within what a queue can delay.
		if l.LookAhead() >= l.MinDistance() || l.LookAhead()+l.Slack() > l.LongestDelay {
			t.Errorf("look-ahead %v, least distance %v, slack %v", l.LookAhead(), l.MinDistance(), l.Slack())
		}
		now := time.Unix(1_700_000_059, 999)
		last := now.Add(l.LookAhead() - 1)
		if d := l.Delay(last, now); d != max(last.Sub(now), 0) {
			t.Errorf("the last row within reach, in %v, is delayed by %v", last.Sub(now), d)
		}
		if l.Delay(now.Add(-time.Hour), now) != 0 || l.Delay(now.Add(time.Hour), now) != l.LongestDelay {
			t.Error("a delay is not within what a queue can do")
		}
		if !l.TooSoon(now.Add(l.LongestDelay-1), now) || l.TooSoon(now.Add(l.LongestDelay), now) {
			t.Error("what a queue can delay is taken, or what it cannot is not")
		}
	}
	sqs := Limits{LongestDelay: 15 * time.Minute}
	if got := [...]time.Duration{sqs.MinDistance(), sqs.LookAhead(), sqs.Slack(), sqs.ScanEvery()}; got != [...]time.Duration{
		15 * time.Minute, 10 * time.Minute, 5 * time.Minute, time.Hour} {
		t.Errorf("distances on SQS: %v", got)
	}
}

func TestHours(t *testing.T) {
	for _, test := range []struct {
		at   time.Time
		want Hour
	}{
		{time.Unix(0, 0), 0}, {time.Unix(3599, 999_999_999), 0}, {time.Unix(3600, 0), 1}, {time.Unix(-1, 0), -1}, {time.Unix(-3600, 0), -1}, {time.Unix(-3601, 0), -2},
		{time.Date(1970, 1, 2, 3, 34, 5, 0, time.FixedZone("", 3*3600+1800)), 24},
	} {
		if h := HourOf(test.at); h != test.want || test.at.Before(h.Start()) || !test.at.Before(h.End()) {
			t.Errorf("%v is in hour %d, want %d", test.at, h, test.want)
		}
	}
}

func TestBucketNames(t *testing.T) {
	for name, b := range map[string]Bucket{
		"2026-11-03T04#3":     {Kind: Due, Hour: HourOf(time.Date(2026, 11, 3, 4, 5, 0, 0, time.UTC)), Shard: 3},
		"1969-12-31T23#0":     {Kind: Due, Hour: -1},
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
	for _, name := range []string{"", "#", "3", "2026-11-03T04", "2026-11-03T04#", "2026-11-03T04#x", "2026-11-03T04#-1", "2026-13-03T04#1", "2026-11-03T04:05#1", "marks", "marks#", "parked#1", "later#1", "2026-11-03T04:05:06#3"} {
		if got := ParseBucket(name); got.Kind != Foreign {
			t.Errorf("%q is taken for %+v", name, got)
		}
	}
}

func TestOrderOfAcceptance(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	key := stamp(at) + "#delivery#0#1"
	for _, test := range []struct {
		t    time.Time
		want bool
	}{{at, false}, {at.Add(time.Millisecond), true}, {at.Add(-time.Millisecond), false}, {at.Add(10 * time.Hour), true}, {time.UnixMilli(0), false}} {
		if got := AcceptedBefore(key, test.t); got != test.want {
			t.Errorf("accepted before %v: %v", test.t, got)
		}
	}
	if got := AcceptedAt(key); !got.Equal(at) {
		t.Errorf("accepted at %v, want %v", got, at)
	}
	for _, odd := range []string{"", "odd", "1#delivery#0#1", "-1700000000123#d#0#1", "x1700000000123#d#0#1"} {
		if got := AcceptedAt(odd); !got.IsZero() {
			t.Errorf("%q was accepted at %v", odd, got)
		}
	}
	if !AcceptedBefore("odd", at) {
		t.Error("an odd key is not looked at")
	}
}

// The order of keys is that of due times, and a bound keeps out what is due at its millisecond and later.
func TestKeysAreInTheOrderOfDueTimes(t *testing.T) {
	m := delivery.Message{Delivery: "zzz", Epoch: 1, Attempt: 12}
	first := delivery.Message{Delivery: "aaa"}
	for _, at := range []time.Time{time.Unix(0, 0), time.UnixMilli(9_999), time.UnixMilli(999_999_999_999), time.UnixMilli(1_700_000_000_123), time.UnixMilli(9_999_999_999_999)} {
		next := at.Add(time.Millisecond)
		if a, b := dueKey(at, &m), dueKey(next, &first); a >= b || a >= DueBefore(next) || a <= DueBefore(at) || b <= DueBefore(next) {
			t.Errorf("keys %q and %q, bounds %q and %q", a, b, DueBefore(at), DueBefore(next))
		}
	}
	if got := dueKey(time.UnixMilli(1_700_000_000_123), &m); got != "01700000000123#zzz#1#12" {
		t.Errorf("key %q", got)
	}
}

func TestLocate(t *testing.T) {
	for _, test := range []struct {
		bucket, key string
		kind        Kind
		due         time.Time
	}{
		{"2026-11-03T04#3", "01793678400123#zzz#1#12", Due, time.UnixMilli(1_793_678_400_123)},
		{"2026-11-03T04#3", "1793678400123#zzz#1#12", Due, time.Time{}},
		{"2026-11-03T04#3", "+1793678400123#zzz#1#12", Due, time.Time{}},
		{"2026-11-03T04#3", "", Due, time.Time{}},
		{"parked#orders-crm#3", "01793678400123#zzz#1#12", Parked, time.Time{}},
		{"marks#3", "01793678400123", Marks, time.Time{}},
		{"progress", "scan", Progress, time.Time{}},
		{"2026-11-03T04:05#3", "01793678400123#zzz#1#12", Foreign, time.Time{}},
	} {
		if b, due := Locate(test.bucket, test.key); b.Kind != test.kind || !due.Equal(test.due) || b != ParseBucket(test.bucket) {
			t.Errorf("%q %q: %+v, due %v", test.bucket, test.key, b, due)
		}
	}
}

// Whatever the keys of a row are, they are read without harm, and a bucket's name says all that was read from it.
func FuzzLocate(f *testing.F) {
	for _, seed := range [][2]string{
		{"2026-11-03T04#3", "01793678400123#zzz#1#12"}, {"parked#a#b#1", "01793678400123#zzz#1#12"}, {"marks#0", "d"}, {"progress", "scan"}, {"0000-01-01T00#0", "99999999999999"},
		{"9999-12-31T23#99999999999999999999", ""}, {"later#1", "x"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, bucket, key string) {
		b, due := Locate(bucket, key)
		if again := ParseBucket(b.Name()); b.Kind != Foreign && again != b {
			t.Errorf("%q is %+v, whose name %q is %+v", bucket, b, b.Name(), again)
		}
		if !due.IsZero() && (b.Kind != Due || !strings.HasPrefix(key, DueBefore(due))) {
			t.Errorf("%q %q is due %v", bucket, key, due)
		}
	})
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
	good := Limits{time.Second, time.Second, time.Second, time.Second, time.Second}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	var joined interface{ Unwrap() []error }
	if err := (Limits{}).Validate(); !errors.As(err, &joined) || len(joined.Unwrap()) != 5 {
		t.Error(err)
	}
	for delay, ok := range map[time.Duration]bool{-1: false, 0: false, 1: true, 15 * time.Minute: true, 15*time.Minute + 1: false} {
		l := good
		l.LongestDelay = delay
		if err := l.Validate(); (err == nil) != ok {
			t.Errorf("longest delay %v: %v", delay, err)
		}
	}
}
