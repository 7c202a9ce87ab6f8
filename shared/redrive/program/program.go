// Package program is the command line of redrive: flags, the AWS configuration, the table of what was moved.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go/middleware"

	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/redrive"
	"github.com/waybillhq/waybill/shared/requestbody"
	"github.com/waybillhq/waybill/shared/topology"
)

// Exit statuses of Run.
const (
	statusDone    = 0
	statusPartial = 1 // something is left that should have been moved or counted; running again may help
	statusRefused = 2 // nothing was done: the command line or the environment does not permit it
)

// Environment is what the program needs of its surroundings.
type Environment struct {
	Lookup config.Lookup // environment variables
	// AWS gives the configuration for queues at url, or at endpoint where that is not empty. Nil: LoadAWS.
	AWS func(ctx context.Context, queueURL, endpoint string) (aws.Config, error)
}

// Run is the whole program: it returns its exit status. When ctx ends, it stops in order: what has begun is finished, and
// everything that was only looked at is visible again.
func Run(ctx context.Context, args []string, env Environment, stdout, stderr io.Writer) int {
	if env.AWS == nil {
		env.AWS = LoadAWS
	}
	o, help, err := parse(args, env.Lookup, time.Now(), stderr)
	switch {
	case help:
		return statusDone
	case err != nil:
		fmt.Fprintln(stderr, err)
		return statusRefused
	}
	r, err := connect(ctx, o, env, progress(o, stderr))
	if err != nil {
		fmt.Fprintln(stderr, err)
		return statusRefused
	}
	report, err := r.Run(ctx)
	return conclude(o, report, err, stdout, stderr)
}

// connect makes the redrive with a client.
func connect(ctx context.Context, o options, env Environment, onProgress func(redrive.Report)) (*redrive.Redrive, error) {
	cfg, err := env.AWS(ctx, o.FromURL, o.endpoint)
	if err != nil {
		return nil, err
	}
	client := awssqs.NewFromConfig(cfg)
	for _, q := range []struct {
		url  *string
		name topology.QueueName
	}{{&o.FromURL, o.From}, {&o.ToURL, o.to}} {
		if *q.url != "" {
			continue
		}
		// Only with -endpoint-url: a local system names its queues as the topology does.
		out, err := client.GetQueueUrl(ctx, &awssqs.GetQueueUrlInput{QueueName: aws.String(string(q.name))})
		if err != nil {
			return nil, fmt.Errorf("queue %s at %s: %w", q.name, o.endpoint, err)
		}
		*q.url = aws.ToString(out.QueueUrl)
	}
	c := o.Config
	c.SQS, c.OnProgress = client, onProgress
	return redrive.New(c)
}

var regionOfURL = regexp.MustCompile(`^(?:sqs|queue)\.([a-z]{2}(?:-[a-z]+)+-\d)\.`)

// LoadAWS loads the SDK's configuration from where the SDK looks for it. The region of the queue's URL counts unless
// another is set; an endpoint on this machine needs neither region nor credentials. Without them elsewhere it fails, and says what is missing.
func LoadAWS(ctx context.Context, queueURL, endpoint string) (aws.Config, error) {
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithRetryMaxAttempts(8),
		// A receive whose answer is lost hides what it received for redrive.Config.Hidden, from this run as well.
		awsconfig.WithAPIOptions([]func(*middleware.Stack) error{requestbody.ReadOnly}),
	}
	if u, err := url.Parse(queueURL); err == nil {
		if m := regionOfURL.FindStringSubmatch(u.Hostname()); m != nil {
			options = append(options, awsconfig.WithDefaultRegion(m[1]))
		}
	}
	if endpoint != "" {
		options = append(options, awsconfig.WithBaseEndpoint(endpoint))
		if onThisMachine(endpoint) {
			options = append(options, awsconfig.WithDefaultRegion("us-east-1"),
				awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("local", "local", "")))
		}
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("AWS configuration: %w", err)
	}
	var problems []error
	if cfg.Region == "" {
		problems = append(problems, errors.New("AWS configuration: no region: set AWS_REGION"))
	}
	// The first request would say so too, but as if what it asks for were to blame.
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		problems = append(problems, fmt.Errorf("AWS configuration: no credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (%w)", err))
	}
	if err := errors.Join(problems...); err != nil {
		return aws.Config{}, err
	}
	return cfg, nil
}

func onThisMachine(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	address, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && address.IsLoopback()
}
