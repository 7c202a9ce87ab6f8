package waker

import (
	"context"
	"errors"
	"time"

	"github.com/waybillhq/waybill/shared/waiting"
)

const (
	pageRows = 1000 // asked for at once; a page ends at a megabyte, too
	// saveEvery is how many buckets may be closed before the watermark is written: what a run that dies has to read again.
	saveEvery = 60
	// maxFaults is how many buckets of one shard may fail in a run before the rest is left to the next.
	maxFaults = 3
)

// due visits the open buckets of a shard, from the oldest to the last within reach, and closes those that nothing can be put into any more.
func (r *run) due(ctx context.Context, shard int, watermark waiting.Minute) {
	saved, faults := watermark, 0
	m := watermark
	for ; m <= waiting.LastMinute(r.now()) && faults < maxFaults && !r.over(ctx); m++ {
		now := r.now() // before the visit: what was put since then is not seen
		_, left, err := r.visit(ctx, waiting.Bucket{Kind: waiting.Due, Minute: m, Shard: shard}.Name())
		if err != nil {
			r.fail("read due deliveries", err)
			faults++
			continue
		}
		watermark = waiting.Advance(watermark, m, r.Limits.MayClose(m, now, left))
		if watermark >= saved+saveEvery {
			r.advance(ctx, shard, watermark)
			saved = watermark
		}
	}
	if watermark > saved {
		r.advance(ctx, shard, watermark)
	}
	now := r.now()
	lag := now.Sub(watermark.End()) - r.Limits.CloseAfter() - time.Minute // closed by the next run at the latest
	r.note(func(report *Report) {
		report.Open += max(0, int(waiting.LastMinute(now)-watermark)+1)
		report.Lag = max(report.Lag, lag)
	})
}

func (r *run) advance(ctx context.Context, shard int, to waiting.Minute) {
	// Refused: another run is further on already.
	if err := r.Store.Advance(ctx, shard, to); err != nil && !errors.Is(err, waiting.ErrRefused) {
		r.fail("advance a watermark", err)
	}
}

// visit sends all rows of a due bucket. It gives how many it has found, and how many are left.
func (r *run) visit(ctx context.Context, bucket string) (found, left int, err error) {
	for after := ""; ; {
		page, err := r.Store.Read(ctx, bucket, after, pageRows)
		if err != nil {
			return found, left, err
		}
		found += len(page.Rows)
		sent, stayed := r.move(ctx, page.Rows, func(_ int, row waiting.Row, now time.Time) time.Duration { return waiting.Delay(row.At, now) })
		left += stayed
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
		if after = page.Next; after == "" {
			return found, left, nil
		}
		if r.over(ctx) {
			return found, left + 1, nil // at least one may be left: unread
		}
	}
}
