package sqs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// answer is what a batch call says of its entries, whose ids are their positions in the call.
type answer struct {
	done   []string
	failed []types.BatchResultErrorEntry
}

// caller makes the batch calls of one Send or ChangeVisibility. Calls touch disjoint elements of errs.
type caller struct {
	opts   Options
	errs   []error
	repeat bool // entries that failed without the sender's fault are tried once more
	call   func(ctx context.Context, entries []int) (answer, error)
}

// all makes one call for each batch, a bounded number at a time, and returns when all have ended.
func (c *caller) all(ctx context.Context, batches [][]int) {
	if len(batches) == 1 {
		c.one(ctx, batches[0])
		return
	}
	next := make(chan []int)
	var wg sync.WaitGroup
	for range min(c.opts.Concurrency, len(batches)) {
		wg.Go(func() {
			for entries := range next {
				c.one(ctx, entries)
			}
		})
	}
	for _, entries := range batches {
		next <- entries
	}
	close(next)
	wg.Wait()
}

// inOrder makes one call after the other and leaves out what follows a failed message of the same group.
func (c *caller) inOrder(ctx context.Context, batches [][]int, group func(i int) string) {
	failed := map[string]int{} // position of the first message that was not accepted, by group
	note := func(i int) {
		if at, ok := failed[group(i)]; c.errs[i] != nil && (!ok || i < at) {
			failed[group(i)] = i
		}
	}
	for i := range c.errs {
		note(i) // refused before any call
	}
	for _, entries := range batches {
		var open []int
		for _, i := range entries {
			if at, ok := failed[group(i)]; ok && i > at {
				c.errs[i] = fmt.Errorf("%w: message group %q", ErrBlocked, group(i))
				continue
			}
			open = append(open, i)
		}
		if len(open) > 0 {
			c.one(ctx, open)
		}
		for _, i := range open {
			note(i)
		}
	}
}

// one makes the call for a batch and, at most once, another for those of its entries that may yet succeed.
func (c *caller) one(ctx context.Context, entries []int) {
	c.try(ctx, entries)
	if !c.repeat {
		return
	}
	var again []int
	for _, i := range entries {
		var refused *EntryError
		if errors.As(c.errs[i], &refused) && !refused.SenderFault {
			again = append(again, i)
		}
	}
	if len(again) > 0 && c.pause(ctx) {
		c.try(ctx, again)
	}
}

// try makes one call. Every entry's error is what this call says of it.
func (c *caller) try(ctx context.Context, entries []int) {
	if err := ctx.Err(); err != nil {
		c.fail(entries, fmt.Errorf("not sent: %w", err))
		return
	}
	a, err := c.call(ctx, entries)
	if err != nil {
		c.fail(entries, err)
		return
	}
	c.fail(entries, ErrUnanswered)
	for _, id := range a.done {
		if i, ok := position(id, entries); ok {
			c.errs[i] = nil
		}
	}
	for _, f := range a.failed {
		if i, ok := position(aws.ToString(f.Id), entries); ok {
			c.errs[i] = &EntryError{Code: aws.ToString(f.Code), Message: aws.ToString(f.Message), SenderFault: f.SenderFault}
		}
	}
}

func (c *caller) fail(entries []int, err error) {
	for _, i := range entries {
		c.errs[i] = err
	}
}

// pause waits before a repetition; false means that there is no time left for one.
func (c *caller) pause(ctx context.Context) bool {
	timer := time.NewTimer(c.opts.RetryWait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func position(id string, entries []int) (int, bool) {
	n, err := strconv.Atoi(id)
	if err != nil || n < 0 || n >= len(entries) {
		return 0, false
	}
	return entries[n], true
}

// pack distributes positions over batches, the largest first, each into the first that has room: few batches, and
// order only where bytes do not matter.
func pack(positions, sizes []int, maxEntries, maxBytes int) [][]int {
	order := make([]int, len(positions))
	total := 0
	for n := range order {
		order[n] = n
		total += sizes[n]
	}
	if total > maxBytes {
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(sizes[b], sizes[a]) })
	}
	var batches [][]int
	var room []int // bytes left, by batch
	first := 0     // batches before it have all their entries
	for _, n := range order {
		at := first
		for at < len(batches) && (len(batches[at]) == maxEntries || room[at] < sizes[n]) {
			at++
		}
		if at == len(batches) {
			batches, room = append(batches, nil), append(room, maxBytes)
		}
		batches[at] = append(batches[at], positions[n])
		room[at] -= sizes[n]
		for first < len(batches) && len(batches[first]) == maxEntries {
			first++
		}
	}
	return batches
}

// packInOrder distributes positions over batches so that the batches, one after the other, keep their order.
func packInOrder(positions, sizes []int, maxEntries, maxBytes int) [][]int {
	var batches [][]int
	room := 0
	for n, i := range positions {
		last := len(batches) - 1
		if last < 0 || len(batches[last]) == maxEntries || room < sizes[n] {
			batches, room = append(batches, nil), maxBytes
			last++
		}
		batches[last] = append(batches[last], i)
		room -= sizes[n]
	}
	return batches
}
