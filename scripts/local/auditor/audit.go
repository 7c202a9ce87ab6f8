package auditor

import (
	"maps"
	"slices"
	"strings"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/topology"
)

// Audit looks for every accepted event and every expected delivery, and gives the books as they stand. The system may run
// meanwhile.
//
// All queues are read at one instant, ledger and waiting room before and after it. In between a delivery may move on, but a waybill only ever
// moves forward: one of the two readings is as it was at that instant, or tells where the delivery went since. A delivery
// is lost only if it is found by neither.
func (a *Auditor) Audit(queues *sqs.Service, tables *dynamodb.Service, calls awslocal.Counts) Books {
	a.mu.Lock()
	accepted, deliveries := a.accepted, a.deliveries // what is accepted from now on may be in no reading
	a.mu.Unlock()
	before, early := readLedger(tables), readRoom(tables)
	held := queues.Snapshot()
	late, after := readRoom(tables), readLedger(tables)
	// What waits in the waiting room is as good as on the queue. A row leaves it after its message is on the queue, and enters it before what it
	// succeeds is acknowledged: one of the two readings around that of the queues has it, or the queue.
	held[string(topology.Deliveries)] = slices.Concat(held[string(topology.Deliveries)], early.messages, late.messages)
	for _, problem := range late.unreadable {
		after.unreadable.addf("%s", problem)
	}
	b := a.judge(accepted, deliveries, before, held, after)
	b.count(calls)
	return b
}

// judge gives the books that follow from what was read.
func (a *Auditor) judge(accepted []*message, deliveries []*entry, before reading, held map[string][]sqs.Held, after reading) Books {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &audit{
		Auditor: a, before: before.rows, after: after.rows, unreadable: after.unreadable,
		findings: map[delivery.ID]*findings{}, asked: map[topology.QueueName]map[*entry]bool{},
		books: Books{HTTPAttempts: a.attempts, unexpected: a.unexpected.clone()},
	}
	s.readDeliveries(held, topology.Deliveries)
	s.readDeliveries(held, topology.DeliveriesSlow)
	s.readDeliveries(held, topology.DeliveriesDeadLetter)
	s.readRows()
	s.auditEvents(accepted, s.readIngress(held, topology.Ingress), s.readIngress(held, topology.IngressDeadLetter))
	s.auditDeliveries(deliveries)
	s.books.Unreadable, s.books.Foreign = s.unreadable.first, s.foreign.first
	return s.books
}

// audit is an audit under way. The auditor's lock is held.
type audit struct {
	*Auditor
	books               Books
	unreadable, foreign list
	before, after       map[delivery.ID]*row
	findings            map[delivery.ID]*findings
	asked               map[topology.QueueName]map[*entry]bool // deliveries that a message in that ingress queue asks for
}

// ask enters that a message in an ingress queue asks for deliveries.
func (s *audit) ask(queue topology.QueueName, entries []*entry) {
	if s.asked[queue] == nil {
		s.asked[queue] = map[*entry]bool{}
	}
	for _, e := range entries {
		s.asked[queue][e] = true
	}
}

// lying is what lies in the ingress queue or its dead-letter queue.
type lying struct {
	queue   topology.QueueName
	known   map[*message]bool
	unknown map[[contentBytes]byte][]nameless // by content
}

// nameless is a message that carries the identity of none that was accepted.
type nameless struct {
	id   string
	mute bool // a dead letter that tells no reason although there is room
}

// readIngress finds out which accepted messages lie in a queue.
func (s *audit) readIngress(held map[string][]sqs.Held, queue topology.QueueName) lying {
	l := lying{queue: queue, known: map[*message]bool{}, unknown: map[[contentBytes]byte][]nameless{}}
	for _, h := range held[string(queue)] {
		o := s.open(h.Message)
		moved := h.Attributes["DeadLetterQueueSourceArn"] != "" // by SQS, which gives no reasons
		mute := queue == topology.IngressDeadLetter && o.note.Reason == "" && !moved && !o.newer
		if m := s.byIdentity[o.identity]; m != nil {
			l.known[m] = true
			if mute { // where there was room for the identity there was room for the reason
				s.books.unexplained.addf("message %s in %s", h.MessageID, queue)
			}
			continue
		}
		content := o.identity.content
		l.unknown[content] = append(l.unknown[content], nameless{h.MessageID, mute && o.couldTellWhy()})
	}
	return l
}

// take finds a message by its content alone, which is all that is left where there was no room for a note, or where SQS has given a
// new id to a message without one.
func (s *audit) take(m *message, from lying) bool {
	found := from.unknown[m.identity.content]
	if len(found) == 0 {
		return false
	}
	if found[0].mute {
		s.books.unexplained.addf("message %s in %s", found[0].id, from.queue)
	}
	from.unknown[m.identity.content] = found[1:]
	s.lies(m, from.queue)
	return true
}

// auditEvents gives every accepted event its place.
func (s *audit) auditEvents(accepted []*message, ingress, dead lying) {
	seen := map[*event]bool{}
	var unfound []*message
	for _, m := range accepted {
		s.books.Accepted += m.count()
		for _, o := range m.events {
			if seen[o.event] {
				s.books.Duplicates++
			}
			seen[o.event] = true
		}
		switch {
		case ingress.known[m]:
			s.lies(m, ingress.queue)
		case dead.known[m]:
			s.lies(m, dead.queue)
		case m.finished():
			s.count(m)
		default:
			unfound = append(unfound, m)
		}
	}
	for _, m := range unfound {
		if !s.take(m, ingress) && !s.take(m, dead) {
			s.count(m)
		}
	}
	for _, l := range []lying{ingress, dead} {
		left := slices.Concat(slices.Collect(maps.Values(l.unknown))...)
		slices.SortFunc(left, func(a, b nameless) int { return strings.Compare(a.id, b.id) })
		for _, n := range left {
			s.foreign.addf("message %s in %s", n.id, l.queue)
		}
	}
}

// finished tells whether the router has nothing left to do with the message.
func (m *message) finished() bool {
	return !m.refused && !slices.ContainsFunc(m.events, func(o occurrence) bool { return !o.routed() })
}

// routed tells whether a message for each of the deliveries was seen on the deliveries queue.
func (o occurrence) routed() bool {
	return !slices.ContainsFunc(o.deliveries, func(e *entry) bool { return !e.sent && !e.optional })
}

// unmatched tells whether no destination wants the event, by the file by which it was routed.
func (o occurrence) unmatched() bool {
	return !slices.ContainsFunc(o.deliveries, func(e *entry) bool { return e.sent || !e.optional })
}

// lies counts the events of a message that lies in the ingress queue or its dead-letter queue.
func (s *audit) lies(m *message, queue topology.QueueName) {
	if queue == topology.Ingress {
		s.books.InIngress += m.count()
	} else {
		s.books.IngressDead += m.count()
	}
	for _, o := range m.events {
		s.ask(queue, o.deliveries)
	}
}

// count counts the events of a message that lies in no ingress queue.
func (s *audit) count(m *message) {
	if m.refused {
		s.books.Missing++
		s.books.missing.addf("message %s, which is no event", m.id)
		return
	}
	s.books.Dropped += m.dropped
	for _, o := range m.events {
		switch {
		case o.unmatched():
			s.books.Unmatched++
		case o.routed():
			s.books.Routed++
		default:
			s.books.Missing++
			s.books.missing.addf("event %q in message %s", bounded(o.event.key.id), m.id)
		}
	}
}

// auditDeliveries gives every delivery its state.
func (s *audit) auditDeliveries(deliveries []*entry) {
	for _, e := range deliveries {
		if e.optional && !e.sent {
			continue
		}
		r := s.after[e.id]
		state, why := s.stand(e, r)
		if state == Lost {
			if earlier, _ := s.stand(e, s.before[e.id]); earlier != Lost {
				r, state, why = s.before[e.id], earlier, ""
			}
		}
		if state == unrouted {
			continue
		}
		s.books.Deliveries++
		s.books.Retried += max(e.attempts-1, 0)
		*s.books.in(state)++
		s.books.Rows = append(s.books.Rows, s.row(e, r, state, why))
	}
}

// in gives the counter of a state.
func (b *Books) in(state State) *int {
	switch state {
	case Delivered:
		return &b.Delivered
	case Waiting:
		return &b.Waiting
	case Parked:
		return &b.Parked
	case Dead:
		return &b.Dead
	case Queued:
		return &b.Queued
	}
	return &b.Lost
}

// stand says where a delivery is if its waybill is r, by the table in the package documentation; of a lost one also what is missing.
func (s *audit) stand(e *entry, r *row) (State, string) {
	f := s.findings[e.id]
	switch {
	case r != nil && r.State == ledger.Delivered && s.proven(e):
		return Delivered, ""
	case r != nil && r.State == ledger.Delivered:
		return Lost, s.unproven(e)
	}
	if m := f.next(r); m != nil {
		switch {
		case !m.HeldSince.IsZero():
			return Parked, ""
		case r != nil && r.State == ledger.Waiting:
			return Waiting, ""
		}
		return Queued, ""
	}
	switch {
	case f.deadLetter(r) != nil:
		return Dead, ""
	case s.asked[topology.Ingress][e] && r.lets(&delivery.Message{Attempt: 1}):
		return Queued, ""
	case s.asked[topology.IngressDeadLetter][e] && !e.sent && r == nil:
		return unrouted, ""
	}
	return Lost, r.missing(e)
}

func (s *audit) unproven(e *entry) string {
	switch {
	case s.cfg.ReceiverLog && e.wrongBytes:
		return "the ledger says delivered, the receiver got other bytes than were accepted"
	case s.cfg.ReceiverLog:
		return "the ledger says delivered, the receiver has not said so"
	}
	return "the ledger says delivered, no attempt has succeeded"
}

// row tells all about a delivery whose state comes of the waybill r.
func (s *audit) row(e *entry, r *row, state State, why string) Row {
	k := e.event.key
	account := Row{
		Delivery: string(e.id), Destination: e.destination, Tenant: k.tenant, Source: k.source, Event: k.id, Type: e.event.kind,
		State: state, Attempts: e.attempts, Code: e.code, Reason: e.reason,
	}
	switch l := s.findings[e.id].deadLetter(r); {
	case state == Lost:
		account.Reason = why
	case state == Delivered:
		account.Reason, account.Took = "", r.UpdatedAt.Sub(e.event.acceptedAt)
	case state == Dead && !l.note.FailedAt.IsZero():
		account.Code, account.Reason, account.Took = l.note.Code, l.note.Reason, l.note.FailedAt.Sub(e.event.acceptedAt)
	case account.Reason == "" && r != nil:
		account.Reason = r.Reason
	}
	return account
}

// count enters the calls to AWS.
func (b *Books) count(calls awslocal.Counts) {
	b.AWSCalls = map[string]map[string]int{}
	for op, tally := range calls {
		if b.AWSCalls[op.Service] == nil {
			b.AWSCalls[op.Service] = map[string]int{}
		}
		b.AWSCalls[op.Service][op.Name] += tally.Attempted
		b.WriteUnits += tally.Units.Write
		b.ReadUnits += tally.Units.Read
	}
}
