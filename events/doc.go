// Package events is the contract with producers: what may lie on the ingress queue, and which
// CloudEvents it becomes. Producers may import it to check what they are about to send; it needs the standard
// library only, does no input or output and keeps no state, so everything in it is safe for concurrent use
// (an [Event] is a plain value and obeys the rules of one). Package events/producer builds events and splits them into batches for SQS.
//
// # Envelopes
//
// [Decode] tries these rows in order; the first that fits decides. A message that fits a row and
// breaks its rules is invalid. It is never taken for something else further down.
//
//	arrives as                    recognised by                          becomes
//	CloudEvents structured JSON   a member "specversion"                 itself
//	… as a batch                  a JSON array that holds such objects   its events, in order
//	CloudEvents binary mode       message attributes ce-* or ce_*        the attributes, the body as data
//	EventBridge event             detail-type, source and detail         data is detail; see below
//	SNS notification              Type: Notification and TopicArn        what its Message is by this table
//	S3 notification               Records with eventSource aws:s3        an event for each record
//	… the test of one             Event: s3:TestEvent and no Records     nothing: it is dropped and counted
//	any other JSON or text        nothing above                          data is the body
//
// Member names are exact: "ID" is not "id". Names of message attributes are compared as HTTP compares
// headers, without regard to case.
//
// # Structured CloudEvents
//
// Also taken for a structured CloudEvent, and refused unless it is one: whatever says so by a message
// attribute content-type of application/cloudevents+json or application/cloudevents-batch+json; and, without
// ce-* attributes, a body that begins like JSON, mentions "specversion" and is broken, and the empty array.
// specversion is "1.0". The attributes of CloudEvents are strings; extensions are strings, booleans or 32-bit integers
// and are kept as text ("true", "42"); null is absent. A member that is there twice is refused, because two
// readers could take different ones; inside data nothing is looked at. data and data_base64 exclude each other.
//
// An array is a batch as soon as one element is an object with a specversion. It is valid as a whole or not at all:
// one bad event, one other element, a nested batch or more than [MaxBatchEvents] refuse the message, so
// that nothing is routed by halves. An array without any such object is any other JSON.
//
// # Binary mode
//
// Any attribute ce-* or ce_* makes a message binary mode; ce-specversion, ce-id, ce-source and ce-type must then be there, each
// once, of data type String or Number. The datacontenttype is the attribute content-type, else ce-datacontenttype; both, and
// different, is refused. Values are taken as they are: SQS carries unicode, so nothing is percent-decoded.
//
// # EventBridge
//
// id, source and time stay themselves, type is the detail-type, datacontenttype is application/json, and the extensions region, account,
// replayname (replay-name) and resources (the list as compact JSON text; an empty one is absent) keep the rest. A source that is
// no URI-reference, which EventBridge allows, has everything but letters, digits and -._~ percent-encoded. An event without id gets one as below.
//
// # SNS
//
// A topic whose subscription has raw delivery turned on leaves no trace: body and message attributes are the publisher's. Without it,
// SNS wraps the message, and Decode opens the envelope: Message is looked up in the table as if it lay on the queue, with
// MessageAttributes as its message attributes (so binary mode works, and event-id, event-type and content-type count), SNS's
// MessageId as its message id, TopicArn as the queue's ARN and Timestamp as the time it was sent; Subject is the subject of any other
// JSON or text. So an event without an id of its own counts under SNS's id: SNS may put it on the queue twice, and Waybill may
// send it again, and it is still one event. Where MessageId or Timestamp is missing, the queue's own stands in.
//
// Whatever the table knows may be inside: CloudEvents, S3 → SNS → SQS, EventBridge → SNS → SQS, a notification published again; at most
// [MaxDepth] notifications inside one another. [Decoded] says what was found in the innermost one as Inner.
//
// SubscriptionConfirmation and UnsubscribeConfirmation are refused. SNS sends the first when somebody other than the queue's owner subscribes
// the queue: until a person confirms it, nothing arrives from the topic, so it must not vanish; and it holds the token that
// confirms it, so it must not be delivered. It lies in the ingress dead-letter queue with what to do.
// Signatures are not verified: the queue's policy says who may send.
//
// # S3
//
// Each record is an event, mapped as the CloudEvents adapter for S3 does (cloudevents/spec, adapters/aws-s3.md) but for the id:
//
//	attribute          from
//	id                 SHA-256, in hexadecimal, over the bucket, the key, eventName, versionId, and sequencer; where there is
//	                   no sequencer (tags, ACLs, restores): eventTime and x-amz-request-id; each with its length before it
//	source             aws:s3.<awsRegion>.<bucket>
//	type               com.amazonaws.s3.<eventName>, such as com.amazonaws.s3.ObjectCreated:Put
//	subject            the key, URL-encoded as S3 writes it: "happy+face.jpg"
//	time               eventTime
//	datacontenttype    application/json
//	region             awsRegion (an extension)
//	data               the record
//
// The adapter makes the id of the request's id alone, which all objects that one DeleteObjects request removes share: all but one of
// those events would pass for repetitions. S3 may send a notification twice; the id is then the same.
//
// Records are valid as a whole or not at all, as a batch is: a record from elsewhere, an incomplete one or more than [MaxBatchEvents] refuse
// the message. Records without any of aws:s3 are any other JSON, those of stores that imitate S3 among them. S3 by
// way of EventBridge is an EventBridge event.
//
// # Any other JSON or text
//
//	attribute          from, in this order
//	id                 message attribute event-id; the id kept by an earlier hop; the SQS message id
//	source             the ARN of the queue
//	type               message attribute event-type; "waybill.raw"
//	time               when the message was sent
//	datacontenttype    message attribute content-type; application/json if the body is JSON;
//	                   text/plain; charset=utf-8 if it is UTF-8 text; application/octet-stream
//
// Without event-id a message that the producer sends twice is two events, as is one that is moved back
// from a dead-letter queue by SQS itself: both get new SQS message ids.
//
// # Payloads
//
// The producer's bytes are kept: key order, number text (1.0, 9007199254740993), white space, escapes, unicode, members that
// occur twice. The payload of a structured CloudEvent is the JSON text of data from its first to its
// last byte; if datacontenttype is not JSON (*/json, *+json or none) and data is a string, the payload is the
// content of the string, and null is no payload. Otherwise null is the payload null.
//
// # Tenant
//
// Every event has one, as the extension tenant: the tenant pinned to the queue; else the event's extension tenant; else the
// MessageGroupId; else "default". A tenant that is pinned (Input.Tenant) wins over whatever a message says and holds for all that arrives on the queue, in any
// envelope and at any depth: give each producer that is not trusted with the name of others a queue of its own with a tenant. It also
// names the tenant of what cannot name one, such as S3 and EventBridge.
//
// # Reserved names
//
// Message attributes whose names begin with waybill are Waybill's own: what it has to remember of a message that it sends again or dead-letters
// travels in them. A producer's attribute waybill that is no such note is kept like any other; one that is, speaks for that message
// only; one that claims to be of a later version than the release that reads it holds the message up for a day, and then makes it a dead letter.
//
// # Limits
//
// A message has at most [MaxMessageBytes], attributes included, and a batch [MaxBatchEvents]. An event has at most
// [MaxExtensions] with names of at most [MaxExtensionNameBytes], [MaxContextBytes] of context attributes and a tenant of at most [MaxTenantBytes].
// Context attributes hold no control characters. Nesting of JSON is not limited and costs one byte a level.
//
// # Refusals
//
// Whatever is refused gives an [InvalidError] with a stable code, the field, the problem and the fix, and is a
// matter for the producer: trying again cannot help. The samples in events/samples show each case.
package events
