package pace_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/pace"
	"github.com/waybillhq/waybill/shared/pace/pacetest"
)

// environments are two that share a store.
func environments(t *testing.T) (store *pacetest.Memory, here, there *pace.Pace, problems *[]error) {
	t.Helper()
	store, problems = &pacetest.Memory{}, new([]error)
	make := func() *pace.Pace {
		p, err := pace.New(pace.Config{Store: store, OnProblem: func(err error) { *problems = append(*problems, err) }})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	return store, make(), make(), problems
}

func late(t *testing.T, p *pace.Pace, n int) {
	t.Helper()
	p.Late(t.Context(), map[string]int{"crm": n})
}

// Three late answers, wherever they were noticed, make a destination slow everywhere, and nobody else; half a minute without one makes it fast again.
func TestSlowIsKnownEverywhereAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, here, there, _ := environments(t)
		late(t, here, 1)
		late(t, there, 1)
		if here.Slow(t.Context(), "crm") || there.Slow(t.Context(), "crm") {
			t.Error("slow after two")
		}
		late(t, here, 1)
		time.Sleep(5 * time.Second) // what the other has read may be as old as that
		if !here.Slow(t.Context(), "crm") || !there.Slow(t.Context(), "crm") {
			t.Error("not slow after three")
		}
		if here.Slow(t.Context(), "fine") {
			t.Error("another destination is slow")
		}
		time.Sleep(15 * time.Second)
		if !here.Slow(t.Context(), "crm") {
			t.Error("fast again while the last half minute had three")
		}
		time.Sleep(30 * time.Second)
		if here.Slow(t.Context(), "crm") || there.Slow(t.Context(), "crm") {
			t.Error("slow for ever")
		}
	})
}

// A late answer among a hundred quick ones is forgiven; a destination that has turned slow is not forgiven what came before.
func TestOneLateAnswerAmongManyIsForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, here, _, _ := environments(t)
		for range 5 {
			for range 100 {
				here.Quick("crm")
			}
			late(t, here, 1)
		}
		if store.Adds != 0 || here.Slow(t.Context(), "crm") {
			t.Errorf("%d told", store.Adds)
		}
		for range 1000 {
			here.Quick("crm")
		}
		late(t, here, 3)
		late(t, here, 1)
		if here.Slow(t.Context(), "crm") {
			t.Error("slow after two that count")
		}
		late(t, here, 1)
		if !here.Slow(t.Context(), "crm") {
			t.Error("a thousand quick answers forgive for ever")
		}
	})
}

// Old slots are removed, and what a store does not answer makes nobody slow and is asked again.
func TestStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, here, _, problems := environments(t)
		late(t, here, 3)
		time.Sleep(time.Minute)
		here.Slow(t.Context(), "crm")
		late(t, here, 1)
		if len(store.Rows["crm"]) != 1 {
			t.Errorf("old slots stay: %v", store.Rows["crm"])
		}
		store.Err = errors.New("down")
		late(t, here, 3)
		if len(*problems) != 1 || here.Slow(t.Context(), "crm") {
			t.Errorf("%v", *problems)
		}
		time.Sleep(10 * time.Second)
		reads := store.Reads
		for range 10 {
			if here.Slow(t.Context(), "fine") {
				t.Error("slow because nobody knows")
			}
		}
		if store.Reads != reads+1 || len(*problems) != 2 {
			t.Errorf("read %d times while it is down", store.Reads-reads)
		}
		store.Err = nil
		time.Sleep(10 * time.Second)
		late(t, here, 3)
		if !here.Slow(t.Context(), "crm") {
			t.Error("it does not recover")
		}
	})
}

// Many ask at once, one reads.
func TestOneReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, here, _, _ := environments(t)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { here.Slow(t.Context(), "crm") })
			wg.Go(func() { here.Quick("crm") })
		}
		wg.Wait()
		if store.Reads != 1 {
			t.Errorf("%d reads", store.Reads)
		}
	})
}

func TestNew(t *testing.T) {
	store := &pacetest.Memory{}
	for name, cfg := range map[string]pace.Config{
		"no store": {}, "enough": {Store: store, Enough: -1}, "patience": {Store: store, Patience: -1}, "forgiven": {Store: store, Forgiven: -1},
		"age": {Store: store, MaxAge: -1}, "timeout": {Store: store, Timeout: -1}, "pause": {Store: store, Pause: -1},
	} {
		if _, err := pace.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Asked for every delivery, so that it must cost nothing.
func BenchmarkSlow(b *testing.B) {
	p, err := pace.New(pace.Config{Store: &pacetest.Memory{}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if p.Slow(b.Context(), "crm") {
			b.Fatal("slow")
		}
	}
}

// What a slot says already is not said again: what a destination that hangs costs does not grow with the time for which it hangs, and it stays slow.
func TestEnoughIsSaidOnceASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, here, there, _ := environments(t)
		for range 30 { // a minute and six slots
			late(t, here, 10)
			time.Sleep(2 * time.Second)
			if !there.Slow(t.Context(), "crm") {
				t.Error("not slow elsewhere")
			}
		}
		if store.Adds != 6 {
			t.Errorf("%d writes in six slots", store.Adds)
		}
		time.Sleep(20 * time.Second)
		if !there.Slow(t.Context(), "crm") {
			t.Error("fast too soon")
		}
	})
}

// Problems of many destinations at a time are told as one.
func TestOneProblemOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, here, _, problems := environments(t)
		store.Err = errors.New("down")
		calls := map[string]int{}
		for i := range 100 {
			calls[string(rune('a'+i))] = 1
		}
		here.Late(t.Context(), calls)
		if len(*problems) != 1 || !strings.Contains((*problems)[0].Error(), "100 destinations") {
			t.Errorf("%d problems: %v", len(*problems), *problems)
		}
	})
}
