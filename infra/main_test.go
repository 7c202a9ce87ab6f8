package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/topology"
)

// asApp makes this test binary the app itself. CDK's engine takes its environment as it is when the program starts.
const asApp = "WAYBILL_TEST_AS_APP"

func TestMain(m *testing.M) {
	if os.Getenv(asApp) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// The app as the CDK CLI runs it: context and place by environment variables, template as a file.
func TestAppTakesItsContextFromCDK(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the CDK tests need Node on the PATH, and with CI=true they must run: %v", err)
		}
		t.Skip("the CDK tests need Node 22 or later on the PATH; everything else runs without")
	}
	dir := t.TempDir()
	programs := []topology.FunctionName{topology.Preflight} // which tries the others, and which no topology declares
	for _, f := range topology.New(topology.LowLatency).WithCanary().Functions {
		programs = append(programs, f.Name)
	}
	for _, program := range programs {
		folder := filepath.Join(dir, "dist", string(program))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "bootstrap"), []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	app, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), app)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asApp+"=1", "CDK_OUTDIR="+filepath.Join(dir, "out"), `CDK_CONTEXT_JSON={"stage": "prod", "profile": "high-volume", "alarmEmail": "oncall@example.com", "prod": {
		"senders": {"accounts": ["123456789012"]}, "functions": {"router": {"maximumConcurrency": 17}}, "network": {"gateways": 2}
	}}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "out", "waybill-prod.template.json"))
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources map[string]struct{ Type string }
	}
	if err := json.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	gateways := 0
	for _, r := range template.Resources {
		if r.Type == "AWS::EC2::NatGateway" {
			gateways++
		}
	}
	if gateways != 2 {
		t.Errorf("the template has %d NAT gateways, want 2", gateways)
	}
	for _, want := range []string{`"WAYBILL_PROFILE": "high-volume"`, `:iam::123456789012:root`, `"MaximumConcurrency": 17`, `"ReservedConcurrentExecutions": 19`,
		`"Endpoint": "oncall@example.com"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the template has no %s", want)
		}
	}
}
