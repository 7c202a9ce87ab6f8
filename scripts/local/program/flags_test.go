package program

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/registry"
)

// TestRefusedFlags: what cannot be run is refused with exit status 2, each problem on a line that names the flag and what to do, all
// of them at once, and nothing on standard output.
func TestRefusedFlags(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	inUse := taken.Addr().String()

	invalid := write(t, "{\"destinations\": [\n  {\"id\": \"Shop\", \"tenant\": \"acme\", \"type\": \"webhook\",\n   \"webhook\": {\"url\": \"ftp://x\", \"secrets\": [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]}}]}")
	torn := write(t, `{"destinations": [`)
	huge := write(t, strings.Repeat(" ", registry.MaxFileBytes+100))
	missing := filepath.Join(t.TempDir(), "missing.json")
	example := func(broken string) string {
		return write(t, `{"destinations": [{"id": "a", "tenant": "*", "type": "webhook", `+broken+`}]}`)
	}
	webhook := `"webhook": {"url": "https://example.com", "secrets": ["` + secret + `"]}`

	tests := map[string]struct {
		args []string
		want []string // each on a line of its own
	}{
		"port in use":         {[]string{"-listen", inUse}, []string{"-listen: cannot listen on " + inUse + ", another program does: stop it, or choose another port"}},
		"no port":             {[]string{"-listen", "127.0.0.1"}, []string{`-listen "127.0.0.1": write host:port`}},
		"port too high":       {[]string{"-listen", "127.0.0.1:70000"}, []string{`-listen "127.0.0.1:70000": the port must be a number from 0 to 65535`}},
		"port by name":        {[]string{"-listen", "127.0.0.1:http"}, []string{`the port must be a number`}},
		"somebody's address":  {[]string{"-listen", "192.0.2.1:0"}, []string{`-listen: `}},
		"no destinations":     {[]string{"-destinations", missing}, []string{"-destinations: open " + missing + ": no such file or directory; name a destinations file, or leave the flag out"}},
		"a folder":            {[]string{"-destinations", filepath.Dir(missing)}, []string{"-destinations: read ", "is a directory"}},
		"invalid":             {[]string{"-destinations", invalid}, []string{"-destinations: " + invalid + ":2:10: destinations[0].id: ", "-destinations: " + invalid + ":3:23: destinations[0].webhook.url: "}},
		"torn":                {[]string{"-destinations", torn}, []string{"-destinations: " + torn + ":1:"}},
		"huge":                {[]string{"-destinations", huge}, []string{"-destinations: " + huge + ":1:1: the file has"}},
		"weak secret":         {[]string{"-destinations", example(`"webhook": {"url": "https://example.com", "secrets": ["whsec_c2hvcnQ="]}`)}, []string{"destinations[0].webhook.secrets[0]: "}},
		"CRLF in a header":    {[]string{"-destinations", example(`"webhook": {"url": "https://example.com", "secrets": ["` + secret + `"], "headers": {"x-a": "b\r\nc: d"}}`)}, []string{"destinations[0].webhook.headers"}},
		"reserved header":     {[]string{"-destinations", example(`"webhook": {"url": "https://example.com", "secrets": ["` + secret + `"], "headers": {"webhook-id": "1"}}`)}, []string{"destinations[0].webhook.headers"}},
		"unknown operator":    {[]string{"-destinations", example(webhook + `, "pattern": {"type": [{"sounds-like": "x"}]}`)}, []string{"destinations[0].pattern"}},
		"impossible schedule": {[]string{"-destinations", example(webhook + `, "retry": {"schedule": ["-1s"]}`)}, []string{"destinations[0].retry.schedule[0]: "}},
		"bad CIDR":            {[]string{"-egress-allow", "10.1.2.3/8,nonsense"}, []string{`-egress-allow: egress allow-list: "10.1.2.3/8"`, `-egress-allow: egress allow-list: "nonsense"`}},
		"bad profile":         {[]string{"-profile", "fast"}, []string{`-profile: profile "fast": choose "low-latency" or "high-volume"`}},
		"stray arguments":     {[]string{"-samples", "false", "-exit"}, []string{`arguments ["false"] are not understood`, "as in -samples=false"}},
		"unknown flag":        {[]string{"-port=80", "--", "-x"}, []string{"flag provided but not defined: -port; see -help", "-x"}},
		"no flag at all":      {[]string{"-exit", "-=", "---", "-json"}, []string{"bad flag syntax: -=; see -help", "bad flag syntax: ---; see -help"}},
		"no boolean":          {[]string{"-exit=perhaps"}, []string{`invalid boolean value "perhaps" for -exit`}},
		"no value":            {[]string{"-exit", "-profile"}, []string{"flag needs an argument: -profile"}},
		"all at once": {
			[]string{"-bogus", "stray", "-listen", inUse, "-destinations", invalid, "-egress-allow", "x", "-profile", "y", "-json"},
			[]string{"-bogus", `["stray"]`, "-listen: ", ":2:10:", ":3:23:", `-egress-allow: `, "-profile: "},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr buffer
			if status := Run(t.Context(), append([]string{"-listen", "127.0.0.1:0"}, test.args...), &stdout, &stderr); status != statusRefused {
				t.Errorf("exit status %d", status)
			}
			if stdout.String() != "" {
				t.Errorf("on standard output: %s", &stdout)
			}
			for _, want := range test.want {
				if n := strings.Count(stderr.String(), want); n != 1 {
					t.Errorf("%d times %q in\n%s", n, want, &stderr)
				}
			}
			if strings.Contains(stderr.String(), "MfKQ9r8") {
				t.Errorf("a secret is told: %s", &stderr)
			}
		})
	}
}

// TestRefusedStartLeavesPortFree: what was taken before a problem was found is given back.
func TestRefusedStartLeavesPortFree(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"-listen", "127.0.0.1:0", "-profile", "fast"})
	if err == nil || o.listener == nil {
		t.Fatal(o, err)
	}
	l, err := net.Listen("tcp", o.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var stdout, stderr buffer
	if status := Run(t.Context(), []string{"-bogus", "-help"}, &stdout, &stderr); status != statusDone || stderr.String() != "" {
		t.Errorf("exit status %d: %s", status, &stderr)
	}
	for _, flag := range []string{"-listen", "-destinations", "-samples", "-exit", "-egress-allow", "-json", "-profile", "-canary", "Exit status: 0"} {
		if !strings.Contains(stdout.String(), "\n  "+flag) && !strings.Contains(stdout.String(), "\n"+flag) {
			t.Errorf("help does not tell of %s:\n%s", flag, &stdout)
		}
	}
}

// TestBaseURL: queue URLs name a host that this machine can reach, whatever is listened on.
func TestBaseURL(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]struct {
		base    string
		exposed bool
	}{
		"127.0.0.1:0": {"http://127.0.0.1:", false},
		"localhost:0": {"http://localhost:", false},
		":0":          {"http://127.0.0.1:", true},
		"0.0.0.0:0":   {"http://127.0.0.1:", true},
	} {
		o, err := parse([]string{"-listen", listen})
		if err != nil {
			t.Fatal(err)
		}
		_ = o.listener.Close()
		if got := o.baseURL(); !strings.HasPrefix(got, want.base) || strings.HasSuffix(got, ":0") || o.exposed() != want.exposed {
			t.Errorf("%s: %s, exposed %v", listen, got, o.exposed())
		}
	}
}

// TestDestinationsFromAPipe: a file need not be a regular one.
func TestDestinationsFromAPipe(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/null"); err != nil {
		t.Skip(err)
	}
	_, err := parse([]string{"-listen", "127.0.0.1:0", "-destinations", "/dev/null"})
	if err == nil || !strings.Contains(err.Error(), "-destinations: /dev/null:1:1: ") {
		t.Errorf("%v", err)
	}
}
