package layout

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/registry"
)

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReadmeDestinationsAreValid(t *testing.T) {
	found := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(readme(t), -1)
	if len(found) == 0 {
		t.Fatal("the README shows no destinations file")
	}
	for _, block := range found {
		if _, err := registry.Parse([]byte(block[1]), registry.Options{Name: "README.md"}); err != nil {
			t.Error(err)
		}
	}
}

var (
	failureSection = regexp.MustCompile(`(?s)## When something fails\n(.*?)\n## `)
	testName       = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)")
	testFunction   = regexp.MustCompile(`func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
)

// Every row of the failure table names a test that exists, or says that it is not built yet.
func TestReadmeFailureTableNamesTests(t *testing.T) {
	section := failureSection.FindStringSubmatch(readme(t))
	if section == nil {
		t.Fatal("the README has no failure table")
	}
	exists := map[string]bool{}
	out, err := exec.CommandContext(t.Context(), "git", "-C", "../..", "grep", "-h", "-o", "-E", `^func (Test|Fuzz)[A-Za-z0-9_]+\(`, "--", "*_test.go").Output()
	if err != nil {
		t.Skipf("this is no git checkout: %v", err)
	}
	for _, f := range testFunction.FindAllStringSubmatch(string(out), -1) {
		exists[f[1]] = true
	}
	rows := 0
	for line := range strings.Lines(section[1]) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || strings.Contains(line, "---") || strings.Contains(line, "proved by") {
			continue
		}
		rows++
		proof := cells[len(cells)-2]
		names := testName.FindAllStringSubmatch(proof, -1)
		if len(names) == 0 && !strings.Contains(proof, "not built yet") {
			t.Errorf("no proof in %q", line)
		}
		for _, name := range names {
			if !exists[name[1]] {
				t.Errorf("%s does not exist: %q", name[1], line)
			}
		}
	}
	if rows < 12 {
		t.Errorf("only %d rows", rows)
	}
}

func TestReadmeShowsTheCommands(t *testing.T) {
	text := readme(t)
	for _, command := range []string{"make run", "make test", "make synth"} {
		if !strings.Contains(text, command) {
			t.Errorf("the README does not show %q", command)
		}
	}
}
