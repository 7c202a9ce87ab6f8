package wiring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	lambdaevents "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go/middleware"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/apart"
	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/requestbody"
	"github.com/waybillhq/waybill/shared/signing"
	"github.com/waybillhq/waybill/shared/topology"
)

func TestApart(t *testing.T) { apart.Serve(t) }

const (
	benchSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	benchBatch  = 10
)

// BenchmarkDelivererBatch works on an event of ten deliveries of 1 KiB: decode, claim, sign, send, settle, answer. Beside it a plain handler that
// guards each call by a conditional put before and an update after it, one record at a time or all at once, and signs as well. AWS and the
// receiver are another process behind loopback, so cpu-µs is the function's alone.
func BenchmarkDelivererBatch(b *testing.B) {
	for _, form := range []string{"waybill", "plain, one at a time", "plain, all at once"} {
		b.Run(form, func(b *testing.B) {
			w := newBenchWorld(b)
			h := w.function(b, topology.Deliverer, Deliverer)
			if form != "waybill" {
				h = w.plain(b, form == "plain, all at once")
			}
			n := 0
			apart.Measure(b, w.process, func() []byte {
				records := make([]string, benchBatch)
				for i := range records {
					n++
					records[i] = w.delivery(b, n)
				}
				return benchPayload(b, topology.Deliveries, records)
			}, func(payload []byte) { w.invoke(b, h, payload) })
		})
	}
}

// BenchmarkRouterBatch routes an event of ten messages of 1 KiB to one destination: decode, match, send. Beside it a plain handler that reads each
// message into a map, looks at its type and sends it on, one record at a time or all at once.
func BenchmarkRouterBatch(b *testing.B) {
	for _, form := range []string{"waybill", "plain, one at a time", "plain, all at once"} {
		b.Run(form, func(b *testing.B) {
			w := newBenchWorld(b)
			h := w.function(b, topology.Router, Router)
			if form != "waybill" {
				queues := awssqs.NewFromConfig(w.account)
				h = plainHandler(form == "plain, all at once", func(ctx context.Context, body string) error { return w.forward(ctx, queues, body) })
			}
			n := 0
			apart.Measure(b, w.process, func() []byte {
				records := make([]string, benchBatch)
				for i := range records {
					n++
					records[i] = benchEvent(n)
				}
				return benchPayload(b, topology.Ingress, records)
			}, func(payload []byte) { w.invoke(b, h, payload) })
		})
	}
}

// forward is what a router written by hand does with a message.
func (w *benchWorld) forward(ctx context.Context, queues *awssqs.Client, body string) error {
	var event map[string]any
	if err := json.Unmarshal([]byte(body), &event); err != nil {
		return err
	}
	if event["type"] != "order.created" {
		return nil
	}
	message, err := json.Marshal(map[string]any{"destination": "shop", "event": event})
	if err != nil {
		return err
	}
	_, err = queues.SendMessage(ctx, &awssqs.SendMessageInput{QueueUrl: aws.String(w.urls[topology.Deliveries]), MessageBody: aws.String(string(message))})
	return err
}

func benchEvent(n int) string {
	return `{"specversion":"1.0","id":"` + strconv.Itoa(n) + `","source":"/shop","type":"order.created","datacontenttype":"application/json","data":` + benchData() + `}`
}

func benchData() string { return `{"note":"` + strings.Repeat("x", 1000) + `","total":19.90}` }

// benchWorld is an account in another process.
type benchWorld struct {
	process      *apart.Process
	account      aws.Config
	urls         map[topology.QueueName]string
	topology     topology.Topology
	destinations *registry.Set
}

func newBenchWorld(b *testing.B) *benchWorld {
	b.Helper()
	p := apart.Start(b)
	w := &benchWorld{process: p, urls: map[topology.QueueName]string{}, topology: topology.New(topology.LowLatency), account: aws.Config{
		Region: awslocal.Region, BaseEndpoint: aws.String(p.URL), Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
		HTTPClient: client(answerTime), APIOptions: []func(*middleware.Stack) error{requestbody.ReadOnly},
	}}
	queues, tables := awssqs.NewFromConfig(w.account), dynamodb.NewFromConfig(w.account)
	for _, q := range w.topology.Queues {
		out, err := queues.CreateQueue(b.Context(), &awssqs.CreateQueueInput{QueueName: aws.String(string(q.Name))})
		if err != nil {
			b.Fatal(err)
		}
		w.urls[q.Name] = *out.QueueUrl
	}
	for _, t := range w.topology.Tables {
		in := &dynamodb.CreateTableInput{TableName: aws.String(string(t.Name)), BillingMode: types.BillingModePayPerRequest}
		for i, k := range []topology.Key{t.Partition, t.Sort} {
			if k.Name == "" {
				continue
			}
			in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &k.Name, KeyType: []types.KeyType{types.KeyTypeHash, types.KeyTypeRange}[i]})
			in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: &k.Name, AttributeType: types.ScalarAttributeType(k.Type)})
		}
		if _, err := tables.CreateTable(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
	document := fmt.Sprintf(`{"destinations":[{"id":"shop","tenant":"*","type":"webhook","webhook":{"url":%q,"secrets":[%q]}}]}`, p.Receiver(), benchSecret)
	set, err := registry.Parse([]byte(document), registry.Options{})
	if err != nil {
		b.Fatal(err)
	}
	w.destinations = set
	return w
}

func (w *benchWorld) function(b *testing.B, name topology.FunctionName, assemble Assembly) lambda.Handler {
	b.Helper()
	cfg, err := config.Load(name, func(variable string) (string, bool) {
		if variable == topology.ProfileVariable {
			return string(w.topology.Profile), true
		}
		if variable == topology.EgressAllowVariable {
			return "loopback", true
		}
		for queue, url := range w.urls {
			if queue.URLVariable() == variable {
				return url, true
			}
		}
		for _, t := range w.topology.Tables {
			if t.Name.NameVariable() == variable {
				return string(t.Name), true
			}
		}
		return "", false
	})
	if err != nil {
		b.Fatal(err)
	}
	h, err := assemble(cfg, Parts{AWS: w.account, Destinations: w.destinations, Logger: slog.New(slog.NewJSONHandler(io.Discard, nil)), Metrics: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	return h
}

func (w *benchWorld) delivery(b *testing.B, n int) string {
	b.Helper()
	e := events.Event{
		ID: strconv.Itoa(n), Source: "/shop", Type: "order.created", DataContentType: "application/json", Data: []byte(benchData()),
		Extensions: map[string]string{events.TenantExtension: events.DefaultTenant},
	}
	m := delivery.Message{Delivery: delivery.NewID(e.Tenant(), e.Source, e.ID, "shop"), Destination: "shop", Attempt: 1, Event: e, AcceptedAt: time.Now()}
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		b.Fatal(err)
	}
	return body
}

// benchPayload is an event as Lambda gives it to a function.
func benchPayload(b *testing.B, queue topology.QueueName, bodies []string) []byte {
	b.Helper()
	e := lambdaevents.SQSEvent{}
	for i, body := range bodies {
		e.Records = append(e.Records, lambdaevents.SQSMessage{
			MessageId: fmt.Sprintf("9b2f7c1e-0c55-4a11-8f3e-3f0d8d1c7a%02d", i), ReceiptHandle: strings.Repeat("AQEB", 60), Body: body,
			Md5OfBody: "0cc175b9c0f1b6a831c399e269772661", EventSource: "aws:sqs", AWSRegion: awslocal.Region,
			EventSourceARN: "arn:aws:sqs:us-east-1:000000000000:" + string(queue),
			Attributes: map[string]string{
				"ApproximateReceiveCount": "1", "SentTimestamp": "1795341598123", "SenderId": "AIDAIENQZJOLO23YVJ4VO",
				"ApproximateFirstReceiveTimestamp": "1795341598125", "MessageGroupId": "shop",
			},
			MessageAttributes: map[string]lambdaevents.SQSMessageAttribute{},
		})
	}
	payload, err := json.Marshal(e)
	if err != nil {
		b.Fatal(err)
	}
	return payload
}

func (w *benchWorld) invoke(b *testing.B, h lambda.Handler, payload []byte) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	answer, err := h.Invoke(ctx, payload)
	if err != nil || string(answer) != `{"batchItemFailures":[]}` {
		b.Fatalf("%s: %v", answer, err)
	}
}

// plain is the deliverer that is usually written by hand.
func (w *benchWorld) plain(b *testing.B, parallel bool) lambda.Handler {
	b.Helper()
	key, err := signing.ParseSigningKey(benchSecret)
	if err != nil {
		b.Fatal(err)
	}
	p := plainDeliverer{
		tables: dynamodb.NewFromConfig(w.account), url: w.process.Receiver(), keys: []signing.Key{key},
		client: &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	return plainHandler(parallel, p.record)
}

// plainHandler handles the records of an event one at a time or all at once.
func plainHandler(parallel bool, record func(ctx context.Context, body string) error) lambda.Handler {
	return lambda.NewHandler(func(ctx context.Context, e lambdaevents.SQSEvent) (lambdaevents.SQSEventResponse, error) {
		answer := lambdaevents.SQSEventResponse{BatchItemFailures: []lambdaevents.SQSBatchItemFailure{}}
		var wg sync.WaitGroup
		var mu sync.Mutex
		for _, r := range e.Records {
			one := func() {
				if err := record(ctx, r.Body); err != nil {
					mu.Lock()
					defer mu.Unlock()
					answer.BatchItemFailures = append(answer.BatchItemFailures, lambdaevents.SQSBatchItemFailure{ItemIdentifier: r.MessageId})
				}
			}
			if parallel {
				wg.Go(one)
			} else {
				one()
			}
		}
		wg.Wait()
		return answer, nil
	})
}

type plainDeliverer struct {
	tables *dynamodb.Client
	client *http.Client
	url    string
	keys   []signing.Key
}

// record handles one delivery: claim, post, settle.
func (p plainDeliverer) record(ctx context.Context, body string) error {
	var m struct {
		Delivery string
		Data     json.RawMessage
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		return err
	}
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	number := func(n int64) types.AttributeValue {
		return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
	}
	now := time.Now()
	_, err := p.tables.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(string(topology.Ledger)),
		Item: map[string]types.AttributeValue{
			"delivery": text(m.Delivery), "state": text("claimed"), "leaseUntil": number(now.Add(time.Minute).UnixMilli()),
			"expiresAt": number(now.Add(24 * time.Hour).Unix()),
		},
		ConditionExpression:       aws.String("attribute_not_exists(delivery) OR leaseUntil < :now"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":now": number(now.UnixMilli())},
	})
	if err != nil {
		return err
	}
	if err := p.post(ctx, m.Delivery, now, m.Data); err != nil {
		return err
	}
	_, err = p.tables.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(string(topology.Ledger)), Key: map[string]types.AttributeValue{"delivery": text(m.Delivery)},
		UpdateExpression: aws.String("SET #state = :delivered"), ExpressionAttributeNames: map[string]string{"#state": "state"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":delivered": text("delivered")},
	})
	return err
}

func (p plainDeliverer) post(ctx context.Context, id string, now time.Time, data []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(data))
	if err != nil {
		return err
	}
	request.Header.Set("content-type", "application/json")
	request.Header.Set(signing.HeaderID, id)
	request.Header.Set(signing.HeaderTimestamp, signing.Timestamp(now))
	request.Header.Set(signing.HeaderSignature, signing.Sign(p.keys, id, now, data))
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return errors.New(response.Status)
	}
	return nil
}
