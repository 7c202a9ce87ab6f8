package program

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/terminal"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/whereabouts"
)

// Bounds of what comes from outside, in characters.
const (
	mostText    = 120
	mostError   = 2000
	mostPayload = 8000
	mostNames   = 10 // destinations without a trace
)

// prose tells everything in words.
type prose struct {
	w   io.Writer
	o   *options
	now time.Time
}

func (p *prose) line(label, text string, args ...any) {
	fmt.Fprintf(p.w, "  %-12s%s\n", label, fmt.Sprintf(text, args...))
}

func (p *prose) answer(a whereabouts.Answer) {
	fmt.Fprintf(p.w, "%s: %s\n", strings.ToUpper(string(a.State)), subject(a))
	p.line("state", "%s", p.state(a))
	if a.Code != 0 || a.Reason != "" {
		label := "last answer"
		if a.Code == 0 {
			label = "why"
		}
		p.line(label, "%s", result(a))
	}
	if a.Event != "" && (a.Source != "" || a.Type != "") {
		of := []string{}
		for _, part := range []struct{ name, value string }{{"source", a.Source}, {"type", a.Type}, {"tenant", a.Tenant}} {
			if part.value != "" {
				of = append(of, part.name+" "+text(part.value))
			}
		}
		p.line("event", "%s", strings.Join(of, ", "))
	}
	if !a.AcceptedAt.IsZero() {
		p.line("accepted", "%s", p.at(a.AcceptedAt))
	}
	if a.Destination != "" && a.Registry {
		p.line("destination", "%s", p.destination(a))
	}
	if a.Delivery != "" {
		p.line("delivery", "%s", text(string(a.Delivery)))
	}
	if a.Leftover {
		p.line("note", "an old dead letter of it lies in %s: moving it back does nothing", topology.DeliveriesDeadLetter)
	}
	if p.o.Payload {
		p.payload(a)
	}
	p.line("next", "%s", p.next(a))
	fmt.Fprintln(p.w)
}

func subject(a whereabouts.Answer) string {
	switch {
	case a.Event == "" && a.Destination == "":
		return "delivery " + text(string(a.Delivery)) + " (the ledger does not say of which event: the deliverer's logs do, field \"delivery\")"
	case a.Event == "":
		return "a delivery to " + text(a.Destination)
	case a.Destination == "":
		return "event " + text(a.Event) + ", never routed to any destination"
	}
	return "event " + text(a.Event) + " to " + text(a.Destination)
}

// state says where it stands.
func (p *prose) state(a whereabouts.Answer) string {
	switch a.State {
	case whereabouts.Delivered:
		return "delivered " + p.at(a.ChangedAt) + " by " + attempt(a)
	case whereabouts.Waiting:
		return p.waiting(a)
	case whereabouts.Parked:
		return fmt.Sprintf("held %s, before attempt %d, because its destination may not receive; it spends no attempts meanwhile", p.since(a.HeldSince), a.NextAttempt)
	case whereabouts.Claimed:
		switch {
		case a.LeaseUntil.IsZero():
			return attempt(a) + " was given back before it began: the message is on the queue " + string(topology.Deliveries) + " or " + string(topology.DeliveriesSlow)
		case a.LeaseUntil.After(p.now):
			return fmt.Sprintf("a worker is making %s, begun %s; nobody else may until %s", attempt(a), p.at(a.ChangedAt), p.at(a.LeaseUntil))
		}
		return fmt.Sprintf("the worker that made %s has died, or could not write its result: its claim ended %s", attempt(a), p.at(a.LeaseUntil))
	case whereabouts.Dead:
		if a.Place == whereabouts.InDeadEvent {
			return "refused or given up " + p.at(a.ChangedAt) + "; it lies in " + string(a.Place)
		}
		where := "its letter should lie in " + string(whereabouts.InDead)
		if a.Place == whereabouts.InDead {
			where = "its letter lies in " + string(a.Place)
		}
		return fmt.Sprintf("given up %s after %s; %s", p.at(a.ChangedAt), attempt(a), where)
	}
	return "in a state that this release does not know"
}

func (p *prose) waiting(a whereabouts.Answer) string {
	failed := ""
	if a.Attempt > 0 {
		failed = fmt.Sprintf("; %s failed %s", attempt(a), p.at(a.ChangedAt))
	}
	switch {
	case a.Place == whereabouts.InRoom && !a.DueAt.IsZero():
		return fmt.Sprintf("attempt %d is due %s, from the waiting room%s", a.NextAttempt, p.at(a.DueAt), failed)
	case a.Place == whereabouts.OnQueue:
		return fmt.Sprintf("attempt %d is on the deliveries queue, due within %v%s", a.NextAttempt, minutes(topology.New(topology.LowLatency).Limits.LongestDelay), failed)
	}
	return fmt.Sprintf("attempt %d is to come, from the waiting room or the deliveries queue%s", a.NextAttempt, failed)
}

func attempt(a whereabouts.Answer) string {
	s := "attempt " + strconv.Itoa(a.Attempt)
	if a.Attempt == 0 {
		s = "no attempt"
	}
	if a.Epoch > 0 {
		s += fmt.Sprintf(" (restart %d)", a.Epoch)
	}
	return s
}

func result(a whereabouts.Answer) string {
	var parts []string
	if a.Code != 0 {
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("status %d %s", a.Code, http.StatusText(a.Code))))
	}
	if a.Reason != "" {
		parts = append(parts, "reason "+text(a.Reason))
	}
	if a.Detail != "" {
		parts = append(parts, text(a.Detail))
	}
	return strings.Join(parts, ", ")
}

func (p *prose) destination(a whereabouts.Answer) string {
	s := a.DestinationState
	var parts []string
	if !s.Paused.IsZero() {
		parts = append(parts, "paused "+p.since(s.Paused))
	}
	if !s.Disabled.IsZero() {
		parts = append(parts, "disabled "+p.since(s.Disabled)+", because it answered 410")
	}
	if !a.Known {
		parts = append(parts, "not in the registry: it was deleted, or never applied")
	}
	if len(parts) == 0 {
		return "may receive"
	}
	if s.Note != "" {
		parts = append(parts, "note: "+text(s.Note))
	}
	if s.By != "" {
		parts = append(parts, "by "+text(s.By))
	}
	return strings.Join(parts, "; ")
}

func (p *prose) payload(a whereabouts.Answer) {
	switch {
	case !a.HasPayload && a.State == whereabouts.Dead && !p.o.DeadLetters:
		p.line("payload", "in its dead letter: add -queues")
	case !a.HasPayload:
		p.line("payload", "not kept: the ledger has none, and queues that functions read are not looked at")
	default:
		p.line("payload", "%d bytes", len(a.Payload))
		fmt.Fprintln(p.w, "    "+terminal.Printable(string(a.Payload), mostPayload))
	}
}

// conclude tells about the search as a whole.
func (p *prose) conclude(r whereabouts.Report) {
	if r.Found == 0 && r.Next == "" && r.Failed == nil {
		p.nothing(r)
	} else if len(r.Without) > 0 {
		p.without(r)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(p.w, "note: "+terminal.Printable(n, mostError))
	}
	found := strconv.Itoa(r.Found) + " found"
	if r.Letters > 0 {
		found += fmt.Sprintf(", looked at %d dead-lettered", r.Letters)
	}
	fmt.Fprintf(p.w, "%s, %s read units\n", found, strconv.FormatFloat(r.Units, 'f', -1, 64))
	if r.Next != "" {
		fmt.Fprintf(p.w, "there is more: go run ./scripts/deliveries %s -after %s\n", quoteAll(p.o.again), r.Next)
	}
}

// without tells of destinations that have no trace of the event.
func (p *prose) without(r whereabouts.Report) {
	names := make([]string, min(len(r.Without), mostNames))
	for i := range names {
		names[i] = text(r.Without[i])
	}
	more := ""
	if len(r.Without) > mostNames {
		more = fmt.Sprintf(" and %d more", len(r.Without)-mostNames)
	}
	fmt.Fprintf(p.w, "no trace for %s%s: they do not want it, or their first attempt has not begun\n", strings.Join(names, ", "), more)
}

// nothing says what it can mean that nothing was found.
func (p *prose) nothing(r whereabouts.Report) {
	depth := map[topology.QueueName]string{}
	for _, d := range r.Depths {
		depth[d.Queue] = fmt.Sprintf(" (now about %d waiting, %d in work, %d delayed)", d.Visible, d.InFlight, d.Delayed)
	}
	dead := func(name topology.QueueName) string {
		if p.o.DeadLetters {
			return "it is not in " + string(name)
		}
		return "add -queues to look into " + string(name) + depth[name]
	}
	due := fmt.Sprintf("It is on %s then%s, or on %s%s if its destination answers slowly",
		topology.Deliveries, depth[topology.Deliveries], topology.DeliveriesSlow, depth[topology.DeliveriesSlow])
	switch {
	case p.o.Event != "":
		fmt.Fprintf(p.w, "NOT FOUND: event %s\n", text(p.o.Event))
		if len(p.o.Sources) == 0 {
			fmt.Fprintln(p.w, "  - Give its -source: without it the ledger can hardly be asked")
		} else {
			fmt.Fprintln(p.w, "  - Another source or tenant? Both are part of a delivery's id, to the letter")
		}
		fmt.Fprintf(p.w, "  - Not routed yet? It is on %s then%s\n", topology.Ingress, depth[topology.Ingress])
		fmt.Fprintf(p.w, "  - No event, by our rules? %s\n", dead(topology.IngressDeadLetter))
		fmt.Fprintln(p.w, "  - Wanted by no destination? The router counted it as unmatched; go run ./scripts/destinations list"+p.o.endpointFlag())
		fmt.Fprintln(p.w, "  - Routed, and its first attempt has not begun? "+due)
		fmt.Fprintf(p.w, "  - Given up before its first attempt, such as for a deleted destination? %s\n", dead(topology.DeliveriesDeadLetter))
		fmt.Fprintln(p.w, "  - Never sent, or longer ago than waybills are kept?")
	case p.o.Delivery != "":
		fmt.Fprintf(p.w, "NOT FOUND: delivery %s\n", text(string(p.o.Delivery)))
		fmt.Fprintln(p.w, "  - Its first attempt has not begun? "+due)
		fmt.Fprintf(p.w, "  - Given up before its first attempt? %s\n", dead(topology.DeliveriesDeadLetter))
		fmt.Fprintln(p.w, "  - A webhook-id of a replay under a new id? The logs have both")
	default:
		fmt.Fprintln(p.w, "NOTHING FITS")
	}
}

// at tells a time, and how far it is away.
func (p *prose) at(t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return t.UTC().Format(time.RFC3339) + " (" + p.distance(t) + ")"
}

func (p *prose) since(t time.Time) string {
	if t.IsZero() {
		return "since an unknown time"
	}
	return "since " + p.at(t)
}

func (p *prose) distance(t time.Time) string {
	switch d := t.Sub(p.now).Round(time.Second); {
	case d > 0:
		return "in " + minutes(d)
	case d < 0:
		return minutes(-d) + " ago"
	}
	return "now"
}

// minutes writes a duration with its two largest units.
func minutes(d time.Duration) string {
	const day = 24 * time.Hour
	two := func(large, small time.Duration, a, b string) string {
		s := fmt.Sprintf("%d%s", d/large, a)
		if rest := d % large / small; rest > 0 {
			s += fmt.Sprintf("%d%s", rest, b)
		}
		return s
	}
	switch {
	case d >= day:
		return two(day, time.Hour, "d", "h")
	case d >= time.Hour:
		return two(time.Hour, time.Minute, "h", "m")
	case d >= time.Minute:
		return two(time.Minute, time.Second, "m", "s")
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

func text(s string) string { return terminal.Printable(s, mostText) }
