// Package waitingtest is the conformance suite of waiting.Store: what a driver must do so that the protocol of the waiting room holds over
// it, and a store in memory that passes it, for the tests of those who use the waiting room.
package waitingtest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/waiting"
)

// Harness is an empty store and a second way into it, so that a store is never judged by its own word.
type Harness struct {
	Store waiting.Store
	// Rows reads all rows behind the store's back, by bucket and key, without watermarks and scans.
	Rows func() []waiting.Row
	// Inject makes the store's calls go wrong until heal is called. Nil: the tests of faults are skipped.
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
		{"rows come back as they were put", testRoundTrip},
		{"a put writes over what is there", testOverwrite},
		{"only the token that was read deletes", testDelete},
		{"one of many deletes is refused", testDeleteMany},
		{"pages in the order of keys", testPages},
		{"keys between bounds", testBounds},
		{"large rows", testLarge},
		{"watermarks move forward only", testAdvance},
		{"one of many advances to each hour", testAdvanceConcurrently},
		{"scan progress changes hands by token", testSaveScan},
		{"scan names every bucket", testBuckets},
		{"every row that holds a delivery is listed once", testList},
		{"nothing is nothing", testEmpty},
		{"faults", testFaults},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// at is in the middle of a second, to catch rounding.
var at = time.Date(2026, time.November, 3, 4, 5, 6, 789_000_000, time.UTC)

func row(bucket, key, token string) waiting.Row {
	return waiting.Row{
		Bucket: bucket, Key: key, Token: token, At: at, Destination: "orders-crm", Trace: "Root=1-2-3", Form: waiting.Zipped,
		Body: []byte("\x1f\x8b\x00 not UTF-8 \xff"),
	}
}

func ok(t *testing.T, errs ...error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
}

func same(a, b waiting.Row) bool {
	times := a.At.Equal(b.At)
	a.At, b.At = time.Time{}, time.Time{}
	bodies := bytes.Equal(a.Body, b.Body)
	a.Body, b.Body = nil, nil
	return times && bodies && reflect.DeepEqual(a, b)
}

func check(t *testing.T, what string, got []waiting.Row, want ...waiting.Row) {
	t.Helper()
	if !slices.EqualFunc(got, want, same) {
		t.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func read(t *testing.T, h Harness, bucket string) []waiting.Row {
	t.Helper()
	var rows []waiting.Row
	for after, pages := "", 0; pages == 0 || after != ""; pages++ {
		page, err := h.Store.Read(t.Context(), bucket, after, "", 1000)
		ok(t, err)
		rows, after = append(rows, page.Rows...), page.Next
	}
	return rows
}

func testRoundTrip(t *testing.T, h Harness) {
	full := row("b", "k", "t")
	mark := waiting.Row{Bucket: "marks#1", Key: "orders-crm", Token: "t", At: at, Destination: "orders-crm"}
	ok(t, h.Store.Put(t.Context(), []waiting.Row{full, mark})...)
	check(t, "behind the store's back", h.Rows(), full, mark)
	check(t, "read", read(t, h, "b"), full)
	check(t, "read", read(t, h, "marks#1"), mark)
}

func testOverwrite(t *testing.T, h Harness) {
	ok(t, h.Store.Put(t.Context(), []waiting.Row{row("b", "k", "old")})...)
	fresh := waiting.Row{Bucket: "b", Key: "k", Token: "new", At: at.Add(time.Hour), Destination: "other", Form: 2, Body: []byte("x")}
	ok(t, h.Store.Put(t.Context(), []waiting.Row{fresh})...)
	check(t, "after the second put", read(t, h, "b"), fresh)
}

func testDelete(t *testing.T, h Harness) {
	ok(t, h.Store.Put(t.Context(), []waiting.Row{row("b", "k", "t2"), row("b", "l", "t2"), row("c", "k", "t2")})...)
	for _, ref := range []waiting.Ref{{Bucket: "b", Key: "k", Token: "t1"}, {Bucket: "b", Key: "k", Token: ""}, {Bucket: "b", Key: "k", Token: "t22"}} {
		if err := h.Store.Delete(t.Context(), []waiting.Ref{ref})[0]; !errors.Is(err, waiting.ErrRefused) {
			t.Fatalf("delete %+v: %v, want ErrRefused", ref, err)
		}
	}
	check(t, "after refusals", h.Rows(), row("b", "k", "t2"), row("b", "l", "t2"), row("c", "k", "t2"))
	ok(t, h.Store.Delete(t.Context(), []waiting.Ref{row("b", "k", "t2").Ref()})...)
	check(t, "after the delete", h.Rows(), row("b", "l", "t2"), row("c", "k", "t2"))
	ok(t, h.Store.Delete(t.Context(), []waiting.Ref{row("b", "k", "t2").Ref()})...) // again: gone is deleted
}

func testDeleteMany(t *testing.T, h Harness) {
	var rows []waiting.Row
	var refs []waiting.Ref
	for i := range 60 {
		rows = append(rows, row("b", fmt.Sprintf("%02d", i), "t"))
		refs = append(refs, rows[i].Ref())
	}
	ok(t, h.Store.Put(t.Context(), rows)...)
	refs[7].Token, refs[59].Token, refs[30].Key = "other", "other", "nothing there"
	for i, err := range h.Store.Delete(t.Context(), refs) {
		if refused := errors.Is(err, waiting.ErrRefused); refused != (i == 7 || i == 59) || !refused && err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	check(t, "left", h.Rows(), rows[7], rows[30], rows[59])
}

func testPages(t *testing.T, h Harness) {
	var rows []waiting.Row
	for i := range 57 {
		rows = append(rows, row("b", fmt.Sprintf("%03d", i*2), "t"))
	}
	shuffled := append(slices.Clone(rows[20:]), rows[:20]...)
	ok(t, h.Store.Put(t.Context(), append(shuffled, row("a", "000", "t"), row("c", "999", "t")))...)
	for _, limit := range []int{1, 10, 57, 1000} {
		var got []waiting.Row
		for after := ""; ; {
			page, err := h.Store.Read(t.Context(), "b", after, "", limit)
			ok(t, err)
			if len(page.Rows) > limit || len(got) > len(rows) {
				t.Fatalf("limit %d: a page of %d rows, %d in all", limit, len(page.Rows), len(got))
			}
			got = append(got, page.Rows...)
			if after = page.Next; after == "" {
				break
			}
		}
		check(t, fmt.Sprintf("pages of %d", limit), got, rows...)
	}
	page, err := h.Store.Read(t.Context(), "b", "003", "", 2) // a key that is not there
	ok(t, err)
	check(t, "after a key that is gone", page.Rows, rows[2], rows[3])
}

// between reads all rows of a bucket between two bounds, page by page.
func between(t *testing.T, h Harness, bucket, after, before string, limit int) (rows []waiting.Row) {
	t.Helper()
	for pages := 0; ; pages++ {
		page, err := h.Store.Read(t.Context(), bucket, after, before, limit)
		ok(t, err)
		rows = append(rows, page.Rows...)
		if after = page.Next; after == "" {
			return rows
		}
		if len(page.Rows) > limit || pages > 1000 {
			t.Fatalf("limit %d: page %d has %d rows", limit, pages, len(page.Rows))
		}
	}
}

func testBounds(t *testing.T, h Harness) {
	var rows []waiting.Row
	for i := range 40 {
		rows = append(rows, row("b", fmt.Sprintf("%03d#x", i*2), "t"))
	}
	ok(t, h.Store.Put(t.Context(), append(slices.Clone(rows), row("a", "010#x", "t"), row("c", "010#x", "t"), row("b", "z", "t")))...)
	for _, test := range []struct {
		after, before string
		want          []waiting.Row
	}{
		{"", "010", rows[:5]}, // the bound is a prefix of a key
		{"", "010#x", rows[:5]},
		{"", "010#y", rows[:6]},
		{"", "011", rows[:6]},
		{"", "000", nil},
		{"", "999", rows},
		{"010#x", "020", rows[6:10]},
		{"010#w", "020", rows[5:10]},
		{"010#x", "012#x", nil},
		{"010#x", "010#x", nil},
		{"020", "010", nil},
		{"078#x", "999", nil},
	} {
		for _, limit := range []int{1, 3, 1000} {
			check(t, fmt.Sprintf("after %q, before %q, in pages of %d", test.after, test.before, limit), between(t, h, "b", test.after, test.before, limit), test.want...)
		}
	}
}

func testLarge(t *testing.T, h Harness) {
	var rows []waiting.Row
	for i := range 5 {
		r := row("b", strconv.Itoa(i), "t")
		r.Body = bytes.Repeat([]byte{byte(i)}, waiting.MaxRowBytes-r.Size()+len(r.Body))
		rows = append(rows, r)
	}
	if rows[0].Size() != waiting.MaxRowBytes {
		t.Fatalf("size %d", rows[0].Size())
	}
	ok(t, h.Store.Put(t.Context(), rows)...)
	check(t, "large rows", read(t, h, "b"), rows...)
	var refs []waiting.Ref
	for _, r := range rows {
		refs = append(refs, r.Ref())
	}
	ok(t, h.Store.Delete(t.Context(), refs)...)
	check(t, "deleted", h.Rows())
}

func testAdvance(t *testing.T, h Harness) {
	// One shard after the other through numbers of different lengths, which as text would be in another order.
	for _, step := range []struct {
		shard   int
		to      waiting.Hour
		refused bool
	}{{3, 9, false}, {3, 10, false}, {3, 10, true}, {3, 9, true}, {4, 2, false}, {3, 490_000, false}, {3, 489_999, true}, {3, 100, true}} {
		if err := h.Store.Advance(t.Context(), step.shard, step.to); errors.Is(err, waiting.ErrRefused) != step.refused || !step.refused && err != nil {
			t.Fatalf("%+v: %v", step, err)
		}
	}
	state, err := h.Store.State(t.Context())
	ok(t, err)
	if want := map[int]waiting.Hour{3: 490_000, 4: 2}; !maps.Equal(state.Watermarks, want) {
		t.Fatalf("watermarks %v, want %v", state.Watermarks, want)
	}
	check(t, "rows", h.Rows())
}

func testAdvanceConcurrently(t *testing.T, h Harness) {
	var wg sync.WaitGroup
	errs := make([]error, 40)
	for i := range errs {
		wg.Go(func() { errs[i] = h.Store.Advance(t.Context(), 0, waiting.Hour(100+i/2)) })
	}
	wg.Wait()
	for i := 0; i < len(errs); i += 2 {
		if errs[i] == nil && errs[i+1] == nil {
			t.Errorf("two advanced to %d", 100+i/2)
		}
	}
	state, err := h.Store.State(t.Context())
	ok(t, err)
	if state.Watermarks[0] != 119 {
		t.Errorf("watermark %d, want the largest, 119", state.Watermarks[0])
	}
}

func testSaveScan(t *testing.T, h Harness) {
	state, err := h.Store.State(t.Context())
	ok(t, err)
	if !reflect.DeepEqual(state.Scan, waiting.Scan{}) {
		t.Fatalf("before the first scan: %+v", state.Scan)
	}
	first := waiting.Scan{Token: "a", Began: at, After: waiting.Cursor{Bucket: "b", Key: "k"}, Oldest: map[int]waiting.Hour{0: 7, 3: 490_000}}
	second := waiting.Scan{Token: "b", Began: at.Add(time.Hour), Done: true}
	for _, step := range []struct {
		was     string
		scan    waiting.Scan
		refused bool
	}{{"x", first, true}, {"", first, false}, {"", second, true}, {"x", second, true}, {"a", second, false}, {"a", first, true}, {"b", first, false}} {
		if err := h.Store.SaveScan(t.Context(), step.was, step.scan); errors.Is(err, waiting.ErrRefused) != step.refused || !step.refused && err != nil {
			t.Fatalf("%+v: %v", step, err)
		}
		if step.refused {
			continue
		}
		state, err := h.Store.State(t.Context())
		ok(t, err)
		got := state.Scan
		if !got.Began.Equal(step.scan.Began) || !maps.Equal(got.Oldest, step.scan.Oldest) ||
			got.Token != step.scan.Token || got.After != step.scan.After || got.Done != step.scan.Done {
			t.Fatalf("scan %+v, want %+v", got, step.scan)
		}
	}
}

func testBuckets(t *testing.T, h Harness) {
	want := map[string]bool{}
	var rows []waiting.Row
	for i := range 5 {
		name := fmt.Sprintf("bucket-%d", i)
		want[name] = true
		for k := range 6 {
			r := row(name, strconv.Itoa(k), "t")
			r.Body = bytes.Repeat([]byte("x"), 150_000) // several pages of a database that reads a megabyte at a time
			rows = append(rows, r)
		}
	}
	ok(t, h.Store.Put(t.Context(), rows)...)
	ok(t, h.Store.Advance(t.Context(), 1, 1))
	got := map[string]bool{}
	for after, pages := (waiting.Cursor{}), 0; pages == 0 || after != (waiting.Cursor{}); pages++ {
		var names []string
		var err error
		names, after, err = h.Store.Buckets(t.Context(), after)
		ok(t, err)
		for _, name := range names {
			if waiting.ParseBucket(name).Kind != waiting.Progress {
				got[name] = true
			}
		}
		if pages > 100 {
			t.Fatal("the scan does not end")
		}
	}
	if !maps.Equal(got, want) {
		t.Fatalf("scan found %v", slices.Sorted(maps.Keys(got)))
	}
}

func testList(t *testing.T, h Harness) {
	lister, can := h.Store.(waiting.Lister)
	if !can {
		t.Skip("this store lists nothing")
	}
	var want, rows []waiting.Row
	for i := range 9 {
		for _, bucket := range []string{"2026-11-03T04#3", "parked#orders-crm#1", "later#1"} {
			r := row(bucket, strconv.Itoa(i), "t")
			r.Body = bytes.Repeat([]byte("x"), 100_000) // several pages of a database that reads a megabyte at a time
			want = append(want, r)
		}
		rows = append(rows, waiting.MarkRow(fmt.Sprint("destination-", i), "t", at))
	}
	ok(t, h.Store.Put(t.Context(), append(rows, want...))...)
	ok(t, h.Store.Advance(t.Context(), 1, 1), h.Store.SaveScan(t.Context(), "", waiting.Scan{Token: "a"}))
	var got []waiting.Row
	for after, pages := (waiting.Cursor{}), 0; pages == 0 || after != (waiting.Cursor{}); pages++ {
		var page []waiting.Row
		var err error
		page, after, err = lister.Rows(t.Context(), after)
		ok(t, err)
		got = append(got, page...)
		if pages > 100 {
			t.Fatal("the list does not end")
		}
	}
	order := func(a, b waiting.Row) int { return strings.Compare(a.Bucket+a.Key, b.Bucket+b.Key) }
	slices.SortFunc(want, order)
	slices.SortFunc(got, order)
	check(t, "listed", got, want...)
}

func testEmpty(t *testing.T, h Harness) {
	if errs := h.Store.Put(t.Context(), nil); len(errs) != 0 {
		t.Errorf("put of nothing: %v", errs)
	}
	if errs := h.Store.Delete(t.Context(), nil); len(errs) != 0 {
		t.Errorf("delete of nothing: %v", errs)
	}
	if page, err := h.Store.Read(t.Context(), "nowhere", "", "", 10); err != nil || len(page.Rows) != 0 || page.Next != "" {
		t.Errorf("read of nothing: %+v, %v", page, err)
	}
	if names, next, err := h.Store.Buckets(t.Context(), waiting.Cursor{}); err != nil || len(names) != 0 || next != (waiting.Cursor{}) {
		t.Errorf("scan of nothing: %v %v, %v", names, next, err)
	}
	if state, err := h.Store.State(t.Context()); err != nil || len(state.Watermarks) != 0 {
		t.Errorf("state of nothing: %+v, %v", state, err)
	}
}

// testFaults makes every call go wrong in every way, then repeats it: nothing may be reported that is not so.
func testFaults(t *testing.T, h Harness) {
	if h.Inject == nil {
		t.Skip("this store has no faults to inject")
	}
	for _, kind := range []FaultKind{Throttled, Broken, AnswerLost} {
		want := map[FaultKind]error{Throttled: waiting.ErrThrottled, Broken: waiting.ErrUnknown, AnswerLost: waiting.ErrUnknown}[kind]
		bucket := strings.ReplaceAll(string(kind), " ", "-")
		var rows []waiting.Row
		var refs []waiting.Ref
		for i := range 30 { // two calls of a driver that writes 25 at a time
			rows = append(rows, row(bucket, fmt.Sprintf("%02d", i), "t"))
			refs = append(refs, rows[i].Ref())
		}
		all := func(name string, errs []error) {
			t.Helper()
			for i, err := range errs {
				if !errors.Is(err, want) {
					t.Fatalf("%s %s, entry %d: %v, want %v", kind, name, i, err, want)
				}
			}
		}
		faulty := func(call func()) { heal := h.Inject(kind); call(); heal() }
		stored := func() int {
			return len(slices.DeleteFunc(h.Rows(), func(r waiting.Row) bool { return r.Bucket != bucket }))
		}

		faulty(func() { all("put", h.Store.Put(t.Context(), rows)) })
		if n := stored(); n != map[bool]int{true: 30}[kind == AnswerLost] {
			t.Fatalf("%s: %d rows are there after the put", kind, n)
		}
		ok(t, h.Store.Put(t.Context(), rows)...)
		faulty(func() { all("delete", h.Store.Delete(t.Context(), refs)) })
		if n := stored(); n != map[bool]int{false: 30}[kind == AnswerLost] {
			t.Fatalf("%s: %d rows are there after the delete", kind, n)
		}
		ok(t, h.Store.Delete(t.Context(), refs)...)
		faulty(func() {
			_, err := h.Store.Read(t.Context(), bucket, "", "", 10)
			all("read", []error{err})
			_, err = h.Store.State(t.Context())
			all("state", []error{err})
			_, _, err = h.Store.Buckets(t.Context(), waiting.Cursor{})
			all("buckets", []error{err})
			if lister, can := h.Store.(waiting.Lister); can {
				_, _, err = lister.Rows(t.Context(), waiting.Cursor{})
				all("rows", []error{err})
			}
			all("advance", []error{h.Store.Advance(t.Context(), 0, 1)})
			all("save scan", []error{h.Store.SaveScan(t.Context(), "", waiting.Scan{Token: "a"})})
		})
	}
}
