package batch_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/outcome"
)

// These tests run in virtual time: the function has 30 s, 2 s of them are headroom, so handlers end at 28 s.
const functionTime = 30 * time.Second

func TestDeadline(t *testing.T) {
	work := func(d time.Duration) func(context.Context, batch.Record) error {
		return func(ctx context.Context, _ batch.Record) error {
			select {
			case <-time.After(d):
				return nil
			case <-ctx.Done():
				return outcome.Retry(ctx.Err())
			}
		}
	}
	deaf := func(_ context.Context, r batch.Record) error {
		if r.MessageID == "2" {
			<-time.After(time.Hour)
		}
		return nil
	}
	ids := func(from, to int) (all []string) {
		for i := from; i <= to; i++ {
			all = append(all, fmt.Sprint(i))
		}
		return all
	}
	tests := map[string]struct {
		fn       batch.Func
		took     time.Duration
		returned []string
		atOnce   []string // of those returned, visible at once because not started
	}{
		"enough time":             {fn: batch.Each(1, work(time.Second)), took: 5 * time.Second},
		"stopped under way":       {fn: batch.Each(1, work(8*time.Second)), took: 28 * time.Second, returned: ids(4, 5), atOnce: ids(5, 5)},
		"stopped at the first":    {fn: batch.Each(2, work(time.Hour)), took: 28 * time.Second, returned: ids(1, 5), atOnce: ids(3, 5)},
		"one ignores its context": {fn: batch.Each(5, deaf), took: 28*time.Second + 250*time.Millisecond, returned: ids(2, 2)},
		"one holds up the rest":   {fn: batch.Each(1, deaf), took: 28*time.Second + 250*time.Millisecond, returned: ids(2, 5), atOnce: ids(3, 5)},
		"the handler hangs": {fn: func(_ context.Context, r []batch.Record) []error {
			<-time.After(time.Hour)
			return make([]error, len(r))
		}, took: 28*time.Second + 500*time.Millisecond, returned: ids(1, 5)},
		"the handler returns at the end": {fn: func(ctx context.Context, r []batch.Record) []error { <-ctx.Done(); return make([]error, len(r)) }, took: 28 * time.Second},
		"the handler returns too late": {fn: func(_ context.Context, r []batch.Record) []error {
			<-time.After(29 * time.Second)
			return make([]error, len(r))
		}, took: 28*time.Second + 500*time.Millisecond, returned: ids(1, 5)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer func() { <-time.After(2 * time.Hour) }() // late results come to nothing, and no goroutine outlives the bubble
				b := newBench()
				ctx, cancel := context.WithTimeout(t.Context(), functionTime)
				defer cancel()
				start := time.Now()
				var messages []events.SQSMessage
				for _, id := range ids(1, 5) {
					messages = append(messages, message(id, 1))
				}
				wantIDs(t, b.handleWith(ctx, t, tt.fn, messages...), tt.returned...)
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				atOnce := map[string]bool{}
				for _, id := range tt.atOnce {
					atOnce[id] = true
				}
				for _, id := range tt.returned {
					want := time.Minute
					if atOnce[id] {
						want = 0
					}
					if got, ok := b.source.changed["r-"+id]; !ok || got != want {
						t.Errorf("record %s visible after %v, %t; want %v", id, got, ok, want)
					}
				}
			})
		})
	}
}

// Without time nothing is begun, and everything comes back at once.
func TestNoTimeToBegin(t *testing.T) {
	begin := map[string]func(context.Context) (context.Context, context.CancelFunc){
		"less than the headroom": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		},
		"cancelled": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		},
	}
	for name, begin := range begin {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				ctx, cancel := begin(t.Context())
				defer cancel()
				wantIDs(t, b.handleWith(ctx, t, func(context.Context, []batch.Record) []error { panic("called") }, message("1", 1), message("2", 9)), "1")
				if got, ok := b.source.changed["r-1"]; !ok || got != 0 {
					t.Errorf("visibility = %v", b.source.changed)
				}
				if len(b.source.sent) != 1 || b.source.sent[0].Delay != 0 {
					t.Errorf("sent again: %+v", b.source.sent)
				}
				if !strings.Contains(b.log.String(), "no time to handle the batch") {
					t.Errorf("the log does not say why: %s", b.log.String())
				}
			})
		})
	}
}

// A cancelled invocation still makes its answer true: copies are sent, visibility is changed.
func TestCancelledWhileHandling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(time.Second, cancel)
		fn := func(ctx context.Context, _ []batch.Record) []error {
			<-ctx.Done()
			return []error{outcome.Reject("bad", nil), outcome.Defer(time.Second, nil), outcome.Retry(ctx.Err())}
		}
		wantIDs(t, b.handleWith(ctx, t, fn, message("1", 1), message("2", 1), message("3", 1)), "3")
		if len(b.deadLetter.sent) != 1 || len(b.source.sent) != 1 || b.source.changed["r-3"] != time.Minute {
			t.Errorf("%+v %+v %v", b.deadLetter.sent, b.source.sent, b.source.changed)
		}
	})
}

// Queues that hang cost the answer neither its time nor its truth.
func TestHangingQueues(t *testing.T) {
	for _, deadline := range []time.Duration{0, functionTime} {
		t.Run(deadline.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.source.hang, b.deadLetter.hang = true, true
				ctx, most := t.Context(), 30*time.Second
				if deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, deadline)
					defer cancel()
				}
				start := time.Now()
				outcomes := map[string]error{"1": outcome.Reject("bad", nil), "2": outcome.Defer(time.Second, nil)}
				wantIDs(t, b.handleWith(ctx, t, returning(outcomes), message("1", 1), message("2", 1)), "1", "2")
				if took := time.Since(start); took >= most {
					t.Errorf("took %v", took)
				}
				// Time was left to make both visible again.
				for _, line := range b.lines(t) {
					if s := fmt.Sprint(line["mishap"]); !strings.Contains(s, "could not be") || strings.Contains(s, "visibility") {
						t.Errorf("mishap %q", s)
					}
				}
			})
		})
	}
}

// A handler that uses all its time leaves the headroom for settling, and settling a tenth of that for the answer, whatever the queues do.
func TestHeadroomIsKept(t *testing.T) {
	for configured, headroom := range map[time.Duration]time.Duration{0: 2 * time.Second, 5 * time.Second: 5 * time.Second} {
		t.Run(headroom.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.cfg.Headroom = configured
				b.source.hang, b.deadLetter.hang = true, true
				ctx, cancel := context.WithTimeout(t.Context(), functionTime)
				defer cancel()
				start := time.Now()
				fn := func(ctx context.Context, _ []batch.Record) []error {
					<-ctx.Done()
					if took := time.Since(start); took != functionTime-headroom {
						t.Errorf("the handler had %v", took)
					}
					return []error{outcome.Reject("bad", nil), outcome.Defer(time.Second, nil)}
				}
				wantIDs(t, b.handleWith(ctx, t, fn, message("1", 1), message("2", 1)), "1", "2")
				if took := time.Since(start); took > functionTime-headroom/10 {
					t.Errorf("the answer came after %v", took)
				}
			})
		})
	}
}
