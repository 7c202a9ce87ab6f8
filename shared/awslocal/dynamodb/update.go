package dynamodb

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

type actionKind uint8

const (
	actionSet actionKind = iota
	actionAdd
	actionDelete
	actionRemove
)

var actionNames = [...]string{"SET", "ADD", "DELETE", "REMOVE"}

type action struct {
	kind  actionKind
	path  path
	value *operand // nil for REMOVE
}

// update is a parsed UpdateExpression, or the SET and REMOVE clauses of a PartiQL UPDATE.
type update struct{ actions []action }

func (u *update) paths() []path {
	paths := make([]path, len(u.actions))
	for i, a := range u.actions {
		paths[i] = a.path
	}
	return paths
}

func (p *parser) updateExpression() *update {
	u := &update{}
	seen := map[actionKind]bool{}
	for p.err == nil && (len(u.actions) == 0 || p.peek().kind != tokenEnd) {
		kind := slices.IndexFunc(actionNames[:], func(name string) bool { return p.keyword(name) })
		if kind < 0 {
			p.syntaxError()
			break
		}
		if seen[actionKind(kind)] {
			p.fail(invalid("The %q section can only be used once in an update expression;", actionNames[kind]))
		}
		seen[actionKind(kind)] = true
		for p.err == nil {
			u.actions = append(u.actions, p.action(actionKind(kind)))
			if !p.symbol(",") {
				break
			}
		}
	}
	if len(u.actions) > maxOperators {
		p.fail(invalid("The expression contains too many operators; the maximum is %d", maxOperators))
	}
	return u
}

func (p *parser) action(kind actionKind) action {
	a := action{kind: kind, path: p.path()}
	switch kind {
	case actionSet:
		p.expectSymbol("=")
		a.value = p.sum()
	case actionAdd, actionDelete:
		if p.peek().kind != tokenPlaceholder {
			p.syntaxError()
			break
		}
		a.value = p.simpleOperand()
	}
	return a
}

// sum reads the right side of SET: an operand, or two with + or - between them.
func (p *parser) sum() *operand {
	left := p.setOperand()
	switch {
	case p.symbol("+"):
		return &operand{kind: operandPlus, args: []*operand{left, p.setOperand()}}
	case p.symbol("-"):
		return &operand{kind: operandMinus, args: []*operand{left, p.setOperand()}}
	}
	return left
}

var setFunctions = map[string]operandKind{"if_not_exists": operandIfNotExists, "list_append": operandListAppend}

var statementSetFunctions = map[string]operandKind{"list_append": operandListAppend, "set_add": operandSetAdd, "set_delete": operandSetDelete}

func (p *parser) setOperand() *operand {
	if p.err != nil {
		return &operand{}
	}
	p.enter()
	defer p.leave()
	if p.symbol("(") {
		o := p.sum()
		p.expectSymbol(")")
		return o
	}
	if p.peek().kind != tokenName || p.tokens[p.at+1].kind != tokenSymbol || p.tokens[p.at+1].text != "(" {
		return p.simpleOperand()
	}
	name := p.next().text
	kind, ok := setFunctions[name]
	if p.statement {
		kind, ok = statementSetFunctions[strings.ToLower(name)]
	}
	if !ok {
		p.fail(invalid("Invalid function name; function: %s", name))
		return &operand{}
	}
	o := &operand{kind: kind}
	p.expectSymbol("(")
	for p.err == nil {
		o.args = append(o.args, p.setOperand())
		if !p.symbol(",") {
			p.expectSymbol(")")
			break
		}
	}
	switch {
	case p.err != nil:
	case len(o.args) != 2:
		p.fail(invalid("Incorrect number of operands for operator or function; operator or function: %s, number of operands: %d", name, len(o.args)))
	case kind != operandListAppend && o.args[0].kind != operandPath:
		p.fail(invalid("Operator or function requires a document path; operator or function: %s", name))
	}
	return o
}

// check refuses what DynamoDB refuses about an update before it looks at the item.
func (u *update) check(b *bindings) error {
	for _, a := range u.actions {
		if err := a.checkOperand(b); err != nil {
			return err
		}
	}
	return checkOverlap(b, u.paths())
}

var longKinds = map[string]string{"S": "STRING", "N": "NUMBER", "B": "BINARY", "NULL": "NULL", "BOOL": "BOOLEAN", "L": "LIST", "M": "MAP"}

func (a action) checkOperand(b *bindings) error {
	if a.value == nil {
		return nil
	}
	if a.kind != actionSet {
		v := b.values[a.value.name]
		_, isNumber := v.(Number)
		if name, wrong := longKinds[v.kind()]; wrong && (a.kind != actionAdd || !isNumber) {
			return invalid("Incorrect operand type for operator or function; operator: %s, operand type: %s", actionNames[a.kind], name)
		}
		return nil
	}
	var problem error
	a.value.walk(func(o *operand) {
		var want, name string
		switch o.kind {
		case operandPlus:
			want, name = "N", "+"
		case operandMinus:
			want, name = "N", "-"
		case operandListAppend:
			want, name = "L", "list_append"
		default:
			return
		}
		for _, arg := range o.args {
			if v, err := b.constant(arg); problem == nil && err == nil && v.kind() != want {
				problem = invalid("Incorrect operand type for operator or function; operator or function: %s, operand type: %s", name, v.kind())
			}
		}
	})
	return problem
}

const (
	wrongOperand  = "An operand in the update expression has an incorrect data type"
	noSuchOperand = "The provided expression refers to an attribute that does not exist in the item"
	noSuchPath    = "The document path provided in the update expression is invalid for update"
)

// change is an action with its operand evaluated.
type change struct {
	kind  actionKind
	path  path
	value Value
}

// apply gives the item after the update; the old one stays as it is. All operands are taken from the old item,
// and list indices mean the old positions, whatever the order of the actions.
func (u *update) apply(b *bindings, old Item) (Item, error) {
	item := maps.Clone(old)
	if item == nil {
		item = Item{}
	}
	changes := make([]change, len(u.actions))
	for i, a := range u.actions {
		changes[i] = change{kind: a.kind, path: a.path}
		if a.value != nil {
			v, err := b.operand(a.value, old)
			if err != nil {
				return nil, err
			}
			changes[i].value = v
		}
	}
	// What makes lists longer goes first and upwards, what makes them shorter goes last and downwards.
	slices.SortStableFunc(changes, func(c, d change) int {
		if c.shrinks() != d.shrinks() {
			return cmp.Compare(boolOrder(c.shrinks()), boolOrder(d.shrinks()))
		}
		order := comparePaths(b, c.path, d.path)
		if c.shrinks() {
			return -order
		}
		return order
	})
	for _, c := range changes {
		name := b.nameOf(c.path[0])
		v, err := c.at(b, item[name], c.path[1:])
		if err != nil {
			return nil, err
		}
		if v == nil {
			delete(item, name)
		} else {
			item[name] = v
		}
	}
	return item, nil
}

func (c change) shrinks() bool { return c.kind == actionDelete || c.kind == actionRemove }

func boolOrder(b bool) int {
	if b {
		return 1
	}
	return 0
}

func comparePaths(b *bindings, p, q path) int {
	return slices.CompareFunc(p, q, func(s, t step) int {
		return cmp.Or(cmp.Compare(s.index, t.index), cmp.Compare(b.nameOf(s), b.nameOf(t)))
	})
}

// at gives what the value v becomes when the change is applied at the path below it; nil for nothing at all.
func (c change) at(b *bindings, v Value, below path) (Value, error) {
	if len(below) == 0 {
		return c.apply(v)
	}
	switch parent := v.(type) {
	case Map:
		if below[0].name == "" {
			break
		}
		name := b.nameOf(below[0])
		child, err := c.at(b, parent[name], below[1:])
		if err != nil {
			return nil, err
		}
		copied := maps.Clone(parent)
		if child == nil {
			delete(copied, name)
		} else {
			copied[name] = child
		}
		return copied, nil
	case List:
		if below[0].name != "" {
			break
		}
		index := min(below[0].index, len(parent))
		var old Value
		if index < len(parent) {
			old = parent[index]
		}
		child, err := c.at(b, old, below[1:])
		if err != nil {
			return nil, err
		}
		after := index
		if old != nil {
			after++
		}
		copied := append(List{}, parent[:index]...)
		if child != nil {
			copied = append(copied, child)
		}
		return append(copied, parent[after:]...), nil
	}
	return nil, invalid(noSuchPath)
}

// apply gives what the value old becomes; nil for nothing.
func (c change) apply(old Value) (Value, error) {
	switch {
	case c.kind == actionRemove:
		return nil, nil
	case c.kind == actionSet || c.kind == actionAdd && old == nil:
		return c.value, nil
	case old == nil:
		return nil, nil
	case c.kind == actionAdd && old.kind() == "N" && c.value.kind() == "N":
		return old.(Number).plus(c.value.(Number))
	}
	return combineSets(old, c.value, c.kind == actionAdd)
}

// combineSets gives the union of two sets, or the first without the second; nil if nothing is left.
func combineSets(v, w Value, union bool) (Value, error) {
	left, ok := v.(Set)
	right, alsoOK := w.(Set)
	if !ok || !alsoOK || left.kind() != right.kind() {
		return nil, invalid(wrongOperand)
	}
	result := slices.Clone(left)
	if !union {
		result = slices.DeleteFunc(result, func(e Value) bool { return slices.Contains(right, e) })
	}
	for _, e := range right {
		if union && !slices.Contains(left, e) {
			result = append(result, e)
		}
	}
	if len(result) == 0 {
		return nil, nil
	}
	return result, nil
}

// operand evaluates the right side of an action against the old item.
func (b *bindings) operand(o *operand, item Item) (Value, error) {
	switch o.kind {
	case operandPath:
		if v := b.lookup(o.path, item); v != nil {
			return v, nil
		}
		return nil, invalid(noSuchOperand)
	case operandIfNotExists:
		if v := b.lookup(o.args[0].path, item); v != nil {
			return v, nil
		}
		return b.operand(o.args[1], item)
	case operandPlus, operandMinus, operandListAppend, operandSetAdd, operandSetDelete:
		left, err := b.operand(o.args[0], item)
		if err != nil {
			return nil, err
		}
		right, err := b.operand(o.args[1], item)
		if err != nil {
			return nil, err
		}
		return combineOperands(o.kind, left, right)
	}
	return b.constant(o)
}

func combineOperands(kind operandKind, left, right Value) (Value, error) {
	switch kind {
	case operandListAppend:
		l, ok := left.(List)
		r, alsoOK := right.(List)
		if ok && alsoOK {
			return slices.Concat(l, r), nil
		}
	case operandSetAdd, operandSetDelete:
		return combineSets(left, right, kind == operandSetAdd)
	default:
		l, ok := left.(Number)
		r, alsoOK := right.(Number)
		if kind == operandMinus {
			r = r.negated()
		}
		if ok && alsoOK {
			return l.plus(r)
		}
	}
	return nil, invalid(wrongOperand)
}
