package dynamodb_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

func newService(t testing.TB) *dynamodb.Service {
	s := dynamodb.New(dynamodb.Options{})
	do(t, s, "CreateTable", `{"TableName":"ledger","BillingMode":"PAY_PER_REQUEST","KeySchema":[{"AttributeName":"k","KeyType":"HASH"}],
		"AttributeDefinitions":[{"AttributeName":"k","AttributeType":"S"}]}`)
	do(t, s, "CreateTable", `{"TableName":"room","BillingMode":"PAY_PER_REQUEST","KeySchema":[{"AttributeName":"k","KeyType":"HASH"},{"AttributeName":"n","KeyType":"RANGE"}],
		"AttributeDefinitions":[{"AttributeName":"k","AttributeType":"S"},{"AttributeName":"n","AttributeType":"N"}]}`)
	return s
}

// do runs an operation that must succeed.
func do(t testing.TB, s *dynamodb.Service, op, body string) wire.Response {
	t.Helper()
	got, err := s.Do(context.Background(), op, []byte(body))
	if err != nil {
		t.Fatalf("%s: %v", op, err)
	}
	return got
}

// sized gives the JSON of an item of table ledger with exactly so many bytes: 1 + len(key) for the key, the rest in x.
func sized(key string, bytes int) string {
	return fmt.Sprintf(`{"k":{"S":%q},"x":{"S":%q}}`, key, strings.Repeat("x", bytes-len("k")-len(key)-len("x")))
}

// TestCapacity recomputes every charge from the bytes of the items: 1 write unit per begun KB, 1 read unit per begun 4 KB.
func TestCapacity(t *testing.T) {
	const put, get = `{"TableName":"ledger","ReturnConsumedCapacity":"TOTAL","Item":%s}`, `{"TableName":"ledger","ReturnConsumedCapacity":"TOTAL","Key":{"k":{"S":"a"}}%s}`
	refusedPut := `{"TableName":"ledger","ConditionExpression":"attribute_not_exists(k)","Item":%s}`
	update := `{"TableName":"ledger","ReturnConsumedCapacity":"TOTAL","Key":{"k":{"S":"a"}},"UpdateExpression":"SET x = :v","ExpressionAttributeValues":{":v":{"S":"small"}}}`
	statement := `{"ReturnConsumedCapacity":"TOTAL","Statement":%q%s}`
	for _, row := range []struct {
		name     string
		existing int // bytes of item a before; 0: it is not there
		op, body string
		want     wire.Units
	}{
		{"put of 1 KB", 0, "PutItem", fmt.Sprintf(put, sized("a", 1024)), wire.Units{Write: 1}},
		{"put of a byte more", 0, "PutItem", fmt.Sprintf(put, sized("a", 1025)), wire.Units{Write: 2}},
		{"put over a larger item", 5000, "PutItem", fmt.Sprintf(put, sized("a", 10)), wire.Units{Write: 5}},
		{"refused put of a smaller item", 2500, "PutItem", fmt.Sprintf(refusedPut, sized("a", 10)), wire.Units{Write: 3}},
		{"refused put of a larger item", 10, "PutItem", fmt.Sprintf(refusedPut, sized("a", 3500)), wire.Units{Write: 4}},
		{"update that shrinks", 3000, "UpdateItem", update, wire.Units{Write: 3}},
		{"update that creates", 0, "UpdateItem", update, wire.Units{Write: 1}},
		{"delete", 2049, "DeleteItem", fmt.Sprintf(get, ""), wire.Units{Write: 3}},
		{"delete of nothing", 0, "DeleteItem", fmt.Sprintf(get, ""), wire.Units{Write: 1}},
		{"get of nothing", 0, "GetItem", fmt.Sprintf(get, ""), wire.Units{Read: 0.5}},
		{"consistent get of nothing", 0, "GetItem", fmt.Sprintf(get, `,"ConsistentRead":true`), wire.Units{Read: 1}},
		{"get of 4 KB", 4096, "GetItem", fmt.Sprintf(get, ""), wire.Units{Read: 0.5}},
		{"consistent get of a byte more", 4097, "GetItem", fmt.Sprintf(get, `,"ConsistentRead":true`), wire.Units{Read: 2}},
		{"projection saves nothing", 8193, "GetItem", fmt.Sprintf(get, `,"ProjectionExpression":"k"`), wire.Units{Read: 1.5}},
		{"scan", 4097, "Scan", `{"TableName":"ledger","ReturnConsumedCapacity":"TOTAL"}`, wire.Units{Read: 1}},
		{"scan of nothing", 0, "Scan", `{"TableName":"ledger","ReturnConsumedCapacity":"TOTAL","ConsistentRead":true}`, wire.Units{Read: 1}},
		{"batch get rounds each item", 4097, "BatchGetItem", `{"ReturnConsumedCapacity":"TOTAL","RequestItems":{"ledger":{"ConsistentRead":true,"Keys":[{"k":{"S":"a"}},{"k":{"S":"b"}}]}}}`, wire.Units{Read: 3}},
		{"batch write rounds each item", 2000, "BatchWriteItem", fmt.Sprintf(`{"ReturnConsumedCapacity":"TOTAL","RequestItems":{"ledger":[{"PutRequest":{"Item":%s}},{"DeleteRequest":{"Key":{"k":{"S":"b"}}}}]}}`, sized("a", 10)), wire.Units{Write: 3}},
		{"insert", 0, "ExecuteStatement", fmt.Sprintf(statement, `INSERT INTO "ledger" VALUE {'k': 'a', 'x': ?}`, `,"Parameters":[{"S":"`+strings.Repeat("x", 1024-3)+`"}]`), wire.Units{Write: 1}},
		{"refused insert", 4000, "ExecuteStatement", fmt.Sprintf(statement, `INSERT INTO "ledger" VALUE {'k': 'a'}`, ""), wire.Units{Write: 4}},
		{"update statement", 1025, "ExecuteStatement", fmt.Sprintf(statement, `UPDATE "ledger" SET y = 1 WHERE k = 'a'`, ""), wire.Units{Write: 2}},
		{"refused update statement", 1025, "ExecuteStatement", fmt.Sprintf(statement, `UPDATE "ledger" SET y = 1 WHERE k = 'a' AND y = 1`, ""), wire.Units{Write: 2}},
		{"select statement", 4097, "ExecuteStatement", fmt.Sprintf(statement, `SELECT k FROM "ledger" WHERE k = 'a'`, `,"ConsistentRead":true`), wire.Units{Read: 2}},
		{"batch of statements, refused ones included", 1025, "BatchExecuteStatement", `{"ReturnConsumedCapacity":"TOTAL","Statements":[{"Statement":"INSERT INTO ledger VALUE {'k': 'a'}"},
			{"Statement":"INSERT INTO ledger VALUE {'k': 'b'}"},{"Statement":"UPDATE ledger SET y = 1 WHERE k = 'c'"},{"Statement":"nonsense"}]}`, wire.Units{Write: 4}},
		{"batch of select statements", 4097, "BatchExecuteStatement", `{"ReturnConsumedCapacity":"INDEXES","Statements":[{"Statement":"SELECT * FROM ledger WHERE k = 'a'","ConsistentRead":true},
			{"Statement":"SELECT * FROM ledger WHERE k = 'b'"}]}`, wire.Units{Read: 2.5}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newService(t)
			if row.existing > 0 {
				do(t, s, "PutItem", fmt.Sprintf(put, sized("a", row.existing)))
			}
			got, err := s.Do(t.Context(), row.op, []byte(row.body))
			if refusal := (*wire.Error)(nil); errors.As(err, &refusal) {
				got.Units = refusal.Units
			} else if answered := answeredUnits(t, got.Body); answered != got.Units.Read+got.Units.Write {
				t.Errorf("the answer says %v units, want %+v: %s", answered, got.Units, got.Body)
			}
			if got.Units != row.want {
				t.Errorf("%+v, want %+v (%v)", got.Units, row.want, err)
			}
		})
	}
}

// answeredUnits adds up ConsumedCapacity, which is one object or a list of them.
func answeredUnits(t *testing.T, body []byte) float64 {
	type capacity struct{ CapacityUnits float64 }
	var one struct{ ConsumedCapacity capacity }
	if json.Unmarshal(body, &one) == nil {
		return one.ConsumedCapacity.CapacityUnits
	}
	var many struct{ ConsumedCapacity []capacity }
	if err := json.Unmarshal(body, &many); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, c := range many.ConsumedCapacity {
		sum += c.CapacityUnits
	}
	return sum
}

// TestQueryIsChargedByTheSum: unlike batches, pages round once.
func TestQueryIsChargedByTheSum(t *testing.T) {
	s := newService(t)
	for i := range 10 {
		do(t, s, "PutItem", fmt.Sprintf(`{"TableName":"room","Item":{"k":{"S":"a"},"n":{"N":"%d"},"x":{"S":%q}}}`, i+1, strings.Repeat("x", 990)))
	}
	// k + a + n + number + x + 990: 996 bytes with one digit; 10 is one digit too.
	got := do(t, s, "Query", `{"TableName":"room","KeyConditionExpression":"k = :k","ConsistentRead":true,"ExpressionAttributeValues":{":k":{"S":"a"}}}`)
	if want := (wire.Units{Read: 3}); got.Units != want {
		t.Errorf("%+v, want %+v", got.Units, want)
	}
}

// TestItemSize: an item filled up to whole KB by DynamoDB's published rules costs as many units, whatever its
// attributes, and one byte more costs one unit more.
func TestItemSize(t *testing.T) {
	s := newService(t)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[ax-z§]{2,9}`)
		attributes := rapid.MapOfN(name, sizedValues(3), 0, 6).Draw(t, "attributes")
		body, size := `"k":{"S":"key"}`, len("k")+len("key")
		for name, v := range attributes {
			quoted, _ := json.Marshal(name)
			body += fmt.Sprintf(`,%s:%s`, quoted, v.json)
			size += len(name) + v.bytes
		}
		units := (size + len("f") + 1023) / 1024
		for _, excess := range []int{0, 1} {
			filler := strings.Repeat("f", units*1024-size-len("f")+excess)
			got, err := s.Do(context.Background(), "PutItem", fmt.Appendf(nil, `{"TableName":"ledger","Item":{%s,"f":{"S":%q}}}`, body, filler))
			if want := float64(units + excess); err != nil || got.Units.Write != want {
				t.Fatalf("{%s} has %d bytes by the rules; filled up to %d KB and %d bytes: %v units, want %v (%v)", body, size, units, excess, got.Units.Write, want, err)
			}
			if _, err := s.Drop("ledger", dynamodb.Item{"k": dynamodb.String("key")}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

type sizedValue struct {
	json  string
	bytes int
}

func sizedValues(depth int) *rapid.Generator[sizedValue] {
	return rapid.Custom(func(t *rapid.T) sizedValue {
		kind := rapid.IntRange(0, 5+min(depth, 1)*2).Draw(t, "kind")
		switch kind {
		case 0:
			s := rapid.StringN(0, 9, -1).Draw(t, "S")
			quoted, _ := json.Marshal(s)
			_ = json.Unmarshal(quoted, &s)
			return sizedValue{`{"S":` + string(quoted) + `}`, len(s)}
		case 1: // whole numbers of an odd number of digits: one byte for two digits and one more
			digits := rapid.StringMatching(`[1-9]([0-9]{2}){0,5}`).Draw(t, "N")
			digits = digits[:len(digits)-1] + "7"
			return sizedValue{`{"N":"` + digits + `"}`, (len(digits)+1)/2 + 1}
		case 2:
			return sizedValue{`{"B":"AAEC"}`, 3}
		case 3:
			return sizedValue{`{"BOOL":true}`, 1}
		case 4:
			return sizedValue{`{"NULL":true}`, 1}
		case 5:
			return sizedValue{`{"SS":["a","bcd"]}`, 4}
		case 6:
			parts := rapid.SliceOfN(sizedValues(depth-1), 0, 3).Draw(t, "L")
			v := sizedValue{bytes: 3}
			var texts []string
			for _, p := range parts {
				texts = append(texts, p.json)
				v.bytes += p.bytes + 1
			}
			v.json = `{"L":[` + strings.Join(texts, ",") + `]}`
			return v
		}
		parts := rapid.SliceOfN(sizedValues(depth-1), 0, 3).Draw(t, "M")
		v := sizedValue{bytes: 3}
		var texts []string
		for i, p := range parts {
			texts = append(texts, fmt.Sprintf(`"m%d":%s`, i, p.json))
			v.bytes += p.bytes + 1 + 2
		}
		v.json = `{"M":{` + strings.Join(texts, ",") + `}}`
		return v
	})
}
