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
		{"cidr", compileCIDR},
		{"equals-ignore-case", only(folded)},
		{"exists", compileExists},
		{"numeric", compileNumeric},
		{"prefix", affix(prefixed, prefixedFolded)},
		{"suffix", affix(suffixed, suffixedFolded)},
		{"wildcard", only(wildcard)},
	}
}

// besides are the operators inside {"anything-but": {…}}.
func besides() table {
	return table{
		{"equals-ignore-case", but(folded)},
		{"prefix", but(nonEmpty(prefixed))},
		{"suffix", but(nonEmpty(suffixed))},
		{"wildcard", but(wildcard)},
	}
}

// only makes an alternative of one condition on strings.
func only(compile textCompiler) func(*compiler, place, *jsontree.Node, *leaf) {
	return func(c *compiler, at place, argument *jsontree.Node, to *leaf) {
		if argument.Kind == jsontree.Array {
			c.fail(at.path, argument.Offset, "needs a string, is an array", "write an alternative for each; only anything-but takes a list")
			return
		}
		if t, ok := compile(c, at, argument); ok {
			to.test(func(s scalar) bool { return s.kind == jsontree.String && t.accepts(s.text) }, t.keys...)
		}
	}
}

// affix takes a string, or {"equals-ignore-case": …}.
func affix(plain, ignoringCase textCompiler) func(*compiler, place, *jsontree.Node, *leaf) {
	return func(c *compiler, at place, argument *jsontree.Node, to *leaf) {
		if argument.Kind == jsontree.Object {
			c.operator(at, argument, table{{"equals-ignore-case", only(ignoringCase)}}, to)
			return
		}
		only(plain)(c, at, argument, to)
	}
}

// but makes an alternative that excludes what the condition accepts, or what any of a list of them does.
func but(compile textCompiler) func(*compiler, place, *jsontree.Node, *leaf) {
	return func(c *compiler, at place, argument *jsontree.Node, to *leaf) {
		values, places := []*jsontree.Node{argument}, []place{at}
		if argument.Kind == jsontree.Array {
			values, places = argument.Items, nil
			for i := range values {
				places = append(places, at.index(i))
			}
			c.emptyList(at, argument)
		}
		var excluded []text
		for i, value := range values {
			if t, ok := compile(c, places[i], value); ok {
				excluded = append(excluded, t)
			}
		}
		to.test(func(s scalar) bool {
			for _, t := range excluded {
				if s.kind == jsontree.String && t.accepts(s.text) {
					return false
				}
			}
			return true
		}, key{kind: present})
	}
}

func compileExists(c *compiler, at place, argument *jsontree.Node, to *leaf) {
	switch {
	case argument.Kind != jsontree.Bool:
		c.fail(at.path, argument.Offset, "needs true or false, is "+argument.Kind.String(), "")
	case argument.Text == "true":
		to.test(func(scalar) bool { return true }, key{kind: present})
	default:
		to.absent = true
	}
}

func compileAnythingBut(c *compiler, at place, argument *jsontree.Node, to *leaf) {
	if argument.Kind == jsontree.Object {
		c.operator(at, argument, besides(), to)
		return
	}
	excluded := make(map[scalar]struct{})
	if argument.Kind == jsontree.Array {
		c.emptyList(at, argument)
		for i, item := range argument.Items {
			c.exclude(at.index(i), item, excluded)
			if item.Kind != argument.Items[0].Kind {
				c.fail(at.index(i).path, item.Offset, "the list mixes strings and numbers", "use one kind of value in a list")
			}
		}
	} else {
		c.exclude(at, argument, excluded)
	}
	to.test(func(s scalar) bool {
		_, hit := excluded[s]
		return !hit
	}, key{kind: present})
}

func (c *compiler) emptyList(at place, list *jsontree.Node) {
	if len(list.Items) == 0 {
		c.fail(at.path, list.Offset, "the list is empty", `name at least one value, or use {"exists": true} for any`)
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

// operator compiles an object that must consist of one operator of the table.
func (c *compiler) operator(at place, n *jsontree.Node, known table, to *leaf) {
	if len(n.Members) != 1 {
		c.fail(at.path, n.Offset, fmt.Sprintf("must hold exactly one operator, holds %d", len(n.Members)),
			"give each operator an object of its own; known here: "+known.names())
	}
	c.repeated(at, n)
	for _, m := range n.Members {
		inner := at.inside(m.Name)
		if o, ok := known.find(m.Name); ok {
			o.compile(c, inner, m.Value, to)
			continue
		}
		c.fail(inner.path, m.Offset, fmt.Sprintf("unknown operator %q", m.Name), "known here: "+known.names())
	}
}
