package awslocal

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// SQS's Query protocol: a form with parameters such as SendMessageBatchRequestEntry.1.Id in, XML out. It is
// translated to and from the JSON documents, so that the service knows one protocol only.

const queryNamespace = "http://queue.amazonaws.com/doc/2012-11-05/"

// How the parameters of the Query protocol are called in the JSON documents.
var (
	queryNumbers = map[string]bool{
		"DelaySeconds": true, "MaxNumberOfMessages": true, "MaxNumberOfMessagesPerSecond": true, "MaxResults": true,
		"VisibilityTimeout": true, "WaitTimeSeconds": true,
	}
	queryLists = map[string]string{
		"AttributeName": "AttributeNames", "MessageAttributeName": "MessageAttributeNames",
		"MessageSystemAttributeName": "MessageSystemAttributeNames", "TagKey": "TagKeys",
		"StringListValue": "StringListValues", "BinaryListValue": "BinaryListValues",
		"SendMessageBatchRequestEntry": "Entries", "DeleteMessageBatchRequestEntry": "Entries",
		"ChangeMessageVisibilityBatchRequestEntry": "Entries",
	}
	queryMaps = map[string]struct{ member, key string }{
		"Attribute": {"Attributes", "Name"}, "MessageAttribute": {"MessageAttributes", "Name"},
		"MessageSystemAttribute": {"MessageSystemAttributes", "Name"}, "Tag": {"tags", "Key"},
	}
)

// What members of the JSON documents are called in XML, where lists and maps have no element of their own.
var (
	xmlElements = map[string]string{
		"Messages": "Message", "QueueUrls": "QueueUrl", "queueUrls": "QueueUrl", "Failed": "BatchResultErrorEntry",
		"Results": "ListMessageMoveTasksResultEntry",
	}
	xmlMaps        = map[string]string{"Attributes": "Attribute", "MessageAttributes": "MessageAttribute"}
	xmlWithoutData = []string{"ChangeMessageVisibility", "DeleteMessage", "DeleteQueue", "PurgeQueue", "SetQueueAttributes"}
)

// serveQuery answers a call in the Query protocol.
func (e *Endpoint) serveQuery(w http.ResponseWriter, r *http.Request, body []byte) {
	s, ok := e.services["AmazonSQS"]
	form, err := url.ParseQuery(string(body))
	if err != nil || !ok {
		writeQueryError(w, wire.Errorf("MalformedQueryString", "cannot read the form, or no service here takes the Query protocol"))
		return
	}
	for name, given := range r.URL.Query() {
		form[name] = append(form[name], given...)
	}
	op := form.Get("Action")
	if op == "" {
		writeQueryError(w, wire.Errorf("MissingAction", "The request must contain the parameter Action."))
		return
	}
	if !form.Has("QueueUrl") && strings.Trim(r.URL.Path, "/") != "" {
		form.Set("QueueUrl", "http://"+r.Host+r.URL.Path)
	}
	document, refused := queryDocument(form)
	if refused == nil {
		document, refused = e.call(r, s, op, document)
	}
	if refused != nil {
		writeQueryError(w, refused)
		return
	}
	answer, err := queryAnswer(op, w.Header().Get("x-amzn-RequestId"), document)
	if err != nil {
		writeQueryError(w, &wire.Error{Code: "InternalFailure", Message: err.Error(), Status: http.StatusInternalServerError})
		return
	}
	writeXML(w, http.StatusOK, answer)
}

// parameter is a node of the tree that the dots in parameter names make.
type parameter struct {
	value string
	under map[string]*parameter
}

// queryDocument translates the form to a request document.
func queryDocument(form url.Values) ([]byte, *wire.Error) {
	const deepest = 8
	root := &parameter{}
	for name, given := range form {
		if !utf8.ValidString(given[0]) {
			return nil, wire.Errorf("InvalidMessageContents", "the parameter %.100q is not valid UTF-8", name)
		}
		at := root
		for _, part := range strings.SplitN(name, ".", deepest) {
			if at.under == nil {
				at.under = map[string]*parameter{}
			}
			if at.under[part] == nil {
				at.under[part] = &parameter{}
			}
			at = at.under[part]
		}
		at.value = given[0]
	}
	members, err := root.members()
	if err != nil {
		return nil, err
	}
	document, marshalErr := json.Marshal(members)
	if marshalErr != nil {
		return nil, wire.Errorf("MalformedQueryString", "%s", marshalErr)
	}
	return document, nil
}

// members gives the JSON members that the parameters under p stand for.
func (p *parameter) members() (map[string]any, *wire.Error) {
	found := map[string]any{}
	for name, child := range p.under {
		var value any = child.value
		var err *wire.Error
		if list, ok := queryLists[name]; ok {
			name = list
			value, err = child.list()
		} else if m, ok := queryMaps[name]; ok {
			name = m.member
			value, err = child.entries(m.key)
		} else if child.under != nil {
			value, err = child.members()
		} else if queryNumbers[name] {
			value, err = wholeNumber(name, child.value)
		}
		if err != nil {
			return nil, err
		}
		found[name] = value
	}
	return found, nil
}

func wholeNumber(name, text string) (int, *wire.Error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		refused := wire.Errorf("InvalidParameterValueException", "Value %.100s for parameter %s is invalid. Reason: Must be a whole number.", text, name)
		refused.QueryCode = "InvalidParameterValue"
		return 0, refused
	}
	return n, nil
}

// numbered gives the parameters Name.1, Name.2 and so on in that order.
func (p *parameter) numbered() []*parameter {
	at := func(name string) int {
		n, _ := strconv.Atoi(name)
		return n
	}
	names := slices.SortedFunc(maps.Keys(p.under), func(a, b string) int { return cmp.Or(cmp.Compare(at(a), at(b)), cmp.Compare(a, b)) })
	found := make([]*parameter, 0, len(names))
	for _, name := range names {
		found = append(found, p.under[name])
	}
	return found
}

func (p *parameter) list() (any, *wire.Error) {
	found := []any{}
	for _, element := range p.numbered() {
		if element.under == nil {
			found = append(found, element.value)
			continue
		}
		members, err := element.members()
		if err != nil {
			return nil, err
		}
		found = append(found, members)
	}
	return found, nil
}

func (p *parameter) entries(key string) (any, *wire.Error) {
	found := map[string]any{}
	for _, entry := range p.numbered() {
		members, err := entry.members()
		if err != nil {
			return nil, err
		}
		name, ok := members[key].(string)
		if !ok {
			return nil, wire.Errorf("MissingParameter", "The request must contain the parameter %s of every attribute.", key)
		}
		if _, twice := found[name]; twice {
			refused := wire.Errorf("InvalidParameterValueException", "The attribute %.100s is given twice.", name)
			refused.QueryCode = "InvalidParameterValue"
			return nil, refused
		}
		found[name] = members["Value"]
	}
	return found, nil
}

// queryAnswer translates a response document to XML.
func queryAnswer(op, requestID string, document []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	var members map[string]any
	if err := decoder.Decode(&members); err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", op, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "<?xml version=\"1.0\"?><%sResponse xmlns=%q>", op, queryNamespace)
	if !slices.Contains(xmlWithoutData, op) {
		fmt.Fprintf(&b, "<%sResult>", op)
		if err := xmlMembers(&b, op, members); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "</%sResult>", op)
	}
	fmt.Fprintf(&b, "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>", requestID, op)
	return b.Bytes(), nil
}

func xmlMembers(b *bytes.Buffer, op string, members map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		var err error
		switch value := members[name].(type) {
		case []any:
			element, ok := xmlElements[name]
			if !ok {
				element = op + "ResultEntry" // Successful
			}
			for _, v := range value {
				err = errors.Join(err, xmlElement(b, op, element, v))
			}
		case map[string]any:
			element, ok := xmlMaps[name]
			if !ok {
				err = xmlElement(b, op, name, value)
				break
			}
			for _, key := range slices.Sorted(maps.Keys(value)) {
				err = errors.Join(err, xmlElement(b, op, element, map[string]any{"Name": key, "Value": value[key]}))
			}
		default:
			err = xmlElement(b, op, name, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func xmlElement(b *bytes.Buffer, op, element string, value any) error {
	fmt.Fprintf(b, "<%s>", element)
	if members, ok := value.(map[string]any); ok {
		if err := xmlMembers(b, op, members); err != nil {
			return err
		}
	} else if err := xml.EscapeText(b, fmt.Append(nil, value)); err != nil {
		return err
	}
	fmt.Fprintf(b, "</%s>", element)
	return nil
}

// writeQueryError sends a refusal in the Query protocol, with its own codes and statuses.
func writeQueryError(w http.ResponseWriter, refused *wire.Error) {
	code, status := queryCode(refused), cmp.Or(refused.Status, http.StatusBadRequest)
	switch refused.Code {
	case "UnknownOperationException":
		code = "InvalidAction"
	case "OverLimit", "PurgeQueueInProgress", "RequestThrottled":
		status = http.StatusForbidden
	}
	var message bytes.Buffer
	_ = xml.EscapeText(&message, []byte(refused.Message)) // a buffer takes everything
	writeXML(w, status, fmt.Appendf(nil,
		"<?xml version=\"1.0\"?><ErrorResponse xmlns=%q><Error><Type>%s</Type><Code>%s</Code><Message>%s</Message><Detail/></Error><RequestId>%s</RequestId></ErrorResponse>",
		queryNamespace, fault(refused), code, message.Bytes(), w.Header().Get("x-amzn-RequestId")))
}

func writeXML(w http.ResponseWriter, status int, document []byte) {
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(document)))
	w.WriteHeader(status)
	_, _ = w.Write(document) // a client that has left is not our trouble
}
