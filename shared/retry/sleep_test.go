package retry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/retry"
)

func TestSleep(t *testing.T) {
	type sleep func(context.Context, time.Duration) bool
	for name, row := range map[string]struct {
		sleep sleep
		wait  time.Duration // within a context of a minute
		took  time.Duration
		alive bool
	}{
		"ends in time":        {retry.Sleep, time.Second, time.Second, true},
		"context ends":        {retry.Sleep, time.Hour, time.Minute, false},
		"within":              {retry.SleepWithin, time.Second, time.Second, true},
		"would not be within": {retry.SleepWithin, time.Hour, 0, false},
		"within, just":        {retry.SleepWithin, 59 * time.Second, 59 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				if alive, took := row.sleep(ctx, row.wait), time.Since(began); alive != row.alive || took != row.took {
					t.Errorf("%v after %v, want %v after %v", alive, took, row.alive, row.took)
				}
			})
		})
	}
}

// Without a deadline only the end of the context ends it.
func TestSleepIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if began := time.Now(); retry.SleepWithin(ctx, time.Hour) || time.Since(began) != time.Second {
			t.Errorf("after %v", time.Since(began))
		}
	})
}
