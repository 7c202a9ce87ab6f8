package redrive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/queue/sqs"
)

const (
	mostCalls = 16 // receives at a time
	// patience is how many times the same messages may come again before the queue counts as one that gives no others. SQS puts a
	// message behind the others after its third receive.
	patience = 5
	// countLag is how old the counts of a queue may be.
	// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
	countLag = time.Minute
)

// fate is what became of a message that was met.
type fate uint8

const (
	unknown fate = iota
	kept         // to be shown again in the end
	gone         // its copy lies on a queue: another receive of it is an echo, to be deleted
	copied       // a copy at the end of the dead-letter queue that this run has made
)

// run is one Run.
type run struct {
	cfg    *Config
	source *source
	target *sqs.Queue
	pace   pace
	began  time.Time // by SQS's clock
	report Report
	groups tally

	known    map[key]fate
	held     held
	copies   map[key]int // copies at the end of the queue whose ids are not known, by digest
	left     map[key]receipts
	kept     int  // messages in the queue that were met and stay
	idle     int  // messages received since the last one that was new
	empty    int  // polls in a row that found nothing
	window   int  // messages in flight at most
	rotating bool // nothing else gets to the rest of the queue
	failures int  // batches in a row that the target did not take
}

// errStopped ends a run that has nothing more to do.
var errStopped = errors.New("stopped")

// Run moves what the filter selects until the whole queue was looked at, the limit is reached or ctx ends. The report counts
// also when there is an error: that of a ctx which ended, of a source that cannot be read, or of a target that takes
// nothing. What is not moved is visible again when Run returns; Report.Stuck counts exceptions.
func (r *Redrive) Run(ctx context.Context) (Report, error) {
	s := &source{api: r.cfg.SQS, url: r.cfg.FromURL, hidden: r.cfg.Hidden, driver: sqs.New(r.cfg.SQS, r.cfg.FromURL, sqs.Options{Concurrency: mostCalls})}
	start, err := s.depth(ctx)
	if err != nil {
		return Report{}, err
	}
	if start.redriven {
		return Report{}, fmt.Errorf("%s is no dead-letter queue: it has a redrive policy, and looking at its messages would count against them", r.cfg.FromURL)
	}
	w := &run{
		cfg: &r.cfg, source: s, target: sqs.New(r.cfg.SQS, r.cfg.ToURL, sqs.Options{}),
		pace: pace{perSecond: r.cfg.Rate, last: time.Now()}, began: start.now.Truncate(time.Millisecond),
		known: map[key]fate{}, held: held{at: map[key]place{}}, copies: map[key]int{}, left: map[key]receipts{}, groups: tally{}, window: r.cfg.Window,
	}
	err = w.look(ctx)
	w.finish(ctx)
	if errors.Is(err, errStopped) {
		err = nil
	}
	return w.snapshot(), err
}

func (r *run) snapshot() Report {
	report := r.report
	report.Groups = r.groups.groups()
	return report
}

// look is the loop: receive, sort, move, make room.
func (r *run) look(ctx context.Context) error {
	calls := 1
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.held.len() >= r.window || r.idle >= 3*r.window {
			if err := r.makeRoom(ctx); err != nil {
				return err
			}
		}
		room := (r.window - r.held.len()) / queue.MaxBatchEntries
		calls = max(min(calls, room), 1)
		got, failed := r.source.receive(ctx, calls)
		if err := errors.Join(r.handle(ctx, got), failed); err != nil {
			return err
		}
		if len(got) >= calls*queue.MaxBatchEntries/2 {
			calls = min(2*calls, mostCalls)
		} else {
			calls = max(calls/2, 1) // near the end few calls at a time, because one that finds nothing costs its wait
		}
		if len(got) > 0 {
			r.empty = 0
		} else if err := r.nothing(ctx); err != nil {
			return err
		}
		if r.cfg.OnProgress != nil {
			r.cfg.OnProgress(r.snapshot())
		}
	}
}

// handle decides about messages and does what was decided.
func (r *run) handle(ctx context.Context, got []received) error {
	r.held.round++
	var echoes []echo
	var selected, rotations moves
	for _, m := range got {
		k := keyOf(m.id)
		if selected.again(k, m.receipt) || rotations.again(k, m.receipt) {
			continue
		}
		seen := r.known[k]
		if seen == unknown && len(r.copies) > 0 {
			if d := digest(m.message); r.copies[d] > 0 {
				if r.copies[d]--; r.copies[d] == 0 {
					delete(r.copies, d)
				}
				seen, r.known[k] = copied, copied
			}
		}
		switch seen {
		case gone:
			r.idle++
			echoes = append(echoes, echo{k, m.receipt})
			continue
		case copied:
			r.idle++
			r.held.put(k, m.receipt)
			continue
		case kept:
			r.idle++
		case unknown:
			if r.cfg.Limit > 0 && r.report.Matched == r.cfg.Limit {
				r.held.put(k, m.receipt) // nobody has looked at it
				continue
			}
			l := open(r.cfg.From, m)
			if r.selects(l) {
				selected.add(k, l)
				continue
			}
			r.known[k] = kept
			r.kept++
		}
		if r.rotating {
			rotations.add(k, open(r.cfg.From, m))
		} else {
			r.held.put(k, m.receipt)
		}
	}
	r.removeEchoes(ctx, echoes)
	err := errors.Join(r.move(ctx, &selected), r.rotate(ctx, &rotations))
	if err == nil && r.cfg.Limit > 0 && r.report.Matched == r.cfg.Limit {
		r.report.LimitReached = true
		return errStopped
	}
	return err
}

// selects counts a message that was never met before and tells whether it is to be moved now.
func (r *run) selects(l *letter) bool {
	if l.sentAt.After(r.began) {
		// It does not count as new: on a busy queue there would be no end.
		r.idle++
		r.report.Newer++
		return false
	}
	r.idle = 0
	r.report.Looked++
	if l.unreadable != nil {
		r.report.Unreadable++
	}
	if !r.cfg.Filter.matches(l) {
		return false
	}
	r.report.Matched++
	if r.cfg.DryRun {
		r.groups.add(l)
	}
	return !r.cfg.DryRun
}

// nothing decides what it means that a poll found no message.
func (r *run) nothing(ctx context.Context) error {
	if r.empty++; r.empty < 2 {
		return nil
	}
	d, err := r.source.depth(ctx)
	switch {
	case err != nil:
		return err
	case d.visible == 0:
		r.report.Complete = true
		r.report.Elsewhere = r.unmet(d)
		return errStopped
	case time.Duration(r.empty)*pollWait < countLag:
		return nil // the count may be old
	case r.held.len() == 0:
		return r.stalled(ctx) // somebody else is faster
	}
	// It has messages and gives none: the limit in flight is reached, by whoever. The loop makes room.
	r.window = r.held.len()
	return nil
}

// makeRoom shows some of the held messages again, so that others can be received. They are those that were received last: whatever
// the order in which the queue serves, the rest of the window need not be received again.
func (r *run) makeRoom(ctx context.Context) error {
	part := max(r.window/10, queue.MaxBatchEntries)
	if r.idle >= patience*part && r.held.len() >= r.window || r.idle >= 3*r.window {
		if err := r.stalled(ctx); err != nil {
			return err
		}
	}
	r.report.Stuck += r.source.show(ctx, r.held.take(part))
	return nil
}

// stalled decides what to do when the queue gives nothing new: it may be at its end.
func (r *run) stalled(ctx context.Context) error {
	var err error
	if r.report.Unseen, err = r.unseen(ctx); err != nil {
		return err
	}
	r.report.Complete = r.report.Unseen == 0
	if !r.report.Complete && r.cfg.Rotate && !r.rotating {
		r.rotating, r.idle, r.report.Unseen = true, 0, 0
		return nil
	}
	return errStopped
}

// unseen is how many messages were not met, once the queue has had time to count.
func (r *run) unseen(ctx context.Context) (int, error) {
	ticker := time.NewTicker(countLag / 10)
	defer ticker.Stop()
	for end := time.Now().Add(countLag); ; {
		d, err := r.source.depth(ctx)
		if n := r.unmet(d); err != nil || n == 0 || !time.Now().Before(end) {
			return n, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (r *run) unmet(d depth) int { return max(0, d.total()-r.kept-len(r.left)) }

// finish leaves the queue as it shall be found.
func (r *run) finish(ctx context.Context) {
	keys := slices.Collect(maps.Keys(r.left))
	all := make([]receipts, len(keys))
	for i, k := range keys {
		all[i] = r.left[k]
	}
	var again []receipts
	for i, err := range r.source.remove(ctx, all) {
		if err != nil {
			again = append(again, all[i])
		}
	}
	r.report.Undeleted = len(again)
	r.report.Stuck += r.source.show(ctx, append(again, r.held.take(r.held.len())...))
}

// held are messages in flight that are to be shown again.
type held struct {
	order []key // each once
	at    map[key]place
	round int // of receives
}

// place is where a message is held.
type place struct {
	receipts receipts
	round    int // when they were given
}

// receipts are those that SQS gave for a message at a time. Only the latest counts for SQS, and of calls that were made together nobody
// knows which was later, so they are used together.
type receipts []string

// mostReceipts bounds them: that a message is given out more often within one round is as good as impossible.
const mostReceipts = 8

func (r receipts) with(receipt string) receipts {
	if len(r) == mostReceipts {
		r = slices.Delete(r, 0, 1)
	}
	return append(r, receipt)
}

func (h *held) len() int { return len(h.order) }

func (h *held) put(k key, latest ...string) {
	p, ok := h.at[k]
	if !ok {
		h.order = append(h.order, k)
	}
	if p.round != h.round {
		p = place{round: h.round} // whatever was given in earlier rounds is out of date
	}
	for _, receipt := range latest {
		p.receipts = p.receipts.with(receipt)
	}
	h.at[k] = p
}

// take gives up the n messages that were put last.
func (h *held) take(n int) []receipts {
	n = min(n, len(h.order))
	last := h.order[len(h.order)-n:]
	all := make([]receipts, n)
	for i, k := range last {
		all[i] = h.at[k].receipts
		delete(h.at, k)
	}
	h.order = h.order[:len(h.order)-n]
	return all
}
