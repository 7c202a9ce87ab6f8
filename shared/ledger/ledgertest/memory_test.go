package ledgertest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/ledgertest"
)

func TestMemory(t *testing.T) {
	ledgertest.Run(t, func(*testing.T) ledgertest.Harness { return ledgertest.NewMemory().Harness() })
}

func TestMemoryAfterTheContextsEnd(t *testing.T) {
	m := ledgertest.NewMemory()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	id := delivery.NewID("acme", "/", "1", "crm")
	if a := m.Claim(ctx, []ledger.Claim{{Delivery: id, Attempt: 1}})[0]; !errors.Is(a.Err, ledger.ErrUnknown) {
		t.Errorf("got %v, want %v", a.Err, ledger.ErrUnknown)
	}
	if rows := m.Harness().Rows(t); len(rows) != 0 {
		t.Errorf("written after the end: %v", rows)
	}
}
