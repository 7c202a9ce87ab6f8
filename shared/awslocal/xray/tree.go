package xray

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of what Tree prints.
const (
	maxLines = 1000
	maxDepth = 30
	maxShown = 100 // characters of one text
)

// ErrNoTrace says that no span of a delivery is known: it was not traced, or is forgotten, or its spans have not arrived.
var ErrNoTrace = errors.New("xray: no trace of this delivery")

// Tree prints the journey of a delivery, one line for every span: its name, when it began (UTC; inside a trace as an offset from the trace's
// beginning), how long it took, its annotations, and what went wrong. Text from outside is quoted where it could be taken for something
// else, and cut. The error is ErrNoTrace, or w's.
func (d *Daemon) Tree(w io.Writer, delivery string) error {
	journey := d.Journey(delivery)
	if len(journey) == 0 {
		return fmt.Errorf("%w: %s", ErrNoTrace, show(delivery))
	}
	p := &printer{w: bufio.NewWriter(w)}
	var events []string
	for _, t := range journey {
		for _, s := range t.Segments {
			if id, ok := s.Annotations[annotationTrace].(string); ok && !slices.Contains(events, id) && len(events) < 10 {
				events = append(events, id)
			}
		}
	}
	head := []string{"delivery " + show(delivery)}
	for _, id := range events {
		head = append(head, "(event trace "+show(id)+")")
	}
	p.line(strings.Join(head, "  "))
	for _, t := range journey {
		p.trace(t)
	}
	if p.left > 0 {
		_, _ = fmt.Fprintf(p.w, "… and %d more\n", p.left) // an error is sticky and comes back from Flush
	}
	return p.w.Flush()
}

type printer struct {
	w     *bufio.Writer
	lines int
	left  int // lines that were too many
}

func (p *printer) line(text string) {
	if p.lines >= maxLines {
		p.left++
		return
	}
	p.lines++
	_, _ = p.w.WriteString(text + "\n") // an error is sticky and comes back from Flush
}

// forest is the segments of one trace by their parents.
type forest struct {
	begin    time.Time
	children map[string][]Segment
	printed  map[string]bool
}

func (p *printer) trace(t Trace) {
	f := &forest{begin: t.Segments[0].Start, children: map[string][]Segment{}, printed: map[string]bool{}}
	known := map[string]bool{}
	for _, s := range t.Segments {
		known[s.ID] = true
		f.children[s.ParentID] = append(f.children[s.ParentID], s)
	}
	for _, s := range t.Segments {
		switch {
		case f.printed[s.ID] || known[s.ParentID]:
		case s.Subsegment:
			p.line("(segment " + s.ParentID + " has not arrived)  " + clock(s.Start) + "  " + t.ID)
			p.below(f, s.ParentID, "", 1)
		default:
			p.head(f, s, t.ID)
		}
	}
	for _, s := range t.Segments { // parents in a circle
		if !f.printed[s.ID] {
			p.head(f, s, t.ID)
		}
	}
	if t.Others > 0 {
		p.line(fmt.Sprintf("   (%d of other events and deliveries not shown)", t.Others))
	}
}

// head prints a span that has no known parent, and what is below it.
func (p *printer) head(f *forest, s Segment, trace string) {
	f.printed[s.ID] = true
	p.line(describe(s, clock(s.Start)) + "  " + trace)
	p.below(f, s.ID, "", 1)
}

// below prints what is below a span.
func (p *printer) below(f *forest, parent, indent string, depth int) {
	children := slices.DeleteFunc(slices.Clone(f.children[parent]), func(s Segment) bool { return f.printed[s.ID] })
	for i, s := range children {
		f.printed[s.ID] = true
		branch, next := "├─ ", "│  "
		if i == len(children)-1 {
			branch, next = "└─ ", "   "
		}
		p.line(indent + branch + describe(s, "+"+short(s.Start.Sub(f.begin))))
		if depth >= maxDepth {
			next = "" // deeper ones stay in this column
		}
		p.below(f, s.ID, indent+next, depth+1)
	}
}

// describe is one span in one line.
func describe(s Segment, begin string) string {
	var b strings.Builder
	b.WriteString(show(s.Name))
	if attempt, ok := s.Annotations[annotationAttempt]; ok {
		b.WriteString(" " + text(attempt))
	}
	b.WriteString("  " + begin + "  ")
	if s.End.IsZero() {
		b.WriteString("in progress")
	} else {
		b.WriteString(short(s.End.Sub(s.Start)))
	}
	for _, key := range slices.Sorted(maps.Keys(s.Annotations)) {
		if key != annotationDelivery && key != annotationTrace && key != annotationAttempt {
			b.WriteString("  " + show(key) + "=" + text(s.Annotations[key]))
		}
	}
	if s.Status != 0 {
		b.WriteString("  http=" + strconv.Itoa(s.Status))
	}
	for _, mark := range []struct {
		set  bool
		word string
	}{{s.Fault, "fault"}, {s.Error && !s.Throttle, "error"}, {s.Throttle, "throttled"}} {
		if mark.set {
			b.WriteString("  " + mark.word)
		}
	}
	if s.Failure != "" {
		b.WriteString("  " + strconv.Quote(cut(s.Failure)))
	}
	return b.String()
}

// text is an annotation's value.
func text(value any) string {
	switch v := value.(type) {
	case string:
		return show(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprint(value) // true or false
}

// show gives a text from outside as it is if it is one harmless word, quoted otherwise.
func show(text string) string {
	text = cut(text)
	if quoted := strconv.Quote(text); len(quoted) != len(text)+2 || text == "" || strings.ContainsAny(text, " =()") {
		return quoted
	}
	return text
}

func cut(text string) string {
	if utf8.RuneCountInString(text) <= maxShown {
		return text
	}
	return string([]rune(text)[:maxShown]) + "…"
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// short gives a duration in three digits or so: "12 ms", "1.02 s", "3 min 20 s", "75 h 36 min".
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + short(-d)
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + " µs"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < time.Minute:
		return strconv.FormatFloat(d.Truncate(10*time.Millisecond).Seconds(), 'f', -1, 64) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
}
