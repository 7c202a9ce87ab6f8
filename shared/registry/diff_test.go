package registry_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/registry"
)

func TestDiff(t *testing.T) {
	with := func(field, value string) string { return destination(map[string]string{field: value}) }
	web := func(field, value string) string { return with("webhook", webhook(map[string]string{field: value})) }
	changed := func(fields ...string) []registry.Change {
		return []registry.Change{{ID: "orders-crm", Kind: registry.Changed, Fields: fields}}
	}
	full := strings.Replace(fullFile, "SECRET", goodSecret, 1)
	plain := destination(nil)
	for name, test := range map[string]struct {
		from, to string
		want     []registry.Change
	}{
		"nothing":     {full, full, nil},
		"both empty":  {file(), file(), nil},
		"added":       {file(), file(plain), []registry.Change{{ID: "orders-crm", Kind: registry.Added}}},
		"removed":     {file(plain), file(), []registry.Change{{ID: "orders-crm", Kind: registry.Removed}}},
		"another id":  {file(with("id", `"z"`), with("id", `"m"`)), file(with("id", `"a"`), with("id", `"m"`)), []registry.Change{{ID: "a", Kind: registry.Added}, {ID: "z", Kind: registry.Removed}}},
		"other order": {file(with("id", `"a"`), plain), file(plain, with("id", `"a"`)), nil},
		"tenant":      {file(plain), file(with("tenant", `"*"`)), changed("tenant")},
		"URL":         {file(plain), file(web("url", `"https://other.example/"`)), changed("webhook.url")},
		"timeout":     {file(plain), file(web("timeout", `"5s"`)), changed("webhook.timeout")},
		"secret":      {file(web("secrets", listed(goodSecret))), file(web("secrets", listed(secretOf(33)))), changed("webhook.secrets")},
		"stored":      {file(web("secrets", listed(goodSecret))), file(plain), changed("webhook.secrets")},
		"other ARN":   {file(web("secrets", listed(parameter))), file(plain), changed("webhook.secrets")},
		"rotation":    {file(plain), file(web("secrets", `["`+goodARN+`", "`+parameter+`"]`)), changed("webhook.secrets")},
		"first one": {
			file(web("secrets", `["`+parameter+`", "`+goodARN+`"]`)), file(web("secrets", `["`+goodARN+`", "`+parameter+`"]`)), changed("webhook.secrets"),
		},
		"headers": {
			file(web("headers", `{"x-a": "1", "x-b": "2", "x-c": "3"}`)), file(web("headers", `{"x-d": "", "x-c": "4", "X-B": "2"}`)),
			changed("webhook.headers.x-a", "webhook.headers.x-c", "webhook.headers.x-d"),
		},
		"pattern":                 {file(plain), file(with("pattern", `{"type": ["a"]}`)), changed("pattern")},
		"value in a pattern":      {file(with("pattern", `{"data": {"n": [1.0]}}`)), file(with("pattern", `{"data": {"n": [1]}}`)), changed("pattern")},
		"layout of a pattern":     {file(with("pattern", `{"type": ["a"], "source": ["b"]}`)), file(with("pattern", "{\"source\":\n[\"b\"], \"type\": [\"a\"]}")), nil},
		"empty pattern":           {file(plain), file(with("pattern", `{}`)), nil},
		"retry":                   {file(plain), file(with("retry", `{"schedule": ["5s"]}`)), changed("retry")},
		"age":                     {file(with("retry", exponential(``))), file(with("retry", exponential(`, "maxAge": "24h"`))), changed("retry")},
		"same waits":              {file(with("retry", `{"schedule": ["1s", "2s"]}`)), file(with("retry", exponential(``))), nil},
		"rate":                    {file(plain), file(with("rate", `{"limit": 5}`)), changed("rate")},
		"burst":                   {file(with("rate", `{"limit": 5}`)), file(with("rate", `{"limit": 5, "burst": 2}`)), changed("rate")},
		"same rate":               {file(with("rate", `{"limit": 50}`)), file(with("rate", `{"limit": 50, "per": "1s", "burst": 5}`)), nil},
		"concurrency":             {file(with("concurrency", `5`)), file(plain), changed("concurrency")},
		"ledger":                  {file(plain), file(with("ledger", `"relaxed"`)), changed("ledger")},
		"reject":                  {file(plain), file(with("reject", `[]`)), changed("reject")},
		"defaults written out":    {file(plain), file(with("ledger", `"strict", "reject": [505, 400, 405, 411, 413, 414, 415, 422, 431, 501]`)), nil},
		"several, in their order": {file(plain), full, changed("webhook.url", "webhook.secrets", "webhook.headers.authorization", "webhook.headers.x-team", "webhook.timeout", "pattern", "retry", "rate", "concurrency", "ledger", "reject")},
	} {
		changes := registry.Diff(parseInline(t, test.from), parseInline(t, test.to))
		if len(changes) != len(test.want) || len(changes) > 0 && !reflect.DeepEqual(changes, test.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, changes, test.want)
		}
		if text := fmt.Sprintf("%+v", changes); strings.Contains(text, "top-secret") || strings.Contains(text, "whsec_") {
			t.Errorf("%s shows a credential: %s", name, text)
		}
	}
	if changes := registry.Diff(nil, parse(t, file(plain))); len(changes) != 1 || changes[0].Kind != registry.Added {
		t.Errorf("from nothing: %+v", changes)
	}
}

func exponential(more string) string {
	return `{"exponential": {"initial": "1s", "factor": 2, "cap": "1h", "attempts": 3` + more + `}}`
}
