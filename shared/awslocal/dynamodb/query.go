package dynamodb

import (
	"encoding/binary"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// pageBytes is how much one call of Query or Scan reads at most: it stops after the item that reaches it.
const pageBytes = 1 << 20

func (s *Service) query(r *request) (wire.Response, error) {
	if r.expressions[keyConditionExpression] == nil {
		return wire.Response{}, invalid("Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.")
	}
	b, t, err := s.prepareRead(r)
	if err != nil {
		return wire.Response{}, err
	}
	if err := t.checkFilter(b); err != nil {
		return wire.Response{}, err
	}
	partition, keys, err := t.keySpan(b)
	if err != nil {
		return wire.Response{}, err
	}
	rest := keys
	if r.startKey != nil {
		start, err := t.startKey(r.startKey)
		if err != nil {
			return wire.Response{}, err
		}
		switch {
		case start < partition.from || start >= partition.to:
			return wire.Response{}, invalid("The provided starting key is outside query boundaries based on provided conditions")
		case start < keys.from || keys.to != "" && start >= keys.to:
			return wire.Response{}, invalid("The provided starting key does not match the range key predicate")
		case r.backwards:
			rest = keys.intersect(span{to: start})
		default:
			rest = keys.intersect(span{from: justAfter(start)})
		}
	}
	return r.page(t, b, rest), nil
}

func (s *Service) scan(r *request) (wire.Response, error) {
	switch {
	case r.segment != nil && r.segments == nil:
		return wire.Response{}, invalid("The TotalSegments parameter is required but was not present in the request when Segment parameter is present")
	case r.segment == nil && r.segments != nil:
		return wire.Response{}, invalid("The Segment parameter is required but was not present in the request when parameter TotalSegments is present")
	case r.segment != nil && *r.segment >= *r.segments:
		return wire.Response{}, invalid("The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: %d is not less than TotalSegments: %d",
			*r.segment, *r.segments)
	}
	b, t, err := s.prepareRead(r)
	if err != nil {
		return wire.Response{}, err
	}
	var keys span
	if r.segment != nil {
		keys = span{from: segmentStart(*r.segment, *r.segments), to: segmentStart(*r.segment+1, *r.segments)}
	}
	if r.startKey != nil {
		start, err := t.startKey(r.startKey)
		if err != nil {
			return wire.Response{}, err
		}
		if start < keys.from || keys.to != "" && start >= keys.to {
			return wire.Response{}, invalid("The provided starting key is invalid: Invalid ExclusiveStartKey. Please use ExclusiveStartKey with correct Segment. TotalSegments: %d Segment: %d",
				*r.segments, *r.segment)
		}
		keys = keys.intersect(span{from: justAfter(start)})
	}
	return r.page(t, b, keys), nil
}

// segmentStart gives the lower end of a segment of a parallel scan; "" behind the last one.
func segmentStart(segment, segments int) string {
	if segment == segments {
		return ""
	}
	start := (uint64(segment)<<32 + uint64(segments) - 1) / uint64(segments)
	return string(binary.BigEndian.AppendUint32(nil, uint32(start)))
}

// prepareRead is prepare and the rules about Select.
func (s *Service) prepareRead(r *request) (*bound, *table, error) {
	projects := r.expressions[projectionExpression] != nil
	switch {
	case r.selection == "ALL_PROJECTED_ATTRIBUTES":
		return nil, nil, invalid("One or more parameter values were invalid: Select type ALL_PROJECTED_ATTRIBUTES is supported only when querying an index")
	case r.selection == "SPECIFIC_ATTRIBUTES" && !projects:
		return nil, nil, invalid("Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES")
	case r.selection == "COUNT" && projects:
		return nil, nil, invalid("Cannot specify the ProjectionExpression when choosing to get only the Count")
	case r.selection == "ALL_ATTRIBUTES" && projects:
		return nil, nil, invalid("Cannot specify the ProjectionExpression when choosing to get ALL_ATTRIBUTES")
	}
	return s.prepare(r)
}

func (t *table) startKey(key Item) (string, error) {
	if err := t.checkKey(key); err != nil {
		return "", prefixed("The provided starting key is invalid", err)
	}
	return t.rowKey(key), nil
}

// checkFilter refuses a filter of a query on the key.
func (t *table) checkFilter(b *bound) error {
	var err error
	b.filter.walk(func(c *condition) {
		for _, arg := range c.args {
			arg.walk(func(o *operand) {
				if o.kind == operandPath && err == nil && t.isKey(b.nameOf(o.path[0])) {
					err = invalid("Filter Expression can only contain non-primary key attributes: Primary key attribute: %s", b.nameOf(o.path[0]))
				}
			})
		}
	})
	return err
}

// page reads one page of the keys and builds the answer.
func (r *request) page(t *table, b *bound, keys span) wire.Response {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var items []Item
	var last Item
	scanned, bytes := 0, 0
	for w := range t.rows.within(keys, r.backwards) {
		scanned++
		bytes += w.size
		if b.filter == nil || b.filter.holds(&b.bindings, w.item) {
			items = append(items, w.item)
		}
		// As on AWS, a page that ends with the last item says so only if the limit did not end it.
		if r.limit != nil && scanned == *r.limit || bytes >= pageBytes {
			last = w.item
			break
		}
	}
	var a answer
	a.member("Count").integer(len(items))
	a.member("ScannedCount").integer(scanned)
	if r.selection != "COUNT" {
		for i := range items {
			items[i] = b.projected(items[i])
		}
		a.member("Items").items(items)
	}
	if last != nil {
		a.member("LastEvaluatedKey").item(t.keyOf(last))
	}
	consumed := wire.Units{Read: readUnits(bytes, r.consistent)}
	a.capacity(r.capacity, t.name, consumed)
	return wire.Response{Body: a.bytes(), Units: consumed}
}

// keyTerm is one condition on one key attribute.
type keyTerm struct {
	op     operator
	values []Value
}

// keySpan translates a KeyConditionExpression into the span of the whole partition and that of the keys which fit.
func (t *table) keySpan(b *bound) (partition, keys span, err error) {
	terms := map[string]keyTerm{}
	if err := collectKeyTerms(&b.bindings, b.keyCondition, terms); err != nil {
		return span{}, span{}, err
	}
	if len(terms) > 2 {
		return span{}, span{}, invalid("Conditions can be of length 1 or 2 only")
	}
	for i, k := range t.keys {
		term, ok := terms[k.name]
		switch {
		case !ok && (i == 0 || len(terms) > i):
			return span{}, span{}, invalid("Query condition missed key schema element: %s", k.name)
		case !ok:
			continue
		case i == 0 && term.op != opEqual:
			return span{}, span{}, invalid("Query key condition not supported")
		}
		for _, v := range term.values {
			if v.kind() != k.kind {
				return span{}, span{}, invalid("One or more parameter values were invalid: Condition parameter type does not match schema type")
			}
			if err := checkKeyValue(v, k.name, i == 0, "One or more parameter values were invalid: "); err != nil {
				return span{}, span{}, err
			}
		}
		if term.op == opBeginsWith && k.kind == "N" {
			return span{}, span{}, invalid("Query key condition not supported")
		}
	}
	if len(terms) > len(t.keys) {
		return span{}, span{}, invalid("Query key condition not supported")
	}
	prefix := t.partitionPrefix(terms[t.keys[0].name].values[0])
	partition = span{from: string(prefix), to: afterPrefix(string(prefix))}
	if len(terms) == 1 {
		return partition, partition, nil
	}
	return partition, terms[t.keys[1].name].within(prefix, partition), nil
}

// within gives the span of the sort keys that fit, inside the partition with the prefix.
func (k keyTerm) within(prefix []byte, partition span) span {
	low := string(appendKey(prefix[:len(prefix):len(prefix)], k.values[0]))
	switch k.op {
	case opEqual:
		return span{from: low, to: justAfter(low)}
	case opLess:
		return span{from: partition.from, to: low}
	case opLessOrEqual:
		return span{from: partition.from, to: justAfter(low)}
	case opGreater:
		return span{from: justAfter(low), to: partition.to}
	case opGreaterOrEqual:
		return span{from: low, to: partition.to}
	case opBetween:
		return span{from: low, to: justAfter(string(appendKey(prefix[:len(prefix):len(prefix)], k.values[1])))}
	}
	return span{from: low, to: afterPrefix(low)} // begins_with
}

var mirrored = map[operator]operator{opEqual: opEqual, opLess: opGreater, opLessOrEqual: opGreaterOrEqual, opGreater: opLess,
	opGreaterOrEqual: opLessOrEqual}

func collectKeyTerms(b *bindings, c *condition, terms map[string]keyTerm) error {
	if c.op == opAnd {
		if err := collectKeyTerms(b, c.sub[0], terms); err != nil {
			return err
		}
		return collectKeyTerms(b, c.sub[1], terms)
	}
	switch c.op {
	case opOr, opNot, opIn, opNotEqual, opExists, opNotExists, opType, opContains:
		return invalid("Invalid operator used in KeyConditionExpression: %s", c.op)
	}
	term, at := keyTerm{op: c.op}, -1
	for i, arg := range c.args {
		switch {
		case arg.kind == operandSize:
			return invalid("KeyConditionExpressions cannot contain nested operations")
		case arg.kind != operandPath:
			term.values = append(term.values, b.evaluate(arg, nil))
		case at >= 0:
			return invalid("Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition")
		case len(arg.path) > 1:
			return invalid("KeyConditionExpressions cannot have conditions on nested attributes")
		default:
			at = i
		}
	}
	switch {
	case at < 0:
		return invalid("Invalid condition in KeyConditionExpression: No key attribute specified")
	case at > 0 && (c.op == opBetween || c.op == opBeginsWith):
		return invalid("Invalid condition in KeyConditionExpression: %s operator must have the key attribute as its first operand", c.op)
	case at > 0:
		term.op = mirrored[c.op]
	}
	name := b.nameOf(c.args[at].path[0])
	if _, twice := terms[name]; twice {
		return invalid("KeyConditionExpressions must only contain one condition per key")
	}
	terms[name] = term
	return nil
}
