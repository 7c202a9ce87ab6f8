package stack_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// AWS's own rules for a secure architecture, as cdk-nag's AwsSolutions pack names and words them. The pack itself has no Go module that can be
// had; these are its rules for the kinds of resources that a stack has, and a kind without rules is refused, so that none is
// forgotten.

// explained are the wildcards that roles have, each with the reason why it cannot be narrower. A permission is in the form of grants, with
// resources by construct path.
var explained = map[string]string{
	"Allow xray:PutTraceSegments on *":                    "X-Ray has no resources that a policy could name",
	"Allow xray:PutTelemetryRecords on *":                 "X-Ray has no resources that a policy could name",
	"Allow ec2:CreateNetworkInterface on *":               "Lambda makes the interface and names it; the function itself is denied this",
	"Allow ec2:DeleteNetworkInterface on *":               "Lambda names the interface when it makes it; the function itself is denied this",
	"Allow ec2:DescribeNetworkInterfaces on *":            "EC2 allows it on all interfaces or none; the function itself is denied this",
	"Allow ec2:DescribeSubnets on *":                      "EC2 allows it on all subnets or none; the function itself is denied this",
	"Allow ec2:AssignPrivateIpAddresses on *":             "Lambda names the interface when it makes it; the function itself is denied this",
	"Allow ec2:UnassignPrivateIpAddresses on *":           "Lambda names the interface when it makes it; the function itself is denied this",
	"Allow cloudwatch:DescribeAlarms on *":                "CodeDeploy asks for all alarms of a release in one call, for which IAM looks at all alarms; it only reads",
	"Deny ec2:":                                           "what is denied may be as wide as it likes",
	"Allow kms:ReEncrypt* on key/Resource if ":            "DynamoDB asks for both directions by this name; it is allowed on one key, through DynamoDB",
	"Allow kms:GenerateDataKey* on key/Resource if ":      "DynamoDB asks for both forms by this name; it is allowed on one key, through DynamoDB",
	"Allow secretsmanager:GetSecretValue on " + secretARN: "the operator named a group of secrets",
	"Allow ssm:GetParameter on " + parameterARN:           "the operator named a group of parameters",
	"Allow secretsmanager:GetSecretValue on {":            "destinations come and go, and their secrets with them; the name begins with waybill/",
	"Allow ssm:GetParameter on {":                         "destinations come and go, and their secrets with them; the name begins with waybill/",
}

// rules are by kind of resource. A kind that has none is listed without, when there is no rule for it.
func (s synthesis) rules() map[string]map[string]func(path string, properties document) string {
	type rules = map[string]func(path string, properties document) string
	return map[string]rules{
		"AWS::SQS::Queue": {
			"AwsSolutions-SQS2": func(_ string, p document) string {
				return unless(p["SqsManagedSseEnabled"] == true || p["KmsMasterKeyId"] != nil, "is not encrypted at rest")
			},
			"AwsSolutions-SQS3": func(path string, p document) string {
				return unless(p["RedrivePolicy"] != nil || s.takesDeadLetters(path), "has no dead-letter queue and is none")
			},
			"AwsSolutions-SQS4": func(path string, _ document) string {
				return unless(s.refusesPlainHTTP(path), "accepts requests without TLS")
			},
		},
		"AWS::DynamoDB::GlobalTable": {
			"AwsSolutions-DDB3": func(_ string, p document) string {
				replica := p["Replicas"].([]any)[0].(document)
				recovery, _ := replica["PointInTimeRecoverySpecification"].(document)
				return unless(recovery["PointInTimeRecoveryEnabled"] == true, "cannot be taken back to a point in time")
			},
		},
		"AWS::KMS::Key": {
			"AwsSolutions-KMS5": func(_ string, p document) string { return unless(p["EnableKeyRotation"] == true, "is not rotated") },
		},
		"AWS::SNS::Topic": {
			"AwsSolutions-SNS2": func(_ string, p document) string {
				return unless(p["KmsMasterKeyId"] != nil, "is not encrypted at rest")
			},
			"AwsSolutions-SNS3": func(path string, _ document) string {
				return unless(s.takesTLSOnly(path), "accepts publishing without TLS")
			},
		},
		"AWS::Lambda::Function": {
			"AwsSolutions-L1": func(_ string, p document) string {
				return unless(p["Runtime"] == "provided.al2023", "does not run on the latest runtime, which for Go is provided.al2023")
			},
		},
		"AWS::IAM::Role": {
			"AwsSolutions-IAM4": func(_ string, p document) string {
				return unless(p["ManagedPolicyArns"] == nil, "has a policy that AWS manages, and so what AWS will add to it")
			},
			"AwsSolutions-IAM5": func(_ string, p document) string {
				return unless(p["Policies"] == nil, "has inline policies, where nobody looks for wildcards")
			},
		},
		"AWS::IAM::Policy": {
			"AwsSolutions-IAM5": func(_ string, p document) string {
				var wide []string
				for _, permission := range slices.Sorted(maps.Keys(lines(p["PolicyDocument"].(document)["Statement"].([]any)))) {
					if strings.ContainsAny(permission, "*?") && !isExplained(permission) {
						wide = append(wide, permission)
					}
				}
				return unless(wide == nil, fmt.Sprintf("has wildcards without a reason: %q", wide))
			},
		},
		"AWS::SecretsManager::Secret": {
			// The one secret signs for the canary alone, and whoever has it can make an alarm silent and no more; it is changed by changing the stack.
			"AwsSolutions-SMG4": func(path string, _ document) string { return unless(path == "canary/secret", "is not rotated") },
		},
		"AWS::EC2::SecurityGroup": {
			"AwsSolutions-EC23": func(_ string, p document) string { return unless(p["SecurityGroupIngress"] == nil, "lets someone in") },
			"AwsSolutions-EC27": func(_ string, p document) string { return unless(p["GroupDescription"] != nil, "has no description") },
		},
		"AWS::EC2::VPC": {
			"AwsSolutions-VPC7": func(string, document) string { return unless(s.has("AWS::EC2::FlowLog"), "has no flow log") },
		},
		"AWS::EC2::NetworkAcl": {
			"AwsSolutions-VPC3": func(string, document) string { return "is there: security groups do it, and remember connections" },
		},
		// No rules of the pack:
		"AWS::EC2::EIP": nil, "AWS::EC2::FlowLog": nil, "AWS::EC2::InternetGateway": nil, "AWS::EC2::NatGateway": nil, "AWS::EC2::Route": nil,
		"AWS::EC2::RouteTable": nil, "AWS::EC2::Subnet": nil, "AWS::EC2::SubnetRouteTableAssociation": nil, "AWS::EC2::VPCEndpoint": nil,
		"AWS::Lambda::Url": nil, "AWS::Lambda::Permission": nil, "AWS::EC2::VPCGatewayAttachment": nil, "AWS::Lambda::Alias": nil, "AWS::Lambda::EventInvokeConfig": nil,
		"AWS::Lambda::EventSourceMapping": nil, "AWS::Lambda::Version": nil, "AWS::Logs::LogGroup": nil, "AWS::SQS::QueuePolicy": nil,
		"AWS::Scheduler::Schedule": nil, "AWS::Scheduler::ScheduleGroup": nil, "AWS::CloudWatch::Alarm": nil, "AWS::CloudWatch::CompositeAlarm": nil,
		"AWS::CodeDeploy::Application": nil, "AWS::CodeDeploy::DeploymentGroup": nil, "AWS::CloudWatch::AlarmMuteRule": nil, "AWS::ApplicationSignals::ServiceLevelObjective": nil, "AWS::Logs::QueryDefinition": nil,
		"AWS::CloudWatch::Dashboard": nil, "AWS::CloudWatch::InsightRule": nil, "AWS::SNS::TopicPolicy": nil, "AWS::SNS::Subscription": nil, "AWS::Chatbot::SlackChannelConfiguration": nil,
	}
}

func unless(holds bool, problem string) string {
	if holds {
		return ""
	}
	return problem
}

func isExplained(permission string) bool {
	for beginning := range explained {
		if strings.HasPrefix(permission, beginning) {
			return true
		}
	}
	return false
}

// violations are those of all rules.
func (s synthesis) violations() []string {
	var found []string
	paths := map[string]string{}
	resources := s.copy().template["Resources"].(document)
	for id, r := range resources {
		paths[id] = path(id, r.(document))
	}
	rules := s.rules()
	for id, r := range resources {
		r := r.(document)
		kind := fmt.Sprint(r["Type"])
		of, known := rules[kind]
		if !known {
			found = append(found, fmt.Sprintf("%s: %s is a new kind of resource here: say which rules of AwsSolutions it has", paths[id], kind))
		}
		properties, _ := rename(r["Properties"], paths).(document)
		for rule, check := range of {
			if problem := check(paths[id], properties); problem != "" {
				found = append(found, fmt.Sprintf("%s: %s: %s", rule, paths[id], problem))
			}
		}
	}
	slices.Sort(found)
	return found
}

func (s synthesis) has(kind string) bool {
	for _, r := range s.template["Resources"].(document) {
		if r.(document)["Type"] == kind {
			return true
		}
	}
	return false
}

// takesDeadLetters says whether another queue names this one as its dead-letter queue.
func (s synthesis) takesDeadLetters(queue string) bool {
	return s.mention(queue, "AWS::SQS::Queue", func(p document) any { return p["RedrivePolicy"] })
}

// refusesPlainHTTP says whether a policy denies all of the queue to whoever comes without TLS.
func (s synthesis) refusesPlainHTTP(queue string) bool {
	return s.mention(queue, "AWS::SQS::QueuePolicy", func(p document) any {
		for _, v := range p["PolicyDocument"].(document)["Statement"].([]any) {
			statement := v.(document)
			condition := string(encode(statement["Condition"]))
			if statement["Effect"] == "Deny" && statement["Action"] == "sqs:*" && condition == `{"Bool":{"aws:SecureTransport":"false"}}` &&
				string(encode(statement["Principal"])) == `{"AWS":"*"}` {
				return statement["Resource"]
			}
		}
		return nil
	})
}

// takesTLSOnly says whether a policy denies publishing on the topic to whoever comes without TLS.
func (s synthesis) takesTLSOnly(topic string) bool {
	return s.mention(topic, "AWS::SNS::TopicPolicy", func(p document) any {
		for _, v := range p["PolicyDocument"].(document)["Statement"].([]any) {
			statement := v.(document)
			if statement["Effect"] == "Deny" && statement["Action"] == "sns:Publish" && statement["Principal"] == "*" &&
				string(encode(statement["Condition"])) == `{"Bool":{"aws:SecureTransport":"false"}}` {
				return statement["Resource"]
			}
		}
		return nil
	})
}

// mention says whether a resource of that kind refers to the one with that path within the part of it.
func (s synthesis) mention(target, kind string, part func(properties document) any) bool {
	all := s.template["Resources"].(document)
	for _, r := range all {
		r := r.(document)
		if r["Type"] != kind {
			continue
		}
		text := string(encode(part(properties(r))))
		for id, other := range all {
			if path(id, other.(document)) == target && strings.Contains(text, `"`+id+`"`) {
				return true
			}
		}
	}
	return false
}

func TestTemplatesKeepAWSsRules(t *testing.T) {
	for name, s := range templates(t) {
		if strings.HasPrefix(name, "larger") {
			continue // it has a queue alone
		}
		t.Run(name, func(t *testing.T) {
			for _, violation := range s.violations() {
				t.Error(violation)
			}
		})
	}
}

// Each reason is for a wildcard that is there.
func TestNothingIsExplainedThatIsNotThere(t *testing.T) {
	var permissions []string
	for _, s := range templates(t) {
		for _, r := range s.readable()["Resources"].(document) {
			if r := r.(document); r["Type"] == "AWS::IAM::Policy" {
				permissions = slices.AppendSeq(permissions, maps.Keys(properties(r)["PolicyDocument"].(document)["Statement"].(document)))
			}
		}
	}
	for beginning := range explained {
		if !slices.ContainsFunc(permissions, func(p string) bool { return strings.HasPrefix(p, beginning) }) {
			t.Errorf("no role has %q any more: delete its reason", beginning)
		}
	}
}

func TestBrokenRulesAreNoticed(t *testing.T) {
	made := templates(t)[plain+", everything"]
	for name, test := range map[string]struct {
		of     string
		change func(document)
		want   string
	}{
		"plain text at rest":   {"queue-ingress/Resource", func(r document) { delete(properties(r), "KmsMasterKeyId") }, "AwsSolutions-SQS2: queue-ingress/Resource"},
		"no dead-letter queue": {"queue-ingress/Resource", func(r document) { delete(properties(r), "RedrivePolicy") }, "AwsSolutions-SQS3: queue-ingress/Resource"},
		"plain HTTP":           {"queue-ingress/Policy/Resource", func(r document) { statement(r)["Effect"] = "Allow" }, "AwsSolutions-SQS4: queue-ingress/Resource"},
		"plain HTTP from some": {"queue-ingress/Policy/Resource", func(r document) { statement(r)["Principal"] = "me" }, "AwsSolutions-SQS4: queue-ingress/Resource"},
		"no way back": {"table-ledger/Resource", func(r document) {
			delete(properties(r)["Replicas"].([]any)[0].(document), "PointInTimeRecoverySpecification")
		}, "AwsSolutions-DDB3"},
		"one key for ever": {"key/Resource", func(r document) { delete(properties(r), "EnableKeyRotation") }, "AwsSolutions-KMS5"},
		"an old runtime":   {"AWS::Lambda::Function", func(r document) { properties(r)["Runtime"] = "provided.al2" }, "AwsSolutions-L1"},
		"a managed policy": {"AWS::IAM::Role", func(r document) { properties(r)["ManagedPolicyArns"] = []any{} }, "AwsSolutions-IAM4"},
		"an inline policy": {"AWS::IAM::Role", func(r document) { properties(r)["Policies"] = []any{} }, "AwsSolutions-IAM5"},
		"any operation":    {"function-router/role/DefaultPolicy/Resource", func(r document) { statement(r)["Action"] = "logs:*" }, `wildcards without a reason: ["Allow logs:* on `},
		"any secret": {"function-deliverer/role/DefaultPolicy/Resource", func(r document) {
			statement(r)["Action"], statement(r)["Resource"] = "secretsmanager:GetSecretValue", "*"
		}, "wildcards without a reason"},
		"any resource":          {"function-router/role/DefaultPolicy/Resource", func(r document) { statement(r)["Resource"] = "*" }, "wildcards without a reason"},
		"anything but":          {"function-router/role/DefaultPolicy/Resource", func(r document) { statement(r)["NotResource"] = "*" }, "wildcards without a reason"},
		"an open door":          {"network/group/Resource", func(r document) { properties(r)["SecurityGroupIngress"] = []any{} }, "AwsSolutions-EC23"},
		"a group for who knows": {"network/group/Resource", func(r document) { delete(properties(r), "GroupDescription") }, "AwsSolutions-EC27"},
		"no flow log":           {"AWS::EC2::FlowLog", func(r document) { r["Type"] = "AWS::EC2::EIP" }, "AwsSolutions-VPC7"},
		"network ACL":           {"AWS::EC2::EIP", func(r document) { r["Type"] = "AWS::EC2::NetworkAcl" }, "AwsSolutions-VPC3"},
		"pages in plain text":   {"AWS::SNS::Topic", func(r document) { delete(properties(r), "KmsMasterKeyId") }, "AwsSolutions-SNS2: alarms/topic/Resource"},
		"pages by plain HTTP":   {"AWS::SNS::TopicPolicy", func(r document) { statement(r)["Effect"] = "Allow" }, "AwsSolutions-SNS3: alarms/topic/Resource"},
		"a new kind":            {"AWS::EC2::EIP", func(r document) { r["Type"] = "AWS::S3::Bucket" }, "AWS::S3::Bucket is a new kind of resource here"},
	} {
		t.Run(name, func(t *testing.T) {
			s := made.copy()
			test.change(find(s, test.of))
			found := s.violations()
			if !slices.ContainsFunc(found, func(violation string) bool { return strings.Contains(violation, test.want) }) {
				t.Errorf("no violation contains %q, only %q", test.want, found)
			}
		})
	}
}
