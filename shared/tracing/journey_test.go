package tracing_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/xray"
	"github.com/waybillhq/waybill/shared/tracing"
)

// One delivery through two functions, as they are wired: locally with and without somebody who plays Lambda's part.
func TestJourneyOfADelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		daemon := xray.New(xray.Options{})
		tr, err := tracing.New(tracing.Config{Emit: daemon.Receive})
		if err != nil {
			t.Fatal(err)
		}

		// The router: no trace came with the event, so the router's becomes the event's own.
		ctx, end := tr.Invocation(context.Background(), "router")
		routeCtx, route := tracing.Start(ctx, "route")
		sent := tracing.Header(routeCtx)
		route.Annotate(slog.String("event", "e-1"), slog.String("event_trace", tracing.TraceID(sent)))
		time.Sleep(4 * time.Millisecond)
		route.End()
		end(nil)

		// The deliverer, under a header from Lambda.
		time.Sleep(time.Second)
		header, over := daemon.Invocation("deliverer")
		ctx, end = tr.Invocation(tracing.WithHeader(context.Background(), header), "deliverer")
		_, claim := tracing.Start(ctx, "claim")
		time.Sleep(3 * time.Millisecond)
		claim.End()
		attemptCtx, attempt := tracing.Start(ctx, "attempt")
		attempt.Annotate(slog.String("delivery", "3v0"), slog.String("destination", "flaky"), slog.Int("attempt", 1), slog.Int("epoch", 0),
			slog.String("event_trace", tracing.TraceID(sent)))
		if traceparent := tracing.Traceparent(tracing.Header(attemptCtx)); tracing.FromTraceparent(traceparent) != tracing.Header(attemptCtx) {
			t.Errorf("traceparent %q for %q", traceparent, tracing.Header(attemptCtx))
		}
		time.Sleep(700 * time.Millisecond)
		attempt.HTTP("POST", "https://flaky.example.com/hook", 500, 0)
		attempt.Annotate(slog.String("verdict", "retry"))
		attempt.End()
		_, settle := tracing.Start(ctx, "settle")
		settle.Fail(errors.New("throttled by DynamoDB"))
		time.Sleep(2 * time.Millisecond)
		settle.End()
		end(nil)
		over(false)

		var out bytes.Buffer
		if err := daemon.Tree(&out, "3v0"); err != nil {
			t.Fatal(err)
		}
		got := regexp.MustCompile(`1-[0-9a-f]{8}-[0-9a-f]{24}`).ReplaceAllString(out.String(), "1-…")
		const want = `delivery 3v0  (event trace 1-…)
router  00:00:00.000  4 ms  1-…
└─ route  +0 µs  4 ms  event=e-1
deliverer  00:00:01.004  705 ms  1-…
├─ claim  +0 µs  3 ms
├─ attempt 1  +3 ms  700 ms  destination=flaky  epoch=0  verdict=retry  http=500  fault
└─ settle  +703 ms  2 ms  fault  "throttled by DynamoDB"
`
		if got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
		if s := daemon.Stats(); s.Refused != 0 {
			t.Errorf("%+v", s)
		}
	})
}
