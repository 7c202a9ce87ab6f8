// Package wiring puts the functions together from their drivers: the AWS SDK behind queues and ledger, the webhook
// adapter behind the egress guard. The bootstrap of each function and local mode both call it, so that what runs on a developer's
// machine is what runs in Lambda.
package wiring

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/functions/deliverer"
	"github.com/waybillhq/waybill/functions/router"
	"github.com/waybillhq/waybill/functions/waker"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/breaker"
	breakerdynamo "github.com/waybillhq/waybill/shared/breaker/dynamo"
	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/downstream/webhook"
	"github.com/waybillhq/waybill/shared/egress"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/dynamo"
	"github.com/waybillhq/waybill/shared/limiter"
	limiterdynamo "github.com/waybillhq/waybill/shared/limiter/dynamo"
	"github.com/waybillhq/waybill/shared/pace"
	pacedynamo "github.com/waybillhq/waybill/shared/pace/dynamo"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/queue/sqs"
	"github.com/waybillhq/waybill/shared/registry"
	registrydynamo "github.com/waybillhq/waybill/shared/registry/dynamo"
	"github.com/waybillhq/waybill/shared/secrets"
	"github.com/waybillhq/waybill/shared/sqsevent"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/tracing"
	"github.com/waybillhq/waybill/shared/waiting"
	waitingdynamo "github.com/waybillhq/waybill/shared/waiting/dynamo"
)

// Assembly puts a function together from its configuration and its parts: the type of Router, Deliverer, Waker and Canary.
type Assembly func(config.Function, Parts) (lambda.Handler, error)

// Parts are what a function is put together from besides its configuration.
type Parts struct {
	AWS aws.Config
	// Destinations are from a file that is deployed with the function; nil: those in the registry. What is known of destinations at run time is
	// in the registry in any case.
	Destinations *registry.Set
	Logger       *slog.Logger
	// Metrics takes a line of metrics for each invocation; nil: none are written.
	Metrics io.Writer
	// Tracer takes the spans of each invocation; nil: none are made.
	Tracer *tracing.Tracer
	// OnAttempt, if set, hears of every attempt, from any goroutine. It must be quick.
	OnAttempt func(downstream.Attempt, downstream.Result)
	// Dial connects to destinations; nil: through the egress guard, which is what anything but a test wants.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Now is the clock, Random gives [0, 1) for every jitter, and Token gives what must never repeat; nil: the real ones. A simulation makes clocks
	// differ and draws from a seed.
	Now    func() time.Time
	Random func() float64
	Token  func() string
	// WrapLedger, WrapRoom and WrapQueue may put something around what a function writes to; nil: nothing. A test plants its bugs there.
	WrapLedger func(ledger.Store) ledger.Store
	WrapRoom   func(waiting.Store) waiting.Store
	WrapQueue  func(topology.QueueName, queue.Queue) queue.Queue

	stage *stage // of a rehearsal; nil: this is none
}

// Router puts the router together.
func Router(cfg config.Function, p Parts) (lambda.Handler, error) {
	return rehearsable(cfg, p, routing)
}

func routing(cfg config.Function, p Parts) (eventFunc, error) {
	queues := open(cfg, p)
	destinations, err := directory(cfg, p)
	if err != nil {
		return nil, err
	}
	rc := router.Config{Destinations: destinations, Deliveries: queues[topology.Deliveries], Refused: refusedForGood, Random: p.Random, Logger: p.Logger}
	if cfg.Tenant != "" {
		rc.Tenants = map[string]string{router.EveryQueue: cfg.Tenant}
	}
	if p.stage != nil {
		rc.Destinations = stageSource{destinations}
	}
	r, err := router.New(rc)
	if err != nil {
		return nil, err
	}
	return handler(cfg, p, queues, r.Route, holdNewerEvents)
}

// How long a message waits for the newer release that wrote its note to be back. On the ingress queue anybody may have forged one, and
// then it should be seen soon; what lies on the deliveries queue is ours, and a release may stay rolled back for days.
const (
	holdNewerEvents     = 24 * time.Hour
	holdNewerDeliveries = 10 * 24 * time.Hour
)

// refusedForGood tells whether SQS will never take a message as it is. Missing permissions or keys can be mended.
func refusedForGood(err error) bool {
	const invalid = "InvalidMessageContents"
	var entry *sqs.EntryError
	var api smithy.APIError
	return errors.Is(err, sqs.ErrInvalid) || errors.As(err, &entry) && entry.SenderFault && entry.Code == invalid ||
		errors.As(err, &api) && api.ErrorCode() == invalid
}

// Deliverer puts the deliverer together.
func Deliverer(cfg config.Function, p Parts) (lambda.Handler, error) {
	return rehearsable(cfg, p, delivering)
}

func delivering(cfg config.Function, p Parts) (eventFunc, error) {
	queues := open(cfg, p)
	limits := cfg.Topology.Limits
	destinations, err := directory(cfg, p)
	if err != nil {
		return nil, err
	}
	store, err := store(cfg, p)
	if err != nil {
		return nil, err
	}
	books, err := ledger.New(ledger.Config{
		Store: throttles{store},
		// The handler's context ends before the invocation does; the lease counts from the invocation's end.
		LeaseGrace:   limits.LeaseGrace + limits.AnswerHeadroom,
		LongestLease: cfg.Function.Timeout + limits.LeaseGrace,
		TTL:          p.ledgerTTL(limits),
		Now:          p.Now, NewOwner: p.Token, Random: p.Random,
	})
	if err != nil {
		return nil, err
	}
	keys, err := resolver(p)
	if err != nil {
		return nil, err
	}
	health, err := health(cfg, p)
	if err != nil {
		return nil, err
	}
	rows, err := room(cfg, p)
	if err != nil {
		return nil, err
	}
	waitingRoom, err := waiting.New(waiting.Config{Store: rows, Limits: waitingLimits(cfg), Now: p.Now, NewToken: p.Token, Random: p.Random})
	if err != nil {
		return nil, err
	}
	dial := p.Dial
	if dial == nil {
		dial = egress.NewGuard(cfg.EgressAllow).DialContext
	}
	speed, slowLane, err := lanes(cfg, p, queues)
	if err != nil {
		return nil, err
	}
	rates, err := rates(cfg, p)
	if err != nil {
		return nil, err
	}
	dc := deliverer.Config{
		Destinations: destinations, Ledger: books,
		Adapter:    observed(downstream.Mux{registry.TypeWebhook: webhook.New(webhook.Config{Dial: dial, Concurrency: cfg.Function.Source.BatchSize})}, p.OnAttempt),
		Deliveries: queues[topology.Deliveries], DeadLetters: queues[topology.DeliveriesDeadLetter], Notices: queues[topology.Ingress],
		Room: waitingRoom, Disabler: destinations, Secrets: keys, Breaker: health, Limiter: rates, Turns: queues[topology.DeliveriesSlow], Pace: speed, SlowLane: slowLane, Objective: limits.LatencyObjective, LongestDelay: limits.LongestDelay,
		Headroom: limits.SettleHeadroom, LongestPark: limits.LongestPark,
		Now: p.Now, Random: p.Random, Logger: p.Logger,
	}
	if p.stage != nil {
		p.stage.set(&dc, p)
	}
	d, err := deliverer.New(dc)
	if err != nil {
		return nil, err
	}
	return handler(cfg, p, queues, d.Deliver, holdNewerDeliveries)
}

// drainPerRun is how many parked deliveries of one destination go in a run: a hundred a second, once the ramp of the breaker permits it.
const drainPerRun = 6000

// Waker puts the waker together.
func Waker(cfg config.Function, p Parts) (lambda.Handler, error) {
	rows, err := room(cfg, p)
	if err != nil {
		return nil, err
	}
	destinations, err := directory(cfg, p)
	if err != nil {
		return nil, err
	}
	health, err := health(cfg, p)
	if err != nil {
		return nil, err
	}
	w, err := waker.New(waker.Config{
		Store: rows, Limits: waitingLimits(cfg), Deliveries: open(cfg, p)[topology.Deliveries], Destinations: permits{destinations, health, cfg.Function.Every},
		DrainPerRun: drainPerRun,
		Now:         p.Now, NewToken: p.Token, Random: p.Random, Logger: p.Logger,
	})
	if err != nil {
		return nil, err
	}
	emitter, err := metrics(cfg, p)
	if err != nil {
		return nil, err
	}
	return lambda.NewHandler(traced(cfg, p, measured(emitter, func(ctx context.Context, _ struct{}) (waker.Report, error) {
		report, err := w.Run(ctx)
		publish(telemetry.From(ctx), report)
		return report, err
	}))), nil
}

// lanes knows which destinations are slow, by rows in the registry's table, and the queue of the slow lane; none for the function that works on it.
func lanes(cfg config.Function, p Parts, queues map[topology.QueueName]queue.Queue) (*pace.Pace, queue.Sender, error) {
	store, err := pacedynamo.New(dynamodb.NewFromConfig(p.AWS), cfg.Tables[topology.Registry])
	if err != nil {
		return nil, nil, err
	}
	speed, err := pace.New(pace.Config{Store: store, Now: p.Now, OnProblem: func(err error) { p.Logger.Warn("pace", telemetry.Error(err)) }})
	if err != nil || cfg.Function.Source.Queue == topology.DeliveriesSlow {
		return speed, nil, err
	}
	return speed, queues[topology.DeliveriesSlow], nil
}

// rates keeps destinations within their rates, by rows in the registry's table. On the slow lane invocations wait for calls; elsewhere others would wait with them.
func rates(cfg config.Function, p Parts) (*limiter.Limiter, error) {
	store, err := limiterdynamo.New(dynamodb.NewFromConfig(p.AWS), cfg.Tables[topology.Registry])
	if err != nil {
		return nil, err
	}
	rules := limiter.Rules{ClockSkew: 2 * cfg.Topology.Limits.ClockSkew, Horizon: cfg.Topology.Limits.LongestPark / 2}
	if cfg.Function.Source.Queue != topology.DeliveriesSlow {
		rules.LongestWait = 100 * time.Millisecond
	}
	return limiter.New(limiter.Config{Store: store, Rules: rules, Now: p.Now, Random: p.Random})
}

// permits lets go of what is parked for destinations that may receive, as fast as those that have just recovered can bear. Those that do not exist any more
// may: the deliverer makes dead letters of what they have left.
type permits struct {
	registry.Source
	health *breaker.Breaker
	every  time.Duration // from one run to the next
}

// Drain implements waker.Destinations.
func (p permits) Drain(ctx context.Context, destination string) (waker.Permit, error) {
	set, err := p.Set(ctx)
	if err != nil {
		return waker.Permit{}, err
	}
	if !set.State(destination).MayReceive() {
		return waker.Permit{}, nil
	}
	may, most := p.health.Permit(ctx, destination)
	if d, is := set.Lookup(destination); is && d.Rate != nil { // more would only come back to wait for their turn
		rated := int(max(p.every/d.Rate.Interval(), 1))
		most = min(cmp.Or(most, drainPerRun), rated)
	}
	return waker.Permit{May: may, Most: most}, nil
}

// health knows which destinations fail, by rows in the registry's table.
func health(cfg config.Function, p Parts) (*breaker.Breaker, error) {
	var store breaker.Store
	store, err := breakerdynamo.New(dynamodb.NewFromConfig(p.AWS), cfg.Tables[topology.Registry])
	if err != nil {
		return nil, err
	}
	if p.stage != nil {
		store = stageHealth{store, p.stage}
	}
	limits := cfg.Topology.Limits
	rules := breaker.Rules{ClockSkew: limits.ClockSkew, LongestDelay: limits.LongestDelay}
	for _, f := range cfg.Topology.Functions {
		if f.Source.Queue.Delivers() {
			rules.ProbeFor = max(rules.ProbeFor, f.Timeout+2*limits.ClockSkew)
		}
	}
	if f, ok := cfg.Topology.Function(topology.Waker); ok {
		rules.RampEvery = f.Every
	}
	return breaker.New(breaker.Config{
		Store: store, Rules: rules, Now: p.Now, Random: p.Random,
		OnChange: func(c breaker.Change) {
			p.Logger.Warn("breaker", telemetry.KeyDestination, c.Destination, "from", string(c.From), "to", string(c.To), "trips", c.Trips)
		},
		OnProblem: func(err error) { p.Logger.Warn("breaker", telemetry.Error(err)) },
	})
}

// directory knows the destinations and their states, as the registry has them.
func directory(cfg config.Function, p Parts) (*registry.Cache, error) {
	problem := func(err error) { p.Logger.Error("registry", telemetry.Error(err)) }
	store, err := registrydynamo.New(dynamodb.NewFromConfig(p.AWS), cfg.Tables[topology.Registry], registrydynamo.Options{OnProblem: problem})
	if err != nil {
		return nil, err
	}
	canary, err := canaryDestination(cfg)
	if err != nil {
		return nil, err
	}
	return registry.NewCache(store, registry.CacheConfig{
		Fixed: p.Destinations, Canary: canary, MaxAge: cfg.Topology.Limits.RegistryAge, MaxStale: cfg.Topology.Limits.RegistryStale,
		By: string(cfg.Function.Name), Now: p.Now, OnProblem: problem,
	}), nil
}

// resolver finds the signing keys that destinations name by ARN.
func resolver(p Parts) (*secrets.Resolver, error) {
	return secrets.New(secrets.Config{
		SecretsManager: secretsmanager.NewFromConfig(p.AWS), SSM: ssm.NewFromConfig(p.AWS),
		OnStale: func(s secrets.Stale) {
			p.Logger.Warn("a signing key could not be read again", "secret", s.ARN, "age", s.Age.String(), "serves", s.Serves, telemetry.KeyError, s.Err.Error())
		},
	})
}

// room is the store of the waiting room.
func room(cfg config.Function, p Parts) (waiting.Store, error) {
	store, err := waitingdynamo.New(dynamodb.NewFromConfig(p.AWS), cfg.Tables[topology.Waiting], waitingdynamo.Options{})
	if err != nil || p.WrapRoom == nil {
		return store, err
	}
	return p.WrapRoom(store), nil
}

// waitingLimits are the times that everybody who touches the waiting room must agree on, so they come from the topology alone.
func waitingLimits(cfg config.Function) waiting.Limits {
	l := cfg.Topology.Limits
	limits := waiting.Limits{ClockSkew: l.ClockSkew, MarkCache: l.MarkCache, LongestPark: l.LongestPark, LongestDelay: l.LongestDelay}
	for _, f := range cfg.Topology.Functions {
		limits.FunctionTimeout = max(limits.FunctionTimeout, f.Timeout)
	}
	return limits
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
	both := dynamo.WithFallback(batched, single, dynamo.FallbackOptions{OnFallback: func(ctx context.Context, f dynamo.Fallback) {
		telemetry.From(ctx).Count(telemetry.StoreFallbacks, 1)
		if p.stage != nil { // the function would work, but not as it should
			p.stage.problem(fmt.Errorf("the ledger refuses batches of %s: %w", f.Operation, f.Cause))
		}
		p.Logger.WarnContext(ctx, "ledger store falls back to single items", "operation", f.Operation, "entries", f.Entries, "cause", f.Cause)
	}})
	if p.WrapLedger != nil {
		return p.WrapLedger(both), nil
	}
	return both, nil
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
		if p.stage != nil {
			queues[name] = p.stage.queue(name)
			continue
		}
		queues[name] = sqs.New(api, url, sqs.Options{Concurrency: sendConcurrency})
		if p.WrapQueue != nil {
			queues[name] = p.WrapQueue(name, queues[name])
		}
	}
	return queues
}

func handler(cfg config.Function, p Parts, queues map[topology.QueueName]queue.Queue, fn batch.Func, holdNewer time.Duration) (eventFunc, error) {
	source, ok := cfg.Topology.Queue(cfg.Function.Source.Queue)
	if !ok || queues[source.Name] == nil || queues[source.DeadLetter] == nil {
		return nil, fmt.Errorf("function %s: the topology gives it no access to its source queue %s and its dead-letter queue %s",
			cfg.Function.Name, cfg.Function.Source.Queue, source.DeadLetter)
	}
	emitter, err := metrics(cfg, p)
	if err != nil {
		return nil, err
	}
	return traced(cfg, p, measured(emitter, batch.New(batch.Config{
		Source: queues[source.Name], DeadLetter: queues[source.DeadLetter], MaxReceiveCount: source.MaxReceiveCount,
		Headroom: cfg.Topology.Limits.AnswerHeadroom, HoldNewer: holdNewer, Random: p.Random, Logger: p.Logger,
	}, fn).Handle)), nil
}

// eventHandler takes events of SQS from Lambda, as lambda.NewHandler does, without the price of encoding/json for decoding them.
type eventHandler eventFunc

// Invoke implements lambda.Handler.
func (h eventHandler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	event, err := sqsevent.Decode(payload)
	if err != nil {
		return nil, err
	}
	response, err := h(ctx, event)
	if err != nil {
		return nil, err
	}
	return json.Marshal(response)
}
