// Package rehearsal is the batch by which a release tries a new version of a function before any traffic reaches it.
//
// Its records look like those of SQS but for their event source, which is Mark. Lambda's pollers write that member themselves, so nobody who may send to a
// queue can make such a record: it takes the permission to invoke the function. A function that is handed one works on it with its own code,
// configuration and permissions, and without any effect but rows of the ledger that expire within the hour: nothing is sent, nobody is called, nothing is
// counted. Each record says what must become of it, and the function answers with the ids of those of which something else has become.
package rehearsal

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	lambdaevents "github.com/aws/aws-lambda-go/events"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/delivery/samples"
	"github.com/waybillhq/waybill/shared/topology"
)

// Names of a rehearsal. Its records are known by their event source alone, which is Mark; that their events' type and tenant are called the same, and
// their destination nearly so, is for people who find one in a log or in the ledger.
const (
	Mark        = "waybill.preflight"
	Destination = "waybill-preflight"
)

// Fate is what must become of a record.
type Fate string

// The fates.
const (
	Done     Fate = "done"     // acknowledged when its work is done
	Deferred Fate = "deferred" // sent again with a delay, once, and acknowledged
	Refused  Fate = "refused"  // dead-lettered with a reason, and acknowledged
)

// Act is what the destination of a rehearsal does, by the beginning of the event's id.
type Act string

// The acts. An event with any other id is delivered.
const (
	Unstarted Act = "unstarted" // nothing is tried: the claim is released
	Postponed Act = "postponed" // asks for a pause that outlasts a queue's delay: the delivery goes to the waiting room
)

// ActOf is what becomes of an attempt to deliver the event with that id.
func ActOf(eventID string) Act {
	name, _, _ := strings.Cut(eventID, "-")
	return Act(name)
}

// Is says whether an event is a rehearsal. An event that is one in part is an error: nobody makes such, and it must not be worked on.
func Is(e *lambdaevents.SQSEvent) (bool, error) {
	marked := 0
	for i := range e.Records {
		if e.Records[i].EventSource == Mark {
			marked++
		}
	}
	if marked != 0 && marked != len(e.Records) {
		return false, fmt.Errorf("%d of %d records are of a rehearsal: send them apart", marked, len(e.Records))
	}
	return marked != 0, nil
}

// FateOf is what must become of a record of a rehearsal.
func FateOf(m *lambdaevents.SQSMessage) Fate { return Fate(m.Attributes[Mark]) }

// Payload is what the new version of a function is invoked with: a batch for one that reads the ingress queue or makes deliveries, and an empty document for any other, which
// makes it run once as usual. The nonce makes the deliveries of one rehearsal different from those of any other.
func Payload(f topology.Function, nonce string, now time.Time) ([]byte, error) {
	b := batch{nonce: nonce, now: now}
	switch {
	case f.Source.Queue == topology.Ingress:
		b.events()
	case f.Source.Queue.Delivers():
		b.deliveries()
	default:
		return []byte("{}"), nil
	}
	if err := errors.Join(b.problems...); err != nil {
		return nil, fmt.Errorf("the batch of the rehearsal: %w", err)
	}
	return json.Marshal(lambdaevents.SQSEvent{Records: b.records})
}

// batch is put together record by record.
type batch struct {
	nonce    string
	now      time.Time
	records  []lambdaevents.SQSMessage
	problems []error
}

// id is unique to the record and says what it is.
func (b *batch) id(name string) string { return name + "-" + b.nonce }

func (b *batch) add(name, body string, fate Fate) {
	at := strconv.FormatInt(b.now.UnixMilli(), 10)
	b.records = append(b.records, lambdaevents.SQSMessage{
		MessageId: b.id(name), ReceiptHandle: b.id(name), Body: body, EventSource: Mark, EventSourceARN: Mark,
		Attributes: map[string]string{
			Mark: string(fate), "ApproximateReceiveCount": "1", "SentTimestamp": at, "ApproximateFirstReceiveTimestamp": at,
		},
	})
}

// events are what the router is tried with. Whether a destination wants the event does not matter: nothing is sent.
func (b *batch) events() {
	b.add("event", fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/waybill/preflight","type":%q,"tenant":%q,"data":{}}`, b.id("event"), Mark, Mark), Done)
	b.add("malformed", fmt.Sprintf(`{"specversion":"1.0","source":"/waybill/preflight","type":%q}`, Mark), Refused)
}

// deliveries are what the deliverer is tried with: messages of every version that it must read, one of a version that it cannot know, and one that is none.
func (b *batch) deliveries() {
	for _, d := range []struct {
		name    string
		attempt int // later ones are claimed by another operation than first ones
		fate    Fate
	}{{"current", 1, Done}, {"later", 2, Done}, {string(Unstarted), 1, Deferred}, {string(Postponed), 1, Done}} {
		b.delivery(d.name, d.attempt, d.fate)
	}
	for _, s := range samples.All() {
		switch {
		case s.Version <= delivery.Version && s.Name == fmt.Sprintf("v%d-first", s.Version):
			b.sample(s, Done)
		case s.Version == delivery.Version+1:
			b.sample(s, Deferred)
		}
	}
	b.add("malformed", `{"v":1}`, Refused)
}

func (b *batch) delivery(name string, attempt int, fate Fate) {
	const source = "/waybill/preflight"
	m := delivery.Message{
		Delivery: delivery.NewID(Mark, source, b.id(name), Destination), Destination: Destination, Attempt: attempt, AcceptedAt: b.now,
		Event: events.Event{ID: b.id(name), Source: source, Type: Mark, Extensions: map[string]string{events.TenantExtension: Mark}, Data: []byte(`{}`)},
	}
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		b.problems = append(b.problems, err)
	}
	b.add(name, body, fate)
}

func (b *batch) sample(s samples.Sample, fate Fate) {
	body, err := s.For(Mark, b.id(s.Name), Destination)
	if err != nil {
		b.problems = append(b.problems, err)
	}
	b.add(s.Name, body, fate)
}

// ErrFailed says that a new version did not do with a rehearsal what it should have done.
var ErrFailed = errors.New("the rehearsal failed")

// Check looks at what the function has answered to Payload. The error is ErrFailed, with detail.
func Check(f topology.Function, answer []byte) error {
	if f.Source.Queue != topology.Ingress && !f.Source.Queue.Delivers() {
		if !json.Valid(answer) {
			return fmt.Errorf("%w: the answer is no JSON", ErrFailed)
		}
		return nil
	}
	var response struct {
		Failures *[]struct {
			ID string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &response); err != nil {
		return fmt.Errorf("%w: the answer is no batch response: %w", ErrFailed, err)
	}
	if response.Failures == nil {
		return fmt.Errorf("%w: the answer has no list batchItemFailures, which Lambda takes for a batch that went well", ErrFailed)
	}
	if len(*response.Failures) == 0 {
		return nil
	}
	var names []string
	for _, failure := range *response.Failures {
		names = append(names, strconv.Quote(failure.ID))
	}
	return fmt.Errorf("%w: not as they should have come out: %s; the function's log says why", ErrFailed, strings.Join(names, ", "))
}
