// Package retry says when a failed delivery is tried again, and when it is given up.
//
// A Schedule is a list of waits: the first attempt is made at once, and after attempt n fails the n-th wait passes
// before attempt n+1. The default is the schedule of Standard Webhooks, which counts the immediate first attempt as a
// step of 0 s:
//
//	step      0 s  5 s  5 m  30 m  2 h  5 h  10 h  14 h  20 h  24 h
//	attempt    1    2    3    4     5    6    7     8     9     10
//
// So Default has 10 attempts and the 9 waits from 5 s to 24 h, 75 h 35 m 5 s (75.6 h) in all.
//
// Every wait is spread by ±20 %, so that deliveries that failed together do not return together. A wait that the
// receiver asked for is honoured in full up to MaxRetryAfter and never shortened. Limits on attempts and age count
// attempts and their waits: time that a delivery spends parked is not held against it, which is why Schedule needs no
// clock.
package retry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Limits of every schedule.
const (
	MinWait       = time.Second         // delays are kept in whole seconds downstream
	MaxWait       = 24 * time.Hour      // of one step, before jitter
	MaxSteps      = 100                 // waits, so at most 101 attempts
	MaxHorizon    = 14 * 24 * time.Hour // of all waits together, jitter included
	MaxRetryAfter = 24 * time.Hour      // longest wait that a receiver can ask for
)

// Jitter is the largest part of a wait by which it may become shorter or longer.
const Jitter = 0.2

// Schedule decides how often and when a delivery is tried. The zero Schedule is Default. Schedules are immutable and
// safe for concurrent use.
type Schedule struct {
	waits  []time.Duration // nil means the default's
	maxAge time.Duration
}

// Default gives the schedule of Standard Webhooks: 10 attempts over 75.6 h.
func Default() Schedule { return Schedule{} }

func defaultWaits() []time.Duration {
	return []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute,
		2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// Steps gives the schedule with these waits after attempt 1, 2, …: three waits make four attempts, none makes a single
// attempt. The error is an *Error that lists every problem.
func Steps(waits ...time.Duration) (Schedule, error) {
	var c check
	if len(waits) > MaxSteps {
		c.fail("schedule", fmt.Sprintf("has %d waits", len(waits)), fmt.Sprintf("use at most %d", MaxSteps))
	}
	for i, wait := range waits {
		c.wait(fmt.Sprintf("schedule[%d]", i), wait)
	}
	s := Schedule{waits: append(make([]time.Duration, 0, len(waits)), waits...)}
	if len(c.problems) == 0 {
		c.horizon("schedule", s, "drop or shorten some waits")
	}
	return s, c.err()
}

// Delay gives the wait after that attempt (numbered from 1) failed, or ok = false if it was the last one and the
// delivery is given up. random gives numbers in [0, 1) and places the wait within its jitter; nil uses math/rand/v2.
func (s Schedule) Delay(attempt int, random func() float64) (wait time.Duration, ok bool) {
	waits := s.nominal()
	if attempt > len(waits) {
		return 0, false
	}
	if random == nil {
		random = rand.Float64
	}
	spread := min(max(random(), 0), 1)*2*Jitter + 1 - Jitter
	return time.Duration(float64(waits[max(attempt, 1)-1]) * spread), true
}

// After gives the wait after that attempt failed with an answer that asked for retryAfter: the longer of the
// schedule's own wait and the one asked for, of which at most MaxRetryAfter counts. Jitter never makes it shorter than
// the receiver asked for. A request to wait adds no attempt: ok = false means the same as for Delay.
func (s Schedule) After(attempt int, retryAfter time.Duration, random func() float64) (wait time.Duration, ok bool) {
	wait, ok = s.Delay(attempt, random)
	if !ok {
		return 0, false
	}
	return max(wait, min(retryAfter, MaxRetryAfter)), true
}

// Attempts gives how often a delivery is tried at most, at least 1.
func (s Schedule) Attempts() int { return len(s.nominal()) + 1 }

// Horizon gives the longest time that all waits together can take with jitter, at most MaxHorizon. Time parked and
// waits lengthened by receivers come on top; Longest includes the latter.
func (s Schedule) Horizon() time.Duration {
	var total time.Duration
	for _, wait := range s.nominal() {
		total += longest(wait)
	}
	return total
}

// Longest gives the Horizon for a receiver that answers every attempt with the largest Retry-After. Whoever keeps
// records of a delivery must keep them for at least that long.
func (s Schedule) Longest() time.Duration {
	var total time.Duration
	for _, wait := range s.nominal() {
		total += max(longest(wait), MaxRetryAfter)
	}
	return total
}

func longest(wait time.Duration) time.Duration { return time.Duration(float64(wait) * (1 + Jitter)) }

// MaxAge gives the age limit that the schedule was cut to, 0 if none was set.
func (s Schedule) MaxAge() time.Duration { return s.maxAge }

// Waits gives a copy of the waits without jitter: the n-th follows attempt n, counted from 1.
func (s Schedule) Waits() []time.Duration { return slices.Clone(s.nominal()) }

// String gives the waits as a configuration file would: [1s 5s 1m0s].
func (s Schedule) String() string {
	texts := make([]string, 0, len(s.nominal()))
	for _, wait := range s.nominal() {
		texts = append(texts, wait.String())
	}
	return "[" + strings.Join(texts, " ") + "]"
}

func (s Schedule) nominal() []time.Duration {
	if s.waits == nil {
		return defaultWaits()
	}
	return s.waits
}
