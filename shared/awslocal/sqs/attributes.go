package sqs

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"
)

// settings are a queue's attributes: as text, the way they are read back, and as the engine uses them.
type settings struct {
	text map[string]string

	delay, retention, wait, visibility time.Duration
	maxMessageBytes                    int
	redrive                            *redrivePolicy
	allow                              *redriveAllowPolicy
	contentDedup, dedupPerGroup        bool
}

// attribute is one attribute that can be set.
type attribute struct {
	fallback string // "" if it is absent until set
	fifoOnly bool
	apply    func(s *settings, value string) (reason string) // "" if the value is fine
}

// queueAttributes are the attributes that can be set. Encryption and policies are kept and have no effect.
var queueAttributes = map[string]attribute{
	"DelaySeconds":                  seconds("0", 0, 900, func(s *settings, d time.Duration) { s.delay = d }),
	"MessageRetentionPeriod":        seconds("345600", 60, 1209600, func(s *settings, d time.Duration) { s.retention = d }),
	"ReceiveMessageWaitTimeSeconds": seconds("0", 0, 20, func(s *settings, d time.Duration) { s.wait = d }),
	"VisibilityTimeout":             seconds("30", 0, 43200, func(s *settings, d time.Duration) { s.visibility = d }),
	"MaximumMessageSize":            whole("1048576", 1024, MaxMessageBytes, func(s *settings, n int) { s.maxMessageBytes = n }),
	"KmsDataKeyReusePeriodSeconds":  whole("", 60, 86400, func(*settings, int) {}),
	"KmsMasterKeyId":                {apply: func(*settings, string) string { return "" }},
	"SqsManagedSseEnabled":          flag("true", func(*settings, bool) {}),
	"Policy": {apply: func(_ *settings, value string) string {
		if value != "" && !json.Valid([]byte(value)) {
			return "Policy is not valid JSON."
		}
		return ""
	}},
	"RedrivePolicy":      {apply: (*settings).applyRedrive},
	"RedriveAllowPolicy": {apply: (*settings).applyRedriveAllow},
	"FifoQueue": fifo(attribute{fallback: "true", apply: func(_ *settings, value string) string {
		if value != "true" {
			return "It can only be true, and only when the queue is created."
		}
		return ""
	}}),
	"ContentBasedDeduplication": fifo(flag("false", func(s *settings, on bool) { s.contentDedup = on })),
	"DeduplicationScope":        fifo(oneOf(func(s *settings, v string) { s.dedupPerGroup = v == "messageGroup" }, "queue", "messageGroup")),
	"FifoThroughputLimit":       fifo(oneOf(func(*settings, string) {}, "perQueue", "perMessageGroupId")),
}

// computedAttributes are those that only GetQueueAttributes knows.
var computedAttributes = map[string]func(q *Queue) string{
	"ApproximateNumberOfMessages":           func(q *Queue) string { return strconv.Itoa(q.count[Visible]) },
	"ApproximateNumberOfMessagesNotVisible": func(q *Queue) string { return strconv.Itoa(q.count[InFlight]) },
	"ApproximateNumberOfMessagesDelayed":    func(q *Queue) string { return strconv.Itoa(q.count[Delayed]) },
	"CreatedTimestamp":                      func(q *Queue) string { return strconv.FormatInt(q.created.Unix(), 10) },
	"LastModifiedTimestamp":                 func(q *Queue) string { return strconv.FormatInt(q.modified.Unix(), 10) },
	"QueueArn":                              func(q *Queue) string { return q.arn },
}

func whole(fallback string, least, most int, set func(*settings, int)) attribute {
	return attribute{fallback: fallback, apply: func(s *settings, value string) string {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return "Must be a whole number between " + strconv.Itoa(least) + " and " + strconv.Itoa(most) + "."
		}
		set(s, n)
		return ""
	}}
}

func seconds(fallback string, least, most int, set func(*settings, time.Duration)) attribute {
	return whole(fallback, least, most, func(s *settings, n int) { set(s, time.Duration(n)*time.Second) })
}

func flag(fallback string, set func(*settings, bool)) attribute {
	return oneOf(func(s *settings, value string) { set(s, value == "true") }, fallback, "true", "false")
}

func oneOf(set func(*settings, string), values ...string) attribute {
	return attribute{fallback: values[0], apply: func(s *settings, value string) string {
		if !slices.Contains(values, value) {
			return "Must be one of " + values[len(values)-2] + ", " + values[len(values)-1] + "."
		}
		set(s, value)
		return ""
	}}
}

func fifo(a attribute) attribute {
	a.fifoOnly = true
	return a
}

func defaults(fifo bool) settings {
	s := settings{text: map[string]string{}}
	for name, a := range queueAttributes {
		if a.fallback == "" || a.fifoOnly && !fifo {
			continue
		}
		s.text[name] = a.fallback
		a.apply(&s, a.fallback)
	}
	return s
}

// same refuses attributes that differ from what the queue has.
func (s settings) same(attributes map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		if _, known := queueAttributes[name]; !known {
			return invalidAttributeName(name)
		}
		if s.text[name] != attributes[name] {
			return queueExists(name)
		}
	}
	return nil
}

// change sets all the attributes or none.
func (s *Service) change(q *Queue, attributes map[string]string, creating bool) error {
	changed := q.settings
	changed.text = maps.Clone(q.settings.text)
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a, known := queueAttributes[name]
		if !known || a.fifoOnly && !q.fifo || name == "FifoQueue" && !creating {
			return invalidAttributeName(name)
		}
		value := attributes[name]
		if reason := a.apply(&changed, value); reason != "" {
			return invalidAttributeValue(name, reason)
		}
		if changed.text[name] = value; value == "" {
			delete(changed.text, name)
		}
	}
	if changed.text["FifoThroughputLimit"] == "perMessageGroupId" && !changed.dedupPerGroup {
		return invalidAttributeValue("FifoThroughputLimit", "perMessageGroupId needs DeduplicationScope messageGroup.")
	}
	if _, given := attributes["RedrivePolicy"]; given {
		if err := s.checkRedrive(q, changed.redrive); err != nil {
			return err
		}
	}
	q.settings, q.modified = changed, time.Now()
	return nil
}

// SetAttributes sets the attributes, all or none.
func (q *Queue) SetAttributes(attributes map[string]string) error {
	q.service.mu.Lock()
	defer q.service.mu.Unlock()
	if q.gone {
		return noQueue()
	}
	return q.service.change(q, attributes, false)
}

// Attributes gives the attributes of those names, or all with "All". An attribute that is not set is left out.
func (q *Queue) Attributes(names ...string) (map[string]string, error) {
	q.service.mu.Lock()
	defer q.service.mu.Unlock()
	if q.gone {
		return nil, noQueue()
	}
	q.advance(time.Now())
	found := map[string]string{}
	for _, name := range names {
		compute, computed := computedAttributes[name]
		_, settable := queueAttributes[name]
		switch {
		case name == "All":
			maps.Copy(found, q.settings.text)
			for name, compute := range computedAttributes {
				found[name] = compute(q)
			}
		case computed:
			found[name] = compute(q)
		case !settable:
			return nil, invalidAttributeName(name)
		default:
			if value, ok := q.settings.text[name]; ok {
				found[name] = value
			}
		}
	}
	return found, nil
}
