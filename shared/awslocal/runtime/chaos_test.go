//go:build unix

package runtimeapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	runtimeapi "github.com/waybillhq/waybill/shared/awslocal/runtime"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// withTrace is a FunctionConfig.Context that names the trace where aws-lambda-go looks for it.
func withTrace(id string) func(context.Context, string, string) context.Context {
	return func(ctx context.Context, _, _ string) context.Context {
		return context.WithValue(ctx, "x-amzn-trace-id", id) //nolint:staticcheck // the key is aws-lambda-go's
	}
}

// TestKilledFromOutside in the middle of an invocation: by kill -9, by a stop that never ends, by Kill, by Crash.
func TestKilledFromOutside(t *testing.T) {
	t.Parallel()
	rows := map[string]struct {
		hit  func(t *testing.T, p *runtimeapi.Program, f *mapping.Function)
		kind string
		text string
	}{
		"kill -9": {func(t *testing.T, p *runtimeapi.Program, _ *mapping.Function) {
			if err := syscall.Kill(p.Processes()[0].PID, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}, runtimeapi.TypeExit, "signal: killed"},
		"kill -TERM": {func(t *testing.T, p *runtimeapi.Program, _ *mapping.Function) {
			if err := syscall.Kill(p.Processes()[0].PID, syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}, runtimeapi.TypeExit, "signal: terminated"},
		"kill -STOP": {func(t *testing.T, p *runtimeapi.Program, _ *mapping.Function) {
			if err := syscall.Kill(p.Processes()[0].PID, syscall.SIGSTOP); err != nil {
				t.Error(err)
			}
		}, runtimeapi.TypeTimeout, "Task timed out after 2.00 seconds"},
		"Kill": {func(t *testing.T, p *runtimeapi.Program, _ *mapping.Function) {
			equal(t, "killed", p.Kill(3), 1)
		}, runtimeapi.TypeExit, "signal: killed"},
		"CrashAll": {func(t *testing.T, _ *runtimeapi.Program, f *mapping.Function) {
			equal(t, "crashed", f.CrashAll(), 1)
		}, runtimeapi.TypeExit, "signal: killed"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var j journal
			p := program(t, runtimeapi.Options{Log: j.log})
			f := function(t, p, mapping.FunctionConfig{Timeout: 2 * time.Second})
			done := make(chan error, 1)
			go func() {
				_, err := f.Invoke(t.Context(), event{Do: "hang"}.payload())
				done <- err
			}()
			if !soon(func() bool { return len(j.find("hangs")) == 1 }) {
				t.Fatal("it does not run")
			}
			row.hit(t, p, f)
			err := <-done
			var failure *runtimeapi.Failure
			if !errors.As(err, &failure) || failure.Type != row.kind || !strings.Contains(failure.Message, row.text) {
				t.Errorf("got %v", err)
			}
			equal(t, "processes", len(p.Processes()), 0)
			equal(t, "uses", must[int](t, f, event{Do: "uses"}), 1)
		})
	}
}

// TestLostWhileIdle: an environment that is lost without work is replaced, and nobody notices.
func TestLostWhileIdle(t *testing.T) {
	t.Parallel()
	p := program(t, runtimeapi.Options{})
	f := function(t, p, mapping.FunctionConfig{})
	first := must[int](t, f, event{Do: "pid"})
	equal(t, "killed", p.Kill(1), 1)
	if second := must[int](t, f, event{Do: "pid"}); second == first {
		t.Errorf("process %d again", second)
	}
	s := f.Stats()
	equal(t, "errors", s.Errors, 0)
	equal(t, "cold starts", s.ColdStarts, 2)
}

// TestKillTakesWorkersFirst, because an idle process proves little.
func TestKillTakesWorkersFirst(t *testing.T) {
	t.Parallel()
	var j journal
	p := program(t, runtimeapi.Options{Log: j.log})
	f := function(t, p, mapping.FunctionConfig{})
	file := filepath.Join(t.TempDir(), "go on")
	errs := make(chan error, 2)
	invoke := func(e event) {
		_, err := f.Invoke(t.Context(), e.payload())
		errs <- err
	}
	go invoke(event{Do: "wait", Text: file})
	if !soon(func() bool { return len(j.find("waits")) == 1 }) {
		t.Fatal("it does not run")
	}
	go invoke(event{Do: "hang"})
	if !soon(func() bool { return len(j.find("hangs")) == 1 }) {
		t.Fatal("it does not run")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err != nil { // the older one is idle now
		t.Fatal(err)
	}
	equal(t, "killed", p.Kill(1), 1)
	if err := <-errs; !errors.Is(err, mapping.ErrCrashed) {
		t.Errorf("got %v", err)
	}
	equal(t, "left", len(p.Processes()), 1)
	equal(t, "killed of none", p.Kill(0)+p.Kill(-1), 0)
}

// TestKillEnvironment ends that one alone, which is named by the access key of its process.
func TestKillEnvironment(t *testing.T) {
	t.Parallel()
	var j journal
	p := program(t, runtimeapi.Options{Log: j.log})
	f := function(t, p, mapping.FunctionConfig{})
	errs := make(chan error, 2)
	for n := range 2 {
		go func() {
			_, err := f.Invoke(t.Context(), event{Do: "hang"}.payload())
			errs <- err
		}()
		if !soon(func() bool { return len(j.find("hangs")) == n+1 }) {
			t.Fatal("it does not run")
		}
	}
	victim, other := p.Processes()[0], p.Processes()[1]
	variables, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", victim.PID))
	if err == nil && !strings.Contains(string(variables), "AWS_ACCESS_KEY_ID="+victim.EnvironmentID+"\x00") {
		t.Errorf("the access key does not tell the environment: %q", variables)
	}
	equal(t, "killed", p.KillEnvironment(victim.EnvironmentID), true)
	equal(t, "killed again", p.KillEnvironment(victim.EnvironmentID), false)
	if err := <-errs; !errors.Is(err, mapping.ErrCrashed) {
		t.Errorf("got %v", err)
	}
	if left := p.Processes(); len(left) != 1 || left[0] != other {
		t.Errorf("left: %+v", left)
	}
	equal(t, "killed of the rest", p.Kill(2), 1)
	if err := <-errs; !errors.Is(err, mapping.ErrCrashed) {
		t.Errorf("got %v", err)
	}
}

// TestMessageOfAKilledProcess comes again and is handled then: the mapping's rules hold for processes as they are.
func TestMessageOfAKilledProcess(t *testing.T) {
	t.Parallel()
	var j journal
	p := program(t, runtimeapi.Options{Log: j.log})
	f := function(t, p, mapping.FunctionConfig{Timeout: time.Second})
	queue, err := sqs.New(sqs.Options{}).CreateQueue("work", map[string]string{"VisibilityTimeout": "1"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := mapping.New(mapping.Config{Queue: mapping.SQS(queue), Function: f, ReportBatchItemFailures: true})
	if err != nil {
		t.Fatal(err)
	}
	m.Start(t.Context())
	file := filepath.Join(t.TempDir(), "go on")
	if _, err := queue.Send(sqs.Outgoing{Body: string(event{Do: "wait", Text: file}.payload())}); err != nil {
		t.Fatal(err)
	}
	if !soon(func() bool { return len(j.find("waits")) == 1 }) {
		t.Fatal("it does not run")
	}
	equal(t, "killed", p.Kill(1), 1)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !soon(func() bool { return m.Stats().Deleted == 1 }) {
		t.Fatalf("mapping %+v", m.Stats())
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, "failed batches", m.Stats().FailedBatches, 1)
	equal(t, "crashes", f.Stats().Crashes, 1)
	equal(t, "left in the queue", queue.Depth().Total(), 0)
}

// TestNoOrphans: processes, frozen or at work, die with the program that started them, though it is killed.
func TestNoOrphans(t *testing.T) {
	needsLinux(t)
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	parent := exec.CommandContext(ctx, os.Args[0])
	parent.Env = append(os.Environ(), orphanVariable+"="+bootstrap)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var pids []int
	for len(pids) < 2 && lines.Scan() {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatalf("got %q", lines.Text())
		}
		pids = append(pids, pid)
	}
	if len(pids) < 2 || state(pids[0]) == 0 || state(pids[1]) == 0 {
		t.Fatalf("processes %v do not run", pids)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err == nil {
		t.Error("the parent ended by itself")
	}
	for _, pid := range pids {
		if !soon(func() bool { return state(pid) == 0 }) {
			t.Errorf("process %d outlives its parent in state %c", pid, state(pid))
		}
	}
}

// playDying starts one process that is frozen and one that works, tells their ids and waits to be killed.
func playDying(path string) {
	stop := func(err error) {
		fmt.Println(err)
		os.Exit(1)
	}
	working := make(chan int)
	p, err := runtimeapi.New(runtimeapi.Options{Function: "tester", Bootstrap: path, Log: func(l runtimeapi.Line) {
		if l.Text == "hangs" {
			working <- l.PID
		}
	}})
	if err != nil {
		stop(err)
	}
	for _, do := range []string{"pid", "hang"} {
		f, err := mapping.NewFunction(mapping.FunctionConfig{Name: "tester", Environment: p.Environment, Timeout: time.Minute})
		if err != nil {
			stop(err)
		}
		if do == "pid" {
			out, err := f.Invoke(context.Background(), event{Do: do}.payload())
			if err != nil {
				stop(err)
			}
			fmt.Println(string(out))
			continue
		}
		go func() {
			_, err := f.Invoke(context.Background(), event{Do: do}.payload())
			stop(err)
		}()
		fmt.Println(<-working)
	}
	select {}
}
