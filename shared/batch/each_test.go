package batch_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/outcome"
)

func records(n int) []batch.Record {
	all := make([]batch.Record, n)
	for i := range all {
		all[i].MessageID = fmt.Sprint(i)
	}
	return all
}

func TestEachBoundsConcurrency(t *testing.T) {
	for limit, want := range map[int]int32{-1: 1, 1: 1, 3: 3, 100: 12} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var open, peak atomic.Int32
				start := time.Now()
				errs := batch.Each(limit, func(context.Context, batch.Record) error {
					peak.Store(max(peak.Load(), open.Add(1)))
					<-time.After(time.Second)
					open.Add(-1)
					return nil
				})(t.Context(), records(12))
				if len(errs) != 12 || slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
					t.Errorf("outcomes %v", errs)
				}
				if took := time.Since(start); peak.Load() != want || took != time.Duration(12/want)*time.Second {
					t.Errorf("%d at a time, %v", peak.Load(), took)
				}
			})
		})
	}
}

func TestEachGivesOutcomesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errs := batch.Each(10, func(_ context.Context, r batch.Record) error {
			<-time.After(time.Duration(10-len(r.MessageID)) * time.Second)
			return errors.New(r.MessageID)
		})(t.Context(), records(12))
		for i, err := range errs {
			if err.Error() != fmt.Sprint(i) {
				t.Errorf("outcome %d is %v", i, err)
			}
		}
	})
}

func TestEachIsolatesPanics(t *testing.T) {
	errs := batch.Each(2, func(_ context.Context, r batch.Record) error {
		switch r.MessageID {
		case "1":
			panic(fmt.Sprintf("poison %s", r.MessageID))
		case "2":
			panic(errors.New("assignment to entry in nil map"))
		case "3":
			runtime.Goexit()
		}
		return nil
	})(t.Context(), records(8))
	for i, err := range errs {
		switch i {
		case 1:
			if err == nil || err.Error() != "panic: poison 1" {
				t.Errorf("outcome 1 is %v", err)
			}
		case 2:
			if err == nil || !strings.Contains(err.Error(), "nil map") {
				t.Errorf("outcome 2 is %v", err)
			}
		case 3:
			if err == nil {
				t.Error("a goroutine that ended is no success")
			}
		default:
			if err != nil {
				t.Errorf("neighbour %d suffered: %v", i, err)
			}
		}
	}
}

func TestEachOfNothing(t *testing.T) {
	if errs := batch.Each(1, nil)(t.Context(), nil); len(errs) != 0 {
		t.Errorf("outcomes %v", errs)
	}
}

// Records of one group follow each other; groups do not wait for each other; a group ends at the first record that comes back.
func TestEachOnFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []batch.Record
		for _, id := range []string{"a1", "b1", "c1", "a2", "b2", "c2", "a3", "b3", "c3", "d1", "d2"} {
			all = append(all, batch.Record{MessageID: id, Group: id[:1], FIFO: true})
		}
		outcomes := map[string]error{"a2": errCause, "b2": outcome.Reject("bad", nil), "d1": outcome.Defer(time.Second, nil)}
		var mu sync.Mutex
		seen := map[string]string{}
		start := time.Now()
		errs := batch.Each(4, func(_ context.Context, r batch.Record) error {
			<-time.After(time.Second)
			mu.Lock()
			defer mu.Unlock()
			seen[r.Group] += r.MessageID
			return outcomes[r.MessageID]
		})(t.Context(), all)
		want := map[string]string{"a": "a1a2", "b": "b1b2b3", "c": "c1c2c3", "d": "d1"}
		for group, order := range want {
			if seen[group] != order {
				t.Errorf("group %s: %s, want %s", group, seen[group], order)
			}
		}
		for i, r := range all {
			notStarted := r.MessageID == "a3" || r.MessageID == "d2"
			if errors.Is(errs[i], batch.ErrNotStarted) != notStarted {
				t.Errorf("%s: %v", r.MessageID, errs[i])
			}
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v: groups waited for each other", took)
		}
	})
}

// On a standard queue a group is for fairness only.
func TestEachIgnoresGroupsOfStandardQueues(t *testing.T) {
	all := records(3)
	for i := range all {
		all[i].Group = "tenant"
	}
	for i, err := range batch.Each(1, func(context.Context, batch.Record) error { return errCause })(t.Context(), all) {
		if !errors.Is(err, errCause) {
			t.Errorf("outcome %d is %v", i, err)
		}
	}
}

// A record that hangs every time must end in the dead-letter queue, or it would circle for ever.
func TestRecordThatHangsIsPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		fn := batch.Each(10, func(_ context.Context, r batch.Record) error {
			if r.MessageID == "hangs" {
				<-release
			}
			return nil
		})
		b := newBench()
		ctx, cancel := context.WithTimeout(t.Context(), functionTime)
		defer cancel()
		wantIDs(t, b.handleWith(ctx, t, fn, message("fine", 9), message("hangs", 9)))
		if got := b.deadLetter.bodies(); !slices.Equal(got, []string{"hangs"}) || !strings.Contains(b.deadLetter.sent[0].Attributes["waybill"].String, `"reason":"unfinished"`) {
			t.Errorf("dead letters %+v", b.deadLetter.sent)
		}
		if len(b.source.sent) != 0 {
			t.Errorf("sent again %+v", b.source.sent)
		}
	})
}

// When time is up a group ends too, and what comes later changes nothing that was answered.
func TestEachWhenTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		all := records(3)
		for i := range all {
			all[i].FIFO = true
		}
		all[2].Group = "other"
		var begun atomic.Int32
		errs := batch.Each(2, func(_ context.Context, r batch.Record) error {
			begun.Add(1)
			if r.Group == "other" {
				<-time.After(time.Minute)
			}
			<-time.After(1100 * time.Millisecond)
			return nil
		})(ctx, all)
		before := slices.Clone(errs)
		<-time.After(2 * time.Minute)
		if begun.Load() != 2 || errs[0] != nil || !errors.Is(errs[1], batch.ErrNotStarted) || errs[2] == nil {
			t.Errorf("%d begun, outcomes %v", begun.Load(), errs)
		}
		if fmt.Sprint(before) != fmt.Sprint(errs) {
			t.Errorf("outcomes changed from %v to %v", before, errs)
		}
	})
}

func TestProtect(t *testing.T) {
	if err := batch.Protect(func() error { return errCause }); !errors.Is(err, errCause) {
		t.Errorf("got %v", err)
	}
	if err := batch.Protect(func() error { return nil }); err != nil {
		t.Errorf("got %v", err)
	}
	for name, value := range map[string]any{"text": "poison", "nil": nil, "error": errCause, "horror": horror{}, "long": strings.Repeat("x", 1<<20)} {
		err := batch.Protect(func() error { panic(value) })
		if err == nil || len(err.Error()) > 600 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
