// Package registrytest is the conformance suite of registry.Store, and a store in memory that passes it, for the tests of those who use the
// registry.
package registrytest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/registry"
)

// Harness is an empty store and ways to make it fail.
type Harness struct {
	Store registry.Store
	// Damage changes the stored bytes of the current version behind the store's back.
	Damage func()
	// Inject makes the store's calls go wrong until heal is called.
	Inject func(FaultKind) (heal func())
}

// FaultKind says how calls go wrong.
type FaultKind string

// The kinds of faults.
const (
	Throttled  FaultKind = "throttled"   // not done, and the answer says so
	Broken     FaultKind = "broken"      // not done, and the answer is an internal error
	AnswerLost FaultKind = "answer lost" // done, without an answer
)

// Run puts the store that open gives through the suite. open is called once for every test and must give an empty store each time.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"an empty store", testEmpty},
		{"what is applied comes back", testApply},
		{"documents of every size", testSizes},
		{"only who has seen the current version applies", testChanged},
		{"one of many applies", testApplyConcurrently},
		{"old versions go, the current one never", testKept},
		{"damage is found", testDamage},
		{"what cannot be applied", testBadDrafts},
		{"pausing and disabling are remembered apart", testMarks},
		{"the earlier mark stays", testEarlierMarkStays},
		{"one of many is the first to disable", testDisableConcurrently},
		{"many states", testManyStates},
		{"marks that cannot be kept, or only in part", testOddMarks},
		{"applying leaves states alone", testApplyLeavesStates},
		{"who has let a destination receive again", testReleases},
		{"faults", testFaults},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// at is in the middle of a second, to catch rounding.
var at = time.Date(2026, time.November, 3, 4, 5, 6, 789_000_000, time.UTC)

func draft(document string) registry.Draft {
	return registry.Draft{Document: []byte(document), By: "anna", At: at}
}

func apply(t *testing.T, h Harness, was int64, document string) registry.Version {
	t.Helper()
	v, err := h.Store.Apply(t.Context(), was, draft(document))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func current(t *testing.T, h Harness) registry.Snapshot {
	t.Helper()
	s, err := h.Store.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func same(a, b registry.Version) bool {
	times := a.AppliedAt.Equal(b.AppliedAt)
	a.AppliedAt, b.AppliedAt = time.Time{}, time.Time{}
	return times && a == b
}

func holds(t *testing.T, h Harness, v registry.Version, want string) {
	t.Helper()
	got, err := h.Store.Document(t.Context(), v)
	if err != nil || string(got) != want {
		t.Fatalf("version %d: %d bytes %.60q, %v; want %d bytes", v.Number, len(got), got, err, len(want))
	}
}

func testEmpty(t *testing.T, h Harness) {
	if s := current(t, h); s.Version != (registry.Version{}) || len(s.States) != 0 {
		t.Errorf("current: %+v", s)
	}
	if versions, err := h.Store.Versions(t.Context()); err != nil || len(versions) != 0 {
		t.Errorf("versions: %v, %v", versions, err)
	}
	if _, err := h.Store.Document(t.Context(), registry.Version{Number: 1, Token: "t", Chunks: 1}); !errors.Is(err, registry.ErrGone) {
		t.Errorf("document: %v, want ErrGone", err)
	}
	if was, err := h.Store.Resume(t.Context(), "crm"); was || err != nil {
		t.Errorf("resume: %v, %v", was, err)
	}
	if was, err := h.Store.Enable(t.Context(), "crm"); was || err != nil {
		t.Errorf("enable: %v, %v", was, err)
	}
}

func testApply(t *testing.T, h Harness) {
	first := apply(t, h, 0, `{"destinations": []}`)
	sum := sha256.Sum256([]byte(`{"destinations": []}`))
	if first.Number != 1 || first.Token == "" || first.Bytes != 20 || first.SHA256 != hex.EncodeToString(sum[:]) || first.By != "anna" || !first.AppliedAt.Equal(at) {
		t.Errorf("applied %+v", first)
	}
	if got := current(t, h).Version; !same(got, first) {
		t.Errorf("current %+v, want %+v", got, first)
	}
	holds(t, h, first, `{"destinations": []}`)
	second := apply(t, h, 1, "not JSON \xff\x00")
	holds(t, h, second, "not JSON \xff\x00")
	holds(t, h, first, `{"destinations": []}`)
	versions, err := h.Store.Versions(t.Context())
	if err != nil || !slices.EqualFunc(versions, []registry.Version{second, first}, same) {
		t.Errorf("versions %+v, %v", versions, err)
	}
	other := second
	other.Token += "x"
	if _, err := h.Store.Document(t.Context(), other); !errors.Is(err, registry.ErrGone) {
		t.Errorf("a version that nobody applied: %v, want ErrGone", err)
	}
}

// testSizes takes documents that compress well, and ones that do not, up to the largest.
func testSizes(t *testing.T, h Harness) {
	source := rand.NewChaCha8([32]byte{1})
	for was, size := range []int{1, 350 << 10, 350<<10 + 1, 1<<20 + 300<<10} { // several pages of a database that reads a megabyte at a time
		random := make([]byte, size)
		_, _ = source.Read(random)
		holds(t, h, apply(t, h, int64(was), string(random)), string(random))
	}
	largest := strings.Repeat("x", registry.MaxFileBytes)
	holds(t, h, apply(t, h, 4, largest), largest)
}

func testChanged(t *testing.T, h Harness) {
	refused := func(was int64) {
		t.Helper()
		if _, err := h.Store.Apply(t.Context(), was, draft("other")); !errors.Is(err, registry.ErrChanged) {
			t.Errorf("apply on %d: %v, want ErrChanged", was, err)
		}
	}
	refused(1)
	first := apply(t, h, 0, "one")
	refused(0)
	refused(2)
	holds(t, h, first, "one")
	second := apply(t, h, 1, "two")
	refused(0)
	refused(1)
	if got := current(t, h).Version; !same(got, second) {
		t.Errorf("current %+v", got)
	}
	holds(t, h, second, "two")
}

func testApplyConcurrently(t *testing.T, h Harness) {
	apply(t, h, 0, "zero")
	var wg sync.WaitGroup
	versions, errs := make([]registry.Version, 12), make([]error, 12)
	document := func(i int) string { return strings.Repeat(string(rune('a'+i)), 100) }
	for i := range versions {
		wg.Go(func() { versions[i], errs[i] = h.Store.Apply(t.Context(), 1, draft(document(i))) })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Fatal("two have applied on the same version")
		case err == nil:
			winner = i
		case !errors.Is(err, registry.ErrChanged):
			t.Errorf("%v, want ErrChanged", err)
		}
	}
	if winner < 0 {
		t.Fatal("nobody has applied")
	}
	if got := current(t, h).Version; !same(got, versions[winner]) {
		t.Errorf("current %+v, want %+v", got, versions[winner])
	}
	holds(t, h, versions[winner], document(winner))
}

func testKept(t *testing.T, h Harness) {
	var versions []registry.Version
	for i := range registry.KeptVersions + 3 {
		versions = append(versions, apply(t, h, int64(i), fmt.Sprint("document ", i)))
	}
	kept, err := h.Store.Versions(t.Context())
	want := slices.Clone(versions[3:])
	slices.Reverse(want)
	if err != nil || !slices.EqualFunc(kept, want, same) {
		t.Fatalf("kept %+v, %v", kept, err)
	}
	for i, v := range versions {
		if i >= 3 {
			holds(t, h, v, fmt.Sprint("document ", i))
		} else if _, err := h.Store.Document(t.Context(), v); !errors.Is(err, registry.ErrGone) {
			t.Errorf("version %d: %v, want ErrGone", v.Number, err)
		}
	}
}

func testDamage(t *testing.T, h Harness) {
	v := apply(t, h, 0, strings.Repeat("a document ", 10))
	h.Damage()
	if document, err := h.Store.Document(t.Context(), v); !errors.Is(err, registry.ErrDamaged) || document != nil {
		t.Errorf("%q, %v, want ErrDamaged", document, err)
	}
	holds(t, h, apply(t, h, 1, "sound"), "sound")
}

func testBadDrafts(t *testing.T, h Harness) {
	for name, bad := range map[string]registry.Draft{
		"nothing":   {By: "anna", At: at},
		"no time":   {Document: []byte("x"), By: "anna"},
		"too large": {Document: bytes.Repeat([]byte("x"), registry.MaxFileBytes+1), By: "anna", At: at},
	} {
		if _, err := h.Store.Apply(t.Context(), 0, bad); err == nil {
			t.Errorf("%s was applied", name)
		}
	}
	if s := current(t, h); s.Version.Number != 0 {
		t.Errorf("current %+v", s.Version)
	}
	v, err := h.Store.Apply(t.Context(), 0, registry.Draft{Document: []byte("x"), By: strings.Repeat("ü", registry.MaxBy), At: at.Add(999 * time.Microsecond)})
	if err != nil || len(v.By) != registry.MaxBy || !v.AppliedAt.Equal(at) || !same(current(t, h).Version, v) {
		t.Errorf("%+v, %v", v, err)
	}
}

func mark(minutes int, note string) registry.Mark {
	return registry.Mark{Since: at.Add(time.Duration(minutes) * time.Minute), Note: note, By: "anna"}
}

func states(t *testing.T, h Harness, want map[string]registry.State) {
	t.Helper()
	got := current(t, h).States
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if !sameState(got[id], want[id]) {
			t.Fatalf("%s: got %+v, want %+v", id, got[id], want[id])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d states, want %d", len(got), len(want))
	}
}

func sameState(a, b registry.State) bool {
	return a.Paused.Equal(b.Paused) && a.Disabled.Equal(b.Disabled) && a.Note == b.Note && a.By == b.By
}

func testMarks(t *testing.T, h Harness) {
	type call func() (bool, error)
	paused, disabled := mark(1, "maintenance"), mark(2, "answered 410")
	pause := func() (bool, error) { return h.Store.Pause(t.Context(), "crm", paused) }
	disable := func() (bool, error) { return h.Store.Disable(t.Context(), "crm", disabled) }
	resume := func() (bool, error) { return h.Store.Resume(t.Context(), "crm") }
	enable := func() (bool, error) { return h.Store.Enable(t.Context(), "crm") }
	none := registry.Mark{}
	for i, step := range []struct {
		call     call
		want     bool
		paused   registry.Mark
		disabled registry.Mark
	}{
		{pause, true, paused, none},
		{pause, false, paused, none},
		{enable, false, paused, none},
		{disable, true, paused, disabled},
		{disable, false, paused, disabled},
		{resume, true, none, disabled},
		{resume, false, none, disabled},
		{pause, true, paused, disabled},
		{enable, true, paused, none},
		{enable, false, paused, none},
		{resume, true, none, none},
		{resume, false, none, none},
		{disable, true, none, disabled},
		{enable, true, none, none},
		{enable, false, none, none},
	} {
		got, err := step.call()
		if err != nil || got != step.want {
			t.Fatalf("step %d: %v, %v; want %v", i, got, err, step.want)
		}
		want := map[string]registry.State{"crm": registry.NewState(step.paused, step.disabled)}
		if want["crm"] == (registry.State{}) {
			want = nil
		}
		states(t, h, want)
	}
}

// testReleases: the last one is remembered, also beside a mark, and no state comes or goes with it.
func testReleases(t *testing.T, h Harness) {
	record := func(id string, r registry.Release) {
		t.Helper()
		if err := h.Store.Record(t.Context(), id, r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Store.Pause(t.Context(), "crm", mark(0, "x")); err != nil {
		t.Fatal(err)
	}
	record("crm", registry.Release{At: at, By: "anna"})
	record("erp", registry.Release{At: at.Add(999 * time.Microsecond), By: strings.Repeat("ü", registry.MaxBy), Enabled: true})
	record("crm", registry.Release{At: at.Add(time.Hour), By: "bert", Enabled: true})
	states(t, h, map[string]registry.State{"crm": registry.NewState(mark(0, "x"), registry.Mark{})})
	got, err := h.Store.Releases(t.Context())
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if r := got["crm"]; !r.At.Equal(at.Add(time.Hour)) || r.By != "bert" || !r.Enabled {
		t.Errorf("crm: %+v", r)
	}
	if r := got["erp"]; !r.At.Equal(at) || len(r.By) != registry.MaxBy || !utf8.ValidString(r.By) {
		t.Errorf("erp: %+v", r)
	}
	for name, bad := range map[string]func() error{
		"no id":   func() error { return h.Store.Record(t.Context(), "no such id!", registry.Release{At: at}) },
		"no time": func() error { return h.Store.Record(t.Context(), "crm", registry.Release{By: "anna"}) },
	} {
		if bad() == nil {
			t.Errorf("%s: recorded", name)
		}
	}
}

func testEarlierMarkStays(t *testing.T, h Harness) {
	for i, note := range []string{"first", "second"} {
		for _, call := range []func(string, registry.Mark) (bool, error){
			func(id string, m registry.Mark) (bool, error) { return h.Store.Pause(t.Context(), id, m) },
			func(id string, m registry.Mark) (bool, error) { return h.Store.Disable(t.Context(), id, m) },
		} {
			if first, err := call("crm", mark(-i, note)); err != nil || first != (i == 0) {
				t.Fatalf("%s: %v, %v", note, first, err)
			}
		}
	}
	states(t, h, map[string]registry.State{"crm": registry.NewState(mark(0, "first"), mark(0, "first"))})
}

func testDisableConcurrently(t *testing.T, h Harness) {
	var wg sync.WaitGroup
	firsts, errs := make([]bool, 20), make([]error, 20)
	for i := range firsts {
		wg.Go(func() { firsts[i], errs[i] = h.Store.Disable(t.Context(), "crm", mark(i, strconv.Itoa(i))) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	winner := slices.Index(firsts, true)
	if winner < 0 || slices.Contains(firsts[winner+1:], true) {
		t.Fatalf("firsts %v", firsts)
	}
	states(t, h, map[string]registry.State{"crm": registry.NewState(registry.Mark{}, mark(winner, strconv.Itoa(winner)))})
}

// testManyStates has more than a database gives in one page.
func testManyStates(t *testing.T, h Harness) {
	v := apply(t, h, 0, "document")
	want := map[string]registry.State{}
	for i := range 2000 {
		m := mark(i, strings.Repeat("x", registry.MaxNote-10))
		id := fmt.Sprintf("d-%d", i)
		if _, err := h.Store.Pause(t.Context(), id, m); err != nil {
			t.Fatal(err)
		}
		want[id] = registry.NewState(m, registry.Mark{})
	}
	states(t, h, want)
	if got := current(t, h).Version; !same(got, v) {
		t.Errorf("current %+v", got)
	}
}

func testOddMarks(t *testing.T, h Harness) {
	for name, call := range map[string]func() (bool, error){
		"no time":       func() (bool, error) { return h.Store.Pause(t.Context(), "crm", registry.Mark{Note: "x"}) },
		"no id":         func() (bool, error) { return h.Store.Disable(t.Context(), "", mark(0, "x")) },
		"not an id":     func() (bool, error) { return h.Store.Disable(t.Context(), "CRM", mark(0, "x")) },
		"a very big id": func() (bool, error) { return h.Store.Pause(t.Context(), strings.Repeat("a", 2000), mark(0, "x")) },
	} {
		if first, err := call(); err == nil || first {
			t.Errorf("%s: %v, %v", name, first, err)
		}
	}
	states(t, h, nil)
	long := registry.Mark{Since: at.Add(999 * time.Microsecond), Note: strings.Repeat("ü", registry.MaxNote) + "x", By: "\xff" + strings.Repeat("ü", registry.MaxBy)}
	for id, m := range map[string]registry.Mark{"long": long, "empty": {Since: at}} {
		if first, err := h.Store.Pause(t.Context(), id, m); err != nil || !first {
			t.Fatal(first, err)
		}
	}
	got := current(t, h).States
	if s := got["long"]; !s.Paused.Equal(at) || len(s.Note) != registry.MaxNote || len(s.By) > registry.MaxBy || len(s.By) < registry.MaxBy-1 || !utf8.ValidString(s.By) {
		t.Errorf("long: %+v", s)
	}
	if s := got["empty"]; !s.Paused.Equal(at) || s.Note != "" || s.By != "" {
		t.Errorf("empty: %+v", s)
	}
}

func testApplyLeavesStates(t *testing.T, h Harness) {
	m := mark(0, "x")
	if _, err := h.Store.Pause(t.Context(), "crm", m); err != nil {
		t.Fatal(err)
	}
	for i := range int64(registry.KeptVersions + 2) {
		apply(t, h, i, "document")
	}
	states(t, h, map[string]registry.State{"crm": registry.NewState(m, registry.Mark{})})
}

// testFaults makes every call go wrong in every way: nothing may be reported that is not so.
func testFaults(t *testing.T, h Harness) {
	number := int64(0)
	for _, kind := range []FaultKind{Throttled, Broken, AnswerLost} {
		want := map[FaultKind]error{Throttled: registry.ErrThrottled, Broken: registry.ErrUnknown, AnswerLost: registry.ErrUnknown}[kind]
		v := apply(t, h, number, "document")
		number++
		faulty := func(name string, call func() (done bool, err error)) {
			t.Helper()
			heal := h.Inject(kind)
			defer heal()
			if done, err := call(); !errors.Is(err, want) || done {
				t.Fatalf("%s %s: %v, %v; want %v", kind, name, done, err, want)
			}
		}
		faulty("current", func() (bool, error) { s, err := h.Store.Current(t.Context()); return s.Version.Number != 0, err })
		faulty("document", func() (bool, error) { d, err := h.Store.Document(t.Context(), v); return d != nil, err })
		faulty("versions", func() (bool, error) { all, err := h.Store.Versions(t.Context()); return all != nil, err })
		faulty("apply", func() (bool, error) {
			_, err := h.Store.Apply(t.Context(), number, draft("another document"))
			return false, err
		})
		if now := current(t, h).Version; now.Number != number {
			if kind != AnswerLost {
				t.Fatalf("%s: version %d is current after a failed apply on %d", kind, now.Number, number)
			}
			number = now.Number
		}
		for _, c := range []struct {
			name    string
			call    func() (bool, error)
			present bool
		}{
			{"pause", func() (bool, error) { return h.Store.Pause(t.Context(), "crm", mark(0, "x")) }, true},
			{"resume", func() (bool, error) { return h.Store.Resume(t.Context(), "crm") }, false},
			{"disable", func() (bool, error) { return h.Store.Disable(t.Context(), "crm", mark(0, "x")) }, true},
			{"enable", func() (bool, error) { return h.Store.Enable(t.Context(), "crm") }, false},
		} {
			faulty(c.name, c.call)
			if _, present := current(t, h).States["crm"]; present != (c.present == (kind == AnswerLost)) {
				t.Fatalf("%s %s: a state is there: %v", kind, c.name, present)
			}
			if did, err := c.call(); err != nil || did != (kind != AnswerLost) {
				t.Fatalf("%s %s, again: %v, %v", kind, c.name, did, err)
			}
		}
	}
}
