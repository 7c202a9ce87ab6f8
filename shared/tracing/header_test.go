package tracing_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/tracing"
)

const (
	root   = "1-6743a1b2-0123456789abcdef01234567"
	parent = "53995c3f42cd8ad8"
	given  = "Root=" + root + ";Parent=" + parent + ";Sampled=1"
)

func TestTraceparentFromHeader(t *testing.T) {
	const want = "00-6743a1b20123456789abcdef01234567-53995c3f42cd8ad8"
	for _, c := range []struct{ name, header, want string }{
		{"sampled", given, want + "-01"},
		{"not sampled", "Root=" + root + ";Parent=" + parent + ";Sampled=0", want + "-00"},
		{"undecided", "Root=" + root + ";Parent=" + parent + ";Sampled=?", want + "-00"},
		{"no decision", "Root=" + root + ";Parent=" + parent, want + "-00"},
		{"another order, other fields, spaces", " Sampled=1; Lineage=a87bd80c:1|68fd508a:5;Parent=" + parent + "; Self=1-6743a1b2-ffff;Root=" + root, want + "-01"},
		{"upper case", strings.ToUpper("root=") + strings.ToUpper(root) + ";PARENT=" + strings.ToUpper(parent) + ";sampled=1", want + "-01"},
		{"empty", "", ""},
		{"no parent", "Root=" + root + ";Sampled=1", ""},
		{"no root", "Parent=" + parent + ";Sampled=1", ""},
		{"parent of zeros", "Root=" + root + ";Parent=0000000000000000;Sampled=1", ""},
		{"root of zeros", "Root=1-00000000-000000000000000000000000;Parent=" + parent, ""},
		{"short parent", "Root=" + root + ";Parent=53995c3f42cd8ad", ""},
		{"long root", "Root=" + root + "0;Parent=" + parent, ""},
		{"dash at the wrong place", "Root=1-6743a1b20-123456789abcdef01234567;Parent=" + parent, ""},
		{"another dash", "Root=1-6743a1b2-0123456789abcdef-1234567;Parent=" + parent, ""},
		{"version 2", "Root=2-6743a1b2-0123456789abcdef01234567;Parent=" + parent, ""},
		{"not hexadecimal", "Root=1-6743a1b2-0123456789abcdef0123456g;Parent=" + parent, ""},
		{"line break", "Root=" + root + "\r\n;Parent=53995c3f42cd8a\r\n", ""},
		{"endless", given + ";" + strings.Repeat("x", 1000), ""},
	} {
		if got := tracing.Traceparent(c.header); got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestHeaderFromTraceparent(t *testing.T) {
	const ids = "6743a1b20123456789abcdef01234567-53995c3f42cd8ad8"
	unsampled := strings.TrimSuffix(given, "1") + "0"
	for _, c := range []struct{ name, traceparent, want string }{
		{"sampled", "00-" + ids + "-01", given},
		{"not sampled", "00-" + ids + "-00", unsampled},
		{"other flags", "00-" + ids + "-fe", unsampled},
		{"sampled among other flags", "00-" + ids + "-03", given},
		{"a later version", "01-" + ids + "-01", given},
		{"a later version that says more", "cc-" + ids + "-01-what-the-future-holds", given},
		{"a later version that is longer without saying more", "cc-" + ids + "-01x", ""},
		{"this version with a tail", "00-" + ids + "-01-more", ""},
		{"forbidden version", "ff-" + ids + "-01", ""},
		{"upper case", "00-" + strings.ToUpper(ids) + "-01", ""},
		{"flags not hexadecimal", "00-" + ids + "-0g", ""},
		{"flags in upper case", "00-" + ids + "-0B", ""},
		{"trace of zeros", "00-00000000000000000000000000000000-53995c3f42cd8ad8-01", ""},
		{"parent of zeros", "00-6743a1b20123456789abcdef01234567-0000000000000000-01", ""},
		{"dashes elsewhere", "00-6743a1b20123456789abcdef0123456-753995c3f42cd8ad8-01", ""},
		{"too many dashes", "00-6743a1b20123456789abcdef01234567-53995c3f42cd-ad8-01", ""},
		{"short", "00-" + ids, ""},
		{"empty", "", ""},
		{"endless", "01-" + ids + "-01-" + strings.Repeat("x", 1000), ""},
	} {
		if got := tracing.FromTraceparent(c.traceparent); got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestTraceIDOfHeader(t *testing.T) {
	for header, want := range map[string]string{
		given: root, "Root=" + root: root, "Root=" + strings.ToUpper(root): root, "": "", "Root=1-2-3": "", root: "", "Parent=" + parent: "",
	} {
		if got := tracing.TraceID(header); got != want {
			t.Errorf("%q: %q", header, got)
		}
	}
}

var traceparentForm = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$`)

// Whatever comes in, what comes out is well formed or nothing, and survives the way there and back.
func FuzzTraceparent(f *testing.F) {
	f.Add(given)
	f.Add("00-6743a1b20123456789abcdef01234567-53995c3f42cd8ad8-01")
	f.Add("cc-6743a1b20123456789abcdef01234567-53995c3f42cd8ad8-01-more")
	f.Add("Root=1-6743a1b2-0123456789abcdef01234567")
	f.Add("Root=;Parent=;Sampled=;=;;")
	f.Fuzz(func(t *testing.T, text string) {
		if out := tracing.Traceparent(text); out != "" {
			if !traceparentForm.MatchString(out) {
				t.Errorf("%q gives %q", text, out)
			}
			if back := tracing.FromTraceparent(out); tracing.Traceparent(back) != out || tracing.TraceID(back) != tracing.TraceID(text) {
				t.Errorf("%q gives %q, and that %q", text, out, back)
			}
		}
		if header := tracing.FromTraceparent(text); header != "" && !traceparentForm.MatchString(tracing.Traceparent(header)) {
			t.Errorf("%q gives %q", text, header)
		}
	})
}
