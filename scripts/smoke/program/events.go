package program

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/ledger"
	ledgerdynamo "github.com/waybillhq/waybill/shared/ledger/dynamo"
	"github.com/waybillhq/waybill/shared/pattern"
	"github.com/waybillhq/waybill/shared/redrive"
	"github.com/waybillhq/waybill/shared/registry"
	registrydynamo "github.com/waybillhq/waybill/shared/registry/dynamo"
	"github.com/waybillhq/waybill/shared/terminal"
	"github.com/waybillhq/waybill/shared/topology"
)

// flow is the part that sends events. Every event goes to a destination at a forbidden address, so that its delivery is claimed, rejected, settled
// as dead, and lies in the dead-letter queue; that needs nobody who receives. With a receiver every event goes there, too.
type flow struct {
	*session
	store  registry.Store
	ledger *ledgerdynamo.ItemStore
	arns   map[topology.QueueName]string

	messages []message // that were sent
	sent     map[delivery.ID]bool
	refused  bool // a message that is no event was sent
	posted   bool // something was sent, or may have been
}

// Names of checks of this part.
const (
	checkDestinations = "destinations"
	checkDuplicate    = "duplicate event"
	checkRefused      = "refused event"
	checkLetters      = "dead letters"
	checkRedrive      = "redrive"
	checkNative       = "native redrive"
	checkReceiver     = "receiver"
	checkCleaning     = "cleaning"
)

// ledgerPause is the pause between two looks into the ledger.
const ledgerPause = 2 * time.Second

func (s *session) events(ctx context.Context) {
	f := &flow{session: s, arns: map[topology.QueueName]string{}, sent: map[delivery.ID]bool{}}
	if v := s.tell(ctx, checkDestinations, f.prepare); v.Verdict != verdictOK {
		if f.store != nil { // an answer may have been lost
			f.clean(ctx)
		}
		return
	}
	defer f.clean(ctx)
	if !f.envelopes(ctx) {
		s.tell(ctx, checkLetters, func(context.Context) verdict {
			return skipped("not every event has become a delivery that is dead, so the letters cannot be told; duplicates and redrives were not tried either")
		})
		return
	}
	s.tell(ctx, checkDuplicate, f.duplicate)
	s.tell(ctx, checkRefused, f.refuse)
	if v := s.tell(ctx, checkLetters, f.letters); v.Verdict != verdictOK {
		return
	}
	s.tell(ctx, checkRedrive, f.redrive)
	s.tell(ctx, checkNative, f.native)
}

// prepare finds out whether events may be sent, and puts the destinations into the registry.
func (f *flow) prepare(ctx context.Context) verdict {
	if v, ok := f.readsRegistry(ctx); !ok {
		return v
	}
	var err error
	if f.messages, err = messages(); err != nil {
		return unanswered(err)
	}
	for name, url := range f.queues {
		have, err := f.attributes(ctx, name)
		if err != nil {
			return unanswered(err)
		}
		if f.arns[name] = have["QueueArn"]; f.arns[name] == "" {
			return failed("the ARN of "+url, "none", "look whether that is the URL of a queue")
		}
	}
	if f.ledger, err = ledgerdynamo.NewItem(f.tablesAPI, f.tables[topology.Ledger], ledgerdynamo.Options{}); err != nil {
		return unanswered(err)
	}
	store, err := registrydynamo.New(f.tablesAPI, f.tables[topology.Registry], registrydynamo.Options{})
	if err != nil {
		return unanswered(err)
	}
	_, _, set, err := inForce(ctx, store)
	if err != nil {
		return unanswered(err)
	}
	if others := f.others(set); len(others) > 0 && !f.othersToo {
		return skipped("these destinations of others would receive the events, because they are for every tenant: %s. If they may, say -others-too", list(others))
	}
	f.store = store
	if err := f.addOurs(ctx, store); err != nil {
		return unanswered(err)
	}
	if err := wait(ctx, follows()); err != nil {
		return unanswered(err)
	}
	return holds("added to the registry for this run, with the tenant %s; all functions know of them within %v", Tenant, follows())
}

// follows is how long it takes until all functions know of a change of the registry.
func follows() time.Duration {
	return topology.New(topology.LowLatency).Limits.RegistryAge + 2*time.Second
}

// readsRegistry looks whether the router reads destinations from the registry, and takes the tenant from messages. Where nobody can tell, it does.
func (f *flow) readsRegistry(ctx context.Context) (verdict, bool) {
	if f.noFunctions(topology.Router) != "" {
		return verdict{}, true
	}
	name, alias, ok := functionOf(f.functions[topology.Router])
	if !ok {
		return failed("the ARN of an alias", f.functions[topology.Router], "correct "+topology.Router.AliasVariable()), false
	}
	out, err := f.functionAPI.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name, Qualifier: &alias})
	if err != nil {
		return unanswered(err), false
	}
	if out.Environment == nil {
		return verdict{}, true
	}
	switch variables := out.Environment.Variables; {
	case variables[topology.DestinationsVariable] != "":
		return skipped("the stack is deployed with a destinations file, and reads no registry to which destinations could be added for a while"), false
	case variables[topology.TenantVariable] != "" && variables[topology.TenantVariable] != Tenant:
		return skipped("everything on the ingress queue belongs to the tenant %s, so events cannot be sent for one of our own", variables[topology.TenantVariable]), false
	}
	return verdict{}, true
}

// others are the destinations that would receive one of the events and are not ours.
func (f *flow) others(set *registry.Set) []string {
	found := map[string]bool{}
	probe := append(slices.Clone(f.messages), f.structured("proof"))
	for i := range probe {
		held, err := probe[i].events()
		if err != nil {
			continue // it was decoded before
		}
		for n := range held {
			for _, d := range set.Match(Tenant, pattern.NewEvent(held[n].Attributes(), held[n].Data)) {
				if d.Tenant != Tenant {
					found[d.ID] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// deliveries gives the ids of the deliveries of a message to one of our destinations, by event id.
func (f *flow) deliveries(m *message, suffix string) map[string]delivery.ID {
	held, err := m.events()
	if err != nil {
		return nil // it was decoded before
	}
	all := map[string]delivery.ID{}
	for i := range held {
		all[held[i].ID] = delivery.NewID(Tenant, held[i].Source, held[i].ID, f.run+suffix)
	}
	return all
}

// post sends messages and remembers which deliveries they make.
func (f *flow) post(ctx context.Context, all ...*message) error {
	for _, m := range all {
		if _, err := m.events(); err != nil {
			return err
		}
		f.posted, f.sentEvents = true, true
		if err := f.send(ctx, m, f.queues[topology.Ingress], f.arns[topology.Ingress]); err != nil {
			return err
		}
		for _, suffix := range []string{rejectedSuffix, deliveredSuffix} {
			if suffix == deliveredSuffix && f.receiver == "" {
				continue
			}
			for _, id := range f.deliveries(m, suffix) {
				f.sent[id] = true
			}
		}
	}
	return nil
}

// read looks deliveries up in the ledger. What is not there yet is nil.
func (f *flow) read(ctx context.Context, ids []delivery.ID) (map[delivery.ID]*ledger.Item, error) {
	items := map[delivery.ID]*ledger.Item{}
	for i, r := range f.ledger.Read(ctx, ids) {
		if r.Err != nil {
			return nil, r.Err
		}
		items[ids[i]] = r.Item
	}
	return items, nil
}

// await waits until each delivery is as it should be, and gives what the ledger said last.
func (f *flow) await(ctx context.Context, ids []delivery.ID, as func(*ledger.Item) bool) (items map[delivery.ID]*ledger.Item, all bool, err error) {
	all, err = until(ctx, f.patience, ledgerPause, func() (bool, error) {
		var err error
		if items, err = f.read(ctx, ids); err != nil {
			return false, err
		}
		for _, item := range items {
			if item == nil || !as(item) {
				return false, nil
			}
		}
		return true, nil
	})
	return items, all, err
}

// rejected tells whether a delivery was rejected for its address, in that epoch or a later one, and is settled.
func rejected(epoch int) func(*ledger.Item) bool {
	return func(i *ledger.Item) bool {
		return i.State == ledger.Dead && i.Reason == downstream.ReasonBlockedAddress && i.Epoch >= epoch
	}
}

func delivered(i *ledger.Item) bool { return i.State == ledger.Delivered }

// state says where a delivery stands.
func state(i *ledger.Item) string {
	if i == nil {
		return "no waybill"
	}
	text := fmt.Sprintf("%s, epoch %d, attempt %d", i.State, i.Epoch, i.Attempt)
	if i.Reason != "" {
		text += ", " + i.Reason
	}
	return text
}

const lookAtPath = "ask where they are: go run ./scripts/deliveries -event ID; look at the logs of router and deliverer, and into the dead-letter queues. " +
	"no waybill: the router did not route it or the deliverer does not run. connection-refused: the deliverer's egress guard lets loopback addresses pass"

// envelopes sends every sample and waits for it, and gives a verdict for each kind of envelope. It tells whether all have become what they should.
func (f *flow) envelopes(ctx context.Context) bool {
	var sending error
	for i := range f.messages {
		if sending = f.post(ctx, &f.messages[i]); sending != nil {
			break
		}
	}
	if sending != nil {
		f.tell(ctx, "envelopes", func(context.Context) verdict { return unanswered(sending) })
		return false
	}
	all := f.judge(ctx, rejectedSuffix, rejected(0), "rejected, and in the ledger as dead", func(form string) string { return "envelope " + form })
	if f.receiver != "" {
		f.judge(ctx, deliveredSuffix, delivered, "delivered", func(form string) string { return checkReceiver + ", " + form })
	}
	return all
}

// judge waits for the deliveries to a destination and gives a verdict for each form.
func (f *flow) judge(ctx context.Context, suffix string, as func(*ledger.Item) bool, means string, check func(form string) string) bool {
	byForm := map[string][]*message{}
	var ids []delivery.ID
	for i := range f.messages {
		m := &f.messages[i]
		byForm[m.form] = append(byForm[m.form], m)
		ids = slices.AppendSeq(ids, maps.Values(f.deliveries(m, suffix)))
	}
	items, _, err := f.await(ctx, ids, as)
	all := true
	for _, form := range slices.Sorted(maps.Keys(byForm)) {
		v := f.tell(ctx, check(form), func(context.Context) verdict {
			if err != nil {
				return unanswered(err)
			}
			return f.judgeForm(byForm[form], suffix, items, as, means)
		})
		all = all && v.Verdict == verdictOK
	}
	return all
}

func (f *flow) judgeForm(of []*message, suffix string, items map[delivery.ID]*ledger.Item, as func(*ledger.Item) bool, means string) verdict {
	n := 0
	var wrong []string
	for _, m := range of {
		for event, id := range f.deliveries(m, suffix) {
			n++
			if i := items[id]; i == nil || !as(i) {
				wrong = append(wrong, fmt.Sprintf("%s, event %s: %s", m.name, event, state(i)))
			}
		}
	}
	slices.Sort(wrong)
	if len(wrong) > 0 {
		return failed(fmt.Sprintf("%s %s within %v", terminal.Plural(n, "event"), means, f.patience), list(wrong), lookAtPath)
	}
	return holds("%s, %s: %s", terminal.Plural(len(of), "message"), terminal.Plural(n, "event"), means)
}

// quiet is how long nothing may happen, after a later event has come through, before what did not happen counts as not happening.
const quiet = 10 * time.Second

// duplicate sends an event again, and after it another one, and looks whether the waybill of the first one is untouched when the second is done.
func (f *flow) duplicate(ctx context.Context) verdict {
	first, later := f.structured("twice"), f.structured("proof")
	if err := f.post(ctx, &first); err != nil {
		return unanswered(err)
	}
	ids := slices.Collect(maps.Values(f.deliveries(&first, rejectedSuffix)))
	before, ok, err := f.await(ctx, ids, rejected(0))
	switch {
	case err != nil:
		return unanswered(err)
	case !ok:
		return failed("the event rejected within "+f.patience.String(), state(before[ids[0]]), lookAtPath)
	}
	if err := f.post(ctx, &first, &first, &later); err != nil {
		return unanswered(err)
	}
	proof := slices.Collect(maps.Values(f.deliveries(&later, rejectedSuffix)))
	if seen, ok, err := f.await(ctx, proof, rejected(0)); err != nil || !ok {
		if err != nil {
			return unanswered(err)
		}
		return failed("a later event rejected within "+f.patience.String(), state(seen[proof[0]]), lookAtPath)
	}
	if err := wait(ctx, quiet); err != nil {
		return unanswered(err)
	}
	after, err := f.read(ctx, ids)
	if err != nil {
		return unanswered(err)
	}
	if a, b := before[ids[0]], after[ids[0]]; b == nil || a.Owner != b.Owner || !a.UpdatedAt.Equal(b.UpdatedAt) || a.Epoch != b.Epoch || a.Attempt != b.Attempt {
		return failed("the waybill as it was: "+state(a), state(b)+", written again", "the ledger does not hold: do not go live, and report it")
	}
	return holds("an event sent three times is one delivery, claimed and settled once")
}

// refuse sends a message that means to be an event and is none.
func (f *flow) refuse(ctx context.Context) verdict {
	m := message{name: "no event", in: events.Input{Body: `{"specversion":"1.0","source":"/waybill/smoke","type":"waybill.smoke"}`, GroupID: Tenant}}
	if _, err := m.events(); err == nil {
		return failed("a message that is no event", "it is one", "report it")
	}
	f.refused = true
	if err := f.send(ctx, &m, f.queues[topology.Ingress], f.arns[topology.Ingress]); err != nil {
		return unanswered(err)
	}
	var report redrive.Report
	ok, err := until(ctx, f.patience, ledgerPause, func() (bool, error) {
		var err error
		report, err = f.count(ctx, topology.IngressDeadLetter, redrive.Filter{Tenants: []string{Tenant}})
		return report.Matched > 0, err
	})
	switch {
	case err != nil:
		return unanswered(err)
	case !ok:
		return failed("it lies in the ingress dead-letter queue, with its reason, within "+f.patience.String(), "nothing of our tenant among "+terminal.Plural(report.Looked, "message"),
			"look at the log of the router, and whether it is allowed to send to that queue")
	}
	if reason := report.Groups[0].Reason; reason == redrive.ReasonReceiveCount {
		return failed("a reason", "none: SQS itself moved it, after it was received too often", "look at the log of the router: it fails or panics on bad messages")
	}
	return holds("in the ingress dead-letter queue at once, with the reason %s", report.Groups[0].Reason)
}

// count looks at letters without moving them.
func (f *flow) count(ctx context.Context, queue topology.QueueName, filter redrive.Filter) (redrive.Report, error) {
	return f.move(ctx, redrive.Config{SQS: f.queuesAPI, From: queue, Filter: filter, DryRun: true})
}

// move runs a redrive of ours.
func (f *flow) move(ctx context.Context, cfg redrive.Config) (redrive.Report, error) {
	to := topology.Deliveries
	if cfg.From == topology.IngressDeadLetter {
		to = topology.Ingress
	}
	cfg.FromURL, cfg.ToURL, cfg.Rate = f.queues[cfg.From], f.queues[to], redrive.MaxRate
	r, err := redrive.New(cfg)
	if err != nil {
		return redrive.Report{}, err
	}
	return r.Run(ctx)
}

// toRejected selects the letters of this run's destination that rejects.
func (f *flow) toRejected() redrive.Filter {
	return redrive.Filter{Destinations: []string{f.run + rejectedSuffix}, Tenants: []string{Tenant}}
}

// wantedLetters is one for each delivery to the destination that rejects.
func (f *flow) wantedLetters() []delivery.ID {
	all := map[delivery.ID]bool{}
	of := slices.Clone(f.messages)
	for _, extra := range []message{f.structured("twice"), f.structured("proof")} {
		for _, id := range f.deliveries(&extra, rejectedSuffix) {
			if f.sent[id] {
				of = append(of, extra)
			}
		}
	}
	for i := range of {
		for _, id := range f.deliveries(&of[i], rejectedSuffix) {
			all[id] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// letters counts the letters of this run: one for each delivery, with its reason.
func (f *flow) letters(ctx context.Context) verdict {
	want := len(f.wantedLetters())
	var report redrive.Report
	ok, err := until(ctx, f.patience, ledgerPause, func() (bool, error) {
		var err error
		report, err = f.count(ctx, topology.DeliveriesDeadLetter, f.toRejected())
		return report.Matched == want, err
	})
	if err != nil {
		return unanswered(err)
	}
	var reasons []string
	for _, g := range report.Groups {
		reasons = append(reasons, fmt.Sprintf("%d with the reason %s", g.Messages, g.Reason))
	}
	if !ok || len(report.Groups) != 1 || report.Groups[0].Reason != downstream.ReasonBlockedAddress {
		return failed(fmt.Sprintf("%d letters with the reason %s", want, downstream.ReasonBlockedAddress), list(reasons),
			"a missing letter: look whether the deliverer may send to the dead-letter queue. Too many: an event was delivered twice, report it")
	}
	return holds("%s, one for each delivery", list(reasons))
}

// epoch is the largest of the deliveries to the destination that rejects.
func (f *flow) epoch(ctx context.Context) (int, error) {
	items, err := f.read(ctx, f.wantedLetters())
	largest := 0
	for _, item := range items {
		if item != nil {
			largest = max(largest, item.Epoch)
		}
	}
	return largest, err
}

// redrive moves our letters back with our own redrive. They must be tried again, and be rejected again, in the next epoch.
func (f *flow) redrive(ctx context.Context) verdict {
	ids := f.wantedLetters()
	before, err := f.epoch(ctx)
	if err != nil {
		return unanswered(err)
	}
	report, err := f.move(ctx, redrive.Config{SQS: f.queuesAPI, From: topology.DeliveriesDeadLetter, Filter: f.toRejected()})
	switch {
	case err != nil:
		return unanswered(err)
	case report.Moved != len(ids) || report.Failed+report.Undeleted > 0:
		return failed(fmt.Sprintf("%d letters moved back", len(ids)), fmt.Sprintf("%d moved, %d not accepted, %d not deleted", report.Moved, report.Failed, report.Undeleted),
			"run scripts/redrive by hand with -dry-run to see what lies there")
	}
	return f.triedAgain(ctx, ids, before+1, fmt.Sprintf("%d letters moved back", len(ids)))
}

// triedAgain waits until each delivery was rejected in that epoch.
func (f *flow) triedAgain(ctx context.Context, ids []delivery.ID, epoch int, moved string) verdict {
	items, ok, err := f.await(ctx, ids, rejected(epoch))
	if err != nil {
		return unanswered(err)
	}
	if !ok {
		var wrong []string
		for _, id := range ids {
			if i := items[id]; i == nil || !rejected(epoch)(i) {
				wrong = append(wrong, fmt.Sprintf("delivery %s: %s", id, state(i)))
			}
		}
		return failed(fmt.Sprintf("each of %d rejected again, in epoch %d", len(ids), epoch), list(wrong), lookAtPath)
	}
	return holds("%s, each tried again in epoch %d", moved, epoch)
}

// native moves our letters back with SQS's own redrive. It knows no filter, so nothing else may lie there.
func (f *flow) native(ctx context.Context) verdict {
	ids := f.wantedLetters()
	before, err := f.epoch(ctx)
	if err != nil {
		return unanswered(err)
	}
	// Every letter that the redrive before has made must be there, or it would be left behind.
	var report redrive.Report
	ok, err := until(ctx, f.patience, ledgerPause, func() (bool, error) {
		var err error
		report, err = f.count(ctx, topology.DeliveriesDeadLetter, redrive.Filter{Unreadable: true})
		return report.Matched >= len(ids), err
	})
	if err != nil {
		return unanswered(err)
	}
	ours := 0
	for _, g := range report.Groups {
		if g.Destination == f.run+rejectedSuffix {
			ours += g.Messages
		}
	}
	if others := report.Looked - ours + report.Newer + report.Unseen + report.Elsewhere; others > 0 {
		return skipped("SQS's own redrive has no filter, and about %d other messages lie in the dead-letter queue or came meanwhile", others)
	}
	if !ok || ours != len(ids) {
		return failed(fmt.Sprintf("%d letters", len(ids)), strconv.Itoa(ours), lookAtPath)
	}
	task, err := f.queuesAPI.StartMessageMoveTask(ctx, &awssqs.StartMessageMoveTaskInput{
		SourceArn: aws.String(f.arns[topology.DeliveriesDeadLetter]), DestinationArn: aws.String(f.arns[topology.Deliveries]),
	})
	if err != nil {
		return unanswered(err)
	}
	v := f.triedAgain(ctx, ids, before+1, fmt.Sprintf("%d letters moved back by SQS", len(ids)))
	if v.Verdict == verdictFailed {
		v.Seen += "; the task: " + f.taskState(ctx, aws.ToString(task.TaskHandle))
	}
	return v
}

// taskState tells how far a native redrive has come.
func (f *flow) taskState(ctx context.Context, handle string) string {
	out, err := f.queuesAPI.ListMessageMoveTasks(ctx, &awssqs.ListMessageMoveTasksInput{SourceArn: aws.String(f.arns[topology.DeliveriesDeadLetter]), MaxResults: aws.Int32(10)})
	if err != nil {
		return err.Error()
	}
	for _, r := range out.Results {
		if h := aws.ToString(r.TaskHandle); h == "" || h == handle {
			return strings.TrimSpace(fmt.Sprintf("%s, %d moved %s", aws.ToString(r.Status), r.ApproximateNumberOfMessagesMoved, aws.ToString(r.FailureReason)))
		}
	}
	return "not known to SQS"
}

// settleTime is how long cleaning up waits for what is still under way.
const settleTime = time.Minute

// clean removes what this part has made, whether or not ctx has ended: destinations first, so that nothing new is routed to them, then letters and rows.
func (f *flow) clean(ctx context.Context) {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	f.tell(ctx, checkCleaning, func(ctx context.Context) verdict {
		errs := []error{f.removeOurs(ctx, f.store)}
		pending := f.settle(ctx)
		letters, err := f.discard(ctx, topology.DeliveriesDeadLetter, redrive.Filter{Destinations: []string{f.run + "-*"}, Tenants: []string{Tenant}})
		errs = append(errs, err)
		refused := 0
		if f.refused {
			refused, err = f.discard(ctx, topology.IngressDeadLetter, redrive.Filter{Tenants: []string{Tenant}})
			errs = append(errs, err)
		}
		errs = append(errs, f.deleteRows(ctx))
		if err := errors.Join(errs...); err != nil {
			return failed("nothing left of this run", err.Error(), fmt.Sprintf("remove the destinations %s-… of the tenant %s with scripts/destinations; a run that begins in an hour does it, too", f.run, Tenant))
		}
		if pending > 0 {
			return failed("every delivery of this run settled", fmt.Sprintf("%d were not within %v", pending, settleTime),
				fmt.Sprintf("they will lie in the dead-letter queue, for destinations %s-… that no longer exist: delete them there by hand", f.run))
		}
		return holds("destinations removed, %d letters and %d waybills deleted", letters+refused, len(f.sent))
	})
}

// settle waits until nothing of this run is under way, and tells how many deliveries are even so. What has no waybill may be on its way until the
// functions know that its destination is gone, and for as long as a batch takes then; after that it is not routed, or becomes a letter.
func (f *flow) settle(ctx context.Context) (pending int) {
	if !f.posted {
		return 0
	}
	ids, began := slices.Sorted(maps.Keys(f.sent)), time.Now()
	_, _ = until(ctx, settleTime, ledgerPause, func() (bool, error) {
		items, err := f.read(ctx, ids)
		if err != nil {
			return false, err
		}
		pending = 0
		unseen := len(ids) == 0
		for _, i := range items {
			unseen = unseen || i == nil
			if i != nil && i.State != ledger.Dead && i.State != ledger.Delivered {
				pending++
			}
		}
		return pending == 0 && (!unseen || time.Since(began) >= follows()+quiet), nil
	})
	return pending
}

// discard deletes letters. It is a redrive to nowhere, because a redrive finds its letters among any number of others.
func (f *flow) discard(ctx context.Context, queue topology.QueueName, filter redrive.Filter) (int, error) {
	report, err := f.move(ctx, redrive.Config{SQS: nowhere{f.queuesAPI}, From: queue, Filter: filter})
	if err == nil && report.Undeleted+report.Failed > 0 {
		err = fmt.Errorf("%d letters in %s could not be deleted", report.Undeleted+report.Failed, queue)
	}
	return report.Moved, err
}

func (f *flow) deleteRows(ctx context.Context) error {
	var errs []error
	for id := range f.sent {
		_, err := f.tablesAPI.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: aws.String(f.tables[topology.Ledger]), Key: row{"delivery": text(string(id))}})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
