package dynamo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/retry"
)

const (
	maxKeys       = 100 // what BatchGetItem takes at most
	readTries     = 5   // calls without progress before keys that DynamoDB leaves unprocessed count as throttled
	firstReadWait = 20 * time.Millisecond
)

// Read implements ledger.Store with consistent BatchGetItem calls of up to 100 keys. Keys that DynamoDB leaves unprocessed are asked for
// again, with growing pauses, until five calls in a row have brought nothing.
func (s *ItemStore) Read(ctx context.Context, deliveries []delivery.ID) []ledger.Reading {
	var ids []delivery.ID // each once: DynamoDB refuses repeated keys
	found := make(map[delivery.ID]*ledger.Reading, len(deliveries))
	for _, id := range deliveries {
		if found[id] == nil {
			found[id] = &ledger.Reading{}
			ids = append(ids, id)
		}
	}
	chunks := slices.Collect(slices.Chunk(ids, maxKeys))
	parallel(s.concurrency, len(chunks), func(n int) { s.readChunk(ctx, chunks[n], found) })
	readings := make([]ledger.Reading, len(deliveries))
	for i, id := range deliveries {
		readings[i] = *found[id]
	}
	return readings
}

// Read implements ledger.Store the way the item form does.
func (s *BatchStore) Read(ctx context.Context, deliveries []delivery.ID) []ledger.Reading {
	return s.item.Read(ctx, deliveries)
}

// readChunk fills in the readings of the chunk's ids. Of the map itself it only reads: other chunks do so at the same time.
func (s *ItemStore) readChunk(ctx context.Context, chunk []delivery.ID, found map[delivery.ID]*ledger.Reading) {
	from := source{"read", s.table}
	pending := chunk
	wait := firstReadWait
	for fruitless := 0; fruitless < readTries; {
		rows, left, err := s.batchGet(ctx, pending)
		if err != nil {
			for _, id := range pending {
				found[id].Err = from.call(id, err)
			}
			return
		}
		for id, r := range rows {
			item, err := decode(r)
			if err != nil {
				found[id].Err = from.fault(id, ledger.ErrUnknown, err)
			}
			found[id].Item = item
		}
		if len(left) == 0 {
			return
		}
		if fruitless++; len(left) < len(pending) {
			fruitless, wait = 0, firstReadWait
		}
		pending = left
		if !retry.Sleep(ctx, wait) {
			for _, id := range pending {
				found[id].Err = from.fault(id, ledger.ErrUnknown, context.Cause(ctx))
			}
			return
		}
		wait *= 2
	}
	for _, id := range pending {
		found[id].Err = from.fault(id, ledger.ErrThrottled, fmt.Errorf("DynamoDB left the key unprocessed %d times", readTries))
	}
}

// batchGet makes one call and gives the rows it brought, by id, and the ids that DynamoDB left for later. An id that is in neither has no row.
func (s *ItemStore) batchGet(ctx context.Context, ids []delivery.ID) (map[delivery.ID]row, []delivery.ID, error) {
	keys := make([]row, len(ids))
	for i, id := range ids {
		keys[i] = key(id)
	}
	out, err := s.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
		s.table: {Keys: keys, ConsistentRead: aws.Bool(true)},
	}})
	if err != nil {
		return nil, nil, err
	}
	rows := make(map[delivery.ID]row, len(ids))
	for _, r := range out.Responses[s.table] {
		rows[rowID(r)] = r
	}
	unprocessed := make(map[delivery.ID]bool)
	for _, k := range out.UnprocessedKeys[s.table].Keys {
		unprocessed[rowID(k)] = true
	}
	left := slices.DeleteFunc(slices.Clone(ids), func(id delivery.ID) bool { return !unprocessed[id] })
	return rows, left, nil
}

func rowID(r row) delivery.ID {
	if s, ok := r[attrDelivery].(*types.AttributeValueMemberS); ok {
		return delivery.ID(s.Value)
	}
	return ""
}
