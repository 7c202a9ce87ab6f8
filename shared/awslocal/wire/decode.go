package wire

import (
	"cmp"
	"encoding/json"
	"reflect"
	"unicode/utf8"
)

// Decode reads a request document into a struct. Like AWS it minds the case of names; unlike AWS it refuses members that it does not know, because to
// ignore one would be to accept what AWS handles differently: unknown makes that error. What encoding/json says is left out: it could quote
// a value.
func Decode(op string, body []byte, into any, unknown func(format string, args ...any) *Error) *Error {
	var document map[string]json.RawMessage
	if err := json.Unmarshal(body, &document); err != nil || document == nil || !utf8.Valid(body) {
		return Errorf("SerializationException", "the request document is not a JSON object in UTF-8")
	}
	members := reflect.ValueOf(into).Elem()
	for i := range members.NumField() {
		field := members.Type().Field(i)
		name := cmp.Or(field.Tag.Get("json"), field.Name)
		raw, given := document[name]
		delete(document, name)
		if !given {
			continue
		}
		if err := json.Unmarshal(raw, members.Field(i).Addr().Interface()); err != nil {
			return Errorf("SerializationException", "the member %s is of another type than %s has", name, op)
		}
	}
	for name := range document {
		return unknown("the local endpoint does not implement the member %.100s of %s", name, op)
	}
	return nil
}
