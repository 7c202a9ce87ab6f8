package waiting

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The search explores every interleaving of two holders and two wakers around one delivery, within budgets of misfortune, over the
// real decision code of protocol.go. A tick is five minutes, and each setting says how far the hour is gone when it begins, so that hours end where it
// matters. A visit reads an hour row by row, as if each were a page. Holders and wakers may die at any step, holders die at their time-out, and their
// clocks differ by as much as is tolerated. It looks for a state in which
//
//   - nothing can bring the delivery to its end any more: it is lost, though a scan for strays might still find it;
//   - a message comes back before it is due;
//   - a run visits hours that an earlier one has closed;
//   - a row lies where no run looks.
//
// Then every rule is taken away in turn, and the search must find such a state.

// rules is what the search can take away.
type rules struct {
	tooSoon    func(l Limits, due, now time.Time) bool
	lastHour   func(l Limits, now time.Time) Hour
	reach      func(l Limits, h Hour, now time.Time) (until time.Time, whole bool)
	mayClose   func(l Limits, h Hour, now time.Time, left int) bool
	advance    func(watermark, h Hour, mayClose bool) Hour
	mayAdvance func(current Hour, exists bool, to Hour) bool
	firstHour  func(l Limits, oldest Hour, found bool, began time.Time) Hour
	mayDelete  func(token, read string) bool
	marked     func(l Limits, written, now time.Time) bool
	mayClear   func(l Limits, written, now time.Time, rows int) bool
	mayGo      func(l Limits, may bool, since, now time.Time) bool

	tokensStay      bool // a row keeps its token when it is put again
	repeatsKeepIt   bool // a put whose answer was lost is repeated with its token
	deleteFirst     bool // deleted before it is sent
	rowBeforeMark   bool // parked before it is marked
	clearWhatever   bool // a mark is cleared whatever has become of it since it was read
	visitsOnlyReady bool // parked rows are looked at only when their destination may receive
}

func realRules() rules {
	return rules{
		tooSoon: Limits.TooSoon, lastHour: Limits.LastHour, reach: Limits.Reach, mayClose: Limits.MayClose, advance: Advance, mayAdvance: MayAdvance,
		firstHour: Limits.FirstHour, mayDelete: MayDelete, marked: Limits.Marked, mayClear: Limits.MayClear, mayGo: Limits.MayGo,
	}
}

const (
	tick       = 5 * time.Minute
	maxTicks   = 12
	slots      = 2
	roomRows   = 3    // due rows at once
	firstHour  = -20  // of the hours that can be told apart, counted from that in which the search begins
	notYet     = -128 // no row of the hour has been read
	wakerTicks = 1    // after which a run ends
	noStamp    = -100 // the holder relies on an earlier mark
	maxStates  = 400_000
	tooLarge   = "the search is too large, make its budgets smaller"
)

// theHour is the hour in which every search begins.
var theHour = HourOf(time.Unix(57_600_000, 0))

func (s setting) at(t int) time.Time {
	return theHour.Start().Add(s.past + time.Duration(t)*tick)
}

// hours are numbered from 1 on.
func number(h Hour) int8 { return int8(h - theHour - firstHour) }
func hourOf(n int8) Hour { return theHour + firstHour + Hour(n) }

// simMessage is a message on the deliveries queue. The zero one is none.
type simMessage struct {
	here    bool
	flight  bool  // received by a holder
	visible int8  // from this tick on
	since   uint8 // parked since this tick + 1; 0: not parked
}

// Steps of a holder.
const (
	hIdle = iota
	hGot
	hPutDue    // the row is under way
	hMark      // the mark is under way
	hPutParked // the row is under way
	hMarkLate  // the mark is under way after the row (rowBeforeMark only)
	hAck
)

type simHolder struct {
	step, slot uint8
	started    int8
	due        int8  // of the row to put
	token      uint8 // of a put whose answer was lost
	stamp      int8  // of the mark under way
	cached     int8  // stamp of the mark that it relies on, + 1; 0: none
	since      uint8
}

// Steps of a waker.
const (
	wIdle = iota
	wStart
	wVisit
	wSend
	wDelete
	wAdvance
	wParked
	wSendParked
	wDeleteParked
	wClear
)

type simWaker struct {
	step, token     uint8
	clock           int8 // before the visit, as ticks of its own clock
	hour, watermark int8
	due             int8  // of the row as read, or notYet: rows behind it are read next
	end, left       bool  // it is the last row within reach; rows were left
	mark            uint8 // token of the mark as read; 0: none
	markAt          int8
	since           uint8
	oldest, started int8
	found, advanced bool
}

// simRow is a due row. A token of 0: there is none.
type simRow struct {
	due   int8
	token uint8
}

type budgets struct{ wait, unanswered, unsent, toggle uint8 }

type world struct {
	now       int8
	queue     [slots]simMessage
	rows      [roomRows]simRow // in order, those that are none at the end
	parked    uint8
	since     uint8
	mark      uint8
	markAt    int8
	watermark int8 // number of an hour; 0: none
	highest   int8
	closed    bool // the destination may not receive
	holders   [2]simHolder
	wakers    [2]simWaker
	left      budgets
	done      bool
	wrong     string
}

// setting is what a search begins with.
type setting struct {
	limits                 Limits
	holders, wakers        int
	ticks                  int8          // then time stands still, and all that is under way may end
	holderClock, wakeClock int           // ticks by which the clocks are ahead
	past                   time.Duration // of the hour, when the search begins
	behind                 time.Duration // by which the watermark is older than a new one would be
	backlog                []int         // ticks at which rows are due that lie in the room, instead of the message on the queue
	waits                  []int
	closed                 bool
	noWatermark            bool
	left                   budgets
}

type search struct {
	rules
	setting
}

// move is one thing that can happen. It is put into words only for a counterexample.
type move struct {
	who, say string
	minute   int // for a %d in say
	next     world
}

func (m move) String() string {
	say := m.say
	if strings.Contains(say, "%d") {
		say = fmt.Sprintf(say, m.minute)
	}
	return m.who + say
}

// names of holders and wakers, and of tokens.
var (
	holderNames = [...]string{"holder 1", "holder 2"}
	wakerNames  = [...]string{"waker 1", "waker 2"}
	tokenNames  = [...]string{"", "a", "b", "c", "d", "e", "f", "g", "h"}
)

// fresh gives a token that nobody holds, in place of the one that is there.
func (s search) fresh(w *world, there uint8) uint8 {
	for token := uint8(1); ; token++ {
		used := token == there
		for i := range w.holders {
			used = used || w.holders[i].token == token
		}
		for i := range w.wakers {
			used = used || w.wakers[i].token == token || w.wakers[i].mark == token
		}
		if !used {
			return token
		}
	}
}

func (w *world) send(m simMessage) bool {
	for i := range w.queue {
		if !w.queue[i].here {
			m.here = true
			w.queue[i] = m
			return true
		}
	}
	return false
}

// token gives the token of the row that is due then; 0: there is none.
func (w *world) token(due int8) uint8 {
	for _, r := range w.rows {
		if r.token != 0 && r.due == due {
			return r.token
		}
	}
	return 0
}

// setRow puts a row, or with token 0 deletes it.
func (w *world) setRow(due int8, token uint8) {
	var rows []simRow
	for _, r := range w.rows {
		if r.token != 0 && r.due != due {
			rows = append(rows, r)
		}
	}
	if token != 0 {
		rows = append(rows, simRow{due, token})
	}
	slices.SortFunc(rows, func(a, b simRow) int { return int(a.due) - int(b.due) })
	w.rows = [roomRows]simRow{}
	if copy(w.rows[:], rows) < len(rows) {
		panic("there are more due rows than the search can tell apart")
	}
}

// parkClock is the time by which parked deliveries are given up: when time stands still, they have been parked for long enough.
func (s search) parkClock(w *world, ahead int) time.Time {
	if w.now == s.ticks {
		ahead += maxTicks
	}
	return s.at(int(w.now) + ahead)
}

func (s search) holderNow(w *world) time.Time { return s.at(int(w.now) + s.holderClock) }

func spend(budget *uint8) bool {
	if *budget == 0 {
		return false
	}
	*budget--
	return true
}

// moves lists everything that can happen next.
func (s search) moves(w world, out []move) []move {
	add := func(who, say string, minute int, change func(*world) bool) {
		out = append(out, move{who, say, minute, w})
		if !change(&out[len(out)-1].next) {
			out = out[:len(out)-1]
		}
	}
	if w.now < s.ticks {
		add("", "time passes", 0, func(n *world) bool { n.pass(s); return true })
	}
	if w.left.toggle > 0 {
		say := "the destination fails"
		if w.closed {
			say = "the destination recovers"
		}
		add("", say, 0, func(n *world) bool {
			n.closed = !n.closed
			return spend(&n.left.toggle)
		})
	}
	for i := range s.setting.holders {
		s.hold(w, i, add)
	}
	for i := range s.setting.wakers {
		s.wake(w, i, add)
	}
	return out
}

type adder func(who, say string, minute int, change func(*world) bool)

// pass lets a tick go by; holders that outlive their time-out die.
func (w *world) pass(s search) {
	w.now++
	for i := range w.holders {
		h := &w.holders[i]
		if h.step != hIdle && time.Duration(w.now-h.started)*tick > s.limits.FunctionTimeout {
			w.die(i)
		}
	}
	for i := range w.wakers {
		if k := w.wakers[i]; k.step != wIdle && w.now-k.started > wakerTicks {
			w.wakers[i] = simWaker{}
		}
	}
}

func (w *world) die(i int) {
	w.queue[w.holders[i].slot].flight = false
	w.holders[i] = simHolder{}
}

func (s search) hold(w world, i int, add adder) {
	name := holderNames[i]
	h := w.holders[i]
	if h.step > hGot {
		add(name, " dies", 0, func(n *world) bool { n.die(i); return true })
	}
	switch h.step {
	case hIdle:
		for slot, m := range w.queue {
			if m.here && !m.flight && m.visible <= w.now {
				add(name, " receives the message", 0, func(n *world) bool {
					n.queue[slot].flight = true
					n.holders[i] = simHolder{step: hGot, slot: uint8(slot), started: n.now, cached: h.cached, since: m.since}
					return true
				})
				break // copies differ in nothing that matters
			}
		}
	case hGot:
		s.decide(w, i, name, add)
	case hPutDue:
		s.put(w, i, " puts the due row", " puts the due row, the answer is lost", w.token(h.due), func(n *world, token uint8) { n.setRow(h.due, token) }, hAck, add)
	case hMark:
		mark := func(n *world) { n.mark, n.markAt = s.fresh(n, n.mark), h.stamp; n.holders[i].cached = h.stamp + 1 }
		add(name, " marks the destination", 0, func(n *world) bool { mark(n); n.holders[i].step = hPutParked; return true })
	case hPutParked:
		then := uint8(hAck)
		if s.rowBeforeMark && h.stamp != noStamp {
			then = hMarkLate
		}
		s.put(w, i, " parks the delivery", " parks the delivery, the answer is lost", w.parked, func(n *world, token uint8) { n.parked, n.since = token, h.since }, then, add)
	case hMarkLate:
		add(name, " marks the destination", 0, func(n *world) bool {
			n.mark, n.markAt = s.fresh(n, n.mark), h.stamp
			n.holders[i].cached, n.holders[i].step = h.stamp+1, hAck
			return true
		})
	case hAck:
		add(name, " acknowledges", 0, func(n *world) bool {
			n.queue[h.slot] = simMessage{}
			n.holders[i] = simHolder{cached: h.cached}
			return true
		})
	}
}

// decide is what the deliverer does with a message.
func (s search) decide(w world, i int, name string, add adder) {
	h := w.holders[i]
	now := s.holderNow(&w)
	if h.since > 0 && s.parkClock(&w, s.holderClock).Sub(s.at(int(h.since)-1)) >= s.limits.LongestPark {
		add(name, " gives the delivery up", 0, func(n *world) bool { n.done = true; return true })
		return
	}
	if w.closed {
		add(name, " must park the delivery", 0, func(n *world) bool {
			h := &n.holders[i]
			if h.since == 0 {
				h.since = uint8(int(n.now) + s.holderClock + 1)
			}
			h.step, h.stamp = hMark, n.now+int8(s.holderClock)
			if known := h.cached > 0 && s.marked(s.limits, s.at(int(h.cached)-1), now); known || s.rowBeforeMark {
				if h.step = hPutParked; known {
					h.stamp = -1
				}
			}
			return true
		})
		return
	}
	add(name, " delivers", 0, func(n *world) bool { n.done = true; return true })
	for _, wait := range s.waits {
		due := int(w.now) + s.holderClock + wait
		if due > int(s.ticks)-2 {
			continue
		}
		add(name, " wants the delivery to wait until minute %d", due*5, func(n *world) bool {
			h := &n.holders[i]
			if s.tooSoon(s.limits, s.at(due), now) {
				n.queue[h.slot] = simMessage{}
				n.holders[i] = simHolder{cached: h.cached}
				return spend(&n.left.wait) && n.send(simMessage{visible: n.now + int8(max(0, min(wait, 3)))})
			}
			h.step, h.due = hPutDue, int8(due)
			return spend(&n.left.wait)
		})
	}
}

func (s search) put(w world, i int, say, sayLost string, there uint8, write func(*world, uint8), then uint8, add adder) {
	h := w.holders[i]
	token := h.token
	if token == 0 || !s.repeatsKeepIt {
		token = s.fresh(&w, there)
	}
	if s.tokensStay {
		token = 1
	}
	add(holderNames[i], say, 0, func(n *world) bool {
		write(n, token)
		n.holders[i].step, n.holders[i].token = then, 0
		return true
	})
	add(holderNames[i], sayLost, 0, func(n *world) bool {
		write(n, token)
		if s.repeatsKeepIt {
			n.holders[i].token = token
		}
		return spend(&n.left.unanswered)
	})
}

func (s search) wake(w world, i int, add adder) {
	name := wakerNames[i]
	k := w.wakers[i]
	clock := w.now + int8(s.wakeClock)
	if k.step != wIdle && k.step != wVisit && k.step != wParked { // to die there is to have done nothing
		add(name, " dies", 0, func(n *world) bool { n.wakers[i] = simWaker{}; return true })
	}
	to := func(n *world, step uint8) bool { n.wakers[i].step = step; return true }
	switch k.step {
	case wIdle:
		s.begin(w, i, name, add)
	case wStart:
		add(name, " writes the first watermark", 0, func(n *world) bool {
			s.write(n, s.firstHour(s.limits, hourOf(k.oldest), k.found, s.at(int(k.clock))))
			n.wakers[i] = simWaker{}
			return true
		})
	case wVisit:
		if hourOf(k.hour) > s.lastHour(s.limits, s.at(int(clock))) {
			add(name, " has seen the last hour", 0, func(n *world) bool { return to(n, wAdvance) })
			return
		}
		add(name, " reads the hour from minute %d on, and those after it that hold nothing", s.minuteOf(k.hour), func(n *world) bool {
			s.read(n, i, clock)
			return true
		})
	case wSend:
		s.sendDue(i, name, k, clock, add)
	case wDelete:
		add(name, " deletes the due row", 0, func(n *world) bool {
			left := false
			if token := n.token(k.due); token != 0 && s.mayDelete(tokenNames[token], tokenNames[k.token]) {
				n.setRow(k.due, 0)
			} else if token != 0 {
				left = true
			}
			if s.deleteFirst {
				return to(n, wSend)
			}
			s.next(n, i, left)
			return true
		})
	case wAdvance:
		add(name, " writes the watermark", 0, func(n *world) bool {
			if k.advanced {
				s.write(n, hourOf(k.watermark))
			}
			next := simWaker{step: wParked, mark: k.mark, markAt: k.markAt, started: k.started}
			if k.mark == 0 || s.visitsOnlyReady && n.closed {
				next = simWaker{}
			}
			n.wakers[i] = next
			return true
		})
	default:
		s.wakeParked(w, i, name, add)
	}
}

func (s search) begin(w world, i int, name string, add adder) {
	add(name, " begins a run", 0, func(n *world) bool {
		k := &n.wakers[i]
		if n.watermark == 0 {
			k.started, k.clock = n.now, n.now+int8(s.wakeClock)
			k.step = wStart
			if r := n.rows[0]; r.token != 0 {
				k.oldest, k.found = number(s.hour(r)), true
			}
			return true
		}
		if n.watermark < n.highest {
			n.wrong = "a run visits hours that an earlier one has closed"
		}
		*k = simWaker{step: wVisit, started: n.now, hour: n.watermark, watermark: n.watermark, due: notYet, mark: n.mark, markAt: n.markAt}
		if len(s.waits)+len(s.backlog) == 0 { // there are no due rows
			*k = simWaker{step: wParked, started: n.now, mark: n.mark, markAt: n.markAt}
			return n.mark != 0 && !(s.visitsOnlyReady && n.closed)
		}
		return true
	})
}

// write writes the watermark, if the rules allow it.
func (s search) write(n *world, to Hour) {
	current := Hour(0)
	if n.watermark > 0 {
		current = hourOf(n.watermark)
	}
	if s.mayAdvance(current, n.watermark > 0, to) {
		n.watermark = number(to)
		n.highest = max(n.highest, n.watermark)
	}
}

func (s search) hour(r simRow) Hour { return HourOf(s.at(int(r.due))) }

// minuteOf is when an hour begins, counted from the beginning of the search.
func (s search) minuteOf(hour int8) int { return int(hourOf(hour).Start().Sub(s.at(0)).Minutes()) }

// read reads the next row of the hour that is within reach, and goes on to the next hours while nothing can come into them.
func (s search) read(n *world, i int, clock int8) {
	k := &n.wakers[i]
	for {
		if k.due == notYet {
			k.clock = clock
		}
		if s.readRow(n, k) {
			if k.step = wSend; s.deleteFirst {
				k.step = wDelete
			}
			return
		}
		s.visited(n, i)
		if hourOf(k.hour) > s.lastHour(s.limits, s.at(int(clock))) || s.coming(n, k.hour) {
			return
		}
	}
}

// readRow reads the row behind k.due, if there is one within reach, and notes whether it is the last.
func (s search) readRow(n *world, k *simWaker) bool {
	until, whole := s.reach(s.limits, hourOf(k.hour), s.at(int(k.clock)))
	found := false
	for _, r := range n.rows {
		if r.token == 0 || r.due <= k.due || s.hour(r) != hourOf(k.hour) || !whole && !s.at(int(r.due)).Before(until) {
			continue
		}
		if found {
			k.end = false
			return true
		}
		found = true
		k.due, k.token, k.end = r.due, r.token, true
	}
	return found
}

func (s search) sendDue(i int, name string, k simWaker, clock int8, add adder) {
	add(name, " sends the due delivery", 0, func(n *world) bool {
		delay := s.limits.Delay(s.at(int(k.due)), s.at(int(clock)))
		visible := n.now + int8(delay/tick)
		if skew := abs(s.wakeClock) + abs(s.holderClock); int(visible)+skew < int(k.due) {
			n.wrong = "a message comes back before it is due"
		}
		if s.deleteFirst {
			s.next(n, i, false)
		} else {
			n.wakers[i].step = wDelete
		}
		return n.send(simMessage{visible: min(visible, s.ticks)})
	})
	add(name, " cannot send the due delivery", 0, func(n *world) bool { s.next(n, i, true); return spend(&n.left.unsent) })
}

// next goes on behind a row that was left, or not.
func (s search) next(n *world, i int, left bool) {
	k := &n.wakers[i]
	k.step, k.token, k.left = wVisit, 0, k.left || left
	if k.end {
		s.visited(n, i)
	}
}

// visited ends the visit to an hour.
func (s search) visited(n *world, i int) {
	k := &n.wakers[i]
	left := map[bool]int{true: 1}[k.left]
	may := s.mayClose(s.limits, hourOf(k.hour), s.at(int(k.clock)), left)
	watermark := number(s.advance(hourOf(k.watermark), hourOf(k.hour), may))
	k.watermark, k.advanced = watermark, k.advanced || watermark > k.watermark
	k.step, k.token, k.clock, k.due, k.end, k.left = wVisit, 0, 0, notYet, false, false
	k.hour++
}

func (s search) wakeParked(w world, i int, name string, add adder) {
	k := w.wakers[i]
	end := func(n *world) bool { n.wakers[i] = simWaker{}; return true }
	switch k.step {
	case wParked:
		add(name, " reads the parked rows", 0, func(n *world) bool {
			k := &n.wakers[i]
			k.clock = n.now + int8(s.wakeClock)
			k.token, k.since = n.parked, n.since
			switch {
			case s.mayClear(s.limits, s.at(int(k.markAt)), s.at(int(k.clock)), min(int(k.token), 1)):
				k.step = wClear
			case k.token == 0 || !s.mayGo(s.limits, !n.closed, s.at(int(k.since)-1), s.parkClock(n, s.wakeClock)):
				return end(n)
			default:
				if k.step = wSendParked; s.deleteFirst {
					k.step = wDeleteParked
				}
			}
			return true
		})
	case wSendParked:
		add(name, " sends the parked delivery", 0, func(n *world) bool {
			if n.wakers[i].step = wDeleteParked; s.deleteFirst {
				end(n)
			}
			return n.send(simMessage{visible: n.now, since: k.since})
		})
		add(name, " cannot send the parked delivery", 0, func(n *world) bool { end(n); return spend(&n.left.unsent) })
	case wDeleteParked:
		add(name, " deletes the parked row", 0, func(n *world) bool {
			if n.parked != 0 && s.mayDelete(tokenNames[n.parked], tokenNames[k.token]) {
				n.parked, n.since = 0, 0
			}
			if s.deleteFirst {
				n.wakers[i].step = wSendParked
				return true
			}
			return end(n)
		})
	case wClear:
		add(name, " clears the mark", 0, func(n *world) bool {
			if n.mark == k.mark || s.clearWhatever {
				n.mark, n.markAt = 0, 0
			}
			return end(n)
		})
	}
}

// coming tells whether the hour holds a row or one for it is under way: only then does it matter when exactly the hour is read.
func (s search) coming(w *world, hour int8) bool {
	for _, h := range w.holders {
		if h.step == hPutDue && number(s.hour(simRow{due: h.due})) == hour {
			return true
		}
	}
	for _, r := range w.rows {
		if r.token != 0 && number(s.hour(r)) == hour {
			return true
		}
	}
	return false
}

func abs(n int) int { return max(n, -n) }

// canonical gives worlds that differ only in the order of messages, or in what can make no difference any more, one form.
func (s search) canonical(w *world) {
	s.forget(w)
	for i := range w.queue {
		if w.queue[i].visible <= w.now {
			w.queue[i].visible = 0
		}
	}
	for i := 1; i < slots; i++ {
		for j := i; j > 0 && w.queue[j].key() > w.queue[j-1].key(); j-- {
			w.queue[j], w.queue[j-1] = w.queue[j-1], w.queue[j]
			for k := range w.holders {
				if h := &w.holders[k]; h.step != hIdle {
					switch int(h.slot) {
					case j:
						h.slot = uint8(j - 1)
					case j - 1:
						h.slot = uint8(j)
					}
				}
			}
		}
	}
}

// forget drops what decides nothing any more: times that are long ago, and the names of tokens, of which only matters which are the same.
func (s search) forget(w *world) {
	const longAgo = -40
	holder, waker, last := s.at(int(w.now)+s.holderClock), s.at(int(w.now)+s.wakeClock), s.at(int(s.ticks)+s.wakeClock)
	mark := func(stamp *int8) {
		if s.mayClear(s.limits, s.at(int(*stamp)), waker, 0) {
			*stamp = longAgo
		} else if !s.mayClear(s.limits, s.at(int(*stamp)), last, 0) {
			*stamp = s.ticks
		}
	}
	since := func(stamp *uint8) {
		if *stamp > 1 && (s.limits.LongestPark > maxTicks*tick || min(holder.Sub(s.at(int(*stamp)-1)), waker.Sub(s.at(int(*stamp)-1))) >= s.limits.LongestPark) {
			*stamp = 1
		}
	}
	var parked, marks tokens
	var due dueTokens
	parked.rename(&w.parked)
	marks.rename(&w.mark)
	if since(&w.since); w.mark != 0 {
		mark(&w.markAt)
	}
	for i := range w.rows {
		due.of(w.rows[i].due).rename(&w.rows[i].token)
	}
	for i := range w.queue {
		since(&w.queue[i].since)
	}
	for i := range w.holders {
		h := &w.holders[i]
		if h.cached > 0 && !s.marked(s.limits, s.at(int(h.cached)-1), holder) {
			h.cached = 0
		}
		switch since(&h.since); h.step {
		case hPutDue:
			due.of(h.due).rename(&h.token)
		case hPutParked:
			parked.rename(&h.token)
		case hAck:
			h.due, h.stamp, h.since = 0, 0, 0
		}
		if h.step == hPutParked && !s.rowBeforeMark {
			h.stamp = 0
		}
	}
	for i := range w.wakers {
		k := &w.wakers[i]
		switch since(&k.since); k.step {
		case wSend, wDelete:
			due.of(k.due).rename(&k.token)
		case wSendParked, wDeleteParked:
			k.clock, k.mark, k.markAt = 0, 0, 0
			parked.rename(&k.token)
		case wClear:
			k.clock, k.token, k.since, k.markAt = 0, 0, 0, 0
		}
		if marks.rename(&k.mark); k.mark != 0 && k.step != wClear {
			mark(&k.markAt)
		}
	}
}

// tokens renames tokens in the order in which they come.
type tokens [8]uint8

func (t *tokens) rename(token *uint8) {
	if *token == 0 {
		return
	}
	for i := range t {
		if t[i] == 0 || t[i] == *token {
			t[i] = *token
			*token = uint8(i + 1)
			return
		}
	}
}

// dueTokens are the tokens of rows, by when they are due.
type dueTokens [roomRows + 4]struct {
	used   bool
	due    int8
	tokens tokens
}

func (d *dueTokens) of(due int8) *tokens {
	for i := range d {
		if e := &d[i]; !e.used || e.due == due {
			e.used, e.due = true, due
			return &e.tokens
		}
	}
	panic("there are more due rows under way than the search can tell apart")
}

// ends tells that the delivery will come to its end whatever happens now: a message lies on the queue, or was just received, and nothing keeps
// a holder from delivering it.
func (s search) ends(w *world) bool {
	if w.closed || w.left.toggle > 0 || w.left.wait > 0 {
		return false
	}
	sure := [slots]bool{}
	for slot, m := range w.queue {
		sure[slot] = m.here
	}
	for _, h := range w.holders {
		if h.step > hGot {
			sure[h.slot] = false
		}
	}
	return slices.Contains(sure[:], true)
}

func (m simMessage) key() uint32 {
	k := uint32(m.visible)<<8 | uint32(m.since)<<16
	if m.here {
		k |= 1 << 31
	}
	if m.flight {
		k |= 1 << 30
	}
	return k
}

// run explores everything and gives a counterexample in words, or "".
func (s search) run() (counterexample string, explored int) {
	start := world{left: s.left, closed: s.closed}
	for _, due := range s.backlog {
		start.setRow(int8(due), 1)
	}
	if len(s.backlog) == 0 {
		start.send(simMessage{})
	}
	if !s.noWatermark {
		s.write(&start, s.limits.FirstHour(0, false, s.at(0).Add(-s.behind)))
	}
	s.canonical(&start)
	index := map[world]int32{start: 0}
	all := []world{start}
	type from struct {
		parent    int32
		who, what string
		minute    int
	}
	origin := []from{{-1, "", "a delivery message lies on the queue, or its row in the room", 0}}
	var edges [][2]int32
	story := func(i int32, end string) string {
		var lines []string
		for ; i >= 0; i = origin[i].parent {
			o := origin[i]
			lines = append(lines, fmt.Sprintf("%3d min  %s", int(all[max(o.parent, 0)].now)*5, move{who: o.who, say: o.what, minute: o.minute}))
		}
		slices.Reverse(lines)
		return strings.Join(append(lines, "=> "+end), "\n")
	}
	var room []move
	for i := 0; i < len(all); i++ {
		if len(all) > maxStates {
			return tooLarge, len(all)
		}
		if all[i].done {
			continue
		}
		room = s.moves(all[i], room[:0])
		for _, m := range room {
			s.canonical(&m.next)
			if m.next.wrong == "" && (m.next.done || s.ends(&m.next)) { // all that have come to their end are one
				m.next = world{done: true}
			}
			j, known := index[m.next]
			if !known {
				j = int32(len(all))
				index[m.next] = j
				all = append(all, m.next)
				origin = append(origin, from{int32(i), m.who, m.say, m.minute})
				if m.next.wrong != "" {
					return story(j, m.next.wrong), len(all)
				}
			}
			edges = append(edges, [2]int32{int32(i), j})
		}
	}
	if stuck := firstStuck(all, edges); stuck >= 0 {
		return story(stuck, "from here the delivery cannot come to its end: it is lost"), len(all)
	}
	for i := range all {
		if s.stray(&all[i]) {
			return story(int32(i), "a row lies where no run looks, and nobody is about to change that"), len(all)
		}
	}
	return "", len(all)
}

// stray tells that there is a row which no run visits. While the message of its delivery comes back, that is not lost; but the row would
// stay for ever, and be counted.
func (s search) stray(w *world) bool {
	for _, r := range w.rows {
		if r.token != 0 && w.watermark > 0 && number(s.hour(r)) < w.watermark {
			return true
		}
	}
	marking := false
	for _, h := range w.holders {
		marking = marking || h.step == hMarkLate
	}
	return w.parked != 0 && w.mark == 0 && !marking
}

// firstStuck gives the first state from which the end cannot be reached, or -1.
func firstStuck(all []world, edges [][2]int32) int32 {
	starts := make([]int32, len(all)+1)
	for _, e := range edges {
		starts[e[1]+1]++
	}
	for i := range all {
		starts[i+1] += starts[i]
	}
	into := make([]int32, len(edges))
	next := slices.Clone(starts)
	for _, e := range edges {
		into[next[e[1]]] = e[0]
		next[e[1]]++
	}
	reaches := make([]bool, len(all))
	var work []int32
	for i, w := range all {
		if w.done {
			reaches[i] = true
			work = append(work, int32(i))
		}
	}
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		for _, parent := range into[starts[i]:starts[i+1]] {
			if !reaches[parent] {
				reaches[parent] = true
				work = append(work, parent)
			}
		}
	}
	return int32(slices.Index(reaches, false))
}

// settings are mixtures of circumstances, each small enough to be explored in full.
func settings() map[string]setting {
	limits := Limits{FunctionTimeout: 2 * tick, ClockSkew: tick, MarkCache: tick, LongestPark: 1000 * time.Hour, LongestDelay: 15 * time.Minute}
	short, soon := limits, limits
	short.FunctionTimeout = tick
	soon.LongestPark = 4 * tick
	const third = 44 * time.Minute // the third tick is in the last minute of its hour
	return map[string]setting{
		"one waker":          {limits: limits, ticks: 9, holders: 1, wakers: 1, holderClock: -1, wakeClock: 1, past: third, waits: []int{3}, left: budgets{wait: 1, unsent: 1}},
		"two rows":           {limits: limits, ticks: 9, holders: 1, wakers: 1, holderClock: -1, wakeClock: 1, past: third, waits: []int{3, 4}, left: budgets{wait: 2, unsent: 1}},
		"two wakers":         {limits: limits, ticks: 6, holders: 1, wakers: 2, holderClock: -1, past: 4 * time.Minute, behind: time.Hour, waits: []int{3}, left: budgets{wait: 1, unsent: 1}},
		"repeated put":       {limits: limits, ticks: 5, holders: 1, wakers: 1, past: third, waits: []int{3, 5}, left: budgets{wait: 2, unanswered: 2}},
		"overdue":            {limits: limits, ticks: 6, holders: 1, wakers: 1, past: 30 * time.Minute, waits: []int{-7, 1}, left: budgets{wait: 1}},
		"far ahead":          {limits: limits, ticks: 10, holders: 1, wakers: 1, wakeClock: 1, past: 30 * time.Minute, waits: []int{6}, left: budgets{wait: 1}},
		"new room":           {limits: limits, ticks: 8, holders: 1, wakers: 1, holderClock: -1, wakeClock: 1, past: third, waits: []int{3}, noWatermark: true, left: budgets{wait: 1}},
		"outage":             {limits: limits, ticks: 1, holders: 1, wakers: 2, past: 55 * time.Minute, behind: 2 * time.Hour, backlog: []int{-30, -29}, waits: []int{3}, left: budgets{wait: 1, unsent: 2}},
		"parked":             {limits: limits, ticks: 12, holders: 2, wakers: 1, holderClock: 1, wakeClock: -1, closed: true, left: budgets{toggle: 1, unsent: 1}},
		"parked later":       {limits: short, ticks: 8, holders: 1, wakers: 1, closed: true, left: budgets{toggle: 3}},
		"parked twice":       {limits: limits, ticks: 2, holders: 2, wakers: 1, closed: true, left: budgets{toggle: 3}},
		"parked again":       {limits: limits, ticks: 1, holders: 2, wakers: 1, closed: true, left: budgets{toggle: 3, unanswered: 1}},
		"parked, two wakers": {limits: short, ticks: 5, holders: 1, wakers: 2, holderClock: -1, wakeClock: 1, closed: true, left: budgets{toggle: 1}},
		"given up":           {limits: soon, ticks: 8, holders: 1, wakers: 1, closed: true},
	}
}

func TestSearch(t *testing.T) {
	t.Parallel()
	for name, setting := range settings() {
		t.Run(name, func(t *testing.T) {
			counterexample, explored := search{realRules(), setting}.run()
			t.Logf("%d states", explored)
			if counterexample != "" {
				t.Fatal(counterexample)
			}
		})
	}
}

func TestSearchNeedsEveryRule(t *testing.T) {
	t.Parallel()
	for name, broken := range brokenRules() {
		t.Run(name, func(t *testing.T) {
			setting, ok := settings()[broken.where]
			if !ok {
				t.Fatalf("there is no setting %q", broken.where)
			}
			counterexample, explored := search{broken.rules, setting}.run()
			if counterexample == "" || counterexample == tooLarge {
				t.Fatalf("without this rule the search finds nothing wrong in %d states: the rule is superfluous, or the search is blind", explored)
			}
			t.Logf("found within %d states:\n%s", explored, counterexample)
		})
	}
}

// brokenRule is what happens without a rule, and the setting in which it shows.
type brokenRule struct {
	where string
	rules rules
}

func brokenRules() map[string]brokenRule {
	all := map[string]brokenRule{}
	broken := func(where, name string, change func(*rules)) {
		b := brokenRule{where, realRules()}
		change(&b.rules)
		all[name] = b
	}
	broken("parked twice", "tokens that do not change", func(r *rules) { r.tokensStay = true })
	broken("parked again", "a put is repeated with its token", func(r *rules) { r.repeatsKeepIt = true })
	broken("parked twice", "deletes ask for no token", func(r *rules) { r.mayDelete = func(string, string) bool { return true } })
	broken("one waker", "deleted before sent", func(r *rules) { r.deleteFirst = true })
	broken("overdue", "put closer than the least distance", func(r *rules) { r.tooSoon = func(Limits, time.Time, time.Time) bool { return false } })
	broken("far ahead", "look-ahead longer than what a queue can delay", func(r *rules) {
		longer := func(l Limits) Limits { l.LongestDelay *= 3; return l }
		r.lastHour = func(l Limits, now time.Time) Hour { return longer(l).LastHour(now) }
		r.reach = func(l Limits, h Hour, now time.Time) (time.Time, bool) { return longer(l).Reach(h, now) }
	})
	broken("far ahead", "hours are always read whole", func(r *rules) {
		r.reach = func(l Limits, h Hour, now time.Time) (time.Time, bool) {
			until, _ := l.Reach(h, now)
			return until, true
		}
	})
	broken("one waker", "the end of an hour is never looked at", func(r *rules) {
		r.reach = func(l Limits, h Hour, now time.Time) (time.Time, bool) {
			until, _ := l.Reach(h, now)
			if end := h.End().Add(-time.Minute); end.Before(until) {
				until = end
			}
			return until, false
		}
	})
	broken("one waker", "hours closed as soon as they have ended", func(r *rules) {
		r.mayClose = func(_ Limits, h Hour, now time.Time, left int) bool { return left == 0 && now.After(h.End()) }
	})
	broken("one waker", "hours closed as soon as nothing is within reach", func(r *rules) {
		r.mayClose = func(_ Limits, _ Hour, _ time.Time, left int) bool { return left == 0 }
	})
	broken("one waker", "hours closed with rows in them", func(r *rules) {
		r.mayClose = func(l Limits, h Hour, now time.Time, _ int) bool { return l.MayClose(h, now, 0) }
	})
	broken("outage", "hours closed out of order", func(r *rules) {
		r.advance = func(watermark, h Hour, mayClose bool) Hour {
			if mayClose {
				return h + 1
			}
			return watermark
		}
	})
	broken("two wakers", "the watermark moves backward", func(r *rules) { r.mayAdvance = func(Hour, bool, Hour) bool { return true } })
	broken("new room", "a new watermark begins at the present", func(r *rules) {
		r.firstHour = func(_ Limits, _ Hour, _ bool, began time.Time) Hour { return HourOf(began) }
	})
	broken("new room", "a new watermark begins at the oldest row, or at the present", func(r *rules) {
		r.firstHour = func(_ Limits, oldest Hour, found bool, began time.Time) Hour {
			if found {
				return min(oldest, HourOf(began))
			}
			return HourOf(began)
		}
	})
	broken("new room", "a new watermark forgets older rows", func(r *rules) {
		r.firstHour = func(l Limits, _ Hour, _ bool, began time.Time) Hour { return l.FirstHour(0, false, began) }
	})
	broken("parked", "marked after the row", func(r *rules) { r.rowBeforeMark = true })
	broken("parked later", "a mark is relied on for ever", func(r *rules) { r.marked = func(Limits, time.Time, time.Time) bool { return true } })
	broken("parked", "marks cleared before the caches are over", func(r *rules) {
		r.mayClear = func(_ Limits, _, _ time.Time, rows int) bool { return rows == 0 }
	})
	broken("parked", "marks cleared without their token", func(r *rules) { r.clearWhatever = true })
	broken("parked", "marks cleared with rows there", func(r *rules) {
		r.mayClear = func(l Limits, written, now time.Time, _ int) bool { return l.MayClear(written, now, 0) }
	})
	broken("given up", "only destinations that may receive are visited", func(r *rules) { r.visitsOnlyReady = true })
	broken("given up", "parked for ever", func(r *rules) { r.mayGo = func(_ Limits, may bool, _, _ time.Time) bool { return may } })
	return all
}
