package waiting_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/events"
	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/waiting"
	"github.com/waybillhq/waybill/shared/waiting/waitingtest"
)

var limits = waiting.Limits{FunctionTimeout: time.Minute, ClockSkew: 5 * time.Second, MarkCache: 5 * time.Minute, LongestPark: 14 * 24 * time.Hour, LongestDelay: 15 * time.Minute}

// recorder is a store that remembers what was put, and fails when told to.
type recorder struct {
	waiting.Store
	mu   sync.Mutex
	puts [][]waiting.Row
	fail func(waiting.Row) error
}

func (s *recorder) Put(ctx context.Context, rows []waiting.Row) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts = append(s.puts, slices.Clone(rows))
	errs := s.Store.Put(ctx, rows)
	for i, r := range rows {
		if s.fail != nil && s.fail(r) != nil {
			errs[i] = s.fail(r)
		}
	}
	return errs
}

func inRoom(t *testing.T, test func(t *testing.T, room *waiting.Room, store *recorder, memory *waitingtest.Memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		memory := waitingtest.NewMemory()
		store := &recorder{Store: memory}
		room, err := waiting.New(waiting.Config{Store: store, Limits: limits})
		if err != nil {
			t.Fatal(err)
		}
		test(t, room, store, memory)
	})
}

func message(n int, destination string) delivery.Message {
	e := events.Event{ID: fmt.Sprint(n), Source: "/room", Type: "test", Data: []byte(`{"amount":2}`)}
	return delivery.Message{Delivery: delivery.NewID("acme", e.Source, e.ID, destination), Destination: destination, Epoch: 1, Attempt: 3, Event: e, AcceptedAt: time.Now()}
}

func TestHoldWritesWhatTheWakerNeeds(t *testing.T) {
	inRoom(t, func(t *testing.T, room *waiting.Room, _ *recorder, memory *waitingtest.Memory) {
		now := time.Now()
		due, parked, since := message(1, "orders-crm"), message(2, "orders-crm"), message(3, "orders-crm")
		due.HeldSince = now.Add(-time.Hour)
		parked.DueAt = now.Add(-time.Hour)
		since.HeldSince = now.Add(-time.Hour)
		for i, err := range room.Hold(t.Context(), []waiting.Held{
			{Message: due, DueAt: now.Add(time.Hour), Trace: "Root=1"}, {Message: parked, Parked: true}, {Message: since, Parked: true},
		}) {
			if err != nil {
				t.Fatalf("entry %d: %v", i, err)
			}
		}
		found := map[string]waiting.Row{}
		for _, r := range memory.All() {
			found[r.Bucket+" "+r.Key] = r
		}
		shard := func(m delivery.Message) int { return waiting.ShardOf(string(m.Delivery)) }
		for key, want := range map[string]struct {
			at   time.Time
			dueA time.Time
			held time.Time
		}{
			fmt.Sprintf("2000-01-01T01#%d %014d#%s#1#3", shard(due), now.Add(time.Hour).UnixMilli(), due.Delivery): {now.Add(time.Hour), now.Add(time.Hour), due.HeldSince},
			fmt.Sprintf("parked#orders-crm#%d %014d#%s#1#3", shard(parked), now.UnixMilli(), parked.Delivery):      {now, time.Time{}, now},
			fmt.Sprintf("parked#orders-crm#%d %014d#%s#1#3", shard(since), now.UnixMilli(), since.Delivery):        {since.HeldSince, time.Time{}, since.HeldSince},
		} {
			r, ok := found[key]
			if !ok {
				t.Errorf("no row %s among %v", key, slices.Sorted(maps.Keys(found)))
				continue
			}
			body, err := r.Message()
			if err != nil {
				t.Fatal(err)
			}
			m, err := delivery.Decode(body)
			if err != nil || !r.At.Equal(want.at) || !m.DueAt.Equal(want.dueA) || !m.HeldSince.Equal(want.held) || string(m.Event.Data) != `{"amount":2}` || m.Attempt != 3 || m.Epoch != 1 {
				t.Errorf("%s: at %v, message %+v, %v", key, r.At, m, err)
			}
			if r.Destination != "orders-crm" || len(r.Token) < 20 || r.Form != waiting.Zipped {
				t.Errorf("%s: row %+v", key, r)
			}
		}
		mark, ok := found[fmt.Sprintf("marks#%d orders-crm", waiting.ShardOf("orders-crm"))]
		if !ok || !mark.At.Equal(now) || mark.Token == "" || len(found) != 4 {
			t.Errorf("mark %+v among %d rows", mark, len(found))
		}
	})
}

func TestWhatTheRoomDoesNotTake(t *testing.T) {
	random := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	huge := message(1, "orders-crm")
	huge.Event.Data = random[:450_000]
	wide := message(2, "orders-crm") // a megabyte of nothing
	wide.Event.Data = bytes.Repeat([]byte("0"), 1_000_000)
	for name, test := range map[string]struct {
		held waiting.Held
		wait time.Duration
		want error
	}{
		"just soon enough":     {waiting.Held{Message: message(3, "d")}, 15 * time.Minute, nil},
		"a little too soon":    {waiting.Held{Message: message(3, "d")}, 15*time.Minute - time.Millisecond, waiting.ErrTooSoon},
		"overdue":              {waiting.Held{Message: message(3, "d")}, -time.Hour, waiting.ErrTooSoon},
		"never said when":      {waiting.Held{Message: message(3, "d")}, -1 << 60, waiting.ErrTooSoon},
		"too large":            {waiting.Held{Message: huge}, time.Hour, waiting.ErrTooLarge},
		"too large to park":    {waiting.Held{Message: huge, Parked: true}, 0, waiting.ErrTooLarge},
		"large but compressed": {waiting.Held{Message: wide}, time.Hour, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inRoom(t, func(t *testing.T, room *waiting.Room, store *recorder, memory *waitingtest.Memory) {
				if !test.held.Parked {
					test.held.DueAt = time.Now().Add(test.wait)
				}
				neighbour := waiting.Held{Message: message(9, "d"), DueAt: time.Now().Add(time.Hour)}
				errs := room.Hold(t.Context(), []waiting.Held{test.held, neighbour})
				if !errors.Is(errs[0], test.want) || (test.want == nil) != (errs[0] == nil) || errs[1] != nil {
					t.Errorf("errors %v, want %v", errs, test.want)
				}
				if n := len(memory.All()); n != map[bool]int{true: 2, false: 1}[test.want == nil] {
					t.Errorf("%d rows", n)
				}
			})
		})
	}
}

func TestOneWriteForMany(t *testing.T) {
	inRoom(t, func(t *testing.T, room *waiting.Room, store *recorder, memory *waitingtest.Memory) {
		var held []waiting.Held
		for i := range 10 {
			held = append(held, waiting.Held{Message: message(i/2, "orders-crm"), Parked: true}) // everyone twice
		}
		for _, err := range room.Hold(t.Context(), held) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(store.puts) != 2 || len(store.puts[0]) != 1 || len(store.puts[1]) != 5 {
			t.Fatalf("puts: %v", store.puts)
		}
		if store.puts[0][0].Bucket != fmt.Sprintf("marks#%d", waiting.ShardOf("orders-crm")) {
			t.Errorf("the first put is %+v, want the mark", store.puts[0][0])
		}
		// The next needs no mark, until the cache is over.
		for _, step := range []struct {
			after time.Duration
			puts  int
		}{{0, 1}, {limits.MarkCache - time.Millisecond, 1}, {time.Millisecond, 2}, {time.Minute, 1}} {
			<-time.After(step.after)
			before := len(store.puts)
			if err := errors.Join(room.Hold(t.Context(), held)...); err != nil {
				t.Fatal(err)
			}
			if n := len(store.puts) - before; n != step.puts {
				t.Errorf("after %v more: %d puts, want %d", step.after, n, step.puts)
			}
		}
	})
}

func TestRepetitionsHaveFreshTokens(t *testing.T) {
	inRoom(t, func(t *testing.T, room *waiting.Room, store *recorder, memory *waitingtest.Memory) {
		failures := 4
		store.fail = func(r waiting.Row) error {
			if failures--; failures >= 0 {
				return waiting.ErrUnknown
			}
			return nil
		}
		if err := errors.Join(room.Hold(t.Context(), []waiting.Held{{Message: message(1, "d"), Parked: true}})...); err != nil {
			t.Fatal(err)
		}
		tokens := map[string]bool{}
		for _, put := range store.puts {
			for _, r := range put {
				tokens[r.Token] = true
			}
		}
		if len(store.puts) != 6-2 || len(tokens) != len(store.puts) {
			t.Errorf("%d puts with %d tokens", len(store.puts), len(tokens))
		}
	})
}

func TestNothingIsParkedWithoutAMark(t *testing.T) {
	inRoom(t, func(t *testing.T, room *waiting.Room, store *recorder, memory *waitingtest.Memory) {
		store.fail = func(r waiting.Row) error {
			if strings.HasPrefix(r.Bucket, "marks#") && r.Destination == "down" {
				return waiting.ErrThrottled
			}
			return nil
		}
		began := time.Now()
		errs := room.Hold(t.Context(), []waiting.Held{{Message: message(1, "down"), Parked: true}, {Message: message(1, "up"), Parked: true}})
		if !errors.Is(errs[0], waiting.ErrThrottled) || errs[1] != nil {
			t.Errorf("errors %v", errs)
		}
		for _, r := range memory.All() {
			if strings.HasPrefix(r.Bucket, "parked#down") {
				t.Errorf("row %+v", r)
			}
		}
		if took := time.Since(began); took < 3*time.Second || took > 6*time.Second {
			t.Errorf("patience of %v", took)
		}
		// It is tried again the next time.
		store.fail = nil
		if err := errors.Join(room.Hold(t.Context(), []waiting.Held{{Message: message(1, "down"), Parked: true}})...); err != nil {
			t.Error(err)
		}
	})
}

func TestPatienceEndsWithTheContext(t *testing.T) {
	inRoom(t, func(t *testing.T, room *waiting.Room, store *recorder, _ *waitingtest.Memory) {
		store.fail = func(waiting.Row) error { return waiting.ErrThrottled }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := room.Hold(ctx, []waiting.Held{{Message: message(1, "d"), DueAt: began.Add(time.Hour)}})[0]; !errors.Is(err, waiting.ErrThrottled) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestHoldNothing(t *testing.T) {
	inRoom(t, func(t *testing.T, room *waiting.Room, store *recorder, _ *waitingtest.Memory) {
		if errs := room.Hold(t.Context(), nil); len(errs) != 0 || len(store.puts) != 0 {
			t.Errorf("%v, %d puts", errs, len(store.puts))
		}
	})
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	_, err := waiting.New(waiting.Config{})
	for _, want := range []string{"Store", "FunctionTimeout", "ClockSkew", "MarkCache", "LongestPark", "LongestDelay"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestRowsThatAreNoMessages(t *testing.T) {
	inRoom(t, func(t *testing.T, room *waiting.Room, _ *recorder, memory *waitingtest.Memory) {
		if err := errors.Join(room.Hold(t.Context(), []waiting.Held{{Message: message(1, "d"), DueAt: time.Now().Add(time.Hour)}})...); err != nil {
			t.Fatal(err)
		}
		good := memory.All()[0]
		if _, err := good.Message(); err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*waiting.Row){
			"newer form":     func(r *waiting.Row) { r.Form = 2 },
			"no form":        func(r *waiting.Row) { r.Form = 0 },
			"no body":        func(r *waiting.Row) { r.Body = nil },
			"no gzip":        func(r *waiting.Row) { r.Body = []byte("{}") },
			"cut off":        func(r *waiting.Row) { r.Body = r.Body[:len(r.Body)-9] },
			"wrong checksum": func(r *waiting.Row) { r.Body = append(slices.Clone(r.Body[:len(r.Body)-8]), make([]byte, 8)...) },
			"no token":       func(r *waiting.Row) { r.Token = "" },
			"no destination": func(r *waiting.Row) { r.Destination = "" },
		} {
			bad := good
			change(&bad)
			if body, err := bad.Message(); !errors.Is(err, waiting.ErrUnreadable) {
				t.Errorf("%s: %q, %v", name, body, err)
			}
			if m, err := waiting.Unpack(bad); !errors.Is(err, waiting.ErrUnreadable) {
				t.Errorf("%s: unpacked as %+v, %v", name, m, err)
			}
		}
	})
}

// zipped is a row that holds a text instead of a message.
func zipped(t testing.TB, text string) waiting.Row {
	t.Helper()
	var body bytes.Buffer
	gz := gzip.NewWriter(&body)
	if _, err := gz.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return waiting.Row{Bucket: "b", Key: "k", Token: "t", Destination: "d", Form: waiting.Zipped, Body: body.Bytes()}
}

func TestUnpack(t *testing.T) {
	inRoom(t, func(t *testing.T, room *waiting.Room, _ *recorder, memory *waitingtest.Memory) {
		want, at := message(1, "orders-crm"), time.Now().Add(time.Hour)
		if err := errors.Join(room.Hold(t.Context(), []waiting.Held{{Message: want, DueAt: at}})...); err != nil {
			t.Fatal(err)
		}
		row := memory.All()[0]
		m, err := waiting.Unpack(row)
		if err != nil || m.Delivery != want.Delivery || m.Attempt != 3 || !m.DueAt.Equal(at) || string(m.Event.Data) != `{"amount":2}` {
			t.Errorf("%+v, %v", m, err)
		}
		if b, due := waiting.Locate(row.Bucket, row.Key); b.Kind != waiting.Due || !due.Equal(at) || !due.Equal(row.At) {
			t.Errorf("the row lies in %+v, due %v", b, due)
		}
	})
	for text, want := range map[string]error{"{}": delivery.ErrMalformed, `{"v":99}`: delivery.ErrNewer} {
		if m, err := waiting.Unpack(zipped(t, text)); !errors.Is(err, waiting.ErrUnreadable) || !errors.Is(err, want) {
			t.Errorf("%s: %+v, %v", text, m, err)
		}
	}
}

// In compressed time the room takes what a queue of such times cannot delay.
func TestDistancesFollowTheLongestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		compressed := limits
		compressed.LongestDelay = 15 * time.Second
		room, err := waiting.New(waiting.Config{Store: waitingtest.NewMemory(), Limits: compressed})
		if err != nil {
			t.Fatal(err)
		}
		for wait, want := range map[time.Duration]error{15 * time.Second: nil, 15*time.Second - time.Millisecond: waiting.ErrTooSoon} {
			err := room.Hold(t.Context(), []waiting.Held{{Message: message(1, "d"), DueAt: time.Now().Add(wait)}})[0]
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("due in %v: %v", wait, err)
			}
		}
	})
}

func FuzzUnpack(f *testing.F) {
	for _, text := range []string{"", "{}", `{"v":1}`, "\x00"} {
		r := zipped(f, text)
		f.Add(r.Form, r.Token, r.Destination, r.Body)
	}
	f.Add(2, "t", "d", []byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, form int, token, destination string, body []byte) {
		r := waiting.Row{Bucket: "b", Key: "k", Token: token, Destination: destination, Form: form, Body: body}
		if m, err := waiting.Unpack(r); err != nil && !errors.Is(err, waiting.ErrUnreadable) {
			t.Errorf("%+v, %v", m, err)
		}
	})
}
