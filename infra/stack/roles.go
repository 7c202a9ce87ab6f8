package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// mappingOperations are what Lambda's pollers call on a source queue, with the role of the function.
// Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
var mappingOperations = [...]topology.Operation{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}

// role may write to its own log group, read the function's source, if it has one, and do what the topology says, on the resources that it
// says; where the options bring a key, a network or secrets, also what those take.
func (b *builder) role(scope constructs.Construct, f topology.Function, logs awslogs.LogGroup) awsiam.Role {
	role := awsiam.NewRole(scope, jsii.String("role"), &awsiam.RoleProps{AssumedBy: b.service("lambda.amazonaws.com")})
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
	b.allowKey(role, f)
	if f.Secrets {
		b.allowSecrets(role)
	}
	b.allowCanary(role, f)
	if b.network != nil && callsDestinations(f) {
		b.network.allowInterfaces(role)
	}
	return role
}

func allow(role awsiam.Role, arn *string, operations []topology.Operation) {
	role.AddToPrincipalPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions:   actions(operations),
		Resources: &[]*string{arn},
	}))
}

func actions(operations []topology.Operation) *[]*string {
	actions := make([]*string, len(operations))
	for i, operation := range operations {
		actions[i] = jsii.String(string(operation))
	}
	return &actions
}
