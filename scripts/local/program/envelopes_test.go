package program

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/scripts/local/auditor"
)

// payload has what a careless program changes: key order, a key twice, number text, escapes, unicode, white space.
const payload = `{"z":1.0,  "a":9007199254740993, "z":-0.0, "e":1E+2, "s":"\u00e9\/ é 🚚 <&>"}`

// envelopes are messages in every form that producers use, with what a destination must get.
var envelopes = []struct {
	name       string
	body       string
	attributes map[string]string
	want       []call
}{
	{
		name: "structured", body: `{"specversion":"1.0","id":"s-1","source":"/shop","type":"t.structured","data":` + payload + `}`,
		want: []call{{id: "s-1", kind: "t.structured", contentType: "application/json", body: payload}},
	},
	{
		name: "batch", body: `[{"specversion":"1.0","id":"b-1","source":"/shop","type":"t.batch","data":` + payload + `},
			{"specversion":"1.0","id":"b-2","source":"/shop","type":"t.batch","datacontenttype":"text/plain","data":"zwölf"}]`,
		want: []call{
			{id: "b-1", kind: "t.batch", contentType: "application/json", body: payload},
			{id: "b-2", kind: "t.batch", contentType: "text/plain", body: "zwölf"},
		},
	},
	{
		name: "binary", body: " " + payload + "\n",
		attributes: map[string]string{
			"ce-specversion": "1.0", "ce-id": "c-1", "ce-source": "/shop", "ce-type": "t.binary", "content-type": "application/json",
		},
		want: []call{{id: "c-1", kind: "t.binary", contentType: "application/json", body: " " + payload + "\n"}},
	},
	{
		name: "EventBridge", body: `{"version":"0","id":"7bf73129-1428-4cd3-a780-95db273d1602","detail-type":"t.bridge","source":"shop","account":"123456789012",
			"time":"2026-11-22T09:58:00Z","region":"eu-west-1","resources":[],"detail":` + payload + `}`,
		want: []call{{id: "7bf73129-1428-4cd3-a780-95db273d1602", kind: "t.bridge", contentType: "application/json", body: payload}},
	},
	{
		name: "plain JSON", body: payload, attributes: map[string]string{"event-type": "t.json", "event-id": "j-1"},
		want: []call{{id: "j-1", kind: "t.json", contentType: "application/json", body: payload}},
	},
	{
		name: "text", body: "Zwölf Boxkämpfer\r\n\tjagen <Viktor> & Co.", attributes: map[string]string{"event-id": "x-1"},
		want: []call{{id: "x-1", kind: "waybill.raw", contentType: "text/plain", body: "Zwölf Boxkämpfer\r\n\tjagen <Viktor> & Co."}},
	},
}

// TestEnvelopesArriveByteForByte: whatever the form and whoever sends it, the real SDK or any AWS CLI on PATH, the receiver that the
// destinations file names gets the payload's bytes, under a signature that the official library verifies (hook sees to that).
func TestEnvelopesArriveByteForByte(t *testing.T) {
	t.Parallel()
	t.Run("SDK", func(t *testing.T) {
		t.Parallel()
		testEnvelopes(t, func(t *testing.T, s *session) {
			client := s.client()
			for _, e := range envelopes {
				in := &awssqs.SendMessageInput{QueueUrl: aws.String(s.ingressURL()), MessageBody: &e.body, MessageAttributes: map[string]types.MessageAttributeValue{}}
				for name, value := range e.attributes {
					in.MessageAttributes[name] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
				}
				if _, err := client.SendMessage(t.Context(), in); err != nil {
					t.Errorf("%s: %v", e.name, err)
				}
			}
		})
	})
	for _, program := range commandLines(t) {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			testEnvelopes(t, func(t *testing.T, s *session) {
				var all sync.WaitGroup
				for _, e := range envelopes {
					attributes := map[string]any{}
					for name, value := range e.attributes {
						attributes[name] = map[string]string{"DataType": "String", "StringValue": value}
					}
					document, err := json.Marshal(attributes)
					if err != nil {
						t.Fatal(err)
					}
					all.Go(func() {
						out, err := alone(t, program, program, "--region", "eu-central-1", "--endpoint-url", s.run.baseURL(), "sqs", "send-message",
							"--queue-url", s.ingressURL(), "--message-body", e.body, "--message-attributes", string(document))
						if err != nil {
							t.Errorf("%s: %v: %s", e.name, err, out)
						}
					})
				}
				all.Wait()
			})
		})
	}
}

func testEnvelopes(t *testing.T, send func(t *testing.T, s *session)) {
	h := newHook(t, nil)
	s := begin(t, nil, "-samples=false", "-destinations", h.file("15s", "1s"))
	send(t, s)
	var want []call
	for _, e := range envelopes {
		want = append(want, e.want...)
	}
	s.until("everything is delivered", func(b auditor.Books) bool { return b.Accepted == len(want) && b.Delivered == len(want) })
	s.stop()
	got := h.log()
	if len(got) != len(want) {
		t.Errorf("%d HTTP calls, want %d", len(got), len(want))
	}
	for _, w := range want {
		i := slices.IndexFunc(got, func(c call) bool { return c.id == w.id })
		if i < 0 {
			t.Errorf("%s has not arrived", w.id)
			continue
		}
		c := got[i]
		if c.kind != w.kind || c.body != w.body || !strings.HasPrefix(c.contentType, w.contentType) {
			t.Errorf("%s arrived as %s, %s:\n%q, want\n%q", w.id, c.kind, c.contentType, c.body, w.body)
		}
	}
}

// TestExampleCanBePasted runs the command that the program shows, in a shell without any AWS settings.
func TestExampleCanBePasted(t *testing.T) {
	t.Parallel()
	for _, program := range commandLines(t) {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, nil)
			s := begin(t, nil, "-samples=false", "-destinations", h.file("15s", "1s"))
			eventually(t, "the opening is complete", func() bool { return strings.Contains(s.stdout.String(), "Ctrl-C") })
			_, example, found := strings.Cut(s.stdout.String(), "\n  aws ")
			example, _, end := strings.Cut(example, "\n\n")
			if !found || !end {
				t.Fatalf("no example in\n%s", s.stdout)
			}
			for range 2 {
				if out, err := alone(t, program, "/bin/sh", "-c", "aws "+example); err != nil || !strings.Contains(out, "MessageId") {
					t.Fatalf("%v: %s", err, out)
				}
			}
			s.until("it is delivered", func(b auditor.Books) bool { return b.Accepted == 2 && b.Delivered == 1 })
			s.stop()
			if got := h.log(); len(got) != 1 || got[0].kind != "order.created" || got[0].body != `{"total":9.50}` {
				t.Errorf("%+v", got)
			}
		})
	}
}

// commandLines finds every AWS CLI on PATH: those before 2.13 speak SQS's Query protocol, later ones JSON.
func commandLines(t *testing.T) (programs []string) {
	if testing.Short() {
		return nil
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		program, err := filepath.EvalSymlinks(filepath.Join(dir, "aws"))
		if err != nil {
			continue
		}
		if info, err := os.Stat(program); err == nil && info.Mode()&0o111 != 0 && filepath.Base(program) == "aws" && !slices.Contains(programs, program) {
			programs = append(programs, program)
		}
	}
	if len(programs) == 0 {
		t.Log("no aws on PATH: its part is left out")
	}
	return programs
}

// alone runs a command in an environment without AWS settings, where aws is the given program. When that is itself the command, which
// signs, it gets some credentials.
func alone(t *testing.T, program, command string, args ...string) (string, error) {
	c := exec.CommandContext(t.Context(), command, args...)
	c.Env = []string{"PATH=" + filepath.Dir(program) + string(filepath.ListSeparator) + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8"}
	if command == program {
		c.Env = append(c.Env, "AWS_ACCESS_KEY_ID=any", fmt.Sprintf("AWS_SECRET_ACCESS_KEY=%s", "thing"))
	}
	out, err := c.CombinedOutput()
	return string(out), err
}
