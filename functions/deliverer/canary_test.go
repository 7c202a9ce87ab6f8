package deliverer_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/registry"
)

func withCanary(t *testing.T, w *world) {
	t.Helper()
	canary, err := registry.NewCanary("http://127.0.0.1/", secret)
	if err != nil {
		t.Fatal(err)
	}
	w.directory.set = w.directory.set.WithCanary(canary)
}

func canaryMessage(age time.Duration) delivery.Message {
	m := message("1", registry.CanaryID)
	m.AcceptedAt = time.Now().Add(-age)
	return m
}

// A delivery to the canary ends by itself: no dead letter calls people for what its own alarm tells, and none is parked when it is of no use any more.
func TestOutlivedCanaryIsDropped(t *testing.T) {
	for name, c := range map[string]struct {
		age           time.Duration
		known, paused bool
		calls, left   int // HTTP calls, and messages that go on
		parked        int
	}{
		"in time":            {time.Minute, true, false, 1, 1, 0},
		"at the end":         {registry.CanaryLife, true, false, 1, 1, 0},
		"outlived":           {registry.CanaryLife + time.Second, true, false, 0, 0, 0},
		"paused":             {time.Minute, true, true, 0, 1, 1},
		"paused, outlived":   {registry.CanaryLife + time.Second, true, true, 0, 0, 0},
		"switched off since": {time.Minute, false, false, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.answer = failing
				if c.known {
					withCanary(t, w)
				}
				if c.paused {
					w.directory.pause(registry.CanaryID)
				}
				want(t, w.deliver(canaryMessage(c.age))[0], outcome.Acknowledged)
				sent, _ := w.deliveries.take(t)
				held, parked := w.room.take()
				if len(w.calls) != c.calls || len(sent)+len(held) != c.left || parked != c.parked {
					t.Errorf("%d calls, %d messages go on, %d parked", len(w.calls), len(sent)+len(held), parked)
				}
				if letters, _ := w.deadLetters.take(t); len(letters) != 0 {
					t.Errorf("dead letters %+v", letters)
				}
			})
		})
	}
}

// What the canary refuses for good ends there, as a row in the ledger: no dead letter, no retry, and nobody is told that something was given up.
func TestRefusedCanaryIsNoDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		withCanary(t, w)
		w.answer = rejected
		line := w.measured(canaryMessage(0))
		if letters, _ := w.deadLetters.take(t); len(letters) != 0 || len(w.next()) != 0 || w.row(canaryMessage(0)).State != ledger.Dead {
			t.Errorf("dead letters %+v, waybill %+v", letters, w.row(canaryMessage(0)))
		}
		if line["Attempts"] != 1.0 || line["Delivered"] != nil || line["Dead"] != nil || line["GivenUp"] != nil {
			t.Errorf("metrics %v", line)
		}
	})
}

// However long its receiver fails, nothing remains of it.
func TestFailingCanaryLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		withCanary(t, w)
		w.answer = failing
		left := []delivery.Message{canaryMessage(0)}
		for rounds := 0; len(left) > 0; rounds++ {
			if rounds > 20 {
				t.Fatal("it goes on for ever")
			}
			time.Sleep(90 * time.Second)
			want(t, w.deliver(left[0])[0], outcome.Acknowledged)
			left = w.next()
		}
		if letters, _ := w.deadLetters.take(t); len(letters) != 0 || len(w.calls) < 3 {
			t.Errorf("%d dead letters after %d calls", len(letters), len(w.calls))
		}
	})
}

// The objective is a promise about other people's events.
func TestCanaryIsNotInTheObjective(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		withCanary(t, w)
		other := message("2", "crm")
		other.AcceptedAt = time.Now()
		line := w.measured(canaryMessage(0), other)
		if line["SettledTotal"] != 1.0 || line["SettledGood"] != 1.0 || line["Delivered"] != 2.0 {
			t.Errorf("settled %v, good %v, delivered %v; want 1, 1, 2", line["SettledTotal"], line["SettledGood"], line["Delivered"])
		}
		if row := w.row(canaryMessage(0)); row.State != ledger.Delivered {
			t.Errorf("its waybill: %+v", row)
		}
	})
}
