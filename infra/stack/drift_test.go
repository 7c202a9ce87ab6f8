package stack_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/infra/stack"
	"github.com/waybillhq/waybill/shared/topology"
)

// A contract that nothing can break proves nothing. Here it is broken from both sides, and must name the place.

func TestAChangedTopologyIsDrift(t *testing.T) {
	made := templates(t)[plain]
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
		"no expiry":   {func(t *topology.Topology) { t.Tables[0].TTLAttribute = "" }, "table-ledger/Resource.Properties.TimeToLiveSpecification is there"},
		"some expiry": {func(t *topology.Topology) { t.Tables[1].TTLAttribute = "gone" }, "table-waiting/Resource.Properties.TimeToLiveSpecification is missing"},
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
		"rate":                         {func(t *topology.Topology) { t.Functions[2].Every *= 5 }, `function-waker/schedule.Properties.ScheduleExpression is "rate(1 minutes)", want "rate(5 minutes)"`},
		"no clock":                     {func(t *topology.Topology) { t.Functions[2].Every = 0 }, "function-waker/schedule is there, and nothing declares it"},
		"no clock, no permission":      {func(t *topology.Topology) { t.Functions[2].Every = 0 }, "function-waker/schedule-role/DefaultPolicy/Resource is there, and nothing declares it"},
		"no clock, retries as usual":   {func(t *topology.Topology) { t.Functions[2].Every = 0 }, "function-waker/live/EventInvokeConfig/Resource is there, and nothing declares it"},
		"a clock":                      {func(t *topology.Topology) { t.Functions[0].Every = time.Minute }, "function-router/schedule is missing"},
		"no source":                    {func(t *topology.Topology) { t.Functions[0].Source = topology.Mapping{} }, "function-router/source/Resource is there, and nothing declares it"},
		"no source, no permission":     {func(t *topology.Topology) { t.Functions[0].Source = topology.Mapping{} }, "Allow sqs:ReceiveMessage on queue-ingress/Resource is there, and nothing declares it"},
		"a source":                     {func(t *topology.Topology) { t.Functions[2].Source.Queue = topology.Ingress }, "function-waker/source/Resource is missing"},
		"a source, its permission":     {func(t *topology.Topology) { t.Functions[2].Source.Queue = topology.Ingress }, "Allow sqs:ReceiveMessage on queue-ingress/Resource is missing"},
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
			s := made
			s.props.Topology = topology.New(topology.LowLatency)
			test.change(&s.props.Topology)
			mustDrift(t, s, test.want)
		})
	}
}

func TestAChangedOptionIsDrift(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*stack.Props)
		want   string
	}{
		"stage":               {func(p *stack.Props) { p.Stage = stack.Dev }, `queue-ingress/Resource.DeletionPolicy is "RetainExceptOnCreate", want "Delete"`},
		"stage, tables":       {func(p *stack.Props) { p.Stage = stack.Dev }, "table-ledger/Resource.Properties.Replicas"},
		"stage, logs":         {func(p *stack.Props) { p.Stage = stack.Dev }, `LoggingConfig.SystemLogLevel is "WARN", want "INFO"`},
		"stage, versions":     {func(p *stack.Props) { p.Stage = stack.Dev }, "function-router/function/CurrentVersion/Resource.DeletionPolicy"},
		"stage, releases":     {func(p *stack.Props) { p.Stage = stack.Dev }, `DeploymentConfigName is "CodeDeployDefault.LambdaCanary10Percent5Minutes", want "CodeDeployDefault.LambdaAllAtOnce"`},
		"stage, rollbacks":    {func(p *stack.Props) { p.Stage = stack.Dev }, "function-deliverer/release/delivery-success is there"},
		"stage, concurrency":  {func(p *stack.Props) { p.Stage, p.Functions = stack.Dev, nil }, "ReservedConcurrentExecutions is there"},
		"destinations":        {func(p *stack.Props) { p.Destinations = "" }, "Environment.Variables.WAYBILL_DESTINATIONS_FILE is there"},
		"destinations, file":  {func(p *stack.Props) { p.Destinations = "" }, "function-waker/function/Resource.Properties.Code.S3Key.destinations.json is there"},
		"tenant":              {func(p *stack.Props) { p.Tenant = "other" }, `WAYBILL_TENANT is "acme", want "other"`},
		"egressAllow":         {func(p *stack.Props) { p.EgressAllow = nil }, "WAYBILL_EGRESS_ALLOW is there"},
		"logLevel":            {func(p *stack.Props) { p.LogLevel = -4 }, `ApplicationLogLevel is "INFO", want "DEBUG"`},
		"logLevel, function":  {func(p *stack.Props) { p.LogLevel = -4 }, `WAYBILL_LOG_LEVEL is "info", want "debug"`},
		"logDays":             {func(p *stack.Props) { p.LogDays = 0 }, "function-router/logs/Resource.Properties.RetentionInDays is 30, want 90"},
		"senders":             {func(p *stack.Props) { p.Senders.Topics = p.Senders.Topics[1:] }, "queue-ingress/Policy/Resource.Properties.PolicyDocument.Statement"},
		"senders, account":    {func(p *stack.Props) { p.Senders.Buckets[0].Account = "1" }, "queue-ingress/Policy/Resource.Properties.PolicyDocument.Statement"},
		"senders, key":        {func(p *stack.Props) { p.Senders.Rules = nil }, "key/Resource.Properties.KeyPolicy.Statement"},
		"secrets":             {func(p *stack.Props) { p.Secrets = p.Secrets[1:] }, "Allow secretsmanager:GetSecretValue on " + secretARN + " is there"},
		"secrets, ours":       {func(p *stack.Props) { p.Secrets = nil }, "secret:waybill/*"},
		"secretKeys":          {func(p *stack.Props) { p.SecretKeys = nil }, "Allow kms:Decrypt on " + keyARN},
		"customerKey, queue":  {func(p *stack.Props) { p.CustomerKey = false }, "queue-ingress/Resource.Properties.KmsMasterKeyId is there"},
		"customerKey, table":  {func(p *stack.Props) { p.CustomerKey = false }, "table-ledger/Resource.Properties.SSESpecification is there"},
		"customerKey, logs":   {func(p *stack.Props) { p.CustomerKey = false }, "function-router/logs/Resource.Properties.KmsKeyId is there"},
		"customerKey, key":    {func(p *stack.Props) { p.CustomerKey = false }, "Resources.key/Resource is there"},
		"customerKey, roles":  {func(p *stack.Props) { p.CustomerKey = false }, "Allow kms:GenerateDataKey on key/Resource if "},
		"tables, billing":     {func(p *stack.Props) { p.Tables = nil }, `BillingMode is "PROVISIONED", want "PAY_PER_REQUEST"`},
		"tables, warm":        {func(p *stack.Props) { p.Tables = nil }, "WarmThroughput is there"},
		"functions, most":     {func(p *stack.Props) { p.Functions = nil }, "ScalingConfig.MaximumConcurrency is 1000, want 250"},
		"functions, reserved": {func(p *stack.Props) { p.Functions = nil }, "function-deliverer/function/Resource.Properties.ReservedConcurrentExecutions is 1002, want 252"},
		"functions, clock":    {func(p *stack.Props) { p.Functions = nil }, "function-waker/function/Resource.Properties.ReservedConcurrentExecutions is 1, want 3"},
		"functions, pollers":  {func(p *stack.Props) { p.Functions = polled() }, "function-deliverer/source/Resource.Properties.ProvisionedPollerConfig is missing"},
		"network":             {func(p *stack.Props) { p.Network = nil }, "function-deliverer/function/Resource.Properties.VpcConfig is there"},
		"network, role":       {func(p *stack.Props) { p.Network = nil }, "Allow ec2:CreateNetworkInterface on * is there"},
		"network, denial":     {func(p *stack.Props) { p.Network = nil }, "Deny ec2:CreateNetworkInterface on * if "},
		"alarms":              {func(p *stack.Props) { p.Alarms = stack.Alarms{} }, "alarms/page-ingress-backlog is there"},
		"alarms, key":         {func(p *stack.Props) { p.Alarms = stack.Alarms{} }, "key/Resource.Properties.KeyPolicy.Statement"},
		"alarms, email":       {func(p *stack.Props) { p.Alarms.Email = p.Alarms.Email[1:] }, "alarms/email-d876c66b is there"},
		"alarms, https":       {func(p *stack.Props) { p.Alarms.HTTPS = nil }, "alarms/https-"},
		"alarms, slack":       {func(p *stack.Props) { p.Alarms.Slack[0].Channel = "C9999ABCD" }, "alarms/slack-C9999ABCD is missing"},
		"alarms, no slack":    {func(p *stack.Props) { p.Alarms.Slack = nil }, "alarms/slack-role/Resource is there"},
		"alarms, runbooks":    {func(p *stack.Props) { p.Alarms.Runbooks = "" }, "alarms/page-waker-stopped.Properties.AlarmDescription"},
		"alarms, mute":        {func(p *stack.Props) { p.Alarms.Mute = p.Alarms.Mute[:1] }, "alarms/mute-2 is there"},
		"alarms, concurrency": {func(p *stack.Props) { p.Functions = nil }, "alarms/function-deliverer-concurrency.Properties.Threshold is 900, want 225"},
		"alarms, pollers":     {func(p *stack.Props) { p.Functions = polled() }, "alarms/function-deliverer-concurrency.Properties.Threshold is 900, want 180"},
		"network, addresses":  {func(p *stack.Props) { p.Network = &stack.Network{} }, "network/address-2 is there"},
	} {
		t.Run(name, func(t *testing.T) {
			s := templates(t)[plain+", everything"]
			s.props.Options = everything()
			test.change(&s.props)
			mustDrift(t, s, test.want)
		})
	}
}

func TestAChangedTemplateIsDrift(t *testing.T) {
	made := templates(t)[plain]
	for name, test := range map[string]struct {
		of     string // the resource to change: its construct path, or its type for the first of many
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
		"release without a trial": {
			"function-deliverer/live/Resource", func(r document) {
				delete(r["UpdatePolicy"].(document)["CodeDeployLambdaAliasUpdate"].(document), "BeforeAllowTrafficHook")
			},
			"function-deliverer/live/Resource.UpdatePolicy.CodeDeployLambdaAliasUpdate.BeforeAllowTrafficHook is missing",
		},
		"alias moved at once": {
			"function-waker/live/Resource", func(r document) { delete(r, "UpdatePolicy") },
			"function-waker/live/Resource.UpdatePolicy is missing",
		},
		"alias moved before its trial is ready": {
			"function-router/live/Resource", func(r document) { delete(r, "DependsOn") },
			"function-router/live/Resource.DependsOn is missing",
		},
		"release judged by all versions": {
			"function-router/release/errors", func(r document) {
				metric := properties(r)["Metrics"].([]any)[0].(document)["MetricStat"].(document)["Metric"].(document)
				metric["Dimensions"] = metric["Dimensions"].([]any)[:2]
			},
			"function-router/release/errors.Properties.Metrics",
		},
		"release that alarms do not stop": {
			"function-router/release/group/Resource", func(r document) { delete(properties(r), "AlarmConfiguration") },
			"function-router/release/group/Resource.Properties.AlarmConfiguration is missing",
		},
		"trial of any version": {
			"function-router/release/hook/role/DefaultPolicy/Resource", func(r document) {
				for _, v := range properties(r)["PolicyDocument"].(document)["Statement"].([]any) {
					v.(document)["Resource"] = "*"
				}
			},
			"Allow lambda:InvokeFunction on * is there",
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
		"dead letters for a day": {
			"queue-deliveries-dlq/Resource", func(r document) { properties(r)["MessageRetentionPeriod"] = 86400 },
			"queue-deliveries-dlq/Resource.Properties.MessageRetentionPeriod is 86400, want 1209600",
		},
		"mapping on the function": {
			"function-router/source/Resource", func(r document) { properties(r)["FunctionName"] = ref("function-router/function/Resource") },
			"function-router/source/Resource.Properties.FunctionName.Ref is there",
		},
		"less concurrency than asked for": {
			"function-router/function/Resource", func(r document) { properties(r)["ReservedConcurrentExecutions"] = 50 },
			"ReservedConcurrentExecutions is 50, want 102",
		},
		"queue unencrypted":        {"AWS::SQS::Queue", func(r document) { delete(properties(r), "SqsManagedSseEnabled") }, "SqsManagedSseEnabled is missing"},
		"queue deleted with stack": {"AWS::SQS::Queue", func(r document) { r["DeletionPolicy"] = "Delete" }, "DeletionPolicy"},
		"queue open to plain HTTP": {"AWS::SQS::QueuePolicy", func(r document) { statement(r)["Effect"] = "Allow" }, "Policy/Resource.Properties.PolicyDocument.Statement"},
		"table deleted with stack": {"AWS::DynamoDB::GlobalTable", func(r document) { delete(r, "DeletionPolicy") }, "table-ledger/Resource.DeletionPolicy is missing"},
		"table without backup":     {"AWS::DynamoDB::GlobalTable", func(r document) { delete(properties(r), "Replicas") }, "table-ledger/Resource.Properties.Replicas is missing"},
		"table without a way back": {
			"AWS::DynamoDB::GlobalTable", func(r document) {
				delete(properties(r)["Replicas"].([]any)[0].(document), "PointInTimeRecoverySpecification")
			},
			"table-ledger/Resource.Properties.Replicas",
		},
		"a runtime of the past": {
			"AWS::Lambda::Function", func(r document) { properties(r)["Runtime"] = "provided.al2" },
			`Runtime is "provided.al2", want "provided.al2023"`,
		},
		"pages in plain text": {"alarms/topic/Resource", func(r document) { delete(properties(r), "KmsMasterKeyId") }, "KmsMasterKeyId is missing"},
		"pages by plain HTTP": {
			"alarms/topic/Policy/Resource", func(r document) { statement(r)["Effect"] = "Allow" },
			"alarms/topic/Policy/Resource.Properties.PolicyDocument.Statement",
		},
		"permissions inside a role": {"AWS::IAM::Role", func(r document) { properties(r)["Policies"] = []any{} }, "role/Resource.Properties.Policies is there"},
		"all resources but one":     {"AWS::IAM::Policy", func(r document) { statement(r)["NotResource"] = "*" }, "NotResource"},
		"table at a fixed capacity": {"AWS::DynamoDB::GlobalTable", func(r document) { properties(r)["BillingMode"] = "PROVISIONED" }, "BillingMode"},
		"logs for ever":             {"AWS::Logs::LogGroup", func(r document) { delete(properties(r), "RetentionInDays") }, "RetentionInDays is missing"},
		"all actions":               {"function-deliverer/role/DefaultPolicy/Resource", func(r document) { statement(r)["Action"] = "*" }, "Allow * on function-deliverer/logs/Resource is there"},
		"all resources":             {"AWS::IAM::Policy", func(r document) { statement(r)["Resource"] = "*" }, "Allow logs:CreateLogStream on * is there"},
		"all actions but one":       {"AWS::IAM::Policy", func(r document) { statement(r)["NotAction"] = "sqs:PurgeQueue" }, "NotAction"},
		"managed policy": {
			"AWS::IAM::Role", func(r document) {
				properties(r)["ManagedPolicyArns"] = []any{"arn:aws:iam::aws:policy/AdministratorAccess"}
			},
			"role/Resource.Properties.ManagedPolicyArns is there",
		},
		"role for anyone": {"AWS::IAM::Role", func(r document) { statement(r)["Principal"] = "*" }, "AssumeRolePolicyDocument.Statement"},
		"another rate": {
			"function-waker/schedule", func(r document) { properties(r)["ScheduleExpression"] = "rate(1 hours)" },
			`function-waker/schedule.Properties.ScheduleExpression is "rate(1 hours)", want "rate(1 minutes)"`,
		},
		"an alarm that is not silent": {
			"alarms/queue-ingress-age", func(r document) { properties(r)["AlarmActions"] = []any{ref("alarms/topic/Resource")} },
			"alarms/queue-ingress-age.Properties.AlarmActions is there",
		},
		"a page that calls nobody": {
			"alarms/page-ingress-backlog", func(r document) { delete(properties(r), "AlarmActions") },
			"alarms/page-ingress-backlog.Properties.AlarmActions is missing",
		},
		"a page without one of its alarms": {
			"alarms/page-ingress-backlog", func(r document) { properties(r)["AlarmRule"] = `ALARM("waybill-queue-ingress-age")` },
			"alarms/page-ingress-backlog.Properties.AlarmRule",
		},
		"a heartbeat that may stop": {
			"alarms/waker-heartbeat", func(r document) { properties(r)["TreatMissingData"] = "notBreaching" },
			`alarms/waker-heartbeat.Properties.TreatMissingData is "notBreaching", want "breaching"`,
		},
		"latency of no operation": {
			"alarms/table-ledger-UpdateItem-latency", func(r document) {
				metric := properties(r)["Metrics"].([]any)[0].(document)["MetricStat"].(document)["Metric"].(document)
				metric["Dimensions"] = metric["Dimensions"].([]any)[:1]
			},
			"alarms/table-ledger-UpdateItem-latency.Properties.Metrics",
		},
		"throttling that never ends": { // alarms on DynamoDB's own metrics ignore what is missing
			"alarms/table-ledger-write-throttles", func(r document) { properties(r)["Metrics"].([]any)[1].(document)["Expression"] = "signal" },
			"alarms/table-ledger-write-throttles.Properties.Metrics",
		},
		"good of others than all": {
			"alarms/objective", func(r document) {
				sli := properties(r)["RequestBasedSli"].(document)["RequestBasedSliMetric"].(document)
				sli["TotalRequestCountMetric"] = sli["MonitoredRequestCountMetric"].(document)["GoodCountMetric"]
			},
			"alarms/objective.Properties.RequestBasedSli",
		},
		"pages that anybody publishes": {
			"alarms/topic/Policy/Resource", func(r document) {
				delete(properties(r)["PolicyDocument"].(document)["Statement"].([]any)[1].(document), "Condition")
			},
			"alarms/topic/Policy/Resource.Properties.PolicyDocument.Statement",
		},
		"a key that keeps CloudWatch out": {
			"alarms/key/Resource", func(r document) {
				policy := properties(r)["KeyPolicy"].(document)
				policy["Statement"] = policy["Statement"].([]any)[:1]
			},
			"alarms/key/Resource.Properties.KeyPolicy.Statement",
		},
		"some time within the hour": {
			"function-waker/schedule", func(r document) {
				properties(r)["FlexibleTimeWindow"] = document{"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 60}
			},
			"FlexibleTimeWindow.MaximumWindowInMinutes is there",
		},
		"schedule switched off": {
			"function-waker/schedule", func(r document) { properties(r)["State"] = "DISABLED" },
			"function-waker/schedule.Properties.State is there",
		},
		"schedule past the alias": {
			"function-waker/schedule", func(r document) { target(r)["Arn"] = arn("function-waker/function/Resource") },
			"function-waker/schedule.Properties.Target.Arn.Fn::GetAtt is there",
		},
		"schedule with the function's role": {
			"function-waker/schedule", func(r document) { target(r)["RoleArn"] = arn("function-waker/role/Resource") },
			"function-waker/schedule.Properties.Target.RoleArn.Fn::GetAtt is",
		},
		"invocations repeated": {
			"function-waker/schedule", func(r document) { delete(target(r), "RetryPolicy") },
			"function-waker/schedule.Properties.Target.RetryPolicy is missing",
		},
		"runs repeated": {
			"function-waker/live/EventInvokeConfig/Resource", func(r document) { properties(r)["MaximumRetryAttempts"] = 2 },
			"function-waker/live/EventInvokeConfig/Resource.Properties.MaximumRetryAttempts is 2, want 0",
		},
		"schedule before its permissions": {
			"function-waker/schedule", func(r document) { delete(r, "DependsOn") },
			"function-waker/schedule.DependsOn is missing",
		},
		"schedule may run any version": {
			"function-waker/schedule-role/DefaultPolicy/Resource", func(r document) {
				statement(r)["Resource"] = document{"Fn::Join": []any{"", []any{arn("function-waker/function/Resource"), ":*"}}}
			},
			`Allow lambda:InvokeFunction on {"Ref":"function-waker/live/Resource"} is missing`,
		},
		"schedule may run the function too": {
			"function-waker/schedule-role/DefaultPolicy/Resource", func(r document) {
				statement(r)["Resource"] = []any{statement(r)["Resource"], arn("function-waker/function/Resource")}
			},
			"Allow lambda:InvokeFunction on function-waker/function/Resource is there",
		},
		"schedule may run anything": {
			"function-waker/schedule-role/DefaultPolicy/Resource", func(r document) { statement(r)["Resource"] = "*" },
			"Allow lambda:InvokeFunction on * is there",
		},
		"schedule may do anything": {
			"function-waker/schedule-role/DefaultPolicy/Resource", func(r document) { statement(r)["Action"] = "lambda:*" },
			`Allow lambda:* on {"Ref":"function-waker/live/Resource"} is there`,
		},
		"schedules of other groups": {
			"function-waker/schedule-role/Resource", func(r document) {
				delete(statement(r)["Condition"].(document)["StringEquals"].(document), "aws:SourceArn")
			},
			"function-waker/schedule-role/Resource.Properties.AssumeRolePolicyDocument.Statement",
		},
		"schedules of other accounts": {
			"function-waker/schedule-role/Resource", func(r document) { delete(statement(r), "Condition") },
			"function-waker/schedule-role/Resource.Properties.AssumeRolePolicyDocument.Statement",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := made.copy()
			test.change(find(s, test.of))
			mustDrift(t, s, test.want)
		})
	}
	t.Run("another resource", func(t *testing.T) {
		s := made.copy()
		s.template["Resources"].(document)["Extra"] = resource("AWS::SNS::Topic", document{})
		mustDrift(t, s, "Resources.Extra is there, and nothing declares it")
	})
	for kind, want := range map[string]string{
		"AWS::Lambda::EventSourceMapping": "function-router/source/Resource is missing",
		"AWS::Scheduler::Schedule":        "function-waker/schedule is missing",
		"AWS::Lambda::EventInvokeConfig":  "function-waker/live/EventInvokeConfig/Resource is missing",
	} {
		t.Run("a resource less: "+kind, func(t *testing.T) {
			s := made.copy()
			maps.DeleteFunc(s.template["Resources"].(document), func(_ string, r any) bool { return r.(document)["Type"] == kind })
			mustDrift(t, s, want)
		})
	}
	t.Run("a mapping for a function that the clock runs", func(t *testing.T) {
		s := made.copy()
		mapping := decode(encode(find(s, "function-router/source/Resource")))
		mapping["Metadata"].(document)["aws:cdk:path"] = "waybill/function-waker/source/Resource"
		s.template["Resources"].(document)["Extra"] = mapping
		mustDrift(t, s, "function-waker/source/Resource is there, and nothing declares it")
	})
	t.Run("a schedule for a function that a queue feeds", func(t *testing.T) {
		s := made.copy()
		schedule := decode(encode(find(s, "function-waker/schedule")))
		schedule["Metadata"].(document)["aws:cdk:path"] = "waybill/function-router/schedule"
		s.template["Resources"].(document)["Extra"] = schedule
		mustDrift(t, s, "function-router/schedule is there, and nothing declares it")
	})
	t.Run("an output less", func(t *testing.T) {
		s := made.copy()
		delete(s.template["Outputs"].(document), "QueueIngressUrl")
		mustDrift(t, s, "Outputs.QueueIngressUrl is missing")
	})
	t.Run("a macro", func(t *testing.T) {
		s := made.copy()
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

// find is the resource with a construct path, or of a type the one whose logical id comes first.
func find(s synthesis, pathOrType string) document {
	resources := s.template["Resources"].(document)
	for _, id := range slices.Sorted(maps.Keys(resources)) {
		if r := resources[id].(document); r["Type"] == pathOrType || path(id, r) == pathOrType {
			return r
		}
	}
	panic("no resource has the path or type " + pathOrType)
}

func properties(resource document) document { return resource["Properties"].(document) }
func target(schedule document) document     { return properties(schedule)["Target"].(document) }

// statement is the first of a resource's policy.
func statement(resource document) document {
	for _, property := range []string{"PolicyDocument", "AssumeRolePolicyDocument"} {
		if policy, ok := properties(resource)[property].(document); ok {
			return policy["Statement"].([]any)[0].(document)
		}
	}
	panic("the resource has no policy")
}
