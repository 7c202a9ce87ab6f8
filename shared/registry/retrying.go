package registry

import (
	"errors"
	"strconv"
	"time"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
	"github.com/waybillhq/waybill/shared/retry"
)

const retryExample = `write {"schedule": ["5s", "1m"]} or {"exponential": {…}}, or leave retry out for the default`

// retry reads {"schedule": […]} or {"exponential": {…}}.
func (r *reader) retry(path string, n *jsontree.Node) retry.Schedule {
	var schedule retry.Schedule
	r.object(path, n,
		member{"schedule", "", func(at string, n *jsontree.Node) { schedule = r.schedule(path, at, n) }},
		member{"exponential", "", func(at string, n *jsontree.Node) { schedule = r.exponential(path, at, n) }},
	)
	if n.Kind != jsontree.Object {
		return schedule
	}
	_, steps := n.Get("schedule")
	_, exponential := n.Get("exponential")
	if steps == exponential {
		r.fail(n.Offset, path, "must name exactly one of schedule and exponential", retryExample)
	}
	return schedule
}

// places remembers where the parts of a schedule stand, by the names that package retry gives them. A part that could
// not be read is not judged again.
type places struct {
	parent string // path of the retry object
	nodes  map[string]*jsontree.Node
	unread map[string]bool
}

func newPlaces(parent string, whole string, n *jsontree.Node) *places {
	return &places{parent: parent, nodes: map[string]*jsontree.Node{whole: n}, unread: map[string]bool{}}
}

// report turns the problems of package retry into ours.
func (r *reader) report(p *places, err error) {
	var refusal *retry.Error
	if !errors.As(err, &refusal) {
		return
	}
	for _, problem := range refusal.Problems {
		if n, ok := p.nodes[problem.Field]; ok && !p.unread[problem.Field] {
			r.fail(n.Offset, p.parent+"."+problem.Field, problem.Message, problem.Fix)
		}
	}
}

func (r *reader) schedule(parent, path string, n *jsontree.Node) retry.Schedule {
	p := newPlaces(parent, "schedule", n)
	waits := make([]time.Duration, 0, len(n.Items))
	for i, item := range r.array(path, n) {
		field := jsontree.Index("schedule", i)
		wait, ok := r.duration(jsontree.Index(path, i), item)
		waits = append(waits, wait)
		p.nodes[field], p.unread[field] = item, !ok
	}
	schedule, err := retry.Steps(waits...)
	r.report(p, err)
	return schedule
}

func (r *reader) exponential(parent, path string, n *jsontree.Node) retry.Schedule {
	p := newPlaces(parent, "exponential", n)
	var e retry.Exponential
	// part wraps a reader of one part, so that p knows where it stands and whether it could be read.
	part := func(name, required string, read func(path string, n *jsontree.Node) bool) member {
		field := jsontree.Field("exponential", name)
		p.unread[field] = true
		return member{name, required, func(path string, n *jsontree.Node) {
			p.nodes[field], p.unread[field] = n, !read(path, n)
		}}
	}
	wait := func(name, required string, to *time.Duration) member {
		return part(name, required, func(path string, n *jsontree.Node) (ok bool) {
			*to, ok = r.duration(path, n)
			return ok
		})
	}
	r.object(path, n,
		wait("initial", `write the first wait, as in "initial": "5s"`, &e.Initial),
		part("factor", `write "factor": 2`, func(path string, n *jsontree.Node) (ok bool) {
			e.Factor, ok = r.number(path, n)
			return ok
		}),
		wait("cap", `write the longest wait, as in "cap": "1h"`, &e.Cap),
		part("attempts", `write "attempts": 10`, func(path string, n *jsontree.Node) (ok bool) {
			e.Attempts, ok = r.integer(path, n)
			return ok
		}),
		wait("maxAge", "", &e.MaxAge),
	)
	schedule, err := e.Schedule()
	r.report(p, err)
	if age, ok := p.nodes["exponential.maxAge"]; ok && !p.unread["exponential.maxAge"] && e.MaxAge == 0 {
		r.fail(age.Offset, jsontree.Field(path, "maxAge"), "is zero", "write how long to go on trying, or leave it out")
	}
	return schedule
}

// number reads any number.
func (r *reader) number(path string, n *jsontree.Node) (float64, bool) {
	number, err := strconv.ParseFloat(n.Text, 64)
	if n.Kind != jsontree.Number || err != nil {
		r.fail(n.Offset, path, "must be a number", "write digits, without quotes")
		return 0, false
	}
	return number, true
}
