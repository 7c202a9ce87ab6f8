// Package dynamo keeps in DynamoDB, in the registry's table, which calls to limited destinations were given away.
//
// Partition key "part" (S), sort key "row" (S). A limited destination has one item, "limit" and the destination's id, so that each has a partition key value
// of its own: part is "limit#ID", row is "calls". Attributes, all N: "next" and "queue", nanoseconds since 1970; "interval", nanoseconds; "expiresAt", seconds
// since 1970, the table's time to live, some days after all that the item says has passed. Applying a file of destinations touches none of it.
//
//	Step  UpdateItem: 1 write unit, refused or not
//
// The SDK repeats a step whose answer was lost. Then it is made twice, and what one of the two took is lost: the limit holds.
package dynamo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/limiter"
)

// Client is what the driver uses of *dynamodb.Client.
type Client interface {
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
}

// Store implements limiter.Store. It is safe for concurrent use.
type Store struct {
	client Client
	table  string
}

var _ limiter.Store = (*Store)(nil)

// New makes the driver over a table. The error is about the table's name; nothing is sent yet.
func New(client Client, table string) (*Store, error) {
	if table == "" {
		return nil, errors.New("dynamo: the registry's table name is empty: take it from the configuration")
	}
	return &Store{client: client, table: table}, nil
}

const (
	attrNext     = "next"
	attrQueue    = "queue"
	attrInterval = "interval"
	attrExpires  = "expiresAt"
)

type attributes = map[string]types.AttributeValue

// Step implements limiter.Store with one UpdateItem.
func (s *Store) Step(ctx context.Context, destination string, step limiter.Step) (limiter.Row, error) {
	u := write(step)
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &s.table,
		Key:       attributes{"part": &types.AttributeValueMemberS{Value: "limit#" + destination}, "row": &types.AttributeValueMemberS{Value: "calls"}},

		UpdateExpression: &u.update, ConditionExpression: &u.condition, ExpressionAttributeNames: u.names, ExpressionAttributeValues: u.values,
		ReturnValues: types.ReturnValueAllNew, ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if refused := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &refused) {
		return decode(refused.Item), limiter.ErrRefused
	}
	if err != nil {
		return limiter.Row{}, fmt.Errorf("update the limit of %.80q in table %q: %w", destination, s.table, err)
	}
	return decode(out.Attributes), nil
}

// expressions are what makes a step. They say what limiter.Step.Apply says.
type expressions struct {
	update, condition string
	names             map[string]string
	values            attributes
}

func write(s limiter.Step) expressions {
	u := expressions{names: map[string]string{"#at": attrNext, "#expires": attrExpires}, values: attributes{":expires": number(s.Expires.Unix())}}
	value := func(name string, v int64) { u.values[name] = number(v) }
	value(":from", s.From.UnixNano())
	if s.Kind == limiter.Turns {
		u.names["#at"] = attrQueue
	}
	if s.Afresh {
		u.update, u.condition = "SET #at = :end, #expires = :expires", "(attribute_not_exists(#at) OR #at < :from"
		value(":end", s.From.Add(s.By).UnixNano())
	} else {
		u.update, u.condition = "SET #at = #at + :by, #expires = :expires", "(#at >= :from AND #at <= :until"
		value(":by", int64(s.By))
		value(":until", s.Until.UnixNano())
	}
	interval := func() {
		u.names["#interval"] = attrInterval
		value(":interval", int64(s.Interval))
	}
	switch {
	case s.Kind == limiter.Turns && s.Afresh:
		interval()
		u.update += ", #interval = :interval"
		u.condition += " OR attribute_not_exists(#interval) OR #interval <> :interval"
	case s.Kind == limiter.Turns:
		interval()
		u.condition += " AND #interval = :interval"
	case s.Afresh:
		value(":beyond", s.Beyond.UnixNano())
		u.condition += " OR #at > :beyond"
	default:
		value(":beyond", s.Beyond.UnixNano())
		u.condition += " AND #at <= :beyond"
	}
	u.condition += ")"
	if s.Kind == limiter.Calls && s.Unqueued {
		interval()
		u.names["#queue"] = attrQueue
		value(":ends", s.QueueEnds.UnixNano())
		u.condition += " AND (attribute_not_exists(#queue) OR attribute_not_exists(#interval) OR #interval <> :interval OR #queue <= :ends)"
	}
	return u
}

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// decode reads an item; what it does not understand is as if it were not there.
func decode(item attributes) limiter.Row {
	read := func(attribute string) int64 {
		if v, is := item[attribute].(*types.AttributeValueMemberN); is {
			if n, err := strconv.ParseInt(v.Value, 10, 64); err == nil {
				return n
			}
		}
		return 0
	}
	instant := func(attribute string) time.Time {
		if n := read(attribute); n != 0 {
			return time.Unix(0, n)
		}
		return time.Time{}
	}
	return limiter.Row{Next: instant(attrNext), Queue: instant(attrQueue), Interval: time.Duration(read(attrInterval))}
}
