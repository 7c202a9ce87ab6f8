package canary

import (
	"context"
	"encoding/base64"
	"errors"
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

// refusal is why a request is not believed.
type refusal struct {
	status int
	reason string // for the log
	err    error  // says more; may be nil
}

// Error gives the reason.
func (r *refusal) Error() string { return "canary: refused for its " + r.reason }

// receive answers a request.
func (c *Canary) receive(ctx context.Context, r request) (Response, error) {
	what, err := c.read(ctx, r)
	b := telemetry.From(ctx)
	if no, is := errors.AsType[*refusal](err); is {
		b.Count(telemetry.CanaryRefused, 1)
		c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "canary refused", slog.String(telemetry.KeyReason, no.reason), slog.Int(telemetry.KeyCode, no.status), telemetry.Error(no.err))
		return Response{no.status}, nil
	}
	if err != nil {
		return Response{}, err
	}
	took := c.cfg.Now().Sub(what.sent)
	b.Count(telemetry.CanaryReceived, 1)
	b.Duration(telemetry.CanaryLatency, took)
	c.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "canary received", telemetry.Text(telemetry.KeyEvent, what.minute()),
		slog.Int64("tookMilliseconds", max(took.Milliseconds(), 0)))
	return Response{http.StatusNoContent}, nil
}

// read gives what a request brings. An error that is no refusal is a fault of ours.
func (c *Canary) read(ctx context.Context, r request) (content, error) {
	if r.Context.HTTP.Method != http.MethodPost {
		return content{}, &refusal{http.StatusMethodNotAllowed, "method", nil}
	}
	body := []byte(r.Body)
	if r.IsBase64 {
		var err error
		if body, err = base64.StdEncoding.DecodeString(r.Body); err != nil {
			return content{}, &refusal{http.StatusBadRequest, "body", nil}
		}
	}
	if len(body) > maxBodyBytes {
		return content{}, &refusal{http.StatusRequestEntityTooLarge, "too-large", nil}
	}
	header := http.Header{}
	for name, value := range r.Headers {
		header.Set(name, value)
	}
	if header.Get(signing.HeaderSignature) == "" { // a stranger's, who need not cost a call for the key
		return content{}, &refusal{http.StatusUnauthorized, "unsigned", nil}
	}
	keys, err := c.cfg.Keys(ctx)
	if err != nil {
		return content{}, fmt.Errorf("canary: nothing can be verified without its key: %w", err)
	}
	now := c.cfg.Now()
	if err := signing.Verify(keys, header, body, now); err != nil {
		return content{}, &refusal{http.StatusUnauthorized, "signature", err}
	}
	what, err := decode(body)
	if err == nil {
		err = what.verify(keys, now)
	}
	if err == nil {
		err = what.matches(header)
	}
	if err != nil {
		return content{}, &refusal{http.StatusBadRequest, "content", err}
	}
	return what, nil
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
