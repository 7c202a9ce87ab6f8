package mapping

import (
	"context"
	"sync"
	"time"
)

// fleet is the pollers of a mapping between one Start and the next Stop. A poller handles one batch at a time, so the
// number of pollers is the concurrency.
type fleet struct {
	m         *Mapping
	ctx       context.Context //nolint:containedctx // its end is the order to stop polling
	stop      context.CancelFunc
	wg        sync.WaitGroup
	limit     int
	saturated chan struct{} // wakes the scaler; holds one token

	mu      sync.Mutex
	pollers int
	busy    int  // pollers whose batch is gathered and not settled
	resting bool // back-off: no growth until a batch succeeds
}

func newFleet(ctx context.Context, m *Mapping) *fleet {
	f := &fleet{m: m, limit: maxPollers, saturated: make(chan struct{}, 1)}
	if n := m.cfg.MaximumConcurrency; n > 0 {
		f.limit = n
	}
	f.ctx, f.stop = context.WithCancel(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grow(basePollers)
	f.wg.Go(f.scale)
	return f
}

func (f *fleet) size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pollers
}

// grow adds up to n pollers. f.mu is held, and the caller is one of the goroutines of f.wg or the first.
func (f *fleet) grow(n int) {
	if f.ctx.Err() != nil {
		return
	}
	for range min(n, f.limit-f.pollers) {
		f.pollers++
		f.wg.Go(f.poll)
	}
}

// scale adds pollers as long as all have work.
func (f *fleet) scale() {
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-f.saturated:
		}
		for f.sleep(rampEvery) && f.growIfBusy() {
		}
	}
}

// growIfBusy looks twice, because a poller that is between two batches at this very moment is not without work.
func (f *fleet) growIfBusy() bool {
	for range 2 {
		f.mu.Lock()
		all := f.busy == f.pollers && !f.resting
		if all {
			f.grow(rampPollers)
		}
		f.mu.Unlock()
		if all {
			return true
		}
		if !f.sleep(10 * time.Millisecond) {
			return false
		}
	}
	return false
}

// poll is one poller: receive, invoke, settle, again.
func (f *fleet) poll() {
	for f.ctx.Err() == nil {
		records := f.gather()
		if len(records) == 0 {
			if f.leaves(basePollers) {
				return
			}
			continue
		}
		f.setBusy(1)
		healthy := f.deliver(records)
		f.setBusy(-1)
		f.m.count(func(s *Stats) { s.InProgress-- })
		if healthy {
			f.heal()
		} else if f.leaves(minPollers) {
			return
		}
	}
	f.leaves(0)
}

// leaves takes the calling poller off the books if more than keep are there.
func (f *fleet) leaves(keep int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pollers <= keep {
		return false
	}
	f.pollers--
	return true
}

func (f *fleet) setBusy(delta int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy += delta
	if f.busy == f.pollers {
		select {
		case f.saturated <- struct{}{}:
		default:
		}
	}
}

// rest stops growth until a batch succeeds.
func (f *fleet) rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resting = true
}

// heal ends the back-off after a success.
func (f *fleet) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resting = false
	f.grow(basePollers - f.pollers)
}

// gather waits for a first message and, given a window, for more. A batch it returns is booked as in progress.
func (f *fleet) gather() []record {
	cfg := f.m.cfg
	records := f.receive(cfg.BatchSize)
	if len(records) == 0 {
		return nil
	}
	f.m.count(func(s *Stats) { s.InProgress++ })
	begin := time.Now()
	for time.Since(begin) < cfg.Window && len(records) < cfg.BatchSize && payloadBytes(records) < MaxPayloadBytes && f.ctx.Err() == nil {
		records = append(records, f.receive(cfg.BatchSize-len(records))...)
	}
	return records
}

// receive is one ReceiveMessage. A refused one is followed by a pause, so that a queue in trouble is not hammered.
func (f *fleet) receive(room int) []record {
	q := f.m.cfg.Queue
	messages, err := q.Receive(f.ctx, min(room, receiveMax), longPoll)
	expires := time.Now().Add(q.VisibilityTimeout())
	records := make([]record, 0, len(messages))
	for _, msg := range messages {
		r, encodeErr := newRecord(msg, q, expires)
		if encodeErr != nil { // cannot be with a Message of strings and bytes; the message returns to the queue
			err = encodeErr
			continue
		}
		records = append(records, r)
	}
	f.m.count(func(s *Stats) {
		s.Receives++
		s.Received += int64(len(messages))
		switch {
		case err != nil && f.ctx.Err() == nil:
			s.ReceiveErrors++
		case len(messages) == 0:
			s.EmptyReceives++
		}
	})
	if err != nil {
		f.sleep(retryFirst)
	}
	return records
}

// sleep waits and reports whether the fleet still polls.
func (f *fleet) sleep(d time.Duration) bool { return sleep(f.ctx, d) }

// sleep waits for d or for the end of ctx and reports that ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
