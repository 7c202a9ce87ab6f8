package deliverer_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/limiter"
	"github.com/waybillhq/waybill/shared/limiter/limitertest"
	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/registry"
)

// withRate gives crm a limit, in the words of a destinations file, and the world's deliverer a limiter and a queue for turns.
func (w *world) withRate(fields string) (rows *limitertest.Memory, turns *outbox) {
	w.t.Helper()
	set, err := registry.Parse([]byte(`{"destinations": [
		{"id": "crm", "tenant": "*", "type": "webhook", "webhook": {"url": "https://crm.example", "secrets": ["`+secret+`"]}, "retry": {"schedule": ["1s", "1h"]}, `+fields+`},
		{"id": "easy", "tenant": "*", "type": "webhook", "webhook": {"url": "https://easy.example", "secrets": ["`+secret+`"]}}]}`), registry.Options{InlineSecrets: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.directory.set = set
	rows, turns = &limitertest.Memory{}, &outbox{}
	l, err := limiter.New(limiter.Config{Store: rows, Rules: limiter.Rules{LongestWait: 100 * time.Millisecond}, Random: func() float64 { return 0 }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.cfg.Limiter, w.cfg.Turns = l, turns
	w.restart()
	return rows, turns
}

// many gives first attempts at a destination.
func many(n int, destination string) (messages []delivery.Message) {
	for i := range n {
		messages = append(messages, message(fmt.Sprint(destination, i), destination))
	}
	return messages
}

// What is over the limit costs no attempt, no waybill and no call: it is delayed to its turn, which it keeps, and goes then before those that come after it. Who
// has no limit is called at once.
func TestOverTheLimitWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		rows, turns := w.withRate(`"rate": {"limit": 1, "per": "10s", "burst": 2}`)
		for _, err := range w.deliver(append(many(5, "crm"), message("1", "easy"))...) {
			want(t, err, outcome.Acknowledged)
		}
		delayed, raw := turns.take(t)
		if len(w.calls) != 3 || len(delayed) != 3 || rows.Steps != 2 {
			t.Fatalf("%d calls, %d delayed, %d writes", len(w.calls), len(delayed), rows.Steps)
		}
		for i, m := range delayed {
			if m.Attempt != 1 || m.Turn.IsZero() || m.HeldSince.IsZero() || w.row(m).State != "" || i > 0 && raw[i].Delay < raw[i-1].Delay+10*time.Second {
				t.Errorf("delayed by %v: %+v, waybill %+v", raw[i].Delay, m, w.row(m))
			}
		}
		if raw[0].Delay > 11*time.Second || raw[0].Group != "crm" {
			t.Errorf("the first is delayed by %v, as of group %s", raw[0].Delay, raw[0].Group)
		}
		time.Sleep(raw[0].Delay)
		late := message("late", "crm")
		w.deliver(late, delayed[0])
		if w.row(delayed[0]).State != ledger.Delivered || w.row(late).State != "" {
			t.Errorf("at its turn %+v, one that came later %+v", w.row(delayed[0]), w.row(late))
		}
		if behind, _ := turns.take(t); len(behind) != 1 || !behind[0].Turn.After(delayed[2].Turn) {
			t.Errorf("queued behind: %+v", behind)
		}
	})
}

// A turn later than a queue can delay is waited for in the waiting room, and one that never comes ends as whatever is held for too long.
func TestFarTurnsWaitInTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, turns := w.withRate(`"rate": {"limit": 1, "per": "10m"}`)
		w.deliver(many(4, "crm")...)
		if delayed, _ := turns.take(t); len(delayed) != 1 {
			t.Errorf("%d delayed by the queue", len(delayed))
		}
		held, parked := w.room.take()
		if len(held) != 2 || parked != 0 || !held[0].DueAt.Equal(held[0].Turn) || time.Until(held[1].DueAt) < 20*time.Minute {
			t.Errorf("%d parked of %+v", parked, held)
		}
		forgotten := message("forgotten", "crm")
		forgotten.HeldSince = time.Now().Add(-longestPark)
		w.deliver(forgotten)
		if letters, _ := w.deadLetters.take(t); len(letters) != 1 || !letters[0].Turn.IsZero() {
			t.Errorf("dead letters: %+v", letters)
		}
	})
}

// A retry needs a call of its own, and no turn of the attempt before.
func TestRetriesCountForTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, turns := w.withRate(`"rate": {"limit": 1, "per": "10s", "burst": 1}`)
		w.answer = failing
		m := message("1", "crm")
		m.Turn, m.HeldSince = time.Now(), time.Now()
		w.deliver(m)
		next, _ := w.deliveries.take(t)
		if len(w.calls) != 1 || len(next) != 1 || next[0].Attempt != 2 || !next[0].Turn.IsZero() {
			t.Fatalf("%d calls, then %+v", len(w.calls), next)
		}
		time.Sleep(time.Second)
		want(t, w.deliver(next[0])[0], outcome.Acknowledged)
		if delayed, _ := turns.take(t); len(w.calls) != 1 || len(delayed) != 1 || delayed[0].Attempt != 2 || delayed[0].Waited != next[0].Waited {
			t.Errorf("%d calls, delayed %+v", len(w.calls), delayed)
		}
	})
}

// While nobody knows whether the limit is kept, nobody is called who has one, and it costs neither attempts nor receives.
func TestLimitsCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		rows, turns := w.withRate(`"rate": {"limit": 50}`)
		for name, fail := range map[string]func(func() error){
			"down": func(f func() error) { rows.Before = f }, "answers lost": func(f func() error) { rows.Before, rows.After = nil, f },
		} {
			fail(func() error { return errors.New("no answer") })
			calls := len(w.calls)
			outcomes := w.deliver(message(name, "crm"), message(name, "easy"))
			want(t, outcomes[0], outcome.Deferred)
			want(t, outcomes[1], outcome.Acknowledged)
			if len(w.calls) != calls+1 || w.row(message(name, "crm")).State != "" {
				t.Errorf("%s: %d calls", name, len(w.calls)-calls)
			}
			time.Sleep(time.Minute)
		}
		rows.Before, rows.After = nil, nil
		want(t, w.deliver(message("again", "crm"))[0], outcome.Acknowledged)
		if delayed, _ := turns.take(t); w.row(message("again", "crm")).State != ledger.Delivered || len(delayed) != 0 {
			t.Errorf("afterwards: %+v", w.row(message("again", "crm")))
		}
	})
}

// A call that could not be begun in its time, because claiming took long, is not made: its claim is given back, and the delivery comes again.
func TestLateCallsAreNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.withRate(`"rate": {"limit": 10, "burst": 1}`)
		w.store.claim = func(claims []ledger.Claim) []ledger.Answer {
			time.Sleep(time.Second)
			return w.store.Memory.Claim(t.Context(), claims)
		}
		m := message("1", "crm")
		want(t, w.deliver(m)[0], outcome.Deferred)
		if len(w.calls) != 0 {
			t.Error("called although its time was over")
		}
		w.store.claim = nil
		want(t, w.deliver(m)[0], outcome.Acknowledged)
		if row := w.row(m); row.State != ledger.Delivered || row.Attempt != 1 {
			t.Errorf("%+v", row)
		}
	})
}

// No more calls to a destination are under way in an environment than it may have at once; its neighbours do not wait for that, and none of those that wait
// counts as slow.
func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.withRate(`"concurrency": 2`)
		known, _ := w.withPace()
		var now, most, easy atomic.Int32
		began := time.Now()
		w.answer = func(_ context.Context, a downstream.Attempt) downstream.Result {
			if a.Destination.ID == "easy" {
				easy.Store(int32(time.Since(began)))
				return downstream.Result{Verdict: downstream.Delivered, Code: 200}
			}
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(1500 * time.Millisecond)
			now.Add(-1)
			return downstream.Result{Verdict: downstream.Delivered, Code: 200}
		}
		for _, err := range w.deliver(append(many(6, "crm"), message("1", "easy"))...) {
			want(t, err, outcome.Acknowledged)
		}
		if most.Load() != 2 || easy.Load() != 0 || time.Since(began) != 4500*time.Millisecond || len(w.calls) != 7 {
			t.Errorf("%d at once, %d calls, the neighbour waited %v, all took %v", most.Load(), len(w.calls), time.Duration(easy.Load()), time.Since(began))
		}
		if known.Adds != 0 {
			t.Errorf("told %d times that it is slow", known.Adds)
		}
	})
}

// What has no time left when it is its turn is given back.
func TestConcurrencyWithoutTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.withRate(`"concurrency": 1`)
		w.answer = func(ctx context.Context, _ downstream.Attempt) downstream.Result {
			time.Sleep(14 * time.Second)
			return downstream.Result{Verdict: downstream.Delivered, Code: 200}
		}
		acknowledged := 0
		for _, err := range w.deliver(many(5, "crm")...) {
			if err == nil {
				acknowledged++
			} else {
				want(t, err, outcome.Deferred)
			}
		}
		if len(w.calls) != 3 || acknowledged != 3 {
			t.Errorf("%d calls, %d acknowledged", len(w.calls), acknowledged)
		}
	})
}
