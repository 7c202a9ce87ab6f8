package program_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	awssecrets "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	awsssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/waybillhq/waybill/scripts/destinations/program"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/registry"
)

func TestApplyAsksAndApplies(t *testing.T) {
	inAccount(t, func(a *account) {
		one := a.file(to("crm"))
		const first = "nothing has been applied yet\n  + crm  added\n1 to add, 0 to change, 0 to remove; 0 stay as they are\n"
		for _, answer := range []string{"no\n", "y\n", "YES\n", "yes please\n", "", "\n", strings.Repeat("x", 1000)} {
			a.stdin = strings.NewReader(answer)
			r := a.says(1, []string{"Only yes will do", "nothing was applied: the answer was not yes"}, "apply", one)
			if !strings.HasPrefix(r.stdout, first) || a.current().Version.Number != 0 {
				t.Errorf("after %q: %s", answer, r.stdout)
			}
		}
		a.stdin = strings.NewReader("yes\n")
		a.want(0, first+"Apply this? Only yes will do: Applied as version 1. All functions follow within 15s.\n", "", "apply", one)
		now := a.current()
		if now.Version.Number != 1 || now.Version.By != "anna" || !now.Version.AppliedAt.Equal(time.Now()) {
			t.Errorf("%+v", now.Version)
		}
		if file, err := a.store().Document(a.t.Context(), now.Version); err != nil || string(file) != document(to("crm")) {
			t.Errorf("%s, %v", file, err)
		}

		time.Sleep(time.Hour)
		a.env.User = ""
		a.want(0, "in force: version 1, applied 2026-11-22T09:00:00Z by anna\nno differences: 1 destination\nNothing to apply.\n", "", "apply", "-yes", one)
		a.want(0, `in force: version 1, applied 2026-11-22T09:00:00Z by anna
  + billing  added
  - crm      removed
1 to add, 0 to change, 1 to remove; 0 stay as they are
Deliveries that still wait for a removed destination become dead letters, with the reason unknown-destination.
Applied as version 2. All functions follow within 15s.
`, "", "apply", "-yes", a.file(to("billing")))
		if by := a.current().Version.By; by != "unknown" {
			t.Errorf("applied by %q", by)
		}
	})
}

// TestApplyWithoutATerminal: where nobody can be asked, nothing is even called.
func TestApplyWithoutATerminal(t *testing.T) {
	a := &account{t: t, env: unconnected(t, map[string]string{"WAYBILL_TABLE_REGISTRY": "registry"})}
	a.says(2, []string{"standard input is no terminal", "say -yes"}, "apply", "some.json")
	a.says(2, []string{"standard input is no terminal", "say -yes"}, "rollback", "1")
	a.env.Terminal = true
	a.says(2, []string{"comes from standard input", "say -yes"}, "apply", "-")
	inAccount(t, func(a *account) {
		a.env.Terminal, a.stdin = false, strings.NewReader(document(to("crm")))
		a.says(0, []string{"Applied as version 1"}, "apply", "-", "-yes")
	})
}

func TestApplyOfABadFile(t *testing.T) {
	a := &account{t: t, env: unconnected(t, map[string]string{"WAYBILL_TABLE_REGISTRY": "registry"})}
	a.says(1, []string{":1:24: destinations[0].id", "1 problem"}, "apply", "-yes", write(t, document(to("Crm"))))
}

// TestApplyLeavesStatesAlone: a destination that is paused or disabled stays so, whatever is applied.
func TestApplyLeavesStatesAlone(t *testing.T) {
	inAccount(t, func(a *account) {
		a.applied(to("crm"), to("erp"))
		a.do("pause", "crm", "-note", "moving")
		if _, err := a.store().Disable(a.t.Context(), "erp", registry.Mark{Since: time.Now(), By: "deliverer"}); err != nil {
			t.Fatal(err)
		}
		before := a.current().States
		a.applied(to("crm", object{"tenant": "other"}))
		a.applied(to("crm"), to("erp"))
		if after := a.current().States; len(after) != 2 || after["crm"] != before["crm"] || after["erp"] != before["erp"] {
			t.Errorf("%+v, then %+v", before, after)
		}
	})
}

// TestTwoOperatorsApply: two have looked at the same difference; the second to say yes is told to look again.
func TestTwoOperatorsApply(t *testing.T) {
	inAccount(t, func(a *account) {
		a.applied(to("crm"))
		type operator struct {
			say         *io.PipeWriter
			out, errs   bytes.Buffer
			status      int
			destination string
		}
		operators := []*operator{{destination: "anna"}, {destination: "bert"}}
		var running sync.WaitGroup
		for _, o := range operators {
			env, file := a.env, a.file(to("crm"), to(o.destination))
			env.User = o.destination
			env.Stdin, o.say = io.Pipe()
			running.Go(func() { o.status = program.Run(a.t.Context(), []string{"apply", file}, env, &o.out, &o.errs) })
		}
		synctest.Wait() // both have been asked
		for _, o := range operators {
			if _, err := io.WriteString(o.say, "yes\n"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		running.Wait()
		first, second := operators[0], operators[1]
		const told = "nothing was applied: somebody else was faster, and in force is version 2, applied 2026-11-22T09:00:00Z by anna"
		if first.status != 0 || second.status != 1 || !strings.Contains(second.errs.String(), told) ||
			!strings.Contains(second.errs.String(), "diff") {
			t.Errorf("status %d and %d\n%s", first.status, second.status, &second.errs)
		}
		if v := a.current().Version; v.Number != 2 || v.By != "anna" {
			t.Errorf("%+v", v)
		}
	})
}

// TestManyApplyAtOnce: each apply that says it was done is a version, and each that says it was not is none.
func TestManyApplyAtOnce(t *testing.T) {
	inAccount(t, func(a *account) {
		const operators = 8
		var running sync.WaitGroup
		results := make([]result, operators)
		for i := range operators {
			file := a.file(to(fmt.Sprint("crm-", i)))
			running.Go(func() {
				var out, errs bytes.Buffer
				status := program.Run(a.t.Context(), []string{"apply", "-yes", file}, a.env, &out, &errs)
				results[i] = result{status, out.String(), errs.String()}
			})
		}
		running.Wait()
		done := int64(0)
		for _, r := range results {
			switch {
			case r.status == 0:
				done++
			case r.status != 1 || !strings.Contains(r.stderr, "nothing was applied"):
				t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
			}
		}
		if v := a.current().Version.Number; v != done || done == 0 {
			t.Errorf("%d applies say that they were done, and version %d is in force", done, v)
		}
	})
}

// moving picks the call that makes a version the one in force.
func moving(request []byte) bool { return bytes.Contains(request, []byte(`"history"`)) }

// movingOurs spares what bert applies.
func movingOurs(request []byte) bool {
	return moving(request) && !bytes.Contains(request, []byte("bert"))
}

var (
	broken = &wire.Error{Code: "InternalServerError", Message: "injected", Status: http.StatusInternalServerError}
	denied = &wire.Error{Code: "AccessDeniedException", Message: "User: anna is not authorized to perform this", Status: http.StatusBadRequest}
)

// TestLostAnswersOfApply: whatever is lost, what the program says is what the registry holds.
func TestLostAnswersOfApply(t *testing.T) {
	for name, tt := range map[string]struct {
		faults  []awslocal.Fault
		meddle  bool // somebody else applies as soon as ours is in force
		status  int
		says    string
		version int64
	}{
		"one answer is lost": {
			[]awslocal.Fault{{Operation: "PutItem", Match: moving, WithholdAnswer: true, Times: 1}}, false, 0, "Applied as version 2", 2,
		},
		"all answers are lost": {
			[]awslocal.Fault{{Operation: "PutItem", Match: moving, WithholdAnswer: true}}, false, 0, "the registry says that it was applied", 2,
		},
		"one answer is lost, and another one is applied": {
			[]awslocal.Fault{{Operation: "PutItem", Match: moving, WithholdAnswer: true, Times: 1}}, true, 1,
			"applied as version 2, but it is no longer in force: version 3, applied 2026-11-22T09:00:00Z by bert, has replaced it", 3,
		},
		"all answers are lost, and another one is applied": {
			[]awslocal.Fault{{Operation: "PutItem", Match: movingOurs, WithholdAnswer: true}}, true, 1,
			"applied as version 2, but it is no longer in force: version 3, applied 2026-11-22T09:00:00Z by bert, has replaced it", 3,
		},
		"never done": {
			[]awslocal.Fault{{Operation: "PutItem", Match: moving, Error: broken}}, false, 1, "nothing was applied, as the registry says", 1,
		},
		"not allowed": {
			[]awslocal.Fault{{Operation: "PutItem", Match: moving, Error: denied}}, false, 1, "the role may not do this", 1,
		},
		"throttled": {
			[]awslocal.Fault{{Operation: "PutItem", Match: moving, Throttle: true}}, false, 2, "run the same command again", 1,
		},
		"the document cannot be written": {
			[]awslocal.Fault{{Operation: "PutItem", Error: broken}}, false, 2, "nothing was applied", 1,
		},
		"nothing can be looked up either": {
			[]awslocal.Fault{{Operation: "PutItem", Match: moving, WithholdAnswer: true}, {Operation: "GetItem", Skip: 1, Error: broken}}, false, 1, "IS NOT KNOWN", 2,
		},
		"the registry cannot be read": {
			[]awslocal.Fault{{Operation: "Query", Error: broken}}, false, 2, "the registry cannot be read", 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inAccount(t, func(a *account) {
				a.applied(to("crm"))
				for _, f := range tt.faults {
					a.endpoint.Faults().Add(f)
				}
				var meddled atomic.Bool
				a.observe = func(c awslocal.Call) {
					if tt.meddle && c.Operation == "PutItem" && moving(c.Request) && c.Withheld && meddled.CompareAndSwap(false, true) {
						_, err := a.store().Apply(context.Background(), 2, registry.Draft{Document: []byte(document()), By: "bert", At: time.Now()})
						if err != nil {
							t.Error(err)
						}
					}
				}
				began := time.Now()
				a.says(tt.status, []string{tt.says}, "apply", "-yes", a.file(to("crm"), to("erp")))
				if d := time.Since(began); d > time.Minute {
					t.Errorf("a person waited %v for it", d)
				}
				a.endpoint.Faults().Clear()
				if v := a.current().Version.Number; v != tt.version {
					t.Errorf("version %d is in force, want %d", v, tt.version)
				}
			})
		})
	}
}

func TestInterruptedApply(t *testing.T) {
	t.Run("at the question", func(t *testing.T) {
		inAccount(t, func(a *account) {
			stdin, say := io.Pipe()
			defer func() { _ = say.Close() }() // what reads it ends with it
			a.stdin = stdin
			ctx, cancel := context.WithCancel(a.t.Context())
			time.AfterFunc(time.Minute, cancel)
			expect(t, a.doUnder(ctx, "apply", a.file(to("crm"))), 2, "interrupted: nothing was changed")
			if v := a.current().Version.Number; v != 0 {
				t.Errorf("version %d", v)
			}
		})
	})
	t.Run("while it is written", func(t *testing.T) {
		inAccount(t, func(a *account) {
			ctx, cancel := context.WithCancel(a.t.Context())
			a.observe = func(c awslocal.Call) {
				if c.Operation == "PutItem" && moving(c.Request) {
					cancel()
					time.Sleep(time.Second) // the answer comes too late
				}
			}
			expect(t, a.doUnder(ctx, "apply", "-yes", a.file(to("crm"))), 0, "the registry says that it was applied")
			time.Sleep(time.Minute) // until that answer is given
			if v := a.current().Version.Number; v != 1 {
				t.Errorf("version %d", v)
			}
		})
	})
}

// TestApplyOverWhatCannotBeRead: a file of a newer release, or a damaged one, is replaced only on request.
func TestApplyOverWhatCannotBeRead(t *testing.T) {
	inAccount(t, func(a *account) {
		a.put(`{"destinations": [], "invention": 1}`, "eve")
		file := a.file(to("crm"))
		a.says(2, []string{"version 1", "cannot be read by this release", "invention", "-force"}, "apply", "-yes", file)
		a.says(2, []string{"cannot be read by this release"}, "list")
		a.says(2, []string{"cannot be read by this release"}, "ping", "crm")
		a.says(2, []string{"whether crm exists is not known; -force"}, "pause", "crm")
		a.says(0, []string{"crm is paused"}, "pause", "crm", "-force")
		a.says(0, []string{"everything counts as added", "+ crm  added", "Applied as version 2"}, "apply", "-yes", "-force", file)
		a.says(0, []string{"crm", "paused since"}, "list")
	})
}

// TestApplyOverADamagedVersion: what is stored and not what was applied is replaced on request too.
func TestApplyOverADamagedVersion(t *testing.T) {
	for name, deleted := range map[string]bool{"damaged": false, "gone": true} {
		t.Run(name, func(t *testing.T) {
			inAccount(t, func(a *account) {
				a.applied(to("crm"), to("erp"))
				client := awsdynamodb.NewFromConfig(a.config())
				out, err := client.Scan(a.t.Context(), &awsdynamodb.ScanInput{TableName: aws.String("registry")})
				if err != nil {
					t.Fatal(err)
				}
				for _, item := range out.Items {
					body, ok := item["body"].(*types.AttributeValueMemberB)
					switch {
					case !ok:
						continue
					case deleted:
						_, err = client.DeleteItem(a.t.Context(), &awsdynamodb.DeleteItemInput{
							TableName: aws.String("registry"), Key: map[string]types.AttributeValue{"part": item["part"], "row": item["row"]},
						})
					default:
						body.Value[len(body.Value)/2] ^= 1
						_, err = client.PutItem(a.t.Context(), &awsdynamodb.PutItemInput{TableName: aws.String("registry"), Item: item})
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				a.says(2, []string{"version 1", "cannot be read"}, "diff", a.file(to("crm")))
				a.says(2, []string{"-force"}, "apply", "-yes", a.file(to("crm")))
				a.says(0, []string{"Applied as version 2"}, "apply", "-yes", "-force", a.file(to("crm")))
				a.says(0, []string{"no differences"}, "diff", a.file(to("crm")))
			})
		})
	}
}

// TestNoAWS: without a configuration of AWS every command but validate says so, and changes nothing.
func TestNoAWS(t *testing.T) {
	a := &account{t: t, env: unconnected(t, map[string]string{"WAYBILL_TABLE_REGISTRY": "registry"})}
	a.env.AWS = func(context.Context, string) (aws.Config, error) {
		return aws.Config{}, errors.New("no region: set AWS_REGION")
	}
	file := write(t, document(to("crm")))
	for _, args := range [][]string{
		{"diff", file}, {"apply", "-yes", file}, {"list"}, {"pause", "crm"}, {"resume", "crm"}, {"ping", "crm"}, {"history"}, {"rollback", "1", "-yes"},
	} {
		a.want(2, "", "no region: set AWS_REGION\n", args...)
	}
}

// arn makes a secret in the account, in Secrets Manager or, where the name begins with a slash, in SSM.
func (a *account) arn(name, text string) string {
	a.t.Helper()
	if strings.HasPrefix(name, "/") {
		_, err := awsssm.NewFromConfig(a.config()).PutParameter(context.Background(), &awsssm.PutParameterInput{
			Name: &name, Value: &text, Type: ssmtypes.ParameterTypeSecureString, Overwrite: aws.Bool(true),
		})
		if err != nil {
			a.t.Fatal(err)
		}
		return "arn:aws:ssm:" + awslocal.Region + ":" + awslocal.AccountID + ":parameter" + name
	}
	out, err := awssecrets.NewFromConfig(a.config()).CreateSecret(context.Background(), &awssecrets.CreateSecretInput{Name: &name, SecretString: &text})
	if err != nil {
		a.t.Fatal(err)
	}
	return *out.ARN
}

// reads counts how often a secret was read.
func (a *account) reads() (n int64) {
	for op, tally := range a.endpoint.Counts() {
		if op.Name == "GetSecretValue" || op.Name == "GetParameter" {
			n += int64(tally.Attempted)
		}
	}
	return n
}

// stored describes a destination whose keys lie under ARNs.
func stored(id string, arns ...string) object {
	return to(id, object{"webhook.secrets": arns, "webhook.url": "https://crm.example.com/" + hiddenPath})
}

func TestSecretsAreChecked(t *testing.T) {
	const other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
	missing := "arn:aws:secretsmanager:" + awslocal.Region + ":" + awslocal.AccountID + ":secret:gone-AbCdEf"
	for name, tt := range map[string]struct {
		destinations func(a *account) []object
		fault        *awslocal.Fault
		args         []string
		status       int
		says         []string
		calls        int64 // of both services
	}{
		"all there": {destinations: func(a *account) []object {
			one, two := a.arn("one", secret), a.arn("/two", other+" "+secret)
			return []object{stored("crm", one), stored("erp", one, two), to("here")}
		}, says: []string{"Applied as version 1"}, calls: 2},
		"missing and wrong": {destinations: func(a *account) []object {
			bad := a.arn("/bad", "the password is "+headerValue)
			return []object{stored("crm", missing, bad), stored("erp", missing)}
		}, status: 1, says: []string{
			missing + ": the secret does not exist", "named by crm, erp", "parameter/bad: what is stored is no signing secret", "named by crm\n",
			"nothing was applied: 2 secrets cannot sign; mend that, or say -check-secrets=false",
		}, calls: 2},
		"not to be checked": {
			destinations: func(*account) []object { return []object{stored("crm", missing)} }, args: []string{"-check-secrets=false"}, says: []string{"Applied as version 1"},
		},
		"not allowed": {
			destinations: func(*account) []object { return []object{stored("crm", missing)} }, fault: &awslocal.Fault{Service: "secretsmanager", Error: denied},
			says: []string{"warning: not checked: " + missing + ": the secret may not be read", "AccessDenied", "Applied as version 1"}, calls: 1,
		},
		"no answer": {
			destinations: func(*account) []object { return []object{stored("crm", missing)} }, fault: &awslocal.Fault{Service: "secretsmanager", Delay: time.Hour},
			says: []string{"warning: not checked: " + missing + ": the service that keeps the secret gives no answer now", "Applied as version 1"}, calls: -1,
		},
		"too many keys": {destinations: func(a *account) []object {
			keys := func(from byte) string {
				var all []string
				for i := range byte(4) {
					key := make([]byte, registry.MinKeyBytes)
					for j := range key {
						key[j] = 100*from + 10*i + byte(j)
					}
					all = append(all, "whsec_"+base64.StdEncoding.EncodeToString(key))
				}
				return strings.Join(all, " ")
			}
			return []object{stored("crm", a.arn("one", keys(0)), a.arn("two", keys(1)))}
		}, status: 1, says: []string{"crm: the destination has more keys than can sign", "1 secret cannot sign"}, calls: 2},
	} {
		t.Run(name, func(t *testing.T) {
			inAccount(t, func(a *account) {
				file := a.file(tt.destinations(a)...)
				if tt.fault != nil {
					a.endpoint.Faults().Add(*tt.fault)
				}
				a.says(tt.status, tt.says, append([]string{"apply", "-yes", file}, tt.args...)...)
				if n := a.reads(); n != tt.calls && tt.calls >= 0 {
					t.Errorf("%d secrets were read, want %d", n, tt.calls)
				}
				if v := a.current().Version.Number; v != int64(1-tt.status) {
					t.Errorf("version %d is in force", v)
				}
			})
		})
	}
}

// TestOnlyNewSecretsAreChecked: a secret that has gone since does not stop a change that is not about it.
func TestOnlyNewSecretsAreChecked(t *testing.T) {
	inAccount(t, func(a *account) {
		missing := "arn:aws:ssm:" + awslocal.Region + ":" + awslocal.AccountID + ":parameter/gone"
		if r := a.do("apply", "-yes", "-check-secrets=false", a.file(stored("crm", missing))); r.status != 0 {
			t.Fatal(r.stderr)
		}
		a.says(0, []string{"Applied as version 2"}, "apply", "-yes", a.file(stored("crm", missing), to("erp")))
		if n := a.reads(); n != 0 {
			t.Errorf("%d secrets were read", n)
		}
		changed := stored("crm", missing)
		changed["tenant"] = "other"
		a.says(1, []string{missing + ": the secret does not exist"}, "apply", "-yes", a.file(changed))
	})
}

// TestManySecretsAreChecked: none is taken for unreachable because there are many.
func TestManySecretsAreChecked(t *testing.T) {
	inAccount(t, func(a *account) {
		a.endpoint.Faults().Add(awslocal.Fault{Service: "secretsmanager", Delay: time.Second})
		var all []object
		for i := range 40 {
			var arns []string
			for j := range 4 {
				arns = append(arns, fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:gone-%02d-%d-AbCdEf", awslocal.Region, awslocal.AccountID, i, j))
			}
			all = append(all, stored(fmt.Sprintf("crm-%02d", i), arns...))
		}
		r := a.says(1, []string{"160 secrets cannot sign"}, "apply", "-yes", a.file(all...))
		if strings.Contains(r.stderr, "not checked") || a.reads() != 160 {
			t.Errorf("%d reads\n%s", a.reads(), r.stderr)
		}
	})
}

func TestHistoryAndRollback(t *testing.T) {
	inAccount(t, func(a *account) {
		a.want(0, "nothing has been applied yet\n", "", "history")
		a.says(1, []string{"version 1 is not kept"}, "rollback", "1", "-yes")
		a.applied(to("crm"))
		time.Sleep(time.Hour)
		a.env.User = "bert\x1b[2J"
		a.applied(to("erp"))
		a.want(0, `version  applied               by           bytes  sha256
2        2026-11-22T10:00:00Z  bert\x1b[2J  244    c745706db7fa  in force
1        2026-11-22T09:00:00Z  anna         244    ebabe1f30076
`, "", "history")
		a.env.User = "anna"
		a.stdin = strings.NewReader("yes\n")
		a.want(0, `to apply again: version 1, applied 2026-11-22T09:00:00Z by anna
in force: version 2, applied 2026-11-22T10:00:00Z by bert\x1b[2J
  + crm  added
  - erp  removed
1 to add, 0 to change, 1 to remove; 0 stay as they are
Deliveries that still wait for a removed destination become dead letters, with the reason unknown-destination.
Apply this? Only yes will do: Applied as version 3. All functions follow within 15s.
`, "", "rollback", "1")
		if file, err := a.store().Document(a.t.Context(), a.current().Version); err != nil || string(file) != document(to("crm")) {
			t.Errorf("%s, %v", file, err)
		}
		a.says(0, []string{"Nothing to apply"}, "rollback", "1", "-yes")
		a.put(`{"destinations": [], "invention": 1}`, "eve")
		a.says(0, nil, "apply", "-yes", "-force", a.file(to("crm")))
		a.says(1, []string{"version 4:1:22: invention", "version 4: 1 problem"}, "rollback", "4", "-yes")
		for i := range registry.KeptVersions {
			a.applied(to(fmt.Sprint("crm-", i)))
		}
		a.says(1, []string{"version 1 is not kept"}, "rollback", "1", "-yes")
	})
}
