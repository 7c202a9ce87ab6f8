package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

// TestProducers runs every producer that the README shows as it is, as a process in the environment that the README names, against the
// whole system: first while SQS refuses one of its events, then as it should be, then once more.
func TestProducers(t *testing.T) {
	t.Parallel()
	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		program := filepath.Join(t.TempDir(), "send")
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		testProducer(t, producerProgram{command: []string{program}, events: batch})
	})
	each(t, "CLI", "aws", nil, func(t *testing.T, aws string) {
		path := filepath.Dir(aws) + string(filepath.ListSeparator) + os.Getenv("PATH")
		testProducer(t, producerProgram{command: []string{"sh", "send.sh"}, environ: []string{"PATH=" + path}, events: single})
	})
	each(t, "Python", "python3", []string{"-c", "import boto3"}, func(t *testing.T, python string) {
		testProducer(t, producerProgram{command: []string{python, "send.py"}, events: batch})
	})
	each(t, "JavaScript", "node", []string{"--input-type=module", "-e", `import "@aws-sdk/client-sqs"`}, func(t *testing.T, node string) {
		testProducer(t, producerProgram{command: []string{node, besideModules(t, "send.mjs")}, events: batch})
	})
}

// What the producers say happened: the data by event id.
var (
	single = map[string]string{"order-501-paid": `{"order":501,"total":19.90}`}
	batch  = map[string]string{"order-502-paid": `{"order":502,"total":19.90}`, "order-503-paid": `{"order":503,"total":5.25}`}
)

type producerProgram struct {
	command []string
	environ []string          // besides what the README names
	events  map[string]string // that it sends
}

// refused is the event that SQS does not take at first.
func (p producerProgram) refused() string { return slices.Max(slices.Collect(maps.Keys(p.events))) }

func testProducer(t *testing.T, p producerProgram) {
	w := start(t)

	// A control character is what SQS refuses one entry of a batch for.
	fault := w.system.Endpoint.Faults().Add(awslocal.Fault{
		Service: "sqs", Match: func(body []byte) bool { return strings.Contains(string(body), "order-") },
		RewriteRequest: func(body []byte) []byte {
			return []byte(strings.ReplaceAll(string(body), p.refused(), `order-\u0001`))
		},
	})
	out, err := w.run(t, p)
	fault.Remove()
	if err == nil {
		t.Errorf("no failure although SQS took only a part:\n%s", out)
	}
	if !strings.Contains(out, "InvalidMessageContents") {
		t.Errorf("it does not say why %s was not sent:\n%s", p.refused(), out)
	}
	accepted := len(p.events) - 1
	if got := len(w.messages()); got != accepted {
		t.Fatalf("SQS accepted %d messages, want %d:\n%s", got, accepted, out)
	}

	for range 2 {
		w.settle(t) // a copy of an event whose attempt is under way would wait for its lease
		if out, err := w.run(t, p); err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		if accepted += len(p.events); len(w.messages()) != accepted {
			t.Fatalf("SQS has accepted %d messages, want %d", len(w.messages()), accepted)
		}
	}
	w.settle(t)
	w.check(t, p.events)
}

// world is a running system with a receiver.
type world struct {
	system *system.System
	url    string

	mu    sync.Mutex
	sent  []sqs.Message
	calls []call
}

// call is a request that reached the receiver.
type call struct {
	path, id, kind, tenant, body string
}

func start(t *testing.T) *world {
	w := &world{}
	receiver := httptest.NewServer(w)
	t.Cleanup(receiver.Close)
	listener, err := awslocal.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "http://" + listener.Addr().String()
	const destination = `{"id":"TENANT","tenant":"TENANT","type":"webhook","webhook":{"url":"URL/TENANT","secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}}`
	var destinations []string
	for _, tenant := range []string{"acme", "default", "globex"} {
		destinations = append(destinations, strings.NewReplacer("TENANT", tenant, "URL", receiver.URL).Replace(destination))
	}
	w.system, err = system.Start(t.Context(), system.Config{
		Destinations: []byte(`{"destinations":[` + strings.Join(destinations, ",") + `]}`),
		EgressAllow:  "loopback", Logger: slog.New(slog.DiscardHandler), Listener: listener,
		Queues: sqs.Options{BaseURL: w.url, OnSend: w.onSend},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.system.Stop(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) onSend(queue string, m sqs.Message) {
	if queue != "ingress" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, m)
}

// messages are those that the ingress queue accepted so far.
func (w *world) messages() []sqs.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent)
}

func (w *world) ServeHTTP(_ http.ResponseWriter, in *http.Request) {
	body, _ := io.ReadAll(in.Body) // torn bodies differ from what was sent
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, call{in.URL.Path, in.Header.Get("Ce-Id"), in.Header.Get("Ce-Type"), in.Header.Get("Ce-Tenant"), string(body)})
}

var exports = regexp.MustCompile(`(?m)^export (AWS_ENDPOINT_URL=.*)$`)

// run runs a producer to its end, without any AWS settings but those that the README exports.
func (w *world) run(t *testing.T, p producerProgram) (string, error) {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	export := exports.FindSubmatch(readme)
	if export == nil {
		t.Fatal("the README exports no AWS_ENDPOINT_URL")
	}
	const local = "http://127.0.0.1:4566"
	c := exec.CommandContext(t.Context(), p.command[0], append(p.command[1:], w.url+"/000000000000/ingress")...)
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8"}, p.environ...)
	c.Env = append(c.Env, strings.Fields(strings.ReplaceAll(string(export[1]), local, w.url))...)
	out, err := c.CombinedOutput()
	return string(out), err
}

// settle waits until the system has nothing left to do.
func (w *world) settle(t *testing.T) {
	t.Helper()
	end := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for w.system.Busy() > 0 {
		select {
		case <-end:
			t.Fatal("the system does not come to rest")
		case <-tick.C:
		}
	}
}

// check wants each event once at its tenant's destination and nowhere else, with the bytes that the producer put on the queue.
func (w *world) check(t *testing.T, want map[string]string) {
	t.Helper()
	type event struct {
		ID, Source, Type, Tenant string
		Data                     json.RawMessage
	}
	sent := map[string]event{}
	for _, m := range w.messages() {
		var e event
		if err := json.Unmarshal([]byte(m.Body), &e); err != nil {
			t.Fatalf("%v: %s", err, m.Body)
		}
		if group := m.Attributes["MessageGroupId"]; group != "acme" || e.Tenant != "acme" || e.Source != "/shop/orders" {
			t.Errorf("group %q: %s", group, m.Body)
		}
		sent[e.ID] = e
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.calls) != len(want) {
		t.Errorf("%d calls, want %d: %+v", len(w.calls), len(want), w.calls)
	}
	for id, data := range want {
		i := slices.IndexFunc(w.calls, func(c call) bool { return c.id == id })
		if i < 0 {
			t.Errorf("%s has not arrived", id)
			continue
		}
		c := w.calls[i]
		if c.path != "/acme" || c.tenant != "acme" || c.kind != "order.paid" {
			t.Errorf("%s arrived as %+v", id, c)
		}
		if c.body != string(sent[id].Data) || !reflect.DeepEqual(decoded(t, c.body), decoded(t, data)) {
			t.Errorf("%s arrived with %s, sent was %s, want %s", id, c.body, sent[id].Data, data)
		}
	}
}

func decoded(t *testing.T, text string) (value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return value
}

// each runs a test with every program of that name on PATH that can run probe, each in a subtest. Without any it is skipped, or fails
// where WAYBILL_SNIPPETS=required.
func each(t *testing.T, name, program string, probe []string, test func(t *testing.T, path string)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		found := map[string]string{} // by what a link points to
		for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
			path := filepath.Join(dir, program)
			file, err := filepath.EvalSymlinks(path)
			if err != nil || found[file] != "" {
				continue
			}
			if len(probe) > 0 {
				c := exec.CommandContext(t.Context(), path, probe...)
				c.Dir = modules(t)
				err = c.Run()
			} else if info, problem := os.Stat(file); problem != nil || info.Mode()&0o111 == 0 {
				continue
			}
			if err == nil {
				found[file] = path
			}
		}
		if len(found) == 0 {
			missing := program + " is not on PATH"
			if len(probe) > 0 {
				missing = program + " is not on PATH, or has no AWS SDK"
			}
			if os.Getenv("WAYBILL_SNIPPETS") == "required" {
				t.Fatalf("%s: scripts/producers/tools.sh installs it", missing)
			}
			t.Skipf("%s: the producer for it is not tried (scripts/producers/tools.sh installs it)", missing)
		}
		for _, path := range found {
			t.Run(strings.Trim(filepath.ToSlash(filepath.Dir(path)), "/"), func(t *testing.T) {
				t.Parallel()
				test(t, path)
			})
		}
	})
}

// modules is where tools.sh installs what Node needs, if it did; Node looks for modules in the folders above a program's.
func modules(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"../../.bin", "."} {
		if _, err := os.Stat(filepath.Join(dir, "node_modules")); err == nil {
			return dir
		}
	}
	return "."
}

// besideModules copies a program to where it finds them.
func besideModules(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := modules(t)
	if dir == "." { // it finds those of the machine or of the checkout by itself
		return name
	}
	if dir, err = filepath.Abs(filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(copied, "node_modules")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(copied, name)
}
