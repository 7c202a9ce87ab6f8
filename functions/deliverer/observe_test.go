package deliverer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/telemetry"
)

// measured delivers messages as one batch and gives the line of metrics that it writes.
func (w *world) measured(messages ...delivery.Message) map[string]any {
	w.t.Helper()
	var out bytes.Buffer
	e, err := telemetry.New(telemetry.Config{Function: "deliverer", Writer: &out})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 58*time.Second)
	defer cancel()
	b := telemetry.NewBatch()
	for _, err := range w.deliverIn(telemetry.With(ctx, b), messages...) {
		want(w.t, err, outcome.Acknowledged)
	}
	e.Emit(b)
	line := map[string]any{}
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			w.t.Fatal(err)
		}
	}
	return line
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
