package stack_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/telemetry"
)

// An alarm on a metric that nobody publishes is never raised, and nobody notices.

// metric is what the template says of one of our own metrics.
type metric struct{ at, name, function, service, version string }

// custom gives every mention of a metric of ours in the template, whatever resource it is in.
func (s synthesis) custom() []metric {
	var found []metric
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case []any:
			for i := range v {
				walk(at, v[i])
			}
		case document:
			if v["Namespace"] == telemetry.Namespace {
				m := metric{at: at, name: fmt.Sprint(v["MetricName"])}
				dimensions, _ := v["Dimensions"].([]any)
				for _, d := range dimensions {
					switch d := d.(document); d["Name"] {
					case "Service":
						m.service = fmt.Sprint(d["Value"])
					case "Function":
						m.function = fmt.Sprint(d["Value"])
					case "Version":
						m.version = "7"
					default:
						m.name = fmt.Sprintf("%s by %v", m.name, d["Name"])
					}
				}
				found = append(found, m)
			}
			for key := range v {
				walk(at, v[key])
			}
		}
	}
	for id, r := range s.template["Resources"].(document) {
		walk(path(id, r.(document)), r.(document)["Properties"])
	}
	return append(found, s.dashboardMetrics()...)
}

// unpublished are the mentions of metrics that no function publishes.
func (s synthesis) unpublished(t *testing.T) []string {
	t.Helper()
	var problems []string
	for _, m := range s.custom() {
		at := slices.IndexFunc(telemetry.Metrics(), func(d telemetry.Definition) bool { return d.Name == m.name })
		if at < 0 {
			problems = append(problems, fmt.Sprintf("%s: %s is no metric of ours", m.at, m.name))
			continue
		}
		var line bytes.Buffer
		emitter, err := telemetry.New(telemetry.Config{Function: m.function, Version: m.version, Writer: &line})
		if err != nil {
			t.Fatalf("%s: %v", m.at, err)
		}
		batch := telemetry.NewBatch()
		batch.Count(telemetry.Records, 1)
		batch.Count(telemetry.Metrics()[at].Metric, 1) // of another kind: left out
		emitter.Emit(batch)
		var published struct {
			Service, Function string
			AWS               struct {
				CloudWatchMetrics []struct {
					Namespace  string
					Dimensions [][]string
				}
			} `json:"_aws"`
		}
		if err := json.Unmarshal(line.Bytes(), &published); err != nil {
			t.Fatal(err)
		}
		form, want := published.AWS.CloudWatchMetrics[0], "[[Service Function]]"
		if m.version != "" {
			form, want = published.AWS.CloudWatchMetrics[len(published.AWS.CloudWatchMetrics)-1], "[[Service Function Version]]"
		}
		if form.Namespace != "Waybill" || fmt.Sprint(form.Dimensions) != want || published.Service != m.service || published.Function != m.function {
			problems = append(problems, fmt.Sprintf("%s: %s of %s %s is published as %s", m.at, m.name, m.service, m.function, line.String()))
		}
	}
	return problems
}

func TestMetricsAreThoseThatArePublished(t *testing.T) {
	for name, s := range templates(t) {
		if len(s.custom()) == 0 && (s.props.Alarms.Email != nil) {
			t.Errorf("%s: no metric of ours found: the test looks in the wrong place", name)
		}
		for _, problem := range s.unpublished(t) {
			t.Errorf("%s: %s", name, problem)
		}
	}
}

// sources is the code below folders, without tests and without package telemetry, which names all metrics.
func sources(t *testing.T, roots ...string) string {
	t.Helper()
	var code strings.Builder
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/telemetry/") {
				return err
			}
			text, err := os.ReadFile(path)
			code.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return code.String()
}

// A metric in the table that no code counts is not published either.
func TestMetricsAreCounted(t *testing.T) {
	// What package telemetry itself counts along with others.
	counted := strings.NewReplacer(".Settled(", "telemetry.SettledTotal telemetry.SettledGood telemetry.SettledLatency ",
		"telemetry.OldestParked", "telemetry.OldestParked telemetry.OldestHeld").Replace(sources(t, "../../functions", "../../shared"))
	for _, m := range templates(t)[plain].custom() {
		if !strings.Contains(counted, "telemetry."+m.name) {
			t.Errorf("%s: no code counts %s", m.at, m.name)
		}
	}
}

func TestAMetricThatDoesNotExistIsNoticed(t *testing.T) {
	for name, change := range map[string]func(properties document){
		"Parcels is no metric of ours": func(p document) { p["MetricName"] = "Parcels" },
		"Parked by Tenant is no metric": func(p document) {
			p["MetricName"], p["Dimensions"] = "Parked", append(p["Dimensions"].([]any), document{"Name": "Tenant", "Value": "acme"})
		},
		"of other deliverer is published as": func(p document) { p["Dimensions"].([]any)[0].(document)["Value"] = "other" },
	} {
		s := templates(t)[plain].copy()
		change(properties(find(s, "alarms/deliveries-given-up")))
		if got := s.unpublished(t); len(got) != 1 || !strings.Contains(got[0], name) {
			t.Errorf("want one problem with %q, got %q", name, got)
		}
	}
}
