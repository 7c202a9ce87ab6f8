package stack

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsapplicationsignals"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/infra/runbooks"
	"github.com/waybillhq/waybill/shared/topology"
)

// documents is where runbooks can be read, unless Alarms.Runbooks says otherwise.
const documents = "https://github.com/waybillhq/waybill/blob/main/infra/runbooks/"

// addQueries saves the query of each runbook, in a folder named after the stack.
func (b *builder) addQueries() {
	scope := constructs.NewConstruct(b.Stack, jsii.String("queries"))
	for _, page := range topology.Pages() {
		query := b.runbooks[page.Name].Query
		var groups []any
		for _, f := range b.deployed(query) {
			groups = append(groups, b.logs[f].LogGroupName())
		}
		if groups == nil {
			continue
		}
		awslogs.NewCfnQueryDefinition(scope, jsii.String(string(page.Name)), &awslogs.CfnQueryDefinitionProps{
			Name:          jsii.String(*b.StackName() + "/" + string(page.Name)),
			QueryString:   jsii.String(query.Text),
			LogGroupNames: &groups,
		})
	}
}

// addAlarms adds all that calls a human: the alarms, which are silent, and for each cause a page over its alarms, which is not.
func (b *builder) addAlarms() {
	if !b.props.Alarms.any() {
		return
	}
	scope := constructs.NewConstruct(b.Stack, jsii.String("alarms"))
	topic := b.addTopic(scope)
	objective := b.addObjective(scope)
	byPage := map[topology.PageName][]raised{}
	for _, a := range b.props.Topology.Alarms(b.props.concurrency) {
		alarm := awscloudwatch.NewCfnAlarm(scope, jsii.String(a.Name), b.alarm(a))
		if a.Namespace == topology.AWSObjective {
			alarm.AddResourceDependency(objective, nil)
		}
		byPage[a.Page] = append(byPage[a.Page], raised{a.Together, alarm.Ref()})
		b.alarms = append(b.alarms, alarm.AttrArn())
	}
	var names []*string
	for _, page := range topology.Pages() {
		alarms := byPage[page.Name]
		if alarms == nil {
			continue
		}
		name := b.named(string(page.Name))
		composite := awscloudwatch.NewCfnCompositeAlarm(scope, jsii.String("page-"+string(page.Name)), &awscloudwatch.CfnCompositeAlarmProps{
			AlarmName:        name,
			AlarmDescription: jsii.String(fmt.Sprintf("%s What to do: %s%s.md", page.Means, b.props.Alarms.runbooks(), page.Name)),
			AlarmRule:        jsii.String(rule(alarms)),
			AlarmActions:     &[]any{topic},
			OkActions:        &[]any{topic},
		})
		names = append(names, composite.Ref()) // and not the name, so that a mute rule waits for its pages
		b.pages = append(b.pages, composite.AttrArn())
	}
	b.addMutes(scope, names)
}

// raised is an alarm of a page.
type raised struct {
	together string
	name     *string
}

// rule is raised while one of the alarms is, or all of a group.
func rule(alarms []raised) string {
	var groups []string
	members := map[string][]string{}
	for _, a := range alarms {
		key := a.together
		if key == "" {
			key = strconv.Itoa(len(groups)) // a group to itself
		}
		if members[key] == nil {
			groups = append(groups, key)
		}
		members[key] = append(members[key], fmt.Sprintf(`ALARM("%s")`, *a.name))
	}
	for i, key := range groups {
		groups[i] = strings.Join(members[key], " AND ")
		if len(members[key]) > 1 {
			groups[i] = "(" + groups[i] + ")"
		}
	}
	return strings.Join(groups, " OR ")
}

// named is the name of an alarm, which on-call reads. It begins with the stack's, so that several stacks fit into one account.
func (b *builder) named(name string) *string { return jsii.String(*b.StackName() + "-" + name) }

func (b *builder) alarm(a topology.Alarm) *awscloudwatch.CfnAlarmProps {
	comparison := "GreaterThanOrEqualToThreshold"
	if a.Below {
		comparison = "LessThanThreshold"
	}
	props := &awscloudwatch.CfnAlarmProps{
		AlarmName:          b.named(a.Name),
		AlarmDescription:   jsii.String(fmt.Sprintf("Part of %s. Why so: %s. Missing data: %s.", *b.named(string(a.Page)), a.Why, a.Silence)),
		ComparisonOperator: jsii.String(comparison),
		Threshold:          jsii.Number(a.Threshold),
		EvaluationPeriods:  jsii.Number(a.Periods),
		DatapointsToAlarm:  jsii.Number(a.Breaching),
		TreatMissingData:   jsii.String(string(a.Missing)),
	}
	if a.Filled() {
		props.Metrics = b.filled(a)
		return props
	}
	props.Namespace, props.MetricName, props.Dimensions = jsii.String(a.Namespace), jsii.String(a.Signal.Name), b.dimensions(a.Signal)
	props.Period = jsii.Number(a.Period.Seconds())
	if strings.HasPrefix(a.Statistic, "p") {
		props.ExtendedStatistic = jsii.String(a.Statistic)
	} else {
		props.Statistic = jsii.String(a.Statistic)
	}
	return props
}

// filled is the signal with zeros where there is no data.
// Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
func (b *builder) filled(a topology.Alarm) []any {
	return []any{
		&awscloudwatch.CfnAlarm_MetricDataQueryProperty{
			Id: jsii.String("signal"), ReturnData: jsii.Bool(false),
			MetricStat: &awscloudwatch.CfnAlarm_MetricStatProperty{
				Metric: &awscloudwatch.CfnAlarm_MetricProperty{
					Namespace: jsii.String(a.Namespace), MetricName: jsii.String(a.Signal.Name), Dimensions: b.dimensions(a.Signal),
				},
				Period: jsii.Number(a.Period.Seconds()), Stat: jsii.String(a.Statistic),
			},
		},
		&awscloudwatch.CfnAlarm_MetricDataQueryProperty{Id: jsii.String("filled"), Expression: jsii.String("FILL(signal, 0)"), ReturnData: jsii.Bool(true)},
	}
}

// dimensions are those under which AWS and our functions publish. Lambda's are those of all versions together.
func (b *builder) dimensions(s topology.Signal) []any {
	var all []any
	add := func(name string, value *string) {
		all = append(all, &awscloudwatch.CfnAlarm_DimensionProperty{Name: jsii.String(name), Value: value})
	}
	switch s.Namespace {
	case topology.AWSQueue:
		add("QueueName", b.queues[s.Queue].QueueName())
	case topology.AWSTable:
		add("TableName", b.tables[s.Table].TableName())
		if s.Operation != "" {
			add("Operation", jsii.String(s.Operation))
		}
	case topology.AWSFunction:
		add("FunctionName", b.functions[s.Function].FunctionName())
	case topology.AWSObjective:
		add("SloName", b.objectiveName())
		add("BurnRateWindowMinutes", jsii.String(minutes(s.Window)))
	case topology.Custom:
		add("Service", b.StackName())
		add("Function", jsii.String(string(s.Function)))
	}
	return all
}

func minutes(d time.Duration) string { return strconv.Itoa(int(d / time.Minute)) }

func (b *builder) objectiveName() *string { return b.named("deliveries") }

// addObjective adds the objective of deliveries, with a burn rate for each window that an alarm looks at.
func (b *builder) addObjective(scope constructs.Construct) awsapplicationsignals.CfnServiceLevelObjective {
	o := b.props.Topology.DeliveryObjective()
	var burns []any
	for _, window := range topology.BurnWindows() {
		burns = append(burns, &awsapplicationsignals.CfnServiceLevelObjective_BurnRateConfigurationProperty{LookBackWindowMinutes: jsii.Number(window.Minutes())})
	}
	return awsapplicationsignals.NewCfnServiceLevelObjective(scope, jsii.String("objective"), &awsapplicationsignals.CfnServiceLevelObjectiveProps{
		Name: b.objectiveName(),
		Description: jsii.String(fmt.Sprintf("Of the deliveries that are delivered for the first time, %v %% within %v of their event's acceptance",
			o.Goal, b.props.Topology.Limits.LatencyObjective)),
		RequestBasedSli: &awsapplicationsignals.CfnServiceLevelObjective_RequestBasedSliProperty{
			RequestBasedSliMetric: &awsapplicationsignals.CfnServiceLevelObjective_RequestBasedSliMetricProperty{
				MonitoredRequestCountMetric: &awsapplicationsignals.CfnServiceLevelObjective_MonitoredRequestCountMetricProperty{
					GoodCountMetric: b.counted(o, "good", o.Good),
				},
				TotalRequestCountMetric: b.counted(o, "total", o.Total),
			},
		},
		Goal: &awsapplicationsignals.CfnServiceLevelObjective_GoalProperty{
			AttainmentGoal: jsii.Number(o.Goal),
			Interval: &awsapplicationsignals.CfnServiceLevelObjective_IntervalProperty{
				RollingInterval: &awsapplicationsignals.CfnServiceLevelObjective_RollingIntervalProperty{
					Duration: jsii.Number(o.Interval.Hours() / hoursPerDay), DurationUnit: jsii.String("DAY"),
				},
			},
		},
		BurnRateConfigurations: burns,
	})
}

const hoursPerDay = 24

// counted is the sum of one of our metrics.
func (b *builder) counted(o topology.Objective, id, metric string) []any {
	return []any{&awsapplicationsignals.CfnServiceLevelObjective_MetricDataQueryProperty{
		Id: jsii.String(id),
		MetricStat: &awsapplicationsignals.CfnServiceLevelObjective_MetricStatProperty{
			Metric: &awsapplicationsignals.CfnServiceLevelObjective_MetricProperty{
				Namespace: jsii.String(topology.Custom), MetricName: jsii.String(metric),
				Dimensions: []any{
					&awsapplicationsignals.CfnServiceLevelObjective_DimensionProperty{Name: jsii.String("Service"), Value: b.StackName()},
					&awsapplicationsignals.CfnServiceLevelObjective_DimensionProperty{Name: jsii.String("Function"), Value: jsii.String(string(o.Function))},
				},
			},
			Period: jsii.Number(time.Minute.Seconds()), Stat: jsii.String("Sum"),
		},
		ReturnData: jsii.Bool(true),
	}}
}

// addMutes keeps pages silent at times that were announced. Alarms go on being evaluated, and all that is muted is the call.
func (b *builder) addMutes(scope constructs.Construct, pages []*string) {
	for i, m := range b.props.Alarms.Mute {
		awscloudwatch.NewCfnAlarmMuteRule(scope, jsii.String(fmt.Sprintf("mute-%d", i+1)), &awscloudwatch.CfnAlarmMuteRuleProps{
			Description: jsii.String("Waybill: announced maintenance"),
			MuteTargets: &awscloudwatch.CfnAlarmMuteRule_MuteTargetsProperty{AlarmNames: &pages},
			Rule: &awscloudwatch.CfnAlarmMuteRule_RuleProperty{Schedule: &awscloudwatch.CfnAlarmMuteRule_ScheduleProperty{
				Expression: jsii.String(m.When), Duration: jsii.String(m.For), Timezone: jsii.String(m.timezone()),
			}},
		})
	}
}

// readRunbooks gives the runbooks, or what is wrong with them.
func (v *violations) readRunbooks(t topology.Topology) map[topology.PageName]runbooks.Runbook {
	all, err := runbooks.Read()
	if err != nil {
		v.addError(err)
		return nil
	}
	known := map[topology.PageName]bool{}
	for _, page := range topology.Pages() {
		known[page.Name] = true
		book, ok := all[page.Name]
		if !ok {
			v.add("page %s: infra/runbooks/%s.md is missing: write what to do", page.Name, page.Name)
		}
		for _, name := range book.Query.Functions {
			if _, ok := t.WithCanary().Function(name); !ok {
				v.add("infra/runbooks/%s.md: its query reads the logs of %s, which the topology has not", page.Name, name)
			}
		}
	}
	for name := range all {
		if !known[name] {
			v.add("infra/runbooks/%s.md: topology.Pages has no such page: nobody will read it", name)
		}
	}
	return all
}
