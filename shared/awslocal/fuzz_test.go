package awslocal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

// FuzzEndpoint sends anything. The endpoint must answer, in the form of one of its protocols, and stay usable.
func FuzzEndpoint(f *testing.F) {
	const queue = `"QueueUrl":"http://h/000000000000/orders"`
	for _, seed := range [][3]string{
		{"AmazonSQS.SendMessage", "application/x-amz-json-1.0", `{` + queue + `,"MessageBody":"x\uD83D","DelaySeconds":1e3,"MessageAttributes":{"a":{"DataType":"Number","StringValue":"1e126"}}}`},
		{"AmazonSQS.SendMessageBatch", "", `{` + queue + `,"Entries":[{"Id":"a","MessageBody":"x"},{"Id":"b","MessageBody":"","MessageAttributes":{"b":{"DataType":"Binary","BinaryValue":"AP8="}}},null]}`},
		{"AmazonSQS.ReceiveMessage", "", `{` + queue + `,"MaxNumberOfMessages":10,"VisibilityTimeout":0,"MessageAttributeNames":["a.*"]}`},
		{"AmazonSQS.DeleteMessage", "", `{` + queue + `,"ReceiptHandle":"b3JkZXJzIHggMQ=="}`},
		{"AmazonSQS.SetQueueAttributes", "", `{` + queue + `,"Attributes":{"RedrivePolicy":"{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:orders\",\"maxReceiveCount\":1}"}}`},
		{"AmazonSQS.CreateQueue", "", `{"QueueName":"x.fifo","Attributes":{"FifoQueue":"true"}}`},
		{"AmazonSQS.StartMessageMoveTask", "", `{"SourceArn":"arn:aws:sqs:us-east-1:000000000000:orders"}`},
		{"AmazonSQS.ListQueues", "", `{"MaxResults":1,"NextToken":"b3JkZXJz"}`},
		{"", "application/x-www-form-urlencoded", "Action=SendMessage&MessageBody=x&MessageAttribute.1.Name=a&MessageAttribute.1.Value.DataType=String"},
		{"", "application/x-www-form-urlencoded", "Action=ReceiveMessage&AttributeName.1=All&A.B.C.D.E.F.G.H.I.J=1&%zz"},
		{"AmazonSQS", "application/cbor", "\xbf\xff"},
	} {
		f.Add(seed[0], seed[1], []byte(seed[2]))
	}
	service := sqs.New(sqs.Options{Seed: 1})
	if _, err := service.CreateQueue("orders", nil); err != nil {
		f.Fatal(err)
	}
	e := awslocal.New(awslocal.Options{MaxBodyBytes: 1 << 16}, service)
	f.Fuzz(func(t *testing.T, target, contentType string, body []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // a long poll is not worth waiting for
		defer cancel()
		r := httptest.NewRequest(http.MethodPost, "/000000000000/orders", bytes.NewReader(body)).WithContext(ctx)
		r.Header["X-Amz-Target"], r.Header["Content-Type"] = []string{target}, []string{contentType}
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		switch answer := w.Header().Get("Content-Type"); answer {
		case "application/x-amz-json-1.0":
			var document map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &document); err != nil {
				t.Fatalf("answer %q: %v", w.Body, err)
			}
			kind, _ := document["__type"].(string)
			if (w.Code == http.StatusOK) == strings.Contains(kind, "#") {
				t.Fatalf("status %d with %q", w.Code, w.Body)
			}
		case "text/xml":
			decoder := xml.NewDecoder(w.Body)
			for {
				if _, err := decoder.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("XML: %v", err)
				}
			}
		default:
			t.Fatalf("answer of type %q", answer)
		}
		if w.Code >= http.StatusInternalServerError && ctx.Err() == nil {
			t.Fatalf("failed inside: %s", w.Body)
		}
	})
}
