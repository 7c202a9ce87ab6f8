package breaker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/breaker/breakertest"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
)

// world is a store, environments around it, and the time.
type world struct {
	t     testing.TB
	now   time.Time
	store *breakertest.Memory
	ids   int
}

func newWorld(t testing.TB) *world {
	return &world{t: t, now: noon, store: breakertest.NewMemory()}
}

// environment makes a breaker whose clock is wrong by skew. Jitter is in the middle of its range.
func (w *world) environment(skew time.Duration) *breaker.Breaker {
	w.t.Helper()
	return w.over(w.store, skew, func() float64 { return 0.5 })
}

func (w *world) over(store breaker.Store, skew time.Duration, random func() float64) *breaker.Breaker {
	w.t.Helper()
	b, err := breaker.New(breaker.Config{Store: store, Now: func() time.Time { return w.now.Add(skew) }, Random: random})
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

func (w *world) id() delivery.ID {
	w.ids++
	return delivery.ID(fmt.Sprintf("d%d", w.ids))
}

// verdicts says what a destination answers.
type verdicts func() (downstream.Verdict, time.Duration)

func always(v downstream.Verdict) verdicts {
	return func() (downstream.Verdict, time.Duration) { return v, 0 }
}

// batch makes n deliveries to crm in one batch, as far as they pass, and ends it.
func (w *world) batch(b *breaker.Breaker, n int, answer verdicts) breaker.Report {
	w.t.Helper()
	report, err := w.try(b, n, answer)
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

func (w *world) try(b *breaker.Breaker, n int, answer verdicts) (breaker.Report, error) {
	batch := b.Begin()
	var passed []breaker.Decision
	for range n {
		if d := batch.Gate(context.Background(), "crm", w.id()); d.Pass {
			passed = append(passed, d)
		}
	}
	for _, d := range passed {
		v, after := answer()
		batch.Record("crm", d, v, after)
	}
	return batch.End(context.Background())
}

// gate asks for one delivery in a batch of its own that is not ended: its worker dies.
func (w *world) gate(b *breaker.Breaker, id delivery.ID) breaker.Decision {
	return b.Begin().Gate(context.Background(), "crm", id)
}

// breakDown opens the breaker of crm.
func (w *world) breakDown(b *breaker.Breaker) {
	w.t.Helper()
	for range 10 {
		w.batch(b, 10, always(downstream.Retry))
		if w.store.Row("crm").Phase == breaker.Open {
			return
		}
		w.pass(2 * time.Second)
	}
	w.t.Fatalf("the breaker has not opened: %+v", w.store.Row("crm"))
}

func (w *world) phase(want breaker.Phase) {
	w.t.Helper()
	if row := w.store.Row("crm"); row.Phase != want {
		w.t.Fatalf("phase %q, want %q: %+v", row.Phase, want, row)
	}
}
