package pattern

import (
	"encoding/json"
	"strconv"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

// scalar is a value that alternatives compare: no object, no array. Numbers are kept as their text.
type scalar struct {
	kind jsontree.Kind
	text string
}

// branch is one way to fit a pattern: all of its conditions must hold.
type branch struct {
	attributes []*field // all of them leaves
	data       *field   // nil if nothing is asked of the payload
	conditions way      // the same, side by side
}

func (b *branch) fits(e *Event) bool {
	for _, f := range b.attributes {
		if !f.fits(e.attribute(f.name)) {
			return false
		}
	}
	return b.data == nil || b.data.fits(e.payload())
}

// field is one name of a pattern: a leaf with alternatives, or an inner field with fields below it.
type field struct {
	name  string
	leaf  *leaf    // nil for an inner field
	below []*field // of an inner field; never empty
}

// leaf holds the alternatives of one field.
type leaf struct {
	exact  map[scalar]struct{}
	tests  []func(scalar) bool
	keys   [][]key // for every alternative but absence: what it may be filed under, any of which will do
	absent bool    // {"exists": false} is among them
}

func (l *leaf) equal(s scalar) {
	l.exact[s] = struct{}{}
	l.keys = append(l.keys, []key{{kind: equalTo, scalar: s}})
}

func (l *leaf) test(accepts func(scalar) bool, keys ...key) {
	l.tests = append(l.tests, accepts)
	l.keys = append(l.keys, keys)
}

// fits decides for one field. A field is *found* if a value present in the document satisfies it, and *absent* if it
// asks for absence and the document has no such value. The difference matters inside arrays: an element counts as the
// one that fits only if something was found in it, and absence is then judged in that element alone; if nothing was
// found, every element must lack the field.
func (f *field) fits(value any) bool { return f.found(value) || f.missing(value) }

func (f *field) found(value any) bool {
	if f.leaf != nil {
		return f.leaf.found(value)
	}
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			if f.found(element) {
				return true
			}
		}
	case map[string]any:
		return f.foundIn(value)
	}
	return false
}

// foundIn asks every field below; all must fit and at least one must be found.
func (f *field) foundIn(object map[string]any) bool {
	found := false
	for _, b := range f.below {
		value := member(object, b.name)
		switch {
		case b.found(value):
			found = true
		case !b.missing(value):
			return false
		}
	}
	return found
}

// missing reports whether everything that f asks for is absence, and nothing of it is there.
func (f *field) missing(value any) bool {
	if f.leaf != nil {
		return f.leaf.absent && !anyScalar(value, func(scalar) bool { return true })
	}
	if elements, ok := value.([]any); ok && len(elements) > 0 {
		for _, element := range elements {
			if !f.missing(element) {
				return false
			}
		}
		return true
	}
	object, _ := value.(map[string]any)
	for _, b := range f.below {
		if !b.missing(member(object, b.name)) {
			return false
		}
	}
	return true
}

func (l *leaf) found(value any) bool { return anyScalar(value, l.accepts) }

func (l *leaf) accepts(s scalar) bool {
	if _, ok := l.exact[s]; ok {
		return true
	}
	for _, test := range l.tests {
		if test(s) {
			return true
		}
	}
	return false
}

func member(object map[string]any, name string) any {
	if value, ok := object[name]; ok {
		return value
	}
	return missing{}
}

// anyScalar reports whether the value is a scalar that satisfies test, or an array, however nested, that contains one.
func anyScalar(value any, test func(scalar) bool) bool {
	if elements, ok := value.([]any); ok {
		for _, element := range elements {
			if anyScalar(element, test) {
				return true
			}
		}
		return false
	}
	s, ok := asScalar(value)
	return ok && test(s)
}

func asScalar(value any) (scalar, bool) {
	switch value := value.(type) {
	case string:
		return scalar{jsontree.String, value}, true
	case json.Number:
		return scalar{jsontree.Number, value.String()}, true
	case bool:
		return scalar{jsontree.Bool, strconv.FormatBool(value)}, true
	case nil:
		return scalar{kind: jsontree.Null}, true
	}
	return scalar{}, false
}
