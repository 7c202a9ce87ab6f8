package dynamodb

import (
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// numberTexts draws texts of valid numbers, many of them close to each other.
var numberTexts = rapid.Custom(func(t *rapid.T) string {
	digits := rapid.StringMatching(`[0-9]{1,38}`).Draw(t, "digits")
	if rapid.Bool().Draw(t, "short") {
		digits = rapid.StringMatching(`[0-2]{1,3}`).Draw(t, "digits")
	}
	text := rapid.SampledFrom([]string{"", "-", "+"}).Draw(t, "sign") + digits
	if point := rapid.IntRange(0, len(digits)-1).Draw(t, "point"); point > 0 {
		at := len(text) - point
		text = text[:at] + "." + text[at:]
	}
	if rapid.Bool().Draw(t, "scientific") {
		text += rapid.SampledFrom([]string{"e", "E", "e-", "E+"}).Draw(t, "e") + rapid.StringMatching(`[0-9]{1,2}`).Draw(t, "exponent")
	}
	return text
})

func rational(t *rapid.T, text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("math/big does not read %q", text)
	}
	return r
}

func mustNumber(t *rapid.T, text string) Number {
	n, err := parseNumber(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return n
}

func TestNumbersAreOrderedByValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := numberTexts.Draw(t, "a"), numberTexts.Draw(t, "b")
		m, n := mustNumber(t, a), mustNumber(t, b)
		want := rational(t, a).Cmp(rational(t, b))
		if got := m.Compare(n); got != want {
			t.Errorf("Compare(%s, %s) = %d, want %d", a, b, got, want)
		}
		if got := strings.Compare(string(m.appendSortable(nil)), string(n.appendSortable(nil))); got != want {
			t.Errorf("sort keys of %s and %s compare as %d, want %d", a, b, got, want)
		}
		if (m == n) != (want == 0) {
			t.Errorf("%s == %s is %v", a, b, m == n)
		}
		if rational(t, m.String()).Cmp(rational(t, a)) != 0 || mustNumber(t, m.String()) != m {
			t.Errorf("%s is printed as %s", a, m)
		}
		if s := m.String(); strings.ContainsAny(s, "eE+") || strings.Contains(s, ".") && strings.HasSuffix(s, "0") {
			t.Errorf("%s is printed as %s", a, s)
		}
	})
}

// TestNeighbouringNumbers: pairs that differ in one respect only, smaller one first, in both signs.
func TestNeighbouringNumbers(t *testing.T) {
	for _, pair := range [][2]string{{"5", "5.1"}, {"9", "10"}, {"0.09", "0.1"}, {"1.2", "1.23"}, {"0", "1e-130"}, {"99e123", "9.91e124"}, {"1e-130", "1.1e-130"}, {"9", "90"}} {
		for _, signs := range [][2]string{{"", ""}, {"-", "-"}, {"-", ""}} {
			low, err := parseNumber(signs[0] + pair[0])
			high, errHigh := parseNumber(signs[1] + pair[1])
			if err != nil || errHigh != nil {
				t.Fatal(err, errHigh)
			}
			if signs[1] == "-" {
				low, high = high, low
			}
			if low.Compare(high) != -1 || high.Compare(low) != 1 || string(low.appendSortable(nil)) >= string(high.appendSortable(nil)) {
				t.Errorf("%s must be less than %s", low, high)
			}
		}
	}
}

func TestNumberSize(t *testing.T) {
	for text, want := range map[string]int{"0": 1, "7": 2, "12": 2, "1.2": 3, "0.12": 2, "123": 3, "12.3": 3, "100": 2, "-12": 3, "1234": 3, "123.4": 4,
		strings.Repeat("9", 38): 20, "1800000000000": 3, "1800000000001": 8} {
		n, err := parseNumber(text)
		if got := n.size(); got != want || err != nil {
			t.Errorf("%s: %d bytes, want %d (%v)", text, got, want, err)
		}
	}
}

// TestCacheIsBounded: a program with endless texts costs parsing, not memory.
func TestCacheIsBounded(t *testing.T) {
	var c cache[string]
	for i := range 3 * maxCached {
		text := string(normalKey(i))
		for range 2 {
			if got, err := c.get(text, func(s string) (string, error) { return s, nil }); got != text || err != nil {
				t.Fatal(got, err)
			}
		}
		if len(c.entries) > maxCached {
			t.Fatalf("%d entries", len(c.entries))
		}
	}
}

func TestSumsAreExactOrRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := numberTexts.Draw(t, "a"), numberTexts.Draw(t, "b")
		want := new(big.Rat).Add(rational(t, a), rational(t, b))
		sum, err := mustNumber(t, a).plus(mustNumber(t, b))
		exact, parseErr := parseNumber(strings.TrimRight(want.FloatString(200), "0"))
		if (err == nil) != (parseErr == nil) || err == nil && sum != exact {
			t.Errorf("%s + %s = %s (%v), want %s (%v)", a, b, sum, err, exact, parseErr)
		}
	})
}

// TestRowsKeepOrder compares the chunked storage with a map and a sort.
func TestRowsKeepOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r rows
		model := map[string]int{}
		key := rapid.StringMatching(`[a-c]{1,5}`)
		for i := range rapid.IntRange(0, 3*chunkRows).Draw(t, "operations") {
			k := key.Draw(t, "key")
			if rapid.IntRange(0, 3).Draw(t, "operation") == 0 {
				_, there := model[k]
				if r.remove(k) != there {
					t.Fatalf("remove(%s) is not %v", k, there)
				}
				delete(model, k)
			} else {
				r.put(row{key: k, size: i})
				model[k] = i
			}
		}
		s := span{from: key.Draw(t, "from"), to: rapid.OneOf(rapid.Just(""), key).Draw(t, "to")}
		var want []string
		for _, k := range sortedKeys(model) {
			if k >= s.from && (s.to == "" || k < s.to) {
				want = append(want, k)
			}
			if r.get(k).size != model[k] {
				t.Fatalf("get(%s) = %v", k, r.get(k))
			}
		}
		for _, backwards := range []bool{false, true} {
			var got []string
			for w := range r.within(s, backwards) {
				got = append(got, w.key)
			}
			if !slices.Equal(got, want) || r.count != len(model) {
				t.Fatalf("within %v (backwards %v): %v, want %v; %d rows, want %d", s, backwards, got, want, r.count, len(model))
			}
			slices.Reverse(want)
		}
	})
}

// TestLargeRowsSplit reaches chunks that the property above rarely fills.
func TestLargeRowsSplit(t *testing.T) {
	for _, step := range []int{1, 7919} { // in order, and scattered
		var r rows
		const n = 10 * chunkRows
		for i := range n {
			r.put(row{key: string(normalKey(i * step % n))})
		}
		previous, seen := "", 0
		for w := range r.within(span{}, false) {
			if w.key <= previous {
				t.Fatalf("%q comes after %q", w.key, previous)
			}
			previous, seen = w.key, seen+1
		}
		if seen != n {
			t.Errorf("step %d: %d rows, want %d", step, seen, n)
		}
	}
}

func normalKey(i int) []byte { return []byte{byte(i >> 16), byte(i >> 8), byte(i), 'k'} }
