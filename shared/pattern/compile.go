package pattern

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

// place is where the compiler stands.
type place struct {
	path      string   // in the pattern, as problems name it
	in        []string // in the event: the names down to here, without any $or
	attribute bool     // on a CloudEvents attribute, whose value is always a string
	inOr      bool     // somewhere inside a $or
}

// inside gives the place of something with a name that is not a field of the event, such as an operator's argument.
func (p place) inside(name string) place {
	p.path = jsontree.Field(p.path, name)
	return p
}

// member gives the place of a field.
func (p place) member(name string) place {
	p.in = append(slices.Clip(p.in), name)
	return p.inside(name)
}

func (p place) index(i int) place {
	p.path = jsontree.Index(p.path, i)
	return p
}

type compiler struct {
	problems     []Problem
	combinations int  // of the objects of every $or so far
	tooMany      bool // of them, or of conditions; nothing is multiplied out any more
}

func (c *compiler) fail(path string, offset int, message, fix string) {
	c.problems = append(c.problems, Problem{Path: path, Offset: offset, Message: message, Fix: fix})
}

func compile(text json.RawMessage) (*Pattern, error) {
	c := &compiler{combinations: 1}
	root, err := jsontree.Parse(text, MaxDepth)
	if err != nil {
		var syntax *jsontree.SyntaxError
		if errors.As(err, &syntax) {
			c.fail("pattern", syntax.Offset, syntax.Message, syntax.Fix)
		}
		return nil, &Error{Problems: c.problems}
	}
	pattern := c.pattern(root)
	if len(c.problems) > 0 {
		slices.SortStableFunc(c.problems, func(a, b Problem) int { return a.Offset - b.Offset })
		return nil, &Error{Problems: c.problems}
	}
	return pattern, nil
}

func (c *compiler) pattern(root *jsontree.Node) *Pattern {
	at := place{path: "pattern"}
	if root.Kind != jsontree.Object {
		c.fail(at.path, root.Offset, "must be an object, is "+root.Kind.String(), "leave it out to receive every event")
		return nil
	}
	pattern := &Pattern{}
	if len(root.Members) == 0 {
		return pattern
	}
	for _, w := range c.object(at, root) {
		pattern.branches = append(pattern.branches, newBranch(w))
	}
	return pattern
}

// object compiles the members of an object, all of which must fit, into the ways to fit them.
func (c *compiler) object(at place, object *jsontree.Node) []way {
	c.repeated(at, object)
	_, hasOr := object.Get(orKeyword)
	var taken claims
	ways := []way{nil}
	for _, m := range object.Members {
		var of []way
		if m.Name == orKeyword {
			of = c.or(at, m)
		} else {
			of = c.field(at.member(m.Name), m)
		}
		if hasOr { // without one, names that differ cannot mean the same field
			taken = c.claim(taken, of)
		}
		ways = c.both(object, at, ways, of)
	}
	return ways
}

// attributeName refuses names that no CloudEvent can have: such a condition would never fit, or always.
func (c *compiler) attributeName(at place, m jsontree.Member) bool {
	valid := m.Name != "" && strings.IndexFunc(m.Name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	}) < 0
	if valid {
		return true
	}
	fix := "attribute names consist of a-z and 0-9; fields of the payload go under \"data\""
	switch lower := strings.ToLower(m.Name); lower {
	case "detail-type", "detailtype":
		fix = `write "type", which is what an EventBridge event's detail-type becomes`
	case "id", "source", "type", "subject", "time", "data":
		fix = fmt.Sprintf("write %q", lower)
	}
	c.fail(at.path, m.Offset, "is not the name of a CloudEvents attribute", fix)
	return false
}

// field compiles one name and what stands under it. The result is unfit for matching if it reported a problem.
func (c *compiler) field(at place, m jsontree.Member) []way {
	if at.inOr && slices.Contains(reserved(), m.Name) {
		c.fail(at.path, m.Offset, fmt.Sprintf("%q cannot be the name of a field inside %s", m.Name, orKeyword),
			"name a field, and put the operator into its array")
		return nil
	}
	if len(at.in) == 1 && m.Name != "data" {
		at.attribute = true
		if !c.attributeName(at, m) {
			return nil
		}
	}
	switch m.Value.Kind {
	case jsontree.Array:
		return []way{{{at: at, offset: m.Offset, leaf: c.leaf(at, m.Value)}}}
	case jsontree.Object:
		if at.attribute {
			c.objectUnderAttribute(at, m.Value)
			return nil
		}
		return c.below(at, m.Value)
	}
	c.fail(at.path, m.Value.Offset, "must be an array of alternatives, is "+m.Value.Kind.String(), arrayFix(at, m))
	return nil
}

func (c *compiler) below(at place, object *jsontree.Node) []way {
	if len(object.Members) == 0 {
		c.fail(at.path, object.Offset, "the object is empty", "name a field in it, or leave it out")
	}
	return c.object(at, object)
}

// arrayFix recognises the commonest slip: an operator without its array.
func arrayFix(at place, m jsontree.Member) string {
	if _, ok := alternatives().find(m.Name); ok && !at.attribute {
		return fmt.Sprintf("put the operator into the field's array: [{%q: …}]", m.Name)
	}
	return "write the value in brackets: […]"
}

func (c *compiler) objectUnderAttribute(at place, object *jsontree.Node) {
	fix := "write an array of alternatives; only \"data\" has fields"
	if len(object.Members) > 0 {
		if _, ok := alternatives().find(object.Members[0].Name); ok {
			fix = fmt.Sprintf("put the operator into an array: [{%q: …}]", object.Members[0].Name)
		}
	}
	if at.in[0] == "detail" {
		fix = `write "data", which is what an EventBridge event's detail becomes`
	}
	c.fail(at.path, object.Offset, "is an attribute and has no fields", fix)
}

func (c *compiler) leaf(at place, list *jsontree.Node) *leaf {
	if len(list.Items) == 0 {
		c.fail(at.path, list.Offset, "the array is empty, so nothing would ever fit", "name at least one alternative, or leave the field out")
	}
	l := &leaf{exact: make(map[scalar]struct{})}
	for i, item := range list.Items {
		c.alternative(at.index(i), item, l)
	}
	return l
}

func (c *compiler) alternative(at place, item *jsontree.Node, to *leaf) {
	switch item.Kind {
	case jsontree.Object:
		c.operator(at, item, alternatives(), to)
	case jsontree.Array:
		c.fail(at.path, item.Offset, "an alternative cannot be an array", "name its values in the field's own array")
	default:
		if at.attribute && item.Kind != jsontree.String {
			c.notString(at, item)
			return
		}
		to.equal(scalar{item.Kind, item.Text})
	}
}

// notString refuses a comparison of an attribute with anything but a string.
func (c *compiler) notString(at place, value *jsontree.Node) {
	fix := fmt.Sprintf("write %q", value.Text)
	if value.Kind == jsontree.Null {
		fix = `write {"exists": false} for an attribute that is not there`
	}
	c.fail(at.path, value.Offset, "attributes are strings and never equal "+value.Kind.String(), fix)
}

func (c *compiler) repeated(at place, object *jsontree.Node) {
	for m := range object.Repeated() {
		c.fail(at.inside(m.Name).path, m.Offset, "appears twice in the same object", "merge the two")
	}
}
