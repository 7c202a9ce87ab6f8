package tracing_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/waybillhq/waybill/shared/tracing"
)

const unsampled = "Root=" + root + ";Parent=" + parent + ";Sampled=0"

// work is what one delivery costs in tracing.
func work(ctx context.Context, delivery, destination string, attempt int) {
	_, span := tracing.Start(ctx, "attempt")
	span.Annotate(slog.String("delivery", delivery), slog.String("destination", destination), slog.Int("attempt", attempt), slog.Int("epoch", 0))
	span.HTTP("POST", "https://hooks.example.com/orders", 200, 12)
	span.Annotate(slog.String("verdict", "delivered"))
	span.Fail(nil)
	span.End()
}

// What is not sampled must not be paid for.
func TestUnsampledAllocatesNothing(t *testing.T) {
	tr, _ := tracer(t, tracing.Config{})
	ctx, end := tr.Invocation(inLambda(t, unsampled), "deliverer")
	defer end(nil)
	for name, ctx := range map[string]context.Context{"not sampled": ctx, "no invocation": t.Context()} {
		if n := testing.AllocsPerRun(100, func() { work(ctx, "3v0", "orders-crm", 1000) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = tracing.Header(ctx) }); n != 0 {
		t.Errorf("header: %v allocations", n)
	}
}

func BenchmarkSpan(b *testing.B) {
	discard := func([]byte) error { return nil }
	run := func(name, header string) {
		b.Run(name, func(b *testing.B) {
			tr, err := tracing.New(tracing.Config{Emit: discard})
			if err != nil {
				b.Fatal(err)
			}
			ctx, end := tr.Invocation(tracing.WithHeader(b.Context(), header), "deliverer")
			defer end(nil)
			b.ReportAllocs()
			for b.Loop() {
				work(ctx, "3v0", "orders-crm", 1000)
			}
		})
	}
	b.Run("baseline", func(b *testing.B) { // looking for a value in the same context
		ctx := tracing.WithHeader(b.Context(), unsampled)
		b.ReportAllocs()
		for b.Loop() {
			if ctx.Value(b) != nil {
				b.Fatal()
			}
		}
	})
	run("unsampled", unsampled)
	run("sampled", given)
}
