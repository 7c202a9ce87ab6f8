// Package dynamo keeps in DynamoDB, in the registry's table, which destinations answer late.
//
// Partition key "part" (S), sort key "row" (S). All rows lie in the partition "pace", under the id of their destination, so that one Query reads them. A slot
// is an attribute "n#NUMBER" (N). A row has about a hundred bytes and ends by its attribute "expiresAt" (N, seconds since 1970), the table's time to live: all of
// them are read every few seconds, and after one bad hour of our own network every destination would have one.
//
//	All   Query, eventually consistent: half a read unit for each 4 KB
//	Add   UpdateItem: 1 write unit
package dynamo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/pace"
)

// Client is what the driver uses of *dynamodb.Client.
type Client interface {
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
}

// Store implements pace.Store. It is safe for concurrent use.
type Store struct {
	client Client
	table  string
}

var _ pace.Store = (*Store)(nil)

// New makes the driver over a table. The error is about the table's name; nothing is sent yet.
func New(client Client, table string) (*Store, error) {
	if table == "" {
		return nil, errors.New("dynamo: the registry's table name is empty: take it from the configuration")
	}
	return &Store{client: client, table: table}, nil
}

const (
	attrPart = "part"
	attrRow  = "row"
	partPace = "pace"
	prefix   = "n#"

	attrExpires = "expiresAt"
	keep        = time.Hour // much longer than a slot counts; DynamoDB deletes hours or days later
)

type attributes = map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// All implements pace.Store with one Query, and more only where rows fill more than a megabyte.
func (s *Store) All(ctx context.Context) (map[string]pace.Row, error) {
	in := &dynamodb.QueryInput{
		TableName: &s.table, KeyConditionExpression: aws.String("#part = :part"),
		ExpressionAttributeNames: map[string]string{"#part": attrPart}, ExpressionAttributeValues: attributes{":part": text(partPace)},
	}
	rows := map[string]pace.Row{}
	for {
		out, err := s.client.Query(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("query table %q: %w", s.table, err)
		}
		for _, item := range out.Items {
			if id, is := item[attrRow].(*types.AttributeValueMemberS); is {
				rows[id.Value] = decode(item)
			}
		}
		if len(out.LastEvaluatedKey) == 0 {
			return rows, nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// Add implements pace.Store.
func (s *Store) Add(ctx context.Context, destination string, slot pace.Slot, n int, remove []pace.Slot) (pace.Row, error) {
	names, removed := map[string]string{"#n": name(slot), "#expires": attrExpires}, []string(nil)
	for i, old := range remove {
		if old != slot {
			placeholder := "#r" + strconv.Itoa(i)
			names[placeholder], removed = name(old), append(removed, placeholder)
		}
	}
	expression := "SET #expires = :expires ADD #n :n"
	if len(removed) > 0 {
		expression += " REMOVE " + strings.Join(removed, ", ")
	}
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &s.table, Key: attributes{attrPart: text(partPace), attrRow: text(destination)},
		UpdateExpression: &expression, ExpressionAttributeNames: names,
		ExpressionAttributeValues: attributes{
			":n": &types.AttributeValueMemberN{Value: strconv.Itoa(n)}, ":expires": &types.AttributeValueMemberN{Value: expires(slot)},
		},
		ReturnValues: types.ReturnValueAllNew,
	})
	if err != nil {
		return nil, fmt.Errorf("update %.80q in table %q: %w", destination, s.table, err)
	}
	return decode(out.Attributes), nil
}

// expires is when a row may go that was last written in a slot.
func expires(s pace.Slot) string { return strconv.FormatInt(s.Begin().Add(keep).Unix(), 10) }

func name(s pace.Slot) string { return prefix + strconv.FormatInt(int64(s), 10) }

// decode reads a row as far as it can; what it does not understand counts nothing.
func decode(item attributes) pace.Row {
	row := pace.Row{}
	for attribute, value := range item {
		digits, is := strings.CutPrefix(attribute, prefix)
		number, isNumber := value.(*types.AttributeValueMemberN)
		if !is || !isNumber {
			continue
		}
		slot, err := strconv.ParseInt(digits, 10, 64)
		n, err2 := strconv.Atoi(number.Value)
		if err == nil && err2 == nil {
			row[pace.Slot(slot)] = n
		}
	}
	return row
}
