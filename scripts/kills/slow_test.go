package kills

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/pace"
	"github.com/waybillhq/waybill/shared/topology"
)

const (
	// crawl is how long a slow destination takes: longer than the two seconds after which an answer is late, and not long enough to be late twice.
	crawl = 2500 * time.Millisecond
	// toSlowDown is how many late answers make a destination slow.
	toSlowDown = 3
	// counted is for how long a late answer counts at most, and for long enough while the deliveries of a point are passed on.
	longestCounted, longEnough = 40 * time.Second, 8 * time.Second
	// memory is how long a deliverer may believe that a destination is quick.
	memory = 5500 * time.Millisecond
	// mostPrimers is how often a destination may have to be made slow, because others took too long before it was its turn.
	mostPrimers = 6
)

// primer is a set of events that are answered late and so make their destination slow.
type primer struct {
	events     []string
	deliveries []delivery.ID
}

// prime prepares the primers of a point, so that its deliveries are known from the beginning.
func (p *point) prime() {
	p.known = p.deliveries
	if !p.scene.slow {
		return
	}
	for n := range mostPrimers {
		var r primer
		for i := range toSlowDown {
			event := fmt.Sprintf("%s-%s%d-e%d", p.id, priming, n, i+1)
			r.events, r.deliveries = append(r.events, event), append(r.deliveries, delivery.NewID(tenant, source, event, p.id))
		}
		p.primers, p.known = append(p.primers, r), append(p.known, r.deliveries...)
	}
}

const priming = "primer"

// primes tells whether an event belongs to a primer.
func primes(event string) bool { return strings.Contains(event, priming) }

// slowDown makes the destinations of a point and of those after it slow, unless this one still is: really, by calls that its receiver answers late.
func (w *world) slowDown(first *point) {
	if w.slow(first) {
		return
	}
	var all []*point
	for i, at := 0, -1; i < len(w.points); i++ {
		if w.points[i] == first {
			at = i
		}
		if at >= 0 && w.points[i].scene.slow {
			all = append(all, w.points[i])
		}
	}
	var wanted []delivery.ID
	for _, p := range all {
		w.mu.Lock()
		n := p.primed
		p.primed++
		w.mu.Unlock()
		if n == len(p.primers) {
			w.t.Fatalf("%s: its destination was made slow %d times in vain", p, n)
		}
		w.sendEvents(p, p.primers[n].events)
		wanted = append(wanted, p.primers[n].deliveries...)
	}
	w.wait(fmt.Sprintf("%s: its destination is slow, and so are those after it", first), func() bool {
		for len(wanted) > 0 && w.rowOf(wanted[0]).State == ledger.Delivered {
			wanted = wanted[1:]
		}
		return len(wanted) == 0 && w.slow(first)
	})
	<-time.After(memory)
}

// slow tells whether a point's destination is slow by what the deliverers have counted, and still is while the point is played.
func (w *world) slow(p *point) bool {
	rows, err := w.Tables.Items(string(topology.Registry))
	w.must(err)
	late := 0
	for _, row := range rows {
		if fmt.Sprint(row["part"]) != "pace" || fmt.Sprint(row["row"]) != p.id {
			continue
		}
		for name, value := range row {
			number, is := strings.CutPrefix(name, "n#")
			slot, err := strconv.ParseInt(number, 10, 64)
			if n, _ := strconv.Atoi(fmt.Sprint(value)); is && err == nil && time.Until(pace.Slot(slot).Begin().Add(longestCounted)) > longEnough {
				late += n
			}
		}
	}
	return late >= toSlowDown
}
