package dynamodb

import (
	"maps"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

const conditionFailed = "The conditional request failed"

func (s *Service) putItem(r *request) (wire.Response, error) {
	if err := r.checkReturnValues("ALL_OLD"); err != nil {
		return wire.Response{}, err
	}
	b, t, err := s.prepare(r)
	if err != nil {
		return wire.Response{}, err
	}
	if err := t.checkItem(r.item, r.item.size()); err != nil {
		return wire.Response{}, err
	}
	return r.write(t, b, r.item, func(Item) (Item, error) { return r.item, nil })
}

func (s *Service) deleteItem(r *request) (wire.Response, error) {
	if err := r.checkReturnValues("ALL_OLD"); err != nil {
		return wire.Response{}, err
	}
	b, t, err := s.prepareKey(r)
	if err != nil {
		return wire.Response{}, err
	}
	return r.write(t, b, r.key, func(Item) (Item, error) { return nil, nil })
}

func (s *Service) updateItem(r *request) (wire.Response, error) {
	b, t, err := s.prepareKey(r)
	if err != nil {
		return wire.Response{}, err
	}
	if b.update == nil {
		b.update = &update{}
	}
	if err := t.checkUpdate(&b.bindings, b.update); err != nil {
		return wire.Response{}, err
	}
	return r.write(t, b, r.key, func(old Item) (Item, error) { return t.updated(&b.bindings, b.update, r.key, old) })
}

func (s *Service) getItem(r *request) (wire.Response, error) {
	b, t, err := s.prepareKey(r)
	if err != nil {
		return wire.Response{}, err
	}
	item, units := t.read(r.key, r.consistent)
	var a answer
	if item != nil {
		a.member("Item").item(b.projected(item))
	}
	consumed := wire.Units{Read: units}
	a.capacity(r.capacity, t.name, consumed)
	return wire.Response{Body: a.bytes(), Units: consumed}, nil
}

// projected applies the ProjectionExpression, if there is one.
func (b *bound) projected(item Item) Item {
	if b.projection == nil {
		return item
	}
	return project(&b.bindings, b.projection, item)
}

func (r *request) checkReturnValues(allowed string) error {
	if r.returnValues != "" && r.returnValues != "NONE" && r.returnValues != allowed {
		return invalid("ReturnValues can only be %s or NONE", allowed)
	}
	return nil
}

// prepare binds the expressions and finds the table.
func (s *Service) prepare(r *request) (*bound, *table, error) {
	b, err := s.bind(r)
	if err != nil {
		return nil, nil, err
	}
	t, err := s.table(r.tableName)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range []*condition{b.condition, b.filter} {
		if err := t.checkConditionPaths(&b.bindings, c); err != nil {
			return nil, nil, err
		}
	}
	return b, t, t.checkPaths(&b.bindings, b.projection)
}

func (s *Service) prepareKey(r *request) (*bound, *table, error) {
	b, t, err := s.prepare(r)
	if err != nil {
		return nil, nil, err
	}
	return b, t, t.checkKey(r.key)
}

// checkConditionPaths refuses a condition with a path into a key attribute.
func (t *table) checkConditionPaths(b *bindings, c *condition) error {
	var err error
	c.walk(func(c *condition) {
		for _, arg := range c.args {
			arg.walk(func(o *operand) {
				if o.kind == operandPath && err == nil {
					err = t.checkPaths(b, []path{o.path})
				}
			})
		}
	})
	return err
}

func (t *table) checkUpdate(b *bindings, u *update) error {
	for _, p := range u.paths() {
		if name := b.nameOf(p[0]); t.isKey(name) {
			return invalid("One or more parameter values were invalid: Cannot update attribute %s. This attribute is part of the key", name)
		}
	}
	return nil
}

// updated gives the item that an update makes of old, or of nothing.
func (t *table) updated(b *bindings, u *update, key, old Item) (Item, error) {
	item, err := u.apply(b, old)
	if err != nil {
		return nil, err
	}
	maps.Copy(item, key)
	if depthOf(Map(item))-1 > maxDepth {
		return nil, invalid(tooDeep)
	}
	return item, nil
}

// write runs a conditional write and builds its answer.
func (r *request) write(t *table, b *bound, key Item, next func(old Item) (Item, error)) (wire.Response, error) {
	m := mutation{key: key, next: next}
	if b.condition != nil {
		m.condition = func(old Item) bool { return b.condition.holds(&b.bindings, old) }
	}
	result, err := t.mutate(m)
	if err != nil {
		return wire.Response{}, err
	}
	consumed := wire.Units{Write: result.units}
	if result.refused {
		return wire.Response{}, r.conditionFailure(result)
	}
	var a answer
	if attributes := r.returned(b, result); len(attributes) > 0 {
		a.member("Attributes").item(attributes)
	}
	a.capacity(r.capacity, t.name, consumed)
	return wire.Response{Body: a.bytes(), Units: consumed}, nil
}

// conditionFailure is the refusal of a write whose condition did not hold, with the item if it was asked for.
func (r *request) conditionFailure(result outcome) *wire.Error {
	refusal := wire.Errorf("ConditionalCheckFailedException", conditionFailed)
	refusal.Units = wire.Units{Write: result.units}
	if r.onConditionFailure == "ALL_OLD" && result.old != nil {
		refusal.Fields = map[string]any{"Item": result.old}
	}
	return refusal
}

// returned gives the attributes that ReturnValues asks for.
func (r *request) returned(b *bound, result outcome) Item {
	switch r.returnValues {
	case "ALL_OLD":
		return result.old
	case "ALL_NEW":
		return result.new
	case "UPDATED_OLD":
		return project(&b.bindings, b.update.paths(), result.old)
	case "UPDATED_NEW":
		return project(&b.bindings, b.update.paths(), result.new)
	}
	return nil
}

// MarshalJSON writes the item as DynamoDB does in answers, attributes in the order of their names.
func (item Item) MarshalJSON() ([]byte, error) { return appendItem(nil, item), nil }
