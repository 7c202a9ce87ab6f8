package dynamo

import (
	"context"
	"errors"
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
)

// claimTries bounds the repetitions of a claim whose condition refuses what the claim table grants. That takes an
// endpoint that returns no old row, or a defect here: worth another try, not a loop.
const claimTries = 3

// ItemStore is the item form: one conditional UpdateItem per entry. It is safe for concurrent use.
type ItemStore struct {
	client      Client
	table       string
	concurrency int
	expressions expressions
}

var _ ledger.Store = (*ItemStore)(nil)

// NewItem makes the item form over a table. The error is about the table's name; nothing is sent yet.
func NewItem(client Client, table string, opts Options) (*ItemStore, error) {
	if err := checkTable(table); err != nil {
		return nil, err
	}
	return &ItemStore{client: client, table: table, concurrency: opts.concurrency(), expressions: compileAll()}, nil
}

// Claim implements ledger.Store with one UpdateItem per claim.
func (s *ItemStore) Claim(ctx context.Context, claims []ledger.Claim) []ledger.Answer {
	answers := make([]ledger.Answer, len(claims))
	parallel(s.concurrency, len(claims), func(i int) { answers[i] = s.claim(ctx, claims[i]) })
	return answers
}

// Settle implements ledger.Store with one UpdateItem per settlement.
func (s *ItemStore) Settle(ctx context.Context, settlements []ledger.Settlement) []error {
	errs := make([]error, len(settlements))
	parallel(s.concurrency, len(settlements), func(i int) {
		errs[i] = s.write(ctx, "settle", s.expressions.settle, settlements[i].Delivery, settleValues(settlements[i]))
	})
	return errs
}

// Release implements ledger.Store with one UpdateItem per release.
func (s *ItemStore) Release(ctx context.Context, releases []ledger.Release) []error {
	errs := make([]error, len(releases))
	parallel(s.concurrency, len(releases), func(i int) {
		errs[i] = s.write(ctx, "release", s.expressions.release, releases[i].Delivery, releaseValues(releases[i]))
	})
	return errs
}

// Record implements ledger.Store with one UpdateItem per result.
func (s *ItemStore) Record(ctx context.Context, settlements []ledger.Settlement) []error {
	errs := make([]error, len(settlements))
	parallel(s.concurrency, len(settlements), func(i int) { errs[i] = s.record(ctx, settlements[i]) })
	return errs
}

// claim writes one claim. A refused write brings the old row, and the claim table reads the verdict off it.
func (s *ItemStore) claim(ctx context.Context, c ledger.Claim) ledger.Answer {
	from := source{"claim", s.table}
	expr := s.expressions.claim
	if c.Replay {
		expr = s.expressions.claimReplay
	}
	for range claimTries {
		err := s.write(ctx, from.operation, expr, c.Delivery, claimValues(c))
		if err == nil {
			return ledger.Answer{Verdict: ledger.Granted}
		}
		var refused *types.ConditionalCheckFailedException
		if !errors.As(err, &refused) {
			return ledger.Answer{Err: err}
		}
		item, err := decode(refused.Item)
		if err != nil {
			return ledger.Answer{Err: from.fault(c.Delivery, ledger.ErrUnknown, err)}
		}
		if v := ledger.Decide(item, c); v != ledger.Granted {
			return ledger.Answer{Verdict: v, Item: item}
		}
	}
	return ledger.Answer{Err: from.fault(c.Delivery, ledger.ErrUnknown,
		errors.New("the table refuses a write that the claim table grants; does the endpoint return the old row of a refused write?"))}
}

func (s *ItemStore) record(ctx context.Context, r ledger.Settlement) error {
	expr := s.expressions.record
	if r.Replay {
		expr = s.expressions.recordReplay
	}
	return s.write(ctx, "record", expr, r.Delivery, settleValues(r))
}

// write makes one conditional write. Refused, the error wraps DynamoDB's own, which carries the old row.
func (s *ItemStore) write(ctx context.Context, operation string, expr expression, id delivery.ID, values row) error {
	maps.Copy(values, expr.states)
	_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           aws.String(s.table),
		Key:                                 key(id),
		UpdateExpression:                    aws.String(expr.update),
		ConditionExpression:                 aws.String(expr.condition),
		ExpressionAttributeNames:            expr.names,
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if err != nil {
		return source{operation, s.table}.call(id, err)
	}
	return nil
}
