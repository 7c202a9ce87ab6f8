// Package whereabouts answers where a delivery is: delivered, waiting, parked, claimed, dead, or nowhere to be found. It puts together what four places
// know of it: the ledger, the waiting room, the dead-letter queues, and the registry with the state of destinations. The program is
// scripts/deliveries.
//
// Nothing is written. Tables are only read. Dead-letter queues are looked at only if the question says so, and every message that was looked at is visible
// again afterwards. Queues that a function reads are never looked at: SQS counts each look as a receive, and moves a message to the dead-letter queue
// after the tenth.
//
// # What a question costs
//
// The unit is DynamoDB's read unit: 4 KB read consistently. Question.MaxUnits bounds them; Report.Units tells what was read.
//
//   - An event is looked for by the ids that its deliveries would have: one for each destination of its tenant. Each is one row of the ledger, one
//     unit. The id of a delivery is a hash over tenant, source, event id and destination, so without the source there is nothing to ask the ledger
//     for; then the waiting room is scanned.
//   - What the ledger does not show as delivered may be parked. Parked rows lie in a partition of their destination and an eighth of all deliveries, in
//     order of acceptance: that partition is read up to the last change of the waybill, if the destination is marked as having parked rows at all.
//   - What the ledger shows as waiting has a due time within what a retry schedule or a receiver can ask for, 24 hours and a fifth, after the
//     last change. Rows lie under their hour and an eighth of all deliveries: the time that the schedule says is read first, then the rest of
//     those hours. What is in neither place lies on the deliveries queue: due within what a queue can delay, or passing from delay to delay if it is
//     too large for the waiting room.
//   - A question about a state or a time scans the waiting room and the ledger, page by page; Report.Next says where to go on. The ledger is read with
//     eventual consistency, at half the price: it may be a second behind.
//
// A row of the ledger says neither event nor destination, it has a hash for a key. So a question about a destination sees what is held for it and its dead
// letters, not what was delivered.
package whereabouts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/queue/sqs"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/topology"
)

// Defaults and limits of a Question.
const (
	DefaultMaxUnits = 5000 // less than a tenth of a cent
	MinUnits        = 300  // a page of the waiting room needs 256
	DefaultLimit    = 100
	MaxLimit        = 100_000
	MaxLetters      = 10_000 // messages of a dead-letter queue that are looked at
)

// State says where a delivery stands.
type State string

// The states.
const (
	Delivered State = "delivered"
	Waiting   State = "waiting" // for its next attempt, in the waiting room or on the deliveries queue
	Parked    State = "parked"  // until its destination may receive
	Claimed   State = "claimed" // an attempt is under way, or its worker died
	Dead      State = "dead"    // given up, or never understood; its letter lies in a dead-letter queue
)

// States lists those that a question can ask for.
func States() []State { return []State{Delivered, Waiting, Parked, Claimed, Dead} }

// Place says where a delivery, or what is left of it, lies.
type Place string

// The places.
const (
	InLedger    Place = "ledger"       // nothing but its waybill is left, or nothing else was found
	InRoom      Place = "waiting room" // it is held there
	OnQueue     Place = "deliveries"   // it must lie on the deliveries queue or the slow lane's: it waits and is not in the waiting room
	InDead      Place = "deliveries-dlq"
	InDeadEvent Place = "ingress-dlq" // an event that was never routed
)

// Answer tells about one delivery, or about one event in the ingress dead-letter queue, which has none. What is not known is zero.
type Answer struct {
	Delivery delivery.ID
	State    State
	Place    Place

	Event, Source, Type, Tenant, Destination string

	Epoch, Attempt int // of the waybill, or of the message where there is no waybill
	NextAttempt    int // of a delivery that is tried again
	Code           int
	Reason, Detail string

	AcceptedAt time.Time // when the event was accepted
	ChangedAt  time.Time // last change of the waybill; of what has none, since when it lies where it does
	DueAt      time.Time // of what waits in the waiting room
	HeldSince  time.Time // of what is parked
	LeaseUntil time.Time // of a claim; zero: it was given back

	DestinationState registry.State
	Known            bool // the registry has such a destination; meaningful only where Registry is true
	Registry         bool // the registry could be read
	Leftover         bool // an old dead letter of the delivery lies in the queue as well: moving it back does nothing
	Payload          []byte
	HasPayload       bool // Payload is known; only where the question asked for it
}

// Question says what to look for. Event or Delivery ask for one thing; the others for all that fits.
type Question struct {
	Event    string // id of an event, with
	Sources  []string
	Tenants  []string // none: all that the registry names, and events.DefaultTenant
	Delivery delivery.ID

	// Destinations are those that an event may have gone to, also deleted ones (none: all of its tenant in the registry); without an event, only
	// what is for them.
	Destinations []string
	States       []State
	Since, Until time.Time // of the last change, from Since to before Until

	DeadLetters bool // look into the dead-letter queues
	Payload     bool // tell the payload, of what is still held or dead: the ledger keeps none

	MaxUnits float64 // read units; 0: DefaultMaxUnits
	Limit    int     // answers; 0: DefaultLimit
	After    string  // go on there: Report.Next of the same question
}

// Check reports every reason why a question cannot be asked. The error is for the person who asked.
func (q Question) Check() error {
	var problems []error
	add := func(text string, args ...any) { problems = append(problems, fmt.Errorf(text, args...)) }
	one := q.Event != "" || q.Delivery != ""
	swept := len(q.States) > 0 || !q.Since.IsZero() || !q.Until.IsZero()
	switch {
	case q.Event != "" && q.Delivery != "":
		add("an event and a delivery: ask for one of them")
	case one && swept:
		add("an event or delivery is one thing: leave out states and times")
	case one && q.After != "":
		add("an event or delivery is found at once: there is nothing to go on with")
	case !one && len(q.Destinations) == 0 && !swept:
		add("no question: name an event, a delivery, a destination, a state or a time")
	}
	if q.Event == "" && (len(q.Sources) > 0 || len(q.Tenants) > 0) {
		add("source and tenant need an event: they make its deliveries' ids")
	}
	for _, s := range q.States {
		if !slices.Contains(States(), s) {
			add("there is no state %q: %v", s, States())
		}
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		add("nothing lies between %s and %s", q.Since.Format(time.RFC3339), q.Until.Format(time.RFC3339))
	}
	if len(q.Destinations) > 0 && !one && len(q.States) > 0 && !q.heldStates() && !(q.DeadLetters && q.wants(Dead)) {
		add("by destination only waiting and parked deliveries can be found, and dead ones in their queue: a row of the ledger does not say for whom it is. " +
			"Ask for the state alone, or for an event")
	}
	if q.Payload && !one {
		add("a payload is shown for one delivery: name it, or an event and its destination")
	}
	if q.Payload && q.Event != "" && len(q.Destinations) != 1 {
		add("a payload is shown for one delivery: name the event's destination")
	}
	if q.MaxUnits != 0 && q.MaxUnits < MinUnits {
		add("%v read units are too few, a page of the waiting room alone can need 256: allow at least %d", q.MaxUnits, MinUnits)
	}
	if q.Limit < 0 || q.Limit > MaxLimit {
		add("a limit of %d: use 1 to %d", q.Limit, MaxLimit)
	}
	if _, err := parsePlace(q.After); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func (q *Question) wants(s State) bool { return len(q.States) == 0 || slices.Contains(q.States, s) }

// heldStates says whether something is asked for that can lie in the waiting room.
func (q *Question) heldStates() bool { return q.wants(Waiting) || q.wants(Parked) }

// inTime says whether a change at t is asked for.
func (q *Question) inTime(t time.Time) bool {
	return (q.Since.IsZero() || !t.Before(q.Since)) && (q.Until.IsZero() || t.Before(q.Until))
}

// Report tells about a search as a whole.
type Report struct {
	Found   int
	Units   float64 // read units that were used
	Letters int     // dead letters that were looked at
	// Without are destinations that the event can have gone to and for which there is no trace of it: they do not want it, or its first attempt has not begun.
	Without []string
	Asked   int      // ids of deliveries that the ledger was asked for
	Next    string   // not empty: there is more, go on there
	Notes   []string // what was not done and why, and what to know about the answers
	Depths  []Depth  // of the queues, where nothing was found
	Failed  error    // what could not be read; the answers that were given hold
}

// Depth is about how many messages a queue holds.
type Depth struct {
	Queue                      topology.QueueName
	Visible, InFlight, Delayed int
}

// Tables is what a search needs of *dynamodb.Client. It reads, and nothing else.
type Tables interface {
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
}

// Queues is what a search needs of *sqs.Client. It never deletes and never sends.
type Queues interface {
	sqs.API
	ReceiveMessage(context.Context, *awssqs.ReceiveMessageInput, ...func(*awssqs.Options)) (*awssqs.ReceiveMessageOutput, error)
	GetQueueAttributes(context.Context, *awssqs.GetQueueAttributesInput, ...func(*awssqs.Options)) (*awssqs.GetQueueAttributesOutput, error)
}

// Config configures a Search. Tables, Names and Limits are required.
type Config struct {
	Tables Tables
	Names  map[topology.TableName]string // of ledger, waiting and registry
	// Queues and URLs are needed for dead letters and depths; a queue without a URL is left out.
	Queues Queues
	URLs   map[topology.QueueName]string
	Limits topology.Limits
	// IngressARN is the source of events that name none; "": it is not known.
	IngressARN string
	// OnScan hears how many read units a table has about, before it is scanned.
	OnScan func(table topology.TableName, units float64)
	Now    func() time.Time // default time.Now
}

// Search answers questions. It keeps no state and is safe for concurrent use.
type Search struct{ cfg Config }

// New makes a Search. The error lists what is missing.
func New(cfg Config) (*Search, error) {
	var problems []error
	if cfg.Tables == nil {
		problems = append(problems, errors.New("whereabouts: Config.Tables is missing: give a DynamoDB client"))
	}
	for _, name := range []topology.TableName{topology.Ledger, topology.Waiting, topology.Registry} {
		if cfg.Names[name] == "" {
			problems = append(problems, fmt.Errorf("whereabouts: Config.Names lacks the table %s", name))
		}
	}
	if cfg.Limits.LongestDelay <= 0 {
		problems = append(problems, errors.New("whereabouts: Config.Limits is missing: take it from the topology"))
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.OnScan == nil {
		cfg.OnScan = func(topology.TableName, float64) {}
	}
	return &Search{cfg}, errors.Join(problems...)
}

// Ask answers a question: each hears of every delivery that was found, one after the other. The error is about the question, or ctx ended; what could
// not be read is in Report.Failed, and does not keep the other places from being looked at.
func (s *Search) Ask(ctx context.Context, q Question, each func(Answer)) (Report, error) {
	if err := q.Check(); err != nil {
		return Report{}, err
	}
	if q.DeadLetters && (s.cfg.Queues == nil || s.cfg.URLs[topology.DeliveriesDeadLetter] == "") {
		return Report{}, fmt.Errorf("the URL of the queue %s is not known", topology.DeliveriesDeadLetter)
	}
	if q.MaxUnits == 0 {
		q.MaxUnits = DefaultMaxUnits
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	r, err := newRun(s.cfg, q, each)
	if err != nil {
		return Report{}, err
	}
	r.readRegistry(ctx)
	if q.Event != "" || q.Delivery != "" {
		r.one(ctx)
	} else {
		r.sweep(ctx)
	}
	if r.report.Found == 0 && r.report.Next == "" {
		r.readDepths(ctx)
	}
	r.report.Units = r.meter.used()
	return r.report, ctx.Err()
}

// standing says what a message that lies somewhere is to its delivery, by the rules of the ledger. Granted: the delivery goes on with it. Busy: another
// attempt is under way. Everything else: it is left over from something that has ended.
func standing(item *ledger.Item, m *delivery.Message, now time.Time) ledger.Verdict {
	return ledger.Decide(item, ledger.Claim{Delivery: m.Delivery, Epoch: m.Epoch, Attempt: m.Attempt, Replay: m.Replay, Now: now})
}

// defaultTenants are whose events are looked for where nobody says.
func defaultTenants(set *registry.Set) []string {
	tenants := []string{events.DefaultTenant}
	seen := map[string]bool{events.DefaultTenant: true, registry.EveryTenant: true}
	for d := range set.All() {
		if !seen[d.Tenant] {
			seen[d.Tenant] = true
			tenants = append(tenants, d.Tenant)
		}
	}
	return tenants
}
