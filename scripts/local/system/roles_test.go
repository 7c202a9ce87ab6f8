package system_test

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/waybillhq/waybill/scripts/local/receiver"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/topology"
)

// TestRolesAreTheLeast: what the functions do here with everything that makes them do something, is all that they may do: no grant of the topology is left
// over. That the grants suffice shows in every test of the system, since what is not granted is refused.
func TestRolesAreTheLeast(t *testing.T) {
	const outage = time.Hour
	p := plan{
		quiet: true, incidents: 1000, // the subject is who called what, not how often
		destinations: []destination{
			to("shop", receiver.Fine), relaxed(to("crm", receiver.Fine)),
			to("later", receiver.Flaky, "30m", "30m"), to("rejecting", receiver.Rejecting), to("gone", receiver.Gone, "1s"), to("slow", receiver.Slow),
			to("hanging", receiver.Hanging, "5s"),
			to("ill", receiver.Fine, "5s", "5m", "30m", "2h"),
		},
		answer: func(w *world, r receiver.Request, _ http.Header) int {
			if strings.HasSuffix(r.Path, "/ill") && time.Since(w.began) < outage {
				return http.StatusInternalServerError // until its breaker opens
			}
			if strings.HasSuffix(r.Path, "/hanging") && time.Since(w.began) > outage {
				return http.StatusOK
			}
			return 0
		},
	}
	run(t, p, func(w *world) {
		w.apply(append(p.destinations, w.keyed()...)...)
		w.send(names("order", 30)...)
		w.post(topology.Ingress, `{"specversion":"1.0"}`)
		time.Sleep(time.Minute)
		w.send("twice")
		time.Sleep(300 * time.Millisecond)
		w.send("twice") // while the slow receiver has not answered the first
		time.Sleep(time.Minute)
		w.interrupt()
		// Where statements are refused, rows are deleted one by one.
		w.Endpoint.Faults().Add(awslocal.Fault{
			Operation: "BatchExecuteStatement", Match: about("DELETE FROM"), Times: 1,
			Error: &wire.Error{Code: "ValidationException", Message: "Unsupported statement", Status: http.StatusBadRequest},
		})
		w.losesItsMark("gone")
		time.Sleep(2 * outage) // for the scan of every hour to find that
		w.receiver.Mend(receiver.Gone)
		if was, err := w.registry().Enable(context.Background(), "gone"); !was || err != nil {
			t.Errorf("gone was not disabled: %v", err)
		}
		w.rest(12*time.Hour, time.Minute)
		for _, name := range slices.Sorted(maps.Keys(w.Roles)) {
			for grant, n := range w.Roles[name].Used() {
				if n == 0 && !w.usedByTwin(name, grant) {
					t.Errorf("%s may do %s on %s and never does: take the grant back, or make this test bring it about", name, grant.Action, grant.Resource)
				}
				t.Logf("%-9s %6d × %s on %s", name, n, grant.Action, grant.Resource)
			}
		}
	})
}

// usedByTwin says that a function runs the code of another, which has used the same grant, of its own source where it is about that.
func (w *world) usedByTwin(name topology.FunctionName, grant awslocal.Access) bool {
	all := topology.New(topology.LowLatency)
	f, _ := all.Function(name)
	twin, ok := all.Function(f.As)
	if !ok {
		return false
	}
	if grant.Resource == w.queue(f.Source.Queue).ARN() {
		grant.Resource = w.queue(twin.Source.Queue).ARN()
	}
	return w.Roles[twin.Name].Used()[grant] > 0
}

// keyed gives destinations whose key lies in Secrets Manager and in SSM.
func (w *world) keyed() []destination {
	w.t.Helper()
	made, err := secretsmanager.NewFromConfig(w.AWS()).CreateSecret(context.Background(), &secretsmanager.CreateSecretInput{
		Name: aws.String("waybill/secret"), SecretString: aws.String(secret),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = ssm.NewFromConfig(w.AWS()).PutParameter(context.Background(), &ssm.PutParameterInput{
		Name: aws.String("/waybill/parameter"), Value: aws.String(secret), Type: ssmtypes.ParameterTypeSecureString,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	var all []destination
	for id, arn := range map[string]string{"secret": *made.ARN, "parameter": "arn:aws:ssm:us-east-1:000000000000:parameter/waybill/parameter"} {
		d := to(id, receiver.Fine)
		d["webhook"].(map[string]any)["secrets"] = []string{arn}
		all = append(all, d)
	}
	return all
}

// losesItsMark deletes what says that a destination has parked deliveries.
func (w *world) losesItsMark(destination string) {
	w.t.Helper()
	items, err := w.Tables.Items(string(topology.Waiting))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, item := range items {
		if item["row"] == dynamodb.String(destination) {
			if _, err := w.Tables.Drop(string(topology.Waiting), dynamodb.Item{"bucket": item["bucket"], "row": item["row"]}); err != nil {
				w.t.Fatal(err)
			}
			return
		}
	}
	w.t.Errorf("%s has no mark", destination)
}

// interrupt has an event routed that cannot be sent on, so that it goes back to SQS, and one while no destination is known, so that it is put off.
func (w *world) interrupt() {
	w.t.Helper()
	w.Endpoint.Faults().Add(awslocal.Fault{Operation: "SendMessageBatch", Match: about("returned"), Error: lost, Times: 6}) // the SDK makes three calls of one
	w.send("returned")
	time.Sleep(time.Minute)
	end := w.unreachable(topology.Registry)
	time.Sleep(16 * time.Minute) // for as long as what is known may serve
	w.send("deferred")
	time.Sleep(time.Minute)
	end()
}

// TestRoleWithoutPartiQL: a deliverer that may execute no statement is refused each of them, and does without: the ledger falls back to single items.
func TestRoleWithoutPartiQL(t *testing.T) {
	p := plan{
		quiet: true, denied: true, destinations: []destination{to("shop", receiver.Flaky, "1s", "1s")},
		topology: func(all *topology.Topology) {
			for _, f := range all.Functions {
				for i := range f.Tables {
					f.Tables[i].Operations = slices.DeleteFunc(f.Tables[i].Operations, func(o topology.Operation) bool { return o == topology.PartiQLInsert || o == topology.PartiQLUpdate })
				}
			}
		},
	}
	run(t, p, func(w *world) {
		ids := names("order", 12)
		w.send(ids...)
		w.rest(time.Hour, time.Second)
		for _, id := range ids {
			w.want(id, "shop", ledger.Delivered, 3)
		}
		w.noLetters()
		want := []string{
			"deliverer: dynamodb:PartiQLInsert on arn:aws:dynamodb:us-east-1:000000000000:table/ledger",
			"deliverer: dynamodb:PartiQLUpdate on arn:aws:dynamodb:us-east-1:000000000000:table/ledger",
		}
		if got := w.Denied(); !slices.Equal(got, want) {
			t.Errorf("denied: %q", got)
		}
	})
}
