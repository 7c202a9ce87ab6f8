package ledgertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
)

// Domain bounds an exhaustive comparison: epochs 0 … Epochs-1, attempts 1 … Attempts. Two of each tell every clause of the
// protocol apart; three leave room for mistakes of arithmetic.
type Domain struct{ Epochs, Attempts int }

func testExhaustive(t *testing.T, h Harness) {
	if err := Compare(t, h, cmp.Or(h.Domain, Domain{Epochs: 3, Attempts: 3})); err != nil {
		t.Fatal(err)
	}
}

// Compare writes every kind of claim, settlement, release and record over every kind of waybill in the domain, with every owner, lease and
// state, and gives the first answer or row that is not what package ledger decides.
func Compare(t testing.TB, h Harness, d Domain) error {
	return errors.Join(CompareClaims(t, h, d), CompareSettles(t, h, d), CompareReleases(t, h, d), CompareRecords(t, h, d))
}

// CompareClaims is the part of Compare about claims.
func CompareClaims(t testing.TB, h Harness, d Domain) error {
	return compare(t, h, d, "claim", true, h.Store.Claim,
		func(id delivery.ID, epoch, attempt int, replay bool) ledger.Claim {
			c := claimOf(id, epoch, attempt, me, start)
			c.Replay = replay
			return c
		},
		func(old *ledger.Item, c ledger.Claim, a ledger.Answer) (*ledger.Item, error) {
			verdict := ledger.Decide(old, c)
			if a.Err != nil {
				return nil, fmt.Errorf("got error %w, want %q", a.Err, verdict)
			}
			if a.Verdict != verdict {
				return nil, fmt.Errorf("got %q, want %q", a.Verdict, verdict)
			}
			if verdict != ledger.Granted {
				if a.Item == nil {
					return nil, errors.New("the answer lacks the waybill that decided it")
				}
				if diff := difference(*a.Item, *old); diff != "" {
					return nil, fmt.Errorf("the answer's waybill:\n%s", diff)
				}
				return old, nil
			}
			after := afterClaim(old, c)
			return &after, nil
		})
}

// CompareSettles is the part of Compare about settlements.
func CompareSettles(t testing.TB, h Harness, d Domain) error {
	return compare(t, h, d, "settle", false, h.Store.Settle,
		func(id delivery.ID, epoch, attempt int, _ bool) ledger.Settlement {
			return settlementOf(id, epoch, attempt, me, ledger.Waiting)
		},
		func(old *ledger.Item, s ledger.Settlement, err error) (*ledger.Item, error) {
			if !ledger.SettleAllowed(old, s) {
				return old, wantRefused(err)
			}
			after := afterSettle(*old, s)
			return &after, err
		})
}

// CompareReleases is the part of Compare about releases.
func CompareReleases(t testing.TB, h Harness, d Domain) error {
	return compare(t, h, d, "release", false, h.Store.Release,
		func(id delivery.ID, epoch, attempt int, _ bool) ledger.Release {
			return releaseOf(id, epoch, attempt, me)
		},
		func(old *ledger.Item, r ledger.Release, err error) (*ledger.Item, error) {
			if !ledger.ReleaseAllowed(old, r) {
				return old, wantRefused(err)
			}
			after := afterRelease(*old, r)
			return &after, err
		})
}

// CompareRecords is the part of Compare about records.
func CompareRecords(t testing.TB, h Harness, d Domain) error {
	return compare(t, h, d, "record", true, h.Store.Record,
		func(id delivery.ID, epoch, attempt int, replay bool) ledger.Settlement {
			s := settlementOf(id, epoch, attempt, me, ledger.Delivered)
			s.Replay = replay
			return s
		},
		func(old *ledger.Item, s ledger.Settlement, err error) (*ledger.Item, error) {
			if !ledger.RecordAllowed(old, s) {
				return old, wantRefused(err)
			}
			after := afterRecord(s)
			return &after, err
		})
}

func wantRefused(err error) error {
	if !errors.Is(err, ledger.ErrRefused) {
		return fmt.Errorf("got error %w, want %w", err, ledger.ErrRefused)
	}
	return nil
}

// compareChunk is how many cases go into one call of the store.
const compareChunk = 50

// comparison is one case: a write over a waybill, or over nothing.
type comparison[In any] struct {
	id    delivery.ID
	old   *ledger.Item
	write In
}

// compare makes one case of every waybill and every write, each on a delivery of its own. judge checks an answer and says what the ledger must
// hold afterwards. The cases come in a shuffled order, the same every time, so that a defect shows early wherever it lies.
func compare[In, Out any](t testing.TB, h Harness, d Domain, operation string, replays bool, do func(context.Context, []In) []Out,
	write func(id delivery.ID, epoch, attempt int, replay bool) In, judge func(*ledger.Item, In, Out) (*ledger.Item, error)) error {
	leases := []time.Time{start.Add(-time.Millisecond), start.Add(time.Millisecond)}
	if operation == "claim" {
		leases = append(leases, start)
	}
	cases := combinations(d, leases, operation, replays, write)
	want := make(map[delivery.ID]*ledger.Item, len(cases))
	for chunk := range slices.Chunk(cases, compareChunk) {
		var seeds []ledger.Item
		writes := make([]In, len(chunk))
		for i, c := range chunk {
			writes[i] = c.write
			if c.old != nil {
				seeds = append(seeds, *c.old)
			}
		}
		h.Put(t, seeds...)
		answers := do(t.Context(), writes)
		if len(answers) != len(chunk) {
			return fmt.Errorf("%s: %d answers to %d entries", operation, len(answers), len(chunk))
		}
		for i, c := range chunk {
			after, err := judge(c.old, c.write, answers[i])
			if err != nil {
				return fmt.Errorf("%s %+v\nover %+v:\n%w", operation, c.write, c.old, err)
			}
			want[c.id] = after
		}
	}
	rows := h.Rows(t)
	for _, c := range cases {
		if diff := rowDifference(rows, c.id, want[c.id]); diff != "" {
			return fmt.Errorf("after %s %+v\nover %+v:\n%s", operation, c.write, c.old, diff)
		}
	}
	return nil
}

func combinations[In any](d Domain, leases []time.Time, operation string, replays bool,
	write func(id delivery.ID, epoch, attempt int, replay bool) In) []comparison[In] {
	var cases []comparison[In]
	for _, waybill := range waybills(d, leases) {
		for n := range d.Epochs * d.Attempts * 2 {
			epoch, attempt, replay := n/2/d.Attempts, n/2%d.Attempts+1, n%2 == 1
			if replay && !replays {
				continue
			}
			id := delivery.NewID("acme", operation, strconv.Itoa(len(cases)), "exhaustive")
			c := comparison[In]{id: id, write: write(id, epoch, attempt, replay)}
			if waybill != nil {
				own := *waybill
				own.Delivery = id
				c.old = &own
			}
			cases = append(cases, c)
		}
	}
	shuffle := rand.New(rand.NewPCG(1, 2))
	shuffle.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	return cases
}

// waybills are all that can stand in the ledger, nothing (nil) included.
func waybills(d Domain, leases []time.Time) []*ledger.Item {
	out := []*ledger.Item{nil}
	for _, state := range []ledger.State{ledger.Claimed, ledger.Waiting, ledger.Delivered, ledger.Dead} {
		for epoch := range d.Epochs {
			for attempt := 1; attempt <= d.Attempts; attempt++ {
				owners := []string{me, other}
				if state == ledger.Claimed {
					owners = append(owners, another)
				}
				for _, owner := range owners {
					for _, leaseUntil := range leases {
						item := itemOf("", state, epoch, attempt, owner, leaseUntil)
						out = append(out, &item)
					}
				}
			}
		}
	}
	return out
}
