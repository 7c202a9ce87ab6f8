package awslocal

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// Fault makes calls go wrong. The first fields say which calls, the others how; several ways
// can be combined. Faults act on calls over HTTP, in both protocols, on their JSON documents.
type Fault struct {
	Service   string                   // such as "sqs"; empty: any
	Operation string                   // such as "SendMessage"; empty: any
	Match     func(body []byte) bool   // nil: any
	From      func(caller string) bool // by Call.Caller; nil: any
	Skip      int                      // how many matching calls to spare first
	Times     int                      // how many to hit after that; 0: all, until removed

	Delay           time.Duration            // wait before the call
	Error           *wire.Error              // refuse the call instead of performing it
	Throttle        bool                     // refuse it with the service's throttling error
	RewriteRequest  func(body []byte) []byte // perform another request instead
	Duplicate       bool                     // perform the call twice; the caller sees the first answer
	RewriteResponse func(body []byte) []byte // give another answer to a call that succeeded
	WithholdAnswer  bool                     // perform the call, then cut the connection

	// Before and After are called in the goroutine of a call that is hit, right before it is performed or refused and right after, before it is
	// answered. The call waits for them: what they do to its caller is done at that moment.
	Before, After func(Call)
}

// Faults are the faults planted at an endpoint. Safe for concurrent use.
type Faults struct {
	mu      sync.Mutex
	planted []*Planted
}

// Planted is a fault at work.
type Planted struct {
	fault      Fault
	faults     *Faults
	seen, hits int
}

// Add plants a fault. It acts on calls that arrive from now on.
func (f *Faults) Add(fault Fault) *Planted {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &Planted{fault: fault, faults: f}
	f.planted = append(f.planted, p)
	return p
}

// Clear removes all faults.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.planted = nil
}

// Remove takes the fault away. Calls that it has hit already are not changed by that.
func (p *Planted) Remove() {
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	p.faults.planted = slices.DeleteFunc(p.faults.planted, func(other *Planted) bool { return other == p })
}

// Hits gives how many calls the fault has hit.
func (p *Planted) Hits() int {
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	return p.hits
}

// effects are the faults that hit one call, in the order in which they were planted.
type effects []Fault

// hit finds the faults for a call and counts it against them.
func (f *Faults) hit(c Call) effects {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found effects
	for _, p := range f.planted {
		want := p.fault
		switch {
		case want.Service != "" && want.Service != c.Service, want.Operation != "" && want.Operation != c.Operation:
			continue
		case want.Times > 0 && p.hits >= want.Times, want.From != nil && !want.From(c.Caller), want.Match != nil && !want.Match(c.Request):
			continue
		}
		if p.seen++; p.seen > want.Skip {
			p.hits++
			found = append(found, want)
		}
	}
	return found
}

func (e effects) any(is func(Fault) bool) bool { return slices.ContainsFunc(e, is) }

// tell calls a hook of every fault that has it.
func (e effects) tell(c Call, hook func(Fault) func(Call)) {
	for _, f := range e {
		if do := hook(f); do != nil {
			do(c)
		}
	}
}

// wait waits as long as the faults together say, or until the caller has left.
func (e effects) wait(ctx context.Context) {
	var d time.Duration
	for _, f := range e {
		d += f.Delay
	}
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// refusal gives the first error that the faults ask for.
func (e effects) refusal(s service) *wire.Error {
	for _, f := range e {
		switch {
		case f.Error != nil:
			return f.Error
		case f.Throttle:
			throttled := s.throttled
			return &throttled
		}
	}
	return nil
}
