// Package dynamo keeps the destinations in DynamoDB.
//
// # Table
//
// Partition key "part" (S), sort key "row" (S), TTL "expiresAt", which only releases have. The partition "live" holds what functions read again and again, with one Query: the
// row "current", which describes the current version, and a row "state#ID" for every destination that is paused or disabled.
//
// Attributes of "current": number, bytes, chunks (N), appliedAt (N, milliseconds since 1970), token, sha256, by (S), and history (L of M), the
// versions before it with the same attributes. Attributes of a state: paused, disabled (N, since when, in milliseconds), and for each of both
// its Note, By and Token (S), such as pausedNote.
//
// Who let a destination receive again stands in the partition "releases" under its id, which only people read: at (N, milliseconds), by (S), enabled (BOOL), expiresAt
// (N, seconds since 1970).
//
// The document of a version, compressed by gzip and cut into chunks of ChunkBytes, lies in the partition "version#NUMBER" in rows "TOKEN#0000"
// and so on, attribute body (B). A version is written before "current" names it and never afterwards, so readers see it whole or not at all; who
// loses the race for a number leaves chunks that nobody reads, and they go when the number does. Versions are deleted when
// registry.KeptVersions newer ones exist.
//
// # Calls
//
//	Current   Query, consistent: 1 read unit for each 4 KB, so 1 or 2 while few destinations are held
//	Document  Query, consistent: 1 read unit for each 4 KB of the compressed document
//	Versions  GetItem
//	Apply     GetItem, PutItem for each chunk and for "current", Query and DeleteItem for the version that goes
//	Pause, Disable  UpdateItem
//	Resume, Enable  DeleteItem, or UpdateItem too where the other mark stays
//	Record    PutItem
//	Releases  Query
//
// A function that reads needs the permission dynamodb:Query, one that disables dynamodb:UpdateItem too; the program that applies all of
// them: Query, GetItem, PutItem, UpdateItem, DeleteItem.
//
// # Errors
//
// Every error is an *Error around one of the sentinels of package registry, or about the arguments. Every call may be repeated, and is, by the
// SDK's retryer: what has been written by the try before is recognised by its token.
package dynamo

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/registry"
)

// ChunkBytes bounds the part of a compressed document that one item holds: DynamoDB takes 400 KB.
const ChunkBytes = 350 << 10

// Client is what the driver uses of *dynamodb.Client.
type Client interface {
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
}

// Options tune the driver. The zero value is fit for use.
type Options struct {
	// OnProblem hears of old versions that could not be deleted. Nothing but space is lost, and the next Apply tries again. Default: nobody does.
	OnProblem func(error)
}

// Store implements registry.Store. It is safe for concurrent use.
type Store struct {
	client Client
	table  string
	opts   Options
}

var _ registry.Store = (*Store)(nil)

// New makes the driver over a table. The error is about the table's name; nothing is sent yet.
func New(client Client, table string, opts Options) (*Store, error) {
	if table == "" {
		return nil, errors.New("dynamo: the registry's table name is empty: take it from the configuration")
	}
	if opts.OnProblem == nil {
		opts.OnProblem = func(error) {}
	}
	return &Store{client: client, table: table, opts: opts}, nil
}

// query reads all rows of a part, or those that begin with prefix.
func (s *Store) query(ctx context.Context, operation, part, prefix string, keysOnly bool) ([]attributes, error) {
	in := &dynamodb.QueryInput{
		TableName: &s.table, ConsistentRead: aws.Bool(true),
		KeyConditionExpression:    aws.String("#part = :part"),
		ExpressionAttributeNames:  map[string]string{"#part": attrPart},
		ExpressionAttributeValues: attributes{":part": str(part)},
	}
	if prefix != "" {
		in.KeyConditionExpression = aws.String("#part = :part AND begins_with(#row, :prefix)")
		in.ExpressionAttributeNames["#row"] = attrRow
		in.ExpressionAttributeValues[":prefix"] = str(prefix)
	}
	if keysOnly {
		in.ProjectionExpression = aws.String("#part, #row")
		in.ExpressionAttributeNames["#row"] = attrRow
	}
	var items []attributes
	for {
		out, err := s.client.Query(ctx, in)
		if err != nil {
			return nil, s.failed(operation, part, prefix, err)
		}
		items = append(items, out.Items...)
		if len(out.LastEvaluatedKey) == 0 {
			return items, nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// Current implements registry.Store with one Query, and more only where states fill more than a megabyte.
func (s *Store) Current(ctx context.Context) (registry.Snapshot, error) {
	items, err := s.query(ctx, "current", partLive, "", false)
	if err != nil {
		return registry.Snapshot{}, err
	}
	snapshot := registry.Snapshot{States: map[string]registry.State{}}
	for _, item := range items {
		row := text(item, attrRow)
		if row == rowCurrent {
			snapshot.Version = decodeVersion(item)
			if snapshot.Version.Number <= 0 {
				return registry.Snapshot{}, &Error{Operation: "current", Table: s.table, Part: partLive, Row: row, Kind: registry.ErrDamaged, Cause: errors.New("it has no number")}
			}
		}
		if id, ok := strings.CutPrefix(row, statePrefix); ok {
			if state := decodeState(item); !state.MayReceive() {
				snapshot.States[id] = state
			}
		}
	}
	return snapshot, nil
}

// Document implements registry.Store.
func (s *Store) Document(ctx context.Context, v registry.Version) ([]byte, error) {
	part := versionPart(v.Number)
	items, err := s.query(ctx, "document", part, v.Token+"#", false)
	if err != nil {
		return nil, err
	}
	fault := func(kind, cause error) error {
		return &Error{Operation: "document", Table: s.table, Part: part, Row: v.Token, Kind: kind, Cause: cause}
	}
	if len(items) == 0 || len(items) < v.Chunks {
		return nil, fault(registry.ErrGone, fmt.Errorf("%d of %d chunks are there", len(items), v.Chunks))
	}
	var packed bytes.Buffer
	for _, item := range items {
		packed.Write(binary(item, attrBody))
	}
	document, err := unpack(&packed, v)
	if err != nil {
		return nil, fault(registry.ErrDamaged, err)
	}
	return document, nil
}

func pack(document []byte) ([]byte, error) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(document); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

func unpack(packed io.Reader, v registry.Version) ([]byte, error) {
	r, err := gzip.NewReader(packed)
	if err != nil {
		return nil, err
	}
	document, err := io.ReadAll(io.LimitReader(r, registry.MaxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if got := digest(document); len(document) != v.Bytes || got != v.SHA256 {
		return nil, fmt.Errorf("%d bytes with SHA-256 %s are stored, %d with %s were applied", len(document), got, v.Bytes, v.SHA256)
	}
	return document, nil
}

func digest(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}

// pointer reads the row "current" with the versions before it.
func (s *Store) pointer(ctx context.Context, operation string) ([]registry.Version, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key(partLive, rowCurrent), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return nil, s.failed(operation, partLive, rowCurrent, err)
	}
	return decodeVersions(out.Item), nil
}

// Versions implements registry.Store.
func (s *Store) Versions(ctx context.Context) ([]registry.Version, error) {
	return s.pointer(ctx, "versions")
}

// Apply implements registry.Store: chunks first, then the row "current" under the condition that nobody was faster.
func (s *Store) Apply(ctx context.Context, was int64, draft registry.Draft) (registry.Version, error) {
	if err := draft.Check(); err != nil {
		return registry.Version{}, err
	}
	before, err := s.pointer(ctx, "apply")
	if err != nil {
		return registry.Version{}, err
	}
	if current := number(before); current != was {
		return registry.Version{}, s.changed(was, before)
	}
	packed, err := pack(draft.Document)
	if err != nil {
		return registry.Version{}, fmt.Errorf("apply: %w", err)
	}
	v := registry.Version{
		Number: was + 1, Token: rand.Text(), Bytes: len(draft.Document), SHA256: digest(draft.Document),
		AppliedAt: time.UnixMilli(draft.At.UnixMilli()), By: registry.Cut(draft.By, registry.MaxBy),
	}
	for chunk := range slices.Chunk(packed, ChunkBytes) {
		item := key(versionPart(v.Number), fmt.Sprintf("%s#%04d", v.Token, v.Chunks))
		item[attrBody] = &types.AttributeValueMemberB{Value: chunk}
		if _, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: item}); err != nil {
			return registry.Version{}, s.failed("apply", versionPart(v.Number), text(item, attrRow), err)
		}
		v.Chunks++
	}
	if err := s.move(ctx, was, v, before); err != nil {
		return v, err
	}
	s.prune(ctx, v.Number)
	return v, nil
}

func number(versions []registry.Version) int64 {
	if len(versions) == 0 {
		return 0
	}
	return versions[0].Number
}

func (s *Store) changed(was int64, now []registry.Version) error {
	cause := fmt.Errorf("nothing has been applied, and version %d was seen", was)
	if len(now) > 0 {
		cause = fmt.Errorf("version %d by %q is current, and version %d was seen", now[0].Number, now[0].By, was)
	}
	return &Error{Operation: "apply", Table: s.table, Part: partLive, Row: rowCurrent, Kind: registry.ErrChanged, Cause: cause}
}

// move makes a version the current one.
func (s *Store) move(ctx context.Context, was int64, v registry.Version, before []registry.Version) error {
	item := encodeVersion(v)
	item[attrPart], item[attrRow] = str(partLive), str(rowCurrent)
	history := &types.AttributeValueMemberL{}
	for _, old := range before[:min(len(before), registry.KeptVersions-1)] {
		history.Value = append(history.Value, &types.AttributeValueMemberM{Value: encodeVersion(old)})
	}
	item[attrHistory] = history
	in := &dynamodb.PutItemInput{
		TableName: &s.table, Item: item,
		ConditionExpression:                 aws.String("attribute_not_exists(#number)"),
		ExpressionAttributeNames:            map[string]string{"#number": attrNumber},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	if was > 0 {
		in.ConditionExpression = aws.String("#number = :was")
		in.ExpressionAttributeValues = attributes{":was": num(was)}
	}
	_, err := s.client.PutItem(ctx, in)
	if err == nil {
		return nil
	}
	if old, is := refused(err); is {
		if text(old, attrToken) == v.Token {
			return nil // the answer of the try before was lost
		}
		return s.changed(was, decodeVersions(old))
	}
	return s.failed("apply", partLive, rowCurrent, err)
}

// pruneReach is how many numbers below the oldest kept one an Apply looks for leftovers, so that one that failed to delete is made up for.
const pruneReach = 5

func (s *Store) prune(ctx context.Context, current int64) {
	last := current - registry.KeptVersions
	for n := max(1, last-pruneReach+1); n <= last; n++ {
		items, err := s.query(ctx, "prune", versionPart(n), "", true)
		if err != nil {
			s.opts.OnProblem(err)
			return
		}
		for _, item := range items {
			row := text(item, attrRow)
			if _, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: key(versionPart(n), row)}); err != nil {
				s.opts.OnProblem(s.failed("prune", versionPart(n), row, err))
				return
			}
		}
	}
}
