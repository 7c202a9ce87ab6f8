package waker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/functions/waker"
	"github.com/waybillhq/waybill/shared/waiting"
)

// move puts a held row behind everyone's back into another bucket.
func (r *region) move(n int, to waiting.Bucket) {
	r.t.Helper()
	h := due(n, time.Now().Add(time.Hour))
	r.hold(h)
	for _, row := range r.memory.All() {
		if strings.Contains(row.Key, string(h.Message.Delivery)) {
			r.memory.Remove(row.Bucket, row.Key)
			row.Bucket = to.Name()
			r.check(r.memory.Put(r.t.Context(), []waiting.Row{row})...)
		}
	}
}

func TestScanFindsWhatLiesWhereNoRunLooks(t *testing.T) {
	for name, test := range map[string]struct {
		bucket waiting.Bucket
		sent   bool // and not only told of
	}{
		"closed bucket":                {waiting.Bucket{Kind: waiting.Due, Hour: 16_666, Shard: 3}, true},
		"shard that is no more":        {waiting.Bucket{Kind: waiting.Due, Hour: 833_333, Shard: waiting.Shards}, true},
		"parked without a mark":        {waiting.Bucket{Kind: waiting.Parked, Destination: "orders-crm", Shard: 3}, true},
		"parked in a shard no more":    {waiting.Bucket{Kind: waiting.Parked, Destination: "orders-crm", Shard: waiting.Shards + 1}, true},
		"parked in the next shard":     {waiting.Bucket{Kind: waiting.Parked, Destination: "orders-crm", Shard: waiting.Shards}, true},
		"bucket of an unknown release": {waiting.Bucket{Kind: "elsewhere", Shard: 3}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inRegion(t, memory, func(t *testing.T, r *region) {
				if report := r.run(); !report.Scanned || report.Stray != 0 {
					t.Fatalf("first run: %+v", report)
				}
				r.move(1, test.bucket)
				r.until(time.Now().Add(limits.ScanEvery() - 2*time.Minute))
				if r.total.Stray != 0 {
					t.Fatalf("it is found without a scan: %+v", r.total)
				}
				r.until(time.Now().Add(4 * time.Minute))
				if r.total.Stray != 1 {
					t.Errorf("%d strays, want 1", r.total.Stray)
				}
				if sent := len(r.queue.Snapshot()) == 1; sent != test.sent {
					t.Errorf("sent: %v", sent)
				}
				r.until(time.Now().Add(limits.ScanEvery()))
				if want := map[bool]int{true: 1, false: 2}[test.sent]; r.total.Stray != want {
					t.Errorf("%d strays after the next scan, want %d", r.total.Stray, want)
				}
			})
		})
	}
}

// A scan that takes longer than a run goes on in the next.
func TestScanGoesOn(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		r.run()
		for n := range 50 {
			r.hold(due(n, time.Now().Add(20*time.Hour+time.Duration(n)*time.Minute)))
		}
		r.move(1000, waiting.Bucket{Kind: waiting.Due, Hour: 1, Shard: 3})
		r.memory.PageRows = 1
		r.slow.scan = time.Second
		<-time.After(limits.ScanEvery())
		scanning := 0
		for n := 0; ; n++ {
			report := r.run()
			if scanning++; report.Scanned || n > 10 {
				break
			}
			<-time.After(time.Minute)
		}
		// 51 rows, one in a second, 20 s in a run.
		if scanning != 3 || r.total.Stray != 1 {
			t.Errorf("%d runs for a scan, %d strays", scanning, r.total.Stray)
		}
	})
}

// The first run may come when deliveries have been held for long: the waker was deployed late, or its watermarks were deleted.
func TestFirstRunFindsTheOldest(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		began := time.Now()
		for n := range 100 {
			r.hold(due(n, began.Add(time.Hour+time.Duration(n)*time.Hour)))
		}
		<-time.After(50*time.Hour + 30*time.Minute)
		r.memory.PageRows = 7
		report := r.run()
		if report.Moved != 50 || report.Late != 50 || report.LateBy < 49*time.Hour || report.Stray != 0 {
			t.Errorf("%+v", report)
		}
		if report := r.run(); report.Moved != 0 || report.Lag > 0 {
			t.Errorf("second run: %+v", report)
		}
	})
}

// The scan that looks for the beginning may take several runs, too. Until then nothing is woken, and nothing lost.
func TestFirstScanGoesOn(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		for n := range 100 {
			r.hold(due(n, time.Now().Add(time.Hour+time.Duration(n)*time.Second)))
		}
		<-time.After(3 * time.Hour)
		r.memory.PageRows = 1
		r.slow.scan = 2 * time.Second
		for range 2 {
			if report := r.run(); report.Moved > 0 || report.Scanned {
				t.Fatalf("%+v", report)
			}
			<-time.After(time.Minute)
		}
		r.slow.scan = 0
		if report := r.run(); report.Moved != 100 || r.total.Stray != 0 {
			t.Errorf("%+v", report)
		}
	})
}

// Watermarks follow the clock, so that a run reads two hours of each shard and no more.
func TestWatermarksFollow(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		for n := range 60 {
			r.hold(due(n, time.Now().Add(16*time.Minute+time.Duration(n)*2*time.Minute)))
		}
		for range 300 {
			<-time.After(time.Minute)
			report := r.run()
			state, err := r.store.State(t.Context())
			r.check(err)
			for shard := range waiting.Shards {
				if behind := time.Since(state.Watermarks[shard].Start()); behind > time.Hour+limits.CloseAfter()+2*time.Minute {
					t.Fatalf("shard %d is %v behind", shard, behind)
				}
			}
			if report.Lag > 0 || report.Open > 2*waiting.Shards {
				t.Fatalf("%+v", report)
			}
		}
	})
}

// A row that is put again into a bucket that is just being emptied keeps the bucket open.
func TestRowPutAgainKeepsItsBucketOpen(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		r.run()
		r.hold(due(1, time.Now().Add(time.Hour)))
		row := r.memory.All()[0]
		<-time.After(2 * time.Hour)
		again := 0
		w := r.another(hook{r.sender, func() {
			if again++; again == 1 {
				row.Token = "again"
				r.check(r.memory.Put(t.Context(), []waiting.Row{row})...)
			}
		}})
		for range 2 {
			if report, err := w.Run(t.Context()); err != nil || report.Moved != 1 || report.Stray != 0 {
				t.Fatalf("%+v, %v", report, err)
			}
		}
		if r.rows() != 0 {
			t.Errorf("%d rows", r.rows())
		}
	})
}

// What has not been read is not known to be empty.
func TestMarkIsNotClearedUnseen(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		r.hold(parked(1, "orders-crm", time.Now()))
		<-time.After(time.Hour)
		slow := r.destinations(func(string) (waker.Permit, error) {
			<-time.After(10 * time.Second)
			return waker.Permit{May: true}, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		if report, err := slow.Run(ctx); err != nil || report.Complete || r.marks() != 1 {
			t.Errorf("%+v, %v, %d marks", report, err, r.marks())
		}
		if r.run(); r.rows() != 0 {
			t.Errorf("%d rows", r.rows())
		}
	})
}

func TestStoreThatIsDown(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		r.run()
		r.hold(due(1, time.Now().Add(20*time.Minute)), parked(1, "orders-crm", time.Now()))
		<-time.After(time.Hour)
		r.down = fmt.Errorf("%w: down", waiting.ErrUnknown)
		report, err := r.waker.Run(t.Context())
		if !errors.Is(err, waiting.ErrUnknown) || report.Complete || report.Moved+report.Drained != 0 {
			t.Errorf("%+v, %v", report, err)
		}
		r.down = nil
		if report := r.run(); report.Moved != 1 || report.Drained != 1 || !report.Complete {
			t.Errorf("healed: %+v", report)
		}
	})
}

// forgetful is a store that does not know its watermarks.
type forgetful struct{ waiting.Store }

func (forgetful) State(context.Context) (waiting.State, error) {
	return waiting.State{}, waiting.ErrThrottled
}

// A run that cannot begin says so, in its report and in the log.
func TestRunThatCannotBegin(t *testing.T) {
	inRegion(t, memory, func(t *testing.T, r *region) {
		for _, store := range []waiting.Store{forgetful{r.store}, r.store} {
			var log bytes.Buffer
			w, err := waker.New(waker.Config{Store: store, Limits: limits, Deliveries: r.sender, Destinations: r, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			r.check(err)
			able := store == r.store
			report, err := w.Run(t.Context())
			if report.Complete != able || (err == nil) != able {
				t.Errorf("%+v, %v", report, err)
			}
			if line := log.String(); !strings.Contains(line, "woke deliveries") || strings.Contains(line, "level=ERROR") == able {
				t.Errorf("log: %s", line)
			}
		}
	})
}

// What is drained is spread over the time until the next run, and that is within what the waker looks ahead.
func TestEvery(t *testing.T) {
	quick := limits
	quick.LongestDelay = 15 * time.Second
	for _, test := range []struct {
		limits waiting.Limits
		every  time.Duration
		want   time.Duration // 0: refused
	}{
		{limits, 0, time.Minute}, {limits, 5 * time.Minute, 5 * time.Minute}, {limits, 10 * time.Minute, 10 * time.Minute}, {limits, 10*time.Minute + 1, 0}, {limits, -1, 0},
		{quick, 0, time.Second}, {quick, 10 * time.Second, 10 * time.Second}, {quick, time.Minute, 0},
	} {
		inRegion(t, memory, func(t *testing.T, r *region) {
			w, err := waker.New(waker.Config{
				Store: r.store, Limits: test.limits, Every: test.every, DrainPerRun: 4, Deliveries: r.sender, Destinations: r, Logger: slog.New(slog.DiscardHandler),
			})
			if (err != nil) != (test.want == 0) {
				t.Fatalf("%v with a longest delay of %v: %v", test.every, test.limits.LongestDelay, err)
			}
			if err != nil {
				return
			}
			for i := range 4 {
				r.hold(parked(i, "orders-crm", time.Now()))
			}
			_, err = w.Run(t.Context())
			r.check(err)
			at := []int{}
			for range 4 {
				at = append(at, len(r.arrivals()))
				<-time.After((test.want/4 + time.Second - 1).Truncate(time.Second)) // a queue delays by whole seconds
			}
			if want := []int{1, 1, 1, 1}; test.want >= 4*time.Second && !slices.Equal(at, want) || at[0] != 1 {
				t.Errorf("every %v: arrivals by quarter %v", test.want, at)
			}
		})
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	_, err := waker.New(waker.Config{})
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 4 { // limits, store, deliveries, destinations
		t.Errorf("error %v", err)
	}
}
