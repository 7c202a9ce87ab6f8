package program

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/topology"
)

// TestDemo is `make run ARGS="-exit -json"`: it ends by itself, its books balance and it has something of everything to show.
func TestDemo(t *testing.T) {
	t.Parallel()
	s := begin(t, nil, "-exit", "-json")
	if status := s.end(); status != statusDone {
		t.Fatalf("exit status %d: %s", status, s.stderr)
	}
	summary := s.summary()
	keys := []string{
		"accepted", "unmatched", "dropped", "ingress_dead", "deliveries", "delivered", "duplicates", "retried", "waiting", "parked", "dead", "queued",
		"lost", "http_attempts", "aws_calls", "write_units", "read_units",
	}
	if got := slices.Sorted(maps.Keys(summary)); !slices.Equal(got, slices.Sorted(slices.Values(keys))) {
		t.Errorf("keys %v, want %v", got, keys)
	}
	number := func(key string) int { n, _ := summary[key].(float64); return int(n) }
	for _, key := range []string{"accepted", "deliveries", "delivered", "retried", "dead", "duplicates", "unmatched", "ingress_dead", "http_attempts", "write_units", "read_units"} {
		if number(key) <= 0 {
			t.Errorf("%s is %v", key, summary[key])
		}
	}
	for _, key := range []string{"lost", "waiting", "parked", "queued"} {
		if summary[key] != 0.0 {
			t.Errorf("%s is %v", key, summary[key])
		}
	}
	if number("delivered")+number("dead") != number("deliveries") || number("http_attempts") != number("deliveries")+number("retried") {
		t.Errorf("it does not add up: %v", summary)
	}
	calls, _ := summary["aws_calls"].(map[string]any)
	for service, operation := range map[string]string{"sqs": "SendMessage", "dynamodb": "BatchExecuteStatement"} {
		if by, _ := calls[service].(map[string]any); by[operation] == nil || by[operation].(float64) <= 0 {
			t.Errorf("no %s in aws_calls: %v", operation, calls)
		}
	}
	for line := range strings.Lines(s.stderr.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("on standard error: %s", line)
		}
	}
	if !strings.Contains(s.stderr.String(), s.run.baseURL()) {
		t.Error("standard error does not say where the endpoint is")
	}
}

// TestFiftyAtOnce: one event sent 50 times at once over TCP is one HTTP call. Copies that meet the lease of the one that is being
// delivered come back when it ends, long after this test: that they make no call either is proved in virtual time, beside
// package system. Here an event sent after all proves that nothing is on its way.
func TestFiftyAtOnce(t *testing.T) {
	t.Parallel()
	h := newHook(t, nil)
	s := begin(t, nil, "-samples=false", "-json", "-destinations", h.file("15s", "1s"))
	client := s.client()
	send := func(id string) {
		if _, err := client.SendMessage(t.Context(), &awssqs.SendMessageInput{QueueUrl: aws.String(s.ingressURL()), MessageBody: aws.String(event(id))}); err != nil {
			t.Error(err)
		}
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { send("one") })
	}
	all.Wait()
	s.until("the event is delivered, and every copy routed", func(b auditor.Books) bool {
		return b.Delivered == 1 && b.Routed == 50 && s.queue(topology.Deliveries).Depth().Visible == 0
	})
	send("proof")
	s.until("the proof is delivered", func(b auditor.Books) bool { return b.Delivered == 2 })
	s.stop()
	if got := h.log(); len(got) != 2 || got[0].id != "one" || got[1].id != "proof" {
		t.Errorf("%d calls: %+v", len(got), got)
	}
	if summary := s.summary(); summary["duplicates"] != 49.0 || summary["http_attempts"] != 2.0 || summary["deliveries"] != 2.0 || summary["lost"] != 0.0 {
		t.Errorf("%v", summary)
	}
}

func event(id string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"test.sent","data":{"n":1}}`, id)
}

// TestPlantedDeletion: what is taken away behind everybody's back is reported as lost, and the exit status says so.
func TestPlantedDeletion(t *testing.T) {
	t.Parallel()
	t.Run("the message of a retry, with -exit", func(t *testing.T) {
		t.Parallel()
		h := newHook(t, func(call, int) int { return http.StatusInternalServerError })
		s := begin(t, func(s *session) {
			if _, err := s.queue(topology.Ingress).Send(sqs.Outgoing{Body: event("one")}); err != nil {
				t.Error(err)
			}
		}, "-samples=false", "-exit", "-json", "-destinations", h.file("15s", "20s"))
		eventually(t, "a retry waits", func() bool {
			for _, held := range s.queue(topology.Deliveries).Snapshot() {
				if held.State == sqs.Delayed {
					return s.queue(topology.Deliveries).Drop(held.MessageID)
				}
			}
			return false
		})
		if status := s.end(); status != statusBroken {
			t.Errorf("exit status %d", status)
		}
		if summary := s.summary(); summary["lost"] != 1.0 || summary["deliveries"] != 1.0 {
			t.Errorf("%v", summary)
		}
		if got := s.stderr.String(); !strings.Contains(got, "DO NOT BALANCE") || !strings.Contains(got, `event "one" to shop`) {
			t.Errorf("standard error does not name the delivery: %s", got)
		}
	})
	t.Run("a waybill", func(t *testing.T) {
		t.Parallel()
		h := newHook(t, nil)
		s := begin(t, nil, "-samples=false", "-destinations", h.file("15s", "1s"))
		if _, err := s.queue(topology.Ingress).Send(sqs.Outgoing{Body: event("one")}); err != nil {
			t.Fatal(err)
		}
		s.until("it is delivered", func(b auditor.Books) bool { return b.Delivered == 1 && s.run.system.Busy() == 0 })
		id := dynamodb.String(s.run.audit().Rows[0].Delivery)
		if dropped, err := s.run.system.Tables.Drop(string(topology.Ledger), dynamodb.Item{"delivery": id}); err != nil || !dropped {
			t.Fatal(dropped, err)
		}
		s.interrupt()
		if status := s.end(); status != statusBroken {
			t.Errorf("exit status %d", status)
		}
		if got := s.stdout.String(); !strings.Contains(got, "1 LOST") || strings.Contains(got, "none lost") || strings.Contains(got, "The books balance") {
			t.Errorf("%s", got)
		}
	})
}

// TestNothingToDo: without samples -exit ends at once and well.
func TestNothingToDo(t *testing.T) {
	t.Parallel()
	s := begin(t, nil, "-samples=false", "-exit", "-json")
	if status := s.end(); status != statusDone {
		t.Errorf("exit status %d: %s", status, s.stderr)
	}
	for key, value := range s.summary() {
		// The registry is written and read, and the waker wakes.
		if n, ok := value.(float64); ok && n != 0 && !strings.HasSuffix(key, "_units") {
			t.Errorf("%s is %v", key, value)
		}
	}
}

// TestOpening: the queues' URLs are as promised and in order.
func TestOpening(t *testing.T) {
	t.Parallel()
	s := begin(t, nil, "-samples=false", "-exit")
	if status := s.end(); status != statusDone {
		t.Errorf("exit status %d: %s", status, s.stderr)
	}
	base := s.run.baseURL() + "/000000000000/"
	want := fmt.Sprintf("\n  ingress         %[1]singress\n  ingress-dlq     %[1]singress-dlq\n  deliveries      %[1]sdeliveries\n  deliveries-dlq  %[1]sdeliveries-dlq\n  deliveries-slow %[1]sdeliveries-slow\n\n", base)
	if got := s.stdout.String(); !strings.Contains(got, want) {
		t.Errorf("%s\nwants\n%s", got, want)
	}
	if s.stderr.String() != "" {
		t.Errorf("on standard error: %s", s.stderr)
	}
}

// TestInterrupt: at whatever moment it comes, things stop in order, the table is printed and the books balance.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	t.Run("before the start", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var stdout, stderr buffer
		if status := Run(ctx, []string{"-listen", "127.0.0.1:0"}, &stdout, &stderr); status != statusDone || stderr.String() != "" {
			t.Errorf("exit status %d: %s", status, &stderr)
		}
		if !strings.Contains(stdout.String(), "events accepted") || !strings.Contains(stdout.String(), "The books balance") {
			t.Errorf("%s", &stdout)
		}
	})
	t.Run("while the samples are sent", func(t *testing.T) {
		t.Parallel()
		s := begin(t, nil)
		s.until("a sample is accepted", func(b auditor.Books) bool { return b.Accepted > 0 })
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.run.sendSamples(over); err != nil {
			t.Errorf("an interrupt counts as a failure to send: %v", err)
		}
		s.stop()
		if got := s.stdout.String(); !strings.Contains(got, "The books balance") || !strings.Contains(got, "accepted") || s.stderr.String() != "" {
			t.Errorf("%s%s", got, s.stderr)
		}
	})
	t.Run("while an attempt hangs", func(t *testing.T) {
		t.Parallel()
		called, released := make(chan struct{}), make(chan struct{})
		defer close(released)
		h := newHook(t, func(call, int) int {
			close(called)
			<-released
			return http.StatusOK
		})
		s := begin(t, func(s *session) { s.run.patience = 1 }, "-samples=false", "-destinations", h.file("1s", "1h"))
		if _, err := s.queue(topology.Ingress).Send(sqs.Outgoing{Body: event("one")}); err != nil {
			t.Fatal(err)
		}
		<-called
		s.stop()
		got := s.stdout.String()
		if !strings.Contains(got, "Stopping when ") || !strings.Contains(got, "1 delivery: 0 delivered, 1 waiting, none lost") || !strings.Contains(got, "timeout") {
			t.Errorf("%s", got)
		}
	})
}

// TestEgressAllow: the egress guard is on, and -egress-allow is what opens it.
func TestEgressAllow(t *testing.T) {
	t.Parallel()
	for allow, want := range map[string]string{"": "1 dead", "10.0.0.0/8": "1 dead", "loopback": "1 delivered", "10.0.0.0/8, 127.0.0.1": "1 delivered"} {
		t.Run(allow, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, nil)
			s := begin(t, func(s *session) {
				if _, err := s.queue(topology.Ingress).Send(sqs.Outgoing{Body: event("one")}); err != nil {
					t.Error(err)
				}
			}, "-samples=false", "-exit", "-destinations", h.file("15s", "1s"), "-egress-allow", allow)
			if status := s.end(); status != statusDone {
				t.Errorf("exit status %d: %s", status, s.stderr)
			}
			if got := s.stdout.String(); !strings.Contains(got, want) || (len(h.log()) == 0) != (want == "1 dead") {
				t.Errorf("%d calls, %s", len(h.log()), got)
			}
		})
	}
}

// TestStrangersAtTheDemoReceiver: whoever finds its port changes nothing in the books.
func TestStrangersAtTheDemoReceiver(t *testing.T) {
	t.Parallel()
	s := begin(t, nil, "-samples=false")
	for _, path := range []string{"/fine", "/rejecting", "/nobody"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.run.demo.baseURL+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Webhook-Id", "made-up")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: status %d", path, answer.StatusCode)
		}
	}
	s.stop()
}
