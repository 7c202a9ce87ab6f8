// Package stack turns the topology into a CloudFormation template: every queue, table, function and alarm of it, and nothing else.
//
// It ranges over the topology and repeats none of it; what it adds are the properties that every resource of a kind shares, such as
// encryption, retention, tracing and the narrowest permissions. A Stage chooses how much is kept and guarded, Options what an operator
// may choose. No resource has a physical name but those that people read, alarms, saved queries and rankings, which begin with the stack's: any number of
// stacks fit into one account. Synthesis looks nothing up, neither in an account nor in the environment.
//
// CDK's engine is one process behind a pipe: a program builds its stacks in one goroutine.
package stack

import (
	"fmt"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscodedeploy"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/infra/runbooks"
	"github.com/waybillhq/waybill/shared/topology"
)

// Props are what a stack is made from.
type Props struct {
	Stage    Stage
	Topology topology.Topology
	// Code is the directory with one folder per function, named after it, which holds the program `bootstrap` for arm64. `make build`
	// leaves it in dist. Nothing else in the folder is deployed.
	Code string
	Options
}

// New adds a stack to scope, which is a CDK app or stage. The error joins everything that is wrong with props, and then nothing
// has been added.
func New(scope constructs.Construct, id string, props Props) (awscdk.Stack, error) {
	props.Topology = props.effective()
	books, err := props.validate()
	if err != nil {
		return nil, fmt.Errorf("stack %s cannot be synthesised:\n%w", id, err)
	}
	code, err := props.pack()
	if err != nil {
		return nil, fmt.Errorf("stack %s: packing the functions: %w", id, err)
	}
	defer os.RemoveAll(code) // CDK has its own copy by then
	set := props.Stage.settings()
	b := &builder{
		Stack: awscdk.NewStack(scope, jsii.String(id), &awscdk.StackProps{
			Description:           jsii.String("Waybill: delivers events"),
			TerminationProtection: jsii.Bool(set.protect),
			// CloudFormation hands them down to every resource that can have tags, and so to the bill.
			Tags: &map[string]*string{"waybill:stage": jsii.String(string(props.Stage))},
		}),
		props: props, set: set, code: code, runbooks: books,
		queues:    map[topology.QueueName]awssqs.Queue{},
		tables:    map[topology.TableName]awsdynamodb.TableV2{},
		functions: map[topology.FunctionName]awslambda.Function{},
		logs:      map[topology.FunctionName]awslogs.LogGroup{},
	}
	b.output(topology.Output(topology.StageVariable), jsii.String(string(props.Stage)), "Stage of the stack")
	b.addKey()
	b.addQueues()
	b.addTables()
	b.addNetwork()
	b.addCanary()
	b.addFunctions()
	b.addQueries()
	b.addAlarms()
	b.addDashboard()
	return b.Stack, nil
}

// builder adds the resources of one stack, kind by kind: functions find the queues, tables, key and network there, alarms all of them.
type builder struct {
	awscdk.Stack

	props       Props
	set         settings
	code        string     // packed, one folder per function
	key         awskms.Key // nil: the keys of AWS
	queues      map[topology.QueueName]awssqs.Queue
	tables      map[topology.TableName]awsdynamodb.TableV2
	network     *network // nil: Lambda's own
	canary      canary
	functions   map[topology.FunctionName]awslambda.Function
	logs        map[topology.FunctionName]awslogs.LogGroup
	application awscodedeploy.LambdaApplication // of all releases; nil until the first function
	runbooks    map[topology.PageName]runbooks.Runbook
	pages       []*string // ARNs, for the dashboard
	alarms      []*string
}

// removal says what becomes of a resource that holds something when it leaves the stack. A creation that fails leaves nothing behind but protected tables.
func (b *builder) removal() awscdk.RemovalPolicy {
	if b.set.keep {
		return awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE
	}
	return awscdk.RemovalPolicy_DESTROY
}

// output makes value visible after a deployment.
func (b *builder) output(id string, value *string, description string) {
	awscdk.NewCfnOutput(b.Stack, jsii.String(id), &awscdk.CfnOutputProps{Value: value, Description: jsii.String(description)})
}
