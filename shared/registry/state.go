package registry

import (
	"context"
	"time"
)

// State is what is known of a destination at run time, apart from its configuration: applying a file never touches it. The zero State is that
// of a destination that may receive.
type State struct {
	Paused   time.Time // by a person, since then; zero: it is not paused
	Disabled time.Time // because it answered 410, since then; zero: it is not disabled
	Note     string    // why, in words; bounded, shown to people. Of a destination that is both, the two notes after each other
	By       string    // who paused or disabled it, in the same way
}

// NewState gives the state of a destination with these marks; the zero Mark is none.
func NewState(paused, disabled Mark) State {
	return State{Paused: paused.Since, Disabled: disabled.Since, Note: both(paused.Note, disabled.Note), By: both(paused.By, disabled.By)}
}

func both(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// MayReceive says whether deliveries go to the destination. If not, they are parked until it may.
func (s State) MayReceive() bool { return s.Paused.IsZero() && s.Disabled.IsZero() }

// WithStates gives the same destinations with these states. States of destinations that are not in the set are kept: a deleted destination
// has deliveries that ask for it. The map must not be changed afterwards.
func (s *Set) WithStates(states map[string]State) *Set {
	with := *s
	with.states = states
	return &with
}

// State gives the state of a destination, known in the set or not.
func (s *Set) State(id string) State { return s.states[id] }

// Disabler writes down that a destination wants no more. Implementations are safe for concurrent use.
type Disabler interface {
	// Disable disables a destination until a person enables it. first says that it was not disabled before, as far as the
	// answer tells: exactly one caller is told so, but where answers are lost. A note longer than MaxNote is cut.
	Disable(ctx context.Context, destination, note string) (first bool, err error)
}

// Looker looks for a destination that is not in the set at hand, which may be older than what others have read. The answer is as new as the
// question, or an error. Implementations bound how often they really look.
type Looker interface {
	Look(ctx context.Context, id string) (d *Destination, found bool, err error)
}

// MaxNote bounds State.Note in bytes.
const MaxNote = 512
