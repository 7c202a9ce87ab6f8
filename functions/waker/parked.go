package waker

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/waybillhq/waybill/shared/waiting"
)

const destinationsAtOnce = 8

// readMarks finds the destinations that may have parked rows.
func (r *run) readMarks(ctx context.Context) {
	r.each(waiting.Shards, waiting.Shards, func(shard int) {
		marks, err := r.marksOf(ctx, shard)
		if err != nil {
			r.fail("read the marks of parked destinations", err)
			r.note(func(report *Report) { report.Complete = false })
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, m := range marks {
			r.marks[m.Key] = m
		}
	})
}

func (r *run) marksOf(ctx context.Context, shard int) (marks []waiting.Row, err error) {
	for after := ""; ; {
		page, err := r.Store.Read(ctx, waiting.Bucket{Kind: waiting.Marks, Shard: shard}.Name(), after, "", pageRows)
		marks = append(marks, page.Rows...)
		if after = page.Next; err != nil || after == "" {
			return marks, err
		}
	}
}

// parked visits every destination that has a mark, whatever its state.
func (r *run) parked(ctx context.Context) {
	names := slices.Sorted(maps.Keys(r.marks))
	permits := make([]Permit, len(names))
	for i, name := range names { // one after the other: the first asks the registry, the others share its answer
		var err error
		if permits[i], err = r.Destinations.Drain(ctx, name); err != nil {
			r.fail("learn the state of destinations", err)
			permits[i] = Permit{}
		}
	}
	r.each(destinationsAtOnce, len(names), func(i int) {
		if !r.over(ctx) {
			r.drain(ctx, r.marks[names[i]], permits[i])
		}
	})
}

// drain sends what may go of a destination's parked deliveries, and clears its mark when it has had none for long enough.
func (r *run) drain(ctx context.Context, mark waiting.Row, permit Permit) {
	now := r.now() // before the visit: what was parked since then is not seen
	r.note(func(report *Report) {
		report.Destinations++
		if !permit.May {
			report.Held++
		}
	})
	most := r.DrainPerRun
	if permit.Most > 0 {
		most = permit.Most
	}
	in := newInOrder(r.Store, mark.Key)
	defer func() {
		if accepted := waiting.AcceptedAt(in.oldest); !accepted.IsZero() {
			r.note(func(report *Report) { report.OldestParked = max(report.OldestParked, now.Sub(accepted)) })
		}
	}()
	if permit.May {
		in.first = min(pageRows, most/waiting.Shards+1)
	}
	sent := 0
	for sent < most && !r.over(ctx) {
		rows, err := in.take(ctx, min(chunkRows, most-sent), r.mayGo(permit, now))
		if err != nil {
			r.fail("read parked deliveries", err)
			return
		}
		if len(rows) == 0 {
			break
		}
		moved, _, left := r.move(ctx, rows, func(i int, _ waiting.Row, _ time.Time) time.Duration {
			return r.Every * time.Duration(sent+i) / time.Duration(most)
		})
		sent += len(moved)
		r.note(func(report *Report) {
			if permit.May {
				report.Drained += len(moved)
			} else {
				report.Expired += len(moved)
			}
		})
		if left > 0 && len(moved) == 0 {
			break // nothing can be sent now
		}
	}
	if r.Limits.MayClear(mark.At, now, in.seen) && in.empty() {
		// Refused: it was marked again.
		if err := r.Store.Delete(ctx, []waiting.Ref{mark.Ref()})[0]; err != nil && !errors.Is(err, waiting.ErrRefused) {
			r.fail("clear a mark", err)
		}
	}
}

// mayGo tells of a parked row whether it goes, and whether any behind it can. While a destination may not receive, only rows go that have been
// parked for too long, and a delivery that was accepted less than that ago has not.
func (r *run) mayGo(permit Permit, now time.Time) func(waiting.Row) (goes, ends bool) {
	return func(row waiting.Row) (goes, ends bool) {
		ends = !permit.May && !waiting.AcceptedBefore(row.Key, now.Add(-r.Limits.LongestPark+time.Millisecond))
		return !ends && r.Limits.MayGo(permit.May, row.At, now), ends
	}
}

// inOrder reads the parked rows of a destination in order of acceptance, across its shards.
type inOrder struct {
	store  waiting.Store
	shards []*parkedShard
	first  int    // rows in the first page of each shard
	seen   int    // rows read so far
	oldest string // key of the first in order; "": there is none, or it is not known yet
}

type parkedShard struct {
	bucket string
	rows   []waiting.Row
	after  string
	read   bool // at least once
	end    bool
}

func newInOrder(store waiting.Store, destination string) *inOrder {
	in := &inOrder{store: store, first: 1}
	for shard := range waiting.Shards {
		in.shards = append(in.shards, &parkedShard{bucket: waiting.Bucket{Kind: waiting.Parked, Destination: destination, Shard: shard}.Name()})
	}
	return in
}

// empty tells that all shards were read to their end and held nothing.
func (in *inOrder) empty() bool {
	for _, s := range in.shards {
		if !s.end {
			return false
		}
	}
	return in.seen == 0
}

// take gives the next rows that go, at most most of them; none when no row behind can go.
func (in *inOrder) take(ctx context.Context, most int, mayGo func(waiting.Row) (goes, ends bool)) (rows []waiting.Row, err error) {
	for len(rows) < most {
		next := (*parkedShard)(nil)
		for _, s := range in.shards {
			if err := in.fill(ctx, s); err != nil {
				return nil, err
			}
			if len(s.rows) > 0 && (next == nil || s.rows[0].Key < next.rows[0].Key) {
				next = s
			}
		}
		if next == nil {
			return rows, nil
		}
		in.oldest = cmp.Or(in.oldest, next.rows[0].Key)
		goes, ends := mayGo(next.rows[0])
		if ends {
			return rows, nil
		}
		if goes {
			rows = append(rows, next.rows[0])
		}
		next.rows = next.rows[1:]
	}
	return rows, nil
}

// fill reads the shard's next page when it has no rows at hand.
func (in *inOrder) fill(ctx context.Context, s *parkedShard) error {
	for len(s.rows) == 0 && !s.end {
		limit := chunkRows
		if !s.read {
			limit = in.first
		}
		page, err := in.store.Read(ctx, s.bucket, s.after, "", limit)
		if err != nil {
			return err
		}
		s.read, s.rows, s.after, s.end = true, page.Rows, page.Next, page.Next == ""
		in.seen += len(page.Rows)
	}
	return nil
}
