package kills

import (
	"net/http"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/wire"
	"github.com/waybillhq/waybill/shared/topology"
)

// stage says how far a request has come when its sender dies.
type stage string

// The stages: of requests to AWS, and of requests to a receiver.
const (
	seen      stage = "seen"      // it has arrived, nothing was done about it
	performed stage = "performed" // it was performed, the answer is not sent
	arrived   stage = "arrived"   // the receiver has it and has not acted
	acted     stage = "acted"     // the receiver has acted and not answered
)

// request is a kind of request that a function makes.
type request struct {
	by        topology.FunctionName
	operation string
	parts     []string // of its document
	about     about
	skip      int // how many to spare first
}

// about says how a request is known to be about a point.
type about int

const (
	named  about = iota // its document names the point's destinations, events or deliveries
	worked              // its document does not tell, but its sender has made another call about the point in the same invocation
	anyone              // it is about nobody
)

// Parts of documents.
const (
	claiming    = `'leaseUntil': ?, 'upda` // the claim of a first attempt
	reclaiming  = "leaseUntil = :lease"    // the conditional claim: of a later attempt, or one that met a row
	claimingOne = reclaiming               // where a batch of claims is refused
	settlingOne = "SET #state = :state"    // where a batch of results is refused
	settling    = `SET \"state\"`          // the result of a claimed attempt
	releasing   = `SET \"leaseUntil\"`     // the release of a claim
	recording   = `'reason': ?`            // the result of a first attempt at a relaxed destination
	reporting   = `\"outcome\":{\"owner\"` // a delivery message that carries an outcome
	deleting    = "DELETE FROM"

	toIngress     = `/ingress"`
	toIngressDead = `/ingress-dlq"`
	toDeliveries  = `/deliveries"`
	toSlowLane    = `/deliveries-slow"`
	toDeadLetters = `/deliveries-dlq"`
)

func router(operation string, parts ...string) request {
	return request{by: topology.Router, operation: operation, parts: parts}
}

func deliverer(operation string, parts ...string) request {
	return request{by: topology.Deliverer, operation: operation, parts: parts}
}

func slowLane(operation string, parts ...string) request {
	return request{by: topology.SlowLane, operation: operation, parts: parts}
}

func waker(operation string, parts ...string) request {
	return request{by: topology.Waker, operation: operation, parts: parts}
}

func (r request) of(a about) request {
	r.about = a
	return r
}

func (r request) after(skip int) request {
	r.skip = skip
	return r
}

// trouble is another fault that is planted with a point: it makes the request happen that the point is about.
type trouble struct {
	request
	fault awslocal.Fault
}

var denied = &wire.Error{Code: "AccessDeniedException", Message: "User is not authorized to perform this action.", Status: http.StatusBadRequest}

// refused makes the first request of a kind fail.
func refused(r request) trouble { return trouble{r, awslocal.Fault{Error: denied}} }

// scene is what is played around a kill: how the destination behaves, what is sent, and what else goes wrong.
type scene struct {
	failing  int           // how many tries of each webhook-id fail, with status
	status   int           // default 500
	timeout  string        // of an attempt; default 3s
	relaxed  bool          // the destination's ledger mode
	secret   string        // where the destination's secret lies, "secretsmanager" or "ssm"; default in the file
	paused   bool          // the destination, until after the kill
	removed  bool          // the destination, when its deliveries are parked
	long     bool          // a retry waits for so long that it goes to the waiting room
	wide     int           // how many destinations want the event; default 1
	bad      bool          // what is sent is no event
	troubles []trouble     // planted together with the point
	again    bool          // the event is sent again while the first attempt is under way
	fresh    bool          // the function has no process yet
	late     bool          // the kill comes half a minute later: others need not wait for it
	ahead    bool          // deliveries get into the waiting room before, and wait there
	overdue  time.Duration // they are due since then, before the waker's first run
	marked   bool          // an old mark of the destination lies in the waiting room
	at       int           // the try at which a receiver's point dies; default 1
	slow     bool          // the destination has been slow before, so that its deliveries go through the slow lane
	crawling bool          // it still is: it answers late
}

// kill is a row of the table: a request, at each of whose stages a process dies.
type kill struct {
	name    string
	request request   // of a function to AWS; without an operation: of the deliverer, unless it names the slow lane, to a receiver
	first   []request // earlier kills, at requests that were performed, without which it would not happen
	only    stage     // default: both
	scene   scene
}

const manyWaits = 19

// dead tells whether the deliveries end as dead letters.
func (s scene) dead() bool { return s.removed || s.status == http.StatusBadRequest }

// table names every kind of request that the functions make. Its order is the order in which processes die; the first of each function need one that has just begun.
func table() []kill {
	send, batch, update := "SendMessageBatch", "BatchExecuteStatement", "UpdateItem"
	registry, pace := `"registry"`, `"pace"`
	return []kill{
		{name: "read destinations", request: router("Query", registry).of(anyone), scene: scene{fresh: true}},
		{name: "read destinations", request: deliverer("Query", registry).of(anyone), scene: scene{fresh: true}},
		{name: "read which destinations are slow", request: deliverer("Query", pace).of(anyone), scene: scene{fresh: true}},

		// Those that take longest go first.
		{name: "settle by an outcome message", request: deliverer(batch, settling).after(1), scene: scene{late: true, troubles: []trouble{
			refused(deliverer(batch, settling)), refused(deliverer(update)),
		}}},
		{name: "conditional claim, take-over", request: deliverer(update, reclaiming), first: []request{deliverer(batch, claiming)}, scene: scene{late: true}},

		{name: "send deliveries", request: router(send, toDeliveries)},
		{name: "send deliveries, second call", request: router(send, toDeliveries).after(1), scene: scene{wide: 12}},
		{name: "dead-letter what is no event", request: router(send, toIngressDead), scene: scene{bad: true}},
		{name: "send an event again", request: router(send, toIngress), scene: scene{troubles: []trouble{refused(router(send, toDeliveries))}}},
		{name: "return a message", request: router("ChangeMessageVisibilityBatch").of(worked), scene: scene{troubles: []trouble{
			refused(router(send, toDeliveries)), refused(router(send, toIngress)),
		}}},

		{name: "read a secret", request: deliverer("GetSecretValue"), scene: scene{secret: "secretsmanager"}},
		{name: "read a parameter", request: deliverer("GetParameter"), scene: scene{secret: "ssm"}},
		{name: "claim", request: deliverer(batch, claiming)},
		{name: "conditional claim, second attempt", request: deliverer(update, reclaiming), scene: scene{failing: 1}},
		{name: "call the receiver"},
		{name: "call the receiver, second attempt", scene: scene{failing: 1, at: 2}},
		{name: "settle a success", request: deliverer(batch, settling, `{"S":"delivered"}`)},
		{name: "settle a retry", request: deliverer(batch, settling, `{"S":"waiting"}`), scene: scene{failing: 2}},
		{name: "settle a dead letter", request: deliverer(batch, settling, `{"S":"dead"}`), scene: scene{failing: manyWaits, status: http.StatusBadRequest}},
		{name: "send the next attempt", request: deliverer(send, toDeliveries), scene: scene{failing: 2}},
		{name: "send a dead letter", request: deliverer(send, toDeadLetters), scene: scene{failing: manyWaits, status: http.StatusBadRequest}},
		{name: "hold: mark a paused destination", request: deliverer("BatchWriteItem", "marks#"), scene: scene{paused: true}},
		{name: "hold: park a delivery", request: deliverer("BatchWriteItem", "parked#"), scene: scene{paused: true}},
		{name: "hold: a long retry", request: deliverer("BatchWriteItem"), scene: scene{failing: 2, long: true}},
		{name: "disable a destination", request: deliverer(update, registry), scene: scene{failing: manyWaits, status: http.StatusGone}},
		{name: "tell of a disabled destination", request: deliverer(send, toIngress), scene: scene{failing: manyWaits, status: http.StatusGone}},
		{name: "release a claim", request: deliverer(batch, releasing), scene: scene{timeout: "7s", troubles: []trouble{
			{deliverer(batch, claiming), awslocal.Fault{Delay: 1800 * time.Millisecond}},
		}}},
		{name: "send a result that cannot be settled", request: deliverer(send, toDeliveries, reporting), scene: scene{troubles: []trouble{
			refused(deliverer(batch, settling)), refused(deliverer(update)),
		}}},
		{name: "put off what cannot be claimed", request: deliverer(send, toDeliveries), scene: scene{troubles: []trouble{
			refused(deliverer(batch, claiming)), refused(deliverer(update)),
		}}},
		{name: "return what another holds", request: deliverer("ChangeMessageVisibilityBatch").of(worked), scene: scene{again: true, timeout: "7s"}},
		{name: "claim, one by one", request: deliverer(update, claimingOne), scene: scene{troubles: []trouble{refused(deliverer(batch, claiming))}}},
		{name: "settle, one by one", request: deliverer(update, settlingOne), scene: scene{troubles: []trouble{refused(deliverer(batch, settling))}}},
		{name: "read a waybill, relaxed", request: deliverer("BatchGetItem"), scene: scene{relaxed: true}},
		{name: "record a result, relaxed", request: deliverer(batch, recording), scene: scene{relaxed: true}},

		{name: "count late answers", request: deliverer(update, pace), scene: scene{crawling: true}},
		{name: "read destinations", request: slowLane("Query", registry).of(anyone), scene: scene{slow: true, fresh: true}},
		{name: "conditional claim, take-over", request: slowLane(update, reclaiming), first: []request{slowLane(batch, claiming)}, scene: scene{slow: true, late: true}},
		{name: "pass on to the slow lane", request: deliverer(send, toSlowLane), scene: scene{slow: true}},
		{name: "pass on the second attempt", request: deliverer(send, toSlowLane).after(1), scene: scene{slow: true, failing: 1}},
		{name: "claim", request: slowLane(batch, claiming), scene: scene{slow: true}},
		{name: "conditional claim, second attempt", request: slowLane(update, reclaiming), scene: scene{slow: true, failing: 1}},
		{name: "claim, one by one", request: slowLane(update, claimingOne), scene: scene{slow: true, troubles: []trouble{refused(slowLane(batch, claiming))}}},
		{name: "put off what cannot be claimed", request: slowLane(send, toSlowLane), scene: scene{slow: true, troubles: []trouble{
			refused(slowLane(batch, claiming)), refused(slowLane(update)),
		}}},
		{name: "read a waybill, relaxed", request: slowLane("BatchGetItem"), scene: scene{slow: true, relaxed: true}},
		{name: "record a result, relaxed", request: slowLane(batch, recording), scene: scene{slow: true, relaxed: true}},
		{name: "call the receiver", request: request{by: topology.SlowLane}, scene: scene{slow: true}},
		{name: "call the receiver, second attempt", request: request{by: topology.SlowLane}, scene: scene{slow: true, failing: 1, at: 2}},
		{name: "count late answers", request: slowLane(update, pace), scene: scene{slow: true, crawling: true}},
		{name: "settle a success", request: slowLane(batch, settling, `{"S":"delivered"}`), scene: scene{slow: true, crawling: true}},
		{name: "settle a retry", request: slowLane(batch, settling, `{"S":"waiting"}`), scene: scene{slow: true, failing: 2}},
		{name: "settle a dead letter", request: slowLane(batch, settling, `{"S":"dead"}`), scene: scene{slow: true, failing: manyWaits, status: http.StatusBadRequest}},
		{name: "settle, one by one", request: slowLane(update, settlingOne), scene: scene{slow: true, troubles: []trouble{refused(slowLane(batch, settling))}}},
		{name: "send the next attempt", request: slowLane(send, toDeliveries), scene: scene{slow: true, failing: 2}},
		{name: "send a dead letter", request: slowLane(send, toDeadLetters), scene: scene{slow: true, failing: manyWaits, status: http.StatusBadRequest}},
		{name: "send a result that cannot be settled", request: slowLane(send, toDeliveries, reporting), scene: scene{slow: true, troubles: []trouble{
			refused(slowLane(batch, settling)), refused(slowLane(update)),
		}}},
		{name: "hold: a long retry", request: slowLane("BatchWriteItem"), scene: scene{slow: true, failing: 2, long: true}},
		{name: "return what another holds", request: slowLane("ChangeMessageVisibilityBatch").of(worked), scene: scene{slow: true, again: true, timeout: "7s"}},

		{name: "read progress", request: waker("Query", `"progress"`).of(anyone)},
		{name: "scan", request: waker("Scan").of(anyone)},
		{name: "write the first watermark", request: waker(update, "watermark#").of(anyone)},
		{name: "save the scan", request: waker(update, `"scan"`).of(anyone), only: seen}, // before it looks for what is due, because the room is new
		{name: "advance a watermark", request: waker(update, "watermark#").of(anyone), scene: scene{ahead: true, long: true, failing: 1, overdue: 5 * time.Hour}},
		{name: "save the scan", request: waker(update, `"scan"`).of(anyone), only: performed}, // after it
		{name: "read marks", request: waker("Query", `"marks#`).of(anyone)},
		{name: "read what is due", request: waker("Query", `":before"`).of(anyone)},
		{name: "read destinations", request: waker("Query", registry).of(anyone), scene: scene{ahead: true, paused: true}},
		{name: "read what is parked", request: waker("Query", `"parked#`), scene: scene{ahead: true, paused: true}},
		{name: "send what is due", request: waker(send, toDeliveries), scene: scene{ahead: true, long: true, failing: 1}},
		{name: "send what is parked", request: waker(send, toDeliveries), scene: scene{ahead: true, paused: true}},
		{name: "delete what was due", request: waker(batch, deleting), scene: scene{ahead: true, long: true, failing: 1}},
		{name: "delete what was parked", request: waker(batch, deleting), scene: scene{ahead: true, paused: true}},
		{name: "delete, one by one", request: waker("DeleteItem"), scene: scene{ahead: true, paused: true, troubles: []trouble{refused(waker(batch, deleting))}}},
		{name: "clear a mark", request: waker(batch, deleting, "marks#"), scene: scene{marked: true}},
		{name: "dead-letter for a removed destination", request: deliverer(send, toDeadLetters), scene: scene{ahead: true, paused: true, removed: true}},
	}
}
