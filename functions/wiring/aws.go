package wiring

import (
	"net"
	"net/http"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

const (
	// answerTime bounds the wait for an answer of SQS or DynamoDB once a request is sent. A connection that died while the environment was
	// frozen swallows requests in silence; without a bound, the SDK would wait for the rest of the invocation instead of trying
	// another connection. Longer than any answer in practice; less than half of the time kept for settling.
	answerTime = 2 * time.Second
	// connectTime bounds connecting to them.
	connectTime = time.Second
)

// client is the HTTP client of the SDK.
func client(answer time.Duration) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectTime }).
		WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = answer })
}
