package awslocal_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

// BenchmarkSendReceiveDelete moves messages of 1 KB in batches of ten through the AWS SDK. Most of the time goes to the SDK.
func BenchmarkSendReceiveDelete(b *testing.B) {
	for name, tcp := range map[string]bool{"TCP": true, "memory": false} {
		b.Run(name, func(b *testing.B) {
			service := sqs.New(sqs.Options{})
			q, err := service.CreateQueue("orders", nil)
			if err != nil {
				b.Fatal(err)
			}
			e := awslocal.New(awslocal.Options{}, service)
			defer func() { _ = e.Close() }()
			options := sdk.Options{
				BaseEndpoint: aws.String("http://awslocal"), Region: awslocal.Region,
				Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""),
			}
			if tcp {
				l, err := awslocal.Listen("127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				go func() { _ = e.Serve(l) }()
				options.BaseEndpoint = aws.String("http://" + l.Addr().String())
			} else {
				options.HTTPClient = e.Client()
			}
			c, queueURL, body := sdk.New(options), q.URL(), strings.Repeat("x", 1000)
			entries := make([]types.SendMessageBatchRequestEntry, 10)
			for i := range entries {
				entries[i] = types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &body}
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.SendMessageBatch(b.Context(), &sdk.SendMessageBatchInput{QueueUrl: &queueURL, Entries: entries}); err != nil {
					b.Fatal(err)
				}
				got, err := c.ReceiveMessage(b.Context(), &sdk.ReceiveMessageInput{QueueUrl: &queueURL, MaxNumberOfMessages: 10})
				if err != nil {
					b.Fatal(err)
				}
				var done []types.DeleteMessageBatchRequestEntry
				for i, m := range got.Messages {
					done = append(done, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
				}
				if _, err := c.DeleteMessageBatch(b.Context(), &sdk.DeleteMessageBatchInput{QueueUrl: &queueURL, Entries: done}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(10*b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
