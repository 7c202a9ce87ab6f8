// Package runtimeapi runs the built program of a Lambda function, a custom runtime's "bootstrap", unmodified: every
// execution environment is a process of its own that talks to Lambda's Runtime API, which this package serves on
// loopback, one port per process. shared/awslocal/mapping decides when environments are made, used and thrown away, as it
// does for functions inside this program:
//
//	program, err := runtimeapi.New(runtimeapi.Options{Function: "router", Bootstrap: "dist/router/bootstrap"})
//	function, err := mapping.NewFunction(mapping.FunctionConfig{Name: "router", Environment: program.Environment})
//	defer function.Close(ctx)
//
// # Rules kept
//
// From https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html and
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html:
//   - A process sees Lambda's variables, those of its function and nothing else of this program's environment. Its working
//     directory is the one of its bootstrap.
//   - Init ends when the process asks for its first invocation, and every extension that it registered for its first event.
//     It may take 10 s and does not count towards the timeout. If it fails (the process exits, reports an error to
//     init/error or takes longer), it is tried once more inside the invocation, within the function's timeout, and the
//     invocation fails with what that brought.
//   - An invocation is over when the process has answered and asks for the next one, or exits. An answer that was accepted
//     stands even if the process exits after it, but the environment is gone; a process that neither asks nor exits times out.
//   - At the deadline the process and all that it started are killed by SIGKILL: "Task timed out after 3.00 seconds".
//   - A process that goes without an answer fails its invocation with Runtime.ExitError, however it went.
//   - A response may have 6 MB. A larger one gets status 413 and fails the invocation.
//   - Between invocations the process is frozen: not a goroutine, not a timer runs.
//   - At the end of an environment the process gets SIGTERM and 500 ms if it registered an extension, as aws-lambda-go's
//     WithEnableSIGTERM does, then SIGKILL; without an extension SIGKILL at once.
//
// From https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html: reserved variables cannot be set, and all
// variables of a function have 4 KB.
//
// Left out: the memory limit is told to the process but not enforced; the file system is this machine's, /tmp included;
// extensions get no events (a registration for INVOKE is refused); response streaming; the telemetry and logs APIs.
//
// On Linux no process outlives this program, however it ends: the kernel kills them with it. On other Unix systems, if this program is
// killed, a frozen process is hung up by the kernel, and one at work ends when it next calls its Runtime API. Where there is no Unix,
// nothing is frozen.
package runtimeapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// DefaultInitLimit is how long Lambda lets an environment initialise.
const DefaultInitLimit = 10 * time.Second

// maxVariableBytes is Lambda's limit for names and values of a function's variables together.
const maxVariableBytes = 4 << 10

// ErrInvalid is wrapped by every refusal of Options.
var ErrInvalid = errors.New("this function cannot be run as a process")

// Options describe a function's program. Function and Bootstrap must be set.
type Options struct {
	// Function is the function's name.
	Function string
	// Bootstrap is the path of the program, built for this machine.
	Bootstrap string
	// Variables are the function's own, without those that Lambda reserves.
	Variables map[string]string
	// MemoryMB is told to the process. 0 means 128.
	MemoryMB int
	// EndpointURL is where the process finds AWS (AWS_ENDPOINT_URL). Empty: the real one, with credentials that it refuses.
	EndpointURL string
	// XRayDaemon is the daemon's address, host:port (AWS_XRAY_DAEMON_ADDRESS). Without one traces are not sampled.
	XRayDaemon string
	// Thawed lets processes run on between invocations, which Lambda's never do; a debugger is easier to use then.
	Thawed bool
	// InitLimit is for tests; 0 means DefaultInitLimit.
	InitLimit time.Duration
	// Log hears every line that a process writes, from several goroutines. A process whose lines are not taken waits.
	Log func(Line)
}

// Program is a function's program and the processes that run it now. It is safe for concurrent use.
type Program struct {
	opts Options

	mu        sync.Mutex
	processes []*process // in order of start
}

// New checks opts and reports everything that is wrong with them, wrapping [ErrInvalid]. It starts nothing.
func New(opts Options) (*Program, error) {
	var wrong []error
	refuseIf := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	refuseIf(opts.Function == "", "name the function")
	refuseIf(opts.MemoryMB != 0 && (opts.MemoryMB < 128 || opts.MemoryMB > 10240), "memory %d MB: use 128 to 10240", opts.MemoryMB)
	refuseIf(opts.InitLimit < 0, "init limit %v: use 0 for Lambda's or a positive time", opts.InitLimit)
	path, err := filepath.Abs(opts.Bootstrap)
	if opts.Bootstrap == "" {
		err = errors.New("name the program")
	}
	if err == nil {
		err = executable(path)
	}
	refuseIf(err != nil, "bootstrap: %w", err)
	total := 0
	for name, value := range opts.Variables {
		total += len(name) + len(value)
		refuseIf(!variableName.MatchString(name), "variable %q: use letters, digits and _, two at least and a letter first", name)
		refuseIf(reserved(name), "variable %s: Lambda reserves this name; leave it out", name)
		refuseIf(strings.ContainsRune(value, 0), "variable %s has a zero byte; leave it out", name)
	}
	refuseIf(total > maxVariableBytes, "variables have %d bytes: Lambda allows %d", total, maxVariableBytes)
	if len(wrong) > 0 {
		slices.SortFunc(wrong, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
		return nil, fmt.Errorf("%w: function %q: %w", ErrInvalid, opts.Function, errors.Join(wrong...))
	}
	opts.Bootstrap = path
	opts.MemoryMB = cmp.Or(opts.MemoryMB, 128)
	opts.InitLimit = cmp.Or(opts.InitLimit, DefaultInitLimit)
	if opts.Log == nil {
		opts.Log = func(Line) {}
	}
	return &Program{opts: opts}, nil
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("%w; build it first", err)
	case !info.Mode().IsRegular() || canMark && info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is no program; build it first", path)
	}
	return nil
}

// Environment makes an execution environment. It is what mapping.FunctionConfig.Environment wants.
func (p *Program) Environment(id string) mapping.Environment {
	return &environment{program: p, id: id}
}

// Probe starts one process, waits until it is ready for an invocation and ends it. It tells before any message is at stake
// whether the program can start with its settings; the error is a [*Failure].
func (p *Program) Probe(ctx context.Context) error {
	e := &environment{program: p, id: "probe"}
	defer e.Close()
	return e.Init(ctx)
}

// Process is a process that runs now.
type Process struct {
	PID           int
	EnvironmentID string
	RequestID     string // of the invocation that it handles; empty: none
}

// Processes tells which processes run, the oldest first.
func (p *Program) Processes() []Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Process, len(p.processes))
	for i, running := range p.processes {
		list[i] = Process{running.pid, running.environmentID, running.api.requestID()}
	}
	return list
}

// Kill kills up to n processes by SIGKILL, those with an invocation first, and says how many that were. They are gone when it
// returns. What comes of it is Lambda's business: an invocation fails with Runtime.ExitError, an idle environment is replaced.
func (p *Program) Kill(n int) int {
	victims := p.running()
	idle := func(v *process) int {
		if v.api.requestID() == "" {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(victims, func(a, b *process) int { return idle(a) - idle(b) })
	return end(victims[:min(max(n, 0), len(victims))])
}

// KillEnvironment kills the process of an environment as Kill does, and says whether there was one. A process signs its calls to AWS with the id of
// its environment as the access key, which tells an endpoint whom to kill.
func (p *Program) KillEnvironment(id string) bool {
	other := func(v *process) bool { return v.environmentID != id }
	return end(slices.DeleteFunc(p.running(), other)) > 0
}

func (p *Program) running() []*process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.processes)
}

// end kills processes all at once and says how many they were.
func end(victims []*process) int {
	for _, v := range victims {
		v.kill()
	}
	for _, v := range victims {
		<-v.gone
	}
	return len(victims)
}

func (p *Program) add(started *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.processes = append(p.processes, started)
}

func (p *Program) remove(gone *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.processes = slices.DeleteFunc(p.processes, func(other *process) bool { return other == gone })
}

var variableName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]+$`)

// reserved tells whether Lambda refuses a function's variable of this name.
func reserved(name string) bool {
	switch name {
	case "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID",
		"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR":
		return true
	}
	return strings.HasPrefix(name, "AWS_LAMBDA_")
}

// variables gives the whole environment of a process whose Runtime API is at address. A function's own variable wins where
// Lambda lets it.
func (p *Program) variables(address, environmentID string) []string {
	root := filepath.Dir(p.opts.Bootstrap)
	all := map[string]string{
		"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "en_US.UTF-8", "TZ": ":UTC",
		"LAMBDA_TASK_ROOT": root, "LAMBDA_RUNTIME_DIR": root,
		"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
	}
	if p.opts.EndpointURL != "" {
		all["AWS_ENDPOINT_URL"] = p.opts.EndpointURL
	}
	if p.opts.XRayDaemon != "" {
		all["AWS_XRAY_DAEMON_ADDRESS"] = p.opts.XRayDaemon
	}
	for name, value := range p.opts.Variables {
		all[name] = value
	}
	for name, value := range map[string]string{
		"_HANDLER":                        filepath.Base(p.opts.Bootstrap),
		"AWS_LAMBDA_RUNTIME_API":          address,
		"AWS_LAMBDA_FUNCTION_NAME":        p.opts.Function,
		"AWS_LAMBDA_FUNCTION_VERSION":     version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(p.opts.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_FORMAT":           "JSON",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + p.opts.Function,
		"AWS_LAMBDA_LOG_STREAM_NAME":      time.Now().UTC().Format("2006/01/02") + "/[" + version + "]" + environmentID,
		"AWS_REGION":                      wire.Region,
		"AWS_DEFAULT_REGION":              wire.Region,
		"AWS_ACCESS_KEY_ID":               environmentID, // in Lambda, too, every environment has one of its own
		"AWS_SECRET_ACCESS_KEY":           "local",
		"AWS_SESSION_TOKEN":               wire.SessionToken(p.opts.Function),
	} {
		all[name] = value
	}
	list := make([]string, 0, len(all))
	for name, value := range all {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// version is the function's version that code outside of an alias runs as.
const version = "$LATEST"
