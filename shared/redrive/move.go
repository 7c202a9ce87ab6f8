package redrive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/queue/sqs"
)

// mostTransfers is how many batches are sent and deleted at a time.
const mostTransfers = 4

// mostFailures is how many batches in a row the target may refuse before it counts as one that takes nothing.
const mostFailures = 3

// errNoTime says that a message was not sent because the run was ended.
var errNoTime = errors.New("the run was ended first")

// one is a message on the move.
type one struct {
	key      key
	letter   *letter
	receipts receipts
	message  queue.Message
	err      error // sending it; nil: accepted
	removed  bool
}

// echo is a message that was received although it was to be deleted.
type echo struct {
	key     key
	receipt string
}

// moves are messages to be sent, then deleted.
type moves struct {
	list []*one
	at   map[key]*one
}

func (m *moves) add(k key, l *letter) {
	o := &one{key: k, letter: l, receipts: receipts{l.receipt}, err: errNoTime}
	m.list = append(m.list, o)
	if m.at == nil {
		m.at = map[key]*one{}
	}
	m.at[k] = o
}

// again notes that a message came a second time in the same round.
func (m *moves) again(k key, receipt string) bool {
	o, ok := m.at[k]
	if ok {
		o.receipts = o.receipts.with(receipt)
	}
	return ok
}

// move sends messages to the target at the rate, and deletes what was accepted.
func (r *run) move(ctx context.Context, m *moves) error {
	err := r.transfer(ctx, m, r.target, true, func(l *letter) (queue.Message, error) { return l.outgoing(r.cfg) })
	for _, o := range m.list {
		if r.sent(o) {
			r.report.Moved++
			r.groups.add(o.letter)
			continue
		}
		r.known[o.key] = kept
		r.kept++
		r.held.put(o.key, o.receipts...)
		if errors.Is(o.err, errNoTime) {
			r.report.Matched-- // as if nobody had looked
			r.report.Looked--
			continue
		}
		r.report.Failed++
		if r.report.FirstFailure == nil {
			r.report.FirstFailure = o.err
		}
	}
	return err
}

// rotate sends messages to the end of their own queue. Nobody works on them there, so it need not be slow.
func (r *run) rotate(ctx context.Context, m *moves) error {
	err := r.transfer(ctx, m, r.source.driver, false, func(l *letter) (queue.Message, error) { return l.copy(r.cfg.From) })
	for _, o := range m.list {
		if r.sent(o) {
			r.report.Rotated++
			r.copies[digest(o.message)]++
		} else {
			r.held.put(o.key, o.receipts...)
		}
	}
	return err
}

// sent tells whether a copy of the message lies on a queue, and remembers that the original is to be deleted.
func (r *run) sent(o *one) bool {
	if o.err != nil {
		return false
	}
	r.known[o.key] = gone
	if !o.removed {
		r.left[o.key] = o.receipts
	}
	return true
}

// transfer sends and deletes, several batches at a time. It sends nothing after ctx has ended, and finishes what has begun.
func (r *run) transfer(ctx context.Context, m *moves, to *sqs.Queue, paced bool, form func(*letter) (queue.Message, error)) error {
	var ready []*one
	for _, o := range m.list {
		if o.message, o.err = form(o.letter); o.err == nil {
			o.err = errNoTime
			ready = append(ready, o)
		}
	}
	size := queue.MaxBatchEntries
	if paced {
		size = r.pace.batch(size)
	}
	t := &transfer{to: to, source: r.source, failures: &r.failures}
	places := make(chan struct{}, mostTransfers)
	var wg sync.WaitGroup
	for part := range slices.Chunk(ready, size) {
		if paced && r.pace.wait(ctx, len(part)) != nil || ctx.Err() != nil || t.failed() != nil {
			break
		}
		places <- struct{}{}
		wg.Go(func() {
			t.one(ctx, part)
			<-places
		})
	}
	wg.Wait()
	return t.failed()
}

// transfer is what the batches of a transfer share.
type transfer struct {
	to     *sqs.Queue
	source *source

	mu       sync.Mutex
	failures *int // batches in a row
	err      error
}

// one sends a batch and deletes what was accepted.
func (t *transfer) one(ctx context.Context, part []*one) {
	ctx, cancel := begun(ctx)
	defer cancel()
	messages := make([]queue.Message, len(part))
	for i, o := range part {
		messages[i] = o.message
	}
	var accepted []*one
	var done []receipts
	for i, err := range t.to.Send(ctx, messages) {
		if part[i].err = err; err == nil {
			accepted = append(accepted, part[i])
			done = append(done, part[i].receipts)
		}
	}
	t.count(part, len(accepted))
	for i, err := range t.source.remove(ctx, done) {
		accepted[i].removed = err == nil
	}
}

// count ends the transfer when the target takes nothing.
func (t *transfer) count(part []*one, accepted int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if accepted > 0 {
		*t.failures = 0
		return
	}
	for _, o := range part {
		if errors.Is(o.err, queue.ErrTooLarge) || errors.Is(o.err, sqs.ErrInvalid) {
			return // the message's own fault
		}
	}
	if *t.failures++; *t.failures >= mostFailures {
		t.err = fmt.Errorf("the queue takes no messages, %d batches in a row failed: %w", *t.failures, part[0].err)
	}
}

func (t *transfer) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// removeEchoes deletes messages whose copy lies on a queue, and which were received again.
func (r *run) removeEchoes(ctx context.Context, echoes []echo) {
	all := make([]receipts, len(echoes))
	for i, e := range echoes {
		all[i] = receipts{e.receipt}
	}
	for i, err := range r.source.remove(ctx, all) {
		if err == nil {
			delete(r.left, echoes[i].key)
		} else {
			r.left[echoes[i].key] = r.left[echoes[i].key].with(echoes[i].receipt)
		}
	}
}
