package system_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/signing"
	"github.com/waybillhq/waybill/shared/topology"
)

// figures adds up what the canary has published until now; of latencies it gives the largest.
func (w *world) figures() (sent, received, refused int, slowest time.Duration) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range bytes.Lines(w.metrics.Bytes()) {
		var one struct {
			Function                                  string
			CanarySent, CanaryReceived, CanaryRefused int
			CanaryLatency                             []float64 // milliseconds
		}
		if err := json.Unmarshal(line, &one); err != nil {
			w.t.Fatalf("%v: %s", err, line)
		}
		if one.Function != string(topology.Canary) {
			continue
		}
		sent, received, refused = sent+one.CanarySent, received+one.CanaryReceived, refused+one.CanaryRefused
		for _, ms := range one.CanaryLatency {
			slowest = max(slowest, time.Duration(ms*float64(time.Millisecond)))
		}
	}
	return sent, received, refused, slowest
}

// knock makes a request at the canary's URL, as a stranger would.
func (w *world) knock(body, signature string) int {
	w.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+w.sink.Addr().String()+"/", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set(signing.HeaderID, "msg_1")
	r.Header.Set(signing.HeaderTimestamp, signing.Timestamp(time.Now()))
	r.Header.Set(signing.HeaderSignature, signature)
	transport := &http.Transport{DialContext: w.dial, DisableKeepAlives: true}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// TestCanaryArrives: an event a minute goes the way of all events, from the ingress queue to a webhook whose signature is verified, and disturbs nobody.
func TestCanaryArrives(t *testing.T) {
	t.Parallel()
	run(t, plan{destinations: []destination{to("everything", receiver.Fine)}, canary: true}, func(w *world) {
		w.send("order-1")
		time.Sleep(30*time.Minute + 30*time.Second)
		sent, received, refused, slowest := w.figures()
		if sent != 31 || received != 31 || refused != 0 || slowest > 20*time.Second { // virtual time: it takes none
			t.Errorf("%d sent, %d received, %d refused, the slowest in %v", sent, received, refused, slowest)
		}
		if log := w.receiver.Log(); len(log) != 1 || log[0].Header.Get("Ce-Id") != "order-1" {
			t.Errorf("a destination for everything got %d requests, want the one for order-1: %v", len(log), log)
		}
		for grant, n := range w.Roles[topology.Canary].Used() {
			if n == 0 {
				t.Errorf("the canary may do %s on %s and never does", grant.Action, grant.Resource)
			}
		}
		w.noLetters()
	})
}

// TestCanaryBelievesNobodyElse: neither a stranger who calls the URL nor a producer who forges the event, which the deliverer then signs, counts as received. What is forged
// ends by itself.
func TestCanaryBelievesNobodyElse(t *testing.T) {
	t.Parallel()
	run(t, plan{destinations: []destination{to("everything", receiver.Fine)}, canary: true}, func(w *world) {
		time.Sleep(30 * time.Second)
		key, err := signing.ParseKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		const body = `{"sent":1}`
		for _, signature := range []string{"", "v1,AAAA", signing.Sign([]signing.Key{key}, "msg_1", time.Now(), []byte(body))} {
			if status := w.knock(body, signature); status != http.StatusUnauthorized {
				t.Errorf("answered %d to signature %q", status, signature)
			}
		}
		if _, received, refused, _ := w.figures(); received != 1 || refused != 3 {
			t.Errorf("%d received, %d refused after three strangers", received, refused)
		}
		for _, tenant := range []string{registry.CanaryTenant, "acme"} {
			w.post(topology.Ingress, fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":%q,"tenant":%q,"data":{"sent":%d}}`,
				"forged-for-"+tenant, registry.CanarySource, registry.CanaryType, tenant, time.Now().UnixMilli()))
		}
		time.Sleep(15 * time.Minute)
		sent, received, refused, _ := w.figures()
		if received != sent || refused != 5 {
			t.Errorf("%d sent, %d received, %d refused", sent, received, refused)
		}
		if len(w.receiver.Log()) != 0 {
			t.Errorf("a destination for everything got %v", w.receiver.Log())
		}
		w.rest(5*time.Minute, time.Second)
		w.noLetters()
	})
}

// TestCanaryIsMissing: while the deliverer does not run nothing is received, and afterwards the next event is, while those that are of no use any more end without
// a trace. That later event proves that the silence was not one of the test.
func TestCanaryIsMissing(t *testing.T) {
	t.Parallel()
	run(t, plan{destinations: []destination{to("everything", receiver.Fine)}, canary: true}, func(w *world) {
		time.Sleep(90 * time.Second)
		if err := w.Mappings[topology.Deliverer].Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		_, before, _, _ := w.figures()
		time.Sleep(20 * time.Minute)
		if sent, received, _, _ := w.figures(); before != 2 || received != before || sent != 22 {
			t.Errorf("%d received before the deliverer stopped, %d until now; %d sent", before, received, sent)
		}
		w.Mappings[topology.Deliverer].Start(context.Background())
		time.Sleep(3 * time.Minute)
		sent, received, refused, slowest := w.figures()
		// The events of the last five minutes are late, those before them are dropped, those from now on are on time.
		if young := received - before; young < 3 || young > 3+6 || sent != 25 || refused != 0 || slowest < time.Minute || slowest > 6*time.Minute {
			t.Errorf("%d of %d received since the deliverer runs again, %d refused, the slowest in %v", young, sent, refused, slowest)
		}
		w.rest(time.Minute, time.Second)
		w.noLetters()
	})
}
