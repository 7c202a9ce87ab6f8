package stack

import (
	"fmt"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsscheduler"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// A run that failed is not repeated, neither by Scheduler, which repeats an invocation that Lambda did not take, nor by Lambda, which
// repeats one that it took and that ended in an error: the next run does the same work, and would overlap with a late repetition. Both
// accept no age below a minute.
const (
	retryAttempts = 0
	oldestRun     = time.Minute
)

// invokeFunction is all that Scheduler may do, on the one alias.
const invokeFunction topology.Operation = "lambda:InvokeFunction"

// addSchedule makes the clock run target. It is CDK's resource and not its construct, because that one's target allows every version of
// the function besides the alias.
func (b *builder) addSchedule(scope constructs.Construct, f topology.Function, target awslambda.Alias) {
	group := awsscheduler.NewCfnScheduleGroup(scope, jsii.String("schedule-group"), &awsscheduler.CfnScheduleGroupProps{})
	role := b.schedulerRole(scope, group)
	allow(role, target.FunctionArn(), []topology.Operation{invokeFunction})
	schedule := awsscheduler.NewCfnSchedule(scope, jsii.String("schedule"), &awsscheduler.CfnScheduleProps{
		GroupName:          group.Ref(),
		ScheduleExpression: jsii.String(rate(f.Every)),
		FlexibleTimeWindow: &awsscheduler.CfnSchedule_FlexibleTimeWindowProperty{Mode: jsii.String("OFF")},
		Target: &awsscheduler.CfnSchedule_TargetProperty{
			Arn:     target.FunctionArn(),
			RoleArn: role.RoleArn(),
			RetryPolicy: &awsscheduler.CfnSchedule_RetryPolicyProperty{
				MaximumRetryAttempts:     jsii.Number(retryAttempts),
				MaximumEventAgeInSeconds: jsii.Number(oldestRun.Seconds()),
			},
		},
	})
	// The role's ARN alone would not make it wait for the role's permission.
	schedule.Node().AddDependency(role)
}

// schedulerRole may be used for the schedules of one group, which is the narrowest that Scheduler offers: it names the group and not the
// schedule. So the schedule has a group to itself.
// Source: https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
func (b *builder) schedulerRole(scope constructs.Construct, group awsscheduler.CfnScheduleGroup) awsiam.Role {
	return awsiam.NewRole(scope, jsii.String("schedule-role"), &awsiam.RoleProps{
		AssumedBy: awsiam.NewServicePrincipal(jsii.String("scheduler.amazonaws.com"), &awsiam.ServicePrincipalOpts{
			Conditions: &map[string]any{
				"StringEquals": map[string]any{"aws:SourceAccount": b.Account(), "aws:SourceArn": group.AttrArn()},
			},
		}),
	})
}

// rate is every as Scheduler writes it, always in the plural. The topology has seen that these are whole minutes.
// Source: https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
func rate(every time.Duration) string {
	return fmt.Sprintf("rate(%d minutes)", every/time.Minute)
}
