package stack

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscodedeploy"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/interfaces/interfacesawscloudwatch"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// What CodeDeploy calls, with the role of a deployment group.
// Source: https://docs.aws.amazon.com/codedeploy/latest/userguide/getting-started-create-service-role.html
var (
	shiftOperations = [...]topology.Operation{"lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetProvisionedConcurrencyConfig"}
	watchOperations = [...]topology.Operation{"cloudwatch:DescribeAlarms"}
	// tellOperations are what a hook calls.
	tellOperations = [...]topology.Operation{"codedeploy:PutLifecycleEventHookExecutionStatus"}
)

// addRelease lets CodeDeploy move the traffic of a function's alias from one version to the next: once the hook has tried the new one, step by step, and back
// when an alarm is raised.
func (b *builder) addRelease(scope constructs.Construct, f topology.Function, fn awslambda.Function, live awslambda.Alias) {
	scope = constructs.NewConstruct(scope, jsii.String("release"))
	hook, hookRole := b.addHook(scope, f, fn)
	alarms := []interfacesawscloudwatch.IAlarmRef{}
	for _, alarm := range b.addRollbacks(scope, f, fn) {
		alarms = append(alarms, alarm)
	}
	role := b.releaseRole(scope, fn, hook, len(alarms) > 0)
	group := awscodedeploy.NewLambdaDeploymentGroup(scope, jsii.String("group"), &awscodedeploy.LambdaDeploymentGroupProps{
		Application:      b.releases(),
		Alias:            live,
		DeploymentConfig: b.set.shift(),
		PreHook:          hook,
		Alarms:           &alarms,
		AutoRollback: &awscodedeploy.AutoRollbackConfig{
			FailedDeployment: jsii.Bool(true), StoppedDeployment: jsii.Bool(true), DeploymentInAlarm: jsii.Bool(len(alarms) > 0),
		},
		// As it is: CDK would add a policy of AWS's, which allows every alias of the account.
		Role: role.WithoutPolicyUpdates(nil),
	})
	group.Node().AddDependency(role)
	// A policy of its own: the group waits for the hook, and the hook for its other permissions.
	tell := awsiam.NewPolicy(scope, jsii.String("tell"), &awsiam.PolicyProps{Roles: &[]awsiam.IRole{hookRole}})
	tell.AddStatements(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions: actions(tellOperations[:]), Resources: &[]*string{group.DeploymentGroupArn()},
	}))
	// The alias names group and hook in its update policy alone, from which CloudFormation infers no order: without this it could begin a release before the hook
	// is the one that tries the new version, or may.
	live.Node().DefaultChild().Node().AddDependency(group, hook, tell)
}

// releases is the application of CodeDeploy that the deployment groups are of.
func (b *builder) releases() awscodedeploy.LambdaApplication {
	if b.application == nil {
		b.application = awscodedeploy.NewLambdaApplication(b.Stack, jsii.String("releases"), nil)
	}
	return b.application
}

// addHook adds the function that tries new versions of f. It may invoke the one that is being released, and no other, and gives the role beside it.
func (b *builder) addHook(scope constructs.Construct, f topology.Function, fn awslambda.Function) (awslambda.Function, awsiam.Role) {
	scope = constructs.NewConstruct(scope, jsii.String("hook"))
	spec, version := topology.PreflightOf(f), fn.CurrentVersion()
	logs := b.addLogs(scope)
	role := awsiam.NewRole(scope, jsii.String("role"), &awsiam.RoleProps{AssumedBy: b.service("lambda.amazonaws.com")})
	logs.GrantWrite(role)
	allow(role, version.FunctionArn(), []topology.Operation{invokeFunction})
	return awslambda.NewFunction(scope, jsii.String("function"), &awslambda.FunctionProps{
		Runtime:       awslambda.Runtime_PROVIDED_AL2023(),
		Architecture:  awslambda.Architecture_ARM_64(),
		Handler:       jsii.String(bootstrap),
		Code:          b.codeOf(spec),
		Role:          role.WithoutPolicyUpdates(nil),
		Timeout:       awscdk.Duration_Seconds(jsii.Number(seconds(spec.Timeout))),
		MemorySize:    jsii.Number(spec.MemoryMB),
		LogGroup:      logs,
		LoggingFormat: awslambda.LoggingFormat_JSON,
		Environment: &map[string]*string{
			topology.ProfileVariable:       jsii.String(string(b.props.Topology.Profile)),
			topology.TriedFunctionVariable: jsii.String(string(f.Name)),
			topology.TriedVersionVariable:  version.FunctionArn(),
		},
	}), role
}

// releaseRole may move one alias, call the one hook, and ask how alarms stand.
func (b *builder) releaseRole(scope constructs.Construct, fn, hook awslambda.Function, watches bool) awsiam.Role {
	role := awsiam.NewRole(scope, jsii.String("role"), &awsiam.RoleProps{AssumedBy: b.service("codedeploy.amazonaws.com")})
	for _, arn := range []*string{fn.FunctionArn(), b.aliasARN(fn)} { // IAM names the function for some of them and the alias for others
		allow(role, arn, shiftOperations[:])
	}
	allow(role, hook.FunctionArn(), []topology.Operation{invokeFunction})
	if watches {
		// CodeDeploy asks for all alarms of a group in one call, for which IAM looks at "*".
		allow(role, jsii.String("*"), watchOperations[:])
	}
	return role
}

// aliasARN is the ARN of a function's alias, without a reference to the alias, which waits for whoever may move it.
func (b *builder) aliasARN(fn awslambda.Function) *string {
	return awscdk.Fn_Join(jsii.String(":"), &[]*string{fn.FunctionArn(), jsii.String(live)})
}

// addRollbacks adds the alarms that take a release back. They call nobody. In a stage where all traffic moves at once there is no time for them to be raised, and
// there are none.
func (b *builder) addRollbacks(scope constructs.Construct, f topology.Function, fn awslambda.Function) []awscloudwatch.CfnAlarm {
	if !b.set.gradual {
		return nil
	}
	var alarms []awscloudwatch.CfnAlarm
	for _, r := range b.props.Topology.Rollbacks(f) {
		alarms = append(alarms, awscloudwatch.NewCfnAlarm(scope, jsii.String(r.Name), b.rollback(f, fn, r)))
	}
	return alarms
}

func (b *builder) rollback(f topology.Function, fn awslambda.Function, r topology.Rollback) *awscloudwatch.CfnAlarmProps {
	comparison := "GreaterThanOrEqualToThreshold"
	if r.Below {
		comparison = "LessThanThreshold"
	}
	var metrics []any
	add := func(id string, s topology.Signal, returned bool) {
		metrics = append(metrics, &awscloudwatch.CfnAlarm_MetricDataQueryProperty{
			Id: jsii.String(id), ReturnData: jsii.Bool(returned),
			MetricStat: &awscloudwatch.CfnAlarm_MetricStatProperty{
				Metric: &awscloudwatch.CfnAlarm_MetricProperty{
					Namespace: jsii.String(s.Namespace), MetricName: jsii.String(s.Name), Dimensions: b.releasedDimensions(fn, r, s),
				},
				Period: jsii.Number(topology.RollbackPeriod.Seconds()), Stat: jsii.String(s.Statistic),
			},
		})
	}
	expression := r.Expression()
	add(topology.RollbackSignal, r.Signal, expression == "")
	if r.Of != "" {
		of := r.Signal
		of.Name = r.Of
		add(topology.RollbackOf, of, false)
	}
	if expression != "" {
		metrics = append(metrics, &awscloudwatch.CfnAlarm_MetricDataQueryProperty{
			Id: jsii.String("judged"), Expression: jsii.String(expression), ReturnData: jsii.Bool(true),
		})
	}
	return &awscloudwatch.CfnAlarmProps{
		AlarmName: b.named(fmt.Sprintf("release-%s-%s", f.Name, r.Name)),
		AlarmDescription: jsii.String(fmt.Sprintf("Takes a release of %s back, and calls nobody. Why so: %s. Missing data: %s.",
			f.Name, r.Why, topology.RollbackSilence)),
		Metrics:            &metrics,
		ComparisonOperator: jsii.String(comparison),
		Threshold:          jsii.Number(r.Threshold),
		EvaluationPeriods:  jsii.Number(topology.RollbackPeriods),
		DatapointsToAlarm:  jsii.Number(topology.RollbackPeriods),
		TreatMissingData:   jsii.String(string(topology.MissingIsGood)),
	}
}

// releasedDimensions are those of the new version alone, where the alarm is about that: what Lambda publishes of an alias that shares its traffic between two
// versions, and what functions say of themselves.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html
func (b *builder) releasedDimensions(fn awslambda.Function, r topology.Rollback, s topology.Signal) []any {
	var all []any
	add := func(name string, value *string) {
		all = append(all, &awscloudwatch.CfnAlarm_DimensionProperty{Name: jsii.String(name), Value: value})
	}
	if !r.Released {
		return b.dimensions(s)
	}
	version := fn.CurrentVersion().Version()
	if s.Namespace == topology.Custom {
		add("Service", b.StackName())
		add("Function", jsii.String(string(s.Function)))
		add("Version", version)
		return all
	}
	add("FunctionName", fn.FunctionName())
	add("Resource", awscdk.Fn_Join(jsii.String(":"), &[]*string{fn.FunctionName(), jsii.String(live)}))
	add("ExecutedVersion", version)
	return all
}
