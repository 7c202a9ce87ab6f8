package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/scripts/destinations/program"
	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/signing"
	"github.com/waybillhq/waybill/shared/topology"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// world is the whole system in virtual time, which begins without destinations.
type world struct {
	*system.System
	t        *testing.T
	receiver *receiver.Receiver
	sent     int
}

func inWorld(t *testing.T, play func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		key, err := signing.ParseKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, receiver: receiver.New(receiver.Options{Keys: []signing.Key{key}})}
		w.System, err = system.Start(context.Background(), system.Config{
			Destinations: []byte(`{"destinations": []}`), Dial: w.receiver.Dial, Logger: slog.New(slog.DiscardHandler), Queues: sqs.Options{Seed: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer w.end()
		play(w)
	})
}

func (w *world) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := errors.Join(w.Stop(ctx), w.receiver.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
		w.t.Error(err)
	}
}

// do runs the program, as a person does beside the running system, and waits until all functions know of it.
func (w *world) do(args ...string) string {
	w.t.Helper()
	var out, errs bytes.Buffer
	env := program.Environment{
		Lookup: func(string) (string, bool) { return "", false }, User: "anna", Dial: w.receiver.Dial,
		AWS: func(context.Context, string) (aws.Config, error) { return w.AWS(), nil },
	}
	if status := program.Run(w.t.Context(), append(args, "-endpoint-url", "http://awslocal"), env, &out, &errs); status != 0 {
		w.t.Errorf("%q: status %d\n%s%s", args, status, &out, &errs)
	}
	time.Sleep(20 * time.Second)
	return out.String()
}

// file writes a destinations file in which each id names a path too.
func (w *world) file(arn string, ids ...string) string {
	w.t.Helper()
	all := []map[string]any{}
	for _, id := range ids {
		all = append(all, map[string]any{"id": id, "tenant": "*", "type": "webhook", "webhook": map[string]any{"url": "http://127.0.0.1/" + id, "secrets": []string{arn}}})
	}
	text, err := json.Marshal(map[string]any{"destinations": all})
	if err != nil {
		w.t.Fatal(err)
	}
	path := filepath.Join(w.t.TempDir(), "destinations.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// orders sends n events, a second apart.
func (w *world) orders(n int) {
	w.t.Helper()
	q, _ := w.Queues.Queue(string(topology.Ingress))
	for range n {
		body := fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s","type":"order.created","data":{"total":9.50}}`, w.sent)
		w.sent++
		if _, err := awssqs.NewFromConfig(w.AWS()).SendMessage(w.t.Context(), &awssqs.SendMessageInput{QueueUrl: aws.String(q.URL()), MessageBody: &body}); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
}

// rest waits until so much is left to do.
func (w *world) rest(busy int) {
	w.t.Helper()
	for range 1000 {
		time.Sleep(time.Second)
		synctest.Wait()
		if w.Busy() == busy {
			return
		}
	}
	w.t.Fatalf("%d things are left to do, want %d", w.Busy(), busy)
}

// got gives the ids of the events that a destination got and accepted, in order.
func (w *world) got(destination string) string {
	var ids []string
	for _, r := range w.receiver.Log() {
		if r.Path == "/"+destination && r.Status == 200 {
			ids = append(ids, r.Header.Get("ce-id"))
		}
	}
	return strings.Join(ids, " ")
}

// TestRunningSystemFollows: the functions deliver to a destination that was applied while they run, hold its deliveries while it is paused, and deliver
// them when it is resumed, each once; a neighbour notices nothing. What is held for a destination that was removed can be let go too.
func TestRunningSystemFollows(t *testing.T) {
	inWorld(t, func(w *world) {
		out, err := secretsmanager.NewFromConfig(w.AWS()).CreateSecret(w.t.Context(), &secretsmanager.CreateSecretInput{
			Name: aws.String("hook"), SecretString: aws.String(secret),
		})
		if err != nil {
			t.Fatal(err)
		}
		w.do("apply", "-yes", w.file(*out.ARN, "shop"))
		if text := w.do("ping", "shop"); !strings.Contains(text, "verdict  delivered") {
			t.Errorf("%s", text)
		}
		w.orders(3)
		w.rest(0)
		w.do("apply", "-yes", w.file(*out.ARN, "shop", "crm"))
		w.orders(3)
		w.rest(0)
		if got := w.got("crm"); !sameSet(got, "3 4 5") {
			t.Errorf("crm got %q", got)
		}

		w.do("pause", "crm", "-note", "moving")
		w.orders(4)
		w.rest(4)
		time.Sleep(time.Hour)
		if got := w.got("crm"); !sameSet(got, "3 4 5") {
			t.Errorf("crm got %q while it was paused", got)
		}
		if text := w.do("list"); !strings.Contains(text, "by anna (moving)") {
			t.Errorf("%s", text)
		}
		w.do("resume", "crm")
		w.rest(0)
		if got := w.got("crm"); !sameSet(got, "3 4 5 6 7 8 9") {
			t.Errorf("crm got %q", got)
		}
		if got := w.got("shop"); !sameSet(strings.Join(strings.Fields(got)[1:], " "), "0 1 2 3 4 5 6 7 8 9") || !strings.HasPrefix(got, "ping-") {
			t.Errorf("shop got %q", got)
		}

		w.do("pause", "crm")
		w.orders(2)
		w.rest(2)
		w.do("apply", "-yes", w.file(*out.ARN, "shop"))
		w.do("resume", "crm")
		w.rest(0)
		dead, _ := w.Queues.Queue(string(topology.DeliveriesDeadLetter))
		if n := dead.Depth().Visible; n != 2 || !sameSet(w.got("crm"), "3 4 5 6 7 8 9") {
			t.Errorf("%d dead letters of a removed destination; crm got %q", n, w.got("crm"))
		}
	})
}

// sameSet compares words in any order: standard queues promise none.
func sameSet(a, b string) bool {
	return slices.Equal(slices.Sorted(slices.Values(strings.Fields(a))), slices.Sorted(slices.Values(strings.Fields(b))))
}
