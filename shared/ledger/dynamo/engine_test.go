package dynamo_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	engine "github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/dynamo"
	"github.com/waybillhq/waybill/shared/ledger/ledgertest"
)

// shortcut is a client that hands its calls to the engine without the SDK, HTTP and signatures in between: the exhaustive comparisons
// make a hundred thousand of them. All other tests go through the SDK.
type shortcut struct{ engine *engine.Service }

func (s shortcut) do(ctx context.Context, operation string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	out, err := s.engine.Do(ctx, operation, body)
	if refused, ok := errors.AsType[*wire.Error](err); ok {
		if refused.Code != "ConditionalCheckFailedException" {
			return &smithy.GenericAPIError{Code: refused.Code, Message: refused.Message}
		}
		old, err := json.Marshal(refused.Fields["Item"])
		if err != nil {
			return err
		}
		var row plainRow
		if err := json.Unmarshal(old, &row); err != nil {
			return err
		}
		return &types.ConditionalCheckFailedException{Item: row.attributes()}
	}
	if err != nil || response == nil {
		return err
	}
	return json.Unmarshal(out.Body, response)
}

// plain is an attribute value as it stands in a request.
type plain struct {
	S *string `json:",omitempty"`
	N *string `json:",omitempty"`
}

type plainRow map[string]plain

func plainOf(v types.AttributeValue) plain {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return plain{S: &v.Value}
	case *types.AttributeValueMemberN:
		return plain{N: &v.Value}
	}
	return plain{}
}

func plainRowOf(r attributes) plainRow {
	out := plainRow{}
	for name, v := range r {
		out[name] = plainOf(v)
	}
	return out
}

func (r plainRow) attributes() attributes {
	out := attributes{}
	for name, v := range r {
		if v.S != nil {
			out[name] = str(*v.S)
		} else {
			out[name] = &types.AttributeValueMemberN{Value: *v.N}
		}
	}
	return out
}

func (s shortcut) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return &dynamodb.UpdateItemOutput{}, s.do(ctx, "UpdateItem", map[string]any{
		"TableName": in.TableName, "Key": plainRowOf(in.Key), "UpdateExpression": in.UpdateExpression, "ConditionExpression": in.ConditionExpression,
		"ExpressionAttributeNames": in.ExpressionAttributeNames, "ExpressionAttributeValues": plainRowOf(in.ExpressionAttributeValues),
		"ReturnValuesOnConditionCheckFailure": in.ReturnValuesOnConditionCheckFailure,
	}, nil)
}

func (s shortcut) BatchExecuteStatement(ctx context.Context, in *dynamodb.BatchExecuteStatementInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error) {
	type statement struct {
		Statement  *string
		Parameters []plain
	}
	var request struct{ Statements []statement }
	for _, st := range in.Statements {
		own := statement{Statement: st.Statement}
		for _, p := range st.Parameters {
			own.Parameters = append(own.Parameters, plainOf(p))
		}
		request.Statements = append(request.Statements, own)
	}
	var response struct {
		Responses []struct {
			Error *struct{ Code, Message string }
		}
	}
	if err := s.do(ctx, "BatchExecuteStatement", request, &response); err != nil {
		return nil, err
	}
	out := &dynamodb.BatchExecuteStatementOutput{}
	for _, r := range response.Responses {
		own := types.BatchStatementResponse{}
		if r.Error != nil {
			own.Error = &types.BatchStatementError{Code: types.BatchStatementErrorCodeEnum(r.Error.Code), Message: aws.String(r.Error.Message)}
		}
		out.Responses = append(out.Responses, own)
	}
	return out, nil
}

func (s shortcut) BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	return nil, errors.New("the exhaustive comparisons do not read through the store")
}

// shortcutHarness is the second way in, on the same short path.
func (db *database) shortcutHarness(store ledger.Store) ledgertest.Harness {
	s := shortcut{db.engine}
	return ledgertest.Harness{
		Store: store,
		Put: func(t testing.TB, items ...ledger.Item) {
			t.Helper()
			for chunk := range slices.Chunk(items, 25) {
				var writes []any
				for _, i := range chunk {
					writes = append(writes, map[string]any{"PutRequest": map[string]any{"Item": plainRowOf(rowOf(i))}})
				}
				if err := s.do(t.Context(), "BatchWriteItem", map[string]any{"RequestItems": map[string]any{table: writes}}, nil); err != nil {
					t.Fatal(err)
				}
			}
		},
		Rows: func(t testing.TB) map[delivery.ID]ledger.Item {
			t.Helper()
			items := map[delivery.ID]ledger.Item{}
			request := map[string]any{"TableName": table}
			for {
				var page struct {
					Items            []plainRow
					LastEvaluatedKey plainRow
				}
				if err := s.do(t.Context(), "Scan", request, &page); err != nil {
					t.Fatal(err)
				}
				for _, r := range page.Items {
					item := itemOf(t, r.attributes())
					items[item.Delivery] = item
				}
				if page.LastEvaluatedKey == nil {
					return items
				}
				request["ExclusiveStartKey"] = page.LastEvaluatedKey
			}
		},
	}
}

// shortcutStores are the two forms on the short path.
func (db *database) shortcutStores(t testing.TB) (*dynamo.ItemStore, *dynamo.BatchStore) {
	t.Helper()
	item, err := dynamo.NewItem(shortcut{db.engine}, table, dynamo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := dynamo.NewBatch(shortcut{db.engine}, table, dynamo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return item, batch
}

// TestStoresDecideLikeTheProtocol compares three epochs by three attempts; the suite, through the SDK, two by two. Claims and records of the
// batch form are left to the suite: what is not an INSERT is the item form's.
func TestStoresDecideLikeTheProtocol(t *testing.T) {
	t.Parallel()
	domain := ledgertest.Domain{Epochs: 3, Attempts: 3}
	t.Run("item", func(t *testing.T) {
		t.Parallel()
		db := openDatabase(t)
		item, _ := db.shortcutStores(t)
		if err := ledgertest.Compare(t, db.shortcutHarness(item), domain); err != nil {
			t.Error(err)
		}
	})
	t.Run("batch", func(t *testing.T) {
		t.Parallel()
		db := openDatabase(t)
		_, batch := db.shortcutStores(t)
		h := db.shortcutHarness(batch)
		if err := errors.Join(ledgertest.CompareSettles(t, h, domain), ledgertest.CompareReleases(t, h, domain)); err != nil {
			t.Error(err)
		}
	})
}
