package topology

import (
	"fmt"
	"time"
)

// Preflight is the folder of the function that tries a new version of another one before traffic reaches it. It is none of Topology.Functions: nothing
// feeds it, nothing in the path of a delivery waits for it, and it is deployed once for each of them.
const Preflight FunctionName = "preflight"

// VersionVariable is set by Lambda: the version of the function that runs.
const VersionVariable = "AWS_LAMBDA_FUNCTION_VERSION"

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

	Released bool // looks at the new version alone
	Growth   bool // looks at by how much the signal has grown since the period before
	// Of is the metric that the signal is a share of, beside the signal in all else; "": none. A share of less than Least in a period means nothing.
	Of        string
	Least     float64
	Threshold float64 // in the unit of the signal; of a share, between 0 and 1
	Below     bool    // raised below Threshold. False: at or above it
	Why       string  // this threshold
}

// A release in prod shares the traffic for five minutes: whatever shall take it back must show in one.
const (
	RollbackPeriod  = time.Minute
	RollbackPeriods = 1
)

// RollbackSilence says why missing data is good for all of them.
const RollbackSilence = "there is no data of a version that does not run, and most of the time none is new"

// Names of an alarm's parts in its expression.
const (
	RollbackSignal = "signal"
	RollbackOf     = "of"
)

// Expression is what is compared with the threshold, in CloudWatch's metric math; "" where it is the signal itself. A share whose signal is missing is none, because
// sums that are zero are not published.
// Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
func (r Rollback) Expression() string {
	switch {
	case r.Growth:
		return "DIFF(" + RollbackSignal + ")"
	case r.Of != "":
		return fmt.Sprintf("IF(%[1]s >= %[3]v, FILL(%[2]s, 0) / %[1]s, 1)", RollbackOf, RollbackSignal, r.Least)
	}
	return ""
}

// Thresholds of rollbacks.
const (
	nearTimeout     = 0.7
	manyDeadLetters = 10
	enoughAttempts  = 20
	worstSuccess    = 0.5
)

// Rollbacks lists what takes a release of a function back.
func (t Topology) Rollbacks(f Function) []Rollback {
	of := func(metric, statistic string) Signal {
		return Signal{Namespace: AWSFunction, Name: metric, Statistic: statistic, Function: f.Name}
	}
	all := []Rollback{
		{
			Name: "errors", Signal: of("Errors", "Sum"), Released: true, Threshold: 1,
			Why: "no function ends in an error in normal work: one crash or timeout of the new version is one too many, and to take it back costs nothing",
		},
		{
			Name: "duration", Signal: of("Duration", "p90"), Released: true, Threshold: nearTimeout * float64(f.Timeout.Milliseconds()),
			Why: "one run of the new version in ten takes 70 % of its timeout; beyond it runs are killed",
		},
	}
	if q, ok := t.Queue(f.Source.Queue); ok && q.DeadLetter != "" {
		all = append(all, Rollback{
			Name: "dead-letters", Signal: Signal{Namespace: AWSQueue, Name: "ApproximateNumberOfMessagesVisible", Statistic: "Maximum", Queue: q.DeadLetter},
			Growth: true, Threshold: manyDeadLetters,
			Why: "those that lie there are of an earlier time, and single new ones are the doing of a producer or a receiver; this many in a minute begin with the release",
		})
	}
	if f.Name == Deliverer {
		all = append(all, Rollback{
			Name: "delivery-success", Signal: Signal{Namespace: Custom, Name: "Delivered", Statistic: "Sum", Function: f.Name}, Released: true,
			Of: "Attempts", Least: enoughAttempts, Threshold: worstSuccess, Below: true,
			Why: "half of what the new version tries fails; a single receiver does not bring that about, because its breaker stops it after ten attempts",
		})
	}
	return all
}
