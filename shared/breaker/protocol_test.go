package breaker_test

import (
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/breaker"
)

// noon is the beginning of a slot.
var noon = time.Date(2026, time.November, 3, 12, 0, 0, 0, time.UTC)

func rules(t testing.TB) breaker.Rules {
	t.Helper()
	return breaker.DefaultRules()
}

// slots counts attempts, by how long before now their slot began.
func slots(r breaker.Rules, now time.Time, counts map[time.Duration]breaker.Count) map[breaker.Slot]breaker.Count {
	at := map[breaker.Slot]breaker.Count{}
	for ago, c := range counts {
		at[r.SlotOf(now.Add(-ago))] = c
	}
	return at
}

type counts = map[time.Duration]breaker.Count

func TestWhatIsExcessive(t *testing.T) {
	r := rules(t)
	for name, test := range map[string]struct {
		row             breaker.Row
		counts          counts
		excessive, warn bool
	}{
		"nothing":                               {},
		"nine in a row":                         {row: breaker.Row{Streak: 9}, warn: true},
		"ten in a row, whatever time they took": {row: breaker.Row{Streak: 10}, excessive: true, warn: true},
		"ten in a row, old successes":           {row: breaker.Row{Streak: 10}, counts: counts{10 * time.Second: {Successes: 99}}, excessive: true, warn: true},
		"ten in a row, a success just now":      {row: breaker.Row{Streak: 10, SucceededAt: noon.Add(-14999 * time.Millisecond)}, warn: true},
		"ten in a row, whatever clocks say":     {row: breaker.Row{Streak: 10, SucceededAt: noon.Add(-15 * time.Second)}, excessive: true, warn: true},
		"four in a row":                         {row: breaker.Row{Streak: 4}},
		"five in a row":                         {row: breaker.Row{Streak: 5}, warn: true},
		"7 of 10":                               {counts: counts{0: {Successes: 3, Failures: 7}}, excessive: true, warn: true},
		"6 of 10":                               {counts: counts{0: {Successes: 4, Failures: 6}}, warn: true},
		"9 of 9":                                {counts: counts{0: {Failures: 9}}, warn: true},
		"69 of 100":                             {counts: counts{0: {Successes: 31, Failures: 69}}, warn: true},
		"35 of 100":                             {counts: counts{0: {Successes: 65, Failures: 35}}, warn: true},
		"34 of 100":                             {counts: counts{0: {Successes: 66, Failures: 34}}},
		"4 of 4":                                {counts: counts{0: {Failures: 4}}},
		"over the whole window":                 {counts: counts{55 * time.Second: {Failures: 4}, 20 * time.Second: {Failures: 3, Successes: 3}}, excessive: true, warn: true},
		"half of it too old":                    {counts: counts{65 * time.Second: {Failures: 4}, 20 * time.Second: {Failures: 3, Successes: 3}}},
		"from before a recovery":                {row: breaker.Row{RecoveringSince: noon.Add(-10 * time.Second)}, counts: counts{15 * time.Second: {Failures: 99}}, warn: true},
		"since a recovery":                      {row: breaker.Row{RecoveringSince: noon.Add(-10 * time.Second)}, counts: counts{5 * time.Second: {Failures: 10}}, excessive: true, warn: true},
		"recovered long ago":                    {row: breaker.Row{RecoveringSince: noon.Add(-time.Hour)}},
		"by a fast clock":                       {counts: counts{-10 * time.Second: {Failures: 10}}, excessive: true, warn: true},
		"by a clock that is wrong":              {counts: counts{-time.Minute: {Failures: 10}}},
	} {
		test.row.Slots = slots(r, noon, test.counts)
		if got := r.Excessive(test.row, breaker.Known{Success: noon.Add(-4999 * time.Millisecond)}, noon); got != test.excessive {
			t.Errorf("%s: excessive is %v", name, got)
		}
		if got := r.Everybody(test.row, noon); got != test.warn {
			t.Errorf("%s: everybody is %v", name, got)
		}
		for _, knows := range []time.Duration{0, 6 * time.Second, 7 * time.Second, time.Hour} {
			if got := r.MayOpen(test.row, breaker.Known{Trouble: noon.Add(-knows)}, noon); got != (test.excessive && knows >= 7*time.Second) {
				t.Errorf("%s, known for %v: may open is %v", name, knows, got)
			}
		}
		if got := r.MayOpen(test.row, breaker.Known{}, noon); got && test.row.RecoveringSince.IsZero() {
			t.Errorf("%s: may open although nobody was asked", name)
		}
		for since, want := range map[time.Duration]bool{16 * time.Second: false, 17 * time.Second: test.excessive} {
			row := test.row
			row.SuspectSince = noon.Add(-since)
			if got := r.MayOpen(row, breaker.Known{}, noon); got != want {
				t.Errorf("%s, suspect for %v: may open is %v", name, since, got)
			}
		}
		test.row.Phase = breaker.Open
		if r.MayOpen(test.row, breaker.Known{Trouble: noon.Add(-time.Hour)}, noon) || r.Everybody(test.row, noon) {
			t.Errorf("%s: is open, and opens again or counts successes", name)
		}
	}
}

// An environment that has itself seen no success come for five seconds needs no regard to other clocks.
func TestCalmThatWasSeen(t *testing.T) {
	r := rules(t)
	row := breaker.Row{Streak: 10, SucceededAt: noon}
	for seen, want := range map[time.Duration]bool{4999 * time.Millisecond: false, 5 * time.Second: true} {
		if got := r.Excessive(row, breaker.Known{Success: noon.Add(-seen)}, noon); got != want {
			t.Errorf("%v: %v", seen, got)
		}
	}
	for age, want := range map[time.Duration]bool{0: true, 2500 * time.Millisecond: true, 2501 * time.Millisecond: false, -1: false} {
		if got := r.Young(noon.Add(-age), noon); got != want {
			t.Errorf("young at %v: %v", age, got)
		}
	}
}

func TestSinceWhenItIsSuspect(t *testing.T) {
	r := rules(t)
	failures := func(n int) breaker.Delta {
		return breaker.Delta{Slots: slots(r, noon, counts{0: {Failures: n}}), Streak: n}
	}
	success := breaker.Delta{Slots: slots(r, noon, counts{0: {Successes: 20}}), Succeeded: true}
	some := breaker.Row{Slots: slots(r, noon, counts{0: {Failures: 5}}), Streak: 5, SuspectSince: noon.Add(-time.Minute)}
	for name, test := range map[string]struct {
		seen            breaker.Row
		add             breaker.Delta
		suspect, afresh bool
	}{
		"begins":             {breaker.Row{}, failures(5), true, false},
		"not yet":            {breaker.Row{}, failures(4), false, false},
		"begins with others": {breaker.Row{Streak: 4}, failures(1), true, false},
		"goes on":            {some, failures(1), true, false},
		"ends":               {some, success, false, false},
		"left over":          {breaker.Row{SuspectSince: noon.Add(-time.Hour)}, failures(5), true, true},
	} {
		d := r.Suspect(test.seen, test.add, noon)
		if d.SuspectSince.IsZero() == test.suspect || d.Afresh != test.afresh || test.suspect && !d.SuspectSince.Equal(noon) {
			t.Errorf("%s: %v, afresh %v", name, d.SuspectSince, d.Afresh)
		}
	}
}

func TestRule(t *testing.T) {
	r := rules(t)
	second := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }
	pass, name, probe := breaker.Ruling{Action: breaker.Pass}, breaker.Ruling{Action: breaker.Name}, breaker.Ruling{Action: breaker.PassAsProbe}
	open := func(until time.Time) breaker.Ruling {
		return breaker.Ruling{Action: breaker.Hold, Kind: breaker.KindOpen, Until: until}
	}
	throttled := func(until time.Time) breaker.Ruling {
		return breaker.Ruling{Action: breaker.Hold, Kind: breaker.KindThrottled, Until: until}
	}
	for label, test := range map[string]struct {
		row  breaker.Row
		want breaker.Ruling
	}{
		"no row":                            {breaker.Row{}, pass},
		"recovering":                        {breaker.Row{Turn: 3, RecoveringSince: noon}, pass},
		"open":                              {breaker.Row{Phase: breaker.Open, Until: second(1)}, open(second(1))},
		"open, a probe is due":              {breaker.Row{Phase: breaker.Open, Until: noon}, name},
		"open for as long as can be":        {breaker.Row{Phase: breaker.Open, Until: second(370)}, open(second(370))},
		"open, by a clock that is wrong":    {breaker.Row{Phase: breaker.Open, Until: second(371)}, name},
		"another probes":                    {breaker.Row{Phase: breaker.Probing, Probe: "other", Until: second(1)}, open(second(1))},
		"another has died":                  {breaker.Row{Phase: breaker.Probing, Probe: "other", Until: noon}, name},
		"another, by a clock that is wrong": {breaker.Row{Phase: breaker.Probing, Probe: "other", Until: second(81)}, name},
		"it is the probe":                   {breaker.Row{Phase: breaker.Probing, Probe: "me", Until: second(1)}, probe},
		"it was the probe":                  {breaker.Row{Phase: breaker.Probing, Probe: "me", Until: noon}, name},
		"it was the probe, and is not":      {breaker.Row{Phase: breaker.Open, Probe: "me", Until: second(1)}, open(second(1))},
		"throttled":                         {breaker.Row{ThrottledUntil: second(1)}, throttled(second(1))},
		"throttled for a day":               {breaker.Row{ThrottledUntil: second(86_400)}, throttled(second(86_400))},
		"throttled, by a wrong clock":       {breaker.Row{ThrottledUntil: second(86_411)}, pass},
		"throttled no more":                 {breaker.Row{ThrottledUntil: noon}, pass},
		"open and throttled":                {breaker.Row{Phase: breaker.Open, Until: noon, ThrottledUntil: second(1)}, throttled(second(1))},
		"the probe, and throttled":          {breaker.Row{Phase: breaker.Probing, Probe: "me", Until: second(1), ThrottledUntil: second(9)}, probe},
	} {
		if got := r.Rule(test.row, "me", noon); got != test.want {
			t.Errorf("%s: %+v, want %+v", label, got, test.want)
		}
	}
}

// TestBackOff opens again and again.
func TestBackOff(t *testing.T) {
	r := rules(t)
	row := breaker.Row{Turn: 4, Streak: 10, Slots: map[breaker.Slot]breaker.Count{1: {Failures: 1}}}
	row = r.Opened(row, noon, 0, 0.5)
	for trips, want := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute, 5 * time.Minute} {
		if row.Phase != breaker.Open || row.Trips != trips || !row.Until.Equal(noon.Add(want)) || row.Streak != 0 || row.Slots != nil || row.Turn != int64(5+2*trips) {
			t.Fatalf("after %d failed probes: %+v, want %v", trips, row, want)
		}
		row = r.Opened(r.Named(row, "p", noon, time.Time{}), noon, 0, 0.5)
	}
	for random, want := range map[float64]time.Duration{0: 24 * time.Second, 0.9999999999: 36 * time.Second} {
		if got := r.Opened(breaker.Row{}, noon, 0, random).Until.Sub(noon).Round(time.Millisecond); got != want {
			t.Errorf("random %v: %v, want %v", random, got, want)
		}
	}
	row.Trips, row.Phase = 1<<40, breaker.Probing
	if got := r.Opened(row, noon, 0, 0.5).Until.Sub(noon); got != 5*time.Minute {
		t.Errorf("after very many: %v", got)
	}
}

func TestRelapseGoesOnWithBackOff(t *testing.T) {
	r := rules(t)
	for age, want := range map[time.Duration]int{time.Minute: 3, time.Hour: 0} {
		if got := r.Opened(breaker.Row{Trips: 2, RecoveringSince: noon.Add(-age)}, noon, 0, 0.5).Trips; got != want {
			t.Errorf("%v after recovery: %d failed probes, want %d", age, got, want)
		}
	}
}

func TestProbeThatIsThrottled(t *testing.T) {
	r := rules(t)
	probing := r.Named(breaker.Row{Phase: breaker.Open}, "p", noon, time.Time{})
	for after, want := range map[time.Duration]time.Time{0: {}, time.Hour: noon.Add(time.Hour), 48 * time.Hour: noon.Add(24 * time.Hour)} {
		got := r.Opened(probing, noon, after, 0.5)
		if got.Phase != breaker.Open || !got.ThrottledUntil.Equal(want) {
			t.Errorf("retry after %v: %+v", after, got)
		}
	}
	probing.ThrottledUntil = noon.Add(time.Hour)
	if got := r.Opened(probing, noon, time.Minute, 0.5); !got.ThrottledUntil.Equal(noon.Add(time.Hour)) {
		t.Errorf("a shorter throttle took the longer one's place: %+v", got)
	}
}

func TestTimeOfAProbe(t *testing.T) {
	r := rules(t)
	for name, test := range map[string]struct {
		deadline time.Time
		want     time.Duration
	}{
		"no deadline":    {time.Time{}, 70 * time.Second},
		"soon":           {noon.Add(20 * time.Second), 30 * time.Second},
		"beyond reason":  {noon.Add(time.Hour), 70 * time.Second},
		"it is over":     {noon.Add(-5 * time.Second), 5 * time.Second},
		"all of it left": {noon.Add(time.Minute), 70 * time.Second},
	} {
		got := r.Named(breaker.Row{Turn: 7, Phase: breaker.Open, Trips: 2}, "p", noon, test.deadline)
		if got.Until.Sub(noon) != test.want || got.Turn != 8 || got.Probe != "p" || got.Trips != 2 || got.Phase != breaker.Probing {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAfterAProbe(t *testing.T) {
	r := rules(t)
	probing := breaker.Row{Turn: 8, Phase: breaker.Probing, Probe: "p", Until: noon.Add(time.Minute), Trips: 2, ThrottledAt: noon, ThrottledUntil: noon.Add(time.Second)}
	recovered, released := r.Recovered(probing, noon), r.Released(probing, noon)
	if recovered.Phase != breaker.Closed || recovered.Turn != 9 || !recovered.RecoveringSince.Equal(noon) || recovered.Probe != "" || !recovered.ThrottledUntil.Equal(probing.ThrottledUntil) {
		t.Errorf("recovered: %+v", recovered)
	}
	if r.Rule(recovered, "x", noon).Kind != breaker.KindThrottled || r.Rule(recovered, "x", noon.Add(time.Second)).Action != breaker.Pass {
		t.Error("recovery does not end what the destination has asked for, and nothing else holds")
	}
	if released.Phase != breaker.Open || released.Turn != 9 || released.Trips != 2 || r.Rule(released, "x", noon.Add(time.Second)).Action != breaker.Name {
		t.Errorf("released: %+v", released)
	}
}

func TestPermit(t *testing.T) {
	r := rules(t)
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	for name, test := range map[string]struct {
		row  breaker.Row
		may  bool
		most int
	}{
		"no row":                   {breaker.Row{}, true, 0},
		"open":                     {breaker.Row{Phase: breaker.Open, Until: noon.Add(1)}, false, 0},
		"a probe is due":           {breaker.Row{Phase: breaker.Open, Until: noon}, true, 1},
		"probing":                  {breaker.Row{Phase: breaker.Probing, Probe: "p", Until: noon.Add(1)}, false, 0},
		"the probe has died":       {breaker.Row{Phase: breaker.Probing, Probe: "p", Until: noon}, true, 1},
		"just recovered":           {breaker.Row{RecoveringSince: noon}, true, 10},
		"recovered by fast clock":  {breaker.Row{RecoveringSince: ago(-10 * time.Second)}, true, 10},
		"after a minute":           {breaker.Row{RecoveringSince: ago(time.Minute)}, true, 20},
		"after two":                {breaker.Row{RecoveringSince: ago(2 * time.Minute)}, true, 40},
		"after five":               {breaker.Row{RecoveringSince: ago(5 * time.Minute)}, true, 320},
		"after six, 640 is enough": {breaker.Row{RecoveringSince: ago(6 * time.Minute)}, true, 0},
		"long ago":                 {breaker.Row{RecoveringSince: ago(1000 * time.Hour)}, true, 0},
		"throttled":                {breaker.Row{ThrottledAt: noon, ThrottledUntil: noon.Add(1)}, false, 0},
		"after a short throttle":   {breaker.Row{ThrottledAt: ago(time.Minute), ThrottledUntil: noon}, true, 0},
		"after a long throttle":    {breaker.Row{ThrottledAt: ago(time.Hour), ThrottledUntil: noon}, true, 10},
		"a long throttle is over":  {breaker.Row{ThrottledAt: ago(3 * time.Hour), ThrottledUntil: ago(time.Hour)}, true, 0},
	} {
		if may, most := r.Permit(test.row, noon); may != test.may || most != test.most {
			t.Errorf("%s: %v, %d", name, may, most)
		}
	}
}

func TestDelay(t *testing.T) {
	r := rules(t)
	for name, test := range map[string]struct {
		from, until time.Duration
		random      float64
		want        time.Duration
	}{
		"at its beginning":    {0, time.Minute, 0, time.Minute},
		"spread":              {0, time.Minute, 0.5, 90 * time.Second},
		"at its end":          {-50 * time.Second, 10 * time.Second, 0.5, 40 * time.Second},
		"very short":          {0, time.Millisecond, 0.5, 501 * time.Millisecond},
		"as long as can be":   {0, 15 * time.Minute, 0, 15 * time.Minute},
		"no room for spread":  {0, 14 * time.Minute, 0.9, 15 * time.Minute},
		"too long":            {0, 15*time.Minute + 1, 0, 0},
		"the end of a longer": {-time.Hour, 5 * time.Minute, 0.1, 11*time.Minute + 30*time.Second},
	} {
		row := breaker.Row{ThrottledAt: noon.Add(test.from), ThrottledUntil: noon.Add(test.until)}
		if got := r.Delay(row, noon, test.random); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestReset(t *testing.T) {
	r := rules(t)
	old := noon.Add(-10*time.Minute - 10*time.Second - 1)
	for name, test := range map[string]struct {
		row  breaker.Row
		want bool
	}{
		"failures":           {breaker.Row{Streak: 2, At: old}, true},
		"not quiet for long": {breaker.Row{Streak: 2, At: old.Add(1)}, false},
		"recovered":          {breaker.Row{RecoveringSince: old, At: old}, true},
		"succeeded":          {breaker.Row{SucceededAt: old, At: old}, true},
		"throttled once":     {breaker.Row{ThrottledUntil: old, At: old}, true},
		"still throttled":    {breaker.Row{ThrottledUntil: noon.Add(1), At: old}, false},
		"open":               {breaker.Row{Phase: breaker.Open, Streak: 1, At: old}, false},
		"nothing left":       {breaker.Row{Turn: 9, At: old}, false},
		"no row":             {breaker.Row{}, false},
	} {
		if got := r.MayReset(test.row, noon); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := r.Reset(breaker.Row{Turn: 9, Streak: 3, RecoveringSince: old, Trips: 2, At: old}, noon); !got.Same(breaker.Row{Turn: 10}) || got.Streak != 0 {
		t.Errorf("reset: %+v", got)
	}
}

func TestRulesThatCannotBe(t *testing.T) {
	if err := (breaker.Rules{}).Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*breaker.Rules){
		"Streak":       func(r *breaker.Rules) { r.Streak = -1 },
		"Attempts":     func(r *breaker.Rules) { r.Attempts = -1 },
		"Percent":      func(r *breaker.Rules) { r.Percent = 101 },
		"Window":       func(r *breaker.Rules) { r.Window = time.Millisecond },
		"Notice":       func(r *breaker.Rules) { r.Notice = -1 },
		"OpenFor":      func(r *breaker.Rules) { r.OpenFor = time.Hour },
		"ClockSkew":    func(r *breaker.Rules) { r.ClockSkew = -1 },
		"ProbeFor":     func(r *breaker.Rules) { r.ProbeFor = 10 * time.Second },
		"RampEvery":    func(r *breaker.Rules) { r.RampEvery = -1 },
		"RampFirst":    func(r *breaker.Rules) { r.RampFirst = -1 },
		"Quiet":        func(r *breaker.Rules) { r.Quiet = time.Second },
		"LongestDelay": func(r *breaker.Rules) { r.LongestDelay = time.Hour },
	} {
		var r breaker.Rules
		change(&r)
		if err := r.Validate(); err == nil {
			t.Errorf("a bad %s was accepted", name)
		}
	}
}
