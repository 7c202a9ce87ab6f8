package dynamodb

import (
	"slices"
	"strconv"
	"strings"
)

const (
	maxExpressionBytes = 4096
	maxOperators       = 300
	maxInOperands      = 100
	maxNesting         = 500 // of parentheses and literals: bounds the parser's recursion
)

// parser reads tokens of an expression or a PartiQL statement. The first problem is kept in err, in AWS's words
// without the prefix that names the expression; parsing after it does nothing harmful.
type parser struct {
	source     string
	tokens     []token
	at         int
	statement  bool // PartiQL
	err        error
	aliases    []string // used: #name
	values     []string // used: :name
	parameters int      // used: ?
	operators  int
	nesting    int
}

func newParser(text string, statement bool) *parser {
	return &parser{source: text, tokens: lex(text, statement), statement: statement}
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != tokenEnd {
		p.at++
	}
	return t
}

// syntaxError refuses the current token.
func (p *parser) syntaxError() {
	t := p.peek()
	if p.statement {
		p.fail(invalid("Statement wasn't well formed, can't be processed: Unexpected token: %s", t.text))
		return
	}
	from := t.from
	if p.at > 0 {
		from = p.tokens[p.at-1].from
	}
	to := t.to
	if p.at+1 < len(p.tokens) {
		to = p.tokens[p.at+1].to
	}
	p.fail(invalid("Syntax error; token: %q, near: %q", t.text, p.source[from:to]))
}

func (p *parser) symbol(s string) bool {
	if t := p.peek(); p.err == nil && t.kind == tokenSymbol && t.text == s {
		p.at++
		return true
	}
	return false
}

func (p *parser) expectSymbol(s string) {
	if !p.symbol(s) {
		p.syntaxError()
	}
}

func (p *parser) keyword(words ...string) bool {
	if p.err != nil || p.at+len(words) > len(p.tokens) {
		return false
	}
	for i, w := range words {
		if t := p.tokens[p.at+i]; t.kind != tokenName || !strings.EqualFold(t.text, w) {
			return false
		}
	}
	p.at += len(words)
	return true
}

func (p *parser) expectKeyword(word string) {
	if !p.keyword(word) {
		p.syntaxError()
	}
}

func (p *parser) expectEnd() {
	if p.err == nil && p.peek().kind != tokenEnd {
		p.syntaxError()
	}
}

// enter and leave count nested brackets.
func (p *parser) enter() {
	if p.nesting++; p.nesting > maxNesting {
		p.fail(invalid("The expression nests more than %d levels deep", maxNesting))
	}
}

func (p *parser) leave() { p.nesting-- }

// term is a part of a condition before it is known whether it is an operand or a condition.
type term struct {
	operand       *operand
	condition     *condition
	parenthesised bool
}

func (p *parser) condition() *condition { return p.conditionOf(p.or()) }

func (p *parser) conditionOf(t term) *condition {
	if p.err == nil && t.condition == nil {
		if t.operand != nil && t.operand.kind == operandSize {
			p.fail(invalid("The function is not allowed to be used this way in an expression; function: size"))
		}
		p.syntaxError()
	}
	return t.condition
}

func (p *parser) operandOf(t term) *operand {
	if p.err == nil && t.operand == nil {
		if c := t.condition; c != nil && c.op >= opExists && !p.statement {
			p.fail(invalid("The function is not allowed to be used this way in an expression; function: %s", c.op))
		}
		p.syntaxError()
	}
	return t.operand
}

func (p *parser) node(op operator, sub []*condition, args []*operand) term {
	if p.operators++; p.operators > maxOperators {
		p.fail(invalid("The expression contains too many operators; the maximum is %d", maxOperators))
	}
	return term{condition: &condition{op: op, sub: sub, args: args}}
}

func (p *parser) or() term {
	left := p.and()
	for p.keyword("OR") {
		left = p.node(opOr, []*condition{p.conditionOf(left), p.conditionOf(p.and())}, nil)
	}
	return left
}

func (p *parser) and() term {
	left := p.not()
	for p.keyword("AND") {
		left = p.node(opAnd, []*condition{p.conditionOf(left), p.conditionOf(p.not())}, nil)
	}
	return left
}

func (p *parser) not() term {
	if p.keyword("NOT") {
		p.enter()
		defer p.leave()
		if p.err != nil {
			return term{}
		}
		return p.node(opNot, []*condition{p.conditionOf(p.not())}, nil)
	}
	return p.comparison()
}

var comparators = map[string]operator{"=": opEqual, "<>": opNotEqual, "!=": opNotEqual, "<": opLess, "<=": opLessOrEqual,
	">": opGreater, ">=": opGreaterOrEqual}

func (p *parser) comparison() term {
	left := p.primary()
	if p.err != nil {
		return left
	}
	if op, ok := comparators[p.peek().text]; ok && p.peek().kind == tokenSymbol {
		p.next()
		return p.node(op, nil, []*operand{p.operandOf(left), p.operandOf(p.primary())})
	}
	switch {
	case p.keyword("BETWEEN"):
		low := p.operandOf(p.primary())
		p.expectKeyword("AND")
		return p.node(opBetween, nil, []*operand{p.operandOf(left), low, p.operandOf(p.primary())})
	case p.keyword("IN"):
		return p.node(opIn, nil, append([]*operand{p.operandOf(left)}, p.inList()...))
	case p.statement && p.keyword("IS"):
		return p.is(left)
	}
	return left
}

// is reads what follows IS: [NOT] MISSING or [NOT] NULL.
func (p *parser) is(left term) term {
	negative := p.keyword("NOT")
	args := []*operand{p.operandOf(left)}
	if p.err == nil && args[0].kind != operandPath {
		p.syntaxError()
	}
	missing := p.keyword("MISSING")
	switch {
	case missing && negative:
		return p.node(opExists, nil, args)
	case missing:
		return p.node(opNotExists, nil, args)
	case p.keyword("NULL"):
		null := p.node(opIsNull, nil, args)
		if negative {
			return p.node(opNot, []*condition{null.condition}, nil)
		}
		return null
	}
	p.syntaxError()
	return term{}
}

// inList reads (a, b, …), in PartiQL also [a, b, …].
func (p *parser) inList() []*operand {
	closing := ")"
	if p.statement && p.symbol("[") {
		closing = "]"
	} else {
		p.expectSymbol("(")
	}
	var list []*operand
	for p.err == nil {
		list = append(list, p.operandOf(p.primary()))
		if !p.symbol(",") {
			p.expectSymbol(closing)
			break
		}
	}
	if len(list) > maxInOperands {
		p.fail(invalid("Maximum length exceeded for the list of the IN operator; the maximum is %d", maxInOperands))
	}
	return list
}

// primary reads a parenthesised term, a function, a placeholder, a literal or a path.
func (p *parser) primary() term {
	if p.err != nil {
		return term{}
	}
	p.enter()
	defer p.leave()
	if p.symbol("(") {
		inner := p.or()
		p.expectSymbol(")")
		if inner.parenthesised && !p.statement {
			p.fail(invalid("The expression has redundant parentheses;"))
		}
		inner.parenthesised = true
		return inner
	}
	if p.peek().kind == tokenName && p.at+1 < len(p.tokens) && p.tokens[p.at+1].text == "(" && p.tokens[p.at+1].kind == tokenSymbol {
		return p.function()
	}
	return term{operand: p.simpleOperand()}
}

// functions gives the operator and the number of operands of those functions that are conditions.
var functions = map[string]struct {
	op       operator
	operands int
}{
	"attribute_exists": {opExists, 1}, "attribute_not_exists": {opNotExists, 1}, "attribute_type": {opType, 2},
	"begins_with": {opBeginsWith, 2}, "contains": {opContains, 2},
}

func (p *parser) function() term {
	name := p.next().text
	known := name
	if p.statement {
		known = strings.ToLower(name)
	}
	f, ok := functions[known]
	if !ok && known != "size" || p.statement && strings.HasSuffix(known, "_exists") {
		p.fail(invalid("Invalid function name; function: %s", name))
		return term{}
	}
	args := p.arguments()
	want := max(f.operands, 1)
	if p.err == nil && len(args) != want {
		p.fail(invalid("Incorrect number of operands for operator or function; operator or function: %s, number of operands: %d", name, len(args)))
	}
	if p.err != nil {
		return term{}
	}
	if want == 1 && known != "size" && args[0].kind != operandPath {
		p.fail(invalid("Operator or function requires a document path; operator or function: %s", name))
	}
	if known == "size" {
		return term{operand: &operand{kind: operandSize, args: args}}
	}
	return p.node(f.op, nil, args)
}

func (p *parser) arguments() []*operand {
	var args []*operand
	p.expectSymbol("(")
	for p.err == nil {
		args = append(args, p.operandOf(p.primary()))
		if !p.symbol(",") {
			p.expectSymbol(")")
			break
		}
	}
	return args
}

// simpleOperand reads a placeholder, a path, or in PartiQL a literal.
func (p *parser) simpleOperand() *operand {
	if p.statement {
		if o := p.literal(); o != nil {
			return o
		}
	} else if t := p.peek(); t.kind == tokenPlaceholder {
		p.next()
		if !slices.Contains(p.values, t.text) {
			p.values = append(p.values, t.text)
		}
		return &operand{kind: operandPlaceholder, name: t.text}
	}
	return &operand{kind: operandPath, path: p.path()}
}

// path reads name[0].name…
func (p *parser) path() path {
	path := path{p.name()}
	for p.err == nil {
		switch {
		case p.symbol("."):
			path = append(path, p.name())
		case p.symbol("["):
			t := p.next()
			index, err := strconv.Atoi(t.text)
			if t.kind != tokenNumber || err != nil || index < 0 {
				p.at--
				p.syntaxError()
			} else if index > 1_000_000 {
				p.fail(invalid("List index is not within the allowable range; index: [%s]", t.text))
			}
			path = append(path, step{index: index})
			p.expectSymbol("]")
		default:
			return path
		}
	}
	return path
}

func (p *parser) name() step {
	t := p.peek()
	switch {
	case t.kind == tokenAlias:
		if !slices.Contains(p.aliases, t.text) {
			p.aliases = append(p.aliases, t.text)
		}
		p.next()
		return step{name: t.text, alias: true}
	case t.kind == tokenQuotedName && t.text != "":
		p.next()
		return step{name: t.text}
	case t.kind != tokenName || p.err != nil:
		p.syntaxError()
	case !isReserved(t.text) && (!p.statement || !statementWords[strings.ToUpper(t.text)]):
		p.next()
		return step{name: t.text}
	case p.statement:
		p.fail(invalid("Statement wasn't well formed, can't be processed: %s is a reserved word and must be quoted: %q", t.text, t.text))
	case slices.Contains([]string{"AND", "OR", "NOT", "IN", "BETWEEN", "SET", "ADD", "DELETE"}, strings.ToUpper(t.text)):
		p.syntaxError()
	default:
		p.fail(invalid("Attribute name is a reserved keyword; reserved keyword: %s", t.text))
	}
	return step{}
}

// expression is a parsed expression of one kind and the placeholders that it uses.
type expression struct {
	condition *condition
	paths     []path
	update    *update
	aliases   []string
	values    []string
}

func parseExpression(text string, read func(p *parser, e *expression)) (*expression, error) {
	if text == "" {
		return nil, invalid("The expression can not be empty;")
	}
	if len(text) > maxExpressionBytes {
		return nil, invalid("Expression size has exceeded the maximum allowed size; expression size: %d", len(text))
	}
	p := newParser(text, false)
	e := &expression{}
	read(p, e)
	p.expectEnd()
	e.aliases, e.values = p.aliases, p.values
	return e, p.err
}

func parseCondition(text string) (*expression, error) {
	return parseExpression(text, func(p *parser, e *expression) { e.condition = p.condition() })
}

func parseProjection(text string) (*expression, error) {
	return parseExpression(text, func(p *parser, e *expression) {
		for p.err == nil {
			e.paths = append(e.paths, p.path())
			if !p.symbol(",") {
				return
			}
		}
	})
}

func parseUpdate(text string) (*expression, error) {
	return parseExpression(text, func(p *parser, e *expression) { e.update = p.updateExpression() })
}
