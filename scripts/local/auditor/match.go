package auditor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/waybillhq/waybill/events"
)

// everyTenant as a destination's tenant gives it the events of all of them.
const everyTenant = "*"

// destination is what the auditor has to know of one: who it is and what it wants.
type destination struct {
	ID      string         `json:"id"`
	Tenant  string         `json:"tenant"`
	Pattern map[string]any `json:"pattern"` // nil: everything
}

// readDestinations reads the destinations file, the same one that the functions read, with other code.
func readDestinations(file []byte) ([]destination, error) {
	var document struct {
		Destinations []destination `json:"destinations"`
	}
	decoder := json.NewDecoder(bytes.NewReader(file))
	decoder.UseNumber() // numbers in patterns compare by their text
	if err := decoder.Decode(&document); err != nil {
		return nil, fmt.Errorf("auditor: destinations file: %w", err)
	}
	var errs []error
	for _, d := range document.Destinations {
		if err := checkPattern(d.Pattern); err != nil {
			errs = append(errs, fmt.Errorf("auditor: destination %q: %w", d.ID, err))
		}
	}
	return document.Destinations, errors.Join(errs...)
}

// checkPattern refuses what the matcher below would not understand: a guess would make the books wrong.
func checkPattern(wanted any) error {
	switch wanted := wanted.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(wanted)) {
			if strings.HasPrefix(name, "$") {
				return fmt.Errorf("pattern: %q is not known", name)
			}
			if err := checkPattern(wanted[name]); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
		}
		return nil
	case []any:
		for _, alternative := range wanted {
			if err := checkAlternative(alternative); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("pattern: a field needs an array of alternatives, or an object of fields")
}

func checkAlternative(alternative any) error {
	operator, ok := alternative.(map[string]any)
	if !ok {
		if _, ok := alternative.([]any); ok {
			return errors.New("pattern: an alternative cannot be an array")
		}
		return nil
	}
	for name, argument := range operator {
		known := false
		switch name {
		case "prefix", "suffix":
			_, known = argument.(string)
		case "exists":
			_, known = argument.(bool)
		case "anything-but":
			_, isObject := argument.(map[string]any)
			known = !isObject
		}
		if !known || len(operator) != 1 {
			return fmt.Errorf("pattern: the alternative with %q is not known", name)
		}
	}
	if len(operator) == 0 {
		return errors.New("pattern: an alternative is an empty object")
	}
	return nil
}

// wanting gives the ids of the destinations that want an event, in the order of the file.
func wanting(destinations []destination, e *events.Event) []string {
	attributes := map[string]any{}
	for name, value := range e.Attributes() {
		attributes[name] = value
	}
	var payload any
	decoded := false
	var ids []string
	for _, d := range destinations {
		if d.Tenant != everyTenant && d.Tenant != e.Tenant() {
			continue
		}
		if _, looksInside := d.Pattern["data"]; looksInside && !decoded {
			payload, decoded = decodePayload(e.Data), true
		}
		if wants(d.Pattern, attributes, payload) {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// wants tells whether every field of the pattern fits: "data" the payload, any other the attribute of that name.
func wants(pattern, attributes map[string]any, payload any) bool {
	for name, wanted := range pattern {
		value := member(attributes, name)
		if name == "data" {
			value = payload
		}
		if look(wanted, value) == mismatch {
			return false
		}
	}
	return true
}

// nothing stands where a document has no value; nil is JSON's null.
type nothing struct{}

// decodePayload reads a payload that is exactly one JSON value; any other has no fields.
func decodePayload(data []byte) any {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nothing{}
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nothing{}
	}
	return value
}

// finding is what comes of holding a part of a pattern against a part of a document.
type finding int

const (
	mismatch finding = iota
	hit              // something that is there fits
	absent           // nothing is there, and that is what the pattern asks for
)

// look holds alternatives (an array) or fields (an object) against a value.
func look(wanted, value any) finding {
	if alternatives, ok := wanted.([]any); ok {
		return lookAt(alternatives, value)
	}
	fields, _ := wanted.(map[string]any)
	if elements, ok := value.([]any); ok && len(elements) > 0 {
		return lookInEach(fields, elements)
	}
	object, _ := value.(map[string]any) // of anything else no field is there
	found := absent
	for name, wanted := range fields {
		switch look(wanted, member(object, name)) {
		case mismatch:
			return mismatch
		case hit:
			found = hit
		}
	}
	return found
}

// lookInEach looks for one element in which all fields fit. What shall be absent must be absent in that element, or, if nothing is
// found anywhere, in all of them.
func lookInEach(fields map[string]any, elements []any) finding {
	all := absent
	for _, element := range elements {
		switch look(fields, element) {
		case hit:
			return hit
		case mismatch:
			all = mismatch
		}
	}
	return all
}

// lookAt looks for one scalar, in arrays however nested, that one alternative accepts.
func lookAt(alternatives []any, value any) finding {
	found := scalars(value, nil)
	for _, scalar := range found {
		for _, alternative := range alternatives {
			if accepts(alternative, scalar) {
				return hit
			}
		}
	}
	for _, alternative := range alternatives {
		if operator, ok := alternative.(map[string]any); ok && operator["exists"] == false && len(found) == 0 {
			return absent
		}
	}
	return mismatch
}

// scalars collects the strings, numbers, booleans and nulls of a value. Objects are not looked into.
func scalars(value any, found []any) []any {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			found = scalars(element, found)
		}
		return found
	case map[string]any, nothing:
		return found
	}
	return append(found, value)
}

// accepts compares one scalar with one alternative. Numbers are their text, and a number never equals a string: json.Number and string
// are different types.
func accepts(alternative, scalar any) bool {
	operator, ok := alternative.(map[string]any)
	if !ok {
		return alternative == scalar
	}
	text, isText := scalar.(string)
	switch {
	case operator["exists"] == true:
		return true
	case has(operator, "prefix"):
		prefix, _ := operator["prefix"].(string)
		return isText && strings.HasPrefix(text, prefix)
	case has(operator, "suffix"):
		suffix, _ := operator["suffix"].(string)
		return isText && strings.HasSuffix(text, suffix)
	case has(operator, "anything-but"):
		refused, ok := operator["anything-but"].([]any)
		if !ok {
			refused = []any{operator["anything-but"]}
		}
		return !slices.Contains(refused, scalar)
	}
	return false
}

func has(object map[string]any, name string) bool {
	_, ok := object[name]
	return ok
}

func member(object map[string]any, name string) any {
	if value, ok := object[name]; ok {
		return value
	}
	return nothing{}
}
