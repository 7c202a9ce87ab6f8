package topology

import (
	"strings"
	"time"
)

// Preflight is the folder of the function that tries a new version of another one before traffic reaches it. It is none of Topology.Functions: nothing
// feeds it, nothing in the path of a delivery waits for it, and it is deployed once for each of them.
const Preflight FunctionName = "preflight"

// Environment variables of the function Preflight, besides ProfileVariable.
const (
	TriedVersionVariable  = "WAYBILL_PREFLIGHT_VERSION"  // required: the qualified ARN of the version to try
	TriedFunctionVariable = "WAYBILL_PREFLIGHT_FUNCTION" // required: the FunctionName that the version is of
)

// Times of Preflight.
const (
	// PreflightPatience is for how long an invocation that Lambda does not take is repeated: a permission that was just given, and a version that was just
	// made, are not known everywhere at once.
	PreflightPatience = 2 * time.Minute
	// PreflightReserve is kept for telling CodeDeploy, which otherwise waits for an hour.
	PreflightReserve = 15 * time.Second
)

// PreflightOf declares the function that tries new versions of f: its time is enough for the patience and one run of f.
func PreflightOf(f Function) Function {
	return Function{Name: Preflight, Timeout: PreflightPatience + f.Timeout + PreflightReserve, MemoryMB: 256}
}

// Rollback is an alarm that takes a release of a function back while it is raised. It calls nobody: nothing is left to do for a human at once.
type Rollback struct {
	Name string // unique within the function
	Signal

	Released bool // looks at the new version alone, which AWS tells apart while two versions share the traffic
	// Growth looks at by how much the signal has grown since the period before, not at the signal.
	Growth    bool
	Of        string  // name of the metric that the signal is a share of; "": none
	Least     float64 // of that metric in a period, for a share to mean something
	Threshold float64 // in the unit of the signal; of a share, between 0 and 1
	Below     bool    // raised below Threshold. False: at or above it
	Why       string  // this threshold
}

// Periods of rollbacks: a release in prod shares the traffic for five minutes, so that whatever is to be noticed must show within.
const (
	RollbackPeriod  = time.Minute
	RollbackPeriods = 1
)

// Rollbacks lists what takes a release of a function back.
func (t Topology) Rollbacks(f Function) []Rollback {
	of := func(metric, statistic string) Signal {
		return Signal{Namespace: AWSFunction, Name: metric, Statistic: statistic, Function: f.Name}
	}
	all := []Rollback{
		{
			Name: "errors", Signal: of("Errors", "Sum"), Released: true, Threshold: 1,
			Why: "no function ends in an error in normal work: one crash or timeout of the new version is one too many, and taking it back costs nothing",
		},
		{
			Name: "duration", Signal: of("Duration", "p90"), Released: true, Threshold: float64(f.Timeout.Milliseconds()) * nearTimeout,
			Why: "one run in ten of the new version comes near the timeout, from where it is a step to one that is cut off",
		},
	}
	if q, ok := t.Queue(f.Source.Queue); ok && q.DeadLetter != "" {
		all = append(all, Rollback{
			Name: "dead-letters", Signal: Signal{Namespace: AWSQueue, Name: "ApproximateNumberOfMessagesVisible", Statistic: "Maximum", Queue: q.DeadLetter},
			Growth: true, Threshold: manyDeadLetters,
			Why: "a few dead letters a minute are the producers' and the receivers' doing, and those that lie there already are of an earlier time; " +
				"this many new ones in a minute come from here",
		})
	}
	if f.Name == Deliverer {
		all = append(all, Rollback{
			Name: "delivery-success", Signal: Signal{Namespace: Custom, Name: "Delivered", Statistic: "Sum", Function: f.Name},
			Of: "Attempts", Least: enoughAttempts, Threshold: worstSuccess, Below: true,
			Why: "more than half of all attempts fail, which no single receiver brings about that its breaker would not stop within seconds",
		})
	}
	return all
}

const (
	nearTimeout     = 0.7
	manyDeadLetters = 10
	enoughAttempts  = 20
	worstSuccess    = 0.5
)

// Metric is the name under which CloudFormation and CloudWatch's expressions know a part of an alarm.
func (r Rollback) Metric() string { return strings.ReplaceAll(r.Name, "-", "_") }
