package program_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/registry"
)

func TestValidate(t *testing.T) {
	a := &account{t: t, env: unconnected(t, nil)}
	for name, tt := range map[string]struct {
		text   string
		status int
		stdout string // FILE stands for the path
		stderr string
	}{
		"none": {document(), 0, "FILE: 0 destinations, no problems\n", ""},
		"one":  {document(to("crm")), 0, "FILE: 1 destination, no problems\n", ""},
		"a secret for everybody to see": {
			document(to("crm", object{"webhook.url": "https://crm.example.com/"})), 1, "",
			`FILE:1:135: destinations[0].webhook.secrets[0]: stands in the file, where everyone who reads it can sign with it; store it in Secrets Manager or, ` +
				"as a SecureString, in SSM, and write its ARN: aws secretsmanager create-secret --name waybill/NAME --secret-string whsec_… --query ARN --output text\n" +
				"FILE: 1 problem\n",
		},
		"two problems on two lines": {
			"{\"destinations\": [\n {\"id\": \"A\"}]}", 1, "",
			"FILE:2:2: destinations[0].tenant: is missing; name the tenant, or write \"*\" for all of them\n" +
				"FILE:2:2: destinations[0].type: is missing; write \"type\": \"webhook\"\n" +
				"FILE:2:2: destinations[0].webhook: is missing; say where to send: \"webhook\": {\"url\": …, \"secrets\": […]}\n" +
				"FILE:2:9: destinations[0].id: is not a valid id; use a-z, 0-9 and hyphens, a letter or digit first, at most 63\n" +
				"FILE: 4 problems\n",
		},
		"no JSON": {"destinations:\n", 1, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := &account{t: t, env: a.env}
			path := write(t, tt.text)
			r := a.do("validate", path)
			r.stdout, r.stderr = strings.ReplaceAll(r.stdout, path, "FILE"), strings.ReplaceAll(r.stderr, path, "FILE")
			if r.status != tt.status || r.stdout != tt.stdout || tt.stderr != "" && r.stderr != tt.stderr || (r.stderr == "") != (tt.status == 0) {
				t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
			}
		})
	}
	t.Run("every problem is told", func(t *testing.T) {
		a := &account{t: t, env: a.env}
		var many []object
		for i := range 300 {
			many = append(many, to(fmt.Sprint("crm-", i), object{"tenant": ""}))
		}
		r := a.says(1, []string{": 300 problems"}, "validate", write(t, document(many...)))
		if n := strings.Count(r.stderr, "].tenant: "); n != 300 {
			t.Errorf("%d problems are told", n)
		}
	})
	t.Run("standard input", func(t *testing.T) {
		a := &account{t: t, env: a.env, stdin: strings.NewReader(document(to("crm")))}
		a.want(0, "standard input: 1 destination, no problems\n", "", "validate", "-")
	})
	t.Run("no file", func(t *testing.T) {
		a := &account{t: t, env: a.env}
		a.says(2, []string{"no such file", `\x1b`}, "validate", t.TempDir()+"/\x1b[2J")
	})
	t.Run("strange names cannot steer a terminal", func(t *testing.T) {
		a := &account{t: t, env: a.env}
		a.says(1, []string{"problem"}, "validate", write(t, "{\"destinations\": [{\"\\u001b[2J\": 1, \"pattern\": {\"\\u001b\\u202e\": [1]}, \"id\": \"\\u001b\"}]}"))
	})
	t.Run("schema", func(t *testing.T) {
		a := &account{t: t, env: a.env}
		if r := a.do("validate", "-schema"); r.status != 0 || !json.Valid([]byte(r.stdout)) || r.stdout != string(registry.Schema()) {
			t.Errorf("status %d %.100s", r.status, r.stdout)
		}
	})
}

func TestDiff(t *testing.T) {
	inAccount(t, func(a *account) {
		crm, old, billing := to("crm"), to("old"), to("billing")
		a.want(3, `nothing has been applied yet
  + crm  added
  + old  added
2 to add, 0 to change, 0 to remove; 0 stay as they are
`, "", "diff", a.file(crm, old))

		a.applied(crm, old, to("x"))
		a.want(0, "in force: version 1, applied 2026-11-22T09:00:00Z by anna\nno differences: 3 destinations\n", "", "diff", a.file(to("x"), crm, old))

		a.do("pause", "crm", "-note", "moving\x1b]0;")
		a.do("pause", "old")
		a.do("pause", "x")
		changed := to("crm", object{
			"webhook.url": "http://127.0.0.1:9/" + hiddenPath + "2", "webhook.headers": object{"authorization": headerValue + "2"}, "retry": object{"schedule": []string{"1s"}},
		})
		a.want(3, `in force: version 1, applied 2026-11-22T09:00:00Z by anna
  + billing  added
  ~ crm      changed: webhook.url, webhook.headers.authorization, retry
  - old      removed
1 to add, 1 to change, 1 to remove; 1 stay as they are
Deliveries that still wait for a removed destination become dead letters, with the reason unknown-destination.
crm is paused since 2026-11-22T09:00:00Z by anna (moving\x1b]0;), and stays so.
old is paused since 2026-11-22T09:00:00Z by anna: what is held for it stays until that ends.
`, "", "diff", a.file(billing, changed, to("x")))
		if v := a.current().Version.Number; v != 1 {
			t.Errorf("diff has applied version %d", v)
		}

		a.says(1, []string{"1 problem"}, "diff", a.file(to("crm", object{"tenant": ""})))
		a.put(`{"destinations": [{"id": "crm", "invention": "of a newer release"}]}`, "eve\x1b")
		a.says(2, []string{`version 2, applied 2026-11-22T09:00:00Z by eve\x1b, cannot be read by this release`, "invention"}, "diff", a.file(crm))
	})
}

// TestManyStatesAreSummedUp: a difference names some of the destinations that are paused, and counts the others.
func TestManyStatesAreSummedUp(t *testing.T) {
	inAccount(t, func(a *account) {
		var all []object
		for i := range 12 {
			id := fmt.Sprintf("crm-%02d", i)
			all = append(all, to(id))
			a.do("pause", id, "-force")
		}
		r := a.says(3, []string{"2 more of these are paused or disabled"}, "diff", a.file(all...))
		if n := strings.Count(r.stdout, "stays so"); n != 10 {
			t.Errorf("%d states are told:\n%s", n, r.stdout)
		}
	})
}
