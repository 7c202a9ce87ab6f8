package stack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// The grid of a dashboard. Twenty-nine rows of it are what a screen shows.
// Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
const (
	gridColumns  = 24
	statesRows   = 4
	panelRows    = 5
	textColumns  = 7
	mostAlarms   = 100 // in one widget
	contributors = 10
)

// object is JSON to be.
type object = map[string]any

// addDashboard adds the dashboard and the rankings that it shows. It stands in both stages, and whether or not anybody is called.
func (b *builder) addDashboard() {
	scope := constructs.NewConstruct(b.Stack, jsii.String("dashboard"))
	for _, r := range b.props.Topology.Rankings() {
		b.addRanking(scope, r)
	}
	widgets := b.stateWidgets()
	for i, row := range b.props.Topology.Dashboard() {
		width := gridColumns / len(row)
		for j, panel := range row {
			widgets = append(widgets, widget("metric", j*width, statesRows+i*panelRows, width, panelRows, b.panel(panel)))
		}
	}
	dashboard := awscloudwatch.NewCfnDashboard(scope, jsii.String("dashboard"), &awscloudwatch.CfnDashboardProps{
		DashboardBody: b.ToJsonString(object{"start": "-PT3H", "widgets": widgets}, nil),
	})
	b.output("DashboardUrl", jsii.String(fmt.Sprintf("https://%s.console.aws.amazon.com/cloudwatch/home?region=%[1]s#dashboards/dashboard/%s",
		*b.Region(), *dashboard.Ref())), "The dashboard, for a browser")
}

func widget(kind string, x, y, width, height int, properties object) object {
	return object{"type": kind, "x": x, "y": y, "width": width, "height": height, "properties": properties}
}

// stateWidgets are the row on top: the pages, what of their alarms is raised, and where to read what to do.
func (b *builder) stateWidgets() []any {
	if len(b.pages) == 0 {
		return []any{widget("text", 0, 0, gridColumns, statesRows, object{"markdown": "No alarms: nobody is named who is called. Option `alarms`. " + b.links()})}
	}
	// More alarms than a widget takes are spread over several. The pages are few.
	raised := slices.Collect(slices.Chunk(b.alarms, mostAlarms))
	width := (gridColumns - textColumns) / (len(raised) + 2)
	pages := gridColumns - textColumns - width*len(raised)
	widgets := []any{widget("alarm", 0, 0, pages, statesRows, object{"title": "Pages", "alarms": b.pages})}
	for i, alarms := range raised {
		widgets = append(widgets, widget("alarm", pages+i*width, 0, width, statesRows, object{"title": "Raised alarms", "alarms": alarms, "states": []string{"ALARM"}}))
	}
	return append(widgets, widget("text", gridColumns-textColumns, 0, textColumns, statesRows, object{"markdown": b.links()}))
}

// links lead to the runbooks.
func (b *builder) links() string {
	links := []string{fmt.Sprintf("Runbooks: [on-call](%son-call.md)", b.props.Alarms.runbooks())}
	for _, page := range topology.Pages() {
		links = append(links, fmt.Sprintf("[%s](%s%[1]s.md)", page.Name, b.props.Alarms.runbooks()))
	}
	return strings.Join(links, " · ")
}

// panel gives the properties of a graph.
func (b *builder) panel(p topology.Panel) object {
	properties := object{"title": p.Title, "region": b.Region(), "view": "timeSeries", "period": 60, "stacked": p.Stacked}
	if p.Ranking.Name != "" {
		properties["insightRule"] = object{"ruleName": b.named(p.Ranking.Name), "orderBy": "Sum", "maxContributorCount": contributors}
		return properties
	}
	axis := object{"min": 0}
	if p.Unit != "" {
		axis["label"], axis["showUnits"] = p.Unit, false
	}
	properties["yAxis"] = object{"left": axis}
	var metrics []any
	for i, line := range p.Lines {
		metrics = append(metrics, b.line(i, line)...)
	}
	properties["metrics"] = metrics
	return properties
}

// line gives a line as CloudWatch wants it: a signal by its dimensions, and where it is not shown as it is, an expression over signals that are not.
func (b *builder) line(n int, l topology.Line) []any {
	if len(l.Signals) == 1 && l.Factor == 0 {
		return []any{b.signal(l.Signals[0], object{"label": l.Label})}
	}
	var metrics []any
	var ids []string
	for i, s := range l.Signals {
		id := fmt.Sprintf("m%d_%d", n, i)
		ids = append(ids, id)
		metrics = append(metrics, b.signal(s, object{"id": id, "visible": false}))
	}
	// SUM takes what there is, where + is silent as soon as one of the two is.
	expression := fmt.Sprintf("SUM([%s])", strings.Join(ids, ","))
	if len(ids) == 1 {
		expression = ids[0]
	}
	if l.Factor != 0 {
		expression += fmt.Sprintf("*%.10g", l.Factor)
	}
	return append(metrics, []any{object{"id": fmt.Sprintf("e%d", n), "label": l.Label, "expression": expression}})
}

func (b *builder) signal(s topology.Signal, rendering object) []any {
	metric := []any{s.Namespace, s.Name}
	for _, d := range b.dimensions(s) {
		d := d.(*awscloudwatch.CfnAlarm_DimensionProperty)
		metric = append(metric, *d.Name, *d.Value)
	}
	rendering["stat"] = s.Statistic
	return append(metric, rendering)
}

// addRanking adds a rule of Contributor Insights. It has a name because CloudFormation wants one.
func (b *builder) addRanking(scope constructs.Construct, r topology.Ranking) {
	var groups []any
	for _, f := range r.Functions {
		groups = append(groups, b.logs[f].LogGroupName())
	}
	awscloudwatch.NewCfnInsightRule(scope, jsii.String(r.Name), &awscloudwatch.CfnInsightRuleProps{
		RuleName: b.named(r.Name), RuleState: jsii.String("ENABLED"),
		RuleBody: b.ToJsonString(object{
			"Schema":        object{"Name": "CloudWatchLogRule", "Version": 1},
			"LogGroupNames": groups, "LogFormat": "JSON",
			"Contribution": object{
				"Keys":    []string{"$." + r.Field},
				"Filters": []any{object{"Match": "$.message", "In": []string{r.Message}}},
			},
			"AggregateOn": "Count",
		}, nil),
	})
}
