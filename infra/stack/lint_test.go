package stack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// cfn-lint knows the schemas of CloudFormation's resources, which CDK does not check.
func TestTemplatesPassCfnLint(t *testing.T) {
	program, err := exec.LookPath("cfn-lint")
	if err != nil {
		t.Skip("cfn-lint is not installed: pip install cfn-lint")
	}
	arguments := []string{
		"--regions", "us-east-1",
		// CDK writes down that a function waits for its role although a reference says so already.
		"--ignore-checks", "W3005", "--",
	}
	dir := t.TempDir()
	for name, s := range templates(t) {
		alone := strings.HasPrefix(name, plain) && strings.Count(name, ",") == 3 // what everything has in another form
		if !alone && !strings.HasSuffix(name, "everything") && strings.Count(name, ",") != 1 {
			continue
		}
		file := filepath.Join(dir, strings.ReplaceAll(name, ", ", "-")+".json")
		if err := os.WriteFile(file, s.text, 0o600); err != nil {
			t.Fatal(err)
		}
		arguments = append(arguments, file)
	}
	if out, err := exec.CommandContext(t.Context(), program, arguments...).CombinedOutput(); err != nil {
		t.Errorf("cfn-lint: %v\n%s", err, out)
	}
}
