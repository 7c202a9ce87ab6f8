package terminal_test

import (
	"flag"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/terminal"
)

var texts = []struct {
	name, text         string
	most               int
	printable, escaped string
}{
	{"nothing", "", 5, "", ""},
	{"plain", "order-77 paid", 64, "order-77 paid", "order-77 paid"},
	{"letters of the world", "Zürich 東京 हिन्दी ✓ 🚚", 64, "Zürich 東京 हिन्दी ✓ 🚚", "Zürich 東京 हिन्दी ✓ 🚚"},
	{"clears the screen", "a\x1b[2Jb", 64, "a?[2Jb", `a\x1b[2Jb`},
	{"sets the title", "\x1b]0;root\a", 64, "?]0;root?", `\x1b]0;root\a`},
	{"a control sequence of one character", "\u009b31m", 64, "?31m", `\u009b31m`},
	{"… and of one byte", "\x9b31m", 64, "\uFFFD31m", "\uFFFD31m"},
	{"lines and tabs", "a\nb\r\tc\v\f", 64, "a?b??c??", `a\nb\r\tc\v\f`},
	{"overwrites itself", "failed\r\b\x7fok", 64, "failed???ok", `failed\r\b\x7fok`},
	{"line ends of Unicode", "a\u0085b\u2028c\u2029d", 64, "a?b?c?d", `a\u0085b\u2028c\u2029d`},
	{"direction of writing", "\u202eexe\u2066x\u200fy\u061c", 64, "?exe?x?y?", `\u202eexe\u2066x\u200fy\u061c`},
	{"not seen", "a\u200bb\ufeffc\u00add\U000e0001", 64, "a?b?c?d?", `a\u200bb\ufeffc\u00add\U000e0001`},
	{"other blanks", "a\u00a0b\u3000c", 64, "a?b?c", `a\u00a0b\u3000c`},
	{"nobody's characters", "\ue000\ufffe\U0010ffff", 64, "???", `\ue000\ufffe\U0010ffff`},
	{"zero", "a\x00b", 64, "a?b", `a\x00b`},
	{"not UTF-8", "a\xff\xfeb\xe2\x82", 64, "a\uFFFD\uFFFDb\uFFFD\uFFFD", "a\uFFFD\uFFFDb\uFFFD\uFFFD"},
	{"half of a surrogate pair", "\xed\xa0\x80", 64, "\uFFFD\uFFFD\uFFFD", "\uFFFD\uFFFD\uFFFD"},
	{"quotes and backslashes", `'a' "b" \n`, 64, `'a' "b" \n`, `'a' "b" \n`},
	{"fits", "abcde", 5, "abcde", "abcde"},
	{"is cut", "abcdef", 5, "abcd…", "abcd…"},
	{"is cut by characters, not bytes", "äöüäöü", 5, "äöüä…", "äöüä…"},
	{"only its escapes are too long", "abc\n", 4, "abc?", "abc…"},
	{"no escape is cut", "\x1b\x1b\x1b", 9, "???", `\x1b\x1b…`},
	{"… not even for the ellipsis", "\x1b\x1bx", 8, "??x", `\x1b…`},
	{"an escape fits to the letter", "\x1b\x1b", 8, "??", `\x1b\x1b`},
	{"room for one", "ab", 1, "…", "…"},
	{"one", "a", 1, "a", "a"},
	{"no room", "a", 0, "", ""},
	{"less than no room", "a", -1, "", ""},
}

func TestPrintable(t *testing.T) {
	for _, test := range texts {
		t.Run(test.name, func(t *testing.T) {
			if got := terminal.Printable(test.text, test.most); got != test.printable {
				t.Errorf("Printable: %q, want %q", got, test.printable)
			}
			if got := terminal.Escaped(test.text, test.most); got != test.escaped {
				t.Errorf("Escaped: %q, want %q", got, test.escaped)
			}
		})
	}
}

func FuzzPrintable(f *testing.F) {
	for _, test := range texts {
		f.Add(test.text, test.most)
	}
	f.Fuzz(func(t *testing.T, text string, most int) {
		for name, show := range map[string]func(string, int) string{"Printable": terminal.Printable, "Escaped": terminal.Escaped} {
			got := show(text, most)
			if !utf8.ValidString(got) || utf8.RuneCountInString(got) > max(most, 0) {
				t.Fatalf("%s(%q, %d): %q is not valid or too long", name, text, most, got)
			}
			for _, c := range got {
				if unicode.In(c, unicode.C, unicode.Zl, unicode.Zp) || unicode.IsSpace(c) && c != ' ' {
					t.Fatalf("%s(%q, %d): %q has %U", name, text, most, got, c)
				}
			}
			if again := show(got, most); again != got {
				t.Fatalf("%s(%q, %d): %q, and of that %q", name, text, most, got, again)
			}
			if whole := show(text, 10*len(text)); got != whole && most > 0 {
				kept, cut := strings.CutSuffix(got, "…")
				if !cut || !strings.HasPrefix(whole, kept) {
					t.Fatalf("%s(%q, %d): %q is no beginning of %q", name, text, most, got, whole)
				}
			}
		}
		if whole := terminal.Printable(text, len(text)); utf8.RuneCountInString(whole) != utf8.RuneCountInString(text) {
			t.Fatalf("%q: %q has another number of characters", text, whole)
		}
	})
}

func TestPlural(t *testing.T) {
	for _, test := range []struct {
		n    int
		noun string
		want string
	}{
		{0, "event", "0 events"}, {1, "event", "1 event"}, {2, "event", "2 events"}, {1, "delivery", "1 delivery"}, {3, "delivery", "3 deliveries"},
		{2, "HTTP call", "2 HTTP calls"}, {-1, "second", "-1 seconds"},
	} {
		if got := terminal.Plural(test.n, test.noun); got != test.want {
			t.Errorf("%d %s: %q", test.n, test.noun, got)
		}
	}
}

func TestList(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want []string // nil: refused
		text string
	}{
		"one":              {[]string{"-name", "a"}, []string{"a"}, "a"},
		"several":          {[]string{"-name", "a, b ,c"}, []string{"a", "b", "c"}, "a,b,c"},
		"repeated":         {[]string{"-name", "a,b", "-name=c"}, []string{"a", "b", "c"}, "a,b,c"},
		"twice the same":   {[]string{"-name", "a", "-name", "a"}, []string{"a", "a"}, "a,a"},
		"blanks inside":    {[]string{"-name", "a b"}, []string{"a b"}, "a b"},
		"nothing":          {[]string{"-name", ""}, nil, ""},
		"blanks":           {[]string{"-name", "  "}, nil, ""},
		"a comma":          {[]string{"-name", ","}, nil, ""},
		"ends in a comma":  {[]string{"-name", "a,"}, nil, ""},
		"begins with it":   {[]string{"-name", ",a"}, nil, ""},
		"a comma too many": {[]string{"-name", "a,,b"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			flags := flag.NewFlagSet("test", flag.ContinueOnError)
			flags.SetOutput(io.Discard)
			var names []string
			flags.Var((*terminal.List)(&names), "name", "some `names`")
			err := flags.Parse(test.args)
			if test.want == nil {
				if err == nil || !strings.Contains(err.Error(), "empty value: quote") {
					t.Errorf("%q, %v", names, err)
				}
				return
			}
			if err != nil || !slices.Equal(names, test.want) || flags.Lookup("name").Value.String() != test.text {
				t.Errorf("%q, %v", names, err)
			}
		})
	}
}

// TestListHasNoDefault: the help of package flag, which asks a zero value for its text, tells no default.
func TestListHasNoDefault(t *testing.T) {
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	var names []string
	var out strings.Builder
	flags.SetOutput(&out)
	flags.Var((*terminal.List)(&names), "name", "some `names`")
	flags.PrintDefaults()
	if got := out.String(); got != "  -name names\n    \tsome names\n" {
		t.Errorf("%q", got)
	}
}

func TestInstant(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"0":                         now,
		"0s":                        now,
		"2h":                        now.Add(-2 * time.Hour),
		"1h30m":                     now.Add(-90 * time.Minute),
		"+5m":                       now.Add(-5 * time.Minute),
		"2026-11-22T06:30:00Z":      now.Add(-330 * time.Minute),
		"2026-11-22T06:30:00.5Z":    now.Add(-330*time.Minute + time.Second/2),
		"2026-11-22T08:30:00+02:00": now.Add(-330 * time.Minute),
		"2027-01-01T00:00:00Z":      time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := terminal.Instant("-since", text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"-2h", "2", "2d", "yesterday", "2026-11-22", "2026-11-22T06:30:00", "2026-11-22 06:30:00Z", " 2h", "9999999h", "\x1b[2J"} {
		got, err := terminal.Instant("-since", text, now)
		if err == nil || !got.IsZero() || !strings.HasPrefix(err.Error(), `-since "`) || strings.Contains(err.Error(), "\x1b") ||
			!strings.Contains(err.Error(), "2026-11-22T06:30:00Z") {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestEdits(t *testing.T) {
	long := strings.Repeat("a", 256)
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ab", 1}, {"abc", "xabc", 1}, {"abc", "acb", 2},
		{"kitten", "sitting", 3}, {"pattern", "paterns", 2}, {"flaw", "lawn", 2}, {"ABC", "abc", 3},
		{long, long, 0}, {long, long[1:], 1}, {long + "a", long, 257}, {long + "a", "", 257},
	} {
		if got, back := terminal.Edits(test.a, test.b), terminal.Edits(test.b, test.a); got != test.want || back != test.want {
			t.Errorf("%q, %q: %d, and the other way %d; want %d", test.a, test.b, got, back, test.want)
		}
	}
}
