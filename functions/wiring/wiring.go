// Package wiring puts the functions together from their drivers: the AWS SDK behind queues and ledger, the webhook
// adapter behind the egress guard. The bootstrap of each function and local mode both call it, so that what runs on a developer's
// machine is what runs in Lambda.
package wiring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/functions/deliverer"
	"github.com/waybillhq/waybill/functions/router"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/downstream/webhook"
	"github.com/waybillhq/waybill/shared/egress"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/dynamo"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/queue/sqs"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

// Parts are what a function is put together from besides its configuration.
type Parts struct {
	AWS          aws.Config
	Destinations registry.Source
	Logger       *slog.Logger
	// Dial connects to destinations; nil: through the egress guard, which is what anything but a test wants.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Router puts the router together.
func Router(cfg config.Function, p Parts) (*batch.Handler, error) {
	queues := open(cfg, p)
	r, err := router.New(router.Config{Destinations: p.Destinations, Deliveries: queues[topology.Deliveries], Logger: p.Logger})
	if err != nil {
		return nil, err
	}
	return handler(cfg, p, queues, r.Route)
}

// Deliverer puts the deliverer together.
func Deliverer(cfg config.Function, p Parts) (*batch.Handler, error) {
	queues := open(cfg, p)
	limits := cfg.Topology.Limits
	client := dynamodb.NewFromConfig(p.AWS)
	table := cfg.Tables[topology.Ledger]
	books, err := ledger.New(ledger.Config{
		Store:        dynamo.WithFallback(dynamo.NewBatch(client, table, dynamo.Options{}), dynamo.NewItem(client, table, dynamo.Options{}), dynamo.FallbackOptions{}),
		LeaseGrace:   limits.LeaseGrace,
		LongestLease: cfg.Function.Timeout + limits.LeaseGrace,
		TTL:          limits.LedgerTTL(),
	})
	if err != nil {
		return nil, err
	}
	dial := p.Dial
	if dial == nil {
		dial = egress.NewGuard(cfg.EgressAllow).DialContext
	}
	d, err := deliverer.New(deliverer.Config{
		Destinations: p.Destinations, Ledger: books,
		Adapter:    downstream.Mux{"webhook": webhook.New(webhook.Config{Dial: dial, Concurrency: cfg.Function.Source.BatchSize})},
		Deliveries: queues[topology.Deliveries], DeadLetters: queues[topology.DeliveriesDeadLetter],
		Headroom: limits.Headroom, LongestPark: limits.LongestPark, Logger: p.Logger,
	})
	if err != nil {
		return nil, err
	}
	return handler(cfg, p, queues, d.Deliver)
}

func open(cfg config.Function, p Parts) map[topology.QueueName]queue.Queue {
	client := awssqs.NewFromConfig(p.AWS)
	queues := map[topology.QueueName]queue.Queue{}
	for name, url := range cfg.Queues {
		queues[name] = sqs.New(client, url, sqs.Options{})
	}
	return queues
}

func handler(cfg config.Function, p Parts, queues map[topology.QueueName]queue.Queue, fn batch.Func) (*batch.Handler, error) {
	source, ok := cfg.Topology.Queue(cfg.Function.Source.Queue)
	if !ok || queues[source.Name] == nil || queues[source.DeadLetter] == nil {
		return nil, errors.Join(fmt.Errorf("function %s: the topology gives it no access to its source queue %s and its dead-letter queue %s",
			cfg.Function.Name, cfg.Function.Source.Queue, source.DeadLetter))
	}
	return batch.New(batch.Config{
		Source: queues[source.Name], DeadLetter: queues[source.DeadLetter], MaxReceiveCount: source.MaxReceiveCount,
		Logger: p.Logger,
	}, fn), nil
}
