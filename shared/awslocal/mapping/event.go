package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Message is a message as ReceiveMessage returned it, with all its attributes. Its JSON form is the one that a function
// gets to see.
type Message struct {
	ID                     string                      `json:"messageId"`
	ReceiptHandle          string                      `json:"receiptHandle"`
	Body                   string                      `json:"body"`
	Attributes             map[string]string           `json:"attributes"` // ApproximateReceiveCount, MessageGroupId …
	MessageAttributes      map[string]MessageAttribute `json:"messageAttributes"`
	MD5OfMessageAttributes string                      `json:"md5OfMessageAttributes,omitempty"`
	MD5OfBody              string                      `json:"md5OfBody"`
}

// MessageAttribute is a producer's attribute: a StringValue, or a BinaryValue if DataType begins with Binary.
type MessageAttribute struct {
	StringValue      *string   `json:"stringValue,omitempty"`
	BinaryValue      []byte    `json:"binaryValue,omitempty"`
	StringListValues [0]string `json:"stringListValues"` // SQS never fills the lists; an array of none is written as []
	BinaryListValues [0]string `json:"binaryListValues"`
	DataType         string    `json:"dataType"`
}

// record is a received message on its way through the function.
type record struct {
	id      string
	receipt string
	group   string          // "" on a standard queue
	expires time.Time       // when SQS makes it visible again, as of its receive
	json    json.RawMessage // its place in the event
}

func newRecord(m Message, q Queue, expires time.Time) (record, error) {
	if m.Attributes == nil {
		m.Attributes = map[string]string{}
	}
	if m.MessageAttributes == nil {
		m.MessageAttributes = map[string]MessageAttribute{}
	}
	r := record{id: m.ID, receipt: m.ReceiptHandle, expires: expires}
	if q.FIFO() {
		r.group = m.Attributes["MessageGroupId"]
	}
	region := strings.Split(q.ARN()+":::", ":")[3]
	// Without Go's escapes of <, > and &, which would let a body grow sixfold past the payload limit.
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		Message
		EventSource    string `json:"eventSource"`
		EventSourceARN string `json:"eventSourceARN"`
		AWSRegion      string `json:"awsRegion"`
	}{m, "aws:sqs", q.ARN(), region})
	r.json = bytes.TrimSpace(b.Bytes())
	return r, err
}

const (
	eventHead = `{"Records":[`
	eventTail = `]}`
)

// payload joins records to the event that the function gets.
func payload(records []record) []byte {
	var b bytes.Buffer
	b.Grow(payloadBytes(records))
	b.WriteString(eventHead)
	for i, r := range records {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(r.json)
	}
	b.WriteString(eventTail)
	return b.Bytes()
}

func payloadBytes(records []record) int {
	n := len(eventHead) + len(eventTail) + max(0, len(records)-1)
	for _, r := range records {
		n += len(r.json)
	}
	return n
}

// split cuts records, in order, into runs whose payload fits. A record alone always does: 1 MiB, escaped.
func split(records []record, limitBytes int) (parts [][]record) {
	for len(records) > 0 {
		n, size := 1, payloadBytes(records[:1])
		for n < len(records) && size+1+len(records[n].json) <= limitBytes {
			size += 1 + len(records[n].json)
			n++
		}
		parts, records = append(parts, records[:n]), records[n:]
	}
	return parts
}

// errResponse says that Lambda takes the response for a failure of the whole batch.
var errResponse = errors.New("the response fails the whole batch")

// failedItems reads a partial batch response: the ids to keep in the queue. An error means that nothing may be deleted.
// Keys are looked up as written, since encoding/json would accept them in any case and Lambda does not.
func failedItems(response []byte, batch []record) (map[string]bool, error) {
	response = bytes.TrimSpace(response)
	if len(response) == 0 {
		return nil, nil
	}
	var doc map[string]json.RawMessage // stays empty for null
	if err := json.Unmarshal(response, &doc); err != nil {
		return nil, fmt.Errorf("%w: it is not a JSON object", errResponse)
	}
	list, ok := doc["batchItemFailures"]
	if !ok {
		return nil, nil
	}
	var items []map[string]json.RawMessage // stays empty for null
	if err := json.Unmarshal(list, &items); err != nil {
		return nil, fmt.Errorf("%w: batchItemFailures is not a list of objects", errResponse)
	}
	known := make(map[string]bool, len(batch))
	for _, r := range batch {
		known[r.id] = true
	}
	failed := make(map[string]bool, len(items))
	for i, item := range items {
		var id string // stays empty for null
		if raw, ok := item["itemIdentifier"]; ok {
			if err := json.Unmarshal(raw, &id); err != nil {
				return nil, fmt.Errorf("%w: itemIdentifier %d is not a string", errResponse, i)
			}
		}
		if !known[id] {
			return nil, fmt.Errorf("%w: itemIdentifier %d is missing, null, empty or names no message of the batch", errResponse, i)
		}
		failed[id] = true
	}
	return failed, nil
}
