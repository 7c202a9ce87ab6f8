package layout

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```$")
	span    = regexp.MustCompile("`[^`\n]+`")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	linked  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// Every link from one document to a file, a folder or a heading leads there. Links to the web are not followed.
func TestLinksLeadSomewhere(t *testing.T) {
	followed := 0
	for _, document := range files(t, ".md") {
		text := span.ReplaceAllString(fence.ReplaceAllString(read(t, document), ""), "")
		for _, l := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(l[1], "://") || strings.HasPrefix(l[1], "mailto:") {
				continue
			}
			followed++
			file, anchor, _ := strings.Cut(l[1], "#")
			target := document
			if file != "" {
				target = path.Join(path.Dir(document), file)
			}
			if info, err := os.Stat(filepath.Join(root, target)); err != nil || strings.HasPrefix(target, "..") {
				t.Errorf("%s links to %s, which does not exist", document, l[1])
			} else if anchor != "" && (info.IsDir() || !anchors(read(t, target))[anchor]) {
				t.Errorf("%s links to %s, but there is no such heading", document, l[1])
			}
		}
	}
	if followed < 10 {
		t.Errorf("only %d links found", followed)
	}
}

// anchors gives the anchors that GitHub makes of a document's headings.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, h := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		title := linked.ReplaceAllString(h[1], "$1")
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, title)
		unique := slug
		for n := 1; all[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", slug, n)
		}
		all[unique] = true
	}
	return all
}

func TestAnchors(t *testing.T) {
	got := anchors("# `make run`: the *whole*, at once\n## Twice\n```sh\n# no heading\n```\n## Twice\n### [`infra`](infra) & co.\n")
	for _, want := range []string{"make-run-the-whole-at-once", "twice", "twice-1", "infra--co"} {
		if !got[want] {
			t.Errorf("no %s in %v", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("%v", got)
	}
}
