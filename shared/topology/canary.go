package topology

import (
	"slices"
	"time"
)

// Canary is the function that sends an event a minute through everything and is its receiver. It is there only in a topology WithCanary.
const Canary FunctionName = "canary"

// Environment variables of the canary: where it listens, and the ARN of what signs for it.
const (
	CanaryURLVariable    = "WAYBILL_CANARY_URL"
	CanarySecretVariable = "WAYBILL_CANARY_SECRET"
)

// WithCanary is the same system with the canary in it: its function, and in those that are fed by a
// queue and know destinations the destination that it is. A topology that has it already stays
// as it is; the one given does in any case.
func (t Topology) WithCanary() Topology {
	if _, ok := t.Function(Canary); ok {
		return t
	}
	// The first, because the others are told where it listens.
	functions := []Function{{
		Name: Canary, Timeout: 20 * time.Second, MemoryMB: 256, Every: time.Minute, Listens: true,
		Queues: []QueueAccess{{Ingress, []Operation{SendMessage}}},
	}}
	for _, f := range t.Functions {
		f.ServesCanary = f.Source.Queue != "" && slices.ContainsFunc(f.Tables, func(a TableAccess) bool { return a.Table == Registry })
		functions = append(functions, f)
	}
	t.Functions = functions
	return t
}

// canaryAlarms watch what the canary tells.
func (t Topology) canaryAlarms(f Function) []Alarm {
	of := func(metric, statistic string) Signal {
		return Signal{Namespace: Custom, Name: metric, Statistic: statistic, Function: f.Name}
	}
	return []Alarm{
		{
			Name: "canary-received", Page: CanaryMissing, Signal: of("CanaryReceived", "Sum"),
			Threshold: 1, Below: true, Period: f.Every, Periods: 5, Breaching: 5, Missing: MissingIsBad,
			Why:     "five events in a row did not arrive; one alone may be late by a retry, and a release of one function takes less",
			Silence: "nothing is published where nothing arrives, and that is what is asked",
		},
		{
			Name: "canary-latency", Page: CanaryMissing, Signal: of("CanaryLatency", "Maximum"),
			Threshold: float64(t.Limits.LatencyObjective.Milliseconds()), Period: f.Every, Periods: 10, Breaching: 5, Missing: MissingIsGood,
			Why:     "its receiver answers at once, so that the time is all ours; half of ten minutes is no hiccup, and it shows also where nobody else sends anything",
			Silence: "that nothing arrives is the other alarm's to tell",
		},
	}
}

// takesOfCanary says which variables of the canary a function cannot do without.
func (f Function) takesOfCanary() []string {
	switch {
	case f.ServesCanary:
		return []string{CanaryURLVariable, CanarySecretVariable}
	case f.Listens:
		return []string{CanarySecretVariable}
	}
	return nil
}
