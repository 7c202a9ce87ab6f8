package retry

import (
	"fmt"
	"math"
	"time"
)

// Exponential describes waits that grow by a constant factor.
type Exponential struct {
	Initial  time.Duration // wait after the first attempt
	Factor   float64       // each wait is the one before times Factor; at least 1
	Cap      time.Duration // no wait grows beyond it
	Attempts int           // in all, the first one included: 1 to MaxSteps+1
	// MaxAge ends the schedule early: no attempt is planned whose waits, without jitter, add up to more. 0 means no
	// limit.
	MaxAge time.Duration
}

// Schedule lists the waits. The error is an *Error that lists every problem.
func (e Exponential) Schedule() (Schedule, error) {
	var c check
	c.wait("exponential.initial", e.Initial)
	c.factor(e.Factor)
	c.wait("exponential.cap", e.Cap)
	if e.Initial > 0 && e.Cap > 0 && e.Cap < e.Initial {
		c.fail("exponential.cap", fmt.Sprintf("%v is shorter than initial, %v", e.Cap, e.Initial), "raise cap or lower initial")
	}
	if e.Attempts < 1 || e.Attempts > MaxSteps+1 {
		c.fail("exponential.attempts", fmt.Sprintf("is %d", e.Attempts), fmt.Sprintf("use 1 to %d", MaxSteps+1))
	}
	e.checkAge(&c)
	if len(c.problems) > 0 {
		return Schedule{}, c.err()
	}
	s := Schedule{waits: e.waits(), maxAge: e.MaxAge}
	c.horizon("exponential", s, "lower attempts or cap, or set maxAge")
	return s, c.err()
}

func (e Exponential) checkAge(c *check) {
	switch {
	case e.MaxAge < 0 || e.MaxAge > MaxHorizon:
		c.fail("exponential.maxAge", fmt.Sprintf("is %v", e.MaxAge), fmt.Sprintf("use at most %v, or leave it out", MaxHorizon))
	case e.MaxAge > 0 && e.MaxAge < e.Initial && e.Attempts > 1:
		c.fail("exponential.maxAge", fmt.Sprintf("%v ends before the first retry, after %v", e.MaxAge, e.Initial), "raise maxAge, or set attempts to 1")
	}
}

func (e Exponential) waits() []time.Duration {
	waits := make([]time.Duration, 0, e.Attempts-1)
	age, next := time.Duration(0), float64(e.Initial)
	for len(waits) < e.Attempts-1 {
		wait := time.Duration(min(next, float64(e.Cap)))
		age += wait
		if e.MaxAge > 0 && age > e.MaxAge {
			break
		}
		waits = append(waits, wait)
		next = min(next*e.Factor, float64(e.Cap)) // bounded here, so that it never overflows
	}
	return waits
}

func (c *check) factor(factor float64) {
	if factor >= 1 && !math.IsInf(factor, 0) { // NaN is not
		return
	}
	c.fail("exponential.factor", fmt.Sprintf("is %v", factor), "use 1 for equal waits, or more, such as 2")
}
