// Package stack turns the topology into a CloudFormation template: every queue, table and function of it, and nothing else.
//
// It ranges over the topology and repeats none of it; what it adds are the properties that every resource of a kind shares, such as
// encryption, retention, tracing and the narrowest permissions. No resource has a physical name, so that any number of stacks fit into one
// account. Synthesis looks nothing up, neither in an account nor in the environment.
//
// CDK's engine is one process behind a pipe: a program builds its stacks in one goroutine.
package stack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/waybillhq/waybill/shared/topology"
)

// Files that the folder of each function holds.
const (
	bootstrap    = "bootstrap"         // the program, under the only name that the runtime looks for
	destinations = "destinations.json" // the destinations file, read at start-up
)

// Props are what a stack is made from.
type Props struct {
	Topology topology.Topology
	// Code is the directory with one folder per function, named after it, which holds what runs in Lambda: the program `bootstrap` for
	// arm64 and `destinations.json`. `make build` leaves it in dist.
	Code string
}

// New adds a stack to scope, which is a CDK app or stage. The error joins everything that is wrong with props, and then nothing
// has been added.
func New(scope constructs.Construct, id string, props Props) (awscdk.Stack, error) {
	if err := props.validate(); err != nil {
		return nil, fmt.Errorf("stack %s cannot be synthesised:\n%w", id, err)
	}
	b := &builder{
		Stack: awscdk.NewStack(scope, jsii.String(id), &awscdk.StackProps{
			Description: jsii.String("Waybill: delivers events"),
		}),
		props:  props,
		queues: map[topology.QueueName]awssqs.Queue{},
		tables: map[topology.TableName]awsdynamodb.TableV2{},
	}
	b.addQueues()
	b.addTables()
	b.addFunctions()
	return b.Stack, nil
}

func (p Props) validate() error {
	problems := []error{p.Topology.Validate()}
	whole := func(what string, d time.Duration) {
		if d%time.Second != 0 {
			problems = append(problems, fmt.Errorf("%s is %v: CloudFormation counts whole seconds", what, d))
		}
	}
	for _, q := range p.Topology.Queues {
		whole(fmt.Sprintf("queue %s: retention", q.Name), q.Retention)
	}
	for _, f := range p.Topology.Functions {
		whole(fmt.Sprintf("function %s: timeout", f.Name), f.Timeout)
		known := settable(f)
		for _, name := range f.Variables() {
			if !known[name] {
				problems = append(problems, fmt.Errorf("function %s: needs variable %s, which the stack cannot set", f.Name, name))
			}
		}
		for _, file := range []string{bootstrap, destinations} {
			path := filepath.Join(p.code(f), file)
			if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
				problems = append(problems, fmt.Errorf("function %s: %s is missing: run `make build`", f.Name, path))
			}
		}
	}
	return errors.Join(problems...)
}

func (p Props) code(f topology.Function) string { return filepath.Join(p.Code, string(f.Name)) }

// settable are the variables of a function that builder.environment gives a value.
func settable(f topology.Function) map[string]bool {
	known := map[string]bool{topology.ProfileVariable: true, topology.DestinationsVariable: true}
	for _, access := range f.Queues {
		known[access.Queue.URLVariable()] = true
	}
	for _, access := range f.Tables {
		known[access.Table.NameVariable()] = true
	}
	return known
}

// builder adds the resources of one stack. Its maps grow kind by kind: functions find the queues and tables there.
type builder struct {
	awscdk.Stack

	props  Props
	queues map[topology.QueueName]awssqs.Queue
	tables map[topology.TableName]awsdynamodb.TableV2
}

// output makes value visible after a deployment, under the name of the environment variable that functions know it by.
func (b *builder) output(variable string, value *string, description string) {
	id := outputID(variable)
	awscdk.NewCfnOutput(b.Stack, jsii.String(id), &awscdk.CfnOutputProps{Value: value, Description: jsii.String(description)})
}

func seconds(d time.Duration) awscdk.Duration {
	return awscdk.Duration_Seconds(jsii.Number(d.Seconds()))
}
