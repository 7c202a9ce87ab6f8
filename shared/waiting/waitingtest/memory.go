package waitingtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/waybillhq/waybill/shared/waiting"
)

// Memory is a waiting.Store in memory that passes the suite. It is safe for concurrent use. A call whose context is over writes nothing
// and answers waiting.ErrUnknown.
type Memory struct {
	mu         sync.Mutex
	buckets    map[string]map[string]waiting.Row
	watermarks map[int]waiting.Minute
	scan       waiting.Scan

	// PageRows is how many rows a page of Read or Buckets holds at most. Default 1000.
	PageRows int
}

var _ waiting.Store = (*Memory)(nil)

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return &Memory{buckets: map[string]map[string]waiting.Row{}, watermarks: map[int]waiting.Minute{}}
}

// Harness gives the store with its second way in. It has no faults to inject.
func (m *Memory) Harness() Harness { return Harness{Store: m, Rows: m.Rows} }

// Rows gives all rows, marks included, by bucket and key.
func (m *Memory) Rows() []waiting.Row {
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
func (m *Memory) Read(ctx context.Context, bucket, after string, limit int) (waiting.Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := over(ctx); err != nil {
		return waiting.Page{}, err
	}
	keys := slices.Sorted(maps.Keys(m.buckets[bucket]))
	first, _ := slices.BinarySearch(keys, after)
	if first < len(keys) && keys[first] == after {
		first++
	}
	var page waiting.Page
	for _, key := range keys[first:] {
		if len(page.Rows) == min(limit, m.pageRows()) {
			page.Next = page.Rows[len(page.Rows)-1].Key
			break
		}
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
func (m *Memory) Advance(ctx context.Context, shard int, to waiting.Minute) error {
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
	if err := over(ctx); err != nil {
		return nil, waiting.Cursor{}, err
	}
	var names []string
	seen := 0
	for _, r := range m.Rows() {
		if strings.Compare(r.Bucket, after.Bucket) < 0 || r.Bucket == after.Bucket && r.Key <= after.Key {
			continue
		}
		if seen == m.pageRows() {
			return names, after, nil
		}
		seen++
		after = waiting.Cursor{Bucket: r.Bucket, Key: r.Key}
		if len(names) == 0 || names[len(names)-1] != r.Bucket {
			names = append(names, r.Bucket)
		}
	}
	return names, waiting.Cursor{}, nil
}
