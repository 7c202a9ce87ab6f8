// Package ledger is Waybill's record of what has been delivered: one waybill per delivery, with claims, outcomes and
// fencing, so that an event sent twice, received twice or worked on by two functions at once has one effect.
//
// The protocol is in protocol.go as pure functions and data; README.md in this folder tells it in prose. A Store writes under its
// conditions; Ledger adds what every caller needs around a store: leases, owners, one claim for equal deliveries of
// a batch, relaxed mode, and patience with throttling and lost answers.
package ledger

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/retry"
)

// Config configures a Ledger. Store, LeaseGrace, TTL and LongestLease are required.
type Config struct {
	Store Store

	// LeaseGrace is added to the time left in the invocation when a lease is taken. It must be at least twice the
	// clock skew between any two workers; less, and a worker whose clock runs ahead takes over a live lease.
	LeaseGrace time.Duration
	// LongestLease is the lease when the context has no deadline. It must be shorter than the queue's visibility timeout.
	LongestLease time.Duration
	// TTL is how long a waybill is kept after its last change.
	TTL time.Duration
	// Patience bounds the time spent on repeating throttled or unanswered writes in one call, within the context's deadline.
	// Default 5 s.
	Patience time.Duration

	Now      func() time.Time // default time.Now
	NewOwner func() string    // default: 128 random bits; must never repeat
	Random   func() float64   // [0, 1), spreads repetitions; default math/rand
}

// Ledger claims, settles and releases deliveries. It is safe for concurrent use.
type Ledger struct{ cfg Config }

// New makes a Ledger. The error lists every missing or impossible setting.
func New(cfg Config) (*Ledger, error) {
	var problems []error
	if cfg.Store == nil {
		problems = append(problems, errors.New("ledger: Config.Store is missing: give a driver of shared/ledger/dynamo"))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"LeaseGrace", cfg.LeaseGrace}, {"LongestLease", cfg.LongestLease}, {"TTL", cfg.TTL}} {
		if d.value <= 0 {
			problems = append(problems, fmt.Errorf("ledger: Config.%s is %v, must be above 0: take it from the topology", d.name, d.value))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	cfg.Patience = cmp.Or(cfg.Patience, 5*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewOwner == nil {
		cfg.NewOwner = rand.Text
	}
	if cfg.Random == nil {
		cfg.Random = mathrand.Float64
	}
	return &Ledger{cfg}, nil
}

// Request asks for the right to make one attempt.
type Request struct {
	Delivery delivery.ID
	Epoch    int
	Attempt  int
	Replay   bool
	// Relaxed asks for no claim on a first attempt: the waybill is read, and the result recorded afterwards. Half the
	// writes, but two workers may both make the attempt; for receivers that ignore a webhook-id they have seen. A claim whose lease is over, from
	// when the destination was not relaxed, is taken over by a claim nevertheless.
	Relaxed bool
}

// Grant answers a Request. With Err set nothing is known about the delivery: come back later, make no attempt.
type Grant struct {
	Verdict    Verdict
	Leader     int       // index of the request whose claim this one shares; its own index unless an equal one came earlier
	Owner      string    // to settle or release with
	LeaseUntil time.Time // of the lease: one's own when Granted, the one in the way when Busy; zero without a claim
	Unclaimed  bool      // granted in relaxed mode: settle with the same flag
	Err        error
}

// Claim decides each request by the claim table and takes the leases it grants, in one call of the store per kind of
// write where all deliveries differ. Equal requests share the claim of the first, their Leader; different attempts of one delivery
// are claimed one after the other, the latest first. The lease is the time left until the context's deadline plus the grace.
func (l *Ledger) Claim(ctx context.Context, requests []Request) []Grant {
	grants := make([]Grant, len(requests))
	for _, round := range rounds(requests) {
		var strict, relaxed []int
		for _, i := range round {
			if requests[i].Relaxed && requests[i].Attempt == 1 {
				relaxed = append(relaxed, i)
			} else {
				strict = append(strict, i)
			}
		}
		l.claimRelaxed(ctx, requests, relaxed, grants)
		l.claimStrict(ctx, requests, strict, grants)
	}
	leaders := map[Request]int{}
	for i, r := range requests {
		if leader, ok := leaders[r]; ok {
			grants[i] = grants[leader]
			continue
		}
		leaders[r] = i
		grants[i].Leader = i
	}
	return grants
}

// rounds groups the first of all equal requests so that no round holds a delivery twice, later attempts first.
func rounds(requests []Request) [][]int {
	seen := map[Request]bool{}
	byDelivery := map[delivery.ID][]int{}
	var order []delivery.ID
	for i, r := range requests {
		if seen[r] {
			continue
		}
		seen[r] = true
		if byDelivery[r.Delivery] == nil {
			order = append(order, r.Delivery)
		}
		byDelivery[r.Delivery] = append(byDelivery[r.Delivery], i)
	}
	var out [][]int
	for _, id := range order {
		same := byDelivery[id]
		slices.SortStableFunc(same, func(a, b int) int {
			x, y := requests[a], requests[b]
			return cmp.Or(cmp.Compare(y.Epoch, x.Epoch), cmp.Compare(y.Attempt, x.Attempt))
		})
		for n, i := range same {
			if n == len(out) {
				out = append(out, nil)
			}
			out[n] = append(out[n], i)
		}
	}
	return out
}

func (l *Ledger) claim(ctx context.Context, r Request) Claim {
	now := l.cfg.Now()
	lease := l.cfg.LongestLease
	if deadline, ok := ctx.Deadline(); ok {
		lease = min(lease, deadline.Sub(now)+l.cfg.LeaseGrace)
	}
	return Claim{
		Delivery: r.Delivery, Epoch: r.Epoch, Attempt: r.Attempt, Replay: r.Replay, Owner: l.cfg.NewOwner(),
		Now: now, LeaseUntil: now.Add(lease), ExpiresAt: now.Add(l.cfg.TTL),
	}
}

func (l *Ledger) claimStrict(ctx context.Context, requests []Request, which []int, grants []Grant) {
	claims := make([]Claim, len(which))
	for n, i := range which {
		claims[n] = l.claim(ctx, requests[i])
	}
	answers := slices.Repeat([]Answer{{Err: errUnanswered}}, len(which))
	l.repeat(ctx, len(which), func(pending []int) {
		for _, i := range pending {
			claims[i].Now = l.cfg.Now() // the lease keeps its end: it was measured from the invocation's
		}
		for n, a := range l.cfg.Store.Claim(ctx, pick(claims, pending)) {
			answers[pending[n]] = a
		}
	}, func(n int) error { return answers[n].Err })
	for n, i := range which {
		g := Grant{Verdict: answers[n].Verdict, Owner: claims[n].Owner, LeaseUntil: claims[n].LeaseUntil, Err: answers[n].Err}
		if answers[n].Item != nil {
			g.LeaseUntil = answers[n].Item.LeaseUntil
		}
		grants[i] = g
	}
}

func (l *Ledger) claimRelaxed(ctx context.Context, requests []Request, which []int, grants []Grant) {
	ids := make([]delivery.ID, len(which))
	for n, i := range which {
		ids[n] = requests[i].Delivery
	}
	readings := slices.Repeat([]Reading{{Err: errUnanswered}}, len(which))
	l.repeat(ctx, len(which), func(pending []int) {
		for n, r := range l.cfg.Store.Read(ctx, pick(ids, pending)) {
			readings[pending[n]] = r
		}
	}, func(n int) error { return readings[n].Err })
	var abandoned []int
	for n, i := range which {
		c := l.claim(ctx, requests[i])
		g := Grant{Owner: c.Owner, Unclaimed: true, Err: readings[n].Err}
		if g.Err == nil {
			g.Verdict = Decide(readings[n].Item, c)
		}
		if readings[n].Item != nil {
			g.LeaseUntil = readings[n].Item.LeaseUntil
		}
		if item := readings[n].Item; g.Verdict == Granted && item != nil && item.State == Claimed {
			abandoned = append(abandoned, i)
			continue
		}
		grants[i] = g
	}
	// The claim of a worker that died while the destination was strict: no result is recorded over it, so it has to be taken over.
	l.claimStrict(ctx, requests, abandoned, grants)
}

// Close is the result of an attempt, to be settled.
type Close struct {
	Delivery  delivery.ID
	Epoch     int
	Attempt   int
	Replay    bool
	Owner     string
	Unclaimed bool // as in the Grant
	State     State
	Code      int
	Reason    string
}

// Settle writes results, at most one per delivery, and answers each: nil, ErrRefused when someone newer owns the delivery, or the
// error that kept it from being written for as long as patience and deadline allowed. A result that is refused or
// unwritten must not be tried again by making the attempt again.
func (l *Ledger) Settle(ctx context.Context, results []Close) []error {
	var claimed, unclaimed []int
	for i, r := range results {
		if r.Unclaimed {
			unclaimed = append(unclaimed, i)
		} else {
			claimed = append(claimed, i)
		}
	}
	errs := slices.Repeat([]error{errUnanswered}, len(results))
	l.settle(ctx, results, claimed, l.cfg.Store.Settle, errs)
	l.settle(ctx, results, unclaimed, l.cfg.Store.Record, errs)
	return errs
}

func (l *Ledger) settle(ctx context.Context, results []Close, which []int, write func(context.Context, []Settlement) []error, errs []error) {
	settlements := make([]Settlement, len(which))
	for n, i := range which {
		r, now := results[i], l.cfg.Now()
		settlements[n] = Settlement{
			Delivery: r.Delivery, Epoch: r.Epoch, Attempt: r.Attempt, Replay: r.Replay, Owner: r.Owner,
			State: r.State, Code: r.Code, Reason: r.Reason, Now: now, ExpiresAt: now.Add(l.cfg.TTL),
		}
	}
	l.repeat(ctx, len(which), func(pending []int) {
		for n, err := range write(ctx, pick(settlements, pending)) {
			errs[which[pending[n]]] = err
		}
	}, func(n int) error { return errs[which[n]] })
}

// Release gives claims back whose attempts could not start. A release that fails costs time, nothing else: the lease ends by itself.
func (l *Ledger) Release(ctx context.Context, claims []Request, owners []string) []error {
	releases := make([]Release, len(claims))
	for i, c := range claims {
		releases[i] = Release{Delivery: c.Delivery, Epoch: c.Epoch, Attempt: c.Attempt, Owner: owners[i], Now: l.cfg.Now()}
	}
	return l.cfg.Store.Release(ctx, releases)
}

// errUnanswered is the result of an entry for as long as the store has said nothing about it: silence is no success.
var errUnanswered = fmt.Errorf("%w: the store gave no answer for this entry", ErrUnknown)

// repeat runs do for all n entries, and again for those whose error may pass, with growing pauses, until patience or the context ends.
func (l *Ledger) repeat(ctx context.Context, n int, do func(pending []int), failed func(int) error) {
	if n == 0 {
		return
	}
	pending := make([]int, n)
	for i := range pending {
		pending[i] = i
	}
	end := l.cfg.Now().Add(l.cfg.Patience)
	for pause := 25 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		do(pending)
		pending = slices.DeleteFunc(pending, func(i int) bool { return !passing(failed(i)) })
		wait := time.Duration(float64(pause) * (0.5 + l.cfg.Random()))
		if len(pending) == 0 || l.cfg.Now().Add(wait).After(end) || !retry.SleepWithin(ctx, wait) {
			return
		}
	}
}

// passing tells whether the same write may succeed later: everything but success and a refusal by condition.
func passing(err error) bool {
	return err != nil && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrUnsupported)
}

func pick[T any](all []T, which []int) []T {
	out := make([]T, len(which))
	for n, i := range which {
		out[n] = all[i]
	}
	return out
}
