package program

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/shared/topology"
)

// The stages, as the stack's output tells them.
const (
	stageDev  = "dev"
	stageProd = "prod"
)

// anyQueue is the one whose URL tells the region.
const anyQueue = topology.Ingress

// place is where everything is.
type place struct {
	local     bool                             // not on AWS: queues and tables, and nothing else
	stack     string                           // name; "" where it is not known
	stage     string                           // "" where nothing tells it
	queues    map[topology.QueueName]string    // URLs
	tables    map[topology.TableName]string    // names
	functions map[topology.FunctionName]string // ARNs of aliases; "" where they are not known
	resources []stackResource                  // of the stack
	alarmed   bool                             // somebody is to be called
}

// stackResource is a resource of the stack as CloudFormation knows it.
type stackResource struct{ kind, id string }

func (p *place) name() string {
	switch {
	case p.local:
		return "local system"
	case p.stack == "":
		return "the stack that the environment names, stage " + printable(p.stage)
	}
	return fmt.Sprintf("stack %s, stage %s", printable(p.stack), printable(p.stage))
}

// find completes the place.
func (s *session) find(ctx context.Context) error {
	switch {
	case s.local:
		return s.findByName(ctx)
	case s.stack != "":
		if err := s.findByStack(ctx); err != nil {
			return err
		}
	}
	var problems []error
	for name, url := range s.queues {
		if url == "" {
			problems = append(problems, fmt.Errorf("where is the queue %s? The output %s, or %s, must tell its URL", name, topology.Output(name.URLVariable()), name.URLVariable()))
		}
	}
	for name, table := range s.tables {
		if table == "" {
			problems = append(problems, fmt.Errorf("where is the table %s? The output %s, or %s, must tell its name", name, topology.Output(name.NameVariable()), name.NameVariable()))
		}
	}
	return errors.Join(problems...)
}

// findByName finds what a local system has, which names everything as the topology does.
func (s *session) findByName(ctx context.Context) error {
	t := topology.New(topology.LowLatency)
	for _, q := range t.Queues {
		out, err := s.queuesAPI.GetQueueUrl(ctx, &awssqs.GetQueueUrlInput{QueueName: aws.String(string(q.Name))})
		if err != nil {
			return fmt.Errorf("queue %s at %s: %w", q.Name, s.endpoint, err)
		}
		s.queues[q.Name] = aws.ToString(out.QueueUrl)
	}
	for _, table := range t.Tables {
		s.tables[table.Name] = string(table.Name)
	}
	return nil
}

// stageTag is what every resource of a stack carries, and the stack itself.
const stageTag = "waybill:stage"

// findByStack reads the outputs of the stack, and which resources it has.
func (s *session) findByStack(ctx context.Context) error {
	out, err := s.stacksAPI.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &s.stack})
	if err != nil {
		return fmt.Errorf("stack %s: %w\nIs it deployed in this account and region, and is that its name? -stack names another one", s.stack, err)
	}
	if len(out.Stacks) != 1 {
		return fmt.Errorf("stack %s: CloudFormation tells of %d", s.stack, len(out.Stacks))
	}
	stack := out.Stacks[0]
	outputs := map[string]string{}
	for _, o := range stack.Outputs {
		outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	if s.stage = outputs[topology.Output(topology.StageVariable)]; s.stage == "" {
		for _, tag := range stack.Tags {
			if aws.ToString(tag.Key) == stageTag {
				s.stage = aws.ToString(tag.Value)
			}
		}
	}
	t := topology.New(topology.LowLatency)
	for _, q := range t.Queues {
		s.queues[q.Name] = outputs[topology.Output(q.Name.URLVariable())]
	}
	for _, table := range t.Tables {
		s.tables[table.Name] = outputs[topology.Output(table.Name.NameVariable())]
	}
	for _, f := range t.Functions {
		s.functions[f.Name] = outputs[topology.Output(f.Name.AliasVariable())]
	}
	s.alarmed = outputs["AlarmTopicArn"] != ""
	return s.listResources(ctx)
}

func (s *session) listResources(ctx context.Context) error {
	for pages := cloudformation.NewListStackResourcesPaginator(s.stacksAPI, &cloudformation.ListStackResourcesInput{StackName: &s.stack}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("resources of the stack %s: %w", s.stack, err)
		}
		for _, r := range page.StackResourceSummaries {
			s.resources = append(s.resources, stackResource{aws.ToString(r.ResourceType), aws.ToString(r.PhysicalResourceId)})
		}
	}
	return nil
}

// function gives the name and the qualifier of an alias's ARN.
func functionOf(arn string) (name, qualifier string, ok bool) {
	parts := strings.Split(arn, ":")
	if len(parts) != 8 || parts[2] != "lambda" || parts[5] != "function" {
		return "", "", false
	}
	return parts[6], parts[7], true
}
