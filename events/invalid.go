package events

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrInvalid is what errors.Is finds in every error of Decode, Validate, AppendJSON and
// UnmarshalJSON: the message itself is wrong, so trying it again cannot help.
var ErrInvalid = errors.New("invalid event")

// The codes of an InvalidError. They are stable: dead letters, metrics and alarms carry them.
const (
	CodeTooLarge            = "too-large"             // more than MaxMessageBytes, MaxContextBytes or MaxTenantBytes
	CodeBadJSON             = "bad-json"              // the body of a CloudEvent is broken JSON
	CodeBadSpecVersion      = "bad-specversion"       // a CloudEvents version other than "1.0", or none
	CodeBadCloudEvent       = "bad-cloudevent"        // an attribute is missing, empty, of the wrong type or malformed
	CodeDuplicateMember     = "duplicate-member"      // an envelope names one attribute twice
	CodeBadBase64           = "bad-base64"            // data_base64, or a Binary attribute of an SNS notification, is not base64
	CodeBadBatch            = "bad-json-batch"        // a batch is empty, nested, too long or holds something else
	CodeTooManyExtensions   = "too-many-extensions"   // more than MaxExtensions
	CodeBadMessageAttribute = "bad-message-attribute" // a message attribute is Binary, or contradicts another
	CodeBadEventBridge      = "bad-eventbridge"       // an EventBridge field has the wrong type
	CodeBadSNS              = "bad-sns"               // a field of an SNS notification is missing or has the wrong type
	CodeSNSConfirmation     = "sns-confirmation"      // SNS asks for a confirmation, or confirms the end of a subscription: a matter for people
	CodeTooDeep             = "too-deep"              // more than MaxDepth SNS notifications, one inside the other
	CodeBadS3               = "bad-s3"                // a record of an S3 notification is incomplete, has the wrong type or is not from S3
)

// InvalidError says what is wrong with a message and how its producer mends it.
// errors.Is(err, ErrInvalid) holds. The text names fields and short excerpts of context
// attributes, never the payload, and its length is bounded, so it may be logged and stored.
type InvalidError struct {
	Form    Form            // the envelope that is broken, in an SNS notification the one inside if that is it; empty when it was refused before that
	Code    string          // one of the Code constants
	Field   string          // the member, message attribute or context attribute, "[3].source" in a batch, "Message.source" in an SNS notification; empty: the message as a whole
	Problem string          // what is wrong: "is missing"
	Fix     string          // what to do about it: "add …"
	Others  []*InvalidError // further problems of the same message, at most 15, in order of discovery
}

// Error gives every problem on one line.
func (e *InvalidError) Error() string {
	var b strings.Builder
	b.WriteString("invalid event")
	if e.Form != "" {
		fmt.Fprintf(&b, " (%s)", e.Form)
	}
	e.describe(&b)
	for _, o := range e.Others {
		b.WriteString("; also")
		o.describe(&b)
	}
	return b.String()
}

func (e *InvalidError) describe(b *strings.Builder) {
	field := e.Field
	if field == "" {
		field = "message"
	}
	fmt.Fprintf(b, ": %s: %s %s: %s", e.Code, field, e.Problem, e.Fix)
}

// Is makes errors.Is(err, ErrInvalid) true.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

const (
	maxFindings     = 16
	maxExcerptBytes = 48
)

// findings collects the problems of one message, so that a producer learns all of them at once.
type findings struct {
	form  Form
	at    string // what stands before each field: "[3]." in a batch, "Message." in an SNS notification
	found []*InvalidError
}

func (f *findings) add(code, field, problem, fix string) {
	if len(f.found) < maxFindings {
		where := f.at + field
		if field == "" {
			where = strings.TrimSuffix(f.at, ".")
		}
		f.found = append(f.found, &InvalidError{Form: f.form, Code: code, Field: where, Problem: problem, Fix: fix})
	}
}

// addAttribute is add for a context attribute, under the name that the producer gave it.
func (f *findings) addAttribute(code, name, problem, fix string) {
	f.add(code, f.form.fieldOf(name), problem, fix)
}

func (f *findings) full() bool { return len(f.found) == maxFindings }

// err is nil when nothing was found.
func (f *findings) err() error {
	if len(f.found) == 0 {
		return nil
	}
	first := f.found[0]
	first.Others = f.found[1:]
	return first
}

// invalid is a refusal of the message as a whole.
func invalid(form Form, code, problem, fix string) error {
	return &InvalidError{Form: form, Code: code, Problem: problem, Fix: fix}
}

// excerpt quotes a name or value from outside so that it is short, printable and ASCII.
func excerpt(s string) string {
	if len(s) <= maxExcerptBytes {
		return strconv.QuoteToASCII(s)
	}
	cut := maxExcerptBytes
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.QuoteToASCII(s[:cut]) + "…"
}

// plainName gives a name from outside as it is where that is safe, else quoted and cut.
func plainName(name string) string {
	if len(name) > maxExcerptBytes || name == "" {
		return excerpt(name)
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == '"' {
			return excerpt(name)
		}
	}
	return name
}
