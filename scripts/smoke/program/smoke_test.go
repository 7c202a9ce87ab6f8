package program_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/scripts/smoke/program"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/topology"
)

// TestAllIsWell: a healthy stack passes every check, and nothing is left behind.
func TestAllIsWell(t *testing.T) {
	inWorld(t, deployed{}, func(w *world) {
		v := w.smoke(w.t.Context(), "-stage", "dev")
		if v.status != 0 || v.sum.Failed > 0 || v.sum.Skipped != 1 || v.of("version slowlane").Verdict != "skipped" || v.sum.OK != len(v.all)-1 || v.sum.OK < 35 {
			w.t.Errorf("status %d, %+v, %v\n%s", v.status, v.sum, v.all, v.errs)
		}
		w.untouched()
	})
}

// refusal is an answer of AWS.
func refusal(code string) *wire.Error { return wire.Errorf(code, "no") }

// contains is for faults of calls whose body has a text.
func contains(texts ...string) func([]byte) bool {
	return func(body []byte) bool {
		return !slices.ContainsFunc(texts, func(text string) bool { return !bytes.Contains(body, []byte(text)) })
	}
}

// replace is for faults that change a body.
func replace(old, with string) func([]byte) []byte {
	return func(body []byte) []byte { return bytes.ReplaceAll(body, []byte(old), []byte(with)) }
}

// TestEveryCheckFails: what is broken is found by the check that is about it, which says what it saw.
func TestEveryCheckFails(t *testing.T) {
	router := "waybill-dev-router-AB12"
	for name, tt := range map[string]struct {
		part, check, seen string
		spoil             func(w *world)
		verdict           string // default failed
		args              []string
	}{
		"an alarm is raised":  {part: "settings", check: "alarms", seen: "raised: waybill-dev-depth", spoil: func(w *world) { w.alarms["waybill-dev-depth"] = "ALARM" }},
		"an alarm is gone":    {part: "settings", check: "alarms", seen: "gone: waybill-dev-page-depth", spoil: func(w *world) { delete(w.alarms, "waybill-dev-page-depth") }},
		"a page calls nobody": {part: "settings", check: "alarms", seen: "call nobody: waybill-dev-page-depth", spoil: func(w *world) { w.unarmed = true }},
		"no alarm though there is a topic": {part: "settings", check: "alarms", seen: "none", spoil: func(w *world) {
			w.resources = [][2]string{{"AWS::SQS::Queue", "a"}, {"AWS::SQS::Queue", "b"}}
		}},
		"no alarms wanted": {part: "settings", check: "alarms", verdict: "skipped", seen: "name nobody", spoil: func(w *world) {
			w.resources = [][2]string{{"AWS::SQS::Queue", "a"}, {"AWS::SQS::Queue", "b"}}
			delete(w.outputs, "AlarmTopicArn")
		}},
		"a queue is not encrypted":   {part: "settings", check: "queue ingress", seen: "not encrypted", spoil: func(w *world) { w.set(topology.Ingress, "SqsManagedSseEnabled", "false") }},
		"a queue takes plain HTTP":   {part: "settings", check: "queue deliveries", seen: "TLS", spoil: func(w *world) { w.set(topology.Deliveries, "Policy", "{}") }},
		"letters are kept too short": {part: "settings", check: "queue deliveries-dlq", seen: "retention is 345600 s", spoil: func(w *world) { w.set(topology.DeliveriesDeadLetter, "MessageRetentionPeriod", "345600") }},
		"poison goes after 3 receives": {part: "settings", check: "queue ingress", seen: "after 3 receives", spoil: func(w *world) {
			w.set(topology.Ingress, "RedrivePolicy", `{"deadLetterTargetArn":"`+w.queue(topology.IngressDeadLetter).ARN()+`","maxReceiveCount":3}`)
		}},
		"poison goes elsewhere": {part: "settings", check: "queue ingress", seen: "poison goes to", spoil: func(w *world) {
			w.set(topology.Ingress, "RedrivePolicy", `{"deadLetterTargetArn":"`+w.queue(topology.DeliveriesDeadLetter).ARN()+`","maxReceiveCount":10}`)
		}},
		"messages are visible too soon": {part: "settings", check: "queue deliveries", seen: "visibility timeout is 30 s", spoil: func(w *world) { w.set(topology.Deliveries, "VisibilityTimeout", "30") }},
		"no recovery":                   {part: "settings", check: "table registry", seen: "recovery is off", spoil: func(w *world) { w.recovery(topology.Registry, false) }},
		"rows do not expire": {part: "settings", check: "table ledger", seen: "TTL is DISABLED", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "DescribeTimeToLive", Match: contains(`"ledger"`), RewriteResponse: func([]byte) []byte {
				return []byte(`{"TimeToLiveDescription":{"TimeToLiveStatus":"DISABLED"}}`)
			}})
		}},
		"deliveries expire": {part: "settings", check: "table waiting", seen: "rows are deleted by", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "DescribeTimeToLive", Match: contains(`"waiting"`), RewriteResponse: func([]byte) []byte {
				return []byte(`{"TimeToLiveDescription":{"TimeToLiveStatus":"ENABLED","AttributeName":"due"}}`)
			}})
		}},
		"a table is being made": {part: "settings", check: "table ledger", seen: "UPDATING", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "DescribeTable", From: own, RewriteResponse: replace(`"ACTIVE"`, `"UPDATING"`)})
		}},
		"nothing may be asked": {part: "settings", check: "table ledger", seen: "AccessDeniedException", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "DescribeTable", From: own, Error: refusal("AccessDeniedException")})
		}},
		"a mapping invokes the function": {part: "settings", check: "mapping router", seen: "not the alias", spoil: func(w *world) {
			m := w.mappings[w.queue(topology.Ingress).ARN()][0]
			m["FunctionArn"] = strings.TrimSuffix(m["FunctionArn"].(string), ":live")
		}},
		"a mapping is off": {part: "settings", check: "mapping deliverer", seen: "state is Disabled", spoil: func(w *world) {
			w.mappings[w.queue(topology.Deliveries).ARN()][0]["State"] = "Disabled"
		}},
		"a mapping knows no single failures": {part: "settings", check: "mapping deliverer", seen: "single failures", spoil: func(w *world) {
			w.mappings[w.queue(topology.Deliveries).ARN()][0]["FunctionResponseTypes"] = []string{}
		}},
		"no mapping": {part: "settings", check: "mapping router", seen: "0", spoil: func(w *world) { clear(w.mappings) }},

		"EventBridge matches what we do not": {part: "patterns", check: "patterns", seen: `{"data": {"three-hundred": [300.0]}}: does not fit, EventBridge says fits`, spoil: func(w *world) {
			w.bridge = func(fits bool, err error) (bool, error) { return true, err }
		}},
		"EventBridge permits what we do not": {part: "patterns", check: "patterns", seen: "refused, EventBridge says", spoil: func(w *world) {
			w.bridge = func(fits bool, _ error) (bool, error) { return fits, nil }
		}},
		"EventBridge refuses what we permit": {part: "patterns", check: "patterns", seen: "fits, EventBridge says refused", spoil: func(w *world) {
			w.bridge = func(bool, error) (bool, error) { return false, errors.New("no") }
		}},

		"claims are refused": {part: "ledger", check: "ledger claims", seen: "AccessDenied", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "UpdateItem", From: own, Error: refusal("AccessDeniedException")})
		}},
		"another code for a row that exists": {part: "ledger", check: "ledger duplicate-item", seen: "done, ConditionalCheckFailed", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "BatchExecuteStatement", From: own, Match: contains("#duplicate-item"), RewriteResponse: replace("DuplicateItem", "ConditionalCheckFailed")})
		}},
		"INSERT overwrites": {part: "ledger", check: "ledger duplicate-item", seen: `the row is of \"two\"`, spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "GetItem", From: own, Match: contains("#duplicate-item"), RewriteResponse: replace(`"one"`, `"two"`)})
		}},
		"one key twice is taken": {part: "ledger", check: "ledger one-key-twice", seen: "done, done", spoil: func(w *world) {
			n := 0
			w.plant(awslocal.Fault{Operation: "BatchExecuteStatement", From: own, Match: contains("#one-key-twice"), RewriteRequest: func(body []byte) []byte {
				n++
				return bytes.Replace(body, []byte("#one-key-twice"), []byte("#claims"), 1) // another row, so that it is taken
			}, RewriteResponse: func([]byte) []byte { return []byte(`{"Responses":[{},{}]}`) }})
		}},
		"one key twice fails otherwise": {part: "ledger", check: "ledger one-key-twice", seen: "TransactionConflict", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "BatchExecuteStatement", From: own, Match: contains("#one-key-twice"), Error: refusal("TransactionConflictException")})
		}},
		"conditions are not heeded": {part: "ledger", check: "ledger conditions", seen: "done, ConditionalCheckFailed, done", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "BatchExecuteStatement", From: own, Match: contains("#conditions", `"two"`), RewriteRequest: replace(`"two"`, `"one"`)})
		}},
		"UPDATE is refused": {part: "ledger", check: "ledger conditions", seen: "ValidationError", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "BatchExecuteStatement", From: own, Match: contains("#conditions"), RewriteResponse: replace("ConditionalCheckFailed", "ValidationError")})
		}},
		"an expired row is not there": {part: "ledger", check: "ledger expired-row", seen: "done", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "BatchExecuteStatement", From: own, Match: contains("#expired-row", `"two"`), RewriteRequest: replace("#expired-row", "#claims-2"),
				RewriteResponse: func([]byte) []byte { return []byte(`{"Responses":[{}]}`) }})
		}},
		"rows cannot be deleted": {part: "ledger", check: "ledger cleaning", seen: "AccessDenied", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "DeleteItem", From: own, Error: refusal("AccessDeniedException")})
		}},

		"the registry cannot be read": {part: "events", check: "destinations", seen: "AccessDenied", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "Query", From: own, Error: refusal("AccessDeniedException")})
		}},
		"a destinations file is deployed": {part: "events", check: "destinations", verdict: "skipped", seen: "destinations file", spoil: func(w *world) {
			w.variables["WAYBILL_DESTINATIONS_FILE"] = "/var/task/destinations.json"
		}},
		"the tenant is pinned": {part: "events", check: "destinations", verdict: "skipped", seen: "acme", spoil: func(w *world) { w.variables["WAYBILL_TENANT"] = "acme" }},
		"the router does not run": {part: "events", check: "envelope raw", seen: "no waybill", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "SendMessageBatch", From: others, Match: contains("/deliveries\""), Error: refusal("AccessDenied")})
		}},
		"one envelope is not understood": {part: "events", check: "envelope eventbridge", seen: "no waybill", spoil: func(w *world) {
			time.AfterFunc(time.Second, func() { // the router does not route what it does not understand; nor what nobody wants
				w.apply(func(now string) string {
					return strings.Replace(now, `"retry":{"schedule":["1s"]}`, `"retry":{"schedule":["1s"]},"pattern":{"account":[{"exists":false}]}`, 1)
				})
			})
		}},
		"loopback addresses are let pass": {part: "events", check: "envelope raw", seen: "connection-refused", spoil: func(w *world) { w.open = true }},
		"an event is delivered twice": {part: "events", check: "duplicate event", seen: "written again", spoil: func(w *world) {
			forget := func(awslocal.Call) { w.forget("-twice") }
			w.plant(awslocal.Fault{Operation: "SendMessage", From: own, Match: contains("-twice"), Skip: 1, Times: 1, Before: forget})
		}},
		"a refused event vanishes": {part: "events", check: "refused event", seen: "nothing of our tenant", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "ReceiveMessage", From: own, Match: contains("/ingress-dlq"), RewriteResponse: func([]byte) []byte { return []byte(`{}`) }})
		}},
		"a refused event has no reason": {part: "events", check: "refused event", seen: "received too often", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "ReceiveMessage", From: own, Match: contains("/ingress-dlq"), RewriteResponse: replace(`"waybill":{`, `"other":{`)})
		}},
		"a letter is missing": {part: "events", check: "dead letters", seen: "35 with the reason", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "GetQueueAttributes", From: own, Match: contains("/ingress-dlq"), Skip: 1, Times: 1, Before: func(awslocal.Call) { w.steal() }})
		}},
		"letters have another reason": {part: "events", check: "dead letters", seen: "with the reason what", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "ReceiveMessage", From: own, Match: contains("/deliveries-dlq"), RewriteResponse: replace("blocked-address", "what")})
		}},
		"what is moved back is not tried": {part: "events", check: "redrive", seen: "epoch 0", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "SendMessageBatch", From: own, RewriteRequest: replace("/deliveries\"", "/ingress-dlq\"")})
		}},
		"SQS may not move": {part: "events", check: "native redrive", seen: "AccessDenied", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "StartMessageMoveTask", From: own, Error: refusal("AccessDeniedException")})
		}},
		"SQS moves elsewhere": {part: "events", check: "native redrive", seen: "epoch 1", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "StartMessageMoveTask", From: own, RewriteRequest: replace(`:deliveries"`, `:ingress-dlq"`)})
		}},
		"letters of others lie there": {part: "events", check: "native redrive", verdict: "skipped", seen: "1 other messages", spoil: func(w *world) { w.send(topology.DeliveriesDeadLetter, "of others") }},
		"destinations stay": {part: "events", check: "cleaning", seen: "AccessDenied", spoil: func(w *world) {
			w.plant(awslocal.Fault{Operation: "UpdateItem", From: own, Match: contains(`"registry"`), Skip: 1, Error: refusal("AccessDeniedException")})
			w.plant(awslocal.Fault{Operation: "PutItem", From: own, Match: contains(`"registry"`), Skip: 2, Error: refusal("AccessDeniedException")})
		}},

		"another version runs": {part: "versions", check: "version router", seen: "version 2 5 times", spoil: func(w *world) { w.executions[router]["2"] = 5 }},
		"only another version": {part: "versions", check: "version router", seen: "version 2 12 times", spoil: func(w *world) { w.executions[router] = map[string]float64{"2": 12} }},
		"a release is under way": {part: "versions", check: "version router", verdict: "skipped", seen: "under way", spoil: func(w *world) {
			w.aliases[router]["RoutingConfig"] = object{"AdditionalVersionWeights": object{"4": 0.1}}
		}},
		"the alias never runs": {part: "versions", check: "version waker", seen: "none within", spoil: func(w *world) { clear(w.executions) }},
		"nothing was sent":     {part: "versions", check: "version router", verdict: "skipped", seen: "nothing that was sent", spoil: func(w *world) { delete(w.executions, router) }},
		"no alias":             {part: "versions", check: "version waker", seen: "ResourceNotFound", spoil: func(w *world) { clear(w.aliases) }},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, deployed{}, func(w *world) {
				tt.spoil(w)
				v := w.smoke(w.t.Context(), append([]string{"-stage", "dev", "-only", tt.part}, tt.args...)...)
				want, status := tt.verdict, 1
				if want == "" {
					want = "failed"
				} else {
					status = 0
				}
				got := v.of(tt.check)
				if got.Verdict != want || !strings.Contains(got.Seen+got.Why, strings.ReplaceAll(tt.seen, `\"`, `"`)) || v.status != status {
					w.t.Errorf("status %d, %+v, all failures: %q", v.status, got, v.failures())
				}
				if want == "failed" && (got.Expected == "" || got.Do == "") {
					w.t.Errorf("it does not say what was expected or what to do: %+v", got)
				}
			})
		})
	}
}

// send puts a message on a queue.
func (w *world) send(name topology.QueueName, body string) {
	w.t.Helper()
	if _, err := awssqs.NewFromConfig(w.AWS()).SendMessage(w.t.Context(), &awssqs.SendMessageInput{QueueUrl: aws.String(w.queue(name).URL()), MessageBody: &body}); err != nil {
		w.t.Fatal(err)
	}
}

// TestProdIsRefused: nothing but dev is touched unasked, also where nobody knows what it is.
func TestProdIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(w *world)
		want  string
	}{
		"prod by output": {func(w *world) { w.outputs["Stage"] = "prod" }, "its stage is prod"},
		"prod by tag":    {func(w *world) { delete(w.outputs, "Stage"); w.tags = map[string]string{"waybill:stage": "prod"} }, "its stage is prod"},
		"unknown":        {func(w *world) { delete(w.outputs, "Stage") }, "counts as prod"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, deployed{}, func(w *world) {
				tt.spoil(w)
				if v := w.smoke(w.t.Context(), "-stage", "dev"); v.status != 2 || !strings.Contains(v.errs, tt.want) || len(v.all) > 0 {
					w.t.Errorf("status %d, %s", v.status, v.errs)
				}
				if !slices.Equal(w.calls, []string{"DescribeStacks", "ListStackResources", "ListStackResources"}) {
					w.t.Errorf("calls: %q", w.calls)
				}
				if v := w.smoke(w.t.Context(), "-stage", "dev", "-prod-too", "-only", "settings"); v.status != 0 {
					w.t.Errorf("status %d, %s", v.status, v.errs)
				}
			})
		})
	}
}

// TestInterrupted: whenever it is interrupted, nothing is left behind.
func TestInterrupted(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 16 * time.Second, 17*time.Second + 50*time.Millisecond, 18 * time.Second, 20 * time.Second, 30 * time.Second, 40 * time.Second, 45 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			inWorld(t, deployed{}, func(w *world) {
				ctx, cancel := context.WithTimeout(w.t.Context(), after)
				defer cancel()
				if v := w.smoke(ctx, "-stage", "dev"); v.status != 1 || v.of("cleaning").Verdict != "ok" || len(v.failures()) > 0 || !strings.Contains(v.errs, "interrupted") {
					w.t.Errorf("status %d, %v %s", v.status, v.all, v.errs)
				}
				time.Sleep(5 * time.Minute)
				w.untouched()
			})
		})
	}
}

// TestInterruptedWhileOnTheWay: what is on its way between the functions when the destinations are removed becomes letters, and those are waited for.
func TestInterruptedWhileOnTheWay(t *testing.T) {
	inWorld(t, deployed{}, func(w *world) {
		w.plant(awslocal.Fault{Operation: "SendMessageBatch", From: others, Match: contains("/deliveries\""), Delay: 10 * time.Second})
		ctx, cancel := context.WithTimeout(w.t.Context(), 19*time.Second)
		defer cancel()
		if v := w.smoke(ctx, "-stage", "dev", "-only", "events"); v.of("cleaning").Verdict != "ok" {
			w.t.Errorf("%v %s", v.all, v.errs)
		}
		time.Sleep(5 * time.Minute)
		w.untouched()
	})
}

// TestOthersWouldReceive: destinations for every tenant would get the events, so none is sent unless that may be.
func TestOthersWouldReceive(t *testing.T) {
	everybodys := strings.Replace(document, `"acme"`, `"*"`, 1)
	inWorld(t, deployed{document: everybodys}, func(w *world) {
		if v := w.smoke(w.t.Context(), "-stage", "dev", "-only", "events"); v.status != 0 || v.of("destinations").Verdict != "skipped" || !strings.Contains(v.of("destinations").Why, "shop") {
			w.t.Errorf("%d %v", v.status, v.all)
		}
		if n := len(w.receiver.Log()); n > 0 {
			w.t.Errorf("%d calls", n)
		}
		if v := w.smoke(w.t.Context(), "-stage", "dev", "-only", "events", "-others-too"); v.status != 0 || v.of("destinations").Verdict != "ok" {
			w.t.Errorf("%d %v", v.status, v.all)
		}
		if n := len(w.receiver.Log()); n == 0 {
			w.t.Error("nothing was sent there")
		}
	})
}

// TestAbandoned: what a killed run has left is taken away by one that begins more than an hour later, and by none before.
func TestAbandoned(t *testing.T) {
	for began, gone := range map[string]bool{"19991231t225900": true, "19991231t231500": false} { // the bubble begins at midnight
		t.Run(began, func(t *testing.T) {
			left := `{"id": "waybill-smoke-` + began + `-abcdef-rejected", "tenant": "waybill-smoke", "type": "webhook", "webhook": {"url": "http://127.0.0.1:1/",
				"secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}},`
			with := strings.Replace(document, `{"id": "shop"`, left+`{"id": "shop"`, 1)
			inWorld(t, deployed{document: with}, func(w *world) {
				if v := w.smoke(w.t.Context(), "-stage", "dev", "-only", "events"); v.status != 0 {
					w.t.Errorf("%d %v", v.status, v.all)
				}
				w.apply(func(now string) string {
					if want := map[bool]string{true: document, false: with}[gone]; now != want {
						w.t.Errorf("in force is\n%s", now)
					}
					return now
				})
			})
		})
	}
}

// TestSomebodyElseApplies: a change between ours is kept.
func TestSomebodyElseApplies(t *testing.T) {
	inWorld(t, deployed{}, func(w *world) {
		changed := strings.Replace(document, "/shop", "/shop2", 1)
		time.AfterFunc(20*time.Second, func() { w.apply(func(now string) string { return strings.Replace(now, "/shop", "/shop2", 1) }) })
		if v := w.smoke(w.t.Context(), "-stage", "dev", "-only", "events"); v.status != 0 {
			w.t.Errorf("%d %v", v.status, v.all)
		}
		w.apply(func(now string) string {
			if now != changed {
				w.t.Errorf("in force is\n%s", now)
			}
			return now
		})
	})
}

// TestReceiver: with a receiver every event is delivered there too, or the check says what it answered. In local mode it may be one without TLS.
func TestReceiver(t *testing.T) {
	for path, want := range map[string]int{"fine": 0, "rejecting": 1} {
		t.Run(path, func(t *testing.T) {
			inWorld(t, deployed{}, func(w *world) {
				v := w.smoke(w.t.Context(), "-endpoint-url", "http://awslocal", "-only", "events", "-receiver", "http://127.0.0.1/"+path,
					"-receiver-secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
				got := v.of("receiver, eventbridge")
				if v.status != want || (got.Verdict == "ok") != (want == 0) || want == 1 && !strings.Contains(got.Seen, "http-400") {
					w.t.Errorf("status %d, %+v %s", v.status, got, v.errs)
				}
				effects := map[string]bool{}
				for _, r := range w.receiver.Log() {
					effects[r.ID] = true
				}
				if len(effects) < 34 {
					w.t.Errorf("%d deliveries", len(effects))
				}
				w.untouched()
			})
		})
	}
}

// TestLocal: without an account everything that needs one is skipped, and says why.
func TestLocal(t *testing.T) {
	inWorld(t, deployed{}, func(w *world) {
		v := w.smoke(w.t.Context(), "-endpoint-url", "http://awslocal")
		skipped := map[string]bool{}
		for _, one := range v.all {
			if one.Verdict == "skipped" {
				skipped[one.Check] = one.Why != ""
			}
		}
		if v.status != 0 || len(w.calls) > 0 || !skipped["alarms"] || !skipped["patterns"] || !skipped["mapping router"] || !skipped["version waker"] || skipped["redrive"] {
			w.t.Errorf("status %d, calls %q, skipped %v, failed %v", v.status, w.calls, slices.Sorted(maps.Keys(skipped)), v.failures())
		}
		w.untouched()
	})
}

// TestRefusedCommandLines: every problem is told at once.
func TestRefusedCommandLines(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"-stage", "live", "x"}, []string{`-stage "live"`, `arguments ["x"]`}},
		{[]string{"-stage", "dev", "-stack", "a"}, []string{"leave one of them out"}},
		{[]string{"-only", "settings,all", "-timeout", "10h", "-wait", "0s"}, []string{`-only "all"`, "-timeout 10h", "-wait 0s"}},
		{[]string{"-receiver", "http://hooks.example.com"}, []string{"no https URL", "belong together"}},
		{[]string{"-endpoint-url", "4566", "-stage", "dev"}, []string{"no http or https URL", "leave -stage and -stack out"}},
	} {
		var out, errs bytes.Buffer
		env := program.Environment{Lookup: func(string) (string, bool) { return "", false }}
		if status := program.Run(t.Context(), tt.args, env, &out, &errs); status != 2 {
			t.Errorf("%q: status %d", tt.args, status)
		}
		for _, want := range tt.want {
			if !strings.Contains(errs.String(), want) {
				t.Errorf("%q: %s does not say %q", tt.args, &errs, want)
			}
		}
	}
}
