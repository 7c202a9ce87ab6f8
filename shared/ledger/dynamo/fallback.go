package dynamo

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
)

const defaultAvoidFor = 5 * time.Minute

// FallbackOptions tune WithFallback. The zero value is fit for use.
type FallbackOptions struct {
	// AvoidFor is how long an operation that the primary store was refused goes straight to the secondary before one call tries
	// the primary again. Shorter finds a repaired permission sooner and pays one useless call each time. Default 5 minutes.
	AvoidFor time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// OnFallback, if set, hears of every call whose entries had to be redone, before the call returns. It is called concurrently and
	// must not block.
	OnFallback func(context.Context, Fallback)
}

// Fallback is one occasion on which the primary store was refused.
type Fallback struct {
	Operation string // "claim", "settle", "release", "record", "read"
	Entries   int    // how many entries were redone by the secondary store
	Cause     error  // the first refusal; it wraps ledger.ErrUnsupported
}

// FallbackStore writes through a primary store and redoes in a secondary what the primary was refused. It is safe for
// concurrent use if both stores are.
type FallbackStore struct {
	primary, secondary ledger.Store
	opts               FallbackOptions

	// One gate per operation, because DynamoDB permits INSERT and UPDATE apart.
	claim, settle, release, record, read gate
}

var _ ledger.Store = (*FallbackStore)(nil)

// WithFallback combines two stores over one table, as a rule the batch form and the item form. Entries that the primary answers with
// ledger.ErrUnsupported are redone by the secondary in the same call, so callers see a refusal only when both refuse. After
// that the operation avoids the primary for a while. Where the secondary is refused as well, the form is not what is wrong, and
// the primary is not avoided.
func WithFallback(primary, secondary ledger.Store, opts FallbackOptions) *FallbackStore {
	opts.AvoidFor = cmp.Or(opts.AvoidFor, defaultAvoidFor)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &FallbackStore{primary: primary, secondary: secondary, opts: opts}
}

// Claim implements ledger.Store.
func (s *FallbackStore) Claim(ctx context.Context, claims []ledger.Claim) []ledger.Answer {
	return through(ctx, s, "claim", &s.claim, claims, ledger.Store.Claim, func(a ledger.Answer) error { return a.Err })
}

// Settle implements ledger.Store.
func (s *FallbackStore) Settle(ctx context.Context, settlements []ledger.Settlement) []error {
	return through(ctx, s, "settle", &s.settle, settlements, ledger.Store.Settle, func(err error) error { return err })
}

// Release implements ledger.Store.
func (s *FallbackStore) Release(ctx context.Context, releases []ledger.Release) []error {
	return through(ctx, s, "release", &s.release, releases, ledger.Store.Release, func(err error) error { return err })
}

// Record implements ledger.Store.
func (s *FallbackStore) Record(ctx context.Context, settlements []ledger.Settlement) []error {
	return through(ctx, s, "record", &s.record, settlements, ledger.Store.Record, func(err error) error { return err })
}

// Read implements ledger.Store.
func (s *FallbackStore) Read(ctx context.Context, deliveries []delivery.ID) []ledger.Reading {
	return through(ctx, s, "read", &s.read, deliveries, ledger.Store.Read, func(r ledger.Reading) error { return r.Err })
}

// through runs one operation by way of the primary store, or around it while its gate is shut.
func through[In, Out any](ctx context.Context, s *FallbackStore, operation string, g *gate, entries []In,
	do func(ledger.Store, context.Context, []In) []Out, errOf func(Out) error) []Out {
	if len(entries) == 0 {
		return nil
	}
	usePrimary, probe := g.pass(s.opts.Now(), s.opts.AvoidFor)
	if !usePrimary {
		return do(s.secondary, ctx, entries)
	}
	results := do(s.primary, ctx, entries)
	var refused []int
	var redo []In
	for i, r := range results {
		if errors.Is(errOf(r), ledger.ErrUnsupported) {
			refused = append(refused, i)
			redo = append(redo, entries[i])
		}
	}
	if len(refused) == 0 {
		g.open(probe)
		return results
	}
	cause := errOf(results[refused[0]])
	helped := false
	for n, r := range do(s.secondary, ctx, redo) {
		results[refused[n]] = r
		helped = helped || !errors.Is(errOf(r), ledger.ErrUnsupported)
	}
	if helped {
		g.shut(s.opts.Now(), s.opts.AvoidFor)
	} else {
		g.open(probe)
	}
	if s.opts.OnFallback != nil {
		s.opts.OnFallback(ctx, Fallback{Operation: operation, Entries: len(refused), Cause: cause})
	}
	return results
}

// gate keeps an operation away from the primary store for a while. The zero gate is open.
type gate struct {
	until atomic.Pointer[time.Time] // nil: open
}

// pass tells whether to use the primary. When the time of a shut gate is over, exactly one caller is let through as a probe; for
// the others the gate stays shut until that one has found out, or for another d if it never does.
func (g *gate) pass(now time.Time, d time.Duration) (ok bool, probe *time.Time) {
	until := g.until.Load()
	if until == nil {
		return true, nil
	}
	if now.Before(*until) {
		return false, nil
	}
	next := now.Add(d)
	return g.until.CompareAndSwap(until, &next), &next
}

func (g *gate) shut(now time.Time, d time.Duration) {
	until := now.Add(d)
	g.until.Store(&until)
}

// open lets everyone through after a probe that was not refused. The success of any other call opens nothing: it may have begun before
// the refusal, or have sent nothing that could be refused.
func (g *gate) open(probe *time.Time) {
	if probe != nil {
		g.until.CompareAndSwap(probe, nil)
	}
}
