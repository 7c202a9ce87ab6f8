package stack_test

import (
	"fmt"
	"testing"
)

// CloudFormation knows a resource by its logical id, which CDK makes of its construct path. One that changes is a new resource: an
// empty table, a queue that nobody sends to, an address that no receiver knows.
func TestLogicalIDsOfWhatHoldsSomethingStay(t *testing.T) {
	pinned := map[string]string{
		"key/Resource":                                  "keyFEDD6EC0",
		"network/address-1":                             "networkaddress1A160A3E2",
		"network/address-2":                             "networkaddress2EC9BC331",
		"network/logs/Resource":                         "networklogs0625ADE3",
		"queue-deliveries-dlq/Resource":                 "queuedeliveriesdlq0B4B4F6C",
		"queue-deliveries-slow/Resource":                "queuedeliveriesslow29DA4102",
		"queue-deliveries/Resource":                     "queuedeliveriesFA75486A",
		"queue-ingress-dlq/Resource":                    "queueingressdlqA501D768",
		"queue-ingress/Resource":                        "queueingressEABA1DE6",
		"table-ledger/Resource":                         "tableledger8EA934B8",
		"table-registry/Resource":                       "tableregistry181DA383",
		"table-waiting/Resource":                        "tablewaitingEF95FFCD",
		"function-canary/logs/Resource":                 "functioncanarylogs5B6A4004",
		"function-deliverer/logs/Resource":              "functiondelivererlogs60540EB8",
		"function-router/logs/Resource":                 "functionrouterlogs0E48737E",
		"function-slowlane/logs/Resource":               "functionslowlanelogs1F462BFC",
		"function-waker/logs/Resource":                  "functionwakerlogs37346513",
		"function-canary/release/hook/logs/Resource":    "functioncanaryreleasehooklogs6733F81D",
		"function-deliverer/release/hook/logs/Resource": "functiondelivererreleasehooklogs6BE6941B",
		"function-router/release/hook/logs/Resource":    "functionrouterreleasehooklogs7540F708",
		"function-slowlane/release/hook/logs/Resource":  "functionslowlanereleasehooklogs3C26CB3E",
		"function-waker/release/hook/logs/Resource":     "functionwakerreleasehooklogs51AB6370",
	}
	stateful := map[string]bool{
		"AWS::SQS::Queue": true, "AWS::DynamoDB::GlobalTable": true, "AWS::KMS::Key": true, "AWS::Logs::LogGroup": true, "AWS::EC2::EIP": true,
	}
	all := templates(t)[plain+", everything"].template["Resources"].(document)
	found := map[string]string{}
	for id, r := range all {
		if r := r.(document); stateful[fmt.Sprint(r["Type"])] {
			found[path(id, r)] = id
		}
	}
	for path, want := range pinned {
		if got := found[path]; got != want {
			t.Errorf("%s has the logical id %q, want %q: keep its construct path, or what it holds is left behind", path, got, want)
		}
	}
	for path, id := range found {
		if _, ok := pinned[path]; !ok {
			t.Errorf("%s holds something: pin its logical id %s here", path, id)
		}
	}
}
