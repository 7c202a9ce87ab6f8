package program_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/scripts/destinations/program"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/secretsmanager"
	"github.com/waybillhq/waybill/shared/awslocal/ssm"
	"github.com/waybillhq/waybill/shared/registry"
	registrydynamo "github.com/waybillhq/waybill/shared/registry/dynamo"
	"github.com/waybillhq/waybill/shared/topology"
)

// What no output may ever show: a key, the value of a header, the path of a URL.
const (
	secret      = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	headerValue = "Bearer-of-the-crown"
	hiddenPath  = "hidden-path-0451"
)

// account is an AWS account with an empty registry, and a person at a terminal.
type account struct {
	t        *testing.T
	endpoint *awslocal.Endpoint
	env      program.Environment
	stdin    io.Reader
	observe  func(awslocal.Call)
}

// inAccount plays a test in virtual time, which begins at a time that README and tests can show.
func inAccount(t *testing.T, play func(a *account)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, time.November, 22, 9, 0, 0, 0, time.UTC)))
		a := newAccount(t)
		defer func() { _ = a.endpoint.Close() }()
		play(a)
	})
}

func newAccount(t *testing.T) *account {
	t.Helper()
	a := &account{t: t}
	a.endpoint = awslocal.New(awslocal.Options{Observe: func(c awslocal.Call) {
		if a.observe != nil {
			a.observe(c)
		}
	}}, dynamodb.New(dynamodb.Options{}), secretsmanager.New(secretsmanager.Options{}), ssm.New(ssm.Options{}))
	a.env = program.Environment{
		Lookup: func(name string) (string, bool) {
			if name == topology.Registry.NameVariable() {
				return "registry", true
			}
			return "", false
		},
		User: "anna", Terminal: true,
		AWS: func(context.Context, string) (aws.Config, error) { return a.config(), nil },
	}
	table, _ := topology.New(topology.LowLatency).Table(topology.Registry)
	_, err := awsdynamodb.NewFromConfig(a.config()).CreateTable(t.Context(), &awsdynamodb.CreateTableInput{
		TableName: aws.String("registry"), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: &table.Partition.Name, AttributeType: types.ScalarAttributeTypeS}, {AttributeName: &table.Sort.Name, AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: &table.Partition.Name, KeyType: types.KeyTypeHash}, {AttributeName: &table.Sort.Name, KeyType: types.KeyTypeRange},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *account) config() aws.Config {
	return aws.Config{
		Region: awslocal.Region, Credentials: credentials.NewStaticCredentialsProvider("any", "thing", ""),
		BaseEndpoint: aws.String("http://awslocal"), HTTPClient: a.endpoint.Client(),
	}
}

func (a *account) store() *registrydynamo.Store {
	a.t.Helper()
	s, err := registrydynamo.New(awsdynamodb.NewFromConfig(a.config()), "registry", registrydynamo.Options{})
	if err != nil {
		a.t.Fatal(err)
	}
	return s
}

// current reads the registry past the program.
func (a *account) current() registry.Snapshot {
	a.t.Helper()
	now, err := a.store().Current(context.Background())
	if err != nil {
		a.t.Fatal(err)
	}
	return now
}

// put applies a document past the program, whatever it holds.
func (a *account) put(document, by string) {
	a.t.Helper()
	if _, err := a.store().Apply(context.Background(), a.current().Version.Number, registry.Draft{Document: []byte(document), By: by, At: time.Now()}); err != nil {
		a.t.Fatal(err)
	}
}

// result is what a run of the program gave.
type result struct {
	status         int
	stdout, stderr string
}

// do runs the program and holds its output to the laws about outputs.
func (a *account) do(args ...string) result {
	a.t.Helper()
	return a.doUnder(a.t.Context(), args...)
}

func (a *account) doUnder(ctx context.Context, args ...string) result {
	a.t.Helper()
	var out, errs bytes.Buffer
	env := a.env
	if env.Stdin = a.stdin; env.Stdin == nil {
		env.Stdin = strings.NewReader("")
	}
	r := result{status: program.Run(ctx, args, env, &out, &errs)}
	r.stdout, r.stderr = out.String(), errs.String()
	lawful(a.t, r)
	return r
}

// lawful checks that an output shows no secret and cannot steer a terminal.
func lawful(t *testing.T, r result) {
	t.Helper()
	text := r.stdout + r.stderr
	for _, hidden := range []string{strings.TrimPrefix(secret, "whsec_"), headerValue, hiddenPath} {
		if strings.Contains(text, hidden) {
			t.Errorf("the output shows %q:\n%s", hidden, text)
		}
	}
	for _, c := range text {
		if c != '\n' && !strconv.IsPrint(c) {
			t.Errorf("the output holds %q:\n%q", c, text)
			break
		}
	}
}

// want runs the program and compares all that it says.
func (a *account) want(status int, stdout, stderr string, args ...string) {
	a.t.Helper()
	r := a.do(args...)
	if r.status != status || r.stdout != stdout || r.stderr != stderr {
		a.t.Errorf("%q: status %d, want %d\n--- stdout\n%s--- want\n%s--- stderr\n%s--- want\n%s", args, r.status, status, r.stdout, stdout, r.stderr, stderr)
	}
}

// says runs the program and looks for parts of what it says.
func (a *account) says(status int, parts []string, args ...string) result {
	a.t.Helper()
	r := a.do(args...)
	expect(a.t, r, status, parts...)
	return r
}

func expect(t *testing.T, r result, status int, parts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d", r.status, status)
	}
	for _, part := range parts {
		if !strings.Contains(r.stdout+r.stderr, part) {
			t.Errorf("nothing about %q", part)
		}
	}
	if t.Failed() {
		t.Logf("stdout:\n%s\nstderr:\n%s", r.stdout, r.stderr)
	}
}

// object is a JSON object.
type object = map[string]any

// to describes a destination on this machine; its parts can be overwritten.
func to(id string, changes ...object) object {
	webhook := object{
		"url": "http://127.0.0.1:9/" + hiddenPath + "?key=" + hiddenPath, "secrets": []string{secret}, "headers": object{"authorization": headerValue},
	}
	d := object{"id": id, "tenant": "acme", "type": "webhook", "webhook": webhook}
	for _, change := range changes {
		for name, value := range change {
			if field, ok := strings.CutPrefix(name, "webhook."); ok {
				webhook[field] = value
			} else {
				d[name] = value
			}
		}
	}
	return d
}

func document(destinations ...object) string {
	if destinations == nil {
		destinations = []object{}
	}
	text, _ := json.Marshal(object{"destinations": destinations})
	return string(text)
}

// file writes a destinations file and gives its path.
func (a *account) file(destinations ...object) string {
	a.t.Helper()
	return write(a.t, document(destinations...))
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "destinations.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// applied applies destinations by the program.
func (a *account) applied(destinations ...object) {
	a.t.Helper()
	if r := a.do("apply", a.file(destinations...), "-yes"); r.status != 0 {
		a.t.Fatalf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}
