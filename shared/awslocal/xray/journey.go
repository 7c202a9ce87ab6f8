package xray

import (
	"cmp"
	"slices"
)

// Trace is what belongs to one delivery in one trace.
type Trace struct {
	ID       string
	Segments []Segment // by start
	Others   int       // segments left out: of other deliveries and events
}

// Journey gives what belongs to a delivery, as the package says, by the traces' beginnings. It is empty if no span of the delivery is known.
func (d *Daemon) Journey(delivery string) []Trace {
	d.mu.Lock()
	defer d.mu.Unlock()
	own := d.kin(delivery)
	if !own.found {
		return nil
	}
	var journey []Trace
	for id, t := range d.traces {
		if _, event := own.traces[id]; !event && !own.concern(t) {
			continue
		}
		part := own.part(id, t)
		if len(part.Segments) == 0 {
			continue
		}
		slices.SortFunc(part.Segments, earlier)
		journey = append(journey, part)
	}
	slices.SortFunc(journey, func(a, b Trace) int {
		return cmp.Or(a.Segments[0].Start.Compare(b.Segments[0].Start), cmp.Compare(a.ID, b.ID))
	})
	return journey
}

// part gives what of a trace belongs to the delivery. What lies inside a span of another one is that one's too.
func (k kin) part(id string, t *trace) Trace {
	part := Trace{ID: id}
	others := map[string]bool{} // by segment id; false while a span's parents are looked at, so that circles end
	var other func(s Segment) bool
	other = func(s Segment) bool {
		if known, ok := others[s.ID]; ok {
			return known
		}
		others[s.ID] = false
		parent, ok := t.segments[s.ParentID]
		is := k.foreign(s) || s.Annotations[annotationDelivery] != k.delivery && ok && other(parent.Segment)
		others[s.ID] = is
		return is
	}
	for _, s := range t.segments {
		if other(s.Segment) {
			part.Others++
		} else {
			part.Segments = append(part.Segments, s.Segment)
		}
	}
	return part
}

// earlier orders segments by start, then so that a parent of the same moment that lasts longer comes first.
func earlier(a, b Segment) int {
	return cmp.Or(a.Start.Compare(b.Start), b.End.Compare(a.End), cmp.Compare(a.ID, b.ID))
}

// kin says what the spans of a delivery say about its event.
type kin struct {
	delivery       string
	traces, events map[string]struct{}
	found          bool
}

// kin looks for the spans of a delivery. d.mu is held.
func (d *Daemon) kin(delivery string) kin {
	own := kin{delivery: delivery, traces: map[string]struct{}{}, events: map[string]struct{}{}}
	for _, t := range d.traces {
		for _, s := range t.segments {
			if s.Annotations[annotationDelivery] != delivery {
				continue
			}
			own.found = true
			if id, ok := s.Annotations[annotationTrace].(string); ok && id != "" {
				own.traces[id] = struct{}{}
			}
			if id, ok := s.Annotations[annotationEvent].(string); ok && id != "" {
				own.events[id] = struct{}{}
			}
		}
	}
	return own
}

// foreign says that s belongs to another delivery or event.
func (k kin) foreign(s Segment) bool {
	if id, ok := s.Annotations[annotationDelivery]; ok {
		return id != k.delivery
	}
	return isOther(s, annotationTrace, k.traces) || isOther(s, annotationEvent, k.events)
}

// isOther says that s is annotated with something else than what is known.
func isOther(s Segment, key string, known map[string]struct{}) bool {
	id, ok := s.Annotations[key].(string)
	if !ok || len(known) == 0 {
		return false
	}
	_, same := known[id]
	return !same
}

// concern says that a trace has a span of the delivery, or of its event and no other delivery.
func (k kin) concern(t *trace) bool {
	for _, s := range t.segments {
		if s.Annotations[annotationDelivery] == k.delivery {
			return true
		}
		id, _ := s.Annotations[annotationTrace].(string)
		if _, same := k.traces[id]; same && !k.foreign(s.Segment) {
			return true
		}
	}
	return false
}
