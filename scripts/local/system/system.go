// Package system runs the whole of Waybill in one process: the local AWS endpoint, queues and tables as the topology declares them, the
// functions behind event-source mappings with Lambda's rules. Local mode, end-to-end tests and benchmarks all start this.
//
// The functions are put together as in Lambda (functions/wiring) and use the real AWS SDK against the endpoint, over in-memory
// connections, so that a testing/synctest bubble can run everything in virtual time. Each has a role with the operations that the topology
// grants it, and is refused all others as in AWS, so that whatever runs here shows that the grants suffice.
package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/functions/wiring"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	runtimeapi "github.com/waybillhq/waybill/shared/awslocal/runtime"
	"github.com/waybillhq/waybill/shared/awslocal/secretsmanager"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/awslocal/ssm"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/awslocal/xray"
	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/registry"
	registrydynamo "github.com/waybillhq/waybill/shared/registry/dynamo"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/tracing"
)

// Config configures a System; Destinations is required.
type Config struct {
	Topology     topology.Topology // default: low latency
	Destinations []byte            // the document that is applied to the registry first
	EgressAllow  string            // CIDRs that destinations may have besides public addresses
	Logger       *slog.Logger      // default slog.Default()

	// Queues configures the emulated SQS; BaseURL and OnSend belong here.
	Queues sqs.Options
	// Metrics takes a line of metrics for each invocation; nil: none are written.
	Metrics io.Writer
	// Observe hears of every call to the endpoint.
	Observe func(awslocal.Call)
	// OnAttempt hears of every attempt that the deliverer makes, from any goroutine.
	OnAttempt func(downstream.Attempt, downstream.Result)
	// OnInvocation hears of every run of a function that is over, from any goroutine.
	OnInvocation func(name topology.FunctionName, took time.Duration, err error)
	// Dial connects to destinations; nil: through the egress guard.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Fault is asked before every batch of a function.
	Fault   func(topology.FunctionName, mapping.Batch) mapping.Fault
	Stopped bool // make everything, start no mapping
	// Canary is where the canary listens, from Start to Stop: the system sends itself an event a minute. nil: there is no canary. The address must be one of
	// loopback, which EgressAllow or Dial let the deliverer reach.
	Canary net.Listener
	// OnCanary hears of every request there when it is answered: its webhook-id, the status, and the SHA-256 of its body in hexadecimal. nil: nobody does.
	OnCanary func(publicID string, status int, digest string)

	// Client carries calls to the endpoint; nil: HTTP over in-memory connections. Endpoint.ServeHTTP may be called without any connection.
	Client func(*awslocal.Endpoint) aws.HTTPClient
	// Parts may change what one environment of a function is put together from; nil: nothing is. It is called for each environment.
	Parts func(topology.FunctionName, wiring.Parts) wiring.Parts
	// Sandbox may stand around the code of an environment of a function; nil: nothing does. It is called for each environment, and build puts its code together:
	// as often as Sandbox likes, each time as another environment.
	Sandbox func(name topology.FunctionName, build func() mapping.Handler) mapping.Handler
	// Source may stand between a queue and the mapping that reads it for a function; nil: nothing does.
	Source func(topology.FunctionName, mapping.Queue) mapping.Queue

	// Speed shortens what queues can delay, and with it every distance of the waiting room the time between the waker's runs and the age of what is known of destinations, so that a
	// demonstration need not wait for a quarter of an hour. It shortens no retry schedule and no lease. Default 1.
	Speed int
	// Traces takes the spans of all functions; nil: none are made.
	Traces *xray.Daemon
	// Listener, if set, is where SDKs and the AWS CLI reach the endpoint, from Start to Stop.
	Listener net.Listener
	// Binaries is a folder with a program for each function, NAME/bootstrap, built for this machine. They run as processes behind Lambda's Runtime API
	// instead of the functions in this program; Dial, OnAttempt, Speed and what a crash cuts off do not apply to them. It needs Listener.
	Binaries string
	// TraceAddress is where Traces is served by UDP, if it is; processes need it.
	TraceAddress string
}

// System is a running system. It is safe for concurrent use.
type System struct {
	Endpoint  *awslocal.Endpoint
	Queues    *sqs.Service
	Tables    *dynamodb.Service
	Functions map[topology.FunctionName]*mapping.Function
	Mappings  map[topology.FunctionName]*mapping.Mapping
	Roles     map[topology.FunctionName]*awslocal.Role // what the code of each function may do at the endpoint, and did

	programs     map[topology.FunctionName]*runtimeapi.Program // with Config.Binaries
	served       chan error
	sink         *http.Server // of the canary; nil without one
	canarySecret string       // its ARN
	topology     topology.Topology
	client       aws.HTTPClient
	schedules    []schedule
	clock        clock
}

// Start makes queues, tables and functions and starts the mappings. Stop it in the end. What it reports as an error is complete:
// nothing runs then.
func Start(ctx context.Context, cfg Config) (*System, error) {
	if cfg.Topology.Profile == "" {
		cfg.Topology = topology.New(topology.LowLatency)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Destinations == nil {
		return nil, errors.New("system: Config.Destinations is missing")
	}
	if err := errors.Join(cfg.Topology.Validate(), cfg.check()); err != nil {
		return nil, err
	}
	if cfg.Canary != nil {
		cfg.Topology = cfg.Topology.WithCanary()
	}
	cfg.Topology = faster(cfg.Topology, max(cfg.Speed, 1))
	s := &System{
		programs: map[topology.FunctionName]*runtimeapi.Program{}, served: make(chan error, 1),
		Queues: sqs.New(cfg.Queues), Tables: dynamodb.New(dynamodb.Options{}), topology: cfg.Topology,
		Functions: map[topology.FunctionName]*mapping.Function{}, Mappings: map[topology.FunctionName]*mapping.Mapping{},
		Roles: map[topology.FunctionName]*awslocal.Role{},
	}
	if err := s.createQueues(); err != nil {
		return nil, err
	}
	s.Endpoint = awslocal.New(awslocal.Options{Observe: cfg.Observe, Roles: s.roles()}, s.Queues, s.Tables, secretsmanager.New(secretsmanager.Options{}), ssm.New(ssm.Options{}))
	s.client = s.Endpoint.Client()
	if cfg.Client != nil {
		s.client = cfg.Client(s.Endpoint)
	}
	if cfg.Listener != nil {
		go func() { s.served <- s.Endpoint.Serve(cfg.Listener) }()
	}
	if err := errors.Join(s.createTables(ctx), s.apply(ctx, cfg), s.createCanarySecret(ctx, cfg), s.createFunctions(cfg)); err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	if cfg.Canary != nil {
		s.listen(cfg)
	}
	if !cfg.Stopped {
		s.Resume(ctx)
	}
	return s, nil
}

func (c *Config) check() error {
	var problems []error
	if c.Binaries != "" && c.Listener == nil {
		problems = append(problems, errors.New("system: Config.Binaries needs Config.Listener: processes cannot use connections in memory"))
	}
	if c.Binaries != "" && c.Speed > 1 {
		problems = append(problems, errors.New("system: Config.Speed does not reach processes: leave it out with Config.Binaries"))
	}
	return errors.Join(problems...)
}

// faster is a topology whose long delays are shorter.
func faster(t topology.Topology, speed int) topology.Topology {
	t.Limits.LongestDelay /= time.Duration(speed)
	t.Limits.MarkCache /= time.Duration(speed)
	t.Limits.RegistryAge /= time.Duration(speed)
	t.Functions = slices.Clone(t.Functions)
	for i := range t.Functions {
		t.Functions[i].Every /= time.Duration(speed)
	}
	return t
}

// Resume starts mappings and schedules, after a Start with Stopped or a Pause.
func (s *System) Resume(ctx context.Context) {
	for _, m := range s.Mappings {
		m.Start(ctx)
	}
	s.clock.start(ctx, s.schedules)
}

// Pause stops mappings and schedules and waits for running invocations; queues and tables stay.
func (s *System) Pause(ctx context.Context) error {
	errs := []error{s.clock.halt(ctx)}
	for _, m := range s.Mappings {
		errs = append(errs, m.Stop(ctx))
	}
	return errors.Join(errs...)
}

// StopSchedules stops the functions that run by the clock, as a broken scheduler does, and waits for running invocations.
func (s *System) StopSchedules(ctx context.Context) error { return s.clock.halt(ctx) }

// StartSchedules starts them again, each with a run at once.
func (s *System) StartSchedules(ctx context.Context) { s.clock.start(ctx, s.schedules) }

// Stop stops everything.
func (s *System) Stop(ctx context.Context) error {
	errs := []error{s.Pause(ctx)}
	if s.sink != nil {
		errs = append(errs, s.sink.Close())
	}
	for _, f := range s.Functions {
		errs = append(errs, f.Close(ctx))
	}
	return errors.Join(append(errs, s.Endpoint.Close())...)
}

// Served tells when serving Config.Listener has ended, and why; nil after Stop.
func (s *System) Served() <-chan error { return s.served }

// Kill ends processes of a function as kill -9 does, those at work first, and tells how many.
func (s *System) Kill(name topology.FunctionName, n int) int {
	if p := s.programs[name]; p != nil {
		return p.Kill(n)
	}
	return 0
}

// Caller finds the process that signs its calls with an access key, which is awslocal.Call.Caller, and the function that it runs.
func (s *System) Caller(accessKey string) (topology.FunctionName, runtimeapi.Process, bool) {
	for name, program := range s.programs {
		for _, p := range program.Processes() {
			if p.EnvironmentID == accessKey {
				return name, p, true
			}
		}
	}
	return "", runtimeapi.Process{}, false
}

// KillCaller ends the process that signs its calls with an access key as kill -9 does, and tells whether there was one.
func (s *System) KillCaller(accessKey string) bool {
	for _, program := range s.programs {
		if program.KillEnvironment(accessKey) {
			return true
		}
	}
	return false
}

// AWS is an SDK configuration for this system's endpoint, over in-memory connections, of a caller who may do everything.
func (s *System) AWS() aws.Config { return s.account("") }

// account is an SDK configuration whose calls are made in a session.
func (s *System) account(sessionToken string) aws.Config {
	return aws.Config{
		Region: awslocal.Region, Credentials: credentials.NewStaticCredentialsProvider("local", "local", sessionToken),
		BaseEndpoint: aws.String("http://awslocal"), HTTPClient: s.client,
	}
}

// Busy tells how much is left to do: messages on queues that a function reads, in whatever state, and deliveries in the waiting room.
func (s *System) Busy() int {
	n := 0
	for _, f := range s.topology.Functions {
		if q, ok := s.Queues.Queue(string(f.Source.Queue)); ok {
			n += q.Depth().Total()
		}
	}
	rows, _ := s.Tables.Items(string(topology.Waiting)) // fails only without such a table
	for _, row := range rows {
		if _, held := row["body"]; held { // marks and watermarks have none
			n++
		}
	}
	return n
}

func (s *System) createQueues() error {
	var errs []error
	for _, dead := range []bool{true, false} { // a dead-letter queue must exist before its source
		for _, q := range s.topology.Queues {
			if (q.DeadLetter == "") != dead {
				continue
			}
			attributes := map[string]string{
				"MessageRetentionPeriod": seconds(q.Retention), "VisibilityTimeout": seconds(s.topology.Visibility(q.Name)),
			}
			if target, ok := s.Queues.Queue(string(q.DeadLetter)); ok {
				attributes["RedrivePolicy"] = fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":%d}`, target.ARN(), q.MaxReceiveCount)
			}
			_, err := s.Queues.CreateQueue(string(q.Name), attributes)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

func (s *System) createTables(ctx context.Context) error {
	client := awsdynamodb.NewFromConfig(s.AWS())
	var errs []error
	for _, t := range s.topology.Tables {
		in := &awsdynamodb.CreateTableInput{TableName: aws.String(string(t.Name)), BillingMode: types.BillingModePayPerRequest}
		for _, k := range []struct {
			key  topology.Key
			kind types.KeyType
		}{{t.Partition, types.KeyTypeHash}, {t.Sort, types.KeyTypeRange}} {
			if k.key.Name == "" {
				continue
			}
			in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: aws.String(k.key.Name), KeyType: k.kind})
			in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{
				AttributeName: aws.String(k.key.Name), AttributeType: types.ScalarAttributeType(k.key.Type),
			})
		}
		if _, err := client.CreateTable(ctx, in); err != nil {
			errs = append(errs, fmt.Errorf("table %s: %w", t.Name, err))
			continue
		}
		if t.TTLAttribute != "" {
			_, err := client.UpdateTimeToLive(ctx, &awsdynamodb.UpdateTimeToLiveInput{
				TableName:               aws.String(string(t.Name)),
				TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(t.TTLAttribute), Enabled: aws.Bool(true)},
			})
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Registry is the store of destinations and their states.
func (s *System) Registry() (registry.Store, error) {
	return registrydynamo.New(awsdynamodb.NewFromConfig(s.AWS()), string(topology.Registry), registrydynamo.Options{})
}

// apply makes the destinations of the configuration the first version in the registry.
func (s *System) apply(ctx context.Context, cfg Config) error {
	if _, err := registry.Parse(cfg.Destinations, registry.Options{}); err != nil {
		return fmt.Errorf("destinations: %w", err)
	}
	store, err := s.Registry()
	if err != nil {
		return err
	}
	_, err = store.Apply(ctx, 0, registry.Draft{Document: cfg.Destinations, By: "local", At: time.Now()})
	return err
}

func (s *System) createFunctions(cfg Config) error {
	assemblies := map[topology.FunctionName]wiring.Assembly{
		topology.Router: wiring.Router, topology.Deliverer: wiring.Deliverer, topology.SlowLane: wiring.Deliverer, topology.Waker: wiring.Waker,
		topology.Canary: wiring.Canary,
	}
	parts := wiring.Parts{OnAttempt: cfg.OnAttempt, Dial: cfg.Dial, Metrics: cfg.Metrics}
	if cfg.Traces != nil {
		var err error
		spans := tracing.Config{DaemonAddress: cfg.TraceAddress, Logger: cfg.Logger}
		if cfg.TraceAddress == "" {
			spans.Emit = cfg.Traces.Receive
		}
		if parts.Tracer, err = tracing.New(spans); err != nil {
			return err
		}
	}
	var errs []error
	for _, f := range s.topology.Functions {
		errs = append(errs, s.createFunction(cfg, f, parts, assemblies[f.Name]))
	}
	return errors.Join(errs...)
}

func (s *System) createFunction(cfg Config, f topology.Function, parts wiring.Parts, assemble wiring.Assembly) error {
	if assemble == nil {
		return fmt.Errorf("function %s is in the topology but has no code", f.Name)
	}
	var function *mapping.Function
	var err error
	if cfg.Binaries != "" {
		function, err = s.process(cfg, f)
	} else {
		function, err = s.inProcess(cfg, f, parts, assemble)
	}
	if err != nil {
		return err
	}
	s.Functions[f.Name] = function
	if f.Every > 0 {
		s.schedules = append(s.schedules, schedule{function, f.Every})
		return nil
	}
	source, ok := s.Queues.Queue(string(f.Source.Queue))
	if !ok {
		return fmt.Errorf("function %s: queue %s does not exist", f.Name, f.Source.Queue)
	}
	messages := mapping.SQS(source)
	if cfg.Source != nil {
		messages = cfg.Source(f.Name, messages)
	}
	m := mapping.Config{
		Queue: messages, Function: function, BatchSize: f.Source.BatchSize, Window: f.Source.Window,
		MaximumConcurrency: f.Source.MaximumConcurrency, ReportBatchItemFailures: true,
	}
	if cfg.Fault != nil {
		m.Fault = func(b mapping.Batch) mapping.Fault { return cfg.Fault(f.Name, b) }
	}
	s.Mappings[f.Name], err = mapping.New(m)
	return err
}

// inProcess makes a function of the code in this program.
func (s *System) inProcess(cfg Config, f topology.Function, parts wiring.Parts, assemble wiring.Assembly) (*mapping.Function, error) {
	variables := s.variables(cfg)
	settings, err := config.LoadFrom(s.topology, f.Name, func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	})
	if err != nil {
		return nil, err
	}
	parts.AWS = s.account(wire.SessionToken(string(f.Name)))
	parts.AWS.HTTPClient = living{s.client}
	parts.Logger = cfg.Logger.With("function", string(f.Name))
	if _, err := assemble(settings, parts); err != nil {
		return nil, err
	}
	build := func() mapping.Handler {
		parts := parts
		if cfg.Parts != nil {
			parts = cfg.Parts(f.Name, parts)
		}
		h, err := assemble(settings, parts)
		if err != nil {
			panic(err) // it was put together once already, with the same parts
		}
		return h
	}
	create := build
	if cfg.Sandbox != nil {
		create = func() mapping.Handler { return cfg.Sandbox(f.Name, build) }
	}
	return mapping.NewFunction(mapping.FunctionConfig{
		Name: string(f.Name), Timeout: f.Timeout, MemoryMB: f.MemoryMB, OnEnd: onEnd(cfg, f), New: create,
		Context: func(ctx context.Context, requestID, functionARN string) context.Context {
			return lambdacontext.NewContext(alive(ctx), &lambdacontext.LambdaContext{AwsRequestID: requestID, InvokedFunctionArn: functionARN})
		},
	})
}

// onEnd is nil if nobody wants to hear.
func onEnd(cfg Config, f topology.Function) func(time.Duration, error) {
	if cfg.OnInvocation == nil {
		return nil
	}
	return func(took time.Duration, err error) { cfg.OnInvocation(f.Name, took, err) }
}

// variables are the environment variables that the stack would give the functions.
func (s *System) variables(cfg Config) map[string]string {
	variables := map[string]string{topology.ProfileVariable: string(s.topology.Profile), topology.EgressAllowVariable: strings.TrimSpace(cfg.EgressAllow)}
	for _, q := range s.Queues.Queues() {
		variables[topology.QueueName(q.Name()).URLVariable()] = q.URL()
	}
	for _, t := range s.topology.Tables {
		variables[t.Name.NameVariable()] = string(t.Name)
	}
	if cfg.Canary != nil {
		variables[topology.CanaryURLVariable] = "http://" + cfg.Canary.Addr().String() + "/"
		variables[topology.CanarySecretVariable] = s.canarySecret
	}
	return variables
}
