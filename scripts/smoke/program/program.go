// Package program is the command line of smoke: it finds a deployed stack, makes the checks against it, and tells a verdict for each.
//
// What it leaves behind is nothing: its destinations belong to a tenant of their own, Tenant, and are taken out of the registry in the end, its
// letters and rows are deleted, also when the context ends in the middle. Destinations of others are never changed, and no event is sent that one
// of them would receive, unless that is asked for. Everything is bounded in time.
package program

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/shared/config"
	redrive "github.com/waybillhq/waybill/shared/redrive/program"
)

// Exit statuses of Run.
const (
	statusHolds   = 0 // no check failed; some may have been skipped
	statusFails   = 1 // a check failed, or the program was interrupted
	statusRefused = 2 // nothing was done: the command line, the stage or AWS does not permit it
)

// Tenant is whose events and destinations these are.
const Tenant = "waybill-smoke"

// Environment is what the program needs of its surroundings.
type Environment struct {
	Lookup config.Lookup // environment variables
	// AWS gives the configuration of the SDK for a queue's URL, or for endpoint where that is not empty. Nil: as scripts/redrive finds it.
	AWS func(ctx context.Context, queueURL, endpoint string) (aws.Config, error)
}

// Run is the whole program: it returns its exit status. When ctx ends, the check under way is given up, the others are skipped, and what was
// made is cleaned up, which takes minutes at most.
func Run(ctx context.Context, args []string, env Environment, stdout, stderr io.Writer) int {
	if env.AWS == nil {
		env.AWS = redrive.LoadAWS
	}
	o, help, err := parse(args, env.Lookup, stderr)
	switch {
	case help:
		return statusHolds
	case err != nil:
		fmt.Fprintln(stderr, err)
		return statusRefused
	}
	whole := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the time of -timeout, %v, is over", o.timeout))
	defer cancel()
	s, err := connect(ctx, o, env)
	if err == nil {
		err = s.mayRun()
	}
	if err != nil {
		fmt.Fprintln(stderr, lines(err.Error()))
		return statusRefused
	}
	s.teller = newTeller(o.json, stdout)
	s.begin(s)
	for _, p := range parts() {
		if len(o.only) == 0 || slices.Contains(o.only, p.name) {
			p.run(s, ctx)
		}
	}
	status := s.end(s)
	if ctx.Err() != nil {
		if whole.Err() != nil {
			fmt.Fprintln(stderr, "interrupted: what was made is cleaned up, the checks that are missing were not made")
		}
		return statusFails
	}
	return status
}

// part is a group of checks that can be chosen.
type part struct {
	name, about string
	run         func(*session, context.Context)
}

// parts lists them in the order in which they are made: those that look at the system at rest first, those that need that something has run last.
func parts() []part {
	return []part{
		{"settings", "queues, tables, event-source mappings and alarms are as they were deployed, and no alarm is raised", (*session).settings},
		{"patterns", "EventBridge's own TestEventPattern gives the verdicts of our patterns", (*session).patterns},
		{"ledger", "DynamoDB does what the ledger relies on, tried on rows of its own", (*session).statements},
		{"events", "every kind of envelope goes through the whole path; duplicates, dead letters, redrive by us and by SQS", (*session).events},
		{"versions", "the functions run the version that their alias names", (*session).versions},
	}
}

func partNames() (names []string) {
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

// session is one run.
type session struct {
	options
	place
	teller

	run   string // tells this run's destinations and rows from others'
	began time.Time

	sentEvents bool // so that functions have run

	queuesAPI   *awssqs.Client
	tablesAPI   *dynamodb.Client
	stacksAPI   *cloudformation.Client
	functionAPI *lambda.Client
	metricsAPI  *cloudwatch.Client
	busesAPI    *eventbridge.Client
}

// connect makes the clients and finds the stack.
func connect(ctx context.Context, o options, env Environment) (*session, error) {
	cfg, err := env.AWS(ctx, o.at.queues[anyQueue], o.endpoint)
	if err != nil {
		return nil, err
	}
	s := &session{
		options: o, place: o.at, began: time.Now(), run: newRun(time.Now()),
		queuesAPI: awssqs.NewFromConfig(cfg), tablesAPI: dynamodb.NewFromConfig(cfg), stacksAPI: cloudformation.NewFromConfig(cfg),
		functionAPI: lambda.NewFromConfig(cfg), metricsAPI: cloudwatch.NewFromConfig(cfg), busesAPI: eventbridge.NewFromConfig(cfg),
	}
	return s, s.find(ctx)
}

// mayRun refuses to touch what carries real events, unless that was asked for.
func (s *session) mayRun() error {
	if s.stage == stageDev || s.prodToo {
		return nil
	}
	told := "its stage is " + printable(s.stage)
	if s.stage == "" {
		told = "nothing tells its stage, so it counts as prod"
	}
	return errors.New("refused: " + told + ". The checks send events and put letters into the dead-letter queues for a while, which calls whoever is called for dead letters. " +
		"If that is meant, say -prod-too")
}

// timeOfRun is how a run says when it began, in what becomes part of ids.
const timeOfRun = "20060102t150405"

// newRun names a run: when it began, in UTC, and some letters.
func newRun(now time.Time) string {
	return Tenant + "-" + now.UTC().Format(timeOfRun) + "-" + strings.ToLower(rand.Text()[:6])
}

// abandonedAfter is from when on what another run has left behind is cleaned up. No run takes as long.
const abandonedAfter = time.Hour

// abandoned tells whether an id is of a run that can no longer be under way.
func abandoned(id string, now time.Time) bool {
	rest, ok := strings.CutPrefix(id, Tenant+"-")
	if !ok || len(rest) < len(timeOfRun) {
		return false
	}
	began, err := time.Parse(timeOfRun, rest[:len(timeOfRun)])
	return err == nil && now.Sub(began) > abandonedAfter
}

// until asks again and again, after a pause each time, until the answer is yes. no error and no yes: the limit is over.
func until(ctx context.Context, limit, pause time.Duration, done func() (bool, error)) (bool, error) {
	for end := time.Now().Add(limit); ; {
		if ok, err := done(); ok || err != nil {
			return ok, err
		}
		if !time.Now().Before(end) {
			return false, nil
		}
		if err := wait(ctx, pause); err != nil {
			return false, err
		}
	}
}

// wait waits. The error says why it ended early.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
