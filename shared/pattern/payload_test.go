package pattern

import (
	"encoding/json"
	"maps"
	"sync"
	"testing"
)

// counting gives an event that counts how often its payload is parsed.
func counting(attributes map[string]string, data string) (*Event, *int) {
	e := NewEvent(maps.All(attributes), []byte(data))
	parses := 0
	inner := e.decode
	e.decode = func(data []byte) any { parses++; return inner(data) }
	return e, &parses
}

func must(t *testing.T, text string) *Pattern {
	t.Helper()
	p, err := Parse(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPayloadIsParsedAtMostOnce(t *testing.T) {
	event, parses := counting(map[string]string{"type": "a"}, `{"x": 1}`)
	fits, other := must(t, `{"type": ["a"], "data": {"x": [1]}}`), must(t, `{"data": {"x": [2]}}`)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 100 {
				if !fits.Match(event) || other.Match(event) {
					t.Error("wrong verdict")
				}
			}
		})
	}
	group.Wait()
	if *parses != 1 {
		t.Errorf("parsed %d times, want once", *parses)
	}
}

func TestPayloadIsNotParsedInVain(t *testing.T) {
	event, parses := counting(map[string]string{"type": "a"}, `{"x": 1}`)
	for _, text := range []string{`{}`, `{"type": ["a"]}`, `{"type": [{"exists": false}]}`, `{"data": {"x": [1]}, "type": ["b"]}`} {
		must(t, text).Match(event)
	}
	if *parses != 0 {
		t.Errorf("parsed %d times although no attribute condition left it to the payload", *parses)
	}
}

func TestBrokenPayloadIsNotParsedAgain(t *testing.T) {
	event, parses := counting(nil, `{"x": `)
	for range 3 {
		must(t, `{"data": {"x": [1]}}`).Match(event)
	}
	if *parses != 1 {
		t.Errorf("parsed %d times, want once", *parses)
	}
}
