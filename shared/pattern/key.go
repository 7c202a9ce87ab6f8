package pattern

import "net/netip"

// key is what an index files an alternative under: a scalar that satisfies the alternative always hits the key, though
// one that hits the key need not satisfy the alternative.
type key struct {
	kind   keyKind
	scalar scalar       // for equalTo; for other kinds that compare text only its text, folded if they ignore case
	span   span         // for inSpan
	block  netip.Prefix // for inBlock
}

type keyKind int

const (
	present keyKind = iota // hit by every scalar
	equalTo
	equalToFolded
	startsWith
	startsWithFolded
	endsWith
	endsWithFolded
	contains
	inSpan
	inBlock
)

// weight guesses how much likelier a scalar hits such a key than one certain value.
func (k key) weight() int {
	switch k.kind {
	case equalTo, equalToFolded:
		return 1
	case startsWith, startsWithFolded, endsWith, endsWithFolded, contains:
		return max(2, anything>>min(len(k.scalar.text), 8)) // every character halves it
	case inSpan:
		if k.span.low == k.span.high {
			return 1
		}
		return anything / 4
	case inBlock:
		return 2
	}
	return anything
}

// anything is the weight of a key that every scalar hits.
const anything = 64
