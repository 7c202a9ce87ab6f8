package pattern

import (
	"slices"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

// Index finds, among many patterns, those that an event fits. It is immutable and safe for concurrent use.
//
// Match gives what a loop over Pattern.Match would give, but its cost grows with the event and with the patterns that it
// comes near, not with how many there are. Every pattern is filed under the condition that it shares with the fewest
// others, and those that are still together under the next one, so that only patterns are looked at whose filed conditions
// hold. What asks for no more than that a field is there, or is anything but something, is looked at where the field is;
// what only asks for absence is looked at for every event.
type Index struct {
	entries []entry // by pattern
	root    *node
}

// entry is one branch of one pattern.
type entry struct {
	pattern int     // its position
	branch  *branch // nil for a pattern that asks for nothing
}

// NewIndex makes an index. Match names the patterns by their positions in the slice; nil fits every event.
func NewIndex(patterns []*Pattern) *Index { return newIndex(patterns, few) }

func newIndex(patterns []*Pattern, few int) *Index {
	x := &Index{}
	for i, p := range patterns {
		if p == nil || len(p.branches) == 0 {
			x.entries = append(x.entries, entry{pattern: i})
			continue
		}
		for _, b := range p.branches {
			x.entries = append(x.entries, entry{i, b})
		}
	}
	x.root = newFiler(x.entries, few).file()
	return x
}

// Match gives the positions of the patterns that the event fits, in ascending order.
func (x *Index) Match(e *Event) []int {
	s := search{event: e}
	s.node(x.root)
	slices.Sort(s.found)
	var fitting []int
	for i, at := range s.found {
		candidate := x.entries[at]
		repeated := i > 0 && s.found[i-1] == at
		if repeated || len(fitting) > 0 && fitting[len(fitting)-1] == candidate.pattern {
			continue
		}
		if candidate.branch == nil || candidate.branch.fits(e) {
			fitting = append(fitting, candidate.pattern)
		}
	}
	return fitting
}

// node holds entries by some of their fields.
type node struct {
	unfiled    []int // to be looked at for every event that comes here
	attributes map[string]*step
	data       *step
}

// step is a name on the way to fields that entries are filed by.
type step struct {
	drawer *drawer // of this field's own values
	below  map[string]*step
}

// search collects the entries that an event may fit.
type search struct {
	event *Event
	found []int
	seen  map[*bucket]struct{}
}

func (s *search) node(n *node) {
	s.found = append(s.found, n.unfiled...)
	eachCommon(n.attributes, s.event.attributes, func(at *step, value string) {
		at.drawer.find(scalar{jsontree.String, value}, s.hit)
	})
	if n.data != nil {
		s.walk(n.data, s.event.payload())
	}
}

// walk goes through the document as far as entries are filed by what it holds.
func (s *search) walk(at *step, value any) {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			s.walk(at, element)
		}
	case map[string]any:
		eachCommon(at.below, value, func(below *step, inner any) { s.walk(below, inner) })
	default:
		if scalar, ok := asScalar(value); ok && at.drawer != nil {
			at.drawer.find(scalar, s.hit)
		}
	}
}

// eachCommon visits the names that both have, at the cost of the smaller one.
func eachCommon[A, B any](a map[string]A, b map[string]B, visit func(A, B)) {
	if len(a) <= len(b) {
		for name, x := range a {
			if y, ok := b[name]; ok {
				visit(x, y)
			}
		}
		return
	}
	for name, y := range b {
		if x, ok := a[name]; ok {
			visit(x, y)
		}
	}
}

// hit takes what a bucket holds, once: an array may hit it with every element.
func (s *search) hit(b *bucket) {
	if _, again := s.seen[b]; again {
		return
	}
	if s.seen == nil {
		s.seen = make(map[*bucket]struct{})
	}
	s.seen[b] = struct{}{}
	if b.below != nil {
		s.node(b.below)
		return
	}
	s.found = append(s.found, b.entries...)
}

// few entries are looked at one by one: filing them would cost more than it saves.
const few = 8

// maxLevels bounds how many fields an entry is filed by, one below the other.
const maxLevels = 4

// filer files entries.
type filer struct {
	few     int
	folders []folder // by entry
	spare   int      // how many more places lower nodes may file entries in
}

// folder is what an entry can be filed by.
type folder []conditionKeys

// conditionKeys says what one condition can be filed under: for each alternative, any of its keys.
type conditionKeys struct {
	in   []string
	path string
	keys [][]key
}

func newFiler(entries []entry, few int) *filer {
	f := &filer{few: few}
	for _, e := range entries {
		f.folders = append(f.folders, newFolder(e.branch))
	}
	return f
}

func newFolder(b *branch) folder {
	if b == nil {
		return nil
	}
	var own folder
	for _, c := range b.conditions {
		if c.leaf.absent { // it may fit without hitting anything
			continue
		}
		keys := c.leaf.keys
		for _, alternative := range keys {
			if alternative[0].kind == present {
				keys = [][]key{alternative} // whatever hits the others hits it too
				break
			}
		}
		path := ""
		for _, name := range c.at.in {
			path = jsontree.Field(path, name)
		}
		own = append(own, conditionKeys{c.at.in, path, keys})
	}
	// Attributes first: with nothing else to choose by, they save reading the payload.
	slices.SortStableFunc(own, func(a, b conditionKeys) int { return min(len(a.in), 2) - min(len(b.in), 2) })
	return own
}

func (f *filer) file() *node {
	all := make([]int, len(f.folders))
	for i := range all {
		all[i] = i
	}
	f.spare = 8 * len(all)
	return f.node(all, nil)
}

// shared counts how many entries of a node have a key.
type shared map[located]int

type located struct {
	path string
	key  key
}

// node files entries by the best of their conditions on fields that are not in used.
func (f *filer) node(entries []int, used []string) *node {
	n := &node{}
	if len(entries) <= f.few || len(used) == maxLevels || len(used) > 0 && f.spare < 0 {
		n.unfiled = entries
		return n
	}
	counts := shared{}
	for _, i := range entries {
		for _, c := range f.folders[i] {
			if !slices.Contains(used, c.path) {
				counts.add(c)
			}
		}
	}
	drawers := map[string]*drawer{}
	var paths []string // in the order of making
	for _, i := range entries {
		best, keys, ok := counts.best(f.folders[i], used)
		if !ok {
			n.unfiled = append(n.unfiled, i)
			continue
		}
		d, ok := drawers[best.path]
		if !ok {
			d = n.drawer(best.in)
			drawers[best.path] = d
			paths = append(paths, best.path)
		}
		for _, k := range keys {
			b := d.bucket(k)
			b.entries = append(b.entries, i)
		}
		if len(used) > 0 {
			f.spare -= len(keys)
		}
	}
	for _, path := range paths {
		drawers[path].seal()
		for _, b := range drawers[path].made {
			if len(b.entries) > f.few {
				b.below = f.node(b.entries, append(slices.Clip(used), path))
			}
		}
	}
	return n
}

func (s shared) add(c conditionKeys) {
	for _, alternative := range c.keys {
		for _, k := range alternative {
			s[located{c.path, k}]++
		}
	}
}

// best gives the condition that likely leaves the fewest entries together, and the keys to file it under.
func (s shared) best(own folder, used []string) (best conditionKeys, keys []key, ok bool) {
	least := 0
	for _, c := range own {
		if slices.Contains(used, c.path) {
			continue
		}
		chosen, cost := make([]key, len(c.keys)), 0
		for i, alternative := range c.keys {
			price := func(k key) int { return s[located{c.path, k}] * k.weight() }
			chosen[i] = slices.MinFunc(alternative, func(a, b key) int { return price(a) - price(b) })
			cost += price(chosen[i])
		}
		if !ok || cost < least {
			best, keys, least, ok = c, chosen, cost, true
		}
	}
	return best, keys, ok
}

// drawer finds or makes the drawer of a field.
func (n *node) drawer(in []string) *drawer {
	var at *step
	if in[0] == "data" {
		if n.data == nil {
			n.data = &step{}
		}
		at = n.data
	} else {
		if n.attributes == nil {
			n.attributes = map[string]*step{}
		}
		at = child(&n.attributes, in[0])
	}
	for _, name := range in[1:] {
		at = child(&at.below, name)
	}
	if at.drawer == nil {
		at.drawer = &drawer{}
	}
	return at.drawer
}

func child(below *map[string]*step, name string) *step {
	if *below == nil {
		*below = map[string]*step{}
	}
	at, ok := (*below)[name]
	if !ok {
		at = &step{}
		(*below)[name] = at
	}
	return at
}
