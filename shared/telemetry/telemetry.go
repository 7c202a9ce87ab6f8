// Package telemetry counts what a batch did and publishes it as CloudWatch metrics, and names the fields of log lines.
//
// One line on standard output, in the embedded metric format, is the summary of one batch: its metrics (Metrics has the table) and a
// few fields to search by. Everything else is logged only when it fails. Payloads are in neither.
//
// A Batch travels in the context. Code that finds none counts into nil, which costs nothing and does nothing, so that no package needs to be
// told whether it is measured.
//
// # Dimensions and cost
//
// Every metric has the same one set of dimensions: Service, the deployment, and Function; the two that judge a release have a second one, with Version. CloudWatch charges $0.30 a month for each combination of
// metric, set and values, for the hours in which it has data. A further set, such as the sum over all functions, would double that, and
// alarms can add up by metric math instead; tenants or destinations as dimensions would multiply it by their number and are never used:
// their figures come from log fields. With 50 metrics, of which 10 come from router, deliverer (the slow lane publishes under
// its name) and waker, and two by the versions of deliverer and slow lane, a deployment costs at most $22.20 a month, the canary included; one in which nothing goes wrong publishes about 22 of the 74, for $6.60. Sums that are zero are left out for that reason, so
// alarms must take missing data for good, except for signs of life.
//
// The lines are ordinary log lines of level INFO: a log level of the Lambda function's own (not that of Waybill) above INFO would drop them, and every metric
// with them. A line is at most 256 KB.
//
// Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
package telemetry

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Bounds of what a batch keeps.
const (
	MaxValues     = 1000 // of a metric of kind Values; of more, a fair choice of as many is published
	MaxProperties = 20   // further ones are left out
	MaxKeyBytes   = 64   // of the key of a property; longer ones are left out
	MaxValueBytes = 256  // of a text in a property or a log field; longer ones are cut
)

// maxNumber is the largest that CloudWatch takes, 2^360.
var maxNumber = math.Ldexp(1, 360)

// Batch collects the numbers of one invocation. It is safe for concurrent use, and a nil Batch takes everything and keeps nothing.
// What is counted after the batch was emitted is lost with it.
type Batch struct {
	mu         sync.Mutex
	used       [metrics]bool
	number     [metrics]float64   // sum or maximum
	values     [metrics][]float64 // of kind Values
	seen       [metrics]int       // how many values were observed
	properties []property
}

type property struct {
	key   string
	value any // string, int64, float64 or bool
}

// NewBatch makes an empty Batch.
func NewBatch() *Batch { return &Batch{} }

type contextKey struct{}

// With gives a context that carries b.
func With(ctx context.Context, b *Batch) context.Context {
	return context.WithValue(ctx, contextKey{}, b)
}

// From gives the batch that the context carries, or nil.
func From(ctx context.Context) *Batch {
	b, _ := ctx.Value(contextKey{}).(*Batch)
	return b
}

// Count adds n, which may be 0, to a metric of kind Sum. Negative numbers and metrics of another kind are ignored: nothing that
// is only counted may break what it counts.
func (b *Batch) Count(m Metric, n int) {
	if b == nil || !m.known() || table[m].Kind != Sum || n < 0 || n == 0 && !table[m].zero {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used[m] = true
	b.number[m] += float64(n)
}

// Observe gives one value, in the metric's unit, of a metric of kind Values or Max. Values that are negative, too large
// for CloudWatch or no numbers are ignored, as are metrics of kind Sum.
func (b *Batch) Observe(m Metric, value float64) {
	if b == nil || !m.known() || table[m].Kind == Sum || !(value >= 0 && value <= maxNumber) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.observe(m, value)
	if whole := table[m].part; whole != Records {
		b.observe(whole, value)
	}
}

func (b *Batch) observe(m Metric, value float64) {
	b.used[m] = true
	if table[m].Kind == Max {
		b.number[m] = max(b.number[m], value)
		return
	}
	b.seen[m]++
	if len(b.values[m]) < MaxValues {
		b.values[m] = append(b.values[m], value)
	} else if at := rand.IntN(b.seen[m]); at < MaxValues {
		b.values[m][at] = value // every value has the same chance to stay
	}
}

// Duration observes a time in the metric's unit. Less than none, which clocks that differ can measure, is none.
func (b *Batch) Duration(m Metric, d time.Duration) {
	if b == nil || !m.known() {
		return
	}
	unit := time.Millisecond
	if table[m].Unit == Seconds {
		unit = time.Second
	}
	b.Observe(m, float64(max(d, 0))/float64(unit))
}

// Settled counts a delivery that was settled as delivered for the first time, and whether that was within the objective.
func (b *Batch) Settled(latency, objective time.Duration) {
	if b == nil {
		return
	}
	b.Duration(SettledLatency, latency)
	b.Count(SettledTotal, 1)
	good := 0
	if latency <= objective {
		good = 1
	}
	b.Count(SettledGood, good)
}

// Property gives the line a field to search by, which is no metric: a text, a number, a boolean, a time or a duration (in seconds). The last value of a key
// counts. Other types, keys that mean something else in the line and what exceeds the bounds are left out.
func (b *Batch) Property(key string, value any) {
	if b == nil || key == "" || len(key) > MaxKeyBytes {
		return
	}
	key = bounded(key) // as it will be written: two broken keys may be one
	if reserved(key) {
		return
	}
	plain, ok := scalar(value)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.properties {
		if b.properties[i].key == key {
			b.properties[i].value = plain
			return
		}
	}
	if len(b.properties) < MaxProperties {
		b.properties = append(b.properties, property{key, plain})
	}
}

// reserved tells which members of the line are not free.
func reserved(key string) bool {
	switch key {
	case "_aws", "time", "level", "msg", dimensionService, dimensionFunction:
		return true
	}
	for m := range metrics {
		if table[m].Name == key {
			return true
		}
	}
	return false
}

func scalar(value any) (any, bool) {
	switch v := value.(type) {
	case string:
		return bounded(v), true
	case bool, int64:
		return v, true
	case int:
		return int64(v), true
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	case time.Duration:
		return v.Seconds(), true
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano), true
	}
	return nil, false
}
