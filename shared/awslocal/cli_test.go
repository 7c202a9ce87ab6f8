package awslocal_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

// TestAWSCLI runs every AWS CLI on PATH: those before 2.13 speak the Query protocol, later ones JSON.
func TestAWSCLI(t *testing.T) {
	t.Parallel()
	var programs []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		program, err := filepath.EvalSymlinks(filepath.Join(dir, "aws"))
		if err != nil {
			continue
		}
		if info, err := os.Stat(program); err == nil && info.Mode()&0o111 != 0 && !slices.Contains(programs, program) {
			programs = append(programs, program)
		}
	}
	if len(programs) == 0 || testing.Short() {
		t.Skip("no aws on PATH, or no time for it")
	}
	for _, program := range programs {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			converse(t, program)
		})
	}
}

func converse(t *testing.T, program string) {
	l, err := awslocal.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + l.Addr().String()
	service := sqs.New(sqs.Options{BaseURL: endpoint})
	e := awslocal.New(awslocal.Options{}, service)
	t.Cleanup(func() { _ = e.Close() })
	go func() { _ = e.Serve(l) }()

	run := func(arguments ...string) (string, error) {
		command := exec.CommandContext(t.Context(), program, append([]string{"--endpoint-url", endpoint, "--output", "json", "sqs"}, arguments...)...)
		command.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=thing", "AWS_DEFAULT_REGION=us-east-1", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1")
		out, err := command.CombinedOutput()
		return string(out), err
	}
	must := func(arguments ...string) string {
		t.Helper()
		out, err := run(arguments...)
		if err != nil {
			t.Fatalf("aws %v: %v\n%s", arguments, err, out)
		}
		return out
	}
	out := must("create-queue", "--queue-name", "orders", "--attributes", "VisibilityTimeout=60")
	var created struct{ QueueUrl string }
	if err := json.Unmarshal([]byte(out), &created); err != nil || created.QueueUrl != endpoint+"/000000000000/orders" {
		t.Fatalf("created %s", out)
	}
	const body = `{"specversion":"1.0","n":9007199254740993,"é":"<&>"}`
	must("send-message", "--queue-url", created.QueueUrl, "--message-body", body,
		"--message-attributes", `{"ce-id":{"DataType":"String","StringValue":"1"}}`, "--message-group-id", "acme")
	out = must("receive-message", "--queue-url", created.QueueUrl, "--attribute-names", "All", "--message-attribute-names", "All", "--wait-time-seconds", "5")
	var received struct {
		Messages []struct {
			Body, ReceiptHandle string
			Attributes          map[string]string
			MessageAttributes   map[string]struct{ StringValue string }
		}
	}
	if err := json.Unmarshal([]byte(out), &received); err != nil || len(received.Messages) != 1 {
		t.Fatalf("received %s", out)
	}
	if m := received.Messages[0]; m.Body != body || m.MessageAttributes["ce-id"].StringValue != "1" || m.Attributes["ApproximateReceiveCount"] != "1" {
		t.Errorf("received %+v", m)
	}
	must("delete-message", "--queue-url", created.QueueUrl, "--receipt-handle", received.Messages[0].ReceiptHandle)
	if q, _ := service.Queue("orders"); q.Depth().Total() != 0 {
		t.Errorf("%+v left", q.Depth())
	}
	if out, err := run("send-message", "--queue-url", endpoint+"/000000000000/nobody", "--message-body", "x"); err == nil || !strings.Contains(out, "NonExistentQueue") {
		t.Errorf("a queue that does not exist: %v %s", err, out)
	}
}
