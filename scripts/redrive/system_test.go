package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/redrive/program"
	"github.com/waybillhq/waybill/shared/topology"
)

// world is the whole system in virtual time with two destinations, shop and erp, that refuse everything until they are mended.
type world struct {
	*system.System
	t        *testing.T
	receiver *receiver.Receiver
	mended   atomic.Bool
}

func inWorld(t *testing.T, play func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t}
		w.receiver = receiver.New(receiver.Options{Answer: func(receiver.Request, http.Header) int {
			if w.mended.Load() {
				return http.StatusOK
			}
			return http.StatusBadRequest
		}})
		var destinations []map[string]any
		for _, id := range []string{"shop", "erp"} {
			destinations = append(destinations, map[string]any{"id": id, "tenant": "*", "type": "webhook", "webhook": map[string]any{
				"url": "http://127.0.0.1/" + id, "secrets": []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
			}})
		}
		document, err := json.Marshal(map[string]any{"destinations": destinations})
		if err != nil {
			t.Fatal(err)
		}
		w.System, err = system.Start(context.Background(), system.Config{
			Destinations: document, Dial: w.receiver.Dial, Logger: slog.New(slog.DiscardHandler), Queues: sqs.Options{Seed: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		play(w)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		if err := errors.Join(w.Stop(ctx), w.receiver.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

func (w *world) send(body string) {
	w.t.Helper()
	q, _ := w.Queues.Queue(string(topology.Ingress))
	if _, err := awssqs.NewFromConfig(w.AWS()).SendMessage(w.t.Context(), &awssqs.SendMessageInput{QueueUrl: aws.String(q.URL()), MessageBody: &body}); err != nil {
		w.t.Fatal(err)
	}
}

// orders sends n events.
func (w *world) orders(n int) {
	w.t.Helper()
	for i := range n {
		w.send(fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s","type":"order.created","data":{"total":9.50}}`, i))
	}
}

// rest waits until nothing is left to do.
func (w *world) rest() {
	w.t.Helper()
	for range 1000 {
		time.Sleep(time.Second)
		synctest.Wait()
		if w.Busy() == 0 {
			return
		}
	}
	w.t.Fatal("not at rest")
}

// redrive runs the program.
func (w *world) redrive(want int, args ...string) (stdout, stderr string) {
	w.t.Helper()
	var out, errs bytes.Buffer
	env := program.Environment{
		Lookup: func(string) (string, bool) { return "", false },
		AWS:    func(context.Context, string, string) (aws.Config, error) { return w.AWS(), nil },
	}
	if got := program.Run(w.t.Context(), append([]string{"-endpoint-url", "http://awslocal"}, args...), env, &out, &errs); got != want {
		w.t.Errorf("redrive %v: status %d, want %d\n%s%s", args, got, want, &out, &errs)
	}
	return out.String(), errs.String()
}

func (w *world) depth(name topology.QueueName) int {
	w.t.Helper()
	q, ok := w.Queues.Queue(string(name))
	if !ok {
		w.t.Fatalf("no queue %s", name)
	}
	return q.Depth().Visible
}

// calls gives what a destination got, by status.
func (w *world) calls(destination string, status int) (found []receiver.Request) {
	for _, r := range w.receiver.Log() {
		if r.Path == "/"+destination && r.Status == status {
			found = append(found, r)
		}
	}
	return found
}

// TestRedriveOfAMendedDestination: what a destination refused is delivered after it was mended, each once in effect and in one call, although the
// first redrive dies before it has deleted anything. Other destinations' letters stay.
func TestRedriveOfAMendedDestination(t *testing.T) {
	inWorld(t, func(w *world) {
		const n = 25
		w.orders(n)
		w.rest()
		stdout, _ := w.redrive(0, "-dry-run")
		want := `destination  reason    code  would move
erp          http-400  400   25
shop         http-400  400   25
total                        50
looked at 50 messages
`
		if stdout != want {
			t.Errorf("the dry run says\n%s\nwant\n%s", stdout, want)
		}
		w.mended.Store(true)
		w.Endpoint.Faults().Add(awslocal.Fault{Operation: "DeleteMessageBatch", Error: wire.Errorf("AccessDeniedException", "no")})
		if stdout, stderr := w.redrive(1, "-destination", "shop"); !strings.Contains(stdout, "shop         http-400  400   25") || !strings.Contains(stderr, "25 messages were moved and could not be deleted") {
			t.Errorf("%s%s", stdout, stderr)
		}
		w.rest()
		w.Endpoint.Faults().Clear()
		if stdout, _ := w.redrive(0, "-destination", "shop"); !strings.Contains(stdout, "shop         http-400  400   25") {
			t.Error(stdout)
		}
		w.rest()
		if left := w.depth(topology.DeliveriesDeadLetter); left != n {
			t.Errorf("%d letters are left, want those of the other destination", left)
		}
		if got := w.calls("shop", http.StatusOK); len(got) != n || slices.ContainsFunc(got, func(r receiver.Request) bool { return !r.Effect }) {
			t.Errorf("%d calls after it was mended", len(got))
		}
		if refused := len(w.calls("shop", http.StatusBadRequest)); refused != n {
			t.Errorf("%d calls before", refused)
		}
		if stdout, _ := w.redrive(0, "-destination", "shop"); !strings.Contains(stdout, "total                      0") {
			t.Error(stdout)
		}
	})
}

// TestReplay: a letter of a delivery that was delivered after all is skipped, unless a replay is asked for; the receiver then
// sees the same webhook-id, or a new one.
func TestReplay(t *testing.T) {
	for name, tt := range map[string]struct {
		flags   []string
		calls   int // after the first success
		effects int
	}{
		"redrive":               {nil, 0, 1},
		"replay":                {[]string{"-replay"}, 1, 1},
		"replay under a new id": {[]string{"-replay", "-new-id"}, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.orders(1)
				w.rest()
				w.mended.Store(true)
				fault := w.Endpoint.Faults().Add(awslocal.Fault{Operation: "DeleteMessageBatch", Error: wire.Errorf("AccessDeniedException", "no")})
				w.redrive(1, "-destination", "shop") // delivers, and leaves the letter
				w.rest()
				fault.Remove()
				w.redrive(0, append([]string{"-destination", "shop"}, tt.flags...)...)
				w.rest()
				got := w.calls("shop", http.StatusOK)
				if len(got) != 1+tt.calls {
					t.Fatalf("%d calls", len(got))
				}
				id := string(delivery.NewID("default", "/s", "0", "shop"))
				effects := 0
				for _, r := range got {
					if r.Effect {
						effects++
					}
				}
				if first, last := got[0].ID, got[len(got)-1].ID; first != id || (last == id) != (tt.effects == 1) || effects != tt.effects {
					t.Errorf("delivery %s: seen as %s, then %s, %d effects", id, first, last, effects)
				}
				if left := w.depth(topology.DeliveriesDeadLetter); left != 1 {
					t.Errorf("%d letters are left", left)
				}
			})
		})
	}
}

// TestRedriveOfEvents: an event without an id of its own that SQS put into the ingress dead-letter queue is delivered as the event it was.
func TestRedriveOfEvents(t *testing.T) {
	inWorld(t, func(w *world) {
		w.mended.Store(true)
		if err := w.Pause(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.send("plain text")
		ingress, _ := w.Queues.Queue(string(topology.Ingress))
		id := ingress.Snapshot()[0].MessageID
		for range 11 {
			got, err := ingress.Receive(t.Context(), sqs.ReceiveOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range got {
				if err := ingress.ChangeVisibility(m.ReceiptHandle, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.send(`{"specversion":"1.0"}`) // no event, and it stays
		w.Resume(context.Background())
		w.rest()
		if n := w.depth(topology.IngressDeadLetter); n != 2 {
			t.Fatalf("%d messages are dead", n)
		}
		w.redrive(0, "-queue", "ingress", "-reason", "receive-count")
		w.rest()
		for _, destination := range []string{"shop", "erp"} {
			if got := w.calls(destination, http.StatusOK); len(got) != 1 || got[0].Header.Get("Ce-Id") != id {
				t.Errorf("%s got %+v, want one call for event %s", destination, got, id)
			}
		}
		if stdout, _ := w.redrive(0, "-queue", "ingress", "-all"); !strings.Contains(stdout, "total") {
			t.Error(stdout)
		}
		w.rest()
		if n := w.depth(topology.IngressDeadLetter); n != 1 {
			t.Errorf("%d messages are dead in the end", n)
		}
	})
}

// TestStillIll: redriving to a destination that refuses still ends, and every letter is there again.
func TestStillIll(t *testing.T) {
	inWorld(t, func(w *world) {
		const n = 30
		w.orders(n)
		w.rest()
		for range 2 {
			stdout, _ := w.redrive(0, "-destination", "shop", "-rate", "10")
			if !strings.Contains(stdout, "shop         http-400  400   30") {
				t.Error(stdout)
			}
			w.rest()
		}
		if got := len(w.calls("shop", http.StatusBadRequest)); got != 3*n {
			t.Errorf("%d calls, want three for each delivery", got)
		}
		if got := w.depth(topology.DeliveriesDeadLetter); got != 2*n {
			t.Errorf("%d letters", got)
		}
	})
}
