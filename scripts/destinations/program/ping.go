package program

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/downstream/webhook"
	"github.com/waybillhq/waybill/shared/egress"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/terminal"
)

// What a ping looks like to whoever receives it.
const (
	TypePing   = "waybill.ping"          // the type of its event
	SourcePing = "/waybill/destinations" // and the source
	PrefixPing = "ping-"                 // of its webhook-id, which is of no delivery

	// tenantOfOwn is the tenant of pings to destinations that receive every tenant's events.
	tenantOfOwn = "waybill"
)

func (c *call) ping(ctx context.Context) error {
	d, err := c.target(ctx)
	if err != nil {
		return err
	}
	if hasARN(d) {
		r, err := c.resolver(ctx)
		if err != nil {
			return err
		}
		if d, err = r.Resolve(ctx, d); err != nil {
			return cannot("it cannot be signed, so nothing was sent: %w", err)
		}
	}
	id := PrefixPing + strings.ToLower(rand.Text())
	event, err := pingEvent(d, id, time.Now())
	if err != nil {
		return err
	}
	c.say("ping     %s, %s, webhook-id %s", d.ID, origin(d), id)
	p := newProbe()
	r := c.send(p.watch(ctx), downstream.Attempt{PublicID: id, Number: 1, Event: event, Destination: d})
	p.show(c)
	c.say("answer   %s", answerText(r))
	if c.body {
		c.say("body     %s", cmp.Or(terminal.Escaped(string(r.Excerpt), mostLine), "(none)"))
	}
	c.say("verdict  %s: %s", r.Verdict, meaning(d, r))
	if r.Reason == downstream.ReasonBlockedAddress {
		c.say("         -egress-allow allows it for this ping; the deliverer has a setting of its own")
	}
	if r.Verdict != downstream.Delivered {
		return &exit{status: statusNo}
	}
	return nil
}

// target gives the destination that is to be pinged.
func (c *call) target(ctx context.Context) (*registry.Destination, error) {
	id := c.args[0]
	var now inForce
	if c.file != "" {
		_, set, err := c.readFile(c.file)
		if err != nil {
			return nil, err
		}
		now.set = set
	} else {
		var err error
		if _, now, err = c.openAndLoad(ctx); err != nil {
			return nil, err
		}
		if now.broken != nil {
			return nil, now.errUnreadable()
		}
	}
	if !known(now.set, id) {
		now.States = nil // those who have nothing but a state cannot be pinged either
		if c.file == "" {
			return nil, now.unknown(id)
		}
		return nil, fmt.Errorf("no destination %s is in %s: %s", id, fileText(c.file), cmp.Or(didYouMean(similar(id, now.ids())), "validate it, or look again"))
	}
	if state := now.States[id]; !state.MayReceive() {
		c.say("%s is %s; a ping goes there all the same.", id, stateText(state))
	}
	d, _ := now.set.Lookup(id)
	return d, nil
}

// didYouMean asks about similar ids, if there are any.
func didYouMean(best []string) string {
	if len(best) == 0 {
		return ""
	}
	return "did you mean " + strings.Join(best, " or ") + "?"
}

func pingEvent(d *registry.Destination, id string, at time.Time) (*events.Event, error) {
	tenant := d.Tenant
	if tenant == registry.EveryTenant {
		tenant = tenantOfOwn
	}
	data, err := json.Marshal(map[string]string{"destination": d.ID, "message": "This is a test. Nothing has happened, and nothing needs to be done."})
	return &events.Event{
		ID: id, Source: SourcePing, Type: TypePing, Subject: d.ID, Time: at.UTC().Format(time.RFC3339Nano),
		DataContentType: "application/json", Data: data, Extensions: map[string]string{events.TenantExtension: tenant},
	}, err
}

// origin gives scheme and host of a destination's URL.
func origin(d *registry.Destination) string {
	if d.Webhook == nil {
		return name(d.Type)
	}
	u, err := url.Parse(d.Webhook.URL)
	if err != nil {
		return "?"
	}
	return terminal.Escaped(u.Scheme+"://"+u.Host, mostNote)
}

// send makes the attempt with the adapter that the deliverer has.
func (c *call) send(ctx context.Context, a downstream.Attempt) (result downstream.Result) {
	dial := c.env.Dial
	if dial == nil {
		dial = egress.NewGuard(c.allow).DialContext
	}
	adapter := webhook.New(webhook.Config{Dial: dial, Concurrency: 1, TLS: c.env.TLS})
	defer adapter.CloseIdleConnections()
	downstream.Mux{registry.TypeWebhook: adapter}.Deliver(ctx, []downstream.Attempt{a}, func(_ int, r downstream.Result) { result = r })
	return result
}

// answerText says what came back, or why nothing did.
func answerText(r downstream.Result) string {
	after := "after " + took(r.Duration)
	var text string
	switch {
	case r.Code != 0:
		text = strings.TrimSpace(fmt.Sprintf("%d %s", r.Code, http.StatusText(r.Code))) + " " + after
		if r.RetryAfter > 0 {
			text += ", Retry-After " + span(r.RetryAfter)
		}
	default:
		text = "none " + after + ": " + terminal.Escaped(r.Reason, mostName)
	}
	if r.Detail != "" {
		text += " (" + terminal.Escaped(r.Detail, mostLine) + ")"
	}
	return text
}

// meaning says what would become of a delivery after this result of its first attempt.
func meaning(d *registry.Destination, r downstream.Result) string {
	switch r.Verdict {
	case downstream.Delivered:
		return "a delivery would be done"
	case downstream.Reject:
		return "a delivery would be a dead letter at once, with the reason " + terminal.Escaped(r.Reason, mostName)
	case downstream.Gone:
		return "the destination would be disabled, and its deliveries held until it is enabled"
	case downstream.NotStarted:
		return "nothing was sent"
	}
	if r.Reason == downstream.ReasonCanceled {
		return "interrupted, so nothing can be said"
	}
	slower := ""
	if r.Verdict == downstream.Throttle {
		slower = ", and others to this destination slowed down"
	}
	nominal := func() float64 { return 0.5 } // in the middle of the jitter
	wait, again := d.Retry.After(1, r.RetryAfter, nominal)
	if !again {
		return fmt.Sprintf("a delivery would be a dead letter now, because its schedule has no second try, with the reason %s%s", terminal.Escaped(r.Reason, mostName), slower)
	}
	return fmt.Sprintf("a delivery would be tried again after about %s%s, and be a dead letter after %s", span(wait), slower, retryText(d.Retry))
}
