package telemetry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Namespace holds every metric of Waybill.
const Namespace = "Waybill"

// The dimensions of every metric.
const (
	dimensionService  = "Service"
	dimensionFunction = "Function"
	// dimensionVersion is one of few metrics only, and besides: a release is judged by those of its own version.
	dimensionVersion = "Version"
)

// maxLineValues is how many values of one metric a line may hold.
const maxLineValues = 100

// Config configures an Emitter; Function and Writer are required.
type Config struct {
	// Service tells deployments in one account and region apart. Default "waybill".
	Service string
	// Function names the function in all deployments alike: "router".
	Function string
	// Version is the version of the function that runs, for the metrics by which a release is judged (Definition.Judges). Default: none, and they are
	// published without.
	Version string
	// Writer takes one call of Write for each line: standard output, which Lambda reads.
	Writer io.Writer
	// RequestID gives the id of the invocation that a context belongs to, for the property "requestId". Default: none.
	RequestID func(ctx context.Context) string
	Now       func() time.Time // default time.Now
}

// Emitter writes batches as lines in the embedded metric format. It is safe for concurrent use.
type Emitter struct {
	cfg  Config
	head string // of every line, between time and metrics: what never changes

	mu   sync.Mutex
	line []byte // used again
	lost int    // lines that were not written
}

// New makes an Emitter. The error lists every setting that is missing or that CloudWatch would not take.
func New(cfg Config) (*Emitter, error) {
	if cfg.Service == "" {
		cfg.Service = "waybill"
	}
	var problems []error
	for _, d := range []struct{ field, value string }{{"Service", cfg.Service}, {"Function", cfg.Function}, {"Version", cmp.Or(cfg.Version, "none")}} {
		if err := checkDimension(d.value); err != nil {
			problems = append(problems, fmt.Errorf("telemetry: Config.%s %w", d.field, err))
		}
	}
	if cfg.Writer == nil {
		problems = append(problems, errors.New("telemetry: Config.Writer is missing"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	head := appendText([]byte(`,"`+dimensionService+`":`), cfg.Service)
	head = appendText(append(head, `,"`+dimensionFunction+`":`...), cfg.Function)
	if cfg.Version != "" {
		head = appendText(append(head, `,"`+dimensionVersion+`":`...), cfg.Version)
	}
	return &Emitter{cfg: cfg, head: string(head)}, nil
}

// checkDimension refuses what CloudWatch does not take as a dimension's value.
// Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html
func checkDimension(value string) error {
	printable := func(r rune) bool { return r >= ' ' && r <= '~' }
	switch {
	case strings.TrimSpace(value) == "":
		return errors.New("is missing")
	case len(value) > 1024, value[0] == ':', strings.IndexFunc(value, func(r rune) bool { return !printable(r) }) >= 0:
		return fmt.Errorf("is %.40q: use at most 1024 printable ASCII characters that do not begin with a colon", value)
	}
	return nil
}

// Measure gives a handler that hands a Batch to handle in its context, takes the time and emits the batch when handle has
// returned or panicked.
func Measure[E, R any](e *Emitter, handle func(context.Context, E) (R, error)) func(context.Context, E) (R, error) {
	return func(ctx context.Context, event E) (R, error) {
		b := NewBatch()
		began := e.cfg.Now()
		defer func() {
			b.Duration(BatchDuration, e.cfg.Now().Sub(began))
			if e.cfg.RequestID != nil {
				b.Property(KeyRequestID, e.cfg.RequestID(ctx))
			}
			e.Emit(b)
		}()
		return handle(With(ctx, b), event)
	}
}

// Emit writes what b holds and empties it: one line, and further ones only for metrics with more than a hundred values. Nothing is
// written of a batch without metrics. A line that cannot be written is lost and counted by a later one; it is nobody's failure.
func (e *Emitter) Emit(b *Batch) {
	if b == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	lost := e.lost
	if lost > 0 && b.any() {
		b.used[LinesLost] = true
		b.number[LinesLost] = float64(lost)
	}
	now := e.cfg.Now()
	for first := true; b.any(); first = false {
		e.line = e.appendLine(e.line[:0], b, now, first)
		// One call for a whole line: the runtime reads a pipe that others write to as well.
		switch _, err := e.cfg.Writer.Write(e.line); {
		case err != nil:
			e.lost++
		case first:
			e.lost -= lost
		}
	}
	b.properties, b.seen = nil, [metrics]int{}
}

// any tells whether something is left to be written.
func (b *Batch) any() bool {
	for _, used := range b.used {
		if used {
			return true
		}
	}
	return false
}

// appendLine appends one line and takes what it holds out of b.
func (e *Emitter) appendLine(line []byte, b *Batch, now time.Time, first bool) []byte {
	line = append(line, `{"time":"`...)
	line = now.UTC().AppendFormat(line, time.RFC3339Nano)
	line = append(line, `","level":"INFO","msg":"batch","_aws":{"Timestamp":`...)
	line = strconv.AppendInt(line, now.UnixMilli(), 10)
	line = append(line, `,"CloudWatchMetrics":[`...)
	line, _ = b.appendNames(line, `"`+dimensionService+`","`+dimensionFunction+`"`, func(Metric) bool { return true })
	if e.cfg.Version != "" {
		before := len(line)
		var some bool
		line, some = b.appendNames(append(line, ','), `"`+dimensionService+`","`+dimensionFunction+`","`+dimensionVersion+`"`, func(m Metric) bool { return table[m].Judges })
		if !some {
			line = line[:before]
		}
	}
	line = append(line, `]}`...)
	line = append(line, e.head...)
	for m := range metrics {
		if b.used[m] {
			line = b.appendMetric(line, m)
		}
	}
	if first {
		for _, p := range b.properties {
			line = append(line, ',')
			line = appendText(line, p.key)
			line = append(line, ':')
			line = appendScalar(line, p.value)
		}
	}
	return append(line, '}', '\n')
}

// appendNames appends the directive that makes metrics under these dimensions of those that b holds and that are wanted; some says whether there are such.
func (b *Batch) appendNames(line []byte, dimensions string, wanted func(Metric) bool) (_ []byte, some bool) {
	line = append(line, `{"Namespace":"`+Namespace+`","Dimensions":[[`...)
	line = append(line, dimensions...)
	line = append(line, `]],"Metrics":[`...)
	for m := range metrics {
		if !b.used[m] || !wanted(m) {
			continue
		}
		if some {
			line = append(line, ',')
		}
		some = true
		line = append(line, `{"Name":"`...)
		line = append(line, table[m].Name...)
		line = append(line, `","Unit":"`...)
		line = append(line, table[m].Unit...)
		line = append(line, `"}`...)
	}
	return append(line, `]}`...), some
}

// appendMetric appends a metric's number, or as many of its values as a line may hold, and takes it out of b.
func (b *Batch) appendMetric(line []byte, m Metric) []byte {
	line = append(line, ',', '"')
	line = append(line, table[m].Name...)
	line = append(line, '"', ':')
	if table[m].Kind != Values {
		line = appendNumber(line, b.number[m])
		b.used[m], b.number[m] = false, 0
		return line
	}
	now := b.values[m][:min(len(b.values[m]), maxLineValues)]
	line = append(line, '[')
	for i, v := range now {
		if i > 0 {
			line = append(line, ',')
		}
		line = appendNumber(line, v)
	}
	b.values[m] = b.values[m][len(now):]
	b.used[m] = len(b.values[m]) > 0
	return append(line, ']')
}

func appendScalar(line []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		return appendText(line, v)
	case bool:
		return strconv.AppendBool(line, v)
	case int64:
		return strconv.AppendInt(line, v, 10)
	case float64:
		return appendNumber(line, v)
	}
	return append(line, "null"...) // not reached: Property takes no other type
}

// appendNumber appends a number as JSON, times to the microsecond: more digits would be paid for and tell nothing.
func appendNumber(line []byte, v float64) []byte {
	const thousandths, large = 1000, 1e12
	if v > -large && v < large {
		v = float64(int64(v*thousandths)) / thousandths
		return strconv.AppendFloat(line, v, 'f', -1, 64)
	}
	return strconv.AppendFloat(line, v, 'g', -1, 64)
}

// appendText appends a text as JSON.
func appendText(line []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // cannot fail: broken text is replaced
			return append(line, quoted...)
		}
	}
	line = append(line, '"')
	line = append(line, s...)
	return append(line, '"')
}
