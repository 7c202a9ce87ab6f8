package pattern

import (
	"fmt"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

// EventBridge does not evaluate $or: it multiplies the pattern out into patterns without one, and the pattern fits if
// one of them does. The difference shows in arrays, where all conditions must hold for the same element, so it is done
// the same way here.

// orKeyword is never a field's name: EventBridge reads it as an operator.
const orKeyword = "$or"

// reserved are the names that EventBridge does not take for fields inside $or: its operators, and what may become one.
func reserved() []string {
	return []string{
		"exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard", "numeric", "cidr", "html",
		"=", "<", "<=", ">", ">=", "regex", "not-wildcard", "not-equals-ignore-case", "date-after", "date-on-or-after",
		"date-before", "date-on-or-before", "in-date-range", "ip-address-in-range", "ip-address-not-in-range",
	}
}

// condition is one field of a pattern with its alternatives.
type condition struct {
	at     place
	offset int
	leaf   *leaf
}

// way is one way to fit a pattern: conditions on different fields, all of which must hold.
type way []condition

// or compiles {"$or": [{…}, {…}]}: the ways of all its objects, whose fields stand where $or stands.
func (c *compiler) or(at place, m jsontree.Member) []way {
	in := at.inside(orKeyword)
	if m.Value.Kind != jsontree.Array {
		c.fail(in.path, m.Value.Offset, "must be an array of objects, is "+m.Value.Kind.String(), `write "$or": [{…}, {…}]`)
		return nil
	}
	if len(m.Value.Items) < 2 {
		c.fail(in.path, m.Value.Offset, fmt.Sprintf("needs at least 2 objects, holds %d", len(m.Value.Items)),
			"name another one, or write the fields without $or")
		return nil
	}
	c.count(in, m)
	in.inOr = true
	var ways []way
	for i, item := range m.Value.Items {
		if item.Kind != jsontree.Object {
			c.fail(in.index(i).path, item.Offset, "must be an object of fields, is "+item.Kind.String(), "")
			continue
		}
		ways = append(ways, c.below(in.index(i), item)...)
	}
	return ways
}

// count keeps the product of the lengths of every $or under the limit, which is how EventBridge counts combinations.
func (c *compiler) count(at place, m jsontree.Member) {
	if c.tooMany {
		return
	}
	if c.combinations *= len(m.Value.Items); c.combinations > MaxCombinations {
		c.tooMany = true
		c.fail(at.path, m.Offset, fmt.Sprintf("brings the combinations of all $or to %d", c.combinations),
			fmt.Sprintf("use at most %d, or split the pattern over several destinations", MaxCombinations))
	}
}

// both multiplies out: every way of a with every way of b.
func (c *compiler) both(object *jsontree.Node, at place, a, b []way) []way {
	if c.tooMany {
		return nil
	}
	total := 0
	for _, x := range a {
		total += len(x) * len(b)
	}
	for _, y := range b {
		total += len(y) * len(a)
	}
	if total > maxConditions {
		c.tooMany = true
		c.fail(at.path, object.Offset, fmt.Sprintf("comes to more than %d conditions once $or is multiplied out", maxConditions),
			"split the pattern over several destinations")
		return nil
	}
	if len(a) == 1 && len(b) == 1 {
		return []way{append(a[0], b[0]...)}
	}
	ways := make([]way, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			ways = append(ways, append(append(make(way, 0, len(x)+len(y)), x...), y...))
		}
	}
	return ways
}

// claims are the fields that conditions stand on, by their path in the event.
type claims map[string]claim

type claim struct {
	path          string // in the pattern
	value, fields bool   // a condition on the field's own value, conditions on fields below it
}

func (c claim) clashes(other claim) bool {
	return c.value && (other.value || other.fields) || c.fields && other.value
}

func (c claim) and(other claim) claim {
	if c.path == "" {
		c.path = other.path
	}
	return claim{c.path, c.value || other.value, c.fields || other.fields}
}

// claim refuses a member with a condition on a field that an earlier member of the same object has a condition on
// already, which only $or makes possible. EventBridge keeps the last of the two, without a word.
func (c *compiler) claim(taken claims, of []way) claims {
	own := claims{}
	for _, w := range of {
		for _, condition := range w {
			path := ""
			for i, name := range condition.at.in {
				path = jsontree.Field(path, name)
				last := i == len(condition.at.in)-1
				mine := claim{path: condition.at.path, value: last, fields: !last}
				if other := taken[path]; other.clashes(mine) && !other.clashes(own[path]) {
					c.fail(condition.at.path, condition.offset, "stands on the same field as "+other.path,
						"write what the field needs in one place, in each object of $or if need be")
				}
				own[path] = own[path].and(mine)
			}
		}
	}
	if taken == nil {
		return own
	}
	for path, mine := range own {
		taken[path] = taken[path].and(mine)
	}
	return taken
}

// newBranch arranges the conditions of a way as the event is: fields below fields.
func newBranch(w way) *branch {
	b := &branch{conditions: w}
	var root field
	for _, condition := range w {
		root.put(condition.at.in, condition.leaf)
	}
	for _, f := range root.below {
		if f.name == "data" {
			b.data = f
			continue
		}
		b.attributes = append(b.attributes, f)
	}
	return b
}

func (f *field) put(names []string, l *leaf) {
	if len(names) == 0 {
		f.leaf = l
		return
	}
	f.child(names[0]).put(names[1:], l)
}

// child finds or makes the field below. Conditions come in the order of the text, so what is there is near the end.
func (f *field) child(name string) *field {
	for i := len(f.below) - 1; i >= 0; i-- {
		if f.below[i].name == name {
			return f.below[i]
		}
	}
	f.below = append(f.below, &field{name: name})
	return f.below[len(f.below)-1]
}
