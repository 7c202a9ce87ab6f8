package dynamo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
)

// maxStatements is what BatchExecuteStatement takes at most.
const maxStatements = 25

// BatchStore is the batch form: PartiQL INSERTs for first attempts, conditional UPDATEs for settles and releases, up to 25 in a call.
// What needs more than equality for a condition is written in the item form. It is safe for concurrent use.
type BatchStore struct {
	item       *ItemStore
	statements statements
}

var _ ledger.Store = (*BatchStore)(nil)

// NewBatch makes the batch form over a table. The error is about the table's name; nothing is sent yet.
func NewBatch(client Client, table string, opts Options) (*BatchStore, error) {
	item, err := NewItem(client, table, opts)
	if err != nil {
		return nil, err
	}
	return &BatchStore{item: item, statements: statementsFor(table)}, nil
}

// Claim implements ledger.Store: first attempts are inserted in batches, and those that meet a row are decided by
// one conditional write each, like all later attempts.
func (s *BatchStore) Claim(ctx context.Context, claims []ledger.Claim) []ledger.Answer {
	answers := make([]ledger.Answer, len(claims))
	s.insert(ctx, insertion{
		operation: "claim",
		n:         len(claims),
		id:        func(i int) delivery.ID { return claims[i].Delivery },
		first:     func(i int) bool { return isFirst(claims[i].Epoch, claims[i].Attempt) },
		statement: func(i int) types.BatchStatementRequest {
			return types.BatchStatementRequest{Statement: &s.statements.claim, Parameters: claimParameters(claims[i])}
		},
		inserted: func(i int, err error) {
			if answers[i].Err = err; err == nil {
				answers[i].Verdict = ledger.Granted
			}
		},
		conditional: func(i int) { answers[i] = s.item.claim(ctx, claims[i]) },
	})
	return answers
}

// Record implements ledger.Store the way Claim does.
func (s *BatchStore) Record(ctx context.Context, settlements []ledger.Settlement) []error {
	errs := make([]error, len(settlements))
	s.insert(ctx, insertion{
		operation: "record",
		n:         len(settlements),
		id:        func(i int) delivery.ID { return settlements[i].Delivery },
		first:     func(i int) bool { return isFirst(settlements[i].Epoch, settlements[i].Attempt) },
		statement: func(i int) types.BatchStatementRequest {
			return types.BatchStatementRequest{Statement: &s.statements.record, Parameters: recordParameters(settlements[i])}
		},
		inserted:    func(i int, err error) { errs[i] = err },
		conditional: func(i int) { errs[i] = s.item.record(ctx, settlements[i]) },
	})
	return errs
}

// Settle implements ledger.Store with batched conditional UPDATEs.
func (s *BatchStore) Settle(ctx context.Context, settlements []ledger.Settlement) []error {
	errs := make([]error, len(settlements))
	s.execute(ctx, "settle", all(len(settlements)),
		func(i int) delivery.ID { return settlements[i].Delivery },
		func(i int) types.BatchStatementRequest {
			return types.BatchStatementRequest{Statement: &s.statements.settle, Parameters: settleParameters(settlements[i])}
		},
		func(i int, err error) { errs[i] = err })
	return errs
}

// Release implements ledger.Store with batched conditional UPDATEs.
func (s *BatchStore) Release(ctx context.Context, releases []ledger.Release) []error {
	errs := make([]error, len(releases))
	s.execute(ctx, "release", all(len(releases)),
		func(i int) delivery.ID { return releases[i].Delivery },
		func(i int) types.BatchStatementRequest {
			return types.BatchStatementRequest{Statement: &s.statements.release, Parameters: releaseParameters(releases[i])}
		},
		func(i int, err error) { errs[i] = err })
	return errs
}

// isFirst tells whether nothing can be expected in the ledger: an INSERT will do.
func isFirst(epoch, attempt int) bool { return epoch == 0 && attempt == 1 }

// insertion is a set of writes that are INSERTs where nothing is expected, and conditional writes elsewhere.
type insertion struct {
	operation   string
	n           int
	id          func(int) delivery.ID
	first       func(int) bool
	statement   func(int) types.BatchStatementRequest
	inserted    func(int, error) // takes the result of an INSERT that met no row
	conditional func(int)        // makes the conditional write
}

// insert runs the INSERTs first and then, in parallel, the conditional writes of the entries that met a row and of those
// that are no first attempts.
func (s *BatchStore) insert(ctx context.Context, w insertion) {
	var inserts []int
	later := make([]bool, w.n) // each element is written by the one call that owns the entry
	for i := range w.n {
		if later[i] = !w.first(i); !later[i] {
			inserts = append(inserts, i)
		}
	}
	s.execute(ctx, w.operation, inserts, w.id, w.statement, func(i int, err error) {
		if later[i] = errors.Is(err, errDuplicateItem); !later[i] {
			w.inserted(i, err)
		}
	})
	rest := slices.DeleteFunc(all(w.n), func(i int) bool { return !later[i] })
	parallel(s.item.concurrency, len(rest), func(n int) { w.conditional(rest[n]) })
}

// execute sends the statements of the entries in which, 25 to a call, and hands each its result. DynamoDB refuses a batch that names
// a row twice, so a delivery's second entry goes into a later round.
func (s *BatchStore) execute(ctx context.Context, operation string, which []int, id func(int) delivery.ID,
	statement func(int) types.BatchStatementRequest, result func(int, error)) {
	for len(which) > 0 {
		var round, rest []int
		seen := make(map[delivery.ID]bool, len(which))
		for _, i := range which {
			if seen[id(i)] {
				rest = append(rest, i)
				continue
			}
			seen[id(i)] = true
			round = append(round, i)
		}
		chunks := slices.Collect(slices.Chunk(round, maxStatements))
		parallel(s.item.concurrency, len(chunks), func(n int) {
			s.executeChunk(ctx, operation, chunks[n], id, statement, result)
		})
		which = rest
	}
}

// executeChunk makes one call. What the answer does not mention has an unknown outcome.
func (s *BatchStore) executeChunk(ctx context.Context, operation string, chunk []int, id func(int) delivery.ID,
	statement func(int) types.BatchStatementRequest, result func(int, error)) {
	from := source{operation, s.item.table}
	in := &dynamodb.BatchExecuteStatementInput{Statements: make([]types.BatchStatementRequest, len(chunk))}
	for n, i := range chunk {
		in.Statements[n] = statement(i)
	}
	out, err := s.item.client.BatchExecuteStatement(ctx, in)
	for n, i := range chunk {
		switch {
		case err != nil:
			result(i, from.call(id(i), err))
		case n >= len(out.Responses):
			result(i, from.fault(id(i), ledger.ErrUnknown,
				fmt.Errorf("DynamoDB answered %d of %d statements", len(out.Responses), len(chunk))))
		case out.Responses[n].Error != nil:
			e := out.Responses[n].Error
			result(i, from.statement(id(i), string(e.Code), aws.ToString(e.Message)))
		default:
			result(i, nil)
		}
	}
}

func all(n int) []int {
	which := make([]int, n)
	for i := range which {
		which[i] = i
	}
	return which
}
