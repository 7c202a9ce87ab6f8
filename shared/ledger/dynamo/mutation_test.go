package dynamo_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/ledgertest"
)

// The suite is only worth what it notices. These tests break every clause of every condition in every way that makes it more or less
// permissive, and want the exhaustive comparison to object.

var (
	atoms = regexp.MustCompile(`[#:]\w+ (=|<=|<) [#:]\w+|#state IN \([^)]*\)|attribute_not_exists\(#delivery\)`)
	lists = regexp.MustCompile(`\((:\w+, )*:\w+\)`)
)

const (
	always = `(attribute_exists(#delivery) OR attribute_not_exists(#delivery))`
	never  = `(attribute_exists(#delivery) AND attribute_not_exists(#delivery))`
)

// mutationsOf changes one place of a condition at a time.
func mutationsOf(condition string) []string {
	var out []string
	at := func(place []int, replacement string) {
		out = append(out, condition[:place[0]]+replacement+condition[place[1]:])
	}
	for _, place := range atoms.FindAllStringIndex(condition, -1) {
		atom := condition[place[0]:place[1]]
		at(place, "("+atom+" OR "+always+")")
		at(place, "("+atom+" AND "+never+")")
		switch {
		case strings.Contains(atom, " <= "):
			at(place, strings.Replace(atom, " <= ", " < ", 1))
			at(place, strings.Replace(atom, " <= ", " = ", 1))
		case strings.Contains(atom, " < "):
			at(place, strings.Replace(atom, " < ", " <= ", 1))
			at(place, strings.Replace(atom, " < ", " > ", 1))
		}
	}
	for _, place := range lists.FindAllStringIndex(condition, -1) {
		states := strings.Split(condition[place[0]+1:place[1]-1], ", ")
		for _, s := range []string{":claimed", ":waiting", ":dead", ":delivered"} {
			var other []string
			for _, t := range states {
				if t != s {
					other = append(other, t)
				}
			}
			if len(other) == len(states) {
				other = append(other, s)
			}
			at(place, "("+strings.Join(other, ", ")+")")
		}
	}
	return out
}

var comparisons = map[string]func(testing.TB, ledgertest.Harness, ledgertest.Domain) error{
	"claim": ledgertest.CompareClaims, "settle": ledgertest.CompareSettles,
	"release": ledgertest.CompareReleases, "record": ledgertest.CompareRecords,
}

// wantObjection fails the test if the comparison finds nothing wrong with a mutant.
func wantObjection(t *testing.T, db *database, mutant ledger.Store, operation, old, mutated string) {
	t.Helper()
	if comparisons[operation](t, db.shortcutHarness(mutant), ledgertest.Domain{Epochs: 2, Attempts: 2}) == nil {
		t.Errorf("nobody notices when the %s condition\n%s\nreads\n%s", operation, old, mutated)
	}
}

func TestEveryClauseOfEveryConditionCounts(t *testing.T) {
	t.Parallel()
	for operation, condition := range openDatabase(t).item(t).Conditions() {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			mutations := mutationsOf(condition)
			if len(mutations) < 6 {
				t.Fatalf("only %d mutations of %s", len(mutations), condition)
			}
			for _, mutated := range mutations {
				db := openDatabase(t)
				item, _ := db.shortcutStores(t)
				wantObjection(t, db, item.Mutate(operation, mutated), operation, condition, mutated)
			}
		})
	}
}

func TestReplaysCount(t *testing.T) {
	t.Parallel()
	for _, operation := range []string{"claim", "record"} {
		db := openDatabase(t)
		item, _ := db.shortcutStores(t)
		wantObjection(t, db, item.WithoutReplays(), operation, "of a replay", "like any other")
		db = openDatabase(t)
		item, _ = db.shortcutStores(t)
		wantObjection(t, db, item.WithoutOriginals(), operation, "of a first delivery", "like that of a replay")
	}
}

func TestEveryConditionOfEveryStatementCounts(t *testing.T) {
	t.Parallel()
	for operation, statement := range openDatabase(t).batch(t).Statements() {
		_, where, _ := strings.Cut(statement, " WHERE ")
		for _, name := range []string{"owner", "epoch", "attempt", "state"} {
			condition := `"` + name + `" = ?`
			if !strings.Contains(where, condition) {
				continue
			}
			for _, comparison := range []string{"<=", ">=", "<>"} {
				mutated := strings.Replace(statement, " AND "+condition, ` AND "`+name+`" `+comparison+" ?", 1)
				if name == "state" && comparison == "<=" {
					continue // no state sorts before "claimed"
				}
				db := openDatabase(t)
				_, batch := db.shortcutStores(t)
				wantObjection(t, db, batch.Mutate(statement, mutated), operation, statement, mutated)
			}
		}
	}
}
