package deliverer_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/outcome"
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

// A destination that answers 410 for ever must not keep its deliveries for ever: whether one was a probe or only waited, it is given up when
// it has been held too long.
func TestHeldTooLongIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = gone
		began := time.Now()
		m := message("1", "crm")
		for time.Since(began) < longestPark+48*time.Hour {
			if err := w.deliver(m)[0]; err != nil {
				want(t, err, outcome.Deferred)
				time.Sleep(outcome.Of(err).Delay)
				continue
			}
			next, _ := w.deliveries.take(t)
			if len(next) == 0 {
				break
			}
			m = next[0]
			time.Sleep(max(time.Until(m.DueAt), time.Minute))
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
	})
}

// Attempts that met a disabled destination are not held against the delivery: once it answers again, the whole schedule is left.
func TestProbesSpendNothingOfTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.answer = gone
		m := message("1", "crm")
		for range 5 {
			want(t, w.deliver(m)[0], outcome.Acknowledged)
			next, _ := w.deliveries.take(t)
			if len(next) != 1 {
				t.Fatalf("%d successors", len(next))
			}
			m = next[0]
			time.Sleep(time.Until(m.DueAt))
		}
		w.answer = failing
		attempts := 0
		for {
			want(t, w.deliver(m)[0], outcome.Acknowledged)
			attempts++
			next, _ := w.deliveries.take(t)
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
		"successor": func(w *world) { w.answer = failing },
		"held":      func(w *world) { w.answer = gone },
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
