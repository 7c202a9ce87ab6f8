package mapping

import (
	"context"
	"errors"
	"slices"
	"time"
)

// deliver gives records to the function, in several invocations one after the other if they exceed the payload limit, and
// settles them. False means that the mapping should poll less.
func (f *fleet) deliver(records []record) (healthy bool) {
	healthy = true
	blocked := map[string]bool{}
	for _, part := range split(records, MaxPayloadBytes) {
		// A group that failed in an earlier part must not be overtaken by its own later messages.
		kept := slices.DeleteFunc(slices.Clone(part), func(r record) bool { return r.group != "" && blocked[r.group] })
		f.m.count(func(s *Stats) { s.Returned += int64(len(part) - len(kept)) })
		if len(kept) == 0 {
			continue
		}
		failed, ok := f.process(kept)
		healthy = healthy && ok
		for _, r := range failed {
			blocked[r.group] = true
		}
	}
	return healthy
}

// process invokes the function with one batch, deletes what succeeded and gives back what did not.
func (f *fleet) process(batch []record) (failed []record, healthy bool) {
	m := f.m
	fault := m.fault(batch)
	inv, throttled := f.invoke(batch)
	if throttled {
		defer func() { healthy = false }()
	}
	if inv == nil {
		m.count(func(s *Stats) { s.Dropped++; s.Returned += int64(len(batch)) })
		return batch, true
	}
	m.count(func(s *Stats) { s.Batches++ })
	if fault.CrashAfter > 0 {
		defer time.AfterFunc(fault.CrashAfter, inv.Crash).Stop()
	}
	if fault.Duplicate && !m.cfg.Queue.FIFO() {
		if twin, err := m.cfg.Function.start(payload(batch)); err == nil {
			defer func() { <-twin.done }()
		}
	}
	<-inv.done
	if fault.LoseAnswer {
		m.count(func(s *Stats) { s.Returned += int64(len(batch)) })
		return batch, true
	}
	return f.settle(batch, inv)
}

// invoke starts an invocation, again and again while it is throttled and the batch is still invisible in the queue. It
// gives nil when the batch had to be given up.
func (f *fleet) invoke(batch []record) (inv *Invocation, throttled bool) {
	event := payload(batch)
	expires := slices.MinFunc(batch, func(a, b record) int { return a.expires.Compare(b.expires) }).expires
	for delay := retryFirst; ; delay = min(2*delay, retryMax) {
		if !time.Now().Before(expires) {
			return nil, throttled
		}
		inv, err := f.m.cfg.Function.start(event)
		if !errors.Is(err, ErrThrottled) {
			return inv, throttled // nil only if the function is closed: split keeps the payload within its limit
		}
		throttled = true
		f.rest()
		if time.Until(expires) <= delay || !f.sleep(delay) {
			return nil, throttled
		}
	}
}

// settle turns the function's answer into deletions.
func (f *fleet) settle(batch []record, inv *Invocation) (failed []record, healthy bool) {
	m := f.m
	err := inv.err
	var keep map[string]bool
	if err == nil && m.cfg.ReportBatchItemFailures {
		keep, err = failedItems(inv.response, batch)
	}
	if err != nil {
		m.count(func(s *Stats) { s.FailedBatches++; s.Returned += int64(len(batch)) })
		if m.cfg.ReportBatchItemFailures {
			return batch, true
		}
		f.rest()
		return batch, false
	}
	var receipts []string
	for _, r := range batch {
		if keep[r.id] {
			failed = append(failed, r)
		} else {
			receipts = append(receipts, r.receipt)
		}
	}
	m.count(func(s *Stats) { s.Returned += int64(len(failed)) })
	m.delete(context.WithoutCancel(f.ctx), receipts)
	return failed, true
}

// delete deletes in chunks. What cannot be deleted is received again, which SQS allows at any time.
func (m *Mapping) delete(ctx context.Context, receipts []string) {
	for chunk := range slices.Chunk(receipts, receiveMax) {
		deleted := 0
		for try := range deleteTries {
			if try > 0 && !sleep(ctx, retryFirst) {
				break
			}
			n, err := m.cfg.Queue.Delete(ctx, chunk)
			m.count(func(s *Stats) { s.Deletes++ })
			if err == nil {
				deleted = n
				break
			}
			m.count(func(s *Stats) { s.DeleteErrors++ })
		}
		m.count(func(s *Stats) {
			s.Deleted += int64(deleted)
			s.Returned += int64(len(chunk) - deleted)
		})
	}
}

// fault asks the configured fault for this batch.
func (m *Mapping) fault(batch []record) Fault {
	number := m.numbers.Add(1)
	if m.cfg.Fault == nil {
		return Fault{}
	}
	ids := make([]string, len(batch))
	for i, r := range batch {
		ids[i] = r.id
	}
	return m.cfg.Fault(Batch{Number: number, MessageIDs: ids})
}
