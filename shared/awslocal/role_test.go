package awslocal_test

import (
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	awssecrets "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	awsssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/secretsmanager"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/ssm"
)

// account is an endpoint with a queue, two tables, a secret and a parameter.
type account struct {
	role     *awslocal.Role
	queueURL string
	queues   *sdk.Client
	tables   *awsdynamodb.Client
	secrets  *awssecrets.Client
	params   *awsssm.Client
}

const arn = "arn:aws:sqs:us-east-1:000000000000:"

func newAccount(t *testing.T, grants ...awslocal.Access) account {
	t.Helper()
	a := account{role: awslocal.NewRole("worker", grants...)}
	service := sqs.New(sqs.Options{Seed: 1})
	q, err := service.CreateQueue("orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	a.queueURL = q.URL()
	e := awslocal.New(awslocal.Options{Roles: map[string]*awslocal.Role{"worker": a.role}}, service,
		dynamodb.New(dynamodb.Options{}), secretsmanager.New(secretsmanager.Options{}), ssm.New(ssm.Options{}))
	t.Cleanup(func() { _ = e.Close() })
	as := func(session string) aws.Config {
		return aws.Config{
			BaseEndpoint: aws.String("http://awslocal"), HTTPClient: e.Client(), Region: awslocal.Region, RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider("any", "thing", session),
		}
	}
	owner := as("somebody-else") // with a session of no role, and so without limits
	for _, name := range []string{"ledger", "other"} {
		if _, err := awsdynamodb.NewFromConfig(owner).CreateTable(t.Context(), &awsdynamodb.CreateTableInput{
			TableName: &name, BillingMode: types.BillingModePayPerRequest,
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := awssecrets.NewFromConfig(owner).CreateSecret(t.Context(), &awssecrets.CreateSecretInput{Name: aws.String("waybill/key"), SecretString: aws.String("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := awsssm.NewFromConfig(owner).PutParameter(t.Context(), &awsssm.PutParameterInput{
		Name: aws.String("/waybill/key"), Value: aws.String("x"), Type: ssmtypes.ParameterTypeString,
	}); err != nil {
		t.Fatal(err)
	}
	worker := as("worker")
	a.queues, a.tables, a.secrets, a.params = sdk.NewFromConfig(worker), awsdynamodb.NewFromConfig(worker), awssecrets.NewFromConfig(worker), awsssm.NewFromConfig(worker)
	return a
}

func key(id string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: id}}
}

// calls are one call for each kind of resource, and the grant that it needs.
var calls = map[string]struct {
	needs awslocal.Access
	code  string // of the refusal
	do    func(t *testing.T, a account) error
}{
	"a queue": {awslocal.Access{Action: "sqs:SendMessage", Resource: arn + "orders"}, "AccessDenied", func(t *testing.T, a account) error {
		_, err := a.queues.SendMessage(t.Context(), &sdk.SendMessageInput{QueueUrl: &a.queueURL, MessageBody: aws.String("x")})
		return err
	}},
	"a batch to a queue": {awslocal.Access{Action: "sqs:SendMessage", Resource: arn + "orders"}, "AccessDenied", func(t *testing.T, a account) error {
		_, err := a.queues.SendMessageBatch(t.Context(), &sdk.SendMessageBatchInput{QueueUrl: &a.queueURL, Entries: []sqstypes.SendMessageBatchRequestEntry{
			{Id: aws.String("a"), MessageBody: aws.String("x")}, {Id: aws.String("b"), MessageBody: aws.String("x")},
		}})
		return err
	}},
	"all queues": {awslocal.Access{Action: "sqs:ListQueues", Resource: "*"}, "AccessDenied", func(t *testing.T, a account) error {
		_, err := a.queues.ListQueues(t.Context(), &sdk.ListQueuesInput{})
		return err
	}},
	"an item": {awslocal.Access{Action: "dynamodb:GetItem", Resource: dynamodb.ARN("ledger")}, "AccessDeniedException", func(t *testing.T, a account) error {
		_, err := a.tables.GetItem(t.Context(), &awsdynamodb.GetItemInput{TableName: aws.String("ledger"), Key: key("1")})
		return err
	}},
	"a batch of items": {awslocal.Access{Action: "dynamodb:BatchGetItem", Resource: dynamodb.ARN("ledger")}, "AccessDeniedException", func(t *testing.T, a account) error {
		_, err := a.tables.BatchGetItem(t.Context(), &awsdynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
			"ledger": {Keys: []map[string]types.AttributeValue{key("1"), key("2")}},
		}})
		return err
	}},
	"a statement": {awslocal.Access{Action: "dynamodb:PartiQLSelect", Resource: dynamodb.ARN("ledger")}, "AccessDeniedException", func(t *testing.T, a account) error {
		_, err := a.tables.ExecuteStatement(t.Context(), &awsdynamodb.ExecuteStatementInput{Statement: aws.String(`SELECT * FROM "ledger" WHERE id = 'x'`)})
		return err
	}},
	"a table": {awslocal.Access{Action: "dynamodb:DescribeTable", Resource: dynamodb.ARN("ledger")}, "AccessDeniedException", func(t *testing.T, a account) error {
		_, err := a.tables.DescribeTable(t.Context(), &awsdynamodb.DescribeTableInput{TableName: aws.String("ledger")})
		return err
	}},
	"a secret": {
		awslocal.Access{Action: "secretsmanager:GetSecretValue", Resource: "arn:aws:secretsmanager:us-east-1:000000000000:secret:waybill/*"}, "AccessDeniedException",
		func(t *testing.T, a account) error {
			_, err := a.secrets.GetSecretValue(t.Context(), &awssecrets.GetSecretValueInput{SecretId: aws.String("waybill/key")})
			return err
		},
	},
	"a parameter": {
		awslocal.Access{Action: "ssm:GetParameter", Resource: "arn:aws:ssm:us-east-1:000000000000:parameter/waybill/*"}, "AccessDeniedException",
		func(t *testing.T, a account) error {
			_, err := a.params.GetParameter(t.Context(), &awsssm.GetParameterInput{Name: aws.String("/waybill/key")})
			return err
		},
	},
}

// TestRole: a call is performed with exactly the one grant that it needs, and refused with all grants but that.
func TestRole(t *testing.T) {
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			with := newAccount(t, call.needs)
			if err := call.do(t, with); err != nil {
				t.Errorf("with the grant: %v", err)
			}
			if used := with.role.Used(); used[call.needs] != 1 {
				t.Errorf("used: %v", used)
			}
			var others []awslocal.Access
			for _, other := range calls {
				if other.needs != call.needs {
					others = append(others, other.needs)
				}
			}
			without := newAccount(t, append(others, awslocal.Access{Action: call.needs.Action, Resource: arn + "another"})...)
			err := call.do(t, without)
			if code := errorCode(err); code != call.code || !strings.Contains(err.Error(), "not authorized to perform") {
				t.Errorf("without the grant: %v, want %s", err, call.code)
			}
			var response *awshttp.ResponseError
			if want := map[string]int{"AccessDenied": http.StatusForbidden, "AccessDeniedException": http.StatusBadRequest}[call.code]; errors.As(err, &response) && response.HTTPStatusCode() != want {
				t.Errorf("status %d, want %d", response.HTTPStatusCode(), want)
			}
			if denied := without.role.Denied(); len(denied) != 1 {
				t.Errorf("denied: %v", denied)
			}
			for grant, n := range without.role.Used() {
				if n != 0 {
					t.Errorf("a refused call used %v", grant)
				}
			}
		})
	}
}

// TestRoleByStatement: in a batch, each statement is refused by itself, by what it does and to which table; the others are performed.
func TestRoleByStatement(t *testing.T) {
	a := newAccount(t, awslocal.Access{Action: "dynamodb:PartiQLInsert", Resource: dynamodb.ARN("ledger")}, awslocal.Access{Action: "dynamodb:PartiQLUpdate", Resource: dynamodb.ARN("other")})
	out, err := a.tables.BatchExecuteStatement(t.Context(), &awsdynamodb.BatchExecuteStatementInput{Statements: []types.BatchStatementRequest{
		{Statement: aws.String(`INSERT INTO "ledger" VALUE {'id': '1'}`)},
		{Statement: aws.String(`INSERT INTO "other" VALUE {'id': '1'}`)},
		{Statement: aws.String(`UPDATE "ledger" SET n = 1 WHERE id = '2'`)},
		{Statement: aws.String(`DELETE FROM "absent" WHERE id = '2'`)}, // refused before anybody is told that there is no such table
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, response := range out.Responses {
		if denied := response.Error != nil && response.Error.Code == types.BatchStatementErrorCodeEnumAccessDenied; denied != (i > 0) || i == 0 && response.Error != nil {
			t.Errorf("statement %d: %+v", i, response.Error)
		}
	}
	want := map[awslocal.Access]int{
		{Action: "dynamodb:PartiQLInsert", Resource: dynamodb.ARN("other")}:  1,
		{Action: "dynamodb:PartiQLUpdate", Resource: dynamodb.ARN("ledger")}: 1,
		{Action: "dynamodb:PartiQLDelete", Resource: dynamodb.ARN("absent")}: 1,
	}
	if denied := a.role.Denied(); !maps.Equal(denied, want) {
		t.Errorf("denied: %v", denied)
	}
}
