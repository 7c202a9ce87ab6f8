package dynamo_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
)

var now = time.Date(2026, time.November, 3, 4, 5, 6, 789_000_000, time.UTC)

func id(n int) delivery.ID { return delivery.NewID("acme", "/test", fmt.Sprint(n), "orders-crm") }

func claimOf(n, epoch, attempt int) ledger.Claim {
	return ledger.Claim{
		Delivery: id(n), Epoch: epoch, Attempt: attempt, Owner: fmt.Sprintf("OWNEROFCLAIM%014d", n),
		Now: now, LeaseUntil: now.Add(time.Minute), ExpiresAt: now.Add(60 * 24 * time.Hour),
	}
}

func settlementOf(c ledger.Claim) ledger.Settlement {
	return ledger.Settlement{
		Delivery: c.Delivery, Epoch: c.Epoch, Attempt: c.Attempt, Replay: c.Replay, Owner: c.Owner, State: ledger.Delivered, Code: 200,
		Now: now.Add(time.Second), ExpiresAt: now.Add(60 * 24 * time.Hour),
	}
}

func waybill(n int) attributes {
	return rowOf(ledger.Item{Delivery: id(n), State: ledger.Waiting, Attempt: 1, Owner: "someone", LeaseUntil: now, UpdatedAt: now, ExpiresAt: now})
}

// stores are the two forms over one database.
func (db *database) stores(t testing.TB) map[string]ledger.Store {
	return map[string]ledger.Store{"item": db.item(t), "batch": db.batch(t)}
}

// overwritesUnknownState reports a store that writes over a row in a state of a newer release.
func overwritesUnknownState(t testing.TB, db *database, store ledger.Store) error {
	row := waybill(1)
	row["state"] = str("archived")
	for _, replay := range []bool{false, true} {
		for _, at := range []struct{ epoch, attempt int }{{0, 1}, {0, 2}, {1, 1}} {
			db.putRow(t, row)
			c := claimOf(1, at.epoch, at.attempt)
			c.Replay = replay
			if a := store.Claim(t.Context(), []ledger.Claim{c})[0]; !errors.Is(a.Err, ledger.ErrUnknown) || !strings.Contains(a.Err.Error(), string(id(1))) {
				return fmt.Errorf("claim %+v: got %v, %w; want ErrUnknown that names the delivery", at, a.Verdict, a.Err)
			}
			if err := store.Record(t.Context(), []ledger.Settlement{settlementOf(c)})[0]; !errors.Is(err, ledger.ErrRefused) {
				return fmt.Errorf("record %+v: got %w, want it refused", at, err)
			}
			for _, got := range db.rows(t) {
				if got["delivery"].(*types.AttributeValueMemberS).Value == string(id(1)) && !reflect.DeepEqual(got, row) {
					return fmt.Errorf("%+v wrote over it: %v", at, got)
				}
			}
		}
	}
	return nil
}

func TestRowOfANewerReleaseIsLeftAlone(t *testing.T) {
	t.Parallel()
	db := openDatabase(t)
	for form, store := range db.stores(t) {
		if err := overwritesUnknownState(t, db, store); err != nil {
			t.Errorf("%s: %v", form, err)
		}
	}
}

func TestAttributesOfANewerReleaseSurvive(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"item", "batch"} {
		db := openDatabase(t)
		store := db.stores(t)[form]
		row := waybill(1)
		row["shard"] = num(7)
		db.putRow(t, row)
		c := claimOf(1, 0, 2)
		if a := store.Claim(t.Context(), []ledger.Claim{c})[0]; a.Verdict != ledger.Granted {
			t.Fatal(a)
		}
		if err := store.Settle(t.Context(), []ledger.Settlement{settlementOf(c)})[0]; err != nil {
			t.Fatal(err)
		}
		if got := db.rows(t)[0]; !reflect.DeepEqual(got["shard"], row["shard"]) {
			t.Errorf("%s: attribute shard is %v after claim and settle", form, got["shard"])
		}
	}
}

// TestUnreadableRow: whatever someone wrote into a row by hand, the store names the delivery and what is wrong, and its neighbours are unharmed.
func TestUnreadableRow(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		edit func(attributes)
		want string
	}{
		{"no state", func(r attributes) { delete(r, "state") }, `"state" is missing`},
		{"no epoch", func(r attributes) { delete(r, "epoch") }, `"epoch" is missing`},
		{"no attempt", func(r attributes) { delete(r, "attempt") }, `"attempt" is missing`},
		{"no owner", func(r attributes) { delete(r, "owner") }, `"owner" is missing`},
		{"no lease", func(r attributes) { delete(r, "leaseUntil") }, `"leaseUntil" is missing`},
		{"nothing but the key", func(r attributes) {
			maps.DeleteFunc(r, func(name string, _ types.AttributeValue) bool { return name != "delivery" })
		}, `"attempt" is missing`},
		{"unknown state", func(r attributes) { r["state"] = str("lost") }, `unknown value "lost"`},
		{"epoch as text", func(r attributes) { r["epoch"] = str("0") }, `"epoch" is no number`},
		{"attempt with a fraction", func(r attributes) { r["attempt"] = &types.AttributeValueMemberN{Value: "1.5"} }, `"attempt" is no whole number`},
		{"lease beyond 64 bits", func(r attributes) { r["leaseUntil"] = &types.AttributeValueMemberN{Value: "99999999999999999999"} }, `"leaseUntil" is no whole number`},
		{"owner as number", func(r attributes) { r["owner"] = num(1) }, `"owner" is no string`},
		{"reason as list", func(r attributes) { r["reason"] = &types.AttributeValueMemberL{} }, `"reason" is no string`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t)
			row := waybill(1)
			test.edit(row)
			db.putRow(t, row)
			for form, store := range db.stores(t) {
				unreadable := func(err error) bool {
					return errors.Is(err, ledger.ErrUnknown) && strings.Contains(err.Error(), test.want) && strings.Contains(err.Error(), string(id(1)))
				}
				readings := store.Read(t.Context(), []delivery.ID{id(2), id(1), id(3)})
				if readings[0].Err != nil || readings[2].Err != nil || !unreadable(readings[1].Err) {
					t.Errorf("%s: read gave %v, %v, %v; want %s for the second", form, readings[0].Err, readings[1].Err, readings[2].Err, test.want)
				}
				// The same attempt, already waiting: refused by the condition whatever is missing.
				answers := store.Claim(t.Context(), []ledger.Claim{claimOf(10, 0, 1), claimOf(1, 0, 1), claimOf(11, 0, 1)})
				if answers[0].Err != nil || answers[2].Err != nil || !unreadable(answers[1].Err) {
					t.Errorf("%s: claims gave %v, %v, %v; want %s for the second", form, answers[0].Err, answers[1].Err, answers[2].Err, test.want)
				}
			}
		})
	}
}

// TestMissingNewsIsNoFault: what no decision rests on may be missing.
func TestMissingNewsIsNoFault(t *testing.T) {
	t.Parallel()
	db := openDatabase(t)
	row := waybill(1)
	for _, name := range []string{"code", "reason", "updatedAt", "expiresAt"} {
		delete(row, name)
	}
	db.putRow(t, row)
	r := db.item(t).Read(t.Context(), []delivery.ID{id(1)})[0]
	if r.Err != nil || r.Item.State != ledger.Waiting || r.Item.Code != 0 || !r.Item.ExpiresAt.IsZero() {
		t.Errorf("got %+v, %v", r.Item, r.Err)
	}
}

// rowBytes is the size of a row by DynamoDB's published rules: names and strings by their UTF-8 bytes, a number about one byte for two
// digits and one more (two, to be on the safe side).
func rowBytes(r attributes) int {
	size := 0
	for name, v := range r {
		size += len(name)
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			size += len(v.Value)
		case *types.AttributeValueMemberN:
			size += (len(v.Value)+1)/2 + 2
		}
	}
	return size
}

// TestTenFirstDeliveriesCostTwoCallsAndTwentyUnits is the promise that the ledger's price rests on.
func TestTenFirstDeliveriesCostTwoCallsAndTwentyUnits(t *testing.T) {
	t.Parallel()
	for form, calls := range map[string]int{"batch": 2, "item": 20} {
		db := openDatabase(t)
		store := db.stores(t)[form]
		var claims []ledger.Claim
		var settlements []ledger.Settlement
		for n := range 10 {
			c := claimOf(n, 0, 1)
			s := settlementOf(c)
			s.State, s.Code, s.Reason = ledger.Dead, 599, strings.Repeat("ü", 5000) // the largest row there is
			claims, settlements = append(claims, c), append(settlements, s)
		}
		before := db.endpoint.Counts()
		for _, a := range store.Claim(t.Context(), claims) {
			if a.Verdict != ledger.Granted {
				t.Fatal(a)
			}
		}
		units := 0
		for _, r := range db.rows(t) {
			units += (rowBytes(r) + 1023) / 1024
		}
		for _, err := range store.Settle(t.Context(), settlements) {
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range db.rows(t) {
			if size := rowBytes(r); size > 750 {
				t.Errorf("%s: a row of %d bytes, want at most 750: %v", form, size, r)
			}
			units += (rowBytes(r) + 1023) / 1024
		}
		spent := db.endpoint.Counts().Since(before)
		got := 0
		for op, tally := range spent {
			if op.Name != "Scan" {
				got += tally.Attempted
			}
		}
		if got != calls {
			t.Errorf("%s: %d calls, want %d: %v", form, got, calls, spent)
		}
		if written := spent.Total("dynamodb").Units.Write; written != 20 || units != 20 {
			t.Errorf("%s: %v write units counted, %d computed from the rows' bytes, want 20", form, written, units)
		}
	}
}

// TestOnlyWhatMeetsARowIsWrittenAgain: a duplicate costs its refused INSERT and one refused conditional write, its neighbours nothing more.
func TestOnlyWhatMeetsARowIsWrittenAgain(t *testing.T) {
	t.Parallel()
	db := openDatabase(t)
	db.putRow(t, waybill(3))
	var claims []ledger.Claim
	for n := range 10 {
		claims = append(claims, claimOf(n, 0, 1))
	}
	claims = append(claims, claimOf(10, 0, 2), claimOf(11, 1, 1)) // no first attempts: no INSERT
	before := db.endpoint.Counts()
	answers := db.batch(t).Claim(t.Context(), claims)
	for n, a := range answers {
		want := ledger.Granted
		if n == 3 {
			want = ledger.Stale
		}
		if a.Verdict != want {
			t.Errorf("claim %d: %+v, want %s", n, a, want)
		}
	}
	calls := map[string]int{}
	for op, tally := range db.endpoint.Counts().Since(before) {
		calls[op.Name] += tally.Attempted
	}
	if want := map[string]int{"BatchExecuteStatement": 1, "UpdateItem": 3}; !reflect.DeepEqual(calls, want) {
		t.Errorf("calls %v, want %v", calls, want)
	}
	if units := db.endpoint.Counts().Since(before).Total("dynamodb").Units.Write; units != 13 {
		t.Errorf("%v write units, want 13: one for each of 12 claims and one for the second try", units)
	}
}
