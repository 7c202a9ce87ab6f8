package stack_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// alarmTable is the table of all alarms as the README has it, by page, made from the template.
func (s synthesis) alarmTable() string {
	resources := s.template["Resources"].(document)
	pages := map[string]string{} // by logical id of an alarm
	for _, r := range resources {
		if r := r.(document); r["Type"] == "AWS::CloudWatch::CompositeAlarm" {
			rule := string(encode(properties(r)["AlarmRule"]))
			for id := range resources {
				if strings.Contains(rule, `{"Ref":"`+id+`"}`) {
					pages[id] = strings.TrimPrefix(fmt.Sprint(properties(r)["AlarmName"]), "waybill-")
				}
			}
		}
	}
	type row struct{ page, name, text string }
	var rows []row
	for id, r := range resources {
		r := r.(document)
		if r["Type"] != "AWS::CloudWatch::Alarm" {
			continue
		}
		p := properties(r)
		name := strings.TrimPrefix(fmt.Sprint(p["AlarmName"]), "waybill-")
		if strings.HasPrefix(name, "release-") {
			continue // takes a release back and calls nobody: topology.Rollbacks says why
		}
		sign := map[any]string{"GreaterThanOrEqualToThreshold": "≥", "LessThanThreshold": "<"}[p["ComparisonOperator"]]
		metric, statistic, length := watched(p)
		period := strings.NewReplacer("h0m0s", "h", "m0s", "m").Replace(seconds(length).String())
		rows = append(rows, row{pages[id], name, fmt.Sprintf("%v of `%v` %s %s, in %v of %v × %s | %s", statistic, metric, sign,
			readable(fmt.Sprint(metric, "/", statistic), p["Threshold"].(float64)), p["DatapointsToAlarm"], p["EvaluationPeriods"], period,
			map[any]string{"notBreaching": "good", "breaching": "bad"}[p["TreatMissingData"]])})
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(strings.Compare(a.page, b.page), strings.Compare(a.name, b.name)) })
	var table strings.Builder
	table.WriteString("| page | alarm | raised when | no data is |\n|---|---|---|---|\n")
	last := ""
	for _, r := range rows {
		page := ""
		if r.page != last {
			page, last = fmt.Sprintf("[%s](runbooks/%s.md)", r.page, r.page), r.page
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", page, r.name, r.text)
	}
	return table.String()
}

// watched are an alarm's metric, the statistic of it and the seconds of a period.
func watched(p document) (metric, statistic any, period float64) {
	if parts, ok := p["Metrics"].([]any); ok {
		stat := parts[0].(document)["MetricStat"].(document)
		return stat["Metric"].(document)["MetricName"], stat["Stat"], stat["Period"].(float64)
	}
	if statistic = p["Statistic"]; statistic == nil {
		statistic = p["ExtendedStatistic"]
	}
	return p["MetricName"], statistic, p["Period"].(float64)
}

// readable is a threshold with its unit, of a metric/statistic.
func readable(metric string, threshold float64) string {
	switch {
	case strings.HasSuffix(metric, "/SampleCount"): // a number, whatever is measured
	case strings.Contains(metric, "Age"), strings.Contains(metric, "Oldest"), strings.HasPrefix(metric, "WakerLag"):
		if d := seconds(threshold); d >= 24*time.Hour {
			return fmt.Sprintf("%v days", d.Hours()/24)
		}
		return fmt.Sprintf("%v s", threshold)
	case strings.Contains(metric, "Duration"), strings.Contains(metric, "Latency"):
		return fmt.Sprintf("%v ms", threshold)
	}
	return fmt.Sprint(threshold)
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

const (
	tableBegins = "<!-- made from the template by go test ./infra/stack -update -->\n"
	tableEnds   = "<!-- end -->"
)

func TestREADMEListsEveryAlarm(t *testing.T) {
	want := templates(t)[plain].alarmTable()
	if n := strings.Count(want, "\n"); n < 50 {
		t.Fatalf("only %d lines in\n%s", n, want)
	}
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), tableBegins)
	got, after, ok2 := strings.Cut(rest, tableEnds)
	if !ok1 || !ok2 {
		t.Fatalf("README.md has no lines %q and %q", tableBegins, tableEnds)
	}
	if *update {
		if err := os.WriteFile("../README.md", []byte(before+tableBegins+want+tableEnds+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("README.md lists other alarms than the template has: if that is meant, run `go test ./infra/stack -update`\n%s", want)
	}
}

// What alarms cost is told by their number; those of the canary are told of with the canary.
func TestREADMECountsAlarmsAndPages(t *testing.T) {
	silent, rollbacks, pages := 0, 0, 0
	for _, r := range templates(t)[plain].template["Resources"].(document) {
		p, _ := r.(document)["Properties"].(document)
		switch kind := r.(document)["Type"]; {
		case strings.Contains(fmt.Sprint(p["AlarmName"]), "canary"):
		case kind == "AWS::CloudWatch::CompositeAlarm":
			pages++
		case kind == "AWS::CloudWatch::Alarm" && strings.Contains(fmt.Sprint(p["AlarmName"]), "-release-"):
			rollbacks++
		case kind == "AWS::CloudWatch::Alarm":
			silent++
		}
	}
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("each of the %d alarms", silent), fmt.Sprintf("each of the %d pages", pages), fmt.Sprintf("the %d alarms that take", rollbacks),
	} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("README.md does not say %q", want)
		}
	}
}

// A page without its alarms, or an alarm without a page, would not show in the table.
func TestEveryAlarmIsOfOnePage(t *testing.T) {
	for line := range strings.Lines(templates(t)[plain].alarmTable()) {
		if strings.Contains(line, "[](runbooks/.md)") {
			t.Errorf("no page is raised by this alarm: %s", line)
		}
	}
}

// The command of runbooks/on-call.md that gives a shell the names of the stack's queues and tables, over the outputs that the stack really has.
func TestShellLearnsTheNamesFromTheOutputs(t *testing.T) {
	shell, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	text, err := os.ReadFile("../runbooks/on-call.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "| awk '")
	program, _, ok := strings.Cut(rest, "'")
	if !ok {
		t.Fatal("on-call.md has no awk program")
	}
	s := templates(t)[plain]
	var outputs bytes.Buffer
	for _, id := range slices.Sorted(maps.Keys(s.template["Outputs"].(document))) {
		fmt.Fprintf(&outputs, "%s\tvalue-of-%s\n", id, id)
	}
	cmd := exec.CommandContext(t.Context(), shell, "-c", "awk '"+program+"'")
	cmd.Stdin = &outputs
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, q := range s.props.Topology.Queues {
		if want := "export " + q.Name.URLVariable() + "=value-of-Queue"; !strings.Contains(string(out), want) {
			t.Errorf("the command does not give %s…, only\n%s", want, out)
		}
	}
	for _, table := range s.props.Topology.Tables {
		if want := "export " + table.Name.NameVariable() + "=value-of-Table"; !strings.Contains(string(out), want) {
			t.Errorf("the command does not give %s…, only\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "TOPIC") {
		t.Errorf("the command gives what no program asks for:\n%s", out)
	}
}
