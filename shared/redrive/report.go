package redrive

import (
	"cmp"
	"slices"
)

// maxGroups bounds the table of a report: tenants and reasons come from outside.
const maxGroups = 1000

// Other stands for destination, tenant and reason of what a full table has no row for.
const Other = "(other)"

// Report says what a run has done so far, or in all.
type Report struct {
	Looked     int // messages that lay there when the run began and were looked at, each once
	Matched    int // of them, selected by the filter
	Moved      int // of them, accepted by the target
	Failed     int // of them, not accepted: they are still there
	Undeleted  int // moved, but still there too: the next run moves them again, to no effect
	Unreadable int // of those looked at
	Newer      int // came while the run was on, and were left
	Rotated    int // sent to the end of the dead-letter queue
	Stuck      int // could not be shown again: visible once Config.Hidden is over

	// Unseen is about how many messages were not looked at, and Elsewhere about how many of the queue are in flight with somebody else, an
	// earlier run that was killed for example. Both are SQS's approximations.
	Unseen, Elsewhere int

	Complete     bool // the whole queue was looked at
	LimitReached bool // Config.Limit ended the run
	FirstFailure error

	Groups []Group // of what was moved, or matched in a dry run; the largest first
}

// Group counts messages that have failed alike.
type Group struct {
	Destination string // of deliveries
	Tenant      string // of events; the first one where there are several
	Reason      string
	Code        int // 0: no answer
	Messages    int // 0 in a key
}

// tally counts groups.
type tally map[Group]int

func (t tally) add(l *letter) {
	g := Group{Destination: l.destination, Reason: l.reason, Code: l.code}
	if g.Destination == "" && len(l.tenants) > 0 {
		g.Tenant = l.tenants[0]
	}
	if _, ok := t[g]; !ok && len(t) >= maxGroups {
		g = Group{Destination: Other, Tenant: Other, Reason: Other}
	}
	t[g]++
}

func (t tally) groups() []Group {
	all := make([]Group, 0, len(t))
	for g, n := range t {
		g.Messages = n
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b Group) int {
		return cmp.Or(-cmp.Compare(a.Messages, b.Messages), cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.Tenant, b.Tenant),
			cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Code, b.Code))
	})
	return all
}
