//go:build unix

package runtimeapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	runtimeapi "github.com/waybillhq/waybill/shared/awslocal/runtime"
)

// orphanVariable makes this test program play the one that dies with processes running; see TestNoOrphans.
const orphanVariable = "RUNTIMEAPI_TEST_DIES"

// bootstrap is the path of the built program of testdata.
var bootstrap string

func TestMain(m *testing.M) {
	if path := os.Getenv(orphanVariable); path != "" {
		playDying(path)
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "runtimeapi")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	bootstrap = filepath.Join(dir, "bootstrap")
	build := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", bootstrap, "./testdata/bootstrap")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Printf("%v: %s\n", err, out)
		return 1
	}
	before := runtime.NumGoroutine()
	code := m.Run()
	if code == 0 && !soon(func() bool { return runtime.NumGoroutine() <= before && len(leftovers()) == 0 }) {
		buf := make([]byte, 1<<20)
		fmt.Printf("left over: processes %v; goroutines %d, at first %d\n%s\n",
			leftovers(), runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		return 1
	}
	return code
}

// leftovers finds processes of the test's program, by what the kernel says that they run.
func leftovers() (found []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range all {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, bootstrap) {
			found = append(found, link)
		}
	}
	return found
}

// soon waits for something that happens by itself.
func soon(happened func() bool) bool {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(2 * time.Millisecond) {
		if happened() {
			return true
		}
	}
	return happened()
}

// program gives the test's program. Function and Bootstrap have defaults.
func program(t testing.TB, opts runtimeapi.Options) *runtimeapi.Program {
	t.Helper()
	if opts.Function == "" {
		opts.Function = "tester"
	}
	if opts.Bootstrap == "" {
		opts.Bootstrap = bootstrap
	}
	p, err := runtimeapi.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// function gives a function that runs p and is closed, with all its processes, when the test ends.
func function(t testing.TB, p *runtimeapi.Program, cfg mapping.FunctionConfig) *mapping.Function {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "tester"
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 20 * time.Second
	}
	cfg.Environment = p.Environment
	f, err := mapping.NewFunction(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
		if left := p.Processes(); len(left) > 0 {
			t.Errorf("left after Close: %+v", left)
		}
	})
	return f
}

// event is the event of the test's program.
type event struct {
	Do    string
	Text  string `json:",omitempty"`
	Code  int    `json:",omitempty"`
	Count int    `json:",omitempty"`
}

func (e event) payload() []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return b
}

// must invokes f and reads its answer.
func must[T any](t testing.TB, f *mapping.Function, e event) (answer T) {
	t.Helper()
	out, err := f.Invoke(t.Context(), e.payload())
	if err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatalf("%+v: %q: %v", e, out, err)
	}
	return answer
}

// journal collects log lines.
type journal struct {
	mu    sync.Mutex
	lines []runtimeapi.Line
}

func (j *journal) log(l runtimeapi.Line) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, l)
}

// find gives the lines with this text.
func (j *journal) find(text string) (found []runtimeapi.Line) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		if strings.Contains(l.Text, text) {
			found = append(found, l)
		}
	}
	return found
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func needsLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
}

// state gives the kernel's letter for what a process does; 0: it is gone or a zombie.
func state(pid int) byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), ") ")
	if after == "" || after[0] == 'Z' {
		return 0
	}
	return after[0]
}
