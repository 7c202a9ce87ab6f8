package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	local "github.com/waybillhq/waybill/scripts/local/program"
)

// The reviewed template over a real run: what the dashboard asks for is what the functions publish and log, under these names, and what the local endpoint
// counts. A metric or a field that is renamed on one side has no data here.
func TestRunOfTheLocalSystemIsDrawn(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the whole system")
	}
	dir := t.TempDir()
	recorded, out := filepath.Join(dir, "run.jsonl"), filepath.Join(dir, "board.svg")
	var said bytes.Buffer
	if status := local.Run(t.Context(), []string{"-exit", "-listen", "127.0.0.1:0", "-stream", "1s", "-record", recorded}, &said, &said); status != 0 {
		t.Fatalf("the system ends with %d:\n%s", status, said.String())
	}
	said.Reset()
	if status := run([]string{"-run", recorded, "-o", out, filepath.Join("../..", goldenTemplate)}, &said, &said); status != 0 {
		t.Fatalf("status %d: %s", status, said.String())
	}
	picture, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, known := range []string{
		"accepted", "routed", "unmatched", "dropped", "refused", "put on the queue", "attempts", "delivered", "to be tried again", "parked", "dead", "p50", "p99",
		"ingress", "deliveries", "ingress-dlq", "deliveries, delayed", "waits for a retry", "were due", "were parked", "seconds behind", "router", "waker",
		"ledger, writes", "ledger, reads", "waiting, writes", "registry, reads",
	} {
		if !bytes.Contains(picture, []byte(">"+known+"<")) {
			t.Errorf("the picture has no data of %s", known)
		}
	}
	for _, ranked := range []string{">http-500 (", ">flaky (", ">hanging ("} {
		if !bytes.Contains(picture, []byte(ranked)) {
			t.Errorf("the picture has no %s", ranked)
		}
	}
	// Nobody knows which groups were noisy, nor what alarms a run without alarms would have raised.
	for _, unknown := range []string{">deliveries, quiet groups: no data<", "<title>no data</title>"} {
		if !bytes.Contains(picture, []byte(unknown)) {
			t.Errorf("the picture claims to know %s", unknown)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"-help"}, 0, "-run file"},
		{[]string{"-nonsense"}, 2, "nonsense"},
		{[]string{"a", "b"}, 2, "at most one template"},
		{[]string{"missing.json"}, 1, "missing.json"},
		{[]string{"main.go"}, 1, "not JSON"},
		{[]string{"-run", "missing.jsonl", filepath.Join("../..", goldenTemplate)}, 1, "missing.jsonl"},
	} {
		var out bytes.Buffer
		if status := run(test.args, &out, &out); status != test.status || !strings.Contains(out.String(), test.says) {
			t.Errorf("%q: status %d, %s", test.args, status, out.String())
		}
	}
}
