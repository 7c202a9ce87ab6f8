package ledger_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/ledgertest"
)

// Times of the simulated system, as the topology has them.
const (
	invocation = 60 * time.Second
	grace      = 10 * time.Second
	visibility = 6 * invocation
	skew       = 5 * time.Second
	attempts   = 3
)

// note is a delivery message on the simulated queue.
type note struct {
	delivery       delivery.ID
	epoch, attempt int
	replay         bool
	outcome        *ledger.Close
	visibleAt      time.Time
}

// worker is one invocation at a time, with a clock of its own.
type worker struct {
	ledger  *ledger.Ledger
	message *note // nil: idle
	started time.Time
	grant   ledger.Grant
	stage   int
	result  ledger.Result
	called  bool // and not settled: a crash now accounts for one call more
}

// Stages of a worker with a message.
const (
	toClaim = iota
	toCall
	toMakeDurable
	toSettle
	toAcknowledge
)

// house is the simulated system around real Ledgers over one store.
type house struct {
	t       *rapid.T
	now     time.Time
	store   *flaky
	queue   []*note
	dead    []*note
	workers []*worker

	calls     map[delivery.ID]map[[2]int]int
	excuses   map[delivery.ID]int
	effects   map[delivery.ID]int
	delivered map[delivery.ID]bool // settled so, and no replay since
	calm      bool                 // no more misfortune
}

// flaky is a store whose answers get lost and that throttles, by the draw of the property test.
type flaky struct {
	ledger.Store
	draw func() string
}

func (f *flaky) Claim(ctx context.Context, claims []ledger.Claim) []ledger.Answer {
	switch f.draw() {
	case "throttle":
		return []ledger.Answer{{Err: ledger.ErrThrottled}}
	case "lose":
		f.Store.Claim(ctx, claims)
		return []ledger.Answer{{Err: ledger.ErrUnknown}}
	case "repeat":
		f.Store.Claim(ctx, claims)
	}
	return f.Store.Claim(ctx, claims)
}

func (f *flaky) Settle(ctx context.Context, settlements []ledger.Settlement) []error {
	switch f.draw() {
	case "throttle":
		return []error{ledger.ErrThrottled}
	case "lose":
		f.Store.Settle(ctx, settlements)
		return []error{ledger.ErrUnknown}
	case "repeat":
		f.Store.Settle(ctx, settlements)
	}
	return f.Store.Settle(ctx, settlements)
}

func newHouse(t *rapid.T) *house {
	h := &house{
		t: t, now: time.UnixMilli(1_700_000_000_000), calls: map[delivery.ID]map[[2]int]int{}, excuses: map[delivery.ID]int{},
		effects: map[delivery.ID]int{}, delivered: map[delivery.ID]bool{},
	}
	h.store = &flaky{ledgertest.NewMemory(), func() string {
		if h.calm {
			return ""
		}
		return rapid.SampledFrom([]string{"", "", "", "", "", "throttle", "lose", "repeat"}).Draw(t, "store")
	}}
	for range 3 {
		off := time.Duration(rapid.Int64Range(-int64(skew/2), int64(skew/2)).Draw(t, "skew"))
		l, err := ledger.New(ledger.Config{
			Store: h.store, LeaseGrace: grace, LongestLease: invocation + grace, TTL: time.Hour, Patience: 1, // one try, no waiting
			Now: func() time.Time { return h.now.Add(off) },
		})
		if err != nil {
			t.Fatal(err)
		}
		h.workers = append(h.workers, &worker{ledger: l})
	}
	return h
}

// put adds a message; the queue keeps no order.
func (h *house) put(n note, after time.Duration) {
	n.visibleAt = h.now.Add(after)
	h.queue = append(h.queue, &n)
}

func (h *house) remove(n *note) {
	for i, other := range h.queue {
		if other == n {
			h.queue = append(h.queue[:i], h.queue[i+1:]...)
			return
		}
	}
}

func (h *house) receive(w *worker) {
	var ready []*note
	for _, n := range h.queue {
		if !n.visibleAt.After(h.now) {
			ready = append(ready, n)
		}
	}
	if w.message != nil || len(ready) == 0 {
		return
	}
	n := ready[0]
	if !h.calm {
		n = rapid.SampledFrom(ready).Draw(h.t, "message")
	}
	n.visibleAt = h.now.Add(visibility)
	*w = worker{ledger: w.ledger, message: n, started: h.now}
}

// leave ends the invocation without an acknowledgement; by crash the message comes back after its visibility timeout.
func (h *house) leave(w *worker, after time.Duration) {
	w.message.visibleAt = h.now.Add(after)
	h.forget(w)
}

func (h *house) forget(w *worker) {
	if w.called {
		h.excuses[w.message.delivery]++
	}
	*w = worker{ledger: w.ledger}
}

func (h *house) step(w *worker) {
	if w.message == nil {
		return
	}
	m := w.message
	switch {
	case m.outcome != nil:
		h.settleOutcome(w)
	case w.stage == toClaim:
		h.claim(w)
	case w.stage == toCall:
		h.call(w)
	case w.stage == toMakeDurable:
		h.makeDurable(w)
	case w.stage == toSettle:
		h.settle(w)
	case w.stage == toAcknowledge:
		h.remove(m)
		w.called = false
		h.forget(w)
	}
}

func (h *house) claim(w *worker) {
	m := w.message
	w.grant = w.ledger.Claim(h.t.Context(), []ledger.Request{{Delivery: m.delivery, Epoch: m.epoch, Attempt: m.attempt, Replay: m.replay}})[0]
	switch {
	case w.grant.Err != nil: // deferred: sent again, acknowledged
		h.remove(m)
		h.put(*m, 15*time.Second)
		h.forget(w)
	case w.grant.Verdict == ledger.Granted:
		w.stage = toCall
		if m.replay {
			h.delivered[m.delivery] = false
		}
	case w.grant.Verdict == ledger.Busy:
		h.leave(w, w.grant.LeaseUntil.Sub(h.now)+skew)
	default:
		w.stage = toAcknowledge
	}
}

func (h *house) call(w *worker) {
	m := w.message
	if h.delivered[m.delivery] {
		h.t.Fatalf("delivery %s: a call for (%d,%d) after it was settled as delivered", m.delivery, m.epoch, m.attempt)
	}
	w.result = ledger.Succeeded
	if !h.calm {
		w.result = rapid.SampledFrom([]ledger.Result{ledger.Succeeded, ledger.Failed, ledger.Exhausted}).Draw(h.t, "result")
	}
	if w.result == ledger.Failed && m.attempt >= attempts {
		w.result = ledger.Exhausted
	}
	if h.calls[m.delivery] == nil {
		h.calls[m.delivery] = map[[2]int]int{}
	}
	h.calls[m.delivery][[2]int{m.epoch, m.attempt}]++
	if w.result == ledger.Succeeded {
		h.effects[m.delivery]++
	}
	w.called, w.stage = true, toMakeDurable
}

func (h *house) makeDurable(w *worker) {
	m := w.message
	plan := ledger.After(w.result, m.epoch, m.attempt)
	next := note{delivery: m.delivery, epoch: plan.Epoch, attempt: plan.Attempt, replay: m.replay}
	switch plan.Future {
	case ledger.Successor:
		h.put(next, time.Second)
	case ledger.DeadLetter:
		h.dead = append(h.dead, &next)
	}
	w.stage = toSettle
}

func (h *house) settle(w *worker) {
	m := w.message
	c := ledger.Close{
		Delivery: m.delivery, Epoch: m.epoch, Attempt: m.attempt, Replay: m.replay, Owner: w.grant.Owner,
		State: ledger.After(w.result, m.epoch, m.attempt).State,
	}
	err := w.ledger.Settle(h.t.Context(), []ledger.Close{c})[0]
	switch ledger.AfterSettle(err, false) {
	case ledger.Acknowledge:
		h.settled(c)
		w.called, w.stage = false, toAcknowledge
	case ledger.Leave:
		h.leave(w, time.Second)
	case ledger.SendOutcome:
		// Should the lease end before the outcome is written, a second copy of the message is taken for a crash.
		h.excuses[m.delivery]++
		late := *m
		late.outcome = &c
		h.put(late, 30*time.Second)
		w.called, w.stage = false, toAcknowledge
	}
}

func (h *house) settled(c ledger.Close) {
	if c.State == ledger.Delivered {
		h.delivered[c.Delivery] = true
	}
}

func (h *house) settleOutcome(w *worker) {
	c := *w.message.outcome
	err := w.ledger.Settle(h.t.Context(), []ledger.Close{c})[0]
	if ledger.AfterSettle(err, true) == ledger.SendOutcome {
		h.leave(w, 30*time.Second)
		return
	}
	if err == nil {
		h.settled(c)
	}
	h.remove(w.message)
	h.forget(w)
}

// pass lets time go by; invocations that outlive their time-out end as crashes do.
func (h *house) pass(d time.Duration) {
	h.now = h.now.Add(d)
	for _, w := range h.workers {
		if w.message != nil && !h.now.Before(w.started.Add(invocation)) {
			h.forget(w)
		}
	}
}

func (h *house) check() {
	extra := map[delivery.ID]int{}
	for id, byAttempt := range h.calls {
		for _, n := range byAttempt {
			extra[id] += n - 1
		}
		if extra[id] > h.excuses[id] {
			h.t.Fatalf("delivery %s: %d calls too many, %d incidents account for them: %v", id, extra[id], h.excuses[id], byAttempt)
		}
	}
}

func TestAnyInterleavingHasOneEffect(t *testing.T) {
	for range 20 { // 100 interleavings each
		rapid.Check(t, interleave)
	}
}

func interleave(t *rapid.T) {
	h := newHouse(t)
	var accepted []delivery.ID
	for i := range rapid.IntRange(1, 3).Draw(t, "deliveries") {
		id := delivery.ID(fmt.Sprintf("delivery-%d", i))
		accepted = append(accepted, id)
		h.put(note{delivery: id, attempt: 1}, 0)
	}
	for range rapid.IntRange(0, 120).Draw(t, "steps") {
		h.happen(accepted)
		h.check()
	}
	h.settleDown()
	h.check()
	rows := h.store.Store.(*ledgertest.Memory).Harness().Rows(nil)
	for _, id := range accepted {
		row, letter := rows[id], h.letter(id)
		switch {
		case row.State == ledger.Delivered && h.effects[id] > 0:
		case letter != nil && ledger.Decide(&row, ledger.Claim{Delivery: id, Epoch: letter.epoch, Attempt: letter.attempt, Replay: letter.replay, Now: h.now.Add(time.Hour)}) == ledger.Granted:
		default:
			t.Fatalf("delivery %s is lost: waybill %+v, %d effects, dead letter %+v", id, row, h.effects[id], letter)
		}
	}
}

// happen draws one thing that goes on, or goes wrong.
func (h *house) happen(accepted []delivery.ID) {
	w := rapid.SampledFrom(h.workers).Draw(h.t, "worker")
	switch rapid.SampledFrom([]string{"step", "step", "step", "step", "receive", "receive", "pass", "crash", "duplicate", "again", "redrive", "replay", "release"}).Draw(h.t, "event") {
	case "step":
		h.step(w)
	case "receive":
		h.receive(w)
	case "pass":
		h.pass(time.Duration(rapid.Int64Range(0, int64(90*time.Second)).Draw(h.t, "time")))
	case "crash":
		if w.message != nil {
			h.forget(w)
		}
	case "duplicate":
		if len(h.queue) > 0 && len(h.queue) < 8 {
			h.put(*rapid.SampledFrom(h.queue).Draw(h.t, "copied"), 0)
		}
	case "again": // the producer sends the event again
		h.put(note{delivery: rapid.SampledFrom(accepted).Draw(h.t, "event"), attempt: 1}, 0)
	case "redrive":
		if len(h.dead) > 0 {
			n := h.dead[0]
			h.dead = h.dead[1:]
			h.put(*n, 0)
		}
	case "replay":
		id := rapid.SampledFrom(accepted).Draw(h.t, "event")
		if h.delivered[id] {
			h.put(note{delivery: id, epoch: 50, attempt: 1, replay: true}, 0)
		}
	case "release":
		if w.message != nil && w.stage == toCall {
			w.ledger.Release(h.t.Context(), []ledger.Request{{Delivery: w.message.delivery, Epoch: w.message.epoch, Attempt: w.message.attempt}}, []string{w.grant.Owner})
			h.leave(w, time.Second)
		}
	}
}

// settleDown lets everything go right until nothing is left to do.
func (h *house) settleDown() {
	h.calm = true
	for range 3000 {
		busy := len(h.queue) > 0
		for _, w := range h.workers {
			busy = busy || w.message != nil
			h.receive(w)
			for range 6 {
				h.step(w)
			}
		}
		if !busy {
			return
		}
		h.pass(10 * time.Second)
	}
	h.t.Fatalf("%d messages never leave the queue", len(h.queue))
}

func (h *house) letter(id delivery.ID) *note {
	var last *note
	for _, n := range h.dead {
		if n.delivery == id && (last == nil || n.epoch > last.epoch) {
			last = n
		}
	}
	return last
}
