package sqs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"pgregory.net/rapid"

	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/queue/sqs"
)

const (
	url     = "http://127.0.0.1:4566/000000000000/deliveries"
	fifoURL = url + ".fifo"
)

// faulty is an SQS that fails on command; what works is tested on the wire.
type faulty struct {
	mu     sync.Mutex
	sends  [][]types.SendMessageBatchRequestEntry
	change [][]types.ChangeMessageVisibilityBatchRequestEntry

	call  func(n int) error                                                // what call n suffers as a whole
	entry func(n int, body string) (code string, senderFault, silent bool) // what an entry of call n suffers
	block time.Duration
	open  int
	peak  int
}

func (f *faulty) begin(ctx context.Context) error {
	f.mu.Lock()
	f.open++
	f.peak = max(f.peak, f.open)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
	}()
	if f.block == 0 {
		return nil
	}
	select {
	case <-time.After(f.block):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *faulty) SendMessageBatch(ctx context.Context, in *awssqs.SendMessageBatchInput, _ ...func(*awssqs.Options)) (*awssqs.SendMessageBatchOutput, error) {
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sends = append(f.sends, in.Entries)
	n := len(f.sends)
	if f.call != nil {
		if err := f.call(n); err != nil {
			return nil, err
		}
	}
	out := &awssqs.SendMessageBatchOutput{}
	for _, e := range in.Entries {
		failed, silent := f.judge(n, *e.MessageBody, e.Id)
		switch {
		case silent:
		case failed != nil:
			out.Failed = append(out.Failed, *failed)
		default:
			out.Successful = append(out.Successful, types.SendMessageBatchResultEntry{Id: e.Id})
		}
	}
	return out, nil
}

func (f *faulty) ChangeMessageVisibilityBatch(ctx context.Context, in *awssqs.ChangeMessageVisibilityBatchInput, _ ...func(*awssqs.Options)) (*awssqs.ChangeMessageVisibilityBatchOutput, error) {
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change = append(f.change, in.Entries)
	out := &awssqs.ChangeMessageVisibilityBatchOutput{}
	for _, e := range in.Entries {
		if failed, _ := f.judge(len(f.change), *e.ReceiptHandle, e.Id); failed != nil {
			out.Failed = append(out.Failed, *failed)
		} else {
			out.Successful = append(out.Successful, types.ChangeMessageVisibilityBatchResultEntry{Id: e.Id})
		}
	}
	return out, nil
}

func (f *faulty) judge(n int, body string, id *string) (*types.BatchResultErrorEntry, bool) {
	if f.entry == nil {
		return nil, false
	}
	code, senderFault, silent := f.entry(n, body)
	if code == "" {
		return nil, silent
	}
	return &types.BatchResultErrorEntry{Id: id, Code: &code, Message: aws.String("because"), SenderFault: senderFault}, false
}

func TestSendRepeatsWhatSQSFailedToAccept(t *testing.T) {
	tests := map[string]struct {
		url      string
		faults   int // calls in which message b suffers
		code     string
		mine     bool
		silent   bool
		calls    int
		accepted bool
	}{
		"fault of SQS, once":        {url: url, faults: 1, code: "InternalError", calls: 2, accepted: true},
		"fault of SQS, for ever":    {url: url, faults: 99, code: "InternalError", calls: 2},
		"fault of ours":             {url: url, faults: 1, code: "InvalidMessageContents", mine: true, calls: 1},
		"no answer":                 {url: url, faults: 1, silent: true, calls: 1},
		"FIFO, where order matters": {url: fifoURL, faults: 1, code: "InternalError", calls: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &faulty{entry: func(n int, body string) (string, bool, bool) {
					if body == "b" && n <= tt.faults {
						return tt.code, tt.mine, tt.silent
					}
					return "", false, false
				}}
				errs := sqs.New(api, tt.url, sqs.Options{}).Send(t.Context(), messages("a", "b", "c"))
				if errs[0] != nil || errs[2] != nil {
					t.Errorf("neighbours suffered: %v", errs)
				}
				if (errs[1] == nil) != tt.accepted {
					t.Errorf("error = %v", errs[1])
				}
				var refused *sqs.EntryError
				switch {
				case tt.accepted:
				case tt.silent:
					if !errors.Is(errs[1], sqs.ErrUnanswered) {
						t.Errorf("error = %v", errs[1])
					}
				case !errors.As(errs[1], &refused) || refused.Code != tt.code || refused.SenderFault != tt.mine || !strings.Contains(errs[1].Error(), "because"):
					t.Errorf("error = %v", errs[1])
				}
				if len(api.sends) != tt.calls {
					t.Errorf("%d calls, want %d", len(api.sends), tt.calls)
				}
				if tt.calls == 2 && (len(api.sends[1]) != 1 || *api.sends[1][0].MessageBody != "b") {
					t.Error("the repetition must hold the failed message alone")
				}
			})
		})
	}
}

func TestFailedCallFailsItsMessagesOnly(t *testing.T) {
	broken := errors.New("broken pipe")
	api := &faulty{call: func(n int) error {
		if n == 2 {
			return broken
		}
		return nil
	}}
	errs := sqs.New(api, url, sqs.Options{Concurrency: 1}).Send(t.Context(), numbered(25))
	for i, err := range errs {
		if inSecond := i >= 10 && i < 20; errors.Is(err, broken) != inSecond || (err == nil) == inSecond {
			t.Errorf("message %d: %v", i, err)
		}
	}
}

func TestFIFOStopsAGroupAtItsFirstFailure(t *testing.T) {
	api := &faulty{entry: func(_ int, body string) (string, bool, bool) {
		return map[string]string{"g1-3": "InternalError"}[body], false, false
	}}
	var ms []queue.Message
	for i := range 12 {
		for _, g := range []string{"g1", "g2"} {
			ms = append(ms, queue.Message{Body: fmt.Sprintf("%s-%d", g, i), Group: g, Deduplication: fmt.Sprint(i)})
		}
	}
	ms[2*8+1].Body, ms[2*10+1].Body = "", "" // g2-8 and g2-10 can never be sent
	errs := sqs.New(api, fifoURL, sqs.Options{Concurrency: 9}).Send(t.Context(), ms)
	var order []string
	for _, call := range api.sends {
		if len(call) == 0 {
			t.Error("SQS refuses a call without entries")
		}
		for _, e := range call {
			order = append(order, *e.MessageBody)
		}
	}
	// g1-4 is in the call in which g1-3 failed; everything later in a call of its own is held back.
	want := "g1-0 g2-0 g1-1 g2-1 g1-2 g2-2 g1-3 g2-3 g1-4 g2-4 g2-5 g2-6 g2-7"
	if got := strings.Join(order, " "); got != want {
		t.Errorf("sent %s", got)
	}
	for i, err := range errs {
		g1, n := i%2 == 0, i/2
		blocked := g1 && n > 4 || !g1 && n > 8 && n != 10
		if errors.Is(err, sqs.ErrBlocked) != blocked {
			t.Errorf("%d: %v", i, err)
		}
	}
	if api.peak != 1 {
		t.Errorf("%d calls at a time", api.peak)
	}
}

// A message that was refused beforehand does not hide the earlier one of its group that fails later.
func TestFIFOStopsAtTheEarlierOfTwoFailures(t *testing.T) {
	api := &faulty{entry: func(_ int, body string) (string, bool, bool) {
		return map[string]string{"3": "InternalError"}[body], false, false
	}}
	ms := numbered(30)
	for i := range ms {
		ms[i].Group, ms[i].Deduplication = "g", fmt.Sprint(i)
	}
	ms[25].Body = ""
	for i, err := range sqs.New(api, fifoURL, sqs.Options{}).Send(t.Context(), ms) {
		if blocked := i > 9 && i != 25; errors.Is(err, sqs.ErrBlocked) != blocked || (err == nil) != (i < 10 && i != 3) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if len(api.sends) != 1 {
		t.Errorf("%d calls: the group was sent past its gap", len(api.sends))
	}
}

// Only what SQS says of an entry by its id makes a message accepted.
func TestAnswersAboutNobody(t *testing.T) {
	for _, id := range []*string{nil, new(""), new("x"), new("-1"), new("2"), new("99999999999999999999")} {
		api := &answering{out: awssqs.SendMessageBatchOutput{
			Successful: []types.SendMessageBatchResultEntry{{Id: id}, {Id: new("1")}}, Failed: []types.BatchResultErrorEntry{{Id: id, Code: new("InternalError")}},
		}}
		errs := sqs.New(api, url, sqs.Options{}).Send(t.Context(), messages("a", "b"))
		if !errors.Is(errs[0], sqs.ErrUnanswered) || errs[1] != nil {
			t.Errorf("%q: %v", aws.ToString(id), errs)
		}
	}
}

// answering is an SQS that always gives the same answer.
type answering struct {
	faulty
	out awssqs.SendMessageBatchOutput
}

func (a *answering) SendMessageBatch(context.Context, *awssqs.SendMessageBatchInput, ...func(*awssqs.Options)) (*awssqs.SendMessageBatchOutput, error) {
	return &a.out, nil
}

// SQS refuses members that are there and empty, and a deduplication id on a standard queue.
func TestEmptyMembersAreLeftOut(t *testing.T) {
	api := &faulty{}
	errs := sqs.New(api, url, sqs.Options{}).Send(t.Context(), []queue.Message{{Body: "x", Deduplication: "d", Attributes: map[string]queue.Attribute{}}})
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
	if e := api.sends[0][0]; e.MessageGroupId != nil || e.MessageDeduplicationId != nil || e.MessageAttributes != nil || e.MessageSystemAttributes != nil {
		t.Errorf("entry %+v", e)
	}
	sqs.New(api, fifoURL, sqs.Options{}).Send(t.Context(), []queue.Message{{Body: "x", Group: "g"}}) // whose queue takes the content for the id
	if e := api.sends[1][0]; e.MessageDeduplicationId != nil || *e.MessageGroupId != "g" {
		t.Errorf("entry %+v", e)
	}
}

// The SDK would send other bytes in their place.
func TestBytesThatAreNoTextAreRefused(t *testing.T) {
	api := &faulty{}
	if errs := sqs.New(api, url, sqs.Options{}).Send(t.Context(), messages("a\xff")); !errors.Is(errs[0], sqs.ErrInvalid) || len(api.sends) != 0 {
		t.Errorf("%v after %d calls", errs, len(api.sends))
	}
}

// What comes from outside does not make an error as long as itself.
func TestErrorsAreBounded(t *testing.T) {
	long := strings.Repeat("n", 1<<16)
	for _, m := range []queue.Message{
		{Body: "x", Group: long}, {Body: "x", Attributes: map[string]queue.Attribute{long: {DataType: "String", String: "x"}}},
		{Body: "x", Attributes: map[string]queue.Attribute{"a": {DataType: long, String: "x"}}},
	} {
		if errs := sqs.New(&faulty{}, url, sqs.Options{}).Send(t.Context(), []queue.Message{m}); !errors.Is(errs[0], sqs.ErrInvalid) || len(errs[0].Error()) > 400 {
			t.Errorf("error of %d bytes", len(errs[0].Error()))
		}
	}
}

func TestConcurrencyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &faulty{block: time.Second}
		start := time.Now()
		for i, err := range sqs.New(api, url, sqs.Options{Concurrency: 3}).Send(t.Context(), numbered(90)) {
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if api.peak != 3 || time.Since(start) != 3*time.Second {
			t.Errorf("%d calls at a time, %v", api.peak, time.Since(start))
		}
		var changes []queue.Visibility
		for i := range 90 {
			changes = append(changes, queue.Visibility{Receipt: fmt.Sprint(i)})
		}
		api, start = &faulty{block: time.Second}, time.Now()
		for i, err := range sqs.New(api, url, sqs.Options{Concurrency: 3}).ChangeVisibility(t.Context(), changes) {
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if api.peak != 3 || time.Since(start) != 3*time.Second {
			t.Errorf("%d changes at a time, %v", api.peak, time.Since(start))
		}
	})
}

func TestCancelledContextEndsSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		api := &faulty{block: time.Second}
		errs := sqs.New(api, url, sqs.Options{Concurrency: 1}).Send(ctx, numbered(50))
		for i, err := range errs {
			if accepted := i < 10; (err == nil) != accepted || !accepted && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d: %v", i, err)
			}
		}
		api = &faulty{block: time.Millisecond, entry: func(int, string) (string, bool, bool) { return "InternalError", false, false }}
		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		var refused *sqs.EntryError
		if errs := sqs.New(api, url, sqs.Options{}).Send(ctx, numbered(1)); !errors.As(errs[0], &refused) || len(api.sends) != 1 {
			t.Errorf("no time for a repetition: %v after %d calls", errs, len(api.sends))
		}
	})
}

func TestEndedContextMakesNoCall(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	api := &faulty{}
	for i, err := range sqs.New(api, url, sqs.Options{}).Send(ctx, numbered(15)) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if len(api.sends) != 0 {
		t.Errorf("%d calls", len(api.sends))
	}
}

func TestNothingToSendMakesNoCall(t *testing.T) {
	api := &faulty{}
	q := sqs.New(api, url, sqs.Options{})
	if errs := q.Send(t.Context(), nil); len(errs) != 0 {
		t.Error(errs)
	}
	if errs := q.ChangeVisibility(t.Context(), nil); len(errs) != 0 {
		t.Error(errs)
	}
	if len(api.sends)+len(api.change) != 0 {
		t.Error("called")
	}
}

func TestChangeVisibility(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &faulty{entry: func(n int, receipt string) (string, bool, bool) {
			switch {
			case receipt == "r3":
				return "ReceiptHandleIsInvalid", true, false
			case receipt == "r4" && n == 1:
				return "InternalError", false, false
			}
			return "", false, false
		}}
		var changes []queue.Visibility
		for i := range 12 {
			changes = append(changes, queue.Visibility{Receipt: fmt.Sprintf("r%d", i), After: time.Duration(i) * 500 * time.Millisecond})
		}
		changes[5].Receipt = ""
		changes[6].After = 12*time.Hour + 1
		changes[7].After = -1
		changes[8].After = 12 * time.Hour
		errs := sqs.New(api, url, sqs.Options{Concurrency: 1}).ChangeVisibility(t.Context(), changes)
		for i, err := range errs {
			switch i {
			case 3:
				var refused *sqs.EntryError
				if !errors.As(err, &refused) || refused.Code != "ReceiptHandleIsInvalid" {
					t.Errorf("%d: %v", i, err)
				}
			case 5, 6, 7:
				if !errors.Is(err, sqs.ErrInvalid) {
					t.Errorf("%d: %v", i, err)
				}
			default:
				if err != nil {
					t.Errorf("%d: %v", i, err)
				}
			}
		}
		if len(api.change) != 2 || len(api.change[0]) != 9 || len(api.change[1]) != 1 {
			t.Fatalf("calls: %v", api.change)
		}
		for _, e := range api.change[0] {
			i, err := strconv.Atoi((*e.ReceiptHandle)[1:])
			if err != nil {
				t.Fatal(err)
			}
			want := int32((i + 1) / 2)
			if i == 8 {
				want = 43200
			}
			if e.VisibilityTimeout != want {
				t.Errorf("%s: %d s, want %d", *e.ReceiptHandle, e.VisibilityTimeout, want)
			}
		}
	})
}

// What fits a call to the byte is one call.
func TestExactlyFullCall(t *testing.T) {
	for _, target := range []string{url, fifoURL} {
		for last, want := range map[int]int{queue.MaxBytes / 2: 1, queue.MaxBytes/2 + 1: 2} {
			api := &faulty{}
			sqs.New(api, target, sqs.Options{Concurrency: 1}).Send(t.Context(), []queue.Message{{Body: filler[:queue.MaxBytes/2], Group: "g"}, {Body: filler[:last], Group: "g"}})
			if len(api.sends) != want {
				t.Errorf("%s: %d calls for %d bytes, want %d", target, len(api.sends), queue.MaxBytes/2+last, want)
			}
		}
	}
}

// A call has room for bytes when it has none for entries any more.
func TestSmallMessagesBesideAFullCall(t *testing.T) {
	api := &faulty{}
	sqs.New(api, url, sqs.Options{Concurrency: 1}).Send(t.Context(), append(numbered(15), queue.Message{Body: filler}))
	var calls []int
	for _, entries := range api.sends {
		calls = append(calls, len(entries))
	}
	if !slices.Equal(calls, []int{1, 10, 5}) {
		t.Errorf("calls of %v entries", calls)
	}
}

// Every call keeps the limits, every message is in exactly one, and there are not many more calls than needed.
func TestPacking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 100), rapid.IntRange(1, queue.MaxBytes)), 0, 40).Draw(t, "sizes")
		fifo := rapid.Bool().Draw(t, "fifo")
		target, total := url, 0
		if fifo {
			target = fifoURL
		}
		var ms []queue.Message
		for _, n := range sizes {
			total += n
			ms = append(ms, queue.Message{Body: filler[:n], Group: "g"})
		}
		api := &faulty{}
		for i, err := range sqs.New(api, target, sqs.Options{Concurrency: 1}).Send(context.Background(), ms) {
			if err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		var got []int
		for _, call := range api.sends {
			bytes, ids := 0, map[string]bool{}
			for _, e := range call {
				bytes += len(*e.MessageBody)
				ids[*e.Id] = true
				got = append(got, len(*e.MessageBody))
			}
			if len(call) == 0 || len(call) > 10 || bytes > queue.MaxBytes || len(ids) != len(call) {
				t.Fatalf("call of %d entries, %d bytes, ids %v", len(call), bytes, ids)
			}
		}
		if fifo && fmt.Sprint(got) != fmt.Sprint(sizes) && len(sizes) > 0 {
			t.Fatalf("order changed: %v", got)
		}
		if len(got) != len(sizes) {
			t.Fatalf("%d of %d sent", len(got), len(sizes))
		}
		if bound := len(sizes)/10 + 2*total/queue.MaxBytes + 2; len(api.sends) > bound {
			t.Fatalf("%d calls for %d messages of %d bytes", len(api.sends), len(sizes), total)
		}
	})
}

var filler = strings.Repeat("x", queue.MaxBytes)

func messages(bodies ...string) []queue.Message {
	var ms []queue.Message
	for _, b := range bodies {
		ms = append(ms, queue.Message{Body: b, Group: b[:1]})
	}
	return ms
}

func numbered(n int) []queue.Message {
	var ms []queue.Message
	for i := range n {
		ms = append(ms, queue.Message{Body: fmt.Sprint(i)})
	}
	return ms
}
