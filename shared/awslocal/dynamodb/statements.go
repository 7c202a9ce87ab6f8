package dynamodb

import (
	"context"
	"slices"
	"strings"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

const maxStatements = 25

// prepared is a statement with its parameters, ready to run.
type prepared struct {
	*statement
	table    *table
	request  *request
	bindings *bindings
	key      Item
	item     Item         // INSERT
	rest     []*condition // the conditions besides the key
}

func (s *Service) prepareStatement(ctx context.Context, r *request) (*prepared, error) {
	parsed, err := s.statements.get(r.statement, parseStatement)
	if err != nil {
		return nil, err
	}
	if refused := wire.Authorize(ctx, partiqlActions[parsed.kind], ARN(parsed.tableName)); refused != nil {
		return nil, refused
	}
	if parsed.parameters != len(r.parameters) {
		return nil, invalid("Number of parameters in request and statement don't match.")
	}
	p := &prepared{statement: parsed, request: r, bindings: &bindings{parameters: r.parameters}}
	if p.table, err = s.table(parsed.tableName); err != nil {
		return nil, err
	}
	if parsed.kind == statementInsert {
		return p, p.prepareInsert()
	}
	var whole bool
	if p.key, p.rest, whole = parsed.splitWhere(p.bindings, p.table.keys); !whole {
		if parsed.kind == statementSelect {
			return nil, invalid(selectWithoutKey)
		}
		return nil, invalid(whereWithoutKey)
	}
	if err := p.table.checkKey(p.key); err != nil {
		return nil, err
	}
	for _, c := range p.rest {
		if err := c.checkOperands(p.bindings); err != nil {
			return nil, err
		}
		if err := p.table.checkConditionPaths(p.bindings, c); err != nil {
			return nil, err
		}
	}
	if parsed.kind == statementUpdate {
		if err := parsed.update.check(p.bindings); err != nil {
			return nil, err
		}
		return p, p.table.checkUpdate(p.bindings, parsed.update)
	}
	return p, p.table.checkPaths(p.bindings, parsed.paths)
}

func (p *prepared) prepareInsert() error {
	v, err := p.bindings.constant(p.row)
	if err != nil {
		return err
	}
	p.item = Item(v.(Map))
	if depthOf(v)-1 > maxDepth {
		return invalid(tooDeep)
	}
	p.key = p.table.keyOf(p.item)
	return p.table.checkItem(p.item, p.item.size())
}

// run executes the statement. The item is what it answers, if anything.
func (p *prepared) run() (Item, wire.Units, error) {
	if p.kind == statementSelect {
		item, units := p.table.read(p.key, p.request.consistent)
		if item != nil && !p.restHolds(item) {
			item = nil
		}
		return p.selected(item), wire.Units{Read: units}, nil
	}
	m := mutation{key: p.key}
	switch p.kind {
	case statementInsert:
		m.condition = func(old Item) bool { return old == nil }
		m.next = func(Item) (Item, error) { return p.item, nil }
	case statementUpdate: // never creates an item
		m.condition = func(old Item) bool { return old != nil && p.restHolds(old) }
		m.next = func(old Item) (Item, error) { return p.table.updated(p.bindings, p.update, p.key, old) }
	case statementDelete: // of what is not there succeeds, whatever the conditions
		m.condition = func(old Item) bool { return old == nil || p.restHolds(old) }
		m.next = func(Item) (Item, error) { return nil, nil }
	}
	result, err := p.table.mutate(m)
	if err != nil {
		return nil, wire.Units{}, err
	}
	consumed := wire.Units{Write: result.units}
	if result.refused && p.kind == statementInsert {
		refusal := wire.Errorf("DuplicateItemException", "Duplicate primary key exists in table")
		refusal.Units = consumed
		return nil, consumed, refusal
	}
	if result.refused {
		return nil, consumed, p.request.conditionFailure(result)
	}
	return p.returned(result), consumed, nil
}

func (p *prepared) restHolds(item Item) bool {
	return !slices.ContainsFunc(p.rest, func(c *condition) bool { return !c.holds(p.bindings, item) })
}

// selected gives the columns of a SELECT: each under the last name of its path.
func (p *prepared) selected(item Item) Item {
	if item == nil || p.paths == nil {
		return item
	}
	columns := Item{}
	for _, path := range p.paths {
		name := path[0].name
		for _, s := range path {
			if s.name != "" {
				name = s.name
			}
		}
		if v := p.bindings.lookup(path, item); v != nil {
			columns[name] = v
		}
	}
	return columns
}

// returned gives what RETURNING asks for; nil if that is nothing.
func (p *prepared) returned(result outcome) Item {
	item := result.new
	if strings.HasSuffix(p.returning, "OLD") {
		item = result.old
	}
	switch {
	case p.returning == "" || item == nil:
		return nil
	case strings.HasPrefix(p.returning, "MODIFIED"):
		return project(p.bindings, p.update.paths(), item)
	}
	return item
}

func (s *Service) executeStatement(r *request) (wire.Response, error) {
	p, err := s.prepareStatement(r.ctx, r)
	if err != nil {
		return wire.Response{}, err
	}
	item, consumed, err := p.run()
	if err != nil {
		return wire.Response{}, err
	}
	items := []Item{}
	if item != nil {
		items = append(items, item)
	}
	var a answer
	a.member("Items").items(items)
	a.capacity(r.capacity, p.table.name, consumed)
	return wire.Response{Body: a.bytes(), Units: consumed}, nil
}

// batchExecuteStatement runs its statements one after another, each on its own: the call succeeds even if all of
// them fail. Whether reads and writes are mixed, or two statements name one item, is found before any runs.
func (s *Service) batchExecuteStatement(r *request) (wire.Response, error) {
	if n := len(r.members); n == 0 || n > maxStatements {
		return wire.Response{}, invalid("1 validation error detected: Value at 'statements' failed to satisfy constraint: Member must have length between 1 and %d", maxStatements)
	}
	statements := make([]*prepared, len(r.members))
	failures := make([]error, len(r.members))
	var keys []string
	reads, writes := false, false
	for i, m := range r.members {
		p, err := s.prepareStatement(r.ctx, m)
		if failures[i] = err; err != nil {
			continue
		}
		statements[i] = p
		keys = append(keys, p.table.name+"/"+p.table.rowKey(p.key))
		reads, writes = reads || p.kind == statementSelect, writes || p.kind != statementSelect
	}
	if reads && writes {
		return wire.Response{}, invalid("A batch must hold either only read statements or only write statements")
	}
	if slices.Sort(keys); hasDuplicates(keys) {
		return wire.Response{}, invalid(duplicateInKeys)
	}
	var total wire.Units
	var responses, capacities []byte
	for i, p := range statements {
		var one answer
		if p != nil {
			item, consumed, err := p.run()
			total, failures[i] = total.Add(consumed), err
			capacities = appendCapacity(append(capacities, ','), r.capacity, p.table.name, consumed)
			if one.member("TableName").text(p.table.name); item != nil {
				one.member("Item").item(item)
			}
		}
		if failures[i] != nil {
			one.failure(asRefusal(failures[i]))
		}
		responses = append(append(responses, ','), one.bytes()...)
	}
	var a answer
	a.member("Responses").raw([]byte("["))
	a.raw(append(responses[1:], ']'))
	if len(capacities) > 0 && (r.capacity == "TOTAL" || r.capacity == "INDEXES") {
		a.member("ConsumedCapacity").raw([]byte("["))
		a.raw(append(capacities[1:], ']'))
	}
	return wire.Response{Body: a.bytes(), Units: total}, nil
}

// failure writes the Error of one statement, whose code has another form than that of a whole call.
func (a *answer) failure(refusal *wire.Error) {
	code := strings.TrimSuffix(refusal.Code, "Exception")
	if code == "Validation" {
		code = "ValidationError"
	}
	var e answer
	e.member("Code").text(code)
	e.member("Message").text(refusal.Message)
	if item, ok := refusal.Fields["Item"].(Item); ok {
		e.member("Item").item(item)
	}
	a.member("Error").raw(e.bytes())
}
