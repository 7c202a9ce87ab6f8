package dynamodb

import (
	"slices"

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
		table   *table
		bound   *bound
		request *request
		keys    []string
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
		w.table.mu.RLock()
		for _, key := range w.keys {
			found := w.table.rows.get(key)
			if bytes += found.size; bytes > maxBatchBytes {
				left = append(left, key)
				continue
			}
			consumed.add(w.table.name, wire.Units{Read: readUnits(found.size, w.request.consistent)})
			if found.item != nil {
				items = append(items, w.bound.projected(found.item))
			}
		}
		w.table.mu.RUnlock()
		responses.member(w.table.name).items(items)
		if len(left) > 0 {
			w.request.leftOver(unprocessed.member(w.table.name), w.table, left)
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
