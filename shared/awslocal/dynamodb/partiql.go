package dynamodb

import (
	"slices"
	"strings"
)

const (
	maxStatementBytes = 8192
	notWellFormed     = "Statement wasn't well formed, can't be processed: "
	selectWithoutKey  = "Select statements within BatchExecuteStatement must specify the primary key in the where clause."
	whereWithoutKey   = "Where clause does not contain a mandatory equality on all key attributes"
)

type statementKind uint8

const (
	statementSelect statementKind = iota
	statementInsert
	statementUpdate
	statementDelete
)

// statement is a parsed PartiQL statement. It holds no parameters, so that one parse serves every request with the
// same text.
type statement struct {
	kind       statementKind
	tableName  string
	row        *operand   // INSERT
	update     *update    // UPDATE
	where      *condition // all but INSERT
	paths      []path     // SELECT; nil for *
	returning  string     // "", "ALL OLD", "MODIFIED OLD", "ALL NEW", "MODIFIED NEW"
	parameters int
}

func parseStatement(text string) (*statement, error) {
	if text == "" || len(text) > maxStatementBytes {
		return nil, invalid("1 validation error detected: Value at 'statement' failed to satisfy constraint: Member must have length between 1 and %d", maxStatementBytes)
	}
	p := newParser(text, true)
	s := &statement{}
	switch {
	case p.keyword("SELECT"):
		p.selectStatement(s)
	case p.keyword("INSERT", "INTO"):
		p.insertStatement(s)
	case p.keyword("UPDATE"):
		p.updateStatement(s)
	case p.keyword("DELETE", "FROM"):
		s.kind, s.tableName = statementDelete, p.table()
		p.where(s)
		p.returning(s)
	default:
		p.fail(invalid(notWellFormed + "Expected data manipulation"))
	}
	p.expectEnd()
	s.parameters = p.parameters
	return s, p.err
}

func (p *parser) table() string {
	t := p.name()
	if p.symbol(".") {
		p.fail(invalid("the local endpoint does not implement indexes"))
	}
	return t.name
}

func (p *parser) selectStatement(s *statement) {
	s.kind = statementSelect
	if !p.symbol("*") {
		for p.err == nil {
			s.paths = append(s.paths, p.path())
			if !p.symbol(",") {
				break
			}
		}
	}
	p.expectKeyword("FROM")
	s.tableName = p.table()
	p.where(s)
}

func (p *parser) insertStatement(s *statement) {
	s.kind, s.tableName = statementInsert, p.table()
	p.expectKeyword("VALUE")
	if s.row = p.literal(); p.err == nil && (s.row == nil || s.row.kind != operandMap) {
		p.syntaxError()
	}
}

// updateStatement reads UPDATE t SET a = 1, b = 2 SET c = 3 REMOVE d REMOVE e WHERE ….
func (p *parser) updateStatement(s *statement) {
	s.kind, s.tableName, s.update = statementUpdate, p.table(), &update{}
	for p.err == nil {
		kind := actionSet
		if !p.keyword("SET") {
			if !p.keyword("REMOVE") {
				break
			}
			kind = actionRemove
		}
		for p.err == nil {
			s.update.actions = append(s.update.actions, p.action(kind))
			if !p.symbol(",") {
				break
			}
		}
	}
	if len(s.update.actions) == 0 {
		p.syntaxError()
	}
	p.where(s)
	p.returning(s)
}

func (p *parser) where(s *statement) {
	if p.keyword("WHERE") {
		s.where = p.condition()
	}
}

func (p *parser) returning(s *statement) {
	if !p.keyword("RETURNING") {
		return
	}
	for _, r := range []string{"ALL OLD", "MODIFIED OLD", "ALL NEW", "MODIFIED NEW"} {
		which, when, _ := strings.Cut(r, " ")
		if p.keyword(which, when) {
			s.returning = r
			break
		}
	}
	if s.returning == "" {
		p.syntaxError()
	}
	p.expectSymbol("*")
	if s.kind == statementDelete && s.returning != "ALL OLD" {
		p.fail(invalid("Invalid returning clause: RETURNING %s *. Only RETURNING ALL OLD * is allowed in DELETE statements.", s.returning))
	}
}

// literal reads a parameter or a literal; nil, having read nothing, if neither is there.
func (p *parser) literal() *operand {
	if p.err != nil {
		return nil
	}
	p.enter()
	defer p.leave()
	switch t := p.peek(); {
	case t.kind == tokenString:
		p.next()
		return &operand{kind: operandLiteral, value: String(t.text)}
	case t.kind == tokenNumber || p.symbol("-"):
		return p.numberLiteral(t)
	case p.symbol("?"):
		p.parameters++
		return &operand{kind: operandParameter, index: p.parameters - 1}
	case p.symbol("{"):
		return p.mapLiteral()
	case p.symbol("["):
		return p.sequence(operandList, "]")
	case p.symbol("<<"):
		return p.sequence(operandBag, ">>")
	case p.keyword("TRUE"):
		return &operand{kind: operandLiteral, value: Bool(true)}
	case p.keyword("FALSE"):
		return &operand{kind: operandLiteral, value: Bool(false)}
	case p.keyword("NULL"):
		return &operand{kind: operandLiteral, value: Null{}}
	}
	return nil
}

// numberLiteral reads a number; first is its first token, a minus sign (read already) or the number itself.
func (p *parser) numberLiteral(first token) *operand {
	t := p.peek()
	if t.kind != tokenNumber {
		p.syntaxError()
		return nil
	}
	p.next()
	text := t.text
	if first.text == "-" {
		text = "-" + text
	}
	n, err := parseNumber(text)
	p.fail(err)
	return &operand{kind: operandLiteral, value: n}
}

func (p *parser) mapLiteral() *operand {
	o := &operand{kind: operandMap}
	if p.symbol("}") {
		return o
	}
	for p.err == nil {
		name := p.peek()
		if name.kind != tokenString || name.text == "" || slices.Contains(o.names, name.text) {
			p.syntaxError()
			break
		}
		p.next()
		p.expectSymbol(":")
		o.names, o.args = append(o.names, name.text), append(o.args, p.element())
		if !p.symbol(",") {
			p.expectSymbol("}")
			break
		}
	}
	return o
}

func (p *parser) sequence(kind operandKind, closing string) *operand {
	o := &operand{kind: kind}
	if p.symbol(closing) {
		return o
	}
	for p.err == nil {
		o.args = append(o.args, p.element())
		if !p.symbol(",") {
			p.expectSymbol(closing)
			break
		}
	}
	return o
}

func (p *parser) element() *operand {
	o := p.literal()
	if o == nil {
		p.syntaxError()
	}
	return o
}

// splitWhere separates the equalities on the table's key attributes from the other conditions of a WHERE clause.
// ok tells whether every key attribute has exactly one such equality at the top level.
func (s *statement) splitWhere(b *bindings, keys []keyAttribute) (key Item, rest []*condition, ok bool) {
	key, ok = Item{}, true
	var split func(c *condition)
	split = func(c *condition) {
		switch {
		case c == nil:
		case c.op == opAnd:
			split(c.sub[0])
			split(c.sub[1])
		case !isKeyEquality(c, keys):
			rest = append(rest, c)
		default:
			name := c.args[0].path[0].name
			ok = ok && key[name] == nil
			v, err := b.constant(c.args[1])
			ok = ok && err == nil
			key[name] = v
		}
	}
	split(s.where)
	return key, rest, ok && len(key) == len(keys)
}

func isKeyEquality(c *condition, keys []keyAttribute) bool {
	if c.op != opEqual || c.args[0].kind != operandPath || len(c.args[0].path) != 1 {
		return false
	}
	if k := c.args[1].kind; k == operandPath || k == operandSize {
		return false
	}
	return slices.ContainsFunc(keys, func(k keyAttribute) bool { return k.name == c.args[0].path[0].name })
}
