package picture

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Run is what was recorded of a run of the local system. It is safe for concurrent use once it is read.
type Run struct {
	series     map[string][]sample // by key
	logs       []entry
	begin, end time.Time
}

type sample struct {
	at     time.Time
	values []float64
}

type entry struct {
	at     time.Time
	fields map[string]any
}

// maxLineBytes is more than a line of logs may have.
const maxLineBytes = 4 << 20

// ReadRun reads lines of metrics in the embedded format, and of logs in JSON: what `make run ARGS="-record FILE"` writes. Lines of neither kind are an
// error, which names the first of them.
func ReadRun(in io.Reader) (Run, error) {
	r := Run{series: map[string][]sample{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLineBytes)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := r.take(lines.Bytes()); err != nil {
			return r, fmt.Errorf("line %d of the run: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return r, fmt.Errorf("the run: %w", err)
	}
	return r, nil
}

func (r *Run) take(text []byte) error {
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	var form struct {
		AWS struct {
			Timestamp         int64
			CloudWatchMetrics []struct {
				Namespace  string
				Dimensions [][]string
				Metrics    []struct{ Name string }
			}
		} `json:"_aws"`
		Time, Timestamp time.Time
	}
	if err := json.Unmarshal(text, &form); err != nil {
		return err
	}
	if form.AWS.CloudWatchMetrics == nil {
		at := form.Timestamp
		if at.IsZero() {
			at = form.Time
		}
		if at.IsZero() {
			return fmt.Errorf("%.80q has no time", text)
		}
		r.logs = append(r.logs, entry{at, fields})
		r.span(at)
		return nil
	}
	at := time.UnixMilli(form.AWS.Timestamp)
	r.span(at)
	for _, directive := range form.AWS.CloudWatchMetrics {
		for _, set := range directive.Dimensions {
			var pairs []string
			for _, d := range set {
				value, _ := fields[d].(string)
				pairs = append(pairs, d, value)
			}
			for _, m := range directive.Metrics {
				key := keyOf(directive.Namespace, m.Name, pairs)
				r.series[key] = append(r.series[key], sample{at, numbers(fields[m.Name])})
			}
		}
	}
	return nil
}

func (r *Run) span(at time.Time) {
	if r.begin.IsZero() || at.Before(r.begin) {
		r.begin = at
	}
	if at.After(r.end) {
		r.end = at
	}
}

func numbers(v any) []float64 {
	switch v := v.(type) {
	case float64:
		return []float64{v}
	case []any:
		var all []float64
		for _, n := range v {
			all = append(all, numbers(n)...)
		}
		return all
	}
	return nil
}

// axis divides the time of a run into periods.
type axis struct {
	begin  time.Time
	period time.Duration
	n      int
}

// axis takes the shortest of some plain periods of which sixty are enough.
func (r *Run) axis() axis {
	const most = 60
	all := max(r.end.Sub(r.begin), time.Second)
	period := all / most
	for _, p := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, time.Hour} {
		if period <= p {
			period = p
			break
		}
	}
	return axis{r.begin, period, int(all/period) + 1}
}

func (a axis) place(at time.Time) int { return max(0, min(int(at.Sub(a.begin)/a.period), a.n-1)) }

// points are the values of a line by period; NaN: no data.
func (r *Run) points(l line, a axis) []float64 {
	sums := nothing(a.n)
	for _, m := range l.metrics {
		values := make([][]float64, a.n)
		for _, s := range r.series[m.key] {
			i := a.place(s.at)
			values[i] = append(values[i], s.values...)
		}
		for i, all := range values {
			if v := statistic(m.stat, all); !math.IsNaN(v) {
				if math.IsNaN(sums[i]) {
					sums[i] = 0
				}
				sums[i] += v * l.factor
			}
		}
	}
	return sums
}

func nothing(n int) []float64 {
	points := make([]float64, n)
	for i := range points {
		points[i] = math.NaN()
	}
	return points
}

// statistic is CloudWatch's; NaN without values, or for one that is not known here.
func statistic(name string, values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	switch name {
	case "Sum":
		return sum
	case "Average":
		return sum / float64(len(values))
	case "SampleCount":
		return float64(len(values))
	case "Maximum":
		return slices.Max(values)
	case "Minimum":
		return slices.Min(values)
	}
	const hundred = 100
	percentile, err := strconv.ParseFloat(strings.TrimPrefix(name, "p"), 64)
	if err != nil || percentile < 0 || percentile > hundred {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(percentile/hundred*float64(len(sorted))))-1)]
}

// contributor is a value of a ranked field.
type contributor struct {
	name   string
	count  int
	points []float64
}

// contributors are the most frequent values first.
func (r *Run) contributors(k ranking, a axis) []contributor {
	byName := map[string]*contributor{}
	for _, e := range r.logs {
		function, _ := e.fields["function"].(string)
		text, _ := e.fields[k.match].(string)
		value, ok := e.fields[k.field].(string)
		if !ok || !slices.Contains(k.functions, function) || !slices.Contains(k.in, text) {
			continue
		}
		c := byName[value]
		if c == nil {
			c = &contributor{name: value, points: nothing(a.n)}
			byName[value] = c
		}
		c.count++
		i := a.place(e.at)
		if math.IsNaN(c.points[i]) {
			c.points[i] = 0
		}
		c.points[i]++
	}
	var all []contributor
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, *byName[name])
	}
	slices.SortStableFunc(all, func(x, y contributor) int { return cmp.Compare(y.count, x.count) })
	return all[:min(len(all), k.most)]
}
