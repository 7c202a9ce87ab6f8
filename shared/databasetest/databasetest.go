// Package databasetest gives the tests of drivers a table of the topology to work on, through the real AWS SDK.
package databasetest

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/awslocal"
	engine "github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/topology"
)

// Database is a local endpoint with the AWS SDK in front of it. It is safe for concurrent use, and needs no end.
type Database struct {
	Engine   *engine.Service    // what the table really holds
	Endpoint *awslocal.Endpoint // can be told to fail
	Client   *dynamodb.Client
}

// Open makes a database with one empty table, which has its name and keys from the topology. The client makes each call once,
// unless change says otherwise.
func Open(t testing.TB, table topology.TableName, change ...func(*dynamodb.Options)) Database {
	t.Helper()
	service := engine.New(engine.Options{})
	endpoint := awslocal.New(awslocal.Options{}, service)
	client := dynamodb.New(dynamodb.Options{
		Region: awslocal.Region, BaseEndpoint: aws.String("http://dynamodb.test"), Credentials: aws.AnonymousCredentials{},
		HTTPClient: doer{endpoint}, Retryer: aws.NopRetryer{},
	}, change...)
	if _, err := client.CreateTable(t.Context(), declaration(t, table)); err != nil {
		t.Fatal(err)
	}
	return Database{service, endpoint, client}
}

func declaration(t testing.TB, name topology.TableName) *dynamodb.CreateTableInput {
	t.Helper()
	for _, table := range topology.New(topology.LowLatency).Tables {
		if table.Name != name {
			continue
		}
		in := &dynamodb.CreateTableInput{TableName: aws.String(string(name)), BillingMode: types.BillingModePayPerRequest}
		for i, key := range []topology.Key{table.Partition, table.Sort} {
			if key.Name != "" {
				in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: &key.Name, AttributeType: types.ScalarAttributeType(key.Type)})
				in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &key.Name, KeyType: []types.KeyType{types.KeyTypeHash, types.KeyTypeRange}[i]})
			}
		}
		return in
	}
	t.Fatalf("the topology has no table %s", name)
	return nil
}

// doer lets the SDK call the endpoint's handler without a connection between them. The AWS protocol is spoken in full.
type doer struct{ handler http.Handler }

// Do sends a request. Its error stands for a connection that ended without an answer.
func (d doer) Do(r *http.Request) (response *http.Response, err error) {
	defer func() {
		p := recover()
		if aborted, ok := p.(error); ok && errors.Is(aborted, http.ErrAbortHandler) {
			response, err = nil, io.ErrUnexpectedEOF // the answer is withheld
		} else if p != nil {
			panic(p)
		}
	}()
	recorder := httptest.NewRecorder()
	d.handler.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}
