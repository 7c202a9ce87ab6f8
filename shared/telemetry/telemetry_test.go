package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/telemetry"
)

var now = time.UnixMilli(1_790_000_000_123)

func clock() time.Time { return now }

func emitter(t testing.TB, w io.Writer) *telemetry.Emitter {
	t.Helper()
	e, err := telemetry.New(telemetry.Config{Function: "router", Writer: w, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// emit gives the lines of a batch, read by the rules.
func emit(t testing.TB, b *telemetry.Batch) []document {
	t.Helper()
	var out bytes.Buffer
	emitter(t, &out).Emit(b)
	all, err := parseAll(&out, now)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The table is complete, its names are CloudWatch's kind of names, and the cost that the documentation tells is that of the table.
func TestTable(t *testing.T) {
	all := telemetry.Metrics()
	seen := map[string]bool{}
	for i, d := range all {
		if int(d.Metric) != i || d.Metric.String() != d.Name || d.Name == "" || d.Unit == "" || len(d.Meaning) < 20 || seen[d.Name] {
			t.Errorf("row %d: %+v", i, d)
		}
		seen[d.Name] = true
	}
	if len(all) > 100 {
		t.Errorf("%d metrics do not fit into one line", len(all))
	}
	doc, err := os.ReadFile("telemetry.go")
	if err != nil {
		t.Fatal(err)
	}
	own, judges := int(telemetry.LinesLost)+1, 0
	for _, d := range all {
		if d.Judges {
			judges++
		}
	}
	most := 3*own + len(all) - own + 2*judges // by the versions of deliverer and slow lane
	for _, fact := range []string{fmt.Sprintf("%d metrics, of which %d", len(all), own), fmt.Sprintf("$%.2f a month", 0.3*float64(most)), fmt.Sprintf("of the %d,", most)} {
		if !strings.Contains(string(doc), fact) {
			t.Errorf("the package documentation does not say %q", fact)
		}
	}
}

func TestLine(t *testing.T) {
	b := telemetry.NewBatch()
	b.Count(telemetry.Records, 3)
	b.Count(telemetry.Records, 7)
	b.Count(telemetry.Dead, 0) // not published
	b.Count(telemetry.WaitingStray, 0)
	b.Duration(telemetry.OldestParked, 90*time.Second)
	b.Duration(telemetry.OldestRetrying, 2*time.Hour)
	b.Duration(telemetry.OldestParked, time.Second)
	b.Settled(1500*time.Millisecond, 2*time.Second)
	b.Settled(2500*time.Millisecond+1234*time.Microsecond, 2*time.Second)
	b.Settled(-time.Second, time.Second) // clocks differ
	b.Property("note", "one")
	b.Property("note", "two")
	lines := emit(t, b)
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	d := lines[0]
	want := map[string][]float64{
		"Records": {10}, "WaitingStray": {0}, "OldestParked": {90}, "OldestRetrying": {7200}, "OldestHeld": {7200},
		"SettledLatency": {1500, 2501.234, 0}, "SettledTotal": {3}, "SettledGood": {2},
	}
	if !maps.EqualFunc(d.values, want, slices.Equal) {
		t.Errorf("values %v, want %v", d.values, want)
	}
	if d.units["SettledLatency"] != "Milliseconds" || d.units["OldestHeld"] != "Seconds" || d.units["Records"] != "Count" {
		t.Errorf("units %v", d.units)
	}
	if len(d.dimensions) != 1 || !slices.Equal(d.dimensions[0], []string{"Service", "Function"}) || d.root["Service"] != "waybill" || d.root["Function"] != "router" {
		t.Errorf("dimensions %v of %v", d.dimensions, d.root)
	}
	if d.root["note"] != "two" || d.root["level"] != "INFO" || d.root["time"] != now.UTC().Format(time.RFC3339Nano) {
		t.Errorf("root %v", d.root)
	}
}

// A batch may use everything at once, to the bounds, and still be one line.
func TestFullBatchIsOneLine(t *testing.T) {
	b := telemetry.NewBatch()
	for _, d := range telemetry.Metrics() {
		b.Count(d.Metric, math.MaxInt)
		b.Count(d.Metric, math.MaxInt)
		for range 100 {
			b.Observe(d.Metric, 123456789.123)
		}
	}
	for i := range 2 * telemetry.MaxProperties {
		b.Property(fmt.Sprint("p", i), strings.Repeat("\x01", 10*telemetry.MaxValueBytes))
	}
	lines := emit(t, b)
	if len(lines) != 1 || len(lines[0].names) != len(telemetry.Metrics()) {
		t.Fatalf("%d lines", len(lines))
	}
	properties := 0
	for key := range lines[0].root {
		if strings.HasPrefix(key, "p") {
			properties++
		}
	}
	if properties != telemetry.MaxProperties {
		t.Errorf("%d properties", properties)
	}
}

// No value is lost for the limit of a line, and none is published twice.
func TestManyValues(t *testing.T) {
	for n, lines := range map[int]int{1: 1, 100: 1, 101: 2, 250: 3, telemetry.MaxValues: 10, 5 * telemetry.MaxValues: 10} {
		b := telemetry.NewBatch()
		b.Count(telemetry.Delivered, n)
		b.Property("p", 1)
		for i := range n {
			b.Observe(telemetry.SettledLatency, float64(i))
		}
		got := emit(t, b)
		if len(got) != lines {
			t.Fatalf("%d values: %d lines, want %d", n, len(got), lines)
		}
		var values []float64
		for i, d := range got {
			values = append(values, d.values["SettledLatency"]...)
			if _, counted := d.values["Delivered"]; counted != (i == 0) {
				t.Errorf("%d values: line %d counts %v", n, i, d.values["Delivered"])
			}
		}
		slices.Sort(values)
		if want := min(n, telemetry.MaxValues); len(slices.Compact(values)) != want {
			t.Errorf("%d values: %d published, want %d", n, len(values), want)
		}
		if n > telemetry.MaxValues && values[len(values)/2] < float64(n)/3 {
			t.Errorf("the choice of %d values prefers early ones: median %v", n, values[len(values)/2])
		}
	}
}

// What CloudWatch would not take, or what would break the line, is left out.
func TestRefused(t *testing.T) {
	b := telemetry.NewBatch()
	b.Count(telemetry.Records, 1)
	b.Count(telemetry.Records, -5)
	b.Count(telemetry.SettledLatency, 1)
	b.Count(telemetry.Metric(-1), 1)
	b.Count(telemetry.Metric(1000), 1)
	b.Observe(telemetry.Metric(1000), 1)
	b.Duration(telemetry.Metric(1000), 1)
	b.Observe(telemetry.Delivered, 1)
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, math.Ldexp(1, 361)} {
		b.Observe(telemetry.SettledLatency, v)
		b.Observe(telemetry.OldestHeld, v)
		b.Property("float", v)
	}
	for _, key := range []string{"_aws", "Service", "Function", "level", "time", "msg", "Records", "Dead", "", strings.Repeat("k", telemetry.MaxKeyBytes+1)} {
		b.Property(key, "stolen")
	}
	b.Property("struct", struct{}{})
	d := emit(t, b)[0]
	if !maps.EqualFunc(d.values, map[string][]float64{"Records": {1}}, slices.Equal) {
		t.Errorf("values %v", d.values)
	}
	if text := fmt.Sprint(d.root); strings.Contains(text, "stolen") || strings.Contains(text, "struct") {
		t.Errorf("root %v", d.root)
	}
}

func TestPropertiesOfAllTypes(t *testing.T) {
	b := telemetry.NewBatch()
	b.Count(telemetry.Records, 1)
	for key, v := range map[string]any{
		"s": "a\"\n<é\xff", "i": 7, "i64": int64(math.MinInt64), "f": 1e300, "b": true, "d": 1500 * time.Millisecond, "t": now, "long": strings.Repeat("é", 500),
	} {
		b.Property(key, v)
	}
	root := emit(t, b)[0].root
	for key, want := range map[string]string{"s": "a\"\n<é?", "i": "7", "i64": "-9223372036854775808", "f": "1e+300", "b": "true", "d": "1.5", "t": now.UTC().Format(time.RFC3339Nano)} {
		if got := fmt.Sprint(root[key]); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	if long := root["long"].(string); len(long) > telemetry.MaxValueBytes || !strings.HasSuffix(long, "é…") {
		t.Errorf("long is %d bytes: %q", len(long), long)
	}
}

// Code that is not measured counts into nothing.
func TestNilBatch(t *testing.T) {
	b := telemetry.From(context.Background())
	if b != nil {
		t.Fatal("a batch from nowhere")
	}
	if n := testing.AllocsPerRun(10, func() {
		b.Count(telemetry.Records, 1)
		b.Observe(telemetry.SettledLatency, 1)
		b.Duration(telemetry.SettledLatency, 1)
		b.Settled(1, 2)
		b.Property("a", "b")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var out bytes.Buffer
	e := emitter(t, &out)
	e.Emit(nil)
	empty := telemetry.NewBatch()
	empty.Property("p", 1)
	e.Emit(empty)
	if out.Len() > 0 {
		t.Errorf("written %q", &out)
	}
}

// writer fails on command and counts calls.
type writer struct {
	bytes.Buffer
	fail  bool
	calls int
}

func (w *writer) Write(p []byte) (int, error) {
	w.calls++
	if w.fail {
		return 0, errors.New("broken pipe")
	}
	return w.Buffer.Write(p)
}

// A line that cannot be written is counted by the next one that can, once.
func TestLostLines(t *testing.T) {
	w := &writer{fail: true}
	e := emitter(t, w)
	one := func() {
		b := telemetry.NewBatch()
		b.Count(telemetry.Records, 1)
		e.Emit(b)
	}
	one()
	one()
	w.fail = false
	one()
	one()
	lines, err := parseAll(&w.Buffer, now)
	if err != nil || len(lines) != 2 || w.calls != 4 {
		t.Fatalf("%d lines by %d calls: %v", len(lines), w.calls, err)
	}
	if got := lines[0].values["LinesLost"]; !slices.Equal(got, []float64{2}) || lines[1].values["LinesLost"] != nil {
		t.Errorf("lost %v, then %v", got, lines[1].values["LinesLost"])
	}
}

func TestMeasure(t *testing.T) {
	var out bytes.Buffer
	at := now
	e, err := telemetry.New(telemetry.Config{Service: "prod", Function: "waker", Writer: &out, Now: func() time.Time { return at }, RequestID: func(context.Context) string { return "r-1" }})
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("failed")
	handle := telemetry.Measure(e, func(ctx context.Context, n int) (string, error) {
		telemetry.From(ctx).Count(telemetry.Records, n)
		at = at.Add(250 * time.Millisecond)
		if n == 3 {
			panic("bug")
		}
		return fmt.Sprint(n), failure
	})
	if got, err := handle(t.Context(), 2); got != "2" || !errors.Is(err, failure) {
		t.Errorf("%q, %v", got, err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = handle(t.Context(), 3)
	}()
	lines, err := parseAll(&out, now)
	if err != nil || len(lines) != 2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	for i, d := range lines {
		if d.values["Records"][0] != float64(2+i) || d.values["BatchDuration"][0] != 250 || d.root["requestId"] != "r-1" || d.root["Service"] != "prod" || d.root["Function"] != "waker" {
			t.Errorf("line %d: %v", i, d.root)
		}
	}
}

func TestConfigListsEveryProblem(t *testing.T) {
	_, err := telemetry.New(telemetry.Config{Service: "größe"})
	for _, want := range []string{"Config.Service", "Config.Function is missing", "Config.Writer is missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	for _, bad := range []string{":x", " ", strings.Repeat("x", 1025), "a\nb"} {
		if _, err := telemetry.New(telemetry.Config{Function: bad, Writer: io.Discard}); err == nil {
			t.Errorf("function %.20q is taken", bad)
		}
	}
}

// Goroutines count into one batch while others emit theirs: nothing is lost, no lines mix.
func TestConcurrentUse(t *testing.T) {
	var out bytes.Buffer
	e := emitter(t, &out)
	shared := telemetry.NewBatch()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				shared.Count(telemetry.Attempts, 1)
				shared.Observe(telemetry.SettledLatency, 1)
				shared.Property(fmt.Sprint("p", i), i)
				own := telemetry.NewBatch()
				own.Count(telemetry.Records, 1)
				e.Emit(own)
			}
		})
	}
	wg.Wait()
	e.Emit(shared)
	lines, err := parseAll(&out, now)
	if err != nil {
		t.Fatal(err)
	}
	records, attempts, latencies := 0.0, 0.0, 0
	for _, d := range lines {
		for _, v := range d.values["Records"] {
			records += v
		}
		for _, v := range d.values["Attempts"] {
			attempts += v
		}
		latencies += len(d.values["SettledLatency"])
	}
	if records != 800 || attempts != 800 || latencies != 800 {
		t.Errorf("%v records, %v attempts, %d latencies", records, attempts, latencies)
	}
}

func TestFields(t *testing.T) {
	keys := telemetry.Fields()
	slices.Sort(keys)
	if len(slices.Compact(slices.Clone(keys))) != len(keys) {
		t.Errorf("a key is listed twice: %v", keys)
	}
	var out bytes.Buffer
	long := strings.Repeat("日", 1000)
	s := telemetry.Subject{Event: long, Delivery: "d", Destination: "crm", Tenant: "acme\xff", Trace: "Root=1", Epoch: 0, Attempt: 2}
	attrs := append(s.Attrs(), telemetry.Wait(1500*time.Millisecond), telemetry.Error(errors.New(long)), telemetry.Text(telemetry.KeyReason, "r"))
	slog.New(slog.NewJSONHandler(&out, nil)).LogAttrs(t.Context(), slog.LevelWarn, "attempt failed", attrs...)
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for key, v := range line {
		if !slices.Contains(append(keys, "time", "level", "msg"), key) {
			t.Errorf("key %q is not listed", key)
		}
		if text, ok := v.(string); ok && (len(text) > telemetry.MaxValueBytes || !utf8.ValidString(text)) {
			t.Errorf("%s is not bounded: %d bytes", key, len(text))
		}
	}
	if line["tenant"] != "acme?" || line["epoch"] != 0.0 || line["attempt"] != 2.0 || line["waitSeconds"] != 1.5 {
		t.Errorf("line %v", line)
	}
	if got := (telemetry.Subject{Event: "e"}).Attrs(); len(got) != 1 {
		t.Errorf("fields of nothing: %v", got)
	}
	if telemetry.Error(nil).Value.String() != "" {
		t.Error("an error from nothing")
	}
}

func FuzzLine(f *testing.F) {
	f.Add("requestId", "r-1", "router", 1.5, 3)
	f.Add("a\"b", "\x00\x1f\u2028\xff", "x", math.MaxFloat64, math.MaxInt)
	f.Add("_aws", "{}", "a b", math.Copysign(0, -1), -1)
	f.Add("Records", "\ufffe", ":", 1e-9, 150)
	f.Fuzz(func(t *testing.T, key, value, function string, number float64, n int) {
		var out bytes.Buffer
		e, err := telemetry.New(telemetry.Config{Service: "s" + key, Function: function, Writer: &out, Now: clock})
		if err != nil {
			e = emitter(t, &out)
		}
		b := telemetry.NewBatch()
		b.Count(telemetry.Records, 1)
		b.Count(telemetry.Accepted, n)
		b.Observe(telemetry.OldestHeld, number)
		for range min(max(n, 0), 300) {
			b.Observe(telemetry.SettledLatency, number)
		}
		b.Property(key, value)
		b.Property(value, number)
		b.Property("n", n)
		e.Emit(b)
		lines, err := parseAll(&out, now)
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) == 0 || !slices.Equal(lines[0].dimensions[0], []string{"Service", "Function"}) || lines[0].values["Records"][0] != 1 {
			t.Errorf("lines %v", lines)
		}
	})
}

// What a batch of the deliverer costs: some 20 counts, ten latencies, one line. Beside it, the plain line that it stands for.
func BenchmarkBatch(b *testing.B) {
	e := emitter(b, io.Discard)
	b.ReportAllocs()
	for b.Loop() {
		batch := telemetry.NewBatch()
		for m := telemetry.Attempts; m < telemetry.SettledLatency; m++ {
			batch.Count(m, 2)
			batch.Count(m, 1)
		}
		for i := range 10 {
			batch.Settled(time.Duration(i)*time.Millisecond, time.Second)
		}
		batch.Property("requestId", "8286a188-ba32-4475-8077-530cd35c09a9")
		e.Emit(batch)
	}
}

func BenchmarkPlainLine(b *testing.B) {
	logger := slog.New(slog.NewJSONHandler(io.Discard, nil))
	b.ReportAllocs()
	for b.Loop() {
		attrs := make([]slog.Attr, 0, 16)
		for m := telemetry.Attempts; m < telemetry.SettledLatency; m++ {
			attrs = append(attrs, slog.Int(m.String(), 3))
		}
		logger.LogAttrs(b.Context(), slog.LevelInfo, "batch", append(attrs, slog.String("requestId", "8286a188-ba32-4475-8077-530cd35c09a9"))...)
	}
}
