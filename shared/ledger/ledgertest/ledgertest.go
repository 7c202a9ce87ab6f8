// Package ledgertest is the conformance suite of ledger.Store: what a driver must do so that the ledger protocol holds over it,
// and a store in memory that passes it, for the tests of those who use a ledger.
package ledgertest

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
)

// Harness is an empty ledger and a second way into it, so that a store is never judged by its own word.
type Harness struct {
	Store ledger.Store
	// Put writes waybills behind the store's back, whatever is there.
	Put func(t testing.TB, items ...ledger.Item)
	// Rows reads all waybills behind the store's back.
	Rows func(t testing.TB) map[delivery.ID]ledger.Item
	// Inject makes the store's writes go wrong until heal is called. Nil: the tests of faults are skipped.
	Inject func(f Fault) (heal func())
	// Domain of the exhaustive comparison. Default: 3 epochs and 3 attempts.
	Domain Domain
}

// Fault is one way in which writing goes wrong.
type Fault struct {
	Kind FaultKind
	// Delivery restricts the fault to one entry. Empty: all calls to the database go wrong as a whole.
	Delivery delivery.ID
}

// FaultKind says how a write goes wrong.
type FaultKind string

// The kinds of faults.
const (
	Throttled  FaultKind = "throttled"   // not written, and the answer says so
	Broken     FaultKind = "broken"      // not written, and the answer is an internal error
	AnswerLost FaultKind = "answer lost" // written, and the answer says nothing or an internal error
)

// Run puts the store that open gives through the suite. open is called once for every test and must give an empty ledger each time.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"claim table", testClaimTable},
		{"lease ends at its millisecond", testLeaseBoundary},
		{"release", testRelease},
		{"settle", testSettle},
		{"an old owner is fenced off", testFencing},
		{"record", testRecord},
		{"long and odd reasons", testReasons},
		{"read", testRead},
		{"many entries", testMany},
		{"mixed verdicts in one call", testMixed},
		{"one delivery named twice", testNamedTwice},
		{"one of fifty wins", testConcurrentClaims},
		{"faults", testFaults},
		{"exhaustive", testExhaustive},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// start is the present of the suite: in the middle of a second, to catch rounding.
var start = time.Date(2026, time.November, 3, 4, 5, 6, 789_000_000, time.UTC)

const (
	lease = 40 * time.Second
	ttl   = 60 * 24 * time.Hour
	// Others sort after me and before me, so that an order is not mistaken for equality.
	me      = "owner-me"
	other   = "owner-other"
	another = "owner-another"
)

func id(n int) delivery.ID {
	return delivery.NewID("acme", "/ledgertest", strconv.Itoa(n), "orders-crm")
}

func claimOf(d delivery.ID, epoch, attempt int, owner string, now time.Time) ledger.Claim {
	return ledger.Claim{Delivery: d, Epoch: epoch, Attempt: attempt, Owner: owner, Now: now, LeaseUntil: now.Add(lease), ExpiresAt: now.Add(ttl)}
}

func replayOf(d delivery.ID, epoch, attempt int, owner string, now time.Time) ledger.Claim {
	c := claimOf(d, epoch, attempt, owner, now)
	c.Replay = true
	return c
}

func settlementOf(d delivery.ID, epoch, attempt int, owner string, state ledger.State) ledger.Settlement {
	return ledger.Settlement{
		Delivery: d, Epoch: epoch, Attempt: attempt, Owner: owner, State: state, Code: 429, Reason: "too many requests",
		Now: start.Add(3 * time.Second), ExpiresAt: start.Add(3*time.Second + ttl),
	}
}

func releaseOf(d delivery.ID, epoch, attempt int, owner string) ledger.Release {
	return ledger.Release{Delivery: d, Epoch: epoch, Attempt: attempt, Owner: owner, Now: start.Add(time.Second)}
}

// itemOf is a waybill that someone wrote earlier, with news in it that a claim must keep.
func itemOf(d delivery.ID, state ledger.State, epoch, attempt int, owner string, leaseUntil time.Time) ledger.Item {
	return ledger.Item{
		Delivery: d, State: state, Epoch: epoch, Attempt: attempt, Owner: owner, LeaseUntil: leaseUntil,
		Code: 503, Reason: "unavailable", UpdatedAt: start.Add(-time.Minute), ExpiresAt: start.Add(ttl - time.Minute).Truncate(time.Second),
	}
}

// difference describes how two waybills differ; empty if they do not.
func difference(got, want ledger.Item) string {
	if got.LeaseUntil.Equal(want.LeaseUntil) && got.UpdatedAt.Equal(want.UpdatedAt) && got.ExpiresAt.Equal(want.ExpiresAt) {
		got.LeaseUntil, got.UpdatedAt, got.ExpiresAt = want.LeaseUntil, want.UpdatedAt, want.ExpiresAt
		if got == want {
			return ""
		}
	}
	return fmt.Sprintf("got  %+v\nwant %+v", got, want)
}

// rowDifference compares what the ledger holds for a delivery with what it should; nil: nothing.
func rowDifference(rows map[delivery.ID]ledger.Item, d delivery.ID, want *ledger.Item) string {
	got, ok := rows[d]
	switch {
	case !ok && want == nil:
		return ""
	case !ok:
		return fmt.Sprintf("got  no row\nwant %+v", *want)
	case want == nil:
		return fmt.Sprintf("got  %+v\nwant no row", got)
	}
	return difference(got, *want)
}

func wantRow(t *testing.T, h Harness, d delivery.ID, want *ledger.Item) {
	t.Helper()
	if diff := rowDifference(h.Rows(t), d, want); diff != "" {
		t.Errorf("ledger holds for %s:\n%s", d, diff)
	}
}

// claimOne makes one claim that must be answered without an error.
func claimOne(t *testing.T, h Harness, c ledger.Claim) ledger.Answer {
	t.Helper()
	answers := h.Store.Claim(t.Context(), []ledger.Claim{c})
	if len(answers) != 1 {
		t.Fatalf("%d answers to one claim", len(answers))
	}
	if answers[0].Err != nil {
		t.Fatalf("claim (%d, %d) by %s: %v", c.Epoch, c.Attempt, c.Owner, answers[0].Err)
	}
	return answers[0]
}

func grant(t *testing.T, h Harness, c ledger.Claim) {
	t.Helper()
	if a := claimOne(t, h, c); a.Verdict != ledger.Granted {
		t.Fatalf("claim (%d, %d) by %s is %s, want %s", c.Epoch, c.Attempt, c.Owner, a.Verdict, ledger.Granted)
	}
}
