package stack_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// cdk-nag looks at every stack that these tests synthesise, with its pack AwsSolutions: AWS's own rules for a secure architecture. It sees the properties that
// constructs have, not the template. Of global tables, of runtimes of the family `provided` and of an encrypted topic's policy it says nothing; the contract does.

// suppression lets findings stand, and says why.
type suppression struct {
	rule  string
	paths []string // of resources within the stack, as patterns of filepath.Match
	// parts are what the rule finds in each of the resources: for wildcards in policies permissions, one by one, because of all that is allowed on `*` the rule
	// makes one finding. A rule that finds no parts has the part "".
	parts  []string
	reason string
}

var suppressions = []suppression{
	{
		"AwsSolutions-IAM5", []string{"function-*/role/DefaultPolicy/Resource"},
		[]string{"xray:PutTraceSegments on *", "xray:PutTelemetryRecords on *"},
		"X-Ray has no resources that a policy could name",
	},
	{
		"AwsSolutions-IAM5", callers,
		[]string{"ec2:CreateNetworkInterface on *", "ec2:DeleteNetworkInterface on *", "ec2:AssignPrivateIpAddresses on *", "ec2:UnassignPrivateIpAddresses on *"},
		"Lambda makes the interface and names it; the function itself is denied this",
	},
	{
		"AwsSolutions-IAM5", callers, []string{"ec2:DescribeNetworkInterfaces on *", "ec2:DescribeSubnets on *"},
		"EC2 allows it on all of them or none; the function itself is denied this",
	},
	{
		"AwsSolutions-IAM5", callers, []string{
			"secretsmanager:GetSecretValue on arn:<AWS::Partition>:secretsmanager:<AWS::Region>:<AWS::AccountId>:secret:waybill/*",
			"ssm:GetParameter on arn:<AWS::Partition>:ssm:<AWS::Region>:<AWS::AccountId>:parameter/waybill/*",
		},
		"destinations come and go, and their secrets with them; the name begins with waybill/",
	},
	{
		"AwsSolutions-IAM5", callers, []string{"secretsmanager:GetSecretValue on " + secretARN, "ssm:GetParameter on " + parameterARN},
		"the operator named a group of secrets and one of parameters",
	},
	{
		"AwsSolutions-IAM5", []string{"function-*/release/role/DefaultPolicy/Resource"}, []string{"cloudwatch:DescribeAlarms on *"},
		"CodeDeploy asks for all alarms of a release in one call, for which IAM looks at all alarms; it only reads",
	},
	{
		"AwsSolutions-SMG4", []string{"canary/secret"}, []string{""},
		"it signs for the canary alone: whoever has it can make an alarm silent and no more; it is changed by changing the stack",
	},
	{
		"AwsSolutions-SQS3", []string{"queue-alone/Resource"}, []string{""},
		"these tests add it to a topology, to be alone",
	},
}

// callers are the roles of functions that call destinations.
var callers = []string{"function-deliverer/role/DefaultPolicy/Resource", "function-slowlane/role/DefaultPolicy/Resource"}

// finding is a warning or an error about a resource.
type finding struct {
	rule, path, part, says string
}

func (f finding) String() string {
	if f.part == "" {
		return f.rule + " at " + f.path
	}
	return fmt.Sprintf("%s at %s: %s", f.rule, f.path, f.part)
}

// suppressed says whether f may stand.
func (s suppression) suppressed(f finding) bool {
	return s.rule == f.rule && slices.Contains(s.parts, f.part) && slices.ContainsFunc(s.paths, func(pattern string) bool { return matches(pattern, f.path) })
}

func matches(pattern, name string) bool {
	ok, err := filepath.Match(pattern, name)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", pattern, err)) // patterns are literals
	}
	return ok
}

// said is how cdk-nag writes a finding, with its part in brackets.
var said = regexp.MustCompile(`(?s)^([\w.-]+)(?:\[(.*)\])?: (.*)$`)

// findings are all warnings and errors: those that cdk-nag and CDK's constructs left with a resource, and those of CDK's own look at the template.
func (s synthesis) findings() []finding {
	var all []finding
	named, wildcards := s.named(), s.wildcards()
	for path, entries := range s.metadata {
		for _, entry := range entries.([]any) {
			entry := entry.(document)
			if entry["type"] != "aws:cdk:error" && entry["type"] != "aws:cdk:warning" {
				continue
			}
			f := finding{path: strings.TrimPrefix(path, "/waybill/"), says: strings.TrimSpace(fmt.Sprint(entry["data"]))}
			if match := said.FindStringSubmatch(f.says); match != nil {
				f.rule, f.part, f.says = match[1], named.Replace(match[2]), match[3]
			}
			permissions := wildcards[f.path][f.part]
			if permissions == nil {
				permissions = []string{f.part}
			}
			for _, f.part = range permissions {
				all = append(all, f)
			}
		}
	}
	for _, plugin := range s.report["pluginReports"].([]any) {
		for _, v := range plugin.(document)["violations"].([]any) {
			violation := v.(document)
			for _, c := range violation["violatingConstructs"].([]any) {
				path := strings.TrimPrefix(fmt.Sprint(c.(document)["constructPath"]), "waybill/")
				all = append(all, finding{rule: fmt.Sprint(violation["ruleName"]), path: path, says: fmt.Sprint(violation["description"])})
			}
		}
	}
	slices.SortFunc(all, func(a, b finding) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// unsuppressed are the findings for which there is no suppression.
func (s synthesis) unsuppressed() []finding {
	return slices.DeleteFunc(s.findings(), func(f finding) bool {
		return slices.ContainsFunc(suppressions, func(s suppression) bool { return s.suppressed(f) })
	})
}

// wildcards are the permissions with a wildcard, by the path of their policy and by the part of it for which cdk-nag makes one finding, an action or a
// resource.
func (s synthesis) wildcards() map[string]map[string][]string {
	all, named := map[string]map[string][]string{}, s.named()
	for id, r := range s.template["Resources"].(document) {
		r := r.(document)
		if r["Type"] != "AWS::IAM::Policy" {
			continue
		}
		parts := map[string][]string{}
		for _, v := range properties(r)["PolicyDocument"].(document)["Statement"].([]any) {
			statement := v.(document)
			if statement["Effect"] != "Allow" || statement["Action"] == nil || statement["Resource"] == nil {
				continue
			}
			condition := ""
			if c := statement["Condition"]; c != nil {
				condition = " if " + string(encode(c))
			}
			for _, action := range list(statement["Action"]) {
				for _, resource := range list(statement["Resource"]) {
					action, on := fmt.Sprint(action), named.Replace(flat(resource))
					for part, wild := range map[string]string{"Action::" + action: action, "Resource::" + on: on} {
						if strings.Contains(wild, "*") {
							parts[part] = append(parts[part], action+" on "+on+condition)
						}
					}
				}
			}
		}
		all[path(id, r)] = parts
	}
	return all
}

// named puts paths in place of logical ids, in references as cdk-nag writes them.
func (s synthesis) named() *strings.Replacer {
	var pairs []string
	for id, r := range s.template["Resources"].(document) {
		path := path(id, r.(document))
		pairs = append(pairs, "<"+id+">", "<"+path+">", "<"+id+".", "<"+path+".")
	}
	return strings.NewReplacer(pairs...)
}

// flat writes a value with references as cdk-nag writes it.
func flat(v any) string {
	d, ok := v.(document)
	if !ok {
		return fmt.Sprint(v)
	}
	if join, ok := d["Fn::Join"].([]any); ok {
		var parts []string
		for _, part := range join[1].([]any) {
			parts = append(parts, flat(part))
		}
		return strings.Join(parts, fmt.Sprint(join[0]))
	}
	if get, ok := d["Fn::GetAtt"].([]any); ok {
		return fmt.Sprintf("<%s.%s>", get...)
	}
	if ref, ok := d["Ref"]; ok {
		return fmt.Sprintf("<%s>", ref)
	}
	return string(encode(v))
}

func TestStacksKeepAWSsRules(t *testing.T) {
	for name, s := range templates(t) {
		t.Run(name, func(t *testing.T) {
			for _, f := range s.unsuppressed() {
				t.Errorf("%v: %s", f, f.says)
			}
		})
	}
}

// Each suppression is for something that is there, in each of its resources.
func TestNothingIsSuppressedThatIsNotFound(t *testing.T) {
	var found []finding
	for _, s := range templates(t) {
		found = append(found, s.findings()...)
	}
	for _, s := range suppressions {
		if s.reason == "" {
			t.Errorf("%s at %s is suppressed without a reason", s.rule, s.paths)
		}
		for _, pattern := range s.paths {
			for _, part := range s.parts {
				one := suppression{rule: s.rule, paths: []string{pattern}, parts: []string{part}}
				if !slices.ContainsFunc(found, one.suppressed) {
					t.Errorf("%v is found no more: delete its suppression", finding{rule: s.rule, path: pattern, part: part})
				}
			}
		}
	}
}

// A stack with all of these faults at once, which is synthesised for this alone: each is found, and nothing else is.
func TestBrokenRulesAreNoticed(t *testing.T) {
	faults := map[string]struct {
		change func(awscdk.Stack)
		want   []string
	}{
		"a queue without anything": {
			func(s awscdk.Stack) {
				awssqs.NewCfnQueue(s, jsii.String("queue"), &awssqs.CfnQueueProps{SqsManagedSseEnabled: jsii.Bool(false)})
			},
			[]string{"AwsSolutions-SQS2 at queue", "AwsSolutions-SQS3 at queue", "AwsSolutions-SQS4 at queue"},
		},
		"plain HTTP to a queue": {
			func(s awscdk.Stack) { without(s, "queue-deliveries", "Policy") }, []string{"AwsSolutions-SQS4 at queue-deliveries/Resource"},
		},
		"a topic without anything": {
			func(s awscdk.Stack) { awssns.NewCfnTopic(s, jsii.String("topic"), nil) }, []string{"AwsSolutions-SNS3 at topic"},
		},
		"one key for ever": {
			func(s awscdk.Stack) { at[awskms.CfnKey](s, "key/Resource").SetEnableKeyRotation(jsii.Bool(false)) },
			[]string{"AwsSolutions-KMS5 at key/Resource"},
		},
		"any operation": {
			func(s awscdk.Stack) {
				grant(s, "function-router", "sqs:*", at[awssqs.Queue](s, "queue-ingress").QueueArn())
			},
			[]string{"AwsSolutions-IAM5 at function-router/role/DefaultPolicy/Resource: sqs:* on <queue-ingress/Resource.Arn>"},
		},
		"any table, beside what is suppressed": {
			func(s awscdk.Stack) { grant(s, "function-waker", "dynamodb:DeleteTable", jsii.String("*")) },
			[]string{"AwsSolutions-IAM5 at function-waker/role/DefaultPolicy/Resource: dynamodb:DeleteTable on *"},
		},
		"any alias": {
			func(s awscdk.Stack) {
				function := at[awslambda.Function](s, "function-router/function").FunctionArn()
				grant(s, "function-waker/release", "lambda:GetAlias", jsii.String(*function+":*"))
			},
			[]string{"AwsSolutions-IAM5 at function-waker/release/role/DefaultPolicy/Resource: lambda:GetAlias on <function-router/function/Resource.Arn>:*"},
		},
		"what is suppressed, of another role": {
			func(s awscdk.Stack) { grant(s, "function-router/release", "xray:PutTraceSegments", jsii.String("*")) },
			[]string{"AwsSolutions-IAM5 at function-router/release/role/DefaultPolicy/Resource: xray:PutTraceSegments on *"},
		},
		"all but one operation": {
			func(s awscdk.Stack) {
				queue := at[awssqs.Queue](s, "queue-ingress").QueueArn()
				awsiam.NewCfnPolicy(s, jsii.String("unclear"), &awsiam.CfnPolicyProps{
					PolicyName: jsii.String("unclear"), Roles: &[]*string{at[awsiam.Role](s, "function-router/role").RoleName()},
					PolicyDocument: document{"Statement": []any{document{"Effect": "Allow", "NotAction": "sqs:PurgeQueue", "Resource": queue}}},
				})
			},
			[]string{"CdkNagValidationFailure at unclear: AwsSolutions-IAM5", "W2512 at unclear"},
		},
		"managed policy": {
			func(s awscdk.Stack) {
				role := at[awsiam.Role](s, "function-router/role")
				role.AddManagedPolicy(awsiam.ManagedPolicy_FromAwsManagedPolicyName(jsii.String("PowerUserAccess")))
			},
			[]string{"AwsSolutions-IAM4 at function-router/role/Resource: Policy::arn:<AWS::Partition>:iam::aws:policy/PowerUserAccess"},
		},
		"wildcard inside a role": {
			func(s awscdk.Stack) {
				at[awsiam.CfnRole](s, "function-waker/role/Resource").SetPolicies([]any{&awsiam.CfnRole_PolicyProperty{
					PolicyName:     jsii.String("inline"),
					PolicyDocument: document{"Statement": []any{document{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::a"}}},
				}})
			},
			[]string{"AwsSolutions-IAM5 at function-waker/role/Resource: Action::s3:*"},
		},
		"an open door": {
			func(s awscdk.Stack) {
				group := at[awsec2.SecurityGroup](s, "network/group")
				group.AddIngressRule(awsec2.Peer_AnyIpv4(), awsec2.Port_Tcp(jsii.Number(443)), nil, nil)
			},
			[]string{"AwsSolutions-EC23 at network/group/Resource"},
		},
		"a group for who knows": {
			func(s awscdk.Stack) {
				at[awsec2.CfnSecurityGroup](s, "network/group/Resource").SetGroupDescription(jsii.String(""))
			},
			[]string{"AwsSolutions-EC27 at network/group/Resource"},
		},
		"no flow log": {
			func(s awscdk.Stack) { without(s, "network/vpc", "flows") }, []string{"AwsSolutions-VPC7 at network/vpc/Resource"},
		},
		"a network ACL, which is a warning": {
			func(s awscdk.Stack) {
				awsec2.NewCfnNetworkAcl(s, jsii.String("acl"), &awsec2.CfnNetworkAclProps{VpcId: at[awsec2.Vpc](s, "network/vpc").VpcId()})
			},
			[]string{"AwsSolutions-VPC3 at acl"},
		},
		"a table of the older kind without a way back": {
			func(s awscdk.Stack) {
				awsdynamodb.NewCfnTable(s, jsii.String("older"), &awsdynamodb.CfnTableProps{
					BillingMode:          jsii.String("PAY_PER_REQUEST"),
					AttributeDefinitions: []any{&awsdynamodb.CfnTable_AttributeDefinitionProperty{AttributeName: jsii.String("id"), AttributeType: jsii.String("S")}},
					KeySchema:            []any{&awsdynamodb.CfnTable_KeySchemaProperty{AttributeName: jsii.String("id"), KeyType: jsii.String("HASH")}},
				})
			},
			[]string{"AwsSolutions-DDB3 at older"},
		},
		"a runtime of the past": {
			func(s awscdk.Stack) {
				at[awslambda.CfnFunction](s, "function-router/function/Resource").SetRuntime(jsii.String("nodejs22.x"))
			},
			[]string{"AwsSolutions-L1 at function-router/function/Resource"},
		},
		"a secret for ever": {
			func(s awscdk.Stack) { awssecretsmanager.NewCfnSecret(s, jsii.String("secret"), nil) }, []string{"AwsSolutions-SMG4 at secret"},
		},
		"a kind of resource that is new": {
			func(s awscdk.Stack) { awss3.NewCfnBucket(s, jsii.String("bucket"), nil) },
			[]string{"AwsSolutions-S1 at bucket", "AwsSolutions-S10 at bucket"},
		},
	}
	needsNode(t)
	var changes []func(awscdk.Stack)
	for _, fault := range faults {
		changes = append(changes, fault.change)
	}
	s, err := synth(variants()[plain+", everything"], changes...)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range s.unsuppressed() {
		found[f.String()] = true
	}
	for name, fault := range faults {
		for _, want := range fault.want {
			if !found[want] {
				t.Errorf("%s: there is no finding %q", name, want)
			}
			delete(found, want)
		}
	}
	for f := range found {
		t.Errorf("nothing was broken for the finding %q", f)
	}
}

// at is the construct of the stack with that path.
func at[T constructs.IConstruct](s awscdk.Stack, path string) T {
	var found constructs.IConstruct = s
	for id := range strings.SplitSeq(path, "/") {
		found = found.Node().FindChild(jsii.String(id))
	}
	return found.(T)
}

// without takes a construct away from the one with that path.
func without(s awscdk.Stack, path, child string) {
	at[constructs.IConstruct](s, path).Node().TryRemoveChild(jsii.String(child))
}

// grant allows the role beside whatever has that path an operation more.
func grant(s awscdk.Stack, path, operation string, on *string) {
	at[awsiam.Role](s, path+"/role").AddToPrincipalPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions: jsii.Strings(operation), Resources: &[]*string{on},
	}))
}
