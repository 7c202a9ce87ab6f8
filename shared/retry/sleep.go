package retry

import (
	"context"
	"time"
)

// Sleep waits and tells whether ctx is still alive. It returns as soon as ctx ends.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// SleepWithin is Sleep, but gives false at once where ctx would end before: its caller has better uses for what is left of the time.
func SleepWithin(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return false
	}
	return Sleep(ctx, d)
}
