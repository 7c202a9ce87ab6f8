package stack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// linted are the variants between which each form of each resource is there: the stages, plain and with all options, both profiles, and what options have in another form than all of
// them together. The other variants have the same resources in other company.
var linted = []string{
	"dev, low-latency", "dev, high-volume, everything", "prod, high-volume, everything", "larger, prod",
	plain + ", logLevel, less", plain + ", functions, polled", plain + ", network, larger", plain + ", canary, not",
}

// cfn-lint knows the schemas of CloudFormation's resources, which CDK does not check. It works on one processor and takes seconds for each template, so each processor gets its share.
func TestTemplatesPassCfnLint(t *testing.T) {
	program, err := exec.LookPath("cfn-lint")
	if err != nil {
		t.Skip("cfn-lint is not installed: pip install cfn-lint")
	}
	made, dir := templates(t), t.TempDir()
	shares := make([][]string, min(runtime.GOMAXPROCS(0), len(linted)))
	for i, name := range linted {
		s, ok := made[name]
		if !ok {
			t.Fatalf("there is no variant %q", name)
		}
		file := filepath.Join(dir, strings.ReplaceAll(name, ", ", "-")+".json")
		if err := os.WriteFile(file, s.text, 0o600); err != nil {
			t.Fatal(err)
		}
		shares[i%len(shares)] = append(shares[i%len(shares)], file)
	}
	var all sync.WaitGroup
	for _, share := range shares {
		all.Go(func() {
			arguments := append([]string{
				"--regions", "us-east-1",
				// CDK writes down that a function waits for its role although a reference says so already.
				"--ignore-checks", "W3005", "--",
			}, share...)
			if out, err := exec.CommandContext(t.Context(), program, arguments...).CombinedOutput(); err != nil {
				t.Errorf("cfn-lint: %v\n%s", err, out)
			}
		})
	}
	all.Wait()
}

// A form that a template has and none of those linted would go unchecked.
func TestEveryFormOfAResourceIsLinted(t *testing.T) {
	made, known := templates(t), map[string]bool{}
	for _, name := range linted {
		for form := range made[name].forms() {
			known[form] = true
		}
	}
	for name, s := range made {
		for form, id := range s.forms() {
			if !known[form] {
				t.Errorf("%s: %s has %s, which no template has that cfn-lint sees: add this one to them", name, id, form)
			}
		}
	}
}

// forms are the places in resources by kind, such as "AWS::SQS::Queue.Properties.RedrivePolicy.maxReceiveCount", each with the path of a resource that has it.
func (s synthesis) forms() map[string]string {
	all := map[string]string{}
	for id, v := range s.template["Resources"].(document) {
		r := v.(document)
		var walk func(at string, v any)
		walk = func(at string, v any) {
			switch v := v.(type) {
			case document:
				for key, part := range v {
					walk(at+"."+key, part)
				}
			case []any:
				for _, part := range v {
					walk(at+"[]", part)
				}
			default:
				all[at] = path(id, r)
			}
		}
		for part, v := range r {
			if part != "Metadata" {
				walk(r["Type"].(string)+"."+part, v)
			}
		}
	}
	return all
}
