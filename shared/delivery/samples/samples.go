// Package samples holds delivery messages as releases have written them, and one as a later release may write it. They are never rewritten: a message
// that lies on a queue during a release, or after it was taken back, is one of these.
//
// Files are named after the version in their member "v": v1.json and v1-….json are of version 1, v1-first.json as the first release of it wrote them.
// is exactly what delivery.Message.Encode writes today, so that a change of format shows; such a change needs a new version, whose files are
// added while these stay.
package samples

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/waybillhq/waybill/shared/delivery"
)

//go:embed *.json
var files embed.FS

// Sample is a message.
type Sample struct {
	Name    string // file name without ".json"
	Version int    // delivery.Version of the release that wrote it
	Body    string
}

// All gives all samples, by name.
func All() []Sample {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // the files are part of the program
	}
	all := make([]Sample, 0, len(entries))
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			panic(err) // as above
		}
		s := Sample{Name: strings.TrimSuffix(e.Name(), ".json"), Body: strings.TrimSuffix(string(text), "\n")}
		if _, err := fmt.Sscanf(s.Name, "v%d", &s.Version); err != nil {
			panic(fmt.Errorf("sample %s: name it after its version, as in v1-name.json: %w", e.Name(), err))
		}
		all = append(all, s)
	}
	return all
}

// For gives the message as it would be for another event and destination, whatever its version. Nothing but the ids is changed, and nothing else of it
// needs to be understood. A compressed message stays as it is.
func (s Sample) For(tenant, eventID, destination string) (string, error) {
	var message map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s.Body), &message); err != nil {
		return "", fmt.Errorf("sample %s: %w", s.Name, err)
	}
	if message["zip"] != nil {
		return s.Body, nil
	}
	var event map[string]json.RawMessage
	if err := json.Unmarshal(message["event"], &event); err != nil {
		return "", fmt.Errorf("sample %s: event: %w", s.Name, err)
	}
	var source string
	if err := json.Unmarshal(event["source"], &source); err != nil {
		return "", fmt.Errorf("sample %s: source: %w", s.Name, err)
	}
	for _, change := range []struct {
		of    map[string]json.RawMessage
		name  string
		value any
	}{
		{event, "id", eventID}, {event, "extensions", map[string]string{"tenant": tenant}}, {message, "event", event},
		{message, "destination", destination}, {message, "delivery", delivery.NewID(tenant, source, eventID, destination)},
	} {
		text, err := json.Marshal(change.value)
		if err != nil {
			return "", fmt.Errorf("sample %s: %w", s.Name, err)
		}
		change.of[change.name] = text
	}
	text, err := json.Marshal(message)
	return string(text), err
}
