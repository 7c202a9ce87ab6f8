package registry_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/pattern"
	"github.com/waybillhq/waybill/shared/registry"
)

const canaryARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:canary-AbCdEf"

func canary(t *testing.T) *registry.Destination {
	t.Helper()
	d, err := registry.NewCanary("https://abc.lambda-url.eu-west-1.on.aws/", canaryARN)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func event(source, eventType string) *pattern.Event {
	return pattern.NewEvent(maps.All(map[string]string{"specversion": "1.0", "id": "1", "source": source, "type": eventType}), []byte(`{}`))
}

func TestCanaryEventsAreNobodyElses(t *testing.T) {
	everything := destination(map[string]string{"id": `"audit"`, "tenant": `"*"`, "pattern": ``})
	for name, text := range map[string]string{"beside others": file(everything), "alone": file()} {
		t.Run(name, func(t *testing.T) {
			before := parse(t, text)
			set := before.WithCanary(canary(t))
			if got := ids(set.Match(registry.CanaryTenant, event(registry.CanarySource, registry.CanaryType))); got != registry.CanaryID {
				t.Errorf("the canary's event goes to %q", got)
			}
			if got := ids(set.Match(registry.CanaryTenant, event("/shop", "order.paid"))); got != "" {
				t.Errorf("what only names the canary's tenant goes to %q", got)
			}
			want := map[string]string{"beside others": "audit"}[name]
			if got := ids(set.Match("acme", event("/shop", "order.paid"))); got != want {
				t.Errorf("an event of a tenant goes to %q, want %q", got, want)
			}
			if got := ids(before.Match(registry.CanaryTenant, event(registry.CanarySource, registry.CanaryType))); got != "" {
				t.Errorf("without a canary its event goes to %q", got)
			}
			if _, found := before.Lookup(registry.CanaryID); found || before.Len()+1 != set.Len() {
				t.Error("the set that was given has been changed")
			}
		})
	}
}

func TestZeroSetTakesACanary(t *testing.T) {
	var none registry.Set
	if _, found := none.WithCanary(canary(t)).Lookup(registry.CanaryID); !found {
		t.Error("it is not found")
	}
	if none.WithCanary(nil) != &none {
		t.Error("no canary makes another set")
	}
}

// A delivery is dropped for its age before its attempts are used up.
func TestCanaryIsNeverGivenUp(t *testing.T) {
	d := canary(t)
	var soonest time.Duration
	for attempt := 1; attempt < d.Retry.Attempts(); attempt++ {
		wait, _ := d.Retry.Delay(attempt, func() float64 { return 0 })
		soonest += wait
	}
	if d.Life != 5*time.Minute || soonest <= d.Life {
		t.Errorf("the last attempt may be made after %v, within the life of %v", soonest, d.Life)
	}
}

func TestCanaryRefusesWhatCannotWork(t *testing.T) {
	const inline = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	for _, c := range []struct{ url, secret, says string }{
		{"https://abc.lambda-url.eu-west-1.on.aws/", canaryARN, ""},
		{"http://127.0.0.1:8080/", inline, ""},
		{"http://127.0.0.1:8080/", canaryARN, ""},
		{"http://example.com/", canaryARN, "https"},
		{"abc", canaryARN, "https"},
		{"", canaryARN, "https"},
		{"https://example.com/", inline, "stands in the file"},
		{"https://example.com/", "secret", "neither an ARN"},
	} {
		_, err := registry.NewCanary(c.url, c.secret)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q with %q: %v, want %q", c.url, c.secret, err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), inline) {
			t.Errorf("the secret is shown: %v", err)
		}
	}
}

// The canary is known only where destinations are, so that its silence shows that they are not.
func TestCacheAddsTheCanaryToWhatIsKnown(t *testing.T) {
	bubble(t, func(w *world) {
		c := w.cache(registry.CacheConfig{Canary: canary(w.T)})
		if _, err := c.Set(w.Context()); err == nil {
			t.Error("nothing was applied, and the canary is known")
		}
		w.apply("shop")
		time.Sleep(time.Minute)
		set, err := c.Set(w.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, found := set.Lookup(registry.CanaryID); !found || set.Len() != 2 {
			t.Errorf("%d destinations, the canary among them: %v", set.Len(), found)
		}
		fixed, err := w.cache(registry.CacheConfig{Canary: canary(w.T), Fixed: parse(t, file())}).Set(w.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, found := fixed.Lookup(registry.CanaryID); !found {
			t.Error("not known beside destinations of a file")
		}
	})
}
