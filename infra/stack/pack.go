package stack

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/waybillhq/waybill/shared/topology"
)

// Files that go to Lambda.
const (
	bootstrap    = "bootstrap"         // the program, under the only name that the runtime looks for
	destinations = "destinations.json" // the destinations file, for functions that read destinations
)

// pack makes a directory with one folder per function, which holds what goes to Lambda and nothing else, whatever else lies beside the
// programs.
func (p Props) pack() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "waybill-code-*"); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	for _, f := range p.programs() {
		folder := filepath.Join(dir, string(f.Name))
		if err := os.Mkdir(folder, 0o755); err != nil { //nolint:gosec // Lambda reads it as another user
			return "", err
		}
		if err := install(filepath.Join(p.Code, string(f.Name), bootstrap), filepath.Join(folder, bootstrap), 0o755); err != nil {
			return "", err
		}
		if p.Destinations != "" && readsDestinations(f) {
			if err := install(p.Destinations, filepath.Join(folder, destinations), 0o644); err != nil {
				return "", err
			}
		}
	}
	return dir, nil
}

// programs are the functions that have code: those of the topology, and the one that tries their new versions.
func (p Props) programs() []topology.Function {
	return append(slices.Clone(p.Topology.Functions), topology.Function{Name: topology.Preflight})
}

func install(from, to string, mode os.FileMode) error {
	content, err := os.ReadFile(from) //nolint:gosec // Props name it
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, mode) //nolint:gosec // pack made the directory
}
