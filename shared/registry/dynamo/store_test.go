package dynamo_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/awslocal"
	engine "github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/databasetest"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/registry/dynamo"
	"github.com/waybillhq/waybill/shared/registry/registrytest"
	"github.com/waybillhq/waybill/shared/topology"
)

const table = "registry"

var at = time.Date(2026, time.November, 3, 4, 5, 6, 789_000_000, time.UTC)

// database is a local endpoint with an empty table and the AWS SDK in front of it.
type database struct {
	engine   *engine.Service
	endpoint *awslocal.Endpoint
	client   *dynamodb.Client
}

func openDatabase(t testing.TB) *database {
	t.Helper()
	db := databasetest.Open(t, topology.Registry)
	return &database{db.Engine, db.Endpoint, db.Client}
}

func (db *database) store(t testing.TB, opts dynamo.Options) *dynamo.Store {
	t.Helper()
	s, err := dynamo.New(db.client, table, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// retrying gives a store whose SDK repeats calls at once.
func (db *database) retrying(t testing.TB) *dynamo.Store {
	t.Helper()
	options := db.client.Options()
	options.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
	})
	s, err := dynamo.New(dynamodb.New(options), table, dynamo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (db *database) inject(kind registrytest.FaultKind) func() {
	fault := awslocal.Fault{Service: "dynamodb"}
	switch kind {
	case registrytest.Throttled:
		fault.Throttle = true
	case registrytest.Broken:
		fault.Error = &wire.Error{Code: "InternalServerError", Message: "injected", Status: http.StatusInternalServerError}
	case registrytest.AnswerLost:
		fault.WithholdAnswer = true
	}
	return db.endpoint.Faults().Add(fault).Remove
}

// rows gives the keys of all items, "part/row".
func (db *database) rows(t testing.TB) []string {
	t.Helper()
	items, err := db.engine.Items(table)
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, item := range items {
		rows = append(rows, string(item["part"].(engine.String))+"/"+string(item["row"].(engine.String)))
	}
	return rows
}

// damage changes a byte of a stored chunk.
func (db *database) damage(t testing.TB) {
	t.Helper()
	out, err := db.client.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String(table)})
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range out.Items {
		if body, ok := item["body"].(*types.AttributeValueMemberB); ok {
			body.Value[len(body.Value)/2] ^= 1
			if _, err := db.client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(table), Item: item}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestStore(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		db := openDatabase(t)
		return registrytest.Harness{Store: db.store(t, dynamo.Options{}), Damage: func() { db.damage(t) }, Inject: db.inject}
	})
}

func draft(document string) registry.Draft {
	return registry.Draft{Document: []byte(document), By: "anna", At: at}
}

func mark() registry.Mark { return registry.Mark{Since: at, Note: "answered 410", By: "deliverer"} }

// A call that the SDK repeats because an answer was lost finds what it has written itself.
func TestOwnWritesAreRecognised(t *testing.T) {
	db := openDatabase(t)
	s := db.retrying(t)
	lose := func(operation string, skip int) *awslocal.Planted {
		return db.endpoint.Faults().Add(awslocal.Fault{Service: "dynamodb", Operation: operation, Skip: skip, Times: 1, WithholdAnswer: true})
	}
	for _, was := range []int64{0, 1} {
		lost := lose("PutItem", 1) // the first puts the chunk
		if v, err := s.Apply(t.Context(), was, draft("document")); err != nil || v.Number != was+1 || lost.Hits() != 1 {
			t.Errorf("apply on %d: %+v, %v, %d answers lost", was, v, err, lost.Hits())
		}
	}
	for name, set := range map[string]func() (bool, error){
		"pause":   func() (bool, error) { return s.Pause(t.Context(), "crm", mark()) },
		"disable": func() (bool, error) { return s.Disable(t.Context(), "crm", mark()) },
	} {
		lost := lose("UpdateItem", 0)
		if first, err := set(); err != nil || !first || lost.Hits() != 1 {
			t.Errorf("%s: %v, %v, %d answers lost", name, first, err, lost.Hits())
		}
		if first, err := set(); err != nil || first {
			t.Errorf("%s again: %v, %v", name, first, err)
		}
	}
}

// TestNobodySeesHalfAVersion fails the apply at every write.
func TestNobodySeesHalfAVersion(t *testing.T) {
	random := strings.Builder{}
	for i := range 150_000 {
		random.WriteString(string(rune(i*7919%50_000 + 33)))
	}
	db := openDatabase(t)
	s := db.store(t, dynamo.Options{})
	first, err := s.Apply(t.Context(), 0, draft("first"))
	if err != nil {
		t.Fatal(err)
	}
	writes := 0
	for ; ; writes++ {
		fault := db.endpoint.Faults().Add(awslocal.Fault{Service: "dynamodb", Operation: "PutItem", Skip: writes, Throttle: true})
		v, err := s.Apply(t.Context(), 1, draft(random.String()))
		fault.Remove()
		now, readErr := s.Current(t.Context())
		if readErr != nil {
			t.Fatal(readErr)
		}
		if err == nil {
			if got, err := s.Document(t.Context(), v); err != nil || string(got) != random.String() {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			break
		}
		if got, err := s.Document(t.Context(), now.Version); now.Version.Token != first.Token || err != nil || string(got) != "first" {
			t.Fatalf("after %d writes: version %d, %q, %v", writes, now.Version.Number, got, err)
		}
	}
	if writes < 2 {
		t.Errorf("the document is stored with %d writes: it does not show anything", writes)
	}
}

func TestOldVersionsLeaveNothing(t *testing.T) {
	db := openDatabase(t)
	var problems []error
	s := db.store(t, dynamo.Options{OnProblem: func(err error) { problems = append(problems, err) }})
	for was := range int64(registry.KeptVersions + 3) {
		// A loser's chunks lie beside the winner's.
		fault := db.endpoint.Faults().Add(awslocal.Fault{Service: "dynamodb", Operation: "PutItem", Skip: 1, Throttle: true})
		if _, err := s.Apply(t.Context(), was, draft("loser")); !errors.Is(err, registry.ErrThrottled) {
			t.Fatal(err)
		}
		fault.Remove()
		// The versions that two applies cannot delete go later.
		if was == registry.KeptVersions || was == registry.KeptVersions+1 {
			fault = db.endpoint.Faults().Add(awslocal.Fault{Service: "dynamodb", Operation: "DeleteItem", Throttle: true})
		}
		if _, err := s.Apply(t.Context(), was, draft("winner")); err != nil {
			t.Fatal(err)
		}
		fault.Remove()
	}
	if len(problems) != 2 || !errors.Is(problems[0], registry.ErrThrottled) {
		t.Errorf("problems %v", problems)
	}
	parts := map[string]int{}
	for _, row := range db.rows(t) {
		parts[strings.SplitN(row, "/", 2)[0]]++
	}
	if len(parts) != registry.KeptVersions+1 || parts["version#3"] != 0 || parts["version#4"] != 2 || parts["live"] != 1 {
		t.Errorf("left %v", parts)
	}
}

func TestStatesLeaveNothing(t *testing.T) {
	db := openDatabase(t)
	s := db.store(t, dynamo.Options{})
	for _, call := range []func() (bool, error){
		func() (bool, error) { return s.Pause(t.Context(), "crm", mark()) },
		func() (bool, error) { return s.Disable(t.Context(), "crm", mark()) },
		func() (bool, error) { return s.Resume(t.Context(), "crm") },
		func() (bool, error) { return s.Enable(t.Context(), "crm") },
	} {
		if did, err := call(); !did || err != nil {
			t.Fatal(did, err)
		}
	}
	if rows := db.rows(t); len(rows) != 0 {
		t.Errorf("left %v", rows)
	}
}

// TestCost holds the figures in the documentation.
func TestCost(t *testing.T) {
	db := openDatabase(t)
	s := db.store(t, dynamo.Options{})
	document := strings.Repeat(`{"id": "a", "tenant": "acme"}`, 1000)
	v, err := s.Apply(t.Context(), 0, draft(document))
	if err != nil {
		t.Fatal(err)
	}
	for was := int64(1); was < registry.KeptVersions+3; was++ {
		if v, err = s.Apply(t.Context(), was, draft(document)); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		call        func() error
		calls       int
		read, write float64
	}{
		"current":  {func() error { _, err := s.Current(t.Context()); return err }, 1, 1, 0},
		"document": {func() error { _, err := s.Document(t.Context(), v); return err }, 1, 1, 0},
		"disable":  {func() error { _, err := s.Disable(t.Context(), "crm", mark()); return err }, 1, 0, 1},
	} {
		before := db.endpoint.Counts()
		if err := test.call(); err != nil {
			t.Fatal(err)
		}
		spent := db.endpoint.Counts().Since(before).Total("dynamodb")
		if spent.Attempted != test.calls || spent.Units.Read != test.read || spent.Units.Write != test.write {
			t.Errorf("%s: %d calls, %v read and %v write units", name, spent.Attempted, spent.Units.Read, spent.Units.Write)
		}
	}
}

func put(t *testing.T, db *database, item map[string]types.AttributeValue) {
	t.Helper()
	if _, err := db.client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(table), Item: item}); err != nil {
		t.Fatal(err)
	}
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// Items that another release or a person has written must not be taken for what they are not.
func TestOddRows(t *testing.T) {
	db := openDatabase(t)
	s := db.store(t, dynamo.Options{})
	put(t, db, map[string]types.AttributeValue{"part": text("live"), "row": text("state#odd"), "paused": text("soon")})
	put(t, db, map[string]types.AttributeValue{"part": text("live"), "row": text("state#empty")})
	put(t, db, map[string]types.AttributeValue{"part": text("live"), "row": text("health#crm"), "paused": &types.AttributeValueMemberN{Value: "5"}})
	if now, err := s.Current(t.Context()); err != nil || len(now.States) != 0 || now.Version.Number != 0 {
		t.Errorf("%+v, %v", now, err)
	}
	put(t, db, map[string]types.AttributeValue{"part": text("live"), "row": text("current"), "number": text("7")})
	if _, err := s.Current(t.Context()); !errors.Is(err, registry.ErrDamaged) {
		t.Errorf("a pointer without a number: %v, want ErrDamaged", err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	db := openDatabase(t)
	for name, test := range map[string]struct {
		table string
		fault *wire.Error
		want  string
	}{
		"no table":  {"elsewhere", nil, "does not exist in this account and region"},
		"no access": {table, &wire.Error{Code: "AccessDeniedException", Message: "no"}, "the role may not do this"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.fault != nil {
				defer db.endpoint.Faults().Add(awslocal.Fault{Error: test.fault}).Remove()
			}
			s, err := dynamo.New(db.client, test.table, dynamo.Options{})
			if err != nil {
				t.Fatal(err)
			}
			_, currentErr := s.Current(t.Context())
			_, applyErr := s.Apply(t.Context(), 0, draft("x"))
			_, disableErr := s.Disable(t.Context(), "crm", mark())
			_, enableErr := s.Enable(t.Context(), "crm")
			for _, err := range []error{currentErr, applyErr, disableErr, enableErr} {
				var detail *dynamo.Error
				if !errors.As(err, &detail) || !strings.Contains(err.Error(), test.want) || !errors.Is(err, registry.ErrUnknown) {
					t.Errorf("error %v", err)
				}
			}
		})
	}
	if _, err := dynamo.New(db.client, "", dynamo.Options{}); err == nil {
		t.Error("an empty table name was accepted")
	}
}

// rival lets someone else apply after the first chunk is written, when the version that was seen has been checked already.
type rival struct {
	*dynamodb.Client
	apply func()
	puts  int
}

// PutItem implements dynamo.Client.
func (r *rival) PutItem(ctx context.Context, in *dynamodb.PutItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	out, err := r.Client.PutItem(ctx, in, opts...)
	if r.puts++; r.puts == 1 {
		r.apply()
	}
	return out, err
}

func TestOnlyTheFasterOneApplies(t *testing.T) {
	db := openDatabase(t)
	fast := db.store(t, dynamo.Options{})
	for was := range int64(3) {
		slow, err := dynamo.New(&rival{Client: db.client, apply: func() {
			if _, err := fast.Apply(t.Context(), was, draft("fast")); err != nil {
				t.Error(err)
			}
		}}, table, dynamo.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := slow.Apply(t.Context(), was, draft("slow")); !errors.Is(err, registry.ErrChanged) || !strings.Contains(err.Error(), `by "anna" is current`) {
			t.Errorf("on %d: %v, want ErrChanged", was, err)
		}
		now, err := fast.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if document, err := fast.Document(t.Context(), now.Version); now.Version.Number != was+1 || string(document) != "fast" || err != nil {
			t.Errorf("version %d, %q, %v", now.Version.Number, document, err)
		}
	}
}

// A sound document in the wrong place is damage too.
func TestAnotherDocumentIsDamage(t *testing.T) {
	db := openDatabase(t)
	s := db.store(t, dynamo.Options{})
	v, err := s.Apply(t.Context(), 0, draft("one document"))
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte("two document")); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	put(t, db, map[string]types.AttributeValue{"part": text("version#1"), "row": text(v.Token + "#0000"), "body": &types.AttributeValueMemberB{Value: packed.Bytes()}})
	if document, err := s.Document(t.Context(), v); !errors.Is(err, registry.ErrDamaged) || document != nil {
		t.Errorf("%q, %v, want ErrDamaged", document, err)
	}
}
