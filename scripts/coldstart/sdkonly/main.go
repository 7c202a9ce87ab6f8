// Command sdkonly is a Lambda function with clients for SQS and DynamoDB and nothing else: what the AWS SDK takes to start. It sends the message that it is
// invoked with, and reads an item.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

func main() {
	account, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	queues, tables := sqs.NewFromConfig(account), dynamodb.NewFromConfig(account)
	queue, table := os.Getenv("QUEUE_URL"), os.Getenv("TABLE") //nolint:forbidigo // a main
	lambda.Start(func(ctx context.Context, event json.RawMessage) error {
		if _, err := queues.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &queue, MessageBody: aws.String(string(event))}); err != nil {
			return err
		}
		_, err := tables.GetItem(ctx, &dynamodb.GetItemInput{
			TableName: &table, Key: map[string]types.AttributeValue{"delivery": &types.AttributeValueMemberS{Value: "none"}},
		})
		return err
	})
}
