// Package picture draws the dashboard of a synthesised template with the metrics of a recorded run, as a self-contained SVG. What the recording
// does not say is drawn as "no data" and never made up.
package picture

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Board is a dashboard, with names in place of references. It is safe for concurrent use once it is parsed.
type Board struct {
	widgets []widget
}

// widget is one of the dashboard's body.
type widget struct {
	Type                string
	X, Y, Width, Height int
	Properties          struct {
		Title, Markdown string
		Alarms, States  []string
		Stacked         bool
		YAxis           struct{ Left struct{ Label string } }
		Metrics         [][]any
		InsightRule     struct {
			RuleName            string
			MaxContributorCount int
		}
	}

	lines   []line
	ranking ranking // of InsightRule
}

// line is what is drawn of a graph's metrics.
type line struct {
	label   string
	metrics []metric
	factor  float64
}

type metric struct{ key, stat string }

// ranking counts lines of logs by the values of a field.
type ranking struct {
	functions, in []string
	match, field  string
	most          int
}

// Bounds of what CloudWatch takes, so that no file makes a picture without end.
const (
	maxWidgets = 500
	maxRows    = 1000
	columns    = 24
)

// ParseBoard finds the dashboard in a template.
func ParseBoard(t Template) (Board, error) {
	var b Board
	for id, r := range t.Resources {
		if r.Type != "AWS::CloudWatch::Dashboard" {
			continue
		}
		body, err := t.Resolve(r.Properties["DashboardBody"])
		if err != nil {
			return b, fmt.Errorf("dashboard %s: %w", id, err)
		}
		var parsed struct{ Widgets []widget }
		if err := json.Unmarshal([]byte(body), &parsed); err != nil {
			return b, fmt.Errorf("dashboard %s: its body is not as CloudWatch wants it: %w", id, err)
		}
		b.widgets = parsed.Widgets
	}
	if len(b.widgets) == 0 || len(b.widgets) > maxWidgets {
		return b, fmt.Errorf("the template has %d widgets on dashboards, want 1 to %d: name one that `make synth` or `go test ./infra/stack -update` wrote", len(b.widgets), maxWidgets)
	}
	var errs []error
	for i := range b.widgets {
		if err := b.widgets[i].understand(t); err != nil {
			errs = append(errs, fmt.Errorf("widget %d, %.80q: %w", i+1, b.widgets[i].Properties.Title, err))
		}
	}
	return b, errors.Join(errs...)
}

func (w *widget) understand(t Template) error {
	if w.X < 0 || w.Y < 0 || w.Width < 1 || w.Height < 1 || w.X+w.Width > columns || w.Y+w.Height > maxRows {
		return fmt.Errorf("stands at %d, %d with %d × %d, which is not on the grid", w.X, w.Y, w.Width, w.Height)
	}
	if name := w.Properties.InsightRule.RuleName; name != "" {
		return w.understandRule(t, name)
	}
	return w.understandMetrics()
}

// understandMetrics makes lines of the metrics: those that are shown, and expressions over those that are not.
func (w *widget) understandMetrics() error {
	byID := map[string]metric{}
	for _, entry := range w.Properties.Metrics {
		var texts []string
		var how struct {
			Label, Stat, ID, Expression string
			Visible                     *bool
		}
		for _, part := range entry {
			if text, ok := part.(string); ok {
				texts = append(texts, text)
			} else if err := remarshal(part, &how); err != nil {
				return err
			}
		}
		if how.Expression != "" {
			l, err := compute(how.Expression, byID)
			if err != nil {
				return err
			}
			l.label = how.Label
			w.lines = append(w.lines, l)
			continue
		}
		if len(texts) < 2 || len(texts)%2 != 0 {
			return fmt.Errorf("metric %.80v: want namespace, name and pairs of dimensions", entry)
		}
		m := metric{keyOf(texts[0], texts[1], texts[2:]), how.Stat}
		byID[how.ID] = m
		if how.Visible == nil || *how.Visible {
			w.lines = append(w.lines, line{label: how.Label, metrics: []metric{m}, factor: 1})
		}
	}
	return nil
}

func remarshal(from, to any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}

// expression is the arithmetic that the stack uses: a metric or the sum of some, times a number.
var expression = regexp.MustCompile(`^(?:SUM\(\[([a-z0-9_,]+)\]\)|([a-z0-9_]+))(?:\*([0-9.e+-]+))?$`)

func compute(text string, byID map[string]metric) (line, error) {
	m := expression.FindStringSubmatch(text)
	if m == nil {
		return line{}, fmt.Errorf("%.80q is no expression that is known here: teach it to the program", text)
	}
	l := line{factor: 1}
	if m[3] != "" {
		var err error
		if l.factor, err = strconv.ParseFloat(m[3], 64); err != nil {
			return line{}, fmt.Errorf("%.80q: %w", text, err)
		}
	}
	for id := range strings.SplitSeq(m[1]+m[2], ",") {
		metric, ok := byID[id]
		if !ok {
			return line{}, fmt.Errorf("%.80q uses %s, which stands nowhere before it", text, id)
		}
		l.metrics = append(l.metrics, metric)
	}
	return l, nil
}

// keyOf names a metric. Which service it is of is left out: a local run is of one.
func keyOf(namespace, name string, pairs []string) string {
	var dimensions []string
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] != "Service" {
			dimensions = append(dimensions, pairs[i]+"="+pairs[i+1])
		}
	}
	slices.Sort(dimensions)
	return namespace + "/" + name + "/" + strings.Join(dimensions, "/")
}

func (w *widget) understandRule(t Template, name string) error {
	for _, r := range t.Resources {
		if r.Type != "AWS::CloudWatch::InsightRule" || r.Properties["RuleName"] != name {
			continue
		}
		text, err := t.Resolve(r.Properties["RuleBody"])
		if err != nil {
			return err
		}
		var body struct {
			LogGroupNames []string
			Contribution  struct {
				Keys    []string
				Filters []struct {
					Match string
					In    []string
				}
			}
		}
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			return fmt.Errorf("rule %s: %w", name, err)
		}
		c := body.Contribution
		if len(c.Keys) != 1 || len(c.Filters) != 1 {
			return fmt.Errorf("rule %s has %d keys and %d filters, known here are rules with one of each", name, len(c.Keys), len(c.Filters))
		}
		w.ranking = ranking{
			match: strings.TrimPrefix(c.Filters[0].Match, "$."), in: c.Filters[0].In, field: strings.TrimPrefix(c.Keys[0], "$."),
			most: max(1, min(w.Properties.InsightRule.MaxContributorCount, 100)),
		}
		for _, group := range body.LogGroupNames {
			w.ranking.functions = append(w.ranking.functions, strings.TrimSuffix(group, "/logs"))
		}
		return nil
	}
	return fmt.Errorf("the template has no rule %.80q", name)
}
