package stack_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/topology"
)

// The part of the contract by which a new version gets the traffic, and loses it again.

// releaseResources move the alias of a function from version to version.
func (c contract) releaseResources(f topology.Function) document {
	id := "function-" + string(f.Name) + "/release/"
	role, hook, tell := id+"role", id+"hook/", id+"tell/Resource"
	function, version := "function-"+string(f.Name)+"/function/Resource", "function-"+string(f.Name)+"/function/CurrentVersion/Resource"
	group := resource("AWS::CodeDeploy::DeploymentGroup", document{
		"ApplicationName": ref("releases/Resource"), "ServiceRoleArn": arn(role + "/Resource"),
		"DeploymentConfigName": "CodeDeployDefault.LambdaAllAtOnce",
		"DeploymentStyle":      document{"DeploymentOption": "WITH_TRAFFIC_CONTROL", "DeploymentType": "BLUE_GREEN"},
		"AutoRollbackConfiguration": document{
			"Enabled": true, "Events": []any{"DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_REQUEST"},
		},
	})
	group["DependsOn"] = []any{role + "/DefaultPolicy/Resource", role + "/Resource"}
	shift := grantLines(function, "lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetProvisionedConcurrencyConfig")
	for line := range grantLines(name(document{"Fn::Join": []any{":", []any{arn(function), "live"}}}),
		"lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetProvisionedConcurrencyConfig") {
		shift[line] = true
	}
	shift["Allow lambda:InvokeFunction on "+hook+"function/Resource"] = true
	program := resource("AWS::Lambda::Function", document{
		"Runtime": "provided.al2023", "Architectures": []any{"arm64"}, "Handler": "bootstrap", "MemorySize": 256, "Timeout": f.Timeout.Seconds() + 135,
		"Code": document{
			"S3Bucket": document{"Fn::Sub": "cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}"}, "S3Key": document{"bootstrap": "-rwxr-xr-x preflight"},
		},
		"Environment": document{"Variables": document{
			"WAYBILL_PROFILE": string(c.Topology.Profile), "WAYBILL_PREFLIGHT_FUNCTION": string(f.Name), "WAYBILL_PREFLIGHT_VERSION": ref(version),
		}},
		"LoggingConfig": document{"LogFormat": "JSON", "LogGroup": ref(hook + "logs/Resource")},
		"Role":          arn(hook + "role/Resource"),
	})
	program["DependsOn"] = []any{hook + "role/DefaultPolicy/Resource", hook + "role/Resource"}
	try := grantLines(hook+"logs/Resource", "logs:CreateLogStream", "logs:PutLogEvents")
	try["Allow lambda:InvokeFunction on "+name(ref(version))] = true
	all := document{
		id + "group/Resource":                group,
		role + "/Resource":                   trustedBy("codedeploy"),
		hook + "role/Resource":               trustedBy("lambda"),
		hook + "function/Resource":           program,
		hook + "logs/Resource":               c.logsResource(),
		role + "/DefaultPolicy/Resource":     granted(role+"/DefaultPolicy/Resource", role+"/Resource", shift),
		hook + "role/DefaultPolicy/Resource": granted(hook+"role/DefaultPolicy/Resource", hook+"role/Resource", try),
		tell: granted(tell, hook+"role/Resource", grantLines(name(join("arn:", ref("AWS::Partition"), ":codedeploy:", ref("AWS::Region"), ":", ref("AWS::AccountId"),
			":deploymentgroup:", ref("releases/Resource"), "/", ref(id+"group/Resource"))), "codedeploy:PutLifecycleEventHookExecutionStatus")),
	}
	if !c.prod {
		return all
	}
	shift["Allow cloudwatch:DescribeAlarms on *"] = true
	var alarms []any
	for _, r := range c.Topology.Rollbacks(f) {
		all[id+r.Name] = resource("AWS::CloudWatch::Alarm", c.rollback(f, r))
		alarms = append(alarms, document{"Name": ref(id + r.Name)})
	}
	properties := group["Properties"].(document)
	properties["DeploymentConfigName"] = "CodeDeployDefault.LambdaCanary10Percent5Minutes"
	properties["AlarmConfiguration"] = document{"Enabled": true, "Alarms": alarms}
	properties["AutoRollbackConfiguration"].(document)["Events"] = []any{"DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_REQUEST", "DEPLOYMENT_STOP_ON_ALARM"}
	return all
}

// releasedAlias moves only when CodeDeploy moves it, and not before the hook is the one that tries the new version.
func releasedAlias(f topology.Function, alias document) document {
	id := "function-" + string(f.Name) + "/release/"
	alias["UpdatePolicy"] = document{"CodeDeployLambdaAliasUpdate": document{
		"ApplicationName": ref("releases/Resource"), "DeploymentGroupName": ref(id + "group/Resource"),
		"BeforeAllowTrafficHook": ref(id + "hook/function/Resource"),
	}}
	alias["DependsOn"] = []any{id + "group/Resource", id + "hook/function/Resource", id + "tell/Resource"}
	return alias
}

func grantLines(on string, operations ...string) document {
	lines := document{}
	for _, operation := range operations {
		lines[fmt.Sprintf("Allow %s on %s", operation, on)] = true
	}
	return lines
}

func granted(id, role string, lines document) document {
	return resource("AWS::IAM::Policy", document{
		"PolicyName": id, "Roles": []any{ref(role)}, "PolicyDocument": document{"Version": "2012-10-17", "Statement": lines},
	})
}

func trustedBy(service string) document {
	return resource("AWS::IAM::Role", document{"AssumeRolePolicyDocument": policy(document{
		"Effect": "Allow", "Principal": document{"Service": service + ".amazonaws.com"}, "Action": "sts:AssumeRole",
	})})
}

func (c contract) rollback(f topology.Function, r topology.Rollback) document {
	function, version := "function-"+string(f.Name)+"/function/Resource", "function-"+string(f.Name)+"/function/CurrentVersion/Resource"
	of := func(pairs ...any) (all []any) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, document{"Name": pairs[i], "Value": pairs[i+1]})
		}
		return all
	}
	dimensions := c.dimensions(r.Signal)
	switch {
	case r.Released && r.Namespace == "AWS/Lambda":
		dimensions = of("FunctionName", ref(function), "Resource", document{"Fn::Join": []any{":", []any{ref(function), "live"}}},
			"ExecutedVersion", attribute(version, "Version"))
	case r.Released:
		dimensions = of("Service", "waybill", "Function", string(f.Name), "Version", attribute(version, "Version"))
	}
	stat := func(id, metric string, returned bool) document {
		return document{"Id": id, "ReturnData": returned, "MetricStat": document{
			"Metric": document{"Namespace": r.Namespace, "MetricName": metric, "Dimensions": dimensions}, "Period": 60, "Stat": r.Statistic,
		}}
	}
	judged := func(expression string) document {
		return document{"Id": "judged", "Expression": expression, "ReturnData": true}
	}
	metrics := []any{stat("signal", r.Signal.Name, true)}
	switch {
	case r.Growth:
		metrics = []any{stat("signal", r.Signal.Name, false), judged("DIFF(signal)")}
	case r.Of != "":
		metrics = []any{
			stat("signal", r.Signal.Name, false), stat("of", r.Of, false), judged(fmt.Sprintf("IF(of >= %v, FILL(signal, 0) / of, 1)", r.Least)),
		}
	}
	return document{
		"AlarmName": fmt.Sprintf("waybill-release-%s-%s", f.Name, r.Name),
		"AlarmDescription": fmt.Sprintf("Takes a release of %s back, and calls nobody. Why so: %s. Missing data: there is no data of a version that does not run, "+
			"and most of the time none is new.", f.Name, r.Why),
		"Metrics": metrics, "Threshold": r.Threshold, "EvaluationPeriods": 1, "DatapointsToAlarm": 1, "TreatMissingData": "notBreaching",
		"ComparisonOperator": map[bool]string{true: "LessThanThreshold", false: "GreaterThanOrEqualToThreshold"}[r.Below],
	}
}

// What each function of Waybill is taken back for. The list is written out: a rollback that is dropped from the topology would be dropped from the contract too.
func TestEveryReleaseCanBeTakenBack(t *testing.T) {
	resources := templates(t)[plain].readable()["Resources"].(document)
	for f, alarms := range map[topology.FunctionName][]string{
		topology.Router:    {"errors", "duration", "dead-letters"},
		topology.Deliverer: {"errors", "duration", "dead-letters", "delivery-success"},
		topology.SlowLane:  {"errors", "duration", "dead-letters"},
		topology.Waker:     {"errors", "duration"},
		topology.Canary:    {"errors", "duration"},
	} {
		id := "function-" + string(f) + "/release/"
		group, _ := resources[id+"group/Resource"].(document)
		for _, alarm := range alarms {
			if !strings.Contains(string(encode(group)), `"`+id+alarm+`"`) {
				t.Errorf("%s is not taken back for %s", f, alarm)
			}
			text := string(encode(resources[id+alarm]))
			if version := `"Name":"` + map[bool]string{true: "Version", false: "ExecutedVersion"}[alarm == "delivery-success"] + `"`; alarm != "dead-letters" && !strings.Contains(text, version) {
				t.Errorf("%s of %s is not that of the new version alone", alarm, f)
			}
			if strings.Contains(text, "AlarmActions") {
				t.Errorf("%s of %s calls somebody", alarm, f)
			}
		}
	}
}
