package layout

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/waybillhq/waybill/"

// pkg is a package of this module as `go list -deps` tells it.
type pkg struct {
	ImportPath string
	Name       string
	Standard   bool
	Imports    []string // direct, without tests
	Deps       []string // all, without tests
}

func (p pkg) path() string { return strings.TrimPrefix(p.ImportPath, module) }

// list gives every package of this module with all it depends on. The CDK app is left out by name: it alone needs its packages.
func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Name,Standard,Imports,Deps",
		module+"events/...", module+"functions/...", module+"shared/...", module+"scripts/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(p.ImportPath, module) {
			all = append(all, p)
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d packages listed: the test looks in the wrong place", len(all))
	}
	return all
}

func under(path string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}

// external tells whether an import path is neither of the standard library nor of this module.
func external(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".") && !strings.HasPrefix(path, module)
}

// rule is one line of the import rules: packages it applies to, and what it says about one dependency.
type rule struct {
	name    string
	applies func(p pkg) bool
	deps    func(p pkg) []string // which imports are looked at
	allowed func(dep string) bool
}

func direct(p pkg) []string { return p.Imports }
func all(p pkg) []string    { return p.Deps }

var rules = []rule{
	{
		"nothing but infra sees the CDK",
		func(pkg) bool { return true }, all,
		func(dep string) bool {
			return !strings.HasPrefix(dep, "github.com/aws/aws-cdk-go") && !strings.HasPrefix(dep, "github.com/aws/jsii-runtime-go") && !strings.HasPrefix(dep, module+"infra")
		},
	},
	{
		"events, shared/topology and shared/awslocal need the standard library alone",
		func(p pkg) bool { return under(p.path(), "events", "shared/topology", "shared/awslocal") }, all,
		func(dep string) bool { return !external(dep) },
	},
	{
		"events and shared/topology import nothing of ours but their own parts",
		func(p pkg) bool { return under(p.path(), "events", "shared/topology") }, direct,
		func(dep string) bool {
			return !strings.HasPrefix(dep, module) || under(strings.TrimPrefix(dep, module), "events", "shared/topology")
		},
	},
	{
		"shared/awslocal imports nothing of ours outside itself",
		func(p pkg) bool { return under(p.path(), "shared/awslocal") }, direct,
		func(dep string) bool {
			return !strings.HasPrefix(dep, module) || under(strings.TrimPrefix(dep, module), "shared/awslocal")
		},
	},
	{
		"functions see interfaces of shared, not the AWS SDK",
		func(p pkg) bool { return under(p.path(), "functions") && !isWiring(p.path()) }, all,
		func(dep string) bool { return !strings.HasPrefix(dep, "github.com/aws/aws-sdk-go-v2") },
	},
	{
		"functions do not know each other",
		func(p pkg) bool { return under(p.path(), "functions") && !isWiring(p.path()) }, direct,
		func(dep string) bool { return !under(strings.TrimPrefix(dep, module), "functions") },
	},
	{
		"a bootstrap only starts",
		func(p pkg) bool { return under(p.path(), "functions") && strings.HasSuffix(p.path(), "/bootstrap") }, direct,
		func(dep string) bool {
			return !strings.HasPrefix(dep, module) || under(strings.TrimPrefix(dep, module), "functions/wiring") || dep == module+"shared/topology"
		},
	},
	{
		"shared knows neither functions nor scripts",
		func(p pkg) bool { return under(p.path(), "shared") }, direct,
		func(dep string) bool { return !under(strings.TrimPrefix(dep, module), "functions", "scripts") },
	},
	{
		"functions carry no emulator and no script",
		func(p pkg) bool { return under(p.path(), "functions") }, all,
		func(dep string) bool { return !under(strings.TrimPrefix(dep, module), "shared/awslocal", "scripts") },
	},
	{
		"the protocol of the ledger is free of drivers",
		func(p pkg) bool { return p.path() == "shared/ledger" }, all,
		func(dep string) bool { return !external(dep) },
	},
}

// isWiring names what may know both functions and drivers.
func isWiring(path string) bool {
	return under(path, "functions/wiring") || strings.HasSuffix(path, "/bootstrap")
}

func TestImports(t *testing.T) {
	packages := list(t)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			applied := 0
			for _, p := range packages {
				if !r.applies(p) {
					continue
				}
				applied++
				for _, dep := range r.deps(p) {
					if !r.allowed(dep) {
						t.Errorf("%s imports %s", p.path(), dep)
					}
				}
			}
			if applied == 0 {
				t.Error("the rule applies to no package: has a folder moved?")
			}
		})
	}
}

func TestPackageNamesAreNouns(t *testing.T) {
	for _, p := range list(t) {
		base := p.path()[strings.LastIndex(p.path(), "/")+1:]
		if slices.Contains([]string{"util", "utils", "common", "types", "helpers", "helper", "manager", "impl", "misc", "base"}, base) {
			t.Errorf("%s: a package's name says what is in it", p.path())
		}
	}
}
