package pattern

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

// hits says what it means for a scalar to hit a key, one key at a time.
func hits(k key, s scalar) bool {
	isText := s.kind == jsontree.String
	switch k.kind {
	case present:
		return true
	case equalTo:
		return k.scalar == s
	case equalToFolded:
		return isText && strings.EqualFold(s.text, k.scalar.text)
	case startsWith:
		return isText && strings.HasPrefix(s.text, k.scalar.text)
	case startsWithFolded:
		return isText && strings.HasPrefix(strings.ToUpper(s.text), k.scalar.text)
	case endsWith:
		return isText && strings.HasSuffix(s.text, k.scalar.text)
	case endsWithFolded:
		return isText && strings.HasSuffix(strings.ToUpper(s.text), k.scalar.text)
	case contains:
		return isText && strings.Contains(s.text, k.scalar.text)
	case inSpan:
		v, _, ok := parseMicros(s.text)
		return s.kind == jsontree.Number && ok && k.span.contains(v)
	case inBlock:
		address, err := netip.ParseAddr(s.text)
		return isText && err == nil && (k.block.Contains(address) || k.block.Contains(address.Unmap()))
	}
	panic(fmt.Sprint(k))
}

func TestDrawerFindsEveryBucketThatIsHit(t *testing.T) {
	found := map[keyKind]int{}
	rapid.Check(t, func(t *rapid.T) {
		var d drawer
		var keys []key
		text := rapid.StringMatching(`[ab]{0,3}|[ab]{0,3}|10\.0\.0\.[0-9]|::ffff:10\.0\.0\.[0-9]`)
		for range rapid.IntRange(20, 60).Draw(t, "keys") {
			k := key{kind: keyKind(rapid.IntRange(int(present), int(inBlock)).Draw(t, "kind"))}
			switch k.kind {
			case present:
			case inSpan:
				k.span.low = micros(rapid.IntRange(-9, 9).Draw(t, "low")) * 1_000_000
				k.span.high = k.span.low + micros(rapid.IntRange(0, 9).Draw(t, "length"))*500_000
			case inBlock:
				address := netip.MustParseAddr(rapid.SampledFrom([]string{"10.0.0.0", "10.0.0.8", "::ffff:10.0.0.0"}).Draw(t, "address"))
				bits := rapid.IntRange(0, address.BitLen()).Draw(t, "bits")
				k.block = netip.PrefixFrom(address, bits).Masked()
			case equalTo:
				k.scalar = scalar{jsontree.String, text.Draw(t, "text")}
			case contains:
				k.scalar.text = rapid.StringMatching(`[ab]{1,3}|0\.0`).Draw(t, "text")
			case equalToFolded, startsWithFolded, endsWithFolded:
				k.scalar.text = fold(text.Draw(t, "text"))
			default:
				k.scalar.text = text.Draw(t, "text")
			}
			d.bucket(k)
			if !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
		d.seal()
		s := scalar{jsontree.String, text.Draw(t, "value")}
		if rapid.Bool().Draw(t, "longer") {
			s.text = strings.Repeat(s.text, 3)
		}
		if rapid.Bool().Draw(t, "number") {
			s = scalar{jsontree.Number, fmt.Sprint(float64(rapid.IntRange(-20, 20).Draw(t, "halves")) / 2)}
		}
		got := map[key]int{}
		d.find(s, func(b *bucket) { got[b.key]++ })
		for _, k := range keys {
			if want := hits(k, s); want != (got[k] > 0) {
				t.Fatalf("%v on %v: found %d times, want %v", k, s, got[k], want)
			}
			found[k.kind] += got[k]
			delete(got, k)
		}
		if len(got) > 0 {
			t.Fatalf("found what is not there: %v", slices.Collect(maps.Keys(got)))
		}
	})
	for kind := present; kind <= inBlock; kind++ {
		if found[kind] == 0 {
			t.Errorf("no key of kind %d was ever hit", kind)
		}
	}
}

// TestSubstringsAreFoundInsideEachOther uses texts of two letters, which begin and end with each other in every way.
func TestSubstringsAreFoundInsideEachOther(t *testing.T) {
	check := func(t interface{ Fatalf(string, ...any) }, texts []string, value string) {
		var tree substrings
		for _, text := range texts {
			tree.put(text, &bucket{key: key{scalar: scalar{text: text}}})
		}
		tree.seal()
		var got []string
		tree.find(value, func(b *bucket) { got = append(got, b.key.scalar.text) })
		want := slices.DeleteFunc(texts, func(text string) bool { return !strings.Contains(value, text) })
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("in %q: found %q, want %q", value, got, want)
		}
	}
	check(t, []string{"xyab", "yabz", "ab"}, "xyab") // "ab" ends what only begins "yabz"
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfNDistinct(rapid.StringMatching(`[ab]{1,6}`), 1, 12, rapid.ID).Draw(t, "texts")
		check(t, texts, rapid.StringMatching(`[abc]{0,20}`).Draw(t, "value"))
	})
}

// TestSubstringsAreGivenOnce: texts that end with each other, in a string that ends with all of them everywhere.
func TestSubstringsAreGivenOnce(t *testing.T) {
	var tree substrings
	const n = 300
	for i := 1; i <= n; i++ {
		tree.put(strings.Repeat("a", i), &bucket{})
	}
	tree.seal()
	given := 0
	tree.find(strings.Repeat("a", 100_000), func(*bucket) { given++ })
	if given != n {
		t.Errorf("%d buckets were given, want %d", given, n)
	}
}

func TestParseMicros(t *testing.T) {
	for _, test := range []struct {
		text      string
		value     micros
		exact, ok bool
	}{
		{"0", 0, true, true},
		{"-0", 0, true, true},
		{"0.000000", 0, true, true},
		{"1", 1_000_000, true, true},
		{"-1.5", -1_500_000, true, true},
		{"3.018e2", 301_800_000, true, true},
		{"300E-2", 3_000_000, true, true},
		{"0.0000005e+1", 5, true, true},
		{"0.000001", 1, true, true},
		{"0.0000009", 0, false, true},
		{"-0.0000019", -1, false, true},
		{"1.23456789", 1_234_567, false, true},
		{"5000000000", maxMicros, true, true},
		{"-5e9", -maxMicros, true, true},
		{"5000000000.0000001", maxMicros, false, true},
		{"5000000000.000001", maxMicros + 1, true, false},
		{"9999999999", 9_999_999_999_000_000, true, false},
		{"10000000000", 0, false, false},
		{"0e99999999999999999999", 0, true, true},
		{"1e99999999999999999999", 0, false, false},
		{"1e-99999999999999999999", 0, false, true},
		{"0.00000000000000000001e20", 1_000_000, true, true},
		{"100000000000000000000e-20", 1_000_000, true, true},
	} {
		value, exact, ok := parseMicros(test.text)
		if value != test.value || exact != test.exact || ok != test.ok {
			t.Errorf("%s: got %d, %v, %v", test.text, value, exact, ok)
		}
	}
}

func FuzzParseMicros(f *testing.F) {
	for _, text := range []string{"1", "-5e9", "1.5E-3", "0.000001", "1e400"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var number json.Number
		if json.Unmarshal([]byte(text), &number) != nil || number == "" || strings.HasPrefix(strings.TrimSpace(text), `"`) {
			return
		}
		value, _, ok := parseMicros(number.String())
		estimate, err := number.Float64()
		overLimit := math.Abs(estimate) - 5e9 // which is less exact than parseMicros near the limit
		if math.Abs(overLimit) > 1e-5 && ok != (err == nil && overLimit < 0) {
			t.Fatalf("%s: ok is %v", number, ok)
		}
		if difference := estimate*1e6 - float64(value); ok && (difference > 2 || difference < -2) {
			t.Fatalf("%s: got %d", number, value)
		}
	})
}
