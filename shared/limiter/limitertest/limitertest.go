// Package limitertest is the conformance suite of limiter.Store, and a store in memory that passes it, for the tests of those who use limiters.
package limitertest

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/limiter"
)

// Run puts the store that open gives through the suite. open is called once for every test and must give an empty store each time.
func Run(t *testing.T, open func(t *testing.T) limiter.Store) {
	t.Run("a step is what Apply says", func(t *testing.T) { testSteps(t, open(t)) })
	t.Run("no call is given away twice", func(t *testing.T) { testConcurrently(t, open(t)) })
}

// at has nanoseconds, to catch rounding.
var at = time.Unix(1_795_000_000, 123_456_789)

// testSteps makes steps at random, near each other, and compares each with the rule.
func testSteps(t *testing.T, store limiter.Store) {
	random := rand.New(rand.NewPCG(1, 2))
	some := func() time.Time { return at.Add(time.Duration(random.IntN(40)) * time.Millisecond) }
	rows := map[string]limiter.Row{}
	var made, refused [4]int
	for range 2000 {
		destination := []string{"crm", "erp"}[random.IntN(2)]
		by := time.Duration(random.IntN(4)) * time.Millisecond // often to exactly where the next step's bounds are
		if random.IntN(8) == 0 {
			by = time.Duration(random.IntN(3_000_000))
		}
		step := limiter.Step{
			Kind: limiter.Kind(random.IntN(2)), Afresh: random.IntN(2) == 0, From: some(), Until: some().Add(20 * time.Millisecond), Beyond: some().Add(30 * time.Millisecond),
			By: by, Interval: time.Duration(1 + random.IntN(2)), Unqueued: random.IntN(3) == 0, QueueEnds: some(), Expires: at.Add(time.Hour),
		}
		which := 2 * int(step.Kind)
		if step.Afresh {
			which++
		}
		want, may := step.Apply(rows[destination])
		got, err := store.Step(t.Context(), destination, step)
		if may != (err == nil) || err != nil && !errors.Is(err, limiter.ErrRefused) || !same(got, want) {
			t.Fatalf("%+v\n on %+v\ngave %+v, %v\nwant %+v, made: %v", step, rows[destination], got, err, want, may)
		}
		if rows[destination] = want; may {
			made[which]++
		} else {
			refused[which]++
		}
	}
	for which := range made {
		if made[which] < 5 || refused[which] < 5 {
			t.Errorf("steps made %v, refused %v: too few of each form to say anything", made, refused)
		}
	}
}

func same(a, b limiter.Row) bool {
	utc := func(r limiter.Row) limiter.Row {
		for _, at := range []*time.Time{&r.Next, &r.Queue} {
			if !at.IsZero() {
				*at = at.UTC()
			}
		}
		return r
	}
	return reflect.DeepEqual(utc(a), utc(b))
}

func testConcurrently(t *testing.T, store limiter.Store) {
	const interval = time.Millisecond
	var mu sync.Mutex
	given := map[time.Time]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			afresh := true
			for made := 0; made < 10; {
				step := limiter.Step{Afresh: afresh, From: at, Until: at.Add(time.Hour), Beyond: at.Add(time.Hour), By: interval, Interval: interval, Expires: at.Add(time.Hour)}
				row, err := store.Step(t.Context(), "crm", step)
				if errors.Is(err, limiter.ErrRefused) {
					afresh = false
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				made++
				mu.Lock()
				given[row.Next.UTC()]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(given) != 80 || given[at.Add(80*interval).UTC()] != 1 {
		t.Errorf("%d different calls of 80", len(given))
	}
}
