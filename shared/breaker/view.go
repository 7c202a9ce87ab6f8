package breaker

import (
	"context"
	"fmt"
	"time"
)

// entry is what this environment knows of a destination.
type entry struct {
	row   Row       // as it was last seen
	read  time.Time // when the call began that has shown it
	known Known
	tally tally // what was counted here and is not written yet

	throttledAt, throttledUntil time.Time // heard here, and perhaps not written yet

	written time.Time // when counts were last written
	failed  time.Time // when a call about it last failed
}

// effective is the row with what was heard here.
func (e *entry) effective() Row {
	row := e.row
	if e.throttledUntil.After(row.ThrottledUntil) {
		row.ThrottledAt, row.ThrottledUntil = e.throttledAt, e.throttledUntil
	}
	return row
}

// pausing says that a call about the destination has failed just now.
func (e *entry) pausing(now time.Time, pause time.Duration) bool {
	since := now.Sub(e.failed)
	return since >= 0 && since < pause
}

// entry gives what is known of a destination, to be changed. The lock is held.
func (b *Breaker) entry(destination string) *entry {
	e := b.entries[destination]
	if e == nil {
		e = &entry{}
		b.entries[destination] = e
	}
	return e
}

// renew reads all rows again when it is time. Who finds out waits for it; others go on with what they have. The lock is held, and given up meanwhile.
func (b *Breaker) renew(ctx context.Context, now time.Time, report *Report) {
	age := now.Sub(b.began)
	if age >= 0 && age < b.cfg.MaxAge || b.flight != nil && !b.began.IsZero() {
		return
	}
	if left := b.pause.Sub(now); left > 0 && left <= b.cfg.Pause { // more is a clock that was set back
		return
	}
	if flight := b.flight; flight != nil {
		b.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
		}
		b.mu.Lock()
		return
	}
	flight := make(chan struct{})
	b.flight = flight
	b.mu.Unlock()
	rows, err := b.readAll(ctx)
	b.mu.Lock()
	b.flight = nil
	close(flight)
	if err != nil {
		b.pause = b.now().Add(b.cfg.Pause)
		if report != nil {
			report.Failed++
		}
		b.cfg.OnProblem(err)
		return
	}
	b.began = now
	b.replace(rows, now)
}

func (b *Breaker) readAll(ctx context.Context) (map[string]Row, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	rows, err := b.cfg.Store.All(ctx)
	if err != nil {
		return nil, fmt.Errorf("the health of destinations cannot be read: %w", err)
	}
	return rows, nil
}

// replace takes over what a reading that began at began has shown. It may be behind what this environment has seen of single rows. The lock is held.
func (b *Breaker) replace(rows map[string]Row, began time.Time) {
	for destination, row := range rows {
		e := b.entry(destination)
		if row.Turn >= e.row.Turn && !e.read.After(began) {
			b.see(destination, e, row, began)
		}
	}
	for destination, e := range b.entries {
		if _, is := rows[destination]; !is && e.row.Turn == 0 && !e.read.After(began) {
			b.see(destination, e, Row{}, began)
		}
		if e.row.Turn == 0 && e.row.At.IsZero() && e.tally.over(b.cfg.Rules, began) && !e.throttledUntil.After(began) {
			delete(b.entries, destination)
		}
	}
}

// install takes over a row that was read consistently, or that a write has shown, and gives it with what was heard here.
func (b *Breaker) install(destination string, row Row, began time.Time) Row {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(destination)
	e.failed = time.Time{}
	b.see(destination, e, row, began)
	return e.effective()
}

// see takes over a row, and notes since when is known what it says. What was not looked at for long may have changed meanwhile. The lock is held.
func (b *Breaker) see(destination string, e *entry, row Row, began time.Time) {
	gap := began.Sub(e.read)
	if gap < 0 || gap > 2*b.cfg.MaxAge || !row.SuspectSince.Equal(e.row.SuspectSince) {
		e.known.Trouble = time.Time{}
	}
	if !row.SucceededAt.Equal(e.row.SucceededAt) {
		e.known.Success = began
	}
	e.row, e.read = row, began
	if !b.cfg.Rules.Everybody(row, began) {
		e.known.Trouble = time.Time{}
	} else {
		if e.known.Trouble.IsZero() {
			e.known.Trouble = began
		}
		// Also where nothing more is done for the destination here: others need what was counted before.
		b.dirty[destination] = struct{}{}
	}
	if !e.throttledUntil.After(began) {
		e.throttledAt, e.throttledUntil = time.Time{}, time.Time{}
	}
}
