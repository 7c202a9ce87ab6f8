package program

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/shared/topology"
)

// binaries builds the functions once for all tests.
var binaries = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "waybill-binaries-")
	if err != nil {
		return "", err
	}
	for _, f := range topology.New(topology.LowLatency).Functions {
		name := string(f.Name)
		build := exec.CommandContext(context.Background(), "go", "build", "-tags", "lambda.norpc,grpcnotrace", "-o", filepath.Join(folder, name, "bootstrap"),
			"github.com/waybillhq/waybill/functions/"+name+"/bootstrap")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
	}
	return folder, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if folder, err := binaries(); err == nil && folder != "" {
		_ = os.RemoveAll(folder)
	}
	os.Exit(status)
}

func built(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds three programs")
	}
	folder, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// TestBinariesAreKilled: deliverers that run as processes get kill -9 while a hundred deliveries are under way. Nothing is lost; every delivery
// has one effect, and is called again only if a worker that had it was killed.
func TestBinariesAreKilled(t *testing.T) {
	t.Parallel()
	const events = 100
	h := newHook(t, func(call, int) int {
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		return http.StatusOK
	})
	s := begin(t, nil, "-samples=false", "-json", "-destinations", h.file("5s", "1s"), "-binaries", built(t))
	client := s.client()
	// What a killed process had comes back when its visibility timeout is over, which is six minutes. A little more than a lease will do.
	if _, err := client.SetQueueAttributes(t.Context(), &awssqs.SetQueueAttributesInput{
		QueueUrl: aws.String(s.run.baseURL() + "/000000000000/deliveries"), Attributes: map[string]string{"VisibilityTimeout": "75"},
	}); err != nil {
		t.Fatal(err)
	}
	for n := range events {
		if _, err := client.SendMessage(t.Context(), &awssqs.SendMessageInput{QueueUrl: aws.String(s.ingressURL()), MessageBody: aws.String(event(fmt.Sprint(n)))}); err != nil {
			t.Fatal(err)
		}
	}
	killed := 0
	for _, at := range []int{10, 35, 60} {
		eventually(t, fmt.Sprintf("%d calls", at), func() bool { return len(h.log()) >= at })
		killed += s.run.system.Kill(topology.Deliverer, 2)
	}
	if killed == 0 {
		t.Fatal("no process was killed")
	}
	s.within(5*time.Minute, "everything is delivered", func(b auditor.Books) bool { return b.Delivered == events && s.run.system.Busy() == 0 })
	s.stop()
	calls, effects := len(h.log()), map[string]bool{}
	for _, c := range h.log() {
		effects[c.id] = true
	}
	if len(effects) != events {
		t.Errorf("%d events had an effect", len(effects))
	}
	if most := events + 10*killed; calls > most {
		t.Errorf("%d calls: %d processes were killed, each with at most ten deliveries", calls, killed)
	}
	if summary := s.summary(); summary["lost"] != 0.0 || summary["delivered"] != float64(events) {
		t.Errorf("%v", summary)
	}
	t.Logf("%d processes killed, %d calls for %d deliveries", killed, calls, events)
}
