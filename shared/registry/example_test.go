package registry_test

import (
	"fmt"
	"maps"

	"github.com/waybillhq/waybill/shared/pattern"
	"github.com/waybillhq/waybill/shared/registry"
)

func ExampleParse() {
	set, err := registry.Parse([]byte(`{"destinations": [
	  {"id": "orders-crm", "tenant": "acme", "type": "webhook",
	   "webhook": {"url": "https://crm.example.com/hooks", "secrets": ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:waybill/crm-AbCdEf"]},
	   "pattern": {"type": [{"prefix": "order."}]}},
	  {"id": "audit", "tenant": "*", "type": "webhook",
	   "webhook": {"url": "http://localhost:8080/audit", "secrets": ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]}}
	]}`), registry.Options{Name: "destinations.json"})
	if err != nil {
		fmt.Println(err)
		return
	}
	event := pattern.NewEvent(maps.All(map[string]string{"type": "order.paid"}), []byte(`{"total": 12.50}`))
	for _, d := range set.Match("acme", event) {
		fmt.Println(d.ID, d.Webhook.URL, d.Webhook.Secrets)
	}
	// Output:
	// orders-crm https://crm.example.com/hooks [arn:aws:secretsmanager:eu-west-1:123456789012:secret:waybill/crm-AbCdEf]
	// audit http://localhost:8080/audit [[redacted]]
}

func ExampleParse_problems() {
	_, err := registry.Parse([]byte(`{"destinations": [
  {"id": "Orders", "tenant": "acme", "type": "webhook",
   "webhook": {"url": "http://crm.example.com", "secrets": ["whsec_c2hvcnQ="], "timout": "5s"}}
]}`), registry.Options{Name: "destinations.json"})
	fmt.Println(err)
	// Output:
	// destinations.json:2:10: destinations[0].id: is not a valid id; use a-z, 0-9 and hyphens, a letter or digit first, at most 63
	// destinations.json:3:23: destinations[0].webhook.url: is not encrypted; use https; http is for loopback hosts only
	// destinations.json:3:61: destinations[0].webhook.secrets[0]: stands in the file, where everyone who reads it can sign with it; store it in Secrets Manager or, as a SecureString, in SSM, and write its ARN: aws secretsmanager create-secret --name waybill/NAME --secret-string whsec_… --query ARN --output text
	// destinations.json:3:80: destinations[0].webhook.timout: is not a known field; did you mean "timeout"?
}
