package program_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/redrive/program"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waybill"
)

// variables are an environment in which the queues are known.
func variables() map[string]string {
	v := map[string]string{}
	for _, q := range topology.New(topology.LowLatency).Queues {
		v[q.Name.URLVariable()] = "http://127.0.0.1:4566/000000000000/" + string(q.Name)
	}
	return v
}

func environment(v map[string]string, cfg aws.Config) program.Environment {
	return program.Environment{
		Lookup: func(name string) (string, bool) { value, ok := v[name]; return value, ok },
		AWS:    func(context.Context, string, string) (aws.Config, error) { return cfg, nil },
	}
}

func TestCommandLineIsCheckedAsAWhole(t *testing.T) {
	without := func(names ...topology.QueueName) map[string]string {
		v := variables()
		maps.DeleteFunc(v, func(name, _ string) bool {
			for _, n := range names {
				if name == n.URLVariable() {
					return true
				}
			}
			return false
		})
		return v
	}
	tests := map[string]struct {
		args string
		env  map[string]string
		want []string // one for each line
	}{
		"no filter":        {"", variables(), []string{"-all"}},
		"all and a filter": {"-all -reason x", variables(), []string{"contradicts"}},
		"everything wrong": {
			"-rate 501 -limit -1 -window 5 -code x,5xx,y -since yesterday -until -5m -new-id -replay -unreadable -dry-run -rotate rest", variables(),
			[]string{`["rest"]`, `code "x"`, `code "y"`, `-since "yesterday"`, `-until "-5m"`, "rate 501", "limit -1", "window 5", "cannot be marked", "rotate"},
		},
		"zero":               {"-all -rate 0 -window 0", variables(), []string{"-rate 0", "-window 0"}},
		"unknown queue":      {"-all -queue ledger", variables(), []string{`-queue "ledger"`}},
		"no URLs":            {"-all", without(topology.Deliveries, topology.DeliveriesDeadLetter), []string{"WAYBILL_QUEUE_DELIVERIES_DLQ_URL", "WAYBILL_QUEUE_DELIVERIES_URL"}},
		"no ingress URL":     {"-all -queue ingress", without(topology.Ingress), []string{"WAYBILL_QUEUE_INGRESS_URL"}},
		"URLs that are none": {"-all -from deliveries -to arn:aws:sqs -endpoint-url localhost:4566", nil, []string{`-from "deliveries"`, `-to "arn:aws:sqs"`, `-endpoint-url "localhost:4566"`}},
		"events":             {"-queue ingress -destination a -code 5xx -replay", variables(), []string{"not been delivered", "no destination", "no status code"}},
		"since after until":  {"-since 1h -until 2h", variables(), []string{"exchange"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if status := program.Run(t.Context(), strings.Fields(tt.args), environment(tt.env, aws.Config{}), &stdout, &stderr); status != 2 || stdout.Len() > 0 {
				t.Errorf("status %d, %s", status, &stdout)
			}
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("%d problems, want %d:\n%s", len(lines), len(tt.want), &stderr)
			}
			for _, part := range tt.want {
				if !strings.Contains(stderr.String(), part) {
					t.Errorf("nothing about %q in\n%s", part, &stderr)
				}
			}
		})
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if status := program.Run(t.Context(), []string{"-h"}, environment(nil, aws.Config{}), &stdout, &stderr); status != 0 || !strings.Contains(stderr.String(), "-dry-run") {
		t.Errorf("status %d\n%s", status, &stderr)
	}
}

// TestFlagsReachTheQueues runs the program against queues in each way of naming them and with each filter flag.
func TestFlagsReachTheQueues(t *testing.T) {
	failed := func(reason string, ago time.Duration) queue.Message {
		m, _ := waybill.Attach(queue.Message{Body: reason, Group: "acme"}, waybill.Note{Reason: reason, EventID: reason, FailedAt: time.Now().Add(-ago)})
		return m
	}
	byURL := []string{"-from", "http://x/000000000000/ingress-dlq", "-to", "http://x/000000000000/ingress"}
	for name, tt := range map[string]struct {
		args   []string
		env    map[string]string
		status int
		stdout string
	}{
		"by environment": {[]string{"-reason", "bad,worse"}, variables(), 0, "tenant  reason  code  moved\nacme    bad     -     1\nacme    worse   -     1\ntotal                 2\nlooked at 3 messages\n"},
		"by URL":         {append(byURL, "-reason", "bad", "-reason", "w*"), nil, 0, "tenant  reason  code  moved\nacme    bad     -     1\nacme    worse   -     1\ntotal                 2\nlooked at 3 messages\n"},
		"by name":        {[]string{"-endpoint-url", "http://x", "-since", "90m"}, nil, 0, "tenant  reason  code  moved\nacme    bad     -     1\ntotal                 1\nlooked at 3 messages\n"},
		"until":          {[]string{"-until", "90m", "-since", "1999-12-31T21:30:00Z"}, variables(), 0, "tenant  reason  code  moved\nacme    worse   -     1\ntotal                 1\nlooked at 3 messages\n"},
		"limit":          {[]string{"-all", "-limit", "1"}, variables(), 0, "tenant  reason  code  moved\nacme    bad     -     1\ntotal                 1\nlooked at 1 messages\nstopped at the limit of 1\n"},
		"no such queue":  {[]string{"-all", "-from", "http://x/000000000000/other"}, variables(), 1, "tenant  reason  code  moved\ntotal                 0\n"},
		"no such name":   {[]string{"-all", "-endpoint-url", "http://x", "-queue", "deliveries"}, nil, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := sqs.New(sqs.Options{Seed: 1})
				endpoint := awslocal.New(awslocal.Options{}, service)
				defer func() { _ = endpoint.Close() }()
				for _, name := range []string{"ingress-dlq", "ingress"} {
					if _, err := service.CreateQueue(name, nil); err != nil {
						t.Fatal(err)
					}
				}
				dead, _ := service.Queue("ingress-dlq")
				for _, m := range []queue.Message{failed("bad", time.Hour), failed("worse", 2*time.Hour), failed("old\x1b[2J", 100*time.Hour)} {
					attributes := map[string]sqs.AttributeValue{}
					for n, a := range m.Attributes {
						attributes[n] = sqs.AttributeValue{DataType: a.DataType, StringValue: a.String}
					}
					if _, err := dead.Send(sqs.Outgoing{Body: "body", GroupID: m.Group, MessageAttributes: attributes}); err != nil {
						t.Fatal(err)
					}
				}
				cfg := aws.Config{
					Region: awslocal.Region, Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""),
					BaseEndpoint: aws.String("http://awslocal"), HTTPClient: endpoint.Client(),
				}
				var stdout, stderr bytes.Buffer
				status := program.Run(t.Context(), append([]string{"-queue", "ingress"}, tt.args...), environment(tt.env, cfg), &stdout, &stderr)
				if status != tt.status || stdout.String() != tt.stdout || (stderr.Len() == 0) != (status == 0) {
					t.Errorf("status %d\n%s%s", status, &stdout, &stderr)
				}
				stdout.Reset()
				program.Run(t.Context(), []string{"-queue", "ingress", "-dry-run"}, environment(variables(), cfg), &stdout, &stderr)
				if strings.Contains(stdout.String(), "\x1b") {
					t.Errorf("a reason steers the terminal: %q", stdout.String())
				}
				if d := dead.Depth(); d.InFlight > 0 {
					t.Errorf("%+v", d)
				}
			})
		})
	}
}

// TestInterruptIsTold: an interrupted run says how to go on, and its status says that something is left.
func TestInterruptIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := sqs.New(sqs.Options{Seed: 1})
		endpoint := awslocal.New(awslocal.Options{}, service)
		defer func() { _ = endpoint.Close() }()
		for _, name := range []string{"ingress-dlq", "ingress"} {
			if _, err := service.CreateQueue(name, nil); err != nil {
				t.Fatal(err)
			}
		}
		dead, _ := service.Queue("ingress-dlq")
		for i := range 100 {
			if _, err := dead.Send(sqs.Outgoing{Body: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		cfg := aws.Config{
			Region: awslocal.Region, Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""),
			BaseEndpoint: aws.String("http://awslocal"), HTTPClient: endpoint.Client(),
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(12 * time.Second)
			cancel()
		}()
		var stdout, stderr bytes.Buffer
		status := program.Run(ctx, []string{"-queue", "ingress", "-all", "-rate", "5"}, environment(variables(), cfg), &stdout, &stderr)
		if status != 1 || !strings.Contains(stderr.String(), "interrupted") || !strings.Contains(stderr.String(), "looked at") {
			t.Errorf("status %d\n%s%s", status, &stdout, &stderr)
		}
		if d := dead.Depth(); d.Visible != 100-59 && d.Visible != 100-60 || d.InFlight > 0 {
			t.Errorf("%+v", d)
		}
	})
}

// outside hides what the SDK would find on this machine.
func outside(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// TestRequestsAreReadOnly: clients of the loaded configuration send bodies under which answers are safe.
func TestRequestsAreReadOnly(t *testing.T) {
	outside(t)
	cfg, err := program.LoadAWS(t.Context(), "", "http://127.0.0.1:4566")
	if err != nil {
		t.Fatal(err)
	}
	var sent *http.Request
	cfg.HTTPClient = over(func(r *http.Request) (*http.Response, error) {
		sent = r
		return nil, errors.New("not connected")
	})
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	_, _ = awssqs.NewFromConfig(cfg).ListQueues(t.Context(), &awssqs.ListQueuesInput{})
	if sent == nil || sent.Body == nil {
		t.Fatal("nothing was sent")
	}
	if _, ok := sent.Body.(io.WriterTo); ok {
		t.Errorf("%T can write itself", sent.Body)
	}
}

// over is a way to send requests.
type over func(*http.Request) (*http.Response, error)

// Do sends a request.
func (o over) Do(r *http.Request) (*http.Response, error) { return o(r) }

func TestLoadAWS(t *testing.T) {
	outside(t)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	_, err := program.LoadAWS(t.Context(), "", "")
	for _, want := range []string{"no region: set AWS_REGION", "no credentials: set AWS_PROFILE"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "any")
	}
	for name, tt := range map[string]struct{ url, endpoint, region, key string }{
		"region of the URL": {"https://sqs.eu-central-1.amazonaws.com/1/q", "", "eu-central-1", ""},
		"older form":        {"https://queue.us-gov-west-1.amazonaws.com/1/q", "", "us-gov-west-1", ""},
		"nothing":           {"https://example.com/q", "", "", ""},
		"this machine":      {"", "http://127.0.0.1:4566", "us-east-1", "local"},
		"by name":           {"", "http://localhost:4566", "us-east-1", "local"},
		"IPv6":              {"", "http://[::1]:4566", "us-east-1", "local"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := program.LoadAWS(t.Context(), tt.url, tt.endpoint)
			if (err != nil) != (tt.region == "") || cfg.Region != tt.region {
				t.Fatalf("%v, region %q", err, cfg.Region)
			}
			if tt.endpoint != "" && aws.ToString(cfg.BaseEndpoint) != tt.endpoint {
				t.Errorf("endpoint %v", cfg.BaseEndpoint)
			}
			if tt.key != "" {
				if c, err := cfg.Credentials.Retrieve(t.Context()); err != nil || c.AccessKeyID != tt.key {
					t.Errorf("%v, %v", c.AccessKeyID, err)
				}
			}
		})
	}
}
