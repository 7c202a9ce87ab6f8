package dynamodb

import (
	"context"
	"slices"
	"strings"
)

// members lists, for each operation and nested document, the request members that are implemented. All others are
// refused: to ignore one would be to accept what AWS handles differently.
var members = map[string]map[string]bool{
	"PutItem": wordSet(`TableName Item ConditionExpression ExpressionAttributeNames ExpressionAttributeValues ReturnValues
		ReturnConsumedCapacity ReturnItemCollectionMetrics ReturnValuesOnConditionCheckFailure`),
	"UpdateItem": wordSet(`TableName Key UpdateExpression ConditionExpression ExpressionAttributeNames ExpressionAttributeValues
		ReturnValues ReturnConsumedCapacity ReturnItemCollectionMetrics ReturnValuesOnConditionCheckFailure`),
	"DeleteItem": wordSet(`TableName Key ConditionExpression ExpressionAttributeNames ExpressionAttributeValues ReturnValues
		ReturnConsumedCapacity ReturnItemCollectionMetrics ReturnValuesOnConditionCheckFailure`),
	"GetItem": wordSet(`TableName Key ConsistentRead ProjectionExpression ExpressionAttributeNames ReturnConsumedCapacity`),
	"Query": wordSet(`TableName KeyConditionExpression FilterExpression ProjectionExpression ExpressionAttributeNames
		ExpressionAttributeValues Select Limit ScanIndexForward ConsistentRead ExclusiveStartKey ReturnConsumedCapacity`),
	"Scan": wordSet(`TableName FilterExpression ProjectionExpression ExpressionAttributeNames ExpressionAttributeValues Select
		Limit ConsistentRead ExclusiveStartKey Segment TotalSegments ReturnConsumedCapacity`),
	"BatchGetItem":                     wordSet(`RequestItems ReturnConsumedCapacity`),
	"BatchGetItem.RequestItems":        wordSet(`Keys ConsistentRead ProjectionExpression ExpressionAttributeNames`),
	"BatchWriteItem":                   wordSet(`RequestItems ReturnConsumedCapacity ReturnItemCollectionMetrics`),
	"BatchWriteItem.RequestItems":      wordSet(`PutRequest DeleteRequest`),
	"ExecuteStatement":                 wordSet(`Statement Parameters ConsistentRead ReturnConsumedCapacity ReturnValuesOnConditionCheckFailure`),
	"BatchExecuteStatement":            wordSet(`Statements ReturnConsumedCapacity`),
	"BatchExecuteStatement.Statements": wordSet(`Statement Parameters ConsistentRead ReturnValuesOnConditionCheckFailure`),
	"PutRequest":                       wordSet(`Item`),
	"DeleteRequest":                    wordSet(`Key`),
}

// request holds the members of all operations on items; each operation uses its own.
type request struct {
	ctx                         context.Context // of the call, for what only its operation finds out
	op                          string
	tableName                   string
	item, key, startKey         Item
	keys                        []Item
	expressions                 [expressionKinds]*string
	names                       map[string]string
	values                      map[string]Value
	returnValues                string
	onConditionFailure          string
	capacity                    string
	selection                   string
	consistent, backwards       bool
	limit, segment, segments    *int
	statement                   string
	parameters                  []Value
	members                     []*request // of a batch: tables (BatchGetItem), writes, statements
	hasMembers, hasKey, hasItem bool
}

func decodeRequest(op string, body []byte) (*request, error) {
	d := &document{data: body}
	r := &request{op: op}
	d.request(r)
	d.end()
	if d.err == nil {
		d.fail(r.checkMembers())
	}
	return r, d.err
}

func (d *document) request(r *request) {
	d.object(func(name string) {
		if !members[r.op][name] {
			d.fail(invalid("the local endpoint does not implement the member %s of %s", name, r.op))
			return
		}
		d.member(r, name)
	})
}

// member reads the value of one member of r.
func (d *document) member(r *request, name string) {
	switch name {
	case "TableName":
		r.tableName = d.text()
	case "Item":
		r.item, r.hasItem = d.item(), true
	case "Key":
		r.key, r.hasKey = d.item(), true
	case "ExclusiveStartKey":
		r.startKey = d.item()
	case "Keys":
		d.array(func() { r.keys = append(r.keys, d.item()) })
	case "UpdateExpression", "ConditionExpression", "KeyConditionExpression", "FilterExpression", "ProjectionExpression":
		text := d.text()
		r.expressions[slices.Index(expressionNames[:], name)] = &text
	case "ExpressionAttributeNames":
		r.names = map[string]string{}
		d.object(func(alias string) { r.names[alias] = d.text() })
	case "ExpressionAttributeValues":
		d.values(r)
	case "ReturnValues":
		r.returnValues = d.enum("returnValues", "ALL_NEW", "UPDATED_OLD", "ALL_OLD", "NONE", "UPDATED_NEW")
	case "ReturnValuesOnConditionCheckFailure":
		r.onConditionFailure = d.enum("returnValuesOnConditionCheckFailure", "ALL_OLD", "NONE")
	case "ReturnConsumedCapacity":
		r.capacity = d.enum("returnConsumedCapacity", "INDEXES", "TOTAL", "NONE")
	case "ReturnItemCollectionMetrics": // there are none without indexes
		d.enum("returnItemCollectionMetrics", "SIZE", "NONE")
	case "Select":
		r.selection = d.enum("select", "SPECIFIC_ATTRIBUTES", "COUNT", "ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES")
	case "ConsistentRead":
		r.consistent = d.boolean()
	case "ScanIndexForward":
		r.backwards = !d.boolean()
	case "Limit":
		r.limit = d.bounded("limit", 1, 1<<31-1)
	case "Segment":
		r.segment = d.bounded("segment", 0, 999_999)
	case "TotalSegments":
		r.segments = d.bounded("totalSegments", 1, 1_000_000)
	case "Statement":
		r.statement = d.text()
	case "Parameters":
		r.parameters = []Value{}
		d.array(func() { r.parameters = append(r.parameters, d.value(1)) })
	case "PutRequest", "DeleteRequest":
		d.request(r.add(name, r.tableName))
	default:
		d.batch(r)
	}
}

// batch reads RequestItems or Statements.
func (d *document) batch(r *request) {
	r.hasMembers = true
	switch r.op {
	case "BatchExecuteStatement":
		d.array(func() { d.request(r.add("BatchExecuteStatement.Statements", "")) })
	case "BatchGetItem":
		d.object(func(table string) { d.request(r.add("BatchGetItem.RequestItems", table)) })
	case "BatchWriteItem":
		d.object(func(table string) {
			d.array(func() {
				write := &request{op: "BatchWriteItem.RequestItems", tableName: table}
				d.request(write)
				if len(write.members) != 1 && d.err == nil {
					d.fail(invalid("Supplied WriteRequest must contain exactly one of PutRequest and DeleteRequest"))
				}
				r.members = append(r.members, write.members...)
			})
		})
	}
}

func (r *request) add(op, table string) *request {
	m := &request{op: op, tableName: table}
	r.members = append(r.members, m)
	return m
}

func (d *document) values(r *request) {
	r.values = map[string]Value{}
	d.object(func(name string) {
		r.values[name] = d.value(1)
		if d.err != nil && asRefusal(d.err).Code == "ValidationException" {
			d.err = invalid("ExpressionAttributeValues contains invalid value: %s for key %s", asRefusal(d.err).Message, name)
		}
	})
}

func (d *document) enum(member string, allowed ...string) string {
	text := d.text()
	if d.err == nil && !slices.Contains(allowed, text) {
		d.fail(invalid("1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: Member must satisfy enum value set: [%s]",
			text, member, strings.Join(allowed, ", ")))
	}
	return text
}

func (d *document) bounded(member string, low, high int) *int {
	n := d.integer()
	if d.err == nil && n < low {
		d.fail(invalid("1 validation error detected: Value '%d' at '%s' failed to satisfy constraint: Member must have value greater than or equal to %d", n, member, low))
	}
	if d.err == nil && n > high {
		d.fail(invalid("1 validation error detected: Value '%d' at '%s' failed to satisfy constraint: Member must have value less than or equal to %d", n, member, high))
	}
	return &n
}

// checkMembers refuses a request without a required member.
func (r *request) checkMembers() error {
	missing := func(member string) error {
		return invalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", member)
	}
	allowed := members[r.op]
	switch {
	case allowed["TableName"] && r.tableName == "":
		return invalid("The parameter 'TableName' is required but was not present in the request")
	case allowed["Item"] && !r.hasItem:
		return missing("item")
	case allowed["Key"] && !r.hasKey:
		return missing("key")
	case allowed["Statement"] && r.statement == "":
		return missing("statement")
	case allowed["RequestItems"] && !r.hasMembers:
		return missing("requestItems")
	case allowed["Statements"] && !r.hasMembers:
		return missing("statements")
	case r.parameters != nil && len(r.parameters) == 0:
		return invalid("1 validation error detected: Value '[]' at 'parameters' failed to satisfy constraint: Member must have length greater than or equal to 1")
	}
	for _, m := range r.members {
		if err := m.checkMembers(); err != nil {
			return err
		}
	}
	return nil
}
