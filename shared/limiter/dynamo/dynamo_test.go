package dynamo_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/awslocal"
	engine "github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/limiter"
	"github.com/waybillhq/waybill/shared/limiter/dynamo"
	"github.com/waybillhq/waybill/shared/limiter/limitertest"
	"github.com/waybillhq/waybill/shared/topology"
)

const table = "registry"

func open(t *testing.T) (*dynamo.Store, *dynamodb.Client, *engine.Service, *awslocal.Endpoint) {
	t.Helper()
	service := engine.New(engine.Options{})
	endpoint := awslocal.New(awslocal.Options{}, service)
	t.Cleanup(func() { _ = endpoint.Close() })
	client := dynamodb.NewFromConfig(aws.Config{
		Region: awslocal.Region, Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
		BaseEndpoint: aws.String("http://awslocal"), HTTPClient: endpoint.Client(), RetryMaxAttempts: 1,
	})
	declared, _ := topology.New(topology.LowLatency).Table(topology.Registry)
	in := &dynamodb.CreateTableInput{TableName: aws.String(table), BillingMode: types.BillingModePayPerRequest}
	for key, kind := range map[string]types.KeyType{declared.Partition.Name: types.KeyTypeHash, declared.Sort.Name: types.KeyTypeRange} {
		in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: &key, AttributeType: types.ScalarAttributeTypeS})
		in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &key, KeyType: kind})
		if kind == types.KeyTypeHash && len(in.KeySchema) > 1 {
			in.KeySchema[0], in.KeySchema[1] = in.KeySchema[1], in.KeySchema[0]
		}
	}
	if _, err := client.CreateTable(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := client.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: aws.String(table),
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: &declared.TTLAttribute, Enabled: aws.Bool(true)}}); err != nil {
		t.Fatal(err)
	}
	store, err := dynamo.New(client, table)
	if err != nil {
		t.Fatal(err)
	}
	return store, client, service, endpoint
}

func TestConformance(t *testing.T) {
	limitertest.Run(t, func(t *testing.T) limiter.Store {
		store, _, _, _ := open(t)
		return store
	})
}

// What a destination's row says has passed when the row ends.
func TestRowsEnd(t *testing.T) {
	store, _, service, _ := open(t)
	now := time.Now()
	step := limiter.Step{Afresh: true, From: now, Beyond: now.Add(time.Hour), By: time.Second, Interval: time.Second, Expires: now.Add(time.Hour)}
	if _, err := store.Step(t.Context(), "crm", step); err != nil {
		t.Fatal(err)
	}
	service.Sweep(now.Add(50 * time.Minute))
	step.Afresh, step.Until, step.By = false, now.Add(time.Hour), 0
	if row, err := store.Step(t.Context(), "crm", step); err != nil || row.Next.UnixNano() != now.Add(time.Second).UnixNano() {
		t.Errorf("before its end: %+v, %v", row, err)
	}
	service.Sweep(now.Add(2 * time.Hour))
	if row, err := store.Step(t.Context(), "crm", step); !errors.Is(err, limiter.ErrRefused) || row != (limiter.Row{}) {
		t.Errorf("after its end: %+v, %v", row, err)
	}
}

func TestErrors(t *testing.T) {
	store, client, _, endpoint := open(t)
	if _, err := client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(table), Item: map[string]types.AttributeValue{
		"part": &types.AttributeValueMemberS{Value: "limit#odd"}, "row": &types.AttributeValueMemberS{Value: "calls"}, "next": &types.AttributeValueMemberS{Value: "x"},
		"queue": &types.AttributeValueMemberN{Value: "1.5"},
	}}); err != nil {
		t.Fatal(err)
	}
	step := limiter.Step{From: time.Now(), Until: time.Now(), Beyond: time.Now(), Interval: time.Second}
	if row, err := store.Step(t.Context(), "odd", step); !errors.Is(err, limiter.ErrRefused) || row != (limiter.Row{}) {
		t.Errorf("of another form: %+v, %v", row, err)
	}
	endpoint.Faults().Add(awslocal.Fault{Error: &wire.Error{Code: "InternalServerError", Message: "Not now.", Status: http.StatusInternalServerError}})
	if _, err := store.Step(t.Context(), "crm", step); err == nil || errors.Is(err, limiter.ErrRefused) {
		t.Errorf("Step: %v", err)
	}
	if _, err := dynamo.New(nil, ""); err == nil {
		t.Error("New: no error")
	}
}
