// Package canary shows that the whole of Waybill works: every minute it sends itself an event over the ingress queue, and receives it as any receiver
// does, by a signed webhook.
//
// It has two doors, told apart by the shape of what arrives. A run by the clock sends; a request at the function's URL is a delivery. It keeps nothing in
// between: the time of sending travels in the event.
//
// # The event
//
// Its id is the minute in which it was sent, so that a second run within a minute sends the same event and nothing is delivered twice. Its data is JSON whose
// bytes must arrive as they left: numbers that JSON libraries like to change, white space, letters beyond ASCII, the members in an odd order. A seal, which is a
// signature by the canary over minute, time and bytes, is part of it, so that nobody else who may put messages on the ingress queue can make an event that counts.
//
// # The URL
//
// Anybody may call it. It takes a POST of at most 4 KiB, and what it believes is what is signed twice: by the deliverer, as Standard Webhooks says, and by the seal. It
// answers 204 to that, 401 to what is not signed by the deliverer, 400 to what is signed but is not what was sent or is older than five minutes, 405 to other
// methods and 413 to larger bodies. All of these but the first count as CanaryRefused, which strangers can cause; no alarm hangs on it.
package canary

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/signing"
	"github.com/waybillhq/waybill/shared/telemetry"
)

// Config configures a Canary; Ingress and Keys are required.
type Config struct {
	Ingress queue.Sender
	// Keys gives the keys that sign for the canary, the one that signs first in front. It is asked at every run and every request.
	Keys   func(context.Context) ([]signing.Key, error)
	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // default slog.Default()
}

// Canary sends and receives. It is safe for concurrent use.
type Canary struct{ cfg Config }

// New makes a Canary. The error lists every missing setting.
func New(cfg Config) (*Canary, error) {
	var problems []error
	if cfg.Ingress == nil {
		problems = append(problems, errors.New("canary: Config.Ingress is missing"))
	}
	if cfg.Keys == nil {
		problems = append(problems, errors.New("canary: Config.Keys is missing"))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Canary{cfg}, nil
}

// Sent is the answer to a run by the clock.
type Sent struct {
	Event string `json:"event"` // the id of the event
}

// Handle takes whatever the function is invoked with: a request at its URL, which it answers with a Response, or else a run by the clock, which it answers
// with a Sent. An error means that a fault of ours kept it from doing either; a request is then answered by Lambda with 502, and tried again by the deliverer.
func (c *Canary) Handle(ctx context.Context, payload json.RawMessage) (any, error) {
	answer, err := c.handle(ctx, payload)
	if err != nil { // Lambda tells nobody what a run ends with
		c.cfg.Logger.LogAttrs(ctx, slog.LevelError, "canary failed", telemetry.Error(err))
	}
	return answer, err
}

func (c *Canary) handle(ctx context.Context, payload json.RawMessage) (any, error) {
	var r request
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, fmt.Errorf("canary: neither a run nor a request: %w", err)
	}
	if r.Context.HTTP.Method != "" {
		return c.receive(ctx, r)
	}
	return c.send(ctx)
}

// send puts the event of this minute on the ingress queue.
func (c *Canary) send(ctx context.Context) (Sent, error) {
	keys, err := c.cfg.Keys(ctx)
	if err != nil {
		return Sent{}, fmt.Errorf("canary: nothing is sent without its key: %w", err)
	}
	what := content{sent: c.cfg.Now().UTC().Truncate(time.Millisecond)}
	what.seal = what.sign(keys)
	e := events.Event{
		ID: what.minute(), Source: registry.CanarySource, Type: registry.CanaryType, Time: what.sent.Format(time.RFC3339Nano),
		DataContentType: "application/json", Data: what.encode(), Extensions: map[string]string{events.TenantExtension: registry.CanaryTenant},
	}
	body, err := e.AppendJSON(nil)
	if err != nil {
		return Sent{}, fmt.Errorf("canary: %w", err)
	}
	// Tenant as group, as producers have it: where events wait in fair queues, the canary waits with them.
	if errs := c.cfg.Ingress.Send(ctx, []queue.Message{{Body: string(body), Group: registry.CanaryTenant}}); len(errs) != 1 || errs[0] != nil {
		return Sent{}, fmt.Errorf("canary: the ingress queue did not take event %s: %w", e.ID, errors.Join(errs...))
	}
	telemetry.From(ctx).Count(telemetry.CanarySent, 1)
	c.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "canary sent", telemetry.Text(telemetry.KeyEvent, e.ID))
	return Sent{e.ID}, nil
}
