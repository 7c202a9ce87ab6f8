package pattern

import (
	"cmp"
	"slices"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

// bucket holds the branches filed under one key of one field, by their position in the index.
type bucket struct {
	key     key
	entries []int
	below   *node // the same entries by another field, if there are many
}

// drawer holds the buckets of one field. It is filled through bucket, then sealed, then only read.
type drawer struct {
	buckets map[key]*bucket
	made    []*bucket // in the order of making
	folds   bool      // some keys ignore case
	starts, startsFolded,
	ends, endsFolded prefixTree // the latter two hold reversed texts
	inner substrings
	spans spanTree
	bits  []int // the lengths of blocks' prefixes
}

// bucket finds or makes the bucket of a key.
func (d *drawer) bucket(k key) *bucket {
	if b, ok := d.buckets[k]; ok {
		return b
	}
	b := &bucket{key: k}
	if d.buckets == nil {
		d.buckets = make(map[key]*bucket)
	}
	d.buckets[k] = b
	d.made = append(d.made, b)
	return b
}

// seal arranges the buckets that cannot be looked up by equality.
func (d *drawer) seal() {
	for _, b := range d.made {
		switch text := b.key.scalar.text; b.key.kind {
		case startsWith:
			d.starts.put(text, b)
		case startsWithFolded:
			d.startsFolded.put(text, b)
		case endsWith:
			d.ends.put(reversed(text), b)
		case endsWithFolded:
			d.endsFolded.put(reversed(text), b)
		case contains:
			d.inner.put(text, b)
		case inSpan:
			d.spans.buckets = append(d.spans.buckets, b)
		case inBlock:
			if bits := b.key.block.Bits(); !slices.Contains(d.bits, bits) {
				d.bits = append(d.bits, bits)
			}
		}
		switch b.key.kind {
		case equalToFolded, startsWithFolded, endsWithFolded:
			d.folds = true
		}
	}
	d.inner.seal()
	d.spans.seal()
}

// find gives every bucket that the scalar hits. Its cost grows with the scalar and with what it hits, not with what is
// in the drawer.
func (d *drawer) find(s scalar, hit func(*bucket)) {
	d.get(key{kind: present}, hit)
	d.get(key{kind: equalTo, scalar: s}, hit)
	switch s.kind {
	case jsontree.String:
		d.findText(s.text, hit)
	case jsontree.Number:
		if v, _, ok := parseMicros(s.text); ok {
			d.spans.find(v, hit)
		}
	}
}

func (d *drawer) findText(s string, hit func(*bucket)) {
	d.starts.find(s, hit)
	if !d.ends.empty() {
		d.ends.find(reversed(s), hit)
	}
	d.inner.find(s, hit)
	if d.folds {
		folded := fold(s)
		d.get(key{kind: equalToFolded, scalar: scalar{text: folded}}, hit)
		d.startsFolded.find(folded, hit)
		if !d.endsFolded.empty() {
			d.endsFolded.find(reversed(folded), hit)
		}
	}
	if len(d.bits) == 0 {
		return
	}
	for _, address := range addresses(s) {
		for _, bits := range d.bits {
			if block, err := address.Prefix(bits); err == nil { // an error says that the address is shorter
				d.get(key{kind: inBlock, block: block}, hit)
			}
		}
	}
}

func (d *drawer) get(k key, hit func(*bucket)) {
	if b, ok := d.buckets[k]; ok {
		hit(b)
	}
}

// prefixTree finds the buckets whose text a string begins with. Texts that begin alike share nodes.
type prefixTree struct {
	label  string // what this node adds to the text of the one above; empty at the root only
	bucket *bucket
	below  map[byte]*prefixTree // by the first byte of their labels
}

func (t *prefixTree) empty() bool { return t.bucket == nil && t.below == nil }

func (t *prefixTree) put(text string, b *bucket) {
	if text == "" {
		t.bucket = b
		return
	}
	if t.below == nil {
		t.below = make(map[byte]*prefixTree)
	}
	child, ok := t.below[text[0]]
	if !ok {
		t.below[text[0]] = &prefixTree{label: text, bucket: b}
		return
	}
	if n := commonPrefix(child.label, text); n < len(child.label) {
		lower := child
		child = &prefixTree{label: lower.label[:n], below: map[byte]*prefixTree{lower.label[n]: lower}}
		lower.label = lower.label[n:]
		t.below[text[0]] = child
	}
	child.put(text[len(child.label):], b)
}

func (t *prefixTree) find(s string, hit func(*bucket)) {
	for {
		if t.bucket != nil {
			hit(t.bucket)
		}
		if s == "" {
			return
		}
		child, ok := t.below[s[0]]
		if !ok || len(child.label) > len(s) || child.label != s[:len(child.label)] {
			return
		}
		t, s = child, s[len(child.label):]
	}
}

func commonPrefix(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// reversed reverses bytes, so that an end becomes a beginning. The result need not be UTF-8.
func reversed(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// substrings finds the buckets whose text a string contains, in one pass over the string (Aho and Corasick, 1975). A node
// stands for a beginning of some text; the string's next byte leads to the longest beginning that the string now ends with.
type substrings struct {
	nodes []substring // the first one stands for nothing read yet
	next  map[letter]int32
}

type substring struct {
	bucket   *bucket // of the text that ends here, if one does
	parent   letter  // whence it was come to
	depth    int32
	shorter, // the longest beginning that this one ends with
	ending int32 // the longest of those with a bucket; 0 if there is none
}

// letter is a byte read at a node.
type letter struct {
	node int32
	read byte
}

func (t *substrings) put(text string, b *bucket) {
	if t.next == nil {
		t.nodes, t.next = make([]substring, 1), make(map[letter]int32)
	}
	at := int32(0)
	for i := range len(text) {
		from := letter{at, text[i]}
		to, ok := t.next[from]
		if !ok {
			to = int32(len(t.nodes))
			t.next[from] = to
			t.nodes = append(t.nodes, substring{parent: from, depth: int32(i + 1)})
		}
		at = to
	}
	t.nodes[at].bucket = b
}

func (t *substrings) seal() {
	order := make([]int32, len(t.nodes))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(t.nodes[a].depth, t.nodes[b].depth) })
	for _, i := range order {
		n := &t.nodes[i]
		if n.depth > 1 {
			n.shorter = t.read(t.nodes[n.parent.node].shorter, n.parent.read)
		}
		if n.ending = n.shorter; t.nodes[n.shorter].bucket == nil {
			n.ending = t.nodes[n.shorter].ending
		}
	}
}

func (t *substrings) read(at int32, b byte) int32 {
	for {
		if to, ok := t.next[letter{at, b}]; ok {
			return to
		}
		if at == 0 {
			return 0
		}
		at = t.nodes[at].shorter
	}
}

func (t *substrings) find(s string, hit func(*bucket)) {
	if t.next == nil {
		return
	}
	var given map[int32]struct{} // a node's shorter ones have been given with it
	at := int32(0)
	for i := range len(s) {
		at = t.read(at, s[i])
		for n := at; n != 0; n = t.nodes[n].ending {
			if t.nodes[n].bucket == nil {
				continue
			}
			if _, again := given[n]; again {
				break
			}
			if given == nil {
				given = make(map[int32]struct{})
			}
			given[n] = struct{}{}
			hit(t.nodes[n].bucket)
		}
	}
}

// spanTree finds the buckets whose span contains a number: a balanced tree laid out in a slice, each half around its
// middle.
type spanTree struct {
	buckets []*bucket // by the lower end of their spans, once sealed
	reach   []micros  // the largest upper end in the half whose middle stands here
}

func (t *spanTree) seal() {
	slices.SortFunc(t.buckets, func(a, b *bucket) int { return cmp.Compare(a.key.span.low, b.key.span.low) })
	t.reach = make([]micros, len(t.buckets))
	t.measure(0, len(t.buckets))
}

func (t *spanTree) measure(from, to int) micros {
	if from == to {
		return -maxMicros - 1
	}
	middle := (from + to) / 2
	t.reach[middle] = max(t.buckets[middle].key.span.high, t.measure(from, middle), t.measure(middle+1, to))
	return t.reach[middle]
}

func (t *spanTree) find(v micros, hit func(*bucket)) { t.findIn(0, len(t.buckets), v, hit) }

func (t *spanTree) findIn(from, to int, v micros, hit func(*bucket)) {
	middle := (from + to) / 2
	if from == to || t.reach[middle] < v {
		return
	}
	t.findIn(from, middle, v, hit)
	b := t.buckets[middle]
	if b.key.span.low > v {
		return // so does everything to the right
	}
	if b.key.span.contains(v) {
		hit(b)
	}
	t.findIn(middle+1, to, v, hit)
}
