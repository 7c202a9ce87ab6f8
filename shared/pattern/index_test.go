package pattern_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/shared/pattern"
)

// loop is what an Index must agree with.
func loop(patterns []*pattern.Pattern, e *pattern.Event) []int {
	var fitting []int
	for i, p := range patterns {
		if p.Match(e) {
			fitting = append(fitting, i)
		}
	}
	return fitting
}

func TestIndexAgreesWithLoop(t *testing.T) {
	fitting, not, filed := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var texts []string
		var patterns []*pattern.Pattern
		for range rapid.IntRange(1, 30).Draw(t, "patterns") {
			text := string(marshal(patternOf(t)))
			if rapid.IntRange(0, 9).Draw(t, "again") == 0 && len(texts) > 0 {
				text = texts[0]
			}
			p, err := pattern.Parse(json.RawMessage(text))
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if rapid.IntRange(0, 19).Draw(t, "nil") == 0 {
				text, p = "", nil
			}
			texts, patterns = append(texts, text), append(patterns, p)
		}
		indexes := []*pattern.Index{pattern.NewIndex(patterns), pattern.NewIndexFew(patterns, rapid.IntRange(0, 2).Draw(t, "few"))}
		for range 3 {
			attributes := rapid.MapOfN(names, strs, 0, 3).Draw(t, "attributes")
			data := marshal(value(t, 4))
			if rapid.IntRange(0, 9).Draw(t, "broken") == 0 {
				data = append(data, '{')
			}
			event := pattern.NewEvent(maps.All(attributes), data)
			want := loop(patterns, event)
			for _, index := range indexes {
				if got := index.Match(event); !slices.Equal(got, want) {
					t.Fatalf("patterns %q\non %v %s: got %v, a loop gives %v", texts, attributes, data, got, want)
				}
				filed += max(0, len(patterns)-index.Candidates(event))
			}
			fitting += len(want)
			not += len(patterns) - len(want)
		}
	})
	if fitting == 0 || not == 0 || filed == 0 {
		t.Errorf("the generator proves nothing: %d fit, %d do not, %d were not looked at", fitting, not, filed)
	}
}

// families are ways to tell thousands of destinations apart. In each, the event fits a few patterns out of all.
func families() map[string]struct {
	pattern func(i int) string
	event   func(i int) (eventType, data string)
} {
	type family = struct {
		pattern func(i int) string
		event   func(i int) (eventType, data string)
	}
	data := func(format string) func(int) (string, string) {
		return func(i int) (string, string) { return "order.paid", fmt.Sprintf(format, i) }
	}
	return map[string]family{
		"type": {
			func(i int) string { return fmt.Sprintf(`{"type": ["order.%d"]}`, i) },
			func(i int) (string, string) { return fmt.Sprintf("order.%d", i), `{}` },
		},
		"one type, value in the payload": {
			func(i int) string { return fmt.Sprintf(`{"type": ["order.paid"], "data": {"customer": ["c%d"]}}`, i) },
			data(`{"customer": "c%d"}`),
		},
		"type and country, neither alone": {
			func(i int) string {
				return fmt.Sprintf(`{"type": ["order.%d"], "data": {"country": ["C%d"]}}`, i/100, i%100)
			},
			func(i int) (string, string) {
				return fmt.Sprintf("order.%d", i/100), fmt.Sprintf(`{"country": "C%d"}`, i%100)
			},
		},
		"alternatives": {
			func(i int) string { return fmt.Sprintf(`{"type": ["a.%d", "b.%d", {"prefix": "c.%d."}]}`, i, i, i) },
			func(i int) (string, string) { return fmt.Sprintf("c.%d.x", i), `{}` },
		},
		"prefix": {
			func(i int) string { return fmt.Sprintf(`{"type": [{"prefix": "order.%d."}]}`, i) },
			func(i int) (string, string) { return fmt.Sprintf("order.%d.paid", i), `{}` },
		},
		"suffix ignoring case": {
			func(i int) string {
				return fmt.Sprintf(`{"data": {"file": [{"suffix": {"equals-ignore-case": ".%d.PNG"}}]}}`, i)
			},
			data(`{"file": "photo.%d.png"}`),
		},
		"equals-ignore-case": {
			func(i int) string {
				return fmt.Sprintf(`{"data": {"who": [{"equals-ignore-case": "user%d@Example.com"}]}}`, i)
			},
			data(`{"who": "USER%d@EXAMPLE.COM"}`),
		},
		"wildcard": {
			func(i int) string { return fmt.Sprintf(`{"data": {"key": [{"wildcard": "tenant/%d/*.json"}]}}`, i) },
			data(`{"key": "tenant/%d/a/b.json"}`),
		},
		"wildcard, both ends open": {
			func(i int) string { return fmt.Sprintf(`{"data": {"key": [{"wildcard": "*/tenant-%d/*"}]}}`, i) },
			data(`{"key": "a/tenant-%d/b.json"}`),
		},
		"wildcard, long beginning in common": {
			func(i int) string {
				return fmt.Sprintf(`{"data": {"arn": [{"wildcard": "arn:aws:s3:::a-bucket/*/%d/*.json"}]}}`, i)
			},
			data(`{"arn": "arn:aws:s3:::a-bucket/x/%d/y.json"}`),
		},
		"numeric": {
			func(i int) string { return fmt.Sprintf(`{"data": {"n": [{"numeric": [">=", %d, "<", %d]}]}}`, i, i+1) },
			data(`{"n": %d.5}`),
		},
		"cidr": {
			func(i int) string { return fmt.Sprintf(`{"data": {"ip": [{"cidr": "10.%d.%d.0/24"}]}}`, i/256, i%256) },
			func(i int) (string, string) { return "x", fmt.Sprintf(`{"ip": "10.%d.%d.7"}`, i/256, i%256) },
		},
		"another field for each": {
			func(i int) string { return fmt.Sprintf(`{"data": {"f%d": [{"exists": true}]}}`, i) },
			data(`{"f%d": 1}`),
		},
		"or": {
			func(i int) string {
				return fmt.Sprintf(`{"$or": [{"type": ["order.%d"]}, {"data": {"customer": ["c%d"]}}]}`, i, i)
			},
			data(`{"customer": "c%d"}`),
		},
		"in arrays": {
			func(i int) string {
				return fmt.Sprintf(`{"data": {"items": {"sku": ["s%d"], "gift": [{"exists": false}]}}}`, i)
			},
			data(`{"items": [{"sku": "none"}, {"sku": "s%d"}]}`),
		},
		"absence beside a value": {
			func(i int) string {
				return fmt.Sprintf(`{"data": {"test": [{"exists": false}], "customer": ["c%d", {"wildcard": "c%d-*"}]}}`, i, i)
			},
			data(`{"customer": "c%d"}`),
		},
	}
}

// TestIndexLooksAtWhatMatches holds the cost of Match, in patterns looked at, to what fits: the number of patterns must
// not matter.
func TestIndexLooksAtWhatMatches(t *testing.T) {
	for name, family := range families() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 2000
			patterns := make([]*pattern.Pattern, n)
			for i := range patterns {
				p, err := pattern.Parse(json.RawMessage(family.pattern(i)))
				if err != nil {
					t.Fatal(err)
				}
				patterns[i] = p
			}
			index := pattern.NewIndex(patterns)
			for i := 1; i < n; i += 397 {
				eventType, data := family.event(i)
				event := pattern.NewEvent(maps.All(map[string]string{"type": eventType}), []byte(data))
				if got, want := index.Match(event), loop(patterns, event); !slices.Equal(got, want) || !slices.Contains(want, i) {
					t.Fatalf("%s %s: got %v, want %v", eventType, data, got, want)
				} else if looked := index.Candidates(event); looked > 8+2*len(want) {
					t.Errorf("%s %s: looked at %d of %d patterns, of which %d fit", eventType, data, looked, n, len(want))
				}
			}
		})
	}
}

func TestIndexTakesABucketOnce(t *testing.T) {
	patterns := make([]*pattern.Pattern, 100)
	for i := range patterns {
		p, err := pattern.Parse(json.RawMessage(`{"data": {"a": ["x", {"prefix": "x"}]}}`))
		if err != nil {
			t.Fatal(err)
		}
		patterns[i] = p
	}
	index := pattern.NewIndex(patterns)
	event := pattern.NewEvent(nil, marshal(map[string]any{"a": slices.Repeat([]string{"x"}, 1000)}))
	if got := len(index.Match(event)); got != 100 {
		t.Errorf("%d patterns fit", got)
	}
	if looked := index.Candidates(event); looked > 200 {
		t.Errorf("looked at %d entries", looked)
	}
}

func TestEmptyIndexFitsNothing(t *testing.T) {
	if got := pattern.NewIndex(nil).Match(pattern.NewEvent(nil, nil)); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestIndexIsSafeForConcurrentUse(t *testing.T) {
	family := families()["type and country, neither alone"]
	var patterns []*pattern.Pattern
	for i := range 1000 {
		p, err := pattern.Parse(json.RawMessage(family.pattern(i)))
		if err != nil {
			t.Fatal(err)
		}
		patterns = append(patterns, p)
	}
	index := pattern.NewIndex(patterns)
	eventType, data := family.event(7)
	event := pattern.NewEvent(maps.All(map[string]string{"type": eventType}), []byte(data))
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 50 {
				if got := index.Match(event); !slices.Equal(got, []int{7}) {
					t.Errorf("got %v", got)
				}
			}
		})
	}
	group.Wait()
}
