package ledgertest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
)

// testClaimTable has the rows of the claim table one by one, in words; the exhaustive comparison has all their combinations.
func testClaimTable(t *testing.T, h Harness) {
	over, live := start.Add(-time.Second), start.Add(time.Second)
	for n, test := range []struct {
		name    string
		item    *ledger.Item
		claim   ledger.Claim
		verdict ledger.Verdict
	}{
		{"nothing there", nil, claimOf("", 0, 1, me, start), ledger.Granted},
		{"nothing there, later attempt", nil, claimOf("", 0, 4, me, start), ledger.Granted},
		{"nothing there, later epoch", nil, claimOf("", 2, 1, me, start), ledger.Granted},
		{"delivered, same message again", at(ledger.Delivered, 0, 1, other, over), claimOf("", 0, 1, me, start), ledger.Duplicate},
		{"delivered, an attempt that came too late", at(ledger.Delivered, 0, 1, other, over), claimOf("", 0, 2, me, start), ledger.Duplicate},
		{"delivered, redrive", at(ledger.Delivered, 0, 3, other, over), claimOf("", 1, 1, me, start), ledger.Duplicate},
		{"delivered, replay", at(ledger.Delivered, 0, 3, other, over), replayOf("", 1, 1, me, start), ledger.Granted},
		{"delivered, the same replay again", at(ledger.Delivered, 1, 1, other, over), replayOf("", 1, 1, me, start), ledger.Duplicate},
		{"dead, its last message again", at(ledger.Dead, 0, 3, other, over), claimOf("", 0, 3, me, start), ledger.Stale},
		{"dead, a later attempt of the same epoch", at(ledger.Dead, 0, 3, other, over), claimOf("", 0, 4, me, start), ledger.Stale},
		{"dead, redrive", at(ledger.Dead, 0, 3, other, over), claimOf("", 1, 1, me, start), ledger.Granted},
		{"waiting, same attempt again", at(ledger.Waiting, 0, 2, other, over), claimOf("", 0, 2, me, start), ledger.Stale},
		{"waiting, same attempt and owner", at(ledger.Waiting, 0, 2, me, over), claimOf("", 0, 2, me, start), ledger.Stale},
		{"waiting, its successor", at(ledger.Waiting, 0, 2, other, over), claimOf("", 0, 3, me, start), ledger.Granted},
		{"claimed, an earlier attempt", at(ledger.Claimed, 0, 3, other, over), claimOf("", 0, 2, me, start), ledger.Stale},
		{"claimed, an earlier epoch", at(ledger.Claimed, 1, 1, other, over), claimOf("", 0, 7, me, start), ledger.Stale},
		{"claimed with a live lease, its successor", at(ledger.Claimed, 0, 1, other, live), claimOf("", 0, 2, me, start), ledger.Busy},
		{"claimed with a live lease, a redrive", at(ledger.Claimed, 0, 5, other, live), claimOf("", 1, 1, me, start), ledger.Busy},
		{"claimed, lease over, its successor", at(ledger.Claimed, 0, 1, other, over), claimOf("", 0, 2, me, start), ledger.Granted},
		{"claimed, lease over, a redrive", at(ledger.Claimed, 0, 5, other, over), claimOf("", 1, 1, me, start), ledger.Granted},
		{"my own claim, its answer lost", at(ledger.Claimed, 0, 1, me, live), claimOf("", 0, 1, me, start), ledger.Granted},
		{"another's claim, lease over", at(ledger.Claimed, 0, 1, other, over), claimOf("", 0, 1, me, start), ledger.Granted},
		{"another's claim, released", at(ledger.Claimed, 0, 2, other, time.Time{}), claimOf("", 0, 2, me, start), ledger.Granted},
		{"another's claim, lease live", at(ledger.Claimed, 0, 1, other, live), claimOf("", 0, 1, me, start), ledger.Busy},
		{"another's later claim, lease live", at(ledger.Claimed, 2, 3, other, live), claimOf("", 2, 3, me, start), ledger.Busy},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := test.claim
			c.Delivery = id(n)
			if test.item != nil {
				test.item.Delivery = c.Delivery
				h.Put(t, *test.item)
			}
			a := claimOne(t, h, c)
			if a.Verdict != test.verdict {
				t.Fatalf("verdict %s, want %s", a.Verdict, test.verdict)
			}
			if a.Verdict == ledger.Granted {
				after := afterClaim(test.item, c)
				wantRow(t, h, c.Delivery, &after)
				return
			}
			wantRow(t, h, c.Delivery, test.item)
			if a.Item == nil {
				t.Fatal("the answer lacks the waybill that decided it")
			}
			if diff := difference(*a.Item, *test.item); diff != "" {
				t.Errorf("the answer's waybill:\n%s", diff)
			}
		})
	}
}

func at(state ledger.State, epoch, attempt int, owner string, leaseUntil time.Time) *ledger.Item {
	item := itemOf("", state, epoch, attempt, owner, leaseUntil)
	return &item
}

func testLeaseBoundary(t *testing.T, h Harness) {
	for n, test := range []struct {
		now     time.Duration // after the lease's end
		verdict ledger.Verdict
	}{
		{-time.Millisecond, ledger.Busy}, {-time.Nanosecond, ledger.Busy},
		{0, ledger.Granted}, {time.Nanosecond, ledger.Granted}, {time.Millisecond, ledger.Granted},
	} {
		c := claimOf(id(n), 0, 1, other, start)
		grant(t, h, c)
		if a := claimOne(t, h, claimOf(id(n), 0, 1, me, c.LeaseUntil.Add(test.now))); a.Verdict != test.verdict {
			t.Errorf("%v after the end of the lease: %s, want %s", test.now, a.Verdict, test.verdict)
		}
	}
}

func testRelease(t *testing.T, h Harness) {
	release := func(r ledger.Release) error { return h.Store.Release(t.Context(), []ledger.Release{r})[0] }
	c := claimOf(id(1), 1, 2, me, start)
	grant(t, h, c)
	for name, r := range map[string]ledger.Release{
		"another owner":   releaseOf(id(1), 1, 2, other),
		"another attempt": releaseOf(id(1), 1, 1, me),
		"another epoch":   releaseOf(id(1), 0, 2, me),
		"no such row":     releaseOf(id(2), 1, 2, me),
	} {
		if err := release(r); !errors.Is(err, ledger.ErrRefused) {
			t.Errorf("release by %s: %v, want it refused", name, err)
		}
	}
	claimed := afterClaim(nil, c)
	wantRow(t, h, id(1), &claimed)
	wantRow(t, h, id(2), nil)

	for range 2 { // the second stands for a release whose answer was lost
		if err := release(releaseOf(id(1), 1, 2, me)); err != nil {
			t.Fatal(err)
		}
	}
	released := afterRelease(claimed, releaseOf(id(1), 1, 2, me))
	wantRow(t, h, id(1), &released)
	grant(t, h, claimOf(id(1), 1, 2, other, start)) // at once, by anyone
	if err := release(releaseOf(id(1), 1, 2, me)); !errors.Is(err, ledger.ErrRefused) {
		t.Errorf("release after a take-over: %v, want it refused", err)
	}
	if err := settleOne(t, h, settlementOf(id(1), 1, 2, other, ledger.Waiting)); err != nil {
		t.Fatal(err)
	}
	if err := release(releaseOf(id(1), 1, 2, other)); !errors.Is(err, ledger.ErrRefused) {
		t.Errorf("release after the settle: %v, want it refused", err)
	}
}

func settleOne(t *testing.T, h Harness, s ledger.Settlement) error {
	t.Helper()
	errs := h.Store.Settle(t.Context(), []ledger.Settlement{s})
	if len(errs) != 1 {
		t.Fatalf("%d answers to one settlement", len(errs))
	}
	return errs[0]
}

func testSettle(t *testing.T, h Harness) {
	for n, state := range []ledger.State{ledger.Waiting, ledger.Delivered, ledger.Dead} {
		t.Run(string(state), func(t *testing.T) {
			c := claimOf(id(n), 0, 2, me, start)
			grant(t, h, c)
			s := settlementOf(id(n), 0, 2, me, state)
			after := afterSettle(afterClaim(nil, c), s)
			for range 2 { // the second stands for a settle whose answer was lost
				if err := settleOne(t, h, s); err != nil {
					t.Fatal(err)
				}
				wantRow(t, h, id(n), &after)
			}
		})
	}
	if err := settleOne(t, h, settlementOf(id(9), 0, 1, me, ledger.Delivered)); !errors.Is(err, ledger.ErrRefused) {
		t.Errorf("settle of what nobody claimed: %v, want it refused", err)
	}
	wantRow(t, h, id(9), nil)
}

// testFencing lets a worker outlive its lease: whatever it does then must not touch the new owner's row.
func testFencing(t *testing.T, h Harness) {
	first := claimOf(id(1), 0, 1, other, start)
	grant(t, h, first)
	second := claimOf(id(1), 0, 1, me, first.LeaseUntil)
	grant(t, h, second)
	want := afterClaim(nil, second)

	if err := settleOne(t, h, settlementOf(id(1), 0, 1, other, ledger.Delivered)); !errors.Is(err, ledger.ErrRefused) {
		t.Errorf("settle by the old owner: %v, want it refused", err)
	}
	if err := h.Store.Release(t.Context(), []ledger.Release{releaseOf(id(1), 0, 1, other)})[0]; !errors.Is(err, ledger.ErrRefused) {
		t.Errorf("release by the old owner: %v, want it refused", err)
	}
	if a := claimOne(t, h, claimOf(id(1), 0, 1, other, first.LeaseUntil)); a.Verdict != ledger.Busy {
		t.Errorf("claim by the old owner: %s, want %s", a.Verdict, ledger.Busy)
	}
	wantRow(t, h, id(1), &want)

	if err := settleOne(t, h, settlementOf(id(1), 0, 1, me, ledger.Waiting)); err != nil {
		t.Fatal(err)
	}
	third := claimOf(id(1), 0, 2, "owner-third", second.LeaseUntil)
	grant(t, h, third)
	if err := settleOne(t, h, settlementOf(id(1), 0, 1, me, ledger.Waiting)); !errors.Is(err, ledger.ErrRefused) {
		t.Errorf("settle of attempt 1 when attempt 2 is claimed: %v, want it refused", err)
	}
}

func testRecord(t *testing.T, h Harness) {
	record := func(s ledger.Settlement) error { return h.Store.Record(t.Context(), []ledger.Settlement{s})[0] }
	replay := settlementOf("", 1, 1, me, ledger.Delivered)
	replay.Replay = true
	for n, test := range []struct {
		name    string
		item    *ledger.Item
		record  ledger.Settlement
		refused bool
	}{
		{"nothing there", nil, settlementOf("", 0, 1, me, ledger.Delivered), false},
		{"nothing there, later attempt", nil, settlementOf("", 0, 3, me, ledger.Waiting), false},
		{"recorded by me", at(ledger.Delivered, 0, 1, me, start), settlementOf("", 0, 1, me, ledger.Delivered), false},
		{"another relaxed worker failed where I delivered", at(ledger.Waiting, 0, 1, other, start), settlementOf("", 0, 1, me, ledger.Delivered), false},
		{"another relaxed worker delivered where I failed", at(ledger.Delivered, 0, 1, other, start), settlementOf("", 0, 1, me, ledger.Waiting), true},
		{"a later attempt is claimed", at(ledger.Claimed, 0, 2, other, start), settlementOf("", 0, 1, me, ledger.Delivered), true},
		{"the same attempt is claimed", at(ledger.Claimed, 0, 1, other, start), settlementOf("", 0, 1, me, ledger.Delivered), true},
		{"an earlier attempt is waiting", at(ledger.Waiting, 0, 1, other, start), settlementOf("", 0, 2, me, ledger.Delivered), false},
		{"dead in the same epoch", at(ledger.Dead, 0, 1, other, start), settlementOf("", 0, 2, me, ledger.Delivered), true},
		{"dead in an earlier epoch", at(ledger.Dead, 0, 4, other, start), settlementOf("", 1, 1, me, ledger.Delivered), false},
		{"delivered in an earlier epoch", at(ledger.Delivered, 0, 1, other, start), settlementOf("", 1, 1, me, ledger.Delivered), true},
		{"delivered in an earlier epoch, replay", at(ledger.Delivered, 0, 1, other, start), replay, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.record
			s.Delivery = id(n)
			if test.item != nil {
				test.item.Delivery = s.Delivery
				h.Put(t, *test.item)
			}
			err := record(s)
			if test.refused {
				if !errors.Is(err, ledger.ErrRefused) {
					t.Errorf("got %v, want it refused", err)
				}
				wantRow(t, h, s.Delivery, test.item)
				return
			}
			after := afterRecord(s)
			for range 2 { // the second stands for a record whose answer was lost
				if err != nil {
					t.Fatal(err)
				}
				wantRow(t, h, s.Delivery, &after)
				err = record(s)
			}
		})
	}
}

// testReasons: a reason may be cut, but never so that the row becomes unreadable or the cause unrecognisable.
func testReasons(t *testing.T, h Harness) {
	for n, reason := range []string{"", "plain", strings.Repeat("x", 5000), "a" + strings.Repeat("é", 5000), "bad \xff\xfe bytes", "tab\tquote\"backslash\\nul\x00"} {
		grant(t, h, claimOf(id(n), 0, 1, me, start))
		s := settlementOf(id(n), 0, 1, me, ledger.Waiting)
		s.Reason = reason
		if err := settleOne(t, h, s); err != nil {
			t.Fatalf("reason %.20q: %v", reason, err)
		}
		got := h.Store.Read(t.Context(), []delivery.ID{id(n)})[0]
		if got.Err != nil || got.Item == nil {
			t.Fatalf("reason %.20q: reading gave %v, %v", reason, got.Item, got.Err)
		}
		stored := got.Item.Reason
		switch {
		case utf8.ValidString(reason) && !strings.HasPrefix(reason, stored):
			t.Errorf("reason %.20q became %.20q", reason, stored)
		case len(stored) < min(len(reason), 100):
			t.Errorf("reason of %d bytes was cut to %d", len(reason), len(stored))
		case utf8.ValidString(reason) && !utf8.ValidString(stored):
			t.Errorf("reason %.20q was cut inside a character", reason)
		}
	}
}

func testRead(t *testing.T, h Harness) {
	const n = 230
	var ids []delivery.ID
	var items []ledger.Item
	for i := range n {
		ids = append(ids, id(i))
		if i%3 != 0 {
			items = append(items, itemOf(id(i), ledger.Waiting, i%2, i+1, other, start))
		}
	}
	h.Put(t, items...)
	rows := h.Rows(t)
	for _, count := range []int{0, 1, 2, 99, 100, 101, n} {
		readings := h.Store.Read(t.Context(), ids[:count])
		if len(readings) != count {
			t.Fatalf("%d readings for %d ids", len(readings), count)
		}
		for i, r := range readings {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			want, exists := rows[ids[i]]
			switch {
			case exists != (r.Item != nil):
				t.Errorf("reading %d of %d: got %v, exists is %v", i, count, r.Item, exists)
			case exists:
				if diff := difference(*r.Item, want); diff != "" {
					t.Errorf("reading %d of %d:\n%s", i, count, diff)
				}
			}
		}
	}
	// A claim is seen by the next read.
	c := claimOf(id(n), 0, 1, me, start)
	grant(t, h, c)
	if r := h.Store.Read(t.Context(), []delivery.ID{c.Delivery})[0]; r.Item == nil || r.Item.Owner != me || !r.Item.LeaseUntil.Equal(c.LeaseUntil) {
		t.Errorf("after the claim: %+v, %v", r.Item, r.Err)
	}
}

func testMany(t *testing.T, h Harness) {
	for _, n := range []int{0, 1, 10, 25, 26, 60, 110} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			claims := make([]ledger.Claim, n)
			settlements := make([]ledger.Settlement, n)
			releases := make([]ledger.Release, n)
			for i := range n {
				d := delivery.NewID("acme", fmt.Sprint("many ", n), strconv.Itoa(i), "orders-crm")
				owner := fmt.Sprint(me, i)
				claims[i] = claimOf(d, 0, 1, owner, start)
				releases[i] = releaseOf(d, 0, 1, owner)
				settlements[i] = settlementOf(d, 0, 1, owner, ledger.Delivered)
				settlements[i].Code = 200 + i
			}
			answers := h.Store.Claim(t.Context(), claims)
			released := h.Store.Release(t.Context(), releases)
			settled := h.Store.Settle(t.Context(), settlements)
			again := h.Store.Claim(t.Context(), claims)
			if len(answers) != n || len(released) != n || len(settled) != n || len(again) != n {
				t.Fatalf("%d, %d, %d, %d answers to %d entries", len(answers), len(released), len(settled), len(again), n)
			}
			rows := h.Rows(t)
			for i := range n {
				if answers[i].Verdict != ledger.Granted || released[i] != nil || settled[i] != nil || again[i].Verdict != ledger.Duplicate {
					t.Fatalf("entry %d: claim %v, release %v, settle %v, claim again %v", i, answers[i], released[i], settled[i], again[i])
				}
				want := afterSettle(afterRelease(afterClaim(nil, claims[i]), releases[i]), settlements[i])
				if diff := rowDifference(rows, claims[i].Delivery, &want); diff != "" {
					t.Fatalf("entry %d:\n%s", i, diff)
				}
			}
		})
	}
}

// testMixed has every kind of answer in one call, in an order in which a mistake with indexes shows.
func testMixed(t *testing.T, h Harness) {
	live := start.Add(time.Second)
	kinds := []struct {
		item    *ledger.Item
		epoch   int
		attempt int
		verdict ledger.Verdict
	}{
		{at(ledger.Delivered, 0, 1, other, live), 0, 1, ledger.Duplicate},
		{nil, 0, 1, ledger.Granted},
		{at(ledger.Claimed, 0, 1, other, live), 0, 1, ledger.Busy},
		{at(ledger.Waiting, 0, 1, other, live), 0, 2, ledger.Granted},
		{nil, 1, 1, ledger.Granted},
		{at(ledger.Waiting, 0, 1, other, live), 0, 1, ledger.Stale},
		{at(ledger.Claimed, 0, 1, other, start), 0, 1, ledger.Granted},
		{at(ledger.Claimed, 0, 3, other, live), 0, 3, ledger.Busy},
		{at(ledger.Dead, 0, 3, other, live), 0, 3, ledger.Stale},
	}
	const n = 64
	claims := make([]ledger.Claim, n)
	settlements := make([]ledger.Settlement, n)
	for i := range n {
		k := kinds[(i*i+i)%len(kinds)]
		claims[i] = claimOf(id(i), k.epoch, k.attempt, me, start)
		settlements[i] = settlementOf(id(i), k.epoch, k.attempt, me, ledger.Delivered)
		if k.item != nil {
			item := *k.item
			item.Delivery = id(i)
			h.Put(t, item)
		}
	}
	for i, a := range h.Store.Claim(t.Context(), claims) {
		want := kinds[(i*i+i)%len(kinds)].verdict
		if a.Err != nil || a.Verdict != want {
			t.Errorf("entry %d: %s, %v, want %s", i, a.Verdict, a.Err, want)
		}
		if a.Item != nil && a.Item.Delivery != id(i) {
			t.Errorf("entry %d: answered with the waybill of another", i)
		}
	}
	for i, err := range h.Store.Settle(t.Context(), settlements) {
		granted := kinds[(i*i+i)%len(kinds)].verdict == ledger.Granted
		if granted != (err == nil) || !granted && !errors.Is(err, ledger.ErrRefused) {
			t.Errorf("entry %d: settle gave %v, granted was %v", i, err, granted)
		}
	}
}

// testNamedTwice: the interface excludes it, but a mistake of a caller must not cost more than an answer.
func testNamedTwice(t *testing.T, h Harness) {
	claims := []ledger.Claim{
		claimOf(id(1), 0, 1, me, start), claimOf(id(2), 0, 1, me, start), claimOf(id(1), 0, 1, other, start), claimOf(id(1), 0, 1, "third", start),
	}
	granted := map[delivery.ID]string{}
	for i, a := range h.Store.Claim(t.Context(), claims) {
		if a.Err != nil {
			t.Fatalf("entry %d: %v", i, a.Err)
		}
		switch a.Verdict {
		case ledger.Granted:
			if other, ok := granted[claims[i].Delivery]; ok {
				t.Fatalf("granted to %s and to %s", other, claims[i].Owner)
			}
			granted[claims[i].Delivery] = claims[i].Owner
		case ledger.Busy:
		default:
			t.Errorf("entry %d: %s", i, a.Verdict)
		}
	}
	if len(granted) != 2 {
		t.Fatalf("granted: %v, want both deliveries", granted)
	}
	s := settlementOf(id(1), 0, 1, granted[id(1)], ledger.Delivered)
	for i, err := range h.Store.Settle(t.Context(), []ledger.Settlement{s, s}) {
		if err != nil {
			t.Errorf("settle %d: %v", i, err)
		}
	}
	for i, r := range h.Store.Read(t.Context(), []delivery.ID{id(1), id(3), id(1)}) {
		if r.Err != nil || (r.Item != nil) != (i != 1) {
			t.Errorf("reading %d: %v, %v", i, r.Item, r.Err)
		}
	}
}

func testConcurrentClaims(t *testing.T, h Harness) {
	for n, c := range []ledger.Claim{
		claimOf(id(0), 0, 1, "", start), // over nothing
		claimOf(id(1), 0, 3, "", start), // over a row
		claimOf(id(2), 0, 1, "", start), // over a lease that is over
	} {
		switch n {
		case 1:
			h.Put(t, itemOf(c.Delivery, ledger.Waiting, 0, 2, other, start))
		case 2:
			h.Put(t, itemOf(c.Delivery, ledger.Claimed, 0, 1, other, start))
		}
		const workers = 50
		answers := make([]ledger.Answer, workers)
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				own := c
				own.Owner = fmt.Sprint("worker-", w)
				answers[w] = h.Store.Claim(t.Context(), []ledger.Claim{own})[0]
			})
		}
		wg.Wait()
		winner := ""
		for w, a := range answers {
			switch {
			case a.Err != nil:
				t.Fatalf("worker %d: %v", w, a.Err)
			case a.Verdict == ledger.Granted && winner == "":
				winner = fmt.Sprint("worker-", w)
			case a.Verdict != ledger.Busy:
				t.Fatalf("case %d, worker %d: %s although %q won", n, w, a.Verdict, winner)
			}
		}
		if row := h.Rows(t)[c.Delivery]; winner == "" || row.Owner != winner {
			t.Errorf("case %d: %q won, the ledger says %q", n, winner, row.Owner)
		}
	}
}
