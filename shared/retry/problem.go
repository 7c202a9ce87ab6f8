package retry

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrInvalid is matched by every error of Steps and Exponential.Schedule.
var ErrInvalid = errors.New("invalid retry schedule")

// Problem is one fault of a schedule.
type Problem struct {
	Field   string // as in a configuration file: schedule[2], exponential.cap
	Message string
	Fix     string // what to write instead
}

// String gives the problem on one line.
func (p Problem) String() string { return p.Field + ": " + p.Message + "; " + p.Fix }

// Error lists every problem of a schedule.
type Error struct {
	Problems []Problem
}

// Error gives one line per problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Is matches ErrInvalid.
func (e *Error) Is(target error) bool { return target == ErrInvalid }

// check collects problems.
type check struct {
	problems []Problem
}

func (c *check) fail(field, message, fix string) {
	c.problems = append(c.problems, Problem{Field: field, Message: message, Fix: fix})
}

func (c *check) wait(field string, wait time.Duration) {
	if wait >= MinWait && wait <= MaxWait {
		return
	}
	c.fail(field, fmt.Sprintf("a wait of %v cannot be kept", wait), fmt.Sprintf("use %v to %v", MinWait, MaxWait))
}

func (c *check) horizon(field string, s Schedule, fix string) {
	if total := s.Horizon(); total > MaxHorizon {
		c.fail(field, fmt.Sprintf("the waits add up to %v with jitter, more than %v", total, MaxHorizon), fix)
	}
}

func (c *check) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	return &Error{Problems: c.problems}
}
