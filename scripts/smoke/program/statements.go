package program

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	ledgerdynamo "github.com/waybillhq/waybill/shared/ledger/dynamo"
	"github.com/waybillhq/waybill/shared/topology"
)

// rowsFor is how long rows stay that a killed run has left: then TTL deletes them.
const rowsFor = 24 * time.Hour

// rows are this run's own rows in the ledger, which look like waybills, so that whoever scans the table can read them.
type rows struct {
	*session
	table string
}

// row is a row as it is written and read here.
type row = map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}
func (r rows) id(name string) string { return r.run + "#" + name }
func (r rows) key(name string) row   { return row{"delivery": text(r.id(name))} }
func textOf(r row, name string) string {
	if v, ok := r[name].(*types.AttributeValueMemberS); ok {
		return v.Value
	}
	return ""
}

// statements tries what the ledger relies on, and what it would rather know, on rows of its own.
func (s *session) statements(ctx context.Context) {
	r := rows{s, s.tables[topology.Ledger]}
	tries := []struct {
		name string
		ask  func(context.Context, string) verdict
	}{
		{"claims", r.claims}, {"duplicate-item", r.duplicateItem}, {"one-key-twice", r.oneKeyTwice}, {"conditions", r.conditions}, {"expired-row", r.expiredRow},
	}
	for _, try := range tries {
		s.tell(ctx, "ledger "+try.name, func(ctx context.Context) verdict { return try.ask(ctx, try.name) })
	}
	clean, cancel := afterwards(ctx)
	defer cancel()
	var errs []error
	left := []string{absentRow}
	for _, try := range tries {
		left = append(left, try.name)
	}
	for _, name := range left {
		_, err := s.tablesAPI.DeleteItem(clean, &dynamodb.DeleteItemInput{TableName: &r.table, Key: r.key(name)})
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		s.tell(clean, "ledger cleaning", func(context.Context) verdict {
			return failed("the rows of this run deleted", err.Error(), "nothing: TTL deletes what begins with "+r.run+" within days, and no delivery has such an id")
		})
	}
}

// cleaningTime bounds what is done after the end, interrupted or not.
const cleaningTime = 5 * time.Minute

// afterwards is a context for cleaning up, which goes on when ctx has ended.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleaningTime)
}

const insertStatement = `INSERT INTO "%s" VALUE {'delivery': ?, 'state': ?, 'epoch': ?, 'attempt': ?, 'owner': ?, 'leaseUntil': ?, 'updatedAt': ?, 'expiresAt': ?}`

// insert is an INSERT of a whole row, as the ledger's batch form makes it.
func (r rows) insert(name, owner string, expires time.Time) types.BatchStatementRequest {
	now := time.Now()
	return types.BatchStatementRequest{
		Statement: aws.String(fmt.Sprintf(insertStatement, r.table)), ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		Parameters: []types.AttributeValue{
			text(r.id(name)), text(string(ledger.Claimed)), number(0), number(1), text(owner), number(0), number(now.UnixMilli()), number(expires.Unix()),
		},
	}
}

// settle is an UPDATE under a condition that the key does not hold, as the ledger's batch form makes it.
func (r rows) settle(name, owner string) types.BatchStatementRequest {
	return types.BatchStatementRequest{
		Statement:                           aws.String(fmt.Sprintf(`UPDATE "%s" SET "state" = ? SET "updatedAt" = ? WHERE "delivery" = ? AND "owner" = ? AND "epoch" = ?`, r.table)),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		Parameters:                          []types.AttributeValue{text(string(ledger.Delivered)), number(time.Now().UnixMilli()), text(r.id(name)), text(owner), number(0)},
	}
}

// execute makes one call and gives an answer for each statement.
func (r rows) execute(ctx context.Context, statements ...types.BatchStatementRequest) ([]types.BatchStatementResponse, error) {
	out, err := r.tablesAPI.BatchExecuteStatement(ctx, &dynamodb.BatchExecuteStatementInput{Statements: statements})
	if err != nil {
		return nil, err
	}
	if len(out.Responses) != len(statements) {
		return nil, fmt.Errorf("DynamoDB answered %d of %d statements", len(out.Responses), len(statements))
	}
	return out.Responses, nil
}

func (r rows) read(ctx context.Context, name string) (row, error) {
	out, err := r.tablesAPI.GetItem(ctx, &dynamodb.GetItemInput{TableName: &r.table, Key: r.key(name), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return nil, err
	}
	return out.Item, nil
}

// codeOf says how a statement was answered.
func codeOf(response types.BatchStatementResponse) string {
	if response.Error == nil {
		return "done"
	}
	return string(response.Error.Code)
}

const fallsBack = "where the batch form is refused by AccessDenied or ValidationError, the ledger writes item by item, correct and dearer (alarm store-fallback); " +
	"any other code counts as an unknown outcome, and deliveries are deferred: do not go live with this, and report it"

// claims plays the life of a waybill with the ledger's own batch form.
func (r rows) claims(ctx context.Context, name string) verdict {
	store, err := ledgerdynamo.NewBatch(r.tablesAPI, r.table, ledgerdynamo.Options{})
	if err != nil {
		return unanswered(err)
	}
	id, now := delivery.ID(r.id(name)), time.Now()
	claim := func(owner string) string {
		a := store.Claim(ctx, []ledger.Claim{{
			Delivery: id, Attempt: 1, Owner: owner, Now: now, LeaseUntil: now.Add(time.Minute), ExpiresAt: now.Add(rowsFor),
		}})[0]
		if a.Err != nil {
			return a.Err.Error()
		}
		return fmt.Sprint(a.Verdict)
	}
	settle := func(owner string) string {
		err := store.Settle(ctx, []ledger.Settlement{{
			Delivery: id, Attempt: 1, Owner: owner, State: ledger.Delivered, Code: 200, Now: now, ExpiresAt: now.Add(rowsFor),
		}})[0]
		switch {
		case err == nil:
			return "settled"
		case errors.Is(err, ledger.ErrRefused):
			return "refused"
		}
		return err.Error()
	}
	for _, step := range []struct{ what, got, want string }{
		{"the first claim", claim("one"), fmt.Sprint(ledger.Granted)},
		{"the same claim again, its answer lost", claim("one"), fmt.Sprint(ledger.Granted)},
		{"another worker's claim", claim("two"), fmt.Sprint(ledger.Busy)},
		{"another worker's settling", settle("two"), "refused"},
		{"the owner's settling", settle("one"), "settled"},
		{"a claim of what is delivered", claim("three"), fmt.Sprint(ledger.Duplicate)},
	} {
		if step.got != step.want {
			return failed(step.what+": "+step.want, step.got, fallsBack)
		}
	}
	return holds("granted, busy, refused, settled, duplicate: as the claim table says")
}

// duplicateItem: an INSERT that meets a row says so by a code of its own. Whether it brings the row along is good to know.
func (r rows) duplicateItem(ctx context.Context, name string) verdict {
	expires := time.Now().Add(rowsFor)
	first, err := r.execute(ctx, r.insert(name, "one", expires))
	if err != nil {
		return unanswered(err)
	}
	second, err := r.execute(ctx, r.insert(name, "two", expires))
	if err != nil {
		return unanswered(err)
	}
	left, err := r.read(ctx, name)
	if err != nil {
		return unanswered(err)
	}
	if got := codeOf(first[0]) + ", " + codeOf(second[0]); got != "done, "+string(types.BatchStatementErrorCodeEnumDuplicateItem) || textOf(left, "owner") != "one" {
		return failed("INSERT twice: done, DuplicateItem, and the first row stays", fmt.Sprintf("%s; the row is of %q", got, textOf(left, "owner")), fallsBack)
	}
	if textOf(second[0].Error.Item, "owner") == "one" {
		return holds("DuplicateItem, and ALL_OLD brings the row along; the ledger makes a conditional write after it in any case, which brings the row too")
	}
	return holds("DuplicateItem; ALL_OLD does not bring the row along, so the conditional write that the ledger makes after it is needed, as it is written")
}

// oneKeyTwice: DynamoDB refuses a batch that names a row twice. The ledger never sends one.
func (r rows) oneKeyTwice(ctx context.Context, name string) verdict {
	const expected = "ValidationException for the batch as a whole, and no row"
	const harmless = "nothing: the ledger never names a row twice in a batch, a second entry goes into a later one. But shared/awslocal and the comment of " +
		"BatchStore.execute in shared/ledger/dynamo say otherwise: please report it"
	expires := time.Now().Add(rowsFor)
	answers, err := r.execute(ctx, r.insert(name, "one", expires), r.insert(name, "two", expires))
	left, readErr := r.read(ctx, name)
	if readErr != nil {
		return unanswered(readErr)
	}
	if err == nil {
		return failed(expected, fmt.Sprintf("%s, %s; the row is of %q", codeOf(answers[0]), codeOf(answers[1]), textOf(left, "owner")), harmless)
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return unanswered(err)
	}
	if api.ErrorCode() != "ValidationException" || left != nil {
		return failed(expected, fmt.Sprintf("%s; the row is of %q", api.ErrorCode(), textOf(left, "owner")), harmless)
	}
	return holds("refused as a whole, with ValidationException; the ledger never sends such a batch")
}

// absentRow is the row that is never made, if all is well.
const absentRow = "absent"

// conditions: an UPDATE in a batch heeds conditions on attributes that are no key, and never creates a row.
func (r rows) conditions(ctx context.Context, name string) verdict {
	if _, err := r.execute(ctx, r.insert(name, "one", time.Now().Add(rowsFor))); err != nil {
		return unanswered(err)
	}
	wrong, err := r.execute(ctx, r.settle(name, "two"), r.settle(absentRow, "one"))
	if err != nil {
		return unanswered(err)
	}
	between, err := r.read(ctx, name)
	if err != nil {
		return unanswered(err)
	}
	absent, err := r.read(ctx, absentRow)
	if err != nil {
		return unanswered(err)
	}
	right, err := r.execute(ctx, r.settle(name, "one"))
	if err != nil {
		return unanswered(err)
	}
	after, err := r.read(ctx, name)
	if err != nil {
		return unanswered(err)
	}
	const refused = string(types.BatchStatementErrorCodeEnumConditionalCheckFailed)
	got := fmt.Sprintf("%s, %s, %s; state %s, then %s; %d attributes of a row that was not there",
		codeOf(wrong[0]), codeOf(wrong[1]), codeOf(right[0]), textOf(between, "state"), textOf(after, "state"), len(absent))
	want := fmt.Sprintf("%s, %s, done; state %s, then %s; 0 attributes of a row that was not there", refused, refused, ledger.Claimed, ledger.Delivered)
	if got != want {
		return failed(want, got, "the fence of the ledger rests on this: do not go live, and report it. Where the UPDATE was refused as such (ValidationError), the ledger settles item by item, which is correct")
	}
	row := "without the row"
	if wrong[0].Error.Item != nil {
		row = "with the row"
	}
	return holds("the owner settles, nobody else does, nothing is created; a refusal comes %s", row)
}

// expiredRow: a row whose time is over counts until it is deleted.
func (r rows) expiredRow(ctx context.Context, name string) verdict {
	expired := time.Now().Add(-time.Hour)
	if _, err := r.execute(ctx, r.insert(name, "one", expired)); err != nil {
		return unanswered(err)
	}
	answers, err := r.execute(ctx, r.insert(name, "two", expired))
	if err != nil {
		return unanswered(err)
	}
	left, err := r.read(ctx, name)
	if err != nil {
		return unanswered(err)
	}
	if got := codeOf(answers[0]); got != string(types.BatchStatementErrorCodeEnumDuplicateItem) || textOf(left, "owner") != "one" {
		return failed("DuplicateItem: an expired row counts until TTL deletes it", fmt.Sprintf("%s; the row is of %q", got, textOf(left, "owner")),
			"nothing at once: a waybill expires 56 days after its last change, and an event that is sent again as late as that is delivered again either way")
	}
	return holds("DuplicateItem: an expired row counts until TTL deletes it, so the ledger remembers for longer, never for less")
}
