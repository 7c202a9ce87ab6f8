package dynamo_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/dynamo"
	"github.com/waybillhq/waybill/shared/ledger/ledgertest"
)

// deniedBatch refuses every call of the batch form.
var deniedBatch = awslocal.Fault{
	Operation: "BatchExecuteStatement", Error: &wire.Error{Code: "AccessDeniedException", Message: "no PartiQL for you", Status: 400},
}

// TestFallbackStoreWithoutPartiQL: the suite passes where the account refuses the batch form altogether.
func TestFallbackStoreWithoutPartiQL(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) ledgertest.Harness {
		db := openDatabase(t)
		db.endpoint.Faults().Add(deniedBatch)
		h := db.harness(db.fallback(t))
		h.Inject = nil // the faults of the suite and the denial would mix
		h.Domain = ledgertest.Domain{Epochs: 2, Attempts: 1}
		return h
	})
}

// fallbackRig is a fallback store with a clock and a record of its fall-backs.
type fallbackRig struct {
	*database
	store *dynamo.FallbackStore
	clock atomic.Int64 // seconds

	mu   sync.Mutex
	seen []dynamo.Fallback
}

func openFallback(t *testing.T) *fallbackRig {
	rig := &fallbackRig{database: openDatabase(t)}
	rig.store = dynamo.WithFallback(rig.batch(t), rig.item(t), dynamo.FallbackOptions{
		AvoidFor: time.Minute,
		Now:      func() time.Time { return now.Add(time.Duration(rig.clock.Load()) * time.Second) },
		OnFallback: func(_ context.Context, f dynamo.Fallback) {
			rig.mu.Lock()
			defer rig.mu.Unlock()
			rig.seen = append(rig.seen, f)
		},
	})
	return rig
}

// batches counts the calls of the batch form that do makes.
func (rig *fallbackRig) batches(do func()) int {
	before := rig.endpoint.Counts()
	do()
	return rig.endpoint.Counts().Since(before)[awslocal.Op{Service: "dynamodb", Name: "BatchExecuteStatement"}].Attempted
}

func (rig *fallbackRig) claim(t *testing.T, ids ...int) {
	t.Helper()
	var claims []ledger.Claim
	for _, n := range ids {
		claims = append(claims, claimOf(n, 0, 1))
	}
	for i, a := range rig.store.Claim(t.Context(), claims) {
		if a.Verdict != ledger.Granted || a.Err != nil {
			t.Errorf("claim of %d: %+v", ids[i], a)
		}
	}
}

func TestFallbackAvoidsAndProbes(t *testing.T) {
	t.Parallel()
	rig := openFallback(t)
	next := 0
	wantBatches := func(when string, want int) {
		t.Helper()
		next++
		if got := rig.batches(func() { rig.claim(t, next*10, next*10+1) }); got != want {
			t.Errorf("%s: %d calls of the batch form, want %d", when, got, want)
		}
	}
	wantBatches("permitted", 1)
	denied := rig.endpoint.Faults().Add(deniedBatch)
	wantBatches("refused", 1)
	wantBatches("just after", 0)
	rig.clock.Store(59)
	wantBatches("after 59 s", 0)
	rig.clock.Store(60)
	wantBatches("after a minute", 1)
	rig.clock.Store(119)
	wantBatches("refused again, 59 s later", 0)
	denied.Remove()
	wantBatches("permitted again, but too early", 0)
	rig.clock.Store(120)
	wantBatches("permitted again", 1)
	wantBatches("and since", 1)
	if len(rig.seen) != 2 {
		t.Fatalf("fall-backs: %+v, want 2", rig.seen)
	}
	if f := rig.seen[0]; f.Operation != "claim" || f.Entries != 2 || !errors.Is(f.Cause, ledger.ErrUnsupported) {
		t.Errorf("fall-back: %+v", f)
	}
}

// TestFallbackOfSomeEntries: per statement, and only for the operation that is refused.
func TestFallbackOfSomeEntries(t *testing.T) {
	t.Parallel()
	rig := openFallback(t)
	rig.claim(t, 1, 2, 3)
	rig.endpoint.Faults().Add(statementFault(id(2), "AccessDenied"))
	var settlements []ledger.Settlement
	for _, n := range []int{1, 2, 3} {
		settlements = append(settlements, settlementOf(claimOf(n, 0, 1)))
	}
	before := rig.endpoint.Counts()
	for i, err := range rig.store.Settle(t.Context(), settlements) {
		if err != nil {
			t.Errorf("settle %d: %v", i, err)
		}
	}
	if n := rig.endpoint.Counts().Since(before)[awslocal.Op{Service: "dynamodb", Name: "UpdateItem"}].Attempted; n != 1 {
		t.Errorf("%d conditional writes, want 1 for the entry that was refused", n)
	}
	for i, item := range rig.items(t) {
		if item.State != ledger.Delivered {
			t.Errorf("%s is %s", i, item.State)
		}
	}
	if n := rig.batches(func() { rig.claim(t, 4) }); n != 1 {
		t.Errorf("claims avoid the batch form because settles were refused")
	}
	if n := rig.batches(func() { rig.store.Settle(t.Context(), settlements[:1]) }); n != 0 {
		t.Errorf("settles do not avoid the batch form")
	}
}

// TestFallbackHelpsNothing: where both forms are refused, the form is not what is wrong.
func TestFallbackHelpsNothing(t *testing.T) {
	t.Parallel()
	rig := openFallback(t)
	rig.endpoint.Faults().Add(awslocal.Fault{Error: deniedBatch.Error})
	for range 2 {
		n := rig.batches(func() {
			for operation, err := range errorsOf(t.Context(), rig.store, 0) {
				if !errors.Is(err, ledger.ErrUnsupported) {
					t.Errorf("%s: %v, want %v", operation, err, ledger.ErrUnsupported)
				}
			}
		})
		if n != 4 {
			t.Errorf("%d calls of the batch form, want one of each operation", n)
		}
	}
}

func TestFallbackWithNothingToDo(t *testing.T) {
	t.Parallel()
	rig := openFallback(t)
	ctx := t.Context()
	if len(rig.store.Claim(ctx, nil)) != 0 || len(rig.store.Settle(ctx, nil)) != 0 || len(rig.store.Read(ctx, []delivery.ID{})) != 0 {
		t.Error("answers to nothing")
	}
}

// TestFallbackUnderConcurrency: whatever the permission does meanwhile, every claim is granted, and after the time to avoid
// one caller alone probes.
func TestFallbackUnderConcurrency(t *testing.T) {
	t.Parallel()
	rig := openFallback(t)
	var next atomic.Int64
	many := func() {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 5 {
					rig.claim(t, int(next.Add(1)))
				}
			})
		}
		wg.Wait()
	}
	denied := rig.endpoint.Faults().Add(deniedBatch)
	many()
	rig.clock.Add(60)
	if n := rig.batches(many); n != 1 {
		t.Errorf("%d probes, want 1", n)
	}
	denied.Remove()
	rig.clock.Add(60)
	if n := rig.batches(many); n < 2 {
		t.Errorf("%d calls of the batch form after the probe succeeded", n)
	}
	if rows := len(rig.items(t)); rows != int(next.Load()) {
		t.Errorf("%d rows for %d claims", rows, next.Load())
	}
	for _, f := range rig.seen {
		if f.Operation != "claim" || f.Entries != 1 {
			t.Errorf("fall-back %s", fmt.Sprint(f))
		}
	}
}
