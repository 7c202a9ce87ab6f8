package waker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/retry"
	"github.com/waybillhq/waybill/shared/waiting"
)

// What is unpacked, sent and deleted at once: little enough for a small function's memory, however well the payloads are compressed.
const (
	chunkRows  = 100
	chunkBytes = 4 << 20
)

// delays says how long the queue shall delay the message of the i-th row that is sent.
type delays func(i int, row waiting.Row, now time.Time) time.Duration

// move sends rows to the deliveries queue, in their order, and deletes those that were accepted. It gives the rows that were sent, those that were
// not, and the number of those that are still there.
func (r *run) move(ctx context.Context, rows []waiting.Row, delay delays) (sent, unsent []waiting.Row, left int) {
	for len(rows) > 0 {
		if r.over(ctx) {
			return sent, append(unsent, rows...), left + len(rows)
		}
		began := time.Now()
		messages, chunk, unreadable := r.unpack(rows, len(sent), delay)
		unsent = append(unsent, unreadable...)
		left += len(unreadable)
		rows = rows[len(chunk)+len(unreadable):]
		var refs []waiting.Ref
		units := 0
		for i, err := range r.send(ctx, messages) {
			if err != nil {
				r.fail("send deliveries", err)
				r.note(func(report *Report) { report.Failed++ })
				unsent = append(unsent, chunk[i])
				left++
				continue
			}
			sent = append(sent, chunk[i])
			refs = append(refs, chunk[i].Ref())
			units += (chunk[i].Size() + 1023) / 1024
		}
		left += r.remove(ctx, refs)
		if rest := time.Duration(units)*time.Second/time.Duration(r.WriteUnitsPerSecond) - time.Since(began); rest > 0 && len(rows) > 0 {
			retry.SleepWithin(ctx, rest)
		}
	}
	return sent, unsent, left
}

// send gives an error for each message, whatever the queue answers: a row of which nothing was said is still there, and its bucket must not be closed.
func (r *run) send(ctx context.Context, messages []queue.Message) []error {
	errs := r.Deliveries.Send(ctx, messages)
	if len(errs) != len(messages) {
		return slices.Repeat([]error{errUnanswered}, len(messages))
	}
	return errs
}

var errUnanswered = errors.New("the queue did not answer for each message")

// unpack makes messages of the first rows, as many as make a chunk. It gives the rows that have a message, and those that it cannot read: they
// stay where they are, for a release that can.
func (r *run) unpack(rows []waiting.Row, already int, delay delays) (messages []queue.Message, chunk, unreadable []waiting.Row) {
	bytes, now := 0, r.now()
	for _, row := range rows {
		if len(chunk) == chunkRows || bytes >= chunkBytes {
			break
		}
		body, err := row.Message()
		if err != nil {
			unreadable = append(unreadable, row)
			r.note(func(report *Report) { report.Unreadable++ })
			r.Logger.Warn("a row cannot be read and stays", slog.String("bucket", row.Bucket), slog.String("row", row.Key), slog.String("error", err.Error()))
			continue
		}
		bytes += len(body)
		messages = append(messages, queue.Message{Body: body, Group: row.Destination, Trace: row.Trace, Delay: delay(already+len(chunk), row, now)})
		chunk = append(chunk, row)
	}
	return messages, chunk, unreadable
}

// remove deletes rows that were sent, unless they were put again since they were read, and gives how many are still there.
func (r *run) remove(ctx context.Context, refs []waiting.Ref) (left int) {
	end := r.now().Add(r.Patience)
	for pause := 25 * time.Millisecond; len(refs) > 0; pause = min(2*pause, time.Second) {
		var again []waiting.Ref
		var last error
		for i, err := range r.Store.Delete(ctx, refs) {
			switch {
			case errors.Is(err, waiting.ErrRefused):
				left++
			case err != nil:
				again, last = append(again, refs[i]), err
			}
		}
		refs = again
		wait := time.Duration(float64(pause) * (0.5 + r.Random()))
		if len(refs) > 0 && (r.now().Add(wait).After(end) || !retry.SleepWithin(ctx, wait)) {
			r.fail("delete what was sent", last)
			r.note(func(report *Report) { report.Failed += len(refs) })
			return left + len(refs)
		}
	}
	return left
}
