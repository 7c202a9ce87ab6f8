package requestbody_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go/middleware"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/requestbody"
)

// late is a connection whose user learns a second later that its data is written: as if the machine had other things to do. Reading
// takes so many times that it goes on when the user has learnt of it.
type late struct{ net.Conn }

func (c late) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	time.Sleep(time.Second)
	return n, err
}

func (c late) Read(b []byte) (int, error) {
	time.Sleep(100 * time.Millisecond)
	return c.Conn.Read(b[:min(len(b), 1000)])
}

// TestAnswersArrive: an answer that is there before the client knows that its request is sent arrives whole, also that of a call
// which the SDK had to repeat. Without the option it does not: once the SDK or net/http lets it, the package can go.
func TestAnswersArrive(t *testing.T) {
	readOnly := []func(*middleware.Stack) error{requestbody.ReadOnly}
	for name, tt := range map[string]struct {
		options []func(*middleware.Stack) error
		request int
		fault   awslocal.Fault
		arrives bool
	}{
		"small request":      {readOnly, 10, awslocal.Fault{}, true},
		"large request":      {readOnly, 50_000, awslocal.Fault{}, true},
		"repeated":           {readOnly, 50_000, awslocal.Fault{Operation: "ReceiveMessage", Throttle: true, Times: 1}, true},
		"without the option": {nil, 10, awslocal.Fault{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := sqs.New(sqs.Options{Seed: 1})
				q, err := service.CreateQueue("orders", nil)
				if err != nil {
					t.Fatal(err)
				}
				calls := 0
				endpoint := awslocal.New(awslocal.Options{Observe: func(awslocal.Call) { calls++ }}, service)
				defer time.Sleep(time.Second) // for the late connection to notice the end
				defer endpoint.Close()
				want := 1
				if tt.fault.Operation != "" {
					endpoint.Faults().Add(tt.fault)
					want++
				}
				client := awssqs.New(awssqs.Options{
					BaseEndpoint: aws.String("http://awslocal"), Region: awslocal.Region, APIOptions: tt.options,
					Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""),
					HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
						c, err := endpoint.Dial(ctx)
						return late{c}, err
					}}},
				})
				body := strings.Repeat("x", 100_000)
				if _, err := q.Send(sqs.Outgoing{Body: body}); err != nil {
					t.Fatal(err)
				}
				out, err := client.ReceiveMessage(t.Context(), &awssqs.ReceiveMessageInput{
					QueueUrl: aws.String(q.URL()), MessageAttributeNames: []string{strings.Repeat("a", tt.request)},
				})
				if err != nil {
					t.Fatal(err)
				}
				if arrived := len(out.Messages) == 1 && *out.Messages[0].Body == body && calls == want; arrived != tt.arrives {
					t.Errorf("%d messages after %d calls", len(out.Messages), calls)
				}
			})
		})
	}
}
