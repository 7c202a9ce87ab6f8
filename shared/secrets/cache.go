package secrets

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/waybillhq/waybill/shared/registry"
)

// keyring is what lies under an ARN. It never changes, and stays the same pointer while its keys do.
type keyring struct{ keys []registry.Secret }

// entry is what is known of an ARN. Resolver.mu guards it.
type entry struct {
	ring    *keyring      // what the service gave last; nil: nothing that may sign
	given   time.Time     // when it was asked for that
	refresh time.Duration // the age at which the ring is asked for again
	err     *Error        // of the latest try; nil if it succeeded
	tried   time.Time     // when the latest try ended
	flight  chan struct{} // closed when the try under way has ended; nil: none is
}

// age is how far the clock is from when the ring was given. A clock that was set back makes a ring old, not young for ever.
func (e *entry) age(now time.Time) time.Duration { return now.Sub(e.given).Abs() }

// look gives exactly one of three: keys that may sign, a channel to wait on before looking again, or an error. Whoever finds that it is time to
// ask the service starts that and waits; meanwhile others take the keys that are there, unless these are too old for anything but an
// outage and there has been none.
func (r *Resolver) look(ctx context.Context, arn string) (*keyring, <-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	e := r.entry(arn)
	fresh := e.ring != nil && e.age(now) < r.cfg.MaxAge
	sinceTry := now.Sub(e.tried).Abs()
	standing := e.err != nil && sinceTry < r.cfg.RetryAfter
	outage := e.err != nil && sinceTry < r.cfg.RetryAfter+2*r.cfg.CallTimeout // the next try included
	serves := e.ring != nil && e.age(now) < r.cfg.MaxStale
	switch {
	case fresh && (e.flight != nil || e.age(now) < e.refresh):
		return e.ring, nil, nil
	case e.flight == nil && !standing:
		e.flight = make(chan struct{})
		go r.try(context.WithoutCancel(ctx), arn, e) // the caller may leave; others wait for the answer too
		return nil, e.flight, nil
	case outage && serves:
		return e.ring, nil, nil
	case e.flight != nil:
		return nil, e.flight, nil
	}
	return nil, nil, e.err
}

// now is the wall clock: the monotonic one stands still while an environment is frozen.
func (r *Resolver) now() time.Time { return r.cfg.Now().Round(0) }

// entry gives what is known of the ARN.
func (r *Resolver) entry(arn string) *entry {
	if e, ok := r.entries[arn]; ok {
		return e
	}
	if len(r.entries) >= r.cfg.MaxCached {
		r.forget()
	}
	e := &entry{}
	r.entries[arn] = e
	return e
}

// forget makes room: any quarter of the entries goes, but for those that are being asked for.
func (r *Resolver) forget() {
	excess := r.cfg.MaxCached/4 + 1
	for arn, e := range r.entries {
		if excess > 0 && e.flight == nil {
			delete(r.entries, arn)
			excess--
		}
	}
}

// try asks the service once and writes down what it said.
func (r *Resolver) try(ctx context.Context, arn string, e *entry) {
	asked, keys, failed := r.ask(ctx, arn)
	if stale, known := r.note(e, asked, keys, failed); known {
		stale.ARN = arn
		r.cfg.OnStale(stale)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	close(e.flight)
	e.flight = nil
}

// note writes the outcome of a try down. It tells of one that failed while keys were known.
func (r *Resolver) note(e *entry, asked time.Time, keys []registry.Secret, failed *Error) (s Stale, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.tried, e.err = r.now(), failed
	if failed == nil {
		if e.ring == nil || !slices.EqualFunc(e.ring.keys, keys, equal) {
			e.ring = &keyring{keys}
		}
		e.given, e.refresh = asked, r.refreshAge()
		return Stale{}, false
	}
	if e.ring == nil {
		return Stale{}, false
	}
	s = Stale{Age: e.age(e.tried), Err: failed}
	if errors.Is(failed, ErrUnavailable) {
		s.Serves = s.Age < r.cfg.MaxStale
	} else {
		e.ring = nil // the service has answered: these keys are no longer what lies there
	}
	return s, true
}

// refreshAge is early enough for the answer to come before MaxAge, and spread, so that environments that began together do not ask together.
func (r *Resolver) refreshAge() time.Duration {
	latest := r.cfg.MaxAge - r.cfg.CallTimeout
	return latest - rand.N(latest/5)
}
