package dynamodb

import (
	"slices"
	"strconv"
	"strings"
)

// step is one part of a document path: an attribute name, an alias of one (#name), or a list index.
type step struct {
	name  string // "" for an index
	alias bool
	index int
}

type path []step

type operandKind uint8

const (
	operandPath        operandKind = iota
	operandPlaceholder             // :name
	operandParameter               // ?
	operandLiteral
	operandMap  // {'a': …}
	operandList // […]
	operandBag  // <<…>>
	operandSize
	operandIfNotExists
	operandListAppend
	operandSetAdd
	operandSetDelete
	operandPlus
	operandMinus
)

// operand is something that has a value, or none where a path leads nowhere.
type operand struct {
	kind  operandKind
	path  path
	name  string   // of a placeholder
	index int      // of a parameter
	value Value    // of a literal
	names []string // of the members of a map
	args  []*operand
}

type operator uint8

const (
	opAnd operator = iota
	opOr
	opNot
	opEqual
	opNotEqual
	opLess
	opLessOrEqual
	opGreater
	opGreaterOrEqual
	opBetween
	opIn
	opExists
	opNotExists
	opIsNull
	opType
	opBeginsWith
	opContains
)

var operatorNames = [...]string{"AND", "OR", "NOT", "=", "<>", "<", "<=", ">", ">=", "BETWEEN", "IN", "attribute_exists",
	"attribute_not_exists", "IS NULL", "attribute_type", "begins_with", "contains"}

func (o operator) String() string { return operatorNames[o] }

// condition is a node of a parsed ConditionExpression, FilterExpression, KeyConditionExpression or WHERE clause.
// It holds no values and no resolved aliases, so that one parse serves every request with the same text.
type condition struct {
	op   operator
	sub  []*condition // of AND, OR, NOT
	args []*operand   // of all others
}

// bindings are what one request binds the placeholders of its expressions to.
type bindings struct {
	names      map[string]string
	values     map[string]Value
	parameters []Value
}

func (b *bindings) nameOf(s step) string {
	if s.alias {
		return b.names[s.name]
	}
	return s.name
}

// lookup follows a path from an item; nil where it leads nowhere.
func (b *bindings) lookup(p path, item Item) Value {
	v := item[b.nameOf(p[0])]
	for _, s := range p[1:] {
		switch parent := v.(type) {
		case Map:
			if s.name == "" {
				return nil
			}
			v = parent[b.nameOf(s)]
		case List:
			if s.name != "" || s.index >= len(parent) {
				return nil
			}
			v = parent[s.index]
		default:
			return nil
		}
	}
	return v
}

// evaluate gives the value of an operand of a condition; nil where it has none.
func (b *bindings) evaluate(o *operand, item Item) Value {
	if o.kind == operandPath {
		return b.lookup(o.path, item)
	}
	if o.kind == operandSize {
		if n, ok := sizeOf(b.evaluate(o.args[0], item)); ok {
			return n
		}
		return nil
	}
	v, _ := b.constant(o)
	return v
}

// constant gives the value of an operand that depends on no item. It fails on values that DynamoDB cannot hold, such
// as an empty set.
func (b *bindings) constant(o *operand) (Value, error) {
	switch o.kind {
	case operandPlaceholder:
		return b.values[o.name], nil
	case operandParameter:
		return b.parameters[o.index], nil
	case operandLiteral:
		return o.value, nil
	case operandMap:
		m := Map{}
		for i, arg := range o.args {
			v, err := b.constant(arg)
			if err != nil {
				return nil, err
			}
			m[o.names[i]] = v
		}
		return m, nil
	case operandList, operandBag:
		list := make(List, len(o.args))
		for i, arg := range o.args {
			v, err := b.constant(arg)
			if err != nil {
				return nil, err
			}
			list[i] = v
		}
		if o.kind == operandBag {
			return newSet(list)
		}
		return list, nil
	}
	return nil, invalid("an operand refers to an item where only a constant is allowed")
}

// sizeOf is the function size: bytes of a string or binary, elements of a collection.
func sizeOf(v Value) (Number, bool) {
	var n int
	switch v := v.(type) {
	case String:
		n = len(v)
	case Binary:
		n = len(v)
	case List:
		n = len(v)
	case Map:
		n = len(v)
	case Set:
		n = len(v)
	default:
		return Number{}, false
	}
	number, err := parseNumber(strconv.Itoa(n))
	return number, err == nil
}

// holds evaluates the condition for an item; an empty item stands for one that does not exist.
func (c *condition) holds(b *bindings, item Item) bool {
	switch c.op {
	case opAnd:
		return c.sub[0].holds(b, item) && c.sub[1].holds(b, item)
	case opOr:
		return c.sub[0].holds(b, item) || c.sub[1].holds(b, item)
	case opNot:
		return !c.sub[0].holds(b, item)
	}
	v := b.evaluate(c.args[0], item)
	switch c.op {
	case opExists:
		return v != nil
	case opNotExists:
		return v == nil
	case opIsNull:
		_, null := v.(Null)
		return null
	case opIn:
		return slices.ContainsFunc(c.args[1:], func(o *operand) bool { return same(v, b.evaluate(o, item)) })
	case opBetween:
		low, high := b.evaluate(c.args[1], item), b.evaluate(c.args[2], item)
		return ordered(opGreaterOrEqual, v, low) && ordered(opLessOrEqual, v, high)
	}
	w := b.evaluate(c.args[1], item)
	switch c.op {
	case opEqual:
		return same(v, w)
	case opNotEqual: // an attribute that is not there differs from everything
		return !same(v, w)
	case opType:
		return v != nil && w != nil && String(v.kind()).equal(w)
	case opBeginsWith:
		return beginsWith(v, w)
	case opContains:
		return contains(v, w)
	}
	return ordered(c.op, v, w)
}

func same(v, w Value) bool { return v != nil && w != nil && v.equal(w) }

func ordered(op operator, v, w Value) bool {
	if v == nil || w == nil {
		return false
	}
	order, ok := v.compare(w)
	switch op {
	case opLess:
		return ok && order < 0
	case opLessOrEqual:
		return ok && order <= 0
	case opGreater:
		return ok && order > 0
	}
	return ok && order >= 0
}

func beginsWith(v, w Value) bool {
	switch v := v.(type) {
	case String:
		prefix, ok := w.(String)
		return ok && strings.HasPrefix(string(v), string(prefix))
	case Binary:
		prefix, ok := w.(Binary)
		return ok && strings.HasPrefix(string(v), string(prefix))
	}
	return false
}

// contains finds a part of a string or binary, or an element of a set or list.
func contains(v, w Value) bool {
	switch v := v.(type) {
	case String:
		part, ok := w.(String)
		return ok && strings.Contains(string(v), string(part))
	case Binary:
		part, ok := w.(Binary)
		return ok && strings.Contains(string(v), string(part))
	case Set:
		return slices.Contains(v, w)
	case List:
		return w != nil && slices.ContainsFunc(v, w.equal)
	}
	return false
}

// walk visits every condition below c that has operands.
func (c *condition) walk(visit func(*condition)) {
	if c == nil {
		return
	}
	if len(c.sub) == 0 {
		visit(c)
	}
	for _, sub := range c.sub {
		sub.walk(visit)
	}
}

// walk visits the operand and everything in it.
func (o *operand) walk(visit func(*operand)) {
	visit(o)
	for _, arg := range o.args {
		arg.walk(visit)
	}
}

// text gives a path the way AWS's messages do: [a, [0], b].
func (p path) text(b *bindings) string {
	parts := make([]string, len(p))
	for i, s := range p {
		if parts[i] = b.nameOf(s); s.name == "" {
			parts[i] = "[" + strconv.Itoa(s.index) + "]"
		}
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// checkOverlap refuses two paths of which one leads to or into what the other leads to.
func checkOverlap(b *bindings, paths []path) error {
	for i, p := range paths {
		for _, q := range paths[:i] {
			if problem := relation(b, q, p); problem != "" {
				return invalid("Two document paths %s with each other; must remove or rewrite one of these paths; path one: %s, path two: %s",
					problem, q.text(b), p.text(b))
			}
		}
	}
	return nil
}

func relation(b *bindings, p, q path) string {
	for i := range min(len(p), len(q)) {
		switch {
		case (p[i].name == "") != (q[i].name == ""):
			return "conflict"
		case p[i].index != q[i].index || b.nameOf(p[i]) != b.nameOf(q[i]):
			return ""
		}
	}
	return "overlap"
}

// checkOperands refuses what DynamoDB refuses about operands before it looks at any item.
func (c *condition) checkOperands(b *bindings) error {
	var problem error
	c.walk(func(c *condition) {
		if problem == nil {
			problem = c.checkOwnOperands(b)
		}
	})
	return problem
}

func (c *condition) checkOwnOperands(b *bindings) error {
	bound := func(i int) Value { // what is known before any item is: nil for paths and functions
		if k := c.args[i].kind; k == operandPath || k == operandSize {
			return nil
		}
		v, _ := b.constant(c.args[i])
		return v
	}
	wrongType := func(name string, v Value) error {
		return invalid("Incorrect operand type for operator or function; operator or function: %s, operand type: %s", name, v.kind())
	}
	for _, arg := range c.args {
		if arg.kind == operandSize {
			switch v := b.evaluate(arg.args[0], nil).(type) {
			case Number, Bool, Null:
				return wrongType("size", v)
			}
		}
		if arg.kind > operandLiteral && arg.kind < operandSize {
			if _, err := b.constant(arg); err != nil {
				return err
			}
		}
	}
	if len(c.args) == 2 && c.args[0].kind == operandPath && c.args[1].kind == operandPath &&
		len(c.args[0].path) == len(c.args[1].path) && relation(b, c.args[0].path, c.args[1].path) == "overlap" {
		return invalid("The first operand must be distinct from the remaining operands for this operator or function; operator: %s, first operand: %s",
			c.op, c.args[0].path.text(b))
	}
	switch c.op {
	case opLess, opLessOrEqual, opGreater, opGreaterOrEqual, opBetween:
		for i := range c.args {
			if v := bound(i); v != nil && !isScalar(v) {
				return wrongType(c.op.String(), v)
			}
		}
	case opBeginsWith:
		for i := range c.args {
			if v := bound(i); v != nil && v.kind() != "S" && v.kind() != "B" {
				return wrongType(c.op.String(), v)
			}
		}
	case opType:
		return checkTypeName(bound(1))
	}
	if c.op == opBetween {
		return checkBounds(bound(1), bound(2))
	}
	return nil
}

func checkTypeName(v Value) error {
	name, ok := v.(String)
	if !ok {
		actual := "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}"
		if v != nil {
			actual = v.kind()
		}
		return invalid("Incorrect operand type for operator or function; operator or function: attribute_type, operand type: %s", actual)
	}
	if !slices.Contains([]String{"S", "N", "B", "NULL", "SS", "BOOL", "L", "BS", "NS", "M"}, name) {
		return invalid("Invalid attribute type name found; type: %s, valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}", name)
	}
	return nil
}

func checkBounds(low, high Value) error {
	if low == nil || high == nil {
		return nil
	}
	problem := ""
	if order, ok := low.compare(high); !ok {
		problem = "same data type for lower and upper bounds"
	} else if order > 0 {
		problem = "upper bound to be greater than or equal to lower bound"
	}
	if problem == "" {
		return nil
	}
	text := func(v Value) string {
		return "AttributeValue: {" + v.kind() + ":" + strings.Trim(string(v.appendJSON(nil)), `"`) + "}"
	}
	return invalid("The BETWEEN operator requires %s; lower bound operand: %s, upper bound operand: %s", problem, text(low), text(high))
}
