package redrive

import (
	"path"
	"strings"
	"testing"
)

func FuzzGlob(f *testing.F) {
	for _, s := range [][2]string{{"", ""}, {"*", "x"}, {"a*b*c", "abcbc"}, {"a*", "b"}, {"**", ""}, {"*a*a", "aa"}, {"a*a", "a"}, {"*ab*ab*", "abab"}, {"é*", "é!"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 50 || len(text) > 200 || strings.ContainsAny(pattern, `?[]\/`) || strings.Contains(text, "/") {
			return
		}
		want, err := path.Match(pattern, text)
		if err == nil && glob(pattern, text) != want {
			t.Errorf("glob(%q, %q) = %t", pattern, text, !want)
		}
	})
}
