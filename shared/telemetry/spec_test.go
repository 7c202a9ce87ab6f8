package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// document is one line as CloudWatch reads it.
type document struct {
	names      []string             // of metrics, in order
	units      map[string]string    // by metric
	values     map[string][]float64 // by metric
	dimensions [][]string
	root       map[string]any
}

// units that CloudWatch knows, of those that Waybill could use.
var units = []string{"Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Percent", "Count", "Count/Second", "None"}

// parse reads a line by the published rules and refuses whatever breaks one, also where CloudWatch would be lenient.
// Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
func parse(line string, now time.Time) (document, error) {
	d := document{units: map[string]string{}, values: map[string][]float64{}}
	text, ended := strings.CutSuffix(line, "\n")
	switch {
	case !ended || strings.ContainsAny(text, "\n\r"):
		return d, errors.New("not one line")
	case len(line) > 256<<10:
		return d, fmt.Errorf("%d bytes", len(line))
	case !utf8.ValidString(line):
		return d, errors.New("broken UTF-8")
	}
	var err error
	if d.root, err = object(text); err != nil {
		return d, err
	}
	meta, ok := d.root["_aws"].(map[string]any)
	if !ok || len(meta) != 2 {
		return d, fmt.Errorf("_aws is %v", d.root["_aws"])
	}
	stamp, err := meta["Timestamp"].(json.Number).Int64()
	if at := time.UnixMilli(stamp); err != nil || at.Before(now.Add(-14*24*time.Hour)) || at.After(now.Add(2*time.Hour)) {
		return d, fmt.Errorf("timestamp %v: %w", meta["Timestamp"], err)
	}
	directives, ok := meta["CloudWatchMetrics"].([]any)
	if !ok || len(directives) == 0 {
		return d, errors.New("no directive")
	}
	for _, one := range directives {
		directive, ok := one.(map[string]any)
		if !ok || len(directive) != 3 {
			return d, fmt.Errorf("directive %v", one)
		}
		if err := d.directive(directive); err != nil {
			return d, err
		}
	}
	return d, nil
}

// object reads a JSON object and refuses members that are there twice, at any depth.
func object(text string) (map[string]any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	v, err := value(dec)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("no object")
	}
	return o, nil
}

func value(dec *json.Decoder) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		o := map[string]any{}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			if _, twice := o[key.(string)]; twice {
				return nil, fmt.Errorf("member %q is there twice", key)
			}
			if o[key.(string)], err = value(dec); err != nil {
				return nil, err
			}
		}
		_, err := dec.Token()
		return o, err
	case json.Delim('['):
		a := []any{}
		for dec.More() {
			v, err := value(dec)
			if err != nil {
				return nil, err
			}
			a = append(a, v)
		}
		_, err := dec.Token()
		return a, err
	}
	return token, nil
}

func (d *document) directive(directive map[string]any) error {
	if namespace, ok := directive["Namespace"].(string); !ok || namespace == "" || len(namespace) > 255 {
		return fmt.Errorf("namespace %v", directive["Namespace"])
	}
	sets, ok := directive["Dimensions"].([]any)
	if !ok || len(sets) == 0 {
		return errors.New("no dimension set")
	}
	for _, set := range sets {
		names, ok := set.([]any)
		if !ok || len(names) > 30 {
			return fmt.Errorf("dimension set %v", set)
		}
		var all []string
		for _, name := range names {
			text, ok := name.(string)
			if !ok || text == "" || len(text) > 250 || slices.Contains(all, text) {
				return fmt.Errorf("dimension %v", name)
			}
			target, ok := d.root[text].(string)
			if !ok || strings.TrimSpace(target) == "" || len(target) > 1024 || strings.IndexFunc(target, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
				return fmt.Errorf("dimension %s has the target %v", text, d.root[text])
			}
			all = append(all, text)
		}
		d.dimensions = append(d.dimensions, all)
	}
	metrics, ok := directive["Metrics"].([]any)
	if !ok || len(metrics) == 0 || len(metrics) > 100 {
		return fmt.Errorf("metrics %v", directive["Metrics"])
	}
	for _, one := range metrics {
		m, ok := one.(map[string]any)
		if !ok || len(m) != 2 {
			return fmt.Errorf("metric %v", one)
		}
		if err := d.metric(m); err != nil {
			return err
		}
	}
	return nil
}

func (d *document) metric(m map[string]any) error {
	name, ok := m["Name"].(string)
	if !ok || name == "" || len(name) > 255 || slices.Contains(d.names, name) {
		return fmt.Errorf("metric name %v", m["Name"])
	}
	unit, ok := m["Unit"].(string)
	if !ok || !slices.Contains(units, unit) {
		return fmt.Errorf("unit %v of %s", m["Unit"], name)
	}
	targets, ok := d.root[name].([]any)
	if !ok {
		targets = []any{d.root[name]}
	}
	if len(targets) == 0 || len(targets) > 100 {
		return fmt.Errorf("%s has %d values", name, len(targets))
	}
	for _, target := range targets {
		number, ok := target.(json.Number)
		if !ok {
			return fmt.Errorf("%s is %v", name, target)
		}
		f, err := number.Float64()
		if err != nil || math.Abs(f) > math.Ldexp(1, 360) {
			return fmt.Errorf("%s is %v: %w", name, target, err)
		}
		d.values[name] = append(d.values[name], f)
	}
	d.names, d.units[name] = append(d.names, name), unit
	return nil
}

// parseAll reads every line.
func parseAll(out *bytes.Buffer, now time.Time) ([]document, error) {
	var all []document
	for line := range strings.Lines(out.String()) {
		d, err := parse(line, now)
		if err != nil {
			return nil, fmt.Errorf("%w in %.300s", err, line)
		}
		all = append(all, d)
	}
	return all, nil
}
