package dynamodb

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// spaced gives a text with one space between its tokens and nowhere else.
func spaced(text string, statement bool) string {
	var parts []string
	for _, t := range lex(text, statement) {
		parts = append(parts, text[t.from:t.to])
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

func fuzzService(t *testing.T) *Service {
	s := New(Options{})
	if _, err := s.Do(t.Context(), "CreateTable", []byte(`{"TableName":"tab","BillingMode":"PAY_PER_REQUEST","KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}],
		"AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"}]}`)); err != nil {
		t.Fatal(err)
	}
	fuzzCall(t, s, "PutItem", map[string]any{"TableName": "tab", "Item": json.RawMessage(`{"pk":{"S":"x"},"a":{"N":"1"},"l":{"L":[{"S":"x"},{"M":{"b":{"NS":["1"]}}}]},
		"m":{"M":{"a":{"S":"x"}}},"ss":{"SS":["x"]},"z":{"NULL":true}}`)})
	return s
}

// fuzzCall runs an operation, whose error must be a refusal and whose answer must be JSON.
func fuzzCall(t *testing.T, s *Service, op string, request map[string]any) {
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Do(t.Context(), op, body)
	if refusal := (*wire.Error)(nil); err != nil && !errors.As(err, &refusal) {
		t.Errorf("%s %s: %v is not a refusal", op, body, err)
	}
	if err == nil && !json.Valid(got.Body) {
		t.Errorf("%s %s: %s is not JSON", op, body, got.Body)
	}
}

// FuzzExpressions: no expression makes the parser or the evaluation panic, and white space changes nothing.
func FuzzExpressions(f *testing.F) {
	for _, seed := range []string{"a = :v AND (b <> :w OR NOT c BETWEEN :v AND :w)", "attribute_not_exists(#a.b[0]) and begins_with(s, :v)", "size(l) IN (:v, a)",
		"SET a = if_not_exists(a, :v) + :w, l[9] = list_append(l, :v) REMOVE m.a, l[0] ADD n :v DELETE ss :w", "a, b.c[1], #d", "((a))", "contains(ss, :v)", "pk = :v AND a > :w",
		"SET l[1].b = :v, m.a = m.b - :w", "ADD a :v, l[0] :v"} {
		for _, v := range []string{`{"N":"1"}`, `{"L":[{"S":"x"}]}`, `{"SS":["x"]}`} {
			f.Add(seed, v, `{"S":"x"}`)
		}
	}
	f.Fuzz(func(t *testing.T, text, v, w string) {
		s := fuzzService(t)
		for kind, parse := range expressionParsers {
			e, err := parse(text)
			if len(spaced(text, false)) > maxExpressionBytes {
				return
			}
			again, errAgain := parse(spaced(text, false))
			if (err == nil) != (errAgain == nil) || err == nil && !reflect.DeepEqual(e, again) {
				t.Fatalf("%s %q: %v, with other white space %v", expressionNames[kind], text, err, errAgain)
			}
			if err != nil || !json.Valid([]byte(v)) || !json.Valid([]byte(w)) {
				continue
			}
			request := map[string]any{"TableName": "tab", expressionNames[kind]: text}
			names, values := map[string]string{}, map[string]any{}
			for i, alias := range e.aliases {
				names[alias] = []string{"a", "l", "m"}[i%3]
			}
			for i, value := range e.values {
				values[value] = json.RawMessage([]string{v, w}[i%2])
			}
			if len(names) > 0 {
				request["ExpressionAttributeNames"] = names
			}
			if len(values) > 0 {
				request["ExpressionAttributeValues"] = values
			}
			op := []string{"UpdateItem", "UpdateItem", "Query", "Scan", "GetItem"}[kind]
			if op == "UpdateItem" || op == "GetItem" {
				request["Key"] = json.RawMessage(`{"pk":{"S":"x"}}`)
			}
			if op == "UpdateItem" {
				request["ReturnValues"] = []string{"UPDATED_NEW", "ALL_NEW"}[kind]
			}
			fuzzCall(t, s, op, request)
		}
	})
}

// FuzzStatements is the same for PartiQL.
func FuzzStatements(f *testing.F) {
	for _, seed := range []string{"INSERT INTO tab VALUE {'pk': ?, 'a': [1, -2.5e3, {'b': <<'x'>>}], 't': true, 'z': null}", "SELECT a, m.b[0] FROM tab WHERE pk = 'x' AND a > ?",
		`UPDATE "tab" SET a = a + ?, "l"[0] = list_append(l, [?]) REMOVE m.a SET ss = set_delete(ss, <<'x'>>) WHERE pk = 'x' AND (a IS NOT MISSING OR NOT a IN [1, ?]) RETURNING MODIFIED NEW *`,
		"DELETE FROM tab WHERE pk = ? AND begins_with(a, 'it''s') RETURNING ALL OLD *", "UPDATE tab SET a = 1 WHERE pk = 'x' AND a BETWEEN 1 AND 2"} {
		f.Add(seed, `{"S":"x"}`)
		f.Add(seed, `{"N":"1"}`)
	}
	f.Fuzz(func(t *testing.T, text, parameter string) {
		e, err := parseStatement(text)
		if len(spaced(text, true)) > maxStatementBytes {
			return
		}
		again, errAgain := parseStatement(spaced(text, true))
		if (err == nil) != (errAgain == nil) || err == nil && !reflect.DeepEqual(e, again) {
			t.Fatalf("%q: %v, with other white space %v", text, err, errAgain)
		}
		if err != nil || !json.Valid([]byte(parameter)) {
			return
		}
		request := map[string]any{"Statement": text}
		if e.parameters > 0 {
			parameters := make([]any, e.parameters)
			for i := range parameters {
				parameters[i] = json.RawMessage(parameter)
			}
			request["Parameters"] = parameters
		}
		s := fuzzService(t)
		fuzzCall(t, s, "ExecuteStatement", request)
		fuzzCall(t, s, "BatchExecuteStatement", map[string]any{"Statements": []any{request}})
	})
}

// FuzzRequests: no document makes an operation panic, and whatever is accepted is answered in JSON.
func FuzzRequests(f *testing.F) {
	f.Add("PutItem", `{"TableName":"tab","Item":{"pk":{"S":"x\u00e9\n"},"b":{"B":"AAEC"},"n":{"NS":["1","2e3"]}}}`)
	f.Add("Query", `{"TableName":"tab","KeyConditionExpression":"pk = :v","ExpressionAttributeValues":{":v":{"S":"x"}},"ExclusiveStartKey":{"pk":{"S":"x"}},"Limit":1}`)
	f.Add("Scan", `{"TableName":"tab","Segment":0,"TotalSegments":3,"Select":"COUNT"}`)
	f.Add("BatchGetItem", `{"RequestItems":{"tab":{"Keys":[{"pk":{"S":"x"}}]}},"ReturnConsumedCapacity":"INDEXES"}`)
	f.Add("BatchWriteItem", `{"RequestItems":{"tab":[{"PutRequest":{"Item":{"pk":{"S":"y"}}}},{"DeleteRequest":{"Key":{"pk":{"S":"x"}}}}]}}`)
	f.Add("UpdateTimeToLive", `{"TableName":"tab","TimeToLiveSpecification":{"AttributeName":"a","Enabled":true}}`)
	f.Add("BatchExecuteStatement", `{"Statements":[{"Statement":"SELECT * FROM tab WHERE pk = ?","Parameters":[{"S":"x"}]}]}`)
	f.Fuzz(func(t *testing.T, op, body string) {
		got, err := fuzzService(t).Do(t.Context(), op, []byte(body))
		if refusal := (*wire.Error)(nil); err != nil && !errors.As(err, &refusal) {
			t.Errorf("%v is not a refusal", err)
		}
		if err == nil && !json.Valid(got.Body) {
			t.Errorf("%s is not JSON", got.Body)
		}
	})
}
