package waitingtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/waybillhq/waybill/shared/waiting"
)

// Memory is a waiting.Store in memory that passes the suite. It is safe for concurrent use. A call whose context is over writes nothing
// and answers waiting.ErrUnknown.
type Memory struct {
	mu         sync.Mutex
	buckets    map[string]map[string]waiting.Row
	watermarks map[int]waiting.Hour
	scan       waiting.Scan

	// PageRows is how many rows a page of Read, Buckets or Rows holds at most. Default 1000.
	PageRows int
}

var (
	_ waiting.Store  = (*Memory)(nil)
	_ waiting.Lister = (*Memory)(nil)
)

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return &Memory{buckets: map[string]map[string]waiting.Row{}, watermarks: map[int]waiting.Hour{}}
}

// Harness gives the store with its second way in. It has no faults to inject.
func (m *Memory) Harness() Harness { return Harness{Store: m, Rows: m.All} }

// All gives all rows, marks included, by bucket and key.
func (m *Memory) All() []waiting.Row {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []waiting.Row
	for _, name := range slices.Sorted(maps.Keys(m.buckets)) {
		for _, key := range slices.Sorted(maps.Keys(m.buckets[name])) {
			rows = append(rows, m.buckets[name][key])
		}
	}
	return rows
}

// Remove deletes a row behind everyone's back.
func (m *Memory) Remove(bucket, key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(bucket, key)
}

func (m *Memory) remove(bucket, key string) {
	delete(m.buckets[bucket], key)
	if len(m.buckets[bucket]) == 0 {
		delete(m.buckets, bucket)
	}
}

func over(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", waiting.ErrUnknown, context.Cause(ctx))
	}
	return nil
}

// Put implements waiting.Store.
func (m *Memory) Put(ctx context.Context, rows []waiting.Row) []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	errs := make([]error, len(rows))
	for i, r := range rows {
		if errs[i] = over(ctx); errs[i] != nil {
			continue
		}
		if m.buckets[r.Bucket] == nil {
			m.buckets[r.Bucket] = map[string]waiting.Row{}
		}
		r.Body = slices.Clone(r.Body)
		m.buckets[r.Bucket][r.Key] = r
	}
	return errs
}

// Delete implements waiting.Store.
func (m *Memory) Delete(ctx context.Context, refs []waiting.Ref) []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	errs := make([]error, len(refs))
	for i, ref := range refs {
		row, ok := m.buckets[ref.Bucket][ref.Key]
		if errs[i] = over(ctx); errs[i] != nil || !ok {
			continue
		}
		if !waiting.MayDelete(row.Token, ref.Token) {
			errs[i] = waiting.ErrRefused
			continue
		}
		m.remove(ref.Bucket, ref.Key)
	}
	return errs
}

func (m *Memory) pageRows() int {
	if m.PageRows > 0 {
		return m.PageRows
	}
	return 1000
}

// Read implements waiting.Store.
func (m *Memory) Read(ctx context.Context, bucket, after, before string, limit int) (waiting.Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := over(ctx); err != nil {
		return waiting.Page{}, err
	}
	var keys []string
	for key := range m.buckets[bucket] {
		if key > after && (before == "" || key < before) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	var page waiting.Page
	if most := min(limit, m.pageRows()); len(keys) > most {
		keys = keys[:most]
		page.Next = keys[most-1]
	}
	for _, key := range keys {
		row := m.buckets[bucket][key]
		row.Body = slices.Clone(row.Body)
		page.Rows = append(page.Rows, row)
	}
	return page, nil
}

// State implements waiting.Store.
func (m *Memory) State(ctx context.Context) (waiting.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	scan := m.scan
	scan.Oldest = maps.Clone(scan.Oldest)
	return waiting.State{Watermarks: maps.Clone(m.watermarks), Scan: scan}, over(ctx)
}

// Advance implements waiting.Store.
func (m *Memory) Advance(ctx context.Context, shard int, to waiting.Hour) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := over(ctx); err != nil {
		return err
	}
	current, exists := m.watermarks[shard]
	if !waiting.MayAdvance(current, exists, to) {
		return waiting.ErrRefused
	}
	m.watermarks[shard] = to
	return nil
}

// SaveScan implements waiting.Store.
func (m *Memory) SaveScan(ctx context.Context, was string, scan waiting.Scan) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := over(ctx); err != nil {
		return err
	}
	if m.scan.Token != was {
		return waiting.ErrRefused
	}
	scan.Oldest = maps.Clone(scan.Oldest)
	m.scan = scan
	return nil
}

// Buckets implements waiting.Store. It scans in the order of buckets and keys.
func (m *Memory) Buckets(ctx context.Context, after waiting.Cursor) ([]string, waiting.Cursor, error) {
	rows, next, err := m.scanPage(ctx, after)
	var names []string
	for _, r := range rows {
		names = append(names, r.Bucket)
	}
	return slices.Compact(names), next, err
}

// Rows implements waiting.Lister. It scans in the order of buckets and keys.
func (m *Memory) Rows(ctx context.Context, after waiting.Cursor) ([]waiting.Row, waiting.Cursor, error) {
	rows, next, err := m.scanPage(ctx, after)
	return slices.DeleteFunc(rows, func(r waiting.Row) bool { return !r.Held() }), next, err
}

func (m *Memory) scanPage(ctx context.Context, after waiting.Cursor) (rows []waiting.Row, next waiting.Cursor, err error) {
	if err := over(ctx); err != nil {
		return nil, after, err
	}
	for _, r := range m.All() {
		if r.Bucket < after.Bucket || r.Bucket == after.Bucket && r.Key <= after.Key {
			continue
		}
		if len(rows) == m.pageRows() {
			last := rows[len(rows)-1]
			return rows, waiting.Cursor{Bucket: last.Bucket, Key: last.Key}, nil
		}
		r.Body = slices.Clone(r.Body)
		rows = append(rows, r)
	}
	return rows, waiting.Cursor{}, nil
}
