package program_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/breaker"
	breakerdynamo "github.com/waybillhq/waybill/shared/breaker/dynamo"
	"github.com/waybillhq/waybill/shared/pace"
	pacedynamo "github.com/waybillhq/waybill/shared/pace/dynamo"
	"github.com/waybillhq/waybill/shared/registry"
)

// Limits have a column where a destination has one.
func TestListShowsLimits(t *testing.T) {
	inAccount(t, func(a *account) {
		a.applied(to("crm", object{"rate": object{"limit": 50}, "concurrency": 4}), to("erp", object{"rate": object{"limit": 2, "per": "1m30s", "burst": 3}}), to("free"))
		a.want(0, `in force: version 1, applied 2026-11-22T09:00:00Z by anna
id    tenant  type     host         pattern  retry                 limit                             state
crm   acme    webhook  127.0.0.1:9  no       10 tries in 75h35m5s  50 in 1s, 5 at once; 4 at a time  receiving
erp   acme    webhook  127.0.0.1:9  no       10 tries in 75h35m5s  2 in 1m30s, 3 at once             receiving
free  acme    webhook  127.0.0.1:9  no       10 tries in 75h35m5s  -                                 receiving
`, "", "list")
		if r := a.do("list", "-json"); !strings.Contains(r.stdout, `"rate": "50 in 1s, 5 at once"`) || !strings.Contains(r.stdout, `"concurrency": 4`) {
			t.Error(r.stdout)
		}
	})
}

func TestList(t *testing.T) {
	inAccount(t, func(a *account) {
		a.want(0, "nothing has been applied yet\nno destinations\n", "", "list")
		a.want(0, "{\n  \"version\": 0,\n  \"destinations\": []\n}\n", "", "list", "-json")
		a.applied(
			to("crm"),
			to("erp", object{
				"tenant": "*", "pattern": object{"type": []string{"a"}}, "retry": object{"schedule": []string{}},
				"webhook.url": "https://erp.example.com:8443/" + hiddenPath, "webhook.secrets": []string{a.arn("erp", secret)},
			}),
			to("old"), to("both", object{"retry": object{"schedule": []string{"1m", "59m", "1h"}}}),
		)
		a.do("pause", "crm", "-note", "moving to \u202e\x1b[31mthe \u009bnew one\nand back \U000e0001")
		if _, err := a.store().Disable(a.t.Context(), "both", registry.Mark{Since: time.Now().Add(time.Minute), By: "deliverer", Note: "answered 410"}); err != nil {
			t.Fatal(err)
		}
		a.do("pause", "both")
		a.do("pause", "old", "-note", "going")
		a.applied(to("both", object{"retry": object{"schedule": []string{"1m", "59m", "1h"}}}), to("crm"), to("erp", object{
			"tenant": "*", "pattern": object{"type": []string{"a"}}, "retry": object{"schedule": []string{}},
			"webhook.url": "https://erp.example.com:8443/" + hiddenPath, "webhook.secrets": []string{a.arn("erp2", secret)},
		}))
		a.want(0, `in force: version 2, applied 2026-11-22T09:00:00Z by anna
id    tenant  type     host                  pattern  retry                 state
both  acme    webhook  127.0.0.1:9           no       4 tries in 2h         paused since 2026-11-22T09:00:00Z and disabled since 2026-11-22T09:01:00Z by anna; deliverer (answered 410)
crm   acme    webhook  127.0.0.1:9           no       10 tries in 75h35m5s  paused since 2026-11-22T09:00:00Z by anna (moving to \u202e\x1b[31mthe \u009bnew one\nand back \U000e0001)
erp   *       webhook  erp.example.com:8443  yes      1 try                 receiving
old   -       -        -                     -        -                     removed; paused since 2026-11-22T09:00:00Z by anna (going)
`, "", "list")

		r := a.do("list", "-json")
		var got struct {
			Version      int
			AppliedAt    string
			AppliedBy    string
			Destinations []map[string]any
		}
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
			t.Fatalf("%v\n%s", err, r.stdout)
		}
		if got.Version != 2 || got.AppliedBy != "anna" || got.AppliedAt != "2026-11-22T09:00:00Z" || len(got.Destinations) != 4 {
			t.Fatalf("%+v", got)
		}
		for i, want := range []map[string]any{
			{"id": "both", "inForce": true, "state": "paused", "pausedSince": "2026-11-22T09:00:00Z", "disabledSince": "2026-11-22T09:01:00Z", "attempts": 4.0, "over": "2h"},
			{"id": "crm", "note": "moving to \u202e\x1b[31mthe \u009bnew one\nand back \U000e0001", "by": "anna", "host": "127.0.0.1:9"},
			{"id": "erp", "state": "receiving", "pattern": true, "tenant": "*", "type": "webhook", "attempts": 1.0},
			{"id": "old", "inForce": false, "state": "paused", "note": "going"},
		} {
			for name, value := range want {
				if got.Destinations[i][name] != value {
					t.Errorf("%s of %v is %v, want %v", name, want["id"], got.Destinations[i][name], value)
				}
			}
		}
	})
}

// TestListSaysWhoFails: whoever is called at night reads here which destination it is, and who has let it receive again.
func TestListSaysWhoFails(t *testing.T) {
	inAccount(t, func(a *account) {
		ids := []string{"asked", "dead-probe", "due", "failing", "fine", "flaky", "let-go", "paused", "probing", "slow"}
		var all []object
		for _, id := range ids {
			all = append(all, to(id))
		}
		a.applied(all...)
		now := time.Now()
		health, err := breakerdynamo.New(awsdynamodb.NewFromConfig(a.config()), "registry")
		if err != nil {
			t.Fatal(err)
		}
		for id, row := range map[string]breaker.Row{
			"failing":    {Turn: 1, Phase: breaker.Open, Until: now.Add(time.Minute), At: now},
			"due":        {Turn: 1, Phase: breaker.Open, Until: now.Add(-time.Hour), At: now},
			"probing":    {Turn: 1, Phase: breaker.Probing, Probe: "d", Until: now.Add(time.Minute), At: now},
			"dead-probe": {Turn: 1, Phase: breaker.Probing, Probe: "d", Until: now.Add(-time.Minute), At: now},
			"flaky":      {Turn: 1, Streak: 3, At: now},
			"asked":      {Turn: 1, ThrottledAt: now, ThrottledUntil: now.Add(2 * time.Hour), At: now},
			"paused":     {Turn: 1, Phase: breaker.Open, Until: now.Add(time.Minute), At: now},
		} {
			if _, err := health.Move(a.t.Context(), id, breaker.Row{}, row); err != nil {
				t.Fatal(err)
			}
		}
		late, err := pacedynamo.New(awsdynamodb.NewFromConfig(a.config()), "registry")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := late.Add(a.t.Context(), "slow", pace.SlotOf(now), 100, nil); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"paused", "let-go"} {
			a.do("pause", id)
			a.env.User = "bert"
			a.do("resume", id)
		}
		a.do("pause", "paused", "-note", "again")
		a.disable("let-go")
		time.Sleep(time.Second)
		a.do("enable", "let-go")
		a.says(0, []string{
			"asks to be left alone until 2026-11-22T11:00:00Z\n", "failing, held until 2026-11-22T09:01:00Z\n", "failing, held; being tried now\n",
			"due         acme    webhook  127.0.0.1:9  no       10 tries in 75h35m5s  failing, held; its next delivery tries it\n",
			"dead-probe  acme    webhook  127.0.0.1:9  no       10 tries in 75h35m5s  failing, held; its next delivery tries it\n",
			"receiving; the last 3 attempts failed\n", "receiving; enabled 2026-11-22T09:00:01Z by bert\n", "receiving; slow lane\n",
			"paused since 2026-11-22T09:00:00Z by bert (again)\n",
			"fine        acme    webhook  127.0.0.1:9  no       10 tries in 75h35m5s  receiving\n",
		}, "list")
		a.says(0, []string{`"breaker": "open"`, `"heldUntil": "2026-11-22T09:01:00Z"`, `"failures": 3`, `"slow": true`, `"released": "resumed"`, `"releasedBy": "bert"`},
			"list", "-json")
	})
}

// TestListWithoutTheRest: what cannot be read besides the destinations is a warning.
func TestListWithoutTheRest(t *testing.T) {
	inAccount(t, func(a *account) {
		a.applied(to("crm"))
		a.endpoint.Faults().Add(awslocal.Fault{Operation: "Query", Error: denied, Skip: 2}) // what is in force, and its document
		a.says(0, []string{"crm", "receiving", "warning: who has resumed", "warning: which destinations fail"}, "list")
	})
}
