package dynamo_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/apart"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/dynamo"
	"github.com/waybillhq/waybill/shared/requestbody"
)

func TestApart(t *testing.T) { apart.Serve(t) }

// BenchmarkTenDeliveries claims and settles ten first-time deliveries through package ledger, beside what is usually written by hand: a
// conditional put before each record and an update after it, one record at a time or all at once. The endpoint is another
// process, so cpu-µs is the client's alone. What a network would add per call is not in the figures, but the number of calls is.
func BenchmarkTenDeliveries(b *testing.B) {
	for _, form := range []string{"batch", "item", "relaxed", "by hand, one at a time", "by hand, all at once"} {
		b.Run(form, func(b *testing.B) {
			p := apart.Start(b)
			client := apartClient(b, p)
			run := map[string]func(context.Context, []delivery.ID){
				"batch": throughLedger(b, client, false, false), "item": throughLedger(b, client, true, false), "relaxed": throughLedger(b, client, false, true),
				"by hand, one at a time": byHand(b, client, false), "by hand, all at once": byHand(b, client, true),
			}[form]
			n := 0
			apart.Measure(b, p, func() []delivery.ID {
				ids := make([]delivery.ID, 10)
				for i := range ids {
					n++
					ids[i] = claimOf(n, 0, 1).Delivery
				}
				return ids
			}, func(ids []delivery.ID) { run(b.Context(), ids) })
		})
	}
}

func apartClient(b *testing.B, p *apart.Process) *dynamodb.Client {
	b.Helper()
	client := dynamodb.New(dynamodb.Options{
		Region: awslocal.Region, BaseEndpoint: aws.String(p.URL), Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
		APIOptions: []func(*middleware.Stack) error{requestbody.ReadOnly},
	})
	_, err := client.CreateTable(b.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String(table), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("delivery"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("delivery"), KeyType: types.KeyTypeHash}},
	})
	if err != nil {
		b.Fatal(err)
	}
	return client
}

// throughLedger claims and settles as the deliverer does.
func throughLedger(b *testing.B, client *dynamodb.Client, item, relaxed bool) func(context.Context, []delivery.ID) {
	b.Helper()
	batch, err := dynamo.NewBatch(client, table, dynamo.Options{})
	if err != nil {
		b.Fatal(err)
	}
	single, err := dynamo.NewItem(client, table, dynamo.Options{})
	if err != nil {
		b.Fatal(err)
	}
	store := ledger.Store(dynamo.WithFallback(batch, single, dynamo.FallbackOptions{}))
	if item {
		store = single
	}
	books, err := ledger.New(ledger.Config{Store: store, LeaseGrace: 10 * time.Second, LongestLease: time.Minute, TTL: 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	return func(ctx context.Context, ids []delivery.ID) {
		requests := make([]ledger.Request, len(ids))
		for i, id := range ids {
			requests[i] = ledger.Request{Delivery: id, Attempt: 1, Relaxed: relaxed}
		}
		closes := make([]ledger.Close, len(ids))
		for i, g := range books.Claim(ctx, requests) {
			if g.Verdict != ledger.Granted {
				b.Fatal(g)
			}
			closes[i] = ledger.Close{
				Delivery: ids[i], Attempt: 1, Owner: g.Owner, Unclaimed: g.Unclaimed, State: ledger.Delivered, Code: 200,
			}
		}
		for _, err := range books.Settle(ctx, closes) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// byHand is the plain handler.
func byHand(b *testing.B, client *dynamodb.Client, parallel bool) func(context.Context, []delivery.ID) {
	b.Helper()
	return func(ctx context.Context, ids []delivery.ID) {
		var wg sync.WaitGroup
		for _, id := range ids {
			one := func() {
				if err := oneByHand(ctx, client, id); err != nil {
					b.Error(err)
				}
			}
			if parallel {
				wg.Go(one)
			} else {
				one()
			}
		}
		wg.Wait()
	}
}

func oneByHand(ctx context.Context, client *dynamodb.Client, id delivery.ID) error {
	now := time.Now()
	_, err := client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(table),
		Item: attributes{
			"delivery": str(string(id)), "state": str("claimed"), "owner": str("me"), "epoch": num(0), "attempt": num(1),
			"leaseUntil": num(now.Add(time.Minute).UnixMilli()), "expiresAt": num(now.Add(24 * time.Hour).Unix()),
		},
		ConditionExpression:       aws.String("attribute_not_exists(delivery) OR leaseUntil < :now"),
		ExpressionAttributeValues: attributes{":now": num(now.UnixMilli())},
	})
	if err != nil {
		return fmt.Errorf("put: %w", err)
	}
	_, err = client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(table), Key: attributes{"delivery": str(string(id))},
		UpdateExpression: aws.String("SET #state = :delivered"), ExpressionAttributeNames: map[string]string{"#state": "state"},
		ExpressionAttributeValues: attributes{":delivered": str("delivered")},
	})
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	return nil
}
