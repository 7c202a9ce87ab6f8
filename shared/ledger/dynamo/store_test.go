package dynamo_test

import (
	"testing"

	"github.com/waybillhq/waybill/shared/ledger/ledgertest"
)

func TestItemStore(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) ledgertest.Harness {
		db := openDatabase(t)
		return db.harness(db.item(t))
	})
}

func TestBatchStore(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) ledgertest.Harness {
		db := openDatabase(t)
		return db.harness(db.batch(t))
	})
}

func TestFallbackStore(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) ledgertest.Harness {
		db := openDatabase(t)
		h := db.harness(db.fallback(t))
		h.Domain = ledgertest.Domain{Epochs: 2, Attempts: 1} // the forms by themselves pass it with more
		return h
	})
}
