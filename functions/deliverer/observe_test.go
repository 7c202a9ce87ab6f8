package deliverer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/telemetry"
)

// measured delivers messages as one batch and gives the line of metrics that it writes.
func (w *world) measured(messages ...delivery.Message) map[string]any {
	w.t.Helper()
	line, outcomes := w.counted(messages...)
	for _, err := range outcomes {
		want(w.t, err, outcome.Acknowledged)
	}
	return line
}

// counted is measured, whatever becomes of the messages.
func (w *world) counted(messages ...delivery.Message) (line map[string]any, outcomes []error) {
	w.t.Helper()
	var out bytes.Buffer
	e, err := telemetry.New(telemetry.Config{Function: "deliverer", Writer: &out})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 58*time.Second)
	defer cancel()
	b := telemetry.NewBatch()
	outcomes = w.deliverIn(telemetry.With(ctx, b), messages...)
	e.Emit(b)
	line = map[string]any{}
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			w.t.Fatal(err)
		}
	}
	return line, outcomes
}

// Every end of a delivery is counted where it is durable, with its age.
func TestMetrics(t *testing.T) {
	type metrics = map[string]float64
	result := func(v downstream.Verdict, code int) downstream.Result {
		return downstream.Result{Verdict: v, Code: code, Reason: downstream.HTTPReason(code)}
	}
	for name, c := range map[string]struct {
		answer  downstream.Result
		prepare func(*world, *delivery.Message)
		want    metrics
	}{
		"delivered within the objective": {
			downstream.Result{Verdict: downstream.Delivered, Code: 200}, func(*world, *delivery.Message) {},
			metrics{"Attempts": 1, "Delivered": 1, "SettledTotal": 1, "SettledGood": 1, "SettledLatency": 20_000, "Retried": 0, "Dead": 0, "OldestHeld": 0},
		},
		"delivered late": {
			downstream.Result{Verdict: downstream.Delivered, Code: 200}, func(_ *world, m *delivery.Message) { m.AcceptedAt = m.AcceptedAt.Add(-time.Hour) },
			metrics{"SettledTotal": 1, "SettledGood": 0, "SettledLatency": 3_620_000},
		},
		"delivered again on request": {
			downstream.Result{Verdict: downstream.Delivered, Code: 200}, func(_ *world, m *delivery.Message) { m.Replay = true },
			metrics{"Delivered": 1, "SettledTotal": 0},
		},
		"to be tried again": {
			result(downstream.Retry, 500), func(*world, *delivery.Message) {},
			metrics{"Attempts": 1, "Delivered": 0, "Retried": 1, "OldestRetrying": 20, "OldestHeld": 20, "OldestParked": 0},
		},
		"rejected": {
			result(downstream.Reject, 400), func(*world, *delivery.Message) {}, metrics{"Attempts": 1, "Dead": 1, "GivenUp": 0, "Retried": 0},
		},
		"given up": {
			result(downstream.Retry, 500), func(_ *world, m *delivery.Message) { m.Attempt = 3 }, metrics{"Attempts": 1, "Dead": 1, "GivenUp": 1},
		},
		"gone": {
			result(downstream.Gone, 410), func(*world, *delivery.Message) {},
			metrics{"Attempts": 1, "Parked": 1, "Retried": 0, "DestinationDisabled": 1, "OldestParked": 20, "OldestHeld": 20},
		},
		"parked": {
			result(downstream.Gone, 410), func(w *world, _ *delivery.Message) { w.directory.pause("crm") },
			metrics{"Attempts": 0, "Parked": 1, "OldestParked": 20, "DestinationDisabled": 0},
		},
		"to nobody": {
			result(downstream.Gone, 410), func(_ *world, m *delivery.Message) { m.Destination = "nobody" },
			metrics{"Attempts": 0, "Dead": 1, "GivenUp": 0},
		},
		"not kept": {
			result(downstream.Retry, 500), func(w *world, m *delivery.Message) {
				w.directory.pause("crm")
				m.HeldSince = time.Now().Add(-longestPark)
			},
			metrics{"Attempts": 0, "Dead": 1, "GivenUp": 1},
		},
		"somebody else's": {
			result(downstream.Delivered, 200), func(w *world, m *delivery.Message) { w.deliver(*m) },
			metrics{"Attempts": 0, "ClaimConflicts": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.answer = answering(c.answer)
				m := message("1", "crm")
				m.AcceptedAt = time.Now().Add(-20 * time.Second)
				c.prepare(w, &m)
				line := w.measured(m)
				for metric, want := range c.want {
					got := line[metric]
					if values, ok := got.([]any); ok && len(values) == 1 {
						got = values[0]
					}
					if number, _ := got.(float64); number != want {
						t.Errorf("%s = %v, want %v", metric, line[metric], want)
					}
				}
			})
		})
	}
}

// TestWhatIsGivenUpWithoutAnAttemptIsLogged: no attempt means no line about a failed one, and the runbooks look for a line.
func TestWhatIsGivenUpWithoutAnAttemptIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := message("1", "nobody")
		w.measured(m)
		if log := w.logged(t); !strings.Contains(log, "given up without an attempt") || !strings.Contains(log, "unknown-destination") || !strings.Contains(log, string(m.Delivery)) {
			t.Errorf("the log says %s", log)
		}
	})
}

// nowhere is a registry that cannot be reached.
type nowhere struct{}

// Set implements registry.Source.
func (nowhere) Set(context.Context) (*registry.Set, error) { return nil, errDown }

// TestFaultsOfOursAreCounted: what comes again because something of ours cannot be reached is young for SQS each time, so that nothing but this number tells of it.
func TestFaultsOfOursAreCounted(t *testing.T) {
	throttled := func(n int) []ledger.Answer { return slices.Repeat([]ledger.Answer{{Err: ledger.ErrThrottled}}, n) }
	for name, c := range map[string]struct {
		prepare func(*world)
		want    any // nothing, or a number
	}{
		"all is well":     {func(*world) {}, nil},
		"no claim":        {func(w *world) { w.store.claim = func(c []ledger.Claim) []ledger.Answer { return throttled(len(c)) } }, 2.0},
		"no destinations": {func(w *world) { w.cfg.Destinations = nowhere{}; w.restart() }, 2.0},
		"no secret":       {func(w *world) { w.cfg.Secrets = keys{errDown}; w.restart() }, 2.0},
		"no room": {func(w *world) {
			w.directory.pause("crm")
			w.room.refuse = errDown
		}, 2.0},
		"no successor": {func(w *world) {
			w.answer = answering(downstream.Result{Verdict: downstream.Retry, Code: 500, Reason: "http-500"})
			w.deliveries.refuse = errDown
		}, 2.0},
		"no settlement": {func(w *world) {
			w.store.settle = func(_ context.Context, s []ledger.Settlement) []error {
				return slices.Repeat([]error{ledger.ErrThrottled}, len(s))
			}
		}, 2.0},
		"somebody else's": {func(w *world) { w.deliver(message("1", "crm"), message("2", "crm")) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.answer = answering(downstream.Result{Verdict: downstream.Delivered, Code: 200})
				c.prepare(w)
				if line, _ := w.counted(message("1", "crm"), message("2", "crm")); line["Faults"] != c.want {
					t.Errorf("%v faults, want %v", line["Faults"], c.want)
				}
			})
		})
	}
}
