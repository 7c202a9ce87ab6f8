package dynamo_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/awslocal"
	engine "github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/pace"
	"github.com/waybillhq/waybill/shared/pace/dynamo"
	"github.com/waybillhq/waybill/shared/topology"
)

const table = "registry"

func open(t *testing.T) (*dynamo.Store, *dynamodb.Client, *awslocal.Endpoint) {
	t.Helper()
	return openOn(t, engine.New(engine.Options{}))
}

func openOn(t *testing.T, service *engine.Service) (*dynamo.Store, *dynamodb.Client, *awslocal.Endpoint) {
	t.Helper()
	endpoint := awslocal.New(awslocal.Options{}, service)
	t.Cleanup(func() { _ = endpoint.Close() })
	client := dynamodb.NewFromConfig(aws.Config{
		Region: awslocal.Region, Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
		BaseEndpoint: aws.String("http://awslocal"), HTTPClient: endpoint.Client(), RetryMaxAttempts: 1,
	})
	key := func(name string, kind types.KeyType) (types.KeySchemaElement, types.AttributeDefinition) {
		return types.KeySchemaElement{AttributeName: &name, KeyType: kind}, types.AttributeDefinition{AttributeName: &name, AttributeType: types.ScalarAttributeTypeS}
	}
	part, partType := key("part", types.KeyTypeHash)
	row, rowType := key("row", types.KeyTypeRange)
	if _, err := client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String(table), BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{part, row}, AttributeDefinitions: []types.AttributeDefinition{partType, rowType},
	}); err != nil {
		t.Fatal(err)
	}
	store, err := dynamo.New(client, table)
	if err != nil {
		t.Fatal(err)
	}
	return store, client, endpoint
}

func TestStore(t *testing.T) {
	store, client, _ := open(t)
	ctx := t.Context()
	slot := pace.SlotOf(time.Now())
	add := func(destination string, at pace.Slot, n int, remove []pace.Slot, want pace.Row) {
		t.Helper()
		got, err := store.Add(ctx, destination, at, n, remove)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("added: %v, %v; want %v", got, err, want)
		}
	}
	add("crm", slot, 2, nil, pace.Row{slot: 2})
	add("crm", slot, 1, nil, pace.Row{slot: 3})
	add("crm", slot+1, 1, nil, pace.Row{slot: 3, slot + 1: 1})
	add("crm", slot+2, 4, []pace.Slot{slot, slot + 1, slot + 2, slot - 9}, pace.Row{slot + 2: 4})
	add("other", slot, 1, []pace.Slot{slot}, pace.Row{slot: 1})

	// A row of another part, and attributes of another release, are in nobody's way.
	s := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	for part, row := range map[string]string{"health": "crm", "pace": "odd"} {
		if _, err := client.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(table), Item: map[string]types.AttributeValue{
			"part": s(part), "row": s(row), "n#x": s("x"), "n#1": s("7"), "n#2": &types.AttributeValueMemberN{Value: "1.5"},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := store.All(ctx)
	if err != nil || len(all) != 3 || !maps.Equal(all["crm"], pace.Row{slot + 2: 4}) || !maps.Equal(all["other"], pace.Row{slot: 1}) || len(all["odd"]) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// Rows that fill more than one answer of a Query are all read: a destination that was not would have its deliveries hold up others.
func TestManyRows(t *testing.T) {
	store, client, _ := open(t)
	s := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	slot := pace.SlotOf(time.Now())
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		if _, err := client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(table), Item: map[string]types.AttributeValue{
			"part": s("pace"), "row": s(id), "of another release": s(strings.Repeat("x", 350_000)),
		}}); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Add(t.Context(), id, slot, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	all, err := store.All(t.Context())
	if err != nil || len(all) != 7 {
		t.Fatalf("%d rows, %v", len(all), err)
	}
	for id, row := range all {
		if row[slot] != 1 {
			t.Errorf("%s: %v", id, row)
		}
	}
}

// Rows end: all of them are read every few seconds, so that they must not become as many as there are destinations.
func TestRowsEnd(t *testing.T) {
	service := engine.New(engine.Options{})
	store, client, _ := openOn(t, service)
	registry, ok := topology.New(topology.LowLatency).Table(topology.Registry)
	if !ok {
		t.Fatal("no such table")
	}
	if _, err := client.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{TableName: aws.String(table),
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: &registry.TTLAttribute, Enabled: aws.Bool(true)}}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for destination, at := range map[string]time.Time{"crm": now.Add(-time.Hour), "other": now} {
		if _, err := store.Add(t.Context(), destination, pace.SlotOf(at), 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	service.Sweep(now.Add(20 * time.Minute))
	if all, err := store.All(t.Context()); err != nil || len(all) != 1 || all["other"] == nil {
		t.Errorf("20 minutes later: %v, %v", all, err)
	}
	if _, err := store.Add(t.Context(), "other", pace.SlotOf(now.Add(time.Hour)), 1, nil); err != nil {
		t.Fatal(err)
	}
	service.Sweep(now.Add(90 * time.Minute))
	if all, err := store.All(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("written again in between: %v, %v", all, err)
	}
}

func TestErrors(t *testing.T) {
	store, _, endpoint := open(t)
	endpoint.Faults().Add(awslocal.Fault{Error: &wire.Error{Code: "InternalServerError", Message: "Not now.", Status: http.StatusInternalServerError}})
	if _, err := store.All(t.Context()); err == nil {
		t.Error("All: no error")
	}
	if _, err := store.Add(t.Context(), "crm", 1, 1, nil); err == nil {
		t.Error("Add: no error")
	}
	if _, err := dynamo.New(nil, ""); err == nil {
		t.Error("New: no error")
	}
}
