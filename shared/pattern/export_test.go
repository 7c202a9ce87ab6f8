package pattern

// NewIndexFew makes an index that files wherever there are more than few entries together.
func NewIndexFew(patterns []*Pattern, few int) *Index { return newIndex(patterns, few) }

// Candidates counts the entries that Match would look at.
func (x *Index) Candidates(e *Event) int {
	s := search{event: e}
	s.node(x.root)
	return len(s.found)
}

// Reserved gives the names that cannot be fields inside $or.
func Reserved() []string { return reserved() }
