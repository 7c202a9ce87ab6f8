package canary

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/signing"
	"github.com/waybillhq/waybill/shared/telemetry"
)

// maxBodyBytes bounds what is read of a request. Data is a few hundred bytes, more during a rotation of keys.
const maxBodyBytes = 4 << 10

// request is what Lambda makes of a request at the function's URL. What it holds of headers of one name is joined by commas, which makes no valid signature.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
type request struct {
	Headers  map[string]string `json:"headers"`
	Body     string            `json:"body"`
	IsBase64 bool              `json:"isBase64Encoded"`
	Context  struct {
		HTTP struct {
			Method string `json:"method"`
		} `json:"http"`
	} `json:"requestContext"`
}

// Response is the answer to a request, as Lambda takes it.
type Response struct {
	Status int `json:"statusCode"`
}

// refused is why a request is not believed.
type refused struct {
	status int
	reason string // for the log
	err    error
}

// receive answers a request.
func (c *Canary) receive(ctx context.Context, r request) (Response, error) {
	what, no, err := c.read(ctx, r)
	if err != nil {
		return Response{}, err
	}
	b := telemetry.From(ctx)
	if no != nil {
		b.Count(telemetry.CanaryRefused, 1)
		c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "canary refused", slog.String(telemetry.KeyReason, no.reason), slog.Int(telemetry.KeyCode, no.status), telemetry.Error(no.err))
		return Response{no.status}, nil
	}
	took := c.cfg.Now().Sub(what.sent)
	b.Count(telemetry.CanaryReceived, 1)
	b.Duration(telemetry.CanaryLatency, took)
	c.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "canary received", telemetry.Text(telemetry.KeyEvent, what.minute()),
		slog.Int64("tookMilliseconds", max(took.Milliseconds(), 0)))
	return Response{http.StatusNoContent}, nil
}

// read gives what a request brings, or why it is refused. An error is a fault of ours.
func (c *Canary) read(ctx context.Context, r request) (content, *refused, error) {
	if r.Context.HTTP.Method != http.MethodPost {
		return content{}, &refused{http.StatusMethodNotAllowed, "method", nil}, nil
	}
	body := []byte(r.Body)
	if r.IsBase64 {
		var err error
		if body, err = base64.StdEncoding.DecodeString(r.Body); err != nil {
			return content{}, &refused{http.StatusBadRequest, "body", nil}, nil
		}
	}
	if len(body) > maxBodyBytes {
		return content{}, &refused{http.StatusRequestEntityTooLarge, "too-large", nil}, nil
	}
	header := http.Header{}
	for name, value := range r.Headers {
		header.Set(name, value)
	}
	if header.Get(signing.HeaderSignature) == "" { // a stranger's, who need not cost a call for the key
		return content{}, &refused{http.StatusUnauthorized, "unsigned", nil}, nil
	}
	keys, err := c.cfg.Keys(ctx)
	if err != nil {
		return content{}, nil, fmt.Errorf("canary: nothing can be verified without its key: %w", err)
	}
	now := c.cfg.Now()
	if err := signing.Verify(keys, header, body, now); err != nil {
		return content{}, &refused{http.StatusUnauthorized, "signature", err}, nil
	}
	what, err := decode(body)
	if err == nil {
		err = what.verify(keys, now)
	}
	if err == nil {
		err = what.matches(header)
	}
	if err != nil {
		return content{}, &refused{http.StatusBadRequest, "content", err}, nil
	}
	return what, nil, nil
}

// matches tells whether the headers name the event that was sent.
func (c content) matches(header http.Header) error {
	for name, want := range map[string]string{"ce-id": c.minute(), "ce-source": registry.CanarySource, "ce-type": registry.CanaryType} {
		if header.Get(name) != want {
			return fmt.Errorf("%w: %s is not the one that was sent", errContent, name)
		}
	}
	return nil
}
