package program

import (
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
	"github.com/waybillhq/waybill/shared/registry"
)

func one(id string) map[string]any {
	return map[string]any{"id": id, "tenant": Tenant, "note": "[,]"}
}

func isOne(id string) bool { return strings.HasPrefix(id, "one-") }

func TestDocument(t *testing.T) {
	const shop = `{"id": "shop", "tenant": "acme"}`
	const mine, other = `{"tenant":"waybill-smoke","id":"one-1"}`, `{"tenant":"acme","id":"one-1"}`
	for name, tt := range map[string]struct{ document, want string }{
		"none":                         {`{"destinations": [ ]}`, `{"destinations": [ ]}`},
		"nothing of ours":              {`{"destinations": [` + shop + `]}`, `{"destinations": [` + shop + `]}`},
		"only ours":                    {`{"destinations": [` + mine + `]}`, `{"destinations": []}`},
		"two of ours":                  {`{"destinations": [` + mine + ` , ` + mine + `]}`, `{"destinations": []}`},
		"before another":               {`{"destinations": [` + mine + `,` + shop + `]}`, `{"destinations": [` + shop + `]}`},
		"after another":                {`{"destinations": [` + shop + ` , ` + mine + ` ]}`, `{"destinations": [` + shop + `  ]}`},
		"two after another":            {`{"destinations": [` + shop + `,` + mine + `,` + mine + `]}`, `{"destinations": [` + shop + `]}`},
		"around another":               {`{"destinations": [` + mine + `,` + shop + `,` + mine + `]}`, `{"destinations": [` + shop + `]}`},
		"between others":               {`{"destinations": [` + shop + `,` + mine + `,` + shop + `]}`, `{"destinations": [` + shop + `,` + shop + `]}`},
		"such an id of another tenant": {`{"destinations": [` + other + `]}`, `{"destinations": [` + other + `]}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := withoutDestinations([]byte(tt.document), isOne)
			if err != nil || string(got) != tt.want {
				t.Errorf("%s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func FuzzDocument(f *testing.F) {
	f.Add(noDestinations, 1)
	f.Add("{ \"destinations\":\n[ {\"id\": \"a\"} , {\"id\": \"b,]\"}\n] }", 2)
	f.Add(`{"$schema": "x", "destinations": [[], 1, null]}`, 2)
	f.Fuzz(func(t *testing.T, document string, n int) {
		added := []map[string]any{one("one-1"), one("one-2")}[:1+max(n, -n)%2]
		before, err := withoutDestinations([]byte(document), isOne)
		if err != nil || string(before) != document {
			t.Skip("no document, or not without ours")
		}
		with, err := withDestinations([]byte(document), added...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jsontree.Parse(with, deepest+1); err != nil {
			t.Errorf("%s: %v", with, err)
		}
		if rest, err := withoutDestinations(with, isOne); err != nil || string(rest) != document {
			t.Errorf("%q, with ours %q, without them %q: %v", document, with, rest, err)
		}
	})
}

// Our own destinations are valid, with and without a receiver, beside others and alone.
func TestOursAreValid(t *testing.T) {
	for _, s := range []*session{{run: Tenant + "-20261122t100000-abcdef"}, {run: Tenant + "-20261122t100000-abcdef", options: options{
		receiver: "https://hooks.example.com/x", receiverSecret: "arn:aws:ssm:eu-west-1:123456789012:parameter/waybill/smoke",
	}}} {
		document, err := withDestinations([]byte(noDestinations), s.ours()...)
		if err != nil {
			t.Fatal(err)
		}
		set, err := registry.Parse(document, registry.Options{})
		if err != nil || set.Len() != len(s.ours()) {
			t.Errorf("%s: %v", document, err)
		}
		for d := range set.All() {
			if d.Tenant != Tenant || !s.isOurs(d.ID) {
				t.Errorf("%s of %s", d.ID, d.Tenant)
			}
		}
	}
}
