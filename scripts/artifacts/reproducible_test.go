package main

import (
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/scripts/artifacts/archive"
)

var cold = flag.Bool("cold", false, "compile everything twice, each time into an empty build cache (minutes)")

// TestSameBytesFromTwoDirectories: make build gives the same programs, and so the same zip files, from two copies of the sources that differ in all that must not
// matter: where and how deep they lie, when their files were written, whether they are a git repository, the user's umask, language and time zone.
//
// Both builds share Go's build cache, or the test would cost minutes. That hides nothing: without -trimpath a directory is part of what an object is looked up by, so
// objects are shared only where they cannot know it; and programs are linked anew. -cold proves it without the cache.
func TestSameBytesFromTwoDirectories(t *testing.T) {
	if testing.Short() {
		t.Skip("builds all functions twice")
	}
	base := t.TempDir()
	first := build(t, filepath.Join(base, "a"), "", "022")
	second := build(t, filepath.Join(base, "another", "place", "with a longer name"), "repository", "077", "LC_ALL=C.UTF-8", "TZ=Asia/Kathmandu")
	programs, err := filepath.Glob(filepath.Join("..", "..", "functions", "*", "bootstrap"))
	if err != nil || len(programs) == 0 || len(first) != len(programs) || len(second) != len(programs) {
		t.Fatalf("%d and %d functions were built of %d (%v)", len(first), len(second), len(programs), err)
	}
	for i, a := range first {
		if b := second[i]; a != b {
			t.Errorf("%s: built in two directories it differs: %d and %d bytes, zip %d and %d bytes", a.Name, a.ProgramBytes, b.ProgramBytes, a.ZipBytes, b.ZipBytes)
		}
		t.Logf("%s: program %x, zip %x", a.Name, a.ProgramSHA256, a.ZipSHA256)
	}
}

// build copies the sources and makes the functions of the copy.
func build(t *testing.T, folder, repository, umask string, environment ...string) []archive.Artifact {
	t.Helper()
	copySources(t, filepath.Join("..", ".."), folder)
	if git, err := exec.LookPath("git"); err == nil && repository != "" {
		for _, args := range [][]string{{"init", "-q"}, {"add", "go.mod"}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "a"}} {
			command := exec.CommandContext(t.Context(), git, append([]string{"--git-dir", filepath.Join(folder, ".git"), "--work-tree", folder}, args...)...)
			command.Dir = folder
			if out, err := command.CombinedOutput(); err != nil {
				t.Fatalf("git %v: %v: %s", args, err, out)
			}
		}
	}
	command := exec.CommandContext(t.Context(), "sh", "-c", "umask "+umask+" && make build")
	command.Dir = folder
	command.Env = append(os.Environ(), environment...)
	if *cold {
		command.Env = append(command.Env, "GOCACHE="+t.TempDir())
	}
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	made, err := archive.List(filepath.Join(folder, "dist"))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// copySources copies what make build needs: Go's files with what they embed, and the Makefile.
func copySources(t *testing.T, from, to string) {
	t.Helper()
	left := []string{".git", ".bin", "dist", "cdk.out", "node_modules", "infra"}
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case slices.Contains(left, name) && entry.IsDir():
			return fs.SkipDir
		case slices.Contains(left, name): // in a worktree .git is a file that leads to the repository, which the copy must not touch
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		case strings.HasSuffix(name, "_test.go"):
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), content, 0o600); err != nil {
			return err
		}
		written := time.Now().Add(-time.Duration(len(to)) * time.Hour)
		return os.Chtimes(filepath.Join(to, name), written, written)
	})
	if err != nil {
		t.Fatal(err)
	}
}
