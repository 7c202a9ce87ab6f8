package program

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/shared/terminal"
)

// progress shows the state of a run: one line that is rewritten on a terminal, plain lines elsewhere, nothing with -json.
type progress struct {
	mu       sync.Mutex
	out      io.Writer // nil with -json
	terminal bool
	started  time.Time
	next     time.Time // not before
	last     string
}

func newProgress(o options, out io.Writer) *progress {
	p := &progress{out: out, started: time.Now()}
	if o.json {
		p.out = nil
	}
	if f, ok := out.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			p.terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return p
}

// The line is rewritten in place, and cut off at the right edge of the terminal, where a wrapped one would fill the screen.
const (
	rewrite = "\r\x1b[2K\x1b[?7l"
	wrap    = "\x1b[?7h"
)

// show tells the state if it is time to and something has changed.
func (p *progress) show(audit func() auditor.Books) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.out == nil || now.Before(p.next) {
		return
	}
	line := state(audit())
	// An audit reads everything there is: of many events it must not become the main work.
	p.next = now.Add(max(200*time.Millisecond, 5*time.Since(now)))
	if line == p.last {
		return
	}
	p.last = line
	line = fmt.Sprintf("%5.1fs  %s", now.Sub(p.started).Seconds(), line)
	if p.terminal {
		fmt.Fprint(p.out, rewrite+line+wrap)
		return
	}
	fmt.Fprintln(p.out, line)
	p.next = now.Add(max(time.Second, p.next.Sub(now)))
}

// tell says what somebody has done, on a line of its own.
func (p *progress) tell(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil {
		return
	}
	line := fmt.Sprintf("%5.1fs  %s", time.Since(p.started).Seconds(), text)
	if p.terminal {
		line = rewrite + line + wrap
	}
	fmt.Fprintln(p.out, line)
	p.last, p.next = "", time.Time{}
}

// end leaves the line that is rewritten.
func (p *progress) end() {
	if p.terminal && p.last != "" {
		fmt.Fprintln(p.out)
	}
}

// state says on one line where everything is; of what does not concern everybody, only what there is.
func state(b auditor.Books) string {
	line := terminal.Plural(b.Accepted, "event")
	if b.IngressDead > 0 {
		line += fmt.Sprintf(" (%d refused)", b.IngressDead)
	}
	if b.Missing > 0 {
		line += fmt.Sprintf(" (%d MISSING)", b.Missing)
	}
	return line + fmt.Sprintf(" → %d/%d delivered%s", b.Delivered, b.Deliveries, join(undelivered(b), ", ", ", "))
}

// undelivered counts the deliveries in each state but the good one, where there are any, worst first.
func undelivered(b auditor.Books) (counts []string) {
	for _, c := range []struct {
		n    int
		name string
	}{{b.Lost, "LOST"}, {b.Dead, "dead"}, {b.Parked, "parked"}, {b.Waiting, "waiting"}, {b.Queued, "queued"}} {
		if c.n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", c.n, c.name))
		}
	}
	return counts
}

// join is strings.Join with something in front, unless there is nothing to join.
func join(parts []string, front, between string) string {
	if len(parts) == 0 {
		return ""
	}
	return front + strings.Join(parts, between)
}
