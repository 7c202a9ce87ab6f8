// Package wiring puts the functions together from their drivers: the AWS SDK behind queues and ledger, the webhook
// adapter behind the egress guard. The bootstrap of each function and local mode both call it, so that what runs on a developer's
// machine is what runs in Lambda.
package wiring

import (
	"context"
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
	// OnAttempt, if set, hears of every attempt, from any goroutine. It must be quick.
	OnAttempt func(downstream.Attempt, downstream.Result)
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
	store, err := store(cfg, p)
	if err != nil {
		return nil, err
	}
	books, err := ledger.New(ledger.Config{
		Store: store,
		// The handler's context ends before the invocation does; the lease counts from the invocation's end.
		LeaseGrace:   limits.LeaseGrace + limits.AnswerHeadroom,
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
		Adapter:    observed(downstream.Mux{registry.TypeWebhook: webhook.New(webhook.Config{Dial: dial, Concurrency: cfg.Function.Source.BatchSize})}, p.OnAttempt),
		Deliveries: queues[topology.Deliveries], DeadLetters: queues[topology.DeliveriesDeadLetter],
		Headroom: limits.SettleHeadroom, LongestPark: limits.LongestPark, Logger: p.Logger,
	})
	if err != nil {
		return nil, err
	}
	return handler(cfg, p, queues, d.Deliver)
}

// store is the ledger's: the batch form, which gives way to the item form where it is refused.
func store(cfg config.Function, p Parts) (ledger.Store, error) {
	api, table := dynamodb.NewFromConfig(p.AWS), cfg.Tables[topology.Ledger]
	batched, err := dynamo.NewBatch(api, table, dynamo.Options{})
	if err != nil {
		return nil, err
	}
	single, err := dynamo.NewItem(api, table, dynamo.Options{})
	if err != nil {
		return nil, err
	}
	return dynamo.WithFallback(batched, single, dynamo.FallbackOptions{OnFallback: func(f dynamo.Fallback) {
		p.Logger.Warn("ledger store falls back to single items", "operation", f.Operation, "entries", f.Entries, "cause", f.Cause)
	}}), nil
}

// observed tells hear of every attempt that a makes.
func observed(a downstream.Adapter, hear func(downstream.Attempt, downstream.Result)) downstream.Adapter {
	if hear == nil {
		return a
	}
	return tap{a, hear}
}

type tap struct {
	downstream.Adapter
	hear func(downstream.Attempt, downstream.Result)
}

// Deliver implements downstream.Adapter.
func (t tap) Deliver(ctx context.Context, attempts []downstream.Attempt, done func(i int, r downstream.Result)) {
	t.Adapter.Deliver(ctx, attempts, func(i int, r downstream.Result) {
		t.hear(attempts[i], r)
		done(i, r)
	})
}

// sendConcurrency is how many calls to one queue are made at a time. A load of the router is 16 MiB, or a thousand calls of ten: fewer
// at a time, and a message that fans out widely would not be routed within one invocation.
const sendConcurrency = 16

func open(cfg config.Function, p Parts) map[topology.QueueName]queue.Queue {
	api := awssqs.NewFromConfig(p.AWS)
	queues := map[topology.QueueName]queue.Queue{}
	for name, url := range cfg.Queues {
		queues[name] = sqs.New(api, url, sqs.Options{Concurrency: sendConcurrency})
	}
	return queues
}

func handler(cfg config.Function, p Parts, queues map[topology.QueueName]queue.Queue, fn batch.Func) (*batch.Handler, error) {
	source, ok := cfg.Topology.Queue(cfg.Function.Source.Queue)
	if !ok || queues[source.Name] == nil || queues[source.DeadLetter] == nil {
		return nil, fmt.Errorf("function %s: the topology gives it no access to its source queue %s and its dead-letter queue %s",
			cfg.Function.Name, cfg.Function.Source.Queue, source.DeadLetter)
	}
	return batch.New(batch.Config{
		Source: queues[source.Name], DeadLetter: queues[source.DeadLetter], MaxReceiveCount: source.MaxReceiveCount,
		Headroom: cfg.Topology.Limits.AnswerHeadroom, Logger: p.Logger,
	}, fn), nil
}
