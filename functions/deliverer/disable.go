package deliverer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/telemetry"
)

// TypeDisabled is the type of the event that tells of a destination that answered 410: no delivery is sent to it until a person enables it. Its source is
// SourceDeliverer, its subject the destination, its tenant the destination's, or OwnTenant where that is every tenant's.
const (
	TypeDisabled    = "waybill.destination.disabled"
	SourceDeliverer = "/waybill/deliverer"
	OwnTenant       = "waybill"
)

// disable writes down that the destination answered 410, and tells of it if nobody has yet. If it cannot be written, the delivery is parked all the
// same; the waker brings it back, and the next 410 tries again.
func (d *Deliverer) disable(ctx context.Context, j *job) {
	log := d.cfg.Logger.With(telemetry.Text(telemetry.KeyDestination, j.destination.ID))
	first, err := d.cfg.Disabler.Disable(ctx, j.destination.ID, "answered 410 to delivery "+string(j.message.Delivery))
	if err != nil {
		log.LogAttrs(ctx, slog.LevelError, "destination could not be disabled; its next 410 tries again", telemetry.Error(err))
		return
	}
	if !first {
		return
	}
	log.LogAttrs(ctx, slog.LevelWarn, "destination disabled: it answered 410. Its deliveries are parked until it is enabled",
		telemetry.Text(telemetry.KeyDelivery, j.message.Delivery))
	telemetry.From(ctx).Count(telemetry.DestinationDisabled, 1)
	if d.cfg.Notices == nil {
		return
	}
	notice, err := d.notice(j)
	if err == nil {
		if errs := d.cfg.Notices.Send(ctx, []queue.Message{notice}); len(errs) == 1 {
			err = errs[0]
		}
	}
	if err != nil {
		log.LogAttrs(ctx, slog.LevelError, "the event that a destination was disabled could not be sent", telemetry.Error(err))
	}
}

func (d *Deliverer) notice(j *job) (queue.Message, error) {
	now := d.cfg.Now()
	tenant := j.destination.Tenant
	if tenant == registry.EveryTenant {
		tenant = OwnTenant
	}
	data, err := json.Marshal(map[string]any{"destination": j.destination.ID, "delivery": j.message.Delivery, "code": j.result.Code})
	if err != nil {
		return queue.Message{}, err
	}
	e := events.Event{
		ID: j.destination.ID + "-" + strconv.FormatInt(now.UnixMilli(), 10), Source: SourceDeliverer, Type: TypeDisabled, Subject: j.destination.ID,
		Time: now.UTC().Format(time.RFC3339Nano), DataContentType: "application/json", Data: data, Extensions: map[string]string{events.TenantExtension: tenant},
	}
	body, err := e.AppendJSON(nil)
	if err != nil {
		return queue.Message{}, fmt.Errorf("event of our own: %w", err)
	}
	return queue.Message{Body: string(body), Group: tenant}, nil
}
