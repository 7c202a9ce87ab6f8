package stack_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"

	"github.com/waybillhq/waybill/infra/stack"
	"github.com/waybillhq/waybill/shared/topology"
)

// CDK's engine is one Node process that all tests of this binary share: it is started by the first of them, and stopped here.
func TestMain(m *testing.M) {
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

// document is decoded JSON.
type document = map[string]any

// synthesis is what a stack was made from, and what became of it.
type synthesis struct {
	props    stack.Props
	template document
	text     []byte              // the template as CDK wrote it
	manifest document            // what the CDK CLI is told about the stack
	programs map[string]document // the files that a function is deployed with, by its key in the bucket
	metadata document            // what was said of each construct while it was synthesised, by its path
	report   document            // what CDK's own look at the template came to
}

// copy is deep, so that a test can change the template without the next one seeing it.
func (s synthesis) copy() synthesis {
	s.template = decode(encode(s.template))
	return s
}

// synthesise makes all templates at once, because the first one pays for the start of CDK's engine.
var synthesise = sync.OnceValues(func() (map[string]synthesis, error) {
	made := map[string]synthesis{}
	for name, props := range variants() {
		s, err := synth(props)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		made[name] = s
	}
	return made, nil
})

// plain is the variant that tests use which need only one.
const plain = "prod, low-latency"

// variants are both stages with both profiles, plain and with all options at once; each option alone, in both stages and in both profiles; and two stacks of a topology that Waybill
// has not, which a stack that listed resources by hand would miss.
func variants() map[string]stack.Props {
	all := map[string]stack.Props{
		"larger, dev":  {Stage: stack.Dev, Topology: larger()},
		"larger, prod": {Stage: stack.Prod, Topology: larger(), Options: everything()},
	}
	for _, stage := range []stack.Stage{stack.Dev, stack.Prod} {
		for _, profile := range []topology.Profile{topology.LowLatency, topology.HighVolume} {
			name := fmt.Sprintf("%s, %s", stage, profile)
			all[name] = stack.Props{Stage: stage, Topology: topology.New(profile), Options: least(stage)}
			all[name+", everything"] = stack.Props{Stage: stage, Topology: topology.New(profile), Options: everything()}
			if (stage == stack.Prod) != (profile == topology.LowLatency) {
				continue // each option once in each stage and each profile
			}
			for option, set := range options() {
				props := all[name]
				set(&props.Options)
				all[name+", "+option] = props
			}
		}
	}
	return all
}

// least are the options without which a stage cannot be had.
func least(stage stack.Stage) stack.Options {
	if stage == stack.Prod {
		return stack.Options{Alarms: stack.Alarms{Email: []string{"oncall@example.com"}}}
	}
	return stack.Options{}
}

// options set one option each. Their names are those in cdk.json, or begin with them.
func options() map[string]func(*stack.Options) {
	return map[string]func(*stack.Options){
		"destinations": func(o *stack.Options) { o.Destinations = "testdata/destinations.json" },
		"tenant":       func(o *stack.Options) { o.Tenant = "acme" },
		"egressAllow": func(o *stack.Options) {
			o.EgressAllow, o.Network = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.3.4/32")}, &stack.Network{}
		},
		"logLevel":          func(o *stack.Options) { o.LogLevel = -4 },
		"logLevel, less":    func(o *stack.Options) { o.LogLevel = 8 },
		"logDays":           func(o *stack.Options) { o.LogDays = 3653 },
		"senders":           func(o *stack.Options) { o.Senders = senders() },
		"secrets":           func(o *stack.Options) { o.Secrets = []string{secretARN, parameterARN} },
		"secretKeys":        func(o *stack.Options) { o.SecretKeys = []string{keyARN} },
		"customerKey":       func(o *stack.Options) { o.CustomerKey = true },
		"tables":            func(o *stack.Options) { o.Tables = tables() },
		"functions":         func(o *stack.Options) { o.Functions = functions() },
		"functions, polled": func(o *stack.Options) { o.Functions = polled() },
		"network":           func(o *stack.Options) { o.Network = &stack.Network{} },
		"network, larger": func(o *stack.Options) {
			o.Network = &stack.Network{CIDR: netip.MustParsePrefix("172.16.0.0/20"), Gateways: 2, Allocations: []string{"eipalloc-0a", "eipalloc-0b"}}
		},
		"alarms":      func(o *stack.Options) { o.Alarms = called() },
		"canary":      func(o *stack.Options) { on := true; o.Canary = &on },
		"canary, not": func(o *stack.Options) { off := false; o.Canary = &off },
	}
}

func called() stack.Alarms {
	return stack.Alarms{
		Email: []string{"oncall@example.com", "second@example.com"}, HTTPS: []string{"https://pager.example.com/waybill"},
		Slack:    []stack.Slack{{Workspace: "T0123ABCD", Channel: "C0123ABCD"}, {Workspace: "T0123ABCD", Channel: "G0123ABCD"}},
		Runbooks: "https://wiki.example.com/waybill",
		Mute:     []stack.Mute{{When: "cron(0 2 * * SUN)", For: "PT2H", Timezone: "Europe/Berlin"}, {When: "at(2026-12-01T02:00)", For: "P1DT12H"}},
	}
}

const (
	secretARN    = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hooks/*"
	parameterARN = "arn:aws:ssm:eu-west-1:123456789012:parameter/hooks/*"
	keyARN       = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

func senders() stack.Senders {
	return stack.Senders{
		Topics: []string{"arn:aws:sns:eu-west-1:123456789012:orders", "arn:aws:sns:eu-west-1:210987654321:refunds"},
		Rules:  []string{"arn:aws:events:eu-west-1:123456789012:rule/orders"},
		Buckets: []stack.Bucket{
			{ARN: "arn:aws:s3:::invoices", Account: "123456789012"}, {ARN: "arn:aws:s3:::receipts", Account: "210987654321"}, {ARN: "arn:aws:s3:::orders", Account: "123456789012"},
		},
		Accounts: []string{"210987654321", "345678901234"},
	}
}

func tables() map[topology.TableName]stack.TableOptions {
	return map[topology.TableName]stack.TableOptions{
		topology.Ledger: {
			Provisioned: &stack.Provisioned{Read: stack.Range{Min: 5, Max: 500}, Write: stack.Range{Min: 10, Max: 1000}, Utilization: 60},
			Warm:        &stack.Throughput{Read: 12_000, Write: 4_000},
		},
		topology.Registry: {Provisioned: &stack.Provisioned{Read: stack.Range{Min: 1, Max: 10}, Write: stack.Range{Min: 1, Max: 1}}},
	}
}

func functions() map[topology.FunctionName]stack.FunctionOptions {
	return map[topology.FunctionName]stack.FunctionOptions{
		topology.Router:    {MaximumConcurrency: 20, ReservedConcurrency: 30},
		topology.Deliverer: {MaximumConcurrency: 1000},
		topology.Waker:     {ReservedConcurrency: 1},
	}
}

func polled() map[topology.FunctionName]stack.FunctionOptions {
	return map[topology.FunctionName]stack.FunctionOptions{
		topology.Deliverer: {Pollers: &stack.Pollers{Min: 2, Max: 20}},
	}
}

func everything() stack.Options {
	var o stack.Options
	for name, set := range options() {
		if !strings.Contains(name, ", ") {
			set(&o)
		}
	}
	o.Network = &stack.Network{Gateways: 2}
	o.LogDays, o.LogLevel = 30, 0
	return o
}

func larger() topology.Topology {
	t := topology.New(topology.LowLatency)
	dead, _ := t.Queue(topology.IngressDeadLetter)
	dead.Name = "audit-dlq"
	source, _ := t.Queue(topology.Ingress)
	source.Name, source.DeadLetter, source.MaxReceiveCount = "audit", dead.Name, 7
	alone := topology.Queue{Name: "alone", Retention: source.Retention}
	t.Queues = append(t.Queues, source, dead, alone)
	t.Tables = append(t.Tables, topology.Table{
		Name: "audit", Partition: topology.Key{Name: "day", Type: topology.String}, Sort: topology.Key{Name: "at", Type: topology.Number},
	})
	router, _ := t.Function(topology.Router)
	router.Name, router.MemoryMB, router.RecursiveLoop = "auditor", 256, true
	router.Source = topology.Mapping{Queue: source.Name, BatchSize: 3} // no limit to its concurrency
	router.Queues = []topology.QueueAccess{{Queue: "alone", Operations: []topology.Operation{topology.SendMessage}}}
	router.Tables = []topology.TableAccess{{Table: "audit", Operations: []topology.Operation{topology.UpdateItem}}}
	sweeper, _ := t.Function(topology.Waker)
	sweeper.Name, sweeper.Every = "sweeper", 2*time.Hour // Scheduler is told minutes
	sweeper.Queues, sweeper.Tables = nil, router.Tables
	reader := router
	reader.Name, reader.Source, reader.Queues, reader.Tables, reader.Every = "reader", topology.Mapping{}, nil, nil, time.Hour
	t.Functions = append(t.Functions, router, sweeper, reader)
	return t
}

// synth makes a template, and lets cdk-nag look at what it is made from. Changes are made to the stack before that.
func synth(props stack.Props, changes ...func(awscdk.Stack)) (s synthesis, err error) {
	defer func() { // CDK's refusals arrive as panics
		if r := recover(); r != nil {
			err = fmt.Errorf("CDK: %v", r)
		}
	}()
	settings, err := cliSettings()
	if err != nil {
		return s, err
	}
	assembly, err := os.MkdirTemp("", "waybill-cdk")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(assembly)
	if props.Code, err = os.MkdirTemp("", "waybill-dist"); err != nil {
		return s, err
	}
	defer os.RemoveAll(props.Code)
	if err := writeCode(props.Code, props.Topology.WithCanary()); err != nil { // `make build` builds it in any case
		return s, err
	}
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(assembly), Context: &settings})
	made, err := stack.New(app, "waybill", props)
	if err != nil {
		return s, err
	}
	for _, change := range changes {
		change(made)
	}
	awscdk.Aspects_Of(app).Add(cdknag.NewAwsSolutionsChecks(&cdknag.NagPackProps{Reports: jsii.Bool(false)}), nil)
	app.Synth(nil)
	text, err1 := os.ReadFile(filepath.Join(assembly, "waybill.template.json"))
	manifest, err2 := os.ReadFile(filepath.Join(assembly, "manifest.json"))
	programs, err3 := readPrograms(assembly)
	metadata, err4 := os.ReadFile(filepath.Join(assembly, "waybill.metadata.json"))
	report, err5 := os.ReadFile(filepath.Join(assembly, "validation-report.json"))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return s, err
	}
	artifact := decode(manifest)["artifacts"].(document)["waybill"].(document)["properties"].(document)
	return synthesis{
		props: props, template: decode(text), text: text, manifest: artifact, programs: programs, metadata: decode(metadata), report: decode(report),
	}, nil
}

// cliSettings are the context that the CDK CLI would give to the app, without what is for main to read.
func cliSettings() (document, error) {
	file, err := os.ReadFile("../../cdk.json")
	if err != nil {
		return nil, err
	}
	var config struct {
		VersionReporting *bool    `json:"versionReporting"`
		Context          document `json:"context"`
	}
	if err := json.Unmarshal(file, &config); err != nil {
		return nil, fmt.Errorf("cdk.json: %w", err)
	}
	for _, key := range []string{"stage", "profile", "dev", "prod"} {
		delete(config.Context, key)
	}
	config.Context["aws:cdk:version-reporting"] = config.VersionReporting == nil || *config.VersionReporting
	config.Context["aws:cdk:enable-path-metadata"] = true
	config.Context["aws:cdk:enable-asset-metadata"] = true
	return config.Context, nil
}

// writeCode stands in for `make build`: the program of each function is its name, and beside it lies something that is not to be deployed.
func writeCode(dir string, t topology.Topology) error {
	for _, f := range append(slices.Clone(t.Functions), topology.Function{Name: topology.Preflight}) {
		folder := filepath.Join(dir, string(f.Name))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		for file, content := range map[string]string{"bootstrap": string(f.Name), "notes.txt": "not for Lambda"} {
			if err := os.WriteFile(filepath.Join(folder, file), []byte(content), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// readPrograms reads them where the CDK CLI would find them for an upload.
func readPrograms(assembly string) (map[string]document, error) {
	files, err := filepath.Glob(filepath.Join(assembly, "asset.*", "*"))
	if err != nil {
		return nil, err
	}
	programs := map[string]document{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		key := strings.TrimPrefix(filepath.Base(filepath.Dir(file)), "asset.") + ".zip"
		if programs[key] == nil {
			programs[key] = document{}
		}
		programs[key][filepath.Base(file)] = fmt.Sprintf("%v %s", info.Mode(), content)
	}
	return programs, nil
}

// templates returns what synthesise made.
func templates(t *testing.T) map[string]synthesis {
	t.Helper()
	needsNode(t)
	made, err := synthesise()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// needsNode skips a test where there is no Node, but not where everything must run.
func needsNode(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the CDK tests need Node on the PATH, and with CI=true they must run: %v", err)
		}
		t.Skip("the CDK tests need Node 22 or later on the PATH; everything else runs without")
	}
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // only decoded JSON and literals come here
	}
	return text
}

func decode(text []byte) document {
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		panic(err)
	}
	return d
}
