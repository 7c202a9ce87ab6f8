package system

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssecrets "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/signing"
	"github.com/waybillhq/waybill/shared/topology"
)

// canarySecret is the name of the canary's secret.
const canarySecret = "canary"

// createCanarySecret stores a secret for the canary in the form in which the stack has AWS generate one.
func (s *System) createCanarySecret(ctx context.Context, cfg Config) error {
	if cfg.Canary == nil {
		return nil
	}
	key := make([]byte, 48)
	_, _ = rand.Read(key) // never fails
	value, err := json.Marshal(map[string]string{"whsec_": base64.StdEncoding.EncodeToString(key)})
	if err != nil {
		return err
	}
	made, err := awssecrets.NewFromConfig(s.AWS()).CreateSecret(ctx, &awssecrets.CreateSecretInput{
		Name: aws.String(canarySecret), SecretString: aws.String(string(value)),
	})
	if err != nil {
		return fmt.Errorf("the canary's secret: %w", err)
	}
	s.canarySecret = aws.ToString(made.ARN)
	return nil
}

// listen makes requests at Config.Canary invocations of the canary, as a Lambda function URL does, until Stop.
func (s *System) listen(cfg Config) {
	s.sink = &http.Server{Handler: functionURL{s.Functions[topology.Canary], cfg.OnCanary}, ReadHeaderTimeout: s.Functions[topology.Canary].Timeout()}
	go func() { _ = s.sink.Serve(cfg.Canary) }()
}

// functionURL is the URL of a function without authorization.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
type functionURL struct {
	function *mapping.Function
	answered func(publicID string, status int, digest string) // nil: nobody hears of it
}

// maxURLBytes is what a function URL takes.
const maxURLBytes = 6 << 20

// ServeHTTP implements http.Handler.
func (u functionURL) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxURLBytes))
	if err != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	headers := map[string]string{}
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	payload, err := json.Marshal(map[string]any{
		"version": "2.0", "routeKey": "$default", "rawPath": r.URL.Path, "rawQueryString": r.URL.RawQuery, "headers": headers,
		"requestContext": map[string]any{"http": map[string]any{"method": r.Method, "path": r.URL.Path}},
		"body":           base64.StdEncoding.EncodeToString(body), "isBase64Encoded": true,
	})
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	answer, err := u.function.Invoke(r.Context(), payload)
	var response struct {
		StatusCode int `json:"statusCode"`
	}
	if err != nil || json.Unmarshal(answer, &response) != nil || response.StatusCode < 100 || response.StatusCode > 999 {
		w.WriteHeader(http.StatusBadGateway) // as Lambda says that the function failed
		return
	}
	if u.answered != nil {
		u.answered(r.Header.Get(signing.HeaderID), response.StatusCode, fmt.Sprintf("%x", sha256.Sum256(body)))
	}
	w.WriteHeader(response.StatusCode)
}
