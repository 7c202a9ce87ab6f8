package wiring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	lambdaevents "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/functions/deliverer"
	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/rehearsal"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waiting"
)

// rehearsalTTL is how long the ledger keeps what a rehearsal wrote.
const rehearsalTTL = time.Hour

// eventFunc works on an event of SQS.
type eventFunc func(context.Context, lambdaevents.SQSEvent) (lambdaevents.SQSEventResponse, error)

// rehearsable makes a handler of what assemble puts together. A rehearsal (package rehearsal) is played on the same function put together anew, on a
// stage in place of everything that has an effect; it costs nothing until there is one.
func rehearsable(cfg config.Function, p Parts, assemble func(config.Function, Parts) (eventFunc, error)) (lambda.Handler, error) {
	work, err := assemble(cfg, p)
	if err != nil {
		return nil, err
	}
	return eventHandler(func(ctx context.Context, e lambdaevents.SQSEvent) (lambdaevents.SQSEventResponse, error) {
		is, err := rehearsal.Is(&e)
		if err != nil {
			return lambdaevents.SQSEventResponse{}, err
		}
		if !is {
			return work(ctx, e)
		}
		s := &stage{cfg: cfg, logger: p.Logger, sent: map[topology.QueueName][]string{}, tried: map[string]bool{}}
		p := p
		p.stage, p.Metrics, p.OnAttempt = s, nil, nil
		rehearsed, err := assemble(cfg, p)
		if err != nil {
			return lambdaevents.SQSEventResponse{}, err
		}
		s.tryQueues(ctx, awssqs.NewFromConfig(p.AWS))
		response, err := rehearsed(ctx, e)
		if err != nil {
			return response, err
		}
		return s.verdict(ctx, e, response)
	}), nil
}

// stage stands where a function under rehearsal would have an effect. It lets through what only reads, and the ledger, whose rows are the rehearsal's own and
// expire; of the rest it sees to it that the function may do it. It is safe for concurrent use.
type stage struct {
	cfg    config.Function
	logger *slog.Logger

	mu       sync.Mutex
	sent     map[topology.QueueName][]string // bodies
	tried    map[string]bool                 // ids of events whose delivery was tried
	problems []error
}

func (s *stage) problem(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, err)
}

// verdict compares what has become of each record with what must have. What no record explains is an error: it was nobody's fate.
func (s *stage) verdict(ctx context.Context, e lambdaevents.SQSEvent, r lambdaevents.SQSEventResponse) (lambdaevents.SQSEventResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	source := s.cfg.Function.Source.Queue
	q, _ := s.cfg.Topology.Queue(source)
	dead, again := s.sent[q.DeadLetter], s.sent[source]
	failures := []lambdaevents.SQSBatchItemFailure{}
	for i := range e.Records {
		m := &e.Records[i]
		fate := rehearsal.Done
		switch {
		case take(&dead, m.Body):
			fate = rehearsal.Refused
		case take(&again, m.Body):
			fate = rehearsal.Deferred
		}
		returned := slices.ContainsFunc(r.BatchItemFailures, func(f lambdaevents.SQSBatchItemFailure) bool { return f.ItemIdentifier == m.MessageId })
		idle := fate == rehearsal.Done && source.Delivers() && !s.tried[m.MessageId]
		if want := rehearsal.FateOf(m); fate == want && !returned && !idle {
			continue
		}
		s.logger.LogAttrs(ctx, slog.LevelError, "rehearsal: a record came out otherwise than it must", slog.String("record", m.MessageId),
			slog.String("want", string(rehearsal.FateOf(m))), slog.String("got", string(fate)), slog.Bool("returned", returned), slog.Bool("tried", !idle))
		failures = append(failures, lambdaevents.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
	}
	if n := len(dead) + len(again); n > 0 {
		s.problems = append(s.problems, fmt.Errorf("%d messages were sent that are none of the rehearsal's", n))
	}
	if err := errors.Join(s.problems...); err != nil {
		s.logger.LogAttrs(ctx, slog.LevelError, "rehearsal", telemetry.Error(err))
		return r, fmt.Errorf("rehearsal: %w", err)
	}
	return lambdaevents.SQSEventResponse{BatchItemFailures: failures}, nil
}

// take takes one of text out of all.
func take(all *[]string, text string) bool {
	i := slices.Index(*all, text)
	if i < 0 {
		return false
	}
	*all = slices.Delete(slices.Clone(*all), i, i+1)
	return true
}

// tooLong is a delay that SQS refuses for the entry that has it, after it has seen whether the caller may send.
// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatchRequestEntry.html
const tooLong = int32(queue.MaxDelay/time.Second) + 1

// tryQueues sees to it that the function may send to each of its queues, by a message that no queue takes.
func (s *stage) tryQueues(ctx context.Context, api *awssqs.Client) {
	for _, access := range s.cfg.Function.Queues {
		if !slices.Contains(access.Operations, topology.SendMessage) {
			continue
		}
		if err := refusedFor(ctx, api, s.cfg.Queues[access.Queue]); err != nil {
			s.problem(fmt.Errorf("queue %s cannot be sent to: %w", access.Queue, err))
		}
	}
}

func refusedFor(ctx context.Context, api *awssqs.Client, url string) error {
	const wrongValue = "InvalidParameterValue"
	out, err := api.SendMessageBatch(ctx, &awssqs.SendMessageBatchInput{QueueUrl: &url, Entries: []sqstypes.SendMessageBatchRequestEntry{{
		Id: aws.String("preflight"), MessageBody: aws.String(rehearsal.Mark), DelaySeconds: tooLong, MessageGroupId: aws.String(rehearsal.Mark),
	}}})
	var refusal smithy.APIError
	switch {
	case errors.As(err, &refusal) && refusal.ErrorCode() == wrongValue:
		return nil
	case err != nil:
		return err
	case len(out.Failed) == 1 && out.Failed[0].SenderFault:
		return nil
	}
	return fmt.Errorf("a message with a delay of %d s should have been refused", tooLong)
}

// set puts the stage in place of what a deliverer has effects on.
func (s *stage) set(dc *deliverer.Config, p Parts) {
	destinations := stageDestinations{stageSource{dc.Destinations}}
	table, _ := s.cfg.Topology.Table(topology.Waiting)
	dc.Destinations, dc.Disabler, dc.Adapter, dc.Secrets = destinations, destinations, s, nil
	dc.Pace, dc.SlowLane = nil, nil // what is learned here is of nobody
	dc.Room = stageRoom{dynamodb.NewFromConfig(p.AWS), table, s.cfg.Tables[topology.Waiting]}
}

// ledgerTTL is how long a waybill is kept.
func (p Parts) ledgerTTL(l topology.Limits) time.Duration {
	if p.stage != nil {
		return rehearsalTTL
	}
	return l.LedgerTTL()
}

// queue is a queue on the stage.
func (s *stage) queue(name topology.QueueName) queue.Queue { return stageQueue{s, name} }

type stageQueue struct {
	stage *stage
	name  topology.QueueName
}

// Send implements queue.Sender. Nothing is sent.
func (q stageQueue) Send(_ context.Context, messages []queue.Message) []error {
	q.stage.mu.Lock()
	defer q.stage.mu.Unlock()
	for _, m := range messages {
		q.stage.sent[q.name] = append(q.stage.sent[q.name], m.Body)
	}
	return make([]error, len(messages))
}

// ChangeVisibility implements queue.Receiver. There is nothing whose visibility could change.
func (stageQueue) ChangeVisibility(_ context.Context, changes []queue.Visibility) []error {
	return make([]error, len(changes))
}

// stageSource gives the function's own destinations, and none where none were ever applied: a system without work is in order.
type stageSource struct{ registry.Source }

// Set implements registry.Source.
func (s stageSource) Set(ctx context.Context) (*registry.Set, error) {
	set, err := s.Source.Set(ctx)
	if errors.Is(err, registry.ErrNothingApplied) {
		return &registry.Set{}, nil
	}
	return set, err
}

// stageDestinations has the one destination of a rehearsal, as soon as the function's own can be read.
type stageDestinations struct{ real registry.Source }

// Set implements registry.Source.
func (d stageDestinations) Set(ctx context.Context) (*registry.Set, error) {
	if _, err := d.real.Set(ctx); err != nil {
		return nil, err
	}
	// Neither its address nor its secret exists, and nobody asks for them.
	return registry.Parse([]byte(`{"destinations":[{"id":"`+rehearsal.Destination+`","tenant":"*","type":"webhook","webhook":{"url":"https://preflight.invalid/",`+
		`"secrets":["arn:aws:secretsmanager:us-east-1:000000000000:secret:waybill/preflight-AAAAAA"]}}]}`), registry.Options{})
}

// Disable implements registry.Disabler.
func (stageDestinations) Disable(context.Context, string, string) (bool, error) {
	return false, errors.New("a rehearsal disables nobody")
}

// Deliver implements downstream.Adapter. Nobody is called.
func (s *stage) Deliver(_ context.Context, attempts []downstream.Attempt, done func(i int, r downstream.Result)) {
	for i, a := range attempts {
		s.mu.Lock()
		s.tried[a.Event.ID] = true
		s.mu.Unlock()
		switch rehearsal.ActOf(a.Event.ID) {
		case rehearsal.Unstarted:
			done(i, downstream.Result{Verdict: downstream.NotStarted, Reason: downstream.ReasonNotStarted})
		case rehearsal.Postponed:
			done(i, downstream.Result{Verdict: downstream.Retry, Reason: rehearsal.Mark, RetryAfter: 2 * queue.MaxDelay})
		default:
			done(i, downstream.Result{Verdict: downstream.Delivered, Code: 200})
		}
	}
}

// stageRoom is the waiting room on the stage: it deletes a row that is not there, with the operation by which rows are put.
type stageRoom struct {
	api   *dynamodb.Client
	table topology.Table
	name  string
}

// Hold implements deliverer.Room.
func (r stageRoom) Hold(ctx context.Context, held []waiting.Held) []error {
	key := map[string]dynamodbtypes.AttributeValue{}
	for _, k := range []topology.Key{r.table.Partition, r.table.Sort} {
		key[k.Name] = &dynamodbtypes.AttributeValueMemberS{Value: rehearsal.Mark}
	}
	_, err := r.api.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]dynamodbtypes.WriteRequest{
		r.name: {{DeleteRequest: &dynamodbtypes.DeleteRequest{Key: key}}},
	}})
	return slices.Repeat([]error{err}, len(held))
}

// stageHealth reads what is known of destinations and writes nothing. The breaker lets deliveries through where it cannot read; a rehearsal must not.
type stageHealth struct {
	breaker.Store

	stage *stage
}

// All implements breaker.Store.
func (h stageHealth) All(ctx context.Context) (map[string]breaker.Row, error) {
	rows, err := h.Store.All(ctx)
	if err != nil {
		h.stage.problem(fmt.Errorf("the health of destinations cannot be read: %w", err))
	}
	return rows, err
}

// Add implements breaker.Store.
func (stageHealth) Add(context.Context, string, breaker.Delta) (breaker.Row, error) {
	return breaker.Row{}, nil
}

// Move implements breaker.Store.
func (stageHealth) Move(_ context.Context, _ string, _, next breaker.Row) (breaker.Row, error) {
	return next, nil
}
