package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Look implements Looker. A router may have read a version that this Cache has not, and sent a delivery for a destination that is new in it; so
// a destination that is not known is looked for by a refresh that began after the question. An answer that it does not exist holds for a
// second. Where no such refresh is possible - the store does not answer, the current version cannot be used, or too many refreshes have been
// forced within the second - the error says that it is undecided, ErrUndecided, and whoever asks must ask again later.
//
// A destination of CacheConfig.Fixed exists or not, without any question to the store.
func (c *Cache) Look(ctx context.Context, id string) (*Destination, bool, error) {
	if c.cfg.Fixed != nil {
		d, found := c.cfg.Fixed.Lookup(id)
		return d, found, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.begun
	for {
		if d, found := c.known(id); found {
			return d, true, nil
		}
		if since := c.now().Sub(c.missed[id]); since >= 0 && since < missedFor {
			return nil, false, nil
		}
		f, err := c.force(ctx)
		if err != nil {
			return nil, false, err
		}
		c.mu.Unlock()
		err = f.wait(ctx)
		c.mu.Lock()
		if err != nil {
			return nil, false, fmt.Errorf("%w: %w", ErrUndecided, err)
		}
		if f.order > asked {
			return c.decide(id, f)
		}
	}
}

// missedFor is how long the answer holds that a destination does not exist.
const missedFor = time.Second

// known finds a destination in what can be given out.
func (c *Cache) known(id string) (*Destination, bool) {
	if !c.usable() {
		return nil, false
	}
	return c.set.Lookup(id)
}

// force gives the refresh under way, or begins one if that is allowed now.
func (c *Cache) force(ctx context.Context) (*flight, error) {
	if c.flight != nil {
		return c.flight, nil
	}
	if c.pausing() {
		return nil, fmt.Errorf("%w: %w", ErrUndecided, c.failed)
	}
	now := c.now()
	c.looks = slices.DeleteFunc(c.looks, func(at time.Time) bool { return now.Sub(at) >= time.Second || now.Before(at) })
	if len(c.looks) >= c.cfg.Looks {
		return nil, fmt.Errorf("%w: %d others were looked for within the last second", ErrUndecided, len(c.looks))
	}
	c.looks = append(c.looks, now)
	return c.join(ctx), nil
}

// decide answers by what a refresh has found that began after the question.
func (c *Cache) decide(id string, f *flight) (*Destination, bool, error) {
	if d, found := c.known(id); found {
		return d, true, nil
	}
	switch {
	case c.unused != nil:
		return nil, false, fmt.Errorf("%w: %w", ErrUndecided, c.unused.err)
	case !c.usable():
		return nil, false, ErrUndecided
	}
	maps.DeleteFunc(c.missed, func(_ string, at time.Time) bool { return c.now().Sub(at) >= missedFor })
	c.missed[id] = f.began
	return nil, false, nil
}
