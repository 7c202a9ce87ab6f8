package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/ledger"
	"github.com/waybillhq/waybill/shared/ledger/ledgertest"
)

// counting counts the calls of a store and can fail the first of them.
type counting struct {
	ledger.Store
	claims, settles, records, reads atomic.Int32
	failFirst                       int32
	fail                            error
}

func (c *counting) Claim(ctx context.Context, claims []ledger.Claim) []ledger.Answer {
	if c.claims.Add(1) <= c.failFirst {
		out := make([]ledger.Answer, len(claims))
		for i := range out {
			out[i].Err = c.fail
		}
		return out
	}
	return c.Store.Claim(ctx, claims)
}

func (c *counting) Settle(ctx context.Context, settlements []ledger.Settlement) []error {
	if c.settles.Add(1) <= c.failFirst {
		out := make([]error, len(settlements))
		for i := range out {
			out[i] = c.fail
		}
		return out
	}
	return c.Store.Settle(ctx, settlements)
}

func (c *counting) Record(ctx context.Context, settlements []ledger.Settlement) []error {
	c.records.Add(1)
	return c.Store.Record(ctx, settlements)
}

func (c *counting) Read(ctx context.Context, ids []delivery.ID) []ledger.Reading {
	c.reads.Add(1)
	return c.Store.Read(ctx, ids)
}

func open(t *testing.T, change func(*ledger.Config)) (*ledger.Ledger, *counting) {
	t.Helper()
	store := &counting{Store: ledgertest.NewMemory()}
	cfg := ledger.Config{Store: store, LeaseGrace: 10 * time.Second, LongestLease: 70 * time.Second, TTL: time.Hour}
	if change != nil {
		change(&cfg)
	}
	l, err := ledger.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l, store
}

func verdicts(grants []ledger.Grant) string {
	words := make([]string, len(grants))
	for i, g := range grants {
		words[i] = string(g.Verdict)
		if g.Err != nil {
			words[i] = "error"
		}
	}
	return strings.Join(words, " ")
}

func TestNewListsEveryProblem(t *testing.T) {
	_, err := ledger.New(ledger.Config{})
	if err == nil {
		t.Fatal("it started")
	}
	for _, word := range []string{"Store", "LeaseGrace", "LongestLease", "TTL"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s is missing in %v", word, err)
		}
	}
}

func TestEqualDeliveriesOfABatchShareOneClaim(t *testing.T) {
	l, store := open(t, nil)
	one := ledger.Request{Delivery: "a", Attempt: 1}
	two := ledger.Request{Delivery: "b", Attempt: 1}
	grants := l.Claim(t.Context(), []ledger.Request{one, two, one, one})
	if got := verdicts(grants); got != "claimed claimed claimed claimed" {
		t.Fatal(got)
	}
	for i, leader := range []int{0, 1, 0, 0} {
		if grants[i].Leader != leader || grants[i].Owner != grants[leader].Owner {
			t.Errorf("%d: leader %d, owner %s", i, grants[i].Leader, grants[i].Owner)
		}
	}
	if store.claims.Load() != 1 {
		t.Errorf("%d calls of the store", store.claims.Load())
	}
}

func TestDifferentAttemptsOfOneDeliveryInABatch(t *testing.T) {
	l, _ := open(t, nil)
	grants := l.Claim(t.Context(), []ledger.Request{{Delivery: "a", Attempt: 1}, {Delivery: "a", Attempt: 2}, {Delivery: "a", Epoch: 1, Attempt: 1}})
	if got := verdicts(grants); got != "stale stale claimed" {
		t.Fatal(got)
	}
}

func TestLeaseIsWhatIsLeftAndGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := open(t, nil)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if got := verdicts(l.Claim(ctx, []ledger.Request{{Delivery: "a", Attempt: 1}})); got != "claimed" {
			t.Fatal(got)
		}
		busy := l.Claim(t.Context(), []ledger.Request{{Delivery: "a", Attempt: 1}})[0]
		if busy.Verdict != ledger.Busy || busy.LeaseUntil.Sub(start) != 30*time.Second {
			t.Fatalf("%s until %v", busy.Verdict, busy.LeaseUntil.Sub(start))
		}
		time.Sleep(30*time.Second - time.Millisecond)
		if got := verdicts(l.Claim(t.Context(), []ledger.Request{{Delivery: "a", Attempt: 1}})); got != "busy" {
			t.Fatal(got)
		}
		time.Sleep(time.Millisecond)
		if got := verdicts(l.Claim(t.Context(), []ledger.Request{{Delivery: "a", Attempt: 1}})); got != "claimed" {
			t.Fatal(got)
		}
		// Without a deadline, and with one that is too far, the lease is the longest.
		far, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for id, ctx := range map[delivery.ID]context.Context{"b": t.Context(), "c": far} {
			if got := time.Until(l.Claim(ctx, []ledger.Request{{Delivery: id, Attempt: 1}})[0].LeaseUntil); got != 70*time.Second {
				t.Errorf("%s: lease of %v", id, got)
			}
		}
	})
}

func TestThrottlingIsRepeatedWithinPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, store := open(t, nil)
		store.failFirst, store.fail = 3, ledger.ErrThrottled
		start := time.Now()
		if got := verdicts(l.Claim(t.Context(), []ledger.Request{{Delivery: "a", Attempt: 1}})); got != "claimed" || store.claims.Load() != 4 {
			t.Fatalf("%s after %d calls", got, store.claims.Load())
		}
		if time.Since(start) == 0 {
			t.Error("repeated without a pause")
		}
		store.claims.Store(0)
		store.failFirst = 1000
		start = time.Now()
		grant := l.Claim(t.Context(), []ledger.Request{{Delivery: "b", Attempt: 1}})[0]
		if !errors.Is(grant.Err, ledger.ErrThrottled) || time.Since(start) > 5*time.Second || time.Since(start) < 3*time.Second {
			t.Fatalf("%v after %v", grant.Err, time.Since(start))
		}
	})
}

func TestPatienceEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, store := open(t, nil)
		store.failFirst, store.fail = 1000, ledger.ErrUnknown
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		errs := l.Settle(ctx, []ledger.Close{{Delivery: "a", Attempt: 1, Owner: "o", State: ledger.Delivered}})
		if !errors.Is(errs[0], ledger.ErrUnknown) || time.Since(start) > time.Second {
			t.Fatalf("%v after %v", errs[0], time.Since(start))
		}
	})
}

// A result that could not be written, or a waybill that could not be read, is tried again, alone: what has its answer is not.
func TestWhatMayPassIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &partial{Store: ledgertest.NewMemory()}
		l, _ := open(t, func(c *ledger.Config) { c.Store = store })
		requests := []ledger.Request{{Delivery: "a", Attempt: 1}, {Delivery: "b", Attempt: 1}, {Delivery: "c", Attempt: 1, Relaxed: true}, {Delivery: "d", Attempt: 1, Relaxed: true}}
		grants := l.Claim(t.Context(), requests)
		if got := verdicts(grants); got != "claimed claimed claimed claimed" {
			t.Fatal(got)
		}
		closes := make([]ledger.Close, len(requests))
		for i, r := range requests {
			closes[i] = ledger.Close{Delivery: r.Delivery, Attempt: 1, Owner: grants[i].Owner, Unclaimed: grants[i].Unclaimed, State: ledger.Delivered}
		}
		if err := errors.Join(l.Settle(t.Context(), closes)...); err != nil {
			t.Error(err)
		}
		if want := "read 2, read 1, settle 2, settle 1, record 2, record 1"; strings.Join(store.calls, ", ") != want {
			t.Errorf("%v, want %s", store.calls, want)
		}
	})
}

// partial answers the last of several entries with throttling.
type partial struct {
	ledger.Store
	calls []string
}

func (f *partial) Read(ctx context.Context, ids []delivery.ID) []ledger.Reading {
	f.calls = append(f.calls, fmt.Sprint("read ", len(ids)))
	answers := f.Store.Read(ctx, ids)
	if len(ids) > 1 {
		answers[len(ids)-1] = ledger.Reading{Err: ledger.ErrThrottled}
	}
	return answers
}

func (f *partial) Settle(ctx context.Context, settlements []ledger.Settlement) []error {
	f.calls = append(f.calls, fmt.Sprint("settle ", len(settlements)))
	return f.but(settlements, func(s []ledger.Settlement) []error { return f.Store.Settle(ctx, s) })
}

func (f *partial) Record(ctx context.Context, settlements []ledger.Settlement) []error {
	f.calls = append(f.calls, fmt.Sprint("record ", len(settlements)))
	return f.but(settlements, func(s []ledger.Settlement) []error { return f.Store.Record(ctx, s) })
}

func (f *partial) but(settlements []ledger.Settlement, write func([]ledger.Settlement) []error) []error {
	if n := len(settlements); n > 1 {
		return append(write(settlements[:n-1]), ledger.ErrThrottled)
	}
	return write(settlements)
}

// What the account does not permit is told at once: another form of store may be tried in the time that is left.
func TestUnsupportedIsNotRepeated(t *testing.T) {
	l, store := open(t, nil)
	store.failFirst, store.fail = 1000, ledger.ErrUnsupported
	if g := l.Claim(t.Context(), []ledger.Request{{Delivery: "a", Attempt: 1}})[0]; !errors.Is(g.Err, ledger.ErrUnsupported) || store.claims.Load() != 1 {
		t.Errorf("%v after %d calls", g.Err, store.claims.Load())
	}
}

// A claim that is repeated is decided at the time of its repetition: a lease that ended meanwhile is over.
func TestRepeatedClaimSeesLeasesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, store := open(t, func(c *ledger.Config) { c.LongestLease = 2 * time.Second })
		request := []ledger.Request{{Delivery: "a", Attempt: 1}}
		l.Claim(t.Context(), request)
		time.Sleep(1990 * time.Millisecond)
		store.claims.Store(0)
		store.failFirst, store.fail = 1, ledger.ErrThrottled
		if got := verdicts(l.Claim(t.Context(), request)); got != "claimed" {
			t.Error(got)
		}
	})
}

// Every write tells when it was made and how long the waybill is kept from then on.
func TestWritesTellTheirTimes(t *testing.T) {
	now, memory := time.Now().Truncate(time.Second), ledgertest.NewMemory()
	l, _ := open(t, func(c *ledger.Config) { c.Store, c.Now = memory, func() time.Time { return now } })
	request := ledger.Request{Delivery: "a", Epoch: 1, Attempt: 2}
	grant := l.Claim(t.Context(), []ledger.Request{request})[0]
	look := func(after string, kept time.Time) {
		t.Helper()
		if row := memory.Harness().Rows(t)["a"]; !row.UpdatedAt.Equal(now) || !row.ExpiresAt.Equal(kept) {
			t.Errorf("after the %s: updated %v, kept until %v; it is %v", after, row.UpdatedAt, row.ExpiresAt, now)
		}
	}
	kept := now.Add(time.Hour)
	look("claim", kept)
	now = now.Add(time.Minute)
	if err := l.Release(t.Context(), []ledger.Request{request}, []string{grant.Owner})[0]; err != nil {
		t.Fatal(err)
	}
	look("release", kept)
	grant = l.Claim(t.Context(), []ledger.Request{request})[0]
	now = now.Add(time.Minute)
	if err := l.Settle(t.Context(), []ledger.Close{{Delivery: "a", Epoch: 1, Attempt: 2, Owner: grant.Owner, State: ledger.Waiting}})[0]; err != nil {
		t.Fatal(err)
	}
	look("result", now.Add(time.Hour))
}

func TestRefusalsAreNotRepeated(t *testing.T) {
	l, store := open(t, nil)
	errs := l.Settle(t.Context(), []ledger.Close{{Delivery: "a", Attempt: 1, Owner: "nobody", State: ledger.Delivered}})
	if !errors.Is(errs[0], ledger.ErrRefused) || store.settles.Load() != 1 {
		t.Fatalf("%v after %d calls", errs[0], store.settles.Load())
	}
}

// A claim whose answer is lost must not collide with itself, however late it is repeated within one call.
func TestRepeatedClaimKeepsItsOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := ledgertest.NewMemory()
		lost := &losing{Store: memory, times: 2}
		l, _ := open(t, func(c *ledger.Config) { c.Store = lost })
		grant := l.Claim(t.Context(), []ledger.Request{{Delivery: "a", Attempt: 1}})[0]
		if grant.Verdict != ledger.Granted || grant.Err != nil || lost.times != 0 {
			t.Fatalf("%+v", grant)
		}
		if errs := l.Settle(t.Context(), []ledger.Close{{Delivery: "a", Attempt: 1, Owner: grant.Owner, State: ledger.Delivered}}); errs[0] != nil {
			t.Fatal(errs[0])
		}
	})
}

// losing performs claims and loses the first answers.
type losing struct {
	ledger.Store
	times int
}

func (l *losing) Claim(ctx context.Context, claims []ledger.Claim) []ledger.Answer {
	answers := l.Store.Claim(ctx, claims)
	if l.times > 0 {
		l.times--
		for i := range answers {
			answers[i] = ledger.Answer{Err: ledger.ErrUnknown}
		}
	}
	return answers
}

func TestRelaxedReadsThenRecords(t *testing.T) {
	l, store := open(t, nil)
	request := ledger.Request{Delivery: "a", Attempt: 1, Relaxed: true}
	first, second := l.Claim(t.Context(), []ledger.Request{request})[0], l.Claim(t.Context(), []ledger.Request{request})[0]
	if !first.Unclaimed || first.Verdict != ledger.Granted || second.Verdict != ledger.Granted || store.claims.Load() != 0 {
		t.Fatalf("%+v %+v, %d claims", first, second, store.claims.Load())
	}
	done := ledger.Close{Delivery: "a", Attempt: 1, Owner: first.Owner, Unclaimed: true, State: ledger.Delivered}
	if errs := l.Settle(t.Context(), []ledger.Close{done}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	late := ledger.Close{Delivery: "a", Attempt: 1, Owner: second.Owner, Unclaimed: true, State: ledger.Waiting}
	if errs := l.Settle(t.Context(), []ledger.Close{late}); !errors.Is(errs[0], ledger.ErrRefused) {
		t.Fatalf("a delivered waybill was turned back: %v", errs[0])
	}
	if got := verdicts(l.Claim(t.Context(), []ledger.Request{request})); got != "duplicate" {
		t.Fatal(got)
	}
	if store.settles.Load() != 0 || store.records.Load() != 2 {
		t.Errorf("%d settles, %d records", store.settles.Load(), store.records.Load())
	}
}

// A replay in relaxed mode is made without a claim too, and its result is recorded over the one before.
func TestRelaxedReplay(t *testing.T) {
	l, store := open(t, nil)
	for epoch, replay := range []bool{false, true} {
		grant := l.Claim(t.Context(), []ledger.Request{{Delivery: "a", Epoch: epoch, Attempt: 1, Replay: replay, Relaxed: true}})[0]
		if grant.Verdict != ledger.Granted || !grant.Unclaimed {
			t.Fatalf("epoch %d: %+v", epoch, grant)
		}
		done := ledger.Close{Delivery: "a", Epoch: epoch, Attempt: 1, Replay: replay, Owner: grant.Owner, Unclaimed: true, State: ledger.Delivered}
		if errs := l.Settle(t.Context(), []ledger.Close{done}); errs[0] != nil {
			t.Fatalf("epoch %d: %v", epoch, errs[0])
		}
	}
	if store.claims.Load() != 0 {
		t.Errorf("%d claims", store.claims.Load())
	}
}

func TestRelaxedIsStrictFromTheSecondAttempt(t *testing.T) {
	l, store := open(t, nil)
	grant := l.Claim(t.Context(), []ledger.Request{{Delivery: "a", Attempt: 2, Relaxed: true}})[0]
	if grant.Unclaimed || store.claims.Load() != 1 || store.reads.Load() != 0 {
		t.Fatalf("%+v", grant)
	}
}

// TestRelaxedTakesOverTheClaimOfADeadWorker: its destination was strict when it died. A result is recorded over nobody's claim of the same attempt: made without a claim, the
// attempt was refused its result each time, and made again.
func TestRelaxedTakesOverTheClaimOfADeadWorker(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	l, store := open(t, func(c *ledger.Config) { c.Now = func() time.Time { return now } })
	request := ledger.Request{Delivery: "a", Attempt: 1}
	l.Claim(t.Context(), []ledger.Request{request})
	request.Relaxed = true
	if g := l.Claim(t.Context(), []ledger.Request{request})[0]; g.Verdict != ledger.Busy || !g.LeaseUntil.Equal(now.Add(70*time.Second)) {
		t.Fatalf("%+v, want busy until the lease of who was strict ends", g)
	}
	now = now.Add(2 * time.Minute)
	grant := l.Claim(t.Context(), []ledger.Request{request})[0]
	if grant.Verdict != ledger.Granted || grant.Unclaimed || store.claims.Load() != 2 {
		t.Fatalf("%+v after %d claims, want a claim", grant, store.claims.Load())
	}
	done := ledger.Close{Delivery: "a", Attempt: 1, Owner: grant.Owner, Unclaimed: grant.Unclaimed, State: ledger.Delivered}
	if errs := l.Settle(t.Context(), []ledger.Close{done}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	if got := verdicts(l.Claim(t.Context(), []ledger.Request{request})); got != "duplicate" {
		t.Fatal(got)
	}
}

func TestReleaseMakesTheAttemptClaimableAtOnce(t *testing.T) {
	l, _ := open(t, nil)
	request := ledger.Request{Delivery: "a", Attempt: 1}
	grant := l.Claim(t.Context(), []ledger.Request{request})[0]
	if errs := l.Release(t.Context(), []ledger.Request{request}, []string{"somebody else"}); !errors.Is(errs[0], ledger.ErrRefused) {
		t.Fatalf("anybody can release: %v", errs[0])
	}
	if got := verdicts(l.Claim(t.Context(), []ledger.Request{request})); got != "busy" {
		t.Fatal(got)
	}
	if errs := l.Release(t.Context(), []ledger.Request{request}, []string{grant.Owner}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	if got := verdicts(l.Claim(t.Context(), []ledger.Request{request})); got != "claimed" {
		t.Fatal(got)
	}
}

// A settlement and a release are their claim's alone: the same owner's of the same epoch and attempt.
func TestOnlyTheClaimCloses(t *testing.T) {
	held := ledger.Item{State: ledger.Claimed, Epoch: 2, Attempt: 3, Owner: "me"}
	for name, c := range map[string]struct {
		owner          string
		epoch, attempt int
		may            bool
	}{
		"its own": {"me", 2, 3, true}, "another owner": {"you", 2, 3, false},
		"an earlier epoch": {"me", 1, 3, false}, "a later epoch": {"me", 3, 3, false}, "an earlier attempt": {"me", 2, 2, false}, "a later attempt": {"me", 2, 4, false},
	} {
		if ledger.SettleAllowed(&held, ledger.Settlement{Owner: c.owner, Epoch: c.epoch, Attempt: c.attempt}) != c.may {
			t.Errorf("%s: settled, or not", name)
		}
		if ledger.ReleaseAllowed(&held, ledger.Release{Owner: c.owner, Epoch: c.epoch, Attempt: c.attempt}) != c.may {
			t.Errorf("%s: released, or not", name)
		}
	}
}

func TestRecordAllowed(t *testing.T) {
	item := func(state ledger.State, epoch, attempt int) *ledger.Item {
		return &ledger.Item{State: state, Epoch: epoch, Attempt: attempt, Owner: "other"}
	}
	for name, c := range map[string]struct {
		item *ledger.Item
		s    ledger.Settlement
		want bool
	}{
		"absent":                          {nil, ledger.Settlement{Attempt: 1}, true},
		"own write again":                 {&ledger.Item{State: ledger.Delivered, Attempt: 1, Owner: "me"}, ledger.Settlement{Attempt: 1, Owner: "me"}, true},
		"over delivered":                  {item(ledger.Delivered, 0, 1), ledger.Settlement{Attempt: 1}, false},
		"over delivered, later epoch":     {item(ledger.Delivered, 0, 1), ledger.Settlement{Epoch: 1, Attempt: 1}, false},
		"over delivered, replay":          {item(ledger.Delivered, 0, 1), ledger.Settlement{Epoch: 1, Attempt: 1, Replay: true}, true},
		"over delivered, replay of old":   {item(ledger.Delivered, 1, 1), ledger.Settlement{Epoch: 1, Attempt: 1, Replay: true}, false},
		"over dead, same epoch":           {item(ledger.Dead, 0, 1), ledger.Settlement{Attempt: 2}, false},
		"over dead, later epoch":          {item(ledger.Dead, 0, 3), ledger.Settlement{Epoch: 1, Attempt: 1}, true},
		"over a live claim":               {item(ledger.Claimed, 0, 1), ledger.Settlement{Attempt: 1}, false},
		"over waiting of the same":        {item(ledger.Waiting, 0, 1), ledger.Settlement{Attempt: 1}, true},
		"over a later attempt":            {item(ledger.Waiting, 0, 2), ledger.Settlement{Attempt: 1}, false},
		"over an earlier attempt":         {item(ledger.Waiting, 0, 1), ledger.Settlement{Attempt: 2}, true},
		"over an earlier epoch":           {item(ledger.Waiting, 0, 3), ledger.Settlement{Epoch: 1, Attempt: 1}, true},
		"over a later epoch":              {item(ledger.Waiting, 1, 1), ledger.Settlement{Attempt: 3}, false},
		"over a later epoch that is dead": {item(ledger.Dead, 1, 1), ledger.Settlement{Attempt: 3}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.s.Owner = "me"
			if got := ledger.RecordAllowed(c.item, c.s); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// The claim table of the protocol, row by row, as the README of this folder prints it.
func TestDecide(t *testing.T) {
	now := time.Unix(1000, 0)
	live, over := now.Add(time.Millisecond), now
	item := func(state ledger.State, epoch, attempt int, lease time.Time) *ledger.Item {
		return &ledger.Item{State: state, Epoch: epoch, Attempt: attempt, Owner: "other", LeaseUntil: lease}
	}
	mine := item(ledger.Claimed, 1, 2, live)
	mine.Owner = "me"
	for name, c := range map[string]struct {
		item   *ledger.Item
		replay bool
		want   ledger.Verdict
	}{
		"nothing":                             {nil, false, ledger.Granted},
		"delivered":                           {item(ledger.Delivered, 1, 2, over), false, ledger.Duplicate},
		"delivered in an earlier epoch":       {item(ledger.Delivered, 0, 1, over), false, ledger.Duplicate},
		"delivered, replay of a larger epoch": {item(ledger.Delivered, 0, 1, over), true, ledger.Granted},
		"delivered, replay of the same epoch": {item(ledger.Delivered, 1, 1, over), true, ledger.Duplicate},
		"dead, same epoch":                    {item(ledger.Dead, 1, 1, over), false, ledger.Stale},
		"dead, earlier epoch":                 {item(ledger.Dead, 0, 9, over), false, ledger.Granted},
		"larger attempt":                      {item(ledger.Claimed, 1, 3, over), false, ledger.Stale},
		"larger epoch":                        {item(ledger.Waiting, 2, 1, over), false, ledger.Stale},
		"same, waiting":                       {item(ledger.Waiting, 1, 2, over), false, ledger.Stale},
		"smaller attempt, waiting":            {item(ledger.Waiting, 1, 1, live), false, ledger.Granted},
		"smaller epoch, waiting":              {item(ledger.Waiting, 0, 9, live), false, ledger.Granted},
		"smaller, claimed, lease over":        {item(ledger.Claimed, 1, 1, over), false, ledger.Granted},
		"smaller, claimed, lease live":        {item(ledger.Claimed, 1, 1, live), false, ledger.Busy},
		"same, claimed by me":                 {mine, false, ledger.Granted},
		"same, claimed, lease over":           {item(ledger.Claimed, 1, 2, over), false, ledger.Granted},
		"same, claimed, released":             {item(ledger.Claimed, 1, 2, time.Time{}), false, ledger.Granted},
		"same, claimed, lease live":           {item(ledger.Claimed, 1, 2, live), false, ledger.Busy},
	} {
		t.Run(name, func(t *testing.T) {
			got := ledger.Decide(c.item, ledger.Claim{Epoch: 1, Attempt: 2, Replay: c.replay, Owner: "me", Now: now})
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// silent answers for none of the entries.
type silent struct{ *ledgertest.Memory }

func (silent) Claim(context.Context, []ledger.Claim) []ledger.Answer { return nil }
func (silent) Settle(context.Context, []ledger.Settlement) []error   { return nil }
func (silent) Record(context.Context, []ledger.Settlement) []error   { return nil }
func (silent) Read(context.Context, []delivery.ID) []ledger.Reading  { return nil }

// An entry that the store says nothing about is neither granted nor settled: callers acknowledge what is.
func TestSilenceIsNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := open(t, func(c *ledger.Config) { c.Store = silent{ledgertest.NewMemory()} })
		for _, g := range l.Claim(t.Context(), []ledger.Request{{Delivery: "a", Attempt: 1}, {Delivery: "b", Attempt: 1, Relaxed: true}}) {
			if !errors.Is(g.Err, ledger.ErrUnknown) {
				t.Errorf("claimed: %+v", g)
			}
		}
		for i, err := range l.Settle(t.Context(), []ledger.Close{{Delivery: "a", Attempt: 1, State: ledger.Delivered}, {Delivery: "b", Attempt: 1, State: ledger.Delivered, Unclaimed: true}}) {
			if !errors.Is(err, ledger.ErrUnknown) {
				t.Errorf("result %d settled: %v", i, err)
			}
		}
	})
}

// A worker knows the end of its own lease: until then nobody else can go on with what it could not finish.
func TestGrantTellsItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := open(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		grants := l.Claim(ctx, []ledger.Request{{Delivery: "a", Attempt: 1}, {Delivery: "b", Attempt: 1, Relaxed: true}})
		if got := time.Until(grants[0].LeaseUntil); got != 40*time.Second {
			t.Errorf("the lease ends in %v", got)
		}
		if !grants[1].LeaseUntil.IsZero() {
			t.Errorf("there is no claim, and yet a lease until %v", grants[1].LeaseUntil)
		}
	})
}
