package registry_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/pattern"
	"github.com/waybillhq/waybill/shared/registry"
)

// many gives a file of n destinations in which an order of customer 7 interests at most two of them and the audit.
func many(n int) string {
	destinations := []string{destination(map[string]string{"id": `"audit"`, "tenant": `"*"`})}
	for i := 1; len(destinations) < n; i++ {
		wanted := []string{
			`{"type": ["order.paid"], "data": {"customer": ["c%d"]}}`,
			`{"type": [{"prefix": "order."}], "data": {"customer": [{"equals-ignore-case": "C%d"}]}}`,
			`{"data": {"lines": {"sku": [{"wildcard": "sku-%d-*"}]}}}`,
			`{"source": ["/shop/%d"], "$or": [{"type": ["order.paid"]}, {"data": {"test": [true]}}]}`,
		}[i%4]
		destinations = append(destinations, destination(map[string]string{
			"id": fmt.Sprintf(`"d%d"`, i), "pattern": fmt.Sprintf(wanted, i/4),
		}))
	}
	return file(destinations...)
}

func order() *pattern.Event {
	attributes := map[string]string{"specversion": "1.0", "id": "1", "source": "/shop/7", "type": "order.paid", "tenant": "acme"}
	return pattern.NewEvent(maps.All(attributes), []byte(`{"customer": "c7", "total": 12.50, "lines": [{"sku": "sku-1-a"}, {"sku": "sku-7-b"}]}`))
}

// loop is what Match must agree with.
func loop(set *registry.Set, tenant string, e *pattern.Event) []*registry.Destination {
	var wanted []*registry.Destination
	for d := range set.All() {
		if (d.Tenant == tenant || d.Tenant == registry.EveryTenant) && d.Pattern.Match(e) {
			wanted = append(wanted, d)
		}
	}
	return wanted
}

func TestMatchAgreesWithALoopOverThousands(t *testing.T) {
	set := parse(t, many(2000))
	want := loop(set, "acme", order())
	if got := set.Match("acme", order()); !slices.Equal(got, want) {
		t.Errorf("got %s, a loop gives %s", ids(got), ids(want))
	}
	if got := ids(want); got != "audit d6 d28 d29 d30 d31" {
		t.Errorf("the sample is not what it should be: %s", got)
	}
	if got := ids(set.Match("other", order())); got != "audit" {
		t.Errorf("another tenant's destinations: %s", got)
	}
}

func BenchmarkMatch(b *testing.B) {
	matchers := map[string]func(*registry.Set, string, *pattern.Event) []*registry.Destination{
		"index": (*registry.Set).Match,
		"loop":  loop,
	}
	for _, n := range []int{1, 100, 10_000} {
		set, err := registry.Parse([]byte(many(n)), registry.Options{})
		if err != nil {
			b.Fatal(strings.SplitN(err.Error(), "\n", 2)[0])
		}
		for _, name := range slices.Sorted(maps.Keys(matchers)) {
			b.Run(fmt.Sprintf("destinations=%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if len(matchers[name](set, "acme", order())) == 0 {
						b.Fatal("nobody wants it")
					}
				}
			})
		}
	}
}

func BenchmarkParse(b *testing.B) {
	document := []byte(many(10_000))
	b.SetBytes(int64(len(document)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.Parse(document, registry.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
