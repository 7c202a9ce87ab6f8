package waker

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"time"

	"github.com/waybillhq/waybill/shared/waiting"
)

// scanShare is how long a run may scan. The rest is left to later runs.
const scanShare = 20 * time.Second

// starting tells that a shard has no watermark: the room is new, or its watermark was deleted.
func (r *run) starting() bool {
	for shard := range waiting.Shards {
		if _, ok := r.state.Watermarks[shard]; !ok {
			return true
		}
	}
	return false
}

// scan goes on with the scan under way, or begins one when it is time for it: it looks for rows where no run looks, and gives
// shards without a watermark their first.
func (r *run) scan(ctx context.Context, until time.Time) {
	s := r.state.Scan
	was, now := s.Token, r.now()
	if s.Done && !r.starting() && now.Sub(s.Began) < r.Limits.ScanEvery() && !s.Began.After(now) {
		return
	}
	if was == "" || s.Done {
		s = waiting.Scan{Began: now}
	}
	oldest := maps.Clone(s.Oldest)
	if s.Oldest = oldest; oldest == nil {
		s.Oldest = map[int]waiting.Hour{}
	}
	for !s.Done && r.now().Before(until) && !r.over(ctx) {
		names, next, err := r.Store.Buckets(ctx, s.After)
		if err == nil {
			err = r.look(ctx, names, s.Oldest)
		}
		if err != nil {
			r.fail("scan for strays", err)
			break
		}
		s.After, s.Done = next, next == waiting.Cursor{}
	}
	if s.Done {
		r.start(ctx, s)
	}
	s.Token = r.NewToken()
	// Refused: another run scans, too.
	if err := r.Store.SaveScan(ctx, was, s); err != nil && !errors.Is(err, waiting.ErrRefused) {
		r.fail("save the progress of the scan", err)
	}
	r.state.Scan = s
	r.note(func(report *Report) { report.Scanned = s.Done })
}

// start gives the shards that have no watermark their first, after a scan that has come to its end.
func (r *run) start(ctx context.Context, s waiting.Scan) {
	for shard := range waiting.Shards {
		if _, ok := r.state.Watermarks[shard]; ok {
			continue
		}
		oldest, found := s.Oldest[shard]
		first := r.Limits.FirstHour(oldest, found, s.Began)
		if err := r.Store.Advance(ctx, shard, first); err != nil {
			if !errors.Is(err, waiting.ErrRefused) { // refused: another run has begun, and knows where; next time
				r.fail("write the first watermark", err)
			}
			continue
		}
		r.state.Watermarks[shard] = first
	}
}

// look visits those of the buckets that no run visits.
func (r *run) look(ctx context.Context, names []string, oldest map[int]waiting.Hour) error {
	for _, name := range names {
		b := waiting.ParseBucket(name)
		var err error
		switch b.Kind {
		case waiting.Due:
			if h, ok := oldest[b.Shard]; !ok || b.Hour < h {
				oldest[b.Shard] = b.Hour
			}
			watermark, ok := r.state.Watermarks[b.Shard]
			if ok && b.Hour < watermark || b.Shard >= waiting.Shards {
				err = r.stray(ctx, name)
			}
		case waiting.Parked:
			if _, marked := r.marks[b.Destination]; b.Shard >= waiting.Shards {
				err = r.stray(ctx, name)
			} else if !marked {
				err = r.markAgain(ctx, name, b.Destination)
			}
		case waiting.Foreign:
			r.strays(name, 1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) strays(bucket string, n int) {
	if n > 0 {
		r.note(func(report *Report) { report.Stray += n })
		r.Logger.Warn("rows lie where no run looks", slog.String("bucket", bucket), slog.Int("rows", n))
	}
}

// stray sends the rows of a bucket that was closed, or lies in a shard that is no more. What is due later than a queue can delay comes early, and the
// deliverer delays it again, for the message says when it is due. The scan may be a second behind: what is not
// found there any more is no stray.
func (r *run) stray(ctx context.Context, bucket string) error {
	v, err := r.visit(ctx, bucket, "")
	r.strays(bucket, v.found)
	return err
}

// markAgain marks a destination that has parked rows and no mark.
func (r *run) markAgain(ctx context.Context, bucket, destination string) error {
	page, err := r.Store.Read(ctx, bucket, "", "", pageRows)
	if err != nil || len(page.Rows) == 0 {
		return err
	}
	// The mark is written before the row: now that the row was read, a mark that is missing is missing.
	marks, err := r.marksOf(ctx, waiting.ShardOf(destination))
	if err != nil {
		return err
	}
	for _, m := range marks {
		if m.Key == destination {
			return nil
		}
	}
	r.strays(bucket, len(page.Rows))
	return r.Store.Put(ctx, []waiting.Row{waiting.MarkRow(destination, r.NewToken(), r.now())})[0]
}
