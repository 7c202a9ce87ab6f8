package stack_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/infra/stack"
)

// What AWS refuses during a deployment and neither CDK nor cfn-lint before it: a stack that is deployed for the first time falls back to nothing then.

// longest is how many characters the name of a stack may have, by the program's reader of the context.
const longest = 80

// A reference to something is at most so long when CloudFormation has put a name, an ARN or a URL in its place.
const resolvedBytes = 130

// limits are the bounds of what a resource of a kind may say, as a list of what is beyond them.
// Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
// Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutCompositeAlarm.html
// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html
// Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
// Source: https://docs.aws.amazon.com/kms/latest/developerguide/resource-limits.html
// Source: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
func limits() map[string]func(properties document) []string {
	return map[string]func(document) []string{
		"AWS::CloudWatch::Alarm": func(p document) []string {
			return append(named(p, "AlarmName", 255), append(named(p, "AlarmDescription", 1024), evaluated(p)...)...)
		},
		"AWS::CloudWatch::CompositeAlarm": func(p document) []string {
			found := append(named(p, "AlarmName", 255), named(p, "AlarmDescription", 1024)...)
			rule := p["AlarmRule"].(document)["Fn::Join"].([]any)[1].([]any)
			children, length := 0, 0
			for _, part := range rule {
				if text, ok := part.(string); ok {
					length += len(text)
				} else {
					children, length = children+1, length+255
				}
			}
			return append(found, beyond("children", children, 100), beyond("characters of its rule", length, 10_240))
		},
		"AWS::CloudWatch::InsightRule":                   func(p document) []string { return named(p, "RuleName", 128) },
		"AWS::ApplicationSignals::ServiceLevelObjective": func(p document) []string { return append(named(p, "Name", 128), named(p, "Description", 1024)...) },
		"AWS::Chatbot::SlackChannelConfiguration":        func(p document) []string { return named(p, "ConfigurationName", 128) },
		"AWS::SNS::Topic":                                func(p document) []string { return named(p, "DisplayName", 100) },
		"AWS::Logs::QueryDefinition":                     func(p document) []string { return append(named(p, "Name", 255), named(p, "QueryString", 10_000)...) },
		"AWS::Lambda::Function":                          environmentLimits,
		"AWS::SQS::QueuePolicy":                          queuePolicyLimits,
		"AWS::IAM::Policy":                               func(p document) []string { return []string{beyond("bytes", size(p["PolicyDocument"]), 10_240)} },
		"AWS::KMS::Key": func(p document) []string {
			return []string{beyond("bytes of its policy", size(p["KeyPolicy"]), 32_768)}
		},
		"AWS::CodeDeploy::DeploymentGroup": alarmsOfGroup,
		"AWS::CloudFormation::CustomResource": func(document) []string {
			return []string{"is a custom resource: a function of CDK's with rights of its own"}
		},
	}
}

// beyond says so; "" where it is not.
func beyond(what string, is, most int) string {
	if is <= most {
		return ""
	}
	return fmt.Sprintf("has %d %s, at most %d", is, what, most)
}

// named looks at a text that is limited, as it would be in a stack with the longest name.
func named(p document, property string, most int) []string {
	text, _ := p[property].(string)
	return []string{beyond("characters in "+property, len(strings.ReplaceAll(text, "waybill", strings.Repeat("w", longest))), most)}
}

// evaluated looks at how far back an alarm looks: a day, or with periods of an hour and more a week.
func evaluated(p document) []string {
	_, _, period := watched(p)
	most := 86_400
	if period >= 3_600 {
		most = 7 * 86_400
	}
	return []string{beyond("seconds in all its periods", int(period*p["EvaluationPeriods"].(float64)), most)}
}

func environmentLimits(p document) []string {
	variables := p["Environment"].(document)["Variables"].(document)
	return []string{beyond("bytes of environment", size(variables), 4_096)}
}

func queuePolicyLimits(p document) []string {
	statements := p["PolicyDocument"].(document)["Statement"].([]any)
	conditions, principals := 0, 0
	for _, v := range statements {
		statement := v.(document)
		if operators, ok := statement["Condition"].(document); ok {
			for _, keys := range operators {
				conditions += len(keys.(document))
			}
		}
		for _, who := range statement["Principal"].(document) {
			principals += max(1, len(list(who)))
		}
	}
	return []string{
		beyond("bytes", size(p["PolicyDocument"]), 8_192), beyond("statements", len(statements), 20), beyond("conditions", conditions, 10), beyond("principals", principals, 50),
	}
}

func alarmsOfGroup(p document) []string {
	configuration, _ := p["AlarmConfiguration"].(document)
	return []string{beyond("alarms", len(list(configuration["Alarms"])), 10)}
}

// size is how many bytes it has once CloudFormation has resolved it.
func size(v any) int {
	return len(encode(resolved(v)))
}

// resolved has a text in the place of each function of CloudFormation.
func resolved(v any) any {
	switch v := v.(type) {
	case document:
		if parts, ok := v["Fn::Join"].([]any); ok {
			var text strings.Builder
			for _, part := range parts[1].([]any) {
				text.WriteString(resolved(part).(string))
			}
			return text.String()
		}
		if of, ok := v["Ref"].(string); ok && strings.HasPrefix(of, "AWS::") {
			return "us-gov-east-1" // the longest of regions, partitions and accounts, or almost
		}
		if v["Ref"] != nil || v["Fn::GetAtt"] != nil {
			return strings.Repeat("x", resolvedBytes)
		}
		copied := document{}
		for key, part := range v {
			copied[key] = resolved(part)
		}
		return copied
	case []any:
		copied := make([]any, len(v))
		for i, part := range v {
			copied[i] = resolved(part)
		}
		return copied
	}
	return v
}

// tooMuch lists what AWS would refuse.
func (s synthesis) tooMuch() []string {
	var found []string
	resources := s.template["Resources"].(document)
	limits := limits()
	for _, id := range slices.Sorted(maps.Keys(resources)) {
		r := resources[id].(document)
		kind := r["Type"].(string)
		if strings.HasPrefix(kind, "Custom::") {
			kind = "AWS::CloudFormation::CustomResource"
		}
		if limit, ok := limits[kind]; ok {
			for _, problem := range limit(properties(r)) {
				if problem != "" {
					found = append(found, path(id, r)+" "+problem)
				}
			}
		}
	}
	for _, whole := range []string{
		beyond("resources", len(resources), 500), beyond("outputs", len(s.template["Outputs"].(document)), 200), beyond("bytes", len(s.text), 1_000_000),
	} {
		if whole != "" {
			found = append(found, "the template "+whole)
		}
	}
	return found
}

func TestTemplatesKeepToWhatAWSAccepts(t *testing.T) {
	for name, s := range templates(t) {
		for _, problem := range s.tooMuch() {
			t.Errorf("%s: %s", name, problem)
		}
	}
}

func TestWhatAWSRefusesIsNoticed(t *testing.T) {
	made := templates(t)[plain+", everything"]
	for name, test := range map[string]struct {
		of     string
		change func(properties document)
		want   string
	}{
		"a long description":    {"alarms/waker-lag", func(p document) { p["AlarmDescription"] = strings.Repeat("a", 1025) }, "alarms/waker-lag has 1025 characters in AlarmDescription, at most 1024"},
		"a name with its stack": {"alarms/topic/Resource", func(p document) { p["DisplayName"] = "Alarms that people are called with, of waybill" }, "characters in DisplayName, at most 100"},
		"looking too far back":  {"alarms/waker-lag", func(p document) { p["EvaluationPeriods"] = 1441.0 }, "alarms/waker-lag has 86460 seconds in all its periods, at most 86400"},
		"too many children": {
			"alarms/page-waker-stopped", func(p document) {
				p["AlarmRule"] = join(slices.Repeat([]any{`ALARM("`, ref("x"), `") OR `}, 101)...)
			}, "alarms/page-waker-stopped has 101 children, at most 100",
		},
		"too many conditions": {
			"queue-ingress/Policy/Resource", func(p document) {
				all := p["PolicyDocument"].(document)["Statement"].([]any)
				p["PolicyDocument"].(document)["Statement"] = slices.Concat(all, all, all)
			}, "conditions, at most 10",
		},
		"a large environment": {
			"function-router/function/Resource", func(p document) {
				p["Environment"].(document)["Variables"].(document)["X"] = strings.Repeat("x", 4096)
			}, "bytes of environment, at most 4096",
		},
		"too many rights": {
			"function-router/role/DefaultPolicy/Resource", func(p document) {
				p["PolicyDocument"].(document)["Statement"] = slices.Repeat(p["PolicyDocument"].(document)["Statement"].([]any), 20)
			}, "function-router/role/DefaultPolicy/Resource has",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := made.copy()
			test.change(properties(find(s, test.of)))
			if found := strings.Join(s.tooMuch(), "\n"); !strings.Contains(found, test.want) {
				t.Errorf("found %q, want %q", found, test.want)
			}
		})
	}
}

// The most senders that are accepted make a policy that SQS accepts.
func TestMostSendersFitIntoThePolicy(t *testing.T) {
	templates(t) // or no Node
	props := variants()[plain]
	topic := func(i int) string { return fmt.Sprintf("arn:aws:sns:eu-west-1:%012d:%0200d", i, i) }
	for i := range 44 {
		props.Senders.Accounts = append(props.Senders.Accounts, fmt.Sprintf("%012d", i))
	}
	for i := range 3 {
		props.Senders.Buckets = append(props.Senders.Buckets, stack.Bucket{ARN: fmt.Sprintf("arn:aws:s3:::bucket-%d", i), Account: fmt.Sprintf("%012d", i)})
	}
	props.Senders.Rules = []string{"arn:aws:events:eu-west-1:123456789012:rule/orders"}
	for i := range 15 {
		props.Senders.Topics = append(props.Senders.Topics, topic(i))
	}
	s, err := synth(props)
	if err != nil {
		t.Fatal(err)
	}
	if found := s.tooMuch(); found != nil {
		t.Errorf("accepted, and refused by AWS: %v", found)
	}
	for _, test := range []struct {
		change func(*stack.Senders)
		want   string
	}{
		{func(s *stack.Senders) { s.Topics = append(s.Topics, topic(15)) }, "bytes in the policy of the queue, at most 8192"},
		{func(s *stack.Senders) { s.Accounts = append(s.Accounts, "999999999999") }, "principals in the policy of the queue, at most 50"},
		{func(s *stack.Senders) {
			s.Buckets = append(s.Buckets, stack.Bucket{ARN: "arn:aws:s3:::other", Account: "999999999999"})
		}, "senders.buckets: are of 4 accounts, which takes 11 conditions"},
	} {
		more := props
		more.Senders.Topics, more.Senders.Accounts, more.Senders.Buckets = slices.Clone(props.Senders.Topics), slices.Clone(props.Senders.Accounts), slices.Clone(props.Senders.Buckets)
		test.change(&more.Senders)
		mustRefuse(t, more, test.want)
	}
}

// waitsFor are the resources that one names, in a property or in DependsOn.
func waitsFor(r document) []string {
	var all []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case document:
			for key, part := range v {
				switch key {
				case "Ref":
					all = append(all, part.(string))
				case "Fn::GetAtt":
					all = append(all, part.([]any)[0].(string))
				default:
					walk(part)
				}
			}
		case []any:
			for _, part := range v {
				walk(part)
			}
		}
	}
	walk(r["Properties"])
	walk(r["UpdatePolicy"])
	if r["DependsOn"] != nil {
		for _, id := range list(r["DependsOn"]) {
			all = append(all, id.(string))
		}
	}
	return all
}

// CloudFormation refuses a template whose resources wait for each other, update policies included.
func TestNothingWaitsForItself(t *testing.T) {
	for name, s := range templates(t) {
		resources := s.template["Resources"].(document)
		done, begun := map[string]bool{}, map[string]bool{}
		var visit func(id string, way []string)
		visit = func(id string, way []string) {
			r, ok := resources[id].(document)
			if !ok || done[id] {
				return
			}
			if begun[id] {
				t.Fatalf("%s: a circle: %s", name, strings.Join(append(way, id), " waits for "))
			}
			begun[id] = true
			for _, next := range waitsFor(r) {
				visit(next, append(way, id))
			}
			done[id] = true
		}
		for _, id := range slices.Sorted(maps.Keys(resources)) {
			visit(id, nil)
		}
	}
}

// A table that is protected refuses to be deleted, also by the rollback of the deployment that made it.
func TestACreationThatFailsCanBeTakenBack(t *testing.T) {
	for name, s := range templates(t) {
		for id, v := range s.template["Resources"].(document) {
			r := v.(document)
			if r["Type"] != "AWS::DynamoDB::GlobalTable" {
				continue
			}
			for _, replica := range properties(r)["Replicas"].([]any) {
				if replica.(document)["DeletionProtectionEnabled"] == true && r["DeletionPolicy"] != "Retain" {
					t.Errorf("%s: %s is protected and its deletion policy is %v: a rollback of its creation would fail", name, path(id, r), r["DeletionPolicy"])
				}
			}
		}
	}
}

// Lambda gives the interfaces of a function back minutes after the function is gone, with the permissions of its role. A stack that deletes those first cannot delete
// its network any more.
func TestTheNetworkGoesBeforeTheRightToGiveItUp(t *testing.T) {
	for name, s := range templates(t) {
		resources := s.template["Resources"].(document)
		for id, v := range resources {
			r := v.(document)
			if r["Type"] != "AWS::Lambda::Function" {
				continue
			}
			settings, ok := properties(r)["VpcConfig"].(document)
			if !ok {
				continue
			}
			for _, group := range settings["SecurityGroupIds"].([]any) {
				of := group.(document)["Fn::GetAtt"].([]any)[0].(string)
				after := waitsFor(resources[of].(document))
				for _, needed := range waitsFor(r) {
					if kind := resources[needed].(document)["Type"]; (kind == "AWS::IAM::Role" || kind == "AWS::IAM::Policy") && !slices.Contains(after, needed) {
						t.Errorf("%s: %s is deleted before %s, with which %s gives its interfaces back", name, needed, of, path(id, r))
					}
				}
			}
		}
	}
}

// Somebody who is not called any more, and stands before others in the list, must not take them along.
func TestOthersStayWhenOneIsNotCalledAnyMore(t *testing.T) {
	templates(t) // or no Node
	props := variants()[plain]
	props.Alarms = called()
	before, err := synth(props)
	if err != nil {
		t.Fatal(err)
	}
	props.Alarms.Email, props.Alarms.Slack = props.Alarms.Email[1:], props.Alarms.Slack[1:]
	after, err := synth(props)
	if err != nil {
		t.Fatal(err)
	}
	for id, v := range after.template["Resources"].(document) {
		switch r := v.(document); r["Type"] {
		case "AWS::SNS::Subscription", "AWS::Chatbot::SlackChannelConfiguration":
			was, ok := before.template["Resources"].(document)[id].(document)
			if !ok || string(encode(was["Properties"])) != string(encode(r["Properties"])) {
				t.Errorf("%s changes: it was %s and is %s", path(id, r), encode(was["Properties"]), encode(r["Properties"]))
			}
		}
	}
}
