package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// The search explores every interleaving of two workers on one delivery, within budgets of misfortune, over the real
// decision code: the claim table, SettleAllowed, ReleaseAllowed, After and AfterSettle. It looks for a state in which
//
//   - nothing can bring the delivery to a good end any more: it is lost, or stuck, or its books stay open;
//   - a call was made that no crash, no expired lease and no failed send accounts for;
//   - a call was made after the ledger said delivered;
//   - a delivered waybill was turned back;
//   - a worker was refused because of what it had written itself, or sent away although nobody holds the delivery.
//
// Then every rule is taken away in turn, and the search must find such a state.

// rules is what the search can take away.
type rules struct {
	table            []rule
	settleAllowed    func(*Item, Settlement) bool
	releaseAllowed   func(*Item, Release) bool
	after            func(Result, int, int) Plan
	afterSettle      func(error, bool) Disposition
	settleFirst      bool // settle before the future is durable
	releaseAsWaiting bool // an attempt that could not start is settled as waiting instead of released
}

func realRules() rules {
	return rules{table: claimTable, settleAllowed: SettleAllowed, releaseAllowed: ReleaseAllowed, after: After, afterSettle: AfterSettle}
}

const (
	workers     = 2
	slots       = 5
	maxAttempts = 2
	maxStates   = 400_000
	tooLarge    = "the search is too large, make its budgets smaller"
)

// Where a message lies.
const (
	nowhere = iota
	visible
	inFlight
	deadQueue
)

// What a worker does next.
const (
	idle     = iota
	received // claim, or settle an outcome
	unsure   // claimed, but the answer was lost: claim again
	granted
	called
	durable // the future is durable: settle
	again   // settled, but the answer was lost: settle again
	settled // settled before its future is durable (settleFirst only)
	closing // acknowledge
)

var states = []State{"", Claimed, Waiting, Delivered, Dead}

type simMessage struct {
	where, epoch, attempt uint8
	replay, outcome       bool
	owner, state          uint8 // of the outcome
}

type simWorker struct {
	step, slot, owner uint8
	result            uint8 // index into results
	expired, called   bool
	written           bool       // its settle is in the ledger
	message           simMessage // as received
}

type budgets struct{ crash, duplicate, expire, unwritable, lost, unsent, release, poison, redrive, replay uint8 }

type world struct {
	has, lease                   bool
	state, epoch, attempt, owner uint8
	messages                     [slots]simMessage
	workers                      [workers]simWorker
	left                         budgets
	made                         uint16 // bit per (epoch, attempt) that was called
	effect, delivered            bool
	deliveredEpoch               uint8
	excuses                      int8 // incidents that account for one more call, less the calls that needed one
	replayed, replayMade         bool
	replayEpoch                  uint8
	wrong                        string
}

var results = []Result{Succeeded, Failed, Exhausted}

var epochStart = time.UnixMilli(1_000_000)

func ownerName(o uint8) string { return string('a' + rune(o)) }

func (w *world) item() *Item {
	if !w.has {
		return nil
	}
	i := &Item{State: states[w.state], Epoch: int(w.epoch), Attempt: int(w.attempt), Owner: ownerName(w.owner)}
	if w.lease {
		i.LeaseUntil = epochStart.Add(time.Minute)
	}
	return i
}

func (w *world) freeOwner() uint8 {
	for o := uint8(1); ; o++ {
		used := w.has && w.owner == o
		for i := range w.workers {
			used = used || w.workers[i].step != idle && w.workers[i].owner == o
		}
		for i := range w.messages {
			used = used || w.messages[i].where != nowhere && w.messages[i].outcome && w.messages[i].owner == o
		}
		if !used {
			return o
		}
	}
}

// put adds a message; false when the bound on messages is reached, which ends that branch of the search.
func (w *world) put(m simMessage) bool {
	for i := range w.messages {
		if w.messages[i].where == nowhere {
			w.messages[i] = m
			return true
		}
	}
	return false
}

type move struct {
	say  string
	next world
}

type search struct{ rules }

func (s search) claim(w *world, me int) (Verdict, uint8) {
	k := &w.workers[me]
	owner := k.owner
	if k.step == received {
		owner = w.freeOwner()
	}
	v := decide(s.table, w.item(), Claim{Epoch: int(k.message.epoch), Attempt: int(k.message.attempt), Replay: k.message.replay, Owner: ownerName(owner), Now: epochStart})
	if k.step == unsure && v != Granted && w.has && w.owner == owner {
		w.wrong = "a claim was refused because of its own lost answer"
	}
	if v == Busy && w.has && states[w.state] != Claimed {
		w.wrong = "a worker was sent away although nobody holds the delivery"
	}
	if v == Granted {
		w.has, w.lease, w.state, w.epoch, w.attempt, w.owner = true, true, 1, k.message.epoch, k.message.attempt, owner
	}
	return v, owner
}

// canonical gives worlds that differ only in the order of messages or workers one form.
func (w *world) canonical() {
	for i := 1; i < slots; i++ {
		for j := i; j > 0 && w.messages[j].key() > w.messages[j-1].key(); j-- {
			w.messages[j], w.messages[j-1] = w.messages[j-1], w.messages[j]
			for k := range w.workers {
				switch int(w.workers[k].slot) {
				case j:
					w.workers[k].slot = uint8(j - 1)
				case j - 1:
					w.workers[k].slot = uint8(j)
				}
			}
		}
	}
	for k := range w.workers {
		if w.workers[k].step == idle {
			w.workers[k] = simWorker{}
		}
	}
	if a, b := w.workers[0], w.workers[1]; a.key() < b.key() {
		w.workers[0], w.workers[1] = b, a
	}
}

func (m simMessage) key() uint64 {
	k := uint64(m.where)<<40 | uint64(m.epoch)<<32 | uint64(m.attempt)<<24 | uint64(m.owner)<<16 | uint64(m.state)<<8
	if m.replay {
		k |= 2
	}
	if m.outcome {
		k |= 1
	}
	return k
}

func (k simWorker) key() uint64 {
	n := uint64(k.step)<<56 | uint64(k.result)<<52 | uint64(k.owner)<<48 | k.message.key()<<4 | uint64(k.slot)
	if k.expired {
		n |= 1 << 55
	}
	return n
}

// moves lists everything that can happen next.
func (s search) moves(w world) []move {
	var out []move
	add := func(say string, change func(*world) bool) {
		next := w
		if change(&next) {
			out = append(out, move{say, next})
		}
	}
	s.environment(w, add)
	for me := range w.workers {
		name := "worker " + string('1'+rune(me))
		k := w.workers[me]
		if k.step == idle {
			s.receive(w, me, name, add)
			continue
		}
		add(name+" crashes", func(n *world) bool { return n.crash(me) })
		s.work(k, me, name, add)
	}
	return out
}

type adder func(say string, change func(*world) bool)

func (s search) environment(w world, add adder) {
	for i, m := range w.messages {
		switch m.where {
		case visible, inFlight:
			add("SQS duplicates a message", func(n *world) bool {
				m := m
				m.where = visible
				return spend(&n.left.duplicate) && n.put(m)
			})
		case deadQueue:
			add("a dead letter is moved back", func(n *world) bool { n.messages[i].where = visible; return spend(&n.left.redrive) })
		}
		if m.where == visible && !m.outcome {
			add("a message is moved to the dead-letter queue by receive count", func(n *world) bool { n.messages[i].where = deadQueue; return spend(&n.left.poison) })
		}
	}
	if w.has && w.lease {
		active := false
		for i := range w.workers {
			active = active || w.workers[i].step != idle && w.workers[i].owner == w.owner
		}
		if !active {
			add("the lease of a vanished worker ends", func(n *world) bool {
				n.lease = false
				// While the outcome is still on its way, a second copy of the message is taken for a crash.
				for _, m := range n.messages {
					if (m.where == visible || m.where == inFlight) && m.outcome && m.owner == n.owner {
						n.excuses++
						break
					}
				}
				return true
			})
		}
	}
	if w.delivered && !w.replayed {
		add("an operator replays the delivery", func(n *world) bool {
			n.replayed, n.replayEpoch = true, n.epoch+1
			return spend(&n.left.replay) && n.put(simMessage{where: visible, epoch: n.epoch + 1, attempt: 1, replay: true})
		})
	}
}

func spend(budget *uint8) bool {
	if *budget == 0 {
		return false
	}
	*budget--
	return true
}

func (s search) receive(w world, me int, name string, add adder) {
	for i, m := range w.messages {
		if m.where == visible {
			add(fmt.Sprintf("%s receives (%d,%d)%s", name, m.epoch, m.attempt, map[bool]string{true: " with an outcome"}[m.outcome]), func(n *world) bool {
				n.messages[i].where = inFlight
				n.workers[me] = simWorker{step: received, slot: uint8(i), message: m}
				return true
			})
		}
	}
}

// crash ends a worker; its message becomes visible again.
func (w *world) crash(me int) bool {
	k := w.workers[me]
	if k.called && !k.expired && !k.written {
		w.excuses++
	}
	w.leave(me)
	return spend(&w.left.crash)
}

// leave returns the message to SQS.
func (w *world) leave(me int) {
	k := &w.workers[me]
	if w.holds(me) {
		w.messages[k.slot].where = visible
	}
	*k = simWorker{}
}

// holds tells whether the message of a worker is still in flight with it: after its visibility ended another worker may have it.
func (w *world) holds(me int) bool {
	k := w.workers[me]
	m := w.messages[k.slot]
	if k.expired || m.where != inFlight {
		return false
	}
	return true
}

// acknowledge deletes the message, also when it is visible again or another worker has it: an old receipt handle still deletes.
func (w *world) acknowledge(me int) {
	k := &w.workers[me]
	m, mine := w.messages[k.slot], k.message
	mine.where = m.where
	if (m.where == inFlight || m.where == visible) && m == mine {
		w.messages[k.slot] = simMessage{}
	}
	*k = simWorker{}
}

func (s search) work(k simWorker, me int, name string, add adder) {
	at := func(step uint8) func(*world) bool {
		return func(n *world) bool { n.workers[me].step = step; return true }
	}
	if !k.expired && k.step != received {
		add(name+" outlives its lease and the visibility of its message", func(n *world) bool {
			if n.owner != k.owner || !n.lease {
				return false
			}
			n.lease = false
			if n.holds(me) {
				n.messages[k.slot].where = visible
			}
			n.workers[me].expired = true
			if k.called {
				n.excuses++
			}
			return spend(&n.left.expire)
		})
	}
	switch k.step {
	case received:
		if k.message.outcome {
			s.settleMoves(k, me, name, add)
			return
		}
		s.claimMoves(me, name, add)
	case unsure:
		s.claimMoves(me, name, add)
	case granted:
		for r := range results {
			if results[r] == Failed && k.message.attempt == maxAttempts {
				continue
			}
			add(fmt.Sprintf("%s calls: %s", name, results[r]), func(n *world) bool { n.call(me, uint8(r)); return true })
		}
		add(name+" cannot start the attempt", func(n *world) bool { s.release(n, me); return spend(&n.left.release) })
	case called:
		if s.settleFirst {
			s.settleMoves(k, me, name, add)
			return
		}
		s.futureMoves(k, me, name, durable, add)
	case durable, again:
		s.settleMoves(k, me, name, add)
	case settled:
		s.futureMoves(k, me, name, closing, add)
	case closing:
		add(name+" acknowledges", func(n *world) bool { n.acknowledge(me); return true })
	default:
		add("", at(idle))
	}
}

func (s search) claimMoves(me int, name string, add adder) {
	answered := func(n *world) bool {
		v, owner := s.claim(n, me)
		k := &n.workers[me]
		switch v {
		case Granted:
			k.step, k.owner, k.expired = granted, owner, false
		case Duplicate, Stale:
			n.acknowledge(me)
		default:
			n.leave(me)
		}
		return true
	}
	add(name+" claims", answered)
	add(name+" claims, the answer is lost", func(n *world) bool {
		v, owner := s.claim(n, me)
		n.workers[me].step, n.workers[me].owner = unsure, owner
		return v == Granted && spend(&n.left.lost)
	})
}

func (w *world) call(me int, result uint8) {
	k := &w.workers[me]
	k.step, k.result, k.called = called, result, true
	bit := uint16(1) << (k.message.epoch*4 + k.message.attempt)
	if k.expired {
		w.excuses++
	}
	if w.made&bit != 0 {
		w.excuses--
	}
	w.made |= bit
	if w.excuses < 0 {
		w.wrong = "a call was made that nothing accounts for"
	}
	if w.delivered && !k.expired && !(k.message.replay && k.message.epoch > w.deliveredEpoch) {
		w.wrong = "a call was made after the ledger said delivered"
	}
	if results[result] == Succeeded {
		w.effect = true
	}
	if w.replayed && k.message.epoch >= w.replayEpoch {
		w.replayMade = true
	}
}

func (s search) release(n *world, me int) {
	k := &n.workers[me]
	m := k.message
	if s.releaseAsWaiting {
		if n.has && n.owner == k.owner && n.epoch == m.epoch && n.attempt == m.attempt {
			n.state = 2
		}
	} else if s.releaseAllowed(n.item(), Release{Epoch: int(m.epoch), Attempt: int(m.attempt), Owner: ownerName(k.owner)}) {
		n.lease = false
	}
	n.leave(me)
}

func (s search) futureMoves(k simWorker, me int, name string, then uint8, add adder) {
	m := k.message
	plan := s.after(results[k.result], int(m.epoch), int(m.attempt))
	if plan.Future == Nothing {
		add(name+" needs no future", func(n *world) bool { n.workers[me].step = then; return true })
		return
	}
	add(fmt.Sprintf("%s sends the %s (%d,%d)", name, plan.Future, plan.Epoch, plan.Attempt), func(n *world) bool {
		where := uint8(visible)
		if plan.Future == DeadLetter {
			where = deadQueue
		}
		n.workers[me].step = then
		return n.put(simMessage{where: where, epoch: uint8(plan.Epoch), attempt: uint8(plan.Attempt), replay: m.replay})
	})
	add(name+" cannot send the "+string(plan.Future), func(n *world) bool {
		if !k.expired {
			n.excuses++
		}
		n.leave(me)
		return spend(&n.left.unsent)
	})
}

func (s search) settleMoves(k simWorker, me int, name string, add adder) {
	m := k.message
	owner, state := k.owner, stateIndex(s.after(results[k.result], int(m.epoch), int(m.attempt)).State)
	if m.outcome {
		owner, state = m.owner, m.state
	}
	write := func(n *world) error {
		item := n.item()
		if !s.settleAllowed(item, Settlement{Epoch: int(m.epoch), Attempt: int(m.attempt), Owner: ownerName(owner), State: states[state]}) {
			if n.has && n.owner == owner && n.epoch == m.epoch && n.attempt == m.attempt {
				n.wrong = "a settle was refused because of its own lost answer"
			}
			return ErrRefused
		}
		if states[n.state] == Delivered && states[state] != Delivered {
			n.wrong = "a delivered waybill was turned back"
		}
		n.state = state
		n.workers[me].written = true
		if states[state] == Delivered {
			n.delivered, n.deliveredEpoch = true, max(n.deliveredEpoch, m.epoch)
		}
		return nil
	}
	add(name+" settles", func(n *world) bool { s.dispose(n, me, write(n), owner, state); return true })
	add(name+" settles, the answer is lost", func(n *world) bool {
		if k.step != durable || write(n) != nil {
			return false
		}
		n.workers[me].step = again
		return spend(&n.left.lost)
	})
	add(name+" cannot write its settle", func(n *world) bool {
		return spend(&n.left.unwritable) && s.dispose(n, me, ErrUnknown, owner, state)
	})
}

func (s search) dispose(n *world, me int, err error, owner, state uint8) bool {
	k := &n.workers[me]
	switch s.afterSettle(err, k.message.outcome) {
	case Acknowledge:
		if s.settleFirst && k.step == called {
			k.step = settled
			return true
		}
		k.step = closing
		return true
	case Leave:
		n.leave(me)
		return true
	}
	m := k.message
	if !m.outcome {
		m.outcome, m.owner, m.state = true, owner, state
	}
	m.where = visible
	k.step = closing
	return n.put(m)
}

func stateIndex(s State) uint8 {
	for i, state := range states {
		if state == s {
			return uint8(i)
		}
	}
	panic("unknown state " + s)
}

// good tells whether all is done and right: nobody works, nothing is on its way, and the delivery was made and its books are closed, or a dead letter
// exists whose redrive would be granted.
func (s search) good(w world) bool {
	for _, k := range w.workers {
		if k.step != idle {
			return false
		}
	}
	redrivable := false
	for _, m := range w.messages {
		if m.where == visible || m.where == inFlight {
			return false
		}
		if m.where == deadQueue && decide(s.table, w.item(), Claim{Epoch: int(m.epoch), Attempt: int(m.attempt), Replay: m.replay, Owner: "?", Now: epochStart.Add(time.Hour)}) == Granted {
			redrivable = true
		}
	}
	if w.replayed && !w.replayMade {
		return false
	}
	return redrivable || w.effect && w.has && states[w.state] == Delivered
}

// run explores everything and gives a counterexample in words, or "".
func (s search) run(left budgets) (counterexample string, explored int) {
	start := world{left: left}
	start.put(simMessage{where: visible, attempt: 1})
	start.canonical()
	index := map[world]int32{start: 0}
	all := []world{start}
	type from struct {
		parent int32
		say    string
	}
	origin := []from{{-1, "a delivery message (0,1) lies on the queue"}}
	var edges [][2]int32
	story := func(i int32, end string) string {
		var lines []string
		for ; i >= 0; i = origin[i].parent {
			lines = append([]string{origin[i].say}, lines...)
		}
		return strings.Join(append(lines, "=> "+end), "\n")
	}
	for i := 0; i < len(all); i++ {
		if len(all) > maxStates {
			return tooLarge, len(all)
		}
		for _, m := range s.moves(all[i]) {
			m.next.canonical()
			j, known := index[m.next]
			if !known {
				j = int32(len(all))
				index[m.next] = j
				all = append(all, m.next)
				origin = append(origin, from{int32(i), m.say})
				if m.next.wrong != "" {
					return story(j, m.next.wrong), len(all)
				}
			}
			edges = append(edges, [2]int32{int32(i), j})
		}
	}
	if stuck := firstStuck(all, edges, s.good); stuck >= 0 {
		return story(stuck, "from here no good end can be reached: the delivery is lost or stuck"), len(all)
	}
	return "", len(all)
}

// firstStuck gives the first state from which no good one can be reached, or -1.
func firstStuck(all []world, edges [][2]int32, good func(world) bool) int32 {
	starts := make([]int32, len(all)+1)
	for _, e := range edges {
		starts[e[1]+1]++
	}
	for i := range all {
		starts[i+1] += starts[i]
	}
	reverse, fill := make([]int32, len(edges)), append([]int32(nil), starts...)
	for _, e := range edges {
		reverse[fill[e[1]]] = e[0]
		fill[e[1]]++
	}
	ends := make([]bool, len(all))
	var work []int32
	for i, w := range all {
		if good(w) {
			ends[i] = true
			work = append(work, int32(i))
		}
	}
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		for _, j := range reverse[starts[i]:starts[i+1]] {
			if !ends[j] {
				ends[j] = true
				work = append(work, j)
			}
		}
	}
	for i := range all {
		if !ends[i] {
			return int32(i)
		}
	}
	return -1
}

// misfortunes are the budgets of the searches: each a mixture that is small enough to be exhausted.
var misfortunes = map[string]budgets{
	"crashes and duplicates":    {crash: 2, duplicate: 1},
	"leases that end too early": {crash: 1, expire: 1, duplicate: 1},
	"an unwritable ledger":      {crash: 1, unwritable: 2},
	"unwritable and too late":   {unwritable: 1, expire: 1},
	"lost answers":              {crash: 1, lost: 2, unsent: 1},
	"dead letters":              {crash: 1, duplicate: 1, poison: 1, redrive: 1},
	"replays":                   {crash: 1, replay: 1, redrive: 1, lost: 1},
	"releases":                  {crash: 1, release: 1, expire: 1},
}

func TestSearchFindsNoLosingState(t *testing.T) {
	for name, left := range misfortunes {
		t.Run(name, func(t *testing.T) {
			counterexample, explored := search{realRules()}.run(left)
			t.Logf("%d states", explored)
			if counterexample != "" {
				t.Fatal(counterexample)
			}
			if explored < 1000 {
				t.Fatalf("only %d states: the search does not search", explored)
			}
		})
	}
}

func TestSearchNeedsEveryRule(t *testing.T) {
	for name, broken := range brokenRules() {
		t.Run(name, func(t *testing.T) {
			for _, mixture := range slices.Sorted(maps.Keys(misfortunes)) {
				if counterexample, explored := (search{broken}).run(misfortunes[mixture]); counterexample != "" && counterexample != tooLarge {
					t.Logf("found within %d states of %q:\n%s", explored, mixture, counterexample)
					return
				}
			}
			t.Fatal("without this rule the search finds nothing wrong: the rule is superfluous, or the search is blind")
		})
	}
}

func brokenRules() map[string]rules {
	all := map[string]rules{}
	broken := func(name string, change func(*rules)) {
		r := realRules()
		change(&r)
		all[name] = r
	}
	for i, row := range claimTable {
		broken("claim table without: "+row.name, func(r *rules) {
			r.table = append(append([]rule(nil), claimTable[:i]...), claimTable[i+1:]...)
			if i == len(claimTable)-1 {
				r.table = append(r.table, rule{"nobody is busy", row.applies, Granted})
			}
		})
	}
	broken("a replay is no exception to delivered", func(r *rules) {
		r.table = append([]rule{claimTable[0], {"delivered", func(i *Item, _ Claim) bool { return i.State == Delivered }, Duplicate}}, claimTable[2:]...)
	})
	broken("any larger epoch is a replay", func(r *rules) {
		r.table = append([]rule{claimTable[0], {"delivered", func(i *Item, c Claim) bool { return i.State == Delivered && c.Epoch <= i.Epoch }, Duplicate}}, claimTable[2:]...)
	})
	broken("settled before the future is durable", func(r *rules) { r.settleFirst = true })
	broken("dead letters written as (epoch, attempt)", func(r *rules) {
		r.after = func(result Result, epoch, attempt int) Plan {
			p := After(result, epoch, attempt)
			if p.Future == DeadLetter {
				p.Epoch, p.Attempt = epoch, attempt
			}
			return p
		}
	})
	broken("no future after a failed attempt", func(r *rules) {
		r.after = func(result Result, epoch, attempt int) Plan {
			p := After(result, epoch, attempt)
			if p.Future == Successor {
				p.Future = Nothing
			}
			return p
		}
	})
	broken("successor with the same attempt", func(r *rules) {
		r.after = func(result Result, epoch, attempt int) Plan {
			p := After(result, epoch, attempt)
			if p.Future == Successor {
				p.Attempt = attempt
			}
			return p
		}
	})
	broken("settle without fencing by owner", func(r *rules) {
		r.settleAllowed = func(i *Item, s Settlement) bool { return i != nil && i.Epoch == s.Epoch && i.Attempt == s.Attempt }
	})
	broken("settle without fencing at all", func(r *rules) { r.settleAllowed = func(i *Item, _ Settlement) bool { return i != nil } })
	broken("settle only what is claimed", func(r *rules) {
		r.settleAllowed = func(i *Item, s Settlement) bool { return SettleAllowed(i, s) && i.State == Claimed }
	})
	broken("release without fencing", func(r *rules) { r.releaseAllowed = func(i *Item, _ Release) bool { return i != nil } })
	broken("unspent attempts settled as waiting", func(r *rules) { r.releaseAsWaiting = true })
	broken("refused settles acknowledged", func(r *rules) {
		r.afterSettle = func(err error, has bool) Disposition {
			if d := AfterSettle(err, has); d != Leave {
				return d
			}
			return Acknowledge
		}
	})
	broken("unwritten settles left to SQS", func(r *rules) {
		r.afterSettle = func(err error, has bool) Disposition {
			if d := AfterSettle(err, has); d != SendOutcome {
				return d
			}
			return Leave
		}
	})
	broken("unwritten settles acknowledged", func(r *rules) {
		r.afterSettle = func(err error, has bool) Disposition {
			if d := AfterSettle(err, has); d != SendOutcome {
				return d
			}
			return Acknowledge
		}
	})
	broken("refused outcomes left to SQS", func(r *rules) {
		r.afterSettle = func(err error, has bool) Disposition {
			if err != nil && has {
				return Leave
			}
			return AfterSettle(err, has)
		}
	})
	return all
}
