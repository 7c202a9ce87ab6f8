package sqs

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/queue"
)

// Names of message attributes. Their length is checked apart: a pattern that counts so far takes a function's start longer than all others together.
// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
var (
	attributeName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*$`)
	reserved      = regexp.MustCompile(`(?i)^(aws|amazon)\.|\.$`)
)

// maxAttributeName is how long the name of an attribute may be, in bytes, all of which are ASCII.
const maxAttributeName = 256

// check refuses what SQS refuses with an error for the whole call, which would punish the neighbours.
// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
func (q *Queue) check(m queue.Message) error {
	if size := m.Size(); size > queue.MaxBytes {
		return fmt.Errorf("%w: %d bytes", queue.ErrTooLarge, size)
	}
	switch {
	case m.Body == "":
		return fmt.Errorf("%w: empty body", ErrInvalid)
	case !acceptable(m.Body):
		return fmt.Errorf("%w: the body has characters outside XML's set: encode it, in base64 for example", ErrInvalid)
	case m.Delay < 0 || m.Delay > queue.MaxDelay:
		return fmt.Errorf("%w: delay %v is not between 0 and %v", ErrInvalid, m.Delay, queue.MaxDelay)
	case m.Delay > 0 && q.fifo:
		return fmt.Errorf("%w: a FIFO queue has no delay per message", ErrInvalid)
	case m.Group == "" && q.fifo:
		return fmt.Errorf("%w: a message to a FIFO queue needs a group", ErrInvalid)
	case !token(m.Group):
		return fmt.Errorf("%w: message group %q is not up to %d printable ASCII characters without spaces", ErrInvalid, excerpt(m.Group), queue.MaxGroupLength)
	case !token(m.Deduplication) && q.fifo:
		return fmt.Errorf("%w: deduplication id %q is not up to %d printable ASCII characters without spaces", ErrInvalid, excerpt(m.Deduplication), queue.MaxGroupLength)
	case len(m.Attributes) > queue.MaxAttributes:
		return fmt.Errorf("%w: %d message attributes, the limit is %d", ErrInvalid, len(m.Attributes), queue.MaxAttributes)
	}
	for name, a := range m.Attributes {
		if err := checkAttribute(name, a); err != nil {
			return err
		}
	}
	return nil
}

// checkAttribute leaves to SQS what only SQS should judge, such as the range of numbers.
func checkAttribute(name string, a queue.Attribute) error {
	if len(name) > maxAttributeName || !attributeName.MatchString(name) || strings.Contains(name, "..") || reserved.MatchString(name) {
		return fmt.Errorf("%w: %q cannot be the name of a message attribute", ErrInvalid, excerpt(name))
	}
	kind, _, _ := strings.Cut(a.DataType, ".")
	switch kind {
	case "String", "Number":
		if a.String == "" || !acceptable(a.String) {
			return fmt.Errorf("%w: attribute %q is empty or has characters outside XML's set", ErrInvalid, excerpt(name))
		}
	case "Binary":
		if len(a.Binary) == 0 {
			return fmt.Errorf("%w: attribute %q is empty", ErrInvalid, excerpt(name))
		}
	default:
		return fmt.Errorf("%w: data type %q of attribute %q is none of String, Number, Binary", ErrInvalid, excerpt(a.DataType), excerpt(name))
	}
	return nil
}

// acceptable tells whether s has only characters that SQS takes.
// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func acceptable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return false
		}
	}
	return true
}

// token tells whether s can be a group or a deduplication id.
func token(s string) bool {
	if len(s) > queue.MaxGroupLength {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// excerpt bounds what comes from outside in error texts.
func excerpt(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
