package breaker_test

import (
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
)

// What a delivery to a healthy destination costs.
func BenchmarkGateClosed(b *testing.B) {
	for name, prepare := range map[string]func(w *world, e *breaker.Breaker){
		"never failed": func(*world, *breaker.Breaker) {},
		"with a row":   func(w *world, e *breaker.Breaker) { w.batch(e, 3, always(downstream.Retry)) },
	} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b)
			e := w.environment(0)
			prepare(w, e)
			batch := e.Begin()
			b.ReportAllocs()
			for b.Loop() {
				if d := batch.Gate(b.Context(), "crm", "d"); !d.Pass {
					b.Fatal("held")
				}
			}
		})
	}
}

func BenchmarkRecord(b *testing.B) {
	w := newWorld(b)
	batch := w.environment(0).Begin()
	d := batch.Gate(b.Context(), "crm", "d")
	b.ReportAllocs()
	for b.Loop() {
		batch.Record("crm", d, downstream.Delivered, 0)
	}
}

func BenchmarkGateOpen(b *testing.B) {
	w := newWorld(b)
	e := w.environment(0)
	for range 2 {
		w.batch(e, 10, always(downstream.Retry))
		w.pass(8 * time.Second)
	}
	batch := e.Begin()
	b.ReportAllocs()
	for b.Loop() {
		if d := batch.Gate(b.Context(), "crm", "d"); d.Pass {
			b.Fatal("passes")
		}
	}
}

// Healthy deliveries are gated and recorded without allocating.
func TestHealthyDeliveriesAllocateNothing(t *testing.T) {
	w := newWorld(t)
	batch := w.environment(0).Begin()
	one := func() { batch.Record("crm", batch.Gate(t.Context(), "crm", delivery.ID("d")), downstream.Delivered, 0) }
	one()
	if got := testing.AllocsPerRun(100, one); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
