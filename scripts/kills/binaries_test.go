package kills

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/waybillhq/waybill/shared/topology"
)

var given = flag.String("binaries", "", "folder with the programs to kill, NAME/bootstrap, built for this machine; without it they are built from the sources")

// programs gives the folder with the programs.
func programs(t *testing.T) string {
	t.Helper()
	if *given != "" {
		folder, err := filepath.Abs(*given)
		if err != nil {
			t.Fatal(err)
		}
		return folder
	}
	folder := t.TempDir()
	for _, f := range topology.New(topology.LowLatency).Functions {
		if err := build(t.Context(), folder, string(f.Name)); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func build(ctx context.Context, folder, function string) error {
	command := exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc,grpcnotrace", "-o", filepath.Join(folder, function, "bootstrap"),
		"github.com/waybillhq/waybill/functions/"+function+"/bootstrap")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		return errors.Join(err, fmt.Errorf("%s", out))
	}
	return nil
}
