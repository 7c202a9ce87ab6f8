package deliverer_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/functions/deliverer"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/waiting"
	"github.com/waybillhq/waybill/shared/waybill"
)

func answering(r downstream.Result) func(context.Context, downstream.Attempt) downstream.Result {
	return func(context.Context, downstream.Attempt) downstream.Result { return r }
}

var (
	gone     = answering(downstream.Result{Verdict: downstream.Gone, Code: 410, Reason: "http-410"})
	failing  = answering(downstream.Result{Verdict: downstream.Retry, Code: 500, Reason: "http-500"})
	rejected = answering(downstream.Result{Verdict: downstream.Reject, Code: 400, Reason: "http-400", Detail: "no"})
)

// A destination that answers 410 for ever must not keep its deliveries for ever: one is given up when it has been held too long, whether it was tried
// in vain meanwhile or only lay there.
func TestHeldTooLongIsGivenUp(t *testing.T) {
	for _, enabled := range []bool{true, false} {
		t.Run(fmt.Sprintf("enabled every day: %t", enabled), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.answer = gone
				began := time.Now()
				m := message("1", "crm")
				for time.Since(began) < longestPark+48*time.Hour {
					want(t, w.deliver(m)[0], outcome.Acknowledged)
					next := w.next()
					if len(next) == 0 {
						break
					}
					m = next[0]
					time.Sleep(24 * time.Hour)
					if enabled {
						w.directory.enable("crm")
					}
				}
				letters, _ := w.deadLetters.take(t)
				if len(letters) != 1 {
					t.Fatalf("after %v there are %d dead letters; the message is at attempt %d, held since %v", time.Since(began), len(letters), m.Attempt, m.HeldSince)
				}
				if held := time.Since(began); held < longestPark {
					t.Errorf("given up after %v", held)
				}
				if l := letters[0]; l.Epoch != 1 || l.Attempt != 1 || !l.HeldSince.IsZero() || !l.DueAt.IsZero() || l.Waited != 0 {
					t.Errorf("dead letter %+v", l)
				}
				if calls := len(w.calls); enabled && calls < 14 || !enabled && calls != 1 {
					t.Errorf("%d calls", calls)
				}
			})
		})
	}
}

// Attempts that met a disabled destination are not held against the delivery: once it answers again, the whole schedule is left.
func TestAttemptsAtADisabledDestinationSpendNothingOfTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = gone
		m := message("1", "crm")
		for range 5 {
			want(t, w.deliver(m)[0], outcome.Acknowledged)
			next := w.next()
			if len(next) != 1 {
				t.Fatalf("%d successors", len(next))
			}
			m = next[0]
			w.directory.enable("crm")
			time.Sleep(time.Hour)
		}
		w.answer = failing
		attempts := 0
		for {
			want(t, w.deliver(m)[0], outcome.Acknowledged)
			attempts++
			next := w.next()
			if len(next) == 0 {
				break
			}
			m = next[0]
			time.Sleep(2 * time.Hour)
		}
		if attempts != 3 {
			t.Errorf("%d attempts after the destination was back, the schedule has 3", attempts)
		}
		if letters, _ := w.deadLetters.take(t); len(letters) != 1 || w.row(m).State != ledger.Dead {
			t.Errorf("%d dead letters, %+v", len(letters), w.row(m))
		}
	})
}

// A destination that may not receive costs neither attempts nor calls nor ledger writes.
func TestParkedWithoutAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.directory.pause("crm")
		paused, other := message("1", "crm"), message("1", "slow")
		for _, err := range w.deliver(paused, other) {
			want(t, err, outcome.Acknowledged)
		}
		held, parked := w.room.take()
		if len(held) != 1 || parked != 1 || held[0].Attempt != 1 || !held[0].HeldSince.Equal(time.Now()) {
			t.Fatalf("held: %+v", held)
		}
		if len(w.calls) != 1 || w.calls[0].Destination.ID != "slow" || w.row(paused).State != "" {
			t.Errorf("%d calls, waybill %+v", len(w.calls), w.row(paused))
		}
		w.directory.enable("crm")
		want(t, w.deliver(held[0])[0], outcome.Acknowledged)
		if row := w.row(paused); row.State != ledger.Delivered || row.Attempt != 1 {
			t.Errorf("in the end %+v", row)
		}
	})
}

// What the waiting room does not take is not acknowledged, and the attempt not settled; what does not fit there is delayed by the queue.
func TestWaitingRoomRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		refuse error
		kind   outcome.Kind
		sent   int
	}{
		"down":      {errDown, outcome.Retried, 0},
		"too large": {fmt.Errorf("%w: 1 MiB", waiting.ErrTooLarge), outcome.Acknowledged, 1},
		"too soon":  {fmt.Errorf("%w: in a minute", waiting.ErrTooSoon), outcome.Acknowledged, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.room.refuse = c.refuse
				w.answer = failing
				m := message("1", "crm")
				m.Attempt = 2 // after the second one the schedule waits for an hour
				want(t, w.deliver(m)[0], c.kind)
				next, raw := w.deliveries.take(t)
				if len(next) != c.sent {
					t.Fatalf("%d messages", len(next))
				}
				if c.sent == 0 {
					if row := w.row(m); row.State != ledger.Claimed {
						t.Errorf("settled without a future: %+v", row)
					}
					return
				}
				if raw[0].Delay != 15*time.Minute || !next[0].DueAt.Equal(time.Now().Add(48*time.Minute)) || next[0].Attempt != 3 {
					t.Errorf("delayed by %v: %+v", raw[0].Delay, next[0])
				}
				time.Sleep(15 * time.Minute)
				if o := want(t, w.deliver(next[0])[0], outcome.Deferred); o.Delay != 15*time.Minute {
					t.Errorf("the chain goes on after %v", o.Delay)
				}
				// Parked ones go round until the destination may receive.
				w.directory.pause("slow")
				want(t, w.deliver(message("2", "slow"))[0], outcome.Acknowledged)
				if again, raw := w.deliveries.take(t); len(again) != 1 || again[0].HeldSince.IsZero() || !again[0].DueAt.IsZero() || raw[0].Delay != 15*time.Minute {
					t.Errorf("parked as %+v", again)
				}
			})
		})
	}
}

// The first 410 disables the destination and is told of as an event; if it cannot be written, the delivery is parked all the same.
func TestGoneDestinationIsDisabledAndToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = gone
		for _, err := range w.deliver(message("1", "crm"), message("2", "crm")) {
			want(t, err, outcome.Acknowledged)
		}
		if _, parked := w.room.take(); parked != 2 || w.directory.states["crm"].MayReceive() {
			t.Errorf("%d parked, state %+v", parked, w.directory.states["crm"])
		}
		if len(w.notices.sent) != 1 {
			t.Fatalf("%d events", len(w.notices.sent))
		}
		if group := w.notices.sent[0].Group; group != deliverer.OwnTenant {
			t.Errorf("told in the group %q", group)
		}
		told, err := events.Decode(events.Input{Body: w.notices.sent[0].Body, MessageID: "1", SentAt: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if e := told.Events[0]; e.Type != deliverer.TypeDisabled || e.Subject != "crm" || e.Tenant() != deliverer.OwnTenant || !strings.Contains(string(e.Data), `"code":410`) ||
			e.Time != time.Now().UTC().Format(time.RFC3339Nano) {
			t.Errorf("event %+v", e)
		}
		w.directory.refuse = errDown
		want(t, w.deliver(message("3", "slow"))[0], outcome.Acknowledged)
		if _, parked := w.room.take(); parked != 1 || !strings.Contains(w.logged(t), "could not be disabled") {
			t.Errorf("%d parked; log %s", parked, w.log.String())
		}
	})
}

// keys resolves secrets, or not.
type keys struct{ err error }

func (k keys) Resolve(_ context.Context, d *registry.Destination) (*registry.Destination, error) {
	resolved := *d
	resolved.Tenant = "resolved"
	return &resolved, k.err
}

// Secrets are put in before the claim; that they cannot be read is a fault of ours and costs no attempt.
func TestSecretsAreResolvedBeforeTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Secrets = keys{errDown}
		w.restart()
		m := message("1", "crm")
		want(t, w.deliver(m)[0], outcome.Deferred)
		if len(w.calls) != 0 || w.row(m).State != "" {
			t.Errorf("%d calls, %+v", len(w.calls), w.row(m))
		}
		w.cfg.Secrets = keys{}
		w.restart()
		want(t, w.deliver(m)[0], outcome.Acknowledged)
		if len(w.calls) != 1 || w.calls[0].Destination.Tenant != "resolved" {
			t.Errorf("%d calls", len(w.calls))
		}
	})
}

// Faults of our own in a row are waited for longer and longer, within bounds, until one claim succeeds.
func TestFaultsInARowAreWaitedForLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.claim = func(c []ledger.Claim) []ledger.Answer {
			return slices.Repeat([]ledger.Answer{{Err: ledger.ErrThrottled}}, len(c))
		}
		var waits []time.Duration
		for range 20 {
			outcomes := w.deliver(message("1", "crm"), message("2", "crm"), message("3", "slow")) // a batch counts once
			waits = append(waits, want(t, outcomes[0], outcome.Deferred).Delay)
			if other := want(t, outcomes[2], outcome.Deferred).Delay; other != waits[len(waits)-1] {
				t.Errorf("in one batch %v and %v", waits[len(waits)-1], other)
			}
			time.Sleep(time.Minute)
		}
		if waits[0] != 15*time.Second || waits[1] != 30*time.Second || waits[19] != 4*time.Minute || !slices.IsSorted(waits) {
			t.Errorf("waits %v", waits)
		}
		claim := w.store.claim
		w.store.claim = nil
		want(t, w.deliver(message("1", "crm"))[0], outcome.Acknowledged)
		w.store.claim = claim
		if again := want(t, w.deliver(message("4", "crm"))[0], outcome.Deferred).Delay; again != 15*time.Second {
			t.Errorf("after a success %v", again)
		}
	})
}

// A verdict that nobody knows, or no answer at all, never acknowledges.
func TestUnknownAnswersNeverAcknowledge(t *testing.T) {
	for name, claim := range map[string]func([]ledger.Claim) []ledger.Answer{
		"unknown verdict": func(c []ledger.Claim) []ledger.Answer { return make([]ledger.Answer, len(c)) },
		"no answer":       func([]ledger.Claim) []ledger.Answer { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.store.claim = claim
				for _, err := range w.deliver(message("1", "crm"), message("2", "crm")) {
					want(t, err, outcome.Deferred)
				}
				if len(w.calls) != 0 {
					t.Errorf("%d calls without a claim", len(w.calls))
				}
			})
		})
	}
	t.Run("settle without an answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.store.settle = func(context.Context, []ledger.Settlement) []error { return nil }
			want(t, w.deliver(message("1", "crm"))[0], outcome.Acknowledged)
			if sent, _ := w.deliveries.take(t); len(sent) != 1 || sent[0].Outcome == nil {
				t.Errorf("the outcome is in neither the ledger nor a message: %+v", sent)
			}
		})
	})
	t.Run("held without an answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.deadLetters.silent = true
			want(t, w.deliver(message("1", "unheard-of"))[0], outcome.Retried)
		})
	})
}

// What could not be made durable comes back when its lease is over, not at once to find it live.
func TestUnsentFutureComesBackWithTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = failing
		w.deliveries.refuse = errDown
		m := message("1", "crm")
		o := want(t, w.deliver(m)[0], outcome.Retried)
		row := w.row(m)
		if row.State != ledger.Claimed {
			t.Fatalf("settled without a successor: %+v", row)
		}
		if back := time.Now().Add(o.Delay); back.Before(row.LeaseUntil) || back.After(row.LeaseUntil.Add(5*time.Second)) {
			t.Errorf("back %v after the lease's end", back.Sub(row.LeaseUntil))
		}
	})
}

// A queue that hangs while the successor of one delivery is sent must not keep the books of its neighbours from being written: unwritten, their
// effects would be repeated.
func TestHangingQueueLeavesNeighboursSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deliveries.hang = true
		w.answer = func(_ context.Context, a downstream.Attempt) downstream.Result {
			if a.Event.ID == "bad" {
				return downstream.Result{Verdict: downstream.Retry, Code: 500, Reason: "http-500"}
			}
			return downstream.Result{Verdict: downstream.Delivered, Code: 200}
		}
		good, bad := message("good", "crm"), message("bad", "crm")
		outcomes := w.deliver(good, bad)
		want(t, outcomes[0], outcome.Acknowledged)
		want(t, outcomes[1], outcome.Retried)
		if row := w.row(good); row.State != ledger.Delivered {
			t.Errorf("the neighbour stands as %+v", row)
		}
	})
}

// An attempt that would have less than its time, because claiming took long, is not begun and not spent.
func TestNoAttemptWithoutItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.claim = func(c []ledger.Claim) []ledger.Answer {
			time.Sleep(25 * time.Second)
			return w.store.Memory.Claim(context.Background(), c)
		}
		w.answer = func(ctx context.Context, _ downstream.Attempt) downstream.Result {
			select {
			case <-ctx.Done():
				return downstream.Result{Reason: downstream.ReasonTimeout}
			case <-time.After(29 * time.Second):
				return downstream.Result{Verdict: downstream.Delivered, Code: 200}
			}
		}
		m := message("1", "slow")
		want(t, w.deliver(m)[0], outcome.Deferred)
		if len(w.calls) != 0 {
			t.Errorf("%d calls", len(w.calls))
		}
		if row := w.row(m); row.State != ledger.Claimed || row.Attempt != 1 || !row.LeaseUntil.IsZero() {
			t.Errorf("not released: %+v", row)
		}
		w.store.claim = nil
		want(t, w.deliver(m)[0], outcome.Acknowledged)
		if row := w.row(m); row.State != ledger.Delivered || row.Attempt != 1 {
			t.Errorf("in the end %+v", row)
		}
	})
}

// Once a replay's epoch is claimed, moving its dead letter back is a redrive like any other, which skips what whoever took over the claim has
// delivered. Before that, only a replay goes on: the ledger may say delivered of an earlier epoch.
func TestDeadLetterOfAReplay(t *testing.T) {
	for destination, replay := range map[string]bool{"crm": false, "easy": true, "nobody": true} {
		t.Run(destination, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.answer = rejected
				first := message("1", destination)
				m := first.Again(true)
				want(t, w.deliver(m)[0], outcome.Acknowledged)
				letters, _ := w.deadLetters.take(t)
				if len(letters) != 1 || letters[0].Replay != replay || letters[0].Epoch != 2 || letters[0].PublicID() != m.PublicID() {
					t.Errorf("dead letters %+v, want one of epoch 2 under the same public id, a replay: %t", letters, replay)
				}
			})
		})
	}
}

// A dead letter at the limit of size says why, however long the event's id is.
func TestDeadLetterAtTheLimitHasItsReason(t *testing.T) {
	for name, id := range map[string]string{"short id": "1", "longest id": strings.Repeat("i", 60<<10), "longest id, escaped": strings.Repeat("<", 60<<10)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.answer = rejected
				m := message(id, "crm")
				m.Event.Data = fill(t, m)
				want(t, w.deliver(m)[0], outcome.Acknowledged)
				letters, raw := w.deadLetters.take(t)
				if len(raw) != 1 {
					t.Fatalf("%d dead letters", len(raw))
				}
				_, _, note, err := waybill.Detach(raw[0].Body, raw[0].Attributes)
				if err != nil || note.Reason != "http-400" || note.Code != 400 || note.Detail != "no" || note.Attempts != 1 || note.Destination != "crm" {
					t.Errorf("note %.300v, %v", note, err)
				}
				if letters[0].Event.ID != id {
					t.Error("the event is another one")
				}
				if strings.Contains(w.logged(t), strings.Repeat("i", 2000)) {
					t.Error("the log holds ids of any length")
				}
			})
		})
	}
}

// fill gives incompressible data with which the message has the largest size that the router sends.
func fill(t *testing.T, m delivery.Message) []byte {
	t.Helper()
	random := make([]byte, 1<<20)
	_, _ = rand.Read(random)
	text := base64.RawURLEncoding.EncodeToString(random)
	m.Event.Data = []byte(`""`)
	empty, err := m.Encode(10 << 20)
	if err != nil {
		t.Fatal(err)
	}
	data := []byte(`"` + text[:delivery.MaxBytes-len(empty)] + `"`)
	m.Event.Data = data
	if full, err := m.Encode(delivery.MaxBytes); err != nil || len(full) != delivery.MaxBytes {
		t.Fatalf("%d bytes, %v", len(full), err)
	}
	return data
}

// Whatever a message at the limit becomes, it can be sent.
func TestEveryFormFitsAtTheLimit(t *testing.T) {
	for name, prepare := range map[string]func(*world){
		"successor": func(w *world) { w.answer, w.room.refuse = failing, waiting.ErrTooLarge },
		"held":      func(w *world) { w.answer, w.room.refuse = gone, waiting.ErrTooLarge },
		"outcome": func(w *world) {
			w.store.settle = func(_ context.Context, s []ledger.Settlement) []error {
				return []error{ledger.ErrUnknown}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				prepare(w)
				m := message("1", "slow")
				m.Waited = 300 * time.Hour
				m.Event.Data = fill(t, m)
				for range 3 {
					want(t, w.deliver(m)[0], outcome.Acknowledged)
					next, raw := w.deliveries.take(t)
					if len(raw) != 1 {
						t.Fatalf("%d messages", len(raw))
					}
					noted, ok := waybill.Attach(raw[0], waybill.Note{EventID: "0b9f0d6c-7c8a-4f0e-a5a8-6d8ad3d9c6a1", AcceptedAt: time.Now()})
					if !ok || noted.Size() > 1<<20 {
						t.Errorf("%d bytes, note attached: %t", noted.Size(), ok)
					}
					if next[0].Outcome != nil {
						break
					}
					m = next[0]
					time.Sleep(time.Hour)
				}
			})
		})
	}
}

// What a panicking adapter says may hold payload.
func TestPanicOfAnAdapterIsNotQuoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.panicky()
		want(t, w.deliver(message("1", "crm"))[0], outcome.Retried)
		if strings.Contains(w.logged(t), "payload") {
			t.Errorf("the log quotes the panic: %s", w.log.String())
		}
	})
}
