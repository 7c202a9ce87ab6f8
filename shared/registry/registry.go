// Package registry holds the destinations: where events go, which ones, signed with what and tried again how often.
//
// Parse reads them from a JSON file and checks everything that can be checked without calling anybody, so that a bad
// destination is refused when it is written and not when the first event is lost on it. Every problem is reported at
// once, with line, column, field and remedy; Schema lets editors do most of it. A Set never changes after Parse; a Source gives the current one.
//
// A Store keeps what was applied, version by version, and apart from it the states: who is paused and who disabled. A Cache is the Source over a
// Store, bounded in age and good for outages and rollbacks. Diff tells what applying a file would change.
//
// Secrets do not stand in the file: ARNs do, and Destination.WithSecrets puts in their place what they stand for, just before a call.
package registry

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/waybillhq/waybill/shared/pattern"
	"github.com/waybillhq/waybill/shared/retry"
)

// EveryTenant as a destination's tenant gives it the events of all of them.
const EveryTenant = "*"

// TypeWebhook is the type of destinations that receive HTTP requests signed as Standard Webhooks.
const TypeWebhook = "webhook"

// Destination is one place downstream. Destinations are shared by all who look them up and must not be changed.
type Destination struct {
	ID      string // unique in the set: a-z, 0-9 and hyphens, at most 63
	Tenant  string // whose events, or EveryTenant
	Type    string
	Webhook *Webhook         // set if Type is TypeWebhook
	Pattern *pattern.Pattern // which events; nil for all
	Retry   retry.Schedule
	Ledger  LedgerMode
	// Rate limits the calls, over all environments; nil: there is no limit.
	Rate *Rate
	// Concurrency is how many calls one environment has under way at once; 0: as many as a batch has deliveries.
	Concurrency int
	Reject      []int // status codes after which a delivery is never tried again, ascending; DefaultReject unless set

	// Life is how long after its event's acceptance a delivery is of use; then it is dropped instead of being tried or held, and none becomes a dead letter. 0: for
	// ever, which is so for all destinations but the canary.
	Life time.Duration

	patternText string // as it stands in the file, for Diff
}

// WithSecrets gives a copy of the destination that signs with these secrets and no others: what its ARNs stand for, and the keys that it
// carried itself. It is for the call that is about to be made; the set keeps the ARNs. The destination and the slice are not changed, nor
// may the slice be afterwards.
func (d *Destination) WithSecrets(keys []Secret) *Destination {
	with := *d
	if d.Webhook != nil {
		webhook := *d.Webhook
		webhook.Secrets = keys
		with.Webhook = &webhook
	}
	return &with
}

// Rejects reports whether an answer with that status code means that trying again is pointless.
func (d *Destination) Rejects(status int) bool {
	_, found := slices.BinarySearch(d.Reject, status)
	return found
}

// DefaultReject gives the status codes that say "this request will never be right": asking again would not help.
func DefaultReject() []int { return []int{400, 405, 411, 413, 414, 415, 422, 431, 501, 505} }

// Webhook is an HTTP endpoint.
type Webhook struct {
	URL     string   // absolute, http or https, without user name, password and fragment
	Secrets []Secret // 1 to 4, different, keys or ARNs of keys; all of them sign during a rotation, the first one first
	Headers []Header // in the order of the file; none that Waybill sets itself
	Timeout time.Duration
}

// Rate is a limit on calls: Limit in each Per on average, and Burst at once after a time without any.
type Rate struct {
	Limit int
	Per   time.Duration
	Burst int
}

// Interval is the time between two calls on average, rounded up.
func (r Rate) Interval() time.Duration {
	return (r.Per + time.Duration(r.Limit) - 1) / time.Duration(r.Limit)
}

// DefaultTimeout bounds a whole attempt, from connecting to the last byte of the answer, where nothing else is set.
const DefaultTimeout = 15 * time.Second

// LedgerMode says how much of a delivery is written down.
type LedgerMode int

const (
	// Strict claims every attempt before it is made. It is the default.
	Strict LedgerMode = iota
	// Relaxed writes only after the first attempt. It halves the writes and may repeat an attempt, so the receiver must
	// drop what it has seen, by webhook-id.
	Relaxed
)

// String gives the mode as it is written in a file.
func (m LedgerMode) String() string {
	switch m {
	case Strict:
		return "strict"
	case Relaxed:
		return "relaxed"
	}
	return fmt.Sprintf("LedgerMode(%d)", int(m))
}

// Set is a checked list of destinations. It is immutable and safe for concurrent use; the zero Set is empty.
type Set struct {
	ordered []*Destination
	byID    map[string]*Destination
	tenants map[string]*group // without EveryTenant
	every   *group            // the destinations of EveryTenant; nil if there are none
	states  map[string]State
}

// group holds the destinations of one tenant, which are matched together.
type group struct {
	orders []int // their places in the file, ascending
	index  *pattern.Index
}

func newSet(destinations []*Destination) *Set {
	s := &Set{
		ordered: destinations,
		byID:    make(map[string]*Destination, len(destinations)),
		tenants: make(map[string]*group),
	}
	places := make(map[string][]int)
	for i, d := range destinations {
		s.byID[d.ID] = d
		places[d.Tenant] = append(places[d.Tenant], i)
	}
	for tenant, orders := range places {
		patterns := make([]*pattern.Pattern, len(orders))
		for i, order := range orders {
			patterns[i] = destinations[order].Pattern
		}
		s.tenants[tenant] = &group{orders, pattern.NewIndex(patterns)}
	}
	s.every = s.tenants[EveryTenant]
	delete(s.tenants, EveryTenant)
	return s
}

// Lookup finds a destination by its id.
func (s *Set) Lookup(id string) (*Destination, bool) {
	d, ok := s.byID[id]
	return d, ok
}

// Match gives the destinations that want an event of that tenant, in the order of the file. Its cost grows with the event
// and with the destinations whose patterns it comes near, as pattern.Index says, not with how many there are. CanaryTenant is not one of those that
// EveryTenant means.
func (s *Set) Match(tenant string, e *pattern.Event) []*Destination {
	orders := s.tenants[tenant].match(e)
	if tenant != CanaryTenant {
		orders = append(orders, s.every.match(e)...)
	}
	slices.Sort(orders)
	wanted := make([]*Destination, len(orders))
	for i, order := range orders {
		wanted[i] = s.ordered[order]
	}
	return wanted
}

// match gives the places of those that want the event.
func (g *group) match(e *pattern.Event) []int {
	if g == nil {
		return nil
	}
	positions := g.index.Match(e)
	for i, position := range positions {
		positions[i] = g.orders[position]
	}
	return positions
}

// All gives every destination in the order of the file.
func (s *Set) All() iter.Seq[*Destination] { return slices.Values(s.ordered) }

// Len gives the number of destinations.
func (s *Set) Len() int { return len(s.ordered) }

// Source gives the current destinations. Implementations are safe for concurrent use and cheap to ask: once per batch.
// An error means that the destinations are not known now, which is a fault of ours and never a reason to drop anything.
type Source interface {
	Set(ctx context.Context) (*Set, error)
}

// Fixed is a Source that always gives the same set.
func Fixed(s *Set) Source { return fixed{s} }

type fixed struct{ set *Set }

// Set gives the set.
func (f fixed) Set(context.Context) (*Set, error) { return f.set, nil }
