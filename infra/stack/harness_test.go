package stack_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

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

// synthesis is a topology and what the stack made of it.
type synthesis struct {
	topology topology.Topology
	template document
	programs map[string]string // what the code of a function does, by its key in the bucket
}

// copy is deep, so that a test can change the template without the next one seeing it.
func (s synthesis) copy() synthesis {
	s.template = decode(encode(s.template))
	return s
}

// synthesise makes all templates at once, because the first one pays for the start of CDK's engine.
var synthesise = sync.OnceValues(func() (map[string]synthesis, error) {
	made := map[string]synthesis{}
	for name, t := range topologies() {
		s, err := synth(t)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		made[name] = s
	}
	return made, nil
})

// topologies are the two that Waybill has and one that it has not, which a stack that listed resources by hand would miss.
func topologies() map[string]topology.Topology {
	return map[string]topology.Topology{
		"low latency": topology.New(topology.LowLatency),
		"high volume": topology.New(topology.HighVolume),
		"larger":      larger(),
	}
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
	t.Functions = append(t.Functions, router, sweeper)
	return t
}

func synth(t topology.Topology) (s synthesis, err error) {
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
	code, err := os.MkdirTemp("", "waybill-code")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(code)
	if err := writeCode(code, t); err != nil {
		return s, err
	}
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(assembly), Context: &settings})
	if _, err := stack.New(app, "waybill", stack.Props{Topology: t, Code: code}); err != nil {
		return s, err
	}
	app.Synth(nil)
	template, err := os.ReadFile(filepath.Join(assembly, "waybill.template.json"))
	if err != nil {
		return s, err
	}
	programs, err := readPrograms(assembly)
	return synthesis{topology: t, template: decode(template), programs: programs}, err
}

// cliSettings are the context that the CDK CLI would give to the app.
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
	config.Context["aws:cdk:version-reporting"] = config.VersionReporting == nil || *config.VersionReporting
	config.Context["aws:cdk:enable-path-metadata"] = true
	config.Context["aws:cdk:enable-asset-metadata"] = true
	return config.Context, nil
}

// writeCode stands in for `make build`: the program of each function is its name.
func writeCode(dir string, t topology.Topology) error {
	for _, f := range t.Functions {
		folder := filepath.Join(dir, string(f.Name))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		for file, content := range map[string]string{"bootstrap": string(f.Name), "destinations.json": `{"destinations": []}`} {
			if err := os.WriteFile(filepath.Join(folder, file), []byte(content), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// readPrograms reads them where the CDK CLI would find them for an upload.
func readPrograms(assembly string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(assembly, "asset.*", "bootstrap"))
	if err != nil {
		return nil, err
	}
	programs := map[string]string{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		programs[strings.TrimPrefix(filepath.Base(filepath.Dir(file)), "asset.")+".zip"] = string(content)
	}
	return programs, nil
}

// templates returns what synthesise made. Without Node it skips the test, but not where everything must run.
func templates(t *testing.T) map[string]synthesis {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the CDK tests need Node on the PATH, and with CI=true they must run: %v", err)
		}
		t.Skip("the CDK tests need Node 22 or later on the PATH; everything else runs without")
	}
	made, err := synthesise()
	if err != nil {
		t.Fatal(err)
	}
	return made
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
