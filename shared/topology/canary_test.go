package topology_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/topology"
)

func TestCanaryIsAnAddition(t *testing.T) {
	without := topology.New(topology.HighVolume)
	with := without.WithCanary()
	if _, ok := without.Function(topology.Canary); ok || !reflect.DeepEqual(without, topology.New(topology.HighVolume)) {
		t.Errorf("the topology given was changed: %+v", without)
	}
	if !reflect.DeepEqual(with.WithCanary(), with) {
		t.Error("the second time adds something")
	}
	both := []string{"WAYBILL_CANARY_URL", "WAYBILL_CANARY_SECRET"}
	for _, c := range []struct {
		function topology.FunctionName
		want     []string
	}{
		{topology.Canary, []string{"WAYBILL_PROFILE", "WAYBILL_QUEUE_INGRESS_URL", "WAYBILL_CANARY_SECRET"}},
		{topology.Router, nil}, {topology.Deliverer, nil}, {topology.Waker, nil},
	} {
		f, ok := with.Function(c.function)
		if !ok {
			t.Fatalf("there is no function %s", c.function)
		}
		if c.want == nil {
			before, _ := without.Function(c.function)
			if c.want = before.Variables(); c.function != topology.Waker {
				c.want = append(c.want, both...)
			}
		}
		if got := f.Variables(); !slices.Equal(got, c.want) {
			t.Errorf("%s takes %v, want %v", c.function, got, c.want)
		}
	}
}

func TestCanaryCallsAfterFiveMinutesOfSilence(t *testing.T) {
	received, late := alarm(t, "canary-received", unchanged), alarm(t, "canary-latency", unchanged)
	if received.Page != topology.CanaryMissing || received.Period*time.Duration(received.Periods) != 5*time.Minute || received.Breaching != received.Periods ||
		!received.Below || received.Threshold != 1 || received.Missing != topology.MissingIsBad {
		t.Errorf("%+v", received)
	}
	if late.Threshold != 60_000 || late.Page != topology.CanaryMissing {
		t.Errorf("%+v", late)
	}
	for _, a := range topology.New(topology.LowLatency).Alarms(func(topology.Function) int { return 1 }) {
		if a.Page == topology.CanaryMissing || a.Function == topology.Canary {
			t.Errorf("alarm %s is there without a canary", a.Name)
		}
	}
}
