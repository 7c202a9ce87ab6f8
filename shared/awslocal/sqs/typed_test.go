package sqs_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

func TestReceiveWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sqs.New(sqs.Options{Seed: 1})
		q, err := s.CreateQueue("orders", nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		got, err := q.Receive(t.Context(), sqs.ReceiveOptions{Wait: 20 * time.Second})
		if err != nil || len(got) != 0 || time.Since(start) != 20*time.Second {
			t.Fatalf("empty queue: %v, %v after %v; want nothing after 20s", got, err, time.Since(start))
		}
		start = time.Now()
		go func() {
			time.Sleep(time.Second)
			delay := 4 * time.Second
			_, err := q.Send(sqs.Outgoing{Body: "x", Delay: &delay})
			if err != nil {
				t.Error(err)
			}
		}()
		got, err = q.Receive(t.Context(), sqs.ReceiveOptions{Wait: 20 * time.Second})
		if err != nil || len(got) != 1 || time.Since(start) != 5*time.Second {
			t.Fatalf("delayed message: %v, %v after %v; want one after 5s", got, err, time.Since(start))
		}
		start = time.Now()
		again, err := q.Receive(t.Context(), sqs.ReceiveOptions{Wait: 31 * time.Second})
		if err != nil || len(again) != 1 || time.Since(start) != 30*time.Second || again[0].Attributes["ApproximateReceiveCount"] != "2" {
			t.Fatalf("visibility timeout: %v, %v after %v; want the second receive after 30s", again, err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.Receive(ctx, sqs.ReceiveOptions{Wait: 20 * time.Second}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("cancelled receive: %v; want the context's error", err)
		}
	})
}
