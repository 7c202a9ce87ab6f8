// Package waiting is the waiting room: deliveries that are in no queue, because they are due later than a queue can delay them or parked until
// their destination recovers.
//
// The protocol is in protocol.go as pure functions and data; README.md in this folder tells it in prose. Room puts deliveries in; the function
// waker takes them out again. A Store keeps them.
package waiting

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/delivery"
	"github.com/waybillhq/waybill/shared/retry"
)

// Errors of Hold besides those of the store. Both mean that the delivery must be delayed by the queue instead.
var (
	// ErrTooLarge: the delivery exceeds a row, even compressed.
	ErrTooLarge = errors.New("waiting: the delivery exceeds a row, even compressed")
	// ErrTooSoon: it is due in less than Limits.MinDistance.
	ErrTooSoon = errors.New("waiting: the delivery is due too soon for the waiting room")
)

// Config configures a Room. Store and Limits are required.
type Config struct {
	Store  Store
	Limits Limits

	// Patience bounds the time spent on repeating throttled or unanswered writes in one call of Hold, within the context's
	// deadline. Longer rides out longer throttling and holds up the batch. Default 5 s.
	Patience time.Duration

	Now      func() time.Time // default time.Now
	NewToken func() string    // default: 128 random bits; must never repeat
	Random   func() float64   // [0, 1), spreads repetitions; default math/rand
}

// Room puts deliveries into the waiting room. It is safe for concurrent use.
type Room struct {
	cfg    Config
	packer packer

	mu     sync.Mutex
	marked map[string]time.Time // when the mark of a destination was written, as far as this Room knows
}

// New makes a Room. The error lists every setting that is missing or out of range.
func New(cfg Config) (*Room, error) {
	problems := cfg.Limits.problems()
	if cfg.Store == nil {
		problems = append(problems, errors.New("waiting: Config.Store is missing: give the driver in shared/waiting/dynamo"))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	cfg.Patience = cmp.Or(cfg.Patience, 5*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewToken == nil {
		cfg.NewToken = rand.Text
	}
	if cfg.Random == nil {
		cfg.Random = mathrand.Float64
	}
	return &Room{cfg: cfg, marked: map[string]time.Time{}}, nil
}

// now is the wall clock: the monotonic one stands still while an environment is frozen between invocations.
func (r *Room) now() time.Time { return r.cfg.Now().Round(0) }

// Held is a delivery to be held: until DueAt, or Parked until its destination may receive.
type Held struct {
	Message delivery.Message
	DueAt   time.Time
	Parked  bool
	Trace   string // X-Ray trace header to send it on with, "" for none
}

// Hold makes deliveries durable in the waiting room and answers each by its index; nil means that the waker will send its message to
// the deliveries queue, at DueAt or later, with DueAt in the message; or parked when its destination may receive or it has been
// parked too long, with HeldSince in the message, which is set to now if it is not set yet. ErrTooLarge and ErrTooSoon tell the caller to delay the
// message by the queue. After any other error the delivery may or may not be held: it must not be acknowledged.
//
// The same attempt of the same delivery may be held any number of times; that yields as many messages at most. The context must end
// with the invocation, within Limits.FunctionTimeout: what is put later than that can be overlooked.
func (r *Room) Hold(ctx context.Context, held []Held) []error {
	errs := make([]error, len(held))
	rows := make([]Row, len(held))
	same := map[Cursor]int{} // the entry that is put for all with its key: the last
	for i, h := range held {
		if rows[i], errs[i] = r.row(h); errs[i] == nil {
			same[Cursor{rows[i].Bucket, rows[i].Key}] = i
		}
	}
	unmarked := r.mark(ctx, held, errs)
	var put []int
	for i := range held {
		if errs[i] == nil {
			if held[i].Parked {
				errs[i] = unmarked[held[i].Message.Destination]
			}
			if errs[i] == nil && same[Cursor{rows[i].Bucket, rows[i].Key}] == i {
				put = append(put, i)
			}
		}
	}
	r.put(ctx, rows, put, errs)
	for i := range held {
		if errs[i] == nil {
			errs[i] = errs[same[Cursor{rows[i].Bucket, rows[i].Key}]]
		}
	}
	return errs
}

func (r *Room) row(h Held) (Row, error) {
	m, now := h.Message, r.now()
	row := Row{Destination: m.Destination, Trace: h.Trace, Form: Zipped}
	shard := ShardOf(string(m.Delivery))
	switch {
	case h.Parked:
		if m.DueAt = (time.Time{}); m.HeldSince.IsZero() {
			m.HeldSince = now
		}
		row.At = m.HeldSince
		row.Bucket, row.Key = Bucket{Kind: Parked, Destination: m.Destination, Shard: shard}.Name(), parkedKey(&m)
	case r.cfg.Limits.TooSoon(h.DueAt, now):
		return Row{}, fmt.Errorf("%w: in %v, the least is %v", ErrTooSoon, h.DueAt.Sub(now).Round(time.Millisecond), r.cfg.Limits.MinDistance())
	default:
		m.DueAt = h.DueAt
		row.At = h.DueAt
		row.Bucket, row.Key = Bucket{Kind: Due, Hour: HourOf(h.DueAt), Shard: shard}.Name(), dueKey(h.DueAt, &m)
	}
	var err error
	if row.Body, err = r.packer.pack(&m); err != nil {
		return Row{}, err
	}
	row.Token = r.cfg.NewToken()
	if row.Size() > MaxRowBytes {
		return Row{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, row.Size(), MaxRowBytes)
	}
	return row, nil
}

// mark writes the marks of destinations for which deliveries without an error are to be parked, unless it knows that they are there. It
// gives the destinations that could not be marked.
func (r *Room) mark(ctx context.Context, held []Held, errs []error) map[string]error {
	now := r.now()
	var marks []Row
	r.mu.Lock()
	seen := map[string]bool{}
	for i, h := range held {
		d := h.Message.Destination
		if !h.Parked || errs[i] != nil || seen[d] {
			continue
		}
		seen[d] = true
		if written, ok := r.marked[d]; !ok || !r.cfg.Limits.Marked(written, now) {
			marks = append(marks, MarkRow(d, r.cfg.NewToken(), now))
		}
	}
	r.mu.Unlock()
	failed := make([]error, len(marks))
	r.put(ctx, marks, indexes(len(marks)), failed)
	unmarked := map[string]error{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, m := range marks {
		if failed[i] != nil {
			unmarked[m.Destination] = fmt.Errorf("mark destination %s: %w", m.Destination, failed[i])
			continue
		}
		r.marked[m.Destination] = now
	}
	return unmarked
}

// MarkRow is the mark that a destination may have parked rows.
func MarkRow(destination, token string, now time.Time) Row {
	return Row{Bucket: Bucket{Kind: Marks, Shard: ShardOf(destination)}.Name(), Key: destination, Token: token, At: now, Destination: destination}
}

// put writes the rows in which, and again those whose writing failed, each time with fresh tokens and after a longer pause, until patience or the
// context ends.
func (r *Room) put(ctx context.Context, rows []Row, which []int, errs []error) {
	end := r.now().Add(r.cfg.Patience)
	for pause := 25 * time.Millisecond; len(which) > 0; pause = min(2*pause, time.Second) {
		batch := make([]Row, len(which))
		for n, i := range which {
			batch[n] = rows[i]
		}
		for n, err := range r.cfg.Store.Put(ctx, batch) {
			errs[which[n]] = err
		}
		which = slices.DeleteFunc(which, func(i int) bool { return errs[i] == nil })
		wait := time.Duration(float64(pause) * (0.5 + r.cfg.Random()))
		if len(which) == 0 || r.now().Add(wait).After(end) || !retry.SleepWithin(ctx, wait) {
			return
		}
		for _, i := range which {
			rows[i].Token = r.cfg.NewToken()
		}
	}
}

func indexes(n int) []int {
	which := make([]int, n)
	for i := range which {
		which[i] = i
	}
	return which
}
