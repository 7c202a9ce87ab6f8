// Package delivery holds the identity of a delivery and the message that carries one through the queues.
//
// A delivery is the pair of an event and a destination. Its ID is derived, never drawn: the same event for the
// same destination is the same delivery however often and by whichever message it arrives. That is what makes
// the router idempotent without any state, and it is the key of the ledger.
//
// Functions and methods of this package are safe for concurrent use as long as a Message is not changed meanwhile.
package delivery

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"
	"time"

	"github.com/waybillhq/waybill/events"
)

// ID identifies a delivery: 32 characters of [0-9a-v], 160 bits of a SHA-256 hash. It contains no dot, so it can
// be a Standard Webhooks message id as it is.
type ID string

var idEncoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// NewID derives the id of the delivery of the event (tenant, source, id) to a destination. Every part is
// length-prefixed, so that no two different quadruples hash the same bytes.
func NewID(tenant, source, eventID, destination string) ID {
	return hash(tenant, source, eventID, destination)
}

func hash(parts ...string) ID {
	var stack [512]byte
	b := stack[:0]
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return ID(strings.ToLower(idEncoding.EncodeToString(sum[:20])))
}

// Message is what lies on the deliveries queue: one delivery, due for one attempt.
type Message struct {
	Delivery    ID
	Destination string // id of the destination
	Epoch       int    // deliberate restarts so far: a redrive or a replay adds one
	Attempt     int    // number of the attempt that is due, from 1
	Replay      bool   // deliver even if the ledger says delivered in an earlier epoch
	NewID       bool   // a replay has asked for a public id of its own
	IDEpoch     int    // the epoch of that replay; 0: this one. Without meaning where NewID is not set
	Event       events.Event
	AcceptedAt  time.Time     // when the event entered the ingress queue (ms)
	DueAt       time.Time     // not before; zero: at once. For waits longer than a queue's delay
	Waited      time.Duration // scheduled waits so far: what age limits count. Time lost to our own faults is not in it
	HeldSince   time.Time     // held since then, because its destination cannot receive; zero: not held
	Turn        time.Time     // given to it in the queue of a destination with a limit (ms); zero: none. It is of this attempt
	Probes      int           // attempts that found the destination disabled or not recovered: numbered like any other, but none of the schedule's
	Outcome     *Outcome      // set: the attempt was made, only the ledger still has to learn of it
}

// Outcome is the result of an attempt that could not be written to the ledger: everything a settle needs.
type Outcome struct {
	Owner     string `json:"owner"`
	Unclaimed bool   `json:"unclaimed,omitempty"` // made in relaxed mode, without a claim
	State     string `json:"state"`
	Code      int    `json:"code,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// PublicID is the id under which a receiver sees the delivery: the same over all attempts and epochs, so that
// a receiver that remembers ids sees one effect, until a replay asks for a new one. That one then holds for all that follow.
func (m *Message) PublicID() string {
	if !m.NewID {
		return string(m.Delivery)
	}
	return string(hash(string(m.Delivery), "epoch", string(binary.AppendUvarint(nil, uint64(m.idEpoch())))))
}

func (m *Message) idEpoch() int {
	if m.IDEpoch > 0 {
		return m.IDEpoch
	}
	return m.Epoch
}

// Successor is the message for the next attempt in the same epoch, due after wait.
func (m *Message) Successor(wait time.Duration) Message {
	next := *m
	next.Attempt++
	next.Waited += wait
	next.DueAt, next.HeldSince, next.Turn = time.Time{}, time.Time{}, time.Time{}
	next.Outcome = nil
	return next
}

// Again is Restart for a delivery that is to be made even if the ledger says that it was; newID has it made under a new public id.
func (m *Message) Again(newID bool) Message {
	next := m.Restart()
	next.Replay = true
	if newID {
		next.NewID, next.IDEpoch = true, next.Epoch
	}
	return next
}

// Restart is the message of the next epoch. Dead letters are written in this form, so that moving one back
// to the deliveries queue, by whatever means, is its redrive: in its old form the ledger would take it for stale.
// It keeps the public id: the receiver may have seen it.
func (m *Message) Restart() Message {
	next := *m
	if next.NewID {
		next.IDEpoch = m.idEpoch()
	}
	next.Epoch++
	next.Attempt = 1
	next.Waited, next.Probes = 0, 0
	next.DueAt, next.HeldSince, next.Turn = time.Time{}, time.Time{}, time.Time{}
	next.Outcome = nil
	return next
}
