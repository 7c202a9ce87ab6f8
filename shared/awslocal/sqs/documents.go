package sqs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// The request documents, with the protocol's member names; a pointer tells an absent number from 0.
type (
	queueRequest struct {
		QueueURL string `json:"QueueUrl"`
	}

	createQueueRequest struct {
		QueueName  string
		Attributes map[string]string
		Tags       map[string]string `json:"tags"`
	}
	queueURLRequest struct {
		QueueName string
		Owner     string `json:"QueueOwnerAWSAccountId"`
	}
	listRequest struct {
		QueueNamePrefix, NextToken string
		QueueURL                   string `json:"QueueUrl"`
		MaxResults                 *int
	}
	getAttributesRequest struct {
		QueueURL       string `json:"QueueUrl"`
		AttributeNames []string
	}
	setAttributesRequest struct {
		QueueURL   string `json:"QueueUrl"`
		Attributes map[string]string
	}
	sendRequest struct {
		QueueURL                string `json:"QueueUrl"`
		ID                      string `json:"Id"` // in a batch
		MessageBody             string
		DelaySeconds            *int
		MessageAttributes       map[string]attributeDocument
		MessageSystemAttributes map[string]attributeDocument
		MessageGroupID          string `json:"MessageGroupId"`
		MessageDeduplicationID  string `json:"MessageDeduplicationId"`
	}
	sendBatchRequest struct {
		QueueURL string `json:"QueueUrl"`
		Entries  []sendRequest
	}
	receiveRequest struct {
		QueueURL                                                           string `json:"QueueUrl"`
		MaxNumberOfMessages, VisibilityTimeout, WaitTimeSeconds            *int
		AttributeNames, MessageSystemAttributeNames, MessageAttributeNames []string
		AttemptID                                                          string `json:"ReceiveRequestAttemptId"`
	}
	receiptRequest struct {
		QueueURL          string `json:"QueueUrl"`
		ID                string `json:"Id"` // in a batch
		ReceiptHandle     string
		VisibilityTimeout *int
	}
	receiptBatchRequest struct {
		QueueURL string `json:"QueueUrl"`
		Entries  []receiptRequest
	}
	startMoveRequest struct {
		SourceArn, DestinationArn    string
		MaxNumberOfMessagesPerSecond *int
	}
	listMovesRequest struct {
		SourceArn  string
		MaxResults *int
	}
	cancelMoveRequest struct{ TaskHandle string }

	// attributeDocument is a message attribute in both directions.
	attributeDocument struct {
		DataType         string            `json:",omitempty"`
		StringValue      *string           `json:",omitempty"`
		BinaryValue      []byte            `json:",omitempty"`
		StringListValues []json.RawMessage `json:",omitempty"`
		BinaryListValues []json.RawMessage `json:",omitempty"`
	}
)

// The response documents.
type (
	sendResponse struct {
		ID                           string `json:"Id,omitempty"`
		MessageID                    string `json:"MessageId"`
		MD5OfMessageBody             string
		MD5OfMessageAttributes       string `json:",omitempty"`
		MD5OfMessageSystemAttributes string `json:",omitempty"`
		SequenceNumber               string `json:",omitempty"`
	}
	receiveResponse struct {
		Messages []messageDocument `json:",omitempty"`
	}
	messageDocument struct {
		MessageID                      string `json:"MessageId"`
		ReceiptHandle, MD5OfBody, Body string
		Attributes                     map[string]string            `json:",omitempty"`
		MessageAttributes              map[string]attributeDocument `json:",omitempty"`
		MD5OfMessageAttributes         string                       `json:",omitempty"`
	}
	batchResponse struct {
		Successful []any
		Failed     []failedEntry `json:",omitempty"`
	}
	failedEntry struct {
		ID            string `json:"Id"`
		Code, Message string
		SenderFault   bool
	}
	listResponse struct {
		QueueURLs []string `json:"QueueUrls,omitempty"`
		NextToken string   `json:",omitempty"`
	}
	sourcesResponse struct {
		QueueURLs []string `json:"queueUrls"`
		NextToken string   `json:",omitempty"`
	}
	moveResult struct {
		TaskHandle, DestinationArn, FailureReason string `json:",omitempty"`
		Status, SourceArn                         string
		MaxNumberOfMessagesPerSecond              int `json:",omitempty"`
		ApproximateNumberOfMessagesMoved          int
		ApproximateNumberOfMessagesToMove         int
		StartedTimestamp                          int64
	}
)

// members decodes a JSON object into the struct that into points to. Unlike encoding/json alone it minds the case
// of names, as AWS does. Unknown members are ignored.
func members(data []byte, into any) error {
	var document map[string]json.RawMessage
	if err := json.Unmarshal(data, &document); err != nil {
		return err
	}
	if document == nil {
		return errors.New("expected an object, found null")
	}
	value := reflect.ValueOf(into).Elem()
	for i := range value.NumField() {
		field := value.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		raw, ok := document[cmp.Or(name, field.Name)]
		if !ok {
			continue
		}
		if plain, ok := plainString(raw); ok && field.Type.Kind() == reflect.String {
			value.Field(i).SetString(plain)
			continue
		}
		if err := json.Unmarshal(raw, value.Field(i).Addr().Interface()); err != nil {
			return fmt.Errorf("%s: %w", field.Name, err)
		}
	}
	return nil
}

// plainString reads a JSON string that has no escapes without going over it twice more: bodies are long.
func plainString(raw json.RawMessage) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' || bytes.IndexByte(raw, '\\') >= 0 {
		return "", false
	}
	return string(raw[1 : len(raw)-1]), true
}

// UnmarshalJSON minds the case of member names.
func (r *sendRequest) UnmarshalJSON(data []byte) error { return members(data, r) }

// UnmarshalJSON minds the case of member names.
func (r *receiptRequest) UnmarshalJSON(data []byte) error { return members(data, r) }

// UnmarshalJSON minds the case of member names.
func (a *attributeDocument) UnmarshalJSON(data []byte) error { return members(data, a) }

// decode reads a request document. What is not JSON, or not of the right types, is a SerializationException.
func decode(body []byte, into any) *wire.Error {
	if !utf8.Valid(body) {
		return wire.Errorf("SerializationException", "the request document is not valid UTF-8")
	}
	if err := members(body, into); err != nil {
		return wire.Errorf("SerializationException", "cannot read the request document: %s", err)
	}
	if loneSurrogate(body) {
		return wire.Errorf("InvalidMessageContents", "Invalid characters found. Valid unicode characters are %s", allowedCharacters)
	}
	return nil
}

// loneSurrogate finds half a surrogate pair, written as \uD83D, in valid JSON. encoding/json would quietly replace it.
func loneSurrogate(document []byte) bool {
	for {
		i := bytes.IndexByte(document, '\\')
		if i < 0 {
			return false
		}
		first, rest := escaped(document[i:])
		document = rest
		if utf16.IsSurrogate(first) {
			second, after := escaped(document)
			if utf16.DecodeRune(first, second) == utf8.RuneError {
				return true
			}
			document = after
		}
	}
}

// escaped reads one escape sequence; the rune is 0 unless it is of the form \uXXXX.
func escaped(document []byte) (rune, []byte) {
	if len(document) >= 6 && document[0] == '\\' && document[1] == 'u' {
		if n, err := strconv.ParseUint(string(document[2:6]), 16, 16); err == nil {
			return rune(n), document[6:]
		}
	}
	return 0, document[min(2, len(document)):]
}

// outgoing gives the message to send, and the digest of its system attributes.
func (r *sendRequest) outgoing() (o Outgoing, systemMD5 string, err *wire.Error) {
	o = Outgoing{Body: r.MessageBody, GroupID: r.MessageGroupID, DeduplicationID: r.MessageDeduplicationID}
	if r.DelaySeconds != nil {
		delay := time.Duration(*r.DelaySeconds) * time.Second
		if *r.DelaySeconds < 0 || delay > MaxDelay || *r.DelaySeconds > int(MaxDelay/time.Second) {
			return o, "", outOfRange(*r.DelaySeconds, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900.")
		}
		o.Delay = &delay
	}
	if o.MessageAttributes, err = values(r.MessageAttributes); err != nil {
		return o, "", err
	}
	system, err := values(r.MessageSystemAttributes)
	if err != nil {
		return o, "", err
	}
	for name, value := range system {
		if name != "AWSTraceHeader" || value.DataType != "String" || value.StringValue == "" {
			return o, "", invalidParameter("Message system attribute name '%s' is invalid: only AWSTraceHeader of type String, with a value, can be sent.", shorten(name))
		}
		o.TraceHeader = value.StringValue
	}
	return o, md5OfAttributes(system), nil
}

func values(documents map[string]attributeDocument) (map[string]AttributeValue, *wire.Error) {
	if len(documents) == 0 {
		return nil, nil
	}
	found := make(map[string]AttributeValue, len(documents))
	for name, d := range documents {
		if len(d.StringListValues) > 0 || len(d.BinaryListValues) > 0 {
			return nil, simple("UnsupportedOperation", "Message attribute list values in SendMessage operation are not supported.")
		}
		value := AttributeValue{DataType: d.DataType, BinaryValue: d.BinaryValue}
		if d.StringValue != nil {
			value.StringValue = *d.StringValue
		}
		found[name] = value
	}
	return found, nil
}

// sizeBytes is what the entry counts towards the limit of a batch.
func (r *sendRequest) sizeBytes() int {
	size := len(r.MessageBody)
	for name, d := range r.MessageAttributes {
		size += len(name) + len(d.DataType) + len(d.BinaryValue)
		if d.StringValue != nil {
			size += len(*d.StringValue)
		}
	}
	return size
}
