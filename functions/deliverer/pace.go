package deliverer

import (
	"context"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/downstream"
)

// slow says that a delivery belongs to the slow lane. A probe is made here: there is one at a time, and the breaker waits for what comes of it.
func (d *work) slow(ctx context.Context, j *job) bool {
	return d.cfg.SlowLane != nil && !j.breaker.Probe && d.cfg.Pace.Slow(ctx, j.message.Destination)
}

// passOn adds the message, as it is, to what must be on the slow lane before it is acknowledged here. Nothing was claimed: a copy of it that is received in both
// lanes is claimed once.
func (d *work) passOn(j *job, held *sendings) error {
	message, err := d.sending(j, j.message, 0)
	if err != nil {
		return err
	}
	j.passedOn = true
	held.slowLane.add(j, message)
	return nil
}

// lateness notices calls that take long while they are under way.
type lateness struct {
	*work
	pending map[*job]bool // calls without a result, and whether they were told of
	timer   *time.Timer
	telling sync.WaitGroup
}

// watch begins with the calls of jobs. stop must be called in the end.
func (d *work) watch(jobs []*job) *lateness {
	l := &lateness{work: d}
	if d.cfg.Pace == nil {
		return l
	}
	l.timer, l.pending = time.NewTimer(d.cfg.Pace.Patience()), make(map[*job]bool, len(jobs))
	for _, j := range jobs {
		l.pending[j] = false
	}
	return l
}

// stop waits until others are told: an environment may be frozen after its invocation.
func (l *lateness) stop() {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.telling.Wait()
}

// due is when to call tell.
func (l *lateness) due() <-chan time.Time {
	if l.timer == nil {
		return nil
	}
	return l.timer.C
}

// answered notes a result. A call that was never made is neither quick nor late.
func (l *lateness) answered(j *job) {
	if late, is := l.pending[j]; is && !late && j.result.Verdict != downstream.NotStarted {
		l.cfg.Pace.Quick(j.message.Destination)
	}
	delete(l.pending, j)
}

// tell tells all environments of the calls that have had no result so far, and does so again as long as there are any: what a destination holds is
// invocations for a time. It does not wait: results come meanwhile, and a table that hangs should not keep them from being settled.
func (l *lateness) tell(ctx context.Context) {
	late := map[string]int{}
	for j := range l.pending {
		if j.start.longerThan(l.cfg.Pace.Patience(), l.cfg.Now()) {
			late[j.message.Destination]++
			l.pending[j] = true
		}
	}
	if len(l.pending) == 0 || ctx.Err() != nil { // nobody hears of what an adapter still keeps when time is over
		return
	}
	if len(late) > 0 {
		l.telling.Go(func() { l.cfg.Pace.Late(ctx, late) })
	}
	l.timer.Reset(l.cfg.Pace.Patience())
}
