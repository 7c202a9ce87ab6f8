package program

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/events/producer"
	"github.com/waybillhq/waybill/shared/topology"
)

// streamed are the types of the events of -stream. Each is wanted by a destination of the demo that gets over its failures: nobody would ever take a
// payment.failed, for one.
var streamed = []string{"order.created", "scan.taken", "stock.low", "feed.published", "payment.settled", "stock.out"}

const streamEvery = 100 * time.Millisecond

// stream sends new events for as long as -stream says, ten a second. That ctx ends meanwhile is no error.
func (r *run) stream(ctx context.Context) error {
	if r.options.stream == 0 {
		return nil
	}
	ingress, ok := r.system.Queues.Queue(string(topology.Ingress))
	if !ok {
		return errors.New("the ingress queue does not exist")
	}
	client := awssqs.NewFromConfig(r.system.AWS())
	ticker := time.NewTicker(streamEvery)
	defer ticker.Stop()
	for n := range int(r.options.stream / streamEvery) {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		message, err := streamedMessage(n)
		if err != nil {
			return err
		}
		in := &awssqs.SendMessageInput{QueueUrl: aws.String(ingress.URL()), MessageBody: &message.Body, MessageGroupId: &message.GroupID}
		if _, err := client.SendMessage(ctx, in); err != nil && ctx.Err() == nil {
			return fmt.Errorf("-stream: event %d cannot be sent: %w", n, err)
		}
	}
	return nil
}

func streamedMessage(n int) (producer.Message, error) {
	tenants := []string{"acme", "globex", "initech"}
	e, err := producer.New("/demo/stream", streamed[n%len(streamed)], producer.ID(fmt.Sprintf("stream-%d", n)),
		producer.Tenant(tenants[n%len(tenants)]), producer.JSON(map[string]int{"number": n}))
	if err != nil {
		return producer.Message{}, err
	}
	return producer.NewMessage(e)
}
