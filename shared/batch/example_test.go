package batch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/outcome"
)

func Example() {
	source, deadLetter := &recorder{}, &recorder{} // in a function: the SQS driver, shared/queue/sqs
	handler := batch.New(batch.Config{
		Source: source, DeadLetter: deadLetter, MaxReceiveCount: 10,
		Logger: slog.New(slog.DiscardHandler),
	}, batch.Each(10, func(_ context.Context, r batch.Record) error {
		switch r.Body {
		case "malformed":
			return outcome.Reject("malformed", errors.New("no event"))
		case "too early":
			return outcome.Defer(time.Minute, nil)
		case "unlucky":
			return errors.New("try again")
		}
		return nil
	}))

	var event events.SQSEvent
	for i, body := range []string{"fine", "malformed", "too early", "unlucky"} {
		event.Records = append(event.Records, events.SQSMessage{MessageId: fmt.Sprint("id-", i), ReceiptHandle: fmt.Sprint("r-", i), Body: body})
	}
	response, err := handler.Handle(context.Background(), event)
	answer, _ := json.Marshal(response)
	fmt.Println(string(answer), err)
	fmt.Println("sent again:", source.bodies(), "in", source.sent[0].Delay)
	fmt.Println("dead letters:", deadLetter.bodies())
	// Output:
	// {"batchItemFailures":[{"itemIdentifier":"id-3"}]} <nil>
	// sent again: [too early] in 1m0s
	// dead letters: [malformed]
}
