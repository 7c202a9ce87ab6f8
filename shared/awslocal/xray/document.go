package xray

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of X-Ray.
// Source: https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html
const (
	MaxPacketBytes     = 64 << 10 // of a datagram, and of a document
	maxNameLength      = 200
	maxKeyLength       = 500
	maxTextLength      = 1000 // of an annotation
	maxLinks           = 20
	latestSeconds      = 1e11 // times are in seconds: this is the year 5138, or 1973 in milliseconds
	segmentIDDigits    = 16
	subsegmentType     = "subsegment"
	namespaceOfAWS     = "aws"
	namespaceOfOthers  = "remote"
	annotationDelivery = "delivery"
	annotationTrace    = "event_trace"
	annotationEvent    = "event"
	annotationAttempt  = "attempt"
)

// ErrRefused says that X-Ray would not have taken a packet. Nothing of it is kept.
var ErrRefused = errors.New("xray: refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// Segment is a segment, or a subsegment however it arrived: alone or inside another.
type Segment struct {
	TraceID, ID, ParentID string // ParentID is "" at the head of a trace
	Name, Namespace       string
	Start                 time.Time
	End                   time.Time // zero while it is in progress
	Subsegment            bool
	Fault, Error          bool
	Throttle              bool
	Annotations           map[string]any // string, bool or float64; not to be changed
	Status                int            // of the HTTP response, 0 without one
	Failure               string         // the first exception's message
}

// document is a segment document as far as it is looked at. Fields of another type than here make it unreadable, as they do for X-Ray.
type document struct {
	ID          string                     `json:"id"`
	TraceID     string                     `json:"trace_id"`
	ParentID    string                     `json:"parent_id"`
	Name        string                     `json:"name"`
	Type        string                     `json:"type"`
	Namespace   string                     `json:"namespace"`
	Start       *float64                   `json:"start_time"`
	End         *float64                   `json:"end_time"`
	InProgress  bool                       `json:"in_progress"`
	Fault       bool                       `json:"fault"`
	Error       bool                       `json:"error"`
	Throttle    bool                       `json:"throttle"`
	Annotations map[string]any             `json:"annotations"`
	Metadata    map[string]json.RawMessage `json:"metadata"`
	AWS         map[string]json.RawMessage `json:"aws"`
	Cause       json.RawMessage            `json:"cause"`
	HTTP        struct {
		Request struct {
			Method string `json:"method"`
			URL    string `json:"url"`
		} `json:"request"`
		Response struct {
			Status int   `json:"status"`
			Length int64 `json:"content_length"`
		} `json:"response"`
	} `json:"http"`
	Links []struct {
		TraceID string `json:"trace_id"`
		ID      string `json:"id"`
	} `json:"links"`
	Subsegments []document `json:"subsegments"`
}

// readPacket gives the segments of a packet, or ErrRefused.
func readPacket(packet []byte) ([]Segment, error) {
	if len(packet) > MaxPacketBytes {
		return nil, refuse("%d bytes, the daemon takes %d", len(packet), MaxPacketBytes)
	}
	head, body, ok := bytes.Cut(packet, []byte("\n"))
	var header struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if !ok || json.Unmarshal(head, &header) != nil || header.Format != "json" || header.Version != 1 {
		return nil, refuse(`the first line must be {"format":"json","version":1}, the document follows in the next`)
	}
	var d document
	if !utf8.Valid(body) {
		return nil, refuse("the document is not UTF-8")
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, refuse("the document cannot be read: %.200s", err.Error())
	}
	if traceID(d.TraceID) == "" {
		return nil, refuse("trace_id %.50q: want 1-<8 hexadecimal digits>-<24>", d.TraceID)
	}
	switch {
	case d.Type != "" && d.Type != subsegmentType:
		return nil, refuse("type %.50q: want none or %q", d.Type, subsegmentType)
	case d.Type == subsegmentType && d.ParentID == "":
		return nil, refuse("a subsegment that is sent alone needs parent_id")
	}
	return d.flatten(nil, d.TraceID, d.ParentID, d.Type == subsegmentType)
}

// flatten checks d and what is inside it, and adds a segment for each.
func (d *document) flatten(to []Segment, trace, parent string, inner bool) ([]Segment, error) {
	if err := d.check(trace, parent, inner); err != nil {
		return nil, err
	}
	s := Segment{
		TraceID: trace, ID: d.ID, ParentID: parent, Name: d.Name, Namespace: d.Namespace, Start: at(*d.Start), Subsegment: inner,
		Fault: d.Fault, Error: d.Error, Throttle: d.Throttle, Annotations: d.Annotations, Status: d.HTTP.Response.Status,
	}
	if d.End != nil {
		s.End = at(*d.End)
	}
	var err error
	if s.Failure, err = d.failure(); err != nil {
		return nil, err
	}
	to = append(to, s)
	for i := range d.Subsegments {
		if to, err = d.Subsegments[i].flatten(to, trace, d.ID, true); err != nil {
			return nil, err
		}
	}
	return to, nil
}

func (d *document) check(trace, parent string, inner bool) error {
	switch {
	case segmentID(d.ID) == "":
		return refuse("id %.50q: want %d hexadecimal digits", d.ID, segmentIDDigits)
	case parent != "" && segmentID(parent) == "", d.ParentID != "" && d.ParentID != parent:
		return refuse("parent_id %.50q of %s: want %d hexadecimal digits, of the segment around it if there is one", d.ParentID, d.ID, segmentIDDigits)
	case parent == d.ID:
		return refuse("%s is its own parent", d.ID)
	case d.TraceID != "" && d.TraceID != trace:
		return refuse("trace_id of %s differs from that of the segment around it", d.ID)
	case !isName(d.Name):
		return refuse(`name %.250q of %s: want 1 to %d letters, numbers, spaces and _ . : / %% & # = + \ - @`, d.Name, d.ID, maxNameLength)
	case inner && d.Namespace != "" && d.Namespace != namespaceOfAWS && d.Namespace != namespaceOfOthers:
		return refuse("namespace %.50q of %s: want aws or remote", d.Namespace, d.ID)
	case d.Start == nil || !isTime(*d.Start):
		return refuse("start_time of %s: want seconds since 1970", d.ID)
	case d.End == nil && !d.InProgress, d.End != nil && d.InProgress:
		return refuse("%s: want end_time or in_progress, and not both", d.ID)
	case d.End != nil && (!isTime(*d.End) || *d.End < *d.Start):
		return refuse("end_time of %s: want seconds since 1970, not before start_time", d.ID)
	case len(d.Links) > maxLinks:
		return refuse("%d links of %s, X-Ray takes %d", len(d.Links), d.ID, maxLinks)
	}
	for _, l := range d.Links {
		if traceID(l.TraceID) == "" || l.ID != "" && segmentID(l.ID) == "" {
			return refuse("link of %s: want trace_id and id", d.ID)
		}
	}
	return d.checkAnnotations()
}

func (d *document) checkAnnotations() error {
	for key, value := range d.Annotations {
		if key == "" || len(key) > maxKeyLength || strings.ContainsFunc(key, func(r rune) bool { return r != '_' && !isAlphanumeric(r) }) {
			return refuse("annotation %.100q of %s: want a key of 1 to %d of A-Z a-z 0-9 _", key, d.ID, maxKeyLength)
		}
		switch v := value.(type) {
		case bool, float64:
		case string:
			if n := utf8.RuneCountInString(v); n > maxTextLength {
				return refuse("annotation %s of %s has %d characters, X-Ray takes %d", key, d.ID, n, maxTextLength)
			}
		default:
			return refuse("annotation %s of %s: want text, a number, true or false", key, d.ID)
		}
	}
	return nil
}

// failure gives the first exception's message. A cause is the id of another segment's exception, or an object.
func (d *document) failure() (string, error) {
	if len(d.Cause) == 0 || string(d.Cause) == "null" {
		return "", nil
	}
	var id string
	if json.Unmarshal(d.Cause, &id) == nil {
		if segmentID(id) == "" {
			return "", refuse("cause of %s: want an exception's id of %d hexadecimal digits", d.ID, segmentIDDigits)
		}
		return "", nil
	}
	var cause struct {
		Exceptions []struct {
			ID      string `json:"id"`
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"exceptions"`
	}
	if err := json.Unmarshal(d.Cause, &cause); err != nil {
		return "", refuse("cause of %s cannot be read: %.200s", d.ID, err.Error())
	}
	for _, e := range cause.Exceptions {
		if segmentID(e.ID) == "" {
			return "", refuse("exception of %s: want an id of %d hexadecimal digits", d.ID, segmentIDDigits)
		}
	}
	if len(cause.Exceptions) == 0 {
		return "", nil
	}
	return cause.Exceptions[0].Message, nil
}

func isAlphanumeric(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func isName(name string) bool {
	return name != "" && utf8.RuneCountInString(name) <= maxNameLength && !strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsSpace(r) && !strings.ContainsRune(`_.:/%&#=+\-@`, r)
	})
}

func isTime(seconds float64) bool { return seconds > 0 && seconds < latestSeconds }

func at(seconds float64) time.Time {
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(math.Round(part*1e6))*1e3).UTC() // microseconds: a float64 holds no more
}

// segmentID gives id if it is one, or "".
func segmentID(id string) string { return digits(id, segmentIDDigits) }

// traceID gives id if it is one, or "".
func traceID(id string) string {
	version, rest, _ := strings.Cut(id, "-")
	seconds, unique, _ := strings.Cut(rest, "-")
	if version != "1" || len(seconds) != 8 || digits(seconds+unique, 32) == "" {
		return ""
	}
	return id
}

func digits(text string, n int) string {
	if len(text) != n || strings.Trim(text, "0123456789abcdef") != "" || strings.Trim(text, "0") == "" {
		return ""
	}
	return text
}
