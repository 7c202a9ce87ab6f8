package registry_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/pattern"
	"github.com/waybillhq/waybill/shared/registry"
)

// secretOf gives a secret of n different bytes.
func secretOf(n int) string {
	key := make([]byte, n)
	for i := range key {
		key[i] = byte(i*7 + n)
	}
	return "whsec_" + base64.StdEncoding.EncodeToString(key)
}

var goodSecret = secretOf(32)

const (
	goodARN   = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:waybill/hook-AbCdEf"
	parameter = "arn:aws:ssm:eu-west-1:123456789012:parameter/waybill/hook"

	// loopback may have its secrets in the file.
	loopback = `"http://localhost:8080/hooks"`
)

// destination gives a good destination with some fields replaced; an empty text removes a field.
func destination(replace map[string]string) string {
	fields := map[string]string{
		"id":      `"orders-crm"`,
		"tenant":  `"acme"`,
		"type":    `"webhook"`,
		"webhook": webhook(nil),
	}
	maps.Copy(fields, replace)
	return object(fields)
}

func webhook(replace map[string]string) string {
	fields := map[string]string{"url": `"https://crm.example.com/hooks"`, "secrets": listed(goodARN)}
	maps.Copy(fields, replace)
	return object(fields)
}

func object(fields map[string]string) string {
	var members []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if fields[name] != "" {
			members = append(members, fmt.Sprintf("%q: %s", name, fields[name]))
		}
	}
	return "{" + strings.Join(members, ", ") + "}"
}

func file(destinations ...string) string {
	return `{"destinations": [` + strings.Join(destinations, ", ") + `]}`
}

func parse(t *testing.T, document string) *registry.Set {
	t.Helper()
	set, err := registry.Parse([]byte(document), registry.Options{})
	if err != nil {
		t.Fatalf("%s:\n%v", document, err)
	}
	return set
}

func parseInline(t *testing.T, document string) *registry.Set {
	t.Helper()
	set, err := registry.Parse([]byte(document), registry.Options{InlineSecrets: true})
	if err != nil {
		t.Fatalf("%s:\n%v", document, err)
	}
	return set
}

const fullFile = `{"destinations": [{"id": "orders-crm", "tenant": "acme", "type": "webhook",
  "webhook": {"url": "https://crm.example.com:8443/hooks?v=1", "secrets": ["SECRET"],
    "headers": {"X-Team": "crm", "authorization": "Bearer top-secret-token"}, "timeout": "5s"},
  "pattern": {"type": [{"prefix": "order."}]}, "retry": {"schedule": ["1s", "5s", "1m"]},
  "rate": {"limit": 120, "per": "1m", "burst": 5}, "concurrency": 3, "ledger": "relaxed", "reject": [422, 400]}]}`

func TestParseReadsEveryField(t *testing.T) {
	set := parseInline(t, strings.Replace(fullFile, "SECRET", goodSecret, 1))
	d, ok := set.Lookup("orders-crm")
	if !ok || set.Len() != 1 {
		t.Fatal("the destination is not there")
	}
	if d.ID != "orders-crm" || d.Tenant != "acme" || d.Type != registry.TypeWebhook || d.Ledger != registry.Relaxed {
		t.Errorf("got %+v", d)
	}
	if got := d.Retry.String(); got != "[1s 5s 1m0s]" {
		t.Errorf("retry %s", got)
	}
	if d.Rate == nil || *d.Rate != (registry.Rate{Limit: 120, Per: time.Minute, Burst: 5}) || d.Rate.Interval() != 500*time.Millisecond || d.Concurrency != 3 {
		t.Errorf("rate %+v, concurrency %d", d.Rate, d.Concurrency)
	}
	if !slices.Equal(d.Reject, []int{400, 422}) || !d.Rejects(422) || d.Rejects(404) {
		t.Errorf("reject %v", d.Reject)
	}
	want := []registry.Header{{Name: "x-team", Value: "crm"}, {Name: "authorization", Value: "Bearer top-secret-token"}}
	if w := d.Webhook; w.URL != "https://crm.example.com:8443/hooks?v=1" || w.Timeout != 5*time.Second || !slices.Equal(w.Headers, want) {
		t.Errorf("webhook %+v", w)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(goodSecret, "whsec_"))
	if err != nil || len(d.Webhook.Secrets) != 1 || string(d.Webhook.Secrets[0].Key()) != string(key) {
		t.Errorf("the key differs (%v)", err)
	}
}

func TestParseDefaults(t *testing.T) {
	d, _ := parse(t, file(destination(nil))).Lookup("orders-crm")
	if d.Pattern != nil || d.Rate != nil || d.Concurrency != 0 || d.Ledger != registry.Strict || d.Retry.Attempts() != 10 || d.Webhook.Timeout != 15*time.Second || d.Webhook.Headers != nil {
		t.Errorf("defaults: %+v, %+v", d, d.Webhook)
	}
	for _, status := range []int{400, 405, 411, 413, 414, 415, 422, 431, 501, 505} {
		if !d.Rejects(status) {
			t.Errorf("%d is tried again", status)
		}
	}
	for _, status := range []int{200, 302, 401, 403, 404, 408, 409, 410, 429, 500, 502, 503, 504} {
		if d.Rejects(status) {
			t.Errorf("%d is rejected", status)
		}
	}
}

// accepted gives good files by name.
func accepted() map[string]string {
	web := func(field, value string) string {
		return destination(map[string]string{"webhook": webhook(map[string]string{field: value})})
	}
	with := func(field, value string) string { return destination(map[string]string{field: value}) }
	local := func(secrets string) string {
		return destination(map[string]string{"webhook": webhook(map[string]string{"url": loopback, "secrets": secrets})})
	}
	return map[string]string{
		"no destinations":          file(),
		"two":                      file(destination(nil), with("id", `"b"`)),
		"longest id":               file(with("id", `"`+strings.Repeat("a", 63)+`"`)),
		"digits in an id":          file(with("id", `"0-9"`)),
		"every tenant":             file(with("tenant", `"*"`)),
		"tenant with punctuation":  file(with("tenant", `"ACME:eu/1"`)),
		"http to localhost":        file(web("url", `"http://localhost:8080/x"`)),
		"http to its subdomain":    file(web("url", `"http://a.LOCALHOST./x"`)),
		"http to 127.0.0.2":        file(web("url", `"http://127.0.0.2"`)),
		"http to ::1":              file(web("url", `"http://[::1]:80/"`)),
		"upper case scheme":        file(web("url", `"HTTPS://example.com"`)),
		"query":                    file(web("url", `"https://example.com?token=a%20b"`)),
		"private address":          file(web("url", `"https://10.0.0.1/"`)),
		"four secrets":             file(local(`["` + secretOf(24) + `", "` + secretOf(64) + `", "` + secretOf(33) + `", "` + secretOf(48) + `"]`)),
		"parameter":                file(web("secrets", listed(parameter))),
		"parameter at the top":     file(web("secrets", listed("arn:aws:ssm:eu-west-1:123456789012:parameter/hook_1.a"))),
		"stored twice":             file(web("secrets", `["`+goodARN+`", "`+parameter+`"]`)),
		"stored in China":          file(web("secrets", listed("arn:aws-cn:ssm:cn-north-1:123456789012:parameter/a/b"))),
		"stored for a government":  file(web("secrets", listed("arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:a+b=c@d.e-AbC123"))),
		"stored and in the file":   file(local(`["` + goodARN + `", "` + goodSecret + `"]`)),
		"schema for editors":       `{"$schema": "./destinations.schema.json", "destinations": []}`,
		"no headers":               file(web("headers", `{}`)),
		"empty header":             file(web("headers", `{"x-empty": ""}`)),
		"authorization":            file(web("headers", `{"Authorization": "Basic abc", "cookie": "a=b"}`)),
		"shortest timeout":         file(web("timeout", `"1s"`)),
		"longest timeout":          file(web("timeout", `"30s"`)),
		"one attempt":              file(with("retry", `{"schedule": []}`)),
		"exponential":              file(with("retry", `{"exponential": {"initial": "5s", "factor": 2.5, "cap": "1h", "attempts": 20}}`)),
		"exponential with an age":  file(with("retry", `{"exponential": {"initial": "5s", "factor": 2, "cap": "1h", "attempts": 20, "maxAge": "24h"}}`)),
		"rate of one a day":        file(with("rate", `{"limit": 1, "per": "24h"}`)),
		"largest rate":             file(with("rate", `{"limit": 10000, "burst": 10000}`)),
		"one at a time":            file(with("concurrency", `1`)),
		"nothing is rejected":      file(with("reject", `[]`)),
		"server errors rejected":   file(with("reject", `[500, 404]`)),
		"everything matched":       file(with("pattern", `{}`)),
		"strict":                   file(with("ledger", `"strict"`)),
		"same secret, other place": file(destination(nil), with("id", `"other"`)),
	}
}

func TestParseAccepts(t *testing.T) {
	for name, document := range accepted() {
		if _, err := registry.Parse([]byte(document), registry.Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	web := func(field, value string) string {
		return destination(map[string]string{"webhook": webhook(map[string]string{field: value})})
	}
	if _, err := registry.Parse([]byte(file(web("url", `"http://example.com"`))), registry.Options{PlainHTTP: true}); err != nil {
		t.Errorf("PlainHTTP: %v", err)
	}
	if _, err := registry.Parse([]byte(file(web("secrets", listed(goodSecret)))), registry.Options{InlineSecrets: true}); err != nil {
		t.Errorf("InlineSecrets: %v", err)
	}
}

func ids(destinations []*registry.Destination) string {
	names := make([]string, len(destinations))
	for i, d := range destinations {
		names[i] = d.ID
	}
	return strings.Join(names, " ")
}

func TestMatchGivesTheTenantsDestinationsInOrder(t *testing.T) {
	of := func(id, tenant, pattern string) string {
		return destination(map[string]string{"id": `"` + id + `"`, "tenant": `"` + tenant + `"`, "pattern": pattern})
	}
	set := parse(t, file(
		of("a1", "acme", ``),
		of("all1", "*", ``),
		of("b1", "beta", ``),
		of("a2", "acme", `{"type": ["order.paid"]}`),
		of("a3", "acme", `{"type": ["invoice.paid"]}`),
		of("all2", "*", `{"data": {"total": [5]}}`),
		of("a4", "acme", ``),
	))
	event := pattern.NewEvent(maps.All(map[string]string{"type": "order.paid"}), []byte(`{"total": 5}`))
	other := pattern.NewEvent(nil, nil)
	for _, test := range []struct {
		tenant string
		event  *pattern.Event
		want   string
	}{
		{"acme", event, "a1 all1 a2 all2 a4"},
		{"acme", other, "a1 all1 a4"},
		{"beta", event, "all1 b1 all2"},
		{"gamma", event, "all1 all2"},
		{"ACME", other, "all1"},
		{"", other, "all1"},
		{"*", event, "all1 all2"},
	} {
		if got := ids(set.Match(test.tenant, test.event)); got != test.want {
			t.Errorf("tenant %q: %s, want %s", test.tenant, got, test.want)
		}
	}
	if got := ids(slices.Collect(set.All())); got != "a1 all1 b1 a2 a3 all2 a4" {
		t.Errorf("all: %s", got)
	}
	if _, ok := set.Lookup("a5"); ok {
		t.Error("found what is not there")
	}
	if got := new(registry.Set).Match("acme", event); len(got) != 0 {
		t.Errorf("the zero set matched %v", got)
	}
}

func TestFixedGivesItsSet(t *testing.T) {
	set := parse(t, file(destination(nil)))
	got, err := registry.Fixed(set).Set(t.Context())
	if err != nil || got != set {
		t.Errorf("got %p, %v", got, err)
	}
}

// TestNothingPrintsCredentials prints a whole destination every way there is.
func TestNothingPrintsCredentials(t *testing.T) {
	set := parseInline(t, strings.Replace(fullFile, "SECRET", goodSecret, 1))
	d, _ := set.Lookup("orders-crm")
	key := string(d.Webhook.Secrets[0].Key())
	hidden := struct{ inner registry.Secret }{d.Webhook.Secrets[0]}
	asJSON, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "d", d, "w", d.Webhook, "s", d.Webhook.Secrets[0], "h", d.Webhook.Headers[1])
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "w", *d.Webhook, "s", d.Webhook.Secrets, "h", d.Webhook.Headers)
	prints := []string{string(asJSON), logged.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%c", "%U"} {
		prints = append(prints, fmt.Sprintf(verb, *d.Webhook), fmt.Sprintf(verb, d.Webhook.Secrets), fmt.Sprintf(verb, hidden),
			fmt.Sprintf(verb, d.Webhook.Headers), fmt.Sprintf(verb, set))
	}
	for _, print := range prints {
		for _, text := range []string{
			goodSecret, strings.TrimPrefix(goodSecret, "whsec_"), key, fmt.Sprintf("%x", key), fmt.Sprintf("%X", key),
			strings.Trim(fmt.Sprintf("%d", []byte(key)), "[]"), "top-secret-token", fmt.Sprintf("%x", "top-secret-token"),
		} {
			if strings.Contains(print, text) {
				t.Errorf("a credential shows in %q", print)
			}
		}
	}
	if got := fmt.Sprintf("%d %x", d.Webhook.Secrets[0], d.Webhook.Headers[1]); got != "[redacted] authorization: [redacted]" {
		t.Errorf("odd verbs print %s", got)
	}
	if !strings.Contains(string(asJSON), `"Secrets":["[redacted]"]`) {
		t.Errorf("JSON: %s", asJSON)
	}
}

func TestParseSecret(t *testing.T) {
	secret, err := registry.ParseSecret(goodSecret)
	if err != nil || len(secret.Key()) != 32 {
		t.Fatalf("%d bytes, %v", len(secret.Key()), err)
	}
	secret.Key()[0]++
	if again, _ := registry.ParseSecret(goodSecret); string(secret.Key()) != string(again.Key()) {
		t.Error("the key can be changed from outside")
	}
	if _, err := registry.ParseSecret("whsec_c2hvcnQ="); err == nil || !strings.Contains(err.Error(), "holds 5 bytes") {
		t.Errorf("got %v", err)
	}
	if (registry.Secret{}).Key() != nil {
		t.Error("the zero secret has a key")
	}
}

// TestMatchCostIgnoresOtherTenants counts allocations as a stand-in for work: none for other tenants' destinations.
func TestMatchCostIgnoresOtherTenants(t *testing.T) {
	all := []string{destination(nil)}
	for i := range 2000 {
		all = append(all, destination(map[string]string{"id": fmt.Sprintf(`"d%d"`, i), "tenant": `"other"`}))
	}
	set := parse(t, file(all...))
	event := pattern.NewEvent(nil, nil)
	if got := testing.AllocsPerRun(100, func() { set.Match("acme", event) }); got > 5 {
		t.Errorf("%v allocations for one destination of 2001", got)
	}
}

func TestErrorText(t *testing.T) {
	_, err := registry.Parse([]byte("{\"destinations\": [\n  {\"id\": \"ü\", \"tenant\": 5}]}"), registry.Options{Name: "destinations.json"})
	if !errors.Is(err, registry.ErrInvalid) {
		t.Fatal(err)
	}
	lines := strings.Split(err.Error(), "\n")
	want := []string{
		"destinations.json:2:3: destinations[0].type: is missing; ",
		"destinations.json:2:3: destinations[0].webhook: is missing; ",
		"destinations.json:2:10: destinations[0].id: is not a valid id; use a-z, 0-9 and hyphens, a letter or digit first, at most 63",
		"destinations.json:2:25: destinations[0].tenant: must be a string, is a number; write it in quotes",
	}
	if len(lines) != len(want) {
		t.Fatalf("got\n%v", err)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("line %d:\n got %s\nwant %s", i+1, line, want[i])
		}
	}
}

func TestErrorTextIsBounded(t *testing.T) {
	_, err := registry.Parse([]byte(file(slices.Repeat([]string{"1"}, 9999)...)), registry.Options{})
	var refusal *registry.ProblemsError
	if !errors.As(err, &refusal) || len(refusal.Problems) != 9999 {
		t.Fatalf("not every problem is there: %v", err)
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 101 || lines[100] != "and 9899 more" {
		t.Errorf("%d lines, last %q", len(lines), lines[len(lines)-1])
	}
	_, err = registry.Parse([]byte(file(destination(map[string]string{"reject": "[" + strings.Repeat("1,", 20000) + "1]"}))), registry.Options{})
	if !errors.As(err, &refusal) || len(refusal.Problems) != registry.MaxProblems || refusal.Omitted != 10001 {
		t.Errorf("%d problems, %d omitted", len(refusal.Problems), refusal.Omitted)
	}
}

func TestStoredSecretsShowTheirARN(t *testing.T) {
	set := parse(t, file(destination(nil)))
	d, _ := set.Lookup("orders-crm")
	s := d.Webhook.Secrets[0]
	if s.ARN() != goodARN || s.Key() != nil || fmt.Sprintf("%v %d", s, s) != goodARN+" "+goodARN {
		t.Errorf("ARN %s, %d bytes of a key, prints %v", s.ARN(), len(s.Key()), s)
	}
	if asJSON, err := json.Marshal(d.Webhook); err != nil || !strings.Contains(string(asJSON), `"Secrets":["`+goodARN+`"]`) {
		t.Errorf("JSON: %s, %v", asJSON, err)
	}
	if key, _ := registry.ParseSecret(goodSecret); key.ARN() != "" {
		t.Error("a key has an ARN")
	}
}

func TestNewSecret(t *testing.T) {
	key := []byte("24 bytes are just enough")
	s, err := registry.NewSecret(key)
	if err != nil {
		t.Fatal(err)
	}
	key[0]++
	if string(s.Key()) != "24 bytes are just enough" {
		t.Error("the key can be changed from outside")
	}
	for want, bad := range map[string]string{"holds 23 bytes": "24 bytes are just enoug", "is weak": strings.Repeat("secret", 5)} {
		if _, err := registry.NewSecret([]byte(bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseSecrets(t *testing.T) {
	a, b, c, d, e := secretOf(32), secretOf(33), secretOf(34), secretOf(35), secretOf(36)
	for name, test := range map[string]struct {
		text string
		want []string
		says string
	}{
		"one":                  {a, []string{a}, ""},
		"as an editor left it": {"\n" + a + "\r\n\t" + b + "  \n", []string{a, b}, ""},
		"as many as sign":      {strings.Join([]string{d, c, b, a}, " "), []string{d, c, b, a}, ""},
		"one twice":            {a + " " + b + " " + a, []string{a, b}, ""},
		"five, one twice":      {strings.Join([]string{a, b, c, d, a}, " "), []string{a, b, c, d}, ""},
		"nothing":              {"", nil, "is empty"},
		"white space":          {" \n", nil, "is empty"},
		"five":                 {strings.Join([]string{a, b, c, d, e}, " "), nil, "more than 4"},
		"a bad one":            {a + "\n" + b[:20], nil, "secret 2 of the stored text is not standard base64"},
		"JSON":                 {`{"key":"` + a + `"}`, nil, "secret 1 of the stored text does not begin with whsec_"},
		"an ARN":               {goodARN, nil, "is an ARN, where the secret itself is needed"},
	} {
		secrets, err := registry.ParseSecrets(test.text)
		if test.says != "" {
			if err == nil || !strings.Contains(err.Error(), test.says) || secrets != nil {
				t.Errorf("%s: %v, want %q", name, err, test.says)
			}
			if err != nil && strings.Contains(err.Error(), b[6:20]) {
				t.Errorf("%s shows the secret: %v", name, err)
			}
			continue
		}
		var got []string
		for _, s := range secrets {
			got = append(got, "whsec_"+base64.StdEncoding.EncodeToString(s.Key()))
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: got %d secrets, %v", name, len(got), err)
		}
	}
}

func TestWithSecretsLeavesTheSetAlone(t *testing.T) {
	set := parse(t, file(destination(nil)))
	d, _ := set.Lookup("orders-crm")
	key, _ := registry.ParseSecret(goodSecret)
	with := d.WithSecrets([]registry.Secret{key})
	if len(with.Webhook.Secrets) != 1 || string(with.Webhook.Secrets[0].Key()) != string(key.Key()) || with.Webhook.URL != d.Webhook.URL || with.ID != d.ID {
		t.Errorf("got %+v", with.Webhook)
	}
	if again, _ := set.Lookup("orders-crm"); again.Webhook.Secrets[0].ARN() != goodARN {
		t.Errorf("the set has changed: %+v", again.Webhook)
	}
}
