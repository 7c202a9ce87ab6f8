package router_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/functions/router"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/registry"
)

// Source and type make an event the canary's, and nothing else does: it reaches nobody whose tenant is "*", and a queue that is pinned to a tenant neither keeps
// it from the canary nor gives it to the tenant.
func TestCanaryEventsReachTheCanaryAlone(t *testing.T) {
	canary, err := registry.NewCanary("https://abc.lambda-url.eu-central-1.on.aws/", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:canary-AbCdEf")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, source, eventType, tenant string
		want                            []string // with the canary on, and its queue pinned or not
	}{
		{"the canary's own", registry.CanarySource, registry.CanaryType, registry.CanaryTenant, []string{"waybill.canary"}},
		{"forged under a tenant", registry.CanarySource, registry.CanaryType, "acme", []string{"waybill.canary"}},
		{"another type", registry.CanarySource, "order.paid", "acme", []string{"acme", "every"}},
		{"another source", "/shop", registry.CanaryType, "acme", []string{"acme", "every"}},
	} {
		for _, pin := range []string{"", "acme"} {
			for _, on := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, pinned to %q, canary on: %v", c.name, pin, on), func(t *testing.T) {
					set := everyAndAcme(t)
					if on {
						set = set.WithCanary(canary)
					}
					to := &outbox{keep: true}
					cfg := router.Config{Destinations: registry.Fixed(set), Deliveries: to, Logger: slog.New(slog.DiscardHandler)}
					if pin != "" {
						cfg.Tenants = map[string]string{router.EveryQueue: pin}
					}
					r, err := router.New(cfg)
					if err != nil {
						t.Fatal(err)
					}
					body := fmt.Sprintf(`{"specversion":"1.0","id":"1","source":%q,"type":%q,"tenant":%q,"data":1}`, c.source, c.eventType, c.tenant)
					if err := r.Route(t.Context(), []batch.Record{record("m1", body)})[0]; err != nil {
						t.Error(err)
					}
					want := c.want
					if !on {
						want = slices.DeleteFunc(slices.Clone(want), func(id string) bool { return id == registry.CanaryID })
					}
					if got := destinationsOf(to.sent); !slices.Equal(got, want) {
						t.Errorf("it went to %v, want %v", got, want)
					}
					for _, m := range to.sent {
						if m.Destination == registry.CanaryID && m.Event.Tenant() != registry.CanaryTenant {
							t.Errorf("it travels as an event of %q", m.Event.Tenant())
						}
					}
				})
			}
		}
	}
}

// What only names the canary's tenant is nobody's.
func TestCanaryTenantIsNobodyElses(t *testing.T) {
	to := &outbox{keep: true}
	body := `{"specversion":"1.0","id":"1","source":"/shop","type":"order.paid","tenant":"waybill.canary"}`
	if err := open(t, 2, to).Route(t.Context(), []batch.Record{record("m1", body)})[0]; err != nil || len(to.sent) != 0 {
		t.Errorf("%v, sent %v", err, destinationsOf(to.sent))
	}
	_, err := router.New(router.Config{
		Destinations: registry.Fixed(&registry.Set{}), Deliveries: to, Tenants: map[string]string{router.EveryQueue: registry.CanaryTenant},
	})
	if err == nil || !strings.Contains(err.Error(), registry.CanaryTenant) {
		t.Errorf("a queue is pinned to the canary's tenant: %v", err)
	}
}

func destinationsOf(sent []delivery.Message) (ids []string) {
	for _, m := range sent {
		ids = append(ids, m.Destination)
	}
	slices.Sort(ids)
	return ids
}

// everyAndAcme is a destination for every tenant and one for acme alone.
func everyAndAcme(t *testing.T) *registry.Set {
	t.Helper()
	const one = `{"id":%q,"tenant":%q,"type":"webhook","webhook":{"url":"https://example.com","secrets":["arn:aws:secretsmanager:eu-central-1:123456789012:secret:waybill/crm-AbCdEf"]}}`
	set, err := registry.Parse(fmt.Appendf(nil, `{"destinations":[`+one+`,`+one+`]}`, "every", "*", "acme", "acme"), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}
