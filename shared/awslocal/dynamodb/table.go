package dynamodb

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"sync"
	"time"
)

type keyAttribute struct {
	name string
	kind string // "S", "N" or "B"
}

// table is one table: its schema, which never changes, and its rows.
type table struct {
	name        string
	keys        []keyAttribute // partition key, and sort key if there is one
	description tableDescription
	created     time.Time

	mu   sync.RWMutex
	rows rows
	ttl  string // attribute with the time to live; "" if disabled

	pointInTime bool // recovery is on
}

// rowKey encodes an item's key so that byte order is scan order: partitions by a hash of their key, which gives scans
// an order that has nothing to do with the keys' own, as on AWS; inside a partition by sort key.
func (t *table) rowKey(item Item) string {
	key := t.partitionPrefix(item[t.keys[0].name])
	if len(t.keys) > 1 {
		key = appendKey(key, item[t.keys[1].name])
	}
	return string(key)
}

func (t *table) partitionPrefix(v Value) []byte {
	partition := appendKey(make([]byte, 0, 40), v)
	h := fnv.New64a()
	h.Write(partition)
	key := make([]byte, 0, 64)
	key = binary.BigEndian.AppendUint64(key, mix(h.Sum64()))
	key = binary.BigEndian.AppendUint16(key, uint16(len(partition)))
	return append(key, partition...)
}

// mix spreads similar hashes over the whole range, so that the segments of a parallel scan are about equal.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func appendKey(b []byte, v Value) []byte {
	switch v := v.(type) {
	case String:
		return append(b, v...)
	case Binary:
		return append(b, v...)
	case Number:
		return v.appendSortable(b)
	}
	return b
}

// checkKey refuses a Key that is not exactly the table's.
func (t *table) checkKey(key Item) error {
	if len(key) != len(t.keys) {
		return invalid(keySchemaMissing)
	}
	for i, k := range t.keys {
		v, ok := key[k.name]
		if !ok || v.kind() != k.kind {
			return invalid(keySchemaMissing)
		}
		if err := checkKeyValue(v, k.name, i == 0, "One or more parameter values were invalid: "); err != nil {
			return err
		}
	}
	return nil
}

// checkItem refuses an item that may not be stored.
func (t *table) checkItem(item Item, size int) error {
	for i, k := range t.keys {
		v, ok := item[k.name]
		if !ok {
			return invalid("One or more parameter values were invalid: Missing the key %s in the item", k.name)
		}
		if v.kind() != k.kind {
			return invalid("One or more parameter values were invalid: Type mismatch for key %s expected: %s actual: %s", k.name, k.kind, v.kind())
		}
		if err := checkKeyValue(v, k.name, i == 0, "One or more parameter values are not valid. "); err != nil {
			return err
		}
	}
	if size > maxItemBytes {
		return invalid(itemTooLarge)
	}
	return nil
}

func checkKeyValue(v Value, name string, partition bool, prefix string) error {
	if v.kind() == "N" {
		return nil
	}
	switch {
	case v.size() == 0:
		return invalid("%sThe AttributeValue for a key attribute cannot contain an empty %s value. Key: %s", prefix,
			map[string]string{"S": "string", "B": "binary"}[v.kind()], name)
	case partition && v.size() > maxPartitionKey:
		return invalid("One or more parameter values were invalid: Size of hashkey has exceeded the maximum size limit of2048 bytes")
	case !partition && v.size() > maxSortKey:
		return invalid("One or more parameter values were invalid: Aggregated size of all range keys has exceeded the size limit of 1024 bytes")
	}
	return nil
}

// checkPaths refuses paths into key attributes, which are scalars.
func (t *table) checkPaths(b *bindings, paths []path) error {
	for _, p := range paths {
		if len(p) > 1 && t.isKey(b.nameOf(p[0])) {
			return invalid("Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: Key: %s", b.nameOf(p[0]))
		}
	}
	return nil
}

func (t *table) isKey(name string) bool {
	return slices.ContainsFunc(t.keys, func(k keyAttribute) bool { return k.name == name })
}

// keyOf gives the key attributes of an item.
func (t *table) keyOf(item Item) Item {
	key := Item{}
	for _, k := range t.keys {
		key[k.name] = item[k.name]
	}
	return key
}

// mutation is one write of one item.
type mutation struct {
	key       Item
	condition func(old Item) bool          // nil: always; old is nil if there is no item
	next      func(old Item) (Item, error) // nil item: none
}

// outcome is what a mutation did, or would have done.
type outcome struct {
	old, new Item
	units    float64
	refused  bool // the condition did not hold
}

// mutate applies a mutation atomically.
func (t *table) mutate(m mutation) (outcome, error) {
	key := t.rowKey(m.key)
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.rows.get(key)
	refused := m.condition != nil && !m.condition(before.item)
	after := row{key: key}
	var err error
	if after.item, err = m.next(before.item); err == nil && after.item != nil {
		if after.size = after.item.size(); after.size > maxItemBytes {
			err = invalid(updateTooLarge)
		}
	}
	result := outcome{old: before.item, new: after.item, units: writeUnits(before.size, after.size), refused: refused}
	switch {
	case refused && err != nil:
		result.units = writeUnits(before.size, 0)
		return result, nil
	case refused:
		return result, nil
	case err != nil:
		return outcome{}, err
	case after.item == nil:
		t.rows.remove(key)
	default:
		t.rows.put(after)
	}
	return result, nil
}

// read gives the item with the key, nil if there is none, and what reading it costs.
func (t *table) read(key Item, consistent bool) (Item, float64) {
	encoded := t.rowKey(key)
	t.mu.RLock()
	defer t.mu.RUnlock()
	found := t.rows.get(encoded)
	return found.item, readUnits(found.size, consistent)
}
