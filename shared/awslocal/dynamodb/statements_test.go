package dynamodb_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// after makes a row of one PartiQL statement: the item before, what the statement answers, the item after.
func after(before attrs, statement string, parameters []types.AttributeValue, answer, stored attrs) func(c *check) error {
	return func(c *check) error {
		if before != nil {
			c.put(before)
		}
		got, err := c.execute(statement, parameters...)
		c.must(err)
		want := []attrs{}
		if answer != nil {
			want = append(want, answer)
		}
		c.equal(got, want)
		if stored != nil {
			stored = c.item(stored)
		}
		c.equal(c.stored(), stored)
		return nil
	}
}

// invalidStatement makes a row of a statement that is refused and changes nothing.
func invalidStatement(statement, text string, parameters ...types.AttributeValue) rule {
	return refusedStatement(statement, validation, text, parameters...)
}

func refusedStatement(statement, code, text string, parameters ...types.AttributeValue) rule {
	return rule{"statement " + statement, func(c *check) error {
		c.put(attrs{"a": num("1")})
		err := c.run(statement, parameters...)
		c.equal(c.stored(), c.item(attrs{"a": num("1")}))
		return err
	}, code, text}
}

func parameters(v ...types.AttributeValue) []types.AttributeValue { return v }

var statementRules = []rule{
	{"insert", after(nil, "INSERT INTO T VALUE {'pk': $P, 's': ?, 'n': -1.50, 't': true, 'z': null, 'l': [1, ?], 'm': {'x': 'it''s'}, 'ss': <<'a', 'b'>>}",
		parameters(str("p"), num("2")), nil, attrs{"s": str("p"), "n": num("-1.5"), "t": boolean(true), "z": null(), "l": list(num("1"), num("2")),
			"m": doc(attrs{"x": str("it's")}), "ss": strs("a", "b")}), "", ""},
	refusedStatement("INSERT INTO T VALUE {'pk': $P}", "DuplicateItemException", "Duplicate primary key exists in table"),
	invalidStatement("INSERT INTO T VALUE {'x': 1}", "One or more parameter values were invalid: Missing the key pk in the item"),
	invalidStatement("INSERT INTO T VALUE {'pk': 1}", "Type mismatch for key pk expected: S actual: N"),
	invalidStatement("INSERT INTO T VALUE {'pk': ?}", "Number of parameters in request and statement don't match."),
	invalidStatement("INSERT INTO T VALUE {'pk': ?}", "Number of parameters in request and statement don't match.", str("a"), str("b")),
	{"select everything", func(c *check) error {
		c.put(attrs{"a": num("1")})
		got, err := c.execute("SELECT * FROM T WHERE pk = $P")
		c.equal(got, []attrs{c.item(attrs{"a": num("1")})})
		return err
	}, "", ""},
	{"select columns", func(c *check) error {
		c.put(attrs{"m": doc(attrs{"x": num("1")}), "state": str("s"), "z": null()})
		got, err := c.execute(`select m.x, "state", nope from T where pk = ? and m.x = 1`, str(c.pk))
		c.equal(got, []attrs{{"x": num("1"), "state": str("s")}})
		return err
	}, "", ""},
	{"select what does not fit", func(c *check) error {
		c.put(attrs{"a": num("1")})
		got, err := c.execute("SELECT * FROM T WHERE pk = $P AND a > 1")
		c.equal(got, []attrs{})
		return err
	}, "", ""},
	{"update with conditions", func(c *check) error {
		c.put(attrs{"a": num("1"), "state": str("claimed"), "r": num("1"), "ss": strs("a")})
		c.must(c.run(`UPDATE T SET a = a + 1, "state" = ? SET l = list_append([1], [2]), ss = set_add(ss, <<'b'>>) REMOVE r
			WHERE pk = ? AND "state" = 'claimed' AND (a < 1 OR a BETWEEN 1 AND 5) AND NOT a IN [7, 8] AND x IS MISSING AND r IS NOT MISSING`, str("delivered"), str(c.pk)))
		c.equal(c.stored(), c.item(attrs{"a": num("2"), "state": str("delivered"), "l": list(num("1"), num("2")), "ss": strs("a", "b")}))
		return nil
	}, "", ""},
	refusedStatement("UPDATE T SET a = 2 WHERE pk = $P AND a = 2", conditional, "The conditional request failed"),
	refusedStatement("UPDATE T SET a = 2 WHERE pk = 'nobody'", conditional, "The conditional request failed"),
	{"conditions of statements", func(c *check) error {
		c.put(attrs{"a": num("1"), "s": str("abc"), "z": null(), "ss": strs("x")})
		for condition, want := range map[string]int{
			"a = 1.0": 1, "a <> 1": 0, "a != 2": 1, "a >= 1 AND a <= 1": 1, "a IN (1, 2)": 1, "a IN [2]": 0, "begins_with(s, 'ab')": 1, "contains(ss, 'x')": 1,
			"attribute_type(s, 'S')": 1, "size(s) = 3": 1, "z IS NULL": 1, "a IS NULL": 0, "z IS NOT NULL": 0, "nope IS MISSING": 1, "s IS MISSING": 0,
			"NOT begins_with(s, 'ab')": 0, "((a = 1))": 1, "1 = a": 1, "a = 1 OR s = 'x' AND a = 2": 1,
		} {
			got, err := c.execute("SELECT * FROM T WHERE pk = $P AND (" + condition + ")")
			if err != nil || len(got) != want {
				c.Errorf("%s: %d items, want %d (%v)", condition, len(got), want, err)
			}
		}
		return nil
	}, "", ""},
	{"update returns", func(c *check) error {
		for returning, want := range map[string][]attrs{
			"ALL OLD": {c.item(attrs{"a": num("1"), "k": num("0")})}, "ALL NEW": {c.item(attrs{"b": num("2"), "k": num("0")})},
			"MODIFIED OLD": {{"a": num("1")}}, "MODIFIED NEW": {{"b": num("2")}},
		} {
			c.put(attrs{"a": num("1"), "k": num("0")})
			got, err := c.execute("UPDATE T SET b = 2 REMOVE a WHERE pk = $P RETURNING " + returning + " *")
			c.must(err)
			c.equal(got, want)
		}
		return nil
	}, "", ""},
	{"delete", func(c *check) error {
		c.put(attrs{"a": num("1")})
		got, err := c.execute("DELETE FROM T WHERE pk = $P AND a = 1 RETURNING ALL OLD *")
		c.equal(got, []attrs{c.item(attrs{"a": num("1")})})
		c.equal(c.stored(), attrs(nil))
		return err
	}, "", ""},
	{"delete of what is not there", after(nil, "DELETE FROM T WHERE pk = $P AND a = 1", nil, nil, nil), "", ""},
	refusedStatement("DELETE FROM T WHERE pk = $P AND a = 2", conditional, "The conditional request failed"),
	invalidStatement("DELETE FROM T WHERE pk = $P RETURNING MODIFIED OLD *", "Invalid returning clause: RETURNING MODIFIED OLD *. Only RETURNING ALL OLD * is allowed in DELETE statements."),
	invalidStatement("DELETE FROM T WHERE a = 1", "Where clause does not contain a mandatory equality on all key attributes"),
	invalidStatement("DELETE FROM T ", "Where clause does not contain a mandatory equality on all key attributes"),
	invalidStatement("UPDATE T SET a = 2 WHERE pk = $P OR a = 1", "Where clause does not contain a mandatory equality on all key attributes"),
	invalidStatement("UPDATE T SET pk = 'x' WHERE pk = $P", "Cannot update attribute pk. This attribute is part of the key"),
	invalidStatement("UPDATE T SET a = 1, a = 2 WHERE pk = $P", "Two document paths overlap with each other"),
	invalidStatement("UPDATE T SET a.b = 2 WHERE pk = $P", "The document path provided in the update expression is invalid for update"),
	invalidStatement("UPDATE T SET state = 2 WHERE pk = $P", ""),
	invalidStatement("UPDATE T WHERE pk = $P", "Statement wasn't well formed, can't be processed"),
	invalidStatement("UPSERT T SET a = 2 WHERE pk = $P", "Statement wasn't well formed, can't be processed: Expected data manipulation"),
	invalidStatement("UPDATE T SET a = <<>> WHERE pk = $P", ""),
	invalidStatement("UPDATE T SET a = 2 WHERE pk = $P; DELETE FROM T WHERE pk = $P", "Statement wasn't well formed, can't be processed"),
	invalidStatement("UPDATE T SET a = 2 WHERE pk = 1", "The provided key element does not match the schema"),
	refusedStatement("UPDATE nowhere SET a = 2 WHERE pk = $P", "ResourceNotFoundException", "Requested resource not found"),
	{"statement of more than 8192 bytes", func(c *check) error { return c.run("SELECT * FROM T WHERE pk = '" + strings.Repeat("x", 8192) + "'") }, validation, ""},
	{"refused statement gives the old item", func(c *check) error {
		c.put(attrs{"a": num("1")})
		_, err := c.ExecuteStatement(c.Context(), &sdk.ExecuteStatementInput{Statement: aws.String(c.fill("UPDATE T SET a = 2 WHERE pk = $P AND a = 3")),
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld})
		var failed *types.ConditionalCheckFailedException
		if !errors.As(err, &failed) {
			c.Fatalf("got %v", err)
		}
		c.equal(failed.Item, c.item(attrs{"a": num("1")}))
		return nil
	}, "", ""},
	{"batch of writes, each on its own", func(c *check) error {
		c.put(attrs{"a": num("1")})
		got, err := c.batch("INSERT INTO T VALUE {'pk': $P}", "INSERT INTO T VALUE {'pk': '"+c.pk+"-new'}", "UPDATE T SET a = 2 WHERE pk = '"+c.pk+"-none'",
			"SLECT 1", "UPDATE nowhere SET a = 2 WHERE pk = $P", "DELETE FROM T WHERE a = 1")
		c.must(err)
		var codes []string
		for _, r := range got {
			if r.Error == nil {
				codes = append(codes, *r.TableName)
			} else {
				codes = append(codes, fmt.Sprint(r.Error.Code, r.TableName != nil))
			}
		}
		c.equal(codes, []string{"DuplicateItemtrue", c.s, "ConditionalCheckFailedtrue", "ValidationErrorfalse", "ResourceNotFoundfalse", "ValidationErrorfalse"})
		return nil
	}, "", ""},
	{"batch gives the item that failed its condition", func(c *check) error {
		c.put(attrs{"a": num("1")})
		got, err := c.batch("UPDATE T SET a = 2 WHERE pk = $P AND a = 3")
		c.must(err)
		c.equal(got[0].Error, types.BatchStatementError{Code: types.BatchStatementErrorCodeEnumConditionalCheckFailed,
			Message: aws.String("The conditional request failed"), Item: c.item(attrs{"a": num("1")})})
		return nil
	}, "", ""},
	{"batch of reads", func(c *check) error {
		c.put(attrs{"a": num("1")})
		got, err := c.batch("SELECT * FROM T WHERE pk = $P", "SELECT * FROM T WHERE pk = 'nobody'", "SELECT * FROM T WHERE a = 1")
		c.must(err)
		c.equal([]any{got[0].Item, got[1].Item, got[1].Error, got[2].Error.Message}, []any{c.item(attrs{"a": num("1")}), nil, nil,
			"Select statements within BatchExecuteStatement must specify the primary key in the where clause."})
		return nil
	}, "", ""},
	{"batch where all fail", func(c *check) error {
		got, err := c.batch("UPDATE T SET a = 2 WHERE pk = $P")
		c.equal(got[0].Error.Code, "ConditionalCheckFailed")
		return err
	}, "", ""},
	{"batch of reads and writes", func(c *check) error {
		_, err := c.batch("SELECT * FROM T WHERE pk = $P", "DELETE FROM T WHERE pk = 'x'")
		return err
	}, validation, ""},
	{"batch with two statements on one item", func(c *check) error {
		_, err := c.batch("INSERT INTO T VALUE {'pk': $P}", "DELETE FROM T WHERE pk = $P")
		c.equal(c.stored(), attrs(nil))
		return err
	}, validation, "Provided list of item keys contains duplicates"},
	{"batch of 26 statements", func(c *check) error {
		var statements []string
		for i := range 26 {
			statements = append(statements, fmt.Sprintf("DELETE FROM T WHERE pk = 'x%d'", i))
		}
		_, err := c.batch(statements...)
		return err
	}, validation, ""},
}

var tableRules = []rule{
	{"create a table twice", func(c *check) error {
		_, err := c.CreateTable(c.Context(), &sdk.CreateTableInput{TableName: &c.s, BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("pk"), AttributeType: "S"}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: "HASH"}}})
		return err
	}, "ResourceInUseException", "Table already exists: "},
	{"create a table with an index", func(c *check) error {
		_, err := c.CreateTable(c.Context(), &sdk.CreateTableInput{TableName: aws.String("indexed"), BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("pk"), AttributeType: "S"}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: "HASH"}},
			GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{IndexName: aws.String("i"), Projection: &types.Projection{},
				KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: "HASH"}}}}})
		return err
	}, validation, ""},
	{"create a table with an attribute too many", func(c *check) error {
		_, err := c.CreateTable(c.Context(), &sdk.CreateTableInput{TableName: aws.String("attributes"), BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("pk"), AttributeType: "S"}, {AttributeName: aws.String("a"), AttributeType: "S"}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: "HASH"}}})
		return err
	}, validation, "Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions"},
	{"create a table without throughput", func(c *check) error {
		_, err := c.CreateTable(c.Context(), &sdk.CreateTableInput{TableName: aws.String("throughput"),
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("pk"), AttributeType: "S"}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: "HASH"}}})
		return err
	}, validation, "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED"},
	{"table name of two letters", func(c *check) error {
		_, err := c.DescribeTable(c.Context(), &sdk.DescribeTableInput{TableName: aws.String("ab")})
		return err
	}, validation, "TableName must be at least 3 characters long and at most 255 characters long"},
	{"describe a table that does not exist", func(c *check) error {
		_, err := c.DescribeTable(c.Context(), &sdk.DescribeTableInput{TableName: aws.String("nowhere")})
		return err
	}, "ResourceNotFoundException", "Requested resource not found: Table: nowhere not found"},
	{"describe a table", func(c *check) error {
		got, err := c.DescribeTable(c.Context(), &sdk.DescribeTableInput{TableName: &c.sn})
		c.must(err)
		c.equal([]any{got.Table.TableStatus, len(got.Table.KeySchema), got.Table.AttributeDefinitions[1].AttributeType}, []any{"ACTIVE", 2, "N"})
		return nil
	}, "", ""},
	{"list tables in pages", func(c *check) error {
		found := 0
		for pages := sdk.NewListTablesPaginator(c.Client, &sdk.ListTablesInput{Limit: aws.Int32(1)}); pages.HasMorePages(); {
			page, err := pages.NextPage(c.Context())
			c.must(err)
			for _, name := range page.TableNames {
				if name == c.s || name == c.sn || name == c.ss || name == c.sb {
					found++
				}
			}
		}
		c.equal(found, 4)
		return nil
	}, "", ""},
	{"time to live", func(c *check) error {
		ttl := func(enabled bool, attribute string) error {
			_, err := c.UpdateTimeToLive(c.Context(), &sdk.UpdateTimeToLiveInput{TableName: &c.ss,
				TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: &attribute, Enabled: &enabled}})
			return err
		}
		describe := func() types.TimeToLiveDescription {
			got, err := c.DescribeTimeToLive(c.Context(), &sdk.DescribeTimeToLiveInput{TableName: &c.ss})
			c.must(err)
			return *got.TimeToLiveDescription
		}
		c.equal(describe().TimeToLiveStatus, "DISABLED")
		c.must(ttl(true, "expiresAt"))
		c.equal(*describe().AttributeName, "expiresAt")
		c.putRow(c.ss, str("old"), attrs{"expiresAt": num("1")})
		if got, _, err := c.ask(c.ss, "", nil, nil); err != nil || len(got) != 1 {
			c.Errorf("expired items must stay readable, got %v %v", got, err)
		}
		return ttl(true, "expiresAt")
	}, validation, "TimeToLive is already enabled"},
	{"time to live that is off", func(c *check) error {
		_, err := c.UpdateTimeToLive(c.Context(), &sdk.UpdateTimeToLiveInput{TableName: &c.sb,
			TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String("x"), Enabled: aws.Bool(false)}})
		return err
	}, validation, "TimeToLive is already disabled"},
	{"transactions", func(c *check) error {
		if c.local {
			_, err := c.TransactWriteItems(c.Context(), &sdk.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{{Put: &types.Put{TableName: &c.s, Item: c.item(nil)}}}})
			return refused(err, "UnknownOperationException", "TransactWriteItems")
		}
		return nil
	}, "", ""},
}
