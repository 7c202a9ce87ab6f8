package chaos

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/breaker"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/retry"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waiting"
	"github.com/waybillhq/waybill/shared/waybill"
)

// standing is a waybill as it lies in the table.
type standing struct {
	state          ledger.State
	epoch, attempt int
	owner          string
	lease          time.Time
	code           int
}

// books are what the laws are judged by. The conductor keeps them.
type books struct {
	rows      map[string]standing
	attempts  map[string]map[[2]int]bool // that the ledger has seen, by delivery
	calls     map[string]int
	arrivals  map[string][]time.Time // of calls to destinations with a rate
	received  map[string]int         // messages of a delivery that the deliverer was given
	excuses   map[string]int         // of a call beyond the attempts
	incident  map[string]int         // whatever touched a delivery
	gones     map[string]int         // 410 answers
	probes    map[string]int         // attempts that were not spent, as the rows of parked deliveries tell: 410 answers, and probes of the breaker that failed
	rejects   map[string]int         // 400 answers
	breaches  []string
	strays    int
	begun     map[string][]try           // when the ledger saw each attempt of a delivery first
	copies    map[string]int             // messages of a delivery beyond the one that it needs
	unwritten map[string]int             // results that could not be written at once
	closed    map[string]int64           // watermarks
	tried     map[string]map[[2]int]bool // attempts at which a receiver was called
	breakers  map[string]*breakerSeen
	holders   map[string]*environment // who has written each owner first
}

// breakerSeen is a destination's breaker that is open, or tries whether it may close.
type breakerSeen struct {
	since  time.Time
	probes map[string]bool // the deliveries that were let through since then, by id
}

// try is the beginning of an attempt.
type try struct {
	epoch, attempt int
	at             time.Time
}

func (b *books) init() {
	b.rows, b.attempts, b.calls, b.excuses, b.incident = map[string]standing{}, map[string]map[[2]int]bool{}, map[string]int{}, map[string]int{}, map[string]int{}
	b.begun, b.closed, b.copies, b.unwritten = map[string][]try{}, map[string]int64{}, map[string]int{}, map[string]int{}
	b.arrivals = map[string][]time.Time{}
	b.holders = map[string]*environment{}
	b.tried, b.breakers = map[string]map[[2]int]bool{}, map[string]*breakerSeen{}
	b.gones, b.rejects, b.received, b.probes = map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
}

func (w *world) breach(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	w.tell("BREACH: %s", line)
	if len(w.breaches) < 10 {
		w.breaches = append(w.breaches, fmt.Sprintf("%s: %s", time.Since(w.began).Round(time.Millisecond), line))
	}
}

// observe looks at the ledger after every request that may have changed it.
func (w *world) observe(a *ask) {
	switch a.step {
	case stepClaim, stepReclaim, stepSettle, stepRecord, stepRelease:
	case stepAdvance:
		w.observeWatermarks()
		return
	case stepMove:
		w.observeBreakers()
		return
	case stepPut:
		w.wakeWithin(w.untilNextRun())
		w.observeProbes()
		return
	default:
		return
	}
	rows, _ := w.Tables.Items(string(topology.Ledger))
	for _, row := range rows {
		text := func(name string) string { return fmt.Sprint(row[name]) }
		number := func(name string) int64 {
			n, _ := strconv.ParseInt(text(name), 10, 64)
			return n
		}
		called := w.deliveries[text("delivery")]
		now := standing{
			state: ledger.State(text("state")), epoch: int(number("epoch")), attempt: int(number("attempt")), owner: text("owner"),
			lease: time.UnixMilli(number("leaseUntil")), code: int(number("code")),
		}
		before, known := w.rows[called]
		if known && before == now {
			continue
		}
		w.rows[called] = now
		if w.attempts[called] == nil {
			w.attempts[called] = map[[2]int]bool{}
		}
		if key := [2]int{now.epoch, now.attempt}; !w.attempts[called][key] {
			w.attempts[called][key] = true
			if before := [2]int{now.epoch, now.attempt - 1}; now.attempt > 1 && !w.attempts[called][before] && !w.relaxed(called) {
				w.breach("attempt %d of %s has none before it: something else has spent that", now.attempt, called)
			}
			w.begun[called] = append(w.begun[called], try{now.epoch, now.attempt, time.Now()})
		}
		if w.holders[now.owner] == nil {
			w.holders[now.owner] = a.env
			if now.state == ledger.Claimed && a.inv != nil && now.lease.Before(a.inv.Deadline) {
				w.breach("the lease of %s ends %s before the invocation that holds it", called, a.inv.Deadline.Sub(now.lease).Round(time.Millisecond))
			}
		}
		if known {
			w.compare(called, before, now)
		}
		if known && now.state == ledger.Claimed && before.owner == now.owner && now.lease.Before(before.lease) && w.holders[now.owner] != a.env {
			w.breach("the claim of %s, which %s holds, was released by %s", called, w.holders[now.owner], a.env)
		}
	}
}

// observeProbes reads from parked rows how many attempts were made for the destination's sake and not by the schedule.
func (w *world) observeProbes() {
	rows, _ := w.Tables.Items(string(topology.Waiting))
	for _, row := range rows {
		body, held := row["body"].(dynamodb.Binary)
		if !held {
			continue
		}
		m, err := waiting.Unpack(waiting.Row{Form: waiting.Zipped, Token: "read", Destination: "read", Body: []byte(body)})
		if err != nil {
			continue
		}
		called := w.deliveries[string(m.Delivery)]
		w.probes[called] = max(w.probes[called], m.Probes)
	}
}

// observeBreakers reads which destinations are to be left alone.
func (w *world) observeBreakers() {
	rows, _ := w.Tables.Items(string(topology.Registry))
	for _, row := range rows {
		if row["part"] != dynamodb.String("health") {
			continue
		}
		id, phase := fmt.Sprint(row["row"]), breaker.Phase(textOf(row["phase"]))
		if phase == breaker.Closed {
			delete(w.breakers, id)
			continue
		}
		if w.breakers[id] == nil {
			w.breakers[id] = &breakerSeen{time.Now(), map[string]bool{}}
			w.strikeQuietly(breakerOpened)
		}
		if phase == breaker.Probing {
			w.breakers[id].probes[textOf(row["probe"])] = true
		}
	}
}

// observeWatermarks holds the waking to the law that what was closed stays closed.
func (w *world) observeWatermarks() {
	rows, _ := w.Tables.Items(string(topology.Waiting))
	for _, row := range rows {
		hour, err := strconv.ParseInt(fmt.Sprint(row["hour"]), 10, 64)
		if err != nil {
			continue
		}
		shard := fmt.Sprint(row["row"])
		if before, known := w.closed[shard]; known && hour < before {
			w.breach("%s goes back from %d to %d", shard, before, hour)
		}
		w.closed[shard] = hour
	}
}

// compare holds a write to the ledger to the law that no stale write survives.
func (w *world) compare(called string, before, now standing) {
	order := before.epoch - now.epoch
	if order == 0 {
		order = before.attempt - now.attempt
	}
	relaxed := w.relaxed(called)
	switch {
	case order > 0:
		w.breach("the waybill of %s goes back from (%d, %d) to (%d, %d)", called, before.epoch, before.attempt, now.epoch, now.attempt)
	case before.state == ledger.Delivered && now.state != ledger.Delivered && !w.replayedIn(called, before.epoch, now.epoch):
		w.breach("the waybill of %s was delivered and is %s", called, now.state)
	case before.state == ledger.Dead && before.epoch == now.epoch && now.state != ledger.Dead && !relaxed:
		w.breach("the waybill of %s was dead in epoch %d and is %s", called, before.epoch, now.state)
	case order == 0 && before.state == ledger.Waiting && now.state == ledger.Claimed:
		w.breach("the waybill of %s has claimed attempt %d again after it was settled", called, now.attempt)
	case before.state == ledger.Claimed && now.state == ledger.Claimed && before.owner != now.owner && time.Until(before.lease) > largestSkew:
		w.breach("the claim of %s was taken over %s before its lease ended", called, time.Until(before.lease).Round(time.Millisecond))
	}
}

// textOf is what an attribute says; "" where there is none.
func textOf(attribute any) string {
	if attribute == nil {
		return ""
	}
	return fmt.Sprint(attribute)
}

func (w *world) destinationOf(called string) destination {
	for _, d := range w.destinations {
		if len(called) > len(d.id) && called[len(called)-len(d.id):] == d.id {
			return d
		}
	}
	return destination{}
}

func (w *world) relaxed(called string) bool { return w.destinationOf(called).everRelaxed() }

// blame enters a disaster of a request against the deliveries it concerns: some explain that a receiver is called once more.
func (w *world) blame(a *ask, what string) {
	switch {
	case what == crashBefore, what == crashAfter:
		w.excuse(a.env)
	case a.step == stepSuccessor, a.step == stepBury, a.step == stepOutcome, a.step == stepPut, a.step == stepMark:
		for _, d := range a.about {
			w.excuses[d]++
		}
		if a.step == stepMark || what == slowAnswer {
			w.excuse(a.env) // marks do not say for which deliveries they are
		}
	case what == slowAnswer:
		w.excuse(a.env)
	}
	for _, d := range a.about {
		w.incident[d]++
		switch a.step {
		case stepSettle, stepRecord:
			w.unwritten[d]++
		case stepRoute, stepResend, stepWake, stepDelete:
			w.copies[d]++ // whoever is told that it failed sends again
		}
	}
}

// excuse explains one more call for every delivery that an invocation has in its hands.
func (w *world) excuse(e *environment) {
	for d := range e.touched {
		w.excuses[d]++
		w.incident[d]++
	}
}

// rated holds a call to the law that a destination with a rate gets no more calls in any time, as far as clocks agree.
func (w *world) rated(to destination) {
	if to.rate == 0 {
		return
	}
	now, interval := time.Now(), time.Duration(to.rate)*time.Second
	w.arrivals[to.id] = append(w.arrivals[to.id], now)
	at := w.arrivals[to.id]
	for i := range at {
		if took := now.Sub(at[i]) + 2*largestSkew; len(at)-i > 1+int((took+interval-1)/interval) {
			w.breach("%s, which gets a call each %v, got %d within %v", to.id, interval, len(at)-i, now.Sub(at[i]))
			return
		}
	}
}

// called counts a call and holds it to the law that nobody is called after the delivery was settled.
func (w *world) called(a *ask) {
	d, known := w.deliveries[a.id]
	if !known {
		w.breach("a call under the unknown id %s", a.id)
		return
	}
	w.calls[d]++
	w.rated(w.destinationOf(d))
	w.asks++
	if w.rows[d].state == ledger.Delivered && !w.relaxed(d) {
		w.breach("%s was called for %s after it was settled as delivered", a.path, d)
	}
	w.spaced(d)
	w.named(a, d)
	w.removedFor(a, d)
	w.leftAlone(a)
	if row := w.rows[d]; row.state == ledger.Claimed {
		if w.tried[d] == nil {
			w.tried[d] = map[[2]int]bool{}
		}
		w.tried[d][[2]int{row.epoch, row.attempt}] = true
	}
}

// memory is how long an invocation may be behind what the breaker's row says: what an environment remembers, clocks that jump, and a read under way.
const memory = 20 * time.Second

// leftAlone holds a call to the law that an open breaker lets nobody through but probes.
func (w *world) leftAlone(a *ask) {
	seen := w.breakers[a.path]
	if seen == nil || seen.probes[a.id] || a.env == nil || a.env.blindSince(memory+w.limitOf(a.function)) {
		return
	}
	if inv := a.env.inv.Load(); inv != nil && inv.Deadline.Add(-w.limitOf(a.function)-memory).After(seen.since) {
		w.breach("%s was called for %s by %s although its breaker was open since %s", a.path, w.deliveries[a.id], a.env, seen.since.Sub(w.began))
	}
}

// limitOf is how long an invocation of a function may take.
func (w *world) limitOf(f topology.FunctionName) time.Duration { return w.Functions[f].Timeout() }

// spaced holds a call to the law that an attempt is not made before the schedule has it: a wait is shortened by its jitter and by clocks
// that differ, and by nothing else.
func (w *world) spaced(called string) {
	row, d := w.rows[called], w.destinationOf(called)
	i := slices.IndexFunc(w.begun[called], func(t try) bool { return t.epoch == row.epoch && t.attempt == row.attempt-1 })
	if row.state != ledger.Claimed || d.everRelaxed() || w.gones[called] > 0 || w.probes[called] > 0 || i < 0 {
		return
	}
	before := w.begun[called][i]
	shortest := time.Duration(math.MaxInt64)
	for _, schedule := range d.schedules() {
		if before.attempt <= len(schedule) {
			shortest = min(shortest, schedule[before.attempt-1])
		}
	}
	if shortest == math.MaxInt64 {
		return // the law on the number of attempts tells of it
	}
	least := time.Duration(float64(shortest)*(1-retry.Jitter)) - 2*largestSkew
	if gap := time.Since(before.at); gap < least {
		w.breach("attempt %d of %s was made %s after the one before, by the schedule at least %s", row.attempt, called, gap.Round(time.Millisecond), least)
	}
}

func (w *world) answered(a *ask, what string) {
	d := w.deliveries[a.id]
	switch what {
	case gone:
		w.gones[d]++
	case rejecting:
		w.rejects[d]++
	}
}

// judge holds the end to the laws.
func (w *world) judge() {
	if len(w.breaches) > 0 {
		return
	}
	if w.stuck != "" {
		w.breach("stuck: %s", w.stuck)
		for _, f := range w.fed() {
			for _, held := range w.queueOf(f).Snapshot() {
				w.breach("stuck: %v in a queue, received %s times, visible in %s", w.contents(held.Body), held.Attributes["ApproximateReceiveCount"], time.Until(held.Due))
			}
		}
		rows, _ := w.Tables.Items(string(topology.Waiting))
		for _, row := range rows {
			if _, held := row["body"]; held {
				w.breach("stuck: a row in %v, %v", row["bucket"], row["row"])
			}
		}
	}
	books := w.auditor.Audit(w.Queues, w.Tables, nil)
	if err := books.Check(); err != nil {
		w.breach("the auditor: %v", err)
	}
	if len(books.Unreadable) > 0 {
		w.breach("unreadable: %v", books.Unreadable)
	}
	if denied := w.Denied(); len(denied) > 0 {
		w.breach("the topology does not grant %q", denied)
	}
	dead, _ := w.Queues.Queue(string(topology.IngressDeadLetter))
	for _, held := range dead.Snapshot() {
		if held.Attributes["DeadLetterQueueSourceArn"] != "" && w.disasters < 9 {
			w.breach("SQS has counted out %v on its way in after %d disasters", w.contents(held.Body), w.disasters)
		}
	}
	letters := w.letters()
	for _, id := range slices.Sorted(maps.Keys(w.deliveries)) {
		w.judgeDelivery(w.deliveries[id], letters)
	}
}

// letter is a dead letter of a delivery.
type letter struct {
	waybill.Note
	epoch    int
	receives string
}

func (w *world) letters() map[string][]letter {
	found := map[string][]letter{}
	q, _ := w.Queues.Queue(string(topology.DeliveriesDeadLetter))
	for _, held := range q.Snapshot() {
		l, m, err := open(held)
		if err != nil {
			w.breach("a dead letter cannot be read: %v", err)
			continue
		}
		called := w.deliveries[string(m.Delivery)]
		l.epoch = m.Epoch
		found[called] = append(found[called], l)
	}
	return found
}

func open(held sqs.Held) (letter, delivery.Message, error) {
	attributes := map[string]queue.Attribute{}
	for k, a := range held.MessageAttributes {
		attributes[k] = queue.Attribute{DataType: a.DataType, String: a.StringValue, Binary: a.BinaryValue}
	}
	bare, _, note, err := waybill.Detach(held.Body, attributes)
	if err != nil {
		return letter{}, delivery.Message{}, err
	}
	m, err := delivery.Decode(bare)
	return letter{Note: note, receives: held.Attributes["ApproximateReceiveCount"]}, m, err
}

// attemptsOf is how many attempts a destination's schedules have, the shortest and the longest.
func attemptsOf(d destination) (least, most int) {
	least = math.MaxInt
	for _, schedule := range d.schedules() {
		least, most = min(least, len(schedule)+1), max(most, len(schedule)+1)
	}
	return least, most
}

func (w *world) judgeDelivery(called string, letters map[string][]letter) {
	row, known := w.rows[called]
	d := w.destinationOf(called)
	attempts := len(w.attempts[called])
	fewest, most := attemptsOf(d)
	w.judgeReplays(called, letters[called])
	w.judgeFiling(called, known || len(letters[called]) > 0)
	// Where a result could not be written before the lease was over, another copy of the message makes the attempt once more.
	allowed := attempts + w.excuses[called] + min(w.unwritten[called], w.copies[called])
	if d.everRelaxed() { // it has chosen that each message may be a call
		allowed = max(allowed, w.received[called])
	}
	if calls := w.calls[called]; calls > allowed {
		w.breach("%s: %d calls for %d attempts, %d more explained", called, calls, attempts, allowed-attempts)
	}
	perEpoch := map[int]int{}
	for a := range w.attempts[called] {
		perEpoch[a[0]] = max(perEpoch[a[0]], a[1])
	}
	for epoch, made := range perEpoch {
		if allowed := most + max(w.gones[called], w.probes[called]); made > allowed {
			w.breach("%s: attempt %d in epoch %d, its schedule has %d", called, made, epoch, allowed)
		}
	}
	left := w.unmet(called)
	for _, t := range w.begun[called] {
		if w.tried[called][[2]int{t.epoch, t.attempt}] || d.everRelaxed() || !w.attempts[called][[2]int{t.epoch, t.attempt + 1}] {
			continue
		}
		if left--; left < 0 {
			w.breach("%s: attempt %d in epoch %d was followed by another, and nobody was called", called, t.attempt, t.epoch)
		}
	}
	if known && row.state != ledger.Delivered && row.state != ledger.Dead && len(letters[called]) == 0 {
		w.breach("%s ends as %s", called, row.state)
	}
	for _, l := range letters[called] {
		switch {
		case l.Reason == "":
			if w.incident[called] < 9 {
				w.breach("%s was counted out by SQS after %s receives and %d disasters of its own", called, l.receives, w.incident[called])
			}
		case l.Reason == "http-400":
			if w.rejects[called] == 0 {
				w.breach("%s is dead because of %s, and nobody has said so", called, l.Reason)
			}
		case l.Reason == "held-too-long":
		case l.Reason == "unknown-destination":
			if !w.unknownAt(called, l.FailedAt) {
				w.breach("%s is dead because of %s, and the file had its destination", called, l.Reason)
			}
		case l.Attempts < fewest:
			w.breach("%s was given up after %d of %d attempts because of %s", called, l.Attempts, fewest, l.Reason)
		}
	}
}

func (w *world) result() result {
	effects := 0
	for _, r := range w.receiver.Log() {
		if r.Effect {
			effects++
		}
	}
	q, _ := w.Queues.Queue(string(topology.DeliveriesDeadLetter))
	return result{
		seed: w.seed, breaches: w.breaches, struck: w.struck, steps: w.crashes, keys: w.keys, story: w.lines, asks: w.asks, lasted: time.Since(w.began),
		effects: effects, letters: q.Depth().Total(),
	}
}
