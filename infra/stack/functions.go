package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// live is the alias that event-source mappings and schedules invoke, so that a release moves all of its traffic in one step and back.
const live = "live"

// taskRoot is where Lambda unpacks the code of a function.
const taskRoot = "/var/task/"

// mappingOperations are what Lambda's pollers call on a source queue, with the role of the function.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
var mappingOperations = [...]topology.Operation{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}

func (b *builder) addFunctions() {
	for _, f := range b.props.Topology.Functions {
		scope := constructs.NewConstruct(b.Stack, jsii.String("function-"+string(f.Name)))
		target := b.addFunction(scope, f)
		if f.Source.Queue != "" {
			b.addMapping(scope, f, target)
		}
		if f.Every != 0 {
			b.addSchedule(scope, f, target)
		}
	}
}

func (b *builder) addFunction(scope constructs.Construct, f topology.Function) awslambda.Alias {
	logs := awslogs.NewLogGroup(scope, jsii.String("logs"), &awslogs.LogGroupProps{
		Retention:     awslogs.RetentionDays_ONE_MONTH,
		RemovalPolicy: awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE,
	})
	fn := awslambda.NewFunction(scope, jsii.String("function"), &awslambda.FunctionProps{
		Runtime:       awslambda.Runtime_PROVIDED_AL2023(),
		Architecture:  awslambda.Architecture_ARM_64(),
		Handler:       jsii.String(bootstrap),
		Code:          awslambda.Code_FromAsset(jsii.String(b.props.code(f)), nil),
		Role:          b.role(scope, f, logs),
		Timeout:       seconds(f.Timeout),
		MemorySize:    jsii.Number(f.MemoryMB),
		Environment:   b.environment(f),
		LogGroup:      logs,
		LoggingFormat: awslambda.LoggingFormat_JSON,
		// Also grants the two operations that send traces, on "*": X-Ray has no resources to name.
		Tracing:       awslambda.Tracing_ACTIVE,
		RecursiveLoop: recursiveLoop(f),
	})
	props := &awslambda.AliasProps{
		AliasName: jsii.String(live),
		Version:   fn.CurrentVersion(),
	}
	if f.Every != 0 {
		props.RetryAttempts, props.MaxEventAge = jsii.Number(retryAttempts), seconds(oldestRun)
	}
	return awslambda.NewAlias(scope, jsii.String(live), props)
}

// role may write to its own log group, read the function's source, if it has one, and do what the topology says, on the resources that it says.
func (b *builder) role(scope constructs.Construct, f topology.Function, logs awslogs.LogGroup) awsiam.Role {
	role := awsiam.NewRole(scope, jsii.String("role"), &awsiam.RoleProps{
		AssumedBy: awsiam.NewServicePrincipal(jsii.String("lambda.amazonaws.com"), nil),
	})
	logs.GrantWrite(role)
	if f.Source.Queue != "" {
		allow(role, b.queues[f.Source.Queue].QueueArn(), mappingOperations[:])
	}
	for _, access := range f.Queues {
		allow(role, b.queues[access.Queue].QueueArn(), access.Operations)
	}
	for _, access := range f.Tables {
		allow(role, b.tables[access.Table].TableArn(), access.Operations)
	}
	return role
}

func allow(role awsiam.Role, arn *string, operations []topology.Operation) {
	actions := make([]*string, len(operations))
	for i, operation := range operations {
		actions[i] = jsii.String(string(operation))
	}
	role.AddToPrincipalPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions:   &actions,
		Resources: &[]*string{arn},
	}))
}

// environment gives the function the variables that it needs and no other. Props.validate has seen that each of them is settable.
func (b *builder) environment(f topology.Function) *map[string]*string {
	values := map[string]*string{
		topology.ProfileVariable:      jsii.String(string(b.props.Topology.Profile)),
		topology.DestinationsVariable: jsii.String(taskRoot + destinations),
	}
	for _, access := range f.Queues {
		values[access.Queue.URLVariable()] = b.queues[access.Queue].QueueUrl()
	}
	for _, access := range f.Tables {
		values[access.Table.NameVariable()] = b.tables[access.Table].TableName()
	}
	environment := map[string]*string{}
	for _, name := range f.Variables() {
		environment[name] = values[name]
	}
	return &environment
}

func recursiveLoop(f topology.Function) awslambda.RecursiveLoop {
	if f.RecursiveLoop {
		return awslambda.RecursiveLoop_ALLOW
	}
	return awslambda.RecursiveLoop_TERMINATE
}

func (b *builder) addMapping(scope constructs.Construct, f topology.Function, target awslambda.Alias) {
	props := &awslambda.EventSourceMappingProps{
		Target:            target,
		EventSourceArn:    b.queues[f.Source.Queue].QueueArn(),
		BatchSize:         jsii.Number(f.Source.BatchSize),
		MaxBatchingWindow: seconds(f.Source.Window),
		// Without it one failed message returns its whole batch, delivered neighbours included.
		ReportBatchItemFailures: jsii.Bool(true),
	}
	if f.Source.MaximumConcurrency != 0 {
		props.MaxConcurrency = jsii.Number(f.Source.MaximumConcurrency)
	}
	awslambda.NewEventSourceMapping(scope, jsii.String("source"), props)
}
