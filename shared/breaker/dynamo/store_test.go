package dynamo_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/breaker/breakertest"
	"github.com/waybillhq/waybill/shared/breaker/dynamo"
	"github.com/waybillhq/waybill/shared/databasetest"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/topology"
)

const table = "registry"

var at = time.UnixMilli(time.Date(2026, time.November, 3, 4, 5, 6, 789_000_000, time.UTC).UnixMilli())

// database is a local endpoint with an empty table and the AWS SDK in front of it.
type database struct {
	endpoint *awslocal.Endpoint
	client   *dynamodb.Client
}

// openDatabase makes a database whose client repeats calls at once, as often as the SDK does by default.
func openDatabase(t testing.TB) *database {
	t.Helper()
	db := databasetest.Open(t, topology.Registry, func(o *dynamodb.Options) {
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
			o.RateLimiter = unlimited{}
		})
	})
	return &database{db.Endpoint, db.Client}
}

// unlimited lets the SDK repeat calls for as long as a test makes them fail.
type unlimited struct{}

func (unlimited) GetToken(ctx context.Context, _ uint) (func() error, error) {
	return func() error { return nil }, ctx.Err()
}
func (unlimited) AddTokens(uint) error { return nil }

func (db *database) store(t testing.TB) *dynamo.Store {
	t.Helper()
	s, err := dynamo.New(db.client, table)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (db *database) inject(kind breakertest.FaultKind) func() {
	fault := awslocal.Fault{Service: "dynamodb"}
	switch kind {
	case breakertest.Throttled:
		fault.Throttle = true
	case breakertest.Broken:
		fault.Error = &wire.Error{Code: "InternalServerError", Message: "injected", Status: http.StatusInternalServerError}
	case breakertest.AnswerLost:
		fault.WithholdAnswer = true
	}
	return db.endpoint.Faults().Add(fault).Remove
}

func TestStore(t *testing.T) {
	breakertest.Run(t, func(t *testing.T) breakertest.Harness {
		db := openDatabase(t)
		return breakertest.Harness{Store: db.store(t), Inject: db.inject}
	})
}

// A move that the SDK repeats because an answer was lost is recognised; an addition is not repeated, because it would count twice.
func TestLostAnswers(t *testing.T) {
	db := openDatabase(t)
	s := db.store(t)
	lose := func() *awslocal.Planted {
		return db.endpoint.Faults().Add(awslocal.Fault{Service: "dynamodb", Operation: "UpdateItem", Times: 1, WithholdAnswer: true})
	}
	lost := lose()
	next := breaker.Row{Turn: 1, Phase: breaker.Probing, Probe: "d", Until: at, At: at}
	if got, err := s.Move(t.Context(), "crm", breaker.Row{}, next); !errors.Is(err, breaker.ErrRefused) || !got.Same(next) || lost.Hits() != 1 {
		t.Errorf("move: %+v, %v, %d answers lost", got, err, lost.Hits())
	}
	lost = lose()
	before := db.endpoint.Counts()
	_, err := s.Add(t.Context(), "erp", breaker.Delta{Streak: 1, At: at})
	calls := db.endpoint.Counts().Since(before).Total("dynamodb").Attempted
	if row, getErr := s.Get(t.Context(), "erp"); !errors.Is(err, breaker.ErrUnknown) || row.Streak != 1 || getErr != nil || calls != 1 || lost.Hits() != 1 {
		t.Errorf("add: %v; %+v after %d calls, %v", err, row, calls, getErr)
	}
}

// Each write of a row puts its end off, beyond what anything in it can count: the longest that a destination may ask to be left alone for, with room.
func TestRowsEnd(t *testing.T) {
	db := openDatabase(t)
	s := db.store(t)
	end := func() time.Time {
		t.Helper()
		out, err := db.client.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String(table), Key: map[string]types.AttributeValue{
			"part": &types.AttributeValueMemberS{Value: "health"}, "row": &types.AttributeValueMemberS{Value: "crm"},
		}})
		if err != nil {
			t.Fatal(err)
		}
		seconds, is := out.Item["expiresAt"].(*types.AttributeValueMemberN)
		if !is {
			t.Fatalf("the row never ends: %v", out.Item)
		}
		n, err := strconv.ParseInt(seconds.Value, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return time.Unix(n, 0)
	}
	now, was, before := at, breaker.Row{}, at
	for name, write := range map[string]func() (breaker.Row, error){
		"add": func() (breaker.Row, error) {
			return s.Add(t.Context(), "crm", breaker.Delta{Turn: was.Turn, Streak: 1, ThrottledAt: now, ThrottledUntil: now.Add(breaker.LongestThrottle), At: now})
		},
		"move": func() (breaker.Row, error) {
			return s.Move(t.Context(), "crm", was, breaker.Row{Turn: was.Turn + 1, Phase: breaker.Open, Until: now.Add(time.Hour), At: now})
		},
	} {
		var err error
		if was, err = write(); err != nil {
			t.Fatal(err)
		}
		if got := end(); got.Sub(now) < 7*breaker.LongestThrottle || !got.After(before) {
			t.Errorf("after %s the row ends in %v", name, got.Sub(now))
		}
		before = end()
		now = now.Add(48 * time.Hour)
	}
	// A row that DynamoDB has deleted is that of a destination of which nobody knows anything bad.
	if _, err := db.client.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String(table), Key: map[string]types.AttributeValue{
		"part": &types.AttributeValueMemberS{Value: "health"}, "row": &types.AttributeValueMemberS{Value: "crm"},
	}}); err != nil {
		t.Fatal(err)
	}
	if row, err := s.Add(t.Context(), "crm", breaker.Delta{Streak: 1, At: now}); err != nil || row.Streak != 1 || row.Phase != breaker.Closed {
		t.Errorf("after its end: %+v, %v", row, err)
	}
}

// TestBreaker takes a destination through all its phases over the real wire protocol.
func TestBreaker(t *testing.T) {
	db := openDatabase(t)
	now := at
	environment := func() *breaker.Breaker {
		b, err := breaker.New(breaker.Config{Store: db.store(t), Now: func() time.Time { return now }, OnProblem: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one, two := environment(), environment()
	batch := func(b *breaker.Breaker, v downstream.Verdict, after time.Duration) breaker.Report {
		t.Helper()
		in := b.Begin()
		for _, id := range []delivery.ID{"a", "b", "c", "d"} {
			in.Record("crm", in.Gate(t.Context(), "crm", id), v, after)
		}
		report, err := in.End(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	writes := func() float64 { return db.endpoint.Counts().Total("dynamodb").Units.Write }
	for range 60 {
		batch(one, downstream.Delivered, 0)
		now = now.Add(time.Second)
	}
	if got := writes(); got != 0 {
		t.Errorf("a healthy destination has cost %v write units", got)
	}
	batch(one, downstream.Throttle, 10*time.Second)
	if r := batch(one, downstream.Delivered, 0); r.Throttled != 4 {
		t.Errorf("throttled: %+v", r)
	}
	now = now.Add(10 * time.Second)
	failed := 0
	for r := (breaker.Report{}); r.Opened == 0 && failed < 20; failed++ {
		r = batch(one, downstream.Retry, 0)
		batch(two, downstream.Retry, 0)
		now = now.Add(time.Second)
	}
	if got := writes(); failed > 9 || got > float64(3+2*failed) {
		t.Errorf("open after %d batches and %v write units", failed, got)
	}
	if r := batch(two, downstream.Delivered, 0); r.Held != 4 {
		t.Errorf("open: %+v", r)
	}
	now = now.Add(36 * time.Second)
	if r := batch(two, downstream.Retry, 0); r.Probes != 1 || r.Held != 3 || r.Opened != 1 {
		t.Errorf("probe fails: %+v", r)
	}
	now = now.Add(72 * time.Second)
	if r := batch(one, downstream.Delivered, 0); r.Probes != 1 || r.Held != 3 || r.Recovered != 1 {
		t.Errorf("probe succeeds: %+v", r)
	}
	now = now.Add(5 * time.Second)
	if may, most := two.Permit(t.Context(), "crm"); !may || most != 10 {
		t.Errorf("permit %v, %d", may, most)
	}
	for range 30 {
		batch(two, downstream.Delivered, 0)
		now = now.Add(time.Minute)
	}
	row, err := db.store(t).Get(t.Context(), "crm")
	if bare := (breaker.Row{Turn: row.Turn, At: row.At}); err != nil || !reflect.DeepEqual(row, bare) {
		t.Errorf("after half an hour: %+v, %v", row, err)
	}
}

// wide is the largest row that comes about: every slot that is kept has counts of both kinds.
func wide() breaker.Delta {
	d := breaker.Delta{Slots: map[breaker.Slot]breaker.Count{}, Streak: 100_000, Young: true, SuspectSince: at, ThrottledAt: at, ThrottledUntil: at, At: at}
	for i := range breaker.Slot(20) {
		d.Slots[358_000_000+i] = breaker.Count{Successes: 100_000, Failures: 100_000}
	}
	return d
}

// TestCost holds the figures in the documentation.
func TestCost(t *testing.T) {
	db := openDatabase(t)
	s := db.store(t)
	longest := strings.Repeat("d", 64)
	if _, err := s.Add(t.Context(), longest, wide()); err != nil {
		t.Fatal(err)
	}
	more := wide()
	more.ThrottledAt, more.ThrottledUntil = time.Time{}, time.Time{}
	var row breaker.Row
	for _, test := range []struct {
		name        string
		call        func() error
		read, write float64
	}{
		{"all, none", func() error { _, err := s.All(t.Context()); return err }, 0.5, 0},
		{"get", func() (err error) { row, err = s.Get(t.Context(), longest); return err }, 1, 0},
		{"add", func() (err error) { row, err = s.Add(t.Context(), longest, more); return err }, 0, 1},
		{"move", func() error {
			_, err := s.Move(t.Context(), longest, row, breaker.Row{Turn: 1, Phase: breaker.Open, Until: at, At: at})
			return err
		}, 0, 1},
		{"move refused", func() error {
			if _, err := s.Move(t.Context(), longest, row, row); !errors.Is(err, breaker.ErrRefused) {
				return fmt.Errorf("%w, want ErrRefused", err)
			}
			return nil
		}, 0, 1},
	} {
		before := db.endpoint.Counts()
		if err := test.call(); err != nil {
			t.Fatal(err)
		}
		spent := db.endpoint.Counts().Since(before).Total("dynamodb")
		if spent.Attempted != 1 || spent.Units.Read != test.read || spent.Units.Write != test.write {
			t.Errorf("%s: %d calls, %v read and %v write units", test.name, spent.Attempted, spent.Units.Read, spent.Units.Write)
		}
	}
}

// Rows that another release or a person has written must not be taken for what they are not, and must not stand in the way.
func TestOddRows(t *testing.T) {
	db := openDatabase(t)
	s := db.store(t)
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	put := func(part, row string, item map[string]types.AttributeValue) {
		item["part"], item["row"] = text(part), text(row)
		if _, err := db.client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(table), Item: item}); err != nil {
			t.Fatal(err)
		}
	}
	put("live", "crm", map[string]types.AttributeValue{"turn": &types.AttributeValueMemberN{Value: "5"}})
	put("health", "odd", map[string]types.AttributeValue{"phase": text("half-open"), "until": text("soon"), "s#": text("1"), "f#x": text("1"), "s#9223372036854775808": text("1")})
	put("health", "empty", map[string]types.AttributeValue{})
	all, err := s.All(t.Context())
	if err != nil || !reflect.DeepEqual(all, map[string]breaker.Row{"odd": {}, "empty": {}}) {
		t.Errorf("%+v, %v", all, err)
	}
	for _, id := range []string{"odd", "empty"} {
		next := breaker.Row{Turn: 1, Phase: breaker.Open, Until: at, At: at}
		if got, err := s.Move(t.Context(), id, all[id], next); err != nil || !got.Same(next) {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
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
			s, err := dynamo.New(db.client, test.table)
			if err != nil {
				t.Fatal(err)
			}
			_, allErr := s.All(t.Context())
			_, getErr := s.Get(t.Context(), "crm")
			_, addErr := s.Add(t.Context(), "crm", breaker.Delta{Streak: 1, At: at})
			_, moveErr := s.Move(t.Context(), "crm", breaker.Row{}, breaker.Row{Turn: 1, At: at})
			for _, err := range []error{allErr, getErr, addErr, moveErr} {
				var detail *dynamo.Error
				if !errors.As(err, &detail) || !strings.Contains(err.Error(), test.want) || !errors.Is(err, breaker.ErrUnknown) {
					t.Errorf("error %v", err)
				}
			}
		})
	}
	if _, err := dynamo.New(db.client, ""); err == nil {
		t.Error("an empty table name was accepted")
	}
}
