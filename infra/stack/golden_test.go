package stack_test

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write the golden templates anew")

// Whole templates, so that a review sees what a change of the stack or of CDK does to what is deployed. The contract says what is right;
// these say what is different.
func TestTemplatesAreAsReviewed(t *testing.T) {
	for file, variant := range map[string]string{
		"testdata/dev.template.json":             "dev, low-latency",
		"testdata/prod-everything.template.json": "prod, high-volume, everything",
	} {
		got := templates(t)[variant].text
		if *update {
			if err := os.WriteFile(file, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if line := firstDifference(want, got); line != 0 {
			t.Errorf("%s: differs from the template of %q from line %d on: if that is meant, run `go test ./infra/stack -update` and review the difference", file, variant, line)
		}
	}
}

// firstDifference is the number of the first line that is not the same; 0 if all are.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return 0
	}
	as, bs := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(as), len(bs)) {
		if !bytes.Equal(as[i], bs[i]) {
			return i + 1
		}
	}
	return min(len(as), len(bs)) + 1
}
