package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/functions/waker"
	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/redrive"
	"github.com/waybillhq/waybill/shared/topology"
)

const (
	mostSteps     = 250_000             // a seed that takes more is stuck; a week with an open breaker takes some 100,000
	longestRest   = 30 * 24 * time.Hour // until all is done, after the disasters
	mostDisasters = 40
)

var (
	errOver = errors.New("the invocation is over")
	errLost = errors.New("connection reset by peer")
)

// action is something that happens at a time.
type action struct {
	at    time.Time
	order int
	name  string // of those that are looked for
	do    func()
}

// conductor decides what happens next.
type conductor struct {
	actions      []*action
	ordered      int
	steps        int // choices made
	asks         int
	seen         map[string]int // occurrences of decisions
	environments []*environment
	waking       int                 // runs of the waker under way
	tools        int                 // redrive programs under way
	routed       map[string]int      // how often the router has sent a delivery
	routings     map[string]routing  // by event
	given        map[string][]string // what messages are about, by receipt
	hangs        map[*environment]int
	telling      bool
	lines        []string
	struck       map[string]int
	crashes      map[string]int
	keys         []string
	disasters    int
	peace        bool
	stuck        string
}

func (c *conductor) init(telling bool) {
	c.seen, c.hangs, c.telling = map[string]int{}, map[*environment]int{}, telling
	c.routings = map[string]routing{}
	c.routed, c.given = map[string]int{}, map[string][]string{}
	c.struck, c.crashes = map[string]int{}, map[string]int{}
}

// at has something done at a time after the beginning.
func (w *world) at(after time.Duration, called string, do func()) {
	w.when(w.began.Add(after), called, do)
}

func (w *world) when(at time.Time, called string, do func()) {
	w.ordered++
	a := &action{at, w.ordered, called, do}
	i, _ := slices.BinarySearchFunc(w.actions, a, func(x, y *action) int {
		if c := x.at.Compare(y.at); c != 0 {
			return c
		}
		return x.order - y.order
	})
	w.actions = slices.Insert(w.actions, i, a)
}

// tell adds a line to the story.
func (w *world) tell(format string, args ...any) {
	if w.telling {
		w.lines = append(w.lines, fmt.Sprintf("%14s  ", time.Since(w.began).Round(time.Microsecond))+w.shorten(fmt.Sprintf(format, args...)))
	}
}

// strike counts a disaster.
func (w *world) strike(what, key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.struck[what]++
	if !slices.Contains(w.keys, key) {
		w.keys = append(w.keys, key)
	}
}

// run plays until all is done.
func (w *world) run() {
	ctx := context.Background()
	for _, m := range w.Mappings {
		m.Start(ctx)
	}
	w.when(w.began.Add(time.Second), wakeUp, w.wake)
	end := w.calm.Add(longestRest)
	for w.steps < mostSteps {
		synctest.Wait()
		w.gather()
		if len(w.breaches) > 0 {
			return // what follows from it says nothing more
		}
		now := time.Now()
		if !w.peace && !now.Before(w.calm) {
			w.makePeace()
			continue
		}
		if len(w.actions) > 0 && !w.actions[0].at.After(now) {
			a := w.actions[0]
			w.actions = w.actions[1:]
			a.do()
			continue
		}
		options := w.options()
		if len(options) == 0 {
			if w.done() {
				return
			}
			if now.After(end) {
				w.stuck = fmt.Sprintf("not at rest %s after the last disaster", longestRest)
				return
			}
			w.rest(end)
			continue
		}
		w.steps++
		r := w.dice.of("step", w.steps)
		pause := time.Duration(1+r.IntN(8))*time.Millisecond + time.Duration(r.IntN(1_000_000))
		if !w.peace && r.IntN(16) == 0 && !w.crowded() {
			pause += time.Duration(r.Int64N(int64([]time.Duration{100 * time.Millisecond, 2 * time.Second, 9 * time.Second}[r.IntN(3)])))
		}
		if len(w.actions) > 0 {
			pause = min(pause, w.actions[0].at.Sub(now))
		}
		time.Sleep(pause)
		synctest.Wait()
		w.gather()
		if options = w.options(); len(options) > 0 {
			options[r.IntN(len(options))]()
		}
	}
	w.stuck = fmt.Sprintf("%d steps do not suffice", mostSteps)
}

// crowded tells whether two requests of one environment wait at receivers: they were made at one instant, and must not time out at one.
func (w *world) crowded() bool {
	seen := map[*environment]bool{}
	for _, a := range w.gate.all() {
		if a.kind == call {
			if seen[a.env] {
				return true
			}
			seen[a.env] = true
		}
	}
	return false
}

// gather turns away those whose invocation is over, and takes up what was found and logged.
func (w *world) gather() {
	w.mu.Lock()
	strays := w.strays
	w.mu.Unlock()
	if strays > 0 && len(w.breaches) == 0 {
		w.breach("a scan of the waiting room found %d strays", strays)
	}
	for _, a := range w.gate.all() {
		switch {
		case a.inv == nil || !a.inv.Ended() || !w.gate.take(a):
		case a.env.frozen():
			w.interrupted(a)
		default:
			a.err = errOver
			close(a.turn)
		}
	}
	if w.telling {
		w.mu.Lock()
		logged := w.logged
		w.logged = nil
		w.mu.Unlock()
		slices.Sort(logged)
		for _, line := range logged {
			w.tell("  %s", line)
		}
	}
}

// options are what can happen next.
func (w *world) options() (options []func()) {
	polls := map[topology.FunctionName]bool{}
	for _, a := range w.gate.all() {
		switch a.kind {
		case wire:
			options = append(options, func() { w.grant(a) })
		case call:
			options = append(options, func() { w.meet(a) })
		case remove:
			options = append(options, func() { w.remove(a) })
		case receive:
			q := w.queueOf(a.function)
			if !polls[a.function] && q.Depth().Visible > 0 {
				polls[a.function] = true
				options = append(options, func() { w.handOut(a, q) })
			}
		}
	}
	return options
}

// fed gives the functions that are fed by a queue.
func (w *world) fed() (names []topology.FunctionName) {
	for _, f := range w.declared.Functions {
		if f.Source.Queue != "" {
			names = append(names, f.Name)
		}
	}
	return names
}

func (w *world) queueOf(name topology.FunctionName) *sqs.Queue {
	f, _ := w.declared.Function(name)
	q, _ := w.Queues.Queue(string(f.Source.Queue))
	return q
}

// rest lets time pass until somebody comes, or something is due.
func (w *world) rest(end time.Time) {
	next := end.Add(time.Second)
	if len(w.actions) > 0 && w.actions[0].at.Before(next) {
		next = w.actions[0].at
	}
	if !w.peace && w.calm.Before(next) {
		next = w.calm
	}
	for _, f := range w.fed() {
		for _, held := range w.queueOf(f).Snapshot() {
			if held.State != sqs.Visible && held.Due.Before(next) {
				next = held.Due
			}
		}
	}
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	select {
	case <-w.gate.bell:
	case <-timer.C:
	}
}

// makePeace ends all disasters.
func (w *world) makePeace() {
	w.peace = true
	w.tell("the disasters are over")
	for _, d := range w.destinations {
		w.operate("enable", d.id)
		w.operate("resume", d.id)
	}
	w.wakeWithin(time.Second)
}

// done tells whether nothing is left to do.
func (w *world) done() bool {
	if !w.peace || w.waking > 0 || w.tools > 0 || w.Busy() > 0 {
		return false
	}
	for _, a := range w.actions {
		if a.name != wakeUp {
			return false
		}
	}
	for _, f := range w.Functions {
		if f.Stats().Running > 0 {
			return false
		}
	}
	for _, m := range w.Mappings {
		if !m.Idle() {
			return false
		}
	}
	return true
}

// nth counts the occurrences of a decision and names this one.
func (w *world) nth(parts ...any) string {
	called := fmt.Sprint(parts...)
	w.seen[called]++
	return fmt.Sprintf("%s %d", called, w.seen[called])
}

// may tells whether a disaster that was drawn strikes, and counts it.
func (w *world) may(what, key string) bool {
	if w.peace || w.disasters >= mostDisasters || !w.mask.lets(key) {
		return false
	}
	w.disasters++
	w.strike(what, key)
	return true
}

// fate draws what becomes of a request.
func (w *world) fate(a *ask) (what string, r *rand.Rand) {
	if w.peace {
		return "", nil
	}
	if what := w.down(a); what != "" {
		return what, w.dice.of("down", w.nth("down", a.step))
	}
	if v := w.lasting(refusing, ""); v != nil && a.operation == "BatchExecuteStatement" && outageOf(a) == ledgerDown {
		v.struck = true
		return refusing, w.dice.of("refuse", w.nth("refuse", a.step))
	}
	called := w.nth(a.step, a.about)
	r = w.dice.of("fate", called)
	chance, known := chances[a.step]
	if !known {
		chance = 0.05
	}
	if r.Float64() >= chance*w.intensity {
		return "", r
	}
	what = w.dice.pick(requestDisasters, "fate", called, "what")
	if what == partial && lists[a.operation] == "" {
		what = throttled
	}
	if !w.may(what, keyOf(called, what)) {
		return "", r
	}
	return what, r
}

// roomSteps are the steps that need the table of the waiting room.
var roomSteps = []string{stepMark, stepPut, stepState, stepMarks, stepDue, stepParked, stepDelete, stepAdvance, stepSaveScan, stepScan}

// registrySteps are those that need the table of the registry.
var registrySteps = []string{stepRegistry, stepDisable, stepHealth, stepProbe, stepCount, stepMove, stepPace, stepLate, stepLimit}

// outageOf names the outage that a request would suffer from.
func outageOf(a *ask) string {
	switch {
	case a.service == "sqs" && a.operation == "SendMessageBatch":
		return sendsDown
	case a.service == "sqs":
		return hidesDown
	case slices.Contains(registrySteps, a.step):
		return registryDown
	case slices.Contains(roomSteps, a.step):
		return roomDown
	}
	return ledgerDown
}

// down tells what a request suffers from something that lasts.
func (w *world) down(a *ask) string {
	v := w.lasting(outageOf(a), "")
	if v == nil {
		return ""
	}
	v.struck = true
	if len(v.how)%2 == 0 {
		return throttled
	}
	return broken
}

// grant decides what becomes of a request to AWS.
func (w *world) grant(a *ask) {
	if !w.gate.take(a) {
		return
	}
	w.asks++
	w.touch(a)
	if a.step == stepRoute {
		for _, d := range a.about {
			if w.routed[d]++; w.routed[d] > 1 {
				w.copies[d]++
			}
		}
	}
	if a.step == stepPassOn {
		w.strikeQuietly(passedOn)
	}
	if w.pausedAtWake(a) {
		return
	}
	what, r := w.fate(a)
	if what == "" {
		a.response = w.perform(a, a.body).response()
		w.tellOf(a, "")
		close(a.turn)
		return
	}
	a.disturbed = true
	w.tellOf(a, what)
	w.blame(a, what)
	switch what {
	case crashBefore, crashAfter:
		w.crashes[what+" "+a.step]++
		if what == crashAfter {
			w.perform(a, a.body)
		}
		a.err = errLost
		w.crash(a.env, r)
	case lostRequest:
		a.err = errLost
	case lostAnswer:
		w.perform(a, a.body)
		a.err = errLost
	case broken, throttled:
		a.response = failure(a, what == throttled)
	case outageBegins:
		now := time.Now()
		v := &window{what: outageOf(a), from: now, to: now.Add(6*time.Second + time.Duration(r.Int64N(int64(time.Minute)))), how: []string{failing, hanging, throttling}[r.IntN(3)]}
		w.windows = append(w.windows, v)
		w.tell("%s until %s", v.what, v.to.Sub(w.began))
		a.response = failure(a, false)
	case refusing:
		a.response = refusal(a, r.IntN(2) == 0)
	case partial:
		a.response = w.partly(a, r)
	case twice:
		a.response = w.perform(a, a.body).response()
		w.perform(a, a.body)
	case slowAnswer:
		a.response = w.perform(a, a.body).response()
		late := time.Duration(r.Int64N(int64([]time.Duration{5 * time.Second, 55 * time.Second}[r.IntN(2)])))
		if claiming(a) && r.IntN(2) == 0 {
			late = 38*time.Second + time.Duration(r.Int64N(int64(18*time.Second))) // too late for an attempt
		}
		w.answerIn(late, a)
		return
	case lateEffect:
		a.err = errLost
		late := time.Duration(r.Int64N(int64(25 * time.Second)))
		w.when(time.Now().Add(late), "", func() { w.tellOf(a, "takes effect now"); w.perform(a, a.body) })
	}
	close(a.turn)
}

// answerIn gives an answer after a while.
func (w *world) answerIn(late time.Duration, a *ask) {
	w.gate.delay(a)
	w.when(time.Now().Add(late), "", func() { close(a.turn) })
}

// pausedAtWake has an operator pause a destination at the very moment at which the waker sends what was parked for it: the deliverer parks it again
// before the waker has deleted it.
func (w *world) pausedAtWake(a *ask) bool {
	if w.peace || a.step != stepWake || len(a.about) == 0 || !strings.Contains(string(a.body), `\"heldSince\":`) {
		return false
	}
	called := w.nth(pausedAtWake, a.about)
	r := w.dice.of(called)
	if r.Float64() >= 0.25*w.intensity || !w.may(pausedAtWake, keyOf(called)) {
		return false
	}
	target := w.destinationOf(a.about[0]).id
	a.response = w.perform(a, a.body).response()
	w.tellOf(a, "")
	w.operate("pause", target)
	w.answerIn(time.Duration(r.Int64N(int64(10*time.Second))), a)
	until := time.Now().Add(time.Minute + time.Duration(r.Int64N(int64(30*time.Minute))))
	w.calm = later(w.calm, until)
	w.when(until, "", func() { w.operate("resume", target) })
	return true
}

// crash kills the invocation that runs in an environment. What else it has asked for takes effect at this moment or never.
func (w *world) crash(e *environment, r *rand.Rand) {
	inv := e.inv.Load()
	if inv == nil {
		return
	}
	for _, other := range w.gate.all() {
		if other.env == e && other.kind == wire && w.gate.take(other) {
			if r.IntN(2) == 0 {
				w.perform(other, other.body)
				w.tellOf(other, "takes effect all the same")
			}
			other.err = errLost
			close(other.turn)
		}
	}
	inv.Crash()
}

// claiming tells whether a request asks for the right to make attempts.
func claiming(a *ask) bool { return a.step == stepClaim || a.step == stepReclaim || a.step == stepRead }

// touch remembers whose deliveries an invocation has in its hands.
func (w *world) touch(a *ask) {
	if a.env.working != a.inv {
		a.env.working = a.inv
		clear(a.env.touched)
	}
	if claiming(a) {
		for _, d := range a.about {
			a.env.touched[d] = true
		}
	}
}

func (w *world) tellOf(a *ask, what string) {
	if !w.telling {
		return
	}
	end := ""
	if a.response != nil && a.response.StatusCode != http.StatusOK {
		end = fmt.Sprintf(": refused with %d", a.response.StatusCode)
	}
	if what != "" {
		end = ": " + strings.ToUpper(what)
	}
	w.tell("%-13s %s %s%s", a.who(), a.step, strings.Join(a.about, ", "), end)
}

// handOut gives messages to a poller.
func (w *world) handOut(a *ask, q *sqs.Queue) {
	if !w.gate.take(a) {
		return
	}
	r := w.dice.of("receive", w.nth("receive", a.function))
	most := []int{1, 2, a.most, a.most}[r.IntN(4)]
	a.messages, a.err = a.queue.Receive(context.Background(), most, 0)
	if r.IntN(4) == 0 && len(a.messages) > 1 {
		r.Shuffle(len(a.messages), func(i, j int) { a.messages[i], a.messages[j] = a.messages[j], a.messages[i] })
		w.strikeQuietly(reordered)
	}
	var called []string
	for i := range a.messages {
		m := &a.messages[i]
		about := w.contents(m.Body)
		for _, d := range about {
			w.received[d]++
			if a.function == topology.Router {
				w.routings[d] = routing{earlier(w.routings[d].first), time.Now()}
			}
		}
		called = append(called, about...)
		w.given[m.ReceiptHandle] = about
		w.present(m)
		key := w.nth("duplicate", a.function, about)
		if w.dice.of(key).Float64() < duplicateChance*w.intensity && w.may(duplicated, keyOf(key)) {
			if err := q.ChangeVisibility(m.ReceiptHandle, 0); err != nil {
				w.t.Error(err)
			}
			w.tell("SQS shows %v to others too", about)
			for _, d := range about {
				w.copies[d]++
			}
		}
	}
	w.tell("%-13s receives %s", a.function, strings.Join(called, ", "))
	close(a.turn)
}

// contents gives what a message is about.
func (w *world) contents(body string) []string {
	encoded, _ := json.Marshal(body) // as it stands in a request
	return w.about(encoded)
}

func (w *world) strikeQuietly(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.struck[what]++
}

// present shows a message as the release that runs now sees it. Before a rollback a newer one has run, whose messages ours cannot read.
func (w *world) present(m *mapping.Message) {
	if strings.HasPrefix(m.Body, newer) {
		m.Body = ours + m.Body[len(newer):]
		if w.lasting(rolledBack, "") != nil {
			m.Body = newer + m.Body[len(ours):]
		}
		return
	}
	v := w.lasting(rolledBack, "")
	if v == nil || !strings.HasPrefix(m.Body, ours) {
		return
	}
	var sent int64
	_, _ = fmt.Sscan(m.Attributes["SentTimestamp"], &sent)
	if sent > 0 && time.UnixMilli(sent).Before(v.from) {
		m.Body = newer + m.Body[len(ours):]
		w.strikeQuietly(newerMet)
		w.tell("%v was written by the newer release", w.contents(m.Body))
	}
}

// newerMet counts messages that a release met that could not read them.
const newerMet = "message of a newer release met"

// remove lets a mapping delete what was acknowledged.
func (w *world) remove(a *ask) {
	if !w.gate.take(a) {
		return
	}
	key := w.nth("remove", a.function)
	if w.dice.of(key).Float64() < ackLostChance*w.intensity && w.may(ackLost, keyOf(key)) {
		for _, receipt := range a.receipts {
			for _, d := range w.given[receipt] {
				w.copies[d]++
			}
		}
		w.tell("%-13s the acknowledgement of %d messages is lost", a.function, len(a.receipts))
		close(a.turn) // deleted: 0, as if they had become visible again
		return
	}
	a.deleted, a.err = a.queue.Delete(context.Background(), a.receipts)
	w.tell("%-13s acknowledges %d messages", a.function, len(a.receipts))
	close(a.turn)
}

// meet decides what a receiver does with a request.
func (w *world) meet(a *ask) {
	if !w.gate.take(a) {
		return
	}
	w.called(a)
	what := w.behaviour(a)
	about := w.deliveries[a.id]
	w.tell("%-13s calls for %s: %s", a.who(), about, what)
	r := w.dice.of("meet", w.nth("meet", about))
	switch what {
	case fine:
		a.status = http.StatusOK
	case failing:
		a.status = http.StatusInternalServerError
	case throttling:
		a.status, a.wait = http.StatusTooManyRequests, []time.Duration{3 * time.Second, 20 * time.Minute}[r.IntN(2)]
	case rejecting:
		a.status = http.StatusBadRequest
	case gone:
		a.status = http.StatusGone
	case resetting:
	case hanging:
		a.hang = true
		w.hangs[a.env]++
	case slow:
		a.status, a.pause = http.StatusOK, time.Duration(r.Int64N(int64(6*time.Second)))
	case crawling:
		a.status, a.pause = http.StatusOK, 2*time.Second+time.Duration(r.Int64N(int64(1900*time.Millisecond)))
	case crashAtCall, crashActed:
		if what == crashActed {
			a.status = http.StatusOK
		}
		w.crashes[what]++
		w.excuse(a.env)
		w.crash(a.env, r)
	}
	w.answered(a, what)
	close(a.turn)
}

// behaviour draws what a receiver does.
func (w *world) behaviour(a *ask) (what string) {
	if w.peace {
		return fine
	}
	defer func() {
		if what == hanging && w.hangs[a.env] > 0 {
			what = resetting // two that time out at one instant would come in any order
		}
	}()
	if v := w.lasting(destinationDown, a.path); v != nil {
		v.struck = true
		return v.how
	}
	if v := w.lasting(destinationGone, a.path); v != nil {
		return gone
	}
	if v := w.lasting(destinationSlow, a.path); v != nil {
		return crawling
	}
	key := w.nth("answer", w.deliveries[a.id])
	what = w.dice.pick(answers, key)
	if what == fine || !w.may("receiver: "+what, keyOf(key, what)) {
		return fine
	}
	if what == gone {
		w.when(time.Now().Add(time.Duration(w.dice.of(key, "enable").Int64N(int64(2*time.Hour)))), "", func() { w.operate("enable", a.path) })
	}
	return what
}

// wakeUp names the next run of the waker.
const wakeUp = "wake"

// wake runs the waker, unless nobody does, and decides when next: it runs often while that matters, and else when the next row is due.
func (w *world) wake() {
	if v := w.lasting(wakerDown, ""); v != nil {
		v.struck = true
		w.when(v.to, wakeUp, w.wake)
		return
	}
	w.waking++
	go func() {
		answer, err := w.Functions[topology.Waker].Invoke(context.Background(), []byte(`{}`))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.waking--
		var report waker.Report
		if err == nil && json.Unmarshal(answer, &report) == nil && report.Stray > 0 {
			w.strays += report.Stray
		}
	}()
	w.wakeWithin(w.untilNextRun())
}

// untilNextRun is how long the waker may sleep.
func (w *world) untilNextRun() time.Duration {
	rows, _ := w.Tables.Items(string(topology.Waiting))
	now := time.Now()
	next := 6 * time.Hour
	for _, row := range rows {
		if _, held := row["body"]; !held {
			continue
		}
		var at int64
		_, _ = fmt.Sscan(fmt.Sprint(row["at"]), &at)
		bucket := fmt.Sprint(row["bucket"])
		switch {
		case !strings.HasPrefix(bucket, "parked#"):
			next = min(next, max(time.UnixMilli(at).Sub(now)-9*time.Minute, time.Minute))
		case w.receives(strings.Split(bucket, "#")[1]):
			next = min(next, max(w.closedFor(strings.Split(bucket, "#")[1]), time.Minute))
		}
	}
	return next + time.Duration(w.dice.of("wake", w.nth("wake")).IntN(1000))*time.Millisecond
}

// closedFor is for how long a destination's breaker lets nothing through.
func (w *world) closedFor(id string) time.Duration {
	rows, _ := w.Tables.Items(string(topology.Registry))
	for _, row := range rows {
		if fmt.Sprint(row["part"]) != "health" || fmt.Sprint(row["row"]) != id || fmt.Sprint(row["phase"]) != string(breaker.Open) {
			continue
		}
		var until int64
		_, _ = fmt.Sscan(fmt.Sprint(row["until"]), &until)
		return time.Until(time.UnixMilli(until))
	}
	return 0
}

// receives tells whether a destination may receive.
func (w *world) receives(id string) bool {
	store, err := w.Registry()
	if err != nil {
		return true
	}
	now, err := store.Current(context.Background())
	return err != nil || now.States[id].MayReceive()
}

// wakeWithin has the waker run after d at the latest.
func (w *world) wakeWithin(d time.Duration) {
	at := time.Now().Add(d)
	for i, a := range w.actions {
		if a.name == wakeUp {
			if !a.at.After(at) {
				return
			}
			w.actions = slices.Delete(w.actions, i, i+1)
			break
		}
	}
	w.when(at, wakeUp, w.wake)
}

// redriveNatively moves dead letters back as a person does in the console.
func (w *world) redriveNatively(key string) {
	q, _ := w.Queues.Queue(string(topology.DeliveriesDeadLetter))
	to, _ := w.Queues.Queue(string(topology.Deliveries))
	if q.Depth().Total() == 0 {
		return
	}
	w.strike(nativeRedrive, key)
	w.tell("operator: moves %d dead letters back", q.Depth().Total())
	_, err := awssqs.NewFromConfig(w.AWS()).StartMessageMoveTask(context.Background(), &awssqs.StartMessageMoveTaskInput{SourceArn: aws.String(q.ARN()), DestinationArn: aws.String(to.ARN())})
	if err != nil {
		w.t.Error(err)
	}
}

// redriveByProgram moves them with our own.
func (w *world) redriveByProgram(key string) {
	q, _ := w.Queues.Queue(string(topology.DeliveriesDeadLetter))
	to, _ := w.Queues.Queue(string(topology.Deliveries))
	if q.Depth().Total() == 0 {
		return
	}
	w.strike(toolRedrive, key)
	w.tell("operator: runs the redrive program")
	run, err := redrive.New(redrive.Config{SQS: awssqs.NewFromConfig(w.AWS()), From: topology.DeliveriesDeadLetter, FromURL: q.URL(), ToURL: to.URL()})
	if err != nil {
		w.t.Error(err)
		return
	}
	w.tools++
	go func() {
		_, err := run.Run(context.Background())
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tools--
		if err != nil {
			w.breaches = append(w.breaches, "the redrive program failed: "+err.Error())
		}
	}()
}
