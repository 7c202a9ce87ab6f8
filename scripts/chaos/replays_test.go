package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/topology"
)

// restarts are deliberate ones, even of what is delivered, and what the laws must know of them. world.mu guards what sent writes.
type restarts struct {
	planned     bool                        // messages are looked into
	first       map[string]delivery.Message // the router's, by delivery
	highest     map[string]int              // epoch of any message
	publics     map[string]map[int][]string // public ids that the first messages of an epoch carry
	aliases     map[string]string           // deliveries by public ids of their own
	asked       map[string][]int            // epochs of replays
	undelivered map[string][]int            // epochs of their dead letters: moved back, these are replays too
}

func (p *restarts) init() {
	p.first, p.highest, p.publics = map[string]delivery.Message{}, map[string]int{}, map[string]map[int][]string{}
	p.aliases, p.asked, p.undelivered = map[string]string{}, map[string][]int{}, map[string][]int{}
}

// patience is how often a replay waits for something to be delivered, and for how long each time.
const (
	mostWaits  = 8
	waitAnHour = 10 * time.Minute
)

// drawReplays draws whether somebody has deliveries made again, and when.
func (w *world) drawReplays() {
	r := w.dice.of("replays")
	if r.IntN(6) > 0 {
		return
	}
	for i := range 1 + r.IntN(3) {
		at := time.Duration(r.Int64N(int64([]time.Duration{30 * time.Second, 10 * time.Minute, 3 * time.Hour}[r.IntN(3)])))
		key := keyOf("replay", i)
		own := w.dice.of("replay", i)
		if !w.mask.lets(key) {
			continue
		}
		w.planned = true
		w.calm = later(w.calm, w.began.Add(at+time.Hour))
		w.at(at, "", func() { w.replay(key, own, mostWaits) })
	}
}

// replay restarts a delivery as the redrive program does with a dead letter of it that somebody has kept: one epoch more than the letter says, which says one more than
// the delivery had.
func (w *world) replay(key string, r *rand.Rand, waits int) {
	w.mu.Lock()
	all := slices.Sorted(maps.Keys(w.first))
	w.mu.Unlock()
	if made := slices.DeleteFunc(slices.Clone(all), func(d string) bool { return w.rows[d].state != ledger.Delivered }); len(made) > 0 || r.IntN(4) > 0 {
		all = made
	}
	if len(all) == 0 {
		if waits > 0 && !w.peace {
			w.when(time.Now().Add(waitAnHour), "", func() { w.replay(key, r, waits-1) })
		}
		return
	}
	d := all[r.IntN(len(all))]
	w.mu.Lock()
	m := w.first[d]
	m.Epoch = max(w.highest[d], w.rows[d].epoch)
	w.mu.Unlock()
	letter := m.Restart()
	again := letter.Again(r.IntN(2) == 0)
	body, err := again.Encode(delivery.MaxBytes)
	if err != nil {
		w.t.Error(err)
		return
	}
	w.asked[d] = append(w.asked[d], again.Epoch)
	what := replayed
	if again.NewID {
		what = replayedAnew
		w.mu.Lock()
		w.aliases[again.PublicID()] = string(again.Delivery)
		w.mu.Unlock()
	}
	w.strike(what, key)
	w.tell("operator: replays %s in epoch %d, new id: %t", d, again.Epoch, again.NewID)
	send := func() {
		q, _ := w.Queues.Queue(string(topology.Deliveries))
		if _, err := q.Send(sqs.Outgoing{Body: body, GroupID: again.Destination}); err != nil {
			w.t.Error(err)
		}
	}
	send()
	if r.IntN(3) == 0 {
		w.when(time.Now().Add(time.Duration(r.Int64N(int64([]time.Duration{time.Second, time.Hour}[r.IntN(2)])))), "", func() {
			w.tell("operator: sends the same replay of %s again", d)
			w.copies[d]++
			send()
		})
	}
}

// carries looks into a message that a queue has accepted.
func (w *world) carries(queue string, m sqs.Message) {
	if !w.planned || queue != string(topology.Deliveries) && queue != string(topology.DeliveriesDeadLetter) {
		return
	}
	_, carried, err := open(sqs.Held{Message: m})
	if err != nil {
		return // the auditor tells of it
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.deliveries[string(carried.Delivery)]
	w.highest[d] = max(w.highest[d], carried.Epoch)
	if carried.Replay && queue == string(topology.DeliveriesDeadLetter) {
		w.undelivered[d] = append(w.undelivered[d], carried.Epoch)
	}
	if carried.Attempt != 1 || carried.Outcome != nil {
		return
	}
	if _, known := w.first[d]; !known && carried.Epoch == 0 {
		w.first[d] = carried
	}
	if w.publics[d] == nil {
		w.publics[d] = map[int][]string{}
	}
	if id := carried.PublicID(); !slices.Contains(w.publics[d][carried.Epoch], id) {
		w.publics[d][carried.Epoch] = append(w.publics[d][carried.Epoch], id)
	}
}

// original is the id of the delivery that a public id stands for.
func (w *world) original(publicID string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if id, is := w.aliases[publicID]; is {
		return id
	}
	return publicID
}

// replayedIn tells whether somebody has asked for a delivery again in an epoch after one, and up to another: by a replay, or by moving back a dead letter of one.
func (w *world) replayedIn(called string, after, until int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(slices.Concat(w.asked[called], w.undelivered[called]), func(epoch int) bool { return after < epoch && epoch <= until })
}

// named holds a call to the law that all attempts of an epoch are made under the public id with which the epoch began.
func (w *world) named(a *ask, called string) {
	row := w.rows[called]
	w.mu.Lock()
	ids := w.publics[called][row.epoch]
	w.mu.Unlock()
	if w.planned && row.state == ledger.Claimed && !w.relaxed(called) && len(ids) > 0 && !slices.Contains(ids, a.public) {
		w.breach("%s was called in epoch %d under the public id %s, which belongs to another", called, row.epoch, w.shorten(a.public))
	}
}

// judgeReplays holds a delivery to the law that each replay has come to an end: its epoch, or a later one, is in the ledger or in a dead letter.
func (w *world) judgeReplays(called string, letters []letter) {
	for _, epoch := range w.asked[called] {
		if w.rows[called].epoch < epoch && !slices.ContainsFunc(letters, func(l letter) bool { return l.epoch >= epoch }) {
			w.breach("%s was to be replayed in epoch %d and is %s", called, epoch, fmt.Sprintf("%s in epoch %d", w.rows[called].state, w.rows[called].epoch))
		}
	}
}
