// Package dynamo keeps the waiting room in DynamoDB.
//
// # Table
//
// Partition key "bucket" (S), sort key "row" (S), no TTL: a row that time deletes is a delivery that is lost. Attributes of a row: token (S);
// at (N, milliseconds since 1970: due time, held since, or written at, by the kind of bucket); destination, trace (S); form (N) and body (B), the
// message. Names of buckets are those of waiting.Bucket. In the bucket "progress" lie the watermarks, rows "watermark#0" and so on with the attribute
// hour (N, hours since 1970), and the row "scan" with token, began (N, milliseconds), afterBucket, afterRow (S), oldest (M of N) and done (BOOL).
//
// # Calls
//
// Rows are put 25 to a call by BatchWriteItem and deleted 25 to a call by BatchExecuteStatement of conditional DELETEs; where the account
// refuses PartiQL, one by one by DeleteItem. Holding deliveries needs the permission dynamodb:BatchWriteItem alone; waking them
// dynamodb:Query, Scan, UpdateItem, BatchWriteItem, PartiQLDelete and DeleteItem; listing them dynamodb:Scan.
//
// # Errors
//
// Every error is an *Error around one of the sentinels of package waiting. Puts are tried once, against the SDK's own habit: a repetition
// needs another token. Everything else may be repeated as it is, and is, by the SDK's retryer.
package dynamo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/waiting"
)

// Client is what the driver uses of *dynamodb.Client.
type Client interface {
	BatchWriteItem(context.Context, *dynamodb.BatchWriteItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchWriteItemOutput, error)
	BatchExecuteStatement(context.Context, *dynamodb.BatchExecuteStatementInput, ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
}

// Options tune the driver. The zero value is fit for use.
type Options struct {
	// Concurrency bounds the calls that one Put or Delete has under way at once. More shortens large batches and needs as many
	// connections. Default 4.
	Concurrency int
	// AvoidFor is how long deletes go one by one after PartiQL was refused. Shorter finds a repaired permission sooner and pays one useless
	// call each time. Default 5 minutes.
	AvoidFor time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Store implements waiting.Store. It is safe for concurrent use.
type Store struct {
	client   Client
	table    string
	opts     Options
	remove   string       // the PartiQL text of a delete
	oneByOne atomic.Int64 // deletes avoid PartiQL until then, in nanoseconds since 1970
}

var (
	_ waiting.Store  = (*Store)(nil)
	_ waiting.Lister = (*Store)(nil)
)

// What DynamoDB takes at most in one call.
const (
	maxWrites     = 25
	maxStatements = 25
)

// New makes the driver over a table. The error is about the table's name; nothing is sent yet.
func New(client Client, table string, opts Options) (*Store, error) {
	if table == "" {
		return nil, errors.New("dynamo: the waiting room's table name is empty: take it from the configuration")
	}
	if strings.ContainsAny(table, "\"\x00\r\n") {
		return nil, errors.New("dynamo: the waiting room's table name contains a quote or a control character")
	}
	opts.Concurrency = max(1, cmp.Or(opts.Concurrency, 4))
	opts.AvoidFor = cmp.Or(opts.AvoidFor, 5*time.Minute)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Store{client: client, table: table, opts: opts,
		remove: `DELETE FROM "` + table + `" WHERE "bucket" = ? AND "row" = ? AND "token" = ?`}, nil
}

// once keeps the SDK from repeating a call.
func once(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} }

// Put implements waiting.Store with BatchWriteItem. What DynamoDB leaves unprocessed counts as throttled.
func (s *Store) Put(ctx context.Context, rows []waiting.Row) []error {
	errs := make([]error, len(rows))
	s.chunks(len(rows), maxWrites, func(first, end int) {
		writes := make([]types.WriteRequest, 0, end-first)
		for _, r := range rows[first:end] {
			writes = append(writes, types.WriteRequest{PutRequest: &types.PutRequest{Item: encode(r)}})
		}
		out, err := s.client.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{s.table: writes}}, once)
		if err != nil {
			for i := first; i < end; i++ {
				errs[i] = s.failed("put", rows[i].Bucket, rows[i].Key, err)
			}
			return
		}
		unprocessed := map[waiting.Cursor]bool{}
		for _, w := range out.UnprocessedItems[s.table] {
			if w.PutRequest != nil {
				unprocessed[waiting.Cursor{Bucket: text(w.PutRequest.Item, attrBucket), Key: text(w.PutRequest.Item, attrRow)}] = true
			}
		}
		for i := first; i < end; i++ {
			if r := rows[i]; unprocessed[waiting.Cursor{Bucket: r.Bucket, Key: r.Key}] {
				errs[i] = &Error{Operation: "put", Table: s.table, Bucket: r.Bucket, Row: r.Key, Kind: waiting.ErrThrottled, Cause: errors.New("DynamoDB left it unprocessed")}
			}
		}
	})
	return errs
}

// Delete implements waiting.Store with batches of conditional DELETEs, and with DeleteItem for those that are refused as such.
func (s *Store) Delete(ctx context.Context, refs []waiting.Ref) []error {
	errs := make([]error, len(refs))
	single := make([]bool, len(refs)) // each element is written by the one call that owns the entry
	avoid := s.opts.Now().UnixNano() < s.oneByOne.Load()
	if avoid {
		for i := range single {
			single[i] = true
		}
	} else {
		s.chunks(len(refs), maxStatements, func(first, end int) { s.deleteBatch(ctx, refs, first, end, errs, single) })
	}
	rest := slices.DeleteFunc(indexes(len(refs)), func(i int) bool { return !single[i] })
	s.chunks(len(rest), 1, func(first, _ int) {
		i := rest[first]
		errs[i] = s.deleteOne(ctx, refs[i])
	})
	if !avoid && slices.ContainsFunc(rest, func(i int) bool { return errs[i] == nil }) {
		s.oneByOne.Store(s.opts.Now().Add(s.opts.AvoidFor).UnixNano()) // the form is what was wrong
	}
	return errs
}

func (s *Store) deleteBatch(ctx context.Context, refs []waiting.Ref, first, end int, errs []error, single []bool) {
	in := &dynamodb.BatchExecuteStatementInput{}
	for _, ref := range refs[first:end] {
		in.Statements = append(in.Statements, types.BatchStatementRequest{
			Statement: &s.remove, Parameters: []types.AttributeValue{str(ref.Bucket), str(ref.Key), str(ref.Token)},
		})
	}
	out, err := s.client.BatchExecuteStatement(ctx, in)
	for i := first; i < end; i++ {
		ref, n := refs[i], i-first
		switch {
		case err != nil:
			errs[i] = s.failed("delete", ref.Bucket, ref.Key, err)
		case n >= len(out.Responses):
			errs[i] = s.failed("delete", ref.Bucket, ref.Key, fmt.Errorf("DynamoDB answered %d of %d statements", len(out.Responses), end-first))
		case out.Responses[n].Error != nil:
			e := out.Responses[n].Error
			errs[i] = s.refused("delete", ref.Bucket, ref.Key, string(e.Code), aws.ToString(e.Message))
		}
		single[i] = errors.Is(errs[i], errUnsupported)
	}
}

func (s *Store) deleteOne(ctx context.Context, ref waiting.Ref) error {
	_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &s.table, Key: key(ref.Bucket, ref.Key),
		ConditionExpression:       aws.String("attribute_not_exists(#bucket) OR #token = :token"),
		ExpressionAttributeNames:  map[string]string{"#bucket": attrBucket, "#token": attrToken},
		ExpressionAttributeValues: attributes{":token": str(ref.Token)},
	})
	if err != nil {
		return s.failed("delete", ref.Bucket, ref.Key, err)
	}
	return nil
}

// Read implements waiting.Store with one consistent Query, which reads a megabyte at most, and nothing but the rows between the bounds.
func (s *Store) Read(ctx context.Context, bucket, after, before string, limit int) (waiting.Page, error) {
	if before != "" && after >= before {
		return waiting.Page{}, nil // there is nothing between, and DynamoDB refuses to begin outside the bounds
	}
	out, err := s.query(ctx, bucket, after, before, limit)
	if err != nil {
		return waiting.Page{}, err
	}
	page := waiting.Page{Rows: make([]waiting.Row, len(out.Items)), Next: text(out.LastEvaluatedKey, attrRow)}
	for i, item := range out.Items {
		page.Rows[i] = decode(item)
	}
	return page, nil
}

// query bounds the keys from above by a condition and from below by where to begin: DynamoDB takes only one condition on a sort key.
func (s *Store) query(ctx context.Context, bucket, after, before string, limit int) (*dynamodb.QueryOutput, error) {
	in := &dynamodb.QueryInput{
		TableName: &s.table, ConsistentRead: aws.Bool(true), Limit: aws.Int32(int32(limit)),
		KeyConditionExpression:    aws.String("#bucket = :bucket"),
		ExpressionAttributeNames:  map[string]string{"#bucket": attrBucket},
		ExpressionAttributeValues: attributes{":bucket": str(bucket)},
	}
	if before != "" {
		in.KeyConditionExpression = aws.String("#bucket = :bucket AND #row < :before")
		in.ExpressionAttributeNames["#row"] = attrRow
		in.ExpressionAttributeValues[":before"] = str(before)
	}
	if after != "" {
		in.ExclusiveStartKey = key(bucket, after)
	}
	out, err := s.client.Query(ctx, in)
	if err != nil {
		return nil, s.failed("read", bucket, after, err)
	}
	return out, nil
}

// Rows of the bucket for progress.
const (
	watermarkPrefix = "watermark#"
	scanRow         = "scan"
	maxProgressRows = 1000
)

var progress = waiting.Bucket{Kind: waiting.Progress}.Name()

// State implements waiting.Store with one consistent Query.
func (s *Store) State(ctx context.Context) (waiting.State, error) {
	state := waiting.State{Watermarks: map[int]waiting.Hour{}}
	out, err := s.query(ctx, progress, "", "", maxProgressRows)
	if err != nil {
		return state, err
	}
	for _, item := range out.Items {
		row := text(item, attrRow)
		if shard, ok := strings.CutPrefix(row, watermarkPrefix); ok {
			if n, err := strconv.Atoi(shard); err == nil {
				state.Watermarks[n] = waiting.Hour(number(item[attrHour]))
			}
		}
		if row == scanRow {
			state.Scan = decodeScan(item)
		}
	}
	return state, nil
}

// Advance implements waiting.Store with a conditional UpdateItem.
func (s *Store) Advance(ctx context.Context, shard int, to waiting.Hour) error {
	return s.update(ctx, "advance", watermarkPrefix+strconv.Itoa(shard), &dynamodb.UpdateItemInput{
		UpdateExpression:          aws.String("SET #hour = :to"),
		ConditionExpression:       aws.String("attribute_not_exists(#hour) OR #hour < :to"),
		ExpressionAttributeNames:  map[string]string{"#hour": attrHour},
		ExpressionAttributeValues: attributes{":to": num(int64(to))},
	})
}

// SaveScan implements waiting.Store with a conditional UpdateItem.
func (s *Store) SaveScan(ctx context.Context, was string, scan waiting.Scan) error {
	in := &dynamodb.UpdateItemInput{
		UpdateExpression: aws.String("SET #token = :token, #began = :began, #afterBucket = :afterBucket, #afterRow = :afterRow, #oldest = :oldest, #done = :done"),
		ExpressionAttributeNames: map[string]string{"#token": attrToken, "#began": attrBegan, "#afterBucket": attrAfterBucket, "#afterRow": attrAfterRow,
			"#oldest": attrOldest, "#done": attrDone},
		ExpressionAttributeValues: encodeScan(scan),
		ConditionExpression:       aws.String("attribute_not_exists(#token)"),
	}
	if was != "" {
		in.ConditionExpression = aws.String("#token = :was")
		in.ExpressionAttributeValues[":was"] = str(was)
	}
	return s.update(ctx, "save scan", scanRow, in)
}

func (s *Store) update(ctx context.Context, operation, row string, in *dynamodb.UpdateItemInput) error {
	in.TableName, in.Key = &s.table, key(progress, row)
	if _, err := s.client.UpdateItem(ctx, in); err != nil {
		return s.failed(operation, progress, row, err)
	}
	return nil
}

// Buckets implements waiting.Store with one eventually consistent Scan, which reads a megabyte at most.
func (s *Store) Buckets(ctx context.Context, after waiting.Cursor) ([]string, waiting.Cursor, error) {
	in := &dynamodb.ScanInput{TableName: &s.table, ProjectionExpression: aws.String("#bucket"),
		ExpressionAttributeNames: map[string]string{"#bucket": attrBucket}}
	if after != (waiting.Cursor{}) {
		in.ExclusiveStartKey = key(after.Bucket, after.Key)
	}
	out, err := s.client.Scan(ctx, in)
	if err != nil {
		return nil, after, s.failed("scan", after.Bucket, after.Key, err)
	}
	names := map[string]bool{}
	for _, item := range out.Items {
		names[text(item, attrBucket)] = true
	}
	next := waiting.Cursor{Bucket: text(out.LastEvaluatedKey, attrBucket), Key: text(out.LastEvaluatedKey, attrRow)}
	return slices.Sorted(maps.Keys(names)), next, nil
}

// Rows implements waiting.Lister with one consistent Scan, which reads a megabyte at most. It costs a read unit for every 4 KB of the whole
// table, marks and progress included.
func (s *Store) Rows(ctx context.Context, after waiting.Cursor) ([]waiting.Row, waiting.Cursor, error) {
	in := &dynamodb.ScanInput{TableName: &s.table, ConsistentRead: aws.Bool(true)}
	if after != (waiting.Cursor{}) {
		in.ExclusiveStartKey = key(after.Bucket, after.Key)
	}
	out, err := s.client.Scan(ctx, in)
	if err != nil {
		return nil, after, s.failed("scan", after.Bucket, after.Key, err)
	}
	var rows []waiting.Row
	for _, item := range out.Items {
		if row := decode(item); row.Held() {
			rows = append(rows, row)
		}
	}
	return rows, waiting.Cursor{Bucket: text(out.LastEvaluatedKey, attrBucket), Key: text(out.LastEvaluatedKey, attrRow)}, nil
}

// chunks calls do for n entries, most of them at a time, with bounded concurrency, and returns when all calls have ended.
func (s *Store) chunks(n, most int, do func(first, end int)) {
	if n <= most {
		if n > 0 {
			do(0, n)
		}
		return
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(s.opts.Concurrency, (n+most-1)/most) {
		wg.Go(func() {
			for first := int(next.Add(int64(most))) - most; first < n; first = int(next.Add(int64(most))) - most {
				do(first, min(first+most, n))
			}
		})
	}
	wg.Wait()
}

func indexes(n int) []int {
	which := make([]int, n)
	for i := range which {
		which[i] = i
	}
	return which
}
