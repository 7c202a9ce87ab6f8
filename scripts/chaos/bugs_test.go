package chaos

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/waybillhq/waybill/functions/wiring"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waiting"
	"github.com/waybillhq/waybill/shared/waybill"
)

// bug is a deliberate one: a rule of the protocol that is broken in every environment.
type bug struct {
	name  string
	seed  uint64 // that has caught it before; 0: none is known
	plant func(e *environment, p *wiring.Parts)
}

// books of an environment for bugs that need to know what was claimed.
type claims struct {
	mu sync.Mutex
	by map[delivery.ID]ledger.Claim
}

func (c *claims) of(id delivery.ID) (ledger.Claim, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	claim, ok := c.by[id]
	return claim, ok
}

// brokenLedger is a store with some of its methods replaced.
type brokenLedger struct {
	ledger.Store
	claim   func(context.Context, []ledger.Claim) []ledger.Answer
	release func(context.Context, []ledger.Release) []error
	settle  func(context.Context, []ledger.Settlement) []error
	read    func(context.Context, []delivery.ID) []ledger.Reading
}

func (b brokenLedger) Claim(ctx context.Context, c []ledger.Claim) []ledger.Answer {
	if b.claim != nil {
		return b.claim(ctx, c)
	}
	return b.Store.Claim(ctx, c)
}

func (b brokenLedger) Release(ctx context.Context, r []ledger.Release) []error {
	if b.release != nil {
		return b.release(ctx, r)
	}
	return b.Store.Release(ctx, r)
}

func (b brokenLedger) Settle(ctx context.Context, s []ledger.Settlement) []error {
	if b.settle != nil {
		return b.settle(ctx, s)
	}
	return b.Store.Settle(ctx, s)
}

func (b brokenLedger) Read(ctx context.Context, ids []delivery.ID) []ledger.Reading {
	if b.read != nil {
		return b.read(ctx, ids)
	}
	return b.Store.Read(ctx, ids)
}

// brokenRoom is a waiting room's store with some of its methods replaced.
type brokenRoom struct {
	waiting.Store
	put     func(context.Context, []waiting.Row) []error
	remove  func(context.Context, []waiting.Ref) []error
	read    func(ctx context.Context, bucket, after, before string, limit int) (waiting.Page, error)
	advance func(context.Context, int, waiting.Hour) error
}

func (b brokenRoom) Put(ctx context.Context, rows []waiting.Row) []error {
	if b.put != nil {
		return b.put(ctx, rows)
	}
	return b.Store.Put(ctx, rows)
}

func (b brokenRoom) Delete(ctx context.Context, refs []waiting.Ref) []error {
	if b.remove != nil {
		return b.remove(ctx, refs)
	}
	return b.Store.Delete(ctx, refs)
}

func (b brokenRoom) Read(ctx context.Context, bucket, after, before string, limit int) (waiting.Page, error) {
	if b.read != nil {
		return b.read(ctx, bucket, after, before, limit)
	}
	return b.Store.Read(ctx, bucket, after, before, limit)
}

func (b brokenRoom) Advance(ctx context.Context, shard int, to waiting.Hour) error {
	if b.advance != nil {
		return b.advance(ctx, shard, to)
	}
	return b.Store.Advance(ctx, shard, to)
}

// brokenQueue is a queue with its Send replaced.
type brokenQueue struct {
	queue.Queue
	send func(context.Context, []queue.Message) []error
}

func (b brokenQueue) Send(ctx context.Context, m []queue.Message) []error { return b.send(ctx, m) }

// remember has an environment know what it has claimed.
func remember(p *wiring.Parts, use func(ledger.Store)) *claims {
	known := &claims{by: map[delivery.ID]ledger.Claim{}}
	p.WrapLedger = func(s ledger.Store) ledger.Store {
		use(s)
		return brokenLedger{Store: s, claim: func(ctx context.Context, c []ledger.Claim) []ledger.Answer {
			answers := s.Claim(ctx, c)
			known.mu.Lock()
			defer known.mu.Unlock()
			for i, a := range answers {
				if a.Err == nil && a.Verdict == ledger.Granted {
					known.by[c[i].Delivery] = c[i]
				}
			}
			return answers
		}}
	}
	return known
}

// sends replaces what an environment sends to a queue.
func sends(p *wiring.Parts, to topology.QueueName, send func(next queue.Queue, ctx context.Context, m []queue.Message) []error) {
	before := p.WrapQueue
	p.WrapQueue = func(n topology.QueueName, q queue.Queue) queue.Queue {
		if before != nil {
			q = before(n, q)
		}
		if n != to {
			return q
		}
		return brokenQueue{q, func(ctx context.Context, m []queue.Message) []error { return send(q, ctx, m) }}
	}
}

// rewritten gives messages with their deliveries changed.
func rewritten(messages []queue.Message, change func(*delivery.Message) bool) []queue.Message {
	changed := make([]queue.Message, len(messages))
	for i, m := range messages {
		changed[i] = m
		if d, err := delivery.Decode(m.Body); err == nil && change(&d) {
			if body, err := d.Encode(delivery.MaxBytes); err == nil {
				changed[i].Body = body
			}
		}
	}
	return changed
}

func onClaim(p *wiring.Parts, do func(ctx context.Context, next ledger.Store, c []ledger.Claim) []ledger.Answer) {
	p.WrapLedger = func(s ledger.Store) ledger.Store {
		return brokenLedger{Store: s, claim: func(ctx context.Context, c []ledger.Claim) []ledger.Answer { return do(ctx, s, c) }}
	}
}

var bugs = []bug{
	{"settled before the successor or dead letter is sent", 10, func(_ *environment, p *wiring.Parts) {
		var store ledger.Store
		known := remember(p, func(s ledger.Store) { store = s })
		early := func(next queue.Queue, ctx context.Context, messages []queue.Message) []error {
			for _, m := range messages {
				d, err := delivery.Decode(m.Body)
				c, claimed := known.of(d.Delivery)
				if err != nil || !claimed || d.Outcome != nil || d.Epoch == c.Epoch && d.Attempt <= c.Attempt {
					continue
				}
				s := ledger.Settlement{Delivery: c.Delivery, Epoch: c.Epoch, Attempt: c.Attempt, Owner: c.Owner, State: ledger.Waiting, Now: time.Now(), ExpiresAt: c.ExpiresAt}
				if d.Epoch > c.Epoch {
					s.State = ledger.Dead
				}
				store.Settle(ctx, []ledger.Settlement{s})
			}
			return next.Send(ctx, messages)
		}
		sends(p, topology.Deliveries, early)
		sends(p, topology.DeliveriesDeadLetter, early)
	}},
	{"dead letters keep epoch and attempt", 2, func(_ *environment, p *wiring.Parts) {
		known := remember(p, func(ledger.Store) {})
		sends(p, topology.DeliveriesDeadLetter, func(next queue.Queue, ctx context.Context, messages []queue.Message) []error {
			return next.Send(ctx, rewritten(messages, func(d *delivery.Message) bool {
				c, claimed := known.of(d.Delivery)
				if claimed {
					d.Epoch, d.Attempt = c.Epoch, c.Attempt
				}
				return claimed
			}))
		})
	}},
	{"acknowledged although the send failed", 9, func(_ *environment, p *wiring.Parts) {
		sends(p, topology.Deliveries, func(next queue.Queue, ctx context.Context, messages []queue.Message) []error {
			next.Send(ctx, messages)
			return make([]error, len(messages))
		})
	}},
	{"rows deleted whatever their token", 26, func(_ *environment, p *wiring.Parts) {
		p.WrapRoom = func(s waiting.Store) waiting.Store {
			return brokenRoom{Store: s, remove: func(ctx context.Context, refs []waiting.Ref) []error {
				blind := make([]waiting.Ref, len(refs))
				for i, ref := range refs {
					blind[i] = ref
					page, _ := s.Read(ctx, ref.Bucket, "", "", 1000)
					for _, row := range page.Rows {
						if row.Key == ref.Key {
							blind[i].Token = row.Token
						}
					}
				}
				return s.Delete(ctx, blind)
			}}
		}
	}},
	{"rows deleted before they are sent", 3, func(_ *environment, p *wiring.Parts) {
		var store waiting.Store
		var mu sync.Mutex
		refs := map[string]waiting.Ref{}
		p.WrapRoom = func(s waiting.Store) waiting.Store {
			store = s
			return brokenRoom{Store: s, read: func(ctx context.Context, bucket, after, before string, limit int) (waiting.Page, error) {
				page, err := s.Read(ctx, bucket, after, before, limit)
				mu.Lock()
				defer mu.Unlock()
				for _, row := range page.Rows {
					if body, err := row.Message(); err == nil {
						refs[body] = row.Ref()
					}
				}
				return page, err
			}}
		}
		sends(p, topology.Deliveries, func(next queue.Queue, ctx context.Context, messages []queue.Message) []error {
			var gone []waiting.Ref
			mu.Lock()
			for _, m := range messages {
				if ref, ok := refs[m.Body]; ok {
					gone = append(gone, ref)
				}
			}
			mu.Unlock()
			if len(gone) > 0 {
				store.Delete(ctx, gone)
			}
			return next.Send(ctx, messages)
		})
	}},
	{"leases of a second", 1, func(_ *environment, p *wiring.Parts) {
		onClaim(p, func(ctx context.Context, next ledger.Store, c []ledger.Claim) []ledger.Answer {
			for i := range c {
				c[i].LeaseUntil = c[i].Now.Add(time.Second)
			}
			return next.Claim(ctx, c)
		})
	}},
	{"leases ignored at the claim", 10, func(_ *environment, p *wiring.Parts) {
		onClaim(p, func(ctx context.Context, next ledger.Store, c []ledger.Claim) []ledger.Answer {
			for i := range c {
				c[i].Now = c[i].Now.Add(10 * time.Minute)
			}
			return next.Claim(ctx, c)
		})
	}},
	{"outcomes that repeat the effect", 236, func(_ *environment, p *wiring.Parts) {
		sends(p, topology.Deliveries, func(next queue.Queue, ctx context.Context, messages []queue.Message) []error {
			return next.Send(ctx, rewritten(messages, func(d *delivery.Message) bool {
				had := d.Outcome != nil
				d.Outcome = nil
				return had
			}))
		})
	}},
	{"hours closed early", 3, func(_ *environment, p *wiring.Parts) {
		p.WrapRoom = func(s waiting.Store) waiting.Store {
			return brokenRoom{Store: s, advance: func(ctx context.Context, shard int, to waiting.Hour) error { return s.Advance(ctx, shard, to+2) }}
		}
	}},
	{"marks written after the rows", 3, func(_ *environment, p *wiring.Parts) {
		p.WrapRoom = func(s waiting.Store) waiting.Store {
			var mu sync.Mutex
			var marks []waiting.Row
			return brokenRoom{Store: s, put: func(ctx context.Context, rows []waiting.Row) []error {
				mu.Lock()
				defer mu.Unlock()
				if !rows[0].Held() {
					marks = append(marks, rows...)
					return make([]error, len(rows))
				}
				errs := s.Put(ctx, rows)
				if len(marks) > 0 {
					s.Put(ctx, marks)
					marks = nil
				}
				return errs
			}}
		}
	}},
	{"unspent attempts settled as waiting", 10, func(_ *environment, p *wiring.Parts) {
		p.WrapLedger = func(s ledger.Store) ledger.Store {
			return brokenLedger{Store: s, release: func(ctx context.Context, releases []ledger.Release) []error {
				settlements := make([]ledger.Settlement, len(releases))
				for i, r := range releases {
					settlements[i] = ledger.Settlement{Delivery: r.Delivery, Epoch: r.Epoch, Attempt: r.Attempt, Owner: r.Owner, State: ledger.Waiting, Now: r.Now, ExpiresAt: r.Now.Add(24 * time.Hour)}
				}
				return s.Settle(ctx, settlements)
			}}
		}
	}},
	{"claims of others released", 10, func(_ *environment, p *wiring.Parts) {
		onClaim(p, func(ctx context.Context, next ledger.Store, c []ledger.Claim) []ledger.Answer {
			answers := next.Claim(ctx, c)
			for i, a := range answers {
				if a.Err == nil && a.Verdict == ledger.Busy && a.Item != nil {
					next.Release(ctx, []ledger.Release{{Delivery: c[i].Delivery, Epoch: a.Item.Epoch, Attempt: a.Item.Attempt, Owner: a.Item.Owner, Now: c[i].Now}})
				}
			}
			return answers
		})
	}},
	{"duplicates not recognised", 1, func(_ *environment, p *wiring.Parts) {
		onClaim(p, func(ctx context.Context, next ledger.Store, c []ledger.Claim) []ledger.Answer {
			answers := next.Claim(ctx, c)
			for i, a := range answers {
				if a.Err == nil && a.Verdict == ledger.Duplicate {
					answers[i] = ledger.Answer{Verdict: ledger.Granted}
				}
			}
			return answers
		})
	}},
	{"retries without their wait", 10, func(_ *environment, p *wiring.Parts) {
		sends(p, topology.Deliveries, func(next queue.Queue, ctx context.Context, messages []queue.Message) []error {
			for i, m := range messages {
				if d, err := delivery.Decode(m.Body); err == nil && d.Attempt > 1 && len(m.Attributes) == 0 { // a successor, not a copy
					messages[i].Delay = 0
				}
			}
			return next.Send(ctx, messages)
		})
	}},
	{"watermarks that go back", 3, func(e *environment, p *wiring.Parts) {
		if e.function == topology.Waker {
			p.AWS.HTTPClient = rewriting{p.AWS.HTTPClient, e}
		}
	}},
	{"results that could not be written acknowledged", 35, func(_ *environment, p *wiring.Parts) {
		p.WrapLedger = func(s ledger.Store) ledger.Store {
			return brokenLedger{Store: s, settle: func(ctx context.Context, settlements []ledger.Settlement) []error {
				s.Settle(ctx, settlements)
				return make([]error, len(settlements))
			}}
		}
	}},
	{"parked deliveries spend an attempt", 5, func(_ *environment, p *wiring.Parts) {
		p.WrapRoom = func(s waiting.Store) waiting.Store {
			return brokenRoom{Store: s, put: func(ctx context.Context, rows []waiting.Row) []error {
				for i, row := range rows {
					if m, err := waiting.Unpack(row); err == nil && m.Probes == 0 && strings.HasPrefix(row.Bucket, "parked#") {
						rows[i].Body = spent(m)
					}
				}
				return s.Put(ctx, rows)
			}}
		}
	}},
	{"passed on to the slow lane although the send failed", 271, func(_ *environment, p *wiring.Parts) {
		sends(p, topology.DeliveriesSlow, func(next queue.Queue, ctx context.Context, messages []queue.Message) []error {
			next.Send(ctx, messages)
			return make([]error, len(messages))
		})
	}},
	{"passing on to the slow lane spends an attempt", 20, func(e *environment, p *wiring.Parts) {
		if e.function != topology.Deliverer { // what the lane sends again is a copy
			return
		}
		sends(p, topology.DeliveriesSlow, func(next queue.Queue, ctx context.Context, messages []queue.Message) []error {
			return next.Send(ctx, rewritten(messages, func(d *delivery.Message) bool {
				d.Attempt++
				return true
			}))
		})
	}},
	{"replays that forget their epoch", 1, func(_ *environment, p *wiring.Parts) {
		onClaim(p, func(ctx context.Context, next ledger.Store, c []ledger.Claim) []ledger.Answer {
			for i := range c {
				if c[i].Replay {
					c[i].Epoch = 0
				}
			}
			return next.Claim(ctx, c)
		})
	}},
	{"replays made for each copy", 18, func(_ *environment, p *wiring.Parts) {
		onClaim(p, func(ctx context.Context, next ledger.Store, c []ledger.Claim) []ledger.Answer {
			answers := next.Claim(ctx, c)
			for i, a := range answers {
				if a.Err == nil && a.Verdict == ledger.Duplicate && c[i].Replay {
					answers[i] = ledger.Answer{Verdict: ledger.Granted}
				}
			}
			return answers
		})
	}},
	{"retries of a replay under the old id", 18, func(_ *environment, p *wiring.Parts) {
		sends(p, topology.Deliveries, func(next queue.Queue, ctx context.Context, messages []queue.Message) []error {
			return next.Send(ctx, rewritten(messages, func(d *delivery.Message) bool {
				had := d.NewID && d.Attempt > 1
				d.NewID = d.NewID && !had
				return had
			}))
		})
	}},
	{"deliveries of removed destinations dropped", 47, func(_ *environment, p *wiring.Parts) {
		sends(p, topology.DeliveriesDeadLetter, func(next queue.Queue, ctx context.Context, messages []queue.Message) []error {
			kept := slices.DeleteFunc(slices.Clone(messages), func(m queue.Message) bool {
				_, _, note, err := waybill.Detach(m.Body, m.Attributes)
				return err == nil && note.Reason == "unknown-destination"
			})
			errs := make([]error, len(messages))
			if len(kept) == len(messages) {
				return next.Send(ctx, messages)
			}
			return errs // as if they had been sent
		})
	}},
	{"changes of the destinations file overlooked", 117, func(e *environment, p *wiring.Parts) { p.Destinations = e.world.filed }},
	{"passed on to the slow lane after the answer", 70, func(_ *environment, p *wiring.Parts) {
		sends(p, topology.DeliveriesSlow, func(next queue.Queue, ctx context.Context, messages []queue.Message) []error {
			go next.Send(context.WithoutCancel(ctx), messages)
			return make([]error, len(messages))
		})
	}},
	{"results written after the answer", 1, func(_ *environment, p *wiring.Parts) {
		p.WrapLedger = func(s ledger.Store) ledger.Store {
			return brokenLedger{Store: s, settle: func(ctx context.Context, settlements []ledger.Settlement) []error {
				go s.Settle(context.WithoutCancel(ctx), settlements)
				return make([]error, len(settlements))
			}}
		}
	}},
	{"open breakers let everybody pass", 10, func(_ *environment, p *wiring.Parts) { p.AWS.HTTPClient = blind{p.AWS.HTTPClient} }},
	{"a rate for each environment", 57, func(e *environment, p *wiring.Parts) { p.AWS.HTTPClient = apart{p.AWS.HTTPClient, e.number} }},
}

// spent is the body of a row with a delivery whose attempt was counted without being made.
func spent(m delivery.Message) []byte {
	m.Attempt++
	body, err := m.Encode(delivery.MaxBytes)
	if err != nil {
		panic(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err = io.WriteString(z, body)
	if err = errors.Join(err, z.Close()); err != nil {
		panic(err)
	}
	return zipped.Bytes()
}

// blind hides from an environment how destinations fare.
type blind struct{ next aws.HTTPClient }

func (c blind) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	response, err := c.next.Do(r)
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if err != nil || response.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"health"`)) {
		return response, err
	}
	if operation != "Query" && operation != "GetItem" {
		return response, nil
	}
	answer, err := io.ReadAll(response.Body)
	return answerWith(http.StatusOK, phase.ReplaceAll(answer, nil)), err
}

// phase is the attribute of a breaker's row that says whether deliveries are held.
var phase = regexp.MustCompile(`"phase":\{"S":"[^"]*"\},?`)

// apart has an environment keep a destination's rate by itself.
type apart struct {
	next   aws.HTTPClient
	number int
}

func (c apart) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	own := bytes.ReplaceAll(body, []byte(`"limit#`), fmt.Appendf(nil, `"limit#%d#`, c.number))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(own)), int64(len(own))
	return c.next.Do(r)
}

// rewriting takes the condition off what advances a watermark, and has every third write go back.
type rewriting struct {
	next aws.HTTPClient
	env  *environment
}

func (c rewriting) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(body, []byte("#hour")) {
		var document map[string]any
		if err := json.Unmarshal(body, &document); err != nil {
			return nil, err
		}
		delete(document, "ConditionExpression")
		if c.env.random() < 0.3 {
			document["ExpressionAttributeValues"] = map[string]any{":to": map[string]any{"N": "262900"}}
		}
		if body, err = json.Marshal(document); err != nil {
			return nil, err
		}
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return c.next.Do(r)
}

var (
	bugSeeds = flag.Int("bug-seeds", defaultBugSeeds, "within how many seeds TestBugsAreCaught must catch each bug")
	cold     = flag.Bool("cold", false, "count the seeds that it takes to catch each bug, from the first on")
	bugName  = flag.String("bug", "", "the only bug, by a part of its name, that TestBugsAreCaught plants")
)

// TestBugsAreCaught: a harness that finds nothing proves something only if it finds what is there. A seed that has caught the bug before is tried first;
// if it does not any more, or with -cold, seeds are played from the first on.
func TestBugsAreCaught(t *testing.T) {
	if *bugSeeds == 0 {
		t.Skip("not under the race detector: ask for it with -bug-seeds")
	}
	for _, b := range bugs {
		if !strings.Contains(b.name, *bugName) {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			if b.seed != 0 && !*cold && len(play(t, b.seed, mask{}, &b, false).breaches) > 0 {
				return
			}
			for n := range uint64(*bugSeeds) {
				r := play(t, *first+n, mask{}, &b, false)
				if len(r.breaches) > 0 {
					fmt.Printf("%-55s caught by seed %4d, after %4d seeds: %.150s\n", b.name, r.seed, n+1, r.breaches[0])
					return
				}
			}
			t.Errorf("not caught within %d seeds", *bugSeeds)
		})
	}
}
