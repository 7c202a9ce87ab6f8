package program

import (
	"regexp"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/terminal"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/whereabouts"
)

// overdue is how late a delivery in the waiting room must be for the waker to be in trouble: it runs every minute, ahead of time.
const overdue = 5 * time.Minute

// next says what to do about it.
func (p *prose) next(a whereabouts.Answer) string {
	command := p.o.command(a)
	switch a.State {
	case whereabouts.Delivered:
		return "nothing: it has arrived"
	case whereabouts.Waiting:
		if !a.DueAt.IsZero() && p.now.Sub(a.DueAt) > overdue {
			return "look at the function " + string(topology.Waker) + ", its alarms and logs: this should have left the waiting room"
		}
		return "nothing: it is tried again by itself"
	case whereabouts.Parked:
		if command == "" {
			return "nothing: its destination may receive, and what is parked drains within minutes"
		}
		return command
	case whereabouts.Claimed:
		if a.LeaseUntil.After(p.now) {
			return "ask again when the claim has ended"
		}
		return "nothing: SQS shows its message again within " + minutes(topology.New(topology.LowLatency).Visibility(topology.Deliveries)) + " of its receive"
	}
	if a.Registry && !a.Known && a.Destination != "" {
		return "apply the destination again if it is still wanted, then: " + command
	}
	if a.Place == whereabouts.InDeadEvent {
		return "mend what is said above, then: " + command
	}
	return command
}

// command is the command that comes next, "" for none.
func (o *options) command(a whereabouts.Answer) string {
	s := a.DestinationState
	switch {
	case a.Place == whereabouts.InDeadEvent:
		return "go run ./scripts/redrive" + o.endpointFlag() + " -queue ingress" + reasonFlag(a) + " -dry-run"
	case a.State == whereabouts.Dead && a.Destination != "":
		return "go run ./scripts/redrive" + o.endpointFlag() + " -destination " + quote(a.Destination) + reasonFlag(a) + " -dry-run"
	case a.State == whereabouts.Dead && a.Event == "" && a.Place == whereabouts.InLedger:
		return "go run ./scripts/deliveries" + o.endpointFlag() + " -delivery " + quote(string(a.Delivery)) + " -queues"
	case a.State == whereabouts.Dead:
		return "go run ./scripts/redrive" + o.endpointFlag() + reasonFlag(a) + " -dry-run"
	case a.State == whereabouts.Parked && !s.Disabled.IsZero():
		return o.mark("enable", a, s)
	case a.State == whereabouts.Parked && !s.Paused.IsZero():
		return o.mark("resume", a, s)
	}
	return ""
}

// mark takes a mark away, and the other one too where there are both.
func (o *options) mark(command string, a whereabouts.Answer, s registry.State) string {
	line := func(command string) string {
		return "go run ./scripts/destinations " + command + o.endpointFlag() + " " + quote(a.Destination)
	}
	if command == "enable" && !s.Paused.IsZero() {
		return line("enable") + " && " + line("resume")
	}
	return line(command)
}

func reasonFlag(a whereabouts.Answer) string {
	if a.Reason == "" {
		return ""
	}
	return " -reason " + quote(a.Reason)
}

func (o *options) endpointFlag() string {
	if o.endpoint == "" {
		return ""
	}
	return " -endpoint-url " + quote(o.endpoint)
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+-]+$`)

// quote makes one word of a text for a POSIX shell. What cannot be printed becomes a question mark, and nobody types ids of thousands of characters.
func quote(s string) string {
	const most = 2000
	if s = terminal.Printable(s, most); plain.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return strings.Join(quoted, " ")
}
