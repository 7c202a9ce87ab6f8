package whereabouts

import (
	"context"
	"errors"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// What one answer of DynamoDB costs at most, in read units of consistent reads.
const (
	pageUnits = 256 + 1 // a page of a megabyte
	rowUnits  = 100     // a row of 400 KB, as the waiting room has them
	pageRows  = 10_000  // more than a page holds
)

// errReadOnly is the answer to every write.
var errReadOnly = errors.New("whereabouts: a search writes nothing")

// meter counts read units. It stands between the tables and their drivers, and refuses whatever writes.
type meter struct {
	tables Tables
	most   float64
	page   int // rows of the waiting room that are read at once at most

	mu    sync.Mutex
	spent float64
}

func (m *meter) used() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.spent
}

// left is what may still be used.
func (m *meter) left() float64 { return m.most - m.used() }

// rows is how many rows of the waiting room can be read at once within the budget, 0 for none.
func (m *meter) rows() int {
	if m.left() >= pageUnits {
		return m.page
	}
	return min(int(m.left()/rowUnits), m.page)
}

func (m *meter) count(consumed ...types.ConsumedCapacity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range consumed {
		m.spent += aws.ToFloat64(c.CapacityUnits)
	}
}

func (m *meter) countOne(consumed *types.ConsumedCapacity) {
	if consumed != nil {
		m.count(*consumed)
	}
}

// Query reads and counts.
func (m *meter) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	metered := *in
	metered.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	out, err := m.tables.Query(ctx, &metered, opts...)
	if err == nil {
		m.countOne(out.ConsumedCapacity)
	}
	return out, err
}

// Scan reads and counts. It reads no more rows than a page shall have, and near the end of the budget fewer, so that the budget holds for the largest rows.
func (m *meter) Scan(ctx context.Context, in *dynamodb.ScanInput, opts ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	metered := *in
	metered.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	if metered.Limit == nil {
		metered.Limit = aws.Int32(int32(max(m.rows(), 1)))
	}
	out, err := m.tables.Scan(ctx, &metered, opts...)
	if err == nil {
		m.countOne(out.ConsumedCapacity)
	}
	return out, err
}

// BatchGetItem reads and counts.
func (m *meter) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	metered := *in
	metered.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
	out, err := m.tables.BatchGetItem(ctx, &metered, opts...)
	if err == nil {
		m.count(out.ConsumedCapacity...)
	}
	return out, err
}

// GetItem is not needed by what is asked here.
func (m *meter) GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return nil, errReadOnly
}

// PutItem is refused.
func (m *meter) PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return nil, errReadOnly
}

// UpdateItem is refused.
func (m *meter) UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return nil, errReadOnly
}

// DeleteItem is refused.
func (m *meter) DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	return nil, errReadOnly
}

// BatchWriteItem is refused.
func (m *meter) BatchWriteItem(context.Context, *dynamodb.BatchWriteItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchWriteItemOutput, error) {
	return nil, errReadOnly
}

// BatchExecuteStatement is refused: it could write.
func (m *meter) BatchExecuteStatement(
	context.Context, *dynamodb.BatchExecuteStatementInput, ...func(*dynamodb.Options),
) (*dynamodb.BatchExecuteStatementOutput, error) {
	return nil, errReadOnly
}
