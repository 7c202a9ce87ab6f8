// Command producers sends events to Waybill: go run ./scripts/producers QUEUE_URL
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/events/producer"
)

type order struct {
	Order int     `json:"order"`
	Total float64 `json:"total"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: producers QUEUE_URL")
	}
	if err := send(context.Background(), os.Args[1], order{502, 19.90}, order{503, 5.25}); err != nil {
		log.Fatal(err)
	}
}

func send(ctx context.Context, queue string, orders ...order) error {
	var paid []events.Event
	for _, o := range orders {
		e, err := producer.New("/shop/orders", "order.paid", producer.Tenant("acme"), producer.JSON(o),
			producer.ID(fmt.Sprintf("order-%d-paid", o.Order))) // from what happened: sent again, it is the same event and is delivered once
		if err != nil {
			return err
		}
		paid = append(paid, e)
	}
	batches, err := producer.Batches(paid) // as few as SQS's limits allow
	if err != nil {
		return err
	}
	account, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	client := sqs.NewFromConfig(account)
	for _, batch := range batches {
		in := &sqs.SendMessageBatchInput{QueueUrl: &queue}
		for _, e := range batch {
			in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{Id: &e.ID, MessageBody: &e.Body, MessageGroupId: &e.GroupID})
		}
		out, err := client.SendMessageBatch(ctx, in)
		if err != nil {
			return err
		}
		if len(out.Failed) > 0 { // the call as a whole can succeed even so
			first := out.Failed[0]
			return fmt.Errorf("%d not sent, first %s: %s", len(out.Failed), *first.Id, *first.Code) // send them again: what did arrive is not delivered twice
		}
	}
	return nil
}
