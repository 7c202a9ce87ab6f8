package load

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Time is told to whom it belongs: a goroutine, and what it starts, carries its part's label.
func TestTimeIsToldByPart(t *testing.T) {
	m, err := startMeter()
	if err != nil {
		t.Fatal(err)
	}
	as(partReceiver, func(context.Context) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for end := processTime() + 300*time.Millisecond; processTime() < end; { // not of the clock: a busy machine may give none of it
			}
		}()
		<-done
	})
	cpu, raw, err := m.stop()
	if err != nil || len(raw) == 0 {
		t.Fatal(err)
	}
	if cpu.Receiver < 0.5 || cpu.Total <= 0 {
		t.Errorf("%+v", cpu)
	}
}

func TestPartOfAStack(t *testing.T) {
	const mapping, handler = "github.com/waybillhq/waybill/shared/awslocal/mapping.(*fleet).poll", "github.com/aws/aws-lambda-go/lambda.handlerFunc.Invoke"
	const ours = "github.com/waybillhq/waybill/functions/wiring.eventHandler.Invoke"
	for want, s := range map[string][]sample{
		partEmulator:  {{label: partEmulator}, {label: partFunctions, stack: []string{"runtime.memmove", mapping}}},
		partFunctions: {{label: partFunctions, stack: []string{handler, mapping}}, {label: partFunctions, stack: []string{ours, mapping}}, {label: partFunctions, stack: []string{"net/http.(*persistConn).readLoop"}}},
		"":            {{stack: []string{"runtime.gcBgMarkWorker"}}},
	} {
		for _, one := range s {
			if got := one.part(); got != want {
				t.Errorf("%v belongs to %q, want %q", one, got, want)
			}
		}
	}
}

func TestDamagedProfileIsRefused(t *testing.T) {
	for _, raw := range [][]byte{{0x80}, {0x0a}, {0x0a, 0x05, 1}, {0x0d, 1, 2, 3, 4}} {
		if err := each(raw, func(int, fields) {}); !errors.Is(err, errProfile) {
			t.Errorf("%x: %v", raw, err)
		}
	}
}

func TestPercentile(t *testing.T) {
	var sorted []time.Duration
	for n := range 100 {
		sorted = append(sorted, time.Duration(n+1))
	}
	if percentile(sorted, 0.5) != 51 || percentile(sorted, 0.99) != 100 || percentile(nil, 0.5) != 0 || percentile(sorted[:1], 0.99) != 1 {
		t.Errorf("%d %d", percentile(sorted, 0.5), percentile(sorted, 0.99))
	}
}
