package kills

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waiting"
)

// String names the point as the table does.
func (p *point) String() string {
	return fmt.Sprintf("%s, %s at %q, %s", p.id, p.request.by, p.name, p.stage)
}

func awssqsEntry(id, body string) types.SendMessageBatchRequestEntry {
	return types.SendMessageBatchRequestEntry{Id: aws.String(id), MessageBody: aws.String(body)}
}

// TestKills: a process dies at every kind of request that a function makes, before it is performed and after, and nothing is lost, nothing is stuck,
// and nothing has a second effect.
func TestKills(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes and waits for visibility timeouts, two minutes")
	}
	w := start(t)
	w.fillTheRoom()
	for _, p := range w.points {
		w.play(p)
	}
	for _, p := range w.points {
		if t.Failed() {
			break
		}
		w.await(p, 2*time.Minute)
	}
	t.Logf("all have died after %s", time.Since(w.began).Round(time.Second))
	w.recover()
	t.Logf("all is at rest after %s", time.Since(w.began).Round(time.Second))
	w.laws()
}

// fillTheRoom gets deliveries into the waiting room, and old marks, before the waker runs for the first time.
func (w *world) fillTheRoom() {
	for _, p := range w.points {
		if p.scene.ahead {
			w.send(p)
		}
	}
	for _, p := range w.points {
		if p.scene.ahead {
			w.wait(fmt.Sprintf("%s: deliveries are in the waiting room", p), func() bool { return len(w.held(p)) == len(p.deliveries) })
		}
		if p.scene.overdue > 0 {
			w.hasten(w.held(p), time.Now().Add(-p.scene.overdue))
		}
	}
	w.settleDown()
	w.remove(w.document)
}

// play makes the request happen that the point is about, and waits until its sender is dead.
func (w *world) play(p *point) {
	if p.scene.slow {
		w.slowDown(p)
	}
	if p.scene.fresh {
		w.Kill(p.request.by, 100)
	}
	if p.scene.marked {
		old := waiting.MarkRow(p.id, "an earlier holder's", time.Now().Add(-3*time.Hour))
		w.must(w.rows.Put(w.t.Context(), []waiting.Row{old})[0])
	}
	if p.scene.ahead && p.scene.paused {
		_, err := w.registry.Resume(w.t.Context(), p.id)
		w.must(err)
	}
	if p.scene.ahead && p.scene.long && p.scene.overdue == 0 {
		w.hasten(w.held(p), time.Now().Add(-time.Minute))
	}
	w.arm(p)
	switch by := p.request.by; {
	case by == topology.Waker:
		for range 3 {
			if w.wake(p); w.struck(p) {
				break
			}
		}
	case p.scene.removed: // the deliverer may not know it yet, and park again
		for end := time.Now().Add(time.Minute); !w.struck(p) && time.Now().Before(end); <-time.After(500 * time.Millisecond) {
			w.wake(p)
		}
	default:
		w.send(p)
	}
	if p.scene.late {
		w.wait(fmt.Sprintf("%s: a deliverer has it, alone", p), func() bool { return w.begun(p) })
		return
	}
	w.await(p, 30*time.Second)
}

// begun tells that a deliverer works on a delivery of the point.
func (w *world) begun(p *point) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.claimant[p.deliveries[0]] != ""
}

// struck tells that the last kill of a point has begun.
func (w *world) struck(p *point) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return p.kills > len(p.first)
}

// await waits for the last kill of a point.
func (w *world) await(p *point, patience time.Duration) {
	select {
	case <-p.done:
	case <-time.After(patience):
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t.Errorf("%s: the request was not made within %s, %d kills so far:\n%s", p, patience, p.kills, strings.Join(p.story, "\n"))
	}
}

// recover repairs what the scenes have broken, lets the waker run, and waits until nothing is left to do.
func (w *world) recover() {
	w.mu.Lock()
	w.mended = true
	w.mu.Unlock()
	const patience = 3 * time.Minute
	for end := time.Now().Add(patience); ; {
		for _, p := range w.points {
			if p.scene.paused {
				_, err := w.registry.Resume(w.t.Context(), p.id)
				w.must(err)
			}
			if p.scene.status == 410 {
				_, err := w.registry.Enable(w.t.Context(), p.id)
				w.must(err)
			}
		}
		w.hasten(w.allHeld(), time.Now().Add(-time.Minute))
		w.wake(nil)
		if w.Busy() == 0 {
			return
		}
		if time.Now().After(end) {
			w.t.Errorf("not at rest after %s: %d messages and deliveries are left", patience, w.Busy())
			return
		}
		<-time.After(2 * time.Second)
	}
}
