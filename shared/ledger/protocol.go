package ledger

import (
	"errors"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
)

// State says where a delivery stands.
type State string

// The states of a waybill.
const (
	Claimed   State = "claimed"   // an attempt is under way, or its worker died
	Waiting   State = "waiting"   // the attempt is over, its successor is durable elsewhere
	Delivered State = "delivered" // done
	Dead      State = "dead"      // given up; the dead letter is durable
)

// Item is one waybill as it stands in the ledger.
type Item struct {
	Delivery   delivery.ID
	State      State
	Epoch      int
	Attempt    int
	Owner      string    // random per claim
	LeaseUntil time.Time // ms; the zero time after a release
	Code       int       // of the last attempt: the receiver's status, 0 where there was none
	Reason     string
	UpdatedAt  time.Time // ms
	ExpiresAt  time.Time // s; for DynamoDB's TTL, never trusted for correctness
}

// Claim asks for the right to make attempt (Epoch, Attempt) of a delivery.
type Claim struct {
	Delivery   delivery.ID
	Epoch      int
	Attempt    int
	Replay     bool
	Owner      string // fresh and random for every claim; kept when the same claim is repeated after a lost answer
	Now        time.Time
	LeaseUntil time.Time
	ExpiresAt  time.Time
}

// Verdict is the answer to a claim.
type Verdict string

// The verdicts.
const (
	Granted   Verdict = "claimed"   // make the attempt; nobody else may until the lease ends
	Duplicate Verdict = "duplicate" // delivered already: acknowledge
	Stale     Verdict = "stale"     // a successor or a dead letter exists: acknowledge
	Busy      Verdict = "busy"      // someone else holds a live lease: come back when it ends
)

// rule is one row of the claim table.
type rule struct {
	name    string
	applies func(*Item, Claim) bool
	verdict Verdict
}

// claimTable is the claim table of the ledger protocol; the first row that applies decides. The condition
// expressions of the DynamoDB drivers say the same in another language: the conformance suite holds them together, and
// the exhaustive search of this package shows for every row that without it a delivery can be lost or made twice.
var claimTable = []rule{
	{"absent", func(i *Item, _ Claim) bool { return i == nil }, Granted},
	{"delivered", func(i *Item, c Claim) bool { return i.State == Delivered && !(c.Replay && c.Epoch > i.Epoch) }, Duplicate},
	{"dead", func(i *Item, c Claim) bool { return i.State == Dead && c.Epoch <= i.Epoch }, Stale},
	{"larger", func(i *Item, c Claim) bool { return compare(i.Epoch, i.Attempt, c) > 0 }, Stale},
	{"settled", func(i *Item, c Claim) bool { return compare(i.Epoch, i.Attempt, c) == 0 && i.State == Waiting }, Stale},
	{"smaller, lease live", func(i *Item, c Claim) bool {
		return compare(i.Epoch, i.Attempt, c) < 0 && i.State == Claimed && i.LeaseUntil.After(c.Now)
	}, Busy},
	{"smaller", func(i *Item, c Claim) bool { return compare(i.Epoch, i.Attempt, c) < 0 }, Granted},
	{"mine", func(i *Item, c Claim) bool { return i.Owner == c.Owner }, Granted},
	{"lease over", func(i *Item, c Claim) bool { return !i.LeaseUntil.After(c.Now) }, Granted},
	{"lease live", func(*Item, Claim) bool { return true }, Busy},
}

// compare orders the item's (epoch, attempt) against the claim's.
func compare(epoch, attempt int, c Claim) int {
	if epoch != c.Epoch {
		return epoch - c.Epoch
	}
	return attempt - c.Attempt
}

// Decide gives the verdict on a claim when the ledger holds item; nil means that it holds nothing.
func Decide(item *Item, c Claim) Verdict { return decide(claimTable, item, c) }

func decide(table []rule, item *Item, c Claim) Verdict {
	for _, r := range table {
		if (item != nil || r.name == "absent") && r.applies(item, c) {
			return r.verdict
		}
	}
	return Busy
}

// Settlement writes the result of an attempt into the ledger.
type Settlement struct {
	Delivery  delivery.ID
	Epoch     int
	Attempt   int
	Owner     string
	Replay    bool  // of the message that was attempted
	State     State // Waiting, Delivered or Dead
	Code      int
	Reason    string
	Now       time.Time
	ExpiresAt time.Time
}

// SettleAllowed says whether a settlement may be written over item: only by the owner, for the attempt it claimed.
// The state is no condition, so that a settle whose answer was lost may be repeated.
func SettleAllowed(item *Item, s Settlement) bool {
	return item != nil && item.Owner == s.Owner && item.Epoch == s.Epoch && item.Attempt == s.Attempt
}

// Release gives a claim back whose attempt could not start: the same attempt is then claimable at once.
type Release struct {
	Delivery delivery.ID
	Epoch    int
	Attempt  int
	Owner    string
	Now      time.Time
}

// ReleaseAllowed says whether a release may be written over item: only by the owner while its claim stands.
func ReleaseAllowed(item *Item, r Release) bool {
	return item != nil && item.State == Claimed && item.Owner == r.Owner && item.Epoch == r.Epoch && item.Attempt == r.Attempt
}

// RecordAllowed says whether the result of an attempt that was made without a claim (relaxed mode) may be written
// over item. It never turns a delivered waybill back, never goes back to an earlier attempt and never overwrites another worker's claim of
// the same attempt.
// The same attempt may be recorded twice: two relaxed workers may both have made it.
func RecordAllowed(item *Item, s Settlement) bool {
	if item == nil || SettleAllowed(item, s) {
		return true
	}
	switch {
	case item.State == Delivered:
		return s.Replay && item.Epoch < s.Epoch
	case item.Epoch != s.Epoch:
		return item.Epoch < s.Epoch
	case item.State == Dead:
		return false
	case item.Attempt != s.Attempt:
		return item.Attempt < s.Attempt
	}
	return item.State == Waiting
}

// Future is what must be durable before the result of an attempt may be settled.
type Future string

// The futures.
const (
	Nothing    Future = "nothing"     // delivered: no future needed
	Successor  Future = "successor"   // the message (epoch, attempt+1), on a queue or in the waiting room
	DeadLetter Future = "dead letter" // the message (epoch+1, 1) on the dead-letter queue
)

// Result is what an attempt came to, as far as the protocol cares.
type Result string

// The results.
const (
	Succeeded Result = "succeeded"
	Failed    Result = "failed"    // may succeed later, and the schedule has attempts left
	Exhausted Result = "exhausted" // rejected, or the schedule is at its end
)

// Plan is what the worker does after an attempt, in this order and no other: make Future durable, settle State,
// acknowledge. With the first two exchanged, a crash between them loses the delivery: the ledger says that a
// successor exists, and none does.
type Plan struct {
	Future  Future
	Epoch   int // of the future message
	Attempt int
	State   State // to settle
}

// After plans what follows attempt (epoch, attempt) with the given result. A dead letter is written as (epoch+1, 1): as
// (epoch, attempt) the claim table would swallow it when it is moved back.
func After(r Result, epoch, attempt int) Plan {
	switch r {
	case Succeeded:
		return Plan{Future: Nothing, State: Delivered}
	case Failed:
		return Plan{Future: Successor, Epoch: epoch, Attempt: attempt + 1, State: Waiting}
	}
	return Plan{Future: DeadLetter, Epoch: epoch + 1, Attempt: 1, State: Dead}
}

// Disposition is what becomes of the SQS message once the settle has been tried.
type Disposition string

// The dispositions.
const (
	Acknowledge Disposition = "acknowledge"  // delete it
	Leave       Disposition = "leave"        // leave it to SQS: it comes back, and the claim table decides again
	SendOutcome Disposition = "send outcome" // send it again with the outcome attached, then delete it; if that fails, leave it
)

// AfterSettle decides about the message once settling returned err: nil, ErrRefused, or any other error, which
// means that the ledger could not be written. hasOutcome tells that the message is itself an outcome message, which only
// settles: refused, there is nothing left for it to do.
func AfterSettle(err error, hasOutcome bool) Disposition {
	switch {
	case err == nil:
		return Acknowledge
	case errors.Is(err, ErrRefused) && hasOutcome:
		return Acknowledge
	case errors.Is(err, ErrRefused):
		return Leave
	}
	return SendOutcome
}
