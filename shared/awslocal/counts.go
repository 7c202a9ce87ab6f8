package awslocal

import (
	"maps"
	"sync"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// Op names an operation of a service.
type Op struct{ Service, Name string }

// String gives "sqs SendMessage".
func (o Op) String() string { return o.Service + " " + o.Name }

// UnknownOp is the Name under which all operations that a service does not implement are counted.
const UnknownOp = "(unknown)"

// Tally counts the calls of one operation.
type Tally struct {
	Attempted int        // arrived here, whatever became of them
	Refused   int        // answered with an error
	Withheld  int        // performed, with the answer withheld by a fault
	Units     wire.Units // consumed, also by refused calls
}

func (t Tally) plus(u Tally, sign int) Tally {
	factor := float64(sign)
	return Tally{
		Attempted: t.Attempted + sign*u.Attempted, Refused: t.Refused + sign*u.Refused, Withheld: t.Withheld + sign*u.Withheld,
		Units: t.Units.Add(wire.Units{Read: factor * u.Units.Read, Write: factor * u.Units.Write}),
	}
}

// Counts are tallies by operation.
type Counts map[Op]Tally

// Since gives what was added since an earlier count of the same endpoint.
func (c Counts) Since(earlier Counts) Counts {
	difference := Counts{}
	for op, tally := range c {
		if d := tally.plus(earlier[op], -1); d != (Tally{}) {
			difference[op] = d
		}
	}
	return difference
}

// Total sums up a service, or everything for "".
func (c Counts) Total(service string) Tally {
	var total Tally
	for op, tally := range c {
		if service == "" || op.Service == service {
			total = total.plus(tally, 1)
		}
	}
	return total
}

// Counts gives what has been called so far, as a copy.
func (e *Endpoint) Counts() Counts {
	e.counts.mu.Lock()
	defer e.counts.mu.Unlock()
	return maps.Clone(e.counts.byOp)
}

type tallies struct {
	mu   sync.Mutex
	byOp Counts
}

func (t *tallies) add(c Call) {
	one := Tally{Attempted: 1, Units: c.Units}
	op := Op{c.Service, c.Operation}
	if c.Err != nil {
		one.Refused = 1
		if c.Err.Code == "UnknownOperationException" {
			op.Name = UnknownOp
		}
	}
	if c.Withheld {
		one.Withheld = 1
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byOp == nil {
		t.byOp = Counts{}
	}
	t.byOp[op] = t.byOp[op].plus(one, 1)
}
