package mapping_test

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

// A handler written for aws-lambda-go, run against a local queue.
func Example() {
	queue, err := sqs.New(sqs.Options{}).CreateQueue("orders", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan struct{})
	handle := func(_ context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
		fmt.Println("got", e.Records[0].Body)
		close(done)
		return events.SQSEventResponse{}, nil
	}
	function, err := mapping.NewFunction(mapping.FunctionConfig{
		Name:    "orders",
		Timeout: 5 * time.Second,
		New:     func() mapping.Handler { return lambda.NewHandler(handle) },
		Context: func(ctx context.Context, requestID, arn string) context.Context {
			return lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: requestID, InvokedFunctionArn: arn})
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := mapping.New(mapping.Config{Queue: mapping.SQS(queue), Function: function, ReportBatchItemFailures: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Start(context.Background())
	if _, err := queue.Send(sqs.Outgoing{Body: "order 1"}); err != nil {
		fmt.Println(err)
	}
	<-done
	if err := m.Stop(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println("left in the queue:", queue.Depth().Total())
	// Output:
	// got order 1
	// left in the queue: 0
}
