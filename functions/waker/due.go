package waker

import (
	"context"
	"errors"
	"time"

	"github.com/waybillhq/waybill/shared/waiting"
)

const (
	pageRows = 1000 // asked for at once; a page ends at a megabyte, too
	// saveEvery is how many hours may be closed before the watermark is written: what a run that dies has to read again.
	saveEvery = 24
	// maxFaults is how many hours of one shard may fail in a run before the rest is left to the next.
	maxFaults = 3
)

// due visits the open hours of a shard, from the oldest to the last within reach, and closes those that nothing can be put into any more.
func (r *run) due(ctx context.Context, shard int, watermark waiting.Hour) {
	saved, faults := watermark, 0
	var oldest time.Time // when the oldest row is due that should have been sent and was not; zero: there is none
	h := watermark
	for ; h <= r.Limits.LastHour(r.now()) && faults < maxFaults && !r.over(ctx); h++ {
		now := r.now() // before the visit: what was put since then is not seen
		until, whole := r.Limits.Reach(h, now)
		before := ""
		if !whole {
			before = waiting.DueBefore(until)
		}
		v, err := r.visit(ctx, waiting.Bucket{Kind: waiting.Due, Hour: h, Shard: shard}.Name(), before)
		oldest = earlier(oldest, v.oldest)
		if err != nil {
			r.fail("read due deliveries", err)
			faults++
			continue
		}
		watermark = waiting.Advance(watermark, h, r.Limits.MayClose(h, now, v.left))
		if watermark >= saved+saveEvery {
			saved = r.advance(ctx, shard, saved, watermark)
		}
	}
	if watermark > saved {
		saved = r.advance(ctx, shard, saved, watermark)
	}
	now := r.now()
	if h <= r.Limits.LastHour(now) {
		oldest = earlier(oldest, h.Start()) // not visited
	}
	lag := now.Sub(saved.End()) - r.Limits.CloseAfter() - r.Every // closed by the next run at the latest
	if !oldest.IsZero() {
		lag = max(lag, now.Sub(oldest))
	}
	r.note(func(report *Report) {
		report.Open += max(0, int(r.Limits.LastHour(now)-saved)+1)
		report.Lag = max(report.Lag, lag)
	})
}

// earlier gives the earlier of two times, of which zero ones are none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// dueAt is when the row with this key in a due bucket is due, or the beginning of its hour if the key does not tell.
func dueAt(bucket, key string) time.Time {
	b, due := waiting.Locate(bucket, key)
	if due.IsZero() {
		return b.Hour.Start()
	}
	return due
}

// advance writes a watermark and gives the one that is there now.
func (r *run) advance(ctx context.Context, shard int, from, to waiting.Hour) waiting.Hour {
	// Refused: another run is as far or further on already.
	if err := r.Store.Advance(ctx, shard, to); err != nil && !errors.Is(err, waiting.ErrRefused) {
		r.fail("advance a watermark", err)
		return from
	}
	return to
}

// visited is what became of the rows that a visit to a due bucket was to send.
type visited struct {
	found  int
	left   int       // that are still there, or may be
	oldest time.Time // when the first of those is due that were not sent, or may be there unread; zero: there is none
}

// visit sends the rows of a due bucket whose keys are before a bound, "" for all. After an error, what was not read counts as left.
func (r *run) visit(ctx context.Context, bucket, before string) (v visited, err error) {
	unread := func(after string) {
		v.left++ // at least one may be
		v.oldest = earlier(v.oldest, dueAt(bucket, after))
	}
	for after := ""; ; {
		page, err := r.Store.Read(ctx, bucket, after, before, pageRows)
		if err != nil {
			unread(after)
			return v, err
		}
		v.found += len(page.Rows)
		sent, unsent, left := r.move(ctx, page.Rows, func(_ int, row waiting.Row, now time.Time) time.Duration { return r.Limits.Delay(row.At, now) })
		v.left += left
		for _, row := range unsent {
			v.oldest = earlier(v.oldest, dueAt(bucket, row.Key))
		}
		r.noteSent(sent)
		if after = page.Next; after == "" {
			return v, nil
		}
		if r.over(ctx) {
			unread(after)
			return v, nil
		}
	}
}

func (r *run) noteSent(sent []waiting.Row) {
	now := r.now()
	r.note(func(report *Report) {
		report.Moved += len(sent)
		for _, row := range sent {
			if late := now.Sub(row.At); late > 0 {
				report.Late++
				report.LateBy = max(report.LateBy, late)
			}
		}
	})
}
