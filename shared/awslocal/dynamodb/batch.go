package dynamodb

import (
	"slices"
	"strings"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

const (
	maxBatchGets    = 100
	maxBatchWrites  = 25
	maxBatchBytes   = 16 << 20
	duplicateInKeys = "Provided list of item keys contains duplicates"
)

// batchGetItem answers the items of each table in scan order, which is not the order of the keys: AWS promises none.
func (s *Service) batchGetItem(r *request) (wire.Response, error) {
	type wanted struct {
		*table
		*bound
		*request
		keys []string
	}
	var all []wanted
	count := 0
	for _, m := range r.members {
		count += len(m.keys)
		b, t, err := s.prepare(m)
		if err != nil {
			return wire.Response{}, err
		}
		w := wanted{table: t, bound: b, request: m}
		for _, key := range m.keys {
			if err := t.checkKey(key); err != nil {
				return wire.Response{}, err
			}
			w.keys = append(w.keys, t.rowKey(key))
		}
		if slices.Sort(w.keys); hasDuplicates(w.keys) {
			return wire.Response{}, invalid(duplicateInKeys)
		}
		if len(m.keys) == 0 {
			return wire.Response{}, invalid("1 validation error detected: Value '[]' at 'requestItems.%s.member.keys' failed to satisfy constraint: Member must have length greater than or equal to 1", t.name)
		}
		all = append(all, w)
	}
	if count > maxBatchGets {
		return wire.Response{}, invalid("Too many items requested for the BatchGetItem call")
	}
	if count == 0 {
		return wire.Response{}, invalid("1 validation error detected: Value '{}' at 'requestItems' failed to satisfy constraint: Member must have length greater than or equal to 1")
	}

	consumed := consumption{}
	var responses, unprocessed answer
	bytes := 0
	for _, w := range all {
		var items []Item
		var left []string
		w.mu.RLock()
		for _, key := range w.keys {
			found := w.rows.get(key)
			if bytes += found.size; bytes > maxBatchBytes {
				left = append(left, key)
				continue
			}
			consumed.add(w.table.name, wire.Units{Read: readUnits(found.size, w.consistent)})
			if found.item != nil {
				items = append(items, w.projected(found.item))
			}
		}
		w.mu.RUnlock()
		responses.member(w.table.name).items(items)
		if len(left) > 0 {
			w.leftOver(unprocessed.member(w.table.name), w.table, left)
		}
	}
	var a answer
	a.member("Responses").raw(responses.bytes())
	a.member("UnprocessedKeys").raw(unprocessed.bytes())
	a.capacities(r.capacity, consumed)
	return wire.Response{Body: a.bytes(), Units: consumed.total()}, nil
}

func hasDuplicates(sorted []string) bool {
	for i := range sorted {
		if i > 0 && sorted[i] == sorted[i-1] {
			return true
		}
	}
	return false
}

// leftOver writes what a BatchGetItem did not process, in the form of a request for it.
func (r *request) leftOver(a *answer, t *table, left []string) {
	var keys []Item
	for _, key := range r.keys {
		if slices.Contains(left, t.rowKey(key)) {
			keys = append(keys, key)
		}
	}
	var rest answer
	rest.member("Keys").items(keys)
	if r.consistent {
		rest.member("ConsistentRead").raw([]byte("true"))
	}
	if text := r.expressions[projectionExpression]; text != nil {
		rest.member("ProjectionExpression").text(*text)
	}
	if r.names != nil {
		var names answer
		for _, alias := range sortedKeys(r.names) {
			names.member(alias).text(r.names[alias])
		}
		rest.member("ExpressionAttributeNames").raw(names.bytes())
	}
	a.raw(rest.bytes())
}

func (s *Service) batchWriteItem(r *request) (wire.Response, error) {
	if len(r.members) > maxBatchWrites {
		return wire.Response{}, invalid("Too many items requested for the BatchWriteItem call")
	}
	if len(r.members) == 0 {
		return wire.Response{}, invalid("1 validation error detected: Value '{}' at 'requestItems' failed to satisfy constraint: Member must have length greater than or equal to 1")
	}
	tables := make([]*table, len(r.members))
	keys := make([]string, len(r.members))
	bytes := 0
	for i, m := range r.members {
		t, err := s.table(m.tableName)
		if err != nil {
			return wire.Response{}, err
		}
		key := m.key
		if m.hasItem {
			size := m.item.size()
			bytes += size
			key, err = m.item, t.checkItem(m.item, size)
		} else {
			err = t.checkKey(key)
		}
		if err != nil {
			return wire.Response{}, err
		}
		tables[i], keys[i] = t, t.name+"/"+t.rowKey(key)
	}
	if slices.Sort(keys); hasDuplicates(keys) {
		return wire.Response{}, invalid(duplicateInKeys)
	}
	if bytes > maxBatchBytes {
		return wire.Response{}, invalid("The request is larger than %d bytes", maxBatchBytes)
	}
	consumed := consumption{}
	for i, m := range r.members {
		write := mutation{key: m.key, next: func(Item) (Item, error) { return m.item, nil }}
		if m.hasItem {
			write.key = m.item
		}
		result, err := tables[i].mutate(write)
		if err != nil {
			return wire.Response{}, err
		}
		consumed.add(tables[i].name, wire.Units{Write: result.units})
	}
	var a answer
	a.member("UnprocessedItems").raw([]byte("{}"))
	a.capacities(r.capacity, consumed)
	return wire.Response{Body: a.bytes(), Units: consumed.total()}, nil
}

const maxStatements = 25

// prepared is a statement with its parameters, ready to run.
type prepared struct {
	*statement
	*table
	request  *request
	bindings *bindings
	key      Item
	item     Item         // INSERT
	rest     []*condition // the conditions besides the key
}

func (s *Service) prepareStatement(r *request) (*prepared, error) {
	parsed, err := s.statements.get(r.statement, parseStatement)
	if err != nil {
		return nil, err
	}
	if parsed.parameters != len(r.parameters) {
		return nil, invalid("Number of parameters in request and statement don't match.")
	}
	p := &prepared{statement: parsed, request: r, bindings: &bindings{parameters: r.parameters}}
	if p.table, err = s.table(parsed.table); err != nil {
		return nil, err
	}
	if parsed.kind == statementInsert {
		return p, p.prepareInsert()
	}
	var whole bool
	if p.key, p.rest, whole = parsed.splitWhere(p.bindings, p.keys); !whole {
		if parsed.kind == statementSelect {
			return nil, invalid(selectWithoutKey)
		}
		return nil, invalid(whereWithoutKey)
	}
	if err := p.checkKey(p.key); err != nil {
		return nil, err
	}
	for _, c := range p.rest {
		if err := c.checkOperands(p.bindings); err != nil {
			return nil, err
		}
		if err := p.checkConditionPaths(p.bindings, c); err != nil {
			return nil, err
		}
	}
	if parsed.kind == statementUpdate {
		if err := parsed.update.check(p.bindings); err != nil {
			return nil, err
		}
		return p, p.checkUpdate(p.bindings, parsed.update)
	}
	return p, p.checkPaths(p.bindings, parsed.paths)
}

func (p *prepared) prepareInsert() error {
	v, err := p.bindings.constant(p.statement.item)
	if err != nil {
		return err
	}
	p.item = Item(v.(Map))
	if depthOf(v)-1 > maxDepth {
		return invalid(tooDeep)
	}
	p.key = p.keyOf(p.item)
	return p.checkItem(p.item, p.item.size())
}

// run executes the statement. The item is what it answers, if anything.
func (p *prepared) run() (Item, wire.Units, error) {
	if p.kind == statementSelect {
		item, units := p.read(p.key, p.request.consistent)
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
		m.next = func(old Item) (Item, error) { return p.updated(p.bindings, p.update, p.key, old) }
	case statementDelete: // of what is not there succeeds, whatever the conditions
		m.condition = func(old Item) bool { return old == nil || p.restHolds(old) }
		m.next = func(Item) (Item, error) { return nil, nil }
	}
	result, err := p.mutate(m)
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
	p, err := s.prepareStatement(r)
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
		p, err := s.prepareStatement(m)
		if failures[i] = err; err != nil {
			continue
		}
		statements[i] = p
		keys = append(keys, p.table.name+"/"+p.rowKey(p.key))
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
			one.failure(failures[i].(*wire.Error))
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
