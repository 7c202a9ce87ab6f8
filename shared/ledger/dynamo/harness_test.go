package dynamo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/awslocal"
	engine "github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/databasetest"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/dynamo"
	"github.com/waybillhq/waybill/shared/ledger/ledgertest"
	"github.com/waybillhq/waybill/shared/topology"
)

const table = "ledger"

// database is a local endpoint with an empty ledger table and the AWS SDK in front of it.
type database struct {
	engine   *engine.Service
	endpoint *awslocal.Endpoint
	client   *dynamodb.Client
}

func openDatabase(t testing.TB) *database {
	t.Helper()
	db := databasetest.Open(t, topology.Ledger)
	return &database{db.Engine, db.Endpoint, db.Client}
}

// The three stores under test.

func (db *database) item(t testing.TB) *dynamo.ItemStore {
	t.Helper()
	s, err := dynamo.NewItem(db.client, table, dynamo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (db *database) batch(t testing.TB) *dynamo.BatchStore {
	t.Helper()
	s, err := dynamo.NewBatch(db.client, table, dynamo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (db *database) fallback(t testing.TB) *dynamo.FallbackStore {
	t.Helper()
	return dynamo.WithFallback(db.batch(t), db.item(t), dynamo.FallbackOptions{})
}

func (db *database) harness(store ledger.Store) ledgertest.Harness {
	return ledgertest.Harness{
		Store: store, Put: db.put, Rows: db.items, Inject: db.inject,
		Domain: ledgertest.Domain{Epochs: 2, Attempts: 2}, // more in TestStoresDecideLikeTheProtocol
	}
}

type attributes = map[string]types.AttributeValue

func (db *database) putRow(t testing.TB, rows ...attributes) {
	t.Helper()
	for chunk := range slices.Chunk(rows, 25) {
		var writes []types.WriteRequest
		for _, r := range chunk {
			writes = append(writes, types.WriteRequest{PutRequest: &types.PutRequest{Item: r}})
		}
		if _, err := db.client.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: writes}}); err != nil {
			t.Fatal(err)
		}
	}
}

func (db *database) put(t testing.TB, items ...ledger.Item) {
	t.Helper()
	var rows []attributes
	for _, i := range items {
		rows = append(rows, rowOf(i))
	}
	db.putRow(t, rows...)
}

func (db *database) rows(t testing.TB) []attributes {
	t.Helper()
	var rows []attributes
	pages := dynamodb.NewScanPaginator(db.client, &dynamodb.ScanInput{TableName: aws.String(table), ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, page.Items...)
	}
	return rows
}

func (db *database) items(t testing.TB) map[delivery.ID]ledger.Item {
	t.Helper()
	items := map[delivery.ID]ledger.Item{}
	for _, r := range db.rows(t) {
		item := itemOf(t, r)
		items[item.Delivery] = item
	}
	return items
}

// rowOf and itemOf spell the row out once more, by hand, so that the driver's spelling is checked against another.

func rowOf(i ledger.Item) attributes {
	millis := int64(0)
	if !i.LeaseUntil.IsZero() {
		millis = i.LeaseUntil.UnixMilli()
	}
	return attributes{
		"delivery": str(string(i.Delivery)), "state": str(string(i.State)), "epoch": num(i.Epoch), "attempt": num(i.Attempt),
		"owner": str(i.Owner), "leaseUntil": num(millis), "code": num(i.Code), "reason": str(i.Reason),
		"updatedAt": num(i.UpdatedAt.UnixMilli()), "expiresAt": num(i.ExpiresAt.Unix()),
	}
}

func itemOf(t testing.TB, r attributes) ledger.Item {
	t.Helper()
	text := func(name string) string {
		s, ok := r[name].(*types.AttributeValueMemberS)
		if !ok && name != "reason" {
			t.Fatalf("attribute %s is %#v, want a string", name, r[name])
		}
		if !ok {
			return ""
		}
		return s.Value
	}
	number := func(name string) int64 {
		n, ok := r[name].(*types.AttributeValueMemberN)
		if !ok && name != "code" {
			t.Fatalf("attribute %s is %#v, want a number", name, r[name])
		}
		if !ok {
			return 0
		}
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	item := ledger.Item{
		Delivery: delivery.ID(text("delivery")), State: ledger.State(text("state")), Epoch: int(number("epoch")), Attempt: int(number("attempt")),
		Owner: text("owner"), Code: int(number("code")), Reason: text("reason"),
		UpdatedAt: time.UnixMilli(number("updatedAt")), ExpiresAt: time.Unix(number("expiresAt"), 0),
	}
	if ms := number("leaseUntil"); ms != 0 {
		item.LeaseUntil = time.UnixMilli(ms)
	}
	return item
}

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func num[T int | int64](n T) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: fmt.Sprint(n)}
}

// inject makes calls go wrong, or what a call does for one delivery.
func (db *database) inject(f ledgertest.Fault) func() {
	planted := []*awslocal.Planted{}
	add := func(fault awslocal.Fault) { planted = append(planted, db.endpoint.Faults().Add(fault)) }
	whole := awslocal.Fault{Service: "dynamodb"}
	code := ""
	switch f.Kind {
	case ledgertest.Throttled:
		whole.Throttle, code = true, "ThrottlingError"
	case ledgertest.Broken:
		whole.Error, code = &wire.Error{Code: "InternalServerError", Message: "injected", Status: http.StatusInternalServerError}, "InternalServerError"
	case ledgertest.AnswerLost:
		whole.WithholdAnswer = true
	}
	if f.Delivery != "" {
		add(statementFault(f.Delivery, code))
		whole.Operation = "UpdateItem"
		whole.Match = func(body []byte) bool { return bytes.Contains(body, []byte(f.Delivery)) }
	}
	add(whole)
	return func() {
		for _, p := range planted {
			p.Remove()
		}
	}
}

// statementFault makes the statement about one delivery fail with code instead of running. Without a code it runs, but its
// success is answered as an internal error.
func statementFault(d delivery.ID, code string) awslocal.Fault {
	var index atomic.Int64
	fault := awslocal.Fault{
		Service: "dynamodb", Operation: "BatchExecuteStatement",
		Match: func(body []byte) bool {
			i := slices.IndexFunc(statementsOf(body), func(s json.RawMessage) bool { return bytes.Contains(s, []byte(d)) })
			if i >= 0 {
				index.Store(int64(i))
			}
			return i >= 0
		},
	}
	if code == "" {
		fault.RewriteResponse = func(body []byte) []byte {
			return editResponses(body, func(responses []json.RawMessage) []json.RawMessage {
				if i := index.Load(); !bytes.Contains(responses[i], []byte(`"Error"`)) {
					responses[i] = statementError("InternalServerError")
				}
				return responses
			})
		}
		return fault
	}
	fault.RewriteRequest = func(body []byte) []byte {
		var request map[string]json.RawMessage
		must(json.Unmarshal(body, &request))
		i := int(index.Load())
		request["Statements"] = marshal(slices.Delete(statementsOf(body), i, i+1))
		return marshal(request)
	}
	fault.RewriteResponse = func(body []byte) []byte {
		return editResponses(body, func(responses []json.RawMessage) []json.RawMessage {
			return slices.Insert(responses, int(index.Load()), statementError(code))
		})
	}
	return fault
}

func statementError(code string) json.RawMessage {
	return marshal(map[string]any{"Error": map[string]string{"Code": code, "Message": "injected"}})
}

func statementsOf(body []byte) []json.RawMessage {
	var request struct{ Statements []json.RawMessage }
	must(json.Unmarshal(body, &request))
	return request.Statements
}

func editResponses(body []byte, edit func([]json.RawMessage) []json.RawMessage) []byte {
	var response map[string]json.RawMessage
	must(json.Unmarshal(body, &response))
	var responses []json.RawMessage
	must(json.Unmarshal(response["Responses"], &responses))
	response["Responses"] = marshal(edit(responses))
	return marshal(response)
}

func marshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	must(err)
	return b
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// scripted is a client whose answers a test makes up.
type scripted struct {
	update func(*dynamodb.UpdateItemInput) (*dynamodb.UpdateItemOutput, error)
	batch  func(*dynamodb.BatchExecuteStatementInput) (*dynamodb.BatchExecuteStatementOutput, error)
	get    func(*dynamodb.BatchGetItemInput) (*dynamodb.BatchGetItemOutput, error)
}

func (s *scripted) UpdateItem(_ context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return s.update(in)
}

func (s *scripted) BatchExecuteStatement(_ context.Context, in *dynamodb.BatchExecuteStatementInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error) {
	return s.batch(in)
}

func (s *scripted) BatchGetItem(_ context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	return s.get(in)
}

// scriptedStores gives both forms over a client.
func scriptedStores(t *testing.T, c dynamo.Client) map[string]ledger.Store {
	t.Helper()
	item, err := dynamo.NewItem(c, table, dynamo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := dynamo.NewBatch(c, table, dynamo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]ledger.Store{"item": item, "batch": batch}
}
