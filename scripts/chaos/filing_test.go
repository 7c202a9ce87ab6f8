package chaos

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/retry"
)

// filing is a change of the destinations file that is taken back later.
type filing struct {
	what     string
	from, to time.Time
	is       destination // meanwhile
	absent   bool        // it is not in the file
	unwanted bool        // its pattern asks for other events
}

func (f *filing) covers(now time.Time) bool {
	return f != nil && !now.Before(f.from) && now.Before(f.to)
}

// changes are what can become of a destination in the file.
var changes = []share{{removed, 5}, {refiledSchedule, 2}, {refiledMode, 3}, {refiledPattern, 3}}

// believed is for how long a function may go by a file that is not in force any more: as long as it cannot read the registry, and an invocation.
const believed = 17 * time.Minute

// drawFilings draws whether the file of destinations changes, and for how long.
func (w *world) drawFilings(schedules [][]string) {
	r := w.dice.of("filings")
	if r.IntN(6) > 0 {
		return
	}
	for i := range w.destinations {
		own := w.dice.of("filing", i)
		if own.IntN(2) == 0 {
			continue
		}
		w.drawFiling(i, own, schedules)
	}
}

func (w *world) drawFiling(i int, r *rand.Rand, schedules [][]string) {
	d := &w.destinations[i]
	f := &filing{what: w.dice.pick(changes, "filing", i, "what"), is: *d}
	f.from = w.began.Add(time.Duration(r.Int64N(int64([]time.Duration{5 * time.Second, 5 * time.Minute, time.Hour}[r.IntN(3)]))))
	f.to = f.from.Add(time.Second + time.Duration(r.Int64N(int64([]time.Duration{30 * time.Second, 20 * time.Minute, 3 * time.Hour, 12 * time.Hour}[r.IntN(4)]))))
	switch f.what {
	case removed:
		f.absent = true
	case refiledSchedule:
		f.is.waits = schedules[r.IntN(len(schedules))]
	case refiledMode:
		f.is.relaxed = !d.relaxed
	case refiledPattern:
		f.unwanted = true
	}
	key := keyOf("filing", i, f.what)
	if !w.mask.lets(key) {
		return
	}
	d.filing = f
	w.calm = later(w.calm, f.to)
	w.at(f.from.Sub(w.began), "", func() { w.strike(f.what, key); w.apply(f.what, d.id) })
	w.at(f.to.Sub(w.began), "", func() { w.apply("the file is as it was", d.id) })
}

// apply replaces the destinations by what the file says now.
func (w *world) apply(what, destination string) {
	store, err := w.Registry()
	if err != nil {
		w.t.Fatal(err)
	}
	now, err := store.Current(context.Background())
	if err != nil {
		w.t.Error(err)
		return
	}
	if _, err := store.Apply(context.Background(), now.Version.Number, registry.Draft{Document: w.document(), By: "chaos", At: time.Now()}); err != nil {
		w.t.Error(err)
	}
	w.tell("operator: %s: %s", destination, what)
	w.wakeWithin(time.Minute)
}

// optional is the file without the destinations that it does not always have, or that do not always take our events.
func (w *world) optional() []byte {
	return w.documentOf(func(d destination) bool { return d.filing == nil || !d.filing.absent && !d.filing.unwanted }, nil)
}

// schedules are those that a destination has at any time.
func (d destination) schedules() (all [][]time.Duration) {
	texts := [][]string{d.waits}
	if d.filing != nil {
		texts = append(texts, d.filing.is.waits)
	}
	for _, waits := range texts {
		schedule := retry.Default().Waits()
		if waits != nil {
			schedule = nil
			for _, text := range waits {
				wait, _ := time.ParseDuration(text)
				schedule = append(schedule, wait)
			}
		}
		all = append(all, schedule)
	}
	return all
}

// everRelaxed tells whether a destination is relaxed at any time.
func (d destination) everRelaxed() bool { return d.relaxed || d.filing != nil && d.filing.is.relaxed }

// removedFor holds a call to the law that who is not in the file any more is called as long as a function may not know it, and no longer.
func (w *world) removedFor(a *ask, called string) {
	f, now := w.destinationOf(called).filing, time.Now()
	if f.covers(now) && f.absent && now.Sub(f.from) > believed {
		w.breach("%s was called for %s although the file has not had it for %s", a.path, called, now.Sub(f.from).Round(time.Second))
	}
}

// routing is when the router had an event first and last.
type routing struct{ first, last time.Time }

// judgeFiling holds a delivery to the law that it exists if its destination was there for the event all the time, and not if it never was.
func (w *world) judgeFiling(called string, known bool) {
	f := w.destinationOf(called).filing
	r, routed := w.routings[eventOf(called)]
	if f == nil || !f.absent && !f.unwanted || !routed {
		return
	}
	from, to := r.first.Add(-believed), r.last.Add(believed)
	switch {
	case !known && (to.Before(f.from) || from.After(f.to)):
		w.breach("%s does not exist, and its destination took such events all the time", called)
	case known && !from.Before(f.from) && to.Before(f.to):
		w.breach("%s exists, and its destination took no such events at any time", called)
	}
}

// unknownAt tells whether a delivery may have found its destination unknown at a time.
func (w *world) unknownAt(called string, at time.Time) bool {
	f := w.destinationOf(called).filing
	return f != nil && f.absent && at.After(f.from.Add(-2*largestSkew)) && at.Before(f.to.Add(believed))
}

// eventOf is the event of a delivery.
func eventOf(called string) string { return "event-" + called[:1] }

// earlier is t, or now if t is not known yet.
func earlier(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}
