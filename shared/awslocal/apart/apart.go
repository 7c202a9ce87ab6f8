// Package apart runs the local endpoint and a webhook receiver in a process of their own, so that a benchmark can tell what the processor
// does for the client alone: the time of its own process.
//
// The other process is the same test binary. A test package that uses Start has one test for it:
//
//	func TestApart(t *testing.T) { apart.Serve(t) }
package apart

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

const mark = "serve-apart" // the argument that tells a test binary that it is the other process

// Paths beside those of AWS.
const (
	receiverPath = "/hook"
	totalsPath   = "/totals"
)

// Process is the other process. It ends with the benchmark.
type Process struct {
	URL string // of the AWS endpoint

	tb testing.TB
}

// Totals are what the endpoint has counted since it began.
type Totals struct {
	Calls       int
	Write, Read float64 // capacity units of DynamoDB
}

// Start starts the other process.
func Start(tb testing.TB) *Process {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), os.Args[0], "-test.run=^TestApart$", mark) //nolint:gosec // ourselves
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close() // it ends when nobody holds its input any more, also when we are killed
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatalf("the other process does not begin: %v; does the package have the test TestApart?", err)
	}
	return &Process{URL: strings.TrimSpace(line), tb: tb}
}

// Receiver is the URL of a webhook receiver that reads everything and answers 200.
func (p *Process) Receiver() string { return p.URL + receiverPath }

// Totals asks for the counts so far.
func (p *Process) Totals() Totals {
	p.tb.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(p.URL + totalsPath)
	if err != nil {
		p.tb.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var t Totals
	if err := json.NewDecoder(response.Body).Decode(&t); err != nil {
		p.tb.Fatal(err)
	}
	return t
}

// Serve is the other process, or skips the test.
func Serve(t *testing.T) {
	t.Helper()
	if os.Args[len(os.Args)-1] != mark {
		t.Skip("only for benchmarks")
	}
	endpoint := awslocal.New(awslocal.Options{}, sqs.New(sqs.Options{}), dynamodb.New(dynamodb.Options{}))
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", endpoint)
	mux.HandleFunc(receiverPath, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	mux.HandleFunc(totalsPath, func(w http.ResponseWriter, _ *http.Request) {
		total := endpoint.Counts().Total("")
		_ = json.NewEncoder(w).Encode(Totals{total.Attempted, total.Units.Write, total.Units.Read})
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	_, _ = os.Stdout.WriteString("http://" + l.Addr().String() + "\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = server.Close()
}

// ProcessorTime is what this process has used so far, user and system.
func ProcessorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// prepared is how many operations are prepared together: stopping a benchmark's clock is dear.
const prepared = 50

// Measure runs a benchmark's loop and reports, per operation, the processor time of this process and what the endpoint counted. Every operation gets
// what prepare made for it; making that is not measured.
func Measure[T any](b *testing.B, p *Process, prepare func() T, operation func(T)) {
	b.Helper()
	operation(prepare()) // connections and caches
	before := p.Totals()
	var ready []T
	var spent, began time.Duration
	b.ReportAllocs()
	for b.Loop() {
		if len(ready) == 0 {
			b.StopTimer()
			if began > 0 {
				spent += ProcessorTime(b) - began
			}
			for range prepared {
				ready = append(ready, prepare())
			}
			b.StartTimer()
			began = ProcessorTime(b)
		}
		operation(ready[0])
		ready = ready[1:]
	}
	spent += ProcessorTime(b) - began
	after, n := p.Totals(), float64(b.N)
	b.ReportMetric(float64(spent.Microseconds())/n, "cpu-µs/op")
	b.ReportMetric(float64(after.Calls-before.Calls)/n, "calls/op")
	b.ReportMetric((after.Write-before.Write)/n, "write-units/op")
	b.ReportMetric((after.Read-before.Read)/n, "read-units/op")
}
