// Package dynamodb is a small and strict DynamoDB: the operations that Waybill uses, in memory, with AWS's limits,
// error names, messages and charges. What it does not implement it refuses by name, and it accepts nothing that AWS
// refuses; where AWS's behaviour is not known for certain it takes the narrower reading.
//
// Implemented: tables and their settings for TTL and for point-in-time recovery, which recovers nothing; PutItem, GetItem, UpdateItem, DeleteItem with all expressions and return
// values; Query, Scan; BatchGetItem, BatchWriteItem; ExecuteStatement and BatchExecuteStatement for PartiQL statements
// that name one whole key. Not implemented: indexes, transactions, streams, and everything older than expressions.
//
// Differences from AWS that a caller can see: tables are usable at once, reads are always consistent (and charged as
// asked for), nothing is ever throttled, and expired items stay until [Service.Sweep] is called.
//
// Not certain of AWS, so do not build on it: that a statement of a batch which fails its condition gives the old item
// (AWS documents it, others report that it does not); that two statements on one item, or reads beside writes, fail the
// whole batch; that a comparison with <> in PartiQL holds for an attribute that is missing. A DuplicateItem never
// carries the item here. PartiQL statements must quote all of DynamoDB's reserved words, though AWS lets some pass.
package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// Options configures a Service. The zero value is usable.
type Options struct {
	Now func() time.Time // clock for creation times; default time.Now
}

// Service is an in-memory DynamoDB of one account and region. It is safe for concurrent use: writes of one table
// exclude each other, operations on different tables do not meet.
type Service struct {
	now func() time.Time

	mu     sync.RWMutex
	tables map[string]*table

	expressions [expressionKinds]cache[*expression]
	statements  cache[*statement]
}

var _ wire.Service = (*Service)(nil)

// ErrNoTable says that a table does not exist.
var ErrNoTable = errors.New("dynamodb: no such table")

// New gives a Service without tables.
func New(opts Options) *Service {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Service{now: opts.Now, tables: map[string]*table{}}
}

// Name is "dynamodb".
func (s *Service) Name() string { return "dynamodb" }

// Do runs one operation. Every error is a *wire.Error.
func (s *Service) Do(ctx context.Context, op string, body []byte) (wire.Response, error) {
	if control, ok := controlOperations[op]; ok {
		if refused := authorizeControl(ctx, op, body); refused != nil {
			return wire.Response{}, refused
		}
		answer, err := control(s, body)
		return wire.Response{Body: answer}, err
	}
	operation, ok := dataOperations[op]
	if !ok {
		return wire.Response{}, wire.UnknownOperation("dynamodb", op)
	}
	r, err := decodeRequest(op, body)
	if err != nil {
		return wire.Response{}, err
	}
	r.ctx = ctx
	if refused := r.authorize(); refused != nil {
		return wire.Response{}, refused
	}
	return operation(s, r)
}

var dataOperations = map[string]func(*Service, *request) (wire.Response, error){
	"PutItem":               (*Service).putItem,
	"GetItem":               (*Service).getItem,
	"UpdateItem":            (*Service).updateItem,
	"DeleteItem":            (*Service).deleteItem,
	"Query":                 (*Service).query,
	"Scan":                  (*Service).scan,
	"BatchGetItem":          (*Service).batchGetItem,
	"BatchWriteItem":        (*Service).batchWriteItem,
	"ExecuteStatement":      (*Service).executeStatement,
	"BatchExecuteStatement": (*Service).batchExecuteStatement,
}

// table finds a table for an operation on its items.
func (s *Service) table(name string) (*table, error) {
	s.mu.RLock()
	t := s.tables[name]
	s.mu.RUnlock()
	switch {
	case t != nil:
		return t, nil
	case !validTableName(name):
		return nil, invalidTableName(name)
	}
	return nil, wire.Errorf("ResourceNotFoundException", "Requested resource not found")
}

func (s *Service) existing(name string) (*table, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.tables[name]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNoTable, name)
}

// Items gives all items of a table in scan order, at one instant. It is for auditors: it costs no capacity.
// The error is ErrNoTable.
func (s *Service) Items(tableName string) ([]Item, error) {
	t, err := s.existing(tableName)
	if err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	items := make([]Item, 0, t.rows.count)
	for w := range t.rows.within(span{}, false) {
		items = append(items, w.item)
	}
	return items, nil
}

// Len gives the number of items of a table. The error is ErrNoTable.
func (s *Service) Len(tableName string) (int, error) {
	t, err := s.existing(tableName)
	if err != nil {
		return 0, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.rows.count, nil
}

// Drop deletes the item with the key behind everyone's back: no condition, no capacity. It reports whether there was
// one. The error is ErrNoTable, or says that key is not the table's.
func (s *Service) Drop(tableName string, key Item) (bool, error) {
	t, err := s.existing(tableName)
	if err != nil {
		return false, err
	}
	if err := t.checkKey(key); err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rows.remove(t.rowKey(key)), nil
}

// maxExpiredYears: AWS leaves items alone that seem to have expired longer ago, for they hold no epoch seconds.
const maxExpiredYears = 5

// Sweep deletes every item whose time to live is over at now, in all tables with a TTL attribute, and gives their
// number. Until then expired items are read and written like others, as on AWS, where deletion takes days.
func (s *Service) Sweep(now time.Time) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	swept := 0
	for _, t := range s.tables {
		swept += t.sweep(now)
	}
	return swept
}

func (t *table) sweep(now time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ttl == "" {
		return 0
	}
	var expired []string
	for w := range t.rows.within(span{}, false) {
		n, ok := w.item[t.ttl].(Number)
		if !ok {
			continue
		}
		seconds, err := strconv.ParseFloat(n.String(), 64)
		if err == nil && seconds < float64(now.Unix()) && seconds > float64(now.AddDate(-maxExpiredYears, 0, 0).Unix()) {
			expired = append(expired, w.key)
		}
	}
	for _, key := range expired {
		t.rows.remove(key)
	}
	return len(expired)
}

// maxCached bounds each cache of parsed texts. Programs have few texts; a cache that fills up is emptied.
const maxCached = 1000

// cache keeps parsed expressions or statements by their text.
type cache[T any] struct {
	mu      sync.RWMutex
	entries map[string]T
}

func (c *cache[T]) get(text string, parse func(string) (T, error)) (T, error) {
	c.mu.RLock()
	v, ok := c.entries[text]
	c.mu.RUnlock()
	if ok {
		return v, nil
	}
	v, err := parse(text)
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil || len(c.entries) >= maxCached {
		c.entries = map[string]T{}
	}
	c.entries[text] = v
	return v, nil
}
