package ledgertest

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
)

// Memory is a ledger.Store in memory that passes the suite. It is safe for concurrent use. A call whose context is over
// writes nothing and answers ledger.ErrUnknown.
type Memory struct {
	mu    sync.Mutex
	items map[delivery.ID]ledger.Item
}

var _ ledger.Store = (*Memory)(nil)

// NewMemory makes an empty store.
func NewMemory() *Memory { return &Memory{items: map[delivery.ID]ledger.Item{}} }

// Harness gives the store with its second way in. It has no faults to inject.
func (m *Memory) Harness() Harness {
	return Harness{
		Store: m,
		Put: func(_ testing.TB, items ...ledger.Item) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, item := range items {
				m.items[item.Delivery] = item
			}
		},
		Rows: func(testing.TB) map[delivery.ID]ledger.Item {
			m.mu.Lock()
			defer m.mu.Unlock()
			return maps.Clone(m.items)
		},
	}
}

// Claim implements ledger.Store.
func (m *Memory) Claim(ctx context.Context, claims []ledger.Claim) []ledger.Answer {
	return each(ctx, m, claims, func(err error) ledger.Answer { return ledger.Answer{Err: err} }, func(c ledger.Claim) ledger.Answer {
		old := m.get(c.Delivery)
		if v := ledger.Decide(old, c); v != ledger.Granted {
			return ledger.Answer{Verdict: v, Item: old}
		}
		m.items[c.Delivery] = afterClaim(old, c)
		return ledger.Answer{Verdict: ledger.Granted}
	})
}

// Settle implements ledger.Store.
func (m *Memory) Settle(ctx context.Context, settlements []ledger.Settlement) []error {
	return each(ctx, m, settlements, asItIs, func(s ledger.Settlement) error {
		old := m.get(s.Delivery)
		if !ledger.SettleAllowed(old, s) {
			return fmt.Errorf("settle delivery %s: %w", s.Delivery, ledger.ErrRefused)
		}
		m.items[s.Delivery] = afterSettle(*old, s)
		return nil
	})
}

// Release implements ledger.Store.
func (m *Memory) Release(ctx context.Context, releases []ledger.Release) []error {
	return each(ctx, m, releases, asItIs, func(r ledger.Release) error {
		old := m.get(r.Delivery)
		if !ledger.ReleaseAllowed(old, r) {
			return fmt.Errorf("release delivery %s: %w", r.Delivery, ledger.ErrRefused)
		}
		m.items[r.Delivery] = afterRelease(*old, r)
		return nil
	})
}

// Record implements ledger.Store.
func (m *Memory) Record(ctx context.Context, settlements []ledger.Settlement) []error {
	return each(ctx, m, settlements, asItIs, func(s ledger.Settlement) error {
		if !ledger.RecordAllowed(m.get(s.Delivery), s) {
			return fmt.Errorf("record delivery %s: %w", s.Delivery, ledger.ErrRefused)
		}
		m.items[s.Delivery] = afterRecord(s)
		return nil
	})
}

// Read implements ledger.Store.
func (m *Memory) Read(ctx context.Context, deliveries []delivery.ID) []ledger.Reading {
	return each(ctx, m, deliveries, func(err error) ledger.Reading { return ledger.Reading{Err: err} }, func(d delivery.ID) ledger.Reading {
		return ledger.Reading{Item: m.get(d)}
	})
}

func (m *Memory) get(d delivery.ID) *ledger.Item {
	item, ok := m.items[d]
	if !ok {
		return nil
	}
	return &item
}

func asItIs(err error) error { return err }

// each answers every entry under the store's lock.
func each[In, Out any](ctx context.Context, m *Memory, entries []In, fail func(error) Out, do func(In) Out) []Out {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Out, len(entries))
	for i, e := range entries {
		if err := ctx.Err(); err != nil {
			out[i] = fail(fmt.Errorf("%w: %w", ledger.ErrUnknown, err))
			continue
		}
		out[i] = do(e)
	}
	return out
}
