package telemetry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/waybillhq/waybill/shared/telemetry"
)

// The metrics by which a release is judged are published by version too, and only those: each metric is paid for once more.
func TestReleasesAreJudgedByVersion(t *testing.T) {
	for name, test := range map[string]struct {
		version string
		metrics []telemetry.Metric
		want    string // dimensions and names
	}{
		"by version":         {"7", []telemetry.Metric{telemetry.Records, telemetry.Attempts, telemetry.Delivered}, "[{[[Service Function]] [Records Attempts Delivered]} {[[Service Function Version]] [Attempts Delivered]}]"},
		"none delivered":     {"7", []telemetry.Metric{telemetry.Attempts}, "[{[[Service Function]] [Attempts]} {[[Service Function Version]] [Attempts]}]"},
		"none judged":        {"7", []telemetry.Metric{telemetry.Records}, "[{[[Service Function]] [Records]}]"},
		"version is unknown": {"", []telemetry.Metric{telemetry.Attempts}, "[{[[Service Function]] [Attempts]}]"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			e, err := telemetry.New(telemetry.Config{Function: "deliverer", Version: test.version, Writer: &out})
			if err != nil {
				t.Fatal(err)
			}
			b := telemetry.NewBatch()
			for _, m := range test.metrics {
				b.Count(m, 1)
			}
			e.Emit(b)
			var line struct {
				Version string
				AWS     struct {
					CloudWatchMetrics []struct {
						Dimensions [][]string
						Metrics    []struct{ Name string }
					}
				} `json:"_aws"`
			}
			if err := json.Unmarshal(out.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			type directive struct {
				dimensions [][]string
				names      []string
			}
			var got []directive
			for _, d := range line.AWS.CloudWatchMetrics {
				var names []string
				for _, m := range d.Metrics {
					names = append(names, m.Name)
				}
				got = append(got, directive{d.Dimensions, names})
			}
			if fmt.Sprint(got) != test.want || line.Version != test.version {
				t.Errorf("version %q, %v, want %s", line.Version, got, test.want)
			}
		})
	}
}
