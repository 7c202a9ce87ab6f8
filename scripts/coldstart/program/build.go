package program

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The baselines.
const (
	hello   = "hello"
	sdkOnly = "sdkonly"
)

// module is where the packages to build are.
const module = "github.com/waybillhq/waybill/"

// flags are those of make build.
func flags() []string {
	return []string{"-tags", "lambda.norpc,grpcnotrace", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid="}
}

// build builds the baselines, and the functions unless they are given, for this machine.
func build(ctx context.Context, folder string, o options) error {
	packages := map[string]string{hello: module + "scripts/coldstart/hello", sdkOnly: module + "scripts/coldstart/sdkonly"}
	if o.binaries == "" {
		for _, name := range names() {
			packages[name] = module + "functions/" + name + "/bootstrap"
		}
	}
	for name, from := range packages {
		args := append(append([]string{"build"}, flags()...), "-o", at(folder, name), from)
		command := exec.CommandContext(ctx, "go", args...)  //nolint:gosec // the program and its arguments are ours
		command.Env = append(os.Environ(), "CGO_ENABLED=0") //nolint:forbidigo // what Go needs to build
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w: %s", name, err, out)
		}
	}
	return nil
}

// programs gives the folder of every program that is measured, by the name under which it is told of.
func programs(folder string, o options) map[string]string {
	all := map[string]string{hello: filepath.Join(folder, hello), sdkOnly: filepath.Join(folder, sdkOnly)}
	for _, name := range names() {
		all[name] = filepath.Join(folder, name)
		if o.binaries != "" {
			all[name] = filepath.Join(o.binaries, name)
		}
		if o.beside != "" {
			all[name+beside] = filepath.Join(o.beside, name)
		}
	}
	return all
}

// beside marks another build of a function.
const beside = ", beside"
