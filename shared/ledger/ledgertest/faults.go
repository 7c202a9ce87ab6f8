package ledgertest

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
)

// testFaults makes every kind of write go wrong in every way, for one entry of several and for all, and then repeats it: the repetition
// must have the effect of one write, whether or not the first was made.
func testFaults(t *testing.T, h Harness) {
	if h.Inject == nil {
		t.Skip("this store has no faults to inject")
	}
	for _, kind := range []FaultKind{Throttled, Broken, AnswerLost} {
		for _, single := range []bool{true, false} {
			for _, w := range writes() {
				name := fmt.Sprintf("%s %s", w.name, kind)
				if single {
					name += " for one entry"
				}
				t.Run(name, func(t *testing.T) { testFault(t, h, w, kind, single) })
			}
		}
	}
}

// faultyWrite is a write of three entries, the second of which may be singled out.
type faultyWrite struct {
	name    string
	prepare func(*testing.T, Harness, delivery.ID)
	// do makes the write and gives the error of each entry; an answer other than the hoped-for one counts as an error.
	do func(*testing.T, Harness, []delivery.ID) []error
	// done tells by the row whether the write was made.
	done func(ledger.Item, bool) bool
	// inTwo: a driver may need two calls for it, so that a lost answer does not tell whether it was made.
	inTwo bool
}

func inTwo(w faultyWrite) faultyWrite {
	w.inTwo = true
	return w
}

func claimWrite(name string, epoch, attempt int, prepare func(*testing.T, Harness, delivery.ID)) faultyWrite {
	return faultyWrite{
		name: name, prepare: prepare,
		do: func(t *testing.T, h Harness, ids []delivery.ID) []error {
			var claims []ledger.Claim
			for _, d := range ids {
				claims = append(claims, claimOf(d, epoch, attempt, me, start))
			}
			var errs []error
			for _, a := range h.Store.Claim(t.Context(), claims) {
				if a.Err == nil && a.Verdict != ledger.Granted {
					a.Err = fmt.Errorf("claim is %s", a.Verdict)
				}
				errs = append(errs, a.Err)
			}
			return errs
		},
		done: func(i ledger.Item, ok bool) bool {
			return ok && i.State == ledger.Claimed && i.Owner == me && i.Attempt == attempt
		},
	}
}

func nothing(*testing.T, Harness, delivery.ID) {}

func claimed(t *testing.T, h Harness, d delivery.ID) {
	h.Put(t, itemOf(d, ledger.Claimed, 0, 1, me, start.Add(lease)))
}

func writes() []faultyWrite {
	return []faultyWrite{
		claimWrite("first claim", 0, 1, nothing),
		claimWrite("later claim", 0, 2, func(t *testing.T, h Harness, d delivery.ID) {
			h.Put(t, itemOf(d, ledger.Waiting, 0, 1, other, start))
		}),
		inTwo(claimWrite("take-over", 0, 1, func(t *testing.T, h Harness, d delivery.ID) {
			h.Put(t, itemOf(d, ledger.Claimed, 0, 1, other, start))
		})),
		{
			name: "settle", prepare: claimed,
			do: func(t *testing.T, h Harness, ids []delivery.ID) []error {
				return h.Store.Settle(t.Context(), mapped(ids, func(d delivery.ID) ledger.Settlement { return settlementOf(d, 0, 1, me, ledger.Delivered) }))
			},
			done: func(i ledger.Item, ok bool) bool { return ok && i.State == ledger.Delivered },
		},
		{
			name: "release", prepare: claimed,
			do: func(t *testing.T, h Harness, ids []delivery.ID) []error {
				return h.Store.Release(t.Context(), mapped(ids, func(d delivery.ID) ledger.Release { return releaseOf(d, 0, 1, me) }))
			},
			done: func(i ledger.Item, ok bool) bool { return ok && i.LeaseUntil.IsZero() },
		},
		{
			name: "record", prepare: nothing,
			do: func(t *testing.T, h Harness, ids []delivery.ID) []error {
				return h.Store.Record(t.Context(), mapped(ids, func(d delivery.ID) ledger.Settlement { return settlementOf(d, 0, 1, me, ledger.Delivered) }))
			},
			done: func(i ledger.Item, ok bool) bool { return ok && i.State == ledger.Delivered && i.Owner == me },
		},
	}
}

func mapped[T any](ids []delivery.ID, of func(delivery.ID) T) []T {
	var out []T
	for _, d := range ids {
		out = append(out, of(d))
	}
	return out
}

func testFault(t *testing.T, h Harness, w faultyWrite, kind FaultKind, single bool) {
	var ids []delivery.ID
	for i := range 3 {
		d := delivery.NewID("acme", t.Name(), strconv.Itoa(i), "faults")
		w.prepare(t, h, d)
		ids = append(ids, d)
	}
	fault := Fault{Kind: kind}
	if single {
		fault.Delivery = ids[1]
	}
	want := ledger.ErrUnknown
	if kind == Throttled {
		want = ledger.ErrThrottled
	}

	heal := h.Inject(fault)
	errs := w.do(t, h, ids)
	heal()
	rows := h.Rows(t)
	for i, err := range errs {
		hit := !single || i == 1
		if hit && !errors.Is(err, want) || !hit && err != nil {
			t.Errorf("entry %d: got error %v, hit by the fault: %v", i, err, hit)
		}
		row, ok := rows[ids[i]]
		if hit && kind == AnswerLost && w.inTwo {
			continue
		}
		if written := w.done(row, ok); written != (!hit || kind == AnswerLost) {
			t.Errorf("entry %d: written is %v; the fault does not do what it says", i, written)
		}
	}

	for i, err := range w.do(t, h, ids) {
		if err != nil {
			t.Errorf("repeated, entry %d: %v", i, err)
		}
	}
	rows = h.Rows(t)
	for i, d := range ids {
		if row, ok := rows[d]; !w.done(row, ok) {
			t.Errorf("entry %d is not written after the repetition: %+v", i, row)
		}
	}
}
