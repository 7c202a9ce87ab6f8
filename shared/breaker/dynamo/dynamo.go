// Package dynamo keeps the health of destinations in DynamoDB, in the registry's table.
//
// # Table
//
// Partition key "part" (S), sort key "row" (S). All rows lie in the partition "health", under the id of their destination, so that one Query reads them.
// Attributes: turn, trips, streak (N); phase, probe (S); until, recoveringSince, succeededAt, suspectSince, throttledAt, throttledUntil, at (N,
// milliseconds since 1970); and for each slot of the window with attempts in it "s#NUMBER" and "f#NUMBER" (N), the successes and failures. What is nothing has
// no attribute. A row has less than 1 KB. A healthy destination's row shrinks to its turn, and ends by its attribute "expiresAt" (N, seconds since 1970), the table's
// time to live, 30 days after it was last written: all rows are read every few seconds, and destinations come and go. Nothing in it counts for as long: a destination
// can ask to be left alone for a day, and an environment that remembers the turn lives for hours. Whether DynamoDB has deleted the row makes no difference to anybody.
//
// # Calls
//
//	All   Query, eventually consistent: half a read unit for each 4 KB
//	Get   GetItem, consistent: 1 read unit
//	Add   UpdateItem: 1 write unit, tried once, against the SDK's own habit: a repetition would count twice
//	Move  UpdateItem: 1 write unit
//
// Who delivers needs the permissions dynamodb:Query, GetItem and UpdateItem, who only asks dynamodb:Query.
//
// # Errors
//
// Every error is an *Error around one of the sentinels of package breaker.
package dynamo

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/breaker"
)

// Client is what the driver uses of *dynamodb.Client.
type Client interface {
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
}

// Store implements breaker.Store. It is safe for concurrent use.
type Store struct {
	client Client
	table  string
}

var _ breaker.Store = (*Store)(nil)

// New makes the driver over a table. The error is about the table's name; nothing is sent yet.
func New(client Client, table string) (*Store, error) {
	if table == "" {
		return nil, errors.New("dynamo: the registry's table name is empty: take it from the configuration")
	}
	return &Store{client: client, table: table}, nil
}

// All implements breaker.Store with one Query, and more only where rows fill more than a megabyte.
func (s *Store) All(ctx context.Context) (map[string]breaker.Row, error) {
	in := &dynamodb.QueryInput{
		TableName: &s.table, KeyConditionExpression: aws.String("#part = :part"),
		ExpressionAttributeNames: map[string]string{"#part": attrPart}, ExpressionAttributeValues: attributes{":part": str(partHealth)},
	}
	rows := map[string]breaker.Row{}
	for {
		out, err := s.client.Query(ctx, in)
		if err != nil {
			_, e := s.failed("all", "", err)
			return nil, e
		}
		for _, item := range out.Items {
			rows[text(item, attrRow)] = decode(item)
		}
		if len(out.LastEvaluatedKey) == 0 {
			return rows, nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// Get implements breaker.Store.
func (s *Store) Get(ctx context.Context, destination string) (breaker.Row, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(destination), ConsistentRead: aws.Bool(true)})
	if err != nil {
		_, e := s.failed("get", destination, err)
		return breaker.Row{}, e
	}
	return decode(out.Item), nil
}

// Add implements breaker.Store with an UpdateItem that adds.
func (s *Store) Add(ctx context.Context, destination string, d breaker.Delta) (breaker.Row, error) {
	u := update{names: map[string]string{}, values: attributes{}}
	for slot, c := range d.Slots {
		u.add(slotName(prefixSuccesses, slot), c.Successes)
		u.add(slotName(prefixFailures, slot), c.Failures)
	}
	for _, slot := range d.Remove {
		u.remove(slotName(prefixSuccesses, slot))
		u.remove(slotName(prefixFailures, slot))
	}
	switch {
	case !d.Succeeded:
		u.add(attrStreak, d.Streak)
	case d.Streak > 0:
		u.set(attrStreak, num(int64(d.Streak)))
	default:
		u.remove(attrStreak)
	}
	switch {
	case d.SuspectSince.IsZero():
		u.remove(attrSuspectSince)
	case d.Afresh:
		u.set(attrSuspectSince, num(d.SuspectSince.UnixMilli()))
	default:
		u.setOnce(attrSuspectSince, num(d.SuspectSince.UnixMilli()))
	}
	if d.Young {
		u.set(attrSucceededAt, num(d.At.UnixMilli()))
	}
	u.set(attrAt, num(d.At.UnixMilli()))
	u.set(attrExpires, num(expires(d.At)))
	u.ifTurn(d.Turn)
	if !d.ThrottledUntil.IsZero() {
		u.set(attrThrottledAt, num(d.ThrottledAt.UnixMilli()))
		u.set(attrThrottledUntil, num(d.ThrottledUntil.UnixMilli()))
		name := u.name(attrThrottledUntil)
		u.condition += " AND (attribute_not_exists(" + name + ") OR " + name + " < " + u.value(num(d.ThrottledUntil.UnixMilli())) + ")"
	}
	return s.update(ctx, "add", destination, &u, func(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} })
}

// fields are all attributes of a row that are not counts.
var fields = [...]string{
	attrPhase, attrUntil, attrProbe, attrTrips, attrRecoveringSince, attrStreak, attrSucceededAt, attrSuspectSince,
	attrThrottledAt, attrThrottledUntil, attrAt,
}

// Move implements breaker.Store with an UpdateItem that sets what next has and removes what it has not.
func (s *Store) Move(ctx context.Context, destination string, was, next breaker.Row) (breaker.Row, error) {
	u := update{names: map[string]string{}, values: attributes{}}
	there := encode(next)
	for _, name := range slices.Sorted(maps.Keys(there)) {
		u.set(name, there[name])
	}
	u.set(attrExpires, num(expires(next.At)))
	for name := range encode(breaker.Row{Slots: was.Slots}) {
		if _, stays := there[name]; !stays && name != attrTurn {
			u.remove(name)
		}
	}
	for _, name := range fields {
		if _, stays := there[name]; !stays {
			u.remove(name)
		}
	}
	u.ifTurn(was.Turn)
	return s.update(ctx, "move", destination, &u)
}

func (s *Store) update(ctx context.Context, operation, destination string, u *update, opts ...func(*dynamodb.Options)) (breaker.Row, error) {
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &s.table, Key: key(destination), UpdateExpression: aws.String(u.expression()), ConditionExpression: &u.condition,
		ExpressionAttributeNames: u.names, ExpressionAttributeValues: u.values,
		ReturnValues: types.ReturnValueAllNew, ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}, opts...)
	if err != nil {
		row, e := s.failed(operation, destination, err)
		return row, e
	}
	return decode(out.Attributes), nil
}

// update is an update expression in the making.
type update struct {
	sets, adds, removes []string
	condition           string
	names               map[string]string
	values              attributes
}

func (u *update) name(attribute string) string {
	for placeholder, is := range u.names {
		if is == attribute {
			return placeholder
		}
	}
	placeholder := "#" + strconv.Itoa(len(u.names))
	u.names[placeholder] = attribute
	return placeholder
}

func (u *update) value(v types.AttributeValue) string {
	placeholder := ":" + strconv.Itoa(len(u.values))
	u.values[placeholder] = v
	return placeholder
}

func (u *update) set(attribute string, v types.AttributeValue) {
	u.sets = append(u.sets, u.name(attribute)+" = "+u.value(v))
}

func (u *update) setOnce(attribute string, v types.AttributeValue) {
	name := u.name(attribute)
	u.sets = append(u.sets, name+" = if_not_exists("+name+", "+u.value(v)+")")
}

func (u *update) add(attribute string, n int) {
	if n != 0 {
		u.adds = append(u.adds, u.name(attribute)+" "+u.value(num(int64(n))))
	}
}

func (u *update) remove(attribute string) { u.removes = append(u.removes, u.name(attribute)) }

// ifTurn makes the update depend on the row's turn. A row that was never moved has none, or does not exist.
func (u *update) ifTurn(turn int64) {
	name := u.name(attrTurn)
	u.condition = name + " = " + u.value(num(turn))
	if turn == 0 {
		u.condition = "(attribute_not_exists(" + name + ") OR " + u.condition + ")"
	}
}

func (u *update) expression() string {
	var clauses []string
	for _, c := range []struct {
		word  string
		parts []string
	}{{"SET ", u.sets}, {"ADD ", u.adds}, {"REMOVE ", u.removes}} {
		if len(c.parts) > 0 {
			clauses = append(clauses, c.word+strings.Join(c.parts, ", "))
		}
	}
	return strings.Join(clauses, " ")
}
