package registry_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/waybillhq/waybill/shared/registry"
)

func schema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(registry.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("destinations.schema.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("destinations.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func TestSchemaTakesWhatParseTakes(t *testing.T) {
	s := schema(t)
	documents := accepted()
	documents["full"] = strings.Replace(fullFile, "SECRET", goodARN, 1)
	documents["thousands"] = many(2000)
	for name, document := range documents {
		if _, err := registry.Parse([]byte(document), registry.Options{}); err != nil {
			t.Errorf("%s is no good sample: %v", name, err)
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(document))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// beyondSchema says, for each bad file that fits the schema, why a schema cannot tell.
func beyondSchema() map[string]string {
	const (
		text     = "the text of the file is read before any schema is asked"
		other    = "two values of the file must be compared"
		duration = "durations are texts, and a schema cannot compute with them"
		decoded  = "what is encoded must be decoded and looked at"
		address  = "addresses must be understood"
		folding  = "a schema cannot ignore upper and lower case, and lists the usual spellings"
		sum      = "the sizes of several values must be added"
		number   = "the largest number is the reader's, not JSON's"
	)
	return map[string]string{
		"file too large": text, "not UTF-8": text, "repeated field": text, "repeated field in a destination": text, "pattern repeats a field": text,
		"too many headers": text, // of one name, of which other readers keep one
		"same id twice":    other, "cap below initial": other, "age without a retry": other,
		"rate of no time": duration, "rate of two days": duration,
		"timeout too short": duration, "timeout too long": duration, "wait of two days": duration,
		"schedule of three weeks": duration, "exponential of a month": duration,
		"secret of one byte": decoded, "secret of a word": decoded,
		"port too large": address, "address in hexadecimal": address, "address shortened": address,
		"same header twice":     folding,
		"headers too long":      sum,
		"factor beyond numbers": number,
	}
}

func TestSchemaRefusesWhatItCan(t *testing.T) {
	s := schema(t)
	beyond := beyondSchema()
	refused := 0
	for _, test := range refusals() {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(test.document))
		if err != nil {
			continue // not JSON
		}
		fits := s.Validate(value) == nil
		why, exempt := beyond[test.name]
		switch {
		case fits && !exempt:
			t.Errorf("%s fits the schema: %.300s", test.name, test.document)
		case !fits && exempt:
			t.Errorf("%s does not fit the schema, although %s", test.name, why)
		case !fits:
			refused++
		}
		delete(beyond, test.name)
	}
	for name := range beyond {
		t.Errorf("no bad file is named %q", name)
	}
	if refused < 100 {
		t.Errorf("the schema refuses only %d files", refused)
	}
}

// TestSchemaHelps: editors show descriptions, so every field has one, its own or that of what it refers to.
func TestSchemaHelps(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(registry.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	definitions, _ := root["$defs"].(map[string]any)
	var visit func(path string, schema map[string]any)
	visit = func(path string, schema map[string]any) {
		properties, _ := schema["properties"].(map[string]any)
		for name, value := range properties {
			field, _ := value.(map[string]any)
			described := field["description"] != nil
			if ref, is := field["$ref"].(string); is && !described {
				target, _ := definitions[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
				described = target["description"] != nil
			}
			if !described {
				t.Errorf("%s.%s has no description", path, name)
			}
			visit(path+"."+name, field)
		}
	}
	visit("", root)
	for name, definition := range definitions {
		visit(name, definition.(map[string]any))
	}
}
