// Package pacetest keeps in memory which destinations are slow, for tests.
package pacetest

import (
	"context"
	"maps"
	"sync"

	"github.com/waybillhq/waybill/shared/pace"
)

// Memory implements pace.Store. The zero Memory is empty. Its methods are safe for concurrent use; its fields are for while nobody calls them.
type Memory struct {
	Rows        map[string]pace.Row
	Reads, Adds int    // calls so far, failed ones among them
	Err         error  // that every call gives from now on
	OnAdd       func() // hears of each Add; it must not call the Memory

	mu sync.Mutex
}

var _ pace.Store = (*Memory)(nil)

// All implements pace.Store.
func (m *Memory) All(context.Context) (map[string]pace.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Reads++
	rows := map[string]pace.Row{}
	for id, row := range m.Rows {
		rows[id] = maps.Clone(row)
	}
	return rows, m.Err
}

// Add implements pace.Store.
func (m *Memory) Add(_ context.Context, destination string, slot pace.Slot, n int, remove []pace.Slot) (pace.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Adds++
	if m.OnAdd != nil {
		m.OnAdd()
	}
	if m.Err != nil {
		return nil, m.Err
	}
	if m.Rows == nil {
		m.Rows = map[string]pace.Row{}
	}
	row := m.Rows[destination]
	if row == nil {
		row = pace.Row{}
		m.Rows[destination] = row
	}
	row[slot] += n
	for _, s := range remove {
		if s != slot {
			delete(row, s)
		}
	}
	return maps.Clone(row), nil
}
