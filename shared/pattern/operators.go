package pattern

import (
	"fmt"
	"strings"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

// operator is one row of the language. compile adds the alternative to the leaf or reports a problem at the argument's
// path.
type operator struct {
	name    string
	compile func(c *compiler, at place, argument *jsontree.Node, to *leaf)
}

// table is the operators known in one position of the language.
type table []operator

// names lists the known operators for a refusal.
func (t table) names() string {
	if len(t) == 0 {
		return "none"
	}
	names := make([]string, len(t))
	for i, o := range t {
		names[i] = o.name
	}
	return strings.Join(names, ", ")
}

func (t table) find(name string) (operator, bool) {
	for _, o := range t {
		if o.name == name {
			return o, true
		}
	}
	return operator{}, false
}

// The tables are functions, so that an operator may contain a table that contains it.

// alternatives are the operators of a field's array: "type": [{"prefix": "order."}].
func alternatives() table {
	return table{
		{"anything-but", compileAnythingBut},
		{"exists", compileExists},
		{"prefix", compilePrefix},
		{"suffix", compileSuffix},
	}
}

// besides are the operators inside {"anything-but": {…}}.
func besides() table { return nil }

// affixes are the operators inside {"prefix": {…}} and {"suffix": {…}}.
func affixes() table { return nil }

// combinations are the operators that stand where a field's name would.
func combinations() table { return nil }

func compilePrefix(c *compiler, at place, argument *jsontree.Node, to *leaf) {
	if prefix, ok := c.affix(at, argument, to); ok {
		to.tests = append(to.tests, func(s scalar) bool {
			return s.kind == jsontree.String && strings.HasPrefix(s.text, prefix)
		})
	}
}

func compileSuffix(c *compiler, at place, argument *jsontree.Node, to *leaf) {
	if suffix, ok := c.affix(at, argument, to); ok {
		to.tests = append(to.tests, func(s scalar) bool {
			return s.kind == jsontree.String && strings.HasSuffix(s.text, suffix)
		})
	}
}

func (c *compiler) affix(at place, argument *jsontree.Node, to *leaf) (string, bool) {
	switch argument.Kind {
	case jsontree.String:
		return argument.Text, true
	case jsontree.Object:
		c.operator(at, argument, affixes(), to)
	default:
		c.fail(at.path, argument.Offset, "needs a string, is "+argument.Kind.String(), "")
	}
	return "", false
}

func compileExists(c *compiler, at place, argument *jsontree.Node, to *leaf) {
	switch {
	case argument.Kind != jsontree.Bool:
		c.fail(at.path, argument.Offset, "needs true or false, is "+argument.Kind.String(), "")
	case argument.Text == "true":
		to.tests = append(to.tests, func(scalar) bool { return true })
	default:
		to.absent = true
	}
}

func compileAnythingBut(c *compiler, at place, argument *jsontree.Node, to *leaf) {
	switch argument.Kind {
	case jsontree.Object:
		c.operator(at, argument, besides(), to)
		return
	case jsontree.Array:
		if len(argument.Items) == 0 {
			c.fail(at.path, argument.Offset, "the list is empty", `name at least one value, or use {"exists": true} for any`)
			return
		}
		excluded := make(map[scalar]struct{}, len(argument.Items))
		for i, item := range argument.Items {
			c.exclude(at.index(i), item, excluded)
			if item.Kind != argument.Items[0].Kind {
				c.fail(at.index(i).path, item.Offset, "the list mixes strings and numbers", "use one kind of value in a list")
			}
		}
		to.exclude(excluded)
	default:
		excluded := make(map[scalar]struct{}, 1)
		c.exclude(at, argument, excluded)
		to.exclude(excluded)
	}
}

func (c *compiler) exclude(at place, value *jsontree.Node, excluded map[scalar]struct{}) {
	switch {
	case value.Kind != jsontree.String && value.Kind != jsontree.Number:
		c.fail(at.path, value.Offset, "needs a string, a number or a list of one of them, is "+value.Kind.String(), "")
	case at.attribute && value.Kind == jsontree.Number:
		c.notString(at, value)
	default:
		excluded[scalar{value.Kind, value.Text}] = struct{}{}
	}
}

func (l *leaf) exclude(excluded map[scalar]struct{}) {
	l.tests = append(l.tests, func(s scalar) bool {
		_, hit := excluded[s]
		return !hit
	})
}

// operator compiles an object that must consist of one operator of the table.
func (c *compiler) operator(at place, n *jsontree.Node, known table, to *leaf) {
	if len(n.Members) != 1 {
		c.fail(at.path, n.Offset, fmt.Sprintf("must hold exactly one operator, holds %d", len(n.Members)),
			"give each operator an object of its own; known here: "+known.names())
	}
	c.repeated(at, n)
	for _, m := range n.Members {
		inner := at.field(m.Name)
		if o, ok := known.find(m.Name); ok {
			o.compile(c, inner, m.Value, to)
			continue
		}
		c.unknown(inner, m, known)
	}
}

func (c *compiler) unknown(at place, m jsontree.Member, known table) {
	c.fail(at.path, m.Offset, fmt.Sprintf("unknown operator %q", m.Name), "known here: "+known.names())
}
