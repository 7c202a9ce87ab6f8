package sqs

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// operations are what the service can do.
var operations = map[string]func(*Service, context.Context, []byte) (any, error){
	"CreateQueue":                  operation((*Service).opCreateQueue),
	"GetQueueUrl":                  operation((*Service).opGetQueueURL),
	"ListQueues":                   operation((*Service).opListQueues),
	"GetQueueAttributes":           operation((*Service).opGetAttributes),
	"SetQueueAttributes":           operation((*Service).opSetAttributes),
	"DeleteQueue":                  operation((*Service).opDeleteQueue),
	"PurgeQueue":                   operation((*Service).opPurge),
	"SendMessage":                  operation((*Service).opSend),
	"SendMessageBatch":             operation((*Service).opSendBatch),
	"ReceiveMessage":               operation((*Service).opReceive),
	"DeleteMessage":                operation((*Service).opDelete),
	"DeleteMessageBatch":           operation((*Service).opDeleteBatch),
	"ChangeMessageVisibility":      operation((*Service).opChangeVisibility),
	"ChangeMessageVisibilityBatch": operation((*Service).opChangeVisibilityBatch),
	"ListDeadLetterSourceQueues":   operation((*Service).opListSources),
	"StartMessageMoveTask":         operation((*Service).opStartMove),
	"ListMessageMoveTasks":         operation((*Service).opListMoves),
	"CancelMessageMoveTask":        operation((*Service).opCancelMove),
}

// operation makes a table entry of a method that takes the decoded request.
func operation[In any](do func(*Service, context.Context, *In) (any, error)) func(*Service, context.Context, []byte) (any, error) {
	return func(s *Service, ctx context.Context, body []byte) (any, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		return do(s, ctx, in)
	}
}

// Do runs one operation on its JSON documents.
func (s *Service) Do(ctx context.Context, op string, body []byte) (wire.Response, error) {
	do, ok := operations[op]
	if !ok {
		return wire.Response{}, wire.UnknownOperation(s.Name(), op)
	}
	out, err := do(s, ctx, body)
	if err != nil || out == nil {
		return wire.Response{}, err
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(out); err != nil {
		return wire.Response{}, err
	}
	return wire.Response{Body: bytes.TrimSuffix(b.Bytes(), []byte("\n"))}, nil
}

// lookup finds the queue by its URL for an action on it. The host does not matter: clients reach the endpoint under many names.
func (s *Service) lookup(ctx context.Context, action, queueURL string) (*Queue, error) {
	if queueURL == "" {
		return nil, missingParameter("QueueUrl")
	}
	u, err := url.Parse(queueURL)
	if err != nil {
		return nil, wire.Errorf("InvalidAddress", "The address %s is not valid for this endpoint.", shorten(queueURL))
	}
	account, name, ok := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if !ok || u.Scheme == "" || u.Host == "" {
		return nil, wire.Errorf("InvalidAddress", "The address %s is not valid for this endpoint: a queue URL looks like %s/%s/NAME.",
			shorten(queueURL), s.opts.BaseURL, s.opts.AccountID)
	}
	if account != s.opts.AccountID {
		return nil, noQueue()
	}
	if refused := wire.Authorize(ctx, action, s.arn(name)); refused != nil {
		return nil, refused
	}
	q, ok := s.Queue(name)
	if !ok {
		return nil, noQueue()
	}
	return q, nil
}

func (s *Service) opCreateQueue(ctx context.Context, in *createQueueRequest) (any, error) {
	if refused := wire.Authorize(ctx, "sqs:CreateQueue", s.arn(in.QueueName)); refused != nil {
		return nil, refused
	}
	if in.QueueName == "" {
		return nil, missingParameter("QueueName")
	}
	if len(in.Tags) > 0 {
		return nil, simple("UnsupportedOperation", "the local endpoint does not implement tags on queues")
	}
	q, err := s.CreateQueue(in.QueueName, in.Attributes)
	if err != nil {
		return nil, err
	}
	return queueRequest{q.url}, nil
}

func (s *Service) opGetQueueURL(ctx context.Context, in *queueURLRequest) (any, error) {
	if refused := wire.Authorize(ctx, "sqs:GetQueueUrl", s.arn(in.QueueName)); refused != nil {
		return nil, refused
	}
	if in.QueueName == "" {
		return nil, missingParameter("QueueName")
	}
	q, ok := s.Queue(in.QueueName)
	if !ok || in.Owner != "" && in.Owner != s.opts.AccountID {
		return nil, noQueue()
	}
	return queueRequest{q.url}, nil
}

func (s *Service) opListQueues(ctx context.Context, in *listRequest) (any, error) {
	if refused := wire.Authorize(ctx, "sqs:ListQueues", "*"); refused != nil {
		return nil, refused
	}
	queues := slices.DeleteFunc(s.Queues(), func(q *Queue) bool { return !strings.HasPrefix(q.name, in.QueueNamePrefix) })
	urls, next, err := page(queues, in)
	return listResponse{urls, next}, err
}

func (s *Service) opListSources(ctx context.Context, in *listRequest) (any, error) {
	q, err := s.lookup(ctx, "sqs:ListDeadLetterSourceQueues", in.QueueURL)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	sources := q.sources()
	s.mu.Unlock()
	urls, next, err := page(sources, in)
	return sourcesResponse{urls, next}, err
}

// page cuts what MaxResults and NextToken ask for out of queues in order of their names. The token is the last name.
func page(queues []*Queue, in *listRequest) (urls []string, next string, err error) {
	const mostResults = 1000
	most := mostResults
	if in.MaxResults != nil {
		if most = *in.MaxResults; most < 1 || most > mostResults {
			return nil, "", outOfRange(most, "MaxResults", "Must be between 1 and 1000, if provided.")
		}
	}
	after, err := base64.StdEncoding.DecodeString(in.NextToken)
	if err != nil || in.NextToken != "" && in.MaxResults == nil {
		return nil, "", invalidParameter("Invalid or expired next token.")
	}
	urls = []string{}
	for i, q := range queues {
		if q.name <= string(after) {
			continue
		}
		if len(urls) == most {
			if in.MaxResults != nil {
				next = base64.StdEncoding.EncodeToString([]byte(queues[i-1].name))
			}
			break
		}
		urls = append(urls, q.url)
	}
	return urls, next, nil
}

func (s *Service) opGetAttributes(ctx context.Context, in *getAttributesRequest) (any, error) {
	q, err := s.lookup(ctx, "sqs:GetQueueAttributes", in.QueueURL)
	if err != nil {
		return nil, err
	}
	attributes, err := q.Attributes(in.AttributeNames...)
	if err != nil || len(attributes) == 0 {
		return nil, err
	}
	return map[string]any{"Attributes": attributes}, nil
}

func (s *Service) opSetAttributes(ctx context.Context, in *setAttributesRequest) (any, error) {
	q, err := s.lookup(ctx, "sqs:SetQueueAttributes", in.QueueURL)
	if err != nil {
		return nil, err
	}
	if len(in.Attributes) == 0 {
		return nil, missingParameter("Attributes")
	}
	return nil, q.SetAttributes(in.Attributes)
}

func (s *Service) opDeleteQueue(ctx context.Context, in *queueRequest) (any, error) {
	q, err := s.lookup(ctx, "sqs:DeleteQueue", in.QueueURL)
	if err != nil {
		return nil, err
	}
	return nil, s.DeleteQueue(q.name)
}

func (s *Service) opPurge(ctx context.Context, in *queueRequest) (any, error) {
	q, err := s.lookup(ctx, "sqs:PurgeQueue", in.QueueURL)
	if err != nil {
		return nil, err
	}
	return nil, q.Purge()
}

func (s *Service) opSend(ctx context.Context, in *sendRequest) (any, error) {
	q, err := s.lookup(ctx, "sqs:SendMessage", in.QueueURL)
	if err != nil {
		return nil, err
	}
	out, refused := q.sendOne(ctx, in)
	if refused != nil {
		return nil, refused
	}
	return out, nil
}

func (q *Queue) sendOne(ctx context.Context, in *sendRequest) (any, *wire.Error) {
	o, systemMD5, err := in.outgoing()
	if err != nil {
		return nil, err
	}
	if o.TraceHeader == "" {
		o.TraceHeader = wire.TraceHeader(ctx)
	}
	m, err := q.send(o)
	if err != nil {
		return nil, err
	}
	return sendResponse{
		ID: in.ID, MessageID: m.MessageID, SequenceNumber: m.Attributes["SequenceNumber"],
		MD5OfMessageBody: m.MD5OfBody, MD5OfMessageAttributes: m.MD5OfMessageAttributes, MD5OfMessageSystemAttributes: systemMD5,
	}, nil
}

func (s *Service) opSendBatch(ctx context.Context, in *sendBatchRequest) (any, error) {
	size := 0
	for i := range in.Entries {
		size += in.Entries[i].sizeBytes()
	}
	q, err := s.lookup(ctx, "sqs:SendMessage", in.QueueURL)
	if err != nil {
		return nil, err
	}
	return batch("SendMessageBatchRequestEntry", in.Entries, func(e *sendRequest) string { return e.ID }, size,
		func(e *sendRequest) (any, *wire.Error) { return q.sendOne(ctx, e) })
}

var batchEntryID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// batch applies the rules that all batches share, then does entry by entry what they ask for.
func batch[E any](entryName string, entries []E, id func(*E) string, sizeBytes int, do func(*E) (any, *wire.Error)) (any, error) {
	switch {
	case len(entries) == 0:
		return nil, simple("EmptyBatchRequest", "There should be at least one %s in the request.", entryName)
	case len(entries) > MaxBatchEntries:
		return nil, simple("TooManyEntriesInBatchRequest", "Maximum number of entries per request are %d. You have sent %d.", MaxBatchEntries, len(entries))
	}
	seen := map[string]bool{}
	for i := range entries {
		switch name := id(&entries[i]); {
		case !batchEntryID.MatchString(name):
			return nil, simple("InvalidBatchEntryId", "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.")
		case seen[name]:
			return nil, simple("BatchEntryIdsNotDistinct", "Id %s repeated.", name)
		default:
			seen[name] = true
		}
	}
	if sizeBytes > MaxMessageBytes {
		return nil, simple("BatchRequestTooLong", "Batch requests cannot be longer than %d bytes. You have sent %d bytes.", MaxMessageBytes, sizeBytes)
	}
	out := batchResponse{Successful: []any{}}
	for i := range entries {
		done, err := do(&entries[i])
		if err != nil {
			code := err.QueryCode
			if code == "" {
				code = err.Code
			}
			out.Failed = append(out.Failed, failedEntry{ID: id(&entries[i]), Code: code, Message: err.Message, SenderFault: true})
			continue
		}
		out.Successful = append(out.Successful, done)
	}
	return out, nil
}

// systemAttributes are the names that a receive can ask for.
var systemAttributes = []string{
	"All", "ApproximateFirstReceiveTimestamp", "ApproximateReceiveCount", "AWSTraceHeader", "DeadLetterQueueSourceArn",
	"MessageDeduplicationId", "MessageGroupId", "SenderId", "SentTimestamp", "SequenceNumber", "SqsManagedSseEnabled",
}

func (s *Service) opReceive(ctx context.Context, in *receiveRequest) (any, error) {
	q, err := s.lookup(ctx, "sqs:ReceiveMessage", in.QueueURL)
	if err != nil {
		return nil, err
	}
	o, err := q.receiveOptions(in)
	if err != nil {
		return nil, err
	}
	got, err := q.Receive(ctx, o)
	if err != nil {
		return nil, err
	}
	system := slices.Concat(in.AttributeNames, in.MessageSystemAttributeNames)
	var out receiveResponse
	for _, m := range got {
		out.Messages = append(out.Messages, m.document(system, in.MessageAttributeNames))
	}
	return out, nil
}

func (q *Queue) receiveOptions(in *receiveRequest) (ReceiveOptions, error) {
	q.service.mu.Lock()
	o := ReceiveOptions{Max: 1, Wait: q.settings.wait}
	q.service.mu.Unlock()
	if n := in.MaxNumberOfMessages; n != nil {
		if o.Max = *n; o.Max < 1 || o.Max > MaxBatchEntries {
			return o, outOfRange(o.Max, "MaxNumberOfMessages", "Must be between 1 and 10, if provided.")
		}
	}
	if n := in.WaitTimeSeconds; n != nil {
		if *n < 0 || *n > int(MaxWait/time.Second) {
			return o, outOfRange(*n, "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided.")
		}
		o.Wait = time.Duration(*n) * time.Second
	}
	if n := in.VisibilityTimeout; n != nil {
		if *n < 0 || *n > int(MaxVisibility/time.Second) {
			return o, outOfRange(*n, "VisibilityTimeout", "Must be between 0 and 43200.")
		}
		visibility := time.Duration(*n) * time.Second
		o.Visibility = &visibility
	}
	for _, name := range slices.Concat(in.AttributeNames, in.MessageSystemAttributeNames) {
		if !slices.Contains(systemAttributes, name) {
			return o, invalidAttributeName(shorten(name))
		}
	}
	if in.AttemptID != "" {
		return o, simple("UnsupportedOperation", "the local endpoint does not implement ReceiveRequestAttemptId")
	}
	return o, nil
}

// document gives the message with those attributes that were asked for. The digest covers the attributes that are in it.
func (m Message) document(system, names []string) messageDocument {
	d := messageDocument{
		MessageID: m.MessageID, ReceiptHandle: m.ReceiptHandle, MD5OfBody: m.MD5OfBody, Body: m.Body,
		Attributes: map[string]string{}, MessageAttributes: map[string]attributeDocument{},
	}
	for name, value := range m.Attributes {
		if slices.Contains(system, "All") || slices.Contains(system, name) {
			d.Attributes[name] = value
		}
	}
	given := map[string]AttributeValue{}
	for name, value := range m.MessageAttributes {
		if !slices.ContainsFunc(names, func(pattern string) bool { return asksFor(pattern, name) }) {
			continue
		}
		given[name] = value
		document := attributeDocument{DataType: value.DataType, BinaryValue: value.BinaryValue}
		if value.BinaryValue == nil {
			document.StringValue = &value.StringValue
		}
		d.MessageAttributes[name] = document
	}
	d.MD5OfMessageAttributes = md5OfAttributes(given)
	return d
}

// asksFor reports whether an element of MessageAttributeNames means the attribute.
func asksFor(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, ".*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == "All" || pattern == name
}

func (s *Service) opDelete(ctx context.Context, in *receiptRequest) (any, error) {
	q, err := s.lookup(ctx, "sqs:DeleteMessage", in.QueueURL)
	if err != nil {
		return nil, err
	}
	_, refused := q.deleteOne(in)
	return nil, asError(refused)
}

func (q *Queue) deleteOne(in *receiptRequest) (any, *wire.Error) {
	if in.ReceiptHandle == "" {
		return nil, missingParameter("ReceiptHandle")
	}
	return map[string]string{"Id": in.ID}, q.delete(in.ReceiptHandle)
}

func (s *Service) opDeleteBatch(ctx context.Context, in *receiptBatchRequest) (any, error) {
	q, err := s.lookup(ctx, "sqs:DeleteMessage", in.QueueURL)
	if err != nil {
		return nil, err
	}
	return batch("DeleteMessageBatchRequestEntry", in.Entries, func(e *receiptRequest) string { return e.ID }, 0, q.deleteOne)
}

func (s *Service) opChangeVisibility(ctx context.Context, in *receiptRequest) (any, error) {
	q, err := s.lookup(ctx, "sqs:ChangeMessageVisibility", in.QueueURL)
	if err != nil {
		return nil, err
	}
	_, refused := q.changeOne(in)
	return nil, asError(refused)
}

func (q *Queue) changeOne(in *receiptRequest) (any, *wire.Error) {
	switch {
	case in.ReceiptHandle == "":
		return nil, missingParameter("ReceiptHandle")
	case in.VisibilityTimeout == nil:
		return nil, missingParameter("VisibilityTimeout")
	case *in.VisibilityTimeout < 0 || *in.VisibilityTimeout > int(MaxVisibility/time.Second):
		return nil, outOfRange(*in.VisibilityTimeout, "VisibilityTimeout", "Must be between 0 and 43200.")
	}
	return map[string]string{"Id": in.ID}, q.changeVisibility(in.ReceiptHandle, time.Duration(*in.VisibilityTimeout)*time.Second)
}

func (s *Service) opChangeVisibilityBatch(ctx context.Context, in *receiptBatchRequest) (any, error) {
	q, err := s.lookup(ctx, "sqs:ChangeMessageVisibility", in.QueueURL)
	if err != nil {
		return nil, err
	}
	return batch("ChangeMessageVisibilityBatchRequestEntry", in.Entries, func(e *receiptRequest) string { return e.ID }, 0, q.changeOne)
}

func (s *Service) opStartMove(ctx context.Context, in *startMoveRequest) (any, error) {
	if refused := wire.Authorize(ctx, "sqs:StartMessageMoveTask", in.SourceArn); refused != nil {
		return nil, refused
	}
	if in.SourceArn == "" {
		return nil, missingParameter("SourceArn")
	}
	task, err := s.startMove(in.SourceArn, in.DestinationArn, in.MaxNumberOfMessagesPerSecond)
	if err != nil {
		return nil, err
	}
	return map[string]string{"TaskHandle": task.handle}, nil
}

func (s *Service) opListMoves(ctx context.Context, in *listMovesRequest) (any, error) {
	if refused := wire.Authorize(ctx, "sqs:ListMessageMoveTasks", in.SourceArn); refused != nil {
		return nil, refused
	}
	if in.SourceArn == "" {
		return nil, missingParameter("SourceArn")
	}
	most := 1
	if in.MaxResults != nil {
		most = *in.MaxResults
	}
	tasks, err := s.moves(in.SourceArn, most)
	if err != nil {
		return nil, err
	}
	results := []moveResult{}
	for _, t := range tasks {
		r := moveResult{
			Status: t.status, SourceArn: t.source.arn, FailureReason: t.failure, MaxNumberOfMessagesPerSecond: t.perSecond,
			ApproximateNumberOfMessagesMoved: t.moved, ApproximateNumberOfMessagesToMove: t.toMove, StartedTimestamp: t.started.UnixMilli(),
		}
		if t.destination != nil {
			r.DestinationArn = t.destination.arn
		}
		if t.status == taskRunning {
			r.TaskHandle = t.handle
		}
		results = append(results, r)
	}
	return map[string]any{"Results": results}, nil
}

func (s *Service) opCancelMove(ctx context.Context, in *cancelMoveRequest) (any, error) {
	if refused := wire.Authorize(ctx, "sqs:CancelMessageMoveTask", "*"); refused != nil {
		return nil, refused
	}
	if in.TaskHandle == "" {
		return nil, missingParameter("TaskHandle")
	}
	moved, err := s.cancelMove(in.TaskHandle)
	if err != nil {
		return nil, err
	}
	return map[string]int{"ApproximateNumberOfMessagesMoved": moved}, nil
}

// asError keeps a nil refusal nil.
func asError(refused *wire.Error) error {
	if refused == nil {
		return nil
	}
	return refused
}
