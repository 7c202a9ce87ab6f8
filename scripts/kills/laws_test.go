package kills

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/topology"
)

// row is a waybill as it lies in the table.
type row struct {
	State          ledger.State
	Epoch, Attempt int
}

// rowOf reads the ledger behind the endpoint's back.
func (w *world) rowOf(id delivery.ID) row {
	request := fmt.Sprintf(`{"TableName":%q,"Key":{"delivery":{"S":%q}},"ConsistentRead":true}`, topology.Ledger, id)
	answer, err := w.Tables.Do(context.Background(), "GetItem", []byte(request))
	if err != nil {
		w.t.Errorf("reading the waybill %s: %v", id, err)
		return row{}
	}
	var found struct {
		Item map[string]struct{ S, N string }
	}
	if err := json.Unmarshal(answer.Body, &found); err != nil {
		w.t.Errorf("reading the waybill %s: %v", id, err)
	}
	epoch, _ := strconv.Atoi(found.Item["epoch"].N)
	attempt, _ := strconv.Atoi(found.Item["attempt"].N)
	return row{State: ledger.State(found.Item["state"].S), Epoch: epoch, Attempt: attempt}
}

// stories is how many broken points tell what happened to them.
const stories = 3

// laws holds the world, at rest, to what must be true whoever has died.
func (w *world) laws() {
	w.t.Helper()
	books := w.auditor.Audit(w.Queues, w.Tables, w.Endpoint.Counts())
	if err := books.Check(); err != nil {
		w.t.Error(err)
	}
	if denied := w.Denied(); len(denied) > 0 {
		w.t.Errorf("the topology does not grant %q", denied)
	}
	expected := 0 // messages that are no event
	for _, p := range w.points {
		if p.scene.bad {
			expected += len(p.events)
		}
	}
	if books.InIngress+books.Queued+books.Waiting+books.Parked > 0 || books.IngressDead != expected {
		w.t.Errorf("something is stuck: %d in the ingress queue, %d queued, %d waiting, %d parked; %d ingress dead letters, want %d",
			books.InIngress, books.Queued, books.Waiting, books.Parked, books.IngressDead, expected)
	}
	rows := map[string][]auditor.Row{}
	for _, r := range books.Rows {
		rows[r.Type] = append(rows[r.Type], r)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, breach := range w.breaches {
		w.t.Error(breach)
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-10s %-40s %-10s %6s %11s %11s %6s %8s %5s\n", "process", "dies at the request to", "when it is", "kills", "redelivered", "deliveries", "calls", "effects", "lost")
	told := 0
	for _, p := range w.points {
		broken, effects, gone := w.law(p, rows[p.id])
		for _, b := range broken {
			w.t.Errorf("%s: %s", p, b)
		}
		if len(broken) > 0 && told < stories {
			told++
			w.t.Logf("%s:\n%s", p, strings.Join(p.story, "\n"))
		}
		fmt.Fprintf(&table, "%-10s %-40s %-10s %6d %11d %11d %6d %8d %5d\n", p.request.by, p.name, p.stage, p.kills, p.redelivered, len(p.deliveries)+p.primed*toSlowDown, p.calls, effects, gone)
	}
	w.t.Logf("%d processes killed at %d points, %d deliveries: %d delivered, %d dead, %d lost\n%s",
		w.killed, len(w.points), books.Deliveries, books.Delivered, books.Dead, books.Lost, table.String())
}

// law holds one point's deliveries to the laws. w.mu is held.
func (w *world) law(p *point, rows []auditor.Row) (broken []string, effects, gone int) {
	breach := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	if want := len(p.first) + 1; p.kills != want {
		breach("%d processes were killed, want %d", p.kills, want)
	}
	deliveries := p.deliveries
	for _, r := range p.primers[:p.primed] {
		deliveries = append(slices.Clip(deliveries), r.deliveries...)
	}
	if len(rows) != len(deliveries) {
		breach("the books have %d deliveries, want %d", len(rows), len(deliveries))
	}
	for _, r := range rows {
		if r.State == auditor.Lost {
			gone++
		}
		want := auditor.Delivered
		if p.scene.dead() && !primes(r.Event) {
			want = auditor.Dead
		}
		if r.State != want {
			breach("delivery %s of event %s is %s (%s), want %s", r.Delivery, r.Event, r.State, r.Reason, want)
		}
	}
	for i, id := range deliveries {
		n, tries, waybill := p.effects[id], p.tries[id], w.rowOf(id)
		effects += n
		dead := p.scene.dead() && i < len(p.deliveries)
		if want := 1; !dead && n != want || dead && n != 0 {
			breach("delivery %s had %d effects", id, n)
		}
		if most := waybill.Attempt + w.excused[id]; tries > most {
			breach("delivery %s was called %d times: its waybill tells of %d attempts, and kills explain %d more", id, tries, waybill.Attempt, w.excused[id])
		}
	}
	return broken, effects, gone
}
