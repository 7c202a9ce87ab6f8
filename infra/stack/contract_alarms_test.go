package stack_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waybillhq/waybill/infra/runbooks"
	"github.com/waybillhq/waybill/shared/topology"
)

// The part of the contract that calls a human.

const topicID = "alarms/topic/Resource"

// tells says whether there is anybody to call; without, there are no alarms.
func (c contract) tells() bool {
	return c.Alarms.Email != nil || c.Alarms.HTTPS != nil || c.Alarms.Slack != nil
}

// asked is how many runs of a function its queue can ask for.
func (c contract) asked(f topology.Function) int {
	if pollers := c.Functions[f.Name].Pollers; pollers != nil {
		return 10 * pollers.Max
	}
	return f.Source.MaximumConcurrency
}

// queryResources are the queries of the runbooks, saved in a folder of the stack.
func (c contract) queryResources() document {
	books, err := runbooks.Read()
	if err != nil {
		panic(err)
	}
	all := document{}
	for page, book := range books {
		if page == topology.CanaryMissing && !c.hasCanary() {
			continue
		}
		var groups []any
		for _, f := range book.Query.Functions {
			if f != topology.Canary || c.hasCanary() {
				groups = append(groups, ref("function-"+string(f)+"/logs/Resource"))
			}
		}
		all["queries/"+string(page)] = resource("AWS::Logs::QueryDefinition", document{
			"Name": "waybill/" + string(page), "QueryString": book.Query.Text, "LogGroupNames": groups,
		})
	}
	return all
}

// alarmResources are the alarms, which do nothing, and the pages over them, which call.
func (c contract) alarmResources() document {
	all := document{"alarms/objective": c.objectiveResource()}
	books := "https://github.com/waybillhq/waybill/blob/main/infra/runbooks/"
	if c.Alarms.Runbooks != "" {
		books = c.Alarms.Runbooks + "/"
	}
	rules := map[topology.PageName][]any{}
	for _, a := range c.Topology.Alarms(c.asked) {
		alarm := resource("AWS::CloudWatch::Alarm", c.alarm(a))
		if a.Namespace == "AWS/ApplicationSignals" {
			alarm["DependsOn"] = []any{"alarms/objective"}
		}
		all["alarms/"+a.Name] = alarm
	}
	var names []any
	for _, page := range topology.Pages() {
		if page.Name == topology.CanaryMissing && !c.hasCanary() {
			continue
		}
		rules[page.Name] = c.rule(page.Name)
		name := "waybill-" + string(page.Name)
		names = append(names, ref("alarms/page-"+string(page.Name)))
		all["alarms/page-"+string(page.Name)] = resource("AWS::CloudWatch::CompositeAlarm", document{
			"AlarmName": name, "AlarmDescription": page.Means + " What to do: " + books + string(page.Name) + ".md",
			"AlarmRule": join(rules[page.Name]...), "AlarmActions": []any{ref(topicID)}, "OKActions": []any{ref(topicID)},
		})
	}
	for i, m := range c.Alarms.Mute {
		zone := m.Timezone
		if zone == "" {
			zone = "UTC"
		}
		all[fmt.Sprintf("alarms/mute-%d", i+1)] = resource("AWS::CloudWatch::AlarmMuteRule", document{
			"Description": "Waybill: announced maintenance", "MuteTargets": document{"AlarmNames": names},
			"Rule": document{"Schedule": document{"Expression": m.When, "Duration": m.For, "Timezone": zone}},
		})
	}
	return all
}

// rule is a page's alarms: each alone, those of a group only together. Text between two references is one part.
func (c contract) rule(page topology.PageName) []any {
	type group struct {
		name    string
		members []any
	}
	var groups []group
	for _, a := range c.Topology.Alarms(c.asked) {
		if a.Page != page {
			continue
		}
		member := ref("alarms/" + a.Name)
		at := slices.IndexFunc(groups, func(g group) bool { return a.Together != "" && g.name == a.Together })
		if at < 0 {
			groups = append(groups, group{name: a.Together})
			at = len(groups) - 1
		}
		groups[at].members = append(groups[at].members, member)
	}
	parts := []any{}
	text := ""
	for i, g := range groups {
		if i > 0 {
			text += " OR "
		}
		open, end := "", ""
		if len(g.members) > 1 {
			open, end = "(", ")"
		}
		text += open
		for j, member := range g.members {
			if j > 0 {
				text += " AND "
			}
			parts = append(parts, text+`ALARM("`, member)
			text = `")`
		}
		text += end
	}
	return append(parts, text)
}

func (c contract) alarm(a topology.Alarm) document {
	properties := document{
		"AlarmName":          "waybill-" + a.Name,
		"AlarmDescription":   fmt.Sprintf("Part of waybill-%s. Why so: %s. Missing data: %s.", a.Page, a.Why, a.Silence),
		"Threshold":          a.Threshold,
		"ComparisonOperator": map[bool]string{true: "LessThanThreshold", false: "GreaterThanOrEqualToThreshold"}[a.Below],
		"EvaluationPeriods":  a.Periods, "DatapointsToAlarm": a.Breaching, "TreatMissingData": string(a.Missing),
	}
	if a.Namespace == "AWS/DynamoDB" { // whose missing data is ignored, whatever TreatMissingData says
		properties["Metrics"] = []any{
			document{"Id": "signal", "ReturnData": false, "MetricStat": document{
				"Metric": document{"Namespace": "AWS/DynamoDB", "MetricName": a.Signal.Name, "Dimensions": c.dimensions(a.Signal)},
				"Period": a.Period.Seconds(), "Stat": a.Statistic,
			}},
			document{"Id": "filled", "Expression": "FILL(signal, 0)", "ReturnData": true},
		}
		return properties
	}
	properties["Namespace"], properties["MetricName"], properties["Dimensions"] = a.Namespace, a.Signal.Name, c.dimensions(a.Signal)
	properties["Period"] = a.Period.Seconds()
	if strings.HasPrefix(a.Statistic, "p") {
		properties["ExtendedStatistic"] = a.Statistic
	} else {
		properties["Statistic"] = a.Statistic
	}
	return properties
}

// dimensions are what a metric is found by. One dimension more or less, and there is no such metric, and never an alarm.
func (c contract) dimensions(s topology.Signal) []any {
	of := func(pairs ...any) []any {
		var all []any
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, document{"Name": pairs[i], "Value": pairs[i+1]})
		}
		return all
	}
	switch {
	case s.Namespace == "AWS/SQS":
		return of("QueueName", attribute(queueID(s.Queue), "QueueName"))
	case s.Namespace == "AWS/Lambda":
		return of("FunctionName", ref("function-"+string(s.Function)+"/function/Resource"))
	case s.Namespace == "AWS/DynamoDB" && s.Operation != "":
		return of("TableName", ref(tableID(s.Table)), "Operation", s.Operation)
	case s.Namespace == "AWS/DynamoDB":
		return of("TableName", ref(tableID(s.Table)))
	case s.Namespace == "AWS/ApplicationSignals":
		return of("SloName", "waybill-deliveries", "BurnRateWindowMinutes", fmt.Sprint(s.Window.Minutes()))
	}
	return of("Service", "waybill", "Function", string(s.Function))
}

func (c contract) objectiveResource() document {
	count := func(id, metric string) []any {
		return []any{document{"Id": id, "ReturnData": true, "MetricStat": document{
			"Metric": document{"Namespace": "Waybill", "MetricName": metric, "Dimensions": []any{
				document{"Name": "Service", "Value": "waybill"}, document{"Name": "Function", "Value": "deliverer"},
			}},
			"Period": 60, "Stat": "Sum",
		}}}
	}
	var burns []any
	for _, window := range []time.Duration{5 * time.Minute, 30 * time.Minute, time.Hour, 6 * time.Hour, 72 * time.Hour} {
		burns = append(burns, document{"LookBackWindowMinutes": window.Minutes()})
	}
	return resource("AWS::ApplicationSignals::ServiceLevelObjective", document{
		"Name": "waybill-deliveries",
		"Description": fmt.Sprintf("Of the deliveries that are delivered for the first time, 99 %% within %v of their event's acceptance",
			c.Topology.Limits.LatencyObjective),
		"RequestBasedSli": document{"RequestBasedSliMetric": document{
			"MonitoredRequestCountMetric": document{"GoodCountMetric": count("good", "SettledGood")},
			"TotalRequestCountMetric":     count("total", "SettledTotal"),
		}},
		"Goal":                   document{"AttainmentGoal": 99, "Interval": document{"RollingInterval": document{"Duration": 28, "DurationUnit": "DAY"}}},
		"BurnRateConfigurations": burns,
	})
}

// publishing lets CloudWatch do something for the alarms of this stack.
func publishing(actions ...any) document {
	statement := document{
		"Effect": "Allow", "Principal": document{"Service": "cloudwatch.amazonaws.com"}, "Action": actions, "Resource": "*",
		"Condition": document{
			"StringEquals": document{"aws:SourceAccount": ref("AWS::AccountId")},
			"ArnLike":      document{"aws:SourceArn": here("cloudwatch", "alarm:waybill-*")},
		},
	}
	if len(actions) == 1 {
		statement["Action"] = actions[0]
	}
	return statement
}

// topicResources are the topic, encrypted with a key that lets CloudWatch in, and those who listen to it.
func (c contract) topicResources() document {
	key := keyID
	all := document{}
	if !c.CustomerKey {
		key = "alarms/key/Resource"
		own := resource("AWS::KMS::Key", document{
			"Description": "Waybill: alarms", "EnableKeyRotation": true,
			"KeyPolicy": document{"Version": "2012-10-17", "Statement": sorted([]any{
				document{"Effect": "Allow", "Principal": document{"AWS": root(ref("AWS::AccountId"))}, "Action": "kms:*", "Resource": "*"},
				publishing("kms:Decrypt", "kms:GenerateDataKey*"),
			})},
		})
		own["DeletionPolicy"], own["UpdateReplacePolicy"] = "Delete", "Delete"
		all[key] = own
	}
	all[topicID] = resource("AWS::SNS::Topic", document{"DisplayName": "Waybill alarms of waybill", "KmsMasterKeyId": arn(key)})
	publish := publishing("sns:Publish")
	publish["Resource"], publish["Sid"] = ref(topicID), "1"
	all["alarms/topic/Policy/Resource"] = resource("AWS::SNS::TopicPolicy", document{
		"Topics": []any{ref(topicID)},
		"PolicyDocument": policy(document{
			"Sid": "AllowPublishThroughSSLOnly", "Effect": "Deny", "Principal": "*", "Action": "sns:Publish", "Resource": ref(topicID),
			"Condition": document{"Bool": document{"aws:SecureTransport": "false"}},
		}, publish),
	})
	for protocol, endpoints := range map[string][]string{"email": c.Alarms.Email, "https": c.Alarms.HTTPS} {
		for _, endpoint := range endpoints {
			subscription := document{"TopicArn": ref(topicID), "Protocol": protocol, "Endpoint": endpoint}
			if protocol == "https" {
				subscription["DeliveryPolicy"] = document{"healthyRetryPolicy": document{
					"numRetries": 50, "minDelayTarget": 20, "maxDelayTarget": 60, "backoffFunction": "linear", // 33 minutes; an hour is SNS's limit
				}}
			}
			all[fmt.Sprintf("alarms/%s-%.4x", protocol, sha256.Sum256([]byte(endpoint)))] = resource("AWS::SNS::Subscription", subscription)
		}
	}
	for _, channel := range c.Alarms.Slack {
		id := "slack-" + channel.Channel
		all["alarms/"+id] = resource("AWS::Chatbot::SlackChannelConfiguration", document{
			"ConfigurationName": "waybill-" + id, "IamRoleArn": arn("alarms/slack-role/Resource"),
			"SlackWorkspaceId": channel.Workspace, "SlackChannelId": channel.Channel, "SnsTopicArns": []any{ref(topicID)},
			"GuardrailPolicies": []any{join("arn:", ref("AWS::Partition"), ":iam::aws:policy/CloudWatchReadOnlyAccess")},
		})
	}
	if c.Alarms.Slack != nil {
		// Without a policy: the role may do nothing.
		all["alarms/slack-role/Resource"] = resource("AWS::IAM::Role", document{"AssumeRolePolicyDocument": policy(document{
			"Effect": "Allow", "Principal": document{"Service": "chatbot.amazonaws.com"}, "Action": "sts:AssumeRole",
		})})
	}
	return all
}
