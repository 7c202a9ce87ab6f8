package batch

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/outcome"
)

// drain is how long Each waits for records under way after its context has ended.
const drain = 250 * time.Millisecond

var errUnfinished = errors.New("still running when time was up")

// Each makes a Func of a function for one record, which at most limit goroutines call at a time (1 if limit is below 1).
//
// A panic is that record's failure and nobody else's. No record is begun after the context has ended; those left get
// ErrNotStarted. A record that is still running a quarter of a second later is left behind and fails.
//
// On a FIFO queue the records of a group are handled in order, groups in parallel. A group stops at the first
// record that has to come back; one that is rejected leaves the queue, and its group goes on.
func Each(limit int, fn func(ctx context.Context, r Record) error) Func {
	return func(ctx context.Context, records []Record) []error {
		b := board{errs: slices.Repeat([]error{ErrNotStarted}, len(records))}
		free := make(chan struct{}, max(limit, 1))
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			var running sync.WaitGroup
			defer running.Wait()
			for _, lane := range lanes(records) {
				select {
				case free <- struct{}{}:
				case <-ctx.Done():
					return
				}
				running.Go(func() {
					defer func() { <-free }() // even if fn ends its goroutine
					b.follow(ctx, lane, records, fn)
				})
			}
		}()
		select {
		case <-finished:
		case <-ctx.Done():
			late := time.NewTimer(drain)
			defer late.Stop()
			select {
			case <-finished:
			case <-late.C:
			}
		}
		return b.close()
	}
}

// lanes lists what has to be handled one after the other: the records of a FIFO group, or a record alone.
func lanes(records []Record) [][]int {
	var all [][]int
	groups := map[string]int{}
	for i, r := range records {
		if !r.FIFO {
			all = append(all, []int{i})
			continue
		}
		at, ok := groups[r.Group]
		if !ok {
			at = len(all)
			groups[r.Group] = at
			all = append(all, nil)
		}
		all[at] = append(all[at], i)
	}
	return all
}

// board collects outcomes. Once closed it takes no more, so that a late record cannot change what was answered.
type board struct {
	mu     sync.Mutex
	errs   []error
	closed bool
}

func (b *board) set(i int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.errs[i] = err
	}
}

func (b *board) close() []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return b.errs
}

// follow handles the records of a lane until one has to come back.
func (b *board) follow(ctx context.Context, lane []int, records []Record, fn func(ctx context.Context, r Record) error) {
	for _, i := range lane {
		if ctx.Err() != nil {
			return
		}
		b.set(i, errUnfinished) // stays if fn hangs or ends its goroutine
		err := Protect(func() error { return fn(ctx, records[i]) })
		b.set(i, err)
		if kind := judge(err).Kind; kind != outcome.Acknowledged && kind != outcome.Rejected {
			return
		}
	}
}

// panicError is a panic that was caught.
type panicError struct {
	value string
	stack string
}

func (e *panicError) Error() string { return "panic: " + e.value }

// Protect calls fn and turns a panic into an error, which a Func may give as the outcome of the record concerned.
func Protect(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: bounded(func() string { return fmt.Sprint(p) }), stack: string(debug.Stack())}
		}
	}()
	return fn()
}

// judge understands an outcome. An error whose methods panic is as good as unknown.
func judge(err error) (o outcome.Error) {
	defer func() {
		if recover() != nil {
			o = outcome.Error{Kind: outcome.Retried, Err: err}
		}
	}()
	return outcome.Of(err)
}

// is and as are errors.Is and errors.As for errors that may panic when asked.
func is(err, target error) (found bool) {
	defer func() { _ = recover() }()
	return errors.Is(err, target)
}

func asPanic(err error) (p *panicError, found bool) {
	defer func() {
		if recover() != nil {
			p, found = nil, false
		}
	}()
	found = errors.As(err, &p)
	return p, found
}
