package retry_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/shared/retry"
)

func fixed(f float64) func() float64 { return func() float64 { return f } }

var (
	early  = fixed(0)
	middle = fixed(0.5)
	late   = fixed(math.Nextafter(1, 0))
)

func TestDefaultIsTheScheduleOfStandardWebhooks(t *testing.T) {
	for name, s := range map[string]retry.Schedule{"Default": retry.Default(), "zero value": {}} {
		want := []time.Duration{
			5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
			10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
		}
		var total time.Duration
		for i, wait := range want {
			got, ok := s.Delay(i+1, middle)
			if !ok || got.Round(time.Millisecond) != wait {
				t.Errorf("%s: after attempt %d: %v, %v; want %v", name, i+1, got, ok, wait)
			}
			total += got
		}
		if _, ok := s.Delay(10, middle); ok {
			t.Errorf("%s: an eleventh attempt", name)
		}
		if s.Attempts() != 10 || total.Round(time.Second) != 75*time.Hour+35*time.Minute+5*time.Second {
			t.Errorf("%s: %d attempts over %v", name, s.Attempts(), total)
		}
		if got, want := s.Horizon(), time.Duration(1.2*float64(total)); (got - want).Abs() > time.Second {
			t.Errorf("%s: horizon %v, want %v", name, got, want)
		}
	}
}

func TestDelayIsSpreadByAFifth(t *testing.T) {
	s, err := retry.Steps(10*time.Second, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		attempt  int
		random   func() float64
		want     time.Duration
		finished bool
	}{
		{1, early, 8 * time.Second, false},
		{1, middle, 10 * time.Second, false},
		{1, late, 12 * time.Second, false},
		{2, early, 48 * time.Second, false},
		{2, late, 72 * time.Second, false},
		{2, fixed(7), 72 * time.Second, false},
		{2, fixed(-7), 48 * time.Second, false},
		{3, early, 0, true},
		{1000, early, 0, true},
		{0, middle, 10 * time.Second, false},
	} {
		got, ok := s.Delay(test.attempt, test.random)
		if got.Round(time.Millisecond) != test.want || ok == test.finished {
			t.Errorf("Delay(%d): %v, %v; want %v, %v", test.attempt, got, ok, test.want, !test.finished)
		}
	}
	seen := map[time.Duration]bool{}
	for range 100 {
		wait, _ := s.Delay(1, nil)
		seen[wait] = true
	}
	if len(seen) < 50 {
		t.Errorf("without a source of randomness 100 waits take only %d values", len(seen))
	}
}

func TestAfterNeverShortens(t *testing.T) {
	s, err := retry.Steps(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name       string
		attempt    int
		retryAfter time.Duration
		random     func() float64
		want       time.Duration
		ok         bool
	}{
		{"shorter than the schedule", 1, 3 * time.Second, middle, 10 * time.Second, true},
		{"between nominal and jitter", 1, 10 * time.Second, early, 10 * time.Second, true},
		{"longer", 1, time.Hour, early, time.Hour, true},
		{"longer, late jitter", 1, time.Hour, late, time.Hour, true},
		{"bounded", 1, 48 * time.Hour, late, 24 * time.Hour, true},
		{"zero", 1, 0, middle, 10 * time.Second, true},
		{"negative", 1, -time.Hour, middle, 10 * time.Second, true},
		{"no attempt left", 2, time.Hour, middle, 0, false},
	} {
		got, ok := s.After(test.attempt, test.retryAfter, test.random)
		if got.Round(time.Millisecond) != test.want || ok != test.ok {
			t.Errorf("%s: %v, %v; want %v, %v", test.name, got, ok, test.want, test.ok)
		}
	}
}

func TestNoWaitsMeanOneAttempt(t *testing.T) {
	s, err := retry.Steps()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Delay(1, middle); ok || s.Attempts() != 1 || s.Horizon() != 0 {
		t.Errorf("attempts %d, horizon %v", s.Attempts(), s.Horizon())
	}
}

func TestSchedulesDoNotAlias(t *testing.T) {
	waits := []time.Duration{time.Minute, time.Hour}
	s, err := retry.Steps(waits...)
	if err != nil {
		t.Fatal(err)
	}
	waits[0] = time.Second
	s.Waits()[1] = time.Second
	retry.Default().Waits()[0] = time.Hour
	if got := s.String(); got != "[1m0s 1h0m0s]" {
		t.Errorf("the schedule changed: %s", got)
	}
	if got := retry.Default().Waits()[0]; got != 5*time.Second {
		t.Errorf("the default changed: %v", got)
	}
}

func TestExponential(t *testing.T) {
	for _, test := range []struct {
		name string
		in   retry.Exponential
		want string
	}{
		{"doubling to the cap", retry.Exponential{Initial: time.Second, Factor: 2, Cap: 6 * time.Second, Attempts: 6}, "[1s 2s 4s 6s 6s]"},
		{"equal waits", retry.Exponential{Initial: time.Minute, Factor: 1, Cap: time.Minute, Attempts: 4}, "[1m0s 1m0s 1m0s]"},
		{"fractions", retry.Exponential{Initial: 10 * time.Second, Factor: 1.5, Cap: time.Hour, Attempts: 4}, "[10s 15s 22.5s]"},
		{"one attempt", retry.Exponential{Initial: time.Second, Factor: 2, Cap: time.Second, Attempts: 1}, "[]"},
		{"cut by age", retry.Exponential{Initial: time.Second, Factor: 2, Cap: time.Hour, Attempts: 50, MaxAge: 10 * time.Second}, "[1s 2s 4s]"},
		{"age reached exactly", retry.Exponential{Initial: time.Second, Factor: 2, Cap: time.Hour, Attempts: 50, MaxAge: 7 * time.Second}, "[1s 2s 4s]"},
		{"age beyond the last attempt", retry.Exponential{Initial: time.Second, Factor: 2, Cap: time.Hour, Attempts: 3, MaxAge: time.Hour}, "[1s 2s]"},
	} {
		s, err := test.in.Schedule()
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := s.String(); got != test.want || s.MaxAge() != test.in.MaxAge {
			t.Errorf("%s: %s (age %v), want %s", test.name, got, s.MaxAge(), test.want)
		}
	}
}

func TestHugeFactorStaysBelowTheCap(t *testing.T) {
	s, err := retry.Exponential{Initial: time.Second, Factor: math.MaxFloat64, Cap: time.Hour, Attempts: 101}.Schedule()
	if err != nil {
		t.Fatal(err)
	}
	waits := s.Waits()
	if waits[0] != time.Second || waits[1] != time.Hour || waits[99] != time.Hour {
		t.Errorf("waits %v", waits)
	}
}

func TestRefusals(t *testing.T) {
	hours := func(n int, wait time.Duration) []time.Duration { return slices.Repeat([]time.Duration{wait}, n) }
	steps := func(waits ...time.Duration) func() (retry.Schedule, error) {
		return func() (retry.Schedule, error) { return retry.Steps(waits...) }
	}
	good := retry.Exponential{Initial: time.Second, Factor: 2, Cap: time.Hour, Attempts: 10}
	exponential := func(change func(*retry.Exponential)) func() (retry.Schedule, error) {
		e := good
		change(&e)
		return e.Schedule
	}
	for _, test := range []struct {
		name  string
		build func() (retry.Schedule, error)
		want  []string // field and part of the text, one per problem
	}{
		{"negative", steps(-time.Second), []string{"schedule[0]: a wait of -1s"}},
		{"zero", steps(time.Second, 0), []string{"schedule[1]: a wait of 0s cannot be kept; use 1s to 24h0m0s"}},
		{"below a second", steps(300 * time.Millisecond), []string{"schedule[0]: a wait of 300ms"}},
		{"too long", steps(25 * time.Hour), []string{"schedule[0]: a wait of 25h0m0s"}},
		{"all of them", steps(-1, time.Second, 48*time.Hour), []string{"schedule[0]: ", "schedule[2]: "}},
		{"too many", steps(hours(101, time.Second)...), []string{"schedule: has 101 waits; use at most 100"}},
		{"too long in all", steps(hours(12, 24*time.Hour)...), []string{"schedule: the waits add up to 345h"}},
		{"overflow", steps(hours(100, math.MaxInt64)...), slices.Repeat([]string{"schedule["}, 100)},
		{"initial", exponential(func(e *retry.Exponential) { e.Initial = 0 }), []string{"exponential.initial: "}},
		{"factor", exponential(func(e *retry.Exponential) { e.Factor = 0.9 }), []string{"exponential.factor: is 0.9; use 1"}},
		{"factor NaN", exponential(func(e *retry.Exponential) { e.Factor = math.NaN() }), []string{"exponential.factor: "}},
		{"factor infinite", exponential(func(e *retry.Exponential) { e.Factor = math.Inf(1) }), []string{"exponential.factor: "}},
		{"cap below initial", exponential(func(e *retry.Exponential) { e.Initial = 2 * time.Hour }), []string{"exponential.cap: 1h0m0s is shorter than initial, 2h0m0s"}},
		{"cap", exponential(func(e *retry.Exponential) { e.Cap = 25 * time.Hour }), []string{"exponential.cap: "}},
		{"attempts", exponential(func(e *retry.Exponential) { e.Attempts = 0 }), []string{"exponential.attempts: is 0; use 1 to 101"}},
		{"too many attempts", exponential(func(e *retry.Exponential) { e.Attempts = 102 }), []string{"exponential.attempts: "}},
		{"age", exponential(func(e *retry.Exponential) { e.MaxAge = -1 }), []string{"exponential.maxAge: "}},
		{"age too large", exponential(func(e *retry.Exponential) { e.MaxAge = 15 * 24 * time.Hour }), []string{"exponential.maxAge: "}},
		{"age without a retry", exponential(func(e *retry.Exponential) { e.Initial, e.MaxAge = time.Minute, time.Second }), []string{"exponential.maxAge: 1s ends before the first retry"}},
		{"exponential too long in all", exponential(func(e *retry.Exponential) { e.Cap, e.Attempts = 24*time.Hour, 101 }), []string{"exponential: the waits add up to"}},
		{"everything wrong", retry.Exponential{}.Schedule, []string{"exponential.initial", "exponential.factor", "exponential.cap", "exponential.attempts"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.build()
			var refusal *retry.Error
			if !errors.As(err, &refusal) || !errors.Is(err, retry.ErrInvalid) {
				t.Fatalf("error %v, want a *retry.Error", err)
			}
			if len(refusal.Problems) != len(test.want) {
				t.Fatalf("%d problems, want %d:\n%v", len(refusal.Problems), len(test.want), err)
			}
			for i, p := range refusal.Problems {
				if !strings.HasPrefix(p.String(), test.want[i]) {
					t.Errorf("problem %q, want %q", p, test.want[i])
				}
			}
		})
	}
}

func TestHorizonHoldsForEverySchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		waits := rapid.SliceOfN(rapid.Map(rapid.IntRange(1, 12*3600), func(seconds int) time.Duration {
			return time.Duration(seconds) * time.Second
		}), 0, 20).Draw(t, "waits")
		s, err := retry.Steps(waits...)
		if err != nil {
			t.Fatal(err)
		}
		random := func() float64 { return rapid.Float64Range(0, 1).Draw(t, "random") }
		asked := time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "retry after"))
		var total, lengthened time.Duration
		for attempt := 1; ; attempt++ {
			wait, ok := s.Delay(attempt, random)
			if !ok {
				if attempt != s.Attempts() {
					t.Fatalf("gave up after attempt %d of %d", attempt, s.Attempts())
				}
				break
			}
			nominal := float64(waits[attempt-1])
			if float64(wait) < 0.8*nominal-1 || float64(wait) > 1.2*nominal+1 {
				t.Fatalf("wait %v outside ±20 %% of %v", wait, waits[attempt-1])
			}
			total += wait
			longer, _ := s.After(attempt, asked, random)
			if longer < min(asked, retry.MaxRetryAfter) {
				t.Fatalf("asked for %v, waits %v", asked, longer)
			}
			lengthened += longer
		}
		if total > s.Horizon()+time.Microsecond || lengthened > s.Longest()+time.Microsecond {
			t.Fatalf("waited %v and %v, bounds %v and %v", total, lengthened, s.Horizon(), s.Longest())
		}
	})
}

func TestParseAfter(t *testing.T) {
	now := time.Date(2026, time.November, 22, 8, 49, 37, 0, time.UTC)
	for _, test := range []struct {
		header string
		want   time.Duration
		ok     bool
	}{
		{"120", 2 * time.Minute, true},
		{"0", 0, true},
		{" 5\t", 5 * time.Second, true},
		{"0000000000000000000000000000000007", 7 * time.Second, true},
		{"86400", 24 * time.Hour, true},
		{"86401", 24 * time.Hour, true},
		{"99999999999999999999999999", 24 * time.Hour, true},
		{"Sun, 22 Nov 2026 08:50:37 GMT", time.Minute, true},
		{"Sunday, 22-Nov-26 08:50:37 GMT", time.Minute, true},
		{"Sun Nov 22 08:50:37 2026", time.Minute, true},
		{"Sun, 22 Nov 2026 08:49:36 GMT", 0, true},
		{"Fri, 31 Dec 1999 23:59:59 GMT", 0, true},
		{"Tue, 22 Nov 2033 08:49:37 GMT", 24 * time.Hour, true},
		{"Sat, 31 Dec 9999 23:59:59 GMT", 24 * time.Hour, true},
		{"", 0, false},
		{"   ", 0, false},
		{"-5", 0, false},
		{"+5", 0, false},
		{"1.5", 0, false},
		{"5s", 0, false},
		{"0x10", 0, false},
		{"1 2", 0, false},
		{"soon", 0, false},
		{"2026-11-22T08:50:37Z", 0, false},
		{"Sun, 22 Nov 2026 08:50:37 CET", 0, false},
		{"Sun, 32 Nov 2026 08:50:37 GMT", 0, false},
	} {
		got, ok := retry.ParseAfter(test.header, now)
		if got != test.want || ok != test.ok {
			t.Errorf("ParseAfter(%q): %v, %v; want %v, %v", test.header, got, ok, test.want, test.ok)
		}
	}
}

func FuzzParseAfter(f *testing.F) {
	for _, seed := range []string{"120", "Sun, 22 Nov 2026 08:50:37 GMT", "-1", "9999999999999999999999"} {
		f.Add(seed, int64(1_790_000_000))
	}
	f.Fuzz(func(t *testing.T, header string, now int64) {
		wait, ok := retry.ParseAfter(header, time.Unix(now, 0))
		if wait < 0 || wait > retry.MaxRetryAfter || !ok && wait != 0 {
			t.Errorf("ParseAfter(%q): %v, %v", header, wait, ok)
		}
	})
}

func ExampleSchedule_After() {
	schedule, err := retry.Steps(time.Second, 5*time.Second, time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	noJitter := func() float64 { return 0.5 }
	for attempt := 1; ; attempt++ {
		wait, ok := schedule.After(attempt, 30*time.Second, noJitter)
		if !ok {
			fmt.Println("given up after attempt", attempt)
			return
		}
		fmt.Println("after attempt", attempt, "wait", wait)
	}
	// Output:
	// after attempt 1 wait 30s
	// after attempt 2 wait 30s
	// after attempt 3 wait 1m0s
	// given up after attempt 4
}
