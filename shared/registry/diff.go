package registry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
)

// ChangeKind says what happens to a destination.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// Change is what becomes of one destination. It holds no values: URLs and headers may be credentials, and secrets are.
type Change struct {
	ID     string
	Kind   ChangeKind
	Fields []string // of one that is changed: "tenant", "webhook.url", "webhook.headers.x-team" …, in the order of the documentation of Parse
}

// Diff gives what a set of destinations changes that takes the place of another, by id. What means the same is no change: a default that is
// written out, another order of the fields of a pattern. Nor is another order of the destinations. A nil set is empty.
func Diff(from, to *Set) []Change {
	from, to = cmp.Or(from, &Set{}), cmp.Or(to, &Set{})
	var changes []Change
	for id, d := range to.byID {
		if was, is := from.byID[id]; !is {
			changes = append(changes, Change{ID: id, Kind: Added})
		} else if fields := differences(was, d); len(fields) > 0 {
			changes = append(changes, Change{ID: id, Kind: Changed, Fields: fields})
		}
	}
	for id := range from.byID {
		if _, is := to.byID[id]; !is {
			changes = append(changes, Change{ID: id, Kind: Removed})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.ID, b.ID) })
	return changes
}

// differences names the fields that differ.
func differences(a, b *Destination) []string {
	var fields []string
	compare := func(field string, same bool) {
		if !same {
			fields = append(fields, field)
		}
	}
	compare("tenant", a.Tenant == b.Tenant)
	compare("type", a.Type == b.Type)
	fields = append(fields, webhookDifferences(a.Webhook, b.Webhook)...)
	compare("pattern", canonical(a.patternText) == canonical(b.patternText))
	compare("retry", slices.Equal(a.Retry.Waits(), b.Retry.Waits()) && a.Retry.MaxAge() == b.Retry.MaxAge())
	compare("rate", a.Rate == b.Rate || a.Rate != nil && b.Rate != nil && *a.Rate == *b.Rate)
	compare("concurrency", a.Concurrency == b.Concurrency)
	compare("ledger", a.Ledger == b.Ledger)
	compare("reject", slices.Equal(a.Reject, b.Reject))
	return fields
}

func webhookDifferences(a, b *Webhook) []string {
	if a == nil || b == nil {
		if a == b {
			return nil
		}
		return []string{"webhook"}
	}
	var fields []string
	if a.URL != b.URL {
		fields = append(fields, "webhook.url")
	}
	if !slices.EqualFunc(a.Secrets, b.Secrets, sameSecret) {
		fields = append(fields, "webhook.secrets")
	}
	was, is := headerValues(a.Headers), headerValues(b.Headers)
	names := maps.Clone(was)
	maps.Copy(names, is)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		before, had := was[name]
		now, has := is[name]
		if had != has || before != now {
			fields = append(fields, "webhook.headers."+name)
		}
	}
	if a.Timeout != b.Timeout {
		fields = append(fields, "webhook.timeout")
	}
	return fields
}

func sameSecret(a, b Secret) bool { return a.ARN() == b.ARN() && bytes.Equal(a.Key(), b.Key()) }

func headerValues(headers []Header) map[string]string {
	values := make(map[string]string, len(headers))
	for _, h := range headers {
		values[h.Name] = h.Value
	}
	return values
}

// canonical writes a pattern in one order and without white space. The empty pattern is none.
func canonical(text string) string {
	if text == "" {
		return "{}"
	}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber() // as numbers are told apart by their text
	var value any
	if d.Decode(&value) != nil {
		return text
	}
	ordered, err := json.Marshal(value)
	if err != nil {
		return text
	}
	return string(ordered)
}
