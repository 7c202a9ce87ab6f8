package program

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"github.com/waybillhq/waybill/shared/terminal"
)

// The verdicts.
const (
	verdictOK      = "ok"
	verdictFailed  = "failed"
	verdictSkipped = "skipped"
)

// verdict is what came of a check: what holds; or what was expected, what was seen and what to do; or why it was not made.
type verdict struct {
	Verdict  string `json:"verdict"`
	Holds    string `json:"holds,omitempty"`
	Expected string `json:"expected,omitempty"`
	Seen     string `json:"seen,omitempty"`
	Do       string `json:"do,omitempty"`
	Why      string `json:"why,omitempty"`
}

func holds(format string, args ...any) verdict {
	return verdict{Verdict: verdictOK, Holds: fmt.Sprintf(format, args...)}
}

func failed(expected, seen, do string) verdict {
	return verdict{Verdict: verdictFailed, Expected: expected, Seen: seen, Do: do}
}

func skipped(format string, args ...any) verdict {
	return verdict{Verdict: verdictSkipped, Why: fmt.Sprintf(format, args...)}
}

// unanswered is the verdict on a check that could not ask.
func unanswered(err error) verdict {
	do := "see scripts/smoke/README.md for the permissions that the program needs, then run it again"
	var api smithy.APIError
	if errors.As(err, &api) && strings.Contains(api.ErrorCode(), "Throttl") {
		do = "AWS is throttling this account: run it again later"
	}
	return failed("an answer", err.Error(), do)
}

// mostSeen bounds each text of a verdict, in characters: what was seen comes from outside.
const mostSeen = 1500

func (v *verdict) bound() {
	for _, text := range []*string{&v.Holds, &v.Expected, &v.Seen, &v.Do, &v.Why} {
		*text = printable(*text)
	}
}

// told is a verdict with its check, as -json has it.
type told struct {
	Kind  string `json:"kind"` // check
	Check string `json:"check"`
	verdict
	Milliseconds int64 `json:"milliseconds"`
}

// teller tells verdicts as they come, and counts them.
type teller struct {
	out   io.Writer
	json  *json.Encoder
	count *[3]int
}

func newTeller(asJSON bool, out io.Writer) teller {
	t := teller{out: out, count: &[3]int{}}
	if asJSON {
		t.json = json.NewEncoder(out)
		t.json.SetEscapeHTML(false)
	}
	return t
}

func (t teller) begin(s *session) {
	if t.json == nil {
		fmt.Fprintf(t.out, "%s, run %s\n", s.name(), s.run)
	}
}

// tell makes a check and tells its verdict, which it also returns. Once ctx has ended, nothing is asked any more.
func (t teller) tell(ctx context.Context, check string, ask func(context.Context) verdict) verdict {
	began := time.Now()
	var v verdict
	if ctx.Err() == nil {
		v = ask(ctx)
	}
	if ctx.Err() != nil && v.Verdict != verdictOK { // what it says is about the end, and not about the stack
		v = skipped("not finished: %v", context.Cause(ctx))
	}
	v.bound()
	switch v.Verdict {
	case verdictOK:
		t.count[0]++
	case verdictFailed:
		t.count[1]++
	default:
		t.count[2]++
	}
	if t.json != nil {
		_ = t.json.Encode(told{Kind: "check", Check: check, verdict: v, Milliseconds: time.Since(began).Milliseconds()})
		return v
	}
	switch v.Verdict {
	case verdictOK:
		fmt.Fprintf(t.out, "ok       %-24s %s\n", check, v.Holds)
	case verdictFailed:
		fmt.Fprintf(t.out, "FAILED   %-24s\n           expected  %s\n           seen      %s\n           do        %s\n", check, v.Expected, v.Seen, v.Do)
	default:
		fmt.Fprintf(t.out, "skipped  %-24s %s\n", check, v.Why)
	}
	return v
}

// end tells the numbers and gives the exit status.
func (t teller) end(s *session) int {
	held, failures, left := t.count[0], t.count[1], t.count[2]
	if t.json != nil {
		_ = t.json.Encode(map[string]any{
			"kind": "summary", "ok": held, "failed": failures, "skipped": left, "stack": s.stack, "stage": s.stage, "run": s.run,
		})
	} else {
		fmt.Fprintf(t.out, "%d ok, %d failed, %d skipped\n", held, failures, left)
	}
	if failures > 0 {
		return statusFails
	}
	return statusHolds
}

// printable makes a text from outside, of one line or several, one line that is fit for a terminal.
func printable(text string) string {
	return terminal.Printable(strings.ReplaceAll(text, "\n", " "), mostSeen)
}

// lines makes an error of several lines fit for a terminal.
func lines(text string) string {
	all := strings.Split(text, "\n")
	for i, line := range all {
		all[i] = printable(line)
	}
	return strings.Join(all, "\n")
}

// list joins what was found, the first few of it.
func list(found []string) string {
	const most = 12
	if len(found) > most {
		return strings.Join(found[:most], "; ") + fmt.Sprintf("; and %d more", len(found)-most)
	}
	return cmp.Or(strings.Join(found, "; "), "nothing")
}
