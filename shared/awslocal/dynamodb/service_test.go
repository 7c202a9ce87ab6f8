package dynamodb_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

func TestInProcessAPI(t *testing.T) {
	s := newService(t)
	do(t, s, "PutItem", `{"TableName":"room","Item":{"k":{"S":"a"},"n":{"N":"2"}}}`)
	do(t, s, "PutItem", `{"TableName":"room","Item":{"k":{"S":"a"},"n":{"N":"10"},"x":{"SS":["p"]}}}`)
	items, err := s.Items("room")
	if err != nil || len(items) != 2 || items[0]["n"].(dynamodb.Number).String() != "2" || items[1]["x"].(dynamodb.Set)[0] != dynamodb.String("p") {
		t.Errorf("Items = %v, %v", items, err)
	}
	for want := range 2 {
		dropped, err := s.Drop("room", dynamodb.Item{"k": dynamodb.String("a"), "n": items[0]["n"]})
		if err != nil || dropped != (want == 0) {
			t.Errorf("Drop = %v, %v", dropped, err)
		}
	}
	if n, err := s.Len("room"); n != 1 || err != nil {
		t.Errorf("Len = %d, %v", n, err)
	}
	if _, err := s.Drop("room", dynamodb.Item{"k": dynamodb.String("a")}); err == nil {
		t.Error("Drop with half a key must fail")
	}
	if _, err := s.Items("nowhere"); !errors.Is(err, dynamodb.ErrNoTable) {
		t.Errorf("Items of no table: %v", err)
	}
}

func TestSweepDeletesWhatHasExpired(t *testing.T) {
	s := newService(t)
	now := time.Unix(1_800_000_000, 0)
	for key, expires := range map[string]string{
		"expired": `{"N":"1799999999"}`, "now": `{"N":"1800000000"}`, "later": `{"N":"1800000001.5"}`, "text": `{"S":"1"}`, "milliseconds": `{"N":"1700000000000"}`,
		"ages-ago": `{"N":"1000"}`,
	} {
		do(t, s, "PutItem", fmt.Sprintf(`{"TableName":"ledger","Item":{"k":{"S":%q},"expiresAt":%s}}`, key, expires))
	}
	if n := s.Sweep(now); n != 0 {
		t.Errorf("%d items swept without a TTL attribute", n)
	}
	do(t, s, "UpdateTimeToLive", `{"TableName":"ledger","TimeToLiveSpecification":{"AttributeName":"expiresAt","Enabled":true}}`)
	if n := s.Sweep(now); n != 1 {
		t.Errorf("%d items swept, want 1", n)
	}
	if left, _ := s.Len("ledger"); left != 5 {
		t.Errorf("%d items left, want 5", left)
	}
}

// TestRequestsThatNoClientSends are refused without a panic and without an effect.
func TestRequestsThatNoClientSends(t *testing.T) {
	for _, row := range []struct{ op, body, code, text string }{
		{"PutItem", ``, "SerializationException", ""},
		{"PutItem", `[]`, "SerializationException", ""},
		{"PutItem", `{}`, "ValidationException", "TableName"},
		{"PutItem", `{"TableName":"ledger","Item":{"k":{"S":"a"}}} trailing`, "SerializationException", ""},
		{"PutItem", `{"TableName":"ledger","Item":{"k":{"S":"\ud800"}}}`, "SerializationException", ""},
		{"PutItem", "{\"TableName\":\"ledger\",\"Item\":{\"k\":{\"S\":\"\xff\"}}}", "SerializationException", ""},
		{"PutItem", `{"TableName":"ledger","Item":{"k":{"N":1}}}`, "SerializationException", ""},
		{"PutItem", `{"TableName":"ledger","Item":{"k":{"B":"a"}}}`, "SerializationException", ""},
		{"PutItem", `{"TableName":"ledger","Item":{"k":{}}}`, "ValidationException", "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"},
		{"PutItem", `{"TableName":"ledger","Item":{"k":{"S":"a","N":"1"}}}`, "ValidationException", "Supplied AttributeValue has more than one datatypes set"},
		{"PutItem", `{"TableName":"ledger","Item":{"k":{"S":"a"}},"Expected":{}}`, "ValidationException", "the local endpoint does not implement the member Expected of PutItem"},
		{"PutItem", `{"TableName":"ledger","item":{"k":{"S":"a"}}}`, "ValidationException", "the local endpoint does not implement the member item of PutItem"},
		{"PutItem", `{"TableName":"ledger","Item":{"k":{"S":"a"}},"ReturnValues":"SOME"}`, "ValidationException", "Member must satisfy enum value set: [ALL_NEW, UPDATED_OLD, ALL_OLD, NONE, UPDATED_NEW]"},
		{"PutItem", `{"TableName":"led ger","Item":{"k":{"S":"a"}}}`, "ValidationException", "[a-zA-Z0-9_.-]+"},
		{"PutItem", `{"TableName":"ledger","Item":{"k":{"S":"a"}},"ConditionExpression":"` + strings.Repeat("(", 4000) + `"}`, "ValidationException", ""},
		{"ExecuteStatement", `{"Statement":"INSERT INTO ledger VALUE {'k': ` + strings.Repeat("[", 8000) + `"}`, "ValidationException", ""},
		{"ExecuteStatement", `{"Statement":"SELECT * FROM ledger WHERE k = 'a'","Limit":1}`, "ValidationException", "Limit"},
		{"ExecuteStatement", `{"Statement":"SELECT * FROM ledger.idx WHERE k = 'a'"}`, "ValidationException", "indexes"},
		{"CreateTable", `{"TableName":"other","StreamSpecification":{"StreamEnabled":true}}`, "ValidationException", "StreamSpecification"},
		{"BatchWriteItem", `{"RequestItems":{"ledger":[{}]}}`, "ValidationException", ""},
		{"ExecuteTransaction", `{}`, "UnknownOperationException", "ExecuteTransaction"},
		{"putItem", `{}`, "UnknownOperationException", "putItem"},
	} {
		s := newService(t)
		_, err := s.Do(t.Context(), row.op, []byte(row.body))
		var refusal *wire.Error
		if !errors.As(err, &refusal) || refusal.Code != row.code || !strings.Contains(refusal.Message, row.text) {
			t.Errorf("%s %.120s: %v, want %s: …%s…", row.op, row.body, err, row.code, row.text)
		}
		if n, _ := s.Len("ledger"); n != 0 {
			t.Errorf("%s %.120s left an item", row.op, row.body)
		}
	}
}

// TestConditionalWritesAreAtomic: of many that may claim an item exactly one does, and no increment is lost.
func TestConditionalWritesAreAtomic(t *testing.T) {
	s := newService(t)
	var claimed atomic.Int32
	var wg sync.WaitGroup
	const workers, rounds = 8, 50
	for range workers {
		wg.Go(func() {
			for round := range rounds {
				_, err := s.Do(context.Background(), "PutItem", fmt.Appendf(nil, `{"TableName":"ledger","Item":{"k":{"S":"r%d"}},"ConditionExpression":"attribute_not_exists(k)"}`, round))
				if err == nil {
					claimed.Add(1)
				}
				do(t, s, "UpdateItem", `{"TableName":"ledger","Key":{"k":{"S":"sum"}},"UpdateExpression":"ADD n :one","ExpressionAttributeValues":{":one":{"N":"1"}}}`)
				do(t, s, "Scan", `{"TableName":"ledger"}`)
				do(t, s, "ExecuteStatement", `{"Statement":"DELETE FROM ledger WHERE k = 'nobody'"}`)
			}
		})
	}
	wg.Wait()
	if claimed.Load() != rounds {
		t.Errorf("%d claims, want %d", claimed.Load(), rounds)
	}
	got := do(t, s, "GetItem", `{"TableName":"ledger","Key":{"k":{"S":"sum"}}}`)
	if want := fmt.Sprintf(`{"Item":{"k":{"S":"sum"},"n":{"N":"%d"}}}`, workers*rounds); string(got.Body) != want {
		t.Errorf("%s, want %s", got.Body, want)
	}
}

const claim = `{"TableName":"ledger","Item":{"k":{"S":"%d"},"state":{"S":"claimed"},"epoch":{"N":"0"},"attempt":{"N":"1"},"owner":{"S":"0123456789abcdef"},
	"leaseUntil":{"N":"1800000000000"}},"ConditionExpression":"attribute_not_exists(k) OR epoch < :e OR (epoch = :e AND attempt < :n)",
	"ExpressionAttributeValues":{":e":{"N":"0"},":n":{"N":"1"}},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}`

func BenchmarkConditionalPut(b *testing.B) {
	s := newService(b)
	bodies := make([][]byte, 10_000)
	for i := range bodies {
		bodies[i] = fmt.Appendf(nil, claim, i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		_, _ = s.Do(context.Background(), "PutItem", bodies[i%len(bodies)]) // the second time round it is refused
		i++
	}
}

func BenchmarkBatchOf25Inserts(b *testing.B) {
	s := newService(b)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		var statements []string
		for range 25 {
			statements = append(statements, fmt.Sprintf(`{"Statement":"INSERT INTO \"ledger\" VALUE {'k': ?, 'state': ?, 'epoch': ?}","Parameters":[{"S":"%d"},{"S":"claimed"},{"N":"0"}]}`, i))
			i++
		}
		do(b, s, "BatchExecuteStatement", `{"Statements":[`+strings.Join(statements, ",")+`]}`)
	}
}

func BenchmarkQueryPageOf100InPartitionOf100k(b *testing.B) {
	s := newService(b)
	for i := range 100_000 {
		do(b, s, "PutItem", fmt.Sprintf(`{"TableName":"room","Item":{"k":{"S":"a"},"n":{"N":"%d"}}}`, i*7919%100_000))
	}
	for b.Loop() {
		do(b, s, "Query", `{"TableName":"room","Limit":100,"KeyConditionExpression":"k = :k AND n > :n","ExpressionAttributeValues":{":k":{"S":"a"},":n":{"N":"50000"}}}`)
	}
}
