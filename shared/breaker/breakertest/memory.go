package breakertest

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/breaker"
)

// Memory is a breaker.Store in memory. Make it with NewMemory. It is safe for concurrent use.
type Memory struct {
	// OnMove, if set before use, hears of every move that is made, within it.
	OnMove func(destination string, was, next breaker.Row)

	mu     sync.Mutex
	rows   map[string]breaker.Row
	fault  FaultKind
	reads  int
	writes int
}

var _ breaker.Store = (*Memory)(nil)

// NewMemory makes an empty store.
func NewMemory() *Memory { return &Memory{rows: map[string]breaker.Row{}} }

// Harness gives the store with what the suite needs.
func (m *Memory) Harness() Harness { return Harness{Store: m, Inject: m.Inject} }

// Inject makes all calls go wrong until heal is called.
func (m *Memory) Inject(kind FaultKind) (heal func()) {
	set := func(kind FaultKind) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.fault = kind
	}
	set(kind)
	return func() { set("") }
}

// Calls gives how many calls have read and written, those that went wrong included.
func (m *Memory) Calls() (reads, writes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads, m.writes
}

// Row gives a row behind the store's back.
func (m *Memory) Row(destination string) breaker.Row {
	m.mu.Lock()
	defer m.mu.Unlock()
	return clone(m.rows[destination])
}

// Put replaces a row behind the store's back.
func (m *Memory) Put(destination string, row breaker.Row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[destination] = stored(row)
}

// before counts a call and gives the error of a call that is not done; after gives that of one that is. The lock is held.
func (m *Memory) before(calls *int) error {
	*calls++
	switch m.fault {
	case Throttled:
		return fmt.Errorf("injected: %w", breaker.ErrThrottled)
	case Broken:
		return fmt.Errorf("injected: %w", breaker.ErrUnknown)
	}
	return nil
}

func (m *Memory) after() error {
	if m.fault == AnswerLost {
		return fmt.Errorf("injected, after it was done: %w", breaker.ErrUnknown)
	}
	return nil
}

// All implements breaker.Store. It is never behind.
func (m *Memory) All(context.Context) (map[string]breaker.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before(&m.reads); err != nil {
		return nil, err
	}
	if err := m.after(); err != nil {
		return nil, err
	}
	all := make(map[string]breaker.Row, len(m.rows))
	for destination, row := range m.rows {
		all[destination] = clone(row)
	}
	return all, nil
}

// Get implements breaker.Store.
func (m *Memory) Get(_ context.Context, destination string) (breaker.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before(&m.reads); err != nil {
		return breaker.Row{}, err
	}
	if err := m.after(); err != nil {
		return breaker.Row{}, err
	}
	return clone(m.rows[destination]), nil
}

// Add implements breaker.Store.
func (m *Memory) Add(_ context.Context, destination string, d breaker.Delta) (breaker.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before(&m.writes); err != nil {
		return breaker.Row{}, err
	}
	row := clone(m.rows[destination])
	if row.Turn != d.Turn || !d.ThrottledUntil.IsZero() && row.ThrottledUntil.UnixMilli() >= d.ThrottledUntil.UnixMilli() && !row.ThrottledUntil.IsZero() {
		if err := m.after(); err != nil {
			return breaker.Row{}, err
		}
		return row, fmt.Errorf("turn %d, %w", row.Turn, breaker.ErrRefused)
	}
	if row.Slots == nil {
		row.Slots = map[breaker.Slot]breaker.Count{}
	}
	for _, s := range d.Remove {
		delete(row.Slots, s)
	}
	for s, c := range d.Slots {
		sum := row.Slots[s]
		row.Slots[s] = breaker.Count{Successes: sum.Successes + c.Successes, Failures: sum.Failures + c.Failures}
	}
	if d.Succeeded {
		row.Streak = 0
	}
	if d.Young {
		row.SucceededAt = d.At
	}
	row.Streak += d.Streak
	if d.Afresh || d.SuspectSince.IsZero() || row.SuspectSince.IsZero() {
		row.SuspectSince = d.SuspectSince
	}
	if !d.ThrottledUntil.IsZero() {
		row.ThrottledAt, row.ThrottledUntil = d.ThrottledAt, d.ThrottledUntil
	}
	row.At = d.At
	m.rows[destination] = stored(row)
	if err := m.after(); err != nil {
		return breaker.Row{}, err
	}
	return clone(m.rows[destination]), nil
}

// Move implements breaker.Store.
func (m *Memory) Move(_ context.Context, destination string, was, next breaker.Row) (breaker.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before(&m.writes); err != nil {
		return breaker.Row{}, err
	}
	row := m.rows[destination]
	if row.Turn != was.Turn {
		if err := m.after(); err != nil {
			return breaker.Row{}, err
		}
		return clone(row), fmt.Errorf("turn %d, %w", row.Turn, breaker.ErrRefused)
	}
	next = clone(next)
	for s, c := range row.Slots { // what was added since the caller has looked stays, as in a table
		if _, seen := was.Slots[s]; !seen {
			if next.Slots == nil {
				next.Slots = map[breaker.Slot]breaker.Count{}
			}
			next.Slots[s] = c
		}
	}
	m.rows[destination] = stored(next)
	if m.OnMove != nil {
		m.OnMove(destination, clone(row), clone(next))
	}
	if err := m.after(); err != nil {
		return breaker.Row{}, err
	}
	return clone(m.rows[destination]), nil
}

func clone(row breaker.Row) breaker.Row {
	row.Slots = maps.Clone(row.Slots)
	return row
}

// stored is the row as a table keeps it: in milliseconds, and without what is nothing.
func stored(row breaker.Row) breaker.Row {
	row = clone(row)
	for s, c := range row.Slots {
		if c == (breaker.Count{}) {
			delete(row.Slots, s)
		}
	}
	if len(row.Slots) == 0 {
		row.Slots = nil
	}
	for _, t := range []*time.Time{&row.Until, &row.RecoveringSince, &row.SuspectSince, &row.SucceededAt, &row.ThrottledAt, &row.ThrottledUntil, &row.At} {
		if !t.IsZero() {
			*t = time.UnixMilli(t.UnixMilli())
		}
	}
	return row
}
