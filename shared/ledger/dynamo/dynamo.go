// Package dynamo writes waybills to DynamoDB: two complete drivers of ledger.Store and one that combines them.
//
//   - NewBatch claims up to 25 first attempts with one BatchExecuteStatement of PartiQL INSERTs, and settles up to 25 with one
//     of conditional UPDATEs. Ten deliveries that nobody has seen before cost two calls and 20 write units.
//   - NewItem makes one conditional UpdateItem per entry, in parallel. It needs nothing but the permissions that every DynamoDB grant
//     contains.
//   - WithFallback prefers the first and gives way to the second where the account refuses PartiQL.
//
// The condition expressions in expressions.go are the claim table of package ledger in another language. No verdict
// rests on them alone: a refused write brings the old row back, and ledger.Decide reads the verdict off it. The suite in
// shared/ledger/ledgertest holds both languages together by trying every combination of a small domain.
//
// # Row
//
// One row per delivery, partition key "delivery" (S), no sort key. Attributes: state, owner, reason (S); epoch, attempt, code (N);
// leaseUntil, updatedAt (N, milliseconds since 1970; leaseUntil 0 after a release); expiresAt (N, seconds since 1970,
// the table's TTL attribute, 0 for never). A row stays below 1 KB, one write unit, because reasons are cut to
// MaxReasonBytes. Attributes that a newer release added are left alone; a row in a state that this release does not know is never written
// over.
//
// # Errors
//
// Every error is an *Error around one of the sentinels of package ledger. Throttled statements are not repeated here: that needs a
// time budget, which is the caller's (ledger.Ledger has one). Whole calls are repeated by the SDK's own
// retryer, which is safe, as every write may be repeated.
package dynamo

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// Client is what the drivers use of *dynamodb.Client.
type Client interface {
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	BatchExecuteStatement(context.Context, *dynamodb.BatchExecuteStatementInput, ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
}

// Options tune a driver. The zero value is fit for use.
type Options struct {
	// Concurrency bounds the DynamoDB calls that one call of a Store method has under way at once. More shortens large batches
	// and needs as many connections; fewer spares a small function's memory. Default 16.
	Concurrency int
}

const defaultConcurrency = 16

func (o Options) concurrency() int { return max(1, cmp.Or(o.Concurrency, defaultConcurrency)) }

// checkTable guards the one place where a name becomes part of a statement's text.
func checkTable(table string) error {
	if table == "" {
		return errors.New("dynamo: the ledger's table name is empty: take it from the configuration")
	}
	if strings.ContainsAny(table, "\"\x00\r\n") {
		return errors.New("dynamo: the ledger's table name contains a quote or a control character")
	}
	return nil
}

// parallel runs do for 0 … n-1, at most limit at once, and returns when all are done.
func parallel(limit, n int, do func(int)) {
	if n == 1 {
		do(0)
		return
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(limit, n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}
