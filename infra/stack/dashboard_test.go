package stack_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/infra/runbooks"
	"github.com/waybillhq/waybill/shared/telemetry"
	"github.com/waybillhq/waybill/shared/topology"
)

const dashboardID = "dashboard/dashboard"

// dashboardResources are the dashboard and the rankings, of which the contract knows each letter.
func (c contract) dashboardResources() document {
	all := document{dashboardID: resource("AWS::CloudWatch::Dashboard", document{"DashboardBody": c.dashboard})}
	for name, field := range map[string]string{"failing-destinations": "destination", "failure-reasons": "reason"} {
		all["dashboard/"+name] = resource("AWS::CloudWatch::InsightRule", document{
			"RuleName": "waybill-" + name, "RuleState": "ENABLED",
			"RuleBody": join(`{"AggregateOn":"Count","Contribution":{"Filters":[{"In":["attempt failed"],"Match":"$.message"}],"Keys":["$.`+field+
				`"]},"LogFormat":"JSON","LogGroupNames":["`, ref("function-deliverer/logs/Resource"), `","`, ref("function-slowlane/logs/Resource"),
				`"],"Schema":{"Name":"CloudWatchLogRule","Version":1}}`),
		})
	}
	return all
}

// dashboardBody is the body with construct paths in it, as the template has it.
func (s synthesis) dashboardBody() any {
	paths := map[string]string{}
	var body any = "the template has none"
	for id, r := range s.template["Resources"].(document) {
		paths[id] = path(id, r.(document))
		if paths[id] == dashboardID {
			body = properties(r.(document))["DashboardBody"]
		}
	}
	var mine any
	if err := json.Unmarshal(encode(body), &mine); err != nil {
		panic(err) // it was JSON before
	}
	return rename(mine, paths)
}

// block is a widget.
type block struct {
	Type                string
	X, Y, Width, Height int
	Properties          struct {
		Title, Region, View, Markdown string
		Alarms, States                []string
		Metrics                       [][]any
		InsightRule                   struct{ RuleName string }
	}
}

// widgets are those of the dashboard. What CloudFormation fills in stands there as the construct path and the attribute.
func (s synthesis) widgets() []block {
	body := s.dashboardBody()
	text, _ := body.(string)
	if d, ok := body.(document); ok {
		for _, part := range d["Fn::Join"].([]any)[1].([]any) {
			switch part := part.(type) {
			case string:
				text += part
			case document:
				if ref, ok := part["Ref"].(string); ok {
					text += ref
				} else {
					of := part["Fn::GetAtt"].([]any)
					text += fmt.Sprintf("%v.%v", of[0], of[1])
				}
			}
		}
	}
	var dashboard struct{ Widgets []block }
	if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
		panic(fmt.Sprintf("the body is not JSON: %v\n%s", err, text))
	}
	return dashboard.Widgets
}

// shown is a metric on the dashboard, or an expression over some.
type shown struct {
	widget, namespace, name   string
	dimensions                []string // name, value, name, value
	stat, id, label, computed string
	hidden                    bool
}

func (s synthesis) shown() (all []shown) {
	for _, w := range s.widgets() {
		for _, metric := range w.Properties.Metrics {
			m := shown{widget: w.Properties.Title}
			var texts []string
			for _, part := range metric {
				switch part := part.(type) {
				case string:
					texts = append(texts, part)
				case document:
					m.stat, _ = part["stat"].(string)
					m.id, _ = part["id"].(string)
					m.label, _ = part["label"].(string)
					m.computed, _ = part["expression"].(string)
					m.hidden = part["visible"] == false
				}
			}
			if len(texts) > 2 {
				m.namespace, m.name, m.dimensions = texts[0], texts[1], texts[2:]
			}
			all = append(all, m)
		}
	}
	return all
}

// dashboardMetrics are our own metrics on the dashboard, which are held to those that are published.
func (s synthesis) dashboardMetrics() (found []metric) {
	for _, m := range s.shown() {
		if m.namespace != telemetry.Namespace {
			continue
		}
		own := metric{at: "dashboard: " + m.widget, name: m.name}
		for i := 0; i+1 < len(m.dimensions); i += 2 {
			switch m.dimensions[i] {
			case "Service":
				own.service = m.dimensions[i+1]
			case "Function":
				own.function = m.dimensions[i+1]
			default:
				own.name += " by " + m.dimensions[i]
			}
		}
		found = append(found, own)
	}
	return found
}

func TestDashboardFitsOnAScreen(t *testing.T) {
	for name, s := range templates(t) {
		taken := map[[2]int]string{}
		rows := 0
		for _, w := range s.widgets() {
			title := w.Type + " " + w.Properties.Title
			if w.X < 0 || w.Y < 0 || w.Width < 4 || w.Height < 3 || w.X+w.Width > 24 {
				t.Errorf("%s: %s stands at %d, %d with %d × %d: a dashboard has 24 columns, and less cannot be read", name, title, w.X, w.Y, w.Width, w.Height)
			}
			rows = max(rows, w.Y+w.Height)
			for x := w.X; x < w.X+w.Width; x++ {
				for y := w.Y; y < w.Y+w.Height; y++ {
					if other, ok := taken[[2]int{x, y}]; ok {
						t.Fatalf("%s: %s lies over %s", name, title, other)
					}
					taken[[2]int{x, y}] = title
				}
			}
		}
		if rows > 30 || len(taken) < 24*rows {
			t.Errorf("%s: %d rows with %d of %d places taken: one screen is 30 rows, without holes", name, rows, len(taken), 24*rows)
		}
	}
}

func TestDashboardShowsTheTopology(t *testing.T) {
	for name, s := range templates(t) {
		found := map[string]bool{}
		for _, m := range s.shown() {
			if len(m.dimensions) > 1 {
				found[m.dimensions[0]+" "+m.dimensions[1]] = true
			}
		}
		for _, q := range s.props.Topology.Queues {
			if !found["QueueName queue-"+string(q.Name)+"/Resource.QueueName"] {
				t.Errorf("%s: queue %s is not on the dashboard", name, q.Name)
			}
		}
		for _, f := range (contract{Props: s.props}).chosen().Functions {
			if !found["FunctionName function-"+string(f.Name)+"/function/Resource"] {
				t.Errorf("%s: function %s is not on the dashboard", name, f.Name)
			}
		}
		for _, table := range s.props.Topology.Tables {
			if !found["TableName table-"+string(table.Name)+"/Resource"] {
				t.Errorf("%s: table %s is not on the dashboard", name, table.Name)
			}
		}
		var want, got []string
		for _, row := range s.props.Topology.Dashboard() {
			for _, p := range row {
				want = append(want, p.Title)
			}
		}
		for _, w := range s.widgets() {
			if w.Type == "metric" {
				got = append(got, w.Properties.Title)
				if w.Properties.Region != "AWS::Region" || w.Properties.Metrics == nil && w.Properties.InsightRule.RuleName == "" {
					t.Errorf("%s: %s shows nothing, or another region", name, w.Properties.Title)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the graphs are %q, want %q", name, got, want)
		}
	}
}

// The documented metrics of AWS, with their dimensions. One that does not exist shows as an empty graph, which looks like peace.
// Sources: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html
var published = map[string]struct {
	dimension string
	names     []string
}{
	topology.AWSQueue: {"QueueName", strings.Fields(`ApproximateAgeOfOldestMessage ApproximateAgeOfOldestMessageInQuietGroups ApproximateNumberOfMessagesDelayed
		ApproximateNumberOfMessagesNotVisible ApproximateNumberOfMessagesVisible ApproximateNumberOfNoisyGroups NumberOfEmptyReceives NumberOfMessagesDeleted
		NumberOfMessagesReceived NumberOfMessagesSent`)},
	topology.AWSFunction: {"FunctionName", strings.Fields("Invocations Errors Throttles Duration ConcurrentExecutions")},
	topology.AWSTable:    {"TableName", strings.Fields("ConsumedReadCapacityUnits ConsumedWriteCapacityUnits ReadThrottleEvents WriteThrottleEvents")},
}

func (s synthesis) graphs() (problems []string) {
	add := func(m shown, format string, args ...any) {
		problems = append(problems, fmt.Sprintf("%s: %s: ", m.widget, m.label+m.name)+fmt.Sprintf(format, args...))
	}
	ids := map[string][]string{} // those that expressions may use, by widget
	seen := map[string]bool{}
	for _, m := range s.shown() {
		key := m.widget + "/" + m.label + m.id
		if seen[key] || m.label == "" != m.hidden {
			add(m, "a line has a label of its own, and what is not shown has none")
		}
		seen[key] = true
		if m.id != "" {
			ids[m.widget] = append(ids[m.widget], m.id)
		}
		switch known, ok := published[m.namespace]; {
		case m.computed != "":
			for _, id := range regexp.MustCompile(`\b[a-z]\w*\b`).FindAllString(m.computed, -1) {
				if !slices.Contains(ids[m.widget], id) {
					add(m, "%s uses %s, which is no id there", m.computed, id)
				}
			}
		case m.namespace == telemetry.Namespace:
		case !ok || !slices.Contains(known.names, m.name) || len(m.dimensions) != 2 || m.dimensions[0] != known.dimension:
			add(m, "AWS publishes no metric %s %s by %q", m.namespace, m.name, m.dimensions)
		}
		if m.computed == "" && m.stat == "" {
			add(m, "has no statistic")
		}
		// A tenant or a destination as a dimension would be a metric for each, and each is paid for.
		for i := 0; i < len(m.dimensions); i += 2 {
			if !slices.Contains([]string{"QueueName", "FunctionName", "TableName", "Service", "Function"}, m.dimensions[i]) {
				add(m, "is by %s", m.dimensions[i])
			}
		}
	}
	return problems
}

func TestGraphsShowWhatIsPublished(t *testing.T) {
	for name, s := range templates(t) {
		for _, problem := range s.graphs() {
			t.Errorf("%s: %s", name, problem)
		}
	}
}

// A function's graph is of what that function counts, or what it is made of does.
func TestGraphsAreOfFunctionsThatCountThis(t *testing.T) {
	counts := func(roots ...string) string {
		return strings.ReplaceAll(sources(t, roots...), ".Settled(", "telemetry.SettledLatency ")
	}
	shared := counts("../../shared", "../../functions/wiring")
	own := map[string]string{}
	for _, m := range templates(t)[plain].dashboardMetrics() {
		if own[m.function] == "" {
			own[m.function] = counts("../../functions/" + m.function)
		}
		counter := regexp.MustCompile(`telemetry\.` + m.name + `\b`)
		if !counter.MatchString(own[m.function]) && !counter.MatchString(shared) {
			t.Errorf("%s: %s does not count %s", m.at, m.function, m.name)
		}
	}
}

func TestDashboardBeginsWithThePages(t *testing.T) {
	for name, s := range templates(t) {
		var pages, raised []string
		for _, w := range s.widgets() {
			switch {
			case w.Type != "alarm":
				continue
			case w.Y != 0 || len(w.Properties.Alarms) > 100:
				t.Errorf("%s: %s stands in row %d with %d alarms", name, w.Properties.Title, w.Y, len(w.Properties.Alarms))
			}
			if w.Properties.States == nil {
				pages = append(pages, w.Properties.Alarms...)
			} else {
				raised = append(raised, w.Properties.Alarms...)
			}
		}
		var want, children []string
		if (contract{Props: s.props}).tells() {
			for _, page := range topology.Pages() {
				if page.Name == topology.CanaryMissing && !(contract{Props: s.props}).hasCanary() {
					continue
				}
				want = append(want, "alarms/page-"+string(page.Name)+".Arn")
			}
			c := contract{Props: s.props}
			c.Topology = c.chosen()
			for _, a := range c.Topology.Alarms(c.asked) {
				children = append(children, "alarms/"+a.Name+".Arn")
			}
		}
		if !slices.Equal(pages, want) || !slices.Equal(raised, children) {
			t.Errorf("%s: the pages are %q, want %q; the alarms are %q, want %q", name, pages, want, raised, children)
		}
	}
}

func TestDashboardLinksEveryRunbook(t *testing.T) {
	link := regexp.MustCompile(`\[([a-z-]+)\]\((https://[^)]*)/([a-z-]+)\.md\)`)
	for name, s := range templates(t) {
		folder := "https://github.com/waybillhq/waybill/blob/main/infra/runbooks"
		if s.props.Alarms.Runbooks != "" {
			folder = s.props.Alarms.Runbooks
		}
		linked := map[string]bool{}
		for _, w := range s.widgets() {
			for _, l := range link.FindAllStringSubmatch(w.Properties.Markdown, -1) {
				if _, err := os.Stat("../runbooks/" + l[3] + ".md"); err != nil || l[1] != l[3] || l[2] != folder {
					t.Errorf("%s: the link %s leads nowhere: %v", name, l[0], err)
				}
				linked[l[1]] = true
			}
		}
		for _, page := range append(topology.Pages(), topology.Page{Name: runbooks.OnCall}) {
			if !linked[string(page.Name)] {
				t.Errorf("%s: no link to the runbook of %s", name, page.Name)
			}
		}
	}
}

// A ranking counts lines that the functions write, by a field that those lines have.
func TestRankingsAreOfLinesThatAreWritten(t *testing.T) {
	subject := map[string]bool{}
	for _, a := range (telemetry.Subject{Event: "e", Delivery: "d", Destination: "d", Tenant: "t", Trace: "t", Attempt: 1}).Attrs() {
		subject[a.Key] = true
	}
	top := topology.New(topology.LowLatency)
	rankings := top.Rankings()
	if len(rankings) < 2 {
		t.Fatalf("only the rankings %v", rankings)
	}
	for _, r := range rankings {
		if !slices.Contains(telemetry.Fields(), r.Field) {
			t.Errorf("%s: no line has a field %s", r.Name, r.Field)
		}
		for _, name := range r.Functions {
			f, _ := top.Function(name)
			line := logCall(t, "../../functions/"+string(f.Publishes()), r.Message)
			key := "telemetry.Key" + strings.ToUpper(r.Field[:1]) + r.Field[1:]
			if !strings.Contains(line, key+",") && !(subject[r.Field] && strings.Contains(line, "subject().Attrs()")) {
				t.Errorf("%s: the lines %q of %s have no field %s: %s", r.Name, r.Message, name, r.Field, line)
			}
		}
	}
}

// logCall is the statement that logs a message.
func logCall(t *testing.T, folder, message string) string {
	t.Helper()
	files, err := filepath.Glob(folder + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, rest, ok := strings.Cut(string(text), fmt.Sprintf("%q", message)); ok && !strings.HasSuffix(file, "_test.go") {
			statement, _, _ := strings.Cut(rest, "\n}")
			return statement
		}
	}
	return ""
}

func TestABrokenDashboardIsNoticed(t *testing.T) {
	for want, change := range map[string][2]string{
		"AWS publishes no metric AWS/SQS ApproximateNumberOfMessages by": {"ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessages"},
		"is by Destination":             {`\"TableName\",`, `\"Destination\",`},
		"uses m0_7, which is no id":     {`SUM([m0_0,`, `SUM([m0_7,`},
		"a line has a label of its own": {`\"label\":\"unmatched\"`, `\"label\":\"routed\"`},
	} {
		s := templates(t)[plain]
		var template document
		text := strings.ReplaceAll(string(encode(s.template)), change[0], change[1])
		if err := json.Unmarshal([]byte(text), &template); err != nil {
			t.Fatal(err)
		}
		s.template = template
		if got := s.graphs(); !slices.ContainsFunc(got, func(problem string) bool { return strings.Contains(problem, want) }) {
			t.Errorf("want a problem with %q, got %q", want, got)
		}
	}
	// What a graph is of may be renamed in either place.
	s := templates(t)[plain].copy()
	body := properties(find(s, dashboardID))["DashboardBody"].(document)["Fn::Join"].([]any)[1].([]any)
	for i, part := range body {
		if text, ok := part.(string); ok {
			body[i] = strings.ReplaceAll(text, `"Unmatched"`, `"Unwanted"`)
		}
	}
	if got := s.unpublished(t); len(got) != 1 || !strings.Contains(got[0], "Unwanted is no metric of ours") {
		t.Errorf("want one problem with Unwanted, got %q", got)
	}
}

// Each of the contract's own rankings is one of the topology's.
func TestRankingsAreThoseOfTheTopology(t *testing.T) {
	var names []string
	for _, r := range topology.New(topology.LowLatency).Rankings() {
		names = append(names, "dashboard/"+r.Name)
	}
	all := contract{}.dashboardResources()
	delete(all, dashboardID)
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(slices.Sorted(slices.Values(names)), got) {
		t.Errorf("the topology ranks %q, the contract %q", names, got)
	}
}
