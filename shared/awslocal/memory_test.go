package awslocal

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/shared/awslocal/sqs"
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

// TestAnswerOvertakesTheRequest: an answer that is there before the client knows that its request is sent arrives whole.
func TestAnswerOvertakesTheRequest(t *testing.T) {
	for name, request := range map[string]int{"small request": 10, "large request": 50_000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := sqs.New(sqs.Options{Seed: 1})
				q, err := service.CreateQueue("orders", nil)
				if err != nil {
					t.Fatal(err)
				}
				e := New(Options{}, service)
				defer time.Sleep(time.Second) // for the late connection to notice the end
				defer e.Close()
				over := e.Client()
				over.Transport.(readOnly).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
					c, err := e.Dial(ctx)
					return late{c}, err
				}
				client := sdk.New(sdk.Options{
					BaseEndpoint: aws.String("http://awslocal"), HTTPClient: over, Region: Region,
					Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""), Retryer: aws.NopRetryer{},
				})
				body := strings.Repeat("x", 100_000)
				if _, err := q.Send(sqs.Outgoing{Body: body}); err != nil {
					t.Fatal(err)
				}
				out, err := client.ReceiveMessage(t.Context(), &sdk.ReceiveMessageInput{
					QueueUrl: aws.String(q.URL()), MessageAttributeNames: []string{strings.Repeat("a", request)},
				})
				if err != nil || len(out.Messages) != 1 || *out.Messages[0].Body != body {
					t.Errorf("the answer was lost: %v", err)
				}
			})
		})
	}
}

// TestClientKeepsToHTTP: what the client does to bodies changes no request of others.
func TestClientKeepsToHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{})
		defer e.Close()
		body := io.NopCloser(bytes.NewReader([]byte("{}")))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://awslocal/", body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := e.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if r.Body != body || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("body %v, status %d", r.Body, resp.StatusCode)
		}
	})
}
