package dynamodb_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// attrs is an item, a key or the values of an expression.
type attrs = map[string]types.AttributeValue

func str(v string) types.AttributeValue  { return &types.AttributeValueMemberS{Value: v} }
func num(v string) types.AttributeValue  { return &types.AttributeValueMemberN{Value: v} }
func blob(v string) types.AttributeValue { return &types.AttributeValueMemberB{Value: []byte(v)} }
func boolean(v bool) types.AttributeValue {
	return &types.AttributeValueMemberBOOL{Value: v}
}
func null() types.AttributeValue { return &types.AttributeValueMemberNULL{Value: true} }
func list(v ...types.AttributeValue) types.AttributeValue {
	return &types.AttributeValueMemberL{Value: v}
}
func doc(v attrs) types.AttributeValue { return &types.AttributeValueMemberM{Value: v} }
func strs(v ...string) types.AttributeValue {
	return &types.AttributeValueMemberSS{Value: v}
}
func nums(v ...string) types.AttributeValue {
	return &types.AttributeValueMemberNS{Value: v}
}

// serve puts a Service behind HTTP the way DynamoDB speaks it.
func serve(t testing.TB, service *dynamodb.Service) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "DynamoDB_20120810.")
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		answer, err := service.Do(r.Context(), op, body)
		if refusal := (*wire.Error)(nil); errors.As(err, &refusal) {
			document := map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#" + refusal.Code, "message": refusal.Message}
			for name, v := range refusal.Fields {
				document[name] = v
			}
			w.WriteHeader(refusal.Status)
			answer.Body, _ = json.Marshal(document)
		} else if err != nil {
			t.Errorf("%s: %v is not a *wire.Error", op, err)
		} else if !json.Valid(answer.Body) {
			t.Errorf("%s: the answer is not JSON: %s", op, answer.Body)
		}
		_, _ = w.Write(answer.Body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// connect gives a client of AWSLOCAL_ENDPOINT, or of a new Service.
func connect(t testing.TB) *sdk.Client {
	endpoint := os.Getenv("AWSLOCAL_ENDPOINT")
	if endpoint == "" {
		endpoint = serve(t, dynamodb.New(dynamodb.Options{}))
	}
	return sdk.New(sdk.Options{
		BaseEndpoint: &endpoint, Region: "us-east-1", Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
}

// tables of the checks: their names end in the types of their keys.
type tables struct{ s, sn, ss, sb string }

func createTables(t testing.TB, client *sdk.Client) tables {
	suffix := fmt.Sprintf("-%d", os.Getpid())
	create := func(name string, kinds ...types.ScalarAttributeType) string {
		input := &sdk.CreateTableInput{TableName: aws.String(name + suffix), BillingMode: types.BillingModePayPerRequest}
		for i, kind := range kinds {
			attribute := aws.String([]string{"pk", "sk"}[i])
			input.AttributeDefinitions = append(input.AttributeDefinitions, types.AttributeDefinition{AttributeName: attribute, AttributeType: kind})
			input.KeySchema = append(input.KeySchema, types.KeySchemaElement{AttributeName: attribute,
				KeyType: []types.KeyType{types.KeyTypeHash, types.KeyTypeRange}[i]})
		}
		if _, err := client.CreateTable(context.Background(), input); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_, _ = client.DeleteTable(context.Background(), &sdk.DeleteTableInput{TableName: input.TableName})
		})
		return *input.TableName
	}
	created := tables{s: create("hash", "S"), sn: create("numbers", "S", "N"), ss: create("strings", "S", "S"), sb: create("blobs", "S", "B")}
	for _, name := range []string{created.s, created.sn, created.ss, created.sb} {
		for {
			d, err := client.DescribeTable(context.Background(), &sdk.DescribeTableInput{TableName: &name})
			if err != nil {
				t.Fatal(err)
			}
			if d.Table.TableStatus == types.TableStatusActive {
				break
			}
		}
	}
	return created
}

// check is what one row of the table of checks works with: a partition of its own in every table.
type check struct {
	*testing.T
	*sdk.Client
	tables
	pk    string
	local bool // the endpoint is this package
}

// item gives the key of the row's item in table s, and more attributes.
func (c *check) item(more attrs) attrs {
	item := attrs{"pk": str(c.pk)}
	for name, v := range more {
		item[name] = v
	}
	return item
}

// put stores the row's item.
func (c *check) put(more attrs) {
	c.Helper()
	if _, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: c.item(more)}); err != nil {
		c.Fatal(err)
	}
}

// putRow stores an item with a sort key.
func (c *check) putRow(table string, sk types.AttributeValue, more attrs) {
	c.Helper()
	item := c.item(more)
	item["sk"] = sk
	if _, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &table, Item: item}); err != nil {
		c.Fatal(err)
	}
}

// stored gives the row's item.
func (c *check) stored() attrs {
	c.Helper()
	got, err := c.GetItem(c.Context(), &sdk.GetItemInput{TableName: &c.s, Key: c.item(nil), ConsistentRead: aws.Bool(true)})
	if err != nil {
		c.Fatal(err)
	}
	return got.Item
}

// putIf stores the row's item under a condition.
func (c *check) putIf(condition string, values attrs) error {
	_, err := c.PutItem(c.Context(), &sdk.PutItemInput{TableName: &c.s, Item: c.item(nil), ConditionExpression: &condition,
		ExpressionAttributeValues: values})
	return err
}

// update changes the row's item.
func (c *check) update(expression string, values attrs) error {
	_, err := c.UpdateItem(c.Context(), &sdk.UpdateItemInput{TableName: &c.s, Key: c.item(nil), UpdateExpression: &expression,
		ExpressionAttributeValues: values})
	return err
}

// execute runs a PartiQL statement; T stands for the quoted table s, P for the row's key.
func (c *check) execute(statement string, parameters ...types.AttributeValue) ([]attrs, error) {
	got, err := c.ExecuteStatement(c.Context(), &sdk.ExecuteStatementInput{Statement: aws.String(c.fill(statement)), Parameters: parameters})
	if err != nil {
		return nil, err
	}
	return got.Items, nil
}

func (c *check) run(statement string, parameters ...types.AttributeValue) error {
	_, err := c.execute(statement, parameters...)
	return err
}

func (c *check) fill(statement string) string {
	return strings.NewReplacer(" T ", ` "`+c.s+`" `, "$P", "'"+c.pk+"'").Replace(statement)
}

// batch runs PartiQL statements in one batch.
func (c *check) batch(statements ...string) ([]types.BatchStatementResponse, error) {
	input := &sdk.BatchExecuteStatementInput{}
	for _, s := range statements {
		input.Statements = append(input.Statements, types.BatchStatementRequest{Statement: aws.String(c.fill(s)),
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld})
	}
	got, err := c.BatchExecuteStatement(c.Context(), input)
	if err != nil {
		return nil, err
	}
	return got.Responses, nil
}

// equal compares values by their JSON in Go's names.
func (c *check) equal(got, want any) {
	c.Helper()
	if g, w := render(got), render(want); g != w {
		c.Errorf("got  %s\nwant %s", g, w)
	}
}

func render(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// must fails the row for an error.
func (c *check) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// refused tells whether err is the refusal with the code whose message contains text.
func refused(err error, code, text string) error {
	var refusal smithy.APIError
	switch {
	case err == nil:
		return fmt.Errorf("accepted, want %s", code)
	case !errors.As(err, &refusal):
		return fmt.Errorf("refused by the client: %w", err)
	case refusal.ErrorCode() != code || !strings.Contains(refusal.ErrorMessage(), text):
		return fmt.Errorf("got %s: %s\nwant %s: …%s…", refusal.ErrorCode(), refusal.ErrorMessage(), code, text)
	}
	return nil
}
