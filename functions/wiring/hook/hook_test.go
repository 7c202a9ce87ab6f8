package hook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	lambdaevents "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/functions/wiring"
	"github.com/waybillhq/waybill/functions/wiring/hook"
	"github.com/waybillhq/waybill/shared/awslocal"
	localdynamodb "github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	localsqs "github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/rehearsal"
	"github.com/waybillhq/waybill/shared/topology"
)

const version = "arn:aws:lambda:us-east-1:000000000000:function:waybill-tried:7"

// region is an account in virtual time: SQS and DynamoDB, Lambda with one version of one function, and CodeDeploy in the middle of a release of it.
type region struct {
	t        *testing.T
	topology topology.Topology
	tried    topology.FunctionName
	endpoint *awslocal.Endpoint
	account  aws.Config
	urls     map[topology.QueueName]string
	handler  lambda.Handler // of the version
	log      lines
	metrics  bytes.Buffer

	mu       sync.Mutex
	invoked  int
	refusals []string // of Lambda, one for each of the next invocations
	statuses []string // as CodeDeploy was told
	unheard  []string // errors of CodeDeploy, one for each of the next calls
}

// lines is a log that many may write to.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// inRegion runs a test in a bubble, with the function as it is wired for Lambda.
func inRegion(t *testing.T, name topology.FunctionName, test func(t *testing.T, r *region)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		queues := localsqs.New(localsqs.Options{Seed: 1})
		r := &region{t: t, topology: topology.New(topology.LowLatency), tried: name, urls: map[topology.QueueName]string{}}
		r.endpoint = awslocal.New(awslocal.Options{}, localdynamodb.New(localdynamodb.Options{}), queues)
		defer r.endpoint.Close()
		r.account = aws.Config{
			Region: awslocal.Region, BaseEndpoint: aws.String("http://aws.invalid"), Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), HTTPClient: r,
		}
		r.create()
		r.handler = r.function(nil)
		test(t, r)
	})
}

func (r *region) create() {
	sqs, db := awssqs.NewFromConfig(r.account), dynamodb.NewFromConfig(r.account)
	for _, q := range r.topology.Queues {
		out, err := sqs.CreateQueue(r.t.Context(), &awssqs.CreateQueueInput{QueueName: aws.String(string(q.Name))})
		if err != nil {
			r.t.Fatal(err)
		}
		r.urls[q.Name] = *out.QueueUrl
	}
	for _, table := range r.topology.Tables {
		in := &dynamodb.CreateTableInput{TableName: aws.String(string(table.Name)), BillingMode: types.BillingModePayPerRequest}
		for i, k := range []topology.Key{table.Partition, table.Sort} {
			if k.Name != "" {
				in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &k.Name, KeyType: []types.KeyType{types.KeyTypeHash, types.KeyTypeRange}[i]})
				in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: &k.Name, AttributeType: types.ScalarAttributeType(k.Type)})
			}
		}
		if _, err := db.CreateTable(r.t.Context(), in); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *region) lookup(variable string) (string, bool) {
	if variable == topology.ProfileVariable {
		return string(r.topology.Profile), true
	}
	for queue, url := range r.urls {
		if queue.URLVariable() == variable {
			return url, true
		}
	}
	for _, table := range r.topology.Tables {
		if table.Name.NameVariable() == variable {
			return string(table.Name), true
		}
	}
	return "", false
}

// function is the function as it is in Lambda. Nil destinations are those in the registry, where there are none.
func (r *region) function(destinations *registry.Set) lambda.Handler {
	cfg, err := config.Load(r.tried, r.lookup)
	if err != nil {
		r.t.Fatal(err)
	}
	assemble := map[topology.FunctionName]wiring.Assembly{topology.Router: wiring.Router, topology.Deliverer: wiring.Deliverer, topology.SlowLane: wiring.Deliverer, topology.Waker: wiring.Waker}[r.tried]
	h, err := assemble(cfg, wiring.Parts{
		AWS: r.account, Destinations: destinations, Logger: slog.New(slog.NewTextHandler(&r.log, nil)), Metrics: &r.metrics,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			r.t.Error("a rehearsal calls somebody")
			return nil, errors.New("nobody")
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

// Do is the way to AWS, without a connection.
func (r *region) Do(request *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	path, err := url.PathUnescape(request.URL.EscapedPath())
	switch {
	case err != nil:
		return nil, err
	case strings.HasPrefix(path, "/2015-03-31/functions/"):
		r.serveLambda(recorder, request, strings.TrimPrefix(path, "/2015-03-31/functions/"))
	case strings.HasPrefix(request.Header.Get("X-Amz-Target"), "CodeDeploy_20141006."):
		r.serveCodeDeploy(recorder, request)
	default:
		r.endpoint.ServeHTTP(recorder, request)
	}
	if err := request.Context().Err(); err != nil {
		return nil, err
	}
	return recorder.Result(), nil
}

// serveLambda is the operation Invoke.
// Source: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
func (r *region) serveLambda(w http.ResponseWriter, request *http.Request, path string) {
	refuse := func(status int, code, message string) {
		w.Header().Set("X-Amzn-Errortype", code)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"Type": "User", "message": message})
	}
	r.mu.Lock()
	r.invoked++
	refusal := ""
	if len(r.refusals) > 0 {
		refusal, r.refusals = r.refusals[0], r.refusals[1:]
	}
	r.mu.Unlock()
	switch {
	case path != version+"/invocations":
		refuse(http.StatusNotFound, "ResourceNotFoundException", "Function not found: "+path)
		return
	case refusal == silence:
		<-request.Context().Done()
		return
	case refusal != "":
		code, status, _ := strings.Cut(refusal, " ")
		n, _ := strconv.Atoi(status)
		refuse(n, code, "not now")
		return
	}
	payload, _ := io.ReadAll(request.Body)
	tried, _ := r.topology.Function(r.tried)
	ctx, cancel := context.WithTimeout(context.Background(), tried.Timeout)
	defer cancel()
	answer, err := invoke(ctx, r.handler, payload)
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("2026-11-22T10:00:00Z 1 Task timed out after %.2f seconds", tried.Timeout.Seconds())
		fallthrough
	case err != nil:
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
		answer, _ = json.Marshal(map[string]string{"errorMessage": err.Error(), "errorType": "errorString"})
	}
	w.Header().Set("X-Amz-Executed-Version", "7")
	_, _ = w.Write(answer)
}

func invoke(ctx context.Context, h lambda.Handler, payload []byte) (answer []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return h.Invoke(ctx, payload)
}

// serveCodeDeploy is the operation PutLifecycleEventHookExecutionStatus.
// Source: https://docs.aws.amazon.com/codedeploy/latest/APIReference/API_PutLifecycleEventHookExecutionStatus.html
func (r *region) serveCodeDeploy(w http.ResponseWriter, request *http.Request) {
	var in struct {
		Deployment string `json:"deploymentId"`
		Execution  string `json:"lifecycleEventHookExecutionId"`
		Status     string `json:"status"`
	}
	problem := ""
	time.Sleep(time.Second) // telling takes time, which must be there
	if err := json.NewDecoder(request.Body).Decode(&in); err != nil {
		problem = "SerializationException"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case request.Header.Get("X-Amz-Target") != "CodeDeploy_20141006.PutLifecycleEventHookExecutionStatus":
		problem = "UnknownOperationException"
	case in.Deployment != "d-ABCDEF123":
		problem = "DeploymentDoesNotExistException"
	case in.Execution != "hook-1":
		problem = "InvalidLifecycleEventHookExecutionIdException"
	case len(r.unheard) > 0:
		problem, r.unheard = r.unheard[0], r.unheard[1:]
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if problem != "" {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": problem, "message": "no"})
		return
	}
	r.statuses = append(r.statuses, in.Status)
	_ = json.NewEncoder(w).Encode(map[string]string{"lifecycleEventHookExecutionId": in.Execution})
}

// silence is a refusal of the worst kind: there is no answer.
const silence = "silence"

const event = `{"DeploymentId":"d-ABCDEF123","LifecycleEventHookExecutionId":"hook-1"}`

// release invokes the hook as CodeDeploy does, in the time that the stack gives it.
func (r *region) release() error {
	r.t.Helper()
	cfg, err := config.LoadPreflight(func(variable string) (string, bool) {
		value, ok := map[string]string{
			topology.ProfileVariable: string(r.topology.Profile), topology.TriedVersionVariable: version, topology.TriedFunctionVariable: string(r.tried),
		}[variable]
		return value, ok
	})
	if err != nil {
		r.t.Fatal(err)
	}
	h, err := hook.Handler(cfg, r.account, slog.New(slog.NewTextHandler(&r.log, nil)))
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), topology.PreflightOf(cfg.Tried).Timeout)
	defer cancel()
	_, err = h.Invoke(ctx, []byte(event))
	return err
}

// rows reads a table.
func (r *region) rows(name topology.TableName) []map[string]types.AttributeValue {
	r.t.Helper()
	out, err := dynamodb.NewFromConfig(r.account).Scan(r.t.Context(), &dynamodb.ScanInput{TableName: aws.String(string(name)), ConsistentRead: aws.Bool(true)})
	if err != nil {
		r.t.Fatal(err)
	}
	return out.Items
}

// messages counts what lies on a queue, delayed or not.
func (r *region) messages(name topology.QueueName) int {
	r.t.Helper()
	out, err := awssqs.NewFromConfig(r.account).GetQueueAttributes(r.t.Context(), &awssqs.GetQueueAttributesInput{
		QueueUrl: aws.String(r.urls[name]), AttributeNames: []sqstypes.QueueAttributeName{"All"},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	total := 0
	for _, attribute := range []string{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed", "ApproximateNumberOfMessagesNotVisible"} {
		n, err := strconv.Atoi(out.Attributes[attribute])
		if err != nil {
			r.t.Fatal(err)
		}
		total += n
	}
	return total
}

// A version that works passes, twice in a row, and leaves nothing behind but waybills that expire.
func TestGoodVersionPasses(t *testing.T) {
	everything, err := registry.Parse([]byte(`{"destinations":[{"id":"all","tenant":"*","type":"webhook","webhook":{"url":"http://127.0.0.1:1/","secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}}]}`), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []topology.FunctionName{topology.Router, topology.Deliverer, topology.SlowLane, topology.Waker} {
		for what, destinations := range map[string]*registry.Set{"nothing applied": nil, "a destination that wants everything": everything} {
			t.Run(string(name)+", "+what, func(t *testing.T) {
				inRegion(t, name, func(t *testing.T, r *region) {
					r.handler = r.function(destinations)
					for range 2 {
						if err := r.release(); err != nil {
							t.Error(err)
						}
						time.Sleep(time.Minute)
					}
					if !slices.Equal(r.statuses, []string{"Succeeded", "Succeeded"}) {
						t.Fatalf("told %v\n%s", r.statuses, r.log.text.String())
					}
					r.mustBeClean(name)
				})
			})
		}
	}
}

func (r *region) mustBeClean(name topology.FunctionName) {
	r.t.Helper()
	for _, q := range r.topology.Queues {
		if n := r.messages(q.Name); n != 0 {
			r.t.Errorf("%d messages on %s", n, q.Name)
		}
	}
	if name == topology.Waker {
		return // its run is one like any other
	}
	if got := r.metrics.String(); got != "" {
		r.t.Errorf("it counted: %s", got)
	}
	for _, table := range r.topology.Tables {
		rows := r.rows(table.Name)
		if table.Name != topology.Ledger {
			if len(rows) != 0 {
				r.t.Errorf("%s holds %v", table.Name, rows)
			}
			continue
		}
		if want := map[topology.FunctionName]int{topology.Deliverer: 2 * 5, topology.SlowLane: 2 * 5}[name]; len(rows) != want {
			r.t.Errorf("%d waybills, want %d", len(rows), want)
		}
		for _, row := range rows {
			expires, _ := row["expiresAt"].(*types.AttributeValueMemberN)
			if expires == nil {
				r.t.Errorf("a waybill stays for ever: %v", row)
			} else if at, _ := strconv.ParseInt(expires.Value, 10, 64); time.Unix(at, 0).After(time.Now().Add(time.Hour)) {
				r.t.Errorf("a waybill stays until %v", time.Unix(at, 0))
			}
		}
	}
}

// handlerFunc is a version in short.
type handlerFunc func(ctx context.Context, payload []byte) ([]byte, error)

func (f handlerFunc) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	return f(ctx, payload)
}

func TestBadVersionFails(t *testing.T) {
	denied := &wire.Error{Code: "AccessDeniedException", Message: "User is not authorized to perform this"}
	deny := func(service, operation string, table topology.TableName) func(*region) {
		return func(r *region) {
			fault := awslocal.Fault{Service: service, Operation: operation, Error: denied}
			if table != "" {
				fault.Match = func(body []byte) bool {
					return bytes.Contains(body, []byte(`"`+string(table)+`"`)) || bytes.Contains(body, []byte(`\"`+string(table)+`\"`))
				}
			}
			r.endpoint.Faults().Add(fault)
		}
	}
	answer := func(text string) func(*region) {
		return func(r *region) {
			r.handler = handlerFunc(func(context.Context, []byte) ([]byte, error) { return []byte(text), nil })
		}
	}
	for name, test := range map[string]struct {
		of    topology.FunctionName
		plant func(*region)
		says  string // in a log
	}{
		"panics": {topology.Deliverer, func(r *region) {
			r.handler = handlerFunc(func(context.Context, []byte) ([]byte, error) { panic("nil map") })
		}, "panic: nil map"},
		"times out": {topology.Deliverer, func(r *region) {
			r.handler = handlerFunc(func(ctx context.Context, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
		}, "Task timed out after 60.00 seconds"},
		"ends in an error": {topology.Waker, func(r *region) {
			r.handler = handlerFunc(func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no table") })
		}, "no table"},
		"returns an item":     {topology.Router, answer(`{"batchItemFailures":[{"itemIdentifier":"event-1"}]}`), `event-1`},
		"answers null":        {topology.Router, answer(`null`), "no list batchItemFailures"},
		"answers a null list": {topology.Router, answer(`{"batchItemFailures":null}`), "no list batchItemFailures"},
		"answers no JSON":     {topology.Waker, answer(`done`), "is no JSON"},

		"deliverer may not claim":             {topology.Deliverer, deny("dynamodb", "BatchExecuteStatement", ""), "the ledger refuses batches"},
		"deliverer may not write the ledger":  {topology.Deliverer, deny("dynamodb", "", topology.Ledger), "came out otherwise"},
		"deliverer may not release":           {topology.Deliverer, deny("dynamodb", "UpdateItem", topology.Ledger), "release"},
		"deliverer may not read the registry": {topology.Deliverer, deny("dynamodb", "Query", topology.Registry), "came out otherwise"},
		"deliverer cannot settle": {topology.Deliverer, func(r *region) {
			r.endpoint.Faults().Add(awslocal.Fault{
				Service: "dynamodb", Operation: "BatchExecuteStatement", Match: func(body []byte) bool { return bytes.Contains(body, []byte("UPDATE")) }, Throttle: true,
			})
		}, "messages were sent that are none of the rehearsal's"},
		"deliverer may not park":           {topology.Deliverer, deny("dynamodb", "BatchWriteItem", topology.Waiting), "postponed-"},
		"deliverer may not send":           {topology.Deliverer, deny("sqs", "SendMessageBatch", ""), "queue deliveries cannot be sent to"},
		"router may not read the registry": {topology.Router, deny("dynamodb", "Query", topology.Registry), "came out otherwise"},
		"router may not send":              {topology.Router, deny("sqs", "SendMessageBatch", ""), "queue ingress cannot be sent to"},
		"waker may not read":               {topology.Waker, deny("dynamodb", "Query", topology.Waiting), "could not"},
	} {
		t.Run(name, func(t *testing.T) {
			inRegion(t, test.of, func(t *testing.T, r *region) {
				test.plant(r)
				if err := r.release(); err != nil {
					t.Error(err)
				}
				if !slices.Equal(r.statuses, []string{"Failed"}) {
					t.Errorf("told %v", r.statuses)
				}
				if got := r.log.text.String(); !strings.Contains(got, test.says) {
					t.Errorf("no log says %q:\n%s", test.says, got)
				}
			})
		})
	}
}

// What a version does with each record is compared with what it must do: here the version is right, and the records ask for something else.
func TestWrongFateFails(t *testing.T) {
	for name, test := range map[string]struct{ record, fate string }{
		"a newer message is not deferred":     {fmt.Sprintf("v%d-", delivery.Version+1), "refused"},
		"a newer message is worked on":        {fmt.Sprintf("v%d-", delivery.Version+1), "done"},
		"a message of ours is not worked on":  {"current-", "deferred"},
		"an older message is dead-lettered":   {"v1-first-", "refused"},
		"what is malformed is worked on":      {"malformed-", "done"},
		"a claim is not released and put off": {"unstarted-", "done"},
	} {
		t.Run(name, func(t *testing.T) {
			inRegion(t, topology.Deliverer, func(t *testing.T, r *region) {
				right := r.handler
				r.handler = handlerFunc(func(ctx context.Context, payload []byte) ([]byte, error) {
					var e lambdaevents.SQSEvent
					if err := json.Unmarshal(payload, &e); err != nil {
						return nil, err
					}
					for i := range e.Records {
						if strings.HasPrefix(e.Records[i].MessageId, test.record) {
							e.Records[i].Attributes[rehearsal.Mark] = test.fate
						}
					}
					changed, err := json.Marshal(e)
					if err != nil {
						return nil, err
					}
					return right.Invoke(ctx, changed)
				})
				if err := r.release(); err != nil {
					t.Error(err)
				}
				if got := r.log.text.String(); !slices.Equal(r.statuses, []string{"Failed"}) || !strings.Contains(got, test.record) {
					t.Errorf("told %v\n%s", r.statuses, got)
				}
			})
		})
	}
}

// A permission that was just given is not known everywhere at once; what never comes fails in time for CodeDeploy to be told.
func TestRefusedInvocationsAreRepeated(t *testing.T) {
	const denied, throttled, broken = "AccessDeniedException 403", "TooManyRequestsException 429", "ServiceException 500"
	for name, test := range map[string]struct {
		refusals []string
		want     string
		most     time.Duration
	}{
		"for a while": {[]string{denied, denied, throttled, broken}, "Succeeded", time.Minute},
		"for ever":    {slices.Repeat([]string{denied}, 1000), "Failed", topology.PreflightPatience + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inRegion(t, topology.Router, func(t *testing.T, r *region) {
				r.refusals = test.refusals
				began := time.Now()
				if err := r.release(); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); !slices.Equal(r.statuses, []string{test.want}) || took > test.most || r.invoked < 5 {
					t.Errorf("told %v after %d invocations in %v\n%s", r.statuses, r.invoked, took, r.log.text.String())
				}
			})
		})
	}
}

// CodeDeploy hears of a version that never answers while there is time to tell it.
func TestSilenceFailsInTime(t *testing.T) {
	inRegion(t, topology.Deliverer, func(t *testing.T, r *region) {
		r.refusals = []string{silence}
		if err := r.release(); err != nil || !slices.Equal(r.statuses, []string{"Failed"}) {
			t.Errorf("%v, told %v", err, r.statuses)
		}
	})
}

// CodeDeploy is told again where it may pass; that it knows already is no failure, and that it cannot be told is one.
func TestCodeDeployIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		unheard []string
		told    int
		fails   bool
	}{
		"throttled for a moment": {[]string{"ThrottlingException"}, 1, false},
		"told before":            {[]string{"LifecycleEventAlreadyCompletedException"}, 0, false},
		"never":                  {slices.Repeat([]string{"AccessDeniedException"}, 100), 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			inRegion(t, topology.Router, func(t *testing.T, r *region) {
				r.unheard = test.unheard
				if err := r.release(); (err != nil) != test.fails || len(r.statuses) != test.told {
					t.Errorf("%v, told %v", err, r.statuses)
				}
			})
		})
	}
}

func TestOnlyCodeDeployInvokesTheHook(t *testing.T) {
	inRegion(t, topology.Router, func(t *testing.T, r *region) {
		cfg := config.Preflight{Tried: r.topology.Functions[0], Version: version}
		h, err := hook.Handler(cfg, r.account, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Invoke(t.Context(), []byte(`{}`)); err == nil || r.invoked != 0 {
			t.Errorf("%v after %d invocations", err, r.invoked)
		}
	})
}

// Whoever may send to a queue can use every reserved name; the event source is written by Lambda. Such messages are worked on like any others.
func TestReservedNamesInMessagesMeanNothing(t *testing.T) {
	for _, name := range []topology.FunctionName{topology.Router, topology.Deliverer} {
		t.Run(string(name), func(t *testing.T) {
			inRegion(t, name, func(t *testing.T, r *region) {
				tried, _ := r.topology.Function(name)
				payload, err := rehearsal.Payload(tried, "1", time.Now())
				if err != nil {
					t.Fatal(err)
				}
				var e lambdaevents.SQSEvent
				if err := json.Unmarshal(payload, &e); err != nil {
					t.Fatal(err)
				}
				r.handler = r.function(&registry.Set{})
				for i := range e.Records {
					m := &e.Records[i]
					m.EventSource, m.EventSourceARN = "aws:sqs", "arn:aws:sqs:us-east-1:000000000000:"+string(tried.Source.Queue)
					m.MessageAttributes = map[string]lambdaevents.SQSMessageAttribute{
						"eventSource": {DataType: "String", StringValue: aws.String(rehearsal.Mark)}, rehearsal.Mark: {DataType: "String", StringValue: aws.String("done")},
					}
				}
				payload, err = json.Marshal(e)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), tried.Timeout)
				defer cancel()
				if _, err := r.handler.Invoke(ctx, payload); err != nil {
					t.Fatal(err)
				}
				// Malformed ones, and deliveries to a destination that is none.
				source, _ := r.topology.Queue(tried.Source.Queue)
				if got, want := r.messages(source.DeadLetter), map[topology.FunctionName]int{topology.Router: 1, topology.Deliverer: 6}[name]; got != want {
					t.Errorf("%d dead letters, want %d", got, want)
				}
				if r.metrics.Len() == 0 {
					t.Error("nothing was counted")
				}
				e.Records[0].EventSource = rehearsal.Mark
				if payload, err = json.Marshal(e); err != nil {
					t.Fatal(err)
				}
				if _, err := r.handler.Invoke(ctx, payload); err == nil {
					t.Error("a batch that is a rehearsal in part was worked on")
				}
			})
		})
	}
}
