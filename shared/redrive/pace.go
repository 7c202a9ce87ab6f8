package redrive

import (
	"context"
	"time"
)

// pace spreads messages evenly over time. Time that was not used is lost: a pause is not followed by a burst.
type pace struct {
	perSecond int
	last      time.Time // when the last batch went, or the start
}

// batch is how many messages go together: a fifth of a second's, at most what one call takes.
func (p *pace) batch(most int) int { return min(max(p.perSecond/5, 1), most) }

// wait waits until n messages may go, or gives ctx's error.
func (p *pace) wait(ctx context.Context, n int) error {
	slot := p.last.Add(time.Duration(n) * time.Second / time.Duration(p.perSecond))
	if wait := time.Until(slot); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p.last = slot
	if now := time.Now(); now.After(slot) {
		p.last = now
	}
	return nil
}
