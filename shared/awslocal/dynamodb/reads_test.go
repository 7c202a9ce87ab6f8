package dynamodb_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// ask runs a query of the row's partition with a condition on the sort key, and gives the sort keys.
func (c *check) ask(table, condition string, values attrs, change func(*sdk.QueryInput)) ([]string, *sdk.QueryOutput, error) {
	input := &sdk.QueryInput{TableName: &table, KeyConditionExpression: aws.String("pk = :pk"), ExpressionAttributeValues: attrs{":pk": str(c.pk)}}
	if condition != "" {
		input.KeyConditionExpression = aws.String("pk = :pk AND " + condition)
	}
	for name, v := range values {
		input.ExpressionAttributeValues[name] = v
	}
	if change != nil {
		change(input)
	}
	got, err := c.Query(c.Context(), input)
	if err != nil {
		return nil, nil, err
	}
	return sortKeys(got.Items), got, nil
}

func sortKeys(items []attrs) []string {
	keys := []string{}
	for _, item := range items {
		switch sk := item["sk"].(type) {
		case *types.AttributeValueMemberS:
			keys = append(keys, sk.Value)
		case *types.AttributeValueMemberN:
			keys = append(keys, sk.Value)
		case *types.AttributeValueMemberB:
			keys = append(keys, string(sk.Value))
		}
	}
	return keys
}

func invalidQuery(condition string, values attrs, text string) rule {
	return rule{"query " + condition, func(c *check) error {
		_, err := c.Query(c.Context(), &sdk.QueryInput{TableName: &c.sn, KeyConditionExpression: &condition, ExpressionAttributeValues: values})
		return err
	}, validation, text}
}

func ranges(kind string, cases map[string]string) func(c *check) error {
	return func(c *check) error {
		table, key := c.ss, str
		if kind == "N" {
			table, key = c.sn, num
		}
		for _, sk := range []string{"-10", "-1.5", "0", "2", "10", "100"} {
			c.putRow(table, key(sk), nil)
		}
		operands := attrs{":a": key("-1.5"), ":b": key("10"), ":p": key("1")}
		for condition, want := range cases {
			values := attrs{}
			for name, v := range operands {
				if strings.Contains(condition, name) {
					values[name] = v
				}
			}
			got, _, err := c.ask(table, condition, values, nil)
			c.must(err)
			if joined := strings.Join(got, " "); joined != want {
				c.Errorf("%s: got %s, want %s", condition, joined, want)
			}
		}
		return nil
	}
}

var readRules = []rule{
	{"number sort keys are ordered by value", ranges("N", map[string]string{
		"": "-10 -1.5 0 2 10 100", "sk = :b": "10", "sk < :b": "-10 -1.5 0 2", "sk <= :b": "-10 -1.5 0 2 10", "sk > :a": "0 2 10 100", "sk >= :a": "-1.5 0 2 10 100",
		"sk BETWEEN :a AND :b": "-1.5 0 2 10", ":b < sk": "100"}), "", ""},
	{"string sort keys are ordered by bytes", ranges("S", map[string]string{
		"": "-1.5 -10 0 10 100 2", "sk = :b": "10", "sk < :b": "-1.5 -10 0", "sk <= :b": "-1.5 -10 0 10", "sk > :b": "100 2", "begins_with(sk, :p)": "10 100",
		"sk BETWEEN :a AND :b": "-1.5 -10 0 10"}), "", ""},
	{"binary sort keys are ordered by unsigned bytes", func(c *check) error {
		for _, sk := range []string{"\xff", "\x00", "\x7f", "\x00\x00"} {
			c.putRow(c.sb, blob(sk), nil)
		}
		got, _, err := c.ask(c.sb, "", nil, nil)
		c.equal(got, []string{"\x00", "\x00\x00", "\x7f", "\xff"})
		return err
	}, "", ""},
	{"query backwards in pages", func(c *check) error {
		for i := range 5 {
			c.putRow(c.sn, num(strconv.Itoa(i)), nil)
		}
		var all []string
		var start attrs
		for pages := 1; ; pages++ {
			got, out, err := c.ask(c.sn, "", nil, func(q *sdk.QueryInput) {
				q.ScanIndexForward, q.Limit, q.ExclusiveStartKey = aws.Bool(false), aws.Int32(2), start
			})
			c.must(err)
			all = append(all, got...)
			if start = out.LastEvaluatedKey; start == nil {
				c.equal(pages, 3)
				break
			}
			c.equal(start, c.item(attrs{"sk": num(got[len(got)-1])}))
		}
		c.equal(all, []string{"4", "3", "2", "1", "0"})
		return nil
	}, "", ""},
	{"a limit that the last item meets leaves a key", func(c *check) error {
		c.putRow(c.sn, num("1"), nil)
		_, out, err := c.ask(c.sn, "", nil, func(q *sdk.QueryInput) { q.Limit = aws.Int32(1) })
		c.must(err)
		c.equal(out.LastEvaluatedKey, c.item(attrs{"sk": num("1")}))
		_, out, err = c.ask(c.sn, "", nil, func(q *sdk.QueryInput) { q.ExclusiveStartKey = out.LastEvaluatedKey })
		c.must(err)
		c.equal(out.LastEvaluatedKey, attrs(nil))
		return nil
	}, "", ""},
	{"a page ends at 1 MB", func(c *check) error {
		for i := range 4 {
			c.putRow(c.sn, num(strconv.Itoa(i)), attrs{"x": str(strings.Repeat("x", 399<<10))})
		}
		got, out, err := c.ask(c.sn, "", nil, nil)
		c.equal(got, []string{"0", "1", "2"})
		c.equal(out.LastEvaluatedKey, c.item(attrs{"sk": num("2")}))
		return err
	}, "", ""},
	{"filter and limit count before the filter", func(c *check) error {
		for i := range 6 {
			c.putRow(c.sn, num(strconv.Itoa(i)), attrs{"odd": boolean(i%2 == 1)})
		}
		got, out, err := c.ask(c.sn, "", attrs{":t": boolean(true)}, func(q *sdk.QueryInput) {
			q.FilterExpression, q.Limit = aws.String("odd = :t"), aws.Int32(4)
		})
		c.must(err)
		c.equal(got, []string{"1", "3"})
		c.equal([]int32{out.Count, out.ScannedCount}, []int32{2, 4})
		return nil
	}, "", ""},
	{"select count", func(c *check) error {
		c.putRow(c.sn, num("1"), nil)
		_, out, err := c.ask(c.sn, "", nil, func(q *sdk.QueryInput) { q.Select = types.SelectCount })
		c.must(err)
		c.equal([]any{out.Count, out.Items}, []any{1, nil})
		return nil
	}, "", ""},
	{"projection of nested paths", func(c *check) error {
		c.put(attrs{"m": doc(attrs{"x": list(num("0"), num("1"), num("2")), "y": num("1")}), "z": num("1")})
		got, err := c.GetItem(c.Context(), &sdk.GetItemInput{TableName: &c.s, Key: c.item(nil), ProjectionExpression: aws.String("m.x[2], m.x[0], #z, nope.x"),
			ExpressionAttributeNames: map[string]string{"#z": "z"}})
		c.must(err)
		c.equal(got.Item, attrs{"m": doc(attrs{"x": list(num("0"), num("2"))}), "z": num("1")})
		return nil
	}, "", ""},
	{"overlapping projection", func(c *check) error {
		_, err := c.GetItem(c.Context(), &sdk.GetItemInput{TableName: &c.s, Key: c.item(nil), ProjectionExpression: aws.String("a.b, a")})
		return err
	}, validation, "Invalid ProjectionExpression: Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [a, b], path two: [a]"},
	{"get of what is not there", func(c *check) error { c.equal(c.stored(), attrs(nil)); return nil }, "", ""},
	{"query without a key condition", func(c *check) error {
		_, err := c.Query(c.Context(), &sdk.QueryInput{TableName: &c.sn})
		return err
	}, validation, "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request."},
	invalidQuery("sk = :v", attrs{":v": num("1")}, "Query condition missed key schema element: pk"),
	invalidQuery("pk > :v", attrs{":v": str("1")}, "Query key condition not supported"),
	invalidQuery("pk = :v", attrs{":v": num("1")}, "One or more parameter values were invalid: Condition parameter type does not match schema type"),
	invalidQuery("pk = :v AND elsewhere = :v", attrs{":v": str("1")}, "Query condition missed key schema element: sk"),
	invalidQuery("pk = :v OR sk = :v", attrs{":v": str("1")}, "Invalid operator used in KeyConditionExpression: OR"),
	invalidQuery("pk = :v AND sk <> :v", attrs{":v": str("1")}, "Invalid operator used in KeyConditionExpression: <>"),
	invalidQuery("pk = :v AND sk IN (:v)", attrs{":v": str("1")}, "Invalid operator used in KeyConditionExpression: IN"),
	invalidQuery("pk = :v AND pk = :v", attrs{":v": str("1")}, "KeyConditionExpressions must only contain one condition per key"),
	invalidQuery("pk = :v AND begins_with(sk, :v)", attrs{":v": str("1")}, "Condition parameter type does not match schema type"),
	{"query with a filter on a key", func(c *check) error {
		_, _, err := c.ask(c.sn, "", nil, func(q *sdk.QueryInput) { q.FilterExpression = aws.String("attribute_exists(sk)") })
		return err
	}, validation, "Filter Expression can only contain non-primary key attributes: Primary key attribute: sk"},
	{"query from a key of another partition", func(c *check) error {
		_, _, err := c.ask(c.sn, "", nil, func(q *sdk.QueryInput) { q.ExclusiveStartKey = attrs{"pk": str("other"), "sk": num("1")} })
		return err
	}, validation, "The provided starting key is outside query boundaries based on provided conditions"},
	{"query from half a key", func(c *check) error {
		_, _, err := c.ask(c.sn, "", nil, func(q *sdk.QueryInput) { q.ExclusiveStartKey = c.item(nil) })
		return err
	}, validation, "The provided starting key is invalid"},
	{"limit of zero", func(c *check) error {
		_, _, err := c.ask(c.sn, "", nil, func(q *sdk.QueryInput) { q.Limit = aws.Int32(0) })
		return err
	}, validation, "Member must have value greater than or equal to 1"},
	{"query of an index", func(c *check) error {
		_, _, err := c.ask(c.sn, "", nil, func(q *sdk.QueryInput) { q.IndexName = aws.String("by-time") })
		return err
	}, validation, ""},
	{"scan in pages and in segments finds everything once", func(c *check) error {
		want := map[string]bool{}
		for i := range 30 {
			key := fmt.Sprintf("%s-%d", c.pk, i)
			want[key] = true
			_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: attrs{"pk": str(key), "mine": str(c.pk)}})
			c.must(err)
		}
		for _, segments := range []int32{0, 4} {
			var got []string
			for segment := range max(1, segments) {
				input := &sdk.ScanInput{TableName: &c.s, Limit: aws.Int32(7), FilterExpression: aws.String("mine = :m"), ExpressionAttributeValues: attrs{":m": str(c.pk)}}
				if segments > 0 {
					input.Segment, input.TotalSegments = aws.Int32(segment), aws.Int32(segments)
				}
				for pages := sdk.NewScanPaginator(c.Client, input); pages.HasMorePages(); {
					page, err := pages.NextPage(c.Context())
					c.must(err)
					for _, item := range page.Items {
						got = append(got, item["pk"].(*types.AttributeValueMemberS).Value)
					}
				}
			}
			slices.Sort(got)
			if len(got) != len(want) || len(slices.Compact(got)) != len(want) {
				c.Errorf("%d segments: got %d keys, want %d", segments, len(got), len(want))
			}
		}
		return nil
	}, "", ""},
	{"scan of a segment that there is not", func(c *check) error {
		_, err := c.Scan(c.Context(), &sdk.ScanInput{TableName: &c.s, Segment: aws.Int32(2), TotalSegments: aws.Int32(2)})
		return err
	}, validation, "The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: 2 is not less than TotalSegments: 2"},
	{"scan of a segment without their number", func(c *check) error {
		_, err := c.Scan(c.Context(), &sdk.ScanInput{TableName: &c.s, Segment: aws.Int32(0)})
		return err
	}, validation, "The TotalSegments parameter is required but was not present in the request when Segment parameter is present"},
	{"count with a projection", func(c *check) error {
		_, err := c.Scan(c.Context(), &sdk.ScanInput{TableName: &c.s, Select: types.SelectCount, ProjectionExpression: aws.String("a")})
		return err
	}, validation, ""},
	{"legacy conditions", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: c.item(nil), ConditionExpression: aws.String("attribute_exists(a)"),
			Expected: map[string]types.ExpectedAttributeValue{"a": {Exists: aws.Bool(false)}}})
		return err
	}, validation, ""},
}

func (c *check) getBatch(keys ...attrs) (*sdk.BatchGetItemOutput, error) {
	return c.BatchGetItem(c.Context(), &sdk.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{c.s: {Keys: keys}}})
}

func (c *check) writeBatch(writes ...types.WriteRequest) error {
	_, err := c.BatchWriteItem(c.Context(), &sdk.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{c.s: writes}})
	return err
}

func putRequest(item attrs) types.WriteRequest {
	return types.WriteRequest{PutRequest: &types.PutRequest{Item: item}}
}

func (c *check) many(n int) []attrs {
	keys := make([]attrs, n)
	for i := range keys {
		keys[i] = attrs{"pk": str(fmt.Sprintf("%s-%d", c.pk, i))}
	}
	return keys
}

var batchRules = []rule{
	{"batch get", func(c *check) error {
		c.put(attrs{"a": num("1")})
		got, err := c.getBatch(c.item(nil), attrs{"pk": str("nope")})
		c.must(err)
		c.equal(got.Responses[c.s], []attrs{c.item(attrs{"a": num("1")})})
		c.equal(len(got.UnprocessedKeys), 0)
		return nil
	}, "", ""},
	{"batch get of one key twice", func(c *check) error { _, err := c.getBatch(c.item(nil), c.item(nil)); return err },
		validation, "Provided list of item keys contains duplicates"},
	{"batch get of 100 keys", func(c *check) error { _, err := c.getBatch(c.many(100)...); return err }, "", ""},
	{"batch get of 101 keys", func(c *check) error { _, err := c.getBatch(c.many(101)...); return err }, validation, ""},
	{"batch get leaves what is above 16 MB", func(c *check) error {
		keys := c.many(45)
		for _, key := range keys {
			item := attrs{"pk": key["pk"], "x": str(strings.Repeat("x", 390<<10))}
			_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: item})
			c.must(err)
		}
		got, err := c.getBatch(keys...)
		c.must(err)
		if n, left := len(got.Responses[c.s]), len(got.UnprocessedKeys[c.s].Keys); n == 0 || left == 0 || n+left != len(keys) {
			c.Errorf("%d answered and %d left of %d", n, left, len(keys))
		}
		for _, key := range keys {
			_, err := c.DeleteItem(c.Context(), &sdk.DeleteItemInput{TableName: &c.s, Key: key})
			c.must(err)
		}
		return nil
	}, "", ""},
	{"batch write", func(c *check) error {
		c.put(nil)
		other := attrs{"pk": str(c.pk + "-2")}
		c.must(c.writeBatch(putRequest(other), types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: c.item(nil)}}))
		got, err := c.getBatch(c.item(nil), other)
		c.must(err)
		c.equal(got.Responses[c.s], []attrs{other})
		return nil
	}, "", ""},
	{"batch write of one key twice", func(c *check) error {
		return c.writeBatch(putRequest(c.item(nil)), types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: c.item(nil)}})
	}, validation, "Provided list of item keys contains duplicates"},
	{"batch write of 26 items", func(c *check) error {
		var writes []types.WriteRequest
		for _, key := range c.many(26) {
			writes = append(writes, putRequest(key))
		}
		return c.writeBatch(writes...)
	}, validation, ""},
	{"batch write with one bad item writes nothing", func(c *check) error {
		err := c.writeBatch(putRequest(c.item(nil)), putRequest(attrs{"pk": num("1")}))
		c.equal(c.stored(), attrs(nil))
		return err
	}, validation, ""},
	{"batch write to a table that does not exist", func(c *check) error {
		_, err := c.BatchWriteItem(c.Context(), &sdk.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{"nowhere": {putRequest(c.item(nil))}}})
		return err
	}, "ResourceNotFoundException", ""},
}
