// Package program is the command line of deliveries: flags, the AWS configuration, answers in words and as JSON.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/shared/config"
	redrive "github.com/waybillhq/waybill/shared/redrive/program"
	"github.com/waybillhq/waybill/shared/terminal"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/whereabouts"
)

// Exit statuses of Run.
const (
	statusFound   = 0
	statusMissing = 1 // nothing fits, or nothing was found within the budget
	statusRefused = 2 // the command line or the environment does not permit it, or nothing was found and something could not be read
)

// Environment is what the program needs of its surroundings.
type Environment struct {
	Lookup config.Lookup // environment variables
	// AWS gives the configuration for queues at url, or at endpoint where that is not empty. Nil: as scripts/redrive finds it.
	AWS func(ctx context.Context, queueURL, endpoint string) (aws.Config, error)
}

// Run is the whole program: it returns its exit status. When ctx ends, everything that was looked at in a queue is visible again first.
func Run(ctx context.Context, args []string, env Environment, stdout, stderr io.Writer) int {
	if env.AWS == nil {
		env.AWS = redrive.LoadAWS
	}
	o, help, err := parse(args, env.Lookup, time.Now(), stderr)
	switch {
	case help:
		return statusFound
	case err != nil:
		fmt.Fprintln(stderr, err)
		return statusRefused
	}
	search, err := connect(ctx, &o, env, stderr)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return statusRefused
	}
	var out teller = &prose{w: stdout, o: &o, now: time.Now()}
	if o.json {
		out = &lines{w: stdout, o: &o}
	}
	report, err := search.Ask(ctx, o.Question, out.answer)
	out.conclude(report)
	if err = errors.Join(err, report.Failed); err != nil {
		fmt.Fprintf(stderr, "the answer may be incomplete: %s\n", terminal.Printable(err.Error(), mostError))
	}
	switch {
	case report.Found > 0:
		return statusFound
	case err != nil:
		return statusRefused
	}
	return statusMissing
}

// teller gives answers to the user.
type teller interface {
	answer(whereabouts.Answer)
	conclude(whereabouts.Report)
}

// connect makes the search with clients.
func connect(ctx context.Context, o *options, env Environment, stderr io.Writer) (*whereabouts.Search, error) {
	cfg, err := env.AWS(ctx, o.queues[topology.Deliveries], o.endpoint)
	if err != nil {
		return nil, err
	}
	queues := awssqs.NewFromConfig(cfg)
	if o.endpoint != "" {
		for _, name := range queueNames() {
			out, err := queues.GetQueueUrl(ctx, &awssqs.GetQueueUrlInput{QueueName: aws.String(string(name))})
			if err != nil {
				return nil, fmt.Errorf("queue %s at %s: %w", name, o.endpoint, err)
			}
			o.queues[name] = aws.ToString(out.QueueUrl)
		}
	}
	return whereabouts.New(whereabouts.Config{
		Tables: dynamodb.NewFromConfig(cfg), Names: o.tables, Queues: queues, URLs: o.queues,
		Limits: topology.New(topology.LowLatency).Limits, IngressARN: ingressARN(ctx, o, queues),
		OnScan: func(table topology.TableName, units float64) {
			fmt.Fprintf(stderr, "scanning the table %s: about %.0f read units, at most %.0f in all\n", table, max(units, 1), o.MaxUnits)
		},
	})
}

// ingressARN is the source of events that have none of their own, "" where it cannot be found out or is not needed.
func ingressARN(ctx context.Context, o *options, queues *awssqs.Client) string {
	url := o.queues[topology.Ingress]
	if o.Event == "" || len(o.Sources) > 0 || url == "" {
		return ""
	}
	const name = types.QueueAttributeNameQueueArn
	out, err := queues.GetQueueAttributes(ctx, &awssqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{name}})
	if err != nil {
		return ""
	}
	return out.Attributes[string(name)]
}
