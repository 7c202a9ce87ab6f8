package breaker

import (
	"context"
	"errors"
	"time"
)

// Errors that a Store reports, with detail wrapped around them.
var (
	// ErrRefused: the row is of another turn than the caller thought. Nothing was written; the row that is there comes with it.
	ErrRefused = errors.New("breaker: refused, someone else has moved it")
	// ErrThrottled: nothing was written; the same may be tried again later.
	ErrThrottled = errors.New("breaker: throttled")
	// ErrUnknown: whether it was written is unknown, as after a lost answer.
	ErrUnknown = errors.New("breaker: outcome unknown")
)

// Delta is what one environment adds to a row.
type Delta struct {
	Turn  int64 // of the row that it is about; another one is refused
	Slots map[Slot]Count
	// Streak is the number of failures since the last success. Succeeded says that there was one among what is added; otherwise the row's streak goes on.
	Streak    int
	Succeeded bool
	Young     bool // the last success is so young that the row's SucceededAt becomes At
	// ThrottledUntil, unless zero, is written with ThrottledAt, unless the row has a later one: then the whole Delta is refused.
	ThrottledAt, ThrottledUntil time.Time
	// SuspectSince is written if the row has none, or whatever it has with Afresh; zero: the row's is removed.
	SuspectSince time.Time
	Afresh       bool
	Remove       []Slot // that nobody counts any more; none of Slots
	At           time.Time
}

// Store keeps the rows. The driver for DynamoDB is shared/breaker/dynamo, one in memory is in shared/breaker/breakertest; both pass the suite there.
// Errors that wrap none of the sentinels count as ErrUnknown. Safe for concurrent use.
type Store interface {
	// All reads the rows of all destinations that have one. It may be a second behind.
	All(ctx context.Context) (map[string]Row, error)
	// Get reads a row, with every write that was answered before. A destination without one has the zero Row.
	Get(ctx context.Context, destination string) (Row, error)
	// Add adds to a row, which is made if there is none, and gives it as it is then. It is tried once: a repetition would count twice. With ErrRefused it
	// gives the row that is there.
	Add(ctx context.Context, destination string, delta Delta) (Row, error)
	// Move replaces a row whose turn is that of was by next, and gives what is there then. With ErrRefused it gives the row that is there, which is
	// next itself where the answer of an earlier try was lost. It may be repeated.
	Move(ctx context.Context, destination string, was, next Row) (Row, error)
}

// Same says whether two rows are of the same move: in the same turn and phase, with the same probe and times, in milliseconds.
func (row Row) Same(other Row) bool {
	return row.Turn == other.Turn && row.Phase == other.Phase && row.Probe == other.Probe && row.Trips == other.Trips &&
		row.Until.UnixMilli() == other.Until.UnixMilli() && row.RecoveringSince.UnixMilli() == other.RecoveringSince.UnixMilli()
}
