package sqs

import (
	"crypto/md5" //nolint:gosec // the SQS protocol uses MD5 as a checksum
	"encoding/binary"
	"encoding/hex"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// Limits of a message. A message's size is its body plus the names, types and values of its attributes.
const (
	MaxMessageBytes      = 1 << 20
	MaxMessageAttributes = 10
	MaxBatchEntries      = 10
	MaxDelay             = 15 * time.Minute
	MaxVisibility        = 12 * time.Hour
	MaxWait              = 20 * time.Second
)

// Message is one message as a receiver sees it. Its maps are shared with the queue: read them only.
type Message struct {
	MessageID              string
	ReceiptHandle          string // empty in snapshots and in OnSend
	Body                   string
	MD5OfBody              string
	Attributes             map[string]string // system attributes, all that apply
	MessageAttributes      map[string]AttributeValue
	MD5OfMessageAttributes string // empty without message attributes
}

// AttributeValue is one message attribute. DataType is String, Number or Binary, with an optional
// label after a dot; Binary uses BinaryValue, the others StringValue.
type AttributeValue struct {
	DataType    string
	StringValue string
	BinaryValue []byte
}

// Outgoing is a message to send.
type Outgoing struct {
	Body              string
	MessageAttributes map[string]AttributeValue
	Delay             *time.Duration // nil takes the queue's; refused on a FIFO queue unless 0
	GroupID           string
	DeduplicationID   string // FIFO queues only
	TraceHeader       string // the AWSTraceHeader system attribute; costs no size
}

var (
	attributeName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	attributeType = regexp.MustCompile(`^(String|Number|Binary)(\..*)?$`)
	number        = regexp.MustCompile(`^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*$`)
)

// check refuses what SQS refuses in any queue, and gives the message's size.
func (o Outgoing) check() (sizeBytes int, err *wire.Error) {
	if o.Body == "" {
		return 0, missingParameter("MessageBody")
	}
	if !allowedText(o.Body) {
		return 0, wire.Errorf("InvalidMessageContents", "Invalid characters found. Valid unicode characters are %s", allowedCharacters)
	}
	if o.Delay != nil && (*o.Delay < 0 || *o.Delay > MaxDelay) {
		return 0, outOfRange(int(o.Delay.Seconds()), "DelaySeconds", "DelaySeconds must be >= 0 and <= 900.")
	}
	if o.GroupID != "" && !validToken(o.GroupID) {
		return 0, badToken("MessageGroupId", o.GroupID)
	}
	if o.DeduplicationID != "" && !validToken(o.DeduplicationID) {
		return 0, badToken("MessageDeduplicationId", o.DeduplicationID)
	}
	if n := len(o.MessageAttributes); n > MaxMessageAttributes {
		return 0, invalidParameter("Number of message attributes [%d] exceeds the allowed maximum [%d].", n, MaxMessageAttributes)
	}
	sizeBytes = len(o.Body)
	for _, name := range slices.Sorted(maps.Keys(o.MessageAttributes)) {
		value := o.MessageAttributes[name]
		if err := checkAttribute(name, value); err != nil {
			return 0, err
		}
		sizeBytes += len(name) + len(value.DataType) + len(value.StringValue) + len(value.BinaryValue)
	}
	return sizeBytes, nil
}

// validToken holds group and deduplication ids to 128 printable ASCII characters without spaces.
func validToken(text string) bool {
	const longest = 128
	return len(text) <= longest && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

func badToken(parameter, value string) *wire.Error {
	return invalidParameter("Value %s for parameter %s is invalid. Reason: %s can only include alphanumeric and punctuation characters. 1 to 128 in length.",
		shorten(value), parameter, parameter)
}

func checkAttribute(name string, value AttributeValue) *wire.Error {
	if err := checkAttributeName(name); err != nil {
		return err
	}
	kind, _, _ := strings.Cut(value.DataType, ".")
	switch {
	case value.DataType == "":
		return invalidParameter("The message attribute '%s' must contain a non-empty attribute type.", name)
	case len(value.DataType) > 256:
		return invalidParameter("The type of message (user) attribute '%s' must be at most 256 bytes.", name)
	case !attributeType.MatchString(value.DataType):
		return invalidParameter("The type of message (user) attribute '%s' is invalid. You must use only the following supported type prefixes: Binary, Number, String.", name)
	case value.StringValue != "" && value.BinaryValue != nil, kind == "Binary" && value.StringValue != "", kind != "Binary" && value.BinaryValue != nil:
		return invalidParameter("The message attribute '%s' with type '%s' must use field '%s'.", name, kind, fieldOf(kind))
	case value.StringValue == "" && len(value.BinaryValue) == 0:
		return invalidParameter("Message (user) attribute '%s' must contain a non-empty value of type '%s'.", name, kind)
	case kind == "Number" && !validNumber(value.StringValue):
		return invalidParameter("Can't cast the value of message (user) attribute '%s' to a number.", name)
	case !allowedText(value.StringValue):
		return invalidParameter("Message (user) attribute '%s' has invalid characters in its value. Valid unicode characters are %s", name, allowedCharacters)
	}
	return nil
}

func checkAttributeName(name string) *wire.Error {
	lower := strings.ToLower(name)
	switch {
	case name == "" || len(name) > 256:
		return invalidParameter("Message (user) attribute names must be 1 to 256 bytes long.")
	case !attributeName.MatchString(name):
		return invalidParameter("Message (user) attributes name can only contain upper and lower score characters, digits, periods, hyphens and underscores. ")
	case strings.HasPrefix(lower, "aws."), strings.HasPrefix(lower, "amazon."), name[0] == '.', name[len(name)-1] == '.', strings.Contains(name, ".."):
		return invalidParameter("You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. " +
			"These strings are reserved for internal use. Additionally, they cannot start or end with '.', nor have two in a row.")
	}
	return nil
}

func fieldOf(kind string) string {
	if kind == "Binary" {
		return "BinaryValue"
	}
	return "StringValue"
}

// validNumber holds a Number attribute to at most 38 significant digits and a magnitude of at most 10^126.
func validNumber(text string) bool {
	if !number.MatchString(text) {
		return false
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(strings.TrimSpace(text)), "e")
	digits := strings.Trim(strings.Replace(strings.TrimLeft(mantissa, "+-"), ".", "", 1), "0")
	if len(digits) > 38 {
		return false
	}
	if e, err := strconv.Atoi(exponent); exponent != "" && (err != nil || e < -300 || e > 300) {
		return false
	}
	value, ok := new(big.Float).SetString(strings.TrimSpace(text))
	if !ok {
		return false
	}
	limit, _ := new(big.Float).SetString("1e126")
	least, _ := new(big.Float).SetString("1e-128")
	size := value.Abs(value)
	return size.Sign() == 0 || size.Cmp(least) >= 0 && size.Cmp(limit) <= 0
}

const allowedCharacters = "#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF"

// allowedText reports whether text is valid UTF-8 and within the characters that XML 1.0 allows.
func allowedText(text string) bool {
	for i, r := range text {
		switch {
		case r == utf8.RuneError:
			if _, width := utf8.DecodeRuneInString(text[i:]); width == 1 {
				return false
			}
		case r < 0x20 && r != '\t' && r != '\n' && r != '\r', r == 0xFFFE, r == 0xFFFF:
			return false
		}
	}
	return true
}

func md5Hex(text string) string {
	sum := md5.Sum([]byte(text)) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// md5OfAttributes is SQS's digest over attributes: by name, each name, type and value with its length in front.
func md5OfAttributes(attributes map[string]AttributeValue) string {
	if len(attributes) == 0 {
		return ""
	}
	var b []byte
	part := func(p string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		value := attributes[name]
		part(name)
		part(value.DataType)
		if strings.HasPrefix(value.DataType, "Binary") {
			b = append(b, 2)
			part(string(value.BinaryValue))
		} else {
			b = append(b, 1)
			part(value.StringValue)
		}
	}
	return md5Hex(string(b))
}
