package stack_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/infra/stack"
	"github.com/waybillhq/waybill/shared/topology"
)

// What is wrong is found before CDK is asked, so this needs no Node: nothing touches the scope, which is nil.
func TestEverythingWrongIsSaidAtOnce(t *testing.T) {
	code := t.TempDir()
	wrong := topology.New("cheap")
	wrong.Queues[0].Retention += time.Millisecond
	wrong.Functions[0].Timeout += time.Millisecond
	wrong.Functions[1].Source.Queue = "nowhere"
	wrong.Functions = append(wrong.Functions, topology.Function{Name: topology.Preflight})
	if err := writeCode(code, wrong); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(code, "deliverer", "bootstrap")); err != nil {
		t.Fatal(err)
	}
	stale := topology.Topology{Functions: []topology.Function{{Name: "stale"}}}
	if err := writeCode(code, stale); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, stack.Props{Stage: "test", Topology: wrong, Code: code, Options: stack.Options{Tenant: "a b"}},
		"stack test cannot be synthesised",
		`stage "test": choose "dev" or "prod"`,
		`profile "cheap": choose`,
		"function deliverer: reads queue nowhere, which is not declared",
		"queue ingress: retention is 96h0m0.001s: CloudFormation counts whole seconds",
		"function router: timeout is 30.001s: CloudFormation counts whole seconds",
		filepath.Join(code, "deliverer", "bootstrap")+" is missing: run `make build`",
		filepath.Join(code, "stale", "bootstrap")+": the topology has no function stale: declare it there, or delete the folder",
		`tenant: "a b": use printable ASCII without spaces`,
		"function preflight: the function that tries new versions is called so: choose another name",
	)
}

func TestWrongOptionsAreSaidAtOnce(t *testing.T) {
	good := topology.New(topology.LowLatency)
	code := t.TempDir()
	if err := writeCode(code, good.WithCanary()); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(`{"destination": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options stack.Options
		want    []string
	}{
		"no file":                {stack.Options{Destinations: "nowhere.json"}, []string{`destinations: no file "nowhere.json": name an existing one`}},
		"a directory for a file": {stack.Options{Destinations: code}, []string{"destinations: no file"}},
		"no destinations":        {stack.Options{Destinations: text}, []string{`is no JSON object with a list "destinations"`}},
		"long tenant":            {stack.Options{Tenant: strings.Repeat("a", 129)}, []string{"tenant: has 129 bytes, at most 128"}},
		"egress": {
			stack.Options{EgressAllow: []netip.Prefix{{}, netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("fe80::/64")}},
			[]string{
				"egressAllow: invalid Prefix: write a range", "egressAllow: 10.0.0.1/8: write a range without bits after its length",
				"egressAllow: 0.0.0.0/0: holds 127.0.0.0/8, which belongs to the runtime of Lambda", "egressAllow: 0.0.0.0/0: holds 169.254.0.0/16",
				"egressAllow: fe80::/64: holds fe80::/10", "egressAllow: 0.0.0.0/0: addresses that are not public can be reached only with a network: set network",
			},
		},
		"more ranges than a function can be told": {
			stack.Options{Network: &stack.Network{}, EgressAllow: slices.Repeat([]netip.Prefix{netip.MustParsePrefix("10.100.100.0/24")}, 65)},
			[]string{"egressAllow: 65 ranges make 1039 bytes, at most 1024"},
		},
		"log days": {stack.Options{LogDays: 8}, []string{"logDays: 8: CloudWatch keeps logs for one of [1 3 5 7 14 30 "}},
		"senders": {
			stack.Options{Senders: stack.Senders{
				Topics:   []string{"orders", "arn:aws:sns:eu-west-1:123456789012:*"},
				Rules:    []string{"arn:aws:events:eu-west-1:123456789012:event-bus/default"},
				Buckets:  []stack.Bucket{{ARN: "arn:aws:s3:::my-bucket/*", Account: "1"}},
				Accounts: []string{"*", "123456789012", "123456789012"},
			}},
			[]string{
				`senders.topics: "orders": write it as in arn:aws:sns:`, `senders.topics: "arn:aws:sns:eu-west-1:123456789012:*"`, `senders.rules: "arn:aws:events:eu-west-1:123456789012:event-bus/default"`,
				`senders.buckets, arn: "arn:aws:s3:::my-bucket/*"`, `senders.buckets, account: "1"`, `senders.accounts: "*"`, `senders.accounts: "123456789012": is there twice`,
			},
		},
		"secrets": {
			stack.Options{
				Secrets: []string{
					"*", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:*", "arn:aws:ssm:*:123456789012:parameter/a", "arn:aws:ssm:eu-west-1:123456789012:parameter/*",
					"arn:aws:secretsmanager:eu-west-1:123456789012:secret:hook", parameterARN, parameterARN,
				},
				SecretKeys: []string{"alias/key"},
			},
			[]string{
				`secrets: "*": write it as in`, `secrets: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:*": write it`, `secrets: "arn:aws:ssm:*:123456789012:parameter/a": write`,
				`secrets: "arn:aws:ssm:eu-west-1:123456789012:parameter/*": write`, `secret:hook": matches nothing, because Secrets Manager adds`, "is there twice", `secretKeys: "alias/key"`,
			},
		},
		"tables": {
			stack.Options{Tables: map[topology.TableName]stack.TableOptions{
				"elsewhere": {}, topology.Ledger: {Provisioned: &stack.Provisioned{Read: stack.Range{Min: 0, Max: 1}, Write: stack.Range{Min: 2, Max: 1}, Utilization: 95}, Warm: &stack.Throughput{}},
			}},
			[]string{
				"tables: there is no table elsewhere: name one of [ledger waiting registry]", "tables.ledger.provisioned.read: from 0 to 1, must begin at 1", "tables.ledger.provisioned.write: from 2 to 1",
				"tables.ledger.provisioned.utilization: 95, must be between 20 and 90 percent", "tables.ledger.warm: read 0 and write 0, must be at least 12000 and 4000",
			},
		},
		"functions": {
			stack.Options{Functions: map[topology.FunctionName]stack.FunctionOptions{
				"nobody": {}, topology.Waker: {MaximumConcurrency: 5}, topology.Router: {MaximumConcurrency: 1001, Pollers: &stack.Pollers{Min: 1, Max: 3000}},
				topology.Deliverer: {ReservedConcurrency: 249},
			}},
			[]string{
				"functions: there is no function nobody: name one of [canary router deliverer waker slowlane]", "functions.waker: no queue feeds it", "functions.router: maximumConcurrency and pollers exclude each other",
				"functions.router.pollers: from 1 to 3000, must begin between 2 and 200", "functions.deliverer.reservedConcurrency: 249, must be at least the 250 that its source can ask for",
			},
		},
		"concurrency": {
			stack.Options{Functions: map[topology.FunctionName]stack.FunctionOptions{topology.Router: {MaximumConcurrency: 1}}},
			[]string{"function router: maximum concurrency 1, must be 0 (no limit) or between 2 and 1000"},
		},
		"too little for pollers": {
			stack.Options{Functions: map[topology.FunctionName]stack.FunctionOptions{topology.Router: {ReservedConcurrency: 199, Pollers: &stack.Pollers{Min: 2, Max: 20}}}},
			[]string{"functions.router.reservedConcurrency: 199, must be at least the 200"},
		},
		"nobody to call": {
			stack.Options{LogDays: 8},
			[]string{"alarms: in prod somebody must be called: give alarms.email, alarms.https or alarms.slack, or on the command line -c alarmEmail=", "logDays: 8"},
		},
		"alarms": {
			stack.Options{Alarms: stack.Alarms{
				Email: []string{"oncall", "a@example.com", "a@example.com"}, HTTPS: []string{"http://pager.example.com"},
				Slack:    []stack.Slack{{Workspace: "waybill", Channel: "#oncall"}},
				Runbooks: "runbooks/",
				Mute:     []stack.Mute{{When: "rate(1 day)", For: "2h", Timezone: "my time"}, {When: "cron(0 2 ? * SUN *)", For: "P"}, {When: "at(2026-12-01)", For: "P16D"}},
			}},
			[]string{
				`alarms.email: "oncall": write it as in oncall@example.com`, `alarms.email: "a@example.com": is there twice`, `alarms.https: "http://pager.example.com": write`,
				`alarms.slack, workspace: "waybill": write its id`, `alarms.slack, channel: "#oncall"`, `alarms.runbooks: "runbooks/": write the URL of a folder`,
				`alarms.mute, when: "rate(1 day)": write at(`, `alarms.mute, when: "cron(0 2 ? * SUN *)"`, `alarms.mute, when: "at(2026-12-01)"`,
				`alarms.mute, for: "2h": write a duration`, `alarms.mute, for: "P"`, `alarms.mute, for: "P16D"`, `alarms.mute, timezone: "my time"`,
			},
		},
		"network": {
			stack.Options{Network: &stack.Network{CIDR: netip.MustParsePrefix("8.8.8.0/24"), Gateways: 3, Allocations: []string{"198.51.100.1"}}},
			[]string{"network.cidr: 8.8.8.0/24: choose a range of private IPv4", "network.gateways: 3: choose 1, or 2", `network.allocations: "198.51.100.1"`, "network.allocations: 1 for 3 gateways"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			mustRefuse(t, stack.Props{Stage: stack.Prod, Topology: good, Code: code, Options: test.options}, test.want...)
		})
	}
}

func mustRefuse(t *testing.T, props stack.Props, wants ...string) {
	t.Helper()
	_, err := stack.New(nil, "test", props)
	if err == nil {
		t.Fatal("an impossible stack was synthesised")
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

// `make build` builds functions/*/bootstrap into dist/*, and the stack takes from there what the topology names.
func TestFunctionsOfTheTopologyAreThePrograms(t *testing.T) {
	mains, err := filepath.Glob("../../functions/*/bootstrap/main.go")
	if err != nil {
		t.Fatal(err)
	}
	var built []string
	declared := []string{string(topology.Preflight)}
	for _, main := range mains {
		built = append(built, filepath.Base(filepath.Dir(filepath.Dir(main))))
	}
	for _, f := range topology.New(topology.LowLatency).WithCanary().Functions {
		declared = append(declared, string(f.Name))
	}
	slices.Sort(declared)
	if !slices.Equal(built, declared) {
		t.Errorf("functions/*/bootstrap has %v, the topology %v", built, declared)
	}
}

// What the CDK CLI is told beside the template.
func TestStagesGuardTheStack(t *testing.T) {
	for name, s := range templates(t) {
		prod := s.props.Stage == stack.Prod
		if got := s.manifest["terminationProtection"]; got != prod {
			t.Errorf("%s: termination protection is %v, want %v", name, got, prod)
		}
		if got, want := encode(s.manifest["tags"]), encode(document{"waybill:stage": s.props.Stage}); string(got) != string(want) {
			t.Errorf("%s: the stack's tags are %s, want %s", name, got, want)
		}
	}
}
