package sqs_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/shared/awslocal"
	local "github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/queue/sqs"
)

// region is SQS over the real protocol and the real SDK, in virtual time.
type region struct {
	endpoint *awslocal.Endpoint
	service  *local.Service
	client   *awssqs.Client
}

// onWire runs a test in a bubble with a region of its own.
func onWire(t *testing.T, test func(t *testing.T, r *region)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		service := local.New(local.Options{Seed: 1})
		endpoint := awslocal.New(awslocal.Options{}, service)
		defer func() {
			if err := endpoint.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(t, &region{endpoint, service, awssqs.New(awssqs.Options{
			BaseEndpoint: aws.String("http://awslocal"), HTTPClient: endpoint.Client(), Region: awslocal.Region,
			Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""),
		})})
	})
}

func (r *region) create(t *testing.T, name string) (*local.Queue, *sqs.Queue) {
	t.Helper()
	var attributes map[string]string
	if strings.HasSuffix(name, ".fifo") {
		attributes = map[string]string{"FifoQueue": "true"}
	}
	q, err := r.service.CreateQueue(name, attributes)
	if err != nil {
		t.Fatal(err)
	}
	return q, sqs.New(r.client, q.URL(), sqs.Options{})
}

// calls counts the calls of an operation that arrived.
func (r *region) calls(operation string) int {
	return r.endpoint.Counts()[awslocal.Op{Service: "sqs", Name: operation}].Attempted
}

func receive(t *testing.T, q *local.Queue) []local.Message {
	t.Helper()
	got, err := q.Receive(t.Context(), local.ReceiveOptions{Max: 100})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func noErrors(t *testing.T, errs []error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
}

func TestMessageArrivesAsSent(t *testing.T) {
	onWire(t, func(t *testing.T, r *region) {
		q, driver := r.create(t, "deliveries")
		trace := "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
		sent := []queue.Message{
			{Body: "<é \U0001F600 & \"\t\r\n", Group: "tenant", Trace: trace, Deduplication: "of no use here", Attributes: map[string]queue.Attribute{
				"string": {DataType: "String", String: "text"}, "custom": {DataType: "String.custom", String: "\u2028"},
				"number": {DataType: "Number", String: "9007199254740993"}, "int": {DataType: "Number.int", String: "1.0"},
				"binary": {DataType: "Binary", Binary: []byte{0, 0xff, '\n'}}, "image": {DataType: "Binary.png", Binary: []byte{1}},
			}},
			{Body: "plain"},
		}
		noErrors(t, driver.Send(t.Context(), sent))
		got := receive(t, q)
		if len(got) != len(sent) {
			t.Fatalf("received %d messages", len(got))
		}
		for i, m := range got {
			attributes := map[string]queue.Attribute{}
			for name, a := range m.MessageAttributes {
				attributes[name] = queue.Attribute{DataType: a.DataType, String: a.StringValue, Binary: a.BinaryValue}
			}
			if m.Body != sent[i].Body || len(attributes) != len(sent[i].Attributes) || len(attributes) > 0 && !reflect.DeepEqual(attributes, sent[i].Attributes) {
				t.Errorf("got %q %v", m.Body, attributes)
			}
			if m.Attributes["MessageGroupId"] != sent[i].Group || m.Attributes["AWSTraceHeader"] != sent[i].Trace {
				t.Errorf("system attributes %v", m.Attributes)
			}
		}
	})
}

func TestFewCalls(t *testing.T) {
	half, third := filler[:queue.MaxBytes/2], filler[:queue.MaxBytes/3]
	tests := map[string]struct {
		bodies []string
		calls  int
	}{
		"ten":                   {strings.Split(strings.Repeat("x", 10), ""), 1},
		"eleven":                {strings.Split(strings.Repeat("x", 11), ""), 2},
		"25":                    {strings.Split(strings.Repeat("x", 25), ""), 3},
		"1 MiB together":        {[]string{half, half}, 1},
		"a byte more":           {[]string{half, half, "x"}, 2},
		"full ones among small": {[]string{"x", filler, "x", filler, "x"}, 3},
		"large and small mixed": {[]string{half, third, half, third, third}, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			onWire(t, func(t *testing.T, r *region) {
				q, driver := r.create(t, "deliveries")
				noErrors(t, driver.Send(t.Context(), messages(tt.bodies...)))
				if got := receive(t, q); len(got) != len(tt.bodies) {
					t.Errorf("%d messages arrived", len(got))
				}
				if got := r.calls("SendMessageBatch"); got != tt.calls {
					t.Errorf("%d calls, want %d", got, tt.calls)
				}
			})
		})
	}
}

func TestDelayIsNeverTooShort(t *testing.T) {
	onWire(t, func(t *testing.T, r *region) {
		q, driver := r.create(t, "deliveries")
		noErrors(t, driver.Send(t.Context(), []queue.Message{{Body: "now"}, {Body: "soon", Delay: 1100 * time.Millisecond}, {Body: "late", Delay: queue.MaxDelay}}))
		arrived := map[string]time.Duration{}
		for start := time.Now(); len(arrived) < 3 && time.Since(start) < time.Hour; <-time.After(time.Second) {
			for _, m := range receive(t, q) {
				if _, ok := arrived[m.Body]; !ok {
					arrived[m.Body] = time.Since(start)
				}
			}
		}
		if want := (map[string]time.Duration{"now": 0, "soon": 2 * time.Second, "late": 15 * time.Minute}); !reflect.DeepEqual(arrived, want) {
			t.Errorf("arrived after %v", arrived)
		}
	})
}

func TestVisibilityOnTheWire(t *testing.T) {
	onWire(t, func(t *testing.T, r *region) {
		q, driver := r.create(t, "deliveries")
		noErrors(t, driver.Send(t.Context(), messages("now", "soon", "late", "untouched")))
		var changes []queue.Visibility
		after := map[string]time.Duration{"now": 0, "soon": 4100 * time.Millisecond, "late": time.Hour}
		for _, m := range receive(t, q) {
			if d, ok := after[m.Body]; ok {
				changes = append(changes, queue.Visibility{Receipt: m.ReceiptHandle, After: d})
			}
		}
		errs := driver.ChangeVisibility(t.Context(), append(changes, queue.Visibility{Receipt: "no such receipt", After: time.Second}))
		noErrors(t, errs[:3])
		var refused *sqs.EntryError
		if !errors.As(errs[3], &refused) || !refused.SenderFault {
			t.Errorf("unknown receipt: %v", errs[3])
		}
		if got := r.calls("ChangeMessageVisibilityBatch"); got != 1 {
			t.Errorf("%d calls", got)
		}
		back := map[string]time.Duration{}
		for start := time.Now(); len(back) < 4 && time.Since(start) < 2*time.Hour; <-time.After(time.Second) {
			for _, m := range receive(t, q) {
				if _, ok := back[m.Body]; !ok {
					back[m.Body] = time.Since(start)
				}
			}
		}
		if want := (map[string]time.Duration{"now": 0, "soon": 5 * time.Second, "untouched": 30 * time.Second, "late": time.Hour}); !reflect.DeepEqual(back, want) {
			t.Errorf("back after %v", back)
		}
	})
}

func TestFIFOOnTheWire(t *testing.T) {
	onWire(t, func(t *testing.T, r *region) {
		q, driver := r.create(t, "deliveries.fifo")
		var sent []queue.Message
		for i := range 25 {
			sent = append(sent, queue.Message{Body: fmt.Sprint(i), Group: "g", Deduplication: fmt.Sprint(i)})
		}
		noErrors(t, driver.Send(t.Context(), sent))
		noErrors(t, driver.Send(t.Context(), sent)) // the same ids again
		got := receive(t, q)
		for i, m := range got {
			if m.Body != fmt.Sprint(i) || m.Attributes["MessageDeduplicationId"] != m.Body {
				t.Errorf("message %d is %s, %v", i, m.Body, m.Attributes)
			}
		}
		if len(got) != 25 {
			t.Errorf("%d messages", len(got))
		}
	})
}

func TestFaultsOnTheWire(t *testing.T) {
	tests := map[string]struct {
		fault    awslocal.Fault
		accepted bool
		arrived  int
	}{
		"throttled once":       {awslocal.Fault{Throttle: true, Times: 1}, true, 2},
		"throttled for ever":   {awslocal.Fault{Throttle: true}, false, 0},
		"answer lost once":     {awslocal.Fault{WithholdAnswer: true, Times: 1}, true, 4},
		"answer lost for ever": {awslocal.Fault{WithholdAnswer: true}, false, 6},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			onWire(t, func(t *testing.T, r *region) {
				q, driver := r.create(t, "deliveries")
				tt.fault.Operation = "SendMessageBatch"
				r.endpoint.Faults().Add(tt.fault)
				for i, err := range driver.Send(t.Context(), messages("a", "b")) {
					if (err == nil) != tt.accepted || err != nil && !strings.Contains(err.Error(), q.URL()) {
						t.Errorf("%d: %v", i, err)
					}
				}
				if got := receive(t, q); len(got) != tt.arrived {
					t.Errorf("%d messages lie on the queue, want %d", len(got), tt.arrived)
				}
			})
		})
	}
}

func TestMissingQueue(t *testing.T) {
	onWire(t, func(t *testing.T, r *region) {
		driver := sqs.New(r.client, "http://awslocal/000000000000/nowhere", sqs.Options{})
		errs := append(driver.Send(t.Context(), messages("a", "b")), driver.ChangeVisibility(t.Context(), []queue.Visibility{{Receipt: "r"}})...)
		for i, err := range errs {
			var missing *types.QueueDoesNotExist
			if !errors.As(err, &missing) {
				t.Errorf("%d: %v", i, err)
			}
		}
	})
}

// The driver refuses exactly what SQS refuses: no neighbour suffers, and nothing that SQS takes is held back.
func TestRefusesWhatSQSRefuses(t *testing.T) {
	ok := queue.Attribute{DataType: "String", String: "x"}
	attributes := func(n int) map[string]queue.Attribute {
		m := map[string]queue.Attribute{}
		for i := range n {
			m[fmt.Sprint("a", i)] = ok
		}
		return m
	}
	attribute := func(name string, a queue.Attribute) queue.Message {
		return queue.Message{Body: "x", Attributes: map[string]queue.Attribute{name: a}}
	}
	const standard, fifo = "q", "q.fifo"
	tests := map[string]struct {
		queue string
		give  queue.Message
		want  error // nil: accepted
	}{
		"1 MiB":                    {standard, queue.Message{Body: filler}, nil},
		"one byte more":            {standard, queue.Message{Body: filler + "x"}, queue.ErrTooLarge},
		"1 MiB with attributes":    {standard, queue.Message{Body: filler[8:], Attributes: map[string]queue.Attribute{"a": ok}}, nil},
		"one more with attributes": {standard, queue.Message{Body: filler[7:], Attributes: map[string]queue.Attribute{"a": ok}}, queue.ErrTooLarge},
		"empty body":               {standard, queue.Message{}, sqs.ErrInvalid},
		"control character":        {standard, queue.Message{Body: "a\x00b"}, sqs.ErrInvalid},
		"non-character":            {standard, queue.Message{Body: "\uFFFE"}, sqs.ErrInvalid},
		"last non-character":       {standard, queue.Message{Body: "\uFFFF"}, sqs.ErrInvalid},
		"white space":              {standard, queue.Message{Body: "\t\r\n"}, nil},
		"15 minutes":               {standard, queue.Message{Body: "x", Delay: 15 * time.Minute}, nil},
		"in the past":              {standard, queue.Message{Body: "x", Delay: -2 * time.Second}, sqs.ErrInvalid},
		"later":                    {standard, queue.Message{Body: "x", Delay: 15*time.Minute + 1}, sqs.ErrInvalid},
		"FIFO with delay":          {fifo, queue.Message{Body: "x", Group: "g", Deduplication: "d", Delay: time.Second}, sqs.ErrInvalid},
		"FIFO without group":       {fifo, queue.Message{Body: "x", Deduplication: "d"}, sqs.ErrInvalid},
		"FIFO":                     {fifo, queue.Message{Body: "x", Group: "g", Deduplication: "d"}, nil},
		"long group":               {standard, queue.Message{Body: "x", Group: strings.Repeat("g", 129)}, sqs.ErrInvalid},
		"longest group":            {standard, queue.Message{Body: "x", Group: strings.Repeat("g", 128)}, nil},
		"group of punctuation":     {standard, queue.Message{Body: "x", Group: "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"}, nil},
		"group with a space":       {standard, queue.Message{Body: "x", Group: "a b"}, sqs.ErrInvalid},
		"bad deduplication":        {fifo, queue.Message{Body: "x", Group: "g", Deduplication: "é"}, sqs.ErrInvalid},
		"10 attributes":            {standard, queue.Message{Body: "x", Attributes: attributes(10)}, nil},
		"11 attributes":            {standard, queue.Message{Body: "x", Attributes: attributes(11)}, sqs.ErrInvalid},
		"empty attribute":          {standard, attribute("a", queue.Attribute{DataType: "String"}), sqs.ErrInvalid},
		"empty binary":             {standard, attribute("a", queue.Attribute{DataType: "Binary", Binary: []byte{}}), sqs.ErrInvalid},
		"unknown type":             {standard, attribute("a", queue.Attribute{DataType: "Bool", String: "x"}), sqs.ErrInvalid},
		"no type":                  {standard, attribute("a", queue.Attribute{String: "x"}), sqs.ErrInvalid},
		"bad attribute text":       {standard, attribute("a", queue.Attribute{DataType: "String", String: "\x01"}), sqs.ErrInvalid},
		"empty name":               {standard, attribute("", ok), sqs.ErrInvalid},
		"name with a space":        {standard, attribute("a b", ok), sqs.ErrInvalid},
		"name of AWS":              {standard, attribute("AWS.x", ok), sqs.ErrInvalid},
		"name with periods":        {standard, attribute("a..b", ok), sqs.ErrInvalid},
		"long name":                {standard, attribute(strings.Repeat("n", 257), ok), sqs.ErrInvalid},
		"longest name":             {standard, attribute(strings.Repeat("n", 256), ok), nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			onWire(t, func(t *testing.T, r *region) {
				q, driver := r.create(t, tt.queue)
				errs := driver.Send(t.Context(), []queue.Message{tt.give, {Body: "neighbour", Group: "n", Deduplication: "n"}})
				if !errors.Is(errs[0], tt.want) || (tt.want == nil) != (errs[0] == nil) {
					t.Errorf("error = %v, want %v", errs[0], tt.want)
				}
				if errs[1] != nil {
					t.Errorf("the neighbour suffered: %v", errs[1])
				}
				<-time.After(tt.give.Delay)
				if got, want := len(receive(t, q)), map[bool]int{true: 2, false: 1}[tt.want == nil]; got != want {
					t.Errorf("%d messages arrived, want %d", got, want)
				}
				if accepted := unguarded(t, r.client, q.URL(), tt.give); accepted != (tt.want == nil) {
					t.Errorf("SQS itself: accepted = %t", accepted)
				}
			})
		})
	}
}

// unguarded asks SQS without the driver whether it takes a message.
func unguarded(t *testing.T, client *awssqs.Client, url string, m queue.Message) bool {
	t.Helper()
	e := types.SendMessageBatchRequestEntry{Id: aws.String("0"), MessageBody: &m.Body, DelaySeconds: int32((m.Delay + time.Second - 1) / time.Second)}
	if m.Group != "" {
		e.MessageGroupId = &m.Group
	}
	if m.Deduplication != "" {
		e.MessageDeduplicationId = aws.String(m.Deduplication + "2")
	}
	e.MessageAttributes = map[string]types.MessageAttributeValue{}
	for name, a := range m.Attributes {
		v := types.MessageAttributeValue{DataType: &a.DataType, StringValue: &a.String}
		if a.Binary != nil {
			v = types.MessageAttributeValue{DataType: &a.DataType, BinaryValue: a.Binary}
		}
		e.MessageAttributes[name] = v
	}
	out, err := client.SendMessageBatch(t.Context(), &awssqs.SendMessageBatchInput{QueueUrl: &url, Entries: []types.SendMessageBatchRequestEntry{e}})
	return err == nil && len(out.Successful) == 1
}
