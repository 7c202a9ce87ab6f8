package program_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/registry"
)

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
