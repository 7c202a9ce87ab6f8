package registry_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/waybillhq/waybill/shared/registry"
)

type refusal struct {
	name, document string
	field          string // of one of the problems
	says           string // part of its text, the remedy where there is one
}

func refusals() []refusal {
	with := func(field, value string) string { return file(destination(map[string]string{field: value})) }
	web := func(field, value string) string { return with("webhook", webhook(map[string]string{field: value})) }
	at := func(url, secrets string) string {
		return with("webhook", webhook(map[string]string{"url": url, "secrets": secrets}))
	}
	local := func(secrets string) string { return at(loopback, secrets) }
	encoded := func(key string) string { return "whsec_" + base64.StdEncoding.EncodeToString([]byte(key)) }
	quoted := func(text string) string { return `"` + text + `"` }
	const d, w = "destinations[0].", "destinations[0].webhook."

	return []refusal{
		// The file.
		{"empty file", ``, "", "close every quote"},
		{"not JSON", `destinations: []`, "", "invalid character"},
		{"trailing comma", `{"destinations": [],}`, "", "remove the comma"},
		{"comment", "{\"destinations\": [ // none\n]}", "", "JSON has no comments"},
		{"an array", `[]`, "", "must be an object, is an array"},
		{"no destinations", `{}`, "destinations", `write {"destinations": […]}`},
		{"misspelt", `{"destination": []}`, "destination", `did you mean "destinations"?`},
		{"destinations as an object", `{"destinations": {}}`, "destinations", "write it in brackets"},
		{"destination as text", file(`"orders"`), "destinations[0]", "must be an object, is a string"},
		{"file too large", file() + strings.Repeat(" ", 4<<20), "", "use at most 4194304"},
		{"too many destinations", file(slices.Repeat([]string{"1"}, 10001)...), "destinations", "use at most 10000"},
		{"too deep", file(strings.Repeat("[", 70) + strings.Repeat("]", 70)), "", "nest less deeply"},
		{"not UTF-8", with("tenant", "\"a\xff\""), "", "save the file as UTF-8"},
		{"repeated field", `{"destinations": [], "destinations": []}`, "destinations", "keep one of the two"},
		{"repeated field in a destination", with("ledger", `"strict", "id": "b"`), d + "id", "keep one of the two"},
		{"unknown field", with("paterns", `{}`), d + "paterns", `did you mean "pattern"?`},
		{"unknown field, nothing like it", with("enabled", `true`), d + "enabled", "known here: id, tenant, type, webhook, pattern, retry, rate, concurrency, ledger, reject"},
		{"other case", with("Ledger", `"strict"`), d + "Ledger", `did you mean "ledger"?`},

		// Identity.
		{"no id", with("id", ``), d + "id", `"id": "orders-crm"`},
		{"empty id", with("id", `""`), d + "id", "use a-z, 0-9 and hyphens"},
		{"the canary's id", with("id", `"waybill.canary"`), d + "id", "stands in no file"},
		{"the canary's tenant", with("tenant", `"waybill.canary"`), d + "tenant", "nobody else's; name another"},
		{"upper case id", with("id", `"Orders"`), d + "id", "use a-z, 0-9 and hyphens"},
		{"id with a hyphen first", with("id", `"-a"`), d + "id", "a letter or digit first"},
		{"id with a line end", with("id", `"a\n"`), d + "id", "use a-z"},
		{"id too long", with("id", quoted(strings.Repeat("a", 64))), d + "id", "at most 63"},
		{"id as a number", with("id", `7`), d + "id", "write it in quotes"},
		{"same id twice", file(destination(nil), destination(map[string]string{"tenant": `"b"`})), "destinations[1].id", "is already the id of destinations[0]"},
		{"no tenant", with("tenant", ``), d + "tenant", `write "*"`},
		{"empty tenant", with("tenant", `""`), d + "tenant", `write "*"`},
		{"tenant with a wildcard", with("tenant", `"acme-*"`), d + "tenant", "no wildcard"},
		{"tenant with a blank", with("tenant", `"acme "`), d + "tenant", "remove it"},
		{"tenant too long", with("tenant", quoted(strings.Repeat("a", 129))), d + "tenant", "use at most 128"},
		{"no type", with("type", ``), d + "type", `write "type": "webhook"`},
		{"unknown type", with("type", `"sqs"`), d + "type", `write "webhook"`},
		{"null", with("type", `null`), d + "type", "must be a string, is null"},

		// Webhook.
		{"no webhook", with("webhook", ``), d + "webhook", "say where to send"},
		{"webhook as text", with("webhook", `"https://example.com"`), d + "webhook", "must be an object"},
		{"unknown webhook field", web("header", `{}`), w + "header", `did you mean "headers"?`},
		{"no URL", web("url", ``), w + "url", "https://example.com/hooks"},
		{"empty URL", web("url", `""`), w + "url", "https://example.com/hooks"},
		{"relative URL", web("url", `"/hooks"`), w + "url", "not an absolute"},
		{"URL without a scheme", web("url", `"example.com/hooks"`), w + "url", "not an absolute"},
		{"other scheme", web("url", `"ftp://example.com"`), w + "url", "not an absolute http or https URL"},
		{"opaque URL", web("url", `"https:example.com"`), w + "url", "names no host"},
		{"no host", web("url", `"https:///hooks"`), w + "url", "names no host"},
		{"only a port", web("url", `"https://:443/"`), w + "url", "names no host"},
		{"user and password", web("url", `"https://me:hunter2@example.com/"`), w + "url", "send an authorization header"},
		{"fragment", web("url", `"https://example.com/#top"`), w + "url", "from the # on"},
		{"empty fragment", web("url", `"https://example.com/#"`), w + "url", "from the # on"},
		{"port too large", web("url", `"https://example.com:65536/"`), w + "url", "1 to 65535"},
		{"port zero", web("url", `"https://example.com:0/"`), w + "url", "1 to 65535"},
		{"port missing", web("url", `"https://example.com:/"`), w + "url", "leave it out with its colon"},
		{"port no number", web("url", `"https://example.com:https/"`), w + "url", "is not a URL"},
		{"plain HTTP", web("url", `"http://example.com/"`), w + "url", "use https"},
		{"plain HTTP to a look-alike", web("url", `"http://localhost.example.com/"`), w + "url", "use https"},
		{"plain HTTP to a private address", web("url", `"http://10.0.0.1/"`), w + "url", "use https"},
		{"URL with a blank", web("url", `"https://example.com/a b"`), w + "url", "percent-encode"},
		{"URL with a line end", web("url", `"https://example.com/\r\nx: y"`), w + "url", "percent-encode"},
		{"URL with a backslash", web("url", `"https://example.com\\@evil.example"`), w + "url", "percent-encode"},
		{"international host", web("url", `"https://bücher.example/"`), w + "url", "xn--"},
		{"bad host", web("url", `"https://exa$mple.com/"`), w + "url", "letters, digits and hyphens"},
		{"host with an empty label", web("url", `"https://example..com/"`), w + "url", "letters, digits and hyphens"},
		{"address as one number", web("url", `"http://2130706433/"`), w + "url", "all four decimal parts"},
		{"address in hexadecimal", web("url", `"https://0x7f.0x1/"`), w + "url", "all four decimal parts"},
		{"address shortened", web("url", `"https://127.1/"`), w + "url", "all four decimal parts"},
		{"address with a zone", web("url", `"https://[fe80::1%25eth0]/"`), w + "url", "zone"},
		{"URL too long", web("url", `"https://example.com/`+strings.Repeat("a", 2048)+`"`), w + "url", "use at most 2048"},
		{"URL as a list", web("url", `["https://example.com"]`), w + "url", "must be a string"},

		// Secrets.
		{"no secrets", web("secrets", ``), w + "secrets", "aws secretsmanager create-secret"},
		{"empty secrets", web("secrets", `[]`), w + "secrets", "use 1 to 4"},
		{"five secrets", local(`["` + strings.Join(slices.Repeat([]string{goodSecret}, 5), `", "`) + `"]`), w + "secrets", "use 1 to 4"},
		{"secret as text", web("secrets", quoted(goodARN)), w + "secrets", "write it in brackets"},
		{"secret as a number", web("secrets", `[12345]`), w + "secrets[0]", "write it in quotes"},
		{"secret without its prefix", local(listed(strings.TrimPrefix(goodSecret, "whsec_"))), w + "secrets[0]", "is neither an ARN nor a secret"},
		{"secret in URL-safe base64", local(`["whsec_` + strings.Repeat("-_", 16) + `"]`), w + "secrets[0]", "use standard base64"},
		{"secret cut off", local(listed(goodSecret[:len(goodSecret)-3])), w + "secrets[0]", "copied whole"},
		{"secret with a line end", local(`["` + goodSecret[:20] + `\n` + goodSecret[20:] + `"]`), w + "secrets[0]", "copied whole"},
		{"secret with stray bits", local(listed(strings.TrimSuffix(secretOf(25), "Q==") + "R==")), w + "secrets[0]", "copied whole"},
		{"secret too short", local(listed(secretOf(23))), w + "secrets[0]", "holds 23 bytes; use 24 to 64"},
		{"secret too long", local(listed(secretOf(65))), w + "secrets[0]", "holds 65 bytes; use 24 to 64"},
		{"secret of one byte", local(listed(encoded(strings.Repeat("\x00", 32)))), w + "secrets[0]", "is weak"},
		{"secret of a word", local(listed(encoded(strings.Repeat("secret", 5)))), w + "secrets[0]", "is weak"},
		{"same secret twice", local(`["` + goodSecret + `", "` + goodSecret + `"]`), w + "secrets[1]", "is the same as one before it; remove it"},
		{"same stored secret twice", web("secrets", `["`+goodARN+`", "`+goodARN+`"]`), w + "secrets[1]", "is the same as one before it; remove it"},
		{"secret in the file", web("secrets", listed(goodSecret)), w + "secrets[0]", "store it in Secrets Manager or, as a SecureString, in SSM, and write its ARN: aws secretsmanager create-secret"},
		{"secret in the file for a look-alike", at(`"https://localhost.example.com/"`, listed(goodSecret)), w + "secrets[0]", "store it in Secrets Manager"},
		{"secret in the file for a private address", at(`"https://10.0.0.1/"`, listed(goodSecret)), w + "secrets[0]", "store it in Secrets Manager"},
		{"weak secret in the file", web("secrets", listed("whsec_c2hvcnQ=")), w + "secrets[0]", "store it in Secrets Manager"},

		// ARNs of secrets.
		{"ARN cut off", web("secrets", listed("arn:aws:secretsmanager:eu-west-1")), w + "secrets[0]", "of 4 parts"},
		{"ARN of an unknown partition", web("secrets", listed(strings.Replace(goodARN, "aws", "azure", 1))), w + "secrets[0]", "write aws, aws-cn or aws-us-gov"},
		{"ARN of another service", web("secrets", listed("arn:aws:kms:eu-west-1:123456789012:key/1234abcd")), w + "secrets[0]", "a service that keeps no secrets"},
		{"ARN without a region", web("secrets", listed("arn:aws:ssm::123456789012:parameter/a")), w + "secrets[0]", "name the region"},
		{"ARN with a zone", web("secrets", listed(strings.Replace(goodARN, "eu-west-1", "eu-west-1a", 1))), w + "secrets[0]", "name the region"},
		{"ARN of China in aws", web("secrets", listed(strings.Replace(goodARN, "eu-west-1", "cn-north-1", 1))), w + "secrets[0]", "aws-cn for cn-…"},
		{"ARN of the world in aws-cn", web("secrets", listed(strings.Replace(goodARN, "aws", "aws-cn", 1))), w + "secrets[0]", "does not have that region"},
		{"ARN of the world in aws-us-gov", web("secrets", listed(strings.Replace(parameter, "aws", "aws-us-gov", 1))), w + "secrets[0]", "does not have that region"},
		{"ARN with a short account", web("secrets", listed(strings.Replace(goodARN, "123456789012", "1234", 1))), w + "secrets[0]", "12 digits"},
		{"ARN with a hyphenated account", web("secrets", listed(strings.Replace(parameter, "123456789012", "1234-5678-9012", 1))), w + "secrets[0]", "12 digits"},
		{"ARN of Secrets Manager, of nothing", web("secrets", listed(strings.Replace(goodARN, "secret:", "", 1))), w + "secrets[0]", "go on with secret:"},
		{"ARN with a parameter in Secrets Manager", web("secrets", listed(strings.Replace(parameter, "ssm", "secretsmanager", 1))), w + "secrets[0]", "go on with secret:"},
		{"ARN without the six characters", web("secrets", listed(strings.TrimSuffix(goodARN, "-AbCdEf"))), w + "secrets[0]", "aws secretsmanager describe-secret"},
		{"ARN of six characters only", web("secrets", listed(strings.Replace(goodARN, "waybill/hook", "", 1))), w + "secrets[0]", "aws secretsmanager describe-secret"},
		{"ARN with a JSON key", web("secrets", listed(goodARN+":key::")), w + "secrets[0]", "end it after the name"},
		{"ARN with a blank", web("secrets", listed(strings.Replace(goodARN, "hook", "ho ok", 1))), w + "secrets[0]", "no valid name of a secret"},
		{"ARN of all secrets", web("secrets", listed(strings.Replace(goodARN, "hook-AbCdEf", "*", 1))), w + "secrets[0]", "no valid name of a secret"},
		{"ARN of SSM, of a document", web("secrets", listed(strings.Replace(parameter, "parameter", "document", 1))), w + "secrets[0]", "go on with parameter/"},
		{"ARN of a parameter's version", web("secrets", listed(parameter+":3")), w + "secrets[0]", "names a version or a label"},
		{"ARN of a parameter with an empty part", web("secrets", listed(strings.Replace(parameter, "/waybill", "//waybill", 1))), w + "secrets[0]", "each after a single /"},
		{"ARN of no parameter", web("secrets", listed(strings.TrimSuffix(parameter, "/waybill/hook"))), w + "secrets[0]", "no valid name of a parameter"},
		{"ARN with a line end", web("secrets", listed(parameter+`\n`)), w + "secrets[0]", "no valid name of a parameter"},
		{"ARN too long", web("secrets", listed(parameter+strings.Repeat("a", 2048))), w + "secrets[0]", "at most 2048"},
		{"ARN in capitals", web("secrets", listed(strings.ToUpper(goodARN))), w + "secrets[0]", "is neither an ARN"},
		{"schema as a number", `{"$schema": 7, "destinations": []}`, "$schema", "write it in quotes"},

		// Headers.
		{"headers as a list", web("headers", `["x-team: crm"]`), w + "headers", `write {"name": "value"}`},
		{"header as a number", web("headers", `{"x-team": 5}`), w + "headers.x-team", "write it in quotes"},
		{"signature header", web("headers", `{"Webhook-Id": "x"}`), w + "headers.webhook-id", "is reserved: it belongs to the signature"},
		{"CloudEvents header", web("headers", `{"ce-type": "x"}`), w + "headers.ce-type", "is reserved"},
		{"content-type", web("headers", `{"Content-Type": "text/plain"}`), w + "headers.content-type", "is reserved"},
		{"content-length", web("headers", `{"content-length": "5"}`), w + "headers.content-length", "is reserved"},
		{"host", web("headers", `{"HOST": "x"}`), w + "headers.host", "follows from the URL"},
		{"transfer-encoding", web("headers", `{"transfer-encoding": "chunked"}`), w + "headers.transfer-encoding", "is reserved"},
		{"connection", web("headers", `{"connection": "close"}`), w + "headers.connection", "use a name of your own such as x-connection"},
		{"upgrade", web("headers", `{"upgrade": "h2c"}`), w + "headers.upgrade", "is reserved"},
		{"te", web("headers", `{"te": "trailers"}`), w + "headers.te", "is reserved"},
		{"trailer", web("headers", `{"trailer": "x"}`), w + "headers.trailer", "is reserved"},
		{"user-agent", web("headers", `{"user-agent": "x"}`), w + "headers.user-agent", "is reserved"},
		{"traceparent", web("headers", `{"traceparent": "x"}`), w + "headers.traceparent", "is reserved"},
		{"tracestate", web("headers", `{"tracestate": "x"}`), w + "headers.tracestate", "is reserved"},
		{"proxy header", web("headers", `{"proxy-authorization": "x"}`), w + "headers.proxy-authorization", "is reserved"},
		{"empty header name", web("headers", `{"": "x"}`), w + "headers[0]", "is not a header name"},
		{"header line as a name", web("headers", `{"x-a": "b", "x-team: crm": ""}`), w + "headers[1]", "without the colon"},
		{"header name with a line end", web("headers", `{"x\r\ny": "x"}`), w + "headers[0]", "is not a header name"},
		{"header name too long", web("headers", `{"`+strings.Repeat("x", 129)+`": "x"}`), w + "headers[0]", "at most 128"},
		{"line end in a header", web("headers", `{"x-team": "a\r\nx-evil: b"}`), w + "headers.x-team", "a header is one line"},
		{"NUL in a header", web("headers", `{"x-team": "a\u0000"}`), w + "headers.x-team", "control character"},
		{"DEL in a header", web("headers", `{"x-team": "a\u007f"}`), w + "headers.x-team", "control character"},
		{"umlaut in a header", web("headers", `{"x-team": "ü"}`), w + "headers.x-team", "outside ASCII"},
		{"blank after a header", web("headers", `{"x-team": "crm "}`), w + "headers.x-team", "remove the blank"},
		{"same header twice", web("headers", `{"X-Team": "a", "x-team": "b"}`), w + "headers.x-team", "merge the two"},
		{"header too long", web("headers", `{"x-team": "`+strings.Repeat("a", 4097)+`"}`), w + "headers.x-team", "use at most 4096"},
		{"headers too long", web("headers", `{"a": "`+strings.Repeat("a", 4096)+`", "b": "`+strings.Repeat("a", 4096)+`"}`), w + "headers", "use at most 8192"},
		{"too many headers", web("headers", `{`+strings.Repeat(`"x": "", `, 32)+`"y": ""}`), w + "headers", "use at most 32"},

		// Timeout.
		{"timeout as a number", web("timeout", `15`), w + "timeout", `as in "15s"`},
		{"timeout without a unit", web("timeout", `"15"`), w + "timeout", `as in "15s"`},
		{"timeout too short", web("timeout", `"999ms"`), w + "timeout", "use 1s to 30s"},
		{"timeout too long", web("timeout", `"31s"`), w + "timeout", "use 1s to 30s"},
		{"timeout negative", web("timeout", `"-5s"`), w + "timeout", "use 1s to 30s"},

		// Pattern.
		{"unknown operator", with("pattern", `{"type": [{"regex": "order.*"}]}`), d + "pattern.type[0].regex", `unknown operator "regex"; known here: `},
		{"pattern without an array", with("pattern", `{"type": "order"}`), d + "pattern.type", "write the value in brackets"},
		{"null pattern", with("pattern", `null`), d + "pattern", "leave it out to receive every event"},
		{"pattern with an EventBridge name", with("pattern", `{"detail-type": ["x"]}`), d + "pattern.detail-type", `write "type"`},
		{"pattern repeats a field", with("pattern", `{"type": ["x"], "type": ["y"]}`), d + "pattern.type", "merge the two"},

		// Retry.
		{"retry as a list", with("retry", `["1s"]`), d + "retry", "must be an object"},
		{"retry without a schedule", with("retry", `{}`), d + "retry", "exactly one of schedule and exponential"},
		{"retry with both", with("retry", `{"schedule": ["1s"], "exponential": {"initial": "1s", "factor": 2, "cap": "1m", "attempts": 3}}`), d + "retry", "exactly one"},
		{"unknown retry field", with("retry", `{"schedul": ["1s"]}`), d + "retry.schedul", `did you mean "schedule"?`},
		{"schedule as text", with("retry", `{"schedule": "1s"}`), d + "retry.schedule", "write it in brackets"},
		{"wait as a number", with("retry", `{"schedule": ["1s", 5]}`), d + "retry.schedule[1]", `as in "15s"`},
		{"wait without a unit", with("retry", `{"schedule": ["5"]}`), d + "retry.schedule[0]", `as in "15s"`},
		{"negative wait", with("retry", `{"schedule": ["1s", "-5s"]}`), d + "retry.schedule[1]", "a wait of -5s cannot be kept; use 1s to 24h0m0s"},
		{"wait of zero", with("retry", `{"schedule": ["0s"]}`), d + "retry.schedule[0]", "use 1s to 24h0m0s"},
		{"wait of two days", with("retry", `{"schedule": ["48h"]}`), d + "retry.schedule[0]", "use 1s to 24h0m0s"},
		{"too many waits", with("retry", `{"schedule": [`+strings.Repeat(`"1s", `, 100)+`"1s"]}`), d + "retry.schedule", "use at most 100"},
		{"schedule of three weeks", with("retry", `{"schedule": [`+strings.Repeat(`"24h", `, 20)+`"24h"]}`), d + "retry.schedule", "drop or shorten some waits"},
		{"exponential without attempts", with("retry", `{"exponential": {"initial": "1s", "factor": 2, "cap": "1m"}}`), d + "retry.exponential.attempts", `write "attempts": 10`},
		{"shrinking factor", with("retry", `{"exponential": {"initial": "1s", "factor": 0.5, "cap": "1m", "attempts": 3}}`), d + "retry.exponential.factor", "use 1 for equal waits"},
		{"factor as text", with("retry", `{"exponential": {"initial": "1s", "factor": "2", "cap": "1m", "attempts": 3}}`), d + "retry.exponential.factor", "without quotes"},
		{"factor beyond numbers", with("retry", `{"exponential": {"initial": "1s", "factor": 1e999, "cap": "1m", "attempts": 3}}`), d + "retry.exponential.factor", "must be a number"},
		{"cap below initial", with("retry", `{"exponential": {"initial": "1m", "factor": 2, "cap": "1s", "attempts": 3}}`), d + "retry.exponential.cap", "raise cap or lower initial"},
		{"half an attempt", with("retry", `{"exponential": {"initial": "1s", "factor": 2, "cap": "1m", "attempts": 2.5}}`), d + "retry.exponential.attempts", "whole number"},
		{"too many attempts", with("retry", `{"exponential": {"initial": "1s", "factor": 2, "cap": "1m", "attempts": 1000}}`), d + "retry.exponential.attempts", "use 1 to 101"},
		{"age of zero", with("retry", `{"exponential": {"initial": "1s", "factor": 2, "cap": "1m", "attempts": 3, "maxAge": "0s"}}`), d + "retry.exponential.maxAge", "or leave it out"},
		{"age without a retry", with("retry", `{"exponential": {"initial": "1m", "factor": 2, "cap": "1m", "attempts": 3, "maxAge": "1s"}}`), d + "retry.exponential.maxAge", "raise maxAge"},
		{"exponential of a month", with("retry", `{"exponential": {"initial": "12h", "factor": 2, "cap": "24h", "attempts": 40}}`), d + "retry.exponential", "lower attempts or cap, or set maxAge"},

		// Rate and concurrency.
		{"rate as a number", with("rate", `50`), d + "rate", "must be an object"},
		{"rate without a limit", with("rate", `{"per": "1s"}`), d + "rate.limit", `"limit": 50`},
		{"rate of nothing", with("rate", `{"limit": 0}`), d + "rate.limit", "use 1 to 10000"},
		{"rate of too much", with("rate", `{"limit": 10001}`), d + "rate.limit", "use 1 to 10000"},
		{"half a call", with("rate", `{"limit": 0.5}`), d + "rate.limit", "whole number"},
		{"rate of no time", with("rate", `{"limit": 1, "per": "10ms"}`), d + "rate.per", "use 1s to 24h0m0s"},
		{"rate of two days", with("rate", `{"limit": 1, "per": "48h"}`), d + "rate.per", "use 1s to 24h0m0s"},
		{"rate of a number of seconds", with("rate", `{"limit": 1, "per": 1}`), d + "rate.per", "with its unit"},
		{"burst of nothing", with("rate", `{"limit": 1, "burst": 0}`), d + "rate.burst", "use 1 to 10000"},
		{"rate by another name", with("rate", `{"limit": 1, "period": "1s"}`), d + "rate.period", "known here: limit, per, burst"},
		{"concurrency of nothing", with("concurrency", `0`), d + "concurrency", "use 1 to 100"},
		{"concurrency of too much", with("concurrency", `101`), d + "concurrency", "use 1 to 100"},
		{"concurrency as text", with("concurrency", `"4"`), d + "concurrency", "without quotes"},

		// Ledger and reject.
		{"unknown ledger mode", with("ledger", `"lax"`), d + "ledger", `write "strict" or "relaxed"`},
		{"ledger as a boolean", with("ledger", `true`), d + "ledger", "write it in quotes"},
		{"reject as a number", with("reject", `400`), d + "reject", "write it in brackets"},
		{"reject as text", with("reject", `["400"]`), d + "reject[0]", "without quotes"},
		{"reject 429", with("reject", `[400, 429]`), d + "reject[1]", "always tried again"},
		{"reject 410", with("reject", `[410]`), d + "reject[0]", "disables the destination"},
		{"reject success", with("reject", `[200]`), d + "reject[0]", "use codes from 400 to 599"},
		{"reject 600", with("reject", `[600]`), d + "reject[0]", "use codes from 400 to 599"},
		{"reject a fraction", with("reject", `[400.5]`), d + "reject[0]", "whole number"},
		{"reject twice", with("reject", `[400, 400]`), d + "reject[1]", "appears twice"},
	}
}

var update = flag.Bool("update", false, "write testdata anew")

// TestRefusalsWordForWord holds position, field and remedy of every row of the table, as people see them.
func TestRefusalsWordForWord(t *testing.T) {
	const golden = "testdata/refusals.txt"
	var got strings.Builder
	for _, test := range refusals() {
		_, err := registry.Parse([]byte(test.document), registry.Options{})
		fmt.Fprintf(&got, "# %s\n%v\n\n", test.name, err)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(string(stored), "\n\n")
	for i, row := range strings.Split(got.String(), "\n\n") {
		if i >= len(want) || row != want[i] {
			t.Fatalf("got\n%s\nwhich is not what stands in %s; if it is better, run the test with -update", row, golden)
		}
	}
	if len(want) != len(refusals())+1 {
		t.Errorf("%d rows in %s, %d bad files", len(want)-1, golden, len(refusals()))
	}
}

func listed(secret string) string { return `["` + secret + `"]` }

func TestParseRefuses(t *testing.T) {
	for _, test := range refusals() {
		t.Run(test.name, func(t *testing.T) {
			set, err := registry.Parse([]byte(test.document), registry.Options{})
			var problems *registry.ProblemsError
			if !errors.As(err, &problems) || !errors.Is(err, registry.ErrInvalid) || set != nil {
				t.Fatalf("got a set: %v, error %v", set != nil, err)
			}
			if !slices.ContainsFunc(problems.Problems, func(p registry.Problem) bool {
				return p.Field == test.field && strings.Contains(p.String(), test.says)
			}) {
				t.Errorf("got\n%v\nwant %s: …%s…", err, test.field, test.says)
			}
			for _, p := range problems.Problems {
				if p.Line < 1 || p.Column < 1 || p.Line > 1+strings.Count(test.document, "\n") {
					t.Errorf("%v stands nowhere in the file", p)
				}
			}
		})
	}
}

// TestOneProblemIsReportedOnce: most rows of the table have a single fault, so they must give a single problem.
func TestOneProblemIsReportedOnce(t *testing.T) {
	several := []string{"not UTF-8", "address in hexadecimal", "misspelt", "unknown retry field", "line end in a header", "other case"}
	for _, test := range refusals() {
		_, err := registry.Parse([]byte(test.document), registry.Options{})
		var problems *registry.ProblemsError
		if errors.As(err, &problems) && len(problems.Problems) != 1 && !slices.Contains(several, test.name) {
			t.Errorf("%s: %d problems\n%v", test.name, len(problems.Problems), err)
		}
	}
}

func TestEveryProblemIsReportedWhereItStands(t *testing.T) {
	document := `{
  "destinations": [
    {"id": "a", "tenant": "acme", "type": "webhook",
     "webhook": {"url": "ftp://x", "secrets": ["whsec_%%%"], "timeout": "1h"},
     "pattern": {"type": [{"prefix": 1}, {"regex": "x"}]},
     "retry": {"schedule": ["1s", "0s",
       "x"]},
     "legder": "strict"},
    {"id": "a", "tenant": "é*", "reject": [429],
     "type": "webhook", "webhook": {"url": "https://x.example", "secrets": []}}
  ]
}`
	_, err := registry.Parse([]byte(document), registry.Options{})
	want := []string{
		`4:25: destinations[0].webhook.url:`,
		`4:48: destinations[0].webhook.secrets[0]:`,
		`4:73: destinations[0].webhook.timeout:`,
		`5:38: destinations[0].pattern.type[0].prefix:`,
		`5:43: destinations[0].pattern.type[1].regex:`,
		`6:35: destinations[0].retry.schedule[1]:`,
		`7:8: destinations[0].retry.schedule[2]:`,
		`8:6: destinations[0].legder:`,
		`9:12: destinations[1].id:`,
		`9:27: destinations[1].tenant:`,
		`9:44: destinations[1].reject[0]:`,
		`10:76: destinations[1].webhook.secrets:`,
	}
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		if i >= len(want) || !strings.HasPrefix(line, want[i]) {
			t.Errorf("line %d: %s", i+1, line)
		}
	}
	if len(lines) != len(want) {
		t.Errorf("%d problems, want %d", len(lines), len(want))
	}
}

// TestProblemsNeverShowSecrets puts a secret into every place of a file where it does not belong, good and broken.
func TestProblemsNeverShowSecrets(t *testing.T) {
	const text = "c2VjcmV0LXRleHQtdGhhdC1tdXN0LW5vdC1zaG93"
	places := []func(secret string) string{
		func(s string) string { return s },
		func(s string) string { return `{"` + s + `": 1}` },
		func(s string) string { return `{"destinations": "` + s + `"}` },
		func(s string) string { return file(`"` + s + `"`) },
	}
	for _, field := range []string{"id", "tenant", "type", "webhook", "pattern", "retry", "rate", "concurrency", "ledger", "reject", "unknown", "whsec_" + text} {
		for _, value := range []string{`"SECRET"`, `["SECRET"]`, `{"SECRET": 1}`, `{"SECRET": ["SECRET"]}`, `{"schedule": ["SECRET"], "type": [{"SECRET": "SECRET"}]}`, `{"exponential": {"cap": "SECRET", "SECRET": "SECRET"}}`} {
			places = append(places, func(s string) string {
				return file(destination(map[string]string{field: strings.ReplaceAll(value, "SECRET", s)}))
			})
		}
	}
	for _, field := range []string{"url", "secrets", "headers", "timeout", "unknown"} {
		for _, value := range []string{`"SECRET"`, `["SECRET"]`, `["SECRET", "SECRET"]`, `{"SECRET": 1}`, `{"x-a": "SECRET\n"}`, `{"authorization: SECRET": "x"}`, `"https://SECRET@example.com/"`, `"http://example.com/SECRET"`, `"https://SECRET:x"`} {
			places = append(places, func(s string) string {
				return file(destination(map[string]string{"webhook": webhook(map[string]string{field: strings.ReplaceAll(value, "SECRET", s)})}))
			})
		}
	}
	for _, secret := range []string{"whsec_" + text, "whsec_" + text + "=", "x whsec_" + text + ", whsec_" + text} {
		for _, place := range places {
			document := place(secret)
			for _, inline := range []bool{false, true} {
				_, err := registry.Parse([]byte(document), registry.Options{InlineSecrets: inline})
				if err != nil && strings.Contains(err.Error(), text) {
					t.Errorf("%s\nshows the secret:\n%v", document, err)
				}
			}
		}
	}
	for _, test := range refusals() {
		_, err := registry.Parse([]byte(test.document), registry.Options{})
		if err == nil || strings.Contains(err.Error(), strings.TrimPrefix(goodSecret, "whsec_")) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s shows a credential:\n%v", test.name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(strings.Replace(fullFile, "SECRET", goodARN, 1)))
	for _, document := range accepted() {
		f.Add([]byte(document))
	}
	f.Add([]byte(strings.Replace(strings.Replace(fullFile, "SECRET", goodSecret, 1), "https://crm.example.com:8443", "http://[::1]", 1)))
	for _, test := range refusals() {
		if len(test.document) < 2000 {
			f.Add([]byte(test.document))
		}
	}
	schema := schema(f)
	f.Fuzz(func(t *testing.T, document []byte) {
		set, err := registry.Parse(document, registry.Options{})
		if err != nil {
			var problems *registry.ProblemsError
			if !errors.As(err, &problems) || len(problems.Problems) == 0 || set != nil {
				t.Fatalf("error %#v without problems", err)
			}
			for _, p := range problems.Problems {
				if p.Line < 1 || p.Column < 1 || p.Message == "" {
					t.Fatalf("problem without a place or a text: %#v", p)
				}
			}
			return
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); err != nil {
			t.Fatalf("Parse takes what the schema refuses: %v", err)
		}
		for d := range set.All() {
			found, ok := set.Lookup(d.ID)
			if !ok || found != d || d.Tenant == "" || d.Webhook == nil || d.Webhook.URL == "" || len(d.Webhook.Secrets) == 0 || d.Retry.Attempts() < 1 {
				t.Fatalf("an incomplete destination was accepted: %+v", d)
			}
		}
	})
}
