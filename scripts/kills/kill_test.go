package kills

import (
	"bytes"
	"net/http"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/topology"
)

var lost = &wire.Error{Code: "ServiceUnavailable", Message: "This call never arrived.", Status: http.StatusServiceUnavailable}

// called hears of every call before anything is done about it, and remembers what its sender has to do with.
func (w *world) called(c awslocal.Call) {
	name, process, ok := w.Caller(c.Caller)
	if !ok {
		return // ours
	}
	claims := (name == topology.Deliverer || name == topology.SlowLane) && (c.Operation == "BatchGetItem" || containsAll(c.Request, claiming) || containsAll(c.Request, reclaiming))
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hands[c.Caller]
	if h == nil || h.requestID != process.RequestID {
		h = &hands{process.RequestID, map[*point]bool{}, map[delivery.ID]bool{}}
		w.hands[c.Caller] = h
	}
	for _, p := range w.points {
		if !p.mentions(c.Request) {
			continue
		}
		h.points[p] = true
		w.tell(p, "AWS  %s %d: %s", name, process.PID, c.Operation)
		for _, id := range p.known {
			if claims && bytes.Contains(c.Request, []byte(id)) {
				h.deliveries[id], w.claimant[id] = true, c.Caller
			}
		}
	}
}

// match makes a fault of a request: it hits the calls of its kind about a point.
func (w *world) match(p *point, r request, f awslocal.Fault) awslocal.Fault {
	f.Operation, f.Times, f.Skip = r.operation, 1, r.skip
	f.From = func(caller string) bool {
		name, process, ok := w.Caller(caller)
		return ok && name == r.by && (r.about != worked || w.works(caller, process.RequestID, p))
	}
	f.Match = func(document []byte) bool {
		return containsAll(document, r.parts...) && (r.about != named || p.mentions(document))
	}
	return f
}

func (w *world) works(caller, requestID string, p *point) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hands[caller]
	return h != nil && h.requestID == requestID && h.points[p]
}

func containsAll(document []byte, parts ...string) bool {
	for _, part := range parts {
		if !bytes.Contains(document, []byte(part)) {
			return false
		}
	}
	return true
}

// arm plants the faults of a point: its troubles, and the first of its kills.
func (w *world) arm(p *point) {
	w.mu.Lock()
	p.armed = true
	w.mu.Unlock()
	for _, t := range p.scene.troubles {
		w.Endpoint.Faults().Add(w.match(p, t.request, t.fault))
	}
	if p.request.operation != "" {
		w.plant(p, p.first)
	}
}

// plant plants the kill at the first of some requests, which plants the next; after those comes that of the point itself.
func (w *world) plant(p *point, before []request) {
	r, s := p.request, p.stage
	if len(before) > 0 {
		r, s = before[0], performed
	}
	strike := func(c awslocal.Call) {
		if len(before) > 0 {
			w.plant(p, before[1:])
		}
		w.strike(p, c.Caller)
	}
	f := awslocal.Fault{Before: strike, Error: lost}
	if s == performed {
		f = awslocal.Fault{After: strike, WithholdAnswer: true}
	}
	w.Endpoint.Faults().Add(w.match(p, r, f))
}

// strike kills the process that signs with a key. Where another point has killed it at this very moment, because both were in its hands, that is this point's kill too.
func (w *world) strike(p *point, key string) {
	name, process, there := w.Caller(key)
	w.mu.Lock()
	if h := w.hands[key]; there && h != nil && h.requestID == process.RequestID {
		for id := range h.deliveries {
			w.excused[id]++
		}
	}
	p.kills++
	last := p.kills == len(p.first)+1
	w.tell(p, "KILL %s %d", name, process.PID)
	w.mu.Unlock()
	if there && name != p.request.by {
		w.t.Errorf("%s: the request comes from the %s", p, name)
	}
	if w.KillCaller(key) {
		w.mu.Lock()
		w.killed++
		w.mu.Unlock()
	}
	if last {
		close(p.done)
	}
}

// settleDown waits until nothing is under way.
func (w *world) settleDown() {
	w.wait("the functions have nothing to do", func() bool {
		for _, m := range w.Mappings {
			if !m.Idle() {
				return false
			}
		}
		return true
	})
}

// wait waits for something that nobody announces.
func (w *world) wait(what string, cond func() bool) {
	w.t.Helper()
	const patience = time.Minute
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(patience); !cond(); <-ticker.C {
		if time.Now().After(end) {
			w.t.Fatalf("waited %s in vain: %s", patience, what)
		}
	}
}
