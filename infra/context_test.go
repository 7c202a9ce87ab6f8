package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/infra/stack"
	"github.com/waybillhq/waybill/shared/topology"
)

func TestContextBecomesProps(t *testing.T) {
	context := decode(t, `{
		"stage": "prod", "profile": "high-volume", "name": "orders", "destinations": "mine.json", "alarmEmail": "mine@example.com",
		"dev": {"tenant": "not this one"},
		"prod": {
			"destinations": "theirs.json", "tenant": "acme", "egressAllow": ["10.1.0.0/16"], "logLevel": "warn", "logDays": 30, "customerKey": true,
			"senders": {"topics": ["t"], "rules": ["r"], "buckets": [{"arn": "b", "account": "1"}], "accounts": ["2"]},
			"secrets": ["s"], "secretKeys": ["k"],
			"tables": {"ledger": {"provisioned": {"read": {"min": 1, "max": 2}, "write": {"min": 3, "max": 4}, "utilization": 50}, "warm": {"read": 5, "write": 6}}},
			"functions": {"router": {"maximumConcurrency": 7, "reservedConcurrency": 8}, "deliverer": {"pollers": {"min": 9, "max": 10}}},
			"network": {"cidr": "10.0.0.0/20", "gateways": 2, "allocations": ["a"]},
			"alarms": {
				"email": ["e"], "https": ["h"], "slack": [{"workspace": "w", "channel": "c"}], "runbooks": "b", "mute": [{"when": "at", "for": "P", "timezone": "z"}]
			}
		}
	}`)
	id, got, err := read(context)
	if err != nil {
		t.Fatal(err)
	}
	want := stack.Props{
		Stage: stack.Prod, Topology: topology.New(topology.HighVolume),
		Options: stack.Options{
			Destinations: "mine.json", Tenant: "acme", EgressAllow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, LogLevel: 4, LogDays: 30, CustomerKey: true,
			Senders: stack.Senders{Topics: []string{"t"}, Rules: []string{"r"}, Buckets: []stack.Bucket{{ARN: "b", Account: "1"}}, Accounts: []string{"2"}},
			Secrets: []string{"s"}, SecretKeys: []string{"k"},
			Tables: map[topology.TableName]stack.TableOptions{topology.Ledger: {
				Provisioned: &stack.Provisioned{Read: stack.Range{Min: 1, Max: 2}, Write: stack.Range{Min: 3, Max: 4}, Utilization: 50},
				Warm:        &stack.Throughput{Read: 5, Write: 6},
			}},
			Functions: map[topology.FunctionName]stack.FunctionOptions{
				topology.Router: {MaximumConcurrency: 7, ReservedConcurrency: 8}, topology.Deliverer: {Pollers: &stack.Pollers{Min: 9, Max: 10}},
			},
			Network: &stack.Network{CIDR: netip.MustParsePrefix("10.0.0.0/20"), Gateways: 2, Allocations: []string{"a"}},
			Alarms: stack.Alarms{
				Email: []string{"e", "mine@example.com"}, HTTPS: []string{"h"}, Slack: []stack.Slack{{Workspace: "w", Channel: "c"}}, Runbooks: "b",
				Mute: []stack.Mute{{When: "at", For: "P", Timezone: "z"}},
			},
		},
	}
	if id != "orders" || !reflect.DeepEqual(got, want) {
		t.Errorf("read %s %+v, want orders %+v", id, got, want)
	}
}

func TestContextMaySayNothing(t *testing.T) {
	id, got, err := read(decode(t, `{"stage": "", "name": ""}`))
	if err != nil {
		t.Fatal(err)
	}
	want := stack.Props{Stage: stack.Dev, Topology: topology.New(topology.LowLatency)}
	if id != "waybill-dev" || !reflect.DeepEqual(got, want) {
		t.Errorf("read %s %+v, want waybill-dev %+v", id, got, want)
	}
}

func TestContextIsRefusedAsAWhole(t *testing.T) {
	_, _, err := read(decode(t, `{
		"stage": "dev", "profile": 1, "name": "1st", "destinations": ["a"],
		"dev": {"tenants": "acme", "logDays": "14", "egressAllow": ["anywhere"], "logLevel": "loud", "network": {"cidr": "10.0.0.0/24", "nat": 1},
			"canary": "yes", "alarms": {"email": "me@example.com"}, "senders": {"buckets": ["invoices"]}}
	}`))
	if err == nil {
		t.Fatal("what makes no sense was accepted")
	}
	for _, want := range []string{
		"context profile: is 1: write a text, as in -c profile=low-latency", `context name: "1st": begin with a letter`, "context destinations: is [a]: write a text",
		`context dev.tenants: unknown field "tenants"`, "context dev.logDays: logDays is a JSON string, write a whole number: see", "context dev.egressAllow: ", "context dev.logLevel: slog: level string \"loud\"",
		"context dev.canary: canary is a JSON string, write true or false", "context dev.alarms: alarms.email is a JSON string, write a list",
		"context dev.senders: senders.buckets is a JSON string, write an object",
		`context dev.network: unknown field "nat": see the table of options in infra/README.md`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if _, _, err := read(decode(t, fmt.Sprintf(`{"name": "a%080d"}`, 0))); err == nil || !strings.Contains(err.Error(), "at most 80 characters") {
		t.Errorf("a name that leaves no room for what is named after the stack: %v", err)
	}
	if _, _, err := read(decode(t, `{"stage": "prod", "prod": "all of it"}`)); err == nil || !strings.Contains(err.Error(), "context prod: is all of it: write an object") {
		t.Errorf("options that are no object: %v", err)
	}
}

// CDK takes any -c; a setting that is misspelt would deploy something else than was meant.
func TestUnknownSettingsAreRefused(t *testing.T) {
	var context any
	if err := json.Unmarshal([]byte(`{"stage": "dev", "destination": "FILE", "Stage": "prod", "@aws-cdk/core:x": true, "cli-telemetry": false, "availability-zones:a": []}`),
		&context); err != nil {
		t.Fatal(err)
	}
	err := unknown(context)
	if err == nil || strings.Count(err.Error(), "there is no such setting") != 2 || !strings.Contains(err.Error(), `context destination: there is no such setting: write one of ["stage"`) {
		t.Error(err)
	}
	file, err := os.ReadFile("../cdk.json")
	if err != nil {
		t.Fatal(err)
	}
	var config struct{ Context any }
	if err := errors.Join(json.Unmarshal(file, &config), unknown(config.Context), unknown(nil)); err != nil {
		t.Error(err)
	}
	_, _, _ = read(func(key string) any {
		if !slices.Contains(settings(), key) {
			t.Errorf("%s is read, and would be refused as unknown", key)
		}
		return nil
	})
}

// cdk.json is where an operator looks for what there is to choose.
func TestSettingsFileListsEveryOptionAsItIsByDefault(t *testing.T) {
	file, err := os.ReadFile("../cdk.json")
	if err != nil {
		t.Fatal(err)
	}
	var config struct{ Context json.RawMessage }
	if err := json.Unmarshal(file, &config); err != nil {
		t.Fatal(err)
	}
	context := decode(t, string(config.Context))
	for stage, days := range map[stack.Stage]int{stack.Dev: 14, stack.Prod: 90} {
		_, props, err := read(func(key string) any {
			if key == "stage" {
				return string(stage)
			}
			return context(key)
		})
		if err != nil {
			t.Fatal(err)
		}
		listed, _ := context(string(stage)).(map[string]any)
		for _, name := range optionNames(reflect.TypeFor[stack.Options]()) {
			if _, ok := listed[name]; !ok {
				t.Errorf("cdk.json: %s does not list the option %s", stage, name)
			}
		}
		if props.LogDays != days {
			t.Errorf("cdk.json: %s keeps logs for %d days, want the default of %d", stage, props.LogDays, days)
		}
		props.LogDays = 0
		text, err1 := json.Marshal(props.Options)
		plain, err2 := json.Marshal(stack.Options{})
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		nothing := strings.NewReplacer("[]", "null", "{}", "null")
		if got, want := nothing.Replace(string(text)), nothing.Replace(string(plain)); got != want {
			t.Errorf("cdk.json: %s is not as without it:\n%s\n%s", stage, got, want)
		}
	}
}

func TestREADMEDescribesEveryOption(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	names := optionNames(reflect.TypeFor[stack.Options]())
	for _, inner := range []reflect.Type{
		reflect.TypeFor[stack.Senders](), reflect.TypeFor[stack.Bucket](), reflect.TypeFor[stack.TableOptions](), reflect.TypeFor[stack.Provisioned](),
		reflect.TypeFor[stack.FunctionOptions](), reflect.TypeFor[stack.Network](), reflect.TypeFor[stack.Alarms](), reflect.TypeFor[stack.Slack](),
		reflect.TypeFor[stack.Mute](),
	} {
		names = append(names, optionNames(inner)...)
	}
	for _, name := range append(names, "stage", "profile", "name", "alarmEmail") {
		if !strings.Contains(string(text), "`"+name+"`") && !strings.Contains(string(text), `"`+name+`"`) {
			t.Errorf("README.md does not say what %s is", name)
		}
	}
}

func optionNames(of reflect.Type) []string {
	var names []string
	for _, field := range reflect.VisibleFields(of) {
		names = append(names, field.Tag.Get("json"))
	}
	if slices.Contains(names, "") {
		panic(of.String() + " has a field without a JSON name")
	}
	return names
}

func decode(t *testing.T, text string) func(key string) any {
	t.Helper()
	var context map[string]any
	if err := json.Unmarshal([]byte(text), &context); err != nil {
		t.Fatal(err)
	}
	return func(key string) any { return context[key] }
}
