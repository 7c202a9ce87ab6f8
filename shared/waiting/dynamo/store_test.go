package dynamo_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/awslocal"
	engine "github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/databasetest"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waiting"
	"github.com/waybillhq/waybill/shared/waiting/dynamo"
	"github.com/waybillhq/waybill/shared/waiting/waitingtest"
)

const table = "waiting"

// database is a local endpoint with an empty table and the AWS SDK in front of it.
type database struct {
	engine   *engine.Service
	endpoint *awslocal.Endpoint
	client   *dynamodb.Client
	now      time.Time
}

func openDatabase(t testing.TB) *database {
	t.Helper()
	db := databasetest.Open(t, topology.Waiting)
	return &database{db.Engine, db.Endpoint, db.Client, time.Unix(1_700_000_000, 0)}
}

func (db *database) store(t testing.TB) *dynamo.Store {
	t.Helper()
	s, err := dynamo.New(db.client, table, dynamo.Options{Now: func() time.Time { return db.now }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rows spells the row out once more, by hand, from the engine's own items.
func (db *database) rows(t testing.TB) []waiting.Row {
	t.Helper()
	items, err := db.engine.Items(table)
	if err != nil {
		t.Fatal(err)
	}
	var rows []waiting.Row
	for _, item := range items {
		text := func(name string) string {
			s, _ := item[name].(engine.String)
			return string(s)
		}
		number := func(name string) int64 {
			n, ok := item[name].(engine.Number)
			if !ok {
				return 0
			}
			i, err := strconv.ParseInt(n.String(), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		if text("bucket") == "progress" {
			continue
		}
		body, _ := item["body"].(engine.Binary)
		rows = append(rows, waiting.Row{
			Bucket: text("bucket"), Key: text("row"), Token: text("token"), At: time.UnixMilli(number("at")),
			Destination: text("destination"), Trace: text("trace"), Form: int(number("form")), Body: []byte(body),
		})
	}
	slices.SortFunc(rows, func(a, b waiting.Row) int {
		return strings.Compare(a.Bucket+"\x00"+a.Key, b.Bucket+"\x00"+b.Key)
	})
	return rows
}

func (db *database) inject(kind waitingtest.FaultKind) func() {
	fault := awslocal.Fault{Service: "dynamodb"}
	switch kind {
	case waitingtest.Throttled:
		fault.Throttle = true
	case waitingtest.Broken:
		fault.Error = &wire.Error{Code: "InternalServerError", Message: "injected", Status: http.StatusInternalServerError}
	case waitingtest.AnswerLost:
		fault.WithholdAnswer = true
	}
	return db.endpoint.Faults().Add(fault).Remove
}

func TestStore(t *testing.T) {
	waitingtest.Run(t, func(t *testing.T) waitingtest.Harness {
		db := openDatabase(t)
		return waitingtest.Harness{Store: db.store(t), Rows: func() []waiting.Row { return db.rows(t) }, Inject: db.inject}
	})
}

// A consistent read costs one unit, another half of one.
func TestReadsAreConsistentAndScansAreNot(t *testing.T) {
	db := openDatabase(t)
	s := db.store(t)
	rows, _ := manyRows(1)
	if err := s.Put(t.Context(), rows)[0]; err != nil {
		t.Fatal(err)
	}
	if err := s.Advance(t.Context(), 0, 1); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		read func() error
		want float64
	}{
		"read":    {func() error { _, err := s.Read(t.Context(), "b", "", "", 10); return err }, 1},
		"rows":    {func() error { _, _, err := s.Rows(t.Context(), waiting.Cursor{}); return err }, 1},
		"state":   {func() error { _, err := s.State(t.Context()); return err }, 1},
		"buckets": {func() error { _, _, err := s.Buckets(t.Context(), waiting.Cursor{}); return err }, 0.5},
	} {
		before := db.endpoint.Counts()
		if err := test.read(); err != nil {
			t.Fatal(err)
		}
		if got := db.endpoint.Counts().Since(before).Total("dynamodb").Units.Read; got != test.want {
			t.Errorf("%s: %v read units, want %v", name, got, test.want)
		}
	}
}

// noPartiQL refuses statements as an account without the permission does, or an emulator.
func (db *database) noPartiQL() *awslocal.Planted {
	return db.endpoint.Faults().Add(awslocal.Fault{Service: "dynamodb", Operation: "BatchExecuteStatement",
		Error: &wire.Error{Code: "AccessDeniedException", Message: "not authorized to perform dynamodb:PartiQLDelete"}})
}

func TestStoreWithoutPartiQL(t *testing.T) {
	waitingtest.Run(t, func(t *testing.T) waitingtest.Harness {
		db := openDatabase(t)
		db.noPartiQL()
		return waitingtest.Harness{Store: db.store(t), Rows: func() []waiting.Row { return db.rows(t) }}
	})
}

func (db *database) calls(operation string) int {
	return db.endpoint.Counts()[awslocal.Op{Service: "dynamodb", Name: operation}].Attempted
}

func manyRows(n int) (rows []waiting.Row, refs []waiting.Ref) {
	for i := range n {
		r := waiting.Row{Bucket: "b", Key: fmt.Sprintf("%03d", i), Token: "t", Destination: "d", Form: waiting.Zipped, Body: []byte("x")}
		rows, refs = append(rows, r), append(refs, r.Ref())
	}
	return rows, refs
}

func TestFewCalls(t *testing.T) {
	db := openDatabase(t)
	s := db.store(t)
	rows, refs := manyRows(51)
	if err := errors.Join(append(s.Put(t.Context(), rows), s.Delete(t.Context(), refs)...)...); err != nil {
		t.Fatal(err)
	}
	counts := db.endpoint.Counts()
	for op, want := range map[string]int{"BatchWriteItem": 3, "BatchExecuteStatement": 3, "DeleteItem": 0} {
		if got := db.calls(op); got != want {
			t.Errorf("%s: %d calls, want %d", op, got, want)
		}
	}
	if units := counts.Total("dynamodb").Units.Write; units != 102 {
		t.Errorf("%v write units for 51 small rows put and deleted, want 102", units)
	}
}

func TestDeletesAvoidPartiQLForAWhile(t *testing.T) {
	db := openDatabase(t)
	s := db.store(t)
	rows, refs := manyRows(3)
	remove := func() (batch, single int) {
		before := [2]int{db.calls("BatchExecuteStatement"), db.calls("DeleteItem")}
		if err := errors.Join(append(s.Put(t.Context(), rows), s.Delete(t.Context(), refs)...)...); err != nil {
			t.Fatal(err)
		}
		return db.calls("BatchExecuteStatement") - before[0], db.calls("DeleteItem") - before[1]
	}
	refused := db.noPartiQL()
	for _, step := range []struct {
		after         time.Duration
		heal          bool
		batch, single int
	}{{0, false, 1, 3}, {4 * time.Minute, false, 0, 3}, {time.Minute, false, 1, 3}, {time.Minute, true, 0, 3}, {4 * time.Minute, false, 1, 0}, {0, false, 1, 0}} {
		db.now = db.now.Add(step.after)
		if step.heal {
			refused.Remove()
		}
		if batch, single := remove(); batch != step.batch || single != step.single {
			t.Errorf("%+v: %d batch and %d single deletes", step, batch, single)
		}
	}
}

// A put that is repeated with its token could be taken for the row that a waker has read: the SDK must not do it by itself.
func TestPutIsTriedOnce(t *testing.T) {
	db := openDatabase(t)
	options := db.client.Options()
	options.Retryer, options.RetryMaxAttempts = nil, 3 // the SDK's habit
	s, err := dynamo.New(dynamodb.New(options), table, dynamo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	db.endpoint.Faults().Add(awslocal.Fault{Service: "dynamodb", Operation: "BatchWriteItem", WithholdAnswer: true})
	rows, _ := manyRows(1)
	if err := s.Put(t.Context(), rows)[0]; !errors.Is(err, waiting.ErrUnknown) {
		t.Errorf("error %v", err)
	}
	if n := db.calls("BatchWriteItem"); n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestUnprocessedCountsAsThrottled(t *testing.T) {
	db := openDatabase(t)
	s, err := dynamo.New(&partial{Client: db.client}, table, dynamo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := manyRows(4)
	for i, err := range s.Put(t.Context(), rows) {
		if throttled := errors.Is(err, waiting.ErrThrottled); throttled != (i == 2) || !throttled && err != nil {
			t.Errorf("row %d: %v", i, err)
		}
	}
	if n := len(db.rows(t)); n != 3 {
		t.Errorf("%d rows were written", n)
	}
}

// partial leaves the third write of a call unprocessed.
type partial struct{ *dynamodb.Client }

func (p *partial) BatchWriteItem(ctx context.Context, in *dynamodb.BatchWriteItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchWriteItemOutput, error) {
	writes := in.RequestItems[table]
	left := writes[2]
	in.RequestItems[table] = append(slices.Clone(writes[:2]), writes[3:]...)
	out, err := p.Client.BatchWriteItem(ctx, in, opts...)
	if err == nil {
		out.UnprocessedItems = map[string][]types.WriteRequest{table: {left}}
	}
	return out, err
}

// terse answers one statement less than it was asked.
type terse struct{ *dynamodb.Client }

func (c *terse) BatchExecuteStatement(ctx context.Context, in *dynamodb.BatchExecuteStatementInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error) {
	out, err := c.Client.BatchExecuteStatement(ctx, in, opts...)
	if err == nil {
		out.Responses = out.Responses[:len(out.Responses)-1]
	}
	return out, err
}

// A statement without an answer may have been executed: it is neither success nor panic.
func TestMissingAnswersAreUnknown(t *testing.T) {
	db := openDatabase(t)
	rows, refs := manyRows(3)
	if errs := db.store(t).Put(t.Context(), rows); errors.Join(errs...) != nil {
		t.Fatal(errs)
	}
	s, err := dynamo.New(&terse{db.client}, table, dynamo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	errs := s.Delete(t.Context(), refs)
	if errors.Join(errs[:2]...) != nil || !errors.Is(errs[2], waiting.ErrUnknown) || !strings.Contains(errs[2].Error(), "2 of 3") {
		t.Errorf("%v", errs)
	}
}

func TestOddRowsAreUnreadableAndKept(t *testing.T) {
	db := openDatabase(t)
	s := db.store(t)
	for name, item := range map[string]map[string]types.AttributeValue{
		"nothing but a key": {},
		"other types":       {"token": num("1"), "at": text("soon"), "form": text("1"), "body": text("x"), "destination": num("2")},
		"newer form":        {"token": text("t"), "at": num("1"), "form": num("2"), "body": &types.AttributeValueMemberB{Value: []byte("x")}, "destination": text("d")},
		"huge number":       {"token": text("t"), "at": num("1e80"), "form": num("99999999999999999999"), "destination": text("d")},
	} {
		item["bucket"], item["row"] = text("odd"), text(name)
		if _, err := db.client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(table), Item: item}); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.Read(t.Context(), "odd", "", "", 10)
	if err != nil || len(page.Rows) != 4 {
		t.Fatalf("%d rows, %v", len(page.Rows), err)
	}
	for _, r := range page.Rows {
		if _, err := r.Message(); !errors.Is(err, waiting.ErrUnreadable) {
			t.Errorf("%s: %v", r.Key, err)
		}
	}
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
func num(s string) types.AttributeValue  { return &types.AttributeValueMemberN{Value: s} }

func TestErrorsSayWhatToDo(t *testing.T) {
	db := openDatabase(t)
	for name, test := range map[string]struct {
		table string
		fault *wire.Error
		want  string
	}{
		"no table":  {"elsewhere", nil, "does not exist in this account and region"},
		"no access": {table, &wire.Error{Code: "AccessDeniedException", Message: "no"}, "the role may not do this"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.fault != nil {
				defer db.endpoint.Faults().Add(awslocal.Fault{Error: test.fault}).Remove()
			}
			s, err := dynamo.New(db.client, test.table, dynamo.Options{})
			if err != nil {
				t.Fatal(err)
			}
			rows, refs := manyRows(1)
			_, readErr := s.Read(t.Context(), "b", "", "", 1)
			for _, err := range []error{s.Put(t.Context(), rows)[0], s.Delete(t.Context(), refs)[0], readErr} {
				if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, waiting.ErrUnknown) {
					t.Errorf("error %v", err)
				}
			}
		})
	}
	for _, bad := range []string{"", `a"b`, "a\nb"} {
		if _, err := dynamo.New(db.client, bad, dynamo.Options{}); err == nil {
			t.Errorf("table name %q was accepted", bad)
		}
	}
}
