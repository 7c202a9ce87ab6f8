package stack_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/topology"
)

// A contract that nothing can break proves nothing. Here it is broken from both sides, and must name the place.

func TestAChangedTopologyIsDrift(t *testing.T) {
	low := templates(t)["low latency"]
	for name, test := range map[string]struct {
		change func(*topology.Topology)
		want   string
	}{
		"another queue": {
			func(t *topology.Topology) { t.Queues = append(t.Queues, topology.Queue{Name: "extra"}) },
			"queue-extra/Resource is missing",
		},
		"a queue less": {
			func(t *topology.Topology) { t.Queues = t.Queues[1:] },
			"queue-ingress/Resource is there, and nothing declares it",
		},
		"retention": {
			func(t *topology.Topology) { t.Queues[0].Retention += time.Second },
			"queue-ingress/Resource.Properties.MessageRetentionPeriod is 345600, want 345601",
		},
		"receive count": {
			func(t *topology.Topology) { t.Queues[0].MaxReceiveCount = 5 },
			"queue-ingress/Resource.Properties.RedrivePolicy.maxReceiveCount is 10, want 5",
		},
		"dead letters elsewhere": {
			func(t *topology.Topology) { t.Queues[0].DeadLetter = topology.DeliveriesDeadLetter },
			"queue-ingress/Resource.Properties.RedrivePolicy.deadLetterTargetArn",
		},
		"another table": {
			func(t *topology.Topology) { t.Tables = append(t.Tables, topology.Table{Name: "extra"}) },
			"table-extra/Resource is missing",
		},
		"key":         {func(t *topology.Topology) { t.Tables[0].Partition.Type = topology.Number }, "table-ledger/Resource.Properties.AttributeDefinitions"},
		"sort key":    {func(t *topology.Topology) { t.Tables[0].Sort = t.Tables[0].Partition }, "table-ledger/Resource.Properties.KeySchema"},
		"expiry":      {func(t *topology.Topology) { t.Tables[0].TTLAttribute = "gone" }, "TimeToLiveSpecification.AttributeName"},
		"no function": {func(t *topology.Topology) { t.Functions = t.Functions[:1] }, "function-deliverer/function/Resource is there, and nothing declares it"},
		"another function": {
			func(t *topology.Topology) { t.Functions = append(t.Functions, topology.Function{Name: "extra"}) },
			"function-extra/function/Resource is missing",
		},
		"timeout moves the function":   {func(t *topology.Topology) { t.Functions[0].Timeout *= 2 }, "function-router/function/Resource.Properties.Timeout is 30, want 60"},
		"timeout moves the visibility": {func(t *topology.Topology) { t.Functions[0].Timeout *= 2 }, "queue-ingress/Resource.Properties.VisibilityTimeout is 180, want 360"},
		"window moves the visibility":  {func(t *topology.Topology) { t.Functions[0].Source.Window = time.Second }, "VisibilityTimeout is 180, want 181"},
		"memory":                       {func(t *topology.Topology) { t.Functions[0].MemoryMB = 128 }, "MemorySize is 512, want 128"},
		"profile":                      {func(t *topology.Topology) { t.Profile = topology.HighVolume }, "Environment.Variables.WAYBILL_PROFILE"},
		"recursive loop":               {func(t *topology.Topology) { t.Functions[1].RecursiveLoop = false }, `function-deliverer/function/Resource.Properties.RecursiveLoop is "Allow", want "Terminate"`},
		"source":                       {func(t *topology.Topology) { t.Functions[0].Source.Queue = topology.Deliveries }, "function-router/source/Resource.Properties.EventSourceArn"},
		"batch size":                   {func(t *topology.Topology) { t.Functions[0].Source.BatchSize = 1 }, "function-router/source/Resource.Properties.BatchSize is 10, want 1"},
		"window":                       {func(t *topology.Topology) { t.Functions[0].Source.Window = time.Second }, "MaximumBatchingWindowInSeconds is 0, want 1"},
		"concurrency":                  {func(t *topology.Topology) { t.Functions[0].Source.MaximumConcurrency = 2 }, "ScalingConfig.MaximumConcurrency is 100, want 2"},
		"no limit of concurrency":      {func(t *topology.Topology) { t.Functions[0].Source.MaximumConcurrency = 0 }, "ScalingConfig is there, and nothing declares it"},
		"a variable less":              {func(t *topology.Topology) { t.Functions[0].Queues = t.Functions[0].Queues[:2] }, "WAYBILL_QUEUE_DELIVERIES_URL is there, and nothing declares it"},
		"a variable more":              {func(t *topology.Topology) { t.Functions[0].Tables = t.Functions[1].Tables }, "WAYBILL_TABLE_LEDGER is missing"},
		"another operation on a queue": {func(t *topology.Topology) {
			t.Functions[0].Queues[1].Operations = []topology.Operation{"sqs:PurgeQueue"}
		}, "Allow sqs:PurgeQueue on queue-ingress-dlq/Resource is missing"},
		"another operation on a table": {func(t *topology.Topology) { t.Functions[1].Tables[0].Operations[0] = "dynamodb:Scan" }, "Allow dynamodb:Scan on table-ledger/Resource is missing"},
		"an operation less": {func(t *topology.Topology) {
			t.Functions[1].Tables[0].Operations = t.Functions[1].Tables[0].Operations[1:]
		}, "Allow dynamodb:BatchGetItem on table-ledger/Resource is there, and nothing declares it"},
		"the same on another queue too": {func(t *topology.Topology) { t.Functions[0].Queues[1].Queue = topology.DeliveriesDeadLetter }, "Allow sqs:SendMessage on queue-deliveries-dlq/Resource is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			s := low
			s.topology = topology.New(topology.LowLatency)
			test.change(&s.topology)
			mustDrift(t, s, test.want)
		})
	}
}

func TestAChangedTemplateIsDrift(t *testing.T) {
	low := templates(t)["low latency"]
	for name, test := range map[string]struct {
		of     string // the type of the resource to change
		change func(resource document)
		want   string
	}{
		"partial failures off": {
			"AWS::Lambda::EventSourceMapping", func(r document) { delete(properties(r), "FunctionResponseTypes") },
			"source/Resource.Properties.FunctionResponseTypes is missing",
		},
		"mapping past the alias": {
			"AWS::Lambda::EventSourceMapping", func(r document) { properties(r)["FunctionName"] = "anything" },
			"source/Resource.Properties.FunctionName",
		},
		"messages filtered away": {
			"AWS::Lambda::EventSourceMapping", func(r document) { properties(r)["FilterCriteria"] = document{} },
			"source/Resource.Properties.FilterCriteria is there",
		},
		"no tracing": {
			"AWS::Lambda::Function", func(r document) { properties(r)["TracingConfig"] = document{"Mode": "PassThrough"} },
			`TracingConfig.Mode is "PassThrough", want "Active"`,
		},
		"another program": {
			"AWS::Lambda::Function", func(r document) { properties(r)["Code"].(document)["S3Key"] = "other.zip" },
			"Properties.Code.S3Key",
		},
		"logs as text": {
			"AWS::Lambda::Function", func(r document) { properties(r)["LoggingConfig"].(document)["LogFormat"] = "Text" },
			`LoggingConfig.LogFormat is "Text", want "JSON"`,
		},
		"function before its permissions": {
			"AWS::Lambda::Function", func(r document) { delete(r, "DependsOn") },
			"function/Resource.DependsOn is missing",
		},
		"another variable": {
			"AWS::Lambda::Function", func(r document) { properties(r)["Environment"].(document)["Variables"].(document)["X"] = "" },
			"Environment.Variables.X is there, and nothing declares it",
		},
		"physical name": {
			"AWS::SQS::Queue", func(r document) { properties(r)["QueueName"] = "waybill-ingress" },
			"Properties.QueueName is there, and nothing declares it",
		},
		"queue unencrypted":         {"AWS::SQS::Queue", func(r document) { delete(properties(r), "SqsManagedSseEnabled") }, "SqsManagedSseEnabled is missing"},
		"queue deleted with stack":  {"AWS::SQS::Queue", func(r document) { r["DeletionPolicy"] = "Delete" }, "DeletionPolicy"},
		"queue open to plain HTTP":  {"AWS::SQS::QueuePolicy", func(r document) { statement(r)["Effect"] = "Allow" }, "Policy/Resource.Properties.PolicyDocument.Statement"},
		"table deleted with stack":  {"AWS::DynamoDB::GlobalTable", func(r document) { delete(r, "DeletionPolicy") }, "table-ledger/Resource.DeletionPolicy is missing"},
		"table without backup":      {"AWS::DynamoDB::GlobalTable", func(r document) { delete(properties(r), "Replicas") }, "table-ledger/Resource.Properties.Replicas is missing"},
		"table at a fixed capacity": {"AWS::DynamoDB::GlobalTable", func(r document) { properties(r)["BillingMode"] = "PROVISIONED" }, "BillingMode"},
		"logs for ever":             {"AWS::Logs::LogGroup", func(r document) { delete(properties(r), "RetentionInDays") }, "RetentionInDays is missing"},
		"all actions":               {"AWS::IAM::Policy", func(r document) { statement(r)["Action"] = "*" }, "Allow * on function-deliverer/logs/Resource is there"},
		"all resources":             {"AWS::IAM::Policy", func(r document) { statement(r)["Resource"] = "*" }, "Allow logs:CreateLogStream on * is there"},
		"all actions but one":       {"AWS::IAM::Policy", func(r document) { statement(r)["NotAction"] = "sqs:PurgeQueue" }, "NotAction"},
		"managed policy": {
			"AWS::IAM::Role", func(r document) {
				properties(r)["ManagedPolicyArns"] = []any{"arn:aws:iam::aws:policy/AdministratorAccess"}
			},
			"role/Resource.Properties.ManagedPolicyArns is there",
		},
		"role for anyone": {"AWS::IAM::Role", func(r document) { statement(r)["Principal"] = "*" }, "AssumeRolePolicyDocument.Statement"},
	} {
		t.Run(name, func(t *testing.T) {
			s := low.copy()
			test.change(first(s, test.of))
			mustDrift(t, s, test.want)
		})
	}
	t.Run("another resource", func(t *testing.T) {
		s := low.copy()
		s.template["Resources"].(document)["Extra"] = resource("AWS::SNS::Topic", document{})
		mustDrift(t, s, "Resources.Extra is there, and nothing declares it")
	})
	t.Run("a resource less", func(t *testing.T) {
		s := low.copy()
		maps.DeleteFunc(s.template["Resources"].(document), func(_ string, r any) bool { return r.(document)["Type"] == "AWS::Lambda::EventSourceMapping" })
		mustDrift(t, s, "function-router/source/Resource is missing")
	})
	t.Run("an output less", func(t *testing.T) {
		s := low.copy()
		delete(s.template["Outputs"].(document), "QueueIngressUrl")
		mustDrift(t, s, "Outputs.QueueIngressUrl is missing")
	})
	t.Run("a macro", func(t *testing.T) {
		s := low.copy()
		s.template["Transform"] = "AWS::Serverless-2016-10-31"
		mustDrift(t, s, "template.Transform is there, and nothing declares it")
	})
}

func mustDrift(t *testing.T, s synthesis, want string) {
	t.Helper()
	found := s.drift()
	if !slices.ContainsFunc(found, func(problem string) bool { return strings.Contains(problem, want) }) {
		t.Errorf("no problem contains %q, only:\n%s", want, strings.Join(found, "\n"))
	}
}

// first is the resource of a type whose logical id comes first.
func first(s synthesis, kind string) document {
	resources := s.template["Resources"].(document)
	for _, id := range slices.Sorted(maps.Keys(resources)) {
		if r := resources[id].(document); r["Type"] == kind {
			return r
		}
	}
	panic("no resource has type " + kind)
}

func properties(resource document) document { return resource["Properties"].(document) }

// statement is the first of a resource's policy.
func statement(resource document) document {
	for _, property := range []string{"PolicyDocument", "AssumeRolePolicyDocument"} {
		if policy, ok := properties(resource)[property].(document); ok {
			return policy["Statement"].([]any)[0].(document)
		}
	}
	panic("the resource has no policy")
}
