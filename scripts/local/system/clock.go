package system

import (
	"context"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
)

// schedule runs a function by the clock, as EventBridge Scheduler does. A run that fails is not repeated, the next one comes soon enough. In the
// topology a run is over before the next; where time is compressed it need not be, and then the next one waits.
type schedule struct {
	function *mapping.Function
	every    time.Duration
}

// clock runs schedules.
type clock struct {
	mu   sync.Mutex
	stop context.CancelFunc // nil while it stands still
	runs sync.WaitGroup
}

// start runs each schedule at once and then regularly, until halt. It does nothing while the clock goes.
func (c *clock) start(ctx context.Context, schedules []schedule) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		return
	}
	ctx, c.stop = context.WithCancel(ctx)
	for _, s := range schedules {
		c.runs.Go(func() { c.tick(ctx, s) })
	}
}

func (c *clock) tick(ctx context.Context, s schedule) {
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for {
		// What the function reports and what fails is in its logs and in Function.Stats.
		_, _ = s.function.Invoke(context.WithoutCancel(ctx), []byte(`{}`))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// halt stops the clock and waits for running invocations, at most until ctx ends.
func (c *clock) halt(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop == nil {
		return nil
	}
	c.stop()
	c.stop = nil
	done := make(chan struct{})
	go func() {
		c.runs.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
