// Package samples holds messages that producers send, right ones and wrong ones, with what
// events.Decode makes of them. One set serves the tests, the fuzz seeds, local mode and the documentation.
//
// The files are described in README.md beside them.
package samples

import (
	"bytes"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/waybillhq/waybill/events"
)

//go:embed valid/*.json invalid/*.json
var files embed.FS

// Sample is one message and what becomes of it.
type Sample struct {
	Name  string // file name without ".json"
	Valid bool
	About string // why the sample exists

	Body       string
	Attributes map[string]events.Attribute
	GroupID    string // MessageGroupId
	EventID    string // id kept by an earlier hop
	Tenant     string // pinned tenant

	Want Want
}

// Want is what events.Decode makes of the sample.
type Want struct {
	Form    events.Form `json:"form"`
	Inner   events.Form `json:"inner"`   // of what an SNS notification carries
	Events  []Event     `json:"events"`  // of a valid sample
	Dropped int         `json:"dropped"` // of a valid sample: notices that are no events

	Code  string `json:"code"`  // of an invalid sample: events.InvalidError.Code
	Field string `json:"field"` // of an invalid sample: events.InvalidError.Field
}

// Event is an expected event. Source and ID are those of the message as Input gives it.
type Event struct {
	ID          string            `json:"id"`
	Source      string            `json:"source"`
	Type        string            `json:"type"`
	Tenant      string            `json:"tenant"`
	Subject     string            `json:"subject"`
	Time        string            `json:"time"` // where it is the producer's
	ContentType string            `json:"datacontenttype"`
	Extensions  map[string]string `json:"extensions"` // without tenant
	Data        *string           `json:"data"`       // payload, if it is text
	DataSHA256  string            `json:"dataSHA256"` // payload digest in hexadecimal, if it is not or is long; neither: no payload
}

// MessageID and QueueARN are those of every sample's Input; SentAt is when it was sent.
const (
	MessageID = "6f1c0c2e-90a5-4f0e-9c55-0a7f2d3b1e11"
	QueueARN  = "arn:aws:sqs:eu-west-1:000000000000:ingress"
)

// SentAt is when every sample's Input was sent.
func SentAt() time.Time { return time.Date(2026, time.November, 22, 10, 0, 0, 0, time.UTC) }

// Input is the sample as a queue would hand it out.
func (s Sample) Input() events.Input {
	return events.Input{
		MessageID: MessageID, QueueARN: QueueARN, SentAt: SentAt(),
		GroupID: s.GroupID, EventID: s.EventID, Tenant: s.Tenant,
		Body: s.Body, Attributes: s.Attributes,
	}
}

// Sendable reports whether SQS would take the message: some samples are larger than it allows,
// and EventID and Tenant come from Waybill, not from a producer.
func (s Sample) Sendable() bool {
	size := len(s.Body)
	for name, a := range s.Attributes {
		size += len(name) + len(a.DataType) + len(a.StringValue) + len(a.BinaryValue)
	}
	return 0 < size && size <= events.MaxMessageBytes && len(s.Attributes) <= 10 && s.EventID == "" && s.Tenant == ""
}

// Valid returns the samples that events.Decode accepts, by name. The result is the caller's own.
func Valid() []Sample { return load("valid") }

// Invalid returns the samples that events.Decode refuses, by name. The result is the caller's own.
func Invalid() []Sample { return load("invalid") }

// load panics on a broken file: the files are part of the program, and a test loads all of them.
func load(dir string) []Sample {
	entries, err := files.ReadDir(dir)
	if err != nil {
		panic("samples: " + err.Error())
	}
	all := make([]Sample, 0, len(entries))
	for _, entry := range entries {
		content, err := files.ReadFile(path.Join(dir, entry.Name()))
		if err != nil {
			panic("samples: " + err.Error())
		}
		s, err := parse(content)
		if err != nil {
			panic(fmt.Sprintf("samples: %s/%s: %v", dir, entry.Name(), err))
		}
		s.Name, s.Valid = strings.TrimSuffix(entry.Name(), ".json"), dir == "valid"
		all = append(all, s)
	}
	return all
}

// file is the form of a sample on disk.
type file struct {
	About      string            `json:"about"`
	Body       string            `json:"body"`
	JSON       json.RawMessage   `json:"json"`
	Base64     string            `json:"base64"`
	Repeat     int               `json:"repeat"`
	Attributes map[string]string `json:"attributes"`
	Binary     map[string][]byte `json:"binaryAttributes"`
	GroupID    string            `json:"group"`
	EventID    string            `json:"eventID"`
	Tenant     string            `json:"pinnedTenant"`
	Want       Want              `json:"want"`
}

func parse(content []byte) (Sample, error) {
	var f file
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return Sample{}, err
	}
	s := Sample{About: f.About, Body: f.Body, GroupID: f.GroupID, EventID: f.EventID, Tenant: f.Tenant, Want: f.Want}
	if f.JSON != nil {
		s.Body = string(f.JSON)
	}
	if f.Base64 != "" {
		body, err := base64.StdEncoding.DecodeString(f.Base64)
		if err != nil {
			return Sample{}, err
		}
		s.Body = string(body)
	}
	if f.Repeat > 0 {
		s.Body = strings.Repeat(s.Body, f.Repeat)
	}
	if len(f.Attributes)+len(f.Binary) > 0 {
		s.Attributes = make(map[string]events.Attribute, len(f.Attributes)+len(f.Binary))
	}
	for name, value := range f.Attributes {
		s.Attributes[name] = events.Attribute{DataType: "String", StringValue: value}
	}
	for name, value := range f.Binary {
		s.Attributes[name] = events.Attribute{DataType: "Binary", BinaryValue: value}
	}
	return s, nil
}
