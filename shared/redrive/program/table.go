package program

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/waybillhq/waybill/shared/redrive"
	"github.com/waybillhq/waybill/shared/terminal"
	"github.com/waybillhq/waybill/shared/topology"
)

// progressEvery is the time between two lines that say that something is going on.
const progressEvery = 5 * time.Second

func progress(o options, stderr io.Writer) func(redrive.Report) {
	last := time.Now()
	return func(r redrive.Report) {
		if time.Since(last) < progressEvery {
			return
		}
		last = time.Now()
		n := r.Moved
		if o.DryRun {
			n = r.Matched
		}
		fmt.Fprintf(stderr, "looked at %d, %s %d\n", r.Looked, done(o), n)
	}
}

func done(o options) string {
	if o.DryRun {
		return "would move"
	}
	return "moved"
}

// conclude prints the table and what else there is to know, and gives the exit status.
func conclude(o options, r redrive.Report, err error, stdout, stderr io.Writer) int {
	table(o, r, stdout)
	status := statusDone
	problem := func(format string, args ...any) {
		status = statusPartial
		fmt.Fprintf(stderr, format+"\n", args...)
	}
	note := func(n int, format string) {
		if n > 0 {
			fmt.Fprintf(stdout, format+"\n", n)
		}
	}
	note(r.Looked, "looked at %d messages")
	if !o.Filter.Unreadable {
		note(r.Unreadable, "%d cannot be read and were left: -unreadable moves them")
	}
	note(r.Newer, "%d came meanwhile and were left")
	note(r.Rotated, "%d that do not match were sent to the end of their queue")
	note(r.Elsewhere, "about %d messages are in flight with another reader, or with a run that was killed: they show again within "+
		redrive.DefaultHidden.String()+" of that (this count may be a minute old)")
	if r.LimitReached {
		fmt.Fprintf(stdout, "stopped at the limit of %d\n", o.Limit)
	}
	if r.Failed > 0 {
		problem("%d messages could not be moved and are still there: %v", r.Failed, r.FirstFailure)
	}
	if r.Undeleted > 0 {
		problem("%d messages were moved and could not be deleted: running again moves them again, and the ledger makes one delivery of the two", r.Undeleted)
	}
	if r.Stuck > 0 {
		problem("%d messages stay invisible for up to %v", r.Stuck, redrive.DefaultHidden)
	}
	if r.Unseen > 0 {
		advice := "run again with -rotate, which sends what does not match to the end of the queue"
		if o.Rotate || o.DryRun {
			advice = "run again later, when nobody else works on the queue"
		}
		if o.DryRun {
			advice = "the count is too low by as much as they match; the real move gets to them, with -rotate at the latest"
		}
		problem("about %d messages were not looked at, the queue gives the same ones again and again: %s", r.Unseen, advice)
	}
	switch {
	case errors.Is(err, context.Canceled):
		problem("interrupted: everything that was not moved is visible again; the same command goes on from here")
	case err != nil:
		problem("%v", err)
	}
	return status
}

// table prints the counts.
func table(o options, r redrive.Report, stdout io.Writer) {
	owner, total := "destination", 0
	if o.From == topology.IngressDeadLetter {
		owner = "tenant"
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\treason\tcode\t%s\n", owner, done(o))
	for _, g := range r.Groups {
		name := g.Destination
		if name == "" {
			name = g.Tenant
		}
		code := "-"
		if g.Code != 0 {
			code = strconv.Itoa(g.Code)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\n", shown(name), shown(g.Reason), code, g.Messages)
		total += g.Messages
	}
	fmt.Fprintf(w, "total\t\t\t%d\n", total)
	_ = w.Flush() // to standard output: nothing can be done about it
}

// shown is a name or a reason, which came from outside.
func shown(text string) string { return cmp.Or(terminal.Printable(text, 64), "-") }
