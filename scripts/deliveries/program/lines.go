package program

import (
	"encoding/json"
	"io"
	"time"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/terminal"
	"github.com/waybillhq/waybill/shared/whereabouts"
)

// lines tells everything as JSON, one object a line: an object of kind "delivery" for each answer, then one of kind "summary".
type lines struct {
	w io.Writer
	o *options
}

// deliveryLine is an answer. README.md says what its members mean.
type deliveryLine struct {
	Kind        string            `json:"kind"` // "delivery"
	Delivery    string            `json:"delivery,omitempty"`
	State       whereabouts.State `json:"state"`
	Place       whereabouts.Place `json:"place"`
	Event       string            `json:"event,omitempty"`
	Source      string            `json:"source,omitempty"`
	Type        string            `json:"type,omitempty"`
	Tenant      string            `json:"tenant,omitempty"`
	Destination string            `json:"destination,omitempty"`
	Epoch       int               `json:"epoch"`
	Attempt     int               `json:"attempt"`
	NextAttempt int               `json:"nextAttempt,omitempty"`
	Code        int               `json:"code,omitempty"`
	Reason      string            `json:"reason,omitempty"`
	Detail      string            `json:"detail,omitempty"`
	AcceptedAt  time.Time         `json:"acceptedAt,omitzero"`
	ChangedAt   time.Time         `json:"changedAt,omitzero"`
	DueAt       time.Time         `json:"dueAt,omitzero"`
	HeldSince   time.Time         `json:"heldSince,omitzero"`
	LeaseUntil  time.Time         `json:"leaseUntil,omitzero"`
	Paused      time.Time         `json:"pausedSince,omitzero"`
	Disabled    time.Time         `json:"disabledSince,omitzero"`
	Note        string            `json:"note,omitempty"`
	Deleted     bool              `json:"destinationDeleted,omitempty"`
	Leftover    bool              `json:"leftover,omitempty"`
	Payload     *string           `json:"payload,omitempty"`
	Base64      []byte            `json:"payloadBase64,omitempty"`
	Next        string            `json:"next,omitempty"`
}

// summaryLine ends the output.
type summaryLine struct {
	Kind     string      `json:"kind"` // "summary"
	Found    int         `json:"found"`
	Units    float64     `json:"readUnits"`
	Letters  int         `json:"deadLettersLookedAt"`
	Without  []string    `json:"withoutTrace"`
	Complete bool        `json:"complete"`
	After    string      `json:"after,omitempty"`
	Notes    []string    `json:"notes"`
	Queues   []depthLine `json:"queues,omitempty"`
	Failed   string      `json:"failed,omitempty"`
}

type depthLine struct {
	Queue    string `json:"queue"`
	Visible  int    `json:"visible"`
	InFlight int    `json:"inFlight"`
	Delayed  int    `json:"delayed"`
}

func (l *lines) answer(a whereabouts.Answer) {
	line := deliveryLine{
		Kind: "delivery", Delivery: string(a.Delivery), State: a.State, Place: a.Place, Event: a.Event, Source: a.Source, Type: a.Type, Tenant: a.Tenant,
		Destination: a.Destination, Epoch: a.Epoch, Attempt: a.Attempt, NextAttempt: a.NextAttempt, Code: a.Code, Reason: a.Reason, Detail: a.Detail,
		AcceptedAt: a.AcceptedAt.UTC(), ChangedAt: a.ChangedAt.UTC(), DueAt: a.DueAt.UTC(), HeldSince: a.HeldSince.UTC(), LeaseUntil: a.LeaseUntil.UTC(),
		Paused: a.DestinationState.Paused.UTC(), Disabled: a.DestinationState.Disabled.UTC(), Note: a.DestinationState.Note,
		Deleted: a.Registry && !a.Known, Leftover: a.Leftover, Next: l.o.command(a),
	}
	switch {
	case !a.HasPayload:
	case utf8.Valid(a.Payload):
		text := string(a.Payload)
		line.Payload = &text
	default:
		line.Base64 = a.Payload
	}
	l.write(line)
}

func (l *lines) conclude(r whereabouts.Report) {
	line := summaryLine{
		Kind: "summary", Found: r.Found, Units: r.Units, Letters: r.Letters, Without: append([]string{}, r.Without...),
		Complete: r.Next == "" && r.Failed == nil, After: r.Next, Notes: append([]string{}, r.Notes...),
	}
	for _, d := range r.Depths {
		line.Queues = append(line.Queues, depthLine{string(d.Queue), d.Visible, d.InFlight, d.Delayed})
	}
	if r.Failed != nil {
		line.Failed = terminal.Printable(r.Failed.Error(), mostError)
	}
	l.write(line)
}

func (l *lines) write(v any) {
	e := json.NewEncoder(l.w) // escapes control characters
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // to standard output: nothing can be done about it
}
