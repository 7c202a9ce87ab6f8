// Package auditor keeps books about a running system without believing its functions.
//
// It knows three things that no function tells it: what the ingress queue accepted, what lies in queues and tables, and what the
// receivers saw. From the first it works out, with a matcher of its own, which deliveries must exist; in the rest it looks for
// each of them. What it cannot find is lost. [Books.Check] holds two laws:
//
//	events accepted = routed + unmatched + dropped + ingress dead letters + still in the ingress queue
//	deliveries      = delivered + waiting + parked + dead + queued
//
// Deliveries are the pairs of an accepted event and a destination that wants it, each counted once however often the event was
// accepted; events are counted each time.
//
// # Where an event is
//
// The first row that fits decides:
//
//	in the ingress queue   its message lies there, in whatever state
//	ingress dead letter    its message lies in the ingress dead-letter queue
//	dropped                the message says that it is a notice and no event
//	unmatched              no destination wants it
//	routed                 a message for each of its deliveries was put on the deliveries queue
//	missing                none of these, which breaks the first law
//
// # Where a delivery is
//
// The first row that fits decides. A message counts only if the ledger would let it have an effect: one that the claim table calls
// stale or a duplicate keeps nothing from being lost.
//
//	delivered   the ledger says so, and the receiver has the bytes that were accepted: by its own log where there is one, else by
//	            an attempt that was seen to succeed. Without that evidence it is lost, whatever else there is.
//	parked      its message in the waiting room or on the deliveries queue says that it is held for its destination
//	waiting     the ledger says so, and the message of a later attempt lies in the waiting room or on the deliveries queue
//	queued      any other message of it lies on the deliveries queue: not tried yet, under way, or only to be written down
//	dead        its dead letter lies in the dead-letter queue, put there by Waybill or by the queue's redrive policy
//	queued      nothing of it is there yet, and its event lies in the ingress queue
//	lost        none of these, which breaks the second law
//
// The deliveries of an ingress dead letter that were never put on the deliveries queue are no deliveries until it is moved back.
//
// # What it cannot see
//
// An event that no destination wants could be deleted unseen, and so could one of several copies of an event whose deliveries all
// exist. A raw message without an event-id that is moved out of the ingress dead-letter queue natively, without a note, becomes a new event under a new
// id, as the producer contract says; the books then miss the old one and do not expect the new one.
package auditor

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/topology"
)

// Config configures an Auditor; Destinations is required.
type Config struct {
	// Destinations is the file that the functions work with. Patterns with operators that the auditor does not know are refused.
	Destinations []byte
	// Others are files that may be in force instead for some of the time. What not all files ask for counts as a delivery from when a message for it is put
	// on the deliveries queue, because nobody outside can tell by which file an event was routed.
	Others [][]byte
	// ReceiverLog says that every receiver reports to OnReceived: then nothing counts as delivered that is not in that log.
	// Otherwise it takes an attempt that OnAttempt has heard to succeed.
	ReceiverLog bool
	// Unheard says that nobody calls OnAttempt, because attempts are made in other processes. Then requests at receivers count as attempts, and without
	// a ReceiverLog the ledger is believed about deliveries.
	Unheard bool
	// Canary says that the system sends events to itself. What sink there is reports to OnReceived as any receiver does.
	Canary bool
	// IngressARN is the source of events that name none. Default: the ingress queue of the local endpoint.
	IngressARN string
}

// Auditor keeps the books. It is safe for concurrent use. It keeps ids and hashes, never payloads: a few hundred bytes
// for each message accepted and each delivery.
//
// Its three On… methods are wired to the system before the first message is sent. They are quick, and call nothing of the system.
type Auditor struct {
	cfg          Config
	destinations []destination
	others       [][]destination

	mu         sync.Mutex
	accepted   []*message // in order; only ever appended to
	byIdentity map[identity]*message
	events     map[eventKey]*event
	deliveries []*entry // in order; only ever appended to
	byID       map[delivery.ID]*entry
	byPublicID map[string]*entry // of replays under an id of their own
	attempts   int
	unexpected list
}

// identity tells messages apart that were accepted: a copy that Waybill sends of one has the same.
type identity struct {
	name    string // the note's event id, else the SQS message id; "" where a newer release wrote the note
	content [contentBytes]byte
}

const contentBytes = sha256.Size

// message is one message that the ingress queue accepted from a producer.
type message struct {
	id       string
	identity identity
	events   []occurrence
	dropped  int
	refused  bool // it is no event; or its note was written by a newer release, so that nobody can tell
}

// count is the number of accepted events that the message stands for.
func (m *message) count() int {
	if m.refused {
		return 1
	}
	return len(m.events) + m.dropped
}

// occurrence is one event in one message.
type occurrence struct {
	event      *event
	deliveries []*entry // what this message asks for; two messages with one event id may differ
}

type eventKey struct{ tenant, source, id string }

// maxBodies bounds how many different payloads under one event id are told apart. Beyond it any is right.
const maxBodies = 16

// event is an accepted event, however often it was accepted.
type event struct {
	key        eventKey
	kind       string
	acceptedAt time.Time
	bodies     [][sha256.Size]byte // of the payloads accepted under this id, all different
}

func (e *event) addBody(data []byte) {
	sum := sha256.Sum256(data)
	if len(e.bodies) <= maxBodies && !slices.Contains(e.bodies, sum) {
		e.bodies = append(e.bodies, sum)
	}
}

// hasBody tells whether a body with that digest, in hexadecimal, was accepted as this event's payload.
func (e *event) hasBody(digest string) bool {
	return len(e.bodies) > maxBodies || slices.ContainsFunc(e.bodies, func(sum [sha256.Size]byte) bool {
		return strings.EqualFold(digest, hex.EncodeToString(sum[:]))
	})
}

// entry is one expected delivery.
type entry struct {
	id          delivery.ID
	event       *event
	destination string

	optional   bool // not all files ask for it
	sent       bool // a message for it was put on the deliveries queue
	attempts   int
	succeeded  bool // one of them
	received   bool // the receiver has the right bytes and has said so with 2xx
	wrongBytes bool // the receiver has said 2xx to other bytes
	code       int  // of the last attempt
	reason     string
}

// New makes an Auditor for the destinations.
func New(cfg Config) (*Auditor, error) {
	destinations, err := readDestinations(cfg.Destinations)
	if err != nil {
		return nil, err
	}
	others := make([][]destination, len(cfg.Others))
	for i, document := range cfg.Others {
		if others[i], err = readDestinations(document); err != nil {
			return nil, err
		}
	}
	if cfg.Canary {
		destinations = append(destinations, canaryDestination())
	}
	if cfg.IngressARN == "" {
		cfg.IngressARN = fmt.Sprintf("arn:aws:sqs:%s:%s:%s", awslocal.Region, awslocal.AccountID, topology.Ingress)
	}
	return &Auditor{
		cfg: cfg, destinations: destinations, others: others,
		byIdentity: map[identity]*message{}, events: map[eventKey]*event{},
		byID: map[delivery.ID]*entry{}, byPublicID: map[string]*entry{},
	}, nil
}

// OnSend hears of every message that a queue has accepted, before anybody can receive it (sqs.Options.OnSend).
//
// On the ingress queue it tells producers from Waybill, which sends messages again to have them later: a message is such a copy if its
// note names the event id of a message accepted before and body, attributes and group are the same. A note that
// a producer makes up therefore hides nothing, unless it says of a message that it is a copy of one with the same content.
// A message with no room for a note loses its identity when it is sent again; the copy is then counted as accepted, in the books as in the system.
func (a *Auditor) OnSend(queue string, m sqs.Message) {
	switch topology.QueueName(queue) {
	case topology.Ingress:
		a.onIngress(m)
	case topology.Deliveries, topology.DeliveriesSlow:
		a.onDelivery(m)
	}
}

func (a *Auditor) onIngress(sent sqs.Message) {
	o := a.open(sent)
	decoded, err := o.decode()
	m := &message{id: sent.MessageID, identity: o.identity, dropped: decoded.Dropped, refused: err != nil}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isCopy(o) {
		return
	}
	a.accepted = append(a.accepted, m)
	a.byIdentity[o.identity] = m
	for i := range decoded.Events {
		e := &decoded.Events[i]
		claimCanary(e)
		key := eventKey{strings.Clone(e.Tenant()), strings.Clone(e.Source), strings.Clone(e.ID)} // clones, or the payload is kept with them
		known, ok := a.events[key]
		if !ok {
			known = &event{key: key, kind: strings.Clone(e.Type), acceptedAt: o.acceptedAt}
			a.events[key] = known
		}
		known.addBody(e.Data)
		m.events = append(m.events, occurrence{known, a.expect(known, a.wanting(e))})
	}
}

// wanting gives the destinations that want an event by any of the files, and whether not all of them say so.
func (a *Auditor) wanting(e *events.Event) []wanted {
	var all []wanted
	for _, id := range wanting(a.destinations, e) {
		all = append(all, wanted{id, false})
	}
	for _, file := range a.others {
		ids := wanting(file, e)
		for i := range all {
			all[i].optional = all[i].optional || !slices.Contains(ids, all[i].destination)
		}
		for _, id := range ids {
			if !slices.ContainsFunc(all, func(w wanted) bool { return w.destination == id }) {
				all = append(all, wanted{id, true})
			}
		}
	}
	return all
}

// wanted is a destination that wants an event.
type wanted struct {
	destination string
	optional    bool
}

// isCopy tells whether a message is one that Waybill has sent again.
func (a *Auditor) isCopy(o opened) bool {
	return (o.newer || o.note.EventID != "") && a.byIdentity[o.identity] != nil
}

// expect enters the deliveries of an event to destinations.
func (a *Auditor) expect(e *event, destinations []wanted) []*entry {
	entries := make([]*entry, 0, len(destinations))
	for _, d := range destinations {
		id := delivery.NewID(e.key.tenant, e.key.source, e.key.id, d.destination)
		known, ok := a.byID[id]
		if !ok {
			known = &entry{id: id, event: e, destination: d.destination, optional: d.optional}
			a.byID[id] = known
			a.deliveries = append(a.deliveries, known)
		}
		entries = append(entries, known)
	}
	return entries
}

func (a *Auditor) onDelivery(sent sqs.Message) {
	m, _, err := openDelivery(sent)
	if err != nil {
		return // Audit reports it as long as it lies anywhere
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.byID[m.Delivery]
	if !ok || m.Destination != known.destination {
		a.unexpected.addf("message on the deliveries queue: delivery %s to %s", m.Delivery, m.Destination)
		return
	}
	known.sent = true
	if m.NewID {
		a.byPublicID[m.PublicID()] = known
	}
}

// OnAttempt hears of every attempt that was made, with its result, before anything follows from it.
func (a *Auditor) OnAttempt(attempt downstream.Attempt, result downstream.Result) {
	if result.Verdict == downstream.NotStarted {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.attempts++
	known := a.entry(attempt.PublicID)
	if known == nil || attempt.Destination == nil || attempt.Destination.ID != known.destination {
		a.unexpected.addf("attempt under the public id %q", attempt.PublicID)
		return
	}
	known.attempts++
	known.code, known.reason = result.Code, strings.Clone(result.Reason)
	known.succeeded = known.succeeded || result.Verdict == downstream.Delivered
}

// OnReceived hears from a receiver of every request, before its answer is sent: the webhook-id, the answer's status (0: there is
// none), and the SHA-256 of the body in hexadecimal.
func (a *Auditor) OnReceived(publicID string, status int, digest string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.entry(publicID)
	if known == nil {
		a.unexpected.addf("request at a receiver under the public id %q", publicID)
		return
	}
	if a.cfg.Unheard {
		a.attempts++
		known.attempts++
		known.code, known.reason = status, ""
		if status < 200 || status > 299 {
			known.reason = downstream.HTTPReason(status)
		}
	}
	if status < 200 || status > 299 {
		return
	}
	if known.event.hasBody(digest) {
		known.received = true
	} else {
		known.wrongBytes = true
	}
}

func (a *Auditor) entry(publicID string) *entry {
	if known, ok := a.byID[delivery.ID(publicID)]; ok {
		return known
	}
	return a.byPublicID[publicID]
}

// proven tells whether there is evidence outside the ledger that the delivery was made.
func (a *Auditor) proven(e *entry) bool {
	if a.cfg.ReceiverLog {
		return e.received
	}
	return e.succeeded || a.cfg.Unheard
}
