package stack_test

import (
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
	if err := writeCode(code, wrong); err != nil {
		t.Fatal(err)
	}
	for _, missing := range []string{"router/destinations.json", "deliverer/bootstrap"} {
		if err := os.Remove(filepath.Join(code, missing)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := stack.New(nil, "test", stack.Props{Topology: wrong, Code: code})
	if err == nil {
		t.Fatal("an impossible stack was synthesised")
	}
	for _, want := range []string{
		"stack test cannot be synthesised",
		`profile "cheap": choose`,
		"function deliverer: reads queue nowhere, which is not declared",
		"queue ingress: retention is 96h0m0.001s: CloudFormation counts whole seconds",
		"function router: timeout is 30.001s: CloudFormation counts whole seconds",
		filepath.Join(code, "router", "destinations.json") + " is missing: run `make build`",
		filepath.Join(code, "deliverer", "bootstrap") + " is missing: run `make build`",
	} {
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
	var built, declared []string
	for _, main := range mains {
		built = append(built, filepath.Base(filepath.Dir(filepath.Dir(main))))
	}
	for _, f := range topology.New(topology.LowLatency).Functions {
		declared = append(declared, string(f.Name))
	}
	slices.Sort(declared)
	if !slices.Equal(built, declared) {
		t.Errorf("functions/*/bootstrap has %v, the topology %v", built, declared)
	}
}
