package limitertest

import (
	"context"
	"sync"

	"github.com/waybillhq/waybill/shared/limiter"
)

// Memory implements limiter.Store. The zero Memory is empty. Its methods are safe for concurrent use; its fields are for while nobody calls them.
type Memory struct {
	Rows  map[string]limiter.Row
	Steps int // so far, refused and failed ones among them
	// Before and After may fail a step before it is made, or lose its answer; nil: they do not.
	Before, After func() error

	mu sync.Mutex
}

var _ limiter.Store = (*Memory)(nil)

// Step implements limiter.Store.
func (m *Memory) Step(_ context.Context, destination string, step limiter.Step) (limiter.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Steps++
	if m.Before != nil {
		if err := m.Before(); err != nil {
			return limiter.Row{}, err
		}
	}
	row, is := step.Apply(m.Rows[destination])
	if !is {
		return row, limiter.ErrRefused
	}
	if m.Rows == nil {
		m.Rows = map[string]limiter.Row{}
	}
	m.Rows[destination] = row
	if m.After != nil {
		if err := m.After(); err != nil {
			return limiter.Row{}, err
		}
	}
	return row, nil
}
