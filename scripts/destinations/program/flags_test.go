package program_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/waybillhq/waybill/scripts/destinations/program"
)

// unconnected is an environment in which nothing may be called.
func unconnected(t *testing.T, variables map[string]string) program.Environment {
	return program.Environment{
		Lookup: func(name string) (string, bool) { value, ok := variables[name]; return value, ok },
		Stdin:  strings.NewReader(""),
		AWS: func(context.Context, string) (aws.Config, error) {
			t.Error("AWS was asked for")
			return aws.Config{}, errors.New("not connected")
		},
	}
}

func TestCommandLineIsCheckedAsAWhole(t *testing.T) {
	here := map[string]string{"WAYBILL_TABLE_REGISTRY": "registry"}
	for name, tt := range map[string]struct {
		args string
		env  map[string]string
		want []string // one for each line
	}{
		"nothing":             {"", here, []string{"say which command"}},
		"no command":          {"aply x.json", here, []string{`"aply" is no command: did you mean apply?`}},
		"flags first":         {"-table x list", here, []string{"the command comes first"}},
		"no file":             {"apply", here, []string{"Write apply FILE"}},
		"two files":           {"diff a.json b.json", here, []string{"too many"}},
		"an argument to list": {"list crm", here, []string{`["crm"]`}},
		"an impossible id":    {"pause Orders", here, []string{`"Orders" cannot be the id`}},
		"version zero":        {"rollback 0", here, []string{`"0" is no number of a version`}},
		"version word":        {"rollback last", here, []string{`"last" is no number of a version`}},
		"no table":            {"list", nil, []string{"WAYBILL_TABLE_REGISTRY"}},
		"an endpoint that is none": {
			"list -endpoint-url localhost:4566", nil, []string{`"localhost:4566" is no http or https URL`},
		},
		"a flag of another command": {"list -yes", here, []string{"-yes"}},
		"everything wrong": {
			"ping -unknown Orders -egress-allow 10.0.0.0/99,x -note", nil,
			[]string{"-unknown", "-note", "cannot be the id", "WAYBILL_TABLE_REGISTRY", `-egress-allow: egress allow-list: "10.0.0.0/99"`, `"x" is neither`},
		},
		"a long note": {"pause crm -note " + strings.Repeat("x", 513), here, []string{"-note has 513 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := program.Run(t.Context(), strings.Fields(tt.args), unconnected(t, tt.env), &stdout, &stderr)
			if status != 2 || stdout.Len() > 0 {
				t.Errorf("status %d, %s", status, &stdout)
			}
			if n := strings.Count(stderr.String(), "\n"); n != len(tt.want) {
				t.Errorf("%d problems, want %d", n, len(tt.want))
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
	for args, want := range map[string][]string{
		"-help":          {"validate FILE", "rollback N", "Exit status", "$WAYBILL_TABLE_REGISTRY"},
		"help":           {"ping ID"},
		"help ping":      {"-egress-allow", "-endpoint-url", "waybill.ping"},
		"ping x -h":      {"-file", "10.0.0.0/8"},
		"apply -help":    {"-check-secrets", "apply FILE [flags]"},
		"validate -help": {"-schema"},
	} {
		var stdout, stderr bytes.Buffer
		env := unconnected(t, map[string]string{"WAYBILL_EGRESS_ALLOW": "10.0.0.0/8"})
		status := program.Run(t.Context(), strings.Fields(args), env, &stdout, &stderr)
		if status != 0 || stderr.Len() > 0 {
			t.Errorf("%s: status %d, %s", args, status, &stderr)
		}
		for _, part := range want {
			if !strings.Contains(stdout.String(), part) {
				t.Errorf("%s: nothing about %q in\n%s", args, part, &stdout)
			}
		}
	}
}

// TestFlagsStandAnywhere: flags and arguments in any order mean the same, and the table is the one that is named.
func TestFlagsStandAnywhere(t *testing.T) {
	inAccount(t, func(a *account) {
		a.applied(to("crm"))
		for _, args := range [][]string{
			{"pause", "crm", "-note", "why"}, {"pause", "-note=why", "crm"}, {"pause", "-table", "registry", "crm", "-note", "why"},
		} {
			if r := a.do(args...); r.status != 0 || a.current().States["crm"].Note != "why" {
				t.Errorf("%q: status %d %+v\n%s", args, r.status, a.current().States, r.stderr)
			}
			a.do("resume", "crm")
		}
		a.says(2, []string{`table "other" does not exist`}, "list", "-table", "other")
		a.env.Lookup = func(string) (string, bool) { return "the-one-in-aws", true }
		a.says(0, []string{"crm"}, "list", "-endpoint-url", "http://127.0.0.1:1") // where tables are called as in the topology
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

func TestLoadAWS(t *testing.T) {
	outside(t)
	for endpoint, region := range map[string]string{
		"": "", "https://dynamodb.example.com": "", "http://127.0.0.1:4566": "us-east-1", "http://localhost:4566": "us-east-1", "http://[::1]:4566": "us-east-1",
	} {
		cfg, err := program.LoadAWS(t.Context(), endpoint)
		if (err != nil) != (region == "") || cfg.Region != region {
			t.Errorf("%q: %v, region %q", endpoint, err, cfg.Region)
		}
		if region == "" {
			continue
		}
		if cfg.RetryMaxAttempts != 5 {
			t.Errorf("%q: %d tries", endpoint, cfg.RetryMaxAttempts)
		}
		if c, err := cfg.Credentials.Retrieve(t.Context()); err != nil || c.AccessKeyID != "local" || aws.ToString(cfg.BaseEndpoint) != endpoint {
			t.Errorf("%q: %v, %v, %v", endpoint, c.AccessKeyID, err, cfg.BaseEndpoint)
		}
	}
}

// TestRequestsAreReadOnly: clients of the loaded configuration send bodies under which answers are safe.
func TestRequestsAreReadOnly(t *testing.T) {
	outside(t)
	cfg, err := program.LoadAWS(t.Context(), "http://127.0.0.1:4566")
	if err != nil {
		t.Fatal(err)
	}
	var sent *http.Request
	cfg.HTTPClient = over(func(r *http.Request) (*http.Response, error) {
		sent = r
		return nil, errors.New("not connected")
	})
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	_, _ = awsdynamodb.NewFromConfig(cfg).ListTables(t.Context(), &awsdynamodb.ListTablesInput{})
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
