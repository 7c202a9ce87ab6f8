package dynamodb_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

const (
	validation  = "ValidationException"
	conditional = "ConditionalCheckFailedException"
)

// TestRules has one row per rule of DynamoDB's that something relies on. AWSLOCAL_ENDPOINT=http://… runs the same rows
// against another implementation.
func TestRules(t *testing.T) {
	client := connect(t)
	created := createTables(t, client)
	for area, rows := range [][]rule{keyRules, valueRules, conditionRules, updateRules, readRules, batchRules, statementRules, tableRules} {
		for i, r := range rows {
			t.Run(r.name, func(t *testing.T) {
				c := &check{T: t, Client: client, tables: created, local: os.Getenv("AWSLOCAL_ENDPOINT") == "", pk: fmt.Sprintf("row-%d-%d", area, i)}
				err := r.do(c)
				if r.code == "" {
					c.must(err)
				} else if problem := refused(err, r.code, r.text); problem != nil {
					t.Error(problem)
				}
			})
		}
	}
}

// rule is one row: what is done, and how it is refused if it is.
type rule struct {
	name string
	do   func(c *check) error
	code string // "": must succeed
	text string // part of the message
}

var keyRules = []rule{
	{"put without the key", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: attrs{"a": str("x")}})
		return err
	}, validation, "One or more parameter values were invalid: Missing the key pk in the item"},
	{"put with a key of another type", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: attrs{"pk": num("1")}})
		return err
	}, validation, "One or more parameter values were invalid: Type mismatch for key pk expected: S actual: N"},
	{"put with an empty key", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: attrs{"pk": str("")}})
		return err
	}, validation, "The AttributeValue for a key attribute cannot contain an empty string value. Key: pk"},
	{"put with an empty binary key", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.sb, Item: c.item(attrs{"sk": blob("")})})
		return err
	}, validation, "The AttributeValue for a key attribute cannot contain an empty binary value. Key: sk"},
	{"get with too many key attributes", func(c *check) error {
		_, err := c.GetItem(c.Context(), &sdk.GetItemInput{TableName: &c.s, Key: c.item(attrs{"x": str("y")})})
		return err
	}, validation, "The provided key element does not match the schema"},
	{"get without the sort key", func(c *check) error {
		_, err := c.GetItem(c.Context(), &sdk.GetItemInput{TableName: &c.sn, Key: c.item(nil)})
		return err
	}, validation, "The provided key element does not match the schema"},
	{"get with a key of another type", func(c *check) error {
		_, err := c.GetItem(c.Context(), &sdk.GetItemInput{TableName: &c.s, Key: attrs{"pk": num("1")}})
		return err
	}, validation, "The provided key element does not match the schema"},
	{"partition key of 2048 bytes", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: attrs{"pk": str(strings.Repeat("k", 2048))}})
		return err
	}, "", ""},
	{"partition key of 2049 bytes", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: attrs{"pk": str(strings.Repeat("k", 2049))}})
		return err
	}, validation, "Size of hashkey has exceeded the maximum size limit of2048 bytes"},
	{"sort key of 1025 bytes", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.ss, Item: c.item(attrs{"sk": str(strings.Repeat("k", 1025))})})
		return err
	}, validation, "Aggregated size of all range keys has exceeded the size limit of 1024 bytes"},
	{"table that does not exist", func(c *check) error {
		_, err := c.GetItem(c.Context(), &sdk.GetItemInput{TableName: aws.String("nowhere"), Key: c.item(nil)})
		return err
	}, "ResourceNotFoundException", "Requested resource not found"},
	{"equal numbers are one key", func(c *check) error {
		c.putRow(c.sn, num("1.0"), attrs{"a": str("first")})
		c.putRow(c.sn, num("1"), attrs{"a": str("second")})
		got, err := c.GetItem(c.Context(), &sdk.GetItemInput{TableName: &c.sn, Key: c.item(attrs{"sk": num("10e-1")})})
		c.must(err)
		c.equal(got.Item, c.item(attrs{"sk": num("1"), "a": str("second")}))
		return nil
	}, "", ""},
}

var valueRules = []rule{
	{"every type comes back as it went", func(c *check) error {
		item := attrs{"s": str("§ \"quoted\" \\ \n 🚚"), "n": num("12.5"), "b": blob("\x00\xff"), "t": boolean(true), "z": null(),
			"l": list(str("a"), num("1"), list([]types.AttributeValue{}...)), "m": doc(attrs{"x": doc(attrs{}), "y.z": str("")}), "ss": strs("a", "b"), "ns": nums("1", "2"),
			"bs": &types.AttributeValueMemberBS{Value: [][]byte{[]byte("x"), []byte("y")}}, "empty": str(""), "noblob": blob("")}
		c.put(item)
		c.equal(c.stored(), c.item(item))
		return nil
	}, "", ""},
	{"numbers are normalised", func(c *check) error {
		c.put(attrs{"a": num("1.0"), "b": num("-0"), "c": num("1e3"), "d": num("0.00120"), "e": num("123456789012345678901234567890.12345678"), "f": num("-5E-3")})
		c.equal(c.stored(), c.item(attrs{"a": num("1"), "b": num("0"), "c": num("1000"), "d": num("0.0012"),
			"e": num("123456789012345678901234567890.12345678"), "f": num("-0.005")}))
		return nil
	}, "", ""},
	{"number that is none", func(c *check) error { return c.update("SET a = :v", attrs{":v": num("1 apple")}) },
		validation, "The parameter cannot be converted to a numeric value: 1 apple"},
	{"number of 39 digits", func(c *check) error { return c.update("SET a = :v", attrs{":v": num(strings.Repeat("1", 39))}) },
		validation, "Attempting to store more than 38 significant digits in a Number"},
	{"number too large", func(c *check) error { return c.update("SET a = :v", attrs{":v": num("1e126")}) },
		validation, "Number overflow. Attempting to store a number with magnitude larger than supported range"},
	{"number too small", func(c *check) error { return c.update("SET a = :v", attrs{":v": num("1e-131")}) },
		validation, "Number underflow. Attempting to store a number with magnitude smaller than supported range"},
	{"largest and smallest numbers", func(c *check) error {
		c.put(attrs{"a": num("9.9e125"), "b": num("-1e-130")})
		c.equal(c.stored()["a"], num("99"+strings.Repeat("0", 124)))
		c.equal(c.stored()["b"], num("-0."+strings.Repeat("0", 129)+"1"))
		return nil
	}, "", ""},
	{"empty set", func(c *check) error { return c.update("SET a = :v", attrs{":v": strs()}) },
		validation, "One or more parameter values were invalid: An string set  may not be empty"},
	{"set with duplicates", func(c *check) error { return c.update("SET a = :v", attrs{":v": strs("x", "x")}) },
		validation, "One or more parameter values were invalid: Input collection [x, x] contains duplicates."},
	{"number set with equal numbers", func(c *check) error { return c.update("SET a = :v", attrs{":v": nums("1", "1.0")}) },
		validation, "Input collection contains duplicates"},
	{"null that is false", func(c *check) error {
		return c.update("SET a = :v", attrs{":v": &types.AttributeValueMemberNULL{Value: false}})
	}, validation, "Null attribute value types must have the value of true"},
	{"item of 400 KB", func(c *check) error {
		c.put(attrs{"a": str(strings.Repeat("x", 400<<10-len("pk")-len(c.pk)-len("a")))})
		return nil
	}, "", ""},
	{"item one byte larger", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: c.item(attrs{"a": str(strings.Repeat("x", 400<<10-len("pk")-len(c.pk)))})})
		return err
	}, validation, "Item size has exceeded the maximum allowed size"},
	{"update that makes an item too large", func(c *check) error {
		c.put(attrs{"a": str(strings.Repeat("x", 300<<10))})
		return c.update("SET b = a", nil)
	}, validation, "Item size to update has exceeded the maximum allowed size"},
	{"32 levels", func(c *check) error { return c.update("SET a = :v", attrs{":v": nested(32)}) }, "", ""},
	{"33 levels", func(c *check) error { return c.update("SET a = :v", attrs{":v": nested(33)}) }, validation, "Nesting Levels have exceeded supported limits"},
}

func nested(levels int) types.AttributeValue {
	v := str("core")
	for range levels {
		v = list(v)
	}
	return v
}

// holds makes a row of conditions on an item: those in yes hold, those in no do not.
func holds(item attrs, values attrs, yes, no []string) func(c *check) error {
	return func(c *check) error {
		for _, condition := range slices.Concat(yes, no) {
			c.put(item)
			used := attrs{}
			for name, v := range values {
				if strings.Contains(condition+" ", name+" ") || strings.Contains(condition, name+")") || strings.Contains(condition, name+",") {
					used[name] = v
				}
			}
			if len(used) == 0 {
				used = nil
			}
			err := c.putIf(condition, used)
			if slices.Contains(yes, condition) && err != nil {
				c.Errorf("%s: %v", condition, err)
			}
			if problem := refused(err, conditional, "The conditional request failed"); slices.Contains(no, condition) && problem != nil {
				c.Errorf("%s: %v", condition, problem)
			}
		}
		return nil
	}
}

func invalidCondition(condition string, values attrs, text string) rule {
	return rule{"condition " + condition, func(c *check) error { return c.putIf(condition, values) }, validation, text}
}

var conditionRules = []rule{
	{"comparisons of numbers", holds(attrs{"n": num("9")}, attrs{":nine": num("9.0"), ":ten": num("10"), ":text": str("9")},
		[]string{"n = :nine", "n < :ten", "n <= :nine", "n >= :nine", "n <> :ten", ":ten > n", "n BETWEEN :nine AND :ten", "n IN (:ten, :nine)", "n <> :text"},
		[]string{"n = :ten", "n > :ten", "n <> :nine", "n = :text", "n < :text", "n >= :ten", "NOT n = :nine"}), "", ""},
	{"comparisons of strings and binaries", holds(attrs{"a": str("b"), "b": blob("\xff")}, attrs{":up": str("B"), ":c": str("c"), ":x": blob("\x7f")},
		[]string{"a > :up", "a < :c", "b > :x", "begins_with(a, a2) OR a < :c"}, []string{"a < :up", "b < :x"}), "", ""},
	{"comparisons with what is not there", holds(attrs{"n": num("1")}, attrs{":v": num("1")},
		[]string{"nope <> :v", "NOT nope = :v", "attribute_not_exists(nope)", "attribute_not_exists(n.deep)", "NOT contains(nope, :v)"},
		[]string{"nope = :v", "nope < :v", "nope > :v", "nope BETWEEN :v AND :v", "nope IN (:v, n)", "size(nope) = :v", "attribute_exists(nope)"}), "", ""},
	{"functions", holds(attrs{"s": str("héllo"), "l": list(str("a"), num("1")), "ss": strs("x", "y"), "ns": nums("1", "2"), "m": doc(attrs{"k": list(num("7"))})},
		attrs{":he": str("hé"), ":lo": str("lo"), ":x": str("x"), ":one": num("1.0"), ":two": num("2"), ":S": str("S"), ":NS": str("NS"), ":seven": num("7")},
		[]string{"begins_with(s, :he)", "contains(s, :lo)", "contains(ss, :x)", "contains(ns, :one)", "contains(l, :one)", "size(ss) = :two",
			"size(l) >= :two", "attribute_type(s, :S)", "attribute_type(ns, :NS)", "m.k[0] = :seven", "attribute_exists(m.k[0])", "size(m.k) = :one"},
		[]string{"begins_with(s, :lo)", "contains(ss, :one)", "contains(s, :x)", "attribute_type(l, :S)", "attribute_exists(m.k[1])", "m.k = :seven"}), "", ""},
	{"and or not and parentheses", holds(attrs{"a": num("1"), "b": num("2")}, attrs{":one": num("1"), ":two": num("2")},
		[]string{"a = :one OR a = :two AND b = :one", "NOT a = :two AND b = :two", "not (a = :two or b = :one )", "(a = :one ) and ((a = :two ) or b = :two )"},
		[]string{"(a = :one OR a = :two ) AND b = :one", "NOT (a = :one AND b = :two )"}), "", ""},
	{"equality of documents and sets", holds(attrs{"ss": strs("a", "b"), "l": list(num("1")), "m": doc(attrs{"x": num("1")})},
		attrs{":ss": strs("b", "a"), ":l": list(num("1.00")), ":m": doc(attrs{"x": num("1.0")}), ":other": list(num("2"))},
		[]string{"ss = :ss", "l = :l", "m = :m", "l <> :other"}, []string{"l = :other", "ss <> :ss"}), "", ""},
	{"condition with every feature of the ledger", holds(attrs{"state": str("claimed"), "epoch": num("0"), "attempt": num("2"), "leaseUntil": num("100")},
		attrs{":e": num("0"), ":n": num("2"), ":me": str("me"), ":now": num("101")},
		[]string{"attribute_not_exists(pk) OR (epoch < :e OR (epoch = :e AND attempt < :n )) OR (epoch = :e AND attempt = :n AND leaseUntil < :now )"},
		[]string{"attribute_not_exists(pk) OR epoch < :e OR (epoch = :e AND attempt < :n )"}), "", ""},
	{"refused condition gives the old item", func(c *check) error {
		c.put(attrs{"a": num("1")})
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: c.item(nil), ConditionExpression: aws.String("attribute_not_exists(pk)"),
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld})
		var failed *types.ConditionalCheckFailedException
		if !errors.As(err, &failed) {
			c.Fatalf("got %v", err)
		}
		c.equal(failed.Item, c.item(attrs{"a": num("1")}))
		return nil
	}, "", ""},
	{"refused condition without an item gives none", func(c *check) error {
		_, err := c.DeleteItem(c.Context(), &sdk.DeleteItemInput{TableName: &c.s, Key: c.item(nil), ConditionExpression: aws.String("attribute_exists(pk)"),
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld})
		var failed *types.ConditionalCheckFailedException
		if !errors.As(err, &failed) || failed.Item != nil {
			c.Fatalf("got %v", err)
		}
		return nil
	}, "", ""},
	{"reserved word", func(c *check) error { return c.putIf("attribute_exists(Owner)", nil) }, validation,
		"Invalid ConditionExpression: Attribute name is a reserved keyword; reserved keyword: Owner"},
	{"reserved word behind an alias", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: c.item(nil), ConditionExpression: aws.String("attribute_not_exists(#o)"),
			ExpressionAttributeNames: map[string]string{"#o": "owner"}})
		return err
	}, "", ""},
	{"unused name", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: c.item(nil), ConditionExpression: aws.String("attribute_not_exists(a)"),
			ExpressionAttributeNames: map[string]string{"#o": "owner"}})
		return err
	}, validation, "Value provided in ExpressionAttributeNames unused in expressions: keys: {#o}"},
	{"unused value", func(c *check) error { return c.putIf("attribute_not_exists(a)", attrs{":v": num("1")}) }, validation,
		"Value provided in ExpressionAttributeValues unused in expressions: keys: {:v}"},
	{"undefined name", func(c *check) error { return c.putIf("attribute_exists(#o)", nil) }, validation,
		"Invalid ConditionExpression: An expression attribute name used in the document path is not defined; attribute name: #o"},
	{"values without an expression", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: c.item(nil), ExpressionAttributeValues: attrs{":v": num("1")}})
		return err
	}, validation, "ExpressionAttributeValues can only be specified when using expressions: ConditionExpression is null"},
	{"names without an expression", func(c *check) error {
		_, err := c.GetItem(c.Context(), &sdk.GetItemInput{TableName: &c.s, Key: c.item(nil), ExpressionAttributeNames: map[string]string{"#a": "a"}})
		return err
	}, validation, "ExpressionAttributeNames can only be specified when using expressions"},
	{"expression of 4096 bytes", func(c *check) error { return c.putIf(longCondition(4096), nil) }, "", ""},
	{"expression of 4097 bytes", func(c *check) error { return c.putIf(longCondition(4097), nil) }, validation,
		"Invalid ConditionExpression: Expression size has exceeded the maximum allowed size"},
	invalidCondition("a = :undefined", nil, "Invalid ConditionExpression: An expression attribute value used in expression is not defined; attribute value: :undefined"),
	invalidCondition("", nil, "Invalid ConditionExpression: The expression can not be empty;"),
	invalidCondition("a = ", nil, "Invalid ConditionExpression: Syntax error; token: \"<EOF>\""),
	invalidCondition("a == :v", attrs{":v": num("1")}, "Invalid ConditionExpression: Syntax error; token: \"=\""),
	invalidCondition("a = 'x'", nil, "Invalid ConditionExpression: Syntax error; token: \"'\""),
	invalidCondition("attribute_exists(a) attribute_exists(b)", nil, "Invalid ConditionExpression: Syntax error;"),
	invalidCondition("((attribute_exists(a)))", nil, "The expression has redundant parentheses;"),
	invalidCondition("exists(a)", nil, "Invalid ConditionExpression: Invalid function name; function: exists"),
	invalidCondition("size(a)", nil, "Invalid ConditionExpression: The function is not allowed to be used this way in an expression; function: size"),
	invalidCondition("attribute_exists(a) = :v", attrs{":v": boolean(true)}, "The function is not allowed to be used this way in an expression; function: attribute_exists"),
	invalidCondition("attribute_exists(:v)", attrs{":v": num("1")}, "Operator or function requires a document path; operator or function: attribute_exists"),
	invalidCondition("begins_with(a)", nil, "Incorrect number of operands for operator or function; operator or function: begins_with, number of operands: 1"),
	invalidCondition("begins_with(a, :v)", attrs{":v": num("1")}, "Incorrect operand type for operator or function; operator or function: begins_with, operand type: N"),
	invalidCondition("attribute_type(a, :v)", attrs{":v": str("string")}, "Invalid attribute type name found; type: string"),
	invalidCondition("a = a", nil, "The first operand must be distinct from the remaining operands for this operator or function; operator: =, first operand: [a]"),
	invalidCondition("a BETWEEN :v AND :w", attrs{":v": num("2"), ":w": num("1")}, "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; lower bound operand: AttributeValue: {N:2}, upper bound operand: AttributeValue: {N:1}"),
	invalidCondition("a BETWEEN :v AND :w", attrs{":v": num("2"), ":w": str("3")}, "The BETWEEN operator requires same data type for lower and upper bounds"),
	invalidCondition("a < :v", attrs{":v": boolean(true)}, "Incorrect operand type for operator or function; operator or function: <, operand type: BOOL"),
	invalidCondition("pk.deep = :v", attrs{":v": num("1")}, "Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: Key: pk"),
}

func longCondition(bytes int) string {
	return "attribute_not_exists(" + strings.Repeat("a", 200) + ")" + strings.Repeat(" ", bytes-222)
}

// updated makes a row of one update: the item before, the expression, the item after.
func updated(before attrs, expression string, values, after attrs) func(c *check) error {
	return func(c *check) error {
		if before != nil {
			c.put(before)
		}
		c.must(c.update(expression, values))
		c.equal(c.stored(), c.item(after))
		return nil
	}
}

func invalidUpdate(before attrs, expression string, values attrs, text string) rule {
	return rule{"update " + expression, func(c *check) error {
		c.put(before)
		err := c.update(expression, values)
		c.equal(c.stored(), c.item(before))
		return err
	}, validation, text}
}

var updateRules = []rule{
	{"update creates", updated(nil, "SET a = :v", attrs{":v": num("1")}, attrs{"a": num("1")}), "", ""},
	{"update without an expression creates", func(c *check) error {
		_, err := c.UpdateItem(c.Context(), &sdk.UpdateItemInput{TableName: &c.s, Key: c.item(nil)})
		c.equal(c.stored(), c.item(nil))
		return err
	}, "", ""},
	{"set copies plus and minus", updated(attrs{"a": num("1"), "b": num("10")}, "SET a = b, b = a, c = a + :v, d = :v - b", attrs{":v": num("0.5")},
		attrs{"a": num("10"), "b": num("1"), "c": num("1.5"), "d": num("-9.5")}), "", ""},
	{"set nested", updated(attrs{"m": doc(attrs{"x": list(num("1"), num("2"), num("3"))})}, "SET m.x[1] = :v, m.y = :v REMOVE m.x[0]", attrs{":v": str("v")},
		attrs{"m": doc(attrs{"x": list(str("v"), num("3")), "y": str("v")})}), "", ""},
	{"set behind the end of a list appends in order", updated(attrs{"l": list(num("1"))}, "SET l[9] = :b, l[5] = :a", attrs{":a": str("a"), ":b": str("b")},
		attrs{"l": list(num("1"), str("a"), str("b"))}), "", ""},
	{"if_not_exists", updated(attrs{"a": num("1")}, "SET a = if_not_exists(a, :z) + :v, b = if_not_exists(b, :z) + :v", attrs{":v": num("1"), ":z": num("0")},
		attrs{"a": num("2"), "b": num("1")}), "", ""},
	{"list_append", updated(attrs{"l": list(num("1"))}, "SET l = list_append(:v, l)", attrs{":v": list(num("0"))}, attrs{"l": list(num("0"), num("1"))}), "", ""},
	{"remove by old positions", updated(attrs{"l": list(num("0"), num("1"), num("2"), num("3")), "a": num("1")}, "REMOVE l[0], l[2], a, nope", nil,
		attrs{"l": list(num("1"), num("3"))}), "", ""},
	{"add to numbers and sets", updated(attrs{"n": num("1"), "ss": strs("a")}, "ADD n :v, x :v, ss :s, ys :s", attrs{":v": num("2"), ":s": strs("a", "b")},
		attrs{"n": num("3"), "x": num("2"), "ss": strs("a", "b"), "ys": strs("a", "b")}), "", ""},
	{"delete from sets", updated(attrs{"ss": strs("a", "b"), "gone": strs("a")}, "DELETE ss :s, gone :s, nope :s", attrs{":s": strs("a", "c")}, attrs{"ss": strs("b")}), "", ""},
	{"all four sections", updated(attrs{"r": num("1"), "d": nums("1", "2")}, "SET s = :v REMOVE r ADD a :v DELETE d :d", attrs{":v": num("1"), ":d": nums("1")},
		attrs{"s": num("1"), "a": num("1"), "d": nums("2")}), "", ""},
	{"sums are exact", updated(attrs{"n": num("0.1")}, "SET n = n + :v", attrs{":v": num("99999999999999999999999999999999999.2")}, attrs{"n": num("99999999999999999999999999999999999.3")}), "", ""},
	invalidUpdate(attrs{}, "SET a = :v + :w", attrs{":v": num("1e50"), ":w": num("1")}, "Number overflow."),
	invalidUpdate(attrs{}, "SET pk = :v", attrs{":v": str("x")}, "One or more parameter values were invalid: Cannot update attribute pk. This attribute is part of the key"),
	invalidUpdate(attrs{"m": doc(attrs{})}, "SET m = :v, m.x = :v", attrs{":v": str("x")}, "Invalid UpdateExpression: Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [m], path two: [m, x]"),
	invalidUpdate(attrs{}, "SET m.x = :v, m[0] = :v", attrs{":v": str("x")}, "Invalid UpdateExpression: Two document paths conflict with each other; must remove or rewrite one of these paths; path one: [m, x], path two: [m, [0]]"),
	invalidUpdate(attrs{}, "SET a = :v SET b = :v", attrs{":v": str("x")}, "Invalid UpdateExpression: The \"SET\" section can only be used once in an update expression;"),
	invalidUpdate(attrs{}, "SET a.b = :v", attrs{":v": str("x")}, "The document path provided in the update expression is invalid for update"),
	invalidUpdate(attrs{"a": str("s")}, "SET a.b = :v", attrs{":v": str("x")}, "The document path provided in the update expression is invalid for update"),
	invalidUpdate(attrs{}, "SET a = b", nil, "The provided expression refers to an attribute that does not exist in the item"),
	invalidUpdate(attrs{"a": str("s")}, "SET a = a + :v", attrs{":v": num("1")}, "An operand in the update expression has an incorrect data type"),
	invalidUpdate(attrs{}, "SET a = :v + :v", attrs{":v": str("s")}, "Invalid UpdateExpression: Incorrect operand type for operator or function; operator or function: +, operand type: S"),
	invalidUpdate(attrs{}, "ADD a :v", attrs{":v": str("s")}, "Invalid UpdateExpression: Incorrect operand type for operator or function; operator: ADD, operand type: STRING"),
	invalidUpdate(attrs{}, "DELETE a :v", attrs{":v": num("1")}, "Invalid UpdateExpression: Incorrect operand type for operator or function; operator: DELETE, operand type: NUMBER"),
	invalidUpdate(attrs{"a": str("s")}, "ADD a :v", attrs{":v": num("1")}, "An operand in the update expression has an incorrect data type"),
	invalidUpdate(attrs{}, "SET state = :v", attrs{":v": num("1")}, "Invalid UpdateExpression: Attribute name is a reserved keyword; reserved keyword: state"),
	invalidUpdate(attrs{}, "SET a :v", attrs{":v": num("1")}, "Invalid UpdateExpression: Syntax error; token: \":v\", near: \"a :v\""),
	invalidUpdate(attrs{}, "PUT a = :v", attrs{":v": num("1")}, "Invalid UpdateExpression: Syntax error; token: \"PUT\""),
	invalidUpdate(attrs{}, "SET a = size(b)", nil, "Invalid UpdateExpression: Invalid function name; function: size"),
	{"return values of updates", func(c *check) error {
		for want, expected := range map[types.ReturnValue]attrs{
			types.ReturnValueNone: nil, types.ReturnValueAllOld: c.item(attrs{"a": num("1"), "l": list(num("1"), num("2")), "k": num("0")}),
			types.ReturnValueAllNew:     c.item(attrs{"a": num("2"), "l": list(num("1"), num("5")), "k": num("0")}),
			types.ReturnValueUpdatedOld: {"a": num("1"), "l": list(num("2"))}, types.ReturnValueUpdatedNew: {"a": num("2"), "l": list(num("5"))},
		} {
			c.put(attrs{"a": num("1"), "l": list(num("1"), num("2")), "k": num("0")})
			got, err := c.UpdateItem(c.Context(), &sdk.UpdateItemInput{TableName: &c.s, Key: c.item(nil), UpdateExpression: aws.String("SET a = a + :v, l[1] = :w"),
				ExpressionAttributeValues: attrs{":v": num("1"), ":w": num("5")}, ReturnValues: want})
			c.must(err)
			c.equal(got.Attributes, expected)
		}
		return nil
	}, "", ""},
	{"return values of puts and deletes", func(c *check) error {
		c.put(attrs{"a": num("1")})
		put, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: c.item(nil), ReturnValues: types.ReturnValueAllOld})
		c.must(err)
		c.equal(put.Attributes, c.item(attrs{"a": num("1")}))
		deleted, err := c.DeleteItem(c.Context(), &sdk.DeleteItemInput{TableName: &c.s, Key: c.item(nil), ReturnValues: types.ReturnValueAllOld})
		c.must(err)
		c.equal(deleted.Attributes, c.item(nil))
		again, err := c.DeleteItem(c.Context(), &sdk.DeleteItemInput{TableName: &c.s, Key: c.item(nil), ReturnValues: types.ReturnValueAllOld})
		c.equal(again.Attributes, attrs(nil))
		return err
	}, "", ""},
	{"return values that a put has not", func(c *check) error {
		_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: c.item(nil), ReturnValues: types.ReturnValueAllNew})
		return err
	}, validation, "ReturnValues can only be ALL_OLD or NONE"},
}
