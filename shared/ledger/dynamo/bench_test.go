package dynamo_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/dynamo"
)

// BenchmarkTenDeliveries claims and settles ten first-time deliveries, over HTTP in memory, beside what is usually written by hand: a
// conditional put before each record and an update after it. The endpoint shares the CPU; it answers at once, so what
// a network would add per call is not in the figures, but the number of calls is.
func BenchmarkTenDeliveries(b *testing.B) {
	for _, form := range []string{"batch", "item", "by hand"} {
		b.Run(form, func(b *testing.B) {
			db := openDatabase(b)
			client := dynamodb.New(db.client.Options(), func(o *dynamodb.Options) { o.HTTPClient = db.endpoint.Client() })
			b.Cleanup(func() { _ = db.endpoint.Close() })
			run := byHand(b, client)
			if form != "by hand" {
				run = throughStore(b, client, form)
			}
			n := 0
			before := db.endpoint.Counts()
			b.ReportAllocs()
			for b.Loop() {
				var claims []ledger.Claim
				for range 10 {
					n++
					claims = append(claims, claimOf(n, 0, 1))
				}
				run(b.Context(), claims)
			}
			spent := db.endpoint.Counts().Since(before).Total("dynamodb")
			b.ReportMetric(float64(spent.Attempted)*10/float64(n), "calls/op")
			b.ReportMetric(spent.Units.Write*10/float64(n), "units/op")
		})
	}
}

func throughStore(b *testing.B, client *dynamodb.Client, form string) func(context.Context, []ledger.Claim) {
	b.Helper()
	batch, err := dynamo.NewBatch(client, table, dynamo.Options{})
	if err != nil {
		b.Fatal(err)
	}
	item, err := dynamo.NewItem(client, table, dynamo.Options{})
	if err != nil {
		b.Fatal(err)
	}
	store := map[string]ledger.Store{"batch": batch, "item": item}[form]
	return func(ctx context.Context, claims []ledger.Claim) {
		var settlements []ledger.Settlement
		for i, a := range store.Claim(ctx, claims) {
			if a.Verdict != ledger.Granted {
				b.Fatal(a)
			}
			settlements = append(settlements, settlementOf(claims[i]))
		}
		for _, err := range store.Settle(ctx, settlements) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

func byHand(b *testing.B, client *dynamodb.Client) func(context.Context, []ledger.Claim) {
	b.Helper()
	return func(ctx context.Context, claims []ledger.Claim) {
		for _, c := range claims {
			_, err := client.PutItem(ctx, &dynamodb.PutItemInput{
				TableName: aws.String(table),
				Item: attributes{
					"delivery": str(string(c.Delivery)), "state": str("claimed"), "owner": str(c.Owner), "epoch": num(0), "attempt": num(1),
					"leaseUntil": num(c.LeaseUntil.UnixMilli()), "expiresAt": num(c.ExpiresAt.Unix()),
				},
				ConditionExpression:       aws.String("attribute_not_exists(delivery) OR leaseUntil < :now"),
				ExpressionAttributeValues: attributes{":now": num(c.Now.UnixMilli())},
			})
			if err != nil {
				b.Fatal(fmt.Errorf("put: %w", err))
			}
			_, err = client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
				TableName: aws.String(table), Key: attributes{"delivery": str(string(c.Delivery))},
				UpdateExpression: aws.String("SET #state = :delivered"), ExpressionAttributeNames: map[string]string{"#state": "state"},
				ExpressionAttributeValues: attributes{":delivered": str("delivered")},
			})
			if err != nil {
				b.Fatal(fmt.Errorf("update: %w", err))
			}
		}
	}
}
