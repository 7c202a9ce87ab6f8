package whereabouts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/queue/sqs"
	"github.com/waybillhq/waybill/shared/redrive"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waybill"
)

const (
	hidden   = 2 * time.Minute // what is looked at; it is shown again at once when the look is over
	pollWait = time.Second     // a long poll, however short, asks all of SQS's servers
	showTime = time.Minute
)

// letter is a message of a dead-letter queue.
type letter struct {
	place    Place
	message  *delivery.Message // nil for what is no delivery, or none that this release reads
	events   []events.Event    // of the ingress dead-letter queue, as far as they can be read
	id       string            // SQS's message id, which is the event's id where it has no other
	note     waybill.Note
	reason   string
	failedAt time.Time
}

// look receives the messages of a dead-letter queue, gives those that keep wants, and makes all visible again.
func (r *run) look(ctx context.Context, name topology.QueueName, place Place, keep func(*letter) bool) (kept []*letter) {
	url := r.cfg.URLs[name]
	if url == "" {
		r.note("the URL of %s is not known: it was not looked at", name)
		return nil
	}
	total, err := r.checkDead(ctx, url)
	if err != nil {
		r.fail(err)
		return nil
	}
	var receipts []string
	defer func() { r.show(ctx, url, receipts) }()
	seen := map[string]bool{}
	for idle := 0; idle < 2; {
		if len(receipts) >= MaxLetters || ctx.Err() != nil {
			r.note("only %d messages of %s were looked at", len(seen), name)
			return kept
		}
		got, err := r.receive(ctx, url)
		if err != nil {
			r.fail(err)
			return kept
		}
		idle++
		for i := range got {
			receipts = append(receipts, aws.ToString(got[i].ReceiptHandle))
			if id := aws.ToString(got[i].MessageId); !seen[id] {
				seen[id], idle = true, 0
				r.report.Letters++
				if l := open(place, &got[i]); keep(l) {
					kept = append(kept, l)
				}
			}
		}
	}
	if len(seen) < total {
		r.note("%s holds about %d messages, of which %d were looked at: others are in flight with another reader", name, total, len(seen))
	}
	return kept
}

// checkDead refuses a queue whose messages count their receives, and tells how many it holds about.
func (r *run) checkDead(ctx context.Context, url string) (total int, err error) {
	out, err := r.cfg.Queues.GetQueueAttributes(ctx, &awssqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{
		types.QueueAttributeNameRedrivePolicy, types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
	}})
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", url, err)
	}
	if out.Attributes[string(types.QueueAttributeNameRedrivePolicy)] != "" {
		return 0, fmt.Errorf("%s is no dead-letter queue: it has a redrive policy, and looking at its messages would count against them", url)
	}
	d := depthOf(out.Attributes)
	return d.Visible + d.InFlight, nil
}

func (r *run) receive(ctx context.Context, url string) ([]types.Message, error) {
	// Once begun it is finished: what a call has received that was cut short stays hidden, and nobody knows of it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), showTime)
	defer cancel()
	out, err := r.cfg.Queues.ReceiveMessage(ctx, &awssqs.ReceiveMessageInput{
		QueueUrl: &url, MaxNumberOfMessages: queue.MaxBatchEntries, WaitTimeSeconds: int32(pollWait / time.Second),
		VisibilityTimeout: int32(hidden / time.Second), MessageAttributeNames: []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	})
	if err != nil {
		return nil, fmt.Errorf("receive from %s: %w", url, err)
	}
	return out.Messages, nil
}

// show makes what was looked at visible again, also when ctx has ended.
func (r *run) show(ctx context.Context, url string, receipts []string) {
	if len(receipts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), showTime)
	defer cancel()
	changes := make([]queue.Visibility, len(receipts))
	for i, receipt := range receipts {
		changes[i].Receipt = receipt
	}
	failed := 0
	for _, err := range sqs.New(r.cfg.Queues, url, sqs.Options{}).ChangeVisibility(ctx, changes) {
		var refused *sqs.EntryError // it is visible already, or gone
		if err != nil && (!errors.As(err, &refused) || !refused.SenderFault) {
			failed++
		}
	}
	if failed > 0 {
		r.note("%d messages of %s stay invisible for up to %v", failed, url, hidden)
	}
}

// open reads a message of a dead-letter queue as far as it can be read.
func open(place Place, m *types.Message) *letter {
	l := &letter{place: place, id: aws.ToString(m.MessageId)}
	attributes := make(map[string]queue.Attribute, len(m.MessageAttributes))
	for name, a := range m.MessageAttributes {
		attributes[name] = queue.Attribute{DataType: aws.ToString(a.DataType), String: aws.ToString(a.StringValue), Binary: a.BinaryValue}
	}
	body, attributes, note, _ := waybill.Detach(aws.ToString(m.Body), attributes) // what cannot be read is no note of ours
	l.note, l.reason, l.failedAt = note, note.Reason, note.FailedAt
	if l.reason == "" {
		l.reason = redrive.ReasonReceiveCount
	}
	var sentAt time.Time
	if ms, err := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64); err == nil {
		sentAt = time.UnixMilli(ms)
	}
	if l.failedAt.IsZero() {
		l.failedAt = sentAt
	}
	if place == InDead {
		if message, err := delivery.Decode(body); err == nil {
			l.message = &message
		}
		return l
	}
	in := events.Input{
		MessageID: l.id, QueueARN: m.Attributes[string(types.MessageSystemAttributeNameDeadLetterQueueSourceArn)], EventID: note.EventID, SentAt: sentAt, Body: body,
		GroupID: m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)], Attributes: make(map[string]events.Attribute, len(attributes)),
	}
	for name, a := range attributes {
		in.Attributes[name] = events.Attribute{DataType: a.DataType, StringValue: a.String, BinaryValue: a.Binary}
	}
	if decoded, err := events.Decode(in); err == nil {
		l.events = decoded.Events
		return l
	}
	var broken struct{ ID, Source, Type string } // what is no valid event may still say which one it was to be
	if json.Unmarshal([]byte(body), &broken) == nil && broken.ID != "" {
		l.events = []events.Event{{ID: broken.ID, Source: broken.Source, Type: broken.Type}}
	}
	return l
}

// addLetters looks into the dead-letter queues for the question's event or delivery. Letters of deliveries become part of their findings; those of events
// that were never routed are given apart.
func (r *run) addLetters(ctx context.Context, findings []*finding) (all []*finding, lost []*letter) {
	byID := map[delivery.ID]*finding{}
	for _, f := range findings {
		byID[f.id] = f
	}
	var unknown []*finding
	for _, l := range r.look(ctx, topology.DeliveriesDeadLetter, InDead, func(l *letter) bool { return l.message != nil && r.means(l.message, byID) }) {
		f := byID[l.message.Delivery]
		if f == nil {
			f = &finding{id: l.message.Delivery}
			byID[f.id] = f
			findings, unknown = append(findings, f), append(unknown, f)
		}
		f.letters = append(f.letters, l)
		if f.destination == "" {
			f.destination = l.message.Destination
		}
	}
	if n := r.readLedger(ctx, unknown); n < len(unknown) {
		r.note("the budget of %v read units did not do for all waybills", r.q.MaxUnits)
	}
	if r.q.Event != "" {
		lost = r.look(ctx, topology.IngressDeadLetter, InDeadEvent, r.isEvent)
	}
	return findings, lost
}

// means says whether a message is what the question asks for.
func (r *run) means(m *delivery.Message, candidates map[delivery.ID]*finding) bool {
	if candidates[m.Delivery] != nil {
		return true
	}
	return r.q.Event != "" && m.Event.ID == r.q.Event && r.ofTenant(m.Event.Tenant()) && r.forDestination(m.Destination) &&
		(len(r.q.Sources) == 0 || slices.Contains(r.q.Sources, m.Event.Source))
}

// isEvent says whether a letter of the ingress dead-letter queue is the event that the question asks for.
func (r *run) isEvent(l *letter) bool {
	if l.id == r.q.Event || l.note.EventID == r.q.Event {
		return true
	}
	return slices.ContainsFunc(l.events, func(e events.Event) bool {
		return e.ID == r.q.Event && (len(r.q.Sources) == 0 || e.Source == "" || slices.Contains(r.q.Sources, e.Source))
	})
}

// emitLost tells of events that were never routed.
func (r *run) emitLost(lost []*letter) {
	for _, l := range lost {
		a := Answer{State: Dead, Place: InDeadEvent, Event: r.q.Event, Reason: l.reason, Code: l.note.Code, Detail: l.note.Detail,
			AcceptedAt: l.note.AcceptedAt, ChangedAt: l.failedAt}
		for _, e := range l.events {
			if e.ID == r.q.Event {
				a.Source, a.Type, a.Tenant = e.Source, e.Type, e.Tenant()
			}
		}
		if !r.emit(a) {
			return
		}
	}
}

// sweepLetters tells of the dead letters that fit. It says whether more answers are wanted.
func (r *run) sweepLetters(ctx context.Context) bool {
	most := r.q.Limit - r.report.Found
	dropped := 0
	letters := r.look(ctx, topology.DeliveriesDeadLetter, InDead, func(l *letter) bool {
		destination := l.note.Destination
		if l.message != nil {
			destination = l.message.Destination
		}
		if l.message == nil && destination == "" || !r.forDestination(destination) || !r.q.inTime(l.failedAt) {
			return false
		}
		if most--; most < 0 {
			dropped++
		}
		return most >= 0
	})
	var findings []*finding
	for _, l := range letters {
		f := &finding{letters: []*letter{l}, destination: l.note.Destination}
		if l.message != nil {
			f.id, f.destination = l.message.Delivery, l.message.Destination
		}
		findings = append(findings, f)
	}
	findings = byDelivery(findings)
	known := slices.DeleteFunc(slices.Clone(findings), func(f *finding) bool { return f.id == "" })
	if n := r.readLedger(ctx, known); n < len(known) {
		r.note("the budget of %v read units did not do for the waybills of all dead letters", r.q.MaxUnits)
	}
	r.findParked(ctx, known) // one that was moved back, and parked then, can have its letter still
	for _, f := range findings {
		r.seen[f.id] = true
		if a := r.answer(f); r.q.wants(a.State) && r.q.inTime(a.ChangedAt) {
			r.emit(a)
		}
	}
	if dropped > 0 {
		r.note("%d more dead letters fit: raise the limit, or count them by scripts/redrive -dry-run", dropped)
	}
	return r.report.Found < r.q.Limit
}

// readDepths tells how much the queues hold, for what was not found. It costs nothing and harms nothing.
func (r *run) readDepths(ctx context.Context) {
	if r.cfg.Queues == nil {
		return
	}
	for _, name := range []topology.QueueName{topology.Ingress, topology.IngressDeadLetter, topology.Deliveries, topology.DeliveriesSlow, topology.DeliveriesDeadLetter} {
		url := r.cfg.URLs[name]
		if url == "" {
			continue
		}
		out, err := r.cfg.Queues.GetQueueAttributes(ctx, &awssqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{
			types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
			types.QueueAttributeNameApproximateNumberOfMessagesDelayed,
		}})
		if err != nil {
			r.note("how much %s holds is not known: %v", name, err)
			continue
		}
		d := depthOf(out.Attributes)
		d.Queue = name
		r.report.Depths = append(r.report.Depths, d)
	}
}

func depthOf(attributes map[string]string) Depth {
	number := func(name types.QueueAttributeName) int {
		n, _ := strconv.Atoi(attributes[string(name)]) // what is missing counts as nothing
		return n
	}
	return Depth{
		Visible:  number(types.QueueAttributeNameApproximateNumberOfMessages),
		InFlight: number(types.QueueAttributeNameApproximateNumberOfMessagesNotVisible),
		Delayed:  number(types.QueueAttributeNameApproximateNumberOfMessagesDelayed),
	}
}
