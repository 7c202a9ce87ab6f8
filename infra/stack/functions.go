package stack

import (
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// live is the alias that event-source mappings and schedules invoke, so that a release moves all of its traffic in one step and back.
const live = "live"

// taskRoot is where Lambda unpacks the code of a function.
const taskRoot = "/var/task/"

func (b *builder) addFunctions() {
	for _, f := range b.props.Topology.Functions {
		scope := constructs.NewConstruct(b.Stack, jsii.String("function-"+string(f.Name)))
		target := b.addFunction(scope, f)
		b.output(topology.Output(f.Name.AliasVariable()), target.FunctionArn(), "ARN of the alias under which function "+string(f.Name)+" runs")
		if f.Listens {
			b.addURL(scope, target)
		}
		if f.Source.Queue != "" {
			b.addMapping(scope, f, target)
		}
		if f.Every != 0 {
			b.addSchedule(scope, f, target)
		}
	}
}

func (b *builder) addFunction(scope constructs.Construct, f topology.Function) awslambda.Alias {
	logs := b.addLogs(scope)
	props := &awslambda.FunctionProps{
		Runtime:               awslambda.Runtime_PROVIDED_AL2023(),
		Architecture:          awslambda.Architecture_ARM_64(),
		Handler:               jsii.String(bootstrap),
		Code:                  b.codeOf(f),
		Role:                  b.role(scope, f, logs),
		Timeout:               awscdk.Duration_Seconds(jsii.Number(seconds(f.Timeout))),
		MemorySize:            jsii.Number(f.MemoryMB),
		Environment:           b.environment(f),
		LogGroup:              logs,
		LoggingFormat:         awslambda.LoggingFormat_JSON,
		ApplicationLogLevelV2: applicationLog(b.props.LogLevel),
		SystemLogLevelV2:      b.set.systemLog,
		// Also grants the two operations that send traces, on "*": X-Ray has no resources to name.
		Tracing:       awslambda.Tracing_ACTIVE,
		RecursiveLoop: recursiveLoop(f),
		// An old version is the way back; one that a stage keeps costs nothing but its share of the region's 75 GB for code.
		CurrentVersionOptions: &awslambda.VersionOptions{RemovalPolicy: b.removal()},
	}
	if reserved := b.props.reserved(f); reserved != 0 {
		props.ReservedConcurrentExecutions = jsii.Number(reserved)
	}
	if b.network != nil && callsDestinations(f) {
		props.Vpc, props.VpcSubnets = b.network.vpc, b.network.subnets()
		props.SecurityGroups = &[]awsec2.ISecurityGroup{b.network.group}
	}
	fn := awslambda.NewFunction(scope, jsii.String("function"), props)
	b.functions[f.Name], b.logs[f.Name] = fn, logs
	alias := b.addAlias(scope, f, fn)
	b.addRelease(scope, f, fn, alias)
	return alias
}

// codeOf is the program of a function, as Props.pack has laid it out.
func (b *builder) codeOf(f topology.Function) awslambda.Code {
	return awslambda.Code_FromAsset(jsii.String(filepath.Join(b.code, string(f.Name))), nil)
}

func (b *builder) addAlias(scope constructs.Construct, f topology.Function, fn awslambda.Function) awslambda.Alias {
	props := &awslambda.AliasProps{AliasName: jsii.String(live), Version: fn.CurrentVersion()}
	if f.Every != 0 {
		props.RetryAttempts = jsii.Number(retryAttempts)
		props.MaxEventAge = awscdk.Duration_Seconds(jsii.Number(seconds(oldestRun)))
	}
	return awslambda.NewAlias(scope, jsii.String(live), props)
}

// applicationLog is what Lambda lets through of what a function prints. The function itself heeds its level, and Lambda must not be stricter: it
// takes a line without a level, such as a metric, for one of level INFO.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
func applicationLog(level slog.Level) awslambda.ApplicationLogLevel {
	if level < slog.LevelInfo {
		return awslambda.ApplicationLogLevel_DEBUG
	}
	return awslambda.ApplicationLogLevel_INFO
}

// environment gives the function the variables that it needs, and of the optional ones those that the options set and that it can use.
func (b *builder) environment(f topology.Function) *map[string]*string {
	values := map[string]*string{
		topology.ProfileVariable:  jsii.String(string(b.props.Topology.Profile)),
		topology.ServiceVariable:  b.StackName(), // tells the metrics of stacks in one account apart
		topology.LogLevelVariable: jsii.String(strings.ToLower(b.props.LogLevel.String())),
	}
	for _, access := range f.Queues {
		values[access.Queue.URLVariable()] = b.queues[access.Queue].QueueUrl()
	}
	for _, access := range f.Tables {
		values[access.Table.NameVariable()] = b.tables[access.Table].TableName()
	}
	b.canary.variables(f, values)
	if b.props.Destinations != "" && readsDestinations(f) {
		values[topology.DestinationsVariable] = jsii.String(taskRoot + destinations)
	}
	if b.props.Tenant != "" && f.Source.Queue == topology.Ingress {
		values[topology.TenantVariable] = jsii.String(b.props.Tenant)
	}
	if len(b.props.EgressAllow) > 0 && callsDestinations(f) {
		values[topology.EgressAllowVariable] = jsii.String(egressText(b.props.EgressAllow))
	}
	return &values
}

// egressText is how a function is told the ranges.
func egressText(ranges []netip.Prefix) string {
	texts := make([]string, len(ranges))
	for i, prefix := range ranges {
		texts[i] = prefix.String()
	}
	return strings.Join(texts, ",")
}

// settable are the variables of a function that builder.environment always gives a value.
func settable(f topology.Function) map[string]bool {
	known := map[string]bool{topology.ProfileVariable: true, topology.LogLevelVariable: true}
	for _, access := range f.Queues {
		known[access.Queue.URLVariable()] = true
	}
	for _, access := range f.Tables {
		known[access.Table.NameVariable()] = true
	}
	known[topology.CanaryURLVariable] = f.ServesCanary
	known[topology.CanarySecretVariable] = f.ServesCanary || f.Listens
	return known
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
		MaxBatchingWindow: awscdk.Duration_Seconds(jsii.Number(seconds(f.Source.Window))),
		// Without it one failed message returns its whole batch, delivered neighbours included.
		ReportBatchItemFailures: jsii.Bool(true),
	}
	if f.Source.MaximumConcurrency != 0 {
		props.MaxConcurrency = jsii.Number(f.Source.MaximumConcurrency)
	}
	if pollers := b.props.Functions[f.Name].Pollers; pollers != nil {
		props.ProvisionedPollerConfig = &awslambda.ProvisionedPollerConfig{
			MinimumPollers: jsii.Number(pollers.Min), MaximumPollers: jsii.Number(pollers.Max),
		}
	}
	awslambda.NewEventSourceMapping(scope, jsii.String("source"), props)
}
