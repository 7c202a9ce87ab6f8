package dynamo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/dynamo"
)

// TestStatementErrors: how one statement of several may fail.
func TestStatementErrors(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]error{
		"ConditionalCheckFailed":          ledger.ErrRefused,
		"ThrottlingError":                 ledger.ErrThrottled,
		"ProvisionedThroughputExceeded":   ledger.ErrThrottled,
		"RequestLimitExceeded":            ledger.ErrThrottled,
		"TransactionConflict":             ledger.ErrThrottled,
		"AccessDenied":                    ledger.ErrUnsupported,
		"ValidationError":                 ledger.ErrUnsupported,
		"InternalServerError":             ledger.ErrUnknown,
		"ItemCollectionSizeLimitExceeded": ledger.ErrUnknown,
		"ResourceNotFound":                ledger.ErrUnknown,
		"SomethingNew":                    ledger.ErrUnknown,
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t)
			store := db.batch(t)
			claims := []ledger.Claim{claimOf(1, 0, 1), claimOf(2, 0, 1), claimOf(3, 0, 1)}
			planted := db.endpoint.Faults().Add(statementFault(id(2), code))
			answers := store.Claim(t.Context(), claims)
			planted.Remove()
			if answers[0].Verdict != ledger.Granted || answers[2].Verdict != ledger.Granted || answers[1].Verdict != "" {
				t.Errorf("verdicts of the claims: %+v", answers)
			}
			wantError(t, answers[1].Err, want, code)

			if a := store.Claim(t.Context(), claims[1:2])[0]; a.Verdict != ledger.Granted {
				t.Fatal(a)
			}
			db.endpoint.Faults().Add(statementFault(id(2), code))
			errs := store.Settle(t.Context(), []ledger.Settlement{settlementOf(claims[0]), settlementOf(claims[1]), settlementOf(claims[2])})
			if errs[0] != nil || errs[2] != nil {
				t.Errorf("settles: %v", errs)
			}
			wantError(t, errs[1], want, code)
		})
	}
}

// TestCallErrors: how a whole call may fail.
func TestCallErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code   string
		status int
		want   error
	}{
		{"ProvisionedThroughputExceededException", 400, ledger.ErrThrottled},
		{"ThrottlingException", 400, ledger.ErrThrottled},
		{"RequestLimitExceeded", 400, ledger.ErrThrottled},
		{"TransactionConflictException", 400, ledger.ErrThrottled},
		{"AccessDeniedException", 400, ledger.ErrUnsupported},
		{"ValidationException", 400, ledger.ErrUnsupported},
		{"UnknownOperationException", 400, ledger.ErrUnsupported},
		{"InternalServerError", 500, ledger.ErrUnknown},
		{"ServiceUnavailable", 503, ledger.ErrUnknown},
		{"ExpiredTokenException", 400, ledger.ErrUnknown},
		{"ResourceNotFoundException", 400, ledger.ErrUnknown},
	} {
		t.Run(test.code, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t)
			db.endpoint.Faults().Add(awslocal.Fault{Error: &wire.Error{Code: test.code, Message: "injected", Status: test.status}})
			for _, store := range db.stores(t) {
				for _, epoch := range []int{0, 1} { // first and later attempts
					for _, err := range errorsOf(t.Context(), store, epoch) {
						wantError(t, err, test.want, test.code)
					}
				}
			}
		})
	}
}

// errorsOf tries everything a store does with one delivery.
func errorsOf(ctx context.Context, store ledger.Store, epoch int) map[string]error {
	c := claimOf(1, epoch, 1)
	s := settlementOf(c)
	return map[string]error{
		"claim":   store.Claim(ctx, []ledger.Claim{c})[0].Err,
		"settle":  store.Settle(ctx, []ledger.Settlement{s})[0],
		"release": store.Release(ctx, []ledger.Release{{Delivery: c.Delivery, Epoch: epoch, Attempt: 1, Owner: c.Owner, Now: now}})[0],
		"record":  store.Record(ctx, []ledger.Settlement{s})[0],
		"read":    store.Read(ctx, []delivery.ID{c.Delivery})[0].Err,
	}
}

func wantError(t *testing.T, err, want error, code string) {
	t.Helper()
	for _, kind := range []error{ledger.ErrRefused, ledger.ErrThrottled, ledger.ErrUnsupported, ledger.ErrUnknown} {
		if errors.Is(err, kind) != errors.Is(want, kind) {
			t.Errorf("%s: got %v, want %v alone", code, err, want)
		}
	}
	var detail *dynamo.Error
	if !errors.As(err, &detail) || detail.Code != code || detail.Table != table || !strings.Contains(err.Error(), string(detail.Delivery)) {
		t.Errorf("%s: the error has not code, table and delivery in it: %v", code, err)
	}
}

func TestMissingTable(t *testing.T) {
	t.Parallel()
	db := openDatabase(t)
	if _, err := db.client.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: aws.String(table)}); err != nil {
		t.Fatal(err)
	}
	for form, store := range db.stores(t) {
		for operation, err := range errorsOf(t.Context(), store, 0) {
			if !errors.Is(err, ledger.ErrUnknown) || errors.Is(err, ledger.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), `table "ledger" does not exist`) {
				t.Errorf("%s, %s: %v", form, operation, err)
			}
		}
	}
}

func TestTableNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", `x" WHERE`, "a\nb"} {
		if _, err := dynamo.NewItem(&scripted{}, name, dynamo.Options{}); err == nil {
			t.Errorf("item form takes the table name %q", name)
		}
		if _, err := dynamo.NewBatch(&scripted{}, name, dynamo.Options{}); err == nil {
			t.Errorf("batch form takes the table name %q", name)
		}
	}
}

// TestContextOver: nothing is known once the caller has stopped waiting.
func TestContextOver(t *testing.T) {
	t.Parallel()
	db := openDatabase(t)
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for form, store := range db.stores(t) {
		for _, ctx := range []context.Context{late, cancelled} {
			for operation, err := range errorsOf(ctx, store, 0) {
				if !errors.Is(err, ledger.ErrUnknown) || !errors.Is(err, ctx.Err()) {
					t.Errorf("%s, %s: got %v, want %v and %v", form, operation, err, ledger.ErrUnknown, ctx.Err())
				}
			}
		}
	}
}

// TestDeadlineAmongRetries: the SDK ran out of time between two tries, and the last answer it saw says nothing about the try before.
func TestDeadlineAmongRetries(t *testing.T) {
	t.Parallel()
	for code, over := range map[string]error{"ThrottlingException": context.DeadlineExceeded, "AccessDeniedException": context.Canceled} {
		client := &scripted{update: func(*dynamodb.UpdateItemInput) (*dynamodb.UpdateItemOutput, error) {
			return nil, errors.Join(&smithy.GenericAPIError{Code: code}, over)
		}}
		a := scriptedStores(t, client)["item"].Claim(t.Context(), []ledger.Claim{claimOf(1, 0, 1)})[0]
		if !errors.Is(a.Err, ledger.ErrUnknown) || errors.Is(a.Err, ledger.ErrThrottled) || errors.Is(a.Err, ledger.ErrUnsupported) {
			t.Errorf("%s, then %v: %v, want %v alone", code, over, a.Err, ledger.ErrUnknown)
		}
	}
}

// TestFewerAnswersThanStatements: what an answer does not mention may have been written.
func TestFewerAnswersThanStatements(t *testing.T) {
	t.Parallel()
	client := &scripted{batch: func(in *dynamodb.BatchExecuteStatementInput) (*dynamodb.BatchExecuteStatementOutput, error) {
		return &dynamodb.BatchExecuteStatementOutput{Responses: make([]types.BatchStatementResponse, len(in.Statements)-1)}, nil
	}}
	store := scriptedStores(t, client)["batch"]
	claims := []ledger.Claim{claimOf(1, 0, 1), claimOf(2, 0, 1)}
	answers := store.Claim(t.Context(), claims)
	if answers[0].Verdict != ledger.Granted || answers[1].Verdict != "" || !errors.Is(answers[1].Err, ledger.ErrUnknown) {
		t.Errorf("claims: %+v", answers)
	}
	errs := store.Settle(t.Context(), []ledger.Settlement{settlementOf(claims[0]), settlementOf(claims[1])})
	if errs[0] != nil || !errors.Is(errs[1], ledger.ErrUnknown) {
		t.Errorf("settles: %v", errs)
	}
}

// TestRefusalThatTheClaimTableDoesNotExplain: an endpoint that returns no old row, or one that would have permitted the write, is asked again,
// but not for ever.
func TestRefusalThatTheClaimTableDoesNotExplain(t *testing.T) {
	t.Parallel()
	for name, old := range map[string]attributes{"no row": nil, "a row that permits it": waybill(1)} {
		for _, succeedAfter := range []int{1, 1000} {
			var tries atomic.Int64
			client := &scripted{update: func(in *dynamodb.UpdateItemInput) (*dynamodb.UpdateItemOutput, error) {
				if in.ReturnValuesOnConditionCheckFailure != types.ReturnValuesOnConditionCheckFailureAllOld {
					t.Error("the old row is not asked for")
				}
				if tries.Add(1) > int64(succeedAfter) {
					return &dynamodb.UpdateItemOutput{}, nil
				}
				return nil, &types.ConditionalCheckFailedException{Item: old}
			}}
			for form, store := range scriptedStores(t, client) {
				tries.Store(0)
				a := store.Claim(t.Context(), []ledger.Claim{claimOf(1, 0, 2)})[0]
				switch {
				case succeedAfter == 1 && (a.Verdict != ledger.Granted || a.Err != nil):
					t.Errorf("%s, %s, then permitted: %+v", form, name, a)
				case succeedAfter > 1 && (a.Verdict != "" || !errors.Is(a.Err, ledger.ErrUnknown) || errors.Is(a.Err, ledger.ErrRefused) || tries.Load() > 10):
					t.Errorf("%s, %s, never permitted: %+v after %d tries", form, name, a, tries.Load())
				}
			}
		}
	}
}

// TestUnprocessedKeys has a database that answers few keys at a time, or none.
func TestUnprocessedKeys(t *testing.T) {
	t.Parallel()
	ids := make([]delivery.ID, 150)
	for i := range ids {
		ids[i] = id(i)
	}
	for _, perCall := range []int{1, 7, 40, 0} {
		t.Run(fmt.Sprint(perCall), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := &scripted{get: func(in *dynamodb.BatchGetItemInput) (*dynamodb.BatchGetItemOutput, error) {
					asked := in.RequestItems[table]
					if len(asked.Keys) > 100 || !aws.ToBool(asked.ConsistentRead) {
						t.Errorf("%d keys in a call, consistent: %v", len(asked.Keys), aws.ToBool(asked.ConsistentRead))
					}
					n := min(perCall, len(asked.Keys))
					out := &dynamodb.BatchGetItemOutput{Responses: map[string][]attributes{}}
					for _, k := range asked.Keys[:n] {
						row := waybill(0)
						row["delivery"] = k["delivery"]
						out.Responses[table] = append(out.Responses[table], row)
					}
					if n < len(asked.Keys) {
						out.UnprocessedKeys = map[string]types.KeysAndAttributes{table: {Keys: asked.Keys[n:], ConsistentRead: asked.ConsistentRead}}
					}
					return out, nil
				}}
				for form, store := range scriptedStores(t, client) {
					for i, r := range store.Read(t.Context(), ids) {
						switch {
						case perCall == 0:
							if !errors.Is(r.Err, ledger.ErrThrottled) || r.Item != nil {
								t.Fatalf("%s, reading %d: %v, %v, want %v", form, i, r.Item, r.Err, ledger.ErrThrottled)
							}
						case r.Err != nil || r.Item == nil || r.Item.Delivery != ids[i]:
							t.Fatalf("%s, reading %d: %v, %v", form, i, r.Item, r.Err)
						}
					}
					if perCall > 0 {
						continue
					}
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
					if r := store.Read(ctx, ids[:1])[0]; !errors.Is(r.Err, ledger.ErrUnknown) || !errors.Is(r.Err, context.DeadlineExceeded) {
						t.Errorf("%s, context over between two calls: %v", form, r.Err)
					}
					cancel()
				}
			})
		})
	}
}

// TestCallsAtOnce: a large batch does not open more connections than it may.
func TestCallsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var under, most atomic.Int64
		enter := func() {
			most.Store(max(most.Load(), under.Add(1)))
			time.Sleep(time.Second)
			under.Add(-1)
		}
		client := &scripted{
			update: func(*dynamodb.UpdateItemInput) (*dynamodb.UpdateItemOutput, error) {
				enter()
				return &dynamodb.UpdateItemOutput{}, nil
			},
			batch: func(in *dynamodb.BatchExecuteStatementInput) (*dynamodb.BatchExecuteStatementOutput, error) {
				enter()
				if len(in.Statements) > 25 {
					t.Errorf("%d statements in a call", len(in.Statements))
				}
				return &dynamodb.BatchExecuteStatementOutput{Responses: make([]types.BatchStatementResponse, len(in.Statements))}, nil
			},
		}
		item, _ := dynamo.NewItem(client, table, dynamo.Options{Concurrency: 3})
		batch, _ := dynamo.NewBatch(client, table, dynamo.Options{Concurrency: 3})
		var first, later []ledger.Claim
		for n := range 100 {
			first, later = append(first, claimOf(n, 0, 1)), append(later, claimOf(n, 1, 1))
		}
		for _, test := range []struct {
			name   string
			store  ledger.Store
			claims []ledger.Claim
			took   time.Duration
		}{
			{"item", item, first, 34 * time.Second}, {"batch of first attempts", batch, first, 2 * time.Second}, {"batch of later attempts", batch, later, 34 * time.Second},
		} {
			most.Store(0)
			start := time.Now()
			test.store.Claim(t.Context(), test.claims)
			if took := time.Since(start); most.Load() != 3 || took != test.took {
				t.Errorf("%s: %d calls at once, %v; want 3 and %v", test.name, most.Load(), took, test.took)
			}
		}
	})
}

// TestRepeatedKeysNeverShareACall: DynamoDB refuses a batch that names a row twice.
func TestRepeatedKeysNeverShareACall(t *testing.T) {
	t.Parallel()
	var calls [][]delivery.ID
	client := &scripted{
		batch: func(in *dynamodb.BatchExecuteStatementInput) (*dynamodb.BatchExecuteStatementOutput, error) {
			var ids []delivery.ID
			for _, s := range in.Statements {
				ids = append(ids, delivery.ID(s.Parameters[5].(*types.AttributeValueMemberS).Value))
			}
			calls = append(calls, ids)
			return &dynamodb.BatchExecuteStatementOutput{Responses: make([]types.BatchStatementResponse, len(in.Statements))}, nil
		},
	}
	store, err := dynamo.NewBatch(client, table, dynamo.Options{Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	var settlements []ledger.Settlement
	for _, n := range []int{1, 2, 1, 3, 1, 2} {
		settlements = append(settlements, settlementOf(claimOf(n, 0, 1)))
	}
	store.Settle(t.Context(), settlements)
	want := [][]delivery.ID{{id(1), id(2), id(3)}, {id(1), id(2)}, {id(1)}}
	if !reflect.DeepEqual(calls, want) {
		t.Errorf("calls %v, want %v", calls, want)
	}
}

// TestSDKRetriesAreHarmless lets the SDK's own retryer repeat a claim and a settle whose answers were lost.
func TestSDKRetriesAreHarmless(t *testing.T) {
	t.Parallel()
	db := openDatabase(t)
	client := dynamodb.New(db.client.Options(), func(o *dynamodb.Options) {
		o.HTTPClient = &retryOnce{next: o.HTTPClient}
	})
	n := 0
	for form, store := range scriptedStores(t, client) {
		for _, attempt := range []int{1, 2} {
			n++
			c := claimOf(n, 0, attempt)
			db.endpoint.Faults().Add(awslocal.Fault{WithholdAnswer: true, Times: 1})
			if a := store.Claim(t.Context(), []ledger.Claim{c})[0]; a.Verdict != ledger.Granted {
				t.Errorf("%s: claim: %+v", form, a)
			}
			db.endpoint.Faults().Add(awslocal.Fault{WithholdAnswer: true, Times: 1})
			if err := store.Settle(t.Context(), []ledger.Settlement{settlementOf(c)})[0]; err != nil {
				t.Errorf("%s: settle: %v", form, err)
			}
		}
	}
}

// retryOnce repeats a request that got no answer, as the SDK's retryer does, without its pauses.
type retryOnce struct{ next dynamodb.HTTPClient }

func (r *retryOnce) Do(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	var response *http.Response
	for range 2 {
		request.Body = io.NopCloser(bytes.NewReader(body))
		if response, err = r.next.Do(request); err == nil {
			break
		}
	}
	return response, err
}
