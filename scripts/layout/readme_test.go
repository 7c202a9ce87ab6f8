package layout

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/registry"
)

func readme(t *testing.T) string {
	t.Helper()
	return read(t, "README.md")
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
	destinationsSection = regexp.MustCompile(`(?s)## Destinations\n(.*?)\n## `)
	firstCell           = regexp.MustCompile("(?m)^\\| `([a-z.A-Z]+)` \\|.*$")
)

// The table of fields has no field that the schema of destinations does not have, and whatever the schema has stands in the section.
func TestReadmeTellsTheFieldsOfADestination(t *testing.T) {
	type object struct {
		Properties map[string]struct {
			Properties map[string]any
		}
	}
	var schema struct {
		Defs map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal(registry.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	fields := map[string]bool{}
	for _, of := range []string{"destination", "webhook", "retry", "rate"} {
		if len(schema.Defs[of].Properties) == 0 {
			t.Fatalf("the schema does not define %s", of)
		}
		for name, field := range schema.Defs[of].Properties {
			prefix := map[string]string{"webhook": "webhook.", "retry": "retry.", "rate": "rate."}[of]
			fields[prefix+name] = true
			for inner := range field.Properties {
				fields[prefix+name+"."+inner] = true
			}
		}
	}

	section := destinationsSection.FindString(readme(t))
	for field := range fields {
		name := field[strings.LastIndex(field, ".")+1:]
		if !slices.ContainsFunc([]string{"`" + field + "`", "`" + name + "`", `"` + name + `"`}, func(as string) bool { return strings.Contains(section, as) }) {
			t.Errorf("the README does not tell of %s", field)
		}
	}
	rows := map[string]string{}
	for _, row := range firstCell.FindAllStringSubmatch(section, -1) {
		if rows[row[1]] = row[0]; !fields[row[1]] {
			t.Errorf("a destination has no field %s", row[1])
		}
	}
	for field, value := range map[string]string{
		"reject":          strings.ReplaceAll(strings.Trim(fmt.Sprint(registry.DefaultReject()), "[]"), " ", ", "),
		"webhook.timeout": fmt.Sprintf("%.0f s", registry.DefaultTimeout.Seconds()),
	} {
		if !strings.HasSuffix(rows[field], "| "+value+" |") {
			t.Errorf("the default of %s is %s, not as in %q", field, value, rows[field])
		}
	}
}

// Packages that the README counts up are there, and every package, function and program that is there stands in the table of the code.
func TestReadmeNamesPackagesOfShared(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| \\[`shared`\\]\\(shared\\) \\|.*$").FindString(readme(t))
	names := regexp.MustCompile("`([a-z]+)`[^\\]]").FindAllStringSubmatch(row, -1)
	if len(names) < 10 {
		t.Errorf("only %d packages in %q", len(names), row)
	}
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(root, "shared", name[1])); err != nil || !info.IsDir() {
			t.Errorf("there is no shared/%s", name[1])
		}
	}

	_, table, _ := strings.Cut(readme(t), "\n## The code\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, folder := range []string{"functions", "shared", "scripts"} {
		entries, err := os.ReadDir(filepath.Join(root, folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if name := entry.Name(); entry.IsDir() && !strings.Contains(table, "`"+name+"`") && !strings.Contains(table, "`"+folder+"/"+name+"`") {
				t.Errorf("the README's table of the code does not name %s/%s", folder, name)
			}
		}
	}
}

var (
	failureSection = regexp.MustCompile(`(?s)## When something fails\n(.*?)\n## `)
	testName       = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9_]+)")
	testFunction   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
)

// Every row of the failure table names a test, or says that it is not built yet.
func TestReadmeFailureTableNamesTests(t *testing.T) {
	section := failureSection.FindStringSubmatch(readme(t))
	if section == nil {
		t.Fatal("the README has no failure table")
	}
	rows := 0
	for line := range strings.Lines(section[1]) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || strings.Contains(line, "---") || strings.Contains(line, "proved by") {
			continue
		}
		rows++
		if proof := cells[len(cells)-2]; !testName.MatchString(proof) && !strings.Contains(proof, "not built yet") {
			t.Errorf("no proof in %q", line)
		}
	}
	if rows < 12 {
		t.Errorf("only %d rows", rows)
	}
}

// What documents call a test is one, in the failure table and elsewhere.
func TestTestsThatDocumentsNameExist(t *testing.T) {
	exists := map[string]bool{}
	for _, path := range files(t, "_test.go") {
		for _, f := range testFunction.FindAllStringSubmatch(read(t, path), -1) {
			exists[f[1]] = true
		}
	}
	named := 0
	for _, path := range files(t, ".md") {
		for _, name := range testName.FindAllStringSubmatch(read(t, path), -1) {
			named++
			if !exists[name[1]] {
				t.Errorf("%s names %s, which does not exist", path, name[1])
			}
		}
	}
	if named < 20 {
		t.Errorf("only %d tests are named", named)
	}
}

// What the README shows of producers is what is tried, byte for byte.
func TestReadmeShowsProducers(t *testing.T) {
	text := readme(t)
	for file, language := range map[string]string{"send.sh": "sh", "send.go": "go", "send.py": "python", "send.mjs": "js"} {
		if program := read(t, "scripts/producers/"+file); !strings.Contains(text, "\n```"+language+"\n"+program+"```\n") {
			t.Errorf("the README does not show scripts/producers/%s as it is", file)
		}
	}
}

func TestReadmeShowsTheCommands(t *testing.T) {
	text := readme(t)
	for _, command := range []string{"make run", "make test", "make deploy"} {
		if !strings.Contains(text, command) {
			t.Errorf("the README does not show %q", command)
		}
	}
}

// root is where the repository lies, seen from here.
const root = "../.."

// files gives every file of the repository whose name ends so, by its path from the root; built and installed things are left out.
func files(t *testing.T, end string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "dist" || name == "cdk.out") {
			return filepath.SkipDir
		}
		if !entry.IsDir() && strings.HasSuffix(name, end) {
			from, err := filepath.Rel(root, path)
			paths = append(paths, filepath.ToSlash(from))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatalf("no file ends in %s: the test looks in the wrong place", end)
	}
	return paths
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
