package program

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	official "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/topology"
)

// enough is how long a test waits for what must happen; the machine may be busy with other things.
const enough = time.Minute

// session is the program while it runs in a test, on a port of its own.
type session struct {
	t              *testing.T
	run            *run
	stdout, stderr *buffer
	interrupt      context.CancelFunc
	exited         chan int
}

// begin starts the program. started, if not nil, gets it before anything is sent.
func begin(t *testing.T, started func(*session), args ...string) *session {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &session{t: t, stdout: &buffer{}, stderr: &buffer{}, interrupt: cancel, exited: make(chan int, 1)}
	running := make(chan struct{})
	go func() {
		s.exited <- launch(ctx, append([]string{"-listen", "127.0.0.1:0"}, args...), s.stdout, s.stderr, func(r *run) {
			s.run = r
			if started != nil {
				started(s)
			}
			close(running)
		})
	}()
	t.Cleanup(cancel)
	select {
	case <-running:
	case status := <-s.exited:
		t.Fatalf("the program does not start, exit status %d: %s", status, s.stderr)
	}
	return s
}

// end waits for the program's end and gives its exit status.
func (s *session) end() int {
	s.t.Helper()
	select {
	case status := <-s.exited:
		return status
	case <-time.After(enough):
		s.t.Fatalf("the program does not end\n%s%s", s.stdout, s.stderr)
		return -1
	}
}

// stop interrupts the program and wants it to end well.
func (s *session) stop() {
	s.t.Helper()
	s.interrupt()
	if status := s.end(); status != statusDone {
		s.t.Errorf("exit status %d\n%s%s", status, s.stdout, s.stderr)
	}
}

// summary reads what -json leaves on standard output, which must be nothing else.
func (s *session) summary() (summary map[string]any) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.stdout.String()), &summary); err != nil {
		s.t.Fatalf("standard output is not one JSON document: %v\n%s", err, s.stdout)
	}
	return summary
}

// until waits until the books are as cond wants them.
func (s *session) until(what string, cond func(auditor.Books) bool) {
	s.t.Helper()
	eventually(s.t, what, func() bool { return cond(s.run.audit()) })
}

// within waits like until, for longer.
func (s *session) within(limit time.Duration, what string, cond func(auditor.Books) bool) {
	s.t.Helper()
	for end := time.Now().Add(limit); !cond(s.run.audit()); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("waited %s in vain: %s; %+v", limit, what, s.run.audit())
		}
	}
}

// client is a producer's: the AWS SDK over TCP with any credentials.
func (s *session) client() *awssqs.Client {
	return awssqs.New(awssqs.Options{
		Region: awslocal.Region, Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""), BaseEndpoint: aws.String(s.run.baseURL()),
	})
}

// queue gives a queue behind the endpoint's back.
func (s *session) queue(name topology.QueueName) *sqs.Queue {
	q, ok := s.run.system.Queues.Queue(string(name))
	if !ok {
		panic("no queue " + name)
	}
	return q
}

func (s *session) ingressURL() string { return s.run.baseURL() + "/000000000000/ingress" }

// eventually waits for a condition that nobody announces.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(enough)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("waited %s in vain: %s", enough, what)
		case <-tick.C:
		}
	}
}

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// hook is a webhook receiver on loopback that verifies with the official library.
type hook struct {
	*httptest.Server
	t      *testing.T
	answer func(r call, tries int) int // nil: 200

	mu    sync.Mutex
	calls []call
	tries map[string]int // by webhook-id
}

// call is one request to a hook.
type call struct {
	id, kind, contentType, body string
	header                      http.Header
}

func newHook(t *testing.T, answer func(r call, tries int) int) *hook {
	h := &hook{t: t, answer: answer, tries: map[string]int{}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hook) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		h.t.Error(err)
	}
	library, err := official.NewWebhook(secret)
	if err != nil {
		h.t.Error(err)
		return
	}
	if err := library.Verify(body, in.Header); err != nil {
		h.t.Errorf("the official library refuses the signature: %v", err)
	}
	c := call{in.Header.Get("Ce-Id"), in.Header.Get("Ce-Type"), in.Header.Get("Content-Type"), string(body), in.Header.Clone()}
	h.mu.Lock()
	h.calls = append(h.calls, c)
	h.tries[c.header.Get("Webhook-Id")]++
	tries := h.tries[c.header.Get("Webhook-Id")]
	h.mu.Unlock()
	if h.answer != nil {
		w.WriteHeader(h.answer(c, tries))
	}
}

// log gives the requests so far.
func (h *hook) log() []call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

// file writes a destinations file for the hook: one destination, which wants everything and waits before a retry.
func (h *hook) file(timeout, wait string) string {
	return write(h.t, `{"destinations": [{"id": "shop", "tenant": "*", "type": "webhook", "retry": {"schedule": ["`+wait+`"]},
	  "webhook": {"url": "`+h.URL+`/hook", "secrets": ["`+secret+`"], "timeout": "`+timeout+`"}}]}`)
}

// write writes a file for the duration of a test.
func write(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "destinations.json")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
