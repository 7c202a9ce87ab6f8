//go:build unix

package runtimeapi_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	runtimeapi "github.com/waybillhq/waybill/shared/awslocal/runtime"
)

// TestOutcomes: what the caller of an invocation learns, what is counted, and whether the process serves another one.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name    string
		event   event
		timeout time.Duration
		want    string // the answer
		kind    string // of the failure; empty: none
		message string // has this in it
		cause   error
		keeps   bool
		stats   mapping.FunctionStats
	}{
		{name: "answer", event: event{Do: "echo", Text: "hi"}, want: `"hi"`, keeps: true},
		{name: "answer that is no JSON", event: event{Do: "raw", Text: "{nonsense"}, want: "{nonsense", keeps: true},
		{name: "answer of 6 MB", event: event{Do: "huge", Count: mapping.MaxPayloadBytes - 2},
			want: `"` + strings.Repeat("x", mapping.MaxPayloadBytes-2) + `"`, keeps: true},
		{name: "answer above 6 MB", event: event{Do: "huge", Count: mapping.MaxPayloadBytes - 1}, kind: runtimeapi.TypeResponseTooLarge,
			message: "(6291456 bytes)", cause: mapping.ErrResponseTooLarge, stats: mapping.FunctionStats{Errors: 1}},
		{name: "answer far above 6 MB", event: event{Do: "huge", Count: 5 * mapping.MaxPayloadBytes}, kind: runtimeapi.TypeResponseTooLarge,
			cause: mapping.ErrResponseTooLarge, stats: mapping.FunctionStats{Errors: 1}},
		{name: "answer that breaks off", event: event{Do: "broken"}, kind: "errorString", message: "the source broke", keeps: true,
			stats: mapping.FunctionStats{Errors: 1}},
		{name: "error", event: event{Do: "error", Text: "custom"}, kind: "errorString", message: "custom", keeps: true,
			stats: mapping.FunctionStats{Errors: 1}},
		{name: "panic", event: event{Do: "panic", Text: "boom"}, kind: "string", message: "boom", stats: mapping.FunctionStats{Errors: 1}},
		{name: "exit", event: event{Do: "exit"}, kind: runtimeapi.TypeExit, message: "Error: Runtime exited without providing a reason",
			cause: mapping.ErrCrashed, stats: mapping.FunctionStats{Errors: 1, Crashes: 1}},
		{name: "exit with a code", event: event{Do: "exit", Code: 3}, kind: runtimeapi.TypeExit, message: "Error: Runtime exited with error: exit status 3",
			cause: mapping.ErrCrashed, stats: mapping.FunctionStats{Errors: 1, Crashes: 1}},
		{name: "timeout", event: event{Do: "hang"}, timeout: time.Second, kind: runtimeapi.TypeTimeout, message: "Error: Task timed out after 1.00 seconds",
			cause: mapping.ErrTimeout, stats: mapping.FunctionStats{Errors: 1, Timeouts: 1}},
		{name: "goroutines left behind", event: event{Do: "linger", Count: 100}, want: "null", keeps: true},
		{name: "exit after the answer", event: event{Do: "call", Text: "POST /2018-06-01/runtime/invocation/{id}/response early", Code: 9}, want: "early"},
		{name: "two answers", event: event{Do: "call", Text: "POST /2018-06-01/runtime/invocation/{id}/response first"}, want: "first"},
		{name: "error without form", event: event{Do: "call", Text: "POST /2018-06-01/runtime/invocation/{id}/error [", Code: 9},
			kind: runtimeapi.TypeUnknown, stats: mapping.FunctionStats{Errors: 1}},
		{name: "another's invocation", event: event{Do: "call", Text: "POST /2018-06-01/runtime/invocation/other/response no"},
			want: `"400 InvalidRequestID"`, keeps: true},
		{name: "error for another's invocation", event: event{Do: "call", Text: "POST /2018-06-01/runtime/invocation/other/error {}"},
			want: `"400 InvalidRequestID"`, keeps: true},
		{name: "next before the answer", event: event{Do: "call", Text: "GET /2018-06-01/runtime/invocation/next "},
			want: `"403 InvalidStateTransition"`, keeps: true},
		{name: "init error after init", event: event{Do: "call", Text: "POST /2018-06-01/runtime/init/error {}"},
			want: `"403 InvalidStateTransition"`, keeps: true},
		{name: "extension after init", event: event{Do: "call", Text: `POST /2020-01-01/extension/register {"events":[]}`},
			want: `"403 Extension.RegistrationClosed"`, keeps: true},
		{name: "extension for events", event: event{Do: "call", Text: `POST /2020-01-01/extension/register {"events":["INVOKE"]}`},
			want: `"403 Extension.EventsNotSupported"`, keeps: true},
		{name: "extension without form", event: event{Do: "call", Text: `POST /2020-01-01/extension/register [`},
			want: `"400 InvalidRequestFormat"`, keeps: true},
		{name: "event for an unknown extension", event: event{Do: "call", Text: "GET /2020-01-01/extension/event/next "},
			want: `"403 Extension.UnknownExtensionIdentifier"`, keeps: true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := function(t, program(t, runtimeapi.Options{}), mapping.FunctionConfig{Timeout: row.timeout})
			out, err := f.Invoke(t.Context(), row.event.payload())
			row.stats.Invocations, row.stats.ColdStarts = 1, 1
			got := f.Stats()
			if row.timeout > 0 && got.Billed < row.timeout {
				t.Errorf("billed %v", got.Billed)
			}
			got.Billed, got.GBSeconds = 0, 0
			equal(t, "stats", got, row.stats)
			var failure *runtimeapi.Failure
			switch {
			case row.kind == "":
				if err != nil || string(out) != row.want {
					t.Errorf("got %.100q, %v", out, err)
				}
			case !errors.As(err, &failure):
				t.Fatalf("got %.100q, %v", out, err)
			case failure.Type != row.kind || !strings.Contains(failure.Message, row.message) || out != nil:
				t.Errorf("got %.100q, %+v", out, failure)
			case row.cause != nil && !errors.Is(err, row.cause):
				t.Errorf("%v is not %v", err, row.cause)
			case row.cause == nil && (errors.Is(err, mapping.ErrCrashed) || errors.Is(err, mapping.ErrTimeout)):
				t.Errorf("%v is none of Lambda's own", err)
			}
			uses := must[int](t, f, event{Do: "uses"})
			equal(t, "process kept", uses == 2, row.keeps)
			equal(t, "environment kept", f.Stats().ColdStarts == 1, row.keeps)
		})
	}
}

// TestTooLargeIsTold: a process learns that its response is refused, though nobody reads all of it.
func TestTooLargeIsTold(t *testing.T) {
	t.Parallel()
	var j journal
	f := function(t, program(t, runtimeapi.Options{Log: j.log}), mapping.FunctionConfig{})
	e := event{Do: "call", Text: "POST /2018-06-01/runtime/invocation/{id}/response ", Count: 5 * mapping.MaxPayloadBytes}
	if _, err := f.Invoke(t.Context(), e.payload()); !errors.Is(err, mapping.ErrResponseTooLarge) {
		t.Errorf("got %v", err)
	}
	equal(t, "told", len(j.find("status 413 RequestEntityTooLarge")), 1)
}

// TestInit: an init that fails is tried once more inside the invocation, and its time is not the invocation's.
func TestInit(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name, start string
		once        bool
		limit       time.Duration
		kind        string
		message     string
		cause       error
	}{
		{name: "exits once", start: "exit", once: true},
		{name: "reports an error once", start: "error", once: true},
		{name: "hangs once, for longer than the timeout", start: "hang", once: true, limit: 1100 * time.Millisecond},
		{name: "exits", start: "exit", kind: runtimeapi.TypeExit, message: "Runtime exited with error: exit status 7", cause: mapping.ErrCrashed},
		{name: "reports an error", start: "error", kind: "Init.Bad", message: "no settings"},
		{name: "an extension never asks", start: "extension", limit: 50 * time.Millisecond, kind: runtimeapi.TypeTimeout, cause: mapping.ErrTimeout},
		{name: "an extension never asks, once", start: "extension", once: true, limit: 50 * time.Millisecond},
		{name: "hangs", start: "hang", limit: 50 * time.Millisecond,
			kind: runtimeapi.TypeTimeout, message: "Task timed out after 1.00 seconds", cause: mapping.ErrTimeout},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			variables := map[string]string{"START": row.start}
			if row.once {
				variables["START_ONCE"] = filepath.Join(t.TempDir(), "started")
			}
			p := program(t, runtimeapi.Options{Variables: variables, InitLimit: row.limit})
			f := function(t, p, mapping.FunctionConfig{Timeout: time.Second})
			out, err := f.Invoke(t.Context(), event{Do: "uses"}.payload())
			if row.kind == "" {
				if err != nil || string(out) != "1" {
					t.Errorf("got %s, %v", out, err)
				}
				return
			}
			var failure *runtimeapi.Failure
			if !errors.As(err, &failure) || failure.Type != row.kind || !strings.Contains(failure.Message, row.message) {
				t.Errorf("got %s, %v", out, err)
			}
			if row.cause != nil && !errors.Is(err, row.cause) {
				t.Errorf("%v is not %v", err, row.cause)
			}
			equal(t, "processes left", len(p.Processes()), 0)
		})
	}
}

// TestProbe tells a program that cannot start from one that can.
func TestProbe(t *testing.T) {
	t.Parallel()
	foreign := filepath.Join(t.TempDir(), "bootstrap")
	if err := os.WriteFile(foreign, []byte("\x7fELF of another machine"), 0o700); err != nil {
		t.Fatal(err)
	}
	rows := map[string]struct {
		opts runtimeapi.Options
		kind string
	}{
		"fine":               {},
		"exits":              {runtimeapi.Options{Variables: map[string]string{"START": "exit"}}, runtimeapi.TypeExit},
		"of another machine": {runtimeapi.Options{Bootstrap: foreign}, runtimeapi.TypeEntrypoint},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			p := program(t, row.opts)
			err := p.Probe(t.Context())
			var failure *runtimeapi.Failure
			if row.kind == "" && err != nil || row.kind != "" && (!errors.As(err, &failure) || failure.Type != row.kind) {
				t.Errorf("got %v", err)
			}
			equal(t, "processes left", len(p.Processes()), 0)
		})
	}
}

// TestNewRefuses: everything that is wrong is told at once.
func TestNewRefuses(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	rows := map[string]func(*runtimeapi.Options){
		"no name":            func(o *runtimeapi.Options) { o.Function = "" },
		"no program":         func(o *runtimeapi.Options) { o.Bootstrap = "" },
		"missing program":    func(o *runtimeapi.Options) { o.Bootstrap = plain + "-not" },
		"no program file":    func(o *runtimeapi.Options) { o.Bootstrap = plain },
		"a folder":           func(o *runtimeapi.Options) { o.Bootstrap = filepath.Dir(plain) },
		"memory":             func(o *runtimeapi.Options) { o.MemoryMB = 64 },
		"init limit":         func(o *runtimeapi.Options) { o.InitLimit = -1 },
		"reserved variable":  func(o *runtimeapi.Options) { o.Variables = map[string]string{"AWS_REGION": "eu-west-1"} },
		"reserved prefix":    func(o *runtimeapi.Options) { o.Variables = map[string]string{"AWS_LAMBDA_ANY": "x"} },
		"name of a variable": func(o *runtimeapi.Options) { o.Variables = map[string]string{"A-B": "x"} },
		"zero byte":          func(o *runtimeapi.Options) { o.Variables = map[string]string{"AB": "\x00"} },
		"too many variables": func(o *runtimeapi.Options) { o.Variables = map[string]string{"AB": strings.Repeat("x", 4095)} },
	}
	for name, spoil := range rows {
		opts := runtimeapi.Options{Function: "tester", Bootstrap: bootstrap, Variables: map[string]string{"AB": strings.Repeat("x", 4094)}}
		if _, err := runtimeapi.New(opts); err != nil {
			t.Fatal(err)
		}
		spoil(&opts)
		if _, err := runtimeapi.New(opts); !errors.Is(err, runtimeapi.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestWhatTheProcessSees: Lambda's variables, the function's, nothing of this program's, and the invocation's headers.
func TestWhatTheProcessSees(t *testing.T) {
	t.Setenv("SECRET_OF_THE_PARENT", "x")
	p := program(t, runtimeapi.Options{
		Function: "tester", MemoryMB: 512, EndpointURL: "http://127.0.0.1:4566", XRayDaemon: "127.0.0.1:2000",
		Variables: map[string]string{"OWN": "1", "TZ": "Europe/Vienna"},
	})
	f := function(t, p, mapping.FunctionConfig{Timeout: 3 * time.Second})
	before := time.Now()
	got := must[struct {
		RequestID, ARN, Trace, Directory string
		Deadline                         int64
		Environment                      []string
	}](t, f, event{Do: "context"})
	equal(t, "ARN", got.ARN, f.ARN())
	equal(t, "directory", got.Directory, filepath.Dir(bootstrap))
	if len(got.RequestID) != 36 {
		t.Errorf("request id %q", got.RequestID)
	}
	if !strings.HasPrefix(got.Trace, "Root=1-") || !strings.HasSuffix(got.Trace, ";Sampled=1") {
		t.Errorf("trace %q", got.Trace)
	}
	if d := time.UnixMilli(got.Deadline); d.Before(before.Add(2900*time.Millisecond)) || d.After(time.Now().Add(3*time.Second)) {
		t.Errorf("deadline %v, invoked at %v", d, before)
	}
	want := map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "local", "AWS_SESSION_TOKEN": "session-of-tester",
		"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
		"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000", "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
		"AWS_LAMBDA_FUNCTION_NAME": "tester", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
		"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/tester",
		"AWS_LAMBDA_LOG_STREAM_NAME": "", "AWS_LAMBDA_RUNTIME_API": "", "_X_AMZN_TRACE_ID": got.Trace, "_HANDLER": "bootstrap",
		"LAMBDA_TASK_ROOT": filepath.Dir(bootstrap), "LAMBDA_RUNTIME_DIR": filepath.Dir(bootstrap),
		"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "en_US.UTF-8", "TZ": "Europe/Vienna", "OWN": "1",
	}
	for _, line := range got.Environment {
		name, value, _ := strings.Cut(line, "=")
		expected, ok := want[name]
		if !ok || expected != "" && value != expected {
			t.Errorf("variable %s", line)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// TestTraceComesFromTheContextHook: what aws-lambda-go would find in a context in process, a process gets by its header.
func TestTraceComesFromTheContextHook(t *testing.T) {
	t.Parallel()
	const id = "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1"
	f := function(t, program(t, runtimeapi.Options{}), mapping.FunctionConfig{Context: withTrace(id)})
	got := must[struct{ Trace string }](t, f, event{Do: "context"})
	equal(t, "trace", got.Trace, id)
}

// TestLog: lines come one by one with their invocation, long ones in pieces, and an unfinished one at the end.
func TestLog(t *testing.T) {
	t.Parallel()
	var j journal
	p := program(t, runtimeapi.Options{Log: j.log})
	f := function(t, p, mapping.FunctionConfig{})
	must[any](t, f, event{Do: "log", Text: "first", Count: runtimeapi.MaxLineBytes + 10})
	pid := p.Processes()[0].PID
	if !soon(func() bool { return len(j.find("first")) == 2 && len(j.find("yyy")) == 1 }) {
		t.Fatalf("got %d lines", len(j.find("")))
	}
	for _, l := range j.find("first") {
		equal(t, "function", l.Function, "tester")
		equal(t, "process", l.PID, pid)
		equal(t, "stderr", l.Stderr, strings.HasPrefix(l.Text, "err "))
	}
	if line := j.find("out first")[0]; line.Text != "out first" {
		t.Errorf("got %q", line.Text)
	}
	equal(t, "first piece", len(j.find("yyy")[0].Text), runtimeapi.MaxLineBytes)
	equal(t, "killed", p.Kill(1), 1)
	equal(t, "last piece", j.find("yyy")[1].Text, strings.Repeat("y", 10))
}

// TestLogNamesTheInvocation needs an invocation that goes on while its line is read.
func TestLogNamesTheInvocation(t *testing.T) {
	t.Parallel()
	var j journal
	p := program(t, runtimeapi.Options{Log: j.log})
	f := function(t, p, mapping.FunctionConfig{})
	file := filepath.Join(t.TempDir(), "go on")
	done := make(chan error, 1)
	go func() {
		_, err := f.Invoke(t.Context(), event{Do: "wait", Text: file}.payload())
		done <- err
	}()
	if !soon(func() bool { return len(j.find("waits")) == 1 }) {
		t.Fatal("no line")
	}
	running := p.Processes()[0]
	line := j.find("waits")[0]
	if line.RequestID == "" || line.RequestID != running.RequestID || line.EnvironmentID != running.EnvironmentID {
		t.Errorf("line %+v of %+v", line, running)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	equal(t, "request at the end", p.Processes()[0].RequestID, "")
}

// TestShutdown: SIGTERM and half a second for who asked for it, SIGKILL for everybody else.
func TestShutdown(t *testing.T) {
	t.Parallel()
	rows := map[string]struct {
		variables map[string]string
		told      bool
		waits     bool
	}{
		"no extension":               {variables: map[string]string{}},
		"extension":                  {variables: map[string]string{"SIGTERM_FILE": "told"}, told: true},
		"extension that does not go": {variables: map[string]string{"SIGTERM_FILE": "told", "SIGTERM_IGNORE": "1"}, told: true, waits: true},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "told")
			if row.told {
				row.variables["SIGTERM_FILE"] = file
			}
			p := program(t, runtimeapi.Options{Variables: row.variables})
			f := function(t, p, mapping.FunctionConfig{})
			must[int](t, f, event{Do: "uses"}) // it is frozen now
			begin := time.Now()
			if err := f.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := os.Stat(file)
			equal(t, "told", err == nil, row.told)
			equal(t, "processes", len(p.Processes()), 0)
			if took := time.Since(begin); row.waits && took < 500*time.Millisecond {
				t.Errorf("took %v", took)
			}
			if _, err := f.Invoke(t.Context(), nil); !errors.Is(err, mapping.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

// TestFrozen: between invocations nothing of a process runs. That time has passed is proved by a process that was not frozen.
func TestFrozen(t *testing.T) {
	t.Parallel()
	ticks := func(t *testing.T, opts runtimeapi.Options) (between int) {
		opts.Variables = map[string]string{"TICK": "1"}
		p := program(t, opts)
		f := function(t, p, mapping.FunctionConfig{})
		witness := function(t, program(t, opts), mapping.FunctionConfig{})
		before := must[int](t, f, event{Do: "ticks", Count: 1})
		must[int](t, witness, event{Do: "ticks", Count: 40})
		return must[int](t, f, event{Do: "ticks"}) - before
	}
	t.Run("frozen", func(t *testing.T) {
		t.Parallel()
		if n := ticks(t, runtimeapi.Options{}); n > 5 {
			t.Errorf("%d ticks in a frozen process", n)
		}
	})
	t.Run("thawed", func(t *testing.T) {
		t.Parallel()
		if n := ticks(t, runtimeapi.Options{Thawed: true}); n < 20 {
			t.Errorf("%d ticks in a process that runs on", n)
		}
	})
	t.Run("state", func(t *testing.T) {
		needsLinux(t)
		t.Parallel()
		p := program(t, runtimeapi.Options{})
		f := function(t, p, mapping.FunctionConfig{})
		pid := must[int](t, f, event{Do: "pid"})
		if !soon(func() bool { return state(pid) == 'T' }) {
			t.Errorf("state %c", state(pid))
		}
	})
}

// TestIdleEnvironmentsEnd after a while.
func TestIdleEnvironmentsEnd(t *testing.T) {
	t.Parallel()
	p := program(t, runtimeapi.Options{})
	f := function(t, p, mapping.FunctionConfig{IdleLimit: 20 * time.Millisecond})
	must[int](t, f, event{Do: "uses"})
	if !soon(func() bool { return len(p.Processes()) == 0 }) {
		t.Fatal("it is still there")
	}
	equal(t, "uses", must[int](t, f, event{Do: "uses"}), 1)
	equal(t, "cold starts", f.Stats().ColdStarts, 2)
}

// TestDescendantsEnd with their environment, though they hold its output open, and though only the process itself was killed.
func TestDescendantsEnd(t *testing.T) {
	needsLinux(t)
	t.Parallel()
	end := map[string]func(*testing.T, *runtimeapi.Program, *mapping.Function){
		"Close": func(t *testing.T, _ *runtimeapi.Program, f *mapping.Function) {
			if err := f.Close(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"kill -9": func(t *testing.T, p *runtimeapi.Program, _ *mapping.Function) {
			if err := syscall.Kill(p.Processes()[0].PID, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		},
	}
	for name, hit := range end {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := program(t, runtimeapi.Options{Thawed: true}) // the kernel hangs up what is frozen and has lost its leader
			f := function(t, p, mapping.FunctionConfig{})
			pid := must[int](t, f, event{Do: "child"})
			if state(pid) == 0 {
				t.Fatal("there is no descendant")
			}
			hit(t, p, f)
			if !soon(func() bool { return state(pid) == 0 && len(p.Processes()) == 0 }) {
				t.Errorf("process %d runs on, or is still listed: %+v", pid, p.Processes())
			}
		})
	}
}

// TestCloseKillsWhatDoesNotEnd when its caller waits no longer.
func TestCloseKillsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	var j journal
	p := program(t, runtimeapi.Options{Log: j.log})
	f := function(t, p, mapping.FunctionConfig{})
	done := make(chan error, 1)
	go func() {
		_, err := f.Invoke(t.Context(), event{Do: "hang"}.payload())
		done <- err
	}()
	if !soon(func() bool { return len(j.find("hangs")) == 1 }) {
		t.Fatal("it does not run")
	}
	if err := f.Close(canceled()); err == nil {
		t.Error("nothing was killed")
	}
	equal(t, "processes", len(p.Processes()), 0)
	if err := <-done; !errors.Is(err, mapping.ErrCrashed) || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("got %v", err)
	}
}

// TestManyAtOnce: each invocation has a process of its own, which is used again.
func TestManyAtOnce(t *testing.T) {
	const n = 20
	var j journal
	p := program(t, runtimeapi.Options{Log: j.log})
	f := function(t, p, mapping.FunctionConfig{ReservedConcurrency: n})
	round := func(i int) []string {
		file := filepath.Join(t.TempDir(), "go on")
		errs := make(chan error, n)
		for range n {
			go func() {
				_, err := f.Invoke(t.Context(), event{Do: "wait", Text: file}.payload())
				errs <- err
			}()
		}
		if !soon(func() bool { return len(j.find("waits")) == i*n }) {
			t.Fatalf("%d run", len(j.find("waits")))
		}
		if _, err := f.Invoke(t.Context(), event{Do: "uses"}.payload()); !errors.Is(err, mapping.ErrThrottled) {
			t.Errorf("one more: %v", err)
		}
		var pids []string
		for _, running := range p.Processes() {
			pids = append(pids, strconv.Itoa(running.PID))
			if running.RequestID == "" {
				t.Errorf("idle: %+v", running)
			}
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for range n {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		return pids
	}
	first := round(1)
	equal(t, "processes", len(slices.Compact(slices.Sorted(slices.Values(first)))), n)
	if second := round(2); !slices.Equal(first, second) {
		t.Errorf("processes %v, then %v", first, second)
	}
	equal(t, "cold starts", f.Stats().ColdStarts, n)
}
