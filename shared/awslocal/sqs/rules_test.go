package sqs_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

// world is what a row of the table has: the AWS SDK on an endpoint, and a test to fail.
type world struct {
	*testing.T
	c    *sdk.Client
	name string // unlike that of any other row or run
}

// client gives the AWS SDK on an endpoint.
func client(endpoint string, over aws.HTTPClient) *sdk.Client {
	return sdk.New(sdk.Options{
		BaseEndpoint:     aws.String(endpoint),
		HTTPClient:       over,
		Region:           "us-east-1",
		Credentials:      credentials.NewStaticCredentialsProvider("any", "thing", ""),
		RetryMaxAttempts: 1,
	})
}

// serve gives the URL of a new endpoint on TCP.
func serve(t testing.TB) string {
	t.Helper()
	l, err := awslocal.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + l.Addr().String()
	e := awslocal.New(awslocal.Options{}, sqs.New(sqs.Options{BaseURL: endpoint}))
	t.Cleanup(func() { _ = e.Close() })
	go func() { _ = e.Serve(l) }()
	return endpoint
}

// TestRules holds the service to one rule of Amazon SQS a row, over TCP. Rows about time are left to
// TestRulesInVirtualTime. With AWSLOCAL_ENDPOINT=http://… all rows ask that endpoint instead.
func TestRules(t *testing.T) {
	t.Parallel()
	endpoint := os.Getenv("AWSLOCAL_ENDPOINT")
	other := endpoint != ""
	if !other {
		endpoint = serve(t)
	}
	c := client(endpoint, nil)
	var rows sync.WaitGroup // rather than t.Parallel: many rows wait, few work
	for _, row := range rules {
		if other || !timed[row.name] {
			rows.Go(func() {
				t.Run(row.name, func(t *testing.T) { row.holds(world{t, c, "r" + rand.Text()[:20]}) })
			})
		}
	}
	rows.Wait()
}

// TestRulesInVirtualTime runs the same table over in-memory connections, with a clock that waits for nobody.
func TestRulesInVirtualTime(t *testing.T) {
	for _, row := range rules {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := awslocal.New(awslocal.Options{}, sqs.New(sqs.Options{}))
				defer func() { _ = e.Close() }()
				row.holds(world{t, client("http://awslocal", e.Client()), "row"})
			})
		})
	}
}

// timed are the rows that a busy machine could fail on a real clock.
var timed = map[string]bool{
	"a delayed message wakes a long poll when it is due":                        true,
	"a received message is hidden, and comes back after its visibility timeout": true,
	"a long poll wakes when a message arrives":                                  true,
	"changing visibility counts from the change and is not remembered":          true,
	"a deleted message is gone":                                                 true,
	"visibility is at most 12 hours":                                            true,
}

type attrs = map[string]string

var rules = []struct {
	name  string
	holds func(w world)
}{
	{"create gives a URL that ends with the name", func(w world) {
		if q := w.queue(nil); !strings.HasSuffix(q, "/"+w.name) {
			w.Fatalf("URL %s", q)
		}
	}},
	{"create is idempotent with the same attributes", func(w world) {
		if a, b := w.queue(attrs{"DelaySeconds": "5"}), w.queue(attrs{"DelaySeconds": "5"}); a != b {
			w.Fatalf("%s and %s", a, b)
		}
	}},
	{"create with another attribute value is refused", func(w world) {
		w.queue(attrs{"DelaySeconds": "5"})
		_, err := w.create(w.name, attrs{"DelaySeconds": "6"})
		w.refused(err, "QueueAlreadyExists")
	}},
	{"queue names have letters, digits, hyphens and underscores", func(w world) {
		_, err := w.create("no spaces", nil)
		w.refused(err, "InvalidParameterValue")
	}},
	{"queue names have at most 80 characters", func(w world) {
		_, err := w.create(strings.Repeat("x", 81), nil)
		w.refused(err, "InvalidParameterValue")
	}},
	{"a name that ends with .fifo needs FifoQueue", func(w world) {
		_, err := w.create(w.name+".fifo", nil)
		w.refused(err, "InvalidParameterValue")
	}},
	{"FifoQueue needs a name that ends with .fifo", func(w world) {
		_, err := w.create(w.name, attrs{"FifoQueue": "true"})
		w.refused(err, "InvalidParameterValue")
	}},
	{"an unknown attribute is refused", func(w world) {
		_, err := w.create(w.name, attrs{"Colour": "red"})
		w.refused(err, "InvalidAttributeName")
	}},
	{"FIFO attributes are unknown to a standard queue", func(w world) {
		_, err := w.create(w.name, attrs{"ContentBasedDeduplication": "true"})
		w.refused(err, "InvalidAttributeName")
	}},
	{"attribute values have ranges", func(w world) {
		for name, value := range map[string]string{
			"DelaySeconds": "901", "VisibilityTimeout": "43201", "MessageRetentionPeriod": "59", "MaximumMessageSize": "1048577",
			"ReceiveMessageWaitTimeSeconds": "21", "SqsManagedSseEnabled": "perhaps", "KmsDataKeyReusePeriodSeconds": "59",
		} {
			_, err := w.create(w.name, attrs{name: value})
			w.refused(err, "InvalidAttributeValue")
		}
	}},
	{"a queue that does not exist is refused", func(w world) {
		_, err := w.send(w.elsewhere(w.queue(nil), "nobody"), "x")
		w.refused(err, "NonExistentQueue")
		var typed *types.QueueDoesNotExist
		if !errors.As(err, &typed) {
			w.Errorf("error has type %T, want QueueDoesNotExist", err)
		}
	}},
	{"a queue URL must be a URL", func(w world) {
		_, err := w.send("nonsense", "x")
		w.refused(err, "InvalidAddress")
	}},
	{"get queue URL finds by name", func(w world) {
		q := w.queue(nil)
		out, err := w.c.GetQueueUrl(w.Context(), &sdk.GetQueueUrlInput{QueueName: &w.name})
		if w.ok(err); *out.QueueUrl != q {
			w.Fatalf("%s, want %s", *out.QueueUrl, q)
		}
	}},
	{"get queue URL of an unknown name is refused", func(w world) {
		_, err := w.c.GetQueueUrl(w.Context(), &sdk.GetQueueUrlInput{QueueName: &w.name})
		w.refused(err, "NonExistentQueue")
	}},
	{"list queues pages by prefix", func(w world) {
		for _, suffix := range []string{"-a", "-b", "-c"} {
			_, err := w.create(w.name+suffix, nil)
			w.ok(err)
		}
		pages := sdk.NewListQueuesPaginator(w.c, &sdk.ListQueuesInput{QueueNamePrefix: &w.name, MaxResults: aws.Int32(2)})
		var sizes []int
		for pages.HasMorePages() {
			page, err := pages.NextPage(w.Context())
			w.ok(err)
			sizes = append(sizes, len(page.QueueUrls))
		}
		if !slices.Equal(sizes, []int{2, 1}) {
			w.Fatalf("page sizes %v, want [2 1]", sizes)
		}
	}},
	{"deleting a queue ends it, and its name cannot be used for 60 seconds", func(w world) {
		q := w.queue(nil)
		_, err := w.c.DeleteQueue(w.Context(), &sdk.DeleteQueueInput{QueueUrl: &q})
		w.ok(err)
		_, err = w.send(q, "x")
		w.refused(err, "NonExistentQueue")
		_, err = w.create(w.name, nil)
		w.refused(err, "QueueDeletedRecently")
	}},
	{"attributes have SQS's defaults", func(w world) {
		got := w.attributes(w.queue(nil), "All")
		for name, want := range map[string]string{
			"VisibilityTimeout": "30", "MaximumMessageSize": "1048576", "MessageRetentionPeriod": "345600", "DelaySeconds": "0",
			"ReceiveMessageWaitTimeSeconds": "0", "ApproximateNumberOfMessages": "0", "ApproximateNumberOfMessagesNotVisible": "0",
			"ApproximateNumberOfMessagesDelayed": "0",
		} {
			if got[name] != want {
				w.Errorf("%s is %q, want %q", name, got[name], want)
			}
		}
		if !strings.HasPrefix(got["QueueArn"], "arn:aws:sqs:") || !strings.HasSuffix(got["QueueArn"], ":"+w.name) {
			w.Errorf("QueueArn %s", got["QueueArn"])
		}
	}},
	{"attributes come by name, unset ones not at all", func(w world) {
		got := w.attributes(w.queue(nil), "DelaySeconds", "RedrivePolicy")
		if !maps.Equal(got, attrs{"DelaySeconds": "0"}) {
			w.Fatalf("%v", got)
		}
	}},
	{"an unknown attribute cannot be read", func(w world) {
		q := w.queue(nil)
		_, err := w.c.GetQueueAttributes(w.Context(), &sdk.GetQueueAttributesInput{QueueUrl: &q, AttributeNames: []types.QueueAttributeName{"Colour"}})
		w.refused(err, "InvalidAttributeName")
	}},
	{"attributes can be set, all or none", func(w world) {
		q := w.queue(nil)
		w.ok(w.set(q, attrs{"VisibilityTimeout": "7"}))
		w.refused(w.set(q, attrs{"VisibilityTimeout": "8", "DelaySeconds": "-1"}), "InvalidAttributeValue")
		if got := w.attributes(q, "VisibilityTimeout")["VisibilityTimeout"]; got != "7" {
			w.Fatalf("VisibilityTimeout %s, want 7", got)
		}
	}},
	{"FifoQueue cannot be set later", func(w world) {
		w.refused(w.set(w.fifo(nil), attrs{"FifoQueue": "true"}), "InvalidAttributeName")
	}},
	{"send gives an id and the digest of the body", func(w world) {
		out, err := w.send(w.queue(nil), "hello")
		if w.ok(err); aws.ToString(out.MD5OfMessageBody) != "5d41402abc4b2a76b9719d911017c592" || len(*out.MessageId) != 36 {
			w.Fatalf("%+v", out)
		}
	}},
	{"a body comes out as it went in", func(w world) {
		body := "tab\tline\r\n<&>\" ünï 日本 \U0001F600  {\"n\":9007199254740993,\"m\":1.0}"
		q := w.queue(nil)
		w.sent(q, body)
		if got := w.receiveOne(q); *got.Body != body {
			w.Fatalf("%q", *got.Body)
		}
	}},
	{"a body must not be empty", func(w world) {
		_, err := w.send(w.queue(nil), "")
		w.refused(err, "MissingParameter")
	}},
	{"a body has only characters that XML allows", func(w world) {
		for _, bad := range []string{"\x00", "\x0b", "\x1f", "\uFFFE", "\uFFFF"} {
			_, err := w.send(w.queue(nil), "x"+bad)
			w.refused(err, "InvalidMessageContents")
		}
	}},
	{"a message of 1 MiB is accepted", func(w world) {
		q := w.queue(nil)
		w.sent(q, strings.Repeat("x", sqs.MaxMessageBytes))
		if got := w.receiveOne(q); len(*got.Body) != sqs.MaxMessageBytes {
			w.Fatalf("%d bytes", len(*got.Body))
		}
	}},
	{"a message of more than 1 MiB is refused", func(w world) {
		_, err := w.send(w.queue(nil), strings.Repeat("x", sqs.MaxMessageBytes+1))
		w.refused(err, "InvalidParameterValue")
	}},
	{"attribute names, types and values count towards 1 MiB", func(w world) {
		q := w.queue(nil)
		body := strings.Repeat("x", sqs.MaxMessageBytes-len("key")-len("String")-len("value"))
		_, err := w.send(q, body, text("key", "value"))
		w.ok(err)
		_, err = w.send(q, body+"x", text("key", "value"))
		w.refused(err, "InvalidParameterValue")
	}},
	{"a queue can have a smaller limit", func(w world) {
		_, err := w.send(w.queue(attrs{"MaximumMessageSize": "1024"}), strings.Repeat("x", 1025))
		w.refused(err, "InvalidParameterValue")
	}},
	{"the trace header costs no size", func(w world) {
		q := w.queue(attrs{"MaximumMessageSize": "1024"})
		out, err := w.send(q, strings.Repeat("x", 1024), trace("Root=1-5759e988-bd862e3fe1be46a994272793"))
		if w.ok(err); aws.ToString(out.MD5OfMessageSystemAttributes) == "" {
			w.Error("no digest of the system attributes")
		}
		if got := w.receiveOne(q).Attributes["AWSTraceHeader"]; got != "Root=1-5759e988-bd862e3fe1be46a994272793" {
			w.Errorf("trace header %q", got)
		}
	}},
	{"no other system attribute can be sent", func(w world) {
		_, err := w.send(w.queue(nil), "x", func(in *sdk.SendMessageInput) {
			in.MessageSystemAttributes = map[string]types.MessageSystemAttributeValue{"SenderId": {DataType: aws.String("String"), StringValue: aws.String("me")}}
		})
		w.refused(err, "InvalidParameterValue")
	}},
	{"ten attributes are accepted, with SQS's digest", func(w world) {
		q := w.queue(nil)
		var many []func(*sdk.SendMessageInput)
		for i := range 8 {
			many = append(many, text("a"+strconv.Itoa(i), "v"))
		}
		many = append(many, attribute("n", "Number.int", "12", nil), attribute("z", "Binary", "", []byte{0, 255}))
		out, err := w.send(q, "x", many...)
		w.ok(err)
		got := w.receiveOne(q)
		if len(got.MessageAttributes) != 10 || string(got.MessageAttributes["z"].BinaryValue) != "\x00\xff" || *got.MessageAttributes["n"].DataType != "Number.int" {
			w.Errorf("%v", got.MessageAttributes)
		}
		if aws.ToString(out.MD5OfMessageAttributes) != aws.ToString(got.MD5OfMessageAttributes) || aws.ToString(out.MD5OfMessageAttributes) == "" {
			w.Errorf("digests %v and %v", out.MD5OfMessageAttributes, got.MD5OfMessageAttributes)
		}
	}},
	{"the digest of attributes is the documented one", func(w world) {
		out, err := w.send(w.queue(nil), "x", text("key", "value")) // MD5 of 00000003"key"00000006"String"01 00000005"value"
		if w.ok(err); aws.ToString(out.MD5OfMessageAttributes) != digestOfKeyValue {
			w.Fatalf("%s, want %s", aws.ToString(out.MD5OfMessageAttributes), digestOfKeyValue)
		}
	}},
	{"eleven attributes are refused", func(w world) {
		var many []func(*sdk.SendMessageInput)
		for i := range 11 {
			many = append(many, text("a"+strconv.Itoa(i), "v"))
		}
		_, err := w.send(w.queue(nil), "x", many...)
		w.refused(err, "InvalidParameterValue")
	}},
	{"attribute names have rules", func(w world) {
		q := w.queue(nil)
		for _, bad := range []string{"two words", ".a", "a.", "a..b", "AWS.x", "amazon.x", strings.Repeat("n", 257), "ü"} {
			_, err := w.send(q, "x", text(bad, "v"))
			w.refused(err, "InvalidParameterValue")
		}
		_, err := w.send(q, "x", text("A-b_c.9", "v"), text(strings.Repeat("n", 256), "v"))
		w.ok(err)
	}},
	{"attribute types have rules", func(w world) {
		q := w.queue(nil)
		for _, bad := range []string{"Text", "string", "Stringy", "", "String." + strings.Repeat("x", 250)} {
			_, err := w.send(q, "x", attribute("a", bad, "v", nil))
			w.refused(err, "InvalidParameterValue")
		}
		_, err := w.send(q, "x", attribute("a", "String.custom", "v", nil))
		w.ok(err)
	}},
	{"attribute values must not be empty", func(w world) {
		_, err := w.send(w.queue(nil), "x", text("a", ""))
		w.refused(err, "InvalidParameterValue")
	}},
	{"attribute values fit their type", func(w world) {
		q := w.queue(nil)
		for _, bad := range []func(*sdk.SendMessageInput){
			attribute("a", "Number", "twelve", nil), attribute("a", "Number", "1e200", nil), attribute("a", "Number", strings.Repeat("9", 39), nil),
			attribute("a", "Binary", "text", nil), attribute("a", "String", "", []byte("b")), attribute("a", "String", "s", []byte("b")), attribute("a", "String", "\x00", nil),
		} {
			_, err := w.send(q, "x", bad)
			w.refused(err, "InvalidParameterValue")
		}
		_, err := w.send(q, "x", attribute("a", "Number", "-1.5e-3", nil), attribute("b", "Number", strings.Repeat("9", 38), nil))
		w.ok(err)
	}},
	{"attributes come only when asked for, by name or prefix, with a digest over those", func(w world) {
		q := w.queue(attrs{"VisibilityTimeout": "0"})
		_, err := w.send(q, "x", text("key", "value"), text("ce.id", "1"), text("ce.type", "t"))
		w.ok(err)
		for asked, want := range map[string]int{"": 0, "key": 1, "ce.*": 2, "All": 3, ".*": 3, "other": 0} {
			in := &sdk.ReceiveMessageInput{QueueUrl: &q, WaitTimeSeconds: 5}
			if asked != "" {
				in.MessageAttributeNames = []string{asked}
			}
			out, err := w.c.ReceiveMessage(w.Context(), in)
			if w.ok(err); len(out.Messages) != 1 || len(out.Messages[0].MessageAttributes) != want {
				w.Fatalf("asked for %q: %+v, want %d attributes", asked, out.Messages, want)
			}
			if asked == "key" && aws.ToString(out.Messages[0].MD5OfMessageAttributes) != digestOfKeyValue {
				w.Errorf("digest %s", aws.ToString(out.Messages[0].MD5OfMessageAttributes))
			}
			if want == 0 && out.Messages[0].MD5OfMessageAttributes != nil {
				w.Errorf("asked for %q: a digest of nothing", asked)
			}
		}
	}},
	{"delay of at most 900 seconds", func(w world) {
		q := w.queue(nil)
		_, err := w.send(q, "x", delayed(901))
		w.refused(err, "InvalidParameterValue")
		_, err = w.send(q, "x", delayed(-1))
		w.refused(err, "InvalidParameterValue")
		_, err = w.send(q, "x", delayed(900))
		w.ok(err)
		if got := w.attributes(q, "ApproximateNumberOfMessagesDelayed")["ApproximateNumberOfMessagesDelayed"]; got != "1" {
			w.Errorf("%s delayed, want 1", got)
		}
	}},
	{"a delayed message wakes a long poll when it is due", func(w world) {
		q := w.queue(nil)
		_, err := w.send(q, "x", delayed(1))
		w.ok(err)
		if got := w.receive(q, 10, 0); len(got) != 0 {
			w.Fatalf("received %d at once", len(got))
		}
		start := time.Now()
		if w.receiveOne(q); time.Since(start) < 500*time.Millisecond {
			w.Errorf("received after %v, want about 1s", time.Since(start))
		}
	}},
	{"a queue's delay applies to messages without one", func(w world) {
		q := w.queue(attrs{"DelaySeconds": "900"})
		w.sent(q, "x")
		if got := w.receive(q, 10, 0); len(got) != 0 {
			w.Fatalf("received %d at once", len(got))
		}
	}},
	{"receive gives at most ten, one by default", func(w world) {
		q := w.queue(nil)
		for range 12 {
			w.sent(q, "x")
		}
		if got := w.receive(q, 0, 0); len(got) != 1 {
			w.Errorf("%d by default", len(got))
		}
		if got := w.receive(q, 10, 5); len(got) != 10 {
			w.Errorf("%d of ten", len(got))
		}
		for _, n := range []int32{-1, 11} {
			_, err := w.c.ReceiveMessage(w.Context(), &sdk.ReceiveMessageInput{QueueUrl: &q, MaxNumberOfMessages: n})
			w.refused(err, "InvalidParameterValue")
		}
	}},
	{"receive waits at most 20 seconds and hides for at most 12 hours", func(w world) {
		q := w.queue(nil)
		_, err := w.c.ReceiveMessage(w.Context(), &sdk.ReceiveMessageInput{QueueUrl: &q, WaitTimeSeconds: 21})
		w.refused(err, "InvalidParameterValue")
		_, err = w.c.ReceiveMessage(w.Context(), &sdk.ReceiveMessageInput{QueueUrl: &q, VisibilityTimeout: 43201})
		w.refused(err, "InvalidParameterValue")
	}},
	{"an unknown system attribute cannot be received", func(w world) {
		q := w.queue(nil)
		_, err := w.c.ReceiveMessage(w.Context(), &sdk.ReceiveMessageInput{QueueUrl: &q, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"Colour"}})
		w.refused(err, "InvalidAttributeName")
	}},
	{"system attributes come when asked for", func(w world) {
		q := w.queue(attrs{"VisibilityTimeout": "0"})
		w.sent(q, "x")
		for count := 1; count <= 2; count++ {
			got := w.receiveOne(q).Attributes
			sent, _ := strconv.ParseInt(got["SentTimestamp"], 10, 64)
			first, _ := strconv.ParseInt(got["ApproximateFirstReceiveTimestamp"], 10, 64)
			if got["ApproximateReceiveCount"] != strconv.Itoa(count) || time.Since(time.UnixMilli(sent)).Abs() > time.Hour || first < sent || got["SenderId"] == "" {
				w.Errorf("receive %d: %v", count, got)
			}
		}
		out, err := w.c.ReceiveMessage(w.Context(), &sdk.ReceiveMessageInput{QueueUrl: &q, WaitTimeSeconds: 5})
		if w.ok(err); len(out.Messages[0].Attributes) != 0 {
			w.Errorf("unasked: %v", out.Messages[0].Attributes)
		}
	}},
	{"the old AttributeNames still asks for system attributes", func(w world) {
		q := w.queue(nil)
		w.sent(q, "x")
		//nolint:staticcheck // the deprecated member is the point
		out, err := w.c.ReceiveMessage(w.Context(), &sdk.ReceiveMessageInput{QueueUrl: &q, WaitTimeSeconds: 5, AttributeNames: []types.QueueAttributeName{"SentTimestamp"}})
		if w.ok(err); len(out.Messages[0].Attributes) != 1 {
			w.Errorf("%v", out.Messages[0].Attributes)
		}
	}},
	{"a received message is hidden, and comes back after its visibility timeout", func(w world) {
		q := w.queue(attrs{"VisibilityTimeout": "1"})
		w.sent(q, "x")
		first := w.receiveOne(q)
		if got := w.receive(q, 10, 0); len(got) != 0 {
			w.Fatalf("received %d while hidden", len(got))
		}
		second := w.receiveOne(q)
		if *first.MessageId != *second.MessageId || *first.ReceiptHandle == *second.ReceiptHandle {
			w.Errorf("%s and %s", *first.MessageId, *second.MessageId)
		}
	}},
	{"a long poll wakes when a message arrives", func(w world) {
		q := w.queue(nil)
		go func() {
			time.Sleep(300 * time.Millisecond) // the receive below should be waiting by then; if not, nothing breaks
			_, _ = w.send(q, "x")
		}()
		start := time.Now()
		if w.receiveOne(q); time.Since(start) > 8*time.Second {
			w.Errorf("woke after %v", time.Since(start))
		}
	}},
	{"the queue's wait applies to receives without one", func(w world) {
		q := w.queue(attrs{"ReceiveMessageWaitTimeSeconds": "1"})
		start := time.Now()
		if got := w.receive(q, 1, 0); len(got) != 0 || time.Since(start) < 900*time.Millisecond {
			w.Errorf("%d messages after %v, want none after 1s", len(got), time.Since(start))
		}
	}},
	{"a deleted message is gone", func(w world) {
		q := w.queue(attrs{"VisibilityTimeout": "1"})
		w.sent(q, "x")
		m := w.receiveOne(q)
		w.ok(w.delete(q, *m.ReceiptHandle))
		w.ok(w.delete(q, *m.ReceiptHandle)) // again is no error
		if got := w.receive(q, 1, 2); len(got) != 0 {
			w.Errorf("received %d after the deletion", len(got))
		}
	}},
	{"a message can be deleted after its visibility timeout", func(w world) {
		q := w.queue(attrs{"VisibilityTimeout": "0"})
		w.sent(q, "x")
		w.ok(w.delete(q, *w.receiveOne(q).ReceiptHandle))
		if got := w.receive(q, 1, 0); len(got) != 0 {
			w.Errorf("received %d after the deletion", len(got))
		}
	}},
	{"what is not a receipt handle is refused", func(w world) {
		q := w.queue(nil)
		w.refused(w.delete(q, "nonsense"), "ReceiptHandleIsInvalid")
		w.refused(w.hide(q, "nonsense", 1), "ReceiptHandleIsInvalid")
	}},
	{"changing visibility to 0 shows a message at once", func(w world) {
		q := w.queue(nil)
		w.sent(q, "x")
		w.ok(w.hide(q, *w.receiveOne(q).ReceiptHandle, 0))
		if got := w.receive(q, 1, 0); len(got) != 1 {
			w.Errorf("received %d", len(got))
		}
	}},
	{"changing visibility counts from the change and is not remembered", func(w world) {
		q := w.queue(attrs{"VisibilityTimeout": "1"})
		w.sent(q, "x")
		w.ok(w.hide(q, *w.receiveOne(q).ReceiptHandle, 2))
		start := time.Now()
		w.receiveOne(q)
		if took := time.Since(start); took < 1500*time.Millisecond {
			w.Errorf("visible after %v, want 2s", took)
		}
		start = time.Now()
		if w.receiveOne(q); time.Since(start) > 1800*time.Millisecond {
			w.Errorf("visible again after %v, want 1s", time.Since(start))
		}
	}},
	{"visibility is at most 12 hours", func(w world) {
		q := w.queue(nil)
		w.sent(q, "x")
		handle := *w.receiveOne(q).ReceiptHandle
		w.refused(w.hide(q, handle, 43201), "InvalidParameterValue")
		w.ok(w.hide(q, handle, 43200))
	}},
	{"visibility of a visible message cannot change", func(w world) {
		q := w.queue(attrs{"VisibilityTimeout": "0"})
		w.sent(q, "x")
		w.refused(w.hide(q, *w.receiveOne(q).ReceiptHandle, 5), "MessageNotInflight")
	}},
	{"visibility of a deleted message cannot change", func(w world) {
		q := w.queue(nil)
		w.sent(q, "x")
		handle := *w.receiveOne(q).ReceiptHandle
		w.ok(w.delete(q, handle))
		w.refused(w.hide(q, handle, 5), "InvalidParameterValue")
	}},
	{"purge empties the queue, once a minute", func(w world) {
		q := w.queue(nil)
		w.sent(q, "x")
		_, err := w.c.PurgeQueue(w.Context(), &sdk.PurgeQueueInput{QueueUrl: &q})
		w.ok(err)
		if got := w.receive(q, 1, 0); len(got) != 0 {
			w.Errorf("received %d", len(got))
		}
		_, err = w.c.PurgeQueue(w.Context(), &sdk.PurgeQueueInput{QueueUrl: &q})
		w.refused(err, "PurgeQueueInProgress")
	}},
	{"a batch sends each entry", func(w world) {
		q := w.queue(nil)
		entries := w.entries("a", "b", "c")
		entries[1].MessageSystemAttributes = map[string]types.MessageSystemAttributeValue{"AWSTraceHeader": {DataType: aws.String("String"), StringValue: aws.String("Root=1-b")}}
		out, err := w.sendBatch(q, entries)
		if w.ok(err); len(out.Successful) != 3 || len(out.Failed) != 0 {
			w.Fatalf("%+v", out)
		}
		for _, m := range w.receive(q, 10, 5) {
			if want := map[string]string{"b": "Root=1-b"}[*m.Body]; m.Attributes["AWSTraceHeader"] != want {
				w.Errorf("entry %s has the trace %q", *m.Body, m.Attributes["AWSTraceHeader"])
			}
		}
	}},
	{"a bad entry fails alone", func(w world) {
		entries := w.entries("a", "b", "c")
		entries[1].DelaySeconds = 901
		entries[2].MessageBody = aws.String("\x00")
		out, err := w.sendBatch(w.queue(nil), entries)
		if w.ok(err); len(out.Successful) != 1 || len(out.Failed) != 2 {
			w.Fatalf("%+v", out)
		}
		for i, want := range []string{"InvalidParameterValue", "InvalidMessageContents"} {
			if f := out.Failed[i]; *f.Code != want || !f.SenderFault || aws.ToString(f.Message) == "" || *f.Id != *entries[i+1].Id {
				w.Errorf("failed %+v, want %s", f, want)
			}
		}
	}},
	{"an empty batch is refused", func(w world) {
		_, err := w.sendBatch(w.queue(nil), []types.SendMessageBatchRequestEntry{})
		w.refused(err, "EmptyBatchRequest")
	}},
	{"a batch of eleven is refused", func(w world) {
		_, err := w.sendBatch(w.queue(nil), w.entries("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"))
		w.refused(err, "TooManyEntriesInBatchRequest")
	}},
	{"entries have distinct ids", func(w world) {
		entries := w.entries("a", "b")
		entries[1].Id = entries[0].Id
		_, err := w.sendBatch(w.queue(nil), entries)
		w.refused(err, "BatchEntryIdsNotDistinct")
	}},
	{"entry ids have rules", func(w world) {
		q := w.queue(nil)
		for _, bad := range []string{"", "a b", "a.b", strings.Repeat("i", 81)} {
			entries := w.entries("a")
			entries[0].Id = &bad
			_, err := w.sendBatch(q, entries)
			w.refused(err, "InvalidBatchEntryId")
		}
	}},
	{"a batch has at most 1 MiB together", func(w world) {
		q := w.queue(nil)
		half := strings.Repeat("x", sqs.MaxMessageBytes/2)
		_, err := w.sendBatch(q, w.entries(half, half))
		w.ok(err)
		_, err = w.sendBatch(q, w.entries(half, half+"x"))
		w.refused(err, "BatchRequestTooLong")
	}},
	{"a batch deletes each entry and reports bad handles", func(w world) {
		q := w.queue(nil)
		w.sent(q, "x")
		out, err := w.c.DeleteMessageBatch(w.Context(), &sdk.DeleteMessageBatchInput{QueueUrl: &q, Entries: []types.DeleteMessageBatchRequestEntry{
			{Id: aws.String("good"), ReceiptHandle: w.receiveOne(q).ReceiptHandle}, {Id: aws.String("bad"), ReceiptHandle: aws.String("nonsense")},
		}})
		if w.ok(err); len(out.Successful) != 1 || len(out.Failed) != 1 || *out.Failed[0].Code != "ReceiptHandleIsInvalid" {
			w.Fatalf("%+v", out)
		}
	}},
	{"a batch changes the visibility of each entry", func(w world) {
		q := w.queue(nil)
		w.sent(q, "x")
		handle := w.receiveOne(q).ReceiptHandle
		out, err := w.c.ChangeMessageVisibilityBatch(w.Context(), &sdk.ChangeMessageVisibilityBatchInput{QueueUrl: &q, Entries: []types.ChangeMessageVisibilityBatchRequestEntry{
			{Id: aws.String("bad"), ReceiptHandle: handle, VisibilityTimeout: 50000}, {Id: aws.String("good"), ReceiptHandle: handle, VisibilityTimeout: 0},
		}})
		if w.ok(err); len(out.Successful) != 1 || len(out.Failed) != 1 || *out.Failed[0].Code != "InvalidParameterValue" {
			w.Fatalf("%+v", out)
		}
		w.receiveOne(q)
	}},
	{"MessageGroupId is allowed on a standard queue", func(w world) {
		q := w.queue(nil)
		_, err := w.send(q, "x", grouped("tenant", ""))
		w.ok(err)
		if got := w.receiveOne(q).Attributes["MessageGroupId"]; got != "tenant" {
			w.Errorf("group %q", got)
		}
	}},
	{"MessageGroupId has rules", func(w world) {
		q := w.queue(nil)
		for _, bad := range []string{"a b", "ü", strings.Repeat("g", 129)} {
			_, err := w.send(q, "x", grouped(bad, ""))
			w.refused(err, "InvalidParameterValue")
		}
		_, err := w.send(q, "x", grouped(`!"#$%&'()*+,-./:;<=>?@[\]^_{|}~`+"`", ""))
		w.ok(err)
	}},
	{"MessageDeduplicationId is refused on a standard queue", func(w world) {
		_, err := w.send(w.queue(nil), "x", grouped("g", "d"))
		w.refused(err, "InvalidParameterValue")
	}},
	{"fair: a quiet group goes before a noisy one", func(w world) {
		q := w.queue(nil)
		for range 60 {
			_, err := w.send(q, "noisy", grouped("noisy", ""))
			w.ok(err)
		}
		for range 4 {
			w.receive(q, 10, 5)
		}
		_, err := w.send(q, "quiet", grouped("quiet", ""))
		w.ok(err)
		if got := w.receiveOne(q); *got.Body != "quiet" {
			w.Errorf("received %q", *got.Body)
		}
	}},
	{"FIFO needs a group", func(w world) {
		_, err := w.send(w.fifo(nil), "x", grouped("", "d"))
		w.refused(err, "MissingParameter")
	}},
	{"FIFO needs a deduplication id or content-based deduplication", func(w world) {
		_, err := w.send(w.fifo(nil), "x", grouped("g", ""))
		w.refused(err, "InvalidParameterValue")
	}},
	{"FIFO has no delay per message", func(w world) {
		_, err := w.send(w.fifo(nil), "x", grouped("g", "d"), delayed(1))
		w.refused(err, "InvalidParameterValue")
	}},
	{"FIFO keeps order and blocks a group while one of it is in flight", func(w world) {
		q := w.fifo(nil)
		var sequence string
		for _, body := range []string{"a1", "a2", "b1", "a3"} {
			out, err := w.send(q, body, grouped(body[:1], body))
			w.ok(err)
			if *out.SequenceNumber <= sequence {
				w.Errorf("sequence number %s after %s", *out.SequenceNumber, sequence)
			}
			sequence = *out.SequenceNumber
		}
		first := w.receive(q, 1, 5)
		if got := w.bodies(w.receive(q, 10, 1)); !slices.Equal(got, []string{"b1"}) {
			w.Fatalf("%v while a1 is in flight, want [b1]", got)
		}
		w.ok(w.delete(q, *first[0].ReceiptHandle))
		if got := w.bodies(w.receive(q, 10, 1)); !slices.Equal(got, []string{"a2", "a3"}) {
			w.Fatalf("%v after a1, want [a2 a3]", got)
		}
	}},
	{"FIFO gives a message again before its successors", func(w world) {
		q := w.fifo(nil)
		for _, body := range []string{"1", "2", "3"} {
			_, err := w.send(q, body, grouped("g", body))
			w.ok(err)
		}
		for _, m := range w.receive(q, 2, 5) {
			w.ok(w.hide(q, *m.ReceiptHandle, 0))
		}
		if got := w.bodies(w.receive(q, 10, 5)); !slices.Equal(got, []string{"1", "2", "3"}) {
			w.Errorf("%v", got)
		}
	}},
	{"FIFO drops a repeated deduplication id and answers with the first message", func(w world) {
		q := w.fifo(nil)
		first, err := w.send(q, "x", grouped("g", "same"))
		w.ok(err)
		second, err := w.send(q, "y", grouped("h", "same"))
		if w.ok(err); *first.MessageId != *second.MessageId || *first.SequenceNumber != *second.SequenceNumber {
			w.Errorf("%+v and %+v", first, second)
		}
		if got := w.receive(q, 10, 1); len(got) != 1 {
			w.Errorf("received %d", len(got))
		}
	}},
	{"FIFO deduplicates within the group if told so", func(w world) {
		q := w.fifo(attrs{"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"})
		for _, group := range []string{"g", "h"} {
			_, err := w.send(q, "x", grouped(group, "same"))
			w.ok(err)
		}
		if got := w.receive(q, 10, 1); len(got) != 2 {
			w.Errorf("received %d, want 2", len(got))
		}
	}},
	{"FIFO throughput per group needs deduplication per group", func(w world) {
		_, err := w.create(w.name+".fifo", attrs{"FifoQueue": "true", "FifoThroughputLimit": "perMessageGroupId"})
		w.refused(err, "InvalidAttributeValue")
	}},
	{"FIFO deduplicates by content", func(w world) {
		q := w.fifo(attrs{"ContentBasedDeduplication": "true"})
		for _, body := range []string{"x", "x", "y"} {
			_, err := w.send(q, body, grouped("g", ""))
			w.ok(err)
		}
		got := w.receive(q, 10, 1)
		if !slices.Equal(w.bodies(got), []string{"x", "y"}) {
			w.Fatalf("%v", w.bodies(got))
		}
		const sha256OfX = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
		if id := got[0].Attributes["MessageDeduplicationId"]; id != sha256OfX {
			w.Errorf("deduplication id %s", id)
		}
	}},
	{"FIFO refuses to delete by an expired handle", func(w world) {
		q := w.fifo(attrs{"VisibilityTimeout": "0"})
		_, err := w.send(q, "x", grouped("g", "d"))
		w.ok(err)
		w.refused(w.delete(q, *w.receiveOne(q).ReceiptHandle), "InvalidParameterValue")
	}},
	{"redrive moves a message that was received too often, with its id and age", func(w world) {
		q, dlq := w.withDLQ(2, attrs{"VisibilityTimeout": "0"})
		sent := w.sent(q, "poison")
		var before types.Message
		for range 2 {
			before = w.receiveOne(q)
		}
		if got := w.receive(q, 10, 0); len(got) != 0 {
			w.Fatalf("received %d a third time", len(got))
		}
		got := w.receiveOne(dlq)
		if *got.MessageId != *sent.MessageId || got.Attributes["SentTimestamp"] != before.Attributes["SentTimestamp"] {
			w.Errorf("moved as %s of %s", *got.MessageId, got.Attributes["SentTimestamp"])
		}
		if source := got.Attributes["DeadLetterQueueSourceArn"]; source != w.arn(q) {
			w.Errorf("source %q", source)
		}
	}},
	{"redrive wakes a long poll on the dead-letter queue", func(w world) {
		q, dlq := w.withDLQ(1, attrs{"VisibilityTimeout": "0"})
		w.sent(q, "poison")
		w.receiveOne(q)
		go func() {
			time.Sleep(300 * time.Millisecond) // the receive below should be waiting by then; if not, nothing breaks
			_, _ = w.c.ReceiveMessage(context.WithoutCancel(w.Context()), &sdk.ReceiveMessageInput{QueueUrl: &q})
		}()
		w.receiveOne(dlq)
	}},
	{"a redrive policy must be complete JSON with a count from 1 to 1000", func(w world) {
		q, dlq := w.withDLQ(1, nil)
		for _, bad := range []string{
			"nonsense", `{"maxReceiveCount":3}`, `{"deadLetterTargetArn":"` + w.arn(dlq) + `"}`,
			w.policy(dlq, 0), w.policy(dlq, 1001),
		} {
			if err := w.set(q, attrs{"RedrivePolicy": bad}); err == nil {
				w.Errorf("%s was accepted", bad)
			}
		}
	}},
	{"a redrive policy names a queue that exists", func(w world) {
		q := w.queue(nil)
		w.refused(w.set(q, attrs{"RedrivePolicy": `{"deadLetterTargetArn":"` + w.arn(q) + `-nobody","maxReceiveCount":3}`}), "InvalidParameterValue")
	}},
	{"a redrive policy names a queue of the same type", func(w world) {
		dlq := w.fifo(nil)
		w.refused(w.set(w.queue(nil), attrs{"RedrivePolicy": w.policy(dlq, 3)}), "InvalidParameterValue")
	}},
	{"a redrive allow policy keeps others out", func(w world) {
		q, dlq := w.withDLQ(3, nil)
		w.ok(w.set(q, attrs{"RedrivePolicy": ""}))
		w.ok(w.set(dlq, attrs{"RedriveAllowPolicy": `{"redrivePermission":"denyAll"}`}))
		w.refused(w.set(q, attrs{"RedrivePolicy": w.policy(dlq, 3)}), "InvalidParameterValue")
		w.ok(w.set(dlq, attrs{"RedriveAllowPolicy": `{"redrivePermission":"byQueue","sourceQueueArns":["` + w.arn(q) + `"]}`}))
		w.ok(w.set(q, attrs{"RedrivePolicy": w.policy(dlq, 3)}))
		w.refused(w.set(dlq, attrs{"RedriveAllowPolicy": `{"redrivePermission":"maybe"}`}), "InvalidAttributeValue")
	}},
	{"the sources of a dead-letter queue can be listed", func(w world) {
		q, dlq := w.withDLQ(3, nil)
		out, err := w.c.ListDeadLetterSourceQueues(w.Context(), &sdk.ListDeadLetterSourceQueuesInput{QueueUrl: &dlq})
		if w.ok(err); !slices.Equal(out.QueueUrls, []string{q}) {
			w.Errorf("%v", out.QueueUrls)
		}
	}},
	{"a move task brings messages back as new ones", func(w world) {
		q, dlq := w.withDLQ(1, attrs{"VisibilityTimeout": "0"})
		sent := w.sent(q, "poison")
		w.receiveOne(q)
		w.receive(q, 1, 0)
		w.move(dlq, nil, nil)
		got := w.receiveOne(q)
		if *got.MessageId == *sent.MessageId || got.Attributes["ApproximateReceiveCount"] != "1" || got.Attributes["DeadLetterQueueSourceArn"] != "" {
			w.Errorf("%s with %v", *got.MessageId, got.Attributes)
		}
		if task := w.moved(dlq); *task.Status != "COMPLETED" || task.ApproximateNumberOfMessagesMoved != 1 || *task.ApproximateNumberOfMessagesToMove != 1 {
			w.Errorf("task %+v", task)
		}
	}},
	{"a move task fails on a message that was sent to the dead-letter queue", func(w world) {
		_, dlq := w.withDLQ(1, nil)
		w.sent(dlq, "direct")
		w.move(dlq, nil, nil)
		if task := w.moved(dlq); *task.Status != "FAILED" || aws.ToString(task.FailureReason) != "CouldNotDetermineMessageSource" {
			w.Errorf("task %s %s", *task.Status, aws.ToString(task.FailureReason))
		}
		w.receiveOne(dlq)
	}},
	{"a move task with a destination moves such a message too", func(w world) {
		q, dlq := w.withDLQ(1, nil)
		w.sent(dlq, "direct")
		w.move(dlq, aws.String(w.arn(q)), aws.Int32(500))
		w.receiveOne(q)
	}},
	{"a move task starts from a dead-letter queue that exists", func(w world) {
		arn := w.arn(w.queue(nil))
		_, err := w.c.StartMessageMoveTask(w.Context(), &sdk.StartMessageMoveTaskInput{SourceArn: &arn})
		w.refused(err, "InvalidParameterValue")
		_, err = w.c.StartMessageMoveTask(w.Context(), &sdk.StartMessageMoveTaskInput{SourceArn: aws.String(arn + "-nobody")})
		w.refused(err, "ResourceNotFoundException")
	}},
	{"a move task has a rate of 1 to 500 and a destination that exists", func(w world) {
		_, dlq := w.withDLQ(1, nil)
		arn := w.arn(dlq)
		for _, rate := range []int32{0, 501} {
			_, err := w.c.StartMessageMoveTask(w.Context(), &sdk.StartMessageMoveTaskInput{SourceArn: &arn, MaxNumberOfMessagesPerSecond: &rate})
			w.refused(err, "InvalidParameterValue")
		}
		_, err := w.c.StartMessageMoveTask(w.Context(), &sdk.StartMessageMoveTaskInput{SourceArn: &arn, DestinationArn: aws.String(arn + "-nobody")})
		w.refused(err, "ResourceNotFoundException")
	}},
	{"one move task at a time, which can be cancelled", func(w world) {
		q, dlq := w.withDLQ(1, nil)
		for range 5 {
			w.sent(dlq, "direct")
		}
		task := w.move(dlq, aws.String(w.arn(q)), aws.Int32(1))
		arn := w.arn(dlq)
		_, err := w.c.StartMessageMoveTask(w.Context(), &sdk.StartMessageMoveTaskInput{SourceArn: &arn})
		w.refused(err, "InvalidParameterValue")
		_, err = w.c.CancelMessageMoveTask(w.Context(), &sdk.CancelMessageMoveTaskInput{TaskHandle: &task})
		w.ok(err)
		_, err = w.c.CancelMessageMoveTask(w.Context(), &sdk.CancelMessageMoveTaskInput{TaskHandle: aws.String("nobody")})
		w.refused(err, "ResourceNotFoundException")
	}},
	{"an operation that the endpoint does not know is refused by name", func(w world) {
		q := w.queue(nil)
		_, err := w.c.AddPermission(w.Context(), &sdk.AddPermissionInput{QueueUrl: &q, Label: aws.String("l"), AWSAccountIds: []string{"1"}, Actions: []string{"SendMessage"}})
		w.refused(err, "UnknownOperationException")
	}},
}

// digestOfKeyValue was computed apart from this code: printf '\0\0\0\3key\0\0\0\6String\1\0\0\0\5value' | md5sum
const digestOfKeyValue = "80176cdee1a774a6892d24cec267ac2f"

func (w world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// refused wants an error of that code, with or without the prefix that SQS puts before some.
func (w world) refused(err error, code string) {
	w.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		w.Errorf("got %v, want %s", err, code)
		return
	}
	if got := strings.TrimPrefix(api.ErrorCode(), "AWS.SimpleQueueService."); got != code {
		w.Errorf("refused with %s (%s), want %s", api.ErrorCode(), api.ErrorMessage(), code)
	}
	if api.ErrorMessage() == "" && code != "MessageNotInflight" { // which has none in the SDK's model
		w.Errorf("%s has no message", code)
	}
}

func (w world) create(name string, attributes attrs) (string, error) {
	out, err := w.c.CreateQueue(w.Context(), &sdk.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		return "", err
	}
	return *out.QueueUrl, nil
}

func (w world) queue(attributes attrs) string {
	w.Helper()
	q, err := w.create(w.name, attributes)
	w.ok(err)
	return q
}

func (w world) fifo(attributes attrs) string {
	w.Helper()
	all := attrs{"FifoQueue": "true"}
	maps.Copy(all, attributes)
	q, err := w.create(w.name+".fifo", all)
	w.ok(err)
	return q
}

// withDLQ gives a queue with a dead-letter queue of its own.
func (w world) withDLQ(maxReceives int, attributes attrs) (q, dlq string) {
	w.Helper()
	dlq, err := w.create(w.name+"-dlq", nil)
	w.ok(err)
	q = w.queue(attributes)
	w.ok(w.set(q, attrs{"RedrivePolicy": w.policy(dlq, maxReceives)}))
	return q, dlq
}

func (w world) policy(dlq string, maxReceives int) string {
	w.Helper()
	policy, err := json.Marshal(map[string]any{"deadLetterTargetArn": w.arn(dlq), "maxReceiveCount": maxReceives})
	w.ok(err)
	return string(policy)
}

func (w world) elsewhere(queueURL, name string) string {
	w.Helper()
	u, err := url.Parse(queueURL)
	w.ok(err)
	u.Path = u.Path[:strings.LastIndex(u.Path, "/")+1] + name
	return u.String()
}

func (w world) attributes(q string, names ...types.QueueAttributeName) map[string]string {
	w.Helper()
	out, err := w.c.GetQueueAttributes(w.Context(), &sdk.GetQueueAttributesInput{QueueUrl: &q, AttributeNames: names})
	w.ok(err)
	return out.Attributes
}

func (w world) arn(q string) string {
	w.Helper()
	return w.attributes(q, "QueueArn")["QueueArn"]
}

func (w world) set(q string, attributes attrs) error {
	_, err := w.c.SetQueueAttributes(w.Context(), &sdk.SetQueueAttributesInput{QueueUrl: &q, Attributes: attributes})
	return err
}

func (w world) send(q, body string, with ...func(*sdk.SendMessageInput)) (*sdk.SendMessageOutput, error) {
	in := &sdk.SendMessageInput{QueueUrl: &q, MessageBody: &body}
	for _, change := range with {
		change(in)
	}
	return w.c.SendMessage(context.WithoutCancel(w.Context()), in)
}

func (w world) sent(q, body string) *sdk.SendMessageOutput {
	w.Helper()
	out, err := w.send(q, body)
	w.ok(err)
	return out
}

func delayed(seconds int32) func(*sdk.SendMessageInput) {
	return func(in *sdk.SendMessageInput) { in.DelaySeconds = seconds }
}

func grouped(group, deduplication string) func(*sdk.SendMessageInput) {
	return func(in *sdk.SendMessageInput) {
		if group != "" {
			in.MessageGroupId = &group
		}
		if deduplication != "" {
			in.MessageDeduplicationId = &deduplication
		}
	}
}

func trace(header string) func(*sdk.SendMessageInput) {
	return func(in *sdk.SendMessageInput) {
		in.MessageSystemAttributes = map[string]types.MessageSystemAttributeValue{"AWSTraceHeader": {DataType: aws.String("String"), StringValue: &header}}
	}
}

func text(name, value string) func(*sdk.SendMessageInput) {
	return attribute(name, "String", value, nil)
}

func attribute(name, dataType, value string, binary []byte) func(*sdk.SendMessageInput) {
	return func(in *sdk.SendMessageInput) {
		if in.MessageAttributes == nil {
			in.MessageAttributes = map[string]types.MessageAttributeValue{}
		}
		v := types.MessageAttributeValue{DataType: &dataType, BinaryValue: binary}
		if binary == nil || value != "" {
			v.StringValue = &value
		}
		in.MessageAttributes[name] = v
	}
}

func (w world) entries(bodies ...string) []types.SendMessageBatchRequestEntry {
	var entries []types.SendMessageBatchRequestEntry
	for i, body := range bodies {
		entries = append(entries, types.SendMessageBatchRequestEntry{Id: aws.String(fmt.Sprintf("entry_%d-", i)), MessageBody: aws.String(body)})
	}
	return entries
}

func (w world) sendBatch(q string, entries []types.SendMessageBatchRequestEntry) (*sdk.SendMessageBatchOutput, error) {
	return w.c.SendMessageBatch(w.Context(), &sdk.SendMessageBatchInput{QueueUrl: &q, Entries: entries})
}

func (w world) receive(q string, n, waitSeconds int32) []types.Message {
	w.Helper()
	out, err := w.c.ReceiveMessage(w.Context(), &sdk.ReceiveMessageInput{
		QueueUrl: &q, MaxNumberOfMessages: n, WaitTimeSeconds: waitSeconds,
		MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"},
	})
	w.ok(err)
	return out.Messages
}

// receiveOne waits for a message.
func (w world) receiveOne(q string) types.Message {
	w.Helper()
	got := w.receive(q, 1, 10)
	if len(got) != 1 {
		w.Fatalf("received %d messages, want 1", len(got))
	}
	return got[0]
}

func (w world) bodies(messages []types.Message) []string {
	var bodies []string
	for _, m := range messages {
		bodies = append(bodies, *m.Body)
	}
	return bodies
}

func (w world) delete(q, handle string) error {
	_, err := w.c.DeleteMessage(w.Context(), &sdk.DeleteMessageInput{QueueUrl: &q, ReceiptHandle: &handle})
	return err
}

func (w world) hide(q, handle string, seconds int32) error {
	_, err := w.c.ChangeMessageVisibility(w.Context(), &sdk.ChangeMessageVisibilityInput{QueueUrl: &q, ReceiptHandle: &handle, VisibilityTimeout: seconds})
	return err
}

func (w world) move(dlq string, destination *string, rate *int32) (handle string) {
	w.Helper()
	arn := w.arn(dlq)
	out, err := w.c.StartMessageMoveTask(w.Context(), &sdk.StartMessageMoveTaskInput{SourceArn: &arn, DestinationArn: destination, MaxNumberOfMessagesPerSecond: rate})
	w.ok(err)
	return *out.TaskHandle
}

// moved waits for the latest move task to end.
func (w world) moved(dlq string) types.ListMessageMoveTasksResultEntry {
	w.Helper()
	arn := w.arn(dlq)
	for range 1000 {
		out, err := w.c.ListMessageMoveTasks(w.Context(), &sdk.ListMessageMoveTasksInput{SourceArn: &arn})
		w.ok(err)
		if len(out.Results) == 1 && *out.Results[0].Status != "RUNNING" {
			return out.Results[0]
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.Fatal("the move task does not end")
	return types.ListMessageMoveTasksResultEntry{}
}
