package dynamodb

import (
	"cmp"
	"iter"
	"slices"
	"sort"
	"strings"
)

// row is an item in storage. It is never modified, only replaced.
type row struct {
	key  string // see table.rowKey
	item Item
	size int // of the item, in bytes as DynamoDB counts them
}

// chunkRows bounds what an insertion moves.
const chunkRows = 512

// rows keeps rows sorted by key in chunks of at most chunkRows. No chunk is empty.
type rows struct {
	chunks [][]row
	count  int
}

// find gives the place of key: chunk, position in it, and whether it is there. For a key behind every row the
// chunk is the last one.
func (r *rows) find(key string) (chunk, at int, found bool) {
	if len(r.chunks) == 0 {
		return 0, 0, false
	}
	chunk = sort.Search(len(r.chunks)-1, func(i int) bool { return r.chunks[i+1][0].key > key })
	at, found = slices.BinarySearchFunc(r.chunks[chunk], key, func(w row, key string) int { return strings.Compare(w.key, key) })
	return chunk, at, found
}

// get gives the row with the key; the zero row if there is none.
func (r *rows) get(key string) row {
	if chunk, at, found := r.find(key); found {
		return r.chunks[chunk][at]
	}
	return row{}
}

func (r *rows) put(w row) {
	chunk, at, found := r.find(w.key)
	switch {
	case found:
		r.chunks[chunk][at] = w
		return
	case len(r.chunks) == 0:
		r.chunks = [][]row{{w}}
	default:
		r.chunks[chunk] = slices.Insert(r.chunks[chunk], at, w)
		if full := r.chunks[chunk]; len(full) > chunkRows {
			// Rows mostly arrive in order: a split at the end keeps the chunks full then.
			middle := len(full) / 2
			if at == len(full)-1 {
				middle = at
			}
			r.chunks = slices.Insert(r.chunks, chunk+1, slices.Clone(full[middle:]))
			clear(full[middle:])
			r.chunks[chunk] = full[:middle]
		}
	}
	r.count++
}

func (r *rows) remove(key string) bool {
	chunk, at, found := r.find(key)
	if !found {
		return false
	}
	r.count--
	if r.chunks[chunk] = slices.Delete(r.chunks[chunk], at, at+1); len(r.chunks[chunk]) == 0 {
		r.chunks = slices.Delete(r.chunks, chunk, chunk+1)
	}
	return true
}

// span is a range of keys: from <= key < to. An empty to has no bound.
type span struct{ from, to string }

func (s span) intersect(t span) span {
	s.from = max(s.from, t.from)
	if s.to == "" || t.to != "" && t.to < s.to {
		s.to = t.to
	}
	return s
}

// justAfter is the smallest key larger than key.
func justAfter(key string) string { return key + "\x00" }

// afterPrefix is the smallest key larger than every key that begins with prefix; "" if there is none.
func afterPrefix(prefix string) string {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xFF {
			return prefix[:i] + string([]byte{prefix[i] + 1})
		}
	}
	return ""
}

// within visits the rows of a span in order of their keys, or backwards.
func (r *rows) within(s span, backwards bool) iter.Seq[row] {
	return func(yield func(row) bool) {
		if len(r.chunks) == 0 || s.to != "" && s.from >= s.to {
			return
		}
		if backwards {
			r.down(s, yield)
			return
		}
		chunk, at, _ := r.find(s.from)
		for ; chunk < len(r.chunks); chunk, at = chunk+1, 0 {
			for _, w := range r.chunks[chunk][at:] {
				if s.to != "" && w.key >= s.to || !yield(w) {
					return
				}
			}
		}
	}
}

func (r *rows) down(s span, yield func(row) bool) {
	chunk := len(r.chunks) - 1
	at := len(r.chunks[chunk])
	if s.to != "" {
		chunk, at, _ = r.find(s.to)
	}
	for ; chunk >= 0; chunk-- {
		for _, w := range slices.Backward(r.chunks[chunk][:min(at, len(r.chunks[chunk]))]) {
			if cmp.Less(w.key, s.from) || !yield(w) {
				return
			}
		}
		at = chunkRows + 1
	}
}
