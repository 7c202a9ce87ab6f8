package awslocal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// inMemory gives an endpoint with a queue "orders", and the AWS SDK on it, for a synctest bubble.
func inMemory(t *testing.T, opts awslocal.Options, attempts int) (*awslocal.Endpoint, *sdk.Client, *sqs.Queue) {
	t.Helper()
	service := sqs.New(sqs.Options{Seed: 1})
	q, err := service.CreateQueue("orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	e := awslocal.New(opts, service)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e, sdk.New(sdk.Options{
		BaseEndpoint: aws.String("http://awslocal"), HTTPClient: e.Client(), Region: awslocal.Region,
		Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""), RetryMaxAttempts: attempts,
	}), q
}

func errorCode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func sendOne(c *sdk.Client, q *sqs.Queue) error {
	_, err := c.SendMessage(context.Background(), &sdk.SendMessageInput{QueueUrl: aws.String(q.URL()), MessageBody: aws.String("x")})
	return err
}

func TestLongPollInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, q := inMemory(t, awslocal.Options{}, 1)
		receive := func(ctx context.Context) (int, time.Duration, error) {
			start := time.Now()
			out, err := c.ReceiveMessage(ctx, &sdk.ReceiveMessageInput{QueueUrl: aws.String(q.URL()), WaitTimeSeconds: 20})
			if err != nil {
				return 0, time.Since(start), err
			}
			return len(out.Messages), time.Since(start), nil
		}
		if n, took, err := receive(t.Context()); n != 0 || took != 20*time.Second || err != nil {
			t.Errorf("empty queue: %d messages after %v, %v; want none after 20s", n, took, err)
		}
		go func() {
			time.Sleep(7 * time.Second)
			if err := sendOne(c, q); err != nil {
				t.Error(err)
			}
		}()
		if n, took, err := receive(t.Context()); n != 1 || took != 7*time.Second || err != nil {
			t.Errorf("a message after 7s: %d messages after %v, %v", n, took, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, took, err := receive(ctx); took != 3*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("caller gives up after 3s: %v after %v", err, took)
		}
		synctest.Wait() // the server has noticed by now: the next message is for the next caller
		if err := sendOne(c, q); err != nil {
			t.Fatal(err)
		}
		if n, _, err := receive(t.Context()); n != 1 || err != nil {
			t.Errorf("after a caller left: %d messages, %v", n, err)
		}
	})
}

func TestFaults(t *testing.T) {
	refusal := &wire.Error{Code: "KmsThrottled", Message: "planted", Status: 400}
	for _, row := range []struct {
		name  string
		fault awslocal.Fault
		calls int      // SendMessage calls, one SDK attempt each
		codes []string // what the caller sees of each; "" is success, "cut" no answer
		inQ   int
		took  time.Duration
	}{
		{"none", awslocal.Fault{Operation: "ReceiveMessage", Throttle: true}, 2, []string{"", ""}, 2, 0},
		{"error, not performed", awslocal.Fault{Error: refusal}, 2, []string{"KmsThrottled", "KmsThrottled"}, 0, 0},
		{"throttle, for a time", awslocal.Fault{Service: "sqs", Operation: "SendMessage", Throttle: true, Skip: 1, Times: 2}, 4, []string{"", "RequestThrottled", "RequestThrottled", ""}, 2, 0},
		{"another service", awslocal.Fault{Service: "dynamodb", Throttle: true}, 1, []string{""}, 1, 0},
		{"no match", awslocal.Fault{Throttle: true, Match: func(b []byte) bool { return bytes.Contains(b, []byte("other")) }}, 1, []string{""}, 1, 0},
		{"match", awslocal.Fault{Throttle: true, Match: func(b []byte) bool { return bytes.Contains(b, []byte(`"MessageBody":"x"`)) }}, 1, []string{"RequestThrottled"}, 0, 0},
		{"delay", awslocal.Fault{Delay: 5 * time.Second}, 1, []string{""}, 1, 5 * time.Second},
		{"duplicate", awslocal.Fault{Duplicate: true, Times: 1}, 2, []string{"", ""}, 3, 0},
		{"answer withheld, performed", awslocal.Fault{WithholdAnswer: true, Times: 1}, 2, []string{"cut", ""}, 2, 0},
		{"request rewritten", awslocal.Fault{RewriteRequest: func([]byte) []byte { return []byte("{}") }}, 1, []string{"MissingParameter"}, 0, 0},
		{"answer rewritten", awslocal.Fault{RewriteResponse: func([]byte) []byte { return []byte(`{"MD5OfMessageBody":"wrong"}`) }}, 1, []string{"cut"}, 1, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, c, q := inMemory(t, awslocal.Options{}, 1)
				planted := e.Faults().Add(row.fault)
				start := time.Now()
				for i := range row.calls {
					err := sendOne(c, q)
					got := errorCode(err)
					if got == "" && err != nil {
						got = "cut"
					}
					if got != row.codes[i] {
						t.Errorf("call %d: %q (%v), want %q", i+1, got, err, row.codes[i])
					}
				}
				if took := time.Since(start); took != row.took {
					t.Errorf("took %v, want %v", took, row.took)
				}
				if n := q.Depth().Total(); n != row.inQ {
					t.Errorf("%d messages in the queue, want %d", n, row.inQ)
				}
				hits := planted.Hits()
				planted.Remove()
				if err := sendOne(c, q); err != nil || planted.Hits() != hits {
					t.Errorf("after removal: %v", err)
				}
			})
		})
	}
}

// TestFaultsTellOfACall: before it has an effect and after, with its caller, and other callers are spared.
func TestFaultsTellOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, q := inMemory(t, awslocal.Options{}, 1)
		var story []string
		note := func(when string) func(awslocal.Call) {
			return func(call awslocal.Call) {
				story = append(story, fmt.Sprintf("%s %s by %s: %d messages, answer %t", when, call.Operation, call.Caller, q.Depth().Total(), call.Response != nil))
			}
		}
		by := func(key string) func(string) bool { return func(caller string) bool { return caller == key } }
		e.Faults().Add(awslocal.Fault{From: by("any"), Before: note("before"), After: note("after")})
		e.Faults().Add(awslocal.Fault{From: by("somebody else"), Throttle: true})
		if err := sendOne(c, q); err != nil {
			t.Fatal(err)
		}
		want := []string{"before SendMessage by any: 0 messages, answer false", "after SendMessage by any: 1 messages, answer true"}
		if !slices.Equal(story, want) {
			t.Errorf("%q", story)
		}
	})
}

func TestSDKRetriesThroughFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, q := inMemory(t, awslocal.Options{}, 5)
		e.Faults().Add(awslocal.Fault{Throttle: true, Times: 2})
		e.Faults().Add(awslocal.Fault{WithholdAnswer: true, Skip: 2, Times: 1})
		if err := sendOne(c, q); err != nil {
			t.Fatal(err)
		}
		if n := q.Depth().Total(); n != 2 {
			t.Errorf("%d messages; want 2, one from the call whose answer was lost", n)
		}
		e.Faults().Clear()
		want := awslocal.Tally{Attempted: 4, Refused: 2, Withheld: 1}
		if got := e.Counts()[awslocal.Op{Service: "sqs", Name: "SendMessage"}]; got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

// costly is a service that tells a price.
type costly struct{}

func (costly) Name() string { return "dynamodb" }

func (costly) Do(_ context.Context, op string, _ []byte) (wire.Response, error) {
	switch op {
	case "PutItem":
		return wire.Response{Units: wire.Units{Write: 2}}, nil
	case "GetItem":
		return wire.Response{Units: wire.Units{Read: 0.5}}, nil
	case "UpdateItem":
		return wire.Response{}, &wire.Error{Code: "ConditionalCheckFailedException", Message: "no", Units: wire.Units{Write: 1}, Fields: map[string]any{"Item": map[string]any{"a": map[string]string{"S": "b"}}}}
	case "DeleteItem":
		return wire.Response{}, errors.New("broken")
	}
	return wire.Response{}, wire.UnknownOperation("dynamodb", op)
}

func post(h http.Handler, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("X-Amz-Target", target)
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestCountsAndObserver(t *testing.T) {
	var observed []string
	e := awslocal.New(awslocal.Options{Observe: func(c awslocal.Call) {
		outcome := string(c.Response)
		if c.Err != nil {
			outcome = c.Err.Code
		}
		observed = append(observed, c.Service+" "+c.Operation+" "+string(c.Request)+" "+outcome)
	}}, costly{})
	post(e, "DynamoDB_20120810.PutItem", "{}")
	before := e.Counts()
	for _, op := range []string{"PutItem", "PutItem", "GetItem", "UpdateItem", "Dance", "Sing"} {
		post(e, "DynamoDB_20120810."+op, `{"n":1}`)
	}
	e.Faults().Add(awslocal.Fault{Throttle: true})
	post(e, "DynamoDB_20120810.GetItem", "{}")
	e.Faults().Clear()
	e.Faults().Add(awslocal.Fault{Duplicate: true})
	post(e, "DynamoDB_20120810.GetItem", "{}")
	got := e.Counts().Since(before)
	for name, want := range map[string]awslocal.Tally{
		"PutItem":          {Attempted: 2, Units: wire.Units{Write: 4}},
		"GetItem":          {Attempted: 3, Refused: 1, Units: wire.Units{Read: 1.5}},
		"UpdateItem":       {Attempted: 1, Refused: 1, Units: wire.Units{Write: 1}},
		awslocal.UnknownOp: {Attempted: 2, Refused: 2},
	} {
		if tally := got[awslocal.Op{Service: "dynamodb", Name: name}]; tally != want {
			t.Errorf("%s: %+v, want %+v", name, tally, want)
		}
	}
	if total := got.Total("dynamodb"); total != (awslocal.Tally{Attempted: 8, Refused: 4, Units: wire.Units{Read: 1.5, Write: 5}}) || total != got.Total("") || got.Total("sqs") != (awslocal.Tally{}) {
		t.Errorf("total %+v", total)
	}
	if len(observed) != 9 || observed[3] != `dynamodb GetItem {"n":1} {}` || observed[4] != `dynamodb UpdateItem {"n":1} ConditionalCheckFailedException` {
		t.Errorf("observed %q", observed)
	}
}

func TestErrorDocuments(t *testing.T) {
	e := awslocal.New(awslocal.Options{MaxBodyBytes: 1000}, costly{}, sqs.New(sqs.Options{}))
	for _, row := range []struct {
		name, target, body string
		status             int
		contains           []string
		queryError         string
	}{
		{"fields of a refusal", "DynamoDB_20120810.UpdateItem", "{}", 400, []string{`"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"`, `"Item":{"a":{"S":"b"}}`, `"message":"no"`}, ""},
		{"a failure inside", "DynamoDB_20120810.DeleteItem", "{}", 500, []string{"#InternalServerError"}, ""},
		{"an unknown operation", "DynamoDB_20120810.Dance", "{}", 400, []string{"com.amazon.coral.service#UnknownOperationException", "Dance"}, ""},
		{"an unknown service", "Kinesis_20131202.PutRecord", "{}", 400, []string{"UnknownOperationException", "Kinesis_20131202.PutRecord"}, ""},
		{"the legacy code", "AmazonSQS.GetQueueUrl", `{"QueueName":"nobody"}`, 400, []string{"com.amazonaws.sqs#QueueDoesNotExist"}, "AWS.SimpleQueueService.NonExistentQueue;Sender"},
		{"no JSON", "AmazonSQS.SendMessage", `{"QueueUrl":`, 400, []string{"#SerializationException"}, "SerializationException;Sender"},
		{"null", "AmazonSQS.SendMessage", `null`, 400, []string{"#SerializationException"}, "SerializationException;Sender"},
		{"a wrong type", "AmazonSQS.SendMessage", `{"DelaySeconds":"5"}`, 400, []string{"#SerializationException", "DelaySeconds"}, "SerializationException;Sender"},
		{"not UTF-8", "AmazonSQS.SendMessage", "{\"MessageBody\":\"\xff\"}", 400, []string{"#SerializationException"}, "SerializationException;Sender"},
		{"half a surrogate pair", "AmazonSQS.SendMessage", `{"MessageBody":"\uD83D"}`, 400, []string{"#InvalidMessageContents"}, "InvalidMessageContents;Sender"},
		{"a whole surrogate pair", "AmazonSQS.SendMessage", `{"MessageBody":"\\uD83D \uD83D\uDE00"}`, 400, []string{"#MissingRequiredParameterException"}, "MissingParameter;Sender"},
		{"names in another case", "AmazonSQS.GetQueueUrl", `{"queueName":"nobody"}`, 400, []string{"#MissingRequiredParameterException"}, "MissingParameter;Sender"},
		{"too large", "AmazonSQS.SendMessage", strings.Repeat(" ", 1001), 413, []string{"RequestEntityTooLarge"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := post(e, row.target, row.body)
			if w.Code != row.status || w.Header().Get("Content-Type") != "application/x-amz-json-1.0" || w.Header().Get("X-Amzn-Requestid") == "" {
				t.Errorf("status %d, headers %v", w.Code, w.Header())
			}
			for _, want := range row.contains {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("%s lacks %s", w.Body, want)
				}
			}
			if got := w.Header().Get("X-Amzn-Query-Error"); got != row.queryError {
				t.Errorf("x-amzn-query-error %q, want %q", got, row.queryError)
			}
		})
	}
}

func TestOtherProtocolsAreRefusedByName(t *testing.T) {
	e := awslocal.New(awslocal.Options{}, sqs.New(sqs.Options{}))
	for name, header := range map[string][2]string{
		"CBOR": {"Smithy-Protocol", "rpc-v2-cbor"}, "application/cbor": {"Content-Type", "application/cbor"}, "nothing": {"X-Nothing", ""},
	} {
		r := httptest.NewRequest(http.MethodPost, "/service/AmazonSQS/operation/SendMessage", nil)
		r.Header.Set(header[0], header[1])
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code != 400 || name != "nothing" && !strings.Contains(w.Body.String(), "does not speak CBOR") || !strings.Contains(w.Body.String(), "__type") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestPortInUse(t *testing.T) {
	l, err := awslocal.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	err = awslocal.New(awslocal.Options{}).ListenAndServe(l.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "choose another port") || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestCloseEndsWhatIsServed(t *testing.T) {
	l, err := awslocal.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service := sqs.New(sqs.Options{})
	if _, err := service.CreateQueue("orders", nil); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan struct{})
	e := awslocal.New(awslocal.Options{}, service)
	e.Faults().Add(awslocal.Fault{Match: func([]byte) bool { close(waiting); return true }})
	var done sync.WaitGroup
	done.Go(func() {
		if err := e.Serve(l); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	done.Go(func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+l.Addr().String(),
			strings.NewReader(`{"QueueUrl":"http://x/000000000000/orders","WaitTimeSeconds":20}`))
		if err != nil {
			t.Error(err)
			return
		}
		r.Header.Set("X-Amz-Target", "AmazonSQS.ReceiveMessage")
		if resp, err := http.DefaultClient.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
	<-waiting
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	done.Wait()
	if _, err := e.Dial(t.Context()); err == nil {
		t.Error("dialled a closed endpoint")
	}
}

func TestTraceHeaderOfTheRequest(t *testing.T) {
	service := sqs.New(sqs.Options{})
	q, err := service.CreateQueue("orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	e := awslocal.New(awslocal.Options{}, service)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"QueueUrl":"`+q.URL()+`","MessageBody":"x"}`))
	r.Header.Set("X-Amz-Target", "AmazonSQS.SendMessage")
	r.Header.Set("X-Amzn-Trace-Id", "Root=1-a-b")
	e.ServeHTTP(httptest.NewRecorder(), r)
	if got := q.Snapshot(); len(got) != 1 || got[0].Attributes["AWSTraceHeader"] != "Root=1-a-b" {
		t.Errorf("%+v", got)
	}
}
