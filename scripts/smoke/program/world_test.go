package program_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/scripts/smoke/program"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/egress"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

// caller is the access key of the program's own calls, so that faults can tell them from those of the functions.
const caller = "smoke"

// document is what is in force before and after each run, to the byte.
const document = `{
  "destinations": [
    {"id": "shop", "tenant": "acme", "type": "webhook", "webhook": {"url": "http://127.0.0.1/shop", "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}}
  ]
}
`

// world is the whole system in virtual time, deployed as the stack would be, in an account.
type world struct {
	*system.System
	*account
	t        *testing.T
	receiver *receiver.Receiver
	open     bool // loopback addresses are not refused
}

// deployed says what a test's world is made of.
type deployed struct {
	document string // in force; default document
}

func inWorld(t *testing.T, d deployed, play func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, receiver: receiver.New(receiver.Options{})}
		if d.document == "" {
			d.document = document
		}
		guard := egress.NewGuard(nil)
		var err error
		w.System, err = system.Start(context.Background(), system.Config{
			Destinations: []byte(d.document), Logger: slog.New(slog.DiscardHandler), Queues: sqs.Options{Seed: 1},
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				switch {
				case strings.HasSuffix(address, ":1") && !w.open:
					return guard.DialContext(ctx, network, address) // refused before anything is sent
				case strings.HasSuffix(address, ":1"):
					return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
				}
				return w.receiver.Dial(ctx, network, address)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.deploy()
		defer w.end()
		play(w)
	})
}

func (w *world) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := errors.Join(w.Stop(ctx), w.receiver.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
		w.t.Error(err)
	}
}

// deploy makes the account tell of the system what it would of a stack in dev.
func (w *world) deploy() {
	w.t.Helper()
	w.account = &account{
		local: w.Endpoint.Client(), outputs: map[string]string{"Stage": "dev", "AlarmTopicArn": "arn:aws:sns:us-east-1:000000000000:topic"},
		mappings: map[string][]object{}, aliases: map[string]object{}, variables: map[string]string{"WAYBILL_PROFILE": "low-latency"},
		alarms: map[string]string{"waybill-dev-depth": "OK", "waybill-dev-age": "INSUFFICIENT_DATA", "waybill-dev-page-depth": "OK"}, executions: map[string]map[string]float64{},
	}
	for name := range w.alarms {
		kind := "AWS::CloudWatch::Alarm"
		if strings.Contains(name, "page-") {
			kind = "AWS::CloudWatch::CompositeAlarm"
		}
		w.resources = append(w.resources, [2]string{kind, name})
	}
	t := topology.New(topology.LowLatency)
	for _, q := range t.Queues {
		queue := w.queue(q.Name)
		w.outputs[topology.Output(q.Name.URLVariable())] = queue.URL()
		w.set(q.Name, "Policy", `{"Statement": [{"Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]}`)
	}
	for _, table := range t.Tables {
		w.outputs[topology.Output(table.Name.NameVariable())] = string(table.Name)
		w.recovery(table.Name, true)
	}
	for _, f := range t.Functions {
		name := "waybill-dev-" + string(f.Name) + "-AB12"
		arn := "arn:aws:lambda:us-east-1:000000000000:function:" + name + ":live"
		w.outputs[topology.Output(f.Name.AliasVariable())] = arn
		w.aliases[name] = object{"AliasArn": arn, "Name": "live", "FunctionVersion": "3"}
		if f.Name != topology.SlowLane { // nothing that the program sends goes there
			w.executions[name] = map[string]float64{"3": 12}
		}
		if f.Source.Queue != "" {
			w.mappings[w.queue(f.Source.Queue).ARN()] = []object{{
				"UUID": "1", "State": "Enabled", "FunctionArn": arn, "BatchSize": f.Source.BatchSize, "FunctionResponseTypes": []string{"ReportBatchItemFailures"},
			}}
		}
	}
}

func (w *world) queue(name topology.QueueName) *sqs.Queue {
	w.t.Helper()
	q, ok := w.Queues.Queue(string(name))
	if !ok {
		w.t.Fatalf("no queue %s", name)
	}
	return q
}

// set sets an attribute of a queue.
func (w *world) set(name topology.QueueName, attribute, value string) {
	w.t.Helper()
	in, err := json.Marshal(object{"QueueUrl": w.queue(name).URL(), "Attributes": object{attribute: value}})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.Queues.Do(context.Background(), "SetQueueAttributes", in); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) recovery(name topology.TableName, on bool) {
	w.t.Helper()
	if _, err := w.tables().UpdateContinuousBackups(context.Background(), &dynamodb.UpdateContinuousBackupsInput{
		TableName: aws.String(string(name)), PointInTimeRecoverySpecification: &types.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: &on},
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tables() *dynamodb.Client { return dynamodb.NewFromConfig(w.AWS()) }

// own limits a fault to calls of the program.
func own(key string) bool { return key == caller }

// others limits a fault to calls of the functions.
func others(key string) bool { return key != caller }

// plant makes calls go wrong.
func (w *world) plant(f awslocal.Fault) { w.Endpoint.Faults().Add(f) }

// env is the program's environment in this account.
func (w *world) env(variables map[string]string) program.Environment {
	return program.Environment{
		Lookup: func(name string) (string, bool) { value, ok := variables[name]; return value, ok },
		AWS: func(context.Context, string, string) (aws.Config, error) {
			cfg := w.AWS()
			cfg.Credentials = credentials.NewStaticCredentialsProvider(caller, "secret", "")
			cfg.HTTPClient = w.account
			return cfg, nil
		},
	}
}

// told is a line of -json.
type told struct {
	Kind, Check, Verdict, Holds, Expected, Seen, Do, Why string
	OK, Failed, Skipped                                  int
	Stack, Stage, Run                                    string
}

// verdicts are those of a run, by check.
type verdicts struct {
	t      *testing.T
	status int
	all    []told
	sum    told
	errs   string
}

// smoke runs the program.
func (w *world) smoke(ctx context.Context, args ...string) verdicts {
	w.t.Helper()
	var out, errs bytes.Buffer
	v := verdicts{t: w.t, status: program.Run(ctx, append([]string{"-json"}, args...), w.env(nil), &out, &errs)}
	v.errs = errs.String()
	for d := json.NewDecoder(&out); d.More(); {
		var one told
		if err := d.Decode(&one); err != nil {
			w.t.Fatal(err)
		}
		if one.Kind == "summary" {
			v.sum = one
			continue
		}
		v.all = append(v.all, one)
	}
	return v
}

// failures gives the checks that failed.
func (v verdicts) failures() (names []string) {
	for _, one := range v.all {
		if one.Verdict == "failed" {
			names = append(names, one.Check)
		}
	}
	return names
}

// of finds the verdict on a check.
func (v verdicts) of(check string) told {
	v.t.Helper()
	for _, one := range v.all {
		if one.Check == check {
			return one
		}
	}
	v.t.Fatalf("no check %s in %+v; %s", check, v.all, v.errs)
	return told{}
}

// untouched tells whether the run has left nothing behind.
func (w *world) untouched() {
	w.t.Helper()
	store, err := w.Registry()
	if err != nil {
		w.t.Fatal(err)
	}
	now, err := store.Current(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	if left, err := store.Document(context.Background(), now.Version); err != nil || string(left) != document || len(now.States) > 0 {
		w.t.Errorf("in force is now\n%s\n%v %v", left, now.States, err)
	}
	rows, err := w.Tables.Items(string(topology.Ledger))
	if err != nil || len(rows) > 0 {
		w.t.Errorf("%d rows are left in the ledger: %v %v", len(rows), rows, err)
	}
	for _, q := range topology.New(topology.LowLatency).Queues {
		if n := w.queue(q.Name).Depth().Total(); n > 0 {
			w.t.Errorf("%d messages are left in %s", n, q.Name)
		}
	}
}

// forget deletes the waybill of a run's event, as if the ledger did not hold what it was told.
func (w *world) forget(event string) {
	for _, d := range w.ours() {
		id := string(delivery.NewID(program.Tenant, "/waybill/smoke", strings.TrimSuffix(d, "-rejected")+event, d))
		if _, err := w.tables().DeleteItem(context.Background(), &dynamodb.DeleteItemInput{
			TableName: aws.String(string(topology.Ledger)), Key: map[string]types.AttributeValue{"delivery": &types.AttributeValueMemberS{Value: id}},
		}); err != nil {
			w.t.Error(err)
		}
	}
}

// ours are the program's destinations that are in force.
func (w *world) ours() (ids []string) {
	w.apply(func(now string) string {
		set, err := registry.Parse([]byte(now), registry.Options{})
		if err != nil {
			w.t.Fatal(err)
		}
		for d := range set.All() {
			if d.Tenant == program.Tenant {
				ids = append(ids, d.ID)
			}
		}
		return now
	})
	return ids
}

// apply changes what is in force, as somebody else would.
func (w *world) apply(edit func(now string) string) {
	store, err := w.Registry()
	if err != nil {
		w.t.Fatal(err)
	}
	ctx := context.Background()
	now, err := store.Current(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	old, err := store.Document(ctx, now.Version)
	if err != nil {
		w.t.Fatal(err)
	}
	if edited := edit(string(old)); edited != string(old) {
		if _, err := store.Apply(ctx, now.Version.Number, registry.Draft{Document: []byte(edited), By: "anna", At: time.Now()}); err != nil {
			w.t.Error(err)
		}
	}
}

// steal takes a letter away.
func (w *world) steal() {
	q := w.queue(topology.DeliveriesDeadLetter)
	got, err := q.Receive(context.Background(), sqs.ReceiveOptions{})
	if err != nil || len(got) == 0 {
		w.t.Errorf("no letter: %v", err)
		return
	}
	if err := q.Delete(got[0].ReceiptHandle); err != nil {
		w.t.Error(err)
	}
}
